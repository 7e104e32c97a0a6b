//! What an address space is said to consist of, compared with what was put there.

use hl_mem::budget::Budget;
use hl_mem::device::{PrivilegedWindow, WindowMemory};
use hl_mem::dram::{Contiguity, Sharing};
use hl_mem::inspect::{Backing, Part, Stage};
use hl_mem::port::Port;
use hl_mem::profile::{Asic, Gaudi2, Goya, LargeHost, VaRange};
use hl_mem::{Context, Wanted};
use mmu_core::{AddrRange, BusAddr, DeviceAddr, Run};

use super::support::smallest_port::{Machine, PAGE_BYTES};
use super::support::{NoCache, file_storage};
use super::{map, two_mmus};

#[derive(PartialEq, Eq, Debug)]
struct Mapping {
    range: AddrRange<DeviceAddr>,
    backing: Backing,
    stage: Stage,
    runs: Vec<Run>,
}

/// The parts of an address space.
#[derive(Default)]
struct Parts {
    free: Vec<AddrRange<DeviceAddr>>,
    mappings: Vec<Mapping>,
}

impl Parts {
    fn add(&mut self, part: Part<'_>) {
        match part {
            Part::Free(range) => self.free.push(range),
            Part::Mapping {
                range,
                backing,
                stage,
                runs,
            } => self.mappings.push(Mapping {
                range,
                backing,
                stage,
                runs: runs.collect(),
            }),
            other => panic!("{other:?}"),
        }
    }

    fn of<A: Asic, P: Port>(context: &Context<'_, '_, A, P>) -> Self {
        let mut parts = Self::default();
        context.inspect(&mut |part| parts.add(part));
        parts.mappings.sort_by_key(|mapping| mapping.range.start());
        parts
    }

    /// How many bytes are free.
    fn free_bytes(&self) -> u64 {
        self.free.iter().map(|range| range.len()).sum()
    }
}

/// Bytes that an allocator has to hand out.
fn bytes_in(range: &VaRange) -> u64 {
    range.range.len() - range.fixed.iter().map(|fixed| fixed.len()).sum::<u64>()
}

/// What the page table leads to, leaf by leaf.
fn walked<A: Asic, P: Port>(
    context: &Context<'_, '_, A, P>,
    range: AddrRange<DeviceAddr>,
) -> Vec<BusAddr> {
    let pages = (0..range.len() / PAGE_BYTES).map(|page| range.start().get() + page * PAGE_BYTES);
    context.with_table(|table| {
        pages
            .map(|at| table.query(DeviceAddr::new(at)).unwrap().bus)
            .collect()
    })
}

#[test]
fn a_users_space_is_what_is_free_and_what_is_mapped_with_the_memory_behind_it() {
    let machine = Machine::new().unwrap();
    let context = machine.open().unwrap();
    let profile = Goya::PROFILE;
    let all = bytes_in(&profile.host) + bytes_in(&profile.dram.mapped_at.unwrap());
    let parts = Parts::of(&context);
    assert!(parts.mappings.is_empty());
    assert_eq!(parts.free_bytes(), all);

    let user = map(&context, 3 * PAGE_BYTES);
    let buffer = context.create_command_buffer(2 * PAGE_BYTES, true).unwrap();
    let buffer = context.command_buffer(buffer).unwrap().mapped_at.unwrap();
    let memory = context.allocate_dram(1, Contiguity::Contiguous, Sharing::Private);
    let memory = context.map_dram(memory.unwrap(), Wanted::Anywhere).unwrap();

    let parts = Parts::of(&context);
    let mut expected = [
        (user, 3 * PAGE_BYTES, Backing::Pinned),
        (buffer, 2 * PAGE_BYTES, Backing::Buffer),
        (memory, profile.dram.page_bytes, Backing::DeviceMemory),
    ];
    expected.sort_by_key(|(at, ..)| *at);
    assert_eq!(parts.mappings.len(), expected.len());
    for (mapping, (at, bytes, backing)) in parts.mappings.iter().zip(expected) {
        assert_eq!(mapping.range, AddrRange::new(at, bytes).unwrap());
        assert_eq!((mapping.backing, mapping.stage), (backing, Stage::Live));
        let runs = mapping.runs.iter();
        let pages: Vec<_> = runs
            .flat_map(|run| {
                let pages = run.len() / PAGE_BYTES;
                (0..pages).map(|page| BusAddr::new(run.start().get() + page * PAGE_BYTES))
            })
            .collect();
        assert_eq!(pages, walked(&context, mapping.range), "{backing:?}");
        assert!(parts.free.iter().all(|free| !free.contains(at)));
    }
    let mapped = expected.iter().map(|(_, bytes, _)| bytes).sum::<u64>();
    assert_eq!(parts.free_bytes(), all - mapped);
    context.close().unwrap();
}

#[test]
fn the_privileged_space_is_what_is_free_for_the_host_and_what_the_driver_mapped() {
    let machine = Machine::new().unwrap();
    let context = machine.open().unwrap();
    let look = || {
        let mut parts = Parts::default();
        let looked = machine
            .device
            .inspect(&machine.privilege, &mut |part| parts.add(part));
        looked.unwrap();
        parts
    };
    // Its engines use device memory by its own addresses.
    let all = Goya::PROFILE.host;
    let parts = look();
    assert_eq!(parts.free, [all.range]);
    assert!(parts.mappings.is_empty());

    let (_, block) = context
        .create_block(&machine.privilege, 3 * PAGE_BYTES)
        .unwrap();
    let block = machine
        .device
        .block_range(&machine.privilege, block)
        .unwrap();
    let image = Run::new(BusAddr::new(0), PAGE_BYTES).unwrap();
    let window = PrivilegedWindow::Firmware;
    let in_window =
        machine
            .device
            .map_window(&machine.privilege, window, WindowMemory::Device(image));
    let in_window = in_window.unwrap();

    let parts = look();
    let ranges: Vec<_> = parts.mappings.iter().map(|mapping| mapping.range).collect();
    assert_eq!(ranges, [in_window, block]);
    let kinds: Vec<_> = parts
        .mappings
        .iter()
        .map(|mapping| (mapping.backing, mapping.stage))
        .collect();
    let live = |backing| (backing, Stage::Live);
    assert_eq!(kinds, [live(Backing::Window), live(Backing::Block)]);
    assert_eq!(parts.mappings[0].runs, [image]);
    let found = machine
        .device
        .with_privileged_table(&machine.privilege, |table| table.query(block.start()));
    let found = found.unwrap().unwrap();
    assert_eq!(
        parts.mappings[1].runs,
        [Run::new(found.bus, 3 * PAGE_BYTES).unwrap()]
    );
    assert_eq!(parts.free_bytes(), all.range.len() - block.len());
    machine
        .device
        .unmap_window(&machine.privilege, window)
        .unwrap();
    context.close().unwrap();
    assert_eq!(look().free, [all.range]);
}

#[test]
fn what_is_in_use_is_counted_in_bytes_and_what_is_free_in_pieces() {
    let machine = Machine::new().unwrap();
    let context = machine.open().unwrap();
    let counts = || {
        let usage = context.usage();
        assert_eq!(usage.extents as usize, Parts::of(&context).free.len());
        (usage.bytes, usage.extents)
    };
    // One range for the host's memory, and one for the device's.
    assert_eq!(counts(), (0, 2));
    let first = map(&context, PAGE_BYTES);
    let second = map(&context, 2 * PAGE_BYTES);
    assert_eq!(counts(), (3 * PAGE_BYTES, 2));
    // A hole before the second.
    context.unmap(first).unwrap();
    assert_eq!(counts(), (2 * PAGE_BYTES, 3));
    context.unmap(second).unwrap();
    assert_eq!(counts(), (0, 2));
    context.close().unwrap();

    let privileged = machine.device.usage();
    assert_eq!(privileged.privileged_bytes, 0);
    assert_eq!(privileged.privileged_extents, 1);
}

#[test]
fn device_addresses_of_device_memory_are_counted_where_it_has_tables_of_its_own() {
    type Chip = Gaudi2<6>;
    static BUDGET: Budget = Budget::unlimited();
    let device = two_mmus(NoCache::new(3), NoCache::new(3));
    let context = device.open((), &BUDGET, file_storage()).unwrap();
    let LargeHost::Own(large) = Chip::PROFILE.large_host else {
        panic!("Gaudi2 has a range for large leaves");
    };
    let dram = Chip::PROFILE.dram.mapped_at.unwrap();
    let all = [Chip::PROFILE.host, large, dram];
    let all: u64 = all.iter().map(bytes_in).sum();

    let before = context.usage();
    assert_eq!(before.bytes, 0);
    let parts = Parts::of(&context);
    assert_eq!(before.extents as usize, parts.free.len());
    assert_eq!(parts.free_bytes(), all);
    let starts_there = |free: &AddrRange<_>| free.start() == dram.range.start();
    assert!(parts.free.iter().any(starts_there));

    map(&context, PAGE_BYTES);
    let memory = context.allocate_dram(1, Contiguity::Contiguous, Sharing::Private);
    context.map_dram(memory.unwrap(), Wanted::Anywhere).unwrap();
    let bytes = PAGE_BYTES + Chip::PROFILE.dram.page_bytes;
    let parts = Parts::of(&context);
    assert_eq!(context.usage().bytes, bytes);
    assert_eq!(context.usage().extents as usize, parts.free.len());
    assert_eq!(parts.free_bytes(), all - bytes);
    let left = context.close().unwrap();
    assert_eq!((left.mappings, left.dram), (2, 1));
}
