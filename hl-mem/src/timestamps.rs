//! Timestamps that a user finds in memory of its own when counters of the device reach targets.
//!
//! A [`TimestampPool`] is memory of *n* values of 8 bytes that a user maps (facts TB-1), and the
//! driver's record of each. The user *registers* a slot of a pool with a counter and a target; when
//! the counter gets there, the driver writes the time into the slot. The writer is the CPU, in an
//! interrupt; no device mapping is involved (facts TB-2). [`CounterWaits`] keeps what waits for the
//! counters of one buffer, of any number of pools. [The chapter](crate::guide::timestamps) has the same as a
//! context does it.
//!
//! ```
//! use core::num::NonZeroU64;
//! use hl_mem::timestamps::{
//!     CounterSlot, CounterWaits, PoolSize, Registered, TimestampMemory, TimestampPool,
//!     TimestampSlot, Wait, WaitSlot,
//! };
//!
//! // A port stores to pages that the user maps.
//! struct Pages([u64; 10]);
//! impl TimestampMemory for Pages {
//!     fn store(&mut self, slot: u32, value: u64) {
//!         self.0[slot as usize] = value;
//!     }
//! }
//!
//! let size = PoolSize::new(10)?;
//! let slots = [const { TimestampSlot::new() }; 10];
//! let mut pool = TimestampPool::new(size, Pages([0xDEAD; 10]), slots).unwrap();
//! let mut waits = CounterWaits::new([const { WaitSlot::new() }; 16], [CounterSlot::new(); 4]);
//!
//! // A request: slot 3 is to get the time when the counter at index 1 reaches 100.
//! let counter = waits.counter(1)?;
//! let wait = Wait { slot: 3, counter, target: 100 };
//! let now = |time| NonZeroU64::new(time).unwrap();
//! assert_eq!(waits.register(&mut pool, wait, 99, now(5000))?, Registered::Pending);
//! assert_eq!(pool.memory().0[3], 0);
//!
//! // An interrupt: the counter is at 100.
//! while let Some(registration) = waits.take_reached(counter, 100) {
//!     pool.complete(registration, now(6000)).unwrap();
//! }
//! assert_eq!(pool.memory().0[3], 6000);
//! let (_pages, _slots) = pool.release().unwrap();
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```
//!
//! # Zero until reached
//!
//! A slot is zero from its registration until the target is reached, whatever it had before, and a
//! timestamp is never zero. Targets that are reached together are completed in the order of the
//! targets, equal ones in the order of their registrations.
//!
//! A slot has one registration at a time. Registering it again while the first is pending replaces
//! that: nothing is written for it.
//!
//! # Numbers of the user's
//!
//! Slots and counters come as 64-bit indices and are compared with what there is before anything is
//! computed from them. The driver multiplies first, and an index that wraps passes its check (facts
//! TB-4, hazard HZ-12).
//!
//! # End
//!
//! A [`Registration`] stands for the hold that a pending registration has on its pool (facts TB-5).
//! It cannot be copied, it is in the hands of [`CounterWaits`] while it waits, and it ends by
//! [`complete`](TimestampPool::complete) or [`cancel`](TimestampPool::cancel). A pool owns its
//! memory and [releases](TimestampPool::release) it only when no registration is left; after that
//! there is no pool to write through. A pool that is to go is [closed](TimestampPool::close): it
//! takes no registrations, and those it has are waited for or cancelled, each found by
//! [`next_pending`](TimestampPool::next_pending). In the same way a buffer of counters
//! [releases](CounterWaits::release) its storage when nothing waits for it, and
//! [`take_any`](CounterWaits::take_any) takes out what does.
//!
//! # Locking
//!
//! All of these are plain values. The embedder keeps a pool and the waits that it is registered with
//! under a lock that its interrupt handler takes, and reads a counter while it holds that lock: then
//! an increase comes either before the registration, which sees it, or with an interrupt after.

mod error;
mod heap;
mod pool;
#[cfg(test)]
mod tests;
mod waits;

pub use error::{
    ForeignRegistration, NoSuchCounter, PoolSizeError, RegisterError, StillPending, StillWaiting,
    TooFewSlots,
};
pub use pool::{
    NoTimestamps, PoolId, PoolSize, Registration, TimestampMemory, TimestampPool, TimestampSlot,
};
pub use waits::{Counter, CounterSlot, CounterWaits, Registered, Wait, WaitPlace, WaitSlot};
