//! What the tests of this crate share: tables in ordinary memory, a lock that never waits, and an
//! MMU that confirms or refuses.

use std::sync::atomic::AtomicU64;

use mmu_core::{BusAddr, Invalidate, Region, ReuseOrder, Stale, TablePool, TableRecord};

/// Entries in a table.
pub(crate) const ENTRIES: usize = 512;

/// The lock of the tests.
pub(crate) type Lock = spin::mutex::SpinMutex<()>;

/// A pool over a [`Memory`].
pub(crate) type Pool<'a> = TablePool<'a, Region<'a>, Lock>;

/// Memory for tables and for their records.
pub(crate) struct Memory {
    pub(crate) tables: Vec<[AtomicU64; ENTRIES]>,
    pub(crate) records: Vec<TableRecord>,
}

impl Memory {
    /// Memory for `count` tables, dirty, as a stranger would leave it.
    pub(crate) fn new(count: usize) -> Self {
        let dirty = || core::array::from_fn(|_| AtomicU64::new(0xA5A5_A5A5_A5A5_A5A5));
        Self {
            tables: (0..count).map(|_| dirty()).collect(),
            records: (0..count).map(|_| TableRecord::new()).collect(),
        }
    }

    pub(crate) fn pool(&mut self, bus: u64) -> Pool<'_> {
        let region = Region::new(&self.tables, BusAddr::new(bus)).unwrap();
        TablePool::new(region, &mut self.records, ReuseOrder::LastReleased).unwrap()
    }
}

/// An MMU that caches nothing, so that every invalidation is confirmed.
#[derive(Debug, Default)]
pub(crate) struct NoCache {
    pub(crate) invalidations: usize,
}

// SAFETY: nothing in these tests translates except by reading the tables afresh, so no
// translation is cached (1), on its way (2) or made without reading the tables (3).
unsafe impl Invalidate for NoCache {
    type Error = core::convert::Infallible;

    fn invalidate(&mut self, _stale: &Stale) -> Result<(), Self::Error> {
        self.invalidations += 1;
        Ok(())
    }
}
