//! Starts and lengths that are out of step by the same part of a page, which a check that weighs
//! one against the other would let pass.

use mmu_core::format::{X86_64, X86Attributes};
use mmu_core::{MapError, MapOptions, PageTable, UnmapError};

use super::common::model::leaf_sizes;
use super::common::shape::Shape;
use super::common::{
    Memory, Snapshot, confirm, device, for_every_format, for_every_format_with_large_leaves, only,
    range, raw, run,
};

for_every_format!(runs_that_start_and_end_within_a_page_are_refused);
for_every_format_with_large_leaves!(
    a_range_from_the_middle_of_one_large_leaf_to_the_middle_of_the_next_is_refused,
);

fn runs_that_start_and_end_within_a_page_are_refused<F: Shape>() {
    let mut memory = Memory::new(16);
    let pool = memory.pool();
    let mut table = PageTable::<F, _>::new(&pool).unwrap().unwrap();
    let half = F::small() / 2;
    for options in [MapOptions::default(), only::<F>(leaf_sizes::<F>(1))] {
        let bus = F::BUS + half;
        let runs = [
            run(bus, F::small() + half),
            run(F::BUS + 4 * F::small(), half),
        ];
        let whole = range(F::EDGE, 2 * F::small());
        let contents = raw::read(&pool, &table, 0);
        assert!(matches!(
            table.map_list(whole, runs, &options),
            Err(MapError::MisalignedRun { bus: at }) if at.get() == bus
        ));
        // What is in free tables may be another now.
        assert_eq!(contents, raw::read(&pool, &table, 0));
        let before = Snapshot::of(&pool);
        let map = table.map(
            device(F::EDGE + half),
            run(bus, F::small() + half),
            &options,
        );
        assert!(matches!(map, Err(MapError::Misaligned { .. })));
        before.expect(&pool, "what is refused");
    }
}

#[test]
fn rights_are_not_changed_of_a_range_that_starts_and_ends_within_a_page() {
    type F = X86_64<4>;
    let mut memory = Memory::new(16);
    let pool = memory.pool();
    let mut table = PageTable::<F, _>::new(&pool).unwrap().unwrap();
    let pages = run(F::BUS, 2 * F::small());
    let options = only::<F>(leaf_sizes::<F>(1));
    table.map(device(F::EDGE), pages, &options).unwrap();
    let half = F::small() / 2;
    let part = range(F::EDGE + half, F::small() + half);
    let attributes = X86Attributes::default();
    let refused = table.protect(part, attributes).unwrap_err();
    assert!(matches!(refused, UnmapError::Misaligned { .. }));
    let refused = table.unmap(part).unwrap_err();
    assert!(matches!(refused, UnmapError::Misaligned { .. }));
    confirm(table.unmap(range(F::EDGE, 2 * F::small())).unwrap());
}

fn a_range_from_the_middle_of_one_large_leaf_to_the_middle_of_the_next_is_refused<F: Shape>() {
    let mut memory = Memory::new(16);
    let pool = memory.pool();
    let mut table = PageTable::<F, _>::new(&pool).unwrap().unwrap();
    let large = F::large();
    let both = run(F::BUS, 2 * large);
    table
        .map(device(F::BASE), both, &MapOptions::default())
        .unwrap();
    let before = Snapshot::of(&pool);
    let middle = range(F::BASE + large / 2, large);
    let leaf = device(F::BASE);
    assert_eq!(
        table.unmap(middle).unwrap_err(),
        UnmapError::WouldSplit { leaf }
    );
    before.expect(&pool, "what is refused");
    confirm(table.unmap(range(F::BASE, 2 * large)).unwrap());
}
