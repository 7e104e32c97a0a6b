//! The ring of a producer/consumer block, and the block that the other models of rings use.
//!
//! The ends are the real [`Producer`] and [`Consumer`], and every access goes through the real
//! [`SharedWords`] unless a test weakens it. Two things can show a missing ordering:
//!
//! * *Values.* A record is two words with the same number. A record that is seen before it is there
//!   has a wrong one.
//! * *Races.* Values are not enough for the consumer's publication. The bug there is that the
//!   producer's next store reaches a slot before the consumer's load of it, and loom, which
//!   executes loads in program order, never lets a load return a later store. So each data word
//!   also has a [`Probe`], by which loom checks that every two accesses of the word by different
//!   threads are ordered through the indices.

use std::sync::Arc;

use hl_mem::ring::{
    BlockFence, BlockIndices, BlockLayout, BlockRead, BlockWrite, Consumer, PopError, Producer,
    PushError, SharedWords, SharedWordsError,
};
use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;

use crate::{RACE, expect_failure, explore};

pub(crate) const RECORD: usize = 8;
pub(crate) const CAPACITY: u32 = 2;
pub(crate) const CONSUMER_INDEX: u64 = 0;
const CONSUMER_WAKE: u64 = 128;
pub(crate) const PRODUCER_INDEX: u64 = 4096 + 128;
const PRODUCER_WAKE: u64 = 4096 + 256;
pub(crate) const DROPPED: u64 = 4096 + 384;
pub(crate) const DATA: u64 = 2 * 4096;

/// Reports every access of a word to loom as one that must not race.
struct Probe(UnsafeCell<()>);

// SAFETY: the cell holds nothing, so there is no data to race on and its pointer is never used. What
// its methods do touch is loom's state, of which loom runs one thread at a time.
unsafe impl Sync for Probe {}

/// The words of a block that the ring uses; a model of all three pages would be too slow.
struct Words {
    consumer_index: [AtomicU32; 1],
    consumer_wake: [AtomicU32; 1],
    producer_index: [AtomicU32; 1],
    producer_wake: [AtomicU32; 1],
    dropped: [AtomicU32; 1],
    data: Vec<AtomicU32>,
    probes: Vec<Probe>,
}

/// The one ordering that a test takes away, by the offset of the index.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Relaxed {
    Load(u64),
    Store(u64),
    Fence,
}

/// One view of a block.
#[derive(Clone)]
pub(crate) struct Block {
    words: Arc<Words>,
    relaxed: Option<Relaxed>,
}

impl Block {
    /// A block whose ring is empty at `first_index`; `probed` if racing accesses to the data are to
    /// fail the model.
    pub(crate) fn new(first_index: u32, probed: bool, relaxed: Option<Relaxed>) -> Self {
        Self::with_capacity(CAPACITY, first_index, probed, relaxed)
    }

    /// The same for `capacity` records, or units of 8 bytes.
    pub(crate) fn with_capacity(
        capacity: u32,
        first_index: u32,
        probed: bool,
        relaxed: Option<Relaxed>,
    ) -> Self {
        let data_words = capacity as usize * RECORD / 4;
        let nobody = first_index.wrapping_sub(capacity).wrapping_sub(1);
        let probes = if probed { data_words } else { 0 };
        Self {
            words: Arc::new(Words {
                consumer_index: [AtomicU32::new(first_index)],
                consumer_wake: [AtomicU32::new(nobody)],
                producer_index: [AtomicU32::new(first_index)],
                producer_wake: [AtomicU32::new(nobody)],
                dropped: [AtomicU32::new(0)],
                data: (0..data_words).map(|_| AtomicU32::new(0)).collect(),
                probes: (0..probes).map(|_| Probe(UnsafeCell::new(()))).collect(),
            }),
            relaxed,
        }
    }

    pub(crate) fn ends(&self) -> (Producer<Self>, Consumer<Self>) {
        let capacity = (self.words.data.len() * 4 / RECORD) as u32;
        let layout = BlockLayout::new(4096, RECORD as u32, capacity).unwrap();
        assert_eq!(layout.consumer_index_offset(), CONSUMER_INDEX);
        assert_eq!(layout.consumer_wake_offset(), CONSUMER_WAKE);
        assert_eq!(layout.producer_index_offset(), PRODUCER_INDEX);
        assert_eq!(layout.producer_wake_offset(), PRODUCER_WAKE);
        assert_eq!(layout.dropped_offset(), DROPPED);
        assert_eq!(layout.data_offset(), DATA);
        (
            Producer::attach(self.clone(), layout).unwrap(),
            Consumer::attach(self.clone(), layout).unwrap(),
        )
    }

    fn part(&self, offset: u64) -> SharedWords<'_> {
        if offset >= DATA {
            return SharedWords::part(DATA, &self.words.data);
        }
        SharedWords::part(offset, self.index(offset))
    }

    fn index(&self, offset: u64) -> &[AtomicU32; 1] {
        match offset {
            CONSUMER_INDEX => &self.words.consumer_index,
            CONSUMER_WAKE => &self.words.consumer_wake,
            PRODUCER_INDEX => &self.words.producer_index,
            PRODUCER_WAKE => &self.words.producer_wake,
            DROPPED => &self.words.dropped,
            _ => panic!("no index at {offset:#x}"),
        }
    }

    fn probes(&self, offset: u64, len: usize) -> impl Iterator<Item = &UnsafeCell<()>> {
        let first = (offset - DATA) as usize / 4;
        let probes = self.words.probes.iter().skip(first).take(len / 4);
        probes.map(|probe| &probe.0)
    }
}

impl BlockIndices for Block {
    type Error = SharedWordsError;

    fn load_index(&mut self, offset: u64) -> Result<u32, SharedWordsError> {
        if self.relaxed == Some(Relaxed::Load(offset)) {
            return Ok(u32::from_le(self.index(offset)[0].load(Ordering::Relaxed)));
        }
        self.part(offset).load_index(offset)
    }

    fn store_index(&mut self, offset: u64, index: u32) -> Result<(), SharedWordsError> {
        if self.relaxed == Some(Relaxed::Store(offset)) {
            self.index(offset)[0].store(index.to_le(), Ordering::Relaxed);
            return Ok(());
        }
        self.part(offset).store_index(offset, index)
    }
}

impl BlockFence for Block {
    fn fence(&mut self) -> Result<(), SharedWordsError> {
        if self.relaxed == Some(Relaxed::Fence) {
            return Ok(());
        }
        SharedWords::new(&[]).fence()
    }
}

impl BlockRead for Block {
    fn read(&mut self, offset: u64, bytes: &mut [u8]) -> Result<(), SharedWordsError> {
        for probe in self.probes(offset, bytes.len()) {
            probe.with(|_| ());
        }
        self.part(offset).read(offset, bytes)
    }
}

impl BlockWrite for Block {
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), SharedWordsError> {
        for probe in self.probes(offset, bytes.len()) {
            probe.with_mut(|_| ());
        }
        self.part(offset).write(offset, bytes)
    }
}

/// The `n`-th record, different from a slot that was never written.
pub(crate) fn record(n: u32) -> [u8; RECORD] {
    let word = (n + 1).to_ne_bytes();
    let mut record = [0; RECORD];
    record[..4].copy_from_slice(&word);
    record[4..].copy_from_slice(&word);
    record
}

/// Pops the `n`-th record, or nothing where the ring is empty.
fn pops(consumer: &mut Consumer<Block>, n: u32) -> bool {
    let mut popped = [0; RECORD];
    match consumer.pop(&mut popped) {
        Ok(()) => {
            assert_eq!(popped, record(n), "wrong record {n}");
            true
        }
        Err(PopError::Empty) => false,
        Err(error) => panic!("{error}"),
    }
}

/// Pushes the `n`-th record, or nothing where the ring is full.
fn pushes(producer: &mut Producer<Block>, n: u32) -> bool {
    match producer.push(&record(n)) {
        Ok(()) => true,
        Err(PushError::Full) => false,
        Err(error) => panic!("{error}"),
    }
}

/// Passes `count` records from one thread to another, each waiting for the other where it must.
fn pass(block: &Block, count: u32) {
    let (mut producer, mut consumer) = block.ends();
    let device = thread::spawn(move || {
        for n in 0..count {
            while !pushes(&mut producer, n) {
                thread::yield_now();
            }
        }
    });
    for n in 0..count {
        while !pops(&mut consumer, n) {
            thread::yield_now();
        }
    }
    device.join().unwrap();
    assert!(!pops(&mut consumer, count));
}

/// Proves that all records arrive, whole, once and in order, and that no slot is written while it
/// is read: three records through two slots, so that one slot is used again.
#[test]
fn records_arrive_whole_and_in_order() {
    explore(
        "records arrive whole, once and in order; no slot is written while it is read",
        || pass(&Block::new(0, true, None), 3),
    );
}

/// Proves the same where both indices wrap from 2^32 - 1 to 0 and all slots are used twice.
#[test]
fn records_arrive_whole_and_in_order_across_the_wrap() {
    explore(
        "the same where both indices wrap from 2^32 - 1 to 0",
        || pass(&Block::new(u32::MAX - 1, true, None), 4),
    );
}

/// Proves that a producer that never waits loses nothing it was told was pushed: whatever the
/// consumer does meanwhile, the records accepted come out in order, and the one refused by a full
/// ring overwrites none of them.
#[test]
fn a_full_ring_refuses_and_overwrites_nothing() {
    explore("a full ring refuses, and overwrites nothing", || {
        let (mut producer, mut consumer) = Block::new(0, true, None).ends();
        let device = thread::spawn(move || {
            assert!(pushes(&mut producer, 0));
            assert!(pushes(&mut producer, 1));
            pushes(&mut producer, 2)
        });
        let mut popped = u32::from(pops(&mut consumer, 0));
        let third = device.join().unwrap();
        // There was room for the third only if the consumer had taken the first.
        assert!(!third || popped == 1);
        while pops(&mut consumer, popped) {
            popped += 1;
        }
        assert_eq!(popped, 2 + u32::from(third));
    });
}

/// Proves that an empty ring yields nothing and a ring with one record yields that, once, however
/// the consumer's looks fall around the push.
#[test]
fn an_empty_ring_yields_nothing_but_what_was_pushed() {
    explore(
        "an empty ring yields nothing but what was pushed, once",
        || {
            let (mut producer, mut consumer) = Block::new(0, true, None).ends();
            assert!(!pops(&mut consumer, 0));
            let device = thread::spawn(move || assert!(pushes(&mut producer, 0)));
            let mut popped = 0;
            for _ in 0..3 {
                popped += u32::from(pops(&mut consumer, popped));
            }
            device.join().unwrap();
            popped += u32::from(pops(&mut consumer, popped));
            assert_eq!(popped, 1);
            assert!(!pops(&mut consumer, 1));
        },
    );
}

/// Proves that a batch is published at once: the consumer sees none or all of two records, also
/// where the second lies at the ring's start and the indices wrap between them.
#[test]
fn a_batch_is_seen_whole_or_not_at_all() {
    explore(
        "a batch is seen whole or not at all, also across the wrap",
        || {
            let (mut producer, mut consumer) = Block::new(u32::MAX, true, None).ends();
            let both = [record(0), record(1)];
            let device = thread::spawn(move || {
                assert_eq!(producer.push_batch(both.as_flattened()), Ok(2));
            });
            let mut popped = [[0; RECORD]; 2];
            let before = consumer.pop_batch(popped.as_flattened_mut());
            device.join().unwrap();
            match before {
                Ok(count) => assert_eq!(count, 2),
                Err(error) => {
                    assert_eq!(error, PopError::Empty);
                    assert_eq!(consumer.pop_batch(popped.as_flattened_mut()), Ok(2));
                }
            }
            assert_eq!(popped, both);
        },
    );
}

const WRONG_RECORD: &str = "wrong record";

/// Without release the index may overtake the record: the consumer sees an old or half slot.
#[test]
fn a_relaxed_producer_publication_is_found_by_value() {
    let relaxed = Some(Relaxed::Store(PRODUCER_INDEX));
    expect_failure(
        "the producer's index is stored without release",
        WRONG_RECORD,
        move || {
            pass(&Block::new(0, false, relaxed), 3);
        },
    );
}

/// The same as a race: the consumer's read is not ordered after the producer's write.
#[test]
fn a_relaxed_producer_publication_is_found_as_a_race() {
    let relaxed = Some(Relaxed::Store(PRODUCER_INDEX));
    expect_failure(
        "the producer's index is stored without release",
        RACE,
        move || pass(&Block::new(0, true, relaxed), 3),
    );
}

/// Without acquire the record may be read before the index: the consumer sees an old or half slot.
#[test]
fn a_relaxed_look_at_the_producer_index_is_found_by_value() {
    let relaxed = Some(Relaxed::Load(PRODUCER_INDEX));
    expect_failure(
        "the producer's index is loaded without acquire",
        WRONG_RECORD,
        move || {
            pass(&Block::new(0, false, relaxed), 3);
        },
    );
}

/// Without release a slot may be given back before it was copied out: the producer's write of the
/// third record is not ordered after the consumer's read of the first.
#[test]
fn a_relaxed_consumer_publication_is_found_as_a_race() {
    let relaxed = Some(Relaxed::Store(CONSUMER_INDEX));
    expect_failure(
        "the consumer's index is stored without release",
        RACE,
        move || pass(&Block::new(0, true, relaxed), 3),
    );
}

/// Without acquire a slot may be refilled before it was seen to be free.
#[test]
fn a_relaxed_look_at_the_consumer_index_is_found_as_a_race() {
    let relaxed = Some(Relaxed::Load(CONSUMER_INDEX));
    expect_failure(
        "the consumer's index is loaded without acquire",
        RACE,
        move || pass(&Block::new(0, true, relaxed), 3),
    );
}

/// The weakened models fail for their weakness only: with as many records as slots no slot is used
/// again, and the consumer's publication is not needed.
#[test]
fn a_relaxed_consumer_publication_does_not_matter_before_a_slot_is_used_again() {
    let relaxed = Some(Relaxed::Store(CONSUMER_INDEX));
    explore(
        "the weak publication harms nobody before a slot is used again",
        move || pass(&Block::new(0, true, relaxed), CAPACITY),
    );
}
