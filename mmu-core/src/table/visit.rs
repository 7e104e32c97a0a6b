//! Visiting what is mapped, as runs rather than leaf by leaf.

use core::fmt;
use core::iter::FusedIterator;

use super::PageTable;
use crate::addr::{AddrRange, BusAddr, DeviceAddr};
use crate::error::QueryError;
use crate::format::{Entry, Format, Hop, PER_HOP, PerHop, geometry_of};
use crate::memory::{Slot, TableMemory};

/// Consecutive device addresses that lead to consecutive bus addresses, through leaves of one size
/// with equal attributes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct MappedRun<A> {
    /// The device addresses.
    pub range: AddrRange<DeviceAddr>,
    /// Where the first of them leads; the others follow it, as many bytes as the range has.
    pub bus: BusAddr,
    /// The hop that the leaves are in, which tells their size.
    pub hop: Hop,
    /// What each of the leaves carries.
    pub attributes: A,
}

impl<A: Copy + PartialEq> MappedRun<A> {
    /// This run and `next` as one; `None` where they differ in more than their place, or leave a
    /// gap on either side of the translation.
    fn joined(self, next: Self) -> Option<Self> {
        let continues = self.range.end() == Some(next.range.start())
            && self.bus.checked_add(self.range.len()) == Some(next.bus)
            && self.hop == next.hop
            && self.attributes == next.attributes;
        // Only a run over all 2^64 bytes has no hull: it is told in two pieces.
        let range = continues.then(|| self.range.hull(next.range))??;
        Some(Self { range, ..self })
    }
}

impl<F: Format, M: TableMemory> PageTable<F, M> {
    /// Visits what is mapped in `range`, in ascending order, as runs that are as long as they can
    /// be: a new one begins where the device address or the bus address does not continue, or the
    /// leaf size or the attributes change.
    ///
    /// Runs are cut to `range`, also inside a leaf. Addresses of `range` that the format cannot
    /// translate are not mapped. Nothing is allocated, and each table that overlaps the range is
    /// visited once.
    ///
    /// An item is [`QueryError::Corrupt`] where an entry points out of the pool; the visit goes on
    /// behind it.
    pub fn runs(&self, range: AddrRange<DeviceAddr>) -> Runs<'_, F, M> {
        Runs {
            page_table: self,
            range,
            rest: F::walk_hull(range),
            tables: [self.root; PER_HOP],
            hop: 0,
            pending: None,
        }
    }
}

/// What a visit finds: a run, or an entry that points out of the pool.
type Found<A> = Result<MappedRun<A>, QueryError>;

/// The runs mapped in a range; see [`PageTable::runs`].
#[must_use = "nothing is visited until the iterator is asked"]
pub struct Runs<'t, F: Format, M: TableMemory> {
    page_table: &'t PageTable<F, M>,
    range: AddrRange<DeviceAddr>,
    /// The first and the last walk address not visited yet.
    rest: Option<(u64, u64)>,
    /// The tables that the first of them uses, down to `hop`.
    tables: [M::Table; PER_HOP],
    hop: usize,
    /// Found, but perhaps continued by what comes next.
    pending: Option<Found<F::Attributes>>,
}

impl<F: Format, M: TableMemory> Runs<'_, F, M> {
    /// The next leaf, or the next entry that points out of the pool.
    fn next_leaf(&mut self) -> Option<Found<F::Attributes>> {
        loop {
            let (walk, last) = self.rest?;
            let hop = self.hop;
            let table = self.tables.at(hop);
            let index = geometry_of::<F>(hop).index(walk);
            let slot = self
                .page_table
                .memory
                .slot::<F>(table, Hop::from_index(hop), index);
            if let Slot::Table(child) = slot {
                self.hop += 1;
                *self.tables.at_mut(self.hop) = child;
                continue;
            }
            self.skip_slot(walk, last);
            match slot {
                Slot::Leaf => return Some(self.leaf(table, hop, index, walk)),
                Slot::Foreign => {
                    let at = F::device_address(walk);
                    return Some(Err(QueryError::Corrupt { at }));
                }
                Slot::Empty | Slot::Default | Slot::Table(_) => {}
            }
        }
    }

    /// Goes on behind the slot that `walk` uses at the hop reached.
    fn skip_slot(&mut self, walk: u64, last: u64) {
        // Compared before adding: the slot may end at the top of the address space.
        let end = walk | geometry_of::<F>(self.hop).offset_mask();
        if end >= last {
            self.rest = None;
            return;
        }
        let next = end + 1;
        self.rest = Some((next, last));
        while geometry_of::<F>(self.hop).prefix(next) != geometry_of::<F>(self.hop).prefix(walk) {
            self.hop -= 1;
        }
    }

    /// The part of a leaf that lies within the range.
    fn leaf(&self, table: M::Table, hop: usize, index: usize, walk: u64) -> Found<F::Attributes> {
        let corrupt = QueryError::Corrupt {
            at: F::device_address(walk),
        };
        let geometry = geometry_of::<F>(hop);
        let hop = Hop::from_index(hop);
        let entry = self.page_table.memory.entry(table, index);
        let Entry::Leaf {
            address,
            attributes,
        } = F::decode(hop, entry)
        else {
            return Err(corrupt);
        };
        let start = F::device_address(walk & !geometry.offset_mask());
        let range = AddrRange::new(start, F::device_len(geometry.entry_span()))
            .and_then(|leaf| leaf.intersection(self.range))
            .ok_or(corrupt)?;
        let bus = range
            .start()
            .offset_from(start)
            .and_then(|cut| F::bus_address(address & !geometry.offset_mask()).checked_add(cut))
            .ok_or(corrupt)?;
        Ok(MappedRun {
            range,
            bus,
            hop,
            attributes,
        })
    }
}

impl<F: Format, M: TableMemory> Iterator for Runs<'_, F, M> {
    type Item = Result<MappedRun<F::Attributes>, QueryError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let found = self.next_leaf();
            if let (Some(Ok(run)), Some(Ok(leaf))) = (self.pending, found)
                && let Some(joined) = run.joined(leaf)
            {
                self.pending = Some(Ok(joined));
                continue;
            }
            let complete = core::mem::replace(&mut self.pending, found);
            if complete.is_some() || found.is_none() {
                return complete;
            }
        }
    }
}

impl<F: Format, M: TableMemory> FusedIterator for Runs<'_, F, M> {}

impl<F: Format, M: TableMemory> fmt::Debug for Runs<'_, F, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runs")
            .field("format", &F::NAME)
            .field("range", &self.range)
            .finish_non_exhaustive()
    }
}
