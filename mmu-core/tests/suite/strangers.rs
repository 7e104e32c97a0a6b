//! What others bring along: formats, buses, several pools, and entries that this crate did not write.

use std::sync::atomic::{AtomicU64, Ordering};

use mmu_core::format::{Entry, HopGeometry, V1};
use mmu_core::{
    BusAddr, Format, Hop, LeafSizes, MapError, MapOptions, PageTable, Region, ReuseOrder,
    TableArena, TableId, TablePool, TableRecord,
};

use super::common::only;
use super::common::{ENTRIES, Memory, Pool, Words, confirm, device, range, run};

/// Entries that hold addresses two bits lower than they are, as those of RISC-V.
struct Shifted;

impl Format for Shifted {
    type Attributes = ();
    const NAME: &'static str = "shifted";
    const HOPS: &'static [HopGeometry] = &[
        HopGeometry::tables(30, 9),
        HopGeometry::tables(21, 9),
        HopGeometry::leaves(12, 9),
    ];
    const LAST_WALK_ADDRESS: u64 = (1 << 39) - 1;

    fn table_entry(_hop: Hop, address: u64) -> u64 {
        address >> 2 | 1
    }

    fn leaf_entry(_hop: Hop, address: u64, (): ()) -> u64 {
        address >> 2 | 0b11
    }

    fn decode(_hop: Hop, entry: u64) -> Entry<()> {
        let address = (entry & !0x3FF) << 2;
        match entry & 0b11 {
            0b01 => Entry::Table { address },
            0b11 => Entry::Leaf {
                address,
                attributes: (),
            },
            _ => Entry::Empty,
        }
    }
}

#[test]
fn a_format_need_not_hold_addresses_in_their_place() {
    let tables: Vec<[AtomicU64; ENTRIES]> = (0..32)
        .map(|_| std::array::from_fn(|_| AtomicU64::new(0)))
        .collect();
    let mut records: Vec<_> = tables.iter().map(|_| TableRecord::new()).collect();
    // From zero on, so that a quarter of a table's address may be another table's.
    let region = Region::new(&tables, BusAddr::new(0)).unwrap();
    let pool: Pool<'_> = TablePool::new(region, &mut records, ReuseOrder::LastReleased).unwrap();
    let mut table = PageTable::<Shifted, _>::new(&pool).unwrap().unwrap();
    let pages = (0..16).map(|n| (n << 21, 0x8000_0000 + (n << 12)));
    for (at, bus) in pages.clone() {
        let options = MapOptions::default();
        table.map(device(at), run(bus, 0x1000), &options).unwrap();
    }
    // In both directions, so that the table used last is the neighbour on either side.
    for (at, bus) in pages.clone().chain(pages.rev()) {
        let found = table.query(device(at + 0x123)).map(|found| found.bus.get());
        assert_eq!(found, Ok(bus + 0x123), "{at:#x}");
    }
    confirm(table.close());
    assert_eq!(pool.usage().used(), 0);
}

#[test]
fn a_removal_from_the_pool_of_another_device_is_not_absorbed() {
    let (mut here, mut there) = (Memory::new(16), Memory::new(16));
    let (here, there) = (here.pool(), there.pool());
    let mut one = PageTable::<V1, _>::new(&here).unwrap().unwrap();
    let mut other = PageTable::<V1, _>::new(&there).unwrap().unwrap();
    assert_eq!(
        one.root(),
        other.root(),
        "two devices, each with its own bus"
    );
    for table in [&mut one, &mut other] {
        let options = MapOptions::default();
        table.map(device(0), run(0x1000, 0x1000), &options).unwrap();
    }
    let mut removed = one.unmap(range(0, 0x1000)).unwrap();
    let foreign = other.unmap(range(0, 0x1000)).unwrap();
    let foreign = removed.absorb(foreign).unwrap_err();
    let foreign = one.absorb(foreign).unwrap_err();
    assert!(!one.has_unconfirmed());
    confirm(removed);
    assert_eq!((here.usage().used(), there.usage().used()), (1, 5));
    confirm(foreign);
    assert_eq!((here.usage().used(), there.usage().used()), (1, 1));
}

#[test]
fn wiping_forgets_what_a_stranger_wrote_into_the_root() {
    let mut memory = Memory::new(16);
    let pool = memory.pool();
    let mut table = PageTable::<V1, _>::new(&pool).unwrap().unwrap();
    let options = MapOptions::default();
    table.map(device(0), run(0x1000, 0x1000), &options).unwrap();
    let root = pool.arena().locate(table.root()).unwrap();
    // A pointer to no table of the pool, in the place of one that is.
    pool.arena().words(root).unwrap()[0].store(0x9999_9001, Ordering::Relaxed);
    confirm(table.wipe());
    assert!(table.is_empty());
    assert_eq!(pool.word(root.number(), 0), 0);
    table.map(device(0), run(0x1000, 0x1000), &options).unwrap();
    assert_eq!(table.query(device(0)).unwrap().bus.get(), 0x1000);
}

#[test]
fn a_table_that_nobody_has_has_no_slots_in_use() {
    let mut memory = Memory::new(16);
    let pool = memory.pool();
    let mut table = PageTable::<V1, _>::new(&pool).unwrap().unwrap();
    let options = MapOptions::default();
    table.map(device(0), run(0x1000, 0x1000), &options).unwrap();
    // Emptied leaf by leaf: known to be zero, which is a mark in the record.
    confirm(table.unmap(range(0, 0x1000)).unwrap());
    confirm(table.close());
    for number in 0..16 {
        assert_eq!(pool.live_slots(TableId::new(number)), Some(0), "{number}");
    }
    assert_eq!(pool.live_slots(TableId::new(16)), None);
}

#[test]
fn a_flush_that_fails_on_the_last_free_table_is_a_lost_device_and_not_a_lack_of_memory() {
    let mut memory = super::common::device::Memory::new(6);
    let pool = memory.pool();
    let mut table = PageTable::<V1, _>::new(&pool).unwrap().unwrap();
    let options = only::<V1>(LeafSizes::ALL);
    let leaf = |n: u64| (device(n << 21), run(0x1000, 0x1000));
    let (at, page) = leaf(0);
    table.map(at, page, &options).unwrap();
    let (at, page) = leaf(1);
    pool.bus().lose_at_flush(1);
    assert_eq!(table.map(at, page, &options), Err(MapError::DeviceLost));
    pool.bus().come_back();
    // The table waits for the next removal, which brings it back.
    assert_eq!(pool.usage().used(), 6);
    confirm(table.sweep(range(1 << 30, 0x1000)));
    assert_eq!(pool.usage().used(), 5);
    table.map(at, page, &options).unwrap();
}
