use hl_harness::asic::{AccessKind, Completion, Operation};
use hl_harness::host::{Permission, PinAccess};
use hl_harness::inspect::{Backing, Event, History, Life, OffenceKind, Record, Stage, State};
use hl_harness::log::TableMemory;
use hl_harness::machine::Model;
use hl_mem::uapi::{self, FLAG_USERPTR, MemoryInput, OP_MAP, OP_UNMAP};
use mmu_core::DeviceAddr;

use crate::rig::{PAGE, on_each_asic, with_user};

on_each_asic!(
    lives_are_those_of_the_mappings_and_in_order,
    a_release_before_the_invalidation_is_an_offence,
    a_stray_access_is_an_offence_of_whoever_gave_the_page_up,
    a_table_that_is_freed_before_the_invalidation_is_an_offence,
    an_invalidation_that_misses_something_does_not_count,
    a_page_that_is_freed_under_a_live_mapping_is_an_offence,
    what_is_stuck_waits_until_it_is_settled,
    pins_that_are_not_a_mappings_are_not_taken_for_its_own,
);

fn lives_are_those_of_the_mappings_and_in_order<A: Model>() {
    with_user::<A>(|user| {
        let log = &user.machine.log;
        let before = log.mark();
        let one = user.map(3, None);
        let between = log.mark();
        let two = user.map(1 + 512 + 2, Some(1));
        user.device_reads(DeviceAddr::new(one)).unwrap();
        let dram = user.map_device_memory(2);
        let unmapping = log.mark();
        user.unmap(one);
        let after = log.mark();
        user.device_reads(DeviceAddr::new(one)).unwrap_err();
        let history = user.state().history();
        assert!(history.offences.is_empty() && !history.begins_late);
        let lives: Vec<&Life> = history.lives.iter().collect();
        assert_eq!(lives.len(), 3 + usize::from(dram.is_some()));
        let block = lives[0];
        assert_eq!(
            (block.asid, block.backing, block.extent.len),
            (0, Backing::Block, 5 * PAGE)
        );
        assert_eq!(block.stage(), Stage::Mapped);
        let gone = lives[1];
        assert_eq!((gone.asid, gone.extent.start.get()), (user.asid(), one));
        assert_eq!(
            (gone.extent.len, gone.backing),
            (3 * PAGE, Backing::UserPages)
        );
        assert!((before..between).contains(&gone.mapped.unwrap()));
        let (unmapped, invalidated) = (gone.unmapped.unwrap(), gone.invalidated.unwrap());
        let released = gone.released.unwrap();
        assert!(unmapping <= unmapped && unmapped < invalidated && invalidated < released);
        assert!(released < after);
        assert_eq!(gone.stage(), Stage::Released);
        assert_eq!((gone.used.len(), gone.faults.len()), (1, 1));
        let kept = lives[2];
        assert_eq!(
            (kept.extent.start.get(), kept.extent.len),
            (two, 515 * PAGE)
        );
        assert_eq!(kept.stage(), Stage::Mapped);
        if let Some(dram) = dram {
            assert_eq!(lives[3].extent.start.get(), dram);
            assert_eq!(lives[3].extent.len, 2 * A::PROFILE.dram.page_bytes);
            assert_eq!(lives[3].backing, Backing::DeviceMemory);
        }
    });
}

/// A log in which two pages were mapped, used and unmapped.
fn unmapped<A: Model>(then: impl FnOnce(&State)) {
    with_user::<A>(|user| {
        let at = user.map(2, None);
        user.device_reads(DeviceAddr::new(at)).unwrap();
        user.unmap(at);
        let state = user.state();
        assert_eq!(last(&state.history()).stage(), Stage::Released);
        then(&state);
    });
}

fn last(history: &History) -> &Life {
    history.lives.last().unwrap()
}

/// The state with its log in another order, numbered anew.
fn retold(state: &State, change: impl FnOnce(&mut Vec<Record>)) -> State {
    let mut state = state.clone();
    change(&mut state.events);
    for (sequence, record) in (0..).zip(&mut state.events) {
        record.sequence = sequence;
    }
    state
}

fn position(events: &[Record], is: impl Fn(&Event) -> bool) -> usize {
    events.iter().rposition(|record| is(&record.event)).unwrap()
}

fn offences(state: &State) -> Vec<OffenceKind> {
    let history = state.history();
    let of_lives = history.lives.iter().flat_map(|life| &life.offences);
    of_lives
        .chain(&history.offences)
        .map(|offence| offence.kind)
        .collect()
}

fn a_release_before_the_invalidation_is_an_offence<A: Model>() {
    unmapped::<A>(|state| {
        let moved = retold(state, |events| {
            let unpin = position(events, |event| matches!(event, Event::Unpin { .. }));
            let record = events.remove(unpin);
            let begin = events
                .iter()
                .rposition(|record| matches!(record.event, Event::InvalidateBegin { .. }))
                .unwrap();
            events.insert(begin, record);
        });
        assert_eq!(offences(&moved), [OffenceKind::ReleasedBeforeInvalidated]);
        assert_eq!(last(&moved.history()).stage(), Stage::Offended);
    });
}

fn a_stray_access_is_an_offence_of_whoever_gave_the_page_up<A: Model>() {
    unmapped::<A>(|state| {
        let unpin = position(&state.events, |event| matches!(event, Event::Unpin { .. }));
        let Event::Unpin { frame, .. } = state.events[unpin].event else {
            unreachable!("it was looked for");
        };
        for (frame, kind) in [
            (frame, OffenceKind::UsedAfterRelease),
            (u32::MAX, OffenceKind::StrayAccess),
        ] {
            let strays = retold(state, |events| {
                let access = AccessKind::Write;
                let event = Event::StrayAccess { frame, access };
                events.push(Record { sequence: 0, event });
            });
            assert_eq!(offences(&strays), [kind]);
            let picture = strays.timeline();
            assert!(picture.contains(&kind.to_string()));
            assert!(picture.contains("1 stray access"));
            assert!(!picture.contains("nothing was released before"));
            let offended = last(&strays.history()).stage() == Stage::Offended;
            assert_eq!(offended, kind == OffenceKind::UsedAfterRelease);
        }
    });
}

fn a_table_that_is_freed_before_the_invalidation_is_an_offence<A: Model>() {
    unmapped::<A>(|state| {
        let unmap = last(&state.history()).unmapped.unwrap();
        let moved = retold(state, |events| {
            let freed = position(events, |event| matches!(event, Event::TableFree { .. }));
            let record = events.remove(freed);
            let cleared = events.iter().position(|record| record.sequence == unmap);
            events.insert(cleared.unwrap() + 1, record);
        });
        assert_eq!(offences(&moved), [OffenceKind::TableFreed]);
    });
}

fn an_invalidation_that_misses_something_does_not_count<A: Model>() {
    // Pages and tables were both given up too early then.
    let too_early = [
        OffenceKind::ReleasedBeforeInvalidated,
        OffenceKind::TableFreed,
    ];
    unmapped::<A>(|state| {
        let unmap = last(&state.history()).unmapped.unwrap();
        // Without any invalidation behind the clearing.
        let without = retold(state, |events| {
            events.retain(|record| {
                record.sequence < unmap || !matches!(record.event, Event::InvalidateEnd { .. })
            });
        });
        assert_eq!(offences(&without), too_early);
        // One that came before the clearing.
        let early = retold(state, |events| {
            let from = events
                .iter()
                .position(|record| record.sequence >= unmap)
                .unwrap();
            let (ends, rest): (Vec<Record>, Vec<Record>) = events
                .split_off(from)
                .into_iter()
                .partition(|record| matches!(record.event, Event::InvalidateEnd { .. }));
            events.extend(ends);
            events.extend(rest);
        });
        assert_eq!(offences(&early), too_early);
        // One before the flush: the device would read the old entry again.
        let stores_in_device = state.events.iter().any(|record| {
            matches!(
                record.event,
                Event::EntryStore {
                    memory: TableMemory::Device,
                    ..
                }
            ) && record.sequence >= unmap
        });
        if stores_in_device {
            let unflushed = retold(state, |events| {
                events.retain(|record| {
                    record.sequence < unmap || !matches!(record.event, Event::Flush { .. })
                });
            });
            assert_eq!(offences(&unflushed), too_early);
        }
    });
}

fn a_page_that_is_freed_under_a_live_mapping_is_an_offence<A: Model>() {
    with_user::<A>(|user| {
        let at = user.map(1, None);
        let state = user.state();
        let owned = state
            .space(user.asid())
            .unwrap()
            .mapping_at(DeviceAddr::new(at))
            .unwrap();
        let bus = owned.owns[0].start.get() - state.asic.host_offset;
        let frame = state.host.frame(bus).unwrap() as u32;
        let freed = retold(&state, |events| {
            let event = Event::PageFree { frame };
            events.push(Record { sequence: 0, event });
            let event = Event::Translate {
                asid: user.asid(),
                address: DeviceAddr::new(at),
                bus: owned.owns[0].start,
                access: hl_harness::asic::AccessKind::Write,
            };
            events.push(Record { sequence: 0, event });
        });
        let expected = [
            OffenceKind::ReleasedWhileMapped,
            OffenceKind::UsedAfterRelease,
        ];
        assert_eq!(offences(&freed), expected);
    });
}

fn what_is_stuck_waits_until_it_is_settled<A: Model>() {
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
        assert_eq!(last(&state.history()).stage(), Stage::Waiting);
        let mapping = state
            .space(user.asid())
            .unwrap()
            .mapping_at(DeviceAddr::new(at))
            .unwrap();
        assert!(mapping.quarantined);
        user.machine.asic.clear_injections();
        user.context.settle_quarantine().unwrap();
        assert_eq!(last(&user.state().history()).stage(), Stage::Released);
    });
}

fn pins_that_are_not_a_mappings_are_not_taken_for_its_own<A: Model>() {
    with_user::<A>(|user| {
        let memory = user.process.map(2, Permission::ReadWrite).unwrap();
        let request = [memory.get(), 0, 2 * PAGE];
        let (one, two) = (
            user.request(request, OP_MAP, FLAG_USERPTR),
            user.request(request, OP_MAP, FLAG_USERPTR),
        );
        // Somebody else pins the same pages for a while.
        for frame in user.process.pin(memory, 2, PinAccess::Read).unwrap() {
            user.machine.host.unpin(frame, false).unwrap();
        }
        let stages = |state: &State| -> Vec<Stage> {
            let lives = state.history().lives;
            lives.iter().map(|life| life.stage()).collect()
        };
        assert_eq!(stages(&user.state()), [Stage::Mapped; 3]);
        user.unmap(one);
        assert_eq!(
            stages(&user.state()),
            [Stage::Mapped, Stage::Released, Stage::Mapped]
        );
        user.unmap(two);
        assert_eq!(
            stages(&user.state()),
            [Stage::Mapped, Stage::Released, Stage::Released]
        );
    });
}

#[test]
fn one_mmu_of_several_that_is_left_out_leaves_the_mapping_waiting() {
    with_user::<hl_mem::profile::Gaudi2<6>>(|user| {
        let at = user.map_device_memory(1).unwrap();
        user.unmap(at);
        let state = user.state();
        assert_eq!(last(&state.history()).stage(), Stage::Forgotten);
        let eleven = hl_harness::asic::MmuInstance::Hmmu(11);
        let without = retold(&state, |events| {
            events.retain(
                |record| !matches!(record.event, Event::InvalidateEnd { mmu, .. } if mmu == eleven),
            );
        });
        assert_eq!(last(&without.history()).stage(), Stage::Waiting);
        let scope = |record: &Record| match record.event {
            Event::InvalidateEnd { mmu, scope, .. } => Some((mmu, scope)),
            _ => None,
        };
        assert!(
            state
                .events
                .iter()
                .filter_map(scope)
                .any(|(mmu, _)| mmu == eleven)
        );
    });
}

#[test]
fn addresses_and_tables_that_are_used_again_too_early_are_offences() {
    with_user::<hl_mem::profile::Goya>(|user| {
        let one = user.map(1, None);
        user.unmap(one);
        let two = user.map(1, None);
        assert_eq!(one, two, "the addresses come back");
        let state = user.state();
        assert_eq!(offences(&state), []);
        let without = retold(&state, |events| {
            events.retain(|record| {
                !matches!(
                    record.event,
                    Event::InvalidateEnd { .. } | Event::Unpin { .. } | Event::PageFree { .. }
                )
            });
        });
        let found = offences(&without);
        assert!(found.contains(&OffenceKind::AddressReused), "{found:?}");
        assert!(found.contains(&OffenceKind::TableReused), "{found:?}");
    });
}

#[test]
fn a_log_that_begins_late_still_has_every_mapping() {
    for asic in crate::rig::PARTS {
        let mut state = crate::pictures::sample_of(asic, 8);
        let live: usize = state.spaces.iter().map(|space| space.mappings.len()).sum();
        let middle = state.events.len() - 20;
        state.events.drain(..middle);
        let history = state.history();
        assert!(history.begins_late && history.lives.len() >= live, "{asic}");
        assert!(
            history.lives.iter().all(|life| life.offences.is_empty()),
            "{asic}"
        );
        assert!(state.timeline().contains("the log begins late"));
    }
}
