//! The device's own memory, allocated in packs of pages.
//!
//! A [`DramPool`] hands out *packs*: a number of pages that are allocated and freed together and
//! named by a [`PackHandle`]. A pack has an [`Owner`]. Only the owner may free it, and only the
//! owner may map it unless it is [shared](Sharing::Shared) (facts F-1, MD-3; hazards HZ-29, HZ-30).
//! What a context does with it, exports included, is in [device memory](crate::guide::device_memory).
//!
//! ```
//! use hl_mem::Owner;
//! use hl_mem::dram::{
//!     Contiguity, DramContent, DramPool, DramRegion, PackError, PackRecord, PageRecord, Sharing,
//! };
//! use mmu_core::BusAddr;
//!
//! // Gaudi2 with six stacks: 127 pages of 768 MiB.
//! let region = DramRegion::new(BusAddr::new(0x1001_0000_3000_0000), 0x3000_0000, 127)?;
//! let mut pages = [PageRecord::EMPTY; 127];
//! let mut packs = [PackRecord::EMPTY; 127];
//! let mut pool = DramPool::new(region, &mut pages, &mut packs, DramContent::Scrubbed)?;
//!
//! let owner = Owner::new(1);
//! let pack = pool.allocate(owner, 1 << 30, Contiguity::Scattered, Sharing::Private)?;
//! assert_eq!(pool.usage_of(owner).bytes, 0x6000_0000);
//!
//! // A mapping holds the pack, and only a hold shows where it is.
//! let hold = pool.hold(pack, owner)?;
//! let runs: Vec<_> = pool.runs(&hold).into_iter().flatten().collect();
//! assert_eq!(runs.len(), 1);
//! assert_eq!(pool.free(pack, owner), Err(PackError::Held { holds: 1 }));
//!
//! pool.release(hold)?;
//! pool.free(pack, owner)?;
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```
//!
//! # Pages
//!
//! The pool counts in pages, whatever their size, so that a pack always begins on a page boundary:
//! a pool over a power of two that divides the page cannot promise that (facts A-3, hazard HZ-45).
//!
//! # Scrubbing
//!
//! What one owner wrote, another must not read. A freed page is therefore *dirty*, and
//!
//! * a dirty page goes to another owner, or into a shared pack, only after it has been scrubbed:
//!   [`take_dirty`](DramPool::take_dirty) gives a [`DirtyRun`], its [`scrub`](DirtyRun::scrub)
//!   a [`ScrubbedRun`], and there is no other way for a page to become clean;
//! * into a private pack of the owner that wrote it, it may go as it is. Those are used first, since
//!   that saves scrubbing them (what the owner then exports to a peer is the owner's to decide);
//! * when the owner is gone, it is nobody's: a later owner with the same number gets it scrubbed.
//!
//! [`allocate`](DramPool::allocate) does not scrub by itself, since that takes milliseconds and the
//! caller's lock is held. It says what to scrub:
//!
//! ```
//! # use hl_mem::Owner;
//! # use hl_mem::dram::*;
//! # use mmu_core::{BusAddr, Run};
//! # struct Dma;
//! # impl Scrub for Dma {
//! #     type Error = core::convert::Infallible;
//! #     fn scrub(&mut self, _run: Run) -> Result<(), Self::Error> { Ok(()) }
//! # }
//! # let region = DramRegion::new(BusAddr::new(0x2000_0000), 0x20_0000, 8)?;
//! # let (mut pages, mut packs) = ([PageRecord::EMPTY; 8], [PackRecord::EMPTY; 8]);
//! # let (mut port, owner) = (Dma, Owner::new(1));
//! let mut pool = DramPool::new(region, &mut pages, &mut packs, DramContent::Unknown)?;
//! let pack = loop {
//!     match pool.allocate(owner, 1 << 20, Contiguity::Contiguous, Sharing::Private) {
//!         Err(AllocateError::Unscrubbed { first }) => {
//!             if let Some(dirty) = pool.take_dirty(first) {
//!                 // Here an embedder gives up the lock.
//!                 match dirty.scrub(&mut port) {
//!                     Ok(scrubbed) => pool.return_scrubbed(scrubbed)?,
//!                     Err(failed) => pool.return_dirty(failed.dirty)?,
//!                 }
//!             }
//!         }
//!         other => break other?,
//!     }
//! };
//! # let _ = pack;
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```
//!
//! (A real one gives up after a failure.) [`next_dirty`](DramPool::next_dirty) serves a thread that
//! scrubs ahead of need.
//!
//! # Which pages are taken
//!
//! Contiguous packs fit best: the shortest run of free pages with room, of equally short ones the
//! lowest. Scattered packs take the owner's own dirty pages and then the lowest clean ones.
//!
//! | call | work |
//! |---|---|
//! | allocate scattered, where no page is dirty | the pages taken, and those in use between them |
//! | allocate otherwise, or refuse to; `release_owner` | all page records in order, at most five times |
//! | `free`, the last `release` of an orphan | the pages of the pack |
//! | `hold`, `release`, `usage` | constant |
//!
//! A page record has 12 bytes and there is one for each 2 MiB or more, 8192 for 16 GiB on Goya: going
//! through them takes some microseconds. A structure that found a run in less would save nothing
//! next to the scrubbing of even one page, and would be one more thing to keep consistent.
//!
//! # Holds
//!
//! Each mapping and each export has a [`DramHold`]. While there is one, the pack cannot be freed,
//! not even by the end of its owner: it is then an *orphan* that no handle names, and freed with the
//! last hold. Nobody can map it again.

use core::fmt;

use mmu_core::Run;

use crate::identity::Identity;
use crate::owner::Owner;

mod allocate;
mod error;
mod pack;
mod pages;
mod scrub;
#[cfg(test)]
mod tests;
mod usage;

pub use error::{AllocateError, ExportError, Foreign, PackError, RegionError};
pub use pack::{Contiguity, DramHold, PackHandle, PackInfo, PackRecord, Sharing};
pub(crate) use pages::RunCursor;
pub use pages::{DramRegion, PageRecord, Runs};
pub use scrub::{DirtyRun, NoScrub, NotScrubbed, Scrub, ScrubFailed, ScrubbedRun};
pub use usage::{DramContent, DramUsage, OwnerReleased, OwnerUsage};

use pack::{Pack, Packs};
use pages::{EXPORT_BYTES, Kinds, Pages, State};

/// Hands out the memory of one device.
///
/// See [the module](self) for an example. The lock around it is the caller's. Handles are valid for
/// all open files of the device.
pub struct DramPool<'s> {
    region: DramRegion,
    pages: Pages<'s>,
    packs: Packs<'s>,
    usage: DramUsage,
    identity: Identity,
    /// How often the memory lost its content.
    losses: u32,
}

impl<'s> DramPool<'s> {
    /// A pool without memory: each allocation is refused.
    #[must_use]
    pub fn none() -> Self {
        Self::over(DramRegion::EMPTY, &mut [], &mut [], DramContent::Scrubbed)
    }

    /// A pool over all pages of `region`, with one of `pages` for each and as many packs at a time
    /// as there are `packs`, up to 2^20 - 1.
    ///
    /// Records that another pool used before, as after a device reset, are emptied; handles of
    /// that pool's packs are stale in this one, and its holds foreign.
    ///
    /// # Errors
    ///
    /// [`RegionError::TooFewPageRecords`] when there are fewer page records than pages.
    pub fn new(
        region: DramRegion,
        pages: &'s mut [PageRecord],
        packs: &'s mut [PackRecord],
        content: DramContent,
    ) -> Result<Self, RegionError> {
        let count = region.pages();
        let pages = pages
            .get_mut(..count as usize)
            .ok_or(RegionError::TooFewPageRecords { needed: count })?;
        Ok(Self::over(region, pages, packs, content))
    }

    fn over(
        region: DramRegion,
        pages: &'s mut [PageRecord],
        packs: &'s mut [PackRecord],
        content: DramContent,
    ) -> Self {
        let count = region.pages();
        let (state, clean) = match content {
            DramContent::Unknown => (State::Dirty, 0),
            DramContent::Scrubbed => (State::Clean, count),
        };
        Self {
            region,
            pages: Pages::new(pages, state),
            packs: Packs::new(packs),
            usage: DramUsage {
                clean,
                dirty: count - clean,
                scrubbing: 0,
                allocated: 0,
                packs: 0,
                orphans: 0,
            },
            identity: Identity::new(),
            losses: 0,
        }
    }

    /// Frees a pack.
    ///
    /// # Errors
    ///
    /// * [`PackError::Unknown`]: there has not been such a pack.
    /// * [`PackError::Stale`]: it has been freed, or its owner is gone.
    /// * [`PackError::NotOwner`]: it is not `caller`'s, shared or not.
    /// * [`PackError::Held`]: it is mapped or exported.
    pub fn free(&mut self, handle: PackHandle, caller: Owner) -> Result<(), PackError> {
        let pack = self.packs.find(handle)?;
        if pack.owner != Some(caller) {
            return Err(PackError::NotOwner);
        }
        if pack.holds > 0 {
            return Err(PackError::Held { holds: pack.holds });
        }
        // What was lost is not the owner's, who might get it as it is.
        let state = if pack.lost {
            State::Dirty
        } else {
            State::DirtyOf(caller)
        };
        self.discard(handle, state);
        Ok(())
    }

    /// Holds a pack for a mapping or an export by `caller`.
    ///
    /// # Errors
    ///
    /// * [`PackError::Unknown`]: there has not been such a pack.
    /// * [`PackError::Stale`]: it has been freed, or its owner is gone.
    /// * [`PackError::NotOwner`]: it is not `caller`'s and not shared.
    /// * [`PackError::Lost`]: its content is lost.
    /// * [`PackError::TooManyHolds`]: it is held 2^32 - 1 times.
    pub fn hold(&mut self, handle: PackHandle, caller: Owner) -> Result<DramHold, PackError> {
        let pack = self.packs.find(handle)?;
        if pack.sharing == Sharing::Private && pack.owner != Some(caller) {
            return Err(PackError::NotOwner);
        }
        if pack.lost {
            return Err(PackError::Lost);
        }
        pack.holds = pack.holds.checked_add(1).ok_or(PackError::TooManyHolds)?;
        Ok(DramHold {
            handle,
            pool: self.identity,
        })
    }

    /// Holds a pack once more for someone who holds it: for an export of what is mapped, which
    /// then does not depend on the mapping.
    ///
    /// # Errors
    ///
    /// * [`PackError::Unknown`]: the hold is one of another pool.
    /// * [`PackError::Lost`]: the content of the pack is lost.
    /// * [`PackError::TooManyHolds`]: the pack is held 2^32 - 1 times.
    pub fn hold_again(&mut self, hold: &DramHold) -> Result<DramHold, PackError> {
        let pack = self.held_mut(hold).ok_or(PackError::Unknown)?;
        if pack.lost {
            return Err(PackError::Lost);
        }
        pack.holds = pack.holds.checked_add(1).ok_or(PackError::TooManyHolds)?;
        Ok(DramHold {
            handle: hold.handle,
            pool: self.identity,
        })
    }

    /// Ends a hold. The last one of an orphan frees it.
    ///
    /// Whatever the hold was for must be over: the mapping's invalidation confirmed, the importers
    /// of an export detached.
    ///
    /// # Errors
    ///
    /// [`Foreign`], with the hold inside, if it is one of another pool.
    pub fn release(&mut self, hold: DramHold) -> Result<(), Foreign<DramHold>> {
        let Some(pack) = self.held_mut(&hold) else {
            return Err(Foreign(hold));
        };
        pack.holds -= 1;
        if pack.holds == 0 && pack.owner.is_none() {
            self.usage.orphans -= 1;
            self.discard(hold.handle, State::Dirty);
        }
        Ok(())
    }

    /// Ends everything of an owner: its packs are freed or, where they are held, become orphans;
    /// and what it left in free pages is nobody's.
    pub fn release_owner(&mut self, owner: Owner) -> OwnerReleased {
        let mut released = OwnerReleased::default();
        for index in 0..self.packs.records() {
            let Some((handle, pack)) = self.packs.at(index) else {
                continue;
            };
            if pack.owner != Some(owner) {
                continue;
            }
            if pack.holds > 0 {
                pack.owner = None;
                self.usage.orphans += 1;
                released.orphaned += 1;
            } else {
                self.discard(handle, State::Dirty);
                released.freed += 1;
            }
        }
        self.pages.disown(owner);
        released
    }

    /// The addresses of a pack; `None` where the hold is one of another pool.
    #[must_use]
    pub fn runs(&self, hold: &DramHold) -> Option<Runs<'_>> {
        let (pack, bytes) = self.held(hold)?;
        Some(self.part(pack, 0, bytes))
    }

    /// Where the runs of a pack begin, to be [taken](Self::take_runs) for as long as it is held;
    /// `None` where the hold is one of another pool.
    pub(crate) fn cursor(&self, hold: &DramHold) -> Option<RunCursor> {
        Some(self.runs(hold)?.cursor())
    }

    /// The next few runs of a pack that is held.
    pub(crate) fn take_runs<const FEW: usize>(&self, cursor: &mut RunCursor) -> [Option<Run>; FEW] {
        core::array::from_fn(|_| cursor.next(self.pages.records()))
    }

    /// The addresses of `len` bytes of a pack from `offset`, for an export to a peer.
    ///
    /// # Errors
    ///
    /// * [`ExportError::ZeroLength`]: `len` is zero.
    /// * [`ExportError::Misaligned`]: `offset` or `len` is no multiple of 4096 (facts EX-1).
    /// * [`ExportError::OutOfRange`]: the part does not end within the pack.
    /// * [`ExportError::Foreign`]: the hold is one of another pool.
    pub fn export_range(
        &self,
        hold: &DramHold,
        offset: u64,
        len: u64,
    ) -> Result<Runs<'_>, ExportError> {
        let (pack, bytes) = self.held(hold).ok_or(ExportError::Foreign)?;
        if len == 0 {
            return Err(ExportError::ZeroLength);
        }
        if !offset.is_multiple_of(EXPORT_BYTES) || !len.is_multiple_of(EXPORT_BYTES) {
            return Err(ExportError::Misaligned);
        }
        match offset.checked_add(len) {
            Some(end) if end <= bytes => Ok(self.part(pack, offset, len)),
            _ => Err(ExportError::OutOfRange),
        }
    }

    /// The addresses of dirty pages to scrub ahead of need, at most `pages` of them: first those
    /// whose owner is gone, which nobody can use as they are.
    #[must_use]
    pub fn next_dirty(&self, pages: u32) -> Option<Run> {
        let nobodys = self.pages.runs(Kinds::DIRTY_OF_NOBODY).next();
        let (first, count) = nobodys.or_else(|| self.pages.runs(Kinds::DIRTY).next())?;
        self.region.run(first, count.min(pages))
    }

    /// Takes dirty pages out of the pool to be scrubbed; `None` unless `run` consists of dirty
    /// pages, as when someone else has taken them.
    pub fn take_dirty(&mut self, run: Run) -> Option<DirtyRun> {
        let (first, count) = self.region.pages_of(run)?;
        for page in (first..).take(count as usize) {
            if !Kinds::DIRTY.contain(self.pages.state(page)?) {
                return None;
            }
        }
        self.pages.fill(first, count, State::Scrubbing);
        self.usage.dirty -= count;
        self.usage.scrubbing += count;
        Some(DirtyRun {
            first,
            pages: count,
            run,
            pool: self.identity,
            losses: self.losses,
        })
    }

    /// Notes that the memory lost its content, as in a reset of the device, and has anything instead, of
    /// anybody. Free pages are scrubbed before anybody gets them, those that are being scrubbed now once
    /// more. Packs can be freed and held ones released, and no more: nobody maps or exports them.
    pub fn lose_content(&mut self) {
        self.losses = self.losses.wrapping_add(1);
        self.pages.soil();
        self.usage.dirty += self.usage.clean;
        self.usage.clean = 0;
        for index in 0..self.packs.records() {
            if let Some((_, pack)) = self.packs.at(index) {
                pack.lost = true;
            }
        }
    }

    /// Takes scrubbed pages back; they are free for anybody, unless the memory
    /// [lost its content](Self::lose_content) meanwhile.
    ///
    /// # Errors
    ///
    /// [`Foreign`], with the pages inside, if they were taken from another pool.
    pub fn return_scrubbed(&mut self, run: ScrubbedRun) -> Result<(), Foreign<ScrubbedRun>> {
        let state = if run.0.losses == self.losses {
            State::Clean
        } else {
            State::Dirty
        };
        self.put_back(run.0, state)
            .map_err(|Foreign(run)| Foreign(ScrubbedRun(run)))
    }

    /// Takes pages back that were not scrubbed; they are dirty, and of no owner.
    ///
    /// # Errors
    ///
    /// [`Foreign`], with the pages inside, if they were taken from another pool.
    pub fn return_dirty(&mut self, run: DirtyRun) -> Result<(), Foreign<DirtyRun>> {
        self.put_back(run, State::Dirty)
    }

    /// The memory that the pool hands out.
    #[must_use]
    pub const fn region(&self) -> DramRegion {
        self.region
    }

    /// How the pages are used, in constant time.
    #[must_use]
    pub const fn usage(&self) -> DramUsage {
        self.usage
    }

    /// What an owner has. Goes through the pack records.
    #[must_use]
    pub fn usage_of(&self, owner: Owner) -> OwnerUsage {
        let mut usage = OwnerUsage::default();
        for (_, pack) in self.owned(owner) {
            usage.packs += 1;
            usage.pages += pack.pages;
        }
        usage.bytes = self.bytes(usage.pages);
        usage
    }

    /// The packs, orphans included, by record.
    pub fn packs(&self) -> impl Iterator<Item = (PackHandle, PackInfo)> {
        self.packs
            .iter()
            .map(|(handle, pack)| (handle, pack.info()))
    }

    /// The bytes of so many pages of the region, which end below 2^64.
    fn bytes(&self, pages: u32) -> u64 {
        u64::from(pages).saturating_mul(self.region.page_bytes())
    }

    /// Ends a pack; its pages become free with the given state, one that is dirty.
    fn discard(&mut self, handle: PackHandle, state: State) {
        if let Some(pack) = self.packs.remove(handle) {
            self.pages.release(pack.chain, state);
            self.usage.allocated -= pack.pages;
            self.usage.dirty += pack.pages;
            self.usage.packs -= 1;
        }
    }

    fn put_back(&mut self, run: DirtyRun, state: State) -> Result<(), Foreign<DirtyRun>> {
        if run.pool != self.identity {
            return Err(Foreign(run));
        }
        self.pages.fill(run.first, run.pages, state);
        self.usage.scrubbing -= run.pages;
        match state {
            State::Clean => self.usage.clean += run.pages,
            _ => self.usage.dirty += run.pages,
        }
        Ok(())
    }

    /// The pack of a hold and its size in bytes.
    fn held(&self, hold: &DramHold) -> Option<(&Pack, u64)> {
        if hold.pool != self.identity {
            return None;
        }
        let pack = self.packs.held(hold.handle)?;
        Some((pack, self.bytes(pack.pages)))
    }

    fn held_mut(&mut self, hold: &DramHold) -> Option<&mut Pack> {
        if hold.pool != self.identity {
            return None;
        }
        self.packs.held_mut(hold.handle)
    }

    fn part(&self, pack: &Pack, offset: u64, len: u64) -> Runs<'_> {
        Runs::new(self.pages.records(), self.region, pack.chain, offset, len)
    }

    fn owned(&self, owner: Owner) -> impl Iterator<Item = (PackHandle, &Pack)> {
        let packs = self.packs.iter();
        packs.filter(move |(_, pack)| pack.owner == Some(owner))
    }
}

impl fmt::Debug for DramPool<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DramPool")
            .field("region", &self.region)
            .field("usage", &self.usage)
            .finish_non_exhaustive()
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for DramPool<'_> {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(
            f,
            "DramPool {{ region: {}, usage: {} }}",
            self.region,
            self.usage
        );
    }
}
