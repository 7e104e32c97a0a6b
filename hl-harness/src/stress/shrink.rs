//! From many steps that end in a disagreement to few.

use super::operations::Step;
use super::run::{Disagreement, run};
use crate::machine::Model;

/// The shortest list that steps can be cut down to, within so many attempts, such that driver and model
/// still disagree about something: first all that come after are left out, then halves, quarters and
/// so on down to single steps. Returns it with what they disagree about.
#[must_use]
pub fn shrink<A: Model>(
    steps: &[Step],
    disagreement: Disagreement,
    attempts: usize,
) -> (Vec<Step>, Disagreement) {
    let mut shortest: Vec<Step> = steps[..steps.len().min(disagreement.step + 1)].to_vec();
    let mut about = disagreement;
    let mut left = attempts;
    let mut size = shortest.len().div_ceil(2);
    while size > 0 && left > 0 {
        let mut at = 0;
        let mut cut = false;
        while at < shortest.len() && left > 0 {
            let mut fewer = shortest.clone();
            fewer.drain(at..(at + size).min(shortest.len()));
            left -= 1;
            match run::<A>(&fewer, &|_| {}) {
                Err(other) => {
                    fewer.truncate(other.step + 1);
                    (shortest, about, cut) = (fewer, other, true);
                }
                Ok(_) => at += size,
            }
        }
        if size > 1 {
            size = size.div_ceil(2);
        } else if !cut {
            // No single step can be spared.
            break;
        }
    }
    (shortest, about)
}
