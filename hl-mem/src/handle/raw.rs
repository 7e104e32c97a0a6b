//! Handles as numbers: what is in which bits.

use core::fmt;

use super::HandleError;

const SLOT_SHIFT: u32 = 12;
const GENERATION_SHIFT: u32 = 28;
const KIND_SHIFT: u32 = 59;

/// Slots that a handle can tell apart.
pub(super) const MAX_SLOTS: u32 = 1 << (GENERATION_SHIFT - SLOT_SHIFT);
/// Generations that a handle can tell apart.
pub(super) const GENERATIONS: u32 = 1 << (KIND_SHIFT - GENERATION_SHIFT);
const OFFSET_MASK: u64 = (1 << SLOT_SHIFT) - 1;

/// What a handle names.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum HandleKind {
    /// A command buffer (facts 8.3).
    CommandBuffer,
    /// Registers of the device that a user may map (facts 8.5).
    RegisterBlock,
    /// Memory shared by a producer and a consumer.
    Block,
    /// Timestamps that the driver writes and the user reads (facts 8.4).
    TimestampPool,
}

impl HandleKind {
    /// The code in bits 63:59 of a handle.
    const fn code(self) -> u64 {
        match self {
            Self::CommandBuffer => 0x2,
            Self::RegisterBlock => 0x4,
            Self::Block => 0x8,
            Self::TimestampPool => 0x10,
        }
    }

    const fn from_code(code: u64) -> Option<Self> {
        match code {
            0x2 => Some(Self::CommandBuffer),
            0x4 => Some(Self::RegisterBlock),
            0x8 => Some(Self::Block),
            0x10 => Some(Self::TimestampPool),
            _ => None,
        }
    }
}

impl fmt::Display for HandleKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CommandBuffer => "command buffer",
            Self::RegisterBlock => "register block",
            Self::Block => "block",
            Self::TimestampPool => "timestamp pool",
        })
    }
}

/// A number that a user passes for a handle: one that a table gave out, or any other.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct RawHandle(u64);

impl RawHandle {
    /// The number as it came from the user, unchecked.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number to give to the user, which is also the offset to pass to `mmap`, in bytes.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The kind that the number claims to name, by which `mmap` chooses what to do. Says nothing
    /// about whether there is such an object.
    ///
    /// # Errors
    ///
    /// [`HandleError::Malformed`] where no handle of any table can have these bits.
    pub const fn kind(self) -> Result<HandleKind, HandleError> {
        match HandleKind::from_code(self.0 >> KIND_SHIFT) {
            Some(kind) if self.0 & OFFSET_MASK == 0 => Ok(kind),
            _ => Err(HandleError::Malformed),
        }
    }

    pub(super) const fn compose(kind: HandleKind, slot: u32, generation: u32) -> Self {
        Self(
            (kind.code() << KIND_SHIFT)
                | ((generation as u64) << GENERATION_SHIFT)
                | ((slot as u64) << SLOT_SHIFT),
        )
    }

    pub(super) const fn slot(self) -> u32 {
        (self.0 >> SLOT_SHIFT) as u32 & (MAX_SLOTS - 1)
    }

    pub(super) const fn generation(self) -> u32 {
        (self.0 >> GENERATION_SHIFT) as u32 & (GENERATIONS - 1)
    }
}

impl fmt::Display for RawHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#018x}", self.0)
    }
}

impl fmt::Debug for RawHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawHandle({:#x})", self.0)
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for RawHandle {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "{=u64:#x}", self.0);
    }
}
