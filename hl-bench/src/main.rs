//! Measures `mmu-core` beside the page-table crates of the registry and beside the floor, `hl-mem`'s
//! ring and its device addresses beside others', and whole requests to map memory by their phases.
//!
//! For the page tables: one process, one piece of memory for everybody's tables, one frame allocator for the peers.
//! In each round everybody does the work of every row, in an order that rotates from round to
//! round; the floor is measured again before each. Every result is checked in every round.

mod addresses;
mod allocations;
mod arena;
mod callgrind;
mod memory;
mod ours;
mod peers;
mod plot;
mod record;
mod ring;
mod rows;
mod subject;

use std::collections::BTreeMap;
use std::error::Error;
use std::path::PathBuf;
use std::{fs, io};

use clap::{Parser, ValueEnum};
use mmu_core::format::{Gaudi2Pmmu, NoAttributes, V1, X86_64, X86Attributes};

use ours::{Contestant, Ours, Unlocked};
use record::{Mode, Recorder};
use rows::Inputs;

/// Measures page tables, rings and device addresses beside others, and requests by their phases.
#[derive(Parser, Debug)]
struct Arguments {
    /// What is measured: everything, unless something is named.
    #[arg(value_enum)]
    sections: Vec<Section>,
    /// Few rounds: shows that everything works, and roughly how fast.
    #[arg(long)]
    quick: bool,
    /// Writes the results to a file, one JSON object for each row and implementation.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draws the results into a file, as an SVG.
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Measures nothing and draws the results that an earlier run wrote with --json.
    #[arg(long, value_name = "FILE", requires = "plot", conflicts_with = "json")]
    read: Option<PathBuf>,
    /// Counts instructions per leaf as well, with valgrind's callgrind.
    #[arg(long)]
    instructions: bool,
    /// Rounds that are measured, after one that is not.
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,
    /// This process runs under callgrind.
    #[arg(long, hide = true)]
    under_callgrind: bool,
}

/// A part of the measurements.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Section {
    /// Page tables.
    Tables,
    /// The ring of a producer/consumer block.
    Rings,
    /// Requests to map and to unmap host memory, by phases.
    Memory,
    /// The allocator of device addresses.
    Addresses,
}

impl Arguments {
    fn measures(&self, section: Section) -> bool {
        self.sections.is_empty() || self.sections.contains(&section)
    }
}

impl Contestant<Unlocked> for V1 {
    const TITLE: &'static str = "mmu-core, Goya and Gaudi";
    const ATTRIBUTES: NoAttributes = NoAttributes;
}

impl Contestant<Unlocked> for Gaudi2Pmmu {
    const TITLE: &'static str = "mmu-core, Gaudi2 PMMU";
    const ATTRIBUTES: NoAttributes = NoAttributes;
}

impl Contestant<Unlocked> for X86_64<4> {
    const TITLE: &'static str = "mmu-core, x86-64";
    const ATTRIBUTES: X86Attributes = X86Attributes {
        writable: true,
        user: false,
        no_execute: false,
    };
}

impl Contestant<spin::Mutex<()>> for X86_64<4> {
    const TITLE: &'static str = "mmu-core, x86-64, spin lock";
    const ATTRIBUTES: X86Attributes = <Self as Contestant<Unlocked>>::ATTRIBUTES;
}

type Round = fn(&mut Recorder, &Inputs);

/// Everybody who is measured.
const SUBJECTS: &[Round] = &[
    rows::round::<Ours<V1, Unlocked>>,
    rows::round::<Ours<Gaudi2Pmmu, Unlocked>>,
    rows::round::<Ours<X86_64<4>, Unlocked>>,
    rows::round::<Ours<X86_64<4>, spin::Mutex<()>>>,
    #[cfg(target_arch = "x86_64")]
    rows::round::<peers::multiarch::Multiarch>,
    rows::round::<peers::x86_64::X86>,
    rows::round::<peers::aarch64::Aarch64>,
    rows::round::<peers::generic::Generic>,
];

fn measure(recorder: &mut Recorder, inputs: &Inputs, rounds: usize) {
    for round in 0..rounds {
        for turn in 0..SUBJECTS.len() {
            rows::floors(recorder, inputs);
            SUBJECTS[(round + turn) % SUBJECTS.len()](recorder, inputs);
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    if let (Some(read), Some(path)) = (&arguments.read, &arguments.plot) {
        return plot::draw(&fs::read_to_string(read)?, path);
    }
    arena::FRAMES.set_up().map_err(io::Error::from)?;
    let inputs = Inputs::new();
    if arguments.under_callgrind {
        measure(&mut Recorder::new(Mode::Instructions), &inputs, 1);
        return Ok(());
    }
    let rounds = arguments
        .rounds
        .unwrap_or(if arguments.quick { 5 } else { 41 })
        .max(1);
    let mut objects = Vec::new();
    if arguments.measures(Section::Tables) {
        let mut recorder = Recorder::new(Mode::Time);
        measure(&mut recorder, &inputs, 1);
        recorder.warm();
        measure(&mut recorder, &inputs, rounds);
        let instructions = if arguments.instructions {
            callgrind::run()?
        } else {
            BTreeMap::new()
        };
        let results = recorder.results(&instructions);
        print!("{}", record::table(&results));
        objects.extend(record::json_objects(&results));
    }
    if arguments.measures(Section::Rings) {
        let records = if arguments.quick { 50_000 } else { 500_000 };
        let rings = ring::measure(rounds.min(15), records);
        print!("{}", rings.table());
        objects.extend(rings.json_objects());
    }
    if arguments.measures(Section::Memory) {
        let memory = memory::measure(rounds.min(15));
        print!("{}", memory.table());
        objects.extend(memory.json_objects());
    }
    if arguments.measures(Section::Addresses) {
        let steps = if arguments.quick { 4_000 } else { 20_000 };
        let addresses = addresses::measure(rounds.min(15), steps);
        print!("{}", addresses.table());
        objects.extend(addresses.json_objects());
    }
    let json = format!("[\n  {}\n]\n", objects.join(",\n  "));
    if let Some(path) = &arguments.json {
        fs::write(path, &json)?;
    }
    if let Some(path) = &arguments.plot {
        plot::draw(&json, path)?;
    }
    Ok(())
}
