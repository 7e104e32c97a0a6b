//! What a driver makes of captured faults.

use mmu_core::DeviceAddr;

use super::super::{
    Fault, FaultKind, Gaudi2DramMmu, Gaudi2HostMmu, GaudiMmu, GoyaMmu, MmuControl, MmuError,
};
use super::{Fake, PARKING, TIMEOUTS, Write, range};

fn byte(kind: FaultKind, address: u64) -> Option<Fault> {
    Some(Fault {
        kind,
        at: Some(range(address, 1)),
        instance: 0,
    })
}

#[test]
fn goya_and_gaudi_capture_fifty_address_bits() {
    fn check<M: MmuControl>(mut mmu: M, fake: &Fake, base: u32) {
        fake.set(base + 0x34, 1 << 18 | 0x2_ABCD);
        fake.set(base + 0x38, 0xFFFF_FFFF);
        fake.set(base + 0x3C, 1 << 18);
        fake.set(base + 0x40, 0x1234);
        assert_eq!(
            mmu.take_fault(),
            Ok(byte(FaultKind::Page, 0x2_ABCD_FFFF_FFFF))
        );
        assert_eq!(fake.take_writes(), [(base + 0x34, 0)]);
        assert_eq!(mmu.take_fault(), Ok(byte(FaultKind::Access, 0x1234)));
        assert_eq!(fake.take_writes(), [(base + 0x3C, 0)]);
        assert_eq!(mmu.take_fault(), Ok(None));
        assert_eq!(fake.take_writes(), []);
    }
    let fake = Fake::goya();
    check(
        GoyaMmu::<_, 2>::new(&fake, TIMEOUTS, PARKING),
        &fake,
        0x48_0000,
    );
    let fake = Fake::gaudi();
    check(
        GaudiMmu::<_, 2>::new(&fake, TIMEOUTS, PARKING),
        &fake,
        0xC1_1000,
    );
}

#[test]
fn one_fault_taken_leaves_the_other_pending() {
    let fake = Fake::gaudi2();
    let mut mmu = Gaudi2HostMmu::<_, 2>::new(&fake, TIMEOUTS, PARKING);
    fake.set(0x4D0_0030, 0b11 | 1 << 16);
    fake.set(0x4D0_0044, 0b11);
    fake.set(0x4D0_0034, 0xFFF0_0000);
    fake.set(0x4D0_0038, 0x1234_5678);
    fake.set(0x4D0_003C, 0xFFFF_FFFF);
    fake.set(0x4D0_0040, 0xFFFF_FFFF);

    let page = byte(FaultKind::Page, 0xFFF0_0000_1234_5678);
    assert_eq!(mmu.take_fault(), Ok(page));
    assert_eq!(
        fake.take_writes(),
        [
            (0x4D0_0044, 0b10),
            (0x4D0_0030, 0b10 | 1 << 16),
            (0x4D0_0048, 1 << 1),
        ]
    );
    assert_eq!(
        mmu.take_fault(),
        Ok(byte(FaultKind::Access, u64::MAX)),
        "still there"
    );
    assert_eq!(
        mmu.take_fault(),
        Ok(Some(Fault {
            kind: FaultKind::Other { cause: 16 },
            at: None,
            instance: 0,
        }))
    );
    assert_eq!(fake.get(0x4D0_0048), 1 << 16);
    assert_eq!(mmu.take_fault(), Ok(None));
}

#[test]
fn a_fault_without_a_valid_capture_has_no_address() {
    let fake = Fake::gaudi2();
    let mut mmu = Gaudi2HostMmu::<_, 2>::new(&fake, TIMEOUTS, PARKING);
    fake.set(0x4D0_0030, 1);
    fake.set(0x4D0_0044, 0b10);
    let fault = mmu.take_fault().unwrap().unwrap();
    assert_eq!((fault.kind, fault.at), (FaultKind::Page, None));
    assert_eq!(fake.get(0x4D0_0044), 0b10, "not this fault's");
}

#[test]
fn causes_clear_the_interrupt_that_they_raised() {
    // Facts FR-1, by cause bit.
    let clear = |cause| match cause {
        0 | 1 => Some(1),
        2 | 3 | 8..=15 | 18 => Some(2),
        4..=7 => None,
        16 => Some(16),
        17 => Some(17),
        _ => unreachable!(),
    };
    for cause in 0..19 {
        let fake = Fake::gaudi2();
        let mut mmu = Gaudi2HostMmu::<_, 2>::new(&fake, TIMEOUTS, PARKING);
        fake.set(0x4D0_0030, 1 << cause);
        mmu.take_fault().unwrap().unwrap();
        let cleared: std::vec::Vec<_> = fake
            .take_log()
            .into_iter()
            .filter_map(|access| match access {
                Write(0x4D0_0048, value) => Some(value),
                _ => None,
            })
            .collect();
        let wanted: std::vec::Vec<u32> = clear(cause).map(|bit| 1 << bit).into_iter().collect();
        assert_eq!(cleared, wanted, "cause {cause}");
    }
}

#[test]
fn a_fault_that_comes_back_at_once_is_told_once_in_each_round() {
    fn round<M: MmuControl>(mut mmu: M, raise: impl Fn()) -> std::vec::Vec<(u8, FaultKind)> {
        let (mut from, mut told) = (0, std::vec::Vec::new());
        raise();
        while let Some(fault) = mmu.next_fault(&mut from).unwrap() {
            told.push((fault.instance, fault.kind));
            assert!(told.len() < 100, "a round without an end");
            raise();
        }
        told
    }
    use FaultKind::{Access, Other, Page};
    let of_one = |instance| [Page, Access, Other { cause: 18 }].map(|kind| (instance, kind));
    let fake = Fake::gaudi2();
    let mmu = Gaudi2HostMmu::<_, 2>::new(&fake, TIMEOUTS, PARKING);
    let pmmu = || fake.set(0x4D0_0030, 0b11 | 1 << 18);
    assert_eq!(round(mmu, pmmu), of_one(0));
    // Core 0, numbers 0 and 1, and core 1, number 2.
    let mmu = Gaudi2DramMmu::<_, 6>::new(&fake, TIMEOUTS, 0b100_0011, PARKING).unwrap();
    let hmmus = || {
        for base in [0x408_0000, 0x409_0000, 0x42A_0000] {
            fake.set(base + 0x30, 0b11 | 1 << 18);
        }
    };
    let all = [0, 1, 6].map(of_one).concat();
    assert_eq!(round(mmu, hmmus), all);
}

#[test]
fn an_hmmu_captures_scrambled_addresses() {
    let fake = Fake::gaudi2();
    let mut mmu = Gaudi2DramMmu::<_, 6>::new(&fake, TIMEOUTS, 0xFFFF, PARKING).unwrap();
    // Core 1, number 2. Slot 0x81 of 64 MiB, which is chunk 0x81 of 48 MiB.
    let base = 0x42A_0000;
    let chunk = 0x1001_0000_0000_0000 + 0x81 * (48 << 20);
    let high = 0x1001_0002;
    let capture = |cause: u32, high: u32, low: u32| {
        fake.set(base + 0x30, cause);
        fake.set(base + 0x44, cause);
        for pair in [0x34, 0x3C] {
            fake.set(base + pair, high);
            fake.set(base + pair + 4, low);
        }
    };
    capture(1, high, 0x0400_0123);
    let fault = mmu.take_fault().unwrap().unwrap();
    assert_eq!(fault.at, Some(range(chunk, 48 << 20)), "the whole chunk");
    assert_eq!(fault.instance, 6);
    capture(2, high, 0x0400_0123);
    let fault = mmu.take_fault().unwrap().unwrap();
    assert_eq!(fault.at, Some(range(chunk + 0x123, 1)), "exactly");
    capture(2, high, 0x0700_0000);
    let fault = mmu.take_fault().unwrap().unwrap();
    assert_eq!(fault.at, None, "the tail of a slot belongs to no address");
    capture(2, 0x8000, 0x10);
    let fault = mmu.take_fault().unwrap().unwrap();
    let start = fault.at.unwrap().start();
    assert_eq!(start, DeviceAddr::new(0x8000_0000_0010), "not scrambled");
    assert_eq!(mmu.take_fault(), Ok(None));
}

#[test]
fn a_dead_device_has_no_faults() {
    let fake = Fake::goya();
    fake.lost.set(true);
    let mut mmu = GoyaMmu::<_, 2>::new(&fake, TIMEOUTS, PARKING);
    assert_eq!(mmu.take_fault(), Err(MmuError::DeviceLost));
    let mut mmu = Gaudi2HostMmu::<_, 2>::new(&fake, TIMEOUTS, PARKING);
    assert_eq!(mmu.take_fault(), Err(MmuError::DeviceLost));
    assert_eq!(fake.take_writes(), []);
}
