//! Expectations that do not hold: each kind of them is seen, at its line.

use super::super::*;

/// What the steps of the cases can use.
const START: &str = "\
machine frames 1024 tables 64 dram-pages 2
open c1 budget 64
buffer c1 b 4 pages
write b pattern 1
map c1 b -> va
block c1 ring 3 pages -> h
mmap c1 h as v 3 pages
alloc c1 1 -> d
snapshot now
mark m
let base = dram-offset c1 d
";

/// Wrong expectations, each a step behind [`START`], with a part of what is found instead.
const WRONG: &[(&str, &str)] = &[
    ("expect pins b 2", "1"),
    ("expect pins b page 3 0", "1"),
    ("expect dirty b 1", "0"),
    ("expect dirty b page 0 = 1", "0"),
    ("expect charged c1 3", "4"),
    ("expect mappings c1 0", "1"),
    ("expect quarantined c1 1", "0"),
    ("expect handles c1 2", "1"),
    ("expect used c1 page", "0x4000"),
    ("expect extents c1 0", ""),
    ("expect asid c1 2", "1"),
    ("expect dram-offset c1 d = base + 1", ""),
    ("expect leaf c1 va 2 MiB", "0x1000"),
    ("expect leaf privileged va + 64 pages page", "0"),
    ("expect entry c1 va hop 0 = 0", "0x"),
    ("expect entry c1 va + 4 pages hop 5 = 1", "0"),
    ("expect entry c1 0 hop 5 = 0", "a walk that ends after"),
    ("expect bus c1 va = 0", "0x20"),
    ("expect bus c1 0 = 0", "a fault: not present at hop 0"),
    ("expect leaves c1 va size 4 pages = 3", "4"),
    ("expect counter pins != 4", "4"),
    ("expect events pin since m = 1", "0"),
    ("expect events entry = 0", ""),
    ("expect register 0x4D0000C = 0", "1"),
    ("expect faults 1", "0"),
    (
        "ring make r in ring record 64 size 64\nexpect records r = 0",
        "a ring without a consumer",
    ),
    (
        "ring make r in ring record 64 size 64\nring pop r",
        "EINVAL",
    ),
    (
        "ring make r in ring record 64 size 64\nring consume r by v\nring pop r",
        "EBUSY",
    ),
    (
        "ring make r in ring record 64 size 64\nring consume r by v\nring push r byte 1\nring pop r expect byte 2",
        "0x01 at byte 0x0",
    ),
    (
        "ring make r in ring record 64 size 64\nring push r byte 1 count 65",
        "EBUSY",
    ),
    ("expect va = va + 1", ""),
    ("expect va > va", ""),
    ("expect va < va", ""),
    ("expect va >= va + 1", ""),
    ("expect va + 1 <= va", ""),
    ("expect fault at va", "no fault"),
    (
        "dma read c1 0 8 -> faults\nexpect fault write",
        "faults read",
    ),
    ("unmap c1 va\nexpect same as now", "differences"),
    ("unmap c1 va\nexpect same as now except pins", "differences"),
    ("mmap c1 h as w 3 pages", "fails EINVAL"),
    ("unmap c1 0 -> fails EIO", "fails EINVAL"),
    ("unmap c1 0 -> fails EIO or EPERM", "fails EINVAL"),
    ("unmap c1 0 -> ok or EIO", "fails EINVAL"),
    ("unmap c1 0 -> x or EIO", "fails EINVAL"),
    ("unmap c1 va -> fails", "0x0"),
    ("unmap c1 va -> fails EINVAL", "0x0"),
    ("unmap c1 va -> lost", "0x0"),
    ("unmap c1 va -> faults", "0x0"),
    ("read b expect pattern 2", "at byte 0x0"),
    ("read b at 8 expect pattern 1", "at byte 0x0"),
    ("read b expect byte 0", ""),
    ("read b at 3 pages size 2 pages", "faults read at"),
    ("write v at page size 1 byte 1", "because read-only"),
    ("read v size 4 pages", "because outside"),
    ("dma read c1 va 8 expect pattern 2", "at byte 0x0"),
    ("dma read c1 va 8 -> faults", "ok"),
    ("dma read c1 0 8", "faults read asid 1 at 0x0"),
    ("dma read c1 0 8 -> lost", "faults read"),
    ("dma read c1 0 8 -> faults write", "faults read"),
    ("dma read c1 0 8 -> faults asid 2", "asid 1"),
    ("dma read c1 0 8 -> faults at 8", "at 0x0"),
    ("dma read c1 0 8 -> faults because malformed", "not-present"),
    (
        "dma read c1 va 5 pages -> faults after page",
        "after 0x4000",
    ),
    ("lose\ndma read c1 va 8", "lost"),
    ("close c1 -> left mappings 2", "mappings 1"),
    ("close c1 -> left handles 0", "handles 1"),
    ("close c1 -> left dram 2", "dram 1"),
    ("close c1 -> left buffers 1", "buffers 0"),
    ("close c1 -> fails EIO", "left"),
    ("expect order since m first unpin", "no such event"),
    (
        "unmap c1 va\nexpect order since m first unpin, last invalidated",
        "",
    ),
    (
        "unmap c1 va\nexpect order since m last clear, first clear",
        "",
    ),
    ("parallel\nthread 2 as t\nexpect t = 0\nend\nend", "1"),
    ("for i in 0..3\nexpect i < 2\nend", "2"),
    ("if 1 = 1\nexpect 1 = 2\nend", "1"),
    ("on gaudi2\nexpect 1 = 2\nend", "1"),
    ("let p = pins b\nexpect p = 3", "1"),
    ("munmap b at 0 size page\nlet p = pins b", "on page 1"),
    ("fail pin 1\nmap c1 b", "fails ENOMEM"),
    ("fail alloc 1\nblock c1 x page", "fails ENOMEM"),
    (
        "fail invalidate 1 timeout times 9\nunmap c1 va",
        "fails ETIMEDOUT",
    ),
    ("settle\nrecover -> fails", "0x0"),
    (
        "expect free extents c1 in va..va + page = va..va + page",
        "none",
    ),
    (
        "expect free extents c1 in va + 4 * page..va + 6 * page = none",
        "..",
    ),
    (
        "let top = host.start + 1 GiB\nexpect free extents c1 in top..top + 2 * page = top..top + page, top + page..top + 2 * page",
        "0x",
    ),
    ("expect free extents c1 = none", ", "),
    (
        "expect free extents privileged in ring..ring + 1 = ring..ring + 1",
        "none",
    ),
    ("expect dram.pages = 3", "2"),
    ("alloc c1 2 * dram.page -> too_much", "fails ENOMEM"),
    ("fork c1 as child\nexpect pins b of child 1", "0"),
    (
        "fork c1 as child\nread b of child expect pattern 2",
        "at byte 0x0",
    ),
    (
        "fork c1 as child\nexpect counter views-of-kernel-buffers = 1",
        "2",
    ),
];

/// The line of the step that fails: the last `expect`, or else the last line but for `end`s.
fn failing_line(steps: &str) -> u32 {
    let before = START.lines().count();
    let inside = steps.lines().take_while(|line| *line != "end").count();
    (before + inside) as u32
}

#[test]
fn every_kind_of_expectation_can_fail_and_says_where() {
    if let Err(stop) = on(AsicWord::Gaudi2, START) {
        panic!("what all cases begin with fails: {stop:?}");
    }
    for (steps, found) in WRONG {
        let text = format!("{START}{steps}\n");
        let failure = failure(AsicWord::Gaudi2, &text);
        assert_eq!(
            failure.span.line,
            failing_line(steps),
            "{steps}: {failure:?}"
        );
        assert!(failure.found.contains(found), "{steps}: {failure:?}");
    }
}

#[test]
fn changed_tables_are_found_where_all_counters_are_the_same() {
    let text = "\
open c1
buffer c1 b 1 pages
buffer c1 o 1 pages
map c1 b hint host.start force
snapshot one
unmap c1 host.start
map c1 o hint host.start force
expect same as one except dirty-frames
";
    let failure = failure(AsicWord::Goya, text);
    assert_eq!(failure.span.line, 8);
    assert!(failure.notes[0].contains(": entry "), "{failure:?}");
}

#[test]
fn changed_addresses_are_found_where_all_counters_are_the_same() {
    let text = "\
open c1
buffer c1 b 1 pages
map c1 b hint host.start + 16 pages force
snapshot one
unmap c1 host.start + 16 pages
map c1 b hint host.start + 24 pages force
expect same as one except dirty-frames
";
    let failure = failure(AsicWord::Goya, text);
    assert_eq!(failure.span.line, 7);
    assert!(
        failure.notes[0].starts_with("c1.extents: ")
            && failure.notes[0].ends_with(" was a free piece"),
        "{failure:?}"
    );
}

#[test]
fn what_nobody_may_touch_fails_the_scenario_at_its_end() {
    let text = "\
open c1
buffer c1 b 1 pages
buffer c1 o 1 pages
map c1 b -> here
map c1 o -> there
pause dma late after translate
dma copy c1 here there page as late
unmap c1 there
munmap o
resume dma late
";
    let failure = failure(AsicWord::Gaudi, text);
    assert_eq!(failure.span.line, 10);
    assert!(failure.expected.starts_with("the end"), "{failure:?}");
    // Whatever comes after it, the step that strayed is named.
    let later = format!("{text}reclaim\nreclaim\n");
    let failure = super::super::failure(AsicWord::Gaudi, &later);
    assert_eq!(failure.span.line, 10);
    let note = "device accesses to free pages: 1, since line 10: resume dma late";
    assert!(failure.notes.iter().any(|line| line == note), "{failure:?}");
    let looped = text.replace("resume dma late", "for i in 3..4\nresume dma late\nend");
    let failure = super::super::failure(AsicWord::Gaudi, &looped);
    assert_eq!(failure.span.line, 11);
    assert!(
        failure.notes[0].ends_with("resume dma late, with i = 3"),
        "{failure:?}"
    );
    let allowed = format!("allow stray accesses\n{text}");
    assert!(on(AsicWord::Gaudi, &allowed).is_ok());
    let other = format!("allow protocol violations\n{text}");
    assert_eq!(super::super::failure(AsicWord::Gaudi, &other).span.line, 11);
}

#[test]
fn the_loops_around_a_failure_are_told() {
    let text = "for i in 3..9\nrepeat 2\nexpect i < 5\nend\nend\n";
    let failure = failure(AsicWord::Goya, text);
    assert_eq!(failure.notes, ["with round = 0", "with i = 5"]);
}

#[test]
fn the_program_exits_with_1_and_shows_the_line() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenario/failing.hl");
    let file = file.display().to_string();
    let output = program(&["run", &file, "--asic", "gaudi2", "--seed", "7"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text}");
    let parts = [
        "failing.hl:5:1: failed on gaudi2-six with seed 7\n",
        "   4 | map c1 b\n   5 | expect pins b 2\n     | ^^^^",
        "expected  pins b = 2\n",
        "found     1\n",
        "failing.hl:5:1: failed on gaudi2-five with seed 7\n",
        "0 passed, 2 failed",
    ];
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
}

#[test]
fn each_step_and_the_outcome_are_a_json_object_each() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenario/failing.hl");
    let file = file.display().to_string();
    let output = program(&["run", &file, "--asic", "goya", "--json", "--trace"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stdout);
    let objects: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("each line is an object"))
        .collect();
    let [opened, _, mapped, _, outcome, summary] = objects.as_slice() else {
        panic!("{text}");
    };
    assert_eq!(opened["step"], "open c1");
    let events = mapped["events"].as_array().expect("there are events");
    assert!(events.iter().any(|event| {
        event
            .as_str()
            .is_some_and(|event| event.starts_with("pin "))
    }));
    assert_eq!(
        (&outcome["outcome"], &outcome["line"]),
        (&"failed".into(), &5.into())
    );
    assert_eq!(
        (&outcome["expected"], &outcome["found"]),
        (&"pins b = 2".into(), &"1".into())
    );
    assert_eq!(outcome["seed"], 1);
    assert_eq!(summary["failed"], 1);
}

#[test]
fn a_register_written_out_of_turn_fails_the_scenario_at_its_step_and_says_what_it_was() {
    // The index of invalidations moves before one is armed.
    let text = "open c1\nfor i in 5..6\nregister 0xC12010 i\nend\nopen c2\nclose c2\n";
    let failure = failure(AsicWord::Gaudi, text);
    assert_eq!(failure.span.line, 3, "{failure:?}");
    assert!(failure.expected.starts_with("the end"), "{failure:?}");
    let note = "register protocols broken: 1, since line 3: register 0xc12010 i, with i = 5 \
                (mmu: producer index written without arming first)";
    assert_eq!(failure.notes, [note]);
    let allowed =
        format!("allow protocol violations\n{text}expect counter protocol-violations 1\n");
    assert!(on(AsicWord::Gaudi, &allowed).is_ok());
    // The one is not the other.
    let failure = super::super::failure(AsicWord::Gaudi, &format!("allow stray accesses\n{text}"));
    assert_eq!(failure.span.line, 4, "{failure:?}");
}
