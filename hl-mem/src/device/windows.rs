//! Windows: addresses at which the driver itself maps something, and which no allocator hands out.

use core::fmt;

use mmu_core::{AddrRange, DeviceAddr, Run};

use crate::host::{DmaRun, seen_by_device};
use crate::mmu::MmuControl;
use crate::port::Port;
use crate::profile::{Asic, Profile};
use crate::space::{Detached, Mapped, Privileged};

use super::{Device, MapWindowError, Privilege, Unconfirmed};

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
    const fn bit(self) -> u8 {
        match self {
            Self::Firmware => 1,
            Self::Processor => 2,
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

/// What is mapped in a window of the privileged space. It ends with [`Device::unmap_window`].
#[must_use = "the memory stays mapped until the window is unmapped"]
pub struct WindowMapping {
    window: PrivilegedWindow,
    state: State,
}

enum State {
    Mapped(Mapped<Privileged, ()>),
    Detached(Detached<Privileged, ()>),
}

impl fmt::Debug for WindowMapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.state {
            State::Mapped(mapped) => write!(f, "{:?} at {}", self.window, mapped.range()),
            State::Detached(_) => write!(f, "{:?}, in quarantine", self.window),
        }
    }
}

impl<A: Asic, P: Port> Device<'_, A, P> {
    /// Maps memory at the start of a window of the privileged space, with the largest leaves that it
    /// allows. A reset of the device undoes it: unmap it then, and map it anew after
    /// [`recover`](Self::recover).
    ///
    /// # Errors
    ///
    /// Each part that can refuse has its variant of [`MapWindowError`]. With
    /// [`MapWindowError::Space`] and [`MapWindowError::Mmu`] there is a mapping inside where the device
    /// may have seen a part of it and does not confirm that it forgot it: unmap it later.
    pub fn map_window(
        &self,
        _privilege: &Privilege,
        window: PrivilegedWindow,
        memory: WindowMemory,
    ) -> Result<WindowMapping, (MapWindowError, Option<WindowMapping>)> {
        let range = window.range(&A::PROFILE);
        let range = range.ok_or((MapWindowError::NoWindow, None))?;
        let run = memory.run(&A::PROFILE);
        let (range, run) = run
            .and_then(|run| Some((part_of(range, run)?, run)))
            .ok_or((MapWindowError::Memory, None))?;
        {
            let windows = &mut self.shown.lock().windows;
            if *windows & window.bit() != 0 {
                return Err((MapWindowError::Occupied, None));
            }
            *windows |= window.bit();
        }
        let mapped = self.privileged.lock().map_window(range, run);
        let mapped = match mapped {
            Ok(mapped) => mapped,
            Err(failure) => {
                let left = match failure.detached {
                    Some(detached) => self.end_window(window, detached).err(),
                    None => {
                        self.shown.lock().windows &= !window.bit();
                        None
                    }
                };
                let error = MapWindowError::Space(failure.error);
                return Err((error, left.map(|(mapping, _)| mapping)));
            }
        };
        let announced = self.mmu.lock().driver.announce();
        match announced {
            Ok(()) => Ok(WindowMapping {
                window,
                state: State::Mapped(mapped),
            }),
            Err(error) => {
                let detached = self.privileged.lock().unmap(mapped);
                let left = self.end_window(window, detached).err();
                let error = MapWindowError::Mmu(error);
                Err((error, left.map(|(mapping, _)| mapping)))
            }
        }
    }

    /// Unmaps what is in a window. Whatever used it has been stopped. The memory is the driver's again
    /// when this returned `Ok`.
    ///
    /// # Errors
    ///
    /// Hands the mapping back when the device does not confirm that it has forgotten it.
    pub fn unmap_window(
        &self,
        _privilege: &Privilege,
        mapping: WindowMapping,
    ) -> Result<(), (WindowMapping, Unconfirmed)> {
        let detached = match mapping.state {
            State::Mapped(mapped) => self.privileged.lock().unmap(mapped),
            State::Detached(detached) => detached,
        };
        self.end_window(mapping.window, detached)
    }

    /// Everything after the removal.
    fn end_window(
        &self,
        window: PrivilegedWindow,
        detached: Detached<Privileged, ()>,
    ) -> Result<(), (WindowMapping, Unconfirmed)> {
        let settled = self.settle_privileged(detached.batch());
        let released = self.privileged.lock().release(detached);
        match (released, settled) {
            (Err(detached), Err(error)) => {
                let state = State::Detached(detached);
                Err((WindowMapping { window, state }, error))
            }
            // A batch that was settled is confirmed, by whoever settled it.
            _ => {
                self.shown.lock().windows &= !window.bit();
                Ok(())
            }
        }
    }
}

/// The addresses of a run that is mapped at the start of a window; `None` where it does not fit.
pub(crate) fn part_of(window: AddrRange<DeviceAddr>, run: Run) -> Option<AddrRange<DeviceAddr>> {
    let range = AddrRange::new(window.start(), run.len())?;
    window.contains_range(range).then_some(range)
}
