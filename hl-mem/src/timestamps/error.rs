//! What can be refused.

use core::fmt;

use super::{CounterWaits, Registration, TimestampPool, WaitPlace};

/// There is no pool of so many timestamps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum PoolSizeError {
    /// A pool has at least one timestamp.
    Empty,
    /// A pool has at most 2^20 timestamps (facts TS-1).
    TooLarge {
        /// How many were asked for.
        timestamps: u64,
    },
}

impl fmt::Display for PoolSizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("a pool has at least one timestamp"),
            Self::TooLarge { timestamps } => {
                write!(f, "a pool of {timestamps} timestamps is larger than 2^20")
            }
        }
    }
}

impl core::error::Error for PoolSizeError {}

/// The storage for a pool is too short. It is inside, with the memory.
pub struct TooFewSlots<M, S> {
    /// The memory that was to be the user's.
    pub memory: M,
    /// The storage.
    pub slots: S,
    /// How many slots are needed.
    pub needed: u32,
}

impl<M, S> fmt::Debug for TooFewSlots<M, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TooFewSlots")
            .field("needed", &self.needed)
            .finish_non_exhaustive()
    }
}

#[cfg(feature = "defmt")]
impl<M, S> defmt::Format for TooFewSlots<M, S> {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "TooFewSlots {{ needed: {=u32} }}", self.needed);
    }
}

impl<M, S> fmt::Display for TooFewSlots<M, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the storage has not the {} slots of the pool",
            self.needed
        )
    }
}

impl<M, S> core::error::Error for TooFewSlots<M, S> {}

/// The buffer has no such counter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct NoSuchCounter {
    /// The index asked for.
    pub index: u64,
    /// How many counters there are.
    pub counters: u32,
}

impl fmt::Display for NoSuchCounter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "counter {} of {}", self.index, self.counters)
    }
}

impl core::error::Error for NoSuchCounter {}

/// Why a timestamp was not registered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum RegisterError {
    /// The pool has no such slot.
    Slot {
        /// The index asked for.
        slot: u64,
        /// How many slots there are.
        slots: u32,
    },
    /// The counter is none of this buffer's.
    Counter(NoSuchCounter),
    /// The pool is closed.
    Closed,
    /// The slot waits for a counter of another buffer, or its registration was taken out to be
    /// completed: cancel the one or complete the other, and try again.
    Pending {
        /// What the slot waits for.
        place: WaitPlace,
    },
    /// As many registrations wait as there is room for.
    Full {
        /// How many that is.
        capacity: u32,
    },
}

impl fmt::Display for RegisterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Slot { slot, slots } => write!(f, "slot {slot} of a pool of {slots}"),
            Self::Counter(error) => write!(f, "{error}"),
            Self::Closed => f.write_str("the pool is closed"),
            Self::Pending { .. } => f.write_str("the slot is registered elsewhere"),
            Self::Full { capacity } => write!(f, "all {capacity} registrations are in use"),
        }
    }
}

impl core::error::Error for RegisterError {}

/// A registration was offered to a pool that did not make it. It is inside, still good for its own.
#[derive(PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct ForeignRegistration(pub Registration);

impl fmt::Display for ForeignRegistration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the registration is one of another pool")
    }
}

impl core::error::Error for ForeignRegistration {}

/// A pool cannot release its memory yet. The pool is inside.
pub struct StillPending<M, S>(pub TimestampPool<M, S>);

impl<M, S> fmt::Debug for StillPending<M, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StillPending").field(&self.0).finish()
    }
}

#[cfg(feature = "defmt")]
impl<M, S> defmt::Format for StillPending<M, S> {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "StillPending({})", self.0);
    }
}

impl<M, S> fmt::Display for StillPending<M, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} registrations are pending", self.0.pending())
    }
}

impl<M, S> core::error::Error for StillPending<M, S> {}

/// A buffer of counters cannot release its storage yet. It is inside.
pub struct StillWaiting<S, C>(pub CounterWaits<S, C>);

impl<S, C> fmt::Debug for StillWaiting<S, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StillWaiting").field(&self.0).finish()
    }
}

#[cfg(feature = "defmt")]
impl<S, C> defmt::Format for StillWaiting<S, C> {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "StillWaiting({})", self.0);
    }
}

impl<S, C> fmt::Display for StillWaiting<S, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} registrations wait for a counter", self.0.waiting())
    }
}

impl<S, C> core::error::Error for StillWaiting<S, C> {}
