//! Each check, with numbers that are just right and just wrong.

use super::*;
use crate::profile::{Asic, Gaudi};
use crate::profile::{DefaultPage, Gaudi2, Goya, PrivilegedWindows, device};
use mmu_core::{BusAddr, Run};

const PAGE: u64 = 0x1000;

/// Pages `from` up to, but not including, `to`.
const fn pages(from: u64, to: u64) -> AddrRange<DeviceAddr> {
    device(from * PAGE, to * PAGE)
}

/// The range of pages 16 to 31.
const fn range_with(
    fixed: &'static [AddrRange<DeviceAddr>],
    reserved: &'static [AddrRange<DeviceAddr>],
) -> VaRange {
    VaRange {
        range: pages(16, 32),
        page_bytes: PAGE,
        large_bytes: 2 * PAGE,
        fixed,
        reserved,
    }
}

#[test]
fn ranges_that_touch_are_disjoint_and_those_that_share_an_address_are_not() {
    assert_eq!(last(pages(2, 3)), 0x2FFF);
    for (a, b, apart) in [
        (pages(1, 2), pages(2, 3), true),
        (pages(1, 3), pages(2, 3), false),
        (pages(1, 4), pages(2, 3), false),
        (pages(2, 3), pages(2, 3), false),
        (device(0, 0x1001), pages(1, 2), false),
    ] {
        assert_eq!(disjoint(a, b), apart, "{a} {b}");
        assert_eq!(disjoint(b, a), apart, "{b} {a}");
    }
}

#[test]
fn a_range_is_inside_one_that_has_both_its_ends() {
    let outer = pages(2, 6);
    assert!(inside(outer, outer));
    assert!(inside(pages(3, 4), outer));
    assert!(!inside(pages(1, 6), outer));
    assert!(!inside(pages(2, 7), outer));
    assert!(!inside(pages(6, 7), outer));
    assert!(!inside(pages(0, 2), outer));
}

#[test]
fn pages_are_counted_from_zero_or_where_they_are_no_power_of_two_from_the_start() {
    let of = range_with(&[], &[]);
    assert!(whole_pages(pages(17, 18), &of));
    assert!(!whole_pages(device(0x1_1800, 0x1_2800), &of));
    assert!(!whole_pages(device(0x1_1000, 0x1_1800), &of));
    let mut of = of;
    of.range = device(0x1_0000, 0x1_6000);
    of.page_bytes = 0x3000;
    assert!(whole_pages(device(0x1_3000, 0x1_6000), &of));
    assert!(!whole_pages(device(0x1_2000, 0x1_5000), &of));
    assert!(!whole_pages(device(0x1_3000, 0x1_5000), &of));
}

#[test]
fn windows_are_whole_pages_of_their_range_of_which_no_two_overlap() {
    let fit = |windows: &[AddrRange<DeviceAddr>]| windows_fit(windows, &range_with(&[], &[]));
    assert!(fit(&[]));
    assert!(fit(&[pages(16, 17), pages(17, 18), pages(31, 32)]));
    assert!(!fit(&[pages(15, 17)]));
    assert!(!fit(&[pages(31, 33)]));
    assert!(!fit(&[device(0x1_0800, 0x1_1800)]));
    // Each pair of three.
    let (a, b, c) = (pages(16, 18), pages(20, 22), pages(24, 26));
    assert!(fit(&[a, b, c]));
    assert!(!fit(&[a, b, a]));
    assert!(!fit(&[a, a, b]));
    assert!(!fit(&[a, b, b]));
}

#[test]
fn a_range_is_sound_with_windows_that_fit_and_keep_out_of_each_other() {
    let sound = range_with(
        &const { [pages(16, 18)] },
        &const { [pages(18, 20), pages(20, 22)] },
    );
    assert!(range_is_sound(&sound));
    let change = |change: fn(&mut VaRange)| {
        let mut range = sound;
        change(&mut range);
        range_is_sound(&range)
    };
    assert!(!change(|range| range.page_bytes = 0));
    assert!(!change(|range| range.large_bytes = 0));
    assert!(!change(|range| range.large_bytes = 3 * PAGE / 2));
    assert!(!change(|range| range.range = device(0x1_0000, 0x1_F800)));
    assert!(!change(|range| range.fixed = &const { [pages(15, 17)] }));
    assert!(!change(|range| range.reserved = &const { [pages(31, 33)] }));
    assert!(!change(|range| range.fixed = &const { [pages(18, 19)] }));
    assert!(!change(|range| range.fixed = &const { [pages(21, 22)] }));
    assert!(!change(
        |range| range.fixed = &const { [pages(30, 32), pages(21, 22)] }
    ));
}

/// Whether the numbers of an ASIC are still sound after a change.
fn still_sound<A: Asic>(change: fn(&mut Profile)) -> bool {
    let mut profile = A::PROFILE;
    assert!(is_sound(&profile));
    change(&mut profile);
    is_sound(&profile)
}

#[test]
fn the_ranges_of_a_profile_overlap_neither_each_other_nor_a_privileged_window() {
    fn windows(profile: &mut Profile, change: fn(&mut PrivilegedWindows)) {
        change(profile.privileged.as_mut().unwrap());
    }
    assert!(!still_sound::<Goya>(|goya| {
        windows(goya, |windows| {
            windows.firmware = Goya::PROFILE.host.range;
        });
    }));
    assert!(!still_sound::<Goya>(|goya| {
        windows(goya, |windows| {
            windows.processor = Goya::PROFILE.host.range;
        });
    }));
    assert!(!still_sound::<Goya>(|goya| {
        windows(goya, |windows| {
            windows.firmware = device(0x8_0000_0000, 0x8_0020_0000);
        });
    }));
    assert!(!still_sound::<Goya>(|goya| goya.host.page_bytes = 0));
    assert!(!still_sound::<Goya>(|goya| {
        goya.dram.mapped_at.as_mut().unwrap().range = goya.host.range;
    }));
    assert!(!still_sound::<Goya>(|goya| {
        goya.dram.mapped_at.as_mut().unwrap().page_bytes = 0;
    }));

    type Two = Gaudi2<6>;
    fn large(profile: &mut Profile) -> &mut VaRange {
        match &mut profile.large_host {
            LargeHost::Own(range) => range,
            LargeHost::Shared => panic!("Gaudi2 has one of its own"),
        }
    }
    assert!(!still_sound::<Two>(|two| large(two).page_bytes = 0));
    assert!(!still_sound::<Two>(|two| {
        large(two).reserved = &[];
        large(two).range = device(0xFFF0_7FFF_FFE0_0000, 0xFFF0_8000_0000_0000);
    }));
    assert!(!still_sound::<Two>(|two| {
        let range = large(two).range;
        two.privileged = Some(PrivilegedWindows {
            firmware: range,
            processor: device(0, 0x1000),
        });
    }));
    assert!(!still_sound::<Two>(|two| {
        let range = *large(two);
        let dram = two.dram.mapped_at.as_mut().unwrap();
        (dram.range, dram.reserved) = (range.range, &[]);
        dram.page_bytes = range.page_bytes;
        dram.large_bytes = range.large_bytes;
    }));
    assert!(!still_sound::<Two>(|two| {
        let range = two.dram.mapped_at.unwrap().range;
        two.privileged = Some(PrivilegedWindows {
            firmware: device(0, 0x1000),
            processor: range,
        });
    }));
}

#[test]
fn device_memory_begins_with_its_tables_and_ends_with_a_whole_page() {
    const fn bytes(start: u64, len: u64) -> Run {
        match AddrRange::const_bus(BusAddr::new(start), len) {
            Some(run) => run,
            None => panic!("not empty"),
        }
    }
    // Gaudi's memory begins at zero, Gaudi2's does not: distances are not addresses there.
    assert!(still_sound::<Gaudi>(|_| ()));
    assert!(!still_sound::<Goya>(|goya| goya.max_asid = 0));
    assert!(still_sound::<Goya>(|goya| goya.max_asid = Asid::LIMIT));
    assert!(!still_sound::<Goya>(|goya| goya.max_asid = Asid::LIMIT + 1));
    // One table too few for the roots.
    assert!(still_sound::<Goya>(|goya| {
        goya.device_tables = bytes(0x1000_0000, 2 * PAGE);
    }));
    assert!(!still_sound::<Goya>(|goya| {
        goya.device_tables = bytes(0x1000_0000, 2 * PAGE - 1);
    }));
    assert!(!still_sound::<Gaudi2<6>>(|two| {
        two.device_tables = bytes(two.dram.memory.start().get() - PAGE, 2 * PAGE);
    }));
    // Up to the first byte that users may have, and not beyond.
    assert!(still_sound::<Goya>(|goya| {
        goya.device_tables = bytes(0x1000_0000, 0x1000_0000);
    }));
    assert!(!still_sound::<Goya>(|goya| {
        goya.device_tables = bytes(0x1000_0000, 0x1000_0001);
    }));
    // Users have at least a page.
    assert!(still_sound::<Goya>(|goya| {
        goya.dram.memory = bytes(0, 0x2020_0000);
    }));
    assert!(!still_sound::<Goya>(|goya| {
        goya.dram.memory = bytes(0, 0x2000_0000);
    }));
    assert!(!still_sound::<Goya>(|goya| {
        goya.dram.memory = bytes(0, 0x2030_0000);
    }));
    assert!(!still_sound::<Goya>(|goya| {
        goya.dram.user_start = BusAddr::new(0x2010_0000);
    }));
    // Pages are counted from the start of the memory.
    assert!(still_sound::<Goya>(|goya| {
        goya.dram.memory = bytes(0x10_0000, 0x4000_0000);
        goya.dram.user_start = BusAddr::new(0x2010_0000);
    }));
}

#[test]
fn a_default_page_has_the_hop_whose_leaves_have_its_size() {
    use mmu_core::format::V1;
    let default = Goya::PROFILE.dram.default_page.unwrap();
    let hop = |bytes| {
        let page = AddrRange::const_bus(BusAddr::new(0), bytes).unwrap();
        let default = DefaultPage { page, ..default };
        default.hop::<V1>().map(mmu_core::Hop::number)
    };
    assert_eq!(hop(4096), Some(4));
    assert_eq!(hop(2 << 20), Some(3));
    // An entry of hop 2 spans as much, but is no leaf.
    assert_eq!(hop(1 << 30), None);
    assert_eq!(hop(8192), None);
}

/// Facts 2.4 (hop pool).
#[test]
fn gaudi2_begins_with_the_tables_in_host_memory_that_its_driver_takes() {
    assert_eq!(Gaudi2::<6>::PROFILE.host_table_bytes, Some(0x1000_0000));
    assert_eq!(Gaudi2::<5>::PROFILE.host_table_bytes, Some(0x1000_0000));
    assert_eq!(Goya::PROFILE.host_table_bytes, None);
}
