//! The port: `hl-mem` over the small device and host.
//!
//! A process has a number, and whatever it pins is a page that is its own until it is unpinned.
//! Whoever gets that page next may be anybody. Blocks are of one page.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use hl_mem::budget::Budget;
use hl_mem::buffer::BufferSlot;
use hl_mem::context::{Context, ContextStorage, MappingSlot, OpenError, TimestampStorage};
use hl_mem::device::{
    Device, DeviceOptions, DeviceParts, DeviceUsage, Privilege, Seat, SpaceNodes,
};
use hl_mem::dram::{DramPool, NoScrub};
use hl_mem::events::{DeviceEvent, EventSlot};
use hl_mem::handle::HandleSlot;
use hl_mem::host::{DeviceAccess, DmaAddr, DmaRun, HostError, HostMemory, UserPages, ViewRights};
use hl_mem::mmu::NoDramMmu;
use hl_mem::port::{Engines, Port};
use hl_mem::profile::{Asic, Gaudi};
use hl_mem::timestamps::{NoTimestamps, TimestampSlot};
use hl_mem::uapi::{self, Errno, FLAG_USERPTR, MemoryInput, OP_MAP, OP_UNMAP};
use hl_mem::va::Node;
use mmu_core::{AddrRange, DeviceAddr, PoolUsage};

use super::device::{Hardware, Mmu};
use super::hold::Hold;
use super::lock::ModelLock;
use super::pages::{OwnedPage, Owner, PAGE_BYTES, Pages};
use super::{BusPool, ModelTables, Pool, RigOf, Size, Weak};

/// Tables in host memory.
pub(crate) type HostTables = &'static Pool<ModelLock>;
/// Tables in device memory.
pub(crate) type BusTables = &'static BusPool<ModelLock>;

/// Blocks are numbered from here on, processes below.
const FIRST_BLOCK: Owner = 100;

/// The device address that the first mapping of a space gets.
pub(crate) const FIRST_ADDRESS: DeviceAddr = Gaudi::PROFILE.host.range.start();

/// Pages of the host.
#[derive(Debug)]
pub(crate) struct ModelHost {
    pages: &'static Pages,
    blocks: AtomicU32,
}

/// A block as a process sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View {
    page: u64,
    block: Owner,
}

impl ModelHost {
    /// The process reads its view.
    pub(crate) fn read(&self, view: &View) {
        let owner = self.pages.touch(view.page);
        assert_eq!(owner, view.block, "a view shows another's page");
    }
}

fn run(page: &OwnedPage) -> impl Iterator<Item = DmaRun> + Clone {
    core::iter::once(AddrRange::new(DmaAddr::new(page.address()), PAGE_BYTES)).flatten()
}

// SAFETY: the host model zeroes a page before it gives it out, and orders that as it maps it for DMA
// (1); a page is one owner's until it is taken back, and never moves (2, 3); a view is its address (4),
// and every access by one goes through the host. There is no memory behind it.
unsafe impl HostMemory for ModelHost {
    type Process = Owner;
    type KernelPages = OwnedPage;
    type PinnedPages = OwnedPage;
    type Words = NoTimestamps;
    type View = View;

    const PAGE_BYTES: u64 = PAGE_BYTES;

    fn allocate(&self, pages: u64) -> Result<OwnedPage, HostError> {
        assert_eq!(pages, 1, "blocks of the models have one page");
        // Which number it gets is of no matter, so loom need not know of it.
        let block = FIRST_BLOCK + self.blocks.fetch_add(1, Relaxed);
        self.pages.allocate_block(block).ok_or(HostError::NoMemory)
    }

    fn free(&self, page: OwnedPage) {
        self.pages.free(page);
    }

    fn kernel_runs<'a>(&'a self, page: &'a OwnedPage) -> impl Iterator<Item = DmaRun> + Clone + 'a {
        run(page)
    }

    fn pin(
        &self,
        process: &Owner,
        pages: UserPages,
        _access: DeviceAccess,
    ) -> Result<OwnedPage, HostError> {
        assert_eq!(pages.count(), 1, "processes of the models pin one page");
        self.pages.allocate(*process).ok_or(HostError::NoMemory)
    }

    fn pinned_runs<'a>(&'a self, page: &'a OwnedPage) -> impl Iterator<Item = DmaRun> + Clone + 'a {
        run(page)
    }

    fn unpin(&self, page: OwnedPage, _access: DeviceAccess) {
        self.pages.free(page);
    }

    fn view(
        &self,
        _process: &Owner,
        page: &OwnedPage,
        _rights: ViewRights,
    ) -> Result<View, HostError> {
        let page = page.address();
        let block = self.pages.touch(page);
        Ok(View { page, block })
    }

    fn remove_view(&self, _view: View) {}
}

/// The engines: one, which the device stops.
#[derive(Debug)]
pub(crate) struct ModelEngines(&'static Hardware);

/// No value has it: engines of the models stop.
#[derive(Debug)]
pub(crate) enum NeverStuck {}

// SAFETY: the device's engine makes no access any more when `stop` returns (1). Accesses as a user are
// made on purpose after his file is closed, which shows what holds without the second clause.
unsafe impl Engines for ModelEngines {
    type Error = NeverStuck;

    fn stop(&self, _block: AddrRange<DeviceAddr>) -> Result<(), NeverStuck> {
        self.0.stop();
        Ok(())
    }
}

/// The port, as types, with tables in `M`.
#[derive(Debug)]
pub(crate) struct ModelPort<M = HostTables>(PhantomData<M>);

impl<M: ModelTables> Port for ModelPort<M> {
    type Lock = ModelLock;
    type InterruptLock = ModelLock;
    type Host = ModelHost;
    type Mmu = Mmu;
    type Tables = M;
    type DramMmu = NoDramMmu;
    type DramTables = M;
    type Engines = ModelEngines;
    type Scrubber = NoScrub;
    type TimestampSlots = [TimestampSlot; 0];
    type EventSlots = [EventSlot<DeviceEvent>; 1];
    type Nodes = Vec<Node>;

    /// The driver's and two users', as many as the device of the models has.
    const MAX_ASID: Option<u16> = Some(3);
}

pub(crate) type ModelContext<M = HostTables> = Context<'static, 'static, Gaudi, ModelPort<M>>;

/// What a file is kept in.
pub(crate) type Room<M> = (&'static Budget, ContextStorage<'static, ModelPort<M>>);

/// A Gaudi, brought up.
pub(crate) struct Machine<M: ModelTables = HostTables> {
    pub(crate) rig: RigOf<M>,
    pub(crate) device: Device<'static, Gaudi, ModelPort<M>>,
    pub(crate) privilege: Privilege,
}

/// Everything countable that a finished piece of work must leave as it found it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Counters {
    tables: PoolUsage,
    pages: usize,
    device: DeviceUsage,
}

fn nodes<M: ModelTables>() -> SpaceNodes<ModelPort<M>> {
    SpaceNodes {
        small: vec![Node::EMPTY; 4],
        large: Vec::new(),
        dram: Vec::new(),
    }
}

/// Tables of the path of one page, below the root.
const PATH: usize = 4;

impl Machine {
    /// A machine with `pages` pages of host memory, for one user at a time.
    pub(crate) fn new(hold: &Hold, pages: usize, weak: Option<Weak>) -> &'static Self {
        Self::for_users(hold, 1, pages, weak)
    }

    /// The same for so many users at a time. There are tables for one page of each and of the
    /// driver, and for one page more: a removal that waits for its invalidation keeps its tables.
    pub(crate) fn for_users(
        hold: &Hold,
        users: usize,
        pages: usize,
        weak: Option<Weak>,
    ) -> &'static Self {
        Self::with_paths(hold, users, users + 2, pages, weak)
    }
}

impl Machine<BusTables> {
    /// A machine with `pages` pages of host memory for one user at a time, and tables for `paths`
    /// mappings at a time in device memory.
    pub(crate) fn behind_bus(
        hold: &Hold,
        paths: usize,
        pages: usize,
        weak: Option<Weak>,
    ) -> &'static Self {
        Self::with_paths(hold, 1, paths, pages, weak)
    }
}

impl<M: ModelTables> Machine<M> {
    fn with_paths(
        hold: &Hold,
        users: usize,
        paths: usize,
        pages: usize,
        weak: Option<Weak>,
    ) -> &'static Self {
        let size = Size {
            // The roots are those of the driver and of the users, and the parking table.
            tables: 2 + users + paths * PATH,
            watched: &[0, 1],
            pages,
            probed: true,
        };
        let rig = RigOf::new(hold, size, weak);
        let parts = DeviceParts {
            host: ModelHost {
                pages: rig.pages,
                blocks: AtomicU32::new(0),
            },
            engines: ModelEngines(rig.hardware),
            tables: rig.pool,
            privileged: nodes(),
            options: DeviceOptions::default(),
            buffers: hold.keep(vec![BufferSlot::new()]),
            seats: hold.keep(
                (0..users)
                    .map(|_| Seat::new([EventSlot::new()]))
                    .collect::<Vec<_>>(),
            ),
            dram: DramPool::none(),
            scrubber: NoScrub,
        };
        let mmu = |parking| rig.mmu_with(parking);
        let (device, privilege) = Device::new(parts, mmu).expect("the device comes up");
        hold.keep(Self {
            rig,
            device,
            privilege,
        })
    }

    /// Room for a file with two mappings and one handle.
    pub(crate) fn room(&self, hold: &Hold) -> Room<M> {
        let storage = ContextStorage {
            nodes: nodes(),
            mappings: hold.keep(vec![MappingSlot::new(), MappingSlot::new()]),
            handles: hold.keep(vec![HandleSlot::new()]),
            timestamps: TimestampStorage::none(),
        };
        (hold.keep(Budget::new(2)), storage)
    }

    /// Opens a file for a process.
    pub(crate) fn try_open(
        &'static self,
        process: Owner,
        (budget, storage): Room<M>,
    ) -> Result<ModelContext<M>, OpenError> {
        self.device.open(process, budget, storage)
    }

    /// Opens a file for a process, with room of its own.
    pub(crate) fn open(&'static self, hold: &Hold, process: Owner) -> ModelContext<M> {
        self.try_open(process, self.room(hold))
            .expect("there is a free address space")
    }

    pub(crate) fn counters(&self) -> Counters {
        Counters {
            tables: self.rig.pool.usage(),
            pages: self.rig.pages.free_count(),
            device: self.device.usage(),
        }
    }
}

/// Maps a page of the process.
pub(crate) fn map<M: ModelTables>(context: &ModelContext<M>) -> DeviceAddr {
    try_map(context).expect("there is room for a mapping")
}

/// Maps a page of the process, or tells what keeps the mapping from being.
pub(crate) fn try_map<M: ModelTables>(context: &ModelContext<M>) -> Result<DeviceAddr, Errno> {
    let input = MemoryInput {
        arguments: [0x10_0000, 0, PAGE_BYTES],
        op: OP_MAP,
        flags: FLAG_USERPTR,
        ..MemoryInput::default()
    };
    let output = uapi::dispatch(context, &input.to_bytes())?;
    Ok(DeviceAddr::new(output.value))
}

/// Unmaps a page of the process.
pub(crate) fn unmap<M: ModelTables>(context: &ModelContext<M>, at: DeviceAddr) {
    let input = MemoryInput {
        arguments: [at.get(), 0, 0],
        op: OP_UNMAP,
        ..MemoryInput::default()
    };
    uapi::dispatch(context, &input.to_bytes()).expect("the page is mapped");
}
