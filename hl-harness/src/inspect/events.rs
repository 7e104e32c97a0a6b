//! The event log as plain data: what of it the inspection looks at.

use core::fmt;

use mmu_core::{BusAddr, DeviceAddr};
use serde::{Deserialize, Serialize};

use super::hex;
use crate::asic::{AccessKind, InvalidationScope, MmuInstance};
use crate::log::{self, TableMemory};

/// An event with its place in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Position in the log.
    pub sequence: u64,
    /// What happened.
    pub event: Event,
}

/// Something that happened, as [`log::Event`] has it. Register writes and whatever else says nothing
/// about the life of memory is left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Event {
    /// The root table of an ASID was latched.
    RootSet {
        /// The MMU.
        mmu: MmuInstance,
        /// The address space.
        asid: u16,
        /// The table.
        #[serde(with = "hex")]
        root: BusAddr,
    },
    /// An entry was stored.
    EntryStore {
        /// In which memory the table lies.
        memory: TableMemory,
        /// The address of the entry.
        #[serde(with = "hex")]
        address: BusAddr,
        /// The entry.
        #[serde(with = "hex")]
        entry: u64,
    },
    /// Posted writes became visible to the device.
    Flush {
        /// How many.
        posted: u64,
    },
    /// An invalidation was started.
    InvalidateBegin {
        /// The MMU.
        mmu: MmuInstance,
        /// What it covers.
        scope: InvalidationScope,
    },
    /// An invalidation took effect.
    InvalidateEnd {
        /// The MMU.
        mmu: MmuInstance,
        /// What it covered.
        scope: InvalidationScope,
        /// Cached items dropped.
        dropped: u64,
    },
    /// An invalidation got stuck.
    InvalidateStuck {
        /// The MMU.
        mmu: MmuInstance,
        /// What it should have covered.
        scope: InvalidationScope,
    },
    /// Tables went back to their pool.
    TableFree {
        /// In which memory they lie.
        memory: TableMemory,
        /// How many tables of this memory are still taken.
        used: u32,
    },
    /// A program says that a mapping is complete.
    Map(Claim),
    /// A program says that what a mapping held is kept, since its invalidation is not confirmed.
    Quarantine(Claim),
    /// A program says that what a mapping held is released.
    Release(Claim),
    /// A page frame was pinned.
    Pin {
        /// Its number.
        frame: u32,
    },
    /// A pin was taken off a page frame.
    Unpin {
        /// Its number.
        frame: u32,
        /// Pins left.
        left: u32,
    },
    /// A page frame was allocated.
    PageAllocate {
        /// Its number.
        frame: u32,
        /// For whom.
        owner: String,
    },
    /// A page frame was freed.
    PageFree {
        /// Its number.
        frame: u32,
    },
    /// The device touched a page frame that it must not.
    StrayAccess {
        /// Its number.
        frame: u32,
        /// Read or write.
        access: AccessKind,
    },
    /// The device used a device address.
    Translate {
        /// The address space.
        asid: u16,
        /// The address.
        #[serde(with = "hex")]
        address: DeviceAddr,
        /// Where it led.
        #[serde(with = "hex")]
        bus: BusAddr,
        /// Read or write.
        access: AccessKind,
    },
    /// An access was refused.
    Fault {
        /// The MMU.
        mmu: MmuInstance,
        /// The address space.
        asid: u16,
        /// The address.
        #[serde(with = "hex")]
        address: DeviceAddr,
        /// Read or write.
        access: AccessKind,
        /// Why.
        reason: String,
    },
    /// The device fell off the bus.
    DeviceLost,
    /// The device was reset.
    DeviceReset,
    /// A remark.
    Note {
        /// The remark.
        text: String,
    },
}

/// A mapping that a program speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The address space.
    pub asid: u16,
    /// Its first address.
    #[serde(with = "hex")]
    pub address: DeviceAddr,
    /// Its bytes.
    #[serde(with = "hex")]
    pub len: u64,
}

impl Event {
    /// What of an event is looked at; `None` where that is nothing.
    #[must_use]
    pub fn of(event: &log::Event) -> Option<Self> {
        use log::Event as Logged;
        let claim = |asid, address, len| Claim { asid, address, len };
        Some(match *event {
            Logged::RootSet { mmu, asid, root } => Self::RootSet { mmu, asid, root },
            Logged::EntryStore {
                memory,
                address,
                entry,
            } => Self::EntryStore {
                memory,
                address,
                entry,
            },
            Logged::Flush { posted } => Self::Flush { posted },
            Logged::InvalidateBegin { mmu, scope } => Self::InvalidateBegin { mmu, scope },
            Logged::InvalidateEnd {
                mmu,
                scope,
                dropped,
            } => Self::InvalidateEnd {
                mmu,
                scope,
                dropped,
            },
            Logged::InvalidateStuck { mmu, scope } => Self::InvalidateStuck { mmu, scope },
            Logged::TableFree { memory, used, .. } => Self::TableFree { memory, used },
            Logged::Map { asid, address, len } => Self::Map(claim(asid, address, len)),
            Logged::Quarantine { asid, address, len } => {
                Self::Quarantine(claim(asid, address, len))
            }
            Logged::Release { asid, address, len } => Self::Release(claim(asid, address, len)),
            Logged::Pin { frame, .. } => Self::Pin {
                frame: frame.number(),
            },
            Logged::Unpin { frame, pins, .. } => Self::Unpin {
                frame: frame.number(),
                left: pins,
            },
            Logged::PageAllocate { frame, owner } => Self::PageAllocate {
                frame: frame.number(),
                owner: owner.to_string(),
            },
            Logged::PageFree { frame, .. } => Self::PageFree {
                frame: frame.number(),
            },
            Logged::StrayAccess { frame, access, .. } => Self::StrayAccess {
                frame: frame.number(),
                access,
            },
            Logged::DmaTranslate {
                asid,
                address,
                bus,
                access,
                ..
            } => Self::Translate {
                asid,
                address,
                bus,
                access,
            },
            Logged::Fault {
                mmu,
                asid,
                address,
                access,
                reason,
            } => Self::Fault {
                mmu,
                asid,
                address,
                access,
                reason: reason.to_string(),
            },
            Logged::DeviceLost {} => Self::DeviceLost,
            Logged::DeviceReset {} => Self::DeviceReset,
            Logged::Note { text } => Self::Note {
                text: text.to_owned(),
            },
            Logged::ProtocolViolation { .. } | Logged::PoisonDamaged { .. } => Self::Note {
                text: event.to_string(),
            },
            Logged::RegisterWrite { .. }
            | Logged::RegisterUnknown { .. }
            | Logged::TableAllocate { .. }
            | Logged::PageMove { .. }
            | Logged::DmaComplete { .. } => return None,
        })
    }
}

impl Record {
    /// What of a log is looked at.
    pub(crate) fn all(log: &[log::Record]) -> Vec<Self> {
        let looked_at = |record: &log::Record| {
            Event::of(&record.event).map(|event| Self {
                sequence: record.sequence,
                event,
            })
        };
        log.iter().filter_map(looked_at).collect()
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "asid {} {} +{:#x}", self.asid, self.address, self.len)
    }
}
