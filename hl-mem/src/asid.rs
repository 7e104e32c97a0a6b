//! Numbers of address spaces, and who may use which.

use core::fmt;
use core::num::NonZeroU16;
use core::sync::atomic::{AtomicUsize, Ordering};

use crate::mmu::{EveryMmu, MmuError};

/// The number of an address space, as initiators and MMUs have it in 10 bits (facts 1.2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(transparent)]
pub struct Asid(u16);

impl Asid {
    /// The first number that the hardware has no bits for.
    pub const LIMIT: u16 = 1 << 10;

    /// The address space of the driver and of the device's own processor (facts 1.2).
    pub const PRIVILEGED: Self = Self(0);

    /// The address space with this number; `None` from [`LIMIT`](Self::LIMIT) on.
    #[must_use]
    pub const fn new(number: u16) -> Option<Self> {
        if number < Self::LIMIT {
            Some(Self(number))
        } else {
            None
        }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl fmt::Display for Asid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<Asid> for u32 {
    fn from(asid: Asid) -> Self {
        Self::from(asid.0)
    }
}

/// The number of an address space that is not the privileged one.
///
/// It converts into an [`Asid`] but no [`Asid`] converts into it. It is only a number: what gives a
/// right to an address space is the [`AsidLease`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(transparent)]
pub struct UserAsid(NonZeroU16);

impl UserAsid {
    /// The address space with this number; `None` for the privileged one and from
    /// [`Asid::LIMIT`] on.
    #[must_use]
    pub const fn new(number: u16) -> Option<Self> {
        match (NonZeroU16::new(number), Asid::new(number)) {
            (Some(number), Some(_)) => Some(Self(number)),
            _ => None,
        }
    }

    /// The number, never zero.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0.get()
    }
}

impl From<UserAsid> for Asid {
    fn from(asid: UserAsid) -> Self {
        Self(asid.get())
    }
}

impl fmt::Display for UserAsid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for UserAsid {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "UserAsid({=u16})", self.get());
    }
}

/// What an initiator's accesses go through. It is set per initiator, not per buffer, and "the
/// privileged ASID" and "no translation" are two different things (facts AS-1, AS-4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum InitiatorMode {
    /// The tables of a user's address space.
    User(UserAsid),
    /// The tables of the privileged address space.
    Privileged,
    /// No tables: addresses reach the bus as they are.
    Bypass,
}

impl InitiatorMode {
    /// The address space whose tables translate; `None` where nothing does.
    #[must_use]
    pub fn asid(self) -> Option<Asid> {
        match self {
            Self::User(asid) => Some(asid.into()),
            Self::Privileged => Some(Asid::PRIVILEGED),
            Self::Bypass => None,
        }
    }
}

/// The right to use an ASID, which has one owner, until it is given back with
/// [`AsidAllocator::quarantine`].
///
/// Dropping it does not give it back: the ASID stays leased, as
/// [`AsidUsage::leased`] shows, and is never anybody else's. Giving it back twice does not compile:
///
/// ```compile_fail,E0382
/// # use hl_mem::asid::{AsidAllocator, AsidLease};
/// fn twice(asids: &mut AsidAllocator<2>, lease: AsidLease) {
///     let _ = asids.quarantine(lease);
///     let _ = asids.quarantine(lease);
/// }
/// ```
#[derive(PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[must_use = "an ASID whose lease is dropped stays leased for ever"]
pub struct AsidLease {
    asid: UserAsid,
    allocator: usize,
}

impl AsidLease {
    /// The address space it is for.
    #[must_use]
    pub const fn asid(&self) -> UserAsid {
        self.asid
    }
}

/// All ASIDs are leased or in quarantine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct OutOfAsids {
    /// How many would be free after a successful [`AsidAllocator::confirm_all`].
    pub quarantined: u16,
}

impl fmt::Display for OutOfAsids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no ASID is free, {} are in quarantine", self.quarantined)
    }
}

impl core::error::Error for OutOfAsids {}

/// The lease, handed back, is one of another allocator.
#[derive(PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct ForeignLease(pub AsidLease);

impl fmt::Display for ForeignLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let asid = self.0.asid;
        write!(f, "the lease of ASID {asid} is of another device")
    }
}

impl core::error::Error for ForeignLease {}

/// How many user ASIDs are in which state.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct AsidUsage {
    /// Those that can be allocated.
    pub free: u16,
    /// Those that somebody has, or had when dropping the lease.
    pub leased: u16,
    /// Those given back, whose translations may still be cached.
    pub quarantined: u16,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Never handed out.
    Privileged,
    Free,
    Leased,
    Quarantined,
}

/// Hands out the user ASIDs of one device: the numbers from 1 up to, but not including, `MAX`.
///
/// # When an ASID may be used again
///
/// Its next owner must find nothing of the one before: no root table that leads to its pages, no
/// translation in a cache. Returning a lease therefore only puts the ASID into *quarantine*.
/// [`confirm_all`](Self::confirm_all) takes it out, after it has itself made all MMUs of the
/// device point the ASID at their parking tables and then forget everything. Nothing has to be
/// believed about what its owner did, and in which order. The price is one full invalidation for
/// every time the ASIDs run out, for all that were returned since.
///
/// A reset of the device needs nothing else: the MMUs are
/// [enabled](crate::mmu::MmuControl::enable) again, then `confirm_all` succeeds. Leases live on
/// through a reset, until their owners return them.
///
/// ```
/// use hl_mem::asid::AsidAllocator;
///
/// let mut asids = AsidAllocator::<2>::new();
/// let lease = asids.allocate()?;
/// assert_eq!(lease.asid().get(), 1);
/// assert!(asids.allocate().is_err());
///
/// asids.quarantine(lease)?;
/// assert_eq!(asids.allocate().unwrap_err().quarantined, 1);
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct AsidAllocator<const MAX: usize> {
    states: [State; MAX],
    number: usize,
}

impl<const MAX: usize> AsidAllocator<MAX> {
    const FITS_THE_HARDWARE: () = assert!(
        MAX > 0 && MAX <= Asid::LIMIT as usize,
        "the hardware has 10 bits for an ASID"
    );

    /// An allocator of which all ASIDs but the privileged one are free.
    #[must_use]
    pub fn new() -> Self {
        let () = Self::FITS_THE_HARDWARE;
        // Tells the leases of different allocators apart. Numbers are handed out once each, which
        // needs no ordering and is nothing to model, hence core's type even under loom.
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let mut states = [State::Free; MAX];
        if let Some(first) = states.first_mut() {
            *first = State::Privileged;
        }
        Self {
            states,
            number: NEXT.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// Leases the lowest free ASID.
    ///
    /// # Errors
    ///
    /// [`OutOfAsids`] when there is none. Where some are in quarantine, it is worth trying again
    /// after [`confirm_all`](Self::confirm_all).
    pub fn allocate(&mut self) -> Result<AsidLease, OutOfAsids> {
        for (number, state) in (0..Asid::LIMIT).zip(&mut self.states) {
            if *state == State::Free
                && let Some(asid) = UserAsid::new(number)
            {
                *state = State::Leased;
                return Ok(AsidLease {
                    asid,
                    allocator: self.number,
                });
            }
        }
        Err(OutOfAsids {
            quarantined: self.usage().quarantined,
        })
    }

    /// Takes a lease back. The ASID can be allocated again after the next
    /// [`confirm_all`](Self::confirm_all).
    ///
    /// # Errors
    ///
    /// [`ForeignLease`], with the lease, when another allocator handed it out.
    pub fn quarantine(&mut self, lease: AsidLease) -> Result<(), ForeignLease> {
        match self.states.get_mut(usize::from(lease.asid.get())) {
            Some(state) if lease.allocator == self.number => {
                *state = State::Quarantined;
                Ok(())
            }
            _ => Err(ForeignLease(lease)),
        }
    }

    /// Parks all ASIDs in quarantine, invalidates everything and then frees them; yields how many
    /// there were. Does nothing where there are none.
    ///
    /// # Errors
    ///
    /// Whatever keeps the MMUs from being certain. Everything stays in quarantine.
    pub fn confirm_all<M: EveryMmu + ?Sized>(&mut self, mmus: &mut M) -> Result<u16, MmuError> {
        let mut confirmed = 0;
        for (number, _) in self.quarantined() {
            mmus.park_everywhere(number)?;
            confirmed += 1;
        }
        if confirmed == 0 {
            return Ok(0);
        }
        mmus.invalidate_everywhere()?;
        for state in &mut self.states {
            if *state == State::Quarantined {
                *state = State::Free;
            }
        }
        Ok(confirmed)
    }

    fn quarantined(&self) -> impl Iterator<Item = (Asid, State)> {
        (0..Asid::LIMIT)
            .filter_map(Asid::new)
            .zip(self.states)
            .filter(|&(_, state)| state == State::Quarantined)
    }

    /// How many ASIDs are in which state.
    #[must_use]
    pub fn usage(&self) -> AsidUsage {
        let mut usage = AsidUsage::default();
        for state in &self.states {
            match state {
                State::Privileged => {}
                State::Free => usage.free += 1,
                State::Leased => usage.leased += 1,
                State::Quarantined => usage.quarantined += 1,
            }
        }
        usage
    }
}

impl<const MAX: usize> Default for AsidAllocator<MAX> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
