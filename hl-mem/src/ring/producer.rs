//! The end that writes records.

use core::fmt;

use super::{BlockLayout, BlockWrite, PeerIndex};

/// Writes records into a block and publishes them.
///
/// There is one producer per block. A record is written first and published last, so the consumer
/// sees it whole or not at all, and a fault in the middle of it leaves the ring as it was.
#[derive(Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Producer<M> {
    memory: M,
    layout: BlockLayout,
    /// Index of the next record. Read from the block once, by `attach`.
    index: u32,
    /// The consumer's index as last read and checked: at most `capacity` behind `index`.
    consumer: u32,
}

impl<M: BlockWrite> Producer<M> {
    /// Takes over the producing end, at the index the block has: that of
    /// [`initialize`](BlockLayout::initialize), or where a previous producer stopped.
    ///
    /// From here on the producer's index is kept privately and the one in the block is only written.
    /// Every 32-bit value is a possible index, so this one needs no check; where it does not go with
    /// the consumer's, the first push says so.
    ///
    /// # Errors
    ///
    /// The memory's own.
    pub fn attach(mut memory: M, layout: BlockLayout) -> Result<Self, M::Error> {
        let index = memory.load_index(layout.producer_index_offset())?;
        Ok(Self {
            memory,
            layout,
            index,
            // As if full: nothing is assumed of the consumer before its index was read.
            consumer: index.wrapping_sub(layout.capacity()),
        })
    }

    /// The free-running index of the next record.
    #[must_use]
    pub const fn index(&self) -> u32 {
        self.index
    }

    /// Reads how many records can be pushed now. The consumer can only make it more.
    ///
    /// # Errors
    ///
    /// * [`PushError::PeerIndex`]: the consumer's index cannot be right.
    /// * [`PushError::Memory`]: it could not be read.
    pub fn free(&mut self) -> Result<u32, PushError<M::Error>> {
        let found = self
            .memory
            .load_index(self.layout.consumer_index_offset())
            .map_err(PushError::Memory)?;
        self.consumer =
            PeerIndex::check(found, self.consumer, self.index).map_err(PushError::PeerIndex)?;
        Ok(self.known_free())
    }

    /// Pushes one record.
    ///
    /// # Errors
    ///
    /// As for [`push_batch`](Self::push_batch); [`PushError::Length`] where `record` is not exactly
    /// one record long.
    pub fn push(&mut self, record: &[u8]) -> Result<(), PushError<M::Error>> {
        if self.layout.whole_records(record.len()) != Some(1) {
            return Err(PushError::Length { len: record.len() });
        }
        self.push_batch(record).map(|_| ())
    }

    /// Pushes as many of `records`, laid end to end, as there is room for, and publishes them
    /// together. Returns how many: zero only where `records` is empty.
    ///
    /// The consumer's index is read only where the last one read does not leave room for all, so a
    /// corrupt one may show as late as one lap after it was written. Until then every push is one
    /// that the last good value allowed.
    ///
    /// # Errors
    ///
    /// None of them changes what the consumer sees, and the same call can be made again.
    ///
    /// * [`PushError::Full`]: there is no room for even one record.
    /// * [`PushError::Length`]: `records` does not end with a whole record.
    /// * [`PushError::PeerIndex`]: the consumer's index cannot be right.
    /// * [`PushError::Memory`]: an access failed.
    pub fn push_batch(&mut self, records: &[u8]) -> Result<u32, PushError<M::Error>> {
        let length = PushError::Length { len: records.len() };
        let Some(wanted) = self.layout.whole_records(records.len()) else {
            return Err(length);
        };
        let mut free = self.known_free();
        if free < wanted {
            free = self.free()?;
        }
        let count = wanted.min(free);
        if count == 0 {
            return if wanted == 0 {
                Ok(0)
            } else {
                Err(PushError::Full)
            };
        }

        let (before_end, from_start) = self.layout.split(self.index, count);
        // `count` records are within `records`, so neither of these two fails.
        let Some((head, rest)) = records.split_at_checked(before_end) else {
            return Err(length);
        };
        let Some(tail) = rest.get(..from_start) else {
            return Err(length);
        };
        self.memory
            .write(self.layout.record_offset(self.index), head)
            .map_err(PushError::Memory)?;
        if !tail.is_empty() {
            self.memory
                .write(self.layout.data_offset(), tail)
                .map_err(PushError::Memory)?;
        }
        let next = self.index.wrapping_add(count);
        self.memory
            .store_index(self.layout.producer_index_offset(), next)
            .map_err(PushError::Memory)?;
        self.index = next;
        Ok(count)
    }

    fn known_free(&self) -> u32 {
        // The indices differ by at most the capacity, see `PeerIndex::check` in `free`.
        self.layout.capacity() - self.index.wrapping_sub(self.consumer)
    }
}

/// Says why nothing was pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum PushError<E> {
    /// The ring holds as many records as it can; the consumer has to take one first.
    Full,
    /// The bytes given are not whole records.
    Length {
        /// How many bytes were given.
        len: usize,
    },
    /// The consumer's index cannot be right: the consumer is broken or hostile.
    PeerIndex(PeerIndex),
    /// The block could not be accessed.
    Memory(E),
}

impl<E: fmt::Display> fmt::Display for PushError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => write!(f, "ring is full"),
            Self::Length { len } => write!(f, "{len} bytes are not whole records"),
            Self::PeerIndex(error) => write!(f, "consumer: {error}"),
            Self::Memory(error) => write!(f, "block inaccessible to the producer: {error}"),
        }
    }
}

impl<E: core::error::Error + 'static> core::error::Error for PushError<E> {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::PeerIndex(error) => Some(error),
            Self::Memory(error) => Some(error),
            Self::Full | Self::Length { .. } => None,
        }
    }
}
