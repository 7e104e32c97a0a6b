//! `hl-mem` but for what is built on page tables: addresses, handles, device memory, budgets,
//! the drivers of the MMUs, and the parser of requests.

#![no_std]
#![no_main]

use core::time::Duration;

use hl_firmware_size::{any, opaque, slice, used};
use hl_mem::Owner;
use hl_mem::asid::Asid;
use hl_mem::budget::Budget;
use hl_mem::dram::{
    Contiguity, DramContent, DramHold, DramPool, DramRegion, PackHandle, PackRecord, PageRecord,
    Scrub, Sharing,
};
use hl_mem::handle::{HandleKind, HandleSlot, HandleTable, RawHandle};
use hl_mem::mmu::{
    Gaudi2DramMmu, Gaudi2HostMmu, GaudiMmu, GoyaMmu, MmuControl, PollBudget, Registers, Timeouts,
};
use hl_mem::profile::{Asic, Gaudi, Gaudi2, Goya};
use hl_mem::uapi::{Errno, MemoryInput, Request};
use hl_mem::va::{Node, Placement, VaAllocator};
use mmu_core::{BusAddr, DeviceAddr, Run, Stale};

struct Device;

// SAFETY: the image is never run.
unsafe impl Registers for Device {
    type Deadline = PollBudget;

    fn read(&self, offset: u32) -> u32 {
        used(offset);
        any() as u32
    }

    fn write(&self, offset: u32, value: u32) {
        used((offset, value));
    }

    fn deadline(&self, timeout: Duration) -> PollBudget {
        PollBudget::new(timeout.subsec_micros())
    }

    fn pause(&self, deadline: &mut PollBudget) -> bool {
        deadline.spend()
    }
}

impl Scrub for Device {
    type Error = ();

    fn scrub(&mut self, run: Run) -> Result<(), ()> {
        used(run);
        if any() == 0 { Err(()) } else { Ok(()) }
    }
}

fn drive<M: MmuControl>(mmu: &mut M) -> Option<()> {
    let asid = Asid::new(any() as u16)?;
    used((
        mmu.enable(),
        mmu.disable(),
        mmu.set_root(asid, BusAddr::new(any())),
    ));
    used((
        mmu.park(asid),
        mmu.announce(),
        mmu.invalidate_all(),
        mmu.take_fault(),
    ));
    used(mmu.invalidate(opaque::<Stale>()));
    Some(())
}

#[inline(never)]
fn mmus() -> Option<()> {
    let timeouts: Timeouts = *opaque();
    let parking = BusAddr::new(any());
    drive(&mut GoyaMmu::<Device, 4>::new(Device, timeouts, parking))?;
    drive(&mut GaudiMmu::<Device, 4>::new(Device, timeouts, parking))?;
    drive(opaque::<Gaudi2HostMmu<Device, 4>>())?;
    drive(opaque::<Gaudi2DramMmu<Device, 6, 4>>())?;
    drive(opaque::<Gaudi2DramMmu<Device, 5, 4>>())?;
    Some(())
}

type Handles = HandleTable<u64, &'static mut [HandleSlot<u64>]>;

#[inline(never)]
fn handles() -> Option<()> {
    used(HandleTable::new(slice::<HandleSlot<u64>>(), any() as u32));
    let table = opaque::<Handles>();
    let kind: HandleKind = *opaque();
    let (a, b) = (table.reserve(kind).ok()?, table.reserve(kind).ok()?);
    used((table.publish(a, any()), table.cancel(b)));
    let handle = RawHandle::new(any());
    used((handle.kind(), table.get(handle, kind).copied()));
    used((
        table.get_mut(handle, kind).copied(),
        table.remove(handle, kind),
    ));
    table.iter().for_each(used);
    table.drain().for_each(used);
    used((
        table.live(),
        table.reserved(),
        table.retired(),
        table.capacity(),
    ));
    Some(())
}

#[inline(never)]
fn addresses<A: Asic>() -> Option<()> {
    let nodes = || slice::<Node>();
    used(VaAllocator::new(nodes(), &A::PROFILE.host.layout()));
    let allocator = opaque::<VaAllocator<&'static mut [Node]>>();
    let placement: Placement = *opaque();
    let block = allocator.allocate(any(), placement).ok()?;
    used(block.range());
    if let Err(foreign) = allocator.free(block) {
        used(foreign.into_block());
    }
    used((
        allocator.region(),
        allocator.used(),
        allocator.free_bytes(),
        allocator.largest(),
    ));
    used((
        allocator.outstanding(),
        allocator.capacity(),
        allocator.is_whole(),
    ));
    allocator.free_extents().for_each(used);
    used((
        A::PROFILE.device_view(BusAddr::new(any())),
        A::PROFILE.root_tables(),
    ));
    used(A::PROFILE.dram.user_memory());
    Some(())
}

#[inline(never)]
fn device_memory() -> Option<()> {
    let region = DramRegion::new(BusAddr::new(any()), any(), any() as u32).ok()?;
    let (pages, packs) = (slice::<PageRecord>(), slice::<PackRecord>());
    used(DramPool::new(region, pages, packs, DramContent::Unknown));
    let pool = opaque::<DramPool<'static>>();
    let (owner, handle) = (Owner::new(any() as u32), PackHandle::new(any()));
    let (contiguity, sharing): (Contiguity, Sharing) = (*opaque(), *opaque());
    used(pool.allocate(owner, any(), contiguity, sharing));
    used((pool.free(handle, owner), pool.release_owner(owner)));
    let hold: DramHold = pool.hold(handle, owner).ok()?;
    used(pool.hold_again(&hold));
    pool.runs(&hold)?.for_each(used);
    pool.export_range(&hold, any(), any()).ok()?.for_each(used);
    used(pool.release(hold));
    let run = pool.next_dirty(any() as u32)?;
    match pool.take_dirty(run)?.scrub(&mut Device) {
        Ok(clean) => used(pool.return_scrubbed(clean)),
        Err(failed) => used(pool.return_dirty(failed.dirty)),
    }
    used((pool.region(), pool.usage(), pool.usage_of(owner)));
    pool.packs().for_each(used);
    Some(())
}

#[inline(never)]
fn requests() {
    let budget = opaque::<Budget>();
    if let Ok(charge) = budget.charge(any() as usize) {
        used(charge.pages());
        used(budget.refund(charge));
    }
    used((budget.charged(), budget.limit()));
    if let Some(input) = MemoryInput::from_bytes(slice()) {
        used((Request::parse(&input, 4096), input.to_bytes()));
    }
    let errno: Errno = *opaque();
    used((errno.get(), errno.name(), DeviceAddr::new(any())));
}

/// The entry, which has the linker keep everything.
#[unsafe(no_mangle)]
extern "C" fn _start() {
    used((mmus(), handles(), device_memory()));
    used((
        addresses::<Goya>(),
        addresses::<Gaudi>(),
        addresses::<Gaudi2<6>>(),
    ));
    requests();
}
