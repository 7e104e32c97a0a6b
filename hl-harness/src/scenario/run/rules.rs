//! Rules that neither device nor driver may break, and the steps in which that happened.

use std::sync::PoisonError;

use super::super::ast::Line;
use super::super::text::Span;
use super::super::words::Allowed;
use super::Runner;
use crate::asic::AsicCounters;
use crate::host::HostStatistics;
use crate::log::Event;
use crate::machine::Model;

/// Something that must not happen.
struct Rule {
    /// As a failure names it.
    what: &'static str,
    /// How often it happened.
    count: fn(&HostStatistics, &AsicCounters) -> u64,
    /// By what a scenario says that it may.
    allowed: Allowed,
}

const RULES: [Rule; 4] = [
    Rule {
        what: "register protocols broken",
        count: |_, asic| asic.protocol_violations,
        allowed: Allowed::Protocol,
    },
    Rule {
        what: "device accesses to free pages",
        count: |host, _| host.free_accesses,
        allowed: Allowed::Stray,
    },
    Rule {
        what: "device accesses to pages that nobody pinned",
        count: |host, _| host.unpinned_accesses,
        allowed: Allowed::Stray,
    },
    Rule {
        what: "device accesses to pages that are not mapped for DMA",
        count: |host, _| host.unmapped_accesses,
        allowed: Allowed::Stray,
    },
];

/// The first step that broke a rule.
#[derive(Clone, Debug)]
struct First {
    span: Span,
    /// What it says, with the variables of the loops around.
    step: String,
}

/// What is known of broken rules so far.
#[derive(Debug, Default)]
pub(super) struct Broken {
    /// What the scenario says that there is.
    allowed: Vec<Allowed>,
    /// For each rule.
    first: [Option<First>; RULES.len()],
}

impl<A: Model> Runner<'_, '_, '_, '_, A> {
    fn broken(&self) -> std::sync::MutexGuard<'_, Broken> {
        let broken = self.world.broken.lock();
        broken.unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn allow(&self, what: Allowed) {
        self.broken().allowed.push(what);
    }

    pub(super) fn is_allowed(&self, what: Allowed) -> bool {
        self.broken().allowed.contains(&what)
    }

    /// How often each rule was broken.
    fn counts(&self) -> [u64; RULES.len()] {
        let machine = self.machine();
        let (host, asic) = (machine.host.statistics(), machine.asic.counters());
        RULES.map(|rule| (rule.count)(&host, &asic))
    }

    /// Notes that a step was the first to break a rule, where it was. Of steps that threads carry out at
    /// the same time it is the one that ends first.
    pub(super) fn note_broken(&self, line: &Line) {
        let counts = self.counts();
        if counts == [0; RULES.len()] {
            return;
        }
        let step = || {
            let loops = self.loops.iter().rev();
            let with = loops.map(|(name, value)| format!(", with {name} = {value}"));
            with.fold(line.step.to_string(), |step, with| step + &with)
        };
        for (count, first) in counts.into_iter().zip(&mut self.broken().first) {
            if count > 0 && first.is_none() {
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
        let mut lines = Vec::new();
        let mut at: Option<Span> = None;
        let broken = self.broken();
        for ((rule, count), first) in RULES.iter().zip(self.counts()).zip(&broken.first) {
            if count == 0 || broken.allowed.contains(&rule.allowed) {
                continue;
            }
            let mut line = format!("{}: {count}", rule.what);
            // There is none where it happened while whatever was open was closed.
            if let Some(First { span, step }) = first {
                at = at.or(Some(*span));
                line += &format!(", since line {}: {step}", span.line);
            }
            if let (Allowed::Protocol, Some(Event::ProtocolViolation { mmu, what })) =
                (rule.allowed, self.machine().log.first_violation())
            {
                line += &format!(" ({mmu}: {what})");
            }
            lines.push(line);
        }
        (lines, at)
    }
}
