use std::path::PathBuf;
use std::process::{Command, Output};

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
