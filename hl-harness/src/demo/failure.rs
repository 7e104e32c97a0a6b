//! What ends a demonstration early.

use core::fmt;

/// Why a demonstration did not come to its end as it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// What it was asked to do cannot be done: exit status 2.
    Request(String),
    /// Something went otherwise than it must: exit status 1.
    Check(String),
}

impl Failure {
    /// Something went otherwise than it must.
    pub(super) fn check(what: impl fmt::Display) -> Self {
        Self::Check(what.to_string())
    }

    /// What was asked for cannot be done.
    pub(super) fn request(what: impl fmt::Display) -> Self {
        Self::Request(what.to_string())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request(what) | Self::Check(what) => f.write_str(what),
        }
    }
}

impl core::error::Error for Failure {}

/// Fails where `holds` is false.
pub(super) fn check(holds: bool, what: impl fmt::Display) -> Result<(), Failure> {
    if holds {
        Ok(())
    } else {
        Err(Failure::check(what))
    }
}

/// Turns an error into a failure of the check it broke.
pub(super) trait OrFail<T> {
    /// Says what was being done when the error came.
    fn or_fail(self, doing: &str) -> Result<T, Failure>;
}

impl<T, E: fmt::Display> OrFail<T> for Result<T, E> {
    fn or_fail(self, doing: &str) -> Result<T, Failure> {
        self.map_err(|error| Failure::check(format_args!("{doing}: {error}")))
    }
}
