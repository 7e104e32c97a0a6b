//! Lists of single pages, which have a way of their own: what it must not let through.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

use mmu_core::format::{Format, Gaudi2Hmmu, Gaudi2Pmmu, Gaudi2Pmmu64K, Hop, V1, X86_64};
use mmu_core::{
    AddrRange, BusAddr, DeviceAddr, Invalidate, LeafSizes, MapError, MapOptions, PageTable, Region,
    ReuseOrder, Run, Stale, TableArena, TableId, TablePool, TableRecord, TableWord,
};

const PAGE: u64 = 0x1000;
/// Half-way through a leaf table, so that a list of 1024 pages uses three.
const AT: u64 = 0x40_0010_0000;
const BUS: u64 = 0x7000_0000;
const PAGES: u64 = 1024;

struct NoDevice;

#[expect(unsafe_code, reason = "the trait is unsafe to implement")]
// SAFETY: no device walks the tables of this test.
unsafe impl Invalidate for NoDevice {
    type Error = ();

    fn invalidate(&mut self, _stale: &Stale) -> Result<(), ()> {
        Ok(())
    }
}

/// Runs that are others from the second pass on than in the first, under a fixed hint.
#[derive(Clone)]
struct Fickle<'a> {
    first: &'a [Run],
    later: &'a [Run],
    hint: usize,
    passes: &'a Cell<u32>,
    /// Whether this pass is the first, once it has begun.
    is_first: Option<bool>,
    next: usize,
}

impl Iterator for Fickle<'_> {
    type Item = Run;

    fn next(&mut self) -> Option<Run> {
        let is_first = *self
            .is_first
            .get_or_insert_with(|| self.passes.replace(self.passes.get() + 1) == 0);
        let runs = if is_first { self.first } else { self.later };
        self.next += 1;
        runs.get(self.next - 1).copied()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.hint, Some(self.hint))
    }
}

fn run(bus: u64, len: u64) -> Run {
    AddrRange::new(BusAddr::new(bus), len).unwrap()
}

fn scattered() -> Vec<Run> {
    (0..PAGES).map(|n| run(BUS + 3 * n * PAGE, PAGE)).collect()
}

/// Maps `first`, which turn into `later` after one pass, between two pages that are mapped already in
/// the tables of some of them; checks that an error leaves these two and nothing else.
fn map<F: Format>(first: &[Run], later: &[Run]) -> Result<(), MapError>
where
    F::Attributes: Default,
{
    let words: Vec<[AtomicU64; 512]> = (0..32)
        .map(|_| [const { AtomicU64::new(u64::MAX) }; 512])
        .collect();
    let mut records: Vec<TableRecord> = (0..32).map(|_| TableRecord::new()).collect();
    let region = Region::new(&words, BusAddr::new(0x1000_0000)).unwrap();
    let pool: TablePool<'_, _, spin::Mutex<()>> =
        TablePool::new(region, &mut records, ReuseOrder::LastReleased).unwrap();
    let mut table = PageTable::<F, _>::new(&pool).unwrap().unwrap();
    let options = MapOptions::default();
    let range = AddrRange::new(DeviceAddr::new(AT), PAGES * PAGE).unwrap();
    let neighbours = [AT - PAGE, AT + PAGES * PAGE];
    for at in neighbours {
        table
            .map(DeviceAddr::new(at), run(BUS, PAGE), &options)
            .unwrap();
    }
    let used = pool.usage().used();

    let list = Fickle {
        first,
        later,
        hint: PAGES as usize,
        passes: &Cell::new(0),
        is_first: None,
        next: 0,
    };
    let result = table.map_list(range, list, &options);

    for at in neighbours {
        assert_eq!(
            table.query(DeviceAddr::new(at)).unwrap().bus,
            BusAddr::new(BUS)
        );
    }
    for n in 0..PAGES {
        let found = table.query(DeviceAddr::new(AT + n * PAGE)).ok();
        let expected = result.map(|()| later[n as usize].start()).ok();
        assert_eq!(found.map(|found| found.bus), expected);
    }
    table.sweep(range).confirm(&mut NoDevice).unwrap();
    assert_eq!(pool.usage().used(), used);
    table.close().confirm(&mut NoDevice).unwrap();
    assert_eq!(pool.usage().used(), 0);
    result
}

fn on_every_format(first: &[Run], later: &[Run]) -> Result<(), MapError> {
    let result = map::<V1>(first, later);
    assert_eq!(map::<Gaudi2Pmmu>(first, later), result);
    assert_eq!(map::<X86_64<4>>(first, later), result);
    result
}

#[test]
fn a_list_of_pages_maps_each_of_them() {
    let pages = scattered();
    assert_eq!(on_every_format(&pages, &pages), Ok(()));
}

#[test]
fn pages_that_change_after_the_check_map_nothing() {
    let pages = scattered();
    let change = |index: usize, with: &[Run]| {
        let mut changed = pages.clone();
        changed.splice(index..=index, with.iter().copied());
        assert_eq!(
            on_every_format(&pages, &changed),
            Err(MapError::RunsChanged),
            "{with:?} at {index}"
        );
    };
    for index in [0, 255, 256, 700, PAGES as usize - 1] {
        change(index, &[]);
        change(index, &[run(BUS, PAGE), run(BUS, PAGE)]);
        change(index, &[run(BUS, 2 * PAGE)]);
        change(index, &[run(BUS + PAGE / 2, PAGE)]);
        change(index, &[run(BUS, PAGE / 2)]);
    }
}

#[test]
fn a_list_that_is_not_what_its_size_hint_says_is_checked_all_the_same() {
    let pages = scattered();
    let fewer = &pages[..PAGES as usize - 1];
    assert_eq!(
        on_every_format(fewer, fewer),
        Err(MapError::LengthMismatch {
            at: DeviceAddr::new(AT + (PAGES - 1) * PAGE)
        })
    );
    let mut more = pages.clone();
    more.push(run(BUS, PAGE));
    assert_eq!(
        on_every_format(&more, &more),
        Err(MapError::LengthMismatch {
            at: DeviceAddr::new(AT + PAGES * PAGE - 1)
        })
    );
    let mut misaligned = pages.clone();
    misaligned[600] = run(BUS + PAGE / 2, PAGE);
    assert_eq!(
        on_every_format(&misaligned, &misaligned),
        Err(MapError::MisalignedRun {
            bus: BusAddr::new(BUS + PAGE / 2)
        })
    );
}

/// A word that notes when it was written last.
struct TimedWord {
    word: AtomicU64,
    written: AtomicU64,
}

thread_local! {
    static CLOCK: Cell<u64> = const { Cell::new(0) };
}

impl TableWord for TimedWord {
    fn load(&self) -> u64 {
        TableWord::load(&self.word)
    }

    fn store(&self, entry: u64) {
        TableWord::store(&self.word, entry);
        CLOCK.set(CLOCK.get() + 1);
        self.written.store(CLOCK.get(), Ordering::Relaxed);
    }
}

type TimedPool<'a> = TablePool<'a, Region<'a, TimedWord>, spin::Mutex<()>>;

/// When the first and when the last word of a table was written.
fn written(pool: &TimedPool<'_>, table: u32) -> (u64, u64) {
    let words = pool.arena().words(TableId::new(table)).unwrap();
    let times = words
        .iter()
        .map(|word| word.written.load(Ordering::Relaxed));
    (times.clone().min().unwrap(), times.max().unwrap())
}

/// The page size, device address and bus address that suit a format.
trait Place: Format<Attributes: Default> {
    const SMALL: u64 = 0x1000;
    const SLOTS: u64 = 512;
    const PLACE: u64 = 0x40_0000_0000;
    const BUS: u64 = 0x7000_0000;
    /// A page at an address that no leaf can hold, where there is one.
    const TOO_HIGH: Option<u64> = None;
}
impl Place for V1 {}
impl Place for Gaudi2Pmmu {}
impl Place for Gaudi2Pmmu64K {
    const SMALL: u64 = 0x1_0000;
    const SLOTS: u64 = 256;
}
impl Place for X86_64<4> {
    const TOO_HIGH: Option<u64> = Some(1 << 52);
}
impl Place for Gaudi2Hmmu<5> {
    const SMALL: u64 = 640 << 20;
    const PLACE: u64 = 0x1001_0000_0000_0000;
    const BUS: u64 = 0x1001_0000_0000_0000;
    const TOO_HIGH: Option<u64> = Some(0x1002_0000_0000_0000);
}

/// A page table, with a page mapped right below the place when there is to be a neighbour, and
/// tables in the pool that are known to be zero.
fn with_pool<F: Place>(
    neighbour: bool,
    work: impl FnOnce(&TimedPool<'_>, PageTable<F, &TimedPool<'_>>),
) {
    let word = || TimedWord {
        word: AtomicU64::new(0xA5A5_A5A5_A5A5_A5A5),
        written: AtomicU64::new(0),
    };
    let words: Vec<[TimedWord; 512]> = (0..16).map(|_| core::array::from_fn(|_| word())).collect();
    let mut records: Vec<TableRecord> = (0..16).map(|_| TableRecord::new()).collect();
    let region = Region::new(&words, BusAddr::new(0x1000_0000)).unwrap();
    let pool = TablePool::new(region, &mut records, ReuseOrder::LastReleased).unwrap();
    let mut table = PageTable::<F, _>::new(&pool).unwrap().unwrap();
    let page = run(F::BUS, F::SMALL);
    let options = MapOptions::default();
    for n in 0..3 {
        let at = F::PLACE + n * F::SLOTS * F::SMALL;
        table.map(DeviceAddr::new(at), page, &options).unwrap();
    }
    let removed = table.sweep_all();
    removed.confirm(&mut NoDevice).unwrap();
    if neighbour {
        let at = DeviceAddr::new(F::PLACE + F::SLOTS * F::SMALL);
        table.map(at, page, &options).unwrap();
    }
    work(&pool, table);
}

/// Where the list goes: behind the neighbour, into its table and those that follow.
fn place<F: Place>(pages: u64) -> AddrRange<DeviceAddr> {
    range_of::<F>(F::SLOTS + 1, pages)
}

/// Where the list goes so that it uses new tables only, beside that of the neighbour.
fn beside<F: Place>(pages: u64) -> AddrRange<DeviceAddr> {
    range_of::<F>(2 * F::SLOTS, pages)
}

fn range_of<F: Place>(first: u64, pages: u64) -> AddrRange<DeviceAddr> {
    let at = DeviceAddr::new(F::PLACE + first * F::SMALL);
    AddrRange::new(at, pages * F::SMALL).unwrap()
}

fn pages_of<F: Place>(count: u64) -> Vec<BusAddr> {
    let page = |n| BusAddr::new(F::BUS + (count - n) * 2 * F::SMALL);
    (0..count).map(page).collect()
}

/// How pages are handed over.
#[derive(Clone, Copy, Debug)]
enum As {
    Slice,
    List,
}

impl As {
    fn map<F: Place>(
        self,
        table: &mut PageTable<F, &TimedPool<'_>>,
        range: AddrRange<DeviceAddr>,
        pages: &[BusAddr],
    ) -> Result<(), MapError> {
        let options = MapOptions::default();
        match self {
            Self::Slice => table.map_pages(range, pages, &options),
            Self::List => {
                let runs = pages.iter().map(|page| run(page.get(), F::SMALL));
                table.map_list(range, runs, &options)
            }
        }
    }
}

fn pages_that_lie_anywhere_are_mapped_one_by_one<F: Place>() {
    for (neighbour, handed) in [
        (false, As::Slice),
        (true, As::Slice),
        (false, As::List),
        (true, As::List),
    ] {
        with_pool::<F>(neighbour, |pool, mut table| {
            let used = pool.usage().used();
            let pages = pages_of::<F>(2 * F::SLOTS);
            let range = place::<F>(2 * F::SLOTS);
            handed.map(&mut table, range, &pages).unwrap();
            for (n, page) in (0..).zip(&pages) {
                let at = DeviceAddr::new(range.start().get() + n * F::SMALL);
                assert_eq!(table.query(at).unwrap().bus, *page);
            }
            assert!(
                table
                    .query(range.start().checked_add(range.len()).unwrap())
                    .is_err()
            );
            table.unmap(range).unwrap().confirm(&mut NoDevice).unwrap();
            assert_eq!(pool.usage().used(), used);
            table.close().confirm(&mut NoDevice).unwrap();
            assert_eq!(pool.usage().used(), 0);
        });
    }
}

fn a_page_that_cannot_be_mapped_leaves_nothing_of_the_others<F: Place>() {
    let pages = 2 * F::SLOTS;
    let misaligned = BusAddr::new(F::BUS + F::SMALL / 2);
    for range in [place::<F>(pages), beside::<F>(pages)] {
        for index in [0, pages as usize - 1] {
            for neighbour in [false, true] {
                for handed in [As::Slice, As::List] {
                    let refuses = refuses::<F>(neighbour, handed, range);
                    let bus = misaligned;
                    refuses(index, bus, MapError::MisalignedRun { bus });
                    if let Some(bus) = F::TOO_HIGH.map(BusAddr::new) {
                        refuses(index, bus, MapError::RunOutOfRange { bus });
                    }
                }
            }
        }
    }
}

/// Checks that a list with one wrong page fails and leaves everything in use as it was.
fn refuses<F: Place>(
    neighbour: bool,
    handed: As,
    range: AddrRange<DeviceAddr>,
) -> impl Fn(usize, BusAddr, MapError) {
    move |index, wrong, expected| {
        with_pool::<F>(neighbour, |pool, mut table| {
            let mut pages = pages_of::<F>(range.len() / F::SMALL);
            pages[index] = wrong;
            let usage = pool.usage();
            let in_use: Vec<u32> = (0..16).filter(|&table| is_live(pool, table)).collect();
            let time = CLOCK.get();
            let result = handed.map(&mut table, range, &pages);
            assert_eq!(result, Err(expected), "{handed:?}");
            assert_eq!(pool.usage(), usage);
            for table in in_use {
                assert!(written(pool, table).1 <= time, "table {table}");
            }
            // Tables that were known to be zero and are not any more are zeroed when used again.
            let page = run(F::BUS, F::SMALL);
            let last = DeviceAddr::new(range.last().get() + 1 - F::SMALL);
            table.map(last, page, &MapOptions::default()).unwrap();
            let everywhere = AddrRange::new(DeviceAddr::new(0), u64::MAX).unwrap();
            let runs = table.runs(everywhere);
            let mapped: u64 = runs.map(|run| run.unwrap().range.len()).sum();
            assert_eq!(mapped, (1 + u64::from(neighbour)) * F::SMALL);
            // Nobody can have seen anything that would have to be forgotten.
            let removed = table.sweep(range);
            assert_eq!(removed.stale().extent, mmu_core::Extent::Range(range));
        })
    }
}

fn is_live(pool: &TimedPool<'_>, table: u32) -> bool {
    // Free tables have no live slots, or the mark that they are known to be zero.
    (1..=512).contains(&pool.live_slots(TableId::new(table)).unwrap())
}

fn pages_in_new_tables_are_linked_when_all_of_them_are_written<F: Place>() {
    for handed in [As::Slice, As::List] {
        with_pool::<F>(false, |pool, mut table| {
            let time = CLOCK.get();
            let range = place::<F>(2 * F::SLOTS);
            let pages = pages_of::<F>(2 * F::SLOTS);
            handed.map(&mut table, range, &pages).unwrap();
            let root = (table.root().get() - 0x1000_0000) / 4096;
            let linked = written(pool, root as u32).1;
            assert!(linked > time);
            for table in (0..16).filter(|&table| u64::from(table) != root) {
                assert!(written(pool, table).1 < linked, "table {table}");
            }
        });
    }
}

fn pages_in_new_tables_take_one_pass_over_their_list<F: Place>() {
    with_pool::<F>(true, |_, mut table| {
        let passes = Cell::new(0);
        let mut map = |range: AddrRange<DeviceAddr>| {
            let count = range.len() / F::SMALL;
            let pages: Vec<Run> = (0..count)
                .map(|n| run(F::BUS + 2 * n * F::SMALL, F::SMALL))
                .collect();
            let list = Fickle {
                first: &pages,
                later: &pages,
                hint: pages.len(),
                passes: &passes,
                is_first: None,
                next: 0,
            };
            table.map_list(range, list, &MapOptions::default()).unwrap();
            passes.take()
        };
        assert_eq!(map(beside::<F>(2 * F::SLOTS)), 1);
        // In a table that the device sees, nothing is written before all is checked.
        assert_eq!(map(place::<F>(2)), 2);
    });
}

fn several_tables_of_pages_are_linked_in_their_order<F: Place>() {
    with_pool::<F>(true, |_, mut table| {
        let range = beside::<F>(3 * F::SLOTS);
        let pages = pages_of::<F>(3 * F::SLOTS);
        for handed in [As::Slice, As::List] {
            handed.map(&mut table, range, &pages).unwrap();
            for (n, page) in (0..).zip(&pages) {
                let at = DeviceAddr::new(range.start().get() + n * F::SMALL);
                assert_eq!(table.query(at).unwrap().bus, *page);
            }
            table.unmap(range).unwrap().confirm(&mut NoDevice).unwrap();
        }
    });
}

fn a_slice_must_be_as_long_as_its_range<F: Place>() {
    with_pool::<F>(false, |_, mut table| {
        let range = place::<F>(9);
        let pages = pages_of::<F>(10);
        let mut map = |pages: &[BusAddr]| table.map_pages(range, pages, &MapOptions::default());
        let mismatch = |at| Err(MapError::LengthMismatch { at });
        assert_eq!(map(&pages), mismatch(range.last()));
        assert_eq!(map(&[]), mismatch(range.start()));
        let last = DeviceAddr::new(range.start().get() + 8 * F::SMALL);
        assert_eq!(map(&pages[..8]), mismatch(last));
        assert_eq!(map(&pages[..9]), Ok(()));
        let at = range.start();
        assert_eq!(map(&pages[..9]), Err(MapError::AlreadyMapped { at }));
    });
}

fn bits_in_place_are_those_that_a_leaf_holds_unchanged<F: Place>() {
    let hops = (0..F::HOPS.len()).filter(|&hop| F::HOPS[hop].leaf);
    for hop in hops.map(|hop| Hop::new(hop as u8).unwrap()) {
        let span = F::HOPS[usize::from(hop.number())].entry_span();
        let empty = F::leaf_entry(hop, 0, F::Attributes::default());
        for bit in 0..64 {
            let address = 1 << bit;
            let held = F::entry_address(BusAddr::new(address));
            if F::BITS_IN_PLACE == 0 {
                assert_ne!(held, Some(address));
                continue;
            }
            let in_place = F::BITS_IN_PLACE & address != 0;
            assert_eq!(held, in_place.then_some(address));
            if in_place && address >= span {
                let entry = F::leaf_entry(hop, address, F::Attributes::default());
                assert_eq!((entry ^ empty, empty & address), (address, 0));
            }
        }
    }
}

#[test]
fn a_large_run_mapped_again_zeroes_no_table() {
    fn check<F: Place>() {
        with_pool::<F>(false, |pool, mut table| {
            // One table full of large leaves, below tables with one link each.
            let bus = run(
                F::BUS & !(F::SLOTS * F::SMALL - 1),
                F::SLOTS * F::SLOTS * F::SMALL,
            );
            let range = AddrRange::new(DeviceAddr::new(F::PLACE), bus.len()).unwrap();
            let options = MapOptions {
                sizes: LeafSizes::at(Hop::new(F::HOPS.len() as u8 - 2).unwrap()),
                ..MapOptions::default()
            };
            for _ in 0..3 {
                table.map(range.start(), bus, &options).unwrap();
                table.unmap(range).unwrap().confirm(&mut NoDevice).unwrap();
            }
            let (time, used) = (CLOCK.get(), pool.usage().used());
            table.map(range.start(), bus, &options).unwrap();
            let tables = pool.usage().used() - used;
            assert_eq!(CLOCK.get() - time, F::SLOTS + u64::from(tables));
        });
    }
    check::<V1>();
    check::<Gaudi2Pmmu>();
    check::<X86_64<4>>();
}

macro_rules! on_formats {
    ($($test:ident),+ $(,)?) => {
        $(
            mod $test {
                use super::*;

                #[test]
                fn goya_and_gaudi() {
                    super::$test::<V1>();
                }

                #[test]
                fn gaudi2_pmmu() {
                    super::$test::<Gaudi2Pmmu>();
                }

                #[test]
                fn gaudi2_pmmu_64k() {
                    super::$test::<Gaudi2Pmmu64K>();
                }

                #[test]
                fn gaudi2_hmmu() {
                    super::$test::<Gaudi2Hmmu<5>>();
                }

                #[test]
                fn x86_64() {
                    super::$test::<X86_64<4>>();
                }
            }
        )+
    };
}
on_formats!(
    pages_that_lie_anywhere_are_mapped_one_by_one,
    a_page_that_cannot_be_mapped_leaves_nothing_of_the_others,
    pages_in_new_tables_are_linked_when_all_of_them_are_written,
    pages_in_new_tables_take_one_pass_over_their_list,
    several_tables_of_pages_are_linked_in_their_order,
    a_slice_must_be_as_long_as_its_range,
    bits_in_place_are_those_that_a_leaf_holds_unchanged,
);
