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
    /// Explores the models whose names contain this, such as `unmap`; all if there is none
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Goes to the test program: --nocapture and so on
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
    let arguments = [options.names.as_slice(), &options.arguments].concat();
    loom::run_models(&session, preemptions, &arguments)
}
