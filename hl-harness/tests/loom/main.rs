//! Models of the concurrent parts, explored by loom.
//!
//! Loom runs a model once for every interleaving of its threads, and for every value that the
//! language's memory model lets a load return, up to a number of preemptions per execution
//! (`LOOM_MAX_PREEMPTIONS`, here 3 unless set; never more than 2 in the models of a bus and of a reset,
//! which have a thread or a recovery more than the others and explode beyond). The code under test is the real one, compiled with
//! loom's atomics: page tables, the pool that two spaces share, `Device` and `Context` above them,
//! rings and budgets, and the drivers of the MMUs. Below them stands the device of [`rig`], with a
//! walker that reads the tables' entries, an MMU that caches what it found and accesses that take
//! their time; where a model is about that, with a bus that posts writes, with units behind registers
//! that work by themselves, and with a reset.
//!
//! ```sh
//! cargo xtask loom                # all models, with a table of what each proves
//! cargo xtask loom unmap          # those whose name has this in it
//! ```
//!
//! A model that passes proves little unless the bug it looks for makes it fail. Therefore each step
//! that a model depends on is weakened once, in a test that expects loom to find out.
//!
//! What is not modelled: registers and whole contexts together, since the product of both is too
//! large (`hl-mem/src/mmu/tests` has the sequences, the models here have the drivers over one page
//! table, or two of an ASID one after the other); more than two of the sixteen MMUs of device memory
//! of Gaudi2, and their format, of which their protocol knows nothing; entries in two halves, since
//! loom has no read of both at once (`mmu-core/src/split_word.rs` goes through every state).
#![cfg(loom)]

mod budget;
mod bus;
mod context_map;
mod handles;
mod map_walk;
mod neighbours;
mod registers;
mod reset;
mod rig;
mod ring;
mod ring_frames;
mod ring_hostile;
mod ring_wake;
mod roots;
mod standing;
mod teardown;
mod two_files;
mod two_spaces;
mod unmap;

use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

/// What loom says of two accesses that nothing orders.
pub(crate) const RACE: &str = "Causality violation";

/// Explores `model`, which `proves` what is said, and reports the executions.
fn explore(proves: &str, model: impl Fn() + Send + Sync + 'static) {
    let run = Run::begin();
    run.check(model);
    run.report("proved", proves);
}

/// The same for a model that is too large for more than two preemptions in one execution.
fn explore_large(proves: &str, model: impl Fn() + Send + Sync + 'static) {
    let run = Run::begin_with(LARGE);
    run.check(model);
    run.report("proved", proves);
}

/// Explores a `model` with a planted `bug`, which has to fail with a message that contains
/// `symptom`.
fn expect_failure(bug: &str, symptom: &str, model: impl Fn() + Send + Sync + 'static) {
    expect_failure_of(Run::begin(), bug, symptom, model);
}

/// The same for a model that is too large for more than two preemptions in one execution.
fn expect_failure_in_large(bug: &str, symptom: &str, model: impl Fn() + Send + Sync + 'static) {
    expect_failure_of(Run::begin_with(LARGE), bug, symptom, model);
}

fn expect_failure_of(run: Run, bug: &str, symptom: &str, model: impl Fn() + Send + Sync + 'static) {
    // Nothing but the counter outlives the panic, and the counter is always valid.
    let outcome = catch_unwind(AssertUnwindSafe(|| run.check(model)));
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
    run.report("found", bug);
}

/// The most preemptions in an execution of a large model.
const LARGE: usize = 2;

/// One model that is being explored.
struct Run {
    /// No more preemptions than this, whatever is set.
    most: usize,
    executions: Arc<AtomicUsize>,
    begin: Instant,
}

impl Run {
    fn begin() -> Self {
        Self::begin_with(usize::MAX)
    }

    fn begin_with(most: usize) -> Self {
        Self {
            most,
            executions: Arc::new(AtomicUsize::new(0)),
            begin: Instant::now(),
        }
    }

    fn check(&self, model: impl Fn() + Send + Sync + 'static) {
        let executions = Arc::clone(&self.executions);
        let mut builder = loom::model::Builder::new();
        let bound = builder.preemption_bound.get_or_insert(3);
        *bound = self.most.min(*bound);
        // Loom's own limit is for models without end; opening a file takes more steps than it has.
        builder.max_branches = builder.max_branches.max(20_000);
        builder.check(move || {
            executions.fetch_add(1, Relaxed);
            model();
        });
    }

    /// Writes a line of the table that `cargo xtask loom` prints, past the capture of test output:
    /// the numbers are wanted from runs that pass.
    fn report(&self, verdict: &str, what: &str) {
        let thread = std::thread::current();
        let test = thread.name().unwrap_or("?");
        let executions = self.executions.load(Relaxed);
        let seconds = self.begin.elapsed().as_secs_f64();
        let line = format!("loom\t{test}\t{verdict}\t{executions}\t{seconds:.2}\t{what}\n");
        std::io::stdout()
            .write_all(line.as_bytes())
            .expect("standard output is writable");
    }
}
