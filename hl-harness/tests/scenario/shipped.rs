//! The files that are shipped. All of them are run by `cargo xtask ci --stage scenarios`; here only
//! those that are quick without optimisation.

use super::super::*;

/// Each scenario file with its text.
fn shipped() -> Vec<(PathBuf, String)> {
    fn search(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("the folder is there") {
            let path = entry.expect("it can be read").path();
            if path.is_dir() {
                search(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "hl") {
                found.push(path);
            }
        }
    }
    let mut paths = Vec::new();
    search(&folder(), &mut paths);
    paths.sort();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("the file can be read");
        (path, text)
    };
    paths.into_iter().map(read).collect()
}

#[test]
fn every_file_is_the_same_after_printing_and_reading_it_again() {
    for (path, text) in shipped() {
        let script: Script = match text.parse() {
            Ok(script) => script,
            Err(invalid) => panic!("{}: {invalid}", path.display()),
        };
        let printed = script.to_string();
        let again: Script = match printed.parse() {
            Ok(script) => script,
            Err(invalid) => panic!("{}: {invalid} in\n{printed}", path.display()),
        };
        assert_eq!(script, again, "{}", path.display());
        assert_eq!(printed, again.to_string(), "{}", path.display());
    }
}

#[test]
fn every_file_says_first_what_it_shows() {
    for (path, text) in shipped() {
        assert!(text.starts_with("# "), "{}", path.display());
    }
}

#[test]
fn the_hazards_are_survived() {
    let count = pass(&folder().join("hazards"));
    assert!(count >= 30, "{count} files");
}

#[test]
fn the_files_of_one_subject_each_pass() {
    let count = pass(&folder());
    assert!(count >= 10, "{count} files");
}

/// Runs the files of a folder, without those in folders within; how many there are.
fn pass(within: &Path) -> usize {
    let mut count = 0;
    for (path, text) in shipped() {
        if path.parent() != Some(within) {
            continue;
        }
        let script: Script = text.parse().expect("it was parsed before");
        let asics = match script.asics.as_slice() {
            // One with tables in device memory, one with tables in the host's.
            [] => vec![AsicWord::Goya, AsicWord::Gaudi2],
            own => Asics::parts_of(own),
        };
        for asic in asics {
            if let Err(stop) = on(asic, &text) {
                panic!("{} on {asic}: {stop:?}", path.display());
            }
        }
        count += 1;
    }
    count
}

#[test]
fn every_step_is_in_the_readme_as_the_parser_names_it() {
    let readme = fs::read_to_string(folder().join("README.md")).expect("there is a README");
    for step in MANUAL {
        let syntax = step.syntax.replace('|', "\\|");
        let row = format!("| `{syntax}` | {} |", step.says);
        assert!(readme.contains(&row), "the README has no line\n{row}");
    }
}

/// The words that the program says there are, when it meets one that there is not.
fn words_instead_of(text: &str) -> Vec<String> {
    let invalid = match text.parse::<Script>() {
        Err(invalid) => invalid,
        Ok(_) => match on(AsicWord::Gaudi2, text) {
            Err(Stop::Invalid(invalid)) => invalid,
            other => panic!("{text}: {other:?}"),
        },
    };
    let help = invalid.help.unwrap_or_default();
    let list = help
        .strip_prefix("there is ")
        .expect("it says what there is");
    list.split(", ").map(str::to_owned).collect()
}

#[test]
fn every_event_counter_and_reason_is_in_the_readme() {
    let readme = fs::read_to_string(folder().join("README.md")).expect("there is a README");
    let (_, words) = readme.split_once("## Words").expect("they have a section");
    for text in [
        "expect events qqqqqqqqqqqq 0",
        "expect counter qqqqqqqqqqqq 0",
        "expect fault because qqqqqqqqqqqq",
    ] {
        let known = words_instead_of(text);
        assert!(known.len() >= 10, "{known:?}");
        for word in known {
            assert!(words.contains(&format!("`{word}`")), "no word {word}");
        }
    }
}

#[test]
fn every_step_of_the_manual_is_shown_by_some_file() {
    let all: String = shipped().into_iter().map(|(_, text)| text).collect();
    for step in MANUAL {
        let used = all
            .lines()
            .any(|line| line.split_whitespace().next() == Some(step.word));
        assert!(used, "no file has a step `{}`", step.word);
    }
}

#[test]
fn a_seed_decides_what_is_random() {
    let text = "let a = random(0, 1000000)\nexpect a = 0\n";
    let script: Script = text.parse().expect("it is a scenario");
    let found = |seed| {
        let options = Options {
            seed,
            ..Options::default()
        };
        match run(&script, AsicWord::Goya, options, &mut ()) {
            Err(Stop::Failed(failure)) => failure.found,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(found(3), found(3));
    assert_ne!(found(3), found(4));
}
