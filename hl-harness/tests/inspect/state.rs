use hl_harness::asic::{Completion, DramContent, Operation};
use hl_harness::inspect::{Backing, Extent, SpaceState, Stage, State};
use hl_harness::machine::Model;
use hl_mem::device::{PrivilegedWindow, WindowMemory};
use hl_mem::uapi::{self, MemoryInput, OP_UNMAP};
use mmu_core::{BusAddr, DeviceAddr, Run};

use crate::rig::{PAGE, on_each_asic, with_user};

on_each_asic!(
    free_and_mapped_addresses_are_all_there_are,
    what_a_mapping_owns_is_as_long_as_it,
    looking_changes_nothing,
    quarantine_is_part_of_the_state,
    what_was_lost_in_a_reset_is_no_disagreement,
    what_the_driver_maps_for_a_user_has_its_own_kind,
);

/// What of a range is neither free nor mapped nor the driver's own.
fn unaccounted(space: &SpaceState) -> u64 {
    let inside = |extents: &[Extent], range: &Extent| -> u64 {
        let inside = extents.iter().filter(|extent| extent.overlaps(range));
        inside.map(|extent| extent.len).sum()
    };
    let mapped: Vec<Extent> = space
        .mappings
        .iter()
        .map(|mapping| mapping.extent)
        .collect();
    let left = space.ranges.iter().map(|range| {
        let all = range.extent.len;
        all - range.free_bytes()
            - inside(&mapped, &range.extent)
            - inside(&range.fixed, &range.extent)
    });
    left.sum()
}

fn free_and_mapped_addresses_are_all_there_are<A: Model>() {
    with_user::<A>(|user| {
        let gone = user.map(9, None);
        user.map(4, None);
        user.map_device_memory(2);
        user.unmap(gone);
        let state = user.state();
        assert_eq!(state.spaces.len(), 2);
        for space in &state.spaces {
            assert_eq!(unaccounted(space), 0, "asid {}", space.asid);
            let starts: Vec<DeviceAddr> = space.mappings.iter().map(|m| m.extent.start).collect();
            assert!(starts.is_sorted());
        }
        let free = |space: &SpaceState| {
            space
                .ranges
                .iter()
                .map(|range| range.free.len())
                .sum::<usize>()
        };
        assert_eq!(free(&state.spaces[1]) as u32, user.context.usage().extents);
        let privileged = user.machine.device.usage().privileged_extents;
        assert_eq!(free(&state.spaces[0]) as u32, privileged);
    });
}

fn what_a_mapping_owns_is_as_long_as_it<A: Model>() {
    with_user::<A>(|user| {
        user.map(9, None);
        user.map(1 + 512 + 2, Some(1));
        user.map_device_memory(3);
        let state = user.state();
        let mut kinds = Vec::new();
        for mapping in state.spaces.iter().flat_map(|space| &space.mappings) {
            let owned: u64 = mapping.owns.iter().map(|run| run.len).sum();
            assert_eq!(owned, mapping.extent.len, "{}", mapping.extent.start);
            kinds.push(mapping.backing);
        }
        kinds.sort();
        kinds.dedup();
        let mut expected = vec![Backing::UserPages, Backing::Block];
        if A::PROFILE.dram.mapped_at.is_some() {
            expected.push(Backing::DeviceMemory);
        }
        assert_eq!(kinds, expected);
    });
}

fn looking_changes_nothing<A: Model>() {
    with_user::<A>(|user| {
        let at = user.map(3, None);
        let before = (user.machine.counters(), user.context.usage());
        let state = user.state();
        let _ = (state.map(), state.timeline(), state.dump(None, false));
        let _ = state.walk(user.asid(), DeviceAddr::new(at), None);
        assert_eq!((user.machine.counters(), user.context.usage()), before);
        assert_eq!(user.state(), state);
    });
}

fn quarantine_is_part_of_the_state<A: Model>() {
    with_user::<A>(|user| {
        let at = user.map(2, None);
        user.machine
            .asic
            .inject(Operation::Invalidation, 1, 1000, Completion::Never);
        let input = MemoryInput {
            arguments: [at, 0, 0],
            op: OP_UNMAP,
            ..MemoryInput::default()
        };
        assert!(uapi::dispatch(user.context, &input.to_bytes()).is_err());
        let state = user.state();
        let space = state.space(user.asid()).unwrap();
        let mapping = space.mapping_at(DeviceAddr::new(at)).unwrap();
        assert!(mapping.quarantined && mapping.extent.len == 2 * PAGE);
        // Its addresses are not free, and the tables have it no more.
        assert_eq!(unaccounted(space), 0);
        let walk = state.walk(user.asid(), DeviceAddr::new(at), None).unwrap();
        assert!(
            walk.outcome.is_err() && walk.agrees() == Some(true),
            "{walk}"
        );
        assert!(
            walk.to_string()
                .contains("kept until an invalidation is confirmed")
        );
        user.machine.asic.clear_injections();
    });
}

fn what_the_driver_maps_for_a_user_has_its_own_kind<A: Model>() {
    with_user::<A>(|user| {
        let before = user.state();
        let (device, privilege) = (&user.machine.device, &user.machine.privilege);
        let buffer = user.context.create_command_buffer(PAGE, true).unwrap();
        let memory = WindowMemory::Device(Run::new(BusAddr::new(0), PAGE).unwrap());
        let window = PrivilegedWindow::Firmware;
        let mut expected = vec![(1, Backing::Buffer)];
        if device.map_window(privilege, window, memory).is_ok() {
            expected.push((0, Backing::Window));
        }
        let doorbell = A::PROFILE.host.fixed.first().map(|window| window.start());
        let mapped = doorbell.map(|at| user.context.map_window(privilege, at, memory));
        if mapped.is_some_and(|mapped| mapped.is_ok()) {
            expected.push((1, Backing::Window));
        }
        let seen = |state: &State| -> Vec<(u16, Backing)> {
            let spaces = state.spaces.iter();
            let mappings = spaces.flat_map(|space| {
                let kinds = space.mappings.iter().map(|mapping| mapping.backing);
                kinds.map(|kind| (space.asid, kind))
            });
            mappings.collect()
        };
        let mut new = seen(&user.state());
        for kind in seen(&before) {
            let place = new.iter().position(|known| *known == kind).unwrap();
            new.remove(place);
        }
        new.sort();
        expected.sort();
        assert_eq!(new, expected);
        user.context.destroy_command_buffer(buffer).unwrap();
        device.unmap_window(privilege, window).unwrap();
    });
}

fn what_was_lost_in_a_reset_is_no_disagreement<A: Model>() {
    with_user::<A>(|user| {
        let at = user.map(2, None);
        let _ = user.map_device_memory(1);
        user.machine.asic.lose();
        user.machine.reset(DramContent::Undefined);
        user.machine.recover().unwrap();
        let state = user.state();
        let mappings = state.spaces.iter().flat_map(|space| &space.mappings);
        assert!(mappings.clone().count() >= 2);
        for mapping in mappings {
            assert!(mapping.lost && !mapping.quarantined && mapping.is_gone());
        }
        for every in [false, true] {
            let dump = state.dump(None, every).to_string();
            assert!(!dump.contains("DISAGREE"), "{dump}");
        }
        let walk = state.walk(user.asid(), DeviceAddr::new(at), None).unwrap();
        assert_eq!(walk.agrees(), Some(true));
        assert!(walk.to_string().contains("lost user pages"), "{walk}");
        let map = state.map();
        assert!(map.contains("lost in a reset") && !map.contains("NOT IN THE TABLES"));
        // Its life ended with the reset, and is told once.
        let history = state.history();
        assert!(!history.begins_late);
        let lives = history.lives.iter();
        let of_user =
            lives.filter(|life| (life.asid, life.extent.start.get()) == (user.asid(), at));
        let stages: Vec<Stage> = of_user.map(|life| life.stage()).collect();
        assert_eq!(stages, [Stage::Forgotten]);
    });
}
