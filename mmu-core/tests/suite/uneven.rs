//! A format whose entries are not evenly spaced, which builds with debug assertions find out.

#![cfg(debug_assertions)]

use mmu_core::format::{Entry, HopGeometry, NoAttributes};
use mmu_core::{Format, Hop, MapOptions, PageTable};

use super::common::{Memory, device, run};

/// Bits 12 and 13 of an address are the other way round in its leaf.
#[derive(Clone, Copy, Debug)]
struct Twisted;

impl Format for Twisted {
    type Attributes = NoAttributes;
    const NAME: &'static str = "twisted";
    const HOPS: &'static [HopGeometry] = &[HopGeometry::tables(21, 9), HopGeometry::leaves(12, 9)];
    const LAST_WALK_ADDRESS: u64 = (1 << 30) - 1;

    fn table_entry(_hop: Hop, address: u64) -> u64 {
        address | 1
    }

    fn leaf_entry(_hop: Hop, address: u64, _attributes: NoAttributes) -> u64 {
        (address & !0x3000) | (address & 0x1000) << 1 | (address & 0x2000) >> 1 | 0b11
    }

    fn decode(_hop: Hop, entry: u64) -> Entry<NoAttributes> {
        match entry & 0b11 {
            0b01 => Entry::Table {
                address: entry & !0xFFF,
            },
            0b11 => Entry::Leaf {
                address: entry & !0xFFF,
                attributes: NoAttributes,
            },
            _ => Entry::Empty,
        }
    }
}

#[test]
#[should_panic(expected = "entries of twisted do not follow each other in even steps")]
fn a_run_of_entries_that_are_not_evenly_spaced_is_found_out() {
    let mut memory = Memory::new(8);
    let pool = memory.pool();
    let mut table = PageTable::<Twisted, _>::new(&pool).unwrap().unwrap();
    let _ = table.map(device(0), run(0, 0x3000), &MapOptions::default());
}
