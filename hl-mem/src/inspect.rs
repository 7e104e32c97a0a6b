//! What an address space consists of, for people who look at it.
//!
//! [`Context::inspect`](crate::Context::inspect) and [`Device::inspect`](crate::Device::inspect)
//! show one space part by part, as its allocators and its registry have it. What the page tables
//! say is another matter, and comparing the two is what looking is for.

use mmu_core::{AddrRange, DeviceAddr, Run};

/// The kind of memory behind a mapping.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Backing {
    /// Pinned pages of a process.
    Pinned,
    /// Kernel pages of a block.
    Block,
    /// Kernel pages of a buffer that the driver mapped for a user.
    Buffer,
    /// Device memory.
    DeviceMemory,
    /// What the driver mapped in a window.
    Window,
}

/// How far the life of a mapping is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Stage {
    /// The device may use it.
    Live,
    /// It was mapped when the device was reset, and leads nowhere since; it is still to be removed.
    Lost,
    /// It is removed, and no invalidation proves that the device has forgotten it.
    Quarantined,
}

/// One part of an address space.
#[non_exhaustive]
pub enum Part<'a> {
    /// Device addresses that are free.
    Free(AddrRange<DeviceAddr>),
    /// A mapping that owns the memory behind it.
    Mapping {
        /// Its device addresses: whole pages.
        range: AddrRange<DeviceAddr>,
        /// The kind of memory.
        backing: Backing,
        /// How far its life is.
        stage: Stage,
        /// The memory, as the device addresses it, in the order of the device addresses.
        runs: &'a mut dyn Iterator<Item = Run>,
    },
}

impl core::fmt::Debug for Part<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Free(range) => write!(f, "free {range}"),
            Self::Mapping {
                range,
                backing,
                stage,
                ..
            } => {
                write!(f, "{stage:?} {backing:?} at {range}")
            }
        }
    }
}
