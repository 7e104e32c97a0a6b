//! What threads can do to a budget, in every interleaving.
//!
//! Proves, for two users of one budget that charge and refund at a time: the charges together
//! never exceed the limit; a charge is refused only where the pages were taken; nothing is lost;
//! and the identity that the first charge draws is the same for both.

use hl_mem::budget::{Budget, Charge};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

use crate::{expect_failure, explore};

const LIMIT: usize = 3;

/// Charges two pages as long as the limit leaves them; planted: looks first and charges then.
fn charge(budget: &Budget, in_two_steps: bool) -> Option<Charge> {
    if in_two_steps && budget.charged() + 2 > LIMIT {
        return None;
    }
    budget.charge(2).ok()
}

fn two_users(in_two_steps: bool) {
    let limit = if in_two_steps { usize::MAX } else { LIMIT };
    let budget = Arc::new(Budget::new(limit));
    // Pages that are charged for certain: counted after a charge, discounted before a refund.
    let held = Arc::new(AtomicUsize::new(0));
    let run = move |budget: &Budget, held: &AtomicUsize| {
        if let Some(charge) = charge(budget, in_two_steps) {
            let before = held.fetch_add(2, Ordering::SeqCst);
            assert!(before + 2 <= LIMIT, "the limit is exceeded");
            held.fetch_sub(2, Ordering::SeqCst);
            budget.refund(charge).unwrap();
        }
    };
    let other = {
        let (budget, held) = (Arc::clone(&budget), Arc::clone(&held));
        thread::spawn(move || run(&budget, &held))
    };
    run(&budget, &held);
    other.join().unwrap();
    assert_eq!(budget.charged(), 0);
}

#[test]
fn two_threads_never_exceed_the_limit_and_lose_nothing() {
    explore(
        "two users charge and refund: the limit holds, nothing is lost",
        || two_users(false),
    );
}

/// A budget that looks at its counter and then adds to it lets both through.
#[test]
fn a_charge_in_two_steps_is_found() {
    expect_failure(
        "the counter is looked at first and added to then",
        "the limit is exceeded",
        || two_users(true),
    );
}

#[test]
fn two_charges_that_fit_together_are_both_made() {
    explore("charges that fit together are both made", || {
        let budget = Arc::new(Budget::new(3));
        let other = {
            let budget = Arc::clone(&budget);
            thread::spawn(move || budget.charge(1).unwrap())
        };
        let own = budget.charge(2).unwrap();
        let other = other.join().unwrap();
        assert_eq!(budget.charged(), 3);
        budget.refund(own).unwrap();
        budget.refund(other).unwrap();
        assert_eq!(budget.charged(), 0);
    });
}
