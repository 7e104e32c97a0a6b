//! Threads that take turns, and accesses at random places.

use super::super::*;
use hl_harness::scenario::{Executed, Watch};

/// A turn: which thread took it, the line, and whether that was all of the step.
type Turn = (u64, u32, bool);

/// Keeps who had which turn.
#[derive(Default)]
struct Turns(Vec<Turn>);

impl Watch for Turns {
    fn step(&mut self, executed: &Executed<'_>) {
        let line = executed.line.span.line;
        let turn = |thread| (thread, line, executed.ended);
        self.0.extend(executed.thread.map(turn));
    }
}

/// The turns of a text that passes, by the seed of the run.
fn turns(text: &str, seed: u64) -> Vec<Turn> {
    let script: Script = text.parse().expect("it is a scenario");
    let options = Options {
        seed,
        ..Options::default()
    };
    let mut turns = Turns::default();
    if let Err(stop) = run(&script, AsicWord::Gaudi2, options, &mut turns) {
        panic!("{stop:?}");
    }
    turns.0
}

const BOTH: &str = "\
machine frames 256 tables 64
open c1
buffer c1 b 4 pages
map c1 b -> va
interleave
thread 2 as t
dma write c1 va + t * 2 pages 2 pages pattern t
end
thread 1
for i in 0..3
reclaim
end
end
end
";

#[test]
fn the_seed_of_the_run_decides_who_has_his_turn() {
    let mut orders: Vec<Vec<Turn>> = (0..20).map(|seed| turns(BOTH, seed)).collect();
    for (seed, order) in (0..).zip(&orders) {
        assert_eq!(order, &turns(BOTH, seed), "the same seed again");
        let of = |wanted| {
            let turns = order.iter().filter(move |(thread, ..)| *thread == wanted);
            turns.map(|(_, line, ended)| (*line, *ended)).collect()
        };
        // A page of an access is a turn, and so is each round's step of a loop.
        let dma = vec![(7, false), (7, true)];
        let steps: [Vec<_>; 3] = [of(0), of(1), of(2)];
        assert_eq!(steps, [dma.clone(), dma, vec![(11, true); 3]]);
    }
    orders.sort();
    orders.dedup();
    assert!(orders.len() > 10, "{} orders of 20 seeds", orders.len());
}

#[test]
fn a_seed_that_is_written_down_holds_whatever_that_of_the_run_is() {
    let text = BOTH.replace("interleave", "interleave seed 5");
    assert_eq!(turns(&text, 1), turns(&text, 2));
    let other = BOTH.replace("interleave", "interleave seed 6");
    assert_ne!(turns(&text, 1), turns(&other, 1));
}

/// Fails in some orders: the first thread to come may not be the second one.
const PICKY: &str = "\
open c1
buffer c1 b 1 pages
let chosen = random(0, 1000)
repeat 20
write b byte 0
interleave
thread 1
write b byte 1
end
thread 1
let drawn = random(0, 1000)
read b expect byte 1
end
end
end
";

#[test]
fn the_seed_that_a_failure_names_brings_the_same_order_again() {
    let script: Script = PICKY.parse().expect("it is a scenario");
    for seed in 0..4 {
        let options = Options {
            seed,
            ..Options::default()
        };
        let failed = |script: &Script| match run(script, AsicWord::Goya, options, &mut ()) {
            Err(Stop::Failed(failure)) => failure,
            other => panic!("{other:?}"),
        };
        let failure = failed(&script);
        let note = failure
            .notes
            .iter()
            .find_map(|note| note.strip_prefix("in the order of `"));
        let pinned = note.and_then(|note| note.strip_suffix('`'));
        let pinned = pinned.expect("it names the seed");
        let text = PICKY.replace("interleave", pinned);
        let again = failed(&text.parse().expect("it is a step"));
        // In the first round, and in the thread that it was in.
        assert!(again.notes.contains(&"with round = 0".to_owned()));
        assert!(again.notes.contains(&"with thread = 1".to_owned()));
    }
}

#[test]
fn a_seed_that_is_written_down_changes_nothing_else_that_is_random() {
    let drawn = |text: &str| {
        let script: Script = text.parse().expect("it is a scenario");
        match run(&script, AsicWord::Goya, Options::default(), &mut ()) {
            Err(Stop::Failed(failure)) => failure.found,
            other => panic!("{other:?}"),
        }
    };
    for (block, seeded) in [
        (
            "interleave\nthread 1\nexpect random(0, 1000000) = max\nend\nend",
            "interleave seed 9\nthread 1\nexpect random(0, 1000000) = max\nend\nend",
        ),
        (
            "access bypass host.start 1 count 0\nexpect random(0, 1000000) = max",
            "access bypass host.start 1 count 0 seed 9\nexpect random(0, 1000000) = max",
        ),
    ] {
        assert_eq!(drawn(block), drawn(seeded), "{block}");
    }
}

const RING: &str = "\
open c1
block c1 b 3 pages -> h
mmap c1 h as v 3 pages
ring make r in b record 64 size 64
ring consume r by v
interleave
thread 1
ring push r pattern 1 count 150 wait
end
thread 1
ring pop r count 150 wait expect pattern 1
end
end
expect records r 0
";

#[test]
fn the_ends_of_a_ring_wait_for_each_other_and_not_for_ever() {
    for seed in 0..4 {
        let turns = turns(RING, seed);
        let records = turns.iter().filter(|(thread, ..)| *thread == 0).count();
        assert!(records >= 150, "{records} turns");
    }
    // One that waits for what never comes.
    let text = RING.replace("pop r count 150", "pop r count 151");
    let failure = failure(AsicWord::Goya, &text);
    assert_eq!(failure.span.line, 11);
    assert!(failure.found.contains("waits for another"), "{failure:?}");
    assert!(failure.notes.contains(&"with thread = 1".to_owned()));
}

#[test]
fn a_copy_of_many_pages_meets_an_unmap_between_two_of_them() {
    let text = "\
machine frames 256 tables 64
open c1
buffer c1 from_b 6 pages
buffer c1 to_b 6 pages
write from_b pattern 1
map c1 from_b -> source
map c1 to_b -> target
interleave
thread 1
dma copy c1 source + 100 target 5 pages -> faults write at target + 2 pages after 2 pages
end
thread 1
unmap c1 target
end
end
";
    // Which page is refused is a matter of turns; the seeds come to every place there is.
    let mut places: Vec<u64> = Vec::new();
    for seed in 0..64 {
        let script: Script = text.parse().expect("it is a scenario");
        let options = Options {
            seed,
            ..Options::default()
        };
        match run(&script, AsicWord::Gaudi2, options, &mut ()) {
            Err(Stop::Failed(failure)) => {
                if let Some((_, after)) = failure.found.split_once("after 0x") {
                    let bytes = after.split_whitespace().next().expect("a number");
                    places.push(u64::from_str_radix(bytes, 16).expect("a number"));
                }
            }
            Ok(_) => places.push(0x2000),
            Err(invalid) => panic!("{invalid:?}"),
        }
    }
    places.sort_unstable();
    places.dedup();
    // The pages of the source are what it goes by, and the first piece ends where its page does.
    let ends: Vec<u64> = (0..5)
        .map(|page| page * 4096)
        .map(|end| end.max(100) - 100)
        .collect();
    assert_eq!(places, ends);
}

#[test]
fn a_trace_and_its_objects_say_who_has_each_turn() {
    let file = written("turns.hl", BOTH);
    let trace = program(&["run", "--trace", "--asic", "goya", &file]);
    let trace = String::from_utf8_lossy(&trace.stdout).into_owned();
    let of = |thread: &str| trace.lines().filter(|line| line.contains(thread)).count();
    assert_eq!(
        (of("| thread 0: dma write"), of("| thread 2: reclaim")),
        (2, 3),
        "{trace}"
    );
    let first =
        "| thread 1: dma write c1 va + t * 2 pages 2 pages pattern t   # 0x1000 of 0x2000 bytes";
    assert!(trace.contains(first), "{trace}");
    // An event is told of with its turn, and not again with the block.
    let translated = trace.lines().filter(|line| line.contains(" translate "));
    assert_eq!(translated.count(), 4, "{trace}");
    let json = program(&["run", "--json", "--asic", "goya", &file]);
    let json = String::from_utf8_lossy(&json.stdout).into_owned();
    let objects = json.lines().map(|line| {
        let object: serde_json::Value = serde_json::from_str(line).expect("an object");
        object
    });
    let going = objects.filter(|object| object["thread"] == 1 && object["ended"] == false);
    assert_eq!(going.count(), 1, "{json}");
}

/// Accesses of a process's own pages, with what is wrong in the last step and what is found.
const ACCESSES: &[(&str, &str)] = &[
    (
        "access c1 va 4 pages count 9 seed 1 expect byte 1",
        "0x00 at byte",
    ),
    // Its own bytes are not what was there before, where it has written.
    (
        "access c1 va 64 count 50 seed 2\naccess c1 va 64 count 50 reads expect byte 0",
        " at byte 0x",
    ),
    (
        "access c1 va 64 count 50 writes mark 1\nread b size 64 expect byte 0 or mark 2 from va",
        " at byte 0x",
    ),
    (
        "access c1 va 64 count 50 writes mark 1\nread b size 64 expect byte 0 or mark 1 from va + 4",
        " at byte 0x",
    ),
    ("access c1 va 4 pages count 9 -> faults", "ok"),
    ("access c1 va 4 pages count 9 -> lost", "ok"),
    ("access c1 va + 4 pages 64 count 9", "faults "),
    (
        "access c1 va + 4 pages 64 count 9 reads -> faults write",
        "faults read",
    ),
    (
        "access c1 va + 4 pages 64 count 9 writes -> faults read",
        "faults write",
    ),
    (
        "access c1 va + 4 pages 64 count 9 -> faults because malformed",
        "not-present",
    ),
    ("lose\naccess c1 va 64 count 9", "lost"),
    ("access privileged va 64 count 9 hmmu 3", "asid 0"),
];

#[test]
fn what_accesses_find_is_compared() {
    let start = "machine frames 256 tables 64\nopen c1\nbuffer c1 b 4 pages\nmap c1 b -> va\n";
    for (steps, found) in ACCESSES {
        let text = format!("{start}{steps}\n");
        let failure = failure(AsicWord::Gaudi2, &text);
        let last = text.lines().count() as u32;
        assert_eq!(failure.span.line, last, "{steps}: {failure:?}");
        assert!(failure.found.contains(found), "{steps}: {failure:?}");
    }
}

#[test]
fn accesses_find_what_they_wrote_themselves() {
    let text = "\
machine frames 256 tables 64
open c1
buffer c1 b 2 pages
write b pattern 1
map c1 b -> va
access c1 va + 3 2 pages - 5 count 900 mark 5 expect pattern 1 from 3
read b expect pattern 1 or mark 5 from va
access c1 va 2 pages count 300 mark 5 expect pattern 1 or mark 5 from va
access c1 va 2 pages count 300 reads expect pattern 1 or mark 5 from va
write b byte 7
access c1 va 2 pages count 300 reads seed 1 expect byte 7
expect dirty b = 0
";
    for asic in [AsicWord::Goya, AsicWord::Gaudi2] {
        if let Err(stop) = on(asic, text) {
            panic!("{asic}: {stop:?}");
        }
    }
    // Another one writes in between: what it wrote is not what is there.
    let raced = "\
machine frames 256 tables 64
open c1
buffer c1 b 1 pages
map c1 b -> va
interleave seed 1
thread 1
access c1 va 64 count 200 mark 5 expect byte 0
end
thread 1
repeat 20
write b size 64 byte 0
end
end
end
";
    let failure = failure(AsicWord::Goya, raced);
    assert!(
        failure.expected.starts_with("mark 5 from 0x"),
        "{failure:?}"
    );
}
