//! Locks, each with its place in the one order in which they are taken.
//!
//! A thread takes locks in ascending [`LockRank`] only, so that no two wait for each other. That is
//! how the code is written; debug builds tell the port of each lock before it is taken, and a port
//! that knows the current thread can have [`HeldLocks`] check it. Locks are of two kinds: those that
//! interrupt handlers take ([`LockRank::is_interrupt`]), and all others, which may sleep. What each lock is held for, and for how
//! long, is in the [chapter](crate::guide::locks); what a port may do under which is in
//! [porting](crate::guide::porting).

use core::fmt;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};

use lock_api::{Mutex, MutexGuard, RawMutex};

use crate::port::Port;

/// The locks of this crate, in the order in which they are taken.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u8)]
pub enum LockRank {
    /// The handles of a context.
    Handles,
    /// An address space: the privileged one, or that of one context. No two of them are taken at a
    /// time. Nobody waits for one with a lock held that another context needs.
    Space,
    /// The MMU of host memory. Held while it invalidates and while it starts again.
    HostMmu,
    /// The MMU of device memory. Held while it invalidates and while it starts again.
    DramMmu,
    /// The scrubber of device memory. Held while it scrubs.
    Scrubber,
    /// The pool of device memory.
    Dram,
    /// The kernel buffers.
    Buffers,
    /// What was removed from an address space and is not confirmed. No two of them are taken at a
    /// time.
    Removals,
    /// The timestamp pools of a context. An [interrupt lock](Self::is_interrupt).
    Timestamps,
    /// The seat of a user, with his events. An [interrupt lock](Self::is_interrupt).
    Seat,
}

impl LockRank {
    /// Whether it is of the kind that interrupt handlers take,
    /// [`Port::InterruptLock`]. All of these come after all others, so that nobody waits for a lock that
    /// sleeps with one of them held.
    #[must_use]
    pub const fn is_interrupt(self) -> bool {
        self as u8 >= Self::Timestamps as u8
    }
}

impl fmt::Display for LockRank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Handles => "the handles of a context",
            Self::Space => "an address space",
            Self::HostMmu => "the MMU of host memory",
            Self::DramMmu => "the MMU of device memory",
            Self::Scrubber => "the scrubber",
            Self::Dram => "the pool of device memory",
            Self::Buffers => "the kernel buffers",
            Self::Removals => "the removals of an address space",
            Self::Timestamps => "the timestamp pools of a context",
            Self::Seat => "the seat of a user",
        })
    }
}

/// A lock is taken out of order: while another that comes after it, or with it, is held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct OutOfOrder {
    /// What is to be taken.
    pub wanted: LockRank,
}

impl fmt::Display for OutOfOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is taken out of order", self.wanted)
    }
}

impl core::error::Error for OutOfOrder {}

/// The locks that one thread holds: what a port keeps for each thread, to check the order.
///
/// ```
/// use hl_mem::lock::{HeldLocks, LockRank};
///
/// let mut held = HeldLocks::NONE;
/// held.take(LockRank::HostMmu)?;
/// held.take(LockRank::Removals)?;
/// assert!(held.take(LockRank::Dram).is_err());
/// held.release(LockRank::Removals);
/// held.take(LockRank::Dram)?;
/// # Ok::<(), hl_mem::lock::OutOfOrder>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct HeldLocks(u16);

impl HeldLocks {
    /// None of them.
    pub const NONE: Self = Self(0);

    /// Notes a lock that is about to be taken.
    ///
    /// # Errors
    ///
    /// [`OutOfOrder`] while one of the same rank or a later one is held. Nothing is noted then.
    pub const fn take(&mut self, rank: LockRank) -> Result<(), OutOfOrder> {
        if self.0 >> rank as u8 != 0 {
            return Err(OutOfOrder { wanted: rank });
        }
        self.0 |= 1 << rank as u8;
        Ok(())
    }

    /// Notes that a lock is not held any more.
    pub const fn release(&mut self, rank: LockRank) {
        self.0 &= !(1 << rank as u8);
    }

    /// Whether no lock is held.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// A value under a lock of a port.
pub(crate) struct Locked<P, T, L = <P as Port>::Lock> {
    rank: LockRank,
    port: PhantomData<fn() -> P>,
    value: Mutex<L, T>,
}

/// A value under a lock that interrupt handlers take. Whoever holds it does a bounded number of steps,
/// and calls nothing of the port but
/// [`TimestampMemory::store`](crate::timestamps::TimestampMemory::store).
pub(crate) type InterruptLocked<P, T> = Locked<P, T, <P as Port>::InterruptLock>;

impl<P: Port, T, L: RawMutex> Locked<P, T, L> {
    pub(crate) const fn new(rank: LockRank, value: T) -> Self {
        Self {
            rank,
            port: PhantomData,
            value: Mutex::new(value),
        }
    }

    // There are some hundred calls, and a lock that spins is 80 bytes of code at each: too much for a
    // firmware, while a host would rather have the nanosecond that a call takes.
    #[cfg_attr(target_pointer_width = "32", inline(never))]
    pub(crate) fn lock(&self) -> Guard<'_, P, T, L> {
        if cfg!(debug_assertions) {
            P::before_lock(self.rank);
        }
        Guard {
            rank: self.rank,
            port: PhantomData,
            value: self.value.lock(),
        }
    }

    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    pub(crate) fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

/// The right to a value while its lock is held.
pub(crate) struct Guard<'l, P: Port, T, L: RawMutex = <P as Port>::Lock> {
    rank: LockRank,
    port: PhantomData<fn() -> P>,
    value: MutexGuard<'l, L, T>,
}

impl<P: Port, T, L: RawMutex> Deref for Guard<'_, P, T, L> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<P: Port, T, L: RawMutex> DerefMut for Guard<'_, P, T, L> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<P: Port, T, L: RawMutex> Drop for Guard<'_, P, T, L> {
    fn drop(&mut self) {
        if cfg!(debug_assertions) {
            P::after_lock(self.rank);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
