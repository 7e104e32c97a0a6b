//! Everything countable of a machine.

use hl_mem::device::DeviceUsage;
use hl_mem::dram::DramUsage;

use crate::host::HostCounters;

/// Everything countable of a machine that a finished piece of work must leave as it found it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MachineCounters {
    /// Page tables in use.
    pub tables: u32,
    /// Pages of the host.
    pub host: HostCounters,
    /// What the device has in use.
    pub device: DeviceUsage,
}

impl MachineCounters {
    /// The same without the traces that use and resets leave by design: which free device memory is to be
    /// scrubbed before its next owner has it, and which pages of processes are dirty.
    #[must_use]
    pub fn without_dirt(mut self) -> Self {
        let dram = &mut self.device.dram;
        dram.clean += core::mem::take(&mut dram.dirty);
        self.host.dirty_frames = 0;
        self
    }

    /// Each counter by name.
    #[must_use]
    pub fn named(&self) -> Vec<(&'static str, u64)> {
        let device = self.device;
        let DramUsage {
            clean,
            dirty,
            scrubbing,
            allocated,
            packs,
            orphans,
            ..
        } = device.dram;
        let mut named = vec![
            ("page tables", u64::from(self.tables)),
            ("privileged address bytes", device.privileged_bytes),
            (
                "privileged free extents",
                u64::from(device.privileged_extents),
            ),
            ("kernel buffers", u64::from(device.buffers.buffers)),
            (
                "kernel buffers in quarantine",
                u64::from(device.buffers.quarantined),
            ),
            ("views of kernel buffers", u64::from(device.buffers.views)),
            ("holds of kernel buffers", u64::from(device.buffers.holds)),
            ("views of registers", u64::from(device.register_views)),
            ("free user address spaces", u64::from(device.free_asids)),
            ("free device memory pages", u64::from(clean + dirty)),
            ("device memory pages being scrubbed", u64::from(scrubbing)),
            ("device memory pages in use", u64::from(allocated)),
            ("device memory packs", u64::from(packs + orphans)),
        ];
        named.extend(self.host.named());
        named
    }
}
