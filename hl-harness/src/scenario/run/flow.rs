//! Loops and threads.

use std::collections::BTreeMap;
use std::thread;

use super::super::ast::{Expr, Line, Name, Series, ThreadWords};
use super::super::text::Invalid;
use super::stop::Stop;
use super::{Runner, Words};
use crate::machine::Model;

/// The most threads of a `parallel` block.
const MAX_THREADS: u64 = 1024;

impl<A: Model> Runner<'_, '_, '_, '_, A> {
    pub(super) fn repeat(&mut self, times: &Expr, body: &[Line]) -> Result<(), Stop> {
        for round in 0..self.eval(times)? {
            self.loops.push(("round".to_owned(), round));
            let done = self.body(body);
            self.loops.pop();
            done?;
        }
        Ok(())
    }

    pub(super) fn walk(&mut self, name: &Name, series: &Series, body: &[Line]) -> Result<(), Stop> {
        match series {
            Series::List(values) => {
                for value in values {
                    let value = self.eval(value)?;
                    self.once(name, value, body)?;
                }
            }
            Series::Range(first, end, step) => {
                let (mut value, end) = (self.eval(first)?, self.eval(end)?);
                let step = match step {
                    Some(step) => match self.eval(step)? {
                        0 => return Err(Invalid::new(step.span, "a step of 0 has no end").into()),
                        bytes => bytes,
                    },
                    None => 1,
                };
                while value < end {
                    self.once(name, value, body)?;
                    match value.checked_add(step) {
                        Some(next) => value = next,
                        None => break,
                    }
                }
            }
        }
        Ok(())
    }

    fn once(&mut self, name: &Name, value: u64, body: &[Line]) -> Result<(), Stop> {
        self.set_variable(name, value)?;
        self.loops.push((name.text.clone(), value));
        let done = self.body(body);
        self.loops.pop();
        done
    }

    pub(super) fn parallel(&mut self, threads: &[ThreadWords]) -> Words {
        let mut plan = Vec::new();
        for words in threads {
            for number in 0..self.eval_small(&words.count, MAX_THREADS)? as u64 {
                plan.push((words, number));
            }
        }
        let (world, env, random) = (self.world, &self.env, &mut self.random);
        let ended: Vec<Result<u64, Stop>> = thread::scope(|scope| {
            let running: Vec<_> = plan
                .iter()
                .map(|(words, number)| {
                    // Numbers of its own, whatever the scheduler does.
                    let (env, random) = (env.clone(), random.fork());
                    scope.spawn(move || {
                        let mut runner = Runner {
                            world,
                            arenas: None,
                            env,
                            processes: Vec::new(),
                            snapshots: BTreeMap::new(),
                            windows: BTreeMap::new(),
                            random,
                            loops: vec![("thread".to_owned(), *number)],
                            steps: 0,
                            watch: None,
                        };
                        if let Some(name) = &words.number {
                            runner.set_variable(name, *number)?;
                        }
                        runner.body(&words.body)?;
                        Ok(runner.steps)
                    })
                })
                .collect();
            let join = |thread: thread::ScopedJoinHandle<'_, _>| match thread.join() {
                Ok(ended) => ended,
                Err(panic) => std::panic::resume_unwind(panic),
            };
            running.into_iter().map(join).collect()
        });
        for steps in ended {
            self.steps += steps?;
        }
        Ok(format!("{} threads ended", plan.len()))
    }
}
