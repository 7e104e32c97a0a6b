//! `hl-harness stress`: as long as one likes, on every ASIC.

use std::io::{self, IsTerminal};
use std::panic;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use hl_mem::profile::{Gaudi, Gaudi2, Goya};
use indicatif::{ProgressBar, ProgressStyle};

use super::operations::steps;
use super::reproducer::reproducer;
use super::run::{Summary, USERS, run};
use crate::machine::Model;
use crate::scenario::words::{AsicWord, Asics};

/// Options of `hl-harness stress`.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Exit status: 0 when driver and model agreed all the time, 1 when not: then a scenario \
                  that shows it is printed, or written to a file, as short as it still does."
)]
pub struct StressOptions {
    /// How long, all ASICs together.
    #[arg(long, default_value_t = 30.0)]
    pub minutes: f64,

    /// The first seed; each machine takes the next one.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,

    /// Steps on one machine, after which another one is built with another seed.
    #[arg(long, default_value_t = 20_000)]
    pub steps: usize,

    /// An ASIC. May be repeated, and is taken in turn with the others [default: all].
    #[arg(long, value_enum, value_name = "ASIC")]
    pub asic: Vec<Asics>,

    /// Where a scenario that shows a disagreement is written.
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Runs it and tells how it went.
#[must_use]
pub fn main(options: &StressOptions) -> ExitCode {
    let asics = Asics::parts_of(&options.asic);
    let end = Duration::try_from_secs_f64(options.minutes * 60.0).unwrap_or(Duration::MAX);
    let begun = Instant::now();
    let bar = progress(end);
    let mut summary = Summary::default();
    for (seed, asic) in (options.seed..).zip(asics.iter().cycle()) {
        if begun.elapsed() >= end {
            break;
        }
        let one = match asic {
            AsicWord::Goya => one::<Goya>,
            AsicWord::Gaudi => one::<Gaudi>,
            AsicWord::Gaudi2 => one::<Gaudi2<6>>,
            AsicWord::Gaudi2Five => one::<Gaudi2<5>>,
        };
        let watch = || {
            if let Some(bar) = &bar {
                bar.set_position(begun.elapsed().as_secs());
            }
        };
        match one(seed, options.steps, &watch) {
            Ok(more) => summary.add(&more),
            Err(scenario) => {
                if let Some(bar) = &bar {
                    bar.finish_and_clear();
                }
                println!("{asic}, seed {seed}:\n\n{scenario}");
                println!("before that: {summary}");
                if let Some(path) = &options.output {
                    match std::fs::write(path, &scenario) {
                        Ok(()) => println!("written to {}", path.display()),
                        Err(error) => println!("{}: {error}", path.display()),
                    }
                }
                return ExitCode::FAILURE;
            }
        }
        match &bar {
            Some(bar) => bar.set_message(summary.to_string()),
            None => println!("{asic}, seed {seed}: {summary} so far"),
        }
    }
    if let Some(bar) = &bar {
        bar.finish_and_clear();
    }
    println!("{summary}, without a disagreement");
    ExitCode::SUCCESS
}

fn progress(end: Duration) -> Option<ProgressBar> {
    io::stderr().is_terminal().then(|| {
        let template = "{bar:30} {elapsed} of {len} s\n{wide_msg}";
        let style = ProgressStyle::with_template(template);
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
        ProgressBar::new(end.as_secs()).with_style(style.progress_chars("=> "))
    })
}

/// One machine; a disagreement is told as a scenario with the fewest steps that lead to one.
fn one<A: Model>(seed: u64, count: usize, watch: &dyn Fn()) -> Result<Summary, String> {
    let all = steps(seed, USERS, count);
    // Panics are disagreements like others, and told as such.
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let outcome = run::<A>(&all, &|step| {
        if step % 256 == 0 {
            watch();
        }
    });
    let outcome = outcome.map_err(|disagreement| reproducer::<A>(&all, disagreement));
    panic::set_hook(hook);
    outcome
}
