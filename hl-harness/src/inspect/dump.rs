//! The tables of an address space as a tree, with runs of equal entries folded.

mod pattern;
mod text;

use std::collections::{BTreeMap, BTreeSet};

use mmu_core::{BusAddr, DeviceAddr};

use self::pattern::Pattern;
use super::audit::{Ownership, Verdict};
use super::hex::{Bytes, count, grouped};
use super::state::{MmuState, State};
use super::tables::{Entry, Leaf, Slot, Tables, memory_of};
use crate::asic::MmuInstance;

/// The trees of one or more address spaces. Its `Display` is what `hl-harness dump` prints.
#[derive(Clone, Debug)]
pub struct Dump {
    /// One tree for each root, in the order of address spaces.
    pub trees: Vec<Tree>,
}

/// The tables that a root leads to.
#[derive(Clone, Debug)]
pub struct Tree {
    /// The MMU that walks them.
    pub mmu: MmuInstance,
    /// Other MMUs that have the same root.
    pub shared_with: Vec<MmuInstance>,
    /// The address space.
    pub asid: u16,
    /// The table at hop 0.
    pub root: BusAddr,
    /// What was counted.
    pub totals: Totals,
    lines: Vec<Line>,
}

/// What a tree has in all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Tables at each hop.
    pub tables: BTreeMap<u8, u64>,
    /// Leaves by the bytes of device addresses that each maps.
    pub leaves: BTreeMap<u64, u64>,
    /// Leaves that the driver has no reason for, or that lead elsewhere than it believes.
    pub wrong: u64,
    /// Entries that break the format.
    pub malformed: u64,
    /// Tables that could not be read.
    pub unreadable: u64,
    /// Bytes of the driver's mappings that no leaf maps as the driver believes.
    pub missing: u64,
}

impl Totals {
    /// Whether tables and driver say the same.
    #[must_use]
    pub fn agree(&self) -> bool {
        self.wrong + self.malformed + self.unreadable + self.missing == 0
    }
}

#[derive(Clone, Debug)]
struct Line {
    depth: usize,
    text: String,
    /// What makes two lines alike, wherever they are.
    shape: String,
}

impl State {
    /// The tables of one address space, or of all that have any entry. With `every`, no entries are
    /// folded.
    #[must_use]
    pub fn dump(&self, asid: Option<u16>, every: bool) -> Dump {
        let tables = Tables::of(self);
        let mut trees = Vec::new();
        for mmu in self.distinct_mmus() {
            for root in &mmu.roots {
                if asid.is_none_or(|asid| asid == root.asid) {
                    let tree = Fold::tree(self, &tables, mmu, root.asid, root.table, every);
                    let empty = tree.totals.leaves.is_empty() && tree.totals.agree();
                    if asid.is_some() || !empty {
                        trees.push(tree);
                    }
                }
            }
        }
        trees.sort_by_key(|tree| tree.asid);
        Dump { trees }
    }
}

/// A tree being written.
struct Fold<'a> {
    tables: &'a Tables<'a>,
    mmu: &'a MmuState,
    ownership: Ownership<'a>,
    every: bool,
    seen: BTreeSet<(u8, u64)>,
    totals: Totals,
    /// Bytes of each mapping that leaves map as the driver believes.
    found: BTreeMap<usize, u64>,
}

impl<'a> Fold<'a> {
    fn tree(
        state: &'a State,
        tables: &'a Tables<'a>,
        mmu: &'a MmuState,
        asid: u16,
        root: BusAddr,
        every: bool,
    ) -> Tree {
        let mut fold = Self {
            tables,
            mmu,
            ownership: Ownership::of(state, asid),
            every,
            seen: BTreeSet::new(),
            totals: Totals::default(),
            found: BTreeMap::new(),
        };
        let lines = fold.table(0, root, 0, 1);
        let mut totals = fold.totals;
        for (number, mapping) in state
            .space(asid)
            .into_iter()
            .flat_map(|space| &space.mappings)
            .enumerate()
        {
            let mine = state.mmu_for(mapping.extent.start, None);
            let mine =
                mine.is_some_and(|mine| mine.instance == mmu.instance || mine.format == mmu.format);
            if mine && !mapping.is_gone() {
                let found = fold.found.get(&number).copied().unwrap_or(0);
                totals.missing += mapping.extent.len.saturating_sub(found);
            }
        }
        let same = |other: &&MmuState| {
            other.instance != mmu.instance
                && other.format == mmu.format
                && other.root(asid) == Some(root)
        };
        let shared = state.mmus.iter().filter(same).map(|mmu| mmu.instance);
        Tree {
            mmu: mmu.instance,
            shared_with: shared.collect(),
            asid,
            root,
            totals,
            lines,
        }
    }

    /// The lines of a table: what it is, then what is in it.
    fn table(&mut self, hop: u8, table: BusAddr, walked: u64, depth: usize) -> Vec<Line> {
        let memory = memory_of(self.mmu.instance);
        let line = |text: String, shape: String| Line { depth, text, shape };
        if !self.seen.insert((hop, table.get())) {
            let text = format!("hop {hop} table {table}: linked before, shown there");
            return vec![line(text, format!("again {table}"))];
        }
        let Some(slots) = self.tables.slots(self.mmu, hop, table, walked) else {
            self.totals.unreadable += 1;
            let text = format!("!! hop {hop} table {table}: there is no such {memory} memory");
            return vec![line(text, format!("unreadable {table}"))];
        };
        *self.totals.tables.entry(hop).or_default() += 1;
        let here = self.mmu.format.format().hops.get(usize::from(hop));
        let entries = here.map_or(0, |here| here.entries());
        let absent = entries.saturating_sub(slots.len() as u64);
        let text = format!(
            "hop {hop} table {memory} {table}: {} present, {} absent",
            grouped(slots.len() as u64),
            grouped(absent)
        );
        let mut lines = vec![line(text, format!("table {}", slots.len()))];
        let mut next = 0;
        let mut rest = &slots[..];
        // The lines of the last table, while others like it follow.
        let mut alike: Option<Alike> = None;
        while let Some(first) = rest.first() {
            let gap = u64::from(first.index) - next;
            if gap > 0 {
                end_alike(&mut alike, &mut lines, depth + 1);
                let range = indices(next, gap);
                let text = format!("{range} {} absent", grouped(gap));
                lines.push(Line {
                    depth: depth + 1,
                    shape: text.clone(),
                    text,
                });
            }
            let taken = match first.entry {
                Entry::Table(child) => {
                    self.child(hop, first, child, depth + 1, &mut alike, &mut lines);
                    1
                }
                Entry::Leaf(_) => {
                    end_alike(&mut alike, &mut lines, depth + 1);
                    let (taken, line) = self.leaves(hop, rest, depth + 1);
                    lines.push(line);
                    taken
                }
                Entry::Malformed => {
                    end_alike(&mut alike, &mut lines, depth + 1);
                    let (taken, line) = self.malformed(rest, depth + 1);
                    lines.push(line);
                    taken
                }
            };
            next = u64::from(rest[taken - 1].index) + 1;
            rest = &rest[taken..];
        }
        end_alike(&mut alike, &mut lines, depth + 1);
        if next > 0 && next < entries {
            let range = indices(next, entries - next);
            let text = format!("{range} {} absent", grouped(entries - next));
            lines.push(Line {
                depth: depth + 1,
                shape: text.clone(),
                text,
            });
        }
        lines
    }

    fn child(
        &mut self,
        hop: u8,
        slot: &Slot,
        child: BusAddr,
        depth: usize,
        alike: &mut Option<Alike>,
        lines: &mut Vec<Line>,
    ) {
        let below = self.table(hop + 1, child, slot.walked, depth + 1);
        let shape: Vec<String> = below.iter().map(|line| line.shape.clone()).collect();
        let index = u64::from(slot.index);
        if let Some(alike) = alike.as_mut().filter(|alike| {
            !self.every && alike.shape == shape && alike.first + alike.number == index
        }) {
            alike.number += 1;
            return;
        }
        end_alike(alike, lines, depth);
        let va = self.tables.device_address(self.mmu.instance, slot.walked);
        let text = format!("{} table from {va}", indices(index, 1));
        lines.push(Line {
            depth,
            shape: format!("{} table", indices(index, 1)),
            text,
        });
        lines.extend(below);
        *alike = Some(Alike {
            shape,
            first: index,
            number: 1,
        });
    }

    fn leaf_of(&self, hop: u8, slot: &Slot) -> Option<Leaf> {
        let Entry::Leaf(base) = slot.entry else {
            return None;
        };
        let format = self.mmu.format.format();
        Some(
            self.tables
                .leaf(self.mmu.instance, format, hop, slot.walked, base.get()),
        )
    }

    /// As many leaves as one line can tell.
    fn leaves(&mut self, hop: u8, slots: &[Slot], depth: usize) -> (usize, Line) {
        let mut run: Vec<(Leaf, Verdict)> = Vec::new();
        let mut expected = slots.first().map_or(0, |slot| slot.index);
        for slot in slots {
            let Some(leaf) = self.leaf_of(hop, slot) else {
                break;
            };
            let verdict = self.ownership.verdict(&leaf);
            let fits = run.last().is_none_or(|(_, last)| {
                !self.every && slot.index == expected && last.kind() == verdict.kind()
            });
            if !fits {
                break;
            }
            run.push((leaf, verdict));
            expected = slot.index + 1;
        }
        let (Some(first), Some(slot)) = (run.first().copied(), slots.first()) else {
            // The caller saw a leaf here; a line without any keeps the loop going all the same.
            return (
                1,
                Line {
                    depth,
                    text: String::new(),
                    shape: String::new(),
                },
            );
        };
        let (leaf, verdict) = first;
        let number = run.len() as u64;
        let size = leaf.device.len;
        *self.totals.leaves.entry(size).or_default() += number;
        self.totals.wrong += if verdict.is_wrong() { number } else { 0 };
        for (leaf, verdict) in &run {
            if let Verdict::Agrees(mapping) = verdict {
                *self.found.entry(*mapping).or_default() += leaf.device.len;
            }
        }
        let range = indices(u64::from(slot.index), number);
        let buses: Vec<BusAddr> = run.iter().map(|(leaf, _)| leaf.bus.start).collect();
        let pattern = Pattern::of(&buses, size);
        let mappings: BTreeSet<usize> = run
            .iter()
            .filter_map(|(_, verdict)| verdict.mapping())
            .collect();
        let judged = match verdict {
            Verdict::Agrees(_) => format!("in {}", count(mappings.len() as u64, "mapping")),
            Verdict::DefaultPage => "default page: nothing mapped".to_owned(),
            Verdict::Unknown => "driver unknown".to_owned(),
            Verdict::Removed(_) => "!! the driver has unmapped this".to_owned(),
            Verdict::Elsewhere(_) => "!! the driver's mapping owns other memory".to_owned(),
            Verdict::Unowned => "!! the driver has no mapping here".to_owned(),
        };
        let leaves = format!("{} of {}", count(number, "leaf"), Bytes(size));
        let text = format!(
            "{range} {leaves}, {} -> {pattern}, {judged}",
            addresses(leaf.device.start, number.saturating_mul(size))
        );
        let shape = format!("{range} {leaves} {} {judged}", pattern.kind());
        (run.len(), Line { depth, text, shape })
    }

    /// As many malformed entries as are equal and follow each other.
    fn malformed(&mut self, slots: &[Slot], depth: usize) -> (usize, Line) {
        let first = slots
            .first()
            .map(|slot| (slot.index, slot.raw))
            .unwrap_or_default();
        let equal = |(slot, index): &(&Slot, u16)| {
            slot.entry == Entry::Malformed && slot.raw == first.1 && slot.index == *index
        };
        let number = slots.iter().zip(first.0..).take_while(equal).count();
        let number = if self.every { 1 } else { number.max(1) };
        self.totals.malformed += number as u64;
        let range = indices(u64::from(first.0), number as u64);
        let text = format!("!! {range} {:#018x}: malformed", first.1);
        (
            number,
            Line {
                depth,
                shape: text.clone(),
                text,
            },
        )
    }
}

/// Tables of one shape that follow each other.
#[derive(Debug)]
struct Alike {
    shape: Vec<String>,
    first: u64,
    number: u64,
}

fn end_alike(alike: &mut Option<Alike>, lines: &mut Vec<Line>, depth: usize) {
    if let Some(Alike { first, number, .. }) = alike.take()
        && number > 1
    {
        let range = indices(first + 1, number - 1);
        let text = format!(
            "{range} {} like the one above",
            count(number - 1, "more table")
        );
        lines.push(Line {
            depth,
            shape: text.clone(),
            text,
        });
    }
}

fn indices(first: u64, number: u64) -> String {
    match number {
        1 => format!("[{first:#05x}]"),
        _ => format!("[{first:#05x}..={:#05x}]", first + number - 1),
    }
}

fn addresses(start: DeviceAddr, len: u64) -> String {
    format!("{start} +{}", Bytes(len))
}
