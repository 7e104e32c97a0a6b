//! Tables in the memory of a device that is not there: a bus that keeps bytes, counts what is asked
//! of it, and loses the device when it is told to.

use std::cell::{Cell, RefCell};

use mmu_core::{
    BusAddr, ChildMap, DeviceLost, DeviceTablePool, DeviceTableRecord, PageTable, PoolUsage,
    ReuseOrder, TableBus, TableId,
};

use super::{ARENA, DIRT, ENTRIES, Lock, Words};

/// A pool over a [`Memory`].
pub(crate) type Pool<'a> = DeviceTablePool<'a, &'a FakeBus, Lock>;

/// A page table over a [`Pool`].
pub(crate) type Table<'p, 'a, F> = PageTable<F, &'p Pool<'a>>;

/// What the bus was asked for since the last [`FakeBus::take`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) reads: u64,
    pub(crate) flushes: u64,
    /// The address and the number of words of each write.
    pub(crate) writes: Vec<(u64, usize)>,
}

impl Asked {
    /// Words written.
    pub(crate) fn words(&self) -> usize {
        self.writes.iter().map(|(_, words)| words).sum()
    }
}

/// A bus with memory behind it.
#[derive(Debug)]
pub(crate) struct FakeBus {
    words: Vec<Cell<u64>>,
    asked: RefCell<Asked>,
    /// The device is lost at this flush, counted from one; zero is never.
    lose_at_flush: Cell<u64>,
    /// The device is lost before this write, counted from one; zero is never.
    lose_at_write: Cell<u64>,
    lost: Cell<bool>,
    /// A write is going on, amid which nothing else may be asked.
    writing: Cell<bool>,
    /// Writes arrive, but no flush is answered.
    deaf: Cell<bool>,
}

impl FakeBus {
    fn new(tables: usize) -> Self {
        Self {
            words: vec![Cell::new(DIRT); tables * ENTRIES],
            asked: RefCell::default(),
            lose_at_flush: Cell::new(0),
            lose_at_write: Cell::new(0),
            lost: Cell::new(false),
            writing: Cell::new(false),
            deaf: Cell::new(false),
        }
    }

    /// What was asked since the last call.
    pub(crate) fn take(&self) -> Asked {
        self.asked.take()
    }

    /// Loses the device at the flush that is number `n` from now.
    pub(crate) fn lose_at_flush(&self, n: u64) {
        self.lose_at_flush.set(n);
    }

    /// Loses the device before the write that is number `n` from now.
    pub(crate) fn lose_at_write(&self, n: u64) {
        self.lose_at_write.set(n);
    }

    /// Answers no flush, though all that is written arrives, until the device is back.
    pub(crate) fn be_deaf(&self) {
        self.deaf.set(true);
    }

    /// The device is back, its memory as it was.
    pub(crate) fn come_back(&self) {
        self.lose_at_flush.set(0);
        self.lose_at_write.set(0);
        self.lost.set(false);
        self.deaf.set(false);
    }

    /// The device is back from a reset that destroyed its memory.
    pub(crate) fn reset(&self) {
        self.come_back();
        self.words.iter().for_each(|word| word.set(DIRT));
    }

    fn word(&self, address: u64) -> &Cell<u64> {
        assert_eq!(address % 8, 0, "a word at {address:#x}");
        &self.words[((address - ARENA) / 8) as usize]
    }

    /// Counts down to a loss.
    fn count_down(&self, counter: &Cell<u64>) {
        if counter.get() == 1 {
            self.lost.set(true);
        }
        counter.set(counter.get().saturating_sub(1));
    }
}

impl TableBus for &FakeBus {
    fn write(&self, address: BusAddr, entries: impl Iterator<Item = u64>) {
        self.count_down(&self.lose_at_write);
        if self.lost.get() {
            // What is written is dropped (facts DR-6), and a bus that knows does not even look.
            return;
        }
        assert!(!self.writing.replace(true), "a write within a write");
        let mut words = 0;
        let mut at = address.get();
        for entry in entries {
            self.word(at).set(entry);
            at += 8;
            words += 1;
        }
        self.writing.set(false);
        self.asked.borrow_mut().writes.push((address.get(), words));
    }

    fn read(&self, address: BusAddr) -> u64 {
        assert!(!self.writing.get(), "a read within a write");
        self.asked.borrow_mut().reads += 1;
        let word = self.word(address.get());
        if self.lost.get() {
            u64::MAX
        } else {
            word.get()
        }
    }

    fn flush(&self) -> Result<(), DeviceLost> {
        self.count_down(&self.lose_at_flush);
        self.asked.borrow_mut().flushes += 1;
        if self.lost.get() || self.deaf.get() {
            Err(DeviceLost)
        } else {
            Ok(())
        }
    }
}

/// Memory behind a bus, and the records of its tables.
pub(crate) struct Memory {
    bus: FakeBus,
    records: Vec<DeviceTableRecord>,
    maps: Vec<ChildMap>,
}

impl Memory {
    /// Memory for `count` tables, dirty, as a stranger would leave it.
    pub(crate) fn new(count: usize) -> Self {
        Self::with_maps(count, count)
    }

    /// As [`new`](Self::new), with fewer maps than tables.
    pub(crate) fn with_maps(count: usize, maps: usize) -> Self {
        Self {
            bus: FakeBus::new(count),
            records: (0..count).map(|_| DeviceTableRecord::new()).collect(),
            maps: (0..maps).map(|_| ChildMap::new()).collect(),
        }
    }

    pub(crate) fn pool(&mut self) -> Pool<'_> {
        DeviceTablePool::new(
            &self.bus,
            BusAddr::new(ARENA),
            &mut self.records,
            &mut self.maps,
            ReuseOrder::LastReleased,
        )
        .unwrap()
    }
}

impl Memory {
    /// A pool that knows its memory to be filled with zeros.
    pub(crate) fn zeroed_pool(&mut self) -> Pool<'_> {
        self.bus.words.iter().for_each(|word| word.set(0));
        self.pool().zeroed()
    }
}

impl Words for Pool<'_> {
    fn word(&self, table: u32, index: usize) -> u64 {
        let address = ARENA + u64::from(table) * 4096 + index as u64 * 8;
        self.bus().word(address).get()
    }

    fn live_of(&self, table: u32) -> u32 {
        self.live_slots(TableId::new(table)).unwrap()
    }

    fn pool_usage(&self) -> PoolUsage {
        self.usage()
    }

    fn map_usage(&self) -> Option<PoolUsage> {
        Some(self.map_usage())
    }
}
