//! The host model, with either storage: what pins hold, what reclaim takes, what views show, and that everything comes back.

use std::sync::Arc;
use std::thread;

use hl_harness::asic::HostBus;
use hl_harness::host::{
    BUS_BASE, FRAME_SIZE, FrameOrder, FrameOwner, FrameStorage, Host, HostConfig, HostFailure,
    MapError, NotPinned, Permission, PinAccess, PinError, PinReason, Process, UserAddress,
    UserFault, ViewError,
};
use hl_harness::log::{EventKind, EventLog};
use mmu_core::BusAddr;

/// Runs functions on a host with either storage, each as a test of its own.
macro_rules! in_each_storage {
    ($($name:ident),* $(,)?) => {
        $(
            mod $name {
                use hl_harness::host::FrameStorage;

                #[test]
                #[cfg_attr(miri, ignore = "Miri has no memfd")]
                fn in_a_file() {
                    super::$name(FrameStorage::MemoryFile);
                }
                #[test]
                fn in_the_program() {
                    super::$name(FrameStorage::Program);
                }
            }
        )*
    };
}

mod host_model {
    mod fork;
}

const PAGE: u64 = FRAME_SIZE as u64;

in_each_storage!(
    a_pin_that_meets_a_hole_returns_the_pins_it_took_and_names_the_hole,
    a_read_only_page_can_be_pinned_for_reading_only,
    reclaim_moves_every_unpinned_user_page_with_its_content_and_no_other,
    reclaim_leaves_a_page_that_a_view_shows,
    a_pinned_page_outlives_unmapping_replacement_and_exit,
    dirty_marks_last_until_the_page_is_freed,
    the_nth_allocation_or_pin_fails_once_and_leaves_nothing_behind,
    the_nth_dma_mapping_fails_once_and_leaves_nothing_mapped,
    running_out_of_pages_gives_back_those_already_taken,
    memory_is_zeroed_when_it_is_handed_out_again,
    a_view_shows_scattered_pages_in_order_and_shares_them_with_physical_access,
    a_view_refuses_writes_to_its_read_only_pages_and_anything_outside,
    the_view_of_a_process_has_the_permissions_of_its_pages,
    what_one_thread_releases_through_memory_another_sees_through_a_view,
    contiguous_memory_is_contiguous_and_aligned_on_the_bus,
    bus_addresses_and_pages_are_each_others_inverse_and_end_with_the_memory,
    a_device_access_to_a_free_or_unpinned_page_is_held_against_the_driver,
    mappings_do_not_overlap_and_a_page_stays_free_behind_each,
    a_difference_names_each_counter_that_changed,
);

fn host(storage: FrameStorage, frames: u32) -> Arc<Host> {
    let config = HostConfig {
        storage,
        ..HostConfig::with_frames(frames)
    };
    Host::new(config, EventLog::recording()).unwrap()
}

fn assert_restored(host: &Host, before: hl_harness::host::HostCounters) {
    let now = host.counters();
    assert_eq!(now, before, "{}", now.difference(&before));
    assert_eq!(host.damaged_free_frames(), []);
}

fn a_pin_that_meets_a_hole_returns_the_pins_it_took_and_names_the_hole(storage: FrameStorage) {
    let host = host(storage, 64);
    let process = host.spawn();
    let start = process.map(5, Permission::ReadWrite).unwrap();
    process.unmap(start.offset(3 * PAGE), 1);
    let before = host.counters();
    let error = process.pin(start, 5, PinAccess::Write).unwrap_err();
    let hole = start.offset(3 * PAGE);
    assert_eq!(error.address, hole);
    assert_eq!(error.reason, PinReason::Hole);
    assert_restored(&host, before);
    assert_eq!(host.log().count(EventKind::Pin), 3);
    assert_eq!(host.log().count(EventKind::Unpin), 3);
}

fn a_read_only_page_can_be_pinned_for_reading_only(storage: FrameStorage) {
    let host = host(storage, 64);
    let process = host.spawn();
    let start = process.map(3, Permission::ReadWrite).unwrap();
    let middle = start.offset(PAGE);
    assert_eq!(process.protect(middle, 1, Permission::ReadOnly), 1);
    let expected = PinError {
        address: middle,
        reason: PinReason::ReadOnly,
    };
    assert_eq!(process.pin(start, 3, PinAccess::Write), Err(expected));
    let frames = process.pin(start, 3, PinAccess::Read).unwrap();
    assert_eq!(frames.len(), 3);
    assert_eq!(
        process.write(middle, &[1]),
        Err(UserFault::ReadOnly { address: middle })
    );
}

fn reclaim_moves_every_unpinned_user_page_with_its_content_and_no_other(storage: FrameStorage) {
    let host = host(storage, 64);
    let process = host.spawn();
    let start = process.map(3, Permission::ReadWrite).unwrap();
    let kernel = host.kernel_block(2, "block").unwrap();
    let kernel_frames = kernel.frames().to_vec();
    let content: Vec<u8> = (0..3 * FRAME_SIZE).map(|i| (i / 61) as u8).collect();
    process.write(start, &content).unwrap();
    let before: Vec<_> = (0..3)
        .map(|page| process.frame_at(start.offset(page * PAGE)).unwrap())
        .collect();
    let pinned = process
        .pin(start.offset(PAGE), 1, PinAccess::Write)
        .unwrap();
    assert_eq!(pinned, before[1..2]);
    assert_eq!(host.reclaim(), 2);
    let after: Vec<_> = (0..3)
        .map(|page| process.frame_at(start.offset(page * PAGE)).unwrap())
        .collect();
    assert_ne!(after[0], before[0]);
    assert_eq!(after[1], before[1]);
    assert_ne!(after[2], before[2]);
    let mut now = vec![0; content.len()];
    process.read(start, &mut now).unwrap();
    assert!(now == content);
    assert_eq!(kernel.frames(), kernel_frames);
    let mut old = [0; 8];
    HostBus::read(&*host, host.bus_address(before[0]), &mut old).unwrap();
    assert_eq!(old, [0xA5; 8], "the old page is poisoned");
    assert_eq!(host.owner(before[0]), FrameOwner::Free);
}

fn reclaim_leaves_a_page_that_a_view_shows(storage: FrameStorage) {
    let host = host(storage, 16);
    let process = host.spawn();
    let start = process.map(1, Permission::ReadWrite).unwrap();
    let view = process.view(start, 1).unwrap();
    assert_eq!(host.reclaim(), 0);
    view.store_u32(0, 5).unwrap();
    assert_eq!(process.load_u32(start), Ok(5));
    drop(view);
    assert_eq!(host.reclaim(), 1);
    assert_eq!(process.load_u32(start), Ok(5));
}

fn a_pinned_page_outlives_unmapping_replacement_and_exit(storage: FrameStorage) {
    let host = host(storage, 64);
    let before = host.counters();
    let process = host.spawn();
    let start = process.map(2, Permission::ReadWrite).unwrap();
    process.write(start, b"pinned").unwrap();
    let frames = process.pin(start, 2, PinAccess::Write).unwrap();
    process.replace(start, 1, Permission::ReadWrite).unwrap();
    let mut seen = [1; 6];
    process.read(start, &mut seen).unwrap();
    assert_eq!(seen, [0; 6], "the process sees the new page");
    HostBus::read(&*host, host.bus_address(frames[0]), &mut seen).unwrap();
    assert_eq!(&seen, b"pinned", "the device sees the old one");
    drop(process);
    assert_eq!(
        (host.counters().pins, host.counters().frames_in_use),
        (2, 2)
    );
    for frame in &frames {
        host.unpin(*frame, true).unwrap();
    }
    assert_restored(&host, before);
    let frame = frames[0];
    assert_eq!(host.unpin(frame, false), Err(NotPinned { frame }));
}

fn dirty_marks_last_until_the_page_is_freed(storage: FrameStorage) {
    let host = host(storage, 16);
    let process = host.spawn();
    let start = process.map(2, Permission::ReadWrite).unwrap();
    let frames = process.pin(start, 2, PinAccess::Write).unwrap();
    host.unpin(frames[0], true).unwrap();
    host.unpin(frames[1], false).unwrap();
    assert_eq!(host.counters().dirty_frames, 1);
    process.exit();
    assert_eq!(host.counters().dirty_frames, 0);
}

fn the_nth_allocation_or_pin_fails_once_and_leaves_nothing_behind(storage: FrameStorage) {
    let host = host(storage, 64);
    let process = host.spawn();
    let start = process.map(4, Permission::ReadWrite).unwrap();
    let before = host.counters();
    for nth in 1..=4 {
        host.fail(HostFailure::FrameAllocation, Some(nth));
        assert!(host.kernel_block(4, "block").is_err(), "{nth}");
        assert_restored(&host, before);
        host.fail(HostFailure::Pin, Some(nth));
        let error = process.pin(start, 4, PinAccess::Read).unwrap_err();
        assert_eq!(error.address, start.offset((nth - 1) * PAGE));
        assert_eq!(error.reason, PinReason::Injected);
        assert_restored(&host, before);
    }
    assert!(host.kernel_block(4, "block").is_ok());
    host.fail(HostFailure::Pin, Some(1));
    host.fail(HostFailure::Pin, None);
    assert!(process.pin(start, 4, PinAccess::Read).is_ok());
}

fn the_nth_dma_mapping_fails_once_and_leaves_nothing_mapped(storage: FrameStorage) {
    let host = host(storage, 64);
    let process = host.spawn();
    let start = process.map(5, Permission::ReadWrite).unwrap();
    let frames = process.pin(start, 5, PinAccess::Write).unwrap();
    let before = host.counters();
    for nth in 1..=5 {
        host.fail(HostFailure::DmaMap, Some(nth));
        let error = host.map_for_dma(&frames).unwrap_err();
        assert_eq!(error.frame, frames[nth as usize - 1]);
        assert_restored(&host, before);
    }
    host.map_for_dma(&frames).unwrap();
    host.map_for_dma(&frames[..2]).unwrap();
    assert_eq!(host.counters().dma_mappings, 7);
    host.unmap_for_dma(&frames[..2]);
    host.unmap_for_dma(&frames);
    assert_restored(&host, before);
}

fn running_out_of_pages_gives_back_those_already_taken(storage: FrameStorage) {
    let host = host(storage, 8);
    let process = host.spawn();
    let before = host.counters();
    assert_eq!(
        process.map(9, Permission::ReadWrite),
        Err(MapError::OutOfFrames)
    );
    assert_restored(&host, before);
    assert!(process.map(8, Permission::ReadWrite).is_ok());
}

fn memory_is_zeroed_when_it_is_handed_out_again(storage: FrameStorage) {
    let config = HostConfig {
        frames: 4,
        order: FrameOrder::ImmediateReuse,
        storage,
    };
    let host = Host::new(config, EventLog::new()).unwrap();
    let first = host.kernel_block(1, "first").unwrap();
    let frame = first.frames()[0];
    first.view().unwrap().write(0, &[7; FRAME_SIZE]).unwrap();
    drop(first);
    let second = host.kernel_block(1, "second").unwrap();
    assert_eq!(second.frames(), [frame], "at once");
    let mut bytes = [1; FRAME_SIZE];
    second.view().unwrap().read(0, &mut bytes).unwrap();
    assert_eq!(bytes, [0; FRAME_SIZE]);
}

fn a_view_shows_scattered_pages_in_order_and_shares_them_with_physical_access(
    storage: FrameStorage,
) {
    let host = host(storage, 256);
    let before = host.counters();
    let block = host.kernel_block(100, "block").unwrap();
    let scattered = block
        .frames()
        .windows(2)
        .any(|pair| pair[0].number() + 1 != pair[1].number());
    assert!(scattered);
    let view = block.view().unwrap();
    for (index, frame) in (0_u64..).zip(block.frames()) {
        let bus = host.bus_address(*frame);
        host.store_u64(bus, index + 1).unwrap();
        assert_eq!(view.load_u64(index as usize * FRAME_SIZE), Ok(index + 1));
    }
    // Across the boundary between two scattered pages.
    view.write(FRAME_SIZE - 3, b"across").unwrap();
    let mut tail = [0; 3];
    let second = host.bus_address(block.frames()[1]);
    HostBus::read(&*host, second, &mut tail).unwrap();
    assert_eq!(&tail, b"oss");
    let counters = host.counters();
    assert_eq!((counters.views, counters.view_pages), (1, 100));
    drop(block);
    assert_eq!(
        view.load_u64(2 * FRAME_SIZE),
        Ok(3),
        "the view keeps its pages"
    );
    drop(view);
    assert_restored(&host, before);
}

fn a_view_refuses_writes_to_its_read_only_pages_and_anything_outside(storage: FrameStorage) {
    let host = host(storage, 16);
    let block = host.kernel_block(2, "block").unwrap();
    let pages = [
        (block.frames()[0], Permission::ReadWrite),
        (block.frames()[1], Permission::ReadOnly),
    ];
    let view = host.view_each(&pages).unwrap();
    let read_only = ViewError::ReadOnly { offset: FRAME_SIZE };
    assert_eq!(view.write(FRAME_SIZE - 2, &[1; 4]), Err(read_only));
    assert_eq!(view.load_u32(FRAME_SIZE - 4), Ok(0), "nothing was written");
    assert_eq!(view.store_u32(FRAME_SIZE, 1), Err(read_only));
    assert_eq!(view.store_u32(FRAME_SIZE - 4, 1), Ok(()));
    let end = 2 * FRAME_SIZE;
    let outside = |offset| Err(ViewError::Outside { offset });
    assert_eq!(view.load_u32(end), outside(end));
    assert_eq!(view.load_u32(2), outside(2));
    assert_eq!(
        view.read(usize::MAX, &mut [0; 2]).map(|()| 0),
        outside(usize::MAX)
    );
    assert!(host.view(&[], Permission::ReadOnly).is_err());
}

fn the_view_of_a_process_has_the_permissions_of_its_pages(storage: FrameStorage) {
    let host = host(storage, 16);
    let process = host.spawn();
    let block = host.kernel_block(2, "block").unwrap();
    let address = process.map_block(&block, Permission::ReadOnly).unwrap();
    let view = process.view(address, 2).unwrap();
    block.view().unwrap().store_u32(4096, 9).unwrap();
    assert_eq!(view.load_u32(4096), Ok(9));
    assert_eq!(process.load_u32(address.offset(4096)), Ok(9));
    assert_eq!(view.store_u32(0, 1), Err(ViewError::ReadOnly { offset: 0 }));
    assert!(process.store_u32(address, 1).is_err());
    assert!(
        process.view(address, 3).is_err(),
        "past the block is a hole"
    );
}

fn what_one_thread_releases_through_memory_another_sees_through_a_view(storage: FrameStorage) {
    // Miri is slow, and its threads wait for each other by turns.
    let laps: u32 = if cfg!(miri) { 20 } else { 2_000 };
    let host = host(storage, 16);
    let block = host.kernel_block(2, "ring").unwrap();
    let view = block.view().unwrap();
    let index = host.bus_address(block.frames()[0]);
    let data = host.bus_address(block.frames()[1]);
    thread::scope(|scope| {
        let host = &host;
        scope.spawn(move || {
            for lap in 1..=laps {
                // A different page of the same block, then the index: what a device does.
                let slot = BusAddr::new(data.get() + u64::from(lap % 64) * 8);
                HostBus::write(&**host, slot, &u64::from(lap).to_le_bytes()).unwrap();
                HostBus::store_u32(&**host, index, lap).unwrap();
                while HostBus::load_u32(&**host, BusAddr::new(index.get() + 4)).unwrap() != lap {
                    thread::yield_now();
                }
            }
        });
        for lap in 1..=laps {
            while view.load_u32(0).unwrap() != lap {
                thread::yield_now();
            }
            let mut bytes = [0; 8];
            let slot = FRAME_SIZE + (lap % 64) as usize * 8;
            view.read(slot, &mut bytes).unwrap();
            assert_eq!(u64::from_le_bytes(bytes), u64::from(lap));
            view.store_u32(4, lap).unwrap();
        }
    });
}

fn contiguous_memory_is_contiguous_and_aligned_on_the_bus(storage: FrameStorage) {
    let host = host(storage, 2048);
    let process = host.spawn();
    let _scatter = host.kernel_block(3, "scatter").unwrap();
    let address = process
        .map_contiguous(512, 512, Permission::ReadWrite)
        .unwrap();
    assert_eq!(address.get() % (512 * PAGE), 0);
    let frames = process.pin(address, 512, PinAccess::Write).unwrap();
    let first = host.bus_address(frames[0]);
    assert!(first.is_multiple_of(512 * PAGE));
    for (index, frame) in (0..).zip(&frames) {
        let expected = BusAddr::new(first.get() + index * PAGE);
        assert_eq!(host.bus_address(*frame), expected);
    }
}

fn bus_addresses_and_pages_are_each_others_inverse_and_end_with_the_memory(storage: FrameStorage) {
    let host = host(storage, 16);
    let block = host.kernel_block(1, "block").unwrap();
    let frame = block.frames()[0];
    let bus = host.bus_address(frame);
    assert_eq!(host.frame_at(bus), Some(frame));
    assert_eq!(host.frame_at(BusAddr::new(bus.get() + 4095)), Some(frame));
    let end = BusAddr::new(BUS_BASE.get() + 16 * PAGE);
    assert_eq!(host.frame_at(end), None);
    assert_eq!(host.frame_at(BusAddr::new(0)), None);
    let last = BusAddr::new(end.get() - 4);
    assert!(HostBus::read(&*host, last, &mut [0; 4]).is_ok());
    assert!(HostBus::read(&*host, last, &mut [0; 5]).is_err());
    assert!(HostBus::load_u32(&*host, BusAddr::new(bus.get() + 2)).is_err());
    let beyond = BusAddr::new(u64::MAX - 1);
    assert!(HostBus::write(&*host, beyond, &[0; 4]).is_err());
}

fn a_device_access_to_a_free_or_unpinned_page_is_held_against_the_driver(storage: FrameStorage) {
    let host = host(storage, 16);
    let process = host.spawn();
    let start = process.map(1, Permission::ReadWrite).unwrap();
    let frame = process.frame_at(start).unwrap();
    let bus = host.bus_address(frame);
    HostBus::write(&*host, bus, &[1]).unwrap();
    assert_eq!(host.statistics().unpinned_accesses, 1);
    let pins = process.pin(start, 1, PinAccess::Write).unwrap();
    HostBus::write(&*host, bus, &[1]).unwrap();
    assert_eq!(host.statistics().unpinned_accesses, 1, "pinned now");
    assert_eq!(host.statistics().unmapped_accesses, 1);
    host.map_for_dma(&pins).unwrap();
    HostBus::write(&*host, bus, &[1]).unwrap();
    assert_eq!(host.statistics().unmapped_accesses, 1, "mapped now");
    host.unmap_for_dma(&pins);
    host.unpin(pins[0], true).unwrap();
    process.exit();
    HostBus::write(&*host, bus, &[1]).unwrap();
    let statistics = host.statistics();
    assert_eq!(
        (statistics.free_accesses, statistics.unpinned_accesses),
        (1, 1)
    );
    assert_eq!(host.damaged_free_frames(), [frame]);
    // Whoever gets the page next finds out.
    let all = host.kernel_block(16, "all").unwrap();
    assert_eq!(host.statistics().poison_damaged, 1);
    assert_eq!(host.log().count(EventKind::PoisonDamaged), 1);
    drop(all);
}

fn mappings_do_not_overlap_and_a_page_stays_free_behind_each(storage: FrameStorage) {
    let host = host(storage, 64);
    let process = host.spawn();
    let one = process.map(2, Permission::ReadWrite).unwrap();
    let two = process.map(1, Permission::ReadWrite).unwrap();
    assert_eq!(two, one.offset(3 * PAGE));
    let gap = one.offset(2 * PAGE);
    assert_eq!(
        process.read(gap.offset(5), &mut [0]),
        Err(UserFault::Hole {
            address: gap.offset(5)
        })
    );
    let before = host.counters();
    assert_eq!(
        process.map_at(gap, 2, Permission::ReadWrite),
        Err(MapError::Occupied { address: two })
    );
    for (address, pages) in [(gap.offset(1), 1), (gap, 0), (UserAddress::new(!0xFFF), 1)] {
        assert_eq!(
            process.map_at(address, pages, Permission::ReadWrite),
            Err(MapError::BadRange)
        );
    }
    assert_restored(&host, before);
    assert_eq!(process.map_at(gap, 1, Permission::ReadWrite), Ok(()));
}

fn a_difference_names_each_counter_that_changed(storage: FrameStorage) {
    let host = host(storage, 16);
    let before = host.counters();
    let block = host.kernel_block(3, "block").unwrap();
    let difference = host.counters().difference(&before);
    assert_eq!(
        difference.to_string(),
        "frames in use: 0 -> 3\nkernel frames: 0 -> 3\nreferences: 0 -> 3\n"
    );
    drop(block);
    assert!(host.counters().difference(&before).is_empty());
}
