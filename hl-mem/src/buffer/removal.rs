//! How a block leaves the privileged space: taken out, kept until that is confirmed, and found again
//! where it was not.

use crate::space::{Batch, Confirmed, Detached, Mapped, Privileged, Proven};

use super::{Buffer, BufferId, Buffers, Memory, Name, State};

impl<H> Buffers<'_, H> {
    /// Takes the mapping of a block out, to undo it; `None` where the block is not mapped.
    pub(crate) fn take_mapped(&mut self, id: BufferId) -> Option<Mapped<Privileged, H>> {
        let memory = &mut self.buffer(id)?.memory;
        match core::mem::replace(memory, Memory::Away(None)) {
            Memory::Mapped(mapped) => Some(mapped),
            other => {
                *memory = other;
                None
            }
        }
    }

    /// Keeps what was a mapping of the block.
    pub(crate) fn put_detached(&mut self, id: BufferId, detached: Detached<Privileged, H>) {
        if let Some(buffer) = self.buffer(id) {
            buffer.memory = Memory::Detached(detached);
        }
    }

    /// Takes what was a mapping of the block out, where its removal is among those that are confirmed.
    pub(crate) fn take_proven(
        &mut self,
        id: BufferId,
        confirmed: Confirmed,
    ) -> Option<Proven<Privileged, H>> {
        let memory = &mut self.buffer(id)?.memory;
        match core::mem::replace(memory, Memory::Away(None)) {
            Memory::Detached(detached) => match detached.proven(Some(confirmed)) {
                Ok(proven) => return Some(proven),
                Err(detached) => *memory = Memory::Detached(detached),
            },
            other => *memory = other,
        }
        None
    }

    /// Puts back the pages of a block that the device cannot reach any more.
    pub(crate) fn put_unmapped(&mut self, id: BufferId, pages: H) {
        if let Some(buffer) = self.buffer(id) {
            buffer.memory = Memory::Unmapped(pages);
        }
    }

    /// A block, at slot `from` or after it, that no handle names and that is mapped all the same:
    /// its producer did not stop.
    pub(crate) fn next_unnamed_mapped(&self, from: &mut usize) -> Option<BufferId> {
        self.next(from, |buffer| {
            matches!(
                (&buffer.memory, &buffer.name),
                (Memory::Mapped(_), Name::Nobody)
            )
        })
    }

    /// The removal of a block that was not found to be confirmed; `None` where there is none.
    pub(crate) fn batch(&mut self, id: BufferId) -> Option<Batch> {
        match &self.buffer(id)?.memory {
            Memory::Detached(detached) => Some(detached.batch()),
            _ => None,
        }
    }

    /// Whether the privileged space has, or may have, a block.
    pub(crate) fn is_kept(&mut self, id: BufferId) -> bool {
        self.buffer(id)
            .is_some_and(|buffer| matches!(buffer.memory, Memory::Mapped(_) | Memory::Detached(_)))
    }

    /// A block whose removal was not found to be confirmed, at slot `from` or after it.
    pub(crate) fn next_quarantined(&self, from: &mut usize) -> Option<BufferId> {
        self.next(from, |buffer| matches!(buffer.memory, Memory::Detached(_)))
    }

    /// A buffer that `is_one`, at slot `from` or after it.
    fn next(&self, from: &mut usize, is_one: impl Fn(&Buffer<H>) -> bool) -> Option<BufferId> {
        while let Some(slot) = self.slots.get(*from) {
            let id = BufferId {
                slot: *from as u32,
                generation: slot.generation,
                device: self.device,
            };
            *from += 1;
            if let State::Used(buffer) = &slot.state
                && is_one(buffer)
            {
                return Some(id);
            }
        }
        None
    }
}
