//! What one device handed out is refused by another of the same kind, which is as before.

/// The smallest port, which the guide shows.
#[path = "../src/guide/smallest_port.rs"]
pub mod smallest_port;

use hl_mem::context::{DramExport, UnmapUserError};
use hl_mem::device::BlockRangeError;
use hl_mem::dram::{Contiguity, PackHandle, Sharing};
use hl_mem::profile::Goya;
use hl_mem::{Context, Wanted};
use mmu_core::DeviceAddr;

use smallest_port::{Machine, PAGE_BYTES, SmallestPort};

type File<'c> = Context<'c, 'static, Goya, SmallestPort>;

#[test]
fn a_view_and_a_block_of_one_device_are_refused_by_another() {
    let (one, two) = (Machine::new().unwrap(), Machine::new().unwrap());
    let (of_one, of_two) = (one.open().unwrap(), two.open().unwrap());
    // The first block of each, which has the same place there.
    let create = |context: &File<'_>, machine: &Machine| {
        let (handle, block) = context
            .create_block(&machine.privilege, 2 * PAGE_BYTES)
            .unwrap();
        (context.mmap(handle, 2 * PAGE_BYTES).unwrap(), handle, block)
    };
    let (view, _, block) = create(&of_one, &one);
    let (same, handle, _) = create(&of_two, &two);
    // From here on a view is all that keeps the pages of the second.
    of_two.destroy_block(handle).unwrap();
    let usage = || (one.device.usage(), two.device.usage(), two.ram.allocated());
    let before = usage();

    let range = two.device.block_range(&two.privilege, block);
    assert_eq!(range, Err(BlockRangeError::Unmapped));
    let copy = two.device.copy_view(&view, 1, view.view().clone());
    assert!(copy.is_err());
    let view = two.device.end_pages(view, 1).unwrap_err().into_inner();
    assert_eq!(view.pages(), 2);
    let view = two.device.end_pages(view, 2).unwrap_err().into_inner();
    let refused = two.device.end_view(view).unwrap_err();
    assert_eq!(refused.to_string(), "the view is of another device");
    assert_eq!(usage(), before);

    one.device.end_view(refused.into_inner()).unwrap();
    two.device.end_view(same).unwrap();
    assert_eq!(two.ram.allocated(), 0);
    of_one.close().unwrap();
    of_two.close().unwrap();
}

/// A page of device memory, mapped and exported.
fn export(context: &File<'_>) -> (PackHandle, DeviceAddr, DramExport) {
    let memory = context.allocate_dram(1, Contiguity::Contiguous, Sharing::Private);
    let memory = memory.unwrap();
    let at = context.map_dram(memory, Wanted::Anywhere).unwrap();
    let export = context.export_dram(at, PAGE_BYTES, 0).unwrap();
    (memory, at, export)
}

#[test]
fn an_export_ends_where_it_began_or_after_its_file_where_its_device_is() {
    let (one, two) = (Machine::new().unwrap(), Machine::new().unwrap());
    // The first context of each, which is the same owner there.
    let (of_one, of_two) = (one.open().unwrap(), two.open().unwrap());
    let (_, _, of_file_one) = export(&of_one);
    let (memory, at, of_file_two) = export(&of_two);
    let usage = || (one.device.usage(), two.device.usage());
    let before = usage();

    let refused = of_two.end_export(of_file_one).unwrap_err();
    let of_file_one = two.device.end_export(refused).unwrap_err();
    assert_eq!(
        of_two.unmap(at),
        Err(UnmapUserError::Exported { at }),
        "its own export is there"
    );
    // Not while its file can.
    let of_file_two = two.device.end_export(of_file_two).unwrap_err();
    assert_eq!(usage(), before);

    of_two.end_export(of_file_two).unwrap();
    of_two.unmap(at).unwrap();
    of_two.free_dram(memory).unwrap();
    assert_eq!(of_two.close().unwrap(), Default::default());
    of_one.close().unwrap();
    assert_ne!(one.device.usage().dram.orphans, 0);
    one.device.end_export(of_file_one).unwrap();
    assert_eq!(one.device.usage().dram.orphans, 0);
}
