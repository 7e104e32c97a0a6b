//! `hl-harness random`: random scenarios until one fails.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::Script;
use super::random::random;
use super::run::{Options, Stop, run};
use super::shrink::shrink;
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
    let stop = match run(&script, asic, options, &mut ()) {
        Ok(passed) => return Ok(passed.steps),
        Err(stop) => stop,
    };
    let what = match &stop {
        Stop::Failed(failure) => {
            let notes: String = failure
                .notes
                .iter()
                .map(|note| format!("#   {note}\n"))
                .collect();
            format!(
                "# expected  {}\n# found     {}\n{notes}",
                failure.expected, failure.found
            )
        }
        Stop::Invalid(invalid) => format!("# {invalid}\n"),
    };
    let smaller = shrink(&script, asic, options);
    Err(format!(
        "# From seed {seed}, with `--seed {seed}`:\n{what}{smaller}"
    ))
}
