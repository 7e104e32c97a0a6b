//! What a port keeps for each thread, to check the order of locks.

use super::{HeldLocks, LockRank, OutOfOrder};

/// All of them, in the order in which they may be taken.
pub(crate) const RANKS: [LockRank; 10] = [
    LockRank::Handles,
    LockRank::Space,
    LockRank::HostMmu,
    LockRank::DramMmu,
    LockRank::Scrubber,
    LockRank::Dram,
    LockRank::Buffers,
    LockRank::Removals,
    LockRank::Timestamps,
    LockRank::Seat,
];

#[test]
fn while_a_lock_is_held_only_later_ones_can_be_taken() {
    for (held_at, &held) in RANKS.iter().enumerate() {
        for (wanted_at, &wanted) in RANKS.iter().enumerate() {
            let mut locks = HeldLocks::NONE;
            locks.take(held).unwrap();
            let before = locks;
            if wanted_at > held_at {
                assert_eq!(locks.take(wanted), Ok(()));
                locks.release(wanted);
            } else {
                assert_eq!(locks.take(wanted), Err(OutOfOrder { wanted }));
            }
            assert_eq!(locks, before, "{held} and {wanted}");
        }
    }
}

#[test]
fn all_locks_can_be_held_and_given_up_in_any_order() {
    let mut locks = HeldLocks::NONE;
    assert!(locks.is_empty());
    for rank in RANKS {
        locks.take(rank).unwrap();
        assert!(!locks.is_empty());
    }
    for (left, rank) in (0..RANKS.len()).rev().zip(RANKS) {
        locks.release(rank);
        assert_eq!(locks.is_empty(), left == 0);
    }
}

#[test]
fn the_locks_of_interrupt_handlers_are_the_last_two() {
    let (sleeping, of_handlers) = RANKS.split_at(8);
    assert!(sleeping.iter().all(|rank| !rank.is_interrupt()));
    assert!(of_handlers.iter().all(|rank| rank.is_interrupt()));
    assert_eq!(of_handlers, [LockRank::Timestamps, LockRank::Seat]);
}
