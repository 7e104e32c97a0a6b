//! A device: an MMU with a walker and two caches, and accesses that are translated by it.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use hl_mem::asid::Asid;
use hl_mem::mmu::{Fault, MmuControl, MmuError};
use loom::sync::Mutex;
use loom::sync::atomic::{AtomicBool, Ordering};
use mmu_core::{BusAddr, DeviceAddr, Extent, Invalidate, Stale};

use super::Weak;
use super::pages::{HOST_OFFSET, Owner, Pages};
use super::tables::Tables;

/// Gaudi's format as the hardware has it (facts 2.2, 2.3): the shift of each hop, all of 9 bits
/// but the first.
const SHIFTS: [u32; 5] = [48, 39, 30, 21, 12];
const PRESENT: u64 = 1;
const LAST: u64 = 1 << 11;
const ADDRESS: u64 = !0xFFF;
/// Bytes that a table of the deepest hop maps.
const DEEPEST_TABLE: u64 = 1 << 21;
const PAGE: u64 = 1 << 12;

/// ASIDs that the device has.
const ASIDS: usize = 3;

/// What the MMU remembers, by root table.
#[derive(Debug, Default)]
struct Caches {
    /// A page of device addresses, and the page it leads to.
    pages: Vec<(u64, u64, u64)>,
    /// What a table of the deepest hop maps, and where that table is.
    tables: Vec<(u64, u64, u64)>,
}

/// Where an entry leads.
#[derive(Clone, Copy, Debug)]
enum Step {
    Table(u64),
    /// The page, of all that a leaf maps, that is looked for.
    Leaf(u64),
}

/// The hardware.
#[derive(Debug)]
pub(crate) struct Hardware {
    tables: &'static Tables,
    pages: &'static Pages,
    /// Changed only while no access is made.
    roots: [AtomicU64; ASIDS],
    caches: Mutex<Caches>,
    /// Held by an access from its translation until it has arrived: what an invalidation waits
    /// for.
    under_way: Mutex<()>,
    /// Whether the engine is told to stop.
    stopped: AtomicBool,
    /// So many invalidations fail before one succeeds. The driver alone uses it, under its lock.
    failures: AtomicU32,
    weak: Option<Weak>,
}

/// Nothing is mapped where an access went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Faulted;

impl Hardware {
    pub(crate) fn new(tables: &'static Tables, pages: &'static Pages, weak: Option<Weak>) -> Self {
        Self {
            tables,
            pages,
            roots: std::array::from_fn(|_| AtomicU64::new(0)),
            caches: Mutex::new(Caches::default()),
            under_way: Mutex::new(()),
            stopped: AtomicBool::new(false),
            failures: AtomicU32::new(0),
            weak,
        }
    }

    pub(crate) fn set_root(&self, asid: u16, root: BusAddr) {
        self.roots[usize::from(asid)].store(root.get(), Relaxed);
    }

    /// One access of an address space. Returns whose page it went to.
    pub(crate) fn access(&self, asid: u16, at: DeviceAddr) -> Result<Owner, Faulted> {
        let under_way = self.under_way.lock();
        let owner = self.translated(asid, at.get());
        drop(under_way);
        owner
    }

    /// One access of an engine that [`stop`](Self::stop) stops; `None` once it is stopped.
    pub(crate) fn engine_access(
        &self,
        asid: u16,
        at: DeviceAddr,
    ) -> Option<Result<Owner, Faulted>> {
        let under_way = self.under_way.lock();
        let owner =
            (!self.stopped.load(Ordering::Relaxed)).then(|| self.translated(asid, at.get()));
        drop(under_way);
        owner
    }

    /// Stops the engine, and waits until its last access has arrived.
    pub(crate) fn stop(&self) {
        if self.weak == Some(Weak::StopsTooEarly) {
            self.stopped.store(true, Ordering::Relaxed);
            return;
        }
        let under_way = self.under_way.lock();
        self.stopped.store(true, Ordering::Relaxed);
        drop(under_way);
    }

    /// Makes so many invalidations fail.
    pub(crate) fn fail_invalidations(&self, failures: u32) {
        self.failures.store(failures, Relaxed);
    }

    fn translated(&self, asid: u16, at: u64) -> Result<Owner, Faulted> {
        let root = self.roots[usize::from(asid)].load(Relaxed);
        let page = self.translate(root, at & !(PAGE - 1)).ok_or(Faulted)?;
        Ok(self.pages.touch(page))
    }

    fn translate(&self, root: u64, at: u64) -> Option<u64> {
        let span = at & !(DEEPEST_TABLE - 1);
        let known = |list: &[(u64, u64, u64)], at| {
            let mut list = list.iter();
            list.find(|known| (known.0, known.1) == (root, at))
                .map(|known| known.2)
        };
        let (page, table) = {
            let caches = self.caches.lock().expect("no thread panicked");
            (known(&caches.pages, at), known(&caches.tables, span))
        };
        if page.is_some() {
            return page;
        }
        let found = match table {
            Some(table) => Step::Table(table),
            None => self.deepest_table(root, at)?,
        };
        let (page, deepest) = match found {
            Step::Leaf(page) => (page, None),
            Step::Table(table) => match self.step(table, SHIFTS.len() - 1, at)? {
                Step::Leaf(page) => (page, Some(table)),
                Step::Table(_) => panic!("the deepest hop points to a table"),
            },
        };
        let page = page.wrapping_sub(HOST_OFFSET);
        let mut caches = self.caches.lock().expect("no thread panicked");
        caches.pages.push((root, at, page));
        if let (None, Some(deepest)) = (table, deepest) {
            caches.tables.push((root, span, deepest));
        }
        Some(page)
    }

    /// Walks to the table of the deepest hop, or to the large leaf that is in its place.
    fn deepest_table(&self, root: u64, at: u64) -> Option<Step> {
        let mut table = root;
        for hop in 0..SHIFTS.len() - 1 {
            match self.step(table, hop, at)? {
                Step::Table(next) => table = next,
                leaf @ Step::Leaf(_) => {
                    let large = hop == SHIFTS.len() - 2;
                    assert!(large, "a walk found a leaf, which nobody mapped");
                    return Some(leaf);
                }
            }
        }
        Some(Step::Table(table))
    }

    /// Reads one entry of a table; `None` where there is none.
    fn step(&self, table: u64, hop: usize, at: u64) -> Option<Step> {
        let mask = if hop == 0 { 0x3 } else { 0x1FF };
        let index = (at >> SHIFTS[hop]) & mask;
        let entry = self.tables.walk(table, index as usize);
        let address = entry & ADDRESS;
        match (entry & PRESENT != 0, entry & LAST != 0) {
            (false, _) => None,
            (true, false) => Some(Step::Table(address)),
            (true, true) => Some(Step::Leaf(address | (at & ((1 << SHIFTS[hop]) - 1)))),
        }
    }

    /// Makes the MMU forget what `forgotten` says, and waits for accesses that it translated by
    /// that.
    fn forget(&self, forgotten: &Stale) {
        let waits = self.weak != Some(Weak::DoesNotWait);
        let under_way = waits.then(|| self.under_way.lock());
        let mut caches = self.caches.lock().expect("no thread panicked");
        let root = forgotten.root.get();
        let covers = |known: u64, at: u64, len: u64| {
            known == root
                && match forgotten.extent {
                    Extent::Nothing => false,
                    Extent::Everything => true,
                    Extent::Range(range) => {
                        at <= range.last().get() && range.start().get() < at + len
                    }
                }
        };
        if self.weak != Some(Weak::ForgetsNothing) {
            caches
                .pages
                .retain(|&(known, at, _)| !covers(known, at, PAGE));
            if forgotten.tables && self.weak != Some(Weak::KeepsTables) {
                caches
                    .tables
                    .retain(|&(known, at, _)| !covers(known, at, DEEPEST_TABLE));
            }
        }
        drop(caches);
        drop(under_way);
    }
}

/// The driver of the MMU.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mmu(pub(crate) &'static Hardware);

// SAFETY: `forget` empties both caches of what is stale, and the lock that it takes is held by every
// access that is under way; later ones walk. That planted bugs break this is their purpose: there is
// no memory behind the pages of a model.
unsafe impl Invalidate for Mmu {
    type Error = MmuError;

    fn invalidate(&mut self, stale: &Stale) -> Result<(), MmuError> {
        let failures = self.0.failures.load(Relaxed);
        if failures > 0 {
            self.0.failures.store(failures - 1, Relaxed);
            return Err(MmuError::TimedOut { register: 0 });
        }
        self.0.forget(stale);
        Ok(())
    }
}

// SAFETY: nothing is cached when a model begins; roots change only while no access is made, and
// there is no reset.
unsafe impl MmuControl for Mmu {
    fn enable(&mut self) -> Result<(), MmuError> {
        Ok(())
    }

    fn disable(&mut self) -> Result<(), MmuError> {
        Ok(())
    }

    fn set_root(&mut self, asid: Asid, root: BusAddr) -> Result<(), MmuError> {
        self.0.set_root(asid.get(), root);
        Ok(())
    }

    fn park(&mut self, asid: Asid) -> Result<(), MmuError> {
        Err(MmuError::AsidOutOfRange { asid })
    }

    fn announce(&mut self) -> Result<(), MmuError> {
        if self.0.weak != Some(Weak::AnnouncesNothing) {
            let mut caches = self.0.caches.lock().expect("no thread panicked");
            caches.tables.clear();
        }
        Ok(())
    }

    fn invalidate_all(&mut self) -> Result<(), MmuError> {
        Err(MmuError::Stuck)
    }

    fn next_fault(&mut self, _from: &mut u32) -> Result<Option<Fault>, MmuError> {
        Ok(None)
    }
}
