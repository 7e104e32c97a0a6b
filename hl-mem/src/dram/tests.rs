//! Tests of what only the inside shows: the exact state after a refusal, and that the records agree
//! with each other after anything.

use mmu_core::BusAddr;

use super::*;

const PAGE: u64 = 640 << 20;
const PAGES: u32 = 24;
const PACKS: usize = 9;

/// Everything a pool is made of.
#[derive(PartialEq, Debug)]
struct Snapshot {
    pages: Vec<PageRecord>,
    packs: Vec<PackRecord>,
    usage: DramUsage,
}

impl DramPool<'_> {
    fn snapshot(&self) -> Snapshot {
        Snapshot {
            pages: self.pages.records().to_vec(),
            packs: self.packs.all().to_vec(),
            usage: self.usage,
        }
    }

    /// Checks that counters, page records and pack records say the same.
    fn audit(&self) {
        let count = |wanted: fn(State) -> bool| {
            let records = self.pages.records().iter();
            records.filter(|record| wanted(record.0)).count() as u32
        };
        let in_pack = |state| matches!(state, State::Run { .. } | State::Inner);
        let is_dirty = |state| matches!(state, State::Dirty | State::DirtyOf(_));
        assert_eq!(self.usage.clean, count(|state| state == State::Clean));
        assert_eq!(self.usage.dirty, count(is_dirty));
        assert_eq!(
            self.usage.scrubbing,
            count(|state| state == State::Scrubbing)
        );
        assert_eq!(self.usage.allocated, count(in_pack));
        let mut seen = vec![false; self.pages.records().len()];
        let (mut packs, mut orphans) = (0, 0);
        for (_, pack) in self.packs.iter() {
            packs += 1;
            orphans += u32::from(pack.owner.is_none());
            let mut bytes = 0;
            for run in self.part(pack, 0, self.bytes(pack.pages)) {
                bytes += run.len();
                let (first, count) = self.region.pages_of(run).expect("whole pages");
                for page in first..first + count {
                    let seen = &mut seen[page as usize];
                    assert!(!*seen, "page {page} is in two packs");
                    *seen = true;
                    assert!(self.pages.state(page).is_some_and(in_pack));
                }
            }
            assert_eq!(bytes, self.bytes(pack.pages));
        }
        assert_eq!((self.usage.packs, self.usage.orphans), (packs, orphans));
        let seen = seen.iter().filter(|&&seen| seen).count();
        assert_eq!(seen as u32, self.usage.allocated, "no page is in no pack");
        self.pages.audit();
        self.packs.audit();
    }
}

fn region(pages: u32) -> DramRegion {
    DramRegion::new(BusAddr::new(0x1001_0000_2800_0000), PAGE, pages).unwrap()
}

/// SplitMix64: enough for choosing operations, the same on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) as usize % bound
    }

    fn take<T>(&mut self, from: &mut Vec<T>) -> Option<T> {
        (!from.is_empty()).then(|| from.swap_remove(self.below(from.len())))
    }
}

struct Port<'r>(&'r mut Random);

impl Scrub for Port<'_> {
    type Error = ();

    fn scrub(&mut self, _run: Run) -> Result<(), ()> {
        if self.0.below(3) == 0 {
            Err(())
        } else {
            Ok(())
        }
    }
}

#[test]
fn every_refusal_leaves_every_record_as_it_was_and_the_records_always_agree() {
    let mut pages = [PageRecord::EMPTY; PAGES as usize];
    let mut packs = [PackRecord::EMPTY; PACKS];
    let content = DramContent::Unknown;
    let mut pool = DramPool::new(region(PAGES), &mut pages, &mut packs, content).unwrap();
    let mut random = Random(4);
    let (mut handles, mut holds, mut dirty) = (Vec::new(), Vec::new(), Vec::new());
    let mut refusals = std::collections::BTreeMap::new();
    for _ in 0..20_000 {
        let before = pool.snapshot();
        let owner = Owner::new(random.below(3) as u32);
        let mut refused: Option<String> = None;
        match random.below(16) {
            0..5 => {
                let bytes = [PAGE, PAGE * 2 - 1, PAGE * 7, PAGE * 30, 0, u64::MAX][random.below(6)];
                let how = [Contiguity::Contiguous, Contiguity::Scattered][random.below(2)];
                let who = [Sharing::Private, Sharing::Shared][random.below(2)];
                match pool.allocate(owner, bytes, how, who) {
                    Ok(handle) => handles.push(handle),
                    Err(AllocateError::Unscrubbed { first }) if random.below(2) == 0 => {
                        dirty.push(pool.take_dirty(first).expect("dirty as said"));
                    }
                    Err(error) => refused = Some(format!("{error:?}")),
                }
            }
            5..8 if !handles.is_empty() => {
                let at = random.below(handles.len());
                match pool.free(handles[at], owner) {
                    Ok(()) => {}
                    Err(error) => refused = Some(format!("{error:?}")),
                }
            }
            8..10 if !handles.is_empty() => {
                let at = random.below(handles.len());
                match pool.hold(handles[at], owner) {
                    Ok(hold) => holds.push(hold),
                    Err(error) => refused = Some(format!("{error:?}")),
                }
            }
            10..13 => {
                if let Some(hold) = random.take(&mut holds) {
                    pool.release(hold).unwrap();
                }
            }
            13 if random.below(4) == 0 => {
                pool.release_owner(owner);
            }
            14 => {
                let run = pool.next_dirty(1 + random.below(4) as u32);
                dirty.extend(run.and_then(|run| pool.take_dirty(run)));
            }
            15 => {
                if let Some(run) = random.take(&mut dirty) {
                    match run.scrub(&mut Port(&mut random)) {
                        Ok(scrubbed) => pool.return_scrubbed(scrubbed).unwrap(),
                        Err(failed) => pool.return_dirty(failed.dirty).unwrap(),
                    }
                }
            }
            _ => {}
        }
        if let Some(error) = refused {
            assert_eq!(pool.snapshot(), before, "{error}");
            let name = error.split(' ').next().unwrap().to_owned();
            *refusals.entry(name).or_insert(0) += 1;
        }
        pool.audit();
    }
    // Without these the test would say little.
    for name in [
        "ZeroLength",
        "TooLarge",
        "NoMemory",
        "Unscrubbed",
        "ScrubUnderWay",
        "NoPackRecord",
        "Stale",
        "NotOwner",
        "Held",
    ] {
        assert!(refusals.contains_key(name), "{name}: {refusals:?}");
    }
}

#[test]
fn a_pack_cannot_be_held_more_often_than_can_be_counted() {
    let (mut pages, mut packs) = ([PageRecord::EMPTY; 2], [PackRecord::EMPTY; 2]);
    let content = DramContent::Scrubbed;
    let mut pool = DramPool::new(region(2), &mut pages, &mut packs, content).unwrap();
    let owner = Owner::new(1);
    let pack = pool.allocate(owner, 1, Contiguity::Scattered, Sharing::Private);
    let pack = pack.unwrap();
    let hold = pool.hold(pack, owner).unwrap();
    pool.packs.find(pack).unwrap().holds = u32::MAX;
    let before = pool.snapshot();
    assert_eq!(pool.hold(pack, owner), Err(PackError::TooManyHolds));
    assert_eq!(pool.hold_again(&hold), Err(PackError::TooManyHolds));
    assert_eq!(pool.snapshot(), before);
}

#[test]
fn a_worn_out_record_is_not_used_again_and_its_handles_stay_stale() {
    let (mut pages, mut packs) = ([PageRecord::EMPTY; 2], [PackRecord::EMPTY; 1]);
    packs[0].wear(1);
    let content = DramContent::Scrubbed;
    let mut pool = DramPool::new(region(2), &mut pages, &mut packs, content).unwrap();
    let owner = Owner::new(1);
    let mut allocate = || pool.allocate(owner, 1, Contiguity::Scattered, Sharing::Private);
    let last = allocate().unwrap();
    assert_eq!(last.get(), 0xFFFF_FFFF_FFF0_0001);
    assert_eq!(allocate(), Err(AllocateError::NoPackRecord));
    pool.free(last, owner).unwrap();
    let none = pool.allocate(owner, 1, Contiguity::Scattered, Sharing::Private);
    assert_eq!(none, Err(AllocateError::NoPackRecord));
    assert_eq!(pool.hold(last, owner), Err(PackError::Stale));
    let first = PackHandle::new(1);
    assert_eq!(pool.hold(first, owner), Err(PackError::Stale));
}
