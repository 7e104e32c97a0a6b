//! `cargo xtask stress`: random work on the driver beside a model of it, for as long as one likes.

use std::time::Duration;

use clap::Args;

use crate::Result;
use crate::workspace::Session;

/// Arguments of `cargo xtask stress`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Goes on this long
    #[arg(long, value_name = "NUMBER", default_value_t = 30)]
    minutes: u32,
    /// Begins with this seed; one that found something repeats it
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// Works on one ASIC: goya, gaudi, gaudi2-six or gaudi2-five; gaudi2 is both of them, in turn
    #[arg(long, value_name = "NAME")]
    asic: Option<String>,
}

/// Builds the harness, optimised and with every assertion, and runs it.
///
/// # Errors
/// It does not build, or the driver and the model do not agree.
pub(crate) fn run(options: &Options) -> Result<()> {
    let Options {
        minutes,
        seed,
        asic,
    } = options;
    Session::open(false, false)?
        .cargo("run")
        .lasting(Duration::from_secs(60 * u64::from(*minutes)))
        .arguments([
            "--locked",
            "--profile=checked",
            "--package=hl-harness",
            "--",
        ])
        .arguments([
            "stress".to_owned(),
            format!("--minutes={minutes}"),
            format!("--seed={seed}"),
        ])
        .arguments(asic.iter().map(|asic| format!("--asic={asic}")))
        .run()
}
