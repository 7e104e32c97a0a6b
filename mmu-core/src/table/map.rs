//! Mapping: check everything, reserve every table, then fill, order and link.

use super::build::{Builder, Rest, RunsChanged};
use super::{PageTable, Recent};
use crate::addr::{AddrRange, BusAddr, DeviceAddr, Run};
use crate::error::MapError;
use crate::format::{Format, Hop, LeafSizes, MAX_HOPS, TABLE_ENTRIES, deepest};
use crate::memory::{Reserved, Slot, TableDemand, TableId, TableMemory};

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
    F::device_len(F::HOPS[hop].entry_span())
}

/// A request whose device addresses are checked.
#[derive(Clone, Copy)]
pub(super) struct Request<A> {
    pub(super) walk: u64,
    pub(super) len: u64,
    pub(super) smallest: usize,
    pub(super) options: MapOptions<A>,
}

/// Counts the tables that a sequence of leaves needs, in ascending order of walk addresses.
///
/// Leaves of one size that follow each other count as one stretch, so that a page costs no more
/// than noticing that it continues the stretch.
#[derive(Clone, Copy)]
pub(super) struct TableCount {
    start: u64,
    len: u64,
    hop: usize,
    tables: [u64; MAX_HOPS],
    /// For each hop one more than the prefix last counted, or zero.
    counted: [u64; MAX_HOPS],
}

impl TableCount {
    pub(super) const fn new(walk: u64, hop: usize) -> Self {
        Self {
            start: walk,
            len: 0,
            hop,
            tables: [0; MAX_HOPS],
            counted: [0; MAX_HOPS],
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
            let geometry = F::HOPS[hop];
            let mut from = geometry.prefix(self.start);
            let to = geometry.prefix(last) + 1;
            if self.counted[hop] == from + 1 {
                from += 1;
            }
            self.tables[hop] += to - from;
            self.counted[hop] = to;
        }
        self.start = self.start.wrapping_add(self.len);
        self.len = 0;
    }

    /// The tables needed beyond those that exist.
    pub(super) fn demand<F: Format>(mut self, existing: &[u64; MAX_HOPS]) -> TableDemand {
        self.end_stretch::<F>();
        let mut demand = TableDemand::default();
        let hops = self
            .tables
            .iter()
            .zip(existing)
            .enumerate()
            .take(F::HOPS.len())
            .skip(1);
        for (hop, (counted, existing)) in hops {
            let tables = counted.saturating_sub(*existing);
            if hop == deepest::<F>() {
                demand.deepest = tables;
            } else {
                demand.interior += tables;
            }
        }
        demand
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
        let hop = deepest::<F>();
        if options.sizes.allows::<F>(hop) && run.len() == page_bytes::<F>(hop) {
            if self.map_page(hop, at, run.start(), options.attributes) {
                return Ok(());
            }
        } else if options.sizes.allows::<F>(hop - 1)
            && run.len() == page_bytes::<F>(hop - 1)
            && self.map_page(hop - 1, at, run.start(), options.attributes)
        {
            return Ok(());
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
        let mut count = TableCount::new(request.walk, request.smallest);
        request.count_leaves::<F>(request.walk, entry, len, &mut count);
        self.commit(&request, count, |builder| {
            builder.map(
                request.len,
                request.smallest,
                options,
                core::iter::once(run),
            )
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
        if (walk | len) & (F::HOPS[smallest].entry_span() - 1) != 0 {
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
        if (entry | len) & (F::HOPS[request.smallest].entry_span() - 1) != 0 {
            return Err(MapError::MisalignedRun { bus });
        }
        Ok((entry, len))
    }

    /// Maps one leaf of one of the two deepest hops, where its table exists or is the only one
    /// missing; `false`, with nothing changed, where the general way must be gone.
    ///
    /// That is what nearly every call for one page needs, so this is written for it: no counting,
    /// no recursion, errors left to the general way to find and to name.
    #[inline(always)]
    fn map_page(
        &mut self,
        hop: usize,
        at: DeviceAddr,
        bus: BusAddr,
        attributes: F::Attributes,
    ) -> bool {
        let offset_mask = F::HOPS[hop].offset_mask();
        // An aligned leaf whose first address is in range is in range as a whole.
        let (Some(walk), Some(address)) = (F::walk_address(at), F::entry_address(bus)) else {
            return false;
        };
        if (walk | address) & offset_mask != 0 {
            return false;
        }
        let entry = F::leaf_entry(Hop::from_index(hop), address, attributes);
        let table = if hop == deepest::<F>() {
            self.deepest_table(walk)
        } else {
            self.parent_table(walk)
        };
        match table {
            Ok(table) => self.map_page_in(table, hop, walk, entry),
            Err(stop) => {
                hop == deepest::<F>()
                    && stop.hop == hop - 1
                    && stop.slot == Slot::Empty
                    && self.map_page_in_new(stop.table, walk, entry)
            }
        }
    }

    /// Writes a leaf into `table`, where its slot is empty.
    #[inline(always)]
    fn map_page_in(&mut self, table: TableId, hop: usize, walk: u64, entry: u64) -> bool {
        let index = F::HOPS[hop].index(walk);
        let memory = self.memory;
        let slot = memory.slot::<F>(table, Hop::from_index(hop), index);
        if !matches!(slot, Slot::Empty | Slot::Default) {
            return false;
        }
        memory.write_leaves(table, index, core::iter::once(entry));
        memory.set_live(table, memory.live(table) + 1);
        if memory.flush().is_err() {
            // The general way meets the same device and reports it.
            self.clear(table, index, 1);
            memory.set_live(table, memory.live(table) - 1);
            return false;
        }
        true
    }

    /// Writes a leaf into a new table of the deepest hop and links that into an empty slot of
    /// `parent`.
    #[inline(always)]
    fn map_page_in_new(&mut self, parent: TableId, walk: u64, entry: u64) -> bool {
        let hop = deepest::<F>();
        let (geometry, above) = (F::HOPS[hop], Hop::from_index(hop - 1));
        let memory = self.memory;
        let demand = TableDemand {
            deepest: 1,
            interior: 0,
        };
        let Some(mut reserved) = memory.reserve(demand) else {
            return false;
        };
        let Some(table) = memory.take(&mut reserved, false) else {
            return false;
        };
        if !memory.is_zeroed(table) {
            memory.zero(table, 0, TABLE_ENTRIES);
        }
        memory.write_leaves(table, geometry.index(walk), core::iter::once(entry));
        memory.set_live(table, 1);
        // From the next store on the device can see the table.
        memory.publish();
        let link = F::table_entry(above, memory.address(table));
        memory.write_table(parent, F::HOPS[hop - 1].index(walk), link, table);
        memory.set_live(parent, memory.live(parent) + 1);
        if memory.flush().is_err() {
            self.has_undone = true;
            let undone = self.remove_all_in(walk, walk | geometry.offset_mask());
            self.memory.append_chain(&mut self.undone, undone);
            return false;
        }
        let prefix = geometry.prefix(walk);
        self.recent.set(Recent { prefix, table });
        true
    }

    /// Checks that nothing is mapped from `first` to `last`, addresses of one table of `hop`, and
    /// counts the tables on the way.
    pub(super) fn check_vacant(
        &self,
        mut table: TableId,
        mut hop: usize,
        first: u64,
        last: u64,
        existing: &mut [u64; MAX_HOPS],
    ) -> Result<(), MapError> {
        loop {
            let geometry = F::HOPS[hop];
            let (from, to) = (geometry.index(first), geometry.index(last));
            let mut only_child = None;
            for index in from..=to {
                let start = geometry.slot_start(first, from, index);
                let at = F::device_address(if index == from { first } else { start });
                match self.memory.slot::<F>(table, Hop::from_index(hop), index) {
                    // A default leaf makes room for another: see `check_default`.
                    Slot::Empty | Slot::Default => {}
                    Slot::Leaf => return Err(MapError::AlreadyMapped { at }),
                    Slot::Foreign => return Err(MapError::Corrupt { at }),
                    Slot::Table(child) => {
                        existing[hop + 1] += 1;
                        if from == to {
                            only_child = Some(child);
                            break;
                        }
                        let from = if index == from { first } else { start };
                        let to = if index == to {
                            last
                        } else {
                            start | geometry.offset_mask()
                        };
                        self.check_vacant(child, hop + 1, from, to, existing)?;
                    }
                }
            }
            match only_child {
                Some(child) => {
                    table = child;
                    hop += 1;
                }
                None => return Ok(()),
            }
        }
    }

    /// Maps what is checked and counted, as `fill` says.
    // Inlined, since each caller has one `fill`.
    #[inline(always)]
    pub(super) fn commit(
        &mut self,
        request: &Request<F::Attributes>,
        count: TableCount,
        fill: impl FnOnce(&mut Builder<F, M>) -> Result<(), RunsChanged>,
    ) -> Result<(), MapError> {
        let reserved = self.reserve(request, count)?;
        let mut builder = Builder::new(self.memory, self.root, request.walk, reserved);
        let built = fill(&mut builder);
        let deepest_open = builder.finish();
        match built {
            Ok(()) => self.arrive(request, deepest_open),
            Err(RunsChanged) => {
                self.undo(request);
                Err(MapError::RunsChanged)
            }
        }
    }

    /// Sees everything that was mapped arrive.
    #[inline(always)]
    pub(super) fn arrive(
        &mut self,
        request: &Request<F::Attributes>,
        deepest_open: Option<TableId>,
    ) -> Result<(), MapError> {
        if self.memory.flush().is_err() {
            self.undo(request);
            return Err(MapError::DeviceLost);
        }
        if let Some(table) = deepest_open {
            let prefix = F::HOPS[deepest::<F>()].prefix(request.last());
            self.recent.set(Recent { prefix, table });
        }
        Ok(())
    }

    /// Checks that nothing is mapped yet and reserves the tables that are missing.
    fn reserve(
        &self,
        request: &Request<F::Attributes>,
        count: TableCount,
    ) -> Result<Reserved, MapError> {
        let mut existing = [0; MAX_HOPS];
        self.check_vacant(self.root, 0, request.walk, request.last(), &mut existing)?;
        let demand = count.demand::<F>(&existing);
        self.memory.reserve(demand).ok_or(MapError::NoTableMemory {
            needed: demand.total(),
        })
    }

    /// Removes what was mapped. The device may have seen entries already: they and the tables wait
    /// for the next invalidation.
    #[cold]
    #[inline(never)]
    fn undo(&mut self, request: &Request<F::Attributes>) {
        self.has_undone = true;
        let undone = self.remove_all_in(request.walk, request.last());
        self.memory.append_chain(&mut self.undone, undone);
    }
}

impl<A: Copy> Request<A> {
    /// The last walk address.
    pub(super) const fn last(&self) -> u64 {
        self.walk.wrapping_add(self.len - 1)
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
            count.add::<F>(segment.hop, segment.leaves << F::HOPS[segment.hop].shift);
        }
    }
}

/// The entries of `count` leaves that map consecutive pages from `entry` on.
///
/// The first is made by the format and the others by adding to it, which leaves one addition for
/// each: making every entry anew costs several times the store.
#[inline(always)]
pub(super) fn leaf_entries<F: Format>(
    hop: usize,
    entry: u64,
    count: usize,
    attributes: F::Attributes,
) -> impl Iterator<Item = u64> {
    let hop = Hop::from_index(hop);
    let first = F::leaf_entry(hop, entry, attributes);
    let step = F::leaf_step(hop);
    (0..count as u64).map(move |leaf| first.wrapping_add(leaf.wrapping_mul(step)))
}
