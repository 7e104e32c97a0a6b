//! Which tables of a pool are free.

use crate::memory::{Chain, Linked, TableId};

/// How many tables a pool has, and where they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct PoolUsage {
    /// Tables in the pool, free or not.
    pub capacity: u32,
    /// Tables that can be taken.
    pub free: u32,
}

impl PoolUsage {
    /// Tables in use, or removed and not yet released.
    #[must_use]
    pub const fn used(self) -> u32 {
        self.capacity - self.free
    }
}

/// The order in which released tables are used again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum ReuseOrder {
    /// The last released first: it is the likeliest to be in a cache.
    #[default]
    LastReleased,
    /// The first released first: a stale use of a released table goes unpunished for longest,
    /// which spreads wear and helps when hunting one.
    FirstReleased,
}

/// A free list over side-array links, with the tables never used so far behind it.
#[derive(Debug)]
pub(crate) struct FreeList {
    released: Chain,
    unused: u32,
    capacity: u32,
    order: ReuseOrder,
}

impl FreeList {
    pub(crate) const fn new(capacity: u32, order: ReuseOrder) -> Self {
        Self {
            released: Chain::EMPTY,
            unused: 0,
            capacity,
            order,
        }
    }

    pub(crate) const fn usage(&self) -> PoolUsage {
        PoolUsage {
            capacity: self.capacity,
            free: self.released.count + self.capacity - self.unused,
        }
    }

    /// Takes `count` tables as a chain. `first_use` is told of each that was never taken before.
    #[inline]
    pub(crate) fn reserve<T: Linked>(
        &mut self,
        count: u64,
        records: &[T],
        first_use: impl Fn(TableId),
    ) -> Option<Chain> {
        if count > u64::from(self.usage().free) {
            return None;
        }
        let mut taken = Chain::EMPTY;
        while u64::from(taken.count) < count {
            let table = self.take_one(records, &first_use)?;
            taken.append(Chain::of(table), records);
        }
        Some(taken)
    }

    /// Takes one table. `first_use` is told of one that was never taken before.
    #[inline]
    pub(crate) fn take_one<T: Linked>(
        &mut self,
        records: &[T],
        first_use: impl FnOnce(TableId),
    ) -> Option<TableId> {
        if let Some(table) = self.released.pop(records) {
            return Some(table);
        }
        let table = self.unused;
        if table == self.capacity {
            return None;
        }
        self.unused += 1;
        let table = TableId::new(table);
        first_use(table);
        Some(table)
    }

    #[inline]
    pub(crate) fn release<T: Linked>(&mut self, chain: Chain, records: &[T]) {
        if chain.is_empty() {
            return;
        }
        match self.order {
            ReuseOrder::LastReleased => {
                let mut all = chain;
                all.append(self.released.take(), records);
                self.released = all;
            }
            ReuseOrder::FirstReleased => self.released.append(chain, records),
        }
    }
}
