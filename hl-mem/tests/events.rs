//! Events: order, numbers and what is said about those that were lost.

use std::collections::VecDeque;
use std::num::NonZeroU64;

use hl_mem::events::{DeviceEvent, DeviceEvents, EventQueue, EventSlot, Report};
use hl_mem::mmu::{Fault, FaultKind};
use proptest::prelude::*;

type Queue = EventQueue<u32, Vec<EventSlot<u32>>>;

fn queue(depth: usize) -> Queue {
    EventQueue::new(vec![EventSlot::new(); depth])
}

fn event(sequence: u64, event: u32) -> Report<u32> {
    Report::Event { sequence, event }
}

fn lost<E>(first: u64, count: u64) -> Report<E> {
    let count = NonZeroU64::new(count).unwrap();
    Report::Lost { first, count }
}

fn all(queue: &mut Queue) -> Vec<Report<u32>> {
    std::iter::from_fn(|| queue.take()).collect()
}

/// Scenario Q-02.
#[test]
fn three_times_the_depth_unread_is_reported_by_count_and_later_events_come_in_order() {
    for depth in [2, 64] {
        let mut queue = queue(depth as usize);
        for n in 0..3 * depth {
            let posted = queue.post(n);
            assert_eq!(posted.sequence, u64::from(n));
            assert_eq!(posted.kept, n < depth);
            assert_eq!(posted.wake, n == 0);
        }
        let depth = u64::from(depth);
        assert_eq!((queue.posted(), queue.lost()), (3 * depth, 2 * depth));
        let mut expected: Vec<_> = (0..depth).map(|n| event(n, n as u32)).collect();
        expected.push(lost(depth, 2 * depth));
        assert_eq!(all(&mut queue), expected);

        // New events, as many as there is room for.
        for n in 0..depth {
            let posted = queue.post(1000 + n as u32);
            assert!(posted.kept);
            assert_eq!(posted.wake, n == 0);
        }
        let expected: Vec<_> = (0..depth)
            .map(|n| event(3 * depth + n, 1000 + n as u32))
            .collect();
        assert_eq!(all(&mut queue), expected);
    }
}

/// Scenario Q-02, where there is no memory for events at all.
#[test]
fn a_queue_without_a_place_still_counts() {
    let mut queue = queue(0);
    assert!(queue.post(1).wake);
    let posted = queue.post(2);
    assert!(!posted.kept && !posted.wake);
    assert_eq!(queue.take(), Some(lost(0, 2)));
    assert_eq!(queue.take(), None);
    assert!(queue.post(3).wake);
    assert_eq!(all(&mut queue), [lost(2, 1)]);
}

#[test]
fn losses_are_reported_in_their_place_between_events() {
    let mut queue = queue(2);
    for n in 0..3 {
        let _ = queue.post(n);
    }
    assert_eq!(queue.take(), Some(event(0, 0)));
    assert!(queue.post(3).kept);
    assert!(!queue.post(4).kept);
    assert_eq!(
        all(&mut queue),
        [event(1, 1), lost(2, 1), event(3, 3), lost(4, 1)]
    );
}

#[test]
fn a_report_that_was_not_confirmed_comes_again() {
    let mut queue = queue(1);
    let _ = queue.post(7);
    assert_eq!(queue.front(), Some(event(0, 7)));
    assert_eq!(queue.front(), Some(event(0, 7)));
    assert!(!queue.post(8).wake, "the reader has not read yet");
    queue.confirm(&event(0, 7)).unwrap();
    assert_eq!(queue.front(), Some(lost(1, 1)));
}

#[test]
fn what_is_lost_between_a_look_and_its_confirmation_is_reported_next() {
    let mut queue = queue(1);
    for n in 0..3 {
        let _ = queue.post(n);
    }
    assert_eq!(queue.take(), Some(event(0, 0)));
    let _ = queue.post(3);
    let report = queue.front().unwrap();
    assert_eq!(report, lost(1, 2));
    let _ = queue.post(4);
    queue.confirm(&report).unwrap();
    assert_eq!(all(&mut queue), [event(3, 3), lost(4, 1)]);
}

#[test]
fn a_loss_that_grows_between_a_look_and_its_confirmation_is_reported_in_two_parts() {
    let mut queue = queue(0);
    let _ = queue.post(0);
    let report = queue.front().unwrap();
    let _ = queue.post(1);
    queue.confirm(&report).unwrap();
    assert_eq!(all(&mut queue), [lost(1, 1)]);
}

#[test]
fn only_the_report_in_front_can_be_confirmed() {
    let mut queue = queue(2);
    for n in 0..3 {
        let _ = queue.post(n);
    }
    for wrong in [event(1, 1), lost(0, 1), lost(2, 1), event(3, 3)] {
        assert_eq!(queue.confirm(&wrong).unwrap_err().next, 0);
    }
    let first = queue.take().unwrap();
    assert_eq!(queue.confirm(&first).unwrap_err().next, 1);
    queue.take().unwrap();
    for wrong in [event(2, 2), lost(2, 2), lost(1, 1)] {
        assert_eq!(queue.confirm(&wrong).unwrap_err().next, 2);
    }
    assert_eq!(all(&mut queue), [lost(2, 1)]);
}

#[test]
fn storage_that_was_used_before_brings_no_old_events() {
    let mut slots = [EventSlot::new(); 3];
    let mut first = EventQueue::new(&mut slots[..]);
    for n in 0..3 {
        let _ = first.post(n);
    }
    let mut second = EventQueue::new(&mut slots[..]);
    assert_eq!(second.take(), None);
    let _ = second.post(9);
    assert_eq!(second.take(), Some(event(0, 9)));
}

#[test]
fn events_of_the_device_say_what_happened() {
    let texts = [
        DeviceEvent::ContextAborted,
        DeviceEvent::DeviceLost,
        DeviceEvent::DeviceRecovered,
    ]
    .map(|event| event.to_string());
    assert_eq!(
        texts,
        [
            "the context was aborted",
            "the device is lost",
            "the device works again"
        ]
    );
}

proptest! {
    /// A list of everything that was posted, with a mark at what found no room, is read back whole.
    #[test]
    fn what_is_kept_and_what_is_lost_are_together_all_that_was_posted(
        depth in 0usize..5,
        steps in prop::collection::vec(0u8..5, 1..200),
    ) {
        let mut queue = queue(depth);
        let mut model: VecDeque<Option<u32>> = VecDeque::new();
        let (mut posted, mut read) = (0u32, 0u64);
        for step in steps {
            if step < 3 {
                let kept = model.iter().flatten().count() < depth;
                let outcome = queue.post(posted);
                prop_assert_eq!(outcome.kept, kept);
                prop_assert_eq!(outcome.wake, model.is_empty());
                model.push_back(kept.then_some(posted));
                posted += 1;
            } else {
                match queue.take() {
                    None => prop_assert!(model.is_empty()),
                    Some(report) => {
                        prop_assert_eq!(report.first(), read);
                        read += report.count();
                        match report {
                            Report::Event { event, .. } => prop_assert_eq!(model.pop_front(), Some(Some(event))),
                            Report::Lost { count, .. } => {
                                for _ in 0..count.get() {
                                    prop_assert_eq!(model.pop_front(), Some(None));
                                }
                                prop_assert!(!matches!(model.front(), Some(None)));
                            }
                        }
                    }
                }
            }
            prop_assert_eq!(queue.kept(), model.iter().flatten().count());
        }
    }
}

/// A fault, of which only the number matters.
fn fault(instance: u8) -> DeviceEvent {
    DeviceEvent::Fault(Fault {
        kind: FaultKind::Page,
        at: None,
        instance,
    })
}

/// Reads everything.
fn told<S>(events: &mut DeviceEvents<S>) -> Vec<Report<DeviceEvent>>
where
    S: AsRef<[EventSlot<DeviceEvent>]> + AsMut<[EventSlot<DeviceEvent>]>,
{
    let mut told = Vec::new();
    while let Some(report) = events.front() {
        events.confirm(&report).unwrap();
        assert!(events.confirm(&report).is_err());
        told.push(report);
    }
    told
}

fn kept(sequence: u64, event: DeviceEvent) -> Report<DeviceEvent> {
    Report::Event { sequence, event }
}

#[test]
fn any_number_of_faults_leaves_room_for_what_becomes_of_the_device() {
    let mut events = DeviceEvents::new([EventSlot::new(); 2]);
    for instance in 0..5 {
        let _ = events.post(fault(instance));
    }
    assert!(events.post(DeviceEvent::DeviceLost).kept);
    let _ = events.post(fault(5));
    assert!(events.post(DeviceEvent::DeviceRecovered).kept);
    assert!(events.post(DeviceEvent::ContextAborted).kept);
    let expected = [
        kept(0, fault(0)),
        kept(1, fault(1)),
        lost(2, 3),
        kept(5, DeviceEvent::DeviceLost),
        lost(6, 1),
        kept(7, DeviceEvent::DeviceRecovered),
        kept(8, DeviceEvent::ContextAborted),
    ];
    assert_eq!(told(&mut events), expected);
    // There is room again, and a reader to wake.
    let posted = events.post(fault(6));
    assert!(posted.kept && posted.wake);
    assert_eq!(told(&mut events), [kept(9, fault(6))]);
}

#[test]
fn of_what_happens_again_and_again_the_first_and_the_last_time_are_told() {
    use DeviceEvent::{DeviceLost, DeviceRecovered};
    let mut events = DeviceEvents::new([EventSlot::new(); 2]);
    for _ in 0..3 {
        let _ = events.post(DeviceLost);
        let _ = events.post(DeviceRecovered);
    }
    let last = events.post(DeviceLost);
    assert_eq!(last.sequence, 6);
    // Whoever reads knows how it is now.
    let expected = [
        kept(0, DeviceLost),
        kept(1, DeviceRecovered),
        lost(2, 3),
        kept(5, DeviceRecovered),
        kept(6, DeviceLost),
    ];
    assert_eq!(told(&mut events), expected);
}

#[test]
fn a_reader_of_everything_is_woken_by_the_first_event_of_any_kind() {
    let mut events = DeviceEvents::new([EventSlot::new(); 2]);
    for first in [DeviceEvent::DeviceLost, fault(0), DeviceEvent::DeviceLost] {
        assert!(events.post(first).wake);
        assert!(!events.post(DeviceEvent::DeviceRecovered).wake);
        assert!(!events.post(fault(1)).wake);
        assert_eq!(told(&mut events).len(), 3);
    }
}

#[test]
fn a_loss_ends_where_something_was_kept_whether_in_the_queue_or_beside_it() {
    let mut events = DeviceEvents::new([EventSlot::new(); 2]);
    for instance in 0..3 {
        let _ = events.post(fault(instance));
    }
    // The third found no place; the fourth has that of the first.
    let first = events.front().unwrap();
    events.confirm(&first).unwrap();
    let _ = events.post(fault(3));
    let _ = events.post(DeviceEvent::DeviceLost);
    let expected = [
        kept(1, fault(1)),
        lost(2, 1),
        kept(3, fault(3)),
        kept(4, DeviceEvent::DeviceLost),
    ];
    assert_eq!(told(&mut events), expected);
}

#[test]
fn a_loss_beside_what_is_never_lost_may_grow_before_it_is_confirmed() {
    let no_room: [EventSlot<DeviceEvent>; 0] = [];
    let mut events = DeviceEvents::new(no_room);
    let _ = events.post(fault(0));
    let looked = events.front().unwrap();
    assert_eq!(looked, lost(0, 1));
    let _ = events.post(fault(1));
    events.confirm(&looked).unwrap();
    assert_eq!(told(&mut events), [lost(1, 1)]);
}
