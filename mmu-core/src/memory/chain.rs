//! Tables by their numbers, and chains of them.

use crate::sync::{AtomicU32, Ordering};

/// A table of a pool, by its number in that pool.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct TableId(u32);

impl TableId {
    /// The link value that stands for "no table".
    pub(crate) const NONE: u32 = u32::MAX;

    /// The table with this number.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The number of the table in its pool.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }

    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A record with the link of what it is the record of: a chain goes through the records of a pool.
pub(crate) trait Linked {
    /// The number of what comes next in the chain.
    fn next(&self) -> &AtomicU32;
}

/// Tables linked through the records of their pool: reserved and not yet in use, or removed and not
/// yet released. Losing one leaks its tables; it never makes them reusable.
#[derive(Debug)]
#[must_use = "tables in a chain that is dropped are lost to the pool"]
pub struct Chain {
    /// The head in the lower half, the tail in the upper.
    // Two numbers are handed on in two registers, and three in memory: written one by one and read
    // as a whole, for which a processor waits longer than unmapping a page takes.
    ends: u64,
    pub(crate) count: u32,
}

impl Chain {
    pub(crate) const EMPTY: Self = Self {
        ends: Self::ends(TableId::NONE, TableId::NONE),
        count: 0,
    };

    const fn ends(head: u32, tail: u32) -> u64 {
        head as u64 | (tail as u64) << 32
    }

    const fn head(&self) -> u32 {
        self.ends as u32
    }

    const fn tail(&self) -> u32 {
        (self.ends >> 32) as u32
    }

    /// The chain of one table.
    pub(crate) const fn of(table: TableId) -> Self {
        Self {
            ends: Self::ends(table.0, table.0),
            count: 1,
        }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Empties this chain and returns what was in it.
    pub(crate) const fn take(&mut self) -> Self {
        core::mem::replace(self, Self::EMPTY)
    }

    /// Appends all of another chain.
    #[inline]
    pub(crate) fn append<T: Linked>(&mut self, other: Self, records: &[T]) {
        if other.is_empty() {
            return;
        }
        if self.is_empty() {
            *self = other;
            return;
        }
        if let Some(tail) = records.get(self.tail() as usize) {
            tail.next().store(other.head(), Ordering::Relaxed);
        }
        self.ends = Self::ends(self.head(), other.tail());
        self.count += other.count;
    }

    /// Takes the first table off the chain.
    #[inline]
    pub(crate) fn pop<T: Linked>(&mut self, records: &[T]) -> Option<TableId> {
        if self.is_empty() {
            return None;
        }
        let table = self.head();
        let next = match records.get(table as usize) {
            Some(record) => record.next().load(Ordering::Relaxed),
            None => TableId::NONE,
        };
        self.ends = Self::ends(next, self.tail());
        self.count -= 1;
        Some(TableId(table))
    }

    /// The records of what is in the chain.
    pub(crate) fn iter<'r, T: Linked>(&self, records: &'r [T]) -> impl Iterator<Item = &'r T> {
        let record = |number: u32| records.get(number as usize);
        let next = move |one: &&T| record(one.next().load(Ordering::Relaxed));
        core::iter::successors(record(self.head()), next).take(self.count as usize)
    }
}

/// What a pool has set aside for an operation.
#[derive(Debug)]
#[must_use = "what is reserved and dropped is lost to the pool"]
pub struct Reserved {
    pub(crate) tables: Chain,
    /// Child maps, where the pool has such.
    pub(crate) maps: Chain,
}

impl Reserved {
    pub(crate) const EMPTY: Self = Self {
        tables: Chain::EMPTY,
        maps: Chain::EMPTY,
    };
}
