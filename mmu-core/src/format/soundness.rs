//! The check of a format's constants, with numbers that are just right and just wrong.

use super::*;

/// Declares formats that are nothing but geometry, and tells of each whether it is sound.
macro_rules! sound {
    ($last:expr, [$($hop:expr),* $(,)?]) => {{
        #[derive(Clone, Copy, Debug)]
        struct Shape;

        impl Format for Shape {
            type Attributes = ();
            const NAME: &'static str = "a shape";
            const HOPS: &'static [HopGeometry] = &[$($hop),*];
            const LAST_WALK_ADDRESS: u64 = $last;

            fn table_entry(_: Hop, address: u64) -> u64 {
                address
            }

            fn leaf_entry(_: Hop, address: u64, (): ()) -> u64 {
                address
            }

            fn decode(_: Hop, _: u64) -> Entry<()> {
                Entry::Empty
            }
        }

        geometry_is_sound::<Shape>()
    }};
}

use HopGeometry as Hops;

const GIB: u64 = 1 << 30;

#[test]
fn a_format_has_from_two_to_six_hops_of_which_the_last_has_leaves() {
    assert!(sound!(GIB - 1, [Hops::tables(21, 9), Hops::leaves(12, 9)]));
    assert!(!sound!((1 << 21) - 1, [Hops::leaves(12, 9)]));
    assert!(!sound!(GIB - 1, [Hops::tables(21, 9), Hops::tables(12, 9)]));
    assert!(!sound!(GIB - 1, [Hops::leaves(21, 9), Hops::tables(12, 9)]));
    assert!(sound!(
        (1 << 18) - 1,
        [
            Hops::tables(17, 1),
            Hops::tables(16, 1),
            Hops::tables(15, 1),
            Hops::tables(14, 1),
            Hops::tables(13, 1),
            Hops::leaves(12, 1),
        ]
    ));
    assert!(!sound!(
        (1 << 19) - 1,
        [
            Hops::tables(18, 1),
            Hops::tables(17, 1),
            Hops::tables(16, 1),
            Hops::tables(15, 1),
            Hops::tables(14, 1),
            Hops::tables(13, 1),
            Hops::leaves(12, 1),
        ]
    ));
}

#[test]
fn a_hop_has_at_least_one_index_bit_at_most_a_table_of_slots_and_no_leaf_below_a_page() {
    // At the first hop.
    assert!(!sound!(0, [Hops::tables(21, 0), Hops::leaves(12, 9)]));
    assert!(!sound!(
        GIB - 1,
        [Hops::tables(21, 10), Hops::leaves(12, 9)]
    ));
    // At the last.
    assert!(!sound!(0, [Hops::tables(12, 9), Hops::leaves(12, 0)]));
    assert!(!sound!(
        GIB - 1,
        [Hops::tables(22, 9), Hops::leaves(12, 10)]
    ));
    assert!(!sound!(
        (1 << 29) - 1,
        [Hops::tables(20, 9), Hops::leaves(11, 9)]
    ));
    assert!(sound!(
        (1 << 31) - 1,
        [Hops::tables(22, 9), Hops::leaves(13, 9)]
    ));
}

#[test]
fn the_index_bits_of_adjacent_hops_adjoin() {
    // A gap, and an overlap.
    assert!(!sound!(GIB - 1, [Hops::tables(22, 9), Hops::leaves(12, 9)]));
    assert!(!sound!(GIB - 1, [Hops::tables(20, 9), Hops::leaves(12, 9)]));
    const LAST: u64 = 512 * GIB - 1;
    assert!(sound!(
        LAST,
        [
            Hops::tables(30, 9),
            Hops::leaves(21, 9),
            Hops::leaves(12, 9)
        ]
    ));
    // Between the first two of three, and between the last two.
    assert!(!sound!(
        LAST,
        [
            Hops::tables(31, 9),
            Hops::leaves(21, 9),
            Hops::leaves(12, 9)
        ]
    ));
    assert!(!sound!(
        LAST,
        [
            Hops::tables(30, 9),
            Hops::leaves(21, 9),
            Hops::leaves(13, 9)
        ]
    ));
}

#[test]
fn the_last_walk_address_is_one_that_the_hops_can_index() {
    assert!(!sound!(GIB, [Hops::tables(21, 9), Hops::leaves(12, 9)]));
    assert!(sound!(1, [Hops::tables(21, 9), Hops::leaves(12, 9)]));
    // All 64 bits, below which every address is.
    assert!(sound!(
        u64::MAX,
        [
            Hops::tables(57, 7),
            Hops::tables(48, 9),
            Hops::tables(39, 9),
            Hops::tables(30, 9),
            Hops::tables(21, 9),
            Hops::leaves(12, 9),
        ]
    ));
    // More bits than an address has.
    assert!(!sound!(
        u64::MAX,
        [
            Hops::tables(57, 8),
            Hops::tables(48, 9),
            Hops::tables(39, 9),
            Hops::tables(30, 9),
            Hops::tables(21, 9),
            Hops::leaves(12, 9),
        ]
    ));
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
