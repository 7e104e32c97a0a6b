//! The demonstration: the founding flow, end to end, on a machine of software.
//!
//! Seven steps, each a function that returns what it found and can be tested alone; this module
//! puts them in order and prints. Whatever goes otherwise than it must ends the demonstration with
//! a [`Failure`], and the program with a status other than 0.

pub mod block;
pub mod counters;
mod failure;
pub mod open;
mod options;
mod progress;
pub mod record;
pub mod refusals;
mod report;
pub mod stream;
pub mod teardown;
pub mod user;

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use hl_mem::budget::Budget;
use hl_mem::dram::PackHandle;
use hl_mem::profile::{Gaudi, Gaudi2, Goya};
use hl_mem::ring::BlockLayout;
use hl_mem::uapi::{self, FLAG_CONTIGUOUS, MemoryInput, OP_ALLOC, OP_FREE};
use mmu_core::Run;
use rustix::fs::MemfdFlags;

pub use failure::Failure;
pub use options::{DemoOptions, Trace, layout};
pub use report::Report;

use crate::host::FRAME_SIZE;
use crate::log::{Event, EventKind, EventLog};
use crate::machine::{Machine, MachineConfig, MachineContext, Model, with_machine};
use crate::scenario::words::AsicWord;
use counters::Compared;
use failure::{OrFail, check};
use options::MAX_INPUT_BYTES;
use progress::Progress;
use report::{bytes, count, grouped};
use stream::{Ring, STAGING_BYTES, Stream, StreamError, StreamReport};
use teardown::Given;

/// How many like events in a row a trace prints in full.
const ROW: usize = 6;
/// Pages that the user may have pinned.
const BUDGET_PAGES: usize = 4096;
/// Device memory that the user allocates: for the stream, and for what the DMA copies.
const MEMORY_BYTES: u64 = 16 << 20;

/// The input, opened, with its first bytes read.
struct Input {
    name: PathBuf,
    /// No more than what shows that there is too much.
    bytes: io::Take<BufReader<File>>,
    /// How long it is, where it is a file.
    len: Option<u64>,
    /// Which file it is: device and inode.
    file: (u64, u64),
}

impl Input {
    /// Opens the input; that of `None` is this program.
    fn open(path: Option<&Path>) -> Result<Self, Failure> {
        let name = match path {
            Some(path) => path.to_owned(),
            None => std::env::current_exe()
                .map_err(|error| Failure::request(format_args!("no input: {error}")))?,
        };
        let unreadable =
            |error: io::Error| Failure::request(format_args!("{}: {error}", name.display()));
        let file = File::open(&name).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        let mut bytes = BufReader::with_capacity(256 << 10, file);
        let empty = bytes.fill_buf().map_err(unreadable)?.is_empty();
        if empty {
            let empty = format_args!("{}: the file is empty", name.display()).to_string();
            return Err(Failure::request(empty));
        }
        // A file of a pseudo file system says it has no bytes, and has some.
        let len = (metadata.is_file() && metadata.len() > 0).then_some(metadata.len());
        if len.is_some_and(|len| len > MAX_INPUT_BYTES) {
            return Err(too_long(&name));
        }
        let file = (metadata.dev(), metadata.ino());
        Ok(Self {
            name,
            bytes: bytes.take(MAX_INPUT_BYTES + 1),
            len,
            file,
        })
    }
}

fn too_long(name: &Path) -> Failure {
    let limit = bytes(MAX_INPUT_BYTES);
    Failure::request(format_args!("{}: longer than {limit}", name.display()))
}

/// Where the copy goes: a file, or one in memory that nobody else sees.
fn open_copy(path: Option<&Path>, input: &Input) -> Result<BufWriter<File>, Failure> {
    let file = match path {
        Some(path) => {
            let refused = |error: &dyn core::fmt::Display| format!("{}: {error}", path.display());
            // Creating it would empty it.
            if let Ok(metadata) = path.metadata()
                && (metadata.dev(), metadata.ino()) == input.file
            {
                return Err(Failure::Request(refused(&"this is the input")));
            }
            File::create(path).map_err(|error| Failure::Request(refused(&error)))?
        }
        None => rustix::fs::memfd_create("hl-harness copy", MemfdFlags::CLOEXEC)
            .map(File::from)
            .map_err(|error| Failure::request(format_args!("no file for the copy: {error}")))?,
    };
    Ok(BufWriter::with_capacity(64 << 10, file))
}

/// Runs `hl-harness demo`.
pub fn main(options: &DemoOptions) -> ExitCode {
    let report = Report::to_stdout(options.quiet);
    match run(options, &report) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let (status, verdict) = match failure {
                Failure::Request(_) => (2, ""),
                Failure::Check(_) => (1, "failed: "),
            };
            // A reader that went away has no use for the message.
            let _ = writeln!(io::stderr(), "hl-harness demo: {verdict}{failure}");
            ExitCode::from(status)
        }
    }
}

/// Runs the demonstration that `options` ask for.
///
/// # Errors
///
/// [`Failure`], whose kinds are the exit statuses other than 0.
pub fn run(options: &DemoOptions, report: &Report) -> Result<(), Failure> {
    let input = Input::open(options.input.as_deref())?;
    let copy = open_copy(options.output.as_deref(), &input)?;
    let [first, ..] = options.asic.parts() else {
        return Err(Failure::request("the word stands for no ASIC"));
    };
    let run = match first {
        AsicWord::Goya => run_on::<Goya>,
        AsicWord::Gaudi => run_on::<Gaudi>,
        AsicWord::Gaudi2 => run_on::<Gaudi2<6>>,
        AsicWord::Gaudi2Five => run_on::<Gaudi2<5>>,
    };
    run(options, report, input, copy)
}

/// What an ASIC is called, with what it differs in from the one that its name stands for.
fn name_of<A: Model>() -> String {
    let name = A::PROFILE.name;
    match AsicWord::of_model::<A>() {
        AsicWord::Gaudi2Five => format!("{name} with five stacks"),
        AsicWord::Goya | AsicWord::Gaudi | AsicWord::Gaudi2 => name.to_owned(),
    }
}

fn run_on<A: Model>(
    options: &DemoOptions,
    report: &Report,
    input: Input,
    copy: BufWriter<File>,
) -> Result<(), Failure> {
    let layout = layout(options.block_size)?;
    let block_pages = (options.block_size / FRAME_SIZE as u64) as u32;
    let config = MachineConfig {
        frames: (block_pages + (1 << 15)).next_power_of_two(),
        users: 2,
        ..MachineConfig::default()
    };
    let log = EventLog::new();
    if options.trace != Some(Trace::Full) {
        log.ignore(EventKind::DmaTranslate);
    }
    log.set_recording(options.trace.is_some());
    let demo = Demo {
        report,
        trace: options.trace,
        log: log.clone(),
        started: Instant::now(),
    };
    let ran = with_machine::<A, _>(config, log, |machine| {
        demo.steps(machine, layout, options.block_size, input, copy)
    });
    ran.map_err(|error| Failure::request(format_args!("no memory for the host: {error}")))?
}

struct Demo<'r> {
    report: &'r Report,
    trace: Option<Trace>,
    log: EventLog,
    started: Instant,
}

impl Demo<'_> {
    fn steps<A: Model>(
        &self,
        machine: &Machine<'_, '_, A>,
        layout: BlockLayout,
        block_bytes: u64,
        mut input: Input,
        mut copy: BufWriter<File>,
    ) -> Result<(), Failure> {
        let report = self.report;
        report.part(format_args!(
            "{}: software ASIC, host model and hl-mem",
            name_of::<A>()
        ));
        self.print_trace("bringing the device up");
        let budget = Budget::new(BUDGET_PAGES);
        let machine_before = counters::of_machine(machine, &budget);

        report.step(1, "A context opens");
        let (process, other_process) = (machine.spawn(), machine.spawn());
        let memories = (
            user::make_memory(&process)?,
            user::make_memory(&other_process)?,
        );
        let (mut storage, mut other_storage) = (machine.storage(), machine.storage());
        let context = machine
            .open(&process, &budget, &mut storage)
            .or_fail("opening a context")?;
        let other = machine
            .open(&other_process, &budget, &mut other_storage)
            .or_fail("opening another context")?;
        let context_before = counters::of_context(context.usage());
        open::inspect(machine, &context)?.print(report);
        self.print_trace("step 1");

        report.step(
            2,
            "The driver allocates a kernel block and maps it as privileged",
        );
        let created = block::create(machine, &context, layout, block_bytes)?;
        created.print(report);
        self.print_trace("step 2");

        report.step(3, "The user gets a handle and maps it");
        let (view, shown) = block::show(&context, &created)?;
        shown.print(report);
        self.print_trace("step 3");

        report.step(4, "The device produces, the user consumes");
        let (memory, run) = allocate(machine, &context)?;
        let ring = Ring {
            asic: &machine.asic,
            engines: &machine.engines,
            block: created.range,
            layout,
        };
        let stream = Stream {
            ring,
            view: view.view().view(),
            staging: run,
        };
        let streamed = self.stream(&stream, &mut input, &mut copy)?;
        self.print_trace("step 4");

        report.step(5, "The user maps memory of his own");
        let mapped = user::map(machine, &context, &budget, memories.0)?;
        mapped.print(report);
        let engine = user::UserEngine::new(&machine.asic, context.asid());
        let copies = run
            .skip(STAGING_BYTES)
            .ok_or_else(|| Failure::check("the device memory is too small"))?;
        let copied = user::copy_there_and_back(machine, &process, &engine, &mapped, copies)?;
        report.field(
            "DMA",
            format_args!(
                "{} from device memory and back, contents equal",
                bytes(copied.bytes)
            ),
        );
        user::unmap(machine, &context, &engine, &mapped)?.print(report);
        self.print_trace("step 5");

        report.step(6, "What is refused");
        let (other_handle, _) = other
            .create_block(&machine.privilege, FRAME_SIZE as u64)
            .or_fail("creating a block of the other file")?;
        let files = refusals::Files {
            machine,
            context: &context,
            block: &created,
            other: &other,
            other_handle,
            memory: memory.get(),
        };
        refusals::print(&files.try_all()?, report);
        self.print_trace("step 6");

        report.step(7, "Everything is given up, in order");
        self.log.set_recording(true);
        let mapped = user::map(machine, &context, &budget, memories.0)?;
        let machine_during = counters::of_machine(machine, &budget);
        let context_during = counters::of_context(context.usage());
        report.part("destroying the block while its producer runs and its view is open");
        let order = teardown::ordered(machine, Given::Pages, || {
            teardown::destroy(machine, &context, &created, view, ring)
        })?;
        order.print(report);
        report.part("unmapping memory of the user");
        let order = teardown::ordered(machine, Given::Pins, || {
            user::unmap_only(machine, &context, &mapped)
        })?;
        order.print(report);
        free(&context, memory)?;
        let context_after = counters::of_context(context.usage());
        context
            .close()
            .map_err(|refused| *refused.reason())
            .or_fail("closing the file")?;
        report.part("closing the other file, which tidied nothing up");
        user::map(machine, &other, &budget, memories.1)?;
        let invalidations = machine.asic.counters().invalidations_done;
        let left = other
            .close()
            .map_err(|refused| *refused.reason())
            .or_fail("closing the other file")?;
        let invalidations = machine.asic.counters().invalidations_done - invalidations;
        teardown::print_left(left, invalidations, report);
        process.exit();
        other_process.exit();
        self.print_trace("step 7");

        let mut compared = counters::compare(
            machine_before,
            machine_during,
            counters::of_machine(machine, &budget),
        );
        compared.extend(counters::compare(
            context_before,
            context_during,
            context_after,
        ));
        report.part("counters");
        counters::print(&compared, report);
        self.judge(machine, &compared)?;
        report.verdict(format_args!(
            "passed on {}: {} in {} copied without a difference at {}/s; \
             {} counters as before; {:.2} s",
            name_of::<A>(),
            bytes(streamed.bytes),
            count(streamed.records, "record"),
            bytes(throughput(&streamed)),
            compared.len(),
            self.started.elapsed().as_secs_f64(),
        ));
        Ok(())
    }

    /// Step 4: streams the input and shows how.
    fn stream(
        &self,
        stream: &Stream<'_>,
        input: &mut Input,
        copy: &mut BufWriter<File>,
    ) -> Result<StreamReport, Failure> {
        let report = self.report;
        report.field("input", input.name.display());
        let middle = stream.ring.block.len() / 2 / FRAME_SIZE as u64 * FRAME_SIZE as u64;
        if let Some(page) = stream.ring.block.skip(middle) {
            report.field("a walk of ASID 0", page.start());
            report.text(stream.ring.asic.explain(0, page.start()));
        }
        let progress = Progress::new(report, input.len);
        let streamed = stream.run(&mut input.bytes, copy, &progress);
        progress.finish();
        let streamed = streamed.map_err(|error| match error {
            StreamError::Input(_) | StreamError::Copy(_) => Failure::request(error),
            _ => Failure::check(error),
        })?;
        report.field(
            "through the ring",
            format_args!(
                "{} in {}, {}/s",
                bytes(streamed.bytes),
                count(streamed.records, "record"),
                bytes(throughput(&streamed))
            ),
        );
        report.field(
            "ring",
            format_args!(
                "wrapped {}, found full by the producer {}",
                count(streamed.wraps, "time"),
                count(streamed.times_full, "time")
            ),
        );
        report.field("BLAKE3 of the input", streamed.input);
        report.field("BLAKE3 of the copy", streamed.copy);
        if streamed.bytes > MAX_INPUT_BYTES {
            return Err(too_long(&input.name));
        }
        check(
            streamed.is_faithful(),
            format_args!(
                "the copy is not the input: {} is not {}",
                streamed.copy, streamed.input
            ),
        )?;
        Ok(streamed)
    }

    /// What the host and the device have against the driver.
    fn judge<A: Model>(
        &self,
        machine: &Machine<'_, '_, A>,
        compared: &[Compared],
    ) -> Result<(), Failure> {
        let mut complaints = counters::differences(compared);
        let host = machine.host.statistics();
        let asic = machine.asic.counters();
        let wrong = [
            ("device accesses to free pages", host.free_accesses),
            ("device accesses to unpinned pages", host.unpinned_accesses),
            (
                "device accesses to pages not mapped for DMA",
                host.unmapped_accesses,
            ),
            ("freed pages written to", host.poison_damaged),
            ("register protocols broken", asic.protocol_violations),
            ("writes to unknown registers", asic.unknown_writes),
        ];
        complaints.extend(
            wrong
                .iter()
                .filter(|(_, times)| *times != 0)
                .map(|(what, times)| format!("{what}: {times}")),
        );
        let damaged = machine.host.damaged_free_frames().len();
        if damaged != 0 {
            complaints.push(format!("free pages without their poison: {damaged}"));
        }
        check(complaints.is_empty(), complaints.join("; "))?;
        self.report.field(
            "the models' verdict",
            "no access to free or unpinned pages, no register protocol broken",
        );
        Ok(())
    }

    /// Prints the events since the last time and forgets them.
    fn print_trace(&self, of: &str) {
        let Some(trace) = self.trace else {
            self.log.clear();
            return;
        };
        let records = self.log.records();
        self.log.clear();
        self.report.part(format_args!(
            "events of {of}: {}",
            grouped(records.len() as u64)
        ));
        for row in records.chunk_by(|a, b| is_alike(&a.event, &b.event)) {
            match row {
                [first, between @ .., last] if trace == Trace::Events && row.len() > ROW => {
                    self.report.text(first);
                    self.report.text(format_args!(
                        "        ... {} more like it",
                        grouped(between.len() as u64)
                    ));
                    self.report.text(last);
                }
                _ => row.iter().for_each(|record| self.report.text(record)),
            }
        }
        if trace == Trace::Events {
            let translated = self.log.count(EventKind::DmaTranslate);
            self.report.text(format_args!(
                "        and {} so far, not kept (see --trace=full)",
                count(translated, "translation"),
            ));
        }
    }
}

/// Whether events that follow each other are parts of one piece of work on many pages or entries.
fn is_alike(a: &Event, b: &Event) -> bool {
    let work = |event: &Event| match event.kind() {
        // Moving a page frees the place it was in.
        EventKind::PageMove => Some(EventKind::PageFree),
        kind @ (EventKind::EntryStore
        | EventKind::Flush
        | EventKind::PageAllocate
        | EventKind::PageFree
        | EventKind::Pin
        | EventKind::Unpin) => Some(kind),
        _ => None,
    };
    work(a).is_some() && work(a) == work(b)
}

/// Bytes per second.
fn throughput(streamed: &StreamReport) -> u64 {
    let seconds = streamed.elapsed.as_secs_f64().max(f64::MIN_POSITIVE);
    (streamed.bytes as f64 / seconds) as u64
}

/// Has the user allocate device memory, by the bytes of the request. Returns its handle and where
/// it is.
fn allocate<A: Model>(
    machine: &Machine<'_, '_, A>,
    context: &MachineContext<'_, '_, '_, A>,
) -> Result<(PackHandle, Run), Failure> {
    let input = MemoryInput {
        arguments: [MEMORY_BYTES, 0, 0],
        op: OP_ALLOC,
        flags: FLAG_CONTIGUOUS,
        ..MemoryInput::default()
    };
    let output = uapi::dispatch(context, &input.to_bytes()).or_fail("ALLOC of device memory")?;
    let handle = PackHandle::new(output.value);
    let run = machine
        .device
        .dram_run(&machine.privilege, context.owner(), handle)
        .or_fail("finding the device memory")?;
    Ok((handle, run))
}

fn free<A: Model>(
    context: &MachineContext<'_, '_, '_, A>,
    handle: PackHandle,
) -> Result<(), Failure> {
    let input = MemoryInput {
        arguments: [handle.get(), 0, 0],
        op: OP_FREE,
        ..MemoryInput::default()
    };
    let freed = uapi::dispatch(context, &input.to_bytes());
    freed.map(drop).or_fail("FREE of device memory")
}
