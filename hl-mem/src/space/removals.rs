//! What was removed from an address space, until an invalidation proves that it is gone.
//!
//! It has a lock of its own, which is held for a few steps at a time: whoever confirms holds the
//! lock of an MMU, which is everybody's, and must not wait for a table that is being built.

use mmu_core::{ConfirmError, NotConfirmed, Removed, TableMemory};

use crate::lock::Locked;
use crate::port::Port;

/// Numbers the removals that are confirmed together.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Batch(u64);

/// The proof that a batch of one space, and every one before it, is confirmed.
#[derive(Clone, Copy, Debug)]
#[must_use = "what was removed is given up on the strength of it"]
pub(crate) struct Confirmed {
    /// The first batch that is not.
    until: Batch,
}

impl Confirmed {
    pub(crate) fn covers(self, batch: Batch) -> bool {
        batch < self.until
    }
}

/// How the confirmation of a batch begins.
pub(crate) enum Begun<M> {
    /// Another one has taken it along.
    Confirmed(Confirmed),
    /// The tables were not written anew since a reset of the device: first the space has to forget.
    Stale,
    /// All removals that wait, to be confirmed outside of the lock.
    Taken(Option<Removed<M>>, Batch),
}

/// The removals of one page table that are not confirmed, all of them together.
pub(crate) struct Removals<M> {
    pending: Option<Removed<M>>,
    /// The batch that the next removal belongs to.
    batch: Batch,
    /// Every batch before this one is confirmed.
    unconfirmed: Batch,
    /// How often the device had been reset when the tables were written for the first time, or anew.
    resets: u32,
}

/// Where the removals of a space wait: [`Removals`], under whatever lock.
pub(crate) trait Pending<M> {
    /// Adds a removal to those that wait for an invalidation.
    fn pend(&self, removed: Removed<M>) -> Batch;

    /// Adds what was removed when the tables were written anew, and notes that the device had been reset
    /// so many times before. What is removed from them until it is reset again is as it seems.
    fn renewed(&self, removed: Removed<M>, resets: u32);
}

impl<P: Port, M: TableMemory> Pending<M> for Locked<P, Removals<M>> {
    fn pend(&self, removed: Removed<M>) -> Batch {
        self.lock().pend(removed)
    }

    fn renewed(&self, removed: Removed<M>, resets: u32) {
        let mut removals = self.lock();
        removals.pend(removed);
        removals.resets = resets;
    }
}

impl<M: TableMemory> Removals<M> {
    pub(crate) const fn new(resets: u32) -> Self {
        Self {
            pending: None,
            batch: Batch(0),
            unconfirmed: Batch(0),
            resets,
        }
    }

    fn pend(&mut self, removed: Removed<M>) -> Batch {
        match &mut self.pending {
            None => self.pending = Some(removed),
            Some(pending) => {
                if let Err(foreign) = pending.absorb(removed) {
                    // All removals here come from one page table. Were it otherwise, the foreign one
                    // would stay in quarantine for ever, which is safe.
                    drop(foreign);
                }
            }
        }
        self.batch
    }

    /// The proof for what is confirmed by now.
    pub(crate) fn confirmed(&self) -> Confirmed {
        Confirmed {
            until: self.unconfirmed,
        }
    }

    /// Whether the tables were not written anew since the device was reset for the last of so many
    /// times.
    pub(crate) fn is_stale(&self, resets: u32) -> bool {
        self.resets != resets
    }

    /// The batch of what waits; `None` where nothing does.
    pub(crate) fn waiting(&self) -> Option<Batch> {
        self.pending.is_some().then_some(self.batch)
    }

    /// Begins to confirm a batch, together with all others that wait, on a device that was reset so
    /// many times. Later removals form a new batch. Whoever calls this holds the MMU's lock until
    /// [`end`](Self::end), so that confirmations of one space do not overlap.
    pub(crate) fn begin(&mut self, batch: Batch, resets: u32) -> Begun<M> {
        if batch < self.unconfirmed {
            return Begun::Confirmed(self.confirmed());
        }
        if self.is_stale(resets) {
            return Begun::Stale;
        }
        let taken = self.batch;
        self.batch = Batch(taken.0 + 1);
        Begun::Taken(self.pending.take(), taken)
    }

    /// Ends the confirmation that [`begin`](Self::begin) began.
    pub(crate) fn end<E>(
        &mut self,
        taken: Batch,
        outcome: Result<(), NotConfirmed<M, E>>,
    ) -> Result<Confirmed, ConfirmError<E>> {
        match outcome {
            Ok(()) => {
                self.unconfirmed = Batch(taken.0 + 1);
                Ok(self.confirmed())
            }
            Err(refused) => {
                let (removed, error) = refused.into_parts();
                self.pend(removed);
                Err(error)
            }
        }
    }
}
