//! Threads: all at once, or in turns.

use std::collections::BTreeMap;
use std::thread;

use super::super::ast::{Expr, ThreadWords};
use super::env::Env;
use super::flow::Course;
use super::stop::{Failure, Stop};
use super::{Runner, Words, World};
use crate::machine::Model;
use crate::schedule::{Ended, Progress, Schedule};

/// The most threads of a block that do the same.
const MAX_THREADS: u64 = 1024;

/// What a thread begins with: it knows what the one knows that starts it, and has random numbers of its
/// own, whoever goes first.
struct Start<'l, 'c, 's, 'm, A: Model> {
    words: &'l ThreadWords,
    /// Its number among those that do the same.
    number: u64,
    env: Env<'c, 's, 'm, A>,
    random: fastrand::Rng,
}

impl<'c, 's, 'm, A: Model> Start<'_, 'c, 's, 'm, A> {
    /// The thread, which failures call by `number`.
    fn runner<'r>(
        self,
        world: &'r World<'c, 's, 'm, A>,
        number: u64,
    ) -> Result<Runner<'r, 'c, 's, 'm, A>, Stop> {
        let mut runner = Runner {
            world,
            arenas: None,
            env: self.env,
            processes: Vec::new(),
            snapshots: BTreeMap::new(),
            windows: BTreeMap::new(),
            random: self.random,
            loops: vec![("thread".to_owned(), number)],
            thread: None,
            steps: 0,
            watch: None,
        };
        if let Some(name) = &self.words.number {
            runner.set_variable(name, self.number)?;
        }
        Ok(runner)
    }
}

impl<'c, 's, 'm, A: Model> Runner<'_, 'c, 's, 'm, A> {
    fn starts<'l>(
        &mut self,
        threads: &'l [ThreadWords],
    ) -> Result<Vec<Start<'l, 'c, 's, 'm, A>>, Stop> {
        let mut starts = Vec::new();
        for words in threads {
            for number in 0..self.eval_small(&words.count, MAX_THREADS)? as u64 {
                starts.push(Start {
                    words,
                    number,
                    env: self.env.clone(),
                    random: self.random.fork(),
                });
            }
        }
        Ok(starts)
    }

    pub(super) fn parallel(&mut self, threads: &[ThreadWords]) -> Words {
        let starts = self.starts(threads)?;
        let world = self.world;
        let ended: Vec<Result<u64, Stop>> = thread::scope(|scope| {
            let run = |start: Start<'_, 'c, 's, 'm, A>| {
                let (body, number) = (&start.words.body, start.number);
                let mut runner = start.runner(world, number)?;
                runner.body(body)?;
                Ok(runner.steps)
            };
            let starts = starts.into_iter();
            let running: Vec<_> = starts
                .map(|start| scope.spawn(move || run(start)))
                .collect();
            let join = |thread: thread::ScopedJoinHandle<'_, _>| match thread.join() {
                Ok(ended) => ended,
                Err(panic) => std::panic::resume_unwind(panic),
            };
            running.into_iter().map(join).collect()
        });
        let count = ended.len();
        for steps in ended {
            self.steps += steps?;
        }
        Ok(format!("{count} threads ended"))
    }

    pub(super) fn interleave(&mut self, seed: Option<&Expr>, threads: &[ThreadWords]) -> Words {
        // Drawn in any case, so that whoever writes it down changes nothing else that is random.
        let drawn = self.random.u32(..).into();
        let seed = self.eval_option(seed)?.unwrap_or(drawn);
        let starts = self.starts(threads)?;
        let count = starts.len();
        let mut schedule = Schedule::new(seed);
        for (place, start) in (0..).zip(starts) {
            let course = Course::new(&start.words.body);
            let tells = start.words.number.as_ref().map(|name| name.text.clone());
            let number = start.number;
            let mut runner = start.runner(self.world, place)?;
            runner.loops.extend(tells.map(|name| (name, number)));
            runner.thread = Some(place);
            schedule.add(place, (runner, course));
        }
        let (mut steps, watch) = (0, &mut self.watch);
        let ran = schedule.run_by(|_, (runner, course)| {
            // Whoever has his turn is watched.
            core::mem::swap(&mut runner.watch, watch);
            let progress = runner.turn(course);
            core::mem::swap(&mut runner.watch, watch);
            if let Ok(Progress::Done) = progress {
                steps += runner.steps;
            }
            progress
        });
        let stop = match ran {
            Ok(order) => {
                self.steps += steps;
                let turns = order.len() - count;
                return Ok(format!("{count} threads, {turns} turns, seed {seed}"));
            }
            Err(Ended::Failed(stop)) => stop,
            Err(Ended::Stuck(_, (runner, course))) => {
                let waits = course.under_way.as_ref().map(|under_way| under_way.line);
                let span = waits.map(|line| line.span).unwrap_or_default();
                let expected = "some thread that does not wait";
                let found = "each thread that has not ended waits for another one";
                runner.noted(Failure::new(span, expected, found).into())
            }
        };
        Err(match stop {
            Stop::Failed(mut failure) => {
                let note = format!("in the order of `interleave seed {seed}`");
                failure.notes.push(note);
                Stop::Failed(failure)
            }
            invalid @ Stop::Invalid(_) => invalid,
        })
    }
}
