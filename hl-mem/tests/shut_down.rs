//! The end of a device: who keeps it from ending, and what is left of it when nobody does.

/// The smallest port, which the guide shows.
#[path = "../src/guide/smallest_port.rs"]
pub mod smallest_port;

use hl_mem::device::{
    DeviceParts, PrivilegedWindow, ShutDown, ShutDownError, SpaceNodes, StillUsed, WindowMemory,
};
use hl_mem::dram::{Contiguity, DramContent, Sharing};
use hl_mem::mmu::{GoyaMmu, MmuError, Registers};
use hl_mem::profile::{Asic, Goya};
use hl_mem::va::Node;
use hl_mem::{Device, DeviceOptions, Wanted};
use mmu_core::{BusAddr, Run};

use smallest_port::{Machine, PAGE_BYTES, SmallestPort};

/// The register that enables the MMU (facts 9.1).
const ENABLE: u32 = 0x48_000C;

type Goyas = Device<'static, Goya, SmallestPort>;
type Refused = ShutDownError<'static, Goya, SmallestPort>;

/// The device of a machine does not end, and is as before.
fn refuses(device: Goyas, expected: StillUsed) -> Goyas {
    let before = device.usage();
    let refused: Refused = device.shut_down().unwrap_err();
    assert_eq!(refused.reason(), expected);
    assert!(refused.to_string().contains(&expected.to_string()));
    let device = refused.into_device();
    assert_eq!(device.usage(), before);
    device
}

#[test]
fn a_device_that_is_not_used_gives_everything_back_and_can_be_made_again() {
    let machine = Machine::new().unwrap();
    let (registers, tables, ram) = (machine.registers, machine.tables, machine.ram);
    machine.open().unwrap().close().unwrap();
    assert_eq!(registers.read(ENABLE), 1);
    let usage = machine.device.usage();
    let used = tables.usage().used();

    let end = machine.device.shut_down().unwrap();
    assert_eq!(registers.read(ENABLE), 0);
    assert_eq!(tables.usage().used(), 0);
    assert_eq!((end.buffers.len(), end.seats.len()), (8, 2));
    assert!(end.dram_mmu.is_none());

    let ShutDown {
        host,
        engines,
        buffers,
        seats,
        dram,
        scrubber,
        ..
    } = end;
    let parts = DeviceParts {
        host,
        engines,
        tables,
        privileged: SpaceNodes::each(|| [Node::EMPTY; 16]),
        buffers,
        seats,
        dram,
        scrubber,
        options: DeviceOptions::default(),
    };
    let mmu = |parking| GoyaMmu::new(registers, Goya::PROFILE.timeouts, parking);
    let (device, privilege) = Device::new(parts, mmu).unwrap();
    assert_eq!(device.usage(), usage);
    assert_eq!(tables.usage().used(), used);
    assert!(
        device
            .with_privileged_table(&machine.privilege, |_| ())
            .is_err()
    );
    device.with_privileged_table(&privilege, |_| ()).unwrap();
    device.shut_down().unwrap();
    assert_eq!(tables.usage().used(), 0);
    assert_eq!(ram.allocated(), 0);
}

#[test]
fn a_device_does_not_end_while_somebody_uses_it() {
    let mut machine = Machine::new().unwrap();
    let window = PrivilegedWindow::Firmware;
    let image = WindowMemory::Device(Run::new(BusAddr::new(0), PAGE_BYTES).unwrap());
    let mapped = machine.device.map_window(&machine.privilege, window, image);
    mapped.unwrap();
    machine.device = refuses(machine.device, StillUsed::Window);
    let unmapped = machine.device.unmap_window(&machine.privilege, window);
    unmapped.unwrap();

    // A view outlives its file, and an export.
    let context = machine.open().unwrap();
    let (block, _) = context
        .create_block(&machine.privilege, PAGE_BYTES)
        .unwrap();
    let view = context.mmap(block, PAGE_BYTES).unwrap();
    let memory = context.allocate_dram(1, Contiguity::Contiguous, Sharing::Private);
    let at = context.map_dram(memory.unwrap(), Wanted::Anywhere).unwrap();
    let export = context.export_dram(at, PAGE_BYTES, 0).unwrap();
    context.close().unwrap();
    machine.device = refuses(machine.device, StillUsed::Buffer);
    machine.device.end_view(view).unwrap();
    machine.device = refuses(machine.device, StillUsed::DeviceMemory);
    machine.device.end_export(export).unwrap();

    // What is in quarantine keeps it until the device says that it has forgotten it.
    let context = machine.open().unwrap();
    let (block, _) = context
        .create_block(&machine.privilege, PAGE_BYTES)
        .unwrap();
    machine.registers.lose();
    context.destroy_block(block).unwrap_err();
    // It was given up before: the close leaves nothing.
    assert_eq!(context.close().unwrap().quarantined_buffers, 0);
    machine.device = refuses(machine.device, StillUsed::Buffer);
    machine.registers.reset();
    machine.device.recover(DramContent::Unknown).unwrap();
    machine.device.settle_quarantine().unwrap();

    // The tables that a recovery emptied do not: it confirms them itself.
    let context = machine.open().unwrap();
    context
        .create_block(&machine.privilege, PAGE_BYTES)
        .unwrap();
    machine.device.recover(DramContent::Unknown).unwrap();
    context.close().unwrap();
    machine.device.recover(DramContent::Unknown).unwrap();

    // An MMU that does not answer may still walk the tables.
    machine.registers.lose();
    let used = machine.tables.usage().used();
    machine.device = refuses(machine.device, StillUsed::Mmu(MmuError::DeviceLost));
    assert_eq!(machine.tables.usage().used(), used);
    machine.registers.reset();
    machine.device.shut_down().unwrap();
    assert_eq!(machine.tables.usage().used(), 0);
    assert_eq!(machine.ram.allocated(), 0);
}

#[test]
fn a_context_that_was_dropped_keeps_its_seat_and_the_device() {
    let machine = Machine::new().unwrap();
    drop(machine.open().unwrap());
    let device = refuses(machine.device, StillUsed::Context);
    assert_eq!(device.usage().free_asids, 1);
}

#[test]
fn a_device_does_not_end_whose_recovery_failed_before_it_forgot_its_tables() {
    let machine = Machine::new().unwrap();
    machine.registers.lose();
    machine.device.recover(DramContent::Scrubbed).unwrap_err();
    let device = refuses(machine.device, StillUsed::Removal);
    machine.registers.reset();
    device.recover(DramContent::Scrubbed).unwrap();
    device.shut_down().unwrap();
    assert_eq!(machine.tables.usage().used(), 0);
}
