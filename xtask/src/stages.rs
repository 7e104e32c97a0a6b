//! The stages of CI, in the order in which they run: what fails fast goes first.

mod demo;
mod dependencies;
mod firmware;
mod host_tests;
mod lints;
pub(crate) mod loom;
mod miri;
mod no_std;
mod rust_version;
mod scenarios;

use crate::ci::Report;
use crate::fuzz;
use crate::mutants;
use crate::setup::{
    CARGO_DENY, CARGO_MUTANTS, CARGO_NEXTEST, CLIPPY, MIRI, Need, QEMU_ARM, QEMU_RISCV, RUSTFMT,
};
use crate::workspace::Session;

/// One check of the whole workspace.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// Whether it waits for `--long` or for its name.
    pub(crate) long_only: bool,
    pub(crate) needs: &'static [Need],
    pub(crate) run: fn(&Session, &mut Report),
}

/// What the stage called `name` needs, for commands that do the same by themselves.
pub(crate) fn needs_of(name: &str) -> impl Iterator<Item = &'static Need> {
    let stages = STAGES.iter().filter(move |stage| stage.name == name);
    stages.flat_map(|stage| stage.needs)
}

/// Every stage there is. A new one is a function and an entry here.
pub(crate) const STAGES: &[Stage] = &[
    Stage {
        name: "format",
        about: "cargo fmt leaves everything as it is",
        long_only: false,
        needs: &[RUSTFMT],
        run: lints::format,
    },
    Stage {
        name: "dependencies",
        about: "licences, bans, sources and refused versions of everything in Cargo.lock",
        long_only: false,
        needs: &[],
        run: dependencies::policy,
    },
    Stage {
        name: "clippy",
        about: "no warning in any feature set of any package, nor under cfg(loom)",
        long_only: false,
        needs: &[CLIPPY],
        run: lints::clippy,
    },
    Stage {
        name: "rust-version",
        about: "one minimum Rust version, stated everywhere, true as far as this compiler can tell",
        long_only: false,
        needs: &[CLIPPY],
        run: rust_version::check,
    },
    Stage {
        name: "tests",
        about: "unit and integration tests",
        long_only: false,
        needs: &[],
        run: host_tests::tests,
    },
    Stage {
        name: "doc-tests",
        about: "examples in the documentation",
        long_only: false,
        needs: &[],
        run: host_tests::doc_tests,
    },
    Stage {
        name: "documentation",
        about: "no warning from rustdoc, for the public interface and for private items",
        long_only: false,
        needs: &[],
        run: lints::documentation,
    },
    Stage {
        name: "no-std",
        about: "the library crates compile for bare metal with core alone",
        long_only: false,
        needs: &[Need::BareTargets],
        run: no_std::prove,
    },
    Stage {
        name: "firmware",
        about: "the images of ports/firmware boot, find no fault but the planted one, and are small",
        long_only: false,
        needs: &[Need::BareTargets, QEMU_ARM, QEMU_RISCV, RUSTFMT],
        run: firmware::boot,
    },
    Stage {
        name: "loom",
        about: "the models of concurrent code",
        long_only: false,
        needs: &[],
        run: loom::models,
    },
    Stage {
        name: "demo",
        about: "the demonstration, once for each ASIC",
        long_only: false,
        needs: &[],
        run: demo::demo,
    },
    Stage {
        name: "scenarios",
        about: "every scenario file, on each ASIC that it is for",
        long_only: false,
        needs: &[],
        run: scenarios::scenarios,
    },
    Stage {
        name: "fuzz",
        about: "random operations on page tables and random requests, for a short while",
        long_only: true,
        needs: &[],
        run: fuzz::stage,
    },
    Stage {
        name: "miri",
        about: "some tests, one of them of a whole machine, show no undefined behaviour",
        long_only: true,
        needs: &[MIRI],
        run: miri::interpret,
    },
    Stage {
        name: "mutants",
        about: "no small change of the libraries goes unnoticed by tests; another part of them each day",
        long_only: true,
        needs: &[CARGO_MUTANTS, CARGO_NEXTEST],
        run: mutants::stage,
    },
    Stage {
        name: "cargo-deny",
        about: "the policy for dependencies once more, as cargo-deny reads it",
        long_only: true,
        needs: &[CARGO_DENY],
        run: dependencies::cargo_deny,
    },
];
