//! Accesses of the device to pages that it should not touch, and the steps that made them.

use std::sync::PoisonError;

use super::super::ast::Line;
use super::super::text::Span;
use super::Runner;
use crate::host::HostStatistics;
use crate::machine::Model;

/// A rule that an access can break, as a failure names it, and how often it was broken.
type Rule = (&'static str, fn(&HostStatistics) -> u64);

const RULES: [Rule; 3] = [
    ("device accesses to free pages", |all| all.free_accesses),
    ("device accesses to pages that nobody pinned", |all| {
        all.unpinned_accesses
    }),
    (
        "device accesses to pages that are not mapped for DMA",
        |all| all.unmapped_accesses,
    ),
];

/// The first step that broke a rule.
#[derive(Clone, Debug)]
struct First {
    span: Span,
    /// What it says, with the variables of the loops around.
    step: String,
}

/// What is known of such accesses so far.
#[derive(Debug, Default)]
pub(super) struct Strays {
    /// The scenario says that there are some.
    allowed: bool,
    /// For each rule.
    first: [Option<First>; RULES.len()],
}

impl<A: Model> Runner<'_, '_, '_, '_, A> {
    fn strays(&self) -> std::sync::MutexGuard<'_, Strays> {
        let strays = self.world.strays.lock();
        strays.unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn allow_strays(&self) {
        self.strays().allowed = true;
    }

    pub(super) fn strays_allowed(&self) -> bool {
        self.strays().allowed
    }

    /// Notes that a step was the first to break a rule, where it was. Of steps that threads carry out at
    /// the same time it is the one that ends first.
    pub(super) fn note_strays(&self, line: &Line) {
        let statistics = self.machine().host.statistics();
        if RULES.iter().all(|(_, count)| count(&statistics) == 0) {
            return;
        }
        let mut strays = self.strays();
        let step = || {
            let loops = self.loops.iter().rev();
            let with = loops.map(|(name, value)| format!(", with {name} = {value}"));
            with.fold(line.step.to_string(), |step, with| step + &with)
        };
        for ((_, count), first) in RULES.iter().zip(&mut strays.first) {
            if count(&statistics) > 0 && first.is_none() {
                *first = Some(First {
                    span: line.span,
                    step: step(),
                });
            }
        }
    }

    /// The rules that were broken and that the scenario does not allow to be, one line each, and where
    /// that began.
    pub(super) fn broken_rules(&self) -> (Vec<String>, Option<Span>) {
        let statistics = self.machine().host.statistics();
        let strays = self.strays();
        let mut lines = Vec::new();
        let mut at: Option<Span> = None;
        if strays.allowed {
            return (lines, at);
        }
        for ((what, count), first) in RULES.iter().zip(&strays.first) {
            match (count(&statistics), first) {
                (0, _) => {}
                (count, Some(First { span, step })) => {
                    at = at.or(Some(*span));
                    lines.push(format!("{what}: {count}, since line {}: {step}", span.line));
                }
                // While whatever was open was closed.
                (count, None) => lines.push(format!("{what}: {count}")),
            }
        }
        (lines, at)
    }
}
