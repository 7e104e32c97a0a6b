//! What can be refused.

use core::fmt;

use mmu_core::DeviceAddr;

use super::VaBlock;

/// Why a [`VaLayout`](super::VaLayout) and a storage make no allocator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum LayoutError {
    /// The page size is zero.
    ZeroPage,
    /// The region is smaller than one page.
    RegionBelowOnePage,
    /// The region does not start or does not end on a page boundary; `at` is its start.
    UnalignedRegion {
        /// Start of the region.
        at: DeviceAddr,
    },
    /// The large page is not a multiple of the page.
    LargePage {
        /// The large page asked for, in bytes.
        bytes: u64,
    },
    /// A window does not lie wholly inside the region.
    WindowOutsideRegion {
        /// Start of the window.
        at: DeviceAddr,
    },
    /// A window does not start or does not end on a page boundary.
    UnalignedWindow {
        /// Start of the window.
        at: DeviceAddr,
    },
    /// Two windows share an address.
    WindowsOverlap {
        /// The first shared address of the window found second.
        at: DeviceAddr,
    },
    /// The storage has fewer nodes than the windows cut the region into pieces.
    NoNodes,
}

impl core::error::Error for LayoutError {}

impl fmt::Display for LayoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ZeroPage => f.write_str("the page size is zero"),
            Self::RegionBelowOnePage => f.write_str("the region is smaller than one page"),
            Self::UnalignedRegion { at } => {
                write!(f, "the region at {at} is not made of whole pages")
            }
            Self::LargePage { bytes } => {
                write!(
                    f,
                    "large page of {bytes:#x} bytes is no multiple of the page"
                )
            }
            Self::WindowOutsideRegion { at } => write!(f, "window at {at} is outside the region"),
            Self::UnalignedWindow { at } => write!(f, "window at {at} is not made of whole pages"),
            Self::WindowsOverlap { at } => write!(f, "windows overlap at {at}"),
            Self::NoNodes => f.write_str("not enough nodes for the windows"),
        }
    }
}

/// Why an allocation was refused. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum AllocateError {
    /// Zero bytes were asked for.
    ZeroLength,
    /// The alignment neither divides the page nor is a multiple of it.
    Alignment {
        /// The alignment asked for, in bytes.
        align: u64,
    },
    /// The exact address is not on a page boundary.
    Unaligned {
        /// The address asked for.
        at: DeviceAddr,
    },
    /// The range at the exact address does not lie wholly inside the region.
    OutsideRegion {
        /// The address asked for.
        at: DeviceAddr,
    },
    /// The range at the exact address is not free, lies across a fixed window, or crosses an edge
    /// of a reserved one.
    HintTaken {
        /// The first address of the range that is in the way.
        at: DeviceAddr,
    },
    /// No free extent outside the reserved windows is long enough at this alignment.
    NoSpace,
    /// The storage has no node left for another block. Freeing any block makes one available.
    NoNodes,
}

impl core::error::Error for AllocateError {}

impl fmt::Display for AllocateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ZeroLength => f.write_str("zero bytes asked for"),
            Self::Alignment { align } => {
                write!(
                    f,
                    "alignment {align:#x} neither divides the page nor is a multiple of it"
                )
            }
            Self::Unaligned { at } => write!(f, "{at} is not on a page boundary"),
            Self::OutsideRegion { at } => write!(f, "range at {at} is outside the region"),
            Self::HintTaken { at } => write!(f, "{at} is not available"),
            Self::NoSpace => f.write_str("no free extent is long enough"),
            Self::NoNodes => f.write_str("no node left for another block"),
        }
    }
}

/// A block was given to an allocator that it does not come from. Nothing has changed; the block is
/// inside, to be given to the right one.
#[derive(Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[must_use = "the block inside is lost if this is dropped"]
pub struct ForeignBlock(pub(super) VaBlock);

impl ForeignBlock {
    /// The block, unchanged.
    pub fn into_block(self) -> VaBlock {
        self.0
    }
}

impl core::error::Error for ForeignBlock {}

impl fmt::Display for ForeignBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "block {} comes from another allocator", self.0.range())
    }
}
