#![doc = include_str!("../README.md")]
#![cfg_attr(not(test), no_std)]
#![deny(unsafe_code)]

pub mod addr;
mod device;
mod error;
pub mod format;
#[cfg(feature = "defmt")]
mod log;
mod memory;
#[cfg(test)]
mod messages;
mod pool;
mod regions;
mod removed;
mod split_word;
mod sync;
mod table;

pub use addr::{AddrRange, Address, BusAddr, DeviceAddr, Run};
pub use device::{ChildMap, DeviceTable, DeviceTablePool, DeviceTableRecord, TableBus};
pub use error::{MapError, QueryError, SplitError, UnmapError};
pub use format::{Format, Hop, LeafSizes, Permissions};
pub use memory::{DefaultTables, DeviceLost, Slot, TableDemand, TableId, TableMemory};
pub use pool::{
    PoolError, PoolTable, PoolUsage, Region, ReuseOrder, TableArena, TablePool, TableRecord,
    TableWord, Word,
};
pub use regions::Regions;
pub use removed::{ConfirmError, Extent, Invalidate, NotConfirmed, Removed, Stale};
pub use split_word::SplitWord;
pub use table::{MapOptions, MappedRun, PageTable, Runs, Translation};
