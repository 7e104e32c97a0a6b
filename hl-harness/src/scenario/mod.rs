//! Scenario files: what happens to memory, one step a line, and what is expected of it.
//!
//! A scenario drives a whole machine: processes and their memory, the driver through the bytes of its
//! requests, the software ASIC, and failures on the n-th occasion. It says what must come of each step,
//! and ends with a check that nobody writes down: whatever is still open is closed, the machine must be
//! as it was at first, and no rule may have been broken (no access of the device to a page that is free
//! or that nobody pinned, no register protocol violated).
//!
//! ```
//! use hl_harness::scenario::{Options, Script, run, words::AsicWord};
//!
//! let script: Script = "\
//!     machine frames 4096 mappings 64
//!     open c1
//!     buffer c1 b 8 pages
//!     write b pattern 7
//!     map c1 b -> va                                  # MAP; its result is called va
//!     dma read c1 va 8 pages expect pattern 7
//!     expect pins b 1
//!     mark m
//!     unmap c1 va
//!     expect order since m last clear, first invalidate, last invalidated, first unpin
//!     dma read c1 va 8 -> faults read at va because not-present
//!     unmap c1 va -> fails EINVAL
//! ".parse()?;
//! let passed = run(&script, AsicWord::Gaudi2, Options::default(), &mut ()).expect("it holds");
//! assert_eq!(passed.steps, 11);
//! # Ok::<(), hl_harness::scenario::Invalid>(())
//! ```
//!
//! `hl-harness run FILE...` runs files and folders of them; `hl-harness/scenarios` has the acceptance
//! scenarios and the hazards of the C driver, and its README every step in a table ([`MANUAL`]).
//!
//! # Lines
//!
//! A step is a line; `#` begins a comment; indentation means nothing. Words are letters, digits and
//! `_`; a `-` or `.` between letters belongs to the word (`read-only`, `host.start`), so that a minus
//! between names needs spaces. Numbers are decimal or hexadecimal, of 64 bits, with `_` wherever one
//! likes.
//!
//! # Grammar
//!
//! Whatever stands in quotes is written as it is; `?` is at most once, `*` any number of times, `+` once at
//! least; a name in capitals is one of the words behind it; `--` begins a remark.
//!
//! ```text
//! script   = asics? machine? line*
//! asics    = "asics" ASIC+
//! ASIC     = goya gaudi gaudi2 gaudi2-six gaudi2-five
//! machine  = "machine" ( SIZE number | ( "cache" | "leaf-cache" | "line-cache" ) cache
//!                      | "default-page" | "views" VIEWS | "reuse" REUSE
//!                      | "host" HOST | "range-end" END | "posted-writes" POSTED | "hmmus" number )+
//! SIZE     = frames tables buffers mappings handles users dram-pages packs pools timestamps counters
//! cache    = CACHE | number "sets" number "ways"
//! CACHE    = infinite finite none
//! VIEWS    = single counted
//! REUSE    = immediate scattered
//! HOST     = file memory
//! END      = inclusive exclusive
//! POSTED   = until-flush immediate
//! line     = block | step
//! block    = "repeat" n body | "for" word "in" series body | "if" n COMPARE n body | "on" ASIC+ body
//!          | "parallel" thread* "end" | "interleave" ( "seed" n )? thread* "end"
//! body     = line* "end"
//! thread   = "thread" n ( "as" word )? body
//! series   = n ".." n ( "step" n )? | n ( "," n )*
//!
//! step     = "open" name ( "budget" n )? ( "process" "of" name )? result?
//!          | "close" name result?
//!          | "exit" name
//!          | "buffer" name name n ( "contiguous" n )? "read-only"?
//!          | "munmap" place
//!          | "replace" place
//!          | "protect" place ( "read-only" | "writable" )
//!          | "reclaim"
//!          | "write" place data result?
//!          | "read" place found? result?
//!          | "map" name ( name | n "size" n | "dram" n ) ( "hint" n )? "force"? "prefetch"? result?
//!          | "unmap" name n result?
//!          | "alloc" name n "contiguous"? "shared"? result?
//!          | "free" name n result?
//!          | "ioctl" name "op" n "flags" n "args" n n n ( "count" n )? ( "bytes" n )? result?
//!          | "block" name name n result?
//!          | "destroy" name n result?
//!          | "mmap" name n "as" name n result?
//!          | "attach" name n ( "hint" n )? "force"? result?
//!          | "fork" name "as" name
//!          | "cb" ( "create" name n "mapped"? | ( "destroy" | "uses" | "address" ) name n ) result?
//!          | "ts" ( ( "alloc" | "destroy" ) name n
//!                 | "register" name n "slot" n "count" n "target" n ( "value" n )? ( "now" n )?
//!                 | "reach" name "count" n "value" n ( "now" n )?
//!                 | "reap" name ) result?
//!          | "window" ( WINDOW | name n ) ( "host" n | "device" n n ) "as" name result?
//!          | "unwindow" name result?
//!          | "ring" ( "make" name "in" name "record" n "size" n ( "from" n )?
//!                   | "consume" name "by" name
//!                   | "push" name data ( "count" n )? "wait"?
//!                   | "pop" name ( "count" n )? "wait"? found?
//!                   | "end" name ) result?
//!          | "registers" name n result?
//!          | "export" name n n ( "from" n )? "as" name result?
//!          | "unexport" name
//!          | "report" "faults" result?
//!          | "dma" ( ( "read" who n n found? | "write" who n n data ) ( "hmmu" n )?
//!                  | "copy" who piece ( "," piece )* ( "hmmu" n )? ( "as" name )? ) result?
//!          | "access" who n n "count" n ( "reads" | "writes" )? ( "mark" n )? ( "seed" n )? found?
//!                     ( "hmmu" n )? result?
//!          | "pause" "dma" name "after" "translate"
//!          | "resume" "dma" name result?
//!          | "register" n n
//!          | "fail" ( ( "alloc" | "pin" | "dma-map" | "flush" | "access" ) n
//!                   | ( "invalidate" | "root" ) n ( "timeout" | "slow" n ) ( "times" n )?
//!                   | "stop" name | "nothing" )
//!          | "bar" n
//!          | "lose"
//!          | "reset" "undefined"?
//!          | "notice"
//!          | "recover" result?
//!          | "settle" name? result?
//!          | "snapshot" name
//!          | "mark" name
//!          | "forget" "faults"
//!          | "allow" ( "stray" "accesses" | "protocol" "violations" )
//!          | "let" name "=" ( quantity | n )
//!          | "expect" ( quantity COMPARE? n | n COMPARE n
//!                     | "same" "as" name ( "except" COUNTER ( "," COUNTER )* )?
//!                     | "free" "extents" ( name | "privileged" ) ( "in" range )?
//!                       "=" ( "none" | range ( "," range )* )
//!                     | "order" ( "since" name )? moment ( "," moment )*
//!                     | "fault" fault
//!                     | "event" name TOLD ( "at" n )? )
//! WINDOW   = firmware processor
//! TOLD     = fault aborted lost recovered missed nothing
//!
//! range    = n ".." n
//! place    = name ( "at" n )? ( "size" n )?
//! data     = "pattern" n ( "from" n )? | "byte" n | "word" n | "mark" n "from" n
//! found    = "expect" data ( "or" data )*
//! who      = name | "asid" factor | "privileged" | "bypass"
//! piece    = end end n
//! end      = n | "device" n
//! moment   = ( "first" | "last" ) EVENT
//! result   = "->" ( "ok" ( "or" ERRNO )* | name ( "or" ERRNO )*
//!                 | "fails" ( ERRNO ( "or" ERRNO )* )?
//!                 | "ok" "or" "faults" | "faults" fault | "lost"
//!                 | "left" ( LEFT n )* )
//! LEFT     = mappings handles dram buffers
//! fault    = ( "read" | "write" )? ( "asid" n )? ( "at" n )? ( "in" "piece" n )? ( "because" REASON )? ( "after" n )?
//! REASON   = not-present no-root disabled malformed table-fetch decode refused hole read-only outside
//! quantity = ( "pins" | "dirty" ) name ( "page" factor )?
//!          | ( "charged" | "mappings" | "quarantined" | "handles" | "used" | "extents" | "asid"
//!            | "pending" ) name
//!          | "records" name
//!          | "dram-offset" name n
//!          | "leaf" who n
//!          | "leaves" who n "size" n
//!          | "entry" who n "hop" n
//!          | "bus" who n
//!          | "counter" COUNTER
//!          | "events" EVENT ( "since" name )?
//!          | "register" n
//!          | "faults"
//!          | "bar"
//!
//! n        = term ( ( "+" | "-" ) term )*            -- leaving 64 bits is an error
//! term     = factor ( ( "*" | "/" | "%" ) factor )*
//! factor   = number UNIT? | name | CONSTANT | "(" n ")" | "random" "(" n "," n ")"
//! name     = word ( "[" n "]" )? ( "of" name )?      -- `of` with what a child has from its parent
//! UNIT     = KiB MiB GiB pages
//! CONSTANT = page max host.start host.end large.start large.end dram.start dram.end dram.page dram.pages
//!            host.offset registers.user
//! COMPARE  = "=" "!=" "<" "<=" ">" ">="
//! ```
//!
//! The README lists what EVENT, COUNTER and REASON stand for; ERRNO is the name of an error number.
//!
//! # Names
//!
//! Contexts, processes that forked off, buffers, blocks, views, exports, copies, snapshots, marks and
//! variables share one set of names; a name is given to one kind of thing. With an index it names one
//! of many: `va[i]`. Where a number is wanted, a buffer or a view is its user address and a block its
//! device address. What a thread names is its own. When a process forks, its child has everything of it
//! that has a name: `b of child` is what its parent calls `b`.
//!
//! # Errors
//!
//! Syntax and names are checked before anything runs: [`Invalid`], with line, column and what might
//! have been meant. An expectation that does not hold is a [`Failure`], with what was expected, what
//! was found and the variables of the loops around. What cannot be carried out, such as a memory larger
//! than the host's or a variable without a value, is [`Invalid`] too, when it is reached.
//!
//! # Chance
//!
//! The order of host pages, of the turns of an `interleave` and of the places of an `access`, and `random`
//! follow from the seed alone; the threads of a `parallel` block run as the machine lets them. A failure
//! in an `interleave` says by which seed its threads took turns: with that behind the word, and the
//! `--seed` of the run, they take the same ones again. `hl-harness random` makes whole scenarios by chance
//! ([`random`]); of one that fails, the fewest choices that fail in the same way are printed as a file. A
//! scenario that somebody wrote is shortened by [`shrink()`], which knows only that it fails.
//!
//! # Turns
//!
//! Where threads take turns ([`Schedule`](crate::schedule::Schedule)), nothing else happens during one.
//! What takes many accesses takes as many turns: each access of an `access` is one, each page of a `dma`
//! and each record of a `ring`. Between a translation and its use there is no turn, since a device holds
//! back what would come there; a copy for which `pause` is said stops there all the same. One that waits
//! for the other end of a ring is passed over until another thread has done something, and where that is
//! none, the scenario fails. Neither kind of block stands in a thread.

pub mod ast;
pub mod command;
mod counters;
mod data;
#[cfg(test)]
mod grammar;
mod lex;
mod manual;
mod names;
mod parse;
mod print;
pub mod random;
pub mod random_command;
mod run;
mod shrink;
mod text;
pub mod words;

pub use ast::Script;
pub use manual::{MANUAL, StepManual};
pub use run::{Executed, Failure, Options, Passed, Stop, Watch, run};
pub use shrink::{shrink, shrink_by};
pub use text::{Invalid, Span};
