//! Timestamps: counters that reach targets, and pools that are destroyed meanwhile.

use core::num::NonZeroU64;

use hl_harness::machine::Model;
use hl_mem::context::RegisterTimestampError;
use hl_mem::handle::{HandleError, RawHandle};
use hl_mem::timestamps::{RegisterError, Registered};
use hl_mem::uapi::{self, Errno, MemoryInput, OP_TS_ALLOC};

use crate::rig::{machine, memory_input, on_each_asic, with_file};

on_each_asic!(
    q04_timestamps_are_zero_until_reached_and_refuse_what_is_not_there,
    a_destroyed_pool_of_timestamps_goes_when_nothing_waits_for_it,
);

fn time(value: u64) -> NonZeroU64 {
    NonZeroU64::new(value).unwrap()
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
                    ..memory_input(OP_TS_ALLOC, [0; 3])
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
            machine.device.end_view(view).unwrap();
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
