//! The right to the privileged address space of one device.

use core::fmt;

use mmu_core::{AddrRange, DeviceAddr};

use crate::buffer::BufferId;
use crate::dram::PackError;
use crate::identity::Identity;
use crate::port::Port;
use crate::profile::Asic;

use super::{Device, TableOf, Unconfirmed};

/// The right to have memory mapped in the privileged address space of one device.
///
/// There is one for each device, made with it. The driver keeps it; no request carries it, and
/// nothing that handles requests has it. Every call that takes it compares it with the device, and a
/// driver of several devices that gives one that of another is refused, with [`ForeignPrivilege`] or
/// the variant of that name, before anything happens.
#[derive(Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Privilege(Identity);

/// The privilege is that of another device. Nothing was done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct ForeignPrivilege;

impl fmt::Display for ForeignPrivilege {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the privilege is that of another device")
    }
}

impl core::error::Error for ForeignPrivilege {}

/// Why the driver is not told where the device finds a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum BlockRangeError {
    /// The privilege is that of another device.
    ForeignPrivilege,
    /// The driver has [noted](crate::Device::note_lost) that the device is lost.
    Lost,
    /// The device does not find it any more: the block was given up, or the device was reset since it
    /// was made (facts 11.15).
    Unmapped,
}

impl fmt::Display for BlockRangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ForeignPrivilege => ForeignPrivilege.fmt(f),
            Self::Lost => f.write_str("the device is lost"),
            Self::Unmapped => f.write_str("the block is not mapped any more"),
        }
    }
}

impl core::error::Error for BlockRangeError {}

/// Why the driver is not told where device memory is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum DramRunError {
    /// The privilege is that of another device.
    ForeignPrivilege,
    /// The driver has [noted](crate::Device::note_lost) that the device is lost.
    Lost,
    /// The owner has no such memory.
    Pack(PackError),
}

impl fmt::Display for DramRunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ForeignPrivilege => ForeignPrivilege.fmt(f),
            Self::Lost => f.write_str("the device is lost"),
            Self::Pack(error) => write!(f, "{error}"),
        }
    }
}

impl core::error::Error for DramRunError {}

/// Why a window is not unmapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum UnmapWindowError {
    /// The privilege is that of another device. Nothing was done.
    ForeignPrivilege,
    /// The removal is not confirmed: the window stays occupied.
    Unconfirmed(Unconfirmed),
}

impl fmt::Display for UnmapWindowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ForeignPrivilege => ForeignPrivilege.fmt(f),
            Self::Unconfirmed(error) => write!(f, "{error}"),
        }
    }
}

impl core::error::Error for UnmapWindowError {}

macro_rules! has_foreign_privilege {
    ($($error:ty),*) => {
        $(
            impl From<ForeignPrivilege> for $error {
                fn from(_: ForeignPrivilege) -> Self {
                    Self::ForeignPrivilege
                }
            }
        )*
    };
}
has_foreign_privilege!(
    BlockRangeError,
    DramRunError,
    UnmapWindowError,
    super::BufferError,
    super::MapBufferError,
    super::MapWindowError
);

impl<A: Asic, P: Port> Device<'_, A, P> {
    /// Makes the privilege of a device of that identity.
    pub(super) fn privilege(identity: Identity) -> Privilege {
        Privilege(identity)
    }

    /// Sees to it that a privilege is this device's.
    pub(crate) fn check(&self, privilege: &Privilege) -> Result<(), ForeignPrivilege> {
        if privilege.0 == self.identity {
            Ok(())
        } else {
            Err(ForeignPrivilege)
        }
    }

    /// Gives `look` the page table of the privileged address space, for inspection.
    ///
    /// # Errors
    ///
    /// [`ForeignPrivilege`].
    pub fn with_privileged_table<T>(
        &self,
        privilege: &Privilege,
        look: impl FnOnce(&TableOf<A, P>) -> T,
    ) -> Result<T, ForeignPrivilege> {
        self.check(privilege)?;
        Ok(look(self.privileged.lock().space.table()))
    }

    /// Where the device finds a block, for programming its engines.
    ///
    /// # Errors
    ///
    /// * [`BlockRangeError::ForeignPrivilege`];
    /// * [`BlockRangeError::Lost`] while the device is [lost](Self::note_lost);
    /// * [`BlockRangeError::Unmapped`] when the device does not find it any more.
    pub fn block_range(
        &self,
        privilege: &Privilege,
        block: BufferId,
    ) -> Result<AddrRange<DeviceAddr>, BlockRangeError> {
        self.check(privilege)?;
        if self.is_lost() {
            return Err(BlockRangeError::Lost);
        }
        let resets = self.resets();
        let range = self.shown.lock().buffers.live_range(block, resets);
        range.ok_or(BlockRangeError::Unmapped)
    }
}
