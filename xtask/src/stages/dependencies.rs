//! The policy for dependencies.

use crate::ci::Report;
use crate::config::Level;
use crate::policy;
use crate::workspace::Session;

pub(super) fn policy(session: &Session, report: &mut Report) {
    let Some(graph) = report.take(session.graph()) else {
        return;
    };
    let config = &session.config;
    let findings = policy::check(&graph, &config.deny, &config.advisories);
    if let Some(findings) = report.take(findings) {
        for finding in findings {
            match finding.level {
                Level::Deny => report.fail(finding.text),
                Level::Warn | Level::Allow => println!("note: {}", finding.text),
            }
        }
    }
    println!(
        "{} packages looked at.\n\
         Not looked at: the RustSec advisory database and yanked versions, which need a network; \
         ci/advisories.toml refuses {} known ranges. For the whole database:\n\
         cargo deny --config ci/deny.toml check advisories",
        graph.packages.len(),
        config.advisories.refused.len()
    );
}

pub(super) fn cargo_deny(session: &Session, report: &mut Report) {
    let deny =
        session
            .cargo("deny")
            .arguments(["--locked", "--offline", "--config", "ci/deny.toml"]);
    report.run(&deny.arguments(["check", "bans", "licenses", "sources"]));
}
