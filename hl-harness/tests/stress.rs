//! Random work as scenarios: what `hl-harness stress` prints when driver and model disagree.

use hl_harness::machine::Model;
use hl_harness::scenario::words::AsicWord;
use hl_harness::scenario::{Options, Script, run};
use hl_harness::stress::{self, Failure, Operation, USERS};

#[path = "support/each_asic.rs"]
mod each_asic;
use each_asic::on_each_asic;

on_each_asic!(a_run_without_a_disagreement_is_a_scenario_that_holds);

fn a_run_without_a_disagreement_is_a_scenario_that_holds<A: Model>() {
    for seed in 0..3 {
        let mut steps = stress::steps(seed, USERS, 400);
        // What there is too little of in so few steps.
        steps[150].operation = Operation::Die;
        for (number, step) in steps.iter_mut().enumerate().skip(200).step_by(7) {
            step.failure = Some(match number % 4 {
                0 => Failure::Page(1),
                1 => Failure::Pin(2),
                2 => Failure::Invalidation(1),
                _ => Failure::Invalidations(2),
            });
        }
        let text = stress::as_scenario::<A>(&steps);
        let script: Script = match text.parse() {
            Ok(script) => script,
            Err(invalid) => panic!("seed {seed}: {invalid}\n{text}"),
        };
        assert!(text.contains("without a disagreement"), "{text}");
        assert!(script.steps.len() > 800, "{text}");
        let asic = AsicWord::of_model::<A>();
        if let Err(stop) = run(&script, asic, Options::default(), &mut ()) {
            panic!("seed {seed}: {stop:?} of\n{text}");
        }
    }
}
