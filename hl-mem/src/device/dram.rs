//! The device's own memory: who gets it, and that nobody sees what another left in it.

use core::array::IntoIter;
use core::iter::Flatten;

use mmu_core::Run;

use crate::dram::{
    AllocateError, Contiguity, DramHold, DramPool, PackError, PackHandle, RunCursor, Sharing,
};
use crate::lock::Locked;
use crate::owner::Owner;
use crate::port::Port;
use crate::profile::Asic;

use super::{Device, DramError, DramRunError, Privilege};

/// Runs that are looked up at a time.
const FEW: usize = 4;

/// The runs of a piece of device memory that is held, a few of them looked up at a time: while a page
/// table is built from them, others have the pool's lock.
pub(crate) struct HeldRuns<'a, 'd, P: Port> {
    pool: &'a Locked<P, DramPool<'d>>,
    cursor: RunCursor,
    few: Flatten<IntoIter<Option<Run>, FEW>>,
}

impl<P: Port> Clone for HeldRuns<'_, '_, P> {
    fn clone(&self) -> Self {
        Self {
            pool: self.pool,
            cursor: self.cursor,
            few: self.few.clone(),
        }
    }
}

impl<P: Port> Iterator for HeldRuns<'_, '_, P> {
    type Item = Run;

    fn next(&mut self) -> Option<Run> {
        if let Some(run) = self.few.next() {
            return Some(run);
        }
        if self.cursor.bytes() == 0 {
            return None;
        }
        let few: [Option<Run>; FEW] = self.pool.lock().take_runs(&mut self.cursor);
        self.few = few.into_iter().flatten();
        self.few.next()
    }
}

impl<'d, A: Asic, P: Port> Device<'d, A, P> {
    /// The first run of a piece of device memory of `owner`, for programming engines that use it by
    /// its physical addresses. A contiguous piece has no other run.
    ///
    /// It keeps nothing alive: stop the engines before the piece is freed.
    ///
    /// # Errors
    ///
    /// * [`DramRunError::ForeignPrivilege`];
    /// * [`DramRunError::Lost`] while the device is [lost](Self::note_lost);
    /// * [`DramRunError::Pack`], those of [`DramPool::hold`](crate::dram::DramPool::hold): `owner` has no
    ///   such piece.
    pub fn dram_run(
        &self,
        privilege: &Privilege,
        owner: Owner,
        handle: PackHandle,
    ) -> Result<Run, DramRunError> {
        self.check(privilege)?;
        if self.is_lost() {
            return Err(DramRunError::Lost);
        }
        let mut dram = self.dram.lock();
        let hold = dram.hold(handle, owner).map_err(DramRunError::Pack)?;
        let run = dram.runs(&hold).and_then(|mut runs| runs.next());
        let released = dram.release(hold);
        debug_assert!(released.is_ok(), "the hold is of this pool");
        run.ok_or(DramRunError::Pack(PackError::Unknown))
    }

    /// Holds a piece of device memory, of `owner` or shared, and tells where it is.
    pub(crate) fn hold_dram(
        &self,
        owner: Owner,
        handle: PackHandle,
    ) -> Result<(DramHold, Option<HeldRuns<'_, 'd, P>>), PackError> {
        let mut pool = self.dram.lock();
        let hold = pool.hold(handle, owner)?;
        let runs = pool.cursor(&hold).map(|mut cursor| HeldRuns {
            few: pool.take_runs(&mut cursor).into_iter().flatten(),
            cursor,
            pool: &self.dram,
        });
        Ok((hold, runs))
    }

    /// Allocates device memory, having pages scrubbed that another owner used before.
    pub(crate) fn allocate_dram(
        &self,
        owner: Owner,
        bytes: u64,
        contiguity: Contiguity,
        sharing: Sharing,
    ) -> Result<PackHandle, DramError> {
        loop {
            let allocated = self.dram.lock().allocate(owner, bytes, contiguity, sharing);
            let first = match allocated {
                Ok(handle) => return Ok(handle),
                Err(AllocateError::Unscrubbed { first }) => first,
                Err(error) => return Err(DramError::Allocate(error)),
            };
            // Another thread may have taken the pages meanwhile; then there is nothing to scrub.
            let Some(dirty) = self.dram.lock().take_dirty(first) else {
                continue;
            };
            let scrubbed = dirty.scrub(&mut *self.scrubber.lock());
            let mut dram = self.dram.lock();
            let returned = match scrubbed {
                Ok(clean) => dram.return_scrubbed(clean).map_err(drop),
                Err(failed) => {
                    // The pages came from this pool, which therefore takes them back.
                    let _ = dram.return_dirty(failed.dirty);
                    return Err(DramError::Scrub);
                }
            };
            debug_assert!(returned.is_ok(), "the pages came from this pool");
        }
    }

    /// Frees device memory of `owner`.
    pub(crate) fn free_dram(&self, owner: Owner, handle: PackHandle) -> Result<(), PackError> {
        self.dram.lock().free(handle, owner)
    }

    /// Frees all device memory of `owner`. Returns how many pieces there were.
    pub(crate) fn release_dram(&self, owner: Owner) -> u32 {
        let released = self.dram.lock().release_owner(owner);
        released.freed + released.orphaned
    }

    /// Gives up a use of device memory.
    pub(crate) fn release_dram_hold(&self, hold: DramHold) {
        if let Err(foreign) = self.dram.lock().release(hold) {
            // A device has one pool. Were it otherwise, the memory would stay allocated, which the
            // counters show.
            let _ = foreign;
        }
    }
}
