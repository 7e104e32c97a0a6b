//! Models of the concurrent parts, explored by loom.
//!
//! Loom runs a model once for every interleaving of its threads, and for every value that the
//! language's memory model lets a load return, up to a number of preemptions per execution
//! (`LOOM_MAX_PREEMPTIONS`, here 3 unless set). The code under test is the real one, compiled with
//! loom's atomics:
//!
//! ```sh
//! RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target/loom \
//!     cargo test --profile loom -p hl-harness --test loom
//! ```
//!
//! A model that passes proves little unless the bug it looks for makes it fail. Therefore each
//! ordering that a model depends on is weakened once, in a test that expects loom to find out.
#![cfg(loom)]

mod budget;
mod ring;
mod ring_frames;
mod ring_wake;

use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Explores `model` and reports the number of executions.
fn explore(model: impl Fn() + Send + Sync + 'static) {
    let executions = Arc::new(AtomicUsize::new(0));
    check(&executions, model);
    report(&executions, "explored");
}

/// Explores a `model` with a planted bug, which has to fail with a message that contains `symptom`.
fn expect_failure(symptom: &str, model: impl Fn() + Send + Sync + 'static) {
    let executions = Arc::new(AtomicUsize::new(0));
    // Nothing but the counter outlives the panic, and the counter is always valid.
    let outcome = catch_unwind(AssertUnwindSafe(|| check(&executions, model)));
    let Err(panic) = outcome else {
        panic!("loom did not find the planted bug");
    };
    let message = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or_default();
    assert!(
        message.contains(symptom),
        "loom found something else than {symptom:?}: {message}"
    );
    report(&executions, "found the planted bug");
}

fn check(executions: &Arc<AtomicUsize>, model: impl Fn() + Send + Sync + 'static) {
    let executions = Arc::clone(executions);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(3);
    builder.check(move || {
        executions.fetch_add(1, Relaxed);
        model();
    });
}

/// Writes past the capture of test output: the numbers are wanted from runs that pass.
fn report(executions: &AtomicUsize, what: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("?");
    let executions = executions.load(Relaxed);
    let line = format!("loom: {test}: {what}, {executions} executions\n");
    std::io::stderr()
        .write_all(line.as_bytes())
        .expect("standard error is writable");
}
