//! How an end of the ring reaches the block.

use core::fmt;

use crate::sync::{AtomicU32, Ordering, fence};

/// Reaches the indices of a block, from one side of it.
///
/// An implementation is one side's way to the block: a mapped slice, a device that translates each
/// access, a model. Offsets count in bytes from the start of the block and are multiples of 4.
///
/// # Contract
///
/// The ring is correct over any implementation that keeps these promises. An implementation that
/// breaks one loses or tears records, but cannot make the ring access anything it was not told to.
///
/// 1. *Single access.* An index is loaded or stored by exactly one naturally aligned 32-bit access,
///    little-endian in memory. It never tears and the compiler neither repeats nor drops it.
/// 2. *`load_index` acquires.* No [`read`](BlockRead::read) or [`write`](BlockWrite::write) made
///    through this value after the load takes effect before it, and a read sees everything the peer
///    wrote before it stored the index loaded. Without this the consumer reads a slot that is not
///    filled yet, or the producer fills a slot that is not read yet.
/// 3. *`store_index` releases.* Every `read` **and** `write` made through this value before the
///    store is complete, and the writes are visible to the peer, before the new index is. Without
///    it for writes, the peer sees an index whose records are not there; without it for reads, the
///    peer refills a slot while its old record is still being copied.
/// 4. *An error means that nothing happened:* a failed store has not reached memory and never will.
///    The ring goes on from its previous index.
///
/// For memory that only CPUs touch, `Acquire` and `Release` of a 32-bit atomic are points 2 and 3.
/// Where a device takes part, the implementation provides the equivalent: on a CPU, the platform's
/// device-memory barriers, and on a non-coherent platform cache maintenance of the data after the
/// load and before the store; on the device, whatever keeps its index write behind its record
/// writes (posted PCI Express writes keep their order unless they are marked as relaxed) and its
/// record writes behind the completion of its index read.
pub trait BlockIndices {
    /// Says why an access failed, for example a translation fault of the device.
    type Error;

    /// Loads the index at `offset`, with acquire ordering.
    ///
    /// # Errors
    ///
    /// The implementation's own, where the index cannot be reached.
    fn load_index(&mut self, offset: u64) -> Result<u32, Self::Error>;

    /// Stores `index` at `offset`, with release ordering.
    ///
    /// # Errors
    ///
    /// The implementation's own, where the index cannot be reached; nothing is stored then.
    fn store_index(&mut self, offset: u64, index: u32) -> Result<(), Self::Error>;
}

/// Reads data of a block: what a consumer needs beyond the indices.
///
/// A read-only mapping can implement it. The peer may write at the same time, so an implementation
/// uses accesses that are allowed to race (atomic, volatile or outside the language), never a plain
/// copy of shared memory.
pub trait BlockRead: BlockIndices {
    /// Copies the bytes from `offset` on into `bytes`; both `offset` and the length are multiples
    /// of 4.
    ///
    /// No order among the bytes is required, and a concurrent writer may show in part.
    ///
    /// # Errors
    ///
    /// The implementation's own, where a byte cannot be reached; `bytes` may have changed.
    fn read(&mut self, offset: u64, bytes: &mut [u8]) -> Result<(), Self::Error>;
}

/// Writes data of a block: what a producer needs beyond the indices.
///
/// The peer may read at the same time; see [`BlockRead`] for what that asks of an implementation.
pub trait BlockWrite: BlockIndices {
    /// Copies `bytes` to `offset` and on; both `offset` and the length are multiples of 4.
    ///
    /// No order among the bytes is required.
    ///
    /// # Errors
    ///
    /// The implementation's own, where a byte cannot be reached. Others may have been written: the
    /// ring writes only to slots that the peer does not read, and writes all of a slot again before
    /// it publishes it.
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Self::Error>;
}

/// Orders a store before a load, which release and acquire do not: what an end needs to sleep, or to
/// know whether its peer does.
///
/// Polling ends do without it.
pub trait BlockFence: BlockIndices {
    /// Makes every earlier access through this value take effect, in the eyes of the peer, before
    /// any later one does; of two ends that both store, call this and load what the other stored,
    /// at least one sees the other's store.
    ///
    /// For memory that only CPUs touch that is a sequentially consistent fence. A device behind
    /// posted writes reads something back.
    ///
    /// # Errors
    ///
    /// The implementation's own, where the order cannot be had.
    fn fence(&mut self) -> Result<(), Self::Error>;
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

    fn span(self, offset: u64, len: usize) -> Result<&'a [AtomicU32], SharedWordsError> {
        const WORD: usize = size_of::<u32>();
        let outside = SharedWordsError::OutOfBounds { offset, len };
        let within = offset.checked_sub(self.start).ok_or(outside)?;
        let within = usize::try_from(within).map_err(|_| outside)?;
        if !within.is_multiple_of(WORD) || !len.is_multiple_of(WORD) {
            return Err(SharedWordsError::Misaligned { offset, len });
        }
        let first = within / WORD;
        let end = first.checked_add(len / WORD).ok_or(outside)?;
        self.words.get(first..end).ok_or(outside)
    }

    fn index(self, offset: u64) -> Result<&'a AtomicU32, SharedWordsError> {
        const LEN: usize = size_of::<u32>();
        self.span(offset, LEN)?
            .first()
            .ok_or(SharedWordsError::OutOfBounds { offset, len: LEN })
    }
}

impl BlockIndices for SharedWords<'_> {
    type Error = SharedWordsError;

    fn load_index(&mut self, offset: u64) -> Result<u32, SharedWordsError> {
        Ok(u32::from_le(self.index(offset)?.load(Ordering::Acquire)))
    }

    fn store_index(&mut self, offset: u64, index: u32) -> Result<(), SharedWordsError> {
        self.index(offset)?.store(index.to_le(), Ordering::Release);
        Ok(())
    }
}

impl BlockFence for SharedWords<'_> {
    fn fence(&mut self) -> Result<(), SharedWordsError> {
        fence(Ordering::SeqCst);
        Ok(())
    }
}

impl BlockRead for SharedWords<'_> {
    fn read(&mut self, offset: u64, bytes: &mut [u8]) -> Result<(), SharedWordsError> {
        let words = self.span(offset, bytes.len())?;
        let (chunks, _) = bytes.as_chunks_mut();
        for (chunk, word) in chunks.iter_mut().zip(words) {
            *chunk = word.load(Ordering::Relaxed).to_ne_bytes();
        }
        Ok(())
    }
}

impl BlockWrite for SharedWords<'_> {
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), SharedWordsError> {
        let words = self.span(offset, bytes.len())?;
        let (chunks, _) = bytes.as_chunks();
        for (chunk, word) in chunks.iter().zip(words) {
            word.store(u32::from_ne_bytes(*chunk), Ordering::Relaxed);
        }
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

/// Says why [`SharedWords`] refused an access.
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
