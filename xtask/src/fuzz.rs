//! `cargo xtask fuzz`: the fuzz targets of ci/ci.toml, with the flags that libFuzzer needs.
//!
//! Coverage comes from the compiler's own passes, so that nothing but a nightly compiler has to be
//! installed. Inputs that find new paths are kept in `corpus` and those that fail in `artifacts`
//! beside the target's manifest, where cargo-fuzz has them too.

use std::fs;
use std::time::Duration;

use clap::Args;

use crate::Result;
use crate::ci::Report;
use crate::config::FuzzTarget;
use crate::setup::nightly;
use crate::workspace::Session;

/// Coverage of edges, counted, with the operands of comparisons; and every assertion.
const FLAGS: &str = "-Cpasses=sancov-module \
                     -Cllvm-args=-sanitizer-coverage-level=4 \
                     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
                     -Cllvm-args=-sanitizer-coverage-pc-table \
                     -Cllvm-args=-sanitizer-coverage-trace-compares \
                     --cfg fuzzing -Cdebug-assertions -Coverflow-checks";

/// Arguments of `cargo xtask fuzz`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// The targets to run; all of ci/ci.toml if there is none
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
    /// Looks for failures this long, in each target
    #[arg(long, value_name = "NUMBER", default_value_t = 60)]
    seconds: u32,
}

/// Fuzzes for as long as `options` say.
///
/// # Errors
/// There is no nightly compiler, no such target, a target does not compile, or an input made one
/// fail.
pub(crate) fn run(options: &Options) -> Result<()> {
    let session = Session::open(false, false)?;
    let targets = &session.config.ci.fuzz.targets;
    let known = |name: &String| targets.iter().any(|target| target.name == *name);
    if let Some(unknown) = options.targets.iter().find(|name| !known(name)) {
        let names: Vec<&str> = targets.iter().map(|target| target.name.as_str()).collect();
        return Err(format!(
            "there is no fuzz target `{unknown}`, but {}",
            names.join(", ")
        ));
    }
    targets
        .iter()
        .filter(|target| options.targets.is_empty() || options.targets.contains(&target.name))
        .try_for_each(|target| fuzz(&session, target, options.seconds))
}

/// The stage of CI.
pub(crate) fn stage(session: &Session, report: &mut Report) {
    let settings = &session.config.ci.fuzz;
    for target in &settings.targets {
        report.take(fuzz(session, target, settings.seconds));
    }
}

fn fuzz(session: &Session, target: &FuzzTarget, seconds: u32) -> Result<()> {
    let FuzzTarget {
        name, directory, ..
    } = target;
    let version = nightly(session, "rustc")
        .argument("-vV")
        .query()
        .map_err(|error| {
            format!(
                "fuzzing needs a nightly compiler: `rustup toolchain install nightly` ({error})"
            )
        })?;
    let host = host(&version).ok_or("`rustc -vV` does not say what it compiles for")?;
    let build = session.build_directory("fuzz");
    nightly(session, "cargo")
        .arguments(["build", "--release"])
        .variable("RUSTFLAGS", FLAGS)
        .argument(format!("--manifest-path={directory}/Cargo.toml"))
        .argument(format!("--bin={name}"))
        // Named, so that build scripts are compiled without the flags.
        .argument(format!("--target={host}"))
        .argument(format!("--target-dir={}", build.display()))
        .run()?;
    let made = |kind: &str| {
        let directory = format!("{directory}/{kind}/{name}");
        fs::create_dir_all(session.root.join(&directory))
            .map(|()| directory.clone())
            .map_err(|error| format!("{directory}: {error}"))
    };
    let (corpus, artifacts) = (made("corpus")?, made("artifacts")?);
    let program = build.join(host).join("release").join(name);
    session
        .command(&session.root.join(program).display().to_string())
        .lasting(Duration::from_secs(u64::from(seconds)))
        .argument(corpus)
        .argument(format!("-artifact_prefix={artifacts}/"))
        .argument(format!("-max_total_time={seconds}"))
        .argument(format!("-max_len={}", target.longest_input))
        .run()
}

/// The platform that a compiler runs on, from its own words.
fn host(version: &str) -> Option<&str> {
    version.lines().find_map(|line| line.strip_prefix("host: "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_found_among_the_compilers_words() {
        let words =
            "rustc 1.99.0-nightly\nbinary: rustc\nhost: x86_64-unknown-linux-gnu\nrelease: 1";
        assert_eq!(host(words), Some("x86_64-unknown-linux-gnu"));
        assert_eq!(host("rustc 1.99.0"), None);
    }
}
