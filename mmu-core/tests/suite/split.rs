//! Splitting large leaves.

use mmu_core::format::{Entry, HopGeometry, V1};
use mmu_core::{Extent, Format, Hop, MapOptions, PageTable, SplitError};

use super::common::model::leaf_sizes;
use super::common::raw;
use super::common::shape::Shape;
use super::common::{
    Memory, Snapshot, confirm, device, for_every_format, for_every_format_with_large_leaves, only,
    range, run,
};

for_every_format_with_large_leaves!(a_split_leaf_maps_the_same_through_leaves_of_the_next_hop);
for_every_format!(a_leaf_of_the_smallest_size_is_not_split);

fn a_split_leaf_maps_the_same_through_leaves_of_the_next_hop<F: Shape>() {
    for pair in F::SIZES.windows(2) {
        let [smaller, size] = pair else {
            unreachable!();
        };
        let mut memory = Memory::new(16);
        let pool = memory.pool();
        let mut table = PageTable::<F, _>::new(&pool).unwrap().unwrap();
        let options = MapOptions {
            attributes: F::attributes(0b101),
            ..only::<F>(leaf_sizes::<F>(u8::MAX))
        };
        // Two neighbours, of which the second is split.
        let two = run(F::BUS, 2 * size.bytes);
        table.map(device(F::EDGE), two, &options).unwrap();
        let used = pool.usage().used();
        let inside = F::EDGE + size.bytes + size.bytes / 2 + 8;
        let removed = table.split(device(inside)).unwrap();
        assert_eq!(removed.tables(), 0);
        let stale = confirm(removed);
        // The old leaf may be cached, and covers more than any of the new ones.
        let leaf = range(F::EDGE + size.bytes, size.bytes);
        assert_eq!(stale.extent, Extent::Range(leaf));
        assert_eq!(pool.usage().used(), used + 1);

        let contents = raw::read(&pool, &table, 0);
        let told: Vec<_> = contents
            .stretches
            .iter()
            .map(|s| (s.at, s.len, s.bus, s.leaf_bytes, s.bits))
            .collect();
        let bits = F::bits(F::attributes(0b101));
        assert_eq!(
            told,
            [
                (F::EDGE, size.bytes, F::BUS, size.bytes, bits),
                (
                    F::EDGE + size.bytes,
                    size.bytes,
                    F::BUS + size.bytes,
                    smaller.bytes,
                    bits
                ),
            ]
        );
        // Now a part can go, and then all of the rest.
        let part = range(F::EDGE + size.bytes, smaller.bytes);
        confirm(table.unmap(part).unwrap());
        let rest = range(
            F::EDGE + size.bytes + smaller.bytes,
            size.bytes - smaller.bytes,
        );
        confirm(table.unmap(rest).unwrap());
        assert_eq!(pool.usage().used(), used);
        confirm(table.unmap(range(F::EDGE, size.bytes)).unwrap());
        assert_eq!(pool.usage().used(), 1);
    }
}

fn a_leaf_of_the_smallest_size_is_not_split<F: Shape>() {
    let mut memory = Memory::new(16);
    let pool = memory.pool();
    let mut table = PageTable::<F, _>::new(&pool).unwrap().unwrap();
    let at = device(F::EDGE + 8);
    assert_eq!(
        table.split(at).unwrap_err(),
        SplitError::NotMapped { at },
        "an empty table"
    );
    let page = run(F::BUS, F::small());
    table
        .map(device(F::EDGE), page, &MapOptions::default())
        .unwrap();
    let before = Snapshot::of(&pool);
    let leaf = device(F::EDGE);
    assert_eq!(
        table.split(at).unwrap_err(),
        SplitError::NoSmallerLeaf { leaf }
    );
    let at = device(F::EDGE + F::small());
    assert_eq!(table.split(at).unwrap_err(), SplitError::NotMapped { at });
    before.expect(&pool, "a refused split");
}

/// A format without leaves at the hop behind that of its large ones.
struct Gap;

impl Format for Gap {
    type Attributes = ();
    const NAME: &'static str = "gap";
    const HOPS: &'static [HopGeometry] = &[
        HopGeometry::leaves(30, 9),
        HopGeometry::tables(21, 9),
        HopGeometry::leaves(12, 9),
    ];
    const LAST_WALK_ADDRESS: u64 = (1 << 39) - 1;

    fn table_entry(_hop: Hop, address: u64) -> u64 {
        address | 0b01
    }

    fn leaf_entry(_hop: Hop, address: u64, (): ()) -> u64 {
        address | 0b11
    }

    fn decode(_hop: Hop, entry: u64) -> Entry<()> {
        let address = entry & !0xFFF;
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
fn a_leaf_is_not_split_where_the_next_hop_has_none() {
    let mut memory = Memory::new(16);
    let pool = memory.pool();
    let mut table = PageTable::<Gap, _>::new(&pool).unwrap().unwrap();
    let large = run(0, 1 << 30);
    table.map(device(0), large, &MapOptions::default()).unwrap();
    let before = Snapshot::of(&pool);
    let leaf = device(0);
    assert_eq!(
        table.split(device(0x1234)).unwrap_err(),
        SplitError::NoSmallerLeaf { leaf }
    );
    before.expect(&pool, "a refused split");
}

#[test]
fn an_address_that_the_format_cannot_translate_is_not_split() {
    let mut memory = Memory::new(16);
    let pool = memory.pool();
    let mut table = PageTable::<V1, _>::new(&pool).unwrap().unwrap();
    let at = device(1 << 50);
    assert_eq!(table.split(at).unwrap_err(), SplitError::OutOfRange { at });
}
