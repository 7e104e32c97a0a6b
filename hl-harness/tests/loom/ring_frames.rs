//! Frames in a producer/consumer block.
//!
//! The block and its probes are those of the ring of records. Each frame here has a prefix and a
//! record of its own length, and some lie in two pieces.

use hl_mem::ring::{FrameConsumer, FrameLayout, FramePopError, FrameProducer, FramePushError};
use loom::thread;

use crate::ring::{Block, PRODUCER_INDEX, Relaxed};
use crate::{RACE, expect_failure, explore};

const CAPACITY: u32 = 4;

/// The `n`-th record: 1 to 3 units with their prefix.
fn record(n: usize) -> &'static [u8] {
    [&b"first"[..], b"second, longer", b""][n]
}

fn block(first_index: u32, probed: bool, relaxed: Option<Relaxed>) -> Block {
    Block::with_capacity(CAPACITY, first_index, probed, relaxed)
}

/// Passes three records, five units in all, through four, each side waiting where it must.
fn pass(block: &Block) {
    let layout = FrameLayout::new(4096, CAPACITY).unwrap();
    let mut producer = FrameProducer::attach(block.clone(), layout).unwrap();
    let mut consumer = FrameConsumer::attach(block.clone(), layout).unwrap();
    let device = thread::spawn(move || {
        for n in 0..3 {
            while let Err(error) = producer.push(record(n)) {
                assert_eq!(error, FramePushError::Full);
                thread::yield_now();
            }
        }
    });
    for n in 0..3 {
        let mut popped = [0; 16];
        let len = loop {
            match consumer.pop(&mut popped) {
                Ok(len) => break len,
                Err(FramePopError::Empty) => thread::yield_now(),
                Err(error) => panic!("wrong frame: {error}"),
            }
        };
        assert_eq!(&popped[..len as usize], record(n), "wrong frame {n}");
    }
    device.join().unwrap();
    assert_eq!(consumer.next_len(), Err(FramePopError::Empty));
}

/// Proves that frames arrive whole, once and in order and no unit is written while it is read, with
/// the second record in two pieces around the end of the data, where the indices wrap.
#[test]
fn frames_arrive_whole_and_in_order_across_the_wrap() {
    explore(
        "frames arrive whole, once and in order, also in two pieces across the wrap",
        || pass(&block(u32::MAX - 2, true, None)),
    );
}

/// Without release the index may overtake the frame: the consumer finds no prefix, or an old record.
#[test]
fn a_relaxed_publication_of_a_frame_is_found_by_value() {
    let relaxed = Some(Relaxed::Store(PRODUCER_INDEX));
    expect_failure(
        "the index is stored without release",
        "wrong frame",
        move || pass(&block(0, false, relaxed)),
    );
}

/// Without acquire the prefix may be read before the index is.
#[test]
fn a_relaxed_look_for_a_frame_is_found_as_a_race() {
    let relaxed = Some(Relaxed::Load(PRODUCER_INDEX));
    expect_failure("the index is loaded without acquire", RACE, move || {
        pass(&block(0, true, relaxed))
    });
}
