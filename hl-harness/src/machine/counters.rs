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
        let device = OF_DEVICE.iter().map(|(name, count)| (*name, count(self)));
        device.chain(self.host.named()).collect()
    }

    /// The names alone, in the same order.
    pub(crate) fn names() -> impl Iterator<Item = &'static str> {
        let device = OF_DEVICE.iter().map(|(name, _)| *name);
        device.chain(HostCounters::NAMES.iter().copied())
    }
}

/// A counter's name, and what it counts.
type Counter = (&'static str, fn(&MachineCounters) -> u64);

/// What is counted besides the pages of the host.
const OF_DEVICE: &[Counter] = &[
    ("page tables", |all| all.tables.into()),
    ("privileged address bytes", |all| {
        all.device.privileged_bytes
    }),
    ("privileged free extents", |all| {
        all.device.privileged_extents.into()
    }),
    ("kernel buffers", |all| all.device.buffers.buffers.into()),
    ("kernel buffers in quarantine", |all| {
        all.device.buffers.quarantined.into()
    }),
    ("views of kernel buffers", |all| {
        all.device.buffers.views.into()
    }),
    ("holds of kernel buffers", |all| {
        all.device.buffers.holds.into()
    }),
    ("views of registers", |all| all.device.register_views.into()),
    ("free user address spaces", |all| {
        all.device.free_asids.into()
    }),
    ("free device memory pages", |all| {
        let DramUsage { clean, dirty, .. } = all.device.dram;
        (clean + dirty).into()
    }),
    ("device memory pages being scrubbed", |all| {
        all.device.dram.scrubbing.into()
    }),
    ("device memory pages in use", |all| {
        all.device.dram.allocated.into()
    }),
    ("device memory packs", |all| {
        let DramUsage { packs, orphans, .. } = all.device.dram;
        (packs + orphans).into()
    }),
];
