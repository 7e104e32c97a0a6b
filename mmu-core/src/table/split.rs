//! Splitting a large leaf, so that a part of it can be unmapped or changed.

use super::map::leaf_entries;
use super::{PageTable, Stop, link};
use crate::addr::{AddrRange, DeviceAddr};
use crate::error::SplitError;
use crate::format::{Entry, Format, Hop, TABLE_ENTRIES, deepest, geometry_of};
use crate::memory::{Chain, INSIDE, Slot, TableMemory};
use crate::removed::{Extent, Removed};

/// A leaf and where its entry is.
struct Leaf<T> {
    table: T,
    hop: usize,
    index: usize,
    entry: u64,
}

impl<F: Format, M: TableMemory> PageTable<F, M> {
    /// Replaces the large leaf that maps `at` by a table of leaves of the next hop, which map the
    /// same addresses to the same bus addresses with the same attributes.
    ///
    /// The table is complete before it takes the leaf's place, so a device that walks at the same
    /// time sees the one or the other. A translation that the device has cached stays right, but
    /// it covers the whole of the old leaf: it has to go before any of the small leaves changes,
    /// since the invalidation of a small one need not reach it. Therefore the old leaf comes back
    /// as a removal (without tables, its addresses stale) that wants to be confirmed.
    ///
    /// Hardware that must not see a valid leaf become a valid table, such as Arm's without the feature
    /// that allows it, does not allow this: unmap, confirm, and map anew there.
    ///
    /// # Errors
    ///
    /// The page table, its counts and the pool are as before after
    ///
    /// * [`SplitError::OutOfRange`] when the format cannot translate `at`;
    /// * [`SplitError::NotMapped`] when nothing is mapped there;
    /// * [`SplitError::NoSmallerLeaf`] when the format has no leaves at the next hop;
    /// * [`SplitError::InDefaultRange`] when the leaf lies in the range of the default mapping;
    /// * [`SplitError::NoTableMemory`] when the pool has no free table;
    /// * [`SplitError::Corrupt`] when an entry points out of the pool;
    /// * [`SplitError::DeviceLost`] when the entries cannot be seen to arrive. The new table then
    ///   returns to the pool with the next confirmed removal.
    pub fn split(&mut self, at: DeviceAddr) -> Result<Removed<M>, SplitError> {
        let walk = F::walk_address(at).ok_or(SplitError::OutOfRange { at })?;
        let leaf = self.find_leaf(walk, at)?;
        let hop = Hop::from_index(leaf.hop);
        let geometry = geometry_of::<F>(leaf.hop);
        let start = F::device_address(walk & !geometry.offset_mask());
        if self.overlaps_default(walk, walk) {
            return Err(SplitError::InDefaultRange { leaf: start });
        }
        let smaller = leaf.hop + 1;
        let slots = match F::HOPS.get(smaller) {
            Some(geometry) if geometry.leaf => geometry.slots(),
            _ => return Err(SplitError::NoSmallerLeaf { leaf: start }),
        };
        let Entry::Leaf {
            address,
            attributes,
        } = F::decode(hop, leaf.entry)
        else {
            return Err(SplitError::Corrupt { at });
        };
        // A leaf never crosses the end of the address space.
        let range = AddrRange::new(start, F::device_len(geometry.entry_span()))
            .ok_or(SplitError::OutOfRange { at })?;

        let interior = smaller < deepest::<F>();
        let table = self
            .memory
            .take_one(interior, INSIDE)
            .ok_or(SplitError::NoTableMemory)?;
        let zeroed = self.memory.is_zeroed(table);
        let first = address & !geometry.offset_mask();
        let (entry, step) = leaf_entries::<F>(smaller, first, slots, attributes);
        self.memory.write_run(table, 0, slots, entry, step);
        if !zeroed {
            self.memory.zero(table, slots, TABLE_ENTRIES);
        }
        self.memory.set_live(table, slots as u32);
        link::<F, M>(self.memory, (leaf.table, leaf.hop, leaf.index), table, true);
        if self.memory.flush().is_err() {
            self.memory
                .write_leaves(leaf.table, leaf.index, core::iter::once(leaf.entry));
            self.has_undone = true;
            // The device may have seen the table: it waits for the next invalidation.
            let mut undone = Chain::EMPTY;
            self.memory.append(&mut undone, table, false);
            self.memory.append_chain(&mut self.undone, undone);
            return Err(SplitError::DeviceLost);
        }
        Ok(self.removed(Extent::Range(range), Chain::EMPTY))
    }

    fn find_leaf(&self, walk: u64, at: DeviceAddr) -> Result<Leaf<M::Table>, SplitError> {
        let Stop { table, hop, slot } = self.walk(walk, walk);
        let index = geometry_of::<F>(hop).index(walk);
        match slot {
            Some(Slot::Leaf) => Ok(Leaf {
                table,
                hop,
                index,
                entry: self.memory.entry(table, index),
            }),
            Some(Slot::Empty | Slot::Default) => Err(SplitError::NotMapped { at }),
            _ => Err(SplitError::Corrupt { at }),
        }
    }
}
