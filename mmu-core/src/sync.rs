//! The one place that decides between core's atomics and loom's.
//!
//! Nothing else in this crate names either, so that another crate can model the real code by
//! compiling it with `--cfg loom`.

#[cfg(all(not(loom), target_has_atomic = "64"))]
pub(crate) use core::sync::atomic::AtomicU64;
#[cfg(not(loom))]
pub(crate) use core::sync::atomic::{AtomicU32, Ordering, fence};
#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
