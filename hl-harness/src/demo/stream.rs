//! The stream: input to device memory, producer engine, ring, consumer, copy.
//!
//! Three parties, each a thread, and what they have in common:
//!
//! | party | reads | writes |
//! |---|---|---|
//! | driver | the input | pieces of it into device memory |
//! | producer engine | device memory, by physical address | records into the block, by device address |
//! | consumer | records, through its mapping | the copy |
//!
//! Device memory takes part as a few pieces in turn, so that an input may be larger than it.

use core::fmt;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use blake3::{Hash, Hasher};
use hl_mem::ring::{BlockLayout, Consumer, HeaderError, PeerIndex, PopError, Producer, PushError};
use mmu_core::{AddrRange, DeviceAddr, Run};

use super::record::{self, BadRecord, PAYLOAD_BYTES, RECORD_BYTES, Record};
use crate::asic::{AccessError, Asic, InitiatorId, InitiatorMode};
use crate::block_access::{DeviceBlock, MappedBlock};
use crate::host::{FRAME_SIZE, View, ViewError};
use crate::log::Event;
use crate::port::{HarnessEngines, Running};

/// What an engine writes into the log when it was told to stop and has made its last access.
pub const PRODUCER_STOPPED: &str = "producer stopped and drained";
/// Bytes of the pieces that the input passes through device memory in.
const PIECE_BYTES: usize = 256 << 10;
/// How many pieces there are.
const PIECES: u64 = 4;
/// Bytes of device memory that a stream needs.
pub const STAGING_BYTES: u64 = PIECES * PIECE_BYTES as u64;
/// Records that are pushed or popped at a time, at most.
const BATCH: usize = 64;
/// How often an engine without work looks whether it is to stop.
const IDLE: Duration = Duration::from_millis(10);

/// Why a stream did not come to its end.
#[derive(Debug)]
#[non_exhaustive]
pub enum StreamError {
    /// The input could not be read.
    Input(io::Error),
    /// The copy could not be written.
    Copy(io::Error),
    /// The device may not do what the producer wants.
    Device(AccessError),
    /// The process may not do what the consumer wants.
    View(ViewError),
    /// The block's header is not the one that was written.
    Header(HeaderError<ViewError>),
    /// The records in the block are of another size.
    RecordSize {
        /// The size in the header.
        found: u32,
    },
    /// The other end's index cannot be right.
    PeerIndex(PeerIndex),
    /// A record is not what it must be.
    Record(BadRecord),
    /// Something follows the last record.
    AfterEnd,
    /// The producer was told to stop before its input had ended.
    Stopped,
    /// The producer is gone and has not sent the last record.
    ProducerGone,
    /// The consumer is gone.
    ConsumerGone,
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input(error) => write!(f, "the input cannot be read: {error}"),
            Self::Copy(error) => write!(f, "the copy cannot be written: {error}"),
            Self::Device(error) => write!(f, "the producer: {error}"),
            Self::View(error) => write!(f, "the consumer: {error}"),
            Self::Header(error) => write!(f, "the consumer: {error}"),
            Self::RecordSize { found } => write!(f, "the block has records of {found} bytes"),
            Self::PeerIndex(error) => error.fmt(f),
            Self::Record(error) => error.fmt(f),
            Self::AfterEnd => f.write_str("something follows the last record"),
            Self::Stopped => f.write_str("the producer was stopped"),
            Self::ProducerGone => f.write_str("the producer ended without a last record"),
            Self::ConsumerGone => f.write_str("the consumer ended before the producer"),
        }
    }
}

impl core::error::Error for StreamError {}

impl StreamError {
    /// How far it is from the cause: the others of the three parties only notice that one is gone.
    fn distance(&self) -> u8 {
        match self {
            Self::ProducerGone | Self::ConsumerGone => 2,
            Self::Stopped => 1,
            _ => 0,
        }
    }
}

/// What a party watches of the others.
#[derive(Debug, Default)]
pub struct Gauges {
    full: AtomicU64,
    producer_gone: AtomicBool,
    consumer_gone: AtomicBool,
}

impl Gauges {
    /// How many times the producer found the ring full and waited.
    #[must_use]
    pub fn times_full(&self) -> u64 {
        self.full.load(Ordering::Acquire)
    }

    /// Whether the producer has ended, in whatever way.
    #[must_use]
    pub fn producer_is_gone(&self) -> bool {
        self.producer_gone.load(Ordering::Acquire)
    }
}

/// Sets a flag when a party ends, in whatever way.
struct Gone<'g>(&'g AtomicBool);

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Is told how a stream goes. Called by the consumer's thread.
pub trait Watch: Sync {
    /// The consumer is about to look for records.
    fn before_pop(&self, _gauges: &Gauges) {}

    /// So many bytes of the copy are written.
    fn consumed(&self, _bytes: u64) {}
}

/// Watches nothing.
impl Watch for () {}

/// A block and the device that produces into it.
#[derive(Clone, Copy, Debug)]
pub struct Ring<'a> {
    /// The device.
    pub asic: &'a Arc<Asic>,
    /// Where its producers are registered while they run.
    pub engines: &'a HarnessEngines,
    /// Where it finds the block.
    pub block: AddrRange<DeviceAddr>,
    /// What lies where in the block.
    pub layout: BlockLayout,
}

/// What a stream works on.
#[derive(Clone, Copy, Debug)]
pub struct Stream<'a> {
    /// The producer's side.
    pub ring: Ring<'a>,
    /// The block, as the consumer reaches it.
    pub view: &'a View,
    /// Device memory of [`STAGING_BYTES`] at least, by physical address.
    pub staging: Run,
}

/// How a stream went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamReport {
    /// Bytes of the input.
    pub bytes: u64,
    /// Records, the last one included.
    pub records: u64,
    /// How many times the ring began again at its first slot.
    pub wraps: u64,
    /// How many times the producer found the ring full and waited.
    pub times_full: u64,
    /// How long it took.
    pub elapsed: Duration,
    /// The hash of what was read.
    pub input: Hash,
    /// The hash of what was written.
    pub copy: Hash,
}

impl StreamReport {
    /// Whether the copy is that of the input.
    #[must_use]
    pub fn is_faithful(&self) -> bool {
        self.input == self.copy
    }
}

/// What the driver tells the producer engine.
enum Command {
    /// So many bytes of the input are at this address of device memory.
    Piece { at: DeviceAddr, len: usize },
    /// That was all.
    End,
}

impl Stream<'_> {
    /// Sends `input` through the device and the ring to `copy`.
    ///
    /// # Errors
    ///
    /// [`StreamError`], of the party that caused the end.
    pub fn run(
        &self,
        input: &mut dyn Read,
        copy: &mut (dyn Write + Send),
        watch: &dyn Watch,
    ) -> Result<StreamReport, StreamError> {
        let started = Instant::now();
        let gauges = Gauges::default();
        let (commands, orders) = channel();
        let (returns, pieces) = channel();
        let piece_starts = (self.staging.start().get()..).step_by(PIECE_BYTES);
        for at in piece_starts.take(PIECES as usize) {
            // The receiver is alive, just below.
            let _ = returns.send(DeviceAddr::new(at));
        }
        let engine = Engine::start(self.ring, &gauges).map_err(StreamError::Device)?;
        let (fed, produced, consumed) = thread::scope(|scope| {
            // The engine goes with its thread, so that it can be stopped by any of the others.
            let produced = scope.spawn(|| {
                let _gone = Gone(&gauges.producer_gone);
                engine.produce(orders, returns)
            });
            let consumed = scope.spawn(|| {
                let _gone = Gone(&gauges.consumer_gone);
                self.consume(copy, watch, &gauges)
            });
            let fed = self.feed(input, commands, pieces);
            (fed, joined(produced), joined(consumed))
        });
        let ((bytes, input), records, copy) = match (fed, produced, consumed) {
            (Ok(fed), Ok(produced), Ok(consumed)) => (fed, produced, consumed),
            (fed, produced, consumed) => {
                let errors = [fed.err(), produced.err(), consumed.err()];
                let mut errors: Vec<StreamError> = errors.into_iter().flatten().collect();
                errors.sort_by_key(StreamError::distance);
                return Err(errors.swap_remove(0));
            }
        };
        Ok(StreamReport {
            bytes,
            records,
            wraps: records / u64::from(self.ring.layout.capacity()),
            times_full: gauges.times_full(),
            elapsed: started.elapsed(),
            input,
            copy,
        })
    }

    /// The driver's part: fills free pieces of device memory and tells the engine.
    fn feed(
        &self,
        input: &mut dyn Read,
        commands: Sender<Command>,
        pieces: Receiver<DeviceAddr>,
    ) -> Result<(u64, Hash), StreamError> {
        let mut buffer = vec![0; PIECE_BYTES];
        let mut hasher = Hasher::new();
        let mut bytes = 0;
        loop {
            let len = fill(input, &mut buffer).map_err(StreamError::Input)?;
            if len == 0 {
                let sent = commands.send(Command::End);
                sent.map_err(|_| StreamError::ProducerGone)?;
                return Ok((bytes, hasher.finalize()));
            }
            hasher.update(&buffer[..len]);
            let at = pieces.recv().map_err(|_| StreamError::ProducerGone)?;
            let written = self
                .ring
                .asic
                .poke(mmu_core::BusAddr::new(at.get()), &buffer[..len]);
            assert!(written, "the staging memory is device memory");
            bytes += len as u64;
            let sent = commands.send(Command::Piece { at, len });
            sent.map_err(|_| StreamError::ProducerGone)?;
        }
    }

    /// The process's part: takes records until the last one and writes the copy.
    fn consume(
        &self,
        copy: &mut dyn Write,
        watch: &dyn Watch,
        gauges: &Gauges,
    ) -> Result<Hash, StreamError> {
        let mut block = MappedBlock::new(self.view);
        // The consumer has nothing but its mapping to learn the layout from.
        let len = self.view.len() as u64;
        let layout = BlockLayout::read_header(&mut block, FRAME_SIZE as u64, len)
            .map_err(StreamError::Header)?;
        if layout.record_size() as usize != RECORD_BYTES {
            let found = layout.record_size();
            return Err(StreamError::RecordSize { found });
        }
        let mut consumer = Consumer::attach(block, layout).map_err(StreamError::View)?;
        let mut records = vec![[0; RECORD_BYTES]; BATCH];
        let mut hasher = Hasher::new();
        let (mut expected, mut bytes) = (0, 0);
        loop {
            watch.before_pop(gauges);
            // Looked at before the ring is: what the producer sent, it sent before it went.
            let last_look = gauges.producer_is_gone();
            let count = match consumer.pop_batch(records.as_flattened_mut()) {
                Ok(count) => count as usize,
                Err(PopError::Empty) if last_look => return Err(StreamError::ProducerGone),
                Err(PopError::Empty) => {
                    thread::yield_now();
                    continue;
                }
                Err(PopError::PeerIndex(error)) => return Err(StreamError::PeerIndex(error)),
                Err(PopError::Memory(error)) => return Err(StreamError::View(error)),
                Err(error) => unreachable!("the buffer is whole records: {error}"),
            };
            for (number, record) in (1..).zip(&records[..count]) {
                let content = record::decode(record, expected).map_err(StreamError::Record)?;
                expected += 1;
                match content {
                    Record::Data(payload) => {
                        hasher.update(payload);
                        copy.write_all(payload).map_err(StreamError::Copy)?;
                        bytes += payload.len() as u64;
                    }
                    Record::End if number < count => return Err(StreamError::AfterEnd),
                    Record::End => {
                        copy.flush().map_err(StreamError::Copy)?;
                        watch.consumed(bytes);
                        return Ok(hasher.finalize());
                    }
                }
            }
            watch.consumed(bytes);
        }
    }
}

/// A producer engine at work on a block. It counts as running until it is dropped.
#[derive(Debug)]
pub struct Engine<'g> {
    asic: Arc<Asic>,
    /// For device memory, which it reads by physical address.
    memory: InitiatorId,
    producer: Producer<DeviceBlock>,
    running: Running,
    gauges: &'g Gauges,
    sequence: u64,
}

impl<'g> Engine<'g> {
    /// Registers an engine that produces into a block.
    ///
    /// # Errors
    ///
    /// What the walker says to the engine's first access to the block.
    pub fn start(ring: Ring<'_>, gauges: &'g Gauges) -> Result<Self, AccessError> {
        let asic = ring.asic;
        let running = ring.engines.start(ring.block);
        let output = asic.add_initiator("producer", InitiatorMode::Privileged);
        let block = DeviceBlock::new(asic, output, ring.block.start());
        Ok(Self {
            asic: Arc::clone(asic),
            memory: asic.add_initiator("producer input", InitiatorMode::Bypass),
            producer: Producer::attach(block, ring.layout)?,
            running,
            gauges,
            sequence: 0,
        })
    }

    /// Works through orders until the last one. Returns how many records it sent.
    fn produce(
        mut self,
        orders: Receiver<Command>,
        returns: Sender<DeviceAddr>,
    ) -> Result<u64, StreamError> {
        let mut input = vec![0; BATCH * PAYLOAD_BYTES];
        loop {
            let (mut at, len) = match orders.recv_timeout(IDLE) {
                Ok(Command::Piece { at, len }) => (at, len),
                Ok(Command::End) => {
                    self.push(&[Record::End])?;
                    return Ok(self.sequence);
                }
                Err(RecvTimeoutError::Timeout) if !self.running.must_stop() => continue,
                Err(_) => return Err(StreamError::Stopped),
            };
            let piece = at;
            let mut left = len;
            while left > 0 {
                let input = &mut input[..left.min(BATCH * PAYLOAD_BYTES)];
                self.asic
                    .read(self.memory, at, input)
                    .map_err(StreamError::Device)?;
                let records: Vec<_> = input.chunks(PAYLOAD_BYTES).map(Record::Data).collect();
                self.push(&records)?;
                at = DeviceAddr::new(at.get() + input.len() as u64);
                left -= input.len();
            }
            // The driver is gone once it has read its input.
            let _ = returns.send(piece);
        }
    }

    /// Sends empty records until it is told to stop, waiting wherever the ring is full.
    ///
    /// # Errors
    ///
    /// [`StreamError`]; [`StreamError::Stopped`] is the regular end and not reported.
    pub fn idle(mut self) -> Result<(), StreamError> {
        loop {
            match self.push(&[Record::Data(&[])]) {
                Ok(()) => {}
                Err(StreamError::Stopped) => {
                    // Each access of the model ends before it returns, so none is under way.
                    let text = PRODUCER_STOPPED;
                    self.asic.log().record(Event::Note { text });
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Pushes records, waiting for the consumer where the ring is full.
    fn push(&mut self, contents: &[Record<'_>]) -> Result<(), StreamError> {
        let mut records = vec![[0; RECORD_BYTES]; contents.len()];
        for (record, content) in records.iter_mut().zip(contents) {
            record::encode(record, self.sequence, *content);
            self.sequence += 1;
        }
        let mut rest = &records[..];
        let mut waiting = false;
        while !rest.is_empty() {
            if self.running.must_stop() {
                return Err(StreamError::Stopped);
            }
            match self.producer.push_batch(rest.as_flattened()) {
                Ok(count) => {
                    rest = &rest[count as usize..];
                    waiting = false;
                }
                Err(PushError::Full) => {
                    if self.gauges.consumer_gone.load(Ordering::Acquire) {
                        return Err(StreamError::ConsumerGone);
                    }
                    if !waiting {
                        self.gauges.full.fetch_add(1, Ordering::Release);
                        waiting = true;
                    }
                    thread::yield_now();
                }
                Err(PushError::PeerIndex(error)) => return Err(StreamError::PeerIndex(error)),
                Err(PushError::Memory(error)) => return Err(StreamError::Device(error)),
                Err(error) => unreachable!("the records are whole: {error}"),
            }
        }
        Ok(())
    }
}

/// Reads until `buffer` is full or the input has ended.
fn fill(input: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while len < buffer.len() {
        match input.read(&mut buffer[len..]) {
            Ok(0) => break,
            Ok(count) => len += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}

/// The result of a thread; its panic is this thread's too.
fn joined<T>(thread: thread::ScopedJoinHandle<'_, T>) -> T {
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
