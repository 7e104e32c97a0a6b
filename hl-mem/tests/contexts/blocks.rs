//! Kernel buffers that do not come to be, or do not go.

use std::sync::atomic::{AtomicBool, Ordering};

use hl_mem::Device;
use hl_mem::buffer::BufferUsage;
use hl_mem::context::DestroyError;
use hl_mem::device::{BlockRangeError, BufferError, MapBufferError, Privilege, RetireError};
use hl_mem::mmu::MmuError;
use hl_mem::port::Engines;
use hl_mem::profile::Goya;
use hl_mem::{SpaceError, budget::Budget};
use mmu_core::{AddrRange, DeviceAddr};

use super::support::smallest_port::{Machine, NoEngines, PAGE_BYTES};
use super::support::{INVALIDATIONS, NoCache, TestPort, arena_tables, file_storage, parts};
use super::{Tables, map};

static BUDGET: Budget = Budget::unlimited();

/// Engines that do not stop while this is set.
#[derive(Debug)]
struct Busy(&'static AtomicBool);

// SAFETY: nothing ever works on a block (1), or under the ASID of a user (2).
unsafe impl Engines for Busy {
    type Error = &'static str;

    fn stop(&self, _block: AddrRange<DeviceAddr>) -> Result<(), &'static str> {
        match self.0.load(Ordering::Relaxed) {
            true => Err("they are busy"),
            false => Ok(()),
        }
    }
}

type Goyas<E = NoEngines> = Device<'static, Goya, TestPort<NoCache, Tables, E>>;

fn bring_up<E: Engines>(count: usize, engines: E, mmu: NoCache) -> (Goyas<E>, Privilege) {
    let tables = arena_tables(count, |region| region);
    Device::new(parts(tables, engines, 1), |_parking| mmu).unwrap()
}

#[test]
fn memory_of_a_block_that_there_are_no_tables_for_comes_back() {
    // Roots for the privileged space, a user and the parked ASIDs, and two for a walk of five.
    let (device, privilege) = bring_up(5, NoEngines, NoCache::new(3));
    let context = device.open((), &BUDGET, file_storage()).unwrap();
    let before = device.usage();
    for _ in 0..20 {
        let refused = context.create_block(&privilege, 3 * PAGE_BYTES);
        let no_tables = matches!(
            refused,
            Err(BufferError::Map(MapBufferError::Space(SpaceError::Tables(
                _
            ))))
        );
        assert!(no_tables, "{refused:?}");
        assert_eq!(device.host().allocated(), 0);
        assert_eq!(device.usage(), before);
    }
    context.close().unwrap();
}

#[test]
fn memory_of_a_block_that_the_device_may_have_seen_stays_until_it_has_forgotten_it() {
    static IS_LOST: AtomicBool = AtomicBool::new(false);
    let (device, privilege) = bring_up(16, NoEngines, NoCache::lost_while(3, &IS_LOST));
    let context = device.open((), &BUDGET, file_storage()).unwrap();
    let before = device.usage();
    IS_LOST.store(true, Ordering::Relaxed);
    let refused = context.create_block(&privilege, 3 * PAGE_BYTES);
    let lost = MapBufferError::Mmu(MmuError::DeviceLost);
    assert_eq!(refused, Err(BufferError::Map(lost)));
    let in_quarantine = BufferUsage {
        buffers: 1,
        quarantined: 1,
        ..BufferUsage::default()
    };
    assert_eq!(device.usage().buffers, in_quarantine);
    assert!(device.settle_quarantine().is_err());
    assert_eq!(device.host().allocated(), 3);

    IS_LOST.store(false, Ordering::Relaxed);
    device.settle_quarantine().unwrap();
    assert_eq!(device.host().allocated(), 0);
    assert_eq!(device.usage(), before);
    context.close().unwrap();
}

#[test]
fn the_name_of_a_block_that_is_gone_is_not_that_of_the_next_one() {
    let machine = Machine::new().unwrap();
    let context = machine.open().unwrap();
    let range = |id| machine.device.block_range(&machine.privilege, id);
    let (first, old) = context
        .create_block(&machine.privilege, PAGE_BYTES)
        .unwrap();
    assert!(range(old).is_ok());
    context.destroy_block(first).unwrap();
    assert_eq!(range(old), Err(BlockRangeError::Unmapped));
    let (second, new) = context
        .create_block(&machine.privilege, 2 * PAGE_BYTES)
        .unwrap();
    assert_eq!(range(old), Err(BlockRangeError::Unmapped));
    assert_eq!(range(new).map(|range| range.len()), Ok(2 * PAGE_BYTES));
    context.destroy_block(second).unwrap();
    context.close().unwrap();
}

#[test]
fn a_block_whose_producer_does_not_stop_stays_until_it_does() {
    static BUSY: AtomicBool = AtomicBool::new(false);
    let (device, privilege) = bring_up(16, Busy(&BUSY), NoCache::new(3));
    let before = device.usage();
    let context = device.open((), &BUDGET, file_storage()).unwrap();
    let blocks = [1, 2, 3].map(|pages| {
        let (block, _) = context
            .create_block(&privilege, pages * PAGE_BYTES)
            .unwrap();
        block
    });
    BUSY.store(true, Ordering::Relaxed);
    let busy = RetireError::Engines("they are busy");
    let refused = context.destroy_block(blocks[0]);
    assert_eq!(refused, Err(DestroyError::Retire(busy)));
    // The other two are left behind.
    let left = context.close().unwrap();
    assert_eq!((left.handles, left.quarantined_buffers), (2, 2));
    assert_eq!(device.settle_quarantine(), Err(busy));
    assert_eq!(device.usage().buffers.buffers, 3);
    assert_eq!(device.host().allocated(), 6);

    BUSY.store(false, Ordering::Relaxed);
    device.settle_quarantine().unwrap();
    assert_eq!(device.host().allocated(), 0);
    assert_eq!(device.usage(), before);
}

#[test]
fn a_block_goes_with_its_file_as_soon_as_the_device_answers() {
    static IS_LOST: AtomicBool = AtomicBool::new(false);
    let (device, privilege) = bring_up(16, NoEngines, NoCache::lost_while(3, &IS_LOST));
    let before = device.usage();
    for is_lost in [false, true] {
        let context = device.open((), &BUDGET, file_storage()).unwrap();
        context.create_block(&privilege, PAGE_BYTES).unwrap();
        map(&context, PAGE_BYTES);
        IS_LOST.store(is_lost, Ordering::Relaxed);
        let left = match context.close() {
            Ok(left) => left,
            Err(refused) => {
                assert!(is_lost);
                let reason = refused.reason();
                assert!(matches!(reason, RetireError::Unconfirmed(_)), "{reason}");
                assert!(refused.to_string().ends_with(&reason.to_string()));
                assert_eq!(device.usage().buffers.quarantined, 1);
                IS_LOST.store(false, Ordering::Relaxed);
                refused.into_context().close().unwrap()
            }
        };
        assert_eq!((left.handles, left.mappings), (1, 1));
        assert_eq!(left.quarantined_buffers, 0);
        assert_eq!((device.host().allocated(), device.host().pinned()), (0, 0));
        assert_eq!(device.usage(), before);
    }
}

#[test]
fn a_device_that_is_lost_is_asked_once_for_all_blocks_of_a_file() {
    static IS_LOST: AtomicBool = AtomicBool::new(false);
    let (device, privilege) = bring_up(16, NoEngines, NoCache::lost_while(3, &IS_LOST));
    let context = device.open((), &BUDGET, file_storage()).unwrap();
    for _ in 0..3 {
        context.create_block(&privilege, PAGE_BYTES).unwrap();
    }
    IS_LOST.store(true, Ordering::Relaxed);
    // Each time, it would be waited for until time is up.
    let before = INVALIDATIONS.get();
    assert_eq!(context.close().unwrap().quarantined_buffers, 3);
    assert_eq!(INVALIDATIONS.get() - before, 1);
}

#[test]
fn buffers_their_views_and_their_other_uses_are_counted() {
    let machine = Machine::new().unwrap();
    let context = machine.open().unwrap();
    let counts = || {
        let buffers = machine.device.usage().buffers;
        (buffers.buffers, buffers.views, buffers.holds)
    };
    assert_eq!(counts(), (0, 0, 0));
    let first = context.create_command_buffer(PAGE_BYTES, true).unwrap();
    let second = context.create_command_buffer(PAGE_BYTES, false).unwrap();
    assert_eq!(counts(), (2, 0, 1));
    // The driver writes it.
    context.create_timestamps(1).unwrap();
    assert_eq!(counts(), (3, 0, 2));
    let views = [first, second].map(|buffer| context.mmap(buffer, PAGE_BYTES).unwrap());
    assert_eq!(counts(), (3, 2, 2));
    context.close().unwrap();
    assert_eq!(counts(), (2, 2, 0));
    for view in views {
        machine.device.end_view(view).unwrap();
    }
    assert_eq!(counts(), (0, 0, 0));
}

#[test]
fn a_view_tells_how_much_of_it_its_user_has_left() {
    let machine = Machine::new().unwrap();
    let context = machine.open().unwrap();
    let buffer = context
        .create_command_buffer(5 * PAGE_BYTES, false)
        .unwrap();
    let view = context.mmap(buffer, 5 * PAGE_BYTES).unwrap();
    assert_eq!(view.pages(), 5);
    // The middle goes: the copy has the end, and what is left the beginning.
    let end = machine
        .device
        .copy_view(&view, 2, view.view().clone())
        .unwrap();
    let view = machine.device.end_pages(view, 3).unwrap().unwrap();
    assert_eq!((view.pages(), end.pages()), (2, 2));
    assert!(machine.device.end_pages(view, 2).unwrap().is_none());
    assert_eq!(machine.device.usage().buffers.views, 1);
    machine.device.end_view(end).unwrap();
    context.close().unwrap();
    assert_eq!(machine.ram.allocated(), 0);
}
