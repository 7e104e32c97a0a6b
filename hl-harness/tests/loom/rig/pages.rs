//! Pages of the host: who has them, and that nobody else touches them.

use loom::sync::Mutex;
use loom::sync::atomic::{AtomicU32, Ordering, fence};
use mmu_core::{BusAddr, Run};

use super::{Probe, Weak};

/// Where the host's bus has the first page.
const START: u64 = 0x8000_0000;
pub(crate) const PAGE_BYTES: u64 = 4096;
/// What the device adds to addresses of the host's bus (facts DM-2).
pub(crate) const HOST_OFFSET: u64 = 0x80_0000_0000;

/// Whose a page is. Zero is nobody.
pub(crate) type Owner = u32;
const NOBODY: Owner = 0;

#[derive(Debug)]
struct Page {
    owner: AtomicU32,
    content: Probe,
}

/// The pages of the host. They go to owners in the order of their numbers.
#[derive(Debug)]
pub(crate) struct Pages {
    pages: Vec<Page>,
    free: Mutex<Vec<usize>>,
    weak: Option<Weak>,
}

/// A page that is somebody's.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct OwnedPage(usize);

impl OwnedPage {
    /// Where it is on the bus of the host.
    pub(crate) fn address(&self) -> u64 {
        START + self.0 as u64 * PAGE_BYTES
    }

    /// Planted: the same page once more.
    pub(crate) fn alias(&self) -> Self {
        Self(self.0)
    }

    /// Where the device finds it.
    pub(crate) fn run(&self) -> Run {
        Run::new(BusAddr::new(self.address() + HOST_OFFSET), PAGE_BYTES)
            .expect("the run is in range")
    }
}

impl Pages {
    pub(crate) fn new(count: usize, weak: Option<Weak>) -> Self {
        let page = |_| Page {
            owner: AtomicU32::new(NOBODY),
            content: Probe::new(),
        };
        Self {
            pages: (0..count).map(page).collect(),
            free: Mutex::new((0..count).rev().collect()),
            weak,
        }
    }

    /// Gives a page to `owner`, zeroed.
    pub(crate) fn allocate(&self, owner: Owner) -> Option<OwnedPage> {
        let page = self.free.lock().expect("no thread panicked").pop()?;
        self.pages[page].content.write();
        self.pages[page].owner.store(owner, Ordering::Relaxed);
        // Nobody sees the page before its zeros, the device included.
        if self.weak != Some(Weak::ZeroesLate) {
            fence(Ordering::Release);
        }
        Some(OwnedPage(page))
    }

    /// Its owner fills a page.
    pub(crate) fn fill(&self, page: &OwnedPage) {
        self.pages[page.0].content.write();
    }

    /// Planted: gives the first page to somebody, whoever has it.
    pub(crate) fn give_away(&self, owner: Owner) {
        self.pages[0].owner.store(owner, Ordering::Relaxed);
    }

    /// Takes a page back. Whoever gets it next may be the first.
    pub(crate) fn free(&self, page: OwnedPage) {
        self.pages[page.0].owner.store(NOBODY, Ordering::Relaxed);
        self.pages[page.0].content.write();
        let mut free = self.free.lock().expect("no thread panicked");
        free.push(page.0);
        free.sort_unstable_by(|a, b| b.cmp(a));
    }

    /// How many pages are nobody's.
    pub(crate) fn free_count(&self) -> usize {
        self.free.lock().expect("no thread panicked").len()
    }

    /// Accesses the page at a bus address. Returns whose it is.
    pub(crate) fn touch(&self, address: u64) -> Owner {
        let number = address.wrapping_sub(START) / PAGE_BYTES;
        let page = usize::try_from(number).ok().and_then(|n| self.pages.get(n));
        let Some(page) = page else {
            panic!("an access went to {address:#x}, which nobody mapped");
        };
        // Whose it is now, and not whose it may have been: an exchange reads the last value.
        let owner = page.owner.fetch_or(0, Ordering::Relaxed);
        assert_ne!(owner, NOBODY, "an access went to a free page");
        page.content.read();
        owner
    }
}
