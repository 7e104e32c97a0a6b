//! The count of what a producer could not wait to push.

use super::BlockIndices;
use super::end::End;

/// What one call of a producer that does not wait did with what it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Pushed {
    /// How many were pushed: the first of those given.
    pub pushed: u32,
    /// How many found no room and are gone: the others. The consumer learns their number.
    pub dropped: u32,
}

/// The producer's account of what it dropped.
#[derive(Debug, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub(super) struct Drops {
    /// The count in the block, once it was read: a predecessor may have dropped, too.
    stored: Option<u32>,
    /// What is not in the block yet.
    owed: u32,
}

impl Drops {
    /// Adds `count` to what is owed to the block.
    pub(super) fn add(&mut self, count: u32) {
        self.owed = self.owed.saturating_add(count);
    }

    /// Brings the block's count up to date. What fails stays owed.
    pub(super) fn settle<M: BlockIndices>(
        &mut self,
        end: &mut End<M, true>,
    ) -> Result<(), M::Error> {
        if self.owed == 0 {
            return Ok(());
        }
        let offset = end.layout.dropped_offset();
        let stored = match self.stored {
            Some(stored) => stored,
            None => end.memory.load_index(offset)?,
        };
        self.stored = Some(stored);
        let total = stored.wrapping_add(self.owed);
        end.memory.store_index(offset, total)?;
        self.stored = Some(total);
        self.owed = 0;
        Ok(())
    }
}
