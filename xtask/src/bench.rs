//! `cargo xtask bench`: the measurements, which are not a check.

use clap::Args;

use crate::Result;
use crate::workspace::Session;

/// Arguments of `cargo xtask bench`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Goes to the benchmark: tables, rings, memory or addresses, --quick, --json FILE, --plot FILE,
    /// --instructions, --rounds N; --help lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Builds and runs the benchmark.
///
/// # Errors
/// It does not build, or a result of it is wrong.
pub(crate) fn run(options: &Options) -> Result<()> {
    Session::open(false, false)?
        .cargo("run")
        .arguments(["--locked", "--release", "--package=hl-bench", "--"])
        .arguments(&options.arguments)
        .run()
}
