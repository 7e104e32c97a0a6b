//! The policy for dependencies (`ci/deny.toml`, `ci/advisories.toml`), judged offline from the
//! graph that cargo has resolved.
//!
//! The judgement is cargo-deny's for the settings that [`Deny`] knows. cargo-deny takes minutes to
//! build, which is too long for every run on a clean machine; a long run asks it as well.
//! One difference: licences are read from the manifests alone, never from licence files.

use std::collections::{BTreeMap, BTreeSet};

use spdx::{Expression, Licensee, ParseMode};

use crate::Result;
use crate::config::{Advisories, Bans, Deny, Level, Licenses, Sources};
use crate::workspace::{Metadata, Package};

/// Something that the policy has a word on. Its level is never [`Level::Allow`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) level: Level,
    pub(crate) text: String,
}

/// Judges every package of `graph`.
///
/// # Errors
/// The policy itself is wrong: not a licence, a ban of a form that is not implemented.
pub(crate) fn check(
    graph: &Metadata,
    deny: &Deny,
    advisories: &Advisories,
) -> Result<Vec<Finding>> {
    if !deny.graph.all_features {
        return Err("ci/deny.toml: graph.all-features must be true, as it is here".to_owned());
    }
    let mut findings = licences(&graph.packages, &deny.licenses)?;
    findings.extend(banned(graph, &deny.bans)?);
    findings.extend(duplicates(&graph.packages, &deny.bans));
    findings.extend(wildcards(graph, &deny.bans));
    findings.extend(sources(graph, &deny.sources));
    findings.extend(refused(&graph.packages, advisories));
    findings.retain(|finding| finding.level != Level::Allow);
    Ok(findings)
}

fn licences(packages: &[Package], policy: &Licenses) -> Result<Vec<Finding>> {
    let allowed = policy
        .allow
        .iter()
        .map(|text| Licensee::parse(text).map_err(|error| format!("ci/deny.toml: {error}")))
        .collect::<Result<Vec<_>>>()?;
    Ok(packages
        .iter()
        .filter_map(|package| {
            let problem = licence_problem(package.license.as_deref(), &allowed)?;
            Some(denied(format!("{} {problem}", label(package))))
        })
        .collect())
}

/// Says why a package with this licence expression may not be used; `None` if it may.
fn licence_problem(expression: Option<&str>, allowed: &[Licensee]) -> Option<String> {
    let Some(text) = expression else {
        return Some("states no licence".to_owned());
    };
    // Lax: old manifests write `MIT/Apache-2.0`.
    let expression = match Expression::parse_mode(text, ParseMode::LAX) {
        Ok(expression) => expression,
        Err(error) => {
            return Some(format!(
                "has a licence that cannot be read, `{text}`: {error}"
            ));
        }
    };
    let fits = |requirement: &spdx::LicenseReq| {
        allowed
            .iter()
            .any(|licensee| licensee.satisfies(requirement))
    };
    (!expression.evaluate(fits)).then(|| format!("has the licence `{text}`, which is not allowed"))
}

fn banned(graph: &Metadata, policy: &Bans) -> Result<Vec<Finding>> {
    let resolve = graph
        .resolve
        .as_ref()
        .ok_or_else(|| "cargo metadata resolved no graph".to_owned())?;
    let by_id: BTreeMap<&str, &Package> = graph
        .packages
        .iter()
        .map(|package| (package.id.as_str(), package))
        .collect();
    let mut findings = Vec::new();
    for ban in &policy.deny {
        if ban.name.contains([':', '@']) {
            return Err(format!(
                "ci/deny.toml bans `{}`: refuse single versions in ci/advisories.toml",
                ban.name
            ));
        }
        for node in &resolve.nodes {
            let Some(user) = by_id.get(node.id.as_str()) else {
                continue;
            };
            let uses = node
                .dependencies
                .iter()
                .filter_map(|id| by_id.get(id.as_str()))
                .any(|package| package.name == ban.name);
            if uses && !ban.wrappers.contains(&user.name) {
                findings.push(denied(format!(
                    "{} depends on {}, which is banned: {}",
                    label(user),
                    ban.name,
                    ban.reason
                )));
            }
        }
    }
    Ok(findings)
}

fn duplicates(packages: &[Package], policy: &Bans) -> Vec<Finding> {
    let mut versions: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for package in packages {
        let seen = versions.entry(&package.name).or_default();
        seen.push(package.version.to_string());
    }
    versions
        .into_iter()
        .filter(|(_, versions)| versions.len() > 1)
        .map(|(name, versions)| Finding {
            level: policy.multiple_versions,
            text: format!(
                "{name} is there in {} versions: {}",
                versions.len(),
                versions.join(", ")
            ),
        })
        .collect()
}

fn wildcards(graph: &Metadata, policy: &Bans) -> Vec<Finding> {
    members(graph)
        .flat_map(|package| {
            package
                .dependencies
                .iter()
                .filter(|dependency| dependency.req == "*")
                .filter(|dependency| !(policy.allow_wildcard_paths && dependency.path.is_some()))
                .map(|dependency| Finding {
                    level: policy.wildcards,
                    text: format!(
                        "{} takes any version of {}",
                        label(package),
                        dependency.name
                    ),
                })
        })
        .collect()
}

fn sources(graph: &Metadata, policy: &Sources) -> Vec<Finding> {
    let own: BTreeSet<&str> = members(graph).map(|package| package.id.as_str()).collect();
    graph
        .packages
        .iter()
        .filter_map(|package| {
            let level = match &package.source {
                None if own.contains(package.id.as_str()) => return None,
                None => Level::Deny,
                Some(source) => source_level(source, policy),
            };
            let source = package.source.as_deref().unwrap_or("a path");
            let text = format!(
                "{} comes from {source}, which is not allowed",
                label(package)
            );
            Some(Finding { level, text })
        })
        .collect()
}

fn source_level(source: &str, policy: &Sources) -> Level {
    match source.split_once('+') {
        Some(("registry" | "sparse", address)) => {
            let known = policy
                .allow_registry
                .iter()
                .any(|allowed| allowed == address);
            if known {
                Level::Allow
            } else {
                policy.unknown_registry
            }
        }
        Some(("git", _)) => policy.unknown_git,
        _ => Level::Deny,
    }
}

fn refused(packages: &[Package], advisories: &Advisories) -> Vec<Finding> {
    packages
        .iter()
        .flat_map(|package| {
            advisories
                .refused
                .iter()
                .filter(|refused| {
                    refused.name == package.name && refused.versions.matches(&package.version)
                })
                .map(|refused| denied(format!("{} is refused: {}", label(package), refused.reason)))
        })
        .collect()
}

fn members(graph: &Metadata) -> impl Iterator<Item = &Package> {
    graph
        .packages
        .iter()
        .filter(|package| graph.workspace_members.contains(&package.id))
}

fn denied(text: String) -> Finding {
    Finding {
        level: Level::Deny,
        text,
    }
}

fn label(package: &Package) -> String {
    format!("{} {}", package.name, package.version)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

    /// One member `a` that depends on `b`, a package from crates.io, as cargo tells it. Each
    /// test changes one thing.
    fn graph() -> serde_json::Value {
        serde_json::json!({
            "packages": [
                {
                    "id": "a", "name": "a", "version": "0.1.0", "license": "MIT OR Apache-2.0",
                    "features": {}, "targets": [],
                    "dependencies": [{ "name": "b", "req": "^1" }],
                },
                {
                    "id": "b", "name": "b", "version": "1.2.3", "license": "MIT",
                    "source": CRATES_IO, "features": {}, "targets": [], "dependencies": [],
                },
            ],
            "workspace_members": ["a"],
            "resolve": { "nodes": [
                { "id": "a", "dependencies": ["b"] },
                { "id": "b", "dependencies": [] },
            ] },
            "workspace_root": "", "target_directory": "",
        })
    }

    fn judge(graph: &serde_json::Value, bans: &str) -> Result<Vec<String>> {
        let deny = format!(
            "graph.all-features = true\n\
             licenses.allow = ['MIT', 'Apache-2.0', 'Unicode-3.0']\n\
             sources = {{ unknown-registry = 'deny', unknown-git = 'deny', \
                          allow-registry = ['https://github.com/rust-lang/crates.io-index'] }}\n\
             [bans]\n\
             multiple-versions = 'deny'\n\
             wildcards = 'deny'\n\
             allow-wildcard-paths = true\n\
             deny = [{bans}]\n"
        );
        let deny = toml::from_str(&deny).expect("well formed");
        let refused = "[[refused]]\ncrate = 'b'\nversions = '>=2.0, <2.4.1'\nreason = 'unsound'\n";
        let advisories = toml::from_str(refused).expect("well formed");
        let graph = Metadata::parse(&graph.to_string()).expect("well formed");
        let findings = check(&graph, &deny, &advisories)?;
        Ok(findings.into_iter().map(|finding| finding.text).collect())
    }

    fn judged(graph: &serde_json::Value) -> Vec<String> {
        judge(graph, "").expect("the policy is well formed")
    }

    #[test]
    fn a_graph_that_keeps_to_the_policy_has_no_findings() {
        assert_eq!(judged(&graph()), [""; 0]);
    }

    #[test]
    fn a_licence_that_is_not_allowed_is_found() {
        let mut graph = graph();
        graph["packages"][1]["license"] = "GPL-3.0-only".into();
        assert_eq!(
            judged(&graph),
            ["b 1.2.3 has the licence `GPL-3.0-only`, which is not allowed"]
        );
    }

    #[test]
    fn a_missing_or_unreadable_licence_is_found() {
        let mut graph = graph();
        graph["packages"][1]["license"] = serde_json::Value::Null;
        assert_eq!(judged(&graph), ["b 1.2.3 states no licence"]);
        graph["packages"][1]["license"] = "Whatever".into();
        assert!(judged(&graph)[0].contains("cannot be read"));
    }

    #[test]
    fn licence_expressions_are_evaluated_not_compared() {
        let allowed = ["MIT", "Apache-2.0", "Unicode-3.0"]
            .map(|name| Licensee::parse(name).expect("a licence"));
        for good in [
            "MIT/Apache-2.0",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT",
            "MIT OR GPL-3.0-only",
        ] {
            assert_eq!(licence_problem(Some(good), &allowed), None, "{good}");
        }
        for bad in [
            "MIT AND GPL-3.0-only",
            "(MIT OR Apache-2.0) AND OpenSSL",
            "Apache-2.0 WITH LLVM-exception",
            "BSD-3-Clause",
        ] {
            assert!(licence_problem(Some(bad), &allowed).is_some(), "{bad}");
        }
    }

    #[test]
    fn a_policy_that_names_no_licence_is_an_error_not_a_finding() {
        let policy = Licenses {
            allow: vec!["MTI".to_owned()],
        };
        assert!(licences(&[], &policy).is_err());
    }

    #[test]
    fn a_source_other_than_the_registry_is_found() {
        for source in [
            "registry+https://example.org/index",
            "git+https://github.com/rust-lang/crates.io-index#0123",
            "unheard-of",
        ] {
            let mut graph = graph();
            graph["packages"][1]["source"] = source.into();
            let findings = judged(&graph);
            assert_eq!(findings.len(), 1, "{source}: {findings:?}");
            assert!(findings[0].contains(source), "{findings:?}");
        }
    }

    #[test]
    fn a_path_outside_the_workspace_is_found() {
        let mut graph = graph();
        graph["packages"][1]["source"] = serde_json::Value::Null;
        assert_eq!(
            judged(&graph),
            ["b 1.2.3 comes from a path, which is not allowed"]
        );
    }

    #[test]
    fn a_banned_crate_is_found_with_its_user_and_the_reason() {
        let findings = judge(&graph(), "{ crate = 'b', reason = 'too large' }");
        assert_eq!(
            findings.expect("well formed"),
            ["a 0.1.0 depends on b, which is banned: too large"]
        );
    }

    #[test]
    fn only_a_wrapper_may_use_a_banned_crate_directly() {
        let ban = |user| format!("{{ crate = 'b', wrappers = ['{user}'], reason = 'r' }}");
        assert_eq!(judge(&graph(), &ban("a")), Ok(vec![]));
        assert_eq!(judge(&graph(), &ban("c")).map(|found| found.len()), Ok(1));
    }

    #[test]
    fn a_ban_of_a_single_version_is_refused_rather_than_ignored() {
        assert!(judge(&graph(), "{ crate = 'b@1.2.3', reason = 'r' }").is_err());
    }

    #[test]
    fn two_versions_of_one_crate_are_found() {
        let mut graph = graph();
        let mut second = graph["packages"][1].clone();
        second["id"] = "b2".into();
        second["version"] = "2.5.0".into();
        graph["packages"]
            .as_array_mut()
            .expect("an array")
            .push(second);
        assert_eq!(judged(&graph), ["b is there in 2 versions: 1.2.3, 2.5.0"]);
    }

    #[test]
    fn a_wildcard_is_found_unless_it_is_a_path() {
        let mut graph = graph();
        graph["packages"][0]["dependencies"][0]["req"] = "*".into();
        assert_eq!(judged(&graph), ["a 0.1.0 takes any version of b"]);
        graph["packages"][0]["dependencies"][0]["path"] = "../b".into();
        assert_eq!(judged(&graph), [""; 0]);
    }

    #[test]
    fn a_refused_version_is_found_and_its_repair_is_not() {
        let mut graph = graph();
        for (version, count) in [("1.9.9", 0), ("2.0.0", 1), ("2.4.0", 1), ("2.4.1", 0)] {
            graph["packages"][1]["version"] = version.into();
            assert_eq!(judged(&graph).len(), count, "{version}");
        }
    }
}
