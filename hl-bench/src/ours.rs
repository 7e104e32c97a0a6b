//! `mmu-core`, with each of the formats that are measured.

use core::cell::Cell;
use core::convert::Infallible;
use core::fmt;
use core::marker::PhantomData;
use core::sync::atomic::AtomicU64;

use lock_api::{GuardNoSend, RawMutex};
use mmu_core::format::{Format, Hop, LeafSizes};
use mmu_core::{
    AddrRange, BusAddr, DeviceAddr, Invalidate, MapOptions, PageTable, Region, Removed, ReuseOrder,
    Run, Stale, TableArena, TableId, TablePool, TableRecord,
};

use crate::arena::{self, Content, FRAMES, TABLES, WORDS};
use crate::subject::{Call, Leaf, Subject, Table, leaf};

/// A mutex for one thread: no peer locks, so this one does not either. It still refuses to be
/// taken twice.
pub(crate) struct Unlocked(Cell<bool>);

// SAFETY: the type is not `Sync`, so all of its users are on one thread, and `try_lock` succeeds
// only while `held` is false.
unsafe impl RawMutex for Unlocked {
    const INIT: Self = Self(Cell::new(false));
    type GuardMarker = GuardNoSend;

    #[inline(always)]
    fn lock(&self) {
        assert!(self.try_lock(), "the only thread waits for itself");
    }

    #[inline(always)]
    fn try_lock(&self) -> bool {
        !self.0.replace(true)
    }

    #[inline(always)]
    unsafe fn unlock(&self) {
        self.0.set(false);
    }
}

/// Invalidates nothing, which costs as little as the flush hooks of the peers do.
struct NoDevice;

// SAFETY: no device and no processor ever walks the tables measured here, so none can have cached
// anything of them (clauses 1 to 3).
unsafe impl Invalidate for NoDevice {
    type Error = Infallible;

    #[inline(always)]
    fn invalidate(&mut self, _stale: &Stale) -> Result<(), Infallible> {
        Ok(())
    }
}

/// A format over a pool with lock `R`, with the name that the pair has in the report.
pub(crate) trait Contestant<R>: Format {
    const TITLE: &'static str;
    /// What each leaf carries.
    const ATTRIBUTES: Self::Attributes;
}

/// `mmu-core` with format `F` and lock `R`.
pub(crate) struct Ours<F, R>(PhantomData<(F, R)>);

/// The tables of `mmu-core`: a region, except for how they are zeroed, which is for the embedder to
/// say, as it is with those of the peers that ask for zeroed frames. The others use `memset`.
struct Arena(Region<'static>);

impl TableArena for Arena {
    type Word = AtomicU64;

    #[inline(always)]
    fn capacity(&self) -> u32 {
        self.0.capacity()
    }

    #[inline(always)]
    fn words(&self, table: TableId) -> Option<&[AtomicU64; WORDS]> {
        self.0.words(table)
    }

    #[inline(always)]
    fn address(&self, table: TableId) -> BusAddr {
        self.0.address(table)
    }

    #[inline(always)]
    fn locate(&self, address: BusAddr) -> Option<TableId> {
        self.0.locate(address)
    }

    #[inline(always)]
    fn find(&self, address: BusAddr) -> Option<(TableId, &[AtomicU64; WORDS])> {
        self.0.find(address)
    }

    #[inline(always)]
    fn zero(&self, entries: &[AtomicU64]) {
        let start = entries.as_ptr().cast_mut().cast();
        // SAFETY: the words are valid for writes through a shared reference, being atomics, and
        // zero is a valid word. Nobody else accesses them: the caller owns the table, and this
        // program has one thread and no device.
        unsafe { arena::zero(start, entries.len()) };
    }
}

type Pool<'a, R> = TablePool<'a, Arena, R>;

/// A page table of format `F` over a pool that is locked with `R`.
pub(crate) struct OursTable<'a, F: Format, R: RawMutex + 'static> {
    pool: &'a Pool<'a, R>,
    table: PageTable<F, &'a Pool<'a, R>>,
}

impl<F: Contestant<R>, R: RawMutex + 'static> Subject for Ours<F, R> {
    const NAME: &'static str = F::TITLE;
    const MAPS_RUNS: bool = true;

    fn note(_call: Call) -> &'static str {
        ""
    }

    type Table<'a> = OursTable<'a, F, R>;

    fn with_table<T>(content: Content, work: impl FnOnce(Self::Table<'_>) -> T) -> T {
        // New records: nothing is known of the tables' content, which is as dirty for us as it is
        // for the peers.
        let mut records: Vec<TableRecord> = (0..TABLES).map(|_| TableRecord::new()).collect();
        // Writing them has moved tables out of the caches. The peers' free list is written long
        // before, so dirtying the tables comes last for us as it does for them.
        FRAMES.reset(content);
        let region = Region::new(FRAMES.words(), BusAddr::new(FRAMES.bus_base()))
            .expect("the arena is aligned");
        let pool = TablePool::new(Arena(region), &mut records, ReuseOrder::LastReleased)
            .expect("there is a record for each table");
        let pool = match content {
            Content::Dirty => pool,
            Content::Zero => pool.zeroed(),
        };
        let table = PageTable::new(&pool)
            .expect("plain memory is never lost")
            .expect("the arena is empty");
        let result = work(OursTable { pool: &pool, table });
        assert_eq!(pool.usage().used(), 0, "a table was not given back");
        result
    }
}

impl<F: Contestant<R>, R: RawMutex + 'static> OursTable<'_, F, R> {
    fn options<const LARGE: bool>() -> MapOptions<F::Attributes> {
        let deepest = F::HOPS.len() - 1;
        let hop = match leaf::<LARGE>() {
            Leaf::Small => deepest,
            Leaf::Large => deepest - 1,
        };
        MapOptions {
            sizes: Hop::new(hop as u8).map_or(LeafSizes::ALL, LeafSizes::at),
            attributes: F::ATTRIBUTES,
        }
    }

    #[inline(always)]
    fn unmap(&mut self, device: u64, len: u64) {
        let removed = expect(self.table.unmap(range(device, len)));
        confirm(removed);
    }
}

impl<F: Contestant<R>, R: RawMutex + 'static> Table for OursTable<'_, F, R> {
    #[inline(always)]
    fn map_one<const LARGE: bool>(&mut self, device: u64, bus: u64) {
        self.map_run::<LARGE>(device, bus, leaf::<LARGE>().bytes());
    }

    #[inline(always)]
    fn map_run<const LARGE: bool>(&mut self, device: u64, bus: u64, len: u64) {
        let options = Self::options::<LARGE>();
        expect(
            self.table
                .map(DeviceAddr::new(device), run(bus, len), &options),
        );
    }

    #[inline(always)]
    fn map_list(&mut self, device: u64, pages: &[BusAddr]) {
        let whole = range(device, (pages.len() as u64) << 12);
        expect(
            self.table
                .map_pages(whole, pages, &Self::options::<false>()),
        );
    }

    #[inline(always)]
    fn map_runs(&mut self, device: u64, pages: &[BusAddr]) {
        let whole = range(device, (pages.len() as u64) << 12);
        let runs = pages.iter().map(|page| run(page.get(), 1 << 12));
        expect(self.table.map_list(whole, runs, &Self::options::<false>()));
    }

    #[inline(always)]
    fn unmap_one<const LARGE: bool>(&mut self, device: u64) {
        self.unmap(device, leaf::<LARGE>().bytes());
    }

    #[inline(always)]
    fn unmap_run<const LARGE: bool>(&mut self, device: u64, len: u64) {
        self.unmap(device, len);
    }

    #[inline(always)]
    fn query(&self, device: u64) -> Option<u64> {
        let found = self.table.query(DeviceAddr::new(device));
        found.ok().map(|translation| translation.bus.get())
    }

    fn tables(&self) -> u32 {
        self.pool.usage().used()
    }

    fn close(self) {
        confirm(self.table.close());
    }
}

#[inline(always)]
fn confirm<M: mmu_core::TableMemory>(removed: Removed<M>) {
    if removed.confirm(&mut NoDevice).is_err() {
        unreachable!("a device that does not exist cannot fail");
    }
}

#[inline(always)]
fn expect<T, E: fmt::Debug>(result: Result<T, E>) -> T {
    result.expect("the request is sound")
}

#[inline(always)]
fn run(bus: u64, len: u64) -> Run {
    Run::new(BusAddr::new(bus), len).expect("bus addresses are below 2^48")
}

#[inline(always)]
fn range(device: u64, len: u64) -> AddrRange<DeviceAddr> {
    AddrRange::new(DeviceAddr::new(device), len).expect("device addresses are below 2^47")
}
