//! A reset of the device, with what a port does about it.

use std::sync::atomic::Ordering;

use hl_mem::device::BringUpError;
use hl_mem::dram;

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
        // Before the device does: whoever recovers it meanwhile knows of too much, never of too little.
        if content == DramContent::Undefined {
            self.forgot_dram.store(true, Ordering::Relaxed);
        }
        asic.reset(content);
        asic.bar_move(A::PROFILE.device_tables.start())
            .expect("the page tables lie in device memory");
        asic.set_initiator_mode(scrubber(), InitiatorMode::Bypass);
    }
    /// Brings the device back after a [`reset`](Self::reset), and tells the driver what is true of the device
    /// memory: after a reset that made it undefined, that nobody knows what is in it, which costs a scrub of
    /// each page before its next use; otherwise that it is as it was.
    ///
    /// # Errors
    ///
    /// Those of [`Device::recover`](hl_mem::Device::recover).
    pub fn recover(&self) -> Result<(), BringUpError> {
        // The driver takes it in whether or not it succeeds: once is enough.
        let forgot = self.forgot_dram.swap(false, Ordering::Relaxed);
        self.recover_with(match forgot {
            true => dram::DramContent::Unknown,
            false => dram::DramContent::Scrubbed,
        })
    }

    /// Brings the device back after a reset that left `content` in device memory, whatever is true of it, and
    /// gives the engine that overwrites that its bypass back.
    ///
    /// # Errors
    ///
    /// Those of [`Device::recover`](hl_mem::Device::recover).
    pub fn recover_with(&self, content: dram::DramContent) -> Result<(), BringUpError> {
        self.asic
            .set_initiator_mode(scrubber(), InitiatorMode::Bypass);
        self.device.recover(content)
    }
}
