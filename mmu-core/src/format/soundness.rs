//! The check of a format's constants, with numbers that are just right and just wrong.

use super::*;

/// Hops of so many index bits each, root first, above pages of 4 KiB. Only the deepest has leaves.
fn hops<const HOPS: usize>(index_bits: [u8; HOPS]) -> [HopGeometry; HOPS] {
    let mut shift = 12 + index_bits.iter().sum::<u8>();
    let mut hops = index_bits.map(|bits| {
        shift -= bits;
        HopGeometry::tables(shift, bits)
    });
    hops[HOPS - 1].leaf = true;
    hops
}

/// Whether hops are sound that translate all that they index.
fn sound(hops: &[HopGeometry]) -> bool {
    let last = u64::MAX >> (52 - hops.iter().map(|hop| hop.index_bits).sum::<u8>());
    hops_are_sound(hops, last)
}

/// Whether three hops of 9 bits are sound when one of them is changed.
fn sound_with(hop: usize, change: impl FnOnce(&mut HopGeometry)) -> bool {
    let mut hops = hops([9; 3]);
    change(&mut hops[hop]);
    sound(&hops)
}

#[test]
fn a_format_has_from_two_to_six_hops() {
    assert!(!sound(&hops([9])));
    assert!(sound(&hops([9; 2])));
    assert!(sound(&hops([1; 6])));
    assert!(!sound(&hops([1; 7])));
}

#[test]
fn the_last_hop_has_leaves_and_any_other_may() {
    assert!(!sound_with(2, |last| last.leaf = false));
    for hop in 0..3 {
        assert!(sound_with(hop, |hop| hop.leaf = true), "{hop}");
    }
    let [root, middle, last] = hops([9; 3]);
    let (middle, last) = (
        HopGeometry::leaves(middle.shift, middle.index_bits),
        HopGeometry::tables(last.shift, last.index_bits),
    );
    assert!(!sound(&[root, middle, last]));
}

#[test]
fn a_hop_has_at_least_one_index_bit_and_at_most_a_table_of_slots() {
    for (bits, expected) in [(0, false), (1, true), (9, true), (10, false)] {
        assert_eq!(sound(&hops([bits, 9, 9])), expected, "{bits}");
        assert_eq!(sound(&hops([9, bits, 9])), expected, "{bits}");
        assert_eq!(sound(&hops([9, 9, bits])), expected, "{bits}");
    }
}

#[test]
fn no_leaf_is_smaller_than_a_page() {
    for (page_bits, expected) in [(11, false), (12, true), (13, true)] {
        let moved = hops([9; 3]).map(|hop| HopGeometry {
            shift: hop.shift - 12 + page_bits,
            ..hop
        });
        assert_eq!(sound(&moved), expected, "{page_bits}");
    }
}

#[test]
fn the_index_bits_of_adjacent_hops_adjoin() {
    for hop in 0..3 {
        assert!(!sound_with(hop, |hop| hop.shift += 1), "{hop}");
        assert!(!sound_with(hop, |hop| hop.shift -= 1), "{hop}");
    }
}

#[test]
fn the_last_walk_address_is_one_that_the_hops_can_index() {
    let all = 1 << 30;
    for (last, expected) in [(1, true), (all - 1, true), (all, false), (u64::MAX, false)] {
        assert_eq!(hops_are_sound(&hops([9; 2]), last), expected, "{last:#x}");
    }
    // All 64 bits, below which every address is, and more than an address has.
    assert!(hops_are_sound(&hops([7, 9, 9, 9, 9, 9]), u64::MAX));
    assert!(!hops_are_sound(&hops([8, 9, 9, 9, 9, 9]), u64::MAX));
}

#[test]
fn a_set_of_leaf_sizes_has_what_was_put_into_it() {
    let hop = |number| Hop::new(number).unwrap();
    let hops = |sizes: LeafSizes| {
        let all = (0..MAX_HOPS as u8).filter(|&number| sizes.contains(hop(number)));
        all.collect::<Vec<_>>()
    };
    assert_eq!(hops(LeafSizes::ALL), [0, 1, 2, 3, 4, 5]);
    assert_eq!(hops(LeafSizes::at(hop(3))), [3]);
    assert_eq!(hops(LeafSizes::smallest::<V1>()), [4]);
    assert_eq!(hops(LeafSizes::smallest::<Gaudi2Pmmu>()), [5]);
    let both = LeafSizes::at(hop(3)).or(LeafSizes::at(hop(4)));
    assert_eq!(hops(both), [3, 4]);
    assert_eq!(hops(both.or(LeafSizes::at(hop(3)))), [3, 4]);
}

#[test]
fn a_hop_with_leaves_tells_their_bytes_and_any_other_none() {
    fn of<F: Format>() -> Vec<Option<u64>> {
        let hops = (0..MAX_HOPS as u8).filter_map(Hop::new);
        hops.map(leaf_bytes::<F>).collect()
    }
    // Facts 2.1, and 2.6 for a page of scrambled addresses.
    let (page, large) = (Some(0x1000), Some(0x20_0000));
    assert_eq!(of::<V1>(), [None, None, None, large, page, None]);
    let hmmu = of::<Gaudi2Hmmu<6>>();
    assert_eq!(hmmu.iter().flatten().last(), Some(&0x3000_0000));
}
