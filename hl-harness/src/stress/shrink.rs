//! From many steps that end in a disagreement to few.

use super::disagreement::Disagreement;
use super::operations::Step;

/// The shortest list that steps can be cut down to, within so many attempts, such that what `disagrees`
/// says of it is [like](Disagreement::is_like) what it said of all: first all that come after the step
/// that it names are left out, then halves, quarters and so on down to single steps. Returns the list
/// with what is said of it.
#[must_use]
pub fn shrink(
    steps: &[Step],
    disagreement: Disagreement,
    attempts: usize,
    disagrees: impl Fn(&[Step]) -> Option<Disagreement>,
) -> (Vec<Step>, Disagreement) {
    let mut shortest = steps.to_vec();
    shortest.truncate(disagreement.step + 1);
    let mut about = disagreement;
    let mut left = attempts;
    let mut size = shortest.len().div_ceil(2);
    while size > 0 && left > 0 {
        let (mut at, mut cut) = (0, false);
        while at < shortest.len() && left > 0 {
            let mut fewer = shortest.clone();
            fewer.drain(at..shortest.len().min(at + size));
            left -= 1;
            match disagrees(&fewer).filter(|other| other.is_like(&about)) {
                Some(other) => {
                    fewer.truncate(other.step + 1);
                    (shortest, about, cut) = (fewer, other, true);
                }
                None => at += size,
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

#[cfg(test)]
mod tests {
    use super::super::operations::{Operation, steps};
    use super::*;

    /// Disagrees as soon as something was settled after a user other than the first has reopened.
    fn picky(steps: &[Step]) -> Option<Disagreement> {
        let reopened = |step: &Step| step.operation == Operation::Reopen && step.user != 0;
        let first = steps.iter().position(reopened)?;
        let settled = |step: &Step| step.operation == Operation::Settle;
        let after = steps[first..].iter().position(settled)?;
        Some(Disagreement {
            step: first + after,
            during: Some(steps[first + after]),
            what: "it is picky".to_owned(),
        })
    }

    /// Disagrees where there is a picky one's reason, with numbers that change with the number of steps;
    /// and where there is none, about other things: in other operations, or the other way round.
    fn picky_or_poor(steps: &[Step]) -> Option<Disagreement> {
        let about = |at: usize, driver: usize, model: usize| Disagreement {
            step: at,
            during: Some(steps[at]),
            what: format!("buffers: the driver has {driver}, the model {model}\n{at} details"),
        };
        if let Some(found) = picky(steps) {
            return Some(about(found.step, found.step + 1, found.step));
        }
        let last = |wanted| steps.iter().rposition(|step| step.operation == wanted);
        let settled = last(Operation::Settle).map(|at| about(at, at, at + 1));
        settled.or_else(|| last(Operation::Reclaim).map(|at| about(at, at + 1, at)))
    }

    #[test]
    fn what_is_left_are_the_steps_that_matter() {
        let all = steps(7, 3, 5000);
        let found = picky(&all).unwrap();
        assert!(found.step > 10, "{found}");
        let (fewest, about) = shrink(&all, found, 1000, picky);
        assert_eq!(fewest.len(), 2, "{fewest:?}");
        assert_eq!(fewest[0].operation, Operation::Reopen);
        assert_eq!(fewest[1].operation, Operation::Settle);
        assert_eq!(about.step, 1);
    }

    #[test]
    fn what_is_left_disagrees_about_the_same() {
        let all = steps(7, 3, 5000);
        let found = picky_or_poor(&all).unwrap();
        let (fewest, about) = shrink(&all, found, 1000, picky_or_poor);
        let operations: Vec<_> = fewest.iter().map(|step| step.operation).collect();
        assert_eq!(operations, [Operation::Reopen, Operation::Settle]);
        assert_eq!(
            about.what,
            "buffers: the driver has 2, the model 1\n1 details"
        );
    }

    #[test]
    fn without_attempts_only_what_comes_after_is_left_out() {
        let all = steps(7, 3, 5000);
        let found = picky(&all).unwrap();
        let (fewest, about) = shrink(&all, found.clone(), 0, picky);
        assert_eq!(fewest, all[..=found.step]);
        assert_eq!(about, found);
    }

    #[test]
    fn more_steps_of_a_seed_begin_with_the_same_ones() {
        assert_eq!(steps(3, 2, 100), steps(3, 2, 1000)[..100]);
        assert_ne!(steps(3, 2, 100), steps(4, 2, 100));
    }
}
