//! Counters, pins and translations, compared with the model.

use mmu_core::DeviceAddr;

use super::super::model::{Buffer, Memory};
use super::Epoch;
use crate::machine;

impl<A: machine::Model> Epoch<'_, '_, '_, A> {
    /// Compares everything countable of a user and of the device.
    pub(super) fn compare(&self, user: usize) -> Result<(), String> {
        let (model, file) = (&self.model, &self.model.files[user]);
        let usage = self.context(user)?.usage();
        let device = self.machine.device.usage();
        let buffers = model.buffers.values();
        let count = |what: &dyn Fn(&Buffer) -> u32| buffers.clone().map(what).sum();
        let views: u32 = count(&|buffer| buffer.views);
        let holds: u32 = count(&|buffer| buffer.holds);
        let quarantined: u32 = count(&|buffer| u32::from(buffer.quarantined));
        let privileged = buffers
            .clone()
            .filter(|buffer| buffer.privileged || buffer.quarantined)
            .map(|buffer| buffer.pages * self.rules.page)
            .sum::<u64>();
        let mut pairs = vec![
            (
                "mappings",
                u64::from(usage.mappings),
                file.mapping_count() as u64,
            ),
            (
                "mappings in quarantine",
                usage.quarantined.into(),
                file.quarantine.len() as u64,
            ),
            (
                "timestamps that wait",
                usage.timestamps.into(),
                file.pools
                    .values()
                    .map(|pool| pool.waiting.len() as u64)
                    .sum(),
            ),
            ("handles", usage.handles.into(), file.handles.len() as u64),
            (
                "charge",
                self.budgets[user].charged() as u64,
                model.charged(user),
            ),
            (
                "buffers",
                device.buffers.buffers.into(),
                model.buffers.len() as u64,
            ),
            ("views", device.buffers.views.into(), views.into()),
            ("holds", device.buffers.holds.into(), holds.into()),
            (
                "buffers in quarantine",
                device.buffers.quarantined.into(),
                quarantined.into(),
            ),
            ("privileged addresses", device.privileged_bytes, privileged),
            (
                "pages of device memory",
                device.dram.allocated.into(),
                model.dram_used(),
            ),
            (
                "pieces of device memory",
                device.dram.packs.into(),
                model.packs.len() as u64,
            ),
        ];
        // Where a mapping was that failed half way, nobody is told.
        if file.quarantine.iter().all(|mapping| mapping.kept.1 != 0) {
            pairs.push(("device addresses", usage.bytes, file.addresses()));
        }
        for (what, driver, model) in pairs {
            if driver != model {
                return Err(format!(
                    "{what}: the driver has {driver}, the model {model}"
                ));
            }
        }
        Ok(())
    }

    /// Compares the pins of every page of every process, and all pins.
    pub(super) fn compare_pins(&self) -> Result<(), String> {
        let expected = self.model.pins();
        let total: u64 = expected.values().map(|pins| u64::from(*pins)).sum();
        let pins = self.machine.host.counters().pins;
        if pins != total {
            return Err(format!("{pins} pins, and {total} in the model"));
        }
        for (user, process) in self.processes.iter().enumerate() {
            for (number, name) in (0..).zip(&self.model.memory[user]) {
                let address = self.address(user, number);
                let frame = process.frame_at(address);
                let frame = frame.ok_or_else(|| format!("{address} is not mapped"))?;
                let pins = self.machine.host.pins(frame);
                if pins != expected.get(name).copied().unwrap_or(0) {
                    return Err(format!("{name:?} has {pins} pins"));
                }
            }
        }
        Ok(())
    }

    /// Compares where each page of each mapping of user memory leads, without caches.
    pub(super) fn compare_translations(&self, user: usize) -> Result<(), String> {
        let asid = self.context(user)?.asid().get();
        let names = &self.model.memory[user];
        for mapping in self.model.files[user].mappings.values() {
            let Memory::User(pages) = &mapping.memory else {
                continue;
            };
            for (number, page) in (0..).zip(pages) {
                // A page that the process has given up is nowhere to be looked up.
                let Some(known) = names.iter().position(|name| name == page) else {
                    continue;
                };
                let frame = self.processes[user].frame_at(self.address(user, known as u64));
                let bus = frame.map(|frame| self.machine.host.bus_address(frame).get());
                let wanted = bus.map(|bus| bus + self.machine.asic.host_offset());
                let at = DeviceAddr::new(mapping.start + number * self.rules.page);
                let there = self.machine.asic.explain(asid, at).outcome;
                if there.map(|bus| Some(bus.get())) != Ok(wanted) {
                    return Err(format!("{at} leads to {there:?}, not to {wanted:x?}"));
                }
            }
        }
        Ok(())
    }
}
