//! A port that notes the locks held when each of its methods is called.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::time::{Duration, Instant};

use hl_mem::asid::{Asid, InitiatorMode, UserAsid};
use hl_mem::context::DramExport;
use hl_mem::dram::Scrub;
use hl_mem::events::{DeviceEvent, EventSlot};
use hl_mem::host::{DeviceAccess, DmaRun, HostError, HostMemory, UserPages, ViewRights};
use hl_mem::lock::LockRank;
use hl_mem::mmu::{Fault, GoyaMmu, MmuControl, MmuError, NoDramMmu, Registers, Walks};
use hl_mem::port::{Engines, Port};
use hl_mem::timestamps::{TimestampMemory, TimestampSlot};
use hl_mem::uapi::{Errno, ExportRefused, Exporter};
use hl_mem::va::Node;
use mmu_core::{
    AddrRange, BusAddr, DeviceAddr, DeviceLost, Format, Invalidate, Run, Stale, TableBus,
};

use super::Cases;
use super::interrupts::{InterruptsOff, SleepingLock};
use super::support::BusTables;
use super::support::smallest_port::{
    KernelPages, MmuRegisters, NoBytes, NoEngines, PinnedPages, Ram, TableWindow, TimestampWords,
    View,
};

/// Something that happens while a run is scrubbed.
pub(crate) type AtScrub = Box<dyn FnMut(Run)>;

/// Something that happens once, before a lock of that rank is taken.
pub(crate) type AtLock = (LockRank, Box<dyn FnOnce()>);

thread_local! {
    static HELD: RefCell<Vec<LockRank>> = const { RefCell::new(Vec::new()) };
    static SEEN: RefCell<Cases> = const { RefCell::new(Cases::new()) };
    /// What happens while device memory is scrubbed.
    pub(crate) static AT_SCRUB: RefCell<Option<AtScrub>> = const { RefCell::new(None) };
    /// What happens before a lock is taken.
    pub(crate) static AT_LOCK: RefCell<Option<AtLock>> = const { RefCell::new(None) };
    /// What is wrong with pinned pages.
    pub(crate) static SPOILT_PIN: Cell<Spoilt> = const { Cell::new(Spoilt::Nothing) };
    /// Whether the port has no coherent memory.
    pub(crate) static NOT_COHERENT: Cell<bool> = const { Cell::new(false) };
    /// Timestamps that were stored since a lock of an interrupt handler was taken.
    pub(crate) static STORES: Cell<u32> = const { Cell::new(0) };
    /// Why the system does nothing that it is asked for, if it has a reason of its own.
    pub(crate) static REFUSES: Cell<Option<Errno>> = const { Cell::new(None) };
}

/// What a port may get wrong with pinned pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Spoilt {
    Nothing,
    /// This page is missing.
    Without(u64),
    /// There is one page more than was asked for.
    OneMore,
}

/// What the system says to whatever it is asked for.
fn asked() -> Result<(), HostError> {
    REFUSES
        .get()
        .map_or(Ok(()), |why| Err(HostError::Other(why)))
}

/// What was noted so far.
pub(crate) fn seen() -> Cases {
    SEEN.with_borrow(Cases::clone)
}

/// Notes a call of a method under a heading of the guide.
pub(crate) fn note(heading: &str, method: &str) {
    let locks = HELD.with_borrow(|held| {
        let names: Vec<_> = held.iter().map(|rank| format!("{rank:?}")).collect();
        names.join(" + ")
    });
    let locks = if locks.is_empty() {
        "none".to_owned()
    } else {
        locks
    };
    let key = (heading.to_owned(), method.to_owned());
    SEEN.with_borrow_mut(|seen| seen.entry(key).or_default().insert(locks));
}

/// Notes each call and passes it on.
#[derive(Debug)]
pub(crate) struct Noting<T>(pub(crate) T);

/// Notes each step through runs.
#[derive(Clone)]
struct NotingRuns<I>(&'static str, I);

impl<I: Iterator> Iterator for NotingRuns<I> {
    type Item = I::Item;

    fn next(&mut self) -> Option<I::Item> {
        note("HostMemory", self.0);
        self.1.next()
    }
}

// SAFETY: passes each call on to an implementation of the same contract.
unsafe impl HostMemory for Noting<&'static Ram> {
    type Process = ();
    type KernelPages = KernelPages;
    type PinnedPages = PinnedPages;
    type View = View;
    type Words = NotingWords;

    const PAGE_BYTES: u64 = <&'static Ram as HostMemory>::PAGE_BYTES;

    fn allocate(&self, pages: u64) -> Result<KernelPages, HostError> {
        note("HostMemory", "allocate");
        asked()?;
        self.0.allocate(pages)
    }

    fn allocate_contiguous(&self, pages: u64) -> Result<KernelPages, HostError> {
        note("HostMemory", "allocate_contiguous");
        asked()?;
        if NOT_COHERENT.get() {
            return Err(HostError::Unsupported);
        }
        self.0.allocate_contiguous(pages)
    }

    fn words(&self, pages: &KernelPages) -> Option<NotingWords> {
        note("HostMemory", "words");
        self.0.words(pages).map(NotingWords)
    }

    fn free(&self, pages: KernelPages) {
        note("HostMemory", "free");
        self.0.free(pages);
    }

    fn kernel_runs<'a>(
        &'a self,
        pages: &'a KernelPages,
    ) -> impl Iterator<Item = DmaRun> + Clone + 'a {
        note("HostMemory", "kernel_runs");
        NotingRuns("the runs of kernel_runs", self.0.kernel_runs(pages))
    }

    fn pin(
        &self,
        process: &(),
        pages: UserPages,
        access: DeviceAccess,
    ) -> Result<PinnedPages, HostError> {
        note("HostMemory", "pin");
        asked()?;
        self.0.pin(process, pages, access)
    }

    fn pinned_runs<'a>(
        &'a self,
        pages: &'a PinnedPages,
    ) -> impl Iterator<Item = DmaRun> + Clone + 'a {
        note("HostMemory", "pinned_runs");
        let spoilt = SPOILT_PIN.get();
        let runs = self.0.pinned_runs(pages).flat_map(move |run| {
            // In one piece, as long as nothing is wrong with it.
            let step = match spoilt {
                Spoilt::Nothing => run.len(),
                _ => Self::PAGE_BYTES,
            };
            let pages = (0..run.len() / step).filter(move |page| spoilt != Spoilt::Without(*page));
            let more = (spoilt == Spoilt::OneMore).then_some(run.len() / step);
            let piece = move |page| DmaRun::new(run.start().checked_add(page * step)?, step);
            pages.chain(more).filter_map(piece)
        });
        NotingRuns("the runs of pinned_runs", runs)
    }

    fn unpin(&self, pages: PinnedPages, access: DeviceAccess) {
        note("HostMemory", "unpin");
        self.0.unpin(pages, access);
    }

    fn view(
        &self,
        process: &(),
        pages: &KernelPages,
        rights: ViewRights,
    ) -> Result<View, HostError> {
        note("HostMemory", "view");
        asked()?;
        self.0.view(process, pages, rights)
    }

    fn view_registers(&self, process: &(), registers: Run) -> Result<View, HostError> {
        note("HostMemory", "view_registers");
        asked()?;
        self.0.view_registers(process, registers)
    }

    fn remove_view(&self, view: View) {
        note("HostMemory", "remove_view");
        self.0.remove_view(view);
    }
}

/// Notes each store, and when it goes.
#[derive(Debug)]
pub(crate) struct NotingWords(TimestampWords);

impl TimestampMemory for NotingWords {
    fn store(&mut self, slot: u32, value: u64) {
        note("TimestampMemory", "store");
        STORES.set(STORES.get() + 1);
        self.0.store(slot, value);
    }
}

impl Drop for NotingWords {
    fn drop(&mut self) {
        note("TimestampMemory", "dropping it");
    }
}

/// Registers that are busy for one read after each command, so that there is something to wait for.
#[derive(Debug)]
pub(crate) struct SlowRegisters {
    pub(crate) registers: &'static MmuRegisters,
    pub(crate) busy: Cell<Option<u32>>,
}

/// The registers that take time, and what they read as meanwhile.
const COMMANDS: [(u32, u32); 2] = [(0x49_0000, 1 << 31), (0x49_0034, 1)];

// SAFETY: passes each call on to an implementation of the same contract, but that a command which
// is done is said to be under way once.
unsafe impl Registers for SlowRegisters {
    type Deadline = Instant;

    fn read(&self, offset: u32) -> u32 {
        note("Registers", "read");
        let value = self.registers.read(offset);
        match COMMANDS.iter().find(|command| command.0 == offset) {
            Some((_, busy)) if value != u32::MAX && self.busy.take() == Some(offset) => *busy,
            _ => value,
        }
    }

    fn write(&self, offset: u32, value: u32) {
        note("Registers", "write");
        self.busy.set(Some(offset));
        self.registers.write(offset, value);
    }

    fn deadline(&self, timeout: Duration) -> Instant {
        note("Registers", "deadline");
        self.registers.deadline(timeout)
    }

    fn pause(&self, deadline: &mut Instant) -> bool {
        note("Registers", "pause");
        self.registers.pause(deadline)
    }
}

/// The MMU's driver, with a note of what the device asks of it.
#[derive(Debug)]
pub(crate) struct NotingMmu<M> {
    /// The guide's heading for it.
    heading: &'static str,
    driver: M,
}

impl<M> NotingMmu<M> {
    pub(crate) fn new(heading: &'static str, driver: M) -> Self {
        Self { heading, driver }
    }
}

// SAFETY: passes each call on to an implementation of the same contract.
unsafe impl<M: MmuControl> Invalidate for NotingMmu<M> {
    type Error = MmuError;

    fn invalidate(&mut self, stale: &Stale) -> Result<(), MmuError> {
        note(self.heading, "invalidate");
        self.driver.invalidate(stale)
    }
}

// SAFETY: as above.
unsafe impl<F: Format, M: Walks<F>> Walks<F> for NotingMmu<M> {}

// SAFETY: as above.
unsafe impl<M: MmuControl> MmuControl for NotingMmu<M> {
    fn enable(&mut self) -> Result<(), MmuError> {
        note(self.heading, "enable");
        self.driver.enable()
    }

    fn disable(&mut self) -> Result<(), MmuError> {
        note(self.heading, "disable");
        self.driver.disable()
    }

    fn set_root(&mut self, asid: Asid, root: BusAddr) -> Result<(), MmuError> {
        note(self.heading, "set_root");
        self.driver.set_root(asid, root)
    }

    fn park(&mut self, asid: Asid) -> Result<(), MmuError> {
        note(self.heading, "park");
        self.driver.park(asid)
    }

    fn announce(&mut self) -> Result<(), MmuError> {
        note(self.heading, "announce");
        self.driver.announce()
    }

    fn invalidate_all(&mut self) -> Result<(), MmuError> {
        note(self.heading, "invalidate_all");
        self.driver.invalidate_all()
    }

    fn next_fault(&mut self, from: &mut u32) -> Result<Option<Fault>, MmuError> {
        note(self.heading, "next_fault");
        self.driver.next_fault(from)
    }
}

// SAFETY: passes each call on to an implementation of the same contract.
unsafe impl Engines for Noting<NoEngines> {
    type Error = Infallible;

    fn stop(&self, block: AddrRange<DeviceAddr>) -> Result<(), Infallible> {
        note("Engines and Scrub", "stop");
        self.0.stop(block)
    }

    fn assign(&self, mode: InitiatorMode) -> Result<(), Infallible> {
        note("Engines and Scrub", "assign");
        self.0.assign(mode)
    }

    fn halt(&self, asid: UserAsid) -> Result<(), Infallible> {
        note("Engines and Scrub", "halt");
        self.0.halt(asid)
    }
}

impl Scrub for Noting<NoBytes> {
    type Error = Infallible;

    fn scrub(&mut self, run: Run) -> Result<(), Infallible> {
        note("Engines and Scrub", "scrub");
        if let Some(mut act) = AT_SCRUB.take() {
            act(run);
            AT_SCRUB.set(Some(act));
        }
        self.0.scrub(run)
    }
}

impl TableBus for Noting<TableWindow> {
    fn write(&self, address: BusAddr, entries: impl Iterator<Item = u64>) {
        note("TableBus", "write");
        self.0.write(address, entries);
    }

    fn read(&self, address: BusAddr) -> u64 {
        note("TableBus", "read");
        self.0.read(address)
    }

    fn flush(&self) -> Result<(), DeviceLost> {
        note("TableBus", "flush");
        self.0.flush()
    }
}

/// An exporter that keeps what it is given.
#[derive(Debug, Default)]
pub(crate) struct Files(pub(crate) Vec<DramExport>);

impl Exporter for Files {
    fn export(&mut self, export: DramExport, _flags: u32) -> Result<i32, ExportRefused> {
        note("Exporter", "export");
        self.0.push(export);
        Ok(3)
    }
}

/// The pool that all page tables come from.
pub(crate) type Tables = BusTables<Noting<TableWindow>>;

/// The port, as types.
#[derive(Debug)]
pub(crate) struct RecordingPort;

impl Port for RecordingPort {
    type Lock = SleepingLock;
    type InterruptLock = InterruptsOff;
    type Host = Noting<&'static Ram>;
    type Mmu = NotingMmu<GoyaMmu<&'static SlowRegisters, 3>>;
    type Tables = Tables;
    type DramMmu = NoDramMmu;
    type DramTables = Self::Tables;
    type Engines = Noting<NoEngines>;
    type Scrubber = Noting<NoBytes>;
    type Nodes = Vec<Node>;
    type TimestampSlots = Vec<TimestampSlot>;
    type EventSlots = [EventSlot<DeviceEvent>; 8];

    const MAX_ASID: Option<u16> = Some(4);

    fn before_lock(rank: LockRank) {
        let act = AT_LOCK.with_borrow_mut(|at| at.take_if(|(at, _)| *at == rank));
        if let Some((_, act)) = act {
            act();
        }
        HELD.with_borrow_mut(|held| {
            assert!(
                held.iter().all(|held| *held < rank),
                "{rank} after {held:?}"
            );
            held.push(rank);
        });
    }

    fn after_lock(rank: LockRank) {
        HELD.with_borrow_mut(|held| held.retain(|held| *held != rank));
    }
}
