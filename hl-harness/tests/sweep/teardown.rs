//! Closing and recovering, with each invalidation failing and with everything failing at once.

use core::cell::Cell;

use hl_harness::asic::{Completion, DramContent, InitiatorMode, Operation};
use hl_harness::host::{HostFailure, Permission};
use hl_harness::log::EventKind;
use hl_harness::machine::{Machine, MachineConfig, Model, scrubber};
use hl_harness::stress::Snapshot;
use hl_mem::budget::Budget;
use hl_mem::dram::DramContent::Unknown;
use hl_mem::uapi::{Errno, FLAG_USERPTR, OP_MAP};
use mmu_core::DeviceAddr;

use crate::creations::{ALL, Creation, Made, Prepared};
use crate::rig::{PAGE, Room, Scene, Storage, call, furnish, machine, on_each_asic, sparse, wide};

on_each_asic!(
    closing_with_each_invalidation_failing_loses_nothing,
    closing_with_everything_failing_loses_nothing_and_needs_no_memory,
    recovering_with_each_step_failing_is_done_after_another_reset,
    every_making_fails_on_a_lost_device_or_does_not_need_it,
    every_making_and_unmaking_survives_a_device_that_goes_at_any_access,
    closing_survives_a_device_that_goes_at_any_access,
    recovering_survives_a_device_that_goes_at_any_access,
    every_making_is_refused_by_a_device_that_is_noted_lost_and_after_its_reset,
    a_file_that_outlived_a_reset_gives_its_address_space_back_in_working_order,
    tables_that_were_in_use_during_a_reset_hold_nothing_of_it_when_they_are_used_again,
);

/// With room for one of everything at once.
fn config() -> MachineConfig {
    MachineConfig {
        buffers: 16,
        ..crate::rig::config()
    }
}

/// Opens a file, gives it one of everything that can be made and closes it, with `fail` before the
/// first attempt and `mend` after each that was in vain. Returns how many of those there were.
fn check_close<A: Model>(
    machine: &Machine<'_, '_, A>,
    fail: impl FnOnce(),
    mend: impl Fn(),
) -> u32 {
    let budget = Budget::unlimited();
    let before = Snapshot::of(machine, &[], &[&budget]).without_dirt();
    let process = machine.spawn();
    let mut storage = Storage::new(Room::ROOMY);
    let mut context = storage.open(machine, &process, &budget).unwrap();
    let (mut views, mut own_blocks) = (Vec::new(), Vec::new());
    furnish(machine, &context, &process, &budget, |scene| {
        for creation in ALL.into_iter().filter(|creation| creation.exists(scene)) {
            let prepared = creation.prepare(scene);
            match creation.make(scene, prepared).unwrap() {
                Made::View(view) => views.push(view),
                Made::OwnBlock(block) => own_blocks.push(block),
                Made::Export(export) => scene.context.end_export(export).unwrap(),
                _ => {}
            }
        }
    });
    fail();
    let mut in_vain = 0;
    loop {
        match context.close() {
            Ok(left) => {
                assert!(left.mappings > 0 && left.handles > 0 && left.dram > 0);
                break;
            }
            Err(refused) => {
                // All of it is still there, pins with their charge, and the address space is taken.
                let pins = machine.host.counters().pins;
                assert_eq!(pins, budget.charged() as u64);
                assert_eq!(machine.device.usage().free_asids, 1);
                context = refused.into_context();
                in_vain += 1;
                assert!(in_vain < 4, "it is never closed");
                mend();
            }
        }
    }
    machine.asic.clear_injections();
    if machine.asic.is_lost() {
        // It went at the last access, which is not waited for on Gaudi.
        mend();
    }
    // What the file could not give up stays with the device.
    machine.device.settle_quarantine().unwrap();
    for view in views {
        machine.device.end_view(view).unwrap();
    }
    // The driver's own are no part of any file.
    for block in own_blocks {
        let privilege = &machine.privilege;
        machine.device.destroy_block(privilege, block).unwrap();
    }
    drop(process);
    let after = Snapshot::of(machine, &[], &[&budget]).without_dirt();
    after.assert_is(&before, "after closing");
    in_vain
}

fn closing_with_each_invalidation_failing_loses_nothing<A: Model>() {
    for times in [1, u64::MAX] {
        let mut failed = 0;
        for nth in 1.. {
            let mut over = false;
            machine::<A>(config(), |machine| {
                let begun = || machine.log.count(EventKind::InvalidateBegin);
                let start = Cell::new(0);
                let fail = || {
                    start.set(begun());
                    let never = Completion::Never;
                    machine
                        .asic
                        .inject(Operation::Invalidation, nth, times, never);
                };
                let in_vain = check_close(machine, fail, || machine.asic.clear_injections());
                failed += in_vain;
                over = begun() - start.get() < nth;
            });
            if over {
                break;
            }
        }
        assert!(failed > 0, "none concerned the user's mappings");
    }
}

fn closing_with_everything_failing_loses_nothing_and_needs_no_memory<A: Model>() {
    machine::<A>(config(), |machine| {
        let (host, asic) = (&machine.host, &machine.asic);
        let fail = || {
            host.fail(HostFailure::FrameAllocation, Some(1));
            host.fail(HostFailure::Pin, Some(1));
            let never = Completion::Never;
            asic.inject(Operation::Invalidation, 1, u64::MAX, never);
            asic.set_initiator_mode(scrubber(), InitiatorMode::User(7));
        };
        let in_vain = check_close(machine, fail, || asic.clear_injections());
        assert_eq!(in_vain, 1);
        // Neither a page was asked for nor a pin: the first of each still fails.
        assert!(host.kernel_block(1, "probe").is_err());
        host.fail(HostFailure::Pin, None);
        asic.set_initiator_mode(scrubber(), InitiatorMode::Bypass);
        // The same with the device off the bus, until it is reset.
        let fail = || {
            host.fail(HostFailure::FrameAllocation, Some(1));
            asic.lose();
        };
        let mend = || {
            machine.reset(DramContent::Undefined);
            machine.recover().unwrap();
        };
        assert_eq!(check_close(machine, fail, mend), 1);
        assert!(host.kernel_block(1, "probe").is_err());
    });
}

fn recovering_with_each_step_failing_is_done_after_another_reset<A: Model>() {
    machine::<A>(config(), |machine| {
        let before = Snapshot::of(machine, &[], &[]).without_dirt();
        let kinds = [
            (Operation::Invalidation, EventKind::InvalidateBegin),
            (Operation::RootLatch, EventKind::RootSet),
        ];
        for (operation, begins) in kinds {
            let lose = || {
                machine.asic.lose();
                machine.reset(DramContent::Undefined);
            };
            lose();
            let steps = machine.log.count(begins);
            machine.recover().unwrap();
            let steps = machine.log.count(begins) - steps;
            for times in [1, u64::MAX] {
                let (mut failures, mut tried, mut nth) = (0, 0, 0);
                while nth <= steps {
                    nth += sparse(nth);
                    tried += 1;
                    lose();
                    machine
                        .asic
                        .inject(operation, nth, times, Completion::Never);
                    if machine.recover().is_err() {
                        failures += 1;
                        if times != 1 {
                            lose();
                            machine.recover().unwrap_err();
                        }
                        machine.asic.clear_injections();
                        lose();
                        machine.recover().unwrap();
                    } else {
                        machine.asic.clear_injections();
                    }
                    let after = Snapshot::of(machine, &[], &[]).without_dirt();
                    let what = format_args!("{operation:?} {nth} of {steps}, {times} times");
                    after.assert_is(&before, what);
                }
                // All but one that nobody waits for, since others follow, and the one beyond the end.
                assert!(
                    failures + 2 >= tried,
                    "{operation:?}: {failures} of {tried}"
                );
            }
        }
        // And it works, for the next user.
        check_close(machine, || {}, || {});
    });
}

fn every_making_fails_on_a_lost_device_or_does_not_need_it<A: Model>() {
    machine::<A>(config(), |machine| {
        for creation in ALL {
            let what = format!("{creation:?}");
            amid_a_scene(machine, &what, |scene, budget| {
                if !creation.exists(scene) {
                    return;
                }
                let prepared = creation.prepare(scene);
                machine.asic.lose();
                match creation.make(scene, prepared) {
                    // What does not concern the device can be unmade without it as well.
                    Ok(made) => creation.unmake(scene, made).unwrap(),
                    Err(errno) => {
                        let told = matches!(errno, Errno::EIO | Errno::EBUSY);
                        assert!(told, "{what}: {errno}");
                    }
                }
                let pins = machine.host.counters().pins;
                assert_eq!(pins, budget.charged() as u64, "{what}");
            });
        }
    });
}

/// Works in a file of its own, closes it, after a reset where the device is lost, and finds everything as
/// before. Returns whether the device was lost.
fn amid_a_scene<'s, 'm, A: Model>(
    machine: &Machine<'s, 'm, A>,
    what: &str,
    work: impl FnOnce(&Scene<'_, '_, 's, 'm, A>, &Budget),
) -> bool {
    let budget = Budget::unlimited();
    let before = Snapshot::of(machine, &[], &[&budget]).without_dirt();
    let process = machine.spawn();
    let mut storage = Storage::new(Room::default());
    let context = storage.open(machine, &process, &budget).unwrap();
    furnish(machine, &context, &process, &budget, |scene| {
        work(scene, &budget);
    });
    let lost = machine.asic.is_lost();
    if lost {
        machine.reset(DramContent::Undefined);
        machine.recover().unwrap();
    }
    context.close().unwrap();
    machine.device.settle_quarantine().unwrap();
    drop(process);
    let after = Snapshot::of(machine, &[], &[&budget]).without_dirt();
    after.assert_is(&before, what);
    lost
}

/// The first access of an operation finds no device any more, then the second one, and so on until it has
/// no more of them. Whatever the operation says, pins and charges belong together, and after a reset all of
/// it can be given back.
fn every_making_and_unmaking_survives_a_device_that_goes_at_any_access<A: Model>() {
    for (creation, unmaking) in ALL.into_iter().flat_map(|it| [(it, false), (it, true)]) {
        let (mut nth, mut lost) = (0, true);
        while lost {
            nth += wide(nth);
            let what = format!("{creation:?}, unmaking: {unmaking}, lost at access {nth}");
            // Device memory that somebody had is given out last, so that a machine of its own is needed
            // for what must lie within a peer's reach.
            machine::<A>(config(), |machine| {
                lost = lose_amid(machine, creation, unmaking, nth, &what);
            });
        }
    }
}

/// Makes or unmakes something in a file of its own, with the device lost at the n-th access to it. Returns
/// whether it came to that.
fn lose_amid<A: Model>(
    machine: &Machine<'_, '_, A>,
    creation: Creation,
    unmaking: bool,
    nth: u64,
    what: &str,
) -> bool {
    amid_a_scene(machine, what, |scene, budget| {
        if !creation.exists(scene) {
            return;
        }
        let prepared = creation.prepare(scene);
        let lose = || {
            let never = Completion::Never;
            machine.asic.inject(Operation::HostAccess, nth, 1, never);
        };
        let outcome = if unmaking {
            let made = creation.make(scene, prepared).unwrap();
            lose();
            creation.unmake(scene, made)
        } else {
            lose();
            match creation.make(scene, prepared) {
                Err(errno) => Err(errno),
                Ok(made) => {
                    // What was made, the last access having been of no consequence, can be unmade.
                    machine.asic.clear_injections();
                    let unmade = creation.unmake(scene, made);
                    assert!(unmade.is_ok() || machine.asic.is_lost(), "{what}");
                    Ok(())
                }
            }
        };
        machine.asic.clear_injections();
        match outcome {
            Ok(()) => {}
            Err(Errno::EIO | Errno::EBUSY) => assert!(machine.asic.is_lost(), "{what}"),
            Err(errno) => panic!("{what}: {errno}"),
        }
        let pins = machine.host.counters().pins;
        assert_eq!(pins, budget.charged() as u64, "{what}");
    })
}

fn closing_survives_a_device_that_goes_at_any_access<A: Model>() {
    let (mut nth, mut lost) = (0, true);
    while lost {
        nth += wide(nth);
        machine::<A>(config(), |machine| {
            let lose = || {
                let never = Completion::Never;
                machine.asic.inject(Operation::HostAccess, nth, 1, never);
            };
            let in_vain = check_close(machine, lose, || {
                machine.reset(DramContent::Undefined);
                machine.recover().unwrap();
            });
            lost = machine.log.count(EventKind::DeviceLost) > 0;
            assert!(lost || in_vain == 0);
        });
    }
    assert!(nth > 2, "closing makes no access");
}

fn recovering_survives_a_device_that_goes_at_any_access<A: Model>() {
    machine::<A>(config(), |machine| {
        let before = Snapshot::of(machine, &[], &[]).without_dirt();
        let mut nth = 0;
        loop {
            nth += wide(nth);
            machine.asic.lose();
            machine.reset(DramContent::Undefined);
            let never = Completion::Never;
            machine.asic.inject(Operation::HostAccess, nth, 1, never);
            let recovered = machine.recover();
            machine.asic.clear_injections();
            let lost = machine.asic.is_lost();
            if lost {
                // It may have been the last one, which is not waited for on Gaudi.
                machine.reset(DramContent::Undefined);
                machine.recover().unwrap();
            }
            let after = Snapshot::of(machine, &[], &[]).without_dirt();
            after.assert_is(&before, format_args!("recovering, lost at access {nth}"));
            if !lost {
                recovered.unwrap();
                break;
            }
        }
        assert!(nth > 2, "recovering makes no access");
        check_close(machine, || {}, || {});
    });
}

/// A driver that knows that the device is lost lets nobody begin anything, and after a reset nobody who
/// was there before.
fn every_making_is_refused_by_a_device_that_is_noted_lost_and_after_its_reset<A: Model>() {
    machine::<A>(config(), |machine| {
        let budget = Budget::unlimited();
        let process = machine.spawn();
        let mut storage = Storage::new(Room::default());
        let context = storage.open(machine, &process, &budget).unwrap();
        furnish(machine, &context, &process, &budget, |scene| {
            let there = ALL.into_iter().filter(|creation| creation.exists(scene));
            let mut prepared: Vec<_> = there
                .map(|creation| (creation, creation.prepare(scene)))
                .collect();
            let check = |prepared: &[(Creation, Prepared)], usual| {
                let before = scene.snapshot();
                for (creation, prepared) in prepared {
                    let refused = creation.make(scene, *prepared).map(drop);
                    let is_view = matches!(
                        creation,
                        Creation::BlockView
                            | Creation::CommandBufferView
                            | Creation::TimestampsView
                            | Creation::RegistersView
                    );
                    // Facts MP-1.
                    let expected = if is_view { Errno::ENODEV } else { usual };
                    assert_eq!(refused, Err(expected), "{creation:?}");
                    let after = scene.snapshot();
                    after.assert_is(&before, format_args!("{creation:?}"));
                }
            };
            machine.device.note_lost();
            check(&prepared, Errno::EBUSY);
            machine.asic.lose();
            check(&prepared, Errno::EBUSY);
            machine.reset(DramContent::Undefined);
            check(&prepared, Errno::EBUSY);
            machine.recover_with(Unknown).unwrap();
            // The driver's own blocks are no file's, and can be made as soon as the device is there.
            prepared.retain(|(creation, _)| {
                !matches!(creation, Creation::OwnBlock | Creation::ContiguousBlock)
            });
            check(&prepared, Errno::ENODEV);
        });
        context.close().unwrap();
    });
}

/// The root of an address space that was in use during a reset is latched when its file is closed. Each
/// step of that fails once, the device being there all the time; the next user must not notice.
fn a_file_that_outlived_a_reset_gives_its_address_space_back_in_working_order<A: Model>() {
    for operation in [Operation::Invalidation, Operation::RootLatch] {
        for nth in 1..=12 {
            let config = MachineConfig {
                users: 1,
                ..config()
            };
            machine::<A>(config, |machine| {
                let (budget, process) = (Budget::unlimited(), machine.spawn());
                let mut storage = Storage::new(Room::default());
                let outlives = storage.open(machine, &process, &budget).unwrap();
                machine.asic.lose();
                machine.reset(DramContent::Undefined);
                machine.recover().unwrap();
                machine.asic.inject(operation, nth, 1, Completion::Never);
                let closed = outlives.close();
                machine.asic.clear_injections();
                if let Err(refused) = closed {
                    refused.into_context().close().unwrap();
                }
                let mut storage = Storage::new(Room::default());
                let Ok(next) = storage.open(machine, &process, &budget) else {
                    // Not to be had until another reset, which is an answer too.
                    return;
                };
                let buffer = process.map(1, Permission::ReadWrite).unwrap();
                let request = [buffer.get(), 0, PAGE];
                let at = call(&next, request, OP_MAP, FLAG_USERPTR).unwrap();
                let mode = InitiatorMode::User(next.asid().get());
                let engine = machine.asic.add_initiator("next user", mode);
                let what = format!("{operation:?} {nth}");
                let written = machine.asic.write(engine, DeviceAddr::new(at), b"works");
                assert_eq!(written.map_err(|error| error.to_string()), Ok(()), "{what}");
                next.close().unwrap();
            });
        }
    }
}

/// A reset leaves anything in device memory, in the tables of a file that is open meanwhile too. Once that
/// is closed, whoever gets its tables must find in them what he has mapped and nothing else.
fn tables_that_were_in_use_during_a_reset_hold_nothing_of_it_when_they_are_used_again<A: Model>() {
    machine::<A>(config(), |machine| {
        let (budget, process) = (Budget::unlimited(), machine.spawn());
        let buffer = process.map(3, Permission::ReadWrite).unwrap();
        let mapped = |pages: u64, reset_meanwhile: bool| {
            let mut storage = Storage::new(Room::default());
            let context = storage.open(machine, &process, &budget).unwrap();
            let request = [buffer.get(), 0, pages * PAGE];
            call(&context, request, OP_MAP, FLAG_USERPTR).unwrap();
            let tables = Snapshot::of(machine, &[], &[]).tables;
            if reset_meanwhile {
                machine.asic.lose();
                machine.reset(DramContent::Undefined);
                machine.recover().unwrap();
            }
            context.close().unwrap();
            let entries = tables.into_values().flatten();
            let mut entries: Vec<u64> = entries.filter(|entry| *entry != 0).collect();
            entries.sort_unstable();
            entries
        };
        let usual = mapped(1, false);
        mapped(3, true);
        let after = mapped(1, false);
        assert_eq!(after, usual, "{after:x?} and not {usual:x?}");
    });
}
