//! Device addresses: aligned, apart from each other, at a hint or not.

use std::collections::BTreeMap;

use hl_harness::host::{Permission, UserAddress};
use hl_harness::machine::{MachineConfig, Model};
use hl_harness::stress::Snapshot;
use hl_mem::profile::VaRange;
use hl_mem::uapi::{Errno, FLAG_FORCE_HINT};
use mmu_core::DeviceAddr;

use crate::rig::{
    LARGE, PAGE, allocate, call, engine, free, machine, machine_of, map, map_dram, map_input,
    on_each_asic, on_each_asic_with_mapped_dram, read, scaled, unmap, with_file,
};

on_each_asic!(
    v01_mappings_of_every_length_are_aligned_and_share_no_page,
    v03_hints_for_host_memory_are_kept_or_replaced_or_refused,
);

on_each_asic_with_mapped_dram!(
    v01_mappings_of_device_memory_are_aligned_to_its_pages_and_apart,
    v03_hints_for_device_memory_are_kept_or_replaced_or_refused,
);

/// The mappings that are live, by their first page.
#[derive(Default)]
struct Live(BTreeMap<u64, u64>);

impl Live {
    /// Notes a mapping of whole pages, which no other may share any of.
    #[track_caller]
    fn add(&mut self, start: u64, end: u64) {
        let before = self.0.range(..end).next_back();
        assert!(
            before.is_none_or(|(_, other_end)| *other_end <= start),
            "{start:#x}..{end:#x} shares a page with {before:x?}"
        );
        self.0.insert(start, end);
    }
}

fn v01_mappings_of_every_length_are_aligned_and_share_no_page<A: Model>() {
    let config = MachineConfig {
        mappings: 40,
        ..MachineConfig::default()
    };
    machine_of::<A>(config, |machine| {
        with_file!(machine, |context, process| {
            let buffer = process.map(12, Permission::ReadWrite).unwrap();
            let range = A::PROFILE.host.range;
            let pages = (1..=10).map(|pages| pages * PAGE);
            // A quick run takes every seventh length, and those around a page.
            let bytes = (1..8192).filter(|len| scaled(len % 7 == 0, true) || len % PAGE < 2);
            let mut live = Live::default();
            let mut mapped = Vec::new();
            for (number, len) in pages.chain(bytes).enumerate() {
                let offset = number as u64 * 97 % PAGE;
                let at = map(&context, buffer.offset(offset), len).unwrap();
                assert_eq!(at % PAGE, offset);
                let start = at - offset;
                let end = (at + len).next_multiple_of(PAGE);
                assert!(range.start().get() <= start && end - 1 <= range.last().get());
                live.add(start, end);
                mapped.push(at);
                if mapped.len() == 32 {
                    // Every other one goes, so that what is free lies in pieces.
                    for at in mapped.extract_if(.., |at| (*at / PAGE).is_multiple_of(2)) {
                        unmap(&context, at).unwrap();
                        live.0.remove(&(at / PAGE * PAGE));
                    }
                }
                if mapped.len() > 36 {
                    for at in mapped.drain(..) {
                        unmap(&context, at).unwrap();
                    }
                    live.0.clear();
                }
            }
            for at in mapped {
                unmap(&context, at).unwrap();
            }
            // Huge pages of the host, at each distance from one: what can be a large leaf is one.
            let huge = process
                .map_contiguous(3 * 512, 512, Permission::ReadWrite)
                .unwrap();
            let range = A::PROFILE.large_host_range().range;
            for pages in [0, 1, 255, 511] {
                let offset = pages * PAGE;
                let at = map(&context, huge.offset(offset), 3 * LARGE - offset).unwrap();
                assert_eq!(at % LARGE, offset % LARGE, "{pages} pages into a huge one");
                assert!(range.start().get() <= at && at <= range.last().get());
                unmap(&context, at).unwrap();
            }
        });
    });
}

fn v01_mappings_of_device_memory_are_aligned_to_its_pages_and_apart<A: Model>() {
    machine::<A>(|machine| {
        with_file!(machine, |context, _process| {
            let VaRange {
                range, page_bytes, ..
            } = A::PROFILE.dram.mapped_at.unwrap();
            let mut live = Live::default();
            let mut all = Vec::new();
            for bytes in [
                1,
                page_bytes - 1,
                page_bytes,
                page_bytes + 1,
                3 * page_bytes,
            ] {
                for _ in 0..3 {
                    let handle = allocate(&context, bytes, 0).unwrap();
                    let at = map_dram(&context, handle, 0, 0).unwrap();
                    assert!((at - range.start().get()).is_multiple_of(page_bytes));
                    live.add(at, at + bytes.next_multiple_of(page_bytes));
                    all.push((handle, at));
                }
            }
            for (handle, at) in all {
                unmap(&context, at).unwrap();
                free(&context, handle).unwrap();
            }
        });
    });
}

/// What becomes of hints, whatever is mapped: `map` does it with a hint and flags, and the result is
/// `offset` into a page. A hint in `other` is kept like one in `range`.
fn check_hints(
    range: &VaRange,
    other: Option<&VaRange>,
    offset: u64,
    outside: &[u64],
    snapshot: impl Fn() -> Snapshot,
    map: impl Fn(u64, u32) -> Result<u64, Errno>,
    unmap: impl Fn(u64),
) {
    let page = range.page_bytes;
    let inside = |at: u64| {
        let at = at - offset;
        range.range.start().get() <= at
            && at <= range.range.last().get()
            && (at - range.range.start().get()).is_multiple_of(page)
    };
    // Large enough a distance from the start that nothing is put there unasked.
    let hint = range.range.start().get() + 4096 * page;
    let before = snapshot();
    // Free and aligned: exactly there, forced or not.
    for flags in [0, FLAG_FORCE_HINT] {
        assert_eq!(map(hint, flags), Ok(hint + offset));
        unmap(hint + offset);
        snapshot().assert_is(&before, "after unmapping at a hint");
    }
    // Not aligned: elsewhere, or not at all.
    for hint in [hint + page - 1, hint + 1, hint + page / 2] {
        let elsewhere = map(hint, 0).unwrap();
        assert!(inside(elsewhere), "{elsewhere:#x}");
        unmap(elsewhere);
        assert_eq!(map(hint, FLAG_FORCE_HINT), Err(Errno::ENOMEM));
        snapshot().assert_is(&before, "after a forced hint that is not aligned");
    }
    // Occupied, by a mapping that ends or begins there as well.
    let first = map(hint, FLAG_FORCE_HINT).unwrap();
    let occupied = snapshot();
    let elsewhere = map(hint, 0).unwrap();
    assert!(inside(elsewhere) && elsewhere != first, "{elsewhere:#x}");
    unmap(elsewhere);
    assert_eq!(map(hint, FLAG_FORCE_HINT), Err(Errno::ENOMEM));
    snapshot().assert_is(&occupied, "after a forced hint that is occupied");
    unmap(first);
    // Outside of the range for this kind of memory: elsewhere, in the range, or not at all.
    let (start, end) = (range.range.start().get(), range.range.last().get());
    let around = [
        start - page,
        end + 1,
        end + 1 - page / 2,
        0,
        page,
        u64::MAX - page + 1,
    ];
    for &hint in around.iter().chain(outside) {
        let kept = |other: &VaRange| {
            other.range.contains(DeviceAddr::new(hint)) && hint.is_multiple_of(other.page_bytes)
        };
        if other.is_some_and(kept) {
            for flags in [0, FLAG_FORCE_HINT] {
                assert_eq!(map(hint, flags), Ok(hint + offset));
                unmap(hint + offset);
            }
            continue;
        }
        // No hint at all is one of them.
        let elsewhere = map(hint, 0).unwrap();
        assert!(inside(elsewhere), "{hint:#x} became {elsewhere:#x}");
        unmap(elsewhere);
        assert_eq!(map(hint, FLAG_FORCE_HINT), Err(Errno::ENOMEM), "{hint:#x}");
        snapshot().assert_is(&before, "after a forced hint outside of the range");
    }
    // Windows that only an explicit hint gets.
    for window in range.reserved {
        let at = window.start().get();
        assert_eq!(map(at, 0), Ok(at + offset));
        unmap(at + offset);
    }
    // Windows of the driver, which no hint gets.
    for window in range.fixed {
        let at = window.start().get();
        assert_eq!(map(at, FLAG_FORCE_HINT), Err(Errno::ENOMEM), "{at:#x}");
        let elsewhere = map(at, 0).unwrap();
        assert!(inside(elsewhere) && !window.contains(DeviceAddr::new(elsewhere - offset)));
        unmap(elsewhere);
    }
    snapshot().assert_is(&before, "after all hints");
}

fn v03_hints_for_host_memory_are_kept_or_replaced_or_refused<A: Model>() {
    machine::<A>(|machine| {
        with_file!(machine, |context, process| {
            let dma = engine(machine, &context);
            let snapshot = || Snapshot::of(machine, &[&context], &[]).without_dirt();
            let map_range = |address: UserAddress, len| {
                let context = &context;
                move |hint, flags| call(context, map_input(address, len, hint, flags))
            };
            let gone = |at| {
                unmap(&context, at).unwrap();
            };
            let dram = A::PROFILE
                .dram
                .mapped_at
                .map(|range| range.range.start().get());
            let large = A::PROFILE.large_host_range();
            let apart = large.range != A::PROFILE.host.range;

            let small = process.map(3, Permission::ReadWrite).unwrap();
            let mut outside: Vec<u64> = dram.into_iter().collect();
            if apart {
                outside.push(large.range.start().get());
            }
            let at = map_range(small.offset(0x123), 2 * PAGE);
            let other = apart.then_some(large);
            check_hints(&A::PROFILE.host, other, 0x123, &outside, snapshot, at, gone);

            let huge = process
                .map_contiguous(512, 512, Permission::ReadWrite)
                .unwrap();
            process.write(huge.offset(LARGE - 4), b"huge").unwrap();
            let mut outside: Vec<u64> = dram.into_iter().collect();
            if apart {
                outside.push(A::PROFILE.host.range.start().get());
            }
            let at = map_range(huge, LARGE);
            let other = apart.then_some(&A::PROFILE.host);
            check_hints(large, other, 0, &outside, snapshot, at, gone);
            let hint = large.range.start().get() + 512 * LARGE;
            let at = call(&context, map_input(huge, LARGE, hint, FLAG_FORCE_HINT)).unwrap();
            assert_eq!(read(machine, &dma, at + LARGE - 4, 4), b"huge");
            unmap(&context, at).unwrap();
        });
    });
}

fn v03_hints_for_device_memory_are_kept_or_replaced_or_refused<A: Model>() {
    machine::<A>(|machine| {
        with_file!(machine, |context, _process| {
            let handle = allocate(&context, 1, 0).unwrap();
            let snapshot = || Snapshot::of(machine, &[&context], &[]).without_dirt();
            let range = A::PROFILE.dram.mapped_at.unwrap();
            let outside = [
                A::PROFILE.host.range.start().get(),
                A::PROFILE.large_host_range().range.start().get(),
            ];
            let at = |hint, flags| map_dram(&context, handle, hint, flags);
            check_hints(&range, None, 0, &outside, snapshot, at, |at| {
                unmap(&context, at).unwrap();
            });
            free(&context, handle).unwrap();
        });
    });
}
