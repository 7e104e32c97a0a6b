//! The device-memory scenarios that the test suites of this field's peers check, and the hazards of
//! the habanalabs driver's pool, through the public interface alone.

use std::collections::BTreeSet;

use hl_mem::Owner;
use hl_mem::dram::{
    AllocateError, Contiguity, DirtyRun, DramContent, DramPool, DramRegion, DramUsage, ExportError,
    Foreign, NoScrub, NotScrubbed, PackError, PackHandle, PackRecord, PageRecord, RegionError,
    Scrub, Sharing,
};
use mmu_core::{AddrRange, BusAddr, Run};

use Contiguity::{Contiguous, Scattered};
use Sharing::{Private, Shared};

#[path = "dram_scenarios/scrubbing.rs"]
mod scrubbing;

const BASE: BusAddr = BusAddr::new(0x1001_0000_3000_0000);
/// Pages of Goya, of Gaudi2 with five and of Gaudi2 with six functional memory stacks.
const PAGE_SIZES: [u64; 3] = [2 << 20, 640 << 20, 768 << 20];
const PAGE: u64 = 768 << 20;
const ALICE: Owner = Owner::new(1);
const BOB: Owner = Owner::new(2);

/// Runs `test` on a pool of clean pages.
fn with_pool(page_bytes: u64, pages: u32, test: impl FnOnce(&mut DramPool<'_>)) {
    with_content(page_bytes, pages, DramContent::Scrubbed, test);
}

fn with_content(
    page_bytes: u64,
    pages: u32,
    content: DramContent,
    test: impl FnOnce(&mut DramPool<'_>),
) {
    let region = DramRegion::new(BASE, page_bytes, pages).unwrap();
    let mut page_records = vec![PageRecord::EMPTY; pages as usize];
    let mut pack_records = vec![PackRecord::EMPTY; pages as usize];
    test(&mut DramPool::new(region, &mut page_records, &mut pack_records, content).unwrap());
}

/// The addresses of a pack, seen through a hold for a moment.
fn runs(pool: &mut DramPool<'_>, pack: PackHandle, owner: Owner) -> Vec<Run> {
    let hold = pool.hold(pack, owner).unwrap();
    let runs = pool.runs(&hold).unwrap().collect();
    pool.release(hold).unwrap();
    runs
}

/// A run by page numbers.
fn pages(page_bytes: u64, first: u64, count: u64) -> Run {
    let start = BASE.checked_add(first * page_bytes).unwrap();
    AddrRange::new(start, count * page_bytes).unwrap()
}

/// A port that always succeeds and remembers what it scrubbed.
#[derive(Default)]
struct Port(Vec<Run>);

impl Scrub for Port {
    type Error = &'static str;

    fn scrub(&mut self, run: Run) -> Result<(), Self::Error> {
        self.0.push(run);
        Ok(())
    }
}

struct BrokenPort;

impl Scrub for BrokenPort {
    type Error = &'static str;

    fn scrub(&mut self, _run: Run) -> Result<(), Self::Error> {
        Err("no answer")
    }
}

fn scrub_everything(pool: &mut DramPool<'_>) {
    let mut port = Port::default();
    while let Some(run) = pool.next_dirty(u32::MAX) {
        let dirty = pool.take_dirty(run).unwrap();
        pool.return_scrubbed(dirty.scrub(&mut port).unwrap())
            .unwrap();
    }
}

/// Numbers in an order that is neither theirs nor its reverse.
fn shuffled(count: usize) -> impl Iterator<Item = usize> {
    assert!(count.is_multiple_of(2) && !count.is_multiple_of(3));
    (0..count).map(move |n| (n * 3 + 1) % count)
}

fn usage_in_pages(usage: DramUsage) -> [u32; 4] {
    [usage.clean, usage.dirty, usage.scrubbing, usage.allocated]
}

/// D-01
#[test]
fn memory_can_be_filled_to_the_last_page_twice() {
    for page in PAGE_SIZES {
        for contiguity in [Contiguous, Scattered] {
            for chunk in [1, 4] {
                with_pool(page, 128, |pool| {
                    for _ in 0..2 {
                        let mut seen = BTreeSet::new();
                        let chunks = 128 / chunk;
                        let packs: Vec<_> = (0..chunks)
                            .map(|_| pool.allocate(ALICE, chunk * page, contiguity, Private))
                            .collect::<Result<_, _>>()
                            .unwrap();
                        for &pack in &packs {
                            for run in runs(pool, pack, ALICE) {
                                let offset = run.start().offset_from(BASE).unwrap();
                                assert!(offset.is_multiple_of(page), "not on a page boundary");
                                let first = offset / page;
                                seen.extend(first..first + run.len() / page);
                            }
                        }
                        assert_eq!(seen, (0..128).collect());
                        assert_eq!(pool.usage_of(ALICE).bytes, 128 * page);
                        let more = pool.allocate(ALICE, 1, contiguity, Private);
                        assert_eq!(more, Err(AllocateError::NoMemory));
                        for at in shuffled(chunks as usize) {
                            pool.free(packs[at], ALICE).unwrap();
                        }
                        assert_eq!(usage_in_pages(pool.usage()), [0, 128, 0, 0]);
                    }
                    scrub_everything(pool);
                    assert_eq!(usage_in_pages(pool.usage()), [128, 0, 0, 0]);
                });
            }
        }
    }
}

/// D-02
#[test]
fn packs_of_mixed_sizes_fill_memory_without_overlap() {
    with_pool(PAGE, 127, |pool| {
        let mut seen = BTreeSet::new();
        let mut packs = Vec::new();
        for size in [1, 5, 2, 7].into_iter().cycle() {
            let contiguity = if packs.len() % 2 == 0 {
                Contiguous
            } else {
                Scattered
            };
            match pool.allocate(ALICE, size * PAGE, contiguity, Private) {
                Ok(pack) => packs.push(pack),
                Err(error) => {
                    assert_eq!(error, AllocateError::NoMemory);
                    break;
                }
            }
        }
        assert!(packs.len() >= 127 / 7);
        for &pack in &packs {
            for run in runs(pool, pack, ALICE) {
                let first = run.start().offset_from(BASE).unwrap() / PAGE;
                for page in first..first + run.len() / PAGE {
                    assert!(seen.insert(page), "page {page} twice");
                }
            }
        }
        for pack in packs {
            pool.free(pack, ALICE).unwrap();
        }
        let used = seen.len() as u32;
        assert!(used > 127 - 7, "refused though there was room");
        assert_eq!(usage_in_pages(pool.usage()), [127 - used, used, 0, 0]);
    });
}

/// D-03
#[test]
fn a_request_that_does_not_fit_gives_every_page_back() {
    for page in PAGE_SIZES {
        with_pool(page, 96, |pool| {
            let singles: Vec<_> = (0..96)
                .map(|_| pool.allocate(ALICE, page, Scattered, Private).unwrap())
                .collect();
            // Every third page free: 32 pages, no two of them neighbours.
            for single in singles.iter().step_by(3) {
                pool.free(*single, ALICE).unwrap();
            }
            let before = (pool.usage(), pool.packs().collect::<Vec<_>>());
            let contiguous = pool.allocate(ALICE, 32 * page, Contiguous, Private);
            assert_eq!(contiguous, Err(AllocateError::NoMemory));
            let two = pool.allocate(ALICE, page + 1, Contiguous, Private);
            assert_eq!(two, Err(AllocateError::NoMemory));
            let one_more = pool.allocate(ALICE, 32 * page + 1, Scattered, Private);
            assert_eq!(one_more, Err(AllocateError::NoMemory));
            assert_eq!((pool.usage(), pool.packs().collect::<Vec<_>>()), before);

            let pack = pool.allocate(ALICE, 32 * page, Scattered, Private).unwrap();
            let expected: Vec<_> = (0..32).map(|n| pages(page, 3 * n, 1)).collect();
            assert_eq!(runs(pool, pack, ALICE), expected);
        });
    }
}

/// D-04
#[test]
fn a_pack_mapped_twice_is_freed_only_after_both_mappings() {
    with_pool(PAGE, 4, |pool| {
        let pack = pool.allocate(ALICE, PAGE, Contiguous, Private).unwrap();
        let first = pool.hold(pack, ALICE).unwrap();
        let second = pool.hold(pack, ALICE).unwrap();
        let held = |holds| Err(PackError::Held { holds });
        assert_eq!(pool.free(pack, ALICE), held(2));
        pool.release(first).unwrap();
        assert_eq!(pool.free(pack, ALICE), held(1));
        pool.release(second).unwrap();
        assert_eq!(pool.free(pack, ALICE), Ok(()));
        assert_eq!(pool.hold(pack, ALICE), Err(PackError::Stale));
        assert_eq!(pool.free(pack, ALICE), Err(PackError::Stale));
        assert_eq!(usage_in_pages(pool.usage()), [3, 1, 0, 0]);
    });
}

#[test]
fn the_first_handles_are_those_of_the_driver() {
    with_pool(PAGE, 4, |pool| {
        for number in 1..=3 {
            let pack = pool.allocate(ALICE, 1, Scattered, Private).unwrap();
            assert_eq!(pack.get(), number);
        }
    });
}

/// Hazard HZ-17: the driver looks at the low half of a handle only.
#[test]
fn a_handle_with_any_other_bit_names_nothing() {
    with_pool(PAGE, 4, |pool| {
        let pack = pool.allocate(ALICE, PAGE, Scattered, Shared).unwrap();
        let numbers = (0..64).map(|bit| pack.get() ^ (1 << bit));
        for number in numbers.chain([0, u64::MAX, u64::from(u32::MAX)]) {
            let forged = PackHandle::new(number);
            assert_eq!(pool.free(forged, ALICE), Err(PackError::Unknown));
            assert_eq!(pool.hold(forged, ALICE), Err(PackError::Unknown));
        }
        assert_eq!(pool.free(pack, ALICE), Ok(()));
    });
}

/// Hazard HZ-30: the driver lets anybody free anything.
#[test]
fn only_its_owner_frees_a_pack_and_maps_a_private_one() {
    with_pool(PAGE, 4, |pool| {
        let private = pool.allocate(ALICE, PAGE, Scattered, Private).unwrap();
        let shared = pool.allocate(ALICE, PAGE, Scattered, Shared).unwrap();
        let before = pool.packs().collect::<Vec<_>>();
        assert_eq!(pool.free(private, BOB), Err(PackError::NotOwner));
        assert_eq!(pool.free(shared, BOB), Err(PackError::NotOwner));
        assert_eq!(pool.hold(private, BOB), Err(PackError::NotOwner));
        assert_eq!(pool.packs().collect::<Vec<_>>(), before);
        let hold = pool.hold(shared, BOB).unwrap();
        // Holding it does not make it his to free.
        assert_eq!(pool.free(shared, BOB), Err(PackError::NotOwner));
        pool.release(hold).unwrap();
    });
}

/// Hazard HZ-29: the driver frees shared memory under those who have mapped it.
#[test]
fn a_shared_pack_lives_until_its_last_mapping_though_its_owner_is_gone() {
    with_pool(PAGE, 4, |pool| {
        let shared = pool.allocate(ALICE, 2 * PAGE, Contiguous, Shared).unwrap();
        let unmapped = pool.allocate(ALICE, PAGE, Contiguous, Shared).unwrap();
        let first = pool.hold(shared, BOB).unwrap();
        let second = pool.hold(shared, BOB).unwrap();
        let expected = runs(pool, shared, BOB);

        let released = pool.release_owner(ALICE);
        assert_eq!((released.freed, released.orphaned), (1, 1));
        assert_eq!(pool.usage().orphans, 1);
        assert_eq!(usage_in_pages(pool.usage()), [1, 1, 0, 2]);
        assert_eq!(pool.usage_of(ALICE).packs, 0);
        // No handle names it any more, not even for a new context with the old number.
        assert_eq!(pool.hold(shared, BOB), Err(PackError::Stale));
        assert_eq!(pool.free(shared, ALICE), Err(PackError::Stale));
        assert_eq!(pool.hold(unmapped, BOB), Err(PackError::Stale));

        pool.release(first).unwrap();
        let still: Vec<_> = pool.runs(&second).unwrap().collect();
        assert_eq!(still, expected);
        assert_eq!(usage_in_pages(pool.usage()), [1, 1, 0, 2]);
        pool.release(second).unwrap();
        assert_eq!(usage_in_pages(pool.usage()), [1, 3, 0, 0]);
        assert_eq!((pool.usage().packs, pool.usage().orphans), (0, 0));
    });
}

#[test]
fn a_contiguous_pack_takes_the_shortest_run_with_room() {
    with_pool(PAGE, 12, |pool| {
        let singles: Vec<_> = (0..12)
            .map(|_| pool.allocate(ALICE, PAGE, Scattered, Private).unwrap())
            .collect();
        // Free runs of four, two and three pages.
        for at in [0, 1, 2, 3, 5, 6, 8, 9, 10] {
            pool.free(singles[at], ALICE).unwrap();
        }
        for (count, first) in [(2, 5), (3, 8), (3, 0)] {
            let pack = pool
                .allocate(ALICE, count * PAGE, Contiguous, Private)
                .unwrap();
            assert_eq!(runs(pool, pack, ALICE), [pages(PAGE, first, count)]);
        }
    });
}

#[test]
fn neighbouring_pages_of_a_scattered_pack_are_one_run() {
    with_pool(PAGE, 8, |pool| {
        let singles: Vec<_> = (0..8)
            .map(|_| pool.allocate(ALICE, PAGE, Scattered, Private).unwrap())
            .collect();
        for at in [6, 1, 0, 3, 7] {
            pool.free(singles[at], ALICE).unwrap();
        }
        let pack = pool.allocate(ALICE, 5 * PAGE, Scattered, Private).unwrap();
        let hold = pool.hold(pack, ALICE).unwrap();
        let mut runs = pool.runs(&hold).unwrap();
        let expected = [pages(PAGE, 0, 2), pages(PAGE, 3, 1), pages(PAGE, 6, 2)];
        assert_eq!(runs.clone().collect::<Vec<_>>(), expected);
        for (run, to_come) in expected.into_iter().zip([5, 3, 2]) {
            assert_eq!(runs.bytes(), to_come * PAGE);
            assert_eq!(runs.next(), Some(run));
        }
        assert_eq!((runs.bytes(), runs.next()), (0, None));
        pool.release(hold).unwrap();
    });
}

#[test]
fn an_export_stays_within_its_pack_and_crosses_its_runs() {
    with_pool(PAGE, 4, |pool| {
        let first = pool.allocate(ALICE, PAGE, Scattered, Private).unwrap();
        let gap = pool.allocate(BOB, PAGE, Scattered, Private).unwrap();
        pool.free(first, ALICE).unwrap();
        let pack = pool.allocate(ALICE, 3 * PAGE, Scattered, Private).unwrap();
        let hold = pool.hold(pack, ALICE).unwrap();
        let export = |offset, len| {
            pool.export_range(&hold, offset, len)
                .map(|runs| runs.map(|run| (run.start(), run.len())).collect::<Vec<_>>())
        };
        let at = |offset| BASE.checked_add(offset).unwrap();
        assert_eq!(
            export(0, 3 * PAGE),
            Ok(vec![(at(0), PAGE), (at(2 * PAGE), 2 * PAGE)])
        );
        assert_eq!(
            export(PAGE - 4096, 8192),
            Ok(vec![(at(PAGE - 4096), 4096), (at(2 * PAGE), 4096)])
        );
        assert_eq!(
            export(3 * PAGE - 4096, 4096),
            Ok(vec![(at(4 * PAGE - 4096), 4096)])
        );
        for (offset, len, error) in [
            (0, 0, ExportError::ZeroLength),
            (0, 4095, ExportError::Misaligned),
            (1, 4096, ExportError::Misaligned),
            (0, 3 * PAGE + 4096, ExportError::OutOfRange),
            (3 * PAGE, 4096, ExportError::OutOfRange),
            // The sum wraps to something small (facts EX-1, hazard HZ-12).
            (4096u64.wrapping_neg(), 8192, ExportError::OutOfRange),
        ] {
            assert_eq!(export(offset, len), Err(error), "{offset:#x} {len:#x}");
        }
        pool.release(hold).unwrap();
        pool.free(gap, BOB).unwrap();
    });
}

#[test]
fn an_export_outlives_the_mapping_it_was_made_from() {
    with_pool(PAGE, 2, |pool| {
        let pack = pool.allocate(ALICE, PAGE, Scattered, Private).unwrap();
        let mapping = pool.hold(pack, ALICE).unwrap();
        let export = pool.hold_again(&mapping).unwrap();
        pool.release(mapping).unwrap();
        assert_eq!(pool.free(pack, ALICE), Err(PackError::Held { holds: 1 }));
        // An importer may still read when the exporter closes.
        assert_eq!(pool.release_owner(ALICE).orphaned, 1);
        assert!(pool.export_range(&export, 0, PAGE).is_ok());
        pool.release(export).unwrap();
        assert_eq!(usage_in_pages(pool.usage()), [1, 1, 0, 0]);
    });
}

#[test]
fn what_comes_from_another_pool_is_handed_back_and_changes_nothing() {
    with_content(PAGE, 2, DramContent::Unknown, |here| {
        with_content(PAGE, 2, DramContent::Unknown, |there| {
            // Both in the same state, so that nothing but the pool tells them apart.
            let prepare = |pool: &mut DramPool<'_>| {
                let dirty = pool.take_dirty(pages(PAGE, 0, 1)).unwrap();
                let clean = dirty.scrub(&mut Port::default()).unwrap();
                pool.return_scrubbed(clean).unwrap();
                pool.allocate(ALICE, PAGE, Scattered, Private).unwrap();
            };
            prepare(here);
            prepare(there);
            let pack = PackHandle::new(1);
            let hold = here.hold(pack, ALICE).unwrap();
            let own = there.hold(pack, ALICE).unwrap();
            let dirty = here.take_dirty(pages(PAGE, 1, 1)).unwrap();
            let _other = there.take_dirty(pages(PAGE, 1, 1)).unwrap();
            let before = (there.usage(), there.packs().collect::<Vec<_>>());
            assert!(there.runs(&hold).is_none());
            let part = there.export_range(&hold, 0, 4096).map(drop);
            assert_eq!(part, Err(ExportError::Foreign));
            assert_eq!(there.hold_again(&hold), Err(PackError::Unknown));
            let Err(Foreign(hold)) = there.release(hold) else {
                panic!("taken for a hold of its own");
            };
            let Err(Foreign(dirty)) = there.return_dirty(dirty) else {
                panic!("taken for pages of its own");
            };
            let scrubbed = dirty.scrub(&mut Port::default()).unwrap();
            let Err(Foreign(scrubbed)) = there.return_scrubbed(scrubbed) else {
                panic!("taken for pages of its own");
            };
            assert_eq!((there.usage(), there.packs().collect::<Vec<_>>()), before);
            here.release(hold).unwrap();
            here.return_scrubbed(scrubbed).unwrap();
            there.release(own).unwrap();
        });
    });
}

/// After a device reset the records serve a new pool.
#[test]
fn handles_of_an_earlier_pool_on_the_same_records_are_stale() {
    let region = DramRegion::new(BASE, PAGE, 2).unwrap();
    let mut page_records = [PageRecord::EMPTY; 2];
    let mut pack_records = [PackRecord::EMPTY; 2];
    let content = DramContent::Scrubbed;
    let mut pool = DramPool::new(region, &mut page_records, &mut pack_records, content).unwrap();
    let old = pool.allocate(ALICE, PAGE, Scattered, Private).unwrap();
    let hold = pool.hold(old, ALICE).unwrap();

    let mut pool = DramPool::new(region, &mut page_records, &mut pack_records, content).unwrap();
    assert_eq!(usage_in_pages(pool.usage()), [2, 0, 0, 0]);
    assert_eq!(pool.hold(old, ALICE), Err(PackError::Stale));
    let new = pool.allocate(ALICE, PAGE, Scattered, Private).unwrap();
    assert_ne!(new, old);
    assert_eq!(pool.hold(old, ALICE), Err(PackError::Stale));
    assert!(pool.release(hold).is_err());
}

#[test]
fn sizes_are_rounded_up_to_pages_without_wrapping() {
    with_pool(PAGE, 4, |pool| {
        let mut allocate = |bytes| pool.allocate(ALICE, bytes, Scattered, Private);
        assert_eq!(allocate(0), Err(AllocateError::ZeroLength));
        assert_eq!(allocate(u64::MAX), Err(AllocateError::TooLarge));
        let most = u64::MAX / PAGE * PAGE;
        assert_eq!(allocate(most + 1), Err(AllocateError::TooLarge));
        assert_eq!(allocate(most), Err(AllocateError::NoMemory));
        // As many pages as 32 bits would take for few.
        assert_eq!(allocate((1 << 32) * PAGE), Err(AllocateError::NoMemory));
        assert!(allocate(1).is_ok());
        assert!(allocate(PAGE + 1).is_ok());
        assert_eq!(pool.usage().allocated, 3);
    });
}

#[test]
fn running_out_of_pack_records_is_an_error_of_its_own() {
    let region = DramRegion::new(BASE, PAGE, 4).unwrap();
    let mut page_records = [PageRecord::EMPTY; 4];
    let mut pack_records = [PackRecord::EMPTY; 1];
    let content = DramContent::Scrubbed;
    let mut pool = DramPool::new(region, &mut page_records, &mut pack_records, content).unwrap();
    let pack = pool.allocate(ALICE, PAGE, Scattered, Private).unwrap();
    let before = pool.usage();
    let refused = pool.allocate(ALICE, PAGE, Scattered, Private);
    assert_eq!(refused, Err(AllocateError::NoPackRecord));
    assert_eq!(pool.usage(), before);
    pool.free(pack, ALICE).unwrap();
    pool.allocate(ALICE, PAGE, Scattered, Private).unwrap();
}

#[test]
fn a_region_that_cannot_be_numbered_or_addressed_is_refused() {
    let region = |base, page, pages| DramRegion::new(BusAddr::new(base), page, pages).map(drop);
    assert_eq!(region(0, 0, 1), Err(RegionError::Misaligned));
    assert_eq!(region(0, 4097, 1), Err(RegionError::Misaligned));
    assert_eq!(region(1, 4096, 1), Err(RegionError::Misaligned));
    assert_eq!(region(0, 4096, 0), Err(RegionError::PageCount));
    assert_eq!(region(0, 4096, u32::MAX), Err(RegionError::PageCount));
    assert_eq!(region(0, 1 << 60, 17), Err(RegionError::BeyondTop));
    let top = 4096u64.wrapping_neg();
    assert_eq!(region(top, 4096, 2), Err(RegionError::BeyondTop));
    assert_eq!(region(top, 4096, 1), Ok(()), "it may end at the top");

    let region = DramRegion::new(BASE, PAGE, 3).unwrap();
    let (mut pages, mut packs) = ([PageRecord::EMPTY; 2], [PackRecord::EMPTY; 2]);
    let pool = DramPool::new(region, &mut pages, &mut packs, DramContent::Scrubbed).map(drop);
    assert_eq!(pool, Err(RegionError::TooFewPageRecords { needed: 3 }));
}

#[test]
fn a_pool_without_memory_refuses_whoever_asks() {
    let mut pool = DramPool::none();
    let empty = pool.usage();
    for contiguity in [Contiguous, Scattered] {
        assert!(pool.allocate(ALICE, 1, contiguity, Private).is_err());
        assert_eq!(
            pool.allocate(ALICE, 0, contiguity, Private),
            Err(AllocateError::ZeroLength)
        );
    }
    let first = AddrRange::new(BusAddr::new(0), 4096).unwrap();
    assert!(pool.take_dirty(first).is_none());
    assert_eq!(pool.release_owner(ALICE).freed, 0);
    assert_eq!(pool.usage(), empty);
    let run = Run::new(BASE, 4096).unwrap();
    assert_eq!(NoScrub.scrub(run), Err(NotScrubbed));
}
