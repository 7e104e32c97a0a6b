//! `cargo xtask ci`: the chosen stages one after the other, all failures, one summary.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use clap::builder::PossibleValuesParser;

use crate::Result;
use crate::command::{Invocation, NOT_INHERITED};
use crate::setup;
use crate::stages::{STAGES, Stage};
use crate::workspace::Session;

/// Arguments of `cargo xtask ci`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Installs what is missing on this machine, then runs the stages
    #[arg(long)]
    setup: bool,
    /// Runs this stage alone; may be repeated
    #[arg(long = "stage", value_name = "NAME", value_parser = PossibleValuesParser::new(STAGES.iter().map(|stage| stage.name)))]
    stages: Vec<String>,
    /// Adds what takes long or must be installed: more loom preemptions, long-only targets, cargo-deny
    #[arg(long)]
    long: bool,
    /// Runs the tests with cargo-nextest instead of cargo test
    #[arg(long)]
    nextest: bool,
    /// Lists the stages and stops
    #[arg(long)]
    list: bool,
}

impl Options {
    fn selects(&self, stage: &Stage) -> bool {
        if self.stages.is_empty() {
            self.long || !stage.long_only
        } else {
            self.stages.iter().any(|name| name == stage.name)
        }
    }
}

/// Runs the stages that `options` selects.
///
/// Returns the status for the caller: failure if a stage failed.
///
/// # Errors
/// The workspace or its configuration cannot be read, so that no stage ran.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    if options.list {
        list();
        return Ok(ExitCode::SUCCESS);
    }
    let start = Instant::now();
    for name in NOT_INHERITED {
        if std::env::var_os(name).is_some() {
            println!("note: {name} is set, and ignored: each stage sets its own");
        }
    }
    let session = Session::open(options.long, options.nextest)?;
    let stages: Vec<&Stage> = STAGES
        .iter()
        .filter(|stage| options.selects(stage))
        .collect();

    let mut ended = Vec::new();
    if options.setup {
        header("setup", "what the stages need", start.elapsed());
        let needs = stages.iter().flat_map(|stage| stage.needs);
        let failures = setup::install_missing(&session, needs);
        ended.push(Ended::new("setup", failures, start));
    }
    for stage in stages {
        header(stage.name, stage.about, start.elapsed());
        let begin = Instant::now();
        let mut report = Report::default();
        if report.meet(stage, &session) {
            (stage.run)(&session, &mut report);
        }
        ended.push(Ended::new(stage.name, report.failures, begin));
    }

    header("summary", "", start.elapsed());
    print!("{}", summary(&ended));
    Ok(if ended.iter().all(Ended::passed) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn list() {
    for stage in STAGES {
        let when = if stage.long_only { " (--long)" } else { "" };
        println!("{:<16}{}{when}", stage.name, stage.about);
    }
}

fn header(name: &str, about: &str, elapsed: Duration) {
    let separator = if about.is_empty() { "" } else { ": " };
    println!("\n=== [{}] {name}{separator}{about}", clock(elapsed));
}

/// Formats minutes and seconds.
fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    format!("{:02}:{:02}", seconds / 60, seconds % 60)
}

/// What went wrong in a stage so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    failures: Vec<String>,
}

impl Report {
    /// Runs a command; its failure is the stage's.
    pub(crate) fn run(&mut self, command: &Invocation) -> bool {
        self.take(command.run()).is_some()
    }

    /// Unwraps a result; its error is the stage's.
    pub(crate) fn take<T>(&mut self, result: Result<T>) -> Option<T> {
        result.map_err(|error| self.fail(error)).ok()
    }

    /// Records a failure and shows it where it happened.
    pub(crate) fn fail(&mut self, failure: impl Into<String>) {
        let failure = failure.into();
        println!("error: {failure}");
        self.failures.push(failure);
    }

    /// Whether everything that the stage needs is there; what is not is a failure.
    fn meet(&mut self, stage: &Stage, session: &Session) -> bool {
        for need in stage.needs {
            match need.missing(session) {
                Ok(None) => {}
                Ok(Some(error)) | Err(error) => self.fail(error),
            }
        }
        self.failures.is_empty()
    }
}

/// A stage that has run.
#[derive(Debug)]
struct Ended {
    name: &'static str,
    failures: Vec<String>,
    time: Duration,
}

impl Ended {
    fn new(name: &'static str, failures: Vec<String>, begin: Instant) -> Self {
        Self {
            name,
            failures,
            time: begin.elapsed(),
        }
    }

    fn passed(&self) -> bool {
        self.failures.is_empty()
    }
}

/// Returns one line for each stage with its failures below, and a last line that counts them in
/// the form of a test runner's.
fn summary(ended: &[Ended]) -> String {
    let mut text = String::new();
    for stage in ended {
        let verdict = if stage.passed() { "pass" } else { "FAIL" };
        text += &format!(
            "{:<16}{verdict}{:>9.1} s\n",
            stage.name,
            stage.time.as_secs_f64()
        );
        for failure in &stage.failures {
            let mut lines = failure.lines();
            text += &format!("    - {}\n", lines.next().unwrap_or_default());
            for line in lines {
                text += &format!("      {line}\n");
            }
        }
    }
    let passed = ended.iter().filter(|stage| stage.passed()).count();
    let failed = ended.len() - passed;
    text + &format!("\n{passed} passed, {failed} failed\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(name: &'static str, failures: &[&str]) -> Ended {
        Ended {
            name,
            failures: failures.iter().map(|&failure| failure.to_owned()).collect(),
            time: Duration::from_millis(1250),
        }
    }

    fn options(long: bool, stages: &[&str]) -> Options {
        Options {
            setup: false,
            stages: stages.iter().map(|&name| name.to_owned()).collect(),
            long,
            nextest: false,
            list: false,
        }
    }

    #[test]
    fn the_last_line_counts_the_stages_and_stands_alone() {
        let text = summary(&[ended("a", &[]), ended("b", &["x"]), ended("c", &[])]);
        assert_eq!(text.lines().last(), Some("2 passed, 1 failed"));
    }

    #[test]
    fn every_failure_of_every_stage_is_in_the_summary() {
        let text = summary(&[
            ended("a", &["first", "second\nmore"]),
            ended("b", &["third"]),
        ]);
        for part in [
            "a               FAIL",
            "- first\n",
            "- second\n      more\n",
            "- third\n",
        ] {
            assert!(text.contains(part), "{part:?} is not in:\n{text}");
        }
    }

    #[test]
    fn a_stage_for_long_runs_waits_for_one_or_for_its_name() {
        let stage = STAGES
            .iter()
            .find(|stage| stage.long_only)
            .expect("there is one");
        assert!(!options(false, &[]).selects(stage));
        assert!(options(true, &[]).selects(stage));
        assert!(options(false, &[stage.name]).selects(stage));
    }

    #[test]
    fn a_named_stage_runs_alone() {
        let selected = STAGES
            .iter()
            .filter(|stage| options(true, &["format"]).selects(stage))
            .map(|stage| stage.name);
        assert_eq!(selected.collect::<Vec<_>>(), ["format"]);
    }

    #[test]
    fn no_two_stages_share_a_name() {
        for (index, stage) in STAGES.iter().enumerate() {
            let others = STAGES.iter().skip(index + 1);
            assert!(others.into_iter().all(|other| other.name != stage.name));
        }
    }
}
