//! Mapping what most calls ask for: one page, and leaves of one new table.

use super::build::Segment;
use super::map::leaf_entries;
use super::{Nearby, PageTable, Recent, Stop, link};
use crate::addr::{BusAddr, DeviceAddr};
use crate::error::MapError;
use crate::format::{Format, Hop, TABLE_ENTRIES, deepest, geometry_of};
use crate::memory::{INSIDE, Slot, TableDemand, TableMemory};

impl<F: Format, M: TableMemory> PageTable<F, M> {
    /// Maps one leaf of one of the two deepest hops, where its table exists or is the only one
    /// missing; `None`, with nothing changed, where the general way must be gone.
    ///
    /// That is what nearly every call for one page needs, so this is written for it: no counting,
    /// no recursion, errors that change nothing left to the general way to find and to name.
    #[inline(always)]
    pub(super) fn map_page(
        &mut self,
        hop: usize,
        at: DeviceAddr,
        bus: BusAddr,
        attributes: F::Attributes,
    ) -> Option<Result<(), MapError>> {
        let offset_mask = geometry_of::<F>(hop).offset_mask();
        // An aligned leaf whose first address is in range is in range as a whole.
        let (key, address) = (F::key(at)?, F::entry_address(bus)?);
        if (key | address) & offset_mask != 0 {
            return None;
        }
        let entry = F::leaf_entry(Hop::from_index(hop), address, attributes);
        if hop != deepest::<F>() {
            let table = self.parent_table(at, key)?;
            return self.map_page_in(table, hop, (at, key), entry);
        }
        match self.deepest_table(at, key) {
            Nearby::Table(table) => self.map_page_in(table, hop, (at, key), entry),
            Nearby::Room(parent) => self.map_page_in_new(parent, F::walk_address(at)?, entry),
            Nearby::Nothing => None,
        }
    }

    /// Writes a leaf into `table`, where its slot is empty.
    #[inline(always)]
    fn map_page_in(
        &mut self,
        table: M::Table,
        hop: usize,
        (at, key): (DeviceAddr, u64),
        entry: u64,
    ) -> Option<Result<(), MapError>> {
        let index = geometry_of::<F>(hop).index(key);
        let memory = self.memory;
        let slot = memory.slot::<F>(table, Hop::from_index(hop), index);
        if !matches!(slot, Slot::Empty | Slot::Default) {
            return None;
        }
        memory.write_leaves(table, index, core::iter::once(entry));
        memory.set_live(table, memory.live(table) + 1);
        if memory.flush().is_err() {
            let walk = F::walk_address(at).unwrap_or(key);
            self.undo(walk, walk | geometry_of::<F>(hop).offset_mask());
            return Some(Err(MapError::DeviceLost));
        }
        Some(Ok(()))
    }

    /// Writes a leaf into a new table of the deepest hop and links that into an empty slot of
    /// `parent`.
    #[inline(always)]
    fn map_page_in_new(
        &mut self,
        parent: M::Table,
        walk: u64,
        entry: u64,
    ) -> Option<Result<(), MapError>> {
        let hop = deepest::<F>();
        let geometry = geometry_of::<F>(hop);
        let memory = self.memory;
        let table = memory.take_one(false, INSIDE)?;
        if !memory.is_zeroed(table) {
            memory.zero(table, 0, TABLE_ENTRIES);
        }
        memory.write_leaves(table, geometry.index(walk), core::iter::once(entry));
        memory.set_live(table, 1);
        let above = hop - 1;
        let index = geometry_of::<F>(above).index(walk);
        link::<F, M>(memory, (parent, above, index), table, true);
        memory.set_live(parent, memory.live(parent) + 1);
        if memory.flush().is_err() {
            self.undo(walk, walk | geometry.offset_mask());
            return Some(Err(MapError::DeviceLost));
        }
        self.recent
            .set(Recent::of::<F>(hop, F::walk_key(walk), table));
        Some(Ok(()))
    }

    /// Maps leaves of one table that does not exist, below the empty slot where a walk ended.
    ///
    /// Each new table above theirs has one link, so nothing has to be kept track of, as `Builder`
    /// does for any shape of request: that is a fifth of the time that a table full of leaves takes.
    #[inline(never)]
    pub(super) fn map_new_table(
        &mut self,
        stop: &Stop<M::Table>,
        leaves: Segment,
        attributes: F::Attributes,
    ) -> Result<(), MapError> {
        let memory = self.memory;
        let mut demand = TableDemand::NONE;
        demand.add::<F>(leaves.hop, 1);
        demand.interior += (leaves.hop - stop.hop - 1) as u64;
        let no_tables = MapError::NoTableMemory {
            needed: demand.total(),
        };
        let mut reserved = memory.reserve(demand, INSIDE).ok_or(no_tables)?;
        let (mut top, mut table) = (stop.table, stop.table);
        for hop in stop.hop..leaves.hop {
            let interior = hop + 1 < deepest::<F>();
            let child = memory.take(&mut reserved, interior).ok_or(no_tables)?;
            if hop == stop.hop {
                top = child;
            } else {
                let index = geometry_of::<F>(hop).index(leaves.walk);
                self.zero_around(table, index, 1);
                link::<F, M>(memory, (table, hop, index), child, false);
                memory.set_live(table, 1);
            }
            table = child;
        }
        let first = geometry_of::<F>(leaves.hop).index(leaves.walk);
        let count = leaves.leaves as usize;
        let (entry, step) = leaf_entries::<F>(leaves.hop, leaves.entry, count, attributes);
        self.zero_around(table, first, count);
        memory.write_run(table, first, count, entry, step);
        memory.set_live(table, count as u32);
        let index = geometry_of::<F>(stop.hop).index(leaves.walk);
        link::<F, M>(memory, (stop.table, stop.hop, index), top, true);
        memory.set_live(stop.table, memory.live(stop.table) + 1);
        if memory.flush().is_err() {
            let span = leaves.leaves << geometry_of::<F>(leaves.hop).shift;
            self.undo(leaves.walk, leaves.walk.wrapping_add(span - 1));
            return Err(MapError::DeviceLost);
        }
        if leaves.hop == deepest::<F>() {
            let key = F::walk_key(leaves.walk);
            self.recent.set(Recent::of::<F>(leaves.hop, key, table));
        }
        Ok(())
    }

    /// Zeroes all slots but `count` from `first` on of a table just taken, where they are not zero.
    #[inline(always)]
    fn zero_around(&self, table: M::Table, first: usize, count: usize) {
        if !self.memory.is_zeroed(table) {
            self.memory.zero(table, 0, first);
            self.memory.zero(table, first + count, TABLE_ENTRIES);
        }
    }
}
