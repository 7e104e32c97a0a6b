use hl_harness::asic::{AccessKind, FaultReason, InitiatorMode};
use hl_harness::machine::{MachineConfig, Model};
use hl_mem::budget::Budget;
use hl_mem::context::{DestroyError, ViewError};
use hl_mem::handle::{HandleError, RawHandle};
use hl_mem::uapi::{self, Errno, MemoryInput, OP_UNMAP};
use mmu_core::DeviceAddr;

use crate::rig::{machine, machine_of, on_each_asic, user_mode};

on_each_asic!(
    a_block_is_written_by_the_device_and_read_through_the_view,
    blocks_of_all_sizes_reach_every_scattered_page,
    a_block_is_unreachable_under_the_users_asid,
    an_unmap_that_names_the_privileged_address_is_refused,
    handles_that_are_not_the_files_own_are_refused,
    a_view_of_another_length_is_refused,
    a_second_view_is_refused_until_the_first_has_ended,
    a_destroyed_block_lives_until_its_view_ends,
    closing_destroys_what_the_user_left,
);

/// A block of `pages`, created, checked page by page through device and view, and destroyed.
fn check_block<A: Model>(pages: u64) {
    let config = MachineConfig {
        frames: (pages as u32 + 4096).next_power_of_two(),
        ..MachineConfig::default()
    };
    machine_of::<A>(config, |machine| {
        let before = machine.counters();
        let budget = Budget::unlimited();
        let process = machine.spawn();
        let mut storage = machine.storage();
        let context = machine.open(&process, &budget, &mut storage).unwrap();
        let bytes = pages * 4096;
        machine.log.set_recording(false);
        let (handle, block) = context.create_block(&machine.privilege, bytes).unwrap();
        let range = machine
            .device
            .block_range(&machine.privilege, block)
            .unwrap();
        assert_eq!(range.len(), bytes);
        let view = context.mmap(handle, bytes).unwrap();
        let engine = machine
            .asic
            .add_initiator("producer", InitiatorMode::Privileged);
        for page in 0..pages {
            let at = range.start().checked_add(page * 4096 + 8).unwrap();
            machine.asic.write(engine, at, &page.to_le_bytes()).unwrap();
            let mut last = [0xFF; 8];
            let end = range.start().checked_add(page * 4096 + 4088).unwrap();
            machine.asic.read(engine, end, &mut last).unwrap();
            assert_eq!(last, [0; 8], "page {page} was not zeroed");
        }
        for page in 0..pages {
            let mut got = [0; 8];
            view.view()
                .view()
                .read((page * 4096 + 8) as usize, &mut got)
                .unwrap();
            assert_eq!(u64::from_le_bytes(got), page);
        }
        let beyond = machine
            .asic
            .read(engine, range.end().unwrap(), &mut [0; 8])
            .unwrap_err();
        assert!(matches!(
            beyond.fault().unwrap().reason,
            FaultReason::NotPresent { .. }
        ));
        machine.device.end_view(view).unwrap();
        context.destroy_block(handle).unwrap();
        let gone = machine
            .asic
            .read(engine, range.start(), &mut [0; 8])
            .unwrap_err();
        let fault = gone.fault().unwrap();
        assert_eq!(
            (fault.asid, fault.address, fault.access),
            (0, range.start(), AccessKind::Read)
        );
        context.close().unwrap();
        drop(process);
        assert_eq!(machine.counters(), before);
    });
}

fn a_block_is_written_by_the_device_and_read_through_the_view<A: Model>() {
    check_block::<A>(5);
}

fn blocks_of_all_sizes_reach_every_scattered_page<A: Model>() {
    // Facts 14, nr 12.
    for pages in [1, 511, 512, 513] {
        check_block::<A>(pages);
    }
}

fn a_block_is_unreachable_under_the_users_asid<A: Model>() {
    machine::<A>(|machine| {
        let (budget, process) = (Budget::unlimited(), machine.spawn());
        let mut storage = machine.storage();
        let context = machine.open(&process, &budget, &mut storage).unwrap();
        let (_, block) = context.create_block(&machine.privilege, 3 * 4096).unwrap();
        let range = machine
            .device
            .block_range(&machine.privilege, block)
            .unwrap();
        let engine = machine
            .asic
            .add_initiator("user dma", user_mode(context.asid()));
        let error = machine.asic.write(engine, range.start(), &[1]).unwrap_err();
        let fault = error.fault().unwrap();
        assert_eq!(fault.asid, context.asid().get());
        assert_eq!(
            (fault.address, fault.access),
            (range.start(), AccessKind::Write)
        );
        context.close().unwrap();
    });
}

fn an_unmap_that_names_the_privileged_address_is_refused<A: Model>() {
    machine::<A>(|machine| {
        let (budget, process) = (Budget::unlimited(), machine.spawn());
        let mut storage = machine.storage();
        let context = machine.open(&process, &budget, &mut storage).unwrap();
        let (_, block) = context.create_block(&machine.privilege, 4096).unwrap();
        let range = machine
            .device
            .block_range(&machine.privilege, block)
            .unwrap();
        let input = MemoryInput {
            arguments: [range.start().get(), 0, 0],
            op: OP_UNMAP,
            ..MemoryInput::default()
        };
        let before = (machine.counters(), machine.log.mark());
        assert_eq!(
            uapi::dispatch(&context, &input.to_bytes()),
            Err(Errno::EINVAL)
        );
        assert_eq!((machine.counters(), machine.log.mark()), before);
        let engine = machine
            .asic
            .add_initiator("producer", InitiatorMode::Privileged);
        machine.asic.write(engine, range.start(), &[1]).unwrap();
        context.close().unwrap();
    });
}

fn handles_that_are_not_the_files_own_are_refused<A: Model>() {
    machine::<A>(|machine| {
        let (budget, process, other) = (Budget::unlimited(), machine.spawn(), machine.spawn());
        let (mut storage, mut other_storage) = (machine.storage(), machine.storage());
        let context = machine.open(&process, &budget, &mut storage).unwrap();
        let foreign = machine.open(&other, &budget, &mut other_storage).unwrap();
        let (handle, _) = context.create_block(&machine.privilege, 4096).unwrap();
        let (foreign_handle, _) = foreign.create_block(&machine.privilege, 4096).unwrap();
        let before = machine.counters();
        // Unknown: the next slot, which no object has had.
        let unknown = RawHandle::new(handle.get() + 0x1000);
        assert!(matches!(
            context.mmap(unknown, 4096),
            Err(ViewError::Handle(_))
        ));
        // Forged bits, and other kinds.
        for bit in 0..64 {
            let forged = RawHandle::new(handle.get() ^ 1 << bit);
            assert!(
                matches!(context.mmap(forged, 4096), Err(ViewError::Handle(_))),
                "bit {bit}"
            );
            assert!(matches!(
                context.destroy_block(forged),
                Err(DestroyError::Handle(_))
            ));
        }
        // Of another open file.
        assert!(matches!(
            context.mmap(foreign_handle, 4096),
            Err(ViewError::Handle(_))
        ));
        assert!(matches!(
            context.destroy_block(foreign_handle),
            Err(DestroyError::Handle(_))
        ));
        assert_eq!(machine.counters(), before);
        // Stale, and destroyed twice.
        context.destroy_block(handle).unwrap();
        let after = machine.counters();
        let stale = Err(HandleError::Stale);
        assert_eq!(
            context.mmap(handle, 4096).map(drop),
            stale.map_err(ViewError::Handle)
        );
        assert_eq!(
            context.destroy_block(handle),
            stale.map_err(DestroyError::Handle)
        );
        assert_eq!(machine.counters(), after);
        foreign.close().unwrap();
        context.close().unwrap();
    });
}

fn a_view_of_another_length_is_refused<A: Model>() {
    machine::<A>(|machine| {
        let (budget, process) = (Budget::unlimited(), machine.spawn());
        let mut storage = machine.storage();
        let context = machine.open(&process, &budget, &mut storage).unwrap();
        let (handle, _) = context
            .create_block(&machine.privilege, 3 * 4096 - 5)
            .unwrap();
        let before = machine.counters();
        for len in [
            0,
            1,
            2 * 4096,
            3 * 4096 - 5,
            3 * 4096 - 1,
            4 * 4096,
            u64::MAX,
        ] {
            let expected = Err(ViewError::Length { expected: 3 * 4096 });
            assert_eq!(context.mmap(handle, len).map(drop), expected);
        }
        assert_eq!(machine.counters(), before);
        machine
            .device
            .end_view(context.mmap(handle, 3 * 4096).unwrap())
            .unwrap();
        context.close().unwrap();
    });
}

fn a_second_view_is_refused_until_the_first_has_ended<A: Model>() {
    machine::<A>(|machine| {
        let (budget, process) = (Budget::unlimited(), machine.spawn());
        let mut storage = machine.storage();
        let context = machine.open(&process, &budget, &mut storage).unwrap();
        let (handle, _) = context.create_block(&machine.privilege, 4096).unwrap();
        let view = context.mmap(handle, 4096).unwrap();
        let before = machine.counters();
        assert_eq!(context.mmap(handle, 4096).map(drop), Err(ViewError::Viewed));
        assert_eq!(machine.counters(), before);
        machine.device.end_view(view).unwrap();
        machine
            .device
            .end_view(context.mmap(handle, 4096).unwrap())
            .unwrap();
        context.close().unwrap();
    });
}

fn a_destroyed_block_lives_until_its_view_ends<A: Model>() {
    machine::<A>(|machine| {
        let (budget, process) = (Budget::unlimited(), machine.spawn());
        let mut storage = machine.storage();
        let context = machine.open(&process, &budget, &mut storage).unwrap();
        let before = machine.counters();
        let (handle, block) = context.create_block(&machine.privilege, 2 * 4096).unwrap();
        let range = machine
            .device
            .block_range(&machine.privilege, block)
            .unwrap();
        let engine = machine
            .asic
            .add_initiator("producer", InitiatorMode::Privileged);
        let data = range.start().checked_add(4096).unwrap();
        machine.asic.write(engine, data, b"still here").unwrap();
        let view = context.mmap(handle, 2 * 4096).unwrap();
        context.destroy_block(handle).unwrap();
        // The device is cut off at once, the user is not.
        assert!(machine.asic.write(engine, data, b"too late").is_err());
        assert_eq!(machine.device.usage().buffers.buffers, 1);
        let mut got = [0; 10];
        view.view().view().read(4096, &mut got).unwrap();
        assert_eq!(&got, b"still here");
        // The page of the consumer's index is writable, the others are not.
        view.view().view().store_u32(0, 7).unwrap();
        assert!(view.view().view().store_u32(4096, 7).is_err());
        machine.device.end_view(view).unwrap();
        assert_eq!(machine.counters(), before);
        context.close().unwrap();
    });
}

fn closing_destroys_what_the_user_left<A: Model>() {
    machine::<A>(|machine| {
        let before = machine.counters();
        let (budget, process) = (Budget::unlimited(), machine.spawn());
        let mut storage = machine.storage();
        let context = machine.open(&process, &budget, &mut storage).unwrap();
        for pages in 1..=3 {
            let _ = context
                .create_block(&machine.privilege, pages * 4096)
                .unwrap();
        }
        let address = process
            .map(8, hl_harness::host::Permission::ReadWrite)
            .unwrap();
        for _ in 0..2 {
            let input = MemoryInput {
                arguments: [address.get(), 0, 8 * 4096],
                op: uapi::OP_MAP,
                flags: uapi::FLAG_USERPTR,
                ..MemoryInput::default()
            };
            uapi::dispatch(&context, &input.to_bytes()).unwrap();
        }
        let invalidations = machine.asic.counters().invalidations;
        let left = context.close().unwrap();
        assert_eq!((left.handles, left.mappings, left.dram), (3, 2, 0));
        // One for the blocks and one for the mappings; a range invalidation of Gaudi2 works on two
        // units, which the model counts apart.
        let units = machine.asic.counters().invalidations - invalidations;
        assert!(units <= 2 * 2, "{units} invalidations");
        process.exit();
        assert_eq!(machine.counters(), before);
        assert_eq!(budget.charged(), 0);
    });
}

/// The largest of facts 14, nr 12; apart, since it takes longest.
mod a_block_of_100_000_pages_reaches_every_scattered_page {
    #[test]
    fn on_goya() {
        super::check_block::<hl_mem::profile::Goya>(100_000);
    }
    #[test]
    fn on_gaudi() {
        super::check_block::<hl_mem::profile::Gaudi>(100_000);
    }
    #[test]
    fn on_gaudi2() {
        super::check_block::<hl_mem::profile::Gaudi2<6>>(100_000);
    }
}

#[test]
fn an_unknown_address_is_no_mapping_of_any_user() {
    machine::<hl_mem::profile::Gaudi2<6>>(|machine| {
        let (budget, process) = (Budget::unlimited(), machine.spawn());
        let mut storage = machine.storage();
        let context = machine.open(&process, &budget, &mut storage).unwrap();
        for at in [0, 1, u64::MAX, 0xFFF0_0000_0000_0000] {
            assert!(context.unmap(DeviceAddr::new(at)).is_err());
        }
        context.close().unwrap();
    });
}
