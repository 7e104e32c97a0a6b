use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use hl_harness::asic::{
    Descriptor, DmaEngine, DramContent, Endpoint, FaultReason, InitiatorMode, Stopped,
    UNDEFINED_WORD,
};
use hl_harness::host::{FRAME_SIZE, KernelBlock};
use hl_harness::log::{Event, EventKind};
use mmu_core::{BusAddr, DeviceAddr};

use crate::rig::{Kind, Rig};

const BASE: u64 = 0xFFF0000000000000;
const PATH: [u64; 6] = [0x7F, 0x1F0, 0, 0, 0, 0];

fn at(offset: u64) -> Endpoint {
    Endpoint::Virtual(DeviceAddr::new(BASE + offset))
}

/// Maps a scattered block of host memory in the PMMU, from page `first` of the range on.
fn map_block(rig: &Rig, asid: u32, first: u64, block: &KernelBlock) {
    rig.path(asid, &PATH, 0);
    for (index, frame) in (first..).zip(block.frames()) {
        let bus = rig.host.bus_address(*frame).get();
        rig.put(rig.table(asid, 5), index, bus | 0x801);
    }
    rig.invalidate_all();
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + i / 4096) as u8).collect()
}

#[test]
fn a_copy_between_scattered_pages_arrives_whole_whatever_its_alignment() {
    let rig = Rig::new(Kind::Pmmu);
    let block = rig.host.kernel_block(64, "buffer").unwrap();
    map_block(&rig, 1, 1, &block);
    let view = block.view().unwrap();
    let bytes = pattern(100_000);
    view.write(5, &bytes).unwrap();
    let engine = DmaEngine::with_initiator(&rig.asic, rig.user);
    let destination = 140_001;
    engine
        .copy(at(0x1005), at(0x1000 + destination), 100_000)
        .unwrap();
    let mut copied = vec![0; 100_000];
    view.read(destination as usize, &mut copied).unwrap();
    assert!(copied == bytes);
    assert_eq!(rig.host.statistics().free_accesses, 0);
}

#[test]
fn f_05_a_dma_stops_at_the_first_unmapped_page_and_says_how_far_it_got() {
    let rig = Rig::new(Kind::Pmmu);
    let source = rig.host.kernel_block(2, "source").unwrap();
    let destination = rig.host.kernel_block(1, "destination").unwrap();
    let bystander = rig.host.kernel_block(1, "bystander").unwrap();
    source.view().unwrap().write(0, &pattern(8192)).unwrap();
    map_block(&rig, 1, 0, &source);
    let bus = rig.host.bus_address(destination.frames()[0]).get();
    rig.put(rig.table(1, 5), 2, bus | 0x801);
    rig.invalidate_all();
    let engine = DmaEngine::with_initiator(&rig.asic, rig.user);
    let error = engine.copy(at(0), at(0x2000 + 4092), 5000).unwrap_err();
    assert_eq!(error.bytes_done, 4);
    let fault = error.fault().unwrap();
    assert_eq!(fault.address, DeviceAddr::new(BASE + 0x3000));
    assert_eq!(fault.reason, FaultReason::NotPresent { hop: 5 });
    let mut bytes = [1; FRAME_SIZE];
    bystander.view().unwrap().read(0, &mut bytes).unwrap();
    assert_eq!(bytes, [0; FRAME_SIZE]);
    assert_eq!(rig.log.count(EventKind::DmaComplete), 0);
}

#[test]
fn f_04_a_dma_into_another_address_space_faults_and_leaves_the_destination() {
    let rig = Rig::new(Kind::Pmmu);
    let block = rig.host.kernel_block(1, "privileged").unwrap();
    map_block(&rig, 0, 0, &block);
    let user = DmaEngine::with_initiator(&rig.asic, rig.user);
    let error = user.fill(at(0), 0xEE, 1 << 20).unwrap_err();
    let fault = error.fault().unwrap();
    assert_eq!((error.bytes_done, fault.asid), (0, 1));
    assert_eq!(block.view().unwrap().load_u32(0), Ok(0));
    let privileged = DmaEngine::with_initiator(&rig.asic, rig.privileged);
    privileged.fill(at(0), 0xEE, 4096).unwrap();
    assert_eq!(block.view().unwrap().load_u32(4092), Ok(0xEEEEEEEE));
}

#[test]
fn a_transfer_finished_after_its_page_was_freed_is_seen_as_a_write_to_free_memory() {
    let rig = Rig::new(Kind::Pmmu);
    let source = rig.host.kernel_block(1, "source").unwrap();
    let destination = rig.host.kernel_block(1, "destination").unwrap();
    let frame = destination.frames()[0];
    map_block(&rig, 1, 0, &source);
    map_block(&rig, 1, 1, &destination);
    let bus = rig.host.bus_address(source.frames()[0]).get();
    rig.put(rig.table(1, 5), 0, bus | 0x801);
    rig.invalidate_all();
    let engine = DmaEngine::with_initiator(&rig.asic, rig.user);
    let transfer = engine.begin(at(0), at(0x1000), 64).unwrap();
    assert_eq!(rig.host.damaged_free_frames(), []);
    drop(destination);
    transfer.finish().unwrap();
    assert_eq!(rig.host.statistics().free_accesses, 1);
    assert_eq!(rig.host.damaged_free_frames(), [frame]);
    let stray = |event: &Event| matches!(event, Event::StrayAccess { frame: f, .. } if *f == frame);
    assert!(rig.log.find(0, stray).is_some());
}

#[test]
fn a_transfer_whose_place_never_existed_faults_when_it_is_finished() {
    let rig = Rig::new(Kind::Pmmu);
    let (_page, leaf) = rig.page(1);
    rig.path(1, &PATH, leaf);
    let nowhere = 0x1000;
    rig.put(rig.table(1, 5), 1, nowhere | 0x801);
    let engine = DmaEngine::with_initiator(&rig.asic, rig.user);
    let transfer = engine.begin(at(0), at(0x1000), 8).unwrap();
    assert_eq!(transfer.len(), 8);
    let fault = transfer.finish().unwrap_err().fault().unwrap();
    assert_eq!(
        (fault.asid, fault.address),
        (1, DeviceAddr::new(BASE + 0x1000))
    );
    let bus = BusAddr::new(nowhere);
    assert_eq!(fault.reason, FaultReason::Decode { bus });
}

#[test]
fn what_began_before_a_reset_moves_nothing_after_it() {
    let rig = Rig::new(Kind::Pmmu);
    let (_page, leaf) = rig.page(1);
    let target = rig.host.kernel_block(1, "target").unwrap();
    let bring_up = || {
        rig.path(1, &PATH, leaf);
        let bus = rig.host.bus_address(target.frames()[0]).get();
        rig.put(rig.table(1, 5), 1, bus | 0x801);
    };
    bring_up();
    let engine = DmaEngine::with_initiator(&rig.asic, rig.user);
    let transfer = engine.begin(at(0), at(0x1000), 64).unwrap();
    let mut steps = engine.steps(&[Descriptor {
        from: at(0),
        to: at(0x1000),
        len: 64,
    }]);
    rig.asic.reset(DramContent::Kept);
    // Everything is as it was, but what comes now is the work of another life.
    rig.bring_up();
    bring_up();
    rig.asic
        .set_initiator_mode(rig.user, InitiatorMode::User(1));
    assert_eq!(transfer.finish().unwrap_err().stopped, Stopped::Lost);
    assert_eq!(steps.step().unwrap_err().stopped, Stopped::Lost);
    assert_eq!(target.view().unwrap().load_u32(0), Ok(0));
    engine.copy(at(0), at(0x1000), 64).unwrap();
    assert_eq!(target.view().unwrap().load_u32(0), Ok(0x01010101));
}

#[test]
fn a_misaligned_access_of_a_lost_device_is_lost_and_no_fault() {
    let rig = Rig::new(Kind::Goya);
    rig.asic.lose();
    let odd = DeviceAddr::new(0x1000000000002);
    let error = rig.asic.load_u32(rig.user, odd).unwrap_err();
    assert_eq!(error.stopped, Stopped::Lost);
    assert_eq!(rig.asic.take_faults(), []);
}

#[test]
fn device_memory_past_the_mmu_is_for_gaudi_and_for_bypass() {
    let goya = Rig::new(Kind::Goya);
    let place = Endpoint::DeviceMemory(0x2000_0000);
    let user = DmaEngine::with_initiator(&goya.asic, goya.user);
    let error = user.fill(place, 1, 8).unwrap_err();
    assert_eq!(error.fault().unwrap().reason, FaultReason::DirectRefused);
    let bypass = DmaEngine::with_initiator(&goya.asic, goya.bypass);
    bypass.fill(place, 1, 8).unwrap();
    let mut bytes = [0; 9];
    assert!(goya.asic.peek(BusAddr::new(0x2000_0000), &mut bytes));
    assert_eq!(bytes[..8], [1; 8]);
    assert_eq!(bytes[8], 0xD1, "not a byte more");

    let gaudi = Rig::new(Kind::Gaudi);
    let (page, leaf) = gaudi.page(0x44);
    gaudi.path(1, &[1, 0, 0, 0, 0], leaf);
    let engine = DmaEngine::with_initiator(&gaudi.asic, gaudi.user);
    let virtually = Endpoint::Virtual(DeviceAddr::new(0x1000000000000));
    engine.copy(virtually, place, 4096).unwrap();
    page.view().unwrap().write(0, &[0; 4096]).unwrap();
    engine.copy(place, virtually, 4096).unwrap();
    assert_eq!(page.view().unwrap().load_u32(4092), Ok(0x44444444));
    let end = Endpoint::DeviceMemory((32 << 30) - 8);
    assert_eq!(engine.fill(end, 0, 16).unwrap_err().bytes_done, 8);
}

#[test]
fn numbers_are_released_and_acquired_by_device_address_on_both_memories() {
    let rig = Rig::new(Kind::Goya);
    let (page, leaf) = rig.page(0);
    rig.path(1, &[1, 0, 0, 0, 0], leaf);
    rig.put(rig.table(1, 4), 1, 0x2000_0801);
    for address in [0x1000000000010, 0x1000000001010] {
        let address = DeviceAddr::new(address);
        rig.asic.store_u32(rig.user, address, 0x12345678).unwrap();
        assert_eq!(rig.asic.load_u32(rig.user, address), Ok(0x12345678));
    }
    assert_eq!(page.view().unwrap().load_u32(0x10), Ok(0x12345678));
    let odd = DeviceAddr::new(0x1000000000002);
    let error = rig.asic.store_u32(rig.user, odd, 0).unwrap_err();
    assert_eq!(error.fault().unwrap().reason, FaultReason::Misaligned);
}

#[test]
fn once_an_invalidation_is_confirmed_no_engine_still_writes_to_the_page() {
    let rig = Rig::new(Kind::Pmmu);
    let name = "engine";
    let engine = DmaEngine::new(&rig.asic, name, InitiatorMode::User(1));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let writers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut written = 0_u64;
                    while !stop.load(Ordering::Relaxed) {
                        // Faults while nothing is mapped are what must happen.
                        written += u64::from(engine.fill(at(0), 0x5A, 4096).is_ok());
                    }
                    written
                })
            })
            .collect();
        for _ in 0..200 {
            let block = rig.host.kernel_block(1, "target").unwrap();
            let view = block.view().unwrap();
            map_block(&rig, 1, 0, &block);
            while view.load_u32(0) == Ok(0) {
                std::hint::spin_loop();
            }
            rig.put(rig.table(1, 5), 0, 0);
            assert_eq!(rig.invalidate_all(), 0);
        }
        stop.store(true, Ordering::Relaxed);
        for writer in writers {
            assert!(writer.join().unwrap() > 0);
        }
    });
    assert_eq!(rig.host.statistics().free_accesses, 0);
    assert_eq!(rig.host.statistics().poison_damaged, 0);
    assert_eq!(rig.host.damaged_free_frames(), []);
}

#[test]
fn device_memory_that_was_filled_reads_so_until_a_word_of_it_is_written() {
    let rig = Rig::new(Kind::Goya);
    let bypass = DmaEngine::new(&rig.asic, "bypass", InitiatorMode::Bypass);
    let read = |offset: u64| {
        let mut bytes = [0; 16];
        let at = BusAddr::new(rig.asic.dram_base().get() + offset);
        assert!(rig.asic.peek(at, &mut bytes));
        bytes
    };
    let undefined = UNDEFINED_WORD.to_le_bytes()[0];
    // From the middle of one of the pieces that the model keeps to the middle of another.
    let (start, end) = (0x1234_8008, 0x1288_4018);
    let fill = |byte| {
        bypass
            .fill(Endpoint::DeviceMemory(start), byte, end - start)
            .unwrap();
    };
    let inside = [start, 0x1235_0000, 0x123F_FFF0, 0x1240_0000, end - 16];
    for byte in [0, 0x5A] {
        fill(byte);
        for offset in inside {
            assert_eq!(read(offset), [byte; 16], "{offset:#x}");
        }
        for offset in [start - 16, end] {
            assert_eq!(read(offset), [undefined; 16], "{offset:#x}");
        }
        for offset in inside {
            let at = BusAddr::new(rig.asic.dram_base().get() + offset);
            assert!(rig.asic.poke(at, b"a word  "));
            assert_eq!(read(offset)[..8], *b"a word  ", "{offset:#x}");
            assert_eq!(read(offset)[8..], [byte; 8], "{offset:#x}");
        }
    }
    rig.asic.reset(DramContent::Undefined);
    assert_eq!(read(inside[1]), [undefined; 16]);
}
