//! What the documentation says becomes of each operation, in flat maps and lists.
//!
//! It shares no code with the driver: no trees, no slots, no batches, no page tables. It knows
//! numbers of an ASIC and of a machine ([`Rules`]), who has what, and the word that was last written
//! into each page. Everything here can be read in one go, which is its point.

mod events;
mod things;

use std::collections::{BTreeMap, BTreeSet};

use hl_mem::uapi::Errno;

pub(super) use events::{Heard, Told};
pub(super) use things::{Buffer, File, Mapping, Named, Pack, Pool, REGISTERS};
pub use things::{Memory, PageName, Rules};

/// What is expected of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expected {
    /// It is done.
    Done,
    /// It is refused, and changes nothing.
    Refused(Errno),
    /// One or the other.
    Either(Errno),
}

/// The state of a machine and its users.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// The open file of each user.
    pub files: Vec<File>,
    /// Which page each page of each process is: the scattered ones, then the contiguous ones.
    pub memory: Vec<Vec<PageName>>,
    /// The kernel buffers.
    pub buffers: BTreeMap<u64, Buffer>,
    /// The pieces of device memory, by handle.
    pub packs: BTreeMap<u64, Pack>,
    /// The word that was last written at a place in a page.
    words: BTreeMap<(PageName, u64), u64>,
    /// Which files have written each word into device memory.
    authors: BTreeMap<u64, BTreeSet<u64>>,
    /// How often registers are shown to processes.
    pub register_views: u32,
    /// Where accesses were stopped that the driver has not been told of: the first by each MMU, for host
    /// memory and for device memory.
    captured: [Option<u64>; 2],
    names: u64,
}

impl Model {
    /// A number that nothing had before.
    pub fn name(&mut self) -> u64 {
        self.names += 1;
        self.names
    }

    // --- data ---

    /// Notes that a word was written into a page, by an open file where it is device memory.
    pub fn write(&mut self, page: PageName, place: u64, word: u64, file: u64) {
        self.words.insert((page, place), word);
        if matches!(page, PageName::Dram(..)) {
            self.authors.entry(word).or_default().insert(file);
        }
    }

    /// Whether a word may be what is read from a page.
    #[must_use]
    pub fn may_read(&self, page: PageName, place: u64, word: u64) -> bool {
        match (self.words.get(&(page, place)), page) {
            (Some(written), _) => word == *written,
            // Nobody knows what registers have before they are written.
            (None, PageName::Buffer(REGISTERS, _)) => true,
            // Fresh pages are zeroed.
            (None, PageName::User(_) | PageName::Buffer(..)) => word == 0,
            // Fresh device memory is what a scrub leaves, or what the same owner left there.
            (None, PageName::Dram(handle, _)) => {
                let owner = self.packs.get(&handle).map(|pack| pack.first_owner);
                let own = |authors: &BTreeSet<u64>| owner.is_some_and(|o| authors.contains(&o));
                word == 0 || self.authors.get(&word).is_some_and(own)
            }
        }
    }

    /// A word that may be read from a page.
    #[must_use]
    pub fn wanted(&self, page: PageName, place: u64) -> u64 {
        self.words.get(&(page, place)).copied().unwrap_or(0)
    }

    // --- mappings ---

    /// Bytes of a mapping's pages.
    #[must_use]
    pub fn bytes(&self, mapping: &Mapping, rules: &Rules) -> u64 {
        match &mapping.memory {
            Memory::User(pages) => pages.len() as u64 * rules.page,
            Memory::Dram(handle, _) => {
                self.packs.get(handle).map_or(0, |pack| pack.pages) * rules.dram_page
            }
            Memory::Buffer(buffer) => {
                self.buffers.get(buffer).map_or(0, |buffer| buffer.pages) * rules.page
            }
        }
    }

    /// The page behind a place in a mapping, and the place in that page.
    #[must_use]
    pub fn page(&self, mapping: &Mapping, offset: u64, rules: &Rules) -> (PageName, u64) {
        match &mapping.memory {
            Memory::User(pages) => (pages[(offset / rules.page) as usize], offset % rules.page),
            Memory::Dram(handle, _) => (
                PageName::Dram(*handle, offset / rules.dram_page),
                offset % rules.dram_page,
            ),
            Memory::Buffer(buffer) => (
                PageName::Buffer(*buffer, offset / rules.page),
                offset % rules.page,
            ),
        }
    }

    /// Pages charged to a user: those of his mappings, each as often as it is mapped.
    #[must_use]
    pub fn charged(&self, user: usize) -> u64 {
        let pages = |mapping: &Mapping| match &mapping.memory {
            Memory::User(pages) => pages.len() as u64,
            _ => 0,
        };
        self.files[user].all().map(pages).sum()
    }

    /// The pins of each page.
    #[must_use]
    pub fn pins(&self) -> BTreeMap<PageName, u32> {
        let mut pins = BTreeMap::new();
        for mapping in self.files.iter().flat_map(File::all) {
            if let Memory::User(pages) = &mapping.memory {
                for page in pages {
                    *pins.entry(*page).or_default() += 1;
                }
            }
        }
        pins
    }

    /// What is expected where a mapping needs a place for `bytes` in a range, at an address that has to
    /// be a multiple of `step` into the range.
    #[must_use]
    pub fn expect_place(
        &self,
        user: usize,
        range: (u64, u64),
        (at, bytes): (Option<u64>, u64),
        step: u64,
    ) -> Expected {
        let Some(at) = at else {
            return Expected::Done;
        };
        let refused = Expected::Refused(Errno::ENOMEM);
        if at < range.0 || at + bytes > range.1 || !(at - range.0).is_multiple_of(step) {
            return refused;
        }
        if self.files[user].is_taken((at, at + bytes.next_multiple_of(step))) {
            return refused;
        }
        Expected::Done
    }

    /// Gives up what is behind a mapping that is gone.
    pub fn release(&mut self, mapping: &Mapping) {
        match &mapping.memory {
            Memory::User(_) => {}
            Memory::Dram(handle, _) => self.release_pack(*handle),
            Memory::Buffer(buffer) => self.change_buffer(*buffer, |buffer| buffer.holds -= 1),
        }
    }

    // --- kernel buffers ---

    /// A process is shown a buffer, or registers.
    pub fn show(&mut self, name: u64) {
        match name {
            REGISTERS => self.register_views += 1,
            _ => self.change_buffer(name, |buffer| buffer.views += 1),
        }
    }

    /// It is not any more.
    pub fn hide(&mut self, name: u64) {
        match name {
            REGISTERS => self.register_views -= 1,
            _ => self.change_buffer(name, |buffer| buffer.views -= 1),
        }
    }

    /// Changes a buffer, which is gone when nothing is left of it.
    pub fn change_buffer(&mut self, name: u64, change: impl FnOnce(&mut Buffer)) {
        if let Some(buffer) = self.buffers.get_mut(&name) {
            change(buffer);
            let Buffer {
                named,
                privileged,
                quarantined,
                views,
                holds,
                ..
            } = *buffer;
            if !(named || privileged || quarantined || views > 0 || holds > 0) {
                self.buffers.remove(&name);
                self.words
                    .retain(|(page, _), _| !matches!(page, PageName::Buffer(n, _) if *n == name));
            }
        }
    }

    // --- timestamps ---

    /// A counter reaches a value: the time is written into the slots that waited for it. Returns how many
    /// there were.
    pub fn reach(&mut self, user: usize, counter: u64, value: u64, now: u64, page: u64) -> u32 {
        let mut reached = Vec::new();
        for (buffer, pool) in &mut self.files[user].pools {
            pool.waiting.retain(|slot, (waits_for, target)| {
                let now = *waits_for == counter && *target <= value;
                if now {
                    reached.push((*buffer, *slot));
                }
                !now
            });
        }
        for (buffer, slot) in &reached {
            self.write_slot(*buffer, *slot, now, page);
        }
        self.end_pools(user);
        reached.len() as u32
    }

    /// Notes what is in a slot.
    pub fn write_slot(&mut self, buffer: u64, slot: u64, word: u64, page: u64) {
        let name = PageName::Buffer(buffer, slot * 8 / page);
        self.write(name, slot * 8 % page, word, 0);
    }

    /// Ends the pools that no handle names and that nothing waits for.
    pub fn end_pools(&mut self, user: usize) {
        let mut ended = Vec::new();
        self.files[user].pools.retain(|buffer, pool| {
            let stays = pool.named || !pool.waiting.is_empty();
            if !stays {
                ended.push(*buffer);
            }
            stays
        });
        for buffer in ended {
            self.change_buffer(buffer, |buffer| buffer.holds -= 1);
        }
    }

    // --- faults ---

    /// An access was stopped. An MMU keeps the first until it is taken.
    pub fn stop(&mut self, at: u64, rules: &Rules) {
        let [host, dram] = &mut self.captured;
        let captured = if rules.is_apart(at) { dram } else { host };
        captured.get_or_insert(at);
    }

    /// The driver takes what was captured, and tells all users. Returns what, and whether one of them had
    /// heard everything before.
    pub fn report(&mut self, room: usize) -> (Vec<u64>, bool) {
        let captured = core::mem::take(&mut self.captured);
        let captured: Vec<u64> = captured.into_iter().flatten().collect();
        let mut wake = false;
        for at in &captured {
            for file in &mut self.files {
                wake |= file.events.post(Told::Fault(*at), room);
            }
        }
        (captured, wake)
    }

    /// The driver notes that the device works, or does not, and tells all users. Returns whether one of them
    /// had heard everything before.
    pub fn tell(&mut self, works: bool, room: usize) -> bool {
        let files = self.files.iter_mut();
        let told = files.filter_map(|file| file.events.tell(works, room).then_some(()));
        told.count() > 0
    }

    /// The device was reset, and its MMUs have forgotten what they captured.
    pub fn forget_captured(&mut self) {
        self.captured = [None; 2];
    }

    // --- device memory ---

    /// Pages of device memory in use.
    #[must_use]
    pub fn dram_used(&self) -> u64 {
        self.packs.values().map(|pack| pack.pages).sum()
    }

    /// Takes one use off a piece of device memory; an orphan goes with its last one.
    pub fn release_pack(&mut self, handle: u64) {
        if let Some(pack) = self.packs.get_mut(&handle) {
            pack.holds -= 1;
            if pack.holds == 0 && pack.owner.is_none() {
                self.remove_pack(handle);
            }
        }
    }

    /// Frees a piece of device memory.
    pub fn remove_pack(&mut self, handle: u64) {
        self.packs.remove(&handle);
        self.words
            .retain(|(page, _), _| !matches!(page, PageName::Dram(h, _) if *h == handle));
    }

    // --- files ---

    /// How many mappings, handles and pieces of device memory a user's file leaves if it is closed now.
    #[must_use]
    pub fn left(&self, user: usize) -> (u32, u32, u32) {
        let file = &self.files[user];
        let own = |pack: &&Pack| pack.owner == Some((user, file.number));
        (
            file.mappings.len() as u32,
            file.handles.len() as u32,
            self.packs.values().filter(own).count() as u32,
        )
    }

    /// Everything of a user's file goes; what others hold of it stays. Returns what he [left](Self::left).
    pub fn close(&mut self, user: usize) -> (u32, u32, u32) {
        let left = self.left(user);
        let number = self.name();
        let file = core::mem::replace(
            &mut self.files[user],
            File {
                number,
                ..File::default()
            },
        );
        for mapping in file.all() {
            self.release(mapping);
        }
        for named in file.handles.values() {
            self.change_buffer(named.buffer(), |buffer| {
                buffer.named = false;
                buffer.privileged = false;
            });
        }
        // Nothing is written any more, whatever still waits.
        for buffer in file.pools.keys() {
            self.change_buffer(*buffer, |buffer| buffer.holds -= 1);
        }
        let own: Vec<u64> = self
            .packs
            .iter()
            .filter(|(_, pack)| pack.owner == Some((user, file.number)))
            .map(|(handle, _)| *handle)
            .collect();
        for handle in &own {
            match self.packs.get_mut(handle) {
                Some(pack) if pack.holds > 0 => pack.owner = None,
                _ => self.remove_pack(*handle),
            }
        }
        left
    }

    /// An MMU confirmed a removal of `memory` from a file, so that whatever it did not confirm before is
    /// settled. Device memory has one of its own, or not.
    pub fn confirm(&mut self, user: usize, memory: &Memory, apart: bool) {
        let is_dram = |memory: &Memory| matches!(memory, Memory::Dram(..));
        let quarantine = core::mem::take(&mut self.files[user].quarantine);
        for mapping in quarantine {
            if !apart || is_dram(&mapping.memory) == is_dram(memory) {
                self.release(&mapping);
            } else {
                self.files[user].quarantine.push(mapping);
            }
        }
    }

    /// The removal of a block was confirmed, and all of blocks that were not before.
    pub fn confirm_blocks(&mut self) {
        let names: Vec<u64> = self.buffers.keys().copied().collect();
        for name in names {
            self.change_buffer(name, |buffer| buffer.quarantined = false);
        }
    }

    /// How many buffers are in quarantine.
    #[must_use]
    pub fn quarantined_blocks(&self) -> u32 {
        let quarantined = self.buffers.values().filter(|buffer| buffer.quarantined);
        quarantined.count() as u32
    }

    /// Everything in quarantine is settled.
    pub fn settle(&mut self) {
        for user in 0..self.files.len() {
            for mapping in core::mem::take(&mut self.files[user].quarantine) {
                self.release(&mapping);
            }
        }
        self.confirm_blocks();
    }
}
