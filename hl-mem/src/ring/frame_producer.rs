//! The end that writes frames.

use core::fmt;

use super::drops::Drops;
use super::end::{End, LookError};
use super::frame_layout::prefix;
use super::{BlockFence, BlockWrite, FrameLayout, PeerIndex, Pushed, WakeRequest};

/// Writes records of any length into a block and publishes them.
///
/// There is one producer per block. A frame is written first and published last and as a whole, so
/// the consumer never sees a part of one, and a fault in the middle of it leaves the ring as it was.
#[derive(Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct FrameProducer<M> {
    end: End<M, true>,
    layout: FrameLayout,
    drops: Drops,
}

impl<M: BlockWrite> FrameProducer<M> {
    /// Takes over the producing end, at the index the block has, see
    /// [`Producer::attach`](super::Producer::attach).
    ///
    /// # Errors
    ///
    /// The memory's own.
    pub fn attach(memory: M, layout: FrameLayout) -> Result<Self, M::Error> {
        Ok(Self {
            end: End::attach(memory, layout.block())?,
            layout,
            drops: Drops::default(),
        })
    }

    /// The free-running index of the next frame, in units.
    #[must_use]
    pub const fn index(&self) -> u32 {
        self.end.index()
    }

    /// Reads how many units are free now. The consumer can only make it more.
    ///
    /// # Errors
    ///
    /// * [`FramePushError::PeerIndex`]: the consumer's index cannot be right.
    /// * [`FramePushError::Memory`]: it could not be read.
    pub fn free(&mut self) -> Result<u32, FramePushError<M::Error>> {
        Ok(self.end.look()?)
    }

    /// Pushes one record.
    ///
    /// # Errors
    ///
    /// As for [`push_batch`](Self::push_batch).
    pub fn push(&mut self, record: &[u8]) -> Result<(), FramePushError<M::Error>> {
        self.push_batch(&[record]).map(|_| ())
    }

    /// Pushes as many of `records` as there is room for, from the first on and each whole, and
    /// publishes them together. Returns how many: zero only where `records` is empty.
    ///
    /// The consumer's index is read only where the last one read does not leave room for the next
    /// record.
    ///
    /// # Errors
    ///
    /// None of them changes what the consumer sees, and the same call can be made again.
    ///
    /// * [`FramePushError::Full`]: there is no room for even the first record.
    /// * [`FramePushError::TooLong`]: one of `records` does not fit into an empty ring either.
    /// * [`FramePushError::PeerIndex`]: the consumer's index cannot be right.
    /// * [`FramePushError::Memory`]: an access failed.
    pub fn push_batch(&mut self, records: &[&[u8]]) -> Result<u32, FramePushError<M::Error>> {
        for record in records {
            self.units(record)?;
        }
        let (mut count, mut used) = (0, 0);
        for record in records {
            let needed = self.units(record)?;
            // Neither exceeds 2^31.
            if self.end.known_or_look(used + needed)? < used + needed {
                break;
            }
            self.write_frame(used, record)
                .map_err(FramePushError::Memory)?;
            used += needed;
            count += 1;
        }
        if count == 0 {
            return if records.is_empty() {
                Ok(0)
            } else {
                Err(FramePushError::Full)
            };
        }
        // Before the index: a consumer that sees a record knows of every drop before it.
        self.drops
            .settle(&mut self.end)
            .map_err(FramePushError::Memory)?;
        self.end.advance(used).map_err(FramePushError::Memory)?;
        Ok(count)
    }

    /// Pushes as many of `records` as there is room for and drops the others, for a producer that
    /// cannot wait. The consumer learns how many were dropped, see
    /// [`FrameConsumer::dropped`](super::FrameConsumer::dropped). A record is dropped with all that
    /// follow it, even if one of them is short enough: order is kept.
    ///
    /// # Errors
    ///
    /// As for [`push_batch`](Self::push_batch), without [`FramePushError::Full`]. Nothing was pushed,
    /// dropped or counted then.
    pub fn push_or_drop(&mut self, records: &[&[u8]]) -> Result<Pushed, FramePushError<M::Error>> {
        let pushed = match self.push_batch(records) {
            Err(FramePushError::Full) => 0,
            outcome => outcome?,
        };
        let given = u32::try_from(records.len()).unwrap_or(u32::MAX);
        let dropped = given.saturating_sub(pushed);
        self.count_dropped(dropped);
        Ok(Pushed { pushed, dropped })
    }

    /// Counts `records` that were lost before they came to the ring among those dropped, see
    /// [`Producer::count_dropped`](super::Producer::count_dropped).
    pub fn count_dropped(&mut self, records: u32) {
        self.drops.add(records);
        // Not lost: what is not stored stays owed, and no record is published before it is.
        let _ = self.drops.settle(&mut self.end);
    }

    /// Tells whether the consumer has to be woken for what was pushed since the last call that
    /// succeeded, see [`Producer::owes_wake`](super::Producer::owes_wake).
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

    /// Asks the consumer to wake this end when a record of `len` bytes can be pushed. Only the last
    /// request counts. The consumer is woken by the first record, so that it never waits for this
    /// end while this end waits for it.
    ///
    /// # Errors
    ///
    /// * [`FramePushError::TooLong`]: there will never be room for it.
    /// * As for [`free`](Self::free). The request may or may not have been made: do not sleep.
    pub fn request_wake(&mut self, len: usize) -> Result<WakeRequest, FramePushError<M::Error>>
    where
        M: BlockFence,
    {
        let units = self.units_of_len(len)?;
        Ok(self.end.request_wake(units)?)
    }

    fn units(&self, record: &[u8]) -> Result<u32, FramePushError<M::Error>> {
        self.units_of_len(record.len())
    }

    fn units_of_len(&self, len: usize) -> Result<u32, FramePushError<M::Error>> {
        let max = self.layout.max_record_len();
        match u32::try_from(len) {
            Ok(short) if short <= max => Ok(FrameLayout::frame_units(short)),
            _ => Err(FramePushError::TooLong { len, max }),
        }
    }

    /// Writes a frame `ahead` units beyond the index. There is room for it.
    fn write_frame(&mut self, ahead: u32, record: &[u8]) -> Result<(), M::Error> {
        let index = self.end.index().wrapping_add(ahead);
        // A record is at most `max_record_len` long.
        let prefix = prefix(record.len() as u32);
        self.end
            .write(self.layout.locate(index, 0), prefix.as_flattened())?;
        let (units, rest) = record.as_chunks::<8>();
        let whole = units.as_flattened();
        self.end.write(self.layout.locate(index, 8), whole)?;
        if rest.is_empty() {
            return Ok(());
        }
        let mut last = [0; 8];
        for (to, from) in last.iter_mut().zip(rest) {
            *to = *from;
        }
        self.end
            .write(self.layout.locate(index, 8 + whole.len() as u64), &last)
    }
}

/// Says why no frame was pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum FramePushError<E> {
    /// There is no room for the record; the consumer has to take others first.
    Full,
    /// The record fits into no ring of this layout.
    TooLong {
        /// Its length in bytes.
        len: usize,
        /// The longest that fits, in bytes.
        max: u32,
    },
    /// The consumer's index cannot be right: the consumer is broken or hostile.
    PeerIndex(PeerIndex),
    /// The block could not be accessed.
    Memory(E),
}

impl<E> From<LookError<E>> for FramePushError<E> {
    fn from(error: LookError<E>) -> Self {
        match error {
            LookError::PeerIndex(error) => Self::PeerIndex(error),
            LookError::Memory(error) => Self::Memory(error),
        }
    }
}

impl<E: fmt::Display> fmt::Display for FramePushError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => write!(f, "ring has no room for the record"),
            Self::TooLong { len, max } => {
                write!(f, "record of {len} bytes is longer than {max}")
            }
            Self::PeerIndex(error) => write!(f, "consumer: {error}"),
            Self::Memory(error) => write!(f, "block inaccessible to the producer: {error}"),
        }
    }
}

impl<E: core::error::Error + 'static> core::error::Error for FramePushError<E> {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::PeerIndex(error) => Some(error),
            Self::Memory(error) => Some(error),
            Self::Full | Self::TooLong { .. } => None,
        }
    }
}
