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
            (
                "views of registers",
                device.register_views.into(),
                model.register_views.into(),
            ),
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
        for (what, number) in [
            ("mappings", file.mapping_count() as u64),
            ("quarantined", file.quarantine.len() as u64),
            ("handles", file.handles.len() as u64),
            ("charged", model.charged(user)),
        ] {
            self.scribe.number(format!("{what} u[{user}]"), number);
        }
        for (what, number) in [
            ("kernel-buffers", model.buffers.len() as u64),
            ("views-of-kernel-buffers", views.into()),
            ("views-of-registers", model.register_views.into()),
            ("holds-of-kernel-buffers", holds.into()),
            ("kernel-buffers-in-quarantine", quarantined.into()),
            ("privileged-address-bytes", privileged),
            ("device-memory-pages-in-use", model.dram_used()),
        ] {
            self.scribe.number(format!("counter {what}"), number);
        }
        if file.quarantine.iter().all(|mapping| mapping.kept.1 != 0) {
            self.scribe
                .number(format!("used u[{user}]"), file.addresses());
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
        self.scribe.number("counter pins".to_owned(), total);
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
                let wanted = expected.get(name).copied().unwrap_or(0);
                if pins != wanted {
                    let (buffer, at) = Self::written(user, number, 0);
                    let page = at >> 12;
                    self.scribe
                        .step(format_args!("expect pins {buffer} page {page} {wanted}"));
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
                    let (buffer, byte) = Self::written(user, known as u64, 24);
                    let at = self.scribe.address(user, at.get() + 24);
                    for line in [
                        format!("write {buffer} at {byte:#x} size 8 word 0x5EE5"),
                        format!("dma read u[{user}] {at} 8 expect word 0x5EE5"),
                    ] {
                        self.scribe.step(line);
                    }
                    return Err(format!("{at} leads to {there:?}, not to {wanted:x?}"));
                }
            }
        }
        Ok(())
    }
}
