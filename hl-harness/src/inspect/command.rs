//! The commands that look: what they take and what they print.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::hex;
use super::sample::{SampleOptions, sample};
use super::state::State;
use crate::scenario::words::Asics;

/// What the commands that look end with.
const STATUS: &str = "Exit status: 0 when there is a picture, 1 when the scenario failed: then the picture is that of the \
     failure, which is told on standard error; 2 when there is none.";

/// Commands that look at the state of a machine.
#[derive(Clone, Debug, Subcommand)]
pub enum LookCommand {
    /// Run a small built-in workload and save what the machine looks like at its end.
    Sample(SampleArguments),
    /// Walk one device address hop by hop, with the meaning of each field.
    #[command(after_help = STATUS)]
    Walk(WalkArguments),
    /// Print the page tables as a tree, runs of equal entries folded.
    #[command(after_help = STATUS)]
    Dump(DumpArguments),
    /// Draw the device addresses as SVG: free and used, leaves, tables, what is behind them.
    #[command(after_help = STATUS)]
    Map(PictureArguments),
    /// Draw the event log as SVG: when each mapping was unmapped, invalidated, released.
    #[command(after_help = STATUS)]
    Timeline(PictureArguments),
}

/// Where a state comes from.
#[derive(Clone, Debug, Args)]
pub struct Source {
    /// A saved state, as `sample` and `run --state` write one.
    #[arg(long, value_name = "FILE", required_unless_present = "scenario")]
    pub state: Option<PathBuf>,

    /// A scenario file, which is run: the state is that of its end, or of the step that failed.
    #[arg(long, value_name = "FILE", conflicts_with = "state")]
    pub scenario: Option<PathBuf>,

    /// The ASIC to run the scenario on [default: the first of the file's, or gaudi2].
    #[arg(long, value_enum, value_name = "ASIC", conflicts_with = "state")]
    pub asic: Option<Asics>,

    /// What everything random in the scenario is decided by, as with `run` [default: 1].
    #[arg(long, conflicts_with = "state")]
    pub seed: Option<u64>,
}

impl Source {
    /// What decides everything random.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed.unwrap_or(1)
    }
}

/// What there is to look at.
#[derive(Debug)]
pub struct Sight {
    /// The state of the machine.
    pub state: State,
    /// What failed, in words, where the scenario that led to the state did.
    pub failure: Option<String>,
}

/// Options of `hl-harness sample`.
#[derive(Clone, Debug, Args)]
pub struct SampleArguments {
    /// The ASIC to run on.
    ///
    /// Of those that a word stands for, as gaudi2 does for two, it is the first: the one with six stacks.
    #[arg(long, value_enum, value_name = "ASIC", default_value_t = Asics::Gaudi2)]
    pub asic: Asics,

    /// How many mappings are made; about one in five is unmapped again.
    #[arg(long, value_name = "N", default_value_t = 10,
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub mappings: u32,

    /// What decides lengths and order.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,

    /// The file to write.
    #[arg(long, value_name = "FILE")]
    pub state: PathBuf,
}

/// Options of `hl-harness walk`.
#[derive(Clone, Debug, Args)]
pub struct WalkArguments {
    /// What to look at.
    #[command(flatten)]
    pub source: Source,

    /// The address space.
    #[arg(long, default_value_t = 1)]
    pub asid: u16,

    /// On Gaudi2, the MMU for device memory that walks [default: the first there is].
    #[arg(long, value_name = "NUMBER")]
    pub hmmu: Option<u8>,

    /// The device address: hexadecimal after 0x, otherwise decimal.
    #[arg(value_name = "ADDRESS", value_parser = hex::parse)]
    pub address: u64,
}

/// Options of `hl-harness dump`.
#[derive(Clone, Debug, Args)]
pub struct DumpArguments {
    /// What to look at.
    #[command(flatten)]
    pub source: Source,

    /// The address space [default: all that have entries].
    #[arg(long)]
    pub asid: Option<u16>,

    /// Print each entry on a line of its own.
    #[arg(long)]
    pub every: bool,
}

/// Options of the commands that draw.
#[derive(Clone, Debug, Args)]
pub struct PictureArguments {
    /// What to look at.
    #[command(flatten)]
    pub source: Source,

    /// The SVG file to write [default: standard output].
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Runs a command on a saved state, or on what `run_scenario` makes of a scenario file, an ASIC and a
/// seed.
///
/// A scenario that failed is looked at all the same, since that is when somebody wants to; it is told
/// apart by what stands on standard error and by the exit status.
#[must_use]
pub fn main(
    command: &LookCommand,
    run_scenario: impl FnOnce(&Path, Option<Asics>, u64) -> Result<Sight, String>,
) -> ExitCode {
    let mut failure = None;
    let load = |source: &Source| {
        let sight = match (&source.state, &source.scenario) {
            (Some(file), _) => load(file).map(|state| Sight {
                state,
                failure: None,
            }),
            (None, Some(file)) => run_scenario(file, source.asic, source.seed()),
            (None, None) => Err("there is nothing to look at".to_owned()),
        }?;
        failure = sight.failure;
        Ok(sight.state)
    };
    let done = run(command, load);
    // A reader that went away has no use for messages.
    if let Some(failure) = &failure {
        let _ = write!(io::stderr(), "{failure}");
    }
    match (done, failure) {
        (Ok(()), None) => ExitCode::SUCCESS,
        (Ok(()), Some(_)) => ExitCode::from(1),
        (Err(message), _) => {
            let _ = writeln!(io::stderr(), "hl-harness: {}", message.trim_end());
            ExitCode::from(2)
        }
    }
}

fn run(
    command: &LookCommand,
    load: impl FnOnce(&Source) -> Result<State, String>,
) -> Result<(), String> {
    match command {
        LookCommand::Sample(arguments) => {
            let [asic, ..] = arguments.asic.parts() else {
                return Err("the word stands for no ASIC".to_owned());
            };
            let options = SampleOptions {
                asic: *asic,
                mappings: arguments.mappings,
                seed: arguments.seed,
            };
            let state = sample(options)?;
            write_file(&arguments.state, |file| state.save(file))
        }
        LookCommand::Walk(arguments) => {
            let state = load(&arguments.source)?;
            print(&walk(&state, arguments)?)
        }
        LookCommand::Dump(arguments) => {
            let state = load(&arguments.source)?;
            print(&state.dump(arguments.asid, arguments.every).to_string())
        }
        LookCommand::Map(arguments) => arguments.show(&load(&arguments.source)?.map()),
        LookCommand::Timeline(arguments) => arguments.show(&load(&arguments.source)?.timeline()),
    }
}

fn walk(state: &State, arguments: &WalkArguments) -> Result<String, String> {
    let address = mmu_core::DeviceAddr::new(arguments.address);
    let walk = state.walk(arguments.asid, address, arguments.hmmu);
    let walk = walk.ok_or_else(|| "the device has no such MMU".to_owned())?;
    Ok(walk.to_string())
}

impl PictureArguments {
    fn show(&self, picture: &str) -> Result<(), String> {
        match &self.output {
            None => print(picture),
            Some(path) => write_file(path, |file| file.write_all(picture.as_bytes())),
        }
    }
}

/// Reads a saved state.
fn load(path: &Path) -> Result<State, String> {
    let refused = |error: io::Error| format!("{}: {error}", path.display());
    let file = File::open(path).map_err(refused)?;
    State::load(BufReader::new(file)).map_err(refused)
}

fn print(text: &str) -> Result<(), String> {
    match io::stdout().write_all(text.as_bytes()) {
        // Whoever reads has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(|error| error.to_string()),
    }
}

fn write_file(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<(), String> {
    let written = File::create(path).and_then(|file| {
        let mut file = BufWriter::new(file);
        write(&mut file)?;
        file.flush()
    });
    written.map_err(|error| format!("{}: {error}", path.display()))
}
