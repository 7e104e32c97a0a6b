//! What a process is told where others are at work, or the port lacks something.

use std::cell::RefCell;
use std::rc::Rc;

use hl_mem::Wanted;
use hl_mem::budget::Budget;
use hl_mem::context::{DramExport, MapUserError};
use hl_mem::handle::RawHandle;
use hl_mem::host::DeviceAccess;
use hl_mem::profile::{Asic, Goya};
use hl_mem::uapi::{
    CommandBufferInput, Errno, ExportRefused, Exporter, FLAG_CONTIGUOUS, FLAG_MAP, FLAG_USERPTR,
    MemoryInput, OP_ALLOC, OP_CREATE, OP_DESTROY, OP_EXPORT, OP_FREE, OP_INFO, OP_MAP, OP_TS_ALLOC,
    OP_UNMAP, Request, dispatch, dispatch_command_buffer, dispatch_with,
};

use super::flow::{DRAM_PAGES, RecordingContext, RecordingDevice, bring_up, open_with};
use super::recording::{AT_SCRUB, NOT_COHERENT, REFUSES, SPOILT_PIN, Spoilt};
use super::support::smallest_port::{PAGE_BYTES, USER_BASE};

fn open(device: &RecordingDevice) -> RecordingContext<'_> {
    open_with(device, Box::leak(Box::new(Budget::new(64))))
}

fn request(op: u32, flags: u32, arguments: [u64; 3]) -> [u8; MemoryInput::BYTES] {
    MemoryInput {
        arguments,
        op,
        flags,
        ..MemoryInput::default()
    }
    .to_bytes()
}

#[test]
fn memory_that_is_scrubbed_for_another_is_busy() {
    let (device, ..) = bring_up(2).unwrap();
    let device = Box::leak(Box::new(device));
    let (first, second) = (open(device), open(device));
    let bytes = u64::from(DRAM_PAGES) * Goya::PROFILE.dram.page_bytes;
    let all = request(OP_ALLOC, FLAG_CONTIGUOUS, [bytes, 0, 0]);
    let told = Rc::new(RefCell::new(None));
    let answer = Rc::clone(&told);
    let mut scrubbed = 0;
    AT_SCRUB.set(Some(Box::new(move |run| {
        scrubbed += run.len();
        // Nothing else is left to be scrubbed.
        if scrubbed == bytes {
            *answer.borrow_mut() = Some(dispatch(&second, &all));
        }
    })));
    let handle = dispatch(&first, &all).unwrap().value;
    AT_SCRUB.set(None);
    assert_eq!(*told.borrow(), Some(Err(Errno::EBUSY)));
    assert_ne!(handle, 0);
}

#[test]
fn what_the_port_lacks_is_not_supported() {
    let (device, ..) = bring_up(2).unwrap();
    let context = open(&device);
    // A file for an export: `dispatch` has no exporter.
    let page = Goya::PROFILE.dram.page_bytes;
    let memory = dispatch(&context, &request(OP_ALLOC, 0, [page, 0, 0])).unwrap();
    let at = dispatch(&context, &request(OP_MAP, 0, [0, memory.value, 0])).unwrap();
    let export = request(OP_EXPORT, 0, [at.value, page, 0]);
    let before = context.usage();
    assert_eq!(dispatch(&context, &export), Err(Errno::EOPNOTSUPP));
    // Coherent memory.
    NOT_COHERENT.set(true);
    for flags in [0, FLAG_MAP] {
        let create = CommandBufferInput {
            op: OP_CREATE,
            size: 4096,
            flags,
            ..CommandBufferInput::default()
        };
        let answer = dispatch_command_buffer(&context, &create.to_bytes());
        assert_eq!(answer, Err(Errno::EOPNOTSUPP));
    }
    assert_eq!(context.usage(), before);
}

/// Facts CB-1.
#[test]
fn a_command_buffer_of_less_than_a_page_is_a_page() {
    let (device, ..) = bring_up(2).unwrap();
    let context = open(&device);
    let make = |size| {
        let create = CommandBufferInput {
            op: OP_CREATE,
            size,
            ..CommandBufferInput::default()
        };
        dispatch_command_buffer(&context, &create.to_bytes())
    };
    for size in [1, PAGE_BYTES as u32] {
        let told = context.command_buffer(RawHandle::new(make(size).unwrap().value));
        assert_eq!(told.map(|told| told.bytes), Ok(PAGE_BYTES));
    }
    assert_eq!(make(0), Err(Errno::EINVAL), "one of nothing is a mistake");
}

/// Makes no file, because of this.
struct NoFile(Errno);

impl Exporter for NoFile {
    fn export(&mut self, export: DramExport, _flags: u32) -> Result<i32, ExportRefused> {
        let errno = self.0;
        Err(ExportRefused { export, errno })
    }
}

/// Facts PN-4, EX-3.
#[test]
fn the_systems_own_reason_reaches_the_process_as_it_is() {
    let (device, ..) = bring_up(2).unwrap();
    let context = open(&device);
    let page = Goya::PROFILE.dram.page_bytes;
    let memory = dispatch(&context, &request(OP_ALLOC, 0, [page, 0, 0])).unwrap();
    let at = dispatch(&context, &request(OP_MAP, 0, [0, memory.value, 0])).unwrap();
    let block = context.create_timestamps(8).unwrap();
    let (registers, bytes) = context.register_block(0x1000).unwrap();
    let before = (context.usage(), device.usage());
    // One that this crate has a name for, and the last that there is.
    for errno in [Errno::EINTR, Errno::new(4095).unwrap()] {
        let export = request(OP_EXPORT, 0, [at.value, page, 0]);
        let exported = dispatch_with(&context, &export, &mut NoFile(errno));
        assert_eq!(exported, Err(errno));
        REFUSES.set(Some(errno));
        let map = request(OP_MAP, FLAG_USERPTR, [USER_BASE, 0, PAGE_BYTES]);
        assert_eq!(dispatch(&context, &map), Err(errno));
        let timestamps = MemoryInput {
            op: OP_TS_ALLOC,
            element_count: 1,
            ..MemoryInput::default()
        };
        assert_eq!(dispatch(&context, &timestamps.to_bytes()), Err(errno));
        let create = CommandBufferInput {
            op: OP_CREATE,
            size: 1,
            ..CommandBufferInput::default()
        };
        let created = dispatch_command_buffer(&context, &create.to_bytes());
        assert_eq!(created, Err(errno));
        for (handle, bytes) in [(block, PAGE_BYTES), (registers, bytes)] {
            let shown = context.mmap(handle, bytes);
            assert_eq!(shown.map(drop).map_err(Errno::from), Err(errno));
        }
        REFUSES.set(None);
        assert_eq!((context.usage(), device.usage()), before);
    }
}

#[test]
fn fields_that_a_request_does_not_have_are_refused_and_change_nothing() {
    let (device, ..) = bring_up(2).unwrap();
    let context = open(&device);
    let page = Goya::PROFILE.dram.page_bytes;
    let memory = dispatch(&context, &request(OP_ALLOC, 0, [page, 0, 0])).unwrap();
    let at = dispatch(&context, &request(OP_MAP, 0, [0, memory.value, 0])).unwrap();
    let before = context.usage();
    for junk in [[1, 0], [0, 1]] {
        for (op, first) in [(OP_UNMAP, at.value), (OP_FREE, memory.value)] {
            let [second, third] = junk;
            let refused = dispatch(&context, &request(op, 0, [first, second, third]));
            assert_eq!(refused, Err(Errno::EINVAL));
        }
    }
    let command_buffer = |handle, op, size| {
        let input = CommandBufferInput {
            handle,
            op,
            size,
            context_id: 7,
            flags: 0,
        };
        dispatch_command_buffer(&context, &input.to_bytes()).map(|reply| reply.value)
    };
    assert_eq!(command_buffer(1, OP_CREATE, 4096), Err(Errno::EINVAL));
    assert_eq!(context.usage(), before);
    let handle = command_buffer(0, OP_CREATE, 4096).unwrap();
    assert_eq!(command_buffer(handle, OP_INFO, 1), Err(Errno::EINVAL));
    assert_eq!(command_buffer(handle, OP_DESTROY, 1), Err(Errno::EINVAL));
    assert_eq!(command_buffer(handle, OP_INFO, 0), Ok(0));
    assert_eq!(command_buffer(handle, OP_DESTROY, 0), Ok(0));
    dispatch(&context, &request(OP_UNMAP, 0, [at.value, 0, 0])).unwrap();
    dispatch(&context, &request(OP_FREE, 0, [memory.value, 0, 0])).unwrap();
}

#[test]
fn pins_with_a_hole_or_a_page_too_many_are_undone_and_named() {
    const PAGES: u64 = 5;
    let (device, ..) = bring_up(2).unwrap();
    let budget = Budget::new(64);
    let context = open_with(&device, &budget);
    let map = |wanted| {
        let input = MemoryInput {
            arguments: [USER_BASE, 0, PAGES * PAGE_BYTES],
            op: OP_MAP,
            flags: FLAG_USERPTR,
            ..MemoryInput::default()
        };
        let request = Request::parse(&input, PAGE_BYTES).unwrap();
        let Request::MapUser { range, .. } = request else {
            panic!("a request to map user memory");
        };
        context.map(range, DeviceAccess::ReadWrite, wanted)
    };
    // A neighbour that is harmed by nothing.
    let neighbour = map(Wanted::Anywhere).unwrap();
    let state = || {
        let host = (device.host().0.pinned(), budget.charged());
        (context.usage(), device.usage(), host)
    };
    let before = state();
    let spot = Wanted::Exact(neighbour.checked_add(1 << 30).unwrap());
    for (spoilt, got) in [
        (Spoilt::Without(0), PAGES - 1),
        (Spoilt::Without(PAGES / 2), PAGES - 1),
        (Spoilt::Without(PAGES - 1), PAGES - 1),
        (Spoilt::OneMore, PAGES + 1),
    ] {
        for wanted in [Wanted::Anywhere, spot] {
            SPOILT_PIN.set(spoilt);
            let refused = map(wanted);
            SPOILT_PIN.set(Spoilt::Nothing);
            let (asked, got) = (PAGES * PAGE_BYTES, got * PAGE_BYTES);
            let error = MapUserError::Pinned { asked, got };
            assert_eq!(refused, Err(error), "{spoilt:?}");
            let told = if got < asked {
                Errno::ENOMEM
            } else {
                Errno::EFAULT
            };
            assert_eq!(Errno::from(error), told);
            assert_eq!(state(), before, "{spoilt:?}");
            // Nothing of it is in the way.
            let again = map(wanted).unwrap();
            context.unmap(again).unwrap();
            assert_eq!(state(), before, "{spoilt:?}");
        }
    }
    context.unmap(neighbour).unwrap();
}

/// Facts DRAM-2.
#[test]
fn a_context_knows_how_much_device_memory_it_has() {
    let (device, ..) = bring_up(2).unwrap();
    let (one, two) = (open(&device), open(&device));
    let page = Goya::PROFILE.dram.page_bytes;
    let usage = |context: &RecordingContext<'_>| {
        let usage = context.dram_usage();
        (usage.packs, usage.pages, usage.bytes)
    };
    assert_eq!(usage(&one), (0, 0, 0));
    let allocate = |context, bytes| {
        let memory = dispatch(context, &request(OP_ALLOC, 0, [bytes, 0, 0]));
        memory.unwrap().value
    };
    let first = allocate(&one, 1);
    let second = allocate(&one, page + 1);
    allocate(&two, page);
    assert_eq!(usage(&one), (2, 3, 3 * page));
    assert_eq!(usage(&two), (1, 1, page));
    // Mapping it makes it no more, and freeing it less.
    let at = dispatch(&one, &request(OP_MAP, 0, [0, second, 0])).unwrap();
    assert_eq!(usage(&one), (2, 3, 3 * page));
    dispatch(&one, &request(OP_UNMAP, 0, [at.value, 0, 0])).unwrap();
    dispatch(&one, &request(OP_FREE, 0, [second, 0, 0])).unwrap();
    assert_eq!(usage(&one), (1, 1, page));
    dispatch(&one, &request(OP_FREE, 0, [first, 0, 0])).unwrap();
    assert_eq!((usage(&one), usage(&two)), ((0, 0, 0), (1, 1, page)));
}
