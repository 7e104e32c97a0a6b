//! Random hostile peers.

use hl_mem::ring::{PopError, PushError};

use crate::bench::{Access, Bench, Fault};
use crate::{RECORD, interesting, record, records};

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
