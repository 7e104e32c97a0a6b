//! Mapping lists: of runs of any lengths, and of single pages.

use super::build::Held;
use super::map::{MapOptions, Request, Start, TableCount, page_bytes};
use super::{PageTable, link};
use crate::addr::{AddrRange, BusAddr, DeviceAddr, Run};
use crate::error::MapError;
use crate::format::{Format, geometry_of};
use crate::memory::{Chain, TableMemory};

/// What tells a run of exactly one leaf from others. Found out once for a list, so that no loop over
/// runs looks up what its hop is like.
#[derive(Clone, Copy)]
pub(super) struct Page {
    bytes: u64,
    offset_mask: u64,
}

impl Page {
    /// The leaves of the hop with this number.
    #[inline(always)]
    pub(super) fn of<F: Format>(hop: usize) -> Self {
        Self {
            bytes: page_bytes::<F>(hop),
            offset_mask: geometry_of::<F>(hop).offset_mask(),
        }
    }

    /// The entry address of a run of one leaf; `None` for any other run.
    #[inline(always)]
    pub(super) fn entry<F: Format>(self, run: Run) -> Option<u64> {
        let address = F::entry_address(run.start())?;
        // As in `map_page`: the start tells all about an aligned leaf.
        (run.len() == self.bytes && address & self.offset_mask == 0).then_some(address)
    }
}

/// Whether `runs`, of which there seem to be as many as the request has smallest leaves, are that
/// many, of one leaf each. Where not, nothing is said: they may still be sound.
///
/// A list of scattered pages is the common list. Looking at nothing but this, without a branch for
/// each page, the compiler makes a pass that costs a few instructions for a page.
#[inline(always)]
fn is_pages<F: Format>(hop: usize, pages: usize, runs: impl Iterator<Item = Run>) -> bool {
    let page = Page::of::<F>(hop);
    let (all, count) = runs
        .take(pages.saturating_add(1))
        .fold((true, 0), |(all, count), run| {
            (all & page.entry::<F>(run).is_some(), count + 1_usize)
        });
    all && count == pages
}

/// Whether leaves of a hop can map all pages of a list, found out without a branch for each.
pub(super) struct PageCheck {
    /// Every bit that one of the pages has.
    bits: u64,
    /// Whether one of them has no entry address or an unaligned one, where the bits do not tell.
    failed: bool,
}

impl PageCheck {
    pub(super) const fn new() -> Self {
        Self {
            bits: 0,
            failed: false,
        }
    }

    /// The entry address of a page; any address where it has none.
    #[inline(always)]
    pub(super) fn entry_address<F: Format>(&mut self, hop: usize, page: BusAddr) -> u64 {
        if F::BITS_IN_PLACE != 0 {
            self.bits |= page.get();
            return page.get();
        }
        // As in `map_page`: the start tells all about an aligned leaf.
        let address = F::entry_address(page).unwrap_or(u64::MAX);
        self.failed |= address & geometry_of::<F>(hop).offset_mask() != 0;
        address
    }

    #[inline(always)]
    pub(super) fn passes<F: Format>(&self, hop: usize) -> bool {
        let wrong = !F::BITS_IN_PLACE | geometry_of::<F>(hop).offset_mask();
        !self.failed && self.bits & wrong == 0
    }
}

impl<F: Format, M: TableMemory> PageTable<F, M> {
    /// Maps `range` to the bus addresses of `runs`, one after the other.
    ///
    /// The iterator is cloned: passes over clones check, and the last one maps. Scattered pages take
    /// one pass for both where the iterator tells how many there are
    /// ([`Iterator::size_hint`]) and they go into new tables. Otherwise as [`map`](Self::map). Where
    /// there is a slice of page addresses, [`map_pages`](Self::map_pages) is faster.
    ///
    /// # Errors
    ///
    /// Those of [`map`](Self::map), and
    ///
    /// * [`MapError::LengthMismatch`] when the runs are not as long as the range;
    /// * [`MapError::RunsChanged`] when the clone did not yield the same runs.
    #[inline]
    pub fn map_list<I>(
        &mut self,
        range: AddrRange<DeviceAddr>,
        runs: I,
        options: &MapOptions<F::Attributes>,
    ) -> Result<(), MapError>
    where
        I: IntoIterator<Item = Run>,
        I::IntoIter: Clone,
    {
        let request = Self::request(range, options)?;
        let runs = runs.into_iter();
        self.check_default(request.walk, options, || runs.clone())?;
        let pages = usize::try_from(request.len >> geometry_of::<F>(request.smallest).shift);
        if let Ok(pages) = pages
            && runs.size_hint() == (pages, Some(pages))
            && let Some(mapped) = self.map_page_runs(&request, pages, runs.clone())
        {
            return mapped;
        }
        let mut count = TableCount::new(request.walk, request.smallest);
        let mut walk = request.walk;
        let mut left = request.len;
        for run in runs.clone() {
            let (entry, len) = Self::entry_run(run, &request)?;
            if len > left {
                return Err(MapError::LengthMismatch { at: range.last() });
            }
            request.count_leaves::<F>(walk, entry, len, &mut count);
            walk = walk.wrapping_add(len);
            left -= len;
        }
        if left != 0 {
            return Err(MapError::LengthMismatch {
                at: F::device_address(walk),
            });
        }
        let start = self.vacancy(&request)?;
        self.commit(&request, &start, count, false, |builder| {
            builder.map_runs(&request, runs)
        })
    }

    /// Maps runs of which there seem to be as many as the request has smallest leaves, which then
    /// are one leaf each; `None`, with nothing changed but the content of free tables, where this
    /// is not so or anything is wrong, which the general way finds out and names.
    #[inline(always)]
    fn map_page_runs<I: Iterator<Item = Run> + Clone>(
        &mut self,
        request: &Request<F::Attributes>,
        pages: usize,
        runs: I,
    ) -> Option<Result<(), MapError>> {
        let start = self.vacancy(request).ok()?;
        let unseen = start.is_unseen(request);
        if !unseen && !is_pages::<F>(request.smallest, pages, runs.clone()) {
            return None;
        }
        let built = self.commit(
            request,
            &start,
            request.count_smallest(),
            unseen,
            |builder| builder.map_page_runs(request, runs),
        );
        match built {
            Err(MapError::NoTableMemory { .. }) => None,
            Err(MapError::RunsChanged) if unseen => None,
            done => Some(done),
        }
    }

    /// Maps `range` to `pages`, the bus addresses of pages of the smallest size that `options`
    /// allow, one after the other.
    ///
    /// What [`map_list`](Self::map_list) does with runs of one page each. Otherwise as
    /// [`map`](Self::map).
    ///
    /// # Errors
    ///
    /// Those of [`map`](Self::map), and
    ///
    /// * [`MapError::LengthMismatch`] when the pages are not as long as the range.
    #[inline]
    pub fn map_pages(
        &mut self,
        range: AddrRange<DeviceAddr>,
        pages: &[BusAddr],
        options: &MapOptions<F::Attributes>,
    ) -> Result<(), MapError> {
        let request = Self::request(range, options)?;
        let shift = geometry_of::<F>(request.smallest).shift;
        let (count, needed) = (pages.len() as u64, request.len >> shift);
        if count > needed {
            return Err(MapError::LengthMismatch { at: range.last() });
        }
        if count < needed {
            let walk = request.walk.wrapping_add(count << shift);
            return Err(MapError::LengthMismatch {
                at: F::device_address(walk),
            });
        }
        let page_bytes = page_bytes::<F>(request.smallest);
        self.check_default(request.walk, options, || {
            pages.iter().filter_map(|&page| Run::new(page, page_bytes))
        })?;
        let start = self.vacancy(&request);
        let unseen = start.as_ref().is_ok_and(|start| start.is_unseen(&request));
        if !unseen {
            Self::check_pages(&request, pages)?;
        }
        let count = request.count_smallest();
        let mapped = self.commit(&request, &start?, count, unseen, |builder| {
            builder.map_pages(&request, pages)
        });
        if unseen && mapped.is_err() {
            Self::check_pages(&request, pages)?;
        }
        mapped
    }

    /// Checks that leaves of the smallest size can map all of `pages`.
    fn check_pages(request: &Request<F::Attributes>, pages: &[BusAddr]) -> Result<(), MapError> {
        let mut check = PageCheck::new();
        for &page in pages {
            check.entry_address::<F>(request.smallest, page);
        }
        if check.passes::<F>(request.smallest) {
            return Ok(());
        }
        for &bus in pages {
            let run = Run::new(bus, page_bytes::<F>(request.smallest));
            Self::entry_run(run.ok_or(MapError::RunOutOfRange { bus })?, request)?;
        }
        Ok(())
    }

    /// Gives back tables that nobody has seen.
    #[cold]
    #[inline(never)]
    pub(super) fn discard(&self, start: &Start<M::Table>, mut held: Held<M::Table>) {
        let mut freed = Chain::EMPTY;
        while let Some(table) = self.memory.pop(&mut held.tables) {
            self.collect(table, start.hop + 1, &mut freed);
        }
        self.memory.release(freed);
    }

    /// Links tables that are complete.
    #[inline(never)]
    pub(super) fn link(
        &mut self,
        request: &Request<F::Attributes>,
        start: &Start<M::Table>,
        mut held: Held<M::Table>,
    ) -> Result<(), MapError> {
        let memory = self.memory;
        let live = memory.live(start.table) + held.tables.count;
        let mut index = geometry_of::<F>(start.hop).index(request.walk);
        // Once for all of them.
        memory.publish();
        while let Some(table) = memory.pop(&mut held.tables) {
            link::<F, M>(memory, (start.table, start.hop, index), table, false);
            index += 1;
        }
        memory.set_live(start.table, live);
        self.arrive(request, held.last)
    }
}
