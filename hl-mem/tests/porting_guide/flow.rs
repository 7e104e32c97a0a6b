//! Every call of the library in which a method of the port is called.

use std::cell::Cell;
use std::num::NonZeroU64;

use hl_mem::Wanted;
use hl_mem::budget::Budget;
use hl_mem::buffer::BufferSlot;
use hl_mem::context::{Context, ContextStorage, MappingSlot, TimestampPlace, TimestampStorage};
use hl_mem::device::{
    BringUpError, Device, DeviceOptions, DeviceParts, Privilege, PrivilegedWindow, RegisterBlock,
    Seat, SpaceNodes, WindowMemory,
};
use hl_mem::dram::{
    Contiguity, DramContent, DramPool, DramRegion, PackRecord, PageRecord, Sharing,
};
use hl_mem::events::EventSlot;
use hl_mem::handle::HandleSlot;
use hl_mem::mmu::{GoyaMmu, MmuError};
use hl_mem::profile::{Asic, Goya};
use hl_mem::timestamps::{CounterSlot, TimestampSlot, WaitSlot};
use hl_mem::uapi::{FLAG_USERPTR, MemoryInput, OP_EXPORT, OP_MAP, dispatch, dispatch_with};
use hl_mem::va::Node;
use mmu_core::{BusAddr, DeviceAddr, Run};

use super::recording::{Files, Noting, NotingMmu, RecordingPort, SlowRegisters, Tables};
use super::support::bus_tables;
use super::support::smallest_port::{
    Machine, MmuRegisters, NoBytes, NoEngines, PAGE_BYTES, Ram, USER_BASE, storage,
};

pub(crate) type RecordingDevice = Device<'static, Goya, RecordingPort>;
pub(crate) type RecordingContext<'c> = Context<'c, 'static, Goya, RecordingPort>;

static BUDGET: Budget = Budget::new(64);
static REGISTER_BLOCKS: [RegisterBlock; 1] = [RegisterBlock {
    address: 0x1000,
    registers: match Run::const_bus(BusAddr::new(0x10_0000), PAGE_BYTES) {
        Some(run) => run,
        None => panic!("not empty"),
    },
}];

pub(crate) fn nodes() -> SpaceNodes<RecordingPort> {
    SpaceNodes::each(|| vec![Node::EMPTY; 16])
}

/// Pages of device memory.
pub(crate) const DRAM_PAGES: u32 = 4;

/// Brings a device up whose MMU has three ASIDs. What is in its memory is not known, so that it is
/// scrubbed.
pub(crate) fn bring_up(
    seats: usize,
) -> Result<(RecordingDevice, Privilege, &'static MmuRegisters), BringUpError> {
    bring_up_with(seats, DramContent::Unknown)
}

pub(crate) fn bring_up_with(
    seats: usize,
    content: DramContent,
) -> Result<(RecordingDevice, Privilege, &'static MmuRegisters), BringUpError> {
    let ram: &Ram = Box::leak(Box::default());
    let registers: &MmuRegisters = Box::leak(Box::default());
    registers.reset();
    let slow: &SlowRegisters = Box::leak(Box::new(SlowRegisters {
        registers,
        busy: Cell::new(None),
    }));
    let tables: Tables = bus_tables::<Goya, _>(Noting(Default::default()));
    let dram = Goya::PROFILE.dram;
    let pool = DramPool::new(
        DramRegion::new(dram.user_start, dram.page_bytes, DRAM_PAGES).unwrap(),
        storage(DRAM_PAGES as usize, || PageRecord::EMPTY),
        storage(4, || PackRecord::EMPTY),
        content,
    );
    let parts = DeviceParts {
        host: Noting(ram),
        engines: Noting(NoEngines),
        tables,
        privileged: nodes(),
        buffers: storage(8, BufferSlot::new),
        seats: storage(seats, || Seat::new([EventSlot::new(); 8])),
        dram: pool.unwrap(),
        scrubber: Noting(NoBytes),
        options: DeviceOptions {
            register_blocks: &REGISTER_BLOCKS,
            peer_window: dram.user_memory(),
            ..DeviceOptions::default()
        },
    };
    let mmu = |parking| {
        let driver = GoyaMmu::new(slow, Goya::PROFILE.timeouts, parking);
        NotingMmu::new("Invalidate and MmuControl", driver)
    };
    let (device, privilege) = Device::new(parts, mmu)?;
    Ok((device, privilege, registers))
}

pub(crate) fn open(device: &RecordingDevice) -> RecordingContext<'_> {
    open_with(device, &BUDGET)
}

pub(crate) fn open_with<'c>(
    device: &'c RecordingDevice,
    budget: &'c Budget,
) -> RecordingContext<'c> {
    let slots = || (0..16).map(|_| TimestampSlot::new()).collect();
    let storage = ContextStorage {
        nodes: nodes(),
        mappings: storage(16, MappingSlot::new),
        handles: storage(16, HandleSlot::new),
        timestamps: TimestampStorage {
            pools: storage(4, || TimestampPlace::new(slots())),
            waits: storage(16, WaitSlot::new),
            counters: storage(4, CounterSlot::new),
        },
    };
    device.open((), budget, storage).unwrap()
}

pub(crate) fn time(now: u64) -> NonZeroU64 {
    NonZeroU64::new(now).unwrap()
}

fn map_user(context: &RecordingContext<'_>) -> DeviceAddr {
    let map = MemoryInput {
        arguments: [USER_BASE, 0, 4 * PAGE_BYTES],
        op: OP_MAP,
        flags: FLAG_USERPTR,
        ..MemoryInput::default()
    };
    DeviceAddr::new(dispatch(context, &map.to_bytes()).unwrap().value)
}

/// Makes each of these calls, as far as the port is concerned.
pub(crate) fn everything() {
    let (device, privilege, registers) = bring_up(2).unwrap();
    let context = open(&device);
    blocks_and_views(&device, &privilege, &context);
    timestamps(&device, &context);
    device_memory(&context);
    lost_and_recovered(&device, registers, context);
    windows(&device, &privilege);
    device.shut_down().unwrap();
    failing_bring_up();
    the_port_in_the_guide();
}

fn blocks_and_views(
    device: &RecordingDevice,
    privilege: &Privilege,
    context: &RecordingContext<'_>,
) {
    let (block, id) = context.create_block(privilege, 2 * PAGE_BYTES).unwrap();
    let range = device.block_range(privilege, id).unwrap();
    let found = device.with_privileged_table(privilege, |table| table.query(range.start()));
    found.unwrap().unwrap();
    context
        .map_block(privilege, block, Wanted::Anywhere)
        .unwrap();
    let view = context.mmap(block, 2 * PAGE_BYTES).unwrap();
    let copy = device.copy_view(&view, 1, view.view().clone()).unwrap();
    device.end_view(copy).unwrap();
    let view = device.end_pages(view, 1).unwrap().unwrap();
    context.destroy_block(block).unwrap();
    assert!(device.end_pages(view, 1).unwrap().is_none());

    let buffer = context.create_command_buffer(PAGE_BYTES, true).unwrap();
    let view = context.mmap(buffer, PAGE_BYTES).unwrap();
    device.end_view(view).unwrap();
    context.destroy_command_buffer(buffer).unwrap();

    let (registers, bytes) = context.register_block(0x1000).unwrap();
    assert!(context.mmap(registers, bytes).is_err());
}

fn windows(device: &RecordingDevice, privilege: &Privilege) {
    let image = Run::new(BusAddr::new(0), PAGE_BYTES).unwrap();
    let (window, image) = (PrivilegedWindow::Firmware, WindowMemory::Device(image));
    device.map_window(privilege, window, image).unwrap();
    device.unmap_window(privilege, window).unwrap();
}

fn timestamps(device: &RecordingDevice, context: &RecordingContext<'_>) {
    let pool = context.create_timestamps(4).unwrap();
    let view = context.mmap(pool, PAGE_BYTES).unwrap();
    context
        .register_timestamp(pool, 0, (0, 1), 0, time(1))
        .unwrap();
    // The last registration of a pool that is gone gives its memory up.
    context.destroy_timestamps(pool).unwrap();
    device.end_view(view).unwrap();
    assert_eq!(context.counter_reached(0, 1, time(2)).unwrap().completed, 1);
    let pool = context.create_timestamps(4).unwrap();
    context.destroy_timestamps(pool).unwrap();
    assert_eq!(device.usage().buffers.buffers, 0);
    // This one is left for the end.
    context.create_timestamps(4).unwrap();
}

fn device_memory(context: &RecordingContext<'_>) {
    let memory = context.allocate_dram(1, Contiguity::Scattered, Sharing::Private);
    let at = context.map_dram(memory.unwrap(), Wanted::Anywhere).unwrap();
    let export = MemoryInput {
        arguments: [at.get(), PAGE_BYTES, 0],
        op: OP_EXPORT,
        ..MemoryInput::default()
    };
    let mut files = Files::default();
    dispatch_with(context, &export.to_bytes(), &mut files).unwrap();
    context.end_export(files.0.pop().unwrap()).unwrap();
    context.unmap(at).unwrap();
}

fn lost_and_recovered(
    device: &RecordingDevice,
    registers: &MmuRegisters,
    context: RecordingContext<'_>,
) {
    let at = map_user(&context);
    context.unmap(at).unwrap();
    assert_eq!(device.report_faults(|_| {}).unwrap().taken, 0);

    let at = map_user(&context);
    map_user(&context);
    registers.lose();
    context.unmap(at).unwrap_err();
    registers.reset();
    device.recover(DramContent::Unknown).unwrap();
    context.settle_quarantine().unwrap();
    let left = context.close().unwrap();
    assert_eq!((left.mappings, left.handles, left.dram), (1, 2, 1));
    assert_eq!(BUDGET.charged(), 0);
}

fn failing_bring_up() {
    let error = bring_up(3).err().unwrap();
    let out_of_range = matches!(error, BringUpError::Mmu(MmuError::AsidOutOfRange { .. }));
    assert!(out_of_range, "{error}");
}

/// The port that the guide shows, used as its chapters use it.
fn the_port_in_the_guide() {
    let machine = Machine::new().unwrap();
    let context = machine.open().unwrap();
    context
        .create_block(&machine.privilege, PAGE_BYTES)
        .unwrap();
    context.close().unwrap();
    assert_eq!(machine.ram.allocated(), 0);
    assert_eq!(machine.tables.usage().used(), 4);
}
