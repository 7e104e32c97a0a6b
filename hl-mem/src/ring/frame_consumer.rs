//! The end that takes frames.

use core::fmt;

use super::end::{End, LookError};
use super::frame_layout::{UNIT, prefix_len};
use super::{BlockFence, BlockRead, FrameLayout, PeerIndex, WakeRequest};

/// Copies records of any length out of a block and gives their room back.
///
/// There is one consumer per block. The length of a record is read from the block once and checked
/// against what the producer has published; from then on only the private copy of it counts, however
/// often the same record is asked for.
#[derive(Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct FrameConsumer<M> {
    end: End<M, false>,
    layout: FrameLayout,
    /// The length of the record at the index, once it was read and checked.
    next_len: Option<u32>,
    /// The producer's count of dropped records, as last read.
    dropped: u32,
}

impl<M: BlockRead> FrameConsumer<M> {
    /// Takes over the consuming end, at the index the block has, see
    /// [`Consumer::attach`](super::Consumer::attach).
    ///
    /// # Errors
    ///
    /// The memory's own.
    pub fn attach(memory: M, layout: FrameLayout) -> Result<Self, M::Error> {
        Ok(Self {
            end: End::attach(memory, layout.block())?,
            layout,
            next_len: None,
            // Nobody knows what a predecessor was told: better told twice than not at all.
            dropped: 0,
        })
    }

    /// The free-running index of the next frame, in units.
    #[must_use]
    pub const fn index(&self) -> u32 {
        self.end.index()
    }

    /// Reads how many units the producer has published. It can only make it more.
    ///
    /// # Errors
    ///
    /// * [`FramePopError::PeerIndex`]: the producer's index cannot be right.
    /// * [`FramePopError::Memory`]: it could not be read.
    pub fn occupied(&mut self) -> Result<u32, FramePopError<M::Error>> {
        Ok(self.end.look()?)
    }

    /// The length in bytes of the record that is popped next.
    ///
    /// # Errors
    ///
    /// * [`FramePopError::Empty`]: there is no record.
    /// * [`FramePopError::Frame`]: there is something that is not a frame.
    /// * [`FramePopError::PeerIndex`]: the producer's index cannot be right.
    /// * [`FramePopError::Memory`]: an access failed.
    pub fn next_len(&mut self) -> Result<u32, FramePopError<M::Error>> {
        if let Some(len) = self.next_len {
            return Ok(len);
        }
        let len = self.len_at(0)?;
        self.next_len = Some(len);
        Ok(len)
    }

    /// Pops one record into the beginning of `bytes` and returns its length in bytes.
    ///
    /// # Errors
    ///
    /// As for [`next_len`](Self::next_len), and [`FramePopError::BufferTooShort`] where `bytes` is
    /// shorter than the record. None of them consumes a record.
    pub fn pop(&mut self, bytes: &mut [u8]) -> Result<u32, FramePopError<M::Error>> {
        let mut lens = [0];
        self.pop_batch(bytes, &mut lens)?;
        let [len] = lens;
        Ok(len)
    }

    /// Pops as many records as there are and `bytes` and `lens` have room for, and gives their room
    /// back together. The records are laid end to end in `bytes`, their lengths in bytes are in
    /// `lens`. Returns how many: zero only where `lens` is empty.
    ///
    /// # Errors
    ///
    /// As for [`pop`](Self::pop), and only about the first record: what is wrong with a later one is
    /// told when that is the first. No error consumes a record; what `bytes` and `lens` contain after
    /// one is unspecified.
    pub fn pop_batch(
        &mut self,
        bytes: &mut [u8],
        lens: &mut [u32],
    ) -> Result<usize, FramePopError<M::Error>> {
        let (mut count, mut used) = (0, 0);
        let mut rest = bytes;
        for slot in lens {
            let outcome = self.copy_out(used, rest);
            let len = match outcome {
                Ok(len) => len,
                Err(error) if count == 0 => return Err(error),
                Err(_) => break,
            };
            *slot = len;
            count += 1;
            // Not beyond the producer's index, so at most 2^31.
            used += FrameLayout::frame_units(len);
            // The record was in it.
            rest = rest.get_mut(len as usize..).unwrap_or_default();
        }
        self.give_back(used)?;
        Ok(count)
    }

    /// Gives the next record up unread and returns its length in bytes.
    ///
    /// # Errors
    ///
    /// As for [`next_len`](Self::next_len).
    pub fn skip(&mut self) -> Result<u32, FramePopError<M::Error>> {
        let len = self.next_len()?;
        self.give_back(FrameLayout::frame_units(len))?;
        Ok(len)
    }

    /// Gives up everything that the producer has published, and returns how many units that were.
    ///
    /// This is the way out after [`FramePopError::Frame`]: the producer's index is the start of a
    /// frame, if anything is. How many records are lost cannot be known.
    ///
    /// # Errors
    ///
    /// As for [`occupied`](Self::occupied).
    pub fn skip_all(&mut self) -> Result<u32, FramePopError<M::Error>> {
        let units = self.end.look()?;
        self.give_back(units)?;
        Ok(units)
    }

    /// Reads how many records the producer dropped for want of room since the last call, see
    /// [`Consumer::dropped`](super::Consumer::dropped).
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

    /// Asks the producer to wake this end when there is a record. Only the last request counts.
    ///
    /// # Errors
    ///
    /// As for [`occupied`](Self::occupied). The request may or may not have been made: do not sleep.
    pub fn request_wake(&mut self) -> Result<WakeRequest, FramePopError<M::Error>>
    where
        M: BlockFence,
    {
        Ok(self.end.request_wake(1)?)
    }

    /// Tells whether the producer has to be woken for what was popped since the last call that
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

    fn give_back(&mut self, units: u32) -> Result<(), FramePopError<M::Error>> {
        if units != 0 {
            self.end.advance(units).map_err(FramePopError::Memory)?;
            self.next_len = None;
        }
        Ok(())
    }

    /// Copies the record `ahead` units beyond the index to the beginning of `bytes`.
    fn copy_out(&mut self, ahead: u32, bytes: &mut [u8]) -> Result<u32, FramePopError<M::Error>> {
        let len = if ahead == 0 {
            self.next_len()?
        } else {
            self.len_at(ahead)?
        };
        let Some(record) = bytes.get_mut(..len as usize) else {
            return Err(FramePopError::BufferTooShort { len });
        };
        let index = self.end.index().wrapping_add(ahead);
        let (units, rest) = record.as_chunks_mut::<8>();
        let whole = units.as_flattened_mut();
        self.end
            .read(self.layout.locate(index, 8), whole)
            .map_err(FramePopError::Memory)?;
        if !rest.is_empty() {
            let mut last = [0; 8];
            self.end
                .read(self.layout.locate(index, 8 + whole.len() as u64), &mut last)
                .map_err(FramePopError::Memory)?;
            for (to, from) in rest.iter_mut().zip(last) {
                *to = from;
            }
        }
        Ok(len)
    }

    /// Reads and checks the length of the record `ahead` units beyond the index.
    fn len_at(&mut self, ahead: u32) -> Result<u32, FramePopError<M::Error>> {
        let mut occupied = self.end.known();
        if occupied <= ahead {
            occupied = self.end.look()?;
        }
        let Some(published) = occupied.checked_sub(ahead).filter(|&units| units != 0) else {
            return Err(FramePopError::Empty);
        };
        let mut found = [[0; 4]; 2];
        let index = self.end.index().wrapping_add(ahead);
        self.end
            .read(self.layout.locate(index, 0), found.as_flattened_mut())
            .map_err(FramePopError::Memory)?;
        // Frames are published whole, so all of this one is among what was published with its
        // first unit.
        prefix_len(found)
            .filter(|&len| FrameLayout::frame_units(len) <= published)
            .ok_or(FramePopError::Frame {
                index,
                prefix: u64::from_le_bytes(flattened(found)),
                published,
            })
    }
}

fn flattened([[a, b, c, d], [e, f, g, h]]: [[u8; 4]; 2]) -> [u8; UNIT as usize] {
    [a, b, c, d, e, f, g, h]
}

/// Says why no frame was popped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum FramePopError<E> {
    /// The ring has no record; the producer has to push one first.
    Empty,
    /// The bytes given are too short for the next record.
    BufferTooShort {
        /// The length of the record in bytes.
        len: u32,
    },
    /// What lies where a frame has to start is none, or one longer than what was published: the
    /// producer is broken or hostile, or this end attached at a wrong index.
    Frame {
        /// The index of the frame, in units.
        index: u32,
        /// The unit found there, little-endian.
        prefix: u64,
        /// How many units the producer has published from `index` on.
        published: u32,
    },
    /// The producer's index cannot be right: the producer is broken or hostile.
    PeerIndex(PeerIndex),
    /// The block could not be accessed.
    Memory(E),
}

impl<E> From<LookError<E>> for FramePopError<E> {
    fn from(error: LookError<E>) -> Self {
        match error {
            LookError::PeerIndex(error) => Self::PeerIndex(error),
            LookError::Memory(error) => Self::Memory(error),
        }
    }
}

impl<E: fmt::Display> fmt::Display for FramePopError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "ring is empty"),
            Self::BufferTooShort { len } => write!(f, "buffer is shorter than the {len} bytes"),
            Self::Frame {
                index,
                prefix,
                published,
            } => write!(
                f,
                "{prefix:#018x} at index {index:#x} starts no frame of at most {published} units"
            ),
            Self::PeerIndex(error) => write!(f, "producer: {error}"),
            Self::Memory(error) => write!(f, "block inaccessible to the consumer: {error}"),
        }
    }
}

impl<E: core::error::Error + 'static> core::error::Error for FramePopError<E> {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::PeerIndex(error) => Some(error),
            Self::Memory(error) => Some(error),
            Self::Empty | Self::BufferTooShort { .. } | Self::Frame { .. } => None,
        }
    }
}
