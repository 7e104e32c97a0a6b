//! Changing what mapped leaves allow.

use super::PageTable;
use crate::addr::{AddrRange, DeviceAddr};
use crate::error::UnmapError;
use crate::format::{Entry, Hop, Permissions, deepest, geometry_of};
use crate::memory::{Chain, Slot, TableMemory};
use crate::removed::{Extent, Removed};

/// How many leaves are read before they are written: a cache line's worth or more.
const ENTRIES_AT_A_TIME: usize = 32;

impl<F: Permissions, M: TableMemory> PageTable<F, M> {
    /// Gives every leaf of `range` these attributes. All of the range must be mapped by leaves
    /// that end within it.
    ///
    /// The returned removal has no tables; its extent covers the leaves of which a cached copy
    /// would allow what is refused from now on ([`Permissions::shrinks`]), and is
    /// [`Extent::Nothing`] where there are none. The new rights are certain only once it is
    /// confirmed. What the hardware itself notes in a leaf, such as the accessed and dirty bits of
    /// x86-64, is reset.
    ///
    /// # Errors
    ///
    /// Nothing is changed after
    ///
    /// * [`UnmapError::OutOfRange`], [`UnmapError::Misaligned`] for the range itself;
    /// * [`UnmapError::NotMapped`] when a part of it is not mapped;
    /// * [`UnmapError::WouldSplit`] when a leaf reaches beyond it;
    /// * [`UnmapError::Corrupt`] when an entry points out of the pool.
    pub fn protect(
        &mut self,
        range: AddrRange<DeviceAddr>,
        attributes: F::Attributes,
    ) -> Result<Removed<M>, UnmapError> {
        let at = range.start();
        let (first, len) = F::walk_range(range).ok_or(UnmapError::OutOfRange { at })?;
        if (first | len) & geometry_of::<F>(deepest::<F>()).offset_mask() != 0 {
            return Err(UnmapError::Misaligned { at });
        }
        let last = first.wrapping_add(len - 1);
        self.check_mapped(self.root, 0, first, last)?;
        let mut stale = Extent::Nothing;
        self.protect_leaves(self.root, 0, first, last, attributes, &mut stale);
        Ok(self.removed(stale, Chain::EMPTY))
    }

    /// Rewrites the leaves from `first` to `last`, addresses of one table of `hop`, and adds to
    /// `stale` what a cached copy of them would still allow.
    fn protect_leaves(
        &self,
        table: M::Table,
        hop: usize,
        first: u64,
        last: u64,
        attributes: F::Attributes,
        stale: &mut Extent,
    ) {
        let geometry = geometry_of::<F>(hop);
        let number = Hop::from_index(hop);
        let (from, to) = (geometry.index(first), geometry.index(last));
        let mut index = from;
        while index <= to {
            let start = geometry.slot_start(first, from, index);
            if let Slot::Table(child) = self.memory.slot::<F>(table, number, index) {
                let end = start | geometry.offset_mask();
                let (first, last) = (start.max(first), end.min(last));
                self.protect_leaves(child, hop + 1, first, last, attributes, stale);
                index += 1;
                continue;
            }
            // Leaves up to the next table, rewritten as runs. All of a run is read before any of it
            // is written, since a bus may not be read while it is written to.
            let mut entries = [0; ENTRIES_AT_A_TIME];
            let mut count = 0;
            for (slot, index) in entries.iter_mut().zip(index..=to) {
                let entry = self.memory.entry(table, index);
                let Entry::Leaf {
                    address,
                    attributes: old,
                } = F::decode(number, entry)
                else {
                    break;
                };
                if F::shrinks(old, attributes) {
                    let start = F::device_address(geometry.slot_start(first, from, index));
                    let leaf = AddrRange::new(start, F::device_len(geometry.entry_span()));
                    *stale = stale.hull(leaf.map_or(Extent::Everything, Extent::Range));
                }
                *slot = F::leaf_entry(number, address, attributes);
                count += 1;
            }
            let run = entries.into_iter().take(count);
            // The check found nothing but tables and leaves; one step at least, whatever is there.
            index += self.memory.write_leaves(table, index, run).max(1);
        }
    }
}
