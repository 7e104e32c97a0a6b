//! Budgets of locked memory: exact with any number of threads, and never over the limit.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use hl_mem::budget::{Budget, Charge, ForeignCharge};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};

#[test]
fn the_last_page_can_be_charged_and_the_one_after_it_not() {
    let budget = Budget::new(10);
    let first = budget.charge(7).unwrap();
    let refused = budget.charge(4).unwrap_err();
    assert_eq!((refused.requested, refused.left, refused.limit), (4, 3, 10));
    assert_eq!(budget.charged(), 7);
    let second = budget.charge(3).unwrap();
    assert!(budget.charge(1).is_err());
    assert_eq!(budget.charged(), 10);
    budget.refund(first).unwrap();
    budget.refund(second).unwrap();
    assert_eq!(budget.charged(), 0);
}

#[test]
fn a_budget_tells_its_limit_and_what_is_charged() {
    let budget = Budget::new(10);
    let charge = budget.charge(7).unwrap();
    assert_eq!((budget.limit(), budget.charged()), (10, 7));
    assert_eq!(
        format!("{budget:?}"),
        "Budget { charged: 7, limit: 10, .. }"
    );
    budget.refund(charge).unwrap();
    assert_eq!(Budget::unlimited().limit(), usize::MAX);
}

#[test]
fn refusals_say_in_words_how_much_is_missing_or_astray() {
    let budget = Budget::new(10);
    let charge = budget.charge(7).unwrap();
    assert_eq!(
        budget.charge(4).unwrap_err().to_string(),
        "4 pages are to be locked, 3 are left of a limit of 10"
    );
    let ForeignCharge(charge) = {
        let error = Budget::new(10).refund(charge).unwrap_err();
        assert_eq!(
            error.to_string(),
            "a charge of 7 pages was made on another budget"
        );
        error
    };
    budget.refund(charge).unwrap();
}

#[test]
fn a_charge_of_nothing_is_good_even_where_nothing_is_left() {
    let budget = Budget::new(0);
    let nothing = budget.charge(0).unwrap();
    assert_eq!(nothing.pages(), 0);
    budget.refund(nothing).unwrap();
    assert!(budget.charge(1).is_err());
}

#[test]
fn sizes_near_the_end_of_the_number_range_do_not_wrap() {
    let budget = Budget::new(usize::MAX - 1);
    assert!(budget.charge(usize::MAX).is_err());
    let most = budget.charge(usize::MAX - 2).unwrap();
    assert!(budget.charge(usize::MAX).is_err());
    assert!(budget.charge(2).is_err());
    let one = budget.charge(1).unwrap();
    budget.refund(most).unwrap();
    budget.refund(one).unwrap();
    assert_eq!(budget.charged(), 0);
}

#[test]
fn a_privileged_user_is_not_refused_but_counted() {
    let budget = Budget::unlimited();
    let charge = budget.charge(1 << 30).unwrap();
    assert_eq!(budget.charged(), 1 << 30);
    let rest = budget.charge(usize::MAX - (1 << 30)).unwrap();
    // Only where counting ends is there a refusal, and no wrap.
    assert!(budget.charge(1).is_err());
    budget.refund(rest).unwrap();
    budget.refund(charge).unwrap();
}

#[test]
fn a_charge_of_another_budget_is_handed_back_and_changes_neither() {
    let (here, there) = (Budget::new(10), Budget::new(10));
    let charge = here.charge(4).unwrap();
    // A budget that has not charged anything yet, and one that has.
    let ForeignCharge(charge) = there.refund(charge).unwrap_err();
    let own = there.charge(5).unwrap();
    let ForeignCharge(charge) = there.refund(charge).unwrap_err();
    assert_eq!((here.charged(), there.charged()), (4, 5));
    assert_eq!(charge.pages(), 4);
    here.refund(charge).unwrap();
    there.refund(own).unwrap();
    assert_eq!((here.charged(), there.charged()), (0, 0));
}

#[test]
fn a_charge_that_is_dropped_stays_charged() {
    let budget = Budget::new(10);
    drop(budget.charge(4).unwrap());
    assert_eq!(budget.charged(), 4);
}

#[test]
fn threads_that_charge_at_a_time_never_exceed_the_limit_and_lose_nothing() {
    const LIMIT: usize = 2;
    static BUDGET: Budget = Budget::new(LIMIT);
    // Pages that are charged for certain: counted after a charge, discounted before a refund.
    static HELD: AtomicUsize = AtomicUsize::new(0);
    let start = Barrier::new(2);
    thread::scope(|scope| {
        for thread in 0..2 {
            let start = &start;
            scope.spawn(move || {
                start.wait();
                for round in 0..50_000 {
                    let pages = 1 + (thread + round) % 2;
                    if let Ok(charge) = BUDGET.charge(pages) {
                        let held = HELD.fetch_add(pages, Ordering::SeqCst) + pages;
                        assert!(held <= LIMIT, "{held} pages of {LIMIT}");
                        HELD.fetch_sub(pages, Ordering::SeqCst);
                        BUDGET.refund(charge).unwrap();
                    }
                    assert!(BUDGET.charged() <= LIMIT);
                }
            });
        }
    });
    assert_eq!(BUDGET.charged(), 0);
}

proptest! {
    #![proptest_config(Config {
        cases: 200,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(0x6275_6467),
        ..Config::default()
    })]

    #[test]
    fn a_budget_is_the_sum_of_its_charges(
        limit in prop_oneof![0usize..100, usize::MAX - 100..=usize::MAX],
        calls in prop::collection::vec(
            prop_oneof![(0usize..60).prop_map(Some), Just(Some(usize::MAX - 50)), Just(None)],
            1..60,
        ),
    ) {
        let budget = Budget::new(limit);
        let mut charges: Vec<Charge> = Vec::new();
        for call in calls {
            // 128 bits, so that the model cannot wrap.
            let sum: u128 = charges.iter().map(|charge| charge.pages() as u128).sum();
            match call {
                Some(pages) => {
                    let charge = budget.charge(pages);
                    prop_assert_eq!(charge.is_ok(), sum + pages as u128 <= limit as u128);
                    charges.extend(charge.ok());
                }
                None if charges.is_empty() => {}
                None => budget.refund(charges.swap_remove(0)).unwrap(),
            }
            let sum: u128 = charges.iter().map(|charge| charge.pages() as u128).sum();
            prop_assert_eq!(budget.charged() as u128, sum);
        }
    }
}
