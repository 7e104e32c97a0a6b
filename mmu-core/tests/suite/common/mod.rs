//! What the tests share: tables in ordinary memory, a lock that never waits, an MMU that confirms
//! or refuses, the shapes of the formats, an independent reader of table words, and an oracle.

pub(crate) mod device;
pub(crate) mod model;
pub(crate) mod operations;
pub(crate) mod raw;
pub(crate) mod shape;

use std::sync::atomic::{AtomicU64, Ordering};

use mmu_core::{
    AddrRange, BusAddr, DeviceAddr, Format, Invalidate, LeafSizes, MapOptions, PageTable,
    PoolUsage, Region, Removed, ReuseOrder, Run, SplitWord, Stale, TableMemory, TablePool,
    TableRecord, TableWord,
};

/// Entries in a table.
pub(crate) const ENTRIES: usize = 512;

/// What a table that nobody has filled holds.
pub(crate) const DIRT: u64 = 0xA5A5_A5A5_A5A5_A5A5;

/// Where the tables of the tests lie, as the device sees them.
pub(crate) const ARENA: u64 = 0x4000_0000;

/// The lock of the tests.
pub(crate) type Lock = spin::mutex::SpinMutex<()>;

/// A pool over a [`Memory`].
pub(crate) type Pool<'a, W = AtomicU64> = TablePool<'a, Region<'a, W>, Lock>;

/// A page table over a [`Pool`].
pub(crate) type Table<'p, 'a, F, W = AtomicU64> = PageTable<F, &'p Pool<'a, W>>;

/// Memory for tables of ordinary words.
pub(crate) type Memory = WordMemory<AtomicU64>;

/// Memory for tables of words that count.
pub(crate) type CountingMemory = WordMemory<CountingWord>;

/// Memory for tables and for their records.
pub(crate) struct WordMemory<W> {
    tables: Vec<[W; ENTRIES]>,
    records: Vec<TableRecord>,
}

impl Memory {
    /// Memory for `count` tables, dirty, as a stranger would leave it.
    pub(crate) fn new(count: usize) -> Self {
        let mut tables: Vec<[AtomicU64; ENTRIES]> = Vec::with_capacity(count);
        // SAFETY: the capacity is `count` tables, and writing bytes to what is allocated and not
        // yet initialised is what `write_bytes` is for.
        unsafe { tables.as_mut_ptr().write_bytes(DIRT as u8, count) };
        // SAFETY: `count` is the capacity, and the line above initialised so many elements: any
        // bits are an `AtomicU64`.
        unsafe { tables.set_len(count) };
        Self::of(tables)
    }
}

impl CountingMemory {
    /// As [`new`](Memory::new), with words that count.
    pub(crate) fn new(count: usize) -> Self {
        let dirty = || core::array::from_fn(|_| CountingWord::new(DIRT));
        Self::of((0..count).map(|_| dirty()).collect())
    }

    /// Loads and stores of all words since the last call.
    pub(crate) fn take_counts(pool: &Pool<'_, CountingWord>) -> Counts {
        use mmu_core::TableArena;
        let tables = (0..pool.arena().capacity()).map(|table| {
            let words = pool.arena().words(mmu_core::TableId::new(table)).unwrap();
            let count = |counter: fn(&CountingWord) -> &AtomicU64| -> Vec<u64> {
                words
                    .iter()
                    .map(|word| counter(word).swap(0, Ordering::Relaxed))
                    .collect()
            };
            (count(|word| &word.loads), count(|word| &word.stores))
        });
        let (loads, stores) = tables.unzip();
        Counts { loads, stores }
    }
}

impl WordMemory<SplitWord> {
    /// As [`new`](Memory::new), with words that are written in halves.
    pub(crate) fn new(count: usize) -> Self {
        let dirty = || {
            let word = SplitWord::new();
            word.store(DIRT);
            word
        };
        let table = || core::array::from_fn(|_| dirty());
        Self::of((0..count).map(|_| table()).collect())
    }
}

impl<W: TableWord> WordMemory<W> {
    fn of(tables: Vec<[W; ENTRIES]>) -> Self {
        let records = tables.iter().map(|_| TableRecord::new()).collect();
        Self { tables, records }
    }

    /// A pool of tables that are known to be zero.
    pub(crate) fn zeroed_pool(&mut self) -> Pool<'_, W> {
        for word in self.tables.iter().flatten() {
            word.store(0);
        }
        self.pool().zeroed()
    }

    pub(crate) fn pool(&mut self) -> Pool<'_, W> {
        let region = Region::new(&self.tables, BusAddr::new(ARENA)).unwrap();
        TablePool::new(region, &mut self.records, ReuseOrder::LastReleased).unwrap()
    }
}

/// What the tests look at behind a pool's back.
pub(crate) trait Words {
    /// A word of a table as the device sees it.
    fn word(&self, table: u32, index: usize) -> u64;

    /// The live count of a table.
    fn live_of(&self, table: u32) -> u32;

    fn pool_usage(&self) -> PoolUsage;

    /// Of child maps, where the pool has such.
    fn map_usage(&self) -> Option<PoolUsage> {
        None
    }
}

impl<W: TableWord> Words for Pool<'_, W> {
    fn word(&self, table: u32, index: usize) -> u64 {
        use mmu_core::TableArena;
        let words = self.arena().words(mmu_core::TableId::new(table));
        words.unwrap()[index].load()
    }

    fn live_of(&self, table: u32) -> u32 {
        self.live_slots(mmu_core::TableId::new(table)).unwrap()
    }

    fn pool_usage(&self) -> PoolUsage {
        self.usage()
    }
}

/// Accesses to each word of each table.
pub(crate) struct Counts {
    pub(crate) loads: Vec<Vec<u64>>,
    pub(crate) stores: Vec<Vec<u64>>,
}

impl Counts {
    pub(crate) fn total_stores(&self) -> u64 {
        self.stores.iter().flatten().sum()
    }

    /// Loads of the words of the table at a bus address.
    pub(crate) fn loads_of(&self, table: u64) -> u64 {
        self.loads[((table - ARENA) / 4096) as usize].iter().sum()
    }

    /// Stores to the words of the table at a bus address.
    pub(crate) fn stores_to(&self, table: u64) -> u64 {
        self.stores[((table - ARENA) / 4096) as usize].iter().sum()
    }
}

/// A word that counts how often it is read and written.
pub(crate) struct CountingWord {
    word: AtomicU64,
    loads: AtomicU64,
    stores: AtomicU64,
}

impl CountingWord {
    fn new(word: u64) -> Self {
        Self {
            word: AtomicU64::new(word),
            loads: AtomicU64::new(0),
            stores: AtomicU64::new(0),
        }
    }
}

impl TableWord for CountingWord {
    fn load(&self) -> u64 {
        self.loads.fetch_add(1, Ordering::Relaxed);
        self.word.load(Ordering::Relaxed)
    }

    fn store(&self, entry: u64) {
        self.stores.fetch_add(1, Ordering::Relaxed);
        self.word.store(entry, Ordering::Relaxed);
    }
}

/// An MMU that caches nothing, so that every invalidation is confirmed.
#[derive(Debug, Default)]
pub(crate) struct NoCache {
    pub(crate) seen: Vec<Stale>,
}

// SAFETY: nothing in these tests translates except by reading the tables afresh, so no
// translation is cached (1), on its way (2) or made without reading the tables (3).
unsafe impl Invalidate for NoCache {
    type Error = core::convert::Infallible;

    fn invalidate(&mut self, stale: &Stale) -> Result<(), Self::Error> {
        self.seen.push(*stale);
        Ok(())
    }
}

/// An MMU that cannot confirm anything.
pub(crate) struct Unresponsive;

// SAFETY: it never returns `Ok`, which is the only answer that promises anything.
unsafe impl Invalidate for Unresponsive {
    type Error = &'static str;

    fn invalidate(&mut self, _stale: &Stale) -> Result<(), Self::Error> {
        Err("no answer")
    }
}

/// Confirms a removal with [`NoCache`] and returns what it had to forget.
pub(crate) fn confirm<M: TableMemory>(removed: Removed<M>) -> Stale {
    let mut mmu = NoCache::default();
    removed.confirm(&mut mmu).expect("NoCache confirms");
    mmu.seen[0]
}

pub(crate) fn run(bus: u64, len: u64) -> Run {
    AddrRange::new(BusAddr::new(bus), len).unwrap()
}

pub(crate) fn range(at: u64, len: u64) -> AddrRange<DeviceAddr> {
    AddrRange::new(DeviceAddr::new(at), len).unwrap()
}

pub(crate) fn device(at: u64) -> DeviceAddr {
    DeviceAddr::new(at)
}

/// Default attributes and these leaf sizes.
pub(crate) fn only<F: Format<Attributes: Default>>(sizes: LeafSizes) -> MapOptions<F::Attributes> {
    MapOptions {
        sizes,
        ..MapOptions::default()
    }
}

/// All table words and the pool's counters: what an error must leave as it was.
#[derive(PartialEq, Eq)]
pub(crate) struct Snapshot {
    words: Vec<u64>,
    live: Vec<u32>,
    usage: PoolUsage,
    maps: Option<PoolUsage>,
}

impl Snapshot {
    /// Of the tables in use. The words of free tables may change: nobody reads them.
    pub(crate) fn of(pool: &impl Words) -> Self {
        let tables = 0..pool.pool_usage().capacity;
        let words = tables
            .clone()
            .flat_map(|table| (0..ENTRIES).map(move |index| pool.word(table, index)));
        Self {
            words: words.collect(),
            live: tables.map(|table| pool.live_of(table)).collect(),
            usage: pool.pool_usage(),
            maps: pool.map_usage(),
        }
    }

    /// Fails with the first word that differs.
    pub(crate) fn expect(&self, pool: &impl Words, what: &str) {
        let now = Self::of(pool);
        assert_eq!(self.usage, now.usage, "{what}: pool usage");
        assert_eq!(self.maps, now.maps, "{what}: child map usage");
        assert_eq!(self.live, now.live, "{what}: live counts");
        let differs = self.words.iter().zip(&now.words).position(|(a, b)| a != b);
        assert_eq!(differs, None, "{what}: a word of table memory changed");
    }
}

/// A small generator of repeatable pseudo-random numbers (splitmix64).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i as u64 + 1) as usize);
        }
    }
}

/// Makes a test of each named generic function for every format.
macro_rules! for_every_format {
    ($($test:ident),+ $(,)?) => {
        $(
            mod $test {
                crate::common::for_formats!($test:
                    goya_and_gaudi: mmu_core::format::V1,
                    gaudi2_pmmu: mmu_core::format::Gaudi2Pmmu,
                    gaudi2_pmmu_64k: mmu_core::format::Gaudi2Pmmu64K,
                    gaudi2_hmmu_of_six_stacks: mmu_core::format::Gaudi2Hmmu<6>,
                    gaudi2_hmmu_of_five_stacks: mmu_core::format::Gaudi2Hmmu<5>,
                    x86_64_of_four_levels: mmu_core::format::X86_64<4>,
                    x86_64_of_five_levels: mmu_core::format::X86_64<5>,
                );
            }
        )+
    };
}
pub(crate) use for_every_format;

/// Makes a test of each named generic function for every format with more than one leaf size.
macro_rules! for_every_format_with_large_leaves {
    ($($test:ident),+ $(,)?) => {
        $(
            mod $test {
                crate::common::for_formats!($test:
                    goya_and_gaudi: mmu_core::format::V1,
                    gaudi2_pmmu: mmu_core::format::Gaudi2Pmmu,
                    gaudi2_pmmu_64k: mmu_core::format::Gaudi2Pmmu64K,
                    x86_64_of_four_levels: mmu_core::format::X86_64<4>,
                    x86_64_of_five_levels: mmu_core::format::X86_64<5>,
                );
            }
        )+
    };
}
pub(crate) use for_every_format_with_large_leaves;

macro_rules! for_formats {
    ($test:ident: $($format:ident: $type:ty,)+) => {
        $(
            #[test]
            fn $format() {
                super::$test::<$type>();
            }
        )+
    };
}
pub(crate) use for_formats;

/// Checks that a page table holds what the oracle says: by its words, and by its own account of
/// the `len` bytes from `at`, which must be all that is mapped.
pub(crate) fn agree<F: shape::Shape, M: TableMemory>(
    pool: &impl Words,
    table: &PageTable<F, M>,
    model: &model::Model<F>,
    (at, len): (u64, u64),
) {
    let expected = model.stretches(at, len);
    assert_eq!(raw::read(pool, table, 0).stretches, expected, "table words");
    assert_eq!(stretches(table, at, len), expected, "runs");
}

/// What [`PageTable::runs`] says, in the oracle's terms.
pub(crate) fn stretches<F: shape::Shape, M: TableMemory>(
    table: &PageTable<F, M>,
    at: u64,
    len: u64,
) -> Vec<raw::Stretch> {
    let runs = table.runs(range(at, len));
    runs.map(|run| {
        let run = run.unwrap();
        let size = F::SIZES.iter().find(|size| size.hop == run.hop.number());
        raw::Stretch {
            at: run.range.start().get(),
            len: run.range.len(),
            bus: run.bus.get(),
            leaf_bytes: size.unwrap().bytes,
            bits: F::bits(run.attributes),
        }
    })
    .collect()
}
