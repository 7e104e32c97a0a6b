//! Requests that cannot be understood, or ask for nothing that there can be, on a device that works and on
//! one that does not: the driver looks at the device first (facts IO-4, CB-1).

use hl_mem::budget::Budget;
use hl_mem::context::MAX_COMMAND_BUFFER_BYTES;
use hl_mem::dram::DramContent;
use hl_mem::uapi::{
    self, CommandBufferInput, Errno, FLAG_USERPTR, MemoryInput, OP_ALLOC, OP_CREATE, OP_DESTROY,
    OP_EXPORT, OP_FREE, OP_INFO, OP_MAP, OP_MAP_BLOCK, OP_TS_ALLOC, OP_UNMAP,
};

use super::support::{NoCache, file_storage};
use super::two_mmus;

/// Memory requests that are refused on any device that works.
fn memory_requests() -> Vec<MemoryInput> {
    let request = |op, flags, arguments, element_count| MemoryInput {
        arguments,
        op,
        flags,
        context_id: 0,
        element_count,
    };
    let mut all = Vec::new();
    for op in [
        OP_ALLOC,
        OP_FREE,
        OP_MAP,
        OP_UNMAP,
        OP_MAP_BLOCK,
        OP_EXPORT,
        OP_TS_ALLOC,
    ] {
        // A flag that none has, and a field that is not the operation's.
        all.push(request(op, 1 << 31, [0x1000, 0, 0], 0));
        let count = u32::from(op != OP_TS_ALLOC);
        all.push(request(op, 0, [0x1000, 0x1000, 0x1000], count));
    }
    all.push(request(7, 0, [0; 3], 0));
    all.push(request(u32::MAX, u32::MAX, [u64::MAX; 3], u32::MAX));
    // Ranges of nothing, and ones that wrap.
    all.push(request(OP_MAP, FLAG_USERPTR, [0x1000, 0, 0], 0));
    all.push(request(OP_MAP, FLAG_USERPTR, [0x1000, 0, u64::MAX], 0));
    // Understood, and of what there cannot be.
    all.push(request(OP_ALLOC, 0, [0, 0, 0], 0));
    all.push(request(OP_MAP, 0, [0, u64::MAX, 0], 0));
    all.push(request(OP_EXPORT, 0, [0x1000, 0, 1], 0));
    all.push(request(OP_TS_ALLOC, 0, [0; 3], 0));
    all
}

/// Requests about command buffers that are refused on any device that works.
fn command_buffer_requests() -> Vec<CommandBufferInput> {
    let request = |op, flags, handle, size| CommandBufferInput {
        handle,
        op,
        size,
        flags,
        ..CommandBufferInput::default()
    };
    vec![
        request(3, 0, 0, 0),
        request(u32::MAX, u32::MAX, u64::MAX, u32::MAX),
        request(OP_CREATE, 1 << 31, 0, 4096),
        request(OP_CREATE, 0, 1, 4096),
        request(OP_CREATE, 0, 0, 0),
        request(OP_CREATE, 0, 0, MAX_COMMAND_BUFFER_BYTES as u32 + 1),
        request(OP_DESTROY, 1 << 31, 1, 0),
        request(OP_DESTROY, 0, 1, 1),
        request(OP_INFO, 1 << 31, 1, 0),
        request(OP_INFO, 0, 1, 1),
        request(OP_INFO, 0, 1, 0),
    ]
}

#[test]
fn who_asks_for_nonsense_is_told_first_that_the_device_is_of_no_use() {
    let device = two_mmus(NoCache::new(3), NoCache::new(3));
    let budget = Budget::unlimited();
    let context = device.open((), &budget, file_storage()).unwrap();
    let refuses = |expected: Errno, when: &str| {
        let before = (context.usage(), device.usage(), budget.charged());
        for input in memory_requests() {
            let got = uapi::dispatch(&context, &input.to_bytes());
            assert_eq!(got, Err(expected), "{when}: {input:x?}");
        }
        for input in command_buffer_requests() {
            let got = uapi::dispatch_command_buffer(&context, &input.to_bytes());
            assert_eq!(got, Err(expected), "{when}: {input:x?}");
        }
        // This device shows no registers (facts MB-1).
        let input = MemoryInput {
            op: OP_MAP_BLOCK,
            ..MemoryInput::default()
        };
        let got = uapi::dispatch(&context, &input.to_bytes());
        let refused = match expected {
            Errno::EINVAL => Errno::EPERM,
            of_no_use => of_no_use,
        };
        assert_eq!(got, Err(refused), "{when}");
        // What is no request at all does not get as far as the driver.
        for len in [0, MemoryInput::BYTES - 1, MemoryInput::BYTES + 1] {
            let bytes = [0; 64];
            let got = uapi::dispatch(&context, &bytes[..len]);
            assert_eq!(got, Err(Errno::EINVAL), "{when}: {len} bytes");
        }
        let after = (context.usage(), device.usage(), budget.charged());
        assert_eq!(after, before, "{when}");
    };
    refuses(Errno::EINVAL, "a device that works");
    device.note_lost();
    refuses(Errno::EBUSY, "a lost device");
    device.recover(DramContent::Unknown).unwrap();
    refuses(Errno::ENODEV, "a file that outlived a reset");
    context.close().unwrap();
}
