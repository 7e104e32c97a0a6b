use hl_harness::asic::{FaultReason, MmuInstance};
use hl_harness::inspect::State;
use hl_harness::log::TableMemory;
use hl_harness::machine::Model;
use hl_mem::profile::{Gaudi2, Goya};
use mmu_core::{BusAddr, DeviceAddr};

use crate::rig::{PAGE, User, on_each_asic, with_user};

on_each_asic!(
    a_walk_ends_where_an_access_of_the_device_ends,
    each_fault_is_the_one_that_the_device_raises_and_is_explained,
    a_table_that_is_nowhere_is_told,
    a_wrong_leaf_is_told_from_what_the_driver_has_mapped,
    a_state_is_the_same_after_being_saved_and_read_back,
    the_privileged_space_is_walked_like_any_other,
);

fn table_memory<A: Model>() -> TableMemory {
    if A::PROFILE.host_table_bytes.is_some() {
        TableMemory::Host
    } else {
        TableMemory::Device
    }
}

fn a_walk_ends_where_an_access_of_the_device_ends<A: Model>() {
    with_user::<A>(|user| {
        let mut starts = vec![
            (user.map(7, None), 7 * PAGE),
            (user.map(1 + 1024 + 3, Some(1)), 1028 * PAGE),
            (user.map(1, None), PAGE),
        ];
        let page = A::PROFILE.dram.page_bytes;
        starts.extend(user.map_device_memory(3).map(|at| (at, 3 * page)));
        let state = user.state();
        let mut random = fastrand::Rng::with_seed(1);
        let (mut good, mut bad) = (0, 0);
        for _ in 0..600 {
            let (start, len) = starts[random.usize(..starts.len())];
            // Inside mostly, and often enough at the edges and on either side of them.
            let offset = match random.u8(..6) {
                0 => 0,
                1 => len - 1,
                2 => len,
                3 => u64::MAX,
                4 => len + random.u64(..1 << 40),
                _ => random.u64(..len),
            };
            let at = DeviceAddr::new(start.wrapping_add(offset));
            let walk = state.walk(user.asid(), at, None).unwrap();
            assert_eq!(walk.outcome, user.device_reads(at), "{at}");
            assert_eq!(walk.agrees(), Some(true), "{at}\n{walk}");
            match walk.outcome {
                Ok(bus) => {
                    good += 1;
                    assert!(
                        walk.to_string().contains(&format!("result  {bus}")),
                        "{walk}"
                    );
                }
                Err(_) => bad += 1,
            }
        }
        assert!(good > 100 && bad > 50, "{good} {bad}");
    });
}

/// The entry of a hop on the way to an address.
fn entry_at(state: &State, asid: u16, at: u64, hop: usize) -> (BusAddr, u64) {
    let walk = state.walk(asid, DeviceAddr::new(at), None).unwrap();
    let step = walk.hops[hop].step;
    (step.entry_address, step.entry.unwrap())
}

/// Walks and has the device read, and compares.
fn fault_at<A: Model>(user: &User<'_, '_, '_, '_, A>, at: u64) -> (FaultReason, String) {
    let walk = user
        .state()
        .walk(user.asid(), DeviceAddr::new(at), None)
        .unwrap();
    let reason = walk.outcome.unwrap_err();
    assert_eq!(
        user.device_reads(DeviceAddr::new(at)),
        Err(reason),
        "{walk}"
    );
    let text = walk.to_string();
    assert!(text.contains(&format!("FAULT   {reason}\n")), "{text}");
    (reason, text)
}

fn each_fault_is_the_one_that_the_device_raises_and_is_explained<A: Model>() {
    with_user::<A>(|user| {
        let memory = table_memory::<A>();
        let deepest = if memory == TableMemory::Host { 5 } else { 4 };
        // Each address is used once, since the device remembers what it walked.
        let start = user.map(600, None);
        let hidden = user.map(1, None);
        let state = user.state();
        let at = |page: u64| start + page * PAGE;
        let (entry, _) = entry_at(&state, user.asid(), hidden, deepest);
        user.plant(memory, entry, 0);
        let (reason, text) = fault_at(user, hidden);
        assert_eq!(reason, FaultReason::NotPresent { hop: deepest as u8 });
        assert!(
            text.contains("bit 0       present   0x0") && text.contains("nothing is mapped"),
            "{text}"
        );
        assert!(text.contains("they differ"), "{text}");

        let (entry, word) = entry_at(&state, user.asid(), at(8), deepest);
        user.plant(memory, entry, word | 0x40);
        let (reason, text) = fault_at(user, at(8));
        assert_eq!(
            reason,
            FaultReason::Malformed {
                hop: deepest as u8,
                entry: word | 0x40
            }
        );
        assert!(text.contains("bits 10:1   reserved  0x20 "), "{text}");

        let (entry, word) = entry_at(&state, user.asid(), at(16), deepest);
        user.plant(memory, entry, word & !0x800);
        let (reason, text) = fault_at(user, at(16));
        assert!(matches!(reason, FaultReason::Malformed { .. }));
        assert!(
            text.contains("no leaf, at the deepest hop: malformed"),
            "{text}"
        );

        // Nothing is there on any of the three.
        let nowhere = 0x0700_0000_0000_0000;
        let (entry, _) = entry_at(&state, user.asid(), at(24), deepest);
        user.plant(memory, entry, nowhere | 0x801);
        let (reason, text) = fault_at(user, at(24));
        assert_eq!(
            reason,
            FaultReason::Decode {
                bus: BusAddr::new(nowhere)
            }
        );
        assert!(
            text.contains("neither device memory nor reachable host memory"),
            "{text}"
        );

        let walk = state.walk(500, DeviceAddr::new(start), None).unwrap();
        assert_eq!(walk.outcome, Err(FaultReason::NoRoot));
        assert!(
            walk.to_string().contains("none was latched for asid 500"),
            "{walk}"
        );

        let mut disabled = state.clone();
        disabled.mmus.iter_mut().for_each(|mmu| mmu.enabled = false);
        let walk = disabled
            .walk(user.asid(), DeviceAddr::new(at(32)), None)
            .unwrap();
        assert_eq!(walk.outcome, Err(FaultReason::Disabled));
        assert_eq!(walk.hops.len(), deepest + 1);
        assert!(
            walk.to_string().contains("the MMU is not enabled"),
            "{walk}"
        );
    });
}

fn a_table_that_is_nowhere_is_told<A: Model>() {
    // The first walk of the machine: the device remembers no line yet.
    with_user::<A>(|user| {
        let memory = table_memory::<A>();
        let deepest = if memory == TableMemory::Host { 5 } else { 4 };
        let start = user.map(1, None);
        let (entry, _) = entry_at(&user.state(), user.asid(), start, deepest - 1);
        user.plant(memory, entry, 0x0700_0000_0000_0000 | 1);
        let (reason, text) = fault_at(user, start);
        assert!(
            matches!(reason, FaultReason::TableFetch { hop, .. } if usize::from(hop) == deepest)
        );
        assert!(
            text.contains("unreadable") && text.contains("can read no table"),
            "{text}"
        );
    });
}

fn a_wrong_leaf_is_told_from_what_the_driver_has_mapped<A: Model>() {
    with_user::<A>(|user| {
        let memory = table_memory::<A>();
        let (one, other) = (user.map(1, None), user.map(1, None));
        let state = user.state();
        let deepest = if memory == TableMemory::Host { 5 } else { 4 };
        let (entry, _) = entry_at(&state, user.asid(), one, deepest);
        let (_, wrong) = entry_at(&state, user.asid(), other, deepest);
        user.plant(memory, entry, wrong);
        let walk = user
            .state()
            .walk(user.asid(), DeviceAddr::new(one), None)
            .unwrap();
        assert_eq!(walk.outcome, user.device_reads(DeviceAddr::new(one)));
        assert_eq!(walk.outcome.unwrap().get(), wrong & !0xFFF);
        assert_eq!(walk.agrees(), Some(false));
        let text = walk.to_string();
        assert!(
            text.contains(&format!("{wrong:#018x}")) && text.contains("they differ"),
            "{text}"
        );
        // What the driver has, it still has.
        let owned = &state.space(user.asid()).unwrap().mappings[0].owns;
        assert!(
            text.contains(&format!("WHICH OWNS {}", owned[0].start)),
            "{text}"
        );
    });
}

fn a_state_is_the_same_after_being_saved_and_read_back<A: Model>() {
    with_user::<A>(|user| {
        let at = user.map(3, None);
        user.map_device_memory(1);
        user.device_reads(DeviceAddr::new(at)).unwrap();
        user.unmap(at);
        let _ = user.device_reads(DeviceAddr::new(at));
        let state = user.state();
        let mut saved = Vec::new();
        state.save(&mut saved).unwrap();
        assert_eq!(State::load(&saved[..]).unwrap(), state);
        let text = String::from_utf8(saved).unwrap();
        let other = text.replacen("\"version\":1", "\"version\":999", 1);
        let refused = State::load(other.as_bytes()).unwrap_err().to_string();
        assert!(refused.contains("999"), "{refused}");
        assert!(State::load(&text.as_bytes()[..text.len() / 2]).is_err());
    });
}

fn the_privileged_space_is_walked_like_any_other<A: Model>() {
    with_user::<A>(|user| {
        let state = user.state();
        let block = &state.space(0).unwrap().mappings[0];
        assert_eq!(block.extent.len, 5 * PAGE);
        for page in 0..5 {
            let at = DeviceAddr::new(block.extent.start.get() + page * PAGE + 5);
            let walk = state.walk(0, at, None).unwrap();
            assert_eq!(walk.outcome, user.machine.asic.explain(0, at).outcome);
            assert_eq!(walk.agrees(), Some(true), "{walk}");
            // And the user has nothing there.
            let walk = state.walk(user.asid(), at, None).unwrap();
            assert!(walk.outcome.is_err() && walk.to_string().contains("has no mapping here"));
        }
    });
}

#[test]
fn scrambled_addresses_of_device_memory_are_told_as_such() {
    with_user::<Gaudi2<6>>(|user| {
        let at = user.map_device_memory(2).unwrap() + 0x3000_0000 + 0x0345_6789;
        let state = user.state();
        let walk = state
            .walk(user.asid(), DeviceAddr::new(at), Some(7))
            .unwrap();
        assert_eq!(walk.mmu, MmuInstance::Hmmu(7));
        assert_ne!(walk.walked.get(), at);
        let text = walk.to_string();
        assert!(text.contains("of 48 MiB goes to slot"), "{text}");
        assert!(
            text.contains(&format!("{:#018x} is walked", walk.walked.get())),
            "{text}"
        );
        assert!(
            text.contains("768 MiB of device memory, 1 GiB of scrambled addresses"),
            "{text}"
        );
        assert_eq!(walk.outcome, user.device_reads(DeviceAddr::new(at)));
        assert!(
            state
                .walk(user.asid(), DeviceAddr::new(at), Some(16))
                .is_none()
        );
    });
}

#[test]
fn the_default_page_of_goya_is_told_from_a_mapping() {
    with_user::<Goya>(|user| {
        let at = user.map_device_memory(1).unwrap();
        let (entry, _) = entry_at(&user.state(), user.asid(), at, 3);
        let next = BusAddr::new(entry.get() + 8);
        let default = user.state().asic.default_page.unwrap();
        user.plant(
            TableMemory::Device,
            next,
            default.memory.start.get() | 0x801,
        );
        let beside = DeviceAddr::new(at + (2 << 20) + 0x123);
        let walk = user.state().walk(user.asid(), beside, None).unwrap();
        assert_eq!(walk.outcome, user.device_reads(beside));
        assert_eq!(walk.agrees(), Some(true), "{walk}");
        let text = walk.to_string();
        assert!(
            text.contains("nothing is mapped here, reads find 0x99"),
            "{text}"
        );
        let dump = user.state().dump(Some(user.asid()), false);
        assert!(
            dump.to_string().contains("default page: nothing mapped"),
            "{dump}"
        );
        assert!(dump.trees.iter().all(|tree| tree.totals.agree()), "{dump}");
    });
}
