//! The rings against a peer that writes whatever it likes, at any moment.
//!
//! A hostile peer can spoil records, which are its own to spoil. What it must not get is an access
//! outside of the ring's data, work without end, or a step further than the indices allow.

use std::cell::Cell;
use std::rc::Rc;

use hl_mem::ring::{
    BlockIndices, BlockLayout, BlockRead, BlockWrite, Consumer, FrameConsumer, FrameLayout,
    FramePopError, PopError, Producer, PushError, SharedWordsError,
};
use loom::thread;

use crate::ring::{Block, CAPACITY, CONSUMER_INDEX, DATA, PRODUCER_INDEX, RECORD, record};
use crate::{expect_failure, explore};

/// A view whose owner believes an index of the peer that is out of range: it takes it for the nearest
/// that is not.
struct Lenient {
    block: Block,
    /// The owner's own index, and how far beyond it the peer's may be.
    own: u64,
    index: u32,
    lead: u32,
}

impl Lenient {
    fn new(block: Block, own: u64, lead: u32) -> Self {
        Self {
            block,
            own,
            index: 0,
            lead,
        }
    }
}

impl BlockIndices for Lenient {
    type Error = SharedWordsError;

    fn load_index(&mut self, offset: u64) -> Result<u32, SharedWordsError> {
        let index = self.block.load_index(offset)?;
        Ok(index.min(self.index + self.lead))
    }

    fn store_index(&mut self, offset: u64, index: u32) -> Result<(), SharedWordsError> {
        if offset == self.own {
            self.index = index;
        }
        self.block.store_index(offset, index)
    }
}

impl BlockWrite for Lenient {
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), SharedWordsError> {
        self.block.write(offset, bytes)
    }
}

impl BlockRead for Lenient {
    fn read(&mut self, offset: u64, bytes: &mut [u8]) -> Result<(), SharedWordsError> {
        self.block.read(offset, bytes)
    }
}

/// A consumer that has taken nothing stores an index beyond all that was produced, and an honest
/// one again, while three records are pushed into a ring of two.
fn hostile_consumer<V>(view: impl FnOnce(Block) -> V)
where
    V: BlockIndices<Error = SharedWordsError> + BlockWrite,
{
    let block = Block::new(0, false, None);
    let layout = BlockLayout::new(4096, RECORD as u32, CAPACITY).unwrap();
    let mut producer = Producer::attach(view(block.clone()), layout).unwrap();
    let mut user = block.clone();
    let hostile = thread::spawn(move || {
        for index in [3, 0] {
            user.store_index(CONSUMER_INDEX, index).unwrap();
        }
    });
    let mut pushed = 0;
    for n in 0..3 {
        match producer.push(&record(n)) {
            Ok(()) => pushed += 1,
            Err(PushError::Full) => assert_eq!(pushed, 2),
            Err(PushError::PeerIndex(error)) => assert_eq!(error.found, 3),
            Err(error) => panic!("{error}"),
        }
    }
    hostile.join().unwrap();
    assert!(pushed <= 2, "a record was overwritten");
    assert_eq!(producer.index(), pushed);
}

/// Proves that a consumer that changes its index at any moment, to one beyond all that was produced
/// and back to an honest one, gains nothing: the producer reports the value or never sees it, and
/// pushes no more than the ring holds.
#[test]
fn a_hostile_index_is_refused_or_not_seen() {
    explore(
        "a hostile consumer's index is reported or not seen, and gains nothing",
        || hostile_consumer(|block| block),
    );
}

/// A producer that makes the best of an index out of range overwrites what was not consumed.
#[test]
fn an_index_out_of_range_that_is_believed_is_found() {
    expect_failure(
        "an index out of range is taken for the nearest in range",
        "a record was overwritten",
        || hostile_consumer(|block| Lenient::new(block, PRODUCER_INDEX, 0)),
    );
}

/// A producer publishes a record, claims more than the ring holds, takes that back, and publishes
/// another, while the consumer takes what it is told is there.
fn hostile_producer<V>(view: impl FnOnce(Block) -> V)
where
    V: BlockIndices<Error = SharedWordsError> + BlockRead,
{
    let block = Block::new(0, false, None);
    let layout = BlockLayout::new(4096, RECORD as u32, CAPACITY).unwrap();
    let mut consumer = Consumer::attach(view(block.clone()), layout).unwrap();
    let mut device = block.clone();
    let hostile = thread::spawn(move || {
        for (number, index) in [(0, 1), (1, CAPACITY + 2), (1, 2)] {
            let offset = DATA + u64::from(number) * RECORD as u64;
            if index <= CAPACITY {
                device.write(offset, &record(number)).unwrap();
            }
            device.store_index(PRODUCER_INDEX, index).unwrap();
        }
    });
    let mut popped = 0;
    for _ in 0..3 {
        let mut found = [0; RECORD];
        match consumer.pop(&mut found) {
            Ok(()) => {
                assert_eq!(found, record(popped), "{WRONG_RECORD} {popped}");
                popped += 1;
            }
            Err(PopError::Empty) => {}
            Err(PopError::PeerIndex(error)) => assert_eq!(error.found, CAPACITY + 2),
            Err(error) => panic!("{error}"),
        }
    }
    hostile.join().unwrap();
    assert_eq!(consumer.index(), popped);
}

const WRONG_RECORD: &str = "wrong record";

/// Proves that a producer that claims more than the ring holds, at any moment, is reported or not
/// seen: the consumer takes the records that were published, and nothing else.
#[test]
fn a_claim_of_more_than_the_ring_holds_is_refused_or_not_seen() {
    explore(
        "a hostile producer's index is reported or not seen: only what was published is popped",
        || hostile_producer(|block| block),
    );
}

#[test]
fn a_claim_of_more_than_the_ring_holds_that_is_believed_is_found() {
    expect_failure(
        "a producer's index out of range is taken for the nearest in range",
        WRONG_RECORD,
        || hostile_producer(|block| Lenient::new(block, CONSUMER_INDEX, CAPACITY)),
    );
}

/// Counts the accesses of an end. All of them have to be within the ring.
struct Counted {
    block: Block,
    accesses: Rc<Cell<u32>>,
}

impl Counted {
    fn new(block: Block) -> (Self, Rc<Cell<u32>>) {
        let accesses = Rc::new(Cell::new(0));
        let counted = Rc::clone(&accesses);
        (Self { block, accesses }, counted)
    }

    fn count(&self) {
        self.accesses.set(self.accesses.get() + 1);
    }
}

impl BlockIndices for Counted {
    type Error = SharedWordsError;

    fn load_index(&mut self, offset: u64) -> Result<u32, SharedWordsError> {
        self.count();
        self.block.load_index(offset)
    }

    fn store_index(&mut self, offset: u64, index: u32) -> Result<(), SharedWordsError> {
        self.count();
        self.block.store_index(offset, index)
    }
}

impl BlockRead for Counted {
    fn read(&mut self, offset: u64, bytes: &mut [u8]) -> Result<(), SharedWordsError> {
        self.count();
        self.block.read(offset, bytes)
    }
}

/// A producer that never stops publishing records of no bytes, in a ring of frames, while the
/// consumer takes what there is; planted: it goes on for as long as there is something.
fn never_ending_producer(at_once: bool) {
    let block = Block::new(0, false, None);
    let layout = FrameLayout::new(4096, CAPACITY).unwrap();
    let mut device = block.clone();
    let empty = [0_u32.to_le_bytes(), (!0_u32).to_le_bytes()];
    for unit in 0..u64::from(CAPACITY) {
        device.write(DATA + 8 * unit, empty.as_flattened()).unwrap();
    }
    let (view, accesses) = Counted::new(block);
    let mut consumer = FrameConsumer::attach(view, layout).unwrap();
    accesses.set(0);
    let hostile = thread::spawn(move || {
        for index in 1..=CAPACITY + 2 {
            device.store_index(PRODUCER_INDEX, index).unwrap();
        }
    });
    let mut taken = 0;
    if at_once {
        match consumer.pop_batch(&mut [], &mut [0; 3 * CAPACITY as usize]) {
            Ok(count) => taken = count as u32,
            // Seen first when it was beyond what the ring holds.
            Err(FramePopError::Empty | FramePopError::PeerIndex(_)) => {}
            Err(error) => panic!("{error}"),
        }
    } else {
        while consumer.pop(&mut []).is_ok() {
            taken += 1;
        }
    }
    assert!(taken <= CAPACITY, "{NO_END}");
    // For each frame a look at the index, its prefix and two pieces of it; and what is given back.
    assert!(accesses.get() <= 4 * CAPACITY + 2, "{NO_END}");
    hostile.join().unwrap();
    assert_eq!(consumer.index(), taken);
}

const NO_END: &str = "there is no end of work";

/// Proves that one batch is never more than the ring holds, however fast the producer refills it, and
/// takes no more accesses than that.
#[test]
fn a_batch_is_no_more_than_the_ring_holds() {
    explore(
        "a producer refills the ring for ever: a batch is no more than the ring, in bounded accesses",
        || never_ending_producer(true),
    );
}

#[test]
fn a_consumer_that_goes_on_for_as_long_as_there_is_something_is_found() {
    expect_failure(
        "the consumer pops one by one for as long as there is something",
        NO_END,
        || never_ending_producer(false),
    );
}

/// A producer overwrites the prefix of a published frame, with lengths of more than was published and
/// of more than there are bytes, while the consumer asks for the length and takes the record; planted:
/// the length is read once more for that.
fn changing_length(once: bool) {
    const UNITS: u32 = 4;
    let block = Block::with_capacity(UNITS, 0, false, None);
    let layout = FrameLayout::new(4096, UNITS).unwrap();
    let mut device = block.clone();
    let write = |device: &mut Block, len: u32| {
        let prefix = [len.to_le_bytes(), (!len).to_le_bytes()];
        device.write(DATA, prefix.as_flattened()).unwrap();
    };
    write(&mut device, 8);
    device.store_index(PRODUCER_INDEX, 3).unwrap();
    let (view, accesses) = Counted::new(block.clone());
    let mut consumer = FrameConsumer::attach(view, layout).unwrap();
    accesses.set(0);
    let hostile = thread::spawn(move || {
        for len in [16, 17, u32::MAX] {
            write(&mut device, len);
        }
    });
    match consumer.next_len() {
        Ok(len) => {
            // What the caller makes of it: room for as much.
            assert!(len == 8 || len == 16, "{len} bytes were not published");
            if !once {
                let (view, _) = Counted::new(block);
                consumer = FrameConsumer::attach(view, layout).unwrap();
            }
            assert_eq!(
                consumer.pop(&mut vec![0; len as usize]),
                Ok(len),
                "{CHANGED}"
            );
            assert_eq!(consumer.index(), FrameLayout::frame_units(len));
        }
        Err(FramePopError::Frame { published, .. }) => {
            assert_eq!(published, 3);
            // The way out, which the producer cannot bar.
            assert_eq!(consumer.skip_all(), Ok(3));
        }
        Err(error) => panic!("{error}"),
    }
    assert!(accesses.get() <= 6, "{NO_END}");
    hostile.join().unwrap();
}

const CHANGED: &str = "the length of a record changed";

/// Proves that the length of a record is read once, and that one which cannot be, or is put together
/// from two, is reported.
#[test]
fn the_length_of_a_record_is_read_once() {
    explore(
        "a producer rewrites a length: the consumer has one that was published for good, or reports it",
        || changing_length(true),
    );
}

#[test]
fn a_length_that_is_read_twice_is_found() {
    expect_failure(
        "the length is read again after room was made for the record",
        CHANGED,
        || changing_length(false),
    );
}
