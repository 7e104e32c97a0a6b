//! Tearing down while the device works: the real `Device` and `Context`.

use crate::rig::device::Faulted;
use crate::rig::hold::Hold;
use crate::rig::lock::ModelLock;
use crate::rig::pages::Owner;
use crate::rig::port::{FIRST_ADDRESS, Machine, map, unmap};
use crate::rig::{Rig, Weak};
use crate::{RACE, expect_failure, explore};

const PRIVILEGED: u16 = 0;
const USER: u16 = 1;
const PROCESS: Owner = 7;
const NEXT_PROCESS: Owner = 8;

const FAULTED: &str = "the engine faulted in its own block";
const ANOTHERS: &str = "an access went to another's page";
const FREE_PAGE: &str = "an access went to a free page";

/// How a file comes to its end.
#[derive(Clone, Copy)]
enum End {
    /// The user gives up what he has, and closes then.
    OneByOne,
    /// He closes.
    Close,
}

/// An engine writes into a block until it is told to stop, while the block is given up.
fn give_up_a_block(end: End, weak: Option<Weak>) {
    Hold::run(move |hold| {
        let machine = Machine::new(hold, 1, weak);
        let before = machine.counters();
        let context = machine.open(hold, PROCESS);
        let (handle, block) = context.create_block(&machine.privilege, 1).unwrap();
        let range = machine
            .device
            .block_range(&machine.privilege, block)
            .unwrap();
        let hardware = machine.rig.hardware;
        hold.spawn(move || {
            for _ in 0..2 {
                match hardware.engine_access(PRIVILEGED, range.start()) {
                    Some(access) => assert!(access.is_ok(), "{FAULTED}"),
                    None => return,
                }
            }
        });
        if let End::OneByOne = end {
            context.destroy_block(handle).unwrap();
        }
        let left = context.close().unwrap();
        assert_eq!(left.handles, u32::from(matches!(end, End::Close)));
        assert_eq!(machine.counters(), before);
        // Whoever gets the page now shares it with nobody.
        let page = machine.rig.pages.allocate(NEXT_PROCESS).unwrap();
        machine.rig.pages.free(page);
    });
}

/// Proves that a producer at work never faults while its block is destroyed, and never touches the
/// block's page once somebody else may have it.
#[test]
fn a_block_is_destroyed_after_its_producer_has_stopped() {
    explore(
        "a block is destroyed under a working producer: it never faults, never hits a freed page",
        || give_up_a_block(End::OneByOne, None),
    );
}

/// Proves the same for a file that is closed with a block left over.
#[test]
fn a_file_is_closed_under_a_working_producer() {
    explore(
        "the same where the file is closed with the block left over",
        || give_up_a_block(End::Close, None),
    );
}

#[test]
fn an_engine_that_is_said_to_have_stopped_is_found_when_a_block_is_destroyed() {
    expect_failure(
        "an engine is said to have stopped while its access is under way",
        FAULTED,
        || give_up_a_block(End::OneByOne, Some(Weak::StopsTooEarly)),
    );
}

#[test]
fn an_engine_that_is_said_to_have_stopped_is_found_when_a_file_is_closed() {
    expect_failure(
        "an engine is said to have stopped while its access is under way",
        FAULTED,
        || give_up_a_block(End::Close, Some(Weak::StopsTooEarly)),
    );
}

/// The device accesses a user's page twice. Nobody stops it: that is what users do.
fn access_as_the_user(hold: &Hold, rig: Rig<ModelLock>) {
    hold.spawn(move || {
        let mut gone = false;
        for _ in 0..2 {
            match rig.hardware.access(USER, FIRST_ADDRESS) {
                Ok(owner) => {
                    assert_eq!(owner, PROCESS, "{ANOTHERS}");
                    assert!(!gone, "what was unmapped is there again");
                }
                Err(Faulted) => gone = true,
            }
        }
    });
}

/// A user gives up a mapping while his own work on the device goes on.
fn give_up_a_mapping(end: End, weak: Option<Weak>) {
    Hold::run(move |hold| {
        let machine = Machine::new(hold, 1, weak);
        let before = machine.counters();
        let context = machine.open(hold, PROCESS);
        let at = map(&context);
        assert_eq!(at, FIRST_ADDRESS);
        access_as_the_user(hold, machine.rig);
        if let End::OneByOne = end {
            unmap(&context, at);
        }
        let left = context.close().unwrap();
        assert_eq!(left.mappings, u32::from(matches!(end, End::Close)));
        assert_eq!(machine.counters(), before);
        machine.rig.pages.allocate(NEXT_PROCESS).unwrap();
        let access = machine.rig.hardware.access(USER, FIRST_ADDRESS);
        assert_eq!(access, Err(Faulted), "{ANOTHERS}");
    });
}

/// Proves that DMA of a user that nobody stops reaches the user's own page or faults while that is
/// unmapped, and never a page that is unpinned.
#[test]
fn a_page_is_unpinned_out_of_the_devices_reach() {
    explore(
        "a page is unmapped under DMA: the DMA reaches it or faults, never an unpinned page",
        || give_up_a_mapping(End::OneByOne, None),
    );
}

/// Proves the same for a file that is closed with the mapping left over.
#[test]
fn a_file_is_closed_under_dma() {
    explore(
        "the same where the file is closed with the mapping left over",
        || give_up_a_mapping(End::Close, None),
    );
}

#[test]
fn an_invalidation_that_forgets_nothing_is_found_when_a_page_is_unmapped() {
    expect_failure(
        "the invalidation reports success and keeps the translation",
        ANOTHERS,
        || give_up_a_mapping(End::OneByOne, Some(Weak::ForgetsNothing)),
    );
}

#[test]
fn an_invalidation_that_does_not_wait_is_found_when_a_file_is_closed() {
    expect_failure(
        "the invalidation does not wait for accesses under way",
        RACE,
        || give_up_a_mapping(End::Close, Some(Weak::DoesNotWait)),
    );
}

/// The device does not confirm a removal at first; planted: the host takes the page back all the
/// same.
fn fail_to_give_up_a_mapping(believed: bool) {
    Hold::run(move |hold| {
        let machine = Machine::new(hold, 1, None);
        let before = machine.counters();
        let context = machine.open(hold, PROCESS);
        let at = map(&context);
        access_as_the_user(hold, machine.rig);
        machine.rig.hardware.fail_invalidations(2);
        assert!(context.unmap(at).is_err());
        assert_eq!(
            (context.usage().quarantined, machine.rig.pages.free_count()),
            (1, 0)
        );
        if believed {
            machine.rig.pages.give_away(NEXT_PROCESS);
        }
        let context = context.close().unwrap_err().into_context();
        assert_eq!(
            (context.usage().quarantined, machine.rig.pages.free_count()),
            (1, 0)
        );
        context.close().unwrap();
        assert_eq!(machine.counters(), before);
        machine.rig.pages.allocate(NEXT_PROCESS).unwrap();
        let access = machine.rig.hardware.access(USER, FIRST_ADDRESS);
        assert_eq!(access, Err(Faulted), "{ANOTHERS}");
    });
}

/// Proves that what a failed invalidation leaves unknown stays where it is, under DMA, until a later
/// one is confirmed.
#[test]
fn a_removal_that_is_not_confirmed_frees_nothing() {
    explore(
        "two invalidations fail under DMA: the page stays pinned until the third is confirmed",
        || fail_to_give_up_a_mapping(false),
    );
}

/// What the habanalabs driver does (facts UN-3).
#[test]
fn a_page_that_is_freed_after_a_failed_invalidation_is_found() {
    expect_failure(
        "the page is another's after an invalidation that failed",
        ANOTHERS,
        || fail_to_give_up_a_mapping(true),
    );
}

/// A file is closed under DMA and another is opened, which gets the same ASID and, for its own page,
/// the same address.
fn reuse_an_asid(weak: Option<Weak>) {
    Hold::run(move |hold| {
        let machine = Machine::new(hold, 2, weak);
        let before = machine.counters();
        let first = machine.open(hold, PROCESS);
        assert_eq!(first.asid().get(), USER);
        map(&first);
        let hardware = machine.rig.hardware;
        hold.spawn(move || {
            // His page, then nothing, then the next one's: never back.
            let mut seen = PROCESS;
            for _ in 0..2 {
                if let Ok(owner) = hardware.access(USER, FIRST_ADDRESS) {
                    assert!(owner >= seen, "{ANOTHERS}");
                    seen = owner;
                } else {
                    seen = NEXT_PROCESS;
                }
            }
        });
        first.close().unwrap();
        assert_eq!(machine.counters(), before);
        let next = machine.open(hold, NEXT_PROCESS);
        assert_eq!(next.asid().get(), USER);
        let access = hardware.access(USER, FIRST_ADDRESS);
        assert_eq!(access, Err(Faulted), "{ANOTHERS}");
        assert_eq!(map(&next), FIRST_ADDRESS);
        let access = hardware.access(USER, FIRST_ADDRESS);
        assert_eq!(access, Ok(NEXT_PROCESS), "{ANOTHERS}");
        hold.join();
        next.close().unwrap();
        assert_eq!(machine.counters(), before);
    });
}

/// Proves that an ASID that goes from one file to the next brings nothing along: the device never
/// reaches the first file's page again, and under the next file's ASID only its page.
#[test]
fn an_asid_brings_nothing_along() {
    explore(
        "an ASID goes to another file under DMA: no access goes back to the first one's page",
        || reuse_an_asid(None),
    );
}

#[test]
fn an_invalidation_that_forgets_nothing_is_found_when_an_asid_is_reused() {
    expect_failure(
        "the first file's translations are kept when its ASID is given away",
        FREE_PAGE,
        || reuse_an_asid(Some(Weak::ForgetsNothing)),
    );
}
