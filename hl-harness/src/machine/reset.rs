//! A reset of the device, with what a port does about it.

use super::{Machine, Model};
use crate::asic::{DramContent, InitiatorId, InitiatorMode};

/// The engine by which a machine overwrites device memory: its first initiator. A test makes scrubs
/// fail by taking its bypass away.
#[must_use]
pub const fn scrubber() -> InitiatorId {
    InitiatorId(0)
}

impl<A: Model> Machine<'_, '_, A> {
    /// Resets the device, whether or not it is lost, and brings back what a port has set up there before
    /// it calls [`Device::recover`](hl_mem::Device::recover): the window of the BAR, behind which the
    /// page tables lie, and the mode of the engine that overwrites device memory. A bare
    /// [`Asic::reset`](crate::asic::Asic::reset) leaves a machine that cannot scrub.
    ///
    /// # Panics
    ///
    /// Where the ASIC has no memory for its page tables, which a running machine has.
    pub fn reset(&self, content: DramContent) {
        let asic = &self.asic;
        asic.reset(content);
        asic.bar_move(A::PROFILE.device_tables.start())
            .expect("the page tables lie in device memory");
        asic.set_initiator_mode(scrubber(), InitiatorMode::Bypass);
    }
}
