//! The proof that the library crates need neither std nor alloc.

use std::collections::BTreeMap;

use crate::Result;
use crate::bare::{self, Found, Toolchain};
use crate::ci::Report;
use crate::workspace::Session;

pub(super) fn prove(session: &Session, report: &mut Report) {
    if let Some(groups) = report.take(group(session)) {
        for (toolchain, targets) in groups {
            prove_with(session, report, toolchain, &targets);
        }
    }
}

/// Sorts the targets by the toolchain that compiles for them, so that one call of cargo does all
/// targets of a toolchain side by side.
fn group(session: &Session) -> Result<BTreeMap<Toolchain, Vec<&str>>> {
    let found = Found::look(session)?;
    let settings = &session.config.targets;
    let mut groups: BTreeMap<Toolchain, Vec<&str>> = BTreeMap::new();
    for target in settings.selected(session.long) {
        let name = target.name.as_str();
        let toolchain = found
            .choose(name)
            .ok_or_else(|| found.complaint(&[name], &settings.debian.packages))?;
        println!("{name} ({}): {toolchain}", target.why);
        groups.entry(toolchain).or_default().push(name);
    }
    Ok(groups)
}

fn prove_with(session: &Session, report: &mut Report, toolchain: Toolchain, targets: &[&str]) {
    let Some(build) = report.take(bare::build(session, toolchain, targets)) else {
        return;
    };
    let settings = &session.config.targets;
    for name in &settings.packages {
        let Some(package) = report.take(session.member(name)) else {
            continue;
        };
        // Each package by itself: features of a shared dependency that another package turns on
        // must not hide that this one lacks them.
        for set in package.distinct(&settings.feature_sets) {
            let build = build.clone().argument(format!("--package={name}"));
            report.run(&build.arguments(set.arguments().iter().copied()));
        }
    }
}
