//! What a machine looks like at one moment, as plain data.

use std::collections::BTreeMap;
use std::io;

use mmu_core::{BusAddr, DeviceAddr};
use serde::{Deserialize, Serialize};

use super::events::Record;
use super::hex;
use crate::asic::{AsicKind, FormatKind, HbmStacks, MmuInstance};
use crate::log::TableMemory;

/// The number of the shape that a saved state has. It changes when an older program would read a
/// newer state wrongly.
pub const VERSION: u32 = 1;

/// Everything that the inspection looks at: owned, without lifetimes, and the same after being saved
/// and read back.
///
/// [`State::capture`](super::State::capture) makes one of a machine. Page tables are in it as the
/// bytes that the device's own reader finds; what the driver believes to have mapped is in it beside
/// them, so that the two can be compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// [`VERSION`].
    pub version: u32,
    /// What it shows, for headings.
    pub title: String,
    /// The device.
    pub asic: AsicState,
    /// The host's memory.
    pub host: HostState,
    /// The MMUs that are not fused off.
    pub mmus: Vec<MmuState>,
    /// Every page table that any root leads to.
    pub tables: Vec<TableState>,
    /// The address spaces that somebody has, the privileged one first.
    pub spaces: Vec<SpaceState>,
    /// The kept part of the event log, in order.
    pub events: Vec<Record>,
}

/// A device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AsicState {
    /// Its family.
    pub kind: AsicKind,
    /// Its working HBM stacks, which decide the scrambling; of no meaning but on Gaudi2.
    pub hbm_stacks: HbmStacks,
    /// Its memory, by its own physical addresses.
    pub dram: BusExtent,
    /// What is added to a host bus address to get the device's address for it.
    #[serde(with = "hex")]
    pub host_offset: u64,
    /// Where device addresses lead to that nothing is mapped at, where the ASIC has that.
    pub default_page: Option<DefaultPage>,
}

/// Memory that stands in where nothing is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DefaultPage {
    /// The memory.
    pub memory: BusExtent,
    /// The byte that it is filled with.
    pub byte: u8,
}

/// The host's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostState {
    /// The bus address of page frame 0; the others follow it.
    #[serde(with = "hex")]
    pub bus: BusAddr,
    /// Bytes in a page frame.
    pub page_bytes: u64,
}

impl HostState {
    /// The number of the page frame at a bus address of the host.
    #[must_use]
    pub fn frame(&self, bus: u64) -> Option<u64> {
        bus.checked_sub(self.bus.get())?
            .checked_div(self.page_bytes)
    }
}

/// Device addresses, from a first one on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// The first.
    #[serde(with = "hex")]
    pub start: DeviceAddr,
    /// How many bytes.
    #[serde(with = "hex")]
    pub len: u64,
}

impl Extent {
    /// How far an address lies inside; `None` where it lies outside.
    #[must_use]
    pub fn offset(&self, address: DeviceAddr) -> Option<u64> {
        let offset = address.offset_from(self.start)?;
        (offset < self.len).then_some(offset)
    }

    /// Whether the two have an address in common.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let apart = |one: &Self, other: &Self| {
            let distance = other.start.offset_from(one.start);
            distance.is_some_and(|distance| distance >= one.len)
        };
        self.len > 0 && other.len > 0 && !apart(self, other) && !apart(other, self)
    }

    /// The first address behind it, or 2^64.
    #[must_use]
    pub fn end(&self) -> u128 {
        u128::from(self.start.get()) + u128::from(self.len)
    }
}

/// Bus addresses, from a first one on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BusExtent {
    /// The first.
    #[serde(with = "hex")]
    pub start: BusAddr,
    /// How many bytes.
    #[serde(with = "hex")]
    pub len: u64,
}

impl BusExtent {
    /// How far an address lies inside; `None` where it lies outside.
    #[must_use]
    pub fn offset(&self, address: BusAddr) -> Option<u64> {
        let offset = address.offset_from(self.start)?;
        (offset < self.len).then_some(offset)
    }
}

/// An MMU, as its registers have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MmuState {
    /// Which one.
    pub instance: MmuInstance,
    /// Whether it translates.
    pub enabled: bool,
    /// Whether it lets addresses through as they are.
    pub bypass: bool,
    /// The format of its tables.
    pub format: FormatKind,
    /// The first and the last hop of its walks, where the driver has chosen them.
    pub hops: Option<(u8, u8)>,
    /// The root tables that were latched.
    pub roots: Vec<Root>,
}

impl MmuState {
    /// The root table of an ASID.
    #[must_use]
    pub fn root(&self, asid: u16) -> Option<BusAddr> {
        let root = self.roots.iter().find(|root| root.asid == asid);
        root.map(|root| root.table)
    }
}

/// The root table of an ASID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// The address space.
    pub asid: u16,
    /// Its table at hop 0.
    #[serde(with = "hex")]
    pub table: BusAddr,
}

/// The content of one page table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableState {
    /// In which memory it lies.
    pub memory: TableMemory,
    /// Its address there.
    #[serde(with = "hex")]
    pub address: BusAddr,
    /// The entries that are not zero, by index.
    pub entries: BTreeMap<u16, Word>,
}

/// One entry of a table, as it stands in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Word(#[serde(with = "hex")] pub u64);

/// An address space, as the driver has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpaceState {
    /// Its number.
    pub asid: u16,
    /// Who has it.
    pub owner: String,
    /// The ranges that its addresses come from, ascending.
    pub ranges: Vec<RangeState>,
    /// What is mapped there, or is not yet proved to be gone, ascending.
    pub mappings: Vec<MappingState>,
}

/// A range that device addresses are handed out from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeState {
    /// What is mapped there.
    pub name: String,
    /// All its addresses.
    pub extent: Extent,
    /// Bytes in its pages.
    pub page_bytes: u64,
    /// Windows at which the driver maps something itself.
    pub fixed: Vec<Extent>,
    /// Windows that are handed out for hints only.
    pub reserved: Vec<Extent>,
    /// What is free, ascending.
    pub free: Vec<Extent>,
}

impl RangeState {
    /// Bytes that are free.
    #[must_use]
    pub fn free_bytes(&self) -> u64 {
        self.free.iter().map(|extent| extent.len).sum()
    }
}

/// What is behind a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backing {
    /// Pinned pages of a process.
    UserPages,
    /// Kernel pages of a block.
    Block,
    /// Kernel pages of a buffer that the driver mapped for a user.
    Buffer,
    /// Device memory.
    DeviceMemory,
    /// What the driver mapped in a fixed window.
    Window,
    /// Something that this program has no word for.
    Other,
}

impl Backing {
    /// Every kind, in the order of legends.
    pub const ALL: [Self; 6] = [
        Self::UserPages,
        Self::Block,
        Self::Buffer,
        Self::DeviceMemory,
        Self::Window,
        Self::Other,
    ];
}

impl core::fmt::Display for Backing {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.pad(match self {
            Self::UserPages => "user pages",
            Self::Block => "kernel block",
            Self::Buffer => "kernel buffer",
            Self::DeviceMemory => "device memory",
            Self::Window => "window",
            Self::Other => "other",
        })
    }
}

/// A mapping, as the driver has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MappingState {
    /// Its device addresses.
    pub extent: Extent,
    /// What is behind it.
    pub backing: Backing,
    /// Whether it is removed and not proved to be gone from the device.
    pub quarantined: bool,
    /// Whether it was mapped when the device was reset, and leads nowhere since.
    #[serde(default)]
    pub lost: bool,
    /// The memory that it owns, in the order of its addresses, as the device addresses it.
    pub owns: Vec<BusExtent>,
}

impl MappingState {
    /// Whether the driver keeps what is behind it and the device is not to reach it: it is in quarantine,
    /// or lost in a reset.
    #[must_use]
    pub const fn is_gone(&self) -> bool {
        self.quarantined || self.lost
    }

    /// Where the memory that it owns is for the device address `offset` bytes into it.
    #[must_use]
    pub fn owned_at(&self, offset: u64) -> Option<BusAddr> {
        let mut rest = offset;
        for run in &self.owns {
            if rest < run.len {
                return run.start.checked_add(rest);
            }
            rest -= run.len;
        }
        None
    }
}

impl SpaceState {
    /// The mapping that an address belongs to.
    #[must_use]
    pub fn mapping_at(&self, address: DeviceAddr) -> Option<&MappingState> {
        let behind = self
            .mappings
            .partition_point(|mapping| mapping.extent.start <= address);
        let mapping = self.mappings.get(behind.checked_sub(1)?)?;
        mapping.extent.offset(address).map(|_| mapping)
    }

    /// The range that an address belongs to.
    #[must_use]
    pub fn range_at(&self, address: DeviceAddr) -> Option<&RangeState> {
        let mut ranges = self.ranges.iter();
        ranges.find(|range| range.extent.offset(address).is_some())
    }
}

impl State {
    /// The address space with this number, if somebody has it.
    #[must_use]
    pub fn space(&self, asid: u16) -> Option<&SpaceState> {
        self.spaces.iter().find(|space| space.asid == asid)
    }

    /// Writes it down as JSON.
    ///
    /// # Errors
    ///
    /// Those of `writer`.
    pub fn save(&self, writer: impl io::Write) -> io::Result<()> {
        serde_json::to_writer(writer, self).map_err(io::Error::from)
    }

    /// Reads what [`save`](Self::save) wrote.
    ///
    /// # Errors
    ///
    /// Those of `reader`; [`io::ErrorKind::InvalidData`] for what is not a state of this
    /// [`VERSION`].
    pub fn load(reader: impl io::Read) -> io::Result<Self> {
        let mut state: Self = serde_json::from_reader(reader)?;
        if state.version != VERSION {
            let message = format!("a state of version {}, not {VERSION}", state.version);
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        // What is looked up by halving must be in order, whoever wrote it.
        state.events.sort_by_key(|record| record.sequence);
        for space in &mut state.spaces {
            space.mappings.sort_by_key(|mapping| mapping.extent.start);
        }
        Ok(state)
    }
}
