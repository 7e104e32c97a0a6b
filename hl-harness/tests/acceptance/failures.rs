//! A device that stops answering, and accesses that it refuses.
//!
//! Row F-04 also asks for a write to a read-only mapping, which no MMU of this family has: an entry
//! permits everything or nothing (facts 2.1).

use std::thread;

use hl_harness::asic::{AccessKind, DmaEngine, DramContent, Endpoint, FaultReason, MmuInstance};
use hl_harness::host::Permission;
use hl_harness::log::EventKind;
use hl_harness::machine::{Machine, MachineConfig, MachineContext, Model};
use hl_harness::stress::Snapshot;
use hl_mem::budget::Budget;
use hl_mem::uapi::Errno;
use mmu_core::DeviceAddr;

use crate::rig::{
    PAGE, allocate, engine, machine, machine_of, map, map_at, map_dram, on_each_asic, pattern,
    peek, read, unmap, with_file,
};

on_each_asic!(
    f03_a_device_lost_before_an_operation_is_an_error_and_everything_comes_back,
    f03_a_device_lost_amid_an_operation_is_an_error_and_everything_comes_back,
    f04_a_fault_names_address_space_address_and_kind_and_harms_nobody,
    f05_a_copy_over_the_end_of_a_mapping_stops_at_the_page,
);

/// What a process does when the device goes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    Map,
    Unmap,
    Dma,
    Close,
}

const STEPS: [Step; 4] = [Step::Map, Step::Unmap, Step::Dma, Step::Close];

/// A file with mappings, the device lost by `lose`, one step, close, reset, and a new file that works.
fn check_loss<A: Model>(
    machine: &Machine<'_, '_, A>,
    step: Step,
    run: impl for<'x> FnOnce(&'x mut (dyn FnMut() + Send + 'x)),
) {
    let (budget, process) = (Budget::unlimited(), machine.spawn());
    let before = Snapshot::of(machine, &[], &[&budget]).without_dirt();
    let mut storage = machine.storage();
    let context = machine.open(&process, &budget, &mut storage).unwrap();
    let dma = engine(machine, &context);
    let buffer = process.map(9, Permission::ReadWrite).unwrap();
    let at = map(&context, buffer, 3 * PAGE).unwrap();
    if A::PROFILE.dram.mapped_at.is_some() {
        let handle = allocate(&context, 1, 0).unwrap();
        map_dram(&context, handle, 0, 0).unwrap();
    }
    let _ = context.create_command_buffer(3 * PAGE, true).unwrap();
    let _ = context.create_block(&machine.privilege, 3 * PAGE).unwrap();
    let mut context = Some(context);
    let mut outcome = Ok(());
    run(&mut || {
        let open = context.as_ref().unwrap();
        outcome = match step {
            Step::Map => map(open, buffer.offset(3 * PAGE), 4 * PAGE).map(drop),
            Step::Unmap => unmap(open, at).map(drop),
            Step::Dma => dma
                .fill(Endpoint::Virtual(DeviceAddr::new(at)), 1, 3 * PAGE)
                .map_err(|_| Errno::EIO),
            Step::Close => match context.take().unwrap().close() {
                Ok(_) => Ok(()),
                Err(refused) => {
                    context = Some(refused.into_context());
                    Err(Errno::EIO)
                }
            },
        };
    });
    assert!(machine.asic.is_lost());
    if let Err(errno) = outcome {
        assert!(matches!(errno, Errno::EIO | Errno::EBUSY), "{errno}");
    }
    // Nothing works, nothing hangs, and pins stay with whoever has the charge for them.
    if let Some(open) = &context {
        assert!(map(open, buffer, PAGE).is_err());
        assert!(
            dma.fill(Endpoint::Virtual(DeviceAddr::new(at)), 0, 8)
                .is_err()
        );
        let counters = machine.host.counters();
        assert_eq!(counters.pins, budget.charged() as u64);
        assert!(counters.pins > 0);
        // The driver notices.
        machine.device.note_lost();
        // A file that is being closed is of no use to anybody, whatever becomes of the device.
        let refused = match step {
            Step::Close => Errno::ENODEV,
            _ => Errno::EBUSY,
        };
        assert_eq!(map(open, buffer, PAGE), Err(refused));
        assert_eq!(allocate(open, 1, 0).map(drop), Err(refused));
        assert_eq!(machine.host.counters(), counters);
    }
    let context = context.map(|open| match open.close() {
        Ok(_) => panic!("closed without a device"),
        Err(refused) => refused.into_context(),
    });
    machine.reset(DramContent::Undefined);
    machine.recover().unwrap();
    if let Some(context) = context {
        assert_eq!(map(&context, buffer, PAGE), Err(Errno::ENODEV));
        context.close().unwrap();
    }
    machine.device.settle_quarantine().unwrap();
    assert_eq!((machine.host.counters().pins, budget.charged()), (0, 0));

    let mut storage = machine.storage();
    let context = machine.open(&process, &budget, &mut storage).unwrap();
    let dma = engine(machine, &context);
    process.write(buffer, &pattern(2 * PAGE, 8)).unwrap();
    let at = map(&context, buffer, 2 * PAGE).unwrap();
    assert!(read(machine, &dma, at, 2 * PAGE) == pattern(2 * PAGE, 8));
    context.close().unwrap();
    drop(process);
    let after = Snapshot::of(machine, &[], &[&budget]).without_dirt();
    after.assert_is(&before, format_args!("after {step:?} of a lost device"));
}

fn f03_a_device_lost_before_an_operation_is_an_error_and_everything_comes_back<A: Model>() {
    let config = MachineConfig {
        frames: 2048,
        ..MachineConfig::default()
    };
    machine_of::<A>(config, |machine| {
        for step in STEPS {
            check_loss(machine, step, |operation| {
                machine.asic.lose();
                operation();
            });
            // And after it, which is before the next one.
            check_loss(machine, step, |operation| {
                if step == Step::Close {
                    machine.asic.lose();
                }
                operation();
                machine.asic.lose();
            });
        }
    });
}

/// Another thread loses the device at the n-th of the operation's stores, registers, or copies; where
/// that comes too late, it is lost afterwards, which is as good.
fn f03_a_device_lost_amid_an_operation_is_an_error_and_everything_comes_back<A: Model>() {
    let config = MachineConfig {
        frames: 2048,
        ..MachineConfig::default()
    };
    machine_of::<A>(config, |machine| {
        let kinds = [
            EventKind::EntryStore,
            EventKind::RegisterWrite,
            EventKind::Flush,
            EventKind::DmaTranslate,
        ];
        let seen = || {
            kinds
                .map(|kind| machine.log.count(kind))
                .iter()
                .sum::<u64>()
        };
        for step in STEPS.into_iter().filter(|step| *step != Step::Close) {
            for nth in [1, 2, 3, 5, 8] {
                check_loss(machine, step, |operation| {
                    let from = seen();
                    thread::scope(|scope| {
                        let worker = scope.spawn(operation);
                        while seen() < from + nth && !worker.is_finished() {
                            core::hint::spin_loop();
                        }
                        machine.asic.lose();
                        worker.join().unwrap();
                    });
                });
            }
        }
    });
}

/// The fault that a copy ends with, which the user is told about.
fn fault<A: Model>(
    machine: &Machine<'_, '_, A>,
    context: &MachineContext<'_, '_, '_, A>,
    dma: &DmaEngine,
    (from, to): (u64, u64),
    len: u64,
) -> (hl_harness::asic::Fault, u64) {
    let end = |at| Endpoint::Virtual(DeviceAddr::new(at));
    let error = dma.copy(end(from), end(to), len).unwrap_err();
    let fault = error.fault().unwrap();
    // As the MMU captured it, and as the driver finds it there.
    assert_eq!(machine.asic.take_faults().pop(), Some(fault));
    let mut captured = Vec::new();
    let reported = machine.device.report_faults(|fault| captured.push(fault));
    assert!(reported.unwrap().wake, "nobody is told");
    assert_eq!(captured.len(), 1);
    assert!(captured[0].at.unwrap().contains(fault.address));
    let told = context.next_event().expect("the user is told");
    context.confirm_event(&told).unwrap();
    assert_eq!(context.next_event(), None);
    (fault, error.bytes_done)
}

fn f04_a_fault_names_address_space_address_and_kind_and_harms_nobody<A: Model>() {
    machine::<A>(|machine| {
        with_file!(machine, |context, process| {
            let other_process = machine.spawn();
            let budget = Budget::unlimited();
            let mut storage = machine.storage();
            let other = machine.open(&other_process, &budget, &mut storage).unwrap();
            let own = context.asid().get();
            let dma = engine(machine, &context);
            let base = A::PROFILE.host.range.start().get() + (1 << 31);
            let buffer = process.map(4, Permission::ReadWrite).unwrap();
            process.write(buffer, &pattern(4 * PAGE, 2)).unwrap();
            map_at(&context, buffer, 4 * PAGE, base).unwrap();
            let foreign = other_process.map(1, Permission::ReadWrite).unwrap();
            let theirs = base + (64 << 20);
            map_at(&other, foreign, PAGE, theirs).unwrap();
            let fresh = process.map(1, Permission::ReadWrite).unwrap();
            let unmapped = map_at(&context, fresh, PAGE, base + (128 << 20)).unwrap();
            // It was used, so that it was cached.
            read(machine, &dma, unmapped, 8);
            unmap(&context, unmapped).unwrap();

            let nowhere = base + (1 << 20);
            let places = [
                ("never mapped", nowhere),
                ("just unmapped", unmapped),
                ("another's", theirs),
                ("below every range", 0),
            ];
            for (what, bad) in places {
                for (address, kind, from, to, len) in [
                    (bad, AccessKind::Read, bad, base, 1 << 20),
                    (bad + 8, AccessKind::Read, bad + 8, base, 8),
                    (bad, AccessKind::Write, base, bad, 4 * PAGE),
                    (bad + 4088, AccessKind::Write, base, bad + 4088, 8),
                ] {
                    let (fault, done) = fault(machine, &context, &dma, (from, to), len);
                    assert_eq!(
                        (fault.asid, fault.address.get(), fault.access, done),
                        (own, address, kind, 0),
                        "{what}"
                    );
                    assert!(matches!(fault.reason, FaultReason::NotPresent { .. }));
                    let expected = match A::KIND {
                        hl_harness::asic::AsicKind::Gaudi2 => MmuInstance::Pmmu,
                        _ => MmuInstance::Single,
                    };
                    assert_eq!(fault.mmu, expected);
                }
            }
            // Nothing was moved, and everybody goes on.
            assert!(peek(&process, buffer, 4 * PAGE) == pattern(4 * PAGE, 2));
            assert!(
                peek(&other_process, foreign, PAGE)
                    .iter()
                    .all(|byte| *byte == 0)
            );
            assert!(read(machine, &dma, base, 4 * PAGE) == pattern(4 * PAGE, 2));
            let theirs_dma = engine(machine, &other);
            let at = Endpoint::Virtual(DeviceAddr::new(theirs));
            theirs_dma.fill(at, 0x44, PAGE).unwrap();
            assert_eq!(peek(&other_process, foreign, 8), [0x44; 8]);
            unmap(&context, base).unwrap();
            other.close().unwrap();
            drop(other_process);
        });
    });
}

fn f05_a_copy_over_the_end_of_a_mapping_stops_at_the_page<A: Model>() {
    const COPY: u64 = 5000;
    machine::<A>(|machine| {
        with_file!(machine, |context, process| {
            let dma = engine(machine, &context);
            let base = A::PROFILE.host.range.start().get() + (1 << 31);
            let target = process.map(4, Permission::ReadWrite).unwrap();
            let to = map(&context, target, 4 * PAGE).unwrap();
            for (offset, pages) in [(0, 1), (4092, 2)] {
                let buffer = process.map(4, Permission::ReadWrite).unwrap();
                process.write(buffer, &pattern(4 * PAGE, 6)).unwrap();
                let at = map_at(&context, buffer.offset(offset), 8, base).unwrap();
                assert_eq!(at, base + offset);
                let usage: Vec<u32> = crate::rig::pins(machine, &process, buffer, 4);
                let expected: Vec<u32> = (0..4).map(|page| u32::from(page < pages)).collect();
                assert_eq!(usage, expected, "offset {offset}");
                let first_unmapped = base + pages * PAGE;
                let reached = first_unmapped - at;

                process
                    .write(target, &vec![0xFF; 4 * PAGE as usize])
                    .unwrap();
                let attempt = [(at, to), (to, at)];
                for (from, into) in attempt {
                    let end = |at| Endpoint::Virtual(DeviceAddr::new(at));
                    let outcome = dma.copy(end(from), end(into), COPY);
                    let error = outcome.unwrap_err();
                    let fault = error.fault().unwrap();
                    assert_eq!(fault.address.get(), first_unmapped, "offset {offset}");
                    assert!(error.bytes_done <= reached);
                }
                // What lies behind in the process's memory was neither read nor written.
                let behind = buffer.offset(pages * PAGE);
                let untouched = peek(&process, behind, (4 - pages) * PAGE);
                let wanted = pattern(4 * PAGE, 6).split_off((pages * PAGE) as usize);
                assert!(untouched == wanted, "offset {offset}");
                let copied = peek(&process, target, 4 * PAGE);
                assert!(copied[reached as usize..].iter().all(|byte| *byte == 0xFF));
                unmap(&context, at).unwrap();
                process.unmap(buffer, 4);
            }
            unmap(&context, to).unwrap();
        });
    });
}
