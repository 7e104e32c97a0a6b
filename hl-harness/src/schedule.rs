//! Many things at once, one step at a time, in an order that a seed decides; or on threads.
//!
//! A *worker* is whatever goes on in steps: a DMA that translates in one step and moves in the next,
//! a processor's accesses, a machine that moves pages, a driver that maps and unmaps, a thread of a
//! scenario. Under a [`Schedule`] only one of them does anything at a time, and the same seed gives the
//! same order, so that what went wrong goes wrong again. The same workers run on threads of their own,
//! for what only happens when things really happen at once.
//!
//! ```
//! use hl_harness::schedule::{Closure, Progress, Schedule};
//!
//! let order = |seed| {
//!     let (mut pings, mut pongs) = (0, 0);
//!     let mut schedule = Schedule::<_, Closure<'_>>::new(seed);
//!     schedule.add("ping", Box::new(|| { pings += 1; Progress::done_if(pings == 3) }));
//!     schedule.add("pong", Box::new(|| { pongs += 1; Progress::done_if(pongs == 2) }));
//!     schedule.run()
//! };
//! assert_eq!(order(7).len(), 5);
//! assert_eq!(order(7), order(7));
//! ```

use core::convert::Infallible;
use core::fmt;
use std::thread;

/// Whether a worker has anything left to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It has.
    Going,
    /// It has, but can do nothing before another worker has done something.
    Waiting,
    /// It has not, and is not asked again.
    Done,
}

impl Progress {
    /// [`Done`](Self::Done) where `done`, or else [`Going`](Self::Going).
    #[must_use]
    pub fn done_if(done: bool) -> Self {
        if done { Self::Done } else { Self::Going }
    }
}

/// A worker that is a closure.
pub type Closure<'w> = Box<dyn FnMut() -> Progress + Send + 'w>;

/// Why not all workers came to their end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended<N, W, E> {
    /// A step failed, and nobody has taken one since.
    Failed(E),
    /// All that are not done wait for each other. This one began to wait first.
    Stuck(N, W),
}

/// A worker that is not done.
struct Entry<N, W> {
    name: N,
    worker: W,
    /// Where in the order it began to wait, where nobody has done anything since.
    waiting: Option<usize>,
}

/// Workers `W` that have names `N`, and the order in which they work.
pub struct Schedule<N, W> {
    workers: Vec<Entry<N, W>>,
    random: fastrand::Rng,
}

impl<N: fmt::Debug, W> fmt::Debug for Schedule<N, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.workers.iter().map(|entry| &entry.name);
        f.debug_list().entries(names).finish()
    }
}

impl<N, W> Schedule<N, W> {
    /// A schedule without workers.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            workers: Vec::new(),
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// Adds a worker. `name` tells of it in the order.
    pub fn add(&mut self, name: N, worker: W) {
        self.workers.push(Entry {
            name,
            worker,
            waiting: None,
        });
    }
}

impl<N: Clone, W> Schedule<N, W> {
    /// Has a worker that the seed chooses take a step, which is what `step` does, again and again until
    /// all are done. Whoever waits is passed over until another one has done something. Returns the
    /// names in the order of the steps.
    ///
    /// # Errors
    ///
    /// * [`Ended::Failed`]: what `step` failed with.
    /// * [`Ended::Stuck`]: all that are left wait.
    pub fn run_by<E>(
        mut self,
        mut step: impl FnMut(&N, &mut W) -> Result<Progress, E>,
    ) -> Result<Vec<N>, Ended<N, W, E>> {
        let mut order = Vec::new();
        while !self.workers.is_empty() {
            let places = 0..self.workers.len();
            let ready: Vec<usize> = places
                .filter(|place| self.workers[*place].waiting.is_none())
                .collect();
            if ready.is_empty() {
                let all = self.workers.into_iter();
                let first = all.min_by_key(|entry| entry.waiting);
                let first = first.expect("there is one that is not done");
                return Err(Ended::Stuck(first.name, first.worker));
            }
            let chosen = ready[self.random.usize(..ready.len())];
            let Entry {
                name,
                worker,
                waiting,
            } = &mut self.workers[chosen];
            let progress = step(name, worker).map_err(Ended::Failed)?;
            if progress == Progress::Waiting {
                *waiting = Some(order.len());
            }
            order.push(name.clone());
            if progress == Progress::Done {
                // The others keep their places, so that the order follows from the seed alone.
                drop(self.workers.remove(chosen));
            }
            if progress != Progress::Waiting {
                self.workers
                    .iter_mut()
                    .for_each(|entry| entry.waiting = None);
            }
        }
        Ok(order)
    }
}

impl<N: Clone, W: FnMut() -> Progress> Schedule<N, W> {
    /// The same for workers that cannot fail.
    ///
    /// # Panics
    ///
    /// Where all that are left wait.
    pub fn run(self) -> Vec<N> {
        match self.run_by(|_, worker| Ok::<_, Infallible>(worker())) {
            Ok(order) => order,
            Err(_) => panic!("all workers that are left wait for each other"),
        }
    }
}

impl<N, W: FnMut() -> Progress + Send> Schedule<N, W> {
    /// Has each worker take its steps on a thread of its own, and waits until all are done.
    ///
    /// # Panics
    ///
    /// Where a worker does.
    pub fn run_on_threads(self) {
        thread::scope(|scope| {
            for Entry { mut worker, .. } in self.workers {
                scope.spawn(move || {
                    loop {
                        match worker() {
                            Progress::Going => {}
                            Progress::Waiting => thread::yield_now(),
                            Progress::Done => break,
                        }
                    }
                });
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn a_worker_that_waits_is_passed_over_until_another_has_done_something() {
        for seed in 0..64 {
            let (sent, mut taken) = (Cell::new(0), 0);
            let mut schedule = Schedule::<_, Box<dyn FnMut() -> Progress + '_>>::new(seed);
            schedule.add(
                "sends",
                Box::new(|| {
                    sent.set(sent.get() + 1);
                    Progress::done_if(sent.get() == 5)
                }),
            );
            schedule.add(
                "takes",
                Box::new(|| {
                    if taken == sent.get() {
                        return Progress::Waiting;
                    }
                    taken += 1;
                    Progress::done_if(taken == 5)
                }),
            );
            let order = schedule.run();
            let (mut sent, mut taken, mut waits) = (0, 0, false);
            for name in order {
                assert!(!waits || name == "sends", "seed {seed}");
                waits = name == "takes" && taken == sent;
                sent += i32::from(name == "sends");
                taken += i32::from(name == "takes" && !waits);
            }
            assert_eq!((sent, taken), (5, 5), "seed {seed}");
        }
    }

    #[test]
    fn workers_that_wait_for_each_other_end_the_run_and_the_first_is_told() {
        for seed in 0..16 {
            let mut first = None;
            let mut schedule = Schedule::new(seed);
            schedule.add(1, 10);
            schedule.add(2, 20);
            let ended = schedule.run_by(|name, _| {
                first = first.or(Some(*name));
                Ok::<_, Infallible>(Progress::Waiting)
            });
            let first = first.expect("one was asked");
            assert_eq!(ended, Err(Ended::Stuck(first, 10 * first)), "seed {seed}");
        }
    }

    #[test]
    fn nobody_takes_a_step_after_one_that_failed() {
        for seed in 0..16 {
            let mut steps = 0;
            let mut schedule = Schedule::new(seed);
            for name in 0..4 {
                schedule.add(name, ());
            }
            let ended = schedule.run_by(|name, ()| {
                steps += 1;
                if steps < 7 {
                    return Ok(Progress::Going);
                }
                Err(*name)
            });
            assert!(matches!(ended, Err(Ended::Failed(_))), "seed {seed}");
            assert_eq!(steps, 7, "seed {seed}");
        }
    }
}
