use super::*;
use crate::dram::PackError;
use crate::handle::HandleError;
use crate::mmu::MmuError;

/// Facts IO-2, written down byte by byte for a little-endian processor.
#[test]
#[cfg(target_endian = "little")]
fn the_fields_of_a_request_lie_where_the_driver_has_them() {
    let mut bytes = [0; 40];
    bytes[0] = 0x11; // host_virt_addr
    bytes[9] = 0x22; // hint_addr
    bytes[18] = 0x33; // mem_size
    bytes[24] = 2; // op
    bytes[28] = 0x4; // flags
    bytes[32] = 7; // ctx_id
    bytes[36] = 9; // num_of_elements
    let input = MemoryInput {
        arguments: [0x11, 0x2200, 0x33_0000],
        op: OP_MAP,
        flags: FLAG_USERPTR,
        context_id: 7,
        element_count: 9,
    };
    assert_eq!(MemoryInput::from_bytes(&bytes), Some(input));
    assert_eq!(input.to_bytes(), bytes);
    let output = MemoryOutput::new(0x0102_0304_0506_0708).to_bytes();
    assert_eq!(output, [8, 7, 6, 5, 4, 3, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn a_request_of_any_other_length_is_none() {
    for len in (0..100).filter(|&len| len != MemoryInput::BYTES) {
        assert_eq!(MemoryInput::from_bytes(&[0; 100][..len]), None);
    }
}

#[test]
fn each_flag_is_accepted_by_its_operations_only() {
    // Facts IO-3: which flags mean something for which operation.
    let accepted = [
        (OP_ALLOC, FLAG_CONTIGUOUS | FLAG_SHARED),
        (OP_FREE, 0),
        (OP_MAP, FLAG_USERPTR | FLAG_FORCE_HINT | FLAG_PREFETCH),
        (OP_UNMAP, 0),
        (OP_MAP_BLOCK, 0),
        (OP_EXPORT, EXPORT_CLOSE_ON_EXEC | EXPORT_READ_WRITE),
        (OP_TS_ALLOC, 0),
    ];
    for (op, allowed) in accepted {
        for bit in 0..32 {
            let flags = 1 << bit | if op == OP_MAP { FLAG_USERPTR } else { 0 };
            let len = if op == OP_MAP { 0x1000 } else { 0 };
            let first = if op == OP_TS_ALLOC { 0 } else { 0x1000 };
            let input = MemoryInput {
                arguments: [first, 0, len],
                op,
                flags,
                ..MemoryInput::default()
            };
            let parsed = Request::parse(&input, 4096);
            if flags & !allowed == 0 {
                assert!(parsed.is_ok(), "operation {op}, flags {flags:#x}");
            } else {
                assert_eq!(
                    parsed,
                    Err(Errno::EINVAL),
                    "operation {op}, flags {flags:#x}"
                );
            }
        }
    }
}

#[test]
fn operations_that_do_not_exist_are_refused() {
    for op in [7, 8, u32::MAX] {
        let input = MemoryInput {
            op,
            ..MemoryInput::default()
        };
        assert_eq!(Request::parse(&input, 4096), Err(Errno::EINVAL));
    }
}

/// Facts IO-2 and 6.7, byte by byte for a little-endian processor.
#[test]
#[cfg(target_endian = "little")]
fn replies_of_the_later_operations_lie_where_the_driver_has_them() {
    let block = MemoryOutput::block(0x2000_0000_0000_1000, 0x4000).to_bytes();
    assert_eq!(
        block,
        [0, 0x10, 0, 0, 0, 0, 0, 0x20, 0, 0x40, 0, 0, 0, 0, 0, 0]
    );
    let descriptor = MemoryOutput::descriptor(0x0102_0304).to_bytes();
    assert_eq!(descriptor, [4, 3, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
}

/// The command buffer ioctl of the driver's header, byte by byte for a little-endian processor.
#[test]
#[cfg(target_endian = "little")]
fn the_fields_of_a_command_buffer_request_lie_where_the_driver_has_them() {
    let mut bytes = [0; 24];
    bytes[1] = 0x10; // cb_handle
    bytes[8] = 2; // op
    bytes[13] = 0x20; // cb_size
    bytes[16] = 3; // ctx_id
    bytes[20] = 2; // flags
    let input = CommandBufferInput {
        handle: 0x1000,
        op: OP_INFO,
        size: 0x2000,
        context_id: 3,
        flags: FLAG_DEVICE_ADDRESS,
    };
    assert_eq!(CommandBufferInput::from_bytes(&bytes), Some(input));
    assert_eq!(input.to_bytes(), bytes);
    assert_eq!(CommandBufferInput::from_bytes(&bytes[1..]), None);
}

#[test]
fn handles_and_views_that_are_refused_are_invalid_arguments() {
    // Facts MP-2, MM-9.
    use crate::context::{DestroyError, ViewError};
    assert_eq!(
        Errno::from(ViewError::Handle(HandleError::Stale)),
        Errno::EINVAL
    );
    assert_eq!(
        Errno::from(ViewError::Length { expected: 4096 }),
        Errno::EINVAL
    );
    assert_eq!(Errno::from(ViewError::Viewed), Errno::EINVAL);
    let twice = DestroyError::<()>::Handle(HandleError::Stale);
    assert_eq!(Errno::from(twice), Errno::EINVAL);
    assert_eq!(
        (Errno::EINVAL.get(), Errno::EINVAL.name()),
        (22, Some("EINVAL"))
    );
}

/// Facts IO-2: which of the three arguments and the number of elements an operation has.
#[test]
fn fields_that_an_operation_does_not_have_are_zero_or_refused() {
    let operations = [
        (OP_ALLOC, 0, [true, true, false, false]),
        (OP_FREE, 0, [true, false, false, false]),
        (OP_MAP, 0, [true, true, false, false]),
        (OP_MAP, FLAG_USERPTR, [true, true, true, false]),
        (OP_UNMAP, 0, [true, false, false, false]),
        (OP_MAP_BLOCK, 0, [true, false, false, false]),
        (OP_EXPORT, 0, [true, true, true, false]),
        (OP_TS_ALLOC, 0, [false, false, false, true]),
    ];
    for (op, flags, has) in operations {
        // As a caller fills it in that zeroes the structure first, whatever the context's number.
        let mut plain = MemoryInput {
            op,
            flags,
            context_id: u32::MAX,
            ..MemoryInput::default()
        };
        for (argument, has) in plain.arguments.iter_mut().zip(has) {
            *argument = if has { 0x1000 } else { 0 };
        }
        plain.element_count = u32::from(has[3]);
        assert!(Request::parse(&plain, 4096).is_ok(), "operation {op}");
        for (field, has) in has.into_iter().enumerate() {
            for value in [1, 1 << 31, u32::MAX] {
                let mut input = plain;
                match input.arguments.get_mut(field) {
                    // The upper half as well.
                    Some(argument) => *argument = u64::from(value) << 32,
                    None => input.element_count = value,
                }
                let refused = Request::parse(&input, 4096) == Err(Errno::EINVAL);
                assert_eq!(refused, !has, "operation {op}, field {field}");
            }
        }
    }
}

/// Facts 6.4, 6.6.
#[test]
fn a_device_that_takes_too_long_and_memory_of_another_have_errors_of_their_own() {
    let register = 0x49_0034;
    let late = MmuError::TimedOut { register };
    assert_eq!(Errno::from(late), Errno::ETIMEDOUT);
    for error in [MmuError::DeviceLost, MmuError::Disabled, MmuError::Stuck] {
        assert_eq!(Errno::from(error), Errno::EIO);
    }
    assert_eq!(Errno::from(PackError::NotOwner), Errno::EPERM);
    for error in [PackError::Unknown, PackError::Stale] {
        assert_eq!(Errno::from(error), Errno::EINVAL);
    }
}
