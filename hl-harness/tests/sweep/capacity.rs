//! Storage of every size, from none up to enough: tables, nodes, slots, records. What does not fit
//! changes nothing, however often it is tried, and fits as soon as something else is gone.

use hl_harness::host::Permission;
use hl_harness::machine::{MachineConfig, Model, USER_REGISTERS};
use hl_harness::stress::Snapshot;
use hl_mem::budget::Budget;
use hl_mem::context::OpenError;
use hl_mem::profile::{Gaudi2, LargeHost};
use hl_mem::uapi::{Errno, FLAG_FORCE_HINT, FLAG_USERPTR, OP_ALLOC, OP_MAP};
use mmu_core::DeviceAddr;

use crate::creations::Creation;
use crate::rig::{
    PAGE, Room, Scene, Storage, call, config, initiator, machine, on_each_asic, with_scene,
};

on_each_asic!(
    pools_of_tables_of_every_size,
    nodes_of_every_number,
    slots_for_mappings_of_every_number,
    slots_for_handles_of_every_number,
    slots_for_buffers_of_every_number,
    places_for_timestamps_of_every_number,
    records_of_packs_of_every_number,
    budgets_of_every_size,
    seats_and_nodes_for_a_file,
);

/// A making that may not fit: the same refusal twice, with nothing changed, or where it came to lie.
fn attempt<A: Model>(
    scene: &Scene<'_, '_, '_, '_, A>,
    creation: Creation,
    size: usize,
) -> Option<Option<u64>> {
    if creation == Creation::BlockMapping
        && let Err(error) = scene
            .context
            .create_block(&scene.machine.privilege, 3 * PAGE)
            .map(|(block, _)| scene.context.destroy_block(block).unwrap())
    {
        // What it is made of does not fit.
        assert_eq!(Errno::from(error), Errno::ENOMEM);
        return None;
    }
    let prepared = creation.prepare(scene);
    let before = scene.snapshot();
    for _ in 0..2 {
        match creation.make(scene, prepared) {
            Ok(made) => {
                let address = made.address();
                creation.unmake(scene, made).unwrap();
                return Some(address);
            }
            Err(errno) => {
                assert_eq!(errno, Errno::ENOMEM, "{creation:?} with {size}");
                let after = scene.snapshot();
                after.assert_is(&before, format_args!("{creation:?} with {size}"));
            }
        }
    }
    if let Some(block) = prepared {
        scene.context.destroy_block(block).unwrap();
    }
    None
}

/// Tries a making with each size that a scene can be had with.
fn attempts<A: Model>(
    sizes: impl Iterator<Item = usize>,
    creation: Creation,
    with: impl Fn(usize, &mut dyn FnMut(&Scene<'_, '_, '_, '_, A>)),
) -> Vec<Option<Option<u64>>> {
    let mut outcomes = Vec::new();
    for size in sizes {
        with(size, &mut |scene| {
            if creation.exists(scene) {
                outcomes.push(attempt(scene, creation, size));
            }
        });
    }
    outcomes
}

/// Tries each making with each size, `with` being how a scene of a size is had. It has to fit with the
/// largest, at the same address whenever it fits, and not to fit with the smallest where `refused`
/// says so.
fn grow<A: Model>(
    sizes: impl Iterator<Item = usize> + Clone,
    creations: &[Creation],
    with: impl Fn(usize, &mut dyn FnMut(&Scene<'_, '_, '_, '_, A>)),
) {
    for &creation in creations {
        let outcomes = attempts(sizes.clone(), creation, &with);
        if outcomes.is_empty() {
            continue;
        }
        let first = outcomes.iter().position(Option::is_some);
        let first = first.unwrap_or_else(|| panic!("{creation:?} never fits"));
        assert!(first > 0, "{creation:?} always fits");
        let fits = &outcomes[first..];
        assert!(
            fits.iter().all(|outcome| *outcome == fits[0]),
            "{creation:?}: {outcomes:?}"
        );
    }
}

fn pools_of_tables_of_every_size<A: Model>() {
    let mut creations = vec![
        Creation::SmallMapping,
        Creation::LargeMapping,
        Creation::MixedMapping,
        Creation::Block,
        Creation::BlockMapping,
        Creation::MappedCommandBuffer,
    ];
    // Where device memory has tables of its own, those are a pool of its own (see below).
    if A::PROFILE.one_table {
        creations.push(Creation::DramMapping);
    }
    // From the roots of the privileged space, of two users and of nobody on.
    grow::<A>(4..20, &creations, |size, run| {
        let tables = size as u32;
        machine::<A>(MachineConfig { tables, ..config() }, |machine| {
            try_scene(machine, Room::default(), run);
        });
    });
}

/// The most pieces that the windows of a range leave, which each take a node.
fn pieces(range: &hl_mem::profile::VaRange) -> usize {
    1 + range.fixed.len() + 2 * range.reserved.len()
}

fn nodes_of_every_number<A: Model>() {
    let large = match &A::PROFILE.large_host {
        LargeHost::Own(range) => Some(range),
        LargeHost::Shared => None,
    };
    // Too few to open the file at first, and then too few for what is tried.
    let sizes = |range| 0..pieces(range) + 4;
    let with = |number: usize| {
        move |size, run: &mut dyn FnMut(&Scene<'_, '_, '_, '_, A>)| {
            machine::<A>(config(), |machine| {
                let mut nodes = [32; 3];
                nodes[number] = size;
                let room = Room {
                    nodes,
                    ..Room::default()
                };
                try_scene(machine, room, run);
            });
        }
    };
    grow::<A>(
        sizes(&A::PROFILE.host),
        &[Creation::SmallMapping, Creation::MappedCommandBuffer],
        with(0),
    );
    if let Some(large) = large {
        // Large leaves that find no place make do with small ones.
        for creation in [Creation::LargeMapping, Creation::MixedMapping] {
            let outcomes = attempts::<A>(sizes(large), creation, with(1));
            let is_large = |outcome: &Option<Option<u64>>| {
                let at = outcome.flatten().expect("it fits among the small ones");
                large.range.contains(DeviceAddr::new(at))
            };
            assert!(outcomes.is_sorted_by_key(is_large), "{outcomes:?}");
            assert!(!is_large(&outcomes[0]), "{creation:?}: {outcomes:?}");
            let last = outcomes.last().is_some_and(is_large);
            assert!(last, "{creation:?}: {outcomes:?}");
        }
    }
    if let Some(dram) = &A::PROFILE.dram.mapped_at {
        grow::<A>(sizes(dram), &[Creation::DramMapping], with(2));
    }
}

/// Runs `run` with a scene where there is room for one: the file may not even open, and what a scene
/// has may not fit, which both have to change nothing.
fn try_scene<A: Model>(
    machine: &hl_harness::machine::Machine<'_, '_, A>,
    room: Room,
    run: &mut dyn FnMut(&Scene<'_, '_, '_, '_, A>),
) {
    let budget = Budget::unlimited();
    let before = Snapshot::of(machine, &[], &[&budget]).without_dirt();
    let process = machine.spawn();
    let mut storage = Storage::new(room);
    match storage.open(machine, &process, &budget) {
        Err(error) => assert!(matches!(error, OpenError::Storage(_)), "{error}"),
        Ok(context) => {
            // A file without furniture: what is tried is the only user of the storage.
            let huge = process
                .map_contiguous(2 * 512, 512, Permission::ReadWrite)
                .unwrap();
            let scattered = process.map(9, Permission::ReadWrite).unwrap();
            let pack = call(&context, [1, 0, 0], OP_ALLOC, 0).unwrap();
            let scene = Scene {
                machine,
                context: &context,
                budget: &budget,
                small: (scattered.offset(100), 8 * PAGE),
                large: (huge, 2 << 20),
                mixed: (huge.offset((2 << 20) - 3 * PAGE), (2 << 20) + 3 * PAGE),
                furniture: crate::rig::Furniture::bare::<A>(pack),
                initiator: initiator(machine, &context),
            };
            run(&scene);
            context.close().unwrap();
        }
    }
    drop(process);
    let after = Snapshot::of(machine, &[], &[&budget]).without_dirt();
    after.assert_is(&before, "after the file");
}

/// Grows one number of a file's storage from none on.
fn grow_room<A: Model>(creations: &[Creation], room: impl Fn(usize) -> Room + Copy) {
    grow::<A>(0..4, creations, |size, run| {
        machine::<A>(config(), |machine| {
            try_scene(machine, room(size), run);
        });
    });
}

fn slots_for_mappings_of_every_number<A: Model>() {
    let makings = [
        Creation::SmallMapping,
        Creation::LargeMapping,
        Creation::MixedMapping,
        Creation::DramMapping,
        Creation::BlockMapping,
        Creation::MappedCommandBuffer,
    ];
    grow_room::<A>(&makings, |mappings| Room {
        mappings,
        ..Room::default()
    });
}

fn slots_for_handles_of_every_number<A: Model>() {
    let makings = [
        Creation::Block,
        Creation::CommandBuffer,
        Creation::MappedCommandBuffer,
        Creation::Timestamps,
    ];
    grow_room::<A>(&makings, |handles| Room {
        handles,
        ..Room::default()
    });
    // Registers are named until the file is closed.
    if A::KIND == hl_harness::asic::AsicKind::Gaudi2 {
        machine::<A>(config(), |machine| {
            let room = |handles| Room {
                handles,
                ..Room::default()
            };
            try_scene(machine, room(0), &mut |scene| {
                let before = scene.snapshot();
                let refused = scene.context.register_block(USER_REGISTERS).unwrap_err();
                assert_eq!(Errno::from(refused), Errno::ENOMEM);
                scene.snapshot().assert_is(&before, "registers");
            });
            try_scene(machine, room(1), &mut |scene| {
                let first = scene.context.register_block(USER_REGISTERS).unwrap();
                let again = scene.context.register_block(USER_REGISTERS).unwrap();
                assert_eq!(first, again);
                let refused = scene.context.create_command_buffer(PAGE, false);
                assert_eq!(Errno::from(refused.unwrap_err()), Errno::ENOMEM);
            });
        });
    }
}

fn slots_for_buffers_of_every_number<A: Model>() {
    let makings = [
        Creation::Block,
        Creation::CommandBuffer,
        Creation::MappedCommandBuffer,
        Creation::Timestamps,
    ];
    grow::<A>(0..4, &makings, |buffers, run| {
        let config = MachineConfig {
            buffers,
            ..config()
        };
        machine::<A>(config, |machine| {
            try_scene(machine, Room::default(), run);
        });
    });
}

fn places_for_timestamps_of_every_number<A: Model>() {
    grow_room::<A>(&[Creation::Timestamps], |pools| Room {
        pools,
        ..Room::default()
    });
}

fn records_of_packs_of_every_number<A: Model>() {
    machine::<A>(config(), |machine| {
        with_scene(machine, Room::default(), |scene| {
            // The machine has a fixed number of them: all are taken, and then one more is tried.
            let mut packs = Vec::new();
            let last = loop {
                match scene.call([1, 0, 0], OP_ALLOC, 0) {
                    Ok(handle) => packs.push(handle),
                    Err(errno) => break errno,
                }
            };
            assert_eq!(last, Errno::ENOMEM);
            let dram = machine.device.usage().dram;
            assert!(dram.clean > 0, "memory ran out before the records did");
            let full = scene.snapshot();
            for creation in [Creation::Dram, Creation::SharedDram] {
                assert_eq!(attempt(scene, creation, packs.len()), None);
            }
            scene.snapshot().assert_is(&full, "without records");
            let one = packs.pop().unwrap();
            scene.free(one).unwrap();
            let fits = |creation| attempt(scene, creation, packs.len()).is_some();
            assert!(fits(Creation::Dram));
            for handle in packs {
                scene.free(handle).unwrap();
            }
        });
    });
}

fn budgets_of_every_size<A: Model>() {
    for limit in 0..12 {
        machine::<A>(config(), |machine| {
            let budget = Budget::new(limit);
            let process = machine.spawn();
            let mut storage = Storage::new(Room::default());
            let context = storage.open(machine, &process, &budget).unwrap();
            let buffer = process.map(10, Permission::ReadWrite).unwrap();
            let snapshot = || Snapshot::of(machine, &[&context], &[&budget]);
            let fresh = snapshot();
            // Nine pages, of which two are used in part.
            let request = [buffer.get() + 100, 0, 8 * PAGE];
            let mapped = call(&context, request, OP_MAP, FLAG_USERPTR);
            assert_eq!(mapped.is_ok(), limit >= 9, "{limit} pages");
            match mapped {
                Err(errno) => {
                    assert_eq!(errno, Errno::ENOMEM);
                    snapshot().assert_is(&fresh, format_args!("{limit} pages"));
                }
                Ok(_) => assert_eq!(budget.charged(), 9),
            }
            context.close().unwrap();
            assert_eq!(budget.charged(), 0);
        });
    }
}

fn seats_and_nodes_for_a_file<A: Model>() {
    let config = MachineConfig {
        users: 1,
        ..config()
    };
    machine::<A>(config, |machine| {
        let (budget, process) = (Budget::unlimited(), machine.spawn());
        let before = Snapshot::of(machine, &[], &[]);
        // Too few nodes for the ranges of the ASIC, of each kind, and then just enough.
        let ranges = [
            Some(&A::PROFILE.host),
            match &A::PROFILE.large_host {
                LargeHost::Own(range) => Some(range),
                LargeHost::Shared => None,
            },
            A::PROFILE.dram.mapped_at.as_ref(),
        ];
        for (number, range) in ranges.iter().enumerate() {
            let Some(range) = range else {
                continue;
            };
            for count in 0..=pieces(range) {
                let mut room = Room::default();
                room.nodes[number] = count;
                let mut storage = Storage::new(room);
                match storage.open(machine, &process, &budget) {
                    Err(error) => {
                        assert!(matches!(error, OpenError::Storage(_)), "{error}");
                        assert!(count < pieces(range), "{count} nodes");
                    }
                    Ok(context) => context.close().map(drop).unwrap(),
                }
                Snapshot::of(machine, &[], &[]).assert_is(&before, "opening");
            }
        }
        // No seat: not even the storage is looked at twice.
        let mut storage = Storage::new(Room::default());
        let first = storage.open(machine, &process, &budget).unwrap();
        let taken = Snapshot::of(machine, &[&first], &[]);
        let mut late = Storage::new(Room::default());
        for _ in 0..2 {
            let refused = late.open(machine, &process, &budget).unwrap_err();
            assert_eq!(refused, OpenError::NoAddressSpace);
            Snapshot::of(machine, &[&first], &[]).assert_is(&taken, "a second file");
        }
        first.close().unwrap();
        let context = late.open(machine, &process, &budget).unwrap();
        context.close().unwrap();
        Snapshot::of(machine, &[], &[]).assert_is(&before, "both files");
    });
}

/// The tables for device memory are as many as that has room for: each leaf goes into a table of its
/// own until they are used up.
#[test]
fn tables_for_device_memory_run_out_and_come_back() {
    type Asic = Gaudi2<6>;
    machine::<Asic>(config(), |machine| {
        let room = Room {
            nodes: [32, 32, 300],
            mappings: 300,
            ..Room::default()
        };
        with_scene(machine, room, |scene| {
            let range = <Asic as hl_mem::profile::Asic>::PROFILE
                .dram
                .mapped_at
                .unwrap();
            let table = 512 * range.page_bytes;
            let pack = scene.furniture.pack;
            let mut mapped = Vec::new();
            let refused = loop {
                let at = range.range.start().get() + (mapped.len() as u64 + 1) * table;
                let before = scene.snapshot();
                match scene.call([at, pack, 0], OP_MAP, FLAG_FORCE_HINT) {
                    Ok(_) => mapped.push(at),
                    Err(errno) => {
                        assert_eq!(errno, Errno::ENOMEM);
                        scene.snapshot().assert_is(&before, "no table");
                        break at;
                    }
                }
            };
            assert!(mapped.len() > 200, "{}", mapped.len());
            scene.unmap(mapped.pop().unwrap()).unwrap();
            assert_eq!(
                scene.call([refused, pack, 0], OP_MAP, FLAG_FORCE_HINT),
                Ok(refused)
            );
            mapped.push(refused);
            for at in mapped {
                scene.unmap(at).unwrap();
            }
        });
    });
}
