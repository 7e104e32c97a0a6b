//! Scatter lists, a processor's accesses, and what a seed decides: who goes next.

use std::sync::atomic::{AtomicUsize, Ordering};

use hl_harness::asic::{
    AccessKind, Completion, Descriptor, DmaEngine, Endpoint, FaultReason, InitiatorMode,
    MmuInstance, Operation, RandomAccess, RandomAccessor,
};
use hl_harness::host::{FRAME_SIZE, KernelBlock};
use hl_harness::log::EventKind;
use hl_harness::schedule::{Closure, Progress, Schedule};
use mmu_core::{AddrRange, DeviceAddr};

use crate::rig::{Kind, PMMU, Rig};

const BASE: u64 = 0xFFF0_0000_0000_0000;
const PATH: [u64; 6] = [0x7F, 0x1F0, 0, 0, 0, 0];
const PAGE: u64 = FRAME_SIZE as u64;

fn at(offset: u64) -> Endpoint {
    Endpoint::Virtual(DeviceAddr::new(BASE + offset))
}

/// A block of `pages` pages, mapped for user 1 from `BASE` on.
fn mapped(rig: &Rig, pages: usize) -> KernelBlock {
    let block = rig.host.kernel_block(pages, "buffer").unwrap();
    rig.path(1, &PATH, 0);
    for (index, frame) in (0..).zip(block.frames()) {
        let bus = rig.host.bus_address(*frame).get();
        rig.put(rig.table(1, 5), index, bus | 0x801);
    }
    rig.invalidate_all();
    block
}

#[test]
fn a_scatter_list_is_one_dma_of_many_pieces() {
    let rig = Rig::new(Kind::Pmmu);
    let block = mapped(&rig, 4);
    let view = block.view().unwrap();
    view.write(0, b"onetwothree").unwrap();
    let engine = DmaEngine::with_initiator(&rig.asic, rig.user);
    let piece = |from, to, len| Descriptor {
        from: at(from),
        to: at(to),
        len,
    };
    // Backwards, across a page, and nothing at all.
    let list = [
        piece(6, 2 * PAGE - 2, 5),
        piece(3, 2 * PAGE + 3, 3),
        piece(0, 0, 0),
        piece(0, 3 * PAGE, 3),
    ];
    engine.copy_list(&list).unwrap();
    let mut bytes = [0; 8];
    view.read(2 * FRAME_SIZE - 2, &mut bytes).unwrap();
    assert_eq!(&bytes, b"threetwo");
    view.read(3 * FRAME_SIZE, &mut bytes[..3]).unwrap();
    assert_eq!(&bytes[..3], b"one");
    assert_eq!(rig.log.count(EventKind::DmaComplete), 1);
    // What came before the fault counts whole.
    let error = engine
        .copy_list(&[list[0], piece(4 * PAGE - 1, PAGE, 2)])
        .unwrap_err();
    assert_eq!(error.bytes_done, 6);
    assert_eq!(
        error.fault().unwrap().reason,
        FaultReason::NotPresent { hop: 5 }
    );
    assert_eq!(rig.log.count(EventKind::DmaComplete), 1);
}

#[test]
fn a_dma_in_steps_moves_what_a_whole_one_moves() {
    let rig = Rig::new(Kind::Pmmu);
    let block = mapped(&rig, 6);
    let view = block.view().unwrap();
    let bytes: Vec<u8> = (0..2 * FRAME_SIZE + 100).map(|n| (n % 251) as u8).collect();
    view.write(0, &bytes).unwrap();
    let engine = DmaEngine::with_initiator(&rig.asic, rig.user);
    let len = bytes.len() as u64;
    let mut steps = engine.steps(&[Descriptor {
        from: at(0),
        to: at(3 * PAGE),
        len,
    }]);
    let mut taken = 0;
    while steps.step().unwrap() {
        taken += 1;
    }
    // Each of three pages is translated in one step and moves in another.
    assert_eq!((taken, steps.bytes_done()), (6, len));
    let mut moved = vec![0; bytes.len()];
    view.read(3 * FRAME_SIZE, &mut moved).unwrap();
    assert!(moved == bytes);
}

#[test]
fn a_seed_decides_whether_a_page_goes_between_a_translation_and_its_use() {
    // Whether a transfer that nobody waited for wrote to freed memory, and the order of the steps.
    let run = |seed| {
        let rig = Rig::new(Kind::Pmmu);
        let source = mapped(&rig, 1);
        let mut target = Some(rig.host.kernel_block(1, "target").unwrap());
        let frame = target.as_ref().map(|block| block.frames()[0]).unwrap();
        let bus = rig.host.bus_address(frame).get();
        rig.put(rig.table(1, 5), 1, bus | 0x801);
        let engine = DmaEngine::with_initiator(&rig.asic, rig.user);
        let mut steps = engine.steps(&[Descriptor {
            from: at(0),
            to: at(PAGE),
            len: 64,
        }]);
        let mut schedule = Schedule::<_, Closure<'_>>::new(seed);
        schedule.add(
            "dma",
            Box::new(move || Progress::done_if(!matches!(steps.step(), Ok(true)))),
        );
        // A driver in a hurry: it invalidates, and does not ask whether the engine is idle.
        schedule.add(
            "driver",
            Box::new(|| {
                rig.put(rig.table(1, 5), 1, 0);
                rig.invalidate_all();
                drop(target.take());
                Progress::Done
            }),
        );
        let order = schedule.run();
        drop(source);
        (rig.host.statistics().free_accesses, order)
    };
    let outcomes: Vec<_> = (0..32).map(run).collect();
    let stray = |outcome: &&(u64, Vec<&str>)| outcome.0 != 0;
    assert!(
        outcomes.iter().any(|outcome| stray(&outcome)),
        "no seed shows it"
    );
    assert!(
        !outcomes.iter().all(|outcome| stray(&outcome)),
        "every seed shows it"
    );
    for (seed, (strays, order)) in outcomes.iter().enumerate() {
        let between = order.starts_with(&["dma", "driver"]);
        assert_eq!(*strays == 1, between, "seed {seed}: {order:?}");
        assert_eq!(
            run(seed as u64),
            (*strays, order.clone()),
            "the same seed again"
        );
    }
}

#[test]
fn a_random_accessor_is_the_same_for_the_same_seed_and_stays_in_its_window() {
    let accesses = |seed| {
        let rig = Rig::new(Kind::Pmmu);
        let block = mapped(&rig, 3);
        // Neither its start nor its end is at a page or a word.
        let start = DeviceAddr::new(BASE + PAGE - 7);
        let window = AddrRange::new(start, PAGE + 13).unwrap();
        let mut accessor = RandomAccessor::new(&rig.asic, rig.user, window, 0x40, seed);
        let accesses: Vec<_> = (0..2000).map(|_| accessor.step().unwrap()).collect();
        let mut bytes = vec![0; 3 * FRAME_SIZE];
        block.view().unwrap().read(0, &mut bytes).unwrap();
        // What memory holds in the end, by the list of accesses alone.
        let mut expected = vec![0; 3 * FRAME_SIZE];
        for access in &accesses {
            let first = (access.address.get() - BASE) as usize;
            let range = first..first + access.bytes.len();
            assert!(access.address >= start && range.end as u64 <= 2 * PAGE + 6);
            match access.kind {
                AccessKind::Write => expected[range].copy_from_slice(&access.bytes),
                _ => assert_eq!(access.bytes, expected[range]),
            }
        }
        assert!(bytes == expected);
        accesses
    };
    let first = accesses(1);
    assert_eq!(first, accesses(1));
    assert_ne!(first, accesses(2));
    let count = |kind| first.iter().filter(|access| access.kind == kind).count();
    assert!(count(AccessKind::Write) > 500 && count(AccessKind::Read) > 500);
    let straddles = |access: &&_| {
        let access: &RandomAccess = access;
        access.address.get() / PAGE != (access.address.get() + access.bytes.len() as u64 - 1) / PAGE
    };
    assert!(
        first.iter().any(|access| straddles(&access)),
        "no access crosses a page"
    );
}

#[test]
fn a_random_accessor_goes_on_after_a_fault() {
    let rig = Rig::new(Kind::Pmmu);
    let _block = mapped(&rig, 1);
    let window = AddrRange::new(DeviceAddr::new(BASE), 2 * PAGE).unwrap();
    let mut accessor = RandomAccessor::new(&rig.asic, rig.user, window, 0, 3);
    let outcomes: Vec<_> = (0..200).map(|_| accessor.step().is_ok()).collect();
    assert!(outcomes.contains(&true) && outcomes.contains(&false));
    assert_eq!(
        rig.asic.take_faults().len(),
        outcomes.iter().filter(|ok| !**ok).count()
    );
}

#[test]
fn an_access_that_is_refused_says_what_of_it_was_made() {
    let rig = Rig::new(Kind::Pmmu);
    let block = mapped(&rig, 1);
    // Every long access crosses from the page that is mapped to the one that is not.
    let window = AddrRange::new(DeviceAddr::new(BASE + PAGE - 5), 9).unwrap();
    let mut accessor = RandomAccessor::new(&rig.asic, rig.user, window, 0x20, 5);
    let mut crossed = [0, 0];
    for _ in 0..200 {
        let Err(refused) = accessor.step() else {
            continue;
        };
        let RandomAccess {
            address,
            kind,
            bytes,
        } = &refused.made;
        assert_eq!(bytes.len() as u64, refused.error.bytes_done);
        let fault = refused.error.fault().unwrap();
        assert_eq!(fault.access, *kind);
        let refused_at = address.get() + bytes.len() as u64;
        assert_eq!(fault.address.get(), refused_at.max(BASE + PAGE));
        let Some(offset) = address.get().checked_sub(BASE).filter(|at| *at < PAGE) else {
            continue;
        };
        crossed[usize::from(*kind == AccessKind::Write)] += 1;
        let mut seen = vec![0; bytes.len()];
        let view = block.view().unwrap();
        view.read(offset as usize, &mut seen).unwrap();
        assert_eq!(*bytes, seen, "{refused}");
    }
    assert!(crossed.iter().all(|count| *count > 20), "{crossed:?}");
}

#[test]
fn an_accessor_of_one_kind_makes_its_accesses_where_one_of_both_does() {
    let places = |only: Option<AccessKind>| -> Vec<_> {
        let rig = Rig::new(Kind::Pmmu);
        let _block = mapped(&rig, 2);
        let window = AddrRange::new(DeviceAddr::new(BASE), 2 * PAGE).unwrap();
        let accessor = RandomAccessor::new(&rig.asic, rig.user, window, 1, 8);
        let mut accessor = match only {
            Some(kind) => accessor.only(kind),
            None => accessor,
        };
        let accesses = (0..300).map(|_| accessor.step().unwrap());
        accesses
            .map(|access| {
                assert_eq!(only.unwrap_or(access.kind), access.kind);
                (access.address, access.bytes.len())
            })
            .collect()
    };
    let both = places(None);
    assert_eq!(places(Some(AccessKind::Read)), both);
    assert_eq!(places(Some(AccessKind::Write)), both);
}

#[test]
fn accessors_on_threads_leave_nothing_but_what_one_of_them_wrote() {
    let rig = Rig::new(Kind::Pmmu);
    let block = mapped(&rig, 2);
    let window = AddrRange::new(DeviceAddr::new(BASE), 2 * PAGE).unwrap();
    let marks = [0x00, 0x55, 0xAA];
    let steps = AtomicUsize::new(0);
    let mut schedule = Schedule::new(0);
    for mark in marks {
        let initiator = rig.asic.add_initiator("processor", InitiatorMode::User(1));
        let mut accessor = RandomAccessor::new(&rig.asic, initiator, window, mark, mark.into());
        let (steps, mut left) = (&steps, 500);
        schedule.add("processor", move || {
            accessor.step().unwrap();
            steps.fetch_add(1, Ordering::Relaxed);
            left -= 1;
            Progress::done_if(left == 0)
        });
    }
    schedule.run_on_threads();
    assert_eq!(steps.into_inner(), 3 * 500);
    let mut bytes = vec![0; 2 * FRAME_SIZE];
    block.view().unwrap().read(0, &mut bytes).unwrap();
    let mut written = 0;
    for (address, byte) in (BASE..).zip(bytes) {
        let by = |mark: &u8| RandomAccessor::byte_at(DeviceAddr::new(address), *mark) == byte;
        let known = marks.iter().any(by);
        assert!(known || byte == 0, "{byte:#x} at {address:#x}");
        written += usize::from(known);
    }
    assert!(written > FRAME_SIZE);
}

#[test]
fn the_interrupt_of_a_first_mmu_is_over_when_its_capture_is_cleared() {
    for (kind, mask, page, access) in [
        (Kind::Goya, 0x48_002C, 0x48_0034, 0x48_003C),
        (Kind::Gaudi, 0xC1_102C, 0xC1_1034, 0xC1_103C),
    ] {
        let rig = Rig::new(kind);
        rig.asic.write_register(mask, 0xF);
        let raised = || rig.asic.interrupts(MmuInstance::Single);
        rig.fault(rig.user, 0x1_0000_0000_0000);
        // A table entry that is marked as a leaf where none may be: an access error.
        rig.put(rig.table(1, 0), 1, 0x801);
        rig.invalidate_all();
        rig.fault(rig.user, 0x1_0000_0000_0000);
        assert_eq!(raised(), 0b11, "{kind:?}");
        rig.asic.write_register(page, 0);
        assert_eq!(raised(), 0b10, "{kind:?}");
        rig.asic.write_register(access, 0);
        assert_eq!(raised(), 0, "{kind:?}");
    }
    let rig = Rig::new(Kind::Pmmu);
    assert_eq!(
        rig.asic.read_register(PMMU + 0x48),
        0,
        "the others have a register for it"
    );
}

#[test]
fn a_read_through_the_bar_that_never_completes_is_all_ones_and_waits_for_nothing() {
    let rig = Rig::new(Kind::Goya);
    let base = rig
        .asic
        .bar_move(mmu_core::BusAddr::new(0x1000_0000))
        .unwrap();
    let seen = || {
        let mut word = [0; 8];
        assert!(rig.asic.peek(base, &mut word));
        u64::from_le_bytes(word)
    };
    let before = seen();
    rig.asic.bar_write_u64(0, 7).unwrap();
    rig.asic.inject(Operation::BarRead, 2, 1, Completion::Never);
    rig.asic.bar_write_u64(8, 8).unwrap();
    assert_eq!(
        rig.asic.bar_read_u64(0x100).map(|word| word == u64::MAX),
        Ok(false)
    );
    assert_eq!(seen(), 7);
    assert_ne!(before, 7);
    rig.asic.bar_write_u64(0, 9).unwrap();
    assert_eq!(rig.asic.bar_read_u64(0), Ok(u64::MAX));
    assert_eq!(seen(), 7, "still posted");
    assert_eq!(rig.asic.bar_read_u64(0), Ok(9));
    assert_eq!(seen(), 9);
}
