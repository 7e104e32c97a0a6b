//! What an MMU reports about accesses it did not let pass.

use core::fmt;

use mmu_core::{AddrRange, DeviceAddr};

/// Why an MMU stopped an access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum FaultKind {
    /// Nothing is mapped at the address.
    Page,
    /// The address is mapped, but the access was refused.
    Access,
    /// Another of the causes that Gaudi2 distinguishes, none of which captures an address
    /// (facts FR-1).
    Other {
        /// The number of the bit in the cause register.
        cause: u8,
    },
}

/// An access that an MMU stopped. No ASID is captured with it (facts FR-4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Fault {
    /// Why.
    pub kind: FaultKind,
    /// The addresses among which the access was: one byte where the hardware captures it exactly,
    /// a chunk of device memory where it does not, and `None` where it captured nothing.
    pub at: Option<AddrRange<DeviceAddr>>,
    /// Which of several like MMUs: 0 to 15 for the HMMUs of Gaudi2, 0 for all others.
    pub instance: u8,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            FaultKind::Page => f.write_str("page fault")?,
            FaultKind::Access => f.write_str("access error")?,
            FaultKind::Other { cause } => write!(f, "MMU cause {cause}")?,
        }
        if let Some(at) = self.at {
            write!(f, " in {at}")?;
        }
        write!(f, " (MMU {})", self.instance)
    }
}
