//! Device memory mapped for users: acceptance D-04 and what belongs to it, where the ASIC maps it.

use hl_harness::asic::{Completion, DramContent, InitiatorMode, MmuInstance, Operation};
use hl_harness::machine::{MachineConfig, Model};
use hl_mem::budget::Budget;
use hl_mem::context::UnmapUserError;
use hl_mem::dram::PackHandle;
use hl_mem::profile::Gaudi;
use hl_mem::uapi::{
    self, Errno, FLAG_CONTIGUOUS, FLAG_FORCE_HINT, FLAG_SHARED, MemoryInput, OP_ALLOC, OP_FREE,
    OP_MAP, OP_UNMAP,
};
use mmu_core::{BusAddr, DeviceAddr};

use crate::rig::{machine, machine_of, on_each_asic, on_each_asic_with_mapped_dram, user_mode};

on_each_asic!(the_first_owner_of_device_memory_reads_zeroes);
on_each_asic_with_mapped_dram!(
    device_memory_is_reached_at_each_of_its_addresses_until_it_is_unmapped,
    mapped_memory_is_not_freed,
    private_memory_is_its_owners_and_shared_memory_outlives_him,
    a_hint_is_honoured_and_a_forced_one_that_cannot_be_is_refused,
    a_failed_invalidation_keeps_device_memory_until_one_succeeds,
    running_out_of_addresses_or_slots_changes_nothing,
    closing_unmaps_and_frees_what_the_user_left,
    a_reset_that_forgets_device_memory_leaves_nothing_of_it_to_be_shared,
    a_reset_that_keeps_device_memory_leaves_what_was_shared,
);

fn input(arguments: [u64; 3], op: u32, flags: u32) -> [u8; 40] {
    MemoryInput {
        arguments,
        op,
        flags,
        ..MemoryInput::default()
    }
    .to_bytes()
}

fn page<A: Model>() -> u64 {
    A::PROFILE.dram.page_bytes
}

fn device_memory_is_reached_at_each_of_its_addresses_until_it_is_unmapped<A: Model>() {
    machine::<A>(|machine| {
        let before = machine.counters();
        let (budget, process) = (Budget::unlimited(), machine.spawn());
        let mut storage = machine.storage();
        let context = machine.open(&process, &budget, &mut storage).unwrap();
        let dispatch = |bytes: [u8; 40]| uapi::dispatch(&context, &bytes).map(|reply| reply.value);
        let handle = dispatch(input([3 * page::<A>(), 0, 0], OP_ALLOC, 0)).unwrap();
        let one = dispatch(input([0, handle, 0], OP_MAP, 0)).unwrap();
        let two = dispatch(input([0, handle, 0], OP_MAP, 0)).unwrap();
        assert_ne!(one, two);
        let engine = machine.asic.add_initiator("dma", user_mode(context.asid()));
        let offsets = [
            0,
            page::<A>() - 8,
            page::<A>(),
            2 * page::<A>() + 0x1238,
            3 * page::<A>() - 8,
        ];
        for (number, offset) in (1u64..).zip(offsets) {
            let at = DeviceAddr::new(one + offset);
            machine
                .asic
                .write(engine, at, &number.to_le_bytes())
                .unwrap();
        }
        for (number, offset) in (1u64..).zip(offsets) {
            let mut got = [0; 8];
            machine
                .asic
                .read(engine, DeviceAddr::new(two + offset), &mut got)
                .unwrap();
            assert_eq!(u64::from_le_bytes(got), number, "offset {offset:#x}");
        }
        // The privileged space has no such mapping, and the pages next to it are not mapped.
        let privileged = machine
            .asic
            .add_initiator("driver", InitiatorMode::Privileged);
        assert!(
            machine
                .asic
                .read(privileged, DeviceAddr::new(one), &mut [0; 8])
                .is_err()
        );
        let beyond = one.max(two) + 3 * page::<A>();
        assert!(
            machine
                .asic
                .read(engine, DeviceAddr::new(beyond), &mut [0; 8])
                .is_err()
        );
        dispatch(input([one, 0, 0], OP_UNMAP, 0)).unwrap();
        let gone = machine
            .asic
            .read(engine, DeviceAddr::new(one), &mut [0; 8])
            .unwrap_err();
        let fault = gone.fault().unwrap();
        assert_eq!(
            (fault.asid, fault.address.get()),
            (context.asid().get(), one)
        );
        assert_eq!(fault.mmu == MmuInstance::Single, A::PROFILE.one_table);
        machine
            .asic
            .read(engine, DeviceAddr::new(two), &mut [0; 8])
            .unwrap();
        assert_eq!(
            dispatch(input([one, 0, 0], OP_UNMAP, 0)),
            Err(Errno::EINVAL)
        );
        dispatch(input([two, 0, 0], OP_UNMAP, 0)).unwrap();
        dispatch(input([handle, 0, 0], OP_FREE, 0)).unwrap();
        context.close().unwrap();
        let after = machine.counters();
        assert_eq!((after.tables, after.host), (before.tables, before.host));
        // Freed, and to be scrubbed before another owner sees it.
        let (after, before) = (after.device.dram, before.device.dram);
        assert_eq!((after.dirty, after.allocated), (before.dirty, 0));
    });
}

/// Acceptance D-04.
fn mapped_memory_is_not_freed<A: Model>() {
    machine::<A>(|machine| {
        let (budget, process) = (Budget::unlimited(), machine.spawn());
        let mut storage = machine.storage();
        let context = machine.open(&process, &budget, &mut storage).unwrap();
        let dispatch = |bytes: [u8; 40]| uapi::dispatch(&context, &bytes).map(|reply| reply.value);
        let handle = dispatch(input([1, 0, 0], OP_ALLOC, FLAG_CONTIGUOUS)).unwrap();
        let map = input([0, handle, 0], OP_MAP, 0);
        let free = input([handle, 0, 0], OP_FREE, 0);
        let (one, two) = (dispatch(map).unwrap(), dispatch(map).unwrap());
        let before = (machine.counters(), context.usage());
        assert_eq!(dispatch(free), Err(Errno::EINVAL));
        assert_eq!((machine.counters(), context.usage()), before);
        dispatch(input([one, 0, 0], OP_UNMAP, 0)).unwrap();
        assert_eq!(dispatch(free), Err(Errno::EINVAL));
        dispatch(input([two, 0, 0], OP_UNMAP, 0)).unwrap();
        dispatch(free).unwrap();
        assert_eq!(dispatch(map), Err(Errno::EINVAL));
        assert_eq!(dispatch(free), Err(Errno::EINVAL));
        context.close().unwrap();
    });
}

fn private_memory_is_its_owners_and_shared_memory_outlives_him<A: Model>() {
    machine::<A>(|machine| {
        let before = machine.counters();
        let (budget, process, other) = (Budget::unlimited(), machine.spawn(), machine.spawn());
        let (mut storage, mut other_storage) = (machine.storage(), machine.storage());
        let owner = machine.open(&process, &budget, &mut storage).unwrap();
        let guest = machine.open(&other, &budget, &mut other_storage).unwrap();
        let value = |context: &_, bytes: [u8; 40]| uapi::dispatch(context, &bytes).map(|r| r.value);
        let private = value(&owner, input([1, 0, 0], OP_ALLOC, 0)).unwrap();
        let shared = value(&owner, input([1, 0, 0], OP_ALLOC, FLAG_SHARED)).unwrap();
        assert_eq!(
            value(&guest, input([0, private, 0], OP_MAP, 0)),
            Err(Errno::EPERM)
        );
        let ours = value(&owner, input([0, shared, 0], OP_MAP, 0)).unwrap();
        let theirs = value(&guest, input([0, shared, 0], OP_MAP, 0)).unwrap();
        let engine = machine.asic.add_initiator("owner", user_mode(owner.asid()));
        let guest_engine = machine.asic.add_initiator("guest", user_mode(guest.asid()));
        machine
            .asic
            .write(engine, DeviceAddr::new(ours), b"for both")
            .unwrap();
        owner.close().unwrap();
        assert!(
            machine
                .asic
                .read(engine, DeviceAddr::new(ours), &mut [0; 8])
                .is_err()
        );
        let mut got = [0; 8];
        machine
            .asic
            .read(guest_engine, DeviceAddr::new(theirs), &mut got)
            .unwrap();
        assert_eq!(&got, b"for both");
        assert_eq!(machine.counters().device.dram.orphans, 1);
        guest.unmap(DeviceAddr::new(theirs)).unwrap();
        assert_eq!(machine.counters().device.dram.orphans, 0);
        guest.close().unwrap();
        let (before, after) = (before.device.dram, machine.counters().device.dram);
        assert_eq!(after.clean + after.dirty, before.clean + before.dirty);
        assert_eq!((after.allocated, after.packs), (0, 0));
    });
}

fn a_hint_is_honoured_and_a_forced_one_that_cannot_be_is_refused<A: Model>() {
    machine::<A>(|machine| {
        let (budget, process) = (Budget::unlimited(), machine.spawn());
        let mut storage = machine.storage();
        let context = machine.open(&process, &budget, &mut storage).unwrap();
        let dispatch = |bytes: [u8; 40]| uapi::dispatch(&context, &bytes).map(|reply| reply.value);
        let handle = dispatch(input([1, 0, 0], OP_ALLOC, 0)).unwrap();
        let range = A::PROFILE.dram.mapped_at.unwrap().range;
        let hint = range.start().get() + 7 * page::<A>();
        let forced = |hint| input([hint, handle, 0], OP_MAP, FLAG_FORCE_HINT);
        assert_eq!(dispatch(forced(hint)), Ok(hint));
        let before = (machine.counters(), context.usage());
        let outside = range.end().unwrap().get();
        for taken in [hint, hint + 1, outside, A::PROFILE.host.range.start().get()] {
            assert_eq!(dispatch(forced(taken)), Err(Errno::ENOMEM), "{taken:#x}");
            assert_eq!((machine.counters(), context.usage()), before);
        }
        // The last page of the range, which ends before the fold (facts SC-6).
        assert_eq!(
            dispatch(forced(outside - page::<A>())),
            Ok(outside - page::<A>())
        );
        let elsewhere = dispatch(input([hint, handle, 0], OP_MAP, 0)).unwrap();
        assert_ne!(elsewhere, hint);
        let engine = machine.asic.add_initiator("dma", user_mode(context.asid()));
        let last = DeviceAddr::new(outside - 8);
        machine.asic.write(engine, last, b"the last").unwrap();
        let mut got = [0; 8];
        let same = DeviceAddr::new(elsewhere + page::<A>() - 8);
        machine.asic.read(engine, same, &mut got).unwrap();
        assert_eq!(&got, b"the last");
        context.close().unwrap();
    });
}

fn a_failed_invalidation_keeps_device_memory_until_one_succeeds<A: Model>() {
    machine::<A>(|machine| {
        let (budget, process) = (Budget::unlimited(), machine.spawn());
        let mut storage = machine.storage();
        let context = machine.open(&process, &budget, &mut storage).unwrap();
        let dispatch = |bytes: [u8; 40]| uapi::dispatch(&context, &bytes).map(|reply| reply.value);
        let handle = dispatch(input([1, 0, 0], OP_ALLOC, 0)).unwrap();
        let at = dispatch(input([0, handle, 0], OP_MAP, 0)).unwrap();
        machine
            .asic
            .inject(Operation::Invalidation, 1, 1000, Completion::Never);
        let failed = context.unmap(DeviceAddr::new(at));
        assert!(
            matches!(failed, Err(UnmapUserError::Unconfirmed(_))),
            "{failed:?}"
        );
        // Whoever still reaches it by a cached translation reaches memory that is nobody else's.
        assert_eq!(
            dispatch(input([handle, 0, 0], OP_FREE, 0)),
            Err(Errno::EINVAL)
        );
        assert_eq!(context.usage().quarantined, 1);
        let context = context.close().unwrap_err().into_context();
        machine.asic.clear_injections();
        context.close().unwrap();
        assert_eq!(machine.counters().device.dram.allocated, 0);
    });
}

fn running_out_of_addresses_or_slots_changes_nothing<A: Model>() {
    machine_of::<A>(
        MachineConfig {
            mappings: 3,
            ..MachineConfig::default()
        },
        |machine| {
            let (budget, process) = (Budget::unlimited(), machine.spawn());
            let mut storage = machine.storage();
            let context = machine.open(&process, &budget, &mut storage).unwrap();
            let dispatch =
                |bytes: [u8; 40]| uapi::dispatch(&context, &bytes).map(|reply| reply.value);
            let handle = dispatch(input([1, 0, 0], OP_ALLOC, 0)).unwrap();
            let map = input([0, handle, 0], OP_MAP, 0);
            for _ in 0..3 {
                dispatch(map).unwrap();
            }
            let before = (machine.counters(), context.usage());
            assert_eq!(dispatch(map), Err(Errno::ENOMEM));
            assert_eq!(
                dispatch(input([0, handle + 1, 0], OP_MAP, 0)),
                Err(Errno::ENOMEM)
            );
            assert_eq!((machine.counters(), context.usage()), before);
            context.close().unwrap();
        },
    );
}

fn closing_unmaps_and_frees_what_the_user_left<A: Model>() {
    machine::<A>(|machine| {
        let before = machine.counters();
        let (budget, process) = (Budget::unlimited(), machine.spawn());
        let mut storage = machine.storage();
        let context = machine.open(&process, &budget, &mut storage).unwrap();
        let dispatch = |bytes: [u8; 40]| uapi::dispatch(&context, &bytes).map(|reply| reply.value);
        for _ in 0..3 {
            let handle = dispatch(input([1, 0, 0], OP_ALLOC, 0)).unwrap();
            dispatch(input([0, handle, 0], OP_MAP, 0)).unwrap();
        }
        let left = context.close().unwrap();
        assert_eq!((left.mappings, left.dram), (3, 3));
        let after = machine.counters();
        assert_eq!(after.tables, before.tables);
        assert_eq!(
            (after.device.dram.allocated, after.device.dram.packs),
            (0, 0)
        );
    });
}

#[test]
fn on_gaudi_device_memory_is_not_mapped() {
    machine::<Gaudi>(|machine| {
        let (budget, process) = (Budget::unlimited(), machine.spawn());
        let mut storage = machine.storage();
        let context = machine.open(&process, &budget, &mut storage).unwrap();
        let alloc = uapi::dispatch(&context, &input([1, 0, 0], OP_ALLOC, 0)).unwrap();
        let map = uapi::dispatch(&context, &input([0, alloc.value, 0], OP_MAP, 0));
        assert_eq!(map, Err(Errno::EINVAL));
        context.close().unwrap();
    });
}

/// Shares a page of device memory, has the device reset and come back, and asks for the page in a new file,
/// which says what it gets of it.
fn what_a_new_file_gets_of_shared_memory_after<A: Model>(
    content: DramContent,
) -> Result<u64, Errno> {
    const SECRET: u64 = 0x5EC2_E700_5EC2_E700;
    let mut got = Ok(0);
    machine::<A>(|machine| {
        let (budget, process) = (Budget::unlimited(), machine.spawn());
        let (mut one, mut two) = (machine.storage(), machine.storage());
        let owner = machine.open(&process, &budget, &mut one).unwrap();
        let request = input([page::<A>(), 0, 0], OP_ALLOC, FLAG_SHARED);
        let handle = uapi::dispatch(&owner, &request).unwrap().value;
        let request = input([0, handle, 0], OP_MAP, 0);
        let at = uapi::dispatch(&owner, &request).unwrap().value;
        let engine = machine.asic.add_initiator("dma", user_mode(owner.asid()));
        let secret = SECRET.to_le_bytes();
        let written = machine.asic.write(engine, DeviceAddr::new(at), &secret);
        written.unwrap();

        machine.reset(content);
        // A first attempt fails, and the next one still knows.
        machine.asic.lose();
        machine.recover().unwrap_err();
        machine.reset(DramContent::Kept);
        machine.recover().unwrap();

        let stranger = machine.open(&process, &budget, &mut two).unwrap();
        let asid = user_mode(stranger.asid());
        let engine = machine.asic.add_initiator("dma of the new file", asid);
        let mapped = uapi::dispatch(&stranger, &request);
        got = mapped.map(|reply| {
            let mut word = [0; 8];
            let at = DeviceAddr::new(reply.value);
            machine.asic.read(engine, at, &mut word).unwrap();
            u64::from_le_bytes(word) ^ SECRET
        });
        stranger.close().unwrap();
        owner.close().unwrap();
    });
    got
}

fn a_reset_that_forgets_device_memory_leaves_nothing_of_it_to_be_shared<A: Model>() {
    let got = what_a_new_file_gets_of_shared_memory_after::<A>(DramContent::Undefined);
    assert_eq!(got, Err(Errno::ENODEV));
}

fn a_reset_that_keeps_device_memory_leaves_what_was_shared<A: Model>() {
    let got = what_a_new_file_gets_of_shared_memory_after::<A>(DramContent::Kept);
    assert_eq!(got, Ok(0), "what differs from what was written");
}

fn the_first_owner_of_device_memory_reads_zeroes<A: Model>() {
    machine::<A>(|machine| {
        // Of a machine that was just switched on, and of one whose memory a reset made undefined.
        for _ in 0..2 {
            let (budget, process) = (Budget::unlimited(), machine.spawn());
            let mut storage = machine.storage();
            let context = machine.open(&process, &budget, &mut storage).unwrap();
            let request = input([3 * page::<A>(), 0, 0], OP_ALLOC, FLAG_CONTIGUOUS);
            let handle = PackHandle::new(uapi::dispatch(&context, &request).unwrap().value);
            let (device, privilege) = (&machine.device, &machine.privilege);
            let run = device.dram_run(privilege, context.owner(), handle).unwrap();
            assert_eq!(run.len(), 3 * page::<A>());
            for offset in (0..run.len()).step_by(page::<A>() as usize / 4) {
                for at in [offset, offset + page::<A>() / 4 - 8] {
                    let mut word = [0xFF; 8];
                    let at = BusAddr::new(run.start().get() + at);
                    assert!(machine.asic.peek(at, &mut word));
                    assert_eq!(word, [0; 8], "{at}");
                    assert!(machine.asic.poke(at, b"a secret"));
                }
            }
            context.close().unwrap();
            machine.reset(DramContent::Undefined);
            machine.recover().unwrap();
        }
    });
}
