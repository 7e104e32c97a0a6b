//! What files say of the hardware: how it goes, what its engines move, and what it is built like.

use hl_harness::inspect::State;
use hl_harness::scenario::{Executed, Watch};

use super::super::*;

fn passes(asic: AsicWord, text: &str) {
    if let Err(stop) = on(asic, text) {
        panic!("{asic}: {stop:?}\n{text}");
    }
}

/// Texts, the line and column that are at fault, and a part of what is said.
const INVALID: &[(&str, u32, u32, &str)] = &[
    ("fail acces 1", 1, 6, "did you mean `access`?"),
    ("fail access", 1, 12, "expected a number"),
    (
        "fail access 1 timeout",
        1,
        15,
        "expected the end of the line",
    ),
    ("machine host disk", 1, 14, "there is file, memory"),
    (
        "machine range-end inclusiv",
        1,
        19,
        "did you mean `inclusive`?",
    ),
    (
        "machine posted-writes later",
        1,
        23,
        "there is until-flush, immediate",
    ),
    ("machine hmmus all", 1, 15, "expected a number"),
    ("machine hmmu 1", 1, 9, "did you mean `hmmus`?"),
    (
        "fail stop",
        1,
        10,
        "expected the name of a block or context",
    ),
    (
        "open c1\nbuffer c1 b 1\nfail stop b",
        3,
        11,
        "not a block or context",
    ),
    ("fail stpo c1", 1, 6, "did you mean `stop`?"),
    ("fail nothign", 1, 6, "did you mean `nothing`?"),
    ("bar", 1, 4, "expected a number"),
    ("let bar = 1", 1, 5, "is a word of the language and no name"),
    (
        "parallel\nthread 1\nbar 0\nend\nend",
        3,
        1,
        "no single one does it",
    ),
    ("open c1\ndma copy c1 0 0 1, 2", 2, 21, "expected a number"),
    ("open c1\ndma copy c1 0 0 1,", 2, 19, "expected a number"),
    (
        "open c1\ndma copy c1 0 0 1, 2 2 1 as d1",
        2,
        26,
        "and one of one piece",
    ),
    (
        "open c1\ndma copy c1 0 0 1 -> faults in 2",
        2,
        32,
        "expected `piece`",
    ),
];

#[test]
fn what_is_no_word_about_the_hardware_is_refused_at_its_place() {
    for (text, line, column, said) in INVALID {
        let invalid = match text.parse::<Script>() {
            Err(invalid) => invalid,
            Ok(script) => panic!("{text:?} is {script:?}"),
        };
        let place = (invalid.span.line, invalid.span.column);
        assert_eq!(place, (*line, *column), "{text:?}: {invalid}");
        assert!(invalid.to_string().contains(said), "{text:?}: {invalid}");
    }
}

#[test]
fn the_device_is_lost_before_the_access_that_is_named_and_not_before_another_one() {
    let text = "\
        fail access 3\n\
        register 0x490010 1\n\
        register 0x490010 2\n\
        expect events lost 0\n\
        expect register 0x490010 0xFFFFFFFF\n\
        expect events lost 1\n\
        reset\n\
        fail access 1\n\
        fail nothing\n\
        recover\n\
        expect events lost 1\n";
    passes(AsicWord::Goya, text);
}

#[test]
fn a_copy_that_is_refused_says_in_which_of_its_pieces() {
    let start = "open c1\nbuffer c1 b 1 pages\nmap c1 b -> va\n";
    for (copy, found) in [
        ("dma copy c1 va va 9, 0 va 1 -> faults in piece 0", Some(1)),
        ("dma copy c1 0 va 1, va va 9 -> faults in piece 1", Some(0)),
        ("dma copy c1 va va 1, va va 0, va 0 1, va va 1", Some(2)),
        ("dma copy c1 0 va 1 -> faults in piece 0", None),
    ] {
        for asic in [AsicWord::Goya, AsicWord::Gaudi2] {
            let failure = failure(asic, &format!("{start}{copy}\n"));
            assert_eq!(failure.span.line, 4, "{copy}");
            let piece = failure.found.split_once(" in piece ");
            let piece = piece.and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
            assert_eq!(piece, found, "{copy}: {}", failure.found);
        }
    }
}

/// A file's text with words behind its `machine`.
fn with_machine(text: &str, words: &str) -> String {
    if text.lines().any(|line| line.starts_with("machine ")) {
        let added = |line: &str| match line.starts_with("machine ") {
            true => format!("{line} {words}\n"),
            false => format!("{line}\n"),
        };
        return text.lines().map(added).collect();
    }
    let first_step = |line: &str| !line.starts_with('#') && !line.starts_with("asics");
    let at = text.lines().position(first_step).expect("there is a step");
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.insert(at, format!("machine {words}"));
    lines.join("\n") + "\n"
}

/// What a run looked like: each step with what came of it and the events it caused, and the machine at the
/// end.
#[derive(Default)]
struct Account {
    steps: Vec<String>,
    end: String,
}

impl Watch for Account {
    fn step(&mut self, executed: &Executed<'_>) {
        let Executed { line, answer, .. } = executed;
        let step = format!("{}: {} # {answer}", line.span, line.step);
        self.steps.push(step);
        let events = executed.events.iter();
        self.steps
            .extend(events.map(|record| record.event.to_string()));
    }

    fn end(&mut self, capture: &dyn Fn() -> State) {
        self.end = serde_json::to_string(&capture()).expect("a state can be written down");
    }
}

fn account(asic: AsicWord, text: &str) -> Account {
    let script: Script = text
        .parse()
        .unwrap_or_else(|invalid| panic!("{invalid}\n{text}"));
    let options = Options {
        seed: 1,
        events: true,
    };
    let mut account = Account::default();
    if let Err(stop) = run(&script, asic, options, &mut account) {
        panic!("{asic}: {stop:?}\n{text}");
    }
    account
}

/// Every counter there is, as the program names them.
fn counters() -> Vec<String> {
    let unknown = "expect counter qqqqqqqqqqqq 0".parse::<Script>();
    let invalid = unknown.expect_err("there is no such counter");
    let unknown = invalid.help.unwrap_or_default();
    let list = unknown.trim_start_matches("there is ").split(", ");
    list.map(str::to_owned).collect()
}

#[test]
fn a_scenario_is_the_same_in_each_step_event_and_counter_wherever_the_pages_of_the_host_are() {
    let counters = counters();
    assert!(counters.len() > 30, "{counters:?}");
    let look: String = counters
        .iter()
        .map(|name| format!("let found = counter {name}\n"))
        .collect();
    for name in ["flow.hl", "order.hl", "fork.hl", "ring.hl"] {
        let text = fs::read_to_string(folder().join(name)).expect("the file is shipped");
        let on_host = |asic, place| {
            let text = with_machine(&text, &format!("host {place}")) + &look;
            account(asic, &text)
        };
        for asic in [AsicWord::Goya, AsicWord::Gaudi2] {
            let (file, memory) = (on_host(asic, "file"), on_host(asic, "memory"));
            assert!(file.steps.len() > 2 * counters.len(), "{name}");
            for (one, other) in file.steps.iter().zip(&memory.steps) {
                assert_eq!(one, other, "{name} on {asic}");
            }
            assert_eq!(file.steps.len(), memory.steps.len(), "{name} on {asic}");
            assert!(file.end == memory.end, "{name} on {asic}: another end");
        }
    }
}

#[test]
fn each_word_about_the_machine_is_what_the_file_that_shows_it_needs() {
    for (name, words, instead) in [
        ("range-end.hl", "range-end inclusive", "range-end exclusive"),
        ("hmmus.hl", "hmmus 0x8421", "hmmus 0x8423"),
        ("posted-writes.hl", " immediate", " until-flush"),
    ] {
        let asic = match name {
            "posted-writes.hl" => AsicWord::Goya,
            _ => AsicWord::Gaudi2,
        };
        let text = fs::read_to_string(folder().join(name)).expect("the file is shipped");
        passes(asic, &text);
        let other = text.replace(words, instead);
        assert_ne!(text, other, "{name}");
        failure(asic, &other);
    }
}

#[test]
fn a_machine_without_any_mmu_for_device_memory_or_with_too_many_is_refused() {
    for mask in ["0", "0x10000"] {
        for asic in [AsicWord::Goya, AsicWord::Gaudi2] {
            let text = format!("machine hmmus {mask}\nreclaim\n");
            match on(asic, &text) {
                Err(Stop::Invalid(invalid)) => {
                    assert_eq!((invalid.span.line, invalid.span.column), (1, 15));
                    assert!(invalid.message.contains("16 HMMUs"), "{invalid}");
                }
                other => panic!("{text}: {other:?}"),
            }
        }
    }
}

#[test]
fn what_does_not_stop_or_lies_in_no_window_is_named_where_it_cannot_be() {
    for (text, line, column, said) in [
        ("open c1\nclose c1\nfail stop c1", 3, 11, "no open context"),
        (
            "open c1\nfail alloc 1\nblock c1 ring 1 -> fails\nfail stop ring",
            4,
            11,
            "no value yet",
        ),
        ("bar max", 1, 5, "device memory has no offset"),
        ("bar 96 * 1 GiB", 1, 5, "device memory has no offset"),
    ] {
        match on(AsicWord::Gaudi2, text) {
            Err(Stop::Invalid(invalid)) => {
                let place = (invalid.span.line, invalid.span.column);
                assert_eq!(place, (line, column), "{text:?}: {invalid}");
                assert!(invalid.message.contains(said), "{text:?}: {invalid}");
            }
            other => panic!("{text:?}: {other:?}"),
        }
    }
}

#[test]
fn each_word_about_what_fails_is_what_the_file_that_shows_it_needs() {
    for (name, word) in [
        ("engines.hl", "fail stop "),
        ("lost.hl", "fail access "),
        ("bar.hl", "bar "),
    ] {
        let text = fs::read_to_string(folder().join(name)).expect("the file is shipped");
        let kept = text
            .lines()
            .filter(|line| !line.trim_start().starts_with(word));
        let without: Vec<_> = kept.collect();
        assert!(without.len() < text.lines().count(), "{name}");
        failure(AsicWord::Goya, &without.join("\n"));
    }
}
