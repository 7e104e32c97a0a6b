//! Tells the values that one object handed out from those of another.

use core::num::NonZeroU32;
use core::sync::atomic::{AtomicU32, Ordering};

/// What a token remembers of the object that handed it out.
///
/// Repeats after 2^32 - 1 objects. A token that survived so many could be taken for one of a later
/// object's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub(crate) struct Identity(NonZeroU32);

impl Identity {
    /// An identity that no other object has.
    pub(crate) fn new() -> Self {
        // Core's own atomic even in loom models, whose atomics a static cannot hold: that each
        // value is handed out once needs no ordering and is nothing to model.
        static NEXT: AtomicU32 = AtomicU32::new(1);
        loop {
            // Zero turns up once in 2^32 calls and is passed over.
            if let Some(number) = NonZeroU32::new(NEXT.fetch_add(1, Ordering::Relaxed)) {
                return Self(number);
            }
        }
    }

    /// The identity as a number, never zero.
    pub(crate) const fn get(self) -> u32 {
        self.0.get()
    }
}
