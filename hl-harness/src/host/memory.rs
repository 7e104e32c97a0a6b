//! The content of physical memory, and the one place that knows where it is.

use core::fmt;
use std::io;
use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::mapping::{Mapping, MemoryFile, Piece};
use super::sync::Probe;
use super::{FRAME_SIZE, Frame};
use crate::words::{self, WORD};

/// Where a host has the content of its pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FrameStorage {
    /// In a file in memory, mapped as a whole, and once more by each [`View`](super::View).
    #[default]
    MemoryFile,
    /// In memory of the program, without a system call and without unsafe code: for Miri, for loom,
    /// and for systems without `memfd`. A [`View`](super::View) finds each page by its number.
    Program,
}

const FRAME_WORDS: usize = FRAME_SIZE / WORD;

/// A page of the program's memory, which there is once it was touched.
type ProgramFrame = OnceLock<Box<[AtomicU64; FRAME_WORDS]>>;

enum Content {
    File { file: MemoryFile, whole: Mapping },
    Program(Box<[ProgramFrame]>),
}

/// Physical memory. Offsets are in bytes, and callers have checked them.
///
/// In a model loom is told of each page that [`read`](Self::read), [`write`](Self::write) and
/// [`fill`](Self::fill) touch, so that bytes which are written while somebody uses them fail it. Numbers are
/// what threads meet by, and may be loaded while they are stored.
pub(super) struct Memory {
    content: Content,
    /// One for each page.
    probes: Box<[Probe]>,
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match &self.content {
            Content::File { .. } => FrameStorage::MemoryFile,
            Content::Program(_) => FrameStorage::Program,
        };
        write!(f, "Memory({} pages, {place:?})", self.probes.len())
    }
}

/// Splits `len` bytes from `offset` on where pages end: where each part begins, and which of the bytes
/// it is.
pub(super) fn by_page(offset: usize, len: usize) -> impl Iterator<Item = (usize, Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let (start, at) = (done, offset + done);
        done += (len - done).min(FRAME_SIZE - at % FRAME_SIZE);
        (start < done).then_some((at, start..done))
    })
}

impl Memory {
    /// Zeroed memory, which costs nothing until touched.
    pub(super) fn new(storage: FrameStorage, frames: usize) -> io::Result<Self> {
        let content = match storage {
            FrameStorage::MemoryFile => {
                let file = MemoryFile::new(frames)?;
                let whole = Piece {
                    first: 0,
                    frames,
                    writable: true,
                };
                let whole = Mapping::new(&file, &[whole])?;
                Content::File { file, whole }
            }
            FrameStorage::Program => {
                Content::Program((0..frames).map(|_| ProgramFrame::new()).collect())
            }
        };
        Ok(Self {
            content,
            probes: (0..frames).map(|_| Probe::new()).collect(),
        })
    }

    /// Maps pieces of it for real, where that is possible.
    pub(super) fn map(&self, pieces: &[Piece]) -> io::Result<Option<Mapping>> {
        match &self.content {
            Content::File { file, .. } => Mapping::new(file, pieces).map(Some),
            Content::Program(_) => Ok(None),
        }
    }

    /// The words that hold the byte at `offset` and the rest of its page, and its offset in them.
    pub(super) fn place(&self, offset: usize) -> (&[AtomicU64], usize) {
        match &self.content {
            Content::File { whole, .. } => (whole.words(), offset),
            Content::Program(frames) => {
                let zeroed = || Box::new([const { AtomicU64::new(0) }; FRAME_WORDS]);
                let frame = frames[offset / FRAME_SIZE].get_or_init(zeroed);
                (&frame[..], offset % FRAME_SIZE)
            }
        }
    }

    /// Copies bytes out, in no particular order.
    pub(super) fn read(&self, offset: usize, buffer: &mut [u8]) {
        for (at, part) in by_page(offset, buffer.len()) {
            self.probes[at / FRAME_SIZE].read();
            let (words, at) = self.place(at);
            words::read(words, at, &mut buffer[part]);
        }
    }

    /// Copies bytes in, in no particular order.
    pub(super) fn write(&self, offset: usize, bytes: &[u8]) {
        for (at, part) in by_page(offset, bytes.len()) {
            self.probes[at / FRAME_SIZE].write();
            let (words, at) = self.place(at);
            words::write(words, at, &bytes[part]);
        }
    }

    /// Stores `value` into every word of a page.
    pub(super) fn fill(&self, frame: Frame, value: u64) {
        self.probes[frame.0 as usize].write();
        let (words, at) = self.place(frame.0 as usize * FRAME_SIZE);
        words::fill(words, at, FRAME_SIZE, value);
    }

    /// Whether every word of a page is `value`.
    pub(super) fn is_filled(&self, frame: Frame, value: u64) -> bool {
        let (words, at) = self.place(frame.0 as usize * FRAME_SIZE);
        let words = &words[at / WORD..at / WORD + FRAME_WORDS];
        words
            .iter()
            .all(|word| word.load(Ordering::Relaxed) == value)
    }

    /// Copies one page into another.
    pub(super) fn copy(&self, from: Frame, to: Frame) {
        let mut content = [0; FRAME_SIZE];
        self.read(from.0 as usize * FRAME_SIZE, &mut content);
        self.write(to.0 as usize * FRAME_SIZE, &content);
    }

    /// Loads an aligned 32-bit number, acquiring.
    pub(super) fn load_u32(&self, offset: usize) -> u32 {
        let (words, at) = self.place(offset);
        words::load_u32(words, at)
    }

    /// Stores an aligned 32-bit number, releasing.
    pub(super) fn store_u32(&self, offset: usize, value: u32) {
        let (words, at) = self.place(offset);
        words::store_u32(words, at, value);
    }

    /// Loads an aligned word, acquiring.
    pub(super) fn load_u64(&self, offset: usize) -> u64 {
        let (words, at) = self.place(offset);
        words::load_u64(words, at)
    }

    /// Stores an aligned word, releasing.
    pub(super) fn store_u64(&self, offset: usize, value: u64) {
        let (words, at) = self.place(offset);
        words::store_u64(words, at, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both() -> impl Iterator<Item = Memory> {
        // Miri has no memfd.
        let storages = [FrameStorage::Program, FrameStorage::MemoryFile];
        let storages = storages.into_iter().take(if cfg!(miri) { 1 } else { 2 });
        storages.map(|storage| Memory::new(storage, 3).unwrap())
    }

    #[test]
    fn bytes_across_pages_are_the_same_wherever_they_are() {
        let bytes: Vec<u8> = (0..=255).cycle().take(FRAME_SIZE + 10).collect();
        for memory in both() {
            memory.write(FRAME_SIZE - 5, &bytes);
            let mut all = vec![1; 3 * FRAME_SIZE];
            memory.read(0, &mut all);
            let (before, rest) = all.split_at(FRAME_SIZE - 5);
            let (found, after) = rest.split_at(bytes.len());
            assert_eq!(found, bytes, "{memory:?}");
            assert!(before.iter().chain(after).all(|byte| *byte == 0));
            memory.read(3 * FRAME_SIZE, &mut []);
        }
    }

    #[test]
    fn numbers_and_whole_pages_are_where_their_bytes_are() {
        for memory in both() {
            memory.store_u64(FRAME_SIZE - 8, 0x1122_3344_5566_7788);
            memory.store_u32(FRAME_SIZE, 0x99AA_BBCC);
            assert_eq!(memory.load_u32(FRAME_SIZE - 4), 0x1122_3344, "{memory:?}");
            assert_eq!(memory.load_u64(FRAME_SIZE), 0x99AA_BBCC);
            memory.copy(Frame(1), Frame(2));
            assert_eq!(memory.load_u32(2 * FRAME_SIZE), 0x99AA_BBCC);
            memory.fill(Frame(1), 7);
            assert!(memory.is_filled(Frame(1), 7) && !memory.is_filled(Frame(2), 7));
            memory.store_u32(2 * FRAME_SIZE - 4, 7);
            assert!(!memory.is_filled(Frame(1), 7), "{memory:?}");
        }
    }
}
