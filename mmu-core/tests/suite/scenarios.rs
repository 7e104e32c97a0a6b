//! Acceptance scenarios M-01 to M-12, as far as they concern page tables alone.

use mmu_core::format::{Gaudi2Pmmu, Gaudi2Pmmu64K, V1, X86_64};
use mmu_core::{LeafSizes, MapError, MapOptions, PageTable, QueryError, UnmapError};

use super::common::model::{ALL, Model, leaf_sizes};
use super::common::raw::{self, Stretch};
use super::common::shape::{Shape, repetitions};
use super::common::{
    Memory, Random, Snapshot, Table, agree, confirm, device, for_every_format,
    for_every_format_with_large_leaves, only, range, run, stretches,
};

for_every_format!(
    m_01_one_leaf_of_each_size_translates_exactly_and_leaves_nothing_behind,
    m_04_page_counts_around_2_to_the_32_are_not_truncated,
    m_05_a_two_page_mapping_survives_every_overlapping_request,
    m_10_random_operations_agree_with_the_oracle,
    m_11_sparse_growth_returns_every_table_in_every_order_of_unmapping,
);
for_every_format_with_large_leaves!(
    m_03_misaligned_sides_get_small_leaves_only,
    m_04_lengths_around_4_gib_end_where_they_should,
    m_08_a_small_part_of_a_large_leaf_is_refused_wherever_it_lies,
    a_large_leaf_that_just_fits_between_small_ones_is_used,
);

/// Fails unless `address` leads to `bus`.
fn expect<F: Shape>(table: &Table<'_, '_, F>, address: u64, bus: u64) {
    let found = table.query(device(address)).unwrap();
    assert_eq!(found.bus.get(), bus, "{address:#x}");
}

fn expect_nothing<F: Shape>(table: &Table<'_, '_, F>, address: u64) {
    let at = device(address);
    assert_eq!(table.query(at), Err(QueryError::NotMapped { at }));
}

fn m_01_one_leaf_of_each_size_translates_exactly_and_leaves_nothing_behind<F: Shape>() {
    let mut memory = Memory::new(16);
    let pool = memory.pool();
    let mut table = PageTable::<F, _>::new(&pool).unwrap().unwrap();
    for (place, size) in F::SIZES.iter().enumerate() {
        let steps = (256 * F::small()).div_ceil(size.bytes) * size.bytes;
        // Bus addresses that are aligned to the leaf, and to much more.
        for bus in [F::BUS + size.bytes, F::BUS + 64 * size.bytes] {
            let before = raw::read(&pool, &table, 0).stretches;
            let at = F::BASE + steps;
            table
                .map(
                    device(at),
                    run(bus, size.bytes),
                    &only::<F>(leaf_sizes::<F>(ALL)),
                )
                .unwrap();
            for offset in [0, size.bytes / 2, size.bytes - 8] {
                expect(&table, at + offset, bus + offset);
            }
            let found = table.query(device(at)).unwrap();
            assert_eq!(found.leaf, range(at, size.bytes));
            assert_eq!(found.hop.number(), size.hop);
            let contents = raw::read(&pool, &table, 0);
            assert_eq!(contents.leaves, 1, "size {place}");
            expect_nothing(&table, at - 1);
            expect_nothing(&table, at + size.bytes);

            confirm(table.unmap(range(at, size.bytes)).unwrap());
            expect_nothing(&table, at);
            assert_eq!(raw::read(&pool, &table, 0).stretches, before);
            assert_eq!(pool.usage().used(), 1);
        }
    }
}

/// M-02, with the number of leaves of each size in the order of addresses.
fn m_02<F: Shape>(identical: &[(u64, u64)], shifted: u64) {
    let scale = F::small() / 4096;
    let at = 0x3_fe40_0000 * scale;
    let len = 0xC_2200_0000 / 0x10 * scale;
    assert_eq!(len / F::small(), 795_136);
    let mut memory = Memory::new(3200);
    let pool = memory.pool();
    let mut table = PageTable::<F, _>::new(&pool).unwrap().unwrap();
    for (bus, expected) in [
        (at, identical),
        (at + F::small(), &[(shifted, F::small())][..]),
    ] {
        table
            .map(device(at), run(bus, len), &MapOptions::default())
            .unwrap();
        let contents = raw::read(&pool, &table, 0);
        let counted: Vec<_> = contents
            .stretches
            .iter()
            .map(|stretch| (stretch.len / stretch.leaf_bytes, stretch.leaf_bytes))
            .collect();
        assert_eq!(counted, expected);
        assert!(contents.stretches.iter().all(|s| s.bus - bus == s.at - at));
        assert_eq!(stretches(&table, at, len), contents.stretches);
        let mut offset = 0;
        while offset < len {
            expect(&table, at + offset, bus + offset);
            offset += 251 * F::small() + 8;
        }
        expect(&table, at + len - 1, bus + len - 1);
        expect_nothing(&table, at + len);
        confirm(table.unmap(range(at, len)).unwrap());
        assert_eq!(pool.usage().used(), 1);
    }
}

#[test]
fn m_02_goya_and_gaudi_map_identically_with_1553_large_leaves() {
    m_02::<V1>(&[(1553, 2 << 20)], 795_136);
}

#[test]
fn m_02_the_gaudi2_pmmu_maps_identically_with_1553_large_leaves() {
    m_02::<Gaudi2Pmmu>(&[(1553, 2 << 20)], 795_136);
}

#[test]
fn m_02_the_gaudi2_pmmu_with_64_kib_pages_maps_identically_with_3106_large_leaves() {
    m_02::<Gaudi2Pmmu64K>(&[(3106, 16 << 20)], 795_136);
}

#[test]
fn m_02_x86_64_maps_identically_with_twenty_leaves() {
    let twenty = [(14, 2 << 20), (3, 1 << 30), (3, 2 << 20)];
    m_02::<X86_64<4>>(&twenty, 795_136);
    m_02::<X86_64<5>>(&twenty, 795_136);
}

fn m_03_misaligned_sides_get_small_leaves_only<F: Shape>() {
    let (small, large) = (F::small(), F::large());
    let scale = small / 4096;
    let mut memory = Memory::new(16);
    let pool = memory.pool();
    let mut table = PageTable::<F, _>::new(&pool).unwrap().unwrap();
    for (at, bus, len) in [
        (
            0xFEF8_0000 * scale,
            0x20_8B95_D000 * scale,
            0x2_0000 * scale,
        ),
        (F::BASE, F::BUS + small, large + small),
        (F::BASE + small, F::BUS, large + small),
    ] {
        table
            .map(device(at), run(bus, len), &MapOptions::default())
            .unwrap();
        let stretch = Stretch {
            at,
            len,
            bus,
            leaf_bytes: small,
            bits: F::bits(F::Attributes::default()),
        };
        assert_eq!(raw::read(&pool, &table, 0).stretches, [stretch]);
        for page in 0..len / small {
            expect(&table, at + page * small + 5, bus + page * small + 5);
        }
        confirm(table.unmap(range(at, len)).unwrap());
    }
}

fn a_large_leaf_that_just_fits_between_small_ones_is_used<F: Shape>() {
    let (small, large) = (F::small(), F::large());
    let mut memory = Memory::new(16);
    let pool = memory.pool();
    let mut table = PageTable::<F, _>::new(&pool).unwrap().unwrap();
    // Small leaves before and behind the large one: its end is the end of the run, or not.
    for (head, tail, leaves) in [
        (0, 0, 1),
        (3, 0, 4),
        (0, 3, 4),
        (3, 3, 7),
        // A page short of a large leaf on either side.
        (3, -1, 2 + F::slots()),
        (-1, 3, 2 + F::slots()),
    ] {
        let at = (F::EDGE as i64 - head * small as i64) as u64;
        let len = (large as i64 + (head + tail) * small as i64) as u64;
        let bus = F::BUS + 2 * large - (F::EDGE.wrapping_sub(at)) % large;
        table
            .map(device(at), run(bus, len), &MapOptions::default())
            .unwrap();
        let contents = raw::read(&pool, &table, 0);
        assert_eq!(contents.leaves, leaves, "{head} before, {tail} behind");
        assert_eq!(contents.stretches.iter().map(|s| s.len).sum::<u64>(), len);
        confirm(table.unmap(range(at, len)).unwrap());
    }
}

/// How many tables `len` bytes from `at` need on top of the root, counted from the geometry.
fn tables_needed<F: Shape>(at: u64, len: u64) -> u64 {
    let hops = F::INDEX.iter().skip(1);
    hops.map(|&(shift, bits)| {
        let span = 1_u128 << (shift + bits);
        let (first, last) = (u128::from(at), u128::from(at) + u128::from(len) - 1);
        (last / span - first / span + 1) as u64
    })
    .sum()
}

fn m_04_page_counts_around_2_to_the_32_are_not_truncated<F: Shape>() {
    let mut memory = Memory::new(64);
    let pool = memory.pool();
    let mut table = PageTable::<F, _>::new(&pool).unwrap().unwrap();
    let before = Snapshot::of(&pool);
    for pages in [u64::from(u32::MAX), 1 << 32, (1 << 32) + 1] {
        let len = pages * F::small();
        // No larger leaf fits, so that each page would need one of the smallest.
        let bus = F::BUS + F::small();
        let result = table.map(device(F::BASE), run(bus, len), &MapOptions::default());
        let expected = if F::STACKS.is_some() {
            MapError::OutOfRange {
                at: device(F::BASE),
            }
        } else {
            MapError::NoTableMemory {
                needed: tables_needed::<F>(F::BASE, len),
            }
        };
        assert_eq!(result, Err(expected), "{pages} pages");
        before.expect(&pool, "a request that is too large");
        expect_nothing(&table, F::BASE);
        // The same as a list of runs of which each is longer than 32 bits can say.
        let half = (pages / 2) * F::small();
        let result = table.map_list(
            range(F::BASE, len),
            [run(bus, half), run(bus, len - half)],
            &MapOptions::default(),
        );
        assert_eq!(result, Err(expected), "{pages} pages as a list");
    }
}

fn m_04_lengths_around_4_gib_end_where_they_should<F: Shape>() {
    let small = F::small();
    let mut memory = Memory::new(64);
    let pool = memory.pool();
    let mut table = PageTable::<F, _>::new(&pool).unwrap().unwrap();
    let scale = small / 4096;
    for len in [(4 << 30) - 4096, 4 << 30, (4 << 30) + 4096] {
        let len = len * scale;
        let options = only::<F>(leaf_sizes::<F>(0b11));
        table
            .map(device(F::BASE), run(F::BUS, len), &options)
            .unwrap();
        let mut offset = 0;
        while offset < len {
            expect(&table, F::BASE + offset, F::BUS + offset);
            offset += 512 << 20;
        }
        expect(&table, F::BASE + len - 1, F::BUS + len - 1);
        expect(&table, F::BASE + len - small, F::BUS + len - small);
        expect_nothing(&table, F::BASE + len);
        expect_nothing(&table, F::BASE + len + small);
        let contents = raw::read(&pool, &table, 0);
        assert_eq!(contents.leaves, len / F::large() + len % F::large() / small);
        let beyond = table.unmap(range(F::BASE, len + small)).unwrap_err();
        let at = device(F::BASE + len);
        assert_eq!(beyond, UnmapError::NotMapped { at });
        confirm(table.unmap(range(F::BASE, len)).unwrap());
        assert_eq!(pool.usage().used(), 1);
    }
}

fn m_05_a_two_page_mapping_survives_every_overlapping_request<F: Shape>() {
    let small = F::small();
    let page = |n: u64| F::BASE + n * small;
    let mut memory = Memory::new(16);
    let pool = memory.pool();
    let mut table = PageTable::<F, _>::new(&pool).unwrap().unwrap();
    let options = MapOptions::default();
    table
        .map(device(page(16)), run(F::BUS, 2 * small), &options)
        .unwrap();
    let before = Snapshot::of(&pool);
    // Exact, first, second, 15-16, 15-17.
    for (first, count, found) in [
        (16, 2, 16),
        (16, 1, 16),
        (17, 1, 17),
        (15, 2, 16),
        (15, 3, 16),
    ] {
        let bus = F::BUS + 8 * small;
        let result = table.map(device(page(first)), run(bus, count * small), &options);
        let at = device(page(found));
        assert_eq!(result, Err(MapError::AlreadyMapped { at }));
        before.expect(&pool, "an overlapping map");
    }
    let not_mapped = |table: &mut Table<'_, '_, F>, first: u64, count: u64, hole: u64| {
        let result = table.unmap(range(page(first), count * small));
        let at = device(page(hole));
        assert_eq!(result.unwrap_err(), UnmapError::NotMapped { at });
        before.expect(&pool, "a refused unmap");
    };
    not_mapped(&mut table, 15, 2, 15);
    not_mapped(&mut table, 16, 3, 18);
    not_mapped(&mut table, 17, 2, 18);
    for _ in 0..10 {
        not_mapped(&mut table, 40, 2, 40);
    }
    // A page table knows leaves, not the calls that made them: what splits a leaf is refused.
    let half = table.unmap(range(page(16), small / 2)).unwrap_err();
    let at = device(page(16));
    assert_eq!(half, UnmapError::Misaligned { at });
    before.expect(&pool, "half a page");
    expect(&table, page(17), F::BUS + small);
    confirm(table.unmap(range(page(16), 2 * small)).unwrap());
    assert_eq!(
        table.unmap(range(page(16), 2 * small)).unwrap_err(),
        UnmapError::NotMapped { at }
    );
    assert_eq!(pool.usage().used(), 1);
}

fn m_08_a_small_part_of_a_large_leaf_is_refused_wherever_it_lies<F: Shape>() {
    let (small, large) = (F::small(), F::large());
    let mut memory = Memory::new(16);
    let pool = memory.pool();
    let mut table = PageTable::<F, _>::new(&pool).unwrap().unwrap();
    table
        .map(
            device(F::BASE),
            run(F::BUS, 2 * large),
            &MapOptions::default(),
        )
        .unwrap();
    let before = Snapshot::of(&pool);
    let middle = large / 2;
    for (at, len, leaf) in [
        (0, small, 0),
        (middle, small, 0),
        (large - small, small, 0),
        // From within one leaf to the end of its neighbour, and the other way.
        (large - small, large + small, 0),
        (0, large + small, large),
    ] {
        let result = table.unmap(range(F::BASE + at, len)).unwrap_err();
        let leaf = device(F::BASE + leaf);
        assert_eq!(result, UnmapError::WouldSplit { leaf });
        before.expect(&pool, "a refused unmap");
    }
    // Split first, and just the part asked for goes.
    confirm(table.split(device(F::BASE + middle)).unwrap());
    confirm(table.unmap(range(F::BASE + middle, small)).unwrap());
    expect(&table, F::BASE + middle - 1, F::BUS + middle - 1);
    expect_nothing(&table, F::BASE + middle);
    expect(&table, F::BASE + middle + small, F::BUS + middle + small);
    assert_eq!(
        table.query(device(F::BASE + large)).unwrap().leaf,
        range(F::BASE + large, large)
    );
}

fn m_10_random_operations_agree_with_the_oracle<F: Shape>() {
    let small = F::small();
    let window = (F::EDGE - F::WINDOW / 2 * small, F::WINDOW * small);
    // Each leaf table of the window may come to exist, and some of the hops above.
    let mut memory = Memory::new((F::WINDOW / F::slots()) as usize + 24);
    let pool = memory.pool();
    let mut table = PageTable::<F, _>::new(&pool).unwrap().unwrap();
    let mut model = Model::<F>::new();
    let mut random = Random::new(0xB0A7);
    for step in 0..repetitions::<F>(100_000, 20_000) {
        // Mostly a few pages, now and then up to 16 MiB (of 4 KiB pages).
        let magnitude = if random.below(32) == 0 { 13 } else { 5 };
        let most = 1 << random.below(magnitude);
        let mut pages = 1 + random.below(most).min(F::WINDOW / 64);
        let mut page = random.below(F::WINDOW - pages);
        if random.below(24) == 0 {
            // As large leaves lie.
            page -= page % F::slots();
            pages = pages.next_multiple_of(F::slots()).min(F::WINDOW - page);
        }
        let (mut at, mut len) = (window.0 + page * small, pages * small);
        let wants_map = random.below(2) == 0;
        if !wants_map
            && random.below(4) != 0
            && let Some(piece) = model.nth_piece(random.below(64))
        {
            (at, len) = piece;
        }
        if wants_map {
            let congruent =
                F::BUS + random.below(16) * F::SIZES.last().unwrap().bytes + (at - window.0);
            let bus = congruent + random.below(2) * small;
            let result = table.map(device(at), run(bus, len), &MapOptions::default());
            let bits = F::bits(F::Attributes::default());
            assert_eq!(
                result,
                model.map(at, &[(bus, len)], ALL, bits),
                "step {step}"
            );
        } else {
            let result = table.unmap(range(at, len)).map(|removed| {
                confirm(removed);
            });
            assert_eq!(result, model.unmap(at, len), "step {step}");
        }
        let touched = (at - small, len + 2 * small);
        assert_eq!(
            stretches(&table, touched.0, touched.1),
            model.stretches(touched.0, touched.1),
            "step {step}"
        );
        for address in [at - 1, at, at + len - 1, at + len] {
            let found = table.query(device(address)).map(|found| found.bus.get());
            assert_eq!(
                found,
                model.query(address).map(|hit| hit.bus),
                "step {step}"
            );
        }
        if step % 1000 == 999 {
            let all = stretches(&table, window.0, window.1);
            assert_eq!(all, model.stretches(window.0, window.1), "step {step}");
        }
        if step % 10_000 == 9_999 {
            agree(&pool, &table, &model, window);
        }
    }
    while let Some((at, len)) = model.nth_piece(0) {
        model.unmap(at, len).unwrap();
        confirm(table.unmap(range(at, len)).unwrap());
    }
    assert!(table.is_empty());
    assert_eq!(pool.usage().used(), 1);
}

fn m_11_sparse_growth_returns_every_table_in_every_order_of_unmapping<F: Shape>() {
    let step = F::slots() * F::small();
    let tables = repetitions::<F>(F::SPARSE, 1024);
    let mut memory = Memory::new(tables as usize + 80);
    let pool = memory.pool();
    let mut table = PageTable::<F, _>::new(&pool).unwrap().unwrap();
    let forward: Vec<u64> = (0..tables).map(|n| F::BASE + n * step).collect();
    let reverse = forward.iter().rev().copied().collect();
    let mut shuffled = forward.clone();
    Random::new(11).shuffle(&mut shuffled);
    for order in [forward.clone(), reverse, shuffled] {
        for (n, &at) in (0..).zip(&forward) {
            let page = run(F::BUS + n * F::small(), F::small());
            table
                .map(device(at), page, &only::<F>(LeafSizes::ALL))
                .unwrap();
        }
        assert!(u64::from(pool.usage().used()) > tables);
        for at in order {
            confirm(table.unmap(range(at, F::small())).unwrap());
        }
        assert_eq!(pool.usage().used(), 1);
        assert!(table.is_empty());
    }
}

fn m_12<const LEVELS: usize>()
where
    X86_64<LEVELS>: Shape,
{
    let mut memory = Memory::new(16);
    let pool = memory.pool();
    let mut table = PageTable::<X86_64<LEVELS>, _>::new(&pool).unwrap().unwrap();
    let (at, bus) = (X86_64::<LEVELS>::BASE, X86_64::<LEVELS>::BUS);
    for size in X86_64::<LEVELS>::SIZES {
        for bits in 0..8 {
            let attributes = X86_64::<LEVELS>::attributes(bits);
            let options = MapOptions {
                sizes: LeafSizes::ALL,
                attributes,
            };
            table
                .map(device(at), run(bus, size.bytes), &options)
                .unwrap();
            assert_eq!(table.query(device(at)).unwrap().attributes, attributes);
            let [stretch] = raw::read(&pool, &table, 0).stretches[..] else {
                panic!("one leaf");
            };
            assert_eq!((stretch.bits, stretch.leaf_bytes), (bits, size.bytes));
            assert_eq!(stretches(&table, at, size.bytes), [stretch]);
            confirm(table.unmap(range(at, size.bytes)).unwrap());
        }
    }
}

#[test]
fn m_12_every_combination_of_rights_is_in_the_leaf_as_requested() {
    m_12::<4>();
    m_12::<5>();
}
