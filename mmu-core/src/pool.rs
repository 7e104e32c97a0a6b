//! Tables in memory that the processor reads and writes directly.

mod arena;
mod free;
mod table;

pub(crate) use free::FreeList;

pub use arena::{Region, TableArena, TableWord, Word};
pub use free::{PoolUsage, ReuseOrder};
pub use table::PoolTable;

use core::fmt;

use lock_api::{Mutex, RawMutex};

use crate::addr::BusAddr;
use crate::format::{Entry, Format, Hop, TABLE_ENTRIES, deepest};
use crate::memory::{
    BACKED, Chain, DeviceLost, Inside, Linked, Reserved, Sealed, Slot, TableDemand, TableId,
    TableMemory,
};
use crate::sync::{AtomicU32, Ordering};
use table::{BLOCK, store_run, store_zeros};

/// What a pool remembers of one table: 8 bytes.
#[derive(Debug)]
pub struct TableRecord {
    /// Slots in use; [`ZEROED`] while the table is free or reserved and known to be all zero.
    live: AtomicU32,
    /// The next table of the chain that this one is in.
    next: AtomicU32,
}

const ZEROED: u32 = 1 << 31;

impl TableRecord {
    /// The record of a table that has never been used.
    #[must_use]
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self {
            live: AtomicU32::new(0),
            next: AtomicU32::new(TableId::NONE),
        }
    }

    /// The record of a table that has never been used.
    #[must_use]
    #[cfg(loom)]
    pub fn new() -> Self {
        Self {
            live: AtomicU32::new(0),
            next: AtomicU32::new(TableId::NONE),
        }
    }
}

impl Linked for TableRecord {
    #[inline(always)]
    fn next(&self) -> &AtomicU32 {
        &self.next
    }
}

impl Default for TableRecord {
    fn default() -> Self {
        Self::new()
    }
}

/// A pool of tables in memory that the processor reads and writes directly: host-resident tables
/// of a device, or tables in a firmware's own memory.
///
/// Share it by reference between the page tables of all address spaces. Only reserving and
/// releasing tables takes the lock; everything else touches tables that one page table owns.
pub struct TablePool<'a, A, R> {
    arena: A,
    records: &'a [TableRecord],
    /// What the record of a table that was never taken begins with.
    unused_live: u32,
    free: Mutex<R, FreeList>,
}

/// Why a pool cannot be built.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum PoolError {
    /// The tables are not page-aligned, reach 2^64, or are too many to number.
    Region,
    /// There are fewer records than tables.
    TooFewRecords {
        /// Records that are needed: one per table.
        needed: u32,
    },
}

impl fmt::Display for PoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Region => f.write_str("the tables cannot be numbered or addressed"),
            Self::TooFewRecords { needed } => write!(f, "the pool needs {needed} table records"),
        }
    }
}

impl core::error::Error for PoolError {}

impl<'a, A: TableArena, R: RawMutex> TablePool<'a, A, R> {
    /// A pool over all tables of `arena`, with one of `records` for each.
    ///
    /// The content of the tables may be anything; each is filled when it is taken.
    ///
    /// # Errors
    ///
    /// [`PoolError::TooFewRecords`] when there are fewer records than tables.
    pub fn new(
        arena: A,
        records: &'a mut [TableRecord],
        order: ReuseOrder,
    ) -> Result<Self, PoolError> {
        let capacity = arena.capacity();
        if (records.len() as u64) < u64::from(capacity) {
            return Err(PoolError::TooFewRecords { needed: capacity });
        }
        Ok(Self {
            arena,
            records,
            unused_live: 0,
            free: Mutex::new(FreeList::new(capacity, order)),
        })
    }
}

impl<A: TableArena, R: RawMutex> TablePool<'_, A, R> {
    /// This pool, with the knowledge that all tables which were never taken are filled with zeros at
    /// this moment, as memory is that an operating system has just handed out for a device, and a
    /// static whose words are zero. So none has to be zeroed when it is taken for the first time,
    /// which is most of what that costs.
    ///
    /// Where it is not true, the device walks what is in the tables.
    #[must_use]
    pub fn zeroed(mut self) -> Self {
        self.unused_live = ZEROED;
        self
    }

    /// How many tables there are and how many of them are free.
    #[must_use]
    pub fn usage(&self) -> PoolUsage {
        self.free.lock().usage()
    }

    /// The memory the tables are in.
    #[must_use]
    pub fn arena(&self) -> &A {
        &self.arena
    }

    /// How many slots of a table are in use, of the table as it is now, whoever has it; of a table
    /// that nobody has, zero. `None` where there is no such table. For looking on from outside.
    #[must_use]
    pub fn live_slots(&self, table: TableId) -> Option<u32> {
        let record = self.records.get(table.index())?;
        Some(record.live.load(Ordering::Relaxed) & !(ZEROED | BACKED))
    }

    #[inline(always)]
    fn table(&self, number: TableId) -> Option<PoolTable<'_, A::Word>> {
        let words = self.arena.words(number)?;
        Some(PoolTable { words, number })
    }

    /// Begins the record of a table that is taken for the first time: what the record says is of
    /// another pool, or nothing.
    // Not when the pool is made, which would take a visit to all records. This way nobody has to
    // wait for the record to come into the cache either: who reads it finds what was just written.
    #[inline(always)]
    fn begin_record(&self, table: TableId) {
        if let Some(record) = self.records.get(table.index()) {
            record.live.store(self.unused_live, Ordering::Relaxed);
        }
    }
}

impl<A: TableArena + fmt::Debug, R: RawMutex> fmt::Debug for TablePool<'_, A, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TablePool")
            .field("arena", &self.arena)
            .field("usage", &self.usage())
            .finish_non_exhaustive()
    }
}

impl<A, R> Sealed for &TablePool<'_, A, R> {}

impl<'p, A: TableArena, R: RawMutex> TableMemory for &'p TablePool<'_, A, R> {
    type Table = PoolTable<'p, A::Word>;

    // Out of line, like the next but one: once for a call that maps, and long in line.
    #[inline(never)]
    fn reserve(self, demand: TableDemand, _: Inside) -> Option<Reserved> {
        let count = demand.total();
        if count == 0 {
            return Some(Reserved::EMPTY);
        }
        let tables = self
            .free
            .lock()
            .reserve(count, self.records, |table| self.begin_record(table))?;
        Some(Reserved {
            tables,
            ..Reserved::EMPTY
        })
    }

    #[inline]
    fn take(self, reserved: &mut Reserved, _interior: bool) -> Option<Self::Table> {
        self.pop(&mut reserved.tables)
    }

    #[inline]
    fn take_one(self, _interior: bool, _: Inside) -> Option<Self::Table> {
        let table = self
            .free
            .lock()
            .take_one(self.records, |table| self.begin_record(table))?;
        self.table(table)
    }

    #[inline]
    fn is_same(self, other: Self) -> bool {
        core::ptr::eq(self, other)
    }

    #[inline]
    fn give_back(self, reserved: Reserved) {
        self.release(reserved.tables);
    }

    #[inline]
    fn pop(self, chain: &mut Chain) -> Option<Self::Table> {
        let table = chain.pop(self.records)?;
        self.table(table)
    }

    #[inline]
    fn release(self, chain: Chain) {
        if !chain.is_empty() {
            self.free.lock().release(chain, self.records);
        }
    }

    #[inline]
    fn append(self, chain: &mut Chain, table: Self::Table, zeroed: bool) {
        if let Some(record) = self.records.get(table.number.index()) {
            record
                .live
                .store(if zeroed { ZEROED } else { 0 }, Ordering::Relaxed);
        }
        let mut table = self.chain_of(table);
        if zeroed {
            // To the front: tables are taken from there, those of the upper hops first, and these
            // are never filled with leaves.
            self.append_chain(&mut table, chain.take());
            *chain = table;
        } else {
            self.append_chain(chain, table);
        }
    }

    #[inline]
    fn chain_of(self, table: Self::Table) -> Chain {
        Chain::of(table.number)
    }

    #[inline]
    fn append_chain(self, chain: &mut Chain, other: Chain) {
        chain.append(other, self.records);
    }

    #[inline(always)]
    fn address(self, table: Self::Table) -> u64 {
        self.arena.address(table.number).get()
    }

    #[inline(always)]
    fn is_zeroed(self, table: Self::Table) -> bool {
        self.records
            .get(table.number.index())
            .is_some_and(|record| record.live.load(Ordering::Relaxed) == ZEROED)
    }

    #[inline(always)]
    fn slot<F: Format>(self, table: Self::Table, hop: Hop, index: usize) -> Slot<Self::Table> {
        match F::decode(hop, self.entry(table, index)) {
            Entry::Empty => Slot::Empty,
            Entry::Leaf { .. } => Slot::Leaf,
            // The deepest hop has no tables below it.
            Entry::Table { .. } if usize::from(hop.number()) == deepest::<F>() => Slot::Foreign,
            Entry::Table { address } => match self.arena.find(BusAddr::new(address)) {
                Some((number, words)) => Slot::Table(PoolTable { words, number }),
                None => Slot::Foreign,
            },
        }
    }

    #[inline(always)]
    fn linked<F: Format>(self, table: Self::Table, hop: Hop, index: usize) -> Option<Self::Table> {
        if !F::LINKS_IN_PLACE {
            return self.slot::<F>(table, hop, index).table();
        }
        // Without the mark of a table entry what is left is the address of a table, and of any other
        // entry is not: nothing has to be decoded.
        let entry = self.entry(table, index) & !F::WALK_MARKS;
        let address = entry.wrapping_sub(F::table_entry(hop, 0));
        let (number, words) = self.arena.find(BusAddr::new(address))?;
        Some(PoolTable { words, number })
    }

    #[inline]
    fn empty_slots<F: Format>(
        self,
        table: Self::Table,
        hop: Hop,
        first: usize,
        count: usize,
    ) -> usize {
        table.prefix_len(first, count, |entry| {
            matches!(F::decode(hop, entry), Entry::Empty)
        })
    }

    #[inline]
    fn leaf_slots<F: Format>(
        self,
        table: Self::Table,
        hop: Hop,
        first: usize,
        count: usize,
    ) -> usize {
        table.prefix_len(first, count, |entry| F::is_leaf(hop, entry))
    }

    #[inline(always)]
    fn entry(self, table: Self::Table, index: usize) -> u64 {
        table.words[index % TABLE_ENTRIES].load()
    }

    #[inline(always)]
    fn write_leaves(
        self,
        table: Self::Table,
        first: usize,
        entries: impl Iterator<Item = u64>,
    ) -> usize {
        let slots = table.words.get(first..).unwrap_or_default();
        let mut written = 0;
        for (slot, entry) in slots.iter().zip(entries) {
            slot.store(entry);
            written += 1;
        }
        written
    }

    #[inline(always)]
    fn write_list(
        self,
        table: Self::Table,
        first: usize,
        count: usize,
        entries: &mut impl Iterator<Item = u64>,
    ) -> usize {
        let Some(slots) = table.slots(first, count) else {
            return 0;
        };
        let (blocks, rest) = slots.as_chunks::<BLOCK>();
        let mut written = 0;
        for block in blocks {
            for (index, slot) in block.iter().enumerate() {
                let Some(entry) = entries.next() else {
                    return written + index;
                };
                slot.store(entry);
            }
            written += BLOCK;
        }
        for slot in rest {
            let Some(entry) = entries.next() else {
                return written;
            };
            slot.store(entry);
            written += 1;
        }
        written
    }

    #[inline(always)]
    fn write_run(self, table: Self::Table, first: usize, count: usize, entry: u64, step: u64) {
        if let Some(slots) = table.slots(first, count) {
            store_run(slots, entry, step);
        }
    }

    #[inline(always)]
    fn write_table(self, table: Self::Table, index: usize, entry: u64, _child: Self::Table) {
        table.words[index % TABLE_ENTRIES].store(entry);
    }

    #[inline(always)]
    fn clear(self, table: Self::Table, first: usize, count: usize, _default: Option<u64>) {
        if count == 1 {
            table.words[first % TABLE_ENTRIES].store(0);
        } else if let Some(slots) = table.slots(first, count) {
            store_zeros(slots);
        }
    }

    #[inline(never)]
    fn zero(self, table: Self::Table, first: usize, end: usize) {
        if let Some(slots) = table.slots(first, end.saturating_sub(first)) {
            self.arena.zero(slots);
        }
    }

    #[inline(always)]
    fn live(self, table: Self::Table) -> u32 {
        match self.records.get(table.number.index()) {
            Some(record) => record.live.load(Ordering::Relaxed),
            None => 0,
        }
    }

    #[inline(always)]
    fn set_live(self, table: Self::Table, live: u32) {
        if let Some(record) = self.records.get(table.number.index()) {
            record.live.store(live, Ordering::Relaxed);
        }
    }

    #[inline(always)]
    fn publish(self) {
        self.arena.publish();
    }

    #[inline(always)]
    fn flush(self) -> Result<(), DeviceLost> {
        // A plain store needs no read back, only order before whatever tells the device to look.
        self.arena.publish();
        Ok(())
    }
}
