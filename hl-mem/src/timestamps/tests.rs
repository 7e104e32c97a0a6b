//! The heaps keep their shape, whatever is registered, reached and cancelled.

use core::num::NonZeroU64;

use proptest::prelude::*;

use super::heap::{NONE, Nodes};
use super::{
    CounterSlot, CounterWaits, PoolSize, TimestampMemory, TimestampPool, TimestampSlot, Wait,
    WaitPlace, WaitSlot,
};

struct Nowhere;

impl TimestampMemory for Nowhere {
    fn store(&mut self, _: u32, _: u64) {}
}

type Pool = TimestampPool<Nowhere, Vec<TimestampSlot>>;
type Waits = CounterWaits<Vec<WaitSlot>, Vec<CounterSlot>>;

const NOW: NonZeroU64 = NonZeroU64::MIN;

fn pool(slots: u64) -> Pool {
    let storage = (0..slots).map(|_| TimestampSlot::new()).collect();
    TimestampPool::new(PoolSize::new(slots).unwrap(), Nowhere, storage).unwrap()
}

fn waits(places: usize, counters: usize) -> Waits {
    let slots = (0..places).map(|_| WaitSlot::new()).collect();
    CounterWaits::new(slots, vec![CounterSlot::new(); counters])
}

/// Checks a heap from `root` on; returns its distance and how many nodes it has.
fn audit(nodes: &[WaitSlot], root: u32, parent: u32) -> (u8, u32) {
    if root == NONE {
        return (0, 0);
    }
    let links = nodes.links(root).unwrap();
    assert_eq!(links.parent, parent);
    assert!(nodes[root as usize].is_used());
    if let Some(above) = nodes.links(parent) {
        assert!(above.key < links.key, "a later target above an earlier one");
    }
    let (far, left) = audit(nodes, links.left, root);
    let (near, right) = audit(nodes, links.right, root);
    assert!(far >= near, "the shorter way is on the left");
    assert_eq!(links.distance, near + 1);
    let count = left + right + 1;
    // What bounds the work: so many nodes at least are below such a distance.
    assert!(u64::from(count) + 1 >= 1 << links.distance);
    (links.distance, count)
}

fn audit_all(waits: &Waits, counters: u32) {
    let counts = (0..counters).map(|counter| {
        let (root, nodes) = waits.heap_of(counter);
        audit(nodes, root, NONE).1
    });
    assert_eq!(counts.sum::<u32>(), waits.waiting());
}

proptest! {
    #[test]
    fn heaps_keep_their_shape(
        steps in prop::collection::vec((0u8..8, 0u64..40, 0u64..3, 0u64..50), 1..300),
    ) {
        let mut pool = pool(40);
        let mut waits = waits(40, 3);
        for (kind, slot, counter, target) in steps {
            let counter = waits.counter(counter).unwrap();
            match kind {
                0..5 => {
                    let wait = Wait { slot, counter, target: target + 1 };
                    waits.register(&mut pool, wait, 0, NOW).unwrap();
                }
                5 => {
                    if let Some(registration) = waits.take_reached(counter, target) {
                        pool.complete(registration, NOW).unwrap();
                    }
                }
                6 => {
                    let place: Option<(u32, WaitPlace)> = pool.next_pending(slot as u32);
                    if let Some((_, place)) = place {
                        let registration = waits.cancel(place).unwrap();
                        pool.cancel(registration).unwrap();
                    }
                }
                _ => {
                    if let Some(registration) = waits.take_any() {
                        pool.cancel(registration).unwrap();
                    }
                }
            }
            audit_all(&waits, 3);
            prop_assert_eq!(waits.waiting(), pool.pending());
        }
    }
}

/// Targets in order, in reverse and alternating: what makes a naive heap a list.
#[test]
fn unkind_orders_of_targets_make_no_long_ways() {
    const COUNT: u64 = 2000;
    let orders: [fn(u64) -> u64; 3] = [
        |n| n + 1,
        |n| COUNT - n,
        |n| if n % 2 == 0 { n + 1 } else { 2 * COUNT - n },
    ];
    for order in orders {
        let mut pool = pool(COUNT);
        let mut waits = waits(COUNT as usize, 1);
        let counter = waits.counter(0).unwrap();
        for slot in 0..COUNT {
            let target = order(slot);
            let wait = Wait {
                slot,
                counter,
                target,
            };
            waits.register(&mut pool, wait, 0, NOW).unwrap();
            let (root, nodes) = waits.heap_of(0);
            assert!(nodes.links(root).unwrap().distance <= 11);
        }
        let mut last = 0;
        while let Some(registration) = waits.take_reached(counter, u64::MAX) {
            let target = order(u64::from(registration.slot()));
            assert!(target > last);
            last = target;
            pool.complete(registration, NOW).unwrap();
        }
        assert_eq!(pool.pending(), 0);
    }
}
