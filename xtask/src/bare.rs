//! Compiling for targets without an operating system, with whatever this machine has.
//!
//! Two ways, in this order:
//!
//! 1. The running toolchain, when it has the target's libraries (`rustup target add`).
//! 2. Debian's packaged compiler with the source of the library, which it compiles itself.
//!    `-Zbuild-std` needs `RUSTC_BOOTSTRAP` there; the crates themselves use stable Rust, which
//!    every other stage shows.
//!
//! Either way the crates see `core` and nothing else. The second way builds nothing else. For the
//! first a directory is made that holds the target's `core` without its `alloc`: the libraries
//! that rustup installs contain both, and would let `extern crate alloc` pass.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use semver::Version;

use crate::Result;
use crate::command::Invocation;
use crate::workspace::{Session, compiler_version, rust_version};

const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_LINKER: &str = "/usr/bin/ld.lld-22";

/// Where, below a toolchain's root, the libraries of all targets and the library source lie.
const LIBRARIES: &str = "lib/rustlib";
const CORE_SOURCE: &str = "src/rust/library/core/src/lib.rs";

/// The libraries that the crates may see. `compiler_builtins` is core's own support.
const VISIBLE: &[&str] = &["libcore-", "libcompiler_builtins-"];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Toolchain {
    /// The one that runs xtask.
    Running,
    /// The one in `/usr/bin`.
    Debian,
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Running => "the running toolchain, with its core library alone",
            Self::Debian => "Debian's toolchain, with core built from source",
        })
    }
}

/// What this machine has for building for bare targets.
#[derive(Debug)]
pub(crate) struct Found {
    /// Targets for which the running toolchain has a core library.
    running: BTreeSet<String>,
    /// Debian's toolchain, or why it cannot be used.
    debian: std::result::Result<(), String>,
}

impl Found {
    /// Looks for both ways.
    ///
    /// # Errors
    /// The running compiler cannot be asked. A Debian compiler that is not there is no error.
    pub(crate) fn look(session: &Session) -> Result<Self> {
        let libraries = running_libraries(session)?;
        let targets = session.config.targets.selected(session.long);
        Ok(Self {
            running: targets
                .map(|target| &target.name)
                .filter(|name| has_core(&libraries.join(name).join("lib")))
                .cloned()
                .collect(),
            debian: look_for_debian(session),
        })
    }

    /// Decides how to build for `target`; `None` if neither way is open.
    pub(crate) fn choose(&self, target: &str) -> Option<Toolchain> {
        if self.running.contains(target) {
            Some(Toolchain::Running)
        } else if self.debian.is_ok() {
            Some(Toolchain::Debian)
        } else {
            None
        }
    }

    /// Returns those of `targets` that nothing here can build for.
    pub(crate) fn missing<'a>(&self, targets: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
        targets
            .filter(|target| self.choose(target).is_none())
            .collect()
    }

    /// Says what is missing for `targets` and what to do about it, either way.
    pub(crate) fn complaint(&self, targets: &[&str], packages: &[String]) -> String {
        let targets = targets.join(" ");
        let debian = match &self.debian {
            Ok(()) => "",
            Err(reason) => reason,
        };
        format!(
            "nothing here can compile for {targets}: the running toolchain lacks their libraries; \
             as for Debian's, {debian}.\n\
             Either `rustup target add {targets}`\n\
             or, on Debian, `apt-get install -y --no-install-recommends {}`;\n\
             `cargo xtask ci --setup` tries both in this order.",
            packages.join(" ")
        )
    }
}

/// Returns the start of a `cargo build` for `targets`, with `toolchain`.
///
/// # Errors
/// The directory with core alone cannot be made.
pub(crate) fn build(
    session: &Session,
    toolchain: Toolchain,
    targets: &[&str],
) -> Result<Invocation> {
    let directory = session.build_directory("bare");
    let cargo = match toolchain {
        Toolchain::Running => {
            let sysroot = session.root.join(&directory).join("core-only");
            provide_core_alone(&running_libraries(session)?, targets, &sysroot)?;
            session
                .cargo("build")
                .variable("RUSTFLAGS", format!("--sysroot={}", sysroot.display()))
        }
        Toolchain::Debian => session
            .command(DEBIAN_CARGO)
            .arguments(["build", "-Zbuild-std=core"])
            .variable("RUSTC", DEBIAN_RUSTC)
            .variable("RUSTC_BOOTSTRAP", "1"),
    };
    Ok(cargo
        .arguments(["--locked", "--keep-going"])
        .argument(format!("--target-dir={}", directory.display()))
        .arguments(targets.iter().map(|target| format!("--target={target}"))))
}

/// Returns the start of a `cargo build` of an image for one target. Unlike [`build`], it links, and
/// proves nothing about libraries.
pub(crate) fn build_image(session: &Session, toolchain: Toolchain, target: &str) -> Invocation {
    let cargo = match toolchain {
        Toolchain::Running => session.cargo("build"),
        Toolchain::Debian => session
            .command(DEBIAN_CARGO)
            .arguments(["build", "-Zbuild-std=core"])
            .argument(format!("--config=target.{target}.linker='{DEBIAN_LINKER}'"))
            .variable("RUSTC", DEBIAN_RUSTC)
            .variable("RUSTC_BOOTSTRAP", "1"),
    };
    cargo
        .argument("--locked")
        .argument(format!("--target={target}"))
}

fn running_libraries(session: &Session) -> Result<PathBuf> {
    let sysroot = session
        .command("rustc")
        .arguments(["--print", "sysroot"])
        .query()?;
    Ok(Path::new(sysroot.trim()).join(LIBRARIES))
}

fn has_core(libraries: &Path) -> bool {
    names(libraries).is_ok_and(|names| names.iter().any(|name| name.starts_with("libcore-")))
}

fn names(directory: &Path) -> std::io::Result<Vec<String>> {
    fs::read_dir(directory)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect()
}

/// Makes `sysroot` a toolchain root that holds, for each target, core and nothing else. Made anew
/// each time: what an earlier compiler left there could not be linked with this one's.
fn provide_core_alone(libraries: &Path, targets: &[&str], sysroot: &Path) -> Result<()> {
    let provide = || {
        if sysroot.exists() {
            fs::remove_dir_all(sysroot)?;
        }
        for target in targets {
            let from = libraries.join(target).join("lib");
            let to = sysroot.join(LIBRARIES).join(target).join("lib");
            fs::create_dir_all(&to)?;
            let visible = |name: &String| VISIBLE.iter().any(|prefix| name.starts_with(prefix));
            for name in names(&from)?.into_iter().filter(visible) {
                fs::copy(from.join(&name), to.join(&name))?;
            }
        }
        std::io::Result::Ok(())
    };
    provide().map_err(|error| format!("{}: {error}", sysroot.display()))
}

fn look_for_debian(session: &Session) -> Result<()> {
    for program in [DEBIAN_CARGO, DEBIAN_RUSTC] {
        if !Path::new(program).exists() {
            return Err(format!("there is no {program}"));
        }
    }
    let rustc = |argument: &[&str]| {
        let rustc = session.command(DEBIAN_RUSTC);
        rustc.arguments(argument.iter().copied()).query()
    };
    let oldest = session.members.iter().find_map(|package| {
        let stated = package.rust_version.as_deref()?;
        rust_version(stated)
    });
    new_enough(&compiler_version(&rustc(&["--version"])?)?, oldest.as_ref())?;
    let sysroot = rustc(&["--print", "sysroot"])?;
    let source = Path::new(sysroot.trim()).join(LIBRARIES).join(CORE_SOURCE);
    if source.exists() {
        Ok(())
    } else {
        Err(format!(
            "{DEBIAN_RUSTC} lacks the library source ({})",
            source.display()
        ))
    }
}

fn new_enough(compiler: &Version, oldest: Option<&Version>) -> Result<()> {
    match oldest {
        Some(oldest) if compiler < oldest => Err(format!(
            "{DEBIAN_RUSTC} is version {compiler}, older than the {oldest} that the manifests ask for"
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARM: &str = "thumbv7em-none-eabihf";
    const RISC_V: &str = "riscv64gc-unknown-none-elf";

    fn found(running: &[&str], debian: std::result::Result<(), &str>) -> Found {
        Found {
            running: running.iter().map(|&name| name.to_owned()).collect(),
            debian: debian.map_err(str::to_owned),
        }
    }

    #[test]
    fn the_running_toolchain_goes_first() {
        let both = found(&[ARM], Ok(()));
        assert_eq!(both.choose(ARM), Some(Toolchain::Running));
        let one = found(&[ARM], Err("absent"));
        assert_eq!(one.choose(ARM), Some(Toolchain::Running));
    }

    #[test]
    fn debian_serves_the_targets_that_the_running_toolchain_lacks() {
        let found = found(&[ARM], Ok(()));
        assert_eq!(found.choose(RISC_V), Some(Toolchain::Debian));
    }

    #[test]
    fn with_neither_nothing_is_chosen() {
        assert_eq!(found(&[ARM], Err("absent")).choose(RISC_V), None);
    }

    #[test]
    fn the_complaint_names_both_ways_the_reason_and_the_setup() {
        let packages = ["rustc-web".to_owned(), "cargo-web".to_owned()];
        let text =
            found(&[], Err("there is no /usr/bin/rustc")).complaint(&[ARM, RISC_V], &packages);
        for part in [
            "rustup target add thumbv7em-none-eabihf riscv64gc-unknown-none-elf",
            "--no-install-recommends rustc-web cargo-web",
            "there is no /usr/bin/rustc",
            "cargo xtask ci --setup",
        ] {
            assert!(text.contains(part), "{part} is not in: {text}");
        }
    }

    #[test]
    fn a_usable_debian_toolchain_leaves_nothing_missing() {
        let all = || [ARM, RISC_V].into_iter();
        assert!(found(&[], Ok(())).missing(all()).is_empty());
        assert_eq!(found(&[ARM], Err("absent")).missing(all()), [RISC_V]);
    }

    #[test]
    fn a_compiler_older_than_the_manifests_ask_for_is_not_used() {
        let version = |minor| Version::new(1, minor, 0);
        assert_eq!(new_enough(&version(96), Some(&version(95))), Ok(()));
        assert_eq!(new_enough(&version(95), Some(&version(95))), Ok(()));
        let error = new_enough(&version(85), Some(&version(95))).expect_err("too old");
        assert!(error.contains("1.85.0"), "{error}");
    }
}
