//! What a user is told of a device: faults, of which some may be lost, and turns of fate, of which none is.

use super::{DeviceEvent, EventQueue, EventSlot, NotInFront, Posted, Report};

/// Kinds of events that are not lost.
const LASTING: usize = 3;

impl DeviceEvent {
    /// The number of its kind among those that are not lost; `None` for one that may be.
    const fn lasting(self) -> Option<usize> {
        match self {
            Self::Fault(_) => None,
            Self::ContextAborted => Some(0),
            Self::DeviceLost => Some(1),
            Self::DeviceRecovered => Some(2),
        }
    }
}

/// The unread events of one kind that is not lost: the first and, where there are more, the last. Those
/// between say nothing that the last does not.
#[derive(Clone, Copy, Debug)]
struct Ends {
    event: DeviceEvent,
    first: Option<u64>,
    last: Option<u64>,
}

impl Ends {
    const fn of(event: DeviceEvent) -> Self {
        Self {
            event,
            first: None,
            last: None,
        }
    }
}

/// The events of a device that one user has not read.
///
/// Faults are in an [`EventQueue`], whose places `S` run out when many come. What becomes of the device
/// and of the context does not depend on that: of each such kind the first unread event and the last
/// one are kept beside the queue, in their place in the order. A user whose device is lost is told so,
/// whoever else's engine faults without an end.
///
/// ```
/// use hl_mem::events::{DeviceEvent, DeviceEvents, EventSlot, Report};
///
/// let mut events = DeviceEvents::new([EventSlot::new(); 0]);
/// for event in [DeviceEvent::DeviceLost, DeviceEvent::DeviceRecovered] {
///     assert!(events.post(event).kept);
///     events.post(event);
///     events.post(event);
/// }
/// let mut told = Vec::new();
/// while let Some(report) = events.front() {
///     events.confirm(&report)?;
///     if let Report::Event { event, .. } = report {
///         told.push(event);
///     }
/// }
/// use DeviceEvent::{DeviceLost, DeviceRecovered};
/// assert_eq!(told, [DeviceLost, DeviceLost, DeviceRecovered, DeviceRecovered]);
/// # Ok::<(), hl_mem::events::NotInFront>(())
/// ```
#[derive(Debug)]
pub struct DeviceEvents<S> {
    queue: EventQueue<DeviceEvent, S>,
    lasting: [Ends; LASTING],
}

impl<S: AsRef<[EventSlot<DeviceEvent>]> + AsMut<[EventSlot<DeviceEvent>]>> DeviceEvents<S> {
    /// The places, whatever is in them.
    pub(crate) fn into_slots(self) -> S {
        self.queue.slots
    }

    /// No events, and room for a fault in each of `slots`. Whatever they held is forgotten.
    #[must_use]
    pub fn new(slots: S) -> Self {
        Self {
            queue: EventQueue::new(slots),
            lasting: [
                Ends::of(DeviceEvent::ContextAborted),
                Ends::of(DeviceEvent::DeviceLost),
                Ends::of(DeviceEvent::DeviceRecovered),
            ],
        }
    }

    /// Gives an event the next number and a place; a fault, if there is one.
    pub fn post(&mut self, event: DeviceEvent) -> Posted {
        let Some(ends) = event.lasting().and_then(|kind| self.lasting.get_mut(kind)) else {
            return self.queue.post(event);
        };
        let posted = self.queue.pass();
        match ends.first {
            None => ends.first = Some(posted.sequence),
            Some(_) => ends.last = Some(posted.sequence),
        }
        posted
    }

    /// What comes next, which stays there; `None` when everything was read.
    #[must_use]
    pub fn front(&self) -> Option<Report<DeviceEvent>> {
        let front = self.queue.front()?;
        let Report::Lost { first, count } = front else {
            return Some(front);
        };
        // What is kept beside the queue is missing in it.
        let unread = self.lasting.iter();
        let kept = unread.filter_map(|ends| Some((ends.first?, ends.event)));
        let next = kept.min_by_key(|(sequence, _)| *sequence);
        let before = |sequence: u64| core::num::NonZeroU64::new(sequence.saturating_sub(first));
        match next {
            Some((sequence, event)) if sequence < first.saturating_add(count.get()) => {
                Some(match before(sequence) {
                    Some(count) => Report::Lost { first, count },
                    None => Report::Event { sequence, event },
                })
            }
            _ => Some(front),
        }
    }

    /// Removes what a report was about, which was handed over.
    ///
    /// # Errors
    ///
    /// [`NotInFront`] if the report is not about what comes next. Nothing is removed then.
    pub fn confirm(&mut self, report: &Report<DeviceEvent>) -> Result<(), NotInFront> {
        let next = self.queue.unread;
        let front = self.front().ok_or(NotInFront { next })?;
        if report.first() != front.first() || report.count() > front.count() {
            return Err(NotInFront { next });
        }
        let Report::Event { sequence, event } = front else {
            return self.queue.confirm(report);
        };
        let kind = event.lasting();
        let Some(ends) = kind.and_then(|kind| self.lasting.get_mut(kind)) else {
            return self.queue.confirm(report);
        };
        if !matches!(report, Report::Event { .. }) {
            return Err(NotInFront { next });
        }
        ends.first = ends.last.take();
        self.queue.unread = sequence.saturating_add(1);
        Ok(())
    }
}

#[cfg(feature = "defmt")]
impl<S> defmt::Format for DeviceEvents<S> {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "{}", self.queue);
    }
}
