//! The life of each mapping, told from the event log.
//!
//! Nobody is believed. Every entry store of the log is replayed into a memory of its own, from the
//! roots that the MMUs latched, so that it is known which device addresses a store gives or takes,
//! whatever the program says it did. An invalidation counts for a mapping when it came after the
//! flush that came after the clearing, on every MMU that translates the mapping, and dropped both
//! translations and table lines. Release is what the host saw: a pin taken off, a page freed; for
//! memory that the host does not see, what the program says.

mod memory;
mod replay;

use core::fmt;
use std::collections::HashMap;

use mmu_core::DeviceAddr;

use super::state::{Backing, Extent, MappingState, State};
use crate::asic::MmuInstance;

/// The lives of all mappings that the log of a [`State`] tells of, in the order of their beginnings.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The mappings.
    pub lives: Vec<Life>,
    /// What concerns page tables or pages and no single mapping.
    pub offences: Vec<Offence>,
    /// Whether the log begins after something was mapped, so that not every life is known.
    pub begins_late: bool,
}

/// The life of one mapping. Each moment is a sequence number of the log.
#[derive(Clone, Debug)]
pub struct Life {
    /// The address space.
    pub asid: u16,
    /// Its device addresses.
    pub extent: Extent,
    /// What is behind it.
    pub backing: Backing,
    /// Its leaves, by the bytes that each maps.
    pub leaves: Vec<(u64, u64)>,
    /// When the device could first use it; `None` where that was before the log begins.
    pub mapped: Option<u64>,
    /// When its last leaf was cleared.
    pub unmapped: Option<u64>,
    /// When the device had provably forgotten it.
    pub invalidated: Option<u64>,
    /// When the first part of the memory behind it was given up.
    pub released: Option<u64>,
    /// When a program said that it is kept in quarantine.
    pub quarantined: Option<u64>,
    /// When the device used it.
    pub used: Vec<u64>,
    /// When the device was refused there.
    pub faults: Vec<u64>,
    /// What went wrong.
    pub offences: Vec<Offence>,
}

/// Something in the wrong order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offence {
    /// When.
    pub sequence: u64,
    /// What.
    pub kind: OffenceKind,
}

/// What can be in the wrong order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OffenceKind {
    /// Memory was given up while the device had it mapped.
    ReleasedWhileMapped,
    /// Memory was given up before the device had forgotten it.
    ReleasedBeforeInvalidated,
    /// Device addresses were mapped anew before the device had forgotten their last use.
    AddressReused,
    /// A page table was given back to its pool before the device had forgotten it.
    TableFreed,
    /// A page table was written anew before the device had forgotten its last use.
    TableReused,
    /// The device used memory that was given up.
    UsedAfterRelease,
    /// The device touched a page that no mapping in the log ever gave it.
    StrayAccess,
}

impl fmt::Display for OffenceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::ReleasedWhileMapped => "RELEASED WHILE MAPPED",
            Self::ReleasedBeforeInvalidated => "RELEASED BEFORE INVALIDATED",
            Self::AddressReused => "ADDRESS REUSED BEFORE INVALIDATED",
            Self::TableFreed => "TABLE FREED BEFORE INVALIDATED",
            Self::TableReused => "TABLE REUSED BEFORE INVALIDATED",
            Self::UsedAfterRelease => "USED AFTER RELEASE",
            Self::StrayAccess => "STRAY ACCESS TO A PAGE",
        })
    }
}

/// How far a life is at the end of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Something was in the wrong order.
    Offended,
    /// Unmapped, and the device may still know it.
    Waiting,
    /// The device may use it.
    Mapped,
    /// The device has forgotten it; the log does not say that its memory was given up.
    Forgotten,
    /// Unmapped, invalidated, released, in this order.
    Released,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Offended => "in the wrong order",
            Self::Waiting => "unmapped, not invalidated",
            Self::Mapped => "still mapped",
            Self::Forgotten => "invalidated, release not in the log",
            Self::Released => "unmapped, invalidated, released",
        })
    }
}

impl Life {
    /// How far it is.
    #[must_use]
    pub fn stage(&self) -> Stage {
        if !self.offences.is_empty() {
            Stage::Offended
        } else if self.unmapped.is_none() {
            Stage::Mapped
        } else if self.invalidated.is_none() {
            Stage::Waiting
        } else if self.released.is_none() {
            Stage::Forgotten
        } else {
            Stage::Released
        }
    }

    fn of_mapping(asid: u16, mapping: &MappingState) -> Self {
        Self {
            asid,
            extent: mapping.extent,
            backing: mapping.backing,
            leaves: Vec::new(),
            mapped: None,
            unmapped: None,
            invalidated: None,
            released: None,
            quarantined: None,
            used: Vec::new(),
            faults: Vec::new(),
            offences: Vec::new(),
        }
    }
}

/// The MMUs that translate the same addresses: all of them must forget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Group {
    /// The one MMU, or the one for host memory.
    First,
    /// Those for device memory.
    Hmmus,
}

impl Group {
    const fn of(mmu: MmuInstance) -> Self {
        match mmu {
            MmuInstance::Single | MmuInstance::Pmmu => Self::First,
            MmuInstance::Hmmu(_) => Self::Hmmus,
        }
    }
}

impl State {
    /// Tells the life of each mapping from the event log.
    #[must_use]
    pub fn history(&self) -> History {
        let mut history = replay::Replay::run(self);
        // The last life at each address is the one that may still be there.
        let lives = history.lives.iter().enumerate();
        let last: HashMap<(u16, DeviceAddr), usize> = lives
            .map(|(number, life)| ((life.asid, life.extent.start), number))
            .collect();
        for space in &self.spaces {
            for mapping in &space.mappings {
                let found = last.get(&(space.asid, mapping.extent.start));
                match found.and_then(|number| history.lives.get_mut(*number)) {
                    Some(life) if life.unmapped.is_none() || mapping.is_gone() => {
                        life.backing = mapping.backing;
                    }
                    // What the driver has and the log does not was mapped before the log begins.
                    _ => {
                        history.begins_late = true;
                        history.lives.push(Life::of_mapping(space.asid, mapping));
                    }
                }
            }
        }
        history.lives.sort_by_key(|life| life.mapped);
        history
    }
}
