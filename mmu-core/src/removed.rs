//! What was removed from a page table, until an invalidation proves that nobody can reach it.

use core::fmt;

use crate::addr::{AddrRange, BusAddr, DeviceAddr};
use crate::memory::{Chain, DeviceLost, TableMemory};

/// How much of an address space something concerns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Extent {
    /// No address.
    Nothing,
    /// The addresses of one range.
    Range(AddrRange<DeviceAddr>),
    /// Every address.
    Everything,
}

impl Extent {
    /// The smallest extent that covers both.
    #[must_use]
    pub fn hull(self, other: Self) -> Self {
        match (self, other) {
            (Self::Nothing, extent) | (extent, Self::Nothing) => extent,
            (Self::Range(a), Self::Range(b)) => a.hull(b).map_or(Self::Everything, Self::Range),
            _ => Self::Everything,
        }
    }
}

/// Which cached translations must go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Stale {
    /// The root table of the address space, which tells one space from another.
    pub root: BusAddr,
    /// The addresses whose translation may be cached though it was removed.
    pub extent: Extent,
    /// Whether tables were unlinked, so that cached pointers to tables must go as well.
    pub tables: bool,
}

/// Makes a device forget translations of one address space.
///
/// # Safety
///
/// Memory safety of the whole system rests on the answer: what a confirmed removal owned is used
/// again for something else.
///
/// 1. `invalidate` returns `Ok` only when every translation and every table pointer of the
///    address space that `stale` covers has left every cache of every MMU that may have used it;
/// 2. and no access that was translated by one of them before is still on its way;
/// 3. and none can be translated by one of them later without reading the tables again.
///
/// Where any of this is unknown (a time-out, a device that does not answer), it returns `Err`.
#[expect(
    unsafe_code,
    reason = "a wrong implementation hands memory in use by the device to others"
)]
pub unsafe trait Invalidate {
    /// Why an invalidation could not be confirmed.
    type Error;

    /// Makes the device forget what `stale` covers and waits until that is certain.
    ///
    /// # Errors
    ///
    /// Whatever keeps the implementation from being certain.
    fn invalidate(&mut self, stale: &Stale) -> Result<(), Self::Error>;
}

/// Why a removal is not confirmed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum ConfirmError<E> {
    /// The cleared entries could not be seen to arrive in table memory.
    Flush(DeviceLost),
    /// The invalidation failed.
    Invalidate(E),
}

impl<E: fmt::Display> fmt::Display for ConfirmError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flush(error) => write!(f, "the cleared entries did not arrive: {error}"),
            Self::Invalidate(error) => write!(f, "the invalidation failed: {error}"),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> core::error::Error for ConfirmError<E> {}

/// What was removed from a page table: the addresses to invalidate and the unlinked tables.
///
/// The tables return to their pool only through [`confirm`](Self::confirm). A `Removed` that is
/// dropped keeps them out of it for ever: that is a leak, which the pool's counters show, and
/// never a reuse of memory that the device may still walk.
#[must_use = "removed tables and addresses stay in quarantine until an invalidation confirms them"]
pub struct Removed<M> {
    memory: M,
    tables: Chain,
    stale: Stale,
}

impl<M: TableMemory> Removed<M> {
    #[inline(always)]
    pub(crate) fn new(memory: M, root: BusAddr, extent: Extent, tables: Chain) -> Self {
        let stale = Stale {
            root,
            extent,
            tables: !tables.is_empty(),
        };
        Self {
            memory,
            tables,
            stale,
        }
    }

    /// The translations that may still be cached.
    #[must_use]
    pub fn stale(&self) -> &Stale {
        &self.stale
    }

    /// The number of tables that were unlinked.
    #[must_use]
    pub fn tables(&self) -> u32 {
        self.tables.count
    }

    /// Joins two removals of one page table, to be confirmed by one invalidation.
    ///
    /// # Errors
    ///
    /// Hands `other` back when it was removed from another page table.
    pub fn absorb(&mut self, other: Self) -> Result<(), Self> {
        let stale = other.stale;
        let tables = other.into_tables(self.memory, self.stale.root)?;
        self.memory.append_chain(&mut self.tables, tables);
        self.stale.tables |= stale.tables;
        self.stale.extent = self.stale.extent.hull(stale.extent);
        Ok(())
    }

    /// The tables, for the page table of that root that they were removed from.
    pub(crate) fn into_tables(self, memory: M, root: BusAddr) -> Result<Chain, Self> {
        if self.stale.root != root || !self.memory.is_same(memory) {
            return Err(self);
        }
        Ok(self.tables)
    }

    /// Sees the cleared entries arrive, invalidates, and then releases the tables to their pool.
    ///
    /// # Errors
    ///
    /// [`NotConfirmed`] has the removal, unreleased, with
    ///
    /// * [`ConfirmError::Flush`] when the cleared entries cannot be seen to arrive;
    /// * [`ConfirmError::Invalidate`] when the invalidation is not confirmed.
    #[inline]
    pub fn confirm<I: Invalidate>(self, mmu: &mut I) -> Result<(), NotConfirmed<M, I::Error>> {
        let confirmed = match self.memory.flush() {
            Ok(()) => mmu
                .invalidate(&self.stale)
                .map_err(ConfirmError::Invalidate),
            Err(lost) => Err(ConfirmError::Flush(lost)),
        };
        if let Err(reason) = confirmed {
            let removed = self;
            return Err(NotConfirmed { removed, reason });
        }
        self.memory.release(self.tables);
        Ok(())
    }
}

/// A removal that is not confirmed, and why. It has the removal, to be confirmed again.
#[must_use = "the removal is in here, and its tables are lost to their pool if it is dropped"]
pub struct NotConfirmed<M, E> {
    removed: Removed<M>,
    reason: ConfirmError<E>,
}

impl<M, E> NotConfirmed<M, E> {
    /// Why the removal is not confirmed.
    pub fn reason(&self) -> &ConfirmError<E> {
        &self.reason
    }

    /// The removal, unreleased.
    pub fn into_removed(self) -> Removed<M> {
        self.removed
    }

    /// The removal, unreleased, and why.
    pub fn into_parts(self) -> (Removed<M>, ConfirmError<E>) {
        (self.removed, self.reason)
    }
}

impl<M, E: fmt::Debug> fmt::Debug for NotConfirmed<M, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NotConfirmed")
            .field("removed", &self.removed)
            .field("reason", &self.reason)
            .finish()
    }
}

impl<M, E: fmt::Display> fmt::Display for NotConfirmed<M, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the removal is not confirmed: {}", self.reason)
    }
}

impl<M, E: fmt::Debug + fmt::Display> core::error::Error for NotConfirmed<M, E> {}

#[cfg(feature = "defmt")]
impl<M, E: defmt::Format> defmt::Format for NotConfirmed<M, E> {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "the {} is not confirmed: {}", self.removed, self.reason);
    }
}

impl<M> fmt::Debug for Removed<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Removed")
            .field("stale", &self.stale)
            .field("tables", &self.tables.count)
            .finish_non_exhaustive()
    }
}

#[cfg(feature = "defmt")]
impl<M> defmt::Format for Removed<M> {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(
            f,
            "removed {}, {=u32} tables",
            self.stale,
            self.tables.count
        );
    }
}
