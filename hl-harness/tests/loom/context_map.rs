//! Two threads of one process, one open file: the real `Context`.

use std::sync::Arc;

use crate::rig::Weak;
use crate::rig::device::Faulted;
use crate::rig::hold::Hold;
use crate::rig::pages::Owner;
use crate::rig::port::{FIRST_ADDRESS, Machine, ModelContext, map, unmap};
use crate::{expect_failure, explore};

const USER: u16 = 1;
const PROCESS: Owner = 7;

const NOT_FOUND: &str = "the device does not find what is mapped";
const STILL_FOUND: &str = "the device finds what is unmapped";

/// Maps a page, has the device access it, and unmaps it.
fn round(machine: &Machine, context: &ModelContext) {
    let hardware = machine.rig.hardware;
    let at = map(context);
    assert_eq!(hardware.access(USER, at), Ok(PROCESS), "{NOT_FOUND}");
    unmap(context, at);
}

/// Two threads do that, and so share the address space, the MMU, and the batches of removals.
fn two_rounds(weak: Option<Weak>) {
    Hold::run(move |hold| {
        let machine = Machine::new(hold, 2, weak);
        let before = machine.counters();
        let context = Arc::new(machine.open(hold, PROCESS));
        let other = Arc::clone(&context);
        hold.spawn(move || round(machine, &other));
        round(machine, &context);
        hold.join();
        let access = machine.rig.hardware.access(USER, FIRST_ADDRESS);
        assert_eq!(access, Err(Faulted), "{STILL_FOUND}");
        let context = Arc::into_inner(context).expect("the threads have ended");
        context.close().unwrap();
        assert_eq!(machine.counters(), before);
    });
}

/// Proves, for two threads that each map, access and unmap a page in one address space, whose
/// leaves share tables: the device finds each page from the moment its map returned; a removal
/// that the other thread's invalidation confirmed is as good as one confirmed by one's own; no page
/// is unpinned within the device's reach; and in the end everything is back.
#[test]
fn two_threads_of_a_process_map_and_unmap() {
    explore(
        "two threads map, access and unmap in one file: each finds its page, nothing is lost",
        || two_rounds(None),
    );
}

/// As in the model of neighbours: a table that one thread has unlinked is in the MMU's cache until
/// the removal is confirmed, and the other's new table in its place is not found.
#[test]
fn a_mapping_that_is_not_announced_is_found() {
    expect_failure("announcing a mapping does nothing", NOT_FOUND, || {
        two_rounds(Some(Weak::AnnouncesNothing));
    });
}

#[test]
fn an_invalidation_that_forgets_nothing_is_found() {
    expect_failure(
        "the invalidation reports success and keeps the translation",
        "an access went to a free page",
        || two_rounds(Some(Weak::ForgetsNothing)),
    );
}
