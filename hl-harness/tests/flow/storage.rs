//! The founding flow on a host without a file or a mapping: the same in each counter and event.

use std::thread;

use hl_harness::asic::{DmaEngine, Endpoint, InitiatorMode};
use hl_harness::block_access::{DeviceBlock, MappedBlock};
use hl_harness::host::{self, FrameStorage, HostFailure, HostStatistics, Permission};
use hl_harness::log::{EventLog, Record};
use hl_harness::machine::{Machine, MachineConfig, MachineCounters, Model, with_machine};
use hl_mem::budget::Budget;
use hl_mem::ring::{BlockLayout, Consumer, PopError, Producer, PushError};
use hl_mem::uapi::{self, Errno};
use mmu_core::DeviceAddr;

use crate::rig::{map_input, on_each_asic, unmap_input, user_mode};

on_each_asic!(
    the_founding_flow_is_the_same_wherever_pages_are,
    both_ends_of_a_ring_work_at_a_time_without_a_mapping,
);

const PAGE: u64 = 4096;
/// Two thirds of a page, so that records and laps straddle pages that lie apart.
const RECORD: u32 = 2728;
/// How often three records go through a ring of four: Miri is slow.
const LAPS: u32 = if cfg!(miri) { 2 } else { 3 };
/// Bytes that are copied to and from the user's memory.
const COPIED: u64 = if cfg!(miri) { PAGE } else { 4 * PAGE };

/// All that a machine says of itself.
#[derive(Debug, Default, PartialEq)]
struct Account {
    counters: Vec<(&'static str, MachineCounters)>,
    statistics: Option<HostStatistics>,
    events: Vec<Record>,
}

fn the_founding_flow_is_the_same_wherever_pages_are<A: Model>() {
    let in_the_program = founding_flow::<A>(FrameStorage::Program);
    // Miri has no memfd.
    if cfg!(not(miri)) {
        let in_a_file = founding_flow::<A>(FrameStorage::MemoryFile);
        assert!(!in_a_file.events.is_empty());
        assert_eq!(in_the_program, in_a_file);
    }
}

/// Runs all of it on a machine with its pages in `storage`.
fn founding_flow<A: Model>(storage: FrameStorage) -> Account {
    let run = |machine: &Machine<'_, '_, A>| {
        let mut account = Account::default();
        let before = machine.counters();
        let (budget, process) = (Budget::new(8), machine.spawn());
        let mut storage = machine.storage();
        let context = machine.open(&process, &budget, &mut storage).unwrap();
        account.counters.push(("open", machine.counters()));

        // A block of the driver's, which the user knows by its handle and by what he maps of it.
        let layout = BlockLayout::new(PAGE, RECORD, 4).unwrap();
        let block_len = layout.block_len();
        machine.host.fail(HostFailure::FrameAllocation, Some(3));
        context
            .create_block(&machine.privilege, block_len)
            .unwrap_err();
        assert_eq!(machine.counters(), account.counters[0].1);
        let (handle, block) = context.create_block(&machine.privilege, block_len).unwrap();
        let range = machine.device.block_range(&machine.privilege, block);
        let start = range.unwrap().start();
        let engine = machine
            .asic
            .add_initiator("producer", InitiatorMode::Privileged);
        let mut memory = DeviceBlock::new(&machine.asic, engine, start);
        layout.initialize(&mut memory, 0).unwrap();
        let view = context.mmap(handle, block_len).unwrap();
        account.counters.push(("mmap", machine.counters()));
        let mapped = view.view().view();
        check_refusals(mapped, layout);

        // The device produces, the process consumes.
        let mut producer = Producer::attach(memory, layout).unwrap();
        let mut consumer = Consumer::attach(MappedBlock::new(mapped), layout).unwrap();
        let mut got = vec![0; 3 * RECORD as usize];
        for lap in 0..LAPS {
            let records: Vec<u8> = (0..3 * RECORD).map(|at| (at % 251 + lap) as u8).collect();
            assert_eq!(producer.push_batch(&records), Ok(3));
            // Whatever is not the driver's own moves; nobody is to notice.
            machine.host.reclaim();
            assert_eq!(consumer.pop_batch(&mut got), Ok(3));
            assert!(got == records, "lap {lap}");
        }
        let record = &got[..RECORD as usize];
        (0..4).for_each(|_| producer.push(record).unwrap());
        assert_eq!(producer.push(record), Err(PushError::Full));
        for _ in 0..4 {
            consumer.pop(&mut vec![0; RECORD as usize]).unwrap();
        }
        let empty = consumer.pop(&mut got[..RECORD as usize]);
        assert_eq!(empty, Err(PopError::Empty));

        // Memory of the user's, mapped, copied, unmapped.
        let buffer = process.map(6, Permission::ReadWrite).unwrap();
        let (from, len) = (buffer.offset(100), COPIED);
        let data: Vec<u8> = (0..len).map(|at| (at * 31 % 253) as u8).collect();
        process.write(from, &data).unwrap();
        let beyond = uapi::dispatch(&context, &map_input(from, 6 * PAGE).to_bytes());
        assert_eq!(beyond, Err(Errno::EFAULT));
        let reply = uapi::dispatch(&context, &map_input(from, len).to_bytes()).unwrap();
        let at = DeviceAddr::new(reply.value);
        account.counters.push(("map", machine.counters()));
        machine.host.reclaim();
        let dma = DmaEngine::new(&machine.asic, "dma", user_mode(context.asid()));
        let mut seen = vec![0; len as usize];
        machine.asic.read(dma.initiator(), at, &mut seen).unwrap();
        assert!(seen == data, "the device reads what the process wrote");
        dma.fill(Endpoint::Virtual(at), 0x5A, len).unwrap();
        process.read(from, &mut seen).unwrap();
        assert!(seen.iter().all(|byte| *byte == 0x5A));
        uapi::dispatch(&context, &unmap_input(reply.value).to_bytes()).unwrap();
        dma.fill(Endpoint::Virtual(at), 0, len).unwrap_err();

        // A child sees what the parent has until either writes.
        let child = process.fork().unwrap();
        child.write(from, b"child").unwrap();
        process.read(from, &mut seen[..5]).unwrap();
        assert_eq!(seen[..5], [0x5A; 5]);
        account.counters.push(("fork", machine.counters()));
        drop(child);

        machine.device.end_view(view).unwrap();
        context.destroy_block(handle).unwrap();
        machine.asic.read(engine, start, &mut [0; 8]).unwrap_err();
        context.close().unwrap();
        drop(process);
        assert_eq!(machine.counters(), before);
        assert_eq!(machine.host.damaged_free_frames(), []);
        account.statistics = Some(machine.host.statistics());
        account.events = machine.log.records();
        account
    };
    let log = EventLog::new();
    // Miri would spend most of its time on looking at the pools of tables with each event.
    log.set_recording(cfg!(not(miri)));
    with_machine::<A, _>(small(storage), log, run).expect("the machine has memory")
}

/// The device produces and the process consumes, each in its own thread: what Miri sees is every
/// access of both.
fn both_ends_of_a_ring_work_at_a_time_without_a_mapping<A: Model>() {
    // Miri is slow, and its threads wait for each other by turns.
    let laps = if cfg!(miri) { 2 } else { 200 };
    let run = |machine: &Machine<'_, '_, A>| {
        let (budget, process) = (Budget::unlimited(), machine.spawn());
        let mut storage = machine.storage();
        let context = machine.open(&process, &budget, &mut storage).unwrap();
        let layout = BlockLayout::new(PAGE, RECORD, 4).unwrap();
        let block_len = layout.block_len();
        let (handle, block) = context.create_block(&machine.privilege, block_len).unwrap();
        let range = machine.device.block_range(&machine.privilege, block);
        let engine = machine
            .asic
            .add_initiator("producer", InitiatorMode::Privileged);
        let mut memory = DeviceBlock::new(&machine.asic, engine, range.unwrap().start());
        layout.initialize(&mut memory, u32::MAX - 2).unwrap();
        let view = context.mmap(handle, block_len).unwrap();
        let mapped = MappedBlock::new(view.view().view());
        let mut producer = Producer::attach(memory, layout).unwrap();
        let mut consumer = Consumer::attach(mapped, layout).unwrap();
        thread::scope(|scope| {
            scope.spawn(move || {
                for number in 0..4 * laps {
                    let record = vec![number as u8; RECORD as usize];
                    while let Err(error) = producer.push(&record) {
                        assert_eq!(error, PushError::Full);
                        thread::yield_now();
                    }
                }
            });
            let mut got = vec![0; RECORD as usize];
            for number in 0..4 * laps {
                while let Err(error) = consumer.pop(&mut got) {
                    assert_eq!(error, PopError::Empty);
                    thread::yield_now();
                }
                assert!(got.iter().all(|byte| *byte == number as u8), "{number}");
            }
        });
        machine.device.end_view(view).unwrap();
        context.close().unwrap();
    };
    with_machine::<A, _>(small(FrameStorage::Program), EventLog::new(), run)
        .expect("the machine has memory");
}

/// A machine no larger than these tests need, since Miri goes through all of it.
fn small(storage: FrameStorage) -> MachineConfig {
    MachineConfig {
        frames: 128,
        tables: 24,
        timestamps: 4,
        dram_pages: Some(2),
        storage,
        ..MachineConfig::default()
    }
}

/// The process may write the page of its index, and nothing else or beyond.
fn check_refusals(view: &host::View, layout: BlockLayout) {
    use host::ViewError::{Outside, ReadOnly};
    let (page, end) = (PAGE as usize, layout.block_len() as usize);
    let written = view.write(page - 2, &[1; 4]);
    assert_eq!(written, Err(ReadOnly { offset: page }));
    assert_eq!(view.load_u32(page - 4), Ok(0), "nothing was written");
    let stored = view.store_u64(2 * page, 1);
    assert_eq!(stored, Err(ReadOnly { offset: 2 * page }));
    let crossing = view.read(end - 1, &mut [0; 2]);
    assert_eq!(crossing, Err(Outside { offset: end - 1 }));
    assert_eq!(view.load_u64(page - 4), Err(Outside { offset: page - 4 }));
}
