use hl_harness::asic::{AccessKind, FaultReason, HbmStacks, MmuInstance};
use mmu_core::{BusAddr, DeviceAddr};

use crate::rig::{Kind, PMMU, Rig};

/// What `explain` says of the walk: indices, tables, leaf size.
fn indices(rig: &Rig, asid: u16, address: u64) -> Vec<u64> {
    let explanation = rig.asic.explain(asid, DeviceAddr::new(address));
    for step in &explanation.steps {
        let expected = rig.table(u32::from(asid), u64::from(step.hop));
        assert_eq!(step.table, BusAddr::new(expected));
        let entry = expected + 8 * u64::from(step.index);
        assert_eq!(step.entry_address, BusAddr::new(entry));
    }
    let index = |step: &hl_harness::asic::HopStep| u64::from(step.index);
    explanation.steps.iter().map(index).collect()
}

#[test]
fn goya_and_gaudi_find_a_small_page_at_hop_4_and_take_the_host_offset_off() {
    for kind in [Kind::Goya, Kind::Gaudi] {
        let rig = Rig::new(kind);
        let (_page, leaf) = rig.page(0x42);
        let path = [1, 0x46, 0x115, 0x13C, 0x9A];
        rig.path(1, &path, leaf);
        assert_eq!(rig.read_byte(rig.user, 0x123456789A010), Ok(0x42));
        assert_eq!(indices(&rig, 1, 0x123456789A010), path);
        let explanation = rig.asic.explain(1, DeviceAddr::new(0x123456789A010));
        let bus = (leaf & !0xFFF) + 0x10;
        assert_eq!(explanation.outcome, Ok(BusAddr::new(bus)));
        assert_eq!(explanation.leaf_size, 0x1000);
        assert!(bus > 0x8000000000, "the entry holds the device's view");
    }
}

#[test]
fn goya_finds_a_large_page_of_device_memory_at_hop_3() {
    let rig = Rig::new(Kind::Goya);
    rig.path(1, &[0, 0, 0x7F, 0x1FF], 0x2000_0801);
    assert!(rig.asic.poke(BusAddr::new(0x201F_FFFF), &[9]));
    assert_eq!(rig.read_byte(rig.user, 0x1FFFFFFFFF), Ok(9));
    assert_eq!(indices(&rig, 1, 0x1FFFE00000), [0, 0, 0x7F, 0x1FF]);
    // Bits above the 50 that are walked do not matter.
    assert_eq!(rig.read_byte(rig.user, 0xFFFC_001F_FFFF_FFFF), Ok(9));
}

#[test]
fn the_pmmu_walks_six_hops_in_host_memory_with_leaves_of_4_kib_and_2_mib() {
    let rig = Rig::new(Kind::Pmmu);
    let (_page, leaf) = rig.page(0x17);
    let path = [0x7F, 0x1F0, 0x24, 0xD1, 0xB3, 0x189];
    rig.path(1, &path, leaf);
    assert_eq!(rig.read_byte(rig.user, 0xFFF0123456789FFF), Ok(0x17));
    assert_eq!(indices(&rig, 1, 0xFFF0123456789FFF), path);

    let huge = rig.host.kernel_contiguous(512, 512, "huge").unwrap();
    huge.view().unwrap().write(0x12_3456, &[0x33]).unwrap();
    let bus = rig.host.bus_address(huge.frames()[0]).get();
    let path = [0x7F, 0x1F0, 0x100, 0, 0];
    rig.clear_table(rig.table(1, 4));
    rig.path(1, &path, bus | 0x801);
    assert_eq!(rig.invalidate_all(), 0);
    assert_eq!(rig.read_byte(rig.user, 0xFFF0800000123456), Ok(0x33));
    assert_eq!(indices(&rig, 1, 0xFFF0800000000000), path);
}

#[test]
fn eight_bit_hop_mode_gives_leaves_of_64_kib_and_16_mib() {
    let rig = Rig::new(Kind::Pmmu);
    rig.asic.write_register(PMMU + 0x70, 1 << 20 | 3 << 4 | 4);
    let run = rig.host.kernel_contiguous(4096, 4096, "run").unwrap();
    let view = run.view().unwrap();
    view.write(0xFEDC, &[0x64]).unwrap();
    view.write(0xFF_FFFF, &[0x16]).unwrap();
    let bus = rig.host.bus_address(run.frames()[0]).get();
    let path = [0xFF, 0xF0, 0x12, 0x34, 0x56, 0x78];
    rig.path(1, &path, bus | 0x801);
    assert_eq!(rig.read_byte(rig.user, 0xFFF012345678FEDC), Ok(0x64));
    assert_eq!(indices(&rig, 1, 0xFFF0123456780000), path);
    rig.put(rig.table(1, 4), 0x57, bus | 0x801);
    assert_eq!(rig.invalidate_all(), 0);
    assert_eq!(rig.read_byte(rig.user, 0xFFF0123457FFFFFF), Ok(0x16));
}

#[test]
fn an_hmmu_walks_scrambled_addresses_and_descrambles_what_the_leaf_holds() {
    // Raw address, its place in its page, and the scrambled first user page (facts 2.8).
    let cases = [
        (HbmStacks::Six, 0x1001001812345678, 0x10010000_30000000_u64),
        (HbmStacks::Five, 0x1001001412345678, 0x10010000_28000000),
    ];
    for (stacks, address, memory) in cases {
        let rig = Rig::new(Kind::Hmmu(stacks));
        rig.path(1, &[8, 1, 0, 0x80], 0x1001_0000_4000_0801);
        let place = BusAddr::new(memory + 0x12345678);
        assert!(rig.asic.poke(place, &[0x77]));
        assert_eq!(rig.read_byte(rig.user, address), Ok(0x77), "{stacks:?}");
        assert_eq!(indices(&rig, 1, address), [8, 1, 0, 0x80]);
        let explanation = rig.asic.explain(1, DeviceAddr::new(address));
        assert_eq!(explanation.outcome, Ok(place));
        let walked = match stacks {
            HbmStacks::Six => 0x1001002018345678,
            HbmStacks::Five => 0x100100201CB45678,
        };
        assert_eq!(explanation.walked, DeviceAddr::new(walked));
        assert_eq!(explanation.mmu, MmuInstance::Hmmu(0));
    }
}

#[test]
fn a_read_across_a_scrambling_chunk_goes_on_in_the_next_chunk() {
    let rig = Rig::new(Kind::Hmmu(HbmStacks::Six));
    rig.path(1, &[8, 1, 0, 0x80], 0x1001_0000_4000_0801);
    // The end of the first 48 MiB of the page, and the beginning of the second.
    let memory = 0x1001_0000_3000_0000 + (48 << 20);
    assert!(rig.asic.poke(BusAddr::new(memory - 2), &[1, 2, 3, 4]));
    let mut bytes = [0; 4];
    let address = DeviceAddr::new(0x1001_0018_0000_0000 + (48 << 20) - 2);
    rig.asic.read(rig.user, address, &mut bytes).unwrap();
    assert_eq!(bytes, [1, 2, 3, 4]);
}

#[test]
fn a_dram_page_ends_at_its_raw_size_though_its_leaf_spans_more() {
    let rig = Rig::new(Kind::Hmmu(HbmStacks::Six));
    rig.path(1, &[8, 1, 0, 0x80], 0x1001_0000_4000_0801);
    let end = 0x1001_0018_3000_0000;
    let mut bytes = [0; 16];
    let error = rig
        .asic
        .read(rig.user, DeviceAddr::new(end - 8), &mut bytes)
        .unwrap_err();
    assert_eq!(error.bytes_done, 8);
    let fault = error.fault().unwrap();
    assert_eq!(fault.address, DeviceAddr::new(end));
    assert_eq!(fault.reason, FaultReason::NotPresent { hop: 3 });
}

#[test]
fn what_one_address_space_cached_is_no_translation_of_another() {
    let rig = Rig::new(Kind::Goya);
    let (_user_page, user_leaf) = rig.page(1);
    let (_kernel_page, kernel_leaf) = rig.page(2);
    rig.path(1, &[1, 0, 0, 0, 0], user_leaf);
    rig.path(0, &[1, 0, 0, 0, 0], kernel_leaf);
    for _ in 0..2 {
        assert_eq!(rig.read_byte(rig.privileged, 0x1000000000000), Ok(2));
        assert_eq!(rig.read_byte(rig.user, 0x1000000000000), Ok(1));
    }
}

#[test]
fn a_fault_names_asid_address_kind_mmu_and_hop() {
    let rig = Rig::new(Kind::Goya);
    let (_page, leaf) = rig.page(1);
    rig.path(1, &[1, 0, 0, 0, 0], leaf);
    let address = 0x1000000001008;
    let error = rig
        .asic
        .write(rig.user, DeviceAddr::new(address), &[0; 4])
        .unwrap_err();
    let fault = error.fault().unwrap();
    assert_eq!(
        (fault.mmu, fault.initiator, fault.asid, fault.address),
        (MmuInstance::Single, rig.user, 1, DeviceAddr::new(address))
    );
    assert_eq!(fault.access, AccessKind::Write);
    assert_eq!(fault.reason, FaultReason::NotPresent { hop: 4 });
    assert_eq!(rig.asic.take_faults(), [fault]);
    assert_eq!(rig.asic.take_faults(), []);
    // The same address in another address space is another thing.
    let fault = rig.fault(rig.privileged, 0x1000000000000);
    assert_eq!((fault.asid, fault.access), (0, AccessKind::Read));
    assert_eq!(fault.reason, FaultReason::NotPresent { hop: 0 });
}

#[test]
fn entries_that_break_the_format_are_malformed_each_in_its_way() {
    let rig = Rig::new(Kind::Goya);
    let device_memory = 0x2000_0000;
    let cases: [(&[u64], u64); 5] = [
        // A leaf above the hops that have leaves.
        (&[1, 0, 0], device_memory | 0x801),
        // A large leaf that is not aligned to 2 MiB.
        (&[1, 0, 0, 0], (device_memory + 0x1000) | 0x801),
        // No leaf at the deepest hop.
        (&[1, 0, 0, 0, 0], device_memory | 1),
        // Swapped out.
        (&[1, 0, 0, 0, 0], device_memory | 0x805),
        // A bit without meaning, in a table pointer.
        (&[1, 0], device_memory | 3),
    ];
    for (path, entry) in cases {
        rig.path(1, path, entry);
        assert_eq!(rig.invalidate_all(), 0);
        let hop = path.len() as u8 - 1;
        let reason = rig.reason(rig.user, 0x1000000000000);
        assert_eq!(reason, FaultReason::Malformed { hop, entry });
    }
}

#[test]
fn memory_nobody_initialised_is_no_empty_table() {
    let rig = Rig::new(Kind::Gaudi);
    rig.put(rig.table(1, 0), 1, 0x1800_0001);
    let reason = rig.reason(rig.user, 0x1000000000000);
    let entry = hl_harness::asic::UNDEFINED_WORD;
    assert_eq!(reason, FaultReason::Malformed { hop: 1, entry });
}

#[test]
fn a_table_or_a_page_where_nothing_is_faults_as_such() {
    let rig = Rig::new(Kind::Goya);
    // 4 GiB is one past the end of DRAM.
    rig.put(rig.table(1, 0), 1, 0x1_0000_0001);
    let address = BusAddr::new(0x1_0000_0000);
    assert_eq!(
        rig.reason(rig.user, 0x1000000000000),
        FaultReason::TableFetch { hop: 1, address }
    );
    rig.path(1, &[2, 0, 0, 0, 0], 0x1_0000_0801);
    assert_eq!(rig.invalidate_all(), 0);
    let bus = BusAddr::new(0x1_0000_0000);
    assert_eq!(
        rig.reason(rig.user, 0x2000000000000),
        FaultReason::Decode { bus }
    );
}

#[test]
fn the_three_modes_of_an_initiator_reach_three_different_places() {
    let rig = Rig::new(Kind::Pmmu);
    let (_user_page, user_leaf) = rig.page(1);
    let (_kernel_page, kernel_leaf) = rig.page(2);
    let (bus_page, bus_leaf) = rig.page(3);
    let path = [0x7F, 0x1F0, 0, 0, 0, 0];
    rig.path(1, &path, user_leaf);
    rig.path(0, &path, kernel_leaf);
    let address = 0xFFF0000000000000;
    assert_eq!(rig.read_byte(rig.user, address), Ok(1));
    assert_eq!(rig.read_byte(rig.privileged, address), Ok(2));
    assert_eq!(rig.read_byte(rig.bypass, bus_leaf & !0xFFF), Ok(3));
    // Bypass takes the address as it is, even where a translation exists.
    let bus = BusAddr::new(address);
    assert_eq!(rig.reason(rig.bypass, address), FaultReason::Decode { bus });
    drop(bus_page);
}

#[test]
fn an_address_space_whose_root_was_never_latched_has_no_translations() {
    let rig = Rig::new(Kind::Pmmu);
    let mode = hl_harness::asic::InitiatorMode::User(2);
    rig.asic.set_initiator_mode(rig.user, mode);
    let reason = rig.reason(rig.user, 0xFFF0000000000000);
    assert_eq!(reason, FaultReason::NoRoot);
}

#[test]
fn explaining_neither_caches_nor_faults() {
    let rig = Rig::new(Kind::Goya);
    let before = rig.asic.cached(MmuInstance::Single);
    let explanation = rig.asic.explain(1, DeviceAddr::new(0x1000000000000));
    assert_eq!(explanation.outcome, Err(FaultReason::NotPresent { hop: 0 }));
    assert_eq!(rig.asic.cached(MmuInstance::Single), before);
    assert_eq!(rig.asic.first_fault(), None);
    assert_eq!(
        explanation.to_string(),
        "mmu walks 0x0001000000000000\n  \
         hop 0 table 0x0000000010008000 index 0x001 entry at 0x0000000010008008: 0x0000000000000000\n  \
         -> fault: not present at hop 0"
    );
}
