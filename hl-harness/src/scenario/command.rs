//! `hl-harness run`: scenario files, one after the other.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::builder::PossibleValue;
use clap::{Args, ValueEnum};
use serde_json::json;

use super::ast::Script;
use super::run::{Executed, Options, Passed, Stop, Watch, run};
use super::text::Invalid;
use super::words::{AsicWord, Asics, Choice};
use crate::inspect::{Sight, State};

impl ValueEnum for Asics {
    fn value_variants<'a>() -> &'a [Self] {
        &[
            Self::Goya,
            Self::Gaudi,
            Self::Gaudi2,
            Self::Gaudi2Six,
            Self::Gaudi2Five,
        ]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let word = Self::ALL.iter().find(|(asics, _)| asics == self);
        word.map(|(_, word)| PossibleValue::new(*word))
    }
}

/// Options of `hl-harness run`.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Exit status: 0 when every scenario passed, 1 when an expectation did not hold, \
                  2 when a file is not a scenario or cannot be carried out."
)]
pub struct RunOptions {
    /// Scenario files, and folders that are searched for files whose name ends in `.hl`.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,

    /// The ASIC to run on, whatever a file says that is named here; of the files in a folder, those
    /// that are for it. May be repeated.
    #[arg(long, value_enum, value_name = "ASIC")]
    pub asic: Vec<Asics>,

    /// What everything random is decided by: the order of host pages, and `random` in the files.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,

    /// Print each step, what came of it, and the events that it caused.
    #[arg(long)]
    pub trace: bool,

    /// Save the state of the machine at the end of the last scenario, or at the step that failed, for
    /// `walk`, `dump`, `map` and `timeline`.
    #[arg(long, value_name = "FILE")]
    pub state: Option<PathBuf>,

    /// Print one JSON object for each step and each scenario; with `--trace`, with events.
    #[arg(long)]
    pub json: bool,
}

/// How many like events in a row a trace prints.
const ROW: usize = 6;

/// What came of a scenario, the worse the later.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Passed,
    Failed,
    Invalid,
}

/// Runs the scenarios and prints what comes of them.
#[must_use]
pub fn main(options: &RunOptions) -> ExitCode {
    let mut report = Report {
        out: Box::new(io::stdout()),
        json: options.json,
        trace: options.trace,
        seed: options.seed,
    };
    let mut verdicts = Vec::new();
    for name in &options.files {
        match files(name) {
            Ok(found) if found.is_empty() => {
                report.broken(name, "there is no scenario in this folder");
                verdicts.push(Verdict::Invalid);
            }
            Ok(found) => {
                let named = found.first() == Some(name);
                for file in found {
                    verdicts.extend(one(&file, named, options, &mut report));
                }
            }
            Err(error) => {
                report.broken(name, &error.to_string());
                verdicts.push(Verdict::Invalid);
            }
        }
    }
    let passed = verdicts
        .iter()
        .filter(|verdict| **verdict == Verdict::Passed);
    let passed = passed.count();
    report.summary(passed, verdicts.len() - passed);
    match verdicts.into_iter().max() {
        None | Some(Verdict::Passed) => ExitCode::SUCCESS,
        Some(Verdict::Failed) => ExitCode::from(1),
        Some(Verdict::Invalid) => ExitCode::from(2),
    }
}

/// A file, or the scenario files in a folder, in the order of their names.
fn files(name: &Path) -> io::Result<Vec<PathBuf>> {
    if !fs::metadata(name)?.is_dir() {
        return Ok(vec![name.to_owned()]);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(name)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "hl") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Reads a file: its text, as far as it is one, and the scenario.
fn read(path: &Path) -> io::Result<(String, Result<Script, Invalid>)> {
    Ok(match String::from_utf8(fs::read(path)?) {
        Ok(source) => {
            let script = source.parse();
            (source, script)
        }
        Err(error) => {
            let invalid = Invalid::no_text(error.as_bytes(), error.utf8_error());
            let source = String::from_utf8_lossy(error.as_bytes()).into_owned();
            (source, Err(invalid))
        }
    })
}

/// Runs one file on each of its ASICs, or on those that were chosen; one that was not `named` but found
/// in a folder only on those of them that it is for.
fn one(path: &Path, named: bool, options: &RunOptions, report: &mut Report) -> Vec<Verdict> {
    let (source, script) = match read(path) {
        Ok(read) => read,
        Err(error) => {
            report.broken(path, &error.to_string());
            return vec![Verdict::Invalid];
        }
    };
    let script = match script {
        Ok(script) => script,
        Err(invalid) => {
            report.invalid(path, &source, &invalid);
            return vec![Verdict::Invalid];
        }
    };
    let own = Asics::parts_of(&script.asics);
    let mut asics = Asics::parts_of(&options.asic);
    if options.asic.is_empty() || !named {
        asics.retain(|asic| own.contains(asic));
    }
    let run_options = Options {
        seed: options.seed,
        events: options.trace || options.state.is_some(),
    };
    let mut verdicts = Vec::new();
    for asic in asics {
        report.begin(path, asic);
        let mut watch = Printer {
            report,
            path,
            asic,
            keep: options.state.is_some(),
            state: None,
        };
        let outcome = run(&script, asic, run_options, &mut watch);
        let state = watch.state.take();
        if let (Some(file), Some(state)) = (&options.state, state)
            && let Err(error) = fs::File::create(file).and_then(|file| state.save(file))
        {
            report.broken(file, &error.to_string());
            verdicts.push(Verdict::Invalid);
        }
        verdicts.push(match &outcome {
            Ok(_) => Verdict::Passed,
            Err(Stop::Failed(_)) => Verdict::Failed,
            Err(Stop::Invalid(_)) => Verdict::Invalid,
        });
        report.outcome(path, asic, &source, &outcome);
    }
    verdicts
}

/// Where results go. A reader that went away is no reason to stop: the exit status tells.
struct Report {
    out: Box<dyn Write>,
    json: bool,
    trace: bool,
    seed: u64,
}

impl Report {
    fn print(&mut self, text: impl core::fmt::Display) {
        let _ = writeln!(self.out, "{text}");
    }

    fn begin(&mut self, path: &Path, asic: AsicWord) {
        if self.trace && !self.json {
            self.print(format_args!("{} on {asic}", path.display()));
        }
    }

    fn broken(&mut self, path: &Path, message: &str) {
        match self.json {
            true => self.print(json!({
                "file": path, "outcome": "invalid", "message": message,
            })),
            false => self.print(format_args!("{}: {message}", path.display())),
        }
    }

    fn invalid(&mut self, path: &Path, source: &str, invalid: &Invalid) {
        match self.json {
            true => self.print(json!({
                "file": path,
                "outcome": "invalid",
                "line": invalid.span.line,
                "column": invalid.span.column,
                "message": invalid.message,
                "help": invalid.help,
            })),
            false => {
                let name = path.display().to_string();
                self.print(invalid.render(&name, source).trim_end());
            }
        }
    }

    fn outcome(
        &mut self,
        path: &Path,
        asic: AsicWord,
        source: &str,
        outcome: &Result<Passed, Stop>,
    ) {
        match outcome {
            Ok(Passed { steps }) if self.json => self.print(json!({
                "file": path, "asic": asic.to_string(), "outcome": "passed", "steps": steps,
            })),
            Ok(Passed { steps }) => {
                self.print(format_args!(
                    "pass  {} on {asic}, {steps} steps",
                    path.display()
                ));
            }
            Err(Stop::Failed(failure)) if self.json => self.print(json!({
                "file": path,
                "asic": asic.to_string(),
                "outcome": "failed",
                "seed": self.seed,
                "line": failure.span.line,
                "column": failure.span.column,
                "expected": failure.expected,
                "found": failure.found,
                "notes": failure.notes,
            })),
            Err(Stop::Failed(failure)) => {
                let name = path.display().to_string();
                self.print(failure.render(&name, asic, self.seed, source).trim_end());
            }
            Err(Stop::Invalid(invalid)) => self.invalid(path, source, invalid),
        }
    }

    fn summary(&mut self, passed: usize, failed: usize) {
        match self.json {
            true => self.print(json!({ "passed": passed, "failed": failed })),
            false => self.print(format_args!("\n{passed} passed, {failed} failed")),
        }
    }
}

/// Prints each step as it is carried out.
struct Printer<'r> {
    report: &'r mut Report,
    path: &'r Path,
    asic: AsicWord,
    /// Whether the state at the end is wanted.
    keep: bool,
    state: Option<State>,
}

/// The state of the machine at the end of a scenario, or at the step that failed, with that failure.
///
/// Of several parts that the word for the ASIC stands for it is the first.
///
/// # Errors
///
/// What is wrong with the file, in words: it cannot be read, is no scenario, or cannot be carried out.
pub fn state_at_end(path: &Path, asic: Option<Asics>, seed: u64) -> Result<Sight, String> {
    let name = path.display().to_string();
    let (source, script) = read(path).map_err(|error| format!("{name}: {error}"))?;
    let script = script.map_err(|invalid| invalid.render(&name, &source))?;
    let wanted = asic.or_else(|| script.asics.first().copied());
    let part = wanted.and_then(|asics| asics.parts().first().copied());
    let asic = part.unwrap_or(AsicWord::Gaudi2);
    let options = Options { seed, events: true };
    let mut last = Last(None);
    let failure = match run(&script, asic, options, &mut last) {
        Ok(_) => None,
        Err(Stop::Failed(failure)) => Some(failure.render(&name, asic, seed, &source)),
        Err(Stop::Invalid(invalid)) => return Err(invalid.render(&name, &source)),
    };
    match last.0 {
        Some(state) => Ok(Sight { state, failure }),
        None => Err(failure.unwrap_or_else(|| format!("{name}: nothing was run"))),
    }
}

/// Keeps the state at the end.
struct Last(Option<State>);

impl Watch for Last {
    fn step(&mut self, _: &Executed<'_>) {}

    fn end(&mut self, capture: &dyn Fn() -> State) {
        self.0 = Some(capture());
    }
}

impl Watch for Printer<'_> {
    fn end(&mut self, capture: &dyn Fn() -> State) {
        if self.keep {
            self.state = Some(capture());
        }
    }

    fn step(&mut self, executed: &Executed<'_>) {
        let Executed {
            line,
            thread,
            loops,
            answer,
            ended,
            events,
        } = executed;
        if self.report.json {
            let loops: serde_json::Map<_, _> = loops
                .iter()
                .map(|(name, value)| (name.clone(), json!(value)))
                .collect();
            let mut object = json!({
                "file": self.path,
                "asic": self.asic.to_string(),
                "line": line.span.line,
                "step": line.step.to_string(),
                "answer": answer,
            });
            if !loops.is_empty() {
                object["loops"] = loops.into();
            }
            if let Some(thread) = thread {
                object["thread"] = json!(thread);
                object["ended"] = json!(ended);
            }
            if self.report.trace {
                let events: Vec<_> = events
                    .iter()
                    .map(|record| record.event.to_string())
                    .collect();
                object["events"] = events.into();
            }
            self.report.print(object);
        } else if self.report.trace {
            let thread = thread.map_or(String::new(), |thread| format!("thread {thread}: "));
            let mut text = format!("{:>4} | {thread}{}   # {answer}", line.span.line, line.step);
            for row in events.chunk_by(|one, other| one.event.kind() == other.event.kind()) {
                let hidden = match row.len() {
                    ..=ROW => 0,
                    len => len - ROW,
                };
                for (index, record) in row.iter().enumerate() {
                    if hidden > 0 && index == ROW - 1 {
                        text += &format!("\n               ... {hidden} more like this ...");
                    }
                    if index < ROW - 1 || index + 1 == row.len() {
                        text += &format!("\n       {record}");
                    }
                }
            }
            self.report.print(text);
        }
    }
}
