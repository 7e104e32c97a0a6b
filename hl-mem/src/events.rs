//! Events from the driver to a user: a queue of fixed depth that says what it could not keep.
//!
//! The driver posts a small value when something happens that the user should know of: a fault of the
//! device, the end of a context. It posts in an interrupt as likely as not, so posting takes constant
//! time, needs no memory and cannot fail. The user reads when it likes, or not at all. What a device
//! posts and a context reads is in [the chapter](crate::guide::events).
//!
//! ```
//! use core::num::NonZeroU64;
//! use hl_mem::events::{DeviceEvent, EventQueue, EventSlot, Report};
//!
//! let mut queue = EventQueue::new([EventSlot::new(); 2]);
//! assert!(queue.post(DeviceEvent::ContextAborted).wake);
//! for _ in 0..3 {
//!     queue.post(DeviceEvent::DeviceLost);
//! }
//! let event = |sequence, event| Some(Report::Event { sequence, event });
//! assert_eq!(queue.take(), event(0, DeviceEvent::ContextAborted));
//! assert_eq!(queue.take(), event(1, DeviceEvent::DeviceLost));
//! let count = NonZeroU64::new(2).unwrap();
//! assert_eq!(queue.take(), Some(Report::Lost { first: 2, count }));
//! assert_eq!(queue.take(), None);
//! ```
//!
//! # Overflow
//!
//! Every event has a sequence number, from 0 on and without a gap, whether or not there is room for
//! it. When the queue is full the *new* event is lost: the first fault is the cause, and those that
//! follow it are mostly its consequences. The reader gets [`Report::Lost`] with the number of events
//! lost, in their place in the order, even if nothing comes after them. This needs no room: what was
//! lost is what is missing between the numbers of those kept. 64 bits of numbers do not wrap.
//!
//! # Delivery
//!
//! A report that could not be handed over must not be gone (a copy to user memory can fault). So a
//! reader looks with [`front`](EventQueue::front), hands the report over, and then
//! [confirms](EventQueue::confirm) that very report. If more was lost in between, the reader learns
//! of the difference next.
//!
//! # Locking
//!
//! The queue is a plain value. Whoever posts and whoever reads do so under a lock of the embedder's,
//! one that an interrupt handler can take.

mod lasting;

pub use lasting::DeviceEvents;

use core::fmt;
use core::marker::PhantomData;
use core::num::NonZeroU64;

use crate::mmu::Fault;

/// What the driver tells a user of the device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum DeviceEvent {
    /// An MMU stopped an access of the device.
    Fault(Fault),
    /// The driver ended the user's context; nothing of it runs any more.
    ContextAborted,
    /// The device does not answer or is about to be reset; posted by
    /// [`Device::note_lost`](crate::Device::note_lost).
    DeviceLost,
    /// The device works again, for contexts that are opened from now on.
    DeviceRecovered,
}

impl fmt::Display for DeviceEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fault(fault) => write!(f, "{fault}"),
            Self::ContextAborted => f.write_str("the context was aborted"),
            Self::DeviceLost => f.write_str("the device is lost"),
            Self::DeviceRecovered => f.write_str("the device works again"),
        }
    }
}

/// A place for one event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct EventSlot<E> {
    kept: Option<(u64, E)>,
}

impl<E> EventSlot<E> {
    /// A place without an event.
    #[must_use]
    pub const fn new() -> Self {
        Self { kept: None }
    }
}

impl<E> Default for EventSlot<E> {
    fn default() -> Self {
        Self::new()
    }
}

/// What became of an event that was posted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[must_use = "a reader that sleeps has to be woken"]
pub struct Posted {
    /// The number of the event.
    pub sequence: u64,
    /// Whether the event is in the queue. If not, it was lost and is reported as such.
    pub kept: bool,
    /// Whether there was nothing to read before, so that a reader that sleeps has to be woken.
    pub wake: bool,
}

/// What the reader is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Report<E> {
    /// An event.
    Event {
        /// Its number.
        sequence: u64,
        /// What happened.
        event: E,
    },
    /// Events for which there was no room.
    Lost {
        /// The number of the first of them.
        first: u64,
        /// How many.
        count: NonZeroU64,
    },
}

impl<E> Report<E> {
    /// The number of the first event that the report is about.
    #[must_use]
    pub const fn first(&self) -> u64 {
        match self {
            Self::Event { sequence, .. } => *sequence,
            Self::Lost { first, .. } => *first,
        }
    }

    /// The number of events that the report is about.
    #[must_use]
    pub const fn count(&self) -> u64 {
        match self {
            Self::Event { .. } => 1,
            Self::Lost { count, .. } => count.get(),
        }
    }
}

/// The report to confirm is not about the events that come next: it was confirmed before, or is of
/// another queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct NotInFront {
    /// The number of the event that comes next.
    pub next: u64,
}

impl fmt::Display for NotInFront {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the next report is about event {}", self.next)
    }
}

impl core::error::Error for NotInFront {}

/// The events that one user has not read.
///
/// See [the module](self). `S` holds the places: `[EventSlot<E>; N]`, `&mut [EventSlot<E>]`, or
/// anything else that always gives the same slice. A queue without a place works: it counts.
pub struct EventQueue<E, S> {
    slots: S,
    /// Where the oldest event is.
    oldest: usize,
    kept: usize,
    /// The number of the next event that is posted.
    next: u64,
    /// The number of the first event that was not reported.
    unread: u64,
    /// Events lost since the beginning.
    lost: u64,
    events: PhantomData<E>,
}

impl<E: Copy, S: AsRef<[EventSlot<E>]> + AsMut<[EventSlot<E>]>> EventQueue<E, S> {
    /// A queue with a place in each of `slots`. Whatever they held is forgotten.
    #[must_use]
    pub fn new(mut slots: S) -> Self {
        slots.as_mut().fill(EventSlot::new());
        Self {
            slots,
            oldest: 0,
            kept: 0,
            next: 0,
            unread: 0,
            lost: 0,
            events: PhantomData,
        }
    }

    /// Gives an event the next number and a place, if there is one.
    pub fn post(&mut self, event: E) -> Posted {
        let sequence = self.next;
        let wake = self.unread == self.next;
        let depth = self.depth();
        let after_newest = wrapped(self.oldest.saturating_add(self.kept), depth);
        let slot = self
            .slots
            .as_mut()
            .get_mut(after_newest)
            .filter(|_| self.kept < depth);
        let kept = slot.is_some();
        match slot {
            Some(slot) => {
                slot.kept = Some((sequence, event));
                self.kept += 1;
            }
            None => self.lost = self.lost.saturating_add(1),
        }
        self.next = sequence.saturating_add(1);
        Posted {
            sequence,
            kept,
            wake,
        }
    }

    /// Gives an event that is kept elsewhere the next number.
    fn pass(&mut self) -> Posted {
        let sequence = self.next;
        self.next = sequence.saturating_add(1);
        Posted {
            sequence,
            kept: true,
            wake: self.unread == sequence,
        }
    }

    /// What comes next, which stays there; `None` when everything was read.
    #[must_use]
    pub fn front(&self) -> Option<Report<E>> {
        let oldest = self
            .slots
            .as_ref()
            .get(self.oldest)
            .and_then(|slot| slot.kept);
        // Everything up to the oldest event in the queue, or up to now, was lost.
        let until = oldest.map_or(self.next, |(sequence, _)| sequence);
        let missing = until.saturating_sub(self.unread);
        match (NonZeroU64::new(missing), oldest) {
            (Some(count), _) => Some(Report::Lost {
                first: self.unread,
                count,
            }),
            (None, Some((sequence, event))) => Some(Report::Event { sequence, event }),
            (None, None) => None,
        }
    }

    /// Removes what a report was about, which was handed over.
    ///
    /// # Errors
    ///
    /// [`NotInFront`] if the report is not about what comes next. Nothing is removed then.
    pub fn confirm(&mut self, report: &Report<E>) -> Result<(), NotInFront> {
        let refused = NotInFront { next: self.unread };
        let front = self.front().ok_or(refused)?;
        if report.first() != self.unread || report.count() > front.count() {
            return Err(refused);
        }
        match (report, front) {
            (Report::Lost { count, .. }, Report::Lost { .. }) => {
                self.unread = self.unread.saturating_add(count.get());
                Ok(())
            }
            (Report::Event { .. }, Report::Event { .. }) => {
                if let Some(slot) = self.slots.as_mut().get_mut(self.oldest) {
                    slot.kept = None;
                }
                self.oldest = wrapped(self.oldest.saturating_add(1), self.depth());
                self.kept = self.kept.saturating_sub(1);
                self.unread = self.unread.saturating_add(1);
                Ok(())
            }
            _ => Err(refused),
        }
    }

    /// Removes and returns what comes next, for a reader that cannot fail to hand it over.
    pub fn take(&mut self) -> Option<Report<E>> {
        let report = self.front()?;
        // It is in front.
        self.confirm(&report).ok()?;
        Some(report)
    }

    /// How many events the queue can keep.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.slots.as_ref().len()
    }
}

impl<E, S> EventQueue<E, S> {
    /// How many events are in the queue.
    #[must_use]
    pub const fn kept(&self) -> usize {
        self.kept
    }

    /// How many events were posted since the beginning.
    #[must_use]
    pub const fn posted(&self) -> u64 {
        self.next
    }

    /// How many of them were lost, whether or not that was reported.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.lost
    }
}

impl<E, S> fmt::Debug for EventQueue<E, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventQueue")
            .field("kept", &self.kept)
            .field("posted", &self.next)
            .field("unread", &self.unread)
            .field("lost", &self.lost)
            .finish_non_exhaustive()
    }
}

#[cfg(feature = "defmt")]
impl<E, S> defmt::Format for EventQueue<E, S> {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(
            f,
            "EventQueue {{ kept: {=usize}, posted: {=u64}, unread: {=u64}, lost: {=u64} }}",
            self.kept,
            self.next,
            self.unread,
            self.lost
        );
    }
}

/// A place that was counted at most one lap beyond the end.
const fn wrapped(place: usize, depth: usize) -> usize {
    if place >= depth { place - depth } else { place }
}
