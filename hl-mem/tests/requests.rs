//! What a request of the memory ioctl is understood as, field by field (facts IO-2, IO-3).

use hl_mem::Wanted;
use hl_mem::context::MAX_COMMAND_BUFFER_BYTES;
use hl_mem::uapi::{
    CommandBufferOutput, EXPORT_CLOSE_ON_EXEC, EXPORT_READ_WRITE, Errno, FLAG_CONTIGUOUS,
    FLAG_FORCE_HINT, FLAG_PREFETCH, FLAG_SHARED, FLAG_USERPTR, MemoryInput, OP_ALLOC, OP_EXPORT,
    OP_FREE, OP_MAP, OP_MAP_BLOCK, OP_TS_ALLOC, OP_UNMAP, Request,
};
use mmu_core::DeviceAddr;

const PAGE_BYTES: u64 = 4096;

/// A request of which all fields that the operation uses differ, so that one taken for another is seen.
/// The others are zero, but for the one that nobody looks at.
fn input(op: u32, flags: u32) -> MemoryInput {
    let used = match op {
        OP_TS_ALLOC => 0,
        OP_FREE | OP_UNMAP | OP_MAP_BLOCK => 1,
        OP_MAP if flags & FLAG_USERPTR == 0 => 2,
        OP_ALLOC => 2,
        _ => 3,
    };
    let mut arguments = [0x11_1000, 0x22_2000, 0x33_3000];
    arguments[used..].fill(0);
    MemoryInput {
        arguments,
        op,
        flags,
        context_id: 4,
        element_count: if op == OP_TS_ALLOC { 5 } else { 0 },
    }
}

fn parse(op: u32, flags: u32) -> Result<Request, Errno> {
    Request::parse(&input(op, flags), PAGE_BYTES)
}

fn allocate(contiguous: bool, shared: bool) -> Result<Request, Errno> {
    Ok(Request::Allocate {
        bytes: 0x11_1000,
        contiguous,
        shared,
    })
}

#[test]
fn an_allocation_is_scattered_and_private_unless_its_flags_say_otherwise() {
    assert_eq!(parse(OP_ALLOC, 0), allocate(false, false));
    assert_eq!(parse(OP_ALLOC, FLAG_CONTIGUOUS), allocate(true, false));
    assert_eq!(parse(OP_ALLOC, FLAG_SHARED), allocate(false, true));
    let both = FLAG_CONTIGUOUS | FLAG_SHARED;
    assert_eq!(parse(OP_ALLOC, both), allocate(true, true));
}

#[test]
fn operations_without_flags_take_their_one_number() {
    let at = DeviceAddr::new(0x11_1000);
    let handle = 0x11_1000;
    assert_eq!(parse(OP_FREE, 0), Ok(Request::Free { handle }));
    assert_eq!(parse(OP_UNMAP, 0), Ok(Request::Unmap { at }));
    let address = 0x11_1000;
    assert_eq!(parse(OP_MAP_BLOCK, 0), Ok(Request::MapBlock { address }));
    let timestamps = Request::CreateTimestamps { count: 5 };
    assert_eq!(parse(OP_TS_ALLOC, 0), Ok(timestamps));
}

#[test]
fn a_mapping_of_device_memory_is_wanted_where_its_first_number_says() {
    let map = |flags, hint| {
        let mut input = input(OP_MAP, flags);
        input.arguments[0] = hint;
        Request::parse(&input, PAGE_BYTES)
    };
    let handle = 0x22_2000;
    let hint = DeviceAddr::new(0x1000);
    for prefetch in [0, FLAG_PREFETCH] {
        for (flags, number, wanted) in [
            (0, 0, Wanted::Anywhere),
            (0, 0x1000, Wanted::Hint(hint)),
            (FLAG_FORCE_HINT, 0x1000, Wanted::Exact(hint)),
            (FLAG_FORCE_HINT, 0, Wanted::Exact(DeviceAddr::new(0))),
        ] {
            let expected = Ok(Request::MapDram { handle, wanted });
            assert_eq!(map(flags | prefetch, number), expected);
        }
    }
}

#[test]
fn a_mapping_of_host_memory_is_wanted_where_its_second_number_says() {
    let map = |flags, hint| {
        let mut input = input(OP_MAP, FLAG_USERPTR | flags);
        input.arguments[1] = hint;
        match Request::parse(&input, PAGE_BYTES) {
            Ok(Request::MapUser { range, wanted }) => {
                let range = range.range();
                (range.start().get(), range.len(), wanted)
            }
            other => panic!("{other:?}"),
        }
    };
    let hint = DeviceAddr::new(0x1000);
    for prefetch in [0, FLAG_PREFETCH] {
        for (flags, number, wanted) in [
            (0, 0, Wanted::Anywhere),
            (0, 0x1000, Wanted::Hint(hint)),
            (FLAG_FORCE_HINT, 0x1000, Wanted::Exact(hint)),
        ] {
            let expected = (0x11_1000, 0x33_3000, wanted);
            assert_eq!(map(flags | prefetch, number), expected);
        }
    }
}

#[test]
fn an_export_keeps_its_flags_for_whoever_makes_the_file() {
    let both = EXPORT_CLOSE_ON_EXEC | EXPORT_READ_WRITE;
    for flags in [0, EXPORT_CLOSE_ON_EXEC, EXPORT_READ_WRITE, both] {
        let export = Request::Export {
            at: DeviceAddr::new(0x11_1000),
            bytes: 0x22_2000,
            offset: 0x33_3000,
            flags,
        };
        assert_eq!(parse(OP_EXPORT, flags), Ok(export));
    }
}

/// Native byte order, as a C program reads its structure.
#[test]
fn the_answer_about_a_command_buffer_is_its_number_in_memory() {
    let value = 0x0102_0304_0506_0708;
    let bytes = CommandBufferOutput { value }.to_bytes();
    assert_eq!(u64::from_ne_bytes(bytes), value);
}

/// Facts CB-1: 32 bytes less than 2 MiB.
#[test]
fn the_longest_command_buffer_leaves_room_for_what_the_driver_adds() {
    assert_eq!(MAX_COMMAND_BUFFER_BYTES, 0x1F_FFE0);
}
