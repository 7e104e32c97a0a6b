//! Pages: a static pool for the kernel, a static window for the user.

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use hl_mem::host::{DeviceAccess, DmaAddr, DmaRun, HostError, HostMemory, UserPages, ViewRights};
use hl_mem::ring::{BlockIndices, BlockRead};
use hl_mem::timestamps::NoTimestamps;
use mmu_core::BusAddr;

use crate::memory::{KERNEL_MEMORY, KERNEL_PAGES, PAGE_BYTES, PAGE_WORDS, USER_MEMORY, USER_PAGES};

/// The most pages in a block, or pinned at once.
const LIST: usize = 8;
/// Which page is looked at next: a step that shares no factor with their number, so that blocks are
/// scattered as they are on a host that has been up for a while.
const STEP: usize = 7;
/// The user's name for his first page.
pub const USER_BASE: u64 = 0x7000_0000;

static TAKEN: [AtomicBool; KERNEL_PAGES] = [const { AtomicBool::new(false) }; KERNEL_PAGES];
static PINS: [AtomicU32; USER_PAGES] = [const { AtomicU32::new(0) }; USER_PAGES];

/// Numbers of pages, in order.
#[derive(Debug)]
pub struct PageList(heapless::Vec<u8, LIST>);

/// A block as its user has it: its pages, of which the first so many are his to write.
#[derive(Debug)]
pub struct BlockPages {
    pages: heapless::Vec<u8, LIST>,
    writable_bytes: u64,
}

/// Host memory, all of it static.
#[derive(Clone, Copy, Debug)]
pub struct StaticHost;

impl StaticHost {
    /// Kernel pages in use.
    pub fn kernel_pages(self) -> usize {
        TAKEN
            .iter()
            .filter(|taken| taken.load(Ordering::Relaxed))
            .count()
    }

    /// Pins that are out.
    pub fn pins(self) -> u32 {
        PINS.iter().map(|pins| pins.load(Ordering::Relaxed)).sum()
    }

    fn runs(
        address: impl Fn(usize) -> BusAddr + Clone,
        pages: &[u8],
    ) -> impl Iterator<Item = DmaRun> + Clone {
        pages.iter().filter_map(move |&page| {
            let start = DmaAddr::new(address(usize::from(page)).get());
            DmaRun::new(start, PAGE_BYTES as u64)
        })
    }
}

// SAFETY:
// 1. `allocate` takes pages that are not taken, under a flag for each that only `free` clears, and
//    zeroes them before it returns; `kernel_runs` names them in the order of the list;
// 2. user pages are static and belong to the user for ever; `pinned_runs` names those of the list,
//    which `pin` made in the order of the user's addresses;
// 3. a list never changes after it was made;
// 4. a view has a copy of the block's list, and `ViewMemory` writes below `writable_bytes` only.
unsafe impl HostMemory for StaticHost {
    type Process = ();
    type KernelPages = PageList;
    type PinnedPages = PageList;
    type View = BlockPages;
    type Words = NoTimestamps;

    const PAGE_BYTES: u64 = PAGE_BYTES as u64;

    fn allocate(&self, pages: u64) -> Result<PageList, HostError> {
        let mut list = PageList(heapless::Vec::new());
        for number in (0..KERNEL_PAGES).map(|turn| turn * STEP % KERNEL_PAGES) {
            if list.0.len() as u64 == pages {
                break;
            }
            if TAKEN[number].swap(true, Ordering::Acquire) {
                continue;
            }
            if list.0.push(number as u8).is_err() {
                TAKEN[number].store(false, Ordering::Release);
                break;
            }
        }
        if list.0.len() as u64 != pages {
            self.free(list);
            return Err(HostError::NoMemory);
        }
        for word in list
            .0
            .iter()
            .filter_map(|&page| KERNEL_MEMORY.page(page.into()))
            .flatten()
        {
            word.store(0, Ordering::Relaxed);
        }
        Ok(list)
    }

    fn free(&self, pages: PageList) {
        for page in pages.0 {
            TAKEN[usize::from(page)].store(false, Ordering::Release);
        }
    }

    fn kernel_runs<'a>(&'a self, pages: &'a PageList) -> impl Iterator<Item = DmaRun> + Clone + 'a {
        Self::runs(|page| KERNEL_MEMORY.address(page), &pages.0)
    }

    fn pin(
        &self,
        _process: &(),
        pages: UserPages,
        _access: DeviceAccess,
    ) -> Result<PageList, HostError> {
        let start = pages.range().start();
        let mut list = PageList(heapless::Vec::new());
        for turn in 0..pages.count() {
            let offset = turn * PAGE_BYTES as u64;
            let at = start.checked_add(offset).unwrap_or(start);
            let number = at
                .get()
                .checked_sub(USER_BASE)
                .map(|into| into / PAGE_BYTES as u64);
            let number = number.filter(|&number| number < USER_PAGES as u64);
            let Some(number) = number else {
                return Err(HostError::Fault { at });
            };
            // The user's pages lie in memory in the opposite order.
            list.0
                .push(USER_PAGES as u8 - 1 - number as u8)
                .map_err(|_| HostError::NoMemory)?;
        }
        for &page in &list.0 {
            PINS[usize::from(page)].fetch_add(1, Ordering::Relaxed);
        }
        Ok(list)
    }

    fn pinned_runs<'a>(&'a self, pages: &'a PageList) -> impl Iterator<Item = DmaRun> + Clone + 'a {
        Self::runs(|page| USER_MEMORY.address(page), &pages.0)
    }

    fn unpin(&self, pages: PageList, _access: DeviceAccess) {
        for page in pages.0 {
            PINS[usize::from(page)].fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn view(
        &self,
        _process: &(),
        pages: &PageList,
        rights: ViewRights,
    ) -> Result<BlockPages, HostError> {
        Ok(BlockPages {
            pages: pages.0.clone(),
            writable_bytes: rights.writable_pages.saturating_mul(PAGE_BYTES as u64),
        })
    }

    fn remove_view(&self, view: BlockPages) {
        drop(view);
    }
}

/// A user's way to a block: the pages of the view, side by side.
#[derive(Clone, Copy, Debug)]
pub struct ViewMemory<'v>(pub &'v BlockPages);

/// An access that the view does not allow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, defmt::Format)]
pub struct NotInView {
    /// Its offset in the block.
    pub offset: u64,
}

impl ViewMemory<'_> {
    fn word(self, offset: u64) -> Result<&'static AtomicU32, NotInView> {
        let find = || {
            let offset = usize::try_from(offset).ok()?;
            let page = *self.0.pages.get(offset / PAGE_BYTES)?;
            KERNEL_MEMORY
                .page(page.into())?
                .get(offset / 4 % PAGE_WORDS)
        };
        find().ok_or(NotInView { offset })
    }
}

impl BlockIndices for ViewMemory<'_> {
    type Error = NotInView;

    fn load_index(&mut self, offset: u64) -> Result<u32, NotInView> {
        Ok(u32::from_le(self.word(offset)?.load(Ordering::Acquire)))
    }

    fn store_index(&mut self, offset: u64, index: u32) -> Result<(), NotInView> {
        if offset >= self.0.writable_bytes {
            return Err(NotInView { offset });
        }
        self.word(offset)?.store(index.to_le(), Ordering::Release);
        Ok(())
    }
}

impl BlockRead for ViewMemory<'_> {
    fn read(&mut self, offset: u64, bytes: &mut [u8]) -> Result<(), NotInView> {
        for (chunk, at) in bytes
            .as_chunks_mut()
            .0
            .iter_mut()
            .zip((offset..).step_by(4))
        {
            *chunk = self.word(at)?.load(Ordering::Relaxed).to_ne_bytes();
        }
        Ok(())
    }
}
