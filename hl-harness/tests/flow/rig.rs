//! What the tests of the flow share.

use hl_harness::asic::InitiatorMode;
use hl_harness::host::UserAddress;
use hl_harness::log::EventLog;
use hl_harness::machine::{Machine, MachineConfig, Model, with_machine};
use hl_mem::uapi::{FLAG_USERPTR, MemoryInput, OP_MAP, OP_UNMAP};

#[path = "../support/each_asic.rs"]
mod each_asic;
pub(crate) use each_asic::on_each_asic;
#[path = "../support/each_asic_with_mapped_dram.rs"]
mod each_asic_with_mapped_dram;
pub(crate) use each_asic_with_mapped_dram::on_each_asic_with_mapped_dram;

/// A machine with two users, whose log is kept.
pub(crate) fn machine<A: Model>(run: impl for<'s, 'm> FnOnce(&Machine<'s, 'm, A>)) {
    machine_of(
        MachineConfig {
            users: 2,
            ..MachineConfig::default()
        },
        run,
    );
}

/// A machine of any size, whose log is kept.
pub(crate) fn machine_of<A: Model>(
    config: MachineConfig,
    run: impl for<'s, 'm> FnOnce(&Machine<'s, 'm, A>),
) {
    with_machine::<A, _>(config, EventLog::recording(), run).expect("the machine has memory");
}

/// The mode of an initiator that works for a user.
pub(crate) fn user_mode(asid: hl_mem::UserAsid) -> InitiatorMode {
    InitiatorMode::User(asid.get())
}

/// The request that maps user memory where the driver pleases.
pub(crate) fn map_input(address: UserAddress, len: u64) -> MemoryInput {
    MemoryInput {
        arguments: [address.get(), 0, len],
        op: OP_MAP,
        flags: FLAG_USERPTR,
        ..MemoryInput::default()
    }
}

/// The request that unmaps what was mapped at the device address `at`.
pub(crate) fn unmap_input(at: u64) -> MemoryInput {
    MemoryInput {
        arguments: [at, 0, 0],
        op: OP_UNMAP,
        ..MemoryInput::default()
    }
}

/// A request about memory.
pub(crate) fn memory_input(op: u32, arguments: [u64; 3]) -> MemoryInput {
    MemoryInput {
        op,
        arguments,
        ..MemoryInput::default()
    }
}

/// Opens a file on a machine, runs a block with it, closes it, and compares the counters.
macro_rules! with_file {
    ($machine:ident, $context:ident, $run:block) => {{
        let before = $machine.counters();
        let (budget, process) = (hl_mem::budget::Budget::unlimited(), $machine.spawn());
        let mut storage = $machine.storage();
        let $context = $machine.open(&process, &budget, &mut storage).unwrap();
        let fresh = ($machine.counters(), $context.usage());
        $run
        assert_eq!(($machine.counters(), $context.usage()), fresh);
        $context.close().unwrap();
        drop(process);
        assert_eq!($machine.counters(), before);
    }};
}
pub(crate) use with_file;
