//! Which ASICs a file and its steps are for.

use super::super::*;

/// The parts that the program says it has run a file on.
fn parts(name: &str, text: &str, chosen: &[&str]) -> Vec<String> {
    let name = written(name, text);
    let mut arguments = vec!["run", &name];
    arguments.extend(chosen.iter().flat_map(|asic| ["--asic", asic]));
    let output = program(&arguments);
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let passed = text.lines().filter(|line| line.starts_with("pass "));
    let part = |line: &str| {
        let (_, part) = line.rsplit_once(" on ").expect("a line says where");
        part.split(',').next().unwrap_or(part).to_owned()
    };
    passed.map(part).collect()
}

#[test]
fn a_file_that_names_no_asic_is_run_on_every_part_there_is() {
    let all = ["goya", "gaudi", "gaudi2-six", "gaudi2-five"];
    assert_eq!(parts("any.hl", "reclaim\n", &[]), all);
}

#[test]
fn gaudi2_is_either_number_of_stacks_wherever_an_asic_is_named() {
    let both = ["gaudi2-six", "gaudi2-five"];
    assert_eq!(parts("stacks.hl", "asics gaudi2\nreclaim\n", &[]), both);
    assert_eq!(
        parts("stacks.hl", "asics gaudi2-five gaudi2\nreclaim\n", &[]),
        both
    );
    assert_eq!(parts("stacks.hl", "reclaim\n", &["gaudi2"]), both);
    assert_eq!(
        parts("stacks.hl", "asics gaudi2-six\nreclaim\n", &[]),
        ["gaudi2-six"]
    );
    let step = |asics: &str| format!("on {asics}\nexpect 1 = 2\nend\n");
    for (asics, six, five) in [
        ("gaudi2", true, true),
        ("gaudi2-six", true, false),
        ("goya gaudi2-five", false, true),
        ("goya gaudi", false, false),
    ] {
        let reached = |part| on(part, &step(asics)).is_err();
        let found = (reached(AsicWord::Gaudi2), reached(AsicWord::Gaudi2Five));
        assert_eq!(found, (six, five), "{asics}");
    }
}
