//! The loom models.

use super::host_tests::passed;
use crate::Result;
use crate::ci::Report;
use crate::workspace::Session;

pub(super) fn models(session: &Session, report: &mut Report) {
    let settings = &session.config.ci.loom;
    let preemptions = if session.long {
        settings.long_max_preemptions
    } else {
        settings.max_preemptions
    };
    report.take(run_models(session, preemptions, &[]));
}

/// Runs the models, with `arguments` for the test program.
///
/// # Errors
/// A model failed, or none ran: the test is missing, is empty without `--cfg loom`'s code, or
/// nothing fits the filter.
pub(crate) fn run_models(session: &Session, preemptions: u32, arguments: &[String]) -> Result<()> {
    let settings = &session.config.ci.loom;
    let (package, test) = (&settings.package, &settings.test);
    if !session.member(package)?.has_test(test) {
        return Err(format!(
            "{package} has no test called `{test}` ({package}/tests/{test}.rs): there are no models"
        ));
    }
    let separator = (!arguments.is_empty()).then_some("--");
    let output = session
        .cargo("test")
        .variable("RUSTFLAGS", "--cfg loom")
        .variable("LOOM_MAX_PREEMPTIONS", preemptions.to_string())
        .arguments(["--locked", "--no-fail-fast"])
        .argument(target_directory(session))
        .argument(format!("--profile={}", settings.profile))
        .argument(format!("--package={package}"))
        .argument(format!("--test={test}"))
        .arguments(separator)
        .arguments(arguments)
        .run_and_read()?;
    if passed(&output) == 0 {
        return Err(format!(
            "no model ran: {package}/tests/{test}.rs has none, or none that fits the filter"
        ));
    }
    Ok(())
}

/// Returns cargo's argument for the models' own directory: their flags would otherwise throw away
/// every ordinary build.
pub(super) fn target_directory(session: &Session) -> String {
    format!("--target-dir={}", session.build_directory("loom").display())
}
