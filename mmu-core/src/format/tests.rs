use super::*;

fn indices<F: Format>(address: u64) -> Vec<usize> {
    let walk = F::walk_address(DeviceAddr::new(address)).expect("the format translates it");
    F::HOPS.iter().map(|hop| hop.index(walk)).collect()
}

#[test]
fn v1_indices_are_those_of_the_hardware() {
    // Facts 2.8.
    assert_eq!(indices::<V1>(0x1_0000_0000_0000), [1, 0, 0, 0, 0]);
    assert_eq!(
        indices::<V1>(0x3_FF7F_FFFF_F000),
        [3, 0x1FE, 0x1FF, 0x1FF, 0x1FF]
    );
    assert_eq!(indices::<V1>(0x8_0000_0000)[..4], [0, 0, 0x20, 0]);
    assert_eq!(indices::<V1>(0x1F_FFE0_0000)[..4], [0, 0, 0x7F, 0x1FF]);
    assert_eq!(indices::<V1>(0x80_0000_0000), [0, 1, 0, 0, 0]);
    assert_eq!(indices::<V1>(0x2_7FC0_0000_0000)[..4], [2, 0xFF, 0x100, 0]);
    assert_eq!(
        indices::<V1>(0x1_2345_6789_A000),
        [1, 0x46, 0x115, 0x13C, 0x9A]
    );
}

#[test]
fn gaudi2_pmmu_indices_are_those_of_the_hardware() {
    // Facts 2.8.
    assert_eq!(
        indices::<Gaudi2Pmmu>(0xFFF0_0000_0000_0000),
        [0x7F, 0x1F0, 0, 0, 0, 0]
    );
    assert_eq!(
        indices::<Gaudi2Pmmu>(0xFFF0_7FFF_FFFF_F000),
        [0x7F, 0x1F0, 0xFF, 0x1FF, 0x1FF, 0x1FF]
    );
    assert_eq!(
        indices::<Gaudi2Pmmu>(0xFFF0_1234_5678_9000),
        [0x7F, 0x1F0, 0x24, 0xD1, 0xB3, 0x189]
    );
    assert_eq!(
        indices::<Gaudi2Pmmu>(0xFFF0_8000_0000_0000)[..5],
        [0x7F, 0x1F0, 0x100, 0, 0]
    );
    assert_eq!(
        indices::<Gaudi2Pmmu>(0xFFF0_77FF_FFFF_0000),
        [0x7F, 0x1F0, 0xEF, 0x1FF, 0x1FF, 0x1F0]
    );
    assert_eq!(
        indices::<Gaudi2Pmmu64K>(0xFFF0_1234_5678_0000),
        [0xFF, 0xF0, 0x12, 0x34, 0x56, 0x78]
    );
}

#[test]
fn gaudi2_scrambling_is_that_of_the_hardware() {
    // Facts 2.8: raw, scrambled.
    let six = [
        (0x1001_0018_0000_0000, 0x1001_0020_0000_0000),
        (0x1001_0018_3000_0000, 0x1001_0020_4000_0000),
        (0x1001_0077_D000_0000, 0x1001_009F_C000_0000),
        (0x1001_0078_0000_0000, 0x1001_00A0_0000_0000),
        (0x1001_0018_1234_5678, 0x1001_0020_1834_5678),
        (0x1001_0000_3000_0000, 0x1001_0000_4000_0000),
        (0x1001_0017_D000_0000, 0x1001_001F_C000_0000),
        (0x1001_0018_02FF_FFF8, 0x1001_0020_02FF_FFF8),
        (0x1001_0018_2FFF_FFF8, 0x1001_0020_3EFF_FFF8),
    ];
    let five = [
        (0x1001_0014_0000_0000, 0x1001_0020_0000_0000),
        (0x1001_0014_2800_0000, 0x1001_0020_4000_0000),
        (0x1001_0014_1234_5678, 0x1001_0020_1CB4_5678),
        (0x1001_0000_2800_0000, 0x1001_0000_4000_0000),
        (0x1001_0013_D800_0000, 0x1001_001F_C000_0000),
        (0x1001_0014_027F_FFF8, 0x1001_0020_027F_FFF8),
        (0x1001_0014_27FF_FFF8, 0x1001_0020_3E7F_FFF8),
    ];
    for (raw, scrambled) in six {
        assert_eq!(Gaudi2Hmmu::<6>::scramble(raw), Some(scrambled), "{raw:#x}");
        assert_eq!(
            Gaudi2Hmmu::<6>::descramble(scrambled),
            Some(raw),
            "{raw:#x}"
        );
    }
    for (raw, scrambled) in five {
        assert_eq!(Gaudi2Hmmu::<5>::scramble(raw), Some(scrambled), "{raw:#x}");
        assert_eq!(
            Gaudi2Hmmu::<5>::descramble(scrambled),
            Some(raw),
            "{raw:#x}"
        );
    }
    assert_eq!(
        indices::<Gaudi2Hmmu<6>>(0x1001_0018_0000_0000),
        [8, 1, 0, 0x80]
    );
    assert_eq!(
        indices::<Gaudi2Hmmu<6>>(0x1001_0018_3000_0000),
        [8, 1, 0, 0x81]
    );
    assert_eq!(
        indices::<Gaudi2Hmmu<6>>(0x1001_0077_D000_0000),
        [8, 1, 1, 0x7F]
    );
    assert_eq!(
        indices::<Gaudi2Hmmu<6>>(0x1001_0078_0000_0000),
        [8, 1, 1, 0x80]
    );
    assert_eq!(
        indices::<Gaudi2Hmmu<5>>(0x1001_0014_0000_0000),
        [8, 1, 0, 0x80]
    );
    assert_eq!(
        indices::<Gaudi2Hmmu<5>>(0x1001_0014_2800_0000),
        [8, 1, 0, 0x81]
    );
}

#[test]
fn every_dram_page_before_the_fold_scrambles_there_and_back_and_none_after_it_does() {
    fn check<const STACKS: u64>(first: u64, pages: u64, before_fold: u64) {
        // Facts 2.5 and SC-6; flat hop-3 index 0x80 + k, facts 14 nr 6.
        let page = Gaudi2Hmmu::<STACKS>::PAGE_BYTES;
        for k in 0..pages {
            let raw = first + k * page;
            let scrambled = Gaudi2Hmmu::<STACKS>::scramble(raw);
            if k < before_fold {
                let scrambled = scrambled.expect("not folded");
                assert_eq!(scrambled, 0x1001_0000_0000_0000 + ((0x80 + k) << 30));
                assert_eq!(Gaudi2Hmmu::<STACKS>::descramble(scrambled), Some(raw));
            } else {
                assert_eq!(scrambled, None, "page {k}");
            }
        }
    }
    check::<6>(0x1001_0018_0000_0000, 262_048, 262_016);
    check::<5>(0x1001_0014_0000_0000, 262_064, 262_016);
}

#[test]
fn the_unused_tail_of_a_slot_has_no_raw_address() {
    assert_eq!(Gaudi2Hmmu::<6>::descramble(0x1001_0020_0300_0000), None);
    assert_eq!(Gaudi2Hmmu::<5>::descramble(0x1001_0020_0280_0000), None);
    assert_eq!(Gaudi2Hmmu::<6>::descramble(0x1000_FFFF_FFFF_FFFF), None);
}

#[test]
fn v1_refuses_the_address_bits_that_the_hardware_would_ignore() {
    assert_eq!(
        V1::walk_address(DeviceAddr::new((1 << 50) - 1)),
        Some((1 << 50) - 1)
    );
    assert_eq!(V1::walk_address(DeviceAddr::new(1 << 50)), None);
}

#[test]
fn x86_64_translates_canonical_addresses_only() {
    type X = X86_64<4>;
    assert_eq!(
        X::walk_address(DeviceAddr::new(0x7FFF_FFFF_FFFF)),
        Some(0x7FFF_FFFF_FFFF)
    );
    assert_eq!(X::walk_address(DeviceAddr::new(0x8000_0000_0000)), None);
    assert_eq!(
        X::walk_address(DeviceAddr::new(0xFFFF_8000_0000_0000)),
        Some(0x8000_0000_0000)
    );
    assert_eq!(
        X::walk_address(DeviceAddr::new(u64::MAX)),
        Some(0xFFFF_FFFF_FFFF)
    );
    let across = AddrRange::new(DeviceAddr::new(0x7FFF_FFFF_F000), 0x2000).unwrap();
    assert_eq!(X::walk_range(across), None);
    let around = AddrRange::new(DeviceAddr::new(0x1000), u64::MAX - 0x1000).unwrap();
    assert_eq!(X::walk_range(around), None);
    assert_eq!(X::walk_hull(around), Some((0x1000, 0xFFFF_FFFF_FFFE)));
    let hole = AddrRange::new(DeviceAddr::new(0x8000_0000_0000), 0x1000).unwrap();
    assert_eq!(X::walk_hull(hole), None);
}

/// Whether a link is what the table entry of address zero and the address add up to, and is read as
/// the same link when hardware has walked through it.
fn links_are_sums<F: Format>() {
    for (hop, _) in F::HOPS.iter().enumerate().rev().skip(1) {
        let hop = Hop::from_index(hop);
        let empty = F::table_entry(hop, 0);
        assert_eq!(empty & !0xFFF, 0);
        for address in (12..52).map(|bit| 1 << bit).chain([0xF_FFFF_FFFF_F000]) {
            let entry = F::table_entry(hop, address);
            assert_eq!(entry, empty + address, "{hop}");
            assert_eq!(entry & F::WALK_MARKS, 0);
            let walked = F::decode(hop, entry | F::WALK_MARKS);
            assert_eq!(walked, Entry::Table { address });
        }
    }
}

#[test]
fn a_link_is_the_sum_of_its_mark_and_the_address() {
    links_are_sums::<V1>();
    links_are_sums::<Gaudi2Pmmu>();
    links_are_sums::<Gaudi2Pmmu64K>();
    links_are_sums::<Gaudi2Hmmu<6>>();
    links_are_sums::<X86_64<4>>();
    links_are_sums::<X86_64<5>>();
}

/// The addresses around every place where a table of a format begins or ends, be they in its range
/// or not.
fn addresses_at_edges<F: Format>() -> Vec<u64> {
    let spans = F::HOPS
        .iter()
        .flat_map(|hop| [hop.entry_span(), hop.table_mask()]);
    let spans = spans.chain([
        F::LAST_WALK_ADDRESS,
        1 << 47,
        1 << 48,
        1 << 50,
        0x1001 << 48,
    ]);
    let near = |at: u64| {
        [
            at.wrapping_sub(1),
            at,
            at.wrapping_add(1),
            at.wrapping_neg(),
        ]
    };
    spans
        .flat_map(near)
        .flat_map(|at| {
            [
                at,
                at ^ 1 << 63,
                at ^ 1 << 50,
                at | 0xFFFF << 48,
                at.wrapping_mul(3),
            ]
        })
        .collect()
}

fn keys_tell_tables_apart<F: Format>() {
    let addresses = addresses_at_edges::<F>();
    for &one in &addresses {
        let walk = F::walk_address(DeviceAddr::new(one));
        let key = F::key(DeviceAddr::new(one));
        let Some(walk) = walk else { continue };
        assert_eq!(key, Some(F::walk_key(walk)), "{}: {one:#x}", F::NAME);
        let key = key.unwrap();
        assert_eq!(F::device_address(key), F::device_address(walk));
        for hop in [deepest::<F>() - 1, deepest::<F>()] {
            let geometry = geometry_of::<F>(hop);
            assert_eq!(geometry.index(key), geometry.index(walk));
            assert_eq!(key & geometry.offset_mask(), walk & geometry.offset_mask());
            for &other in &addresses {
                let other = DeviceAddr::new(other);
                let same_table = F::walk_address(other)
                    .is_some_and(|other| geometry.prefix(other) == geometry.prefix(walk));
                let same_prefix = F::key(other)
                    .is_some_and(|other| geometry.prefix(other) == geometry.prefix(key));
                assert_eq!(same_prefix, same_table, "{}: {one:#x}, {other}", F::NAME);
            }
        }
    }
}

#[test]
fn the_key_of_an_address_tells_its_table_and_that_it_can_be_translated() {
    keys_tell_tables_apart::<V1>();
    keys_tell_tables_apart::<Gaudi2Pmmu>();
    keys_tell_tables_apart::<Gaudi2Pmmu64K>();
    keys_tell_tables_apart::<Gaudi2Hmmu<6>>();
    keys_tell_tables_apart::<Gaudi2Hmmu<5>>();
    keys_tell_tables_apart::<X86_64<4>>();
    keys_tell_tables_apart::<X86_64<5>>();
}
