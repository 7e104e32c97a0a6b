//! Pins: which pages, how often, for how long.

use std::sync::Arc;

use hl_harness::asic::{AccessKind, Endpoint};
use hl_harness::host::{HostFailure, Permission, Process, UserAddress};
use hl_harness::log::{Event, EventLog};
use hl_harness::machine::{Machine, MachineConfig, Model, with_machine};
use hl_mem::Wanted;
use hl_mem::budget::Budget;
use hl_mem::host::DeviceAccess;
use hl_mem::uapi::{Errno, Request};
use mmu_core::DeviceAddr;

use crate::rig::{
    LARGE, PAGE, bus_of, engine, machine, map, map_at, map_input, on_each_asic, pattern, peek,
    pins, read, unmap, with_file,
};

on_each_asic!(
    p01_every_touched_page_is_pinned_once_and_no_other,
    p01_the_same_of_two_huge_pages,
    p03_a_page_that_is_mapped_three_times_is_pinned_three_times,
    p05_pages_of_a_writable_mapping_are_dirty_before_their_last_pin_goes,
    p06_a_range_that_wraps_or_is_empty_reaches_nobody,
    p07_the_device_keeps_the_pages_that_were_pinned,
    p08_only_memory_that_is_contiguous_and_aligned_gets_large_leaves,
);

/// Maps a range of a buffer of `pages` pages, checks pins and content, and unmaps it.
fn check_range<A: Model>(
    machine: &Machine<'_, '_, A>,
    context: &hl_harness::machine::MachineContext<'_, '_, '_, A>,
    process: &Arc<Process>,
    (buffer, pages): (UserAddress, u64),
    (start, len): (u64, u64),
    compare: impl Fn(u64),
) {
    let what = format!("{start:#x} +{len:#x}");
    let at = map(context, buffer.offset(start), len).unwrap();
    assert_eq!(at % PAGE, start % PAGE, "{what}");
    let expected: Vec<u32> = (0..pages)
        .map(|page| u32::from(page * PAGE < start + len && start < (page + 1) * PAGE))
        .collect();
    assert_eq!(pins(machine, process, buffer, pages), expected, "{what}");
    compare(at);
    unmap(context, at).unwrap();
    assert_eq!(machine.host.counters().pins, 0, "{what}");
}

fn p01_every_touched_page_is_pinned_once_and_no_other<A: Model>() {
    machine::<A>(|machine| {
        with_file!(machine, |context, process| {
            let dma = engine(machine, &context);
            let check = |pages: u64, start: u64, len: u64| {
                let buffer = process.map(pages as usize, Permission::ReadWrite).unwrap();
                let data = pattern(pages * PAGE, start + len);
                process.write(buffer, &data).unwrap();
                let compare = |at| {
                    let wanted = &data[start as usize..(start + len) as usize];
                    assert!(
                        read(machine, &dma, at, len) == wanted,
                        "{start:#x} +{len:#x}"
                    );
                };
                check_range(
                    machine,
                    &context,
                    &process,
                    (buffer, pages),
                    (start, len),
                    compare,
                );
                process.unmap(buffer, pages as usize);
            };
            let steps = 8 * PAGE / 2048;
            for start in 0..steps {
                for end in start + 1..=steps {
                    check(8, start * 2048, (end - start) * 2048);
                }
            }
            for start in [0, 1, 7, 28, 511, 2047, 4095] {
                for len in [1, 28, 77, 4095, 4096, 4097, 5000, 92_517] {
                    check(24, start, len);
                }
            }
        });
    });
}

fn p01_the_same_of_two_huge_pages<A: Model>() {
    const STEP: u64 = 256 << 10;
    machine::<A>(|machine| {
        with_file!(machine, |context, process| {
            let dma = engine(machine, &context);
            let pages = 2 * LARGE / PAGE;
            let buffer = process
                .map_contiguous(pages as usize, 512, Permission::ReadWrite)
                .unwrap();
            let numbers: Vec<u8> = (0..pages * PAGE / 8).flat_map(u64::to_le_bytes).collect();
            process.write(buffer, &numbers).unwrap();
            for start in (0..2 * LARGE).step_by(STEP as usize) {
                for end in (start + STEP..=2 * LARGE).step_by(STEP as usize) {
                    let len = end - start;
                    // Both sides of each step, and the ends.
                    let compare = |at: u64| {
                        for offset in (0..=len).step_by(STEP as usize) {
                            for offset in [offset.saturating_sub(8), offset.min(len - 8)] {
                                let got = read(machine, &dma, at + offset, 8);
                                assert_eq!(got, ((start + offset) / 8).to_le_bytes());
                            }
                        }
                    };
                    check_range(
                        machine,
                        &context,
                        &process,
                        (buffer, pages),
                        (start, len),
                        compare,
                    );
                }
            }
        });
    });
}

fn p03_a_page_that_is_mapped_three_times_is_pinned_three_times<A: Model>() {
    let orders = [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ];
    // Of three pages: the same page thrice, and ranges that overlap and are not equal.
    let same = [(PAGE, PAGE); 3];
    let overlapping = [(0, PAGE + 100), (PAGE + 50, PAGE), (2 * PAGE - 1, PAGE + 1)];
    machine::<A>(|machine| {
        with_file!(machine, |context, process| {
            let dma = engine(machine, &context);
            let buffer = process.map(3, Permission::ReadWrite).unwrap();
            let data = pattern(3 * PAGE, 5);
            for ranges in [same, overlapping] {
                for order in orders {
                    process.write(buffer, &data).unwrap();
                    let at = ranges
                        .map(|(start, len)| map(&context, buffer.offset(start), len).unwrap());
                    let mut live = vec![0, 1, 2];
                    assert_eq!(pins(machine, &process, buffer.offset(PAGE), 1), [3]);
                    for (left, gone) in (0..3).rev().zip(order) {
                        unmap(&context, at[gone]).unwrap();
                        live.retain(|number| *number != gone);
                        let pinned = pins(machine, &process, buffer, 3);
                        assert_eq!(pinned[1], left, "{order:?}");
                        let all: u32 = pinned.iter().sum();
                        assert_eq!(u64::from(all), machine.host.counters().pins);
                        for &number in &live {
                            let (start, len) = ranges[number];
                            let wanted = &data[start as usize..(start + len) as usize];
                            assert!(read(machine, &dma, at[number], len) == wanted);
                        }
                        let first = DeviceAddr::new(at[gone]);
                        let error = machine
                            .asic
                            .read(dma.initiator(), first, &mut [0])
                            .unwrap_err();
                        assert_eq!(error.fault().unwrap().address, first);
                    }
                }
            }
        });
    });
}

/// The pages that were marked dirty when their last pin went, by their numbers in a buffer.
fn p05_pages_of_a_writable_mapping_are_dirty_before_their_last_pin_goes<A: Model>() {
    with_machine::<A, _>(MachineConfig::default(), EventLog::recording(), |machine| {
        with_file!(machine, |context, process| {
            let dma = engine(machine, &context);
            // Through the ioctl every mapping is writable; the port may ask for less.
            for (access, writes) in [
                (DeviceAccess::ReadWrite, true),
                (DeviceAccess::ReadWrite, false),
                (DeviceAccess::Read, false),
            ] {
                let permission = match access {
                    DeviceAccess::Read => Permission::ReadOnly,
                    DeviceAccess::ReadWrite => Permission::ReadWrite,
                };
                let buffer = process.map(8, permission).unwrap();
                let input = map_input(buffer, 8 * PAGE, 0, 0);
                let Ok(Request::MapUser { range, .. }) = Request::parse(&input, PAGE) else {
                    panic!("not understood");
                };
                let at = context.map(range, access, Wanted::Anywhere).unwrap().get();
                if writes {
                    let third = Endpoint::Virtual(DeviceAddr::new(at + 3 * PAGE + 8));
                    dma.fill(third, 0x77, 16).unwrap();
                } else {
                    read(machine, &dma, at, 8 * PAGE);
                }
                let mark = machine.log.mark();
                unmap(&context, at).unwrap();
                let released: Vec<_> = machine
                    .log
                    .since(mark)
                    .iter()
                    .filter_map(|record| match record.event {
                        Event::Unpin { pins, dirty, .. } => Some((pins, dirty)),
                        _ => None,
                    })
                    .collect();
                // All of a writable mapping are marked, since the device does not tell which it wrote.
                let dirty = access == DeviceAccess::ReadWrite;
                assert_eq!(released, [(0, dirty); 8], "{access:?}");
                let frames = machine.host.counters().dirty_frames;
                assert_eq!(frames, if dirty { 8 } else { 0 });
                process.unmap(buffer, 8);
            }
        });
    })
    .unwrap();
}

fn p06_a_range_that_wraps_or_is_empty_reaches_nobody<A: Model>() {
    machine::<A>(|machine| {
        let process = machine.spawn();
        // Nothing may be charged, which comes before pinning: what gets that far says `ENOMEM`.
        let nothing = Budget::new(0);
        let mut storage = machine.storage();
        let context = machine.open(&process, &nothing, &mut storage).unwrap();
        let buffer = process.map(2, Permission::ReadWrite).unwrap().get();
        let taken = machine.host.statistics().pins_taken;
        let before = (machine.counters(), context.usage());
        for (pointer, len) in [
            (buffer, 0),
            (0, 0),
            (u64::MAX, 0),
            (u64::MAX - PAGE + 1, PAGE),
            (u64::MAX - PAGE + 2, PAGE),
            (u64::MAX, 1),
            (buffer, 0_u64.wrapping_sub(buffer)),
            (buffer, 0_u64.wrapping_sub(buffer) + 1),
            (buffer, u64::MAX),
            (1, u64::MAX),
            // The sum fits, and its round-up to a page does not.
            (buffer, u64::MAX - buffer - 7),
            (u64::MAX - 2 * PAGE, PAGE + 2),
        ] {
            let refused = map(&context, UserAddress::new(pointer), len);
            assert_eq!(refused, Err(Errno::EINVAL), "{pointer:#x} +{len:#x}");
            assert_eq!((machine.counters(), context.usage()), before);
        }
        // This one gets as far as that, so the others did not.
        assert_eq!(
            map(&context, UserAddress::new(buffer), PAGE),
            Err(Errno::ENOMEM)
        );
        context.close().unwrap();
        // Pointers to nothing are found out by pinning, at their first page.
        let budget = Budget::unlimited();
        let mut storage = machine.storage();
        let context = machine.open(&process, &budget, &mut storage).unwrap();
        let before = (machine.counters(), context.usage());
        for pointer in [0, 8, 1 << 63, 0xFFFF_8000_0000_0000, u64::MAX - 3 * PAGE] {
            let refused = map(&context, UserAddress::new(pointer), PAGE);
            assert_eq!(refused, Err(Errno::EFAULT), "{pointer:#x}");
            assert_eq!((machine.counters(), context.usage()), before);
        }
        assert_eq!(machine.host.statistics().pins_taken, taken);
        // The very first pin that is tried would have failed, and none of those tried one.
        machine.host.fail(HostFailure::Pin, Some(1));
        let refused = map(&context, UserAddress::new(buffer), PAGE);
        assert_eq!(refused, Err(Errno::ENOMEM));
        context.close().unwrap();
    });
}

fn p07_the_device_keeps_the_pages_that_were_pinned<A: Model>() {
    machine::<A>(|machine| {
        with_file!(machine, |context, process| {
            let dma = engine(machine, &context);
            let buffer = process.map(4, Permission::ReadWrite).unwrap();
            process.write(buffer, &pattern(4 * PAGE, 1)).unwrap();
            let at = map(&context, buffer, 4 * PAGE).unwrap();
            let old: Vec<_> = (0..4)
                .map(|page| process.frame_at(buffer.offset(page * PAGE)).unwrap())
                .collect();
            // Two pages are replaced, one is gone, and the last one stays.
            process.replace(buffer, 2, Permission::ReadWrite).unwrap();
            process.unmap(buffer.offset(2 * PAGE), 1);
            process.write(buffer, &[0xEE; 2 * PAGE as usize]).unwrap();
            machine.host.reclaim();
            assert!(read(machine, &dma, at, 4 * PAGE) == pattern(4 * PAGE, 1));
            assert_eq!(pins(machine, &process, buffer, 2), [0, 0]);
            assert!(old.iter().all(|frame| machine.host.pins(*frame) == 1));
            // What the device writes goes where nobody looks any more, and to the last page.
            dma.fill(Endpoint::Virtual(DeviceAddr::new(at)), 0x11, 4 * PAGE)
                .unwrap();
            assert!(peek(&process, buffer, 2 * PAGE) == [0xEE; 2 * PAGE as usize]);
            assert!(peek(&process, buffer.offset(3 * PAGE), PAGE) == [0x11; PAGE as usize]);
            unmap(&context, at).unwrap();
            assert!(old.iter().all(|frame| machine.host.pins(*frame) == 0));
            // A private page for reading, of which the process gets a copy when it writes.
            let private = process.map(1, Permission::ReadWrite).unwrap();
            process.write(private, b"before").unwrap();
            process.protect(private, 1, Permission::ReadOnly);
            let input = map_input(private, PAGE, 0, 0);
            let Ok(Request::MapUser { range, .. }) = Request::parse(&input, PAGE) else {
                panic!("not understood");
            };
            let at = context
                .map(range, DeviceAccess::Read, Wanted::Anywhere)
                .unwrap()
                .get();
            process.replace(private, 1, Permission::ReadWrite).unwrap();
            process.write(private, b"after!").unwrap();
            assert_eq!(read(machine, &dma, at, 6), b"before");
            assert_eq!(pins(machine, &process, private, 1), [0]);
            unmap(&context, at).unwrap();
        });
    });
}

/// A process that has `pages` pages at `address`, contiguous in memory or scattered, from which
/// others take copies.
fn piece<A: Model>(machine: &Machine<'_, '_, A>, address: u64, pages: usize) -> Arc<Process> {
    let process = machine.spawn();
    // The next address that is handed out is behind a mapping and the page after it.
    let before = UserAddress::new(address - LARGE);
    process.map_at(before, 1, Permission::ReadWrite).unwrap();
    let at = process
        .map_contiguous(pages, 512, Permission::ReadWrite)
        .unwrap();
    assert_eq!(at.get(), address);
    process
}

fn p08_only_memory_that_is_contiguous_and_aligned_gets_large_leaves<A: Model>() {
    const BUFFER: u64 = 0x7F80_0000_0000;
    machine::<A>(|machine| {
        with_file!(machine, |context, process| {
            // (a) Two good ones that do not follow each other in memory.
            let chunk = |number: u64, pages| piece(machine, BUFFER + number * LARGE, pages);
            let one = chunk(0, 512);
            let between = chunk(5, 512);
            let other = chunk(1, 512);
            let give = |from: &Process, number: u64, first: u64, pages: u64| {
                let address = UserAddress::new(BUFFER + number * LARGE + first * PAGE);
                from.copy_to(&process, address, pages as usize).unwrap();
            };
            give(&one, 0, 0, 512);
            give(&other, 1, 0, 512);
            // (b) The second one ends a page early, and that page is elsewhere.
            give(&between, 5, 0, 512);
            let short = chunk(6, 512);
            give(&short, 6, 0, 511);
            process
                .map_at(
                    UserAddress::new(BUFFER + 7 * LARGE - PAGE),
                    1,
                    Permission::ReadWrite,
                )
                .unwrap();
            // (c) Contiguous, and one page off.
            let fresh = machine.spawn();
            let start = {
                let probe = machine.spawn();
                let at = probe
                    .map_contiguous(1024, 1, Permission::ReadWrite)
                    .unwrap();
                probe.frame_at(at).unwrap().number() as usize
            };
            let filler =
                machine
                    .host
                    .kernel_contiguous((513 - start % 512) % 512 + 512, 1, "filler");
            let off = fresh
                .map_contiguous(1024, 1, Permission::ReadWrite)
                .unwrap();
            let frame = fresh.frame_at(off).unwrap().number();
            assert_eq!((frame % 512, off.get() % LARGE), (1, 0));
            fresh.copy_to(&process, off, 1024).unwrap();

            let cases = [
                ("a", BUFFER, 2 * LARGE, 2),
                ("b", BUFFER + 5 * LARGE, 2 * LARGE, 1),
                ("c", off.get(), 2 * LARGE, 1),
                ("d", BUFFER, LARGE + LARGE / 2, 1),
                ("e", BUFFER + PAGE, 2 * LARGE - PAGE, 1),
                ("e, too short", BUFFER + PAGE, LARGE - PAGE, 0),
            ];
            for (case, address, len, large_leaves) in cases {
                let address = UserAddress::new(address);
                let at = map(&context, address, len).unwrap();
                let (mut large, mut offset) = (0, 0);
                while offset < len {
                    let here = machine
                        .asic
                        .explain(context.asid().get(), DeviceAddr::new(at + offset));
                    let wanted = bus_of(machine, &process, address.offset(offset));
                    assert_eq!(here.outcome, Ok(wanted), "case {case}, {offset:#x}");
                    if here.leaf_size == LARGE && here.walked.get().is_multiple_of(LARGE) {
                        large += 1;
                    }
                    offset += PAGE;
                }
                assert_eq!(large, large_leaves, "case {case}");
                // Nothing beyond either end, of a leaf that is larger than its memory.
                let dma = engine(machine, &context);
                for beyond in [at - 1, at + len] {
                    let error =
                        machine
                            .asic
                            .read(dma.initiator(), DeviceAddr::new(beyond), &mut [0]);
                    let fault = error.unwrap_err().fault().unwrap();
                    assert_eq!(fault.access, AccessKind::Read, "case {case}");
                }
                unmap(&context, at).unwrap();
            }
            // A forced address that is not where large leaves could be gets small ones, or none.
            let page = A::PROFILE.large_host_range().page_bytes;
            let base = A::PROFILE.large_host_range().range.start().get() + 64 * LARGE;
            let placed = map_at(&context, UserAddress::new(BUFFER), LARGE, base + PAGE);
            if page == PAGE {
                let at = placed.unwrap();
                let leaf = machine
                    .asic
                    .explain(context.asid().get(), DeviceAddr::new(at));
                assert_eq!(leaf.leaf_size, PAGE);
                unmap(&context, at).unwrap();
            } else {
                assert_eq!(placed, Err(Errno::ENOMEM));
            }
            drop((filler, one, other, between, short, fresh));
        });
    });
}
