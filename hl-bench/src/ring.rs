//! The ring of a producer/consumer block beside two single-producer rings of the registry.
//!
//! Everybody passes the same records through rings of the same size between the same two threads.
//! The peers' rings are private to one program: they trust their indices and move values. Ours
//! copies bytes to and from memory that somebody else may change at any time, checks each index that
//! it reads, and checks each access against the block.

use std::fmt::{Debug, Write as _};
use std::hint::{black_box, spin_loop};
use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::thread;
use std::time::Instant;

use hl_mem::ring::{
    BlockLayout, BlockRead, BlockWrite, Consumer, Producer, SharedWords, WideWords,
};

/// 64 bytes: as many as most CPUs have in a cache line.
type Record = [[u8; 8]; 8];

/// Records that each ring holds; heapless holds one less than its size.
const CAPACITY: usize = 1024;
/// The block that our ring lies in.
const LAYOUT: BlockLayout =
    match BlockLayout::new(4096, size_of::<Record>() as u32, CAPACITY as u32) {
        Ok(layout) => layout,
        Err(_) => panic!("the layout is a constant"),
    };
const INDEX_BYTES: usize = LAYOUT.data_offset() as usize;
const DATA_BYTES: usize = LAYOUT.data_len() as usize;

/// Aligned as a block is, and so that nobody's records straddle more cache lines than they must.
#[repr(align(4096))]
struct OnPages<T>(T);

/// Records that one call of a batch passes at most.
const BATCH: usize = 32;
/// Looks in vain before a thread lets others run: the machine may have fewer CPUs than threads.
const PATIENCE: u32 = 1000;

/// How the records are passed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Row {
    OneThread,
    TwoThreads,
    TwoThreadsBatch,
}

impl Row {
    const ALL: [Self; 3] = [Self::OneThread, Self::TwoThreads, Self::TwoThreadsBatch];

    const fn id(self) -> &'static str {
        match self {
            Self::OneThread => "r.ring-one-thread",
            Self::TwoThreads => "r.ring-two-threads",
            Self::TwoThreadsBatch => "r.ring-two-threads-batch",
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Self::OneThread => "push and pop records of 64 bytes, one thread",
            Self::TwoThreads => "pass records of 64 bytes from thread to thread",
            Self::TwoThreadsBatch => {
                "pass records of 64 bytes from thread to thread, up to 32 a call"
            }
        }
    }
}

/// The producing end of a subject.
trait Push: Send {
    /// Pushes a record; `false` where the ring is full.
    fn push(&mut self, record: &Record) -> bool;

    /// Pushes the first of some records and returns how many.
    fn push_batch(&mut self, records: &[Record]) -> usize {
        let full = records.iter().position(|record| !self.push(record));
        full.unwrap_or(records.len())
    }
}

/// The consuming end of a subject.
trait Pop: Send {
    /// Pops a record; `false` where the ring is empty.
    fn pop(&mut self, record: &mut Record) -> bool;

    /// Pops some records and returns how many.
    fn pop_batch(&mut self, records: &mut [Record]) -> usize {
        let all = records.len();
        let empty = records.iter_mut().position(|record| !self.pop(record));
        empty.unwrap_or(all)
    }
}

impl<M: BlockWrite + Send> Push for Producer<M> {
    fn push(&mut self, record: &Record) -> bool {
        Producer::push(self, record.as_flattened()).is_ok()
    }

    fn push_batch(&mut self, records: &[Record]) -> usize {
        let bytes = records.as_flattened().as_flattened();
        Producer::push_batch(self, bytes).map_or(0, |count| count as usize)
    }
}

impl<M: BlockRead + Send> Pop for Consumer<M> {
    fn pop(&mut self, record: &mut Record) -> bool {
        Consumer::pop(self, record.as_flattened_mut()).is_ok()
    }

    fn pop_batch(&mut self, records: &mut [Record]) -> usize {
        let bytes = records.as_flattened_mut().as_flattened_mut();
        Consumer::pop_batch(self, bytes).map_or(0, |count| count as usize)
    }
}

impl Push for heapless::spsc::Producer<'_, Record> {
    fn push(&mut self, record: &Record) -> bool {
        self.enqueue(*record).is_ok()
    }
}

impl Pop for heapless::spsc::Consumer<'_, Record> {
    fn pop(&mut self, record: &mut Record) -> bool {
        self.dequeue().map(|popped| *record = popped).is_some()
    }
}

impl Push for rtrb::Producer<Record> {
    fn push(&mut self, record: &Record) -> bool {
        rtrb::Producer::push(self, *record).is_ok()
    }

    fn push_batch(&mut self, records: &[Record]) -> usize {
        self.push_partial_slice(records).0.len()
    }
}

impl Pop for rtrb::Consumer<Record> {
    fn pop(&mut self, record: &mut Record) -> bool {
        rtrb::Consumer::pop(self)
            .map(|popped| *record = popped)
            .is_ok()
    }

    fn pop_batch(&mut self, records: &mut [Record]) -> usize {
        self.pop_partial_slice(records).0.len()
    }
}

/// The implementations, and what differs from the rows' descriptions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Subject {
    Ours,
    OursNarrow,
    Heapless,
    Rtrb,
}

impl Subject {
    const ALL: [Self; 4] = [Self::Ours, Self::OursNarrow, Self::Heapless, Self::Rtrb];

    const fn name(self) -> &'static str {
        match self {
            Self::Ours => "hl-mem ring",
            Self::OursNarrow => "hl-mem ring, 32-bit words",
            Self::Heapless => "heapless spsc",
            Self::Rtrb => "rtrb",
        }
    }

    const fn note(self, row: Row) -> &'static str {
        match (self, row) {
            (Self::Heapless, Row::TwoThreadsBatch) => "no batches: one by one",
            _ => "",
        }
    }

    /// Passes `count` records as the row says, through a new ring. Nanoseconds per record.
    fn measure(self, row: Row, count: u64) -> f64 {
        match self {
            Self::Ours => {
                let indices = [const { AtomicU32::new(0) }; INDEX_BYTES / 4];
                let data = [const { AtomicU64::new(0) }; DATA_BYTES / 8];
                let block = Box::new((OnPages(indices), OnPages(data)));
                let (OnPages(indices), OnPages(data)) = &*block;
                pass_through_block(row, count, WideWords::new(indices, data))
            }
            Self::OursNarrow => {
                let words = [const { AtomicU32::new(0) }; (INDEX_BYTES + DATA_BYTES) / 4];
                let block = Box::new(OnPages(words));
                pass_through_block(row, count, SharedWords::new(&block.0))
            }
            Self::Heapless => {
                let queue = heapless::spsc::Queue::<Record, CAPACITY>::new();
                let mut queue = Box::new(OnPages(queue));
                let (producer, consumer) = queue.0.split();
                pass(row, count, producer, consumer)
            }
            Self::Rtrb => {
                let (producer, consumer) = rtrb::RingBuffer::new(CAPACITY);
                pass(row, count, producer, consumer)
            }
        }
    }
}

/// Passes records through a ring of ours in `memory`.
fn pass_through_block<M>(row: Row, count: u64, mut memory: M) -> f64
where
    M: BlockRead + BlockWrite<Error: Debug> + Copy + Send,
{
    LAYOUT
        .initialize(&mut memory, 0)
        .expect("the memory is the block");
    let producer = Producer::attach(memory, LAYOUT).expect("the same");
    let consumer = Consumer::attach(memory, LAYOUT).expect("the same");
    pass(row, count, producer, consumer)
}

fn record(number: u64) -> Record {
    [number.to_ne_bytes(); 8]
}

fn check(record: &Record, number: u64) {
    let expected = number.to_ne_bytes();
    assert!(
        record[0] == expected && record[7] == expected,
        "a record is wrong"
    );
}

/// Waits a little, after `looks` looks in vain.
fn wait(looks: &mut u32) {
    *looks += 1;
    if looks.is_multiple_of(PATIENCE) {
        thread::yield_now();
    } else {
        spin_loop();
    }
}

fn pass(row: Row, count: u64, producer: impl Push, consumer: impl Pop) -> f64 {
    match row {
        Row::OneThread => in_one_thread(count, producer, consumer),
        Row::TwoThreads => between_threads(count, producer, consumer, push_all, pop_all),
        Row::TwoThreadsBatch => {
            between_threads(count, producer, consumer, push_batches, pop_batches)
        }
    }
}

/// Passes records in turns of 64, so that they are in the nearest cache.
fn in_one_thread(count: u64, mut producer: impl Push, mut consumer: impl Pop) -> f64 {
    const TURN: u64 = 64;
    let start = Instant::now();
    for turn in 0..count / TURN {
        let numbers = turn * TURN..(turn + 1) * TURN;
        for number in numbers.clone() {
            assert!(producer.push(black_box(&record(number))));
        }
        for number in numbers {
            let mut popped = Record::default();
            assert!(consumer.pop(&mut popped));
            check(&popped, number);
        }
    }
    start.elapsed().as_nanos() as f64 / (count / TURN * TURN) as f64
}

fn between_threads<P: Push, C: Pop>(
    count: u64,
    producer: P,
    mut consumer: C,
    push: impl FnOnce(&mut P, u64) + Send,
    pop: impl FnOnce(&mut C, u64),
) -> f64 {
    let ready = Barrier::new(2);
    let signal = &ready;
    thread::scope(|scope| {
        // Each end lives on the stack of the thread that uses it: what one keeps for itself must not
        // share a cache line with what the other does.
        scope.spawn(move || {
            let mut producer = producer;
            signal.wait();
            push(&mut producer, count);
        });
        ready.wait();
        let start = Instant::now();
        pop(&mut consumer, count);
        start.elapsed().as_nanos() as f64 / count as f64
    })
}

fn push_all(producer: &mut impl Push, count: u64) {
    for number in 0..count {
        let mut looks = 0;
        while !producer.push(&record(number)) {
            wait(&mut looks);
        }
    }
}

fn pop_all(consumer: &mut impl Pop, count: u64) {
    for number in 0..count {
        let mut popped = Record::default();
        let mut looks = 0;
        while !consumer.pop(&mut popped) {
            wait(&mut looks);
        }
        check(&popped, number);
    }
}

fn push_batches(producer: &mut impl Push, count: u64) {
    let mut pushed = 0;
    let mut looks = 0;
    while pushed < count {
        let most = (count - pushed).min(BATCH as u64) as usize;
        let mut numbers = pushed..;
        let records: [Record; BATCH] =
            core::array::from_fn(|_| record(numbers.next().unwrap_or_default()));
        let mut rest = &records[..most];
        while !rest.is_empty() {
            let count = producer.push_batch(rest);
            rest = &rest[count..];
            if count == 0 {
                wait(&mut looks);
            }
        }
        pushed += most as u64;
    }
}

fn pop_batches(consumer: &mut impl Pop, count: u64) {
    let mut records = [Record::default(); BATCH];
    let mut popped = 0;
    let mut looks = 0;
    while popped < count {
        let most = (count - popped).min(BATCH as u64) as usize;
        let got = consumer.pop_batch(&mut records[..most]);
        if got == 0 {
            wait(&mut looks);
        }
        for record in &records[..got] {
            check(record, popped);
            popped += 1;
        }
    }
}

/// One subject in one row.
#[derive(Clone, Debug)]
struct Samples {
    row: Row,
    subject: Subject,
    /// Nanoseconds per record, one for each round.
    ns: Vec<f64>,
}

impl Samples {
    fn best(&self) -> f64 {
        self.ns.iter().copied().fold(f64::INFINITY, f64::min)
    }

    fn median(&self) -> f64 {
        let mut sorted = self.ns.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

/// What was measured of the rings.
#[derive(Debug)]
pub(crate) struct Report(Vec<Samples>);

/// Measures all rings in `rounds` rounds, after one that is not counted, each round in another order.
/// `count` records are passed for each number.
pub(crate) fn measure(rounds: usize, count: u64) -> Report {
    let mut samples = Vec::new();
    for row in Row::ALL {
        for subject in Subject::ALL {
            let ns = Vec::with_capacity(rounds);
            samples.push(Samples { row, subject, ns });
        }
    }
    for round in 0..=rounds {
        let cells = samples.len();
        for turn in 0..cells {
            let one = &mut samples[(round + turn) % cells];
            let ns = one.subject.measure(one.row, count);
            if round > 0 {
                one.ns.push(ns);
            }
        }
    }
    Report(samples)
}

impl Report {
    /// The table for people.
    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        for row in Row::ALL {
            let _ = writeln!(text, "\n{:<55} best ns  median ns", row.title());
            for one in self.0.iter().filter(|one| one.row == row) {
                let line = format!(
                    "  {:<52} {:>8.2} {:>10.2}  {}",
                    one.subject.name(),
                    one.best(),
                    one.median(),
                    one.subject.note(row)
                );
                let _ = writeln!(text, "{}", line.trim_end());
            }
        }
        text
    }

    /// The JSON objects for programs, one for each row and implementation.
    pub(crate) fn json_objects(&self) -> Vec<String> {
        let objects = self.0.iter().map(|one| {
            // No name and no note has a character that JSON would escape.
            format!(
                "{{\"row\": \"{}\", \"title\": \"{}\", \"implementation\": \"{}\", \"best_ns\": {:.4}, \
                 \"median_ns\": {:.4}, \"note\": \"{}\"}}",
                one.row.id(),
                one.row.title(),
                one.subject.name(),
                one.best(),
                one.median(),
                one.subject.note(one.row)
            )
        });
        objects.collect()
    }
}
