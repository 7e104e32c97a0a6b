//! What the porting guide says about locks, compared with the locks that are held.

mod answers;
mod apart;
mod flow;
mod interrupts;
mod many;
mod recording;
mod resets;
/// The smallest port, which the guide shows and its examples run on, and ports of its parts.
#[path = "../support/mod.rs"]
pub mod support;

use std::collections::{BTreeMap, BTreeSet};

/// The locks held in each case in which a method is called, by the guide's heading and its name.
type Cases = BTreeMap<(String, String), BTreeSet<String>>;

/// The tables of the guide that have a column of locks.
fn promised() -> Cases {
    let mut cases = Cases::new();
    let mut heading = String::new();
    for line in include_str!("../../src/guide/porting.md").lines() {
        if let Some(title) = line.strip_prefix("# ") {
            heading = title.replace('`', "");
        }
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let &["", methods, _, locks, _, ""] = cells.as_slice() else {
            continue;
        };
        // The hooks tell the locks, and are not called with any of their own.
        if heading == "Port" || locks.is_empty() || locks == "locks" || locks.contains("---") {
            continue;
        }
        let locks = locks.replace('`', "");
        for method in methods.replace('`', "").split(", ") {
            let entry = cases
                .entry((heading.clone(), method.to_owned()))
                .or_default();
            entry.extend(locks.split("; ").map(str::to_owned));
        }
    }
    cases
}

#[test]
#[cfg_attr(
    not(debug_assertions),
    ignore = "only debug builds tell the port of locks"
)]
fn each_method_of_a_port_is_called_with_the_locks_that_the_guide_names() {
    flow::everything();
    apart::everything();
    let (promised, seen) = (promised(), recording::seen());
    assert!(
        promised.len() >= 47,
        "the guide's tables are not understood"
    );
    let wrong: Vec<_> = promised
        .iter()
        .map(|(method, cases)| (method, "promised", cases, "seen", seen.get(method)))
        .filter(|(_, _, cases, _, seen)| *seen != Some(*cases))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    for method in seen.keys() {
        assert!(
            promised.contains_key(method),
            "{method:?} is not in the guide"
        );
    }
}
