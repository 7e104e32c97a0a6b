//! From a scenario that fails to a short one that fails in the same way.

use std::collections::BTreeSet;

use super::ast::{Line, Script, Step, ThreadWords};
use super::run::{Options, Stop, run};
use super::words::AsicWord;
use crate::wording::shape;

/// What makes two failures the same: the step, which keeps its place in the first text, what was
/// expected of it, and both this and what was found but for the numbers, which change with the steps
/// before: of them the greater have to be the same ones.
type Same = (u32, String, String);

/// How a scenario fails, if it does. One that cannot be carried out has not failed.
fn fails(script: &Script, asic: AsicWord, options: Options) -> Option<Same> {
    match run(script, asic, options, &mut ()) {
        Err(Stop::Failed(failure)) => {
            let both = shape(&format!("{}\n{}", failure.expected, failure.found));
            Some((failure.span.line, failure.expected, both))
        }
        Ok(_) | Err(Stop::Invalid(_)) => None,
    }
}

/// A part of a failing scenario that fails in the same way, and from which no single step can be
/// taken; the scenario itself where it does not fail.
///
/// Steps are taken away in halves, quarters and so on down to single ones, then the steps of one name
/// together, again and again until none can be. Those in blocks are steps like all others, a thread of a
/// block goes as a whole, and of a block that is not needed only what is in it stays. The result still
/// prints as a scenario file.
#[must_use]
pub fn shrink(script: &Script, asic: AsicWord, options: Options) -> Script {
    shrink_by(script, asic, options, |_| true)
}

/// The same by those steps only that `spare` allows to be taken.
#[must_use]
pub fn shrink_by(
    script: &Script,
    asic: AsicWord,
    options: Options,
    spare: impl Fn(&Step) -> bool,
) -> Script {
    let Some(wanted) = fails(script, asic, options) else {
        return script.clone();
    };
    let still = |steps: &[Line]| {
        let smaller = Script {
            steps: steps.to_vec(),
            ..script.clone()
        };
        // What reads as a scenario only as a tree is no file to reproduce anything with.
        let reads = smaller.to_string().parse::<Script>().is_ok();
        reads && fails(&smaller, asic, options).as_ref() == Some(&wanted)
    };
    let mut steps = script.steps.clone();
    // Nothing behind the failing step was carried out.
    if let Some(last) = steps.iter().position(|line| is_at(line, wanted.0)) {
        let before: Vec<Line> = steps.iter().take(last + 1).cloned().collect();
        if still(&before) {
            steps = before;
        }
    }
    loop {
        let before = count(&steps);
        let mut chunk = before.div_ceil(2);
        while chunk > 0 {
            let mut at = 0;
            while at < count(&steps) {
                let (mut number, mut kept) = (0, 0);
                let without = rewritten(&steps, &mut |unit| {
                    let taken = (at..at + chunk).contains(&number);
                    number += 1;
                    if taken && unit.may_go(&spare) {
                        return Fate::Goes;
                    }
                    kept += usize::from(taken);
                    Fate::Stays
                });
                if count(&without) < number && still(&without) {
                    at += kept;
                    steps = without;
                } else {
                    at += chunk;
                }
            }
            chunk /= 2;
        }
        let mut at = 0;
        while at < count(&steps) {
            let mut number = 0;
            let opened = rewritten(&steps, &mut |unit| {
                number += 1;
                match number == at + 1 && unit.is_block() {
                    true => Fate::Opens,
                    false => Fate::Stays,
                }
            });
            if count(&opened) < number && still(&opened) {
                steps = opened;
            } else {
                at += 1;
            }
        }
        for word in words(&steps) {
            let all = count(&steps);
            let without = rewritten(&steps, &mut |unit| match unit.may_go(&spare)
                && unit.words().any(|part| part == word)
            {
                true => Fate::Goes,
                false => Fate::Stays,
            });
            if count(&without) < all && still(&without) {
                steps = without;
            }
        }
        if count(&steps) == before {
            return Script {
                steps,
                ..script.clone()
            };
        }
    }
}

/// What can be taken away by itself.
enum Unit<'s> {
    /// A step, with what is in it.
    Step(&'s Step),
    /// A thread of a block.
    Thread(&'s ThreadWords),
}

/// What becomes of a unit.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Stays,
    Goes,
    /// What is in it stays.
    Opens,
}

impl Unit<'_> {
    /// Whether it may be taken away, with what is in it.
    fn may_go(&self, spare: &impl Fn(&Step) -> bool) -> bool {
        let all_go = |lines: &Vec<Line>| {
            lines
                .iter()
                .all(|line| Unit::Step(&line.step).may_go(spare))
        };
        match self {
            Self::Step(step) => spare(step) && bodies(step).into_iter().all(all_go),
            Self::Thread(thread) => all_go(&thread.body),
        }
    }

    fn is_block(&self) -> bool {
        matches!(self, Self::Step(step) if !bodies(step).is_empty())
    }

    /// The words of its line.
    fn words(&self) -> impl Iterator<Item = String> {
        let text = match self {
            Self::Step(step) => step.to_string(),
            Self::Thread(thread) => thread.to_string(),
        };
        let parts = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let parts: Vec<String> = parts.map(str::to_owned).collect();
        parts.into_iter()
    }
}

/// The lines in a step.
fn bodies(step: &Step) -> Vec<&Vec<Line>> {
    match step {
        Step::Repeat { body, .. }
        | Step::For { body, .. }
        | Step::On { body, .. }
        | Step::If { body, .. } => vec![body],
        Step::Parallel { threads } | Step::Interleave { threads, .. } => {
            threads.iter().map(|thread| &thread.body).collect()
        }
        _ => Vec::new(),
    }
}

/// Whether a step is the one at a line, or has it in it.
fn is_at(line: &Line, number: u32) -> bool {
    let mut within = bodies(&line.step).into_iter().flatten();
    line.span.line == number || within.any(|inner| is_at(inner, number))
}

/// The lines with what `fate` says of each unit, in the order of the text; of one that is in another that
/// goes it is asked as well.
fn rewritten(lines: &[Line], fate: &mut dyn FnMut(Unit<'_>) -> Fate) -> Vec<Line> {
    let mut left = Vec::new();
    for line in lines {
        let becomes = fate(Unit::Step(&line.step));
        let mut step = line.step.clone();
        match &mut step {
            Step::Repeat { body, .. }
            | Step::For { body, .. }
            | Step::On { body, .. }
            | Step::If { body, .. } => *body = rewritten(body, fate),
            Step::Parallel { threads } | Step::Interleave { threads, .. } => {
                threads.retain_mut(|thread| {
                    let becomes = fate(Unit::Thread(thread));
                    thread.body = rewritten(&thread.body, fate);
                    becomes != Fate::Goes
                });
            }
            _ => {}
        }
        match becomes {
            Fate::Stays => left.push(Line { step, ..*line }),
            Fate::Goes => {}
            Fate::Opens => left.extend(bodies(&step).into_iter().flatten().cloned()),
        }
    }
    left
}

/// How many units there are.
fn count(lines: &[Line]) -> usize {
    let mut all = 0;
    let _ = rewritten(lines, &mut |_| {
        all += 1;
        Fate::Stays
    });
    all
}

/// The words with a number in them, which are the names that a random scenario gives.
fn words(steps: &[Line]) -> BTreeSet<String> {
    let mut words = BTreeSet::new();
    let _ = rewritten(steps, &mut |unit| {
        words.extend(unit.words().filter(|word| {
            word.starts_with(|c: char| c.is_ascii_alphabetic())
                && word.ends_with(|c: char| c.is_ascii_digit())
        }));
        Fate::Stays
    });
    words
}
