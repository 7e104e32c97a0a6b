//! What is beside the default range is mapped as if there were none.

use mmu_core::format::{NoAttributes, V1};
use mmu_core::{BusAddr, Hop, LeafSizes, MapError, MapOptions, PageTable};

use super::common::device::Memory;
use super::common::{confirm, device, range, run};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// A range with room before and behind it, and two addresses there.
const COVERED: (u64, u64) = (64 * GIB, 64 * GIB);
const BEFORE: u64 = 32 * GIB;
const BEHIND: u64 = 1 << 48;

#[test]
fn a_leaf_beside_the_default_range_has_any_size_and_can_be_split() {
    let mut memory = Memory::new(160);
    let pool = memory.pool();
    let mut table = PageTable::<V1, _>::new(&pool).unwrap().unwrap();
    let hop = |number| Hop::new(number).unwrap();
    let page = BusAddr::new(0x1FC0_0000);
    table
        .set_default(range(COVERED.0, COVERED.1), hop(3), page, NoAttributes)
        .unwrap();
    let used = pool.usage().used();
    for at in [BEFORE, BEHIND] {
        let small = MapOptions {
            sizes: LeafSizes::at(hop(4)),
            attributes: NoAttributes,
        };
        let pages = run(0x2000_0000, 8192);
        table.map(device(at), pages, &small).unwrap();
        let large = run(0x2020_0000, 2 * MIB);
        table
            .map(device(at + 2 * MIB), large, &MapOptions::default())
            .unwrap();
        let inside = device(at + 3 * MIB);
        assert_eq!(table.query(inside).unwrap().hop, hop(3));
        confirm(table.split(inside).unwrap());
        assert_eq!(table.query(inside).unwrap().hop, hop(4));
        confirm(table.unmap(range(at, 8192)).unwrap());
        confirm(table.unmap(range(at + 2 * MIB, 2 * MIB)).unwrap());
        // No table stays behind, as none is the default mapping's there.
        assert_eq!(pool.usage().used(), used);
    }
}

#[test]
fn a_default_range_that_starts_and_ends_within_a_table_is_refused() {
    let mut memory = Memory::new(160);
    let pool = memory.pool();
    let mut table = PageTable::<V1, _>::new(&pool).unwrap().unwrap();
    let used = pool.usage().used();
    let at = device(GIB / 2);
    let out_of_step = range(GIB / 2, GIB + GIB / 2);
    let hop = Hop::new(3).unwrap();
    let page = BusAddr::new(0x1FC0_0000);
    let refused = table.set_default(out_of_step, hop, page, NoAttributes);
    assert_eq!(refused, Err(MapError::Misaligned { at }));
    assert_eq!(pool.usage().used(), used);
}
