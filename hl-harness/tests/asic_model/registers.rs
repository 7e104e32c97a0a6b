use hl_harness::asic::{
    AccessKind, AsicConfig, DramContent, FaultReason, HbmStacks, InitiatorMode, MmuInstance,
    PostedWrites, Stopped, UNDEFINED_WORD,
};
use hl_harness::log::{Event, EventKind};
use mmu_core::{BusAddr, DeviceAddr};

use crate::rig::{HMMU0, Kind, PMMU, Rig};

#[test]
fn an_unknown_register_reads_zero_and_a_write_to_it_is_logged() {
    let rig = Rig::new(Kind::Goya);
    let mark = rig.log.mark();
    rig.asic.write_register(0x123456, 7);
    assert_eq!(rig.asic.read_register(0x123456), 0);
    let offset = 0x123456;
    let expected = Event::RegisterUnknown { offset, value: 7 };
    assert_eq!(rig.log.since(mark)[0].event, expected);
    assert_eq!(rig.asic.counters().unknown_writes, 1);
}

#[test]
fn a_disabled_mmu_faults_and_a_bypassed_one_passes_addresses_through() {
    let rig = Rig::new(Kind::Gaudi);
    rig.asic.write_register(0xC1100C, 0);
    assert_eq!(rig.reason(rig.user, 0x1000), FaultReason::Disabled);
    rig.asic.write_register(0xC1106C, 1);
    assert!(rig.asic.poke(BusAddr::new(0x2000_1234), &[8]));
    assert_eq!(rig.read_byte(rig.user, 0x2000_1234), Ok(8));
}

#[test]
fn goya_captures_the_first_address_in_two_registers_until_zero_is_written() {
    let rig = Rig::new(Kind::Goya);
    rig.asic.write_register(0x48002C, 0xF);
    rig.fault(rig.user, 0x3123456789ABC);
    rig.fault(rig.user, 0x1000000000000);
    assert_eq!(rig.asic.read_register(0x480034), 1 << 18 | 0x31234);
    assert_eq!(rig.asic.read_register(0x480038), 0x56789ABC);
    assert_eq!(rig.asic.read_register(0x48003C), 0, "no access error");
    assert_eq!(rig.asic.read_register(0x480030), 1);
    rig.asic.write_register(0x480034, 0);
    rig.fault(rig.user, 0x1000000000000);
    assert_eq!(rig.asic.read_register(0x480034), 1 << 18 | 0x10000);
}

#[test]
fn gaudi2_keeps_page_and_access_errors_apart_and_clears_both_captures_together() {
    let rig = Rig::new(Kind::Pmmu);
    rig.asic.write_register(PMMU + 0x2C, 0x3FFFF);
    let read = |offset| rig.asic.read_register(PMMU + offset);
    rig.fault(rig.user, 0xFFF0123456789000);
    rig.put(rig.table(1, 0), 0x7F, 3);
    rig.asic.write_register(PMMU + 0x1034, 1);
    rig.fault(rig.user, 0xFFF0000000001000);
    assert_eq!((read(0x34), read(0x38)), (0xFFF01234, 0x56789000));
    assert_eq!((read(0x3C), read(0x40)), (0xFFF00000, 0x1000));
    assert_eq!((read(0x44), read(0x30)), (3, 3));
    assert_eq!(rig.asic.interrupts(MmuInstance::Pmmu), 3);
    // As the driver does: clear what was read, then the interrupt.
    rig.asic.write_register(PMMU + 0x44, 0);
    rig.asic.write_register(PMMU + 0x30, read(0x30) & !3);
    rig.asic.write_register(PMMU + 0x48, 1 << 1);
    assert_eq!((read(0x44), read(0x30)), (0, 0));
    assert_eq!(rig.asic.interrupts(MmuInstance::Pmmu), 0);
}

#[test]
fn an_hmmu_captures_the_scrambled_address_and_reports_the_raw_one() {
    let rig = Rig::new(Kind::Hmmu(HbmStacks::Six));
    let fault = rig.fault(rig.user, 0x1001001812345678);
    assert_eq!(fault.address, DeviceAddr::new(0x1001001812345678));
    assert_eq!(rig.asic.read_register(HMMU0 + 0x34), 0x10010020);
    assert_eq!(rig.asic.read_register(HMMU0 + 0x38), 0x18345678);
}

#[test]
fn a_walk_begins_and_ends_at_the_hops_that_the_register_says() {
    // What each driver writes, the same with an end that is a hop too early, and with a hop left out at
    // the beginning (facts 9.1 to 9.3).
    let cases = [
        (Kind::Goya, 0x490024, 0x440, 0x340, 0x441),
        (Kind::Gaudi, 0xC12024, 0x3_0440, 0x3_0340, 0x3_0441),
        (Kind::Pmmu, PMMU + 0x1024, 0x5_5450, 0x5_4450, 0x5_5451),
    ];
    for (kind, offset, right, early, late) in cases {
        let rig = Rig::new(kind);
        let (page, leaf) = rig.page(7);
        let (path, address): (&[u64], _) = match kind {
            Kind::Pmmu => (&[0x7F, 0x1F0, 0, 0, 0, 0], 0xFFF0000000000000),
            _ => (&[1, 0, 0, 0, 0], 0x1000000000000),
        };
        rig.path(1, path, leaf);
        rig.asic.write_register(offset, right);
        assert_eq!(rig.read_byte(rig.user, address), Ok(7), "{kind:?}");
        assert_eq!(rig.invalidate_all(), 0);
        rig.asic.write_register(offset, early);
        let hop = path.len() as u8 - 2;
        let entry = rig.table(1, u64::from(hop) + 1) | 1;
        let malformed = FaultReason::Malformed { hop, entry };
        assert_eq!(rig.reason(rig.user, address), malformed, "{kind:?}");
        let explained = rig.asic.explain(1, DeviceAddr::new(address));
        assert_eq!(explained.outcome, Err(malformed));
        // Without its first hop, the root is taken for a table of the second one.
        rig.asic.write_register(offset, late);
        let index = path[1];
        let explained = rig.asic.explain(1, DeviceAddr::new(address));
        assert_eq!(explained.steps[0].hop, 1);
        assert_eq!(u64::from(explained.steps[0].index), index);
        assert_eq!(explained.steps[0].table.get(), rig.table(1, 0));
        rig.asic.write_register(offset, right);
        assert_eq!(rig.read_byte(rig.user, address), Ok(7), "{kind:?}");
        drop(page);
    }
}

#[test]
fn a_walk_of_device_memory_is_explained_by_an_hmmu_that_exists() {
    let rig = Rig::with(Kind::Hmmu(HbmStacks::Six), |config| AsicConfig {
        hmmu_enabled: !1,
        ..config
    });
    rig.path(1, &[8, 1, 0, 0x80], 0x1001_0000_4000_0801);
    let root = rig.table(1, 0);
    for (offset, value) in [
        (0x1004, 1),
        (0x1008, (root >> 12) as u32),
        (0x100C, (root >> 44) as u32),
        (0x1000, 1 << 31),
    ] {
        rig.asic.write_register(HMMU0 + 0x1_0000 + offset, value);
    }
    let explained = rig.asic.explain(1, DeviceAddr::new(0x1001_0018_0000_0000));
    assert_eq!(explained.mmu, MmuInstance::Hmmu(1));
    assert_eq!(explained.outcome, Ok(BusAddr::new(0x1001_0000_3000_0000)));
}

#[test]
fn an_hmmu_that_was_fused_off_has_no_registers() {
    let rig = Rig::with(Kind::Pmmu, |config| AsicConfig {
        hmmu_enabled: !1,
        ..config
    });
    rig.asic.write_register(HMMU0 + 0xC, 1);
    assert_eq!(rig.asic.read_register(HMMU0 + 0xC), 0);
    assert_eq!(rig.asic.counters().unknown_writes, 1);
}

#[test]
fn a_write_through_the_bar_is_seen_by_the_walker_only_after_a_read_through_it() {
    for (posted_writes, seen_at_once) in [
        (PostedWrites::UntilFlush, false),
        (PostedWrites::Immediate, true),
    ] {
        let rig = Rig::with(Kind::Goya, |config| AsicConfig {
            posted_writes,
            ..config
        });
        rig.path(1, &[1, 0, 0, 0, 0], 0);
        let base = rig.asic.bar_move(BusAddr::new(0x1000_0000)).unwrap();
        assert_eq!(base, BusAddr::new(0x1000_0000));
        let leaf = rig.table(1, 4) - base.get();
        rig.asic.bar_write_u64(leaf, 0x2000_0801).unwrap();
        let address = DeviceAddr::new(0x1000000000000);
        let walk = || rig.asic.explain(1, address).outcome.is_ok();
        assert_eq!(walk(), seen_at_once);
        let mark = rig.log.mark();
        rig.asic.bar_read_u64(0).unwrap();
        assert!(walk());
        let posted = u64::from(!seen_at_once);
        assert_eq!(rig.log.since(mark)[0].event, Event::Flush { posted });
    }
}

#[test]
fn the_bar_window_moves_by_its_own_size_and_ends_where_it_ends() {
    let rig = Rig::new(Kind::Hmmu(HbmStacks::Six));
    let table = BusAddr::new(0x1001_0000_2FC0_0000);
    let base = rig.asic.bar_move(table).unwrap();
    assert_eq!(base, BusAddr::new(0x1001_0000_2000_0000));
    let size = rig.asic.bar_size();
    assert!(rig.asic.bar_write_u64(size, 0).is_err());
    assert!(rig.asic.bar_write_words(size - 8, &[0, 0]).is_err());
    assert!(rig.asic.bar_write_u64(4, 0).is_err(), "misaligned");
    assert!(rig.asic.bar_write_u64(size - 8, 5).is_ok());
    assert_eq!(rig.asic.bar_read_u64(size - 8), Ok(5));
    assert!(rig.asic.bar_move(BusAddr::new(0x1000)).is_err());
}

#[test]
fn a_lost_device_reads_all_ones_drops_writes_and_moves_nothing() {
    let rig = Rig::new(Kind::Goya);
    let (page, leaf) = rig.page(7);
    rig.path(1, &[1, 0, 0, 0, 0], leaf);
    rig.asic.bar_write_u64(0x100, 42).unwrap();
    rig.asic.lose();
    assert_eq!(rig.asic.read_register(0x490034), u32::MAX);
    assert_eq!(rig.asic.bar_read_u64(0x100), Ok(u64::MAX));
    rig.asic.bar_write_u64(0x108, 43).unwrap();
    rig.asic.write_register(0x48000C, 0);
    let error = rig
        .asic
        .write(rig.user, DeviceAddr::new(0x1000000000000), &[1])
        .unwrap_err();
    assert_eq!((error.stopped, error.bytes_done), (Stopped::Lost, 0));
    assert_eq!(page.view().unwrap().load_u32(0), Ok(0x07070707));
    assert_eq!(rig.asic.first_fault(), None, "nobody was left to report");

    rig.asic.reset(DramContent::Kept);
    assert_eq!(rig.reason(rig.user, 0x1000000000000), FaultReason::Disabled);
    let mut words = [0; 16];
    assert!(rig.asic.peek(BusAddr::new(0x100), &mut words));
    let undefined = UNDEFINED_WORD.to_le_bytes();
    assert_eq!(words[..8], undefined, "the posted write was lost too");
    assert_eq!(words[8..], undefined);
    // With roots, enable and mode set again everything is as before.
    rig.bring_up();
    rig.path(1, &[1, 0, 0, 0, 0], leaf);
    rig.asic
        .set_initiator_mode(rig.user, InitiatorMode::User(1));
    assert_eq!(rig.read_byte(rig.user, 0x1000000000000), Ok(7));
}

#[test]
fn a_device_is_lost_at_the_access_that_was_chosen_and_not_before() {
    use hl_harness::asic::{Completion, Operation};
    for nth in 1..=4 {
        let rig = Rig::new(Kind::Goya);
        let never = Completion::Never;
        rig.asic.inject(Operation::HostAccess, nth, 1, never);
        rig.asic.write_register(0x48002C, 0xF);
        let mask = rig.asic.read_register(0x48002C);
        rig.asic.bar_write_u64(0x100, 42).unwrap();
        let word = rig.asic.bar_read_u64(0x100).unwrap();
        assert_eq!(mask, if nth > 2 { 0xF } else { u32::MAX }, "{nth}");
        assert_eq!(word, u64::MAX, "{nth}");
        assert!(rig.asic.is_lost());
        assert_eq!(rig.log.count(EventKind::DeviceLost), 1);
        rig.asic.reset(DramContent::Kept);
        // Only what a read had waited for would have arrived.
        assert_eq!(rig.asic.bar_read_u64(0x100), Ok(UNDEFINED_WORD), "{nth}");
    }
}

#[test]
fn a_reset_forgets_caches_stuck_operations_and_on_request_memory() {
    let rig = Rig::new(Kind::Goya);
    let (_page, leaf) = rig.page(7);
    rig.path(1, &[1, 0, 0, 0, 0], leaf);
    assert_eq!(rig.read_byte(rig.user, 0x1000000000000), Ok(7));
    rig.fault(rig.user, 0x2000000000000);
    assert_ne!(rig.asic.cached(MmuInstance::Single), (0, 0));
    rig.asic.inject(
        hl_harness::asic::Operation::Invalidation,
        1,
        1,
        hl_harness::asic::Completion::Never,
    );
    assert_ne!(rig.invalidate_all(), 0);
    rig.asic.reset(DramContent::Undefined);
    assert_eq!(rig.asic.read_register(0x490034), 0);
    assert_eq!(rig.asic.read_register(0x480034), 0);
    assert_eq!(rig.asic.cached(MmuInstance::Single), (0, 0));
    assert_eq!(rig.asic.first_fault(), None);
    assert_eq!(rig.asic.initiator_mode(rig.user), InitiatorMode::Privileged);
    let mut word = [0; 8];
    let root = BusAddr::new(rig.table(1, 0));
    assert!(rig.asic.peek(root, &mut word));
    assert_eq!(word, UNDEFINED_WORD.to_le_bytes());
}

#[test]
fn only_the_first_fault_is_latched_until_the_latch_is_opened() {
    let rig = Rig::new(Kind::Goya);
    let first = rig.fault(rig.user, 0x1000000000000);
    let second = rig.fault(rig.user, 0x2000000000000);
    assert_eq!(rig.asic.first_fault(), Some(first));
    rig.asic.clear_first_fault();
    let third = rig.fault(rig.privileged, 0x3000000000000);
    assert_eq!(rig.asic.first_fault(), Some(third));
    assert_eq!(rig.asic.take_faults(), [first, second, third]);
    assert_eq!(rig.log.count(EventKind::Fault), 3);
    assert_eq!(third.access, AccessKind::Read);
}
