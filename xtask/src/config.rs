//! The configuration in `ci/`, as types.
//!
//! Every type refuses unknown keys: a misspelt setting is an error, not a check that silently does
//! nothing.

use std::fs;
use std::num::NonZeroU64;
use std::path::Path;
use std::time::Duration;

use semver::VersionReq;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::Result;

/// Everything under `ci/` that xtask itself reads.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) ci: Ci,
    pub(crate) targets: Targets,
    pub(crate) deny: Deny,
    pub(crate) advisories: Advisories,
    pub(crate) firmware: Firmware,
    pub(crate) mutants: Mutants,
}

impl Config {
    /// Reads the six files under `root/ci`.
    ///
    /// # Errors
    /// A file cannot be read, or does not have the expected form; the message names it.
    pub(crate) fn read(root: &Path) -> Result<Self> {
        Ok(Self {
            ci: read(root, "ci/ci.toml")?,
            targets: read(root, "ci/targets.toml")?,
            deny: read(root, "ci/deny.toml")?,
            advisories: read(root, "ci/advisories.toml")?,
            firmware: read(root, "ci/firmware.toml")?,
            mutants: read(root, "ci/mutants.toml")?,
        })
    }
}

fn read<T: DeserializeOwned>(root: &Path, name: &str) -> Result<T> {
    let text = fs::read_to_string(root.join(name)).map_err(|error| format!("{name}: {error}"))?;
    toml::from_str(&text).map_err(|error| format!("{name}: {error}"))
}

/// `ci/ci.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ci {
    pub(crate) commands: Commands,
    pub(crate) clippy: FeatureSets,
    pub(crate) tests: Tests,
    pub(crate) loom: Loom,
    pub(crate) demo: Demo,
    pub(crate) scenarios: Scenarios,
    pub(crate) fuzz: Fuzz,
    pub(crate) miri: Miri,
    pub(crate) coverage: Coverage,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Commands {
    limit_minutes: u64,
}

impl Commands {
    pub(crate) fn limit(&self) -> Duration {
        Duration::from_secs(self.limit_minutes.saturating_mul(60))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct FeatureSets {
    pub(crate) feature_sets: Vec<FeatureSet>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Tests {
    pub(crate) feature_sets: Vec<FeatureSet>,
    /// The profile that tests are built with when they go all the way.
    pub(crate) long_profile: String,
    long_minutes: u64,
}

impl Tests {
    /// What tests that go all the way may take more than others.
    pub(crate) fn long(&self) -> Duration {
        Duration::from_secs(self.long_minutes.saturating_mul(60))
    }
}

/// Which of a package's features are on.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum FeatureSet {
    None,
    Default,
    All,
}

impl FeatureSet {
    /// Returns what cargo is told to select this set.
    pub(crate) fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::None => &["--no-default-features"],
            Self::Default => &[],
            Self::All => &["--all-features"],
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Loom {
    pub(crate) package: String,
    pub(crate) test: String,
    pub(crate) profile: String,
    pub(crate) max_preemptions: u32,
    pub(crate) long_max_preemptions: u32,
    long_minutes: u64,
}

impl Loom {
    /// What the models may take more than other commands, with so many preemptions.
    pub(crate) fn lasting(&self, preemptions: u32) -> Duration {
        let long = preemptions > self.max_preemptions;
        Duration::from_secs(if long {
            self.long_minutes.saturating_mul(60)
        } else {
            0
        })
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fuzz {
    pub(crate) seconds: u32,
    pub(crate) targets: Vec<FuzzTarget>,
}

/// A fuzz target: a program in a package of its own, which needs another compiler.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct FuzzTarget {
    pub(crate) name: String,
    pub(crate) directory: String,
    /// The longest input that the target reads.
    pub(crate) longest_input: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Miri {
    pub(crate) runs: Vec<MiriRun>,
}

/// Tests of one package, to be interpreted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MiriRun {
    pub(crate) package: String,
    /// Which of its test programs: arguments of `cargo test`.
    pub(crate) targets: Vec<String>,
    /// Parts of the names of tests that are run; all where there is none.
    #[serde(default)]
    pub(crate) tests: Vec<String>,
    /// Parts of the names of tests that are not.
    #[serde(default)]
    pub(crate) skipped: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Coverage {
    pub(crate) packages: Vec<String>,
}

/// `ci/mutants.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Mutants {
    pub(crate) packages: Vec<String>,
    pub(crate) witness: String,
    pub(crate) least_timeout_seconds: u32,
    limit_minutes: u64,
    /// How many long runs of CI it takes to make every change once.
    pub(crate) parts: NonZeroU64,
    #[serde(default)]
    skipped: Vec<Skipped>,
    #[serde(default)]
    accepted: Vec<Accepted>,
}

impl Mutants {
    /// How long a whole run may take.
    pub(crate) fn limit(&self) -> Duration {
        Duration::from_secs(self.limit_minutes.saturating_mul(60))
    }

    /// Returns regular expressions for changes that are not made.
    pub(crate) fn skipped(&self) -> impl Iterator<Item = &str> {
        self.skipped.iter().map(|skipped| skipped.pattern.as_str())
    }

    /// Returns the changes that no test has to notice.
    pub(crate) fn accepted(&self) -> impl Iterator<Item = &str> {
        let accepted = self.accepted.iter();
        accepted.flat_map(|group| group.mutants.iter().map(String::as_str))
    }
}

/// Changes that are not made, and why.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Skipped {
    pattern: String,
    #[expect(dead_code, reason = "for whoever reads the file, who is to find one")]
    reason: String,
}

/// Changes that no test can notice, and why.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Accepted {
    mutants: Vec<String>,
    #[expect(dead_code, reason = "for whoever reads the file, who is to find one")]
    reason: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Demo {
    pub(crate) package: String,
    arguments: Vec<String>,
    pub(crate) asics: Vec<String>,
    pub(crate) unknown_asic: String,
}

impl Demo {
    /// Returns the program's arguments with `asic` in its place.
    pub(crate) fn arguments<'a>(&'a self, asic: &'a str) -> impl Iterator<Item = String> + 'a {
        self.arguments
            .iter()
            .map(move |argument| argument.replace("{asic}", asic))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Scenarios {
    pub(crate) package: String,
    pub(crate) arguments: Vec<String>,
    pub(crate) files: String,
    pub(crate) failing_file: String,
    pub(crate) random: Vec<String>,
}

/// `ci/targets.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Targets {
    pub(crate) packages: Vec<String>,
    pub(crate) feature_sets: Vec<FeatureSet>,
    pub(crate) debian: Debian,
    targets: Vec<Target>,
}

impl Targets {
    /// Returns the targets of a run, in the order of the file.
    pub(crate) fn selected(&self, long: bool) -> impl Iterator<Item = &Target> {
        self.targets
            .iter()
            .filter(move |target| long || !target.long_only)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) why: String,
    #[serde(default)]
    long_only: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Debian {
    pub(crate) packages: Vec<String>,
}

/// `ci/firmware.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Firmware {
    pub(crate) manifest: String,
    pub(crate) report: String,
    pub(crate) images_package: String,
    pub(crate) linked_package: String,
    boot_seconds: u64,
    pub(crate) pass: String,
    pub(crate) cargo_config: String,
    pub(crate) images: Vec<Image>,
    pub(crate) linked: Vec<Linked>,
}

impl Firmware {
    /// How long an image may run.
    pub(crate) fn boot_limit(&self) -> Duration {
        Duration::from_secs(self.boot_seconds)
    }
}

/// An image that is booted in an emulator.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Image {
    pub(crate) name: String,
    pub(crate) target: String,
    pub(crate) emulator: String,
    arguments: Vec<String>,
    /// The profile it is built with.
    pub(crate) profile: String,
    /// How the last message of its log begins with the planted fault.
    pub(crate) planted_fault: String,
}

impl Image {
    /// Returns the emulator's arguments with the image in its place.
    pub(crate) fn arguments<'a>(&'a self, image: &'a str) -> impl Iterator<Item = String> + 'a {
        self.arguments
            .iter()
            .map(move |argument| argument.replace("{image}", image))
    }
}

/// An image that is linked, to be measured and to show that its code cannot panic.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Linked {
    pub(crate) name: String,
    pub(crate) target: String,
    /// Bytes of code that are allowed, as `CRATE=BYTES`; `image` is all of it.
    pub(crate) limits: Vec<String>,
    /// Whether it waits for a long run.
    #[serde(default)]
    pub(crate) long_only: bool,
}

/// `ci/deny.toml`: the part of cargo-deny's format that [`crate::policy`] implements.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Deny {
    pub(crate) graph: Graph,
    pub(crate) licenses: Licenses,
    pub(crate) bans: Bans,
    pub(crate) sources: Sources,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Graph {
    pub(crate) all_features: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Licenses {
    pub(crate) allow: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Bans {
    pub(crate) multiple_versions: Level,
    pub(crate) wildcards: Level,
    pub(crate) allow_wildcard_paths: bool,
    pub(crate) deny: Vec<Ban>,
}

/// A crate that may not be depended on, except directly by `wrappers`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ban {
    #[serde(rename = "crate")]
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) wrappers: Vec<String>,
    pub(crate) reason: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Sources {
    pub(crate) unknown_registry: Level,
    pub(crate) unknown_git: Level,
    pub(crate) allow_registry: Vec<String>,
}

/// What a finding does: nothing, a note, a failure.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Level {
    Allow,
    Warn,
    Deny,
}

/// `ci/advisories.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Advisories {
    pub(crate) refused: Vec<Refused>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Refused {
    #[serde(rename = "crate")]
    pub(crate) name: String,
    pub(crate) versions: VersionReq,
    pub(crate) reason: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checked_in_configuration_is_understood_and_not_empty() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let config = Config::read(&root).expect("ci/ must parse");
        assert!(config.targets.selected(false).count() > 0);
        assert!(!config.targets.packages.is_empty());
        assert!(!config.ci.demo.asics.is_empty());
        assert!(!config.deny.licenses.allow.is_empty());
        assert!(!config.deny.sources.allow_registry.is_empty());
    }

    #[test]
    fn a_misspelt_setting_is_refused() {
        let error = toml::from_str::<Sources>(
            "unknown-registry = 'deny'\nunknown-git = 'deny'\nallow-registri = []\n",
        )
        .expect_err("the key does not exist");
        assert!(error.to_string().contains("allow-registri"), "{error}");
    }

    #[test]
    fn a_policy_setting_that_only_cargo_deny_knows_is_refused() {
        let error = toml::from_str::<Licenses>("allow = []\nexceptions = []\n")
            .expect_err("exceptions are not implemented here");
        assert!(error.to_string().contains("exceptions"), "{error}");
    }

    #[test]
    fn long_only_targets_wait_for_a_long_run() {
        let targets: Targets = toml::from_str(
            "packages = []\nfeature-sets = ['none', 'all']\ndebian.packages = []\n\
             [[targets]]\nname = 'quick'\nwhy = ''\n\
             [[targets]]\nname = 'slow'\nwhy = ''\nlong-only = true\n",
        )
        .expect("well formed");
        let names = |long| {
            targets
                .selected(long)
                .map(|target| target.name.as_str())
                .collect::<Vec<_>>()
        };
        assert_eq!(names(false), ["quick"]);
        assert_eq!(names(true), ["quick", "slow"]);
    }

    #[test]
    fn the_asic_is_put_into_every_argument_that_asks_for_it() {
        let demo: Demo = toml::from_str(
            "package = 'p'\narguments = ['demo', '--asic={asic}', '{asic}']\n\
             asics = []\nunknown-asic = 'none'\n",
        )
        .expect("well formed");
        let arguments: Vec<_> = demo.arguments("goya").collect();
        assert_eq!(arguments, ["demo", "--asic=goya", "goya"]);
    }
}
