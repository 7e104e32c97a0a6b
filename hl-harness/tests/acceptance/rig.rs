//! What the scenarios share: requests as a process makes them, data, and the comparison afterwards.

use std::sync::Arc;

use hl_harness::asic::{DmaEngine, InitiatorMode};
use hl_harness::host::{Process, UserAddress};
use hl_harness::log::EventLog;
use hl_harness::machine::{Machine, MachineConfig, MachineContext, Model, with_machine};
use hl_mem::Context;
use hl_mem::port::Port;
use hl_mem::profile::Asic;
use hl_mem::uapi::{
    self, Errno, FLAG_FORCE_HINT, FLAG_USERPTR, MemoryInput, OP_ALLOC, OP_FREE, OP_MAP, OP_UNMAP,
};
use mmu_core::{BusAddr, DeviceAddr};

pub(crate) const PAGE: u64 = 4096;
pub(crate) const LARGE: u64 = 2 << 20;

#[path = "../support/long.rs"]
mod long;
pub(crate) use long::is_long;

/// `long` where there is time for it, and `quick` otherwise.
pub(crate) fn scaled<T>(quick: T, long: T) -> T {
    if is_long() { long } else { quick }
}

#[path = "../support/each_asic.rs"]
mod each_asic;
pub(crate) use each_asic::on_each_asic;

#[path = "../support/each_asic_with_mapped_dram.rs"]
mod each_asic_with_mapped_dram;
pub(crate) use each_asic_with_mapped_dram::on_each_asic_with_mapped_dram;

/// A machine whose events are counted and not kept.
pub(crate) fn machine_of<A: Model>(
    config: MachineConfig,
    run: impl for<'s, 'm> FnOnce(&Machine<'s, 'm, A>),
) {
    with_machine::<A, _>(config, EventLog::new(), |machine| {
        run(machine);
        assert_no_harm(machine);
    })
    .expect("the machine has memory");
}

/// The same for a scenario that resets the device while others are amid a sequence of registers, of which
/// the device then sees the second half only.
pub(crate) fn resetting_machine_of<A: Model>(
    config: MachineConfig,
    run: impl for<'s, 'm> FnOnce(&Machine<'s, 'm, A>),
) {
    with_machine::<A, _>(config, EventLog::new(), |machine| {
        run(machine);
        assert_no_stray_access(machine);
    })
    .expect("the machine has memory");
}

/// A machine of the usual size, with two users.
pub(crate) fn machine<A: Model>(run: impl for<'s, 'm> FnOnce(&Machine<'s, 'm, A>)) {
    let config = MachineConfig {
        users: 2,
        ..MachineConfig::default()
    };
    machine_of(config, run);
}

/// Nobody touched what was not his: no page that was free or not pinned, no register wrongly.
fn assert_no_harm<A: Model>(machine: &Machine<'_, '_, A>) {
    assert_no_stray_access(machine);
    assert_eq!(machine.asic.counters().protocol_violations, 0);
}

fn assert_no_stray_access<A: Model>(machine: &Machine<'_, '_, A>) {
    let statistics = machine.host.statistics();
    let harm = (
        statistics.free_accesses,
        statistics.unpinned_accesses,
        statistics.unmapped_accesses,
        statistics.poison_damaged,
    );
    assert_eq!(harm, (0, 0, 0, 0), "stray accesses");
    assert_eq!(machine.host.damaged_free_frames(), []);
}

/// Opens a file of a process, runs the block with it, and closes it: the file must be as it was when
/// it was opened, and then the machine as before it was opened, to the last byte of its page tables.
macro_rules! with_file {
    ($machine:ident, |$context:ident, $process:ident| $run:block) => {{
        let budget = hl_mem::budget::Budget::unlimited();
        let snapshot = || hl_harness::stress::Snapshot::of($machine, &[], &[&budget]).without_dirt();
        let before = snapshot();
        let $process = $machine.spawn();
        let mut storage = $machine.storage();
        let $context = $machine.open(&$process, &budget, &mut storage).unwrap();
        let fresh = $context.usage();
        $run
        assert_eq!($context.usage(), fresh, "the file is not as it was opened");
        $context.close().unwrap();
        drop($process);
        snapshot().assert_is(&before, "after closing");
    }};
}
pub(crate) use with_file;

pub(crate) fn call<A: Asic, P: Port>(
    context: &Context<'_, '_, A, P>,
    input: MemoryInput,
) -> Result<u64, Errno> {
    uapi::dispatch(context, &input.to_bytes()).map(|reply| reply.value)
}

/// The request that maps memory of the process.
pub(crate) fn map_input(address: UserAddress, len: u64, hint: u64, flags: u32) -> MemoryInput {
    MemoryInput {
        arguments: [address.get(), hint, len],
        op: OP_MAP,
        flags: FLAG_USERPTR | flags,
        ..MemoryInput::default()
    }
}

/// Maps memory of the process anywhere.
pub(crate) fn map<A: Asic, P: Port>(
    context: &Context<'_, '_, A, P>,
    address: UserAddress,
    len: u64,
) -> Result<u64, Errno> {
    call(context, map_input(address, len, 0, 0))
}

/// Maps memory of the process at a device address.
pub(crate) fn map_at<A: Asic, P: Port>(
    context: &Context<'_, '_, A, P>,
    address: UserAddress,
    len: u64,
    at: u64,
) -> Result<u64, Errno> {
    call(context, map_input(address, len, at, FLAG_FORCE_HINT))
}

pub(crate) fn unmap<A: Asic, P: Port>(
    context: &Context<'_, '_, A, P>,
    at: u64,
) -> Result<u64, Errno> {
    let input = MemoryInput {
        arguments: [at, 0, 0],
        op: OP_UNMAP,
        ..MemoryInput::default()
    };
    call(context, input)
}

/// Allocates device memory, with `FLAG_*` bits.
pub(crate) fn allocate<A: Asic, P: Port>(
    context: &Context<'_, '_, A, P>,
    bytes: u64,
    flags: u32,
) -> Result<u64, Errno> {
    let input = MemoryInput {
        arguments: [bytes, 0, 0],
        op: OP_ALLOC,
        flags,
        ..MemoryInput::default()
    };
    call(context, input)
}

pub(crate) fn free<A: Asic, P: Port>(
    context: &Context<'_, '_, A, P>,
    handle: u64,
) -> Result<u64, Errno> {
    let input = MemoryInput {
        arguments: [handle, 0, 0],
        op: OP_FREE,
        ..MemoryInput::default()
    };
    call(context, input)
}

/// Maps device memory, at a hint unless that is 0, with `FLAG_*` bits.
pub(crate) fn map_dram<A: Asic, P: Port>(
    context: &Context<'_, '_, A, P>,
    handle: u64,
    hint: u64,
    flags: u32,
) -> Result<u64, Errno> {
    let input = MemoryInput {
        arguments: [hint, handle, 0],
        op: OP_MAP,
        flags,
        ..MemoryInput::default()
    };
    call(context, input)
}

/// An engine that works for the user.
pub(crate) fn engine<A: Model>(
    machine: &Machine<'_, '_, A>,
    context: &MachineContext<'_, '_, '_, A>,
) -> DmaEngine {
    let mode = InitiatorMode::User(context.asid().get());
    DmaEngine::new(&machine.asic, "user dma", mode)
}

/// What an engine reads from a device address on.
#[track_caller]
pub(crate) fn read<A: Model>(
    machine: &Machine<'_, '_, A>,
    engine: &DmaEngine,
    at: u64,
    len: u64,
) -> Vec<u8> {
    let mut bytes = vec![0; len as usize];
    let at = DeviceAddr::new(at);
    machine
        .asic
        .read(engine.initiator(), at, &mut bytes)
        .unwrap();
    bytes
}

/// What a process reads from an address on.
#[track_caller]
pub(crate) fn peek(process: &Process, address: UserAddress, len: u64) -> Vec<u8> {
    let mut bytes = vec![0; len as usize];
    process.read(address, &mut bytes).unwrap();
    bytes
}

/// Bytes in which each differs from its neighbours, and one such row from another.
pub(crate) fn pattern(len: u64, seed: u64) -> Vec<u8> {
    let bytes = 0..len;
    bytes
        .map(|at| ((at * 31 + at / PAGE * 7 + seed * 101) % 251) as u8)
        .collect()
}

/// The address that the device uses for the page behind an address of a process.
pub(crate) fn bus_of<A: Model>(
    machine: &Machine<'_, '_, A>,
    process: &Process,
    address: UserAddress,
) -> BusAddr {
    let frame = process.frame_at(address).unwrap();
    let bus = machine.host.bus_address(frame).get() + machine.asic.host_offset();
    BusAddr::new(bus + address.get() % PAGE)
}

/// The pins of each of so many pages from an address on.
pub(crate) fn pins<A: Model>(
    machine: &Machine<'_, '_, A>,
    process: &Arc<Process>,
    address: UserAddress,
    pages: u64,
) -> Vec<u32> {
    let frames = (0..pages).map(|page| process.frame_at(address.offset(page * PAGE)).unwrap());
    frames.map(|frame| machine.host.pins(frame)).collect()
}
