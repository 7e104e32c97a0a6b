//! User addresses, and what can go wrong on the host.

use core::fmt;

use super::Frame;

/// An address of a modelled process. It is no pointer of this program, and no address type of the
/// libraries under test: what they are handed is converted at the edge.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserAddress(u64);

impl UserAddress {
    /// The address with this number.
    #[must_use]
    pub const fn new(address: u64) -> Self {
        Self(address)
    }

    /// The address as a bare number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The address `bytes` further on, wrapping at the top.
    #[must_use]
    pub const fn offset(self, bytes: u64) -> Self {
        Self(self.0.wrapping_add(bytes))
    }

    pub(crate) const fn is_multiple_of(self, bytes: u64) -> bool {
        self.0.is_multiple_of(bytes)
    }
}

impl fmt::Display for UserAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#018x}", self.0)
    }
}

impl fmt::Debug for UserAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UserAddress({:#x})", self.0)
    }
}

/// Why an access by user address failed: what would be a signal to a real process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UserFault {
    /// Nothing is mapped there.
    Hole {
        /// The first such address.
        address: UserAddress,
    },
    /// The page may not be written.
    ReadOnly {
        /// The first such address.
        address: UserAddress,
    },
    /// A number is misaligned.
    Misaligned {
        /// Its address.
        address: UserAddress,
    },
    /// The page is shared since a fork, and no page is left to copy it to.
    OutOfFrames {
        /// The first such address.
        address: UserAddress,
    },
}

impl fmt::Display for UserFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hole { address } => write!(f, "nothing is mapped at {address}"),
            Self::ReadOnly { address } => write!(f, "{address} is read-only"),
            Self::Misaligned { address } => write!(f, "{address} is misaligned"),
            Self::OutOfFrames { address } => write!(f, "no page is left for {address}"),
        }
    }
}

impl core::error::Error for UserFault {}

/// Why memory could not be mapped into a process; nothing was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MapError {
    /// No page is left.
    OutOfFrames,
    /// The address is not a multiple of 4 KiB, or the range is empty or wraps.
    BadRange,
    /// Something is mapped there.
    Occupied {
        /// The first such page.
        address: UserAddress,
    },
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfFrames => OutOfFrames.fmt(f),
            Self::BadRange => f.write_str("not a non-empty range of whole pages"),
            Self::Occupied { address } => write!(f, "{address} is mapped already"),
        }
    }
}

impl core::error::Error for MapError {}

impl From<OutOfFrames> for MapError {
    fn from(_: OutOfFrames) -> Self {
        Self::OutOfFrames
    }
}

/// A page could not be mapped for DMA; nothing was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoDmaMapping {
    /// The page.
    pub frame: Frame,
}

impl fmt::Display for NoDmaMapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cannot be mapped for dma", self.frame)
    }
}

impl core::error::Error for NoDmaMapping {}

/// No page is left, or no run of pages, or the allocation was made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfFrames;

impl fmt::Display for OutOfFrames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("out of physical pages")
    }
}

impl core::error::Error for OutOfFrames {}

/// Why a page could not be pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PinReason {
    /// Nothing is mapped there.
    Hole,
    /// It is read-only and was to be pinned for writing.
    ReadOnly,
    /// It is shared since a fork, and no page is left to copy it to.
    OutOfFrames,
    /// It was made to fail.
    Injected,
}

/// A pin that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PinError {
    /// The first page that could not be pinned.
    pub address: UserAddress,
    /// Why.
    pub reason: PinReason,
}

impl fmt::Display for PinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = match self.reason {
            PinReason::Hole => "nothing is mapped there",
            PinReason::ReadOnly => "it is read-only",
            PinReason::OutOfFrames => "no page is left for a copy of it",
            PinReason::Injected => "made to fail",
        };
        write!(f, "cannot pin {}: {reason}", self.address)
    }
}

impl core::error::Error for PinError {}

/// A page that was to be unpinned has no pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotPinned {
    /// The page.
    pub frame: Frame,
}

impl fmt::Display for NotPinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is not pinned", self.frame)
    }
}

impl core::error::Error for NotPinned {}
