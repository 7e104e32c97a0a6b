//! Scenario files as text.
//!
//! Nothing may panic; what is no scenario is refused at a place in the text, and the message can be
//! printed; what is one reads the same when it is printed and read again.
#![no_main]

use hl_harness::scenario::{Invalid, Script};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match text.parse::<Script>() {
        Ok(script) => {
            let printed = script.to_string();
            let again: Script = printed.parse().expect("what is printed is a scenario");
            assert_eq!(again.to_string(), printed);
        }
        Err(invalid) => {
            let invalid: Invalid = invalid;
            let lines = text.lines().count() as u64 + 1;
            assert!(
                u64::from(invalid.span.line) <= lines,
                "{invalid:?} in {lines} lines"
            );
            assert!(!invalid.render("input", text).is_empty());
        }
    }
});
