//! What a ring says about itself: sizes, places and counts.
#![cfg(not(loom))]

use core::sync::atomic::AtomicU32;

use hl_mem::ring::{
    BlockLayout, BlockRead, FrameConsumer, FrameLayout, FrameProducer, HeaderError, LayoutError,
    SharedWords, WakeRequest,
};

const PAGE: u64 = 4096;

fn zeroed(bytes: u64) -> Vec<AtomicU32> {
    (0..bytes / 4).map(|_| AtomicU32::new(0)).collect()
}

type Ends<'a> = (
    FrameProducer<SharedWords<'a>>,
    FrameConsumer<SharedWords<'a>>,
);

/// Both ends of an empty ring of frames.
fn ends(words: &[AtomicU32], layout: FrameLayout, first_index: u32) -> Ends<'_> {
    let memory = || SharedWords::new(words);
    layout.initialize(&mut memory(), first_index).unwrap();
    (
        FrameProducer::attach(memory(), layout).unwrap(),
        FrameConsumer::attach(memory(), layout).unwrap(),
    )
}

#[test]
fn a_block_is_two_pages_and_the_whole_pages_of_its_records() {
    let len = |page, record, capacity| {
        let layout = BlockLayout::new(page, record, capacity).unwrap();
        assert_eq!(layout.page_size(), page);
        layout.block_len()
    };
    assert_eq!(len(PAGE, 8, 1), 3 * PAGE);
    assert_eq!(len(PAGE, 8, 512), 3 * PAGE);
    assert_eq!(len(PAGE, 8, 1024), 4 * PAGE);
    assert_eq!(len(PAGE, 4096 + 8, 1), 4 * PAGE);
    assert_eq!(len(1 << 16, 8, 1024), 3 << 16);
    // The most records of the largest size, and pages that are too large for them.
    assert_eq!(len(1 << 61, u32::MAX - 7, 1 << 31), 6 << 61);
    assert_eq!(len(1 << 62, u32::MAX - 7, 1 << 30), 3 << 62);
    for (page, record, capacity) in [(1 << 62, u32::MAX - 7, 1 << 31), (1 << 63, 8, 1)] {
        let too_long = BlockLayout::new(page, record, capacity);
        assert_eq!(too_long, Err(LayoutError::BlockTooLong));
    }
}

#[test]
fn a_header_without_room_for_its_ring_tells_how_many_bytes_the_ring_needs() {
    let layout = BlockLayout::new(PAGE, 8, 1024).unwrap();
    let words = zeroed(layout.block_len());
    let mut memory = SharedWords::new(&words);
    layout.initialize(&mut memory, 0).unwrap();
    // From the first that has a header to read.
    for block_len in [2 * PAGE, 3 * PAGE] {
        let truncated = HeaderError::Truncated {
            needed: 4 * PAGE,
            block_len,
        };
        let read = BlockLayout::read_header(&mut memory, PAGE, block_len);
        assert_eq!(read, Err(truncated));
    }
    let without = HeaderError::Truncated {
        needed: 2 * PAGE,
        block_len: PAGE,
    };
    let read = BlockLayout::read_header(&mut memory, PAGE, PAGE);
    assert_eq!(read, Err(without));
}

#[test]
fn the_longest_record_is_what_fits_or_what_its_prefix_can_tell() {
    let longest = |capacity| FrameLayout::new(PAGE, capacity).unwrap().max_record_len();
    assert_eq!(longest(2), 8);
    assert_eq!(longest(1 << 29), u32::MAX - 7);
    assert_eq!(longest(1 << 30), u32::MAX);
    assert_eq!(longest(1 << 31), u32::MAX);
}

/// Larger than its distance from the start of the block, which would not show otherwise.
#[test]
fn the_first_frame_of_a_large_ring_lies_at_the_start_of_its_data() {
    let layout = FrameLayout::new(PAGE, 8192).unwrap();
    let block = layout.block();
    let words = zeroed(block.block_len());
    let (mut producer, _) = ends(&words, layout, 0);
    producer.push(&[0xAB; 8]).unwrap();
    let mut found = [0; 16];
    SharedWords::new(&words)
        .read(block.data_offset(), &mut found)
        .unwrap();
    assert_eq!(found[..8], [8, 0, 0, 0, !8, !0, !0, !0]);
    assert_eq!(found[8..], [0xAB; 8]);
}

#[test]
fn units_are_free_or_published_and_a_frame_moves_all_of_its_own() {
    for first_index in [0, u32::MAX - 2] {
        let layout = FrameLayout::new(PAGE, 8).unwrap();
        let words = zeroed(layout.block().block_len());
        let (mut producer, mut consumer) = ends(&words, layout, first_index);
        assert_eq!((producer.free(), consumer.occupied()), (Ok(8), Ok(0)));
        producer.push(&[1; 17]).unwrap();
        assert_eq!((producer.free(), consumer.occupied()), (Ok(4), Ok(4)));
        producer.push(&[2; 8]).unwrap();
        assert_eq!((producer.free(), consumer.occupied()), (Ok(2), Ok(6)));
        assert_eq!(consumer.pop(&mut [0; 17]), Ok(17));
        assert_eq!((producer.free(), consumer.occupied()), (Ok(6), Ok(2)));
    }
}

#[test]
fn ends_of_a_ring_of_frames_answer_a_request_once() {
    let layout = FrameLayout::new(PAGE, 8).unwrap();
    let words = zeroed(layout.block().block_len());
    let (mut producer, mut consumer) = ends(&words, layout, 0);
    producer.push(&[0; 8]).unwrap();
    assert_eq!(producer.owes_wake(), Ok(false), "nobody asked");
    consumer.skip().unwrap();
    assert_eq!(consumer.owes_wake(), Ok(false), "nobody asked");

    assert_eq!(consumer.request_wake(), Ok(WakeRequest::Armed));
    producer.push(&[0; 56]).unwrap();
    assert_eq!(producer.owes_wake(), Ok(true));
    assert_eq!(producer.owes_wake(), Ok(false));
    assert_eq!(producer.request_wake(8), Ok(WakeRequest::Armed));
    consumer.skip().unwrap();
    assert_eq!(consumer.owes_wake(), Ok(true));
    assert_eq!(consumer.owes_wake(), Ok(false));
}
