//! The default mapping: Goya's DRAM (facts 3.4, and 14 number 7), and another format's.

use std::collections::BTreeMap;

use mmu_core::format::{Gaudi2Hmmu, Gaudi2Pmmu64K, NoAttributes, V1};
use mmu_core::{
    BusAddr, DeviceAddr, Extent, Format, Hop, LeafSizes, MapError, MapOptions, PageTable,
    QueryError, Removed, SplitError, TableMemory, UnmapError,
};

use super::common::device::{Memory, Pool, Table};
use super::common::shape::Shape;
use super::common::{ARENA, ENTRIES, Random, Snapshot, Words, confirm, device, range, run};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// DP-2, DP-4.
const COVERED: u64 = 128 * GIB;
const PAGE: u64 = 0x1FC0_0000;
const DEFAULT: u64 = 0x1FC0_0801;
/// The first address that users get (facts 2.2).
const DRAM: u64 = 0x8_0000_0000;
const USER: u64 = 0x2000_0000;
/// DP-3.
const TABLES: u32 = 130;

fn hop(number: u8) -> Hop {
    Hop::new(number).unwrap()
}

fn set_default(table: &mut Table<'_, '_, V1>) -> Result<(), MapError> {
    table.set_default(range(0, COVERED), hop(3), BusAddr::new(PAGE), NoAttributes)
}

/// A page table with the default mapping, and the bus' counts begun anew.
fn goya<'p, 'a>(pool: &'p Pool<'a>) -> Table<'p, 'a, V1> {
    let mut table = PageTable::<V1, _>::new(pool).unwrap().unwrap();
    set_default(&mut table).unwrap();
    pool.bus().take();
    table
}

fn map(table: &mut Table<'_, '_, V1>, at: u64, bus: u64, len: u64) -> Result<(), MapError> {
    table.map(device(at), run(bus, len), &MapOptions::default())
}

/// What the device finds at an address of Goya: the walk by the bits (facts 2.1, 2.2).
fn walk(pool: &Pool<'_>, root: BusAddr, at: u64) -> Option<u64> {
    let mut table = root.get();
    for shift in [48, 39, 30, 21, 12] {
        let index = at >> shift & if shift == 48 { 3 } else { 0x1FF };
        let entry = pool.word(((table - ARENA) / 4096) as u32, index as usize);
        if entry & 1 == 0 {
            return None;
        }
        if entry & 0x800 != 0 {
            return Some((entry & !0xFFF) + (at & ((1 << shift) - 1)));
        }
        table = entry & !0xFFF;
    }
    panic!("no leaf for {at:#x}");
}

fn expect_default(pool: &Pool<'_>, table: &Table<'_, '_, V1>, at: u64) {
    let found = walk(pool, table.root(), at);
    assert_eq!(found, Some(PAGE + at % (2 * MIB)), "{at:#x}");
    let at = device(at);
    assert_eq!(table.query(at), Err(QueryError::NotMapped { at }));
}

/// For each hop how many tables there are and how many words of them are not zero.
fn census(pool: &Pool<'_>, table: u64, hop: usize, counts: &mut [(u32, u32); 5]) {
    counts[hop].0 += 1;
    for index in 0..ENTRIES {
        let entry = pool.word(((table - ARENA) / 4096) as u32, index);
        counts[hop].1 += u32::from(entry != 0);
        if entry & 0x801 == 1 {
            census(pool, entry & !0xFFF, hop + 1, counts);
        }
    }
}

#[test]
fn the_default_mapping_of_goya_is_130_tables_65536_leaves_and_one_flush() {
    for zeroed in [true, false] {
        let mut memory = Memory::new(131);
        let pool = if zeroed {
            memory.zeroed_pool()
        } else {
            memory.pool()
        };
        let mut table = PageTable::<V1, _>::new(&pool).unwrap().unwrap();
        pool.bus().take();
        set_default(&mut table).unwrap();
        let asked = pool.bus().take();
        assert_eq!((asked.reads, asked.flushes), (0, 1));
        if zeroed {
            // DP-5; each table's leaves are one write, each link one.
            assert_eq!(asked.words(), 65536 + 130);
            assert_eq!(asked.writes.len(), 128 + 130);
        } else {
            // What else is in the tables of hops 1 and 2 is zeroed, once.
            assert_eq!(asked.words(), 65536 + 130 + 511 + 384);
        }
        assert_eq!(pool.usage().used(), 1 + TABLES);
        // The tables of leaves have none of the large records.
        assert_eq!(pool.map_usage().used(), 3);
        let mut counts = [(0, 0); 5];
        census(&pool, table.root().get(), 0, &mut counts);
        assert_eq!(counts, [(1, 1), (1, 1), (1, 128), (128, 65536), (0, 0)]);
        let words = (0..pool.usage().capacity)
            .flat_map(|table| (0..ENTRIES).map(move |index| (table, index)))
            .filter(|&(table, index)| pool.word(table, index) == DEFAULT);
        assert_eq!(words.count(), 65536);
        let mut random = Random::new(0x99);
        for n in 0..128 {
            expect_default(&pool, &table, n * GIB);
            expect_default(&pool, &table, random.below(COVERED));
        }
        expect_default(&pool, &table, COVERED - 8);
        assert_eq!(walk(&pool, table.root(), COVERED), None);
        assert_eq!(table.default_range(), Some(range(0, COVERED)));
        assert_eq!(table.runs(range(0, u64::MAX)).count(), 0);
    }
}

#[test]
fn a_default_mapping_is_set_and_removed_by_code_that_does_not_know_its_memory() {
    fn set<M: TableMemory>(table: &mut PageTable<V1, M>) -> Result<(), MapError> {
        let (covered, page) = (range(0, COVERED), BusAddr::new(PAGE));
        M::try_set_default(table, covered, hop(3), page, NoAttributes)
    }
    fn remove<M: TableMemory>(table: &mut PageTable<V1, M>) -> Option<Removed<M>> {
        M::try_remove_default(table)
    }
    let mut memory = Memory::new(131);
    let pool = memory.zeroed_pool();
    let mut table = PageTable::<V1, _>::new(&pool).unwrap().unwrap();
    set(&mut table).unwrap();
    expect_default(&pool, &table, DRAM);
    let removed = remove(&mut table).unwrap();
    assert_eq!(removed.tables(), TABLES);
    assert_eq!(walk(&pool, table.root(), DRAM), None);
    confirm(removed);
}

#[test]
fn slots_that_the_hardware_does_not_index_are_zero_in_tables_of_default_leaves_too() {
    type F = Gaudi2Pmmu64K;
    for zeroed in [true, false] {
        let mut memory = Memory::new(16);
        let pool = if zeroed {
            memory.zeroed_pool()
        } else {
            memory.pool()
        };
        let mut table = PageTable::<F, _>::new(&pool).unwrap().unwrap();
        pool.bus().take();
        let (one_table, page) = (range(F::EDGE, 256 * F::small()), BusAddr::new(F::BUS));
        table
            .set_default(one_table, hop(5), page, NoAttributes)
            .unwrap();
        let words = pool.bus().take().words();
        assert_eq!(pool.usage().used(), 6);
        let mut out_of_reach = (0..6).flat_map(|table| (256..ENTRIES).map(move |n| (table, n)));
        assert!(out_of_reach.all(|(table, index)| pool.word(table, index) == 0));
        // The leaves, a link for each table and, where they were not zero, the rest of the tables.
        let rest = if zeroed { 0 } else { 256 + 4 * (ENTRIES - 1) };
        assert_eq!(words, 256 + 5 + rest);
    }
}

#[test]
fn a_map_takes_the_place_of_a_default_leaf_and_an_unmap_puts_it_back() {
    let mut memory = Memory::new(131);
    let pool = memory.zeroed_pool();
    let mut table = goya(&pool);
    let page = range(DRAM, 2 * MIB);
    for _ in 0..2 {
        map(&mut table, DRAM, USER, 2 * MIB).unwrap();
        let asked = pool.bus().take();
        assert_eq!((asked.reads, asked.flushes, asked.words()), (0, 1, 1));
        assert_eq!(walk(&pool, table.root(), DRAM + 5), Some(USER + 5));
        assert_eq!(table.query(device(DRAM + 5)).unwrap().bus.get(), USER + 5);
        expect_default(&pool, &table, DRAM - 1);
        expect_default(&pool, &table, DRAM + 2 * MIB);
        let before = Snapshot::of(&pool);
        let again = map(&mut table, DRAM, USER, 2 * MIB);
        assert_eq!(again, Err(MapError::AlreadyMapped { at: device(DRAM) }));
        let around = map(&mut table, DRAM - 2 * MIB, USER, 6 * MIB);
        assert_eq!(around, Err(MapError::AlreadyMapped { at: device(DRAM) }));
        before.expect(&pool, "a double map");
        pool.bus().take();

        let removed = table.unmap(page).unwrap();
        assert_eq!(removed.tables(), 0);
        let asked = pool.bus().take();
        assert_eq!((asked.reads, asked.flushes, asked.words()), (0, 0, 1));
        confirm(removed);
        expect_default(&pool, &table, DRAM);
        let before = Snapshot::of(&pool);
        let again = table.unmap(page).unwrap_err();
        assert_eq!(again, UnmapError::NotMapped { at: device(DRAM) });
        before.expect(&pool, "a double unmap");
        pool.bus().take();
    }
    // DP-9: the default page mapped by someone is mapped.
    map(&mut table, DRAM, PAGE, 2 * MIB).unwrap();
    assert_eq!(table.query(device(DRAM)).unwrap().bus.get(), PAGE);
    let again = map(&mut table, DRAM, PAGE, 2 * MIB);
    assert_eq!(again, Err(MapError::AlreadyMapped { at: device(DRAM) }));
    confirm(table.unmap(page).unwrap());
    assert!(table.query(device(DRAM)).is_err());
}

#[test]
fn no_table_of_the_default_mapping_goes_away_with_what_is_mapped_in_it() {
    let mut memory = Memory::new(131);
    let pool = memory.zeroed_pool();
    let mut table = goya(&pool);
    // Four whole tables and a part of the next, as runs.
    let len = 4 * GIB + 6 * MIB;
    let all = range(DRAM, len);
    for way in 0..3 {
        map(&mut table, DRAM, USER, len).unwrap();
        let asked = pool.bus().take();
        assert_eq!((asked.reads, asked.flushes), (0, 1));
        let words: Vec<usize> = asked.writes.iter().map(|(_, words)| *words).collect();
        assert_eq!(words, [512, 512, 512, 512, 3]);
        assert_eq!(table.runs(range(0, u64::MAX)).count(), 1);
        assert_eq!(
            walk(&pool, table.root(), DRAM + len - 1),
            Some(USER + len - 1)
        );
        pool.bus().take();
        let removed = match way {
            0 => table.unmap(all).unwrap(),
            1 => table.sweep(range(0, 512 * GIB)),
            _ => table.sweep_all(),
        };
        assert_eq!(removed.tables(), 0);
        assert_eq!(pool.bus().take().reads, 0);
        confirm(removed);
        for at in [DRAM, DRAM + GIB - 1, DRAM + 4 * GIB, DRAM + len - 1] {
            expect_default(&pool, &table, at);
        }
        assert_eq!(pool.usage().used(), 1 + TABLES);
        let mut counts = [(0, 0); 5];
        census(&pool, table.root().get(), 0, &mut counts);
        assert_eq!(counts[3], (128, 65536));
        pool.bus().take();
    }
}

#[test]
fn leaves_of_another_size_than_the_default_ones_are_refused_in_their_range() {
    let mut memory = Memory::new(140);
    let pool = memory.pool();
    let mut table = goya(&pool);
    map(&mut table, DRAM, USER, 2 * MIB).unwrap();
    let before = Snapshot::of(&pool);
    let refused = |at| Err(MapError::InDefaultRange { at: device(at) });
    let at = DRAM + 8 * MIB;
    assert_eq!(map(&mut table, at, USER, 4096), refused(at));
    assert_eq!(
        map(&mut table, at, USER, 2 * MIB + 4096),
        refused(at + 2 * MIB)
    );
    // Out of step, so that no large leaf fits.
    assert_eq!(map(&mut table, at, USER + 4096, 2 * MIB), refused(at));
    let last = COVERED - 4096;
    assert_eq!(map(&mut table, last, USER, 8192), refused(last));
    let runs = [run(USER, 2 * MIB), run(USER, 4096)];
    let list = table.map_list(range(at, 2 * MIB + 4096), runs, &MapOptions::default());
    assert_eq!(list, refused(at + 2 * MIB));
    let small = MapOptions {
        sizes: LeafSizes::at(hop(4)),
        attributes: NoAttributes,
    };
    let result = table.map(device(at), run(USER, 2 * MIB), &small);
    assert_eq!(result, refused(at));
    let split = table.split(device(DRAM + 4096)).unwrap_err();
    assert_eq!(split, SplitError::InDefaultRange { leaf: device(DRAM) });
    let split = table.split(device(at)).unwrap_err();
    assert_eq!(split, SplitError::NotMapped { at: device(at) });
    let part = table.unmap(range(DRAM, 4096)).unwrap_err();
    assert_eq!(part, UnmapError::WouldSplit { leaf: device(DRAM) });
    before.expect(&pool, "what is refused");

    // Large leaves up to the end of the range, small ones behind it.
    let (at, len) = (COVERED - 2 * MIB, 2 * MIB + 4096);
    map(&mut table, at, USER, len).unwrap();
    assert_eq!(walk(&pool, table.root(), COVERED), Some(USER + 2 * MIB));
    assert_eq!(
        confirm(table.unmap(range(at, len)).unwrap()).extent,
        Extent::Range(range(at, len))
    );
    expect_default(&pool, &table, at);
    assert_eq!(pool.usage().used(), 1 + TABLES);
}

#[test]
fn a_default_mapping_that_cannot_be_made_changes_nothing() {
    let mut memory = Memory::with_maps(140, 8);
    let pool = memory.pool();
    let mut table = PageTable::<V1, _>::new(&pool).unwrap().unwrap();
    let page = BusAddr::new(PAGE);
    let refused = |table: &mut Table<'_, '_, V1>, (at, len), number, page, error| {
        let before = Snapshot::of(&pool);
        let result = table.set_default(
            range(at, len),
            hop(number),
            BusAddr::new(page),
            NoAttributes,
        );
        assert_eq!(result, Err(error));
        before.expect(&pool, "a default mapping that is refused");
    };
    for number in [0, 1, 2, 5] {
        refused(&mut table, (0, GIB), number, PAGE, MapError::NoLeafSize);
    }
    let misaligned = |at| MapError::Misaligned { at: device(at) };
    refused(&mut table, (2 * MIB, GIB), 3, PAGE, misaligned(2 * MIB));
    refused(&mut table, (0, GIB + 2 * MIB), 3, PAGE, misaligned(0));
    let bus = BusAddr::new(PAGE + 4096);
    refused(
        &mut table,
        (0, GIB),
        3,
        bus.get(),
        MapError::MisalignedRun { bus },
    );
    let bus = BusAddr::new(u64::MAX - 4095);
    refused(
        &mut table,
        (0, GIB),
        3,
        bus.get(),
        MapError::RunOutOfRange { bus },
    );
    let at = device((1 << 50) - GIB);
    refused(
        &mut table,
        (at.get(), 2 * GIB),
        3,
        PAGE,
        MapError::OutOfRange { at },
    );
    // Anything mapped in the range, however small.
    let at = 77 * GIB + 4096;
    map(&mut table, at, USER, 4096).unwrap();
    let mapped = MapError::AlreadyMapped { at: device(at) };
    refused(&mut table, (0, COVERED), 3, PAGE, mapped);
    confirm(table.unmap(range(at, 4096)).unwrap());
    // A second one, wherever it is.
    table
        .set_default(range(GIB, GIB), hop(3), page, NoAttributes)
        .unwrap();
    let second = MapError::AlreadyMapped { at: device(GIB) };
    refused(&mut table, (1 << 48, GIB), 3, PAGE, second);
}

#[test]
fn a_default_mapping_needs_all_its_tables_or_takes_none() {
    for free in 0..=TABLES as usize {
        let mut memory = Memory::new(1 + free);
        let pool = memory.pool();
        let mut table = PageTable::<V1, _>::new(&pool).unwrap().unwrap();
        let before = Snapshot::of(&pool);
        let result = set_default(&mut table);
        if free == TABLES as usize {
            assert_eq!(result, Ok(()));
            assert_eq!(pool.usage().free, 0);
        } else {
            assert_eq!(result, Err(MapError::NoTableMemory { needed: 130 }));
            before.expect(&pool, "too few tables");
            assert_eq!(table.default_range(), None);
        }
    }
    let mut memory = Memory::with_maps(140, 2);
    let pool = memory.pool();
    let mut table = PageTable::<V1, _>::new(&pool).unwrap().unwrap();
    let before = Snapshot::of(&pool);
    let result = set_default(&mut table);
    assert_eq!(result, Err(MapError::NoTableMemory { needed: 130 }));
    before.expect(&pool, "too few child maps");
}

#[test]
fn tables_on_the_way_are_shared_with_what_is_mapped_beside_the_range() {
    let mut memory = Memory::new(140);
    let pool = memory.pool();
    let mut table = PageTable::<V1, _>::new(&pool).unwrap().unwrap();
    let beside = COVERED + 4096;
    map(&mut table, beside, USER, 4096).unwrap();
    // Root, hops 1 to 4.
    assert_eq!(pool.usage().used(), 5);
    set_default(&mut table).unwrap();
    assert_eq!(pool.usage().used(), 5 + 128);
    let removed = table.unmap(range(beside, 4096)).unwrap();
    assert_eq!(removed.tables(), 2);
    confirm(removed);
    map(&mut table, beside, USER, 4096).unwrap();
    let removed = table.remove_default();
    assert_eq!(removed.tables(), 128);
    assert_eq!(removed.stale().extent, Extent::Range(range(0, COVERED)));
    confirm(removed);
    assert_eq!(walk(&pool, table.root(), beside), Some(USER));
    assert_eq!(walk(&pool, table.root(), 0), None);
    confirm(table.unmap(range(beside, 4096)).unwrap());
    assert_eq!(pool.usage().used(), 1);
    assert_eq!(table.remove_default().stale().extent, Extent::Nothing);
}

#[test]
fn the_end_of_a_context_takes_the_130_tables_apart() {
    let mut memory = Memory::new(131);
    let pool = memory.pool();
    for way in 0..3 {
        let mut table = goya(&pool);
        map(&mut table, DRAM, USER, 3 * GIB).unwrap();
        pool.bus().take();
        match way {
            0 => {
                let removed = table.close();
                assert_eq!(removed.tables(), 1 + TABLES);
                let asked = pool.bus().take();
                // The root's only entry, and that of the table below it, which is zero then.
                assert_eq!((asked.reads, asked.words()), (0, 2));
                assert_eq!(confirm(removed).extent, Extent::Everything);
            }
            1 => {
                confirm(table.sweep_all());
                let removed = table.remove_default();
                assert_eq!(removed.tables(), TABLES);
                confirm(removed);
                assert!(table.is_empty());
                confirm(table.close());
            }
            _ => {
                // A reset: what is in the tables is gone, and all is set up anew.
                pool.bus().reset();
                let removed = table.wipe();
                assert_eq!(removed.tables(), TABLES);
                confirm(removed);
                assert_eq!(table.default_range(), None);
                set_default(&mut table).unwrap();
                let mut counts = [(0, 0); 5];
                census(&pool, table.root().get(), 0, &mut counts);
                assert_eq!(counts, [(1, 1), (1, 1), (1, 128), (128, 65536), (0, 0)]);
                confirm(table.close());
            }
        }
        assert_eq!((pool.usage().used(), pool.map_usage().used()), (0, 0));
    }
}

#[test]
fn what_is_mapped_stays_when_the_default_mapping_goes() {
    let mut memory = Memory::new(131);
    let pool = memory.pool();
    let mut table = goya(&pool);
    map(&mut table, DRAM + 4 * MIB, USER, 2 * MIB).unwrap();
    map(&mut table, DRAM + 5 * GIB, USER, GIB).unwrap();
    let removed = table.remove_default();
    assert_eq!(removed.tables(), 126);
    confirm(removed);
    assert_eq!(walk(&pool, table.root(), DRAM + 4 * MIB), Some(USER));
    assert_eq!(
        walk(&pool, table.root(), DRAM + 6 * GIB - 1),
        Some(USER + GIB - 1)
    );
    for at in [0, DRAM, DRAM + 6 * MIB, DRAM + GIB - 1, DRAM + 6 * GIB] {
        assert_eq!(walk(&pool, table.root(), at), None, "{at:#x}");
    }
    // From here on a small leaf is as good as any.
    map(&mut table, DRAM, USER, 4096).unwrap();
    confirm(table.unmap(range(DRAM, 4096)).unwrap());
    confirm(table.unmap(range(DRAM + 4 * MIB, 2 * MIB)).unwrap());
    confirm(table.unmap(range(DRAM + 5 * GIB, GIB)).unwrap());
    assert_eq!(pool.usage().used(), 1);
}

#[test]
fn a_device_lost_while_the_default_mapping_is_made_leaves_none() {
    // Writes: 128 tables and their links, the links of hops 2 and 1, and what is zeroed.
    for lose_at_write in [0, 1, 2, 129, 256, 257, 258] {
        let mut memory = Memory::new(131);
        let pool = memory.zeroed_pool();
        let mut table = PageTable::<V1, _>::new(&pool).unwrap().unwrap();
        if lose_at_write == 0 {
            pool.bus().be_deaf();
        } else {
            pool.bus().lose_at_write(lose_at_write);
        }
        assert_eq!(set_default(&mut table), Err(MapError::DeviceLost));
        assert!(table.is_empty());
        assert_eq!(table.default_range(), None);
        // The device may have seen the tables: they wait.
        assert_eq!(pool.usage().used(), 1 + TABLES);
        pool.bus().come_back();
        if lose_at_write == 0 {
            assert_eq!(walk(&pool, table.root(), DRAM), None);
        } else {
            pool.bus().reset();
        }
        let removed = table.wipe();
        assert_eq!(removed.tables(), TABLES);
        assert_eq!(confirm(removed).extent, Extent::Everything);
        assert_eq!(pool.usage().used(), 1);
        set_default(&mut table).unwrap();
        expect_default(&pool, &table, DRAM);
    }
}

#[test]
fn a_map_undone_for_a_lost_device_leaves_the_default_leaves_behind() {
    let mut memory = Memory::new(140);
    let pool = memory.pool();
    let mut table = goya(&pool);
    for len in [2 * MIB, 6 * MIB, GIB + 2 * MIB] {
        let before = Snapshot::of(&pool);
        pool.bus().be_deaf();
        assert_eq!(map(&mut table, DRAM, USER, len), Err(MapError::DeviceLost));
        pool.bus().come_back();
        before.expect(&pool, "a map that was undone");
        assert_eq!(
            confirm(table.sweep(range(0, GIB))).extent,
            Extent::Everything
        );
    }
}

#[test]
fn random_operations_across_the_end_of_the_range_agree_with_the_oracle() {
    let mut memory = Memory::new(160);
    let pool = memory.zeroed_pool();
    let mut table = goya(&pool);
    let mut random = Random::new(0xDA7A);
    let window = COVERED - GIB - 32 * MIB;
    let pages = (GIB + 96 * MIB) / (2 * MIB);
    let mut model: BTreeMap<u64, u64> = BTreeMap::new();
    for step in 0..3000 {
        let most = if random.below(24) == 0 { pages } else { 8 };
        let page = random.below(pages);
        let count = 1 + random.below(most.min(pages - page));
        let at = |page: u64| window + page * 2 * MIB;
        let all = range(at(page), count * 2 * MIB);
        let mapped = model.range(page..page + count).count() as u64;
        match random.below(5) {
            0 | 1 => {
                let bus = USER + random.below(64) * 2 * MIB;
                let result = map(&mut table, at(page), bus, all.len());
                assert_eq!(result.is_ok(), mapped == 0, "step {step}: {result:?}");
                if mapped == 0 {
                    model.extend((0..count).map(|n| (page + n, bus + n * 2 * MIB)));
                }
            }
            2 => {
                let result = table.unmap(all).map(confirm);
                assert_eq!(result.is_ok(), mapped == count, "step {step}: {result:?}");
                if mapped == count {
                    model.retain(|n, _| *n < page || *n >= page + count);
                }
            }
            3 => {
                let _ = confirm(table.sweep(all));
                model.retain(|n, _| *n < page || *n >= page + count);
            }
            _ => {
                let result = map(&mut table, at(page), USER + 4096, 4096);
                if at(page) < COVERED {
                    assert!(matches!(result, Err(MapError::InDefaultRange { .. })));
                } else if result.is_ok() {
                    confirm(table.unmap(range(at(page), 4096)).unwrap());
                }
            }
        }
        for page in [page.saturating_sub(1), page, page + count - 1, page + count] {
            let expected = model.get(&page).copied();
            let by_default = (at(page) < COVERED).then_some(PAGE);
            let found = walk(&pool, table.root(), at(page));
            assert_eq!(found, expected.or(by_default), "step {step}");
            let told = table
                .query(device(at(page)))
                .ok()
                .map(|found| found.bus.get());
            assert_eq!(told, expected, "step {step}");
        }
    }
    let told: u64 = table
        .runs(range(0, u64::MAX))
        .map(|run| run.unwrap().range.len())
        .sum();
    assert_eq!(told, model.len() as u64 * 2 * MIB);
    confirm(table.sweep_all());
    assert_eq!(pool.usage().used(), 1 + TABLES);
    let mut counts = [(0, 0); 5];
    census(&pool, table.root().get(), 0, &mut counts);
    assert_eq!(counts, [(1, 1), (1, 1), (1, 128), (128, 65536), (0, 0)]);
}

#[test]
fn default_leaves_of_the_deepest_hop_are_neither_mapped_nor_in_the_way() {
    type F = Gaudi2Hmmu<6>;
    let mut memory = Memory::new(16);
    let pool = memory.pool();
    let mut table = PageTable::<F, _>::new(&pool).unwrap().unwrap();
    let small = F::small();
    let two_tables = range(F::EDGE, 1024 * small);
    let page = BusAddr::new(F::BUS);
    table
        .set_default(two_tables, hop(3), page, NoAttributes)
        .unwrap();
    let used = pool.usage().used();
    let nothing = |table: &Table<'_, '_, F>, at: DeviceAddr| {
        assert_eq!(table.query(at), Err(QueryError::NotMapped { at }));
    };
    nothing(&table, device(F::EDGE + 5));
    // A table full of mapped leaves, and one that has as many default ones.
    let full = range(F::EDGE, 512 * small);
    let bus = run(F::BUS + small, full.len());
    table
        .map(full.start(), bus, &MapOptions::default())
        .unwrap();
    let second = F::EDGE + 512 * small;
    let error = table.unmap(range(second, 512 * small)).unwrap_err();
    assert_eq!(error, UnmapError::NotMapped { at: device(second) });
    let error = table.unmap(range(second, 3 * small)).unwrap_err();
    assert_eq!(error, UnmapError::NotMapped { at: device(second) });
    assert_eq!(
        table.query(device(F::EDGE + 5)).unwrap().bus.get(),
        F::BUS + small + 5
    );
    nothing(&table, device(second));
    confirm(table.unmap(full).unwrap());
    nothing(&table, full.start());
    // One page in the second, by the short way.
    table
        .map(device(second), run(F::BUS, small), &MapOptions::default())
        .unwrap();
    confirm(table.unmap(range(second, small)).unwrap());
    assert_eq!(pool.usage().used(), used);
    let default = F::leaf_entry(hop(3), F::entry_address(page).unwrap(), NoAttributes);
    let words = (0..pool.usage().capacity)
        .flat_map(|table| (0..ENTRIES).map(move |index| (table, index)))
        .filter(|&(table, index)| pool.word(table, index) == default);
    assert_eq!(words.count(), 1024);
    let dump = table.dump().to_string();
    let summaries = dump
        .lines()
        .filter(|line| line.trim() == "512 default entries");
    assert_eq!(summaries.count(), 2, "{dump}");
    confirm(table.close());
    assert_eq!(pool.usage().used(), 0);
}
