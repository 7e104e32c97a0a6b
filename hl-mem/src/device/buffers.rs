//! The life of kernel buffers: of blocks in the privileged address space (facts section 11), and of
//! those that are not mapped there.

use crate::buffer::{BufferHold, BufferId, Buffers, Name, NewBuffer};
use crate::host::{HostError, HostMemory};
use crate::mmu::MmuControl;
use crate::port::{Engines, Port};
use crate::profile::Asic;
use crate::space::{Detached, Left, NotEstablished, Privileged, Wanted, establish};

use super::{BlockPages, BufferError, Device, KernelPages, RetireError, Unconfirmed};

impl<'d, A: Asic, P: Port> Device<'d, A, P> {
    /// Allocates and zeroes a block of `bytes`, whole pages, and maps it in the privileged space.
    pub(crate) fn allocate_block(
        &self,
        name: Name,
        bytes: u64,
        pages: BlockPages,
    ) -> Result<BufferId, BufferError> {
        let count = bytes / P::Host::PAGE_BYTES;
        let (new, memory) = self.new_pages(|| match pages {
            BlockPages::Scattered => self.host.allocate(count),
            BlockPages::Contiguous => self.host.allocate_contiguous(count),
        })?;
        let (written, resets) = {
            let runs = self.host.kernel_runs(&memory);
            let space = &mut self.privileged.lock().space;
            let written = space.map(&self.removals, bytes, runs, &A::PROFILE, Wanted::Anywhere);
            // No reset is counted while the space is locked.
            (written, self.resets())
        };
        let announce = || self.mmu.lock().driver.announce();
        let unmap = |mapped| self.privileged.lock().space.unmap(&self.removals, mapped);
        let mapped = match establish(written, memory, announce, unmap) {
            Ok(mapped) => mapped,
            Err(NotEstablished { error, left }) => {
                match left {
                    Left::Unseen(memory) => self.abandon(new, memory),
                    Left::Detached(detached) => self.abandon_detached(new, detached),
                }
                return Err(BufferError::Map(error.into()));
            }
        };
        let id = new.id();
        let buffers = &mut self.shown.lock().buffers;
        buffers.register_mapped(&new, name, bytes, resets, mapped);
        Ok(id)
    }

    /// Allocates and zeroes a buffer of `bytes`, whole pages, that is not mapped, by a call to the
    /// host.
    pub(crate) fn allocate_buffer(
        &self,
        bytes: u64,
        allocate: impl FnOnce(&P::Host, u64) -> Result<KernelPages<P>, HostError>,
    ) -> Result<BufferId, BufferError> {
        let pages = bytes / P::Host::PAGE_BYTES;
        let (new, memory) = self.new_pages(|| allocate(&self.host, pages))?;
        let id = new.id();
        self.shown.lock().buffers.register(&new, bytes, memory);
        Ok(id)
    }

    /// A slot for a buffer, and pages for it.
    fn new_pages(
        &self,
        allocate: impl FnOnce() -> Result<KernelPages<P>, HostError>,
    ) -> Result<(NewBuffer, KernelPages<P>), BufferError> {
        let held = self.shown.lock().buffers.hold();
        let new = held.ok_or(BufferError::TooManyBuffers)?;
        match allocate() {
            Ok(memory) => Ok((new, memory)),
            Err(error) => {
                self.shown.lock().buffers.give_back(new);
                Err(BufferError::Host(error))
            }
        }
    }

    /// Gives back the memory of a block that did not come to be, and that the device never saw.
    fn abandon(&self, new: NewBuffer, memory: KernelPages<P>) {
        self.shown.lock().buffers.give_back(new);
        self.host.free(memory);
    }

    /// Gives back the memory of a block that did not come to be, or keeps it where the device may
    /// still use it.
    fn abandon_detached(&self, new: NewBuffer, detached: Detached<Privileged, KernelPages<P>>) {
        // The caller reports the error that came first; one here only means quarantine.
        let settled = self.settle_privileged(detached.batch());
        match detached.proven(settled.ok()) {
            Ok(proven) => {
                let memory = self.privileged.lock().space.release(proven);
                self.abandon(new, memory);
                self.release_quarantined();
            }
            Err(detached) => self.shown.lock().buffers.quarantine(new, detached),
        }
    }

    /// Notes that no handle names a block any more, stops its producer, removes its mapping and has
    /// the removal confirmed. The memory goes when no view is left.
    pub(crate) fn retire_block(
        &self,
        id: BufferId,
    ) -> Result<(), RetireError<<P::Engines as Engines>::Error>> {
        self.detach_block(id).map_err(RetireError::Engines)?;
        self.confirm_block(id).map_err(RetireError::Unconfirmed)
    }

    /// The first half of [`retire_block`](Self::retire_block): everything before the invalidation.
    pub(crate) fn detach_block(&self, id: BufferId) -> Result<(), <P::Engines as Engines>::Error> {
        let range = {
            let buffers = &mut self.shown.lock().buffers;
            buffers.unname(id);
            buffers.range(id)
        };
        if let Some(range) = range {
            self.engines.stop(range)?;
        }
        // Not with the lock of the buffers held, which are everybody's: a large block takes its time.
        let mapped = self.shown.lock().buffers.take_mapped(id);
        if let Some(mapped) = mapped {
            let detached = self.privileged.lock().space.unmap(&self.removals, mapped);
            self.shown.lock().buffers.put_detached(id, detached);
        }
        Ok(())
    }

    /// The second half: has the removal confirmed, where it is not, with all others that wait, and gives
    /// up what that frees.
    pub(crate) fn confirm_block(&self, id: BufferId) -> Result<(), Unconfirmed> {
        let batch = self.shown.lock().buffers.batch(id);
        let settled = batch.map_or(Ok(()), |batch| self.settle_privileged(batch).map(drop));
        self.release_buffer(id);
        if settled.is_ok() {
            // Whatever was not confirmed when it was removed is now.
            self.release_quarantined();
        }
        settled
    }

    /// Whether the privileged space has, or may have, a block.
    pub(crate) fn keeps_block(&self, id: BufferId) -> bool {
        self.shown.lock().buffers.is_kept(id)
    }

    /// Gives up the pages of a buffer that nobody uses any more, once it is confirmed that a block's
    /// mapping is gone.
    pub(crate) fn release_buffer(&self, id: BufferId) {
        let proven = {
            let buffers = &mut self.shown.lock().buffers;
            // Looked at with the buffers locked: whoever confirms the removal later finds it in its place.
            let confirmed = self.removals.lock().confirmed();
            buffers.take_proven(id, confirmed)
        };
        let memory = proven.map(|proven| self.privileged.lock().space.release(proven));
        let unused = {
            let buffers = &mut self.shown.lock().buffers;
            if let Some(memory) = memory {
                buffers.put_unmapped(id, memory);
            }
            buffers.take_unused(id)
        };
        if let Some(memory) = unused {
            self.host.free(memory);
        }
    }

    /// Gives up the blocks in quarantine whose removal is confirmed by now.
    pub(super) fn release_quarantined(&self) {
        let mut from = 0;
        while let Some(id) = self.next_block(&mut from, Buffers::next_quarantined) {
            self.release_buffer(id);
        }
    }

    /// Notes that no handle names a buffer any more, which is not mapped in the privileged space.
    pub(crate) fn unname_buffer(&self, id: BufferId) {
        self.shown.lock().buffers.unname(id);
        self.release_buffer(id);
    }

    /// Keeps the pages of a buffer for a mapping or a writer; `None` where the buffer is gone.
    pub(crate) fn hold_buffer(&self, id: BufferId) -> Option<BufferHold> {
        self.shown.lock().buffers.hold_pages(id)
    }

    /// Ends a hold, and the buffer with it where that was the last use of it.
    pub(crate) fn release_buffer_hold(&self, hold: BufferHold) {
        let id = self.shown.lock().buffers.release_hold(hold);
        self.release_buffer(id);
    }

    /// Gives `look` the pages of a buffer, with no lock held; `None` where the buffer is gone. Nobody
    /// else finds the pages meanwhile, so that nobody else may look for them: either no handle names
    /// the buffer yet, or the handles are locked.
    pub(crate) fn with_pages<T>(
        &self,
        id: BufferId,
        look: impl FnOnce(&KernelPages<P>) -> T,
    ) -> Option<T> {
        let lent = self.shown.lock().buffers.lend(id)?;
        let looked = lent.pages().map(look);
        self.shown.lock().buffers.take_back(lent);
        looked
    }

    /// The views of a buffer and the holds on it.
    pub(crate) fn buffer_uses(&self, id: BufferId) -> u32 {
        self.shown.lock().buffers.uses(id)
    }

    /// Tries again to give up the buffers in quarantine: to stop their producers, and to confirm
    /// their removal by one invalidation, with whatever else was removed from the privileged space,
    /// such as all of it by a [recovery](Self::recover).
    ///
    /// # Errors
    ///
    /// The first [`RetireError`]; what it concerns stays where it is.
    pub fn settle_quarantine(&self) -> Result<(), RetireError<<P::Engines as Engines>::Error>> {
        let mut outcome = Ok(());
        let mut from = 0;
        while let Some(id) = self.next_block(&mut from, Buffers::next_unnamed_mapped) {
            if let Err(error) = self.detach_block(id) {
                outcome = outcome.and(Err(RetireError::Engines(error)));
            }
        }
        // One invalidation for all of them. Those for which there is none to be made, because another
        // thread did it, are given up as well.
        let waiting = self.removals.lock().waiting();
        if let Some(batch) = waiting {
            let settled = self.settle_privileged(batch).map(drop);
            outcome = outcome.and(settled.map_err(RetireError::Unconfirmed));
        }
        self.release_quarantined();
        outcome
    }

    fn next_block<T>(
        &self,
        from: &mut usize,
        next: impl Fn(&Buffers<'d, KernelPages<P>>, &mut usize) -> Option<T>,
    ) -> Option<T> {
        next(&self.shown.lock().buffers, from)
    }
}

/// The length of a buffer that was asked for with `bytes`.
pub(crate) fn whole_pages<P: Port>(bytes: u64, most: u64) -> Result<u64, BufferError> {
    if bytes == 0 || bytes > most {
        return Err(BufferError::Size);
    }
    bytes
        .checked_next_multiple_of(P::Host::PAGE_BYTES)
        .ok_or(BufferError::Size)
}
