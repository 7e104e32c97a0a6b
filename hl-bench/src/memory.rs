//! What it costs to map and to unmap host memory, by phases.
//!
//! Whole requests, as a port's ioctl passes them on, go to a device over a port that does next to
//! nothing (see `port`). Four measurements make a row:
//!
//! * the whole, with no clock inside;
//! * pinning and the MMU's driver, by clocks in the port, less what the clocks themselves take;
//! * device addresses: the same sequence of blocks from an allocator of its own;
//! * tables: the same runs, which tell how many they are, in a page table of its own, at addresses
//!   as close together.
//!
//! The best of many steps is the sum of what their parts took at best (see `Times`).
//!
//! The two last are measured beside the whole and not inside it, where nobody can put a clock: what
//! is left of the whole, without all others, is the rest (parsing, budget, registry, locks) and the
//! error of all of them. The library's own share is the whole without pinning and the MMU.

mod phases;
mod port;
mod shape;
mod worker;

use std::fmt::Write as _;
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use hl_mem::budget::Budget;
use hl_mem::context::{MappingSlot, TimestampStorage};
use hl_mem::device::{Seat, SpaceNodes};
use hl_mem::dram::{DramPool, NoScrub};
use hl_mem::handle::HandleSlot;
use hl_mem::profile::{Gaudi, Gaudi2, Goya};
use hl_mem::va::Node;
use hl_mem::{ContextStorage, Device, DeviceOptions, DeviceParts};

use crate::allocations;
use crate::record::{best, median};
use phases::Phase;
use port::{BenchPort, Measured, NoEngines, Numbers, Pages, timed_driver};
use shape::{Section, Shape, shapes};
use worker::{AddressesAlone, Requests, TablesAlone, Worker};

/// Mappings that any shape has at a time, and some.
const MAPPINGS: usize = 8192 + 8;

/// Steps that are timed together.
const PART: usize = 256;

/// What a section took in one round, in nanoseconds.
#[derive(Debug)]
struct Cost {
    /// Each part of it.
    parts: Vec<f64>,
    /// For each step.
    pin: f64,
    /// For each step.
    mmu: f64,
    allocations: u64,
}

/// What a section took in all rounds, in nanoseconds for each step.
#[derive(Clone, Debug)]
struct Times {
    steps: f64,
    rounds: Vec<f64>,
    /// What each part took at best.
    parts: Vec<f64>,
}

impl Times {
    fn new(steps: usize) -> Self {
        Self {
            steps: steps as f64,
            rounds: Vec::new(),
            parts: vec![f64::INFINITY; steps.div_ceil(PART)],
        }
    }

    fn add(&mut self, cost: &Cost) {
        self.rounds
            .push(cost.parts.iter().sum::<f64>() / self.steps);
        for (best, part) in self.parts.iter_mut().zip(&cost.parts) {
            *best = best.min(*part);
        }
    }

    /// The sum of the best: each round does the same in the same parts, and a section of
    /// milliseconds is hardly ever left in peace by everybody else on the machine, but each part of it
    /// is at some time.
    fn best(&self) -> f64 {
        self.parts.iter().sum::<f64>() / self.steps
    }

    fn median(&self) -> f64 {
        median(&self.rounds)
    }
}

/// Does the work of a shape once and returns the cost of each section.
fn costs(worker: &mut impl Worker, shape: Shape, clock_ns: f64, ready: &Barrier) -> Vec<Cost> {
    let (before, sections) = shape.sections();
    worker.run(&before);
    phases::take(Phase::Pin, 0.0);
    phases::take(Phase::Mmu, 0.0);
    let mut costs = Vec::with_capacity(sections.len());
    for section in &sections {
        let steps = section.steps.len() as f64;
        let mut parts = Vec::with_capacity(section.steps.len().div_ceil(PART));
        ready.wait();
        let allocated = allocations::count();
        for part in section.steps.chunks(PART) {
            let start = Instant::now();
            worker.run(part);
            parts.push(start.elapsed().as_nanos() as f64);
        }
        costs.push(Cost {
            parts,
            pin: phases::take(Phase::Pin, clock_ns) / steps,
            mmu: phases::take(Phase::Mmu, clock_ns) / steps,
            allocations: allocations::count() - allocated,
        });
    }
    for piece in 0..shape.pieces {
        worker.clean(piece);
    }
    costs
}

/// All samples of one section of one shape on one ASIC.
#[derive(Clone, Debug)]
struct Samples {
    asic: &'static str,
    shape: Shape,
    section: &'static str,
    whole: Times,
    pin: Vec<f64>,
    mmu: Vec<f64>,
    addresses: Times,
    tables: Times,
    allocations: u64,
}

impl Samples {
    fn new(asic: &'static str, shape: Shape, section: &Section) -> Self {
        let times = Times::new(section.steps.len());
        Self {
            asic,
            shape,
            section: section.name,
            whole: times.clone(),
            pin: Vec::new(),
            mmu: Vec::new(),
            addresses: times.clone(),
            tables: times,
            allocations: 0,
        }
    }

    /// The library's own share: the best whole, less the best of what is not its own.
    fn own(&self) -> f64 {
        self.whole.best() - best(&self.pin) - best(&self.mmu)
    }

    fn rest(&self) -> f64 {
        self.own() - self.addresses.best() - self.tables.best()
    }

    fn implementation(&self) -> String {
        match self.shape.threads {
            1 => self.asic.to_owned(),
            threads => format!("{}, {threads} threads", self.asic),
        }
    }
}

/// Measures one ASIC.
fn measure_asic<A: Measured>(shapes: &[Shape], rounds: usize) -> Vec<Samples>
where
    for<'m> BenchPort<'m, A>: Sync,
{
    let clock_ns = phases::clock_cost();
    A::with_tables(|tables| {
        let nodes = |count| SpaceNodes::each(|| vec![Node::EMPTY; count]);
        let mut seats: [Seat<A, BenchPort<'_, A>>; 2] = [Seat::new([]), Seat::new([])];
        let parts = DeviceParts {
            host: Numbers,
            engines: NoEngines,
            tables,
            privileged: nodes(16),
            buffers: &mut [],
            options: DeviceOptions::default(),
            seats: &mut seats,
            dram: DramPool::none(),
            scrubber: NoScrub,
        };
        let (device, _privilege) = Device::<A, BenchPort<'_, A>>::new(parts, timed_driver::<A>)
            .expect("the device comes up");
        let budget = Budget::unlimited();
        let measure = |shape: &Shape| {
            let shape = *shape;
            let ready = Barrier::new(shape.threads);
            let in_thread = || {
                let mut mappings: Vec<MappingSlot<BenchPort<'_, A>>> =
                    (0..MAPPINGS).map(|_| MappingSlot::new()).collect();
                let mut handles: [HandleSlot<_>; 1] = [HandleSlot::new()];
                let storage = ContextStorage {
                    nodes: nodes(MAPPINGS + 16),
                    mappings: &mut mappings,
                    handles: &mut handles,
                    timestamps: TimestampStorage::none(),
                };
                let context = device
                    .open(shape.pages, &budget, storage)
                    .expect("there is a seat for each thread");
                let mut requests = Requests::new(&context, shape);
                let mut whole = Vec::new();
                let mut timed = Vec::new();
                for round in 0..=rounds {
                    for (clocks, all) in [(false, &mut whole), (true, &mut timed)] {
                        ready.wait();
                        phases::set_timed(clocks);
                        let costs = costs(&mut requests, shape, clock_ns, &ready);
                        if round > 0 {
                            all.push(costs);
                        }
                        ready.wait();
                        phases::set_timed(false);
                    }
                }
                assert_eq!(context.close().expect("the device confirms").mappings, 0);
                (whole, timed)
            };
            let results: Vec<_> = thread::scope(|scope| {
                let threads: Vec<_> = (0..shape.threads).map(|_| scope.spawn(in_thread)).collect();
                let joined = threads.into_iter().map(|thread| thread.join());
                joined
                    .map(|result| result.expect("no thread panics"))
                    .collect()
            });
            let alone = Barrier::new(1);
            let mut addresses = AddressesAlone::new::<A>(shape);
            let mut table = TablesAlone::<A>::new(tables, shape);
            let sections = shape.sections().1;
            let mut samples: Vec<_> = sections
                .iter()
                .map(|section| Samples::new(A::NAME, shape, section))
                .collect();
            for round in 0..=rounds {
                let addresses = costs(&mut addresses, shape, clock_ns, &alone);
                let tables = costs(&mut table, shape, clock_ns, &alone);
                if round > 0 {
                    for (number, samples) in samples.iter_mut().enumerate() {
                        samples.addresses.add(&addresses[number]);
                        samples.tables.add(&tables[number]);
                    }
                }
            }
            table.close();
            for (number, samples) in samples.iter_mut().enumerate() {
                for (whole, timed) in &results {
                    for costs in whole {
                        samples.whole.add(&costs[number]);
                        samples.allocations += costs[number].allocations;
                    }
                    samples
                        .pin
                        .extend(timed.iter().map(|costs| costs[number].pin));
                    samples
                        .mmu
                        .extend(timed.iter().map(|costs| costs[number].mmu));
                }
            }
            samples
        };
        shapes.iter().flat_map(measure).collect()
    })
}

impl Samples {
    /// What the row is about.
    fn title(&self) -> String {
        let Shape { title, pages, .. } = self.shape;
        let pages = match pages {
            Pages::Run => "one run",
            Pages::ShiftedRun => "one run off by a page",
            Pages::Scattered => "scattered pages",
        };
        format!("{} {title}, {pages}", self.section)
    }
}

/// What was measured.
#[derive(Debug)]
pub(crate) struct Report(Vec<Samples>);

/// Measures all ASICs in `rounds` rounds, after one that is not counted.
pub(crate) fn measure(rounds: usize) -> Report {
    let shapes = shapes();
    let mut all = measure_asic::<Gaudi2<6>>(&shapes, rounds);
    all.extend(measure_asic::<Goya>(&shapes, rounds));
    all.extend(measure_asic::<Gaudi>(&shapes, rounds));
    Report(all)
}

impl Report {
    /// The samples of one row: all ASICs and numbers of threads.
    fn rows(&self) -> Vec<Vec<&Samples>> {
        let mut rows: Vec<Vec<&Samples>> = Vec::new();
        for one in &self.0 {
            let same = |row: &&mut Vec<&Samples>| {
                row.first().is_some_and(|first| {
                    first.shape.id == one.shape.id && first.section == one.section
                })
            };
            match rows.iter_mut().find(same) {
                Some(row) => row.push(one),
                None => rows.push(vec![one]),
            }
        }
        rows
    }

    /// What a step of a shape costs on an ASIC, over all sections.
    fn step_cost(&self, asic: &str, id: &str) -> f64 {
        let sections = self
            .0
            .iter()
            .filter(|one| one.asic == asic && one.shape.id == id);
        let costs: Vec<f64> = sections.map(|one| one.whole.best()).collect();
        costs.iter().sum::<f64>() / costs.len() as f64
    }

    /// How many times as long a step of a random mix takes as one in sequence, by ASIC and leaf.
    fn random_ratios(&self) -> Vec<(String, f64)> {
        let mut ratios = Vec::new();
        for asic in ["Gaudi2", "Goya", "Gaudi"] {
            for (leaves, id) in [("large", "m.2mx8192"), ("small", "m.2mx8192-small")] {
                let random = self.step_cost(asic, &format!("{id}-random"));
                let name = format!("{asic}, {leaves} leaves");
                ratios.push((name, random / self.step_cost(asic, id)));
            }
        }
        ratios
    }

    /// The table for people.
    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        for row in self.rows() {
            let Some(first) = row.first() else { continue };
            let _ = writeln!(
                text,
                "\n{:<55} best ns  median ns       pin addresses    tables       MMU      rest       own   allowed",
                first.title()
            );
            for one in row {
                let own = one.own();
                let verdict = if own <= one.shape.limit() {
                    ""
                } else {
                    "  too long"
                };
                let allocations = match one.allocations {
                    0 => String::new(),
                    count => format!("  {count} allocations"),
                };
                let _ = writeln!(
                    text,
                    "  {:<52} {:>8.1} {:>10.1} {:>9.1} {:>9.1} {:>9.1} {:>9.1} {:>9.1} {:>9.1} {:>9.0}{verdict}{allocations}",
                    one.implementation(),
                    one.whole.best(),
                    one.whole.median(),
                    best(&one.pin),
                    one.addresses.best(),
                    one.tables.best(),
                    best(&one.mmu),
                    one.rest(),
                    own,
                    one.shape.limit(),
                );
            }
        }
        let _ = writeln!(
            text,
            "\n{:<55} x sequential (allowed: 2)",
            "a random mix of 8192 x 2 MiB"
        );
        for (name, ratio) in self.random_ratios() {
            let _ = writeln!(text, "  {name:<52} {ratio:>12.2}");
        }
        let unmaps = self.0.iter().filter(|one| one.section != "map");
        let allocations: u64 = unmaps.map(|one| one.allocations).sum();
        let _ = writeln!(text, "\nallocations in all rows that unmap: {allocations}");
        text
    }

    /// The JSON objects for programs, one for each row and implementation.
    pub(crate) fn json_objects(&self) -> Vec<String> {
        let objects = self.0.iter().map(|one| {
            // No name has a character that JSON would escape.
            format!(
                "{{\"row\": \"{}.{}\", \"title\": \"{}\", \"implementation\": \"{}\", \"best_ns\": {:.4}, \
                 \"median_ns\": {:.4}, \"pin_ns\": {:.4}, \"addresses_ns\": {:.4}, \
                 \"tables_ns\": {:.4}, \"mmu_ns\": {:.4}, \"own_ns\": {:.4}, \
                 \"allowed_ns\": {:.4}, \"allocations\": {}, \"note\": \"\"}}",
                one.shape.id,
                one.section,
                one.title(),
                one.implementation(),
                one.whole.best(),
                one.whole.median(),
                best(&one.pin),
                one.addresses.best(),
                one.tables.best(),
                best(&one.mmu),
                one.own(),
                one.shape.limit(),
                one.allocations,
            )
        });
        objects.collect()
    }
}
