//! Unmapping: exactly what is mapped, or nothing at all; and sweeping, for teardown.

use super::{PageTable, Recent};
use crate::addr::{AddrRange, DeviceAddr};
use crate::error::UnmapError;
use crate::format::{Format, Hop, deepest};
use crate::memory::{Chain, Slot, TableId, TableMemory};
use crate::removed::{Extent, Removed};

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
    #[inline]
    pub fn unmap(&mut self, range: AddrRange<DeviceAddr>) -> Result<Removed<M>, UnmapError> {
        let at = range.start();
        let (first, len) = F::walk_range(range).ok_or(UnmapError::OutOfRange { at })?;
        if (first | len) & F::HOPS[deepest::<F>()].offset_mask() != 0 {
            return Err(UnmapError::Misaligned { at });
        }
        let last = first.wrapping_add(len - 1);
        if !self.unmap_recent(first, len)? {
            self.check_mapped(self.root, 0, first, last)?;
            let freed = self.remove_all_in(first, last);
            return Ok(self.removed(Extent::Range(range), freed));
        }
        Ok(self.removed(Extent::Range(range), Chain::EMPTY))
    }

    /// Unmaps every leaf that lies within `range`; one that reaches beyond it stays.
    ///
    /// Needs no memory and cannot fail.
    pub fn sweep(&mut self, range: AddrRange<DeviceAddr>) -> Removed<M> {
        let Some((first, last)) = F::walk_hull(range) else {
            return self.removed(Extent::Nothing, Chain::EMPTY);
        };
        let freed = self.remove_all_in(first, last);
        self.removed(Extent::Range(range), freed)
    }

    /// Unmaps everything.
    ///
    /// Needs no memory and cannot fail.
    pub fn sweep_all(&mut self) -> Removed<M> {
        let freed = self.remove_all_in(0, F::LAST_WALK_ADDRESS);
        self.removed(Extent::Everything, freed)
    }

    #[inline(always)]
    pub(super) fn removed(&mut self, extent: Extent, mut freed: Chain) -> Removed<M> {
        if !core::mem::take(&mut self.has_undone) {
            return Removed::new(self.memory, self.root(), extent, freed);
        }
        self.memory.append_chain(&mut freed, self.undone.take());
        Removed::new(self.memory, self.root(), Extent::Everything, freed)
    }

    /// Unmaps leaves of the table used last that do not make it empty; `false` where the general
    /// way must be gone.
    #[inline(always)]
    fn unmap_recent(&mut self, first: u64, len: u64) -> Result<bool, UnmapError> {
        let recent = self.recent.get();
        let hop = deepest::<F>();
        let geometry = F::HOPS[hop];
        let from = geometry.index(first);
        let count = len >> geometry.shift;
        if recent.hop != hop
            || geometry.prefix(first) != recent.prefix
            || count > (geometry.slots() - from) as u64
        {
            return Ok(false);
        }
        let live = self.memory.live(recent.table);
        if u64::from(live) <= count {
            return Ok(false);
        }
        let mut at = first;
        for index in from..from + count as usize {
            match self
                .memory
                .slot::<F>(recent.table, Hop::from_index(hop), index)
            {
                Slot::Leaf => {}
                Slot::Empty => {
                    return Err(UnmapError::NotMapped {
                        at: F::device_address(at),
                    });
                }
                Slot::Table(_) | Slot::Foreign => {
                    return Err(UnmapError::Corrupt {
                        at: F::device_address(at),
                    });
                }
            }
            at = at.wrapping_add(geometry.entry_span());
        }
        self.memory.clear(recent.table, from, count as usize);
        self.memory.set_live(recent.table, live - count as u32);
        Ok(true)
    }

    /// Checks that leaves which end within `first..=last`, addresses of one table of `hop`, map
    /// all of it.
    pub(super) fn check_mapped(
        &self,
        table: TableId,
        hop: usize,
        first: u64,
        last: u64,
    ) -> Result<(), UnmapError> {
        let geometry = F::HOPS[hop];
        let (from, to) = (geometry.index(first), geometry.index(last));
        if hop == deepest::<F>()
            && to - from + 1 == geometry.slots()
            && self.memory.live(table) as usize == geometry.slots()
        {
            return Ok(());
        }
        for index in from..=to {
            let start = geometry.slot_start(first, from, index);
            let end = start | geometry.offset_mask();
            let at = F::device_address(start.max(first));
            match self.memory.slot::<F>(table, Hop::from_index(hop), index) {
                Slot::Leaf if start >= first && end <= last => {}
                Slot::Leaf => {
                    return Err(UnmapError::WouldSplit {
                        leaf: F::device_address(start),
                    });
                }
                Slot::Table(child) => {
                    self.check_mapped(child, hop + 1, start.max(first), end.min(last))?;
                }
                Slot::Empty => return Err(UnmapError::NotMapped { at }),
                Slot::Foreign => return Err(UnmapError::Corrupt { at }),
            }
        }
        Ok(())
    }

    /// Removes every leaf that lies within `first..=last` and every table that is empty then.
    pub(super) fn remove_all_in(&mut self, first: u64, last: u64) -> Chain {
        let mut freed = Chain::EMPTY;
        self.remove(self.root, 0, first, last, &mut freed);
        if !freed.is_empty() {
            self.recent.set(Recent::NONE);
        }
        freed
    }

    /// The part of [`remove_all_in`](Self::remove_all_in) that concerns one table.
    fn remove(&self, table: TableId, hop: usize, first: u64, last: u64, freed: &mut Chain) {
        let geometry = F::HOPS[hop];
        let (from, to) = (geometry.index(first), geometry.index(last));
        let mut cleared = 0;
        // Slots are cleared in runs: this one began where `pending` says.
        let mut pending = from;
        for index in from..=to {
            let start = geometry.slot_start(first, from, index);
            let end = start | geometry.offset_mask();
            let inside = start >= first && end <= last;
            let clear = match self.memory.slot::<F>(table, Hop::from_index(hop), index) {
                Slot::Empty | Slot::Foreign => false,
                Slot::Leaf => inside,
                Slot::Table(child) if inside => {
                    self.collect(child, hop + 1, freed);
                    true
                }
                Slot::Table(child) => {
                    self.remove(child, hop + 1, start.max(first), end.min(last), freed);
                    let empty = self.memory.live(child) == 0;
                    if empty {
                        self.memory.append(freed, child, true);
                    }
                    empty
                }
            };
            if clear {
                cleared += 1;
            } else {
                if pending < index {
                    self.memory.clear(table, pending, index - pending);
                }
                pending = index + 1;
            }
        }
        if pending <= to {
            self.memory.clear(table, pending, to + 1 - pending);
        }
        // More than were counted only where somebody else wrote to table memory.
        let live = self.memory.live(table).saturating_sub(cleared);
        self.memory.set_live(table, live);
    }

    /// Adds a table that is unlinked as a whole, with all below it, to `freed`.
    fn collect(&self, table: TableId, hop: usize, freed: &mut Chain) {
        if hop < deepest::<F>() {
            for index in 0..F::HOPS[hop].slots() {
                if let Slot::Table(child) =
                    self.memory.slot::<F>(table, Hop::from_index(hop), index)
                {
                    self.collect(child, hop + 1, freed);
                }
            }
        }
        self.memory.append(freed, table, false);
    }
}
