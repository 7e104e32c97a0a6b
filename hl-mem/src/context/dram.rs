//! Device memory of a context: allocated, mapped, and exported to peers.

use core::fmt;

use mmu_core::{AddrRange, DeviceAddr, Run};

use crate::device::{Device, DramError};
use crate::dram::{Contiguity, DramHold, OwnerUsage, PackError, PackHandle, Sharing};
use crate::identity::Identity;
use crate::owner::Owner;
use crate::port::Port;
use crate::profile::Asic;
use crate::space::{SpaceError, SpaceFailure, Wanted};

use super::{Backing, Context, ExportDramError, MapDramError, Stage};

/// Device memory that a peer on the bus uses: what a `dma-buf` of it owns.
///
/// While it exists its mapping is not unmapped and its memory not freed, whoever asks; it ends with
/// [`Context::end_export`]. Where the context is closed before, the mapping goes, and the memory stays
/// until [`Device::end_export`]. No other context or device takes it.
#[derive(Debug)]
#[must_use = "the memory stays exported until the export is ended"]
pub struct DramExport {
    hold: DramHold,
    device: Identity,
    owner: Owner,
    /// The mapping that it was exported through.
    at: DeviceAddr,
    offset: u64,
    bytes: u64,
}

impl DramExport {
    /// Bytes that are exported.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl<A: Asic, P: Port> Device<'_, A, P> {
    /// Gives `look` where a peer finds what is exported, in order, as bus addresses of the device's
    /// memory.
    pub fn with_export<T>(
        &self,
        export: &DramExport,
        look: impl FnOnce(&mut dyn Iterator<Item = Run>) -> T,
    ) -> T {
        let dram = self.dram.lock();
        // The part was checked when it was exported.
        let runs = dram.export_range(&export.hold, export.offset, export.bytes);
        look(&mut runs.into_iter().flatten())
    }

    /// Ends an export whose context is closed. The peer does not use the memory any more.
    ///
    /// # Errors
    ///
    /// Hands back an export of another device, and one whose context is not closed: its mapping has to
    /// know (see [`Context::end_export`]).
    pub fn end_export(&self, export: DramExport) -> Result<(), DramExport> {
        if export.device != self.identity || self.is_open(export.owner) {
            return Err(export);
        }
        self.release_dram_hold(export.hold);
        Ok(())
    }
}

impl<A: Asic, P: Port> Context<'_, '_, A, P> {
    /// Allocates device memory for this context, rounded up to whole pages.
    ///
    /// # Errors
    ///
    /// * [`DramError::Lost`], [`DramError::Reset`] when the device is of no use to this file;
    /// * [`DramError::Allocate`] when the pool has not as much, or none in one piece;
    /// * [`DramError::Scrub`] when pages that another owner used could not be scrubbed.
    pub fn allocate_dram(
        &self,
        bytes: u64,
        contiguity: Contiguity,
        sharing: Sharing,
    ) -> Result<PackHandle, DramError> {
        self.usable()?;
        self.device
            .allocate_dram(self.owner, bytes, contiguity, sharing)
    }

    /// The device memory that this context owns, mapped or not (facts DRAM-2). What it has mapped of
    /// another's is not among it, nor what is left to peers after it was freed.
    pub fn dram_usage(&self) -> OwnerUsage {
        self.device.dram.lock().usage_of(self.owner)
    }

    /// Frees device memory of this context.
    ///
    /// # Errors
    ///
    /// Those of [`DramPool::free`](crate::dram::DramPool::free), among them
    /// [`PackError::NotOwner`] for memory of another context.
    pub fn free_dram(&self, handle: PackHandle) -> Result<(), PackError> {
        self.device.free_dram(self.owner, handle)
    }

    /// Maps device memory into the user's address space. Returns its device address, which is what
    /// [`unmap`](Self::unmap) takes. The memory stays until then, whoever frees it.
    ///
    /// # Errors
    ///
    /// Each part that can refuse has its variant of [`MapDramError`].
    pub fn map_dram(&self, handle: PackHandle, wanted: Wanted) -> Result<DeviceAddr, MapDramError> {
        let has_tables = A::PROFILE.one_table || self.device.dram_mmu().is_some();
        if A::PROFILE.dram.mapped_at.is_none() || !has_tables {
            return Err(MapDramError::Unsupported);
        }
        let place = self.hold_place()?;
        let (hold, runs) = match self.device.hold_dram(self.owner, handle) {
            Ok(held) => held,
            Err(error) => {
                self.give_back(place);
                return Err(MapDramError::Pack(error));
            }
        };
        let mapped = {
            let space = &mut *self.space.lock();
            match (runs, &mut space.dram) {
                // By a constant, so that an ASIC has the code of one of the two.
                (Some(runs), _) if A::PROFILE.one_table => {
                    let space = &mut space.space;
                    space.map_dram(&self.removals.host, runs, wanted)
                }
                (Some(runs), Some(apart)) => apart.map_dram(&self.removals.dram, runs, wanted),
                // A hold of this pool has runs, and the tables were asked for above.
                _ => Err(SpaceFailure {
                    error: SpaceError::Runs,
                    detached: None,
                }),
            }
        };
        let backing = Backing::Dram { hold, exports: 0 };
        let (place, mapped) = self.establish(place, mapped, backing)?;
        let at = mapped.range().start();
        self.name(place, at, mapped);
        Ok(at)
    }

    /// Exports `bytes` of device memory from `offset` on to a peer: a part of what
    /// [`map_dram`](Self::map_dram) returned `at` for.
    ///
    /// # Errors
    ///
    /// * [`ExportDramError::Lost`], [`ExportDramError::Reset`] when the device is of no use to this file;
    /// * [`ExportDramError::NotMapped`] when no device memory is mapped there;
    /// * [`ExportDramError::Range`] for a part that is empty, not in steps of 4 KiB, or does not lie
    ///   within the mapping (facts EX-1);
    /// * [`ExportDramError::OutOfReach`] when a peer does not reach all of it through the device's
    ///   window.
    pub fn export_dram(
        &self,
        at: DeviceAddr,
        bytes: u64,
        offset: u64,
    ) -> Result<DramExport, ExportDramError> {
        self.usable()?;
        let window = self.device.options.peer_window;
        let window = window.ok_or(ExportDramError::OutOfReach)?;
        let mut space = self.space.lock();
        let mut dram = self.device.dram.lock();
        let not_mapped = ExportDramError::NotMapped { at };
        let mapping = space.mappings.get_mut(at).ok_or(not_mapped)?;
        let Stage::Live(mapped) = &mut mapping.0 else {
            return Err(not_mapped);
        };
        let Backing::Dram { hold, exports } = mapped.backing_mut() else {
            return Err(not_mapped);
        };
        let mut runs = dram
            .export_range(hold, offset, bytes)
            .map_err(ExportDramError::Range)?;
        if !runs.all(|run| window.contains_range(run)) {
            return Err(ExportDramError::OutOfReach);
        }
        let counted = exports.checked_add(1).ok_or(ExportDramError::TooMany)?;
        let hold = dram
            .hold_again(hold)
            .map_err(|_| ExportDramError::TooMany)?;
        *exports = counted;
        Ok(DramExport {
            hold,
            device: self.device.identity,
            owner: self.owner,
            at,
            offset,
            bytes,
        })
    }

    /// Ends an export. The peer does not use the memory any more.
    ///
    /// # Errors
    ///
    /// Hands back an export of another context.
    pub fn end_export(&self, export: DramExport) -> Result<(), DramExport> {
        if export.device != self.device.identity || export.owner != self.owner {
            return Err(export);
        }
        {
            let space = &mut *self.space.lock();
            let mapping = space.mappings.get_mut(export.at);
            if let Some(Stage::Live(mapped)) = mapping.map(|mapping| &mut mapping.0)
                && let Backing::Dram { exports, .. } = mapped.backing_mut()
            {
                *exports = exports.saturating_sub(1);
            }
        }
        self.device.release_dram_hold(export.hold);
        Ok(())
    }
}

impl fmt::Display for DramExport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match AddrRange::new(self.at, self.bytes) {
            Some(range) => write!(f, "export of {range}, {:#x} bytes in", self.offset),
            None => f.write_str("export of nothing"),
        }
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for DramExport {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(
            f,
            "export of {=u64:#x} bytes at {}, {=u64:#x} in",
            self.bytes,
            self.at,
            self.offset
        );
    }
}
