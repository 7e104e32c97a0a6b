//! What a device that is lost refuses, and a file that was open when it was reset; and what both take
//! back.

use hl_mem::Wanted;
use hl_mem::budget::Budget;
use hl_mem::buffer::BufferId;
use hl_mem::context::{
    ContextStorage, ContextUsage, DramExport, ExportDramError, MapDramError, MapUserError,
    MappingSlot, OpenError, RegisterBlockError, RegisterTimestampError, TimestampStorage,
    ViewError,
};
use hl_mem::device::{
    BlockRangeError, BringUpError, BufferError, BufferView, DeviceUsage, DramError, DramRunError,
    MapBufferError, MapWindowError, Privilege, PrivilegedWindow, WindowMemory,
};
use hl_mem::dram::{Contiguity, DramContent, OwnerUsage, PackError, PackHandle, Sharing};
use hl_mem::events::{DeviceEvent, Report};
use hl_mem::handle::{HandleSlot, RawHandle};
use hl_mem::host::DeviceAccess;
use hl_mem::lock::LockRank;
use hl_mem::profile::{Asic, Goya};
use hl_mem::uapi::{
    CommandBufferInput, Errno, FLAG_DEVICE_ADDRESS, FLAG_MAP, FLAG_USERPTR, MemoryInput, OP_ALLOC,
    OP_CREATE, OP_DESTROY, OP_EXPORT, OP_FREE, OP_INFO, OP_MAP, OP_MAP_BLOCK, OP_TS_ALLOC,
    OP_UNMAP, Request, dispatch, dispatch_command_buffer, dispatch_with,
};
use mmu_core::{BusAddr, DeviceAddr, Run};

use super::flow::{
    DRAM_PAGES, RecordingContext, RecordingDevice, bring_up, bring_up_with, nodes, open_with, time,
};
use super::recording::{AT_LOCK, AT_SCRUB, Files, RecordingPort};
use super::support::smallest_port::storage;
use super::support::smallest_port::{MmuRegisters, PAGE_BYTES, USER_BASE};

const PIECES: Contiguity = Contiguity::Scattered;
const PRIVATE: Sharing = Sharing::Private;
const DRAM_PAGE: u64 = Goya::PROFILE.dram.page_bytes;
/// Where the one block of registers is.
const REGISTERS: u64 = 0x1000;

/// In which way the device is of no use to a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Lost,
    Reset,
}

/// Everything that a file can have.
struct Scene<'c> {
    device: &'c RecordingDevice,
    privilege: &'c Privilege,
    budget: &'c Budget,
    context: RecordingContext<'c>,
    /// The user's memory.
    at: DeviceAddr,
    /// Device memory that is mapped and exported, and some that is not mapped.
    memory: PackHandle,
    memory_at: DeviceAddr,
    export: DramExport,
    unmapped: PackHandle,
    block: RawHandle,
    id: BufferId,
    command_buffer: RawHandle,
    timestamps: RawHandle,
    registers: RawHandle,
    view: BufferView<RecordingPort>,
}

/// All that there is of a device and of a file.
#[derive(PartialEq, Debug)]
struct Snapshot {
    device: DeviceUsage,
    context: ContextUsage,
    dram: OwnerUsage,
    charged: usize,
    allocated: usize,
    pinned: usize,
    parts: Vec<String>,
}

fn memory(op: u32, flags: u32, arguments: [u64; 3]) -> MemoryInput {
    MemoryInput {
        arguments,
        op,
        flags,
        ..MemoryInput::default()
    }
}

fn map_input() -> MemoryInput {
    memory(OP_MAP, FLAG_USERPTR, [USER_BASE, 0, PAGE_BYTES])
}

/// Memory for a window of the privileged space, and that window.
fn window() -> (PrivilegedWindow, WindowMemory) {
    let image = Run::new(BusAddr::new(0), PAGE_BYTES).unwrap();
    (PrivilegedWindow::Firmware, WindowMemory::Device(image))
}

fn bytes_of_nothing() -> ContextStorage<'static, RecordingPort> {
    ContextStorage {
        nodes: nodes(),
        mappings: storage(1, MappingSlot::new),
        handles: storage(1, HandleSlot::new),
        timestamps: TimestampStorage::none(),
    }
}

impl<'c> Scene<'c> {
    fn new(device: &'c RecordingDevice, privilege: &'c Privilege, budget: &'c Budget) -> Self {
        let context = open_with(device, budget);
        let reply = dispatch(&context, &map_input().to_bytes()).unwrap();
        let allocate = |sharing| context.allocate_dram(1, PIECES, sharing).unwrap();
        let (memory, unmapped) = (allocate(Sharing::Shared), allocate(PRIVATE));
        let memory_at = context.map_dram(memory, Wanted::Anywhere).unwrap();
        let export = context.export_dram(memory_at, PAGE_BYTES, 0).unwrap();
        let (block, id) = context.create_block(privilege, PAGE_BYTES).unwrap();
        let command_buffer = context.create_command_buffer(PAGE_BYTES, true).unwrap();
        let timestamps = context.create_timestamps(4).unwrap();
        let waits = context.register_timestamp(timestamps, 0, (0, 9), 0, time(1));
        waits.unwrap();
        let (registers, _) = context.register_block(REGISTERS).unwrap();
        let view = context.mmap(timestamps, PAGE_BYTES).unwrap();
        let (window, image) = window();
        device.map_window(privilege, window, image).unwrap();
        Self {
            device,
            privilege,
            budget,
            at: DeviceAddr::new(reply.value),
            memory,
            memory_at,
            export,
            unmapped,
            block,
            id,
            command_buffer,
            timestamps,
            registers,
            view,
            context,
        }
    }

    fn snapshot(&self) -> Snapshot {
        let mut parts = Vec::new();
        let mut look = |part: hl_mem::inspect::Part<'_>| parts.push(format!("{part:?}"));
        self.device.inspect(self.privilege, &mut look).unwrap();
        self.context.inspect(&mut look);
        let ram = self.device.host().0;
        Snapshot {
            device: self.device.usage(),
            context: self.context.usage(),
            dram: self.context.dram_usage(),
            charged: self.budget.charged(),
            allocated: ram.allocated(),
            pinned: ram.pinned(),
            parts,
        }
    }

    /// Each call that needs the device, or hands out memory, is refused with its own error, and nothing
    /// is different.
    fn refuses_all_that_needs_the_device(&self, state: State) {
        let Self {
            device, privilege, ..
        } = *self;
        let context = &self.context;
        let before = self.snapshot();
        macro_rules! refused {
            ($call:expr, $error:ident) => {
                let expected = match state {
                    State::Lost => $error::Lost,
                    State::Reset => $error::Reset,
                };
                assert_eq!($call.map(drop), Err(expected), "{}", stringify!($call));
                assert_eq!(self.snapshot(), before, "{}", stringify!($call));
            };
        }
        let parsed = Request::parse(&map_input(), PAGE_BYTES);
        let Ok(Request::MapUser { range, wanted }) = parsed else {
            panic!("{parsed:?}");
        };
        refused!(context.map(range, DeviceAccess::Read, wanted), MapUserError);
        for pack in [self.memory, self.unmapped] {
            refused!(context.map_dram(pack, Wanted::Anywhere), MapDramError);
        }
        refused!(context.allocate_dram(1, PIECES, PRIVATE), DramError);
        let at = self.memory_at;
        refused!(context.export_dram(at, PAGE_BYTES, 0), ExportDramError);
        refused!(context.create_block(privilege, PAGE_BYTES), BufferError);
        for mapped in [false, true] {
            let bytes = PAGE_BYTES;
            refused!(context.create_command_buffer(bytes, mapped), BufferError);
        }
        refused!(context.create_timestamps(4), BufferError);
        let block = self.block;
        refused!(
            context.map_block(privilege, block, Wanted::Anywhere),
            MapBufferError
        );
        let ((_, image), anywhere) = (window(), DeviceAddr::new(0));
        refused!(
            context.map_window(privilege, anywhere, image),
            MapWindowError
        );
        refused!(
            context.register_timestamp(self.timestamps, 1, (0, 1), 0, time(1)),
            RegisterTimestampError
        );
        // What is reached already waits for nothing, and is written all the same.
        refused!(
            context.register_timestamp(self.timestamps, 1, (0, 1), 1, time(1)),
            RegisterTimestampError
        );
        assert_eq!(self.view.view().read_word(1), 0);
        refused!(context.register_block(REGISTERS), RegisterBlockError);
        for handle in [block, self.command_buffer, self.timestamps, self.registers] {
            refused!(context.mmap(handle, PAGE_BYTES), ViewError);
        }
        let told = context.command_buffer(self.command_buffer).unwrap();
        assert_eq!(told.mapped_at, None);
        if state == State::Lost {
            let (window, image) = window();
            refused!(device.map_window(privilege, window, image), MapWindowError);
            let run = device.dram_run(privilege, context.owner(), self.unmapped);
            assert_eq!(run, Err(DramRunError::Lost));
            let range = device.block_range(privilege, self.id);
            assert_eq!(range, Err(BlockRangeError::Lost));
            let opened = device.open((), self.budget, bytes_of_nothing());
            let refused = opened.map(drop).unwrap_err();
            assert_eq!(refused, OpenError::Lost);
            assert_eq!(Errno::from(refused), Errno::EAGAIN);
            assert_eq!(self.snapshot(), before);
        }
    }

    /// The same of requests.
    fn refuses_requests(&self, state: State) {
        let errno = match state {
            State::Lost => Errno::EBUSY,
            State::Reset => Errno::ENODEV,
        };
        let before = self.snapshot();
        let timestamps = MemoryInput {
            element_count: 4,
            ..memory(OP_TS_ALLOC, 0, [0; 3])
        };
        for input in [
            memory(OP_ALLOC, 0, [1, 0, 0]),
            map_input(),
            memory(OP_MAP, 0, [0, self.unmapped.get(), 0]),
            memory(OP_MAP_BLOCK, 0, [REGISTERS, 0, 0]),
            memory(OP_EXPORT, 0, [self.memory_at.get(), PAGE_BYTES, 0]),
            timestamps,
        ] {
            let mut files = Files::default();
            let answer = dispatch_with(&self.context, &input.to_bytes(), &mut files);
            assert_eq!(answer, Err(errno), "{input:?}");
            assert!(files.0.is_empty());
            assert_eq!(self.snapshot(), before, "{input:?}");
        }
        let handle = self.command_buffer.get();
        for (op, handle, size, flags) in [
            (OP_CREATE, 0, 4096, 0),
            (OP_CREATE, 0, 4096, FLAG_MAP),
            (OP_INFO, handle, 0, 0),
            (OP_INFO, handle, 0, FLAG_DEVICE_ADDRESS),
        ] {
            let input = CommandBufferInput {
                handle,
                op,
                size,
                flags,
                ..CommandBufferInput::default()
            };
            let answer = dispatch_command_buffer(&self.context, &input.to_bytes());
            assert_eq!(answer, Err(errno), "{input:?}");
            assert_eq!(self.snapshot(), before, "{input:?}");
        }
        // What the process is told where it calls mmap (facts MP-1).
        let shown = self.context.mmap(self.block, PAGE_BYTES).map(drop);
        assert_eq!(shown.map_err(Errno::from), Err(Errno::ENODEV));
    }

    /// Whatever a file has can be given back, by a device that still answers.
    fn gives_all_back(self) {
        let Self {
            device,
            context,
            privilege,
            ..
        } = self;
        let ram = device.host().0;
        context.end_export(self.export).unwrap();
        for (op, first) in [
            (OP_UNMAP, self.at.get()),
            (OP_UNMAP, self.memory_at.get()),
            (OP_FREE, self.memory.get()),
        ] {
            let given_back = dispatch(&context, &memory(op, 0, [first, 0, 0]).to_bytes());
            assert_eq!(given_back.map(drop), Ok(()), "operation {op}");
        }
        context.free_dram(self.unmapped).unwrap();
        assert_eq!((ram.pinned(), self.budget.charged()), (0, 0));
        assert_eq!(context.dram_usage(), OwnerUsage::default());
        context.destroy_block(self.block).unwrap();
        let destroy = CommandBufferInput {
            handle: self.command_buffer.get(),
            op: OP_DESTROY,
            ..CommandBufferInput::default()
        };
        dispatch_command_buffer(&context, &destroy.to_bytes()).unwrap();
        // What waits still gets its time.
        let reached = context.counter_reached(0, 9, time(7)).unwrap();
        assert_eq!((reached.completed, self.view.view().read_word(0)), (1, 7));
        context.destroy_timestamps(self.timestamps).unwrap();
        context.reap_timestamps();
        let copy = device.copy_view(&self.view, 1, self.view.view().clone());
        device.end_view(self.view).unwrap();
        assert!(device.end_pages(copy.unwrap(), 1).unwrap().is_none());
        assert_eq!(ram.allocated(), 0);
        device.unmap_window(privilege, window().0).unwrap();
        device.settle_quarantine().unwrap();
        context.settle_quarantine().unwrap();
        let left = context.usage();
        // The registers' handle.
        assert_eq!((left.mappings, left.handles, left.bytes), (0, 1, 0));
        let left = context.close().unwrap();
        assert_eq!((left.mappings, left.dram), (0, 0));
    }
}

fn told(context: &RecordingContext<'_>) -> Vec<DeviceEvent> {
    let mut told = Vec::new();
    while let Some(report) = context.next_event() {
        context.confirm_event(&report).unwrap();
        match report {
            Report::Event { event, .. } => told.push(event),
            other => panic!("{other:?}"),
        }
    }
    told
}

/// A device where nobody has anything.
fn idle(device: &RecordingDevice) -> (DeviceUsage, usize) {
    let mut usage = device.usage();
    // Whether pages are dirty is another matter.
    usage.dram.clean = 0;
    usage.dram.dirty = 0;
    (usage, device.host().0.allocated())
}

fn lost_and_brought_back(goes_on: impl FnOnce(&RecordingDevice, &MmuRegisters, Scene<'_>)) {
    let (device, privilege, registers) = bring_up(2).unwrap();
    let budget = Budget::new(64);
    let before = idle(&device);
    goes_on(&device, registers, Scene::new(&device, &privilege, &budget));
    assert_eq!(idle(&device), before);
    // The next one has all of it, and gives it back.
    assert!(!device.is_lost());
    Scene::new(&device, &privilege, &budget).gives_all_back();
    assert_eq!(idle(&device), before);
    device.shut_down().unwrap();
}

#[test]
fn a_lost_device_refuses_all_that_needs_it_and_takes_everything_back() {
    lost_and_brought_back(|device, registers, scene| {
        assert!(!device.is_lost());
        device.note_lost();
        assert!(device.is_lost());
        scene.refuses_all_that_needs_the_device(State::Lost);
        scene.refuses_requests(State::Lost);
        scene.gives_all_back();
        registers.reset();
        device.recover(DramContent::Unknown).unwrap();
    });
}

#[test]
fn a_file_that_outlived_a_reset_is_refused_for_ever_and_gives_everything_back() {
    lost_and_brought_back(|device, registers, scene| {
        device.note_lost();
        registers.reset();
        device.recover(DramContent::Unknown).unwrap();
        assert!(!device.is_lost());
        scene.refuses_all_that_needs_the_device(State::Reset);
        scene.refuses_requests(State::Reset);
        // Another loss is nothing to it, and another reset brings nothing back.
        device.note_lost();
        scene.refuses_requests(State::Reset);
        device.recover(DramContent::Scrubbed).unwrap();
        scene.refuses_all_that_needs_the_device(State::Reset);
        scene.gives_all_back();
    });
}

#[test]
fn a_device_that_does_not_answer_either_keeps_what_it_may_still_use() {
    lost_and_brought_back(|device, registers, scene| {
        device.note_lost();
        registers.lose();
        let Scene {
            context, at, view, ..
        } = scene;
        assert_eq!(
            dispatch(&context, &memory(OP_UNMAP, 0, [at.get(), 0, 0]).to_bytes()),
            Err(Errno::EIO)
        );
        assert_eq!(context.usage().quarantined, 1);
        assert_eq!(device.host().0.pinned(), 1);
        device.end_view(view).unwrap();
        let context = context.close().unwrap_err().into_context();
        // A recovery that fails leaves it lost.
        let failed = device.recover(DramContent::Unknown);
        assert!(matches!(failed, Err(BringUpError::Mmu(_))), "{failed:?}");
        assert!(device.is_lost());
        registers.reset();
        device.recover(DramContent::Unknown).unwrap();
        context.end_export(scene.export).unwrap();
        context.close().unwrap();
        device.unmap_window(scene.privilege, window().0).unwrap();
        device.settle_quarantine().unwrap();
    });
}

#[test]
fn users_are_told_once_that_the_device_is_lost_and_once_that_it_is_back() {
    use DeviceEvent::{DeviceLost, DeviceRecovered};
    let (device, ..) = bring_up(2).unwrap();
    let budget = Budget::new(0);
    let context = open_with(&device, &budget);
    assert!(device.note_lost());
    assert!(!device.note_lost());
    assert_eq!(told(&context), [DeviceLost]);
    // Nobody has anything to read, and nobody is told anything.
    assert!(!device.note_lost());
    assert_eq!(told(&context), []);
    device.recover(DramContent::Unknown).unwrap();
    assert_eq!(told(&context), [DeviceRecovered]);
    // Where nobody noted the loss, bringing the device back does.
    device.recover(DramContent::Unknown).unwrap();
    assert_eq!(told(&context), [DeviceLost, DeviceRecovered]);
    context.close().unwrap();
}

#[test]
#[cfg_attr(
    not(debug_assertions),
    ignore = "only debug builds tell the port of locks"
)]
fn a_device_that_is_lost_again_while_it_is_brought_back_stays_lost() {
    let (device, ..) = bring_up(2).unwrap();
    let device: &'static RecordingDevice = Box::leak(Box::new(device));
    let budget = Budget::new(0);
    let context = open_with(device, &budget);
    device.note_lost();
    let lose_again = move || assert!(!device.note_lost());
    AT_LOCK.set(Some((LockRank::HostMmu, Box::new(lose_again))));
    let failed = device.recover(DramContent::Unknown);
    assert_eq!(failed, Err(BringUpError::DeviceLost));
    assert!(AT_LOCK.take().is_none());
    assert!(device.is_lost());
    assert_eq!(told(&context), [DeviceEvent::DeviceLost]);
    device.recover(DramContent::Unknown).unwrap();
    assert!(!device.is_lost());
    context.close().unwrap();
}

#[test]
#[cfg_attr(
    not(debug_assertions),
    ignore = "only debug builds tell the port of locks"
)]
fn a_recovery_that_waited_for_another_one_brings_the_device_back_as_well() {
    let (device, ..) = bring_up(2).unwrap();
    let device: &'static RecordingDevice = Box::leak(Box::new(device));
    device.note_lost();
    let another = move || {
        device.recover(DramContent::Unknown).unwrap();
        assert!(!device.is_lost());
    };
    AT_LOCK.set(Some((LockRank::Space, Box::new(another))));
    device.recover(DramContent::Unknown).unwrap();
    assert!(!device.is_lost());
}

/// How much is scrubbed for a file that takes all of device memory.
fn scrubbed_for_all(device: &RecordingDevice) -> u64 {
    use std::cell::Cell;
    use std::rc::Rc;
    let scrubbed = Rc::new(Cell::new(0));
    let adds = Rc::clone(&scrubbed);
    AT_SCRUB.set(Some(Box::new(move |run| adds.set(adds.get() + run.len()))));
    let budget = Budget::new(0);
    let context = open_with(device, &budget);
    let all = u64::from(DRAM_PAGES) * DRAM_PAGE;
    let pack = context.allocate_dram(all, PIECES, PRIVATE).unwrap();
    AT_SCRUB.set(None);
    context.free_dram(pack).unwrap();
    context.close().unwrap();
    scrubbed.get() / DRAM_PAGE
}

/// Design, section 4.
#[test]
fn what_a_reset_left_in_device_memory_is_scrubbed_before_anybody_gets_it() {
    let pages = u64::from(DRAM_PAGES);
    let bring_up = || bring_up_with(2, DramContent::Scrubbed).unwrap().0;
    assert_eq!(scrubbed_for_all(&bring_up()), 0);
    let device = bring_up();
    device.recover(DramContent::Unknown).unwrap();
    let dram = device.usage().dram;
    assert_eq!((dram.clean, dram.dirty), (0, DRAM_PAGES));
    assert_eq!(scrubbed_for_all(&device), pages);
    // A reset that is known to have left nothing: clean pages are so still.
    let device = bring_up();
    device.recover(DramContent::Scrubbed).unwrap();
    assert_eq!(scrubbed_for_all(&device), 0);
    // Those that somebody used are not.
    device.recover(DramContent::Scrubbed).unwrap();
    assert_eq!(scrubbed_for_all(&device), pages);
}

#[test]
fn shared_memory_of_before_a_reset_is_mapped_by_nobody_after_it() {
    let (device, privilege, _) = bring_up(2).unwrap();
    let budget = Budget::new(0);
    let old = open_with(&device, &budget);
    let shared = |context: &RecordingContext<'_>| {
        let pack = context.allocate_dram(1, PIECES, Sharing::Shared);
        pack.unwrap()
    };
    let pack = shared(&old);
    device.recover(DramContent::Scrubbed).unwrap();
    let new = open_with(&device, &budget);
    let at = new.map_dram(pack, Wanted::Anywhere).unwrap();
    new.unmap(at).unwrap();
    new.close().unwrap();

    device.recover(DramContent::Unknown).unwrap();
    let new = open_with(&device, &budget);
    let before = (device.usage(), new.usage());
    let lost = Err(MapDramError::Pack(PackError::Lost));
    assert_eq!(new.map_dram(pack, Wanted::Anywhere), lost);
    assert_eq!((device.usage(), new.usage()), before);
    let run = device.dram_run(&privilege, old.owner(), pack);
    assert_eq!(run, Err(DramRunError::Pack(PackError::Lost)));
    // What is allocated now is as ever.
    let at = new.map_dram(shared(&new), Wanted::Anywhere).unwrap();
    new.unmap(at).unwrap();
    old.free_dram(pack).unwrap();
    old.close().unwrap();
    new.close().unwrap();
}
