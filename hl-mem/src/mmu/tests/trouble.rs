//! Hardware that is slow, hangs, or is gone.

use core::sync::atomic::AtomicU64;
use std::vec::Vec;

use mmu_core::format::Gaudi2Pmmu;
use mmu_core::{
    AddrRange, BusAddr, ConfirmError, DeviceAddr, Invalidate, MapOptions, PageTable, Region,
    ReuseOrder, TablePool, TableRecord,
};

use super::super::{Gaudi2DramMmu, Gaudi2HostMmu, GaudiMmu, GoyaMmu, MmuControl, MmuError};
use super::{Fake, PARKING, ROOT, Read, TIMEOUTS, Write, range, stale};
use crate::asid::Asid;

const USER: Asid = Asid::new(1).unwrap();
const AT: u64 = 0xFFF0_0000_1000_0000;

fn host(fake: &Fake) -> Gaudi2HostMmu<&Fake> {
    let mut mmu = Gaudi2HostMmu::new(fake, TIMEOUTS, PARKING);
    mmu.enable().unwrap();
    mmu.set_root(USER, ROOT).unwrap();
    fake.take_log();
    mmu
}

#[test]
fn waiting_lasts_as_long_as_the_deadline_and_then_looks_once_more() {
    let fake = Fake::goya();
    let mut mmu = GoyaMmu::<_, 2>::new(&fake, TIMEOUTS, PARKING);
    mmu.enable().unwrap();
    // An invalidation has four pauses. The fifth read is the one after the last of them, and the
    // sixth the one after the deadline.
    fake.slow.set(5);
    fake.pauses.set(0);
    assert_eq!(mmu.invalidate_all(), Ok(()));
    assert_eq!(fake.pauses.get(), 5);
    fake.slow.set(6);
    fake.pauses.set(0);
    let timed_out = Err(MmuError::TimedOut {
        register: 0x49_0034,
    });
    assert_eq!(mmu.invalidate_all(), timed_out);
    assert_eq!(fake.pauses.get(), 5);
}

/// Lets one register hang while an MMU is enabled.
fn enabling_fails<M: MmuControl>(fake: &Fake, mut mmu: M, register: u32, enable: u32) {
    fake.hang(register);
    // What is waited for without being written is busy from the start.
    fake.set(register, 1);
    assert_eq!(mmu.enable(), Err(MmuError::TimedOut { register }));
    let writes = fake.take_writes();
    assert!(
        !writes.contains(&(enable, 1)),
        "enabled despite {register:#x}"
    );
    assert_eq!(writes.last(), Some(&(enable, 0)), "left disabled");

    let disabled = Err(MmuError::Disabled);
    assert_eq!(mmu.set_root(USER, ROOT), disabled);
    assert_eq!(mmu.invalidate_all(), disabled);
    assert_eq!(mmu.invalidate(&stale(ROOT, AT, 0x1000)), disabled);
    assert_eq!(mmu.announce(), disabled);
    assert_eq!(fake.take_log(), [], "nothing is asked of a disabled MMU");

    fake.mend();
    fake.set(register, 0);
    assert_eq!(mmu.enable(), Ok(()), "it can be enabled later");
}

#[test]
fn a_failure_to_enable_leaves_the_mmu_disabled() {
    for register in [0x49_0000, 0x49_0034] {
        let fake = Fake::goya();
        let mmu = GoyaMmu::<_, 2>::new(&fake, TIMEOUTS, PARKING);
        enabling_fails(&fake, mmu, register, 0x48_000C);
    }
    for register in [0xC1_2000, 0xC1_203C] {
        let fake = Fake::gaudi();
        let mmu = GaudiMmu::<_, 2>::new(&fake, TIMEOUTS, PARKING);
        enabling_fails(&fake, mmu, register, 0xC1_100C);
    }
    for register in [0x4D0_1000, 0x4D0_1034, 0x4D0_104C] {
        let fake = Fake::gaudi2();
        let mmu = Gaudi2HostMmu::<_, 2>::new(&fake, TIMEOUTS, PARKING);
        enabling_fails(&fake, mmu, register, 0x4D0_000C);
    }
    for register in [0x408_1000, 0x409_1034, 0x408_104C] {
        let fake = Fake::gaudi2();
        let mmu = Gaudi2DramMmu::<_, 6, 2>::new(&fake, TIMEOUTS, 0b11, PARKING).unwrap();
        enabling_fails(&fake, mmu, register, 0x409_000C);
    }
}

#[test]
fn an_hmmu_that_stays_disabled_disables_the_others_again() {
    // Number 1 does not take the write.
    let fake = Fake::new(|register, value| match register {
        0x409_000C => Some((register, 0)),
        _ if register & 0xFFFF == 0x1000 => Some((register, value & !(1 << 31))),
        _ if register & 0xFFFF == 0x1034 => Some((register, 0)),
        _ => None,
    });
    let mut mmu = Gaudi2DramMmu::<_, 6, 2>::new(&fake, TIMEOUTS, 0b111, PARKING).unwrap();
    assert_eq!(mmu.enable(), Err(MmuError::Stuck));
    for base in [0x408_0000, 0x409_0000, 0x40A_0000] {
        assert_eq!(fake.get(base + 0x0C), 0);
    }
}

#[test]
fn an_unusable_parking_table_is_refused_before_anything_is_touched() {
    let fake = Fake::goya();
    let root = BusAddr::new(0x800);
    let mut mmu = GoyaMmu::<_, 2>::new(&fake, TIMEOUTS, root);
    assert_eq!(mmu.enable(), Err(MmuError::UnusableRoot { root }));
    assert!(!fake.take_writes().contains(&(0x48_000C, 1)));
}

#[test]
fn a_disabled_mmu_is_seen_to_be_disabled() {
    let fake = Fake::goya();
    let mut mmu = GoyaMmu::<_, 2>::new(&fake, TIMEOUTS, PARKING);
    mmu.enable().unwrap();
    fake.take_log();
    mmu.disable().unwrap();
    assert_eq!(fake.take_log(), [Write(0x48_000C, 0), Read(0x48_000C)]);
    assert_eq!(mmu.invalidate_all(), Err(MmuError::Disabled));
}

#[test]
fn a_dead_device_is_an_error_at_once() {
    fn check<M: MmuControl>(fake: &Fake, mut mmu: M) {
        let lost = Err(MmuError::DeviceLost);
        fake.lost.set(true);
        assert_eq!(mmu.enable(), lost);
        fake.lost.set(false);
        mmu.enable().unwrap();
        mmu.set_root(USER, ROOT).unwrap();
        fake.lost.set(true);
        fake.pauses.set(0);
        assert_eq!(mmu.invalidate_all(), lost);
        assert_eq!(mmu.invalidate(&stale(ROOT, AT, 0x1000)), lost);
        assert_eq!(mmu.set_root(USER, ROOT), lost);
        assert_eq!(mmu.park(USER), lost);
        assert_eq!(mmu.disable(), lost);
        assert_eq!(fake.pauses.get(), 0, "no waiting for the dead");
    }
    let fake = Fake::goya();
    check(&fake, GoyaMmu::<_, 2>::new(&fake, TIMEOUTS, PARKING));
    let fake = Fake::gaudi();
    check(&fake, GaudiMmu::<_, 2>::new(&fake, TIMEOUTS, PARKING));
    let fake = Fake::gaudi2();
    check(&fake, Gaudi2HostMmu::<_, 2>::new(&fake, TIMEOUTS, PARKING));
    let fake = Fake::gaudi2();
    check(
        &fake,
        Gaudi2DramMmu::<_, 6, 2>::new(&fake, TIMEOUTS, 0xFFFF, PARKING).unwrap(),
    );
}

#[test]
fn the_bits_of_a_dead_device_do_not_pass_for_done() {
    // "Done" is a bit that is set: all ones would have it.
    let fake = Fake::gaudi2();
    let mut mmu = host(&fake);
    fake.lost.set(true);
    assert_eq!(mmu.announce(), Err(MmuError::DeviceLost));
    assert_eq!(
        mmu.invalidate(&stale(ROOT, AT, 0x1000)),
        Err(MmuError::DeviceLost)
    );
}

#[test]
fn the_end_of_a_request_that_timed_out_is_not_taken_for_that_of_the_next() {
    let fake = Fake::goya();
    let mut mmu = GoyaMmu::<_, 2>::new(&fake, TIMEOUTS, PARKING);
    mmu.enable().unwrap();
    fake.hang(0x49_0034);
    let timed_out = Err(MmuError::TimedOut {
        register: 0x49_0034,
    });
    assert_eq!(mmu.invalidate_all(), timed_out);
    assert_eq!(mmu.invalidate_all(), timed_out, "as long as it hangs");
    fake.mend();
    fake.take_log();
    assert_eq!(mmu.invalidate_all(), Ok(()));
    let once = [Write(0x49_0034, 1), Read(0x49_0034)];
    assert_eq!(fake.take_log(), [once, once].concat(), "the second counts");
    assert_eq!(mmu.invalidate_all(), Ok(()));
    assert_eq!(fake.take_log(), once, "all is well again");
}

#[test]
fn gaudi_clears_the_set_register_after_a_time_out_as_well() {
    let fake = Fake::gaudi();
    let mut mmu = GaudiMmu::<_, 2>::new(&fake, TIMEOUTS, PARKING);
    mmu.enable().unwrap();
    fake.take_log();
    fake.hang(0xC1_203C);
    assert_eq!(
        mmu.invalidate_all(),
        Err(MmuError::TimedOut {
            register: 0xC1_203C
        })
    );
    assert_eq!(
        fake.take_writes(),
        [
            (0xC1_203C, 3),
            (0xC1_2010, 2),
            (0xC1_203C, 2),
            (0xC1_2048, 0)
        ]
    );
    fake.mend();
    mmu.invalidate_all().unwrap();
    let writes = fake.take_writes();
    assert!(writes.contains(&(0xC1_2010, 3)), "an index is never reused");
}

#[test]
fn all_hmmus_are_waited_for_and_the_first_time_out_is_told() {
    let fake = Fake::gaudi2();
    let mut mmu = Gaudi2DramMmu::<_, 6, 2>::new(&fake, TIMEOUTS, 0b1111, PARKING).unwrap();
    mmu.enable().unwrap();
    fake.hang(0x409_1034);
    fake.hang(0x40A_1034);
    fake.take_log();
    assert_eq!(
        mmu.invalidate_all(),
        Err(MmuError::TimedOut {
            register: 0x409_1034
        })
    );
    assert_eq!(fake.take_log().last(), Some(&Read(0x40B_1034)));
}

#[test]
fn while_a_partial_invalidation_hangs_everything_is_invalidated_instead() {
    let part = stale(ROOT, AT, 0x1000);
    for register in [0x4D0_108C, 0x4D0_1050] {
        let fake = Fake::gaudi2();
        let mut mmu = host(&fake);
        fake.set(0x4D0_1054, 0b10);
        fake.hang(register);
        assert!(matches!(
            mmu.invalidate(&part),
            Err(MmuError::TimedOut { .. })
        ));
        // One of the two is still at work. The other one has come to its end.
        let status = if register == 0x4D0_108C { 0b11 } else { 0b00 };
        fake.set(0x4D0_1054, status);
        for _ in 0..3 {
            fake.take_log();
            assert_eq!(mmu.invalidate(&part), Ok(()));
            let writes = fake.take_writes();
            assert!(!writes.is_empty());
            assert!(writes.iter().all(|&(register, _)| register == 0x4D0_1034));
        }
        fake.mend();
        fake.set(0x4D0_108C, 0);
        fake.set(0x4D0_1054, 0b11);
        assert_eq!(mmu.invalidate(&part), Ok(()));
        let writes = fake.take_writes();
        assert!(writes.iter().all(|&(register, _)| register != 0x4D0_1034));
        assert_eq!(fake.get(0x4D0_1054), 0, "the status is cleared by software");
    }
}

#[test]
fn a_root_that_may_not_have_been_taken_over_is_given_twice() {
    let fake = Fake::gaudi2();
    let mut mmu = host(&fake);
    fake.hang(0x4D0_1000);
    let other = BusAddr::new(0x2000_0000);
    let timed_out = Err(MmuError::TimedOut {
        register: 0x4D0_1000,
    });
    assert_eq!(mmu.set_root(USER, other), timed_out);
    fake.take_log();
    // Which root it has is not known, so no range of it is enough.
    mmu.invalidate(&stale(ROOT, AT, 0x1000)).unwrap();
    assert_eq!(fake.take_log(), [Write(0x4D0_1034, 1), Read(0x4D0_1034)]);

    fake.mend();
    mmu.set_root(USER, other).unwrap();
    let started = fake
        .take_writes()
        .into_iter()
        .filter(|&write| write == (0x4D0_1000, 0x8000_0000))
        .count();
    assert_eq!(started, 2);
}

#[test]
fn a_root_that_may_have_been_taken_over_counts_as_such() {
    let fake = Fake::gaudi2();
    let mut mmu = Gaudi2HostMmu::<_, 4>::new(&fake, TIMEOUTS, PARKING);
    let asid = |number| Asid::new(number).unwrap();
    let [shared, other] = [0x2000_0000, 0x3000_0000].map(BusAddr::new);
    mmu.enable().unwrap();
    fake.hang(0x4D0_1000);
    mmu.set_root(asid(1), shared).unwrap_err();
    fake.mend();
    mmu.set_root(asid(2), shared).unwrap();

    let everything = |mmu: &mut Gaudi2HostMmu<_, 4>| {
        fake.take_log();
        mmu.invalidate(&stale(shared, AT, 0x1000)).unwrap();
        fake.take_writes() == [(0x4D0_1034, 1)]
    };
    assert!(everything(&mut mmu), "ASID 1 may have the root");
    assert!(everything(&mut mmu), "and may use it again at once");
    mmu.invalidate_all().unwrap();
    mmu.set_root(asid(1), other).unwrap();
    assert!(everything(&mut mmu), "it has another, but may have used it");
    assert!(!everything(&mut mmu), "ASID 2 alone has it");
}

#[test]
fn an_announcement_that_timed_out_raises_the_same_doubt() {
    let fake = Fake::gaudi();
    let mut mmu = GaudiMmu::<_, 2>::new(&fake, TIMEOUTS, PARKING);
    mmu.enable().unwrap();
    fake.hang(0xC1_203C);
    mmu.announce().unwrap_err();
    fake.mend();
    fake.take_log();
    mmu.invalidate_all().unwrap();
    let requests = fake.take_writes().into_iter();
    assert_eq!(requests.filter(|&(at, _)| at == 0xC1_2010).count(), 2);
}

#[test]
fn tables_return_to_their_pool_only_when_the_hardware_has_confirmed() {
    let tables: Vec<[AtomicU64; 512]> = (0..16)
        .map(|_| core::array::from_fn(|_| AtomicU64::new(0)))
        .collect();
    let mut records: Vec<_> = (0..16).map(|_| TableRecord::new()).collect();
    let region = Region::new(&tables, BusAddr::new(0x4000_0000)).unwrap();
    let pool = TablePool::<_, spin::mutex::SpinMutex<()>>::new(
        region,
        &mut records,
        ReuseOrder::LastReleased,
    )
    .unwrap();
    let empty = pool.usage().used();
    let mut table = PageTable::<Gaudi2Pmmu, _>::new(&pool).unwrap().unwrap();
    let fake = Fake::gaudi2();
    let mut mmu = Gaudi2HostMmu::<_, 2>::new(&fake, TIMEOUTS, PARKING);
    mmu.enable().unwrap();
    mmu.set_root(USER, table.root()).unwrap();
    let run = AddrRange::new(BusAddr::new(0x9000_0000), 0x4000).unwrap();
    table
        .map(DeviceAddr::new(AT), run, &MapOptions::default())
        .unwrap();
    let used = pool.usage().used();

    let removed = table.unmap(range(AT, 0x4000)).unwrap();
    assert!(removed.tables() > 0);
    fake.hang(0x4D0_108C);
    let (removed, error) = removed.confirm(&mut mmu).unwrap_err().into_parts();
    let register = 0x4D0_108C;
    assert_eq!(
        error,
        ConfirmError::Invalidate(MmuError::TimedOut { register })
    );
    assert_eq!(pool.usage().used(), used, "still in quarantine");
    fake.mend();
    removed.confirm(&mut mmu).unwrap();
    assert!(pool.usage().used() < used);

    mmu.park(USER).unwrap();
    table.close().confirm(&mut mmu).unwrap();
    assert_eq!(pool.usage().used(), empty);
}
