//! Pages of the host: those of the harness's own host model, in memory of the program.
//!
//! [`Host`] zeroes, pins, maps for DMA, frees and poisons them, judges what the device touches, and tells
//! loom of each access to what is in them. Whoever gets a page writes his number into it first, and an
//! access finds that.
//!
//! Each call of the host is one step: its own locks are not loom's, and are taken under one that is.
//! So the models explore the driver above it, which is what they are about; of threads within the host
//! `tests/host_model.rs` has some. A page has a mark besides, which loom does see: what it is told of
//! the content shows a race, but is no point where it would try another order.

use std::collections::BTreeMap;
use std::mem::ManuallyDrop;
use std::sync::{Arc, Mutex as QuietMutex, PoisonError};

use hl_harness::asic::HostBus;
use hl_harness::host::{
    FRAME_SIZE, Frame, FrameOrder, FrameOwner, FrameStorage, Host, HostConfig, KernelBlock,
    Permission, PinAccess, Process,
};
use hl_harness::log::EventLog;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::sync::{Mutex, MutexGuard};
use mmu_core::{BusAddr, Run};

use super::Weak;

pub(crate) const PAGE_BYTES: u64 = FRAME_SIZE as u64;
/// What the device adds to addresses of the host's bus (facts DM-2).
pub(crate) const HOST_OFFSET: u64 = 0x80_0000_0000;

/// Whose a page is: the number of a process or of a block. Zero is nobody.
pub(crate) type Owner = u32;

/// The pages of the host. The one that was freed last is the next that somebody gets.
#[derive(Debug)]
pub(crate) struct Pages {
    host: Arc<Host>,
    processes: QuietMutex<BTreeMap<Owner, Process>>,
    /// Held during each call that changes whose a page is.
    turn: Mutex<()>,
    /// Changed together with whose a page is, and looked at by each access to it.
    marks: Vec<AtomicU32>,
    weak: Option<Weak>,
}

/// A page that is somebody's.
#[derive(Debug)]
pub(crate) struct OwnedPage {
    frame: Frame,
    at: BusAddr,
    /// The block; `None` for a page of a process, which its pin alone keeps. Freed by
    /// [`Pages::free`] and not with the stack of a thread whose model has failed.
    block: Option<ManuallyDrop<KernelBlock>>,
}

impl OwnedPage {
    /// Where it is on the bus of the host.
    pub(crate) fn address(&self) -> u64 {
        self.at.get()
    }

    /// Planted: the same page once more.
    pub(crate) fn alias(&self) -> Self {
        let Self { frame, at, .. } = *self;
        let block = None;
        Self { frame, at, block }
    }

    /// Where the device finds it.
    pub(crate) fn run(&self) -> Run {
        Run::new(BusAddr::new(self.address() + HOST_OFFSET), PAGE_BYTES)
            .expect("the run is in range")
    }
}

impl Pages {
    pub(crate) fn new(count: usize, weak: Option<Weak>) -> Self {
        let config = HostConfig {
            frames: count as u32,
            order: FrameOrder::ImmediateReuse,
            storage: FrameStorage::Program,
        };
        Self {
            host: Host::new(config, EventLog::new()).expect("this storage takes no system call"),
            processes: QuietMutex::default(),
            turn: Mutex::new(()),
            marks: (0..count).map(|_| AtomicU32::new(0)).collect(),
            weak,
        }
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().expect("no thread panicked")
    }

    fn mark(&self, frame: Frame) {
        // An exchange reads the last value: no access may see the page as it was before.
        self.marks[frame.number() as usize].fetch_or(0, Ordering::Relaxed);
    }

    fn process(&self, number: Owner) -> Process {
        let processes = self.processes.lock();
        let mut processes = processes.unwrap_or_else(PoisonError::into_inner);
        let process = processes.entry(number);
        process.or_insert_with(|| self.host.spawn()).clone()
    }

    /// A process maps a page, which is pinned for the device and unmapped: it is the process's until it
    /// is unpinned, and anybody's from there on.
    pub(crate) fn allocate(&self, process: Owner) -> Option<OwnedPage> {
        let turn = self.turn();
        let user = self.process(process);
        let address = user.map(1, Permission::ReadWrite).ok()?;
        user.write(address, &process.to_le_bytes())
            .expect("the page is mapped");
        let frames = user.pin(address, 1, PinAccess::Write);
        let frames = frames.expect("the page is mapped");
        user.unmap(address, 1);
        let page = self.hand_out(frames[0], None, process);
        drop(turn);
        Some(page)
    }

    /// Gives the kernel a page for a block.
    pub(crate) fn allocate_block(&self, number: Owner) -> Option<OwnedPage> {
        let turn = self.turn();
        let block = self.host.kernel_block(1, "block").ok()?;
        let frame = block.frames()[0];
        let number_at = self.host.bus_address(frame);
        self.host
            .store_u64(number_at, number.into())
            .expect("the page exists");
        let page = self.hand_out(frame, Some(ManuallyDrop::new(block)), number);
        drop(turn);
        Some(page)
    }

    /// Nobody sees the page before its zeros, the device included.
    fn hand_out(
        &self,
        frame: Frame,
        block: Option<ManuallyDrop<KernelBlock>>,
        owner: Owner,
    ) -> OwnedPage {
        let at = self.host.bus_address(frame);
        let mapped = self.host.map_for_dma(&[frame]);
        mapped.expect("nothing keeps pages from being mapped");
        let page = OwnedPage { frame, at, block };
        if self.weak == Some(Weak::ZeroesLate) {
            self.write(&page, 0, &owner.to_le_bytes());
        }
        self.mark(frame);
        page
    }

    /// Its owner fills a page.
    pub(crate) fn fill(&self, page: &OwnedPage) {
        self.write(page, 8, &[0xFF; 8]);
    }

    fn write(&self, page: &OwnedPage, offset: u64, bytes: &[u8]) {
        let at = BusAddr::new(page.address() + offset);
        HostBus::write(&*self.host, at, bytes).expect("the page exists");
    }

    /// Planted: gives the first page to somebody, whoever has it.
    pub(crate) fn give_away(&self, owner: Owner) {
        let first = self.host.frame_at(hl_harness::host::BUS_BASE);
        let first = first.expect("there is a page");
        self.mark(first);
        self.host
            .store_u64(self.host.bus_address(first), owner.into())
            .expect("the page exists");
    }

    /// Takes a page back: it is unpinned, or the block freed. Whoever gets it next may be the first.
    pub(crate) fn free(&self, page: OwnedPage) {
        let turn = self.turn();
        self.mark(page.frame);
        self.host.unmap_for_dma(&[page.frame]);
        match page.block {
            Some(block) => drop(ManuallyDrop::into_inner(block)),
            None => {
                let unpinned = self.host.unpin(page.frame, true);
                unpinned.expect("the page is pinned");
            }
        }
        drop(turn);
    }

    /// How many pages are nobody's.
    pub(crate) fn free_count(&self) -> usize {
        let turn = self.turn();
        let used = self.host.counters().frames_in_use as usize;
        drop(turn);
        self.marks.len() - used
    }

    /// Accesses the page at a bus address as the device does. Returns whose it is.
    pub(crate) fn touch(&self, address: u64) -> Owner {
        let Some(frame) = self.host.frame_at(BusAddr::new(address)) else {
            panic!("an access went to {address:#x}, which nobody mapped");
        };
        self.mark(frame);
        let owner = self.host.owner(frame);
        assert_ne!(owner, FrameOwner::Free, "an access went to a free page");
        let mut number = Owner::default().to_le_bytes();
        let page = self.host.bus_address(frame);
        HostBus::read(&*self.host, page, &mut number).expect("the page exists");
        let found = self.host.statistics();
        let stray = [
            found.free_accesses,
            found.unpinned_accesses,
            found.unmapped_accesses,
            found.poison_damaged,
        ];
        assert_eq!(stray, [0; 4], "an access was not the device's to make");
        Owner::from_le_bytes(number)
    }
}
