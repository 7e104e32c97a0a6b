//! The same again and again: nothing grows, and nothing is left.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use hl_harness::asic::Endpoint;
use hl_harness::host::Permission;
use hl_harness::log::EventKind;
use hl_harness::machine::{MachineConfig, Model};
use hl_harness::stress::{self, Snapshot};
use hl_mem::budget::Budget;
use hl_mem::uapi::FLAG_CONTIGUOUS;
use mmu_core::DeviceAddr;

use crate::rig::{
    PAGE, allocate, engine, machine_of, map, on_each_asic, read, scaled, unmap, with_file,
};

on_each_asic!(
    s01_mapping_again_and_again_makes_nothing_grow,
    s02_files_that_are_closed_without_cleaning_up_leave_nothing,
    s03_random_work_with_random_failures_agrees_with_the_model,
);

const MIB: u64 = 1 << 20;

fn s01_mapping_again_and_again_makes_nothing_grow<A: Model>() {
    let (rounds, bytes) = scaled((30, 16 * MIB), (500, 16 * MIB));
    let config = MachineConfig {
        frames: 8192,
        tables: 64,
        ..MachineConfig::default()
    };
    machine_of::<A>(config, |machine| {
        with_file!(machine, |context, process| {
            let dma = engine(machine, &context);
            let pages = (bytes / PAGE) as usize;
            let buffer = process
                .map_contiguous(pages, 512, Permission::ReadWrite)
                .unwrap();
            let stores = || machine.log.count(EventKind::EntryStore);
            let invalidations = || machine.asic.counters().invalidations;
            let (mut work, mut usual) = (Vec::new(), None);
            for round in 0..rounds {
                let before = (stores(), invalidations());
                let at = map(&context, buffer, bytes).unwrap();
                for offset in [0, bytes / 2, bytes - 8] {
                    let mark = round + offset;
                    process
                        .write(buffer.offset(offset), &mark.to_le_bytes())
                        .unwrap();
                    assert_eq!(read(machine, &dma, at + offset, 8), mark.to_le_bytes());
                }
                unmap(&context, at).unwrap();
                work.push((stores() - before.0, invalidations() - before.1));
                // Time is the machine's; the work that takes it is ours, and may not grow at all.
                let mut now = Snapshot::of(machine, &[&context], &[]);
                now.pins.clear();
                let usual = &*usual.get_or_insert_with(|| now.clone());
                now.assert_is(usual, format_args!("round {round}"));
            }
            // The first one finds tables that nobody has used before.
            assert!(
                work[1..].windows(2).all(|pair| pair[0] == pair[1]),
                "entries stored, invalidations: {work:?}"
            );
        });
    });
}

fn s02_files_that_are_closed_without_cleaning_up_leave_nothing<A: Model>() {
    let rounds = scaled(20, 1000);
    let config = MachineConfig {
        frames: 4096,
        tables: 128,
        ..MachineConfig::default()
    };
    machine_of::<A>(config, |machine| {
        let budget = Budget::unlimited();
        let before = Snapshot::of(machine, &[], &[&budget]).without_dirt();
        for round in 0..rounds {
            // Memory that was another's is scrubbed first, all of a page of it: there is enough for
            // those pages to be left alone for some rounds.
            let pages = A::PROFILE.dram.user_memory().unwrap().len() / A::PROFILE.dram.page_bytes;
            let with_dram = round < pages / 3 || A::PROFILE.dram.page_bytes <= 2 * MIB;
            let process = machine.spawn();
            let mut storage = machine.storage();
            let context = machine.open(&process, &budget, &mut storage).unwrap();
            let mut at = Vec::new();
            for number in 0..10 {
                let pages = 1 + number % 4;
                let buffer = process.map(pages, Permission::ReadWrite).unwrap();
                at.push(map(&context, buffer, pages as u64 * PAGE).unwrap());
            }
            for _ in 0..if with_dram { 3 } else { 0 } {
                allocate(&context, 1, FLAG_CONTIGUOUS).unwrap();
            }
            context.create_command_buffer(2 * PAGE, true).unwrap();
            context.create_command_buffer(PAGE, false).unwrap();
            context.create_timestamps(100).unwrap();
            let dma = engine(machine, &context);
            let end = |at| Endpoint::Virtual(DeviceAddr::new(at));
            let under_way = AtomicBool::new(false);
            let (left, moved) = thread::scope(|scope| {
                let copies = scope.spawn(|| {
                    let mut moved = 0;
                    while dma.copy(end(at[3]), end(at[7]), 4 * PAGE).is_ok() {
                        moved += 1;
                        under_way.store(true, Ordering::Release);
                    }
                    moved
                });
                while !under_way.load(Ordering::Acquire) && !copies.is_finished() {
                    thread::yield_now();
                }
                (context.close().unwrap(), copies.join().unwrap())
            });
            assert!(moved > 0, "round {round}: no copy was made");
            let dram = if with_dram { 3 } else { 0 };
            assert_eq!((left.mappings, left.handles, left.dram), (10, 3, dram));
            drop(process);
            let now = Snapshot::of(machine, &[], &[&budget]).without_dirt();
            now.assert_is(&before, format_args!("round {round}"));
        }
    });
}

/// `cargo xtask stress` is the long form.
fn s03_random_work_with_random_failures_agrees_with_the_model<A: Model>() {
    let steps = stress::steps(3, stress::USERS, scaled(2500, 250_000));
    let summary = match stress::run::<A>(&steps, &|_| {}) {
        Ok(summary) => summary,
        Err(disagreement) => {
            panic!("\n{}", stress::reproducer::<A>(&steps, disagreement));
        }
    };
    assert_eq!(summary.steps, steps.len() as u64);
    // It was about something.
    assert!(summary.done > 500 && summary.refused > 200, "{summary}");
    assert!(summary.compared > 300 && summary.faults > 30, "{summary}");
    assert!(summary.files > 10 && summary.failures > 0, "{summary}");
}
