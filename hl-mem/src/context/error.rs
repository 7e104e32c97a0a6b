//! What can go wrong with a context, one variant for each decision a caller can take.

use core::fmt;

use mmu_core::DeviceAddr;

use crate::budget::OverBudget;
use crate::device::{RetireError, Unconfirmed};
use crate::dram::PackError;
use crate::handle::HandleError;
use crate::host::HostError;
use crate::mmu::MmuError;
use crate::space::SpaceError;
use crate::va::LayoutError;

/// Why a file could not be opened. Nothing has changed, but that the storage is used up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum OpenError {
    /// Every address space has its user.
    NoAddressSpace,
    /// The storage does not suffice for the address ranges.
    Storage(LayoutError),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAddressSpace => f.write_str("every address space has its user"),
            Self::Storage(error) => write!(f, "the storage does not suffice: {error}"),
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
    /// The owner may not have so much memory pinned.
    Budget(OverBudget),
    /// The pages could not be pinned.
    Host(HostError),
    /// The pages could not be mapped.
    Space(SpaceError),
    /// The MMU did not take note of the mapping.
    Mmu(MmuError),
}

impl fmt::Display for MapUserError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooManyMappings => f.write_str("there are as many mappings as there may be"),
            Self::Budget(error) => write!(f, "{error}"),
            Self::Host(error) => write!(f, "{error}"),
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
    /// The mapping is removed, but the device does not confirm it: its addresses and pages are in
    /// quarantine.
    Unconfirmed(Unconfirmed),
}

impl fmt::Display for UnmapUserError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotMapped { at } => write!(f, "no mapping has the address {at}"),
            Self::Unconfirmed(error) => write!(f, "{error}"),
        }
    }
}

impl core::error::Error for UnmapUserError {}

/// Why a block is not shown to the user. Nothing has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum ViewError {
    /// The handle does not name a block of this file.
    Handle(HandleError),
    /// The length is not exactly the block's.
    Length {
        /// The block's length in bytes.
        expected: u64,
    },
    /// The block is shown already.
    Viewed,
    /// The host refuses.
    Host(HostError),
}

impl fmt::Display for ViewError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Handle(error) => write!(f, "{error}"),
            Self::Length { expected } => write!(f, "the block has {expected:#x} bytes"),
            Self::Viewed => f.write_str("the block is shown already"),
            Self::Host(error) => write!(f, "{error}"),
        }
    }
}

impl core::error::Error for ViewError {}

/// Why a block is not destroyed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum DestroyError<E> {
    /// The handle does not name a block of this file. Nothing has changed.
    Handle(HandleError),
    /// The handle is gone, but the block is in quarantine.
    Retire(RetireError<E>),
}

impl<E: fmt::Display> fmt::Display for DestroyError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Handle(error) => write!(f, "{error}"),
            Self::Retire(error) => write!(f, "{error}"),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> core::error::Error for DestroyError<E> {}
