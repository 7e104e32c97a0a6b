//! The numbers of facts 2.2 to 2.6 and 5.1, as they are printed there.

use mmu_core::Hop;
use mmu_core::format::{Gaudi2Hmmu, leaf_bytes};

use super::*;

/// First and last address, as facts 5.1 prints ranges.
fn ends(range: AddrRange<DeviceAddr>) -> (u64, u64) {
    (range.start().get(), range.last().get())
}

#[test]
fn goya_has_the_ranges_of_its_driver() {
    let goya = Goya::PROFILE;
    assert_eq!(
        ends(goya.host.range),
        (0x1_0000_0000_0000, 0x3_FF7F_FFFF_FFFF)
    );
    let dram = goya.dram.mapped_at.unwrap();
    assert_eq!(ends(dram.range), (0x8_0000_0000, 0x1F_FFFF_FFFF));
    assert_eq!(dram.page_bytes, 0x20_0000);
    assert_eq!(goya.large_host_range().range, goya.host.range);
    assert_eq!(goya.host.large_bytes, 0x20_0000);
    assert_eq!(goya.device_tables.len(), 0xFC0_0000);
    // Nominal free tables.
    assert_eq!(
        (goya.device_tables.len() - goya.root_tables().unwrap().len()) / 4096,
        64510
    );
    let default = goya.dram.default_page.unwrap();
    // Facts DP-2.
    let range = (default.range.start().get(), default.range.len());
    assert_eq!(range, (0, 128 << 30));
    let hop = default.hop::<mmu_core::format::V1>();
    assert_eq!(hop.map(mmu_core::format::Hop::number), Some(3));
    let (default_page, filler) = (default.page, default.fill);
    assert_eq!(
        (default_page.start().get(), default_page.len(), filler),
        (0x1FC0_0000, 0x20_0000, 0x99)
    );
    // Tables, default page, cache management, user memory: one after the other.
    assert_eq!(goya.device_tables.end(), Some(default_page.start()));
    assert_eq!(default_page.end(), Some(Goya::CACHE_MANAGEMENT.start()));
    assert!(Goya::CACHE_MANAGEMENT.last() < goya.dram.user_start);
    let windows = goya.privileged.unwrap();
    assert_eq!(ends(windows.firmware), (0, 0xFFF_FFFF));
    assert_eq!(ends(windows.processor), (0x80_0000_0000, 0x80_001F_FFFF));
}

#[test]
fn gaudi_gets_the_page_back_that_its_driver_loses() {
    let gaudi = Gaudi::PROFILE;
    // Facts 5.1 says ...FFFFEFFF, a page less.
    assert_eq!(
        ends(gaudi.host.range),
        (0x1_0000_0000_0000, 0x2_7FBF_FFFF_EFFF + 0x1000)
    );
    assert_eq!(gaudi.dram.mapped_at, None);
    assert_eq!(gaudi.dram.memory.len(), 0x8_0000_0000);
    assert_eq!(
        (gaudi.device_tables.len() - gaudi.root_tables().unwrap().len()) / 4096,
        48894
    );
    assert_eq!(
        gaudi.device_tables.end(),
        Some(Gaudi::CACHE_MANAGEMENT.start())
    );
    assert_eq!(Gaudi::CACHE_MANAGEMENT.len(), 0x10_0000);
}

struct Stacks {
    size: u64,
    page: u64,
    user: u64,
    start: u64,
    fold: u64,
    tables: u64,
}

fn gaudi2_is<const STACKS: u64>(wanted: Stacks) {
    let gaudi2 = Gaudi2::<STACKS>::PROFILE;
    let dram = gaudi2.dram;
    let mapped = dram.mapped_at.unwrap();
    assert_eq!(dram.memory.start().get(), 0x1001_0000_0000_0000);
    assert_eq!(dram.memory.len(), wanted.size);
    assert_eq!(dram.page_bytes, wanted.page);
    assert_eq!(mapped.page_bytes, wanted.page);
    assert_eq!(dram.user_start.get(), wanted.user);
    assert_eq!(dram.user_memory().unwrap().len() / wanted.page, 127);
    assert_eq!(ends(mapped.range), (wanted.start, wanted.fold - 1));
    assert_eq!(gaudi2.device_tables.start().get(), wanted.tables);
    let roots = gaudi2.root_tables().unwrap();
    assert_eq!((gaudi2.device_tables.len() - roots.len()) / 4096, 254);

    // The range ends with the last page that the format can translate.
    type Hmmu<const STACKS: u64> = Gaudi2Hmmu<STACKS>;
    let last_page = wanted.fold - wanted.page;
    assert_eq!(
        Hmmu::<STACKS>::scramble(last_page),
        Some(0x1001_FFFF_C000_0000)
    );
    assert_eq!(Hmmu::<STACKS>::scramble(wanted.fold), None);
}

#[test]
fn gaudi2_follows_the_number_of_its_stacks() {
    gaudi2_is::<6>(Stacks {
        size: 0x18_0000_0000,
        page: 0x3000_0000,
        user: 0x1001_0000_3000_0000,
        start: 0x1001_0018_0000_0000,
        fold: 0x1001_C000_0000_0000,
        tables: 0x1001_0000_2FC0_0000,
    });
    gaudi2_is::<5>(Stacks {
        size: 0x14_0000_0000,
        page: 0x2800_0000,
        user: 0x1001_0000_2800_0000,
        start: 0x1001_0014_0000_0000,
        fold: 0x1001_A000_0000_0000,
        tables: 0x1001_0000_27C0_0000,
    });
}

#[test]
fn gaudi2_puts_small_and_large_host_pages_into_different_ranges() {
    let gaudi2 = Gaudi2::<6>::PROFILE;
    let large = gaudi2.large_host_range();
    assert_eq!(
        ends(gaudi2.host.range),
        (0xFFF0_0000_0000_0000, 0xFFF0_7FFF_FFFF_FFFF)
    );
    assert_eq!(
        ends(large.range),
        (0xFFF0_8000_0000_0000, 0xFFF0_FFFF_FFFF_FFFF)
    );
    assert_eq!(
        (gaudi2.host.page_bytes, large.page_bytes),
        (4096, 0x20_0000)
    );
    let windows: std::vec::Vec<_> = [gaudi2.host.fixed, gaudi2.host.reserved, large.reserved]
        .concat()
        .into_iter()
        .map(ends)
        .collect();
    assert_eq!(
        windows,
        [
            (0xFFF0_77FF_FFFF_0000, 0xFFF0_77FF_FFFF_FFFF),
            (0xFFF0_7800_0000_0000, 0xFFF0_7FFF_FFFF_FFFF),
            (0xFFF0_F800_0000_0000, 0xFFF0_FFFF_FFFF_FFFF),
        ]
    );
}

#[test]
fn the_hint_window_of_device_memory_is_rounded_outwards_to_whole_pages() {
    fn check<const STACKS: u64>() {
        let mapped = Gaudi2::<STACKS>::PROFILE.dram.mapped_at.unwrap();
        let [window] = mapped.reserved else {
            panic!("one window")
        };
        let (start, last) = ends(*window);
        let (first_wanted, last_wanted) = (0x1001_5000_0000_0000, 0x1001_6FFF_FFFF_FFFF);
        assert!(start <= first_wanted && first_wanted - start < mapped.page_bytes);
        assert!(last >= last_wanted && last - last_wanted < mapped.page_bytes);
    }
    check::<5>();
    check::<6>();
}

#[test]
fn pages_and_large_leaves_are_leaves_of_the_formats() {
    fn sizes<F: Format>() -> std::vec::Vec<u64> {
        (0..6)
            .filter_map(|hop| leaf_bytes::<F>(Hop::new(hop)?))
            .collect()
    }
    fn check<A: Asic>() {
        let profile = A::PROFILE;
        for range in [&profile.host, profile.large_host_range()] {
            assert!(sizes::<A::HostFormat>().contains(&range.page_bytes));
            assert!(sizes::<A::HostFormat>().contains(&range.large_bytes));
        }
        if let Some(range) = profile.dram.mapped_at {
            assert!(sizes::<A::DramFormat>().contains(&range.page_bytes));
        }
    }
    check::<Goya>();
    check::<Gaudi>();
    check::<Gaudi2<5>>();
    check::<Gaudi2<6>>();
}

#[test]
fn the_device_sees_host_memory_where_its_window_is() {
    let bus = BusAddr::new;
    let goya = Goya::PROFILE;
    assert_eq!(goya.device_view(bus(0x1000)), Some(bus(0x80_0000_1000)));
    let last = (1 << 48) - 1;
    assert!(goya.device_view(bus(last)).is_some());
    assert_eq!(goya.device_view(bus(last + 1)), None);
    let gaudi2 = Gaudi2::<6>::PROFILE;
    assert_eq!(gaudi2.device_view(bus(u64::MAX)), Some(bus(u64::MAX)));
}

/// Windows that go wrong must be seen to: a check that accepts everything checks nothing.
#[test]
fn numbers_that_do_not_fit_together_are_refused() {
    let good = Goya::PROFILE;
    assert!(check::is_sound(&good));
    let mut bad = good;
    bad.host.range = device(0x10_0000_0000, 0x3_FF80_0000_0000);
    assert!(!check::is_sound(&bad), "overlaps device memory and windows");
    let mut bad = good;
    bad.host.page_bytes = 3 << 20;
    assert!(!check::is_sound(&bad), "large leaves are no whole pages");
    let mut bad = good;
    bad.dram.user_start = BusAddr::new(0x1000_0000);
    assert!(!check::is_sound(&bad), "users may have the tables");
    let mut bad = good;
    bad.max_asid = 1025;
    assert!(!check::is_sound(&bad), "ten bits");
    let mut bad = Gaudi2::<6>::PROFILE;
    bad.host.reserved = bad.host.fixed;
    assert!(!check::is_sound(&bad), "one window twice");
    bad.host.reserved = &const { [device(0xFFF0_0000_0000_0800, 0xFFF0_0000_0000_1000)] };
    assert!(!check::is_sound(&bad), "half a page");
}
