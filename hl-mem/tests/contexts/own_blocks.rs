//! Blocks that the driver makes for itself.

use hl_mem::device::{
    BlockPages, BlockRangeError, BufferError, OwnBlockError, RetireError, StillUsed,
};
use hl_mem::dram::DramContent;
use mmu_core::DeviceAddr;

use super::support::smallest_port::{Machine, PAGE_BYTES};

#[test]
fn a_block_of_the_drivers_own_is_mapped_without_a_file_until_it_is_destroyed() {
    let machine = Machine::new().unwrap();
    let (device, privilege) = (&machine.device, &machine.privilege);
    let before = device.usage();
    for pages in [BlockPages::Scattered, BlockPages::Contiguous] {
        let block = device.create_block(privilege, 2 * PAGE_BYTES + 1, pages);
        let block = block.unwrap();
        let range = device.block_range(privilege, block).unwrap();
        assert_eq!(range.len(), 3 * PAGE_BYTES);
        // Page by page what the host has behind it.
        let leaf = |at: DeviceAddr| {
            let found = device.with_privileged_table(privilege, |table| table.query(at).unwrap());
            found.unwrap().bus.get()
        };
        let first = leaf(range.start());
        let third = leaf(range.start().checked_add(2 * PAGE_BYTES).unwrap());
        if pages == BlockPages::Contiguous {
            assert_eq!(third, first + 2 * PAGE_BYTES);
        }
        assert_eq!(machine.ram.allocated(), 3);
        device.with_block(privilege, block, |_| ()).unwrap();
        // Not in quarantine: it is the driver's.
        device.settle_quarantine().unwrap();
        assert_eq!(device.usage().buffers.buffers, 1);

        device.destroy_block(privilege, block).unwrap();
        assert_eq!((device.usage(), machine.ram.allocated()), (before, 0));
        let gone = BlockRangeError::Unmapped;
        assert_eq!(device.block_range(privilege, block), Err(gone));
        let again = device.destroy_block(privilege, block);
        assert_eq!(again, Err(OwnBlockError::Unknown));
        let looked = device.with_block(privilege, block, |_| ());
        assert_eq!(looked, Err(OwnBlockError::Unknown));
    }
}

#[test]
fn a_block_that_a_handle_names_is_none_of_the_drivers_own() {
    let (machine, other) = (Machine::new().unwrap(), Machine::new().unwrap());
    let (device, privilege) = (&machine.device, &machine.privilege);
    let context = machine.open().unwrap();
    let (handle, named) = context.create_block(privilege, PAGE_BYTES).unwrap();
    let before = device.usage();
    let unknown = OwnBlockError::Unknown;
    assert_eq!(device.destroy_block(privilege, named), Err(unknown));
    assert_eq!(device.with_block(privilege, named, |_| ()), Err(unknown));
    let foreign = device.destroy_block(&other.privilege, named);
    assert_eq!(foreign, Err(OwnBlockError::ForeignPrivilege));
    let foreign = device.with_block(&other.privilege, named, |_| ());
    assert_eq!(foreign, Err(OwnBlockError::ForeignPrivilege));
    let foreign = device.create_block(&other.privilege, PAGE_BYTES, BlockPages::Scattered);
    assert_eq!(foreign, Err(BufferError::ForeignPrivilege));
    for bytes in [0, (1 << 32) + 1, u64::MAX] {
        let refused = device.create_block(privilege, bytes, BlockPages::Scattered);
        assert_eq!(refused, Err(BufferError::Size));
    }
    assert_eq!(device.usage(), before);
    context.destroy_block(handle).unwrap();
    context.close().unwrap();
}

#[test]
fn a_block_of_the_drivers_own_outlives_what_the_device_does_not_confirm_and_keeps_it_from_ending() {
    let machine = Machine::new().unwrap();
    let (device, privilege) = (&machine.device, &machine.privilege);
    let own = || device.create_block(privilege, PAGE_BYTES, BlockPages::Scattered);
    let (stuck, other) = (own().unwrap(), own().unwrap());
    machine.registers.lose();
    let refused = device.destroy_block(privilege, stuck);
    let unconfirmed = matches!(
        refused,
        Err(OwnBlockError::Retire(RetireError::Unconfirmed(_)))
    );
    assert!(unconfirmed, "{refused:?}");
    assert_eq!(device.usage().buffers.quarantined, 1);
    machine.registers.reset();
    device.recover(DramContent::Scrubbed).unwrap();
    assert_eq!(device.usage().buffers.quarantined, 0);
    let lost = device.block_range(privilege, other);
    assert_eq!(lost, Err(BlockRangeError::Unmapped));
    let refused = machine.device.shut_down().unwrap_err();
    assert_eq!(refused.reason(), StillUsed::Buffer);
    let device = refused.into_device();
    device.destroy_block(privilege, other).unwrap();
    assert_eq!(machine.ram.allocated(), 0);
    device.shut_down().unwrap();
}
