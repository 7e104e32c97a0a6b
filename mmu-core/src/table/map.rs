//! Mapping: check everything, reserve every table, then fill, order and link.

use super::build::{Builder, Open, Rest, RunsChanged, Segment};
use super::{PageTable, Recent, Stop, slot_at};
use crate::addr::{AddrRange, DeviceAddr, Run};
use crate::error::MapError;
use crate::format::{Format, Hop, LeafSizes, PER_HOP, deepest, geometry_of};
use crate::memory::{INSIDE, Slot, TableDemand, TableMemory};

/// How to map: which leaf sizes may be used, and what each leaf carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct MapOptions<A> {
    /// The leaf sizes that may be used. Of these, the largest that the device address, the bus
    /// address and the remaining length of a run allow is used at each point.
    pub sizes: LeafSizes,
    /// What each leaf carries.
    pub attributes: A,
}

impl<A: Default> Default for MapOptions<A> {
    fn default() -> Self {
        Self {
            sizes: LeafSizes::ALL,
            attributes: A::default(),
        }
    }
}

/// Device bytes that a leaf of the hop maps.
#[inline(always)]
pub(super) fn page_bytes<F: Format>(hop: usize) -> u64 {
    F::device_len(geometry_of::<F>(hop).entry_span())
}

/// A request whose device addresses are checked.
#[derive(Clone, Copy)]
pub(super) struct Request<A> {
    pub(super) walk: u64,
    pub(super) len: u64,
    pub(super) smallest: usize,
    pub(super) options: MapOptions<A>,
}

/// Counts the tables that a sequence of leaves needs, in ascending order of walk addresses and
/// without a gap.
///
/// Leaves of one size that follow each other count as one stretch, so that a page costs no more
/// than noticing that it continues the stretch.
#[derive(Clone, Copy)]
pub(super) struct TableCount {
    /// Where the first stretch began.
    first: u64,
    start: u64,
    len: u64,
    hop: usize,
    tables: TableDemand,
}

impl TableCount {
    pub(super) const fn new(walk: u64, hop: usize) -> Self {
        Self {
            first: walk,
            start: walk,
            len: 0,
            hop,
            tables: TableDemand::NONE,
        }
    }

    #[inline(always)]
    fn add<F: Format>(&mut self, hop: usize, len: u64) {
        if hop != self.hop {
            self.end_stretch::<F>();
            self.hop = hop;
        }
        self.len += len;
    }

    fn end_stretch<F: Format>(&mut self) {
        if self.len == 0 {
            return;
        }
        let last = self.start.wrapping_add(self.len - 1);
        for hop in 1..=self.hop {
            let geometry = geometry_of::<F>(hop);
            let from = geometry.prefix(self.start);
            // A stretch that begins within a table follows leaves in the same table: if they were
            // larger than its entries, they would cover all of it.
            let is_counted =
                self.start != self.first && geometry.prefix(self.start.wrapping_sub(1)) == from;
            let tables = geometry.prefix(last) - from + u64::from(!is_counted);
            self.tables.add::<F>(hop, tables);
        }
        self.start = self.start.wrapping_add(self.len);
        self.len = 0;
    }

    /// The tables needed beyond those that exist.
    fn demand<F: Format>(mut self, existing: TableDemand) -> TableDemand {
        self.end_stretch::<F>();
        TableDemand {
            deepest: self.tables.deepest.saturating_sub(existing.deepest),
            interior: self.tables.interior.saturating_sub(existing.interior),
        }
    }
}

/// Where the way of all addresses of a request is the same: the deepest table that exists and that
/// all of them use.
#[derive(Clone, Copy)]
pub(super) struct Start<T> {
    pub(super) table: T,
    pub(super) hop: usize,
    /// Whether the slots that they use there are known to be empty, so that nobody has to look
    /// again.
    pub(super) vacant: bool,
    /// Tables that exist on the way to any of the addresses, the root not counted.
    existing: TableDemand,
}

impl<T> Start<T> {
    /// Whether all leaves of the request go into new tables that belong into consecutive slots of
    /// one that exists, so that nobody can see them before these are linked.
    pub(super) fn is_unseen<A>(&self, request: &Request<A>) -> bool {
        self.vacant && self.hop < request.smallest
    }
}

impl<F: Format, M: TableMemory> PageTable<F, M> {
    /// Maps the addresses from `at` on to the bus addresses of `run`, one to one.
    ///
    /// All or nothing: either every address of the run is mapped, or the page table, its counts
    /// and the pool are as before. A device that walks at the same time sees, for each address,
    /// nothing or the complete path.
    ///
    /// # Errors
    ///
    /// * [`MapError::OutOfRange`], [`MapError::Misaligned`] for the device addresses;
    /// * [`MapError::RunOutOfRange`], [`MapError::MisalignedRun`] for the bus addresses;
    /// * [`MapError::AlreadyMapped`] when anything is mapped in the range;
    /// * [`MapError::NoTableMemory`] when the pool has too few free tables;
    /// * [`MapError::NoLeafSize`] when no leaf size is allowed;
    /// * [`MapError::InDefaultRange`] when it takes leaves of another size than those of the default
    ///   mapping in its range;
    /// * [`MapError::Corrupt`] when an entry points out of the pool;
    /// * [`MapError::DeviceLost`] when the entries cannot be seen to arrive.
    // Inlined, so that what a caller's constants decide (most of the checks of a page of known
    // size with known options) costs nothing. The general way is a call.
    #[inline(always)]
    pub fn map(
        &mut self,
        at: DeviceAddr,
        run: Run,
        options: &MapOptions<F::Attributes>,
    ) -> Result<(), MapError> {
        let (small, large) = (deepest::<F>(), deepest::<F>() - 1);
        let is_page = |hop| options.sizes.allows::<F>(hop) && run.len() == page_bytes::<F>(hop);
        // One call for both, since it is long in line.
        let hop = if is_page(small) {
            Some(small)
        } else {
            is_page(large).then_some(large)
        };
        if let Some(hop) = hop
            && let Some(mapped) = self.map_page(hop, at, run.start(), options.attributes)
        {
            return mapped;
        }
        self.map_run(at, run, options)
    }

    /// Maps a run the general way.
    #[inline(never)]
    fn map_run(
        &mut self,
        at: DeviceAddr,
        run: Run,
        options: &MapOptions<F::Attributes>,
    ) -> Result<(), MapError> {
        let range = AddrRange::new(at, run.len()).ok_or(MapError::OutOfRange { at })?;
        let request = Self::request(range, options)?;
        let (entry, len) = Self::entry_run(run, &request)?;
        self.check_default(request.walk, &request.options, || core::iter::once(run))?;
        let stop = self.walk(request.walk, request.last());
        // Not on small processors, for which this is long: the general way does it too.
        if cfg!(target_pointer_width = "64")
            && let Some(Slot::Empty) = stop.slot
            && let Some(segment) = request.one_table::<F>(entry)
            && stop.hop < segment.hop
        {
            return self.map_new_table(&stop, segment, request.options.attributes);
        }
        let start = self.vacancy_from(&request, stop)?;
        let mut count = TableCount::new(request.walk, request.smallest);
        request.count_leaves::<F>(request.walk, entry, len, &mut count);
        self.commit(&request, &start, count, false, |builder| {
            builder.map_run(&request, request.walk, entry, len)
        })
    }

    /// Checks the device addresses of a request.
    #[inline(always)]
    pub(super) fn request(
        range: AddrRange<DeviceAddr>,
        options: &MapOptions<F::Attributes>,
    ) -> Result<Request<F::Attributes>, MapError> {
        let at = range.start();
        let smallest = options
            .sizes
            .deepest_allowed::<F>()
            .ok_or(MapError::NoLeafSize)?;
        let (walk, len) = F::walk_range(range).ok_or(MapError::OutOfRange { at })?;
        if (walk | len) & (geometry_of::<F>(smallest).entry_span() - 1) != 0 {
            return Err(MapError::Misaligned { at });
        }
        Ok(Request {
            walk,
            len,
            smallest,
            options: *options,
        })
    }

    /// Checks the bus addresses of a run.
    #[inline(always)]
    pub(super) fn entry_run(
        run: Run,
        request: &Request<F::Attributes>,
    ) -> Result<(u64, u64), MapError> {
        let bus = run.start();
        let (entry, len) = F::entry_run(run).ok_or(MapError::RunOutOfRange { bus })?;
        if (entry | len) & (geometry_of::<F>(request.smallest).entry_span() - 1) != 0 {
            return Err(MapError::MisalignedRun { bus });
        }
        Ok((entry, len))
    }

    /// Checks that nothing is mapped where the request wants to map, and finds out where to begin.
    ///
    /// One descent serves the check and the mapping both: where the slots of the table it ends in
    /// are empty, as they mostly are, what is below needs not be looked for again.
    pub(super) fn vacancy(
        &self,
        request: &Request<F::Attributes>,
    ) -> Result<Start<M::Table>, MapError> {
        self.vacancy_from(request, self.walk(request.walk, request.last()))
    }

    /// [`vacancy`](Self::vacancy) where the descent has been made.
    #[inline(always)]
    fn vacancy_from(
        &self,
        request: &Request<F::Attributes>,
        stop: Stop<M::Table>,
    ) -> Result<Start<M::Table>, MapError> {
        let (first, last) = (request.walk, request.last());
        let Stop { table, hop, slot } = stop;
        let is_empty = match slot {
            Some(slot) => matches!(slot, Slot::Empty | Slot::Default),
            None => {
                let geometry = geometry_of::<F>(hop);
                let from = geometry.index(first);
                let count = geometry.index(last) - from + 1;
                let number = Hop::from_index(hop);
                self.memory.empty_slots::<F>(table, number, from, count) == count
            }
        };
        let mut start = Start {
            table,
            hop,
            // A default leaf is as good as nothing, but it is not nothing.
            vacant: is_empty && !self.overlaps_default(first, last),
            // In one of the deepest hop nothing is missing, so that one too many above does no harm.
            existing: TableDemand {
                deepest: u64::from(hop == deepest::<F>()),
                interior: hop as u64,
            },
        };
        if !is_empty {
            self.check_vacant(table, hop, first, last, &mut start.existing)?;
        }
        Ok(start)
    }

    /// Checks that nothing is mapped from `first` to `last`, addresses of one table of `hop`, and
    /// counts the tables below it.
    pub(super) fn check_vacant(
        &self,
        table: M::Table,
        hop: usize,
        first: u64,
        last: u64,
        existing: &mut TableDemand,
    ) -> Result<(), MapError> {
        let geometry = geometry_of::<F>(hop);
        let (from, to) = (geometry.index(first), geometry.index(last));
        for index in from..=to {
            let start = geometry.slot_start(first, from, index);
            let from = start.max(first);
            let at = F::device_address(from);
            match slot_at::<F, M>(self.memory, table, hop, index) {
                // A default leaf makes room for another: see `check_default`.
                Slot::Empty | Slot::Default => {}
                Slot::Leaf => return Err(MapError::AlreadyMapped { at }),
                Slot::Foreign => return Err(MapError::Corrupt { at }),
                Slot::Table(child) => {
                    existing.add::<F>(hop + 1, 1);
                    let to = (start | geometry.offset_mask()).min(last);
                    self.check_vacant(child, hop + 1, from, to, existing)?;
                }
            }
        }
        Ok(())
    }

    /// Maps what is counted, as `fill` says. It is checked as well unless all of it is `unseen`: goes
    /// into new tables, which are linked only when `fill` succeeded. Where that fails or there are
    /// too few tables, nothing has changed but the content of free tables.
    ///
    /// A list of pages is as long in memory as its tables are, so that reading it once to check it
    /// and once more to map it costs as much again. This way it is checked while it is mapped.
    // Inlined, since each caller has one `fill`.
    #[inline(always)]
    pub(super) fn commit(
        &mut self,
        request: &Request<F::Attributes>,
        start: &Start<M::Table>,
        count: TableCount,
        unseen: bool,
        fill: impl FnOnce(&mut Builder<'_, F, M>) -> Result<(), RunsChanged>,
    ) -> Result<(), MapError> {
        let demand = count.demand::<F>(start.existing);
        let Some(reserved) = self.memory.reserve(demand, INSIDE) else {
            return Err(MapError::NoTableMemory {
                needed: demand.total(),
            });
        };
        let mut open = [Open::first(start); PER_HOP];
        let mut builder = Builder::new(
            self.memory,
            start,
            request.walk,
            reserved,
            unseen,
            &mut open,
        );
        let built = fill(&mut builder);
        let held = builder.finish();
        match built {
            Ok(()) if unseen => self.link(request, start, held),
            Ok(()) => self.arrive(request, held.last),
            Err(RunsChanged) => {
                if unseen {
                    self.discard(start, held);
                } else {
                    self.undo(request.walk, request.last());
                }
                Err(MapError::RunsChanged)
            }
        }
    }

    /// Sees everything that was mapped arrive.
    #[inline(always)]
    pub(super) fn arrive(
        &mut self,
        request: &Request<F::Attributes>,
        deepest_open: Option<M::Table>,
    ) -> Result<(), MapError> {
        if self.memory.flush().is_err() {
            self.undo(request.walk, request.last());
            return Err(MapError::DeviceLost);
        }
        if let Some(table) = deepest_open {
            let key = F::walk_key(request.last());
            self.recent.set(Recent::of::<F>(deepest::<F>(), key, table));
        }
        Ok(())
    }

    /// Removes what was mapped from `first` to `last`. The device may have seen entries already:
    /// they and the tables wait for the next invalidation.
    #[cold]
    #[inline(never)]
    pub(super) fn undo(&mut self, first: u64, last: u64) {
        self.has_undone = true;
        let undone = self.remove_all_in(first, last);
        self.memory.append_chain(&mut self.undone, undone);
    }
}

impl<A: Copy> Request<A> {
    /// The last walk address.
    pub(super) const fn last(&self) -> u64 {
        self.walk.wrapping_add(self.len - 1)
    }

    /// The leaves of a run that has all of the request, where they are of one size and one table
    /// has them all.
    #[inline(always)]
    fn one_table<F: Format>(&self, entry: u64) -> Option<Segment> {
        let bits = self.walk | entry | self.len;
        let fits = |&hop: &usize| bits & geometry_of::<F>(hop).offset_mask() == 0;
        let larger = self.options.sizes.allowed_above::<F>(self.smallest);
        let hop = larger.take_while(fits).last().unwrap_or(self.smallest);
        let geometry = geometry_of::<F>(hop);
        let is_one = (self.walk ^ self.last()) & !geometry.table_mask() == 0;
        is_one.then_some(Segment {
            walk: self.walk,
            entry,
            leaves: self.len >> geometry.shift,
            hop,
        })
    }

    /// The tables that leaves of the smallest size need.
    pub(super) const fn count_smallest(&self) -> TableCount {
        TableCount {
            len: self.len,
            ..TableCount::new(self.walk, self.smallest)
        }
    }

    /// Counts the tables that the leaves of one run need.
    #[inline(always)]
    pub(super) fn count_leaves<F: Format>(
        &self,
        walk: u64,
        entry: u64,
        len: u64,
        count: &mut TableCount,
    ) {
        let mut rest = Rest { walk, entry, len };
        while let Some(segment) = rest.next_segment::<F>(self.options.sizes, self.smallest) {
            count.add::<F>(
                segment.hop,
                segment.leaves << geometry_of::<F>(segment.hop).shift,
            );
        }
    }
}

/// The first of `count` entries that map consecutive pages from `address` on, and what is added to
/// each to get the next.
///
/// The first two are made by the format and the others by adding, which leaves one addition for
/// each: making every entry anew costs several times the store.
#[inline(always)]
pub(super) fn leaf_entries<F: Format>(
    hop: usize,
    address: u64,
    count: usize,
    attributes: F::Attributes,
) -> (u64, u64) {
    let geometry = geometry_of::<F>(hop);
    let entry = |leaf: u64| {
        let address = address.wrapping_add(leaf << geometry.shift);
        F::leaf_entry(Hop::from_index(hop), address, attributes)
    };
    let first = entry(0);
    let step = entry(1).wrapping_sub(first);
    debug_assert_eq!(
        entry(count as u64 - 1),
        first.wrapping_add(step.wrapping_mul(count as u64 - 1)),
        "entries of {} do not follow each other in even steps",
        F::NAME
    );
    (first, step)
}
