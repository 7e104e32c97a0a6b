//! Command buffers: made, mapped, refused, given back.

use hl_harness::asic::{Completion, Operation};
use hl_harness::host::HostFailure;
use hl_harness::machine::{MachineConfig, Model};
use hl_mem::Wanted;
use hl_mem::context::{MAX_COMMAND_BUFFER_BYTES, UnmapUserError, ViewError};
use hl_mem::device::MapBufferError;
use hl_mem::handle::{HandleError, HandleKind, RawHandle};
use hl_mem::uapi::{
    self, CommandBufferInput, Errno, FLAG_DEVICE_ADDRESS, FLAG_MAP, OP_CREATE, OP_DESTROY, OP_INFO,
    OP_UNMAP,
};
use mmu_core::DeviceAddr;

use crate::rig::{machine, machine_of, memory_input, on_each_asic, user_mode, with_file};

on_each_asic!(
    h01_command_buffers_of_every_size_are_zeroed_rounded_and_given_back,
    h07_a_mapped_command_buffer_is_fetched_by_the_users_engines_until_it_is_destroyed,
    a_command_buffer_is_refused_by_size_flags_and_kind,
    a_command_buffer_that_fails_at_any_step_leaves_everything_as_it_was,
    a_users_unmap_does_not_find_what_the_driver_mapped,
    a_failed_invalidation_keeps_a_command_buffer_until_one_succeeds,
);

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
                machine.device.end_view(view).unwrap();
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
            machine.device.end_view(view).unwrap();
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
            for size in [0, over, u32::MAX] {
                let create = command_buffer(OP_CREATE, 0, size, 0);
                assert_eq!(ioctl(create), Err(Errno::EINVAL));
            }
            // Facts CB-1: less than a page is a page.
            let least = ioctl(command_buffer(OP_CREATE, 0, 1, 0)).unwrap();
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
            machine.device.end_view(view).unwrap();
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
                let request = memory_input(OP_UNMAP, [address.get(), 0, 0]).to_bytes();
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
