//! Threads of one process, and what else happens at the same time.
//!
//! A watchdog ends the program where no round is finished for a long time: what hangs is a failure
//! with a name and not a suite that stands still.

use core::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::process::abort;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use hl_harness::asic::{DramContent, Endpoint, InitiatorMode};
use hl_harness::host::Permission;
use hl_harness::machine::{Lock, MachineConfig, Model};
use hl_harness::stress::Snapshot;
use hl_mem::budget::Budget;
use hl_mem::context::CloseError;
use hl_mem::dram::PackHandle;
use hl_mem::uapi::{Errno, FLAG_CONTIGUOUS};
use mmu_core::format::V1;
use mmu_core::{
    AddrRange, BusAddr, ChildMap, DeviceAddr, DeviceLost, DeviceTablePool, DeviceTableRecord,
    Invalidate, MapOptions, PageTable, ReuseOrder, Run, Stale, TableBus,
};

use crate::rig::{
    PAGE, allocate, engine, free, machine_of, map, map_at, map_dram, on_each_asic, pattern, peek,
    resetting_machine_of, scaled, unmap, with_file,
};

on_each_asic!(
    c01_threads_chain_copies_through_shared_device_memory,
    c02_of_many_who_want_the_same_one_wins,
    c05_closing_mapping_viewing_faulting_and_resetting_at_once_ends_well,
    c05_a_panic_under_a_lock_leaves_it_free,
);

/// Longer than any round takes on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs `work`, which reports each of its rounds, and ends the program where none comes.
fn watched<T>(name: &'static str, work: impl FnOnce(&(dyn Fn() + Sync)) -> T) -> T {
    let (progress, watch) = channel();
    let watchdog = thread::spawn(move || {
        loop {
            match watch.recv_timeout(PATIENCE) {
                Ok(()) => {}
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    eprintln!("{name}: no round was finished in {PATIENCE:?}");
                    abort();
                }
            }
        }
    });
    let done = {
        let progress = std::sync::Mutex::new(progress);
        work(&|| {
            let progress = progress.lock().unwrap();
            progress.send(()).unwrap();
        })
    };
    watchdog.join().unwrap();
    done
}

fn config() -> MachineConfig {
    MachineConfig {
        frames: 8192,
        tables: 256,
        mappings: 1200,
        ..MachineConfig::default()
    }
}

fn c01_threads_chain_copies_through_shared_device_memory<A: Model>() {
    const BYTES: u64 = 28;
    let plans = scaled(
        &[(8, 10), (64, 1)][..],
        &[(8, 100), (64, 100), (512, 100)][..],
    );
    machine_of::<A>(config(), |machine| {
        with_file!(machine, |context, process| {
            let handle = allocate(&context, 1, FLAG_CONTIGUOUS).unwrap();
            let mapped = A::PROFILE.dram.mapped_at.is_some();
            let memory = if mapped {
                map_dram(&context, handle, 0, 0).unwrap()
            } else {
                let owner = context.owner();
                let handle = PackHandle::new(handle);
                let run = machine.device.dram_run(&machine.privilege, owner, handle);
                run.unwrap().start().get()
            };
            let shared = |number: u64| {
                let at = memory + 64 * number;
                if mapped {
                    Endpoint::Virtual(DeviceAddr::new(at))
                } else {
                    Endpoint::DeviceMemory(at)
                }
            };
            watched("c01", |progress| {
                for &(threads, rounds) in plans {
                    thread::scope(|scope| {
                        for number in 0..threads {
                            let (context, process) = (&context, &process);
                            scope.spawn(move || {
                                let dma = engine(machine, context);
                                for round in 0..rounds {
                                    // Both in one page, of which others of this process know nothing.
                                    let source = process.map(1, Permission::ReadWrite).unwrap();
                                    let target = source.offset(2048);
                                    let data = pattern(BYTES, number * 1000 + round);
                                    process.write(source, &data).unwrap();
                                    let from = map(context, source, BYTES).unwrap();
                                    let to = map(context, target, BYTES).unwrap();
                                    let end = |at| Endpoint::Virtual(DeviceAddr::new(at));
                                    dma.copy(end(from), shared(number), BYTES).unwrap();
                                    dma.copy(shared(number), end(to), BYTES).unwrap();
                                    assert_eq!(peek(process, target, BYTES), data);
                                    unmap(context, from).unwrap();
                                    unmap(context, to).unwrap();
                                    process.unmap(source, 1);
                                    progress();
                                }
                            });
                        }
                    });
                }
            });
            if mapped {
                unmap(&context, memory).unwrap();
            }
            free(&context, handle).unwrap();
        });
    });
}

fn c02_of_many_who_want_the_same_one_wins<A: Model>() {
    const THREADS: usize = 16;
    let rounds = scaled(40, 100_000);
    machine_of::<A>(config(), |machine| {
        with_file!(machine, |context, process| {
            let base = A::PROFILE.host.range.start().get() + (1 << 31);
            let (barrier, winners) = (Barrier::new(THREADS), [(); 3].map(|()| AtomicU64::new(0)));
            let handle = AtomicU64::new(0);
            watched("c02", |progress| {
                thread::scope(|scope| {
                    for _ in 0..THREADS {
                        scope.spawn(|| {
                            let buffer = process.map(2, Permission::ReadWrite).unwrap();
                            for round in 0..rounds {
                                let at = base + round % 3 * PAGE;
                                let leads = barrier.wait().is_leader();
                                // Its ends overlap those of others, who all want the middle.
                                match map_at(&context, buffer, 2 * PAGE, at) {
                                    Ok(got) => {
                                        assert_eq!(got, at);
                                        winners[0].fetch_add(1, Ordering::Relaxed);
                                    }
                                    Err(errno) => assert_eq!(errno, Errno::ENOMEM),
                                }
                                barrier.wait();
                                match unmap(&context, at) {
                                    Ok(_) => {
                                        winners[1].fetch_add(1, Ordering::Relaxed);
                                    }
                                    Err(errno) => assert_eq!(errno, Errno::EINVAL),
                                }
                                if leads {
                                    let made = context.create_command_buffer(PAGE, true).unwrap();
                                    handle.store(made.get(), Ordering::Relaxed);
                                }
                                barrier.wait();
                                let named = handle.load(Ordering::Relaxed);
                                let named = hl_mem::handle::RawHandle::new(named);
                                match context.destroy_command_buffer(named) {
                                    Ok(()) => {
                                        winners[2].fetch_add(1, Ordering::Relaxed);
                                    }
                                    Err(error) => assert_eq!(Errno::from(error), Errno::EINVAL),
                                }
                                barrier.wait();
                                for count in &winners {
                                    assert_eq!(count.load(Ordering::Relaxed), round + 1);
                                }
                                barrier.wait();
                                if leads {
                                    progress();
                                }
                            }
                        });
                    }
                });
            });
        });
    });
}

fn c05_closing_mapping_viewing_faulting_and_resetting_at_once_ends_well<A: Model>() {
    const THREADS: u64 = 4;
    let rounds = scaled(25, 10_000);
    resetting_machine_of::<A>(config(), |machine| {
        let budget = Budget::unlimited();
        let before = Snapshot::of(machine, &[], &[&budget]).without_dirt();
        watched("c05", |progress| {
            for round in 0..rounds {
                let process = machine.spawn();
                let mut storage = machine.storage();
                let context = machine.open(&process, &budget, &mut storage).unwrap();
                let (block, _) = context.create_block(&machine.privilege, 3 * PAGE).unwrap();
                // As open descriptors: whoever is the last to let go closes.
                let context = Arc::new(context);
                let resets = round % 3 == 0;
                let mut unclosed = thread::scope(|scope| {
                    let workers: Vec<_> = (0..THREADS)
                        .map(|number| {
                            let (context, process) = (Arc::clone(&context), &process);
                            scope.spawn(move || {
                                let mut numbers = fastrand::Rng::with_seed(round * 100 + number);
                                let buffer = process.map(3, Permission::ReadWrite).unwrap();
                                let mut mapped = Vec::new();
                                for _ in 0..20 {
                                    match numbers.u8(..5) {
                                        0 | 1 => mapped.extend(map(&context, buffer, 3 * PAGE)),
                                        2 => {
                                            if let Some(at) = mapped.pop() {
                                                // In quarantine, where the device is away.
                                                let _ = unmap(&context, at);
                                            }
                                        }
                                        3 => {
                                            if let Ok(view) = context.mmap(block, 3 * PAGE) {
                                                machine.device.end_view(view).unwrap();
                                            }
                                        }
                                        _ => {
                                            let dma = engine(machine, &context);
                                            let nowhere = DeviceAddr::new(PAGE);
                                            let at = Endpoint::Virtual(nowhere);
                                            assert!(dma.fill(at, 0, 8).is_err());
                                            let _ = machine.device.report_faults(|_| {});
                                        }
                                    }
                                }
                                let last = Arc::into_inner(context)?;
                                last.close().err().map(CloseError::into_context)
                            })
                        })
                        .collect();
                    if resets {
                        machine.asic.lose();
                        machine.reset(DramContent::Kept);
                        let _ = machine.recover();
                    }
                    // This descriptor may be the last one as well.
                    let last = Arc::into_inner(context);
                    let last = last.and_then(|context| context.close().err());
                    let ended = workers.into_iter().map(|worker| worker.join().unwrap());
                    let mut unclosed: Vec<_> = ended.flatten().collect();
                    unclosed.extend(last.map(CloseError::into_context));
                    unclosed
                });
                assert!(unclosed.len() <= 1);
                if resets {
                    // Once more with nobody about: what a reset met half way is settled by the next.
                    machine.asic.lose();
                    machine.reset(DramContent::Kept);
                    machine.recover().unwrap();
                }
                if let Some(context) = unclosed.pop() {
                    context.close().unwrap();
                }
                machine.device.settle_quarantine().unwrap();
                drop(process);
                let _ = machine.device.report_faults(|_| {});
                let now = Snapshot::of(machine, &[], &[&budget]).without_dirt();
                now.assert_is(&before, format_args!("round {round}"));
                progress();
            }
        });
    });
}

fn c05_a_panic_under_a_lock_leaves_it_free<A: Model>() {
    machine_of::<A>(config(), |machine| {
        with_file!(machine, |context, process| {
            let buffer = process.map(1, Permission::ReadWrite).unwrap();
            let panics = |look: &dyn Fn()| {
                assert!(catch_unwind(AssertUnwindSafe(look)).is_err());
            };
            // Each look is taken under a lock of the space, of the MMU, of the privileged space.
            panics(&|| context.with_table(|_| panic!("in a callback, on purpose")));
            panics(&|| {
                machine
                    .device
                    .with_mmu(|_| panic!("in a callback, on purpose"))
            });
            panics(&|| {
                machine
                    .device
                    .with_privileged_table(&machine.privilege, |_| {
                        panic!("in a callback, on purpose")
                    })
                    .unwrap();
            });
            watched("c05, poisoned", |_| {
                let at = map(&context, buffer, PAGE).unwrap();
                let other = InitiatorMode::User(context.asid().get());
                let dma = machine.asic.add_initiator("other", other);
                machine
                    .asic
                    .write(dma, DeviceAddr::new(at), b"goes on")
                    .unwrap();
                assert_eq!(peek(&process, buffer, 7), b"goes on");
                thread::scope(|scope| {
                    scope.spawn(|| unmap(&context, at).unwrap());
                });
                let (block, _) = context.create_block(&machine.privilege, PAGE).unwrap();
                context.destroy_block(block).unwrap();
            });
        });
    });
}

/// Table memory that nobody reads.
#[derive(Debug)]
struct Nowhere;

impl TableBus for Nowhere {
    fn write(&self, _address: BusAddr, entries: impl Iterator<Item = u64>) {
        entries.for_each(drop);
    }

    fn read(&self, _address: BusAddr) -> u64 {
        0
    }

    fn flush(&self) -> Result<(), DeviceLost> {
        Ok(())
    }
}

/// Forgets at once, since it remembers nothing.
struct Forgetful;

// SAFETY: no device reads these tables, so that none remembers anything of them.
unsafe impl Invalidate for Forgetful {
    type Error = ();

    fn invalidate(&mut self, _stale: &Stale) -> Result<(), ()> {
        Ok(())
    }
}

/// What `Device::recover` does to the tables of one address space, while another one is mapped into: C-05
/// lost two tables that way once in thirty thousand rounds.
#[test]
fn c05_wiping_one_address_space_leaves_the_tables_of_another_alone() {
    let mut records: Vec<_> = (0..64).map(|_| DeviceTableRecord::new()).collect();
    let mut maps: Vec<_> = (0..64).map(|_| ChildMap::new()).collect();
    let (start, order) = (BusAddr::new(0x1000_0000), ReuseOrder::LastReleased);
    let pool: DeviceTablePool<'_, Nowhere, Lock> =
        DeviceTablePool::new(Nowhere, start, &mut records, &mut maps, order).unwrap();
    let mut wiped = PageTable::<V1, _>::new(&pool).unwrap().unwrap();
    let mut used = PageTable::<V1, _>::new(&pool).unwrap().unwrap();
    let over = AtomicBool::new(false);
    let lost = thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                wiped.wipe().confirm(&mut Forgetful).unwrap();
            }
        });
        // Two pages that have the upper tables in common.
        let places = [0x1_0000_0000_0000, 0x1_0000_4000_0000].map(DeviceAddr::new);
        let run = Run::new(BusAddr::new(0x80_0000_0000), PAGE).unwrap();
        let lost = (0..scaled(100_000, 10_000_000)).find(|_| {
            for at in places {
                used.map(at, run, &MapOptions::default()).unwrap();
            }
            let mut unmap = |at| {
                let removed = used.sweep(AddrRange::new(at, PAGE).unwrap());
                removed.confirm(&mut Forgetful).unwrap();
                pool.usage().used()
            };
            // Two roots; two tables in common and two of the other page's own; and the roots.
            let left = places.map(&mut unmap);
            left != [2 + 4, 2]
        });
        over.store(true, Ordering::Relaxed);
        lost
    });
    assert_eq!(lost, None, "{} tables are in use", pool.usage().used());
}
