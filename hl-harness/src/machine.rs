//! A whole machine: the host model, a software ASIC, and `hl-mem` driving both through the port.

mod counters;
mod model;
mod port;
mod reset;

pub use counters::MachineCounters;
pub use model::{DevicePool, HostPool, Model};
pub use port::{DmaScrubber, EVENTS, HarnessPort, Lock, before_next_lock};
pub use reset::scrubber;

use core::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use hl_mem::budget::Budget;
use hl_mem::buffer::{BufferSlot, ViewPolicy};
use hl_mem::context::{
    Context, ContextStorage, MappingSlot, Object, OpenError, TimestampPlace, TimestampStorage,
};
use hl_mem::device::{
    BufferView, Device, DeviceOptions, DeviceParts, Privilege, RegisterBlock, Seat, SpaceNodes,
};
use hl_mem::dram::{DramContent, DramPool, DramRegion, PackRecord, PageRecord};
use hl_mem::events::EventSlot;
use hl_mem::handle::HandleSlot;
use hl_mem::timestamps::{CounterSlot, TimestampSlot, WaitSlot};
use hl_mem::va::Node;
use mmu_core::Run;

use crate::asic::{self, AsicConfig, AsicKind, DmaEngine, InitiatorMode};
use crate::host::{FrameOrder, FrameStorage, Host, HostConfig, KernelBlock, Process};
use crate::log::{EventLog, TableMemory, TablePools};
use crate::port::{AsicRegisters, HarnessEngines, HarnessHost};

/// How large a machine is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineConfig {
    /// Pages of host memory.
    pub frames: u32,
    /// Page tables, in all.
    pub tables: u32,
    /// Buffers at a time.
    pub buffers: usize,
    /// How many views of a kernel buffer there may be at a time.
    pub views: ViewPolicy,
    /// Mappings of a context at a time.
    pub mappings: usize,
    /// Handles of a context at a time.
    pub handles: usize,
    /// Users at a time. Today's parts have one (facts 1.2); the number is for machines that are to
    /// have more.
    pub users: usize,
    /// Pages of device memory that users have, where that is less than the ASIC has for them.
    pub dram_pages: Option<u32>,
    /// Pieces of device memory at a time.
    pub packs: usize,
    /// The order in which pages of host memory are handed out.
    pub order: FrameOrder,
    /// Where their content is.
    pub storage: FrameStorage,
    /// Pools of timestamps of a context at a time.
    pub timestamp_pools: usize,
    /// Timestamps of a pool, and of those that wait at a time.
    pub timestamps: usize,
    /// Counters that timestamps of a context can wait for.
    pub counters: usize,
    /// Whether files get the default page of their ASIC: on Goya, 130 tables for each.
    pub default_mapping: bool,
    /// The device, where not as the ASIC comes.
    pub asic: Option<AsicConfig>,
}

impl Default for MachineConfig {
    fn default() -> Self {
        Self {
            frames: 1 << 16,
            tables: 1024,
            buffers: 16,
            views: ViewPolicy::Single,
            mappings: 64,
            handles: 16,
            users: 1,
            dram_pages: None,
            packs: 64,
            order: FrameOrder::Scattered { seed: 1 },
            storage: FrameStorage::MemoryFile,
            timestamp_pools: 2,
            timestamps: 1024,
            counters: 16,
            default_mapping: false,
            asic: None,
        }
    }
}

impl MachineConfig {
    /// Pages of device memory that users of an ASIC have.
    ///
    /// # Panics
    ///
    /// Where the ASIC has no memory for users, or more pages than 32 bits count.
    #[must_use]
    pub fn dram_pages<A: Model>(&self) -> u32 {
        let dram = &A::PROFILE.dram;
        let users = dram.user_memory().expect("the device has memory for users");
        let all = u32::try_from(users.len() / dram.page_bytes).expect("a device has few pages");
        self.dram_pages.map_or(all, |pages| pages.min(all))
    }
}

/// The address by which users of a Gaudi2 ask for registers. Which ones silicon has is not modelled:
/// these are a page of memory.
pub const USER_REGISTERS: u64 = 0x1000_0000_0040_0000;

/// Pages of these registers.
const REGISTER_PAGES: usize = 2;

/// A device as the machine has it.
pub type MachineDevice<'s, 'm, A> = Device<'s, A, HarnessPort<'m, A>>;
/// A context as the machine has it.
pub type MachineContext<'c, 's, 'm, A> = Context<'c, 's, A, HarnessPort<'m, A>>;
/// A view of a block as the machine has it.
pub type MachineView<'m, A> = BufferView<HarnessPort<'m, A>>;

/// A whole machine, running: over tables that live for `'m` and other storage that lives for `'s`.
pub struct Machine<'s, 'm, A: Model> {
    /// The host.
    pub host: Arc<Host>,
    /// The device, as hardware.
    pub asic: Arc<asic::Asic>,
    /// What both did.
    pub log: EventLog,
    /// The device, as `hl-mem` manages it.
    pub device: MachineDevice<'s, 'm, A>,
    /// The driver's right to the privileged address space.
    pub privilege: Privilege,
    /// The engines that are running.
    pub engines: HarnessEngines,
    tables: &'m dyn TablePools,
    config: MachineConfig,
    /// A [reset](Self::reset) made the device memory undefined, and the driver has not been told yet.
    forgot_dram: AtomicBool,
}

impl<A: Model> fmt::Debug for Machine<'_, '_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine")
            .field("counters", &self.counters())
            .finish_non_exhaustive()
    }
}

impl<A: Model> Machine<'_, '_, A> {
    /// Pages of device memory that users have.
    #[must_use]
    pub fn dram_pages(&self) -> u32 {
        self.config.dram_pages::<A>()
    }

    /// Everything countable.
    #[must_use]
    pub fn counters(&self) -> MachineCounters {
        MachineCounters {
            tables: [TableMemory::Device, TableMemory::Host]
                .map(|memory| self.tables.used(memory))
                .iter()
                .sum(),
            host: self.host.counters(),
            device: self.device.usage(),
        }
    }
}

/// Storage of one open file.
pub struct FileStorage<'m, A: Model> {
    mappings: Vec<MappingSlot<HarnessPort<'m, A>>>,
    handles: Vec<HandleSlot<Object>>,
    pools: Vec<TimestampPlace<HarnessPort<'m, A>>>,
    waits: Vec<WaitSlot>,
    counters: Vec<CounterSlot>,
}

impl<A: Model> fmt::Debug for FileStorage<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "FileStorage({} mappings, {} handles)",
            self.mappings.len(),
            self.handles.len()
        )
    }
}

impl<'s, 'm, A: Model> Machine<'s, 'm, A> {
    /// Storage for one open file.
    #[must_use]
    pub fn storage(&self) -> FileStorage<'m, A> {
        FileStorage {
            mappings: (0..self.config.mappings)
                .map(|_| MappingSlot::new())
                .collect(),
            handles: (0..self.config.handles)
                .map(|_| HandleSlot::new())
                .collect(),
            pools: (0..self.config.timestamp_pools)
                .map(|_| {
                    let slots = (0..self.config.timestamps).map(|_| TimestampSlot::new());
                    TimestampPlace::new(slots.collect())
                })
                .collect(),
            waits: (0..self.config.timestamps)
                .map(|_| WaitSlot::new())
                .collect(),
            counters: vec![CounterSlot::new(); self.config.counters],
        }
    }

    /// Opens a file for a process.
    ///
    /// # Errors
    ///
    /// Those of [`Device::open`].
    pub fn open<'c>(
        &'c self,
        process: &Arc<Process>,
        budget: &'c Budget,
        storage: &'c mut FileStorage<'m, A>,
    ) -> Result<MachineContext<'c, 's, 'm, A>, OpenError> {
        let storage = ContextStorage {
            nodes: space_nodes(&self.config),
            mappings: &mut storage.mappings,
            handles: &mut storage.handles,
            timestamps: TimestampStorage {
                pools: &mut storage.pools,
                waits: &mut storage.waits,
                counters: &mut storage.counters,
            },
        };
        self.device.open(Arc::clone(process), budget, storage)
    }

    /// A process of the host.
    #[must_use]
    pub fn spawn(&self) -> Arc<Process> {
        Arc::new(self.host.spawn())
    }
}

fn space_nodes<'m, A: Model>(config: &MachineConfig) -> SpaceNodes<HarnessPort<'m, A>> {
    // One node for each mapping or block, and a few for windows.
    let count = config.mappings.max(config.buffers) + 16;
    SpaceNodes {
        small: vec![Node::EMPTY; count],
        large: vec![Node::EMPTY; count],
        dram: vec![Node::EMPTY; count],
    }
}

/// Builds a machine and calls `run` with it. The storage lives until that returns.
///
/// # Errors
///
/// What the system says to the host's memory.
///
/// # Panics
///
/// When the device does not come up, which is a defect of the model or of the driver.
pub fn with_machine<A: Model, R>(
    config: MachineConfig,
    log: EventLog,
    run: impl for<'s, 'm> FnOnce(&Machine<'s, 'm, A>) -> R,
) -> io::Result<R> {
    let memory = HostConfig {
        frames: config.frames,
        order: config.order,
        storage: config.storage,
    };
    let host = Host::new(memory, log.clone())?;
    let hardware = config.asic.clone().unwrap_or_else(|| AsicConfig {
        hbm_stacks: A::STACKS,
        ..AsicConfig::new(A::KIND)
    });
    let asic = asic::Asic::new(
        hardware,
        Arc::clone(&host) as Arc<dyn asic::HostBus>,
        log.clone(),
    );
    let user_dram = A::PROFILE
        .dram
        .user_memory()
        .expect("the device has memory for users");
    let page_bytes = A::PROFILE.dram.page_bytes;
    let pages = config.dram_pages::<A>();
    let region =
        DramRegion::new(user_dram.start(), page_bytes, pages).expect("the profile's region");
    let mut dram_pages = vec![PageRecord::EMPTY; pages as usize];
    let mut packs = vec![PackRecord::EMPTY; config.packs];
    let mut buffers: Vec<BufferSlot<KernelBlock>> =
        (0..config.buffers).map(|_| BufferSlot::new()).collect();
    let engines = HarnessEngines::new(&asic);
    let registers = host
        .kernel_contiguous(REGISTER_PAGES, 1, "registers")
        .expect("the host has room for registers");
    let register_blocks = [RegisterBlock {
        address: USER_REGISTERS,
        registers: Run::new(
            host.bus_address(registers.frames()[0]),
            registers.len() as u64,
        )
        .expect("there are some"),
    }];
    let register_blocks = match A::KIND {
        AsicKind::Gaudi2 => &register_blocks[..],
        // Facts MB-1.
        _ => &[],
    };
    let registers = Arc::new(registers);
    // Half of what users have, so that there is memory which peers do not reach.
    let peer_window = Run::new(user_dram.start(), user_dram.len() / 2).expect("there is some");
    Ok(A::with_tables(
        &asic,
        &host,
        config.tables,
        |tables, memory, dram_tables| {
            let mut seats: Vec<_> = (0..config.users)
                .map(|_| Seat::new([EventSlot::new(); EVENTS]))
                .collect();
            // Nobody knows what is in memory that was just switched on.
            let dram = DramPool::new(region, &mut dram_pages, &mut packs, DramContent::Unknown)
                .expect("there is a record for each page");
            let parts = DeviceParts {
                host: HarnessHost::new(&host, &registers),
                engines: engines.clone(),
                tables: memory,
                privileged: space_nodes(&config),
                buffers: &mut buffers,
                seats: &mut seats,
                dram,
                options: DeviceOptions {
                    views: config.views,
                    register_blocks,
                    peer_window: Some(peer_window),
                    default_mapping: config.default_mapping,
                },
                scrubber: DmaScrubber {
                    engine: DmaEngine::new(&asic, "scrubber", InitiatorMode::Bypass),
                    dram: asic.dram_base(),
                },
            };
            let registers = AsicRegisters::new(&asic);
            let dram_mmu = |parking| A::dram_mmu(registers.clone(), parking);
            let (device, privilege) = Device::with_dram_mmu(
                parts,
                |parking| A::mmu(registers.clone(), parking),
                dram_tables.map(|tables| (tables, dram_mmu)),
            )
            .expect("the device comes up");
            let machine = Machine {
                host: Arc::clone(&host),
                asic: Arc::clone(&asic),
                log: log.clone(),
                device,
                privilege,
                engines: engines.clone(),
                tables,
                config: config.clone(),
                forgot_dram: AtomicBool::new(false),
            };
            log.watching(tables, || run(&machine))
        },
    ))
}
