//! Steps of the driver: requests of processes, and what it does by itself.

use std::sync::Arc;

use hl_mem::Wanted;
use hl_mem::budget::Budget;
use hl_mem::handle::RawHandle;
use hl_mem::uapi::{
    self, Errno, FLAG_CONTIGUOUS, FLAG_FORCE_HINT, FLAG_PREFETCH, FLAG_SHARED, FLAG_USERPTR,
    MemoryInput, OP_ALLOC, OP_FREE, OP_MAP, OP_UNMAP,
};

use mmu_core::DeviceAddr;

use super::super::ast::{Expr, Memory, Name, Outcome, Step};
use super::super::text::{Invalid, Span};
use super::answer::Answer;
use super::env::{File, Viewed, key_text};
use super::stop::Stop;
use super::{Runner, Words};
use crate::machine::Model;

impl<A: Model> Runner<'_, '_, '_, '_, A> {
    pub(super) fn driver_step(&mut self, span: Span, step: &Step) -> Words {
        match step {
            Step::Open {
                context,
                budget,
                process,
                outcome,
            } => self.open(span, context, budget.as_ref(), process.as_ref(), outcome),
            Step::Close { context, outcome } => self.close(span, context, outcome),
            Step::Map {
                context,
                memory,
                hint,
                force,
                prefetch,
                outcome,
            } => {
                let hint = self.eval_option(hint.as_ref())?.unwrap_or(0);
                let forced = (if *force { FLAG_FORCE_HINT } else { 0 })
                    | (if *prefetch { FLAG_PREFETCH } else { 0 });
                let (arguments, flags) = match memory {
                    Memory::Buffer(name) => {
                        let buffer = self.buffer(name)?;
                        ([buffer.start.get(), hint, buffer.bytes], FLAG_USERPTR)
                    }
                    Memory::Range(start, size) => {
                        ([self.eval(start)?, hint, self.eval(size)?], FLAG_USERPTR)
                    }
                    Memory::Dram(handle) => ([hint, self.eval(handle)?, 0], 0),
                };
                self.request(span, context, (OP_MAP, flags | forced, arguments), outcome)
            }
            Step::Unmap {
                context,
                at,
                outcome,
            } => {
                let arguments = [self.eval(at)?, 0, 0];
                self.request(span, context, (OP_UNMAP, 0, arguments), outcome)
            }
            Step::Alloc {
                context,
                size,
                contiguous,
                shared,
                outcome,
            } => {
                let arguments = [self.eval(size)?, 0, 0];
                let flags = (if *contiguous { FLAG_CONTIGUOUS } else { 0 })
                    | (if *shared { FLAG_SHARED } else { 0 });
                self.request(span, context, (OP_ALLOC, flags, arguments), outcome)
            }
            Step::Free {
                context,
                handle,
                outcome,
            } => {
                let arguments = [self.eval(handle)?, 0, 0];
                self.request(span, context, (OP_FREE, 0, arguments), outcome)
            }
            Step::Ioctl {
                context,
                op,
                flags,
                arguments,
                count,
                bytes,
                outcome,
            } => {
                let (op, flags) = (self.narrow(op)?, self.narrow(flags)?);
                let [one, two, three] = &**arguments;
                let arguments = [self.eval(one)?, self.eval(two)?, self.eval(three)?];
                let element_count = match count {
                    Some(count) => self.narrow(count)?,
                    None => 0,
                };
                let whole = MemoryInput {
                    arguments,
                    op,
                    flags,
                    element_count,
                    ..MemoryInput::default()
                };
                let mut passed = whole.to_bytes().to_vec();
                if let Some(bytes) = bytes {
                    passed.resize(self.eval_small(bytes, 4096)?, 0);
                }
                let file = self.file(context)?;
                let reply = uapi::dispatch(&file.context, &passed);
                let answer = Answer::of_request(reply, |reply| reply.value);
                self.judge(span, outcome, answer)
            }
            Step::Block {
                context,
                name,
                size,
                outcome,
            } => self.block(span, context, name, size, outcome),
            Step::Destroy {
                context,
                handle,
                outcome,
            } => {
                let handle = RawHandle::new(self.eval(handle)?);
                let destroyed = self.file(context)?.context.destroy_block(handle);
                self.judge(span, outcome, Answer::of_request(destroyed, |()| 0))
            }
            Step::Mmap {
                context,
                handle,
                view,
                size,
                outcome,
            } => {
                let handle = RawHandle::new(self.eval(handle)?);
                let len = self.eval(size)?;
                let answer = match self.file(context)?.context.mmap(handle, len) {
                    Ok(shown) => {
                        let address = shown.view().address().get();
                        let key = self.key(view)?;
                        let gone = Vec::new();
                        let viewed = Viewed { view: shown, gone };
                        self.env.views.insert(key, Arc::new(viewed));
                        Answer::Value(address)
                    }
                    Err(error) => Answer::Errno(error.into()),
                };
                self.judge(span, outcome, answer)
            }
            Step::Attach {
                context,
                handle,
                hint,
                force,
                outcome,
            } => {
                let handle = RawHandle::new(self.eval(handle)?);
                let hint = self.eval_option(hint.as_ref())?.map(DeviceAddr::new);
                let wanted = match (hint, force) {
                    (None, false) => Wanted::Anywhere,
                    (Some(at), false) => Wanted::Hint(at),
                    (at, true) => Wanted::Exact(at.unwrap_or(DeviceAddr::new(0))),
                };
                let privilege = &self.machine().privilege;
                let file = self.file(context)?;
                let mapped = file.context.map_block(privilege, handle, wanted);
                self.judge(span, outcome, Answer::of_request(mapped, |at| at.get()))
            }
            Step::Notice => {
                self.machine().device.note_lost();
                Ok("lost".to_owned())
            }
            Step::Recover { outcome } => {
                // What keeps a device from coming back has no errno of its own.
                let recovered = self.machine().recover().map_err(|_| Errno::EIO);
                self.judge(span, outcome, Answer::of_request(recovered, |()| 0))
            }
            Step::Settle { context, outcome } => {
                let settled = match context {
                    Some(name) => {
                        let file = self.file(name)?;
                        file.context.settle_quarantine().map_err(Errno::from)
                    }
                    None => {
                        let settled = self.machine().device.settle_quarantine();
                        settled.map_err(Errno::from)
                    }
                };
                let answer = Answer::of_request(settled, |()| 0);
                self.judge(span, outcome, answer)
            }
            _ => unreachable!("the step is one of the driver"),
        }
    }

    /// Passes a request in as bytes, as a process does.
    fn request(
        &mut self,
        span: Span,
        context: &Name,
        (op, flags, arguments): (u32, u32, [u64; 3]),
        outcome: &Outcome,
    ) -> Words {
        let input = MemoryInput {
            arguments,
            op,
            flags,
            ..MemoryInput::default()
        };
        let file = self.file(context)?;
        let reply = uapi::dispatch(&file.context, &input.to_bytes());
        self.judge(
            span,
            outcome,
            Answer::of_request(reply, |reply| reply.value),
        )
    }

    fn narrow(&mut self, expr: &Expr) -> Result<u32, Stop> {
        Ok(self.eval_small(expr, u64::from(u32::MAX))? as u32)
    }

    fn open(
        &mut self,
        span: Span,
        context: &Name,
        budget: Option<&Expr>,
        process: Option<&Name>,
        outcome: &Outcome,
    ) -> Words {
        let key = self.key(context)?;
        if self.env.files.contains_key(&key) {
            let message = format_args!("`{}` is open already", key_text(&key));
            return Err(Invalid::new(context.span, message).into());
        }
        let machine = self.machine();
        let process = match process {
            Some(other) => {
                let key = self.key(other)?;
                match self.env.buffers.get(&key) {
                    Some(buffer) => Arc::clone(&buffer.process),
                    None => self.process(other)?,
                }
            }
            None => {
                let process = machine.spawn();
                self.processes.push(Arc::clone(&process));
                process
            }
        };
        let pages = match budget {
            Some(pages) => Some(self.eval_small(pages, u64::from(u32::MAX))?),
            None => None,
        };
        let Some(arenas) = self.arenas else {
            let message = "only the first thread opens files";
            return Err(Invalid::new(context.span, message).into());
        };
        let budget = &*arenas
            .budgets
            .alloc(pages.map_or_else(Budget::unlimited, Budget::new));
        let storage = arenas.files.alloc(machine.storage());
        let answer = match machine.open(&process, budget, storage) {
            Ok(context) => {
                let asid = context.asid().get();
                let file = File {
                    context,
                    process,
                    budget,
                };
                self.env.files.insert(key, Arc::new(file));
                Answer::Value(u64::from(asid))
            }
            Err(error) => Answer::Errno(error.into()),
        };
        self.judge(span, outcome, answer)
    }

    fn close(&mut self, span: Span, context: &Name, outcome: &Outcome) -> Words {
        let _ = self.file(context)?;
        let key = self.key(context)?;
        let file = self.env.files.remove(&key).and_then(Arc::into_inner);
        // Threads have ended, and with them their copies.
        let Some(file) = file else {
            return Err(Invalid::new(context.span, "the file is in use elsewhere").into());
        };
        let File {
            context,
            process,
            budget,
        } = file;
        let answer = match context.close() {
            Ok(left) => Answer::Closed(left),
            Err(refused) => {
                let errno = (*refused.reason()).into();
                let file = File {
                    context: refused.into_context(),
                    process,
                    budget,
                };
                self.env.files.insert(key, Arc::new(file));
                Answer::Errno(errno)
            }
        };
        self.judge(span, outcome, answer)
    }

    fn block(
        &mut self,
        span: Span,
        context: &Name,
        name: &Name,
        size: &Expr,
        outcome: &Outcome,
    ) -> Words {
        let bytes = self.eval(size)?;
        let machine = self.machine();
        let created = self
            .file(context)?
            .context
            .create_block(&machine.privilege, bytes);
        let answer = match created {
            Ok((handle, block)) => {
                let range = machine.device.block_range(&machine.privilege, block);
                // A block that was just made is mapped.
                self.set_block(name, range.map_or(0, |range| range.start().get()))?;
                Answer::Value(handle.get())
            }
            Err(error) => Answer::Errno(error.into()),
        };
        self.judge(span, outcome, answer)
    }
}
