//! Random work as scenarios: what `hl-harness stress` prints when driver and model disagree.

use std::process::Command;

use hl_harness::machine::Model;
use hl_harness::scenario::ast::Step;
use hl_harness::scenario::words::AsicWord;
use hl_harness::scenario::{Options, Script, Stop, run, shrink_by};
use hl_harness::stress::{self, Failure, Operation, USERS};
use hl_mem::profile::Gaudi2;

#[path = "support/each_asic.rs"]
mod each_asic;
use each_asic::on_each_asic;

on_each_asic!(a_run_without_a_disagreement_is_a_scenario_that_holds);

fn a_run_without_a_disagreement_is_a_scenario_that_holds<A: Model>() {
    for seed in 0..3 {
        let mut steps = stress::steps(seed, USERS, 400);
        // What there is too little of in so few steps.
        let (kept, noted) = (seed == 1, seed < 2);
        steps[150].operation = Operation::Die { kept, noted };
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

/// The planted disagreement: where there are two buffers for the first time, the model says one. Who
/// leaves out the making of both finds none, and that the scenario still fails.
#[test]
fn a_disagreement_about_a_number_keeps_all_that_makes_it() {
    const RIGHT: &str = "expect counter kernel-buffers = 2\n";
    const PLANTED: &str = "expect counter kernel-buffers = 1\n";
    const ASIC: AsicWord = AsicWord::Gaudi2;
    let unmet = |script: &Script| match run(script, ASIC, Options::default(), &mut ()) {
        Err(Stop::Failed(failure)) => (failure.expected, failure.found),
        other => panic!("{other:?} of\n{script}"),
    };
    let work = |script: &Script| {
        let steps = script.steps.iter().map(|line| line.step.clone());
        steps.filter(Step::is_work).collect::<Vec<_>>()
    };
    let text = stress::as_scenario::<Gaudi2<6>>(&stress::steps(5, USERS, 100));
    let (before, _) = text.split_once(RIGHT).expect("there are two at some time");
    let script: Script = [before, PLANTED].concat().parse().unwrap();
    let short = shrink_by(&script, ASIC, Options::default(), |step| !step.is_work());
    assert_eq!(unmet(&short), unmet(&script));
    assert_eq!(work(&short), work(&script), "\n{short}");
    assert_eq!(short.to_string().matches("expect counter").count(), 1);
}

/// There is time for a machine or two; which ones they are, their lines say.
#[test]
fn the_command_takes_the_words_for_asics_that_scenarios_have() {
    for (words, first) in [
        (&["gaudi2-five"][..], "gaudi2-five, seed 1: "),
        (&["gaudi2", "goya"], "goya, seed 1: "),
        (&["gaudi2"], "gaudi2-six, seed 1: "),
    ] {
        let mut stress = Command::new(env!("CARGO_BIN_EXE_hl-harness"));
        stress.args(["stress", "--minutes", "0.00001", "--steps", "100"]);
        for word in words {
            stress.args(["--asic", word]);
        }
        let output = stress.output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{said}");
        assert!(said.starts_with(first), "{said}");
    }
}
