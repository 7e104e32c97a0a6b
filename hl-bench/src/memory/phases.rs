//! Time that is spent inside the port, told apart from the library's own.

use std::cell::Cell;
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// What a port does for the library.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// Pinning and unpinning.
    Pin,
    /// Everything the MMU's driver does: announcing what was mapped, invalidating what was not.
    Mmu,
}

/// Time and calls of one phase in this thread.
#[derive(Clone, Copy, Default, Debug)]
struct Spent {
    ns: u64,
    calls: u64,
}

/// Whether calls are timed. The library's own time is measured without, because a look at the clock
/// takes as long as much of what it does.
static TIMED: AtomicBool = AtomicBool::new(false);

thread_local! {
    static SPENT: [Cell<Spent>; 2] = const { [Cell::new(Spent { ns: 0, calls: 0 }), Cell::new(Spent { ns: 0, calls: 0 })] };
}

/// Turns the clocks on or off, for all threads.
pub(crate) fn set_timed(timed: bool) {
    TIMED.store(timed, Ordering::SeqCst);
}

/// Does the work of a phase.
#[inline]
pub(crate) fn during<T>(phase: Phase, work: impl FnOnce() -> T) -> T {
    if !TIMED.load(Ordering::Relaxed) {
        return work();
    }
    let start = Instant::now();
    let result = work();
    let ns = start.elapsed().as_nanos() as u64;
    SPENT.with(|spent| {
        let spent = &spent[phase as usize];
        let before = spent.get();
        spent.set(Spent {
            ns: before.ns + ns,
            calls: before.calls + 1,
        });
    });
    result
}

/// Nanoseconds of a phase in this thread since the last call, without the clock's own.
pub(crate) fn take(phase: Phase, clock_ns: f64) -> f64 {
    let spent = SPENT.with(|spent| spent[phase as usize].take());
    (spent.ns as f64 - spent.calls as f64 * clock_ns).max(0.0)
}

/// What [`during`] records for no work at all.
pub(crate) fn clock_cost() -> f64 {
    const CALLS: u64 = 20_000;
    set_timed(true);
    take(Phase::Pin, 0.0);
    for _ in 0..CALLS {
        during(Phase::Pin, || black_box(()));
    }
    set_timed(false);
    take(Phase::Pin, 0.0) / CALLS as f64
}
