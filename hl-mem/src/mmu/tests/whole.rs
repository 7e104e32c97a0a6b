//! Where a driver does everything at once, or nothing at all.

use mmu_core::{BusAddr, Invalidate};
use std::vec::Vec;

use super::super::{
    FaultKind, Gaudi2DramMmu, Gaudi2HostMmu, GaudiMmu, GoyaMmu, MmuControl, MmuError,
};
use super::{Fake, PARKING, ROOT, TIMEOUTS, range, stale};
use crate::asid::Asid;

const USER: Asid = match Asid::new(1) {
    Some(asid) => asid,
    None => panic!("it is less than the limit"),
};

fn goya(fake: &Fake) -> GoyaMmu<&Fake> {
    GoyaMmu::new(fake, TIMEOUTS, PARKING)
}

fn gaudi(fake: &Fake) -> GaudiMmu<&Fake> {
    GaudiMmu::new(fake, TIMEOUTS, PARKING)
}

fn host(fake: &Fake) -> Gaudi2HostMmu<&Fake> {
    Gaudi2HostMmu::new(fake, TIMEOUTS, PARKING)
}

fn dram(fake: &Fake) -> Gaudi2DramMmu<&Fake, 6> {
    Gaudi2DramMmu::new(fake, TIMEOUTS, 0b111, PARKING).unwrap()
}

/// The registers that an operation writes, in order. Gaudi numbers its requests, so that the values
/// differ.
fn written(fake: &Fake, operation: impl FnOnce() -> Result<(), MmuError>) -> Vec<u32> {
    fake.take_log();
    operation().unwrap();
    let writes = fake.take_writes().into_iter();
    writes.map(|(register, _)| register).collect()
}

#[test]
fn an_mmu_that_cannot_invalidate_a_part_invalidates_everything() {
    fn check<M: MmuControl + Invalidate<Error = MmuError>>(fake: &Fake, mut mmu: M) {
        mmu.enable().unwrap();
        mmu.set_root(USER, ROOT).unwrap();
        let everything = written(fake, || mmu.invalidate_all());
        assert!(!everything.is_empty());
        let part = stale(ROOT, 0x10_0000, 0x1000);
        assert_eq!(written(fake, || mmu.invalidate(&part)), everything);
    }
    let fake = Fake::goya();
    check(&fake, goya(&fake));
    let fake = Fake::gaudi();
    check(&fake, gaudi(&fake));
    let fake = Fake::gaudi2();
    check(&fake, dram(&fake));
}

#[test]
fn an_mmu_without_a_cache_of_upper_hops_to_empty_announces_by_invalidating_everything() {
    fn check<M: MmuControl>(fake: &Fake, mut mmu: M) {
        mmu.enable().unwrap();
        let everything = written(fake, || mmu.invalidate_all());
        assert!(!everything.is_empty());
        assert_eq!(written(fake, || mmu.announce()), everything);
    }
    let fake = Fake::goya();
    check(&fake, goya(&fake));
    let fake = Fake::gaudi();
    check(&fake, gaudi(&fake));
    let fake = Fake::gaudi2();
    check(&fake, dram(&fake));
}

/// A refusal that counted as one more doubt would make the next root be given twice.
#[test]
fn a_refused_root_leaves_nothing_in_doubt() {
    fn check<M: MmuControl>(fake: &Fake, mut mmu: M) {
        mmu.enable().unwrap();
        let once = written(fake, || mmu.set_root(USER, ROOT));
        let root = BusAddr::new(ROOT.get() + 0x800);
        assert_eq!(
            mmu.set_root(USER, root),
            Err(MmuError::UnusableRoot { root })
        );
        assert_eq!(fake.take_log(), []);
        assert_eq!(written(fake, || mmu.set_root(USER, ROOT)), once);
    }
    let fake = Fake::goya();
    check(&fake, goya(&fake));
    let fake = Fake::gaudi();
    check(&fake, gaudi(&fake));
    let fake = Fake::gaudi2();
    check(&fake, host(&fake));
    check(&fake, dram(&fake));
}

/// Host memory and whatever else is not device memory, whose addresses are not scrambled.
#[test]
fn a_page_fault_of_an_hmmu_outside_of_device_memory_is_in_what_it_captured() {
    let fake = Fake::gaudi2();
    let mut mmu = dram(&fake);
    let base = 0x408_0000;
    for (register, value) in [(0x30, 1), (0x34, 0x8000), (0x38, 0x0C00_0123), (0x44, 1)] {
        fake.set(base + register, value);
    }
    let fault = mmu.take_fault().unwrap().unwrap();
    let at = range(0x8000_0C00_0000, 64 << 20);
    assert_eq!((fault.kind, fault.at), (FaultKind::Page, Some(at)));
}
