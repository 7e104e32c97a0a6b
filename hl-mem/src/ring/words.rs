//! Blocks as slices of atomic words.

use core::fmt;

#[cfg(any(loom, target_has_atomic = "64"))]
use crate::sync::AtomicU64;
use crate::sync::{AtomicU32, Ordering, fence};

use super::memory::{BlockFence, BlockIndices, BlockRead, BlockWrite};

/// Bytes in a word of [`SharedWords`], and in an index.
const NARROW: usize = 4;
/// Bytes in a word of the data of [`WideWords`].
#[cfg(any(loom, target_has_atomic = "64"))]
const WIDE: usize = 8;
/// Words that are copied in one step where so many are left. Machines that have no wide atomics are
/// small ones, for which a short loop is worth more than a fast one.
const GROUP: usize = if cfg!(target_has_atomic = "64") { 8 } else { 1 };

/// The `len` bytes at `offset`, where `words` of `WORD` bytes each begin at `start`.
#[inline]
fn span<W, const WORD: usize>(
    start: u64,
    words: &[W],
    offset: u64,
    len: usize,
) -> Result<&[W], SharedWordsError> {
    let outside = SharedWordsError::OutOfBounds { offset, len };
    let within = offset.checked_sub(start).ok_or(outside)?;
    let within = usize::try_from(within).map_err(|_| outside)?;
    if !(within | len).is_multiple_of(WORD) {
        return Err(SharedWordsError::Misaligned { offset, len });
    }
    let first = within / WORD;
    let end = first.checked_add(len / WORD).ok_or(outside)?;
    words.get(first..end).ok_or(outside)
}

/// Loads each of `words` into its bytes.
///
/// Several in each turn of the loop: compilers do not unroll one with atomic accesses, and records
/// are short.
#[inline]
fn load_each<W, B>(words: &[W], bytes: &mut [B], load: impl Fn(&W) -> B) {
    let (word_groups, words) = words.as_chunks::<GROUP>();
    let (byte_groups, bytes) = bytes.as_chunks_mut::<GROUP>();
    for (words, bytes) in word_groups.iter().zip(byte_groups) {
        for (word, bytes) in words.iter().zip(bytes) {
            *bytes = load(word);
        }
    }
    for (word, bytes) in words.iter().zip(bytes) {
        *bytes = load(word);
    }
}

/// Stores into each of `words` its bytes, in the way of [`load_each`].
#[inline]
fn store_each<W, B: Copy>(words: &[W], bytes: &[B], store: impl Fn(&W, B)) {
    let (word_groups, words) = words.as_chunks::<GROUP>();
    let (byte_groups, bytes) = bytes.as_chunks::<GROUP>();
    for (words, bytes) in word_groups.iter().zip(byte_groups) {
        for (word, bytes) in words.iter().zip(bytes) {
            store(word, *bytes);
        }
    }
    for (word, bytes) in words.iter().zip(bytes) {
        store(word, *bytes);
    }
}

/// Reaches a block, or a part of one, as a slice of atomic words.
///
/// This is all that a mapping for a CPU on a coherent platform needs, and what firmware needs for a
/// block in a static array. Copies of the value are further views of the same memory. A view of
/// pages that are mapped read-only can serve a [`Consumer`](super::Consumer) as long as the consumer
/// page is writable: reading and storing an index are the only things the consumer does.
///
/// Every access is checked against the slice, so that a wrong layout is an error value and not an
/// access outside.
#[derive(Clone, Copy)]
pub struct SharedWords<'a> {
    start: u64,
    words: &'a [AtomicU32],
}

impl<'a> SharedWords<'a> {
    /// Views `words` as a whole block.
    #[must_use]
    pub const fn new(words: &'a [AtomicU32]) -> Self {
        Self::part(0, words)
    }

    /// Views `words` as the part of a block from byte `start` on, a multiple of 4.
    ///
    /// This is for a block whose pages do not lie side by side.
    #[must_use]
    pub const fn part(start: u64, words: &'a [AtomicU32]) -> Self {
        Self { start, words }
    }

    #[inline]
    fn index(self, offset: u64) -> Result<&'a AtomicU32, SharedWordsError> {
        match span::<_, NARROW>(self.start, self.words, offset, NARROW)? {
            [index] => Ok(index),
            _ => Err(SharedWordsError::OutOfBounds {
                offset,
                len: NARROW,
            }),
        }
    }
}

impl BlockIndices for SharedWords<'_> {
    type Error = SharedWordsError;

    #[inline]
    fn load_index(&mut self, offset: u64) -> Result<u32, SharedWordsError> {
        Ok(u32::from_le(self.index(offset)?.load(Ordering::Acquire)))
    }

    #[inline]
    fn store_index(&mut self, offset: u64, index: u32) -> Result<(), SharedWordsError> {
        self.index(offset)?.store(index.to_le(), Ordering::Release);
        Ok(())
    }
}

impl BlockFence for SharedWords<'_> {
    #[inline]
    fn fence(&mut self) -> Result<(), SharedWordsError> {
        fence(Ordering::SeqCst);
        Ok(())
    }
}

impl BlockRead for SharedWords<'_> {
    #[inline]
    fn read(&mut self, offset: u64, bytes: &mut [u8]) -> Result<(), SharedWordsError> {
        let words = span::<_, NARROW>(self.start, self.words, offset, bytes.len())?;
        let (chunks, _) = bytes.as_chunks_mut();
        load_each(words, chunks, |word| {
            word.load(Ordering::Relaxed).to_ne_bytes()
        });
        Ok(())
    }
}

impl BlockWrite for SharedWords<'_> {
    #[inline]
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), SharedWordsError> {
        let words = span::<_, NARROW>(self.start, self.words, offset, bytes.len())?;
        let (chunks, _) = bytes.as_chunks();
        store_each(words, chunks, |word, chunk| {
            word.store(u32::from_ne_bytes(chunk), Ordering::Relaxed);
        });
        Ok(())
    }
}

impl fmt::Debug for SharedWords<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedWords")
            .field("start", &self.start)
            .field("words", &self.words.len())
            .finish()
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for SharedWords<'_> {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(
            f,
            "SharedWords {{ start: {=u64}, words: {=usize} }}",
            self.start,
            self.words.len()
        );
    }
}

/// Reaches a block as [`SharedWords`] does, the records in words of 64 bits: half as many accesses
/// for each.
///
/// The two first pages, with the indices and the header, stay 32-bit words. No byte is in words of
/// both sizes, and both ends in one program must agree on them: they use this type, or both use
/// [`SharedWords`].
#[cfg(any(loom, target_has_atomic = "64"))]
#[derive(Clone, Copy)]
pub struct WideWords<'a> {
    indices: SharedWords<'a>,
    data_start: u64,
    data: &'a [AtomicU64],
}

#[cfg(any(loom, target_has_atomic = "64"))]
impl<'a> WideWords<'a> {
    /// Views `indices`, the consumer's and the producer's page, and `data`, all pages that follow, as
    /// a block.
    ///
    /// Where `indices` are not exactly two pages, the first access that misses them says so.
    #[must_use]
    pub const fn new(indices: &'a [AtomicU32], data: &'a [AtomicU64]) -> Self {
        Self {
            indices: SharedWords::new(indices),
            // A slice is shorter than 2^63 bytes.
            data_start: indices.len() as u64 * NARROW as u64,
            data,
        }
    }
}

#[cfg(any(loom, target_has_atomic = "64"))]
impl BlockIndices for WideWords<'_> {
    type Error = SharedWordsError;

    #[inline]
    fn load_index(&mut self, offset: u64) -> Result<u32, SharedWordsError> {
        self.indices.load_index(offset)
    }

    #[inline]
    fn store_index(&mut self, offset: u64, index: u32) -> Result<(), SharedWordsError> {
        self.indices.store_index(offset, index)
    }
}

#[cfg(any(loom, target_has_atomic = "64"))]
impl BlockFence for WideWords<'_> {
    #[inline]
    fn fence(&mut self) -> Result<(), SharedWordsError> {
        self.indices.fence()
    }
}

#[cfg(any(loom, target_has_atomic = "64"))]
impl BlockRead for WideWords<'_> {
    #[inline]
    fn read(&mut self, offset: u64, bytes: &mut [u8]) -> Result<(), SharedWordsError> {
        if offset < self.data_start {
            return self.indices.read(offset, bytes);
        }
        let words = span::<_, WIDE>(self.data_start, self.data, offset, bytes.len())?;
        let (chunks, _) = bytes.as_chunks_mut();
        load_each(words, chunks, |word| {
            word.load(Ordering::Relaxed).to_ne_bytes()
        });
        Ok(())
    }
}

#[cfg(any(loom, target_has_atomic = "64"))]
impl BlockWrite for WideWords<'_> {
    #[inline]
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), SharedWordsError> {
        if offset < self.data_start {
            return self.indices.write(offset, bytes);
        }
        let words = span::<_, WIDE>(self.data_start, self.data, offset, bytes.len())?;
        let (chunks, _) = bytes.as_chunks();
        store_each(words, chunks, |word, chunk| {
            word.store(u64::from_ne_bytes(chunk), Ordering::Relaxed);
        });
        Ok(())
    }
}

#[cfg(any(loom, target_has_atomic = "64"))]
impl fmt::Debug for WideWords<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WideWords")
            .field("indices", &self.indices)
            .field("data", &self.data.len())
            .finish()
    }
}

#[cfg(all(feature = "defmt", any(loom, target_has_atomic = "64")))]
impl defmt::Format for WideWords<'_> {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(
            f,
            "WideWords {{ indices: {}, data: {=usize} }}",
            self.indices,
            self.data.len()
        );
    }
}

/// Says why [`SharedWords`] or its wide sibling refused an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum SharedWordsError {
    /// The access is not wholly inside the words.
    OutOfBounds {
        /// Its offset in the block, in bytes.
        offset: u64,
        /// Its length in bytes.
        len: usize,
    },
    /// The access does not start and end at a word's boundary.
    Misaligned {
        /// Its offset in the block, in bytes.
        offset: u64,
        /// Its length in bytes.
        len: usize,
    },
}

impl fmt::Display for SharedWordsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfBounds { offset, len } => {
                write!(f, "{len} bytes at offset {offset:#x} are not in the block")
            }
            Self::Misaligned { offset, len } => {
                write!(f, "{len} bytes at offset {offset:#x} are not whole words")
            }
        }
    }
}

impl core::error::Error for SharedWordsError {}
