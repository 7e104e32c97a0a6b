//! Memory for page tables, of which loom sees the entries that walks read.

use std::fmt;
use std::sync::atomic::AtomicU64 as QuietU64;

use loom::sync::atomic::{AtomicU64, Ordering, fence};
use mmu_core::format::TABLE_ENTRIES;
use mmu_core::{BusAddr, TableArena, TableId, TableWord};

use super::{Probe, Weak};

/// Where the device finds the first table.
pub(super) const START: u64 = 0x1000_0000;
const TABLE_BYTES: u64 = 4096;

/// What memory holds before it is a table: a leaf of a page that nobody mapped.
const GARBAGE: u64 = 0xBAD_0000_0801;

/// One entry of a table.
pub(crate) enum Entry {
    /// One that walks of the model read.
    Watched(AtomicU64),
    /// One that they do not: loom need not know of it. The real code writes 512 of them.
    Quiet(QuietU64),
}

impl TableWord for Entry {
    fn load(&self) -> u64 {
        match self {
            Self::Watched(word) => word.load(Ordering::Relaxed),
            Self::Quiet(word) => word.load(Ordering::Relaxed),
        }
    }

    fn store(&self, entry: u64) {
        match self {
            Self::Watched(word) => word.store(entry, Ordering::Relaxed),
            Self::Quiet(word) => word.store(entry, Ordering::Relaxed),
        }
    }
}

/// Consecutive entries on their way to a table.
#[derive(Debug)]
pub(super) struct Arriving {
    pub(super) table: usize,
    /// Each with its index.
    pub(super) entries: Vec<(usize, u64)>,
    /// They clear a part of the table that nobody can reach yet.
    pub(super) fills: bool,
}

/// Memory for some tables.
pub(crate) struct Tables {
    entries: Vec<[Entry; TABLE_ENTRIES]>,
    /// One for each table, where racing accesses of it are to fail the model.
    probes: Vec<Probe>,
    weak: Option<Weak>,
}

impl fmt::Debug for Tables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tables({})", self.entries.len())
    }
}

impl Tables {
    /// Memory for `count` tables, of which walks read the entries at the indices in `watched`.
    pub(crate) fn new(count: usize, watched: &[usize], probed: bool, weak: Option<Weak>) -> Self {
        let entry = |index| {
            if watched.contains(&index) {
                Entry::Watched(AtomicU64::new(GARBAGE))
            } else {
                Entry::Quiet(QuietU64::new(GARBAGE))
            }
        };
        let probes = if probed { count } else { 0 };
        Self {
            entries: (0..count).map(|_| std::array::from_fn(entry)).collect(),
            probes: (0..probes).map(|_| Probe::new()).collect(),
            weak,
        }
    }

    /// How many tables there are.
    pub(super) fn count(&self) -> usize {
        self.entries.len()
    }

    /// Writes entries as they come over a bus, in no order.
    pub(super) fn arrive(&self, run: &Arriving) {
        if run.fills
            && let Some(probe) = self.probes.get(run.table)
        {
            // By contract no device can reach the table, so no walk of it may race with this.
            probe.write();
        }
        for &(index, entry) in &run.entries {
            self.entries[run.table][index].store(entry);
        }
    }

    /// All content is lost: there is garbage in its place.
    pub(super) fn scramble(&self) {
        for entry in self.entries.iter().flatten() {
            entry.store(GARBAGE);
        }
    }

    /// The table and the entry at an address.
    pub(super) fn place(&self, address: BusAddr) -> (usize, usize) {
        let offset = address.get().wrapping_sub(START);
        let table = (offset / TABLE_BYTES) as usize;
        assert!(
            table < self.count(),
            "a write went to {address}, where no table is"
        );
        (table, (offset % TABLE_BYTES / 8) as usize)
    }

    /// Whether walks read entries of this index.
    pub(super) fn is_watched(&self, index: usize) -> bool {
        matches!(self.entries[0][index], Entry::Watched(_))
    }

    /// Reads an entry as the device does: after whatever pointed it to this table.
    pub(crate) fn walk(&self, table: u64, index: usize) -> u64 {
        let number = (table.wrapping_sub(START) / TABLE_BYTES) as usize;
        let Some(entries) = self.entries.get(number) else {
            panic!("a walk went to {table:#x}, where no table is");
        };
        if let Some(probe) = self.probes.get(number) {
            probe.read();
        }
        match &entries[index] {
            // The address of a read depends on the read before, which orders them; loom has no
            // weaker ordering that does.
            Entry::Watched(word) => word.load(Ordering::Acquire),
            Entry::Quiet(_) => panic!("a walk read entry {index}, which the model does not watch"),
        }
    }
}

/// The same as the pool of tables has it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arena(pub(crate) &'static Tables);

impl TableArena for Arena {
    type Word = Entry;

    fn capacity(&self) -> u32 {
        self.0.entries.len() as u32
    }

    fn words(&self, table: TableId) -> Option<&[Entry; TABLE_ENTRIES]> {
        self.0.entries.get(table.number() as usize)
    }

    fn address(&self, table: TableId) -> BusAddr {
        BusAddr::new(START + u64::from(table.number()) * TABLE_BYTES)
    }

    fn locate(&self, address: BusAddr) -> Option<TableId> {
        let number = address.get().wrapping_sub(START) / TABLE_BYTES;
        (number < u64::from(self.capacity())).then_some(TableId::new(number as u32))
    }

    fn zero(&self, entries: &[Entry]) {
        // By contract no device can reach the table, so no walk of it may race with this.
        let start = self.0.entries.as_ptr().addr();
        let number = (entries.as_ptr().addr() - start) / size_of::<[Entry; TABLE_ENTRIES]>();
        if let Some(probe) = self.0.probes.get(number) {
            probe.write();
        }
        for entry in entries {
            entry.store(0);
        }
    }

    fn publish(&self) {
        if self.0.weak != Some(Weak::Unordered) {
            fence(Ordering::Release);
        }
    }
}
