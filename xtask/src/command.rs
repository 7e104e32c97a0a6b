//! Running programs: echoed so that a person can repeat them, bounded in time, with an environment
//! that belongs to the one command alone.

use std::env;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::Result;

/// Variables of the caller that would change what a stage checks. No command inherits them: a
/// stage that needs one sets it for its own commands.
pub(crate) const NOT_INHERITED: &[&str] = &[
    "CARGO_BUILD_RUSTC",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_ENCODED_RUSTDOCFLAGS",
    "CARGO_ENCODED_RUSTFLAGS",
    "HL_LONG_TESTS",
    "LOOM_MAX_PREEMPTIONS",
    "MIRIFLAGS",
    "RUSTC",
    "RUSTC_BOOTSTRAP",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTDOC",
    "RUSTDOCFLAGS",
    "RUSTFLAGS",
];

/// How often a running command is looked at.
const POLL: Duration = Duration::from_millis(20);

/// A program with its arguments and the variables set for it alone.
#[derive(Clone, Debug)]
pub(crate) struct Invocation {
    program: String,
    arguments: Vec<String>,
    variables: Vec<(&'static str, String)>,
    directory: PathBuf,
    limit: Duration,
}

impl Invocation {
    pub(crate) fn new(program: &str, directory: &Path, limit: Duration) -> Self {
        Self {
            program: program.to_owned(),
            arguments: Vec::new(),
            variables: Vec::new(),
            directory: directory.to_owned(),
            limit,
        }
    }

    /// Adds time that the command takes by intent to its limit.
    pub(crate) fn lasting(mut self, time: Duration) -> Self {
        self.limit = self.limit.saturating_add(time);
        self
    }

    pub(crate) fn argument(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    pub(crate) fn arguments<I: IntoIterator<Item: Into<String>>>(mut self, arguments: I) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    pub(crate) fn variable(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.variables.push((name, value.into()));
        self
    }

    /// Sets another limit than the one of all commands.
    pub(crate) fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Returns the line that does the same in a shell, in the workspace's root.
    pub(crate) fn line(&self) -> String {
        let mut words: Vec<String> = self
            .variables
            .iter()
            .map(|(name, value)| format!("{name}={}", quoted(value)))
            .collect();
        words.push(quoted(&self.program));
        words.extend(self.arguments.iter().map(|argument| quoted(argument)));
        words.join(" ")
    }

    /// Runs the command with its output going where xtask's goes.
    ///
    /// # Errors
    /// It cannot be started, ends with a status other than 0, or exceeds its limit.
    pub(crate) fn run(&self) -> Result<()> {
        self.echo();
        let child = self.start(Stdio::inherit())?;
        self.judge(child)
    }

    /// Runs a command whose status tells more than success, and returns that.
    ///
    /// # Errors
    /// It cannot be started, is ended by a signal, or exceeds its limit.
    pub(crate) fn run_for_status(&self) -> Result<i32> {
        self.echo();
        let status = self.end(self.start(Stdio::inherit())?)?;
        let code = status.code();
        code.ok_or_else(|| format!("`{}` failed: {status}", self.line()))
    }

    /// Runs the command, shows its standard output as it comes, and returns that output.
    ///
    /// # Errors
    /// As for [`Invocation::run`].
    pub(crate) fn run_and_read(&self) -> Result<String> {
        self.run_and_read_but(|_| false)
    }

    /// The same without showing the lines that are `hidden`.
    ///
    /// # Errors
    /// As for [`Invocation::run`].
    pub(crate) fn run_and_read_but(&self, hidden: impl Fn(&str) -> bool + Send) -> Result<String> {
        self.echo();
        self.read(move |line| {
            if !hidden(line) {
                println!("{line}");
            }
        })
    }

    /// Runs the command and returns its standard output without showing it.
    ///
    /// # Errors
    /// As for [`Invocation::run`].
    pub(crate) fn query(&self) -> Result<String> {
        self.echo();
        self.read(|_| ())
    }

    /// Runs the command with its standard output, which may be no text, going into a file.
    ///
    /// # Errors
    /// As for [`Invocation::run`], and where the file cannot be written.
    pub(crate) fn run_into(&self, path: &Path) -> Result<()> {
        println!("$ {} > {}", self.line(), quoted(&path.to_string_lossy()));
        let file = fs::File::create(self.directory.join(path))
            .map_err(|error| format!("{}: {error}", path.display()))?;
        self.judge(self.start(file.into())?)
    }

    fn echo(&self) {
        println!("$ {}", self.line());
    }

    fn start(&self, output: Stdio) -> Result<Child> {
        let mut command = Command::new(self.actual_program());
        command
            .args(&self.arguments)
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stdout(output);
        for name in NOT_INHERITED {
            command.env_remove(name);
        }
        // Set by the `cargo run` that started xtask; they describe xtask, not what is checked.
        for (name, _) in env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
                command.env_remove(&name);
            }
        }
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
            .spawn()
            .map_err(|error| format!("`{}` cannot be started: {error}", self.line()))
    }

    /// `cargo` means the very cargo that runs xtask: with `cargo +toolchain xtask`, or without
    /// rustup, the one in PATH may be another.
    fn actual_program(&self) -> String {
        if self.program == "cargo" {
            env::var("CARGO").unwrap_or_else(|_| self.program.clone())
        } else {
            self.program.clone()
        }
    }

    fn read(&self, mut show: impl FnMut(&str) + Send) -> Result<String> {
        let mut child = self.start(Stdio::piped())?;
        let pipe = child.stdout.take();
        thread::scope(|scope| {
            let reader = scope.spawn(move || {
                let mut text = String::new();
                for line in pipe
                    .into_iter()
                    .flat_map(|pipe| BufReader::new(pipe).split(b'\n'))
                {
                    let Ok(line) = line else { break };
                    let line = String::from_utf8_lossy(&line);
                    show(&line);
                    text.push_str(&line);
                    text.push('\n');
                }
                text
            });
            let judged = self.judge(child);
            let text = reader
                .join()
                .map_err(|_| format!("the output of `{}` was lost", self.line()))?;
            judged.map(|()| text)
        })
    }

    fn judge(&self, child: Child) -> Result<()> {
        let status = self.end(child)?;
        if status.success() {
            Ok(())
        } else {
            Err(format!("`{}` failed: {status}", self.line()))
        }
    }

    /// Waits for the command's end.
    fn end(&self, child: Child) -> Result<ExitStatus> {
        match wait(child, self.limit) {
            Ok(Some(status)) => Ok(status),
            Ok(None) => Err(format!(
                "`{}` was ended after {} s: it hangs, or its limit in ci/ is too low",
                self.line(),
                self.limit.as_secs()
            )),
            Err(error) => Err(format!("`{}` was lost: {error}", self.line())),
        }
    }
}

/// Waits for the child's end. `None`: the limit passed first, and it was ended.
fn wait(mut child: Child, limit: Duration) -> std::io::Result<Option<ExitStatus>> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if start.elapsed() >= limit {
            end_descendants(child.id());
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(POLL);
    }
}

/// Ends what `parent` has started, without `parent` itself. Ending cargo alone would leave
/// the hanging test behind. Where `/proc` does not tell children, nothing is done.
fn end_descendants(parent: u32) {
    let mut processes = children(parent);
    let mut index = 0;
    while let Some(&process) = processes.get(index) {
        processes.extend(children(process));
        index += 1;
    }
    if processes.is_empty() {
        return;
    }
    let ended = Command::new("kill")
        .arg("-KILL")
        .args(processes.iter().map(u32::to_string))
        .status();
    if let Err(error) = ended {
        println!("note: the processes {processes:?} could not be ended: {error}");
    }
}

fn children(process: u32) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else {
        return Vec::new();
    };
    threads
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok())
        .flat_map(|list| {
            list.split_ascii_whitespace()
                .filter_map(|number| number.parse().ok())
                .collect::<Vec<_>>()
        })
        .collect()
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+./:,@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, limit: Duration) -> Invocation {
        Invocation::new("sh", Path::new("."), limit).arguments(["-c", script])
    }

    const AMPLE: Duration = Duration::from_secs(60);

    #[test]
    fn the_echoed_line_can_be_pasted_into_a_shell() {
        let line = Invocation::new("cargo", Path::new("."), AMPLE)
            .variable("RUSTFLAGS", "--cfg loom")
            .arguments(["test", "it's", "", "--", "-D", "warnings"])
            .line();
        assert_eq!(
            line,
            r"RUSTFLAGS='--cfg loom' cargo test 'it'\''s' '' -- -D warnings"
        );
    }

    #[test]
    fn a_status_other_than_zero_is_a_failure_that_names_the_command() {
        let error = shell("exit 3", AMPLE).run().expect_err("status 3");
        assert!(error.contains("sh -c 'exit 3'"), "{error}");
        assert!(error.contains('3'), "{error}");
    }

    #[test]
    fn standard_output_is_read_to_its_end_even_without_a_last_newline() {
        let text = shell("printf 'one\\ntwo'", AMPLE)
            .query()
            .expect("status 0");
        assert_eq!(text, "one\ntwo\n");
    }

    #[test]
    fn a_command_that_hangs_is_ended_with_what_it_started() {
        // The inner sleep holds the pipe open: reading ends only if it is ended as well.
        let start = Instant::now();
        let error = shell("sleep 300 & wait", Duration::from_millis(200))
            .query()
            .expect_err("it sleeps for longer than the limit");
        assert!(error.contains("was ended"), "{error}");
        assert!(start.elapsed() < AMPLE, "the descendants were waited for");
    }

    #[test]
    fn a_variable_is_seen_by_its_own_command_alone() {
        let show = "printf '%s' \"${RUSTFLAGS-unset}\"";
        let with = shell(show, AMPLE).variable("RUSTFLAGS", "--cfg loom");
        assert_eq!(with.query().expect("status 0"), "--cfg loom\n");
        assert_eq!(shell(show, AMPLE).query().expect("status 0"), "unset\n");
    }

    #[test]
    fn a_program_that_does_not_exist_is_a_failure() {
        let missing = Invocation::new("no-such-program-anywhere", Path::new("."), AMPLE);
        let error = missing.run().expect_err("it does not exist");
        assert!(error.contains("cannot be started"), "{error}");
    }
}
