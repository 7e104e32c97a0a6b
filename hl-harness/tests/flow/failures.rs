use hl_harness::asic::{AsicConfig, Completion, DramContent, InitiatorMode, Operation};
use hl_harness::host::{HostFailure, Permission};
use hl_harness::log::{Event, EventKind};
use hl_harness::machine::{MachineConfig, Model};
use hl_mem::budget::Budget;
use hl_mem::context::{ContextUsage, DestroyError, UnmapUserError};
use hl_mem::device::{BufferError, RetireError};
use hl_mem::uapi::{self, Errno, MemoryInput};
use mmu_core::DeviceAddr;

use crate::rig::{machine, machine_of, map_input, on_each_asic, unmap_input, user_mode};

on_each_asic!(
    what_is_mapped_next_to_an_absent_page_is_found_at_once,
    a_failed_invalidation_keeps_user_pages_pinned_until_one_succeeds,
    a_failed_invalidation_keeps_a_block_until_one_succeeds,
    what_a_later_removal_confirms_as_well_leaves_the_quarantine_with_it,
    closing_while_invalidations_fail_loses_nothing,
    every_failing_allocation_and_pin_leaves_everything_as_it_was,
    running_out_of_tables_leaves_everything_as_it_was,
    a_lost_device_is_an_error_and_its_memory_comes_back_after_reset,
    pages_go_only_after_the_invalidation_is_confirmed,
    a_file_that_outlived_a_reset_maps_nothing_and_a_new_one_does,
    a_device_that_does_not_answer_in_time_is_told_apart_from_one_that_is_gone,
);

/// Acceptance I-01: the line with the absent entry is cached when the second page is mapped.
fn what_is_mapped_next_to_an_absent_page_is_found_at_once<A: Model>() {
    machine::<A>(|machine| {
        let (budget, process) = (Budget::unlimited(), machine.spawn());
        let mut storage = machine.storage();
        let context = machine.open(&process, &budget, &mut storage).unwrap();
        let engine = machine.asic.add_initiator("dma", user_mode(context.asid()));
        let mut at = Vec::new();
        for page in 0..20u64 {
            let address = process.map(1, Permission::ReadWrite).unwrap();
            process.write(address, &[page as u8 + 1]).unwrap();
            let input = map_input(address, 4096);
            let reply = uapi::dispatch(&context, &input.to_bytes()).unwrap();
            at.push(reply.value);
            // Reads what is new, which fills the line, and looks at its absent neighbour.
            let mut got = [0];
            machine
                .asic
                .read(engine, DeviceAddr::new(reply.value), &mut got)
                .unwrap();
            assert_eq!(got, [page as u8 + 1]);
            let beyond = DeviceAddr::new(reply.value + 4096);
            assert!(machine.asic.read(engine, beyond, &mut got).is_err());
        }
        assert!(
            at.windows(2).any(|pair| pair[1] == pair[0] + 4096),
            "no neighbours: {at:x?}"
        );
        context.close().unwrap();
    });
}

fn a_failed_invalidation_keeps_user_pages_pinned_until_one_succeeds<A: Model>() {
    machine::<A>(|machine| {
        let (budget, process) = (Budget::new(10), machine.spawn());
        let mut storage = machine.storage();
        let context = machine.open(&process, &budget, &mut storage).unwrap();
        let address = process.map(4, Permission::ReadWrite).unwrap();
        let before = (machine.counters().tables, context.usage());
        let input = map_input(address, 4 * 4096);
        let at = uapi::dispatch(&context, &input.to_bytes()).unwrap().value;
        let mapped = machine.counters();
        machine
            .asic
            .inject(Operation::Invalidation, 1, 100, Completion::Never);
        let failed = context.unmap(DeviceAddr::new(at));
        assert!(
            matches!(failed, Err(UnmapUserError::Unconfirmed(_))),
            "{failed:?}"
        );
        // Tables, pins, charge and addresses stay; the mapping itself is gone.
        assert_eq!(machine.counters().tables, mapped.tables);
        assert_eq!((machine.host.counters().pins, budget.charged()), (4, 4));
        assert_eq!(
            (context.usage().mappings, context.usage().quarantined),
            (1, 1)
        );
        assert!(matches!(
            context.unmap(DeviceAddr::new(at)),
            Err(UnmapUserError::NotMapped { .. })
        ));
        assert!(context.settle_quarantine().is_err());
        assert_eq!((machine.host.counters().pins, budget.charged()), (4, 4));
        machine.asic.clear_injections();
        context.settle_quarantine().unwrap();
        assert_eq!((machine.host.counters().pins, budget.charged()), (0, 0));
        assert_eq!((machine.counters().tables, context.usage()), before);
        // The addresses are free for the next mapping.
        assert_eq!(
            uapi::dispatch(&context, &input.to_bytes()).unwrap().value,
            at
        );
        context.close().unwrap();
    });
}

fn a_failed_invalidation_keeps_a_block_until_one_succeeds<A: Model>() {
    machine::<A>(|machine| {
        let (budget, process) = (Budget::unlimited(), machine.spawn());
        let mut storage = machine.storage();
        let context = machine.open(&process, &budget, &mut storage).unwrap();
        let before = machine.counters();
        let (handle, _) = context.create_block(&machine.privilege, 5 * 4096).unwrap();
        machine
            .asic
            .inject(Operation::Invalidation, 1, 100, Completion::Never);
        let failed = context.destroy_block(handle);
        assert!(matches!(
            failed,
            Err(DestroyError::Retire(RetireError::Unconfirmed(_)))
        ));
        let usage = machine.device.usage();
        assert_eq!((usage.buffers.buffers, usage.buffers.quarantined), (1, 1));
        assert_eq!(usage.privileged_bytes, 5 * 4096);
        assert_eq!(
            machine.host.counters().kernel_frames,
            before.host.kernel_frames + 5
        );
        machine.asic.clear_injections();
        machine.device.settle_quarantine().unwrap();
        assert_eq!(machine.counters(), before);
        context.close().unwrap();
    });
}

/// DESIGN 3.4: what a time-out left waits for a later invalidation, and not for a call that no request
/// makes.
fn what_a_later_removal_confirms_as_well_leaves_the_quarantine_with_it<A: Model>() {
    machine::<A>(|machine| {
        let (budget, process) = (Budget::new(10), machine.spawn());
        let mut storage = machine.storage();
        let context = machine.open(&process, &budget, &mut storage).unwrap();
        let before = (machine.counters(), context.usage());
        let map = || {
            let address = process.map(2, Permission::ReadWrite).unwrap();
            let input = map_input(address, 2 * 4096).to_bytes();
            let at = uapi::dispatch(&context, &input).unwrap().value;
            DeviceAddr::new(at)
        };
        let stuck: Vec<_> = (0..3).map(|_| map()).collect();
        let other = map();
        let create = || context.create_block(&machine.privilege, 4096).unwrap().0;
        let (stuck_block, other_block) = (create(), create());
        machine
            .asic
            .inject(Operation::Invalidation, 1, 100, Completion::Never);
        for at in stuck {
            context.unmap(at).unwrap_err();
        }
        context.destroy_block(stuck_block).unwrap_err();
        machine.asic.clear_injections();
        assert_eq!(context.usage().quarantined, 3);
        assert_eq!(budget.charged(), 8);

        context.unmap(other).unwrap();
        assert_eq!(
            context.usage(),
            ContextUsage {
                handles: 1,
                ..before.1
            }
        );
        assert_eq!((machine.host.counters().pins, budget.charged()), (0, 0));
        assert_eq!(machine.device.usage().buffers.quarantined, 1);
        context.destroy_block(other_block).unwrap();
        let after = machine.counters();
        assert_eq!(after.device, before.0.device);
        assert_eq!(after.tables, before.0.tables);
        assert_eq!(context.usage(), before.1);
        context.close().unwrap();
    });
}

fn closing_while_invalidations_fail_loses_nothing<A: Model>() {
    machine::<A>(|machine| {
        let before = machine.counters();
        let (budget, process) = (Budget::unlimited(), machine.spawn());
        let mut storage = machine.storage();
        let context = machine.open(&process, &budget, &mut storage).unwrap();
        let address = process.map(4, Permission::ReadWrite).unwrap();
        let input = map_input(address, 4 * 4096);
        uapi::dispatch(&context, &input.to_bytes()).unwrap();
        let _ = context.create_block(&machine.privilege, 4096).unwrap();
        machine
            .asic
            .inject(Operation::Invalidation, 1, 1000, Completion::Never);
        let context = context.close().unwrap_err().into_context();
        assert_eq!(machine.host.counters().pins, 4);
        assert_eq!(
            machine.device.usage().free_asids,
            before.device.free_asids - 1
        );
        let context = context.close().unwrap_err().into_context();
        machine.asic.clear_injections();
        let left = context.close().unwrap();
        assert_eq!((left.mappings, left.handles), (1, 1));
        machine.device.settle_quarantine().unwrap();
        process.exit();
        assert_eq!(machine.counters(), before);
    });
}

fn every_failing_allocation_and_pin_leaves_everything_as_it_was<A: Model>() {
    machine::<A>(|machine| {
        let (budget, process) = (Budget::unlimited(), machine.spawn());
        let mut storage = machine.storage();
        let context = machine.open(&process, &budget, &mut storage).unwrap();
        let address = process.map(9, Permission::ReadWrite).unwrap();
        let input = map_input(address.offset(5), 8 * 4096);
        let before = (machine.counters(), context.usage(), budget.charged());
        let mut failures = 0;
        for nth in 1.. {
            machine.host.fail(HostFailure::Pin, Some(nth));
            match uapi::dispatch(&context, &input.to_bytes()) {
                Ok(reply) => {
                    machine.host.fail(HostFailure::Pin, None);
                    uapi::dispatch(&context, &unmap_input(reply.value).to_bytes()).unwrap();
                    break;
                }
                Err(errno) => {
                    assert_eq!(errno, Errno::ENOMEM);
                    failures += 1;
                    assert_eq!(
                        (machine.counters(), context.usage(), budget.charged()),
                        before
                    );
                }
            }
        }
        assert_eq!(failures, 9);
        let before = machine.counters().device;
        let mut failures = 0;
        for nth in 1.. {
            machine.host.fail(HostFailure::FrameAllocation, Some(nth));
            match context.create_block(&machine.privilege, 7 * 4096) {
                Ok((handle, _)) => {
                    machine.host.fail(HostFailure::FrameAllocation, None);
                    context.destroy_block(handle).unwrap();
                    break;
                }
                Err(_) => {
                    failures += 1;
                    assert_eq!(machine.counters().device, before);
                    assert_eq!(context.usage().handles, 0);
                }
            }
        }
        assert!(failures >= 7, "{failures}");
        context.close().unwrap();
    });
}

fn running_out_of_tables_leaves_everything_as_it_was<A: Model>() {
    // From just enough for the roots up to enough for everything.
    let mut succeeded = false;
    for tables in 3..12 {
        let config = MachineConfig {
            tables,
            ..MachineConfig::default()
        };
        let mut ok = false;
        machine_of::<A>(config, |machine| {
            let (budget, process) = (Budget::unlimited(), machine.spawn());
            let mut storage = machine.storage();
            let context = machine.open(&process, &budget, &mut storage).unwrap();
            let address = process.map(3, Permission::ReadWrite).unwrap();
            let before = (
                machine.counters().tables,
                machine.device.usage(),
                context.usage(),
            );
            let charged = budget.charged();
            let input = map_input(address, 3 * 4096);
            match uapi::dispatch(&context, &input.to_bytes()) {
                Ok(_) => ok = true,
                Err(errno) => {
                    assert_eq!(errno, Errno::ENOMEM);
                    let after = (
                        machine.counters().tables,
                        machine.device.usage(),
                        context.usage(),
                    );
                    assert_eq!(after, before);
                    assert_eq!(
                        (budget.charged(), machine.host.counters().pins),
                        (charged, 0)
                    );
                }
            }
            context.close().unwrap();
        });
        assert!(
            ok || !succeeded,
            "{tables} tables were too few, though fewer sufficed"
        );
        succeeded |= ok;
    }
    assert!(succeeded);
}

fn a_lost_device_is_an_error_and_its_memory_comes_back_after_reset<A: Model>() {
    machine::<A>(|machine| {
        let (budget, process) = (Budget::unlimited(), machine.spawn());
        let mut storage = machine.storage();
        let context = machine.open(&process, &budget, &mut storage).unwrap();
        let address = process.map(3, Permission::ReadWrite).unwrap();
        let input = map_input(address, 3 * 4096);
        let at = uapi::dispatch(&context, &input.to_bytes()).unwrap().value;
        let pins = machine.host.counters().pins;
        machine.asic.lose();
        assert!(uapi::dispatch(&context, &unmap_input(at).to_bytes()).is_err());
        assert!(uapi::dispatch(&context, &input.to_bytes()).is_err());
        // Both the old and the new pins are kept: nobody knows what the device still does.
        assert!(machine.host.counters().pins >= pins);
        assert_eq!(machine.host.counters().pins, budget.charged() as u64);
        let context = context.close().unwrap_err().into_context();
        machine.reset(DramContent::Undefined);
        machine.recover().unwrap();
        context.close().unwrap();
        assert_eq!((machine.host.counters().pins, budget.charged()), (0, 0));
        // A new context works.
        let mut storage = machine.storage();
        let context = machine.open(&process, &budget, &mut storage).unwrap();
        let at = uapi::dispatch(&context, &input.to_bytes()).unwrap().value;
        let engine = machine.asic.add_initiator("dma", user_mode(context.asid()));
        machine
            .asic
            .write(engine, DeviceAddr::new(at), b"alive")
            .unwrap();
        let mut got = [0; 5];
        process.read(address, &mut got).unwrap();
        assert_eq!(&got, b"alive");
        context.close().unwrap();
    });
}

/// Facts 11.14 and I6: in the log, on a device that forgets nothing by itself.
fn pages_go_only_after_the_invalidation_is_confirmed<A: Model>() {
    let asic = Some(AsicConfig {
        hbm_stacks: A::STACKS,
        ..AsicConfig::new(A::KIND)
    });
    machine_of::<A>(
        MachineConfig {
            asic,
            ..MachineConfig::default()
        },
        |machine| {
            let (budget, process) = (Budget::unlimited(), machine.spawn());
            let mut storage = machine.storage();
            let context = machine.open(&process, &budget, &mut storage).unwrap();
            let (handle, block) = context.create_block(&machine.privilege, 3 * 4096).unwrap();
            let range = machine
                .device
                .block_range(&machine.privilege, block)
                .unwrap();
            let engine = machine
                .asic
                .add_initiator("producer", InitiatorMode::Privileged);
            machine.asic.write(engine, range.start(), &[1; 64]).unwrap();
            let address = process.map(3, Permission::ReadWrite).unwrap();
            let input = map_input(address, 3 * 4096);
            let at = uapi::dispatch(&context, &input.to_bytes()).unwrap().value;
            let kinds: [(&str, EventKind); 2] = [
                ("block", EventKind::PageFree),
                ("mapping", EventKind::Unpin),
            ];
            for (what, release) in kinds {
                let mark = machine.log.mark();
                if what == "block" {
                    context.destroy_block(handle).unwrap();
                } else {
                    context.unmap(DeviceAddr::new(at)).unwrap();
                }
                let events = machine.log.since(mark);
                let first = |wanted: &dyn Fn(&Event) -> bool| {
                    events
                        .iter()
                        .find(|record| wanted(&record.event))
                        .map(|record| record.sequence)
                };
                let last = |wanted: &dyn Fn(&Event) -> bool| {
                    events
                        .iter()
                        .rev()
                        .find(|record| wanted(&record.event))
                        .map(|record| record.sequence)
                };
                let cleared = last(&|event| matches!(event, Event::EntryStore { entry: 0, .. }));
                let begun = first(&|event| event.kind() == EventKind::InvalidateBegin);
                let ended = last(&|event| event.kind() == EventKind::InvalidateEnd);
                let released = first(&|event| event.kind() == release);
                let order = [cleared, begun, ended, released];
                assert!(order.iter().all(Option::is_some), "{what}: {order:?}");
                assert!(order.is_sorted(), "{what}: {order:?}");
            }
            context.close().unwrap();
        },
    );
}

/// What a file that outlived a reset maps leads nowhere, so that it is refused.
fn a_file_that_outlived_a_reset_maps_nothing_and_a_new_one_does<A: Model>() {
    machine::<A>(|machine| {
        let before = machine.counters().without_dirt();
        let (budget, process) = (Budget::new(10), machine.spawn());
        let (mut one, mut two) = (machine.storage(), machine.storage());
        let old = machine.open(&process, &budget, &mut one).unwrap();
        let buffer = process.map(1, Permission::ReadWrite).unwrap();
        machine.asic.lose();
        machine.reset(DramContent::Undefined);
        machine.recover().unwrap();
        let usage = (machine.counters(), old.usage(), budget.charged());
        let input = map_input(buffer, 4096).to_bytes();
        assert_eq!(uapi::dispatch(&old, &input), Err(Errno::ENODEV));
        let mapped = old.create_command_buffer(4096, true);
        assert_eq!(mapped, Err(BufferError::Reset));
        assert_eq!((machine.counters(), old.usage(), budget.charged()), usage);
        let new = machine.open(&process, &budget, &mut two).unwrap();
        let reply = uapi::dispatch(&new, &input).unwrap();
        let engine = machine.asic.add_initiator("dma", user_mode(new.asid()));
        let at = DeviceAddr::new(reply.value);
        machine.asic.read(engine, at, &mut [0; 8]).unwrap();
        old.close().unwrap();
        machine.asic.read(engine, at, &mut [0; 8]).unwrap();
        new.close().unwrap();
        drop(process);
        assert_eq!(machine.counters().without_dirt(), before);
    });
}

/// Facts 6.4, 6.6, 9: the answer is the one that says what happened, and not that of a device which is
/// gone.
fn a_device_that_does_not_answer_in_time_is_told_apart_from_one_that_is_gone<A: Model>() {
    machine::<A>(|machine| {
        let (budget, process) = (Budget::unlimited(), machine.spawn());
        let mut storage = machine.storage();
        let context = machine.open(&process, &budget, &mut storage).unwrap();
        let buffer = process.map(1, Permission::ReadWrite).unwrap();
        let asic = &machine.asic;
        let request = |input: MemoryInput| uapi::dispatch(&context, &input.to_bytes());
        let hang = || asic.inject(Operation::Invalidation, 1, u64::MAX, Completion::Never);
        let settle = || {
            asic.clear_injections();
            context.settle_quarantine().unwrap();
        };
        let mut requests = vec![map_input(buffer, 4096)];
        if A::PROFILE.dram.mapped_at.is_some() {
            let allocate = MemoryInput {
                arguments: [1, 0, 0],
                op: uapi::OP_ALLOC,
                ..MemoryInput::default()
            };
            requests.push(MemoryInput {
                arguments: [0, request(allocate).unwrap().value, 0],
                op: uapi::OP_MAP,
                ..MemoryInput::default()
            });
        }
        let late = Err(Errno::ETIMEDOUT);
        for map in &requests {
            hang();
            assert_eq!(request(*map), late);
            settle();
            let unmap = MemoryInput {
                arguments: [request(*map).unwrap().value, 0, 0],
                op: uapi::OP_UNMAP,
                ..MemoryInput::default()
            };
            hang();
            assert_eq!(request(unmap), late);
            settle();
        }
        if let Some(map) = requests.get(1) {
            let free = MemoryInput {
                arguments: [map.arguments[1], 0, 0],
                op: uapi::OP_FREE,
                ..MemoryInput::default()
            };
            request(free).unwrap();
        }
        context.close().unwrap();
    });
}
