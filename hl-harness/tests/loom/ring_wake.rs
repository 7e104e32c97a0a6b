//! Requests to be woken, and the count of drops.
//!
//! What a sleeper must not miss is a ring for something that it did not see before it slept. So the
//! models do not sleep: an end that was told it may sleep does nothing more, and in the end there
//! must have been a ring for what it waits for.

use hl_mem::ring::{
    BlockIndices, BlockLayout, BlockRead, BlockWrite, Consumer, PopError, Producer, Pushed,
    SharedWordsError, WakeRequest,
};
use loom::thread;

use crate::ring::{Block, DROPPED, PRODUCER_INDEX, RECORD, Relaxed, record};
use crate::{expect_failure, explore};

const LOST_WAKE: &str = "a wake-up was lost";

/// A producer pushes two records and rings where it has to, while the consumer asks to be woken at
/// the first or at both, and perhaps takes what is there and asks again.
fn consumer_sleeps(first_index: u32, wanted: u32, relaxed: Option<Relaxed>) {
    let (mut producer, mut consumer) = Block::with_capacity(2, first_index, false, relaxed).ends();
    let device = thread::spawn(move || {
        let mut rings = 0;
        for n in 0..2 {
            producer.push(&record(n)).unwrap();
            rings += u32::from(producer.owes_wake().unwrap());
        }
        rings
    });
    let mut popped = 0;
    let asleep = loop {
        match consumer.request_wake(wanted).unwrap() {
            WakeRequest::Armed => break true,
            WakeRequest::Ready => popped += consumer.pop_batch(&mut [0; RECORD * 2]).unwrap(),
        }
        if popped == 2 {
            break false;
        }
    };
    let rings = device.join().unwrap();
    let waiting = 2 - popped;
    assert!(!asleep || waiting < wanted || rings > 0, "{LOST_WAKE}");
    // Overtaken requests may have been answered: one for each request at most.
    assert!(rings <= 2);
}

/// Proves that a consumer that was told it may sleep is woken for the record it waits for.
#[test]
fn no_wake_up_of_the_consumer_is_lost() {
    explore("a consumer that was told it may sleep is woken", || {
        consumer_sleeps(0, 1, None)
    });
}

/// Proves the same for a batch, where the indices wrap between its records.
#[test]
fn no_wake_up_for_a_batch_is_lost_across_the_wrap() {
    explore("the same for a batch across the wrap", || {
        consumer_sleeps(u32::MAX, 2, None)
    });
}

/// A producer in front of a full ring asks to be woken while the consumer takes a record.
fn producer_sleeps(relaxed: Option<Relaxed>) {
    let (mut producer, mut consumer) = Block::with_capacity(2, 0, false, relaxed).ends();
    producer.push_batch(&[0; RECORD * 2]).unwrap();
    let user = thread::spawn(move || {
        consumer.pop(&mut [0; RECORD]).unwrap();
        consumer.owes_wake().unwrap()
    });
    let request = producer.request_wake(1).unwrap();
    let rang = user.join().unwrap();
    assert!(request == WakeRequest::Ready || rang, "{LOST_WAKE}");
}

/// Proves that a producer that was told it may sleep is woken when there is room.
#[test]
fn no_wake_up_of_the_producer_is_lost() {
    explore("a producer that was told it may sleep is woken", || {
        producer_sleeps(None)
    });
}

/// Without the fence each side may look before its own store is seen: the one sleeps, the other does
/// not ring.
#[test]
fn a_missing_fence_loses_the_wake_up_of_the_consumer() {
    expect_failure(
        "the fence between own store and look is missing",
        LOST_WAKE,
        || consumer_sleeps(0, 1, Some(Relaxed::Fence)),
    );
}

#[test]
fn a_missing_fence_loses_the_wake_up_of_the_producer() {
    expect_failure(
        "the fence between own store and look is missing",
        LOST_WAKE,
        || producer_sleeps(Some(Relaxed::Fence)),
    );
}

/// A view through which the count of drops is stored, if `late`, after the index that follows it.
struct Late {
    block: Block,
    late: bool,
    held: Option<u32>,
}

impl BlockIndices for Late {
    type Error = SharedWordsError;

    fn load_index(&mut self, offset: u64) -> Result<u32, SharedWordsError> {
        self.block.load_index(offset)
    }

    fn store_index(&mut self, offset: u64, index: u32) -> Result<(), SharedWordsError> {
        if self.late && offset == DROPPED {
            self.held = Some(index);
            return Ok(());
        }
        self.block.store_index(offset, index)?;
        match self.held.take_if(|_| offset == PRODUCER_INDEX) {
            Some(count) => self.block.store_index(DROPPED, count),
            None => Ok(()),
        }
    }
}

impl BlockRead for Late {
    fn read(&mut self, offset: u64, bytes: &mut [u8]) -> Result<(), SharedWordsError> {
        self.block.read(offset, bytes)
    }
}

impl BlockWrite for Late {
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), SharedWordsError> {
        self.block.write(offset, bytes)
    }
}

const SILENT: &str = "a drop was not reported";
const OFFERED: u32 = 3;

/// A producer that does not wait offers three records to a ring of one.
fn overflow(late: bool) {
    let block = Block::with_capacity(1, u32::MAX, false, None);
    let layout = BlockLayout::new(4096, RECORD as u32, 1).unwrap();
    let view = |late| Late {
        block: block.clone(),
        late,
        held: None,
    };
    let mut producer = Producer::attach(view(late), layout).unwrap();
    let mut consumer = Consumer::attach(view(false), layout).unwrap();
    let device = thread::spawn(move || {
        let mut dropped = 0;
        for n in 0..OFFERED {
            let Pushed { dropped: more, .. } = producer.push_or_drop(&record(n)).unwrap();
            dropped += more;
        }
        dropped
    });
    let (mut popped, mut reported) = (0, 0);
    let mut take = |consumer: &mut Consumer<Late>, popped: &mut u32| {
        let mut bytes = [0; RECORD];
        match consumer.pop(&mut bytes) {
            Ok(()) => {}
            Err(PopError::Empty) => return false,
            Err(error) => panic!("{error}"),
        }
        let number = (0..OFFERED).find(|&n| record(n) == bytes).unwrap();
        reported += consumer.dropped().unwrap();
        assert!(*popped + reported >= number, "{SILENT}");
        *popped += 1;
        true
    };
    for _ in 0..2 {
        take(&mut consumer, &mut popped);
    }
    let dropped = device.join().unwrap();
    while take(&mut consumer, &mut popped) {}
    if late {
        // A late view keeps the last count for ever; what is looked for here came before.
        return;
    }
    reported += consumer.dropped().unwrap();
    assert_eq!(reported, dropped);
    assert_eq!(popped + reported, OFFERED, "{SILENT}");
}

/// Proves that whoever has taken a record knows of every drop before it, and that in the end what was
/// taken and what was reported are all that was offered.
#[test]
fn a_drop_is_known_with_the_next_record() {
    explore(
        "whoever took a record knows of every drop before it",
        || overflow(false),
    );
}

/// A count that is stored after the next record is published comes too late.
#[test]
fn a_count_stored_after_the_index_is_found() {
    expect_failure(
        "the count of drops is stored after the index",
        SILENT,
        || overflow(true),
    );
}
