//! What can be refused.

use core::fmt;

use super::{HandleKind, Reservation};

/// Why a number is not taken for a handle.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum HandleError {
    /// No table gives out a number with these bits.
    Malformed,
    /// The number is that of another kind of object than the request is about.
    WrongKind {
        /// The kind in the number.
        found: HandleKind,
    },
    /// This table has not given the number out.
    Unknown,
    /// The object that the number once named has been removed.
    Stale,
}

impl fmt::Display for HandleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => f.write_str("the number is not a handle"),
            Self::WrongKind { found } => write!(f, "the handle is that of a {found}"),
            Self::Unknown => f.write_str("the handle names no object of this file"),
            Self::Stale => f.write_str("the object of the handle has been removed"),
        }
    }
}

impl core::error::Error for HandleError {}

/// Every place of a table is taken, set aside or retired.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct TableFull {
    /// The places of the table, retired ones included.
    pub capacity: u32,
}

impl fmt::Display for TableFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "all {} places of the table are taken", self.capacity)
    }
}

impl core::error::Error for TableFull {}

/// A reservation was offered to a table that did not make it. What was offered is inside.
#[derive(PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct ForeignReservation<T = ()> {
    /// The reservation, still good for its own table.
    pub reservation: Reservation,
    /// The object that was to be published.
    pub object: T,
}

impl<T> fmt::Debug for ForeignReservation<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForeignReservation")
            .field("reservation", &self.reservation)
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Display for ForeignReservation<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the reservation was made in another table")
    }
}

impl<T> core::error::Error for ForeignReservation<T> {}
