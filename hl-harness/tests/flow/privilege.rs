//! The privilege of one device is none for another.

use hl_harness::machine::{Machine, Model};
use hl_mem::Wanted;
use hl_mem::budget::Budget;
use hl_mem::device::{
    BlockRangeError, BufferError, DramRunError, ForeignPrivilege, MapBufferError, MapWindowError,
    Privilege, PrivilegedWindow, UnmapWindowError, WindowMemory,
};
use hl_mem::dram::{Contiguity, Sharing};
use hl_mem::profile::{Gaudi, Gaudi2, Goya};
use mmu_core::{BusAddr, DeviceAddr, Run};

use crate::rig::machine;

/// Every call that takes a privilege, on one machine with the privilege of another.
fn everything<A: Model>(machine: &Machine<'_, '_, A>, foreign: &Privilege) {
    let (device, own) = (&machine.device, &machine.privilege);
    let (budget, process) = (Budget::unlimited(), machine.spawn());
    let mut storage = machine.storage();
    let context = machine.open(&process, &budget, &mut storage).unwrap();
    let (handle, block) = context.create_block(own, 4096).unwrap();
    let pack = context.allocate_dram(1, Contiguity::Contiguous, Sharing::Private);
    let pack = pack.unwrap();
    let window = PrivilegedWindow::Processor;
    let memory = WindowMemory::Device(Run::new(BusAddr::new(0), 4096).unwrap());
    let occupied = device.map_window(own, window, memory).is_ok();
    let doorbell = A::PROFILE.host.fixed.first().map(|window| window.start());
    let doorbell = doorbell.unwrap_or(DeviceAddr::new(0));

    let before = (machine.counters(), context.usage());
    let created = context.create_block(foreign, 4096);
    assert_eq!(created, Err(BufferError::ForeignPrivilege));
    let mapped = context.map_block(foreign, handle, Wanted::Anywhere);
    assert_eq!(mapped, Err(MapBufferError::ForeignPrivilege));
    let mapped = context.map_window(foreign, doorbell, memory);
    assert_eq!(mapped, Err(MapWindowError::ForeignPrivilege));
    let mapped = device.map_window(foreign, PrivilegedWindow::Firmware, memory);
    assert_eq!(mapped, Err(MapWindowError::ForeignPrivilege));
    let unmapped = device.unmap_window(foreign, window);
    assert_eq!(unmapped, Err(UnmapWindowError::ForeignPrivilege));
    let range = device.block_range(foreign, block);
    assert_eq!(range, Err(BlockRangeError::ForeignPrivilege));
    let run = device.dram_run(foreign, context.owner(), pack);
    assert_eq!(run, Err(DramRunError::ForeignPrivilege));
    let looked = device.with_privileged_table(foreign, |_| panic!("it is not shown"));
    assert_eq!(looked, Err(ForeignPrivilege));
    let looked = device.inspect(foreign, &mut |_| panic!("it is not shown"));
    assert_eq!(looked, Err(ForeignPrivilege));
    assert_eq!((machine.counters(), context.usage()), before);

    // With its own, all of this is there as it was.
    device.block_range(own, block).unwrap();
    device.dram_run(own, context.owner(), pack).unwrap();
    let again = device.map_window(own, window, memory);
    assert_eq!(again == Err(MapWindowError::Occupied), occupied);
    device.unmap_window(own, window).unwrap();
    context.close().unwrap();
}

fn two_machines<A: Model>() {
    machine::<A>(|one| {
        machine::<A>(|two| {
            everything(one, &two.privilege);
            everything(two, &one.privilege);
        });
    });
}

#[test]
fn the_privilege_of_one_device_is_refused_by_another_of_the_same_kind_and_changes_nothing() {
    two_machines::<Goya>();
    two_machines::<Gaudi>();
    two_machines::<Gaudi2<6>>();
}
