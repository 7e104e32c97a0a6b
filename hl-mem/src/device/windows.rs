//! Windows: addresses at which the driver itself maps something, and which no allocator hands out.

use mmu_core::{AddrRange, DeviceAddr, Run};

use crate::host::{DmaRun, seen_by_device};
use crate::inspect::Stage;
use crate::mmu::MmuControl;
use crate::port::Port;
use crate::profile::{Asic, Profile};
use crate::space::{Detached, Left, Mapped, NotEstablished, Privileged, establish};

use super::{
    Device, MapWindowError, Privilege, PrivilegedSpace, SpaceOf, Unconfirmed, UnmapWindowError,
};

/// A window of the privileged address space (facts KM-4, HW-GO-5); Goya has them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum PrivilegedWindow {
    /// Where the device's own processor finds the image of its firmware.
    Firmware,
    /// Where it finds the host memory that it shares with the driver.
    Processor,
}

impl PrivilegedWindow {
    fn place(self, windows: &mut Windows) -> &mut Option<InWindow> {
        let [firmware, processor] = windows;
        match self {
            Self::Firmware => firmware,
            Self::Processor => processor,
        }
    }

    const fn range(self, profile: &Profile) -> Option<AddrRange<DeviceAddr>> {
        match (&profile.privileged, self) {
            (Some(windows), Self::Firmware) => Some(windows.firmware),
            (Some(windows), Self::Processor) => Some(windows.processor),
            (None, _) => None,
        }
    }
}

/// Memory for a window, in one run. The driver keeps it for as long as it is mapped there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum WindowMemory {
    /// Memory or registers of the device, by physical address.
    Device(Run),
    /// Coherent memory of the host.
    Host(DmaRun),
}

impl WindowMemory {
    /// What the entries of a table have; `None` where the device does not reach it.
    pub(crate) fn run(self, profile: &Profile) -> Option<Run> {
        match self {
            Self::Device(run) => Some(run),
            Self::Host(run) => seen_by_device(run, profile),
        }
    }
}

/// What is in the windows of the privileged space, by [`PrivilegedWindow::place`].
pub(super) type Windows = [Option<InWindow>; 2];

pub(super) enum InWindow {
    /// When the device had been reset so many times.
    Mapped(Mapped<Privileged, Run>, u32),
    /// Removed, or never mapped as a whole, and not proved to be gone from the device.
    Quarantined(Detached<Privileged, Run>),
}

impl InWindow {
    /// Where it is in a device that was reset so many times, how far its life is, and the memory.
    pub(super) fn part(&self, resets: u32) -> (AddrRange<DeviceAddr>, Stage, Run) {
        match self {
            Self::Mapped(mapped, since) => {
                let stage = if *since == resets {
                    Stage::Live
                } else {
                    Stage::Lost
                };
                (mapped.range(), stage, *mapped.backing())
            }
            Self::Quarantined(gone) => (gone.range(), Stage::Quarantined, *gone.backing()),
        }
    }
}

impl<A: Asic, P: Port> Device<'_, A, P> {
    /// Maps memory at the start of a window of the privileged space, with the largest leaves that it
    /// allows, and tells where. The driver keeps the memory for as long as something is in the window.
    /// A reset of the device undoes the mapping: [unmap](Self::unmap_window) it then, and map it anew
    /// after [`recover`](Self::recover).
    ///
    /// # Errors
    ///
    /// Each part that can refuse has its variant of [`MapWindowError`]; nothing is mapped while the device is
    /// [lost](Self::note_lost). After
    /// [`MapWindowError::Space`] and [`MapWindowError::Mmu`] the window stays occupied where the device
    /// may have seen a part of the mapping and does not confirm that it forgot it: unmap it later.
    pub fn map_window(
        &self,
        privilege: &Privilege,
        window: PrivilegedWindow,
        memory: WindowMemory,
    ) -> Result<AddrRange<DeviceAddr>, MapWindowError> {
        self.check(privilege)?;
        self.usable()?;
        let range = window.range(&A::PROFILE);
        let range = range.ok_or(MapWindowError::NoWindow)?;
        let run = memory.run(&A::PROFILE);
        let (range, run) = run
            .and_then(|run| Some((part_of(range, run)?, run)))
            .ok_or(MapWindowError::Memory)?;
        // Held to the end, so that nobody else uses the window meanwhile.
        let PrivilegedSpace { space, windows } = &mut *self.privileged.lock();
        let place = window.place(windows);
        if place.is_some() {
            return Err(MapWindowError::Occupied);
        }
        let written = space.map_window(&self.removals, range, run);
        let announce = || self.mmu.lock().driver.announce();
        let unmap = |mapped| space.unmap(&self.removals, mapped);
        let NotEstablished { error, left } = match establish(written, run, announce, unmap) {
            Ok(mapped) => {
                *place = Some(InWindow::Mapped(mapped, self.resets()));
                return Ok(range);
            }
            Err(not) => not,
        };
        if let Left::Detached(detached) = left {
            // The error that came first is the one that counts.
            let _ = self.end_window(space, place, detached);
        }
        Err(error.into())
    }

    /// Unmaps what is in a window, if anything is. Whatever used it has been stopped. The memory is
    /// the driver's again when this returned `Ok`.
    ///
    /// # Errors
    ///
    /// * [`UnmapWindowError::ForeignPrivilege`];
    /// * [`UnmapWindowError::Unconfirmed`] when the device does not confirm that it has forgotten it: the
    ///   window stays occupied, and this can be called again.
    pub fn unmap_window(
        &self,
        privilege: &Privilege,
        window: PrivilegedWindow,
    ) -> Result<(), UnmapWindowError> {
        self.check(privilege)?;
        let PrivilegedSpace { space, windows } = &mut *self.privileged.lock();
        let place = window.place(windows);
        let detached = match place.take() {
            None => return Ok(()),
            Some(InWindow::Mapped(mapped, _)) => space.unmap(&self.removals, mapped),
            Some(InWindow::Quarantined(detached)) => detached,
        };
        let ended = self.end_window(space, place, detached);
        ended.map_err(UnmapWindowError::Unconfirmed)
    }

    /// Everything after the removal.
    fn end_window(
        &self,
        space: &mut SpaceOf<Privileged, A, P>,
        place: &mut Option<InWindow>,
        detached: Detached<Privileged, Run>,
    ) -> Result<(), Unconfirmed> {
        let settled = self.settle_privileged(detached.batch());
        match detached.proven(settled.ok()) {
            // The memory was the driver's all the while.
            Ok(proven) => {
                let _ = space.release(proven);
            }
            Err(detached) => *place = Some(InWindow::Quarantined(detached)),
        }
        settled.map(drop)
    }
}

/// The addresses of a run that is mapped at the start of a window; `None` where it does not fit.
pub(crate) fn part_of(window: AddrRange<DeviceAddr>, run: Run) -> Option<AddrRange<DeviceAddr>> {
    let range = AddrRange::new(window.start(), run.len())?;
    window.contains_range(range).then_some(range)
}
