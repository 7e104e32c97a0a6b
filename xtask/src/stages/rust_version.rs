//! The minimum Rust version: stated once, the same everywhere, and as true as this machine can
//! tell.

use std::fs;
use std::io::ErrorKind;

use semver::Version;

use super::lints::clippy_for;
use crate::Result;
use crate::ci::Report;
use crate::workspace::{Package, Session, compiler_version, rust_version};

pub(super) fn check(session: &Session, report: &mut Report) {
    let Some(minimum) = report.take(stated_by_all(&session.members)) else {
        return;
    };
    println!("the manifests ask for Rust {minimum}");
    report.take(check_readme(session, &minimum));
    report.take(check_dependencies(session, &minimum));
    report.take(check_compiler(session, &minimum));

    println!("clippy::incompatible_msrv, an error for uses of std that {minimum} does not have:");
    for package in &session.members {
        for set in package.distinct(&session.config.ci.clippy.feature_sets) {
            // Warnings are the clippy stage's business: here they would hide this one lint.
            let lint = ["--", "-A", "warnings", "-D", "clippy::incompatible_msrv"];
            report.run(&clippy_for(session, &package.name, set).arguments(lint));
        }
    }
}

/// Returns the version that every package states.
fn stated_by_all(packages: &[Package]) -> Result<Version> {
    let mut first: Option<(&str, Version)> = None;
    for package in packages {
        let name = &package.name;
        let stated = package
            .rust_version
            .as_deref()
            .and_then(rust_version)
            .ok_or_else(|| format!("{name} states no rust-version"))?;
        match &first {
            Some((other, version)) if *version != stated => {
                return Err(format!(
                    "{name} states rust-version {stated}, {other} states {version}"
                ));
            }
            Some(_) => {}
            None => first = Some((name, stated)),
        }
    }
    first
        .map(|(_, version)| version)
        .ok_or_else(|| "there are no packages".to_owned())
}

fn check_readme(session: &Session, minimum: &Version) -> Result<()> {
    match fs::read_to_string(session.root.join("README.md")) {
        Ok(text) => {
            readme_agrees(&text, minimum)?;
            println!("README.md states the same");
            Ok(())
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            println!("there is no README.md to compare with");
            Ok(())
        }
        Err(error) => Err(format!("README.md: {error}")),
    }
}

/// Whether the README's line on the minimum version, recognised by the words "minimum" and
/// "Rust", holds the version `minimum`.
fn readme_agrees(text: &str, minimum: &Version) -> Result<()> {
    let line = text
        .lines()
        .find(|line| {
            let line = line.to_lowercase();
            line.contains("minimum") && line.contains("rust") && line.contains(char::is_numeric)
        })
        .ok_or_else(|| {
            format!("README.md has no line with the words `minimum` and `Rust` and the version {minimum}")
        })?;
    let agrees = line
        .split(|c: char| !c.is_ascii_digit() && c != '.')
        .filter_map(|word| rust_version(word.trim_matches('.')))
        .any(|version| version == *minimum);
    if agrees {
        Ok(())
    } else {
        Err(format!(
            "the manifests ask for Rust {minimum}, README.md says: {}",
            line.trim()
        ))
    }
}

/// Cargo checks this for the running compiler only, which may be newer.
fn check_dependencies(session: &Session, minimum: &Version) -> Result<()> {
    let graph = session.graph()?;
    let newer: Vec<String> = graph
        .packages
        .iter()
        .filter(|package| needs_more_than(package, minimum))
        .map(|package| format!("{} {}", package.name, package.version))
        .collect();
    if newer.is_empty() {
        println!("no dependency states a later one");
        Ok(())
    } else {
        Err(format!(
            "dependencies that state a later Rust than {minimum}: {}",
            newer.join(", ")
        ))
    }
}

fn needs_more_than(package: &Package, minimum: &Version) -> bool {
    let stated = package.rust_version.as_deref().and_then(rust_version);
    stated.is_some_and(|stated| stated > *minimum)
}

fn check_compiler(session: &Session, minimum: &Version) -> Result<()> {
    let compiler = compiler_version(&session.command("rustc").argument("--version").query()?)?;
    if compiler < *minimum {
        return Err(format!(
            "the compiler is {compiler}, older than {minimum}: what the manifests ask for is untested"
        ));
    }
    if (compiler.major, compiler.minor) == (minimum.major, minimum.minor) {
        println!("the compiler is {compiler}: this run as a whole shows that {minimum} is enough");
    } else {
        println!(
            "the compiler is {compiler}: nothing in this run was compiled by {minimum}; only the \
             lint below looks. For the real check: `cargo +{minimum} xtask ci`"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Metadata;

    fn packages(versions: &[&str]) -> Vec<Package> {
        let packages: Vec<String> = versions
            .iter()
            .enumerate()
            .map(|(index, version)| {
                format!(
                    r#"{{"id":"{index}","name":"p{index}","version":"0.1.0","rust_version":{version},
                        "dependencies":[],"features":{{}},"targets":[]}}"#
                )
            })
            .collect();
        let text = format!(
            r#"{{"packages":[{}],"workspace_members":[],"workspace_root":"","target_directory":""}}"#,
            packages.join(",")
        );
        Metadata::parse(&text).expect("well formed").packages
    }

    const MINIMUM: Version = Version::new(1, 95, 0);

    #[test]
    fn two_spellings_of_one_version_agree() {
        let packages = packages(&[r#""1.95""#, r#""1.95.0""#]);
        assert_eq!(stated_by_all(&packages), Ok(MINIMUM));
    }

    #[test]
    fn a_manifest_that_differs_or_is_silent_is_named() {
        let error = stated_by_all(&packages(&[r#""1.95""#, r#""1.94""#])).expect_err("they differ");
        assert!(error.contains("p1 states rust-version 1.94.0"), "{error}");
        let error = stated_by_all(&packages(&[r#""1.95""#, "null"])).expect_err("one is silent");
        assert_eq!(error, "p1 states no rust-version");
    }

    #[test]
    fn a_dependency_may_ask_for_the_minimum_but_not_for_more() {
        let packages = packages(&[r#""1.95""#, r#""1.96""#, "null"]);
        let needs: Vec<bool> = packages
            .iter()
            .map(|package| needs_more_than(package, &MINIMUM))
            .collect();
        assert_eq!(needs, [false, true, false]);
    }

    #[test]
    fn the_readme_must_state_the_version_of_the_manifests() {
        for good in [
            "# A\n\nMinimum supported Rust version: 1.95.\n",
            "The minimum is Rust 1.95.0 (edition 2024).\n",
        ] {
            assert_eq!(readme_agrees(good, &MINIMUM), Ok(()), "{good}");
        }
        for bad in [
            "Minimum supported Rust version: 1.9\n",
            "Minimum supported Rust version: 1.955\n",
            "Rust 1.95\n",
            "",
        ] {
            assert!(readme_agrees(bad, &MINIMUM).is_err(), "{bad}");
        }
    }
}
