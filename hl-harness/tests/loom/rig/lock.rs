//! Locks for the real code, by way of loom.

use std::cell::UnsafeCell;
use std::sync::OnceLock;

use lock_api::{GuardNoSend, RawMutex};
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::sync::{Mutex, MutexGuard};
use loom::thread;

/// Loom's mutex as a lock of `lock_api`.
pub(crate) struct ModelLock {
    /// Made when it is first locked, since a constant cannot hold loom's.
    mutex: OnceLock<Mutex<()>>,
    guard: UnsafeCell<Option<MutexGuard<'static, ()>>>,
}

// SAFETY: `guard` is used by whoever holds `mutex`, and loom runs all threads on one.
unsafe impl Sync for ModelLock {}
// SAFETY: as above; loom's threads are one thread of the system.
unsafe impl Send for ModelLock {}

impl ModelLock {
    fn mutex(&self) -> &Mutex<()> {
        self.mutex.get_or_init(|| Mutex::new(()))
    }

    fn enter(&self, guard: MutexGuard<'_, ()>) {
        // SAFETY: only the lifetime changes. The guard is dropped by `unlock`, and so before the
        // mutex: a lock that is locked is borrowed by the guard of `lock_api`, hence neither moved
        // nor dropped.
        let guard =
            unsafe { core::mem::transmute::<MutexGuard<'_, ()>, MutexGuard<'static, ()>>(guard) };
        // SAFETY: this thread holds the mutex, so nobody else uses the field.
        unsafe { *self.guard.get() = Some(guard) };
    }
}

// SAFETY: loom's mutex is held from `lock` to `unlock`, and it excludes other threads.
unsafe impl RawMutex for ModelLock {
    const INIT: Self = Self {
        mutex: OnceLock::new(),
        guard: UnsafeCell::new(None),
    };
    type GuardMarker = GuardNoSend;

    fn lock(&self) {
        self.enter(
            self.mutex()
                .lock()
                .expect("loom's mutexes are not poisoned"),
        );
    }

    fn try_lock(&self) -> bool {
        match self.mutex().try_lock() {
            Ok(guard) => {
                self.enter(guard);
                true
            }
            Err(_) => false,
        }
    }

    unsafe fn unlock(&self) {
        // SAFETY: the caller holds the lock, so nobody else uses the field.
        let guard = unsafe { (*self.guard.get()).take() };
        if thread_panics() {
            // The model has failed and is being taken apart, outside of loom's own care.
            core::mem::forget(guard);
        }
    }
}

fn thread_panics() -> bool {
    std::thread::panicking()
}

/// A planted bug: a lock that excludes other threads and orders nothing. Whoever takes it may see
/// what it guards as it was before the last holder changed it.
pub(crate) struct UnorderedLock(OnceLock<AtomicBool>);

impl UnorderedLock {
    fn locked(&self) -> &AtomicBool {
        self.0.get_or_init(|| AtomicBool::new(false))
    }
}

// SAFETY: one thread at a time gets `false` out of the swap. The orderings are wrong on purpose; as
// loom runs all threads on one, that is a bug of the model and no data race of the program.
unsafe impl RawMutex for UnorderedLock {
    const INIT: Self = Self(OnceLock::new());
    type GuardMarker = GuardNoSend;

    fn lock(&self) {
        while !self.try_lock() {
            thread::yield_now();
        }
    }

    fn try_lock(&self) -> bool {
        !self.locked().swap(true, Ordering::Relaxed)
    }

    unsafe fn unlock(&self) {
        if !thread_panics() {
            self.locked().store(false, Ordering::Relaxed);
        }
    }
}
