//! What the stages need from the machine: whether it is there, and how to get it.

use std::path::Path;

use crate::Result;
use crate::bare::Found;
use crate::command::Invocation;
use crate::workspace::Session;

/// Something a stage cannot do without.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// A subcommand of cargo, and the command line that installs it.
    Subcommand {
        name: &'static str,
        installer: &'static [&'static str],
    },
    /// A subcommand of the nightly toolchain's cargo, and the command line that installs it.
    NightlySubcommand {
        name: &'static str,
        installer: &'static [&'static str],
    },
    /// A way to compile for every target of `ci/targets.toml`.
    BareTargets,
    /// The tools of the compiler's own LLVM, or others that the environment names.
    LlvmTools,
    /// A program in PATH, and the package that has it.
    Program {
        name: &'static str,
        package: &'static str,
    },
}

pub(crate) const RUSTFMT: Need = Need::Subcommand {
    name: "fmt",
    installer: &["rustup", "component", "add", "rustfmt"],
};

pub(crate) const CLIPPY: Need = Need::Subcommand {
    name: "clippy",
    installer: &["rustup", "component", "add", "clippy"],
};

pub(crate) const CARGO_DENY: Need = Need::Subcommand {
    name: "deny",
    installer: &["cargo", "install", "--locked", "cargo-deny"],
};

pub(crate) const CARGO_LLVM_COV: Need = Need::Subcommand {
    name: "llvm-cov",
    installer: &["cargo", "install", "--locked", "cargo-llvm-cov"],
};

pub(crate) const CARGO_MUTANTS: Need = Need::Subcommand {
    name: "mutants",
    installer: &["cargo", "install", "--locked", "cargo-mutants"],
};

pub(crate) const CARGO_NEXTEST: Need = Need::Subcommand {
    name: "nextest",
    installer: &["cargo", "install", "--locked", "cargo-nextest"],
};

/// Miri compiles the standard library itself.
pub(crate) const MIRI: Need = Need::NightlySubcommand {
    name: "miri",
    installer: &[
        "rustup",
        "toolchain",
        "install",
        "nightly",
        "--profile=minimal",
        "--component=miri,rust-src",
    ],
};

/// The rustup component with LLVM's tools, and the command line that installs it.
const LLVM_TOOLS: &[&str] = &["rustup", "component", "add", "llvm-tools"];

pub(crate) const QEMU_ARM: Need = Need::Program {
    name: "qemu-system-arm",
    package: "qemu-system-arm",
};

pub(crate) const QEMU_RISCV: Need = Need::Program {
    name: "qemu-system-riscv64",
    package: "qemu-system-misc",
};

impl Need {
    /// Says what is missing and how to get it; `None` if nothing is.
    ///
    /// # Errors
    /// The machine could not be looked at.
    pub(crate) fn missing(&self, session: &Session) -> Result<Option<String>> {
        match self {
            Self::Subcommand { name, installer } => {
                let there = session.cargo(name).argument("--version").query();
                Ok(there.err().map(|_| {
                    format!(
                        "`cargo {name}` is missing: `{}`, or add --setup to this call",
                        installer.join(" ")
                    )
                }))
            }
            Self::NightlySubcommand { name, installer } => {
                let there = nightly(session, "cargo").arguments([name, "--version"]);
                Ok(there.query().err().map(|_| {
                    format!(
                        "`cargo +nightly {name}` is missing: `{}`, or add --setup to this call",
                        installer.join(" ")
                    )
                }))
            }
            Self::Program { name, package } => {
                let there = session.command(name).argument("--version").query();
                Ok(there.err().map(|_| {
                    format!(
                        "`{name}` is missing: on Debian `{}`, or add --setup to `cargo xtask ci`",
                        apt_install(session, &[package]).line()
                    )
                }))
            }
            Self::LlvmTools => {
                if std::env::var_os("LLVM_COV").is_some()
                    && std::env::var_os("LLVM_PROFDATA").is_some()
                {
                    return Ok(None);
                }
                let library = session
                    .command("rustc")
                    .arguments(["--print", "target-libdir"])
                    .query()?;
                let tool = Path::new(library.trim()).with_file_name("bin/llvm-profdata");
                Ok((!tool.exists()).then(|| {
                    format!(
                        "the compiler's LLVM tools are missing: `{}`, or add --setup to this call; \
                         without rustup, set LLVM_COV and LLVM_PROFDATA to those of the LLVM that \
                         `rustc -vV` names",
                        LLVM_TOOLS.join(" ")
                    )
                }))
            }
            Self::BareTargets => {
                let found = Found::look(session)?;
                let targets = &session.config.targets;
                let missing = found.missing(wanted(session));
                Ok((!missing.is_empty())
                    .then(|| found.complaint(&missing, &targets.debian.packages)))
            }
        }
    }

    /// Installs what is missing.
    ///
    /// # Errors
    /// It could not be installed; the message says what failed.
    pub(crate) fn install(&self, session: &Session) -> Result<()> {
        match self {
            Self::Subcommand { installer, .. } | Self::NightlySubcommand { installer, .. } => {
                run(session, installer)
            }
            Self::LlvmTools => run(session, LLVM_TOOLS),
            Self::BareTargets => install_bare_targets(session),
            Self::Program { package, .. } => install_packages(session, &[package]),
        }
    }
}

/// A program of the nightly toolchain, whichever runs xtask.
pub(crate) fn nightly(session: &Session, program: &str) -> Invocation {
    let rustup = session.command("rustup");
    rustup.arguments(["run", "nightly", program])
}

fn run(session: &Session, installer: &[&str]) -> Result<()> {
    let [program, arguments @ ..] = installer else {
        return Ok(());
    };
    let arguments = arguments.iter().copied();
    session.command(program).arguments(arguments).run()
}

/// Installs every need of a run that is not met. A need that several stages share is looked at
/// once. Goes on after a failure; returns all of them.
pub(crate) fn install_missing<'a>(
    session: &Session,
    needs: impl Iterator<Item = &'a Need>,
) -> Vec<String> {
    let mut done: Vec<&Need> = Vec::new();
    let mut failures = Vec::new();
    for need in needs {
        if done.contains(&need) {
            continue;
        }
        done.push(need);
        let outcome = need.missing(session).and_then(|missing| match missing {
            Some(what) => {
                println!("{what}");
                need.install(session)
            }
            None => Ok(()),
        });
        failures.extend(outcome.err());
    }
    if failures.is_empty() {
        println!("everything that the stages need is here");
    }
    failures
}

/// rustup first, since it is quick and changes nothing but its own toolchain; Debian's packages
/// where rustup is absent or cannot reach its server.
fn install_bare_targets(session: &Session) -> Result<()> {
    let missing = Found::look(session)?.missing(wanted(session));
    let rustup = session
        .command("rustup")
        .arguments(["target", "add"])
        .arguments(missing.iter().copied());
    if let Err(error) = rustup.run() {
        println!("{error}; now Debian's packages");
    }
    if Found::look(session)?.missing(wanted(session)).is_empty() {
        return Ok(());
    }

    install_packages(session, &session.config.targets.debian.packages)
}

fn apt(session: &Session, subcommand: &str) -> Invocation {
    session
        .command("apt-get")
        .argument(subcommand)
        .variable("DEBIAN_FRONTEND", "noninteractive")
}

fn apt_install<P: AsRef<str>>(session: &Session, packages: &[P]) -> Invocation {
    apt(session, "install")
        .arguments(["-y", "--no-install-recommends"])
        .arguments(packages.iter().map(AsRef::as_ref))
}

fn install_packages<P: AsRef<str>>(session: &Session, packages: &[P]) -> Result<()> {
    let install = apt_install(session, packages);
    if session.command("id").argument("-u").query()?.trim() != "0" {
        return Err(format!("run as root: `{}`", install.line()));
    }
    apt(session, "update").run()?;
    install.run()
}

fn wanted(session: &Session) -> impl Iterator<Item = &str> {
    let targets = session.config.targets.selected(session.long);
    targets.map(|target| target.name.as_str())
}
