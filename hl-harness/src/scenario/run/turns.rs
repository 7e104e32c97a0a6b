//! Steps as a whole, and in turns.

use std::thread;
use std::time::{Duration, Instant};

use hl_mem::uapi::Errno;

use super::super::ast::{Line, Outcome, RingWords, Step};
use super::super::data::Difference;
use super::answer::Answer;
use super::flow::Course;
use super::stop::{Failure, Stop};
use super::{Executed, Runner, Words};
use crate::machine::Model;
use crate::schedule::Progress;

/// How long a step waits for another thread at most, where threads do not take turns: who hangs fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// What came of a part of a step.
pub(super) enum Part {
    /// There is more to do. What was done, in words.
    Going(String),
    /// There is, but another thread has to do something first.
    Waiting,
    /// That was all.
    Done(Answer),
}

/// Does the next part of a step. A byte that is not the right one ends it.
pub(super) type Work<'m> = Box<dyn FnMut() -> Result<Part, Difference> + 'm>;

/// A step that has begun and goes on.
pub(super) struct UnderWay<'l, 'm> {
    pub(super) line: &'l Line,
    outcome: &'l Outcome,
    work: Work<'m>,
}

/// A step that has begun.
enum Begun<'l, 'm> {
    /// And is done.
    Done(String),
    UnderWay(UnderWay<'l, 'm>),
}

/// What came of a part of a step, with the answer compared.
enum Turn {
    Going(String),
    Waiting,
    Done(String),
}

impl<'m, A: Model> Runner<'_, '_, '_, 'm, A> {
    /// Carries out a step.
    pub(super) fn line(&mut self, line: &Line) -> Result<(), Stop> {
        self.steps += 1;
        self.told(line, |runner| {
            Ok((Progress::Done, runner.whole_step(line)?))
        })
        .map(drop)
    }

    fn whole_step(&mut self, line: &Line) -> Words {
        let mut under_way = match self.begin(line)? {
            Begun::Done(words) => return Ok(words),
            Begun::UnderWay(under_way) => under_way,
        };
        let mut patience = None;
        loop {
            match self.part(&mut under_way)? {
                Turn::Done(words) => return Ok(words),
                Turn::Going(_) => {}
                Turn::Waiting => {
                    let end = *patience.get_or_insert_with(|| Instant::now() + PATIENCE);
                    if Instant::now() >= end {
                        let answer = Answer::Errno(Errno::EBUSY);
                        return self.judge(line.span, under_way.outcome, answer);
                    }
                    thread::yield_now();
                }
            }
        }
    }

    /// Begins the next step, or goes on with the one that has begun, as far as one turn goes.
    pub(super) fn turn(&mut self, course: &mut Course<'_, 'm>) -> Result<Progress, Stop> {
        let begun = course.under_way.take();
        let line = match &begun {
            Some(under_way) => under_way.line,
            None => match self.next(course)? {
                Some(line) => line,
                None => return Ok(Progress::Done),
            },
        };
        let mut left = None;
        let progress = self.told(line, |runner| {
            let begun = match begun {
                Some(under_way) => Begun::UnderWay(under_way),
                None => runner.begin(line)?,
            };
            let mut under_way = match begun {
                Begun::Done(words) => return Ok((Progress::Done, words)),
                Begun::UnderWay(under_way) => under_way,
            };
            let (progress, words) = match runner.part(&mut under_way)? {
                Turn::Done(words) => return Ok((Progress::Done, words)),
                Turn::Going(words) => (Progress::Going, words),
                Turn::Waiting => (Progress::Waiting, "waits".to_owned()),
            };
            left = Some(under_way);
            Ok((progress, words))
        })?;
        course.under_way = left;
        Ok(match progress {
            // That was a step, and not the last one.
            Progress::Done => {
                self.steps += 1;
                Progress::Going
            }
            going => going,
        })
    }

    /// Has a part of a step done, and tells whoever watches of it.
    fn told(
        &mut self,
        line: &Line,
        part: impl FnOnce(&mut Self) -> Result<(Progress, String), Stop>,
    ) -> Result<Progress, Stop> {
        let mark = match (&self.watch, &line.step) {
            // Each turn in it is told of by itself.
            (None, _) | (_, Step::Interleave { .. }) => None,
            (Some(_), _) if self.world.options.events => Some(self.machine().log.mark()),
            (Some(_), _) => None,
        };
        let done = part(self).map_err(|stop| self.noted(stop));
        self.note_broken(line);
        let events = mark.map(|mark| self.machine().log.since(mark));
        if let Some(watch) = &mut self.watch {
            let (progress, answer) = match &done {
                Ok((progress, words)) => (*progress, words.as_str()),
                Err(_) => (Progress::Done, "stopped"),
            };
            watch.step(&Executed {
                line,
                thread: self.thread,
                loops: &self.loops,
                answer,
                ended: progress == Progress::Done,
                events: events.as_deref().unwrap_or_default(),
            });
        }
        done.map(|(progress, _)| progress)
    }

    /// Begins a step.
    fn begin<'l>(&mut self, line: &'l Line) -> Result<Begun<'l, 'm>, Stop> {
        let (work, outcome) = match &line.step {
            Step::Dma {
                who,
                transfer,
                hmmu,
                name,
                outcome,
            } => {
                let initiator = self.initiator(who, hmmu.as_ref())?;
                let work = self.dma(initiator, transfer, name.as_ref())?;
                (work, outcome)
            }
            Step::Access {
                who,
                words,
                hmmu,
                outcome,
            } => {
                let initiator = self.initiator(who, hmmu.as_ref())?;
                (self.access(initiator, words)?, outcome)
            }
            Step::Ring {
                ring,
                request: RingWords::Push { data, count, wait },
                outcome,
            } => (self.push(ring, data, count.as_ref(), *wait)?, outcome),
            Step::Ring {
                ring,
                request: RingWords::Pop { data, count, wait },
                outcome,
            } => (self.pop(ring, data, count.as_ref(), *wait)?, outcome),
            step => return self.step(line.span, step).map(Begun::Done),
        };
        Ok(Begun::UnderWay(UnderWay {
            line,
            outcome,
            work,
        }))
    }

    /// Does a part of a step.
    fn part(&mut self, under_way: &mut UnderWay<'_, 'm>) -> Result<Turn, Stop> {
        let UnderWay {
            line,
            outcome,
            work,
        } = under_way;
        Ok(match work() {
            Ok(Part::Going(words)) => Turn::Going(words),
            Ok(Part::Waiting) => Turn::Waiting,
            Ok(Part::Done(answer)) => Turn::Done(self.judge(line.span, outcome, answer)?),
            Err(Difference { wanted, found }) => {
                return Err(Failure::new(line.span, wanted, found).into());
            }
        })
    }
}
