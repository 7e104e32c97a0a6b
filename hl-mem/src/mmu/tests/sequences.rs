//! What a driver writes, and in which order.

use mmu_core::{BusAddr, Extent, Invalidate, Stale};

use super::super::{
    Gaudi2DramMmu, Gaudi2HostMmu, Gaudi2HostMmu64K, GaudiMmu, GoyaMmu, MmuControl, MmuError,
};
use super::{Access, Fake, PARKING, ROOT, Read, TIMEOUTS, Write, stale};
use crate::asid::Asid;

fn asid(number: u16) -> Asid {
    Asid::new(number).unwrap()
}

/// The privileged and the first user address space.
const BOTH: [u16; 2] = [0, 1];

fn goya(fake: &Fake) -> GoyaMmu<&Fake> {
    GoyaMmu::new(fake, TIMEOUTS, PARKING)
}

fn gaudi(fake: &Fake) -> GaudiMmu<&Fake> {
    GaudiMmu::new(fake, TIMEOUTS, PARKING)
}

fn host<const ASIDS: usize>(fake: &Fake) -> Gaudi2HostMmu<&Fake, ASIDS> {
    Gaudi2HostMmu::new(fake, TIMEOUTS, PARKING)
}

fn dram(fake: &Fake, functional: u16) -> Gaudi2DramMmu<&Fake, 6> {
    Gaudi2DramMmu::new(fake, TIMEOUTS, functional, PARKING).unwrap()
}

fn enabled<M: MmuControl>(mut mmu: M, fake: &Fake) -> M {
    mmu.enable().unwrap();
    fake.take_log();
    mmu
}

#[test]
fn goya_is_set_up_completely_before_it_is_enabled() {
    let fake = Fake::goya();
    fake.set(0x49_001C, 0b1100_0001);
    goya(&fake).enable().unwrap();
    let mut wanted = std::vec![
        Write(0x48_000C, 0),
        Read(0x48_000C),
        Write(0x49_0014, 0x1F_E000),
        Write(0x49_0018, 0),
        Read(0x49_001C),
        Write(0x49_001C, 0b1000_0001),
        Write(0x48_002C, 0xF),
    ];
    for number in BOTH {
        wanted.extend([
            Write(0x49_0004, 0x1_0000),
            Write(0x49_0008, 0),
            Write(0x49_0000, 0x8000_0000 | u32::from(number)),
            Read(0x49_0000),
        ]);
    }
    wanted.extend([
        Write(0x49_0034, 1),
        Read(0x49_0034),
        Write(0x48_000C, 1),
        Read(0x48_000C),
    ]);
    assert_eq!(fake.take_log(), wanted);
}

#[test]
fn gaudi_really_invalidates_before_it_is_enabled() {
    let fake = Fake::gaudi();
    gaudi(&fake).enable().unwrap();
    let mut wanted = std::vec![
        (0xC1_100C, 0),
        (0xC1_2014, 0x1B_F000),
        (0xC1_2018, 0),
        (0xC1_2050, 1),
        (0xC1_102C, 0xF),
        (0xC1_2024, 0x3_0440),
    ];
    for number in BOTH {
        wanted.extend([
            (0xC1_2004, u32::from(number)),
            (0xC1_2008, 0x1_0000),
            (0xC1_200C, 0),
            (0xC1_2000, 0x8000_0000),
        ]);
    }
    wanted.extend([
        (0xC1_203C, 3),
        (0xC1_2010, 1),
        (0xC1_203C, 2),
        (0xC1_2048, 0),
        (0xC1_100C, 1),
    ]);
    assert_eq!(fake.take_writes(), wanted);
}

#[test]
fn the_gaudi2_pmmu_is_set_up_completely_before_it_is_enabled() {
    let fake = Fake::gaudi2();
    fake.set(0x4D0_1024, 0x3F << 21 | 1 << 20 | 7);
    host::<2>(&fake).enable().unwrap();
    let mut wanted = std::vec![
        (0x4D0_000C, 0),
        (0x4D0_1028, 0),
        // Large indication kept; follower 5, last 5, large 4, small 5, first 0.
        (0x4D0_1024, 0x3F << 21 | 0x5_5450),
        (0x4D0_002C, 0x3_FFFF),
        (0x4D0_1034, 1),
        (0x4D0_006C, 0),
    ];
    for number in BOTH {
        wanted.extend([
            (0x4D0_1004, u32::from(number)),
            (0x4D0_1008, 0x1_0000),
            (0x4D0_100C, 0),
            (0x4D0_1000, 0x8000_0000),
        ]);
    }
    wanted.extend([(0x4D0_1034, 1), (0x4D0_000C, 1)]);
    assert_eq!(fake.take_writes(), wanted);
}

#[test]
fn hosts_with_64k_pages_get_hops_of_eight_bits() {
    let fake = Fake::gaudi2();
    fake.set(0x4D0_0070, 0x0020_0AFF);
    Gaudi2HostMmu64K::<_, 2>::new(&fake, TIMEOUTS, PARKING)
        .enable()
        .unwrap();
    assert_eq!(fake.get(0x4D0_0070), 0x0030_0A34);
}

#[test]
fn only_functional_hmmus_are_touched() {
    let fake = Fake::gaudi2();
    // Core 0 number 0, core 1 number 2, core 3 number 3.
    let functional = 1 | 1 << 6 | 1 << 15;
    let mut mmu = dram(&fake, functional);
    mmu.enable().unwrap();
    mmu.invalidate_all().unwrap();
    mmu.take_fault().unwrap();
    let bases = [0x408_0000, 0x42A_0000, 0x46B_0000];
    for access in fake.take_log() {
        let (Write(register, _) | Read(register)) = access;
        assert!(bases.contains(&(register & !0xFFFF)), "{register:#x}");
    }
    for base in bases {
        assert_eq!(fake.get(base + 0x100C), 0, "high half of the root");
        assert_eq!(fake.get(base + 0x1008), 0x1_0000, "low half of the root");
        // Only large; follower, last, large and small hop 3; first 0.
        assert_eq!(fake.get(base + 0x1024), 0x13_3330);
        assert_eq!(fake.get(base + 0x70), 0x50, "leaf size of hop 4");
        assert_eq!(fake.get(base + 0x2C), 0x7_FFFF, "interrupts");
        assert_eq!(fake.get(base + 0x0C), 1, "enabled");
    }
    assert!(Gaudi2DramMmu::<&Fake, 6>::new(&fake, TIMEOUTS, 0, PARKING).is_none());
}

#[test]
fn all_hmmus_are_told_before_any_is_waited_for() {
    let fake = Fake::gaudi2();
    let mut mmu = enabled(dram(&fake, 0b11), &fake);
    mmu.invalidate(&stale(ROOT, 0x1001_0018_0000_0000, 0x3000_0000))
        .unwrap();
    assert_eq!(
        fake.take_log(),
        [
            Write(0x408_1034, 1),
            Write(0x409_1034, 1),
            Read(0x408_1034),
            Read(0x409_1034),
        ]
    );
}

#[test]
fn a_root_is_split_over_two_registers() {
    let root = BusAddr::new(0x2_FEDC_BA98_7000);
    let fake = Fake::goya();
    enabled(goya(&fake), &fake).set_root(asid(1), root).unwrap();
    assert_eq!(
        fake.take_log(),
        [
            Write(0x49_0004, 0xEDCB_A987),
            Write(0x49_0008, 0x2F),
            Write(0x49_0000, 0x8000_0001),
            Read(0x49_0000),
        ]
    );

    let fake = Fake::gaudi();
    enabled(gaudi(&fake), &fake)
        .set_root(asid(1), root)
        .unwrap();
    assert_eq!(
        fake.take_log(),
        [
            Write(0xC1_2004, 1),
            Write(0xC1_2008, 0xEDCB_A987),
            Write(0xC1_200C, 0x2F),
            Write(0xC1_2000, 0x8000_0000),
            Read(0xC1_2000),
        ]
    );

    let root = BusAddr::new(0xFEDC_BA98_7654_3000);
    let fake = Fake::gaudi2();
    enabled(host::<1024>(&fake), &fake)
        .set_root(asid(1023), root)
        .unwrap();
    assert_eq!(
        fake.take_log(),
        [
            Write(0x4D0_1004, 0x3FF),
            Write(0x4D0_1008, 0xA987_6543),
            Write(0x4D0_100C, 0xF_EDCB),
            Write(0x4D0_1000, 0x8000_0000),
            Read(0x4D0_1000),
        ]
    );
}

#[test]
fn a_root_that_cannot_be_is_refused_untouched() {
    let fake = Fake::goya();
    let mut mmu = enabled(goya(&fake), &fake);
    for root in [0x1000_0800, 1 << 50, !0xFFF].map(BusAddr::new) {
        assert_eq!(
            mmu.set_root(asid(1), root),
            Err(MmuError::UnusableRoot { root })
        );
    }
    assert_eq!(
        mmu.set_root(asid(2), ROOT),
        Err(MmuError::AsidOutOfRange { asid: asid(2) })
    );
    assert_eq!(fake.take_log(), []);
}

#[test]
fn parking_gives_an_address_space_the_parking_table() {
    let fake = Fake::goya();
    let mut mmu = enabled(goya(&fake), &fake);
    mmu.set_root(asid(1), ROOT).unwrap();
    assert_eq!(fake.get(0x49_0004), 0x1_0001);
    mmu.park(asid(1)).unwrap();
    assert_eq!(fake.get(0x49_0004), 0x1_0000);
    assert_eq!(fake.get(0x49_0000), 1);
}

#[test]
fn goya_invalidates_everything_whatever_is_asked() {
    let fake = Fake::goya();
    let mut mmu = enabled(goya(&fake), &fake);
    mmu.invalidate(&stale(ROOT, 0x1000, 0x1000)).unwrap();
    assert_eq!(fake.take_log(), [Write(0x49_0034, 1), Read(0x49_0034)]);
}

#[test]
fn the_gaudi_producer_index_wraps_after_255() {
    let fake = Fake::gaudi();
    let mut mmu = enabled(gaudi(&fake), &fake);
    // Enabling used the first one, which is 1.
    for index in (2..=255).chain([0, 1]) {
        mmu.invalidate_all().unwrap();
        assert_eq!(
            fake.take_log(),
            [
                Write(0xC1_203C, 3),
                Write(0xC1_2010, index),
                Write(0xC1_203C, 2),
                Read(0xC1_203C),
                Write(0xC1_2048, 0),
            ]
        );
    }
}

const RANGE_OF_ASID_1: [Access; 11] = [
    // The page before the first one, because the start is exclusive; the page after the last.
    Write(0x4D0_1090, 0x1_0000 - 1),
    Write(0x4D0_1094, 0xF_FF00),
    Write(0x4D0_1098, 0x1_0002),
    Write(0x4D0_109C, 0xF_FF00),
    Write(0x4D0_1054, 0),
    // What walks read is fresh before what they leave behind is dropped.
    Write(0x4D0_1050, 1),
    Read(0x4D0_1054),
    Write(0x4D0_1054, 0),
    Write(0x4D0_108C, 1 | 2 | 1 << 2),
    Read(0x4D0_108C),
    Read(0),
];

#[test]
fn the_gaudi2_pmmu_invalidates_the_range_of_the_one_address_space() {
    let fake = Fake::gaudi2();
    let mut mmu = enabled(host::<2>(&fake), &fake);
    mmu.set_root(asid(1), ROOT).unwrap();
    fake.take_log();
    mmu.invalidate(&stale(ROOT, 0xFFF0_0000_1000_0000, 0x2000))
        .unwrap();
    assert_eq!(fake.take_log(), RANGE_OF_ASID_1[..10]);
    // Bytes that are not whole pages take the pages they are in.
    mmu.invalidate(&stale(ROOT, 0xFFF0_0000_1000_0FFF, 2))
        .unwrap();
    assert_eq!(fake.take_log(), RANGE_OF_ASID_1[..10]);
}

#[test]
fn all_ten_bits_of_an_asid_reach_the_range_register() {
    let fake = Fake::gaudi2();
    let mut mmu = enabled(host::<1024>(&fake), &fake);
    mmu.set_root(asid(0x3FF), ROOT).unwrap();
    fake.take_log();
    mmu.invalidate(&stale(ROOT, 0x10_0000, 0x1000)).unwrap();
    assert!(fake.take_writes().contains(&(0x4D0_108C, 3 | 0x3FF << 2)));
}

/// Everything is invalidated, and nothing else is done.
fn is_full(fake: &Fake) -> bool {
    fake.take_log() == [Write(0x4D0_1034, 1), Read(0x4D0_1034)]
}

#[test]
fn a_range_without_a_page_before_or_after_it_becomes_everything() {
    let fake = Fake::gaudi2();
    let mut mmu = enabled(host::<2>(&fake), &fake);
    mmu.set_root(asid(1), ROOT).unwrap();
    fake.take_log();
    mmu.invalidate(&stale(ROOT, 0, 0x1000)).unwrap();
    assert!(is_full(&fake));
    mmu.invalidate(&stale(ROOT, 0xFFF, 0x1000)).unwrap();
    assert!(is_full(&fake));
    mmu.invalidate(&stale(ROOT, u64::MAX - 0xFFF, 0x1000))
        .unwrap();
    assert!(is_full(&fake));
    mmu.invalidate(&Stale {
        root: ROOT,
        extent: Extent::Everything,
        tables: false,
    })
    .unwrap();
    assert!(is_full(&fake));
}

#[test]
fn only_a_removal_of_nothing_needs_nothing() {
    let fake = Fake::gaudi2();
    let mut mmu = enabled(host::<2>(&fake), &fake);
    let mut nothing = Stale {
        root: ROOT,
        extent: Extent::Nothing,
        tables: false,
    };
    mmu.invalidate(&nothing).unwrap();
    assert_eq!(fake.take_log(), []);
    nothing.tables = true;
    mmu.invalidate(&nothing).unwrap();
    assert!(is_full(&fake));
}

#[test]
fn a_root_that_is_not_known_to_be_of_one_address_space_takes_everything() {
    let at = 0xFFF0_0000_1000_0000;
    let other = BusAddr::new(0x1000_2000);
    let fake = Fake::gaudi2();
    let mut mmu = enabled(host::<4>(&fake), &fake);
    let full = |mmu: &mut Gaudi2HostMmu<&Fake, 4>, root| {
        fake.take_log();
        mmu.invalidate(&stale(root, at, 0x1000)).unwrap();
        is_full(&fake)
    };
    assert!(full(&mut mmu, ROOT), "never given to any");

    mmu.set_root(asid(1), ROOT).unwrap();
    assert!(!full(&mut mmu, ROOT));
    mmu.set_root(asid(2), ROOT).unwrap();
    assert!(full(&mut mmu, ROOT), "given to two");

    mmu.park(asid(2)).unwrap();
    mmu.set_root(asid(2), other).unwrap();
    assert!(
        full(&mut mmu, ROOT),
        "cached under one that has another now"
    );
    mmu.invalidate_all().unwrap();
    assert!(!full(&mut mmu, ROOT), "all of that is gone");

    mmu.park(asid(1)).unwrap();
    assert!(!full(&mut mmu, ROOT), "parked, but cached under it alone");
    mmu.invalidate_all().unwrap();
    mmu.set_root(asid(3), ROOT).unwrap();
    assert!(
        !full(&mut mmu, ROOT),
        "reused by another after everything went"
    );
}

#[test]
fn what_was_added_is_announced_by_emptying_the_cache_of_upper_hops() {
    let fake = Fake::gaudi2();
    let mut mmu = enabled(host::<2>(&fake), &fake);
    mmu.announce().unwrap();
    assert_eq!(
        fake.take_log(),
        [
            Write(0x4D0_1054, 0),
            Write(0x4D0_1050, 1),
            Read(0x4D0_1054),
            Write(0x4D0_1054, 0),
        ]
    );
}
