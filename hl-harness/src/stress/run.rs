//! Steps carried out on a machine and on the model, and everything compared.

mod children;
mod compare;
mod data;
mod deaths;
mod device_memory;
mod driver_memory;
mod events;
mod failures;
mod files;
mod registers;
mod rules;
mod summary;
mod user_memory;
mod views;

pub use summary::Summary;

use core::cell::Cell;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use hl_mem::budget::Budget;
use hl_mem::buffer::{BufferId, ViewPolicy};
use hl_mem::context::DramExport;
use mmu_core::DeviceAddr;

use super::disagreement::Disagreement;
use super::model::{Model, PageName, Rules};
use super::operations::{Kind, Operation, Step};
use super::scribe::Scribe;
use super::snapshot::Snapshot;
use crate::asic::{InitiatorId, InitiatorMode};
use crate::host::{Permission, Process, UserAddress};
use crate::log::EventLog;
use crate::machine::{
    self, FileStorage, Machine, MachineConfig, MachineContext, MachineView, with_machine,
};

/// Users at a time.
pub const USERS: usize = 3;
/// Scattered pages of each process.
const SCATTERED: u64 = 64;
/// Contiguous pages of each process, from a large boundary on.
const CONTIGUOUS: u64 = 1024;
/// Files that are opened before everything is closed and looked at as a whole.
const FILES: usize = 24;
/// Steps after which that happens at the latest.
const EPOCH: usize = 4000;
/// Pages that a user may have pinned: a little more than one large mapping.
const BUDGET: usize = 1300;
/// Pieces of device memory that a machine has records for.
const PACKS: usize = 64;

/// Where words are written in a page of so many bytes.
fn places(page: u64) -> [u64; 3] {
    [16, page / 2, page - 8]
}

/// Carries out steps on a new machine and on a new model. `watch` is told of every step.
///
/// # Errors
///
/// [`Disagreement`], also where the driver panics.
pub fn run<A: machine::Model>(
    steps: &[Step],
    watch: &dyn Fn(usize),
) -> Result<Summary, Disagreement> {
    written::<A>(steps, watch, &Scribe::default())
}

/// The same, and writes down what is done and expected.
pub(super) fn written<A: machine::Model>(
    steps: &[Step],
    watch: &dyn Fn(usize),
    scribe: &Scribe,
) -> Result<Summary, Disagreement> {
    let kind = match steps.first().map(|first| first.operation) {
        Some(Operation::Machine(kind)) => kind,
        _ => Kind::default(),
    };
    let views = match kind.many_views {
        true => ViewPolicy::Counted,
        false => ViewPolicy::Single,
    };
    let config = MachineConfig {
        frames: 8192,
        // Those of the default page as well, for each user and one more.
        tables: 256 + 130 * (USERS as u32 + 1),
        views,
        default_mapping: kind.default_page,
        users: USERS,
        mappings: 24,
        handles: 8,
        buffers: 12,
        timestamp_pools: 2,
        timestamps: 600,
        counters: 4,
        ..MachineConfig::default()
    };
    let progress = Progress {
        watch,
        at: Cell::new(0),
        during: Cell::new(None),
    };
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let mut outcome = Ok(Summary::default());
        let log = EventLog::new();
        let built = with_machine::<A, _>(config.clone(), log, |machine| {
            outcome = run_on(machine, &config, steps, (&progress, scribe));
        });
        match built {
            Ok(()) => outcome,
            Err(error) => Err(format!("no machine: {error}")),
        }
    }));
    let what = match outcome {
        Ok(Ok(summary)) => return Ok(summary),
        Ok(Err(what)) => what,
        Err(panic) => {
            let said = panic.downcast_ref::<String>().cloned();
            let said = said.or_else(|| panic.downcast_ref::<&str>().map(|said| (*said).to_owned()));
            format!("a panic: {}", said.unwrap_or_default())
        }
    };
    Err(Disagreement {
        step: progress.at.get(),
        during: progress.during.get(),
        what,
    })
}

/// Where a run is.
struct Progress<'w> {
    watch: &'w dyn Fn(usize),
    /// The number of the last step.
    at: Cell<usize>,
    /// That step, until it is done and compared.
    during: Cell<Option<Step>>,
}

impl Progress<'_> {
    fn begin(&self, number: usize, step: &Step) {
        self.at.set(number);
        self.during.set(Some(*step));
        (self.watch)(number);
    }

    fn end(&self) {
        self.during.set(None);
    }
}

fn run_on<A: machine::Model>(
    machine: &Machine<'_, '_, A>,
    config: &MachineConfig,
    steps: &[Step],
    (progress, scribe): (&Progress<'_>, &Scribe),
) -> Result<Summary, String> {
    scribe.step(format_args!(
        "machine frames {} tables {} users {} mappings {} handles {} buffers {} packs {PACKS} pools {} \
         timestamps {} counters {}{}{}",
        config.frames,
        config.tables,
        config.users,
        config.mappings,
        config.handles,
        config.buffers,
        config.timestamp_pools,
        config.timestamps,
        config.counters,
        match config.views {
            ViewPolicy::Counted => " views counted",
            ViewPolicy::Single => "",
        },
        if config.default_mapping {
            " default-page"
        } else {
            ""
        },
    ));
    let rules = rules::of::<A>(config);
    let mut summary = Summary::default();
    let mut first = 0;
    // Initiators are never taken away: each user keeps his, and the driver has the last one.
    let engine = |_| {
        machine
            .asic
            .add_initiator("user dma", InitiatorMode::Privileged)
    };
    let engines: Vec<InitiatorId> = (0..=USERS).map(engine).collect();
    while first < steps.len() {
        let before = Snapshot::of(machine, &[], &[]).without_dirt();
        let rest = &steps[first..steps.len().min(first + EPOCH)];
        let budgets: Vec<Budget> = (0..USERS).map(|_| Budget::new(BUDGET)).collect();
        let mut storages: Vec<_> = (0..FILES).map(|_| machine.storage()).collect();
        let mut epoch = Epoch::begin(
            (machine, scribe),
            &rules,
            &budgets,
            &engines,
            storages.iter_mut(),
        )?;
        for (number, step) in rest.iter().enumerate() {
            if epoch.is_over() {
                break;
            }
            progress.begin(first + number, step);
            epoch.step(step)?;
            progress.end();
            epoch.look_around(first + number)?;
        }
        first += epoch.summary.steps as usize;
        summary.add(&epoch.end()?);
        let after = Snapshot::of(machine, &[], &[]).without_dirt();
        scribe.step("expect same as start except dirty-frames");
        let difference = after.difference(&before);
        if !difference.is_empty() {
            return Err(format!(
                "after closing everything: {}",
                difference.join("\n")
            ));
        }
    }
    Ok(summary)
}

/// An export and the file that it was made by.
struct Exported {
    /// What a scenario calls it.
    name: String,
    pack: u64,
    user: usize,
    file: u64,
    at: u64,
    export: DramExport,
}

/// A view and what it is of.
struct Shown<'m, A: machine::Model> {
    /// What a scenario calls it.
    name: String,
    viewer: Viewer,
    buffer: u64,
    /// The pages that were given back.
    gone: BTreeSet<u64>,
    view: MachineView<'m, A>,
}

/// Whose process a view is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Viewer {
    User(usize),
    /// A child, by a number that no other one has.
    Child(u64),
}

/// A process that forked off.
struct Child {
    number: u64,
    process: Arc<Process>,
}

/// The time from one moment at which everything is closed to the next.
struct Epoch<'c, 's, 'm, A: machine::Model> {
    machine: &'c Machine<'s, 'm, A>,
    scribe: &'c Scribe,
    rules: &'c Rules,
    budgets: &'c [Budget],
    engines: &'c [InitiatorId],
    storages: core::slice::IterMut<'c, FileStorage<'m, A>>,
    processes: Vec<Arc<Process>>,
    /// Where the scattered and the contiguous pages of each process begin.
    memory: Vec<(UserAddress, UserAddress)>,
    contexts: Vec<Option<MachineContext<'c, 's, 'm, A>>>,
    model: Model,
    views: Vec<Shown<'m, A>>,
    children: Vec<Child>,
    exports: Vec<Exported>,
    blocks: std::collections::BTreeMap<u64, BufferId>,
    summary: Summary,
    over: bool,
}

impl<'c, 's, 'm, A: machine::Model> Epoch<'c, 's, 'm, A> {
    fn begin(
        (machine, scribe): (&'c Machine<'s, 'm, A>, &'c Scribe),
        rules: &'c Rules,
        budgets: &'c [Budget],
        engines: &'c [InitiatorId],
        storages: core::slice::IterMut<'c, FileStorage<'m, A>>,
    ) -> Result<Self, String> {
        scribe.step("snapshot start");
        let mut model = Model::default();
        let processes: Vec<_> = (0..USERS).map(|_| machine.spawn()).collect();
        // The contiguous ones first, before the others are scattered over all of memory.
        let pieces = processes
            .iter()
            .map(|process| process.map_contiguous(CONTIGUOUS as usize, 512, Permission::ReadWrite));
        let pieces: Vec<_> = pieces
            .collect::<Result<_, _>>()
            .map_err(|error| format!("no memory for processes: {error}"))?;
        let mut memory = Vec::new();
        for (process, contiguous) in processes.iter().zip(pieces) {
            let scattered = process
                .map(SCATTERED as usize, Permission::ReadWrite)
                .map_err(|error| format!("no memory for processes: {error}"))?;
            memory.push((scattered, contiguous));
            let names = (0..SCATTERED + CONTIGUOUS).map(|_| PageName::User(model.name()));
            let names = names.collect();
            model.memory.push(names);
        }
        let mut epoch = Self {
            machine,
            scribe,
            rules,
            budgets,
            engines,
            storages,
            processes,
            memory,
            contexts: (0..USERS).map(|_| None).collect(),
            model,
            views: Vec::new(),
            children: Vec::new(),
            exports: Vec::new(),
            blocks: std::collections::BTreeMap::new(),
            summary: Summary::default(),
            over: false,
        };
        for user in 0..USERS {
            let number = epoch.model.name();
            epoch.model.files.push(super::model::File {
                number,
                ..Default::default()
            });
            epoch.open(user)?;
        }
        for user in 0..USERS {
            let bytes = CONTIGUOUS * epoch.rules.page;
            scribe.step(format_args!(
                "buffer u[{user}] c[{user}] {bytes:#x} contiguous 2 MiB"
            ));
        }
        for user in 0..USERS {
            scribe.step(format_args!("buffer u[{user}] s[{user}] {SCATTERED} pages"));
        }
        Ok(epoch)
    }

    fn is_over(&self) -> bool {
        self.over
    }

    /// The open file of a user.
    fn context(&self, user: usize) -> Result<&MachineContext<'c, 's, 'm, A>, String> {
        let context = self.contexts[user].as_ref();
        context.ok_or_else(|| format!("user {user} has no file"))
    }

    /// Carries out a step, and compares what it may have changed.
    fn step(&mut self, step: &Step) -> Result<(), String> {
        self.summary.steps += 1;
        self.arm(step.failure);
        let Step {
            user,
            operation,
            failure,
        } = *step;
        let outcome = match operation {
            Operation::Machine(_) => Ok(()),
            Operation::Map {
                start,
                len,
                contiguous,
                place,
            } => self.map(user, failure, (start, len, contiguous), place),
            Operation::MapDram { pack, place } => self.map_dram(user, failure, pack, place),
            Operation::Unmap(which) => self.unmap(user, failure, which),
            Operation::UnmapNothing(which) => self.unmap_nothing(user, which),
            Operation::CreateBlock(pages) => self.create_block(user, failure, pages),
            Operation::MapBlock(which) => self.map_block(user, failure, which),
            Operation::CreateCommandBuffer { pages, mapped } => {
                self.create_command_buffer(user, failure, pages, mapped)
            }
            Operation::Registers(which) => self.registers(user, which),
            Operation::CreateTimestamps(count) => self.create_timestamps(user, failure, count),
            Operation::Register { pool, slot, target } => self.register(user, pool, slot, target),
            Operation::Reach(value) => self.reach(user, value),
            Operation::Destroy(which) => self.destroy(user, failure, which),
            Operation::DestroyNothing(which) => self.destroy_nothing(user, which),
            Operation::View { object, wrong } => self.view(user, object, wrong),
            Operation::EndView(which) => self.end_view(which),
            Operation::EndPage { view, page } => self.end_page(view, page),
            Operation::Fork => self.fork(user, failure),
            Operation::Exit(which) => self.exit(which),
            Operation::Allocate {
                pages,
                contiguous,
                shared,
            } => self.allocate(user, pages, contiguous, shared),
            Operation::Free(which) => self.free(user, which),
            Operation::Export(which) => self.export(user, which),
            Operation::EndExport(which) => self.end_export(which),
            Operation::Write { mapping, at, stamp } => self.write(user, mapping, at, stamp),
            Operation::Read { mapping, at } => self.read(user, mapping, at),
            Operation::Stray(which) => self.stray(user, which),
            Operation::Store { at, stamp } => self.store(user, at, stamp),
            Operation::Replace(which) => self.replace(user, which),
            Operation::Reclaim => {
                self.scribe.step("reclaim");
                self.machine.host.reclaim();
                Ok(())
            }
            Operation::Settle => self.settle(),
            Operation::Reopen => self.reopen(user),
            Operation::Report => self.report(),
            Operation::Hear(most) => self.hear(user, 1 + most as usize % 6),
            Operation::Die { kept, noted } => self.die(user, kept, noted),
        };
        if failure.is_some() {
            self.disarm();
        }
        outcome?;
        self.compare(user)
    }

    /// Compares after some steps what takes long.
    fn look_around(&self, number: usize) -> Result<(), String> {
        if number.is_multiple_of(64) {
            self.compare_pins()?;
        }
        if number.is_multiple_of(512) {
            for user in 0..USERS {
                self.compare(user)?;
                self.compare_translations(user)?;
            }
        }
        Ok(())
    }

    // --- data ---

    /// Reads a word as the device does.
    fn device_word(&self, engine: InitiatorId, at: u64) -> Result<u64, crate::asic::AccessError> {
        let mut bytes = [0; 8];
        let at = DeviceAddr::new(at);
        self.machine.asic.read(engine, at, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Compares a word that was read from a page.
    fn check_word(&mut self, page: PageName, place: u64, word: u64) -> Result<(), String> {
        self.summary.compared += 1;
        let wanted = match self.model.may_read(page, place, word) {
            true => word,
            false => self.model.wanted(page, place),
        };
        self.scribe.outcome(format_args!("expect word {wanted:#x}"));
        if self.model.may_read(page, place, word) {
            Ok(())
        } else {
            Err(format!("{word:#x} is read from {page:?} + {place:#x}"))
        }
    }

    /// A page of a process, and a byte in it, as a scenario writes it.
    fn written(user: usize, number: u64, byte: u64) -> (String, u64) {
        match number.checked_sub(SCATTERED) {
            None => (format!("s[{user}]"), (number << 12) + byte),
            Some(number) => (format!("c[{user}]"), (number << 12) + byte),
        }
    }

    /// Where a process has its page of a number.
    fn address(&self, user: usize, number: u64) -> UserAddress {
        let (scattered, contiguous) = self.memory[user];
        match number.checked_sub(SCATTERED) {
            None => scattered.offset(number * self.rules.page),
            Some(number) => contiguous.offset(number * self.rules.page),
        }
    }
}
