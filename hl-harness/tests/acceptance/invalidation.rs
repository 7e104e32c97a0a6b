//! Invalidations: that each comes in time, and that there are few of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hl_harness::asic::{Completion, Endpoint, MmuInstance, Operation};
use hl_harness::host::Permission;
use hl_harness::log::{Event, EventKind, EventLog};
use hl_harness::machine::{Machine, MachineConfig, MachineContext, Model, with_machine};
use hl_mem::budget::Budget;
use hl_mem::uapi::FLAG_FORCE_HINT;
use mmu_core::DeviceAddr;

use crate::rig::{
    LARGE, PAGE, allocate, engine, free, machine, map, map_at, map_dram, on_each_asic,
    on_each_asic_with_mapped_dram, pattern, read, unmap, with_file,
};

on_each_asic!(
    i01_what_comes_between_two_pages_is_found_at_once,
    i01_the_same_of_large_leaves,
    i05_closing_a_thousand_mappings_takes_one_invalidation_of_each_mmu,
    accesses_during_a_late_invalidation_leave_no_translation_behind,
    accesses_to_large_leaves_during_a_late_invalidation_leave_nothing_behind,
);

on_each_asic_with_mapped_dram!(
    i01_the_same_of_device_memory,
    accesses_to_device_memory_during_a_late_invalidation_leave_nothing_behind
);

/// Entries in a line of a table, and in a table.
const LINE: u64 = 8;
const TABLE: u64 = 512;

/// Numbers of the entry that comes last: everywhere in a line, and on both sides of the end of a table
/// and of the end of the table above that.
fn places() -> impl Iterator<Item = u64> {
    (1..=LINE + 1).chain([
        TABLE - 2,
        TABLE - 1,
        TABLE,
        TABLE + 1,
        TABLE * TABLE - 1,
        TABLE * TABLE,
    ])
}

fn i01_what_comes_between_two_pages_is_found_at_once<A: Model>() {
    machine::<A>(|machine| {
        with_file!(machine, |context, process| {
            let dma = engine(machine, &context);
            let base = A::PROFILE.host.range.start().get() + (TABLE << 30);
            let pages: Vec<_> = (0..3)
                .map(|_| process.map(1, Permission::ReadWrite).unwrap())
                .collect();
            for place in places() {
                for (address, seed) in pages.iter().zip(1..) {
                    process.write(*address, &pattern(PAGE, seed)).unwrap();
                }
                let at = |page: u64| base + (place - 1 + page) * PAGE;
                map_at(&context, pages[0], PAGE, at(0)).unwrap();
                map_at(&context, pages[2], PAGE, at(2)).unwrap();
                assert!(read(machine, &dma, at(0), PAGE) == pattern(PAGE, 1));
                assert!(read(machine, &dma, at(2), PAGE) == pattern(PAGE, 3));
                // The line with the absent entry is in the cache, and so may its absence be.
                let absent = DeviceAddr::new(at(1));
                machine
                    .asic
                    .read(dma.initiator(), absent, &mut [0])
                    .unwrap_err();
                map_at(&context, pages[1], PAGE, at(1)).unwrap();
                assert!(
                    read(machine, &dma, at(0), 3 * PAGE)
                        == [pattern(PAGE, 1), pattern(PAGE, 2), pattern(PAGE, 3)].concat()
                );
                let middle = Endpoint::Virtual(absent);
                dma.fill(middle, 0x3C, PAGE).unwrap();
                let mut got = [0; 8];
                process.read(pages[1].offset(PAGE - 8), &mut got).unwrap();
                assert_eq!(got, [0x3C; 8], "entry {place:#x}");
                for page in [1, 0, 2] {
                    unmap(&context, at(page)).unwrap();
                    let error =
                        machine
                            .asic
                            .read(dma.initiator(), DeviceAddr::new(at(page)), &mut [0]);
                    assert!(error.is_err(), "entry {place:#x} after unmapping");
                }
            }
        });
    });
}

fn i01_the_same_of_large_leaves<A: Model>() {
    machine::<A>(|machine| {
        with_file!(machine, |context, process| {
            let dma = engine(machine, &context);
            let base = A::PROFILE.large_host_range().range.start().get() + (TABLE << 30);
            let pieces: Vec<_> = (1..4)
                .map(|number: u64| {
                    let at = process
                        .map_contiguous(512, 512, Permission::ReadWrite)
                        .unwrap();
                    for offset in [0, LARGE / 2, LARGE - 8] {
                        let bytes = (offset + number).to_le_bytes();
                        process.write(at.offset(offset), &bytes).unwrap();
                    }
                    at
                })
                .collect();
            for place in places() {
                let at = |piece: u64| base + (place - 1 + piece) * LARGE;
                let check = |piece: u64| {
                    for offset in [0, LARGE / 2, LARGE - 8] {
                        let got = read(machine, &dma, at(piece) + offset, 8);
                        assert_eq!(got, (offset + piece + 1).to_le_bytes(), "entry {place:#x}");
                    }
                };
                map_at(&context, pieces[0], LARGE, at(0)).unwrap();
                map_at(&context, pieces[2], LARGE, at(2)).unwrap();
                check(0);
                check(2);
                let absent = DeviceAddr::new(at(1) + LARGE / 2);
                let explained = machine.asic.explain(context.asid().get(), absent);
                assert!(explained.outcome.is_err());
                machine
                    .asic
                    .read(dma.initiator(), absent, &mut [0])
                    .unwrap_err();
                map_at(&context, pieces[1], LARGE, at(1)).unwrap();
                let explained = machine.asic.explain(context.asid().get(), absent);
                assert_eq!(explained.leaf_size, LARGE);
                [1, 0, 2].into_iter().for_each(check);
                for piece in [2, 1, 0] {
                    unmap(&context, at(piece)).unwrap();
                }
            }
            // A large leaf where a table of small ones was a moment ago, and the other way round,
            // which only a range that takes both allows.
            if A::PROFILE.large_host_range().page_bytes == PAGE {
                for _ in 0..2 {
                    let at = map_at(&context, pieces[0].offset(PAGE), 2 * PAGE, base + PAGE);
                    let got = read(machine, &dma, at.unwrap(), 8);
                    assert_ne!(got, 1_u64.to_le_bytes());
                    unmap(&context, base + PAGE).unwrap();
                    map_at(&context, pieces[0], LARGE, base).unwrap();
                    assert_eq!(read(machine, &dma, base, 8), 1_u64.to_le_bytes());
                    unmap(&context, base).unwrap();
                }
            }
        });
    });
}

fn i01_the_same_of_device_memory<A: Model>() {
    machine::<A>(|machine| {
        with_file!(machine, |context, _process| {
            let dma = engine(machine, &context);
            let range = A::PROFILE.dram.mapped_at.unwrap();
            let page = range.page_bytes;
            let pages = range.range.len() / page;
            let handles: Vec<_> = (0..3)
                .map(|_| allocate(&context, page, 0).unwrap())
                .collect();
            // Leaves lie at the hop above the last one; the numbers of entries count from address 0.
            let first = range.range.start().get() / page % LINE;
            for place in places().filter(|place| place + 2 < pages) {
                let at = |number: u64| {
                    range.range.start().get() + (place - 1 + number + LINE - first) * page
                };
                let map = |number: u64| {
                    let handle = handles[number as usize];
                    map_dram(&context, handle, at(number), FLAG_FORCE_HINT).unwrap();
                };
                let to = |number| Endpoint::Virtual(DeviceAddr::new(at(number) + page - 64));
                map(0);
                map(2);
                dma.fill(to(0), 0x10, 64).unwrap();
                dma.fill(to(2), 0x12, 64).unwrap();
                dma.fill(to(1), 0x11, 64).unwrap_err();
                map(1);
                dma.fill(to(1), 0x11, 64).unwrap();
                for number in 0..3 {
                    let got = read(machine, &dma, at(number) + page - 64, 64);
                    assert_eq!(got, [0x10 + number as u8; 64], "entry {place:#x}");
                }
                for number in [1, 2, 0] {
                    unmap(&context, at(number)).unwrap();
                    dma.fill(to(number), 0, 64).unwrap_err();
                }
            }
            for handle in handles {
                free(&context, handle).unwrap();
            }
        });
    });
}

/// Unmaps what `map` maps, again and again, while each invalidation in turn is late and the device
/// goes on accessing all of `offsets`; then it must reach none of them. Only the first one was
/// accessed before, so that the others are known from the table's line and not as translations.
fn accesses_during_late_invalidations<A: Model>(
    machine: &Machine<'_, '_, A>,
    context: &MachineContext<'_, '_, '_, A>,
    offsets: &[u64],
    map: impl Fn() -> u64,
) {
    let dma = engine(machine, context).initiator();
    let asic = &machine.asic;
    for nth in 1.. {
        let at = map();
        let accesses = offsets.iter().map(|offset| DeviceAddr::new(at + offset));
        let accesses: Vec<_> = accesses.collect();
        asic.read(dma, accesses[0], &mut [0]).unwrap();
        let looks = Arc::new(AtomicU64::new(0));
        let (looked, meanwhile) = (Arc::clone(&looks), accesses.clone());
        asic.meanwhile(Arc::new(move |asic| {
            looked.fetch_add(1, Ordering::Relaxed);
            for at in &meanwhile {
                // Which of them are still reached is the device's business.
                let _ = asic.read(dma, *at, &mut [0]);
            }
        }));
        // Later than that, and a slow machine gives up.
        let late = Completion::AfterReads(1);
        asic.inject(Operation::Invalidation, nth, 1, late);
        unmap(context, at).unwrap();
        asic.clear_injections();
        for at in accesses {
            let reached = asic.read(dma, at, &mut [0]);
            assert!(reached.is_err(), "{at} after late invalidation {nth}");
        }
        if looks.load(Ordering::Relaxed) == 0 {
            assert!(nth > 1, "no invalidation was late");
            return;
        }
    }
}

fn accesses_during_a_late_invalidation_leave_no_translation_behind<A: Model>() {
    machine::<A>(|machine| {
        with_file!(machine, |context, process| {
            let buffer = process.map(LINE as usize, Permission::ReadWrite).unwrap();
            let pages: Vec<_> = (0..LINE).map(|page| page * PAGE).collect();
            accesses_during_late_invalidations(machine, &context, &pages, || {
                map(&context, buffer, LINE * PAGE).unwrap()
            });
        });
    });
}

fn accesses_to_large_leaves_during_a_late_invalidation_leave_nothing_behind<A: Model>() {
    machine::<A>(|machine| {
        with_file!(machine, |context, process| {
            let buffer = process
                .map_contiguous(2 * 512, 512, Permission::ReadWrite)
                .unwrap();
            accesses_during_late_invalidations(machine, &context, &[0, LARGE], || {
                map(&context, buffer, 2 * LARGE).unwrap()
            });
        });
    });
}

fn accesses_to_device_memory_during_a_late_invalidation_leave_nothing_behind<A: Model>() {
    machine::<A>(|machine| {
        with_file!(machine, |context, _process| {
            let page = A::PROFILE.dram.page_bytes;
            let handle = allocate(&context, 2 * page, 0).unwrap();
            accesses_during_late_invalidations(machine, &context, &[0, page], || {
                map_dram(&context, handle, 0, 0).unwrap()
            });
            free(&context, handle).unwrap();
        });
    });
}

fn i05_closing_a_thousand_mappings_takes_one_invalidation_of_each_mmu<A: Model>() {
    const MAPPINGS: usize = 1000;
    let config = MachineConfig {
        mappings: MAPPINGS + 2,
        tables: 64,
        frames: 4096,
        ..MachineConfig::default()
    };
    with_machine::<A, _>(config, EventLog::recording(), |machine| {
        for kind in [
            EventKind::EntryStore,
            EventKind::Pin,
            EventKind::DmaTranslate,
        ] {
            machine.log.ignore(kind);
        }
        let (budget, process) = (Budget::unlimited(), machine.spawn());
        let before = machine.counters();
        let mut storage = machine.storage();
        let context = machine.open(&process, &budget, &mut storage).unwrap();
        let dma = engine(machine, &context);
        let buffer = process.map(3, Permission::ReadWrite).unwrap();
        let mut at = Vec::new();
        for number in 0..MAPPINGS as u64 {
            let start = buffer.offset(number % 2 * PAGE + number);
            at.push(map(&context, start, PAGE - number).unwrap());
        }
        let mapped = A::PROFILE.dram.mapped_at.is_some();
        if mapped {
            let handle = allocate(&context, 1, 0).unwrap();
            at.push(map_dram(&context, handle, 0, 0).unwrap());
        }
        // Everything is cached.
        for at in &at {
            read(machine, &dma, *at, 1);
        }
        let mark = machine.log.mark();
        let started = machine.asic.counters().invalidations;
        let left = context.close().unwrap();
        assert_eq!(left.mappings as usize, MAPPINGS + usize::from(mapped));
        let units = machine.asic.counters().invalidations - started;
        let mmus = if A::PROFILE.one_table { 1 } else { 17 };
        assert!(units > 0 && units <= mmus + 1, "{units} invalidations");
        let events = machine.log.since(mark);
        let first_unpin = events
            .iter()
            .find(|record| record.event.kind() == EventKind::Unpin)
            .unwrap();
        // Those of the MMUs for device memory have nothing to do with pins.
        let concerns_pins = |event: &Event| match event {
            Event::InvalidateEnd { mmu, .. } => !matches!(mmu, MmuInstance::Hmmu(_)),
            _ => false,
        };
        let last_end = events
            .iter()
            .rfind(|record| concerns_pins(&record.event))
            .unwrap();
        let unpins = events
            .iter()
            .filter(|record| record.event.kind() == EventKind::Unpin)
            .count();
        // Half of them reach into a second page.
        assert!(unpins >= MAPPINGS);
        assert!(
            last_end.sequence < first_unpin.sequence,
            "{last_end}, {first_unpin}"
        );
        for at in at {
            let gone = DeviceAddr::new(at);
            assert!(machine.asic.read(dma.initiator(), gone, &mut [0]).is_err());
        }
        process.exit();
        let after = machine.counters();
        assert_eq!((after.tables, after.host), (before.tables, before.host));
    })
    .unwrap();
}
