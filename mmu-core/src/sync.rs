//! The one place that decides between core's atomics and loom's.
//!
//! Nothing else in this crate names either, so that another crate can model the real code by
//! compiling it with `--cfg loom`.

#[cfg(not(loom))]
pub(crate) use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
