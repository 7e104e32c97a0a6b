//! Which tables of a pool are free.

use crate::memory::{Chain, TableId};

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

    /// Takes `count` tables as a chain. `link` reads the link of a table and `set_link` writes it;
    /// `first_use` is told of each that was never taken before.
    #[inline]
    pub(crate) fn reserve(
        &mut self,
        count: u64,
        link: impl Fn(u32) -> u32,
        set_link: impl Fn(u32, u32),
        first_use: impl Fn(TableId),
    ) -> Option<Chain> {
        if count > u64::from(self.usage().free) {
            return None;
        }
        let mut taken = Chain::EMPTY;
        while u64::from(taken.count) < count {
            let table = self.take_one(&link, &first_use)?;
            taken.append(Chain::of(table), &set_link);
        }
        Some(taken)
    }

    /// Takes one table. `link` reads the link of a table; `first_use` is told of one that was never
    /// taken before.
    #[inline]
    pub(crate) fn take_one(
        &mut self,
        link: impl Fn(u32) -> u32,
        first_use: impl FnOnce(TableId),
    ) -> Option<TableId> {
        if let Some(table) = self.released.pop(link) {
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
    pub(crate) fn release(&mut self, chain: Chain, set_link: impl Fn(u32, u32)) {
        if chain.is_empty() {
            return;
        }
        match self.order {
            ReuseOrder::LastReleased => {
                let mut all = chain;
                all.append(self.released.take(), set_link);
                self.released = all;
            }
            ReuseOrder::FirstReleased => self.released.append(chain, set_link),
        }
    }
}
