//! Tables in memory that the processor reads and writes directly.

use core::fmt;

use lock_api::{Mutex, RawMutex};

use crate::addr::BusAddr;
use crate::format::{Entry, Format, Hop, TABLE_BYTES, TABLE_ENTRIES, deepest};
use crate::memory::{Chain, DeviceLost, Reserved, Sealed, Slot, TableDemand, TableId, TableMemory};
#[cfg(not(any(loom, target_has_atomic = "64")))]
use crate::split_word::SplitWord;
#[cfg(any(loom, target_has_atomic = "64"))]
use crate::sync::AtomicU64;
use crate::sync::{AtomicU32, Ordering, fence};

/// One 64-bit entry in memory that a device reads while the processor writes it.
///
/// Implemented for `AtomicU64` where the processor has it, and for
/// [`SplitWord`](crate::SplitWord); a model checker supplies its own. A page table may go to another
/// thread and is written from there, hence `Sync`.
pub trait TableWord: Sync {
    /// Reads the entry, whole.
    fn load(&self) -> u64;

    /// Writes the entry, whole: a device that reads concurrently sees the old value or the new
    /// one. Orders nothing else.
    fn store(&self, entry: u64);
}

// The device reads memory in little-endian order (facts 2.1), whatever the host's order.
#[cfg(any(loom, target_has_atomic = "64"))]
impl TableWord for AtomicU64 {
    #[inline(always)]
    fn load(&self) -> u64 {
        u64::from_le(AtomicU64::load(self, Ordering::Relaxed))
    }

    #[inline(always)]
    fn store(&self, entry: u64) {
        AtomicU64::store(self, entry.to_le(), Ordering::Relaxed);
    }
}

/// The kind of entry that suits the processor this is compiled for.
#[cfg(any(loom, target_has_atomic = "64"))]
pub type Word = AtomicU64;
/// The kind of entry that suits the processor this is compiled for.
#[cfg(not(any(loom, target_has_atomic = "64")))]
pub type Word = SplitWord;

/// The memory of a [`TablePool`]: some number of tables, each page-aligned and at a fixed bus
/// address.
///
/// # For implementers
///
/// Tables are numbered from zero. [`locate`](Self::locate) is the inverse of
/// [`address`](Self::address). A wrong answer cannot break memory safety here, but it makes the
/// *device* walk wrong tables.
pub trait TableArena {
    /// What an entry is made of.
    type Word: TableWord;

    /// The number of tables.
    fn capacity(&self) -> u32;

    /// The entries of a table; `None` beyond the capacity.
    fn words(&self, table: TableId) -> Option<&[Self::Word; TABLE_ENTRIES]>;

    /// The bus address of a table, by which the device reads it.
    fn address(&self, table: TableId) -> BusAddr;

    /// The table at a bus address, if it is one of the arena's.
    fn locate(&self, address: BusAddr) -> Option<TableId>;

    /// The table at a bus address, if it is one of the arena's, and its entries.
    ///
    /// What the other two say together. Each step of a walk asks this, so that an arena which checks
    /// once for both is faster.
    #[inline(always)]
    fn find(&self, address: BusAddr) -> Option<(TableId, &[Self::Word; TABLE_ENTRIES])> {
        let table = self.locate(address)?;
        Some((table, self.words(table)?))
    }

    /// Fills entries of a table that no device can reach with zeros.
    ///
    /// The default stores them one by one. That is the slowest part of taking a table into use,
    /// so an embedder that may write the memory by other means (`memset`, an instruction that
    /// zeroes cache lines) does well to use them here.
    #[inline(always)]
    fn zero(&self, entries: &[Self::Word]) {
        for entry in entries {
            entry.store(0);
        }
    }

    /// Orders the entries stored before this call before those stored after it, for a device that
    /// reads both. The default suffices where the device is coherent with the processor's ordinary
    /// memory ordering; elsewhere this is the place for the barrier.
    #[inline(always)]
    fn publish(&self) {
        fence(Ordering::Release);
    }
}

/// A [`TableArena`] of one contiguous piece of memory.
///
/// `W` is [`Word`] outside of models.
pub struct Region<'a, W = Word> {
    tables: &'a [[W; TABLE_ENTRIES]],
    address: BusAddr,
}

impl<'a, W> Region<'a, W> {
    /// The tables in `tables`, the first of which lies at `address`, a multiple of 4096, as the
    /// device sees it. `None` where `address` is not aligned, or the region would reach 2^64 or
    /// hold 2^32 - 1 tables or more.
    #[must_use]
    pub fn new(tables: &'a [[W; TABLE_ENTRIES]], address: BusAddr) -> Option<Self> {
        let count = u32::try_from(tables.len())
            .ok()
            .filter(|&count| count != TableId::NONE)?;
        address.checked_add(u64::from(count) * TABLE_BYTES)?;
        address
            .is_multiple_of(TABLE_BYTES)
            .then_some(Self { tables, address })
    }
}

impl<W> fmt::Debug for Region<'_, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Region({} tables at {})",
            self.tables.len(),
            self.address
        )
    }
}

impl<W: TableWord> TableArena for Region<'_, W> {
    type Word = W;

    #[inline(always)]
    fn capacity(&self) -> u32 {
        self.tables.len() as u32
    }

    #[inline(always)]
    fn words(&self, table: TableId) -> Option<&[W; TABLE_ENTRIES]> {
        self.tables.get(table.index())
    }

    #[inline(always)]
    fn address(&self, table: TableId) -> BusAddr {
        // `new` checked that no table of the region lies beyond 2^64.
        BusAddr::new(
            self.address
                .get()
                .wrapping_add(u64::from(table.number()) * TABLE_BYTES),
        )
    }

    #[inline(always)]
    fn locate(&self, address: BusAddr) -> Option<TableId> {
        self.find(address).map(|(table, _)| table)
    }

    #[inline(always)]
    fn find(&self, address: BusAddr) -> Option<(TableId, &[W; TABLE_ENTRIES])> {
        let index = address.get().wrapping_sub(self.address.get()) / TABLE_BYTES;
        let words = self.tables.get(usize::try_from(index).ok()?)?;
        // `new` checked that there are fewer tables than this has numbers.
        Some((TableId::new(index as u32), words))
    }
}

/// What a pool remembers of one table: 8 bytes.
#[derive(Debug)]
pub struct TableRecord {
    /// Slots in use; [`ZEROED`] while the table is free or reserved and known to be all zero.
    live: AtomicU32,
    /// The next table of the chain that this one is in.
    next: AtomicU32,
}

const ZEROED: u32 = 1 << 31;

/// Words that loops over many of them handle in one round: the processor stores more than one
/// word in the time that a round takes at least, and the compiler does not unroll loops over words
/// that others may read or write.
const BLOCK: usize = 8;

/// Entries of a run that are kept at a time. A divisor of [`BLOCK`].
const LANES: usize = 4;

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

impl Default for TableRecord {
    fn default() -> Self {
        Self::new()
    }
}

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

    /// Takes `count` tables as a chain. `link` reads the link of a table and `set_link` writes it.
    #[inline]
    pub(crate) fn reserve(
        &mut self,
        count: u64,
        link: impl Fn(u32) -> u32,
        set_link: impl Fn(u32, u32),
    ) -> Option<Chain> {
        if count > u64::from(self.usage().free) {
            return None;
        }
        let mut taken = Chain::EMPTY;
        while u64::from(taken.count) < count {
            let table = self.take_one(&link)?;
            taken.append(Chain::of(table), &set_link);
        }
        Some(taken)
    }

    /// Takes one table. `link` reads the link of a table.
    #[inline]
    pub(crate) fn take_one(&mut self, link: impl Fn(u32) -> u32) -> Option<TableId> {
        if let Some(table) = self.released.pop(link) {
            return Some(table);
        }
        let table = self.unused;
        if table == self.capacity {
            return None;
        }
        self.unused += 1;
        Some(TableId::new(table))
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

/// A pool of tables in memory that the processor reads and writes directly: host-resident tables
/// of a device, or tables in a firmware's own memory.
///
/// Share it by reference between the page tables of all address spaces. Only reserving and
/// releasing tables takes the lock; everything else touches tables that one page table owns.
pub struct TablePool<'a, A, R> {
    arena: A,
    records: &'a [TableRecord],
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
            free: Mutex::new(FreeList::new(capacity, order)),
        })
    }
}

impl<A: TableArena, R: RawMutex> TablePool<'_, A, R> {
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

    /// How many slots of a table are in use, of the table as it is now, whoever has it; 2^30 more in
    /// a table of default leaves. `None` where there is no such table. For looking on from outside.
    #[must_use]
    pub fn live_slots(&self, table: TableId) -> Option<u32> {
        let record = self.records.get(table.index())?;
        Some(record.live.load(Ordering::Relaxed))
    }

    #[inline(always)]
    fn table(&self, number: TableId) -> Option<PoolTable<'_, A::Word>> {
        let words = self.arena.words(number)?;
        Some(PoolTable { words, number })
    }

    #[inline(always)]
    fn link(&self, table: u32) -> u32 {
        match self.records.get(table as usize) {
            Some(record) => record.next.load(Ordering::Relaxed),
            None => TableId::NONE,
        }
    }

    #[inline(always)]
    fn set_link(&self, table: u32, next: u32) {
        if let Some(record) = self.records.get(table as usize) {
            record.next.store(next, Ordering::Relaxed);
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

/// A table of a [`TablePool`]: where its entries are, and its number.
pub struct PoolTable<'p, W> {
    words: &'p [W; TABLE_ENTRIES],
    number: TableId,
}

impl<W> PoolTable<'_, W> {
    /// The number of the table in its pool.
    #[must_use]
    pub const fn number(self) -> TableId {
        self.number
    }
}

impl<W> Clone for PoolTable<'_, W> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<W> Copy for PoolTable<'_, W> {}

impl<W> fmt::Debug for PoolTable<'_, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PoolTable({})", self.number.number())
    }
}

impl<'p, W: TableWord> PoolTable<'p, W> {
    /// The words of `count` slots; `None` where the table does not have them all.
    #[inline(always)]
    fn slots(self, first: usize, count: usize) -> Option<&'p [W]> {
        self.words.get(first..first.saturating_add(count))
    }

    /// How many of `count` slots satisfy a condition, up to the first that does not.
    #[inline(always)]
    fn prefix_len(self, first: usize, count: usize, condition: impl Fn(u64) -> bool) -> usize {
        let Some(slots) = self.slots(first, count) else {
            return 0;
        };
        // Whole blocks without a branch for each word, then up to the word that ends it. Loops and
        // not iterator chains, which the compiler moves out of line, where the hop is no constant.
        let mut len = 0;
        for block in slots.as_chunks::<BLOCK>().0 {
            let all = |all, slot: &W| all & condition(slot.load());
            if !block.iter().fold(true, all) {
                break;
            }
            len += BLOCK;
        }
        for slot in slots.get(len..).unwrap_or_default() {
            if !condition(slot.load()) {
                break;
            }
            len += 1;
        }
        len
    }
}

/// Stores `entry` and, each `step` more than the one before, the entries that follow it.
// Never in line: there, the compiler takes the sums apart that led to the step, and has more of them
// to keep up in each round than there are entries.
#[inline(never)]
fn store_run<W: TableWord>(slots: &[W], entry: u64, step: u64) {
    // Entries that do not wait for each other, so that the processor is not kept from storing more
    // than one in a cycle.
    let mut next: [u64; LANES] =
        core::array::from_fn(|lane| entry.wrapping_add(step.wrapping_mul(lane as u64)));
    let stride = step.wrapping_mul(LANES as u64);
    let (blocks, rest) = slots.as_chunks::<BLOCK>();
    for block in blocks {
        for lanes in block.as_chunks::<LANES>().0 {
            for (slot, entry) in lanes.iter().zip(&mut next) {
                slot.store(*entry);
                *entry = entry.wrapping_add(stride);
            }
        }
    }
    let [mut entry, ..] = next;
    for slot in rest {
        slot.store(entry);
        entry = entry.wrapping_add(step);
    }
}

/// Stores zeros, one by one: others may read the slots meanwhile.
#[inline(never)]
fn store_zeros<W: TableWord>(slots: &[W]) {
    let (blocks, rest) = slots.as_chunks::<BLOCK>();
    for block in blocks {
        for slot in block {
            slot.store(0);
        }
    }
    for slot in rest {
        slot.store(0);
    }
}

impl<A, R> Sealed for &TablePool<'_, A, R> {}

impl<'p, A: TableArena, R: RawMutex> TableMemory for &'p TablePool<'_, A, R> {
    type Table = PoolTable<'p, A::Word>;

    #[inline]
    fn reserve(self, demand: TableDemand) -> Option<Reserved> {
        let count = demand.total();
        if count == 0 {
            return Some(Reserved::EMPTY);
        }
        let tables = self.free.lock().reserve(
            count,
            |table| self.link(table),
            |table, next| self.set_link(table, next),
        )?;
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
    fn take_one(self, _interior: bool) -> Option<Self::Table> {
        let table = self.free.lock().take_one(|table| self.link(table))?;
        self.table(table)
    }

    #[inline]
    fn give_back(self, reserved: Reserved) {
        self.release(reserved.tables);
    }

    #[inline]
    fn pop(self, chain: &mut Chain) -> Option<Self::Table> {
        let table = chain.pop(|table| self.link(table))?;
        self.table(table)
    }

    #[inline]
    fn release(self, chain: Chain) {
        if !chain.is_empty() {
            self.free
                .lock()
                .release(chain, |table, next| self.set_link(table, next));
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
        chain.append(other, |table, next| self.set_link(table, next));
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
    fn clear(self, table: Self::Table, first: usize, count: usize) {
        if count == 1 {
            table.words[first % TABLE_ENTRIES].store(0);
        } else if let Some(slots) = table.slots(first, count) {
            store_zeros(slots);
        }
    }

    #[inline]
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
