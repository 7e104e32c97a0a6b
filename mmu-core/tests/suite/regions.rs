//! Page tables whose tables lie in several regions.

use std::sync::atomic::AtomicU64;

use mmu_core::{
    BusAddr, MapOptions, PageTable, Region, Regions, ReuseOrder, TableArena, TablePool,
    TableRecord, TableWord,
};

use super::common::model::leaf_sizes;
use super::common::shape::Shape;
use super::common::{DIRT, ENTRIES, Lock, confirm, device, for_every_format, only, range, run};

for_every_format!(a_page_table_spreads_over_the_regions_and_comes_back_from_all_of_them);

fn region(count: usize) -> Vec<[AtomicU64; ENTRIES]> {
    let dirty = || core::array::from_fn(|_| AtomicU64::new(DIRT));
    (0..count).map(|_| dirty()).collect()
}

fn a_page_table_spreads_over_the_regions_and_comes_back_from_all_of_them<F: Shape>() {
    let (one, two, three) = (region(5), region(1), region(16));
    let arena = Regions::new([
        Region::new(&one, BusAddr::new(0x7000_0000)).unwrap(),
        Region::new(&two, BusAddr::new(0x1000)).unwrap(),
        Region::new(&three, BusAddr::new(0x5_0000_0000)).unwrap(),
    ])
    .unwrap();
    let mut records: Vec<TableRecord> = (0..22).map(|_| TableRecord::new()).collect();
    let pool: TablePool<'_, _, Lock> =
        TablePool::new(arena, &mut records, ReuseOrder::FirstReleased).unwrap();
    let mut table = PageTable::<F, _>::new(&pool).unwrap().unwrap();
    let len = 7 * F::slots() * F::small();
    let options = only::<F>(leaf_sizes::<F>(1));
    for _ in 0..5 {
        table
            .map(device(F::EDGE - F::small()), run(F::BUS, len), &options)
            .unwrap();
        assert!(pool.usage().used() > 6, "all three regions are in use");
        for offset in [0, F::small(), len / 2, len - 8] {
            let found = table.query(device(F::EDGE - F::small() + offset)).unwrap();
            assert_eq!(found.bus.get(), F::BUS + offset);
        }
        // The device finds the way through the regions by the entries alone.
        let mut tables = vec![table.root()];
        let mut leaves = 0;
        while let Some(address) = tables.pop() {
            let number = pool.arena().locate(address).expect("in a region");
            for word in pool.arena().words(number).unwrap() {
                match TableWord::load(word) {
                    0 => {}
                    entry if pool.arena().locate(target(entry)).is_some() => {
                        tables.push(target(entry));
                    }
                    _ => leaves += 1,
                }
            }
        }
        assert_eq!(leaves, 7 * F::slots());
        confirm(table.unmap(range(F::EDGE - F::small(), len)).unwrap());
        assert_eq!(pool.usage().used(), 1);
    }
    let all = run(F::BUS, len);
    table
        .map(device(F::EDGE), all, &MapOptions::default())
        .unwrap();
    confirm(table.close());
    assert_eq!(pool.usage().used(), 0);
}

/// What an entry points at.
fn target(entry: u64) -> BusAddr {
    BusAddr::new(entry & 0x000F_FFFF_FFFF_F000)
}
