//! The device's own memory: who gets it, and that nobody sees what another left in it.

use mmu_core::Run;

use crate::dram::{AllocateError, Contiguity, DramHold, PackError, PackHandle, Sharing};
use crate::owner::Owner;
use crate::port::Port;
use crate::profile::Asic;

use super::{Device, DramError, DramRunError, Privilege};

impl<A: Asic, P: Port> Device<'_, A, P> {
    /// The first run of a piece of device memory of `owner`, for programming engines that use it by
    /// its physical addresses. A contiguous piece has no other run.
    ///
    /// It keeps nothing alive: stop the engines before the piece is freed.
    ///
    /// # Errors
    ///
    /// * [`DramRunError::ForeignPrivilege`];
    /// * [`DramRunError::Pack`], those of [`DramPool::hold`](crate::dram::DramPool::hold): `owner` has no
    ///   such piece.
    pub fn dram_run(
        &self,
        privilege: &Privilege,
        owner: Owner,
        handle: PackHandle,
    ) -> Result<Run, DramRunError> {
        self.check(privilege)?;
        let mut dram = self.dram.lock();
        let hold = dram.hold(handle, owner).map_err(DramRunError::Pack)?;
        let run = dram.runs(&hold).and_then(|mut runs| runs.next());
        let released = dram.release(hold);
        debug_assert!(released.is_ok(), "the hold is of this pool");
        run.ok_or(DramRunError::Pack(PackError::Unknown))
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
