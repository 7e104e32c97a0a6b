//! Memory of processes, mapped and unmapped, and what all mappings have in common.

use hl_mem::uapi::{self, Errno, FLAG_FORCE_HINT, FLAG_USERPTR, MemoryInput, OP_MAP, OP_UNMAP};

use super::super::model::{Expected, Mapping, Memory};
use super::super::operations::{Failure, Place};
use super::{CONTIGUOUS, Epoch, SCATTERED};
use crate::machine;

/// Mappings that are asked for at an address lie that far into their range, where those that lie
/// anywhere come only when they fit between others.
const DISTANCE: u64 = 1 << 33;

/// The longest mapping of scattered pages, and of contiguous ones.
const LONGEST: [u64; 2] = [12 << 12, 3 << 20];

impl<A: machine::Model> Epoch<'_, '_, '_, A> {
    pub(super) fn call(
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
    pub(super) fn place(place: Place, base: u64, step: u64) -> (u64, u32, bool) {
        match place {
            Place::Anywhere => (0, 0, false),
            Place::Hint(number) => (base + number * step, 0, false),
            Place::Exact(number) => (base + number * step, FLAG_FORCE_HINT, true),
            Place::Crooked(number) => (base + number * step + step / 2, FLAG_FORCE_HINT, true),
        }
    }

    /// The same, as a scenario writes it.
    pub(super) fn placed(hint: u64, flags: u32) -> String {
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
                self.note_undone(user, memory)
            }
            Err(_) => Ok(()),
        }
    }

    /// Notes a new mapping, which has to lie in its range and apart from all others.
    pub(super) fn note(
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

    /// Notes that a removal was confirmed, and what else that settles.
    pub(super) fn note_confirmed(&mut self, user: usize, mapping: &Mapping) -> Result<(), String> {
        let apart = self.rules.dram_apart;
        self.model.release(mapping);
        self.model.confirm(user, &mapping.memory, apart);
        self.check_quarantine(user)
    }

    /// Notes what became of a mapping whose removal was confirmed or was not.
    pub(super) fn note_removed(&mut self, user: usize, mapping: Mapping) -> Result<(), String> {
        let known = self.model.files[user].quarantine.len();
        if self.quarantined(user)?.0 as usize != known + 1 {
            return self.note_confirmed(user, &mapping);
        }
        self.model.files[user].quarantine.push(mapping);
        Ok(())
    }

    /// Notes what became of a mapping that did not come to be.
    pub(super) fn note_undone(&mut self, user: usize, memory: Memory) -> Result<(), String> {
        let mapping = Mapping {
            kept: (0, 0),
            start: 0,
            memory,
        };
        self.note_removed(user, mapping)
    }

    /// As many mappings are in quarantine as in the model.
    fn check_quarantine(&self, user: usize) -> Result<(), String> {
        let (got, expected) = (
            self.quarantined(user)?.0,
            self.model.files[user].quarantine.len(),
        );
        if got as usize == expected {
            Ok(())
        } else {
            Err(format!(
                "{got} mappings are in quarantine, and {expected} in the model"
            ))
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
            Ok(_) => self.note_confirmed(user, &mapping),
            // What is not confirmed is kept, without exception.
            Err(_) => {
                self.model.files[user].quarantine.push(mapping);
                self.check_quarantine(user)
            }
        }
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
}
