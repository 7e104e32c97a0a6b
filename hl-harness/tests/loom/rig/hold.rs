//! What threads of a model borrow.

use std::cell::RefCell;
use std::fmt;

use loom::thread;

/// The stack of a thread. Loom's own is of 32 KiB, and its atomics, which are in contexts and in page
/// tables, are many times as large as others.
const STACK: usize = 1 << 18;

/// Owns what the threads of one execution borrow, and the threads.
pub(crate) struct Hold {
    /// Last in, first out: later things borrow from earlier ones.
    kept: RefCell<Vec<Kept>>,
    threads: RefCell<Vec<thread::JoinHandle<()>>>,
}

/// The work of a thread of a model.
struct Coroutine<F>(F);

// SAFETY: loom runs all threads of a model as coroutines of one thread, so that nothing is sent
// anywhere; `loom::thread::spawn` asks for no `Send` for that reason, and only its builder does.
unsafe impl<F> Send for Coroutine<F> {}

impl<F: FnOnce()> Coroutine<F> {
    fn run(self) {
        self.0();
    }
}

fn start(work: impl FnOnce() + 'static) -> thread::JoinHandle<()> {
    let coroutine = Coroutine(work);
    let thread = thread::Builder::new().stack_size(STACK);
    let thread = thread.spawn(move || coroutine.run());
    thread.expect("loom has room for a thread")
}

/// A value that is freed by its own type.
struct Kept {
    value: *mut (),
    free: unsafe fn(*mut ()),
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hold({} values)", self.kept.borrow().len())
    }
}

/// Frees a value that [`Hold::keep`] took out of its box.
///
/// # Safety
///
/// `value` is a `Box<T>` made raw, and nobody uses it any more.
unsafe fn free<T>(value: *mut ()) {
    // SAFETY: by the contract of this function.
    drop(unsafe { Box::from_raw(value.cast::<T>()) });
}

impl Hold {
    /// Runs one execution of a model.
    ///
    /// What it keeps is freed when the threads that it started have ended. After a panic nothing
    /// is: loom then takes the stacks of the other threads apart, which still borrow from it.
    pub(crate) fn run(model: impl FnOnce(&Self) + 'static) {
        // Not on the thread that loom begins with, whose stack nobody can choose.
        let first = start(move || Self::run_here(model));
        first.join().expect("a panic of any thread ends the model");
    }

    fn run_here(model: impl FnOnce(&Self)) {
        let hold = Self {
            kept: RefCell::new(Vec::new()),
            threads: RefCell::new(Vec::new()),
        };
        model(&hold);
        hold.join();
        for kept in hold.kept.take().into_iter().rev() {
            // SAFETY: `keep` paired the value with its own type's function. Models get at threads
            // through `spawn` alone and leave nothing behind in statics: with their threads joined
            // and `model` over, only what is kept could borrow the value, and what was kept later
            // is freed already.
            unsafe { (kept.free)(kept.value) };
        }
    }

    /// Keeps a value until the execution is over.
    pub(crate) fn keep<T: 'static>(&self, value: T) -> &'static mut T {
        let value = Box::into_raw(Box::new(value));
        self.kept.borrow_mut().push(Kept {
            value: value.cast(),
            free: free::<T>,
        });
        // SAFETY: just taken out of a box and given to nobody else. It is freed when nobody can
        // have this reference any more; see `run`.
        unsafe { &mut *value }
    }

    /// Starts a thread that may borrow what is kept.
    pub(crate) fn spawn(&self, thread: impl FnOnce() + 'static) {
        self.threads.borrow_mut().push(start(thread));
    }

    /// Waits for all threads started so far.
    pub(crate) fn join(&self) {
        for thread in self.threads.take() {
            thread.join().expect("a panic of any thread ends the model");
        }
    }
}
