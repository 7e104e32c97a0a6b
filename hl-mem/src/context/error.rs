//! What can go wrong with a context, one variant for each decision a caller can take.

use core::fmt;

use mmu_core::{DeviceAddr, MapError};

use crate::budget::OverBudget;
use crate::device::{RetireError, Unconfirmed, tells_unusable};
use crate::dram::{ExportError, PackError};
use crate::handle::HandleError;
use crate::host::HostError;
use crate::mmu::MmuError;
use crate::space::SpaceError;
use crate::timestamps::{NoSuchCounter, RegisterError};
use crate::va::LayoutError;

/// Why a file could not be opened. Nothing has changed, but that the storage is used up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum OpenError {
    /// The driver has [noted](crate::Device::note_lost) that the device is lost. Nothing has changed.
    Lost,
    /// Every address space has its user.
    NoAddressSpace,
    /// The storage does not suffice for the address ranges.
    Storage(LayoutError),
    /// The page for stray accesses could not be mapped.
    DefaultPage(MapError),
    /// The engines that are to work for the user are not given his address space.
    Engines,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost => f.write_str("the device is lost"),
            Self::NoAddressSpace => f.write_str("every address space has its user"),
            Self::Storage(error) => write!(f, "the storage does not suffice: {error}"),
            Self::DefaultPage(error) => write!(f, "no page for stray accesses: {error}"),
            Self::Engines => f.write_str("the engines are not given the address space"),
        }
    }
}

impl core::error::Error for OpenError {}

/// Why user memory is not mapped. Nothing has changed, except where the device may have seen a
/// part of the mapping and does not confirm that it is gone: then its pages are in quarantine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum MapUserError {
    /// There are as many mappings as there may be.
    TooManyMappings,
    /// The driver has [noted](crate::Device::note_lost) that the device is lost. Nothing has changed.
    Lost,
    /// The device was reset since the file was opened: its address space leads nowhere any more.
    Reset,
    /// The file is being [closed](crate::Context::close), which failed so far.
    Closing,
    /// The owner may not have so much memory pinned.
    Budget(OverBudget),
    /// The pages could not be pinned.
    Host(HostError),
    /// The port pinned less than it was asked for, or more. None of it is pinned any more.
    Pinned {
        /// Bytes that it was asked for.
        asked: u64,
        /// Bytes that it pinned.
        got: u64,
    },
    /// The pages could not be mapped.
    Space(SpaceError),
    /// The MMU did not take note of the mapping.
    Mmu(MmuError),
}

impl fmt::Display for MapUserError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooManyMappings => f.write_str("there are as many mappings as there may be"),
            Self::Lost => f.write_str("the device is lost"),
            Self::Reset => f.write_str("the device was reset since the file was opened"),
            Self::Closing => f.write_str("the file is being closed"),
            Self::Budget(error) => write!(f, "{error}"),
            Self::Host(error) => write!(f, "{error}"),
            Self::Pinned { asked, got } => {
                write!(f, "the host pinned {got:#x} bytes and not {asked:#x}")
            }
            Self::Space(error) => write!(f, "{error}"),
            Self::Mmu(error) => write!(f, "the MMU did not take note of the mapping: {error}"),
        }
    }
}

impl core::error::Error for MapUserError {}

/// Why device memory is not mapped. Nothing has changed, except as with [`MapUserError`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum MapDramError {
    /// The ASIC uses device memory by its own addresses, or the device was given no tables for it.
    Unsupported,
    /// There are as many mappings as there may be.
    TooManyMappings,
    /// The driver has [noted](crate::Device::note_lost) that the device is lost. Nothing has changed.
    Lost,
    /// The device was reset since the file was opened: its address space leads nowhere any more.
    Reset,
    /// The file is being [closed](crate::Context::close), which failed so far.
    Closing,
    /// The handle names no device memory that this context may map.
    Pack(PackError),
    /// The pages could not be mapped.
    Space(SpaceError),
    /// The MMU did not take note of the mapping.
    Mmu(MmuError),
}

impl fmt::Display for MapDramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsupported => f.write_str("device memory is not mapped on this ASIC"),
            Self::TooManyMappings => f.write_str("there are as many mappings as there may be"),
            Self::Lost => f.write_str("the device is lost"),
            Self::Reset => f.write_str("the device was reset since the file was opened"),
            Self::Closing => f.write_str("the file is being closed"),
            Self::Pack(error) => write!(f, "{error}"),
            Self::Space(error) => write!(f, "{error}"),
            Self::Mmu(error) => write!(f, "the MMU did not take note of the mapping: {error}"),
        }
    }
}

impl core::error::Error for MapDramError {}

/// Why user memory is not unmapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum UnmapUserError {
    /// No mapping of this user was given that address. Nothing has changed.
    NotMapped {
        /// The address.
        at: DeviceAddr,
    },
    /// A peer uses the device memory through this mapping. Nothing has changed.
    Exported {
        /// The address.
        at: DeviceAddr,
    },
    /// The mapping is removed, but the device does not confirm it: its addresses and pages are in
    /// quarantine.
    Unconfirmed(Unconfirmed),
}

impl fmt::Display for UnmapUserError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotMapped { at } => write!(f, "no mapping has the address {at}"),
            Self::Exported { at } => write!(f, "what is mapped at {at} is exported"),
            Self::Unconfirmed(error) => write!(f, "{error}"),
        }
    }
}

impl core::error::Error for UnmapUserError {}

/// Why something is not shown to the user. Nothing has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum ViewError {
    /// The driver has [noted](crate::Device::note_lost) that the device is lost. Nothing has changed.
    Lost,
    /// The device was reset since the file was opened, which is of no use any more.
    Reset,
    /// The file is being [closed](crate::Context::close), which failed so far.
    Closing,
    /// The handle names nothing of this file.
    Handle(HandleError),
    /// The length is not exactly that of what it names.
    Length {
        /// What it would have to be, in bytes.
        expected: u64,
    },
    /// It is shown already.
    Viewed,
    /// The host refuses.
    Host(HostError),
}

impl fmt::Display for ViewError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost => f.write_str("the device is lost"),
            Self::Reset => f.write_str("the device was reset since the file was opened"),
            Self::Closing => f.write_str("the file is being closed"),
            Self::Handle(error) => write!(f, "{error}"),
            Self::Length { expected } => write!(f, "it has {expected:#x} bytes"),
            Self::Viewed => f.write_str("it is shown already"),
            Self::Host(error) => write!(f, "{error}"),
        }
    }
}

impl core::error::Error for ViewError {}

/// Why a kernel buffer is not destroyed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum DestroyError<E> {
    /// The handle does not name a buffer of that kind of this file. Nothing has changed.
    Handle(HandleError),
    /// The handle is gone, but the block is in quarantine with the device.
    Retire(RetireError<E>),
    /// The handle is gone, but the mapping in the user's address space is in quarantine, and the
    /// buffer with it.
    Unconfirmed(Unconfirmed),
}

impl<E: fmt::Display> fmt::Display for DestroyError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Handle(error) => write!(f, "{error}"),
            Self::Retire(error) => write!(f, "{error}"),
            Self::Unconfirmed(error) => write!(f, "{error}"),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> core::error::Error for DestroyError<E> {}

/// Why device memory is not exported. Nothing has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum ExportDramError {
    /// The driver has [noted](crate::Device::note_lost) that the device is lost. Nothing has changed.
    Lost,
    /// The device was reset since the file was opened, which is of no use any more.
    Reset,
    /// The file is being [closed](crate::Context::close), which failed so far.
    Closing,
    /// No device memory of this user is mapped at the address.
    NotMapped {
        /// The address.
        at: DeviceAddr,
    },
    /// The part is not one of the memory that is mapped there.
    Range(ExportError),
    /// Peers do not reach all of it.
    OutOfReach,
    /// It is exported 2^32 - 1 times.
    TooMany,
}

impl fmt::Display for ExportDramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost => f.write_str("the device is lost"),
            Self::Reset => f.write_str("the device was reset since the file was opened"),
            Self::Closing => f.write_str("the file is being closed"),
            Self::NotMapped { at } => write!(f, "no device memory is mapped at {at}"),
            Self::Range(error) => write!(f, "{error}"),
            Self::OutOfReach => f.write_str("peers do not reach all of it"),
            Self::TooMany => f.write_str("it is exported too often"),
        }
    }
}

impl core::error::Error for ExportDramError {}

/// Why there is no handle for registers. Nothing has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum RegisterBlockError {
    /// The driver has [noted](crate::Device::note_lost) that the device is lost. Nothing has changed.
    Lost,
    /// The device was reset since the file was opened, which is of no use any more.
    Reset,
    /// The file is being [closed](crate::Context::close), which failed so far.
    Closing,
    /// Users may not map any registers of this device.
    NoBlocks,
    /// Users may not map registers of that address, or there are none.
    Unknown,
    /// The file has as many handles as it may have.
    TooManyHandles,
}

impl fmt::Display for RegisterBlockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lost => "the device is lost",
            Self::Reset => "the device was reset since the file was opened",
            Self::Closing => "the file is being closed",
            Self::NoBlocks => "the device has no registers for users",
            Self::Unknown => "no registers for users have that address",
            Self::TooManyHandles => "the file has as many handles as it may have",
        })
    }
}

impl core::error::Error for RegisterBlockError {}

/// Why a timestamp is not registered. Nothing has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum RegisterTimestampError {
    /// The driver has [noted](crate::Device::note_lost) that the device is lost. Nothing has changed.
    Lost,
    /// The device was reset since the file was opened, which is of no use any more.
    Reset,
    /// The file is being [closed](crate::Context::close), which failed so far.
    Closing,
    /// The handle does not name timestamps of this file.
    Handle(HandleError),
    /// There is no such counter.
    Counter(NoSuchCounter),
    /// The pool or what waits with it refuses.
    Register(RegisterError),
}

impl fmt::Display for RegisterTimestampError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost => f.write_str("the device is lost"),
            Self::Reset => f.write_str("the device was reset since the file was opened"),
            Self::Closing => f.write_str("the file is being closed"),
            Self::Handle(error) => write!(f, "{error}"),
            Self::Counter(error) => write!(f, "{error}"),
            Self::Register(error) => write!(f, "{error}"),
        }
    }
}

impl core::error::Error for RegisterTimestampError {}

tells_unusable!(
    MapUserError,
    MapDramError,
    ViewError,
    ExportDramError,
    RegisterBlockError,
    RegisterTimestampError
);
