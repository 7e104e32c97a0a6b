//! Which locks an interrupt handler takes: a port whose one kind of lock sleeps, and whose other keeps
//! interrupts off.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use hl_mem::budget::Budget;
use hl_mem::context::{
    ContextStorage, MappingSlot, REACHED_AT_A_TIME, TimestampPlace, TimestampStorage,
};
use hl_mem::events::DeviceEvent;
use hl_mem::handle::HandleSlot;
use hl_mem::port::SpinLock;
use hl_mem::timestamps::{CounterSlot, TimestampSlot, WaitSlot};
use lock_api::{GuardNoSend, RawMutex};

use super::flow::{bring_up, nodes, open, time};
use super::recording::STORES;
use super::support::smallest_port::PAGE_BYTES;
use super::support::smallest_port::storage;

thread_local! {
    /// Whether the thread was interrupted, and how many locks it holds that keep interrupts off.
    static ATOMIC: Cell<u32> = const { Cell::new(0) };
    /// The most timestamps that were stored with interrupts off at a time, and how often they were off.
    static OFF: Cell<(u32, u32)> = const { Cell::new((0, 0)) };
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
        STORES.set(0);
        locked
    }

    unsafe fn unlock(&self) {
        ATOMIC.set(ATOMIC.get() - 1);
        let (most, times) = OFF.get();
        OFF.set((most.max(STORES.get()), times + 1));
        // SAFETY: the caller holds it.
        unsafe { RawMutex::unlock(&self.0) };
    }
}

#[test]
fn a_value_that_a_thousand_slots_wait_for_keeps_interrupts_off_for_a_few_at_a_time() {
    const SLOTS: u64 = 1000;
    let (device, ..) = bring_up(2).unwrap();
    let slots = || (0..SLOTS).map(|_| TimestampSlot::new()).collect();
    let storage = ContextStorage {
        nodes: nodes(),
        mappings: storage(1, MappingSlot::new),
        handles: storage(4, HandleSlot::new),
        timestamps: TimestampStorage {
            pools: storage(2, || TimestampPlace::new(slots())),
            waits: storage(SLOTS as usize, WaitSlot::new),
            counters: storage(2, CounterSlot::new),
        },
    };
    let budget = Budget::new(0);
    let context = device.open((), &budget, storage).unwrap();
    let pool = context.create_timestamps(SLOTS).unwrap();
    let bytes = (SLOTS * 8).next_multiple_of(PAGE_BYTES);
    let view = context.mmap(pool, bytes).unwrap();
    let read = |slot: u64| view.view().read_word(slot as usize);
    let register = |slot, target| {
        let registered = context.register_timestamp(pool, slot, (1, target), 0, time(1));
        registered.unwrap();
    };
    // The last one is not reached by what the others wait for; the first has the highest target.
    (0..SLOTS - 1).for_each(|slot| register(slot, SLOTS - slot));
    register(SLOTS - 1, SLOTS + 1);

    let interrupt = |now| in_interrupt(|| context.counter_reached(1, SLOTS, time(now)).unwrap());
    OFF.set((0, 0));
    let first = interrupt(100);
    assert_eq!((first.completed, first.more), (REACHED_AT_A_TIME, true));
    assert_eq!(OFF.get(), (REACHED_AT_A_TIME, 1));
    // The lowest targets, and no others.
    let written = |slot| read(slot) != 0;
    let at_a_time = u64::from(REACHED_AT_A_TIME);
    assert!((SLOTS - 1 - at_a_time..SLOTS - 1).all(written));
    assert!(!(0..SLOTS - 1 - at_a_time).any(written));
    // In between, one of those left is registered again, for later, and one anew, for what is reached.
    register(0, SLOTS + 2);
    register(SLOTS - 2, 1);
    assert_eq!(read(SLOTS - 2), 0);

    OFF.set((0, 0));
    let (mut completed, mut calls) = (first.completed, 1);
    loop {
        let told = interrupt(100 + u64::from(calls));
        completed += told.completed;
        calls += 1;
        if !told.more {
            break;
        }
        assert_eq!(told.completed, REACHED_AT_A_TIME);
    }
    let reached = SLOTS as u32 - 2 + 1;
    assert_eq!(
        (completed, calls),
        (reached, reached.div_ceil(REACHED_AT_A_TIME))
    );
    assert_eq!(OFF.get(), (REACHED_AT_A_TIME, calls - 1));
    assert_eq!((read(0), read(SLOTS - 1), read(SLOTS - 2)), (0, 0, 101));
    assert!((1..SLOTS - 1).all(written));

    // Destroyed in between: the two that wait are still written, though nobody names them.
    context.destroy_timestamps(pool).unwrap();
    let last = context.counter_reached(1, u64::MAX, time(999)).unwrap();
    assert_eq!((last.completed, last.more), (2, false));
    assert_eq!((read(0), read(SLOTS - 1)), (999, 999));
    device.end_view(view).unwrap();
    context.reap_timestamps();
    assert_eq!(device.usage().buffers.buffers, 0);
    context.close().unwrap();
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
            assert_eq!(
                context
                    .counter_reached(0, value, time(2))
                    .unwrap()
                    .completed,
                1
            );
        });
    };
    // Nothing is locked; an MMU's lock; those of the two kinds of address spaces.
    handler(1);
    device.with_mmu(|_| handler(2));
    context.with_table(|_| handler(3));
    let looked = device.with_privileged_table(&privilege, |_| handler(4));
    looked.unwrap();
    device.with_mmu(|_| in_interrupt(|| device.note_lost()));
    assert!(device.is_lost());
    let mut told = 0;
    while let Some(report) = context.next_event() {
        context.confirm_event(&report).unwrap();
        told += report.count();
    }
    assert_eq!(told, 5);
    context.close().unwrap();

    // What needs an MMU is for a thread, which is how the locks above are known to object.
    let report = || in_interrupt(|| device.report_faults(|_| {}));
    assert!(catch_unwind(AssertUnwindSafe(report)).is_err());
}
