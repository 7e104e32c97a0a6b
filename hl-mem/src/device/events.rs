//! What users are told of the device.

use crate::events::{DeviceEvent, NotInFront, Report};
use crate::mmu::{Fault, MmuControl, MmuError};
use crate::port::Port;
use crate::profile::Asic;

use super::Device;
use super::seats::SeatTicket;

/// What [`Device::report_faults`] did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[must_use = "readers that sleep have to be woken"]
pub struct FaultsReported {
    /// Faults that were taken. Where there were any, there may be more.
    pub taken: u32,
    /// Whether readers that sleep have to be woken.
    pub wake: bool,
}

impl<A: Asic, P: Port> Device<'_, A, P> {
    /// Tells the users of all contexts what happened to the device. Returns whether one of them had
    /// read everything before, so that readers that sleep have to be woken.
    ///
    /// May be called in an interrupt: it takes the [interrupt lock](crate::Port::InterruptLock) of one
    /// seat after the other, and calls nothing of the port.
    pub fn post(&self, event: DeviceEvent) -> bool {
        let woken = self.seats.iter().filter(|seat| seat.post(event)).count();
        woken != 0
    }

    /// Takes the faults that the MMUs have captured, and tells the users of all contexts: no ASID is
    /// captured with a fault (facts FR-4). Each goes to `log` as well. For the thread that the handler of
    /// the fault interrupt wakes: it takes the MMUs' locks, which are held while they invalidate.
    ///
    /// Looks once at each place where an MMU captures, so that it ends however fast an engine goes on:
    /// call it again, when there is time, as long as it takes any.
    ///
    /// # Errors
    ///
    /// [`MmuError`] when a register cannot be read. Faults taken until then were reported.
    pub fn report_faults(&self, mut log: impl FnMut(Fault)) -> Result<FaultsReported, MmuError> {
        let mut reported = FaultsReported::default();
        let mut tell = |fault| {
            reported.taken += 1;
            reported.wake |= self.post(DeviceEvent::Fault(fault));
            log(fault);
        };
        let mut from = 0;
        // The lock is held for one of them at a time.
        while let Some(fault) = self.next_host_fault(&mut from)? {
            tell(fault);
        }
        if let Some(dram_mmu) = self.dram_mmu() {
            let mut from = 0;
            let mut next = || dram_mmu.lock().driver.next_fault(&mut from);
            while let Some(fault) = next()? {
                tell(fault);
            }
        }
        Ok(reported)
    }

    fn next_host_fault(&self, from: &mut u32) -> Result<Option<Fault>, MmuError> {
        self.mmu.lock().driver.next_fault(from)
    }

    /// What the user of a seat is to be told next.
    pub(crate) fn front_event(&self, ticket: &SeatTicket) -> Option<Report<DeviceEvent>> {
        self.with_events(ticket, |events| events.front())?
    }

    /// Removes what the user of a seat was told.
    pub(crate) fn confirm_event(
        &self,
        ticket: &SeatTicket,
        report: &Report<DeviceEvent>,
    ) -> Result<(), NotInFront> {
        self.with_events(ticket, |events| events.confirm(report))
            .unwrap_or(Err(NotInFront { next: 0 }))
    }
}
