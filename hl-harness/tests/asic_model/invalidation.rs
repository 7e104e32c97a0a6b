use hl_harness::asic::{
    CacheSize, Completion, FaultReason, HbmStacks, InitiatorMode, MmuInstance, Operation, RangeEnd,
};
use hl_harness::log::EventKind;

use crate::rig::{HMMU0, Kind, PMMU, Rig};

/// A rig, the path of its first page, an address in it and the leaf hop.
fn kinds() -> Vec<(Rig, Vec<u64>, u64)> {
    let v1 = (vec![1, 0, 0, 0, 0], 0x1000000000000);
    let pmmu = (vec![0x7F, 0x1F0, 0, 0, 0, 0], 0xFFF0000000000000);
    vec![
        (Rig::new(Kind::Goya), v1.0.clone(), v1.1),
        (Rig::new(Kind::Gaudi), v1.0, v1.1),
        (Rig::new(Kind::Pmmu), pmmu.0, pmmu.1),
    ]
}

/// Invalidates as Gaudi2's driver does for the PMMU, with the registers as given.
fn invalidate_range(rig: &Rig, asid: u32, start: u64, end: u64) {
    let write = |offset, value| rig.asic.write_register(PMMU + 0x1000 + offset, value);
    let read = |offset| rig.asic.read_register(PMMU + 0x1000 + offset);
    write(0x90, (start >> 12) as u32);
    write(0x94, (start >> 44) as u32);
    write(0x98, (end >> 12) as u32);
    write(0x9C, (end >> 44) as u32);
    invalidate_lines(rig);
    write(0x8C, 3 | asid << 2);
    assert_eq!(read(0x8C) & 1, 0);
}

fn invalidate_lines(rig: &Rig) {
    rig.asic.write_register(PMMU + 0x1050, 1);
    assert_eq!(rig.asic.read_register(PMMU + 0x1054), 3, "done and idle");
    rig.asic.write_register(PMMU + 0x1054, 0);
    assert_eq!(rig.asic.read_register(PMMU + 0x1054), 2, "cleared, idle");
}

#[test]
fn without_invalidation_an_unmapped_page_is_still_reached_and_with_it_not() {
    for (rig, path, address) in kinds() {
        let (_page, leaf) = rig.page(7);
        rig.path(1, &path, leaf);
        assert_eq!(rig.read_byte(rig.user, address), Ok(7));
        rig.path(1, &path, 0);
        assert_eq!(rig.read_byte(rig.user, address), Ok(7), "{:?}", rig.kind);
        assert_eq!(rig.invalidate_all(), 0);
        let hop = path.len() as u8 - 1;
        assert_eq!(
            rig.reason(rig.user, address),
            FaultReason::NotPresent { hop },
            "{:?}",
            rig.kind
        );
    }
}

#[test]
fn i_01_a_page_mapped_beside_cached_ones_is_absent_until_the_line_is_invalidated() {
    for (rig, path, address) in kinds() {
        let (_one, leaf_one) = rig.page(1);
        let (_two, leaf_two) = rig.page(2);
        let (_three, leaf_three) = rig.page(3);
        let (_next, leaf_next) = rig.page(9);
        let hop = path.len() as u64 - 1;
        rig.path(1, &path, leaf_one);
        let table = rig.table(1, hop);
        rig.put(table, 2, leaf_three);
        assert_eq!(rig.read_byte(rig.user, address), Ok(1));
        assert_eq!(rig.read_byte(rig.user, address + 0x2000), Ok(3));
        // The line of eight entries was cached with the second absent. The ninth is in another line.
        rig.put(table, 1, leaf_two);
        rig.put(table, 8, leaf_next);
        assert_eq!(rig.read_byte(rig.user, address + 0x8000), Ok(9));
        let absent = FaultReason::NotPresent { hop: hop as u8 };
        assert_eq!(rig.reason(rig.user, address + 0x1000), absent);
        if rig.kind == Kind::Pmmu {
            // On Gaudi2 the memory-cache register alone is the cure.
            invalidate_lines(&rig);
        } else {
            assert_eq!(rig.invalidate_all(), 0);
        }
        assert_eq!(rig.read_byte(rig.user, address + 0x1000), Ok(2));
    }
}

#[test]
fn a_cached_table_pointer_leads_into_the_freed_table() {
    let rig = Rig::new(Kind::Goya);
    let (_page, leaf) = rig.page(1);
    rig.path(1, &[1, 0, 0, 0, 0], leaf);
    assert_eq!(rig.read_byte(rig.user, 0x1000000000000), Ok(1));
    // The last table is freed and poisoned; the pointer to it is cleared but not invalidated.
    rig.put(rig.table(1, 3), 0, 0);
    for index in 0..512 {
        rig.put(rig.table(1, 4), index, 0xA5A5_A5A5_A5A5_A5A5);
    }
    let entry = 0xA5A5_A5A5_A5A5_A5A5;
    assert_eq!(
        rig.reason(rig.user, 0x1000000100000),
        FaultReason::Malformed { hop: 4, entry }
    );
}

#[test]
fn a_range_invalidation_drops_the_pages_after_its_exclusive_start_and_no_other() {
    let rig = Rig::new(Kind::Pmmu);
    let (_page, leaf) = rig.page(5);
    let base = 0xFFF0000000000000;
    rig.path(1, &[0x7F, 0x1F0, 0, 0, 0, 0], leaf);
    let table = rig.table(1, 5);
    for index in 1..8 {
        rig.put(table, index, leaf);
    }
    let reach = |rig: &Rig| -> Vec<bool> {
        (0..8)
            .map(|page| rig.read_byte(rig.user, base + page * 0x1000).is_ok())
            .collect()
    };
    assert_eq!(reach(&rig), [true; 8]);
    rig.clear_table(table);
    // Pages 2 and 3, but with the start itself instead of start - 1: page 2 survives.
    invalidate_range(&rig, 1, base + 0x2000, base + 0x4000);
    let (f, t) = (false, true);
    assert_eq!(reach(&rig), [t, t, t, f, t, t, t, t]);
    invalidate_range(&rig, 1, base + 0x2000 - 1, base + 0x4000);
    assert_eq!(reach(&rig), [t, t, f, f, t, t, t, t]);
}

#[test]
fn the_end_of_a_range_is_inclusive_or_exclusive_as_configured() {
    for (range_end, third_survives) in [(RangeEnd::Inclusive, false), (RangeEnd::Exclusive, true)] {
        let rig = Rig::with(Kind::Pmmu, |config| hl_harness::asic::AsicConfig {
            range_end,
            ..config
        });
        let (_page, leaf) = rig.page(5);
        let base = 0xFFF0000000000000;
        rig.path(1, &[0x7F, 0x1F0, 0, 0, 0, 0], leaf);
        rig.put(rig.table(1, 5), 1, leaf);
        assert_eq!(rig.read_byte(rig.user, base), Ok(5));
        assert_eq!(rig.read_byte(rig.user, base + 0x1000), Ok(5));
        rig.clear_table(rig.table(1, 5));
        invalidate_range(&rig, 1, base - 1, base + 0x1000);
        assert!(rig.read_byte(rig.user, base).is_err());
        let after = rig.read_byte(rig.user, base + 0x1000);
        assert_eq!(after.is_ok(), third_survives, "{range_end:?}");
    }
}

#[test]
fn a_range_invalidation_drops_a_large_page_it_meets_anywhere() {
    let rig = Rig::new(Kind::Pmmu);
    let huge = rig.host.kernel_contiguous(512, 512, "huge").unwrap();
    let bus = rig.host.bus_address(huge.frames()[0]).get();
    rig.path(1, &[0x7F, 0x1F0, 0x100, 0, 0], bus | 0x801);
    let base = 0xFFF0800000000000;
    assert_eq!(rig.read_byte(rig.user, base), Ok(0));
    rig.clear_table(rig.table(1, 4));
    invalidate_range(&rig, 1, base + 0x20_0000 - 1, base + 0x40_0000);
    assert_eq!(rig.read_byte(rig.user, base), Ok(0), "the next page only");
    invalidate_range(&rig, 1, base + 0x1F_F000 - 1, base + 0x20_0000);
    assert!(rig.read_byte(rig.user, base).is_err());
}

#[test]
fn a_range_invalidation_with_asid_match_leaves_other_address_spaces_alone() {
    let rig = Rig::new(Kind::Pmmu);
    let (_page, leaf) = rig.page(5);
    let base = 0xFFF0000000000000;
    for asid in 0..2 {
        rig.path(asid, &[0x7F, 0x1F0, 0, 0, 0, 0], leaf);
    }
    for initiator in [rig.user, rig.privileged] {
        assert_eq!(rig.read_byte(initiator, base), Ok(5));
    }
    rig.clear_table(rig.table(0, 5));
    rig.clear_table(rig.table(1, 5));
    invalidate_range(&rig, 0, base - 1, base + 0x1000);
    assert!(rig.read_byte(rig.privileged, base).is_err());
    assert_eq!(rig.read_byte(rig.user, base), Ok(5));
}

#[test]
fn a_range_invalidation_without_the_memory_cache_leaves_the_stale_line() {
    let rig = Rig::new(Kind::Pmmu);
    let (_page, leaf) = rig.page(5);
    let base = 0xFFF0000000000000_u64;
    rig.path(1, &[0x7F, 0x1F0, 0, 0, 0, 0], leaf);
    assert_eq!(rig.read_byte(rig.user, base), Ok(5));
    rig.clear_table(rig.table(1, 5));
    let start = base - 1;
    for (offset, value) in [
        (0x90, (start >> 12) as u32),
        (0x94, (start >> 44) as u32),
        (0x98, ((base + 0x1000) >> 12) as u32),
        (0x9C, ((base + 0x1000) >> 44) as u32),
        (0x8C, 3 | 1 << 2),
    ] {
        rig.asic.write_register(PMMU + 0x1000 + offset, value);
    }
    assert_eq!(rig.read_byte(rig.user, base), Ok(5));
}

#[test]
fn gaudi_takes_the_producer_index_through_its_whole_circle() {
    let rig = Rig::new(Kind::Gaudi);
    for _ in 0..258 {
        assert_eq!(rig.invalidate_all(), 0);
    }
    assert_eq!(rig.log.count(EventKind::InvalidateEnd), 258);
    assert_eq!(rig.asic.counters().protocol_violations, 0);
}

#[test]
fn gaudi_does_nothing_when_the_producer_index_does_not_move() {
    let rig = Rig::new(Kind::Gaudi);
    let (_page, leaf) = rig.page(7);
    rig.path(1, &[1, 0, 0, 0, 0], leaf);
    let address = 0x1000000000000;
    let invalidate = |index| {
        for (offset, value) in [(0xC1203C, 3), (0xC12010, index), (0xC1203C, 2)] {
            rig.asic.write_register(offset, value);
        }
        rig.asic.read_register(0xC1203C)
    };
    assert_eq!(invalidate(1), 0);
    assert_eq!(rig.read_byte(rig.user, address), Ok(7));
    rig.path(1, &[1, 0, 0, 0, 0], 0);
    assert_eq!(invalidate(1), 0, "the hardware reports success");
    assert_eq!(rig.read_byte(rig.user, address), Ok(7));
    assert_eq!(rig.asic.counters().protocol_violations, 1);
    // Starting without arming is no invalidation either.
    rig.asic.write_register(0xC12010, 2);
    rig.asic.write_register(0xC1203C, 2);
    assert_eq!(rig.asic.counters().protocol_violations, 3);
    assert_eq!(rig.read_byte(rig.user, address), Ok(7));
    assert_eq!(invalidate(2), 0);
    assert!(rig.read_byte(rig.user, address).is_err());
}

#[test]
fn an_hmmu_left_out_of_the_invalidation_keeps_its_translation() {
    let rig = Rig::new(Kind::Hmmu(HbmStacks::Six));
    let fifth = HMMU0 + 0x20_0000;
    let other = rig
        .asic
        .add_initiator_at("engine of dcore 1", InitiatorMode::User(1), 4);
    rig.path(1, &[8, 1, 0, 0x80], 0x1001_0000_4000_0801);
    let root = rig.table(1, 0);
    for (offset, value) in [
        (0x1004, 1),
        (0x1008, (root >> 12) as u32),
        (0x100C, (root >> 44) as u32),
        (0x1000, 1 << 31),
        (0xC, 1),
    ] {
        rig.asic.write_register(fifth + offset, value);
    }
    let address = 0x1001001800000000;
    for initiator in [rig.user, other] {
        assert!(rig.read_byte(initiator, address).is_ok());
    }
    rig.path(1, &[8, 1, 0, 0x80], 0);
    // The value Gaudi2's driver writes: only bit 0 counts.
    rig.asic.write_register(HMMU0 + 0x1034, 3 | 1 << 2);
    let fault = rig.fault(rig.user, address);
    assert_eq!(fault.mmu, MmuInstance::Hmmu(0));
    assert!(rig.read_byte(other, address).is_ok());
    rig.asic.write_register(fifth + 0x1034, 1);
    assert_eq!(rig.fault(other, address).mmu, MmuInstance::Hmmu(4));
}

#[test]
fn an_invalidation_that_never_completes_stays_busy_without_effect_until_it_is_started_again() {
    for (rig, path, address) in kinds() {
        let (_page, leaf) = rig.page(7);
        rig.path(1, &path, leaf);
        assert_eq!(rig.read_byte(rig.user, address), Ok(7));
        rig.path(1, &path, 0);
        rig.asic
            .inject(Operation::Invalidation, 2, 1, Completion::Never);
        assert_eq!(rig.invalidate_all(), 0, "the first still works");
        rig.path(1, &path, leaf);
        assert_eq!(rig.read_byte(rig.user, address), Ok(7));
        rig.path(1, &path, 0);
        let busy = rig.invalidate_all();
        assert_ne!(busy, 0, "{:?}", rig.kind);
        assert_eq!(rig.read_byte(rig.user, address), Ok(7));
        assert_eq!(rig.log.count(EventKind::InvalidateStuck), 1);
        assert_eq!(rig.invalidate_all(), 0);
        assert!(rig.read_byte(rig.user, address).is_err());
    }
}

#[test]
fn a_late_invalidation_takes_effect_with_the_read_that_finds_it_done() {
    let rig = Rig::new(Kind::Goya);
    let (_page, leaf) = rig.page(7);
    rig.path(1, &[1, 0, 0, 0, 0], leaf);
    let address = 0x1000000000000;
    assert_eq!(rig.read_byte(rig.user, address), Ok(7));
    rig.path(1, &[1, 0, 0, 0, 0], 0);
    let late = Completion::AfterReads(2);
    rig.asic.inject(Operation::Invalidation, 1, 1, late);
    rig.asic.write_register(0x490034, 1);
    for _ in 0..2 {
        assert_eq!(rig.asic.read_register(0x490034), 1);
        assert_eq!(rig.read_byte(rig.user, address), Ok(7));
    }
    assert_eq!(rig.asic.read_register(0x490034), 0);
    assert!(rig.read_byte(rig.user, address).is_err());
}

#[test]
fn a_stuck_range_invalidation_shows_in_its_own_register() {
    let rig = Rig::new(Kind::Pmmu);
    rig.asic
        .inject(Operation::Invalidation, 1, 2, Completion::Never);
    rig.asic.write_register(PMMU + 0x1050, 1);
    rig.asic.write_register(PMMU + 0x108C, 3);
    assert_eq!(
        rig.asic.read_register(PMMU + 0x1054),
        0,
        "not done, not idle"
    );
    assert_eq!(rig.asic.read_register(PMMU + 0x108C), 3);
    assert_eq!(rig.asic.read_register(PMMU + 0x1034), 0, "another unit");
}

#[test]
fn a_root_that_never_latches_stays_busy_and_is_not_used() {
    let rig = Rig::new(Kind::Gaudi);
    rig.asic
        .inject(Operation::RootLatch, 1, 1, Completion::Never);
    rig.asic.write_register(0xC12004, 2);
    rig.asic.write_register(0xC12000, 1 << 31);
    assert_eq!(rig.asic.read_register(0xC12000) >> 31, 1);
    rig.asic
        .set_initiator_mode(rig.user, InitiatorMode::User(2));
    assert_eq!(rig.reason(rig.user, 0x1000000000000), FaultReason::NoRoot);
}

#[test]
fn a_finite_cache_forgets_and_no_cache_never_remembers() {
    let small = CacheSize::SetAssociative { sets: 1, ways: 2 };
    for (size, remembers) in [(CacheSize::None, false), (small, true)] {
        let rig = Rig::with(Kind::Goya, |config| hl_harness::asic::AsicConfig {
            leaf_cache: size,
            line_cache: CacheSize::None,
            ..config
        });
        let (_page, leaf) = rig.page(7);
        rig.path(1, &[1, 0, 0, 0, 0], leaf);
        for index in 1..3 {
            rig.put(rig.table(1, 4), index, leaf);
        }
        let address = 0x1000000000000;
        assert_eq!(rig.read_byte(rig.user, address), Ok(7));
        rig.put(rig.table(1, 4), 0, 0);
        assert_eq!(rig.read_byte(rig.user, address).is_ok(), remembers);
        for page in 1..3 {
            assert_eq!(rig.read_byte(rig.user, address + page * 0x1000), Ok(7));
        }
        assert!(rig.read_byte(rig.user, address).is_err(), "evicted");
    }
}
