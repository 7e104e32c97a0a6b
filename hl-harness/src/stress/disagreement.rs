//! What is said where driver and model do not agree.

use core::fmt;
use core::mem::discriminant;

use super::operations::Step;
use crate::wording::shape;

/// The driver and the model do not agree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Disagreement {
    /// The number of the step after which it was noticed.
    pub step: usize,
    /// That step, where it was during one.
    pub during: Option<Step>,
    /// About what.
    pub what: String,
}

impl Disagreement {
    /// Whether this is another case of the same disagreement: noticed in the same operation, whatever
    /// with, and with the same said of it but for numbers, of which the greater are the same ones.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        let operation = |of: &Self| of.during.map(|step| discriminant(&step.operation));
        // What follows on other lines are details, as many as there happen to be.
        let said = |of: &Self| of.what.lines().next().map(shape);
        operation(self) == operation(other) && said(self) == said(other)
    }
}

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "step {}: {}", self.step, self.what)?;
        match self.during {
            Some(step) => write!(f, "\nof {step:?}"),
            None => Ok(()),
        }
    }
}

impl core::error::Error for Disagreement {}
