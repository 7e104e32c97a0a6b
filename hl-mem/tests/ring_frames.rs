//! Records of any length: what goes in comes out, and a hostile producer gains nothing.
#![cfg(not(loom))]

use core::sync::atomic::AtomicU32;
use std::cell::Cell;
use std::collections::VecDeque;

use hl_mem::ring::{
    BlockIndices, BlockLayout, BlockRead, BlockWrite, FrameConsumer, FrameLayout, FramePopError,
    FrameProducer, FramePushError, HeaderError, LayoutError, Pushed, SharedWords,
};
use proptest::prelude::*;

/// Where a ring starts: at zero, and where all indices wrap within the first frames.
const FIRST_INDICES: [u32; 4] = [0, 5, u32::MAX - 1, u32::MAX - 100];

struct Ring {
    layout: FrameLayout,
    words: Vec<AtomicU32>,
    /// Accesses that go well before one fails.
    until_fault: Cell<Option<u32>>,
}

/// The access that was told to fail.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Fault;

/// A view that fails on demand and asserts that data accesses are to whole units of the data.
#[derive(Clone, Copy)]
struct View<'a>(&'a Ring);

impl<'a> View<'a> {
    fn enter(self) -> Result<SharedWords<'a>, Fault> {
        let left = self.0.until_fault.get();
        self.0.until_fault.set(match left {
            Some(0) => None,
            left => left.map(|left| left - 1),
        });
        if left == Some(0) {
            return Err(Fault);
        }
        Ok(SharedWords::new(&self.0.words))
    }

    fn check(self, offset: u64, len: usize) {
        let block = self.0.layout.block();
        let within = offset.checked_sub(block.data_offset()).unwrap();
        assert!(within.is_multiple_of(8) && len.is_multiple_of(8) && len > 0);
        assert!(within + len as u64 <= block.data_len());
    }
}

impl BlockIndices for View<'_> {
    type Error = Fault;
    fn load_index(&mut self, offset: u64) -> Result<u32, Fault> {
        Ok(self.enter()?.load_index(offset).unwrap())
    }
    fn store_index(&mut self, offset: u64, index: u32) -> Result<(), Fault> {
        self.enter()?.store_index(offset, index).unwrap();
        Ok(())
    }
}

impl BlockRead for View<'_> {
    fn read(&mut self, offset: u64, bytes: &mut [u8]) -> Result<(), Fault> {
        self.check(offset, bytes.len());
        self.enter()?.read(offset, bytes).unwrap();
        Ok(())
    }
}

impl BlockWrite for View<'_> {
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Fault> {
        self.check(offset, bytes.len());
        self.enter()?.write(offset, bytes).unwrap();
        Ok(())
    }
}

impl Ring {
    fn new(capacity: u32, first_index: u32) -> Self {
        let layout = FrameLayout::new(4096, capacity).unwrap();
        let words: Vec<_> = (0..layout.block().block_len() / 4)
            .map(|_| AtomicU32::new(0))
            .collect();
        layout
            .initialize(&mut SharedWords::new(&words), first_index)
            .unwrap();
        Self {
            layout,
            words,
            until_fault: Cell::new(None),
        }
    }

    fn memory(&self) -> SharedWords<'_> {
        SharedWords::new(&self.words)
    }

    fn ends(&self) -> (FrameProducer<View<'_>>, FrameConsumer<View<'_>>) {
        (
            FrameProducer::attach(View(self), self.layout).unwrap(),
            FrameConsumer::attach(View(self), self.layout).unwrap(),
        )
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.words.len() * 4];
        self.memory().read(0, &mut bytes).unwrap();
        bytes
    }

    /// Overwrites the unit with this index.
    fn forge(&self, index: u32, unit: [u32; 2]) {
        let bytes = unit.map(u32::to_le_bytes);
        let offset = self.layout.block().record_offset(index);
        self.memory().write(offset, bytes.as_flattened()).unwrap();
    }

    fn publish(&self, index: u32) {
        let offset = self.layout.block().producer_index_offset();
        self.memory().store_index(offset, index).unwrap();
    }
}

/// The `n`-th record of this length: every byte depends on `n` and on its place.
fn record(n: u32, len: usize) -> Vec<u8> {
    (0..len)
        .map(|place| (n.wrapping_mul(97) as u8) ^ (place as u8) ^ 0x5A)
        .collect()
}

fn pop(consumer: &mut FrameConsumer<View<'_>>) -> Option<Vec<u8>> {
    let mut buffer = vec![0xEE; 4096];
    match consumer.pop(&mut buffer) {
        Ok(len) => {
            assert!(buffer[len as usize..].iter().all(|&byte| byte == 0xEE));
            buffer.truncate(len as usize);
            Some(buffer)
        }
        Err(FramePopError::Empty) => None,
        Err(error) => panic!("{error:?}"),
    }
}

#[test]
fn a_frame_has_the_documented_bytes() {
    let ring = Ring::new(4, 3);
    let (mut producer, _) = ring.ends();
    // The prefix is the last unit of the data, and the record starts at the first.
    producer.push(b"hello world").unwrap();
    let data = &ring.bytes()[8192..8192 + 32];
    assert_eq!(data[24..], [11, 0, 0, 0, 0xF4, 0xFF, 0xFF, 0xFF]);
    assert_eq!(data[..16], *b"hello world\0\0\0\0\0");
    assert_eq!(producer.index(), 6);
    let mut header = [0; 16];
    ring.memory().read(4096, &mut header).unwrap();
    assert_eq!(header, *b"HLRF\x01\0\0\0\x08\0\0\0\x04\0\0\0");
}

#[test]
fn records_of_every_length_come_out_as_they_went_in() {
    for first_index in FIRST_INDICES {
        let ring = Ring::new(16, first_index);
        let (mut producer, mut consumer) = ring.ends();
        for lap in 0..20 {
            for len in 0..=120 {
                let record = record(lap * 121 + len as u32, len);
                producer.push(&record).unwrap();
                assert_eq!(pop(&mut consumer), Some(record));
                assert_eq!(pop(&mut consumer), None);
            }
        }
        assert_eq!(producer.index(), consumer.index());
    }
}

#[test]
fn the_longest_record_fills_the_ring_wherever_it_starts() {
    for first_index in 0..16 {
        let ring = Ring::new(16, first_index);
        let (mut producer, mut consumer) = ring.ends();
        assert_eq!(ring.layout.max_record_len(), 120);
        let before = ring.bytes();
        let too_long = FramePushError::TooLong { len: 121, max: 120 };
        assert_eq!(producer.push(&record(0, 121)), Err(too_long));
        assert_eq!(producer.push_batch(&[&[], &record(0, 121)]), Err(too_long));
        assert!(ring.bytes() == before);
        producer.push(&record(7, 120)).unwrap();
        assert_eq!(producer.free(), Ok(0));
        let full = ring.bytes();
        assert_eq!(producer.push(&[]), Err(FramePushError::Full));
        assert!(ring.bytes() == full, "a refused record changed the block");
        assert_eq!(pop(&mut consumer), Some(record(7, 120)));
    }
}

#[test]
fn a_ring_of_one_kind_is_not_taken_for_the_other() {
    let frames = Ring::new(16, 0);
    let len = frames.layout.block().block_len();
    assert_eq!(
        FrameLayout::read_header(&mut frames.memory(), 4096, len),
        Ok(frames.layout)
    );
    assert_eq!(
        BlockLayout::read_header(&mut frames.memory(), 4096, len),
        Err(HeaderError::Magic { found: *b"HLRF" })
    );
    let records = BlockLayout::new(4096, 8, 16).unwrap();
    records.initialize(&mut frames.memory(), 0).unwrap();
    assert_eq!(
        FrameLayout::read_header(&mut frames.memory(), 4096, len),
        Err(HeaderError::Magic { found: *b"HLRB" })
    );
    // The right magic with records of another size is no ring of frames either.
    frames.memory().write(4096, b"HLRF").unwrap();
    frames.memory().write(4096 + 8, &[16, 0, 0, 0]).unwrap();
    let error = LayoutError::RecordSize { record_size: 16 };
    assert_eq!(
        FrameLayout::read_header(&mut frames.memory(), 4096, len),
        Err(HeaderError::Layout(error))
    );
}

#[test]
fn a_record_longer_than_the_buffer_stays_until_it_is_taken_or_skipped() {
    let ring = Ring::new(16, u32::MAX);
    let (mut producer, mut consumer) = ring.ends();
    assert_eq!(
        producer.push_batch(&[&record(0, 9), &record(1, 30), &record(2, 3)]),
        Ok(3)
    );
    let short = FramePopError::BufferTooShort { len: 9 };
    assert_eq!(consumer.pop(&mut [0; 8]), Err(short));
    assert_eq!(consumer.next_len(), Ok(9));
    // A batch ends before the record that does not fit.
    let mut lens = [0; 3];
    assert_eq!(consumer.pop_batch(&mut [0; 38], &mut lens), Ok(1));
    assert_eq!(lens[0], 9);
    assert_eq!(consumer.skip(), Ok(30));
    assert_eq!(pop(&mut consumer), Some(record(2, 3)));
    assert_eq!(consumer.skip(), Err(FramePopError::Empty));
}

#[test]
fn a_length_is_read_once() {
    let ring = Ring::new(16, 0);
    let (mut producer, mut consumer) = ring.ends();
    producer.push(&record(0, 16)).unwrap();
    producer.push(&record(1, 16)).unwrap();
    assert_eq!(consumer.next_len(), Ok(16));
    // The producer changes its mind, to a length that would be acceptable and to one that is not.
    for len in [40, 1 << 20] {
        ring.forge(0, [len, !len]);
        assert_eq!(consumer.next_len(), Ok(16));
        let mut small = [0; 15];
        let short = FramePopError::BufferTooShort { len: 16 };
        assert_eq!(consumer.pop(&mut small), Err(short));
    }
    assert_eq!(pop(&mut consumer), Some(record(0, 16)));
    assert_eq!(pop(&mut consumer), Some(record(1, 16)));
}

#[test]
fn a_forged_length_is_refused_and_consumes_nothing() {
    for first_index in FIRST_INDICES {
        let ring = Ring::new(16, first_index);
        let (mut producer, mut consumer) = ring.ends();
        producer.push(&record(0, 24)).unwrap();
        producer.push(&record(1, 24)).unwrap();
        // Two frames of four units are published: 56 bytes are the most that a first could have.
        let mut forged: Vec<[u32; 2]> = [57, 64, 120, 121, 1 << 31, u32::MAX - 6, u32::MAX]
            .into_iter()
            .map(|len| [len, !len])
            .collect();
        forged.extend([[0, 0], [24, 24], [24, !25], [!24, 25], [u32::MAX; 2]]);
        for unit in forged {
            ring.forge(first_index, unit);
            let error = FramePopError::Frame {
                index: first_index,
                prefix: u64::from(unit[0]) | u64::from(unit[1]) << 32,
                published: 8,
            };
            let mut buffer = [0; 256];
            assert_eq!(consumer.next_len(), Err(error));
            assert_eq!(consumer.pop(&mut buffer), Err(error));
            assert_eq!(consumer.skip(), Err(error));
            assert_eq!(consumer.index(), first_index);
        }
        // A longer one that stays within what was published cannot be told from an honest one.
        ring.forge(first_index, [56, !56]);
        assert_eq!(consumer.next_len(), Ok(56));
    }
}

#[test]
fn a_batch_delivers_what_comes_before_a_forged_length() {
    let ring = Ring::new(16, 0);
    let (mut producer, mut consumer) = ring.ends();
    for n in 0..3 {
        producer.push(&record(n, 8)).unwrap();
    }
    ring.forge(4, [u32::MAX; 2]);
    let (mut buffer, mut lens) = ([0; 64], [0; 8]);
    assert_eq!(consumer.pop_batch(&mut buffer, &mut lens), Ok(2));
    assert_eq!(buffer[..8], record(0, 8));
    assert_eq!(buffer[8..16], record(1, 8));
    let error = FramePopError::Frame {
        index: 4,
        prefix: u64::MAX,
        published: 2,
    };
    assert_eq!(consumer.pop_batch(&mut buffer, &mut lens), Err(error));
    // The way out.
    assert_eq!(consumer.skip_all(), Ok(2));
    producer.push(&record(3, 5)).unwrap();
    assert_eq!(pop(&mut consumer), Some(record(3, 5)));
}

#[test]
fn an_index_further_than_the_ring_is_long_is_refused() {
    let ring = Ring::new(16, 0);
    let (mut producer, mut consumer) = ring.ends();
    ring.publish(17);
    let Err(FramePopError::PeerIndex(error)) = consumer.next_len() else {
        panic!("accepted");
    };
    assert_eq!((error.found, error.earliest, error.latest), (17, 0, 16));
    let offset = ring.layout.block().consumer_index_offset();
    ring.memory().store_index(offset, 1).unwrap();
    assert!(matches!(
        producer.push(&[]),
        Err(FramePushError::PeerIndex(error)) if error.found == 1
    ));
}

#[test]
fn a_failed_access_leaves_everything_to_be_done_again() {
    for first_index in FIRST_INDICES {
        for nth in 0.. {
            let ring = Ring::new(8, first_index);
            let (mut producer, mut consumer) = ring.ends();
            // The frame lies across the end of the data in most of these.
            let (one, two) = (record(1, 13), record(2, 21));
            let batch: [&[u8]; 2] = [&one, &two];
            ring.until_fault.set(Some(nth));
            let pushed = producer.push_batch(&batch);
            let push_failed = ring.until_fault.get().is_none();
            if push_failed {
                assert_eq!(pushed, Err(FramePushError::Memory(Fault)));
                assert_eq!(producer.index(), first_index);
                assert_eq!(pop(&mut consumer), None);
                assert_eq!(producer.push_batch(&batch), Ok(2));
            } else {
                assert_eq!(pushed, Ok(2));
            }
            let (mut buffer, mut lens) = ([0; 64], [0; 2]);
            let popped = consumer.pop_batch(&mut buffer, &mut lens);
            let pop_failed = !push_failed && ring.until_fault.get().is_none();
            if !push_failed && !pop_failed {
                assert_eq!(popped, Ok(2));
                assert!(nth > 8, "fewer accesses than a push and a pop make");
                break;
            }
            // A fault within the second record does not keep the first from being delivered.
            let mut taken = buffer[..34].to_vec();
            match popped {
                Ok(2) => {}
                Ok(count) => {
                    assert_eq!(count, 1);
                    taken = [&buffer[..13], &pop(&mut consumer).unwrap()].concat();
                }
                Err(error) => {
                    assert_eq!(error, FramePopError::Memory(Fault));
                    taken = [pop(&mut consumer).unwrap(), pop(&mut consumer).unwrap()].concat();
                }
            }
            assert_eq!(taken, [one, two].concat());
            assert_eq!(pop(&mut consumer), None);
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Push(Vec<usize>),
    PushOrDrop(Vec<usize>),
    Pop { buffer: usize },
    PopBatch { buffer: usize, most: usize },
    Skip,
    Dropped,
    AttachAgain,
}

fn step() -> impl Strategy<Value = Step> {
    let lens = || prop::collection::vec(0usize..60, 0..5);
    prop_oneof![
        3 => lens().prop_map(Step::Push),
        2 => lens().prop_map(Step::PushOrDrop),
        2 => (0usize..80).prop_map(|buffer| Step::Pop { buffer }),
        2 => (0usize..200, 0usize..5).prop_map(|(buffer, most)| Step::PopBatch { buffer, most }),
        1 => Just(Step::Skip),
        1 => Just(Step::Dropped),
        1 => Just(Step::AttachAgain),
    ]
}

/// How many of these lengths fit into so many units, from the first on.
fn fitting(lens: &[usize], mut units: usize) -> usize {
    lens.iter()
        .take_while(|&&len| {
            let needed = 1 + len.div_ceil(8);
            let fits = needed <= units;
            units = units.saturating_sub(needed);
            fits
        })
        .count()
}

proptest! {
    /// A queue of vectors behaves the same.
    #[test]
    fn the_ring_is_a_queue_of_bounded_size(
        first_index in prop::sample::select(&FIRST_INDICES[..]),
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let ring = Ring::new(16, first_index);
        let (mut producer, mut consumer) = ring.ends();
        let mut model: VecDeque<Vec<u8>> = VecDeque::new();
        let (mut made, mut dropped, mut dropped_since_attach) = (0, 0, 0);
        for step in steps {
            let free = 16 - model.iter().map(|one| 1 + one.len().div_ceil(8)).sum::<usize>();
            match step {
                Step::Push(lens) | Step::PushOrDrop(lens) if lens.is_empty() => {
                    prop_assert_eq!(producer.push_batch(&[]), Ok(0));
                }
                Step::Push(ref lens) | Step::PushOrDrop(ref lens) => {
                    let records: Vec<_> = lens.iter().zip(made..).map(|(&len, n)| record(n, len)).collect();
                    made += lens.len() as u32;
                    let slices: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
                    let fit = fitting(lens, free);
                    if matches!(step, Step::Push(_)) {
                        let expected = if fit == 0 { Err(FramePushError::Full) } else { Ok(fit as u32) };
                        prop_assert_eq!(producer.push_batch(&slices), expected);
                    } else {
                        let lost = (lens.len() - fit) as u32;
                        let expected = Pushed { pushed: fit as u32, dropped: lost };
                        prop_assert_eq!(producer.push_or_drop(&slices), Ok(expected));
                        dropped += lost;
                        dropped_since_attach += lost;
                    }
                    model.extend(records.into_iter().take(fit));
                }
                Step::Pop { buffer } => {
                    let mut bytes = vec![0; buffer];
                    let got = consumer.pop(&mut bytes);
                    match model.front() {
                        None => prop_assert_eq!(got, Err(FramePopError::Empty)),
                        Some(one) if one.len() > buffer => {
                            prop_assert_eq!(got, Err(FramePopError::BufferTooShort { len: one.len() as u32 }));
                        }
                        Some(one) => {
                            prop_assert_eq!(got, Ok(one.len() as u32));
                            prop_assert_eq!(&bytes[..one.len()], one.as_slice());
                            model.pop_front();
                        }
                    }
                }
                Step::PopBatch { buffer, most } => {
                    let (mut bytes, mut lens) = (vec![0; buffer], vec![0; most]);
                    match consumer.pop_batch(&mut bytes, &mut lens) {
                        Ok(count) => {
                            let mut at = 0;
                            for &len in &lens[..count] {
                                let one = model.pop_front().unwrap();
                                prop_assert_eq!(one.as_slice(), &bytes[at..at + len as usize]);
                                at += len as usize;
                            }
                            // No more would have fitted.
                            let next = model.front();
                            prop_assert!(count == most || next.is_none_or(|one| at + one.len() > buffer));
                        }
                        Err(FramePopError::Empty) => prop_assert!(model.is_empty() && most > 0),
                        Err(error) => {
                            let len = model[0].len() as u32;
                            prop_assert_eq!(error, FramePopError::BufferTooShort { len });
                            prop_assert!(buffer < len as usize);
                        }
                    }
                }
                Step::Skip => {
                    let expected = model.pop_front().map(|one| one.len() as u32);
                    prop_assert_eq!(consumer.skip().ok(), expected);
                }
                Step::Dropped => {
                    prop_assert_eq!(consumer.dropped(), Ok(dropped));
                    dropped = 0;
                }
                Step::AttachAgain => {
                    (producer, consumer) = ring.ends();
                    // A new consumer is told of everything since the beginning.
                    dropped = dropped_since_attach;
                }
            }
        }
    }

    /// Whatever bytes and index the producer leaves, the consumer touches only the data (the view
    /// asserts it), returns no more than its buffer holds and never goes beyond the index.
    #[test]
    fn a_hostile_producer_gets_errors_or_its_own_bytes_delivered(
        data in prop::collection::vec(prop_oneof![Just(0u32), Just(u32::MAX), 0u32..130, any::<u32>()], 16),
        indices in prop::collection::vec(prop_oneof![0u32..20, any::<u32>()], 1..6),
        buffer in 0usize..140,
    ) {
        let ring = Ring::new(16, 0);
        let (_, mut consumer) = ring.ends();
        for (unit, len) in (0..).zip(data) {
            ring.forge(unit, [len, !len]);
        }
        for index in indices {
            ring.publish(index);
            let before = consumer.index();
            let (mut bytes, mut lens) = (vec![0; buffer], [0; 3]);
            if let Ok(count) = consumer.pop_batch(&mut bytes, &mut lens) {
                let units: u32 = lens[..count].iter().map(|&len| FrameLayout::frame_units(len)).sum();
                prop_assert_eq!(consumer.index(), before + units);
                prop_assert!(consumer.index() <= 20);
                prop_assert!(lens[..count].iter().sum::<u32>() as usize <= buffer);
            } else {
                prop_assert_eq!(consumer.index(), before);
            }
        }
    }
}
