use std::collections::BTreeMap;

use hl_harness::inspect::{BusExtent, Dump, State};
use hl_harness::machine::Model;
use mmu_core::{BusAddr, DeviceAddr};

use crate::rig::{PAGE, on_each_asic, with_user};

on_each_asic!(
    the_leaves_of_a_dump_are_those_that_were_mapped,
    each_line_of_a_whole_dump_leads_where_the_device_goes,
    wrong_entries_stand_out,
    a_large_leaf_must_lead_right_at_both_ends,
    tables_of_one_shape_are_folded_and_still_counted,
);

/// Leaves by size, added up from the lines of the text.
fn leaves_in(text: &str) -> BTreeMap<String, u64> {
    let mut leaves = BTreeMap::new();
    for line in text.lines().filter(|line| line.contains(" -> bus ")) {
        let (_, rest) = line.split_once("] ").unwrap();
        let (number, rest) = rest.split_once(" lea").unwrap();
        let (_, size) = rest.split_once(" of ").unwrap();
        let (size, _) = size.split_once(',').unwrap();
        *leaves.entry(size.to_owned()).or_default() +=
            number.replace(' ', "").parse::<u64>().unwrap();
    }
    leaves
}

/// Leaves by size, as the totals say.
fn totals_in(text: &str) -> BTreeMap<String, u64> {
    let mut leaves = BTreeMap::new();
    for line in text
        .lines()
        .filter(|line| line.contains("  total ") && line.contains("lea"))
    {
        for part in line.trim().trim_start_matches("total ").split(", ") {
            if let Some((number, size)) = part.split_once(" of ") {
                let number: String = number.chars().filter(char::is_ascii_digit).collect();
                *leaves.entry(size.to_owned()).or_default() += number.parse::<u64>().unwrap();
            }
        }
    }
    leaves
}

fn the_leaves_of_a_dump_are_those_that_were_mapped<A: Model>() {
    with_user::<A>(|user| {
        user.map(7, None);
        let gone = user.map(3, None);
        user.map(1 + 1024 + 3, Some(1));
        user.unmap(gone);
        let mut expected =
            BTreeMap::from([("4 KiB".to_owned(), 7 + 1 + 3), ("2 MiB".to_owned(), 2)]);
        if user.map_device_memory(3).is_some() {
            let (size, number) = match A::PROFILE.one_table {
                true => ("2 MiB", 3),
                false => ("768 MiB", 3),
            };
            *expected.entry(size.to_owned()).or_default() += number;
        }
        let state = user.state();
        for every in [false, true] {
            let text = state.dump(Some(user.asid()), every).to_string();
            assert_eq!(leaves_in(&text), expected, "{text}");
            assert_eq!(totals_in(&text), expected, "{text}");
            assert!(
                text.contains("tables and driver agree") && !text.contains("!!"),
                "{text}"
            );
        }
        // And the block, in the dump of everything.
        let all = state.dump(None, false).to_string();
        *expected.entry("4 KiB".to_owned()).or_default() += 5;
        assert_eq!(leaves_in(&all), expected, "{all}");
        // Tables in use are those of the pool but for the roots that nobody uses.
        let tables: u64 = state.dump(None, false).trees.iter().map(tables_of).sum();
        assert!(tables > 0 && tables <= u64::from(user.machine.counters().tables));
    });
}

fn tables_of(tree: &hl_harness::inspect::Tree) -> u64 {
    tree.totals.tables.values().sum()
}

fn each_line_of_a_whole_dump_leads_where_the_device_goes<A: Model>() {
    with_user::<A>(|user| {
        user.map(9, None);
        user.map(1 + 512 + 2, Some(1));
        user.map_device_memory(2);
        let text = user.state().dump(Some(user.asid()), true).to_string();
        let mut lines = 0;
        for line in text.lines().filter(|line| line.contains(" -> bus ")) {
            let (before, after) = line.split_once(" -> bus ").unwrap();
            let (_, device) = before.split_once(", ").unwrap();
            let number = |text: &str| {
                let digits = text.trim_start_matches("0x").split(' ').next().unwrap();
                u64::from_str_radix(digits, 16).unwrap()
            };
            let at = DeviceAddr::new(number(device));
            let outcome = user.device_reads(at);
            assert_eq!(outcome, Ok(BusAddr::new(number(after))), "{line}");
            lines += 1;
        }
        let device_memory = if A::PROFILE.dram.mapped_at.is_some() {
            2
        } else {
            0
        };
        assert_eq!(lines, 9 + 1 + 1 + 2 + device_memory, "{text}");
    });
}

/// The state with the words of a table changed, found by the entry that leads to `at`.
fn planted(state: &State, asid: u16, at: u64, change: impl FnOnce(u64) -> u64) -> State {
    let walk = state.walk(asid, DeviceAddr::new(at), None).unwrap();
    let step = walk.hops.last().unwrap().step;
    let mut state = state.clone();
    let table = state
        .tables
        .iter_mut()
        .find(|table| table.address == step.table)
        .unwrap();
    let word = table
        .entries
        .entry(step.index)
        .or_insert(hl_harness::inspect::Word(0));
    word.0 = change(word.0);
    state
}

fn wrong_entries_stand_out<A: Model>() {
    with_user::<A>(|user| {
        let start = user.map(64, None);
        let state = user.state();
        let asid = user.asid();
        let text = |dump: &Dump| dump.to_string();
        let elsewhere = planted(&state, asid, start + 5 * PAGE, |word| word ^ 0x1000);
        let dump = elsewhere.dump(Some(asid), false);
        assert_eq!(
            (dump.trees[0].totals.wrong, dump.trees[0].totals.missing),
            (1, PAGE)
        );
        let shown = text(&dump);
        assert!(shown.contains("1 leaf of 4 KiB"), "{shown}");
        assert!(
            shown.contains("!! the driver's mapping owns other memory"),
            "{shown}"
        );
        assert!(
            shown.contains("DISAGREE: 1 wrong leaf, 4 KiB mapped by the driver only"),
            "{shown}"
        );

        let malformed = planted(&state, asid, start + 5 * PAGE, |word| word | 2);
        let dump = malformed.dump(Some(asid), false);
        assert_eq!(dump.trees[0].totals.malformed, 1);
        assert!(text(&dump).contains(": malformed"), "{dump}");

        let absent = planted(&state, asid, start + 5 * PAGE, |_| 0);
        let dump = absent.dump(Some(asid), false);
        assert_eq!(dump.trees[0].totals.missing, PAGE, "{dump}");

        let stray = planted(&state, asid, start + 64 * PAGE, |_| 0x1000 | 0x801);
        let dump = stray.dump(Some(asid), false);
        assert_eq!(dump.trees[0].totals.wrong, 1);
        assert!(
            text(&dump).contains("!! the driver has no mapping here"),
            "{dump}"
        );
    });
}

fn a_large_leaf_must_lead_right_at_both_ends<A: Model>() {
    with_user::<A>(|user| {
        let at = DeviceAddr::new(user.map(512, Some(0)));
        let state = user.state();
        assert!(state.dump(Some(user.asid()), false).trees[0].totals.agree());
        for first_half in [true, false] {
            let mut state = state.clone();
            let mut spaces = state.spaces.iter_mut();
            let space = spaces.find(|space| space.asid == user.asid()).unwrap();
            let owns = &mut space
                .mappings
                .iter_mut()
                .find(|m| m.extent.start == at)
                .unwrap()
                .owns;
            let whole = owns[0];
            assert_eq!((owns.len(), whole.len), (1, 512 * PAGE));
            let half = whole.len / 2;
            let moved = |start: u64, is: bool| BusExtent {
                start: BusAddr::new(if is { start ^ 0x4000_0000 } else { start }),
                len: half,
            };
            *owns = vec![
                moved(whole.start.get(), first_half),
                moved(whole.start.get() + half, !first_half),
            ];
            let dump = state.dump(Some(user.asid()), false);
            assert!(dump.trees[0].totals.wrong > 0, "{dump}");
        }
    });
}

fn tables_of_one_shape_are_folded_and_still_counted<A: Model>() {
    with_user::<A>(|user| {
        let pages = 512 * 5;
        user.map(pages, None);
        let dump = user.state().dump(Some(user.asid()), false);
        let text = dump.to_string();
        assert!(text.contains("4 more tables like the one above"), "{text}");
        assert_eq!(
            totals_in(&text),
            BTreeMap::from([("4 KiB".to_owned(), pages)]),
            "{text}"
        );
        // One line tells of 512 leaves; the whole tree is short.
        assert!(
            text.contains("512 leaves of 4 KiB") && text.lines().count() < 45,
            "{text}"
        );
        let every = user.state().dump(Some(user.asid()), true).to_string();
        assert_eq!(leaves_in(&every), totals_in(&text));
    });
}
