//! Making the hardware misbehave, on the n-th occasion.

use core::fmt;
use std::sync::Arc;

use super::Asic;

/// How a hardware operation ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completion {
    /// It is done when the register write returns.
    AtOnce,
    /// It stays undone for so many reads of its status register; the next read finds it done. Only
    /// then does it take effect.
    AfterReads(u32),
    /// Its status register never says done and it never takes effect. Starting it again may work.
    Never,
}

/// An operation that can be made to misbehave. Each start of a unit counts once: a range invalidation
/// of Gaudi2's driver is two, one of the line cache and one of the range; invalidating all HMMUs is one
/// for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// An invalidation of any kind in any MMU.
    Invalidation,
    /// The latching of a root table.
    RootLatch,
    /// A read through the BAR, which is also what waits for posted writes. One that never completes
    /// is answered by all ones, as PCIe does after its own time-out, and has waited for nothing; one
    /// that is late looks like any other from outside.
    BarRead,
    /// An access of the host to the device, be it to a register or through the BAR. One that never
    /// completes is the last one: the device is lost before it; one that is late looks like any other.
    HostAccess,
}

/// What else goes on in a device; see [`Asic::meanwhile`](super::Asic::meanwhile).
pub type Meanwhile = Arc<dyn Fn(&Asic) + Send + Sync>;

/// Misbehaviour waiting for its occasion.
#[derive(Default)]
pub(crate) struct Plan {
    waiting: Vec<Waiting>,
    meanwhile: Option<Meanwhile>,
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan")
            .field("waiting", &self.waiting)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Waiting {
    operation: Operation,
    /// Occasions left to let pass.
    pass: u64,
    times: u64,
    completion: Completion,
}

impl Plan {
    pub(crate) fn add(
        &mut self,
        operation: Operation,
        nth: u64,
        times: u64,
        completion: Completion,
    ) {
        self.waiting.push(Waiting {
            operation,
            pass: nth.saturating_sub(1),
            times,
            completion,
        });
    }

    pub(crate) fn set_meanwhile(&mut self, act: Meanwhile) {
        self.meanwhile = Some(act);
    }

    pub(crate) fn meanwhile(&self) -> Option<Meanwhile> {
        self.meanwhile.clone()
    }

    pub(crate) fn clear(&mut self) {
        self.waiting.clear();
        self.meanwhile = None;
    }

    /// How the operation that starts now is to end.
    pub(crate) fn next(&mut self, operation: Operation) -> Completion {
        let mut chosen = Completion::AtOnce;
        for waiting in &mut self.waiting {
            if waiting.operation != operation {
                continue;
            }
            if waiting.pass > 0 {
                waiting.pass -= 1;
            } else if waiting.times > 0 {
                waiting.times -= 1;
                chosen = waiting.completion;
            }
        }
        self.waiting.retain(|waiting| waiting.times > 0);
        chosen
    }
}
