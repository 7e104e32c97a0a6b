//! Table memory that runs out at every point, and lists of runs that are not what they said.

use std::cell::Cell;

use mmu_core::{MapError, MapOptions, PageTable, Run, SplitError};

use super::common::model::leaf_sizes;
use super::common::raw;
use super::common::shape::Shape;
use super::common::{
    Memory, Pool, Snapshot, Table, Unresponsive, confirm, device, for_every_format,
    for_every_format_with_large_leaves, only, range, run,
};

for_every_format!(
    a_map_fails_cleanly_for_every_number_of_free_tables_below_what_it_needs,
    a_list_fails_cleanly_for_every_number_of_free_tables_below_what_it_needs,
    runs_that_do_not_add_up_to_the_range_are_refused,
    runs_that_change_when_cloned_map_nothing_and_their_tables_come_back,
    a_list_refused_at_any_of_its_pages_leaves_nothing_of_the_others,
    leaves_that_were_undone_are_forgotten_by_the_next_removal,
    tables_of_an_unconfirmed_removal_are_not_used_again,
    closing_returns_every_table,
    two_page_tables_share_a_pool_without_sharing_tables,
    a_removal_that_is_taken_back_goes_with_the_next_one,
);
for_every_format_with_large_leaves!(a_split_without_a_free_table_changes_nothing);

/// Runs `map` with every number of free tables from none up to what it needs.
fn fail_at_every_table<F: Shape>(map: impl Fn(&mut Table<'_, '_, F>) -> Result<(), MapError>) {
    let path = F::INDEX.len();
    let mut needed = None;
    for free in 0.. {
        let mut memory = Memory::new(path + free);
        let pool = memory.pool();
        let mut table = PageTable::<F, _>::new(&pool).unwrap().unwrap();
        // Something is there already, in a table that the request goes through too.
        let at = device(F::EDGE - F::small());
        let page = run(F::BUS, F::small());
        table.map(at, page, &MapOptions::default()).unwrap();
        assert_eq!(pool.usage().free as usize, free);
        let before = Snapshot::of(&pool);
        match map(&mut table) {
            Ok(()) => {
                assert_eq!(needed, Some(free as u64), "no more than it said");
                assert_eq!(pool.usage().free, 0, "no fewer than it said");
                raw::read(&pool, &table, 0);
                break;
            }
            Err(MapError::NoTableMemory { needed: now }) => {
                assert_eq!(*needed.get_or_insert(now), now);
                before.expect(&pool, "a map without memory");
                raw::read(&pool, &table, 0);
            }
            Err(error) => panic!("{error}"),
        }
    }
}

fn a_map_fails_cleanly_for_every_number_of_free_tables_below_what_it_needs<F: Shape>() {
    let len = 3 * F::slots() * F::small();
    // In one table and on: into the table of the page that is there, and beyond the edge.
    fail_at_every_table::<F>(|table| {
        table.map(
            device(F::EDGE),
            run(F::BUS + F::small(), len),
            &MapOptions::default(),
        )
    });
}

fn a_list_fails_cleanly_for_every_number_of_free_tables_below_what_it_needs<F: Shape>() {
    let pages = 2 * F::slots() + 7;
    // Every page elsewhere, then a stretch that large leaves fit into.
    let runs = (0..pages)
        .map(|n| run(F::BUS + (n * 37 % pages) * F::small(), F::small()))
        .chain([run(F::BUS + 7 * F::small(), 2 * F::slots() * F::small())]);
    let len = (pages + 2 * F::slots()) * F::small();
    fail_at_every_table::<F>(|table| {
        table.map_list(range(F::EDGE, len), runs.clone(), &MapOptions::default())
    });
}

fn a_split_without_a_free_table_changes_nothing<F: Shape>() {
    for size in &F::SIZES[1..] {
        let mut memory = Memory::new(usize::from(size.hop) + 1);
        let pool = memory.pool();
        let mut table = PageTable::<F, _>::new(&pool).unwrap().unwrap();
        let leaf = run(F::BUS, size.bytes);
        table
            .map(device(F::EDGE), leaf, &MapOptions::default())
            .unwrap();
        let before = Snapshot::of(&pool);
        let result = table.split(device(F::EDGE)).unwrap_err();
        assert_eq!(result, SplitError::NoTableMemory);
        before.expect(&pool, "a split without memory");
    }
}

fn runs_that_do_not_add_up_to_the_range_are_refused<F: Shape>() {
    let small = F::small();
    let mut memory = Memory::new(32);
    let pool = memory.pool();
    let mut table = PageTable::<F, _>::new(&pool).unwrap().unwrap();
    let before = Snapshot::of(&pool);
    let all = range(F::EDGE, 10 * small);
    let page = run(F::BUS, small);
    let mut refused = |runs: &[Run], expected: MapError| {
        let result = table.map_list(all, runs.iter().copied(), &MapOptions::default());
        assert_eq!(result, Err(expected));
        before.expect(&pool, "a list that does not fit");
    };
    let ends_at = |at: u64| MapError::LengthMismatch { at: device(at) };
    refused(&[], ends_at(F::EDGE));
    refused(&[page; 9], ends_at(F::EDGE + 9 * small));
    refused(&[run(F::BUS, 9 * small)], ends_at(F::EDGE + 9 * small));
    let last = F::EDGE + 10 * small - 1;
    refused(&[page; 11], ends_at(last));
    refused(&[run(F::BUS, 11 * small)], ends_at(last));
    refused(&[page, run(F::BUS, 10 * small)], ends_at(last));
    let bus = mmu_core::BusAddr::new(F::BUS + small / 2);
    let misaligned = run(bus.get(), small);
    refused(&[page, misaligned], MapError::MisalignedRun { bus });
    let bus = page.start();
    refused(
        &[page, run(F::BUS, small / 2)],
        MapError::MisalignedRun { bus },
    );
    // As many runs as there are pages, and as long, but none of them is one.
    let pair = [run(F::BUS, small + small / 2), run(F::BUS, small / 2)];
    let result = table.map_list(all, pair.repeat(5), &MapOptions::default());
    assert_eq!(result, Err(MapError::MisalignedRun { bus }));
    assert!(table.is_empty());
    assert_eq!(pool.usage().used(), 1);
}

/// Runs that are `first` when they are iterated the first time, and `second` the next.
struct Fickle<'a> {
    first: &'a [Run],
    second: &'a [Run],
    clones: &'a Cell<u32>,
    is_clone: bool,
    next: usize,
}

impl Clone for Fickle<'_> {
    fn clone(&self) -> Self {
        self.clones.set(self.clones.get() + 1);
        Self {
            is_clone: true,
            ..*self
        }
    }
}

impl Iterator for Fickle<'_> {
    type Item = Run;

    fn next(&mut self) -> Option<Run> {
        // The clone is what is checked.
        let runs = if self.is_clone {
            self.first
        } else {
            self.second
        };
        let run = runs.get(self.next).copied();
        self.next += 1;
        run
    }
}

fn runs_that_change_when_cloned_map_nothing_and_their_tables_come_back<F: Shape>() {
    let small = F::small();
    let slots = F::slots();
    let mut memory = Memory::new(64);
    let pool = memory.pool();
    let mut table = PageTable::<F, _>::new(&pool).unwrap().unwrap();
    let neighbours = [F::EDGE - small, F::EDGE + 3 * slots * small];
    for at in neighbours {
        let page = run(F::BUS, small);
        table.map(device(at), page, &MapOptions::default()).unwrap();
    }
    let page = |n: u64| run(F::BUS + n * 3 * small, small);
    let pages: Vec<Run> = (0..3 * slots).map(page).collect();
    let all = range(F::EDGE, 3 * slots * small);
    let mut fewer = pages.clone();
    fewer.truncate(2 * slots as usize + 5);
    let mut more = pages.clone();
    more.push(page(0));
    let longer = [&pages[..1], &[run(F::BUS, 3 * slots * small)]].concat();
    let mut misaligned = pages.clone();
    misaligned[slots as usize + 1] = run(F::BUS + small / 2, small);
    let mut out_of_range = pages.clone();
    out_of_range[slots as usize + 1] = run(u64::MAX - small + 1 - small / 2, small / 2);
    // Starts and lengths that are out of step by as much.
    let mut out_of_step = pages.clone();
    let half = F::BUS + small / 2;
    out_of_step[0] = run(half, small + small / 2);
    out_of_step[1] = run(half, small / 2);
    let one = [run(F::BUS, 3 * slots * small)];
    let before = raw::read(&pool, &table, 0);
    for (first, second) in [
        (&pages, &fewer),
        (&pages, &vec![]),
        (&pages, &more),
        (&pages, &longer),
        (&pages, &misaligned),
        (&pages, &out_of_range),
        (&pages, &out_of_step),
        // The tables that were counted for large leaves do not suffice for small ones.
        (&one.to_vec(), &pages),
    ] {
        let used = pool.usage().used();
        let clones = Cell::new(0);
        let runs = Fickle {
            first,
            second,
            clones: &clones,
            is_clone: false,
            next: 0,
        };
        let result = table.map_list(all, runs, &MapOptions::default());
        assert_eq!(clones.get(), 1);
        if F::SIZES.len() == 1 && first.len() == 1 {
            // One size of leaves: the tables do suffice.
            assert_eq!(result, Ok(()));
            confirm(table.unmap(all).unwrap());
            continue;
        }
        assert_eq!(result, Err(MapError::RunsChanged));
        let quarantined = pool.usage().used() - used;
        let after = raw::read(&pool, &table, quarantined);
        assert_eq!(after.stretches, before.stretches);
        assert_eq!(after.tables, before.tables);
        // What was undone may be cached anywhere: the next removal forgets everything.
        let removed = table.sweep(range(F::EDGE, small));
        assert_eq!(removed.tables(), quarantined);
        let stale = confirm(removed);
        assert_eq!(stale.extent, mmu_core::Extent::Everything);
        assert_eq!(stale.tables, quarantined > 0);
        assert_eq!(pool.usage().used(), used);
    }
}

/// Into an empty page table, so that nobody can see any of the tables before all are complete.
fn a_list_refused_at_any_of_its_pages_leaves_nothing_of_the_others<F: Shape>() {
    const PAGES: u64 = 20;
    let small = F::small();
    let options = only::<F>(leaf_sizes::<F>(1));
    let mut memory = Memory::new(16);
    let pool = memory.pool();
    let mut table = PageTable::<F, _>::new(&pool).unwrap().unwrap();
    let all = range(F::EDGE, PAGES * small);
    let page = |n: u64| run(F::BUS + 2 * n * small, small);
    let behind = device(F::EDGE + PAGES * small);
    for refused in 0..PAGES {
        let mut pages: Vec<Run> = (0..PAGES).map(page).collect();
        let misaligned = run(F::BUS + small / 2, small);
        pages[refused as usize] = misaligned;
        let bus = misaligned.start();
        let result = table.map_list(all, pages.iter().copied(), &options);
        assert_eq!(result, Err(MapError::MisalignedRun { bus }), "{refused}");
        assert_eq!(pool.usage().used(), 1);
        // What takes the same tables next is all that the device finds in them.
        table.map(behind, page(PAGES), &options).unwrap();
        assert_eq!(raw::read(&pool, &table, 0).leaves, 1, "{refused}");
        confirm(table.unmap(range(behind.get(), small)).unwrap());
    }
    table.map_list(all, (0..PAGES).map(page), &options).unwrap();
    assert_eq!(raw::read(&pool, &table, 0).leaves, PAGES);
}

fn leaves_that_were_undone_are_forgotten_by_the_next_removal<F: Shape>() {
    let small = F::small();
    let mut memory = Memory::new(16);
    let pool = memory.pool();
    let mut table = PageTable::<F, _>::new(&pool).unwrap().unwrap();
    let page = |n: u64| range(F::EDGE + n * small, small);
    for n in [0, 1] {
        let bus = run(F::BUS, small);
        table
            .map(page(n).start(), bus, &MapOptions::default())
            .unwrap();
    }
    // In a table that is linked already: the device may have seen the first of the two leaves.
    let two = [run(F::BUS, small), run(F::BUS + 9 * small, small)];
    let clones = Cell::new(0);
    let runs = Fickle {
        first: &two,
        second: &two[..1],
        clones: &clones,
        is_clone: false,
        next: 0,
    };
    let at = range(F::EDGE + 5 * small, 2 * small);
    let result = table.map_list(at, runs, &MapOptions::default());
    assert_eq!(result, Err(MapError::RunsChanged));
    // A removal of something else.
    let stale = confirm(table.unmap(page(0)).unwrap());
    assert_eq!(stale.extent, mmu_core::Extent::Everything);
    // Once.
    let stale = confirm(table.unmap(page(1)).unwrap());
    assert_eq!(stale.extent, mmu_core::Extent::Range(page(1)));
}

fn tables_of_an_unconfirmed_removal_are_not_used_again<F: Shape>() {
    let len = 2 * F::slots() * F::small();
    let options = only::<F>(leaf_sizes::<F>(1));
    let mut memory = Memory::new(F::INDEX.len() + 1);
    let pool = memory.pool();
    let mut table = PageTable::<F, _>::new(&pool).unwrap().unwrap();
    table
        .map(device(F::EDGE), run(F::BUS, len), &options)
        .unwrap();
    assert_eq!(pool.usage().free, 0);
    let removed = table.unmap(range(F::EDGE, len)).unwrap();
    let tables = removed.tables();
    assert_eq!(pool.usage().free, 0);
    let removed = removed
        .confirm(&mut Unresponsive)
        .unwrap_err()
        .into_removed();
    assert_eq!(removed.tables(), tables);
    let again = table.map(device(F::EDGE), run(F::BUS, len), &options);
    assert!(matches!(again, Err(MapError::NoTableMemory { .. })));
    confirm(removed);
    assert_eq!(pool.usage().free, tables);
    table
        .map(device(F::EDGE), run(F::BUS, len), &options)
        .unwrap();
    // Dropped without confirmation, the tables are lost rather than used again.
    drop(table.unmap(range(F::EDGE, len)).unwrap());
    assert_eq!(pool.usage().free, 0);
}

fn closing_returns_every_table<F: Shape>() {
    let mut memory = Memory::new(64);
    let pool = memory.pool();
    for _ in 0..3 {
        let mut table = PageTable::<F, _>::new(&pool).unwrap().unwrap();
        for n in 0..8 {
            let at = F::EDGE + n * 2 * F::slots() * F::small() - F::small();
            let pages = run(F::BUS, 2 * F::small());
            table
                .map(device(at), pages, &MapOptions::default())
                .unwrap();
        }
        let used = pool.usage().used();
        let removed = table.close();
        assert_eq!(removed.tables(), used);
        let stale = confirm(removed);
        assert_eq!(stale.extent, mmu_core::Extent::Everything);
        assert_eq!(pool.usage().used(), 0);
    }
}

fn two_page_tables_share_a_pool_without_sharing_tables<F: Shape>() {
    let len = 3 * F::slots() * F::small();
    let mut memory = Memory::new(64);
    let pool: Pool<'_> = memory.pool();
    let new = || PageTable::<F, _>::new(&pool).unwrap().unwrap();
    let (mut one, mut other) = (new(), new());
    let options = MapOptions::default();
    one.map(device(F::EDGE), run(F::BUS, len), &options)
        .unwrap();
    other
        .map(device(F::EDGE), run(F::BUS + len, len), &options)
        .unwrap();
    let used = pool.usage().used();
    let count = raw::read(&pool, &one, used / 2).tables;
    let others = raw::read(&pool, &other, used / 2).tables;
    assert!(count.is_disjoint(&others));
    let mut removed = one.unmap(range(F::EDGE, len)).unwrap();
    let foreign = other
        .unmap(range(F::EDGE, F::small() * F::slots()))
        .unwrap();
    // Removals of two address spaces cannot be confirmed as one.
    let foreign = removed.absorb(foreign).unwrap_err();
    let foreign = one.absorb(foreign).unwrap_err();
    confirm(removed);
    confirm(foreign);
    confirm(other.sweep_all());
    assert_eq!(pool.usage().used(), 2);
}

fn a_removal_that_is_taken_back_goes_with_the_next_one<F: Shape>() {
    let len = 3 * F::slots() * F::small();
    let mut memory = Memory::new(64);
    let pool: Pool<'_> = memory.pool();
    let mut table = PageTable::<F, _>::new(&pool).unwrap().unwrap();
    let options = MapOptions::default();
    table
        .map(device(F::EDGE), run(F::BUS, len), &options)
        .unwrap();
    let used = pool.usage().used();
    let removed = table.unmap(range(F::EDGE, len)).unwrap();
    let tables = removed.tables();
    assert!(!table.has_unconfirmed());
    table.absorb(removed).unwrap();
    assert!(table.has_unconfirmed() && table.is_empty());
    assert_eq!(pool.usage().used(), used);
    // What it says of the next one, which is of an address that the first knew nothing of.
    let removed = table.sweep(range(F::EDGE + len, F::small()));
    assert!(!table.has_unconfirmed());
    assert_eq!(removed.tables(), tables);
    assert_eq!(confirm(removed).extent, mmu_core::Extent::Everything);
    assert_eq!(pool.usage().used(), 1);
}
