//! The MMUs of Gaudi2 (facts 9.3): one for host memory, sixteen for device memory.

mod dram;
mod host;
mod instance;

pub use dram::{Gaudi2DramMmu, Gaudi2DramRegisters};
pub use host::{Gaudi2HostMmu, Gaudi2HostRegisters, HostPages};

use crate::asid::Asid;

use super::{EveryMmu, MmuControl, MmuError, Registers};

/// The MMUs of one Gaudi2 together.
#[derive(Debug)]
pub struct Gaudi2Mmus<'m, R, const STACKS: u64, const ASIDS: usize> {
    host: &'m mut Gaudi2HostMmu<R, ASIDS>,
    dram: &'m mut Gaudi2DramMmu<R, STACKS, ASIDS>,
}

impl<'m, R: Registers, const STACKS: u64, const ASIDS: usize> Gaudi2Mmus<'m, R, STACKS, ASIDS> {
    /// The MMU for host memory and those for device memory; `None` where they are not of the same
    /// device.
    #[must_use]
    pub fn new(
        host: &'m mut Gaudi2HostMmu<R, ASIDS>,
        dram: &'m mut Gaudi2DramMmu<R, STACKS, ASIDS>,
    ) -> Option<Self> {
        let same = host
            .hardware()
            .registers
            .is_same_device(&dram.hardware().registers);
        same.then_some(Self { host, dram })
    }
}

#[expect(unsafe_code, reason = "passes on what all MMUs confirmed")]
// SAFETY: Gaudi2 has no other MMUs (facts 9.3), each call asks both drivers, and `new` has seen
// that both are of the same device.
unsafe impl<R: Registers, const STACKS: u64, const ASIDS: usize> EveryMmu
    for Gaudi2Mmus<'_, R, STACKS, ASIDS>
{
    fn park_everywhere(&mut self, asid: Asid) -> Result<(), MmuError> {
        self.host.park(asid)?;
        self.dram.park(asid)
    }

    fn invalidate_everywhere(&mut self) -> Result<(), MmuError> {
        self.host.invalidate_all()?;
        self.dram.invalidate_all()
    }
}
