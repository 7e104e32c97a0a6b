//! The region as the embedder describes it, and as numbered pages.

use core::num::NonZeroU64;

use mmu_core::{AddrRange, DeviceAddr};

use super::error::{AllocateError, LayoutError};

/// Describes the region a [`VaAllocator`](super::VaAllocator) hands out: where it lies, its page,
/// and the windows in it that are not to be handed out like the rest.
///
/// A page size that is a power of two puts the pages at multiples of it. Any other (768 or 640 MiB
/// for the device memory of Gaudi2, facts section 2.5) puts them at multiples counted from the
/// start of the region. Nothing here is rounded: the region and every window must consist of whole
/// pages. [`whole_pages`](Self::whole_pages) rounds where an address plan does not.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct VaLayout<'w> {
    pub(super) region: AddrRange<DeviceAddr>,
    pub(super) page: u64,
    pub(super) large_page: u64,
    pub(super) fixed: &'w [AddrRange<DeviceAddr>],
    pub(super) reserved: &'w [AddrRange<DeviceAddr>],
}

impl<'w> VaLayout<'w> {
    /// A region of pages of `page` bytes, without windows.
    #[must_use]
    pub const fn new(region: AddrRange<DeviceAddr>, page: u64) -> Self {
        Self {
            region,
            page,
            large_page: page,
            fixed: &[],
            reserved: &[],
        }
    }

    /// Names the other alignment, in bytes, that is asked for often: that of large leaves in a
    /// region of small pages, such as 2 MiB among pages of 4 KiB. It is then served in a bounded
    /// number of steps, as page alignment always is. Other alignments work without being named, but may
    /// find [no space where there is some](super#work).
    #[must_use]
    pub const fn large_page(mut self, bytes: u64) -> Self {
        self.large_page = bytes;
        self
    }

    /// Names the windows that are never handed out, because something is mapped there without
    /// asking this allocator.
    #[must_use]
    pub const fn fixed(mut self, windows: &'w [AddrRange<DeviceAddr>]) -> Self {
        self.fixed = windows;
        self
    }

    /// Names the windows that are used only by a hint or an exact address inside them (facts
    /// VA-4). Each is a region of its own: no block crosses its edge, not even into a reserved
    /// window that adjoins.
    #[must_use]
    pub const fn reserved(mut self, windows: &'w [AddrRange<DeviceAddr>]) -> Self {
        self.reserved = windows;
        self
    }

    /// The smallest range of whole pages of this region that contains `window`; `None` where
    /// `window` is not inside the region or the region is not valid.
    ///
    /// For address plans that name windows in bytes: the reserved window of the device memory of
    /// Gaudi2 (facts VA-4) is not made of pages of 768 MiB.
    #[must_use]
    pub fn whole_pages(&self, window: AddrRange<DeviceAddr>) -> Option<AddrRange<DeviceAddr>> {
        let grid = Grid::new(self).ok()?;
        if !self.region.contains_range(window) {
            return None;
        }
        let first = window.start().offset_from(self.region.start())? / grid.page;
        let last = window.last().offset_from(self.region.start())? / grid.page;
        // The region is made of whole pages, so those of what it contains are inside as well.
        Some(grid.range(first, (last - first).saturating_add(1)))
    }
}

/// The pages of a region, numbered from zero, and alignments in pages.
///
/// Counting from the start of the region makes the number of the first page after a range always
/// representable, even for a range that ends at the top of the address space, and treats all page
/// sizes alike.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid {
    region: AddrRange<DeviceAddr>,
    /// Bytes in a page.
    page: NonZeroU64,
    /// Pages in the region.
    pub(super) pages: u64,
    /// Pages between the point alignments count from and the start of the region.
    before: u64,
    /// Pages in a large page.
    pub(super) large: NonZeroU64,
}

impl Grid {
    pub(super) fn new(layout: &VaLayout<'_>) -> Result<Self, LayoutError> {
        let VaLayout { region, page, .. } = *layout;
        let page = NonZeroU64::new(page).ok_or(LayoutError::ZeroPage)?;
        if region.len() < page.get() {
            return Err(LayoutError::RegionBelowOnePage);
        }
        let start = region.start();
        let before = if page.is_power_of_two() {
            start.get()
        } else {
            0
        };
        if before % page != 0 || region.len() % page != 0 {
            return Err(LayoutError::UnalignedRegion { at: start });
        }
        let bytes = layout.large_page;
        let large = NonZeroU64::new(bytes / page)
            .filter(|_| bytes % page == 0)
            .ok_or(LayoutError::LargePage { bytes })?;
        Ok(Self {
            region,
            page,
            pages: region.len() / page,
            before: before / page,
            large,
        })
    }

    /// The pages of a window of the layout: the first and how many.
    pub(super) fn window(&self, window: AddrRange<DeviceAddr>) -> Result<(u64, u64), LayoutError> {
        let at = window.start();
        let outside = LayoutError::WindowOutsideRegion { at };
        if !self.region.contains_range(window) {
            return Err(outside);
        }
        let offset = at.offset_from(self.region.start()).ok_or(outside)?;
        if offset % self.page != 0 || window.len() % self.page != 0 {
            return Err(LayoutError::UnalignedWindow { at });
        }
        Ok((offset / self.page, window.len() / self.page))
    }

    /// How many pages `bytes` take; `None` for zero bytes.
    pub(super) fn pages_for(&self, bytes: u64) -> Option<u64> {
        let bytes = NonZeroU64::new(bytes)?;
        Some(bytes.div_ceil(self.page).get())
    }

    /// The pages of a range that is made of whole pages.
    pub(super) fn pages_of(&self, range: AddrRange<DeviceAddr>) -> u64 {
        range.len() / self.page
    }

    /// No more pages than the region has, in bytes, which therefore are not 2^64.
    pub(super) fn bytes(&self, pages: u64) -> u64 {
        pages.wrapping_mul(self.page.get())
    }

    /// An alignment of `bytes` in pages; one page where every page has it.
    pub(super) fn alignment(&self, bytes: u64) -> Result<NonZeroU64, AllocateError> {
        let refused = AllocateError::Alignment { align: bytes };
        let align = NonZeroU64::new(bytes).ok_or(refused)?;
        if self.page.get() % align == 0 {
            return Ok(NonZeroU64::MIN);
        }
        NonZeroU64::new(bytes / self.page)
            .filter(|_| bytes % self.page == 0)
            .ok_or(refused)
    }

    /// The number of the page at `at`, where `pages` pages from there lie inside the region.
    pub(super) fn page_at(&self, at: DeviceAddr, pages: u64) -> Result<u64, AllocateError> {
        let outside = AllocateError::OutsideRegion { at };
        let offset = at.offset_from(self.region.start()).ok_or(outside)?;
        let first = offset / self.page;
        match self.pages.checked_sub(first) {
            None | Some(0) => Err(outside),
            Some(_) if offset % self.page != 0 => Err(AllocateError::Unaligned { at }),
            Some(left) if left < pages => Err(outside),
            Some(_) => Ok(first),
        }
    }

    /// Whether page `first` is aligned to `align` pages.
    pub(super) fn is_aligned(&self, first: u64, align: NonZeroU64) -> bool {
        self.misalignment(first, align) == 0
    }

    /// The first page not below `first` that is aligned to `align` pages; `None` where it is beyond
    /// all numbers.
    pub(super) fn align_up(&self, first: u64, align: NonZeroU64) -> Option<u64> {
        match self.misalignment(first, align) {
            0 => Some(first),
            over => first.checked_add(align.get() - over),
        }
    }

    /// How many pages `first` lies above an aligned one, less than `align`.
    fn misalignment(&self, first: u64, align: NonZeroU64) -> u64 {
        let (first, before) = (first % align, self.before % align);
        // The sum of the two modulo `align`, without forming the sum, which may be 2^64 or more.
        let gap = align.get() - before;
        if first >= gap {
            first - gap
        } else {
            first + before
        }
    }

    /// How many of `pages` pages from `first` on are left from the first large-page boundary on.
    pub(super) fn room(&self, first: u64, pages: u64) -> u64 {
        match self.align_up(first, self.large) {
            Some(aligned) => pages.saturating_sub(aligned - first),
            None => 0,
        }
    }

    /// The addresses of `pages` pages from `first` on, which are inside the region, none empty.
    pub(super) fn range(&self, first: u64, pages: u64) -> AddrRange<DeviceAddr> {
        let skip = self.bytes(first);
        let len = self.bytes(pages);
        // Inside the region neither product nor sum wraps; the region itself is the total
        // function's way out.
        let start = self.region.start().checked_add(skip);
        start
            .and_then(|start| AddrRange::new(start, len))
            .unwrap_or(self.region)
    }

    /// The address of a page inside the region.
    pub(super) fn address(&self, page: u64) -> DeviceAddr {
        self.range(page, 1).start()
    }

    pub(super) fn region(&self) -> AddrRange<DeviceAddr> {
        self.region
    }
}
