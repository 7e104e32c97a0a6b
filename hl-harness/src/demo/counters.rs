//! Everything countable, before, during and after.

use hl_mem::budget::Budget;
use hl_mem::context::ContextUsage;

use super::report::{Report, grouped};
use crate::machine::{Machine, Model};

/// Counters by name.
pub type Named = Vec<(String, u64)>;

/// Those of the machine and of a budget.
#[must_use]
pub fn of_machine<A: Model>(machine: &Machine<'_, '_, A>, budget: &Budget) -> Named {
    let named = machine.counters().named();
    let named = named
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value));
    let charged = ("pages charged".to_owned(), budget.charged() as u64);
    named.chain([charged]).collect()
}

/// Those of a context.
#[must_use]
pub fn of_context(usage: ContextUsage) -> Named {
    let named = [
        ("user handles", u64::from(usage.handles)),
        ("user mappings", u64::from(usage.mappings)),
        ("user mappings in quarantine", u64::from(usage.quarantined)),
        ("user address bytes", usage.bytes),
        ("user free extents", u64::from(usage.extents)),
    ];
    named.map(|(name, value)| (name.to_owned(), value)).into()
}

/// A counter at three times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compared {
    /// Its name.
    pub name: String,
    /// What it was.
    pub before: u64,
    /// What it was meanwhile: a counter that never moves proves nothing.
    pub during: u64,
    /// What it is.
    pub after: u64,
}

/// Puts three readings of the same counters side by side.
#[must_use]
pub fn compare(before: Named, during: Named, after: Named) -> Vec<Compared> {
    let readings = before.into_iter().zip(during).zip(after);
    readings
        .map(|(((name, before), (_, during)), (_, after))| Compared {
            name,
            before,
            during,
            after,
        })
        .collect()
}

/// The counters that are not what they were, in words.
#[must_use]
pub fn differences(compared: &[Compared]) -> Vec<String> {
    let changed = compared.iter().filter(|row| row.before != row.after);
    changed
        .map(|row| format!("{}: {} before, {} after", row.name, row.before, row.after))
        .collect()
}

/// Prints them side by side.
pub fn print(compared: &[Compared], report: &Report) {
    let heading = ["counter", "before", "during", "after", ""].map(String::from);
    let rows = compared.iter().map(|row| {
        let differs = if row.before == row.after {
            ""
        } else {
            "differs"
        };
        [
            row.name.clone(),
            grouped(row.before),
            grouped(row.during),
            grouped(row.after),
            differs.to_owned(),
        ]
    });
    report.table(&[heading].into_iter().chain(rows).collect::<Vec<_>>());
}
