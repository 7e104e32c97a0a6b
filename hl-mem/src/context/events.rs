//! What the user of a context is told of the device.

use crate::events::{DeviceEvent, NotInFront, Report};
use crate::port::Port;
use crate::profile::Asic;

use super::Context;

impl<A: Asic, P: Port> Context<'_, '_, A, P> {
    /// What the user is to be told next, which stays there until it is
    /// [confirmed](Self::confirm_event); `None` when everything was read. Of events that were too many
    /// to be kept there is a report with their number.
    #[must_use]
    pub fn next_event(&self) -> Option<Report<DeviceEvent>> {
        self.device.front_event(&self.seat)
    }

    /// Removes what the user was told.
    ///
    /// # Errors
    ///
    /// [`NotInFront`] if the report is not about what comes next. Nothing is removed then.
    pub fn confirm_event(&self, report: &Report<DeviceEvent>) -> Result<(), NotInFront> {
        self.device.confirm_event(&self.seat, report)
    }
}
