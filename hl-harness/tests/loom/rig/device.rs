//! A device: an MMU with a walker and two caches, and accesses that are translated by it.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use hl_mem::asid::Asid;
use hl_mem::mmu::{Fault, MmuControl, MmuError, Walks};
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::sync::{Mutex, MutexGuard};
use mmu_core::{BusAddr, DeviceAddr, Extent, Format, Invalidate, Stale};

use super::Weak;
use super::bus::Bridge;
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

/// What the MMU remembers.
#[derive(Debug, Default)]
struct Caches {
    /// The root table of each ASID; zero where there is none, as after a reset.
    roots: [u64; ASIDS],
    /// The device does not answer the driver. What it is doing it goes on with.
    lost: bool,
    /// Pages of device addresses, and the pages they lead to.
    pages: Vec<Cached>,
    /// What tables of the deepest hop map, and where those tables are.
    tables: Vec<Cached>,
}

/// One translation, or one pointer to a table.
#[derive(Clone, Copy, Debug)]
struct Cached {
    /// What it is found by, as hardware has it: an ASID that gets another root keeps what it found
    /// below the former one.
    asid: u16,
    at: u64,
    /// The root table of the walk that found it, by which a driver names it.
    root: u64,
    to: u64,
}

impl Cached {
    fn find(list: &[Self], asid: u16, at: u64) -> Option<u64> {
        let known = list
            .iter()
            .find(|known| (known.asid, known.at) == (asid, at));
        known.map(|known| known.to)
    }
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
    /// The way to the tables, where there is a bus in front of them.
    bridge: Option<&'static Bridge>,
    caches: Mutex<Caches>,
    /// Held by an access from its translation until it has arrived: what an invalidation waits
    /// for.
    under_way: Mutex<()>,
    /// Whether the engine is told to stop.
    stopped: AtomicBool,
    /// So many invalidations fail before one succeeds. The driver alone uses it, under its lock.
    failures: AtomicU32,
    /// So many were asked for. The same.
    asked: AtomicU32,
    weak: Option<Weak>,
}

/// Nothing is mapped where an access went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Faulted;

impl Hardware {
    pub(crate) fn new(
        tables: &'static Tables,
        pages: &'static Pages,
        bridge: Option<&'static Bridge>,
        weak: Option<Weak>,
    ) -> Self {
        Self {
            tables,
            pages,
            bridge,
            caches: Mutex::new(Caches::default()),
            under_way: Mutex::new(()),
            stopped: AtomicBool::new(false),
            failures: AtomicU32::new(0),
            asked: AtomicU32::new(0),
            weak,
        }
    }

    /// Another MMU over the same tables and pages.
    pub(super) fn another(&self) -> Self {
        Self::new(self.tables, self.pages, self.bridge, self.weak)
    }

    pub(crate) fn set_root(&self, asid: u16, root: BusAddr) {
        self.caches().roots[usize::from(asid)] = root.get();
    }

    fn caches(&self) -> MutexGuard<'_, Caches> {
        self.caches.lock().expect("no thread panicked")
    }

    /// The device stops answering, and goes on with what it is doing.
    pub(crate) fn lose(&self) {
        if let Some(bridge) = self.bridge {
            bridge.set_lost(true);
        }
        self.caches().lost = true;
    }

    /// Resets the device, after which it answers again: accesses have ended, tables in its memory are
    /// lost, and no ASID has a root. What the MMU remembers is there until it is enabled.
    pub(crate) fn reset(&self) {
        let under_way = self.under_way.lock();
        if let Some(bridge) = self.bridge {
            self.tables.scramble();
            bridge.set_lost(false);
        }
        let mut caches = self.caches();
        caches.roots = [0; ASIDS];
        caches.lost = false;
        drop(caches);
        drop(under_way);
    }

    /// The device's memory loses what is in it.
    pub(crate) fn lose_tables(&self) {
        self.tables.scramble();
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
        let page = self.translate(asid, at & !(PAGE - 1)).ok_or(Faulted)?;
        Ok(self.pages.touch(page))
    }

    fn translate(&self, asid: u16, at: u64) -> Option<u64> {
        let span = at & !(DEEPEST_TABLE - 1);
        let (root, page, table) = {
            let caches = self.caches();
            let root = caches.roots[usize::from(asid)];
            if root == 0 {
                return None;
            }
            let page = Cached::find(&caches.pages, asid, at);
            (root, page, Cached::find(&caches.tables, asid, span))
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
        let found = |at, to| Cached { asid, at, root, to };
        let mut caches = self.caches();
        caches.pages.push(found(at, page));
        if let (None, Some(deepest)) = (table, deepest) {
            caches.tables.push(found(span, deepest));
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
    pub(super) fn forget(&self, forgotten: &Stale) {
        let root = forgotten.root.get();
        let covers = |known: &Cached, len: u64| {
            known.root == root
                && match forgotten.extent {
                    Extent::Nothing => false,
                    Extent::Everything => true,
                    Extent::Range(range) => {
                        known.at <= range.last().get() && range.start().get() < known.at + len
                    }
                }
        };
        self.forget_where(covers, forgotten.tables);
    }

    /// The same of everything.
    pub(super) fn forget_all(&self) {
        self.forget_where(|_, _| true, true);
    }

    /// The same of all pointers to tables, and of nothing else.
    pub(super) fn forget_tables(&self) {
        let under_way = self.under_way.lock();
        self.caches().tables.clear();
        drop(under_way);
    }

    /// The same of the pages of an ASID between two, by their numbers.
    pub(super) fn forget_between(&self, asid: u16, before: u64, after: u64) {
        let covers = |known: &Cached, _| {
            let page = known.at / PAGE;
            known.asid == asid && before < page && page < after
        };
        self.forget_where(covers, false);
    }

    /// The same of what `covers` says so of, given how many bytes it maps; of pointers to tables only
    /// if `tables`.
    fn forget_where(&self, covers: impl Fn(&Cached, u64) -> bool, tables: bool) {
        let waits = self.weak != Some(Weak::DoesNotWait);
        let under_way = waits.then(|| self.under_way.lock());
        let mut caches = self.caches();
        if self.weak != Some(Weak::ForgetsNothing) {
            caches.pages.retain(|known| !covers(known, PAGE));
            if tables && self.weak != Some(Weak::KeepsTables) {
                caches.tables.retain(|known| !covers(known, DEEPEST_TABLE));
            }
        }
        drop(caches);
        drop(under_way);
    }
}

/// The driver of the MMU.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mmu {
    pub(super) hardware: &'static Hardware,
    /// The root of every ASID once the MMU is enabled.
    pub(super) parking: BusAddr,
}

impl Mmu {
    fn ready(&self) -> Result<MutexGuard<'static, Caches>, MmuError> {
        let caches = self.hardware.caches();
        if caches.lost {
            return Err(MmuError::DeviceLost);
        }
        Ok(caches)
    }
}

// SAFETY: `forget` empties both caches of what is stale, and the lock that it takes is held by every
// access that is under way; later ones walk. A device that is lost makes no access and confirms
// nothing. That planted bugs break this is their purpose: there is no memory behind the pages of a
// model.
unsafe impl Invalidate for Mmu {
    type Error = MmuError;

    fn invalidate(&mut self, stale: &Stale) -> Result<(), MmuError> {
        match self.ready() {
            Err(_) if self.hardware.weak == Some(Weak::BelievesTheDead) => return Ok(()),
            ready => drop(ready?),
        }
        let failures = self.hardware.failures.load(Relaxed);
        if failures > 0 {
            self.hardware.failures.store(failures - 1, Relaxed);
            return match self.hardware.weak {
                Some(Weak::BelievesTheDead) => Ok(()),
                _ => Err(MmuError::TimedOut { register: 0 }),
            };
        }
        let number = self.hardware.asked.fetch_add(1, Relaxed);
        if self.hardware.weak == Some(Weak::AnswersTwice) && number % 2 == 1 {
            return Ok(());
        }
        self.hardware.forget(stale);
        Ok(())
    }
}

// SAFETY: the walker of a rig is made for the format of its tables.
unsafe impl<F: Format> Walks<F> for Mmu {}

// SAFETY: nothing is cached when a model begins, nor after a reset, which comes before the MMU is
// enabled again; every ASID then has the parking table. Roots are read with the caches' lock held,
// under which they are changed.
unsafe impl MmuControl for Mmu {
    fn enable(&mut self) -> Result<(), MmuError> {
        self.ready()?.roots = [self.parking.get(); ASIDS];
        self.hardware.forget_all();
        Ok(())
    }

    fn disable(&mut self) -> Result<(), MmuError> {
        self.ready()?.roots = [0; ASIDS];
        Ok(())
    }

    fn set_root(&mut self, asid: Asid, root: BusAddr) -> Result<(), MmuError> {
        self.ready()?.roots[usize::from(asid.get())] = root.get();
        Ok(())
    }

    fn park(&mut self, asid: Asid) -> Result<(), MmuError> {
        self.set_root(asid, self.parking)
    }

    fn announce(&mut self) -> Result<(), MmuError> {
        let mut caches = self.ready()?;
        if self.hardware.weak != Some(Weak::AnnouncesNothing) {
            caches.tables.clear();
        }
        Ok(())
    }

    fn invalidate_all(&mut self) -> Result<(), MmuError> {
        drop(self.ready()?);
        self.hardware.forget_all();
        Ok(())
    }

    fn next_fault(&mut self, _from: &mut u32) -> Result<Option<Fault>, MmuError> {
        Ok(None)
    }
}
