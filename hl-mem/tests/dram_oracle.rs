//! The device memory pool against a plain model of single pages, which knows what each of them
//! contains. The model predicts the answer to every call, and nobody may find a secret of another.

use std::collections::{BTreeMap, BTreeSet};

use hl_mem::Owner;
use hl_mem::dram::{
    AllocateError, Contiguity, DirtyRun, DramContent, DramHold, DramPool, DramRegion, PackError,
    PackHandle, PackRecord, PageRecord, Scrub, Sharing,
};
use mmu_core::{BusAddr, Run};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, RngSeed};

const BASE: u64 = 0x1001_0000_2800_0000;
const PAGE: u64 = 640 << 20;
const PAGES: usize = 14;
const PACKS: usize = 6;
const OWNERS: u32 = 3;

#[derive(Clone, Debug)]
enum Call {
    Allocate(u32, u64, Contiguity, Sharing),
    Free(Index, u32),
    Hold(Index, u32),
    HoldAgain(Index),
    Release(Index),
    ReleaseOwner(u32),
    /// Takes what the pool proposes, or else what stood in the way of the last allocation.
    TakeDirty(u32, bool),
    Scrub(Index, bool),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Page {
    Clean,
    Dirty(Option<u32>),
    Scrubbing,
    Allocated,
}

#[derive(Debug)]
struct Pack {
    owner: Option<u32>,
    shared: bool,
    pages: Vec<usize>,
    holds: u32,
}

/// A context: owner numbers are used again, contexts are not.
type Life = u32;

struct Model {
    pages: Vec<Page>,
    /// The contexts that alone know what is in a page.
    secrets: Vec<BTreeSet<Life>>,
    packs: BTreeMap<u64, Pack>,
    issued: BTreeSet<u64>,
    lives: Vec<Life>,
    next_life: Life,
}

impl Model {
    fn ready(&self, page: usize, owner: u32, shared: bool) -> bool {
        match self.pages[page] {
            Page::Clean => true,
            Page::Dirty(last) => last == Some(owner) && !shared,
            Page::Scrubbing | Page::Allocated => false,
        }
    }

    /// The runs of pages that are as wanted, as long as can be: first page and length.
    fn stretches(&self, wanted: impl Fn(usize) -> bool) -> Vec<(usize, usize)> {
        let mut stretches = Vec::new();
        for first in 0..PAGES {
            if wanted(first) && (first == 0 || !wanted(first - 1)) {
                let end = (first..PAGES).find(|&page| !wanted(page));
                stretches.push((first, end.unwrap_or(PAGES) - first));
            }
        }
        stretches
    }

    fn fits(&self, count: usize, contiguity: Contiguity, wanted: impl Fn(usize) -> bool) -> bool {
        match contiguity {
            Contiguity::Contiguous => {
                let stretches = self.stretches(wanted);
                stretches.iter().any(|&(_, pages)| pages >= count)
            }
            Contiguity::Scattered => (0..PAGES).filter(|&page| wanted(page)).count() >= count,
        }
    }

    fn find(&self, handle: u64) -> Result<&Pack, PackError> {
        match self.packs.get(&handle) {
            Some(pack) if pack.owner.is_some() => Ok(pack),
            _ if self.issued.contains(&handle) => Err(PackError::Stale),
            _ => Err(PackError::Unknown),
        }
    }

    fn end(&mut self, handle: u64, left: Option<u32>) {
        for page in self.packs.remove(&handle).unwrap().pages {
            self.pages[page] = Page::Dirty(left);
        }
    }
}

fn page_of(address: BusAddr) -> usize {
    let offset = address.get() - BASE;
    assert!(offset.is_multiple_of(PAGE), "not on a page boundary");
    (offset / PAGE) as usize
}

fn pages_of(run: Run) -> impl Iterator<Item = usize> {
    assert!(run.len().is_multiple_of(PAGE));
    let first = page_of(run.start());
    first..first + (run.len() / PAGE) as usize
}

fn pages_of_hold(pool: &DramPool<'_>, hold: &DramHold) -> Vec<usize> {
    let runs: Vec<_> = pool.runs(hold).unwrap().collect();
    for pair in runs.windows(2) {
        assert!(
            pair[0].end() < Some(pair[1].start()),
            "not as long as can be"
        );
    }
    runs.into_iter().flat_map(pages_of).collect()
}

struct Port {
    works: bool,
}

impl Scrub for Port {
    type Error = ();

    fn scrub(&mut self, _run: Run) -> Result<(), ()> {
        if self.works { Ok(()) } else { Err(()) }
    }
}

fn call() -> impl Strategy<Value = Call> {
    let contiguity = prop_oneof![Just(Contiguity::Contiguous), Just(Contiguity::Scattered)];
    let sharing = prop_oneof![2 => Just(Sharing::Private), 1 => Just(Sharing::Shared)];
    let owner = || 0..OWNERS;
    let at = any::<Index>;
    prop_oneof![
        6 => (owner(), 1..=6 * PAGE, contiguity, sharing)
            .prop_map(|(owner, bytes, how, who)| Call::Allocate(owner, bytes, how, who)),
        4 => (at(), owner()).prop_map(|(at, owner)| Call::Free(at, owner)),
        3 => (at(), owner()).prop_map(|(at, owner)| Call::Hold(at, owner)),
        1 => at().prop_map(Call::HoldAgain),
        3 => at().prop_map(Call::Release),
        1 => owner().prop_map(Call::ReleaseOwner),
        4 => (1..5u32, any::<bool>()).prop_map(|(pages, ahead)| Call::TakeDirty(pages, ahead)),
        3 => (at(), prop::bool::weighted(0.7)).prop_map(|(at, works)| Call::Scrub(at, works)),
    ]
}

/// What is out of the pool.
#[derive(Default)]
struct Out {
    holds: Vec<(u64, DramHold)>,
    dirty: Vec<DirtyRun>,
    /// What stood in the way of the last allocation.
    proposed: Option<Run>,
}

fn allocate(
    pool: &mut DramPool<'_>,
    model: &mut Model,
    out: &mut Out,
    (owner, bytes, contiguity, sharing): (u32, u64, Contiguity, Sharing),
) -> Result<(), TestCaseError> {
    let shared = sharing == Sharing::Shared;
    let count = bytes.div_ceil(PAGE) as usize;
    let ready: Vec<_> = (0..PAGES)
        .map(|page| model.ready(page, owner, shared))
        .collect();
    let dirty = |page: usize| matches!(model.pages[page], Page::Dirty(_));
    let result = pool.allocate(Owner::new(owner), bytes, contiguity, sharing);

    if !model.fits(count, contiguity, |page| ready[page]) {
        if model.fits(count, contiguity, |page| ready[page] || dirty(page)) {
            let Err(AllocateError::Unscrubbed { first }) = result else {
                return Err(TestCaseError::fail(format!("{result:?}")));
            };
            prop_assert!(pages_of(first).all(|page| dirty(page) && !ready[page]));
            prop_assert!(pages_of(first).count() <= count);
            out.proposed = Some(first);
        } else if model.fits(count, contiguity, |page| {
            model.pages[page] != Page::Allocated
        }) {
            prop_assert_eq!(result, Err(AllocateError::ScrubUnderWay));
        } else {
            prop_assert_eq!(result, Err(AllocateError::NoMemory));
        }
        return Ok(());
    }
    if model.packs.len() == PACKS {
        prop_assert_eq!(result, Err(AllocateError::NoPackRecord));
        return Ok(());
    }
    let handle = result.unwrap();
    prop_assert!(model.issued.insert(handle.get()), "given out twice");
    // Look at the pages through a hold, without writing to them.
    let hold = pool.hold(handle, Owner::new(owner)).unwrap();
    let pages = pages_of_hold(pool, &hold);
    pool.release(hold).unwrap();
    prop_assert_eq!(pages.len(), count);
    prop_assert!(pages.iter().all(|&page| ready[page]));
    match contiguity {
        Contiguity::Contiguous => {
            prop_assert_eq!(pages[count - 1] - pages[0], count - 1);
            let stretches = model.stretches(|page| ready[page]);
            let fitting = stretches.iter().filter(|(_, pages)| *pages >= count);
            let best = fitting.min_by_key(|(_, pages)| *pages).unwrap();
            prop_assert_eq!(pages[0], best.0);
        }
        Contiguity::Scattered => {
            let own = |&page: &usize| ready[page] && dirty(page);
            let used = pages.iter().filter(|page| own(page)).count();
            prop_assert_eq!(used, (0..PAGES).filter(own).count().min(count));
        }
    }
    for &page in &pages {
        model.pages[page] = Page::Allocated;
    }
    let (owner, holds) = (Some(owner), 0);
    let pack = Pack {
        owner,
        shared,
        pages,
        holds,
    };
    model.packs.insert(handle.get(), pack);
    Ok(())
}

/// A handle from the past, now and then one that never was.
fn pick(model: &Model, at: &Index) -> u64 {
    let at = at.index(model.issued.len() + 1);
    model.issued.iter().nth(at).copied().unwrap_or(0xF_0001)
}

fn step(
    pool: &mut DramPool<'_>,
    model: &mut Model,
    out: &mut Out,
    call: Call,
) -> Result<(), TestCaseError> {
    match call {
        Call::Allocate(owner, bytes, contiguity, sharing) => {
            allocate(pool, model, out, (owner, bytes, contiguity, sharing))?;
        }
        Call::Free(at, caller) => {
            let handle = pick(model, &at);
            let expected = model.find(handle).and_then(|pack| {
                if pack.owner != Some(caller) {
                    Err(PackError::NotOwner)
                } else if pack.holds > 0 {
                    Err(PackError::Held { holds: pack.holds })
                } else {
                    Ok(())
                }
            });
            let result = pool.free(PackHandle::new(handle), Owner::new(caller));
            prop_assert_eq!(result, expected);
            if expected.is_ok() {
                model.end(handle, Some(caller));
            }
        }
        Call::Hold(at, caller) => {
            let handle = pick(model, &at);
            let expected = model.find(handle).and_then(|pack| {
                if pack.shared || pack.owner == Some(caller) {
                    Ok(())
                } else {
                    Err(PackError::NotOwner)
                }
            });
            let result = pool.hold(PackHandle::new(handle), Owner::new(caller));
            prop_assert_eq!(result.as_ref().err(), expected.as_ref().err());
            if let Ok(hold) = result {
                let life = model.lives[caller as usize];
                let pack = model.packs.get_mut(&handle).unwrap();
                pack.holds += 1;
                prop_assert_eq!(&pages_of_hold(pool, &hold), &pack.pages);
                for &page in &pack.pages {
                    let secrets = &mut model.secrets[page];
                    let foreign = secrets.iter().any(|&secret| secret != life);
                    prop_assert!(!foreign, "{life} reads {secrets:?} in page {page}");
                    // What is written to shared memory is no secret.
                    if !pack.shared {
                        secrets.insert(life);
                    }
                }
                out.holds.push((handle, hold));
            }
        }
        Call::HoldAgain(at) if !out.holds.is_empty() => {
            let (handle, hold) = &out.holds[at.index(out.holds.len())];
            let (handle, again) = (*handle, pool.hold_again(hold).unwrap());
            model.packs.get_mut(&handle).unwrap().holds += 1;
            out.holds.push((handle, again));
        }
        Call::Release(at) if !out.holds.is_empty() => {
            let (handle, hold) = out.holds.swap_remove(at.index(out.holds.len()));
            pool.release(hold).unwrap();
            let pack = model.packs.get_mut(&handle).unwrap();
            pack.holds -= 1;
            if pack.holds == 0 && pack.owner.is_none() {
                model.end(handle, None);
            }
        }
        Call::HoldAgain(_) | Call::Release(_) => {}
        Call::ReleaseOwner(owner) => {
            let owned: Vec<_> = model
                .packs
                .iter()
                .filter(|(_, p)| p.owner == Some(owner))
                .collect();
            let freed: Vec<_> = owned
                .iter()
                .filter(|(_, p)| p.holds == 0)
                .map(|(h, _)| **h)
                .collect();
            let orphaned = owned.len() - freed.len();
            let released = pool.release_owner(Owner::new(owner));
            prop_assert_eq!(released.freed as usize, freed.len());
            prop_assert_eq!(released.orphaned as usize, orphaned);
            for handle in freed {
                model.end(handle, None);
            }
            for pack in model.packs.values_mut() {
                pack.owner = pack.owner.filter(|&number| number != owner);
            }
            for page in &mut model.pages {
                if *page == Page::Dirty(Some(owner)) {
                    *page = Page::Dirty(None);
                }
            }
            // The number goes to another context.
            model.next_life += 1;
            model.lives[owner as usize] = model.next_life;
        }
        Call::TakeDirty(most, ahead) => {
            let nobodys = model.pages.contains(&Page::Dirty(None));
            let any = model
                .pages
                .iter()
                .any(|page| matches!(page, Page::Dirty(_)));
            let next = pool.next_dirty(most);
            prop_assert_eq!(next.is_some(), any);
            if let Some(run) = next {
                prop_assert!(pages_of(run).count() <= most as usize);
                let same = |page: usize| model.pages[page] == Page::Dirty(None);
                prop_assert!(!nobodys || pages_of(run).all(same));
            }
            let run = if ahead { next } else { out.proposed.take() };
            let Some(run) = run else {
                return Ok(());
            };
            let all = pages_of(run).all(|page| matches!(model.pages[page], Page::Dirty(_)));
            let taken = pool.take_dirty(run);
            prop_assert_eq!(taken.is_some(), all);
            if let Some(taken) = taken {
                prop_assert_eq!(taken.run(), run);
                for page in pages_of(run) {
                    model.pages[page] = Page::Scrubbing;
                }
                out.dirty.push(taken);
            }
        }
        Call::Scrub(at, works) if !out.dirty.is_empty() => {
            let dirty = out.dirty.swap_remove(at.index(out.dirty.len()));
            let pages: Vec<_> = pages_of(dirty.run()).collect();
            match dirty.scrub(&mut Port { works }) {
                Ok(scrubbed) => pool.return_scrubbed(scrubbed).unwrap(),
                Err(failed) => pool.return_dirty(failed.dirty).unwrap(),
            }
            for page in pages {
                if works {
                    model.secrets[page].clear();
                    model.pages[page] = Page::Clean;
                } else {
                    model.pages[page] = Page::Dirty(None);
                }
            }
        }
        Call::Scrub(..) => {}
    }
    Ok(())
}

fn compare(pool: &DramPool<'_>, model: &Model) -> Result<(), TestCaseError> {
    let count =
        |wanted: fn(Page) -> bool| model.pages.iter().filter(|p| wanted(**p)).count() as u32;
    let usage = pool.usage();
    prop_assert_eq!(usage.clean, count(|page| page == Page::Clean));
    prop_assert_eq!(usage.dirty, count(|page| matches!(page, Page::Dirty(_))));
    prop_assert_eq!(usage.scrubbing, count(|page| page == Page::Scrubbing));
    prop_assert_eq!(usage.allocated, count(|page| page == Page::Allocated));
    prop_assert_eq!(usage.packs as usize, model.packs.len());
    let orphans = model.packs.values().filter(|pack| pack.owner.is_none());
    prop_assert_eq!(usage.orphans as usize, orphans.count());
    for owner in 0..OWNERS {
        let owned = model
            .packs
            .values()
            .filter(|pack| pack.owner == Some(owner));
        let pages = owned.map(|pack| pack.pages.len() as u64).sum::<u64>();
        prop_assert_eq!(pool.usage_of(Owner::new(owner)).bytes, pages * PAGE);
    }
    for (handle, info) in pool.packs() {
        let pack = &model.packs[&handle.get()];
        prop_assert_eq!(info.owner.map(Owner::get), pack.owner);
        prop_assert_eq!(info.sharing == Sharing::Shared, pack.shared);
        prop_assert_eq!(info.pages as usize, pack.pages.len());
        prop_assert_eq!(info.holds, pack.holds);
    }
    Ok(())
}

fn check(calls: Vec<Call>) -> Result<(), TestCaseError> {
    let region = DramRegion::new(BusAddr::new(BASE), PAGE, PAGES as u32).unwrap();
    let mut pages = [PageRecord::EMPTY; PAGES];
    let mut packs = [PackRecord::EMPTY; PACKS];
    let content = DramContent::Scrubbed;
    let mut pool = DramPool::new(region, &mut pages, &mut packs, content).unwrap();
    let mut model = Model {
        pages: vec![Page::Clean; PAGES],
        secrets: vec![BTreeSet::new(); PAGES],
        packs: BTreeMap::new(),
        issued: BTreeSet::new(),
        lives: (0..OWNERS).collect(),
        next_life: OWNERS,
    };
    let mut out = Out::default();
    for call in calls {
        step(&mut pool, &mut model, &mut out, call)?;
        compare(&pool, &model)?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(Config {
        cases: 256,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(0x6472_616d),
        ..Config::default()
    })]

    #[test]
    fn the_pool_answers_as_one_that_looks_at_every_page_and_keeps_secrets(
        calls in prop::collection::vec(call(), 1..150),
    ) {
        check(calls)?;
    }
}
