//! Filling tables in ascending order: each word of a new table is written once, and a table is
//! linked only when everything below it is complete.

use super::list::{Page, PageCheck};
use super::map::{Request, Start, leaf_entries};
use super::{link, slot_at};
use crate::addr::{BusAddr, Run};
use crate::format::{Format, Hop, LeafSizes, PER_HOP, PerHop, TABLE_ENTRIES, deepest, geometry_of};
use crate::memory::{Chain, Reserved, Slot, TableMemory};

/// The runs differ from those that were checked.
pub(super) struct RunsChanged;

/// Leaves of one size, contiguous in walk addresses and in entry addresses.
#[derive(Clone, Copy)]
pub(super) struct Segment {
    pub(super) walk: u64,
    pub(super) entry: u64,
    pub(super) leaves: u64,
    pub(super) hop: usize,
}

/// The part of a run that is not yet split into segments.
pub(super) struct Rest {
    pub(super) walk: u64,
    pub(super) entry: u64,
    pub(super) len: u64,
}

impl Rest {
    /// The next leaves of one size: as many as there are before the addresses are aligned to a larger
    /// one.
    #[inline]
    pub(super) fn next_segment<F: Format>(
        &mut self,
        sizes: LeafSizes,
        smallest: usize,
    ) -> Option<Segment> {
        if self.len == 0 {
            return None;
        }
        let mut hop = smallest;
        let mut len = self.len;
        for larger in sizes.allowed_above::<F>(smallest) {
            let geometry = geometry_of::<F>(larger);
            let span = geometry.entry_span();
            if self.len < span || (self.walk ^ self.entry) & geometry.offset_mask() != 0 {
                break;
            }
            let before = self.walk.wrapping_neg() & geometry.offset_mask();
            if before != 0 {
                len = before;
                break;
            }
            hop = larger;
            len = self.len & !geometry.offset_mask();
        }
        let leaves = len >> geometry_of::<F>(hop).shift;
        let segment = Segment {
            walk: self.walk,
            entry: self.entry,
            leaves,
            hop,
        };
        self.walk = self.walk.wrapping_add(len);
        self.entry = self.entry.wrapping_add(len);
        self.len -= len;
        Some(segment)
    }
}

/// How the leaves of a list are made, found out once for all of them.
struct Leaf<F: Format> {
    hop: Hop,
    attributes: F::Attributes,
    /// The leaf of address 0.
    empty: u64,
}

impl<F: Format> Leaf<F> {
    /// The smallest leaves of a request.
    #[inline(always)]
    fn of(request: &Request<F::Attributes>) -> Self {
        let (hop, attributes) = (
            Hop::from_index(request.smallest),
            request.options.attributes,
        );
        Self {
            hop,
            attributes,
            empty: F::leaf_entry(hop, 0, attributes),
        }
    }

    /// The entry for an address.
    #[inline(always)]
    fn entry(&self, address: u64) -> u64 {
        if F::BITS_IN_PLACE == 0 {
            F::leaf_entry(self.hop, address, self.attributes)
        } else {
            self.empty | address
        }
    }
}

/// A table on the way to where entries are being written.
#[derive(Clone, Copy)]
pub(super) struct Open<T> {
    table: T,
    /// Entries written so far.
    added: u32,
    /// The slots from this one on may hold anything and are to be written. None in a table that
    /// somebody can see, or that was zero when it was taken.
    filled: u32,
    /// The table is not linked yet: nobody can see it.
    fresh: bool,
    /// The slots that concern the request were empty before anything was written.
    vacant: bool,
}

impl<T: Copy> Open<T> {
    /// The table that a builder starts from.
    #[inline(always)]
    pub(super) fn first(start: &Start<T>) -> Self {
        Self {
            table: start.table,
            added: 0,
            filled: TABLE_ENTRIES as u32,
            fresh: false,
            vacant: start.vacant,
        }
    }
}

/// Writes leaves in ascending order of walk addresses, keeping its place in the tables.
pub(super) struct Builder<'o, F, M: TableMemory> {
    memory: M,
    reserved: Reserved,
    /// Whether complete tables are kept in `held` where a link would make them visible.
    holds: bool,
    held: Chain,
    open: &'o mut [Open<M::Table>; PER_HOP],
    /// The hop of the table where the builder started.
    top: usize,
    /// The deepest hop with an open table.
    depth: usize,
    /// An address that uses every open table.
    walk: u64,
    format: core::marker::PhantomData<F>,
}

/// Complete tables that nobody can see yet: they belong into consecutive slots of one that the
/// device can reach.
pub(super) struct Held<T> {
    pub(super) tables: Chain,
    /// The table of the deepest hop that was written last.
    pub(super) last: Option<T>,
}

impl<'o, F: Format, M: TableMemory> Builder<'o, F, M> {
    /// A builder that begins in the first table of `open`, which the caller has so that it does not
    /// move with the builder.
    ///
    /// One that `holds` links no table into one that the device can reach: where all leaves go into
    /// new tables, it stores nothing that anybody can see.
    #[inline(always)]
    pub(super) fn new(
        memory: M,
        start: &Start<M::Table>,
        walk: u64,
        reserved: Reserved,
        holds: bool,
        open: &'o mut [Open<M::Table>; PER_HOP],
    ) -> Self {
        Self {
            memory,
            reserved,
            holds,
            held: Chain::EMPTY,
            open,
            top: start.hop,
            depth: start.hop,
            walk,
            format: core::marker::PhantomData,
        }
    }

    /// Maps what is requested, from where the builder stands, to `runs`.
    #[inline(always)]
    pub(super) fn map_runs(
        &mut self,
        request: &Request<F::Attributes>,
        runs: impl Iterator<Item = Run>,
    ) -> Result<(), RunsChanged> {
        let geometry = geometry_of::<F>(request.smallest);
        let mut len = request.len;
        let mut walk = self.walk;
        for run in runs {
            let (entry, run_len) = F::entry_run(run).ok_or(RunsChanged)?;
            if run_len > len || (run_len | entry) & geometry.offset_mask() != 0 {
                return Err(RunsChanged);
            }
            self.map_run(request, walk, entry, run_len)?;
            walk = walk.wrapping_add(run_len);
            len -= run_len;
        }
        if len == 0 { Ok(()) } else { Err(RunsChanged) }
    }

    /// Maps a part of what is requested: `len` walk bytes from `walk` on, one to one to the entry
    /// addresses from `entry` on.
    #[inline]
    pub(super) fn map_run(
        &mut self,
        request: &Request<F::Attributes>,
        walk: u64,
        entry: u64,
        len: u64,
    ) -> Result<(), RunsChanged> {
        let options = &request.options;
        let mut rest = Rest { walk, entry, len };
        while let Some(segment) = rest.next_segment::<F>(options.sizes, request.smallest) {
            self.write_segment(segment, options.attributes)?;
        }
        Ok(())
    }

    /// Maps what is requested, from where the builder stands, to `runs` of one smallest leaf each.
    #[inline(always)]
    pub(super) fn map_page_runs(
        &mut self,
        request: &Request<F::Attributes>,
        mut runs: impl Iterator<Item = Run>,
    ) -> Result<(), RunsChanged> {
        let (mut len, hop) = (request.len, request.smallest);
        let geometry = geometry_of::<F>(hop);
        let (page, leaf) = (Page::of::<F>(hop), Leaf::<F>::of(request));
        let mut entries = runs
            .by_ref()
            .map_while(|run| page.entry::<F>(run).map(|address| leaf.entry(address)));
        let mut walk = self.walk;
        while len > 0 {
            self.descend(walk, hop)?;
            let first = geometry.index(walk);
            let count = (geometry.slots() - first).min((len >> geometry.shift) as usize);
            if self.write_list(first, count, &mut entries) != count {
                return Err(RunsChanged);
            }
            walk = walk.wrapping_add((count as u64) << geometry.shift);
            len -= (count as u64) << geometry.shift;
        }
        match runs.next() {
            None => Ok(()),
            Some(_) => Err(RunsChanged),
        }
    }

    /// Maps what is requested, from where the builder stands, to `pages` of the smallest size.
    /// Writes all of them and fails in the end where one of them cannot be mapped.
    #[inline(always)]
    pub(super) fn map_pages(
        &mut self,
        request: &Request<F::Attributes>,
        mut pages: &[BusAddr],
    ) -> Result<(), RunsChanged> {
        let hop = request.smallest;
        let geometry = geometry_of::<F>(hop);
        let leaf = Leaf::<F>::of(request);
        let mut check = PageCheck::new();
        let mut walk = self.walk;
        while !pages.is_empty() {
            self.descend(walk, hop)?;
            let first = geometry.index(walk);
            let count = pages.len().min(geometry.slots() - first);
            let (here, rest) = pages.split_at_checked(count).ok_or(RunsChanged)?;
            // Nothing ends this loop early, so that it can be unrolled; and where the format puts
            // addresses into leaves as they are, a page costs a load, a store and an operation
            // for each of the entry and the check.
            let entries = here
                .iter()
                .map(|&page| leaf.entry(check.entry_address::<F>(hop, page)));
            self.write_leaves(first, entries);
            walk = walk.wrapping_add((count as u64) << geometry.shift);
            pages = rest;
        }
        if check.passes::<F>(hop) {
            Ok(())
        } else {
            Err(RunsChanged)
        }
    }

    #[inline(always)]
    fn write_segment(
        &mut self,
        mut segment: Segment,
        attributes: F::Attributes,
    ) -> Result<(), RunsChanged> {
        let hop = segment.hop;
        let geometry = geometry_of::<F>(hop);
        while segment.leaves > 0 {
            self.descend(segment.walk, hop)?;
            let first = geometry.index(segment.walk);
            let room = (geometry.slots() - first) as u64;
            let count = segment.leaves.min(room);
            let leaves = count as usize;
            let (entry, step) = leaf_entries::<F>(hop, segment.entry, leaves, attributes);
            self.write_run(first, leaves, entry, step);
            segment.walk = segment.walk.wrapping_add(count << geometry.shift);
            segment.entry = segment.entry.wrapping_add(count << geometry.shift);
            segment.leaves -= count;
        }
        Ok(())
    }

    /// Writes leaves into the deepest open table, the entry of each `step` more than that of the
    /// one before.
    #[inline(always)]
    fn write_run(&mut self, first: usize, count: usize, entry: u64, step: u64) {
        let table = self.fill_up_to(self.depth, first);
        self.memory.write_run(table, first, count, entry, step);
        self.note_written(first, count);
    }

    /// Writes leaves into the deepest open table.
    #[inline(always)]
    fn write_leaves(&mut self, first: usize, entries: impl ExactSizeIterator<Item = u64>) {
        let table = self.fill_up_to(self.depth, first);
        let written = self.memory.write_leaves(table, first, entries);
        self.note_written(first, written);
    }

    /// Writes leaves into the deepest open table, at most `count`. Returns how many.
    #[inline(always)]
    fn write_list(
        &mut self,
        first: usize,
        count: usize,
        entries: &mut impl Iterator<Item = u64>,
    ) -> usize {
        let table = self.fill_up_to(self.depth, first);
        let written = self.memory.write_list(table, first, count, entries);
        self.note_written(first, written);
        written
    }

    /// Notes that entries were written into the deepest open table.
    #[inline(always)]
    fn note_written(&mut self, first: usize, count: usize) {
        let open = self.open.at_mut(self.depth);
        open.added += count as u32;
        open.filled = open.filled.max((first + count) as u32);
    }

    /// Zeroes what was skipped of the open table of a hop, and returns that table.
    #[inline(always)]
    fn fill_up_to(&mut self, hop: usize, index: usize) -> M::Table {
        let open = self.open.at(hop);
        let filled = open.filled as usize;
        if filled < index {
            self.memory.zero(open.table, filled, index);
        }
        open.table
    }

    /// Opens the table of `hop` that `walk` uses.
    // A call for each table and each stretch of leaves: in line it would be there many times.
    #[inline(never)]
    fn descend(&mut self, walk: u64, hop: usize) -> Result<(), RunsChanged> {
        if hop < self.top {
            return Err(RunsChanged);
        }
        let is_shared = |above: &usize| {
            let geometry = geometry_of::<F>(above + 1);
            geometry.prefix(walk) == geometry.prefix(self.walk)
        };
        let open = self.depth.min(hop);
        let shared = (self.top..open).find(|above| !is_shared(above));
        self.close_below(shared.unwrap_or(open));
        self.walk = walk;
        while self.depth < hop {
            let parent = self.open.at(self.depth);
            let slot = if parent.vacant {
                Slot::Empty
            } else {
                let index = geometry_of::<F>(self.depth).index(walk);
                slot_at::<F, M>(self.memory, parent.table, self.depth, index)
            };
            let (table, fresh) = match slot {
                Slot::Table(table) => (table, false),
                Slot::Empty => {
                    let interior = self.depth + 1 < deepest::<F>();
                    let table = self.memory.take(&mut self.reserved, interior);
                    (table.ok_or(RunsChanged)?, true)
                }
                Slot::Leaf | Slot::Default | Slot::Foreign => return Err(RunsChanged),
            };
            let is_filled = !fresh || self.memory.is_zeroed(table);
            self.depth += 1;
            *self.open.at_mut(self.depth) = Open {
                table,
                added: 0,
                filled: if is_filled { TABLE_ENTRIES as u32 } else { 0 },
                fresh,
                vacant: fresh,
            };
        }
        Ok(())
    }

    /// Completes the open tables below `hop` and links them, where they are fresh, into their
    /// parents.
    #[inline]
    fn close_below(&mut self, hop: usize) {
        while self.depth > hop {
            self.close_deepest();
        }
    }

    /// Completes the deepest open table and links it, where it is fresh, into its parent.
    #[inline]
    fn close_deepest(&mut self) {
        let done = self.open.at(self.depth);
        if !done.fresh {
            self.add_live(self.depth);
            self.depth -= 1;
            return;
        }
        self.fill_up_to(self.depth, TABLE_ENTRIES);
        self.memory.set_live(done.table, done.added);
        self.depth -= 1;
        let index = geometry_of::<F>(self.depth).index(self.walk);
        self.fill_up_to(self.depth, index);
        self.note_written(index, 1);
        let parent = self.open.at(self.depth);
        if !parent.fresh && self.holds {
            let table = self.memory.chain_of(done.table);
            self.memory.append_chain(&mut self.held, table);
            return;
        }
        let slot = (parent.table, self.depth, index);
        link::<F, M>(self.memory, slot, done.table, !parent.fresh);
    }

    #[inline(always)]
    fn add_live(&self, hop: usize) {
        let open = self.open.at(hop);
        if open.added != 0 {
            self.memory
                .set_live(open.table, self.memory.live(open.table) + open.added);
        }
    }

    /// Completes every open table, links those that are not held, and gives back what was reserved
    /// and not needed.
    #[inline(always)]
    pub(super) fn finish(mut self) -> Held<M::Table> {
        let last = self.deepest_open();
        self.close_below(self.top);
        if !self.holds {
            self.add_live(self.top);
        }
        self.memory.give_back(self.reserved);
        Held {
            tables: self.held,
            last,
        }
    }

    #[inline(always)]
    fn deepest_open(&self) -> Option<M::Table> {
        (self.depth == deepest::<F>()).then_some(self.open.at(self.depth).table)
    }
}
