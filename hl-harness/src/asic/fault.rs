//! Faults: what the device reports when it refuses an access.

use core::fmt;

use mmu_core::{BusAddr, DeviceAddr};
use serde::{Deserialize, Serialize};

/// Which MMU of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MmuInstance {
    /// The only one, on Goya and Gaudi.
    Single,
    /// Gaudi2's MMU for host memory.
    Pmmu,
    /// Gaudi2's MMU for device memory with this number, 0 to 15: four times the dcore plus the index.
    Hmmu(u8),
}

impl fmt::Display for MmuInstance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Single => f.write_str("mmu"),
            Self::Pmmu => f.write_str("pmmu"),
            Self::Hmmu(number) => write!(f, "hmmu{number}"),
        }
    }
}

/// Something of the device that makes accesses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InitiatorId(pub(crate) u32);

impl fmt::Display for InitiatorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "initiator {}", self.0)
    }
}

/// Whether memory is read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccessKind {
    /// The device reads.
    Read,
    /// The device writes.
    Write,
}

impl fmt::Display for AccessKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
        })
    }
}

/// Why an access was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultReason {
    /// The entry at this hop is not present (or was not when it was cached).
    NotPresent {
        /// The hop of the entry.
        hop: u8,
    },
    /// No root table was ever latched for the ASID.
    NoRoot,
    /// The MMU is not enabled.
    Disabled,
    /// The entry breaks the format: a bit outside present, last and address; a leaf at a hop that has
    /// none; a leaf not aligned to its size; no leaf at the last hop. What silicon does then is
    /// not known (facts UK-1), so the model is strict.
    Malformed {
        /// The hop of the entry.
        hop: u8,
        /// The entry.
        entry: u64,
    },
    /// A table could not be read.
    TableFetch {
        /// The hop of the table.
        hop: u8,
        /// Where the entry should be.
        address: BusAddr,
    },
    /// The translated address belongs to nothing.
    Decode {
        /// The translated address.
        bus: BusAddr,
    },
    /// The initiator may not address device memory directly: it is not in bypass mode, and on this
    /// ASIC device memory lies behind the MMU.
    DirectRefused,
    /// A 32-bit atomic access to an address that is not a multiple of four.
    Misaligned,
}

impl fmt::Display for FaultReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotPresent { hop } => write!(f, "not present at hop {hop}"),
            Self::NoRoot => f.write_str("no root table"),
            Self::Disabled => f.write_str("mmu not enabled"),
            Self::Malformed { hop, entry } => {
                write!(f, "malformed entry {entry:#018x} at hop {hop}")
            }
            Self::TableFetch { hop, address } => {
                write!(f, "hop {hop} entry at {address} cannot be read")
            }
            Self::Decode { bus } => write!(f, "nothing at {bus}"),
            Self::DirectRefused => f.write_str("direct access to device memory refused"),
            Self::Misaligned => f.write_str("misaligned atomic access"),
        }
    }
}

/// A refused access, with everything that identifies it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The MMU that refused.
    pub mmu: MmuInstance,
    /// Who made the access.
    pub initiator: InitiatorId,
    /// The address space it was made in; 0 for privileged and for bypass.
    pub asid: u16,
    /// The first address that was refused, as the initiator sent it (never scrambled).
    pub address: DeviceAddr,
    /// Read or write.
    pub access: AccessKind,
    /// Why.
    pub reason: FaultReason,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of {} by {} in asid {} refused by {}: {}",
            self.access, self.address, self.initiator, self.asid, self.mmu, self.reason
        )
    }
}

/// Why an access stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stopped {
    /// The device refused it.
    Fault(Fault),
    /// The device is off the bus and does nothing.
    Lost,
    /// The initiator is halted and does nothing.
    Halted,
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fault(fault) => fault.fmt(f),
            Self::Lost => f.write_str("the device is lost"),
            Self::Halted => f.write_str("the initiator is halted"),
        }
    }
}

/// An access or a DMA that did not end, with how far it got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessError {
    /// Bytes transferred before it stopped.
    pub bytes_done: u64,
    /// Why it stopped.
    pub stopped: Stopped,
}

impl AccessError {
    /// The fault, where it was one.
    #[must_use]
    pub fn fault(&self) -> Option<Fault> {
        match self.stopped {
            Stopped::Fault(fault) => Some(fault),
            Stopped::Lost | Stopped::Halted => None,
        }
    }
}

impl fmt::Display for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "stopped after {:#x} bytes: {}",
            self.bytes_done, self.stopped
        )
    }
}

impl core::error::Error for AccessError {}
