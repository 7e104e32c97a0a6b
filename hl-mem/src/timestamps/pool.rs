//! The user's part of timestamps.

use core::fmt;
use core::num::NonZeroU64;

use super::{
    ForeignRegistration, PoolSizeError, RegisterError, StillPending, TooFewSlots, WaitPlace,
};
use crate::identity::Identity;

/// The most timestamps of a pool (facts TS-1).
const MAX_SLOTS: u32 = 1 << 20;
/// A timestamp is a 64-bit number.
const TIMESTAMP_BYTES: u64 = 8;

/// The number of timestamps of a pool: 1 to 2^20.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct PoolSize(u32);

impl PoolSize {
    /// Checks a number that a user asks for.
    ///
    /// # Errors
    ///
    /// * [`PoolSizeError::Empty`]: there are none in it.
    /// * [`PoolSizeError::TooLarge`]: there are more than 2^20.
    pub const fn new(timestamps: u64) -> Result<Self, PoolSizeError> {
        if timestamps == 0 {
            return Err(PoolSizeError::Empty);
        }
        if timestamps > MAX_SLOTS as u64 {
            return Err(PoolSizeError::TooLarge { timestamps });
        }
        Ok(Self(timestamps as u32))
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The length in bytes of the user's memory and of its mapping, not rounded to pages (facts
    /// TB-1).
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0 as u64 * TIMESTAMP_BYTES
    }
}

/// The memory of a pool, which its user maps.
///
/// A pool owns it and stores to it from interrupts as well as requests, under the embedder's lock or
/// while the pool is made and nobody else has it, and to no slot beyond its size.
pub trait TimestampMemory {
    /// Stores `value` into the slot, 8 bytes at `slot` × 8, in the byte order of the CPU.
    ///
    /// The user reads at any time, so the store is a single one that does not tear, where the CPU has
    /// such a store. Where it has not, the user must not mistake a half of it for all.
    fn store(&mut self, slot: u32, value: u64);
}

/// The memory of no pool, for a port that has no timestamps.
#[derive(Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum NoTimestamps {}

impl TimestampMemory for NoTimestamps {
    fn store(&mut self, _slot: u32, _value: u64) {
        match *self {}
    }
}

/// What the driver knows of one timestamp of a pool.
#[derive(Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct TimestampSlot {
    /// What it waits for, if it is registered.
    place: Option<WaitPlace>,
}

impl TimestampSlot {
    /// A timestamp that is not registered.
    #[must_use]
    pub const fn new() -> Self {
        Self { place: None }
    }
}

impl Default for TimestampSlot {
    fn default() -> Self {
        Self::new()
    }
}

/// Tells a pool from all others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct PoolId(Identity);

/// The hold of one pending timestamp on its pool.
///
/// Ends with [`TimestampPool::complete`] or [`TimestampPool::cancel`]. The pool of one that is dropped
/// is never released, as [`TimestampPool::pending`] shows.
///
/// It cannot be used twice:
///
/// ```compile_fail,E0382
/// # use hl_mem::timestamps::{Registration, TimestampMemory, TimestampPool, TimestampSlot};
/// fn twice<M: TimestampMemory>(
///     pool: &mut TimestampPool<M, &mut [TimestampSlot]>,
///     registration: Registration,
/// ) {
///     let _ = pool.cancel(registration);
///     let _ = pool.cancel(registration);
/// }
/// ```
#[derive(PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[must_use = "the pool waits until the registration is completed or cancelled"]
pub struct Registration {
    pool: PoolId,
    slot: u32,
}

impl Registration {
    /// Tells the pool that made it.
    #[must_use]
    pub const fn pool(&self) -> PoolId {
        self.pool
    }

    /// The slot that it is for.
    #[must_use]
    pub const fn slot(&self) -> u32 {
        self.slot
    }
}

/// Timestamps of one user.
///
/// See [the module](super) for an example. `S` holds the driver's part, one [`TimestampSlot`] for each
/// timestamp: an array, `&mut [TimestampSlot]`, or anything else that always gives the same slice.
pub struct TimestampPool<M, S> {
    memory: M,
    slots: S,
    size: PoolSize,
    pending: u32,
    closed: bool,
    id: PoolId,
}

impl<M: TimestampMemory, S: AsRef<[TimestampSlot]> + AsMut<[TimestampSlot]>> TimestampPool<M, S> {
    /// Makes a pool, and zeroes its memory of [`PoolSize::bytes`] bytes. The user may see the memory
    /// from then on.
    ///
    /// # Errors
    ///
    /// [`TooFewSlots`], with everything inside and untouched, if `slots` are fewer than `size`.
    pub fn new(size: PoolSize, mut memory: M, mut slots: S) -> Result<Self, TooFewSlots<M, S>> {
        let Some(used) = slots.as_mut().get_mut(..size.0 as usize) else {
            return Err(TooFewSlots {
                memory,
                slots,
                needed: size.0,
            });
        };
        for (slot, number) in used.iter_mut().zip(0..) {
            *slot = TimestampSlot::new();
            memory.store(number, 0);
        }
        Ok(Self {
            memory,
            slots,
            size,
            pending: 0,
            closed: false,
            id: PoolId(Identity::new()),
        })
    }

    /// Writes the time into the slot of a registration whose target is reached, and ends the
    /// registration. `now` is in the unit that the embedder gives its users.
    ///
    /// # Errors
    ///
    /// [`ForeignRegistration`], with the registration inside, if another pool made it.
    pub fn complete(
        &mut self,
        registration: Registration,
        now: NonZeroU64,
    ) -> Result<(), ForeignRegistration> {
        let slot = self.end(registration)?;
        self.memory.store(slot, now.get());
        Ok(())
    }

    /// Ends a registration without a timestamp. The slot stays zero.
    ///
    /// # Errors
    ///
    /// [`ForeignRegistration`], with the registration inside, if another pool made it.
    pub fn cancel(&mut self, registration: Registration) -> Result<(), ForeignRegistration> {
        self.end(registration).map(|_| ())
    }

    /// Finds the first pending slot from `from` on, and what it waits for: what
    /// [`CounterWaits::cancel`](super::CounterWaits::cancel) needs to give its registration back.
    #[must_use]
    pub fn next_pending(&self, from: u32) -> Option<(u32, WaitPlace)> {
        let slots = self.slots.as_ref().iter().zip(0..self.size.0);
        slots
            .skip(from as usize)
            .find_map(|(slot, number)| Some((number, slot.place?)))
    }

    /// Checks that a slot can be registered, and tells what it waits for already.
    pub(super) fn check(&self, slot: u64) -> Result<(u32, Option<WaitPlace>), RegisterError> {
        let refused = RegisterError::Slot {
            slot,
            slots: self.size.0,
        };
        let number = u32::try_from(slot).map_err(|_| refused)?;
        let found = self.slots.as_ref().get(number as usize);
        let found = found.filter(|_| number < self.size.0).ok_or(refused)?;
        if self.closed {
            return Err(RegisterError::Closed);
        }
        Ok((number, found.place))
    }

    /// Makes the registration of a slot that was checked and is not pending.
    pub(super) fn begin(&mut self, slot: u32, place: WaitPlace) -> Registration {
        if let Some(found) = self.slots.as_mut().get_mut(slot as usize) {
            found.place = Some(place);
            self.pending = self.pending.saturating_add(1);
            self.memory.store(slot, 0);
        }
        Registration {
            pool: self.id,
            slot,
        }
    }

    /// Writes the time into a slot that was checked and is not pending.
    pub(super) fn reached(&mut self, slot: u32, now: NonZeroU64) {
        self.memory.store(slot, now.get());
    }

    fn end(&mut self, registration: Registration) -> Result<u32, ForeignRegistration> {
        if registration.pool != self.id {
            return Err(ForeignRegistration(registration));
        }
        let slot = registration.slot;
        // A pending slot has exactly one registration, so this is it.
        if let Some(found) = self.slots.as_mut().get_mut(slot as usize) {
            found.place = None;
            self.pending = self.pending.saturating_sub(1);
        }
        Ok(slot)
    }
}

impl<M, S> TimestampPool<M, S> {
    /// Tells this pool from all others: [`Registration::pool`] of its own registrations is the same.
    #[must_use]
    pub const fn id(&self) -> PoolId {
        self.id
    }

    /// The number of timestamps.
    #[must_use]
    pub const fn size(&self) -> PoolSize {
        self.size
    }

    /// The number of pending registrations.
    #[must_use]
    pub const fn pending(&self) -> u32 {
        self.pending
    }

    /// The memory, to be mapped or looked at.
    #[must_use]
    pub const fn memory(&self) -> &M {
        &self.memory
    }

    /// Refuses registrations from now on. Those that are pending are still completed.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// Whether the pool is closed.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        self.closed
    }

    /// Ends the pool and gives back what it is made of, if no registration is pending.
    ///
    /// # Errors
    ///
    /// [`StillPending`], with the unchanged pool inside.
    pub fn release(self) -> Result<(M, S), StillPending<M, S>> {
        if self.pending == 0 {
            Ok((self.memory, self.slots))
        } else {
            Err(StillPending(self))
        }
    }
}

impl<M, S> fmt::Debug for TimestampPool<M, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimestampPool")
            .field("size", &self.size)
            .field("pending", &self.pending)
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}

#[cfg(feature = "defmt")]
impl<M, S> defmt::Format for TimestampPool<M, S> {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(
            f,
            "TimestampPool {{ size: {=u32}, pending: {=u32}, closed: {=bool} }}",
            self.size.0,
            self.pending,
            self.closed
        );
    }
}
