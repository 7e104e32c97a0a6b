//! Lists of single pages, which have a way of their own: what it must not let through.

use std::cell::Cell;
use std::sync::atomic::AtomicU64;

use mmu_core::format::{Format, Gaudi2Pmmu, V1, X86_64};
use mmu_core::{
    AddrRange, BusAddr, DeviceAddr, Invalidate, MapError, MapOptions, PageTable, Region,
    ReuseOrder, Run, Stale, TablePool, TableRecord,
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

/// Runs that are others when they are mapped than when they were checked, under a fixed hint.
struct Fickle<'a> {
    checked: &'a [Run],
    mapped: &'a [Run],
    is_clone: bool,
    hint: usize,
    next: Cell<usize>,
}

impl Clone for Fickle<'_> {
    fn clone(&self) -> Self {
        Self {
            is_clone: true,
            next: self.next.clone(),
            ..*self
        }
    }
}

impl Iterator for Fickle<'_> {
    type Item = Run;

    fn next(&mut self) -> Option<Run> {
        let runs = if self.is_clone {
            self.checked
        } else {
            self.mapped
        };
        self.next.set(self.next.get() + 1);
        runs.get(self.next.get() - 1).copied()
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

/// Maps `checked`, which turn into `mapped`, between two pages that are mapped already; checks
/// that an error leaves these two and nothing else.
fn map<F: Format>(checked: &[Run], mapped: &[Run]) -> Result<(), MapError>
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
        checked,
        mapped,
        is_clone: false,
        hint: PAGES as usize,
        next: Cell::new(0),
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
        let expected = result.map(|()| mapped[n as usize].start()).ok();
        assert_eq!(found.map(|found| found.bus), expected);
    }
    table.sweep(range).confirm(&mut NoDevice).unwrap();
    assert_eq!(pool.usage().used(), used);
    table.close().confirm(&mut NoDevice).unwrap();
    assert_eq!(pool.usage().used(), 0);
    result
}

fn on_every_format(checked: &[Run], mapped: &[Run]) -> Result<(), MapError> {
    let result = map::<V1>(checked, mapped);
    assert_eq!(map::<Gaudi2Pmmu>(checked, mapped), result);
    assert_eq!(map::<X86_64<4>>(checked, mapped), result);
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
