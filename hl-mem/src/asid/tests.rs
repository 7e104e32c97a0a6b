use std::collections::BTreeSet;
use std::vec::Vec;

use super::*;

/// MMUs that note what they are asked, and fail on request.
#[derive(Default)]
struct Mmus {
    parked: BTreeSet<u16>,
    invalidations: u32,
    failing: Option<MmuError>,
    deaf: bool,
}

#[expect(unsafe_code, reason = "MMUs for tests")]
// SAFETY: no device is behind them, so that an ASID that comes back too early harms nobody.
unsafe impl EveryMmu for Mmus {
    fn park_everywhere(&mut self, asid: Asid) -> Result<(), MmuError> {
        if self.deaf {
            return Err(MmuError::DeviceLost);
        }
        self.parked.insert(asid.get());
        Ok(())
    }
    fn invalidate_everywhere(&mut self) -> Result<(), MmuError> {
        self.invalidations += 1;
        self.failing.map_or(Ok(()), Err)
    }
}

/// A fixed order that is none: the numbers of a generator modulo what is left.
fn shuffled<T>(mut items: Vec<T>) -> Vec<T> {
    let mut seed = 12345_usize;
    let mut out = Vec::new();
    while !items.is_empty() {
        seed = seed.wrapping_mul(1_103_515_245).wrapping_add(12_345) & 0x7FFF_FFFF;
        out.push(items.swap_remove((seed >> 8) % items.len()));
    }
    out
}

/// Scenario A-01.
fn exhaust_return_and_reopen<const MAX: usize>() {
    let mut asids = AsidAllocator::<MAX>::new();
    let mut mmus = Mmus::default();
    let all: BTreeSet<u16> = (1..MAX as u16).collect();
    for _ in 0..3 {
        let leases: Vec<_> = (1..MAX).map(|_| asids.allocate().unwrap()).collect();
        let numbers: BTreeSet<u16> = leases.iter().map(|lease| lease.asid().get()).collect();
        assert_eq!(numbers, all, "each once, and never 0");
        assert_eq!(asids.allocate(), Err(OutOfAsids { quarantined: 0 }));
        for lease in shuffled(leases) {
            asids.quarantine(lease).unwrap();
        }
        let quarantined = all.len() as u16;
        assert_eq!(asids.allocate(), Err(OutOfAsids { quarantined }));
        assert_eq!(asids.confirm_all(&mut mmus), Ok(quarantined));
        assert_eq!(mmus.parked, all);
        mmus.parked.clear();
    }
    assert_eq!(mmus.invalidations, 3, "one for all of them");
}

#[test]
fn asids_run_out_and_come_back() {
    exhaust_return_and_reopen::<2>();
    exhaust_return_and_reopen::<4>();
    exhaust_return_and_reopen::<256>();
    exhaust_return_and_reopen::<1024>();
}

#[test]
fn an_asid_stays_in_quarantine_until_everything_is_confirmed() {
    let mut asids = AsidAllocator::<4>::new();
    let lease = asids.allocate().unwrap();
    let kept = asids.allocate().unwrap();
    asids.quarantine(lease).unwrap();
    let before = AsidUsage {
        free: 1,
        leased: 1,
        quarantined: 1,
    };
    assert_eq!(asids.usage(), before);

    let timed_out = MmuError::TimedOut { register: 0 };
    let mut mmus = Mmus {
        failing: Some(timed_out),
        ..Mmus::default()
    };
    assert_eq!(asids.confirm_all(&mut mmus), Err(timed_out));
    assert_eq!(asids.usage(), before);
    mmus.failing = None;
    mmus.deaf = true;
    assert_eq!(asids.confirm_all(&mut mmus), Err(MmuError::DeviceLost));
    assert_eq!(asids.usage(), before);
    assert_eq!(asids.allocate().unwrap().asid().get(), 3, "not 1");

    mmus.deaf = false;
    mmus.parked.clear();
    assert_eq!(asids.confirm_all(&mut mmus), Ok(1));
    assert_eq!(mmus.parked, BTreeSet::from([1]), "not those in use");
    assert_eq!(asids.allocate().unwrap().asid().get(), 1);
    assert_eq!(kept.asid().get(), 2);
}

#[test]
fn nothing_to_confirm_asks_nothing_of_the_device() {
    let mut asids = AsidAllocator::<2>::new();
    let mut mmus = Mmus::default();
    assert_eq!(asids.confirm_all(&mut mmus), Ok(0));
    assert_eq!(mmus.invalidations, 0);
}

#[test]
fn the_lease_of_another_allocator_is_handed_back() {
    let mut one = AsidAllocator::<4>::new();
    let mut two = AsidAllocator::<4>::new();
    let of_one = one.allocate().unwrap();
    let of_two = two.allocate().unwrap();
    let before = two.usage();
    let ForeignLease(of_one) = two.quarantine(of_one).unwrap_err();
    assert_eq!(two.usage(), before);
    one.quarantine(of_one).unwrap();
    two.quarantine(of_two).unwrap();
}

#[test]
fn a_dropped_lease_stays_leased() {
    let mut asids = AsidAllocator::<2>::new();
    drop(asids.allocate().unwrap());
    let mut mmus = Mmus::default();
    assert_eq!(asids.confirm_all(&mut mmus), Ok(0));
    assert_eq!(asids.allocate(), Err(OutOfAsids { quarantined: 0 }));
    assert_eq!(asids.usage().leased, 1);
}

#[test]
fn an_allocator_may_have_the_privileged_asid_only() {
    let mut asids = AsidAllocator::<1>::new();
    assert!(asids.allocate().is_err());
    assert_eq!(asids.usage(), AsidUsage::default());
}

#[test]
fn numbers_have_ten_bits_and_a_users_is_never_zero() {
    assert_eq!(Asid::new(1023).map(Asid::get), Some(1023));
    assert_eq!(Asid::new(1024), None);
    assert_eq!(UserAsid::new(0), None);
    assert_eq!(UserAsid::new(1024), None);
    let user = UserAsid::new(1023).unwrap();
    assert_eq!(Asid::from(user).get(), 1023);
    assert_eq!(InitiatorMode::User(user).asid(), Some(user.into()));
    assert_eq!(InitiatorMode::Privileged.asid(), Some(Asid::PRIVILEGED));
    assert_eq!(InitiatorMode::Bypass.asid(), None);
}
