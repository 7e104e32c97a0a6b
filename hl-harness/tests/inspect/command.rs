use std::path::PathBuf;
use std::process::{Command, Output};

use hl_harness::asic::HbmStacks;
use hl_harness::inspect::State;

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hl-harness"))
        .args(arguments)
        .output()
        .unwrap()
}

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name)
}

#[test]
fn a_sample_is_saved_walked_dumped_and_drawn() {
    let (state, picture) = (file("command.json"), file("command.svg"));
    let (state, picture) = (state.to_str().unwrap(), picture.to_str().unwrap());
    let saved = run(&[
        "sample",
        "--asic",
        "goya",
        "--mappings",
        "6",
        "--state",
        state,
    ]);
    assert!(saved.status.success(), "{saved:?}");
    let walked = run(&[
        "walk",
        "--state",
        state,
        "--asid",
        "0",
        "0x1_0000_0000_0000",
    ]);
    let text = String::from_utf8(walked.stdout).unwrap();
    assert!(
        walked.status.success() && text.contains("hop 4") && text.contains("kernel block"),
        "{text}"
    );
    let dumped = run(&["dump", "--state", state, "--asid", "1"]);
    let text = String::from_utf8(dumped.stdout).unwrap();
    assert!(
        text.starts_with("asid 1 on mmu") && text.contains("tables and driver agree"),
        "{text}"
    );
    for command in ["map", "timeline"] {
        let drawn = run(&[command, "--state", state, "--output", picture]);
        assert!(
            drawn.status.success() && drawn.stdout.is_empty(),
            "{drawn:?}"
        );
        let drawn = std::fs::read_to_string(picture).unwrap();
        assert!(drawn.starts_with("<svg ") && drawn.trim_end().ends_with("</svg>"));
        assert_eq!(run(&[command, "--state", state]).stdout, drawn.as_bytes());
    }
}

#[test]
fn a_sample_is_of_the_part_that_is_asked_for() {
    for (word, part, stacks) in [
        ("gaudi2", "gaudi2-six", HbmStacks::Six),
        ("gaudi2-five", "gaudi2-five", HbmStacks::Five),
    ] {
        let path = file(&format!("sample-{word}.json"));
        let saved = run(&["sample", "--asic", word, "--state", path.to_str().unwrap()]);
        assert!(saved.status.success(), "{saved:?}");
        let state = State::load(std::fs::File::open(&path).unwrap()).unwrap();
        assert_eq!(state.asic.hbm_stacks, stacks);
        assert_eq!(state.title, format!("sample of 10 mappings on {part}"));
    }
}

#[test]
fn what_cannot_be_looked_at_is_refused_with_a_reason() {
    let broken = file("broken.json");
    std::fs::write(&broken, "{\"version\":1}").unwrap();
    let broken = broken.to_str().unwrap();
    for (arguments, reason) in [
        (&["dump", "--state", broken][..], "missing field"),
        (
            &["map", "--state", "/nowhere/state.json"][..],
            "/nowhere/state.json",
        ),
        (
            &["walk", "--state", broken, "0x12345678901234567"][..],
            "no address",
        ),
        (
            &["sample", "--mappings", "0", "--state", broken][..],
            "--mappings",
        ),
    ] {
        let refused = run(arguments);
        let text = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(2), "{text}");
        assert!(text.contains(reason), "{text}");
    }
}

#[test]
fn a_scenario_is_looked_at_as_it_ends_and_where_it_fails() {
    let scenario = file("looked-at.hl");
    let steps = "open c\nbuffer c b 3 pages\nmap c b -> va\n";
    let failing = format!("{steps}expect va = 0\nunmap c va\n");
    for (text, succeeds) in [(steps, true), (failing.as_str(), false)] {
        std::fs::write(&scenario, text).unwrap();
        let name = scenario.to_str().unwrap();
        for asic in ["goya", "gaudi", "gaudi2-six", "gaudi2-five"] {
            let dumped = run(&["dump", "--scenario", name, "--asic", asic, "--asid", "1"]);
            let tree = String::from_utf8(dumped.stdout).unwrap();
            assert!(tree.contains("total 3 leaves of 4 KiB"), "{asic}: {tree}");
            let state = file("looked-at.json");
            let state = state.to_str().unwrap();
            let ran = run(&["run", name, "--asic", asic, "--state", state]);
            assert_eq!(ran.status.success(), succeeds);
            let saved = run(&["dump", "--state", state, "--asid", "1"]);
            assert_eq!(saved.stdout, tree.as_bytes());
        }
    }
    let name = scenario.to_str().unwrap();
    let refused = run(&["dump", "--scenario", name, "--asic", "greco"]);
    assert_eq!(refused.status.code(), Some(2));
}

/// The commands that look, each with what else it needs.
const LOOKS: &[&[&str]] = &[
    &["walk", "--asid", "1", "0x1_0000_0000_0000"],
    &["dump"],
    &["map"],
    &["timeline"],
];

/// Looks at a scenario.
fn look(command: &[&str], scenario: &str, options: &[&str]) -> (Option<i32>, String, String) {
    let looked = run(&[command, &["--scenario", scenario][..], options].concat());
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        looked.status.code(),
        text(looked.stdout),
        text(looked.stderr),
    )
}

#[test]
fn a_scenario_that_fails_is_looked_at_and_said_to_have_failed() {
    let scenario = file("failing-looked-at.hl");
    let scenario = scenario.to_str().unwrap();
    let steps = "open c\nbuffer c b 3 pages\nmap c b -> va\n";
    let failing = format!("{steps}expect pins b 2\nunmap c va\n");
    for command in LOOKS {
        std::fs::write(scenario, steps).unwrap();
        let (status, at_end, told) = look(command, scenario, &["--asic", "gaudi"]);
        assert_eq!((status, told.as_str()), (Some(0), ""), "{command:?}");
        std::fs::write(scenario, &failing).unwrap();
        let (status, at_failure, told) = look(command, scenario, &["--asic", "gaudi"]);
        assert_eq!(status, Some(1), "{command:?}: {told}");
        assert!(!at_end.is_empty() && at_failure == at_end, "{command:?}");
        let ran = run(&["run", scenario, "--asic", "gaudi"]);
        let ran = String::from_utf8(ran.stdout).unwrap();
        assert!(told.contains("failing-looked-at.hl:4:1: failed on gaudi with seed 1\n"));
        assert!(ran.starts_with(told.trim_end()), "{told}\nis not as\n{ran}");
    }
}

#[test]
fn of_a_scenario_that_is_none_there_is_no_picture() {
    let scenario = file("invalid-looked-at.hl");
    let scenario = scenario.to_str().unwrap();
    for (text, place) in [
        (
            &b"open c1\nbuffer c1 h 200 GiB\nmap c1 h -> va\n"[..],
            ":2:13: ",
        ),
        (b"open c1\nmapp c1\n", ":2:1: "),
        (b"open c1\nmap \xff\n", ":2:5: "),
    ] {
        std::fs::write(scenario, text).unwrap();
        for command in LOOKS {
            let (status, picture, told) = look(command, scenario, &[]);
            assert_eq!((status, picture.as_str()), (Some(2), ""), "{told}");
            assert!(told.contains(&format!("{scenario}{place}")), "{told}");
        }
    }
}

#[test]
fn a_scenario_is_looked_at_with_the_seed_of_its_run() {
    let scenario = file("seed-looked-at.hl");
    let scenario = scenario.to_str().unwrap();
    std::fs::write(
        scenario,
        "asics goya\nlet a = random(0, max)\nexpect a = 0\n",
    )
    .unwrap();
    for command in LOOKS {
        let found = |options: &[&str]| {
            let (status, _, told) = look(command, scenario, options);
            assert_eq!(status, Some(1), "{told}");
            let ran = run(&[&["run", scenario], options].concat());
            let ran = String::from_utf8(ran.stdout).unwrap();
            assert!(ran.starts_with(told.trim_end()), "{told}\nis not as\n{ran}");
            told
        };
        let seeded = found(&["--seed", "7"]);
        assert!(seeded.contains("failed on goya with seed 7"), "{seeded}");
        assert_ne!(seeded.lines().last(), found(&[]).lines().last());
    }
}
