//! The table of hazards in the crate's documentation: complete, and without tests that do not exist.

use std::fs;
use std::path::Path;

const README: &str = include_str!("../README.md");

/// The hazards and the defences of each row.
fn rows() -> impl Iterator<Item = (&'static str, &'static str)> {
    let rows = README.lines().filter_map(|line| line.strip_prefix("| HZ-"));
    rows.filter_map(|row| row.split_once(" | "))
}

/// The text of all Rust sources below a directory.
fn sources(directory: &Path, text: &mut String) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn each_hazard_of_the_facts_is_in_the_table_once() {
    let mut found: Vec<u32> = Vec::new();
    for (hazards, _) in rows() {
        let ids = hazards.split(':').next().unwrap().replace("HZ-", "");
        for ids in ids.split(", ") {
            let mut ends = ids.split(" to ").map(|id| id.parse::<u32>().unwrap());
            let first = ends.next().unwrap();
            found.extend(first..=ends.next().unwrap_or(first));
        }
    }
    found.sort_unstable();
    // Facts section 13.
    assert_eq!(found, (1..=51).collect::<Vec<_>>());
}

#[test]
fn each_test_that_the_table_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut text = String::new();
    for member in ["mmu-core", "hl-mem", "hl-harness"] {
        for part in ["src", "tests"] {
            sources(&root.join(member).join(part), &mut text);
        }
    }
    let mut named = 0;
    for (_, defences) in rows() {
        // Every other piece is between backquotes.
        for name in defences.split('`').skip(1).step_by(2) {
            if name.contains('/') {
                assert!(root.join(name).exists(), "there is no {name}");
            } else if name.contains('_') && !name.contains("::") {
                let found = [format!("fn {name}("), format!("fn {name}<")];
                assert!(
                    found.iter().any(|test| text.contains(test)),
                    "no test is called {name}"
                );
            } else {
                continue;
            }
            named += 1;
        }
    }
    assert!(named > 30, "the table is not understood: {named} names");
}
