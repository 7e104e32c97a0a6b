//! Everything countable at a moment, every device address, and what has changed since.

use core::fmt;
use std::collections::BTreeMap;

use mmu_core::BusAddr;

use super::super::ast::{Name, Word};
use super::super::counters;
use super::super::text::{Invalid, Span};
use super::env::key_text;
use super::stop::Failure;
use super::{Runner, Words};
use crate::asic::MmuInstance;
use crate::extents::Extents;
use crate::machine::Model;

/// The words of every table that the device reaches, by where it lies.
type Tables = BTreeMap<(MmuInstance, BusAddr), Vec<u64>>;

/// Everything countable, every device address, and the bytes of all page tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Snapshot {
    counters: BTreeMap<String, u64>,
    /// The device addresses, by the counter of their free pieces.
    extents: BTreeMap<String, Extents>,
    /// By address space.
    tables: BTreeMap<u16, Tables>,
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tables: usize = self.tables.values().map(BTreeMap::len).sum();
        write!(f, "{} counters, {tables} tables", self.counters.len())
    }
}

impl Snapshot {
    /// What is not as it was `before`, in lines; nothing of the counters in `except`.
    fn differences(&self, before: &Self, except: &[Word]) -> Vec<String> {
        let mut lines = Vec::new();
        let names = before.counters.keys().chain(self.counters.keys());
        let excepted = |name: &String| except.iter().any(|counter| counter.text == *name);
        let mut names: Vec<_> = names.filter(|name| !excepted(name)).collect();
        names.sort();
        names.dedup();
        for name in names {
            let (old, new) = (before.counters.get(name), self.counters.get(name));
            if old != new {
                let shown = |value: Option<&u64>| match value {
                    Some(value) => value.to_string(),
                    None => "nothing".to_owned(),
                };
                lines.push(format!("{name}: {} before, {} now", shown(old), shown(new)));
            }
        }
        for (counter, old) in &before.extents {
            if let Some(new) = self.extents.get(counter).filter(|_| !excepted(counter)) {
                let differences = new.differences(old).into_iter();
                lines.extend(differences.map(|line| format!("{counter}: {line}")));
            }
        }
        for (asid, old) in &before.tables {
            // A file that was closed is told by its counters.
            let Some(new) = self.tables.get(asid) else {
                continue;
            };
            lines.extend(differing_table(*asid, old, new));
        }
        lines
    }
}

/// The first difference between the tables of an address space, in words.
fn differing_table(asid: u16, old: &Tables, new: &Tables) -> Option<String> {
    for (place @ (mmu, address), words) in old {
        let Some(now) = new.get(place) else {
            return Some(format!("{mmu} asid {asid}: table {address} is gone"));
        };
        let pairs = words.iter().zip(now).enumerate();
        if let Some((index, (was, is))) = pairs.into_iter().find(|(_, (was, is))| was != is) {
            return Some(format!(
                "{mmu} asid {asid}: entry {index} of table {address}: {was:#x} before, {is:#x} now"
            ));
        }
    }
    let added = new.keys().find(|place| !old.contains_key(place));
    added.map(|(mmu, address)| format!("{mmu} asid {asid}: table {address} is new"))
}

impl<A: Model> Runner<'_, '_, '_, '_, A> {
    pub(super) fn snapshot(&self) -> Snapshot {
        let machine = self.machine();
        let counters = machine.counters().named().into_iter();
        let mut counters: BTreeMap<String, u64> = counters
            .map(|(name, value)| (counters::word(name), value))
            .collect();
        let mut tables = BTreeMap::from([(0, machine.asic.tables(0))]);
        let privileged = "privileged-free-extents".to_owned();
        let mut extents = BTreeMap::from([(privileged, Extents::privileged(machine))]);
        for (key, file) in &self.env.files {
            let name = key_text(key);
            let usage = file.context.usage();
            let numbers = [
                u64::from(usage.mappings),
                u64::from(usage.quarantined),
                usage.bytes,
                u64::from(usage.extents),
                u64::from(usage.handles),
                u64::from(usage.timestamps),
                file.budget.charged() as u64,
            ];
            for (what, value) in counters::OF_CONTEXT.into_iter().zip(numbers) {
                counters.insert(format!("{name}.{what}"), value);
            }
            let pieces = Extents::of_context(&file.context);
            extents.insert(format!("{name}.extents"), pieces);
            let asid = file.context.asid().get();
            tables.insert(asid, machine.asic.tables(asid));
        }
        Snapshot {
            counters,
            extents,
            tables,
        }
    }

    pub(super) fn expect_same(&mut self, span: Span, name: &Name, except: &[Word]) -> Words {
        let key = self.key(name)?;
        let now = self.snapshot();
        let Some(before) = self.snapshots.get(&key) else {
            let message = format_args!("there is no snapshot `{}` yet", key_text(&key));
            return Err(Invalid::new(name.span, message).into());
        };
        let unknown = except.iter().find(|counter| {
            let name = &counter.text;
            !now.counters.contains_key(name) && !before.counters.contains_key(name)
        });
        if let Some(unknown) = unknown {
            let known: Vec<_> = now.counters.keys().collect();
            return Err(counters::unknown(unknown, &known).into());
        }
        let differences = now.differences(before, except);
        if differences.is_empty() {
            return Ok(now.to_string());
        }
        let found = match differences.len() {
            1 => "1 difference".to_owned(),
            many => format!("{many} differences"),
        };
        let mut failure = Failure::new(span, format_args!("everything as in {name}"), found);
        failure.notes = differences;
        Err(failure.into())
    }
}
