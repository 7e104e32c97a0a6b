//! The one entry for every check of this workspace.
//!
//! `cargo xtask ci` is the whole of CI: the same stages, in the same order, on any machine. Each
//! command is printed as it runs, so that one that fails can be repeated by hand.

mod bare;
mod bench;
mod ci;
mod command;
mod config;
mod coverage;
mod firmware;
mod fuzz;
mod loom;
mod mutants;
mod policy;
mod setup;
mod stages;
mod stress;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Every error of this program ends as a sentence that a person reads; none is acted upon.
type Result<T> = std::result::Result<T, String>;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about, disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Subcommands,
}

#[derive(Debug, Subcommand)]
enum Subcommands {
    /// Runs everything that CI runs and sums it up; status 1 if anything failed
    Ci(ci::Options),
    /// Measures speed; the arguments are those of the benchmark
    Bench(bench::Options),
    /// Feeds random operations and requests to the libraries; needs a nightly compiler
    Fuzz(fuzz::Options),
    /// Builds the firmware images, boots them in an emulator, and reports their logs and sizes
    Firmware(firmware::Options),
    /// Runs the loom models, all or some, and says what each proves
    Loom(loom::Options),
    /// Reports which lines the tests execute
    Coverage(coverage::Options),
    /// Reports which small changes of the libraries no test notices
    Mutants(mutants::Options),
    /// Does random things to the driver for a while, with random failures, beside a model of it
    Stress(stress::Options),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Subcommands::Ci(options) => ci::run(&options),
        Subcommands::Bench(options) => bench::run(&options).map(|()| ExitCode::SUCCESS),
        Subcommands::Fuzz(options) => fuzz::run(&options).map(|()| ExitCode::SUCCESS),
        Subcommands::Firmware(options) => firmware::run(&options).map(|()| ExitCode::SUCCESS),
        Subcommands::Loom(options) => loom::run(&options).map(|()| ExitCode::SUCCESS),
        Subcommands::Coverage(options) => coverage::run(&options).map(|()| ExitCode::SUCCESS),
        Subcommands::Mutants(options) => mutants::run(&options).map(|()| ExitCode::SUCCESS),
        Subcommands::Stress(options) => stress::run(&options).map(|()| ExitCode::SUCCESS),
    };
    outcome.unwrap_or_else(|error| {
        println!("error: {error}");
        ExitCode::FAILURE
    })
}
