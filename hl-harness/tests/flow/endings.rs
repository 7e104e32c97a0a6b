//! How files, blocks and mappings end where engines do not stop, and where the device is reset.

use core::num::NonZeroU64;
use std::sync::mpsc::channel;
use std::thread;

use hl_harness::asic::{Completion, DramContent, FaultReason, Operation, Stopped};
use hl_harness::host::Permission;
use hl_harness::machine::{MachineConfig, Model, before_next_lock};
use hl_mem::budget::Budget;
use hl_mem::context::ViewError;
use hl_mem::device::{BlockRangeError, BufferError, RetireError};
use hl_mem::dram::{Contiguity, Sharing};
use hl_mem::inspect::{Part, Stage};
use hl_mem::lock::LockRank;
use hl_mem::profile::{Asic, Gaudi2};
use hl_mem::{Wanted, uapi};
use mmu_core::{BusAddr, DeviceAddr};

use crate::rig::{machine, machine_of, map_input, on_each_asic, unmap_input, user_mode};

on_each_asic!(
    closing_asks_for_the_own_engines_only_and_counts_the_own_blocks,
    a_block_whose_producer_does_not_stop_keeps_no_other_in_quarantine,
    a_file_whose_engines_do_not_halt_stays_open_until_they_do,
    an_engine_of_a_closed_file_does_not_reach_the_next_owner_of_its_address_space,
    what_a_reset_undid_is_not_said_to_be_mapped,
    a_confirmed_reset_releases_what_was_in_quarantine,
    closing_gives_back_every_kind_of_object,
);

fn closing_asks_for_the_own_engines_only_and_counts_the_own_blocks<A: Model>() {
    machine::<A>(|machine| {
        let before = machine.counters();
        let (budget, process) = (Budget::unlimited(), machine.spawn());
        let (mut one, mut two) = (machine.storage(), machine.storage());
        let owner = machine.open(&process, &budget, &mut one).unwrap();
        let other = machine.open(&process, &budget, &mut two).unwrap();
        let (_, stuck) = owner.create_block(&machine.privilege, 4096).unwrap();
        let (_, good) = owner.create_block(&machine.privilege, 4096).unwrap();
        let block_range = |id| machine.device.block_range(&machine.privilege, id);
        machine.engines.stick(block_range(stuck).unwrap());
        let left = owner.close().unwrap();
        assert_eq!((left.handles, left.quarantined_buffers), (2, 1));
        assert!(block_range(stuck).is_ok());
        assert_eq!(block_range(good), Err(BlockRangeError::Unmapped));
        assert_eq!(machine.device.usage().buffers.buffers, 1);
        // The next file has blocks of its own, and nothing to do with that one.
        other.create_block(&machine.privilege, 4096).unwrap();
        let stops = machine.engines.stops();
        let left = other.close().unwrap();
        assert_eq!((left.handles, left.quarantined_buffers), (1, 0));
        assert_eq!(machine.engines.stops() - stops, 1);
        assert_eq!(
            machine
                .device
                .settle_quarantine()
                .map_err(|error| matches!(error, RetireError::Engines(_))),
            Err(true)
        );
        machine.engines.release();
        machine.device.settle_quarantine().unwrap();
        process.exit();
        assert_eq!(machine.counters(), before);
    });
}

fn a_block_whose_producer_does_not_stop_keeps_no_other_in_quarantine<A: Model>() {
    machine::<A>(|machine| {
        let (budget, process) = (Budget::unlimited(), machine.spawn());
        let mut storage = machine.storage();
        let context = machine.open(&process, &budget, &mut storage).unwrap();
        let before = machine.counters();
        let blocks: Vec<_> = (0..3)
            .map(|_| context.create_block(&machine.privilege, 4096).unwrap())
            .collect();
        let range = machine.device.block_range(&machine.privilege, blocks[0].1);
        machine.engines.stick(range.unwrap());
        machine
            .asic
            .inject(Operation::Invalidation, 1, 1000, Completion::Never);
        for (handle, _) in &blocks {
            assert!(context.destroy_block(*handle).is_err());
        }
        let buffers = || machine.device.usage().buffers;
        assert_eq!((buffers().buffers, buffers().quarantined), (3, 2));
        machine.asic.clear_injections();
        // The error is about the first one. The others are confirmed, and gone.
        let settled = machine.device.settle_quarantine();
        assert!(matches!(settled, Err(RetireError::Engines(_))));
        assert_eq!((buffers().buffers, buffers().quarantined), (1, 0));
        machine.engines.release();
        machine.device.settle_quarantine().unwrap();
        assert_eq!(machine.counters(), before);
        context.close().unwrap();
    });
}

fn a_file_whose_engines_do_not_halt_stays_open_until_they_do<A: Model>() {
    machine::<A>(|machine| {
        let before = machine.counters();
        let (budget, process) = (Budget::unlimited(), machine.spawn());
        let mut storage = machine.storage();
        let context = machine.open(&process, &budget, &mut storage).unwrap();
        let buffer = process.map(1, Permission::ReadWrite).unwrap();
        let input = map_input(buffer, 4096).to_bytes();
        let at = DeviceAddr::new(uapi::dispatch(&context, &input).unwrap().value);
        let engine = machine.asic.add_initiator("dma", user_mode(context.asid()));
        let usage = (machine.counters(), context.usage());
        machine.engines.stick_user(context.asid().get());
        let refused = context.close().unwrap_err();
        assert!(matches!(refused.reason(), RetireError::Engines(_)));
        let context = refused.into_context();
        // Nothing was done: the engine goes on in what is still the user's.
        assert_eq!((machine.counters(), context.usage()), usage);
        machine.asic.write(engine, at, b"still his").unwrap();
        machine.engines.release();
        assert_eq!(context.close().unwrap().mappings, 1);
        process.exit();
        assert_eq!(machine.counters(), before);
    });
}

/// Nobody tells the engine that its user is gone, and another has his address space.
fn an_engine_of_a_closed_file_does_not_reach_the_next_owner_of_its_address_space<A: Model>() {
    machine_of::<A>(MachineConfig::default(), |machine| {
        let (budget, process) = (Budget::unlimited(), machine.spawn());
        let buffer = process.map(1, Permission::ReadWrite).unwrap();
        let input = map_input(buffer, 4096).to_bytes();
        let (mut one, mut two) = (machine.storage(), machine.storage());
        let first = machine.open(&process, &budget, &mut one).unwrap();
        let at = uapi::dispatch(&first, &input).unwrap().value;
        let (asid, mode) = (first.asid(), user_mode(first.asid()));
        let engine = machine.asic.add_initiator("left running", mode);
        machine
            .asic
            .write(engine, DeviceAddr::new(at), b"ours")
            .unwrap();
        first.close().unwrap();
        let next = machine.open(&process, &budget, &mut two).unwrap();
        assert_eq!(next.asid(), asid);
        assert_eq!(uapi::dispatch(&next, &input).unwrap().value, at);
        let written = machine.asic.write(engine, DeviceAddr::new(at), b"lost");
        assert_eq!(written.map_err(|error| error.stopped), Err(Stopped::Halted));
        let mut got = [0; 4];
        process.read(buffer, &mut got).unwrap();
        assert_eq!(&got, b"ours");
        // Engines that are given to the next user work.
        let engine = machine.asic.add_initiator("next", mode);
        machine
            .asic
            .write(engine, DeviceAddr::new(at), b"next")
            .unwrap();
        next.close().unwrap();
    });
}

/// Facts 11.15.
fn what_a_reset_undid_is_not_said_to_be_mapped<A: Model>() {
    machine::<A>(|machine| {
        let before = machine.counters().without_dirt();
        let (budget, process) = (Budget::unlimited(), machine.spawn());
        let mut storage = machine.storage();
        let context = machine.open(&process, &budget, &mut storage).unwrap();
        let (block, id) = context.create_block(&machine.privilege, 4096).unwrap();
        let view = context.mmap(block, 4096).unwrap();
        let buffer = context.create_command_buffer(4096, true).unwrap();
        let stages = || {
            let (mut driver, mut user) = (Vec::new(), Vec::new());
            let stage_of = |part: Part<'_>| match part {
                Part::Mapping { stage, .. } => Some(stage),
                _ => None,
            };
            let device = &machine.device;
            let looked = device.inspect(&machine.privilege, &mut |part| {
                driver.extend(stage_of(part))
            });
            looked.unwrap();
            context.inspect(&mut |part| user.extend(stage_of(part)));
            (driver, user)
        };
        assert_eq!(stages(), (vec![Stage::Live], vec![Stage::Live]));
        assert!(context.command_buffer(buffer).unwrap().mapped_at.is_some());
        machine.asic.lose();
        machine.reset(DramContent::Undefined);
        machine.recover().unwrap();
        let range = machine.device.block_range(&machine.privilege, id);
        assert_eq!(range, Err(BlockRangeError::Unmapped));
        assert_eq!(context.command_buffer(buffer).unwrap().mapped_at, None);
        assert_eq!(stages(), (vec![Stage::Lost], vec![Stage::Lost]));
        // A block that another file makes now is there; this one makes none, and is shown none.
        let made = context.create_block(&machine.privilege, 4096);
        assert_eq!(made.unwrap_err(), BufferError::Reset);
        let mut storage = machine.storage();
        let next = machine.open(&process, &budget, &mut storage).unwrap();
        let (new, id) = next.create_block(&machine.privilege, 4096).unwrap();
        assert!(machine.device.block_range(&machine.privilege, id).is_ok());
        next.destroy_block(new).unwrap();
        next.close().unwrap();
        let shown = context.mmap(block, 4096).map(drop);
        assert_eq!(shown, Err(ViewError::Reset));
        // What is shown already stays, longer than its handle.
        context.destroy_block(block).unwrap();
        assert_eq!(machine.device.usage().buffers.buffers, 2);
        machine.device.end_view(view).unwrap();
        context.close().unwrap();
        process.exit();
        assert_eq!(machine.counters().without_dirt(), before);
    });
}

fn a_confirmed_reset_releases_what_was_in_quarantine<A: Model>() {
    machine::<A>(|machine| {
        let (budget, process) = (Budget::unlimited(), machine.spawn());
        let mut storage = machine.storage();
        let before = machine.counters().without_dirt();
        let context = machine.open(&process, &budget, &mut storage).unwrap();
        let (block, _) = context.create_block(&machine.privilege, 3 * 4096).unwrap();
        let buffer = process.map(2, Permission::ReadWrite).unwrap();
        let input = map_input(buffer, 2 * 4096).to_bytes();
        let at = uapi::dispatch(&context, &input).unwrap().value;
        machine.asic.lose();
        assert!(context.destroy_block(block).is_err());
        assert!(uapi::dispatch(&context, &unmap_input(at).to_bytes()).is_err());
        let buffers = machine.device.usage().buffers;
        assert_eq!((buffers.quarantined, context.usage().quarantined), (1, 1));
        machine.reset(DramContent::Undefined);
        machine.recover().unwrap();
        // The block is gone; the user's pages go without another word of an MMU.
        assert_eq!(machine.device.usage().buffers.buffers, 0);
        let invalidations = || machine.asic.counters().invalidations_done;
        let told = invalidations();
        context.settle_quarantine().unwrap();
        assert_eq!((invalidations(), budget.charged()), (told, 0));
        context.close().unwrap();
        process.exit();
        assert_eq!(machine.counters().without_dirt(), before);
    });
}

/// One thread is about to confirm a removal; the device is reset, and its memory has something else;
/// another thread of the same user removes what the tables do not have any more; and then the first goes
/// on, and takes the other's removal along. Its tables must not pass for zeroed.
#[test]
#[cfg_attr(
    not(debug_assertions),
    ignore = "only debug builds tell the port of locks"
)]
fn what_is_removed_from_tables_that_a_reset_spoiled_is_not_taken_for_empty() {
    const MMUS: &[LockRank] = &[LockRank::HostMmu, LockRank::DramMmu];
    const DRAM_MMU: &[LockRank] = &[LockRank::DramMmu];
    machine::<Gaudi2<6>>(|machine| {
        let (budget, process) = (Budget::unlimited(), machine.spawn());
        let (mut one, mut two) = (machine.storage(), machine.storage());
        let old = &machine.open(&process, &budget, &mut one).unwrap();
        let page = |context: &hl_harness::machine::MachineContext<'_, '_, '_, _>| {
            let (pieces, private) = (Contiguity::Scattered, Sharing::Private);
            let memory = context.allocate_dram(1, pieces, private).unwrap();
            context.map_dram(memory, Wanted::Anywhere).unwrap()
        };
        let (first, second) = (page(old), page(old));
        thread::scope(|scope| {
            let stopped_at = |ranks, at| {
                let ((there, is_there), (go, may_go)) = (channel(), channel::<()>());
                let thread = scope.spawn(move || {
                    before_next_lock(ranks, move || {
                        there.send(()).expect("the test waits");
                        // The other end is dropped to let it go on.
                        let _ = may_go.recv();
                    });
                    old.unmap(at).expect("the device answers");
                });
                is_there.recv().expect("the thread comes");
                (thread, go)
            };
            let (confirms, go) = stopped_at(DRAM_MMU, first);
            machine.reset(DramContent::Undefined);
            machine.recover().unwrap();
            let (removes, go_last) = stopped_at(MMUS, second);
            drop(go);
            confirms.join().unwrap();
            // Whoever gets a table now finds nothing in it but what he maps.
            let new = machine.open(&process, &budget, &mut two).unwrap();
            let engine = machine.asic.add_initiator("dma", user_mode(new.asid()));
            let at = page(&new);
            machine.asic.write(engine, at, b"mine").unwrap();
            let page_bytes = <Gaudi2<6> as Asic>::PROFILE.dram.page_bytes;
            for number in 1..64 {
                let beyond = DeviceAddr::new(at.get() + number * page_bytes);
                let refused = machine.asic.read(engine, beyond, &mut [0; 4]).unwrap_err();
                let reason = refused.fault().unwrap().reason;
                assert!(
                    matches!(reason, FaultReason::NotPresent { .. }),
                    "{beyond}: {reason}"
                );
            }
            drop(go_last);
            removes.join().unwrap();
            new.close().unwrap();
        });
    });
}

/// Somebody writes into the table memory of a user, so that it cannot be told what his root leads to.
#[test]
fn an_address_space_that_does_not_come_back_is_told_and_counted() {
    machine::<Gaudi2<6>>(|machine| {
        let before = machine.device.usage();
        let (budget, process) = (Budget::unlimited(), machine.spawn());
        let mut storage = machine.storage();
        let context = machine.open(&process, &budget, &mut storage).unwrap();
        let buffer = process.map(1, Permission::ReadWrite).unwrap();
        uapi::dispatch(&context, &map_input(buffer, 4096).to_bytes()).unwrap();
        let root = context.with_table(|table| table.root());
        let slots = (0..512).map(|slot| BusAddr::new(root.get() + 8 * slot));
        let (at, entry) = slots
            .map(|at| (at, machine.host.load_u64(at).unwrap()))
            .find(|(_, entry)| *entry != 0)
            .expect("something is mapped");
        // To no table at all.
        machine
            .host
            .store_u64(at, (entry & 0xFFF) | 0x7FF0_0000_0000)
            .unwrap();
        let left = context.close().unwrap();
        assert_eq!((left.mappings, left.address_spaces), (1, 1));
        let after = machine.device.usage();
        assert_eq!(after.lost_asids, 1);
        assert_eq!(after.free_asids, before.free_asids - 1);
    });
}

fn closing_gives_back_every_kind_of_object<A: Model>() {
    machine::<A>(|machine| {
        let before = machine.counters();
        let (budget, process) = (Budget::unlimited(), machine.spawn());
        let mut storage = machine.storage();
        for _ in 0..3 {
            let context = machine.open(&process, &budget, &mut storage).unwrap();
            context.create_command_buffer(4096, true).unwrap();
            context.create_command_buffer(10_000, false).unwrap();
            let timestamps = context.create_timestamps(600).unwrap();
            let (counter, target) = (3, 7);
            context
                .register_timestamp(timestamps, 599, (counter, target), 0, NonZeroU64::MIN)
                .unwrap();
            let privilege = &machine.privilege;
            let (block, _) = context.create_block(privilege, 4096).unwrap();
            context
                .map_block(privilege, block, Wanted::Anywhere)
                .unwrap();
            let view = context.mmap(timestamps, 8192).unwrap();
            let left = context.close().unwrap();
            assert_eq!(
                (left.handles, left.mappings, left.quarantined_buffers),
                (4, 0, 0)
            );
            // The process may look at its timestamps for as long as it likes.
            assert_eq!(view.view().view().load_u64(599 * 8), Ok(0));
            machine.device.end_view(view).unwrap();
        }
        drop(process);
        assert_eq!(machine.counters(), before);
    });
}
