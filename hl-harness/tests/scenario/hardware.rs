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
    ("open c1\ndma copy c1 0 0 1, 2", 2, 21, "expected a number"),
    ("open c1\ndma copy c1 0 0 1,", 2, 19, "expected a number"),
    (
        "open c1\ndma copy c1 0 0 1, 2 2 1 as d1",
        2,
        26,
        "and one of one piece",
    ),
    (
        "open c1\ndma copy c1 0 0 1 -> faults in 2",
        2,
        32,
        "expected `piece`",
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

#[test]
fn a_copy_that_is_refused_says_in_which_of_its_pieces() {
    let start = "open c1\nbuffer c1 b 1 pages\nmap c1 b -> va\n";
    for (copy, found) in [
        ("dma copy c1 va va 9, 0 va 1 -> faults in piece 0", Some(1)),
        ("dma copy c1 0 va 1, va va 9 -> faults in piece 1", Some(0)),
        ("dma copy c1 va va 1, va va 0, va 0 1, va va 1", Some(2)),
        ("dma copy c1 0 va 1 -> faults in piece 0", None),
    ] {
        for asic in [AsicWord::Goya, AsicWord::Gaudi2] {
            let failure = failure(asic, &format!("{start}{copy}\n"));
            assert_eq!(failure.span.line, 4, "{copy}");
            let piece = failure.found.split_once(" in piece ");
            let piece = piece.and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
            assert_eq!(piece, found, "{copy}: {}", failure.found);
        }
    }
}
