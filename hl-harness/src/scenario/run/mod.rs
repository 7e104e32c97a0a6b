//! Steps to deeds.

mod answer;
mod device;
mod driver;
mod end;
mod env;
mod eval;
mod flow;
mod host;
mod look;
mod objects;
mod ring;
mod snapshot;
mod stop;
mod windows;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, PoisonError};

use hl_mem::buffer::ViewPolicy;
use hl_mem::profile::{Gaudi, Gaudi2, Goya};

pub use stop::{Failure, Stop};

use super::ast::{Line, MachineWords, Script, Step};
use super::text::{Invalid, Span};
use super::words::{AsicWord, Cache, Reuse, Setting, Views};
use crate::asic::{AsicConfig, CacheSize, Fault, InitiatorId, InitiatorMode};
use crate::host::{FrameOrder, Process};
use crate::inspect::State;
use crate::log::{EventLog, Record};
use crate::machine::{Machine, MachineConfig, Model, with_machine};
use env::{Arenas, Env, Key};
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

/// A step that has been carried out.
#[derive(Debug)]
pub struct Executed<'r> {
    /// The step.
    pub line: &'r Line,
    /// The variables of the loops around it.
    pub loops: &'r [(String, u64)],
    /// What came of it, in words.
    pub answer: &'r str,
    /// The events that it caused, where they are kept.
    pub events: &'r [Record],
}

/// Who is told of each step.
pub trait Watch {
    /// A step has been carried out.
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
    let config = machine_config::<A>(&script.machine, options.seed)?;
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
        };
        let mut runner = Runner {
            world: &world,
            arenas: Some(&arenas),
            env: Env::new(),
            processes: Vec::new(),
            snapshots: BTreeMap::new(),
            windows: BTreeMap::new(),
            random: options.seed,
            loops: Vec::new(),
            steps: 0,
            stray: false,
            watch: Some(watch),
        };
        runner.whole(&script.steps)
    });
    outcome.unwrap_or_else(|error: io::Error| {
        let message = format_args!("this machine has no memory for that: {error}");
        Err(Invalid::new(Span::default(), message).into())
    })
}

/// The most that a size of the machine may be.
const MAX_SETTING: u64 = 1 << 22;

fn machine_config<A: Model>(words: &MachineWords, seed: u64) -> Result<MachineConfig, Invalid> {
    let cache = |size| AsicConfig {
        hbm_stacks: A::STACKS,
        leaf_cache: size,
        line_cache: size,
        ..AsicConfig::new(A::KIND)
    };
    let mut config = MachineConfig {
        users: 2,
        views: match words.views {
            Some(Views::Counted) => ViewPolicy::Counted,
            Some(Views::Single) | None => ViewPolicy::Single,
        },
        order: match words.reuse {
            Some(Reuse::Immediate) => FrameOrder::ImmediateReuse,
            Some(Reuse::Scattered) | None => FrameOrder::Scattered { seed },
        },
        asic: words.cache.map(|kind| match kind {
            Cache::Infinite => cache(CacheSize::Infinite),
            Cache::None => cache(CacheSize::None),
            Cache::Finite => cache(CacheSize::Infinite).with_finite_caches(),
        }),
        ..MachineConfig::default()
    };
    for (setting, value) in &words.settings {
        let value = *value;
        let limit = match setting {
            // The drivers of the MMUs are built for so many, the privileged one included.
            Setting::Users => 7,
            _ => MAX_SETTING,
        };
        if value == 0 || value > limit {
            let message = format_args!("a machine has 1 to {limit} {setting}, not {value}");
            return Err(Invalid::new(words.span, message));
        }
        match setting {
            Setting::Frames => config.frames = value as u32,
            Setting::Tables => config.tables = value as u32,
            Setting::Buffers => config.buffers = value as usize,
            Setting::Mappings => config.mappings = value as usize,
            Setting::Handles => config.handles = value as usize,
            Setting::Users => config.users = value as usize,
            Setting::Packs => config.packs = value as usize,
            Setting::Pools => config.timestamp_pools = value as usize,
            Setting::Timestamps => config.timestamps = value as usize,
            Setting::Counters => config.counters = value as usize,
        }
    }
    Ok(config)
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
    random: u64,
    /// The loops around the step that is carried out.
    loops: Vec<(String, u64)>,
    steps: u64,
    /// Whether the device may touch pages that it should not.
    stray: bool,
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

    fn body(&mut self, steps: &[Line]) -> Result<(), Stop> {
        steps.iter().try_for_each(|line| self.line(line))
    }

    fn line(&mut self, line: &Line) -> Result<(), Stop> {
        match &line.step {
            Step::Repeat { times, body } => self.repeat(times, body),
            Step::For { name, series, body } => self.walk(name, series, body),
            Step::On { asics, body } => match asics.contains(&self.world.asic) {
                true => self.body(body),
                false => Ok(()),
            },
            Step::If {
                one,
                comparison,
                other,
                body,
            } => match comparison.holds(self.eval(one)?, self.eval(other)?) {
                true => self.body(body),
                false => Ok(()),
            },
            step => {
                let mark = match self.watch {
                    Some(_) if self.world.options.events => Some(self.machine().log.mark()),
                    _ => None,
                };
                self.steps += 1;
                let done = self.step(line.span, step).map_err(|stop| self.noted(stop));
                let events = mark.map(|mark| self.machine().log.since(mark));
                if let Some(watch) = &mut self.watch {
                    let answer = match &done {
                        Ok(words) => words.as_str(),
                        Err(_) => "stopped",
                    };
                    watch.step(&Executed {
                        line,
                        loops: &self.loops,
                        answer,
                        events: events.as_deref().unwrap_or_default(),
                    });
                }
                done.map(drop)
            }
        }
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
            Step::Fork { .. }
            | Step::CommandBuffer { .. }
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
            Step::Exit { .. }
            | Step::Buffer { .. }
            | Step::Munmap { .. }
            | Step::Replace { .. }
            | Step::Protect { .. }
            | Step::Reclaim
            | Step::Write { .. }
            | Step::Read { .. } => self.host_step(span, step),
            Step::Dma { .. }
            | Step::Pause { .. }
            | Step::Resume { .. }
            | Step::Register { .. }
            | Step::Fail { .. }
            | Step::FailNothing
            | Step::Lose
            | Step::Reset { .. } => self.device_step(span, step),
            Step::Snapshot { .. }
            | Step::ExpectSame { .. }
            | Step::ExpectQuantity { .. }
            | Step::Expect { .. }
            | Step::ExpectOrder { .. }
            | Step::ExpectFault { .. }
            | Step::ExpectEvent { .. }
            | Step::ForgetFaults
            | Step::AllowStray
            | Step::Mark { .. }
            | Step::Let { .. }
            | Step::LetQuantity { .. } => self.look_step(span, step),
            Step::Parallel { threads } => self.parallel(threads),
            // Those are not carried out, but what is in them.
            Step::Repeat { .. } | Step::For { .. } | Step::On { .. } | Step::If { .. } => {
                Ok(String::new())
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
