//! How a device ends.

use core::convert::Infallible;
use core::fmt;

use mmu_core::{Format, Invalidate, PageTable, Stale, TableMemory};

use crate::buffer::{BufferSlot, BufferUsage};
use crate::dram::DramPool;
use crate::mmu::{MmuControl, MmuError};
use crate::port::Port;
use crate::profile::Asic;

use super::{Device, DramMmu, HostMmu, KernelPages, PrivilegedSpace, Seat};

/// What a device was made of, once it has ended. The page tables are back in their pools.
///
/// Of the nodes of the privileged space those that the ASIC has no range for went when the device came
/// up.
pub struct ShutDown<'d, A: Asic, P: Port> {
    /// Pages of host memory.
    pub host: P::Host,
    /// The engines.
    pub engines: P::Engines,
    /// The driver of the MMU, which is disabled.
    pub mmu: P::Mmu,
    /// The same for device memory, where that is another one.
    pub dram_mmu: Option<P::DramMmu>,
    /// Nodes of the range of pages of the privileged space.
    pub nodes: P::Nodes,
    /// Nodes of its range of large leaves, where the ASIC has one.
    pub large_nodes: Option<P::Nodes>,
    /// Places for kernel buffers.
    pub buffers: &'d mut [BufferSlot<KernelPages<P>>],
    /// Places for users.
    pub seats: &'d mut [Seat<A, P>],
    /// The device's own memory, all of it free.
    pub dram: DramPool<'d>,
    /// What overwrites it.
    pub scrubber: P::Scrubber,
}

impl<A: Asic, P: Port> fmt::Debug for ShutDown<'_, A, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (buffers, seats) = (self.buffers.len(), self.seats.len());
        write!(f, "ShutDown({buffers} buffers, {seats} seats)")
    }
}

/// What keeps a device from ending. How many of them there are is in
/// [`Device::usage`](crate::Device::usage).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum StillUsed {
    /// A context that was not closed, or that was dropped instead.
    Context,
    /// A kernel buffer with a handle, a view or a hold, or in
    /// [quarantine](crate::Device::settle_quarantine).
    Buffer,
    /// A view of registers.
    Registers,
    /// A window with something in it.
    Window,
    /// A removal from the privileged space that is not confirmed.
    Removal,
    /// Device memory that is exported, being scrubbed, or somebody's.
    DeviceMemory,
    /// An MMU that cannot be seen to be disabled. It counts as disabled: if the device is to go on, it
    /// needs [`recover`](crate::Device::recover).
    Mmu(MmuError),
}

impl fmt::Display for StillUsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Context => f.write_str("a context is open"),
            Self::Buffer => f.write_str("a kernel buffer is in use or in quarantine"),
            Self::Registers => f.write_str("registers are shown"),
            Self::Window => f.write_str("a window is occupied"),
            Self::Removal => f.write_str("a removal is not confirmed"),
            Self::DeviceMemory => f.write_str("device memory is in use"),
            Self::Mmu(error) => write!(f, "the MMU is not seen to be disabled: {error}"),
        }
    }
}

/// A device that does not end, and why. It has the device, as it was.
#[must_use = "the device is in here, and its storage with it"]
pub struct ShutDownError<'d, A: Asic, P: Port> {
    device: Device<'d, A, P>,
    reason: StillUsed,
}

impl<'d, A: Asic, P: Port> ShutDownError<'d, A, P> {
    /// Why the device does not end.
    pub fn reason(&self) -> StillUsed {
        self.reason
    }

    /// The device.
    pub fn into_device(self) -> Device<'d, A, P> {
        self.device
    }
}

impl<A: Asic, P: Port> fmt::Debug for ShutDownError<'_, A, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShutDownError")
            .field("device", &self.device)
            .field("reason", &self.reason)
            .finish()
    }
}

impl<A: Asic, P: Port> fmt::Display for ShutDownError<'_, A, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the device does not end: {}", self.reason)
    }
}

impl<A: Asic, P: Port> core::error::Error for ShutDownError<'_, A, P> {}

#[cfg(feature = "defmt")]
impl<A: Asic, P: Port> defmt::Format for ShutDownError<'_, A, P> {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "the device does not end: {}", self.reason);
    }
}

/// Every MMU that walked a table was seen to be disabled.
struct Disabled;

#[expect(unsafe_code, reason = "a disabled MMU has nothing to forget")]
// SAFETY: made when `disable` of each MMU that had the tables as roots has returned `Ok`. From then on
// nothing is translated until `enable`, after which no translation made before is in any cache (clauses
// 5 and 1 of `MmuControl`): 1, 3. The initiators were halted before, as `disable` wants it: 2.
unsafe impl Invalidate for Disabled {
    type Error = Infallible;

    fn invalidate(&mut self, _stale: &Stale) -> Result<(), Infallible> {
        Ok(())
    }
}

impl<'d, A: Asic, P: Port> Device<'d, A, P> {
    /// Ends a device that nobody uses any more: disables its MMUs, gives all page tables back to
    /// their pools, and gives back what it was made of. Needs no memory.
    ///
    /// All initiators are halted before: what a device accesses with a disabled MMU is not translated,
    /// and reaches any bus address.
    ///
    /// # Errors
    ///
    /// [`ShutDownError`] has the device, as it was but for an MMU that was disabled meanwhile: see
    /// [`StillUsed`]. A table that the device's memory no longer takes (the device is lost) is lost to
    /// its pool.
    #[expect(
        clippy::result_large_err,
        reason = "the device itself is what the error hands back"
    )]
    pub fn shut_down(mut self) -> Result<ShutDown<'d, A, P>, ShutDownError<'d, A, P>> {
        let unused = self.unused().and_then(|()| {
            // In the opposite order to that of bringing up.
            if let Some(dram_mmu) = &mut self.dram_mmu {
                let disabled = dram_mmu.get_mut().driver.disable();
                disabled.map_err(StillUsed::Mmu)?;
            }
            let disabled = self.mmu.get_mut().driver.disable();
            disabled.map_err(StillUsed::Mmu)
        });
        if let Err(reason) = unused {
            let device = self;
            return Err(ShutDownError { device, reason });
        }
        for seat in self.seats.iter_mut() {
            if let Some(tables) = seat.end() {
                give_back(tables.host);
                if let Some(dram) = tables.dram {
                    give_back(dram);
                }
            }
        }
        let (table, addresses) = self.privileged.into_inner().space.into_parts();
        give_back(table);
        let HostMmu {
            driver: mmu,
            parking,
            ..
        } = self.mmu.into_inner();
        give_back(parking);
        let dram_mmu = self.dram_mmu.map(|dram_mmu| {
            let DramMmu {
                driver,
                parking,
                privileged,
                ..
            } = dram_mmu.into_inner();
            give_back(privileged);
            give_back(parking);
            driver
        });
        Ok(ShutDown {
            host: self.host,
            engines: self.engines,
            mmu,
            dram_mmu,
            nodes: addresses.small.into_storage(),
            large_nodes: addresses.large.map(|large| large.into_storage()),
            buffers: self.shown.into_inner().buffers.into_slots(),
            seats: self.seats,
            dram: self.dram.into_inner(),
            scrubber: self.scrubber.into_inner(),
        })
    }

    /// Sees to it that nobody uses the device.
    fn unused(&mut self) -> Result<(), StillUsed> {
        let free = |unused, reason| if unused { Ok(()) } else { Err(reason) };
        let seats_are_free = self.seats.iter().all(|seat| !seat.is_taken());
        free(seats_are_free, StillUsed::Context)?;
        let shown = self.shown.get_mut();
        let no_buffers = shown.buffers.usage() == BufferUsage::default();
        free(no_buffers, StillUsed::Buffer)?;
        free(shown.register_views == 0, StillUsed::Registers)?;
        let PrivilegedSpace { space, windows } = self.privileged.get_mut();
        let [firmware, processor] = windows;
        let no_windows = firmware.is_none() && processor.is_none();
        free(no_windows, StillUsed::Window)?;
        let confirmed = self.removals.get_mut().waiting().is_none();
        free(space.is_idle() && confirmed, StillUsed::Removal)?;
        let dram = self.dram.get_mut().usage();
        let dram_is_free = dram.allocated == 0 && dram.scrubbing == 0;
        free(dram_is_free, StillUsed::DeviceMemory)
    }
}

/// Gives the tables of a page table back, which no MMU walks any more.
// Not inlined: it is called for each table by itself, and once in the life of a device.
#[inline(never)]
fn give_back<F: Format, M: TableMemory>(table: PageTable<F, M>) {
    // What the device's memory does not take any more is lost to the pool.
    let _ = table.close().confirm(&mut Disabled);
}
