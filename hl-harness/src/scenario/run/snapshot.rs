//! Everything countable at a moment, every device address, and what has changed since.

use core::fmt;
use std::collections::BTreeMap;

use mmu_core::BusAddr;

use super::super::ast::Name;
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
    fn differences(&self, before: &Self, except: &[String]) -> Vec<String> {
        let mut lines = Vec::new();
        let names = before.counters.keys().chain(self.counters.keys());
        let mut names: Vec<_> = names.filter(|name| !except.contains(name)).collect();
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
            if let Some(new) = self
                .extents
                .get(counter)
                .filter(|_| !except.contains(counter))
            {
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
            .map(|(name, value)| (name.replace(' ', "-"), value))
            .collect();
        let mut tables = BTreeMap::from([(0, machine.asic.tables(0))]);
        let privileged = "privileged-free-extents".to_owned();
        let mut extents = BTreeMap::from([(privileged, Extents::privileged(machine))]);
        for (key, file) in &self.env.files {
            let name = key_text(key);
            let usage = file.context.usage();
            let numbers = [
                ("mappings", u64::from(usage.mappings)),
                ("quarantined", u64::from(usage.quarantined)),
                ("used", usage.bytes),
                ("extents", u64::from(usage.extents)),
                ("handles", u64::from(usage.handles)),
                ("timestamps", u64::from(usage.timestamps)),
                ("charged", file.budget.charged() as u64),
            ];
            for (what, value) in numbers {
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

    pub(super) fn expect_same(&mut self, span: Span, name: &Name, except: &[String]) -> Words {
        let key = self.key(name)?;
        let now = self.snapshot();
        let Some(before) = self.snapshots.get(&key) else {
            let message = format_args!("there is no snapshot `{}` yet", key_text(&key));
            return Err(Invalid::new(name.span, message).into());
        };
        let unknown = except.iter().find(|counter| {
            !now.counters.contains_key(*counter) && !before.counters.contains_key(*counter)
        });
        if let Some(unknown) = unknown {
            let known = now.counters.keys().map(String::as_str);
            let message = format_args!("there is no counter `{unknown}`");
            return Err(Invalid::new(span, message).suggest(unknown, known).into());
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
