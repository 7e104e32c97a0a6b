//! Many things at once, one step at a time, in an order that a seed decides; or on threads.
//!
//! A *worker* is whatever goes on in steps: a DMA that translates in one step and moves in the next,
//! a processor's accesses, a machine that moves pages, a driver that maps and unmaps. Under a
//! [`Schedule`] only one of them does anything at a time, and the same seed gives the same order, so
//! that what went wrong goes wrong again. The same workers run on threads of their own, for what only
//! happens when things really happen at once.
//!
//! ```
//! use hl_harness::schedule::{Progress, Schedule};
//!
//! let (mut pings, mut pongs) = (0, 0);
//! let mut schedule = Schedule::new(7);
//! schedule.add("ping", || { pings += 1; Progress::done_if(pings == 3) });
//! schedule.add("pong", || { pongs += 1; Progress::done_if(pongs == 2) });
//! let order = schedule.run();
//! assert_eq!(order.len(), 5);
//! # let (mut pings, mut pongs) = (0, 0);
//! # let mut again = Schedule::new(7);
//! # again.add("ping", || { pings += 1; Progress::done_if(pings == 3) });
//! # again.add("pong", || { pongs += 1; Progress::done_if(pongs == 2) });
//! # assert_eq!(again.run(), order);
//! ```

use core::fmt;
use std::thread;

/// Whether a worker has anything left to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It has.
    Going,
    /// It has not, and is not asked again.
    Done,
}

impl Progress {
    /// [`Done`](Self::Done) where `done`.
    #[must_use]
    pub fn done_if(done: bool) -> Self {
        if done { Self::Done } else { Self::Going }
    }
}

/// Something that goes on in steps. Closures are workers.
pub trait Worker: Send {
    /// Takes one step.
    fn step(&mut self) -> Progress;
}

impl<F: FnMut() -> Progress + Send> Worker for F {
    fn step(&mut self) -> Progress {
        self()
    }
}

/// Workers, and the order in which they work.
pub struct Schedule<'w> {
    workers: Vec<(&'static str, Box<dyn Worker + 'w>)>,
    random: fastrand::Rng,
}

impl fmt::Debug for Schedule<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.workers.iter().map(|(name, _)| name);
        f.debug_list().entries(names).finish()
    }
}

impl<'w> Schedule<'w> {
    /// A schedule without workers.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            workers: Vec::new(),
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// Adds a worker. `name` tells of it in the order.
    pub fn add(&mut self, name: &'static str, worker: impl Worker + 'w) {
        self.workers.push((name, Box::new(worker)));
    }

    /// Lets a worker that the seed chooses take a step, again and again until all are done. Returns
    /// their names in the order of the steps.
    pub fn run(mut self) -> Vec<&'static str> {
        let mut order = Vec::new();
        while !self.workers.is_empty() {
            let chosen = self.random.usize(..self.workers.len());
            let (name, worker) = &mut self.workers[chosen];
            order.push(*name);
            if worker.step() == Progress::Done {
                // The others keep their places, so that the order follows from the seed alone.
                drop(self.workers.remove(chosen));
            }
        }
        order
    }

    /// Lets each worker take its steps on a thread of its own, and waits until all are done.
    ///
    /// # Panics
    ///
    /// Where a worker does.
    pub fn run_on_threads(self) {
        thread::scope(|scope| {
            for (_, mut worker) in self.workers {
                scope.spawn(move || while worker.step() == Progress::Going {});
            }
        });
    }
}
