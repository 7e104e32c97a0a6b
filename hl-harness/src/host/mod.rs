//! The host: physical pages, processes, pinning, kernel memory, and real mappings of all of it.
//!
//! # What is real and what is not
//!
//! *Physical memory* is real: a file in memory (`memfd`), sealed at its size, mapped once as a whole
//! for access by bus address. *User addresses* are model: a process is a table from page numbers to
//! pages, so that holes, read-only pages, remapping and exit are exact and cost nothing. *Views* are
//! real again: [`View`] maps any list of scattered pages contiguously into this program with `mmap`, as
//! an operating system does for `mmap(fd, handle)`.
//!
//! With [`FrameStorage::Program`] there is no file and no mapping: pages are memory of the program, and
//! an access of a view is split where pages end. Nothing else is different. This is the host of Miri,
//! which has no `mmap` of scattered pages, and of loom's models.
//!
//! # What it punishes
//!
//! * A page that is not pinned can move at any moment: [`Host::reclaim`] moves every one, and a
//!   [`Reclaimer`] does so all the time.
//! * A freed page is poisoned ([`POISON_BYTE`]) and, with [`FrameOrder::ImmediateReuse`], handed out
//!   next.
//! * A page that was shared by a fork moves to a copy when either process writes, unless it was pinned
//!   ([`Process::fork`]).
//! * A device access to a free page, or to a page of a process that is not pinned or not mapped for
//!   DMA ([`Host::map_for_dma`]), is counted ([`HostStatistics`]) and logged with the page and its owner. So is a free page that lost its
//!   poison.
//!
//! # Addresses
//!
//! Page `n` has bus address [`BUS_BASE`] + 4096 x n, in [`Host::bus_address`] and its inverse
//! [`Host::frame_at`] and nowhere else.
//!
//! # Order of locks
//!
//! The list of processes, then a process (one that forks before its child), then the frame table. Nothing
//! is called back under any.
//!
//! ```
//! use hl_harness::host::{Host, HostConfig, Permission, PinAccess};
//! use hl_harness::log::EventLog;
//!
//! let host = Host::new(HostConfig::with_frames(64), EventLog::new())?;
//! let before = host.counters();
//! let process = host.spawn();
//! let buffer = process.map(3, Permission::ReadWrite)?;
//! let frames = process.pin(buffer, 3, PinAccess::Write)?;
//! process.exit();
//! assert_eq!(host.counters().pins, 3, "pinned pages outlive their process");
//! for frame in frames {
//!     host.unpin(frame, true)?;
//! }
//! assert_eq!(host.counters(), before, "{}", host.counters().difference(&before));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod bus;
mod counters;
mod error;
mod frames;
mod kernel;
mod mapping;
mod memory;
mod physical;
mod process;
mod reclaimer;
mod sync;
mod view;

use std::io;
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use mmu_core::BusAddr;

pub use counters::{CounterDifference, HostCounters, HostStatistics};
pub use error::{
    MapError, NoDmaMapping, NotPinned, OutOfFrames, PinError, PinReason, UserAddress, UserFault,
};
pub use frames::{Frame, FrameOrder, FrameOwner, ProcessId};
pub use kernel::KernelBlock;
pub use memory::FrameStorage;
pub use process::{PinAccess, Process};
pub use reclaimer::Reclaimer;
#[cfg(loom)]
pub use sync::Probe;
pub use view::{MAX_MAPPED_PIECES, Permission, View, ViewError};

use crate::asic::BusError;
use crate::log::EventLog;
use frames::FrameTable;
use memory::Memory;

/// Bytes of a page.
pub const FRAME_SIZE: usize = 4096;

/// The bus address of page 0. Not 0, so that a page number used as an address is noticed; a multiple of
/// 1 GiB, so that contiguous pages align on the bus as they do in memory.
pub const BUS_BASE: BusAddr = BusAddr::new(0x20_0000_0000);

/// Every byte of a freed page. As a page-table entry it is present and malformed.
pub const POISON_BYTE: u8 = 0xA5;
const POISON_WORD: u64 = u64::from_le_bytes([POISON_BYTE; 8]);

/// How a host is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostConfig {
    /// Pages of physical memory. They cost nothing until touched.
    pub frames: u32,
    /// In which order pages are handed out.
    pub order: FrameOrder,
    /// Where their content is.
    pub storage: FrameStorage,
}

impl HostConfig {
    /// So many pages, scattered, in a file in memory.
    #[must_use]
    pub fn with_frames(frames: u32) -> Self {
        Self {
            frames,
            order: FrameOrder::Scattered { seed: 1 },
            storage: FrameStorage::MemoryFile,
        }
    }
}

/// What can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostFailure {
    /// The allocation of a page (a contiguous run counts as one).
    FrameAllocation,
    /// The pinning of a page.
    Pin,
    /// The mapping of a page for DMA.
    DmaMap,
}

/// Whether a device may touch a page, kept beside the frame table so that an access takes no lock.
const FREE: u8 = 0;
const UNPINNED: u8 = 1;
const UNMAPPED: u8 = 2;
const STEADY: u8 = 3;

#[derive(Debug, Default)]
struct Statistics {
    free_accesses: AtomicU64,
    unpinned_accesses: AtomicU64,
    unmapped_accesses: AtomicU64,
    poison_damaged: AtomicU64,
    allocations: AtomicU64,
    pins_taken: AtomicU64,
    moved: AtomicU64,
}

/// Calls left until one fails; 0: none does.
#[derive(Debug, Default)]
struct Countdown(AtomicU64);

impl Countdown {
    fn set(&self, nth: Option<u64>) {
        self.0.store(nth.unwrap_or(0), Ordering::Relaxed);
    }

    /// Counts a call; whether it is the one that fails.
    fn hit(&self) -> bool {
        let step = |left: u64| left.checked_sub(1);
        let before = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, step);
        before == Ok(1)
    }
}

/// The host. See the [module documentation](self).
#[derive(Debug)]
pub struct Host {
    memory: Memory,
    frames: Mutex<FrameTable>,
    /// One of `FREE`, `UNPINNED`, `STEADY` for each page.
    device_access: Vec<AtomicU8>,
    processes: Mutex<Vec<Weak<process::Shared>>>,
    next_process: AtomicU32,
    views: AtomicI64,
    view_pages: AtomicI64,
    fail_allocation: Countdown,
    fail_pin: Countdown,
    fail_dma_map: Countdown,
    statistics: Statistics,
    log: EventLog,
}

impl Host {
    /// A host with nothing allocated.
    ///
    /// # Errors
    ///
    /// What the machine says to making and mapping a file in memory, where there is to be one;
    /// `Unsupported` where its pages are not 4 KiB.
    pub fn new(config: HostConfig, log: EventLog) -> io::Result<Arc<Self>> {
        let frames = config.frames as usize;
        Ok(Arc::new(Self {
            memory: Memory::new(config.storage, frames)?,
            frames: Mutex::new(FrameTable::new(config.frames, config.order)),
            device_access: (0..frames).map(|_| AtomicU8::new(FREE)).collect(),
            processes: Mutex::default(),
            next_process: AtomicU32::new(1),
            views: AtomicI64::new(0),
            view_pages: AtomicI64::new(0),
            fail_allocation: Countdown::default(),
            fail_pin: Countdown::default(),
            fail_dma_map: Countdown::default(),
            statistics: Statistics::default(),
            log,
        }))
    }

    /// The log it writes to.
    #[must_use]
    pub fn log(&self) -> &EventLog {
        &self.log
    }

    // --- addresses ---

    /// The bus address of a page.
    #[must_use]
    pub fn bus_address(&self, frame: Frame) -> BusAddr {
        BusAddr::new(BUS_BASE.get() + (u64::from(frame.0) * FRAME_SIZE as u64))
    }

    /// The page at a bus address.
    #[must_use]
    pub fn frame_at(&self, address: BusAddr) -> Option<Frame> {
        let number = address.offset_from(BUS_BASE)? / FRAME_SIZE as u64;
        let exists = number < self.device_access.len() as u64;
        exists.then_some(Frame(number as u32))
    }

    // --- making things ---

    /// A process with nothing mapped.
    #[must_use]
    pub fn spawn(self: &Arc<Self>) -> Process {
        let id = ProcessId(self.next_process.fetch_add(1, Ordering::Relaxed));
        let (process, shared) = Process::new(self, id);
        let mut processes = self.processes();
        processes.retain(|process| process.strong_count() > 0);
        processes.push(Arc::downgrade(&shared));
        process
    }

    /// Allocates zeroed kernel pages, scattered as the frame order says. `purpose` names them in events.
    ///
    /// # Errors
    ///
    /// [`OutOfFrames`], also for no pages; nothing is allocated.
    pub fn kernel_block(
        self: &Arc<Self>,
        pages: usize,
        purpose: &'static str,
    ) -> Result<KernelBlock, OutOfFrames> {
        KernelBlock::new(self, pages, purpose)
    }

    /// Allocates zeroed, physically contiguous kernel pages, the first a multiple of `align_pages`: what
    /// `dma_alloc_coherent` gives.
    ///
    /// # Errors
    ///
    /// [`OutOfFrames`], also for no pages or an alignment of 0; nothing is allocated.
    pub fn kernel_contiguous(
        self: &Arc<Self>,
        pages: usize,
        align_pages: usize,
        purpose: &'static str,
    ) -> Result<KernelBlock, OutOfFrames> {
        KernelBlock::contiguous(self, pages, align_pages, purpose)
    }

    /// Maps pages contiguously into this program, for real where their [`FrameStorage`] is a file.
    ///
    /// # Errors
    ///
    /// What `mmap` of the machine says; `InvalidInput` for no pages.
    pub fn view(self: &Arc<Self>, frames: &[Frame], permission: Permission) -> io::Result<View> {
        View::new(
            self,
            frames,
            vec![permission == Permission::ReadWrite; frames.len()],
        )
    }

    /// As [`view`](Self::view), with a permission for each page.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn view_each(self: &Arc<Self>, frames: &[(Frame, Permission)]) -> io::Result<View> {
        let writable = frames.iter().map(|(_, p)| *p == Permission::ReadWrite);
        let writable = writable.collect();
        let frames: Vec<Frame> = frames.iter().map(|(frame, _)| *frame).collect();
        View::new(self, &frames, writable)
    }

    // --- physical access by the CPU ---

    /// Stores an aligned word of physical memory, releasing: a page-table entry, say.
    ///
    /// # Errors
    ///
    /// [`BusError`] where there is no memory or the address is misaligned.
    pub fn store_u64(&self, address: BusAddr, value: u64) -> Result<(), BusError> {
        let offset = self.offset(address, 8, 8)?;
        self.memory.store_u64(offset, value);
        Ok(())
    }

    /// Loads an aligned word of physical memory, acquiring, as the CPU: it is not judged as a device's.
    ///
    /// # Errors
    ///
    /// As [`store_u64`](Self::store_u64).
    pub fn load_u64(&self, address: BusAddr) -> Result<u64, BusError> {
        let offset = self.offset(address, 8, 8)?;
        Ok(self.memory.load_u64(offset))
    }

    // --- counting and failing ---

    /// What it holds now.
    #[must_use]
    pub fn counters(&self) -> HostCounters {
        let table = self.frames();
        let mut counters = HostCounters {
            views: self.views.load(Ordering::Relaxed) as u64,
            view_pages: self.view_pages.load(Ordering::Relaxed) as u64,
            ..HostCounters::default()
        };
        for state in table.states() {
            match state.owner {
                FrameOwner::Free => continue,
                FrameOwner::Kernel(_) => counters.kernel_frames += 1,
                FrameOwner::User(_) => counters.user_frames += 1,
            }
            counters.frames_in_use += 1;
            counters.pinned_frames += u64::from(state.pins > 0);
            counters.pins += u64::from(state.pins);
            counters.dma_mappings += u64::from(state.dma_mappings);
            counters.dirty_frames += u64::from(state.dirty);
            counters.references += u64::from(state.references);
        }
        counters
    }

    /// What happened so far.
    #[must_use]
    pub fn statistics(&self) -> HostStatistics {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let statistics = &self.statistics;
        HostStatistics {
            free_accesses: get(&statistics.free_accesses),
            unpinned_accesses: get(&statistics.unpinned_accesses),
            unmapped_accesses: get(&statistics.unmapped_accesses),
            poison_damaged: get(&statistics.poison_damaged),
            allocations: get(&statistics.allocations),
            pins_taken: get(&statistics.pins_taken),
            moved: get(&statistics.moved),
        }
    }

    /// Free pages that are not poisoned all over: somebody wrote to them after they were freed.
    #[must_use]
    pub fn damaged_free_frames(&self) -> Vec<Frame> {
        let table = self.frames();
        let numbers = 0..table.states().len() as u32;
        let free = numbers.map(Frame).filter(|frame| {
            let state = table.state(*frame);
            state.owner == FrameOwner::Free && state.used && !self.is_poisoned(*frame)
        });
        free.collect()
    }

    /// Lets the `nth` next call (1: the very next one) of `failure`'s kind fail, once; `None`: no call.
    pub fn fail(&self, failure: HostFailure, nth: Option<u64>) {
        match failure {
            HostFailure::FrameAllocation => self.fail_allocation.set(nth),
            HostFailure::Pin => self.fail_pin.set(nth),
            HostFailure::DmaMap => self.fail_dma_map.set(nth),
        }
    }

    // --- inside ---

    fn views_changed(&self, views: i64, pages: i64) {
        self.views.fetch_add(views, Ordering::Relaxed);
        self.view_pages.fetch_add(pages, Ordering::Relaxed);
    }

    fn frames(&self) -> MutexGuard<'_, FrameTable> {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn processes(&self) -> MutexGuard<'_, Vec<Weak<process::Shared>>> {
        self.processes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
