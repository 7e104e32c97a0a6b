//! From step to step, in and out of loops.

use core::slice;

use super::super::ast::{Expr, Line, Name, Series, Step};
use super::super::text::Invalid;
use super::Runner;
use super::stop::Stop;
use super::turns::UnderWay;
use crate::machine::Model;

/// How far a thread is in its steps.
pub(super) struct Course<'l, 'm> {
    /// The lines that it is in, the innermost last.
    within: Vec<Within<'l>>,
    /// The step that it has begun, where that goes on.
    pub(super) under_way: Option<UnderWay<'l, 'm>>,
}

impl<'l> Course<'l, '_> {
    /// At the start of `body`.
    pub(super) fn new(body: &'l [Line]) -> Self {
        Self {
            within: vec![Within::once(body)],
            under_way: None,
        }
    }
}

/// Lines that are carried out, and how far that is.
struct Within<'l> {
    body: &'l [Line],
    next: usize,
    /// What comes when the lines are done.
    rounds: Rounds<'l>,
    /// The runner has the variable of this round.
    told: bool,
}

/// The rounds of a loop that are left.
enum Rounds<'l> {
    None,
    Repeat(core::ops::Range<u64>),
    Range {
        name: &'l Name,
        next: Option<u64>,
        end: u64,
        step: u64,
    },
    List(&'l Name, slice::Iter<'l, Expr>),
}

impl<'l> Within<'l> {
    fn once(body: &'l [Line]) -> Self {
        Self {
            body,
            next: 0,
            rounds: Rounds::None,
            told: false,
        }
    }

    /// Before the first round.
    fn loops(body: &'l [Line], rounds: Rounds<'l>) -> Self {
        Self {
            body,
            next: body.len(),
            rounds,
            told: false,
        }
    }
}

impl<'m, A: Model> Runner<'_, '_, '_, 'm, A> {
    pub(super) fn body(&mut self, steps: &[Line]) -> Result<(), Stop> {
        let mut course = Course::new(steps);
        while let Some(line) = self.next(&mut course)? {
            self.line(line)?;
        }
        Ok(())
    }

    /// The next step that is to be carried out; `None` where there is none.
    pub(super) fn next<'l>(
        &mut self,
        course: &mut Course<'l, 'm>,
    ) -> Result<Option<&'l Line>, Stop> {
        while let Some(within) = course.within.last_mut() {
            if let Some(line) = within.body.get(within.next) {
                within.next += 1;
                let inner = match &line.step {
                    Step::Repeat { times, body } => {
                        Within::loops(body, Rounds::Repeat(0..self.eval(times)?))
                    }
                    Step::For { name, series, body } => {
                        Within::loops(body, self.series(name, series)?)
                    }
                    Step::On { asics, body } => match self.is_one_of(asics) {
                        true => Within::once(body),
                        false => continue,
                    },
                    Step::If {
                        one,
                        comparison,
                        other,
                        body,
                    } => match comparison.holds(self.eval(one)?, self.eval(other)?) {
                        true => Within::once(body),
                        false => continue,
                    },
                    _ => return Ok(Some(line)),
                };
                course.within.push(inner);
                continue;
            }
            if core::mem::take(&mut within.told) {
                self.loops.pop();
            }
            match self.round(&mut within.rounds)? {
                Some(variable) => {
                    self.loops.push(variable);
                    (within.next, within.told) = (0, true);
                }
                None => drop(course.within.pop()),
            }
        }
        Ok(None)
    }

    fn series<'l>(&mut self, name: &'l Name, series: &'l Series) -> Result<Rounds<'l>, Stop> {
        Ok(match series {
            Series::List(values) => Rounds::List(name, values.iter()),
            Series::Range(first, end, step) => {
                let (first, end) = (self.eval(first)?, self.eval(end)?);
                let step = match step {
                    Some(step) => match self.eval(step)? {
                        0 => return Err(Invalid::new(step.span, "a step of 0 has no end").into()),
                        bytes => bytes,
                    },
                    None => 1,
                };
                Rounds::Range {
                    name,
                    next: Some(first),
                    end,
                    step,
                }
            }
        })
    }

    /// Begins the next round. Returns its variable; `None` where there is no more round.
    fn round(&mut self, rounds: &mut Rounds<'_>) -> Result<Option<(String, u64)>, Stop> {
        let (name, value) = match rounds {
            Rounds::None => return Ok(None),
            Rounds::Repeat(left) => {
                return Ok(left.next().map(|round| ("round".to_owned(), round)));
            }
            Rounds::Range {
                name,
                next,
                end,
                step,
            } => match *next {
                Some(value) if value < *end => {
                    *next = value.checked_add(*step);
                    (*name, value)
                }
                _ => return Ok(None),
            },
            Rounds::List(name, values) => match values.next() {
                Some(value) => (*name, self.eval(value)?),
                None => return Ok(None),
            },
        };
        self.set_variable(name, value)?;
        Ok(Some((name.text.clone(), value)))
    }
}
