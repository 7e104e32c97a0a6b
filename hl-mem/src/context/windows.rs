//! Windows of a user's address space, where the driver maps what the user's engines need.

use mmu_core::DeviceAddr;

use crate::device::{MapWindowError, Privilege, WindowMemory, part_of};
use crate::port::Port;
use crate::profile::Asic;

use super::{Backing, Context, Stage, UserMapping};

impl<A: Asic, P: Port> Context<'_, '_, A, P> {
    /// Maps memory at the start of a window of the user's address space, such as the doorbell of
    /// Gaudi2 (facts KM-2), on the driver's behalf: the user's unmap does not find it. It stays until
    /// the file is closed. Returns where that is.
    ///
    /// `window` is an address in one of the fixed windows of the ASIC's
    /// [range for host memory](crate::profile::VaRange::fixed).
    ///
    /// # Errors
    ///
    /// Each part that can refuse has its variant of [`MapWindowError`].
    pub fn map_window(
        &self,
        privilege: &Privilege,
        window: DeviceAddr,
        memory: WindowMemory,
    ) -> Result<DeviceAddr, MapWindowError> {
        self.device.check(privilege)?;
        self.usable()?;
        let mut windows = A::PROFILE.host.fixed.iter();
        let window = windows
            .find(|range| range.contains(window))
            .ok_or(MapWindowError::NoWindow)?;
        let run = memory.run(&A::PROFILE);
        let (range, run) = run
            .and_then(|run| Some((part_of(*window, run)?, run)))
            .ok_or(MapWindowError::Memory)?;
        let place = self.hold_place()?;
        let mapped = {
            let space = &mut self.space.lock().space;
            space.map_window(&self.removals.host, range, run)
        };
        let (place, mapped) = self.establish(place, mapped, Backing::Window(run))?;
        let mapping = UserMapping(Stage::Live(mapped));
        // Closing finds it without its name.
        let _ = self.space.lock().mappings.keep(place, mapping);
        Ok(range.start())
    }
}
