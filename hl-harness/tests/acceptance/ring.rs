//! Q-01 in a block that a device's engine fills and a process empties, each by his own mapping.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use hl_harness::asic::InitiatorMode;
use hl_harness::block_access::{DeviceBlock, MappedBlock};
use hl_harness::machine::{MachineConfig, Model};
use hl_mem::ring::{BlockLayout, Consumer, PopError, Producer, PushError};

use crate::rig::{PAGE, machine_of, on_each_asic, scaled, with_file};

on_each_asic!(
    q01_a_full_ring_takes_nothing_and_keeps_order_over_its_laps,
    q01_the_same_with_both_ends_at_work,
);

const RECORD: u32 = 32;

/// The record of a number: each of its words says which.
fn record(number: u64) -> [u8; RECORD as usize] {
    let words = [number, !number, number.rotate_left(17), number ^ 0xA5A5];
    let mut bytes = [0; RECORD as usize];
    for (into, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(words) {
        *into = word.to_le_bytes();
    }
    bytes
}

/// Runs `run` with both ends of a fresh ring.
fn with_ring<A: Model>(
    size: u32,
    run: impl FnOnce(Producer<DeviceBlock>, Consumer<MappedBlock<'_>>),
) {
    let config = MachineConfig {
        frames: 4096,
        ..MachineConfig::default()
    };
    machine_of::<A>(config, |machine| {
        with_file!(machine, |context, _process| {
            let layout = BlockLayout::new(PAGE, RECORD, size).unwrap();
            let (handle, block) = context
                .create_block(&machine.privilege, layout.block_len())
                .unwrap();
            let range = machine.device.block_range(&machine.privilege, block);
            let start = range.unwrap().start();
            let engine = machine
                .asic
                .add_initiator("producer", InitiatorMode::Privileged);
            let mut memory = DeviceBlock::new(&machine.asic, engine, start);
            layout.initialize(&mut memory, 0).unwrap();
            let view = context.mmap(handle, layout.block_len()).unwrap();
            {
                let producer = Producer::attach(memory, layout).unwrap();
                let consumer = MappedBlock::new(view.view().view());
                run(producer, Consumer::attach(consumer, layout).unwrap());
            }
            machine.device.end_view(view).unwrap();
            context.destroy_block(handle).unwrap();
        });
    });
}

fn q01_a_full_ring_takes_nothing_and_keeps_order_over_its_laps<A: Model>() {
    for size in [64, scaled(512, 4096)] {
        with_ring::<A>(size, |mut producer, mut consumer| {
            let (mut pushed, mut popped) = (0, 0);
            let mut got = [0; RECORD as usize];
            // Two and a half laps, with the consumer close behind.
            for _ in 0..size * 5 / 2 {
                producer.push(&record(pushed)).unwrap();
                pushed += 1;
                consumer.pop(&mut got).unwrap();
                assert_eq!(got, record(popped));
                popped += 1;
            }
            assert!(matches!(consumer.pop(&mut got), Err(PopError::Empty)));
            // Then to the brim, from the middle of the ring on.
            for _ in 0..size {
                producer.push(&record(pushed)).unwrap();
                pushed += 1;
            }
            for _ in 0..3 {
                let refused = producer.push(&record(u64::MAX));
                assert!(matches!(refused, Err(PushError::Full)), "{refused:?}");
            }
            assert_eq!(consumer.occupied().unwrap(), size);
            // As many as the ring's size were kept, and none is overwritten.
            for _ in 0..size {
                consumer.pop(&mut got).unwrap();
                assert_eq!(got, record(popped));
                popped += 1;
            }
            assert!(matches!(consumer.pop(&mut got), Err(PopError::Empty)));
            assert_eq!(popped, pushed);
        });
    }
}

fn q01_the_same_with_both_ends_at_work<A: Model>() {
    for size in [64, 4096] {
        with_ring::<A>(size, |mut producer, mut consumer| {
            let total = u64::from(size) * 5 / 2;
            let full = AtomicU64::new(0);
            thread::scope(|scope| {
                let full = &full;
                scope.spawn(move || {
                    for number in 0..total {
                        while let Err(error) = producer.push(&record(number)) {
                            assert!(matches!(error, PushError::Full), "{error:?}");
                            full.fetch_add(1, Ordering::Relaxed);
                            thread::yield_now();
                        }
                    }
                });
                let mut got = [0; RECORD as usize];
                for number in 0..total {
                    // Slow at first: not before the producer has had to wait, or is through.
                    while number == 0 && full.load(Ordering::Relaxed) == 0 {
                        thread::yield_now();
                    }
                    while let Err(error) = consumer.pop(&mut got) {
                        assert!(matches!(error, PopError::Empty), "{error:?}");
                        thread::yield_now();
                    }
                    // A torn record, or one out of order, is another one.
                    assert_eq!(got, record(number));
                }
                assert!(matches!(consumer.pop(&mut got), Err(PopError::Empty)));
            });
        });
    }
}
