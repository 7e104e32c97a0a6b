//! What can go wrong with an MMU, one variant for each decision a caller can take.

use core::fmt;

use mmu_core::BusAddr;

use crate::asid::Asid;

/// Why an MMU did not do what it was asked to, or why that is not certain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum MmuError {
    /// The hardware did not finish in time. What it was to do may happen later or never; whatever
    /// depends on it stays in quarantine until a later call succeeds.
    TimedOut {
        /// The offset of the register that did not change.
        register: u32,
    },
    /// Reads yield all ones: the device is gone, and only a reset may bring it back.
    DeviceLost,
    /// The MMU has not been enabled since the driver took it over, or was disabled again. Its
    /// caches are in no known state; enabling it empties them.
    Disabled,
    /// The MMU did not stay enabled, or did not get disabled, when told to.
    Stuck,
    /// The driver was not built for that many address spaces.
    AsidOutOfRange {
        /// The address space that was asked for.
        asid: Asid,
    },
    /// No table can be at that address: it is not a multiple of 4096, or the register that takes
    /// it has too few bits.
    UnusableRoot {
        /// The address that was given.
        root: BusAddr,
    },
}

impl fmt::Display for MmuError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut { register } => {
                write!(f, "the register at {register:#x} did not change in time")
            }
            Self::DeviceLost => f.write_str("the device does not answer"),
            Self::Disabled => f.write_str("the MMU is not enabled"),
            Self::Stuck => f.write_str("the MMU does not change between enabled and disabled"),
            Self::AsidOutOfRange { asid } => write!(f, "the MMU has no address space {asid}"),
            Self::UnusableRoot { root } => write!(f, "the root table cannot be at {root}"),
        }
    }
}

impl core::error::Error for MmuError {}
