//! What one owner wrote and another must not read: pages that are dirty, scrubbed, and lost.

use super::*;

#[test]
fn memory_of_one_owner_reaches_another_only_after_it_has_been_scrubbed() {
    with_pool(PAGE, 2, |pool| {
        let pack = pool.allocate(ALICE, 2 * PAGE, Scattered, Private).unwrap();
        pool.free(pack, ALICE).unwrap();
        let all = pages(PAGE, 0, 2);
        for contiguity in [Contiguous, Scattered] {
            let refused = pool.allocate(BOB, 2 * PAGE, contiguity, Private);
            assert_eq!(refused, Err(AllocateError::Unscrubbed { first: all }));
        }
        // No more than is needed.
        let first = pages(PAGE, 0, 1);
        let refused = pool.allocate(BOB, PAGE, Scattered, Private);
        assert_eq!(refused, Err(AllocateError::Unscrubbed { first }));

        let dirty = pool.take_dirty(first).unwrap();
        let refused = pool.allocate(BOB, 2 * PAGE, Contiguous, Private);
        assert_eq!(
            refused,
            Err(AllocateError::ScrubUnderWay),
            "the other page alone is not enough"
        );
        let mut port = Port::default();
        let scrubbed = dirty.scrub(&mut port).unwrap();
        assert_eq!(port.0, [first]);
        pool.return_scrubbed(scrubbed).unwrap();
        let pack = pool.allocate(BOB, PAGE, Scattered, Private).unwrap();
        assert_eq!(runs(pool, pack, BOB), [first]);
    });
}

#[test]
fn an_owner_gets_its_own_memory_back_unscrubbed_but_not_to_share_it() {
    with_pool(PAGE, 4, |pool| {
        let pack = pool.allocate(ALICE, 4 * PAGE, Scattered, Private).unwrap();
        pool.free(pack, ALICE).unwrap();
        let shared = pool.allocate(ALICE, PAGE, Scattered, Shared);
        assert!(matches!(shared, Err(AllocateError::Unscrubbed { .. })));
        let private = pool.allocate(ALICE, PAGE, Scattered, Private).unwrap();
        pool.free(private, ALICE).unwrap();
        assert_eq!(usage_in_pages(pool.usage()), [0, 4, 0, 0]);
    });
}

#[test]
fn what_an_owner_left_is_not_for_the_next_owner_of_the_same_number() {
    with_pool(PAGE, 2, |pool| {
        let freed = pool.allocate(ALICE, PAGE, Scattered, Private).unwrap();
        pool.allocate(ALICE, PAGE, Scattered, Private).unwrap();
        pool.free(freed, ALICE).unwrap();
        pool.release_owner(ALICE);
        for size in [PAGE, 2 * PAGE] {
            let refused = pool.allocate(ALICE, size, Contiguous, Private);
            assert!(matches!(refused, Err(AllocateError::Unscrubbed { .. })));
        }
    });
}

#[test]
fn memory_of_unknown_content_is_scrubbed_before_its_first_use() {
    with_content(PAGE, 2, DramContent::Unknown, |pool| {
        let refused = pool.allocate(ALICE, PAGE, Scattered, Private);
        assert!(matches!(refused, Err(AllocateError::Unscrubbed { .. })));
        scrub_everything(pool);
        pool.allocate(ALICE, 2 * PAGE, Scattered, Private).unwrap();
    });
}

/// As in a reset: pages that are clean, that an owner left, that are being scrubbed, and packs.
#[test]
fn memory_that_lost_its_content_is_scrubbed_and_its_packs_are_only_freed() {
    with_pool(PAGE, 6, |pool| {
        let kept = pool.allocate(ALICE, PAGE, Scattered, Shared).unwrap();
        let left = pool.allocate(ALICE, 2 * PAGE, Scattered, Private).unwrap();
        let mapped = pool.allocate(BOB, PAGE, Scattered, Private).unwrap();
        let hold = pool.hold(mapped, BOB).unwrap();
        pool.free(left, ALICE).unwrap();
        // Taken before, and scrubbed before: nobody knows what is there since.
        let scrubs = |pool: &mut DramPool<'_>| {
            let dirty = pool.take_dirty(pages(PAGE, 1, 1)).unwrap();
            dirty.scrub(&mut Port::default()).unwrap()
        };
        let scrubbed = scrubs(pool);
        assert_eq!(usage_in_pages(pool.usage()), [2, 1, 1, 2]);
        pool.lose_content();
        assert_eq!(usage_in_pages(pool.usage()), [0, 3, 1, 2]);
        pool.return_scrubbed(scrubbed).unwrap();
        assert_eq!(usage_in_pages(pool.usage()), [0, 4, 0, 2]);
        // One that is taken and scrubbed now is clean.
        let scrubbed = scrubs(pool);
        pool.return_scrubbed(scrubbed).unwrap();
        assert_eq!(usage_in_pages(pool.usage()), [1, 3, 0, 2]);

        let infos: Vec<_> = pool.packs().map(|(_, info)| info.lost).collect();
        assert_eq!(infos, [true, true]);
        assert_eq!(pool.hold(kept, ALICE), Err(PackError::Lost));
        assert_eq!(pool.hold(kept, BOB), Err(PackError::Lost));
        assert_eq!(pool.hold(mapped, ALICE), Err(PackError::NotOwner));
        assert_eq!(pool.hold_again(&hold), Err(PackError::Lost));
        assert_eq!(pool.free(kept, BOB), Err(PackError::NotOwner));
        pool.free(kept, ALICE).unwrap();
        pool.release(hold).unwrap();
        pool.free(mapped, BOB).unwrap();
        // Not even their owner, or who left something, gets any of it as it is.
        assert_eq!(usage_in_pages(pool.usage()), [1, 5, 0, 0]);
        for owner in [ALICE, BOB] {
            let refused = pool.allocate(owner, 2 * PAGE, Scattered, Private);
            assert!(matches!(refused, Err(AllocateError::Unscrubbed { .. })));
        }
        scrub_everything(pool);
        let pack = pool.allocate(BOB, 6 * PAGE, Scattered, Shared).unwrap();
        let hold = pool.hold(pack, ALICE).unwrap();
        pool.release(hold).unwrap();
    });
}

#[test]
fn a_scrub_that_fails_loses_nothing_and_makes_nothing_clean() {
    with_content(PAGE, 4, DramContent::Unknown, |pool| {
        let run = pool.next_dirty(3).unwrap();
        assert_eq!(run, pages(PAGE, 0, 3));
        let dirty = pool.take_dirty(run).unwrap();
        assert_eq!(usage_in_pages(pool.usage()), [0, 1, 3, 0]);
        assert_eq!(pool.take_dirty(run), None, "someone has them already");
        let failed = dirty.scrub(&mut BrokenPort).unwrap_err();
        assert_eq!(failed.error, "no answer");
        let told = failed.to_string();
        assert!(told.contains(&run.to_string()) && told.ends_with("no answer"));
        // A second attempt, then back.
        let failed = failed.dirty.scrub(&mut BrokenPort).unwrap_err();
        pool.return_dirty(failed.dirty).unwrap();
        assert_eq!(usage_in_pages(pool.usage()), [0, 4, 0, 0]);
        let refused = pool.allocate(ALICE, PAGE, Scattered, Private);
        assert!(matches!(refused, Err(AllocateError::Unscrubbed { .. })));
    });
}

#[test]
fn a_port_that_has_no_fill_overwrites_what_is_to_be_filled() {
    let mut port = Port::default();
    let run = pages(PAGE, 3, 2);
    port.fill(run, 0x99).unwrap();
    assert_eq!(port.0, [run]);
    assert_eq!(BrokenPort.fill(run, 0x99), Err("no answer"));
}

#[test]
fn only_whole_pages_that_are_dirty_can_be_taken_to_be_scrubbed() {
    with_pool(PAGE, 4, |pool| {
        let pack = pool.allocate(ALICE, 2 * PAGE, Scattered, Private).unwrap();
        let take = |pool: &mut DramPool<'_>, run: Run| pool.take_dirty(run).map(drop);
        assert_eq!(take(pool, pages(PAGE, 0, 1)), None, "in a pack");
        assert_eq!(take(pool, pages(PAGE, 2, 1)), None, "clean");
        pool.free(pack, ALICE).unwrap();
        assert_eq!(take(pool, pages(PAGE, 1, 2)), None, "half of it clean");
        assert_eq!(take(pool, pages(PAGE, 0, 5)), None, "out of the region");
        let inside = AddrRange::new(BASE.checked_add(4096).unwrap(), PAGE).unwrap();
        assert_eq!(take(pool, inside), None, "not on page boundaries");
        let below = AddrRange::new(BusAddr::new(0), PAGE).unwrap();
        assert_eq!(take(pool, below), None, "below the region");
        assert_eq!(usage_in_pages(pool.usage()), [2, 2, 0, 0]);
    });
}

#[test]
fn scrubbing_ahead_begins_with_what_nobody_can_use() {
    with_pool(PAGE, 3, |pool| {
        let mine = pool.allocate(ALICE, PAGE, Scattered, Private).unwrap();
        let gone = pool.allocate(BOB, PAGE, Scattered, Private).unwrap();
        pool.free(mine, ALICE).unwrap();
        pool.free(gone, BOB).unwrap();
        pool.release_owner(BOB);
        let mut order = Vec::<DirtyRun>::new();
        while let Some(run) = pool.next_dirty(8) {
            order.extend(pool.take_dirty(run));
        }
        let order: Vec<_> = order.iter().map(DirtyRun::run).collect();
        assert_eq!(order, [pages(PAGE, 1, 1), pages(PAGE, 0, 1)]);
    });
}
