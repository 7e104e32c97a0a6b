//! A block in words of both sizes is the same block as one in 32-bit words.
#![cfg(all(not(loom), target_has_atomic = "64"))]

use core::sync::atomic::{AtomicU32, AtomicU64};
use std::thread;

use hl_mem::ring::{
    BlockLayout, BlockRead, BlockWrite, Consumer, FrameConsumer, FrameLayout, FrameProducer,
    PopError, Producer, PushError, SharedWords, SharedWordsError, WideWords,
};

const PAGE: u64 = 4096;

struct Wide {
    indices: Vec<AtomicU32>,
    data: Vec<AtomicU64>,
}

impl Wide {
    fn new(layout: BlockLayout) -> Self {
        let data = layout.block_len() - layout.data_offset();
        Self {
            indices: (0..layout.data_offset() / 4)
                .map(|_| AtomicU32::new(0))
                .collect(),
            data: (0..data / 8).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    fn memory(&self) -> WideWords<'_> {
        WideWords::new(&self.indices, &self.data)
    }
}

fn narrow(layout: BlockLayout) -> Vec<AtomicU32> {
    (0..layout.block_len() / 4)
        .map(|_| AtomicU32::new(0))
        .collect()
}

/// All bytes of a block, page by page: no access may straddle the two sizes.
fn bytes(memory: &mut impl BlockRead, layout: BlockLayout) -> Vec<u8> {
    let mut bytes = vec![0; layout.block_len() as usize];
    for (page, bytes) in bytes.chunks_exact_mut(PAGE as usize).enumerate() {
        assert!(memory.read(page as u64 * PAGE, bytes).is_ok());
    }
    bytes
}

/// Pushes and pops until the indices have wrapped and the ring is neither empty nor full.
fn use_records<M: BlockRead + BlockWrite + Copy>(mut memory: M, layout: BlockLayout) -> Vec<u8> {
    assert!(layout.initialize(&mut memory, u32::MAX - 2).is_ok());
    let mut producer = Producer::attach(memory, layout).ok().unwrap();
    let mut consumer = Consumer::attach(memory, layout).ok().unwrap();
    let size = layout.record_size() as usize;
    let record = |number: u8| (0..size).map(|at| at as u8 ^ number).collect::<Vec<u8>>();
    for number in 0..6 {
        assert!(producer.push(&record(number)).is_ok());
        assert!(producer.push(&record(!number)).is_ok());
        let mut popped = vec![0; 2 * size];
        assert!(matches!(consumer.pop_batch(&mut popped), Ok(2)));
        assert_eq!(popped, [record(number), record(!number)].concat());
    }
    assert!(matches!(
        producer.push_batch(&[record(7), record(8)].concat()),
        Ok(2)
    ));
    bytes(&mut memory, layout)
}

#[test]
fn records_leave_the_same_bytes_in_words_of_either_size() {
    // Records of one word, of less and of more words than are copied in one step, and of the page.
    for size in [8, 24, 64, 72, 200, 4096] {
        let layout = BlockLayout::new(PAGE, size, 4).unwrap();
        let (wide, words) = (Wide::new(layout), narrow(layout));
        let bytes = use_records(wide.memory(), layout);
        assert_eq!(bytes, use_records(SharedWords::new(&words), layout));
        assert_eq!(
            BlockLayout::read_header(&mut wide.memory(), PAGE, layout.block_len()),
            Ok(layout)
        );
    }
}

#[test]
fn frames_of_every_length_pass_through_words_of_64_bits() {
    let layout = FrameLayout::fitting(PAGE, 3 * PAGE).unwrap();
    let wide = Wide::new(layout.block());
    layout
        .initialize(&mut wide.memory(), u32::MAX - 100)
        .unwrap();
    let mut producer = FrameProducer::attach(wide.memory(), layout).unwrap();
    let mut consumer = FrameConsumer::attach(wide.memory(), layout).unwrap();
    for len in 0..1000_usize {
        let record: Vec<u8> = (0..len).map(|at| (at ^ len) as u8).collect();
        producer.push(&record).unwrap();
        let mut popped = vec![0; len];
        assert_eq!(consumer.pop(&mut popped), Ok(len as u32));
        assert_eq!(popped, record);
    }
}

#[test]
fn an_access_outside_the_words_or_across_their_sizes_is_refused() {
    let layout = BlockLayout::new(PAGE, 8, 1).unwrap();
    let wide = Wide::new(layout);
    let mut memory = wide.memory();
    let outside = |offset, len| Err(SharedWordsError::OutOfBounds { offset, len });
    let end = layout.block_len();
    assert_eq!(memory.write(end - 8, &[1; 16]), outside(end - 8, 16));
    assert_eq!(
        memory.write(u64::MAX - 7, &[1; 8]),
        outside(u64::MAX - 7, 8)
    );
    assert_eq!(memory.read(end, &mut [0; 8]), outside(end, 8));
    assert_eq!(
        memory.write(2 * PAGE - 8, &[1; 16]),
        outside(2 * PAGE - 8, 16)
    );
    let (offset, len) = (2 * PAGE + 4, 8);
    let misaligned = Err(SharedWordsError::Misaligned { offset, len });
    assert_eq!(memory.read(offset, &mut [0; 8]), misaligned);
    assert!(bytes(&mut memory, layout).iter().all(|&byte| byte == 0));
}

#[test]
fn two_threads_see_every_record_whole() {
    const COUNT: u64 = 20_000;
    let layout = BlockLayout::new(PAGE, 72, 8).unwrap();
    let wide = Wide::new(layout);
    layout
        .initialize(&mut wide.memory(), u32::MAX - 1000)
        .unwrap();
    let mut producer = Producer::attach(wide.memory(), layout).unwrap();
    let mut consumer = Consumer::attach(wide.memory(), layout).unwrap();
    let record = |number: u64| [number.to_le_bytes(); 9];
    thread::scope(|scope| {
        scope.spawn(move || {
            for number in 0..COUNT {
                while let Err(error) = producer.push(record(number).as_flattened()) {
                    assert_eq!(error, PushError::Full);
                    thread::yield_now();
                }
            }
        });
        // Told when the producer has ended: it would wait for ever for a consumer that panicked.
        let mut wrong = 0;
        for number in 0..COUNT {
            let mut popped = [[0; 8]; 9];
            while let Err(error) = consumer.pop(popped.as_flattened_mut()) {
                assert_eq!(error, PopError::Empty);
                thread::yield_now();
            }
            wrong += u64::from(popped != record(number));
        }
        assert_eq!(wrong, 0);
    });
}
