//! Files whose closing failed, until it succeeds.

use std::num::NonZeroU64;

use hl_mem::Wanted;
use hl_mem::context::{MapDramError, RegisterTimestampError, ViewError};
use hl_mem::device::{BufferError, DramError, MapBufferError};
use hl_mem::dram::{Contiguity, DramContent, Sharing};
use hl_mem::uapi::{Errno, FLAG_USERPTR, MemoryInput, OP_MAP, dispatch};

use super::support::smallest_port::{Machine, PAGE_BYTES, USER_BASE};

#[test]
fn a_file_whose_closing_failed_makes_nothing_new_until_it_is_closed() {
    let machine = Machine::new().unwrap();
    let before = machine.device.usage();
    let context = machine.open().unwrap();
    let timestamps = context.create_timestamps(4).unwrap();
    let (block, _) = context
        .create_block(&machine.privilege, PAGE_BYTES)
        .unwrap();
    let memory = context.allocate_dram(1, Contiguity::Contiguous, Sharing::Private);
    let memory = memory.unwrap();
    let map = MemoryInput {
        arguments: [USER_BASE, 0, PAGE_BYTES],
        op: OP_MAP,
        flags: FLAG_USERPTR,
        ..MemoryInput::default()
    };
    dispatch(&context, &map.to_bytes()).unwrap();
    machine.registers.lose();
    let context = context.close().unwrap_err().into_context();
    // The device is back, so that nothing but the closing is in the way.
    machine.registers.reset();

    let usage = (context.usage(), machine.device.usage());
    assert_eq!(dispatch(&context, &map.to_bytes()), Err(Errno::ENODEV));
    let made = context.create_timestamps(4);
    assert_eq!(made, Err(BufferError::Closing));
    let made = context.create_block(&machine.privilege, PAGE_BYTES);
    assert_eq!(made, Err(BufferError::Closing));
    let made = context.create_command_buffer(PAGE_BYTES, true);
    assert_eq!(made, Err(BufferError::Closing));
    let mapped = context.map_block(&machine.privilege, block, Wanted::Anywhere);
    assert_eq!(mapped, Err(MapBufferError::Closing));
    let mapped = context.map_dram(memory, Wanted::Anywhere);
    assert_eq!(mapped, Err(MapDramError::Closing));
    let made = context.allocate_dram(1, Contiguity::Contiguous, Sharing::Private);
    assert_eq!(made, Err(DramError::Closing));
    let shown = context.mmap(block, PAGE_BYTES).map(drop);
    assert_eq!(shown, Err(ViewError::Closing));
    let time = NonZeroU64::new(7).unwrap();
    let registered = context.register_timestamp(timestamps, 0, (0, 5), 0, time);
    assert_eq!(registered, Err(RegisterTimestampError::Closing));
    assert_eq!((context.usage(), machine.device.usage()), usage);

    machine.device.recover(DramContent::Scrubbed).unwrap();
    context.close().unwrap();
    assert_eq!(machine.device.usage().buffers, before.buffers);
    assert_eq!(machine.ram.allocated(), 0);
}
