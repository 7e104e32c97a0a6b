//! Handles and files: what mmap refuses, what is never seen half made, who has the device.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use core::num::NonZeroU64;

use hl_harness::asic::{AsicKind, Stopped};
use hl_harness::host::{HostFailure, Permission};
use hl_harness::machine::{MachineConfig, Model, USER_REGISTERS};
use hl_harness::stress::Snapshot;
use hl_mem::budget::Budget;
use hl_mem::context::{OpenError, ViewError};
use hl_mem::device::BufferError;
use hl_mem::handle::{HandleKind, RawHandle};
use hl_mem::uapi::{
    self, CommandBufferInput, Errno, FLAG_MAP, MemoryInput, OP_CREATE, OP_TS_ALLOC,
};
use mmu_core::DeviceAddr;

use crate::rig::{
    PAGE, allocate, call, engine, machine_of, map, map_dram, on_each_asic, with_file,
};

on_each_asic!(
    h03_a_view_is_of_the_whole_object_by_its_whole_handle_or_refused,
    h06_what_is_half_made_is_never_seen,
    a06_the_device_is_one_users_at_a_time_and_the_next_one_finds_nothing,
);

fn h03_a_view_is_of_the_whole_object_by_its_whole_handle_or_refused<A: Model>() {
    let config = MachineConfig {
        frames: 2048,
        ..MachineConfig::default()
    };
    machine_of::<A>(config, |machine| {
        let before = Snapshot::of(machine, &[], &[]);
        let (budget, process) = (Budget::unlimited(), machine.spawn());
        let mut storage = machine.storage();
        let context = machine.open(&process, &budget, &mut storage).unwrap();
        {
            let create = CommandBufferInput {
                op: OP_CREATE,
                size: 5000,
                flags: FLAG_MAP,
                ..CommandBufferInput::default()
            };
            let command_buffer =
                uapi::dispatch_command_buffer(&context, &create.to_bytes()).unwrap();
            let timestamps = MemoryInput {
                op: OP_TS_ALLOC,
                element_count: 600,
                ..MemoryInput::default()
            };
            let (block, _) = context
                .create_block(&machine.privilege, 3 * PAGE - 1)
                .unwrap();
            let mut objects = vec![
                (block, 3 * PAGE),
                (RawHandle::new(command_buffer.value), 2 * PAGE),
                (
                    RawHandle::new(call(&context, timestamps).unwrap()),
                    2 * PAGE,
                ),
            ];
            if let Ok((registers, bytes)) = context.register_block(USER_REGISTERS) {
                objects.push((registers, bytes));
            }
            let snapshot = || Snapshot::of(machine, &[&context], &[]);
            let fresh = snapshot();
            let refuse = |handle: RawHandle, len: u64, before: &Snapshot| {
                let error = context.mmap(handle, len).unwrap_err();
                assert_eq!(Errno::from(error), Errno::EINVAL, "{handle} +{len:#x}");
                snapshot().assert_is(before, "after a refused view");
                error
            };
            for &(handle, bytes) in &objects {
                let lengths = [
                    bytes - PAGE,
                    bytes + PAGE,
                    0,
                    bytes - 1,
                    bytes + 1,
                    1,
                    bytes.wrapping_neg(),
                    bytes | 1 << 63,
                    u64::MAX,
                ];
                for len in lengths {
                    let expected = ViewError::Length { expected: bytes };
                    assert_eq!(refuse(handle, len, &fresh), expected);
                }
                // An offset one page on, and each single bit of the handle, is another handle.
                let others = (0..64).map(|bit| handle.get() ^ 1 << bit);
                for other in others.chain([handle.get() + PAGE, handle.get() - PAGE, 0]) {
                    if objects.iter().any(|(known, _)| known.get() == other) {
                        continue;
                    }
                    let error = refuse(RawHandle::new(other), bytes, &fresh);
                    assert!(
                        matches!(error, ViewError::Handle(_)),
                        "{other:#x}: {error:?}"
                    );
                }
                let first = context.mmap(handle, bytes).unwrap();
                let viewed = snapshot();
                if handle.kind() == Ok(HandleKind::RegisterBlock) {
                    // Registers are not counted for their lifetime: any number may look.
                    let second = context.mmap(handle, bytes).unwrap();
                    machine.device.end_view(second).unwrap();
                } else {
                    assert_eq!(refuse(handle, bytes, &viewed), ViewError::Viewed);
                    assert_eq!(first.view().pages() as u64 * PAGE, bytes);
                }
                machine.device.end_view(first).unwrap();
                snapshot().assert_is(&fresh, "after the view has ended");
                // And again from the start.
                let again = context.mmap(handle, bytes).unwrap();
                machine.device.end_view(again).unwrap();
            }
            for (handle, _) in objects {
                match handle.kind().unwrap() {
                    HandleKind::Block => context.destroy_block(handle).unwrap(),
                    HandleKind::CommandBuffer => context.destroy_command_buffer(handle).unwrap(),
                    HandleKind::TimestampPool => context.destroy_timestamps(handle).unwrap(),
                    // It goes with the file.
                    _ => {}
                }
            }
        }
        // Registers are named until then.
        let registers = u32::from(A::KIND == AsicKind::Gaudi2);
        assert_eq!(context.usage().handles, registers);
        assert_eq!(context.close().unwrap().handles, registers);
        drop(process);
        Snapshot::of(machine, &[], &[]).assert_is(&before, "after closing");
    });
}

/// How objects of a kind come to be.
type Create<'a> = dyn Fn() -> Result<RawHandle, BufferError> + Sync + 'a;

fn h06_what_is_half_made_is_never_seen<A: Model>() {
    const PAGES: u64 = 5;
    let config = MachineConfig {
        handles: 1,
        timestamps: PAGES as usize * 512,
        ..MachineConfig::default()
    };
    machine_of::<A>(config, |machine| {
        with_file!(machine, |context, _process| {
            let block = || {
                let created = context.create_block(&machine.privilege, PAGES * PAGE);
                created.map(|(handle, _)| handle)
            };
            let command_buffer = || context.create_command_buffer(PAGES * PAGE, true);
            let timestamps = || context.create_timestamps(PAGES * 512);
            let destroy = |handle: RawHandle| match handle.kind().unwrap() {
                HandleKind::Block => context.destroy_block(handle).unwrap(),
                HandleKind::CommandBuffer => context.destroy_command_buffer(handle).unwrap(),
                _ => context.destroy_timestamps(handle).unwrap(),
            };
            let creations: [(&Create<'_>, u64); 3] =
                [(&block, PAGES), (&command_buffer, 1), (&timestamps, PAGES)];
            for (create, allocations) in creations {
                // The one slot of the file is used again and again, so its next handles are known.
                let (one, two) = {
                    let one = create().unwrap();
                    destroy(one);
                    let two = create().unwrap();
                    destroy(two);
                    (one.get(), two.get())
                };
                let step = two.wrapping_sub(one);
                let next = AtomicU64::new(two.wrapping_add(step));
                let (over, published) = (AtomicBool::new(false), AtomicBool::new(false));
                let tries = AtomicU64::new(0);
                let usage = (context.usage(), machine.counters());
                thread::scope(|scope| {
                    let watcher = scope.spawn(|| {
                        let mut seen = 0;
                        while !over.load(Ordering::Acquire) {
                            let handle = next.load(Ordering::Acquire);
                            for ahead in 0..3 {
                                let guess = handle.wrapping_add(step.wrapping_mul(ahead));
                                let guess = RawHandle::new(guess);
                                let Ok(view) = context.mmap(guess, PAGES * PAGE) else {
                                    continue;
                                };
                                // Those that fail are over two rounds before the one that does not
                                // begins, so what is seen before that is half made.
                                let begun = published.load(Ordering::Acquire);
                                assert!(begun, "seen before it was made");
                                assert_eq!(ahead, 0);
                                let mut bytes = vec![1; (PAGES * PAGE) as usize];
                                view.view().view().read(0, &mut bytes).unwrap();
                                assert!(bytes.iter().all(|byte| *byte == 0));
                                machine.device.end_view(view).unwrap();
                                seen += 1;
                            }
                            tries.fetch_add(1, Ordering::Release);
                        }
                        seen
                    });
                    // The watcher has to have looked at least once during each state.
                    let looked = || {
                        let start = tries.load(Ordering::Acquire);
                        while tries.load(Ordering::Acquire) < start + 2 && !watcher.is_finished() {
                            thread::yield_now();
                        }
                    };
                    for round in 0..20 {
                        let nth = 1 + round % allocations;
                        machine.host.fail(HostFailure::FrameAllocation, Some(nth));
                        let failed = create();
                        assert!(matches!(failed, Err(BufferError::Host(_))), "{failed:?}");
                        assert_eq!((context.usage(), machine.counters()), usage);
                        looked();
                    }
                    machine.host.fail(HostFailure::FrameAllocation, None);
                    // The slot was not used up by what failed.
                    published.store(true, Ordering::Release);
                    let made = create().unwrap();
                    assert_eq!(made.get(), next.load(Ordering::Acquire));
                    looked();
                    over.store(true, Ordering::Release);
                    assert!(watcher.join().unwrap() > 0, "it was never seen at all");
                    destroy(made);
                });
                assert_eq!((context.usage(), machine.counters()), usage);
            }
        });
    });
}

fn a06_the_device_is_one_users_at_a_time_and_the_next_one_finds_nothing<A: Model>() {
    let config = MachineConfig {
        users: 1,
        ..MachineConfig::default()
    };
    machine_of::<A>(config, |machine| {
        let before = Snapshot::of(machine, &[], &[]).without_dirt();
        let (budget, process, other) = (Budget::unlimited(), machine.spawn(), machine.spawn());
        let (mut storage, mut late) = (machine.storage(), machine.storage());
        let first = Arc::new(machine.open(&process, &budget, &mut storage).unwrap());
        let busy = machine.open(&other, &budget, &mut late).unwrap_err();
        assert_eq!(busy, OpenError::NoAddressSpace);
        assert_eq!(Errno::from(busy), Errno::EBUSY);
        // A second descriptor of the same open file: whoever closes his, the file stays.
        let duplicate = Arc::clone(&first);
        let buffer = process.map(2, Permission::ReadWrite).unwrap();
        let at = map(&duplicate, buffer, 2 * PAGE).unwrap();
        drop(duplicate);
        let asid = first.asid();
        let dma = engine(machine, &first);
        let reach = || {
            machine
                .asic
                .read(dma.initiator(), DeviceAddr::new(at), &mut [0; 8])
        };
        reach().unwrap();
        let mut late = machine.storage();
        assert!(machine.open(&other, &budget, &mut late).is_err());
        // State of every kind, left behind.
        let now = NonZeroU64::MIN;
        let timestamps = first.create_timestamps(8).unwrap();
        first
            .register_timestamp(timestamps, 0, (2, 50), 0, now)
            .unwrap();
        let command_buffer = first.create_command_buffer(PAGE, true).unwrap();
        let mapped = first.command_buffer(command_buffer).unwrap().mapped_at;
        let (block, _) = first.create_block(&machine.privilege, PAGE).unwrap();
        let memory = allocate(&first, 1, 0).unwrap();
        let dram = A::PROFILE.dram.mapped_at.map(|_| {
            let at = map_dram(&first, memory, 0, 0).unwrap();
            let word = at + 64;
            machine
                .asic
                .write(dma.initiator(), DeviceAddr::new(word), b"secret")
                .unwrap();
            at
        });
        machine
            .device
            .post(hl_mem::events::DeviceEvent::ContextAborted);
        let left = Arc::into_inner(first).unwrap().close().unwrap();
        assert_eq!((left.handles, left.dram), (3, 1));
        assert_eq!(left.mappings, 1 + u32::from(dram.is_some()));

        let mut storage = machine.storage();
        let second = machine.open(&other, &budget, &mut storage).unwrap();
        assert_eq!(second.asid(), asid);
        let used = second.usage();
        assert_eq!((used.mappings, used.bytes), (0, 0));
        assert_eq!((used.handles, used.timestamps), (0, 0));
        assert_eq!(second.next_event(), None);
        assert_eq!(second.counter_reached(2, 1000, now).unwrap().completed, 0);
        for handle in [timestamps, command_buffer, block] {
            assert!(second.mmap(handle, PAGE).is_err(), "{handle}");
        }
        for at in [Some(at), mapped.map(DeviceAddr::get), dram]
            .into_iter()
            .flatten()
        {
            let read = || {
                let at = DeviceAddr::new(at);
                machine.asic.read(dma.initiator(), at, &mut [0; 8])
            };
            // The engine was halted; and given to the second user it finds nothing of the first's.
            let mode = machine.asic.initiator_mode(dma.initiator());
            assert_eq!(read().unwrap_err().stopped, Stopped::Halted);
            machine.asic.set_initiator_mode(dma.initiator(), mode);
            let fault = read().unwrap_err().fault().unwrap();
            machine.asic.halt_user(asid.get());
            assert_eq!((fault.asid, fault.address.get()), (asid.get(), at));
            assert_eq!(
                second.unmap(DeviceAddr::new(at)),
                Err(hl_mem::context::UnmapUserError::NotMapped {
                    at: DeviceAddr::new(at)
                })
            );
        }
        // The memory of the first user is no memory of the second one's.
        if dram.is_some() {
            let refused = map_dram(&second, memory, 0, 0);
            assert_eq!(refused, Err(Errno::EINVAL));
        }
        second.close().unwrap();
        drop((process, other));
        Snapshot::of(machine, &[], &[])
            .without_dirt()
            .assert_is(&before, "after both");
    });
}
