//! The same for an ASIC whose device memory has tables and an MMU of its own, and whose other tables
//! are in an arena.

use hl_mem::Wanted;
use hl_mem::budget::Budget;
use hl_mem::device::{BringUpError, Device, Privilege};
use hl_mem::dram::{Contiguity, DramContent, Sharing};
use hl_mem::lock::LockRank;
use hl_mem::mmu::MmuError;
use hl_mem::port::Port;
use hl_mem::profile::Gaudi2;
use hl_mem::uapi::{FLAG_USERPTR, MemoryInput, OP_MAP, dispatch};
use mmu_core::format::TABLE_ENTRIES;
use mmu_core::{BusAddr, DeviceLost, Region, TableArena, TableBus, TableId, Word};

use super::recording::{NotingMmu, RecordingPort, note};
use super::support::smallest_port::{NoEngines, PAGE_BYTES, USER_BASE};
use super::support::{
    ArenaTables, BusTables, Manner, NoCache, TestPort, arena_tables, bus_tables, file_storage,
    parts,
};

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

/// Locks are noted as those of the other port are.
#[derive(Debug)]
pub(crate) struct Recorded;

impl Manner for Recorded {
    fn before_lock(rank: LockRank) {
        RecordingPort::before_lock(rank);
    }

    fn after_lock(rank: LockRank) {
        RecordingPort::after_lock(rank);
    }
}

type HostTables = ArenaTables<NotingArena>;
type DramTables = BusTables<NotingBus>;
type DramMmu = NotingMmu<NoCache>;
type ApartPort = TestPort<NoCache, HostTables, NoEngines, Recorded, DramMmu, DramTables>;

/// Brings a device up with two seats, whose MMU for device memory has so many ASIDs.
fn bring_up(asids: u16) -> Result<(Device<'static, Chip, ApartPort>, Privilege), BringUpError> {
    let dram_mmu = |_parking| NotingMmu::new(APART, NoCache::new(asids));
    let dram_mmu = Some((bus_tables::<Chip, _>(NotingBus), dram_mmu));
    let parts = parts(arena_tables(64, NotingArena), NoEngines, 2);
    Device::with_dram_mmu(parts, |_parking| NoCache::new(3), dram_mmu)
}

/// Makes each call that concerns what is apart.
pub(crate) fn everything() {
    static BUDGET: Budget = Budget::unlimited();

    let error = bring_up(2).err().unwrap();
    let out_of_range = matches!(error, BringUpError::Mmu(MmuError::AsidOutOfRange { .. }));
    assert!(out_of_range, "{error}");

    let (device, privilege) = bring_up(3).unwrap();
    let open = || device.open((), &BUDGET, file_storage()).unwrap();
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
