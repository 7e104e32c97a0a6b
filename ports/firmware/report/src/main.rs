//! Reads the log of an image, and tells what an image consists of.

use std::process::ExitCode;
use std::{env, fs};

mod inlined;
mod log;
mod sizes;

/// Every error ends as a sentence that a person reads.
type Result<T> = std::result::Result<T, String>;

const USAGE: &str =
    "hl-firmware-report log ELF LOG VERDICT | sizes ELF [CRATE=LIMIT...] | functions ELF";

fn main() -> ExitCode {
    match run(&env::args().skip(1).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<()> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["log", elf, log, verdict] => log::print(&read(elf)?, &read(log)?, verdict),
        ["sizes", elf, limits @ ..] => sizes::print(elf, &read(elf)?, limits),
        ["functions", elf] => sizes::print_functions(elf, &read(elf)?),
        _ => Err(USAGE.to_owned()),
    }
}

fn read(path: &str) -> Result<Vec<u8>> {
    fs::read(path).map_err(|error| format!("{path}: {error}"))
}
