//! A port that does nothing, in a way that the compiler cannot see.

use core::time::Duration;

use hl_firmware_size::{any, used};
use hl_mem::context::DramExport;
use hl_mem::dram::Scrub;
use hl_mem::events::{DeviceEvent, EventSlot};
use hl_mem::host::{DeviceAccess, DmaAddr, DmaRun, HostError, HostMemory, UserPages, ViewRights};
use hl_mem::mmu::{Gaudi2HostMmu, NoDramMmu, PollBudget, Registers};
use hl_mem::port::{Engines, Port, SpinLock};
use hl_mem::timestamps::{TimestampMemory, TimestampSlot};
use hl_mem::uapi::{Errno, ExportRefused, Exporter};
use hl_mem::va::Node;
use mmu_core::{AddrRange, DeviceAddr, Region, Run, SplitWord, TablePool};

pub(super) type Tables = &'static TablePool<'static, Region<'static, SplitWord>, SpinLock>;

/// Every part of the port.
pub(super) struct Nothing;

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

    fn view_registers(&self, _: &(), registers: Run) -> Result<u64, HostError> {
        used(registers);
        maybe(HostError::NoMemory).map(|()| any())
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
    fn export(&mut self, export: DramExport, flags: u32) -> Result<i32, ExportRefused> {
        used(flags);
        match maybe(()) {
            Ok(()) => {
                used(export);
                Ok(0)
            }
            Err(()) => Err(ExportRefused {
                export,
                errno: Errno::ENOMEM,
            }),
        }
    }
}

impl Port for Nothing {
    type Lock = SpinLock;
    type InterruptLock = SpinLock;
    type Host = Self;
    type Mmu = Gaudi2HostMmu<Self>;
    type Tables = Tables;
    // With device memory behind an MMU of its own it is more code.
    type DramMmu = NoDramMmu;
    type DramTables = Tables;
    type Engines = Self;
    type Scrubber = Self;
    type Nodes = &'static mut [Node];
    type TimestampSlots = &'static mut [TimestampSlot];
    type EventSlots = &'static mut [EventSlot<DeviceEvent>];
}
