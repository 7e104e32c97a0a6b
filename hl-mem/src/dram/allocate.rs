//! Which pages a pack gets, or why none.

use super::pack::Pack;
use super::pages::{Choice, Kinds, State};
use super::{AllocateError, Contiguity, DramPool, PackHandle, Sharing};
use crate::owner::Owner;

impl DramPool<'_> {
    /// Allocates a pack of `bytes` bytes, rounded up to whole pages: all of it or nothing.
    ///
    /// Its content is zero, or whatever the port scrubs with, or what `owner` itself left there
    /// earlier.
    ///
    /// # Errors
    ///
    /// * [`AllocateError::ZeroLength`]: `bytes` is zero.
    /// * [`AllocateError::TooLarge`]: rounded up it is 2^64 or more.
    /// * [`AllocateError::NoMemory`]: so many pages are not free, or not in one run.
    /// * [`AllocateError::Unscrubbed`]: they are, but some have to be scrubbed first.
    /// * [`AllocateError::ScrubUnderWay`]: they will be when scrubs under way have ended.
    /// * [`AllocateError::NoPackRecord`]: every pack record is in use.
    pub fn allocate(
        &mut self,
        owner: Owner,
        bytes: u64,
        contiguity: Contiguity,
        sharing: Sharing,
    ) -> Result<PackHandle, AllocateError> {
        let count = self.page_count(bytes)?;
        // Pages that need no scrubbing: nobody's content is in them, or none but the owner's who
        // alone can map the pack.
        let ready = Kinds::ready_for((sharing == Sharing::Private).then_some(owner));

        let (from, mut own_left, mut clean_left) = match contiguity {
            Contiguity::Contiguous => {
                let Some(first) = self.pages.best_fit(count, ready) else {
                    return Err(self.shortage(count, contiguity, ready));
                };
                (first, count, count)
            }
            Contiguity::Scattered => {
                // Nothing is left of anybody's where all free pages are clean.
                let own_pages = if self.usage.dirty == 0 {
                    0
                } else {
                    self.pages.count(ready.own())
                };
                if u64::from(own_pages) + u64::from(self.usage.clean) < u64::from(count) {
                    return Err(self.shortage(count, contiguity, ready));
                }
                let used = own_pages.min(count);
                (self.pages.first_free(), used, count - used)
            }
        };

        let handle = self.packs.vacancy().ok_or(AllocateError::NoPackRecord)?;

        // From here on nothing can fail.
        let (mut taken, mut clean_taken) = (0, 0);
        let chain = self.pages.claim(from, |state| {
            if taken == count {
                return Choice::Enough;
            }
            let is_clean = state == State::Clean;
            let left = if is_clean {
                &mut clean_left
            } else {
                &mut own_left
            };
            if !ready.contain(state) || *left == 0 {
                return Choice::Skip;
            }
            *left -= 1;
            taken += 1;
            clean_taken += u32::from(is_clean);
            Choice::Take
        });
        self.usage.clean -= clean_taken;
        self.usage.dirty -= count - clean_taken;
        self.usage.allocated += count;
        self.usage.packs += 1;
        self.packs.insert(
            handle,
            Pack {
                owner: Some(owner),
                sharing,
                pages: count,
                holds: 0,
                lost: false,
                chain,
            },
        );
        Ok(handle)
    }

    /// The pages that `bytes` take up.
    fn page_count(&self, bytes: u64) -> Result<u32, AllocateError> {
        if bytes == 0 {
            return Err(AllocateError::ZeroLength);
        }
        let pages = bytes.div_ceil(self.region.page_bytes());
        if pages.checked_mul(self.region.page_bytes()).is_none() {
            return Err(AllocateError::TooLarge);
        }
        u32::try_from(pages)
            .ok()
            .filter(|&pages| pages <= self.region.pages())
            .ok_or(AllocateError::NoMemory)
    }

    /// Why there are no `count` pages that are ready.
    fn shortage(&self, count: u32, contiguity: Contiguity, ready: Kinds) -> AllocateError {
        // Where there would be room, and how much of it has to be scrubbed at most.
        let room = match contiguity {
            Contiguity::Contiguous => {
                let place = self.pages.best_fit(count, ready.usable());
                place.map(|first| (first, first + count, count))
            }
            Contiguity::Scattered => {
                let enough = self.pages.count(ready.usable()) >= count;
                enough.then(|| (0, self.region.pages(), count - self.pages.count(ready)))
            }
        };
        let first = room.and_then(|(from, end, most)| {
            let mut in_the_way = self.pages.runs(ready.in_the_way());
            in_the_way.find_map(|(first, pages)| {
                let start = first.max(from);
                let inside = (first + pages).min(end).checked_sub(start)?;
                self.region.run(start, inside.min(most))
            })
        });
        if let Some(first) = first {
            return AllocateError::Unscrubbed { first };
        }

        let room_later = match contiguity {
            Contiguity::Contiguous => self.pages.best_fit(count, Kinds::NOT_ALLOCATED).is_some(),
            Contiguity::Scattered => self.pages.count(Kinds::NOT_ALLOCATED) >= count,
        };
        if room_later {
            AllocateError::ScrubUnderWay
        } else {
            AllocateError::NoMemory
        }
    }
}
