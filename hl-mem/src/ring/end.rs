//! What both ends of every ring share: the indices and the requests to be woken.

use super::{BlockFence, BlockIndices, BlockLayout, BlockRead, BlockWrite, PeerIndex, WakeRequest};

/// One end's private account of the indices.
///
/// Steps are records, or units of a ring of frames. Both ends are alike when each is seen as chasing
/// a limit: the consumer may go on up to the producer's index, the producer up to the consumer's
/// plus the capacity.
#[derive(Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub(super) struct End<M, const PRODUCES: bool> {
    pub(super) memory: M,
    pub(super) layout: BlockLayout,
    /// Where this end is. Read from the block once, by `attach`.
    index: u32,
    /// How far it may go by the last look at the peer's index, at most `capacity` beyond `index`.
    limit: u32,
    /// How many of the last steps the peer's wish to be woken was not compared with. More than
    /// `capacity` need not be known: a peer that sleeps wishes for something less far away.
    unannounced: u32,
}

/// Why the peer's index could not be used.
pub(super) enum LookError<E> {
    PeerIndex(PeerIndex),
    Memory(E),
}

impl<M: BlockIndices, const PRODUCES: bool> End<M, PRODUCES> {
    pub(super) fn attach(mut memory: M, layout: BlockLayout) -> Result<Self, M::Error> {
        let index = memory.load_index(if PRODUCES {
            layout.producer_index_offset()
        } else {
            layout.consumer_index_offset()
        })?;
        Ok(Self {
            memory,
            layout,
            index,
            // Nothing is assumed of the peer before its index was read.
            limit: index,
            // A predecessor may have moved the index and not come to compare.
            unannounced: layout.capacity(),
        })
    }

    /// How far the limit is beyond the peer's index.
    fn lead(&self) -> u32 {
        if PRODUCES { self.layout.capacity() } else { 0 }
    }

    pub(super) const fn index(&self) -> u32 {
        self.index
    }

    /// How many steps the last look allows.
    pub(super) const fn known(&self) -> u32 {
        self.limit.wrapping_sub(self.index)
    }

    /// Reads the peer's index, checks it, and returns how many steps it allows.
    pub(super) fn look(&mut self) -> Result<u32, LookError<M::Error>> {
        let found = self
            .memory
            .load_index(if PRODUCES {
                self.layout.consumer_index_offset()
            } else {
                self.layout.producer_index_offset()
            })
            .map_err(LookError::Memory)?;
        let lead = self.lead();
        let furthest = self.index.wrapping_add(self.layout.capacity());
        let index = PeerIndex::check(
            found,
            self.limit.wrapping_sub(lead),
            furthest.wrapping_sub(lead),
        )
        .map_err(LookError::PeerIndex)?;
        self.limit = index.wrapping_add(lead);
        Ok(self.known())
    }

    /// How many steps are allowed, by a new look only where the last one does not allow `wanted`.
    pub(super) fn known_or_look(&mut self, wanted: u32) -> Result<u32, LookError<M::Error>> {
        let known = self.known();
        if known < wanted {
            self.look()
        } else {
            Ok(known)
        }
    }

    /// Publishes `count` steps, which are allowed.
    pub(super) fn advance(&mut self, count: u32) -> Result<(), M::Error> {
        let next = self.index.wrapping_add(count);
        self.memory.store_index(
            if PRODUCES {
                self.layout.producer_index_offset()
            } else {
                self.layout.consumer_index_offset()
            },
            next,
        )?;
        self.index = next;
        self.unannounced = self
            .unannounced
            .saturating_add(count)
            .min(self.layout.capacity());
        Ok(())
    }

    /// Asks the peer to wake this end when `wanted` steps are allowed, and looks once more.
    pub(super) fn request_wake(&mut self, wanted: u32) -> Result<WakeRequest, LookError<M::Error>>
    where
        M: BlockFence,
    {
        // Not `clamp`, which panics on a ring without capacity, of which only the layout's checks know
        // that there is none.
        let wanted = wanted.min(self.layout.capacity()).max(1);
        // The last index of the peer that does not allow as much.
        let wish = self
            .index
            .wrapping_add(wanted - 1)
            .wrapping_sub(self.lead());
        self.memory
            .store_index(
                if PRODUCES {
                    self.layout.producer_wake_offset()
                } else {
                    self.layout.consumer_wake_offset()
                },
                wish,
            )
            .map_err(LookError::Memory)?;
        self.memory.fence().map_err(LookError::Memory)?;
        Ok(if self.look()? >= wanted {
            WakeRequest::Ready
        } else {
            WakeRequest::Armed
        })
    }

    /// Whether the peer asked to be woken for one of the steps since the last successful call.
    pub(super) fn owes_wake(&mut self) -> Result<bool, M::Error>
    where
        M: BlockFence,
    {
        if self.unannounced == 0 {
            return Ok(false);
        }
        self.memory.fence()?;
        let wish = self.memory.load_index(if PRODUCES {
            self.layout.consumer_wake_offset()
        } else {
            self.layout.producer_wake_offset()
        })?;
        // Whether one of the last `unannounced` steps was the one from `wish` to its successor.
        let since = self.index.wrapping_sub(wish).wrapping_sub(1);
        let owes = since < self.unannounced;
        self.unannounced = 0;
        Ok(owes)
    }
}

impl<M: BlockRead, const PRODUCES: bool> End<M, PRODUCES> {
    /// Reads `bytes` from `offset` on, which go on at the ring's start where they reach its end.
    pub(super) fn read(&mut self, offset: u64, bytes: &mut [u8]) -> Result<(), M::Error> {
        let before_end = self.layout.before_end(offset, bytes.len());
        // Not beyond the end of `bytes`, so the split is where it was asked for.
        let (head, tail) = bytes.split_at_mut_checked(before_end).unwrap_or_default();
        if !head.is_empty() {
            self.memory.read(offset, head)?;
        }
        if !tail.is_empty() {
            self.memory.read(self.layout.data_offset(), tail)?;
        }
        Ok(())
    }
}

impl<M: BlockWrite, const PRODUCES: bool> End<M, PRODUCES> {
    /// Writes `bytes` from `offset` on, which go on at the ring's start where they reach its end.
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), M::Error> {
        let before_end = self.layout.before_end(offset, bytes.len());
        // Not beyond the end of `bytes`, so the split is where it was asked for.
        let (head, tail) = bytes.split_at_checked(before_end).unwrap_or_default();
        if !head.is_empty() {
            self.memory.write(offset, head)?;
        }
        if !tail.is_empty() {
            self.memory.write(self.layout.data_offset(), tail)?;
        }
        Ok(())
    }
}
