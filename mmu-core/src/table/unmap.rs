//! Unmapping: exactly what is mapped, or nothing at all; and sweeping, for teardown.

use core::ops::RangeInclusive;

use super::map::page_bytes;
use super::{Nearby, PageTable, Recent, Stop, slot_at};
use crate::addr::{AddrRange, DeviceAddr};
use crate::error::UnmapError;
use crate::format::{Format, Hop, TABLE_ENTRIES, deepest, geometry_of};
use crate::memory::{Chain, Slot, TableMemory};
use crate::removed::{Extent, Removed};

/// The most slots in use that are cleared when a table is unlinked as a whole: a store each then,
/// for one to each slot of the table when it is taken again.
const FEW_SLOTS: u32 = 8;

impl<F: Format, M: TableMemory> PageTable<F, M> {
    /// Unmaps `range`, all of which must be mapped by leaves that end within it.
    ///
    /// Tables that become empty are unlinked. They and the addresses stay in the returned value
    /// until an invalidation is confirmed.
    ///
    /// # Errors
    ///
    /// * [`UnmapError::OutOfRange`], [`UnmapError::Misaligned`] for the range itself;
    /// * [`UnmapError::NotMapped`] when a part of it is not mapped;
    /// * [`UnmapError::WouldSplit`] when a leaf reaches beyond it;
    /// * [`UnmapError::Corrupt`] when an entry points out of the pool.
    // Inlined for the same reason as `map`.
    #[inline(always)]
    pub fn unmap(&mut self, range: AddrRange<DeviceAddr>) -> Result<Removed<M>, UnmapError> {
        let (small, large) = (deepest::<F>(), deepest::<F>() - 1);
        let is_page = |hop| range.len() == page_bytes::<F>(hop);
        // One call for both, since it is long in line.
        let hop = if is_page(small) {
            Some(small)
        } else {
            is_page(large).then_some(large)
        };
        let page = hop.and_then(|hop| self.unmap_page(hop, range.start()));
        let freed = match page {
            Some(freed) => freed,
            None => self.unmap_range(range)?,
        };
        Ok(self.removed(Extent::Range(range), freed))
    }

    /// Unmaps the general way.
    #[inline(never)]
    fn unmap_range(&mut self, range: AddrRange<DeviceAddr>) -> Result<Chain, UnmapError> {
        let at = range.start();
        let (first, len) = F::walk_range(range).ok_or(UnmapError::OutOfRange { at })?;
        if (first | len) & geometry_of::<F>(deepest::<F>()).offset_mask() != 0 {
            return Err(UnmapError::Misaligned { at });
        }
        let last = first.wrapping_add(len - 1);
        let Stop { table, hop, .. } = self.walk(first, last);
        self.check_mapped(table, hop, first, last)?;
        let (top, hop) = self.lasting(table, hop, first, last);
        let mut freed = Chain::EMPTY;
        self.remove(top, hop, (first, last), true, &mut freed);
        self.forget_if(&freed);
        Ok(freed)
    }

    /// The deepest table known to stay when everything from `first` to `last` is unmapped, of which
    /// all is in `table`: nothing above it changes.
    #[inline(always)]
    fn lasting(&self, table: M::Table, hop: usize, first: u64, last: u64) -> (M::Table, usize) {
        let geometry = geometry_of::<F>(hop);
        let used = geometry.index(last) - geometry.index(first) + 1;
        if self.memory.live(table) as usize > used {
            return (table, hop);
        }
        if hop == deepest::<F>()
            && let Some(parent) = self.parent_table(F::device_address(first), F::walk_key(first))
            && self.memory.live(parent) > 1
        {
            return (parent, hop - 1);
        }
        (self.root, 0)
    }

    /// Unmaps every leaf that lies within `range`; one that reaches beyond it stays. The leaves of
    /// a default mapping are not mapped in this sense: they stay, and come back.
    ///
    /// Needs no memory and cannot fail.
    pub fn sweep(&mut self, range: AddrRange<DeviceAddr>) -> Removed<M> {
        let Some((first, last)) = F::walk_hull(range) else {
            return self.removed(Extent::Nothing, Chain::EMPTY);
        };
        let freed = self.remove_all_in(first, last);
        self.removed(Extent::Range(range), freed)
    }

    /// Unmaps everything but the default mapping, where there is one.
    ///
    /// Needs no memory and cannot fail.
    pub fn sweep_all(&mut self) -> Removed<M> {
        let freed = self.remove_all_in(0, F::LAST_WALK_ADDRESS);
        self.removed(Extent::Everything, freed)
    }

    /// Unmaps everything, the default mapping too, and writes the root anew, for when the memory of
    /// the tables may have lost its content, as when the device was reset.
    ///
    /// Needs no memory and cannot fail. Until the removal is confirmed the device may read the root
    /// as it was.
    pub fn wipe(&mut self) -> Removed<M> {
        self.backing = None;
        let removed = self.sweep_all();
        self.memory.content_lost();
        self.memory.zero(self.root, 0, TABLE_ENTRIES);
        // What a stranger wrote there, which no sweep removes, is gone as well, and with it the way to
        // tables that nobody unlinked.
        self.memory.set_live(self.root, 0);
        self.forget();
        removed
    }

    /// Takes back a removal of this table that was not confirmed: the next one has its tables, and takes
    /// everything for stale. For whoever has no place to keep it.
    ///
    /// # Errors
    ///
    /// Hands `removed` back when it was removed from another page table.
    pub fn absorb(&mut self, removed: Removed<M>) -> Result<(), Removed<M>> {
        let tables = removed.into_tables(self.memory, self.root())?;
        self.has_undone = true;
        self.memory.append_chain(&mut self.undone, tables);
        Ok(())
    }

    /// Whether the next removal has something of before: what a map that failed had to undo after the
    /// device could see it, or what was [taken back](Self::absorb).
    #[must_use]
    pub fn has_unconfirmed(&self) -> bool {
        self.has_undone
    }

    #[inline(always)]
    pub(super) fn removed(&mut self, extent: Extent, freed: Chain) -> Removed<M> {
        let (extent, freed) = if core::mem::take(&mut self.has_undone) {
            (Extent::Everything, self.with_undone(freed))
        } else {
            (extent, freed)
        };
        Removed::new(self.memory, self.root(), extent, freed)
    }

    /// Joins `freed` and the tables of undone mappings.
    // Out of line and by value, so that the likely way keeps its chain in registers: in memory it
    // is written and read in pieces of different sizes, which stalls the processor.
    #[cold]
    #[inline(never)]
    fn with_undone(&mut self, mut freed: Chain) -> Chain {
        self.memory.append_chain(&mut freed, self.undone.take());
        freed
    }

    /// Unmaps one leaf of one of the two deepest hops, and unlinks its table where that leaves it
    /// empty and it is not the only one in its parent; `None`, with nothing changed, where the general
    /// way must be gone. The counterpart of `map_page`.
    #[inline(always)]
    fn unmap_page(&mut self, hop: usize, at: DeviceAddr) -> Option<Chain> {
        let geometry = geometry_of::<F>(hop);
        let key = F::key(at)?;
        if key & geometry.offset_mask() != 0 {
            return None;
        }
        let table = if hop != deepest::<F>() {
            self.parent_table(at, key)?
        } else if let Nearby::Table(table) = self.deepest_table(at, key) {
            table
        } else {
            return None;
        };
        let memory = self.memory;
        let index = geometry.index(key);
        let Slot::Leaf = memory.slot::<F>(table, Hop::from_index(hop), index) else {
            return None;
        };
        let left = memory.live(table).checked_sub(1)?;
        if left != 0 {
            self.clear(table, index, 1);
            memory.set_live(table, left);
            return Some(Chain::EMPTY);
        }
        if hop != deepest::<F>() {
            return None;
        }
        self.unlink_table_of(table, at, key)
    }

    /// Unmaps the last leaf of `table`, which is of the deepest hop, and unlinks it; `None` as above.
    #[inline(always)]
    fn unlink_table_of(&mut self, table: M::Table, at: DeviceAddr, key: u64) -> Option<Chain> {
        let hop = deepest::<F>();
        let memory = self.memory;
        let parent = self.parent_table(at, key)?;
        let siblings = memory.live(parent).checked_sub(1)?;
        if siblings == 0 {
            return None;
        }
        memory.clear(table, geometry_of::<F>(hop).index(key), 1, None);
        memory.clear(parent, geometry_of::<F>(hop - 1).index(key), 1, None);
        memory.set_live(parent, siblings);
        self.recent.set(Recent::none(self.root));
        let mut freed = Chain::EMPTY;
        memory.append(&mut freed, table, true);
        Some(freed)
    }

    /// Checks that leaves which end within `first..=last`, addresses of one table of `hop`, map
    /// all of it.
    pub(super) fn check_mapped(
        &self,
        table: M::Table,
        hop: usize,
        first: u64,
        last: u64,
    ) -> Result<(), UnmapError> {
        let geometry = geometry_of::<F>(hop);
        let (from, to) = (geometry.index(first), geometry.index(last));
        if hop == deepest::<F>() && self.memory.live(table) as usize == geometry.slots() {
            // Full, and no table can be in it.
            return Ok(());
        }
        if self.is_leaves(table, hop, first, last) {
            return Ok(());
        }
        for index in from..=to {
            let start = geometry.slot_start(first, from, index);
            let end = start | geometry.offset_mask();
            let at = F::device_address(start.max(first));
            match slot_at::<F, M>(self.memory, table, hop, index) {
                Slot::Leaf if start >= first && end <= last => {}
                Slot::Leaf => {
                    return Err(UnmapError::WouldSplit {
                        leaf: F::device_address(start),
                    });
                }
                Slot::Table(child) => {
                    self.check_mapped(child, hop + 1, start.max(first), end.min(last))?;
                }
                Slot::Empty | Slot::Default => return Err(UnmapError::NotMapped { at }),
                Slot::Foreign => return Err(UnmapError::Corrupt { at }),
            }
        }
        Ok(())
    }

    /// Removes every leaf that lies within `first..=last` and every table that is empty then.
    pub(super) fn remove_all_in(&mut self, first: u64, last: u64) -> Chain {
        let mut freed = Chain::EMPTY;
        self.remove(self.root, 0, (first, last), false, &mut freed);
        self.forget_if(&freed);
        freed
    }

    /// Forgets which tables were used last, where some are freed.
    fn forget_if(&self, freed: &Chain) {
        if !freed.is_empty() {
            self.forget();
        }
    }

    /// Whether nothing but leaves of `table` maps `first..=last`, and none reaches beyond. Reads
    /// one slot where it does not begin with a leaf.
    #[inline(never)]
    fn is_leaves(&self, table: M::Table, hop: usize, first: u64, last: u64) -> bool {
        let geometry = geometry_of::<F>(hop);
        let (from, to) = (geometry.index(first), geometry.index(last));
        let count = to - from + 1;
        (first | !last) & geometry.offset_mask() == 0
            && self
                .memory
                .leaf_slots::<F>(table, Hop::from_index(hop), from, count)
                == count
    }

    /// The part of [`remove_all_in`](Self::remove_all_in) that concerns one table. `mapped` says that
    /// leaves which end within the range are known to map all of it.
    fn remove(
        &self,
        table: M::Table,
        hop: usize,
        (first, last): (u64, u64),
        mapped: bool,
        freed: &mut Chain,
    ) {
        let geometry = geometry_of::<F>(hop);
        let (from, to) = (geometry.index(first), geometry.index(last));
        let is_leaves = mapped && hop == deepest::<F>();
        if is_leaves || self.is_leaves(table, hop, first, last) {
            let count = to - from + 1;
            self.clear_slots(table, from, count);
            // As below: a stranger may have written leaves that were never counted.
            let live = self.memory.live(table).saturating_sub(count as u32);
            self.memory.set_live(table, live);
            return;
        }
        let cleared = self.clear_where(table, from..=to, |index| {
            let start = geometry.slot_start(first, from, index);
            let end = start | geometry.offset_mask();
            let inside = start >= first && end <= last;
            match slot_at::<F, M>(self.memory, table, hop, index) {
                Slot::Empty | Slot::Default | Slot::Foreign => false,
                Slot::Leaf => inside,
                Slot::Table(child) if inside && !self.overlaps_default(start, end) => {
                    self.collect(child, hop + 1, freed);
                    true
                }
                Slot::Table(child) => {
                    let part = (start.max(first), end.min(last));
                    self.remove(child, hop + 1, part, mapped, freed);
                    let empty = self.memory.live(child) == 0;
                    if empty {
                        self.free(child, true, freed);
                    }
                    empty
                }
            }
        });
        // More than were counted only where somebody else wrote to table memory.
        let live = self.memory.live(table).saturating_sub(cleared);
        self.memory.set_live(table, live);
    }

    /// Adds a table that is unlinked as a whole, with all below it, to `freed`.
    ///
    /// Slots that are not in use hold zero. So a table with few links is cleared of them, for which
    /// they are looked up anyway, and need not be zeroed when it is taken again.
    pub(super) fn collect(&self, table: M::Table, hop: usize, freed: &mut Chain) {
        let slots = geometry_of::<F>(hop).slots();
        let number = Hop::from_index(hop);
        let mut live = self.memory.live(table);
        let clears = live <= FEW_SLOTS;
        if hop < deepest::<F>() && self.memory.leaf_slots::<F>(table, number, 0, slots) != slots {
            for index in 0..slots {
                if live == 0 {
                    break;
                }
                match slot_at::<F, M>(self.memory, table, hop, index) {
                    Slot::Table(child) => self.collect(child, hop + 1, freed),
                    Slot::Leaf => {}
                    // One that is in use but points out of the pool stays counted, and the table
                    // with it: nobody knows what else a stranger wrote.
                    Slot::Empty | Slot::Default | Slot::Foreign => continue,
                }
                if clears {
                    self.clear_slots(table, index, 1);
                }
                live -= 1;
            }
        }
        self.free(table, clears && live == 0, freed);
    }

    /// Empties those of `slots` that `goes` says are to go, in runs. Returns how many.
    #[inline(always)]
    pub(super) fn clear_where(
        &self,
        table: M::Table,
        slots: RangeInclusive<usize>,
        mut goes: impl FnMut(usize) -> bool,
    ) -> u32 {
        let end = slots.end() + 1;
        let (mut cleared, mut run) = (0, 0);
        for index in slots {
            if goes(index) {
                run += 1;
            } else if run != 0 {
                self.clear_slots(table, index - run, run);
                cleared += run;
                run = 0;
            }
        }
        if run != 0 {
            self.clear_slots(table, end - run, run);
            cleared += run;
        }
        cleared as u32
    }

    /// Empties slots, out of line for the same reason as the next.
    #[inline(never)]
    fn clear_slots(&self, table: M::Table, first: usize, count: usize) {
        self.clear(table, first, count);
    }

    /// Adds a table to `freed`; `zeroed` says that all its entries are known to be zero.
    // Out of line: once for each table, and long in line.
    #[inline(never)]
    fn free(&self, table: M::Table, zeroed: bool, freed: &mut Chain) {
        self.memory.append(freed, table, zeroed);
    }
}
