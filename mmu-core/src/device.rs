//! Tables in memory behind a bus: the device's own DRAM, which the host reaches through a window.
//!
//! Writing there is slow and reading is slower still, since a read waits for the answer. So the
//! host keeps a compact record of each table: one bit for each slot in use and, for tables that
//! point at other tables, which ones. That is enough to map and to unmap without a single read,
//! and takes 76 bytes for a table of leaves instead of a copy of its 4096.

mod bus;
mod record;

pub use bus::TableBus;
pub use record::{ChildMap, DeviceTableRecord};

use core::fmt;

use lock_api::{Mutex, RawMutex};

use crate::addr::{AddrRange, BusAddr, DeviceAddr};
use crate::error::MapError;
use crate::format::{Format, Hop, TABLE_BYTES, TABLE_ENTRIES, deepest};
use crate::memory::{
    BACKED, Chain, DefaultTables, DeviceLost, Inside, Reserved, Sealed, Slot, TableDemand, TableId,
    TableMemory,
};
use crate::pool::{FreeList, PoolError, PoolUsage, ReuseOrder};
use crate::removed::Removed;
use crate::sync::Ordering;
use crate::table::PageTable;
use record::ZEROED;

/// Entries of a list that are made before they go over the bus: as many as fill some lines of a
/// cache that combines writes, and not too many for a small stack.
const BURST: usize = 64;

/// A table of a [`DeviceTablePool`]: what the pool remembers of it, and its number.
#[derive(Clone, Copy, Debug)]
pub struct DeviceTable<'p> {
    record: &'p DeviceTableRecord,
    number: TableId,
}

impl DeviceTable<'_> {
    /// The number of the table in its pool.
    #[must_use]
    pub const fn number(self) -> TableId {
        self.number
    }
}

/// The free tables and the free child maps.
#[derive(Debug)]
struct Free {
    tables: FreeList,
    maps: FreeList,
}

/// A pool of tables in memory behind a bus.
///
/// Share it by reference between the page tables of all address spaces. Only reserving and
/// releasing tables takes the lock; everything else touches tables that one page table owns.
pub struct DeviceTablePool<'a, B, R> {
    bus: B,
    address: BusAddr,
    records: &'a [DeviceTableRecord],
    maps: &'a [ChildMap],
    free: Mutex<R, Free>,
}

impl<'a, B: TableBus, R: RawMutex> DeviceTablePool<'a, B, R> {
    /// A pool of as many tables as there are records, the first of which lies at `address`.
    ///
    /// There is one of `maps` for each table above the deepest hop that can be in use at a time.
    /// The content of the tables may be anything; each is filled when it is taken.
    ///
    /// # Errors
    ///
    /// [`PoolError::Region`] when `address` is not a multiple of 4096, the tables would reach
    /// 2^64, or there are 2^32 - 1 records or maps or more.
    pub fn new(
        bus: B,
        address: BusAddr,
        records: &'a mut [DeviceTableRecord],
        maps: &'a mut [ChildMap],
        order: ReuseOrder,
    ) -> Result<Self, PoolError> {
        let count = |len| u32::try_from(len).ok().filter(|&len| len != TableId::NONE);
        let tables = count(records.len()).ok_or(PoolError::Region)?;
        let map_count = count(maps.len()).ok_or(PoolError::Region)?;
        if !address.is_multiple_of(TABLE_BYTES)
            || address
                .checked_add(u64::from(tables) * TABLE_BYTES)
                .is_none()
        {
            return Err(PoolError::Region);
        }
        let free = Mutex::new(Free {
            tables: FreeList::new(tables, order),
            maps: FreeList::new(map_count, ReuseOrder::LastReleased),
        });
        Ok(Self {
            bus,
            address,
            records,
            maps,
            free,
        })
    }
}

impl<B, R: RawMutex> DeviceTablePool<'_, B, R> {
    /// This pool, with the knowledge that the memory of all its tables is filled with zeros at this
    /// moment, so that none has to be zeroed over the bus when it is taken for the first time.
    ///
    /// The device's own means of filling memory are the faster ones (facts DR-3). Where it is not
    /// true, the device walks what is in the tables.
    #[must_use]
    pub fn zeroed(self) -> Self {
        for record in self.records {
            record.live.store(ZEROED, Ordering::Relaxed);
        }
        self
    }

    /// How many tables there are and how many of them are free.
    #[must_use]
    pub fn usage(&self) -> PoolUsage {
        self.free.lock().tables.usage()
    }

    /// How many child maps there are and how many of them are free.
    #[must_use]
    pub fn map_usage(&self) -> PoolUsage {
        self.free.lock().maps.usage()
    }

    /// The way to the tables.
    #[must_use]
    pub fn bus(&self) -> &B {
        &self.bus
    }

    /// How many slots of a table are in use, of the table as it is now, whoever has it, where
    /// default leaves do not count; of a table that nobody has, zero. `None` where there is no such
    /// table. For looking on from outside.
    #[must_use]
    pub fn live_slots(&self, table: TableId) -> Option<u32> {
        let record = self.records.get(table.index())?;
        Some(record.live.load(Ordering::Relaxed) & !(ZEROED | BACKED))
    }

    fn table(&self, number: TableId) -> Option<DeviceTable<'_>> {
        let record = self.records.get(number.index())?;
        Some(DeviceTable { record, number })
    }

    fn children(&self, record: &DeviceTableRecord) -> Option<&ChildMap> {
        self.maps
            .get(record.children.load(Ordering::Relaxed) as usize)
    }

    fn slot_address(&self, table: DeviceTable<'_>, index: usize) -> BusAddr {
        // `new` checked that no table lies beyond 2^64.
        let offset = u64::from(table.number.number()) * TABLE_BYTES + index as u64 * 8;
        BusAddr::new(self.address.get().wrapping_add(offset))
    }

    /// Writes `entry` into `count` slots without noting them as used.
    fn write_default(&self, table: DeviceTable<'_>, first: usize, count: usize, entry: u64)
    where
        B: TableBus,
    {
        let entries = core::iter::repeat_n(entry, count);
        self.bus.write(self.slot_address(table, first), entries);
    }

    /// Notes that `count` slots, beginning at `first`, hold leaves.
    fn note_leaves(&self, table: DeviceTable<'_>, first: usize, count: usize) {
        table.record.set_used(first, count, true);
        // A leaf may take a table's place.
        if let Some(children) = self.children(table.record) {
            children.forget(first, count);
        }
    }

    /// Takes the child maps off the tables of a chain.
    fn detach_maps(&self, chain: &Chain) -> Chain {
        let mut maps = Chain::EMPTY;
        for record in chain.iter(self.records) {
            let map = record.children.load(Ordering::Relaxed);
            if map != TableId::NONE {
                record.children.store(TableId::NONE, Ordering::Relaxed);
                maps.append(Chain::of(TableId::new(map)), self.maps);
            }
        }
        maps
    }
}

impl<B: fmt::Debug, R: RawMutex> fmt::Debug for DeviceTablePool<'_, B, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceTablePool")
            .field("bus", &self.bus)
            .field("address", &self.address)
            .field("usage", &self.usage())
            .finish_non_exhaustive()
    }
}

impl<B, R> Sealed for &DeviceTablePool<'_, B, R> {}

impl<'p, B: TableBus, R: RawMutex> TableMemory for &'p DeviceTablePool<'_, B, R> {
    type Table = DeviceTable<'p>;

    const HAS_DEFAULTS: bool = true;

    fn try_set_default<F: Format>(
        table: &mut PageTable<F, Self>,
        range: AddrRange<DeviceAddr>,
        hop: Hop,
        page: BusAddr,
        attributes: F::Attributes,
    ) -> Result<(), MapError> {
        table.set_default(range, hop, page, attributes)
    }

    fn try_remove_default<F: Format>(table: &mut PageTable<F, Self>) -> Option<Removed<Self>> {
        Some(table.remove_default())
    }

    fn reserve(self, demand: TableDemand, _: Inside) -> Option<Reserved> {
        let mut free = self.free.lock();
        if demand.interior > u64::from(free.maps.usage().free) {
            return None;
        }
        let tables = free.tables.reserve(demand.total(), self.records, |_| ())?;
        let maps = free.maps.reserve(demand.interior, self.maps, |_| ());
        // The check above left no way for this to fail.
        let maps = maps.unwrap_or(Chain::EMPTY);
        Some(Reserved { tables, maps })
    }

    fn take(self, reserved: &mut Reserved, interior: bool) -> Option<Self::Table> {
        let table = self.pop(&mut reserved.tables)?;
        let record = table.record;
        if interior {
            let map = reserved.maps.pop(self.maps)?;
            record.children.store(map.number(), Ordering::Relaxed);
        }
        record.forget_all();
        Some(table)
    }

    fn is_same(self, other: Self) -> bool {
        core::ptr::eq(self, other)
    }

    fn give_back(self, reserved: Reserved) {
        self.release(reserved.tables);
        let mut free = self.free.lock();
        free.maps.release(reserved.maps, self.maps);
    }

    fn pop(self, chain: &mut Chain) -> Option<Self::Table> {
        let table = chain.pop(self.records)?;
        self.table(table)
    }

    fn release(self, chain: Chain) {
        let detached = self.detach_maps(&chain);
        let mut free = self.free.lock();
        free.tables.release(chain, self.records);
        free.maps.release(detached, self.maps);
    }

    fn append(self, chain: &mut Chain, table: Self::Table, zeroed: bool) {
        self.set_live(table, if zeroed { ZEROED } else { 0 });
        self.append_chain(chain, Chain::of(table.number));
    }

    fn chain_of(self, table: Self::Table) -> Chain {
        Chain::of(table.number)
    }

    fn append_chain(self, chain: &mut Chain, other: Chain) {
        chain.append(other, self.records);
    }

    fn address(self, table: Self::Table) -> u64 {
        self.slot_address(table, 0).get()
    }

    fn is_zeroed(self, table: Self::Table) -> bool {
        table.record.live.load(Ordering::Relaxed) == ZEROED
    }

    fn slot<F: Format>(self, table: Self::Table, hop: Hop, index: usize) -> Slot<Self::Table> {
        let record = table.record;
        if !record.is_used(index) {
            return if record.is_backed() {
                Slot::Default
            } else {
                Slot::Empty
            };
        }
        if usize::from(hop.number()) == deepest::<F>() {
            return Slot::Leaf;
        }
        let child = self.children(record).map(|map| map.get(index));
        match child {
            Some(child) if child != TableId::NONE => match self.table(TableId::new(child)) {
                Some(child) => Slot::Table(child),
                None => Slot::Foreign,
            },
            _ => Slot::Leaf,
        }
    }

    fn entry(self, table: Self::Table, index: usize) -> u64 {
        self.bus.read(self.slot_address(table, index))
    }

    fn empty_slots<F: Format>(
        self,
        table: Self::Table,
        _hop: Hop,
        first: usize,
        count: usize,
    ) -> usize {
        table.record.prefix_len(first, count, false)
    }

    fn leaf_slots<F: Format>(
        self,
        table: Self::Table,
        hop: Hop,
        first: usize,
        count: usize,
    ) -> usize {
        let used = table.record.prefix_len(first, count, true);
        match self.children(table.record) {
            Some(map) if usize::from(hop.number()) != deepest::<F>() => (first..first + used)
                .take_while(|&index| map.get(index) == TableId::NONE)
                .count(),
            _ => used,
        }
    }

    fn write_leaves(
        self,
        table: Self::Table,
        first: usize,
        entries: impl Iterator<Item = u64>,
    ) -> usize {
        let mut written = 0;
        let mut counted = entries
            .take(TABLE_ENTRIES.saturating_sub(first))
            .inspect(|_| written += 1);
        self.bus
            .write(self.slot_address(table, first), &mut counted);
        // A bus that knows the device to be gone takes nothing, but what is noted is undone later as
        // if it had been written.
        counted.for_each(drop);
        self.note_leaves(table, first, written);
        written
    }

    // In line, so that making the entries of a list is a loop of its own without a call: inside the
    // bus, it would keep its place in the list in memory.
    #[inline(always)]
    fn write_list(
        self,
        table: Self::Table,
        first: usize,
        count: usize,
        entries: &mut impl Iterator<Item = u64>,
    ) -> usize {
        let count = count.min(TABLE_ENTRIES.saturating_sub(first));
        let mut burst = [0; BURST];
        let mut written = 0;
        while written < count {
            let room = BURST.min(count - written);
            let mut len = 0;
            // Slots first: no entry is taken that is not written.
            let slots = burst.get_mut(..room).unwrap_or_default();
            for (slot, entry) in slots.iter_mut().zip(&mut *entries) {
                *slot = entry;
                len += 1;
            }
            let made = burst.get(..len).unwrap_or_default();
            self.bus.write(
                self.slot_address(table, first + written),
                made.iter().copied(),
            );
            written += len;
            if len < room {
                break;
            }
        }
        self.note_leaves(table, first, written);
        written
    }

    fn write_run(self, table: Self::Table, first: usize, count: usize, entry: u64, step: u64) {
        let count = count.min(TABLE_ENTRIES.saturating_sub(first));
        let entries = (0..count as u64).map(|leaf| entry.wrapping_add(leaf.wrapping_mul(step)));
        self.bus.write(self.slot_address(table, first), entries);
        self.note_leaves(table, first, count);
    }

    fn write_table(self, table: Self::Table, index: usize, entry: u64, child: Self::Table) {
        table.record.set_used(index, 1, true);
        if let Some(children) = self.children(table.record) {
            children.set(index, child.number.number());
        }
        self.bus
            .write(self.slot_address(table, index), core::iter::once(entry));
    }

    fn clear(self, table: Self::Table, first: usize, count: usize, default: Option<u64>) {
        table.record.set_used(first, count, false);
        match default {
            Some(entry) if table.record.is_backed() => {
                self.write_default(table, first, count, entry);
            }
            _ => self.zero(table, first, first + count),
        }
    }

    fn zero(self, table: Self::Table, first: usize, end: usize) {
        let zeros = core::iter::repeat_n(0, end.saturating_sub(first));
        self.bus.write(self.slot_address(table, first), zeros);
    }

    fn live(self, table: Self::Table) -> u32 {
        table.record.live.load(Ordering::Relaxed)
    }

    fn set_live(self, table: Self::Table, live: u32) {
        table.record.live.store(live, Ordering::Relaxed);
    }

    fn content_lost(self) {
        for record in self.records {
            // Only the mark of a free table goes; tables in use are their owners' to write anew. In
            // one step, since another page table may be taking this one.
            let (free, relaxed) = (ZEROED, Ordering::Relaxed);
            let _ = record.live.compare_exchange(free, 0, relaxed, relaxed);
        }
    }

    fn publish(self) {
        // Writes over the bus arrive in order.
    }

    fn flush(self) -> Result<(), DeviceLost> {
        self.bus.flush()
    }
}

impl<B: TableBus, R: RawMutex> DefaultTables for &DeviceTablePool<'_, B, R> {
    fn back(self, table: Self::Table, slots: usize, entry: u64) {
        let zeroed = self.is_zeroed(table);
        self.write_default(table, 0, slots, entry);
        if !zeroed && slots < TABLE_ENTRIES {
            self.zero(table, slots, TABLE_ENTRIES);
        }
        self.set_live(table, BACKED);
    }

    fn unback(self, table: Self::Table) -> bool {
        let record = table.record;
        let live = record.live.load(Ordering::Relaxed) & !BACKED;
        record.live.store(live, Ordering::Relaxed);
        if live == 0 {
            return false;
        }
        let mut first = 0;
        while first < TABLE_ENTRIES {
            let unused = record.prefix_len(first, TABLE_ENTRIES, false);
            if unused != 0 {
                self.zero(table, first, first + unused);
            }
            first += unused;
            first += record.prefix_len(first, TABLE_ENTRIES, true);
        }
        true
    }
}
