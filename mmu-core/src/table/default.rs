//! The default mapping: what a device reads where nothing is mapped.
//!
//! Goya maps all of its DRAM addresses to one page, so that a speculative or stray access does not
//! fault (facts DP-1 to DP-10). The tables of such a range are there from the start and stay; a
//! leaf that is mapped takes the place of a default leaf, which comes back when it is unmapped.

use super::build::Rest;
use super::map::{MapOptions, page_bytes};
use super::{PageTable, link};
use crate::addr::{AddrRange, BusAddr, DeviceAddr, Run};
use crate::error::MapError;
use crate::format::{Format, Hop, TABLE_ENTRIES, geometry_of};
use crate::memory::{Chain, DefaultTables, INSIDE, Reserved, Slot, TableDemand, TableMemory};
use crate::removed::{Extent, Removed};

/// A default mapping, which covers whole tables of its hop.
#[derive(Clone, Copy)]
pub(super) struct Backing {
    first: u64,
    last: u64,
    hop: usize,
    entry: u64,
}

impl<F: Format, M: TableMemory> PageTable<F, M> {
    /// The range of the default mapping; `None` where there is none.
    #[must_use]
    pub fn default_range(&self) -> Option<AddrRange<DeviceAddr>> {
        let backing = self.backing()?;
        let len = F::device_len(backing.last.wrapping_sub(backing.first).wrapping_add(1));
        AddrRange::new(F::device_address(backing.first), len)
    }

    /// The default mapping. There is none, to the compiler too, where the memory knows none.
    #[inline(always)]
    fn backing(&self) -> Option<Backing> {
        if M::HAS_DEFAULTS { self.backing } else { None }
    }

    /// Whether any of the walk addresses from `first` to `last` is in the default range.
    #[inline(always)]
    pub(super) fn overlaps_default(&self, first: u64, last: u64) -> bool {
        self.backing()
            .is_some_and(|backing| first <= backing.last && backing.first <= last)
    }

    /// Empties slots, to what the table has in empty ones.
    #[inline(always)]
    pub(super) fn clear(&self, table: M::Table, first: usize, count: usize) {
        let default = self.backing().map(|backing| backing.entry);
        self.memory.clear(table, first, count, default);
    }

    /// Checks that leaves in the default range have the size of its leaves. Runs that are not sound
    /// otherwise pass: they are for others to find.
    #[inline(always)]
    pub(super) fn check_default<I: Iterator<Item = Run>>(
        &self,
        walk: u64,
        options: &MapOptions<F::Attributes>,
        runs: impl FnOnce() -> I,
    ) -> Result<(), MapError> {
        match self.backing() {
            Some(backing) => Self::check_default_leaves(&backing, walk, options, runs()),
            None => Ok(()),
        }
    }

    #[inline(never)]
    fn check_default_leaves(
        backing: &Backing,
        mut walk: u64,
        options: &MapOptions<F::Attributes>,
        runs: impl Iterator<Item = Run>,
    ) -> Result<(), MapError> {
        let Some(smallest) = options.sizes.deepest_allowed::<F>() else {
            return Ok(());
        };
        for run in runs {
            let Some((entry, len)) = F::entry_run(run) else {
                return Ok(());
            };
            let mut rest = Rest { walk, entry, len };
            while let Some(segment) = rest.next_segment::<F>(options.sizes, smallest) {
                let len = segment.leaves << geometry_of::<F>(segment.hop).shift;
                let Some(last) = len
                    .checked_sub(1)
                    .and_then(|len| segment.walk.checked_add(len))
                else {
                    return Ok(());
                };
                let overlaps = segment.walk <= backing.last && backing.first <= last;
                if overlaps && segment.hop != backing.hop {
                    return Err(MapError::InDefaultRange {
                        at: F::device_address(segment.walk.max(backing.first)),
                    });
                }
            }
            walk = walk.wrapping_add(len);
        }
        Ok(())
    }
}

impl<F: Format, M: DefaultTables> PageTable<F, M> {
    /// Maps all of `range` to one and the same page by leaves of `hop`, until something else is
    /// mapped there and again after that is unmapped.
    ///
    /// What is in the range by default does not count as mapped: [`map`](Self::map) takes its
    /// place, with leaves of the same size only; [`query`](Self::query) and [`runs`](Self::runs)
    /// do not find it; [`unmap`](Self::unmap) and [`sweep`](Self::sweep) put it back. The tables
    /// of the range stay until [`remove_default`](Self::remove_default), [`wipe`](Self::wipe) or
    /// [`close`](Self::close). A page table has one default mapping at most.
    ///
    /// Other than everywhere else, a map in the range replaces entries that the device may have
    /// cached. It is for the caller to invalidate the addresses that are mapped before the device
    /// is told to use them; nothing that the default page would not allow can happen before.
    ///
    /// All or nothing, like a map.
    ///
    /// # Errors
    ///
    /// * [`MapError::NoLeafSize`] when the format has no leaves at `hop`, or it is the root;
    /// * [`MapError::OutOfRange`] when the format cannot translate the range;
    /// * [`MapError::Misaligned`] when it is not whole tables of `hop`;
    /// * [`MapError::RunOutOfRange`], [`MapError::MisalignedRun`] for the page;
    /// * [`MapError::AlreadyMapped`] when anything is mapped in the range, or there is a default
    ///   mapping already, wherever;
    /// * [`MapError::NoTableMemory`] when the pool has too few free tables;
    /// * [`MapError::Corrupt`] when an entry points out of the pool;
    /// * [`MapError::DeviceLost`] when the entries cannot be seen to arrive.
    pub fn set_default(
        &mut self,
        range: AddrRange<DeviceAddr>,
        hop: Hop,
        page: BusAddr,
        attributes: F::Attributes,
    ) -> Result<(), MapError> {
        let backing = self.check_backing(range, hop, page, attributes)?;
        let Backing { first, last, .. } = backing;
        let mut existing = TableDemand::NONE;
        self.check_vacant(self.root, 0, first, last, &mut existing)?;
        // Tables of the default leaves hold nothing but leaves, like those of the deepest hop, and
        // none of them exists: it would hold something that is mapped.
        let tables = |hop: usize| {
            geometry_of::<F>(hop).prefix(last) - geometry_of::<F>(hop).prefix(first) + 1
        };
        let interior: u64 = (1..backing.hop).map(tables).sum();
        let demand = TableDemand {
            deepest: tables(backing.hop),
            interior: interior.saturating_sub(existing.interior),
        };
        let no_tables = MapError::NoTableMemory {
            needed: demand.total(),
        };
        let mut reserved = self.memory.reserve(demand, INSIDE).ok_or(no_tables)?;
        let complete = self.back(self.root, 0, false, &backing, (first, last), &mut reserved);
        self.memory.give_back(reserved);
        let error = match (complete, self.memory.flush()) {
            (Some(()), Ok(())) => {
                self.backing = Some(backing);
                return Ok(());
            }
            (None, _) => no_tables,
            (_, Err(_)) => MapError::DeviceLost,
        };
        // The device may have seen the tables.
        self.has_undone = true;
        let undone = self.unback_all(&backing);
        self.memory.append_chain(&mut self.undone, undone);
        Err(error)
    }

    /// Removes the default mapping. What is mapped in its range stays.
    ///
    /// Needs no memory and cannot fail. Does nothing where there is no default mapping.
    pub fn remove_default(&mut self) -> Removed<M> {
        let extent = self.default_range().map_or(Extent::Nothing, Extent::Range);
        let freed = match self.backing.take() {
            Some(backing) => self.unback_all(&backing),
            None => Chain::EMPTY,
        };
        self.removed(extent, freed)
    }

    fn check_backing(
        &self,
        range: AddrRange<DeviceAddr>,
        hop: Hop,
        page: BusAddr,
        attributes: F::Attributes,
    ) -> Result<Backing, MapError> {
        let at = range.start();
        let index = usize::from(hop.number());
        let above = index.checked_sub(1).and_then(|above| F::HOPS.get(above));
        let (Some(above), Some(geometry)) = (above, F::HOPS.get(index)) else {
            return Err(MapError::NoLeafSize);
        };
        if !geometry.leaf {
            return Err(MapError::NoLeafSize);
        }
        let (first, len) = F::walk_range(range).ok_or(MapError::OutOfRange { at })?;
        if (first | len) & above.offset_mask() != 0 {
            return Err(MapError::Misaligned { at });
        }
        let bus = page;
        let run = Run::new(page, page_bytes::<F>(index));
        let (address, page_len) = run
            .and_then(F::entry_run)
            .ok_or(MapError::RunOutOfRange { bus })?;
        if (address | page_len) & geometry.offset_mask() != 0 {
            return Err(MapError::MisalignedRun { bus });
        }
        if let Some(backing) = self.backing {
            return Err(MapError::AlreadyMapped {
                at: F::device_address(backing.first),
            });
        }
        Ok(Backing {
            first,
            last: first.wrapping_add(len - 1),
            hop: index,
            entry: F::leaf_entry(hop, address, attributes),
        })
    }

    /// Makes the tables for the part of the default mapping from `first` to `last`, addresses of
    /// one table of `hop`. A new table is linked when all below it is complete.
    fn back(
        &self,
        table: M::Table,
        hop: usize,
        fresh: bool,
        backing: &Backing,
        (first, last): (u64, u64),
        reserved: &mut Reserved,
    ) -> Option<()> {
        let memory = self.memory;
        let geometry = geometry_of::<F>(hop);
        let (from, to) = (geometry.index(first), geometry.index(last));
        for index in from..=to {
            let start = geometry.slot_start(first, from, index);
            let part = (start.max(first), (start | geometry.offset_mask()).min(last));
            let below = hop + 1;
            if !fresh
                && let Slot::Table(child) = memory.slot::<F>(table, Hop::from_index(hop), index)
            {
                self.back(child, below, false, backing, part, reserved)?;
                continue;
            }
            let child = memory.take(reserved, below < backing.hop)?;
            if below == backing.hop {
                memory.back(child, geometry_of::<F>(below).slots(), backing.entry);
            } else {
                let zeroed = memory.is_zeroed(child);
                memory.set_live(child, 0);
                self.back(child, below, true, backing, part, reserved)?;
                if !zeroed {
                    memory.zero(child, 0, geometry_of::<F>(below).index(part.0));
                    memory.zero(
                        child,
                        geometry_of::<F>(below).index(part.1) + 1,
                        TABLE_ENTRIES,
                    );
                }
            }
            link::<F, M>(memory, (table, hop, index), child, true);
            memory.set_live(table, memory.live(table) + 1);
        }
        Some(())
    }

    /// Unlinks every table of the default mapping in which nothing is mapped.
    fn unback_all(&self, backing: &Backing) -> Chain {
        let mut freed = Chain::EMPTY;
        let range = (backing.first, backing.last);
        self.unback(self.root, 0, backing.hop, range, &mut freed);
        self.forget();
        freed
    }

    /// The part of [`unback_all`](Self::unback_all) that concerns one table, above `leaf_hop`.
    fn unback(
        &self,
        table: M::Table,
        hop: usize,
        leaf_hop: usize,
        (first, last): (u64, u64),
        freed: &mut Chain,
    ) {
        let memory = self.memory;
        let geometry = geometry_of::<F>(hop);
        let (from, to) = (geometry.index(first), geometry.index(last));
        let unlinked = self.clear_where(table, from..=to, |index| {
            let start = geometry.slot_start(first, from, index);
            let part = (start.max(first), (start | geometry.offset_mask()).min(last));
            match memory.slot::<F>(table, Hop::from_index(hop), index) {
                Slot::Table(child) if hop + 1 == leaf_hop => {
                    let empty = !memory.unback(child);
                    if empty {
                        memory.append(freed, child, false);
                    }
                    empty
                }
                Slot::Table(child) => {
                    self.unback(child, hop + 1, leaf_hop, part, freed);
                    let empty = memory.live(child) == 0;
                    if empty {
                        memory.append(freed, child, true);
                    }
                    empty
                }
                // Never linked: an attempt that is undone.
                _ => false,
            }
        });
        memory.set_live(table, memory.live(table).saturating_sub(unlinked));
    }
}
