//! What goes in comes out: order, fullness, wrap and whole records, in one thread and in two.
#![cfg(not(loom))]

use core::sync::atomic::AtomicU32;
use std::thread;

use hl_mem::ring::{BlockLayout, BlockRead, Consumer, PopError, Producer, PushError, SharedWords};

const RECORD: usize = 64;

/// Where a ring starts: at zero, and where all indices wrap within the first records.
const FIRST_INDICES: [u32; 3] = [0, u32::MAX - 1, u32::MAX - 100];

struct Ring {
    layout: BlockLayout,
    words: Vec<AtomicU32>,
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
        Self { layout, words }
    }

    fn producer(&self) -> Producer<SharedWords<'_>> {
        Producer::attach(SharedWords::new(&self.words), self.layout).unwrap()
    }

    fn consumer(&self) -> Consumer<SharedWords<'_>> {
        Consumer::attach(SharedWords::new(&self.words), self.layout).unwrap()
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.words.len() * 4];
        SharedWords::new(&self.words).read(0, &mut bytes).unwrap();
        bytes
    }
}

/// The `n`-th record: every word of it depends on `n` and on the word's place.
fn record(n: u32) -> [u8; RECORD] {
    let mut record = [0; RECORD];
    for (place, word) in record.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        *word = (n.wrapping_mul(0x9E37_79B9) ^ (place as u32) << 24).to_le_bytes();
    }
    record
}

fn records(numbers: core::ops::Range<u32>) -> Vec<u8> {
    numbers.flat_map(record).collect()
}

fn pop(consumer: &mut Consumer<SharedWords<'_>>) -> Option<[u8; RECORD]> {
    let mut popped = [0; RECORD];
    match consumer.pop(&mut popped) {
        Ok(()) => Some(popped),
        Err(PopError::Empty) => None,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn after_two_and_a_half_laps_the_ring_fills_to_its_size_and_refuses_one_more() {
    for capacity in [1, 2, 64, 4096] {
        for first_index in FIRST_INDICES {
            let ring = Ring::new(capacity, first_index);
            let (mut producer, mut consumer) = (ring.producer(), ring.consumer());
            let laps = capacity * 5 / 2;
            for n in 0..laps {
                producer.push(&record(n)).unwrap();
                assert_eq!(pop(&mut consumer), Some(record(n)));
            }
            assert_eq!(pop(&mut consumer), None);
            assert_eq!(producer.free(), Ok(capacity));
            assert_eq!(consumer.occupied(), Ok(0));

            for n in 0..capacity {
                assert_eq!(producer.free(), Ok(capacity - n));
                producer.push(&record(laps + n)).unwrap();
                assert_eq!(consumer.occupied(), Ok(n + 1));
            }
            let full = ring.bytes();
            assert_eq!(producer.push(&record(0xBAD)), Err(PushError::Full));
            assert_eq!(
                producer.push_batch(&records(0xBAD..0xBAF)),
                Err(PushError::Full)
            );
            assert!(
                ring.bytes() == full,
                "a refused record changed the block of {capacity}"
            );

            for n in 0..capacity {
                assert_eq!(pop(&mut consumer), Some(record(laps + n)));
            }
            assert_eq!(pop(&mut consumer), None);
            let next = first_index.wrapping_add(laps + capacity);
            assert_eq!((producer.index(), consumer.index()), (next, next));
        }
    }
}

#[test]
fn a_slow_consumer_is_offered_each_record_once() {
    for first_index in FIRST_INDICES {
        let ring = Ring::new(64, first_index);
        let (mut producer, mut consumer) = (ring.producer(), ring.consumer());
        let (mut pushed, mut popped) = (0, 0);
        while popped < 1000 {
            // Three tries to push for each pop: the ring is soon full and stays so.
            for _ in 0..3 {
                match producer.push(&record(pushed)) {
                    Ok(()) => pushed += 1,
                    Err(error) => {
                        assert_eq!(error, PushError::Full);
                        assert_eq!(pushed - popped, 64);
                    }
                }
            }
            assert_eq!(pop(&mut consumer), Some(record(popped)));
            popped += 1;
        }
        assert_eq!(pushed, 1000 + 63);
    }
}

#[test]
fn batches_of_all_sizes_keep_the_order_across_the_end() {
    for first_index in FIRST_INDICES {
        for push_size in 1..=9 {
            for pop_size in 1..=9 {
                let ring = Ring::new(8, first_index);
                let (mut producer, mut consumer) = (ring.producer(), ring.consumer());
                let (mut pushed, mut popped) = (0, 0);
                while popped < 100 {
                    let room = 8 - (pushed - popped);
                    let expected = match room.min(push_size) {
                        0 => Err(PushError::Full),
                        count => Ok(count),
                    };
                    let batch = records(pushed..pushed + push_size);
                    assert_eq!(producer.push_batch(&batch), expected);
                    pushed += expected.unwrap_or(0);

                    let count = (pushed - popped).min(pop_size);
                    let mut buffer = vec![0xA5; RECORD * pop_size as usize];
                    assert_eq!(consumer.pop_batch(&mut buffer), Ok(count));
                    let (got, rest) = buffer.split_at(RECORD * count as usize);
                    assert_eq!(got, records(popped..popped + count));
                    assert!(rest.iter().all(|&byte| byte == 0xA5));
                    popped += count;
                }
            }
        }
    }
}

#[test]
fn only_whole_records_are_taken() {
    let ring = Ring::new(8, 0);
    let (mut producer, mut consumer) = (ring.producer(), ring.consumer());
    let before = ring.bytes();
    for len in [1, 63, 65, 127] {
        let mut bytes = vec![0; len];
        assert_eq!(producer.push_batch(&bytes), Err(PushError::Length { len }));
        assert_eq!(
            consumer.pop_batch(&mut bytes),
            Err(PopError::Length { len })
        );
    }
    for len in [0, 63, 65, 128] {
        let mut bytes = vec![0; len];
        assert_eq!(producer.push(&bytes), Err(PushError::Length { len }));
        assert_eq!(consumer.pop(&mut bytes), Err(PopError::Length { len }));
    }
    assert_eq!(producer.push_batch(&[]), Ok(0));
    assert_eq!(consumer.pop_batch(&mut []), Ok(0));
    assert!(ring.bytes() == before);
}

#[test]
fn an_end_that_attaches_again_goes_on_where_the_last_one_stopped() {
    let ring = Ring::new(4, u32::MAX);
    let mut first = ring.producer();
    first.push_batch(&records(0..3)).unwrap();
    assert_eq!(pop(&mut ring.consumer()), Some(record(0)));
    let mut second = ring.producer();
    assert_eq!(second.index(), first.index());
    assert_eq!(second.push_batch(&records(3..9)), Ok(2));
    let mut consumer = ring.consumer();
    for n in 1..5 {
        assert_eq!(pop(&mut consumer), Some(record(n)));
    }
    assert_eq!(pop(&mut consumer), None);
}

/// Which side keeps the other waiting.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Slow {
    Neither,
    /// The producer pushes only into an empty ring.
    Producer,
    /// The consumer pops only from a full ring, or when nothing more will come.
    Consumer,
}

/// Passes records between two threads, singly and in batches in turn.
fn pass_between_threads(capacity: u32, first_index: u32, slow: Slow) {
    const BATCH: u32 = 5;
    let count = (capacity * 5 / 2).max(1000);
    let ring = Ring::new(capacity, first_index);
    let (mut producer, mut consumer) = (ring.producer(), ring.consumer());
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut pushed = 0;
            while pushed < count {
                while slow == Slow::Producer && producer.free().unwrap() < capacity {
                    thread::yield_now();
                }
                let size = if pushed % 2 == 0 { 1 } else { BATCH };
                match producer.push_batch(&records(pushed..count.min(pushed + size))) {
                    Ok(accepted) => pushed += accepted,
                    Err(error) => {
                        assert_eq!(error, PushError::Full);
                        thread::yield_now();
                    }
                }
            }
        });
        let mut popped = 0;
        let mut buffer = [0; RECORD * BATCH as usize];
        while popped < count {
            let most = capacity.min(count - popped);
            while slow == Slow::Consumer && consumer.occupied().unwrap() < most {
                thread::yield_now();
            }
            let size = if popped % 3 == 0 { 1 } else { BATCH as usize };
            match consumer.pop_batch(&mut buffer[..RECORD * size]) {
                Ok(got) => {
                    let expected = records(popped..popped + got);
                    assert!(
                        buffer[..expected.len()] == expected,
                        "torn, lost or out of order at {popped}"
                    );
                    popped += got;
                }
                Err(error) => {
                    assert_eq!(error, PopError::Empty);
                    thread::yield_now();
                }
            }
        }
        assert_eq!(consumer.occupied(), Ok(0));
    });
}

#[test]
fn records_pass_between_threads_whole_and_in_order() {
    for capacity in [2, 64, 4096] {
        for first_index in FIRST_INDICES {
            for slow in [Slow::Neither, Slow::Producer, Slow::Consumer] {
                pass_between_threads(capacity, first_index, slow);
            }
        }
    }
}
