//! Timestamps of a context: pools by handle, and the counters that they wait for.

use core::fmt;
use core::num::NonZeroU64;

use crate::buffer::{BufferHold, BufferId};
use crate::device::{BufferError, Device};
use crate::handle::{HandleError, HandleKind, RawHandle};
use crate::host::HostMemory;
use crate::port::Port;
use crate::profile::Asic;
use crate::timestamps::{
    CounterSlot, CounterWaits, NoSuchCounter, PoolSize, Registered, Registration, TimestampPool,
    Wait, WaitSlot,
};

use super::{Context, Named, Object, RegisterTimestampError};

/// A pool of timestamps in storage of the embedder's.
type Pool<P> = TimestampPool<<<P as Port>::Host as HostMemory>::Words, <P as Port>::TimestampSlots>;

/// A place for one pool of timestamps, with as many slots as the pool may have timestamps.
pub struct TimestampPlace<P: Port>(State<P>);

enum State<P: Port> {
    Vacant(P::TimestampSlots),
    Used {
        pool: Pool<P>,
        buffer: BufferId,
        hold: BufferHold,
    },
    /// In the hands of the operation that is changing it.
    Changing,
}

impl<P: Port> TimestampPlace<P> {
    /// A place for a pool of at most as many timestamps as there are `slots`.
    #[must_use]
    pub const fn new(slots: P::TimestampSlots) -> Self {
        Self(State::Vacant(slots))
    }
}

impl<P: Port<TimestampSlots: Default>> Default for TimestampPlace<P> {
    fn default() -> Self {
        Self::new(P::TimestampSlots::default())
    }
}

impl<P: Port> fmt::Debug for TimestampPlace<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            State::Vacant(slots) => write!(f, "vacant, for {}", slots.as_ref().len()),
            State::Used { pool, .. } => write!(f, "{pool:?}"),
            State::Changing => f.write_str("changing"),
        }
    }
}

/// The most slots that one [`Context::counter_reached`] writes, which bounds how long it keeps interrupts
/// off.
pub const REACHED_AT_A_TIME: u32 = 64;

/// What [`Context::counter_reached`] did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[must_use = "where more wait, they wait until it is called again"]
pub struct CounterReached {
    /// Slots that got the time.
    pub completed: u32,
    /// Whether there are others whose target is reached: call again, with the same or a later value.
    pub more: bool,
}

/// The storage of the timestamps of one context.
#[derive(Debug)]
pub struct TimestampStorage<'d, P: Port> {
    /// As many pools as there may be at a time.
    pub pools: &'d mut [TimestampPlace<P>],
    /// As many registrations as may wait at a time.
    pub waits: &'d mut [WaitSlot],
    /// The counters that can be waited for.
    pub counters: &'d mut [CounterSlot],
}

impl<P: Port> TimestampStorage<'_, P> {
    /// No timestamps.
    #[must_use]
    pub fn none() -> Self {
        Self {
            pools: &mut [],
            waits: &mut [],
            counters: &mut [],
        }
    }
}

/// The memory of a pool that ended, to be given up where the port may take its time.
pub(super) struct Ended<P: Port> {
    words: <P::Host as HostMemory>::Words,
    hold: BufferHold,
}

impl<P: Port> Ended<P> {
    pub(super) fn give_up<A: Asic>(self, device: &Device<'_, A, P>) {
        // Nothing is written into the pages after this.
        drop(self.words);
        device.release_buffer_hold(self.hold);
    }
}

/// The timestamps of a context.
pub(super) struct Timestamps<'d, P: Port> {
    places: &'d mut [TimestampPlace<P>],
    waits: CounterWaits<&'d mut [WaitSlot], &'d mut [CounterSlot]>,
}

impl<'d, P: Port> Timestamps<'d, P> {
    pub(super) fn new(storage: TimestampStorage<'d, P>) -> Self {
        Self {
            places: storage.pools,
            waits: CounterWaits::new(storage.waits, storage.counters),
        }
    }

    /// Registrations that wait.
    pub(super) fn pending(&self) -> u32 {
        self.waits.waiting()
    }

    /// The buffer of a pool, for a view; `None` where there is no pool.
    pub(super) fn buffer(&self, place: usize) -> Option<BufferId> {
        match self.places.get(place)?.0 {
            State::Used { buffer, .. } => Some(buffer),
            _ => None,
        }
    }

    fn pool(&mut self, place: usize) -> Option<&mut Pool<P>> {
        match &mut self.places.get_mut(place)?.0 {
            State::Used { pool, .. } => Some(pool),
            _ => None,
        }
    }

    /// Takes the slots of the smallest vacant place that has enough of them.
    fn take_vacant(&mut self, count: u32) -> Option<(usize, P::TimestampSlots)> {
        let room = |place: &TimestampPlace<P>| match &place.0 {
            State::Vacant(slots) => Some(slots.as_ref().len()).filter(|len| *len >= count as usize),
            _ => None,
        };
        let places = self.places.iter_mut().enumerate();
        let (number, place) = places
            .filter(|(_, place)| room(place).is_some())
            .min_by_key(|(_, place)| room(place))?;
        match core::mem::replace(&mut place.0, State::Changing) {
            State::Vacant(slots) => Some((number, slots)),
            // No other has room.
            _ => None,
        }
    }

    fn put(&mut self, number: usize, state: State<P>) {
        if let Some(place) = self.places.get_mut(number) {
            place.0 = state;
        }
    }

    /// Ends a pool that is closed and that nothing waits to write into.
    fn end_idle(&mut self, number: usize) -> Option<Ended<P>> {
        let place = self.places.get_mut(number)?;
        match core::mem::replace(&mut place.0, State::Changing) {
            State::Used { pool, buffer, hold } if pool.is_closed() => match pool.release() {
                Ok((words, slots)) => {
                    place.0 = State::Vacant(slots);
                    Some(Ended { words, hold })
                }
                Err(pending) => {
                    let pool = pending.0;
                    place.0 = State::Used { pool, buffer, hold };
                    None
                }
            },
            other => {
                place.0 = other;
                None
            }
        }
    }

    /// Notes that no handle names a pool any more: it takes no registrations. Returns its buffer.
    pub(super) fn end_name(&mut self, number: usize) -> Option<BufferId> {
        self.pool(number)?.close();
        self.buffer(number)
    }

    /// Cancels whatever waits and ends any one of the closed pools; `None` when there is none.
    pub(super) fn end_any(&mut self) -> Option<Ended<P>> {
        while let Some(registration) = self.waits.take_any() {
            let pool = self.pool_of(&registration);
            // The pool's own registration is never refused.
            let _ = pool.map(|pool| pool.cancel(registration));
        }
        self.end_any_idle()
    }

    fn pool_of(&mut self, registration: &Registration) -> Option<&mut Pool<P>> {
        let places = self.places.iter_mut();
        places
            .filter_map(|place| match &mut place.0 {
                State::Used { pool, .. } => Some(pool),
                _ => None,
            })
            .find(|pool| pool.id() == registration.pool())
    }

    /// Ends any one of the pools that are closed and that nothing waits for.
    fn end_any_idle(&mut self) -> Option<Ended<P>> {
        (0..self.places.len()).find_map(|number| self.end_idle(number))
    }
}

impl<A: Asic, P: Port> Context<'_, '_, A, P> {
    /// Makes a pool of `count` timestamps, zeroed, for the user to read, and gives this file a handle
    /// for it. The driver alone writes it.
    ///
    /// # Errors
    ///
    /// * [`BufferError::Lost`], [`BufferError::Reset`] when the device is of no use to this file;
    /// * [`BufferError::Size`] for none or more than 2^20 of them (facts TS-1);
    /// * [`BufferError::TooManyTimestamps`] when no place has room for so many;
    /// * [`BufferError::Unsupported`] when the port has no way to write kernel pages;
    /// * each other part that can refuse has its variant.
    pub fn create_timestamps(&self, count: u64) -> Result<RawHandle, BufferError> {
        self.usable()?;
        let size = PoolSize::new(count).map_err(|_| BufferError::Size)?;
        let bytes = size
            .bytes()
            .checked_next_multiple_of(P::Host::PAGE_BYTES)
            .ok_or(BufferError::Size)?;
        self.reap_timestamps();
        let make = || self.make_pool(size, bytes).map(|place| (place, ()));
        self.publish(HandleKind::TimestampPool, make, Named::Timestamps)
            .map(|(handle, ())| handle)
    }

    /// Makes a pool, and tells its place.
    fn make_pool(&self, size: PoolSize, bytes: u64) -> Result<usize, BufferError> {
        let vacant = self.timestamps.lock().take_vacant(size.get());
        let (number, slots) = vacant.ok_or(BufferError::TooManyTimestamps)?;
        let made = self.make_pool_memory(bytes);
        let (state, outcome) = match made {
            Err(error) => (State::Vacant(slots), Err(error)),
            Ok((words, buffer, hold)) => match TimestampPool::new(size, words, slots) {
                Ok(pool) => (State::Used { pool, buffer, hold }, Ok(number)),
                // The place has enough slots.
                Err(few) => {
                    drop(few.memory);
                    self.device.unname_buffer(buffer);
                    self.device.release_buffer_hold(hold);
                    let outcome = Err(BufferError::TooManyTimestamps);
                    (State::Vacant(few.slots), outcome)
                }
            },
        };
        self.timestamps.lock().put(number, state);
        outcome
    }

    /// The pages of a pool, and the driver's way to write them.
    fn make_pool_memory(
        &self,
        bytes: u64,
    ) -> Result<(<P::Host as HostMemory>::Words, BufferId, BufferHold), BufferError> {
        let device = self.device;
        let buffer = device.allocate_buffer(bytes, |host, pages| host.allocate(pages))?;
        let words = device.with_pages(buffer, |pages| device.host().words(pages));
        match (words.flatten(), device.hold_buffer(buffer)) {
            (Some(words), Some(hold)) => Ok((words, buffer, hold)),
            (words, hold) => {
                drop(words);
                device.unname_buffer(buffer);
                if let Some(hold) = hold {
                    device.release_buffer_hold(hold);
                }
                Err(BufferError::Unsupported)
            }
        }
    }

    /// Destroys a pool of timestamps: the handle goes at once, and the memory when no registration
    /// waits to write it and no view is left.
    ///
    /// # Errors
    ///
    /// [`HandleError`] when the handle does not name timestamps of this file.
    pub fn destroy_timestamps(&self, handle: RawHandle) -> Result<(), HandleError> {
        let removed = self
            .handles
            .lock()
            .remove(handle, HandleKind::TimestampPool)?;
        let Object(Named::Timestamps(number)) = removed else {
            return Err(HandleError::Unknown);
        };
        let (buffer, ended) = {
            let mut timestamps = self.timestamps.lock();
            (timestamps.end_name(number), timestamps.end_idle(number))
        };
        if let Some(buffer) = buffer {
            self.device.unname_buffer(buffer);
        }
        if let Some(ended) = ended {
            ended.give_up(self.device);
        }
        Ok(())
    }

    /// Gives up the pools that were destroyed and that nothing waits for any more, which making another
    /// pool and closing the file do as well.
    pub fn reap_timestamps(&self) {
        loop {
            let ended = self.timestamps.lock().end_any_idle();
            match ended {
                Some(ended) => ended.give_up(self.device),
                None => return,
            }
        }
    }

    /// Asks for the time in slot `slot` of a pool when counter `counter` reaches `target`. `value` is
    /// where the counter is now, and `now` the time, in the unit that the embedder gives its users:
    /// the port reads the counter, and calls, such that an increase comes either before, and is in
    /// `value`, or with a [`counter_reached`](Self::counter_reached) after.
    ///
    /// The slot is zero from now until the target is reached. Registering a slot again replaces what
    /// it waited for.
    ///
    /// # Errors
    ///
    /// Each part that can refuse has its variant of [`RegisterTimestampError`].
    pub fn register_timestamp(
        &self,
        handle: RawHandle,
        slot: u64,
        (counter, target): (u64, u64),
        value: u64,
        now: NonZeroU64,
    ) -> Result<Registered, RegisterTimestampError> {
        self.usable()?;
        let handles = self.handles.lock();
        let stale = RegisterTimestampError::Handle(HandleError::Stale);
        let object = handles
            .get(handle, HandleKind::TimestampPool)
            .map_err(RegisterTimestampError::Handle)?;
        let Object(Named::Timestamps(number)) = object else {
            return Err(stale);
        };
        let Timestamps { places, waits } = &mut *self.timestamps.lock();
        let place = places.get_mut(*number).ok_or(stale)?;
        let State::Used { pool, .. } = &mut place.0 else {
            return Err(stale);
        };
        let counter = waits
            .counter(counter)
            .map_err(RegisterTimestampError::Counter)?;
        let wait = Wait {
            slot,
            counter,
            target,
        };
        waits
            .register(pool, wait, value, now)
            .map_err(RegisterTimestampError::Register)
    }

    /// Notes that a counter has reached `value`: writes the time into the slots that waited for that,
    /// [at most so many](REACHED_AT_A_TIME) of them, those with the lowest targets first. Where others are
    /// left, it says so, and is to be called again.
    ///
    /// May be called in the interrupt of the counter: it takes the
    /// [interrupt lock](crate::Port::InterruptLock) of the context's timestamps once, and calls nothing of
    /// the port but [`TimestampMemory::store`](crate::timestamps::TimestampMemory::store). How many wait is
    /// the user's choice, so a handler leaves the rest to a thread
    /// ([the chapter](crate::guide::timestamps#when-many-wait)). What is registered or destroyed between two
    /// calls is, or is not, among what the second finds, and nothing else is different.
    ///
    /// A pool that was destroyed and that nothing waits for any more goes with
    /// [`reap_timestamps`](Self::reap_timestamps).
    ///
    /// # Errors
    ///
    /// [`NoSuchCounter`].
    pub fn counter_reached(
        &self,
        counter: u64,
        value: u64,
        now: NonZeroU64,
    ) -> Result<CounterReached, NoSuchCounter> {
        let mut timestamps = self.timestamps.lock();
        let counter = timestamps.waits.counter(counter)?;
        let mut completed = 0;
        while completed < REACHED_AT_A_TIME {
            let Some(registration) = timestamps.waits.take_reached(counter, value) else {
                break;
            };
            completed += 1;
            if let Some(pool) = timestamps.pool_of(&registration) {
                // The pool's own registration is never refused.
                let _ = pool.complete(registration, now);
            }
        }
        let more = timestamps.waits.is_reached(counter, value);
        Ok(CounterReached { completed, more })
    }
}
