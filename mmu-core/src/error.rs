//! What can go wrong, one variant for each decision a caller can take.

use core::fmt;

use crate::addr::{BusAddr, DeviceAddr};

/// Why nothing was mapped. Tables, counts and the pool are as they were before the call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum MapError {
    /// The format cannot translate all addresses of the range.
    OutOfRange {
        /// The first address of the range.
        at: DeviceAddr,
    },
    /// The device address or the length is no multiple of the smallest leaf allowed.
    Misaligned {
        /// The first address of the range.
        at: DeviceAddr,
    },
    /// A run's address or length is no multiple of the smallest leaf allowed.
    MisalignedRun {
        /// The first address of the run.
        bus: BusAddr,
    },
    /// A leaf cannot hold the addresses of a run.
    RunOutOfRange {
        /// The first address of the run.
        bus: BusAddr,
    },
    /// The runs end before the range does, or go on after it.
    LengthMismatch {
        /// The device address up to which the runs reach, or the end of the range where they go
        /// on after it.
        at: DeviceAddr,
    },
    /// The iterator of runs did not yield the same runs when it was cloned. The device may have
    /// seen some of them: what they point at must not be used for anything else before the next
    /// removal from the page table, which covers them, is confirmed.
    RunsChanged,
    /// Something is mapped in the range already.
    AlreadyMapped {
        /// The first address for which that was found.
        at: DeviceAddr,
    },
    /// There are too few free tables.
    NoTableMemory {
        /// How many tables the whole request needs.
        needed: u64,
    },
    /// The set of allowed leaf sizes has none that the format has.
    NoLeafSize,
    /// Leaves of another size than those of the default mapping would lie in its range. There, a
    /// leaf takes the place of a default leaf, and nothing else can.
    InDefaultRange {
        /// The first address for which that was found.
        at: DeviceAddr,
    },
    /// The table memory cannot have a default mapping.
    NoDefaults,
    /// An entry points at a table that does not belong to the pool.
    Corrupt {
        /// An address whose walk uses that entry.
        at: DeviceAddr,
    },
    /// The device does not answer. It may have seen some of the runs, as after
    /// [`RunsChanged`](Self::RunsChanged).
    DeviceLost,
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfRange { at } => write!(f, "the format cannot translate the range at {at}"),
            Self::Misaligned { at } => write!(f, "the range at {at} is not whole leaves"),
            Self::MisalignedRun { bus } => write!(f, "the run at {bus} is not whole leaves"),
            Self::RunOutOfRange { bus } => write!(f, "a leaf cannot hold the run at {bus}"),
            Self::LengthMismatch { at } => write!(f, "the runs and the range part at {at}"),
            Self::RunsChanged => f.write_str("the runs changed between two passes over them"),
            Self::AlreadyMapped { at } => write!(f, "{at} is mapped already"),
            Self::NoTableMemory { needed } => write!(f, "no memory for {needed} tables"),
            Self::NoLeafSize => f.write_str("no leaf size of the format is allowed"),
            Self::InDefaultRange { at } => {
                write!(
                    f,
                    "a leaf at {at} is not as large as the default leaves there"
                )
            }
            Self::NoDefaults => f.write_str("the table memory cannot have a default mapping"),
            Self::Corrupt { at } => write!(f, "the walk of {at} leaves the pool"),
            Self::DeviceLost => f.write_str("the device does not answer"),
        }
    }
}

impl core::error::Error for MapError {}

/// Why nothing was unmapped, or given other attributes. Tables, counts and the pool are as they
/// were before the call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum UnmapError {
    /// The format cannot translate all addresses of the range.
    OutOfRange {
        /// The first address of the range.
        at: DeviceAddr,
    },
    /// The device address or the length is no multiple of the format's smallest leaf.
    Misaligned {
        /// The first address of the range.
        at: DeviceAddr,
    },
    /// A part of the range is not mapped.
    NotMapped {
        /// The first address of the range that is not.
        at: DeviceAddr,
    },
    /// A leaf reaches beyond the range.
    WouldSplit {
        /// The first address of that leaf.
        leaf: DeviceAddr,
    },
    /// An entry points at a table that does not belong to the pool.
    Corrupt {
        /// An address whose walk uses that entry.
        at: DeviceAddr,
    },
}

impl fmt::Display for UnmapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfRange { at } => write!(f, "the format cannot translate the range at {at}"),
            Self::Misaligned { at } => write!(f, "the range at {at} is not whole leaves"),
            Self::NotMapped { at } => write!(f, "{at} is not mapped"),
            Self::WouldSplit { leaf } => write!(f, "the leaf at {leaf} reaches beyond the range"),
            Self::Corrupt { at } => write!(f, "the walk of {at} leaves the pool"),
        }
    }
}

impl core::error::Error for UnmapError {}

/// Why there is no translation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum QueryError {
    /// The format cannot translate the address.
    OutOfRange {
        /// The address.
        at: DeviceAddr,
    },
    /// The address is not mapped.
    NotMapped {
        /// The address.
        at: DeviceAddr,
    },
    /// An entry points at a table that does not belong to the pool.
    Corrupt {
        /// The address.
        at: DeviceAddr,
    },
}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfRange { at } => write!(f, "the format cannot translate {at}"),
            Self::NotMapped { at } => write!(f, "{at} is not mapped"),
            Self::Corrupt { at } => write!(f, "the walk of {at} leaves the pool"),
        }
    }
}

impl core::error::Error for QueryError {}

/// Why a leaf was not split. It still maps what it mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum SplitError {
    /// The format cannot translate the address.
    OutOfRange {
        /// The address.
        at: DeviceAddr,
    },
    /// The address is not mapped.
    NotMapped {
        /// The address.
        at: DeviceAddr,
    },
    /// The format has no leaves at the hop below the leaf's.
    NoSmallerLeaf {
        /// The first address of the leaf.
        leaf: DeviceAddr,
    },
    /// The leaf lies in the range of the default mapping, where leaves have one size.
    InDefaultRange {
        /// The first address of the leaf.
        leaf: DeviceAddr,
    },
    /// There is no free table.
    NoTableMemory,
    /// An entry points at a table that does not belong to the pool.
    Corrupt {
        /// The address.
        at: DeviceAddr,
    },
    /// The device does not answer.
    DeviceLost,
}

impl fmt::Display for SplitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfRange { at } => write!(f, "the format cannot translate {at}"),
            Self::NotMapped { at } => write!(f, "{at} is not mapped"),
            Self::NoSmallerLeaf { leaf } => write!(f, "no leaf is smaller than the one at {leaf}"),
            Self::InDefaultRange { leaf } => {
                write!(f, "the leaf at {leaf} replaces a default leaf")
            }
            Self::NoTableMemory => f.write_str("no memory for a table"),
            Self::Corrupt { at } => write!(f, "the walk of {at} leaves the pool"),
            Self::DeviceLost => f.write_str("the device does not answer"),
        }
    }
}

impl core::error::Error for SplitError {}
