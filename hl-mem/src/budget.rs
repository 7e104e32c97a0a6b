//! How much memory an owner may keep locked.
//!
//! Pinned pages cannot be paged out, so that a user could starve a machine by pinning. A [`Budget`]
//! counts the pages that one user has pinned and refuses those over a limit. It is charged *before*
//! the pages are pinned, by touched pages, and the [`Charge`] goes wherever the pins go.
//!
//! ```
//! use hl_mem::budget::Budget;
//!
//! static USER: Budget = Budget::new(16);
//!
//! let charge = USER.charge(10)?;
//! assert_eq!(USER.charge(7).unwrap_err().left, 6);
//! USER.refund(charge).unwrap();
//! assert_eq!(USER.charged(), 0);
//! # Ok::<(), hl_mem::budget::OverBudget>(())
//! ```
//!
//! The contexts of one user share the budget by reference; it needs no lock. The driver has no such
//! account (facts MH-9, hazard HZ-41).

use core::fmt;

use crate::identity::Identity;
use crate::sync::{AtomicU32, AtomicUsize, Ordering};

/// The pages that one user has locked, and how many there may be.
pub struct Budget {
    limit: usize,
    charged: AtomicUsize,
    /// The number of the identity; zero until the first charge, since a constant cannot draw one.
    identity: AtomicU32,
}

impl Budget {
    /// A budget of `limit` pages, none of them charged.
    #[must_use]
    #[cfg(not(loom))]
    pub const fn new(limit: usize) -> Self {
        Self {
            limit,
            charged: AtomicUsize::new(0),
            identity: AtomicU32::new(0),
        }
    }

    /// A budget of `limit` pages, none of them charged.
    #[must_use]
    #[cfg(loom)]
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            charged: AtomicUsize::new(0),
            identity: AtomicU32::new(0),
        }
    }

    /// A budget that refuses nothing and still counts: for a user who is privileged to lock
    /// memory. It ends where counting does, at `usize::MAX` pages.
    #[must_use]
    #[cfg(not(loom))]
    pub const fn unlimited() -> Self {
        Self::new(usize::MAX)
    }

    /// A budget that refuses nothing and still counts: for a user who is privileged to lock
    /// memory. It ends where counting does, at `usize::MAX` pages.
    #[must_use]
    #[cfg(loom)]
    pub fn unlimited() -> Self {
        Self::new(usize::MAX)
    }

    /// Charges `pages` pages: all of them or none.
    ///
    /// However many threads charge and refund at a time, the sum of the charges never exceeds the
    /// limit, not even for a moment.
    ///
    /// # Errors
    ///
    /// [`OverBudget`] where the limit leaves fewer pages. Nothing is charged then.
    pub fn charge(&self, pages: usize) -> Result<Charge, OverBudget> {
        // The counter guards no other memory: only its own value has to be exact.
        let mut charged = self.charged.load(Ordering::Relaxed);
        loop {
            let left = self.limit.saturating_sub(charged);
            if pages > left {
                return Err(OverBudget {
                    requested: pages,
                    left,
                    limit: self.limit,
                });
            }
            // At most the limit, hence no overflow.
            match self.charged.compare_exchange_weak(
                charged,
                charged + pages,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => {
                    return Ok(Charge {
                        pages,
                        budget: self.identity(),
                    });
                }
                Err(now) => charged = now,
            }
        }
    }

    /// Takes a charge back.
    ///
    /// # Errors
    ///
    /// [`ForeignCharge`], with the charge inside, if it was made on another budget.
    pub fn refund(&self, charge: Charge) -> Result<(), ForeignCharge> {
        if charge.budget != self.identity.load(Ordering::Relaxed) {
            return Err(ForeignCharge(charge));
        }
        // A charge of this budget exists once and is part of the count, so the count covers it.
        self.charged.fetch_sub(charge.pages, Ordering::Relaxed);
        Ok(())
    }

    /// The pages charged at present.
    #[must_use]
    pub fn charged(&self) -> usize {
        self.charged.load(Ordering::Relaxed)
    }

    /// The most pages that can be charged at a time.
    #[must_use]
    pub const fn limit(&self) -> usize {
        self.limit
    }

    /// The number of this budget's identity, drawn by the first call.
    fn identity(&self) -> u32 {
        let known = self.identity.load(Ordering::Relaxed);
        if known != 0 {
            return known;
        }
        let drawn = Identity::new().get();
        match self
            .identity
            .compare_exchange(0, drawn, Ordering::Relaxed, Ordering::Relaxed)
        {
            Ok(_) => drawn,
            Err(known) => known,
        }
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget")
            .field("charged", &self.charged())
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for Budget {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(
            f,
            "Budget {{ charged: {=usize}, limit: {=usize} }}",
            self.charged(),
            self.limit
        );
    }
}

/// Pages charged to a [`Budget`], until it takes them back with [`Budget::refund`].
///
/// Dropping it does not refund it, because it has no reference to its budget. The pages stay
/// charged then, as [`Budget::charged`] shows: memory that may still be locked is never taken for
/// unlocked.
#[derive(PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[must_use = "the pages stay charged until the charge is refunded"]
pub struct Charge {
    pages: usize,
    budget: u32,
}

impl Charge {
    /// The number of pages.
    #[must_use]
    pub const fn pages(&self) -> usize {
        self.pages
    }
}

/// A budget is too small for a charge.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct OverBudget {
    /// The pages that were to be charged.
    pub requested: usize,
    /// The pages that could have been.
    pub left: usize,
    /// The pages that can be charged in all.
    pub limit: usize,
}

impl fmt::Display for OverBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} pages are to be locked, {} are left of a limit of {}",
            self.requested, self.left, self.limit
        )
    }
}

impl core::error::Error for OverBudget {}

/// A charge was offered to a budget that did not make it; the charge is inside.
#[derive(PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct ForeignCharge(pub Charge);

impl fmt::Display for ForeignCharge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a charge of {} pages was made on another budget",
            self.0.pages
        )
    }
}

impl core::error::Error for ForeignCharge {}
