//! Every step, in one table: what the parser names in its errors, and what the README lists.

/// How a step is written and what it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepManual {
    /// Its first word.
    pub word: &'static str,
    /// How it is written.
    pub syntax: &'static str,
    /// What it does.
    pub says: &'static str,
}

const fn step(word: &'static str, syntax: &'static str, says: &'static str) -> StepManual {
    StepManual { word, syntax, says }
}

/// Every step there is, by subject.
pub const MANUAL: &[StepManual] = &[
    step(
        "asics",
        "asics ASIC...",
        "first line: the ASICs the file is for; all where it is missing; `gaudi2` is both `gaudi2-six` and `gaudi2-five`, which differ in their memory",
    ),
    step(
        "machine",
        "machine [frames N] [tables N] [buffers N] [mappings N] [handles N] [users N] [dram-pages N] [packs N] [pools N] [timestamps N] [counters N] [cache|leaf-cache|line-cache infinite|finite|none|SETS sets WAYS ways] [default-page] [views single|counted] [reuse immediate|scattered] [host file|memory] [range-end exclusive|inclusive] [posted-writes until-flush|immediate] [hmmus MASK]",
        "before the first step: how large the machine is; `cache`: what the MMUs remember of translations (leaf) and of page tables (line); `default-page`: on Goya, what a user has not mapped leads to a page of 0x99; `host`: where the content of host pages is, in a file that processes map or in memory of the program, without a system call; `posted-writes`: when the device sees what the host stores in its memory; of Gaudi2, `range-end`: whether an invalidation up to a page drops that page too, and `hmmus`: which of its 16 HMMUs are there, one bit each, while the others are fused off",
    ),
    step(
        "open",
        "open CONTEXT [budget PAGES] [process of CONTEXT|PROCESS|BUFFER] [-> RESULT]",
        "a process opens the device: a new process, one that forked off, or that of another context or of a buffer",
    ),
    step(
        "close",
        "close CONTEXT [-> left [mappings N] [handles N] [dram N] [buffers N] | -> fails]",
        "closes it, whatever it left behind; a close that fails keeps the context",
    ),
    step(
        "exit",
        "exit CONTEXT|PROCESS",
        "all memory of the process goes, and its views with it, as when it ends",
    ),
    step(
        "buffer",
        "buffer CONTEXT NAME BYTES [contiguous ALIGNMENT] [read-only]",
        "zeroed memory of the process, in whole pages; scattered, unless contiguous",
    ),
    step(
        "munmap",
        "munmap BUFFER|VIEW [at OFFSET] [size BYTES]",
        "the process gives the memory back, or a part of it",
    ),
    step(
        "replace",
        "replace BUFFER [at OFFSET] [size BYTES]",
        "fresh pages appear at the addresses of the buffer or of a part of it",
    ),
    step(
        "protect",
        "protect BUFFER [at OFFSET] [size BYTES] read-only|writable",
        "changes what the process may do",
    ),
    step(
        "reclaim",
        "reclaim",
        "the host moves every page that is not pinned",
    ),
    step(
        "write",
        "write BUFFER|VIEW [at OFFSET] [size BYTES] DATA [-> RESULT]",
        "the process writes",
    ),
    step(
        "read",
        "read BUFFER|VIEW [at OFFSET] [size BYTES] [expect DATA [or DATA]...] [-> RESULT]",
        "the process reads, and finds the data; with `or`, each byte as in one of these",
    ),
    step(
        "map",
        "map CONTEXT BUFFER | ADDRESS size BYTES | dram HANDLE [hint ADDRESS] [force] [prefetch] [-> RESULT]",
        "MAP: memory of the process, or device memory",
    ),
    step(
        "unmap",
        "unmap CONTEXT ADDRESS [-> RESULT]",
        "UNMAP: what MAP returned",
    ),
    step(
        "alloc",
        "alloc CONTEXT BYTES [contiguous] [shared] [-> RESULT]",
        "ALLOC: device memory; the result is its handle",
    ),
    step(
        "free",
        "free CONTEXT HANDLE [-> RESULT]",
        "FREE: device memory",
    ),
    step(
        "ioctl",
        "ioctl CONTEXT op N flags N args N N N [count N] [bytes N] [-> RESULT]",
        "any request, in bare numbers; count: its number of elements; bytes: pass in only so many",
    ),
    step(
        "block",
        "block CONTEXT NAME BYTES [-> RESULT]",
        "the driver makes a block in the privileged space; the result is its handle, the name its device address",
    ),
    step(
        "destroy",
        "destroy CONTEXT HANDLE [-> RESULT]",
        "gives up a block's handle",
    ),
    step(
        "mmap",
        "mmap CONTEXT HANDLE as VIEW BYTES [-> RESULT]",
        "shows a block to the process",
    ),
    step(
        "attach",
        "attach CONTEXT HANDLE [hint ADDRESS] [force] [-> RESULT]",
        "the driver maps a block in the user's address space as well",
    ),
    step(
        "fork",
        "fork CONTEXT|PROCESS as PROCESS",
        "the process forks; the child has all its buffers and views, which are called `BUFFER of PROCESS` and `VIEW of PROCESS`: what is pinned stays with the parent, and the child has a copy of it",
    ),
    step(
        "cb",
        "cb create CONTEXT BYTES [mapped] | cb destroy|uses|address CONTEXT HANDLE   [-> RESULT]",
        "the requests about command buffers; `mapped`: for the user's engines",
    ),
    step(
        "ts",
        "ts alloc CONTEXT COUNT | ts destroy CONTEXT HANDLE | ts register CONTEXT HANDLE slot N count COUNTER target N [value N] [now TIME] | ts reach CONTEXT count COUNTER value N [now TIME] | ts reap CONTEXT   [-> RESULT]",
        "TS_ALLOC; and what the driver does with timestamps: register gives 1 where the target is reached already, reach how many were; reap gives up pools that only waited for that",
    ),
    step(
        "window",
        "window firmware|processor | CONTEXT ADDRESS   host BYTES | device ADDRESS BYTES   as WINDOW [-> RESULT]",
        "the driver maps its own memory, or that of the device, in a fixed window: of the privileged space, or of a user's, where it stays until the file is closed",
    ),
    step(
        "unwindow",
        "unwindow WINDOW [-> RESULT]",
        "it unmaps a window of the privileged space",
    ),
    step(
        "ring",
        "ring make RING in BLOCK record BYTES size N [from INDEX] | ring consume RING by VIEW | ring push RING DATA [count N] [wait] | ring pop RING [count N] [wait] [expect DATA [or DATA]...] | ring end RING   [-> RESULT]",
        "records in a block: the driver makes the ring, the device pushes, the process pops by its view; EBUSY where it is full or empty, unless it waits for the other end, EIO where the other end's index cannot be right, EINVAL where the header cannot",
    ),
    step(
        "registers",
        "registers CONTEXT ADDRESS [-> RESULT]",
        "MAP_BLOCK: a handle for registers; the address is `registers.user`",
    ),
    step(
        "export",
        "export CONTEXT ADDRESS BYTES [from OFFSET] as EXPORT [-> RESULT]",
        "EXPORT: device memory that MAP returned the address of, for a peer",
    ),
    step("unexport", "unexport EXPORT", "the peer is done with it"),
    step(
        "report",
        "report faults [-> RESULT]",
        "the driver takes the faults that the MMUs captured and tells the users; the result is how many",
    ),
    step(
        "dma",
        "dma read WHO ADDRESS BYTES [expect DATA [or DATA]...] | dma write WHO ADDRESS BYTES DATA | dma copy WHO END END BYTES[, END END BYTES]...   [hmmu N] [as DMA] [-> RESULT]",
        "the device accesses memory; END is an ADDRESS or `device OFFSET`; a copy of several pieces is one DMA by a scatter list",
    ),
    step(
        "access",
        "access WHO ADDRESS BYTES count N [reads|writes] [mark N] [seed N] [expect DATA [or DATA]...] [hmmu N] [-> RESULT]",
        "the device accesses a window of addresses as a processor does: N times, a few bytes at a random place, reads and writes mixed, up to the first access that is refused; what it writes is `mark N from ADDRESS` (0 where no mark is named); with `expect`, a read finds what the step itself wrote there, and the data everywhere else, so that nobody else may write there meanwhile",
    ),
    step(
        "pause",
        "pause dma DMA after translate",
        "the next copy of that name stops once its addresses are translated; an `unmap` of what it reaches succeeds meanwhile, and when it goes on, its access is stray, which fails the scenario there: see `allow stray accesses` and `stray.hl`",
    ),
    step(
        "resume",
        "resume dma DMA [-> RESULT]",
        "it moves its bytes, to where the translation led then",
    ),
    step(
        "register",
        "register OFFSET VALUE",
        "writes a register of the device",
    ),
    step(
        "fail",
        "fail alloc|pin|dma-map|flush|access NTH | fail invalidate|root NTH timeout|slow LOOKS [times N] | fail stop BLOCK|CONTEXT | fail nothing",
        "makes the NTH next occasion fail, 1 being the next; `flush` is a read of device memory that is answered by all ones; `access` is any access of the host to the device, be it to a register or to its memory, and the device is lost before it; with `stop`, the engines that work on a block, or for a user, do not stop when they are told to, until nothing fails any more",
    ),
    step(
        "bar",
        "bar OFFSET",
        "somebody else moves the window by which the host reaches device memory, to where the offset lies in it; the quantity `bar` is where it begins",
    ),
    step("lose", "lose", "the device falls off the bus"),
    step(
        "reset",
        "reset [undefined]",
        "resets the device; its memory is kept, or undefined",
    ),
    step(
        "notice",
        "notice",
        "the driver notes that the device is lost: from now on, until it is back, what needs it is refused with EBUSY",
    ),
    step(
        "recover",
        "recover [-> RESULT]",
        "the driver brings the device back after a reset",
    ),
    step(
        "settle",
        "settle [CONTEXT] [-> RESULT]",
        "tries again what is in quarantine, of a context or of the device",
    ),
    step(
        "expect",
        "expect QUANTITY [COMPARISON] N | expect N COMPARISON N | expect same as SNAPSHOT [except COUNTER, ...] | expect free extents CONTEXT|privileged [in N..N] = none|N..N, ... | expect order [since MARK] first|last EVENT, ... | expect fault FAULT | expect event CONTEXT fault|aborted|lost|recovered|missed|nothing [at ADDRESS]",
        "fails the scenario where it is not so; `free extents`: which device addresses are free, exactly, or as far as they lie `in` a range",
    ),
    step(
        "snapshot",
        "snapshot NAME",
        "remembers everything countable, and the bytes of all page tables",
    ),
    step(
        "mark",
        "mark NAME",
        "remembers this moment of the event log",
    ),
    step(
        "forget",
        "forget faults",
        "faults so far are nobody's concern",
    ),
    step(
        "allow",
        "allow stray accesses | allow protocol violations",
        "the device is known to touch pages that it should not; registers are known to be written out of turn; otherwise that fails the scenario at its end, and the step is named",
    ),
    step("let", "let NAME = N | let NAME = QUANTITY", "a variable"),
    step(
        "repeat",
        "repeat N ... end",
        "the steps up to `end`, N times",
    ),
    step(
        "for",
        "for NAME in N..N [step N] ... end | for NAME in N, N, ... ... end",
        "the steps up to `end`, for each number",
    ),
    step(
        "if",
        "if N COMPARISON N ... end",
        "the steps up to `end`, where it is so",
    ),
    step(
        "on",
        "on ASIC... ... end",
        "the steps up to `end`, on these ASICs only",
    ),
    step(
        "parallel",
        "parallel / thread N [as NAME] ... end / end",
        "threads that run at the same time, until the last has ended; N threads carry out the steps of each `thread`, and NAME tells them apart, from 0 on",
    ),
    step(
        "interleave",
        "interleave [seed N] / thread N [as NAME] ... end / end",
        "threads that take turns in an order that follows from the seed: a turn is a step, or an access of `access`, a page of `dma`, a record of `ring`; with `wait`, turns pass until the other end has done something, and where all threads wait, the scenario fails",
    ),
];

/// The page of a step.
pub(crate) fn page(word: &str) -> Option<&'static StepManual> {
    MANUAL.iter().find(|step| step.word == word)
}
