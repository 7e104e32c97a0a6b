//! Command line of the harness.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use hl_harness::demo::{self, DemoOptions};
use hl_harness::inspect;
use hl_harness::scenario::command::{self, RunOptions, state_at_end};
use hl_harness::scenario::random_command::{self, RandomOptions};
use hl_harness::stress::{self, StressOptions};

/// A software accelerator of the habanalabs family, driven by hl-mem.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the founding flow end to end: a kernel block in the privileged address space, shown to a
    /// process by an opaque handle, written by the device, read by the process.
    Demo(DemoOptions),
    /// Look at the state of a machine.
    #[command(flatten)]
    Look(inspect::LookCommand),
    /// Run scenario files: steps and expectations, one a line. `hl-harness/scenarios/README.md` lists
    /// them.
    Run(RunOptions),
    /// Run random scenarios until one fails, and print a short one that fails in the same way.
    Random(RandomOptions),
    /// Do random things to the driver, with random failures, and compare all of it with a model.
    Stress(StressOptions),
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Demo(options) => demo::main(&options),
        Command::Look(command) => inspect::main(&command, state_at_end),
        Command::Run(options) => command::main(&options),
        Command::Random(options) => random_command::main(&options),
        Command::Stress(options) => stress::main(&options),
    }
}
