//! Where a row of leaves leads, in a few words.

use core::fmt;
use std::collections::BTreeSet;

use mmu_core::BusAddr;

use super::super::hex::{Bytes, count};

/// Where consecutive leaves lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pattern {
    Contiguous(BusAddr, u64),
    Step(BusAddr, u64),
    /// So many runs, between these addresses.
    Scattered(u64, BusAddr, BusAddr),
}

impl Pattern {
    pub(super) fn of(buses: &[BusAddr], size: u64) -> Self {
        let first = buses.first().copied().unwrap_or(BusAddr::new(0));
        let step = |pair: &[BusAddr]| pair[1].get().wrapping_sub(pair[0].get());
        let steps: BTreeSet<u64> = buses.windows(2).map(step).collect();
        match (buses.len(), steps.len(), steps.first()) {
            (0 | 1, ..) => Self::Contiguous(first, size),
            (number, 1, Some(&step)) if step == size => {
                Self::Contiguous(first, size.saturating_mul(number as u64))
            }
            (3.., 1, Some(&step)) => Self::Step(first, step),
            _ => {
                let runs = 1 + buses.windows(2).filter(|pair| step(pair) != size).count();
                let low = buses.iter().min().copied().unwrap_or(first);
                let high = buses.iter().max().copied().unwrap_or(first);
                Self::Scattered(runs as u64, low, high)
            }
        }
    }

    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Contiguous(..) => "contiguous",
            Self::Step(..) => "step",
            Self::Scattered(..) => "scattered",
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Contiguous(start, len) => write!(f, "bus {start} +{}", Bytes(*len)),
            Self::Step(start, 0) => write!(f, "bus {start}, all of them"),
            Self::Step(start, step) => write!(f, "bus {start}, step {:#x}", *step as i64),
            Self::Scattered(runs, low, high) => {
                write!(f, "bus {} in {low}..={high}", count(*runs, "run"))
            }
        }
    }
}
