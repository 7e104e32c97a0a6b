//! `cargo xtask coverage`: which lines the tests execute.
//!
//! The compiler counts (`-C instrument-coverage`, which any rustc has); `cargo-llvm-cov` runs the
//! tests and reads the counts with the tools of the compiler's own LLVM, since their format changes
//! with its version. A report and no stage of CI: an executed line is not a tested one, which is
//! what `cargo xtask mutants` asks about.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Deserialize;

use crate::Result;
use crate::setup::{CARGO_LLVM_COV, Need, install_missing};
use crate::workspace::Session;

/// What the report needs.
const NEEDS: &[Need] = &[CARGO_LLVM_COV, Need::LlvmTools];

/// How many files are named.
const FILES: usize = 15;

/// Arguments of `cargo xtask coverage`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Installs what is missing on this machine first
    #[arg(long)]
    setup: bool,
    /// Runs the tests of this package alone; may be repeated (ci/ci.toml has the default)
    #[arg(long = "package", value_name = "NAME")]
    packages: Vec<String>,
}

/// Runs the tests and prints which lines of each package they executed.
///
/// # Errors
/// Something needed is missing, or a test fails.
pub(crate) fn run(options: &Options) -> Result<()> {
    let session = Session::open(false, false)?;
    if options.setup {
        install_missing(&session, NEEDS.iter());
    }
    for need in NEEDS {
        if let Some(missing) = need.missing(&session)? {
            return Err(missing);
        }
    }
    let packages = match options.packages.as_slice() {
        [] => &session.config.ci.coverage.packages,
        chosen => chosen,
    };
    for package in packages {
        session.member(package)?;
    }
    let build = session.build_directory("coverage");
    let path = build.join("lines.json");
    session
        .cargo("llvm-cov")
        .variable("CARGO_LLVM_COV_TARGET_DIR", build.display().to_string())
        .arguments(["--locked", "--tests", "--json", "--summary-only"])
        .arguments(packages.iter().map(|name| format!("--package={name}")))
        .argument(format!("--output-path={}", path.display()))
        .run()?;
    let path = session.root.join(path);
    let text =
        std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    print!("{}", report(&session.root, &text)?);
    Ok(())
}

/// What `llvm-cov export` writes, as far as it is used.
#[derive(Debug, Deserialize)]
struct Export {
    data: Vec<Data>,
}

#[derive(Debug, Deserialize)]
struct Data {
    files: Vec<File>,
}

#[derive(Debug, Deserialize)]
struct File {
    filename: PathBuf,
    summary: Summary,
}

#[derive(Debug, Deserialize)]
struct Summary {
    lines: Lines,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
struct Lines {
    count: u64,
    covered: u64,
}

impl Lines {
    fn missing(self) -> u64 {
        self.count.saturating_sub(self.covered)
    }

    fn percent(self) -> f64 {
        if self.count == 0 {
            return 100.0;
        }
        self.covered as f64 * 100.0 / self.count as f64
    }
}

/// Returns the lines of each package, and the files with the most lines that no test executed.
///
/// # Errors
/// The text is not what `llvm-cov` writes, or is about no file of the workspace.
fn report(root: &Path, text: &str) -> Result<String> {
    let export: Export =
        serde_json::from_str(text).map_err(|error| format!("the output of llvm-cov: {error}"))?;
    let mut packages: BTreeMap<String, Lines> = BTreeMap::new();
    let mut files = Vec::new();
    for file in export.data.iter().flat_map(|data| &data.files) {
        let Ok(inside) = file.filename.strip_prefix(root) else {
            continue;
        };
        let lines = file.summary.lines;
        let package = inside.iter().next().unwrap_or_default().to_string_lossy();
        let all = packages.entry(package.into_owned()).or_default();
        all.count += lines.count;
        all.covered += lines.covered;
        files.push((lines, inside));
    }
    if packages.is_empty() {
        return Err("llvm-cov names no file of the workspace".to_owned());
    }
    let row = |lines: Lines, name: &str| {
        format!(
            "{:>6.1} %{:>8} of{:>7} lines  {name}\n",
            lines.percent(),
            lines.covered,
            lines.count
        )
    };
    let mut text = String::from("\nexecuted by tests\n");
    for (name, lines) in &packages {
        text += &row(*lines, name);
    }
    files.retain(|(lines, _)| lines.missing() > 0);
    files.sort_by_key(|(lines, name)| (u64::MAX - lines.missing(), *name));
    text += "\nmost lines that no test executes\n";
    for (lines, name) in files.iter().take(FILES) {
        text += &row(*lines, &name.display().to_string());
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_added_up_by_package_and_the_worst_file_comes_first() {
        let file = |name: &str, count, covered| {
            format!(
                r#"{{"filename":"{name}","summary":{{"lines":{{"count":{count},"covered":{covered},
                "percent":1.0}},"regions":{{"count":1}}}}}}"#
            )
        };
        let files = [
            file("/w/mmu-core/src/a.rs", 10, 10),
            file("/w/mmu-core/src/b.rs", 30, 20),
            file("/w/hl-mem/src/c.rs", 4, 1),
            file("/elsewhere/d.rs", 100, 0),
        ];
        let text = format!(
            r#"{{"data":[{{"files":[{}],"totals":{{}}}}],"type":"x"}}"#,
            files.join(",")
        );
        let report = report(Path::new("/w"), &text).expect("it is in the form of llvm-cov");
        let lines: Vec<&str> = report.lines().map(str::trim).collect();
        assert_eq!(
            lines,
            [
                "",
                "executed by tests",
                "25.0 %       1 of      4 lines  hl-mem",
                "75.0 %      30 of     40 lines  mmu-core",
                "",
                "most lines that no test executes",
                "66.7 %      20 of     30 lines  mmu-core/src/b.rs",
                "25.0 %       1 of      4 lines  hl-mem/src/c.rs",
            ]
        );
    }

    #[test]
    fn a_report_about_nothing_is_an_error() {
        assert!(report(Path::new("/w"), r#"{"data":[]}"#).is_err());
        assert!(report(Path::new("/w"), "no json").is_err());
    }
}
