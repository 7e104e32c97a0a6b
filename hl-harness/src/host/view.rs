//! Views: scattered pages of the host, contiguous for this program.

use core::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::mapping::{Mapping, Piece};
use super::memory::by_page;
use super::{FRAME_SIZE, Frame, Host};
use crate::words;

/// Whether memory may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// Reading only.
    ReadOnly,
    /// Reading and writing.
    ReadWrite,
}

/// Why a view refused an access. Nothing was transferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ViewError {
    /// The bytes are not all inside, or a number is misaligned.
    Outside {
        /// Where the access began.
        offset: usize,
    },
    /// A page of it is mapped read-only.
    ReadOnly {
        /// The first offset that may not be written.
        offset: usize,
    },
}

impl fmt::Display for ViewError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Outside { offset } => write!(f, "offset {offset:#x} is outside the view"),
            Self::ReadOnly { offset } => write!(f, "offset {offset:#x} of the view is read-only"),
        }
    }
}

impl core::error::Error for ViewError {}

/// A list of pages, mapped one behind the other: what a user process has after `mmap`, or the kernel
/// after `vmap`. It holds a reference on each page, so none is reused before it is dropped, and it
/// counts in [`HostCounters`](super::HostCounters).
///
/// Its pages are mapped for real where they are in a file, but the system lets a program have some
/// 65 000 separate mappings. A view of more pieces than [`MAX_MAPPED_PIECES`], like every view of
/// [`FrameStorage::Program`](super::FrameStorage::Program), is not mapped: its accesses find each page by
/// its number instead, with the same rights.
///
/// All access goes through words (see the crate's `words` module), so that a device thread may write
/// the same pages at the same time. Writing a read-only page is refused here, and by the processor where
/// it is mapped.
#[derive(Debug)]
pub struct View {
    host: Arc<Host>,
    /// The mapping, where there is one.
    mapping: Option<Mapping>,
    frames: Vec<Frame>,
    writable: Vec<bool>,
}

/// The most separate pieces of physical memory that a view maps for real.
pub const MAX_MAPPED_PIECES: usize = 8192;

impl View {
    /// Maps `frames` in order; `writable` says of each whether it may be written through the view.
    pub(crate) fn new(host: &Arc<Host>, frames: &[Frame], writable: Vec<bool>) -> io::Result<Self> {
        if frames.is_empty() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut pieces: Vec<Piece> = Vec::new();
        for (frame, writable) in frames.iter().zip(&writable) {
            let number = frame.number() as usize;
            match pieces.last_mut() {
                Some(piece)
                    if piece.first + piece.frames == number && piece.writable == *writable =>
                {
                    piece.frames += 1;
                }
                _ => pieces.push(Piece {
                    first: number,
                    frames: 1,
                    writable: *writable,
                }),
            }
        }
        let mapping = match pieces.len() {
            ..=MAX_MAPPED_PIECES => host.memory.map(&pieces)?,
            _ => None,
        };
        host.reference_all(frames);
        host.views_changed(1, frames.len() as i64);
        Ok(Self {
            host: Arc::clone(host),
            mapping,
            frames: frames.to_vec(),
            writable,
        })
    }

    /// Its length in bytes, a multiple of 4 KiB.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "mapping nothing is an error")]
    pub fn len(&self) -> usize {
        self.frames.len() * FRAME_SIZE
    }

    /// The pages behind it, in order.
    #[must_use]
    pub fn frames(&self) -> &[Frame] {
        &self.frames
    }

    /// Copies bytes out, in no particular order.
    ///
    /// # Errors
    ///
    /// [`ViewError::Outside`].
    pub fn read(&self, offset: usize, buffer: &mut [u8]) -> Result<(), ViewError> {
        self.check(offset, buffer.len(), 1)?;
        match &self.mapping {
            Some(mapping) => words::read(mapping.words(), offset, buffer),
            None => by_page(offset, buffer.len()).for_each(|(at, part)| {
                let memory = &self.host.memory;
                memory.read(self.physical(at), &mut buffer[part]);
            }),
        }
        Ok(())
    }

    /// Copies bytes in, in no particular order.
    ///
    /// # Errors
    ///
    /// [`ViewError::Outside`], [`ViewError::ReadOnly`].
    pub fn write(&self, offset: usize, bytes: &[u8]) -> Result<(), ViewError> {
        self.check_writable(offset, bytes.len(), 1)?;
        match &self.mapping {
            Some(mapping) => words::write(mapping.words(), offset, bytes),
            None => by_page(offset, bytes.len()).for_each(|(at, part)| {
                let memory = &self.host.memory;
                memory.write(self.physical(at), &bytes[part]);
            }),
        }
        Ok(())
    }

    /// Loads an aligned 32-bit number, acquiring: what its writer released is visible afterwards.
    ///
    /// # Errors
    ///
    /// [`ViewError::Outside`].
    pub fn load_u32(&self, offset: usize) -> Result<u32, ViewError> {
        self.check(offset, 4, 4)?;
        let (words, at) = self.place(offset);
        Ok(words::load_u32(words, at))
    }

    /// Stores an aligned 32-bit number, releasing everything this thread wrote before.
    ///
    /// # Errors
    ///
    /// [`ViewError::Outside`], [`ViewError::ReadOnly`].
    pub fn store_u32(&self, offset: usize, value: u32) -> Result<(), ViewError> {
        self.check_writable(offset, 4, 4)?;
        let (words, at) = self.place(offset);
        words::store_u32(words, at, value);
        Ok(())
    }

    /// Loads an aligned 64-bit number, acquiring.
    ///
    /// # Errors
    ///
    /// [`ViewError::Outside`].
    pub fn load_u64(&self, offset: usize) -> Result<u64, ViewError> {
        self.check(offset, 8, 8)?;
        let (words, at) = self.place(offset);
        Ok(words::load_u64(words, at))
    }

    /// Stores an aligned 64-bit number, releasing.
    ///
    /// # Errors
    ///
    /// [`ViewError::Outside`], [`ViewError::ReadOnly`].
    pub fn store_u64(&self, offset: usize, value: u64) -> Result<(), ViewError> {
        self.check_writable(offset, 8, 8)?;
        let (words, at) = self.place(offset);
        words::store_u64(words, at, value);
        Ok(())
    }

    /// The words that hold the byte at `offset`, and its offset in them.
    fn place(&self, offset: usize) -> (&[AtomicU64], usize) {
        match &self.mapping {
            Some(mapping) => (mapping.words(), offset),
            None => self.host.memory.place(self.physical(offset)),
        }
    }

    /// Where in physical memory the byte at `offset` is.
    fn physical(&self, offset: usize) -> usize {
        let frame = self.frames[offset / FRAME_SIZE].number() as usize;
        frame * FRAME_SIZE + offset % FRAME_SIZE
    }

    fn check(&self, offset: usize, len: usize, align: usize) -> Result<(), ViewError> {
        let end = offset.checked_add(len);
        let inside = end.is_some_and(|end| end <= self.len()) && offset.is_multiple_of(align);
        if inside {
            Ok(())
        } else {
            Err(ViewError::Outside { offset })
        }
    }

    fn check_writable(&self, offset: usize, len: usize, align: usize) -> Result<(), ViewError> {
        self.check(offset, len, align)?;
        let pages: Range<usize> = offset / FRAME_SIZE..(offset + len).div_ceil(FRAME_SIZE);
        for page in pages {
            if !self.writable[page] {
                let offset = offset.max(page * FRAME_SIZE);
                return Err(ViewError::ReadOnly { offset });
            }
        }
        Ok(())
    }
}

impl Drop for View {
    fn drop(&mut self) {
        self.host.views_changed(-1, -(self.frames.len() as i64));
        self.host.release_all(&self.frames);
    }
}
