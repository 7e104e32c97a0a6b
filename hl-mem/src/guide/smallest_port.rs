use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
use std::time::{Duration, Instant};

use hl_mem::budget::Budget;
use hl_mem::buffer::BufferSlot;
use hl_mem::context::{
    Context, ContextStorage, MappingSlot, OpenError, TimestampPlace, TimestampStorage,
};
use hl_mem::device::{
    BringUpError, Device, DeviceOptions, DeviceParts, Privilege, Seat, SpaceNodes,
};
use hl_mem::dram::{DramContent, DramPool, DramRegion, PackRecord, PageRecord, Scrub};
use hl_mem::events::{DeviceEvent, EventSlot};
use hl_mem::handle::HandleSlot;
use hl_mem::host::{DeviceAccess, DmaAddr, DmaRun, HostError, HostMemory, UserPages, ViewRights};
use hl_mem::lock::{HeldLocks, LockRank};
use hl_mem::mmu::{GoyaMmu, NoDramMmu, Registers};
use hl_mem::port::{Engines, Port, SpinLock};
use hl_mem::profile::{Asic, Goya};
use hl_mem::ring::{BlockIndices, BlockRead, SharedWords, SharedWordsError};
use hl_mem::timestamps::{CounterSlot, TimestampMemory, TimestampSlot, WaitSlot};
use hl_mem::va::Node;
use mmu_core::{
    AddrRange, BusAddr, ChildMap, DeviceAddr, DeviceLost, DeviceTablePool, DeviceTableRecord,
    ReuseOrder, Run, TableBus,
};

// ---- Host memory ----------------------------------------------------------------------------

/// Bytes in a page of the host.
pub const PAGE_BYTES: u64 = 4096;
/// Pages that the kernel allocates from; they come first in memory.
const KERNEL_PAGES: usize = 64;
/// Pages of the one user, who names them by addresses from here on.
const USER_PAGES: usize = 64;
/// What the user calls the first of them.
pub const USER_BASE: u64 = 0x7000_0000;
/// Words of 64 bits in a page.
const PAGE_WORDS: usize = PAGE_BYTES as usize / 8;

/// All memory of the host. Its DMA addresses count from 0.
#[derive(Debug)]
pub struct Ram {
    words: Vec<AtomicU64>,
    /// Which kernel pages are allocated.
    taken: Mutex<[bool; KERNEL_PAGES]>,
    pins: AtomicUsize,
}

/// Pages of the kernel, by number. Neither `Clone` nor `Copy`: they are handed back once.
#[derive(Debug)]
pub struct KernelPages {
    first: usize,
    count: usize,
}

/// Pages of the user that stay where they are, by number.
#[derive(Debug)]
pub struct PinnedPages {
    first: usize,
    count: usize,
}

impl Default for Ram {
    fn default() -> Self {
        let words = (KERNEL_PAGES + USER_PAGES) * PAGE_WORDS;
        Self {
            words: (0..words).map(|_| AtomicU64::new(0)).collect(),
            taken: Mutex::new([false; KERNEL_PAGES]),
            pins: AtomicUsize::new(0),
        }
    }
}

impl Ram {
    /// Pages that the kernel has allocated.
    pub fn allocated(&self) -> usize {
        let taken = self.taken.lock().unwrap();
        taken.iter().filter(|taken| **taken).count()
    }

    /// Pages that are pinned.
    pub fn pinned(&self) -> usize {
        self.pins.load(Ordering::Relaxed)
    }

    /// The memory of the user at an address of the user's, and all after it.
    pub fn user_words(&self, at: u64) -> &[AtomicU64] {
        let offset = (at - USER_BASE) as usize / 8;
        &self.words[KERNEL_PAGES * PAGE_WORDS + offset..]
    }

    /// What an engine finds at an address that the MMU translated, and all after it.
    pub fn device_words(&'static self, at: BusAddr) -> &'static [AtomicU32] {
        let dma = at.get() - Goya::PROFILE.host_offset;
        halves(&self.words[dma as usize / 8..])
    }

    fn pages(&self, first: usize, count: usize) -> &[AtomicU64] {
        &self.words[first * PAGE_WORDS..(first + count) * PAGE_WORDS]
    }

    fn runs(first: usize, count: usize) -> impl Iterator<Item = DmaRun> + Clone {
        let start = DmaAddr::new(first as u64 * PAGE_BYTES);
        DmaRun::new(start, count as u64 * PAGE_BYTES).into_iter()
    }
}

/// The same memory in words of 32 bits, as the two ends of a ring use it.
fn halves(words: &[AtomicU64]) -> &[AtomicU32] {
    // SAFETY: the memory is that of `words`, which stays borrowed; there are twice as many words of
    // half the size, aligned and initialised; either kind allows others to write at the same time.
    // No memory is a ring's and holds timestamps, so no location is accessed in both sizes at once.
    unsafe { core::slice::from_raw_parts(words.as_ptr().cast(), words.len() * 2) }
}

// SAFETY:
// 1. `allocate` takes pages that `taken` says are free and zeroes them before anybody has them;
//    only `free` makes them free again, and `kernel_runs` names just them;
// 2. the user's pages never move and are nobody else's; `pinned_runs` names those that were asked
//    for, which lie side by side in the order of the user's addresses;
// 3. the numbers of pages are never changed;
// 4. a `View` has the words of its pages and stores into the writable ones only;
// 5. every allocation is one run;
// 6. `TimestampWords` has the words of its pages, and the caller drops it before `free`.
unsafe impl HostMemory for &'static Ram {
    type Process = ();
    type KernelPages = KernelPages;
    type PinnedPages = PinnedPages;
    type View = View;
    type Words = TimestampWords;

    const PAGE_BYTES: u64 = PAGE_BYTES;

    fn allocate(&self, pages: u64) -> Result<KernelPages, HostError> {
        let count = usize::try_from(pages).map_err(|_| HostError::NoMemory)?;
        let mut taken = self.taken.lock().unwrap();
        let first = taken.windows(count).position(|run| !run.contains(&true));
        let first = first.ok_or(HostError::NoMemory)?;
        taken[first..first + count].fill(true);
        for word in self.pages(first, count) {
            word.store(0, Ordering::Relaxed);
        }
        Ok(KernelPages { first, count })
    }

    fn allocate_contiguous(&self, pages: u64) -> Result<KernelPages, HostError> {
        self.allocate(pages)
    }

    fn words(&self, pages: &KernelPages) -> Option<TimestampWords> {
        Some(TimestampWords(self.pages(pages.first, pages.count)))
    }

    fn free(&self, pages: KernelPages) {
        let mut taken = self.taken.lock().unwrap();
        taken[pages.first..pages.first + pages.count].fill(false);
    }

    fn kernel_runs<'a>(
        &'a self,
        pages: &'a KernelPages,
    ) -> impl Iterator<Item = DmaRun> + Clone + 'a {
        Ram::runs(pages.first, pages.count)
    }

    fn pin(
        &self,
        _process: &(),
        pages: UserPages,
        _access: DeviceAccess,
    ) -> Result<PinnedPages, HostError> {
        let at = pages.range().start();
        let count = usize::try_from(pages.count()).map_err(|_| HostError::NoMemory)?;
        let number = at
            .get()
            .checked_sub(USER_BASE)
            .map(|into| into / PAGE_BYTES);
        let number = number.and_then(|number| usize::try_from(number).ok());
        match number {
            Some(number) if number < USER_PAGES && count <= USER_PAGES - number => {
                self.pins.fetch_add(count, Ordering::Relaxed);
                let first = KERNEL_PAGES + number;
                Ok(PinnedPages { first, count })
            }
            _ => Err(HostError::Fault { at }),
        }
    }

    fn pinned_runs<'a>(
        &'a self,
        pages: &'a PinnedPages,
    ) -> impl Iterator<Item = DmaRun> + Clone + 'a {
        Ram::runs(pages.first, pages.count)
    }

    fn unpin(&self, pages: PinnedPages, _access: DeviceAccess) {
        self.pins.fetch_sub(pages.count, Ordering::Relaxed);
    }

    fn view(
        &self,
        _process: &(),
        pages: &KernelPages,
        rights: ViewRights,
    ) -> Result<View, HostError> {
        let writable = usize::try_from(rights.writable_pages).unwrap_or(usize::MAX);
        Ok(View {
            words: self.pages(pages.first, pages.count),
            writable: writable.min(pages.count) * PAGE_WORDS,
        })
    }

    fn remove_view(&self, _view: View) {}
}

/// Kernel pages as the user sees them: all to read, some to write. Cloned where the system copies a
/// mapping, as for a fork.
#[derive(Clone, Debug)]
pub struct View {
    words: &'static [AtomicU64],
    writable: usize,
}

impl View {
    /// What the user reads in the 64-bit word with this number.
    pub fn read_word(&self, number: usize) -> u64 {
        self.words[number].load(Ordering::Acquire)
    }
}

// What the consumer of a ring needs of its view.
impl BlockIndices for View {
    type Error = SharedWordsError;

    fn load_index(&mut self, offset: u64) -> Result<u32, SharedWordsError> {
        SharedWords::new(halves(self.words)).load_index(offset)
    }

    fn store_index(&mut self, offset: u64, index: u32) -> Result<(), SharedWordsError> {
        SharedWords::new(halves(&self.words[..self.writable])).store_index(offset, index)
    }
}

impl BlockRead for View {
    fn read(&mut self, offset: u64, bytes: &mut [u8]) -> Result<(), SharedWordsError> {
        SharedWords::new(halves(self.words)).read(offset, bytes)
    }
}

/// Kernel pages as the driver writes timestamps into them.
#[derive(Debug)]
pub struct TimestampWords(&'static [AtomicU64]);

impl TimestampMemory for TimestampWords {
    fn store(&mut self, slot: u32, value: u64) {
        self.0[slot as usize].store(value, Ordering::Release);
    }
}

// ---- The device -----------------------------------------------------------------------------

/// The registers of an MMU that does at once what it is told, or of one that is gone.
#[derive(Debug, Default)]
pub struct MmuRegisters {
    /// `None` when the device does not answer.
    values: Mutex<Option<HashMap<u32, u32>>>,
}

/// Takes over the root of an ASID; bit 31 is set for as long as it takes (facts 9.1).
const ASID_BUSY: u32 = 0x49_0000;
/// Invalidates; not zero for as long as it takes.
const INVALIDATE_ALL: u32 = 0x49_0034;

impl MmuRegisters {
    /// The device is reset: it answers, and every register is zero.
    pub fn reset(&self) {
        *self.values.lock().unwrap() = Some(HashMap::new());
    }

    /// The device falls off its bus.
    pub fn lose(&self) {
        *self.values.lock().unwrap() = None;
    }
}

// SAFETY: each call is one access (1), in the order of the calls, under a lock, which puts the
// caller's stores before it (2). One driver is made over them (3), that of the ASIC that they
// imitate (4). They read all ones when the device is lost, and else what they contain (5).
unsafe impl Registers for MmuRegisters {
    type Deadline = Instant;

    fn read(&self, offset: u32) -> u32 {
        let values = self.values.lock().unwrap();
        let read = |values: &HashMap<_, _>| values.get(&offset).copied().unwrap_or(0);
        values.as_ref().map_or(u32::MAX, read)
    }

    fn write(&self, offset: u32, value: u32) {
        let value = match offset {
            ASID_BUSY => value & !(1 << 31),
            INVALIDATE_ALL => 0,
            _ => value,
        };
        if let Some(values) = &mut *self.values.lock().unwrap() {
            values.insert(offset, value);
        }
    }

    fn deadline(&self, timeout: Duration) -> Instant {
        Instant::now() + timeout
    }

    fn pause(&self, deadline: &mut Instant) -> bool {
        Instant::now() < *deadline
    }
}

/// The part of the device's memory that has its page tables.
#[derive(Debug)]
pub struct TableWindow {
    words: Vec<AtomicU64>,
}

const TABLES: usize = 64;

impl Default for TableWindow {
    fn default() -> Self {
        let words = TABLES * PAGE_WORDS;
        Self {
            words: (0..words).map(|_| AtomicU64::new(0)).collect(),
        }
    }
}

impl TableWindow {
    fn words(&self, address: BusAddr) -> &[AtomicU64] {
        let offset = address.get() - Goya::PROFILE.device_tables.start().get();
        &self.words[offset as usize / 8..]
    }
}

impl TableBus for TableWindow {
    fn write(&self, address: BusAddr, entries: impl Iterator<Item = u64>) {
        for (word, entry) in self.words(address).iter().zip(entries) {
            word.store(entry, Ordering::Relaxed);
        }
    }

    fn read(&self, address: BusAddr) -> u64 {
        self.words(address)[0].load(Ordering::Relaxed)
    }

    fn flush(&self) -> Result<(), DeviceLost> {
        // Behind a bus: read something back, and tell all ones from an entry.
        fence(Ordering::SeqCst);
        Ok(())
    }
}

/// Engines that do nothing by themselves: the examples are the engines.
#[derive(Clone, Copy, Debug)]
pub struct NoEngines;

// SAFETY: nothing ever works on a block while this is called (1), or under the ASID of a user (2).
unsafe impl Engines for NoEngines {
    type Error = Infallible;

    fn stop(&self, _block: AddrRange<DeviceAddr>) -> Result<(), Infallible> {
        Ok(())
    }
}

/// Device memory without bytes: its addresses are handed out, mapped and exported, and that is all.
#[derive(Clone, Copy, Debug)]
pub struct NoBytes;

impl Scrub for NoBytes {
    type Error = Infallible;

    fn scrub(&mut self, _run: Run) -> Result<(), Infallible> {
        Ok(())
    }
}

// ---- All of it together ---------------------------------------------------------------------

/// The pool that all page tables come from.
pub type Tables = DeviceTablePool<'static, TableWindow, SpinLock>;

/// The port, as types.
#[derive(Debug)]
pub struct SmallestPort;

std::thread_local! {
    static HELD: core::cell::Cell<HeldLocks> = const { core::cell::Cell::new(HeldLocks::NONE) };
}

impl Port for SmallestPort {
    type Lock = SpinLock;
    type InterruptLock = SpinLock;
    type Host = &'static Ram;
    // Three ASIDs: the privileged one and two users'.
    type Mmu = GoyaMmu<&'static MmuRegisters, 3>;
    type Tables = &'static Tables;
    // Goya has one MMU for everything.
    type DramMmu = NoDramMmu;
    type DramTables = Self::Tables;
    type Engines = NoEngines;
    type Scrubber = NoBytes;
    type Nodes = [Node; 16];
    type TimestampSlots = [TimestampSlot; 16];
    type EventSlots = [EventSlot<DeviceEvent>; 8];

    // Two users; the profile of today's parts has one.
    const MAX_ASID: Option<u16> = Some(3);

    fn before_lock(rank: LockRank) {
        let mut held = HELD.get();
        held.take(rank).unwrap();
        HELD.set(held);
    }

    fn after_lock(rank: LockRank) {
        let mut held = HELD.get();
        held.release(rank);
        HELD.set(held);
    }
}

/// Storage for the life of the program. A firmware has statics instead, a kernel frees it later.
pub fn storage<T>(count: usize, make: impl Fn() -> T) -> &'static mut [T] {
    Vec::leak((0..count).map(|_| make()).collect())
}

/// A device that is up, and what it is made of.
#[derive(Debug)]
pub struct Machine {
    /// The device.
    pub device: Device<'static, Goya, SmallestPort>,
    /// The right to its privileged address space.
    pub privilege: Privilege,
    /// The memory of the host.
    pub ram: &'static Ram,
    /// The registers of the MMU.
    pub registers: &'static MmuRegisters,
    /// The page tables.
    pub tables: &'static Tables,
    /// The pages that the user may have pinned: 32.
    pub budget: &'static Budget,
}

impl Machine {
    /// Brings a machine up.
    pub fn new() -> Result<Self, BringUpError> {
        let ram: &Ram = Box::leak(Box::default());
        let registers: &MmuRegisters = Box::leak(Box::default());
        registers.reset();
        let pool = DeviceTablePool::new(
            TableWindow::default(),
            Goya::PROFILE.device_tables.start(),
            storage(TABLES, DeviceTableRecord::new),
            storage(TABLES, ChildMap::new),
            ReuseOrder::LastReleased,
        );
        let tables: &Tables = Box::leak(Box::new(pool.expect("the tables are aligned")));
        let dram = Goya::PROFILE.dram;
        let region = DramRegion::new(dram.user_start, dram.page_bytes, 8);
        let memory = DramPool::new(
            region.expect("whole pages"),
            storage(8, || PageRecord::EMPTY),
            storage(8, || PackRecord::EMPTY),
            DramContent::Scrubbed,
        );
        let parts = DeviceParts {
            host: ram,
            engines: NoEngines,
            tables,
            privileged: SpaceNodes::each(|| [Node::EMPTY; 16]),
            buffers: storage(8, BufferSlot::new),
            seats: storage(2, || Seat::new([EventSlot::new(); 8])),
            dram: memory.expect("a record for each page"),
            scrubber: NoBytes,
            options: DeviceOptions {
                peer_window: dram.user_memory(),
                ..DeviceOptions::default()
            },
        };
        let timeouts = Goya::PROFILE.timeouts;
        let mmu = |parking| GoyaMmu::new(registers, timeouts, parking);
        let (device, privilege) = Device::new(parts, mmu)?;
        let budget = Box::leak(Box::new(Budget::new(32)));
        Ok(Self {
            device,
            privilege,
            ram,
            registers,
            tables,
            budget,
        })
    }

    /// Opens a file.
    pub fn open(&self) -> Result<Context<'_, 'static, Goya, SmallestPort>, OpenError> {
        let timestamps = TimestampStorage {
            pools: storage(2, TimestampPlace::default),
            waits: storage(16, WaitSlot::new),
            counters: storage(4, CounterSlot::new),
        };
        let storage = ContextStorage {
            nodes: SpaceNodes::each(|| [Node::EMPTY; 16]),
            mappings: storage(16, MappingSlot::new),
            handles: storage(16, HandleSlot::new),
            timestamps,
        };
        self.device.open((), self.budget, storage)
    }
}
