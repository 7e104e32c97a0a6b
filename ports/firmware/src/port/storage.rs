//! Static storage, and bringing a device up in it.

use hl_mem::budget::Budget;
use hl_mem::buffer::BufferSlot;
use hl_mem::context::{Context, ContextStorage, MappingSlot, Object, OpenError, TimestampStorage};
use hl_mem::device::{
    BringUpError, BufferView, Device, DeviceOptions, DeviceParts, Privilege, Seat, SpaceNodes,
};
use hl_mem::dram::{DramContent, DramPool, DramRegion, PackRecord, PageRecord};
use hl_mem::events::EventSlot;
use hl_mem::handle::HandleSlot;
use hl_mem::mmu::Gaudi2HostMmu;
use hl_mem::profile::{Asic, Gaudi2};
use hl_mem::va::Node;
use mmu_core::{Region, ReuseOrder, TablePool, TableRecord};
use spin::mutex::{SpinMutex, SpinMutexGuard};

use super::host::{PageList, StaticHost};
use super::parts::{EngineControl, FirmwarePort, NoDram, Tables};
use crate::device::PMMU;
use crate::memory::{TABLE_MEMORY, TABLES};

/// The ASIC: a Gaudi2 with all its memory.
pub type Chip = Gaudi2<6>;
/// The device.
pub type FirmwareDevice = Device<'static, Chip, FirmwarePort>;
/// The one file that is open.
pub type FirmwareContext<'c> = Context<'c, 'static, Chip, FirmwarePort>;
/// A view of a block.
pub type FirmwareView = BufferView<FirmwarePort>;

/// Mappings of a user at a time.
pub const MAPPINGS: usize = 8;
const BLOCKS: usize = 4;
const HANDLES: usize = 4;
/// Pages of device memory that are managed.
const DRAM_PAGES: usize = 4;
/// Pages that the user may have pinned.
const BUDGET: usize = 32;

static RECORDS: SpinMutex<[TableRecord; TABLES]> =
    SpinMutex::new([const { TableRecord::new() }; TABLES]);
static POOL: SpinMutex<Option<Tables>> = SpinMutex::new(None);
static BLOCK_SLOTS: SpinMutex<[BufferSlot<PageList>; BLOCKS]> =
    SpinMutex::new([const { BufferSlot::new() }; BLOCKS]);
static SEATS: SpinMutex<[Seat<Chip, FirmwarePort>; 1]> =
    SpinMutex::new([Seat::new([EventSlot::new(); 8])]);
static PAGE_RECORDS: SpinMutex<[PageRecord; DRAM_PAGES]> =
    SpinMutex::new([PageRecord::EMPTY; DRAM_PAGES]);
static PACK_RECORDS: SpinMutex<[PackRecord; 2]> = SpinMutex::new([PackRecord::EMPTY; 2]);
static DEVICE: SpinMutex<Option<FirmwareDevice>> = SpinMutex::new(None);
static MAPPING_SLOTS: SpinMutex<[MappingSlot<FirmwarePort>; MAPPINGS]> =
    SpinMutex::new([const { MappingSlot::new() }; MAPPINGS]);
static HANDLE_SLOTS: SpinMutex<[HandleSlot<Object>; HANDLES]> =
    SpinMutex::new([const { HandleSlot::new() }; HANDLES]);
static USER: Budget = Budget::new(BUDGET);

/// What is in a static, for good; `None` when it was claimed before.
fn claim<T>(storage: &'static SpinMutex<T>) -> Option<&'static mut T> {
    storage.try_lock().map(SpinMutexGuard::leak)
}

const fn nodes() -> SpaceNodes<FirmwarePort> {
    SpaceNodes {
        small: [Node::EMPTY; 16],
        large: [Node::EMPTY; 16],
        dram: [Node::EMPTY; 16],
    }
}

/// A device that is up.
#[derive(Debug)]
pub struct Machine {
    /// The device.
    pub device: &'static FirmwareDevice,
    /// The right to its privileged address space.
    pub privilege: Privilege,
    /// Its tables.
    pub tables: &'static Tables,
}

/// Storage of one open file.
#[derive(Debug)]
pub struct FileStorage {
    mappings: &'static mut [MappingSlot<FirmwarePort>],
    handles: &'static mut [HandleSlot<Object>],
}

impl Machine {
    /// The pages that the user has pinned.
    pub fn charged(&self) -> usize {
        USER.charged()
    }

    /// Opens a file, in storage that is free again when it is closed.
    ///
    /// # Errors
    ///
    /// Those of [`Device::open`].
    pub fn open<'c>(&self, storage: &'c mut FileStorage) -> Result<FirmwareContext<'c>, OpenError> {
        let storage = ContextStorage {
            nodes: nodes(),
            mappings: storage.mappings,
            handles: storage.handles,
            timestamps: TimestampStorage::none(),
        };
        self.device.open((), &USER, storage)
    }
}

/// Brings the device up; `None` the second time.
///
/// # Errors
///
/// Those of [`Device::new`].
pub fn bring_up() -> Option<Result<(Machine, FileStorage), BringUpError>> {
    let region = Region::new(TABLE_MEMORY.tables(), TABLE_MEMORY.address())?;
    let pool = TablePool::new(region, claim(&RECORDS)?, ReuseOrder::LastReleased).ok()?;
    let tables: &'static Tables = claim(&POOL)?.insert(pool);
    let dram = Chip::PROFILE.dram;
    let region = DramRegion::new(dram.user_start, dram.page_bytes, DRAM_PAGES as u32).ok()?;
    let content = DramContent::Scrubbed;
    let parts = DeviceParts {
        host: StaticHost,
        engines: EngineControl,
        tables,
        privileged: nodes(),
        buffers: claim(&BLOCK_SLOTS)?,
        seats: claim(&SEATS)?,
        dram: DramPool::new(
            region,
            claim(&PAGE_RECORDS)?,
            claim(&PACK_RECORDS)?,
            content,
        )
        .ok()?,
        scrubber: NoDram,
        options: DeviceOptions::default(),
    };
    let timeouts = Chip::PROFILE.timeouts;
    let mmu = |parking| Gaudi2HostMmu::new(&PMMU, timeouts, parking);
    let up = Device::new(parts, mmu);
    let (device, privilege) = match up {
        Ok(up) => up,
        Err(error) => return Some(Err(error)),
    };
    let machine = Machine {
        device: claim(&DEVICE)?.insert(device),
        privilege,
        tables,
    };
    let storage = FileStorage {
        mappings: claim(&MAPPING_SLOTS)?,
        handles: claim(&HANDLE_SLOTS)?,
    };
    Some(Ok((machine, storage)))
}
