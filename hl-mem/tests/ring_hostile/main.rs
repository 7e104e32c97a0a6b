//! A hostile peer gets error values, and nothing else: every access that the ring makes is recorded
//! and checked against what its side is allowed to touch.
#![cfg(not(loom))]

mod bench;
mod random;

use hl_mem::ring::{
    BlockIndices, BlockLayout, BlockRead, BlockWrite, Consumer, PeerIndex, PopError, Producer,
    PushError, SharedWords,
};

use bench::{Access, Bench, Fault};

const RECORD: usize = 24;

fn record(n: u32) -> [u8; RECORD] {
    core::array::from_fn(|place| (n as u8).wrapping_mul(31) ^ (place as u8) ^ 0x80)
}

fn records(numbers: core::ops::Range<u32>) -> Vec<u8> {
    numbers.flat_map(record).collect()
}

/// Whether some whole number of `allowed`, counted without a wrap, has the bits of `index`.
fn is_one_of(index: u32, mut allowed: core::ops::RangeInclusive<u64>) -> bool {
    allowed.any(|position| position as u32 == index)
}

/// Index values around everything that could matter, for ends near `index`.
fn interesting(index: u32, capacity: u32) -> Vec<u32> {
    let mut values = Vec::new();
    for centre in [0, 1 << 31, index, index ^ (1 << 31)] {
        for step in [0, 1, capacity] {
            for nudge in [0, 1, u32::MAX] {
                values.push(u32::wrapping_add(centre, step).wrapping_add(nudge));
                values.push(u32::wrapping_sub(centre, step).wrapping_add(nudge));
            }
        }
    }
    values
}

/// Positions counted without a wrap, whose low 32 bits are the indices: near 0, 2^31 and 2^32.
const STARTS: [u64; 4] = [0x1_0000_0000, 0x1_7FFF_FFFE, 0x1_FFFF_FFFD, 0x1_FFFF_FFFF];

#[test]
fn the_producer_accepts_exactly_the_indices_an_honest_consumer_can_have() {
    const CAPACITY: u32 = 4;
    for start in STARTS {
        for pushed in 0..=CAPACITY {
            for popped in 0..=pushed {
                let produced = start + u64::from(pushed);
                let consumed = start + u64::from(popped);
                for found in interesting(produced as u32, CAPACITY) {
                    let bench = Bench::new(CAPACITY, start as u32);
                    let mut producer = bench.producer();
                    producer.push_batch(&records(0..pushed)).unwrap();
                    bench.set_consumer_index(consumed as u32);
                    assert_eq!(producer.free(), Ok(CAPACITY - (pushed - popped)));

                    bench.set_consumer_index(found);
                    let before = bench.bytes();
                    let got = producer.free();
                    if is_one_of(found, consumed..=produced) {
                        let occupied = (produced as u32).wrapping_sub(found);
                        assert_eq!(got, Ok(CAPACITY - occupied));
                    } else {
                        let Err(PushError::PeerIndex(error)) = got else {
                            panic!("{found:#x} gave {got:?}");
                        };
                        assert_eq!(
                            (error.found, error.earliest, error.latest),
                            (found, consumed as u32, produced as u32)
                        );
                        // A push that needs to look says the same; an honest index mends it.
                        let all = records(0..CAPACITY + 1);
                        assert_eq!(producer.push_batch(&all), got);
                        assert!(bench.bytes() == before);
                        bench.set_consumer_index(produced as u32);
                        assert_eq!(producer.free(), Ok(CAPACITY));
                    }
                }
            }
        }
    }
}

#[test]
fn the_consumer_accepts_exactly_the_indices_an_honest_producer_can_have() {
    const CAPACITY: u32 = 4;
    for start in STARTS {
        for seen in 0..=CAPACITY {
            for popped in 0..=seen {
                let consumed = start + u64::from(popped);
                let known = start + u64::from(seen);
                let furthest = consumed + u64::from(CAPACITY);
                for found in interesting(consumed as u32, CAPACITY) {
                    let bench = Bench::new(CAPACITY, start as u32);
                    let mut consumer = bench.consumer();
                    bench.set_producer_index(known as u32);
                    assert_eq!(consumer.occupied(), Ok(seen));
                    let mut taken = vec![0; RECORD * popped as usize];
                    assert_eq!(consumer.pop_batch(&mut taken), Ok(popped));

                    bench.set_producer_index(found);
                    let before = bench.bytes();
                    let got = consumer.occupied();
                    if is_one_of(found, known..=furthest) {
                        assert_eq!(got, Ok(found.wrapping_sub(consumed as u32)));
                    } else {
                        let Err(PopError::PeerIndex(error)) = got else {
                            panic!("{found:#x} gave {got:?}");
                        };
                        assert_eq!(
                            (error.found, error.earliest, error.latest),
                            (found, known as u32, furthest as u32)
                        );
                        let mut all = [0; RECORD * (CAPACITY as usize + 1)];
                        assert_eq!(consumer.pop_batch(&mut all), got);
                        assert!(bench.bytes() == before);
                        bench.set_producer_index(furthest as u32);
                        assert_eq!(consumer.occupied(), Ok(CAPACITY));
                    }
                }
            }
        }
    }
}

/// Indices without a block behind them: a ring of 2^31 records needs none until one is touched.
struct IndicesOnly {
    layout: BlockLayout,
    consumer: u32,
    producer: u32,
}

impl BlockIndices for IndicesOnly {
    type Error = Fault;
    fn load_index(&mut self, offset: u64) -> Result<u32, Fault> {
        let is_consumer = offset == self.layout.consumer_index_offset();
        Ok(if is_consumer {
            self.consumer
        } else {
            self.producer
        })
    }
    fn store_index(&mut self, _: u64, _: u32) -> Result<(), Fault> {
        Err(Fault)
    }
}

impl BlockRead for IndicesOnly {
    fn read(&mut self, _: u64, _: &mut [u8]) -> Result<(), Fault> {
        Err(Fault)
    }
}

impl BlockWrite for IndicesOnly {
    fn write(&mut self, _: u64, _: &[u8]) -> Result<(), Fault> {
        Err(Fault)
    }
}

#[test]
fn the_largest_ring_tells_full_from_empty_and_from_corrupt() {
    const CAPACITY: u32 = 1 << 31;
    let layout = BlockLayout::new(4096, 8, CAPACITY).unwrap();
    for consumer in [0, 1, CAPACITY - 1, CAPACITY, u32::MAX] {
        for (ahead, occupied) in [
            (0, Some(0)),
            (1, Some(1)),
            (CAPACITY, Some(CAPACITY)),
            (CAPACITY + 1, None),
            (u32::MAX, None),
        ] {
            let producer = consumer.wrapping_add(ahead);
            let memory = || IndicesOnly {
                layout,
                consumer,
                producer,
            };
            let free = Producer::attach(memory(), layout).unwrap().free();
            let filled = Consumer::attach(memory(), layout).unwrap().occupied();
            match occupied {
                Some(occupied) => {
                    assert_eq!(free, Ok(CAPACITY - occupied));
                    assert_eq!(filled, Ok(occupied));
                }
                None => {
                    assert!(matches!(free, Err(PushError::PeerIndex(_))));
                    assert!(matches!(filled, Err(PopError::PeerIndex(_))));
                }
            }
        }
    }
}

#[test]
fn data_is_written_before_and_read_before_one_publication() {
    use Access::{LoadIndex, Read, StoreIndex, Write};
    let bench = Bench::new(4, u32::MAX - 2);
    let (mut producer, mut consumer) = (bench.producer(), bench.consumer());
    bench.accesses();

    // Slots 1 to 3 and, after the end, none.
    assert_eq!(producer.push_batch(&records(0..3)), Ok(3));
    assert_eq!(bench.accesses(), [LoadIndex, Write, StoreIndex(0)]);
    let mut three = [0; 3 * RECORD];
    assert_eq!(consumer.pop_batch(&mut three), Ok(3));
    assert_eq!(bench.accesses(), [LoadIndex, Read, StoreIndex(0)]);

    // Slot 0, with what the producer still knows of the consumer.
    producer.push(&record(3)).unwrap();
    assert_eq!(bench.accesses(), [Write, StoreIndex(1)]);
    // Slots 1 to 3; for those it has to look.
    assert_eq!(producer.push_batch(&records(4..7)), Ok(3));
    assert_eq!(bench.accesses(), [LoadIndex, Write, StoreIndex(4)]);
    consumer.pop(&mut three[..RECORD]).unwrap();
    assert_eq!(bench.accesses(), [LoadIndex, Read, StoreIndex(1)]);
    // The others are known to be there: no look at the peer.
    consumer.pop_batch(&mut three[..2 * RECORD]).unwrap();
    assert_eq!(bench.accesses(), [Read, StoreIndex(3)]);

    // Slots 0 to 2 are free, slot 3 is occupied.
    assert_eq!(producer.push_batch(&records(7..10)), Ok(3));
    assert_eq!(bench.accesses(), [LoadIndex, Write, StoreIndex(7)]);
    // Slot 3, then over the end to 0 and 1.
    consumer.pop_batch(&mut three).unwrap();
    assert_eq!(bench.accesses(), [LoadIndex, Read, Read, StoreIndex(6)]);
    assert_eq!(three[..], records(6..9));
}

#[test]
fn an_index_that_changes_between_reads_is_read_once_per_call() {
    let bench = Bench::new(4, 0);
    let mut producer = bench.producer();
    bench.accesses();
    // The first value is honest. Whoever looked again would believe in room that is not there.
    bench.script(&[0, 2, 4, 1]);
    assert_eq!(producer.push_batch(&records(0..9)), Ok(4));
    let loads = bench.accesses();
    let loads = loads.iter().filter(|&&access| access == Access::LoadIndex);
    assert_eq!(loads.count(), 1);
    assert_eq!(producer.push_batch(&records(4..9)), Ok(2));
    assert_eq!(producer.push_batch(&records(6..9)), Ok(2));
    let backwards = producer.push_batch(&records(8..9));
    assert!(matches!(
        backwards,
        Err(PushError::PeerIndex(PeerIndex {
            found: 1,
            earliest: 4,
            latest: 8,
            ..
        }))
    ));

    let bench = Bench::new(4, 0);
    let mut consumer = bench.consumer();
    bench.accesses();
    bench.script(&[1, 9, 0]);
    let mut buffer = [0; 4 * RECORD];
    assert_eq!(consumer.pop_batch(&mut buffer), Ok(1));
    let loads = bench.accesses();
    let loads = loads.iter().filter(|&&access| access == Access::LoadIndex);
    assert_eq!(loads.count(), 1);
    for found in [9, 0] {
        let got = consumer.pop_batch(&mut buffer);
        let Err(PopError::PeerIndex(error)) = got else {
            panic!("{found} gave {got:?}");
        };
        assert_eq!((error.found, error.earliest, error.latest), (found, 1, 5));
    }
}

#[test]
fn a_running_ring_ignores_the_header() {
    let layout = BlockLayout::new(4096, 64, 64).unwrap();
    let words: Vec<_> = (0..layout.block_len() / 4)
        .map(|_| core::sync::atomic::AtomicU32::new(0))
        .collect();
    let mut memory = SharedWords::new(&words);
    layout.initialize(&mut memory, 0).unwrap();
    let read = BlockLayout::read_header(&mut memory, 4096, layout.block_len()).unwrap();
    let mut producer = Producer::attach(memory, read).unwrap();
    let mut consumer = Consumer::attach(memory, read).unwrap();
    for n in 0..200_u32 {
        // Twice the record size, a gigantic capacity, and then every word of the header.
        memory.write(4096 + 8, &128_u32.to_le_bytes()).unwrap();
        memory.write(4096 + 12, &[0, 0, 0, 0x80]).unwrap();
        memory.write(4096, &n.to_le_bytes().repeat(32)).unwrap();
        let record = [n as u8; 64];
        producer.push(&record).unwrap();
        let mut popped = [0; 64];
        consumer.pop(&mut popped).unwrap();
        assert_eq!(popped, record);
    }
}

#[test]
fn a_fault_at_any_access_of_a_push_publishes_nothing() {
    // Records 0 to 2 lie in slots 2, 3 and 0: a load, two writes and a store.
    for good in 0..4 {
        let bench = Bench::new(4, u32::MAX - 1);
        let (mut producer, mut consumer) = (bench.producer(), bench.consumer());
        bench.fault_after(Some(good));
        let batch = records(0..3);
        assert_eq!(producer.push_batch(&batch), Err(PushError::Memory(Fault)));
        assert_eq!(producer.index(), u32::MAX - 1);
        assert_eq!(consumer.occupied(), Ok(0));
        assert_eq!(producer.push_batch(&batch), Ok(3));
        let mut popped = [0; 4 * RECORD];
        assert_eq!(consumer.pop_batch(&mut popped), Ok(3));
        assert_eq!(popped[..3 * RECORD], batch);
    }
}

#[test]
fn a_fault_at_any_access_of_a_pop_consumes_nothing() {
    for good in 0..4 {
        let bench = Bench::new(4, u32::MAX - 1);
        let (mut producer, mut consumer) = (bench.producer(), bench.consumer());
        producer.push_batch(&records(0..3)).unwrap();
        bench.fault_after(Some(good));
        let mut popped = [0; 3 * RECORD];
        assert_eq!(
            consumer.pop_batch(&mut popped),
            Err(PopError::Memory(Fault))
        );
        assert_eq!(consumer.index(), u32::MAX - 1);
        assert_eq!(producer.free(), Ok(1));
        assert_eq!(consumer.pop_batch(&mut popped), Ok(3));
        assert_eq!(popped[..], records(0..3));
    }
}

#[test]
fn an_end_that_cannot_read_its_own_index_does_not_attach() {
    let bench = Bench::new(4, 0);
    let layout = bench.layout();
    bench.fault_after(Some(0));
    let producer = Producer::attach(bench.device(), layout);
    assert!(matches!(producer, Err(Fault)));
    bench.fault_after(Some(0));
    let consumer = Consumer::attach(bench.user(), layout);
    assert!(matches!(consumer, Err(Fault)));
}
