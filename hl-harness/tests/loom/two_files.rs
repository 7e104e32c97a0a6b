//! Two open files, each with an address space of its own: the real `Device` and two `Context`s.
//!
//! The MMU and its lock, the pool of tables and the pages of the host are shared. The root tables, the
//! batches of removals and what an invalidation covers are not.

use std::sync::Arc;

use crate::rig::Weak;
use crate::rig::device::Faulted;
use crate::rig::hold::Hold;
use crate::rig::pages::Owner;
use crate::rig::port::{FIRST_ADDRESS, Machine, ModelContext, map, unmap};
use crate::{expect_failure, explore};

const USER: u16 = 1;
const PROCESS: Owner = 7;
const NEIGHBOUR: u16 = 2;
const NEIGHBOURING: Owner = 8;

const FREE_PAGE: &str = "an access went to a free page";
const MIXED: &str = "the files are mixed up";
const NOT_KEPT: &str = "what failed to be removed is not kept";

/// Opens the files of both users.
fn open_both(hold: &Hold, machine: &'static Machine) -> [ModelContext; 2] {
    let files = [PROCESS, NEIGHBOURING].map(|process| machine.open(hold, process));
    let asids = files.each_ref().map(|file| file.asid().get());
    assert_eq!(asids, [USER, NEIGHBOUR]);
    files
}

/// An access of the neighbour's work, which finds his own page or none. Whether it found one.
fn access_as_the_neighbour(machine: &Machine) -> bool {
    let access = machine.rig.hardware.access(NEIGHBOUR, FIRST_ADDRESS);
    if let Ok(owner) = access {
        assert_eq!(owner, NEIGHBOURING, "{MIXED}");
    }
    access.is_ok()
}

/// How the neighbour gives up what he has.
#[derive(Clone, Copy)]
enum End {
    Unmap,
    Close,
}

/// One user maps a page, has the device access it, and unmaps it, while the device works for his
/// neighbour and that one gives up the page that he has, at the same device address.
fn one_maps_while_the_other_ends(end: End, weak: Option<Weak>) {
    Hold::run(move |hold| {
        let machine = Machine::for_users(hold, 2, 2, weak);
        let before = machine.counters();
        let [user, neighbour] = open_both(hold, machine);
        assert_eq!(map(&neighbour), FIRST_ADDRESS);
        let hardware = machine.rig.hardware;
        assert!(access_as_the_neighbour(machine), "{MIXED}");
        hold.spawn(move || {
            assert_eq!(map(&user), FIRST_ADDRESS);
            let found = access_as_the_neighbour(machine);
            let own = hardware.access(USER, FIRST_ADDRESS);
            assert_eq!(own, Ok(PROCESS), "{MIXED}");
            unmap(&user, FIRST_ADDRESS);
            assert_eq!(hardware.access(USER, FIRST_ADDRESS), Err(Faulted));
            assert!(
                found || !access_as_the_neighbour(machine),
                "what was unmapped is there again"
            );
            user.close().unwrap();
        });
        let neighbour = match end {
            End::Unmap => {
                unmap(&neighbour, FIRST_ADDRESS);
                Some(neighbour)
            }
            End::Close => {
                assert_eq!(neighbour.close().unwrap().mappings, 1);
                None
            }
        };
        assert!(!access_as_the_neighbour(machine), "{MIXED}");
        hold.join();
        if let Some(neighbour) = neighbour {
            neighbour.close().unwrap();
        }
        assert_eq!(machine.counters(), before);
    });
}

#[test]
fn a_page_is_mapped_while_a_neighbour_unmaps_his() {
    explore(
        "one file maps and unmaps while another unmaps, at one address: each reaches its own page only",
        || one_maps_while_the_other_ends(End::Unmap, None),
    );
}

#[test]
fn a_page_is_mapped_while_a_neighbour_closes_his_file() {
    explore(
        "the same while the other is closed with the mapping left over",
        || {
            one_maps_while_the_other_ends(End::Close, None);
        },
    );
}

#[test]
fn an_answer_that_is_taken_for_two_is_found() {
    expect_failure(
        "one's invalidation is taken for the other's, too",
        FREE_PAGE,
        || one_maps_while_the_other_ends(End::Unmap, Some(Weak::AnswersTwice)),
    );
}

/// Both users give up a page while the device works for the neighbour. One of the two invalidations
/// fails, whichever is the first.
fn one_is_not_confirmed(weak: Option<Weak>) {
    Hold::run(move |hold| {
        let machine = Machine::for_users(hold, 2, 2, weak);
        let before = machine.counters();
        let [user, neighbour] = open_both(hold, machine);
        for file in [&user, &neighbour] {
            assert_eq!(map(file), FIRST_ADDRESS);
        }
        machine.rig.hardware.fail_invalidations(1);
        let user = Arc::new(user);
        let other = Arc::clone(&user);
        hold.spawn(move || {
            access_as_the_neighbour(machine);
            let _ = other.unmap(FIRST_ADDRESS);
            access_as_the_neighbour(machine);
        });
        let _ = neighbour.unmap(FIRST_ADDRESS);
        hold.join();
        let user = Arc::into_inner(user).expect("the threads have ended");
        let waiting = [&user, &neighbour].map(|file| file.usage().quarantined);
        assert!(matches!(waiting, [0, 1] | [1, 0]), "{NOT_KEPT}");
        assert_eq!(machine.rig.pages.free_count(), 1, "{MIXED}");
        for file in [user, neighbour] {
            file.close().unwrap();
        }
        assert!(!access_as_the_neighbour(machine), "{MIXED}");
        assert_eq!(machine.counters(), before);
    });
}

#[test]
fn a_removal_is_not_confirmed_by_a_neighbours_invalidation() {
    explore(
        "two files unmap, one invalidation fails: that file's page stays pinned, the other's goes",
        || one_is_not_confirmed(None),
    );
}

#[test]
fn an_invalidation_that_fails_and_is_believed_is_found() {
    expect_failure(
        "an invalidation that failed is taken for a confirmation",
        NOT_KEPT,
        || one_is_not_confirmed(Some(Weak::BelievesTheDead)),
    );
}
