//! Registers that users are shown.

use hl_harness::machine::{Model, USER_REGISTERS};
use hl_mem::budget::Budget;
use hl_mem::context::ViewError;
use hl_mem::handle::{HandleKind, RawHandle};
use hl_mem::profile::{Gaudi, Gaudi2, Goya};
use hl_mem::uapi::{self, Errno, OP_MAP_BLOCK};

use crate::rig::{machine, memory_input, with_file};

#[test]
fn registers_are_shown_by_a_handle_that_is_always_the_same() {
    machine::<Gaudi2<6>>(|machine| {
        let before = machine.counters();
        let (budget, process) = (Budget::unlimited(), machine.spawn());
        let mut storage = machine.storage();
        let context = machine.open(&process, &budget, &mut storage).unwrap();
        let ask = |address| {
            uapi::dispatch(
                &context,
                &memory_input(OP_MAP_BLOCK, [address, 0, 0]).to_bytes(),
            )
        };
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
        machine.device.end_view(one).unwrap();
        machine.device.end_view(two).unwrap();
        drop(process);
        assert_eq!(machine.counters(), before);
    });
}

#[test]
fn other_asics_have_no_registers_for_users() {
    fn refused<A: Model>() {
        machine::<A>(|machine| {
            with_file!(machine, context, {
                let ask = memory_input(OP_MAP_BLOCK, [USER_REGISTERS, 0, 0]).to_bytes();
                // Facts MB-1.
                assert_eq!(uapi::dispatch(&context, &ask), Err(Errno::EPERM));
            });
        });
    }
    refused::<Goya>();
    refused::<Gaudi>();
}
