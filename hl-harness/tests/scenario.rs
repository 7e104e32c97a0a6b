//! Scenario files: those that are shipped, those that must fail, those that are none.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use hl_harness::scenario::words::{AsicWord, Asics};
use hl_harness::scenario::{Failure, MANUAL, Options, Script, Stop, run};

mod scenario {
    mod asics;
    mod failing;
    mod hardware;
    mod invalid;
    mod random;
    mod resets;
    mod shipped;
    mod turns;
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

/// Runs a text on one ASIC.
fn on(asic: AsicWord, text: &str) -> Result<u64, Stop> {
    let script: Script = match text.parse() {
        Ok(script) => script,
        Err(invalid) => panic!("{invalid}\n{text}"),
    };
    run(&script, asic, Options::default(), &mut ()).map(|passed| passed.steps)
}

/// The failure of a text that is to fail.
fn failure(asic: AsicWord, text: &str) -> Failure {
    match on(asic, text) {
        Err(Stop::Failed(failure)) => failure,
        other => panic!("{other:?} came of\n{text}"),
    }
}

/// Runs the program.
fn program(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hl-harness"))
        .args(arguments)
        .output()
        .expect("the program starts")
}

/// Writes a file for the program to read. A name is used by one test at a time.
fn written(name: &str, text: impl AsRef<[u8]>) -> String {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&file, text).expect("there is room for a file");
    file.display().to_string()
}
