//! The smallest device and host that the real code can drive under loom.
//!
//! Everything here that threads share is one of loom's types, or is the host model behind one, so that
//! each step of it is a point where loom may change threads: the entries of page tables that a walk reads ([`tables`]), the
//! MMU with its caches ([`device`]), the bus in front of tables in device memory ([`bus`]), the pages
//! of the host model ([`pages`]) and the locks ([`lock`]); for the drivers of MMUs, their [`registers`]. [`port`] puts them together as `hl-mem` wants
//! them.
//!
//! The walker knows the format from its own description and `mmu-core` only by the bytes that it
//! wrote, as in the software ASIC.

pub(crate) mod bus;
pub(crate) mod device;
pub(crate) mod hold;
pub(crate) mod lock;
pub(crate) mod pages;
pub(crate) mod port;
pub(crate) mod registers;
pub(crate) mod tables;

use std::fmt::Debug;

pub(crate) use hl_harness::host::Probe;
use lock_api::RawMutex;
use mmu_core::format::V1;
use mmu_core::{
    BusAddr, ChildMap, DeviceTablePool, DeviceTableRecord, PageTable, PoolUsage, ReuseOrder,
    TableMemory, TablePool, TableRecord,
};

use bus::{Bridge, Bus};
use device::{Hardware, Mmu};
use hold::Hold;
use pages::Pages;
use tables::{Arena, Tables};

/// The one step that a test takes away from the device, the host or the memory of tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weak {
    /// Entries are not ordered: what links a table may be seen before what is in it.
    Unordered,
    /// A flush of the bus returns while writes are on their way.
    FlushesEarly,
    /// The zeros of a page are not ordered before what its owner does next.
    ZeroesLate,
    /// An invalidation reports that it is done and has removed nothing.
    ForgetsNothing,
    /// An invalidation keeps pointers to tables.
    KeepsTables,
    /// The answer to an invalidation is taken for that to the next one, too, which is not made.
    AnswersTwice,
    /// Announcing a mapping drops no pointer to a table.
    AnnouncesNothing,
    /// An invalidation does not wait for accesses that are translated already.
    DoesNotWait,
    /// A device that does not answer, or says no, is believed to have done what it was asked to.
    BelievesTheDead,
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
/// The same for tables in device memory.
pub(crate) type BusPool<L> = DeviceTablePool<'static, Bus, L>;

/// Where the tables of a model are: a reference to a pool in one of the two kinds of memory.
pub(crate) trait ModelTables: TableMemory + Debug + 'static {
    /// A pool of all of `tables`.
    fn pool(hold: &Hold, tables: &'static Tables, weak: Option<Weak>) -> Self;

    /// How many tables there are, and how many of them are free.
    fn usage(self) -> PoolUsage;

    /// The bus in front of the tables, where there is one.
    fn bridge(self) -> Option<&'static Bridge>;
}

impl<L: RawMutex + 'static> ModelTables for &'static Pool<L> {
    fn pool(hold: &Hold, tables: &'static Tables, _weak: Option<Weak>) -> Self {
        let records: Vec<_> = (0..tables.count()).map(|_| TableRecord::new()).collect();
        let records = hold.keep(records);
        let pool = TablePool::new(Arena(tables), records, ReuseOrder::LastReleased);
        hold.keep(pool.expect("there is a record for each table"))
    }

    fn usage(self) -> PoolUsage {
        TablePool::usage(self)
    }

    fn bridge(self) -> Option<&'static Bridge> {
        None
    }
}

impl<L: RawMutex + 'static> ModelTables for &'static BusPool<L> {
    fn pool(hold: &Hold, tables: &'static Tables, weak: Option<Weak>) -> Self {
        let count = tables.count();
        let records: Vec<_> = (0..count).map(|_| DeviceTableRecord::new()).collect();
        // A path has as many as that above its last table; loom has to know of 512 words in each.
        let maps: Vec<_> = (0..count - count / 5).map(|_| ChildMap::new()).collect();
        let pool = DeviceTablePool::new(
            Bus(hold.keep(Bridge::new(tables, weak))),
            BusAddr::new(tables::START),
            hold.keep(records),
            hold.keep(maps),
            ReuseOrder::LastReleased,
        );
        hold.keep(pool.expect("the tables are in range"))
    }

    fn usage(self) -> PoolUsage {
        DeviceTablePool::usage(self)
    }

    fn bridge(self) -> Option<&'static Bridge> {
        Some(self.bus().0)
    }
}

/// A page table of the device in tables of kind `M`.
pub(crate) type TableIn<M> = PageTable<V1, M>;
/// The same in host memory.
pub(crate) type Table<L> = TableIn<&'static Pool<L>>;

/// A device, a host, and a pool of page tables.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RigOf<M> {
    pub(crate) pages: &'static Pages,
    pub(crate) hardware: &'static Hardware,
    pub(crate) pool: M,
}

/// A rig with tables in host memory, under locks of kind `L`.
pub(crate) type Rig<L> = RigOf<&'static Pool<L>>;

impl<M: ModelTables> RigOf<M> {
    pub(crate) fn new(hold: &Hold, size: Size, weak: Option<Weak>) -> Self {
        let tables = &*hold.keep(Tables::new(size.tables, size.watched, size.probed, weak));
        let pages = &*hold.keep(Pages::new(size.pages, weak));
        let pool = M::pool(hold, tables, weak);
        Self {
            pages,
            hardware: hold.keep(Hardware::new(tables, pages, pool.bridge(), weak)),
            pool,
        }
    }

    /// An empty page table, as the one of an ASID.
    pub(crate) fn table(&self, asid: u16) -> TableIn<M> {
        let table = self.spare_table();
        self.hardware.set_root(asid, table.root());
        table
    }

    /// An empty page table, which the device does not know of yet.
    pub(crate) fn spare_table(&self) -> TableIn<M> {
        let table = PageTable::new(self.pool).expect("the device answers");
        table.expect("the pool has a table for the root")
    }

    /// The driver of the MMU, for models without parked address spaces.
    pub(crate) fn mmu(&self) -> Mmu {
        self.mmu_with(BusAddr::new(0))
    }

    pub(crate) fn mmu_with(&self, parking: BusAddr) -> Mmu {
        Mmu {
            hardware: self.hardware,
            parking,
        }
    }

    /// From here on the bus, where there is one, posts what is written.
    pub(crate) fn begin_posting(&self, hold: &Hold) {
        if let Some(bridge) = self.pool.bridge() {
            bridge.begin_posting(hold);
        }
    }

    /// Everything posted arrives, and the bus comes to rest.
    pub(crate) fn end_posting(&self) {
        if let Some(bridge) = self.pool.bridge() {
            bridge.end_posting();
        }
    }
}
