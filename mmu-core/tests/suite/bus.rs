//! Tables behind a bus: what is asked of it, and a device that does not answer.

use mmu_core::format::{X86_64, X86Attributes};
use mmu_core::{ConfirmError, Extent, MapError, MapOptions, PageTable, SplitError};

use super::common::device::{Memory, Pool, Table};
use super::common::model::leaf_sizes;
use super::common::shape::Shape;
use super::common::{NoCache, Snapshot, Words, confirm, device, only, range, raw, run, stretches};
use super::over_a_bus::common::{for_every_format, for_every_format_with_large_leaves};

for_every_format!(
    a_map_and_an_unmap_read_nothing_and_flush_once,
    the_leaves_of_a_table_are_one_write_and_its_link_another,
    too_few_child_maps_are_too_little_table_memory,
    a_map_that_is_not_answered_is_undone_and_the_next_removal_covers_it,
    a_device_lost_at_any_write_leaves_the_records_as_they_were,
    a_removal_that_does_not_arrive_keeps_its_tables,
);
for_every_format_with_large_leaves!(
    a_split_that_is_not_answered_is_undone_and_the_next_removal_covers_it,
    a_split_takes_a_child_map_where_the_small_leaves_can_be_split_again,
);

/// The span of a table of leaves.
fn span<F: Shape>() -> u64 {
    F::slots() * F::small()
}

/// A page table with one page mapped, in the first table behind the edge.
fn new<'p, 'a, F: Shape>(pool: &'p Pool<'a>) -> Table<'p, 'a, F> {
    let mut table = PageTable::<F, _>::new(pool).unwrap().unwrap();
    let last = F::EDGE + span::<F>() - F::small();
    map(&mut table, (last, F::small()), false).unwrap();
    pool.bus().take();
    table
}

/// A page in a table that is there, one in a new table, some pages, and a run over several tables
/// and the edge.
fn requests<F: Shape>() -> [(u64, u64); 4] {
    [
        (F::EDGE, F::small()),
        (F::EDGE + span::<F>(), F::small()),
        (F::EDGE + F::small(), 7 * F::small()),
        (F::EDGE - span::<F>() / 2, span::<F>()),
    ]
}

/// Maps with the smallest leaves, as one run or as a list of pages in descending order.
fn map<F: Shape>(
    table: &mut Table<'_, '_, F>,
    (at, len): (u64, u64),
    as_list: bool,
) -> Result<(), MapError> {
    let options = only::<F>(leaf_sizes::<F>(1));
    if !as_list {
        return table.map(device(at), run(F::BUS, len), &options);
    }
    let pages = len / F::small();
    let runs = (0..pages).map(|n| run(F::BUS + (pages - n) * F::small(), F::small()));
    table.map_list(range(at, len), runs, &options)
}

/// Everything that is mapped near the edge, by the page table's own account.
fn told<F: Shape>(table: &Table<'_, '_, F>) -> Vec<raw::Stretch> {
    stretches(table, F::EDGE - span::<F>() / 2, 4 * span::<F>())
}

fn a_map_and_an_unmap_read_nothing_and_flush_once<F: Shape>() {
    let mut memory = Memory::new(32);
    let pool = memory.pool();
    let mut table = new::<F>(&pool);
    for request in requests::<F>() {
        for as_list in [false, true] {
            map(&mut table, request, as_list).unwrap();
            let asked = pool.bus().take();
            assert_eq!((asked.reads, asked.flushes), (0, 1), "{request:#x?}");
            let removed = if as_list {
                table.unmap(range(request.0, request.1)).unwrap()
            } else {
                table.sweep(range(request.0, request.1))
            };
            let asked = pool.bus().take();
            assert_eq!((asked.reads, asked.flushes), (0, 0), "{request:#x?}");
            confirm(removed);
            let asked = pool.bus().take();
            assert_eq!((asked.reads, asked.flushes), (0, 1), "{request:#x?}");
        }
    }
    assert!(matches!(
        map(&mut table, (F::EDGE, span::<F>()), false),
        Err(MapError::AlreadyMapped { .. })
    ));
    table.unmap(range(F::EDGE, span::<F>())).unwrap_err();
    assert_eq!(pool.bus().take(), Default::default(), "what is refused");
}

fn the_leaves_of_a_table_are_one_write_and_its_link_another<F: Shape>() {
    let mut memory = Memory::new(32);
    let pool = memory.zeroed_pool();
    let mut table = PageTable::<F, _>::new(&pool).unwrap().unwrap();
    pool.bus().take();
    let slots = F::slots() as usize;
    map(&mut table, (F::EDGE, 4 * span::<F>()), false).unwrap();
    let tables = pool.usage().used() as usize - 1;
    let asked = pool.bus().take();
    let writes_of = |words: usize| asked.writes.iter().filter(move |write| write.1 == words);
    assert_eq!(writes_of(slots).count(), 4);
    assert_eq!(writes_of(1).count(), tables);
    assert_eq!(asked.writes.len(), 4 + tables);
    let removed = table.unmap(range(F::EDGE, 4 * span::<F>())).unwrap();
    assert_eq!(removed.tables() as usize, tables);
    // The four tables by one write, and each of those above.
    let asked = pool.bus().take();
    assert_eq!(asked.words(), tables);
    assert_eq!(asked.writes.len(), tables - 3);
    confirm(removed);
}

fn too_few_child_maps_are_too_little_table_memory<F: Shape>() {
    // All tables but that of the leaves point at others.
    let enough = F::INDEX.len() - 1;
    for maps in 0..=enough {
        let mut memory = Memory::with_maps(32, maps);
        let pool = memory.pool();
        let Some(mut table) = PageTable::<F, _>::new(&pool).unwrap() else {
            assert_eq!(maps, 0);
            assert_eq!(pool.usage().used(), 0);
            continue;
        };
        let before = Snapshot::of(&pool);
        let result = map(&mut table, (F::EDGE, F::small()), false);
        if maps == enough {
            assert_eq!(result, Ok(()));
        } else {
            let needed = enough as u64;
            assert_eq!(result, Err(MapError::NoTableMemory { needed }));
            before.expect(&pool, "too few child maps");
        }
        confirm(table.close());
        assert_eq!((pool.usage().used(), pool.map_usage().used()), (0, 0));
    }
}

/// Checks that only what was undone is left of a request, and that the next removal takes it away.
fn expect_undone<F: Shape>(pool: &Pool<'_>, table: &mut Table<'_, '_, F>, before: &raw::Contents) {
    let used = before.tables.len() as u32;
    let quarantined = pool.usage().used() - used;
    let after = raw::read(pool, table, quarantined);
    assert_eq!(after.stretches, before.stretches);
    assert_eq!(after.tables, before.tables);
    let removed = table.sweep(range(F::EDGE + 2 * span::<F>(), F::small()));
    assert_eq!(removed.tables(), quarantined);
    assert_eq!(confirm(removed).extent, Extent::Everything);
    assert_eq!(pool.usage().used(), used);
    // Once.
    let removed = table.sweep(range(F::EDGE + 2 * span::<F>(), F::small()));
    assert_ne!(confirm(removed).extent, Extent::Everything);
}

fn a_map_that_is_not_answered_is_undone_and_the_next_removal_covers_it<F: Shape>() {
    let mut memory = Memory::new(32);
    let pool = memory.pool();
    let mut table = new::<F>(&pool);
    for request in requests::<F>() {
        for as_list in [false, true] {
            let before = raw::read(&pool, &table, 0);
            pool.bus().be_deaf();
            let result = map(&mut table, request, as_list);
            assert_eq!(result, Err(MapError::DeviceLost), "{request:#x?}");
            pool.bus().come_back();
            expect_undone(&pool, &mut table, &before);
            // Nothing is in the way of the next attempt.
            map(&mut table, request, as_list).unwrap();
            raw::read(&pool, &table, 0);
            confirm(table.unmap(range(request.0, request.1)).unwrap());
        }
    }
}

fn a_split_that_is_not_answered_is_undone_and_the_next_removal_covers_it<F: Shape>() {
    let mut memory = Memory::new(32);
    let pool = memory.pool();
    let mut table = new::<F>(&pool);
    let at = device(F::EDGE - F::large());
    let large = run(F::BUS, F::large());
    table.map(at, large, &MapOptions::default()).unwrap();
    let before = raw::read(&pool, &table, 0);
    pool.bus().be_deaf();
    let error = table.split(at).unwrap_err();
    assert_eq!(error, SplitError::DeviceLost);
    pool.bus().come_back();
    expect_undone(&pool, &mut table, &before);
    confirm(table.split(at).unwrap());
    assert_eq!(raw::read(&pool, &table, 0).leaves, 1 + F::slots());
}

fn a_split_takes_a_child_map_where_the_small_leaves_can_be_split_again<F: Shape>() {
    // All tables but that of the smallest leaves point at others.
    let mut memory = Memory::with_maps(16, F::INDEX.len() - 1);
    let pool = memory.pool();
    let mut table = PageTable::<F, _>::new(&pool).unwrap().unwrap();
    let (at, bus) = (F::EDGE, F::BUS & !(F::largest() - 1));
    let page = run(bus, F::largest());
    table.map(device(at), page, &MapOptions::default()).unwrap();
    for _ in 1..F::SIZES.len() {
        confirm(table.split(device(at)).unwrap());
    }
    assert_eq!(pool.map_usage().free, 0);
    let found = table.query(device(at + 5)).unwrap();
    assert_eq!(
        (found.bus.get(), found.leaf),
        (bus + 5, range(at, F::small()))
    );
    let told = stretches(&table, at, F::largest());
    let (last, leaf) = (told.last().unwrap(), told[0].leaf_bytes);
    assert_eq!((last.at + last.len, leaf), (at + F::largest(), F::small()));
    confirm(table.unmap(range(at, F::largest())).unwrap());
    assert_eq!((pool.usage().used(), pool.map_usage().used()), (1, 1));
}

fn a_device_lost_at_any_write_leaves_the_records_as_they_were<F: Shape>() {
    for request in requests::<F>() {
        for lose_at in 1.. {
            let mut memory = Memory::new(32);
            let pool = memory.pool();
            let mut table = new::<F>(&pool);
            let before = raw::read(&pool, &table, 0);
            let live = |table: &u32| (*table, pool.live_of(*table));
            let lives: Vec<_> = before.tables.iter().map(live).collect();
            pool.bus().lose_at_write(lose_at);
            let result = map(&mut table, request, false);
            if result.is_ok() {
                assert!(lose_at > 1, "a write at least");
                break;
            }
            assert_eq!(result, Err(MapError::DeviceLost), "write {lose_at}");
            pool.bus().come_back();
            assert_eq!(told(&table), before.stretches);
            let now: Vec<_> = before.tables.iter().map(live).collect();
            assert_eq!(now, lives, "write {lose_at}");
            // A reset, after which nothing of the tables is what it was.
            pool.bus().reset();
            let removed = table.wipe();
            assert_eq!(removed.tables() + 1, pool.usage().used());
            assert_eq!(confirm(removed).extent, Extent::Everything);
            assert_eq!(pool.usage().used(), 1);
            map(&mut table, request, false).unwrap();
            assert_eq!(raw::read(&pool, &table, 0).leaves, request.1 / F::small());
        }
    }
}

fn a_removal_that_does_not_arrive_keeps_its_tables<F: Shape>() {
    let mut memory = Memory::new(32);
    let pool = memory.pool();
    let mut table = new::<F>(&pool);
    let used = pool.usage().used();
    let request = requests::<F>()[3];
    map(&mut table, request, false).unwrap();
    let removed = table.unmap(range(request.0, request.1)).unwrap();
    let quarantined = removed.tables();
    assert_ne!(quarantined, 0);
    pool.bus().lose_at_flush(1);
    let mut mmu = NoCache::default();
    let (removed, error) = removed.confirm(&mut mmu).unwrap_err().into_parts();
    assert!(matches!(error, ConfirmError::Flush(_)));
    // The device was not even asked to invalidate.
    assert!(mmu.seen.is_empty());
    assert_eq!(pool.usage().used(), used + quarantined);
    pool.bus().come_back();
    confirm(removed);
    assert_eq!(pool.usage().used(), used);
}

#[test]
fn rights_that_are_taken_away_are_certain_only_when_they_arrived() {
    let mut memory = Memory::new(32);
    let pool = memory.pool();
    let mut table = new::<X86_64<4>>(&pool);
    let request = requests::<X86_64<4>>()[2];
    let all = range(request.0, request.1);
    let options = MapOptions {
        attributes: X86Attributes {
            writable: true,
            ..X86Attributes::default()
        },
        ..MapOptions::default()
    };
    let pages = run(0x5000, all.len());
    table.map(all.start(), pages, &options).unwrap();
    let read_only = X86Attributes::default();
    let removed = table.protect(all, read_only).unwrap();
    pool.bus().lose_at_flush(1);
    let (removed, error) = removed
        .confirm(&mut NoCache::default())
        .unwrap_err()
        .into_parts();
    assert!(matches!(error, ConfirmError::Flush(_)));
    assert_eq!(removed.stale().extent, Extent::Range(all));
    pool.bus().come_back();
    confirm(removed);
    let found = table.query(all.start()).unwrap();
    assert_eq!(found.attributes, read_only);
}
