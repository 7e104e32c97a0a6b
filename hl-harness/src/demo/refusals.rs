//! Step 6: what is refused, and that it changes nothing.

use hl_mem::context::ContextUsage;
use hl_mem::handle::RawHandle;
use hl_mem::uapi::{self, MemoryInput, OP_FREE, OP_UNMAP};

use super::block::Created;
use super::failure::{Failure, OrFail, check};
use super::report::Report;
use crate::asic::{InitiatorMode, Stopped};
use crate::host::FRAME_SIZE;
use crate::machine::{Machine, MachineContext, MachineCounters, Model};

/// Something that was tried and refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What was tried.
    pub tried: &'static str,
    /// What came back.
    pub answer: String,
}

/// Two open files and what they have.
#[derive(Debug)]
pub struct Files<'f, 'c, 's, 'm, A: Model> {
    /// The machine.
    pub machine: &'f Machine<'s, 'm, A>,
    /// The file that has the block.
    pub context: &'f MachineContext<'c, 's, 'm, A>,
    /// The block.
    pub block: &'f Created,
    /// Another file.
    pub other: &'f MachineContext<'c, 's, 'm, A>,
    /// A block of the other file.
    pub other_handle: RawHandle,
    /// Device memory of the first file.
    pub memory: u64,
}

/// Everything countable that a refusal must leave alone.
type Snapshot = (MachineCounters, ContextUsage, ContextUsage);

impl<A: Model> Files<'_, '_, '_, '_, A> {
    /// Tries everything that must be refused.
    ///
    /// # Errors
    ///
    /// [`Failure::Check`] at the first thing that is not refused, or that changes something.
    pub fn try_all(&self) -> Result<Vec<Refusal>, Failure> {
        let (machine, context) = (self.machine, self.context);
        let handle = self.block.handle;
        let len = self.block.range.len();
        let page = FRAME_SIZE as u64;
        let (stale, _) = context
            .create_block(&machine.privilege, page)
            .or_fail("creating a block to destroy")?;
        context
            .destroy_block(stale)
            .or_fail("destroying the block")?;
        let view = |handle, len| {
            let view = context.mmap(handle, len);
            let view = view.map_err(|error| error.to_string())?;
            machine
                .device
                .end_view(view)
                .map_err(|error| error.to_string())
        };
        let destroy = |handle| {
            let destroyed = context.destroy_block(handle);
            destroyed.map_err(|error| error.to_string())
        };
        let ioctl = |context, input: MemoryInput| {
            let output = uapi::dispatch(context, &input.to_bytes());
            output.map(drop).map_err(|errno| errno.to_string())
        };
        // The slot after all that were used: nobody ever had its handle.
        let unknown = RawHandle::new(handle.get() + 0x10 * page);
        let forged = || {
            for bit in 0..u64::BITS {
                let forged = RawHandle::new(handle.get() ^ 1 << bit);
                view(forged, len).err()?;
            }
            Some(String::from("each refused"))
        };
        Ok(vec![
            self.refused("mmap of an unknown handle", || view(unknown, len).err())?,
            self.refused("mmap of the handle with any one bit flipped", forged)?,
            self.refused("mmap of a stale handle", || view(stale, page).err())?,
            self.refused("mmap of another open file's handle", || {
                view(self.other_handle, page).err()
            })?,
            self.refused("mmap of a page less", || view(handle, len - page).err())?,
            self.refused("mmap of a byte more", || view(handle, len + 1).err())?,
            self.refused("a second destroy", || destroy(stale).err())?,
            self.refused("UNMAP of the block's device address", || {
                let input = MemoryInput {
                    arguments: [self.block.range.start().get(), 0, 0],
                    op: OP_UNMAP,
                    ..MemoryInput::default()
                };
                ioctl(context, input).err()
            })?,
            self.refused("FREE of another file's device memory", || {
                let input = MemoryInput {
                    arguments: [self.memory, 0, 0],
                    op: OP_FREE,
                    ..MemoryInput::default()
                };
                ioctl(self.other, input).err()
            })?,
            self.device_access()?,
        ])
    }

    /// Has an engine of the user write to the block.
    fn device_access(&self) -> Result<Refusal, Failure> {
        let asic = &self.machine.asic;
        let start = self.block.range.start();
        let trusted = asic.add_initiator("driver", InitiatorMode::Privileged);
        let hostile =
            asic.add_initiator("user dma", InitiatorMode::User(self.context.asid().get()));
        let content = || {
            let mut content = vec![0; self.block.range.len() as usize];
            let read = asic.read(trusted, start, &mut content);
            read.map(|()| content).or_fail("reading the block")
        };
        let before = content()?;
        let refusal = self.refused("device write to the block as the user", || {
            let error = asic.write(hostile, start, &[0xFF; 64]).err()?;
            match error.stopped {
                Stopped::Fault(fault) => Some(format!(
                    "fault in ASID {} at {}: {}",
                    fault.asid, fault.address, fault.reason
                )),
                Stopped::Lost | Stopped::Halted => None,
            }
        })?;
        check(content()? == before, "the refused write changed the block")?;
        Ok(refusal)
    }

    /// Tries one thing: `answer` is how it was refused, or `None` where it was not.
    fn refused(
        &self,
        tried: &'static str,
        answer: impl FnOnce() -> Option<String>,
    ) -> Result<Refusal, Failure> {
        let before = self.snapshot();
        let answer =
            answer().ok_or_else(|| Failure::check(format_args!("not refused: {tried}")))?;
        check(
            self.snapshot() == before,
            format_args!("refused, but something changed: {tried}"),
        )?;
        Ok(Refusal { tried, answer })
    }

    fn snapshot(&self) -> Snapshot {
        let (context, other) = (self.context.usage(), self.other.usage());
        (self.machine.counters(), context, other)
    }
}

/// Prints what was refused.
pub fn print(refusals: &[Refusal], report: &Report) {
    let rows = refusals.iter();
    let rows = rows.map(|refusal| [refusal.tried.to_owned(), refusal.answer.clone()]);
    report.table(&rows.collect::<Vec<_>>());
    report.text("Nothing changed: all counters are as before each of them.");
}
