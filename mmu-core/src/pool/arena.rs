//! Memory for tables: where they are, and what their entries are made of.

use core::fmt;

use crate::addr::BusAddr;
use crate::format::{TABLE_BYTES, TABLE_ENTRIES};
use crate::memory::TableId;
#[cfg(not(any(loom, target_has_atomic = "64")))]
use crate::split_word::SplitWord;
#[cfg(any(loom, target_has_atomic = "64"))]
use crate::sync::AtomicU64;
use crate::sync::{Ordering, fence};

use super::table::store_zeros;

/// One 64-bit entry in memory that a device reads while the processor writes it.
///
/// Implemented for `AtomicU64` where the processor has it, and for
/// [`SplitWord`](crate::SplitWord); a model checker supplies its own. A page table may go to another
/// thread and is written from there, hence `Sync`.
pub trait TableWord: Sync {
    /// Reads the entry, whole.
    fn load(&self) -> u64;

    /// Writes the entry, whole: a device that reads concurrently sees the old value or the new
    /// one. Orders nothing else.
    fn store(&self, entry: u64);
}

// The device reads memory in little-endian order (facts 2.1), whatever the host's order.
#[cfg(any(loom, target_has_atomic = "64"))]
impl TableWord for AtomicU64 {
    #[inline(always)]
    fn load(&self) -> u64 {
        u64::from_le(AtomicU64::load(self, Ordering::Relaxed))
    }

    #[inline(always)]
    fn store(&self, entry: u64) {
        AtomicU64::store(self, entry.to_le(), Ordering::Relaxed);
    }
}

/// The kind of entry that suits the processor this is compiled for.
#[cfg(any(loom, target_has_atomic = "64"))]
pub type Word = AtomicU64;
/// The kind of entry that suits the processor this is compiled for.
#[cfg(not(any(loom, target_has_atomic = "64")))]
pub type Word = SplitWord;

/// The memory of a [`TablePool`](crate::TablePool): some number of tables, each page-aligned and at a fixed bus
/// address.
///
/// # For implementers
///
/// Tables are numbered from zero. [`locate`](Self::locate) is the inverse of
/// [`address`](Self::address). A wrong answer cannot break memory safety here, but it makes the
/// *device* walk wrong tables.
pub trait TableArena {
    /// What an entry is made of.
    type Word: TableWord;

    /// The number of tables.
    fn capacity(&self) -> u32;

    /// The entries of a table; `None` beyond the capacity.
    fn words(&self, table: TableId) -> Option<&[Self::Word; TABLE_ENTRIES]>;

    /// The bus address of a table, by which the device reads it.
    fn address(&self, table: TableId) -> BusAddr;

    /// The table at a bus address, if it is one of the arena's: not for an address inside one.
    fn locate(&self, address: BusAddr) -> Option<TableId>;

    /// The table at a bus address, if it is one of the arena's, and its entries.
    ///
    /// What the other two say together. Each step of a walk asks this, so that an arena which checks
    /// once for both is faster.
    #[inline(always)]
    fn find(&self, address: BusAddr) -> Option<(TableId, &[Self::Word; TABLE_ENTRIES])> {
        if !address.is_multiple_of(TABLE_BYTES) {
            return None;
        }
        let table = self.locate(address)?;
        Some((table, self.words(table)?))
    }

    /// Fills entries of a table that no device can reach with zeros.
    ///
    /// The default stores them one by one. That is the slowest part of taking a table into use,
    /// so an embedder that may write the memory by other means (`memset`, an instruction that
    /// zeroes cache lines) does well to use them here.
    #[inline(always)]
    fn zero(&self, entries: &[Self::Word]) {
        store_zeros(entries);
    }

    /// Orders the entries stored before this call before those stored after it, for a device that
    /// reads both. The default suffices where the device is coherent with the processor's ordinary
    /// memory ordering; elsewhere this is the place for the barrier.
    #[inline(always)]
    fn publish(&self) {
        fence(Ordering::Release);
    }
}

/// A [`TableArena`] of one contiguous piece of memory.
///
/// `W` is [`Word`] outside of models.
pub struct Region<'a, W = Word> {
    tables: &'a [[W; TABLE_ENTRIES]],
    address: BusAddr,
}

impl<'a, W> Region<'a, W> {
    /// The tables in `tables`, the first of which lies at `address`, a multiple of 4096, as the
    /// device sees it. `None` where `address` is not aligned, or the region would reach 2^64 or
    /// hold 2^32 - 1 tables or more.
    #[must_use]
    pub fn new(tables: &'a [[W; TABLE_ENTRIES]], address: BusAddr) -> Option<Self> {
        let count = u32::try_from(tables.len())
            .ok()
            .filter(|&count| count != TableId::NONE)?;
        address.checked_add(u64::from(count) * TABLE_BYTES)?;
        address
            .is_multiple_of(TABLE_BYTES)
            .then_some(Self { tables, address })
    }
}

impl<W> fmt::Debug for Region<'_, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Region({} tables at {})",
            self.tables.len(),
            self.address
        )
    }
}

impl<W: TableWord> TableArena for Region<'_, W> {
    type Word = W;

    #[inline(always)]
    fn capacity(&self) -> u32 {
        self.tables.len() as u32
    }

    #[inline(always)]
    fn words(&self, table: TableId) -> Option<&[W; TABLE_ENTRIES]> {
        self.tables.get(table.index())
    }

    #[inline(always)]
    fn address(&self, table: TableId) -> BusAddr {
        // `new` checked that no table of the region lies beyond 2^64.
        BusAddr::new(
            self.address
                .get()
                .wrapping_add(u64::from(table.number()) * TABLE_BYTES),
        )
    }

    #[inline(always)]
    fn locate(&self, address: BusAddr) -> Option<TableId> {
        self.find(address).map(|(table, _)| table)
    }

    #[inline(always)]
    fn find(&self, address: BusAddr) -> Option<(TableId, &[W; TABLE_ENTRIES])> {
        // Rotated, the bits of an address inside a table make the index larger than any is.
        let offset = address.get().wrapping_sub(self.address.get());
        let index = offset.rotate_right(TABLE_BYTES.trailing_zeros());
        let words = self.tables.get(usize::try_from(index).ok()?)?;
        // `new` checked that there are fewer tables than this has numbers.
        Some((TableId::new(index as u32), words))
    }
}
