//! Device memory: allocated, mapped, exported, freed.

use hl_mem::context::DramExport;
use hl_mem::device::DramRunError;
use hl_mem::dram::{PackError, PackHandle};
use hl_mem::uapi::{Errno, FLAG_CONTIGUOUS, FLAG_SHARED, OP_ALLOC, OP_FREE, OP_MAP};
use mmu_core::{BusAddr, DeviceAddr, Run};

use super::super::model::{Expected, Memory, Pack};
use super::super::operations::{Failure, Place};
use super::super::scribe::Handles;
use super::{Epoch, Exported, USERS};
use crate::machine;

impl<A: machine::Model> Epoch<'_, '_, '_, A> {
    pub(super) fn map_dram(
        &mut self,
        user: usize,
        failure: Option<Failure>,
        pack: u64,
        place: Place,
    ) -> Result<(), String> {
        let handles: Vec<u64> = self.model.packs.keys().copied().collect();
        let handle = match handles.len() {
            0 => pack % 100,
            count => handles[pack as usize % count],
        };
        let known = self.model.packs.get(&handle).copied();
        let step = self.rules.dram_page;
        let range = self.rules.dram.unwrap_or((0, u64::MAX));
        let (hint, flags, exact) = Self::place(place, range.0 + 64 * step, step);
        let file = &self.model.files[user];
        let own = (user, file.number);
        let bytes = known.map_or(0, |pack| pack.pages) * step;
        let vague = file.quarantine.iter().any(|mapping| mapping.kept.1 == 0);
        let expected = if self.rules.dram.is_none() {
            Expected::Refused(Errno::EINVAL)
        } else if file.mapping_count() >= self.rules.mappings {
            Expected::Refused(Errno::ENOMEM)
        } else {
            match known {
                None | Some(Pack { owner: None, .. }) => Expected::Refused(Errno::EINVAL),
                Some(pack) if !pack.shared && pack.owner != Some(own) => {
                    Expected::Refused(Errno::EPERM)
                }
                Some(_) => {
                    let wanted = (exact.then_some(hint), bytes);
                    let placed = self.model.expect_place(user, range, wanted, step);
                    match Self::announced(placed, failure) {
                        Expected::Done if vague && exact => Expected::Either(Errno::ENOMEM),
                        expected => expected,
                    }
                }
            }
        };
        self.scribe.step(format_args!(
            "map u[{user}] dram {}{}",
            self.scribe.handle(Handles::Memory, handle),
            Self::placed(hint, flags)
        ));
        let got = self.call(user, [hint, handle, 0], OP_MAP, flags)?;
        self.check(expected, failure, &got)?;
        let held = matches!(got, Ok(_) | Err(Errno::ETIMEDOUT));
        if held && let Some(pack) = self.model.packs.get_mut(&handle) {
            pack.holds += 1;
        }
        let memory = Memory::Dram(handle, 0);
        match got {
            Ok(at) if exact && at != hint => {
                let name = self.scribe.result();
                self.scribe.step(format_args!("expect {name} = {hint:#x}"));
                Err(format!("{at:#x} is not at {hint:#x}"))
            }
            Ok(at) => {
                self.scribe.lies(user, at, self.scribe.result());
                self.note(user, range, at, at, (at, at + bytes), memory)?;
                self.look_into(user, at)
            }
            Err(Errno::ETIMEDOUT) => self.note_undone(user, memory),
            Err(_) => Ok(()),
        }
    }

    pub(super) fn allocate(
        &mut self,
        user: usize,
        pages: u64,
        contiguous: bool,
        shared: bool,
    ) -> Result<(), String> {
        let page = self.rules.dram_page;
        let most = if page > 2 << 20 { 2 } else { 4 };
        let (count, less) = (1 + pages % most, (pages >> 32) % page);
        let flags = if contiguous { FLAG_CONTIGUOUS } else { 0 };
        let flags = flags | if shared { FLAG_SHARED } else { 0 };
        let left = self.rules.dram_pages - self.model.dram_used();
        let expected = if count > left || self.model.packs.len() >= self.rules.packs {
            Expected::Refused(Errno::ENOMEM)
        } else if contiguous && count > 1 {
            // Whether there are as many in one piece is the driver's to know.
            Expected::Either(Errno::ENOMEM)
        } else {
            Expected::Done
        };
        let word = |flag, word| if flag { word } else { "" };
        self.scribe.step(format_args!(
            "alloc u[{user}] {:#x}{}{}",
            count * page - less,
            word(contiguous, " contiguous"),
            word(shared, " shared")
        ));
        let got = self.call(user, [count * page - less, 0, 0], OP_ALLOC, flags)?;
        self.check(expected, None, &got)?;
        if let Ok(handle) = got {
            self.scribe.made(Handles::Memory, handle);
            let file = self.model.files[user].number;
            let pack = Pack {
                owner: Some((user, file)),
                first_owner: file,
                shared,
                pages: count,
                holds: 0,
                lost: false,
            };
            if self.model.packs.insert(handle, pack).is_some() {
                return Err(format!("the handle {handle:#x} is another's"));
            }
        }
        Ok(())
    }

    pub(super) fn free(&mut self, user: usize, which: u64) -> Result<(), String> {
        let own = (user, self.model.files[user].number);
        let packs = self.model.packs.iter();
        // Anybody's, or rather one of his that can go.
        let candidates: Vec<u64> = match which >> 63 {
            0 => packs.map(|(handle, _)| *handle).collect(),
            _ => packs
                .filter(|(_, pack)| pack.owner == Some(own) && pack.holds == 0)
                .map(|(handle, _)| *handle)
                .collect(),
        };
        let handle = match candidates.len() {
            0 => which,
            count => candidates[which as usize % count],
        };
        let expected = match self.model.packs.get(&handle) {
            None | Some(Pack { owner: None, .. }) => Expected::Refused(Errno::EINVAL),
            Some(pack) if pack.owner != Some(own) => Expected::Refused(Errno::EPERM),
            Some(pack) if pack.holds > 0 => Expected::Refused(Errno::EINVAL),
            Some(_) => Expected::Done,
        };
        let written = self.scribe.handle(Handles::Memory, handle);
        self.scribe.step(format_args!("free u[{user}] {written}"));
        let got = self.call(user, [handle, 0, 0], OP_FREE, 0)?;
        self.check(expected, None, &got)?;
        if got.is_ok() {
            self.model.remove_pack(handle);
        }
        Ok(())
    }

    pub(super) fn export(&mut self, user: usize, which: u64) -> Result<(), String> {
        let file = &self.model.files[user];
        let mapped: Vec<(u64, u64)> = file
            .mappings
            .iter()
            .filter_map(|(at, mapping)| match mapping.memory {
                Memory::Dram(handle, _) => Some((*at, handle)),
                _ => None,
            })
            .collect();
        let Some(&(at, pack)) = mapped.get(which as usize % mapped.len().max(1)) else {
            return Ok(());
        };
        let page = self.rules.page;
        let bytes = self.model.packs.get(&pack).map_or(0, |pack| pack.pages) * self.rules.dram_page;
        // Parts at the beginning, across a boundary of pages, at the end, and beyond it.
        let boundary = self.rules.dram_page - page;
        let (offset, len) = [
            (0, page),
            (0, bytes),
            (boundary, 2 * page),
            (bytes - page, page),
            (bytes - page, 2 * page),
            (page / 2, page),
            (0, page + 8),
            (u64::MAX - page + 1, page),
            (0, 0),
        ][(which >> 32) as usize % 9];
        let whole = len != 0 && offset.is_multiple_of(page) && len.is_multiple_of(page);
        let inside = offset.checked_add(len).is_some_and(|end| end <= bytes);
        let expected = match whole && inside && self.is_reached(user, at, (offset, len))? {
            true => Expected::Done,
            false => Expected::Refused(Errno::EINVAL),
        };
        let export = self.context(user)?;
        let export = export.export_dram(DeviceAddr::new(at), len, offset);
        let export = export.map_err(Errno::from);
        let name = format!("e[{}]", self.summary.steps);
        let written = self.scribe.address(user, at);
        self.scribe.step(format_args!(
            "export u[{user}] {written} {len:#x} from {offset:#x} as {name}"
        ));
        self.check(expected, None, &export)?;
        if let Ok(export) = export {
            self.check_export(&export, at, (offset, len), user)?;
            let number = self.model.files[user].number;
            if let Some(mapping) = self.model.files[user].mappings.get_mut(&at)
                && let Memory::Dram(_, exports) = &mut mapping.memory
            {
                *exports += 1;
            }
            if let Some(pack) = self.model.packs.get_mut(&pack) {
                pack.holds += 1;
            }
            self.exports.push(Exported {
                name,
                pack,
                user,
                file: number,
                at,
                export,
            });
        }
        Ok(())
    }

    pub(super) fn end_export(&mut self, which: u64) -> Result<(), String> {
        if self.exports.is_empty() {
            return Ok(());
        }
        let number = which as usize % self.exports.len();
        let Exported {
            name,
            pack,
            user,
            file,
            at,
            export,
        } = self.exports.swap_remove(number);
        self.scribe.step(format_args!("unexport {name}"));
        // No other file ends it.
        let other = self.context((user + 1) % USERS)?;
        let export = match other.end_export(export) {
            Ok(()) => return Err("the file of another ended the export".to_owned()),
            Err(export) => export,
        };
        let open = self.model.files[user].number == file;
        // And the device only where its own is closed.
        let export = match (self.machine.device.end_export(export), open) {
            (Err(export), true) => export,
            (Ok(()), false) => {
                self.model.release_pack(pack);
                return Ok(());
            }
            (Ok(()), true) => return Err("the device ended what a file has to".to_owned()),
            (Err(export), false) => return Err(format!("nobody takes the {export}")),
        };
        if self.context(user)?.end_export(export).is_err() {
            return Err("the file does not know its export".to_owned());
        }
        let mapping = self.model.files[user].mappings.get_mut(&at);
        if let Some(Memory::Dram(_, exports)) = mapping.map(|m| &mut m.memory) {
            *exports -= 1;
        }
        self.model.release_pack(pack);
        Ok(())
    }

    /// Where the device finds an address of a user in its memory.
    fn bus_of(&self, user: usize, at: u64) -> Result<BusAddr, String> {
        let asid = self.context(user)?.asid().get();
        let there = self.machine.asic.explain(asid, DeviceAddr::new(at)).outcome;
        there.map_err(|reason| format!("{at:#x} is not mapped: {reason}"))
    }

    /// Whether peers reach a part of a mapping: they do the first half of what users have.
    fn is_reached(&self, user: usize, at: u64, (offset, len): (u64, u64)) -> Result<bool, String> {
        let memory = A::PROFILE.dram.user_memory();
        let memory = memory.ok_or("no memory for users")?;
        let page = self.rules.dram_page;
        let mut reached = true;
        for number in offset / page..(offset + len).div_ceil(page) {
            // Both ends of what there is of it in this page, which may lie across the middle.
            let from = offset.max(number * page);
            let to = (offset + len).min((number + 1) * page) - 1;
            for byte in [from, to] {
                let there = self.bus_of(user, at + byte)?.offset_from(memory.start());
                reached &= there.is_some_and(|there| there < memory.len() / 2);
            }
        }
        Ok(reached)
    }

    /// A peer is told the addresses that the device finds itself.
    fn check_export(
        &self,
        export: &DramExport,
        at: u64,
        (offset, len): (u64, u64),
        user: usize,
    ) -> Result<(), String> {
        let device = &self.machine.device;
        let runs: Vec<Run> = device.with_export(export, |runs| runs.collect());
        let mut next = offset;
        for run in &runs {
            for byte in [0, run.len() - 1] {
                let found = self.bus_of(user, at + next + byte)?;
                if run.start().checked_add(byte) != Some(found) {
                    return Err(format!("{run} is exported for {found}"));
                }
            }
            next += run.len();
        }
        match next == offset + len && export.bytes() == len {
            true => Ok(()),
            false => Err(format!("{runs:?} are exported for {len:#x} bytes")),
        }
    }

    /// The first run of a piece of device memory lies in what users have, and is no longer than it.
    pub(super) fn check_pack(&self, user: usize, handle: u64) -> Result<(), String> {
        let owner = self.context(user)?.owner();
        let pack = PackHandle::new(handle);
        let run = self
            .machine
            .device
            .dram_run(&self.machine.privilege, owner, pack);
        let lost = self.model.packs.get(&handle).is_some_and(|pack| pack.lost);
        let run = match run {
            Err(DramRunError::Pack(PackError::Lost)) if lost => return Ok(()),
            Ok(run) if lost => return Err(format!("{run} is still there, and undefined")),
            run => run.map_err(|error| format!("{handle:#x}: {error}"))?,
        };
        let memory = A::PROFILE.dram.user_memory().ok_or("no memory for users")?;
        match memory.contains_range(run) {
            true => Ok(()),
            false => Err(format!("{run} is not the users'")),
        }
    }
}
