//! The end that takes records.

use core::fmt;

use super::end::{End, LookError};
use super::{BlockFence, BlockLayout, BlockRead, PeerIndex, WakeRequest};

/// Copies records out of a block and gives their slots back.
///
/// There is one consumer per block. It writes nothing but its index and its wish to be woken. A slot
/// is given back only after its record was copied out, so the copy cannot be overwritten underneath.
#[derive(Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Consumer<M> {
    end: End<M, false>,
    /// The producer's count of dropped records, as last read.
    dropped: u32,
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
    pub fn attach(memory: M, layout: BlockLayout) -> Result<Self, M::Error> {
        Ok(Self {
            end: End::attach(memory, layout)?,
            // Nobody knows what a predecessor was told: better told twice than not at all.
            dropped: 0,
        })
    }

    /// The free-running index of the next record.
    #[must_use]
    pub const fn index(&self) -> u32 {
        self.end.index()
    }

    /// Reads how many records can be popped now. The producer can only make it more.
    ///
    /// # Errors
    ///
    /// * [`PopError::PeerIndex`]: the producer's index cannot be right.
    /// * [`PopError::Memory`]: it could not be read.
    pub fn occupied(&mut self) -> Result<u32, PopError<M::Error>> {
        Ok(self.end.look()?)
    }

    /// Pops one record into `record`.
    ///
    /// # Errors
    ///
    /// As for [`pop_batch`](Self::pop_batch); [`PopError::Length`] where `record` is not exactly one
    /// record long.
    pub fn pop(&mut self, record: &mut [u8]) -> Result<(), PopError<M::Error>> {
        if record.len() != self.end.layout.record_len() {
            return Err(PopError::Length { len: record.len() });
        }
        if self.end.known_or_look(1)? == 0 {
            return Err(PopError::Empty);
        }
        // No record straddles the ring's end.
        let offset = self.end.layout.record_offset(self.end.index());
        self.end
            .memory
            .read(offset, record)
            .map_err(PopError::Memory)?;
        self.end.advance(1).map_err(PopError::Memory)
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
        match self.end.layout.whole_records(records.len()) {
            Some(wanted) => self.pop_records(records, wanted),
            None => Err(PopError::Length { len: records.len() }),
        }
    }

    /// Pops as many of the `wanted` records that `records` is long as there are.
    fn pop_records(&mut self, records: &mut [u8], wanted: u32) -> Result<u32, PopError<M::Error>> {
        let length = PopError::Length { len: records.len() };
        let layout = self.end.layout;
        let count = wanted.min(self.end.known_or_look(wanted)?);
        if count == 0 {
            return if wanted == 0 {
                Ok(0)
            } else {
                Err(PopError::Empty)
            };
        }

        // `count` records are within `records`, so this does not fail.
        let Some(records) = records.get_mut(..count as usize * layout.record_len()) else {
            return Err(length);
        };
        let offset = layout.record_offset(self.end.index());
        self.end.read(offset, records).map_err(PopError::Memory)?;
        self.end.advance(count).map_err(PopError::Memory)?;
        Ok(count)
    }

    /// Reads how many records the producer dropped for want of room since the last call, or before
    /// the first call since the ring was [initialized](BlockLayout::initialize).
    ///
    /// A drop is counted before any later record is published: whoever has popped a record and then
    /// calls this knows of every drop before that record. The count is modulo 2^32, and a claim of
    /// the producer like everything else in the block.
    ///
    /// # Errors
    ///
    /// The memory's own. The next call then counts these, too.
    pub fn dropped(&mut self) -> Result<u32, M::Error> {
        let offset = self.end.layout.dropped_offset();
        let count = self.end.memory.load_index(offset)?;
        let more = count.wrapping_sub(self.dropped);
        self.dropped = count;
        Ok(more)
    }

    /// Asks the producer to wake this end when `records` can be popped, at least one and at most
    /// the capacity. Only the last request counts.
    ///
    /// Where both ends sleep, what they wait for must not add up to more than the capacity and one,
    /// or both may wait for ever.
    ///
    /// # Errors
    ///
    /// As for [`occupied`](Self::occupied). The request may or may not have been made: do not sleep.
    pub fn request_wake(&mut self, records: u32) -> Result<WakeRequest, PopError<M::Error>>
    where
        M: BlockFence,
    {
        Ok(self.end.request_wake(records)?)
    }

    /// Tells whether the producer has to be woken: whether it asked for it, by
    /// [`request_wake`](super::Producer::request_wake), at one of the records popped since the last
    /// call that succeeded. See [`Producer::owes_wake`](super::Producer::owes_wake).
    ///
    /// # Errors
    ///
    /// The memory's own. The next call then answers for these records, too.
    pub fn owes_wake(&mut self) -> Result<bool, M::Error>
    where
        M: BlockFence,
    {
        self.end.owes_wake()
    }
}

impl<E> From<LookError<E>> for PopError<E> {
    fn from(error: LookError<E>) -> Self {
        match error {
            LookError::PeerIndex(error) => Self::PeerIndex(error),
            LookError::Memory(error) => Self::Memory(error),
        }
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
