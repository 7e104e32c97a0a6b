//! `cargo xtask mutants`: changes the libraries in thousands of small ways, one at a time, and
//! demands that a test fails for each.
//!
//! The tests of the same crate are asked first. What they do not notice is put to those of the
//! package that uses both libraries, which take minutes for each change.
//!
//! A change that no test notices is either a test that is missing or a change that means nothing.
//! Those of the second kind are in `ci/mutants.toml`, each with the reason; any other is a failure,
//! and so is an entry there that tests of the same crate have come to notice.

use std::collections::BTreeSet;
use std::fs;
use std::num::NonZeroU64;
use std::path::Path;
use std::time::SystemTime;

use clap::Args;

use crate::Result;
use crate::ci::Report;
use crate::config::Mutants;
use crate::setup::{CARGO_MUTANTS, CARGO_NEXTEST, install_missing};
use crate::workspace::Session;

/// Arguments of `cargo xtask mutants`.
///
/// Each change costs an incremental build of the crate's tests and the tests up to the first that
/// fails. For mmu-core a build takes 18 s of one processor, and tests of which none fails take 32 s;
/// hl-mem takes less. There are 4200 changes, a fifth of which do not compile: all of it takes more
/// than a day of one processor. Use --file for what was changed, and --shard to divide the rest among
/// machines or nights. `cargo xtask ci --long` does the part of the day.
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub(crate) struct Options {
    /// Installs what is missing on this machine first
    #[arg(long)]
    setup: bool,
    /// Changes this file alone; may be repeated
    #[arg(short, long = "file", value_name = "PATH")]
    files: Vec<String>,
    /// Does one of several parts of the work, such as 0/8
    #[arg(long, value_name = "PART/PARTS")]
    shard: Option<String>,
    /// Tests so many changes at a time
    #[arg(short, long, value_name = "NUMBER", default_value_t = 1)]
    jobs: u32,
}

/// Runs the changes that `options` select.
///
/// # Errors
/// cargo-mutants is missing, the tests fail without any change, or a change was not noticed.
pub(crate) fn run(options: &Options) -> Result<()> {
    let session = Session::open(false, false)?;
    if options.setup {
        install_missing(&session, [CARGO_MUTANTS, CARGO_NEXTEST].iter());
    }
    for need in [CARGO_MUTANTS, CARGO_NEXTEST] {
        if let Some(missing) = need.missing(&session)? {
            return Err(missing);
        }
    }
    mutate(&session, options)
}

/// The stage of CI: one part, another one each day, so that a run of every night does all of them.
pub(crate) fn stage(session: &Session, report: &mut Report) {
    let shard = part_of(SystemTime::now(), session.config.mutants.parts);
    println!("today's part: cargo xtask mutants --shard {shard}");
    let part = Options {
        setup: false,
        files: Vec::new(),
        shard: Some(shard),
        jobs: 1,
    };
    report.take(mutate(session, &part));
}

/// The part of the work that is done on the day of `now`, in Greenwich.
fn part_of(now: SystemTime, parts: NonZeroU64) -> String {
    let since = now.duration_since(SystemTime::UNIX_EPOCH);
    let day = since.map_or(0, |since| since.as_secs() / (24 * 60 * 60));
    format!("{}/{parts}", day % parts)
}

fn mutate(session: &Session, options: &Options) -> Result<()> {
    let settings = &session.config.mutants;
    for package in settings.packages.iter().chain([&settings.witness]) {
        session.member(package)?;
    }
    let directory = session.build_directory("mutants");
    let own = selection(settings, options);
    let mut found = make(session, &directory.join("own"), own)?;
    let open = found.open(settings);
    if !open.is_empty() {
        let witness = &settings.witness;
        println!("\n{} changes are put to the tests of {witness}", open.len());
        let again = packages(settings)
            .chain([format!("--test-package={witness}")])
            .chain(open.iter().map(|line| format!("--re=^{}$", literal(line))))
            .collect();
        found.ask(&make(session, &directory.join("witness"), again)?);
    }
    let whole = options.files.is_empty() && options.shard.is_none();
    found.judge(settings, whole)
}

fn packages(settings: &Mutants) -> impl Iterator<Item = String> {
    let names = settings.packages.iter();
    names.map(|name| format!("--package={name}"))
}

/// The arguments that say which changes are made, for tests of the same crate.
fn selection(settings: &Mutants, options: &Options) -> Vec<String> {
    packages(settings)
        .chain([format!("--jobs={}", options.jobs)])
        .chain(options.files.iter().map(|file| format!("--file={file}")))
        // Of each file some, since those of mmu-core take longer.
        .chain(options.shard.iter().flat_map(|shard| {
            [
                "--sharding=round-robin".to_owned(),
                format!("--shard={shard}"),
            ]
        }))
        .collect()
}

/// Makes the changes of a selection, with what there is to tell of each in `directory`.
fn make(session: &Session, directory: &Path, selection: Vec<String>) -> Result<Found> {
    let settings = &session.config.mutants;
    let absolute = session.root.join(directory);
    fs::create_dir_all(&absolute).map_err(|error| format!("{}: {error}", absolute.display()))?;
    let status = session
        .cargo("mutants")
        .lasting(settings.limit())
        // With this profile it stops at the first test that fails, while cargo's own harness runs all
        // of a program.
        .argument("--test-tool=nextest")
        .variable("NEXTEST_PROFILE", "mutants")
        .argument(format!("--output={}", directory.display()))
        .arguments(selection)
        .argument(format!(
            "--minimum-test-timeout={}",
            settings.least_timeout_seconds
        ))
        .arguments(["--no-shuffle", "--colors=never"])
        .arguments(
            settings
                .skipped()
                .map(|pattern| format!("--exclude-re={pattern}")),
        )
        // Nobody debugs these programs, and a failing input need not be the smallest.
        .variable("CARGO_PROFILE_DEV_DEBUG", "none")
        .variable("CARGO_PROFILE_TEST_DEBUG", "none")
        .variable("PROPTEST_MAX_SHRINK_ITERS", "0")
        // Unit and integration tests; examples in the documentation are compiled one by one.
        .arguments(["--", "--lib", "--tests"])
        .run_for_status()?;
    // Those of a run that was completed: all noticed, some not, some without end.
    if !matches!(status, 0 | 2 | 3) {
        return Err(format!("cargo-mutants gave up with status {status}"));
    }
    let list = |name: &str| {
        let path = absolute.join("mutants.out").join(name);
        let text = fs::read_to_string(&path);
        text.map_err(|error| format!("{}: {error}", path.display()))
    };
    Ok(Found {
        caught: list("caught.txt")?,
        missed: list("missed.txt")?,
        timed_out: list("timeout.txt")?,
        unviable: list("unviable.txt")?,
    })
}

/// The regular expression that nothing but `text` matches.
fn literal(text: &str) -> String {
    let escaped = |c: char| match c {
        '\\' | '.' | '+' | '*' | '?' | '(' | ')' | '|' | '[' | ']' | '{' | '}' | '^' | '$' => {
            ['\\', c].iter().collect::<String>()
        }
        _ => c.to_string(),
    };
    text.chars().map(escaped).collect()
}

/// The lists that cargo-mutants leaves, a change on each line.
#[derive(Debug)]
struct Found {
    caught: String,
    missed: String,
    timed_out: String,
    unviable: String,
}

impl Found {
    /// What nobody noticed and nobody has accepted.
    fn open(&self, settings: &Mutants) -> Vec<&str> {
        let accepted: BTreeSet<&str> = settings.accepted().collect();
        let lines = self.missed.lines();
        lines
            .filter(|line| !accepted.contains(without_place(line).as_str()))
            .collect()
    }

    /// Takes in what other tests said of changes that were not noticed.
    fn ask(&mut self, others: &Self) {
        let noticed = |line: &&str| {
            let mut lines = others.caught.lines().chain(others.timed_out.lines());
            lines.any(|other| other == *line)
        };
        let (noticed, missed): (Vec<_>, Vec<_>) = self.missed.lines().partition(noticed);
        for line in noticed {
            self.caught.push_str(line);
            self.caught.push('\n');
        }
        self.missed = missed.join("\n");
    }

    /// Prints the sums, and what nobody noticed and nobody has accepted.
    ///
    /// # Errors
    /// There is such a change; or, of a `whole` run, an accepted one that is noticed or gone.
    fn judge(&self, settings: &Mutants, whole: bool) -> Result<()> {
        let missed: Vec<String> = self.missed.lines().map(without_place).collect();
        let open = self.open(settings);
        println!(
            "\n{} changes noticed ({} of them by a test without end), {} not noticed ({} of them \
             accepted), {} that do not compile",
            self.caught.lines().count() + self.timed_out.lines().count(),
            self.timed_out.lines().count(),
            missed.len(),
            missed.len() - open.len(),
            self.unviable.lines().count()
        );
        if !open.is_empty() {
            return Err(format!(
                "no test notices these changes:\n{}",
                open.join("\n")
            ));
        }
        let stale: Vec<&str> = settings
            .accepted()
            .filter(|name| whole && !missed.iter().any(|missed| missed == name))
            .collect();
        if !stale.is_empty() {
            return Err(format!(
                "ci/mutants.toml accepts what is noticed or gone:\n{}",
                stale.join("\n")
            ));
        }
        Ok(())
    }
}

/// A change as cargo-mutants writes it, `FILE:LINE:COLUMN: CHANGE`, without line and column, which
/// other changes of the file move.
fn without_place(line: &str) -> String {
    let Some((place, change)) = line.split_once(": ") else {
        return line.to_owned();
    };
    let file = place.split(':').next().unwrap_or_default();
    format!("{file}: {change}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MISSED: &str = "a.rs:10:5: replace + with - in f";

    fn found(missed: &str) -> Found {
        Found {
            caught: "a.rs:1:1: x\n".to_owned(),
            missed: missed.to_owned(),
            timed_out: String::new(),
            unviable: String::new(),
        }
    }

    fn settings(accepted: &str) -> Mutants {
        let text = format!(
            "packages = []\nwitness = \"\"\nleast-timeout-seconds = 1\nlimit-minutes = 1\nparts = 2\n\
             [[accepted]]\nmutants = [\"{accepted}\"]\nreason = \"r\"\n"
        );
        toml::from_str(&text).expect("it is in the form of ci/mutants.toml")
    }

    #[test]
    fn a_change_is_known_wherever_it_stands_in_its_file() {
        assert_eq!(without_place(MISSED), "a.rs: replace + with - in f");
    }

    #[test]
    fn a_change_that_is_neither_noticed_nor_accepted_is_an_error() {
        let error = found(MISSED).judge(&settings("a.rs: other"), false);
        assert!(error.is_err_and(|error| error.contains(MISSED)));
    }

    #[test]
    fn a_change_that_another_package_notices_is_noticed() {
        let other = "a.rs:11:5: replace + with * in f";
        let mut own = found(&format!("{MISSED}\n{other}"));
        let witness = Found {
            caught: format!("{MISSED}\n"),
            ..found(other)
        };
        own.ask(&witness);
        assert_eq!(own.missed, other);
        assert!(own.caught.lines().any(|line| line == MISSED));
        let error = own.judge(&settings("a.rs: replace"), false);
        assert!(error.is_err_and(|error| error.contains(other) && !error.contains(MISSED)));
    }

    #[test]
    fn as_many_days_as_there_are_parts_do_each_part_once() {
        let parts = NonZeroU64::new(5).expect("it is not zero");
        let noon = |day: u64| SystemTime::UNIX_EPOCH + Duration::from_secs((day * 24 + 12) * 3600);
        let done: BTreeSet<String> = (20_000..20_005)
            .map(|day| part_of(noon(day), parts))
            .collect();
        let each = ["0/5", "1/5", "2/5", "3/5", "4/5"].map(str::to_owned);
        assert_eq!(done, BTreeSet::from(each));
        let before_midnight = noon(7) + Duration::from_secs(11 * 3600);
        assert_eq!(part_of(before_midnight, parts), part_of(noon(7), parts));
    }

    #[test]
    fn a_change_is_named_to_cargo_mutants_so_that_nothing_else_is_meant() {
        assert_eq!(
            literal("a.rs:1:2: replace * with + in <impl A for [T; 2]>::f"),
            r"a\.rs:1:2: replace \* with \+ in <impl A for \[T; 2\]>::f"
        );
    }

    #[test]
    fn an_accepted_change_is_none_and_has_to_be_there_in_a_whole_run() {
        let settings = settings("a.rs: replace + with - in f");
        assert_eq!(found(MISSED).judge(&settings, true), Ok(()));
        assert_eq!(found("").judge(&settings, false), Ok(()));
        assert!(found("").judge(&settings, true).is_err());
    }
}
