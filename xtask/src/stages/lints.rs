//! Format, clippy, rustdoc: tools that read the sources.

use crate::ci::Report;
use crate::command::Invocation;
use crate::config::FeatureSet;
use crate::workspace::Session;

pub(super) fn format(session: &Session, report: &mut Report) {
    report.run(&session.cargo("fmt").arguments(["--all", "--check"]));
}

pub(super) fn clippy(session: &Session, report: &mut Report) {
    for package in &session.members {
        for set in package.distinct(&session.config.ci.clippy.feature_sets) {
            report.run(&deny_warnings(clippy_for(session, &package.name, set)));
        }
    }

    // What the models compile. The library crates are dependencies here, which clippy lints too.
    let loom = &session.config.ci.loom;
    let harness = session
        .cargo("clippy")
        .variable("RUSTFLAGS", "--cfg loom")
        .argument("--locked")
        .argument(super::loom::target_directory(session))
        .argument(format!("--package={}", loom.package))
        .arguments(["--lib", "--bins"])
        .argument(format!("--test={}", loom.test));
    report.run(&deny_warnings(harness));
}

/// Returns the clippy call of one package and feature set, without lint levels.
pub(super) fn clippy_for(session: &Session, package: &str, set: FeatureSet) -> Invocation {
    session
        .cargo("clippy")
        .arguments(["--locked", "--all-targets"])
        .argument(format!("--package={package}"))
        .arguments(set.arguments().iter().copied())
}

fn deny_warnings(clippy: Invocation) -> Invocation {
    clippy.arguments(["--", "-D", "warnings"])
}

pub(super) fn documentation(session: &Session, report: &mut Report) {
    let rustdoc = || {
        session
            .cargo("doc")
            .variable("RUSTDOCFLAGS", "-D warnings")
            .arguments(["--locked", "--workspace", "--no-deps", "--all-features"])
    };
    report.run(&rustdoc());
    report.run(&rustdoc().argument("--document-private-items"));
}
