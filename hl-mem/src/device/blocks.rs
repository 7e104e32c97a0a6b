//! The life of a block in the privileged address space (facts section 11).

use crate::block::{BlockId, Blocks, NewBlock, ViewRefusal};
use crate::host::{HostError, HostMemory, ViewRights, seen_by_device};
use crate::mmu::MmuControl;
use crate::port::{Engines, Port};
use crate::profile::Asic;
use crate::space::{Batch, Detached, Privileged, Wanted};

use super::{BlockError, Device, KernelPages, PrivilegedSpace, RetireError};

/// Why a block is not shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ViewBlockError {
    Refused(ViewRefusal),
    Host(HostError),
}

impl<'d, A: Asic, P: Port> Device<'d, A, P> {
    /// Allocates, zeroes and maps a block of `bytes`, whole pages, in the privileged space.
    pub(crate) fn allocate_block(&self, bytes: u64) -> Result<BlockId, BlockError> {
        let pages = bytes / P::Host::PAGE_BYTES;
        let new = self
            .privileged
            .lock()
            .blocks
            .hold()
            .ok_or(BlockError::TooManyBlocks)?;
        let memory = match self.host.allocate(pages) {
            Ok(memory) => memory,
            Err(error) => {
                self.privileged.lock().blocks.give_back(new);
                return Err(BlockError::Host(error));
            }
        };
        let mapped = {
            let runs = self.host.kernel_runs(&memory);
            let runs = runs.map_while(|run| seen_by_device(run, &A::PROFILE));
            self.privileged
                .lock()
                .space
                .map(bytes, runs, Wanted::Anywhere)
        };
        let mapped = match mapped {
            Ok(mapped) => mapped.owning(memory),
            Err(failure) => {
                match failure.detached {
                    None => self.abandon(new, memory),
                    Some(detached) => self.abandon_detached(new, detached.owning(memory)),
                }
                return Err(BlockError::Space(failure.error));
            }
        };
        let announced = self.mmu.lock().announce();
        if let Err(error) = announced {
            let detached = self.privileged.lock().space.unmap(mapped);
            self.abandon_detached(new, detached);
            return Err(BlockError::Mmu(error));
        }
        let id = new.id();
        self.privileged.lock().blocks.register(&new, bytes, mapped);
        Ok(id)
    }

    /// Gives back the memory of a block that did not come to be, and that the device never saw.
    fn abandon(&self, new: NewBlock, memory: KernelPages<P>) {
        self.privileged.lock().blocks.give_back(new);
        self.host.free(memory);
    }

    /// Gives back the memory of a block that did not come to be, or keeps it where the device may
    /// still use it.
    fn abandon_detached(&self, new: NewBlock, detached: Detached<Privileged, KernelPages<P>>) {
        // The caller reports the error that came first; one here only means quarantine.
        let _ = self.settle(
            &self.privileged,
            |privileged| &mut privileged.space,
            detached.batch(),
        );
        let mut privileged = self.privileged.lock();
        match privileged.space.release(detached) {
            Ok(memory) => {
                privileged.blocks.give_back(new);
                drop(privileged);
                self.host.free(memory);
            }
            Err(detached) => privileged.blocks.quarantine(new, detached),
        }
    }

    /// Notes that no handle names a block any more, stops its producer and removes its mapping.
    /// The memory goes when the removal is confirmed and no view is left.
    pub(crate) fn retire_block(
        &self,
        id: BlockId,
    ) -> Result<(), RetireError<<P::Engines as Engines>::Error>> {
        let Some(batch) = self.detach_block(id).map_err(RetireError::Engines)? else {
            return Ok(());
        };
        let settled = self.settle(&self.privileged, |privileged| &mut privileged.space, batch);
        self.release_block(id);
        settled.map_err(RetireError::Unconfirmed)
    }

    /// The first half of [`retire_block`](Self::retire_block): everything before the invalidation.
    pub(crate) fn detach_block(
        &self,
        id: BlockId,
    ) -> Result<Option<Batch>, <P::Engines as Engines>::Error> {
        let range = {
            let mut privileged = self.privileged.lock();
            privileged.blocks.unname(id);
            privileged.blocks.range(id)
        };
        if let Some(range) = range {
            self.engines.stop(range)?;
        }
        let mut privileged = self.privileged.lock();
        let PrivilegedSpace { space, blocks } = &mut *privileged;
        Ok(blocks.take_mapped(id).map(|mapped| {
            let detached = space.unmap(mapped);
            let batch = detached.batch();
            blocks.put_detached(id, detached);
            batch
        }))
    }

    /// The second half of [`retire_block`](Self::retire_block): everything after the invalidation.
    /// Does nothing as long as that is not confirmed.
    pub(crate) fn release_block(&self, id: BlockId) {
        let unused = {
            let mut privileged = self.privileged.lock();
            let PrivilegedSpace { space, blocks } = &mut *privileged;
            if let Some(detached) = blocks.take_detached(id) {
                match space.release(detached) {
                    Ok(memory) => blocks.put_unmapped(id, memory),
                    Err(detached) => blocks.put_detached(id, detached),
                }
            }
            blocks.take_unused(id)
        };
        if let Some(memory) = unused {
            self.host.free(memory);
        }
    }

    /// Tries again to give up the blocks in quarantine: to stop their producers, and to confirm
    /// their removal by one invalidation.
    ///
    /// # Errors
    ///
    /// The first [`RetireError`]; what it concerns stays where it is.
    pub fn settle_quarantine(&self) -> Result<(), RetireError<<P::Engines as Engines>::Error>> {
        let mut outcome = Ok(());
        let mut from = 0;
        while let Some(id) = self.next_block(&mut from, Blocks::next_unnamed_mapped) {
            if let Err(error) = self.detach_block(id) {
                outcome = outcome.and(Err(RetireError::Engines(error)));
            }
        }
        let mut from = 0;
        while let Some((id, batch)) = self.next_block(&mut from, Blocks::next_quarantined) {
            // The first one takes all others along; for those nothing is left to be done here.
            let settled = self
                .settle(&self.privileged, |privileged| &mut privileged.space, batch)
                .map_err(RetireError::Unconfirmed);
            self.release_block(id);
            outcome = outcome.and(settled);
            if outcome.is_err() {
                break;
            }
        }
        outcome
    }

    fn next_block<T>(
        &self,
        from: &mut usize,
        next: impl Fn(&Blocks<'d, KernelPages<P>>, &mut usize) -> Option<T>,
    ) -> Option<T> {
        next(&self.privileged.lock().blocks, from)
    }

    /// Shows a block of exactly `len` bytes to a process.
    pub(crate) fn view_block(
        &self,
        process: &<P::Host as HostMemory>::Process,
        id: BlockId,
        len: u64,
        rights: ViewRights,
    ) -> Result<<P::Host as HostMemory>::View, ViewBlockError> {
        let mut privileged = self.privileged.lock();
        let memory = privileged
            .blocks
            .viewable(id, len)
            .map_err(ViewBlockError::Refused)?;
        let view = self
            .host
            .view(process, memory, rights)
            .map_err(ViewBlockError::Host)?;
        privileged.blocks.count_view(id);
        Ok(view)
    }

    /// Ends a view, and the block with it where that was the last use of it.
    pub(crate) fn remove_view(&self, id: BlockId, view: <P::Host as HostMemory>::View) {
        let mut privileged = self.privileged.lock();
        self.host.remove_view(view);
        privileged.blocks.uncount_view(id);
        drop(privileged);
        self.release_block(id);
    }
}
