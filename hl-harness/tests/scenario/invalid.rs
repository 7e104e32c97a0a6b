//! Files that are no scenarios: each is refused at the right place.

use super::super::*;

/// Texts, the line and column that are at fault, and a part of what is said.
const INVALID: &[(&str, u32, u32, &str)] = &[
    ("mapp c1", 1, 1, "did you mean `map`?"),
    ("", 1, 1, "no step"),
    ("# nothing\nasics goya\nmachine users 1\n", 1, 1, "no step"),
    (
        "parallel\nthread\nend\nend",
        2,
        7,
        "expected how many threads do this, but the line ends (parallel / thread N",
    ),
    (
        "thread 2\nend",
        1,
        1,
        "stands in a `parallel` or an `interleave` block only (parallel",
    ),
    (
        "parallel\nthread reclaim\nend\nend",
        2,
        8,
        "there is no variable",
    ),
    (
        "open c1\nunmap",
        2,
        6,
        "expected the name of a context, but",
    ),
    (
        "open c1 ->",
        1,
        11,
        "expected what comes of it: a name for it, `ok`",
    ),
    ("machine cache 4 sets", 1, 21, "expected a number"),
    ("machine cache 4 ways 2", 1, 17, "expected `sets`"),
    (
        "machine leaf-cache big",
        1,
        20,
        "there is infinite, finite, none",
    ),
    (
        "open c1\nexpect free c1 = none",
        2,
        13,
        "expected `extents`",
    ),
    (
        "open c1\nexpect free extents c1 in 0 = none",
        2,
        29,
        "expected `..`",
    ),
    ("open c1\nfork c1 as c1", 2, 12, "`c1` is a context already"),
    (
        "open c1\nfork c1 as kid\nopen c2\nmap c2 kid size 4 -> a",
        4,
        8,
        "`kid` is a process, not a",
    ),
    (
        "open c1\nbuffer c1 b 1\nread b of c1",
        3,
        11,
        "`c1` is a context, not a process",
    ),
    (
        "open c1\nparallel\nthread 1\nfork c1 as kid\nend\nend",
        4,
        1,
        "no single one does it",
    ),
    (
        "open c1\nopen",
        2,
        5,
        "expected a name for the context, but the line ends",
    ),
    (
        "open c1 budgett 3",
        1,
        9,
        "expected the end of the line, found `budgett`",
    ),
    ("open c1 -> fials EIO", 1, 12, "did you mean `fails`?"),
    ("open c1 -> fails EINVALID", 1, 18, "did you mean `EINVAL`?"),
    (
        "open c1\nbuffer c2 b 1",
        2,
        8,
        "there is no context called `c2` so far (did you mean `c1`?)",
    ),
    (
        "open c1\nmap c1 nothing",
        2,
        8,
        "there is no variable or buffer or block or view called `nothing`",
    ),
    (
        "open c1\nlet x = 1\nmap c1 x",
        3,
        9,
        "expected `size BYTES`",
    ),
    (
        "open c1\nbuffer c1 c1 1",
        2,
        11,
        "`c1` is a context already",
    ),
    (
        "let c = 1\nclose c",
        2,
        7,
        "`c` is a variable, not a context",
    ),
    ("let size = 1", 1, 5, "`size` is a word of the language"),
    ("let pins = 1", 1, 5, "`pins` is a word of the language"),
    (
        "let a-b = 1",
        1,
        5,
        "a minus sign between names needs spaces",
    ),
    ("let a = 1 +", 1, 12, "expected a number, but the line ends"),
    ("let a = (1", 1, 11, "expected `)`"),
    ("let a = 0x", 1, 9, "no number"),
    ("let a = 18446744073709551616", 1, 9, "no number"),
    ("let a = 1 $ 2", 1, 11, "`$` means nothing here"),
    ("let a = b", 1, 9, "called `b`"),
    ("end", 1, 1, "nothing here to be ended"),
    ("repeat 3\nreclaim", 1, 1, "this `repeat` has no `end`"),
    (
        "parallel\nreclaim\nend",
        2,
        1,
        "`reclaim` stands in no thread",
    ),
    (
        "parallel\nthread 2\nopen c1\nend\nend",
        3,
        1,
        "no single one does it",
    ),
    (
        "parallel\nthread 2\nlet x = 1\nend\nend\nexpect x = 1",
        6,
        8,
        "called `x`",
    ),
    (
        "interleave\nthread 1\ninterleave\nend\nend\nend",
        3,
        1,
        "no single one does it",
    ),
    (
        "interleave\nthread 1\nrepeat 2\nparallel\nend\nend\nend\nend",
        4,
        1,
        "no single one does it",
    ),
    (
        "interleave\nreclaim\nend",
        2,
        1,
        "`reclaim` stands in no thread (`interleave` has `thread N",
    ),
    (
        "interleave\nthread\nend\nend",
        2,
        7,
        "but the line ends (interleave [seed N]",
    ),
    ("interleave seeds 3\nend", 1, 12, "found `seeds`"),
    (
        "interleave seed 3\nthread 1\nend",
        1,
        1,
        "this `interleave` has no `end`",
    ),
    (
        "open c1\naccess c1 0 8",
        2,
        14,
        "expected `count`, but the line ends",
    ),
    (
        "open c1\naccess c1 0 8 count 9 read",
        2,
        23,
        "found `read` (access WHO",
    ),
    (
        "open c1\naccess c1 0 8 count 9 writes expect byte 0",
        2,
        30,
        "writes find nothing",
    ),
    (
        "open c1\naccess c1 0 8 count 9 expect byte 0 or EIO",
        2,
        40,
        "expected data",
    ),
    (
        "open c1\nbuffer c1 b 1\nread b expect mark 3",
        3,
        21,
        "expected `from`",
    ),
    (
        "reclaim\nasics goya",
        2,
        1,
        "stands once, before the first step",
    ),
    ("asics goyo", 1, 7, "did you mean `goya`?"),
    ("machine framez 3", 1, 9, "did you mean `frames`?"),
    ("machine frames", 1, 15, "expected a number"),
    (
        "fail invalidate 1 timeuot",
        1,
        19,
        "did you mean `timeout`?",
    ),
    ("fail everything", 1, 6, "expected what is to fail"),
    ("expect counter", 1, 15, "expected a counter"),
    ("expect counter pinz 3", 1, 16, "did you mean `pins`?"),
    ("let a = counter pinz", 1, 17, "did you mean `pins`?"),
    (
        "snapshot s\nexpect same as s except pins, pinz",
        2,
        31,
        "did you mean `pins`?",
    ),
    (
        "open c1\nsnapshot s\nexpect same as s except c1.mapings",
        3,
        25,
        "did you mean `c1.mappings`?",
    ),
    (
        "open c1\nsnapshot s\nexpect same as s except c2.mappings",
        3,
        25,
        "did you mean `c1.mappings`?",
    ),
    ("allow protocols", 1, 7, "did you mean `protocol`?"),
    ("allow everything", 1, 7, "there is stray, protocol"),
    (
        "expect events invalidat 1",
        1,
        15,
        "did you mean `invalidate",
    ),
    (
        "expect events release 0",
        1,
        15,
        "there is no event `release`",
    ),
    (
        "expect events table-free 0",
        1,
        26,
        "expected `since MARK`, without which no `table-free`",
    ),
    ("expect events clear 0", 1, 21, "expected `since MARK`"),
    ("expect 1 2", 1, 10, "expected a comparison"),
    ("expect same as now", 1, 16, "no snapshot called `now`"),
    ("expect order last unpinn", 1, 19, "did you mean `unpin`?"),
    ("open c1\ndma reed c1 0 8", 2, 5, "did you mean `read`?"),
    ("open c1\ndma read c1 0 8 expect 7", 2, 24, "expected data"),
    (
        "open c1\ndma read c1 0 8 as d1",
        2,
        17,
        "only a copy has a name",
    ),
    (
        "open c1\ndma read c1 0 8 -> faults because absent",
        2,
        35,
        "expected a reason",
    ),
    ("resume dma d1", 1, 12, "no dma called `d1`"),
    (
        "pause dma d1 after translation",
        1,
        20,
        "expected `translate`",
    ),
];

#[test]
fn a_text_that_is_no_scenario_is_refused_at_its_place() {
    for (text, line, column, said) in INVALID {
        let invalid = match text.parse::<Script>() {
            Ok(script) => panic!("{text:?} is {script:?}"),
            Err(invalid) => invalid,
        };
        let place = (invalid.span.line, invalid.span.column);
        assert_eq!(place, (*line, *column), "{text:?}: {invalid}");
        assert!(invalid.to_string().contains(said), "{text:?}: {invalid}");
    }
}

/// Texts that are scenarios, and cannot be carried out: the line, the column, a part of what is said.
const IMPOSSIBLE: &[(&str, u32, u32, &str)] = &[
    ("machine frames 9 users 8\nopen c1", 1, 24, "1 to 7 users"),
    (
        "machine cache 0 sets 4 ways\nopen c1",
        1,
        15,
        "1 to 4096 sets",
    ),
    (
        "open c1\nfork c1 as kid\nbuffer c1 b 1\nread b of kid",
        4,
        6,
        "no buffer `b of kid` now",
    ),
    (
        "open c1\nexpect free extents c1 in 8..8 = none",
        2,
        27,
        "nothing from 0x8 to 0x8",
    ),
    (
        "machine frames 9 cache 4 sets 4097 ways\nopen c1",
        1,
        31,
        "1 to 4096 ways",
    ),
    ("let a = max + 1", 1, 9, "no number of 64 bits"),
    ("let a = 1 - 2", 1, 9, "no number of 64 bits"),
    ("let a = 1 / 0", 1, 9, "no number of 64 bits"),
    ("let a = random(3, 3)", 1, 9, "nothing is at least 3"),
    ("let a = 0xFFFFFFFFFFFFFFFF KiB", 1, 9, "more than 64 bits"),
    (
        "for i in 0..1\nlet a[i] = i\nend\nlet b = a[1]",
        4,
        9,
        "`a[1]` has no value yet",
    ),
    (
        "open c1\nclose c1\nclose c1",
        3,
        7,
        "no open context `c1` now",
    ),
    ("open c1\nopen c1", 2, 6, "open already"),
    (
        "machine frames 2048\nopen c1\nbuffer c1 b 9000 pages",
        3,
        13,
        "no such memory",
    ),
    (
        "on gaudi\nlet a = dram.start\nend",
        2,
        9,
        "does not map device memory",
    ),
    (
        "open c1\nbuffer c1 b 1 pages\nmunmap b size 5",
        3,
        8,
        "no whole pages",
    ),
    (
        "pause dma d1 after translate\nresume dma d1",
        2,
        12,
        "no copy `d1` is paused",
    ),
    ("for i in 0..8 step 0\nend", 1, 20, "has no end"),
    ("dma read asid 1024 0 8", 1, 15, "more than 0x3ff"),
    ("access bypass 8 0 count 1", 1, 17, "a byte at least"),
    ("access bypass 8 max count 1", 1, 17, "within 64 bits"),
    (
        "access bypass 8 8 count 1 mark 256",
        1,
        32,
        "more than 0xff",
    ),
    ("interleave\nthread 1025\nend\nend", 2, 8, "more than 0x400"),
];

#[test]
fn a_step_that_cannot_be_carried_out_is_named() {
    for (text, line, column, said) in IMPOSSIBLE {
        let invalid = match on(AsicWord::Gaudi, text) {
            Err(Stop::Invalid(invalid)) => invalid,
            other => panic!("{text:?}: {other:?}"),
        };
        let place = (invalid.span.line, invalid.span.column);
        assert_eq!(place, (*line, *column), "{text:?}: {invalid}");
        assert!(invalid.to_string().contains(said), "{text:?}: {invalid}");
    }
}

#[test]
fn a_byte_order_mark_in_front_says_nothing() {
    let marked: Script = "\u{feff}open c1\n".parse().expect("it is a scenario");
    assert_eq!(marked, "open c1\n".parse().expect("it is a scenario"));
    let invalid = "\u{feff}opem c1".parse::<Script>().expect_err("no step");
    assert_eq!((invalid.span.line, invalid.span.column), (1, 1));
}

#[test]
fn the_program_exits_with_2_and_points_at_the_place() {
    let folder = std::env::temp_dir().join(format!("hl-scenario-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("there is room for a file");
    let file = folder.join("none.hl");
    fs::write(&file, "open c1\nclose c2\n").expect("there is room for a file");
    let name = file.display().to_string();
    let output = program(&["run", &name]);
    let json = program(&["run", "--json", &name]);
    let empty = folder.join("empty");
    fs::create_dir_all(&empty).expect("there is room for a folder");
    let nothing = program(&["run", &empty.display().to_string()]);
    let missing = program(&["run", &folder.join("missing.hl").display().to_string()]);
    fs::remove_dir_all(&folder).expect("it was made here");
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(2), "{text}");
    let parts = [
        "none.hl:2:7: there is no context called `c2` so far\n",
        "   2 | close c2\n     |       ^^\n",
        "= did you mean `c1`?",
    ];
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    assert_eq!(json.status.code(), Some(2));
    let json = String::from_utf8_lossy(&json.stdout);
    let object: serde_json::Value = serde_json::from_str(json.lines().next().unwrap_or_default())
        .expect("the first line is an object");
    assert_eq!((&object["line"], &object["column"]), (&2.into(), &7.into()));
    assert_eq!(nothing.status.code(), Some(2));
    assert_eq!(missing.status.code(), Some(2));
}

#[test]
fn a_file_that_is_no_text_is_refused_at_its_place() {
    for (name, bytes, place) in [
        ("latin.hl", &b"open c1\n# \xC3\xBCber\nmap \xFC"[..], "3:5"),
        ("latin-comment.hl", b"open c1 # \xFCber\n", "1:11"),
        ("marked.hl", b"\xEF\xBB\xBF# \xFC\nopen c1\n", "1:3"),
        ("cut.hl", b"open c1\n# \xC3", "2:3"),
    ] {
        let file = written(name, bytes);
        let output = program(&["run", &file]);
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(2), "{text}");
        let said = format!("{file}:{place}: byte 0x");
        assert!(text.contains(&said), "{said} is not in\n{text}");
        let json = program(&["run", "--json", &file]);
        let first = json.stdout.split(|byte| *byte == b'\n').next();
        let object: serde_json::Value =
            serde_json::from_slice(first.unwrap_or_default()).expect("the first line is an object");
        assert_eq!(format!("{}:{}", object["line"], object["column"]), place);
    }
}
