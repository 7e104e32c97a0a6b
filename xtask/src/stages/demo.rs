//! The demonstration as a smoke test: the program that users are told to run first.

use crate::ci::Report;
use crate::workspace::Session;

pub(super) fn demo(session: &Session, report: &mut Report) {
    let settings = &session.config.ci.demo;
    let run = |asic: &str| {
        session
            .cargo("run")
            .arguments(["--locked", "--release"])
            .argument(format!("--package={}", settings.package))
            .argument("--")
            .arguments(settings.arguments(asic))
    };
    let mut passed = true;
    for asic in &settings.asics {
        passed &= report.run(&run(asic));
    }
    // Only after passes: a program that cannot be built refuses everything.
    if passed && run(&settings.unknown_asic).run().is_ok() {
        report.fail(format!(
            "`{}` succeeded: the program does not look at its arguments",
            run(&settings.unknown_asic).line()
        ));
    }
}
