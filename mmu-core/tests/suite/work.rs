//! How much is done: every load and store of an entry is counted.

use std::sync::atomic::AtomicU64;

use mmu_core::format::V1;
use mmu_core::{BusAddr, MapOptions, PageTable, Region, ReuseOrder, TablePool, TableRecord};

use crate::common::model::leaf_sizes;
use crate::common::shape::Shape;
use crate::common::{
    ARENA, CountingMemory, CountingWord, ENTRIES, Pool, Table, confirm, device, for_every_format,
    only, range, run,
};

for_every_format!(
    each_word_of_a_new_table_is_stored_once,
    a_map_into_zeroed_tables_stores_one_entry_per_leaf_and_one_per_table,
    a_pool_that_is_known_to_be_zero_zeroes_no_table_before_it_was_used,
    an_unmap_of_whole_tables_stores_one_entry_per_table_and_reads_no_leaf,
    one_descent_checks_and_fills_a_run_however_long_it_is,
    a_run_looks_for_each_of_its_tables_once,
    a_page_in_a_table_that_stays_costs_one_store_and_no_descent,
    a_page_in_a_new_table_costs_one_descent_at_most,
    a_table_filled_again_after_it_was_unlinked_whole_holds_nothing_old,
    interior_tables_unlinked_with_all_below_them_are_zero_when_they_are_used_again,
    a_visit_of_everything_reads_each_table_once,
);

type Counted<'p, 'a, F> = Table<'p, 'a, F, CountingWord>;

fn counted<'p, 'a, F: Shape>(pool: &'p Pool<'a, CountingWord>) -> Counted<'p, 'a, F> {
    let table = PageTable::<F, _>::new(pool).unwrap().unwrap();
    CountingMemory::take_counts(pool);
    table
}

/// The span of a table of leaves.
fn span<F: Shape>() -> u64 {
    F::slots() * F::small()
}

/// Maps with the smallest leaves.
fn map<F: Shape>(table: &mut Counted<'_, '_, F>, at: u64, len: u64) {
    let options = only::<F>(leaf_sizes::<F>(1));
    table.map(device(at), run(F::BUS, len), &options).unwrap();
}

fn each_word_of_a_new_table_is_stored_once<F: Shape>() {
    let mut memory = CountingMemory::new(32);
    let pool = memory.pool();
    let mut table = counted::<F>(&pool);
    // Two and a half tables of leaves from the middle of one, across an edge of all hops.
    let at = F::EDGE - span::<F>() / 2;
    map(&mut table, at, 2 * span::<F>() + span::<F>() / 2);
    let root = table.root().get();
    let counts = CountingMemory::take_counts(&pool);
    for number in 0..pool.usage().used() {
        let address = ARENA + u64::from(number) * 4096;
        if address == root {
            // Links alone: at most one on each side of the edge.
            assert!(counts.stores_to(root) <= 2);
        } else {
            let words = &counts.stores[number as usize];
            assert!(words.iter().all(|&stores| stores == 1), "table {number}");
        }
    }
}

/// Leaves `count` tables' worth of known-zero tables in the pool: each was emptied page by page.
fn leave_zeroed<F: Shape>(
    pool: &Pool<'_, CountingWord>,
    table: &mut Counted<'_, '_, F>,
    count: u64,
) {
    for n in 0..count {
        map(table, F::EDGE + n * span::<F>(), F::small());
    }
    for n in 0..count {
        let page = range(F::EDGE + n * span::<F>(), F::small());
        confirm(table.unmap(page).unwrap());
    }
    assert_eq!(pool.usage().used(), 1);
    CountingMemory::take_counts(pool);
}

fn a_map_into_zeroed_tables_stores_one_entry_per_leaf_and_one_per_table<F: Shape>() {
    let mut memory = CountingMemory::new(32);
    let pool = memory.pool();
    let mut table = counted::<F>(&pool);
    leave_zeroed(&pool, &mut table, 4);
    // Not whole tables, so that there would be something to zero.
    let leaves = 3 * F::slots() + 5;
    map(&mut table, F::EDGE, leaves * F::small());
    let new = u64::from(pool.usage().used() - 1);
    let counts = CountingMemory::take_counts(&pool);
    assert_eq!(counts.total_stores(), leaves + new);
    // A second run into tables that are there.
    map(&mut table, F::EDGE + leaves * F::small(), 7 * F::small());
    assert_eq!(CountingMemory::take_counts(&pool).total_stores(), 7);
}

fn a_pool_that_is_known_to_be_zero_zeroes_no_table_before_it_was_used<F: Shape>() {
    let mut memory = CountingMemory::new(32);
    let pool = memory.zeroed_pool();
    CountingMemory::take_counts(&pool);
    let mut table = counted::<F>(&pool);
    assert_eq!(CountingMemory::take_counts(&pool).total_stores(), 0, "root");
    // One page, all of whose tables are new; then the rest of its table and half of the next one.
    map(&mut table, F::EDGE, F::small());
    let new = u64::from(pool.usage().used() - 1);
    assert_eq!(CountingMemory::take_counts(&pool).total_stores(), 1 + new);
    let leaves = F::slots() * 3 / 2 - 1;
    map(&mut table, F::EDGE + F::small(), leaves * F::small());
    assert_eq!(
        CountingMemory::take_counts(&pool).total_stores(),
        leaves + 1
    );
    // A table full of leaves that is unlinked as it is is not known to be zero any more.
    let mapped = range(F::EDGE, span::<F>());
    confirm(table.unmap(mapped).unwrap());
    CountingMemory::take_counts(&pool);
    map(&mut table, F::EDGE, F::small());
    let stores = CountingMemory::take_counts(&pool).total_stores();
    assert!(stores > ENTRIES as u64, "{stores}");
}

fn an_unmap_of_whole_tables_stores_one_entry_per_table_and_reads_no_leaf<F: Shape>() {
    let mut memory = CountingMemory::new(32);
    let pool = memory.pool();
    let mut table = counted::<F>(&pool);
    let len = 4 * span::<F>();
    map(&mut table, F::EDGE, len);
    // The deepest tables are those whose words were stored without a link in the first place:
    // full of leaves. Read their addresses off the hop above.
    let leaf_tables: Vec<u32> = (0..pool.usage().used())
        .filter(|&number| {
            use mmu_core::TableId;
            u64::from(pool.live_slots(TableId::new(number)).unwrap()) == F::slots()
        })
        .collect();
    assert_eq!(leaf_tables.len(), 4);
    CountingMemory::take_counts(&pool);
    let removed = table.unmap(range(F::EDGE, len)).unwrap();
    let counts = CountingMemory::take_counts(&pool);
    for number in leaf_tables {
        let address = ARENA + u64::from(number) * 4096;
        assert_eq!(counts.loads_of(address), 0, "loads of table {number}");
        assert_eq!(counts.stores_to(address), 0, "stores to table {number}");
    }
    assert_eq!(counts.total_stores(), u64::from(removed.tables()));
    confirm(removed);

    // In a table that stays: one store per leaf.
    map(&mut table, F::EDGE, span::<F>());
    CountingMemory::take_counts(&pool);
    let part = range(F::EDGE, span::<F>() - F::small());
    let removed = table.unmap(part).unwrap();
    assert_eq!(removed.tables(), 0);
    let stores = CountingMemory::take_counts(&pool).total_stores();
    assert_eq!(stores, F::slots() - 1);
    confirm(removed);
}

fn one_descent_checks_and_fills_a_run_however_long_it_is<F: Shape>() {
    for tables in [1, 4, 64] {
        let mut memory = CountingMemory::new(tables as usize + 8);
        let pool = memory.pool();
        let mut table = counted::<F>(&pool);
        let root = table.root().get();
        map(&mut table, F::EDGE, tables * span::<F>());
        let counts = CountingMemory::take_counts(&pool);
        assert_eq!(counts.loads_of(root), 1, "{tables} tables in one run");
        // The same page by page, as a list.
        confirm(table.sweep_all());
        CountingMemory::take_counts(&pool);
        let pages = tables * F::slots();
        let runs = (0..pages).map(|n| run(F::BUS + (pages - 1 - n) * F::small(), F::small()));
        let all = range(F::EDGE, tables * span::<F>());
        table.map_list(all, runs, &MapOptions::default()).unwrap();
        let counts = CountingMemory::take_counts(&pool);
        assert_eq!(counts.loads_of(root), 1, "{tables} tables as a list");
    }
}

/// What is counted: loads of entries in tables above the deepest hop. One step from such a table
/// to one of leaves is one load.
fn a_run_looks_for_each_of_its_tables_once<F: Shape>() {
    for tables in [1, 2, 16, 128] {
        let mut memory = CountingMemory::new(tables as usize + 16);
        let pool = memory.pool();
        let mut table = counted::<F>(&pool);
        // The tables above are there, so that the check cannot stop at the root.
        map(&mut table, F::EDGE + tables * span::<F>(), F::small());
        CountingMemory::take_counts(&pool);
        map(&mut table, F::EDGE, tables * span::<F>());
        let loads: u64 = CountingMemory::take_counts(&pool)
            .loads
            .iter()
            .flatten()
            .sum();
        // The way from the root to the first table's parent, and then one load for each table.
        let way = F::INDEX.len() as u64 - 2;
        assert_eq!(loads, way + tables, "{tables} tables");
    }
}

fn a_page_in_a_new_table_costs_one_descent_at_most<F: Shape>() {
    let mut memory = CountingMemory::new(32);
    let pool = memory.pool();
    let mut table = counted::<F>(&pool);
    let root = table.root().get();
    map(&mut table, F::EDGE, F::small());
    CountingMemory::take_counts(&pool);
    for n in 1..4 {
        map(&mut table, F::EDGE + n * span::<F>(), F::small());
        let loads = CountingMemory::take_counts(&pool).loads_of(root);
        // From the second on the parent is remembered, and the root not even looked at.
        assert_eq!(loads, u64::from(n == 1), "table {n}");
    }
}

fn a_page_in_a_table_that_stays_costs_one_store_and_no_descent<F: Shape>() {
    let mut memory = CountingMemory::new(32);
    let pool = memory.pool();
    let mut table = counted::<F>(&pool);
    map(&mut table, F::EDGE, F::small());
    CountingMemory::take_counts(&pool);
    let page = range(F::EDGE + 9 * F::small(), F::small());
    for _ in 0..3 {
        map(&mut table, page.start().get(), page.len());
        let counts = CountingMemory::take_counts(&pool);
        assert_eq!(counts.total_stores(), 1);
        if F::SIZES.len() > 1 {
            assert_eq!(counts.loads.iter().flatten().sum::<u64>(), 1);
        }
        confirm(table.unmap(page).unwrap());
        let counts = CountingMemory::take_counts(&pool);
        assert_eq!(counts.total_stores(), 1);
        assert_eq!(counts.loads.iter().flatten().sum::<u64>(), 1);
    }
}

fn a_table_filled_again_after_it_was_unlinked_whole_holds_nothing_old<F: Shape>() {
    let mut memory = CountingMemory::new(32);
    let pool = memory.pool();
    let mut table = counted::<F>(&pool);
    map(&mut table, F::EDGE, span::<F>());
    // Unlinked with all its leaves in it, then used again for one page.
    confirm(table.unmap(range(F::EDGE, span::<F>())).unwrap());
    map(&mut table, F::EDGE + 5 * F::small(), F::small());
    assert_eq!(crate::common::raw::read(&pool, &table, 0).leaves, 1);
}

fn interior_tables_unlinked_with_all_below_them_are_zero_when_they_are_used_again<F: Shape>() {
    let mut memory = CountingMemory::new(32);
    let pool = memory.pool();
    let mut table = counted::<F>(&pool);
    map(&mut table, F::EDGE, span::<F>());
    confirm(table.sweep_all());
    assert_eq!(pool.usage().used(), 1);
    CountingMemory::take_counts(&pool);
    // A link each for the tables, and the table of leaves is the only one that is filled.
    map(&mut table, F::EDGE, span::<F>());
    let new = u64::from(pool.usage().used() - 1);
    assert_eq!(CountingMemory::take_counts(&pool).total_stores(), 512 + new);
    assert_eq!(
        crate::common::raw::read(&pool, &table, 0).leaves,
        F::slots()
    );
}

fn a_visit_of_everything_reads_each_table_once<F: Shape>() {
    let mut memory = CountingMemory::new(32);
    let pool = memory.pool();
    let mut table = counted::<F>(&pool);
    let leaves = F::slots() + 1;
    map(&mut table, F::EDGE, leaves * F::small());
    CountingMemory::take_counts(&pool);
    assert_eq!(table.runs(range(0, u64::MAX)).count(), 1);
    let loads = CountingMemory::take_counts(&pool).loads;
    // Once for what the slot is, and once more for a leaf's address.
    let total: u64 = loads.iter().flatten().sum();
    assert!(total <= u64::from(pool.usage().used()) * 512 + leaves);
    assert!(loads.iter().flatten().all(|&loads| loads <= 2));
}

#[test]
fn the_bookkeeping_of_a_table_takes_8_bytes_or_76_behind_a_bus_and_a_child_map_2052() {
    assert_eq!(size_of::<mmu_core::TableRecord>(), 8);
    assert_eq!(size_of::<mmu_core::DeviceTableRecord>(), 76);
    assert_eq!(size_of::<mmu_core::ChildMap>(), 2052);
}

#[test]
fn what_a_record_says_of_the_tables_of_another_pool_is_not_believed() {
    let mut records: Vec<TableRecord> = (0..8).map(|_| TableRecord::new()).collect();
    for _ in 0..2 {
        let dirty = || core::array::from_fn(|_| AtomicU64::new(crate::common::DIRT));
        let tables: Vec<[AtomicU64; 512]> = (0..8).map(|_| dirty()).collect();
        let region = Region::new(&tables, BusAddr::new(ARENA)).unwrap();
        let pool: Pool<'_> =
            TablePool::new(region, &mut records, ReuseOrder::LastReleased).unwrap();
        let mut table = PageTable::<V1, _>::new(&pool).unwrap().unwrap();
        let options = MapOptions::default();
        table
            .map(device(V1::EDGE), run(V1::BUS, 4096), &options)
            .unwrap();
        assert_eq!(crate::common::raw::read(&pool, &table, 0).leaves, 1);
        // Leaves all tables in the pool, and a record of each that it is known to be zero.
        confirm(table.unmap(range(V1::EDGE, 4096)).unwrap());
        confirm(table.close());
    }
}
