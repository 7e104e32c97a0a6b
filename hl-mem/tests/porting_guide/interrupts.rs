//! Which locks an interrupt handler takes: a port whose one kind of lock sleeps, and whose other keeps
//! interrupts off.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use hl_mem::events::DeviceEvent;
use hl_mem::port::SpinLock;
use lock_api::{GuardNoSend, RawMutex};

use super::flow::{bring_up, open, time};

thread_local! {
    /// Whether the thread was interrupted, and how many locks it holds that keep interrupts off.
    static ATOMIC: Cell<u32> = const { Cell::new(0) };
}

/// Does what the handler of an interrupt does, which stopped this thread wherever it was.
fn in_interrupt<T>(handle: impl FnOnce() -> T) -> T {
    ATOMIC.set(ATOMIC.get() + 1);
    let handled = handle();
    ATOMIC.set(ATOMIC.get() - 1);
    handled
}

/// A lock that must not be waited for where nobody else could run meanwhile.
pub(crate) struct SleepingLock(SpinLock);

// SAFETY: passes each call on to an implementation of the same contract.
unsafe impl RawMutex for SleepingLock {
    const INIT: Self = Self(SpinLock::INIT);
    type GuardMarker = GuardNoSend;

    fn lock(&self) {
        assert_eq!(ATOMIC.get(), 0, "a lock that sleeps, with interrupts off");
        // One thread, which would wait for itself.
        assert!(self.try_lock(), "the interrupted thread holds it");
    }

    fn try_lock(&self) -> bool {
        RawMutex::try_lock(&self.0)
    }

    unsafe fn unlock(&self) {
        // SAFETY: the caller holds it.
        unsafe { RawMutex::unlock(&self.0) };
    }
}

/// A lock that keeps interrupts off while it is held.
pub(crate) struct InterruptsOff(SpinLock);

// SAFETY: passes each call on to an implementation of the same contract.
unsafe impl RawMutex for InterruptsOff {
    const INIT: Self = Self(SpinLock::INIT);
    type GuardMarker = GuardNoSend;

    fn lock(&self) {
        assert!(self.try_lock(), "the thread holds it");
    }

    fn try_lock(&self) -> bool {
        let locked = RawMutex::try_lock(&self.0);
        ATOMIC.set(ATOMIC.get() + u32::from(locked));
        locked
    }

    unsafe fn unlock(&self) {
        ATOMIC.set(ATOMIC.get() - 1);
        // SAFETY: the caller holds it.
        unsafe { RawMutex::unlock(&self.0) };
    }
}

#[test]
fn an_interrupt_handler_takes_no_lock_that_sleeps_wherever_it_stopped_a_thread() {
    let (device, privilege, _) = bring_up(2).unwrap();
    let context = open(&device);
    let pool = context.create_timestamps(4).unwrap();
    let register = |slot| {
        let registered = context.register_timestamp(pool, slot, (0, slot + 1), slot, time(1));
        registered.unwrap();
    };
    (0..4).for_each(register);
    let handler = |value| {
        in_interrupt(|| {
            device.post(DeviceEvent::DeviceLost);
            assert_eq!(context.counter_reached(0, value, time(2)), Ok(1));
        });
    };
    // Nothing is locked; an MMU's lock; those of the two kinds of address spaces.
    handler(1);
    device.with_mmu(|_| handler(2));
    context.with_table(|_| handler(3));
    let looked = device.with_privileged_table(&privilege, |_| handler(4));
    looked.unwrap();
    let mut told = 0;
    while let Some(report) = context.next_event() {
        context.confirm_event(&report).unwrap();
        told += report.count();
    }
    assert_eq!(told, 4);
    context.close().unwrap();

    // What needs an MMU is for a thread, which is how the locks above are known to object.
    let report = || in_interrupt(|| device.report_faults(|_| {}));
    assert!(catch_unwind(AssertUnwindSafe(report)).is_err());
}
