//! What a contestant must be able to do to be measured.

use mmu_core::BusAddr;

use crate::arena::Content;

/// A page-table implementation.
pub(crate) trait Subject {
    /// As the report names it.
    const NAME: &'static str;

    /// Whether it maps lists of runs of any length by a call of its own, [`Table::map_runs`].
    const MAPS_RUNS: bool = false;

    /// What differs from the work the row describes, where anything does.
    fn note(call: Call) -> &'static str;

    /// A page table that maps nothing, in an arena of which nothing is used.
    type Table<'a>: Table;

    /// Makes an empty page table in an arena with this content and lets `work` have it.
    fn with_table<T>(content: Content, work: impl FnOnce(Self::Table<'_>) -> T) -> T;
}

/// The kinds of calls that subjects differ in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Call {
    MapPage,
    MapRun,
    MapList,
    UnmapPage,
    UnmapRun,
    Query,
}

/// Two leaf sizes that everyone has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Leaf {
    /// 4 KiB.
    Small,
    /// 2 MiB.
    Large,
}

impl Leaf {
    pub(crate) const fn bytes(self) -> u64 {
        match self {
            Self::Small => 1 << 12,
            Self::Large => 1 << 21,
        }
    }
}

/// A page table of a subject. Device addresses are below 2^47, bus addresses below 2^48, all
/// aligned as the leaf requires. A failure panics: nothing that is asked for here may fail.
///
/// `LARGE` chooses between the leaf sizes at compile time, as a caller who knows the size would.
pub(crate) trait Table {
    /// Maps one leaf.
    fn map_one<const LARGE: bool>(&mut self, device: u64, bus: u64);

    /// Maps `len` bytes, contiguous on both sides, with leaves of one size.
    fn map_run<const LARGE: bool>(&mut self, device: u64, bus: u64, len: u64) {
        let step = leaf::<LARGE>().bytes();
        for offset in (0..len).step_by(step as usize) {
            self.map_one::<LARGE>(device + offset, bus + offset);
        }
    }

    /// Maps 4 KiB pages at contiguous device addresses to the bus addresses of a list.
    fn map_list(&mut self, device: u64, pages: &[BusAddr]) {
        for (index, &page) in pages.iter().enumerate() {
            self.map_one::<false>(device + ((index as u64) << 12), page.get());
        }
    }

    /// As [`map_list`](Self::map_list), with each page as a run that might be of any length.
    fn map_runs(&mut self, device: u64, pages: &[BusAddr]) {
        self.map_list(device, pages);
    }

    /// Unmaps one leaf.
    fn unmap_one<const LARGE: bool>(&mut self, device: u64);

    /// Unmaps `len` bytes that are mapped with leaves of one size.
    fn unmap_run<const LARGE: bool>(&mut self, device: u64, len: u64) {
        for offset in (0..len).step_by(leaf::<LARGE>().bytes() as usize) {
            self.unmap_one::<LARGE>(device + offset);
        }
    }

    /// The bus address that `device` leads to.
    fn query(&self, device: u64) -> Option<u64>;

    /// The tables in use, with the root.
    fn tables(&self) -> u32;

    /// Gives all tables back; nothing is mapped any more.
    fn close(self);
}

/// The leaf size that a constant stands for.
pub(crate) const fn leaf<const LARGE: bool>() -> Leaf {
    if LARGE { Leaf::Large } else { Leaf::Small }
}
