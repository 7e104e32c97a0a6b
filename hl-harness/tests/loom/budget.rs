//! What threads can do to a budget, in every interleaving.
//!
//! Proves, for two users of one budget that charge and refund at a time: the charges together
//! never exceed the limit; a charge is refused only where the pages were taken; nothing is lost;
//! and the identity that the first charge draws is the same for both. A budget that looks at its
//! counter and then adds to it, in two steps, fails here.

use hl_mem::budget::Budget;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

use crate::explore;

#[test]
fn two_threads_never_exceed_the_limit_and_lose_nothing() {
    explore(|| {
        const LIMIT: usize = 3;
        let budget = Arc::new(Budget::new(LIMIT));
        // Pages that are charged for certain: counted after a charge, discounted before a refund.
        let held = Arc::new(AtomicUsize::new(0));
        let run = |budget: &Budget, held: &AtomicUsize| {
            if let Ok(charge) = budget.charge(2) {
                let before = held.fetch_add(2, Ordering::SeqCst);
                assert!(before + 2 <= LIMIT);
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
    });
}

#[test]
fn two_charges_that_fit_together_are_both_made() {
    explore(|| {
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
