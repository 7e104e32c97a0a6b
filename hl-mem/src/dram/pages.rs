//! The pages of a pool, each in one record.

use core::fmt;
use core::iter::FusedIterator;
use core::num::NonZeroU64;

use mmu_core::{AddrRange, BusAddr, Run};

use super::RegionError;
use crate::owner::Owner;

/// Device memory in pages of one size.
///
/// A page is aligned to its size *counted from the base*, whether or not the size is a power of
/// two. On Gaudi2 it is 768 or 640 MiB (facts 2.5), and the base no multiple of that.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct DramRegion {
    base: BusAddr,
    /// Not zero by its type, so that no division by it has a panic in it.
    page_bytes: NonZeroU64,
    pages: u32,
}

impl DramRegion {
    /// No pages.
    pub(super) const EMPTY: Self = Self {
        base: BusAddr::new(0),
        page_bytes: NonZeroU64::MIN,
        pages: 0,
    };

    /// The region of `pages` pages from `base`.
    ///
    /// # Errors
    ///
    /// * [`RegionError::Misaligned`]: `page_bytes` is zero, or it or `base` is no multiple of 4096.
    /// * [`RegionError::PageCount`]: `pages` is zero or 2^32 - 1.
    /// * [`RegionError::BeyondTop`]: the last byte would lie beyond 2^64 - 1.
    pub const fn new(base: BusAddr, page_bytes: u64, pages: u32) -> Result<Self, RegionError> {
        if !page_bytes.is_multiple_of(EXPORT_BYTES) || !base.is_multiple_of(EXPORT_BYTES) {
            return Err(RegionError::Misaligned);
        }
        let Some(page_bytes) = NonZeroU64::new(page_bytes) else {
            return Err(RegionError::Misaligned);
        };
        if pages == 0 || pages == NONE {
            return Err(RegionError::PageCount);
        }
        match page_bytes.get().checked_mul(pages as u64) {
            Some(bytes) if base.checked_add(bytes - 1).is_some() => Ok(Self {
                base,
                page_bytes,
                pages,
            }),
            _ => Err(RegionError::BeyondTop),
        }
    }

    /// The address of the first page.
    #[must_use]
    pub const fn base(self) -> BusAddr {
        self.base
    }

    /// The bytes of a page.
    #[must_use]
    pub const fn page_bytes(self) -> u64 {
        self.page_bytes.get()
    }

    /// The number of pages.
    #[must_use]
    pub const fn pages(self) -> u32 {
        self.pages
    }

    /// The addresses of `count` pages from page `first`; `None` unless they are inside.
    pub(super) fn run(self, first: u32, count: u32) -> Option<Run> {
        if first.checked_add(count)? > self.pages {
            return None;
        }
        let start = self
            .base
            .checked_add(u64::from(first).checked_mul(self.page_bytes())?)?;
        AddrRange::new(start, u64::from(count).checked_mul(self.page_bytes())?)
    }

    /// The first page and the number of pages of a run; `None` unless it is made of whole pages of
    /// the region.
    pub(super) fn pages_of(self, run: Run) -> Option<(u32, u32)> {
        let offset = run.start().offset_from(self.base)?;
        if !offset.is_multiple_of(self.page_bytes()) || !run.len().is_multiple_of(self.page_bytes())
        {
            return None;
        }
        let first = u32::try_from(offset / self.page_bytes).ok()?;
        let count = u32::try_from(run.len() / self.page_bytes).ok()?;
        (first.checked_add(count)? <= self.pages).then_some((first, count))
    }
}

/// The unit of exports, and what every page is a multiple of (facts EX-1).
pub(super) const EXPORT_BYTES: u64 = 4096;

/// Ends a chain of runs.
const NONE: u32 = u32::MAX;

/// What a pool remembers of one page: 12 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct PageRecord(pub(super) State);

static_assertions::const_assert_eq!(size_of::<PageRecord>(), 12);

impl PageRecord {
    /// The record of a page that no pool has yet.
    pub const EMPTY: Self = Self(State::Dirty);
}

/// What is the case with a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub(super) enum State {
    /// Free, and nobody's content is in it.
    Clean,
    /// Free, with content of an owner that is gone or not known.
    Dirty,
    /// Free, with content that this owner has had access to anyway.
    DirtyOf(Owner),
    /// Out to be scrubbed.
    Scrubbing,
    /// The first page of a run of a pack.
    Run {
        /// The first page of the pack's next run, or [`NONE`].
        next: u32,
        /// The pages of the run.
        pages: u32,
    },
    /// A further page of a run of a pack.
    Inner,
}

impl State {
    const fn is_free(self) -> bool {
        matches!(self, Self::Clean | Self::Dirty | Self::DirtyOf(_))
    }
}

/// Kinds of pages, as an owner sees them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Kinds {
    bits: u8,
    /// Whose content is [`OWN`](Self::OWN).
    owner: Option<Owner>,
}

impl Kinds {
    const CLEAN: u8 = 1;
    const NOBODYS: u8 = 2;
    const OWN: u8 = 4;
    const OTHERS: u8 = 8;
    const SCRUBBING: u8 = 16;
    const ALLOCATED: u8 = 32;

    /// Free, with content of an owner that is gone or not known.
    pub(super) const DIRTY_OF_NOBODY: Self = Self::of(Self::NOBODYS);
    /// Free, to be scrubbed before another owner gets them.
    pub(super) const DIRTY: Self = Self::of(Self::NOBODYS | Self::OWN | Self::OTHERS);
    /// In no pack.
    pub(super) const NOT_ALLOCATED: Self = Self::of(!Self::ALLOCATED);

    const fn of(bits: u8) -> Self {
        Self { bits, owner: None }
    }

    /// Free, with nobody's content, or with that of `owner`, if one is named.
    pub(super) const fn ready_for(owner: Option<Owner>) -> Self {
        let bits = Self::CLEAN | Self::OWN;
        Self { bits, owner }
    }

    /// Of what is ready for an owner, what has content.
    pub(super) const fn own(self) -> Self {
        let bits = Self::OWN;
        Self { bits, ..self }
    }

    /// What is ready for an owner, or is once it is scrubbed.
    pub(super) const fn usable(self) -> Self {
        let bits = self.bits | Self::DIRTY.bits;
        Self { bits, ..self }
    }

    /// What is not ready for an owner until it is scrubbed.
    pub(super) const fn in_the_way(self) -> Self {
        let bits = Self::NOBODYS | Self::OTHERS;
        Self { bits, ..self }
    }

    pub(super) fn contain(self, state: State) -> bool {
        let bit = match state {
            State::Clean => Self::CLEAN,
            State::Dirty => Self::NOBODYS,
            State::DirtyOf(last) if Some(last) == self.owner => Self::OWN,
            State::DirtyOf(_) => Self::OTHERS,
            State::Scrubbing => Self::SCRUBBING,
            State::Run { .. } | State::Inner => Self::ALLOCATED,
        };
        self.bits & bit != 0
    }
}

/// The runs of a pack, from its first.
///
/// `next` of each refers to a page behind it, so that a chain has an end whatever the records say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub(super) struct Chain(u32);

/// The page records, found by page number.
#[derive(Debug)]
pub(super) struct Pages<'s> {
    records: &'s mut [PageRecord],
    /// No page below this one is free.
    free: u32,
}

impl<'s> Pages<'s> {
    pub(super) fn new(records: &'s mut [PageRecord], state: State) -> Self {
        records.fill(PageRecord(state));
        Self { records, free: 0 }
    }

    pub(super) fn records(&self) -> &[PageRecord] {
        self.records
    }

    /// Checks what is remembered against the records.
    #[cfg(test)]
    pub(super) fn audit(&self) {
        let first = self.records.iter().position(|record| record.0.is_free());
        assert!(first.is_none_or(|first| first >= self.free as usize));
    }

    /// Makes what an owner left in free pages nobody's.
    pub(super) fn disown(&mut self, owner: Owner) {
        for record in self.records.iter_mut() {
            if record.0 == State::DirtyOf(owner) {
                record.0 = State::Dirty;
            }
        }
    }

    /// Makes all free pages dirty, and nobody's.
    pub(super) fn soil(&mut self) {
        for record in self.records.iter_mut() {
            if record.0.is_free() {
                record.0 = State::Dirty;
            }
        }
    }

    /// A page below which none is free.
    pub(super) fn first_free(&mut self) -> u32 {
        let skipped = self.records.iter().skip(self.free as usize);
        let taken = skipped.take_while(|record| !record.0.is_free());
        self.free += taken.count() as u32;
        self.free
    }

    pub(super) fn state(&self, page: u32) -> Option<State> {
        let record = self.records.get(usize::try_from(page).ok()?)?;
        Some(record.0)
    }

    fn set(&mut self, page: u32, state: State) {
        if let Some(record) = usize::try_from(page)
            .ok()
            .and_then(|at| self.records.get_mut(at))
        {
            record.0 = state;
        }
    }

    /// Sets the state of pages of which none is the first of a run any more.
    pub(super) fn fill(&mut self, first: u32, count: u32, state: State) {
        if state.is_free() {
            self.free = self.free.min(first);
        }
        for page in (first..).take(count as usize) {
            self.set(page, state);
        }
    }

    /// The maximal runs of pages of the kinds `wanted`, as first page and number of pages, by page.
    pub(super) fn runs(&self, wanted: Kinds) -> impl Iterator<Item = (u32, u32)> {
        let mut from = 0;
        core::iter::from_fn(move || {
            let run = self.next_run(from, wanted)?;
            from = run.0 + run.1;
            Some(run)
        })
    }

    /// The first maximal run among the pages from `from` on.
    fn next_run(&self, from: u32, wanted: Kinds) -> Option<(u32, u32)> {
        let records = self.records.get(from as usize..)?;
        let is_wanted = |record: &PageRecord| wanted.contain(record.0);
        let before = records.iter().position(is_wanted)?;
        let records = records.get(before..)?;
        let end = records.iter().position(|record| !is_wanted(record));
        let pages = end.unwrap_or(records.len());
        Some((from + before as u32, pages as u32))
    }

    /// How many pages there are of the kinds `wanted`.
    pub(super) fn count(&self, wanted: Kinds) -> u32 {
        let mut count = 0;
        for record in self.records.iter() {
            count += u32::from(wanted.contain(record.0));
        }
        count
    }

    /// The first page of the shortest run that has room for `count` pages, and of those the lowest.
    pub(super) fn best_fit(&self, count: u32, wanted: Kinds) -> Option<u32> {
        let mut best: Option<(u32, u32)> = None;
        for (first, pages) in self.runs(wanted) {
            if pages >= count && best.is_none_or(|(_, least)| pages < least) {
                best = Some((first, pages));
            }
        }
        best.map(|(first, _)| first)
    }

    /// Makes a pack of pages that `choose` says yes to; it is asked in ascending order.
    pub(super) fn claim(&mut self, from: u32, mut choose: impl FnMut(State) -> Choice) -> Chain {
        let mut chain = NONE;
        // The run at the end of the chain: its first page and its length so far.
        let mut open: Option<(u32, u32)> = None;
        for page in from.. {
            match self.state(page).map_or(Choice::Enough, &mut choose) {
                Choice::Enough => break,
                Choice::Skip => {}
                Choice::Take => match open {
                    Some((head, pages)) if head + pages == page => {
                        self.set(page, State::Inner);
                        open = Some((head, pages + 1));
                    }
                    _ => {
                        match open {
                            Some((head, pages)) => self.set(head, State::Run { next: page, pages }),
                            None => chain = page,
                        }
                        open = Some((page, 1));
                    }
                },
            }
        }
        if let Some((head, pages)) = open {
            self.set(head, State::Run { next: NONE, pages });
        }
        Chain(chain)
    }

    /// Ends a pack: all its pages become free with the given state.
    pub(super) fn release(&mut self, chain: Chain, state: State) {
        let mut head = chain.0;
        while let Some(State::Run { next, pages }) = self.state(head) {
            self.fill(head, pages, state);
            head = next;
        }
    }
}

/// Whether a page becomes part of a pack.
pub(super) enum Choice {
    Take,
    Skip,
    Enough,
}

/// The bus addresses of a pack or of a part of it, in runs that are as long as they can be.
///
/// Clone it to go through them again.
#[derive(Clone)]
pub struct Runs<'a> {
    records: &'a [PageRecord],
    cursor: RunCursor,
}

/// How far somebody has come in the runs of a pack, which it holds.
#[derive(Clone, Copy)]
pub(crate) struct RunCursor {
    region: DramRegion,
    /// The first page of the next run, or [`NONE`].
    head: u32,
    /// Bytes before the part.
    skip: u64,
    /// Bytes of the part that are still to come.
    left: u64,
}

impl<'a> Runs<'a> {
    pub(super) fn new(
        records: &'a [PageRecord],
        region: DramRegion,
        chain: Chain,
        skip: u64,
        left: u64,
    ) -> Self {
        let cursor = RunCursor {
            region,
            head: chain.0,
            skip,
            left,
        };
        Self { records, cursor }
    }

    /// The bytes that are still to come.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.cursor.left
    }

    pub(super) const fn cursor(&self) -> RunCursor {
        self.cursor
    }
}

impl Iterator for Runs<'_> {
    type Item = Run;

    fn next(&mut self) -> Option<Run> {
        self.cursor.next(self.records)
    }
}

impl RunCursor {
    /// The bytes that are still to come.
    pub(crate) const fn bytes(&self) -> u64 {
        self.left
    }

    pub(super) fn next(&mut self, records: &[PageRecord]) -> Option<Run> {
        while self.left > 0 {
            let record = records.get(usize::try_from(self.head).ok()?)?;
            let State::Run { next, pages } = record.0 else {
                return None;
            };
            let whole = self.region.run(self.head, pages)?;
            self.head = next;
            match whole.skip(self.skip) {
                Some(rest) => {
                    self.skip = 0;
                    let bytes = rest.len().min(self.left);
                    self.left -= bytes;
                    return AddrRange::new(rest.start(), bytes);
                }
                None => self.skip -= whole.len(),
            }
        }
        None
    }
}

impl FusedIterator for Runs<'_> {}

impl fmt::Debug for Runs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for Runs<'_> {
    fn format(&self, f: defmt::Formatter<'_>) {
        for run in self.clone() {
            defmt::write!(f, "{} ", run);
        }
    }
}
