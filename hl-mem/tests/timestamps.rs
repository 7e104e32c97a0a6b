//! Timestamp pools: scenario Q-04, and a simple model.

use std::cell::RefCell;
use std::num::NonZeroU64;
use std::rc::Rc;

use hl_mem::timestamps::{
    Counter, CounterSlot, CounterWaits, PoolSize, PoolSizeError, RegisterError, Registered,
    TimestampMemory, TimestampPool, TimestampSlot, Wait, WaitSlot,
};
use proptest::prelude::*;

/// Memory that the test can still see when the pool has let go of it, and that notices a store after
/// that.
#[derive(Debug)]
struct Pages(Rc<RefCell<Vec<u64>>>);

impl TimestampMemory for Pages {
    fn store(&mut self, slot: u32, value: u64) {
        self.0.borrow_mut()[slot as usize] = value;
    }
}

type Pool = TimestampPool<Pages, Vec<TimestampSlot>>;
type Waits = CounterWaits<Vec<WaitSlot>, Vec<CounterSlot>>;
type View = Rc<RefCell<Vec<u64>>>;

/// A pool over memory that something else was in before.
fn pool(timestamps: u64) -> (Pool, View) {
    let view: View = Rc::new(RefCell::new(vec![0xDEAD; timestamps as usize]));
    let slots = (0..timestamps).map(|_| TimestampSlot::new()).collect();
    let size = PoolSize::new(timestamps).unwrap();
    let pool = TimestampPool::new(size, Pages(Rc::clone(&view)), slots).unwrap();
    (pool, view)
}

fn waits(places: usize, counters: usize) -> Waits {
    let slots = (0..places).map(|_| WaitSlot::new()).collect();
    CounterWaits::new(slots, vec![CounterSlot::new(); counters])
}

fn now(time: u64) -> NonZeroU64 {
    NonZeroU64::new(time).unwrap()
}

fn wait(slot: u64, counter: Counter, target: u64) -> Wait {
    Wait {
        slot,
        counter,
        target,
    }
}

/// What an interrupt does: the slots completed, in order, each with a later time.
fn interrupt(
    waits: &mut Waits,
    pool: &mut Pool,
    counter: Counter,
    value: u64,
    time: &mut u64,
) -> Vec<u32> {
    let mut completed = Vec::new();
    while let Some(registration) = waits.take_reached(counter, value) {
        completed.push(registration.slot());
        *time += 1;
        pool.complete(registration, now(*time)).unwrap();
    }
    completed
}

/// Scenario Q-04.
#[test]
fn slots_are_zero_until_their_targets_are_reached_and_filled_in_order() {
    let (mut pool, view) = pool(10);
    let mut waits = waits(16, 4);
    let counter = waits.counter(2).unwrap();
    assert_eq!(*view.borrow(), [0; 10]);
    for (slot, target) in [(3, 400), (0, 100), (1, 200)] {
        assert_eq!(
            waits.register(&mut pool, wait(slot, counter, target), 0, now(1)),
            Ok(Registered::Pending)
        );
    }
    let mut time = 1000;
    assert!(interrupt(&mut waits, &mut pool, counter, 99, &mut time).is_empty());
    assert_eq!(*view.borrow(), [0; 10]);
    assert_eq!(
        interrupt(&mut waits, &mut pool, counter, 150, &mut time),
        [0]
    );
    // A wait in between, at offset 2, for what the counter has reached already.
    assert_eq!(
        waits.register(&mut pool, wait(2, counter, 150), 150, now(1500)),
        Ok(Registered::Reached)
    );
    assert_eq!(*view.borrow(), [1001, 0, 1500, 0, 0, 0, 0, 0, 0, 0]);
    // Another counter's progress is nothing to these.
    let other = waits.counter(1).unwrap();
    assert!(interrupt(&mut waits, &mut pool, other, 1000, &mut time).is_empty());
    time = 2000;
    assert_eq!(
        interrupt(&mut waits, &mut pool, counter, 400, &mut time),
        [1, 3]
    );
    assert_eq!(*view.borrow(), [1001, 2001, 1500, 2002, 0, 0, 0, 0, 0, 0]);
    assert_eq!((pool.pending(), waits.waiting()), (0, 0));
}

/// Scenario Q-04.
#[test]
fn a_pending_slot_that_is_registered_again_waits_for_the_new_target_only() {
    let (mut pool, view) = pool(10);
    let mut waits = waits(1, 2);
    let counter = waits.counter(0).unwrap();
    waits
        .register(&mut pool, wait(5, counter, 100), 0, now(1))
        .unwrap();
    // There is one place only, and it is the slot's own.
    let other = waits.counter(1).unwrap();
    waits
        .register(&mut pool, wait(5, other, 300), 0, now(1))
        .unwrap();
    assert_eq!((pool.pending(), waits.waiting()), (1, 1));
    let mut time = 10;
    assert!(interrupt(&mut waits, &mut pool, counter, u64::MAX, &mut time).is_empty());
    assert_eq!(view.borrow()[5], 0);
    assert_eq!(interrupt(&mut waits, &mut pool, other, 300, &mut time), [5]);
    assert_eq!(view.borrow()[5], 11);

    // Again, after it was reached: zero until the next target.
    waits
        .register(&mut pool, wait(5, counter, 400), 300, now(1))
        .unwrap();
    assert_eq!(view.borrow()[5], 0);
    // And again, with a target that is reached: the pending one is gone.
    let reached = waits.register(&mut pool, wait(5, counter, 300), 300, now(77));
    assert_eq!(reached, Ok(Registered::Reached));
    assert_eq!((pool.pending(), waits.waiting()), (0, 0));
    assert_eq!(view.borrow()[5], 77);
}

/// Scenario Q-04, hazard HZ-12: indices that wrap when they are multiplied by 8.
#[test]
fn slots_and_counters_beyond_the_end_are_refused() {
    let (mut pool, view) = pool(10);
    let mut waits = waits(4, 4);
    let counter = waits.counter(0).unwrap();
    for slot in [
        10,
        11,
        1 << 20,
        1 << 32,
        (1 << 32) + 3,
        1 << 61,
        (1 << 61) + 3,
        u64::MAX,
    ] {
        let error = RegisterError::Slot { slot, slots: 10 };
        for target in [0, 100] {
            assert_eq!(
                waits.register(&mut pool, wait(slot, counter, target), 50, now(1)),
                Err(error)
            );
        }
    }
    for index in [4, 1 << 32, 1 << 61, (1 << 61) + 1, u64::MAX] {
        let error = waits.counter(index).unwrap_err();
        assert_eq!((error.index, error.counters), (index, 4));
    }
    assert_eq!(*view.borrow(), [0; 10]);
    assert_eq!((pool.pending(), waits.waiting()), (0, 0));
}

#[test]
fn a_counter_of_a_larger_buffer_is_refused() {
    let (mut pool, _) = pool(1);
    let large = waits(1, 8).counter(7).unwrap();
    let mut small = waits(1, 4);
    assert!(matches!(
        small.register(&mut pool, wait(0, large, 1), 0, now(1)),
        Err(RegisterError::Counter(error)) if error.index == 7 && error.counters == 4
    ));
    assert_eq!(small.take_reached(large, u64::MAX), None);
}

/// Scenario Q-04.
#[test]
fn pools_have_one_to_a_million_timestamps() {
    assert_eq!(PoolSize::new(0), Err(PoolSizeError::Empty));
    assert_eq!(PoolSize::new(1).unwrap().bytes(), 8);
    assert_eq!(PoolSize::new(1 << 20).unwrap().bytes(), 8 << 20);
    for timestamps in [(1 << 20) + 1, 1 << 32, (1 << 32) + 1, 1 << 61, u64::MAX] {
        assert_eq!(
            PoolSize::new(timestamps),
            Err(PoolSizeError::TooLarge { timestamps })
        );
    }
}

#[test]
fn storage_too_short_for_the_pool_comes_back_and_the_memory_is_untouched() {
    let view: View = Rc::new(RefCell::new(vec![7; 3]));
    let slots = vec![TimestampSlot::new(), TimestampSlot::new()];
    let size = PoolSize::new(3).unwrap();
    let error = TimestampPool::new(size, Pages(Rc::clone(&view)), slots).unwrap_err();
    assert_eq!((error.needed, error.slots.len()), (3, 2));
    assert_eq!(*view.borrow(), [7; 3]);
}

/// Scenario Q-04.
#[test]
fn a_pool_is_released_only_after_its_last_registration_was_completed() {
    let (mut pool, view) = pool(10);
    let mut waits = waits(4, 1);
    let counter = waits.counter(0).unwrap();
    for slot in 0..2 {
        let wait = wait(slot, counter, 100 * (slot + 1));
        waits.register(&mut pool, wait, 0, now(1)).unwrap();
    }
    pool.close();
    let refused = waits.register(&mut pool, wait(2, counter, 5), 10, now(1));
    assert_eq!(refused, Err(RegisterError::Closed));
    assert_eq!(view.borrow()[2], 0);
    let mut pool = pool.release().unwrap_err().0;

    // One is reached while the pool drains; the other is in the hands of the interrupt handler.
    let first = waits.take_reached(counter, 200).unwrap();
    pool.complete(first, now(50)).unwrap();
    let second = waits.take_reached(counter, 200).unwrap();
    let mut pool = pool.release().unwrap_err().0;
    pool.complete(second, now(51)).unwrap();
    assert_eq!(view.borrow()[..3], [50, 51, 0]);
    let (pages, _) = pool.release().unwrap();
    drop(pages);
    assert_eq!(Rc::strong_count(&view), 1, "somebody can still write");
}

/// Scenario Q-04.
#[test]
fn a_pool_that_cannot_wait_cancels_what_is_pending() {
    let (mut pool, view) = pool(10);
    let mut first = waits(4, 2);
    let mut second = waits(4, 1);
    let counter = first.counter(1).unwrap();
    for slot in [0, 4, 9] {
        first
            .register(&mut pool, wait(slot, counter, 7), 0, now(1))
            .unwrap();
    }
    let counter = second.counter(0).unwrap();
    second
        .register(&mut pool, wait(5, counter, 7), 0, now(1))
        .unwrap();
    pool.close();
    let mut from = 0;
    let mut cancelled = Vec::new();
    while let Some((slot, place)) = pool.next_pending(from) {
        let registration = first.cancel(place).or_else(|| second.cancel(place));
        pool.cancel(registration.unwrap()).unwrap();
        assert_eq!(first.cancel(place).or_else(|| second.cancel(place)), None);
        cancelled.push(slot);
        from = slot + 1;
    }
    assert_eq!(cancelled, [0, 4, 5, 9]);
    assert_eq!(first.take_reached(counter, u64::MAX), None);
    assert_eq!(*view.borrow(), [0; 10]);
    pool.release().unwrap();
    first.release().unwrap();
    second.release().unwrap();
}

/// Scenario Q-04.
#[test]
fn a_buffer_of_counters_gives_back_what_waits_for_it_before_it_goes() {
    let (mut one, one_view) = pool(4);
    let (mut other, other_view) = pool(4);
    let mut waits = waits(8, 5);
    for (slot, index) in [(0, 4), (1, 0), (2, 4), (3, 2)] {
        let counter = waits.counter(index).unwrap();
        waits
            .register(&mut one, wait(slot, counter, 9), 0, now(1))
            .unwrap();
        waits
            .register(&mut other, wait(slot, counter, 9), 0, now(1))
            .unwrap();
    }
    let mut waits = waits.release().unwrap_err().0;
    while let Some(registration) = waits.take_any() {
        if registration.pool() == one.id() {
            // Offered to the wrong pool first: refused, and still good for its own.
            let registration = other.cancel(registration).unwrap_err().0;
            one.cancel(registration).unwrap();
        } else {
            other.cancel(registration).unwrap();
        }
    }
    assert_eq!((one.pending(), other.pending()), (0, 0));
    waits.release().unwrap();
    one.release().unwrap();
    other.release().unwrap();
    assert_eq!(*one_view.borrow(), [0; 4]);
    assert_eq!(*other_view.borrow(), [0; 4]);
}

#[test]
fn a_place_names_no_registration_but_its_own() {
    let (mut pool, _) = pool(2);
    let mut waits = waits(1, 1);
    let counter = waits.counter(0).unwrap();
    waits
        .register(&mut pool, wait(0, counter, 1), 0, now(1))
        .unwrap();
    let (_, old) = pool.next_pending(0).unwrap();
    let registration = waits.take_reached(counter, 1).unwrap();
    pool.complete(registration, now(2)).unwrap();
    // The next registration takes the only place there is.
    waits
        .register(&mut pool, wait(1, counter, 2), 1, now(1))
        .unwrap();
    assert_eq!(waits.cancel(old), None);
    assert_eq!(waits.waiting(), 1);
}

#[test]
fn what_waits_after_everything_was_taken_out_is_found_again() {
    let (mut pool, _) = pool(1);
    let mut waits = waits(1, 3);
    for index in [2, 0, 1] {
        let counter = waits.counter(index).unwrap();
        waits
            .register(&mut pool, wait(0, counter, 1), 0, now(1))
            .unwrap();
        let registration = waits.take_any().unwrap();
        assert_eq!(waits.take_any(), None);
        pool.cancel(registration).unwrap();
    }
}

#[test]
fn a_registration_is_completed_by_its_own_pool_only() {
    let (mut one, one_view) = pool(2);
    let (mut other, other_view) = pool(2);
    let mut waits = waits(1, 1);
    let counter = waits.counter(0).unwrap();
    waits
        .register(&mut one, wait(1, counter, 1), 0, now(1))
        .unwrap();
    let registration = waits.take_reached(counter, 1).unwrap();
    let registration = other.complete(registration, now(5)).unwrap_err().0;
    assert_eq!(*other_view.borrow(), [0; 2]);
    one.complete(registration, now(6)).unwrap();
    assert_eq!(*one_view.borrow(), [0, 6]);
}

#[test]
fn a_slot_that_waits_elsewhere_is_left_alone_until_that_is_cancelled() {
    let (mut pool, view) = pool(1);
    let (mut first, mut second) = (waits(1, 1), waits(1, 1));
    let counter = first.counter(0).unwrap();
    first
        .register(&mut pool, wait(0, counter, 1), 0, now(1))
        .unwrap();
    let refused = second.register(&mut pool, wait(0, counter, 2), 0, now(1));
    let Err(RegisterError::Pending { place }) = refused else {
        panic!("{refused:?}");
    };
    let registration = first.cancel(place).unwrap();
    // In the hands of whoever took it out, it is pending still.
    let again = first.register(&mut pool, wait(0, counter, 2), 0, now(1));
    assert_eq!(again, Err(RegisterError::Pending { place }));
    pool.cancel(registration).unwrap();
    second
        .register(&mut pool, wait(0, counter, 2), 0, now(1))
        .unwrap();
    assert_eq!(view.borrow()[0], 0);
}

#[test]
fn a_full_buffer_refuses_and_changes_nothing_but_takes_what_is_reached() {
    let (mut pool, view) = pool(3);
    let mut waits = waits(1, 1);
    let counter = waits.counter(0).unwrap();
    waits
        .register(&mut pool, wait(0, counter, 10), 0, now(1))
        .unwrap();
    waits
        .register(&mut pool, wait(1, counter, 3), 5, now(9))
        .unwrap();
    let full = waits.register(&mut pool, wait(1, counter, 10), 5, now(1));
    assert_eq!(full, Err(RegisterError::Full { capacity: 1 }));
    assert_eq!(*view.borrow(), [0, 9, 0]);
    assert_eq!((pool.pending(), waits.waiting()), (1, 1));
}

#[test]
fn equal_targets_are_completed_in_the_order_of_registration() {
    let (mut pool, _) = pool(50);
    let mut waits = waits(50, 1);
    let counter = waits.counter(0).unwrap();
    let order: Vec<u32> = (0..50).map(|n| (n * 17) % 50).collect();
    for &slot in &order {
        waits
            .register(&mut pool, wait(slot.into(), counter, 8), 0, now(1))
            .unwrap();
    }
    assert_eq!(interrupt(&mut waits, &mut pool, counter, 8, &mut 0), order);
}

proptest! {
    /// A list of what is pending, searched from end to end, behaves the same.
    #[test]
    fn waits_are_an_ordered_list(
        steps in prop::collection::vec((0u8..7, 0u64..12, 0u64..3, 0u64..30), 1..150),
    ) {
        let (mut pool, view) = pool(10);
        let mut waits = waits(6, 3);
        let mut values = [0u64; 3];
        // Counter, target, order, slot.
        let mut model: Vec<(u64, u64, usize, u64)> = Vec::new();
        let mut memory = [0u64; 10];
        let mut time = 0;
        for (order, (kind, slot, index, amount)) in steps.into_iter().enumerate() {
            let counter = waits.counter(index).unwrap();
            time += 1;
            match kind {
                0..4 => {
                    let target = amount * 4;
                    let value = values[index as usize];
                    let got = waits.register(&mut pool, wait(slot, counter, target), value, now(time));
                    let earlier = model.iter().any(|entry| entry.3 == slot);
                    if slot >= 10 {
                        prop_assert_eq!(got, Err(RegisterError::Slot { slot, slots: 10 }));
                    } else if target <= value {
                        prop_assert_eq!(got, Ok(Registered::Reached));
                        model.retain(|entry| entry.3 != slot);
                        memory[slot as usize] = time;
                    } else if !earlier && model.len() == 6 {
                        prop_assert_eq!(got, Err(RegisterError::Full { capacity: 6 }));
                    } else {
                        prop_assert_eq!(got, Ok(Registered::Pending));
                        model.retain(|entry| entry.3 != slot);
                        model.push((index, target, order, slot));
                        memory[slot as usize] = 0;
                    }
                }
                4 | 5 => {
                    values[index as usize] += amount;
                    let value = values[index as usize];
                    model.sort_unstable();
                    let mut expected = Vec::new();
                    model.retain(|&(counter, target, _, slot)| {
                        let reached = counter == index && target <= value;
                        if reached {
                            expected.push(slot as u32);
                            memory[slot as usize] = time + expected.len() as u64;
                        }
                        !reached
                    });
                    prop_assert_eq!(interrupt(&mut waits, &mut pool, counter, value, &mut time), expected);
                }
                _ => {
                    let first = model.iter().map(|entry| entry.3).filter(|&pending| pending >= slot).min();
                    let found = pool.next_pending(slot as u32);
                    prop_assert_eq!(found.map(|(number, _)| u64::from(number)), first);
                    if let Some((number, place)) = found {
                        let registration = waits.cancel(place).unwrap();
                        pool.cancel(registration).unwrap();
                        model.retain(|entry| entry.3 != u64::from(number));
                    }
                }
            }
            prop_assert_eq!(&view.borrow()[..], memory);
            prop_assert_eq!(pool.pending() as usize, model.len());
            prop_assert_eq!(waits.waiting() as usize, model.len());
        }
    }
}
