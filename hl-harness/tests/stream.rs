//! The stream through a block: the producer by device address, the consumer by its mapping.

use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use hl_harness::asic::InitiatorMode;
use hl_harness::demo::block::{create, show};
use hl_harness::demo::layout;
use hl_harness::demo::record::{BadRecord, PAYLOAD_BYTES, RECORD_BYTES};
use hl_harness::demo::stream::{
    Gauges, Ring, STAGING_BYTES, Stream, StreamError, StreamReport, Watch,
};
use hl_harness::log::EventLog;
use hl_harness::machine::{Machine, MachineConfig, Model, with_machine};
use hl_mem::budget::Budget;
use hl_mem::port::Engines;
use hl_mem::profile::{Gaudi, Gaudi2, Goya};
use mmu_core::{AddrRange, BusAddr, Run};

const PAGE: u64 = 4096;

#[path = "support/each_asic.rs"]
mod each_asic;
use each_asic::on_each_asic;

on_each_asic!(
    every_size_of_block_and_input_arrives_unchanged,
    a_full_ring_makes_the_producer_wait_and_loses_nothing,
);

/// The first device memory of users, which nobody else uses here.
fn staging<A: Model>() -> Run {
    let memory = A::PROFILE.dram.user_memory().unwrap();
    AddrRange::new(BusAddr::new(memory.start().get()), STAGING_BYTES).unwrap()
}

/// Calls `run` with a stream over a block of so many pages.
fn with_stream<A: Model>(pages: u64, run: impl FnOnce(&Machine<'_, '_, A>, Stream<'_>)) {
    let config = MachineConfig::default();
    with_machine::<A, _>(config, EventLog::new(), |machine| {
        let before = machine.counters();
        let (budget, process) = (Budget::unlimited(), machine.spawn());
        let mut storage = machine.storage();
        let context = machine.open(&process, &budget, &mut storage).unwrap();
        let layout = layout(pages * PAGE).unwrap();
        let created = create(machine, &context, layout, pages * PAGE).unwrap();
        let (view, _) = show(&context, &created).unwrap();
        let stream = Stream {
            ring: Ring {
                asic: &machine.asic,
                engines: &machine.engines,
                block: created.range,
                layout,
            },
            view: view.view().view(),
            staging: staging::<A>(),
        };
        run(machine, stream);
        machine.device.end_view(view).unwrap();
        context.close().unwrap();
        drop(process);
        // Whatever happened to the stream, nothing of it is left.
        assert_eq!(machine.counters(), before);
    })
    .unwrap();
}

fn data(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at * 31 % 251) as u8).collect()
}

/// Streams `input` and checks the copy byte by byte.
fn stream(stream: Stream<'_>, input: &[u8], watch: &dyn Watch) -> StreamReport {
    let mut copy = Vec::new();
    let report = stream.run(&mut &input[..], &mut copy, watch).unwrap();
    assert!(copy == input, "the copy differs");
    assert!(report.is_faithful());
    assert_eq!(report.bytes, input.len() as u64);
    report
}

fn every_size_of_block_and_input_arrives_unchanged<A: Model>() {
    for pages in [3, 4, 5, 10, 130, 513] {
        with_stream::<A>(pages, |_, over| {
            let capacity = over.ring.layout.capacity() as usize;
            assert!(capacity.is_power_of_two());
            let lap = capacity * PAYLOAD_BYTES;
            let sizes = [1, PAYLOAD_BYTES - 1, PAYLOAD_BYTES, PAYLOAD_BYTES + 1];
            for bytes in sizes.into_iter().chain([lap, 3 * lap + 7]) {
                let report = stream(over, &data(bytes), &());
                let records = bytes.div_ceil(PAYLOAD_BYTES) + 1;
                // The end of a piece of device memory may cut a record short.
                assert!(
                    report.records >= records as u64,
                    "{pages} pages, {bytes} bytes"
                );
            }
        });
    }
}

/// A consumer that takes records only when it has seen the producer wait since the last time.
struct Slow(std::sync::atomic::AtomicU64);

impl Watch for Slow {
    fn before_pop(&self, gauges: &Gauges) {
        let seen = self.0.load(Ordering::Relaxed);
        while gauges.times_full() == seen && !gauges.producer_is_gone() {
            thread::yield_now();
        }
        self.0.store(gauges.times_full(), Ordering::Relaxed);
    }
}

fn a_full_ring_makes_the_producer_wait_and_loses_nothing<A: Model>() {
    with_stream::<A>(4, |_, over| {
        let capacity = u64::from(over.ring.layout.capacity());
        let input = data(20 * capacity as usize * PAYLOAD_BYTES);
        let report = stream(over, &input, &Slow(Default::default()));
        // Each wait ends with a whole ring taken at once.
        assert!(report.times_full >= 20, "full {} times", report.times_full);
        assert_eq!(report.wraps, report.records / capacity);
        assert!(report.wraps >= 20);
    });
}

#[test]
fn a_stream_after_a_stream_goes_on_where_that_one_ended() {
    with_stream::<Gaudi2<6>>(3, |_, over| {
        for bytes in [5000, 1, 12345] {
            stream(over, &data(bytes), &());
        }
    });
}

/// An input that is longer than what it passes through in device memory.
#[test]
fn an_input_may_be_longer_than_its_room_in_device_memory() {
    with_stream::<Goya>(130, |_, over| {
        stream(over, &data(3 * STAGING_BYTES as usize + 5), &());
    });
}

#[test]
fn an_empty_input_is_an_empty_copy() {
    with_stream::<Goya>(3, |_, over| {
        assert_eq!(stream(over, &[], &()).records, 1);
    });
}

// --- trouble: each of the parties ends, and the one that caused it is named ---

/// An input that fails after its first bytes.
struct Broken(bool);

impl Read for Broken {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if core::mem::replace(&mut self.0, true) {
            return Err(io::Error::other("broken"));
        }
        buffer.fill(1);
        Ok(buffer.len())
    }
}

#[test]
fn an_input_that_fails_is_named() {
    with_stream::<Gaudi2<6>>(3, |_, over| {
        let error = over.run(&mut Broken(false), &mut Vec::new(), &());
        assert!(matches!(error, Err(StreamError::Input(_))), "{error:?}");
    });
}

/// A copy that nobody can write.
struct Full;

impl Write for Full {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::StorageFull.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_copy_that_fails_is_named_while_the_producer_waits() {
    with_stream::<Gaudi2<6>>(3, |_, over| {
        let input = data(4 * STAGING_BYTES as usize);
        let error = over.run(&mut &input[..], &mut Full, &());
        assert!(matches!(error, Err(StreamError::Copy(_))), "{error:?}");
    });
}

/// Does something once, when the ring is full and the producer waits.
struct Once<F> {
    done: AtomicBool,
    act: F,
}

impl<F: Fn() + Sync> Watch for Once<F> {
    fn before_pop(&self, gauges: &Gauges) {
        if self.done.swap(true, Ordering::Relaxed) {
            return;
        }
        while gauges.times_full() == 0 {
            thread::yield_now();
        }
        (self.act)();
    }
}

fn when_full<F: Fn() + Sync>(act: F) -> Once<F> {
    Once {
        done: AtomicBool::new(false),
        act,
    }
}

/// Runs a stream of some laps on which `act` is done once, in its first lap.
fn disturbed(over: Stream<'_>, act: impl Fn() + Sync) -> Result<StreamReport, StreamError> {
    let input = data(10 * over.ring.layout.capacity() as usize * PAYLOAD_BYTES);
    over.run(&mut &input[..], &mut Vec::new(), &when_full(act))
}

/// Writes into the block as the device does.
fn damage(over: Stream<'_>, offset: u64, bytes: &[u8]) {
    let asic = over.ring.asic;
    let engine = asic.add_initiator("damage", InitiatorMode::Privileged);
    let at = over.ring.block.start().checked_add(offset).unwrap();
    asic.write(engine, at, bytes).unwrap();
}

#[test]
fn a_damaged_byte_of_a_record_shows_in_the_copy() {
    with_stream::<Gaudi2<6>>(5, |_, over| {
        let last_byte = over.ring.layout.data_offset() + RECORD_BYTES as u64 - 1;
        let report = disturbed(over, || damage(over, last_byte, &[0xEE])).unwrap();
        assert!(!report.is_faithful());
    });
}

#[test]
fn a_record_that_was_overwritten_is_noticed() {
    with_stream::<Goya>(5, |_, over| {
        let second = over.ring.layout.record_offset(1);
        let later = u64::from(over.ring.layout.capacity()) + 1;
        let error = disturbed(over, || damage(over, second, &later.to_le_bytes()));
        let Err(StreamError::Record(BadRecord::Sequence { expected, found })) = error else {
            panic!("{error:?}");
        };
        assert_eq!((expected, found), (1, later));
    });
}

#[test]
fn an_impossible_index_of_the_producer_is_noticed() {
    with_stream::<Gaudi>(5, |_, over| {
        let layout = over.ring.layout;
        let bogus = (layout.capacity() + 1).to_le_bytes();
        let error = disturbed(over, || {
            damage(over, layout.producer_index_offset(), &bogus)
        });
        assert!(matches!(error, Err(StreamError::PeerIndex(_))), "{error:?}");
    });
}

#[test]
fn an_impossible_index_of_the_consumer_is_noticed() {
    with_stream::<Gaudi2<6>>(5, |_, over| {
        // The one page that a hostile process can write. Were the producer to believe it, it would
        // overwrite records.
        let bogus = over.ring.layout.capacity() + 1;
        let error = disturbed(over, || {
            over.view.store_u32(0, bogus).unwrap();
            // The consumer goes on only when the producer has seen it.
            while over.ring.engines.running(over.ring.block) > 0 {
                thread::yield_now();
            }
        });
        assert!(matches!(error, Err(StreamError::PeerIndex(_))), "{error:?}");
    });
}

#[test]
fn a_producer_can_be_stopped_in_the_middle() {
    with_stream::<Gaudi2<6>>(5, |_, over| {
        let error = disturbed(over, || over.ring.engines.stop(over.ring.block).unwrap());
        assert!(matches!(error, Err(StreamError::Stopped)), "{error:?}");
    });
}

#[test]
fn a_device_that_is_lost_ends_the_stream() {
    let config = MachineConfig::default();
    // The machine cannot be tidied up without its device, so nothing is compared afterwards.
    with_machine::<Goya, _>(config, EventLog::new(), |machine| {
        let (budget, process) = (Budget::unlimited(), machine.spawn());
        let mut storage = machine.storage();
        let context = machine.open(&process, &budget, &mut storage).unwrap();
        let layout = layout(5 * PAGE).unwrap();
        let created = create(machine, &context, layout, 5 * PAGE).unwrap();
        let (view, _) = show(&context, &created).unwrap();
        let over = Stream {
            ring: Ring {
                asic: &machine.asic,
                engines: &machine.engines,
                block: created.range,
                layout,
            },
            view: view.view().view(),
            staging: staging::<Goya>(),
        };
        let error = disturbed(over, || over.ring.asic.lose());
        assert!(matches!(error, Err(StreamError::Device(_))), "{error:?}");
        machine.device.end_view(view).unwrap();
        assert!(
            context
                .close()
                .is_ok_and(|left| left.quarantined_buffers == 1)
        );
    })
    .unwrap();
}
