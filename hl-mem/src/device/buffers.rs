//! The life of kernel buffers: of blocks in the privileged address space (facts section 11), and of
//! those that are not mapped there.

use crate::buffer::{BufferHold, BufferId, Buffers, NewBuffer};
use crate::host::{HostError, HostMemory};
use crate::mmu::MmuControl;
use crate::port::{Engines, Port};
use crate::profile::Asic;
use crate::space::{Batch, Detached, Privileged, Wanted};

use super::{BufferError, Device, KernelPages, MapBufferError, RetireError, Shown};

impl<'d, A: Asic, P: Port> Device<'d, A, P> {
    /// Allocates, zeroes and maps a block of `bytes`, whole pages, in the privileged space.
    pub(crate) fn allocate_block(&self, bytes: u64) -> Result<BufferId, BufferError> {
        let pages = bytes / P::Host::PAGE_BYTES;
        let (new, memory) = self.new_pages(|| self.host.allocate(pages))?;
        let mapped = {
            let runs = self.host.kernel_runs(&memory);
            let mut space = self.privileged.lock();
            space.map(bytes, runs, &A::PROFILE, Wanted::Anywhere)
        };
        let mapped = match mapped {
            Ok(mapped) => mapped.owning(memory),
            Err(failure) => {
                match failure.detached {
                    None => self.abandon(new, memory),
                    Some(detached) => self.abandon_detached(new, detached.owning(memory)),
                }
                return Err(BufferError::Map(MapBufferError::Space(failure.error)));
            }
        };
        let announced = self.mmu.lock().driver.announce();
        if let Err(error) = announced {
            let detached = self.privileged.lock().unmap(mapped);
            self.abandon_detached(new, detached);
            return Err(BufferError::Map(MapBufferError::Mmu(error)));
        }
        let id = new.id();
        let buffers = &mut self.shown.lock().buffers;
        buffers.register_mapped(&new, bytes, mapped);
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
        let _ = self.settle_privileged(detached.batch());
        let mut shown = self.shown.lock();
        let released = self.privileged.lock().release(detached);
        match released {
            Ok(memory) => {
                shown.buffers.give_back(new);
                drop(shown);
                self.host.free(memory);
            }
            Err(detached) => shown.buffers.quarantine(new, detached),
        }
    }

    /// Notes that no handle names a block any more, stops its producer and removes its mapping.
    /// The memory goes when the removal is confirmed and no view is left.
    pub(crate) fn retire_block(
        &self,
        id: BufferId,
    ) -> Result<(), RetireError<<P::Engines as Engines>::Error>> {
        let Some(batch) = self.detach_block(id).map_err(RetireError::Engines)? else {
            return Ok(());
        };
        let settled = self.settle_privileged(batch);
        self.release_buffer(id);
        settled.map_err(RetireError::Unconfirmed)
    }

    /// The first half of [`retire_block`](Self::retire_block): everything before the invalidation.
    pub(crate) fn detach_block(
        &self,
        id: BufferId,
    ) -> Result<Option<Batch>, <P::Engines as Engines>::Error> {
        let range = {
            let buffers = &mut self.shown.lock().buffers;
            buffers.unname(id);
            buffers.range(id)
        };
        if let Some(range) = range {
            self.engines.stop(range)?;
        }
        let Shown { buffers, .. } = &mut *self.shown.lock();
        Ok(buffers.take_mapped(id).map(|mapped| {
            let detached = self.privileged.lock().unmap(mapped);
            let batch = detached.batch();
            buffers.put_detached(id, detached);
            batch
        }))
    }

    /// Gives up the pages of a buffer that nobody uses any more. For a block it is the second half of
    /// [`retire_block`](Self::retire_block), everything after the invalidation; it does nothing as
    /// long as that is not confirmed.
    pub(crate) fn release_buffer(&self, id: BufferId) {
        let unused = {
            let Shown { buffers, .. } = &mut *self.shown.lock();
            if let Some(detached) = buffers.take_detached(id) {
                match self.privileged.lock().release(detached) {
                    Ok(memory) => buffers.put_unmapped(id, memory),
                    Err(detached) => buffers.put_detached(id, detached),
                }
            }
            buffers.take_unused(id)
        };
        if let Some(memory) = unused {
            self.host.free(memory);
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

    /// Gives `look` the pages of a buffer; `None` where the buffer is gone.
    pub(crate) fn with_pages<T>(
        &self,
        id: BufferId,
        look: impl FnOnce(&KernelPages<P>) -> T,
    ) -> Option<T> {
        self.shown.lock().buffers.pages(id).map(look)
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
        let mut from = 0;
        while let Some((id, batch)) = self.next_block(&mut from, Buffers::next_quarantined) {
            // The first one takes all others along; for those nothing is left to be done here.
            let settled = self
                .settle_privileged(batch)
                .map_err(RetireError::Unconfirmed);
            self.release_buffer(id);
            outcome = outcome.and(settled);
            if outcome.is_err() {
                break;
            }
        }
        outcome?;
        let rest = self.privileged.lock().waiting();
        let settled = rest.map_or(Ok(()), |batch| self.settle_privileged(batch));
        settled.map_err(RetireError::Unconfirmed)
    }

    fn next_block<T>(
        &self,
        from: &mut usize,
        next: impl Fn(&Buffers<'d, KernelPages<P>>, &mut usize) -> Option<T>,
    ) -> Option<T> {
        next(&self.shown.lock().buffers, from)
    }
}
