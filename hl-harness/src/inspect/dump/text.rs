//! How a dump is printed.

use core::fmt;

use super::super::hex::{Bytes, count};
use super::{Dump, Tree};

impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "asid {} on {}", self.asid, self.mmu)?;
        if !self.shared_with.is_empty() {
            write!(
                f,
                " and {} with the same root",
                count(self.shared_with.len() as u64, "more mmu")
            )?;
        }
        writeln!(f, ", root {}", self.root)?;
        for line in &self.lines {
            writeln!(f, "{:indent$}{}", "", line.text, indent = 2 * line.depth)?;
        }
        let totals = &self.totals;
        let tables: u64 = totals.tables.values().sum();
        let by_hop = totals
            .tables
            .iter()
            .map(|(hop, number)| format!("{number} at hop {hop}"));
        let by_hop = by_hop.collect::<Vec<_>>().join(", ");
        writeln!(f, "  total {} ({by_hop})", count(tables, "table"))?;
        let leaves = totals.leaves.iter().rev();
        let leaves =
            leaves.map(|(size, number)| format!("{} of {}", count(*number, "leaf"), Bytes(*size)));
        let leaves = leaves.collect::<Vec<_>>().join(", ");
        writeln!(
            f,
            "  total {}",
            if leaves.is_empty() {
                "0 leaves"
            } else {
                &leaves
            }
        )?;
        if totals.agree() {
            writeln!(f, "  tables and driver agree")
        } else {
            let mut parts = Vec::new();
            for (number, thing) in [
                (totals.wrong, "wrong leaf"),
                (totals.malformed, "malformed entry"),
                (totals.unreadable, "unreadable table"),
            ] {
                if number > 0 {
                    parts.push(count(number, thing));
                }
            }
            if totals.missing > 0 {
                parts.push(format!(
                    "{} mapped by the driver only",
                    Bytes(totals.missing)
                ));
            }
            writeln!(f, "  !! TABLES AND DRIVER DISAGREE: {}", parts.join(", "))
        }
    }
}

impl fmt::Display for Dump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, tree) in self.trees.iter().enumerate() {
            if number > 0 {
                writeln!(f)?;
            }
            write!(f, "{tree}")?;
        }
        if self.trees.is_empty() {
            writeln!(f, "no tables with anything in them")?;
        }
        Ok(())
    }
}
