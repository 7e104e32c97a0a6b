//! Visiting mapped runs.

use mmu_core::format::{Gaudi2Hmmu, Gaudi2Pmmu};
use mmu_core::{MapOptions, PageTable};

use super::common::model::leaf_sizes;
use super::common::shape::Shape;
use super::common::{Memory, confirm, device, for_every_format, only, range, run, stretches};

for_every_format!(
    a_visit_of_nothing_yields_nothing,
    runs_join_across_tables_and_part_where_either_side_does,
    runs_are_cut_to_the_range_asked_for,
);

fn a_visit_of_nothing_yields_nothing<F: Shape>() {
    let mut memory = Memory::new(16);
    let pool = memory.pool();
    let mut table = PageTable::<F, _>::new(&pool).unwrap().unwrap();
    assert_eq!(table.runs(range(0, u64::MAX)).count(), 0);
    table
        .map(
            device(F::EDGE),
            run(F::BUS, F::small()),
            &MapOptions::default(),
        )
        .unwrap();
    let mut runs = table.runs(range(F::EDGE + F::small(), F::small()));
    assert_eq!(runs.next(), None);
    assert_eq!(runs.next(), None);
    assert_eq!(
        table.runs(range(F::EDGE - F::small(), F::small())).count(),
        0
    );
}

fn runs_join_across_tables_and_part_where_either_side_does<F: Shape>() {
    let small = F::small();
    let mut memory = Memory::new(32);
    let pool = memory.pool();
    let mut table = PageTable::<F, _>::new(&pool).unwrap().unwrap();
    let options = only::<F>(leaf_sizes::<F>(1));
    let at = F::EDGE - 4 * small;
    // One stretch in two calls across the edge; then the bus address jumps; then the device
    // address does.
    for (offset, bus, pages) in [(0, 0, 3), (3, 3, 5), (8, 9, 2), (11, 12, 1)] {
        let pages = run(F::BUS + bus * small, pages * small);
        table
            .map(device(at + offset * small), pages, &options)
            .unwrap();
    }
    let told: Vec<_> = stretches(&table, at, 16 * small)
        .iter()
        .map(|s| ((s.at - at) / small, (s.bus - F::BUS) / small, s.len / small))
        .collect();
    assert_eq!(told, [(0, 0, 8), (8, 9, 2), (11, 12, 1)]);
    confirm(table.sweep_all());
    assert_eq!(table.runs(range(0, u64::MAX)).count(), 0);
}

fn runs_are_cut_to_the_range_asked_for<F: Shape>() {
    let largest = F::SIZES.last().unwrap().bytes;
    let mut memory = Memory::new(16);
    let pool = memory.pool();
    let mut table = PageTable::<F, _>::new(&pool).unwrap().unwrap();
    table
        .map(
            device(F::EDGE),
            run(F::BUS, 2 * largest),
            &MapOptions::default(),
        )
        .unwrap();
    let cut = |at: u64, len: u64| {
        let told: Vec<_> = table.runs(range(at, len)).map(Result::unwrap).collect();
        let [run] = told[..] else {
            panic!("one run of {at:#x}+{len:#x}, not {told:?}");
        };
        (run.range.start().get(), run.range.len(), run.bus.get())
    };
    // Inside one leaf, one byte, across two, and more than there is.
    let at = F::EDGE + largest / 2 + 1;
    assert_eq!(cut(at, 5), (at, 5, F::BUS + largest / 2 + 1));
    assert_eq!(cut(at, largest), (at, largest, F::BUS + largest / 2 + 1));
    let last = F::EDGE + 2 * largest - 1;
    assert_eq!(cut(last, 1), (last, 1, F::BUS + 2 * largest - 1));
    assert_eq!(cut(last, 2), (last, 1, F::BUS + 2 * largest - 1));
    assert_eq!(cut(F::EDGE - 1, 2), (F::EDGE, 1, F::BUS));
    assert_eq!(cut(0, u64::MAX), (F::EDGE, 2 * largest, F::BUS));
}

#[test]
fn a_visit_ends_at_the_top_of_the_address_space() {
    let mut memory = Memory::new(16);
    let pool = memory.pool();
    let mut table = PageTable::<Gaudi2Pmmu, _>::new(&pool).unwrap().unwrap();
    let top = u64::MAX - 0xFFF;
    table
        .map(device(top), run(0x5000, 0x1000), &MapOptions::default())
        .unwrap();
    let mut runs = table.runs(range(top - 0x1000, 0x2000));
    assert_eq!(runs.next().unwrap().unwrap().range, range(top, 0x1000));
    assert_eq!(runs.next(), None);
    assert_eq!(runs.next(), None);
    let mut last_byte = table.runs(range(u64::MAX, 1));
    assert_eq!(last_byte.next().unwrap().unwrap().bus.get(), 0x5FFF);
}

#[test]
fn a_sweep_of_the_hmmu_takes_the_pages_that_lie_within_and_no_others() {
    type H = Gaudi2Hmmu<6>;
    let page = H::PAGE_BYTES;
    let mut memory = Memory::new(16);
    let pool = memory.pool();
    let mut table = PageTable::<H, _>::new(&pool).unwrap().unwrap();
    let (at, bus) = (H::EDGE, H::BUS);
    for (start, len, left) in [
        // Whole pages; a byte short of one on either side; a byte more.
        (at + page, 2 * page, vec![(at, page), (at + 3 * page, page)]),
        (
            at + 1,
            2 * page - 1,
            vec![(at, page), (at + 2 * page, 2 * page)],
        ),
        (
            at + page,
            2 * page - 1,
            vec![(at, page), (at + 2 * page, 2 * page)],
        ),
        (at - 1, page + 1, vec![(at + page, 3 * page)]),
        (0, u64::MAX, vec![]),
    ] {
        table
            .map(device(at), run(bus, 4 * page), &MapOptions::default())
            .unwrap();
        confirm(table.sweep(range(start, len)));
        let told: Vec<_> = stretches(&table, 0, u64::MAX)
            .iter()
            .map(|s| (s.at, s.len))
            .collect();
        assert_eq!(told, left, "{start:#x}+{len:#x}");
        confirm(table.sweep_all());
    }
}
