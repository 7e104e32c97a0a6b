//! Page-table memory as the log tells it: which table is linked where, and what a store changes.

use std::collections::{BTreeMap, HashMap};

use mmu_core::BusAddr;

use super::super::state::State;
use super::super::tables::Leaf;
use super::super::tables::{Tables, memory_of};
use super::Group;
use crate::asic::MmuInstance;
use crate::asic::format::Format;
use crate::asic::walker::{Decoded, decode};
use crate::log::TableMemory;

/// Where a table is linked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    pub(super) mmu: MmuInstance,
    pub(super) asid: u16,
    hop: u8,
    walked: u64,
}

/// A table by its place.
pub(super) type Place = (TableMemory, u64);

/// What a store or a new root changes for the device.
#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    Gained {
        link: Link,
        leaf: Leaf,
        walked: (u64, u64),
    },
    Lost {
        link: Link,
        leaf: Leaf,
    },
    /// A table is not linked any more.
    Unlinked {
        place: Place,
        group: Group,
    },
}

/// The memory, replayed.
#[derive(Debug)]
pub(super) struct Memory<'s> {
    state: &'s State,
    tables: Tables<'s>,
    words: HashMap<Place, BTreeMap<u16, u64>>,
    links: HashMap<Place, Link>,
    roots: HashMap<(MmuInstance, u16), Place>,
}

impl<'s> Memory<'s> {
    pub(super) fn new(state: &'s State) -> Self {
        Self {
            state,
            tables: Tables::of(state),
            words: HashMap::new(),
            links: HashMap::new(),
            roots: HashMap::new(),
        }
    }

    fn format(&self, mmu: MmuInstance) -> Option<&'static Format> {
        let mut mmus = self.state.mmus.iter();
        let mmu = mmus.find(|other| other.instance == mmu)?;
        Some(mmu.format.format())
    }

    /// Whether the log told of any root.
    pub(super) fn has_roots(&self) -> bool {
        !self.roots.is_empty()
    }

    /// Whether a table is linked.
    pub(super) fn is_linked(&self, place: Place) -> bool {
        self.links.contains_key(&place)
    }

    /// How many tables of a memory are linked.
    pub(super) fn linked_in(&self, memory: TableMemory) -> usize {
        let places = self.links.keys();
        places.filter(|(other, _)| *other == memory).count()
    }

    /// A root table is latched.
    pub(super) fn set_root(&mut self, mmu: MmuInstance, asid: u16, root: BusAddr) -> Vec<Change> {
        let mut changes = Vec::new();
        let place = (memory_of(mmu), root.get());
        if let Some(old) = self.roots.insert((mmu, asid), place)
            && old != place
            && !self.roots.values().any(|other| *other == old)
            && let Some(link) = self.links.get(&old).copied()
        {
            self.unlink(link, old, &mut changes);
        }
        // The MMUs for device memory share their roots: the first link stands for all.
        if !self.links.contains_key(&place) {
            let link = Link {
                mmu,
                asid,
                hop: 0,
                walked: 0,
            };
            self.link(link, place, &mut changes);
        }
        changes
    }

    /// An entry is stored.
    pub(super) fn store(&mut self, memory: TableMemory, address: u64, entry: u64) -> Vec<Change> {
        let place = (memory, address & !0xFFF);
        let index = ((address & 0xFFF) >> 3) as u16;
        let words = self.words.entry(place).or_default();
        let old = match entry {
            0 => words.remove(&index),
            _ => words.insert(index, entry),
        };
        let mut changes = Vec::new();
        if let Some(link) = self.links.get(&place).copied() {
            self.change(link, index, old.unwrap_or(0), false, &mut changes);
            self.change(link, index, entry, true, &mut changes);
        }
        changes
    }

    /// All MMUs forget their roots.
    pub(super) fn reset(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        let roots: Vec<Place> = self.roots.drain().map(|(_, place)| place).collect();
        for place in roots {
            if let Some(link) = self.links.get(&place).copied() {
                self.unlink(link, place, &mut changes);
            }
        }
        changes
    }

    fn link(&mut self, link: Link, place: Place, changes: &mut Vec<Change>) {
        // A table that is linked twice is told where it was linked first.
        if self.links.contains_key(&place) {
            return;
        }
        self.links.insert(place, link);
        self.each(link, place, true, changes);
    }

    fn unlink(&mut self, link: Link, place: Place, changes: &mut Vec<Change>) {
        if self.links.remove(&place).is_some() {
            self.each(link, place, false, changes);
            let group = Group::of(link.mmu);
            changes.push(Change::Unlinked { place, group });
        }
    }

    fn each(&mut self, link: Link, place: Place, gained: bool, changes: &mut Vec<Change>) {
        let words = self.words.get(&place).into_iter().flatten();
        let words: Vec<(u16, u64)> = words.map(|(index, word)| (*index, *word)).collect();
        for (index, word) in words {
            self.change(link, index, word, gained, changes);
        }
    }

    /// An entry comes to count, or ceases to.
    fn change(
        &mut self,
        link: Link,
        index: u16,
        entry: u64,
        gained: bool,
        changes: &mut Vec<Change>,
    ) {
        let Some(format) = self.format(link.mmu) else {
            return;
        };
        let Some(here) = format.hops.get(usize::from(link.hop)) else {
            return;
        };
        if u64::from(index) >= here.entries() {
            return;
        }
        let walked = link.walked | u64::from(index) << here.shift;
        match decode(format, link.hop, entry) {
            Err(_) => {}
            Ok(Decoded::Table(next)) => {
                let place = (memory_of(link.mmu), next);
                let below = Link {
                    hop: link.hop + 1,
                    walked,
                    ..link
                };
                if gained {
                    self.link(below, place, changes);
                } else {
                    self.unlink(below, place, changes);
                }
            }
            Ok(Decoded::Leaf(base)) => {
                let leaf = self.tables.leaf(link.mmu, format, link.hop, walked, base);
                let default = self.state.asic.default_page;
                if default.is_some_and(|page| page.memory.offset(leaf.bus.start).is_some()) {
                    return;
                }
                let walked = (walked, walked | (here.span() - 1));
                changes.push(if gained {
                    Change::Gained { link, leaf, walked }
                } else {
                    Change::Lost { link, leaf }
                });
            }
        }
    }
}
