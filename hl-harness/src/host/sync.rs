//! The one place that decides between the processor's fence and loom's, and that tells loom of accesses.
//!
//! Locks are those of the standard library in models, too: a model makes each call of the host one step.

#[cfg(loom)]
pub(super) use loom::sync::atomic::fence;
#[cfg(not(loom))]
pub(super) use std::sync::atomic::fence;

/// What loom is told of accesses by: they must not race. Outside of its models, nothing.
#[cfg(not(loom))]
#[derive(Debug)]
pub(super) struct Probe;

#[cfg(not(loom))]
impl Probe {
    pub(super) const fn new() -> Self {
        Self
    }

    pub(super) const fn read(&self) {}

    pub(super) const fn write(&self) {}
}

/// Reports every access of something to loom as one that must not race.
#[cfg(loom)]
#[derive(Debug)]
pub struct Probe(loom::cell::UnsafeCell<()>);

// SAFETY: the cell holds nothing, so there is no data to race on and its pointer is never used. What
// its methods do touch is loom's state, of which loom runs one thread at a time.
#[cfg(loom)]
unsafe impl Sync for Probe {}

// SAFETY: as above; loom's threads are one thread of the system.
#[cfg(loom)]
unsafe impl Send for Probe {}

#[cfg(loom)]
#[expect(
    clippy::new_without_default,
    reason = "there is no probe without something that it watches"
)]
impl Probe {
    /// One that was not used yet.
    #[must_use]
    pub fn new() -> Self {
        Self(loom::cell::UnsafeCell::new(()))
    }

    /// Something is read, which nobody may write meanwhile.
    pub fn read(&self) {
        self.0.with(|_| ());
    }

    /// Something is written, which nobody may use meanwhile.
    pub fn write(&self) {
        self.0.with_mut(|_| ());
    }
}
