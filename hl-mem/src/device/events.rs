//! What users are told of the device.

use crate::events::{DeviceEvent, NotInFront, Report};
use crate::mmu::{Fault, MmuControl, MmuError};
use crate::port::Port;
use crate::profile::Asic;

use super::Device;
use super::seats::SeatTicket;

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
    /// Returns whether readers that sleep have to be woken.
    ///
    /// # Errors
    ///
    /// [`MmuError`] when a register cannot be read. Faults taken until then were reported.
    pub fn report_faults(&self, mut log: impl FnMut(Fault)) -> Result<bool, MmuError> {
        let mut wake = false;
        loop {
            let fault = self.mmu.lock().driver.take_fault()?;
            let fault = match (fault, self.dram_mmu()) {
                (None, Some(dram_mmu)) => dram_mmu.lock().driver.take_fault()?,
                (fault, _) => fault,
            };
            let Some(fault) = fault else {
                return Ok(wake);
            };
            wake |= self.post(DeviceEvent::Fault(fault));
            log(fault);
        }
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
