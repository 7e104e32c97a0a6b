//! What the device and the processes read and write, and where nothing is to be read.

use mmu_core::DeviceAddr;

use super::super::model::{Mapping, Memory, PageName};
use super::{Epoch, SCATTERED, places};
use crate::host::Permission;
use crate::machine;

impl<A: machine::Model> Epoch<'_, '_, '_, A> {
    /// One of the live mappings of a file, and a place in it.
    fn choose(&self, user: usize, mapping: u64, at: u64) -> Option<(Mapping, u64)> {
        let file = &self.model.files[user];
        let live: Vec<&Mapping> = file
            .mappings
            .values()
            .chain(file.driver_mappings.values())
            .collect();
        let mapping = live.get(mapping as usize % live.len().max(1))?;
        let page = match mapping.memory {
            Memory::Dram(..) => self.rules.dram_page,
            _ => self.rules.page,
        };
        let pages = self.model.bytes(mapping, self.rules) / page;
        let offset = (at >> 8) % pages * page + places(page)[(at & 0xFF) as usize % 3];
        Some(((*mapping).clone(), offset))
    }

    /// Reads what is in device memory that was just mapped, and leaves a mark in each page of it.
    pub(super) fn look_into(&mut self, user: usize, at: u64) -> Result<(), String> {
        let Some(mapping) = self.model.files[user].mappings.get(&at).cloned() else {
            return Ok(());
        };
        let page = self.rules.dram_page;
        let pages = self.model.bytes(&mapping, self.rules) / page;
        for offset in (0..pages).flat_map(|number| places(page).map(|place| number * page + place))
        {
            let (name, place) = self.model.page(&mapping, offset, self.rules);
            self.reading(user, at + offset);
            let word = self
                .device_word(self.engines[user], at + offset)
                .map_err(|error| format!("reading {:#x}: {error}", at + offset))?;
            self.check_word(name, place, word)?;
        }
        for number in 0..pages {
            let stamp = self.summary.steps << 20 | number << 8 | 0xD7;
            self.write_at(user, &mapping, number * page + places(page)[0], stamp)?;
        }
        Ok(())
    }

    /// Writes a word into a mapping as the device does.
    fn write_at(
        &mut self,
        user: usize,
        mapping: &Mapping,
        offset: u64,
        stamp: u64,
    ) -> Result<(), String> {
        let at = DeviceAddr::new(mapping.start + offset);
        let where_to = self.scribe.address(user, at.get());
        self.scribe.step(format_args!(
            "dma write u[{user}] {where_to} 8 word {stamp:#x}"
        ));
        self.machine
            .asic
            .write(self.engines[user], at, &stamp.to_le_bytes())
            .map_err(|error| format!("writing {at}: {error}"))?;
        let (page, place) = self.model.page(mapping, offset, self.rules);
        let file = self.model.files[user].number;
        self.model.write(page, place, stamp, file);
        // A word in device memory may be seen by the owner's files as well, whoever wrote it.
        if let PageName::Dram(handle, _) = page
            && let Some(pack) = self.model.packs.get(&handle).copied()
        {
            self.model.write(page, place, stamp, pack.first_owner);
        }
        Ok(())
    }

    /// The device is about to read a word.
    fn reading(&self, user: usize, at: u64) {
        let at = self.scribe.address(user, at);
        self.scribe.step(format_args!("dma read u[{user}] {at} 8"));
    }

    pub(super) fn write(
        &mut self,
        user: usize,
        mapping: u64,
        at: u64,
        stamp: u64,
    ) -> Result<(), String> {
        match self.choose(user, mapping, at) {
            Some((mapping, offset)) => self.write_at(user, &mapping, offset, stamp),
            None => Ok(()),
        }
    }

    pub(super) fn read(&mut self, user: usize, mapping: u64, at: u64) -> Result<(), String> {
        let Some((mapping, offset)) = self.choose(user, mapping, at) else {
            return Ok(());
        };
        let at = mapping.start + offset;
        self.reading(user, at);
        let word = self
            .device_word(self.engines[user], at)
            .map_err(|error| format!("reading {at:#x}: {error}"))?;
        let (page, place) = self.model.page(&mapping, offset, self.rules);
        self.check_word(page, place, word)
    }

    pub(super) fn stray(&mut self, user: usize, which: u64) -> Result<(), String> {
        let file = &self.model.files[user];
        let starts: Vec<u64> = file
            .past
            .iter()
            .rev()
            .take(16)
            .copied()
            .chain(file.mappings.values().map(|mapping| mapping.kept.1))
            .collect();
        let Some(start) = starts.get(which as usize % starts.len().max(1)) else {
            return Ok(());
        };
        // Not where a word might be, so that nothing is compared that nobody wrote.
        let at = start + (which >> 40) % 4 * self.rules.page + 24;
        let covered = file.at(at, self.rules, &self.model).is_some();
        if !file.quarantine.is_empty() {
            return Ok(());
        }
        let asid = self.context(user)?.asid().get();
        self.reading(user, at);
        let default = self.rules.default_at(at).filter(|_| !covered);
        if let Some(word) = default {
            self.scribe.outcome(format_args!("expect word {word:#x}"));
        } else if !covered {
            let at = self.scribe.address(user, at);
            let expected = format_args!("-> faults asid {asid} at {at}");
            self.scribe.outcome(expected);
        }
        let got = self.device_word(self.engines[user], at);
        // They are kept until somebody takes them.
        let _ = self.machine.asic.take_faults();
        match (got, covered) {
            (Ok(word), false) if default == Some(word) => {
                self.summary.compared += 1;
                Ok(())
            }
            (Ok(_), true) => Ok(()),
            (Ok(word), false) => Err(format!("{word:#x} is read at {at:#x}, where nothing is")),
            (Err(error), true) => Err(format!("reading {at:#x}: {error}")),
            (Err(error), false) => {
                self.summary.faults += 1;
                self.model.stop(at, self.rules);
                let fault = error.fault().ok_or("the device is lost")?;
                match (fault.asid, fault.address.get()) == (asid, at) {
                    true => Ok(()),
                    false => Err(format!("{fault} instead of one at {at:#x}")),
                }
            }
        }
    }

    pub(super) fn store(&mut self, user: usize, at: u64, stamp: u64) -> Result<(), String> {
        let names = &self.model.memory[user];
        let number = (at >> 8) % names.len() as u64;
        let page = names[number as usize];
        let place = places(self.rules.page)[(at & 0xFF) as usize % 3];
        let address = self.address(user, number).offset(place);
        let (buffer, at) = Self::written(user, number, place);
        self.scribe.step(format_args!(
            "write {buffer} at {at:#x} size 8 word {stamp:#x}"
        ));
        self.processes[user]
            .write(address, &stamp.to_le_bytes())
            .map_err(|error| format!("{error}"))?;
        let file = self.model.files[user].number;
        self.model.write(page, place, stamp, file);
        Ok(())
    }

    pub(super) fn replace(&mut self, user: usize, which: u64) -> Result<(), String> {
        let number = which % SCATTERED;
        let address = self.address(user, number);
        let replaced = self.processes[user].replace(address, 1, Permission::ReadWrite);
        if replaced.is_ok() {
            let (buffer, at) = Self::written(user, number, 0);
            self.scribe
                .step(format_args!("replace {buffer} at {at:#x} size page"));
            let name = self.model.name();
            self.model.memory[user][number as usize] = PageName::User(name);
        }
        Ok(())
    }
}
