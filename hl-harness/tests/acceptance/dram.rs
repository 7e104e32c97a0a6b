//! Device memory: how much there is, in which pieces, and what is in it.

use hl_harness::asic::{DmaEngine, Endpoint};
use hl_harness::host::{Permission, UserAddress};
use hl_harness::machine::{Machine, MachineContext, Model};
use hl_harness::stress::Snapshot;
use hl_mem::dram::PackHandle;
use hl_mem::uapi::{Errno, FLAG_CONTIGUOUS};
use mmu_core::{DeviceAddr, Run};

use crate::rig::{
    LARGE, PAGE, allocate, engine, free, machine, map, map_dram, on_each_asic, pattern, peek,
    scaled, unmap, with_file,
};

on_each_asic!(
    d01_all_of_it_can_be_had_twice_and_not_a_page_more,
    d02_mixed_sizes_fill_it_without_overlap,
    d03_what_lies_in_pieces_is_had_in_pieces_and_not_in_one,
    d06_copies_of_every_size_arrive_and_touch_nothing_else,
);

/// Packs that the machine has records for, but a few.
const PACKS: u64 = 60;

fn user_bytes<A: Model>() -> u64 {
    let memory = A::PROFILE.dram.user_memory().unwrap();
    memory.len() / page::<A>() * page::<A>()
}

fn page<A: Model>() -> u64 {
    A::PROFILE.dram.page_bytes
}

/// The first run of a pack, which is all of a contiguous one.
fn run_of<A: Model>(
    machine: &Machine<'_, '_, A>,
    context: &MachineContext<'_, '_, '_, A>,
    handle: u64,
) -> Run {
    machine
        .device
        .dram_run(&machine.privilege, context.owner(), PackHandle::new(handle))
        .unwrap()
}

/// Contiguous packs: none overlaps another, and all lie in what users may have.
fn assert_apart<A: Model>(
    machine: &Machine<'_, '_, A>,
    context: &MachineContext<'_, '_, '_, A>,
    packs: &[(u64, u64)],
) {
    let mut runs: Vec<Run> = packs
        .iter()
        .map(|(handle, bytes)| {
            let run = run_of(machine, context, *handle);
            assert_eq!(run.len(), bytes.next_multiple_of(page::<A>()));
            run
        })
        .collect();
    runs.sort_by_key(|run| run.start());
    assert!(runs.windows(2).all(|pair| !pair[0].overlaps(pair[1])));
    let memory = A::PROFILE.dram.user_memory().unwrap();
    assert!(runs.iter().all(|run| memory.contains_range(*run)));
}

fn d01_all_of_it_can_be_had_twice_and_not_a_page_more<A: Model>() {
    machine::<A>(|machine| {
        with_file!(machine, |context, _process| {
            let total = user_bytes::<A>();
            let mut numbers = fastrand::Rng::with_seed(1);
            // 512 MiB, or what the records of packs allow.
            let least = total.div_ceil(PACKS);
            let chunk = (512 << 20).max(least).next_multiple_of(page::<A>());
            let before = Snapshot::of(machine, &[&context], &[]).without_dirt();
            for flags in [0, FLAG_CONTIGUOUS, 0] {
                let mut packs = Vec::new();
                for number in 0..total / chunk {
                    let handle = allocate(&context, chunk, flags);
                    packs.push((handle.expect("there is more"), chunk));
                    assert_eq!(packs.len() as u64, number + 1);
                }
                if !total.is_multiple_of(chunk) {
                    let rest = total % chunk;
                    packs.push((allocate(&context, rest, flags).unwrap(), rest));
                }
                let full = Snapshot::of(machine, &[&context], &[]);
                let used = full.counters.device.dram;
                assert_eq!((used.clean, used.dirty), (0, 0));
                for bytes in [1, page::<A>(), chunk, total, total + 1] {
                    let refused = allocate(&context, bytes, flags);
                    assert_eq!(refused, Err(Errno::ENOMEM), "{bytes:#x}");
                }
                Snapshot::of(machine, &[&context], &[]).assert_is(&full, "after a refusal");
                if flags == FLAG_CONTIGUOUS {
                    assert_apart(machine, &context, &packs);
                }
                numbers.shuffle(&mut packs);
                for (handle, _) in packs {
                    free(&context, handle).unwrap();
                }
                let after = Snapshot::of(machine, &[&context], &[]).without_dirt();
                after.assert_is(&before, "after freeing in random order");
            }
        });
    });
}

fn d02_mixed_sizes_fill_it_without_overlap<A: Model>() {
    machine::<A>(|machine| {
        with_file!(machine, |context, _process| {
            let total = user_bytes::<A>();
            let unit = (total / 160).next_multiple_of(page::<A>());
            // The device has pages of one size, so that sizes of requests stand for sizes of pages.
            let sizes = [unit, 3 * unit, 1, 2 * unit + 1, 8 * unit, 5 * unit];
            let largest = (8 * unit).next_multiple_of(page::<A>());
            let mut packs = Vec::new();
            for bytes in sizes.into_iter().cycle() {
                match allocate(&context, bytes, FLAG_CONTIGUOUS) {
                    Ok(handle) => packs.push((handle, bytes)),
                    Err(errno) => {
                        assert_eq!(errno, Errno::ENOMEM);
                        break;
                    }
                }
            }
            assert!(packs.len() as u64 >= total / largest, "{}", packs.len());
            assert_apart(machine, &context, &packs);
            let mut freed = 0;
            for (handle, bytes) in packs {
                free(&context, handle).unwrap();
                freed += bytes.next_multiple_of(page::<A>());
            }
            // Nothing of it was left over that a request could not have had.
            assert!(total - freed < largest, "{:#x} left", total - freed);
        });
    });
}

fn d03_what_lies_in_pieces_is_had_in_pieces_and_not_in_one<A: Model>() {
    // As many as the records of packs allow.
    const N: u64 = PACKS / 3 - 1;
    machine::<A>(|machine| {
        with_file!(machine, |context, _process| {
            let total = user_bytes::<A>();
            let page = page::<A>();
            let mut numbers = fastrand::Rng::with_seed(3);
            let mut singles: Vec<u64> = (0..3 * N)
                .map(|_| allocate(&context, page, 0).unwrap())
                .collect();
            let rest = allocate(&context, total - 3 * N * page, 0).unwrap();
            // A random third of them, in which no two are neighbours' neighbours all along.
            numbers.shuffle(&mut singles);
            let kept = singles.split_off(N as usize);
            for handle in singles {
                free(&context, handle).unwrap();
            }
            let before = Snapshot::of(machine, &[&context], &[]);
            for (bytes, flags) in [
                (N * page, FLAG_CONTIGUOUS),
                ((N + 1) * page, 0),
                (N * page + 1, 0),
                ((N + 1) * page, FLAG_CONTIGUOUS),
            ] {
                assert_eq!(allocate(&context, bytes, flags), Err(Errno::ENOMEM));
                Snapshot::of(machine, &[&context], &[]).assert_is(&before, "after a refusal");
            }
            let pieces = allocate(&context, N * page, 0).unwrap();
            if A::PROFILE.dram.mapped_at.is_some() {
                let dma = engine(machine, &context);
                let at = map_dram(&context, pieces, 0, 0).unwrap();
                let spots: Vec<u64> = (0..N)
                    .flat_map(|number| [number * page, (number + 1) * page - 64])
                    .collect();
                for offset in &spots {
                    let here = DeviceAddr::new(at + offset);
                    let bytes = pattern(64, *offset);
                    machine.asic.write(dma.initiator(), here, &bytes).unwrap();
                }
                for offset in &spots {
                    let mut got = [0; 64];
                    let here = DeviceAddr::new(at + offset);
                    machine.asic.read(dma.initiator(), here, &mut got).unwrap();
                    assert!(got[..] == pattern(64, *offset));
                }
                unmap(&context, at).unwrap();
            } else {
                assert!(run_of(machine, &context, pieces).len() < N * page);
            }
            for handle in kept.into_iter().chain([rest, pieces]) {
                free(&context, handle).unwrap();
            }
        });
    });
}

/// Copies bytes of a process to device memory and back, by a user's engine.
struct Copies<'a, 's, 'm, A: Model> {
    machine: &'a Machine<'s, 'm, A>,
    dma: DmaEngine,
    /// Device memory, as the user's engines address it.
    memory: Endpoint,
}

fn forward(end: Endpoint, bytes: u64) -> Endpoint {
    match end {
        Endpoint::Virtual(at) => Endpoint::Virtual(DeviceAddr::new(at.get() + bytes)),
        Endpoint::DeviceMemory(offset) => Endpoint::DeviceMemory(offset + bytes),
    }
}

impl<A: Model> Copies<'_, '_, '_, A> {
    /// One round: `from` and `to` are device addresses of host memory.
    fn round(&self, from: u64, at: u64, to: u64, len: u64) {
        let virtual_at = |at| Endpoint::Virtual(DeviceAddr::new(at));
        let memory = forward(self.memory, at);
        // Guards on both sides of what is written.
        for guard in [forward(self.memory, at - 64), forward(memory, len)] {
            self.dma.fill(guard, 0xFF, 64).unwrap();
        }
        self.dma.copy(virtual_at(from), memory, len).unwrap();
        self.dma.copy(memory, virtual_at(to), len).unwrap();
        let physical = |end| match end {
            Endpoint::DeviceMemory(offset) => {
                let base = self.machine.asic.dram_base().get();
                mmu_core::BusAddr::new(base + offset)
            }
            Endpoint::Virtual(at) => {
                let asid = match self.machine.asic.initiator_mode(self.dma.initiator()) {
                    hl_harness::asic::InitiatorMode::User(asid) => asid,
                    _ => 0,
                };
                self.machine.asic.explain(asid, at).outcome.unwrap()
            }
        };
        for guard in [forward(self.memory, at - 64), forward(memory, len)] {
            let mut got = [0; 64];
            assert!(self.machine.asic.peek(physical(guard), &mut got));
            assert_eq!(got, [0xFF; 64], "a guard of {len:#x} bytes");
        }
    }
}

fn d06_copies_of_every_size_arrive_and_touch_nothing_else<A: Model>() {
    const KIB: u64 = 1 << 10;
    const MIB: u64 = 1 << 20;
    let mut ladder: Vec<u64> = (1..=16).map(|step| step * KIB).collect();
    ladder.extend((20..=60).step_by(8).map(|step| step * KIB));
    ladder.extend((64..=480).step_by(104).map(|step| step * KIB));
    ladder.push(513 * KIB + 1);
    ladder.extend(scaled(
        &[][..],
        &[
            MIB,
            1920 * KIB,
            2 * MIB,
            16 * MIB,
            64 * MIB,
            128 * MIB,
            256 * MIB,
        ],
    ));
    let longest = *ladder.iter().max().unwrap();
    let room = longest.next_multiple_of(LARGE) + LARGE;
    let config = hl_harness::machine::MachineConfig {
        frames: scaled(1 << 14, 1 << 18),
        ..Default::default()
    };
    crate::rig::machine_of::<A>(config, |machine| {
        with_file!(machine, |context, process| {
            // At the beginning of device memory, and behind the first half of it.
            let half = (user_bytes::<A>() / 2).next_multiple_of(page::<A>());
            for first in [None, Some(half)] {
                let taken = first.map(|bytes| allocate(&context, bytes, 0).unwrap());
                let handle = allocate(&context, room, FLAG_CONTIGUOUS).unwrap();
                let mapped = A::PROFILE.dram.mapped_at.map(|_| {
                    let at = map_dram(&context, handle, 0, 0).unwrap();
                    (at, Endpoint::Virtual(DeviceAddr::new(at)))
                });
                let physical = run_of(machine, &context, handle).start();
                let offset = physical.offset_from(machine.asic.dram_base()).unwrap();
                let copies = Copies {
                    machine,
                    dma: engine(machine, &context),
                    memory: mapped.map_or(Endpoint::DeviceMemory(offset), |(_, end)| end),
                };
                let pages = (room / PAGE) as usize;
                for huge in [false, true] {
                    let buffer = || -> UserAddress {
                        if huge {
                            process.map_contiguous(pages, 512, Permission::ReadWrite)
                        } else {
                            process.map(pages, Permission::ReadWrite)
                        }
                        .unwrap()
                    };
                    let (source, target) = (buffer(), buffer());
                    let from = map(&context, source, room).unwrap();
                    let to = map(&context, target, room).unwrap();
                    for &len in &ladder {
                        let data = pattern(len, len);
                        process.write(source.offset(8), &data).unwrap();
                        process.write(target, &[0xFF; 64]).unwrap();
                        process.write(target.offset(64 + len), &[0xFF; 64]).unwrap();
                        copies.round(from + 8, 72, to + 64, len);
                        assert!(peek(&process, target.offset(64), len) == data, "{len:#x}");
                        let guards = [target, target.offset(64 + len)];
                        for guard in guards {
                            assert_eq!(peek(&process, guard, 64), [0xFF; 64], "{len:#x}");
                        }
                    }
                    // Rows with gaps, which stay as they were.
                    let (rows, row) = (16, 1536);
                    process
                        .write(target, &vec![0xFF; (2 * rows * row) as usize])
                        .unwrap();
                    let data = pattern(rows * row, 9);
                    process.write(source, &data).unwrap();
                    for number in 0..rows {
                        let into = to + 2 * number * row;
                        copies.round(from + number * row, 64 + number * row, into, row);
                    }
                    for number in 0..rows {
                        let at = target.offset(2 * number * row);
                        let wanted = &data[(number * row) as usize..][..row as usize];
                        assert!(peek(&process, at, row) == wanted, "row {number}");
                        let gap = peek(&process, at.offset(row), row);
                        assert!(gap.iter().all(|byte| *byte == 0xFF), "gap {number}");
                    }
                    for (at, buffer) in [(from, source), (to, target)] {
                        unmap(&context, at).unwrap();
                        process.unmap(buffer, pages);
                    }
                }
                if let Some((at, _)) = mapped {
                    unmap(&context, at).unwrap();
                }
                free(&context, handle).unwrap();
                if let Some(handle) = taken {
                    free(&context, handle).unwrap();
                }
            }
        });
    });
}
