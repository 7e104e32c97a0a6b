//! Where tables live: what the page-table algorithms need of it, and nothing of how it is done.
//!
//! Two kinds exist. [`TablePool`](crate::TablePool) keeps tables in memory that the processor
//! reads and writes directly; [`DeviceTablePool`](crate::DeviceTablePool) keeps them behind a bus,
//! which it writes in runs and does not read while mapping or unmapping. The trait between them
//! and the algorithms is sealed: an embedder implements [`TableArena`](crate::TableArena) or
//! [`TableBus`](crate::TableBus), which are smaller.

mod chain;

pub use chain::TableId;

pub(crate) use chain::{Chain, Linked, Reserved};

use core::fmt;

use crate::addr::{AddrRange, BusAddr, DeviceAddr};
use crate::error::MapError;
use crate::format::{Format, Hop, deepest};
use crate::removed::Removed;
use crate::table::PageTable;

/// What a slot of a table holds, as far as walking and bookkeeping need to know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Slot<T> {
    /// Nothing.
    Empty,
    /// A table of the next hop.
    Table(T),
    /// A leaf.
    Leaf,
    /// A leaf of the default mapping: nothing is mapped here, and the device does not fault.
    Default,
    /// A pointer to a table that the pool does not own: somebody else wrote to table memory.
    Foreign,
}

impl<T> Slot<T> {
    /// The table, where it holds one.
    #[inline(always)]
    pub(crate) fn table(self) -> Option<T> {
        match self {
            Self::Table(table) => Some(table),
            _ => None,
        }
    }
}

/// How many tables an operation needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct TableDemand {
    /// Tables of the deepest hop, whose entries are all leaves.
    pub deepest: u64,
    /// Tables of other hops.
    pub interior: u64,
}

impl TableDemand {
    pub(crate) const NONE: Self = Self {
        deepest: 0,
        interior: 0,
    };

    /// Adds tables of the hop with this number.
    #[inline(always)]
    pub(crate) fn add<F: Format>(&mut self, hop: usize, tables: u64) {
        if hop == deepest::<F>() {
            self.deepest += tables;
        } else {
            self.interior += tables;
        }
    }

    /// Tables of either sort.
    #[must_use]
    pub const fn total(self) -> u64 {
        self.deepest.saturating_add(self.interior)
    }
}

/// The device does not answer: what was written to table memory has not been seen to arrive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct DeviceLost;

impl fmt::Display for DeviceLost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the device does not answer")
    }
}

impl core::error::Error for DeviceLost {}

/// Part of the live count of a table whose empty slots hold default leaves: such a table is neither
/// empty nor full, whatever is mapped in it.
pub(crate) const BACKED: u32 = 1 << 30;

mod sealed {
    /// Keeps [`TableMemory`](super::TableMemory) implementable in this crate only.
    pub trait Sealed {}

    /// Keeps tables from being taken anywhere else than in this crate, by generic code too: every
    /// other call needs a table, and who has none can do nothing to those of a page table.
    #[derive(Clone, Copy, Debug)]
    pub struct Inside(pub(crate) ());
}
pub(crate) use sealed::{Inside, Sealed};

/// What only this crate can hand to [`TableMemory::reserve`].
pub(crate) const INSIDE: Inside = Inside(());

/// Memory for tables, shared by the address spaces of a device.
///
/// Implemented for references to pools. A table is written only by the page table that took it,
/// so these calls need no lock of their own; taking and releasing tables goes through the pool's
/// lock.
///
/// Nobody but this crate takes tables, so that there is no way around
/// [`Removed::confirm`](crate::Removed::confirm) to free one:
///
/// ```compile_fail,E0061
/// use mmu_core::TableMemory;
///
/// fn refused<M: TableMemory>(memory: M) {
///     if let Some(table) = memory.take_one(false) {
///         memory.release(memory.chain_of(table));
///     }
/// }
/// ```
pub trait TableMemory: Copy + Sealed {
    /// A table of the pool. Only the pool makes them, of tables that are taken or linked, so that
    /// nobody writes to a table by its number.
    type Table: Copy + Send + Sync;

    /// Whether there can be tables of default leaves ([`DefaultTables`]): where not, nothing is left
    /// of what looks after them.
    const HAS_DEFAULTS: bool = false;

    /// Sets a default mapping, for code that does not know whether its memory is of
    /// [`DefaultTables`]. Otherwise [`PageTable::set_default`].
    ///
    /// # Errors
    ///
    /// [`MapError::NoDefaults`] where it is not; those of [`PageTable::set_default`].
    fn try_set_default<F: Format>(
        _table: &mut PageTable<F, Self>,
        _range: AddrRange<DeviceAddr>,
        _hop: Hop,
        _page: BusAddr,
        _attributes: F::Attributes,
    ) -> Result<(), MapError> {
        Err(MapError::NoDefaults)
    }

    /// Removes the default mapping as [`PageTable::remove_default`] does; `None` where there can be
    /// none.
    fn try_remove_default<F: Format>(_table: &mut PageTable<F, Self>) -> Option<Removed<Self>> {
        None
    }

    /// Takes tables out of the pool, all that are asked for or none.
    fn reserve(self, demand: TableDemand, inside: Inside) -> Option<Reserved>;

    /// Takes one table of what is reserved; `interior` as it was counted when reserving.
    fn take(self, reserved: &mut Reserved, interior: bool) -> Option<Self::Table>;

    /// Takes one table out of the pool; `interior` says whether it is of another hop than the deepest.
    fn take_one(self, interior: bool, inside: Inside) -> Option<Self::Table> {
        let demand = TableDemand {
            deepest: u64::from(!interior),
            interior: u64::from(interior),
        };
        let mut reserved = self.reserve(demand, inside)?;
        self.take(&mut reserved, interior)
    }

    /// Whether this is the same memory.
    fn is_same(self, other: Self) -> bool;

    /// Gives back what was reserved and not taken.
    fn give_back(self, reserved: Reserved);

    /// Takes the first table off a chain, as it is.
    fn pop(self, chain: &mut Chain) -> Option<Self::Table>;

    /// Gives tables back to the pool for reuse.
    fn release(self, chain: Chain);

    /// Appends a table to a chain. `zeroed` says that all its entries are known to be zero.
    fn append(self, chain: &mut Chain, table: Self::Table, zeroed: bool);

    /// The chain of one table, which stays what it is.
    fn chain_of(self, table: Self::Table) -> Chain;

    /// Appends all of one chain to another.
    fn append_chain(self, chain: &mut Chain, other: Chain);

    /// The address of a table as an entry holds it.
    fn address(self, table: Self::Table) -> u64;

    /// Whether all entries of a table just taken are known to be zero.
    fn is_zeroed(self, table: Self::Table) -> bool;

    /// What the slot at `index` holds.
    fn slot<F: Format>(self, table: Self::Table, hop: Hop, index: usize) -> Slot<Self::Table>;

    /// The table that the slot at `index` points at; `None` where it holds anything else, and where
    /// that takes more than a look at the entry as this crate writes it.
    fn linked<F: Format>(self, table: Self::Table, hop: Hop, index: usize) -> Option<Self::Table> {
        self.slot::<F>(table, hop, index).table()
    }

    /// How many of the `count` slots from `first` on have room for a leaf, up to the first that does
    /// not: those that are empty or hold a default leaf.
    fn empty_slots<F: Format>(
        self,
        table: Self::Table,
        hop: Hop,
        first: usize,
        count: usize,
    ) -> usize;

    /// How many of the `count` slots from `first` on hold leaves, up to the first that does not.
    fn leaf_slots<F: Format>(
        self,
        table: Self::Table,
        hop: Hop,
        first: usize,
        count: usize,
    ) -> usize;

    /// The entry at `index`, as the device sees it. May read over the bus.
    fn entry(self, table: Self::Table, index: usize) -> u64;

    /// Writes leaves into consecutive slots, beginning at `first`, until the iterator or the
    /// table ends. Returns how many.
    fn write_leaves(
        self,
        table: Self::Table,
        first: usize,
        entries: impl Iterator<Item = u64>,
    ) -> usize;

    /// Writes at most `count` leaves into consecutive slots, beginning at `first`. Takes no more
    /// than it writes from the iterator. Returns how many.
    fn write_list(
        self,
        table: Self::Table,
        first: usize,
        count: usize,
        entries: &mut impl Iterator<Item = u64>,
    ) -> usize {
        self.write_leaves(table, first, entries.take(count))
    }

    /// Writes `count` leaves, of which the first is `entry` and each of the others is `step` more
    /// than the one before.
    fn write_run(self, table: Self::Table, first: usize, count: usize, entry: u64, step: u64) {
        let entries = (0..count as u64).map(|leaf| entry.wrapping_add(leaf.wrapping_mul(step)));
        self.write_leaves(table, first, entries);
    }

    /// Writes an entry that points at `child`.
    fn write_table(self, table: Self::Table, index: usize, entry: u64, child: Self::Table);

    /// Empties `count` slots, beginning at `first`: they hold zero then, or in a table of default
    /// leaves the default leaf that is given.
    fn clear(self, table: Self::Table, first: usize, count: usize, default: Option<u64>);

    /// Fills the slots from `first` up to `end` of a table nobody can see yet with zeros.
    fn zero(self, table: Self::Table, first: usize, end: usize);

    /// How many slots are in use; 2^30 more in a table of default leaves, which do not count.
    fn live(self, table: Self::Table) -> u32;

    /// Records how many slots are in use.
    fn set_live(self, table: Self::Table, live: u32);

    /// Notes that the content of all tables may have changed, as when a device was reset.
    fn content_lost(self) {}

    /// Orders all entries written so far before the next one, as the device sees them.
    fn publish(self);

    /// Makes all entries written so far visible to the device.
    fn flush(self) -> Result<(), DeviceLost>;
}

/// Memory whose records can tell a default leaf from one that was mapped, so that a page table in
/// it can have a default mapping ([`PageTable::set_default`](crate::PageTable::set_default)).
///
/// A pool that finds out from an entry alone what a slot holds cannot: a mapping of the default
/// page would look like none (facts DP-9).
pub trait DefaultTables: TableMemory {
    /// Fills the first `slots` slots of a table nobody can see yet with the default leaf `entry`,
    /// zeroes the others, and notes that the table is backed and has no slot in use.
    fn back(self, table: Self::Table, slots: usize, entry: u64);

    /// Notes that a table is not backed any more. Writes zero into the slots that hold default
    /// leaves where others are in use; returns whether there are any. A table without is to be
    /// unlinked as it is.
    fn unback(self, table: Self::Table) -> bool;
}
