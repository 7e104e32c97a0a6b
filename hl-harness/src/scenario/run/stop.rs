//! What ends a run before its end.

use core::fmt;

use super::super::text::{Invalid, Span, excerpt};

/// An expectation that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The step.
    pub span: Span,
    /// What was expected.
    pub expected: String,
    /// What was found.
    pub found: String,
    /// The variables of the loops around, and whatever helps to understand it.
    pub notes: Vec<String>,
}

impl Failure {
    pub(crate) fn new(span: Span, expected: impl fmt::Display, found: impl fmt::Display) -> Self {
        Self {
            span,
            expected: expected.to_string(),
            found: found.to_string(),
            notes: Vec::new(),
        }
    }

    /// The failure with the line, what stands before it, and what differs. `seed` is that of the run.
    #[must_use]
    pub fn render(&self, name: &str, asic: impl fmt::Display, seed: u64, source: &str) -> String {
        let mut text = format!("{name}:{}: failed on {asic} with seed {seed}\n", self.span);
        text += &excerpt(source, self.span, 3);
        text += &format!("     expected  {}\n", self.expected);
        text += &format!("     found     {}\n", self.found);
        for note in &self.notes {
            text += &format!("     {note}\n");
        }
        text
    }
}

/// Why a run stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Something is not as expected.
    Failed(Failure),
    /// The file asks for what cannot be.
    Invalid(Invalid),
}

impl Stop {
    /// Where.
    #[must_use]
    pub fn span(&self) -> Span {
        match self {
            Self::Failed(failure) => failure.span,
            Self::Invalid(invalid) => invalid.span,
        }
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<Invalid> for Stop {
    fn from(invalid: Invalid) -> Self {
        Self::Invalid(invalid)
    }
}
