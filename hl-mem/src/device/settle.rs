//! How removals are confirmed.

use mmu_core::{Invalidate, Stale, TableMemory};

use crate::lock::Locked;
use crate::mmu::MmuError;
use crate::port::Port;
use crate::profile::Asic;
use crate::space::{Batch, Begun, Confirmed, Removals};
use crate::sync::Ordering;

use super::{Device, Unconfirmed};

/// An MMU, as far as one address space is concerned.
pub(crate) struct Seen<'m, U> {
    pub(crate) driver: &'m mut U,
    /// How often the device was reset.
    pub(crate) resets: u32,
    /// Since it had tables of this space, it was made to forget everything, and the ASID has been
    /// parked from then on.
    pub(crate) forgotten: bool,
}

#[expect(unsafe_code, reason = "what the MMU confirmed, this passes on")]
// SAFETY: either the MMU itself answers; or it has answered already: when it was brought back after a
// reset, all its caches were empty and every ASID parked, and nobody has given this ASID the root of
// the space since, so that it has nothing of the space and gets at nothing of it.
unsafe impl<U: Invalidate<Error = MmuError>> Invalidate for Seen<'_, U> {
    type Error = MmuError;

    fn invalidate(&mut self, stale: &Stale) -> Result<(), MmuError> {
        if self.forgotten {
            return Ok(());
        }
        self.driver.invalidate(stale)
    }
}

/// Sees to it that a batch of removals is confirmed by an MMU whose lock is held, together with all
/// others of its space that wait; `None` where the space has to forget first.
pub(crate) fn settle<P: Port, M: TableMemory, U: Invalidate<Error = MmuError>>(
    mut mmu: Seen<'_, U>,
    removals: &Locked<P, Removals<M>>,
    batch: Batch,
) -> Option<Result<Confirmed, Unconfirmed>> {
    let begun = removals.lock().begin(batch, mmu.resets);
    let (removed, taken) = match begun {
        Begun::Confirmed(confirmed) => return Some(Ok(confirmed)),
        Begun::Stale => return None,
        Begun::Taken(removed, taken) => (removed, taken),
    };
    let outcome = removed.map_or(Ok(()), |removed| removed.confirm(&mut mmu));
    Some(removals.lock().end(taken, outcome))
}

impl<A: Asic, P: Port> Device<'_, A, P> {
    /// How often the device was reset. Whoever holds the lock of an MMU knows it for as long as that
    /// MMU is not brought back.
    pub(crate) fn resets(&self) -> u32 {
        self.resets.load(Ordering::Relaxed)
    }

    /// Sees to it that a batch of removals of the privileged space is confirmed.
    pub(super) fn settle_privileged(&self, batch: Batch) -> Result<Confirmed, Unconfirmed> {
        loop {
            let mmu = Seen {
                driver: &mut self.mmu.lock().driver,
                resets: self.resets(),
                forgotten: false,
            };
            // With the lock held, a reset has wiped the space if it was counted.
            if let Some(settled) = settle(mmu, &self.removals, batch) {
                return settled;
            }
        }
    }
}
