//! The first and the last page of each address range (facts 5.1), each boundary between the tables
//! of a hop (facts 14 number 4), and what lies beyond what a format translates.

use mmu_core::format::{Gaudi2Hmmu, V1, X86_64};
use mmu_core::{BusAddr, MapError, MapOptions, PageTable, QueryError, UnmapError};

use super::common::model::leaf_sizes;
use super::common::raw;
use super::common::shape::Shape;
use super::common::{
    Memory, Snapshot, confirm, device, for_every_format, only, range, run, stretches,
};

for_every_format!(
    the_first_and_the_last_page_of_each_range_map_and_unmap,
    a_mapping_may_cross_the_boundary_between_tables_of_every_hop,
);

fn the_first_and_the_last_page_of_each_range_map_and_unmap<F: Shape>() {
    let mut memory = Memory::new(64);
    let pool = memory.pool();
    let mut table = PageTable::<F, _>::new(&pool).unwrap().unwrap();
    for &(at, len) in F::PAGES {
        let bus = F::BUS + len;
        table
            .map(device(at), run(bus, len), &MapOptions::default())
            .unwrap();
        let [stretch] = raw::read(&pool, &table, 0).stretches[..] else {
            panic!("one stretch");
        };
        assert_eq!(
            (stretch.at, stretch.bus, stretch.len, stretch.leaf_bytes),
            (at, bus, len, len)
        );
        for offset in [0, len / 2, len - 1] {
            let found = table.query(device(at + offset)).unwrap();
            assert_eq!(found.bus.get(), bus + offset);
            assert_eq!(found.leaf, range(at, len));
        }
        // Also where the visit may end at the top of the address space.
        assert_eq!(stretches(&table, at, len), [stretch]);
        assert_eq!(stretches(&table, 0, u64::MAX).len(), 1);
        let again = table.map(device(at), run(bus, len), &MapOptions::default());
        assert!(matches!(again, Err(MapError::AlreadyMapped { .. })));
        confirm(table.unmap(range(at, len)).unwrap());
        table
            .map(device(at), run(bus, len), &MapOptions::default())
            .unwrap();
        confirm(table.sweep(range(at, len)));
        assert_eq!(pool.usage().used(), 1);
    }
}

fn a_mapping_may_cross_the_boundary_between_tables_of_every_hop<F: Shape>() {
    let mut memory = Memory::new(64);
    let pool = memory.pool();
    let mut table = PageTable::<F, _>::new(&pool).unwrap().unwrap();
    let mut boundaries = 0;
    for &(shift, bits) in &F::INDEX[1..] {
        let span = match F::STACKS {
            // 1 GiB of what is walked is one page (facts SC-4).
            Some(_) => ((1_u64 << (shift + bits)) >> 30) * F::small(),
            None => 1 << (shift + bits),
        };
        // The first boundary of this hop at which at least all deeper hops change too; where the
        // edge lies in the last table of the hop, the boundary before it.
        let offset = F::EDGE - F::ORIGIN;
        let boundary = match offset.checked_next_multiple_of(span) {
            Some(next) => F::ORIGIN + next,
            None => F::ORIGIN + offset / span * span,
        };
        for (sizes, page) in F::SIZES.iter().enumerate().map(|(n, s)| (1 << n, s.bytes)) {
            let at = boundary - page;
            if F::walk_address(device(boundary + page - 1)).is_none() {
                continue;
            }
            boundaries += 1;
            let options = only::<F>(leaf_sizes::<F>(sizes));
            table
                .map(device(at), run(F::BUS, 2 * page), &options)
                .unwrap();
            let contents = raw::read(&pool, &table, 0);
            assert_eq!(contents.leaves, 2);
            let [stretch] = contents.stretches[..] else {
                panic!("one stretch across {boundary:#x}");
            };
            assert_eq!((stretch.at, stretch.len), (at, 2 * page));
            assert_eq!(stretches(&table, at, 2 * page), [stretch]);
            assert_eq!(
                table.query(device(boundary)).unwrap().bus.get(),
                F::BUS + page
            );
            assert_eq!(
                table.query(device(boundary - 1)).unwrap().bus.get(),
                F::BUS + page - 1
            );
            // The half on each side alone, in both orders.
            confirm(table.unmap(range(at, page)).unwrap());
            confirm(table.unmap(range(boundary, page)).unwrap());
            assert_eq!(pool.usage().used(), 1);
        }
    }
    // Device DRAM uses one slot of each table above the deepest hop, so that it has the boundaries of
    // that hop alone.
    let hops = F::STACKS.map_or(F::INDEX.len() - 1, |_| 1);
    assert_eq!(boundaries, hops * F::SIZES.len(), "{}", F::NAME);
}

#[test]
fn a_page_that_begins_at_the_last_byte_of_another_is_refused() {
    let mut memory = Memory::new(16);
    let pool = memory.pool();
    let mut table = PageTable::<V1, _>::new(&pool).unwrap().unwrap();
    let options = MapOptions::default();
    let page = range(0, 0x1000);
    let (at, bus) = (device(0xFFF), BusAddr::new(0xFFF));
    let misaligned = run(bus.get(), 0x1000);
    // Where there is no table, and where there is one.
    for neighbours in 0..2 {
        let refused = Err(MapError::MisalignedRun { bus });
        assert_eq!(table.map(page.start(), misaligned, &options), refused);
        assert_eq!(table.map_list(page, [misaligned], &options), refused);
        assert_eq!(table.map_pages(page, &[bus], &options), refused);
        let refused = Err(MapError::Misaligned { at });
        assert_eq!(table.map(at, run(0, 0x1000), &options), refused);
        assert_eq!(stretches(&table, 0, u64::MAX).len(), neighbours);
        if neighbours == 0 {
            let neighbour = run(0x5000, 0x1000);
            table.map(device(0x1000), neighbour, &options).unwrap();
        }
    }
}

#[test]
fn v1_crosses_between_the_root_entries_and_ends_at_50_bits() {
    let mut memory = Memory::new(64);
    let pool = memory.pool();
    let mut table = PageTable::<V1, _>::new(&pool).unwrap().unwrap();
    // Facts 14 number 4.
    let at = 0x1_FFFF_FFFF_F000;
    let options = MapOptions::default();
    table
        .map(device(at), run(0x5000, 0x2000), &options)
        .unwrap();
    assert_eq!(stretches(&table, 0, u64::MAX).len(), 1);
    confirm(table.unmap(range(at, 0x2000)).unwrap());

    let end = 1 << 50;
    let last = end - 0x1000;
    table
        .map(device(last), run(0x5000, 0x1000), &options)
        .unwrap();
    let before = Snapshot::of(&pool);
    let out = device(last);
    let beyond = table.map(out, run(0x5000, 0x2000), &options);
    assert_eq!(beyond, Err(MapError::OutOfRange { at: out }));
    let beyond = table.unmap(range(last, 0x2000)).unwrap_err();
    assert_eq!(beyond, UnmapError::OutOfRange { at: out });
    let at = device(end);
    assert_eq!(table.query(at), Err(QueryError::OutOfRange { at }));
    before.expect(&pool, "requests beyond 50 bits");
}

#[test]
fn x86_64_refuses_the_hole_and_bus_addresses_of_more_than_52_bits() {
    let mut memory = Memory::new(64);
    let pool = memory.pool();
    let mut table = PageTable::<X86_64<4>, _>::new(&pool).unwrap().unwrap();
    let before = Snapshot::of(&pool);
    let options = MapOptions::default();
    for at in [0x7FFF_FFFF_F000, 0x8000_0000_0000, 0xFFFF_7FFF_FFFF_F000] {
        let at = device(at);
        let result = table.map(at, run(0x5000, 0x2000), &options);
        assert_eq!(result, Err(MapError::OutOfRange { at }));
        let result = table.unmap(range(at.get(), 0x2000)).unwrap_err();
        assert_eq!(result, UnmapError::OutOfRange { at });
    }
    let high = run((1 << 52) - 0x1000, 0x2000);
    let bus = high.start();
    let result = table.map(device(0), high, &options);
    assert_eq!(result, Err(MapError::RunOutOfRange { bus }));
    before.expect(&pool, "requests out of range");
    // Both sides of the hole are neighbours in the tables, and stay apart in what a visit tells.
    table
        .map(device(0x7FFF_FFFF_F000), run(0x5000, 0x1000), &options)
        .unwrap();
    table
        .map(device(0xFFFF_8000_0000_0000), run(0x6000, 0x1000), &options)
        .unwrap();
    assert_eq!(stretches(&table, 0, u64::MAX).len(), 2);
    assert_eq!(raw::read(&pool, &table, 0).stretches.len(), 2);
}

fn hmmu_ends_before_the_fold<const STACKS: u64>(fold: u64)
where
    Gaudi2Hmmu<STACKS>: Shape,
{
    let page = Gaudi2Hmmu::<STACKS>::PAGE_BYTES;
    let bus = Gaudi2Hmmu::<STACKS>::BUS;
    let mut memory = Memory::new(64);
    let pool = memory.pool();
    let mut table = PageTable::<Gaudi2Hmmu<STACKS>, _>::new(&pool)
        .unwrap()
        .unwrap();
    let before = Snapshot::of(&pool);
    for (at, pages) in [(fold, 1), (fold - page, 2)] {
        let at = device(at);
        let result = table.map(at, run(bus, pages * page), &MapOptions::default());
        assert_eq!(result, Err(MapError::OutOfRange { at }));
    }
    let at = device(Gaudi2Hmmu::<STACKS>::BASE);
    for host in [0x1000_0000, 0xFFF0_0000_0000_0000, fold] {
        let host = run(host, page);
        let result = table.map(at, host, &MapOptions::default());
        let bus = host.start();
        assert_eq!(result, Err(MapError::RunOutOfRange { bus }));
    }
    before.expect(&pool, "requests out of range");
}

#[test]
fn the_hmmu_refuses_what_folds_back_and_what_is_not_dram() {
    // Facts SC-6.
    hmmu_ends_before_the_fold::<6>(0x1001_C000_0000_0000);
    hmmu_ends_before_the_fold::<5>(0x1001_A000_0000_0000);
}
