//! Steps to deeds.

mod access;
mod answer;
mod config;
mod device;
mod dma;
mod driver;
mod end;
mod env;
mod eval;
mod events;
mod extents;
mod flow;
mod host;
mod look;
mod objects;
mod processes;
mod ring;
mod rules;
mod snapshot;
mod stop;
mod threads;
mod turns;
mod windows;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, PoisonError};

use hl_mem::profile::{Gaudi, Gaudi2, Goya};

pub use stop::{Failure, Stop};

use super::ast::{Line, Script, Step};
use super::text::{Invalid, Span};
use super::words::{AsicWord, Asics};
use crate::asic::{Fault, InitiatorId, InitiatorMode};
use crate::host::Process;
use crate::inspect::State;
use crate::log::{EventLog, Record};
use crate::machine::{Machine, Model, with_machine};
use env::{Arenas, Env, Key};
use rules::Broken;
use snapshot::Snapshot;
use std::sync::Arc;
use windows::Window;

/// How a scenario is run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// What everything random is decided by.
    pub seed: u64,
    /// Whether events are kept for whoever watches.
    pub events: bool,
}

/// A step that has been carried out, or a part of one.
#[derive(Debug)]
pub struct Executed<'r> {
    /// The step.
    pub line: &'r Line,
    /// The thread that took a turn, counted from 0 in the order of the block, where threads take turns.
    pub thread: Option<u64>,
    /// The variables of the loops around it.
    pub loops: &'r [(String, u64)],
    /// What came of it, in words.
    pub answer: &'r str,
    /// Whether that was all of the step.
    pub ended: bool,
    /// The events that it caused, where they are kept.
    pub events: &'r [Record],
}

/// Who is told of each step.
pub trait Watch {
    /// A step has been carried out, or a part of one in a turn.
    fn step(&mut self, executed: &Executed<'_>);

    /// All steps have been carried out, or one has failed, and nothing is closed yet. `capture` makes
    /// a picture of the machine as it is.
    fn end(&mut self, capture: &dyn Fn() -> State) {
        let _ = capture;
    }
}

/// Nobody.
impl Watch for () {
    fn step(&mut self, _: &Executed<'_>) {}
}

/// A run that came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passed {
    /// Steps carried out, those of threads included.
    pub steps: u64,
}

/// Runs a scenario on one ASIC.
///
/// # Errors
///
/// The first expectation that does not hold, or the first step that cannot be carried out.
pub fn run(
    script: &Script,
    asic: AsicWord,
    options: Options,
    watch: &mut dyn Watch,
) -> Result<Passed, Stop> {
    match asic {
        AsicWord::Goya => run_on::<Goya>(script, asic, options, watch),
        AsicWord::Gaudi => run_on::<Gaudi>(script, asic, options, watch),
        AsicWord::Gaudi2 => run_on::<Gaudi2<6>>(script, asic, options, watch),
        AsicWord::Gaudi2Five => run_on::<Gaudi2<5>>(script, asic, options, watch),
    }
}

fn run_on<A: Model>(
    script: &Script,
    asic: AsicWord,
    options: Options,
    watch: &mut dyn Watch,
) -> Result<Passed, Stop> {
    let config = config::of_words::<A>(&script.machine, options.seed)?;
    let log = EventLog::new();
    log.set_recording(options.events);
    let outcome = with_machine::<A, _>(config, log, |machine| {
        let arenas = Arenas::new();
        let world = World {
            machine,
            asic,
            options,
            initiators: Mutex::default(),
            faults: Mutex::default(),
            broken: Mutex::default(),
        };
        let mut runner = Runner {
            world: &world,
            arenas: Some(&arenas),
            env: Env::new(),
            processes: Vec::new(),
            snapshots: BTreeMap::new(),
            windows: BTreeMap::new(),
            random: fastrand::Rng::with_seed(options.seed),
            loops: Vec::new(),
            thread: None,
            steps: 0,
            watch: Some(watch),
        };
        runner.whole(&script.steps)
    });
    outcome.unwrap_or_else(|error: io::Error| {
        let message = format_args!("this machine has no memory for that: {error}");
        Err(Invalid::new(script.machine.span, message).into())
    })
}

/// What all threads of a scenario share.
struct World<'c, 's, 'm, A: Model> {
    machine: &'c Machine<'s, 'm, A>,
    asic: AsicWord,
    options: Options,
    /// The initiators made so far, by what they are.
    initiators: Mutex<Vec<((InitiatorMode, u8), InitiatorId)>>,
    /// Faults that no step has looked at.
    faults: Mutex<Vec<Fault>>,
    broken: Mutex<Broken>,
}

/// One thread of a scenario.
struct Runner<'r, 'c, 's, 'm, A: Model> {
    world: &'r World<'c, 's, 'm, A>,
    /// Storage for files; only the first thread opens any.
    arenas: Option<&'c Arenas<'m, A>>,
    env: Env<'c, 's, 'm, A>,
    /// Every process there was.
    processes: Vec<Arc<Process>>,
    snapshots: BTreeMap<Key, Snapshot>,
    /// Windows that the driver has mapped something in.
    windows: BTreeMap<Key, Vec<Window>>,
    random: fastrand::Rng,
    /// The loops around the step that is carried out.
    loops: Vec<(String, u64)>,
    /// Which one it is, where threads take turns.
    thread: Option<u64>,
    steps: u64,
    watch: Option<&'r mut dyn Watch>,
}

/// What came of a step, in words.
type Words = Result<String, Stop>;

impl<'c, 's, 'm, A: Model> Runner<'_, 'c, 's, 'm, A> {
    /// Everything, and the end.
    fn whole(&mut self, steps: &[Line]) -> Result<Passed, Stop> {
        let start = self.machine().counters();
        let done = self.body(steps);
        if let Some(watch) = &mut self.watch {
            let files = &self.env.files;
            watch.end(&|| {
                let contexts: Vec<_> = files.values().map(|file| &file.context).collect();
                let title = format!("a scenario on {}", self.world.asic);
                State::capture(&title, self.world.machine, &contexts)
            });
        }
        done?;
        let last = steps.last().map_or(Span::default(), |line| line.span);
        self.end(last, &start)?;
        Ok(Passed { steps: self.steps })
    }

    fn machine(&self) -> &'c Machine<'s, 'm, A> {
        self.world.machine
    }

    /// Whether the ASIC is one of those that a step names.
    fn is_one_of(&self, asics: &[Asics]) -> bool {
        let asic = &self.world.asic;
        asics.iter().any(|named| named.parts().contains(asic))
    }

    /// Adds the variables of the loops around.
    fn noted(&self, stop: Stop) -> Stop {
        match stop {
            Stop::Failed(mut failure) => {
                for (name, value) in self.loops.iter().rev() {
                    let note = format!("with {name} = {value}");
                    if !failure.notes.contains(&note) {
                        failure.notes.push(note);
                    }
                }
                Stop::Failed(failure)
            }
            invalid @ Stop::Invalid(_) => invalid,
        }
    }

    fn step(&mut self, span: Span, step: &Step) -> Words {
        match step {
            Step::Open { .. }
            | Step::Close { .. }
            | Step::Map { .. }
            | Step::Unmap { .. }
            | Step::Alloc { .. }
            | Step::Free { .. }
            | Step::Ioctl { .. }
            | Step::Block { .. }
            | Step::Destroy { .. }
            | Step::Mmap { .. }
            | Step::Attach { .. }
            | Step::Notice
            | Step::Recover { .. }
            | Step::Settle { .. } => self.driver_step(span, step),
            Step::CommandBuffer { .. }
            | Step::Timestamps { .. }
            | Step::Registers { .. }
            | Step::Export { .. }
            | Step::Unexport { .. }
            | Step::Report { .. } => self.object_step(span, step),
            Step::Window {
                place,
                memory,
                name,
                outcome,
            } => self.map_window(span, (place, memory, name), outcome),
            Step::Unwindow { name, outcome } => self.unmap_window(span, name, outcome),
            Step::Ring {
                ring,
                request,
                outcome,
            } => self.ring_step(span, (ring, request), outcome),
            Step::Fork { process, child } => self.fork(process, child),
            Step::Exit { .. }
            | Step::Buffer { .. }
            | Step::Munmap { .. }
            | Step::Replace { .. }
            | Step::Protect { .. }
            | Step::Reclaim
            | Step::Write { .. }
            | Step::Read { .. } => self.host_step(span, step),
            Step::Pause { .. }
            | Step::Resume { .. }
            | Step::Register { .. }
            | Step::Fail { .. }
            | Step::FailNothing
            | Step::FailStop { .. }
            | Step::Bar { .. }
            | Step::Lose
            | Step::Reset { .. } => self.device_step(span, step),
            Step::Snapshot { .. }
            | Step::ExpectSame { .. }
            | Step::ExpectQuantity { .. }
            | Step::Expect { .. }
            | Step::ExpectOrder { .. }
            | Step::ExpectFree { .. }
            | Step::ExpectFault { .. }
            | Step::ExpectEvent { .. }
            | Step::ForgetFaults
            | Step::Allow(_)
            | Step::Mark { .. }
            | Step::Let { .. }
            | Step::LetQuantity { .. } => self.look_step(span, step),
            Step::Parallel { threads } => self.parallel(threads),
            Step::Interleave { seed, threads } => self.interleave(seed.as_ref(), threads),
            Step::Dma { .. } | Step::Access { .. } => {
                unreachable!("these are carried out in parts")
            }
            // What is in them is carried out, step by step.
            Step::Repeat { .. } | Step::For { .. } | Step::On { .. } | Step::If { .. } => {
                unreachable!("nobody carries out a loop as a whole")
            }
        }
    }

    /// The faults that no step has looked at.
    fn faults(&self) -> std::sync::MutexGuard<'_, Vec<Fault>> {
        let world = self.world;
        let mut faults = world.faults.lock().unwrap_or_else(PoisonError::into_inner);
        faults.extend(world.machine.asic.take_faults());
        faults
    }
}
