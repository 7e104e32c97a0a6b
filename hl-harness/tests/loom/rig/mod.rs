//! The smallest device and host that the real code can drive under loom.
//!
//! Everything here that threads share is one of loom's types, so that each step of it is a point
//! where loom may change threads: the entries of page tables that a walk reads ([`tables`]), the
//! MMU with its caches ([`device`]), the pages of the host ([`pages`]) and the locks ([`lock`]).
//! [`port`] puts them together as `hl-mem` wants them.
//!
//! The walker knows the format from its own description and `mmu-core` only by the bytes that it
//! wrote, as in the software ASIC.

pub(crate) mod device;
pub(crate) mod hold;
pub(crate) mod lock;
pub(crate) mod pages;
pub(crate) mod port;
pub(crate) mod tables;

use lock_api::RawMutex;
use loom::cell::UnsafeCell;
use mmu_core::format::V1;
use mmu_core::{PageTable, ReuseOrder, TablePool, TableRecord};

use device::{Hardware, Mmu};
use hold::Hold;
use pages::Pages;
use tables::{Arena, Tables};

/// Reports every access of something to loom as one that must not race.
#[derive(Debug)]
pub(crate) struct Probe(UnsafeCell<()>);

// SAFETY: the cell holds nothing, so there is no data to race on and its pointer is never used. What
// its methods do touch is loom's state, of which loom runs one thread at a time.
unsafe impl Sync for Probe {}

impl Probe {
    pub(crate) fn new() -> Self {
        Self(UnsafeCell::new(()))
    }

    pub(crate) fn read(&self) {
        self.0.with(|_| ());
    }

    pub(crate) fn write(&self) {
        self.0.with_mut(|_| ());
    }
}

/// The one step that a test takes away from the device, the host or the memory of tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weak {
    /// Entries are not ordered: what links a table may be seen before what is in it.
    Unordered,
    /// The zeros of a page are not ordered before what its owner does next.
    ZeroesLate,
    /// An invalidation reports that it is done and has removed nothing.
    ForgetsNothing,
    /// An invalidation keeps pointers to tables.
    KeepsTables,
    /// Announcing a mapping drops no pointer to a table.
    AnnouncesNothing,
    /// An invalidation does not wait for accesses that are translated already.
    DoesNotWait,
    /// Engines are said to have stopped while an access is under way.
    StopsTooEarly,
}

/// What a model is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    /// Page tables.
    pub(crate) tables: usize,
    /// Indices of the entries that walks read.
    pub(crate) watched: &'static [usize],
    /// Pages of the host.
    pub(crate) pages: usize,
    /// Whether racing accesses of tables fail the model by themselves, and not by what they lead to.
    pub(crate) probed: bool,
}

/// A pool of tables under locks of kind `L`.
pub(crate) type Pool<L> = TablePool<'static, Arena, L>;
/// A page table of the device in such a pool.
pub(crate) type Table<L> = PageTable<V1, &'static Pool<L>>;

/// A device, a host, and a pool of page tables.
#[derive(Debug)]
pub(crate) struct Rig<L: RawMutex + 'static> {
    pub(crate) pages: &'static Pages,
    pub(crate) hardware: &'static Hardware,
    pub(crate) pool: &'static Pool<L>,
}

impl<L: RawMutex> Clone for Rig<L> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<L: RawMutex> Copy for Rig<L> {}

impl<L: RawMutex> Rig<L> {
    pub(crate) fn new(hold: &Hold, size: Size, weak: Option<Weak>) -> Self {
        let tables = &*hold.keep(Tables::new(size.tables, size.watched, size.probed, weak));
        let pages = &*hold.keep(Pages::new(size.pages, weak));
        let records: Vec<_> = (0..size.tables).map(|_| TableRecord::new()).collect();
        let records = hold.keep(records);
        let pool = TablePool::new(Arena(tables), records, ReuseOrder::LastReleased);
        Self {
            pages,
            hardware: hold.keep(Hardware::new(tables, pages, weak)),
            pool: hold.keep(pool.expect("there is a record for each table")),
        }
    }

    /// An empty page table, as the one of an ASID.
    pub(crate) fn table(&self, asid: u16) -> Table<L> {
        let table = PageTable::new(self.pool).expect("the device answers");
        let table = table.expect("the pool has a table for the root");
        self.hardware.set_root(asid, table.root());
        table
    }

    pub(crate) fn mmu(&self) -> Mmu {
        Mmu(self.hardware)
    }
}
