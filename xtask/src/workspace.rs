//! What is checked: the packages, as `cargo metadata` describes them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use semver::Version;
use serde::Deserialize;

use crate::Result;
use crate::command::Invocation;
use crate::config::{Config, FeatureSet};

/// Limit of the first command, before the configuration that holds the limit has been found.
const FIRST_LIMIT: Duration = Duration::from_secs(300);

/// One run of xtask: the workspace, its configuration, and how thorough to be.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) root: PathBuf,
    pub(crate) config: Config,
    /// The workspace's own packages.
    pub(crate) members: Vec<Package>,
    pub(crate) long: bool,
    pub(crate) nextest: bool,
    target_directory: PathBuf,
}

impl Session {
    /// Finds the workspace around the current directory and reads its configuration.
    ///
    /// # Errors
    /// `cargo metadata` fails (no workspace here, or a lock file that does not fit), or a file in
    /// `ci/` is missing or malformed.
    pub(crate) fn open(long: bool, nextest: bool) -> Result<Self> {
        let text = Invocation::new("cargo", Path::new("."), FIRST_LIMIT)
            .arguments(["metadata", "--locked", "--format-version=1", "--no-deps"])
            .query()?;
        let metadata = Metadata::parse(&text)?;
        Ok(Self {
            config: Config::read(&metadata.workspace_root)?,
            root: metadata.workspace_root,
            members: metadata.packages,
            long,
            nextest,
            target_directory: metadata.target_directory,
        })
    }

    /// Returns a command that runs in the workspace's root.
    pub(crate) fn command(&self, program: &str) -> Invocation {
        Invocation::new(program, &self.root, self.config.ci.commands.limit())
    }

    /// Returns a call of the cargo that runs xtask.
    pub(crate) fn cargo(&self, subcommand: &str) -> Invocation {
        self.command("cargo").argument(subcommand)
    }

    /// Returns a directory of its own for a build whose flags differ from the ordinary ones, so
    /// that neither throws the other's work away. Relative to the root where it lies inside.
    pub(crate) fn build_directory(&self, name: &str) -> PathBuf {
        let inside = self.target_directory.strip_prefix(&self.root);
        inside.unwrap_or(&self.target_directory).join(name)
    }

    /// Returns the workspace's package called `name`.
    ///
    /// # Errors
    /// There is none: the configuration names something else than the manifests.
    pub(crate) fn member(&self, name: &str) -> Result<&Package> {
        self.members
            .iter()
            .find(|package| package.name == name)
            .ok_or_else(|| format!("ci/ names the package `{name}`, which is not in the workspace"))
    }

    /// Reads the whole dependency graph: every platform, every feature.
    ///
    /// # Errors
    /// `cargo metadata` fails; without a network, because a package was never downloaded.
    pub(crate) fn graph(&self) -> Result<Metadata> {
        let arguments = ["--locked", "--format-version=1", "--all-features"];
        Metadata::parse(&self.cargo("metadata").arguments(arguments).query()?)
    }
}

/// The answer of `cargo metadata`, as far as it is used.
#[derive(Debug, Deserialize)]
pub(crate) struct Metadata {
    pub(crate) packages: Vec<Package>,
    pub(crate) workspace_members: Vec<String>,
    pub(crate) resolve: Option<Resolve>,
    workspace_root: PathBuf,
    target_directory: PathBuf,
}

impl Metadata {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        serde_json::from_str(text).map_err(|error| format!("cargo metadata: {error}"))
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct Resolve {
    pub(crate) nodes: Vec<Node>,
}

/// A package of the graph and the packages that it depends on, by identity.
#[derive(Debug, Deserialize)]
pub(crate) struct Node {
    pub(crate) id: String,
    pub(crate) dependencies: Vec<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Package {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) version: Version,
    pub(crate) license: Option<String>,
    pub(crate) source: Option<String>,
    pub(crate) rust_version: Option<String>,
    pub(crate) dependencies: Vec<Dependency>,
    features: BTreeMap<String, Vec<String>>,
    targets: Vec<Target>,
}

impl Package {
    /// Returns `wanted` without the sets that select the same features as an earlier one.
    pub(crate) fn distinct(&self, wanted: &[FeatureSet]) -> Vec<FeatureSet> {
        let mut kept: Vec<FeatureSet> = Vec::new();
        for &set in wanted {
            if !kept.iter().any(|&earlier| self.same(earlier, set)) {
                kept.push(set);
            }
        }
        kept
    }

    /// Whether two sets certainly select the same features. `default` may pull in every feature
    /// there is through others; that is not worth finding out, so it counts as different.
    fn same(&self, a: FeatureSet, b: FeatureSet) -> bool {
        let no_defaults = self.features.get("default").is_none_or(Vec::is_empty);
        let no_others = self.features.keys().all(|name| name == "default");
        let rank = |set| match set {
            FeatureSet::None => 0,
            FeatureSet::Default => u8::from(!no_defaults),
            FeatureSet::All => {
                if no_others {
                    u8::from(!no_defaults)
                } else {
                    2
                }
            }
        };
        rank(a) == rank(b)
    }

    /// Whether there is an integration test called `name`.
    pub(crate) fn has_test(&self, name: &str) -> bool {
        self.targets
            .iter()
            .any(|target| target.name == name && target.kind.iter().any(|kind| kind == "test"))
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    pub(crate) req: String,
    pub(crate) path: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

/// Reads a Rust version as manifests and compilers write it: `1.95`, `1.95.0`, `1.97.0-nightly`.
/// What follows the three numbers is dropped: a nightly of 1.97 knows what 1.97 knows.
pub(crate) fn rust_version(text: &str) -> Option<Version> {
    let numbers = text.split('-').next()?;
    let mut parts = numbers.split('.').map(str::parse);
    let major = parts.next()?.ok()?;
    let minor = parts.next()?.ok()?;
    let patch = parts.next().unwrap_or(Ok(0)).ok()?;
    parts
        .next()
        .is_none()
        .then(|| Version::new(major, minor, patch))
}

/// Reads the version from the line that `rustc --version` prints.
///
/// # Errors
/// The line is not of the known form.
pub(crate) fn compiler_version(line: &str) -> Result<Version> {
    line.split_whitespace()
        .nth(1)
        .and_then(rust_version)
        .ok_or_else(|| format!("not a version of rustc: `{}`", line.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: [FeatureSet; 3] = [FeatureSet::None, FeatureSet::Default, FeatureSet::All];

    fn package(features: &[(&str, &[&str])]) -> Package {
        let features = features
            .iter()
            .map(|(name, others)| {
                let others = others.iter().map(|&other| other.to_owned()).collect();
                ((*name).to_owned(), others)
            })
            .collect();
        Package {
            id: String::new(),
            name: String::new(),
            version: Version::new(0, 1, 0),
            license: None,
            source: None,
            rust_version: None,
            dependencies: Vec::new(),
            features,
            targets: vec![Target {
                name: "loom".to_owned(),
                kind: vec!["test".to_owned()],
            }],
        }
    }

    #[test]
    fn a_package_without_features_has_one_feature_set() {
        assert_eq!(package(&[]).distinct(&EVERY), [FeatureSet::None]);
    }

    #[test]
    fn without_defaults_no_features_and_default_features_are_one_set() {
        let package = package(&[("defmt", &["dep:defmt"])]);
        assert_eq!(
            package.distinct(&EVERY),
            [FeatureSet::None, FeatureSet::All]
        );
    }

    #[test]
    fn defaults_beside_other_features_make_three_sets() {
        let package = package(&[("default", &["std"]), ("std", &[]), ("defmt", &[])]);
        assert_eq!(package.distinct(&EVERY), EVERY);
    }

    #[test]
    fn only_a_test_target_counts_as_a_test() {
        let mut package = package(&[]);
        assert!(package.has_test("loom"));
        assert!(!package.has_test("other"));
        package.targets = vec![Target {
            name: "loom".to_owned(),
            kind: vec!["bench".to_owned()],
        }];
        assert!(!package.has_test("loom"));
    }

    #[test]
    fn a_missing_patch_number_is_zero() {
        assert_eq!(rust_version("1.95"), rust_version("1.95.0"));
        assert!(rust_version("1.95") < rust_version("1.95.1"));
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(rust_version("1.9") < rust_version("1.95"));
        assert!(rust_version("1.100") > rust_version("1.95"));
    }

    #[test]
    fn a_nightly_counts_as_its_release() {
        assert_eq!(rust_version("1.97.0-nightly"), rust_version("1.97"));
    }

    #[test]
    fn what_is_no_version_is_not_read_as_one() {
        for text in ["", "1", "1.", "1.x", "1.95.0.1", "stable"] {
            assert_eq!(rust_version(text), None, "{text}");
        }
    }

    #[test]
    fn the_compiler_tells_its_version_in_the_second_word() {
        assert_eq!(
            compiler_version("rustc 1.96.0 (ac68faa20 2026-05-25) (built from a source tarball)\n"),
            Ok(Version::new(1, 96, 0))
        );
        assert!(compiler_version("rustc\n").is_err());
    }
}
