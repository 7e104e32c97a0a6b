//! What files say of the hardware: how it goes, what its engines move, and what it is built like.

use super::super::*;

fn passes(asic: AsicWord, text: &str) {
    if let Err(stop) = on(asic, text) {
        panic!("{asic}: {stop:?}\n{text}");
    }
}

/// Texts, the line and column that are at fault, and a part of what is said.
const INVALID: &[(&str, u32, u32, &str)] = &[
    ("fail acces 1", 1, 6, "did you mean `access`?"),
    ("fail access", 1, 12, "expected a number"),
    (
        "fail access 1 timeout",
        1,
        15,
        "expected the end of the line",
    ),
];

#[test]
fn what_is_no_word_about_the_hardware_is_refused_at_its_place() {
    for (text, line, column, said) in INVALID {
        let invalid = match text.parse::<Script>() {
            Err(invalid) => invalid,
            Ok(script) => panic!("{text:?} is {script:?}"),
        };
        let place = (invalid.span.line, invalid.span.column);
        assert_eq!(place, (*line, *column), "{text:?}: {invalid}");
        assert!(invalid.to_string().contains(said), "{text:?}: {invalid}");
    }
}

#[test]
fn the_device_is_lost_before_the_access_that_is_named_and_not_before_another_one() {
    let text = "\
        fail access 3\n\
        register 0x490010 1\n\
        register 0x490010 2\n\
        expect events lost 0\n\
        expect register 0x490010 0xFFFFFFFF\n\
        expect events lost 1\n\
        reset\n\
        fail access 1\n\
        fail nothing\n\
        recover\n\
        expect events lost 1\n";
    passes(AsicWord::Goya, text);
}
