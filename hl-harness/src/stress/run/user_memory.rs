//! Memory of processes and device memory: allocated, mapped, exported, unmapped.

use hl_mem::dram::PackHandle;
use hl_mem::uapi::{
    self, Errno, FLAG_CONTIGUOUS, FLAG_FORCE_HINT, FLAG_SHARED, FLAG_USERPTR, MemoryInput,
    OP_ALLOC, OP_FREE, OP_MAP, OP_UNMAP,
};
use mmu_core::DeviceAddr;

use super::super::model::{Expected, Mapping, Memory, Pack};
use super::super::operations::{Failure, Place};
use super::super::scribe::Handles;
use super::{CONTIGUOUS, Epoch, Exported, SCATTERED};
use crate::machine;

/// Mappings that are asked for at an address lie that far into their range, where those that lie
/// anywhere come only when they fit between others.
const DISTANCE: u64 = 1 << 33;

/// The longest mapping of scattered pages, and of contiguous ones.
const LONGEST: [u64; 2] = [12 << 12, 3 << 20];

impl<A: machine::Model> Epoch<'_, '_, '_, A> {
    fn call(
        &self,
        user: usize,
        arguments: [u64; 3],
        op: u32,
        flags: u32,
    ) -> Result<Result<u64, Errno>, String> {
        let input = MemoryInput {
            arguments,
            op,
            flags,
            ..MemoryInput::default()
        };
        let reply = uapi::dispatch(self.context(user)?, &input.to_bytes());
        Ok(reply.map(|reply| reply.value))
    }

    /// The address and the flags of a place, and whether nothing else would do.
    fn place(place: Place, base: u64, step: u64) -> (u64, u32, bool) {
        match place {
            Place::Anywhere => (0, 0, false),
            Place::Hint(number) => (base + number * step, 0, false),
            Place::Exact(number) => (base + number * step, FLAG_FORCE_HINT, true),
            Place::Crooked(number) => (base + number * step + step / 2, FLAG_FORCE_HINT, true),
        }
    }

    /// The same, as a scenario writes it.
    fn placed(hint: u64, flags: u32) -> String {
        match (hint, flags & FLAG_FORCE_HINT) {
            (0, 0) => String::new(),
            (_, 0) => format!(" hint {hint:#x}"),
            _ => format!(" hint {hint:#x} force"),
        }
    }

    /// A user is about to unmap what there may be at an address.
    fn unmapping(&self, user: usize, at: u64) {
        let at = self.scribe.address(user, at);
        self.scribe.step(format_args!("unmap u[{user}] {at}"));
    }

    /// Whether a large leaf has room in pages, which depends on where the host has them.
    fn is_large(&self, user: usize, numbers: core::ops::Range<u64>) -> bool {
        let frames: Vec<u32> = numbers
            .filter_map(|number| self.processes[user].frame_at(self.address(user, number)))
            .map(|frame| frame.number())
            .collect();
        let whole = |chunk: &[u32]| {
            chunk[0].is_multiple_of(512) && (chunk[0]..).zip(chunk).all(|(a, b)| a == *b)
        };
        frames.windows(512).any(whole)
    }

    pub(super) fn map(
        &mut self,
        user: usize,
        failure: Option<Failure>,
        (start, len, contiguous): (u64, u64, bool),
        place: Place,
    ) -> Result<(), String> {
        let page = self.rules.page;
        let (first, pages) = match contiguous {
            false => (0, SCATTERED),
            true => (SCATTERED, CONTIGUOUS),
        };
        let start = start % (pages * page);
        let len = 1 + len % LONGEST[usize::from(contiguous)];
        let address = self.address(user, first).offset(start);
        let touched = (start / page)..(start + len).div_ceil(page);
        let count = touched.end - touched.start;
        let there = touched.start..touched.end.min(pages);
        let large = self.is_large(user, first + there.start..first + there.end);
        let (range, step) = match (large, self.rules.large_host) {
            (true, Some((range, step))) => (range, step),
            _ => (self.rules.host, page),
        };
        // On a large boundary where there is one, so that hints for large leaves make some.
        let unit = if large { self.rules.large } else { step };
        let (hint, flags, exact) = Self::place(place, range.0 + DISTANCE, unit);

        let file = &self.model.files[user];
        let no_memory = Expected::Refused(Errno::ENOMEM);
        let pin_fails =
            matches!(failure, Some(Failure::Pin(nth)) if nth <= there.end - there.start);
        let known = file.quarantine.iter().all(|mapping| mapping.kept.1 != 0);
        let placed =
            self.model
                .expect_place(user, range, (exact.then_some(hint), count * page), step);
        let expected = if file.mapping_count() >= self.rules.mappings
            || self.model.charged(user) + count > self.rules.budget
            || pin_fails
        {
            no_memory
        } else if there.end != touched.end {
            Expected::Refused(Errno::EFAULT)
        } else if !known && exact {
            match Self::announced(placed, failure) {
                Expected::Done => Expected::Either(Errno::ENOMEM),
                // One of two errors, or none: what it was is seen below.
                other => other,
            }
        } else {
            Self::announced(placed, failure)
        };
        let free = placed == Expected::Done && hint != 0;
        let quarantined = self.quarantined(user)?;
        let (buffer, from) = Self::written(user, first, start);
        self.scribe.step(format_args!(
            "map u[{user}] {buffer} + {from:#x} size {len:#x}{}",
            Self::placed(hint, flags)
        ));
        let got = self.call(
            user,
            [address.get(), hint, len],
            OP_MAP,
            FLAG_USERPTR | flags,
        )?;
        self.check(expected, failure, &got)?;
        let names = &self.model.memory[user];
        let names = |numbers: core::ops::Range<u64>| {
            let all = first + numbers.start..first + numbers.end;
            names[all.start as usize..all.end as usize].to_vec()
        };
        match got {
            Ok(at) => {
                let memory = Memory::User(names(touched));
                if at % page != start % page {
                    return Err(format!("{at:#x} is not {:#x} into a page", start % page));
                }
                let first = at - at % page;
                let hinted = matches!(place, Place::Hint(_)) && known && {
                    let wanted = (hint, hint + (count * page).next_multiple_of(step));
                    free && wanted.1 <= range.1 && !self.model.files[user].is_taken(wanted)
                };
                let name = self.scribe.result();
                if exact || hinted {
                    let wanted = hint + start % page;
                    self.scribe
                        .step(format_args!("expect {name} = {wanted:#x}"));
                }
                self.scribe.lies(user, at, name);
                if (exact || hinted) && first != hint {
                    return Err(format!("{first:#x} is not at the hint {hint:#x}"));
                }
                // A large mapping that lies anywhere has the addresses from the boundary before it on.
                let kept = match first == hint || !large {
                    true => first,
                    false => first - first % self.rules.large,
                };
                let end = (first + count * page).next_multiple_of(step);
                self.note(user, range, at, first, (kept, end), memory)
            }
            Err(Errno::ETIMEDOUT) => {
                let memory = Memory::User(names(touched));
                self.note_quarantine(user, quarantined, (0, 0), memory, 0)
            }
            Err(_) => Ok(()),
        }
    }

    /// Notes a new mapping, which has to lie in its range and apart from all others.
    fn note(
        &mut self,
        user: usize,
        range: (u64, u64),
        at: u64,
        start: u64,
        kept: (u64, u64),
        memory: Memory,
    ) -> Result<(), String> {
        let free = kept.0 >= range.0 && kept.1 <= range.1 && !self.model.files[user].is_taken(kept);
        if !free {
            let name = self.scribe.address(user, at);
            self.scribe.step(format_args!("expect {name} != {at:#x}"));
        }
        if kept.0 < range.0 || kept.1 > range.1 {
            return Err(format!("{start:#x} is outside of {range:x?}"));
        }
        let file = &mut self.model.files[user];
        if file.is_taken(kept) {
            return Err(format!("{kept:x?} is not free"));
        }
        let mapping = Mapping {
            kept,
            start,
            memory,
        };
        file.mappings.insert(at, mapping);
        Ok(())
    }

    /// Notes what a request left in quarantine, if anything. Gives it up otherwise.
    pub(super) fn note_quarantine(
        &mut self,
        user: usize,
        before: (u32, u32),
        kept: (u64, u64),
        memory: Memory,
        start: u64,
    ) -> Result<(), String> {
        let mapping = Mapping {
            kept,
            start,
            memory,
        };
        let after = self.quarantined(user)?;
        match after.0.checked_sub(before.0) {
            // The request was undone as a whole.
            Some(0) => self.model.release(&mapping),
            Some(1) => self.model.files[user].quarantine.push(mapping),
            _ => return Err(format!("the quarantine went from {before:?} to {after:?}")),
        }
        Ok(())
    }

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
            Expected::Refused(Errno::EOPNOTSUPP)
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
        let quarantined = self.quarantined(user)?;
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
            Err(Errno::ETIMEDOUT) => self.note_quarantine(user, quarantined, (0, 0), memory, 0),
            Err(_) => Ok(()),
        }
    }

    pub(super) fn unmap(
        &mut self,
        user: usize,
        failure: Option<Failure>,
        which: u64,
    ) -> Result<(), String> {
        let file = &self.model.files[user];
        let Some((&at, mapping)) = file
            .mappings
            .iter()
            .nth(which as usize % file.mappings.len().max(1))
        else {
            return Ok(());
        };
        let exported = matches!(mapping.memory, Memory::Dram(_, exports) if exports > 0);
        let expected = match exported {
            true => Expected::Refused(Errno::EINVAL),
            false => Self::announced(Expected::Done, failure),
        };
        let quarantined = self.quarantined(user)?;
        self.unmapping(user, at);
        let got = self.call(user, [at, 0, 0], OP_UNMAP, 0)?;
        self.check(expected, failure, &got)?;
        if let Err(Errno::EINVAL) = got {
            return Ok(());
        }
        let file = &mut self.model.files[user];
        let Some(mapping) = file.mappings.remove(&at) else {
            return Ok(());
        };
        file.past.push(mapping.start);
        match got {
            Ok(_) => self.model.release(&mapping),
            Err(_) => {
                // What is not confirmed is kept, without exception.
                if self.quarantined(user)?.0 != quarantined.0 + 1 {
                    return Err("an unmapping that failed left no quarantine".to_owned());
                }
                self.model.files[user].quarantine.push(mapping);
            }
        }
        Ok(())
    }

    pub(super) fn unmap_nothing(&mut self, user: usize, which: u64) -> Result<(), String> {
        let file = &self.model.files[user];
        let starts: Vec<u64> = file
            .mappings
            .values()
            .chain(file.driver_mappings.values())
            .chain(&file.quarantine)
            .map(|mapping| mapping.start)
            .collect();
        let start = match starts.len() {
            0 => which,
            count => starts[which as usize % count],
        };
        let at = start.wrapping_add([0, 1, self.rules.page, u64::MAX][(which >> 32) as usize % 4]);
        if file.mappings.contains_key(&at) {
            return Ok(());
        }
        self.unmapping(user, at);
        let got = self.call(user, [at, 0, 0], OP_UNMAP, 0)?;
        self.check(Expected::Refused(Errno::EINVAL), None, &got)
    }

    // --- device memory ---

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
        // To scrub pages of that size takes more memory than there should have to be.
        let clean = u64::from(self.machine.device.usage().dram.clean);
        if page > 2 << 20 && clean < count {
            return Ok(());
        }
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
        // Peers reach the first half of what users have.
        let asid = self.context(user)?.asid().get();
        let there = self.machine.asic.explain(asid, DeviceAddr::new(at)).outcome;
        let bus = there.map_err(|reason| format!("{at:#x} is not mapped: {reason}"))?;
        let memory = A::PROFILE.dram.user_memory();
        let memory = memory.ok_or("no memory for users")?;
        let reached = bus
            .offset_from(memory.start())
            .is_some_and(|offset| offset < memory.len() / 2);
        let export = self.context(user)?;
        let export = export.export_dram(DeviceAddr::new(at), self.rules.page, 0);
        let expected = match reached {
            true => Expected::Done,
            false => Expected::Refused(Errno::EINVAL),
        };
        let export = export.map_err(Errno::from);
        let name = format!("e[{}]", self.summary.steps);
        let written = self.scribe.address(user, at);
        self.scribe
            .step(format_args!("export u[{user}] {written} page as {name}"));
        self.check(expected, None, &export)?;
        if let Ok(export) = export {
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
        let open = self.model.files[user].number == file;
        let foreign = self.context(user)?.end_export(export);
        match (foreign, open) {
            (Ok(()), true) => {
                let mapping = self.model.files[user].mappings.get_mut(&at);
                if let Some(Memory::Dram(_, exports)) = mapping.map(|m| &mut m.memory) {
                    *exports -= 1;
                }
            }
            (Err(export), false) => self.machine.device.end_export(export),
            (Ok(()), false) => return Err("another file ended the export".to_owned()),
            (Err(_), true) => return Err("the file does not know its export".to_owned()),
        }
        self.model.release_pack(pack);
        Ok(())
    }

    /// The first run of a piece of device memory lies in what users have, and is no longer than it.
    pub(super) fn check_pack(&self, user: usize, handle: u64) -> Result<(), String> {
        let owner = self.context(user)?.owner();
        let pack = PackHandle::new(handle);
        let run = self
            .machine
            .device
            .dram_run(&self.machine.privilege, owner, pack);
        let run = run.map_err(|error| format!("{handle:#x}: {error}"))?;
        let memory = A::PROFILE.dram.user_memory().ok_or("no memory for users")?;
        match memory.contains_range(run) {
            true => Ok(()),
            false => Err(format!("{run} is not the users'")),
        }
    }
}
