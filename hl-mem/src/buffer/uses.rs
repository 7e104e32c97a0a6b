//! What uses the pages of a buffer: views, holds, and whoever goes through them without the lock.

use super::{BufferHold, BufferId, Buffers, Lent, Memory, State, ViewPolicy, ViewRefusal};

impl<H> Buffers<'_, H> {
    /// The pages that a hold keeps.
    pub(crate) fn held_pages(&self, hold: &BufferHold) -> Option<&H> {
        self.pages(hold.0)
    }

    /// Counts a view that is being made, once it is checked that the user may have it.
    pub(crate) fn begin_view(&mut self, id: BufferId, len: u64) -> Result<(), ViewRefusal> {
        let policy = self.views;
        let buffer = self.buffer(id).ok_or(ViewRefusal::Gone)?;
        if len != buffer.bytes {
            return Err(ViewRefusal::Length {
                bytes: buffer.bytes,
            });
        }
        if policy == ViewPolicy::Single && buffer.views != 0 {
            return Err(ViewRefusal::Viewed);
        }
        buffer.views = buffer.views.saturating_add(1);
        Ok(())
    }

    /// Takes the pages of a buffer out, for somebody who goes through them without the lock; `None`
    /// where the buffer is gone.
    pub(crate) fn lend(&mut self, id: BufferId) -> Option<Lent<H>> {
        let range = self.range(id);
        let memory = &mut self.buffer(id)?.memory;
        let memory = core::mem::replace(memory, Memory::Away(range));
        Some(Lent { id, memory })
    }

    /// Puts lent pages back.
    pub(crate) fn take_back(&mut self, lent: Lent<H>) {
        if let Some(buffer) = self.buffer(lent.id) {
            buffer.memory = lent.memory;
        }
    }

    /// The pages of a buffer; `None` where it is gone.
    fn pages(&self, id: BufferId) -> Option<&H> {
        let slot = self.slots.get(id.slot as usize)?;
        match &slot.state {
            State::Used(buffer) if id.names(slot.generation, self.device) => buffer.memory.pages(),
            _ => None,
        }
    }

    /// Counts a copy of a view.
    pub(crate) fn count_view(&mut self, id: BufferId) {
        if let Some(buffer) = self.buffer(id) {
            buffer.views = buffer.views.saturating_add(1);
        }
    }

    /// Uncounts a view that is gone.
    pub(crate) fn uncount_view(&mut self, id: BufferId) {
        if let Some(buffer) = self.buffer(id) {
            buffer.views = buffer.views.saturating_sub(1);
        }
    }

    /// Keeps the pages of a buffer from being given up; `None` where the buffer is gone.
    pub(crate) fn hold_pages(&mut self, id: BufferId) -> Option<BufferHold> {
        let buffer = self.buffer(id)?;
        buffer.holds = buffer.holds.checked_add(1)?;
        Some(BufferHold(id))
    }

    /// Ends a hold. Returns the buffer it was on, which may be unused now.
    pub(crate) fn release_hold(&mut self, hold: BufferHold) -> BufferId {
        if let Some(buffer) = self.buffer(hold.0) {
            buffer.holds = buffer.holds.saturating_sub(1);
        }
        hold.0
    }

    /// The views of a buffer and the holds on it.
    pub(crate) fn uses(&mut self, id: BufferId) -> u32 {
        self.buffer(id)
            .map_or(0, |buffer| buffer.views.saturating_add(buffer.holds))
    }
}
