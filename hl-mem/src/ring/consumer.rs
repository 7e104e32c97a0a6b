//! The end that takes records.

use core::fmt;

use super::{BlockLayout, BlockRead, PeerIndex};

/// Copies records out of a block and gives their slots back.
///
/// There is one consumer per block. It writes nothing but its index. A slot is given back only after
/// its record was copied out, so the copy cannot be overwritten underneath.
#[derive(Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Consumer<M> {
    memory: M,
    layout: BlockLayout,
    /// Index of the next record. Read from the block once, by `attach`.
    index: u32,
    /// The producer's index as last read and checked: at most `capacity` ahead of `index`.
    producer: u32,
}

impl<M: BlockRead> Consumer<M> {
    /// Takes over the consuming end, at the index the block has: that of
    /// [`initialize`](BlockLayout::initialize), or where a previous consumer stopped.
    ///
    /// From here on the consumer's index is kept privately and the one in the block is only written.
    /// Every 32-bit value is a possible index, so this one needs no check; where it does not go with
    /// the producer's, the first pop says so.
    ///
    /// # Errors
    ///
    /// The memory's own.
    pub fn attach(mut memory: M, layout: BlockLayout) -> Result<Self, M::Error> {
        let index = memory.load_index(layout.consumer_index_offset())?;
        Ok(Self {
            memory,
            layout,
            index,
            // As if empty: nothing is assumed of the producer before its index was read.
            producer: index,
        })
    }

    /// The free-running index of the next record.
    #[must_use]
    pub const fn index(&self) -> u32 {
        self.index
    }

    /// Reads how many records can be popped now. The producer can only make it more.
    ///
    /// # Errors
    ///
    /// * [`PopError::PeerIndex`]: the producer's index cannot be right.
    /// * [`PopError::Memory`]: it could not be read.
    pub fn occupied(&mut self) -> Result<u32, PopError<M::Error>> {
        let found = self
            .memory
            .load_index(self.layout.producer_index_offset())
            .map_err(PopError::Memory)?;
        let furthest = self.index.wrapping_add(self.layout.capacity());
        self.producer =
            PeerIndex::check(found, self.producer, furthest).map_err(PopError::PeerIndex)?;
        Ok(self.known_occupied())
    }

    /// Pops one record into `record`.
    ///
    /// # Errors
    ///
    /// As for [`pop_batch`](Self::pop_batch); [`PopError::Length`] where `record` is not exactly one
    /// record long.
    pub fn pop(&mut self, record: &mut [u8]) -> Result<(), PopError<M::Error>> {
        if self.layout.whole_records(record.len()) != Some(1) {
            return Err(PopError::Length { len: record.len() });
        }
        self.pop_batch(record).map(|_| ())
    }

    /// Pops as many records as there are and `records` has room for, laid end to end, and gives
    /// their slots back together. Returns how many: zero only where `records` is empty.
    ///
    /// The producer's index is read only where the last one read does not promise enough to fill
    /// `records`, so a corrupt one may show as late as one lap after it was written.
    ///
    /// # Errors
    ///
    /// None of them consumes a record: the next successful call starts with the same one. What
    /// `records` contains after an error is unspecified.
    ///
    /// * [`PopError::Empty`]: there is no record.
    /// * [`PopError::Length`]: `records` is not whole records long.
    /// * [`PopError::PeerIndex`]: the producer's index cannot be right.
    /// * [`PopError::Memory`]: an access failed.
    pub fn pop_batch(&mut self, records: &mut [u8]) -> Result<u32, PopError<M::Error>> {
        let length = PopError::Length { len: records.len() };
        let Some(wanted) = self.layout.whole_records(records.len()) else {
            return Err(length);
        };
        let mut occupied = self.known_occupied();
        if occupied < wanted {
            occupied = self.occupied()?;
        }
        let count = wanted.min(occupied);
        if count == 0 {
            return if wanted == 0 {
                Ok(0)
            } else {
                Err(PopError::Empty)
            };
        }

        let (before_end, from_start) = self.layout.split(self.index, count);
        // `count` records are within `records`, so neither of these two fails.
        let Some((head, rest)) = records.split_at_mut_checked(before_end) else {
            return Err(length);
        };
        let Some(tail) = rest.get_mut(..from_start) else {
            return Err(length);
        };
        self.memory
            .read(self.layout.record_offset(self.index), head)
            .map_err(PopError::Memory)?;
        if !tail.is_empty() {
            self.memory
                .read(self.layout.data_offset(), tail)
                .map_err(PopError::Memory)?;
        }
        let next = self.index.wrapping_add(count);
        self.memory
            .store_index(self.layout.consumer_index_offset(), next)
            .map_err(PopError::Memory)?;
        self.index = next;
        Ok(count)
    }

    fn known_occupied(&self) -> u32 {
        self.producer.wrapping_sub(self.index)
    }
}

/// Says why nothing was popped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum PopError<E> {
    /// The ring has no record; the producer has to push one first.
    Empty,
    /// The bytes given are not whole records long.
    Length {
        /// How many bytes were given.
        len: usize,
    },
    /// The producer's index cannot be right: the producer is broken or hostile.
    PeerIndex(PeerIndex),
    /// The block could not be accessed.
    Memory(E),
}

impl<E: fmt::Display> fmt::Display for PopError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "ring is empty"),
            Self::Length { len } => write!(f, "{len} bytes are not whole records"),
            Self::PeerIndex(error) => write!(f, "producer: {error}"),
            Self::Memory(error) => write!(f, "block inaccessible to the consumer: {error}"),
        }
    }
}

impl<E: core::error::Error + 'static> core::error::Error for PopError<E> {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::PeerIndex(error) => Some(error),
            Self::Memory(error) => Some(error),
            Self::Empty | Self::Length { .. } => None,
        }
    }
}
