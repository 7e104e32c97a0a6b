//! What the host keeps of tables that it does not read.

use crate::format::TABLE_ENTRIES;
use crate::memory::{BACKED, Linked, TableId};
use crate::sync::{AtomicU32, Ordering};

#[cfg(not(loom))]
static_assertions::const_assert_eq!(size_of::<DeviceTableRecord>(), 76);
#[cfg(not(loom))]
static_assertions::const_assert_eq!(size_of::<ChildMap>(), 2052);

/// Slots that a word has bits for: not every processor that embeds this has atomics of 64 bits.
const BITS: usize = u32::BITS as usize;

const WORDS: usize = TABLE_ENTRIES / BITS;

/// What a pool remembers of one table behind the bus: 76 bytes.
#[derive(Debug)]
pub struct DeviceTableRecord {
    /// One bit for each slot in use.
    used: [AtomicU32; WORDS],
    /// Slots in use, and [`BACKED`]; [`ZEROED`] while the table is free or reserved and known to be
    /// all zero.
    pub(super) live: AtomicU32,
    /// The next table of the chain that this one is in.
    next: AtomicU32,
    /// The number of this table's [`ChildMap`], for tables that have one.
    pub(super) children: AtomicU32,
}

pub(super) const ZEROED: u32 = 1 << 31;

impl DeviceTableRecord {
    /// The record of a table that has never been used.
    #[must_use]
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self {
            used: [const { AtomicU32::new(0) }; WORDS],
            live: AtomicU32::new(0),
            next: AtomicU32::new(TableId::NONE),
            children: AtomicU32::new(TableId::NONE),
        }
    }

    /// The record of a table that has never been used.
    #[must_use]
    #[cfg(loom)]
    pub fn new() -> Self {
        Self {
            used: core::array::from_fn(|_| AtomicU32::new(0)),
            live: AtomicU32::new(0),
            next: AtomicU32::new(TableId::NONE),
            children: AtomicU32::new(TableId::NONE),
        }
    }

    /// Whether a slot is in use; one that the table does not have is not.
    pub(super) fn is_used(&self, index: usize) -> bool {
        self.used
            .get(index / BITS)
            .is_some_and(|word| word.load(Ordering::Relaxed) >> (index % BITS) & 1 != 0)
    }

    /// Notes that `count` slots, beginning at `first`, are in use or are not.
    pub(super) fn set_used(&self, first: usize, count: usize, used: bool) {
        let end = first.saturating_add(count).min(TABLE_ENTRIES);
        let mut index = first;
        while index < end
            && let Some(word) = self.used.get(index / BITS)
        {
            let bits = (end - index).min(BITS - index % BITS);
            let mask = u32::MAX >> (BITS - bits) << (index % BITS);
            let old = word.load(Ordering::Relaxed);
            let new = if used { old | mask } else { old & !mask };
            word.store(new, Ordering::Relaxed);
            index += bits;
        }
    }

    /// How many of the `count` slots from `first` on are in use, or are not, up to the first of
    /// which that is not so.
    pub(super) fn prefix_len(&self, first: usize, count: usize, used: bool) -> usize {
        let end = first.saturating_add(count).min(TABLE_ENTRIES);
        let mut index = first;
        while index < end
            && let Some(word) = self.used.get(index / BITS)
        {
            let word = word.load(Ordering::Relaxed);
            let others = if used { !word } else { word } >> (index % BITS);
            if others != 0 {
                index += others.trailing_zeros() as usize;
                break;
            }
            index = (index / BITS + 1) * BITS;
        }
        index.min(end).saturating_sub(first)
    }

    pub(super) fn is_backed(&self) -> bool {
        self.live.load(Ordering::Relaxed) & BACKED != 0
    }

    pub(super) fn forget_all(&self) {
        for word in &self.used {
            word.store(0, Ordering::Relaxed);
        }
    }
}

impl Linked for DeviceTableRecord {
    fn next(&self) -> &AtomicU32 {
        &self.next
    }
}

impl Default for DeviceTableRecord {
    fn default() -> Self {
        Self::new()
    }
}

/// Which tables the slots of one table point at: 2052 bytes. Only tables above the deepest hop have
/// one, and of those not the tables of a default mapping's leaves.
///
/// What it says of a slot that is not in use means nothing.
#[derive(Debug)]
pub struct ChildMap {
    tables: [AtomicU32; TABLE_ENTRIES],
    next: AtomicU32,
}

impl ChildMap {
    /// A map that has never been used.
    #[must_use]
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self {
            tables: [const { AtomicU32::new(TableId::NONE) }; TABLE_ENTRIES],
            next: AtomicU32::new(TableId::NONE),
        }
    }

    /// A map that has never been used.
    #[must_use]
    #[cfg(loom)]
    pub fn new() -> Self {
        Self {
            tables: core::array::from_fn(|_| AtomicU32::new(TableId::NONE)),
            next: AtomicU32::new(TableId::NONE),
        }
    }

    /// The table that the slot at `index` points at, or [`TableId::NONE`].
    pub(super) fn get(&self, index: usize) -> u32 {
        self.tables[index % TABLE_ENTRIES].load(Ordering::Relaxed)
    }

    pub(super) fn set(&self, index: usize, table: u32) {
        self.tables[index % TABLE_ENTRIES].store(table, Ordering::Relaxed);
    }

    /// Notes that `count` slots, beginning at `first`, point at no table.
    pub(super) fn forget(&self, first: usize, count: usize) {
        for table in self.tables.iter().skip(first).take(count) {
            table.store(TableId::NONE, Ordering::Relaxed);
        }
    }
}

impl Linked for ChildMap {
    fn next(&self) -> &AtomicU32 {
        &self.next
    }
}

impl Default for ChildMap {
    fn default() -> Self {
        Self::new()
    }
}
