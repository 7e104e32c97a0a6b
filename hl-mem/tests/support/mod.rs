//! A port of the smallest one's parts, for tests that want something else in the place of a few of them.

use core::cell::Cell;
use core::marker::PhantomData;
use std::sync::atomic::{AtomicBool, Ordering};

use hl_mem::asid::Asid;
use hl_mem::buffer::BufferSlot;
use hl_mem::context::{ContextStorage, MappingSlot, TimestampPlace, TimestampStorage};
use hl_mem::device::{DeviceOptions, DeviceParts, Seat, SpaceNodes};
use hl_mem::dram::{DramContent, DramPool, DramRegion, PackRecord, PageRecord};
use hl_mem::events::{DeviceEvent, EventSlot};
use hl_mem::handle::HandleSlot;
use hl_mem::lock::LockRank;
use hl_mem::mmu::{Fault, MmuControl, MmuError, NoDramMmu, Walks};
use hl_mem::port::{Engines, Port, SpinLock};
use hl_mem::profile::Asic;
use hl_mem::timestamps::{CounterSlot, TimestampSlot, WaitSlot};
use hl_mem::va::Node;
use mmu_core::{
    BusAddr, ChildMap, DeviceTablePool, DeviceTableRecord, Format, Invalidate, Region, ReuseOrder,
    Stale, TableArena, TableBus, TableMemory, TablePool, TableRecord, Word,
};

use smallest_port::{NoBytes, NoEngines, Ram, SmallestPort, storage};

/// The smallest port, which the guide shows.
#[path = "../../src/guide/smallest_port.rs"]
pub mod smallest_port;

/// The smallest port, but for its MMU, its tables, and whatever else is named.
#[derive(Debug)]
pub struct TestPort<
    Mmu,
    Tables,
    Engines = NoEngines,
    Manner = InOrder,
    DramMmu = NoDramMmu,
    DramTables = Tables,
>(PhantomData<(Mmu, Tables, Engines, Manner, DramMmu, DramTables)>);

/// What a port says itself, and none of its parts.
pub trait Manner {
    /// [`Port::MAX_ASID`]: two users.
    const MAX_ASID: Option<u16> = Some(3);

    /// [`Port::before_lock`]: checks the order.
    fn before_lock(rank: LockRank) {
        SmallestPort::before_lock(rank);
    }

    /// [`Port::after_lock`].
    fn after_lock(rank: LockRank) {
        SmallestPort::after_lock(rank);
    }
}

/// What every port says that has nothing else to say.
#[derive(Debug)]
pub struct InOrder;

impl Manner for InOrder {}

impl<M, T, E, W, D, U> Port for TestPort<M, T, E, W, D, U>
where
    M: MmuControl,
    T: TableMemory,
    E: Engines,
    W: Manner,
    D: MmuControl,
    U: TableMemory,
{
    type Lock = SpinLock;
    type InterruptLock = SpinLock;
    type Host = &'static Ram;
    type Mmu = M;
    type Tables = T;
    type DramMmu = D;
    type DramTables = U;
    type Engines = E;
    type Scrubber = NoBytes;
    type Nodes = [Node; 16];
    type TimestampSlots = [TimestampSlot; 16];
    type EventSlots = [EventSlot<DeviceEvent>; 8];

    const MAX_ASID: Option<u16> = W::MAX_ASID;

    fn before_lock(rank: LockRank) {
        W::before_lock(rank);
    }

    fn after_lock(rank: LockRank) {
        W::after_lock(rank);
    }
}

/// What a device of such a port is made of, with sixteen pages of device memory, all of which a peer
/// reaches.
pub fn parts<A, P>(
    tables: P::Tables,
    engines: P::Engines,
    seats: usize,
) -> DeviceParts<'static, A, P>
where
    A: Asic,
    P: Port<
            Host = &'static Ram,
            Scrubber = NoBytes,
            Nodes = [Node; 16],
            EventSlots = [EventSlot<DeviceEvent>; 8],
        >,
{
    const PAGES: u32 = 16;
    let dram = A::PROFILE.dram;
    let pool = DramPool::new(
        DramRegion::new(dram.user_start, dram.page_bytes, PAGES).unwrap(),
        storage(PAGES as usize, || PageRecord::EMPTY),
        storage(PAGES as usize, || PackRecord::EMPTY),
        DramContent::Scrubbed,
    );
    DeviceParts {
        host: Box::leak(Box::default()),
        engines,
        tables,
        privileged: SpaceNodes::each(|| [Node::EMPTY; 16]),
        buffers: storage(8, BufferSlot::new),
        seats: storage(seats, || Seat::new([EventSlot::new(); 8])),
        dram: pool.unwrap(),
        scrubber: NoBytes,
        options: DeviceOptions {
            peer_window: dram.user_memory(),
            ..DeviceOptions::default()
        },
    }
}

/// What a file of such a port needs.
pub fn file_storage<P>() -> ContextStorage<'static, P>
where
    P: Port<Nodes = [Node; 16], TimestampSlots = [TimestampSlot; 16]>,
{
    ContextStorage {
        nodes: SpaceNodes::each(|| [Node::EMPTY; 16]),
        mappings: storage(16, MappingSlot::new),
        handles: storage(16, HandleSlot::new),
        timestamps: TimestampStorage {
            pools: storage(2, TimestampPlace::default),
            waits: storage(16, WaitSlot::new),
            counters: storage(4, CounterSlot::new),
        },
    }
}

/// Tables that the processor writes, where `wrap` puts something between.
pub type ArenaTables<T> = &'static TablePool<'static, T, SpinLock>;

/// So many tables that the processor writes.
pub fn arena_tables<T: TableArena>(
    count: usize,
    wrap: impl FnOnce(Region<'static, Word>) -> T,
) -> ArenaTables<T> {
    let words = storage(count, || core::array::from_fn(|_| Word::default()));
    let region = Region::new(words, BusAddr::new(0x4000_0000)).unwrap();
    let records = storage(count, TableRecord::new);
    let pool = TablePool::new(wrap(region), records, ReuseOrder::LastReleased);
    Box::leak(Box::new(pool.unwrap()))
}

/// Tables behind a bus.
pub type BusTables<B> = &'static DeviceTablePool<'static, B, SpinLock>;

/// The tables of an ASIC's device memory, behind a bus.
pub fn bus_tables<A: Asic, B: TableBus>(bus: B) -> BusTables<B> {
    const TABLES: usize = 64;
    let pool = DeviceTablePool::new(
        bus,
        A::PROFILE.device_tables.start(),
        storage(TABLES, DeviceTableRecord::new),
        storage(TABLES, ChildMap::new),
        ReuseOrder::LastReleased,
    );
    Box::leak(Box::new(pool.unwrap()))
}

std::thread_local! {
    /// How often this thread asked a [`NoCache`] to invalidate.
    pub static INVALIDATIONS: Cell<u32> = const { Cell::new(0) };
}

/// An MMU that caches nothing, for so many address spaces. It can be lost.
#[derive(Clone, Copy, Debug)]
pub struct NoCache {
    asids: u16,
    is_lost: &'static AtomicBool,
}

impl NoCache {
    /// One that answers.
    pub fn new(asids: u16) -> Self {
        static NEVER: AtomicBool = AtomicBool::new(false);
        Self::lost_while(asids, &NEVER)
    }

    /// One that does not answer while this is set.
    pub fn lost_while(asids: u16, is_lost: &'static AtomicBool) -> Self {
        Self { asids, is_lost }
    }

    fn answer(&self) -> Result<(), MmuError> {
        match self.is_lost.load(Ordering::Relaxed) {
            true => Err(MmuError::DeviceLost),
            false => Ok(()),
        }
    }
}

// SAFETY: there is no device that could have cached anything.
unsafe impl Invalidate for NoCache {
    type Error = MmuError;

    fn invalidate(&mut self, _stale: &Stale) -> Result<(), MmuError> {
        INVALIDATIONS.set(INVALIDATIONS.get() + 1);
        self.answer()
    }
}

// SAFETY: nothing walks any table.
unsafe impl<F: Format> Walks<F> for NoCache {}

// SAFETY: as above, and nothing walks any table.
unsafe impl MmuControl for NoCache {
    fn enable(&mut self) -> Result<(), MmuError> {
        self.answer()
    }

    fn disable(&mut self) -> Result<(), MmuError> {
        self.answer()
    }

    fn set_root(&mut self, asid: Asid, _root: BusAddr) -> Result<(), MmuError> {
        self.answer()?;
        if asid.get() < self.asids {
            Ok(())
        } else {
            Err(MmuError::AsidOutOfRange { asid })
        }
    }

    fn park(&mut self, _asid: Asid) -> Result<(), MmuError> {
        self.answer()
    }

    fn announce(&mut self) -> Result<(), MmuError> {
        self.answer()
    }

    fn invalidate_all(&mut self) -> Result<(), MmuError> {
        self.answer()
    }

    fn next_fault(&mut self, _from: &mut u32) -> Result<Option<Fault>, MmuError> {
        self.answer().map(|()| None)
    }
}
