//! Drops are counted and sleepers are woken: what one thread can show. The models under loom show
//! what two can.
#![cfg(not(loom))]

use core::sync::atomic::AtomicU32;
use std::cell::Cell;

use hl_mem::ring::{
    BlockFence, BlockIndices, BlockLayout, BlockRead, BlockWrite, Consumer, PopError, Producer,
    PushError, Pushed, SharedWords, WakeRequest,
};
use proptest::prelude::*;

const RECORD: usize = 8;
const FIRST_INDICES: [u32; 3] = [0, u32::MAX - 2, 1 << 31];

struct Ring {
    layout: BlockLayout,
    words: Vec<AtomicU32>,
    /// Stores to this offset fail.
    broken: Cell<Option<u64>>,
}

#[derive(Clone, Copy)]
struct View<'a>(&'a Ring);

#[derive(Clone, Copy, Debug, PartialEq)]
struct Fault;

impl View<'_> {
    fn words(&self) -> SharedWords<'_> {
        SharedWords::new(&self.0.words)
    }
}

impl BlockIndices for View<'_> {
    type Error = Fault;
    fn load_index(&mut self, offset: u64) -> Result<u32, Fault> {
        if self.0.broken.get() == Some(offset) {
            return Err(Fault);
        }
        Ok(self.words().load_index(offset).unwrap())
    }
    fn store_index(&mut self, offset: u64, index: u32) -> Result<(), Fault> {
        if self.0.broken.get() == Some(offset) {
            return Err(Fault);
        }
        self.words().store_index(offset, index).unwrap();
        Ok(())
    }
}

impl BlockFence for View<'_> {
    fn fence(&mut self) -> Result<(), Fault> {
        Ok(())
    }
}

impl BlockRead for View<'_> {
    fn read(&mut self, offset: u64, bytes: &mut [u8]) -> Result<(), Fault> {
        self.words().read(offset, bytes).unwrap();
        Ok(())
    }
}

impl BlockWrite for View<'_> {
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Fault> {
        self.words().write(offset, bytes).unwrap();
        Ok(())
    }
}

impl Ring {
    fn new(capacity: u32, first_index: u32) -> Self {
        let layout = BlockLayout::new(4096, RECORD as u32, capacity).unwrap();
        let words: Vec<_> = (0..layout.block_len() / 4)
            .map(|_| AtomicU32::new(0))
            .collect();
        layout
            .initialize(&mut SharedWords::new(&words), first_index)
            .unwrap();
        Self {
            layout,
            words,
            broken: Cell::new(None),
        }
    }

    fn ends(&self) -> (Producer<View<'_>>, Consumer<View<'_>>) {
        (
            Producer::attach(View(self), self.layout).unwrap(),
            Consumer::attach(View(self), self.layout).unwrap(),
        )
    }
}

fn pop(consumer: &mut Consumer<View<'_>>) -> Result<(), PopError<Fault>> {
    consumer.pop(&mut [0; RECORD])
}

fn lost(pushed: u32, dropped: u32) -> Result<Pushed, PushError<Fault>> {
    Ok(Pushed { pushed, dropped })
}

#[test]
fn what_finds_no_room_is_counted_and_the_count_is_told_once() {
    for first_index in FIRST_INDICES {
        let ring = Ring::new(4, first_index);
        let (mut producer, mut consumer) = ring.ends();
        assert_eq!(consumer.dropped(), Ok(0));
        assert_eq!(producer.push_or_drop(&[1; RECORD * 6]), lost(4, 2));
        assert_eq!(producer.push_or_drop(&[1; RECORD]), lost(0, 1));
        assert_eq!(consumer.dropped(), Ok(3));
        assert_eq!(consumer.dropped(), Ok(0));
        pop(&mut consumer).unwrap();
        assert_eq!(producer.push_or_drop(&[1; RECORD * 2]), lost(1, 1));
        assert_eq!(consumer.dropped(), Ok(1));
        assert_eq!(producer.push_or_drop(&[]), lost(0, 0));
    }
}

#[test]
fn the_count_goes_on_under_the_next_producer_and_is_told_again_to_the_next_consumer() {
    let ring = Ring::new(1, 0);
    let (mut producer, mut consumer) = ring.ends();
    producer.push_or_drop(&[0; RECORD * 3]).unwrap();
    assert_eq!(consumer.dropped(), Ok(2));
    let (mut producer, mut second) = ring.ends();
    assert_eq!(producer.push_or_drop(&[0; RECORD]), lost(0, 1));
    assert_eq!(consumer.dropped(), Ok(1));
    assert_eq!(second.dropped(), Ok(3));
}

#[test]
fn the_count_wraps_without_losing_any() {
    let ring = Ring::new(1, 0);
    let (mut producer, mut consumer) = ring.ends();
    producer.count_dropped(u32::MAX - 1);
    assert_eq!(consumer.dropped(), Ok(u32::MAX - 1));
    producer.count_dropped(5);
    assert_eq!(consumer.dropped(), Ok(5));
}

#[test]
fn a_count_that_cannot_be_stored_holds_the_next_record_back() {
    let ring = Ring::new(2, 0);
    let (mut producer, mut consumer) = ring.ends();
    ring.broken.set(Some(ring.layout.dropped_offset()));
    assert_eq!(producer.push_or_drop(&[0; RECORD * 5]), lost(2, 3));
    pop(&mut consumer).unwrap();
    assert_eq!(producer.push(&[0; RECORD]), Err(PushError::Memory(Fault)));
    assert_eq!(consumer.occupied(), Ok(1));
    ring.broken.set(None);
    producer.push(&[0; RECORD]).unwrap();
    assert_eq!(consumer.dropped(), Ok(3));
}

#[test]
fn ends_that_poll_ring_no_doorbell() {
    for first_index in FIRST_INDICES {
        let ring = Ring::new(4, first_index);
        let (mut producer, mut consumer) = ring.ends();
        for _ in 0..100 {
            producer.push(&[0; RECORD]).unwrap();
            assert_eq!(producer.owes_wake(), Ok(false));
            pop(&mut consumer).unwrap();
            assert_eq!(consumer.owes_wake(), Ok(false));
        }
    }
}

#[test]
fn a_request_is_answered_once_and_at_the_record_it_names() {
    for first_index in FIRST_INDICES {
        let ring = Ring::new(8, first_index);
        let (mut producer, mut consumer) = ring.ends();
        assert_eq!(consumer.request_wake(3), Ok(WakeRequest::Armed));
        let answers: Vec<_> = (0..8)
            .map(|_| {
                producer.push(&[0; RECORD]).unwrap();
                producer.owes_wake().unwrap()
            })
            .collect();
        assert_eq!(
            answers,
            [false, false, true, false, false, false, false, false]
        );

        // The producer waits for five free records, and gets its answer from a batch of six.
        assert_eq!(producer.request_wake(5), Ok(WakeRequest::Armed));
        pop(&mut consumer).unwrap();
        assert_eq!(consumer.owes_wake(), Ok(false));
        consumer.pop_batch(&mut [0; RECORD * 6]).unwrap();
        assert_eq!(consumer.owes_wake(), Ok(true));
        assert_eq!(consumer.owes_wake(), Ok(false));
        assert_eq!(producer.request_wake(5), Ok(WakeRequest::Ready));
    }
}

#[test]
fn the_next_producer_rings_for_what_the_last_one_pushed() {
    let ring = Ring::new(4, 0);
    let (mut producer, mut consumer) = ring.ends();
    assert_eq!(consumer.request_wake(1), Ok(WakeRequest::Armed));
    producer.push(&[0; RECORD]).unwrap();
    let (mut next, _) = ring.ends();
    assert_eq!(next.owes_wake(), Ok(true));
}

#[test]
fn a_failed_look_at_the_request_is_made_up_for() {
    let ring = Ring::new(4, 0);
    let (mut producer, mut consumer) = ring.ends();
    assert_eq!(consumer.request_wake(1), Ok(WakeRequest::Armed));
    producer.push(&[0; RECORD]).unwrap();
    ring.broken.set(Some(ring.layout.consumer_wake_offset()));
    assert_eq!(producer.owes_wake(), Err(Fault));
    ring.broken.set(None);
    assert_eq!(producer.owes_wake(), Ok(true));
}

#[test]
fn a_request_for_none_or_for_more_than_the_ring_holds_is_one_for_the_nearest_possible() {
    let ring = Ring::new(2, 0);
    let (mut producer, mut consumer) = ring.ends();
    assert_eq!(consumer.request_wake(0), Ok(WakeRequest::Armed));
    producer.push(&[0; RECORD]).unwrap();
    assert_eq!(producer.owes_wake(), Ok(true));
    assert_eq!(consumer.request_wake(u32::MAX), Ok(WakeRequest::Armed));
    producer.push(&[0; RECORD]).unwrap();
    assert_eq!(producer.owes_wake(), Ok(true));
}

/// A wake-up must not be lost where so many records passed unannounced that the count of them
/// would wrap.
#[test]
fn records_that_nobody_announced_do_not_hide_a_request() {
    let ring = Ring::new(2, 0);
    let (mut producer, mut consumer) = ring.ends();
    for _ in 0..1000 {
        producer.push(&[0; RECORD]).unwrap();
        pop(&mut consumer).unwrap();
    }
    assert_eq!(consumer.request_wake(1), Ok(WakeRequest::Armed));
    producer.push(&[0; RECORD]).unwrap();
    assert_eq!(producer.owes_wake(), Ok(true));
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Push(u32),
    Announce,
    Pop(u32),
    Request(u32),
}

proptest! {
    /// Whenever a consumer that may sleep has what it asked for and the producer has announced all,
    /// it was woken; and for one request at most once.
    #[test]
    fn a_sleeper_is_woken_once_when_there_is_what_it_asked_for(
        first_index in prop::sample::select(&FIRST_INDICES[..]),
        steps in prop::collection::vec(
            prop_oneof![
                (1u32..4).prop_map(Step::Push),
                Just(Step::Announce),
                (1u32..4).prop_map(Step::Pop),
                (1u32..5).prop_map(Step::Request),
            ],
            1..200,
        ),
    ) {
        let ring = Ring::new(4, first_index);
        let (mut producer, mut consumer) = ring.ends();
        let mut occupied = 0;
        // What a consumer that was told it may sleep waits for.
        let mut asleep: Option<u32> = None;
        let mut rings = 0;
        for step in steps {
            match step {
                Step::Push(count) => {
                    let pushed = producer.push_batch(&vec![0; RECORD * count as usize]);
                    occupied += pushed.unwrap_or(0);
                }
                Step::Announce => {
                    if producer.owes_wake().unwrap() {
                        rings += 1;
                        prop_assert!(rings <= 1, "a second ring for one request");
                        asleep = None;
                    }
                    prop_assert!(asleep.is_none_or(|wanted| occupied < wanted), "slept on");
                }
                Step::Pop(count) if asleep.is_none() => {
                    let popped = consumer.pop_batch(&mut vec![0; RECORD * count as usize]);
                    occupied -= popped.unwrap_or(0);
                }
                Step::Request(wanted) if asleep.is_none() => {
                    rings = 0;
                    match consumer.request_wake(wanted).unwrap() {
                        WakeRequest::Armed => {
                            prop_assert!(occupied < wanted);
                            asleep = Some(wanted);
                        }
                        WakeRequest::Ready => prop_assert!(occupied >= wanted),
                    }
                }
                Step::Pop(_) | Step::Request(_) => {}
            }
        }
    }
}
