//! A hostile peer gets error values, and nothing else: every access that the ring makes is recorded
//! and checked against what its side is allowed to touch.
#![cfg(not(loom))]

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use hl_mem::ring::{
    BlockIndices, BlockLayout, BlockRead, BlockWrite, Consumer, PeerIndex, PopError, Producer,
    PushError, SharedWords,
};

const RECORD: usize = 24;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    LoadIndex,
    StoreIndex(u32),
    Read,
    Write,
}

/// The access that was told to fail.
#[derive(Debug, PartialEq, Eq)]
struct Fault;

/// A block in plain bytes, with a record of what one side did to it.
struct Block {
    layout: BlockLayout,
    bytes: Vec<u8>,
    accesses: Vec<Access>,
    /// How many accesses go well before one fails.
    faults_after: Option<usize>,
    /// What loads of the peer's index return, before the value in the block does.
    peer_script: VecDeque<u32>,
}

impl Block {
    fn index(&mut self, offset: u64) -> &mut [u8; 4] {
        self.bytes[offset as usize..].first_chunk_mut().unwrap()
    }

    fn enter(&mut self, access: Access) -> Result<(), Fault> {
        match &mut self.faults_after {
            Some(0) => {
                self.faults_after = None;
                return Err(Fault);
            }
            Some(left) => *left -= 1,
            None => {}
        }
        self.accesses.push(access);
        Ok(())
    }

    /// The bytes of a data access, which must be inside the data and cover whole records.
    fn data(&mut self, offset: u64, len: usize) -> &mut [u8] {
        let from_data = offset.checked_sub(self.layout.data_offset()).unwrap() as usize;
        assert!(len > 0 && len.is_multiple_of(RECORD) && from_data.is_multiple_of(RECORD));
        let data = self.layout.data_offset() as usize..;
        &mut self.bytes[data][..self.layout.data_len() as usize][from_data..][..len]
    }
}

/// The device's view.
struct Device;
/// The user process's view, which has no way to write data, as a read-only mapping has none.
struct User;

/// One side's view; `own` and `peer` are the offsets of the indices.
struct Side<Role> {
    block: Rc<RefCell<Block>>,
    own: u64,
    peer: u64,
    attached: bool,
    _role: Role,
}

impl<Role> BlockIndices for Side<Role> {
    type Error = Fault;

    fn load_index(&mut self, offset: u64) -> Result<u32, Fault> {
        let mut block = self.block.borrow_mut();
        block.enter(Access::LoadIndex)?;
        if offset == self.own {
            assert!(!self.attached, "an end read its own index a second time");
            self.attached = true;
        } else {
            assert_eq!(offset, self.peer);
            if let Some(index) = block.peer_script.pop_front() {
                return Ok(index);
            }
        }
        Ok(u32::from_le_bytes(*block.index(offset)))
    }

    fn store_index(&mut self, offset: u64, index: u32) -> Result<(), Fault> {
        assert_eq!(offset, self.own, "an end stored to its peer's index");
        let mut block = self.block.borrow_mut();
        block.enter(Access::StoreIndex(index))?;
        *block.index(offset) = index.to_le_bytes();
        Ok(())
    }
}

impl BlockWrite for Side<Device> {
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Fault> {
        let mut block = self.block.borrow_mut();
        block.enter(Access::Write)?;
        block.data(offset, bytes.len()).copy_from_slice(bytes);
        Ok(())
    }
}

impl BlockRead for Side<User> {
    fn read(&mut self, offset: u64, bytes: &mut [u8]) -> Result<(), Fault> {
        let mut block = self.block.borrow_mut();
        block.enter(Access::Read)?;
        bytes.copy_from_slice(block.data(offset, bytes.len()));
        Ok(())
    }
}

/// The test's hand on the block, outside both ends.
#[derive(Clone)]
struct Bench(Rc<RefCell<Block>>);

impl Bench {
    fn new(capacity: u32, first_index: u32) -> Self {
        let layout = BlockLayout::new(4096, RECORD as u32, capacity).unwrap();
        let bench = Self(Rc::new(RefCell::new(Block {
            layout,
            bytes: vec![0; layout.block_len() as usize],
            accesses: Vec::new(),
            faults_after: None,
            peer_script: VecDeque::new(),
        })));
        bench.set_producer_index(first_index);
        bench.set_consumer_index(first_index);
        bench
    }

    fn layout(&self) -> BlockLayout {
        self.0.borrow().layout
    }

    fn device(&self) -> Side<Device> {
        Side {
            block: Rc::clone(&self.0),
            own: self.layout().producer_index_offset(),
            peer: self.layout().consumer_index_offset(),
            attached: false,
            _role: Device,
        }
    }

    fn producer(&self) -> Producer<Side<Device>> {
        Producer::attach(self.device(), self.layout()).unwrap()
    }

    fn user(&self) -> Side<User> {
        Side {
            block: Rc::clone(&self.0),
            own: self.layout().consumer_index_offset(),
            peer: self.layout().producer_index_offset(),
            attached: false,
            _role: User,
        }
    }

    fn consumer(&self) -> Consumer<Side<User>> {
        Consumer::attach(self.user(), self.layout()).unwrap()
    }

    fn set_producer_index(&self, index: u32) {
        let offset = self.layout().producer_index_offset();
        *self.0.borrow_mut().index(offset) = index.to_le_bytes();
    }

    fn set_consumer_index(&self, index: u32) {
        let offset = self.layout().consumer_index_offset();
        *self.0.borrow_mut().index(offset) = index.to_le_bytes();
    }

    fn script(&self, indices: &[u32]) {
        self.0.borrow_mut().peer_script = indices.iter().copied().collect();
    }

    fn fault_after(&self, accesses: Option<usize>) {
        self.0.borrow_mut().faults_after = accesses;
    }

    fn bytes(&self) -> Vec<u8> {
        self.0.borrow().bytes.clone()
    }

    fn accesses(&self) -> Vec<Access> {
        std::mem::take(&mut self.0.borrow_mut().accesses)
    }
}

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

/// SplitMix64: the same numbers on every run, so that a failure names its seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u32) -> u32 {
        (self.next() % u64::from(limit)) as u32
    }

    fn chance(&mut self, one_in: u32) -> bool {
        self.below(one_in) == 0
    }

    /// An index as a hostile peer might choose it, with honest ones among them.
    fn index(&mut self, near: u32, capacity: u32) -> u32 {
        match self.below(4) {
            0 => self.next() as u32,
            1 => {
                let values = interesting(near, capacity);
                values[self.below(values.len() as u32) as usize]
            }
            _ => near
                .wrapping_add(self.below(2 * capacity + 1))
                .wrapping_sub(capacity),
        }
    }
}

/// What became of the calls of a random test, which must have seen everything to mean anything.
#[derive(Debug, Default)]
struct Outcomes {
    accepted: u32,
    waited: u32,
    refused: u32,
}

impl Outcomes {
    fn assert_varied(&self) {
        let least = self.accepted.min(self.waited).min(self.refused);
        assert!(least >= 1000, "{self:?}");
    }
}

/// Any bytes anywhere, the indices and the header included.
fn scribble(bench: &Bench, random: &mut Random) {
    let mut block = bench.0.borrow_mut();
    let len = block.bytes.len() as u32;
    for _ in 0..random.below(8) {
        let place = random.below(len) as usize;
        block.bytes[place] = random.next() as u8;
    }
    let header = block.layout.header_offset() as usize;
    block.bytes[header + random.below(16) as usize] = random.next() as u8;
}

#[test]
fn no_hostile_consumer_makes_the_producer_leave_its_slots() {
    let mut outcomes = Outcomes::default();
    for seed in 0..300 {
        let mut random = Random(seed);
        let capacity = 1 << random.below(6);
        let first_index = random.next() as u32;
        let bench = Bench::new(capacity, first_index);
        let mut producer = bench.producer();
        for step in 0..200 {
            scribble(&bench, &mut random);
            let index = random.index(producer.index(), capacity);
            bench.set_consumer_index(index);
            if random.chance(8) {
                let accesses = random.below(4) as usize;
                bench.fault_after(Some(accesses));
            }
            let before = producer.index();
            let mut bytes = bench.bytes();
            let wanted = random.below(2 * capacity + 1);
            bench.accesses();
            let got = producer.push_batch(&records(0..wanted));
            let accesses = bench.accesses();
            bench.fault_after(None);

            match &got {
                Ok(_) => outcomes.accepted += 1,
                Err(PushError::Full) => outcomes.waited += 1,
                Err(PushError::PeerIndex(_)) => outcomes.refused += 1,
                Err(error) => assert_eq!(error, &PushError::Memory(Fault)),
            }
            let pushed = *got.as_ref().unwrap_or(&0);
            assert!(pushed <= wanted.min(capacity), "seed {seed} step {step}");
            let expected = before.wrapping_add(pushed);
            assert_eq!(producer.index(), expected, "seed {seed} step {step}");
            if pushed > 0 {
                for n in 0..pushed {
                    let slot = before.wrapping_add(n) % capacity;
                    let place = 2 * 4096 + slot as usize * RECORD;
                    bytes[place..place + RECORD].copy_from_slice(&record(n));
                }
                bytes[4096 + 128..4096 + 132].copy_from_slice(&expected.to_le_bytes());
                assert_eq!(accesses.last(), Some(&Access::StoreIndex(expected)));
            }
            if got != Err(PushError::Memory(Fault)) {
                assert!(bench.bytes() == bytes, "seed {seed} step {step}");
            }
            let stores = accesses
                .iter()
                .filter(|access| matches!(access, Access::StoreIndex(_)));
            assert_eq!(stores.count(), usize::from(pushed > 0));
        }
    }
    outcomes.assert_varied();
}

#[test]
fn no_hostile_producer_makes_the_consumer_leave_its_slots() {
    let mut outcomes = Outcomes::default();
    for seed in 0..300 {
        let mut random = Random(seed ^ 0x5EED);
        let capacity = 1 << random.below(6);
        let first_index = random.next() as u32;
        let bench = Bench::new(capacity, first_index);
        let mut consumer = bench.consumer();
        for step in 0..200 {
            scribble(&bench, &mut random);
            let index = random.index(consumer.index(), capacity);
            bench.set_producer_index(index);
            if random.chance(8) {
                let accesses = random.below(4) as usize;
                bench.fault_after(Some(accesses));
            }
            let before = consumer.index();
            let data = bench.bytes();
            let wanted = random.below(2 * capacity + 1) as usize;
            let mut buffer = vec![0; RECORD * wanted];
            bench.accesses();
            let got = consumer.pop_batch(&mut buffer);
            let accesses = bench.accesses();
            bench.fault_after(None);

            match &got {
                Ok(_) => outcomes.accepted += 1,
                Err(PopError::Empty) => outcomes.waited += 1,
                Err(PopError::PeerIndex(_)) => outcomes.refused += 1,
                Err(error) => assert_eq!(error, &PopError::Memory(Fault)),
            }
            let popped = *got.as_ref().unwrap_or(&0);
            assert!(popped <= capacity && popped as usize <= wanted);
            let expected = before.wrapping_add(popped);
            assert_eq!(consumer.index(), expected, "seed {seed} step {step}");
            for (n, record) in buffer
                .chunks_exact(RECORD)
                .take(popped as usize)
                .enumerate()
            {
                let slot = before.wrapping_add(n as u32) % capacity;
                let place = 2 * 4096 + slot as usize * RECORD;
                assert_eq!(record, &data[place..place + RECORD]);
            }
            let stores = accesses
                .iter()
                .filter(|access| matches!(access, Access::StoreIndex(_)));
            assert_eq!(stores.count(), usize::from(popped > 0));
            if popped > 0 {
                assert_eq!(accesses.last(), Some(&Access::StoreIndex(expected)));
            }
        }
    }
    outcomes.assert_varied();
}
