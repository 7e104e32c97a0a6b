use std::collections::BTreeSet;

use hl_harness::asic::InitiatorMode;
use hl_harness::host::Permission;
use hl_harness::machine::{MachineConfig, Model};
use hl_mem::budget::Budget;
use hl_mem::context::OpenError;
use hl_mem::uapi::{self, FLAG_FORCE_HINT, FLAG_USERPTR, MemoryInput, OP_MAP};
use mmu_core::DeviceAddr;

use crate::rig::{machine_of, on_each_asic, user_mode};

on_each_asic!(
    address_spaces_run_out_and_come_back_and_the_privileged_one_is_never_given,
    the_same_address_leads_elsewhere_in_each_address_space,
    two_processes_use_their_spaces_at_the_same_time,
);

/// Acceptance A-01.
fn address_spaces_run_out_and_come_back_and_the_privileged_one_is_never_given<A: Model>() {
    for users in [1, 3, 7] {
        machine_of::<A>(
            MachineConfig {
                users,
                ..MachineConfig::default()
            },
            |machine| {
                let (before, budget, process) =
                    (machine.counters(), Budget::unlimited(), machine.spawn());
                for round in 0..3 {
                    let mut storages: Vec<_> = (0..users).map(|_| machine.storage()).collect();
                    let mut last = machine.storage();
                    let mut contexts: Vec<_> = storages
                        .iter_mut()
                        .map(|storage| machine.open(&process, &budget, storage).unwrap())
                        .collect();
                    let asids: BTreeSet<u16> = contexts
                        .iter()
                        .map(|context| context.asid().get())
                        .collect();
                    assert_eq!(
                        asids,
                        (1..=users as u16).collect(),
                        "each once, and never 0"
                    );
                    let refused = machine.open(&process, &budget, &mut last).map(drop);
                    assert_eq!(refused, Err(OpenError::NoAddressSpace));
                    while !contexts.is_empty() {
                        let next = (7 * contexts.len() + round) % contexts.len();
                        contexts.swap_remove(next).close().unwrap();
                    }
                    assert_eq!(machine.counters(), before);
                }
            },
        );
    }
}

/// Maps one page of a process at an address of its choice.
fn map_at(address: u64, at: u64) -> MemoryInput {
    MemoryInput {
        arguments: [address, at, 4096],
        op: OP_MAP,
        flags: FLAG_USERPTR | FLAG_FORCE_HINT,
        ..MemoryInput::default()
    }
}

/// Acceptance A-02.
fn the_same_address_leads_elsewhere_in_each_address_space<A: Model>() {
    machine_of::<A>(
        MachineConfig {
            users: 3,
            ..MachineConfig::default()
        },
        |machine| {
            let budget = Budget::unlimited();
            let mut storages: Vec<_> = (0..3).map(|_| machine.storage()).collect();
            let at = A::PROFILE.host.range.start().get() + 5 * 4096;
            let mut open = Vec::new();
            for (number, storage) in (1u8..).zip(storages.iter_mut()) {
                let process = machine.spawn();
                let context = machine.open(&process, &budget, storage).unwrap();
                let address = process.map(1, Permission::ReadWrite).unwrap();
                process.write(address, &[number; 16]).unwrap();
                let reply =
                    uapi::dispatch(&context, &map_at(address.get(), at).to_bytes()).unwrap();
                assert_eq!(reply.value, at);
                let engine = machine.asic.add_initiator("dma", user_mode(context.asid()));
                open.push((number, process, context, engine));
            }
            let read = |engine| {
                let mut got = [0; 16];
                machine
                    .asic
                    .read(engine, DeviceAddr::new(at), &mut got)
                    .map(|()| got[0])
            };
            for (number, _, _, engine) in &open {
                assert_eq!(read(*engine).unwrap(), *number);
            }
            let privileged = machine
                .asic
                .add_initiator("privileged", InitiatorMode::Privileged);
            assert!(read(privileged).is_err());
            let (_, _, context, engine) = &open[1];
            context.unmap(DeviceAddr::new(at)).unwrap();
            assert!(read(*engine).is_err());
            assert_eq!((read(open[0].3).unwrap(), read(open[2].3).unwrap()), (1, 3));
            for (_, _, context, _) in open {
                context.close().unwrap();
            }
        },
    );
}

fn two_processes_use_their_spaces_at_the_same_time<A: Model>() {
    machine_of::<A>(
        MachineConfig {
            users: 2,
            ..MachineConfig::default()
        },
        |machine| {
            let budget = Budget::unlimited();
            let before = machine.counters();
            std::thread::scope(|scope| {
                for number in 0..2u8 {
                    let budget = &budget;
                    scope.spawn(move || {
                        let mut storage = machine.storage();
                        let process = machine.spawn();
                        let context = machine.open(&process, budget, &mut storage).unwrap();
                        let engine = machine.asic.add_initiator("dma", user_mode(context.asid()));
                        for round in 0..50u64 {
                            let pages = 1 + (round * 7 % 5) as usize;
                            let buffer = process.map(pages, Permission::ReadWrite).unwrap();
                            let input = MemoryInput {
                                arguments: [buffer.get(), 0, pages as u64 * 4096],
                                op: OP_MAP,
                                flags: FLAG_USERPTR,
                                ..MemoryInput::default()
                            };
                            let at = uapi::dispatch(&context, &input.to_bytes()).unwrap().value;
                            let mark = [number, round as u8];
                            machine
                                .asic
                                .write(engine, DeviceAddr::new(at + 100), &mark)
                                .unwrap();
                            let mut got = [0; 2];
                            process.read(buffer.offset(100), &mut got).unwrap();
                            assert_eq!(got, mark);
                            if round % 3 != 0 {
                                context.unmap(DeviceAddr::new(at)).unwrap();
                                assert!(
                                    machine
                                        .asic
                                        .read(engine, DeviceAddr::new(at), &mut got)
                                        .is_err()
                                );
                                process.unmap(buffer, pages);
                            }
                        }
                        let left = context.close().unwrap();
                        assert_eq!(left.mappings, 17);
                        process.exit();
                    });
                }
            });
            assert_eq!(machine.counters(), before);
            assert_eq!(machine.host.statistics().unpinned_accesses, 0);
        },
    );
}
