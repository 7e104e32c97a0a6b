//! The other kinds of handles: command buffers, timestamps, registers; views that are copied and end
//! in parts; exports; events.

use core::num::NonZeroU64;

use hl_harness::asic::{Completion, Operation};
use hl_harness::host::HostFailure;
use hl_harness::machine::{MachineConfig, Model, USER_REGISTERS};
use hl_mem::budget::Budget;
use hl_mem::buffer::ViewPolicy;
use hl_mem::context::{
    DramExport, ExportDramError, MAX_COMMAND_BUFFER_BYTES, RegisterTimestampError, UnmapUserError,
    ViewError,
};
use hl_mem::device::MapBufferError;
use hl_mem::events::{DeviceEvent, Report};
use hl_mem::handle::{HandleError, HandleKind, RawHandle};
use hl_mem::profile::{Gaudi, Gaudi2, Goya};
use hl_mem::timestamps::{RegisterError, Registered};
use hl_mem::uapi::{
    self, CommandBufferInput, Errno, ExportRefused, Exporter, FLAG_DEVICE_ADDRESS, FLAG_MAP,
    FLAG_SHARED, MemoryInput, OP_ALLOC, OP_CREATE, OP_DESTROY, OP_EXPORT, OP_FREE, OP_INFO, OP_MAP,
    OP_MAP_BLOCK, OP_TS_ALLOC, OP_UNMAP,
};
use hl_mem::{Context, Wanted};
use mmu_core::DeviceAddr;

use crate::rig::{machine, machine_of, on_each_asic, user_mode};

on_each_asic!(
    h01_command_buffers_of_every_size_are_zeroed_rounded_and_given_back,
    h07_a_mapped_command_buffer_is_fetched_by_the_users_engines_until_it_is_destroyed,
    a_command_buffer_is_refused_by_size_flags_and_kind,
    a_command_buffer_that_fails_at_any_step_leaves_everything_as_it_was,
    a_users_unmap_does_not_find_what_the_driver_mapped,
    a_failed_invalidation_keeps_a_command_buffer_until_one_succeeds,
    h02_what_is_shown_lives_until_the_last_page_of_the_last_view_is_gone,
    views_are_counted_where_the_port_wants_several,
    q04_timestamps_are_zero_until_reached_and_refuse_what_is_not_there,
    a_destroyed_pool_of_timestamps_goes_when_nothing_waits_for_it,
    closing_gives_back_every_kind_of_object,
    faults_and_recovery_are_told_to_the_users_who_are_there,
    an_engine_that_faults_on_and_on_holds_nobody_up_and_hides_nothing,
);

type Dispatch<'a> = dyn Fn(MemoryInput) -> Result<u64, Errno> + 'a;

fn memory(op: u32, arguments: [u64; 3]) -> MemoryInput {
    MemoryInput {
        op,
        arguments,
        ..MemoryInput::default()
    }
}

fn command_buffer(op: u32, handle: u64, size: u32, flags: u32) -> [u8; 24] {
    CommandBufferInput {
        handle,
        op,
        size,
        context_id: 0,
        flags,
    }
    .to_bytes()
}

fn time(value: u64) -> NonZeroU64 {
    NonZeroU64::new(value).unwrap()
}

/// Opens a file on a machine, runs `run` with it, closes it, and compares the counters.
macro_rules! with_file {
    ($machine:ident, $context:ident, $run:block) => {{
        let before = $machine.counters();
        let (budget, process) = (Budget::unlimited(), $machine.spawn());
        let mut storage = $machine.storage();
        let $context = $machine.open(&process, &budget, &mut storage).unwrap();
        let fresh = ($machine.counters(), $context.usage());
        $run
        assert_eq!(($machine.counters(), $context.usage()), fresh);
        $context.close().unwrap();
        drop(process);
        assert_eq!($machine.counters(), before);
    }};
}

fn h01_command_buffers_of_every_size_are_zeroed_rounded_and_given_back<A: Model>() {
    machine::<A>(|machine| {
        with_file!(machine, context, {
            let sizes = [1 << 20, 5000, 77, 92517, 32, 4096, 65536, (2 << 20) - 32];
            for size in sizes {
                let create = command_buffer(OP_CREATE, 0, size, 0);
                let handle = uapi::dispatch_command_buffer(&context, &create)
                    .unwrap()
                    .value;
                let rounded = u64::from(size).next_multiple_of(4096);
                let raw = RawHandle::new(handle);
                for wrong in [rounded - 4096, rounded + 4096, rounded - 1, 0] {
                    let refused = context.mmap(raw, wrong).unwrap_err();
                    assert_eq!(refused, ViewError::Length { expected: rounded });
                }
                let view = context.mmap(raw, rounded).unwrap();
                let memory = view.view().view();
                let mut bytes = vec![0xFF; rounded as usize];
                memory.read(0, &mut bytes).unwrap();
                assert!(
                    bytes.iter().all(|byte| *byte == 0),
                    "{size} bytes are not zeroed"
                );
                // Dirty when it is freed, which the next one must not see.
                bytes.fill(0xD1);
                memory.write(0, &bytes).unwrap();
                machine.device.end_view(view);
                let destroy = command_buffer(OP_DESTROY, handle, 0, 0);
                uapi::dispatch_command_buffer(&context, &destroy).unwrap();
                let again = uapi::dispatch_command_buffer(&context, &destroy);
                assert_eq!(again, Err(Errno::EINVAL));
            }
        });
    });
}

fn h07_a_mapped_command_buffer_is_fetched_by_the_users_engines_until_it_is_destroyed<A: Model>() {
    machine::<A>(|machine| {
        with_file!(machine, context, {
            let ioctl = |bytes: [u8; 24]| {
                uapi::dispatch_command_buffer(&context, &bytes).map(|reply| reply.value)
            };
            let plain = ioctl(command_buffer(OP_CREATE, 0, 4096, 0)).unwrap();
            let refused = ioctl(command_buffer(OP_INFO, plain, 0, FLAG_DEVICE_ADDRESS));
            assert_eq!(refused, Err(Errno::EINVAL));
            let handle = ioctl(command_buffer(OP_CREATE, 0, 10_000, FLAG_MAP)).unwrap();
            let at = ioctl(command_buffer(OP_INFO, handle, 0, FLAG_DEVICE_ADDRESS)).unwrap();
            let view = context.mmap(RawHandle::new(handle), 12288).unwrap();
            // A view and a mapping.
            assert_eq!(ioctl(command_buffer(OP_INFO, handle, 0, 0)), Ok(2));
            view.view().view().write(9996, b"last").unwrap();
            let engine = machine
                .asic
                .add_initiator("queue", user_mode(context.asid()));
            let mut fetched = [0; 4];
            let last = DeviceAddr::new(at + 9996);
            machine.asic.read(engine, last, &mut fetched).unwrap();
            assert_eq!(&fetched, b"last");
            ioctl(command_buffer(OP_DESTROY, handle, 0, 0)).unwrap();
            // The view keeps the memory, and nothing else.
            let fault = machine.asic.read(engine, last, &mut fetched).unwrap_err();
            assert_eq!(fault.fault().unwrap().address, last);
            let mut seen = [0; 4];
            view.view().view().read(9996, &mut seen).unwrap();
            assert_eq!(&seen, b"last");
            machine.device.end_view(view);
            ioctl(command_buffer(OP_DESTROY, plain, 0, 0)).unwrap();
        });
    });
}

fn a_command_buffer_is_refused_by_size_flags_and_kind<A: Model>() {
    machine::<A>(|machine| {
        with_file!(machine, context, {
            let ioctl = |bytes: [u8; 24]| {
                uapi::dispatch_command_buffer(&context, &bytes).map(|reply| reply.value)
            };
            let over = MAX_COMMAND_BUFFER_BYTES as u32 + 1;
            for size in [over, u32::MAX] {
                let create = command_buffer(OP_CREATE, 0, size, 0);
                assert_eq!(ioctl(create), Err(Errno::EINVAL));
            }
            // Facts CB-1: less than a page is a page.
            let least = ioctl(command_buffer(OP_CREATE, 0, 0, 0)).unwrap();
            let told = context.command_buffer(RawHandle::new(least)).unwrap();
            assert_eq!(told.bytes, 4096);
            ioctl(command_buffer(OP_DESTROY, least, 0, 0)).unwrap();
            for bit in 1..32 {
                let create = command_buffer(OP_CREATE, 0, 4096, 1 << bit);
                assert_eq!(ioctl(create), Err(Errno::EINVAL));
            }
            assert_eq!(ioctl(command_buffer(3, 0, 4096, 0)), Err(Errno::EINVAL));
            let short = uapi::dispatch_command_buffer(&context, &[0; 23]);
            assert_eq!(short, Err(Errno::EINVAL));
            let handle = ioctl(command_buffer(OP_CREATE, 0, 4096, 0)).unwrap();
            for forged in [
                handle ^ 1,
                handle ^ 1 << 12,
                handle ^ 1 << 28,
                handle ^ 1 << 45,
                handle ^ 1 << 63,
                handle & 0xFFFF_F000,
            ] {
                for op in [OP_DESTROY, OP_INFO] {
                    let request = command_buffer(op, forged, 0, 0);
                    assert_eq!(ioctl(request), Err(Errno::EINVAL), "{forged:#x}");
                }
                assert!(context.mmap(RawHandle::new(forged), 4096).is_err());
            }
            // Handles of other kinds are not command buffers (hazard HZ-17).
            let timestamps = context.create_timestamps(4).unwrap();
            let wrong = context.command_buffer(timestamps).unwrap_err();
            let found = HandleKind::TimestampPool;
            assert_eq!(wrong, HandleError::WrongKind { found });
            context.destroy_timestamps(timestamps).unwrap();
            ioctl(command_buffer(OP_DESTROY, handle, 0, 0)).unwrap();
        });
    });
}

fn a_command_buffer_that_fails_at_any_step_leaves_everything_as_it_was<A: Model>() {
    // Room for one of each.
    let config = MachineConfig {
        mappings: 1,
        handles: 1,
        buffers: 1,
        ..MachineConfig::default()
    };
    machine_of::<A>(config, |machine| {
        with_file!(machine, context, {
            let before = (machine.counters(), context.usage());
            let same = || assert_eq!((machine.counters(), context.usage()), before);
            let create = command_buffer(OP_CREATE, 0, 8192, FLAG_MAP);
            let ioctl =
                |bytes: [u8; 24]| uapi::dispatch_command_buffer(&context, &bytes).map(|r| r.value);
            machine.host.fail(HostFailure::FrameAllocation, Some(1));
            assert_eq!(ioctl(create), Err(Errno::ENOMEM));
            same();
            let handle = ioctl(create).unwrap();
            // No handle, then no buffer, then no mapping.
            let full = (machine.counters(), context.usage());
            assert_eq!(ioctl(create), Err(Errno::ENOMEM));
            assert_eq!((machine.counters(), context.usage()), full);
            ioctl(command_buffer(OP_DESTROY, handle, 0, 0)).unwrap();
            same();
            let (block, _) = context.create_block(&machine.privilege, 4096).unwrap();
            let view = context.mmap(block, 4096).unwrap();
            context.destroy_block(block).unwrap();
            let viewed = (machine.counters(), context.usage());
            assert_eq!(ioctl(create), Err(Errno::ENOMEM));
            assert_eq!((machine.counters(), context.usage()), viewed);
            machine.device.end_view(view);
            same();
        });
    });
}

fn a_users_unmap_does_not_find_what_the_driver_mapped<A: Model>() {
    machine::<A>(|machine| {
        with_file!(machine, context, {
            let privilege = &machine.privilege;
            let (block, id) = context.create_block(privilege, 3 * 4096).unwrap();
            let at = context
                .map_block(privilege, block, Wanted::Anywhere)
                .unwrap();
            let twice = context.map_block(privilege, block, Wanted::Anywhere);
            assert_eq!(twice, Err(MapBufferError::Mapped { at }));
            let command = context.create_command_buffer(4096, true).unwrap();
            let fetched_at = context.command_buffer(command).unwrap().mapped_at.unwrap();
            for address in [at, fetched_at] {
                let refused = context.unmap(address);
                assert_eq!(refused, Err(UnmapUserError::NotMapped { at: address }));
                let request = memory(OP_UNMAP, [address.get(), 0, 0]).to_bytes();
                assert_eq!(uapi::dispatch(&context, &request), Err(Errno::EINVAL));
                let forced = context.create_command_buffer(4096, false).unwrap();
                context.destroy_command_buffer(forced).unwrap();
            }
            // The user's engine and the privileged one see the same pages.
            let user = machine
                .asic
                .add_initiator("user", user_mode(context.asid()));
            let privileged = hl_harness::asic::InitiatorMode::Privileged;
            let producer = machine.asic.add_initiator("producer", privileged);
            let range = machine.device.block_range(privilege, id).unwrap();
            let there = range.start().checked_add(2 * 4096 + 8).unwrap();
            machine.asic.write(producer, there, b"produced").unwrap();
            let mut seen = [0; 8];
            let here = at.checked_add(2 * 4096 + 8).unwrap();
            machine.asic.read(user, here, &mut seen).unwrap();
            assert_eq!(&seen, b"produced");
            context.destroy_block(block).unwrap();
            assert!(machine.asic.read(user, here, &mut seen).is_err());
            context.destroy_command_buffer(command).unwrap();
        });
    });
}

fn a_failed_invalidation_keeps_a_command_buffer_until_one_succeeds<A: Model>() {
    machine::<A>(|machine| {
        with_file!(machine, context, {
            let handle = context.create_command_buffer(8192, true).unwrap();
            let frames = machine.counters().host;
            let operation = Operation::Invalidation;
            machine.asic.inject(operation, 1, 100, Completion::Never);
            let destroy = command_buffer(OP_DESTROY, handle.get(), 0, 0);
            let lost = uapi::dispatch_command_buffer(&context, &destroy);
            assert_eq!(lost, Err(Errno::ETIMEDOUT));
            // The handle is gone and the memory is not.
            let again = uapi::dispatch_command_buffer(&context, &destroy);
            assert_eq!(again, Err(Errno::EINVAL));
            assert_eq!(context.usage().quarantined, 1);
            assert_eq!(machine.counters().host, frames);
            machine.asic.clear_injections();
            context.settle_quarantine().unwrap();
        });
    });
}

fn h02_what_is_shown_lives_until_the_last_page_of_the_last_view_is_gone<A: Model>() {
    machine::<A>(|machine| {
        with_file!(machine, context, {
            let handle = context.create_command_buffer(4 * 4096, false).unwrap();
            let view = context.mmap(handle, 4 * 4096).unwrap();
            assert_eq!(
                context.mmap(handle, 4 * 4096).unwrap_err(),
                ViewError::Viewed
            );
            context.destroy_command_buffer(handle).unwrap();
            let child = machine.spawn();
            let copy = view.view().fork(&child).unwrap();
            let copy = machine.device.copy_view(&view, view.pages(), copy);
            assert_eq!(machine.device.usage().buffers.views, 2);
            view.view().view().write(0, b"alive").unwrap();
            // The parent unmaps in two halves, the second of which is more than is left.
            let left = machine.device.end_pages(view, 3).unwrap();
            assert_eq!((left.pages(), machine.device.usage().buffers.views), (1, 2));
            assert!(machine.device.end_pages(left, 1).is_none());
            let mut seen = [0; 5];
            copy.view().view().read(0, &mut seen).unwrap();
            assert_eq!(&seen, b"alive");
            let usage = machine.device.usage().buffers;
            assert_eq!((usage.buffers, usage.views), (1, 1));
            machine.device.end_view(copy);
            assert_eq!(machine.device.usage().buffers.buffers, 0);
        });
    });
}

fn views_are_counted_where_the_port_wants_several<A: Model>() {
    let config = MachineConfig {
        views: ViewPolicy::Counted,
        ..MachineConfig::default()
    };
    machine_of::<A>(config, |machine| {
        with_file!(machine, context, {
            let handle = context.create_command_buffer(4096, false).unwrap();
            let [one, two] = [(); 2].map(|()| context.mmap(handle, 4096).unwrap());
            one.view().view().write(8, b"same").unwrap();
            context.destroy_command_buffer(handle).unwrap();
            machine.device.end_view(one);
            let mut seen = [0; 4];
            two.view().view().read(8, &mut seen).unwrap();
            assert_eq!(&seen, b"same");
            machine.device.end_view(two);
        });
    });
}

fn q04_timestamps_are_zero_until_reached_and_refuse_what_is_not_there<A: Model>() {
    machine::<A>(|machine| {
        with_file!(machine, context, {
            let dispatch = |input: MemoryInput| {
                uapi::dispatch(&context, &input.to_bytes()).map(|reply| reply.value)
            };
            let ts_alloc = |count| {
                dispatch(MemoryInput {
                    element_count: count,
                    ..memory(OP_TS_ALLOC, [0; 3])
                })
            };
            assert_eq!(ts_alloc(0), Err(Errno::EINVAL));
            assert_eq!(ts_alloc((1 << 20) + 1), Err(Errno::EINVAL));
            // More than this machine has storage for.
            assert_eq!(ts_alloc(1 << 20), Err(Errno::ENOMEM));
            let handle = RawHandle::new(ts_alloc(10).unwrap());
            let view = context.mmap(handle, 4096).unwrap();
            let slot = |number: usize| view.view().view().load_u64(number * 8).unwrap();
            assert!(
                view.view().view().store_u64(0, 1).is_err(),
                "the user writes a timestamp"
            );
            let register = |slot, counter, target| {
                context.register_timestamp(handle, slot, (counter, target), 0, time(1))
            };
            for (slot, target) in [(0, 100), (1, 200), (3, 400)] {
                assert_eq!(register(slot, 5, target), Ok(Registered::Pending));
            }
            // Slots and counters that wrap when they are multiplied (hazard HZ-12).
            for beyond in [10, 1 << 61, u64::MAX] {
                let refused = RegisterError::Slot {
                    slot: beyond,
                    slots: 10,
                };
                let refused = Err(RegisterTimestampError::Register(refused));
                assert_eq!(register(beyond, 5, 1), refused);
            }
            for beyond in [16, 1 << 61, u64::MAX] {
                let refused = register(2, beyond, 1);
                assert!(matches!(refused, Err(RegisterTimestampError::Counter(_))));
            }
            // Registered again while it waits: for 300 now, and not for 200.
            assert_eq!(register(1, 5, 300), Ok(Registered::Pending));
            assert_eq!(context.usage().timestamps, 3);
            assert_eq!(
                context
                    .counter_reached(5, 99, time(1000))
                    .unwrap()
                    .completed,
                0
            );
            assert_eq!([slot(0), slot(1), slot(3)], [0, 0, 0]);
            assert_eq!(
                context
                    .counter_reached(5, 250, time(2000))
                    .unwrap()
                    .completed,
                1
            );
            assert_eq!([slot(0), slot(1), slot(3)], [2000, 0, 0]);
            assert_eq!(
                context
                    .counter_reached(4, 1000, time(2500))
                    .unwrap()
                    .completed,
                0
            );
            assert_eq!(
                context
                    .counter_reached(5, 400, time(3000))
                    .unwrap()
                    .completed,
                2
            );
            assert_eq!([slot(0), slot(1), slot(2), slot(3)], [2000, 3000, 0, 3000]);
            let reached = context.register_timestamp(handle, 9, (5, 400), 400, time(4000));
            assert_eq!((reached, slot(9)), (Ok(Registered::Reached), 4000));
            machine.device.end_view(view);
            context.destroy_timestamps(handle).unwrap();
            assert_eq!(context.destroy_timestamps(handle), Err(HandleError::Stale));
        });
    });
}

fn a_destroyed_pool_of_timestamps_goes_when_nothing_waits_for_it<A: Model>() {
    machine::<A>(|machine| {
        with_file!(machine, context, {
            let handle = context.create_timestamps(8).unwrap();
            let register =
                |slot, target| context.register_timestamp(handle, slot, (0, target), 0, time(1));
            register(0, 10).unwrap();
            register(7, 20).unwrap();
            context.destroy_timestamps(handle).unwrap();
            let stale = Err(RegisterTimestampError::Handle(HandleError::Stale));
            assert_eq!(register(1, 30), stale);
            assert_eq!(machine.device.usage().buffers.buffers, 1);
            assert_eq!(
                context.counter_reached(0, 10, time(5)).unwrap().completed,
                1
            );
            assert_eq!(machine.device.usage().buffers.buffers, 1);
            assert_eq!(
                context.counter_reached(0, 20, time(6)).unwrap().completed,
                1
            );
            // An interrupt frees nothing.
            assert_eq!(machine.device.usage().buffers.buffers, 1);
            context.reap_timestamps();
            assert_eq!(machine.device.usage().buffers.buffers, 0);
        });
    });
}

fn closing_gives_back_every_kind_of_object<A: Model>() {
    machine::<A>(|machine| {
        let before = machine.counters();
        let (budget, process) = (Budget::unlimited(), machine.spawn());
        let mut storage = machine.storage();
        for _ in 0..3 {
            let context = machine.open(&process, &budget, &mut storage).unwrap();
            context.create_command_buffer(4096, true).unwrap();
            context.create_command_buffer(10_000, false).unwrap();
            let timestamps = context.create_timestamps(600).unwrap();
            let (counter, target) = (3, 7);
            context
                .register_timestamp(timestamps, 599, (counter, target), 0, time(1))
                .unwrap();
            let privilege = &machine.privilege;
            let (block, _) = context.create_block(privilege, 4096).unwrap();
            context
                .map_block(privilege, block, Wanted::Anywhere)
                .unwrap();
            let view = context.mmap(timestamps, 8192).unwrap();
            let left = context.close().unwrap();
            assert_eq!(
                (left.handles, left.mappings, left.quarantined_buffers),
                (4, 0, 0)
            );
            // The process may look at its timestamps for as long as it likes.
            assert_eq!(view.view().view().load_u64(599 * 8), Ok(0));
            machine.device.end_view(view);
        }
        drop(process);
        assert_eq!(machine.counters(), before);
    });
}

fn faults_and_recovery_are_told_to_the_users_who_are_there<A: Model>() {
    machine::<A>(|machine| {
        with_file!(machine, context, {
            assert_eq!(context.next_event(), None);
            let engine = machine
                .asic
                .add_initiator("stray", user_mode(context.asid()));
            let nowhere = A::PROFILE.host.range.start().checked_add(0x5000).unwrap();
            machine.asic.read(engine, nowhere, &mut [0; 8]).unwrap_err();
            let mut logged = Vec::new();
            let reported = machine
                .device
                .report_faults(|fault| logged.push(fault))
                .unwrap();
            assert!(reported.wake && logged.len() == 1);
            assert_eq!(reported.taken, 1);
            let told = context.next_event().unwrap();
            let event = DeviceEvent::Fault(logged[0]);
            assert_eq!(told, Report::Event { sequence: 0, event });
            assert!(logged[0].at.unwrap().contains(nowhere));
            // It stays until it was handed over.
            assert_eq!(context.next_event(), Some(told));
            context.confirm_event(&told).unwrap();
            assert!(context.confirm_event(&told).is_err());
            assert_eq!(context.next_event(), None);
            // More than are kept are counted.
            for _ in 0..20 {
                machine.device.post(event);
            }
            let mut lost = 0;
            while let Some(told) = context.next_event() {
                context.confirm_event(&told).unwrap();
                if let Report::Lost { count, .. } = told {
                    lost += count.get();
                }
            }
            assert_eq!(lost, 20 - hl_mem::device::EVENTS as u64);
            machine.device.post(DeviceEvent::ContextAborted);
        });
        // The next user of the address space is not told what was for the one before.
        with_file!(machine, context, {
            assert_eq!(context.next_event(), None);
        });
    });
}

#[test]
fn registers_are_shown_by_a_handle_that_is_always_the_same() {
    machine::<Gaudi2<6>>(|machine| {
        let before = machine.counters();
        let (budget, process) = (Budget::unlimited(), machine.spawn());
        let mut storage = machine.storage();
        let context = machine.open(&process, &budget, &mut storage).unwrap();
        let ask =
            |address| uapi::dispatch(&context, &memory(OP_MAP_BLOCK, [address, 0, 0]).to_bytes());
        assert_eq!(ask(USER_REGISTERS + 4096), Err(Errno::EINVAL));
        let reply = ask(USER_REGISTERS).unwrap();
        assert_eq!(reply.block_size, 8192);
        assert_eq!(ask(USER_REGISTERS), Ok(reply));
        let handle = RawHandle::new(reply.value);
        assert_eq!(handle.kind(), Ok(HandleKind::RegisterBlock));
        let wrong = context.mmap(handle, 4096).unwrap_err();
        assert_eq!(wrong, ViewError::Length { expected: 8192 });
        let (one, two) = (
            context.mmap(handle, 8192).unwrap(),
            context.mmap(handle, 8192).unwrap(),
        );
        one.view().view().store_u32(4096, 0xD00_BE11).unwrap();
        assert_eq!(two.view().view().load_u32(4096), Ok(0xD00_BE11));
        one.view().view().store_u32(4096, 0).unwrap();
        assert_eq!(machine.device.usage().register_views, 2);
        context.close().unwrap();
        machine.device.end_view(one);
        machine.device.end_view(two);
        drop(process);
        assert_eq!(machine.counters(), before);
    });
}

#[test]
fn other_asics_have_no_registers_for_users() {
    fn refused<A: Model>() {
        machine::<A>(|machine| {
            with_file!(machine, context, {
                let ask = memory(OP_MAP_BLOCK, [USER_REGISTERS, 0, 0]).to_bytes();
                // Facts MB-1.
                assert_eq!(uapi::dispatch(&context, &ask), Err(Errno::EPERM));
            });
        });
    }
    refused::<Goya>();
    refused::<Gaudi>();
}

/// Keeps exports as files would.
#[derive(Default)]
struct Files {
    open: Vec<DramExport>,
    full: bool,
}

impl Exporter for Files {
    fn export(&mut self, export: DramExport, _flags: u32) -> Result<i32, ExportRefused> {
        if self.full {
            let errno = Errno::ENOMEM;
            return Err(ExportRefused { export, errno });
        }
        self.open.push(export);
        Ok(self.open.len() as i32 + 2)
    }
}

fn an_export_keeps_its_mapping_and_its_memory<A: Model>() {
    machine::<A>(|machine| {
        let page = A::PROFILE.dram.page_bytes;
        let before = machine.counters();
        let (budget, process) = (Budget::unlimited(), machine.spawn());
        let mut storage = machine.storage();
        let context = machine.open(&process, &budget, &mut storage).unwrap();
        let plain: &Dispatch<'_> =
            &|input| uapi::dispatch(&context, &input.to_bytes()).map(|reply| reply.value);
        let handle = plain(MemoryInput {
            flags: FLAG_SHARED,
            ..memory(OP_ALLOC, [3 * page, 0, 0])
        })
        .unwrap();
        let at = plain(memory(OP_MAP, [0, handle, 0])).unwrap();
        let mut files = Files::default();
        let export = |files: &mut Files, address, bytes, offset| {
            let request = memory(OP_EXPORT, [address, bytes, offset]).to_bytes();
            uapi::dispatch_with(&context, &request, files).map(|reply| reply.value)
        };
        let usage = machine.counters();
        for (address, bytes, offset) in [
            (at + page, page, 0),
            (at, 0, 0),
            (at, page + 1, 0),
            (at, page, 8),
            (at, 3 * page + 4096, 0),
            (at, page, 3 * page),
            (at, 4096, u64::MAX - 4095),
            (at, u64::MAX - 4095, 4096),
        ] {
            let refused = export(&mut files, address, bytes, offset);
            assert_eq!(
                refused,
                Err(Errno::EINVAL),
                "{address:#x} {bytes:#x} {offset:#x}"
            );
        }
        files.full = true;
        assert_eq!(export(&mut files, at, page, 0), Err(Errno::ENOMEM));
        assert_eq!(
            plain(memory(OP_EXPORT, [at, page, 0])),
            Err(Errno::EOPNOTSUPP)
        );
        assert_eq!(machine.counters(), usage);
        files.full = false;
        assert_eq!(export(&mut files, at, page + 4096, page - 4096), Ok(3));
        let exported = &files.open[0];
        let run = machine
            .device
            .dram_run(&machine.privilege, context.owner(), {
                hl_mem::dram::PackHandle::new(handle)
            });
        let runs = machine
            .device
            .with_export(exported, |runs| runs.collect::<Vec<_>>());
        let total: u64 = runs.iter().map(|run| run.len()).sum();
        assert_eq!(total, page + 4096);
        let start = run.unwrap().start().checked_add(page - 4096).unwrap();
        assert_eq!(runs[0].start(), start);
        // It blocks UNMAP and FREE (facts EX-5).
        assert_eq!(plain(memory(OP_UNMAP, [at, 0, 0])), Err(Errno::EINVAL));
        assert_eq!(plain(memory(OP_FREE, [handle, 0, 0])), Err(Errno::EINVAL));
        // A second one, whose context is gone before it.
        assert_eq!(export(&mut files, at, page, 0), Ok(4));
        context.end_export(files.open.remove(0)).unwrap();
        assert_eq!(plain(memory(OP_UNMAP, [at, 0, 0])), Err(Errno::EINVAL));
        let left = context.close().unwrap();
        assert_eq!((left.mappings, left.dram), (1, 1));
        assert_eq!(machine.counters().device.dram.orphans, 1);
        let mut storage = machine.storage();
        let other: Context<'_, '_, _, _> = machine.open(&process, &budget, &mut storage).unwrap();
        let foreign = other.end_export(files.open.remove(0)).unwrap_err();
        machine.device.end_export(foreign);
        other.close().unwrap();
        drop(process);
        let after = machine.counters();
        assert_eq!(after.device.dram.packs + after.device.dram.orphans, 0);
        assert_eq!(after.tables, before.tables);
    });
}

#[test]
fn an_export_keeps_its_mapping_and_its_memory_on_goya() {
    an_export_keeps_its_mapping_and_its_memory::<Goya>();
}

#[test]
fn an_export_keeps_its_mapping_and_its_memory_on_gaudi2() {
    an_export_keeps_its_mapping_and_its_memory::<Gaudi2<6>>();
}

#[test]
fn memory_that_peers_do_not_reach_is_not_exported() {
    machine::<Goya>(|machine| {
        let (budget, process) = (Budget::unlimited(), machine.spawn());
        let mut storage = machine.storage();
        let context = machine.open(&process, &budget, &mut storage).unwrap();
        let all = A_GOYA_USER_BYTES;
        let (contiguity, sharing) = (
            hl_mem::dram::Contiguity::Contiguous,
            hl_mem::dram::Sharing::Private,
        );
        let handle = context.allocate_dram(all, contiguity, sharing).unwrap();
        let at = context.map_dram(handle, Wanted::Anywhere).unwrap();
        let half = all / 2;
        let export = context.export_dram(at, half, 0).unwrap();
        context.end_export(export).unwrap();
        for (bytes, offset) in [(half + 4096, 0), (4096, half), (all, 0)] {
            let refused = context.export_dram(at, bytes, offset).unwrap_err();
            assert_eq!(refused, ExportDramError::OutOfReach);
        }
        context.unmap(at).unwrap();
        context.free_dram(handle).unwrap();
        context.close().unwrap();
    });
}

/// Facts 2.2: 4 GiB less what belongs to driver and firmware.
const A_GOYA_USER_BYTES: u64 = (4 << 30) - 0x2000_0000;

/// The engine of one user is at an address that is not mapped whenever the driver looks.
fn an_engine_that_faults_on_and_on_holds_nobody_up_and_hides_nothing<A: Model>() {
    machine::<A>(|machine| {
        let (budget, process) = (Budget::unlimited(), machine.spawn());
        let (mut one, mut two) = (machine.storage(), machine.storage());
        let user = machine.open(&process, &budget, &mut one).unwrap();
        let other = machine.open(&process, &budget, &mut two).unwrap();
        let engine = machine.asic.add_initiator("spin", user_mode(user.asid()));
        let nowhere = A::PROFILE.host.range.start().checked_add(0x5000).unwrap();
        let spin = || machine.asic.read(engine, nowhere, &mut [0; 8]).unwrap_err();
        spin();
        let mut looks = 0;
        for _ in 0..20 {
            let reported = machine.device.report_faults(|_| {
                looks += 1;
                assert!(looks < 100, "it does not end");
                spin();
            });
            assert_eq!(reported.unwrap().taken, 1);
        }
        machine.device.post(DeviceEvent::DeviceLost);
        let mut told = Vec::new();
        while let Some(report) = other.next_event() {
            other.confirm_event(&report).unwrap();
            if let Report::Event { event, .. } = report {
                told.push(event);
            }
        }
        assert_eq!(told.len(), hl_mem::device::EVENTS + 1);
        assert_eq!(told.last(), Some(&DeviceEvent::DeviceLost));
        user.close().unwrap();
        other.close().unwrap();
    });
}
