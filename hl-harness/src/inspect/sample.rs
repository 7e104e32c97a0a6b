//! A workload that leaves something to look at.

use hl_mem::budget::Budget;
use hl_mem::profile::{Gaudi, Gaudi2, Goya};
use hl_mem::uapi::{self, FLAG_CONTIGUOUS, FLAG_USERPTR, MemoryInput, OP_ALLOC, OP_MAP, OP_UNMAP};
use mmu_core::DeviceAddr;

use super::state::State;
use crate::asic::{Completion, InitiatorMode, Operation};
use crate::host::{FRAME_SIZE, Permission};
use crate::log::EventLog;
use crate::machine::{Machine, MachineConfig, Model, with_machine};
use crate::scenario::words::AsicWord;

/// Pages in a large leaf of host memory.
const LARGE: u64 = 512;

/// What [`sample`] does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampleOptions {
    /// The device.
    pub asic: AsicWord,
    /// How many mappings are made; about one in five is unmapped again.
    pub mappings: u32,
    /// What decides the lengths and the order.
    pub seed: u64,
}

/// Runs a small workload and looks at its end: blocks in the privileged address space, and a user
/// with mappings of many lengths, of scattered and of contiguous pages and of device memory where
/// the ASIC maps that; some are unmapped again, the last of them without a confirmation; the device
/// uses some, and one that is gone.
///
/// # Errors
///
/// What the machine, `hl-mem` or the system refuses, in words.
pub fn sample(options: SampleOptions) -> Result<State, String> {
    match options.asic {
        AsicWord::Goya => sample_on::<Goya>(options),
        AsicWord::Gaudi => sample_on::<Gaudi>(options),
        AsicWord::Gaudi2 => sample_on::<Gaudi2<6>>(options),
        AsicWord::Gaudi2Five => sample_on::<Gaudi2<5>>(options),
    }
}

fn sample_on<A: Model>(options: SampleOptions) -> Result<State, String> {
    let mappings = options.mappings;
    let config = MachineConfig {
        frames: 1 << 15 | (mappings.saturating_mul(8)).next_power_of_two(),
        tables: 1024 + mappings / 8,
        mappings: mappings as usize + 1,
        ..MachineConfig::default()
    };
    let run = |machine: &Machine<'_, '_, A>| run(machine, options);
    with_machine::<A, _>(config, EventLog::recording(), run)
        .map_err(|error| format!("no memory for the host: {error}"))?
}

fn run<A: Model>(machine: &Machine<'_, '_, A>, options: SampleOptions) -> Result<State, String> {
    let in_words = |error: &dyn core::fmt::Debug| format!("the sample failed: {error:?}");
    let mut random = fastrand::Rng::with_seed(options.seed);
    let budget = Budget::unlimited();
    let process = machine.spawn();
    // Pages in one piece are rare once others have taken theirs.
    let large = process
        .map_contiguous(4 * LARGE as usize, LARGE as usize, Permission::ReadWrite)
        .map_err(|error| in_words(&error))?;
    let mut storage = machine.storage();
    let context = machine
        .open(&process, &budget, &mut storage)
        .map_err(|error| in_words(&error))?;
    for pages in [3_u64, 9, 17] {
        context
            .create_block(&machine.privilege, pages * FRAME_SIZE as u64)
            .map_err(|error| in_words(&error))?;
    }
    let request = |arguments, op, flags| {
        let input = MemoryInput {
            arguments,
            op,
            flags,
            ..MemoryInput::default()
        };
        uapi::dispatch(&context, &input.to_bytes()).map(|reply| reply.value)
    };
    let page_bytes = A::PROFILE.dram.page_bytes;
    let device_memory = match A::PROFILE.dram.mapped_at {
        Some(_) => {
            let pack = request([3 * page_bytes, 0, 0], OP_ALLOC, FLAG_CONTIGUOUS);
            Some(pack.map_err(|error| in_words(&error))?)
        }
        None => None,
    };
    let user = InitiatorMode::User(context.asid().get());
    let engine = machine.asic.add_initiator("sample", user);
    let mut live: Vec<u64> = Vec::new();
    let mut gone = None;
    for number in 0..options.mappings {
        // Each of these pins a thousand pages: a few are enough.
        let contiguous = number % 8 == 2 && (number < 64 || number % 256 == 2);
        let at = match (number % 8, device_memory) {
            _ if contiguous => {
                let pages = [2 * LARGE, 2 * LARGE + 5, 3 * LARGE][random.usize(..3)];
                let first = large.offset(random.u64(..LARGE) * FRAME_SIZE as u64);
                let bytes = pages * FRAME_SIZE as u64;
                request([first.get(), 0, bytes], OP_MAP, FLAG_USERPTR)
            }
            (5, Some(pack)) => request([0, pack, 0], OP_MAP, 0),
            _ => {
                let most = 1 << random.u64(..4);
                let pages = 1 + random.u64(..most);
                let memory = process
                    .map(pages as usize, Permission::ReadWrite)
                    .map_err(|error| in_words(&error))?;
                let bytes = pages * FRAME_SIZE as u64;
                request([memory.get(), 0, bytes], OP_MAP, FLAG_USERPTR)
            }
        };
        let at = at.map_err(|error| in_words(&error))?;
        live.push(at);
        // What the device uses it has cached, and must forget when it is unmapped.
        if random.u64(..3) == 0 {
            let used = machine.asic.read(engine, DeviceAddr::new(at), &mut [0; 64]);
            used.map_err(|error| in_words(&error))?;
        }
        if number % 10 == 9 && live.len() > 1 {
            let at = live.swap_remove(random.usize(..live.len()));
            request([at, 0, 0], OP_UNMAP, 0).map_err(|error| in_words(&error))?;
            gone = Some(at);
        }
    }
    // Holes that nobody fills again.
    for _ in 0..options.mappings / 10 {
        let at = live.swap_remove(random.usize(..live.len()));
        request([at, 0, 0], OP_UNMAP, 0).map_err(|error| in_words(&error))?;
        gone = Some(at);
    }
    if let Some(at) = gone {
        // Refused, which is what the log is to show.
        let _ = machine.asic.read(engine, DeviceAddr::new(at), &mut [0; 8]);
    }
    if let Some(at) = live.pop().filter(|_| live.len() > 1) {
        machine
            .asic
            .inject(Operation::Invalidation, 1, 1000, Completion::Never);
        // It ends in quarantine, which is what the state is to show.
        let _ = request([at, 0, 0], OP_UNMAP, 0);
        machine.asic.clear_injections();
    }
    let title = format!(
        "sample of {} mappings on {}",
        options.mappings, options.asic
    );
    let state = State::capture(&title, machine, &[&context]);
    context.close().map_err(|refused| in_words(&refused))?;
    Ok(state)
}
