//! A reset of the device, with what a port does about it.

use crate::asic::{DramContent, InitiatorId};
use crate::machine::{Machine, Model};

/// The engine by which a machine overwrites device memory: its first initiator. A test makes scrubs
/// fail by taking its bypass away.
#[must_use]
pub const fn scrubber() -> InitiatorId {
    InitiatorId(0)
}

/// Resets the device, whether or not it is lost, and brings back what a port has set up there before
/// it calls [`Machine::recover`]: the window of the BAR, behind which the page tables lie.
///
/// # Panics
///
/// Where the ASIC has no memory for its page tables, which a running machine has.
pub fn reset<A: Model>(machine: &Machine<'_, '_, A>, content: DramContent) {
    let asic = &machine.asic;
    asic.reset(content);
    asic.bar_move(A::PROFILE.device_tables.start())
        .expect("the page tables lie in device memory");
}
