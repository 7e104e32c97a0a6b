//! `hl-harness random`: random scenarios until one fails.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::Script;
use super::random::{choices, random, random_of};
use super::run::{Failure, Options, Stop, run};
use super::shrink::shrink_by;
use super::words::{AsicWord, Asics};

/// Options of `hl-harness random`.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Exit status: 0 when every scenario passed, 1 when one failed: then it is printed, or \
                  written to a file, as short as it still fails in the same way."
)]
pub struct RandomOptions {
    /// About how many steps each scenario has.
    #[arg(long, default_value_t = 400, value_name = "N")]
    pub steps: usize,

    /// What the first scenario is made of; the next one has the next number.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,

    /// How many scenarios, on each ASIC.
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub runs: u64,

    /// The ASIC to run on; may be repeated [default: all].
    #[arg(long, value_enum, value_name = "ASIC")]
    pub asic: Vec<Asics>,

    /// Where a scenario that fails is written.
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Runs random scenarios, and tells of the first that fails.
#[must_use]
pub fn main(options: &RandomOptions) -> ExitCode {
    let mut steps = 0;
    for asic in Asics::parts_of(&options.asic) {
        for number in 0..options.runs {
            let seed = options.seed.wrapping_add(number);
            match attempt(asic, options.steps, seed) {
                Ok(done) => steps += done,
                Err(reproducer) => {
                    println!("seed {seed} fails on {asic}:\n\n{reproducer}");
                    if let Some(path) = &options.output {
                        match std::fs::write(path, &reproducer) {
                            Ok(()) => println!("written to {}", path.display()),
                            Err(error) => println!("{}: {error}", path.display()),
                        }
                    }
                    return ExitCode::FAILURE;
                }
            }
        }
        println!("pass  {} random scenarios on {asic}", options.runs);
    }
    println!("\n{steps} steps");
    ExitCode::SUCCESS
}

/// Runs the random scenario of one seed.
///
/// # Errors
///
/// The text of a scenario that fails, as short as it still does, with what came of it as comments.
pub fn attempt(asic: AsicWord, steps: usize, seed: u64) -> Result<u64, String> {
    let text = random(asic, steps, seed);
    let options = Options {
        seed,
        events: false,
    };
    let script: Script = match text.parse() {
        Ok(script) => script,
        Err(invalid) => return Err(format!("# {invalid}\n{text}")),
    };
    match run(&script, asic, options, &mut ()) {
        Ok(passed) => Ok(passed.steps),
        Err(Stop::Invalid(invalid)) => Err(format!("# {invalid}\n{text}")),
        Err(Stop::Failed(failure)) => {
            let short = shorter(asic, steps, options, &failure).unwrap_or(script);
            let failure = match run(&short, asic, options, &mut ()) {
                Err(Stop::Failed(failure)) => failure,
                _ => failure,
            };
            let notes = failure.notes.iter();
            let notes: String = notes.map(|note| format!("#   {note}\n")).collect();
            let Failure {
                expected, found, ..
            } = failure;
            Err(format!(
                "# From seed {seed}, with `--seed {seed}`:\n# expected  {expected}\n\
                 # found     {found}\n{notes}{short}"
            ))
        }
    }
}

/// The scenario of as few choices as lead to a failure like this one.
///
/// What is expected in a text is what all of it leads to: with a request less it would fail for want of
/// that. So choices are left out, each of which brings its own expectations, and of the text only such
/// steps as are nothing to driver and device.
fn shorter(asic: AsicWord, steps: usize, options: Options, failure: &Failure) -> Option<Script> {
    // Names and numbers change with the choices before.
    let like = |failure: &Failure| -> String {
        let both = format!("{}\n{}", failure.expected, failure.found);
        let words = both.split(|c: char| !c.is_ascii_alphanumeric());
        words
            .map(|word| match word.contains(|c: char| c.is_ascii_digit()) {
                true => "# ".to_owned(),
                false => format!("{word} "),
            })
            .collect()
    };
    let wanted = like(failure);
    let fails = |choices: &[u64]| {
        let script: Script = random_of(asic, options.seed, choices).parse().ok()?;
        match run(&script, asic, options, &mut ()) {
            Err(Stop::Failed(failure)) if like(&failure) == wanted => Some(script),
            _ => None,
        }
    };
    let short = fewest(choices(asic, steps, options.seed), fails)?;
    Some(shrink_by(&short, asic, options, |step| !step.is_work()))
}

/// What fails with so few of the choices that no single one can be spared; `None` where with each one less
/// nothing does.
fn fewest<T>(mut left: Vec<u64>, fails: impl Fn(&[u64]) -> Option<T>) -> Option<T> {
    let mut fewest = None;
    let mut chunk = left.len().div_ceil(2);
    while chunk > 0 {
        let (mut at, before) = (0, left.len());
        while at < left.len() {
            let mut fewer = left.clone();
            fewer.drain(at..left.len().min(at + chunk));
            match fails(&fewer) {
                Some(failing) => (left, fewest) = (fewer, Some(failing)),
                None => at += chunk,
            }
        }
        // Again, as long as single ones can be spared.
        if chunk > 1 || left.len() == before {
            chunk /= 2;
        }
    }
    fewest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_choices_are_left_out_the_others_bring_what_is_to_be_expected_of_them() {
        for asic in [AsicWord::Goya, AsicWord::Gaudi2] {
            for seed in 0..4 {
                let all = choices(asic, 150, seed);
                let mut chance = fastrand::Rng::with_seed(seed);
                for _ in 0..4 {
                    let some = all.iter().copied().filter(|_| chance.bool());
                    let text = random_of(asic, seed, &some.collect::<Vec<_>>());
                    let script: Script = text.parse().expect("it is a scenario");
                    let options = Options {
                        seed,
                        events: false,
                    };
                    if let Err(stop) = run(&script, asic, options, &mut ()) {
                        panic!("{stop:?}\n{text}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_fewest_choices_are_those_that_are_all_needed() {
        // Three of them, or two beside many others.
        let needs = |choices: &[u64]| {
            let has = |choice| choices.contains(&choice);
            let fails = has(40) && has(41) && has(97) || has(3) && has(77) && choices.len() > 50;
            fails.then(|| choices.to_vec())
        };
        assert_eq!(fewest((0..100).collect(), needs), Some(vec![40, 41, 97]));
        assert_eq!(fewest(vec![40, 41, 97], needs), None);
    }
}
