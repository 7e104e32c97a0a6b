//! `cargo xtask loom`: the models by themselves, while one works on them.

use clap::Args;

use crate::Result;
use crate::stages::loom;
use crate::workspace::Session;

/// Arguments of `cargo xtask loom`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Explores up to this many preemptions in one execution (ci/ci.toml has the default)
    #[arg(long, value_name = "NUMBER")]
    max_preemptions: Option<u32>,
    /// Goes to the test program: a filter, --nocapture and so on
    #[arg(last = true)]
    arguments: Vec<String>,
}

/// Runs the models.
///
/// # Errors
/// A model failed, there is none, or none fits the filter.
pub(crate) fn run(options: &Options) -> Result<()> {
    let session = Session::open(false, false)?;
    let preemptions = options
        .max_preemptions
        .unwrap_or(session.config.ci.loom.max_preemptions);
    loom::run_models(&session, preemptions, &options.arguments)
}
