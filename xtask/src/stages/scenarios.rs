//! The scenario files: what the driver does, told in steps.

use crate::ci::Report;
use crate::workspace::Session;

pub(super) fn scenarios(session: &Session, report: &mut Report) {
    let settings = &session.config.ci.scenarios;
    let program = || {
        session
            .cargo("run")
            .arguments(["--locked", "--release"])
            .argument(format!("--package={}", settings.package))
            .argument("--")
    };
    let run = |files: &str| program().arguments(&settings.arguments).argument(files);
    let passed = report.run(&run(&settings.files));
    // Only after a pass: a program that cannot be built refuses everything.
    if passed && run(&settings.failing_file).run().is_ok() {
        report.fail(format!(
            "`{}` succeeded: the program does not look at what is expected",
            run(&settings.failing_file).line()
        ));
    }
    if passed {
        report.run(&program().arguments(&settings.random));
    }
}
