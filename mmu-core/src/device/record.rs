//! What the host keeps of tables that it does not read.

use crate::format::TABLE_ENTRIES;
use crate::memory::{BACKED, TableId};
use crate::sync::{AtomicU32, Ordering};

/// Words of 32 bits, since not every processor that embeds this has atomics of 64.
const WORDS: usize = TABLE_ENTRIES / 32;

/// What a pool remembers of one table behind the bus: 76 bytes.
#[derive(Debug)]
pub struct DeviceTableRecord {
    /// One bit for each slot in use.
    used: [AtomicU32; WORDS],
    /// Slots in use, and [`BACKED`]; [`ZEROED`] while the table is free or reserved and known to be
    /// all zero.
    pub(super) live: AtomicU32,
    /// The next table of the chain that this one is in.
    pub(super) next: AtomicU32,
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
            .get(index / 32)
            .is_some_and(|word| word.load(Ordering::Relaxed) >> (index % 32) & 1 != 0)
    }

    pub(super) fn set_used(&self, index: usize, used: bool) {
        if let Some(word) = self.used.get(index / 32) {
            let bit = 1 << (index % 32);
            let old = word.load(Ordering::Relaxed);
            word.store(if used { old | bit } else { old & !bit }, Ordering::Relaxed);
        }
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

impl Default for DeviceTableRecord {
    fn default() -> Self {
        Self::new()
    }
}

/// Which tables the slots of one table point at: 2052 bytes. Only tables above the deepest hop have
/// one, and of those not the tables of a default mapping's leaves.
#[derive(Debug)]
pub struct ChildMap {
    pub(super) tables: [AtomicU32; TABLE_ENTRIES],
    pub(super) next: AtomicU32,
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

    pub(super) fn set(&self, index: usize, table: u32) {
        self.tables[index % TABLE_ENTRIES].store(table, Ordering::Relaxed);
    }

    pub(super) fn forget_all(&self) {
        for index in 0..TABLE_ENTRIES {
            self.set(index, TableId::NONE);
        }
    }
}

impl Default for ChildMap {
    fn default() -> Self {
        Self::new()
    }
}
