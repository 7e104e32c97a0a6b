//! The end that writes records.

use core::fmt;

use super::drops::Drops;
use super::end::{End, LookError};
use super::{BlockFence, BlockLayout, BlockWrite, PeerIndex, Pushed, WakeRequest};

/// Writes records into a block and publishes them.
///
/// There is one producer per block. A record is written first and published last, so the consumer
/// sees it whole or not at all, and a fault in the middle of it leaves the ring as it was.
#[derive(Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Producer<M> {
    end: End<M, true>,
    drops: Drops,
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
    pub fn attach(memory: M, layout: BlockLayout) -> Result<Self, M::Error> {
        Ok(Self {
            end: End::attach(memory, layout)?,
            drops: Drops::default(),
        })
    }

    /// The free-running index of the next record.
    #[must_use]
    pub const fn index(&self) -> u32 {
        self.end.index()
    }

    /// Reads how many records can be pushed now. The consumer can only make it more.
    ///
    /// # Errors
    ///
    /// * [`PushError::PeerIndex`]: the consumer's index cannot be right.
    /// * [`PushError::Memory`]: it could not be read.
    pub fn free(&mut self) -> Result<u32, PushError<M::Error>> {
        Ok(self.end.look()?)
    }

    /// Pushes one record.
    ///
    /// # Errors
    ///
    /// As for [`push_batch`](Self::push_batch); [`PushError::Length`] where `record` is not exactly
    /// one record long.
    pub fn push(&mut self, record: &[u8]) -> Result<(), PushError<M::Error>> {
        if record.len() != self.end.layout.record_len() {
            return Err(PushError::Length { len: record.len() });
        }
        if self.end.known_or_look(1)? == 0 {
            return Err(PushError::Full);
        }
        // No record straddles the ring's end.
        let offset = self.end.layout.record_offset(self.end.index());
        self.end
            .memory
            .write(offset, record)
            .map_err(PushError::Memory)?;
        self.publish(1)
    }

    /// Publishes `count` records, which are written.
    fn publish(&mut self, count: u32) -> Result<(), PushError<M::Error>> {
        // Before the index: a consumer that sees a record knows of every drop before it.
        self.drops
            .settle(&mut self.end)
            .map_err(PushError::Memory)?;
        self.end.advance(count).map_err(PushError::Memory)
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
        match self.end.layout.whole_records(records.len()) {
            Some(wanted) => self.push_records(records, wanted),
            None => Err(PushError::Length { len: records.len() }),
        }
    }

    /// Pushes as many of `records`, which are `wanted`, as there is room for.
    fn push_records(&mut self, records: &[u8], wanted: u32) -> Result<u32, PushError<M::Error>> {
        let length = PushError::Length { len: records.len() };
        let layout = self.end.layout;
        let count = wanted.min(self.end.known_or_look(wanted)?);
        if count == 0 {
            return if wanted == 0 {
                Ok(0)
            } else {
                Err(PushError::Full)
            };
        }

        // `count` records are within `records`, so this does not fail.
        let Some(records) = records.get(..count as usize * layout.record_len()) else {
            return Err(length);
        };
        let offset = layout.record_offset(self.end.index());
        self.end.write(offset, records).map_err(PushError::Memory)?;
        self.publish(count)?;
        Ok(count)
    }

    /// Pushes as many of `records` as there is room for and drops the others, for a producer that
    /// cannot wait. The consumer learns how many were dropped, see
    /// [`Consumer::dropped`](super::Consumer::dropped).
    ///
    /// # Errors
    ///
    /// As for [`push_batch`](Self::push_batch), without [`PushError::Full`]. Nothing was pushed,
    /// dropped or counted then; what becomes of `records` is up to the caller, who can count them by
    /// [`count_dropped`](Self::count_dropped).
    pub fn push_or_drop(&mut self, records: &[u8]) -> Result<Pushed, PushError<M::Error>> {
        let wanted = self.end.layout.whole_records(records.len());
        let pushed = match self.push_batch(records) {
            Err(PushError::Full) => 0,
            outcome => outcome?,
        };
        let dropped = wanted.map_or(0, |wanted| wanted.saturating_sub(pushed));
        self.count_dropped(dropped);
        Ok(Pushed { pushed, dropped })
    }

    /// Counts `records` that were lost before they came to the ring among those dropped.
    ///
    /// Where the block cannot be reached just now, the count is kept and stored with the next drop
    /// or before the next record, whichever comes first; a push that cannot store it fails.
    pub fn count_dropped(&mut self, records: u32) {
        self.drops.add(records);
        // Not lost: what is not stored stays owed, and no record is published before it is.
        let _ = self.drops.settle(&mut self.end);
    }

    /// Tells whether the consumer has to be woken: whether it asked for it, by
    /// [`request_wake`](super::Consumer::request_wake), at one of the records pushed since the last
    /// call that succeeded.
    ///
    /// A producer with a doorbell calls this after each push or batch, and rings where the answer is
    /// `true`. It may be `true` without need (after [`attach`](Self::attach), or for a request that
    /// was overtaken); it is never `false` for a consumer that was told it may sleep.
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

    /// Asks the consumer to wake this end when `records` can be pushed, at least one and at most the
    /// capacity. Only the last request counts.
    ///
    /// Where both ends sleep, what they wait for must not add up to more than the capacity and one,
    /// or both may wait for ever.
    ///
    /// # Errors
    ///
    /// As for [`free`](Self::free). The request may or may not have been made: do not sleep.
    pub fn request_wake(&mut self, records: u32) -> Result<WakeRequest, PushError<M::Error>>
    where
        M: BlockFence,
    {
        Ok(self.end.request_wake(records)?)
    }
}

impl<E> From<LookError<E>> for PushError<E> {
    fn from(error: LookError<E>) -> Self {
        match error {
            LookError::PeerIndex(error) => Self::PeerIndex(error),
            LookError::Memory(error) => Self::Memory(error),
        }
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
