//! Numbers of address spaces, and who may use which.

use core::fmt;
use core::num::NonZeroU16;

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
/// right to an address space is to have opened a [`Context`](crate::Context).
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

#[cfg(test)]
mod tests;
