//! `hl-mem` as a driver uses it: a device, its contexts and the ioctl, for one ASIC, with a port
//! that does nothing.

#![no_std]
#![no_main]

use core::num::NonZeroU64;
use core::time::Duration;

use hl_firmware_size::{any, opaque, slice, used};
use hl_mem::budget::Budget;
use hl_mem::buffer::ViewPolicy;
use hl_mem::context::{Context, ContextStorage, DramExport, TimestampStorage};
use hl_mem::device::{Device, DeviceParts, Privilege, SpaceNodes};
use hl_mem::dram::{Contiguity, PackHandle, Scrub, Sharing};
use hl_mem::events::DeviceEvent;
use hl_mem::handle::RawHandle;
use hl_mem::host::{DeviceAccess, DmaAddr, DmaRun, HostError, HostMemory, UserPages, ViewRights};
use hl_mem::mmu::{Gaudi2HostMmu, HostPages, PollBudget, Registers};
use hl_mem::port::{Engines, Port, SpinLock};
use hl_mem::profile::{Asic, Gaudi2};
use hl_mem::ring::{BlockLayout, Consumer, Producer, SharedWords};
use hl_mem::timestamps::{TimestampMemory, TimestampSlot};
use hl_mem::uapi::{Errno, Exporter, dispatch_command_buffer, dispatch_with};
use hl_mem::va::Node;
use hl_mem::{Owner, Wanted};
use mmu_core::{AddrRange, DeviceAddr, Region, Run, SplitWord, TablePool};

type Chip = Gaudi2<6>;
type Tables = &'static TablePool<'static, Region<'static, SplitWord>, SpinLock>;

struct Nothing;

fn maybe<E>(error: E) -> Result<(), E> {
    if any() == 0 { Err(error) } else { Ok(()) }
}

// SAFETY: the image is never run.
unsafe impl Registers for Nothing {
    type Deadline = PollBudget;

    fn read(&self, offset: u32) -> u32 {
        used(offset);
        any() as u32
    }

    fn write(&self, offset: u32, value: u32) {
        used((offset, value));
    }

    fn deadline(&self, _timeout: Duration) -> PollBudget {
        PollBudget::new(any() as u32)
    }

    fn pause(&self, deadline: &mut PollBudget) -> bool {
        deadline.spend()
    }
}

impl Scrub for Nothing {
    type Error = ();

    fn scrub(&mut self, run: Run) -> Result<(), ()> {
        used(run);
        maybe(())
    }
}

// SAFETY: the image is never run.
unsafe impl Engines for Nothing {
    type Error = ();

    fn stop(&self, block: AddrRange<DeviceAddr>) -> Result<(), ()> {
        used(block);
        maybe(())
    }
}

// SAFETY: the image is never run.
unsafe impl HostMemory for Nothing {
    type Process = ();
    type KernelPages = u64;
    type PinnedPages = u64;
    type View = u64;
    type Words = Nothing;

    const PAGE_BYTES: u64 = 4096;

    fn allocate(&self, pages: u64) -> Result<u64, HostError> {
        maybe(HostError::NoMemory).map(|()| pages)
    }

    fn allocate_contiguous(&self, pages: u64) -> Result<u64, HostError> {
        self.allocate(pages)
    }

    fn words(&self, _: &u64) -> Option<Self> {
        maybe(()).ok().map(|()| Self)
    }

    fn free(&self, pages: u64) {
        used(pages);
    }

    fn kernel_runs<'a>(&'a self, pages: &'a u64) -> impl Iterator<Item = DmaRun> + Clone + 'a {
        (0..*pages).map_while(|_| DmaRun::new(DmaAddr::new(any()), any()))
    }

    fn pin(&self, _: &(), pages: UserPages, _: DeviceAccess) -> Result<u64, HostError> {
        maybe(HostError::NoMemory).map(|()| pages.count())
    }

    fn pinned_runs<'a>(&'a self, pages: &'a u64) -> impl Iterator<Item = DmaRun> + Clone + 'a {
        self.kernel_runs(pages)
    }

    fn unpin(&self, pages: u64, access: DeviceAccess) {
        used((pages, access));
    }

    fn view(&self, _: &(), pages: &u64, rights: ViewRights) -> Result<u64, HostError> {
        used(rights);
        maybe(HostError::NoMemory).map(|()| *pages)
    }

    fn remove_view(&self, view: u64) {
        used(view);
    }
}

impl TimestampMemory for Nothing {
    fn store(&mut self, slot: u32, value: u64) {
        used((slot, value));
    }
}

impl Exporter for Nothing {
    fn export(&mut self, export: DramExport, flags: u32) -> Result<i32, (DramExport, Errno)> {
        used(flags);
        match maybe(()) {
            Ok(()) => {
                used(export);
                Ok(0)
            }
            Err(()) => Err((export, Errno::ENOMEM)),
        }
    }
}

impl Port for Nothing {
    type Lock = SpinLock;
    type Host = Self;
    type Mmu = Gaudi2HostMmu<Self>;
    type Tables = Tables;
    // With device memory behind an MMU of its own it is more code; these two are never used.
    type DramMmu = Self::Mmu;
    type DramTables = Tables;
    type Engines = Self;
    type Scrubber = Self;
    type Nodes = &'static mut [Node];
    type TimestampSlots = &'static mut [TimestampSlot];
}

fn nodes() -> SpaceNodes<Nothing> {
    SpaceNodes {
        small: slice(),
        large: slice(),
        dram: slice(),
    }
}

fn any_policy() -> ViewPolicy {
    match any() {
        0 => ViewPolicy::Single,
        _ => ViewPolicy::Counted,
    }
}

fn bring_up(tables: Tables) {
    let parts = DeviceParts {
        host: Nothing,
        engines: Nothing,
        tables,
        dram_tables: None,
        privileged: nodes(),
        buffers: slice(),
        views: any_policy(),
        seats: slice(),
        register_blocks: slice(),
        peer_window: None,
        default_mapping: any() == 0,
        // SAFETY: the image is never run.
        dram: unsafe { core::ptr::read(opaque()) },
        scrubber: Nothing,
    };
    let timeouts = Chip::PROFILE.timeouts;
    let mmu = |parking| Gaudi2HostMmu::new(Nothing, timeouts, HostPages::Of4K, parking);
    used(Device::<Chip, Nothing>::new(parts, mmu, mmu));
}

fn use_device(device: &'static Device<'static, Chip, Nothing>, privilege: &Privilege) {
    used((device.usage(), device.recover(), device.settle_quarantine()));
    used(device.block_range(privilege, *opaque()));
    used(device.dram_run(privilege, Owner::new(any() as u32), PackHandle::new(any())));
    device.with_privileged_table(privilege, |table| used(table.query(DeviceAddr::new(any()))));
    used(device.with_mmu(hl_mem::mmu::MmuControl::take_fault));
    used(device.report_faults(used));
    used(device.post(DeviceEvent::DeviceLost));
    // SAFETY: the image is never run.
    used(device.end_pages(unsafe { core::ptr::read(opaque()) }, any()));
    used(device.copy_view(opaque(), any(), any()));
    device.with_export(opaque(), |runs| used(runs.next()));
    // SAFETY: the image is never run.
    device.end_view(unsafe { core::ptr::read(opaque()) });
    let storage = ContextStorage {
        nodes: nodes(),
        mappings: slice(),
        handles: slice(),
        timestamps: TimestampStorage {
            pools: slice(),
            waits: slice(),
            counters: slice(),
        },
    };
    used(device.open((), opaque::<Budget>(), storage));
}

fn use_context(
    context: &'static mut Context<'static, 'static, Chip, Nothing>,
    privilege: &Privilege,
) {
    used((context.asid(), context.owner(), context.usage()));
    used(dispatch_with(context, slice(), &mut Nothing));
    used(dispatch_command_buffer(context, slice()));
    used((
        context.unmap(DeviceAddr::new(any())),
        context.settle_quarantine(),
    ));
    used(context.create_block(privilege, any()));
    let handle = RawHandle::new(any());
    used((context.mmap(handle, any()), context.destroy_block(handle)));
    used(context.map_block(privilege, handle, Wanted::Anywhere));
    used(context.destroy_timestamps(handle));
    let now = NonZeroU64::MIN;
    used(context.register_timestamp(handle, any(), (any(), any()), any(), now));
    used(context.counter_reached(any(), any(), now));
    used(context.next_event());
    used(context.confirm_event(opaque()));
    // SAFETY: the image is never run.
    used(context.end_export(unsafe { core::ptr::read(opaque()) }));
    used(context.allocate_dram(any(), Contiguity::Scattered, Sharing::Shared));
    used(context.free_dram(PackHandle::new(any())));
    context.with_table(|table| used(table.query(DeviceAddr::new(any()))));
    // SAFETY: the image is never run.
    used(unsafe { core::ptr::read(context) }.close());
}

fn use_ring() -> Option<()> {
    let mut memory = SharedWords::new(slice());
    let layout = BlockLayout::new(4096, any() as u32, any() as u32).ok()?;
    used(layout.initialize(&mut memory, 0));
    let layout = BlockLayout::read_header(&mut memory, 4096, any()).ok()?;
    let mut producer = Producer::attach(memory, layout).ok()?;
    used(producer.push_batch(slice()));
    let mut consumer = Consumer::attach(memory, layout).ok()?;
    used(consumer.pop_batch(slice()));
    Some(())
}

/// The entry, which has the linker keep everything.
#[unsafe(no_mangle)]
extern "C" fn _start() {
    let privilege = opaque::<Privilege>();
    bring_up(opaque());
    use_device(opaque(), privilege);
    use_context(opaque(), privilege);
    used(use_ring());
}
