//! What can be refused.

use core::fmt;

use mmu_core::Run;

/// Why a region and a storage make no pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum RegionError {
    /// The page size is zero, or the page size or the base is no multiple of 4096.
    Misaligned,
    /// The region has no pages, or more than can be numbered.
    PageCount,
    /// The region would reach beyond 2^64.
    BeyondTop,
    /// There are fewer page records than pages.
    TooFewPageRecords {
        /// Records that are needed: one per page.
        needed: u32,
    },
}

impl fmt::Display for RegionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Misaligned => f.write_str("base and page size must be multiples of 4096 bytes"),
            Self::PageCount => f.write_str("the pages of the region cannot be numbered"),
            Self::BeyondTop => f.write_str("the region reaches beyond 2^64"),
            Self::TooFewPageRecords { needed } => write!(f, "the pool needs {needed} page records"),
        }
    }
}

impl core::error::Error for RegionError {}

/// Why device memory cannot be allocated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum AllocateError {
    /// Zero bytes were asked for.
    ZeroLength,
    /// The size rounded up to pages is 2^64 or more.
    TooLarge,
    /// There are not as many pages free, or not in one run.
    NoMemory,
    /// There is room once memory has been scrubbed that another owner used.
    Unscrubbed {
        /// The first piece to scrub, to be taken with
        /// [`take_dirty`](super::DramPool::take_dirty). Asking again may name another.
        first: Run,
    },
    /// There is room once scrubs under way elsewhere have ended.
    ScrubUnderWay,
    /// Every pack record is in use.
    NoPackRecord,
}

impl fmt::Display for AllocateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ZeroLength => f.write_str("zero bytes of device memory are asked for"),
            Self::TooLarge => f.write_str("the size in whole pages is 2^64 or more"),
            Self::NoMemory => f.write_str("there is not as much device memory free"),
            Self::Unscrubbed { first } => write!(f, "{first} must be scrubbed first"),
            Self::ScrubUnderWay => f.write_str("the memory is being scrubbed"),
            Self::NoPackRecord => f.write_str("every pack record is in use"),
        }
    }
}

impl core::error::Error for AllocateError {}

/// Why a pack cannot be used as asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum PackError {
    /// The pool has not given the number out.
    Unknown,
    /// The pack of this handle has been freed, or its owner is gone.
    Stale,
    /// The pack belongs to another owner.
    NotOwner,
    /// The memory [lost its content](super::DramPool::lose_content) since the pack was allocated: it can be
    /// freed, and no more.
    Lost,
    /// The pack is mapped or exported.
    Held {
        /// By how many.
        holds: u32,
    },
    /// The pack is held 2^32 - 1 times.
    TooManyHolds,
}

impl fmt::Display for PackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("the handle names no device memory"),
            Self::Stale => f.write_str("the device memory of the handle has been freed"),
            Self::NotOwner => f.write_str("the device memory belongs to another owner"),
            Self::Lost => f.write_str("the device memory has lost its content"),
            Self::Held { holds } => write!(f, "the device memory is in use {holds} times"),
            Self::TooManyHolds => f.write_str("the device memory is in use 2^32 - 1 times"),
        }
    }
}

impl core::error::Error for PackError {}

/// Why a part of a pack cannot be exported.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum ExportError {
    /// Zero bytes were asked for.
    ZeroLength,
    /// Offset or length is no multiple of 4096.
    Misaligned,
    /// The part does not end within the pack.
    OutOfRange,
    /// The hold is one of another pool.
    Foreign,
}

impl fmt::Display for ExportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ZeroLength => "zero bytes are to be exported",
            Self::Misaligned => "offset and length must be multiples of 4096 bytes",
            Self::OutOfRange => "the part to export does not end within the device memory",
            Self::Foreign => "the device memory is that of another pool",
        })
    }
}

impl core::error::Error for ExportError {}

/// Something was returned to a pool that did not hand it out; it is inside.
#[derive(PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Foreign<T>(pub T);

impl<T> fmt::Display for Foreign<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("what is returned comes from another pool")
    }
}

impl<T: fmt::Debug> core::error::Error for Foreign<T> {}
