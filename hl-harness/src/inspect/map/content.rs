//! What a map shows, gathered: each mapping with its leaves, each hop with its tables.

use std::collections::BTreeMap;

use super::super::audit::{Met, Ownership, Verdict, visit};
use super::super::hex::count;
use super::super::state::{
    BusExtent, Extent, MappingState, MmuState, RangeState, SpaceState, State,
};
use super::super::tables::{Leaf, Tables};
use crate::asic::MmuInstance;

/// A mapping, with what the tables have of it.
#[derive(Clone, Debug)]
pub(super) struct Drawn<'s> {
    pub(super) mapping: &'s MappingState,
    /// Its leaves, in the order of their addresses: size, and how many of it follow each other.
    pub(super) leaves: Vec<(u64, u64)>,
    /// Leaves that lead elsewhere than the driver believes, or must be gone.
    pub(super) wrong: u64,
    /// Bytes that no leaf maps as the driver believes.
    pub(super) missing: u64,
    /// How many pieces of consecutive bus addresses are behind it.
    pub(super) runs: usize,
    /// Where its first byte is.
    pub(super) first: Option<BusExtent>,
}

impl Drawn<'_> {
    /// Whether tables and driver differ about it.
    pub(super) fn is_wrong(&self) -> bool {
        self.wrong > 0 || self.missing > 0
    }

    /// Its leaves by size, largest first.
    pub(super) fn by_size(&self) -> BTreeMap<core::cmp::Reverse<u64>, u64> {
        let mut sizes = BTreeMap::new();
        for (size, number) in &self.leaves {
            *sizes.entry(core::cmp::Reverse(*size)).or_default() += number;
        }
        sizes
    }
}

/// Tables of one hop.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HopTables {
    pub(super) tables: u64,
    pub(super) present: u64,
    pub(super) entries: u64,
}

/// One address space.
#[derive(Debug)]
pub(super) struct Content<'s> {
    pub(super) space: &'s SpaceState,
    pub(super) mappings: Vec<Drawn<'s>>,
    /// Leaves where the driver has no mapping.
    pub(super) strays: Vec<Leaf>,
    pub(super) malformed: u64,
    pub(super) unreadable: u64,
    /// The tables of each MMU that has any beside the root.
    pub(super) tables: Vec<(MmuInstance, BTreeMap<u8, HopTables>)>,
}

impl<'s> Content<'s> {
    pub(super) fn of(state: &'s State, space: &'s SpaceState) -> Self {
        let tables = Tables::of(state);
        let ownership = Ownership::of(state, space.asid);
        let mut content = Self {
            space,
            mappings: space.mappings.iter().map(drawn).collect(),
            strays: Vec::new(),
            malformed: 0,
            unreadable: 0,
            tables: Vec::new(),
        };
        for mmu in state.distinct_mmus() {
            content.gather(&tables, &ownership, mmu);
        }
        content
    }

    fn gather(&mut self, tables: &Tables<'_>, ownership: &Ownership<'_>, mmu: &MmuState) {
        let mut hops: BTreeMap<u8, HopTables> = BTreeMap::new();
        visit(tables, mmu, self.space.asid, &mut |met| match met {
            Met::Table {
                hop,
                present,
                entries,
            } => {
                let here = hops.entry(hop).or_default();
                here.tables += 1;
                here.present += present as u64;
                here.entries += entries;
            }
            Met::Leaf(leaf) => {
                let verdict = ownership.verdict(&leaf);
                let found = verdict
                    .mapping()
                    .and_then(|number| self.mappings.get_mut(number));
                match found {
                    Some(drawn) => drawn.take(&leaf, verdict),
                    None if verdict.is_wrong() => self.strays.push(leaf),
                    None => {}
                }
            }
            Met::Malformed => self.malformed += 1,
            Met::Unreadable => self.unreadable += 1,
            Met::Again => {}
        });
        if !hops.is_empty() {
            self.tables.push((mmu.instance, hops));
        }
    }

    /// The mappings of a range.
    pub(super) fn inside(&self, range: &RangeState) -> Vec<&Drawn<'s>> {
        let inside = |drawn: &&Drawn<'_>| drawn.mapping.extent.overlaps(&range.extent);
        self.mappings.iter().filter(inside).collect()
    }

    /// Bytes that are mapped.
    pub(super) fn bytes(&self) -> u64 {
        self.space
            .mappings
            .iter()
            .map(|mapping| mapping.extent.len)
            .sum()
    }

    /// What is wrong, in words; `None` where nothing is.
    pub(super) fn complaint(&self) -> Option<String> {
        let wrong = self
            .mappings
            .iter()
            .filter(|drawn| drawn.is_wrong())
            .count();
        let parts: Vec<String> = [
            (wrong as u64, "mapping", " not as in the tables"),
            (self.strays.len() as u64, "leaf", " without a mapping"),
            (self.malformed, "malformed entry", ""),
            (self.unreadable, "unreadable table", ""),
        ]
        .iter()
        .filter(|(number, ..)| *number > 0)
        .map(|(number, thing, what)| format!("{}{what}", count(*number, thing)))
        .collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }
}

fn drawn(mapping: &MappingState) -> Drawn<'_> {
    let continues =
        |pair: &[BusExtent]| pair[0].start.checked_add(pair[0].len) == Some(pair[1].start);
    let joints = mapping
        .owns
        .windows(2)
        .filter(|pair| continues(pair))
        .count();
    Drawn {
        mapping,
        leaves: Vec::new(),
        wrong: 0,
        missing: if mapping.is_gone() {
            0
        } else {
            mapping.extent.len
        },
        runs: mapping.owns.len() - joints,
        first: mapping.owns.first().copied(),
    }
}

impl Drawn<'_> {
    fn take(&mut self, leaf: &Leaf, verdict: Verdict) {
        let size = leaf.device.len;
        match self.leaves.last_mut() {
            Some((last, number)) if *last == size => *number += 1,
            _ => self.leaves.push((size, 1)),
        }
        if verdict.is_wrong() {
            self.wrong += 1;
        } else {
            self.missing = self.missing.saturating_sub(size);
        }
    }
}

/// Mappings that lie close to each other, in proportion to how much is mapped.
#[derive(Debug)]
pub(super) struct Cluster<'c, 's> {
    pub(super) extent: Extent,
    pub(super) mappings: Vec<&'c Drawn<'s>>,
}

/// The most clusters that a range is drawn in.
const MAX_CLUSTERS: usize = 8;

/// Parts mappings, in ascending order, at gaps that are longer than all that is mapped; at longer
/// ones only, where those are too many.
pub(super) fn clusters<'c, 's>(mappings: &[&'c Drawn<'s>]) -> Vec<Cluster<'c, 's>> {
    let mapped: u64 = mappings.iter().map(|drawn| drawn.mapping.extent.len).sum();
    let mut longest_gap = mapped;
    loop {
        let clusters = parted(mappings, longest_gap);
        if clusters.len() <= MAX_CLUSTERS {
            return clusters;
        }
        longest_gap = longest_gap.saturating_mul(4);
        if longest_gap == u64::MAX {
            return parted(mappings, longest_gap);
        }
    }
}

fn parted<'c, 's>(mappings: &[&'c Drawn<'s>], longest_gap: u64) -> Vec<Cluster<'c, 's>> {
    let mut clusters: Vec<Cluster<'c, 's>> = Vec::new();
    for drawn in mappings {
        let extent = drawn.mapping.extent;
        match clusters.last_mut() {
            Some(cluster)
                if u128::from(extent.start.get())
                    <= cluster.extent.end() + u128::from(longest_gap) =>
            {
                let end = cluster.extent.end().max(extent.end());
                let len = end - u128::from(cluster.extent.start.get());
                cluster.extent.len = u64::try_from(len).unwrap_or(u64::MAX);
                cluster.mappings.push(drawn);
            }
            _ => clusters.push(Cluster {
                extent,
                mappings: vec![drawn],
            }),
        }
    }
    clusters
}
