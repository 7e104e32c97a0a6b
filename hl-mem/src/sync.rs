//! The one place that decides between core's atomics and loom's.
//!
//! Nothing else in this crate names either, so that another crate can model the real code by
//! compiling it with `--cfg loom`. Only atomics of at most the machine's width are here: targets such
//! as Cortex-M4 have no wider ones.

#[cfg(not(loom))]
pub(crate) use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering, fence};
#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicUsize, Ordering, fence};
