//! The same for an ASIC whose device memory has tables and an MMU of its own, and whose other tables
//! are in an arena.

use hl_mem::Wanted;
use hl_mem::asid::Asid;
use hl_mem::budget::Budget;
use hl_mem::buffer::BufferSlot;
use hl_mem::context::{ContextStorage, MappingSlot, TimestampStorage};
use hl_mem::device::{
    BringUpError, Device, DeviceOptions, DeviceParts, Privilege, Seat, SpaceNodes,
};
use hl_mem::dram::{
    Contiguity, DramContent, DramPool, DramRegion, PackRecord, PageRecord, Sharing,
};
use hl_mem::handle::HandleSlot;
use hl_mem::lock::LockRank;
use hl_mem::mmu::{Fault, MmuControl, MmuError};
use hl_mem::port::{Port, SpinLock};
use hl_mem::profile::{Asic, Gaudi2};
use hl_mem::timestamps::TimestampSlot;
use hl_mem::uapi::{FLAG_USERPTR, MemoryInput, OP_MAP, dispatch};
use hl_mem::va::Node;
use mmu_core::format::TABLE_ENTRIES;
use mmu_core::{
    BusAddr, ChildMap, DeviceLost, DeviceTablePool, DeviceTableRecord, Invalidate, Region,
    ReuseOrder, Stale, TableArena, TableBus, TableId, TablePool, TableRecord, Word,
};

use super::flow::storage;
use super::recording::{RecordingPort, note};
use super::smallest_port::{NoBytes, NoEngines, PAGE_BYTES, Ram, USER_BASE};

const TABLES: usize = 64;
type Chip = Gaudi2<6>;

/// Notes each question and passes it on.
#[derive(Debug)]
pub(crate) struct NotingArena(Region<'static, Word>);

impl TableArena for NotingArena {
    type Word = Word;

    fn capacity(&self) -> u32 {
        note("TableArena", "capacity");
        self.0.capacity()
    }

    fn words(&self, table: TableId) -> Option<&[Word; TABLE_ENTRIES]> {
        note("TableArena", "words");
        self.0.words(table)
    }

    fn address(&self, table: TableId) -> BusAddr {
        note("TableArena", "address");
        self.0.address(table)
    }

    fn locate(&self, address: BusAddr) -> Option<TableId> {
        note("TableArena", "locate");
        self.0.locate(address)
    }

    fn zero(&self, entries: &[Word]) {
        note("TableArena", "zero");
        self.0.zero(entries);
    }

    fn publish(&self) {
        note("TableArena", "publish");
        self.0.publish();
    }
}

/// The tables of device memory: what is written there is never read back.
#[derive(Debug)]
pub(crate) struct NotingBus;

/// The guide's heading for what is apart.
const APART: &str = "DramMmu and DramTables";

impl TableBus for NotingBus {
    fn write(&self, _address: BusAddr, entries: impl Iterator<Item = u64>) {
        note(APART, "write");
        entries.for_each(drop);
    }

    fn read(&self, _address: BusAddr) -> u64 {
        panic!("no page table is looked into here");
    }

    fn flush(&self) -> Result<(), DeviceLost> {
        note(APART, "flush");
        Ok(())
    }
}

/// An MMU that caches nothing and has `asids` address spaces; notes what it is asked for if it is the
/// one for device memory.
#[derive(Debug)]
pub(crate) struct NoCache {
    pub(crate) is_apart: bool,
    pub(crate) asids: u16,
}

impl NoCache {
    fn note(&self, method: &str) {
        if self.is_apart {
            note(APART, method);
        }
    }
}

// SAFETY: there is no device that could have cached anything.
unsafe impl Invalidate for NoCache {
    type Error = MmuError;

    fn invalidate(&mut self, _stale: &Stale) -> Result<(), MmuError> {
        self.note("invalidate");
        Ok(())
    }
}

// SAFETY: as above, and nothing walks any table.
unsafe impl MmuControl for NoCache {
    fn enable(&mut self) -> Result<(), MmuError> {
        self.note("enable");
        Ok(())
    }

    fn disable(&mut self) -> Result<(), MmuError> {
        self.note("disable");
        Ok(())
    }

    fn set_root(&mut self, asid: Asid, _root: BusAddr) -> Result<(), MmuError> {
        self.note("set_root");
        if asid.get() < self.asids {
            Ok(())
        } else {
            Err(MmuError::AsidOutOfRange { asid })
        }
    }

    fn park(&mut self, _asid: Asid) -> Result<(), MmuError> {
        self.note("park");
        Ok(())
    }

    fn announce(&mut self) -> Result<(), MmuError> {
        self.note("announce");
        Ok(())
    }

    fn invalidate_all(&mut self) -> Result<(), MmuError> {
        self.note("invalidate_all");
        Ok(())
    }

    fn next_fault(&mut self, _from: &mut u32) -> Result<Option<Fault>, MmuError> {
        self.note("next_fault");
        Ok(None)
    }
}

pub(crate) type HostTables = TablePool<'static, NotingArena, SpinLock>;
pub(crate) type DramTables = DeviceTablePool<'static, NotingBus, SpinLock>;

/// The port, as types.
#[derive(Debug)]
pub(crate) struct ApartPort;

impl Port for ApartPort {
    type Lock = SpinLock;
    type InterruptLock = SpinLock;
    type Host = &'static Ram;
    type Mmu = NoCache;
    type Tables = &'static HostTables;
    type DramMmu = NoCache;
    type DramTables = &'static DramTables;
    type Engines = NoEngines;
    type Scrubber = NoBytes;
    type Nodes = Vec<Node>;
    type TimestampSlots = Vec<TimestampSlot>;

    const MAX_ASID: Option<u16> = Some(3);

    fn before_lock(rank: LockRank) {
        RecordingPort::before_lock(rank);
    }

    fn after_lock(rank: LockRank) {
        RecordingPort::after_lock(rank);
    }
}

fn nodes() -> SpaceNodes<ApartPort> {
    let nodes = || vec![Node::EMPTY; 16];
    SpaceNodes {
        small: nodes(),
        large: nodes(),
        dram: nodes(),
    }
}

/// Brings a device up with two seats, whose MMU for device memory has so many ASIDs.
fn bring_up(asids: u16) -> Result<(Device<'static, Chip, ApartPort>, Privilege), BringUpError> {
    let ram: &Ram = Box::leak(Box::default());
    let words = storage(TABLES, || core::array::from_fn(|_| Word::default()));
    let region = Region::new(words, BusAddr::new(0x4000_0000)).unwrap();
    let order = ReuseOrder::LastReleased;
    let pool = TablePool::new(
        NotingArena(region),
        storage(TABLES, TableRecord::new),
        order,
    );
    let tables: &HostTables = Box::leak(Box::new(pool.unwrap()));
    let pool = DeviceTablePool::new(
        NotingBus,
        Chip::PROFILE.device_tables.start(),
        storage(TABLES, DeviceTableRecord::new),
        storage(TABLES, ChildMap::new),
        order,
    );
    let dram_tables: &DramTables = Box::leak(Box::new(pool.unwrap()));
    let dram = Chip::PROFILE.dram;
    let pool = DramPool::new(
        DramRegion::new(dram.user_start, dram.page_bytes, 4).unwrap(),
        storage(4, || PageRecord::EMPTY),
        storage(4, || PackRecord::EMPTY),
        DramContent::Scrubbed,
    );
    let parts = DeviceParts {
        host: ram,
        engines: NoEngines,
        tables,
        privileged: nodes(),
        buffers: storage(8, BufferSlot::new),
        seats: storage(2, Seat::new),
        dram: pool.unwrap(),
        scrubber: NoBytes,
        options: DeviceOptions::default(),
    };
    let mmu = |is_apart, asids| move |_parking| NoCache { is_apart, asids };
    let dram_mmu = Some((dram_tables, mmu(true, asids)));
    Device::with_dram_mmu(parts, mmu(false, 3), dram_mmu)
}

/// Makes each call that concerns what is apart.
pub(crate) fn everything() {
    static BUDGET: Budget = Budget::unlimited();

    let error = bring_up(2).err().unwrap();
    let out_of_range = matches!(error, BringUpError::Mmu(MmuError::AsidOutOfRange { .. }));
    assert!(out_of_range, "{error}");

    let (device, privilege) = bring_up(3).unwrap();
    let open = || {
        let storage = ContextStorage {
            nodes: nodes(),
            mappings: storage(16, MappingSlot::new),
            handles: storage(16, HandleSlot::new),
            timestamps: TimestampStorage::none(),
        };
        device.open((), &BUDGET, storage).unwrap()
    };
    let context = open();
    let map = MemoryInput {
        arguments: [USER_BASE, 0, 4 * PAGE_BYTES],
        op: OP_MAP,
        flags: FLAG_USERPTR,
        ..MemoryInput::default()
    };
    let at = dispatch(&context, &map.to_bytes()).unwrap().value;
    let at = mmu_core::DeviceAddr::new(at);
    context.with_table(|table| table.query(at)).unwrap();
    context.unmap(at).unwrap();
    let (block, _) = context.create_block(&privilege, PAGE_BYTES).unwrap();
    context
        .map_block(&privilege, block, Wanted::Anywhere)
        .unwrap();
    context.destroy_block(block).unwrap();
    let memory = context.allocate_dram(1, Contiguity::Scattered, Sharing::Private);
    let memory = memory.unwrap();
    let at = context.map_dram(memory, Wanted::Anywhere).unwrap();
    context.unmap(at).unwrap();
    assert_eq!(device.report_faults(|_| {}).unwrap().taken, 0);

    // What is mapped when the device is reset, and when the file is closed.
    context.map_dram(memory, Wanted::Anywhere).unwrap();
    dispatch(&context, &map.to_bytes()).unwrap();
    device.recover(DramContent::Unknown).unwrap();
    context.close().unwrap();
    open().close().unwrap();
    device.settle_quarantine().unwrap();
    assert!(device.shut_down().unwrap().dram_mmu.is_some());
}
