//! Views of kernel buffers, and what processes find in them.

use std::collections::BTreeSet;

use hl_mem::uapi::Errno;

use super::super::model::{Expected, Named, PageName};
use super::super::scribe::Handles;
use super::{Epoch, Shown, Viewer, places};
use crate::machine::{self, Machine};

impl<'m, A: machine::Model> Epoch<'_, '_, 'm, A> {
    pub(super) fn view(&mut self, user: usize, object: u64, wrong: bool) -> Result<(), String> {
        let Some((handle, named)) = self.handle(user, object) else {
            return Ok(());
        };
        let name = named.buffer();
        let buffer = self.model.buffers.get(&name).copied().unwrap_or_default();
        let pages = match (named, self.rules.registers) {
            (Named::Registers, Some((_, pages))) => pages,
            _ => buffer.pages,
        };
        let bytes = pages * self.rules.page;
        let len = if wrong {
            bytes + self.rules.page
        } else {
            bytes
        };
        let expected = match wrong || (buffer.views > 0 && !self.rules.many_views) {
            true => Expected::Refused(Errno::EINVAL),
            false => Expected::Done,
        };
        let name_of_view = format!("v[{}]", self.summary.steps);
        let written = self.scribe.handle(Handles::Objects, handle.get());
        self.scribe.step(format_args!(
            "mmap u[{user}] {written} as {name_of_view} {len:#x}"
        ));
        let got = self.context(user)?.mmap(handle, len);
        let got = got.map_err(Errno::from);
        self.check(expected, None, &got)?;
        if let Ok(view) = got {
            self.model.show(name);
            self.views.push(Shown {
                name: name_of_view,
                viewer: Viewer::User(user),
                buffer: name,
                gone: BTreeSet::new(),
                view,
            });
            let last = self.views.len() - 1;
            self.check_view(last)?;
        }
        Ok(())
    }

    /// Compares what a process sees in a view, and writes a word where it may.
    pub(super) fn check_view(&mut self, number: usize) -> Result<(), String> {
        let Shown {
            name: written_as,
            buffer: name,
            gone,
            view,
            ..
        } = &self.views[number];
        let written_as = written_as.clone();
        let pages = view.pages() + gone.len() as u64;
        let name = *name;
        let view = view.view().view();
        let page = self.rules.page;
        let mut words = Vec::new();
        if view.len() as u64 != pages * page {
            return Err(format!("{pages} pages of a view of {} bytes", view.len()));
        }
        for number in (0..pages).filter(|number| !gone.contains(number)) {
            for place in places(page) {
                let word = view.load_u64((number * page + place) as usize);
                let word = word.map_err(|error| format!("a view: {error}"))?;
                words.push((number, place, word));
            }
        }
        // The first page of a block, all of a command buffer and of registers are the user's to write.
        let stamp = self.summary.steps << 8 | 0xF1;
        let written = !gone.contains(&0) && view.store_u64(16, stamp).is_ok();
        for (number, place, word) in words {
            let at = number * page + place;
            self.scribe
                .step(format_args!("read {written_as} at {at:#x} size 8"));
            self.check_word(PageName::Buffer(name, number), place, word)?;
        }
        if written {
            self.scribe.step(format_args!(
                "write {written_as} at 16 size 8 word {stamp:#x}"
            ));
            self.model.write(PageName::Buffer(name, 0), 16, stamp, 0);
            if let Some(id) = self.blocks.get(&name) {
                let privilege = &self.machine.privilege;
                let range = self.machine.device.block_range(privilege, *id);
                let range = range.map_err(|error| error.to_string())?;
                let at = self.scribe.address(super::USERS, range.start().get() + 16);
                self.scribe.step(format_args!("dma read privileged {at} 8"));
                let seen = self.device_word(self.engines[super::USERS], range.start().get() + 16);
                let seen = seen.map_err(|error| format!("a block: {error}"))?;
                self.check_word(PageName::Buffer(name, 0), 16, seen)?;
            }
        }
        Ok(())
    }

    pub(super) fn end_view(&mut self, which: u64) -> Result<(), String> {
        if self.views.is_empty() {
            return Ok(());
        }
        let number = which as usize % self.views.len();
        self.check_view(number)?;
        let Shown {
            name, buffer, view, ..
        } = self.views.swap_remove(number);
        self.scribe.step(format_args!("munmap {name}"));
        self.note_end(buffer, |machine| {
            let ended = machine.device.end_view(view);
            ended.map_err(|error| error.to_string())
        })
    }

    /// Ends the last that a process has of a view of a buffer.
    pub(super) fn note_end(
        &mut self,
        buffer: u64,
        end: impl FnOnce(&Machine<'_, 'm, A>) -> Result<(), String>,
    ) -> Result<(), String> {
        let quarantined = self.machine.device.usage().buffers.quarantined;
        end(self.machine)?;
        // A buffer whose removal was confirmed along with another's goes with its last view.
        let settled = self.machine.device.usage().buffers.quarantined < quarantined;
        self.model
            .change_buffer(buffer, |buffer| buffer.quarantined &= !settled);
        self.model.hide(buffer);
        Ok(())
    }

    /// Gives a page of a view back, which ends the view where it was the last one.
    pub(super) fn end_page(&mut self, which: u64, page: u64) -> Result<(), String> {
        if self.views.is_empty() {
            return Ok(());
        }
        let number = which as usize % self.views.len();
        self.check_view(number)?;
        let mut shown = self.views.swap_remove(number);
        let all = shown.view.pages() + shown.gone.len() as u64;
        let mut there = (0..all).filter(|page| !shown.gone.contains(page));
        let page = there.nth((page % shown.view.pages()) as usize);
        let page = page.ok_or("a view of no pages")?;
        let written = &shown.name;
        self.scribe.step(format_args!(
            "munmap {written} at {page} pages size 1 pages"
        ));
        shown.gone.insert(page);
        if shown.gone.len() as u64 == all {
            return self.note_end(shown.buffer, |machine| {
                let left = machine.device.end_pages(shown.view, 1);
                match left.map_err(|error| error.to_string())? {
                    Some(view) => Err(format!("{} pages are left of none", view.pages())),
                    None => Ok(()),
                }
            });
        }
        let left = self.machine.device.end_pages(shown.view, 1);
        shown.view = left
            .map_err(|error| error.to_string())?
            .ok_or("a view ended before its last page")?;
        self.views.push(shown);
        Ok(())
    }
}
