//! The device's own memory, and the host's window into it.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError, RwLock};

use super::config::PostedWrites;
use crate::words;

/// What memory that was never written holds: present as an entry, and malformed, so that a table
/// nobody initialised is noticed instead of looking empty.
pub const UNDEFINED_WORD: u64 = u64::from_le_bytes([UNDEFINED_BYTE; 8]);
const UNDEFINED_BYTE: u8 = 0xD1;

const PAGE_SHIFT: u32 = 16;
const PAGE: usize = 1 << PAGE_SHIFT;

/// Device DRAM by offset from its first byte. Pages of 64 KiB have words once something but a fill was
/// written to them, so that 96 GiB cost nothing and scrubbing them little.
pub(crate) struct Dram {
    size: u64,
    pages: RwLock<HashMap<u64, Page>>,
}

/// What was written to a page of which anything was.
enum Page {
    /// The same byte everywhere.
    Filled(u8),
    Words(Box<[AtomicU64]>),
}

impl fmt::Debug for Dram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dram")
            .field("size", &self.size)
            .field("pages", &self.pages().len())
            .finish()
    }
}

impl Dram {
    pub(crate) fn new(size: u64) -> Self {
        Self {
            size,
            pages: RwLock::default(),
        }
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Whether all `len` bytes from `offset` exist.
    pub(crate) fn holds(&self, offset: u64, len: u64) -> bool {
        offset.checked_add(len).is_some_and(|end| end <= self.size)
    }

    /// Copies out; the caller has checked the bounds.
    pub(crate) fn read(&self, offset: u64, buffer: &mut [u8]) {
        let pages = self.pages();
        let mut at = offset;
        let mut rest = buffer;
        while !rest.is_empty() {
            let within = at as usize % PAGE;
            let (part, tail) = rest.split_at_mut(rest.len().min(PAGE - within));
            match pages.get(&(at >> PAGE_SHIFT)) {
                Some(Page::Words(page)) => words::read(page, within, part),
                Some(Page::Filled(byte)) => part.fill(*byte),
                None => part.fill(UNDEFINED_BYTE),
            }
            at += part.len() as u64;
            rest = tail;
        }
    }

    /// Copies in; the caller has checked the bounds.
    pub(crate) fn write(&self, offset: u64, bytes: &[u8]) {
        let mut at = offset;
        let mut rest = bytes;
        while !rest.is_empty() {
            let within = at as usize % PAGE;
            let (part, tail) = rest.split_at(rest.len().min(PAGE - within));
            self.with_page(at, |page| words::write(page, within, part));
            at += part.len() as u64;
            rest = tail;
        }
    }

    /// Writes the same byte everywhere; the caller has checked the bounds.
    pub(crate) fn fill(&self, offset: u64, byte: u8, len: u64) {
        let end = offset + len;
        let mut at = offset;
        while at < end {
            let within = at as usize % PAGE;
            let part = (end - at).min((PAGE - within) as u64) as usize;
            if part == PAGE {
                let mut pages = self.pages.write().unwrap_or_else(PoisonError::into_inner);
                pages.insert(at >> PAGE_SHIFT, Page::Filled(byte));
            } else {
                let bytes = vec![byte; part];
                self.with_page(at, |page| words::write(page, within, &bytes));
            }
            at += part as u64;
        }
    }

    pub(crate) fn load_u32(&self, offset: u64) -> u32 {
        self.with_page(offset, |page| words::load_u32(page, offset as usize % PAGE))
    }

    pub(crate) fn store_u32(&self, offset: u64, value: u32) {
        self.with_page(offset, |page| {
            words::store_u32(page, offset as usize % PAGE, value);
        });
    }

    /// Loads words that do not cross a page; `offset` is a multiple of eight.
    pub(crate) fn load_words(&self, offset: u64, out: &mut [u64]) {
        let pages = self.pages();
        let page = pages.get(&(offset >> PAGE_SHIFT));
        for (word, at) in out
            .iter_mut()
            .zip((offset as usize % PAGE..).step_by(words::WORD))
        {
            *word = match page {
                Some(Page::Words(page)) => words::load_u64(page, at),
                Some(Page::Filled(byte)) => u64::from_le_bytes([*byte; words::WORD]),
                None => UNDEFINED_WORD,
            };
        }
    }

    pub(crate) fn store_word(&self, offset: u64, value: u64) {
        self.with_page(offset, |page| {
            words::store_u64(page, offset as usize % PAGE, value);
        });
    }

    /// Makes all content undefined.
    pub(crate) fn forget(&self) {
        self.pages
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    fn pages(&self) -> std::sync::RwLockReadGuard<'_, HashMap<u64, Page>> {
        self.pages.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn with_page<R>(&self, offset: u64, use_page: impl FnOnce(&[AtomicU64]) -> R) -> R {
        let number = offset >> PAGE_SHIFT;
        if let Some(Page::Words(words)) = self.pages().get(&number) {
            return use_page(words);
        }
        let mut pages = self.pages.write().unwrap_or_else(PoisonError::into_inner);
        let page = pages.entry(number).or_insert(Page::Filled(UNDEFINED_BYTE));
        if let Page::Filled(byte) = *page {
            let word = u64::from_le_bytes([byte; words::WORD]);
            let words = (0..PAGE / words::WORD).map(|_| AtomicU64::new(word));
            *page = Page::Words(words.collect());
        }
        match page {
            Page::Words(words) => use_page(words),
            Page::Filled(_) => unreachable!("it has words now"),
        }
    }
}

/// The host's movable window into device DRAM, with its posted writes.
#[derive(Debug)]
pub(crate) struct Bar {
    size: u64,
    posted_writes: PostedWrites,
    state: Mutex<BarState>,
}

#[derive(Debug, Default)]
struct BarState {
    /// DRAM offset of the window's first byte.
    base: u64,
    /// Writes on their way, oldest first: DRAM offset and word.
    posted: Vec<(u64, u64)>,
}

impl Bar {
    pub(crate) fn new(size: u64, posted_writes: PostedWrites) -> Self {
        Self {
            size,
            posted_writes,
            state: Mutex::default(),
        }
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn base(&self) -> u64 {
        self.state().base
    }

    pub(crate) fn set_base(&self, base: u64) {
        self.state().base = base;
    }

    /// The DRAM offset behind a window offset, if `len` bytes fit in both.
    pub(crate) fn target(&self, offset: u64, len: u64, dram: &Dram) -> Option<u64> {
        let end = offset.checked_add(len)?;
        let target = self.base().checked_add(offset)?;
        (end <= self.size && dram.holds(target, len)).then_some(target)
    }

    pub(crate) fn post(&self, target: u64, values: &[u64], dram: &Dram) {
        let targets = (target..).step_by(words::WORD);
        match self.posted_writes {
            PostedWrites::Immediate => {
                for (at, value) in targets.zip(values) {
                    dram.store_word(at, *value);
                }
            }
            PostedWrites::UntilFlush => self
                .state()
                .posted
                .extend(targets.zip(values.iter().copied())),
        }
    }

    /// Lets every posted write arrive, in order; returns how many there were.
    pub(crate) fn drain(&self, dram: &Dram) -> u64 {
        // Under the lock: whoever flushes concurrently must not return before these arrived.
        let mut state = self.state();
        let count = state.posted.len() as u64;
        for (at, value) in state.posted.drain(..) {
            dram.store_word(at, value);
        }
        count
    }

    /// As after power-on; what was posted and not flushed is lost.
    pub(crate) fn power_on(&self) {
        *self.state() = BarState::default();
    }

    fn state(&self) -> std::sync::MutexGuard<'_, BarState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
