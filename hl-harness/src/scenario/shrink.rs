//! From a scenario that fails to a short one that fails in the same way.

use super::ast::{Line, Script, Step};
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
/// together, again and again until none can be. The result still prints as a scenario file.
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
    if let Some(last) = steps.iter().position(|line| line.span.line == wanted.0) {
        let before: Vec<Line> = steps.iter().take(last + 1).cloned().collect();
        if still(&before) {
            steps = before;
        }
    }
    loop {
        let before = steps.len();
        let mut chunk = steps.len().div_ceil(2);
        while chunk > 0 {
            let mut at = 0;
            while at < steps.len() {
                let end = (at + chunk).min(steps.len());
                let kept = steps[at..end].iter().filter(|line| !spare(&line.step));
                let kept: Vec<Line> = kept.cloned().collect();
                let without = [&steps[..at], &kept, &steps[end..]].concat();
                if without.len() < steps.len() && still(&without) {
                    at += kept.len();
                    steps = without;
                } else {
                    at = end;
                }
            }
            chunk /= 2;
        }
        for word in words(&steps) {
            let apart = |line: &&Line| !(spare(&line.step) && mentions(line, &word));
            let without: Vec<Line> = steps.iter().filter(apart).cloned().collect();
            if without.len() < steps.len() && still(&without) {
                steps = without;
            }
        }
        if steps.len() == before {
            return Script {
                steps,
                ..script.clone()
            };
        }
    }
}

/// The words with a number in them, which are the names that a random scenario gives.
fn words(steps: &[Line]) -> Vec<String> {
    let text: Vec<String> = steps.iter().map(|line| line.step.to_string()).collect();
    let split = |line: &'_ String| -> Vec<String> {
        let words = line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        words.map(str::to_owned).collect()
    };
    let named = |word: &String| {
        word.starts_with(|c: char| c.is_ascii_alphabetic())
            && word.ends_with(|c: char| c.is_ascii_digit())
    };
    let mut words: Vec<String> = text.iter().flat_map(split).filter(named).collect();
    words.sort();
    words.dedup();
    words
}

fn mentions(line: &Line, word: &str) -> bool {
    let text = line.step.to_string();
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .any(|part| part == word)
}
