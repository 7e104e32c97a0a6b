use hl_harness::asic::{AccessKind, DmaEngine, Endpoint};
use hl_harness::host::Permission;
use hl_harness::machine::Model;
use hl_mem::budget::Budget;
use hl_mem::uapi::{
    self, Errno, FLAG_CONTIGUOUS, FLAG_FORCE_HINT, FLAG_SHARED, FLAG_USERPTR, MemoryInput,
    OP_ALLOC, OP_FREE, OP_MAP, OP_UNMAP,
};
use mmu_core::DeviceAddr;

use crate::rig::{machine, map_input, on_each_asic, unmap_input, user_mode};

on_each_asic!(
    user_memory_is_pinned_charged_mapped_copied_and_unmapped,
    a_contiguous_piece_of_user_memory_is_mapped_by_large_leaves,
    a_refused_request_changes_nothing,
    device_memory_is_freed_by_its_owner_only,
    pages_are_pinned_used_and_unpinned_while_others_move_all_the_time,
);

fn user_memory_is_pinned_charged_mapped_copied_and_unmapped<A: Model>() {
    machine::<A>(|machine| {
        let before = machine.counters();
        let (budget, process) = (Budget::new(100), machine.spawn());
        let mut storage = machine.storage();
        let context = machine.open(&process, &budget, &mut storage).unwrap();
        let buffer = process.map(12, Permission::ReadWrite).unwrap();
        // Both ends inside a page: ten whole pages and a part of two.
        let (start, len) = (buffer.offset(100), 10 * 4096 + 200);
        let data: Vec<u8> = (0..len).map(|i| (i * 31 % 251) as u8).collect();
        process.write(start, &data).unwrap();
        let reply = uapi::dispatch(&context, &map_input(start, len).to_bytes()).unwrap();
        assert_eq!(reply.value % 4096, 100);
        assert_eq!((budget.charged(), machine.host.counters().pins), (11, 11));
        // Whatever is not pinned moves away at once; the device must not notice.
        machine.host.reclaim();
        let engine = DmaEngine::new(&machine.asic, "dma", user_mode(context.asid()));
        let at = Endpoint::Virtual(DeviceAddr::new(reply.value));
        let mut got = vec![0; len as usize];
        machine
            .asic
            .read(engine.initiator(), DeviceAddr::new(reply.value), &mut got)
            .unwrap();
        assert_eq!(got, data);
        engine.fill(at, 0x5A, len).unwrap();
        process.read(start, &mut got).unwrap();
        assert!(got.iter().all(|&byte| byte == 0x5A));
        uapi::dispatch(&context, &unmap_input(reply.value).to_bytes()).unwrap();
        assert_eq!((budget.charged(), machine.host.counters().pins), (0, 0));
        let error = engine.fill(at, 0, len).unwrap_err();
        let fault = error.fault().unwrap();
        assert_eq!(
            (fault.asid, fault.address),
            (context.asid().get(), DeviceAddr::new(reply.value))
        );
        assert_eq!(fault.access, AccessKind::Write);
        let again = uapi::dispatch(&context, &unmap_input(reply.value).to_bytes());
        assert_eq!(again, Err(Errno::EINVAL));
        context.close().unwrap();
        process.exit();
        assert_eq!(machine.counters(), before);
        assert_eq!(machine.host.statistics().free_accesses, 0);
        assert_eq!(machine.host.statistics().unpinned_accesses, 0);
    });
}

fn pages_are_pinned_used_and_unpinned_while_others_move_all_the_time<A: Model>() {
    machine::<A>(|machine| {
        let before = machine.counters();
        let (budget, process) = (Budget::unlimited(), machine.spawn());
        let mut storage = machine.storage();
        let context = machine.open(&process, &budget, &mut storage).unwrap();
        let (pages, len) = (40, 40 * 4096);
        let buffer = process.map(pages, Permission::ReadWrite).unwrap();
        let engine = DmaEngine::new(&machine.asic, "dma", user_mode(context.asid()));
        let reclaimer = machine.host.start_reclaimer();
        for round in 0..20 {
            let start = buffer.offset(round * 100);
            let input = map_input(start, len - 4096);
            let reply = uapi::dispatch(&context, &input.to_bytes()).unwrap();
            let (at, byte) = (DeviceAddr::new(reply.value), round as u8 + 1);
            engine
                .fill(Endpoint::Virtual(at), byte, len - 4096)
                .unwrap();
            uapi::dispatch(&context, &unmap_input(reply.value).to_bytes()).unwrap();
            // Moved or not, a page has what the device wrote.
            let mut got = vec![0; (len - 4096) as usize];
            process.read(start, &mut got).unwrap();
            assert!(got.iter().all(|&found| found == byte), "round {round}");
        }
        assert!(reclaimer.stop() > 0, "nothing moved");
        context.close().unwrap();
        process.exit();
        assert_eq!(machine.counters(), before);
        let statistics = machine.host.statistics();
        assert_eq!(
            (statistics.free_accesses, statistics.unpinned_accesses),
            (0, 0)
        );
        assert_eq!(machine.host.damaged_free_frames(), []);
    });
}

fn a_contiguous_piece_of_user_memory_is_mapped_by_large_leaves<A: Model>() {
    machine::<A>(|machine| {
        let (budget, process) = (Budget::unlimited(), machine.spawn());
        let mut storage = machine.storage();
        let context = machine.open(&process, &budget, &mut storage).unwrap();
        let pages = 3 * 512 + 7;
        let buffer = process
            .map_contiguous(pages, 512, Permission::ReadWrite)
            .unwrap();
        // From the last page before a large one: small leaves, two large ones, small leaves.
        let (start, len) = (buffer.offset(511 * 4096), (1 + 1024 + 7) * 4096);
        let reply = uapi::dispatch(&context, &map_input(start, len).to_bytes()).unwrap();
        let leaf_at = |offset: u64| {
            let at = DeviceAddr::new(reply.value + offset);
            context.with_table(|table| table.query(at).unwrap().leaf.len())
        };
        assert_eq!(leaf_at(0), 4096);
        assert_eq!(leaf_at(4096), 2 << 20);
        assert_eq!(leaf_at(4096 + (2 << 20)), 2 << 20);
        assert_eq!(leaf_at(4096 + (4 << 20)), 4096);
        let engine = DmaEngine::new(&machine.asic, "dma", user_mode(context.asid()));
        process.write(start.offset(len - 3), b"end").unwrap();
        let mut got = [0; 3];
        let end = DeviceAddr::new(reply.value + len - 3);
        machine
            .asic
            .read(engine.initiator(), end, &mut got)
            .unwrap();
        assert_eq!(&got, b"end");
        uapi::dispatch(&context, &unmap_input(reply.value).to_bytes()).unwrap();
        context.close().unwrap();
    });
}

fn a_refused_request_changes_nothing<A: Model>() {
    machine::<A>(|machine| {
        let (budget, process) = (Budget::new(8), machine.spawn());
        let mut storage = machine.storage();
        let context = machine.open(&process, &budget, &mut storage).unwrap();
        let buffer = process.map(8, Permission::ReadWrite).unwrap();
        let read_only = process.map(1, Permission::ReadOnly).unwrap();
        let input = |arguments, op, flags| MemoryInput {
            arguments,
            op,
            flags,
            ..MemoryInput::default()
        };
        let at = buffer.get();
        let no_such_memory = Errno::EINVAL;
        let cases = [
            (
                "zero bytes",
                input([at, 0, 0], OP_MAP, FLAG_USERPTR),
                Errno::EINVAL,
            ),
            (
                "wraps",
                input([at, 0, u64::MAX], OP_MAP, FLAG_USERPTR),
                Errno::EINVAL,
            ),
            (
                "a hole",
                input([at, 0, 9 * 4096], OP_MAP, FLAG_USERPTR),
                Errno::ENOMEM,
            ),
            (
                "runs into a hole",
                input([at + 4096, 0, 8 * 4096], OP_MAP, FLAG_USERPTR),
                Errno::EFAULT,
            ),
            (
                "read-only",
                input([read_only.get(), 0, 1], OP_MAP, FLAG_USERPTR),
                Errno::EFAULT,
            ),
            (
                "a kernel address",
                input([1 << 63, 0, 4096], OP_MAP, FLAG_USERPTR),
                Errno::EFAULT,
            ),
            (
                "forced hint nowhere",
                input([at, 0x1000, 4096], OP_MAP, FLAG_USERPTR | FLAG_FORCE_HINT),
                Errno::ENOMEM,
            ),
            (
                "unknown flag",
                input([at, 0, 4096], OP_MAP, FLAG_USERPTR | 0x80),
                Errno::EINVAL,
            ),
            (
                "flag of another operation",
                input([at, 0, 4096], OP_MAP, FLAG_USERPTR | FLAG_SHARED),
                Errno::EINVAL,
            ),
            ("device memory", input([1, 0, 0], OP_MAP, 0), no_such_memory),
            ("unknown operation", input([0; 3], 7, 0), Errno::EINVAL),
            (
                "allocate nothing",
                input([0; 3], OP_ALLOC, 0),
                Errno::EINVAL,
            ),
            (
                "allocate too much",
                input([u64::MAX, 0, 0], OP_ALLOC, FLAG_CONTIGUOUS),
                Errno::EINVAL,
            ),
            ("free nothing", input([0; 3], OP_FREE, 0), Errno::EINVAL),
            (
                "unmap nothing",
                input([0x1234_5000, 0, 0], OP_UNMAP, 0),
                Errno::EINVAL,
            ),
        ];
        let before = (machine.counters(), context.usage(), budget.charged());
        for (what, input, errno) in cases {
            assert_eq!(
                uapi::dispatch(&context, &input.to_bytes()),
                Err(errno),
                "{what}"
            );
            assert_eq!(
                (machine.counters(), context.usage(), budget.charged()),
                before,
                "{what}"
            );
        }
        assert_eq!(uapi::dispatch(&context, &[0; 39]), Err(Errno::EINVAL));
        context.close().unwrap();
    });
}

fn device_memory_is_freed_by_its_owner_only<A: Model>() {
    machine::<A>(|machine| {
        let (budget, process, other) = (Budget::unlimited(), machine.spawn(), machine.spawn());
        let (mut storage, mut other_storage) = (machine.storage(), machine.storage());
        let owner = machine.open(&process, &budget, &mut storage).unwrap();
        let stranger = machine.open(&other, &budget, &mut other_storage).unwrap();
        let alloc = MemoryInput {
            arguments: [1, 0, 0],
            op: OP_ALLOC,
            ..MemoryInput::default()
        };
        let handle = uapi::dispatch(&owner, &alloc.to_bytes()).unwrap().value;
        let free = MemoryInput {
            arguments: [handle, 0, 0],
            op: OP_FREE,
            ..MemoryInput::default()
        };
        let before = machine.counters();
        assert_eq!(
            uapi::dispatch(&stranger, &free.to_bytes()),
            Err(Errno::EPERM)
        );
        assert_eq!(machine.counters(), before);
        uapi::dispatch(&owner, &free.to_bytes()).unwrap();
        assert_eq!(uapi::dispatch(&owner, &free.to_bytes()), Err(Errno::EINVAL));
        stranger.close().unwrap();
        owner.close().unwrap();
    });
}
