//! What waits for the counters of one buffer.

use core::fmt;
use core::num::NonZeroU64;

use super::heap::{self, Links, NONE, Nodes};
use super::{
    NoSuchCounter, RegisterError, Registration, StillWaiting, TimestampMemory, TimestampPool,
    TimestampSlot,
};
use crate::identity::Identity;

/// Names a counter of a buffer by an index that was checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Counter(u32);

impl Counter {
    /// The index of the counter in its buffer.
    #[must_use]
    pub const fn index(self) -> u32 {
        self.0
    }
}

/// What a user asks for: the time in a slot of a pool when a counter reaches a target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Wait {
    /// The slot, as the user names it.
    pub slot: u64,
    /// The counter.
    pub counter: Counter,
    /// The value at which the counter has reached the target; so has any greater one.
    pub target: u64,
}

/// What became of a registration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Registered {
    /// It waits.
    Pending,
    /// The target was reached before: the timestamp is in the slot.
    Reached,
}

/// Names a registration that waits. It names no other later.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct WaitPlace {
    waits: Identity,
    node: u32,
    ticket: u64,
}

/// A place for one registration that waits.
#[derive(Debug)]
pub struct WaitSlot {
    links: Links,
    counter: u32,
    registration: Option<Registration>,
}

impl WaitSlot {
    /// A place where nothing waits.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            links: Links::single((0, 0)),
            counter: 0,
            registration: None,
        }
    }

    #[cfg(test)]
    pub(super) fn is_used(&self) -> bool {
        self.registration.is_some()
    }
}

impl Default for WaitSlot {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for WaitSlot {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "WaitSlot({})", self.registration);
    }
}

impl Nodes for [WaitSlot] {
    fn links(&self, node: u32) -> Option<&Links> {
        self.get(usize::try_from(node).ok()?)
            .map(|slot| &slot.links)
    }

    fn links_mut(&mut self, node: u32) -> Option<&mut Links> {
        self.get_mut(usize::try_from(node).ok()?)
            .map(|slot| &mut slot.links)
    }
}

/// The record of one counter.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct CounterSlot {
    /// What is reached first.
    root: u32,
}

impl CounterSlot {
    /// A counter that nothing waits for.
    #[must_use]
    pub const fn new() -> Self {
        Self { root: NONE }
    }
}

impl Default for CounterSlot {
    fn default() -> Self {
        Self::new()
    }
}

/// The registrations that wait for the counters of one buffer.
///
/// See [the module](super) for an example. `S` holds a [`WaitSlot`] for each registration that can
/// wait at a time, `C` a [`CounterSlot`] for each counter: arrays, mutable slices, or anything else
/// that always gives the same slice. Every operation takes O(log *n*) for *n* registrations with the
/// counter, but for [`take_any`](Self::take_any).
pub struct CounterWaits<S, C> {
    slots: S,
    counters: C,
    capacity: u32,
    counter_count: u32,
    waiting: u32,
    /// The first vacant place. Vacant places are linked by `left`.
    vacant: u32,
    /// No counter below this one is waited for.
    idle_below: u32,
    /// The ticket of the next registration. 64 bits of them do not wrap.
    ticket: u64,
    identity: Identity,
}

impl<S, C> CounterWaits<S, C>
where
    S: AsRef<[WaitSlot]> + AsMut<[WaitSlot]>,
    C: AsRef<[CounterSlot]> + AsMut<[CounterSlot]>,
{
    /// Nothing waits for any of `counters`. Whatever the storage held is forgotten; places and
    /// counters beyond 2^32 - 1 are not used.
    #[must_use]
    pub fn new(mut slots: S, mut counters: C) -> Self {
        let mut vacant = NONE;
        let mut capacity = 0;
        for (slot, number) in slots.as_mut().iter_mut().zip(0..NONE) {
            *slot = WaitSlot::new();
            slot.links.left = vacant;
            vacant = number;
            capacity = number + 1;
        }
        let mut counter_count = 0;
        for (counter, number) in counters.as_mut().iter_mut().zip(0..NONE) {
            *counter = CounterSlot::new();
            counter_count = number + 1;
        }
        Self {
            slots,
            counters,
            capacity,
            counter_count,
            waiting: 0,
            vacant,
            idle_below: 0,
            ticket: 0,
            identity: Identity::new(),
        }
    }

    /// Registers a slot of a pool with a counter that is at `value`. Where the target is reached
    /// already, the timestamp is `now` and nothing waits.
    ///
    /// A registration of the slot that waits for this buffer is replaced and gets no timestamp.
    ///
    /// # Errors
    ///
    /// None of them changes anything, and an earlier registration of the slot goes on.
    ///
    /// * [`RegisterError::Slot`]: the pool has no such slot.
    /// * [`RegisterError::Closed`]: the pool is closed.
    /// * [`RegisterError::Counter`]: the counter is of a larger buffer.
    /// * [`RegisterError::Pending`]: the slot is registered, but does not wait for this buffer.
    /// * [`RegisterError::Full`]: no place is left for another registration.
    pub fn register<M: TimestampMemory, P: AsRef<[TimestampSlot]> + AsMut<[TimestampSlot]>>(
        &mut self,
        pool: &mut TimestampPool<M, P>,
        wait: Wait,
        value: u64,
        now: NonZeroU64,
    ) -> Result<Registered, RegisterError> {
        let (slot, earlier) = pool.check(wait.slot)?;
        let counter = self
            .counter(u64::from(wait.counter.0))
            .map_err(RegisterError::Counter)?;
        let reached = wait.target <= value;
        match earlier {
            Some(place) => {
                let Some(registration) = self.cancel(place) else {
                    return Err(RegisterError::Pending { place });
                };
                // The slot says that it waits under this name, so the registration is the pool's.
                let _ = pool.cancel(registration);
            }
            None if !reached && self.vacant == NONE => {
                return Err(RegisterError::Full {
                    capacity: self.capacity,
                });
            }
            None => {}
        }
        if reached {
            pool.reached(slot, now);
            return Ok(Registered::Reached);
        }

        let node = self.vacant;
        let place = WaitPlace {
            waits: self.identity,
            node,
            ticket: self.ticket,
        };
        let nodes = self.slots.as_mut();
        if let (Some(vacant), Some(counter_slot)) = (
            nodes.get_mut(node as usize),
            self.counters.as_mut().get_mut(counter.0 as usize),
        ) {
            self.vacant = vacant.links.left;
            *vacant = WaitSlot {
                links: Links::single((wait.target, self.ticket)),
                counter: counter.0,
                registration: Some(pool.begin(slot, place)),
            };
            counter_slot.root = heap::join(nodes, counter_slot.root, node);
            self.ticket = self.ticket.saturating_add(1);
            self.waiting += 1;
            self.idle_below = self.idle_below.min(counter.0);
        }
        Ok(Registered::Pending)
    }

    /// Takes out the registration with the lowest target that a counter at `value` has reached. It
    /// is to be [completed](TimestampPool::complete) by its [pool](Registration::pool).
    ///
    /// `None` where there is none.
    pub fn take_reached(&mut self, counter: Counter, value: u64) -> Option<Registration> {
        let reached = self.first_reached(counter, value)?;
        self.take_out(reached)
    }

    /// Whether [`take_reached`](Self::take_reached) takes one out.
    #[must_use]
    pub fn is_reached(&self, counter: Counter, value: u64) -> bool {
        self.first_reached(counter, value).is_some()
    }

    fn first_reached(&self, counter: Counter, value: u64) -> Option<u32> {
        let root = self.root(counter.0)?;
        let (target, _) = self.slots.as_ref().links(root)?.key;
        (target <= value).then_some(root)
    }

    /// Takes out a registration that waits, to be [cancelled](TimestampPool::cancel) by its pool.
    /// `None` if it does not wait here, or not any more.
    pub fn cancel(&mut self, place: WaitPlace) -> Option<Registration> {
        let slot = self.slots.as_ref().get(place.node as usize)?;
        let (_, ticket) = slot.links.key;
        if place.waits != self.identity || ticket != place.ticket || slot.registration.is_none() {
            return None;
        }
        self.take_out(place.node)
    }

    /// Takes out any registration that waits, to be [cancelled](TimestampPool::cancel) by its
    /// [pool](Registration::pool), until there is none: what happens when the buffer goes away.
    ///
    /// Going through all *c* counters this way adds O(*c*) to the cost of what is taken out.
    pub fn take_any(&mut self) -> Option<Registration> {
        while self.idle_below < self.counter_count {
            if let Some(root) = self.root(self.idle_below) {
                return self.take_out(root);
            }
            self.idle_below += 1;
        }
        None
    }

    /// Checks the index of a counter, as a user names it.
    ///
    /// # Errors
    ///
    /// [`NoSuchCounter`] if the buffer has no such counter.
    pub fn counter(&self, index: u64) -> Result<Counter, NoSuchCounter> {
        u32::try_from(index)
            .ok()
            .filter(|&number| number < self.counter_count)
            .map(Counter)
            .ok_or(NoSuchCounter {
                index,
                counters: self.counter_count,
            })
    }

    /// The first of those that wait for a counter.
    fn root(&self, counter: u32) -> Option<u32> {
        let slot = self.counters.as_ref().get(counter as usize)?;
        (slot.root != NONE).then_some(slot.root)
    }

    fn take_out(&mut self, node: u32) -> Option<Registration> {
        let nodes = self.slots.as_mut();
        let slot = nodes.get_mut(node as usize)?;
        let registration = slot.registration.take()?;
        let counter = slot.counter as usize;
        if let Some(counter) = self.counters.as_mut().get_mut(counter) {
            counter.root = heap::remove(nodes, counter.root, node);
        }
        if let Some(links) = nodes.links_mut(node) {
            links.left = self.vacant;
            self.vacant = node;
        }
        self.waiting = self.waiting.saturating_sub(1);
        Some(registration)
    }

    #[cfg(test)]
    pub(super) fn heap_of(&self, counter: u32) -> (u32, &[WaitSlot]) {
        (self.root(counter).unwrap_or(NONE), self.slots.as_ref())
    }
}

impl<S, C> CounterWaits<S, C> {
    /// How many registrations wait.
    #[must_use]
    pub const fn waiting(&self) -> u32 {
        self.waiting
    }

    /// How many registrations can wait at a time.
    #[must_use]
    pub const fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Gives the storage back, if nothing waits.
    ///
    /// # Errors
    ///
    /// [`StillWaiting`], with everything unchanged inside.
    pub fn release(self) -> Result<(S, C), StillWaiting<S, C>> {
        if self.waiting == 0 {
            Ok((self.slots, self.counters))
        } else {
            Err(StillWaiting(self))
        }
    }
}

impl<S, C> fmt::Debug for CounterWaits<S, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CounterWaits")
            .field("counters", &self.counter_count)
            .field("waiting", &self.waiting)
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}

#[cfg(feature = "defmt")]
impl<S, C> defmt::Format for CounterWaits<S, C> {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(
            f,
            "CounterWaits {{ counters: {=u32}, waiting: {=u32}, capacity: {=u32} }}",
            self.counter_count,
            self.waiting,
            self.capacity
        );
    }
}
