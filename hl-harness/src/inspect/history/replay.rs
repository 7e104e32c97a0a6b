//! Going through the log, event by event.

use std::collections::{BTreeMap, HashMap, HashSet};

use mmu_core::DeviceAddr;

use super::super::events::{Claim, Event};
use super::super::state::{Backing, Extent, State};
use super::super::tables::Leaf;
use super::memory::{Change, Link, Memory, Place};
use super::{Group, History, Life, Offence, OffenceKind};
use crate::asic::{InvalidationScope, MmuInstance};
use crate::log::TableMemory;

/// What must still happen before the device has forgotten something.
#[derive(Clone, Debug)]
struct Wait {
    group: Group,
    /// The clearing may still be on its way.
    posted: bool,
    leaves: HashSet<MmuInstance>,
    lines: HashSet<MmuInstance>,
    /// The first and the last walked page, where translations are concerned.
    pages: Option<(u64, u64)>,
}

impl Wait {
    /// Notes an invalidation; returns whether nothing is left to wait for.
    fn note(&mut self, mmu: MmuInstance, scope: InvalidationScope, asid: Option<u16>) -> bool {
        // What is not flushed is read anew, as it was.
        if self.posted {
            return false;
        }
        match scope {
            InvalidationScope::All => {
                self.leaves.remove(&mmu);
                self.lines.remove(&mmu);
            }
            InvalidationScope::Lines => {
                self.lines.remove(&mmu);
            }
            InvalidationScope::Leaves {
                asid: only,
                first_page,
                last_page,
            } => {
                let mine = only.is_none() || only == asid;
                let covered = self
                    .pages
                    .is_none_or(|(first, last)| first_page <= first && last <= last_page);
                if mine && covered {
                    self.leaves.remove(&mmu);
                }
            }
        }
        self.leaves.is_empty() && self.lines.is_empty()
    }
}

/// A leaf that some life had last.
#[derive(Clone, Copy, Debug)]
struct Held {
    len: u64,
    life: usize,
    live: bool,
}

/// What is kept of a life beside what is told of it.
#[derive(Clone, Debug, Default)]
struct Inside {
    live_leaves: usize,
    pages: Option<(u64, u64)>,
    host: bool,
}

pub(super) struct Replay<'s> {
    state: &'s State,
    memory: Memory<'s>,
    history: History,
    inside: Vec<Inside>,
    /// By address space and first device address.
    leaves: BTreeMap<(u16, u64), Held>,
    /// The lives that a page frame is behind and that it was not given up for.
    frames: HashMap<u32, Vec<usize>>,
    /// The life that gave up a page frame last.
    given_up: HashMap<u32, usize>,
    kernel_frames: HashSet<u32>,
    waiting: BTreeMap<usize, Wait>,
    /// Tables that are not linked any more and that the device may still know.
    loose: HashMap<Place, Wait>,
    /// The life that the next leaf may continue.
    open: Option<usize>,
}

impl<'s> Replay<'s> {
    pub(super) fn run(state: &'s State) -> History {
        let mut replay = Self {
            state,
            memory: Memory::new(state),
            history: History::default(),
            inside: Vec::new(),
            leaves: BTreeMap::new(),
            frames: HashMap::new(),
            given_up: HashMap::new(),
            kernel_frames: HashSet::new(),
            waiting: BTreeMap::new(),
            loose: HashMap::new(),
            open: None,
        };
        for record in &state.events {
            // The stores of one mapping follow each other; anything else in between ends it.
            if !matches!(record.event, Event::EntryStore { .. }) {
                replay.open = None;
            }
            replay.take(record.sequence, &record.event);
        }
        replay.history
    }

    fn take(&mut self, at: u64, event: &Event) {
        match event {
            Event::RootSet { mmu, asid, root } => {
                let changes = self.memory.set_root(*mmu, *asid, *root);
                self.apply(at, changes, TableMemory::Host);
            }
            Event::EntryStore {
                memory,
                address,
                entry,
            } => {
                self.judge_store(at, *memory, address.get(), *entry);
                let changes = self.memory.store(*memory, address.get(), *entry);
                self.apply(at, changes, *memory);
            }
            Event::Flush { .. } => {
                for wait in self.waiting.values_mut().chain(self.loose.values_mut()) {
                    wait.posted = false;
                }
            }
            Event::InvalidateEnd { mmu, scope, .. } => self.invalidated(at, *mmu, *scope),
            Event::DeviceReset => {
                let changes = self.memory.reset();
                self.apply(at, changes, TableMemory::Host);
                self.loose.clear();
                for life in core::mem::take(&mut self.waiting).into_keys() {
                    self.history.lives[life].invalidated = Some(at);
                }
            }
            Event::PageAllocate { frame, owner } => {
                if owner.starts_with("kernel") {
                    self.kernel_frames.insert(*frame);
                } else {
                    self.kernel_frames.remove(frame);
                }
            }
            Event::Unpin { frame, left } => self.unpinned(at, *frame, *left),
            Event::PageFree { frame } => {
                for life in self.frames.remove(frame).unwrap_or_default() {
                    self.given_up.insert(*frame, life);
                    self.release(at, life);
                }
            }
            Event::TableFree { memory, used } => {
                // Which tables they were is not told. But no more can be free than the device has
                // forgotten.
                let loose = self.loose.keys().filter(|(other, _)| other == memory);
                let known = self.memory.linked_in(*memory) + loose.count();
                if known > *used as usize {
                    self.offend_table(at, OffenceKind::TableFreed);
                }
            }
            Event::Map(claim) => self.claimed(at, claim),
            Event::Quarantine(claim) => {
                for life in self.overlapping(claim) {
                    self.history.lives[life].quarantined.get_or_insert(at);
                }
            }
            Event::Release(claim) => {
                let lives = self.overlapping(claim);
                for life in lives {
                    if self.history.lives[life].released.is_none() {
                        self.release(at, life);
                    }
                }
            }
            Event::Translate { asid, address, .. } => {
                if let Some(life) = self.life_at(*asid, *address) {
                    let life = &mut self.history.lives[life];
                    life.used.push(at);
                    if life.released.is_some() {
                        offend(life, at, OffenceKind::UsedAfterRelease);
                    }
                }
            }
            Event::StrayAccess { frame, .. } => match self.given_up.get(frame) {
                Some(&life) => {
                    let life = &mut self.history.lives[life];
                    offend(life, at, OffenceKind::UsedAfterRelease);
                }
                None => self.history.offences.push(Offence {
                    sequence: at,
                    kind: OffenceKind::StrayAccess,
                }),
            },
            Event::Fault { asid, address, .. } => {
                if let Some(life) = self.life_at(*asid, *address) {
                    self.history.lives[life].faults.push(at);
                }
            }
            Event::InvalidateBegin { .. }
            | Event::InvalidateStuck { .. }
            | Event::Pin { .. }
            | Event::DeviceLost
            | Event::Note { .. } => {}
        }
    }

    fn apply(&mut self, at: u64, changes: Vec<Change>, memory: TableMemory) {
        for change in changes {
            match change {
                Change::Gained { link, leaf, walked } => self.gained(at, link, leaf, walked),
                Change::Lost { link, leaf } => self.lost(at, link, leaf, memory),
                Change::Unlinked { place, group } => {
                    let mmus: HashSet<MmuInstance> = self.mmus(group).collect();
                    let wait = Wait {
                        group,
                        posted: memory == TableMemory::Device,
                        leaves: HashSet::new(),
                        lines: mmus,
                        pages: None,
                    };
                    self.loose.insert(place, wait);
                }
            }
        }
    }

    fn mmus(&self, group: Group) -> impl Iterator<Item = MmuInstance> + use<'s> {
        let mmus = self.state.mmus.iter().map(|mmu| mmu.instance);
        mmus.filter(move |mmu| Group::of(*mmu) == group)
    }

    fn gained(&mut self, at: u64, link: Link, leaf: Leaf, walked: (u64, u64)) {
        self.evict(at, link.asid, &leaf.device);
        let host_bus = leaf
            .bus
            .start
            .get()
            .checked_sub(self.state.asic.host_offset);
        let in_dram = self.state.asic.dram.offset(leaf.bus.start).is_some();
        let frame = host_bus
            .filter(|_| !in_dram)
            .and_then(|bus| self.state.host.frame(bus));
        let first_frame = frame.and_then(|frame| u32::try_from(frame).ok());
        let continued = self.open.filter(|&open| {
            let life = &self.history.lives[open];
            life.asid == link.asid
                && life.extent.end() == u128::from(leaf.device.start.get())
                && self.inside[open].host == first_frame.is_some()
        });
        let life = continued.unwrap_or_else(|| {
            let kernel = first_frame.is_some_and(|frame| self.kernel_frames.contains(&frame));
            self.begin(
                at,
                link.asid,
                leaf.device.start,
                match first_frame {
                    None => Backing::DeviceMemory,
                    Some(_) if kernel => Backing::Block,
                    Some(_) => Backing::UserPages,
                },
            )
        });
        self.open = Some(life);
        let told = &mut self.history.lives[life];
        told.extent.len += leaf.device.len;
        match told
            .leaves
            .iter_mut()
            .find(|(size, _)| *size == leaf.device.len)
        {
            Some((_, number)) => *number += 1,
            None => told.leaves.push((leaf.device.len, 1)),
        }
        let inside = &mut self.inside[life];
        inside.host = first_frame.is_some();
        inside.live_leaves += 1;
        let (first, last) = (walked.0 >> 12, walked.1 >> 12);
        let pages = inside.pages.get_or_insert((first, last));
        *pages = (pages.0.min(first), pages.1.max(last));
        let held = Held {
            len: leaf.device.len,
            life,
            live: true,
        };
        self.leaves
            .insert((link.asid, leaf.device.start.get()), held);
        if let Some(first) = first_frame {
            let frames = leaf.bus.len.div_ceil(self.state.host.page_bytes.max(1)) as u32;
            for frame in first..first.saturating_add(frames) {
                let lives = self.frames.entry(frame).or_default();
                if !lives.contains(&life) {
                    lives.push(life);
                }
            }
        }
    }

    fn begin(&mut self, at: u64, asid: u16, start: DeviceAddr, backing: Backing) -> usize {
        self.history.lives.push(Life {
            asid,
            extent: Extent { start, len: 0 },
            backing,
            leaves: Vec::new(),
            mapped: Some(at),
            unmapped: None,
            invalidated: None,
            released: None,
            quarantined: None,
            used: Vec::new(),
            faults: Vec::new(),
            offences: Vec::new(),
        });
        self.inside.push(Inside::default());
        self.history.lives.len() - 1
    }

    /// Makes room for a leaf among those that had its addresses before.
    fn evict(&mut self, at: u64, asid: u16, extent: &Extent) {
        let last = extent
            .start
            .get()
            .saturating_add(extent.len.saturating_sub(1));
        let mut old: Vec<u64> = Vec::new();
        for (&(_, start), held) in self.leaves.range((asid, 0)..=(asid, last)).rev() {
            if start.saturating_add(held.len.saturating_sub(1)) < extent.start.get() {
                break;
            }
            old.push(start);
        }
        for start in old {
            let Some(held) = self.leaves.remove(&(asid, start)) else {
                continue;
            };
            let life = &mut self.history.lives[held.life];
            if life.invalidated.is_none() {
                offend(life, at, OffenceKind::AddressReused);
            }
        }
    }

    fn lost(&mut self, at: u64, link: Link, leaf: Leaf, memory: TableMemory) {
        let Some(held) = self.leaves.get_mut(&(link.asid, leaf.device.start.get())) else {
            return;
        };
        if !core::mem::replace(&mut held.live, false) {
            return;
        }
        let life = held.life;
        let inside = &mut self.inside[life];
        inside.live_leaves = inside.live_leaves.saturating_sub(1);
        if inside.live_leaves > 0 {
            return;
        }
        self.history.lives[life].unmapped = Some(at);
        let pages = inside.pages;
        let group = Group::of(link.mmu);
        let mmus: HashSet<MmuInstance> = self.mmus(group).collect();
        let wait = Wait {
            group,
            posted: memory == TableMemory::Device,
            leaves: mmus.clone(),
            lines: mmus,
            pages,
        };
        self.waiting.insert(life, wait);
    }

    fn invalidated(&mut self, at: u64, mmu: MmuInstance, scope: InvalidationScope) {
        let group = Group::of(mmu);
        let lives = &mut self.history.lives;
        self.waiting.retain(|&life, wait| {
            let asid = Some(lives[life].asid);
            let done = wait.group == group && wait.note(mmu, scope, asid);
            if done {
                lives[life].invalidated = Some(at);
            }
            !done
        });
        let done = |wait: &mut Wait| wait.group == group && wait.note(mmu, scope, None);
        self.loose.retain(|_, wait| !done(wait));
    }

    /// A store into a table that the device may still know under its old content.
    fn judge_store(&mut self, at: u64, memory: TableMemory, address: u64, entry: u64) {
        let place = (memory, address & !0xFFF);
        if entry != 0 && !self.memory.is_linked(place) && self.loose.remove(&place).is_some() {
            self.offend_table(at, OffenceKind::TableReused);
        }
    }

    fn offend_table(&mut self, at: u64, kind: OffenceKind) {
        self.history.offences.push(Offence { sequence: at, kind });
    }

    /// A pin is taken off. It is that of the life that is furthest; and that of none where as many
    /// pins are left as there are lives.
    fn unpinned(&mut self, at: u64, frame: u32, left: u32) {
        let Some(lives) = self.frames.get_mut(&frame) else {
            return;
        };
        if left as usize >= lives.len() {
            return;
        }
        let told = &self.history.lives;
        let furthest = lives.iter().enumerate().max_by_key(|(_, life)| {
            let life = &told[**life];
            (life.invalidated.is_some(), life.unmapped.is_some())
        });
        let Some((place, &life)) = furthest else {
            return;
        };
        lives.remove(place);
        self.given_up.insert(frame, life);
        self.release(at, life);
    }

    fn release(&mut self, at: u64, life: usize) {
        let life = &mut self.history.lives[life];
        life.released.get_or_insert(at);
        if life.unmapped.is_none() {
            offend(life, at, OffenceKind::ReleasedWhileMapped);
        } else if life.invalidated.is_none() {
            offend(life, at, OffenceKind::ReleasedBeforeInvalidated);
        }
    }

    fn life_at(&self, asid: u16, address: DeviceAddr) -> Option<usize> {
        let mut before = self.leaves.range((asid, 0)..=(asid, address.get()));
        let (&(_, start), held) = before.next_back()?;
        (address.get() - start < held.len).then_some(held.life)
    }

    /// The lives that a program speaks of: of those at its addresses, the last ones.
    fn overlapping(&self, claim: &Claim) -> Vec<usize> {
        let extent = Extent {
            start: claim.address,
            len: claim.len,
        };
        let last = extent
            .start
            .get()
            .saturating_add(extent.len.saturating_sub(1));
        let mut lives = Vec::new();
        for (&(_, start), held) in self
            .leaves
            .range((claim.asid, 0)..=(claim.asid, last))
            .rev()
        {
            if start.saturating_add(held.len.saturating_sub(1)) < extent.start.get() {
                break;
            }
            if lives.last() != Some(&held.life) {
                lives.push(held.life);
            }
        }
        lives.dedup();
        lives
    }

    /// A program says that something is mapped. It is believed only where the log does not show it:
    /// where the log begins after the roots were latched.
    fn claimed(&mut self, at: u64, claim: &Claim) {
        if self.overlapping(claim).is_empty() && !self.memory.has_roots() {
            let life = self.begin(at, claim.asid, claim.address, Backing::Other);
            self.history.lives[life].extent.len = claim.len;
            self.history.begins_late = true;
        }
    }
}

fn offend(life: &mut Life, sequence: u64, kind: OffenceKind) {
    if !life.offences.iter().any(|offence| offence.kind == kind) {
        life.offences.push(Offence { sequence, kind });
    }
}
