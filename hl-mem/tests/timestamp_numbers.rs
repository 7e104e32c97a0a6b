//! What timestamp pools and the waits for counters say about themselves.

use std::num::NonZeroU64;

use hl_mem::timestamps::{
    CounterSlot, CounterWaits, PoolSize, RegisterError, TimestampMemory, TimestampPool,
    TimestampSlot, Wait, WaitSlot,
};

#[derive(Debug)]
struct Pages(Vec<u64>);

impl TimestampMemory for Pages {
    fn store(&mut self, slot: u32, value: u64) {
        self.0[slot as usize] = value;
    }
}

fn slots(count: usize) -> Vec<TimestampSlot> {
    (0..count).map(|_| TimestampSlot::new()).collect()
}

#[test]
fn a_size_is_the_number_of_timestamps_of_eight_bytes() {
    for timestamps in [1, 2, 4711, 1 << 20] {
        let size = PoolSize::new(timestamps).unwrap();
        assert_eq!(u64::from(size.get()), timestamps);
        assert_eq!(size.bytes(), timestamps * 8);
    }
}

#[test]
fn a_pool_has_no_slot_beyond_its_size_however_many_it_was_given() {
    let size = PoolSize::new(4).unwrap();
    let mut pool = TimestampPool::new(size, Pages(vec![0; 4]), slots(8)).unwrap();
    let mut waits = CounterWaits::new(vec![WaitSlot::new()], vec![CounterSlot::new()]);
    let counter = waits.counter(0).unwrap();
    let mut register = |slot| {
        let wait = Wait {
            slot,
            counter,
            target: 1,
        };
        waits.register(&mut pool, wait, 1, NonZeroU64::MIN)
    };
    assert!(register(3).is_ok());
    for slot in [4, 7, 8, u64::from(u32::MAX), 1 << 32] {
        assert_eq!(register(slot), Err(RegisterError::Slot { slot, slots: 4 }));
    }
}

#[test]
fn a_pool_is_open_until_it_is_closed() {
    let size = PoolSize::new(1).unwrap();
    let mut pool = TimestampPool::new(size, Pages(vec![0]), slots(1)).unwrap();
    assert!(!pool.is_closed());
    pool.close();
    assert!(pool.is_closed());
}

#[test]
fn a_counter_has_the_index_that_was_checked_and_waits_have_the_places_they_were_given() {
    let waits = CounterWaits::new(
        (0..7).map(|_| WaitSlot::new()).collect::<Vec<_>>(),
        vec![CounterSlot::new(); 5],
    );
    assert_eq!((waits.capacity(), waits.waiting()), (7, 0));
    for index in 0..5 {
        let counter = waits.counter(index).unwrap();
        assert_eq!(u64::from(counter.index()), index);
    }
    let refused = waits.counter(5).unwrap_err();
    assert_eq!((refused.index, refused.counters), (5, 5));
}
