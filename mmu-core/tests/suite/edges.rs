//! The nine cases in which public page-table crates go wrong, for every format.
//!
//! "Large" is what one entry of the second deepest hop covers: a large leaf where the format has
//! one there, and a table full of leaves on the HMMU, which has leaves at the deepest hop only.

use mmu_core::{LeafSizes, MapError, MapOptions, PageTable, UnmapError};

use super::common::model::leaf_sizes;
use super::common::raw;
use super::common::shape::Shape;
use super::common::{
    Memory, Pool, Snapshot, Table, confirm, device, for_every_format,
    for_every_format_with_large_leaves, only, range, run,
};

for_every_format!(
    a_large_leaf_fits_where_a_small_one_was_mapped_and_unmapped,
    a_range_that_exhausts_table_memory_in_its_middle_maps_nothing,
    a_range_that_meets_a_mapping_maps_nothing,
    unmapping_a_range_with_a_hole_removes_nothing,
    unmapping_less_than_a_leaf_is_refused,
    a_bus_address_aligned_to_small_leaves_is_never_rounded,
    mapping_a_page_twice_is_refused_and_keeps_the_first,
    unmapping_what_is_not_mapped_is_refused,
    a_large_leaf_over_a_live_table_is_refused,
);
for_every_format_with_large_leaves!(
    unmapping_a_small_leaf_inside_a_large_one_is_refused,
    a_size_that_the_bus_address_is_not_aligned_to_is_refused_where_no_other_is_allowed,
);

fn large<F: Shape>() -> u64 {
    F::small() * F::slots()
}

/// A table where the pages `0..10` are mapped.
fn ten_pages<'p, 'a, F: Shape>(pool: &'p Pool<'a>) -> Table<'p, 'a, F> {
    let mut table = PageTable::<F, _>::new(pool).unwrap().unwrap();
    table
        .map(
            device(F::EDGE),
            run(F::BUS, 10 * F::small()),
            &MapOptions::default(),
        )
        .unwrap();
    table
}

fn a_large_leaf_fits_where_a_small_one_was_mapped_and_unmapped<F: Shape>() {
    let mut memory = Memory::new(16);
    let pool = memory.pool();
    let mut table = ten_pages::<F>(&pool);
    confirm(table.unmap(range(F::EDGE, 10 * F::small())).unwrap());
    assert_eq!(pool.usage().used(), 1);
    table
        .map(
            device(F::EDGE),
            run(F::BUS, large::<F>()),
            &MapOptions::default(),
        )
        .unwrap();
    let contents = raw::read(&pool, &table, 0);
    let [stretch] = contents.stretches[..] else {
        panic!("one stretch");
    };
    assert_eq!((stretch.at, stretch.len), (F::EDGE, large::<F>()));
    let is_large = F::SIZES.len() > 1;
    assert_eq!(contents.leaves, if is_large { 1 } else { F::slots() });
}

fn a_range_that_exhausts_table_memory_in_its_middle_maps_nothing<F: Shape>() {
    // The root, the path to the first table, and one table more; six would be needed there.
    let path = F::INDEX.len();
    let mut memory = Memory::new(path + 1);
    let pool = memory.pool();
    let mut table = ten_pages::<F>(&pool);
    let before = Snapshot::of(&pool);
    let at = F::EDGE + large::<F>();
    let result = table.map(
        device(at),
        run(F::BUS, 5 * large::<F>()),
        &only::<F>(leaf_sizes::<F>(1)),
    );
    assert_eq!(result, Err(MapError::NoTableMemory { needed: 5 }));
    before.expect(&pool, "a map without memory");
}

fn a_range_that_meets_a_mapping_maps_nothing<F: Shape>() {
    let mut memory = Memory::new(24);
    let pool = memory.pool();
    let mut table = ten_pages::<F>(&pool);
    let before = Snapshot::of(&pool);
    let below = 300 * F::small();
    let at = F::EDGE - below;
    for (len, sizes) in [
        (below + F::small(), leaf_sizes::<F>(1)),
        (below + F::small(), LeafSizes::ALL),
        (below + 100 * F::small(), LeafSizes::ALL),
    ] {
        let result = table.map(device(at), run(F::BUS, len), &only::<F>(sizes));
        let at = device(F::EDGE);
        assert_eq!(result, Err(MapError::AlreadyMapped { at }));
        before.expect(&pool, "a map into a mapping");
    }
    // From within: the first address that is mapped is the first of all.
    let at = device(F::EDGE + 9 * F::small());
    let result = table.map(at, run(F::BUS, 300 * F::small()), &MapOptions::default());
    assert_eq!(result, Err(MapError::AlreadyMapped { at }));
    before.expect(&pool, "a map out of a mapping");
}

fn unmapping_a_range_with_a_hole_removes_nothing<F: Shape>() {
    let mut memory = Memory::new(24);
    let pool = memory.pool();
    let mut table = ten_pages::<F>(&pool);
    let far = F::EDGE + 3 * large::<F>();
    table
        .map(
            device(far),
            run(F::BUS, large::<F>()),
            &MapOptions::default(),
        )
        .unwrap();
    let before = Snapshot::of(&pool);
    let holes = [
        // Behind, before, and whole missing tables between.
        (F::EDGE, 11 * F::small(), F::EDGE + 10 * F::small()),
        (F::EDGE - F::small(), 11 * F::small(), F::EDGE - F::small()),
        (F::EDGE, 4 * large::<F>(), F::EDGE + 10 * F::small()),
    ];
    for (at, len, hole) in holes {
        let result = table.unmap(range(at, len)).unwrap_err();
        let at = device(hole);
        assert_eq!(result, UnmapError::NotMapped { at });
        before.expect(&pool, "an unmap with a hole");
    }
    confirm(
        table
            .unmap(range(F::EDGE + 4 * F::small(), F::small()))
            .unwrap(),
    );
    let before = Snapshot::of(&pool);
    let result = table.unmap(range(F::EDGE, 10 * F::small())).unwrap_err();
    let at = device(F::EDGE + 4 * F::small());
    assert_eq!(result, UnmapError::NotMapped { at });
    before.expect(&pool, "an unmap with a hole in one table");
}

fn unmapping_less_than_a_leaf_is_refused<F: Shape>() {
    let mut memory = Memory::new(16);
    let pool = memory.pool();
    let mut table = ten_pages::<F>(&pool);
    let before = Snapshot::of(&pool);
    for (offset, len) in [
        (0, F::small() / 2),
        (F::small() / 2, F::small()),
        (F::small() / 2, F::small() / 2),
        (0, F::small() + 1),
        (1, F::small()),
    ] {
        let at = device(F::EDGE + offset);
        let result = table.unmap(range(at.get(), len)).unwrap_err();
        assert_eq!(
            result,
            UnmapError::Misaligned { at },
            "{offset:#x}+{len:#x}"
        );
        before.expect(&pool, "an unmap of less than a leaf");
    }
}

fn unmapping_a_small_leaf_inside_a_large_one_is_refused<F: Shape>() {
    let mut memory = Memory::new(16);
    let pool = memory.pool();
    let mut table = PageTable::<F, _>::new(&pool).unwrap().unwrap();
    for size in &F::SIZES[1..] {
        let options = MapOptions::default();
        table
            .map(device(F::EDGE), run(F::BUS, size.bytes), &options)
            .unwrap();
        let before = Snapshot::of(&pool);
        for at in [0, size.bytes / 2, size.bytes - F::small()] {
            let result = table.unmap(range(F::EDGE + at, F::small())).unwrap_err();
            let leaf = device(F::EDGE);
            assert_eq!(result, UnmapError::WouldSplit { leaf });
            before.expect(&pool, "an unmap inside a large leaf");
        }
        confirm(table.unmap(range(F::EDGE, size.bytes)).unwrap());
    }
}

fn a_bus_address_aligned_to_small_leaves_is_never_rounded<F: Shape>() {
    let mut memory = Memory::new(16);
    let pool = memory.pool();
    let mut table = PageTable::<F, _>::new(&pool).unwrap().unwrap();
    let bus = F::BUS + F::small();
    table
        .map(
            device(F::EDGE),
            run(bus, large::<F>()),
            &MapOptions::default(),
        )
        .unwrap();
    let contents = raw::read(&pool, &table, 0);
    assert_eq!(contents.leaves, F::slots());
    assert_eq!(contents.stretches[0].bus, bus);
    let before = Snapshot::of(&pool);
    // Half a small leaf off: refused, on either side.
    let at = F::EDGE + large::<F>();
    let half = F::small() / 2;
    let result = table.map(
        device(at),
        run(F::BUS + half, F::small()),
        &MapOptions::default(),
    );
    let bus = mmu_core::BusAddr::new(F::BUS + half);
    assert_eq!(result, Err(MapError::MisalignedRun { bus }));
    let result = table.map(
        device(at + half),
        run(F::BUS, F::small()),
        &MapOptions::default(),
    );
    let at = device(at + half);
    assert_eq!(result, Err(MapError::Misaligned { at }));
    let result = table.map(at, run(F::BUS, half), &MapOptions::default());
    assert_eq!(result, Err(MapError::Misaligned { at }));
    before.expect(&pool, "a misaligned map");
}

fn a_size_that_the_bus_address_is_not_aligned_to_is_refused_where_no_other_is_allowed<F: Shape>() {
    let mut memory = Memory::new(16);
    let pool = memory.pool();
    let mut table = PageTable::<F, _>::new(&pool).unwrap().unwrap();
    let before = Snapshot::of(&pool);
    let only_large = only::<F>(leaf_sizes::<F>(0b10));
    let small_run = run(F::BUS + F::small(), F::large());
    let result = table.map(device(F::EDGE), small_run, &only_large);
    let bus = small_run.start();
    assert_eq!(result, Err(MapError::MisalignedRun { bus }));
    let at = device(F::EDGE + F::small());
    let result = table.map(at, run(F::BUS, F::large()), &only_large);
    assert_eq!(result, Err(MapError::Misaligned { at }));
    let none = only::<F>(LeafSizes::at(mmu_core::Hop::new(0).unwrap()));
    let result = table.map(device(F::EDGE), run(F::BUS, F::large()), &none);
    assert_eq!(result, Err(MapError::NoLeafSize));
    before.expect(&pool, "a map that no allowed leaf fits");
}

fn mapping_a_page_twice_is_refused_and_keeps_the_first<F: Shape>() {
    let mut memory = Memory::new(16);
    let pool = memory.pool();
    let mut table = ten_pages::<F>(&pool);
    let before = Snapshot::of(&pool);
    let at = device(F::EDGE + 3 * F::small());
    let page = run(F::BUS + 64 * F::small(), F::small());
    // Right after the first, through the table used last, and on a table found afresh.
    let result = table.map(at, page, &MapOptions::default());
    assert_eq!(result, Err(MapError::AlreadyMapped { at }));
    let result = table.map_list(range(at.get(), F::small()), [page], &MapOptions::default());
    assert_eq!(result, Err(MapError::AlreadyMapped { at }));
    before.expect(&pool, "a second map");
    let found = table.query(at).unwrap().bus.get();
    assert_eq!(found, F::BUS + 3 * F::small());
}

fn unmapping_what_is_not_mapped_is_refused<F: Shape>() {
    let mut memory = Memory::new(16);
    let pool = memory.pool();
    let mut table = PageTable::<F, _>::new(&pool).unwrap().unwrap();
    let at = device(F::EDGE);
    let empty = table.unmap(range(F::EDGE, F::small())).unwrap_err();
    assert_eq!(empty, UnmapError::NotMapped { at });
    confirm(table.close());
    let mut table = ten_pages::<F>(&pool);
    let before = Snapshot::of(&pool);
    for at in [F::EDGE + 10 * F::small(), F::EDGE + large::<F>(), F::BASE] {
        let result = table.unmap(range(at, F::small())).unwrap_err();
        let at = device(at);
        assert_eq!(result, UnmapError::NotMapped { at });
        before.expect(&pool, "an unmap of nothing");
    }
}

fn a_large_leaf_over_a_live_table_is_refused<F: Shape>() {
    let mut memory = Memory::new(16);
    let pool = memory.pool();
    let mut table = PageTable::<F, _>::new(&pool).unwrap().unwrap();
    let last = F::EDGE + large::<F>() - F::small();
    table
        .map(
            device(last),
            run(F::BUS, F::small()),
            &MapOptions::default(),
        )
        .unwrap();
    let before = Snapshot::of(&pool);
    let result = table.map(
        device(F::EDGE),
        run(F::BUS, large::<F>()),
        &MapOptions::default(),
    );
    let at = device(last);
    assert_eq!(result, Err(MapError::AlreadyMapped { at }));
    before.expect(&pool, "a large leaf over a table");
}
