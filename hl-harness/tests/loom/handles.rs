//! Handles: create, look up, mmap, destroy, close.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use hl_mem::context::{DestroyError, ViewError};
use hl_mem::device::BufferView;
use hl_mem::handle::{HandleError, HandleKind, HandleSlot, HandleTable, RawHandle};
use lock_api::Mutex;

use crate::rig::hold::Hold;
use crate::rig::lock::ModelLock;
use crate::rig::pages::{OwnedPage, Owner, PAGE_BYTES, Pages};
use crate::rig::port::{Machine, ModelContext, ModelPort};
use crate::{RACE, expect_failure, explore};

const PROCESS: Owner = 7;
const FREE_PAGE: &str = "an access went to a free page";

/// Handles and the pages that they name, without a device.
struct Shared {
    pages: Pages,
    handles: Mutex<ModelLock, HandleTable<OwnedPage, [HandleSlot<OwnedPage>; 1]>>,
}

impl Shared {
    fn new(hold: &Hold) -> &'static Self {
        hold.keep(Self {
            pages: Pages::new(2, None),
            handles: Mutex::new(HandleTable::new([HandleSlot::new()], 0)),
        })
    }

    fn publish(&self, page: OwnedPage) -> RawHandle {
        let reservation = self.handles.lock().reserve(HandleKind::Block).unwrap();
        let mut handles = self.handles.lock();
        handles.publish(reservation, page).unwrap()
    }
}

/// The handle that comes after this one where there is one place: what a user can guess who reads
/// the documentation.
fn next(handle: RawHandle) -> RawHandle {
    RawHandle::new(handle.get() + (1 << 28))
}

/// A user looks up a handle that he guessed, while the object is being made; planted: the handle
/// exists before the object is complete.
fn look_up_while_created(complete_first: bool) {
    Hold::run(move |hold| {
        let shared = Shared::new(hold);
        let old = shared.publish(shared.pages.allocate(PROCESS).unwrap());
        let guess = next(old);
        let page = shared
            .handles
            .lock()
            .remove(old, HandleKind::Block)
            .unwrap();
        shared.pages.free(page);
        hold.spawn(move || {
            let handles = shared.handles.lock();
            match handles.get(guess, HandleKind::Block) {
                Ok(page) => assert_eq!(shared.pages.touch(page.address()), PROCESS),
                Err(error) => assert_eq!(error, HandleError::Unknown),
            }
        });
        let page = shared.pages.allocate(PROCESS).unwrap();
        if complete_first {
            shared.pages.fill(&page);
            assert_eq!(shared.publish(page), guess);
        } else {
            let alias = page.alias();
            assert_eq!(shared.publish(page), guess);
            shared.pages.fill(&alias);
        }
    });
}

/// Proves that a handle names nothing before its object is complete, whoever guesses it.
#[test]
fn a_guessed_handle_names_nothing_or_a_complete_object() {
    explore(
        "a handle that is guessed while its object is made names nothing or the whole object",
        || look_up_while_created(true),
    );
}

#[test]
fn a_handle_that_is_published_before_its_object_is_complete_is_found() {
    expect_failure(
        "the handle is published before its object is complete",
        RACE,
        || look_up_while_created(false),
    );
}

/// A user uses what a handle names while the handle is destroyed; planted: the lock is given up
/// between look-up and use.
fn use_while_destroyed(at_once: bool) {
    Hold::run(move |hold| {
        let shared = Shared::new(hold);
        let handle = shared.publish(shared.pages.allocate(PROCESS).unwrap());
        hold.spawn(move || {
            let handles = shared.handles.lock();
            match handles
                .get(handle, HandleKind::Block)
                .map(OwnedPage::address)
            {
                Ok(page) if at_once => {
                    shared.pages.touch(page);
                }
                Ok(page) => {
                    drop(handles);
                    shared.pages.touch(page);
                }
                Err(error) => assert_eq!(error, HandleError::Stale),
            }
        });
        let page = shared.handles.lock().remove(handle, HandleKind::Block);
        shared.pages.free(page.unwrap());
    });
}

/// Proves that what was looked up is there as long as the lock is held, and that the handle is stale
/// afterwards.
#[test]
fn an_object_is_there_while_it_is_looked_up() {
    explore(
        "an object in use under the handles' lock is not destroyed; its handle is stale afterwards",
        || use_while_destroyed(true),
    );
}

#[test]
fn a_lock_that_is_given_up_between_look_up_and_use_is_found() {
    expect_failure("the lock is given up between look-up and use", RACE, || {
        use_while_destroyed(false)
    });
}

/// What a user does with a block that he may or may not have: maps it, reads it, and unmaps it;
/// planted: reads it once more.
fn view(machine: &'static Machine, context: &ModelContext, handle: RawHandle, late: bool) {
    match context.mmap(handle, PAGE_BYTES) {
        Ok(view) => look(machine, view, late),
        Err(ViewError::Handle(HandleError::Unknown | HandleError::Stale)) => {}
        Err(error) => panic!("{error}"),
    }
}

fn look(machine: &'static Machine, view: BufferView<ModelPort>, late: bool) {
    let seen = *view.view();
    machine.device.host().read(&seen);
    machine.device.end_view(view).unwrap();
    if late {
        machine.device.host().read(&seen);
    }
}

/// Takes a context back from the threads that shared it, and closes it.
fn close(context: Arc<ModelContext>) {
    let context = Arc::into_inner(context).expect("the threads have ended");
    context.close().unwrap();
}

/// One thread creates a block and destroys it, while another maps what it guesses the handle to be.
fn create_and_destroy_while_viewed(late: bool) {
    Hold::run(move |hold| {
        let machine = Machine::new(hold, 1, None);
        let before = machine.counters();
        let context = Arc::new(machine.open(hold, PROCESS));
        let (old, _) = context.create_block(&machine.privilege, 1).unwrap();
        context.destroy_block(old).unwrap();
        let guess = next(old);
        let user = Arc::clone(&context);
        hold.spawn(move || view(machine, &user, guess, late));
        let (handle, block) = context.create_block(&machine.privilege, 1).unwrap();
        assert_eq!(handle, guess);
        let range = machine
            .device
            .block_range(&machine.privilege, block)
            .unwrap();
        assert!(machine.rig.hardware.access(0, range.start()).is_ok());
        context.destroy_block(handle).unwrap();
        hold.join();
        close(context);
        assert_eq!(machine.counters(), before);
    });
}

/// Proves, for the real context and device: a guessed handle gives a view of a complete block or
/// none; the view stays good, whoever destroys the handle meanwhile, until it is ended; and the
/// page goes when both are gone.
#[test]
fn a_view_outlives_the_handle_and_shows_a_complete_block() {
    explore(
        "create, guessed mmap and destroy: a view shows a whole block until it is ended",
        || create_and_destroy_while_viewed(false),
    );
}

#[test]
fn a_view_that_is_used_after_it_was_ended_is_found() {
    expect_failure(
        "a user reads a view after it was reported ended",
        RACE,
        || create_and_destroy_while_viewed(true),
    );
}

/// Two threads destroy one block.
fn destroy_twice() {
    Hold::run(move |hold| {
        let machine = Machine::new(hold, 1, None);
        let before = machine.counters();
        let context = Arc::new(machine.open(hold, PROCESS));
        let (handle, _) = context.create_block(&machine.privilege, 1).unwrap();
        let destroy = move |context: &ModelContext| match context.destroy_block(handle) {
            Ok(()) => true,
            Err(DestroyError::Handle(HandleError::Stale)) => false,
            Err(_) => panic!("the device confirms every removal"),
        };
        let user = Arc::clone(&context);
        let destroyed = &*hold.keep(AtomicBool::new(false));
        hold.spawn(move || {
            destroyed.store(destroy(&user), Relaxed);
        });
        let own = destroy(&context);
        hold.join();
        let other = destroyed.load(Relaxed);
        assert!(own != other, "a block was destroyed twice or not at all");
        close(context);
        assert_eq!(machine.counters(), before);
    });
}

/// Proves that of two threads that destroy one block exactly one does.
#[test]
fn a_block_is_destroyed_once() {
    explore(
        "two threads destroy one block: one does, the other is told that the handle is stale",
        destroy_twice,
    );
}

/// A file is closed while another thread still looks at a block of it; planted: it looks once more
/// after its view has ended.
fn close_while_viewed(late: bool) {
    Hold::run(move |hold| {
        let machine = Machine::new(hold, 1, None);
        let before = machine.counters();
        let context = machine.open(hold, PROCESS);
        let (handle, _) = context.create_block(&machine.privilege, 1).unwrap();
        let view = context.mmap(handle, PAGE_BYTES).unwrap();
        hold.spawn(move || look(machine, view, late));
        assert_eq!(context.close().unwrap().handles, 1);
        hold.join();
        assert_eq!(machine.counters(), before);
    });
}

/// Proves that a view outlives the file: the page goes when both are gone, whichever goes last.
#[test]
fn a_view_outlives_the_file() {
    explore(
        "a file is closed under a view: the page goes with the last of the two",
        || close_while_viewed(false),
    );
}

#[test]
fn a_view_that_is_used_after_its_end_is_found_when_the_file_is_closed() {
    expect_failure(
        "a user reads a view after it was reported ended",
        FREE_PAGE,
        || close_while_viewed(true),
    );
}
