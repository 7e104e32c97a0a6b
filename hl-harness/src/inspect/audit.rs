//! What the tables say beside what the driver says.

use std::collections::BTreeSet;

use mmu_core::BusAddr;

use super::state::{MappingState, MmuState, SpaceState, State};
use super::tables::{Entry, Leaf, Slot, Tables};

/// What is to be made of a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    /// It leads to what the mapping with this number owns.
    Agrees(usize),
    /// It leads to the page that stands in for nothing.
    DefaultPage,
    /// The state does not say what the driver believes of this address space.
    Unknown,
    /// The driver has removed the mapping with this number, or a reset has.
    Removed(usize),
    /// It leads elsewhere than to what the mapping with this number owns.
    Elsewhere(usize),
    /// The driver has no mapping there.
    Unowned,
}

impl Verdict {
    /// Whether the leaf must not be there.
    pub(crate) fn is_wrong(self) -> bool {
        matches!(self, Self::Removed(_) | Self::Elsewhere(_) | Self::Unowned)
    }

    /// The mapping that it concerns.
    pub(crate) fn mapping(self) -> Option<usize> {
        match self {
            Self::Agrees(mapping) | Self::Removed(mapping) | Self::Elsewhere(mapping) => {
                Some(mapping)
            }
            Self::DefaultPage | Self::Unknown | Self::Unowned => None,
        }
    }

    /// The same without the mapping, for folding.
    pub(crate) fn kind(self) -> Self {
        match self {
            Self::Agrees(_) => Self::Agrees(0),
            Self::Removed(_) => Self::Removed(0),
            Self::Elsewhere(_) => Self::Elsewhere(0),
            other => other,
        }
    }
}

/// What the mappings of one address space own, by how far into the mapping it is.
#[derive(Debug)]
pub(crate) struct Ownership<'s> {
    state: &'s State,
    space: Option<&'s SpaceState>,
    /// For each mapping, where in it each of its runs begins.
    begins: Vec<Vec<u64>>,
}

impl<'s> Ownership<'s> {
    pub(crate) fn of(state: &'s State, asid: u16) -> Self {
        let space = state.space(asid);
        let begins = |mapping: &MappingState| {
            let mut at = 0_u64;
            let mut begin = |len: u64| {
                let end = at.saturating_add(len);
                core::mem::replace(&mut at, end)
            };
            mapping.owns.iter().map(|run| begin(run.len)).collect()
        };
        let mappings = space.map_or(&[][..], |space| &space.mappings);
        Self {
            state,
            space,
            begins: mappings.iter().map(begins).collect(),
        }
    }

    fn owned(&self, number: usize, offset: u64) -> Option<BusAddr> {
        let begins = self.begins.get(number)?;
        let run = begins
            .partition_point(|begin| *begin <= offset)
            .checked_sub(1)?;
        let owns = self.space?.mappings.get(number)?.owns.get(run)?;
        let within = offset - begins.get(run)?;
        (within < owns.len).then(|| owns.start.checked_add(within))?
    }

    /// What is to be made of a leaf: its first and its last byte decide.
    pub(crate) fn verdict(&self, leaf: &Leaf) -> Verdict {
        let default = self.state.asic.default_page;
        if default.is_some_and(|default| default.memory.offset(leaf.bus.start).is_some()) {
            return Verdict::DefaultPage;
        }
        let Some(space) = self.space else {
            return Verdict::Unknown;
        };
        let start = leaf.device.start;
        let behind = space
            .mappings
            .partition_point(|mapping| mapping.extent.start <= start);
        let number = behind.checked_sub(1);
        let found = number.and_then(|number| Some((number, space.mappings.get(number)?)));
        let Some((number, mapping)) = found else {
            return Verdict::Unowned;
        };
        let Some(offset) = mapping.extent.offset(start) else {
            return Verdict::Unowned;
        };
        if mapping.is_gone() {
            return Verdict::Removed(number);
        }
        let rest = leaf.bus.len.saturating_sub(1);
        let last = leaf.bus.start.checked_add(rest);
        let agrees = self.owned(number, offset) == Some(leaf.bus.start)
            && self.owned(number, offset.saturating_add(rest)) == last;
        if agrees {
            Verdict::Agrees(number)
        } else {
            Verdict::Elsewhere(number)
        }
    }
}

/// What a visit of the tables of an address space meets, in ascending order of addresses.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Met {
    /// A table, with how many of its entries are present and how many it has.
    Table {
        hop: u8,
        present: usize,
        entries: u64,
    },
    /// A leaf.
    Leaf(Leaf),
    /// An entry that breaks the format.
    Malformed,
    /// A table that could not be read.
    Unreadable,
    /// A table that was met before, and is not visited again.
    Again,
}

/// Visits all tables of an address space of an MMU.
pub(crate) fn visit(tables: &Tables<'_>, mmu: &MmuState, asid: u16, meet: &mut dyn FnMut(Met)) {
    if let Some(root) = mmu.root(asid) {
        let mut seen = BTreeSet::new();
        visit_table(tables, mmu, 0, root, 0, &mut seen, meet);
    }
}

type Seen = BTreeSet<(u8, u64)>;

fn visit_table(
    tables: &Tables<'_>,
    mmu: &MmuState,
    hop: u8,
    table: BusAddr,
    walked: u64,
    seen: &mut Seen,
    meet: &mut dyn FnMut(Met),
) {
    if !seen.insert((hop, table.get())) {
        return meet(Met::Again);
    }
    let Some(slots) = tables.slots(mmu, hop, table, walked) else {
        return meet(Met::Unreadable);
    };
    let format = mmu.format.format();
    meet(Met::Table {
        hop,
        present: slots.len(),
        entries: format
            .hops
            .get(usize::from(hop))
            .map_or(0, |hop| hop.entries()),
    });
    for Slot { entry, walked, .. } in slots {
        match entry {
            Entry::Table(next) => visit_table(tables, mmu, hop + 1, next, walked, seen, meet),
            Entry::Leaf(base) => {
                let leaf = tables.leaf(mmu.instance, format, hop, walked, base.get());
                meet(Met::Leaf(leaf));
            }
            Entry::Malformed => meet(Met::Malformed),
        }
    }
}
