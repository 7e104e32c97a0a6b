//! The demonstration, as a command and step by step.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use hl_harness::asic::{Completion, Operation};
use hl_harness::demo::block::{Created, create, show};
use hl_harness::demo::counters;
use hl_harness::demo::refusals::Files;
use hl_harness::demo::stream::{PRODUCER_STOPPED, Ring, STAGING_BYTES};
use hl_harness::demo::teardown::{self, Given, Order};
use hl_harness::demo::{Failure, layout, open, user};
use hl_harness::log::{Event, EventKind, EventLog, Record};
use hl_harness::machine::{
    Machine, MachineConfig, MachineContext, MachineView, Model, with_machine,
};
use hl_mem::budget::Budget;
use hl_mem::profile::{Gaudi2, Goya};
use hl_mem::uapi::{self, FLAG_CONTIGUOUS, MemoryInput, OP_ALLOC};
use mmu_core::{AddrRange, Run};

#[path = "support/each_asic.rs"]
mod each_asic;
use each_asic::on_each_asic;

// --- the command ---

fn demo(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hl-harness"))
        .arg("demo")
        .args(arguments)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A file of its own for one test, gone when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str, content: &[u8]) -> Self {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let path = path.join(format!("{name}-{}", std::process::id()));
        fs::write(&path, content).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A test that failed has worse to say than that its file is gone.
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn the_command_passes_on_each_asic_and_says_so_in_one_line() {
    let input = Scratch::new("small", &[7; 100_000]);
    let five = "Gaudi2 with five stacks";
    for (asic, name) in [
        ("goya", "Goya"),
        ("gaudi", "Gaudi"),
        ("gaudi2", "Gaudi2"),
        ("gaudi2-six", "Gaudi2"),
        ("gaudi2-five", five),
    ] {
        let output = demo(&["--quiet", "--asic", asic, "--input", input.path()]);
        let said = text(&output.stdout);
        assert_eq!(
            output.status.code(),
            Some(0),
            "{said}{}",
            text(&output.stderr)
        );
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(
            said.starts_with(&format!("passed on {name}: 97.7 KiB")),
            "{said}"
        );
        assert!(output.stderr.is_empty());
    }
}

#[test]
fn the_steps_are_printed_in_order_without_style_into_a_pipe() {
    let input = Scratch::new("steps", &[1; 5000]);
    let output = demo(&["--block-size=12KiB", "--input", input.path()]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let steps = said.lines().filter_map(|line| line.split_once(". "));
    let steps = steps.filter_map(|(number, _)| number.parse::<u32>().ok());
    assert_eq!(steps.collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6, 7]);
    assert!(!said.contains('\u{1b}'), "{said}");
}

#[test]
fn the_trace_shows_the_order_of_events() {
    let input = Scratch::new("trace", &[1; 5000]);
    let trace = |how: &str| {
        let output = demo(&[
            how,
            "--block-size=12KiB",
            "--asic=goya",
            "--input",
            input.path(),
        ]);
        assert_eq!(output.status.code(), Some(0));
        text(&output.stdout)
    };
    let short = trace("--trace");
    let at = |what: &str| short.rfind(what).unwrap_or_else(|| panic!("no {what}"));
    assert!(at(PRODUCER_STOPPED) < at("invalidate "));
    assert!(!short.contains("  translate  "));
    let full = trace("--trace=full");
    assert!(full.contains("  translate  "));
    assert!(full.len() > 2 * short.len());
}

#[test]
fn the_copy_is_written_where_asked_and_never_over_the_input() {
    let content: Vec<u8> = (0..300_000_u32).map(|at| (at * 7 % 253) as u8).collect();
    let input = Scratch::new("original", &content);
    let copy = Scratch::new("copy", b"old content");
    let output = demo(&["--quiet", "--input", input.path(), "--output", copy.path()]);
    assert_eq!(output.status.code(), Some(0));
    assert!(fs::read(&copy.0).unwrap() == content);
    let output = demo(&["--input", input.path(), "--output", input.path()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(fs::read(&input.0).unwrap() == content);
}

#[test]
fn a_request_that_cannot_be_met_is_refused_with_status_2_and_a_message() {
    let empty = Scratch::new("empty", b"");
    let endless = Scratch::new("endless", b"");
    fs::File::options()
        .write(true)
        .open(&endless.0)
        .unwrap()
        .set_len((4 << 30) + 1)
        .unwrap();
    let cases: &[(&[&str], &str)] = &[
        (&["--asic", "no-such-asic"], "no-such-asic"),
        (&["--no-such-option"], "no-such-option"),
        (&["--input", "/no/such/file"], "/no/such/file"),
        (&["--input", "/"], "directory"),
        (&["--input", empty.path()], "empty"),
        (&["--input", endless.path()], "longer than 4,096 MiB"),
        (
            &["--output", "/no/such/folder/file"],
            "/no/such/folder/file",
        ),
        (&["--block-size", "8KiB"], "at least three"),
        (&["--block-size", "12289"], "whole pages"),
        (&["--block-size", "1GiB"], "256 MiB"),
        (&["--block-size", "many"], "many"),
        (&["--trace", "--quiet"], "--quiet"),
    ];
    for (arguments, reason) in cases {
        let output = demo(arguments);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(reason), "{arguments:?}: {said}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_command_is_needed() {
    let program = env!("CARGO_BIN_EXE_hl-harness");
    let output = Command::new(program).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("demo"));
}

// --- its steps ---

on_each_asic!(
    opening_a_context_has_the_device_walk_its_roots,
    a_block_is_mapped_page_by_page,
    user_memory_is_mapped_copied_and_gone,
    everything_that_must_be_refused_is,
    a_block_is_given_up_in_the_one_order,
    user_memory_is_given_up_in_the_one_order,
    a_stuck_invalidation_fails_the_teardown_and_frees_nothing,
);

const BLOCK_PAGES: u64 = 5;

/// Calls `run` with a machine of two users whose log is kept.
fn machine<A: Model>(run: impl for<'s, 'm> FnOnce(&Machine<'s, 'm, A>)) {
    let config = MachineConfig {
        users: 2,
        ..MachineConfig::default()
    };
    let log = EventLog::recording();
    log.ignore(EventKind::DmaTranslate);
    with_machine::<A, _>(config, log, run).unwrap();
}

fn block<'m, A: Model>(
    machine: &Machine<'_, 'm, A>,
    context: &MachineContext<'_, '_, 'm, A>,
) -> (Created, MachineView<'m, A>) {
    let bytes = BLOCK_PAGES * 4096;
    let created = create(machine, context, layout(bytes).unwrap(), bytes).unwrap();
    let (view, _) = show(context, &created).unwrap();
    (created, view)
}

fn ring<'a, A: Model>(machine: &'a Machine<'_, '_, A>, created: &Created) -> Ring<'a> {
    Ring {
        asic: &machine.asic,
        engines: &machine.engines,
        block: created.range,
        layout: created.layout,
    }
}

fn opening_a_context_has_the_device_walk_its_roots<A: Model>() {
    machine::<A>(|machine| {
        let (budget, process) = (Budget::unlimited(), machine.spawn());
        let mut storage = machine.storage();
        let context = machine.open(&process, &budget, &mut storage).unwrap();
        let opened = open::inspect(machine, &context).unwrap();
        assert_eq!(opened.roots.map(|root| root.asid), [0, 1]);
        assert_ne!(opened.roots[0].table, opened.roots[1].table);
        context.close().unwrap();
    });
}

fn a_block_is_mapped_page_by_page<A: Model>() {
    machine::<A>(|machine| {
        let (budget, process) = (Budget::unlimited(), machine.spawn());
        let mut storage = machine.storage();
        let context = machine.open(&process, &budget, &mut storage).unwrap();
        let (created, view) = block(machine, &context);
        assert_eq!((created.pages, created.leaves), (BLOCK_PAGES, BLOCK_PAGES));
        assert!(created.runs > 1, "the pages are not scattered");
        // Caches may remember that there was nothing.
        assert!(created.invalidations > 0);
        machine.device.end_view(view).unwrap();
        context.close().unwrap();
    });
}

fn user_memory_is_mapped_copied_and_gone<A: Model>() {
    machine::<A>(|machine| {
        let (budget, process) = (Budget::new(2000), machine.spawn());
        let mut storage = machine.storage();
        let context = machine.open(&process, &budget, &mut storage).unwrap();
        let address = user::make_memory(&process).unwrap();
        let before = (machine.counters(), context.usage());
        let mapped = user::map(machine, &context, &budget, address).unwrap();
        let mut leaves = mapped.leaves.clone();
        leaves.sort_unstable();
        // The page before the large ones, the large ones, and the seven after them.
        assert_eq!(leaves, [(4096, 8), (2 << 20, 2)]);
        assert_eq!((mapped.pins, mapped.charged), (1032, 1032));
        let engine = user::UserEngine::new(&machine.asic, context.asid());
        let memory = A::PROFILE.dram.user_memory().unwrap();
        user::copy_there_and_back(machine, &process, &engine, &mapped, memory).unwrap();
        let unmapped = user::unmap(machine, &context, &engine, &mapped).unwrap();
        assert_eq!(unmapped.fault.address, mapped.at);
        assert_eq!(unmapped.captured.at.unwrap().start(), mapped.at);
        let after = machine.counters();
        // Pages that a device wrote to stay dirty.
        let dirty = after.host.dirty_frames;
        assert_eq!(dirty, 1032);
        let mut expected = before.0;
        expected.host.dirty_frames = dirty;
        assert_eq!((after, context.usage()), (expected, before.1));
        context.close().unwrap();
    });
}

fn everything_that_must_be_refused_is<A: Model>() {
    machine::<A>(|machine| {
        let (budget, process, stranger) = (Budget::unlimited(), machine.spawn(), machine.spawn());
        let (mut storage, mut other_storage) = (machine.storage(), machine.storage());
        let context = machine.open(&process, &budget, &mut storage).unwrap();
        let other = machine
            .open(&stranger, &budget, &mut other_storage)
            .unwrap();
        let (created, view) = block(machine, &context);
        let (other_handle, _) = other.create_block(&machine.privilege, 4096).unwrap();
        let allocate = MemoryInput {
            arguments: [STAGING_BYTES, 0, 0],
            op: OP_ALLOC,
            flags: FLAG_CONTIGUOUS,
            ..MemoryInput::default()
        };
        let memory = uapi::dispatch(&context, &allocate.to_bytes())
            .unwrap()
            .value;
        let files = Files {
            machine,
            context: &context,
            block: &created,
            other: &other,
            other_handle,
            memory,
        };
        let refusals = files.try_all().unwrap();
        assert_eq!(refusals.len(), 10);
        let answer = |tried: &str| {
            let refusal = refusals
                .iter()
                .find(|refusal| refusal.tried.contains(tried));
            refusal.unwrap().answer.clone()
        };
        assert_eq!(answer("UNMAP"), "EINVAL");
        assert_eq!(answer("FREE"), "EPERM");
        assert!(answer("as the user").starts_with("fault in ASID 1 at "));
        // The check itself can fail: what is the file's own is not refused.
        let own = Files {
            other: &context,
            ..files
        };
        assert!(matches!(own.try_all(), Err(Failure::Check(_))));
        machine.device.end_view(view).unwrap();
        other.close().unwrap();
        context.close().unwrap();
    });
}

/// The events of destroying a block whose producer runs, in their order.
fn destroyed<A: Model>(look: impl FnOnce(&[Record])) {
    machine::<A>(|machine| {
        let (budget, process) = (Budget::unlimited(), machine.spawn());
        let mut storage = machine.storage();
        let before = machine.counters();
        let context = machine.open(&process, &budget, &mut storage).unwrap();
        let (created, view) = block(machine, &context);
        let mark = machine.log.mark();
        let ring = ring(machine, &created);
        teardown::destroy(machine, &context, &created, view, ring).unwrap();
        look(&machine.log.since(mark));
        context.close().unwrap();
        assert_eq!(machine.counters(), before);
    });
}

/// The place of the only event, or of the first or last one, that `wanted` holds for.
fn places(records: &[Record], wanted: impl Fn(&Event) -> bool) -> (u64, u64) {
    let mut places = records.iter().filter(|record| wanted(&record.event));
    let first = places.next().expect("there is such an event").sequence;
    (first, places.last().map_or(first, |last| last.sequence))
}

fn a_block_is_given_up_in_the_one_order<A: Model>() {
    destroyed::<A>(|records| {
        // By hand, since `Order` is to be judged too.
        let stopped = places(
            records,
            |event| matches!(event, Event::Note { text } if *text == PRODUCER_STOPPED),
        );
        let cleared = places(records, |event| {
            matches!(event, Event::EntryStore { entry: 0, .. })
        });
        let begun = places(records, |event| {
            matches!(event, Event::InvalidateBegin { .. })
        });
        let ended = places(records, |event| {
            matches!(event, Event::InvalidateEnd { .. })
        });
        let freed = places(records, |event| matches!(event, Event::PageFree { .. }));
        assert!(stopped.1 < cleared.0 && cleared.1 < begun.0);
        assert!(begun.1 < ended.1 && ended.1 < freed.0);
        assert_eq!(freed.1 - freed.0 + 1, BLOCK_PAGES);
        if A::PROFILE.host_table_bytes.is_none() {
            let flushed = places(records, |event| matches!(event, Event::Flush { .. }));
            assert!(cleared.1 < flushed.0 && flushed.1 < begun.0);
        }
        Order::of(records, Given::Pages).unwrap();
    });
}

#[test]
fn any_stage_that_is_missing_or_out_of_order_is_noticed() {
    destroyed::<Goya>(|records| {
        let reject = |records: &[Record], what: &str| {
            let events = records.iter().map(|record| record.event);
            let records = (0..)
                .zip(events)
                .map(|(sequence, event)| Record { sequence, event });
            let order = Order::of(&records.collect::<Vec<_>>(), Given::Pages);
            assert!(matches!(order, Err(Failure::Check(_))), "{what}: {order:?}");
        };
        let is_stage = |record: &Record| {
            matches!(
                record.event.kind(),
                EventKind::Note
                    | EventKind::EntryStore
                    | EventKind::Flush
                    | EventKind::InvalidateBegin
                    | EventKind::InvalidateEnd
                    | EventKind::PageFree
            )
        };
        let stages: Vec<_> = records.iter().copied().filter(is_stage).collect();
        let kinds: Vec<_> = stages
            .chunk_by(|a, b| a.event.kind() == b.event.kind())
            .collect();
        assert_eq!(kinds.len(), 6);
        for at in 0..kinds.len() {
            let mut without = kinds.clone();
            without.remove(at);
            reject(&without.concat(), "missing");
            if at > 0 {
                let mut swapped = kinds.clone();
                swapped.swap(at - 1, at);
                reject(&swapped.concat(), "swapped");
            }
        }
    });
}

fn user_memory_is_given_up_in_the_one_order<A: Model>() {
    machine::<A>(|machine| {
        let (budget, process) = (Budget::unlimited(), machine.spawn());
        let mut storage = machine.storage();
        let context = machine.open(&process, &budget, &mut storage).unwrap();
        let address = user::make_memory(&process).unwrap();
        let mapped = user::map(machine, &context, &budget, address).unwrap();
        let order = teardown::ordered(machine, Given::Pins, || {
            user::unmap_only(machine, &context, &mapped)
        });
        let order = order.unwrap();
        let last = order.0.last().unwrap();
        assert_eq!((last.what, last.events), ("pages unpinned", 1032));
        context.close().unwrap();
    });
}

fn a_stuck_invalidation_fails_the_teardown_and_frees_nothing<A: Model>() {
    machine::<A>(|machine| {
        let (budget, process) = (Budget::unlimited(), machine.spawn());
        let mut storage = machine.storage();
        let before = counters::of_machine(machine, &budget);
        let context = machine.open(&process, &budget, &mut storage).unwrap();
        let (created, view) = block(machine, &context);
        let mark = machine.log.mark();
        let never = Completion::Never;
        machine
            .asic
            .inject(Operation::Invalidation, 1, u64::MAX, never);
        let ring = ring(machine, &created);
        let failed = teardown::destroy(machine, &context, &created, view, ring);
        assert!(matches!(failed, Err(Failure::Check(_))), "{failed:?}");
        let usage = machine.device.usage();
        assert_eq!((usage.buffers.buffers, usage.buffers.quarantined), (1, 1));
        let freed = |event: &Event| matches!(event, Event::PageFree { .. });
        assert_eq!(machine.log.find(mark, freed), None);
        let during = counters::of_machine(machine, &budget);
        let compared = counters::compare(before.clone(), during.clone(), during);
        let differences = counters::differences(&compared).join("; ");
        assert!(differences.contains("kernel buffers in quarantine: 0 before, 1 after"));
        // Once the hardware answers again, all of it can be had back.
        machine.asic.clear_injections();
        machine.device.settle_quarantine().unwrap();
        context.close().unwrap();
        let after = counters::of_machine(machine, &budget);
        let compared = counters::compare(before, after.clone(), after);
        assert_eq!(counters::differences(&compared), [""; 0]);
    });
}

#[test]
fn device_context_and_view_can_be_used_from_several_threads() {
    fn shared<T: Sync>(_: &T) {}
    machine::<Gaudi2<6>>(|machine| {
        shared(machine);
        let (budget, process) = (Budget::unlimited(), machine.spawn());
        let mut storage = machine.storage();
        let context = machine.open(&process, &budget, &mut storage).unwrap();
        shared(&context);
        context.close().unwrap();
    });
}

#[test]
fn the_device_memory_of_another_is_not_told() {
    machine::<Goya>(|machine| {
        let (budget, process, stranger) = (Budget::unlimited(), machine.spawn(), machine.spawn());
        let (mut storage, mut other_storage) = (machine.storage(), machine.storage());
        let context = machine.open(&process, &budget, &mut storage).unwrap();
        let other = machine
            .open(&stranger, &budget, &mut other_storage)
            .unwrap();
        let allocate = |bytes| {
            use hl_mem::dram::{Contiguity, Sharing};
            context.allocate_dram(bytes, Contiguity::Contiguous, Sharing::Private)
        };
        let handle = allocate(5 << 20).unwrap();
        let run = |owner| machine.device.dram_run(&machine.privilege, owner, handle);
        let expected: Run = AddrRange::new(run(context.owner()).unwrap().start(), 6 << 20).unwrap();
        assert_eq!(run(context.owner()), Ok(expected));
        assert!(run(other.owner()).is_err());
        let packs = machine.device.usage().dram.packs;
        context.free_dram(handle).unwrap();
        assert_eq!(machine.device.usage().dram.packs, packs - 1);
        assert!(run(context.owner()).is_err());
        other.close().unwrap();
        context.close().unwrap();
    });
}
