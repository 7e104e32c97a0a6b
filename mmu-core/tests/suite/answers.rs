//! What a page table and what was removed from it say when they are asked.

use mmu_core::{
    AddrRange, BusAddr, DeviceLost, Extent, Hop, MapError, MapOptions, PageTable, TableMemory,
};

use super::common::device::Memory as DeviceMemory;
use super::common::shape::Shape;
use super::common::{Memory, Pool, confirm, device, for_every_format, range, run};

for_every_format!(
    a_page_table_is_empty_while_nothing_is_mapped,
    joined_removals_forget_tables_where_one_of_them_does,
    tables_in_ordinary_memory_have_no_default_mapping,
    a_flush_tells_whether_the_device_answers,
);

fn a_page_table_is_empty_while_nothing_is_mapped<F: Shape>() {
    let mut memory = Memory::new(16);
    let pool = memory.pool();
    let mut table = PageTable::<F, _>::new(&pool).unwrap().unwrap();
    assert!(table.is_empty());
    let page = run(F::BUS, F::small());
    table
        .map(device(F::EDGE), page, &MapOptions::default())
        .unwrap();
    assert!(!table.is_empty());
    confirm(table.unmap(range(F::EDGE, F::small())).unwrap());
    assert!(table.is_empty());
}

/// Cached pointers to tables must go where a table went, whichever removal came first.
fn joined_removals_forget_tables_where_one_of_them_does<F: Shape>() {
    let mut memory = Memory::new(32);
    let pool = memory.pool();
    let mut table = PageTable::<F, _>::new(&pool).unwrap().unwrap();
    // Two pages of one table, and one page that is alone in its own.
    let pair = F::EDGE;
    let alone = F::EDGE + F::slots() * F::small();
    for (with_tables_first, pages) in [(true, [alone, pair]), (false, [pair, alone])] {
        for (at, len) in [(pair, 2 * F::small()), (alone, F::small())] {
            table
                .map(device(at), run(F::BUS, len), &MapOptions::default())
                .unwrap();
        }
        let mut unmap = |at| table.unmap(range(at, F::small())).unwrap();
        let mut first = unmap(pages[0]);
        let second = unmap(pages[1]);
        assert_eq!(first.stale().tables, with_tables_first);
        assert_eq!(second.stale().tables, !with_tables_first);
        let hull = range(pair, alone + F::small() - pair);
        let count = first.tables() + second.tables();
        first.absorb(second).unwrap();
        assert!(first.stale().tables);
        assert_eq!(first.tables(), count);
        assert_eq!(first.stale().extent, Extent::Range(hull));
        confirm(first);
        let rest = range(pair + F::small(), F::small());
        confirm(table.unmap(rest).unwrap());
    }
}

fn tables_in_ordinary_memory_have_no_default_mapping<F: Shape>() {
    let mut memory = Memory::new(16);
    let pool: Pool<'_> = memory.pool();
    let mut table = PageTable::<F, _>::new(&pool).unwrap().unwrap();
    let used = pool.usage().used();
    let range: AddrRange<_> = range(F::EDGE, F::small());
    let hop = Hop::new(F::INDEX.len() as u8 - 1).unwrap();
    let refused = <&Pool<'_> as TableMemory>::try_set_default(
        &mut table,
        range,
        hop,
        BusAddr::new(F::BUS),
        F::Attributes::default(),
    );
    assert_eq!(refused, Err(MapError::NoDefaults));
    assert!(<&Pool<'_> as TableMemory>::try_remove_default(&mut table).is_none());
    assert_eq!(pool.usage().used(), used);
}

fn a_flush_tells_whether_the_device_answers<F: Shape>() {
    let mut memory = DeviceMemory::new(16);
    let pool = memory.pool();
    let table = PageTable::<F, _>::new(&pool).unwrap().unwrap();
    assert_eq!(table.flush(), Ok(()));
    pool.bus().be_deaf();
    assert_eq!(table.flush(), Err(DeviceLost));
}
