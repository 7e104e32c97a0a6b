//! The device is lost and reset while operations are in flight: the real `Device` and `Context`, over
//! tables in device memory.
//!
//! A lost device answers nothing and goes on with what it is doing. A reset ends that; it leaves
//! garbage in place of the tables, no roots, and in the MMU whatever was cached. Between the two, and
//! between the reset and [`Device::recover`](hl_mem::Device::recover), anything can happen: here it
//! does.

use std::sync::Arc;

use hl_mem::device::BlockPages;
use hl_mem::dram::DramContent;
use loom::sync::Mutex;
use mmu_core::DeviceAddr;

use crate::rig::Weak;
use crate::rig::device::Faulted;
use crate::rig::hold::Hold;
use crate::rig::pages::{Owner, PAGE_BYTES};
use crate::rig::port::{BusTables, FIRST_ADDRESS, ModelContext, map, try_map};
use crate::{RACE, expect_failure_in_large, explore_large};

const PRIVILEGED: u16 = 0;
const USER: u16 = 1;
const PROCESS: Owner = 7;
const NEXT_PROCESS: Owner = 8;

const ANOTHERS: &str = "an access went to another's page";
const GARBAGE: &str = "which nobody mapped";

type Machine = crate::rig::port::Machine<BusTables>;
type Context = ModelContext<BusTables>;

/// The device is lost, reset, and brought back; `meanwhile` it goes on with something.
fn reset(machine: &Machine, meanwhile: impl FnOnce()) {
    machine.rig.hardware.lose();
    meanwhile();
    machine.rig.hardware.reset();
    machine
        .device
        .recover(DramContent::Unknown)
        .expect("the device answers");
}

/// An access of the user's work on the device, which finds the user's page or none.
fn access_as_the_user(machine: &Machine) {
    if let Ok(owner) = machine.rig.hardware.access(USER, FIRST_ADDRESS) {
        assert_eq!(owner, PROCESS, "{ANOTHERS}");
    }
}

/// Nothing is mapped beside an address, one entry further in the table of each hop.
fn check_beside(machine: &Machine, asid: u16, at: DeviceAddr) {
    for shift in [12, 21, 30, 39] {
        let beside = DeviceAddr::new(at.get() + (1 << shift));
        let access = machine.rig.hardware.access(asid, beside);
        assert_eq!(access, Err(Faulted));
    }
}

/// Closes a file after a reset, with which everything comes back; then the next one finds nothing of
/// what the reset left in the tables that it gets.
fn close_and_reuse(hold: &Hold, machine: &'static Machine, context: Context) {
    close_and_reuse_after(hold, machine, context, || ());
}

/// The same, with something in between.
fn close_and_reuse_after(
    hold: &Hold,
    machine: &'static Machine,
    context: Context,
    between: impl FnOnce(),
) {
    let asid = context.asid();
    context.close().expect("the device confirms");
    let before = machine.counters();
    between();
    let next = machine.open(hold, NEXT_PROCESS);
    assert_eq!(next.asid(), asid);
    let hardware = machine.rig.hardware;
    assert_eq!(map(&next), FIRST_ADDRESS);
    assert_eq!(hardware.access(USER, FIRST_ADDRESS), Ok(NEXT_PROCESS));
    check_beside(machine, USER, FIRST_ADDRESS);
    next.close().expect("the device confirms");
    assert_eq!(machine.counters(), before);
}

/// Does something on threads with one file of a machine that has tables for `paths` mappings and so many
/// pages. In the end the file is closed, and everything is as before and anybody's.
fn with_threads(
    paths: usize,
    pages: usize,
    weak: Option<Weak>,
    work: impl FnOnce(&Hold, &'static Machine, &Arc<Context>) + 'static,
) {
    Hold::run(move |hold| {
        let machine = Machine::behind_bus(hold, paths, pages, weak);
        let before = machine.counters();
        let context = Arc::new(machine.open(hold, PROCESS));
        work(hold, machine, &context);
        hold.join();
        let context = Arc::into_inner(context).expect("the threads have ended");
        close_and_reuse(hold, machine, context);
        assert_eq!(machine.counters(), before);
    });
}

/// What a user is doing with his file when the device is reset.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Doing {
    Maps,
    Unmaps,
    Closes,
}

/// A user does something while his work on the device goes on and that is reset; planted: its memory
/// loses its content once more, and nobody is told.
fn reset_while(doing: Doing, told: bool, weak: Option<Weak>) {
    Hold::run(move |hold| {
        let machine = Machine::behind_bus(hold, 2, 2, weak);
        let before = machine.counters();
        let context = machine.open(hold, PROCESS);
        assert_eq!(map(&context), FIRST_ADDRESS);
        let (hardware, pages) = (machine.rig.hardware, machine.rig.pages);
        let left = &*hold.keep(Mutex::new(None));
        hold.spawn(move || {
            let context = match doing {
                Doing::Maps => {
                    let _ = try_map(&context);
                    context
                }
                Doing::Unmaps => {
                    let _ = context.unmap(FIRST_ADDRESS);
                    context
                }
                Doing::Closes => match context.close() {
                    Ok(_) => return,
                    Err(refused) => refused.into_context(),
                },
            };
            *left.lock().unwrap() = Some(context);
        });
        reset(machine, || access_as_the_user(machine));
        // Whoever gets a page now shares it with nobody.
        let page = pages.allocate(NEXT_PROCESS);
        let access = hardware.access(USER, FIRST_ADDRESS);
        assert_eq!(access, Err(Faulted), "{ANOTHERS}");
        hold.join();
        if let Some(page) = page {
            pages.free(page);
        }
        let context = left.lock().unwrap().take();
        let context = context.unwrap_or_else(|| machine.open(hold, PROCESS));
        close_and_reuse_after(hold, machine, context, || {
            if !told {
                let other = machine.open(hold, PROCESS);
                map(&other);
                other.close().expect("the device confirms");
                hardware.lose_tables();
            }
        });
        assert_eq!(machine.counters(), before);
    });
}

#[test]
fn a_page_is_mapped_while_the_device_is_reset() {
    explore_large(
        "a reset during a map: the page is its owner's alone, all comes back, no garbage is walked",
        || reset_while(Doing::Maps, true, None),
    );
}

#[test]
fn a_page_is_unmapped_while_the_device_is_reset() {
    explore_large("the same during an unmap", || {
        reset_while(Doing::Unmaps, true, None);
    });
}

#[test]
fn a_file_is_closed_while_the_device_is_reset() {
    explore_large("the same during the closing of a file", || {
        reset_while(Doing::Closes, true, None);
    });
}

/// Takes pages of the host back while the lost device still uses them.
#[test]
fn a_dead_device_that_is_believed_is_found() {
    expect_failure_in_large(
        "a device that does not answer is believed to have forgotten a page, which it uses",
        RACE,
        || reset_while(Doing::Unmaps, true, Some(Weak::BelievesTheDead)),
    );
}

#[test]
fn a_loss_that_nobody_is_told_of_is_found() {
    expect_failure_in_large(
        "tables lose their content and nobody is told: they are believed to be zero",
        GARBAGE,
        || reset_while(Doing::Unmaps, false, None),
    );
}

/// The device is lost, and then a page is unmapped, which stays in quarantine. Two threads try to
/// settle that, one of which is the one that resets the device, while the device uses the page.
fn settle_twice(weak: Option<Weak>) {
    with_threads(1, 1, weak, |hold, machine, context| {
        map(context);
        machine.rig.hardware.lose();
        let _ = context.unmap(FIRST_ADDRESS);
        let user = Arc::clone(context);
        hold.spawn(move || {
            let _ = user.settle_quarantine();
        });
        reset(machine, || access_as_the_user(machine));
        let _ = context.settle_quarantine();
        hold.join();
        context.settle_quarantine().expect("the device confirms");
        let left = (context.usage().mappings, machine.rig.pages.free_count());
        assert_eq!(left, (0, 1));
    });
}

/// Proves that what a lost device holds in quarantine is released by the confirmed reset, and once.
#[test]
fn a_reset_releases_what_is_in_quarantine_once() {
    explore_large(
        "two threads settle a quarantine around a reset: it is released after it, and once",
        || settle_twice(None),
    );
}

#[test]
fn a_quarantine_that_a_dead_device_ends_is_found() {
    expect_failure_in_large(
        "a device that does not answer is believed to have forgotten a page in quarantine",
        "an access went to a free page",
        || settle_twice(Some(Weak::BelievesTheDead)),
    );
}

/// A user maps a second page, which takes him long: meanwhile the device is reset, another thread of
/// his unmaps the first page, and the device is reset once more; planted: its memory loses its content,
/// and nobody is told.
fn map_across_two_resets(told: bool) {
    with_threads(2, 2, None, move |hold, machine, context| {
        assert_eq!(map(context), FIRST_ADDRESS);
        let user = Arc::clone(context);
        let second = &*hold.keep(Mutex::new(None));
        hold.spawn(move || *second.lock().unwrap() = try_map(&user).ok());
        reset(machine, || ());
        let _ = context.unmap(FIRST_ADDRESS);
        if told {
            reset(machine, || ());
        } else {
            machine.rig.hardware.lose_tables();
        }
        hold.join();
        if let Some(at) = second.lock().unwrap().take() {
            context.unmap(at).expect("the device confirms");
        }
        // Gets the tables before the file is closed.
        let block = machine
            .device
            .create_block(&machine.privilege, PAGE_BYTES, BlockPages::Scattered)
            .unwrap();
        let range = machine
            .device
            .block_range(&machine.privilege, block)
            .unwrap();
        check_beside(machine, PRIVILEGED, range.start());
        machine
            .device
            .destroy_block(&machine.privilege, block)
            .expect("the device confirms");
    });
}

/// Proves that tables which are written between two resets are not taken for empty ones after the
/// second, whichever way the first was noticed.
#[test]
fn a_map_across_two_resets_leaves_nothing_behind() {
    explore_large(
        "a map that takes longer than a reset leaves no garbage in its tables after the next",
        || map_across_two_resets(true),
    );
}

#[test]
fn a_second_loss_that_nobody_is_told_of_is_found() {
    expect_failure_in_large(
        "a map takes longer than a reset, and tables lose their content again, of which nobody is told",
        GARBAGE,
        || map_across_two_resets(false),
    );
}

/// A user looks at his block and its engine writes into it while the device is reset; then the block
/// is destroyed. Planted: the view is used after its end.
fn reset_under_a_block(late: bool) {
    with_threads(2, 1, None, move |hold, machine, context| {
        let (handle, block) = context
            .create_block(&machine.privilege, PAGE_BYTES)
            .unwrap();
        let range = machine
            .device
            .block_range(&machine.privilege, block)
            .unwrap();
        let hardware = machine.rig.hardware;
        hold.spawn(move || {
            // An access to a page that is free by then would end the model.
            let _ = hardware.engine_access(PRIVILEGED, range.start());
        });
        let user = Arc::clone(context);
        hold.spawn(move || {
            if let Ok(view) = user.mmap(handle, PAGE_BYTES) {
                let seen = *view.view();
                user.device().host().read(&seen);
                user.device().end_view(view).unwrap();
                if late {
                    user.device().host().read(&seen);
                }
            }
        });
        reset(machine, || ());
        context.destroy_block(handle).expect("the device confirms");
        hold.join();
        let access = hardware.access(PRIVILEGED, range.start());
        assert_eq!(access, Err(Faulted));
    });
}

/// Proves that a block outlives a reset for whoever looks at it, and no longer for the device.
#[test]
fn a_view_outlives_a_reset() {
    explore_large(
        "mmap and a working engine during a reset: the view shows its block until it is ended",
        || reset_under_a_block(false),
    );
}

#[test]
fn a_view_that_is_used_after_its_end_is_found_when_the_device_is_reset() {
    expect_failure_in_large(
        "a user reads a view after it was reported ended",
        RACE,
        || reset_under_a_block(true),
    );
}
