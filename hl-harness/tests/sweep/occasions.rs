//! Failures that have occasions: the n-th allocation, pin, invalidation.

use std::sync::Arc;

use hl_harness::asic::{AsicKind, Completion, DramContent, InitiatorMode, Operation};
use hl_harness::host::HostFailure;
use hl_harness::log::EventKind;
use hl_harness::machine::{Model, scrubber};
use hl_harness::stress::Snapshot;
use hl_mem::budget::Budget;
use hl_mem::uapi::{Errno, FLAG_CONTIGUOUS, OP_ALLOC, OP_FREE};

use crate::creations::{ALL, Creation, Reached};
use crate::rig::{Room, Scene, Storage, call, config, machine, on_each_asic, sparse, with_scene};

on_each_asic!(
    every_failing_page_leaves_everything_as_it_was,
    every_failing_pin_leaves_everything_as_it_was,
    every_failing_dma_mapping_leaves_everything_as_it_was,
    every_read_that_is_not_answered_leaves_everything_as_it_was,
    one_invalidation_that_never_ends_is_made_up_for_or_leaves_a_quarantine_that_settles,
    invalidations_that_never_end_leave_a_quarantine_that_settles,
    invalidations_that_end_late_change_nothing,
    a_failing_scrub_leaves_everything_as_it_was,
    every_unmaking_survives_every_failure,
);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// No page for the kernel.
    Page,
    /// A page of the process cannot be pinned.
    Pin,
    /// A page cannot be mapped for DMA.
    DmaMap,
    /// A read through the BAR is answered by all ones, and has waited for nothing.
    Flush,
    /// One invalidation never ends.
    Once,
    /// Nor does any after it.
    Always,
    /// It ends when the driver looks for the second time, which is before it gives up. Until then the
    /// device goes on accessing what the operation is about.
    Late,
}

impl Kind {
    /// `reached` is what the operation makes the device reach, or no longer reach.
    fn arm<A: Model>(self, scene: &Scene<'_, '_, '_, '_, A>, nth: u64, reached: Option<&Reached>) {
        let (host, asic) = (&scene.machine.host, &scene.machine.asic);
        let invalidations =
            |times, completion| asic.inject(Operation::Invalidation, nth, times, completion);
        match self {
            Self::Page => host.fail(HostFailure::FrameAllocation, Some(nth)),
            Self::Pin => host.fail(HostFailure::Pin, Some(nth)),
            Self::DmaMap => host.fail(HostFailure::DmaMap, Some(nth)),
            Self::Flush => asic.inject(Operation::BarRead, nth, 1, Completion::Never),
            Self::Once => invalidations(1, Completion::Never),
            Self::Always => invalidations(u64::MAX, Completion::Never),
            Self::Late => {
                invalidations(1, Completion::AfterReads(1));
                if let Some(reached) = reached.cloned() {
                    asic.meanwhile(Arc::new(move |asic| reached.access(asic)));
                }
            }
        }
    }

    fn disarm<A: Model>(self, scene: &Scene<'_, '_, '_, '_, A>) {
        scene.machine.host.fail(HostFailure::FrameAllocation, None);
        scene.machine.host.fail(HostFailure::Pin, None);
        scene.machine.host.fail(HostFailure::DmaMap, None);
        scene.machine.asic.clear_injections();
    }

    fn is_of_invalidations(self) -> bool {
        matches!(self, Self::Once | Self::Always | Self::Late)
    }

    /// What the process may be told.
    fn errno(self) -> Errno {
        match self {
            Self::Page | Self::Pin | Self::DmaMap => Errno::ENOMEM,
            Self::Flush => Errno::EBUSY,
            _ => Errno::ETIMEDOUT,
        }
    }
}

/// What does not depend on which pages there were, and who had device memory before.
fn usual(snapshot: &Snapshot) -> Snapshot {
    snapshot.clone().without_pages().without_dirt()
}

/// No operation here has as many occasions.
const MANY: u64 = 1000;

/// Lets each occasion of a making fail. Returns how many failed.
fn sweep_making<A: Model>(scene: &Scene<'_, '_, '_, '_, A>, creation: Creation, kind: Kind) -> u64 {
    let what = format!("{creation:?} with {kind:?}");
    // How it goes when it goes well. The first time leaves its marks on pages that are dirty.
    let undisturbed = || {
        let prepared = creation.prepare(scene);
        let made = creation.make(scene, prepared).unwrap();
        let (address, after) = (made.address(), usual(&scene.snapshot()));
        creation.unmake(scene, made).unwrap();
        (address, after)
    };
    undisturbed();
    let prepared = creation.prepare(scene);
    let before = scene.snapshot();
    if let Some(block) = prepared {
        scene.context.destroy_block(block).unwrap();
    }
    let reference = undisturbed();
    let reached = creation.reached(scene, reference.0);
    let mut failures = 0;
    let mut nth = 0;
    while nth < MANY {
        // The pins of a large leaf's pages are all taken by the same lines: not each of them has to
        // fail in every run.
        nth += match kind {
            Kind::Pin | Kind::DmaMap => sparse(nth),
            _ => 1,
        };
        let prepared = creation.prepare(scene);
        let fresh = scene.snapshot();
        usual(&fresh).assert_is(&usual(&before), format_args!("{what}: before {nth}"));
        let begun = scene.machine.log.count(EventKind::InvalidateBegin);
        kind.arm(scene, nth, reached.as_ref());
        let outcome = creation.make(scene, prepared);
        let begun = scene.machine.log.count(EventKind::InvalidateBegin) - begun;
        let over = match outcome {
            Ok(made) => {
                kind.disarm(scene);
                // It was not reached, or made up for.
                assert_eq!(made.address(), reference.0, "{what}, {nth}");
                if let Some(reached) = &reached {
                    reached.access_first(&scene.machine.asic);
                }
                usual(&scene.snapshot())
                    .assert_is(&reference.1, format_args!("{what}: {nth} not reached"));
                creation.unmake(scene, made).unwrap();
                // There are invalidations that nobody waits for, since others follow.
                !kind.is_of_invalidations() || begun < nth
            }
            Err(errno) => {
                failures += 1;
                assert_ne!(kind, Kind::Late, "{what}, {nth}: {errno}");
                assert_eq!(errno, kind.errno(), "{what}, {nth}");
                let quarantined = scene.quarantined();
                if quarantined != 0 {
                    assert_eq!(quarantined, 1, "{what}, {nth}");
                    let unconfirmed = matches!(kind, Kind::Flush | Kind::Once | Kind::Always);
                    assert!(unconfirmed, "{what}, {nth}");
                    settle(scene, kind, &what);
                }
                kind.disarm(scene);
                scene
                    .snapshot()
                    .assert_is(&fresh, format_args!("{what}: after failure {nth}"));
                let retried = creation.make(scene, prepared).unwrap();
                assert_eq!(retried.address(), reference.0, "{what}: retry after {nth}");
                usual(&scene.snapshot())
                    .assert_is(&reference.1, format_args!("{what}: retry after {nth}"));
                creation.unmake(scene, retried).unwrap();
                false
            }
        };
        if over {
            return failures;
        }
    }
    panic!("{what} never goes through");
}

/// Settles what is in quarantine: in vain as long as invalidations fail, and then for good. Pins and
/// charges belong together all the time.
fn settle<A: Model>(scene: &Scene<'_, '_, '_, '_, A>, kind: Kind, what: &str) {
    let owed = || {
        let pins = scene.machine.host.counters().pins;
        assert_eq!(pins, scene.budget.charged() as u64, "{what}");
    };
    owed();
    if kind == Kind::Always {
        let quarantine = scene.snapshot();
        scene.settle().unwrap_err();
        scene
            .snapshot()
            .assert_is(&quarantine, format_args!("{what}: settling in vain"));
        owed();
    }
    kind.disarm(scene);
    scene.settle().unwrap();
    assert_eq!(scene.quarantined(), 0, "{what}");
    owed();
}

fn sweep_all<A: Model>(kind: Kind, expected: impl Fn(Creation) -> Option<u64>) {
    machine::<A>(config(), |machine| {
        with_scene(machine, Room::default(), |scene| {
            for creation in ALL {
                if !creation.exists(scene) {
                    continue;
                }
                let failures = sweep_making(scene, creation, kind);
                if let Some(expected) = expected(creation) {
                    assert_eq!(failures, expected, "{creation:?} with {kind:?}");
                }
            }
        });
    });
}

fn every_failing_page_leaves_everything_as_it_was<A: Model>() {
    sweep_all::<A>(Kind::Page, |creation| {
        // A contiguous run counts as one page.
        Some(match creation {
            Creation::Block | Creation::OwnBlock => 7,
            Creation::CommandBuffer | Creation::MappedCommandBuffer | Creation::ContiguousBlock => {
                1
            }
            Creation::Timestamps => 2,
            _ => 0,
        })
    });
}

fn every_failing_pin_leaves_everything_as_it_was<A: Model>() {
    sweep_all::<A>(Kind::Pin, |creation| {
        Some(match creation {
            Creation::SmallMapping => 9,
            Creation::LargeMapping | Creation::MixedMapping => return None,
            _ => 0,
        })
    });
}

fn every_failing_dma_mapping_leaves_everything_as_it_was<A: Model>() {
    sweep_all::<A>(Kind::DmaMap, |creation| {
        Some(match creation {
            Creation::SmallMapping => 9,
            Creation::LargeMapping | Creation::MixedMapping => return None,
            Creation::Block | Creation::OwnBlock | Creation::ContiguousBlock => 7,
            Creation::CommandBuffer | Creation::MappedCommandBuffer => 3,
            Creation::Timestamps => 2,
            _ => 0,
        })
    });
}

/// Whether it is mapped for the device, which is told so by an invalidation.
fn is_mapped(creation: Creation) -> bool {
    matches!(
        creation,
        Creation::SmallMapping
            | Creation::LargeMapping
            | Creation::MixedMapping
            | Creation::DramMapping
            | Creation::Block
            | Creation::BlockMapping
            | Creation::OwnBlock
            | Creation::ContiguousBlock
            | Creation::MappedCommandBuffer
    )
}

/// Whether it has tables in device memory, whose stores a read has to wait for.
fn is_flushed<A: Model>(creation: Creation) -> bool {
    is_mapped(creation) && (A::KIND != AsicKind::Gaudi2 || creation == Creation::DramMapping)
}

fn every_read_that_is_not_answered_leaves_everything_as_it_was<A: Model>() {
    sweep_all::<A>(Kind::Flush, |creation| {
        Some(u64::from(is_flushed::<A>(creation)))
    });
}

fn one_invalidation_that_never_ends_is_made_up_for_or_leaves_a_quarantine_that_settles<A: Model>() {
    sweep_all::<A>(Kind::Once, |creation| (!is_mapped(creation)).then_some(0));
}

fn invalidations_that_never_end_leave_a_quarantine_that_settles<A: Model>() {
    sweep_all::<A>(Kind::Always, |creation| (!is_mapped(creation)).then_some(0));
}

fn invalidations_that_end_late_change_nothing<A: Model>() {
    sweep_all::<A>(Kind::Late, |_| Some(0));
}

fn a_failing_scrub_leaves_everything_as_it_was<A: Model>() {
    machine::<A>(config(), |machine| {
        // Another user has had all of the device's memory.
        let (budget, process) = (Budget::unlimited(), machine.spawn());
        let mut storage = Storage::new(Room::default());
        let first = storage.open(machine, &process, &budget).unwrap();
        let memory = A::PROFILE.dram.user_memory().unwrap();
        let page = A::PROFILE.dram.page_bytes;
        // All but a page, which the scene gets.
        let pages = memory.len() / page - 1;
        let all = call(&first, [pages * page, 0, 0], OP_ALLOC, FLAG_CONTIGUOUS).unwrap();
        call(&first, [all, 0, 0], OP_FREE, 0).unwrap();
        first.close().unwrap();
        let asic = &machine.asic;
        with_scene(machine, Room::default(), |scene| {
            let before = scene.snapshot();
            assert_eq!(before.counters.device.dram.clean, 0);
            // Without its bypass the engine reaches device memory on no ASIC but Gaudi, which has to be
            // lost for it.
            let lost = A::KIND == AsicKind::Gaudi;
            for creation in [Creation::Dram, Creation::SharedDram] {
                if lost {
                    asic.lose();
                } else {
                    asic.set_initiator_mode(scrubber(), InitiatorMode::Privileged);
                }
                for _ in 0..2 {
                    let failed = creation.make(scene, None);
                    assert_eq!(failed.err(), Some(Errno::EIO), "{creation:?}");
                    let after = scene.snapshot();
                    after.assert_is(&before, format_args!("{creation:?}"));
                }
                if lost {
                    break;
                }
                asic.set_initiator_mode(scrubber(), InitiatorMode::Bypass);
                // A page of Gaudi2 takes more memory than a test should.
                if page <= 2 << 20 {
                    let made = creation.make(scene, None).unwrap();
                    let dram = scene.snapshot().counters.device.dram;
                    assert_eq!((dram.clean, dram.scrubbing, dram.allocated), (0, 0, 2));
                    creation.unmake(scene, made).unwrap();
                    let after = scene.snapshot();
                    after.assert_is(&before, format_args!("{creation:?}, scrubbed and freed"));
                }
            }
            if lost {
                machine.reset(DramContent::Kept);
                machine.recover().unwrap();
                // The file was there before the reset.
                let refused = Creation::Dram.make(scene, None);
                assert_eq!(refused.err(), Some(Errno::ENODEV));
            }
        });
    });
}

/// Unmaking cannot be refused: what is not confirmed goes into quarantine.
fn every_unmaking_survives_every_failure<A: Model>() {
    machine::<A>(config(), |machine| {
        with_scene(machine, Room::default(), |scene| {
            // Late ones first: after one that never ends, Gaudi2's driver invalidates no ranges.
            for kind in [
                Kind::Late,
                Kind::Page,
                Kind::Pin,
                Kind::DmaMap,
                Kind::Flush,
                Kind::Once,
                Kind::Always,
            ] {
                for creation in ALL {
                    if !creation.exists(scene) {
                        continue;
                    }
                    let prepared = creation.prepare(scene);
                    let made = creation.make(scene, prepared).unwrap();
                    creation.unmake(scene, made).unwrap();
                    let before = scene.snapshot();
                    let mut failures = 0;
                    for nth in 1.. {
                        let what = format!("unmaking {creation:?} with {kind:?} {nth}");
                        let prepared = creation.prepare(scene);
                        let made = creation.make(scene, prepared).unwrap();
                        let begun = scene.machine.log.count(EventKind::InvalidateBegin);
                        let reached = creation.reached(scene, made.address());
                        if let Some(reached) = &reached {
                            reached.access_first(&scene.machine.asic);
                        }
                        kind.arm(scene, nth, reached.as_ref());
                        let outcome = creation.unmake(scene, made);
                        let begun = scene.machine.log.count(EventKind::InvalidateBegin) - begun;
                        if let Err(errno) = outcome {
                            let expected = match kind {
                                Kind::Flush => Errno::EIO,
                                _ => Errno::ETIMEDOUT,
                            };
                            assert_eq!(errno, expected, "{what}");
                            let unconfirmed = [Kind::Flush, Kind::Once, Kind::Always];
                            assert!(unconfirmed.contains(&kind), "{what}");
                            // A block that is mapped for a user has a mapping of each kind.
                            let quarantined = scene.quarantined();
                            let most = 1 + u32::from(creation == Creation::BlockMapping);
                            assert!((1..=most).contains(&quarantined), "{what}");
                            settle(scene, kind, &what);
                            failures += 1;
                        }
                        kind.disarm(scene);
                        if let Some(reached) = reached {
                            reached.assert_gone(&scene.machine.asic, &what);
                        }
                        usual(&scene.snapshot()).assert_is(&usual(&before), &what);
                        if begun < nth {
                            break;
                        }
                    }
                    let fails = match kind {
                        Kind::Once | Kind::Always => is_mapped(creation),
                        Kind::Flush => is_flushed::<A>(creation),
                        _ => false,
                    };
                    assert_eq!(failures > 0, fails, "unmaking {creation:?} with {kind:?}");
                }
            }
        });
    });
}
