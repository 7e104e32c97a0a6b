//! Tests interpreted by Miri, which reports undefined behaviour and races that no processor shows.

use super::host_tests::passed;
use crate::ci::Report;
use crate::command::Invocation;
use crate::config::MiriRun;
use crate::setup::nightly;
use crate::workspace::Session;

pub(super) fn interpret(session: &Session, report: &mut Report) {
    for run in &session.config.ci.miri.runs {
        let output = report.take(tests(session, run).run_and_read());
        if output.is_some_and(|output| passed(&output) == 0) {
            report.fail(format!("no test of {} ran", run.package));
        }
    }
}

/// The tests of one run.
fn tests(session: &Session, run: &MiriRun) -> Invocation {
    let build = session.build_directory("miri");
    nightly(session, "cargo")
        .arguments(["miri", "test", "--locked"])
        .argument(format!("--target-dir={}", build.display()))
        .argument(format!("--package={}", run.package))
        .arguments(run.targets.iter().map(String::as_str))
        .argument("--")
        .arguments(run.tests.iter().map(String::as_str))
        .arguments(run.skipped.iter().map(|name| format!("--skip={name}")))
}
