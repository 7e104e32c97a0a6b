//! A port that does next to nothing: what remains is the library.
//!
//! Pages are numbers, pinned at once and without memory behind them, so that 8 GiB can be mapped on
//! a machine that has less. The MMU's registers answer at once. Tables are in memory, on
//! huge pages like that of a kernel.

use core::convert::Infallible;
use core::marker::PhantomData;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use hl_mem::Asid;
use hl_mem::dram::NoScrub;
use hl_mem::events::{DeviceEvent, EventSlot};
use hl_mem::host::{DeviceAccess, DmaAddr, DmaRun, HostError, HostMemory, UserPages, ViewRights};
use hl_mem::mmu::{
    Fault, Gaudi2HostMmu, GaudiMmu, GoyaMmu, MmuControl, MmuError, NoDramMmu, PollBudget,
    Registers, Walks,
};
use hl_mem::port::{Engines, Port, SpinLock};
use hl_mem::profile::{Asic, Gaudi, Gaudi2, Goya};
use hl_mem::timestamps::{NoTimestamps, TimestampSlot};
use hl_mem::va::Node;
use mmu_core::format::TABLE_ENTRIES;
use mmu_core::{
    AddrRange, BusAddr, ChildMap, DeviceAddr, DeviceLost, DeviceTablePool, DeviceTableRecord,
    Format, Invalidate, Region, ReuseOrder, Stale, TableBus, TableMemory, TablePool, TableRecord,
};

use crate::arena::huge_words;

use super::phases::{Phase, during};

/// Bytes in a page of the host.
pub(crate) const PAGE: u64 = 4096;

/// Tables in a pool: 8192 mappings of 2 MiB have one of leaves each, and there are those above.
const TABLES: usize = 9216;
/// Of these, tables that point at others.
const UPPER_TABLES: usize = 512;
/// ASIDs that the MMU is driven with.
const ASIDS: usize = 4;

/// How the pages of a process lie on the bus.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Pages {
    /// One run for each mapping, aligned for large leaves.
    Run,
    /// One run that begins a page behind such a place, so that a run of 2 MiB has no large leaf.
    ShiftedRun,
    /// No two side by side.
    Scattered,
}

/// Pages as the device finds them.
#[derive(Clone, Debug)]
pub(crate) struct Pinned {
    pages: Pages,
    start: u64,
    count: u64,
}

impl Iterator for Pinned {
    type Item = DmaRun;

    fn next(&mut self) -> Option<DmaRun> {
        if self.count == 0 {
            return None;
        }
        let start = DmaAddr::new(self.start);
        if self.pages == Pages::Scattered {
            self.start += 2 * PAGE;
            self.count -= 1;
            DmaRun::new(start, PAGE)
        } else {
            let count = core::mem::take(&mut self.count);
            DmaRun::new(start, count * PAGE)
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let runs = match self.pages {
            Pages::Scattered => self.count,
            Pages::Run | Pages::ShiftedRun => self.count.min(1),
        } as usize;
        (runs, Some(runs))
    }
}

/// Pages that are nothing but numbers.
#[derive(Debug)]
pub(crate) struct Numbers;

// SAFETY: nothing here is memory that anybody could reach: no device exists, and there are neither
// kernel pages nor views. `pinned_runs` names the same pages each time it is asked.
unsafe impl HostMemory for Numbers {
    type Process = Pages;
    type KernelPages = Infallible;
    type PinnedPages = Pinned;
    type Words = NoTimestamps;
    type View = Infallible;

    const PAGE_BYTES: u64 = PAGE;

    fn allocate(&self, _pages: u64) -> Result<Infallible, HostError> {
        Err(HostError::NoMemory)
    }

    fn free(&self, pages: Infallible) {
        match pages {}
    }

    fn kernel_runs<'a>(
        &'a self,
        _pages: &'a Infallible,
    ) -> impl Iterator<Item = DmaRun> + Clone + 'a {
        core::iter::empty()
    }

    fn pin(
        &self,
        process: &Pages,
        pages: UserPages,
        _access: DeviceAccess,
    ) -> Result<Pinned, HostError> {
        during(Phase::Pin, || {
            let range = pages.range();
            Ok(pinned(*process, range.start().get(), range.len()))
        })
    }

    fn pinned_runs<'a>(&'a self, pages: &'a Pinned) -> impl Iterator<Item = DmaRun> + Clone + 'a {
        pages.clone()
    }

    fn unpin(&self, pages: Pinned, _access: DeviceAccess) {
        during(Phase::Pin, || {
            let _ = pages;
        });
    }

    fn view(
        &self,
        _process: &Pages,
        pages: &Infallible,
        _rights: ViewRights,
    ) -> Result<Infallible, HostError> {
        match *pages {}
    }

    fn remove_view(&self, view: Infallible) {
        match view {}
    }
}

/// Registers of an MMU that is always done.
#[derive(Debug)]
pub(crate) struct IdleRegisters {
    /// The last value written to a register that enables.
    enabled: AtomicU32,
    /// The registers that enable.
    enables: u32,
    /// The register whose bits say that all is done, where there is one; other registers are zero.
    done: u32,
}

// SAFETY: there is no device whose caches could remember anything.
unsafe impl Registers for IdleRegisters {
    type Deadline = PollBudget;

    fn read(&self, offset: u32) -> u32 {
        if offset == self.enables {
            self.enabled.load(Ordering::Relaxed)
        } else if offset == self.done {
            3
        } else {
            0
        }
    }

    fn write(&self, offset: u32, value: u32) {
        if offset == self.enables {
            self.enabled.store(value, Ordering::Relaxed);
        }
    }

    fn deadline(&self, _timeout: Duration) -> PollBudget {
        PollBudget::new(1)
    }

    fn pause(&self, deadline: &mut PollBudget) -> bool {
        deadline.spend()
    }
}

/// A driver of the library, whose time is measured.
#[derive(Debug)]
pub(crate) struct Timed<M>(M);

// SAFETY: every call is passed on.
unsafe impl<M: MmuControl> Invalidate for Timed<M> {
    type Error = MmuError;

    fn invalidate(&mut self, stale: &Stale) -> Result<(), MmuError> {
        during(Phase::Mmu, || self.0.invalidate(stale))
    }
}

// SAFETY: every call is passed on.
unsafe impl<F: Format, M: Walks<F>> Walks<F> for Timed<M> {}

// SAFETY: every call is passed on.
unsafe impl<M: MmuControl> MmuControl for Timed<M> {
    fn enable(&mut self) -> Result<(), MmuError> {
        self.0.enable()
    }

    fn disable(&mut self) -> Result<(), MmuError> {
        self.0.disable()
    }

    fn set_root(&mut self, asid: Asid, root: BusAddr) -> Result<(), MmuError> {
        self.0.set_root(asid, root)
    }

    fn park(&mut self, asid: Asid) -> Result<(), MmuError> {
        self.0.park(asid)
    }

    fn announce(&mut self) -> Result<(), MmuError> {
        during(Phase::Mmu, || self.0.announce())
    }

    fn invalidate_all(&mut self) -> Result<(), MmuError> {
        during(Phase::Mmu, || self.0.invalidate_all())
    }

    fn next_fault(&mut self, from: &mut u32) -> Result<Option<Fault>, MmuError> {
        self.0.next_fault(from)
    }
}

/// Engines that never run.
#[derive(Debug)]
pub(crate) struct NoEngines;

// SAFETY: there are none.
unsafe impl Engines for NoEngines {
    type Error = Infallible;

    fn stop(&self, _block: AddrRange<DeviceAddr>) -> Result<(), Infallible> {
        Ok(())
    }
}

/// Table memory behind a bus that is as fast as memory.
#[derive(Debug)]
pub(crate) struct MemoryBus {
    start: BusAddr,
    words: &'static [AtomicU64],
}

impl MemoryBus {
    fn index(&self, address: BusAddr) -> usize {
        ((address.get() - self.start.get()) / 8) as usize
    }
}

impl TableBus for MemoryBus {
    fn write(&self, address: BusAddr, entries: impl Iterator<Item = u64>) {
        for (word, entry) in self.words[self.index(address)..].iter().zip(entries) {
            word.store(entry, Ordering::Relaxed);
        }
    }

    fn read(&self, address: BusAddr) -> u64 {
        self.words[self.index(address)].load(Ordering::Relaxed)
    }

    fn flush(&self) -> Result<(), DeviceLost> {
        Ok(())
    }
}

/// An ASIC that is measured.
pub(crate) trait Measured: Asic {
    /// As the report names it.
    const NAME: &'static str;
    /// The driver of its MMU.
    type Driver: Walks<Self::HostFormat> + Send;
    /// The pool of its tables.
    type Memory<'m>: TableMemory + Send + Sync;

    /// Makes the driver.
    fn driver(parking: BusAddr) -> Self::Driver;

    /// Calls `run` with a pool of tables.
    fn with_tables<R>(run: impl for<'m> FnOnce(Self::Memory<'m>) -> R) -> R;
}

const fn registers(enables: u32, done: u32) -> IdleRegisters {
    IdleRegisters {
        enabled: AtomicU32::new(0),
        enables,
        done,
    }
}

fn with_device_tables<A: Asic, R>(
    run: impl for<'m> FnOnce(&'m DeviceTablePool<'m, MemoryBus, SpinLock>) -> R,
) -> R {
    let start = A::PROFILE.device_tables.start();
    let words = huge_words(TABLES * TABLE_ENTRIES).expect("there is so much memory");
    let mut records: Vec<_> = (0..TABLES).map(|_| DeviceTableRecord::new()).collect();
    let mut maps: Vec<_> = (0..UPPER_TABLES).map(|_| ChildMap::new()).collect();
    let order = ReuseOrder::LastReleased;
    let bus = MemoryBus { start, words };
    let pool = DeviceTablePool::new(bus, start, &mut records, &mut maps, order)
        .expect("the table memory is aligned");
    run(&pool)
}

impl Measured for Goya {
    const NAME: &'static str = "Goya";
    type Driver = GoyaMmu<IdleRegisters, ASIDS>;
    type Memory<'m> = &'m DeviceTablePool<'m, MemoryBus, SpinLock>;

    fn driver(parking: BusAddr) -> Self::Driver {
        GoyaMmu::new(registers(0x48_000C, 0), Self::PROFILE.timeouts, parking)
    }

    fn with_tables<R>(run: impl for<'m> FnOnce(Self::Memory<'m>) -> R) -> R {
        with_device_tables::<Self, R>(run)
    }
}

impl Measured for Gaudi {
    const NAME: &'static str = "Gaudi";
    type Driver = GaudiMmu<IdleRegisters, ASIDS>;
    type Memory<'m> = &'m DeviceTablePool<'m, MemoryBus, SpinLock>;

    fn driver(parking: BusAddr) -> Self::Driver {
        GaudiMmu::new(registers(0xC1_100C, 0), Self::PROFILE.timeouts, parking)
    }

    fn with_tables<R>(run: impl for<'m> FnOnce(Self::Memory<'m>) -> R) -> R {
        with_device_tables::<Self, R>(run)
    }
}

impl Measured for Gaudi2<6> {
    const NAME: &'static str = "Gaudi2";
    type Driver = Gaudi2HostMmu<IdleRegisters, ASIDS>;
    type Memory<'m> = &'m TablePool<'m, Region<'m, AtomicU64>, SpinLock>;

    fn driver(parking: BusAddr) -> Self::Driver {
        let registers = registers(0x4D0_000C, 0x4D0_1054);
        Gaudi2HostMmu::new(registers, Self::PROFILE.timeouts, parking)
    }

    fn with_tables<R>(run: impl for<'m> FnOnce(Self::Memory<'m>) -> R) -> R {
        let words = huge_words(TABLES * TABLE_ENTRIES).expect("there is so much memory");
        let (tables, _) = words.as_chunks::<TABLE_ENTRIES>();
        let mut records: Vec<_> = (0..TABLES).map(|_| TableRecord::new()).collect();
        let region = Region::new(tables, BusAddr::new(1 << 44)).expect("the address is aligned");
        let pool = TablePool::new(region, &mut records, ReuseOrder::LastReleased)
            .expect("there is a record for each table");
        run(&pool)
    }
}

/// The port, as types.
#[derive(Debug)]
pub(crate) struct BenchPort<'m, A>(PhantomData<(&'m (), A)>);

impl<'m, A: Measured> Port for BenchPort<'m, A> {
    type Lock = SpinLock;
    type InterruptLock = SpinLock;
    type Host = Numbers;
    type Mmu = Timed<A::Driver>;
    type Tables = A::Memory<'m>;
    type DramMmu = NoDramMmu;
    type DramTables = A::Memory<'m>;
    type Engines = NoEngines;
    type Scrubber = NoScrub;
    type TimestampSlots = [TimestampSlot; 0];
    type EventSlots = [EventSlot<DeviceEvent>; 0];

    const MAX_ASID: Option<u16> = Some(3);
    type Nodes = Vec<Node>;
}

/// The timed driver of an ASIC.
pub(crate) fn timed_driver<A: Measured>(parking: BusAddr) -> Timed<A::Driver> {
    Timed(A::driver(parking))
}

/// An MMU that has nothing to forget, for page tables measured by themselves.
#[derive(Debug)]
pub(crate) struct NoMmu;

// SAFETY: there is no device.
unsafe impl Invalidate for NoMmu {
    type Error = Infallible;

    fn invalidate(&mut self, _stale: &Stale) -> Result<(), Infallible> {
        Ok(())
    }
}

/// The pages of `bytes` from `address` on in a process whose pages lie like that.
pub(crate) fn pinned(pages: Pages, address: u64, bytes: u64) -> Pinned {
    // Twice as far apart as for the process: scattered pages take that much.
    let start = match pages {
        Pages::ShiftedRun => 2 * address + PAGE,
        Pages::Run | Pages::Scattered => 2 * address,
    };
    let count = bytes / PAGE;
    Pinned {
        pages,
        start,
        count,
    }
}
