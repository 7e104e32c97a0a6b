//! A table of a pool, and the loops over its entries.

use core::fmt;

use super::TableWord;
use crate::format::TABLE_ENTRIES;
use crate::memory::TableId;

/// Words that loops over many of them handle in one round: the processor stores more than one
/// word in the time that a round takes at least, and the compiler does not unroll loops over words
/// that others may read or write.
pub(super) const BLOCK: usize = 8;

/// Entries of a run that are kept at a time. A divisor of [`BLOCK`].
const LANES: usize = 4;

/// A table of a [`TablePool`](crate::TablePool): where its entries are, and its number.
pub struct PoolTable<'p, W> {
    pub(super) words: &'p [W; TABLE_ENTRIES],
    pub(super) number: TableId,
}

impl<W> PoolTable<'_, W> {
    /// The number of the table in its pool.
    #[must_use]
    pub const fn number(self) -> TableId {
        self.number
    }
}

impl<W> Clone for PoolTable<'_, W> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<W> Copy for PoolTable<'_, W> {}

impl<W> fmt::Debug for PoolTable<'_, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PoolTable({})", self.number.number())
    }
}

impl<'p, W: TableWord> PoolTable<'p, W> {
    /// The words of `count` slots; `None` where the table does not have them all.
    #[inline(always)]
    pub(super) fn slots(self, first: usize, count: usize) -> Option<&'p [W]> {
        self.words.get(first..first.saturating_add(count))
    }

    /// How many of `count` slots satisfy a condition, up to the first that does not.
    #[inline(always)]
    pub(super) fn prefix_len(
        self,
        first: usize,
        count: usize,
        condition: impl Fn(u64) -> bool,
    ) -> usize {
        let Some(slots) = self.slots(first, count) else {
            return 0;
        };
        // Whole blocks without a branch for each word, then up to the word that ends it. Loops and
        // not iterator chains, which the compiler moves out of line, where the hop is no constant.
        let mut len = 0;
        for block in slots.as_chunks::<BLOCK>().0 {
            let all = |all, slot: &W| all & condition(slot.load());
            if !block.iter().fold(true, all) {
                break;
            }
            len += BLOCK;
        }
        for slot in slots.get(len..).unwrap_or_default() {
            if !condition(slot.load()) {
                break;
            }
            len += 1;
        }
        len
    }
}

/// Stores `entry` and, each `step` more than the one before, the entries that follow it.
// Never in line: there, the compiler takes the sums apart that led to the step, and has more of them
// to keep up in each round than there are entries.
#[inline(never)]
pub(super) fn store_run<W: TableWord>(slots: &[W], entry: u64, step: u64) {
    // Entries that do not wait for each other, so that the processor is not kept from storing more
    // than one in a cycle.
    let mut next: [u64; LANES] =
        core::array::from_fn(|lane| entry.wrapping_add(step.wrapping_mul(lane as u64)));
    let stride = step.wrapping_mul(LANES as u64);
    let (blocks, rest) = slots.as_chunks::<BLOCK>();
    for block in blocks {
        for lanes in block.as_chunks::<LANES>().0 {
            for (slot, entry) in lanes.iter().zip(&mut next) {
                slot.store(*entry);
                *entry = entry.wrapping_add(stride);
            }
        }
    }
    let [mut entry, ..] = next;
    for slot in rest {
        slot.store(entry);
        entry = entry.wrapping_add(step);
    }
}

/// Stores zeros, one by one: others may read the slots meanwhile.
#[inline(never)]
pub(super) fn store_zeros<W: TableWord>(slots: &[W]) {
    let (blocks, rest) = slots.as_chunks::<BLOCK>();
    for block in blocks {
        for slot in block {
            slot.store(0);
        }
    }
    for slot in rest {
        slot.store(0);
    }
}
