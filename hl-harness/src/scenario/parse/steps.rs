//! The steps that are one line.

use super::super::ast::{
    CommandBufferWords, ExprKind, Memory, Name, RingWords, Step, TimestampWords, WindowMemoryWords,
    WindowPlace,
};
use super::super::manual::MANUAL;
use super::super::names::{Kind, Names};
use super::super::text::{Invalid, Span};
use super::super::words::{Allowed, Choice, WindowWord};
use super::cursor::Cursor;

impl Cursor {
    /// The step whose first word, `word` at `at`, has been read.
    pub(super) fn step(
        &mut self,
        word: &str,
        at: Span,
        names: &mut Names,
    ) -> Result<Step, Invalid> {
        match word {
            "open" => self.open(names),
            "close" => Ok(Step::Close {
                context: self.context(names)?,
                outcome: self.outcome(names)?,
            }),
            "exit" => Ok(Step::Exit {
                process: self.used(names, &[Kind::Context, Kind::Process])?,
            }),
            "buffer" => Ok(Step::Buffer {
                context: self.context(names)?,
                name: self.define(names, Kind::Buffer)?,
                size: self.expr(names)?,
                contiguous: self.option("contiguous", names)?,
                read_only: self.take("read-only"),
            }),
            "munmap" => Ok(Step::Munmap {
                place: self.place_of(names)?,
            }),
            "replace" => Ok(Step::Replace {
                place: self.place_in(names, &[Kind::Buffer])?,
            }),
            "protect" => Ok(Step::Protect {
                place: self.place_in(names, &[Kind::Buffer])?,
                read_only: match (self.take("read-only"), self.take("writable")) {
                    (true, false) => true,
                    (false, true) => false,
                    _ => return Err(self.expected("`read-only` or `writable`")),
                },
            }),
            "reclaim" => Ok(Step::Reclaim),
            "write" => Ok(Step::Write {
                place: self.place_of(names)?,
                data: self.data(names)?,
                outcome: self.outcome(names)?,
            }),
            "read" => Ok(Step::Read {
                place: self.place_of(names)?,
                data: self.expected_data(names)?,
                outcome: self.outcome(names)?,
            }),
            "map" => self.map(names),
            "unmap" => Ok(Step::Unmap {
                context: self.context(names)?,
                at: self.expr(names)?,
                outcome: self.outcome(names)?,
            }),
            "alloc" => Ok(Step::Alloc {
                context: self.context(names)?,
                size: self.expr(names)?,
                contiguous: self.take("contiguous"),
                shared: self.take("shared"),
                outcome: self.outcome(names)?,
            }),
            "free" => Ok(Step::Free {
                context: self.context(names)?,
                handle: self.expr(names)?,
                outcome: self.outcome(names)?,
            }),
            "ioctl" => self.ioctl(names),
            "block" => Ok(Step::Block {
                context: self.context(names)?,
                name: self.define(names, Kind::Block)?,
                size: self.expr(names)?,
                outcome: self.outcome(names)?,
            }),
            "destroy" => Ok(Step::Destroy {
                context: self.context(names)?,
                handle: self.expr(names)?,
                outcome: self.outcome(names)?,
            }),
            "mmap" => self.mmap(names),
            "attach" => Ok(Step::Attach {
                context: self.context(names)?,
                handle: self.expr(names)?,
                hint: self.option("hint", names)?,
                force: self.take("force"),
                outcome: self.outcome(names)?,
            }),
            "fork" => {
                let process = self.used(names, &[Kind::Context, Kind::Process])?;
                self.keyword("as")?;
                let child = self.define(names, Kind::Process)?;
                Ok(Step::Fork { process, child })
            }
            "cb" => self.command_buffer(names),
            "ts" => self.timestamps(names),
            "ring" => self.ring(names),
            "window" => self.window(names),
            "unwindow" => Ok(Step::Unwindow {
                name: self.used(names, &[Kind::Window])?,
                outcome: self.outcome(names)?,
            }),
            "registers" => Ok(Step::Registers {
                context: self.context(names)?,
                address: self.expr(names)?,
                outcome: self.outcome(names)?,
            }),
            "export" => {
                let context = self.context(names)?;
                let (at, size) = (self.expr(names)?, self.expr(names)?);
                let from = self.option("from", names)?;
                self.keyword("as")?;
                Ok(Step::Export {
                    context,
                    at,
                    size,
                    from,
                    name: self.define(names, Kind::Export)?,
                    outcome: self.outcome(names)?,
                })
            }
            "unexport" => Ok(Step::Unexport {
                name: self.used(names, &[Kind::Export])?,
            }),
            "report" => {
                self.keyword("faults")?;
                Ok(Step::Report {
                    outcome: self.outcome(names)?,
                })
            }
            "dma" => self.dma(names),
            "access" => self.access(names),
            "pause" => {
                self.keyword("dma")?;
                let dma = self.define(names, Kind::Dma)?;
                self.keyword("after")?;
                self.keyword("translate")?;
                Ok(Step::Pause { dma })
            }
            "resume" => {
                self.keyword("dma")?;
                Ok(Step::Resume {
                    dma: self.used(names, &[Kind::Dma])?,
                    outcome: self.outcome(names)?,
                })
            }
            "register" => Ok(Step::Register {
                offset: self.expr(names)?,
                value: self.expr(names)?,
            }),
            "bar" => Ok(Step::Bar {
                offset: self.expr(names)?,
            }),
            "fail" => self.fail(names),
            "lose" => Ok(Step::Lose),
            "reset" => Ok(Step::Reset {
                undefined: self.take("undefined"),
            }),
            "notice" => Ok(Step::Notice),
            "recover" => Ok(Step::Recover {
                outcome: self.outcome(names)?,
            }),
            "settle" => Ok(Step::Settle {
                context: match self.peek_word() {
                    Some(_) => Some(self.context(names)?),
                    None => None,
                },
                outcome: self.outcome(names)?,
            }),
            "snapshot" => Ok(Step::Snapshot {
                name: self.define(names, Kind::Snapshot)?,
            }),
            "mark" => Ok(Step::Mark {
                name: self.define(names, Kind::Mark)?,
            }),
            "forget" => self.keyword("faults").map(|()| Step::ForgetFaults),
            "allow" => {
                let allowed = self.choice::<Allowed>("what may happen")?;
                self.keyword(allowed.what())?;
                Ok(Step::Allow(allowed))
            }
            "expect" => self.expect(names),
            "let" => self.assign(names),
            _ => Err(unknown(word, at)),
        }
    }

    fn open(&mut self, names: &mut Names) -> Result<Step, Invalid> {
        let context = self.indexed("a name for the context", names)?;
        let budget = self.option("budget", names)?;
        let process = match self.take("process") {
            true => {
                self.keyword("of")?;
                Some(self.used(names, &[Kind::Context, Kind::Process, Kind::Buffer])?)
            }
            false => None,
        };
        names.define(&context, Kind::Context)?;
        Ok(Step::Open {
            context,
            budget,
            process,
            outcome: self.outcome(names)?,
        })
    }

    fn map(&mut self, names: &mut Names) -> Result<Step, Invalid> {
        let context = self.context(names)?;
        let memory = if self.take("dram") {
            Memory::Dram(self.expr(names)?)
        } else {
            let start = self.expr(names)?;
            match (self.option("size", names)?, &start.kind) {
                (Some(size), _) => Memory::Range(start, size),
                (None, ExprKind::Name(name)) if names.check(name, &[Kind::Buffer]).is_ok() => {
                    Memory::Buffer(Name::clone(name))
                }
                (None, _) => {
                    return Err(self.expected("`size BYTES`, since this is not a whole buffer"));
                }
            }
        };
        Ok(Step::Map {
            context,
            memory,
            hint: self.option("hint", names)?,
            force: self.take("force"),
            prefetch: self.take("prefetch"),
            outcome: self.outcome(names)?,
        })
    }

    /// The word that says what is to be done, which is one of `known`.
    fn request(&mut self, what: &str, known: &[&str]) -> Result<String, Invalid> {
        let (word, at) = self.word("what is to be done")?;
        if known.contains(&word.as_str()) {
            return Ok(word);
        }
        let invalid = Invalid::new(at, format_args!("there is no `{what} {word}`"));
        Err(invalid.suggest(&word, known.iter().copied()))
    }

    fn command_buffer(&mut self, names: &mut Names) -> Result<Step, Invalid> {
        let word = self.request("cb", &["create", "destroy", "uses", "address"])?;
        let context = self.context(names)?;
        let about = self.expr(names)?;
        let request = match word.as_str() {
            "create" => CommandBufferWords::Create(about, self.take("mapped")),
            "destroy" => CommandBufferWords::Destroy(about),
            "uses" => CommandBufferWords::Uses(about),
            _ => CommandBufferWords::Address(about),
        };
        Ok(Step::CommandBuffer {
            context,
            request,
            outcome: self.outcome(names)?,
        })
    }

    fn timestamps(&mut self, names: &mut Names) -> Result<Step, Invalid> {
        let word = self.request("ts", &["alloc", "destroy", "register", "reach", "reap"])?;
        let context = self.context(names)?;
        let behind = |line: &mut Self, word: &str| {
            line.keyword(word)?;
            line.expr(names)
        };
        let request = match word.as_str() {
            "alloc" => TimestampWords::Alloc(self.expr(names)?),
            "destroy" => TimestampWords::Destroy(self.expr(names)?),
            "register" => TimestampWords::Register {
                handle: self.expr(names)?,
                slot: behind(self, "slot")?,
                counter: behind(self, "count")?,
                target: behind(self, "target")?,
                value: self.option("value", names)?,
                now: self.option("now", names)?,
            },
            "reap" => TimestampWords::Reap,
            _ => TimestampWords::Reach {
                counter: behind(self, "count")?,
                value: behind(self, "value")?,
                now: self.option("now", names)?,
            },
        };
        Ok(Step::Timestamps {
            context,
            request,
            outcome: self.outcome(names)?,
        })
    }

    fn window(&mut self, names: &mut Names) -> Result<Step, Invalid> {
        let place = match self.peek_word().and_then(WindowWord::of) {
            Some(window) => {
                self.skip();
                WindowPlace::Privileged(window)
            }
            None => {
                let context = self.context(names)?;
                WindowPlace::User(context, self.expr(names)?)
            }
        };
        let memory = if self.take("host") {
            WindowMemoryWords::Host(self.expr(names)?)
        } else {
            self.keyword("device")?;
            WindowMemoryWords::Device(self.expr(names)?, self.expr(names)?)
        };
        self.keyword("as")?;
        Ok(Step::Window {
            place,
            memory,
            name: self.define(names, Kind::Window)?,
            outcome: self.outcome(names)?,
        })
    }

    fn ring(&mut self, names: &mut Names) -> Result<Step, Invalid> {
        let word = self.request("ring", &["make", "consume", "push", "pop", "end"])?;
        let ring = match word.as_str() {
            "make" => self.define(names, Kind::Ring)?,
            _ => self.used(names, &[Kind::Ring])?,
        };
        let request = match word.as_str() {
            "make" => {
                self.keyword("in")?;
                let block = self.used(names, &[Kind::Block])?;
                self.keyword("record")?;
                let record = self.expr(names)?;
                self.keyword("size")?;
                RingWords::Make {
                    block,
                    record,
                    size: self.expr(names)?,
                    start: self.option("from", names)?,
                }
            }
            "consume" => {
                self.keyword("by")?;
                let view = self.used(names, &[Kind::View])?;
                RingWords::Consume { view }
            }
            "push" => RingWords::Push {
                data: self.data(names)?,
                count: self.option("count", names)?,
                wait: self.take("wait"),
            },
            "pop" => RingWords::Pop {
                count: self.option("count", names)?,
                wait: self.take("wait"),
                data: self.expected_data(names)?,
            },
            _ => RingWords::End,
        };
        Ok(Step::Ring {
            ring,
            request,
            outcome: self.outcome(names)?,
        })
    }

    fn ioctl(&mut self, names: &mut Names) -> Result<Step, Invalid> {
        let context = self.context(names)?;
        self.keyword("op")?;
        let op = self.expr(names)?;
        self.keyword("flags")?;
        let flags = self.expr(names)?;
        self.keyword("args")?;
        let arguments = Box::new([self.expr(names)?, self.expr(names)?, self.expr(names)?]);
        Ok(Step::Ioctl {
            context,
            op,
            flags,
            arguments,
            count: self.option("count", names)?,
            bytes: self.option("bytes", names)?,
            outcome: self.outcome(names)?,
        })
    }

    fn mmap(&mut self, names: &mut Names) -> Result<Step, Invalid> {
        let context = self.context(names)?;
        let handle = self.expr(names)?;
        self.keyword("as")?;
        Ok(Step::Mmap {
            context,
            handle,
            view: self.define(names, Kind::View)?,
            size: self.expr(names)?,
            outcome: self.outcome(names)?,
        })
    }
}

/// There is no such step.
fn unknown(word: &str, at: Span) -> Invalid {
    Invalid::new(at, format_args!("there is no step `{word}`"))
        .suggest(word, MANUAL.iter().map(|step| step.word))
}
