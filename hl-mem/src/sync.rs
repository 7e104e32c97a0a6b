//! The one place that decides between core's atomics and loom's.
//!
//! Nothing else in this crate names either, so that another crate can model the real code by
//! compiling it with `--cfg loom`. Atomics wider than a machine word are here only where the machine
//! has them: Cortex-M4 has none.

#[cfg(all(not(loom), target_has_atomic = "64"))]
pub(crate) use core::sync::atomic::AtomicU64;
#[cfg(not(loom))]
pub(crate) use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering, fence};
#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
