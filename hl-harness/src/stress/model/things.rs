//! What there is in the model: numbers that hold all the time, and who has what.

use std::collections::BTreeMap;

use super::Model;
use super::events::Events;

/// Numbers of an ASIC and of a machine.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Bytes of a host page.
    pub page: u64,
    /// Bytes of a large leaf.
    pub large: u64,
    /// Device addresses of host memory: first and one past the last.
    pub host: (u64, u64),
    /// Those of large mappings, where they are apart, and the step they are given out in.
    pub large_host: Option<((u64, u64), u64)>,
    /// Those of device memory, where it is mapped.
    pub dram: Option<(u64, u64)>,
    /// Whether an MMU of its own translates them.
    pub dram_apart: bool,
    /// Bytes of a page of device memory.
    pub dram_page: u64,
    /// Pages of device memory.
    pub dram_pages: u64,
    /// Pieces of device memory at a time.
    pub packs: usize,
    /// Mappings of a user at a time.
    pub mappings: usize,
    /// Handles of a user at a time.
    pub handles: usize,
    /// Pools of timestamps of a user at a time.
    pub pools: usize,
    /// Counters that timestamps can wait for.
    pub counters: u64,
    /// Kernel buffers at a time.
    pub buffers: usize,
    /// Pages that a user may have pinned.
    pub budget: u64,
    /// Whether a buffer is shown more than once.
    pub many_views: bool,
    /// What users read where nothing is mapped, and at which addresses, instead of a fault.
    pub default_word: Option<(u64, (u64, u64))>,
    /// By which address users ask for registers, and their pages, where there are any.
    pub registers: Option<(u64, u64)>,
    /// Faults that are kept for a user until he has heard of them.
    pub events: usize,
}

impl Rules {
    /// What a user reads at an address where nothing is mapped; `None` for a fault.
    #[must_use]
    pub fn default_at(&self, at: u64) -> Option<u64> {
        let (word, (start, end)) = self.default_word?;
        (start <= at && at < end).then_some(word)
    }

    /// Whether an MMU of its own translates an address, which is one of device memory.
    #[must_use]
    pub fn is_apart(&self, at: u64) -> bool {
        self.dram_apart
            && self
                .dram
                .is_some_and(|(start, end)| start <= at && at < end)
    }
}

/// A page by what it belongs to, wherever it lies.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum PageName {
    /// A page of a process, by a number that no other page ever had.
    User(u64),
    /// A page of a kernel buffer.
    Buffer(u64, u64),
    /// A page of a piece of device memory.
    Dram(u64, u64),
}

/// What is behind a mapping.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Memory {
    /// Pages of the process, pinned.
    User(Vec<PageName>),
    /// Device memory, and how often it is exported through the mapping.
    Dram(u64, u32),
    /// A kernel buffer.
    Buffer(u64),
}

/// A mapping of a user.
#[derive(Clone, Debug)]
pub struct Mapping {
    /// The addresses it keeps others from having: first and one past the last.
    pub kept: (u64, u64),
    /// Its first page.
    pub start: u64,
    /// What is behind it.
    pub memory: Memory,
}

/// What a handle names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Named {
    /// A block, and where it is mapped for the user.
    Block(u64, Option<u64>),
    /// A command buffer, and where it is mapped.
    CommandBuffer(u64, Option<u64>),
    /// Timestamps.
    Timestamps(u64),
    /// Registers.
    Registers,
}

/// What stands for registers where a buffer has its number: they are there all the time.
pub(crate) const REGISTERS: u64 = 0;

impl Named {
    /// The buffer, or [`REGISTERS`].
    #[must_use]
    pub fn buffer(self) -> u64 {
        match self {
            Self::Block(buffer, _) | Self::CommandBuffer(buffer, _) | Self::Timestamps(buffer) => {
                buffer
            }
            Self::Registers => REGISTERS,
        }
    }
}

/// A kernel buffer: there as long as anything of it is true.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Buffer {
    /// Its pages.
    pub pages: u64,
    /// A handle names it.
    pub named: bool,
    /// It is mapped in the privileged space.
    pub privileged: bool,
    /// Its removal from there is not confirmed.
    pub quarantined: bool,
    /// It is shown to a process.
    pub views: u32,
    /// Mappings in the users' spaces, and the driver's own use of timestamps.
    pub holds: u32,
}

/// A piece of device memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pack {
    /// The user and which of his files, as long as that is open.
    pub owner: Option<(usize, u64)>,
    /// His file, open or not.
    pub first_owner: u64,
    /// Others may map it.
    pub shared: bool,
    /// Its pages.
    pub pages: u64,
    /// Mappings and exports.
    pub holds: u32,
    /// A reset made its content undefined: nobody maps it any more.
    pub lost: bool,
}

/// Timestamps of a file: there until no handle names them and nothing waits to write them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Pool {
    /// How many.
    pub slots: u64,
    /// A handle names them.
    pub named: bool,
    /// What each slot waits for: a counter and a target.
    pub waiting: BTreeMap<u64, (u64, u64)>,
}

/// An open file.
#[derive(Clone, Debug, Default)]
pub struct File {
    /// Which file it is of all that were ever opened.
    pub number: u64,
    /// What the user can unmap, by the address he was told.
    pub mappings: BTreeMap<u64, Mapping>,
    /// What the driver mapped, by its first address.
    pub driver_mappings: BTreeMap<u64, Mapping>,
    /// What is unmapped and not confirmed. Where it was is known of some.
    pub quarantine: Vec<Mapping>,
    /// What his handles name.
    pub handles: BTreeMap<u64, Named>,
    /// Timestamps, by their buffer.
    pub pools: BTreeMap<u64, Pool>,
    /// Where something was mapped once.
    pub past: Vec<u64>,
    /// What the user has not heard of the device.
    pub events: Events,
}

impl File {
    /// Mappings of all kinds, those in quarantine included.
    #[must_use]
    pub fn mapping_count(&self) -> usize {
        self.mappings.len() + self.driver_mappings.len() + self.quarantine.len()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Mapping> {
        let live = self.mappings.values().chain(self.driver_mappings.values());
        live.chain(&self.quarantine)
    }

    /// Bytes of device addresses that its mappings keep.
    #[must_use]
    pub fn addresses(&self) -> u64 {
        self.all()
            .map(|mapping| mapping.kept.1 - mapping.kept.0)
            .sum()
    }

    /// Whether some of the addresses are kept by a mapping.
    #[must_use]
    pub fn is_taken(&self, (start, end): (u64, u64)) -> bool {
        self.all().any(|m| m.kept.0 < end && start < m.kept.1)
    }

    /// The mapping that a device address lies in, with its first address.
    #[must_use]
    pub fn at(&self, address: u64, rules: &Rules, model: &Model) -> Option<(u64, &Mapping)> {
        let live = self.mappings.values().chain(self.driver_mappings.values());
        live.map(|mapping| (mapping.start, mapping))
            .find(|(start, m)| (*start..*start + model.bytes(m, rules)).contains(&address))
    }
}
