//! Random scenarios, and how one that fails becomes short.

use super::super::*;
use hl_harness::scenario::ast::{Expr, ExprKind, Line, Name, Step};
use hl_harness::scenario::random::random;
use hl_harness::scenario::random_command::attempt;
use hl_harness::scenario::words::{Constant, Operator, Unit};
use hl_harness::scenario::{Span, shrink};
use proptest::prelude::*;

const ASICS: [AsicWord; 4] = [
    AsicWord::Goya,
    AsicWord::Gaudi,
    AsicWord::Gaudi2,
    AsicWord::Gaudi2Five,
];

#[test]
fn random_scenarios_pass_on_every_asic() {
    for asic in ASICS {
        for seed in 0..3 {
            if let Err(reproducer) = attempt(asic, 200, seed) {
                panic!("{asic}:\n{reproducer}");
            }
        }
    }
}

#[test]
fn a_random_scenario_is_the_same_after_printing_and_reading_it_again() {
    for seed in 0..40 {
        let asic = ASICS[seed as usize % ASICS.len()];
        let text = random(asic, 300, seed);
        assert_eq!(text, random(asic, 300, seed));
        let script: Script = text.parse().expect("it is a scenario");
        let again: Script = script.to_string().parse().expect("it prints as one");
        assert_eq!(script, again);
    }
    assert_ne!(
        random(AsicWord::Goya, 300, 1),
        random(AsicWord::Goya, 300, 2)
    );
}

#[test]
fn what_fails_becomes_short_and_still_fails_in_the_same_way() {
    for seed in 0..3 {
        let asic = ASICS[seed as usize % ASICS.len()];
        let mut text = random(asic, 60, seed);
        // What is wrong here: a page of the first buffer has no pin of its own.
        text += "map c1 b0 + 2 * page size page -> planted\nexpect pins b0 page 2 = 99\n";
        let script: Script = text.parse().expect("it is a scenario");
        let options = Options {
            seed,
            ..Options::default()
        };
        let short = shrink(&script, asic, options);
        assert!(short.steps.len() <= 3, "seed {seed}:\n{short}");
        // As a file of its own.
        let read: Script = short.to_string().parse().expect("it prints as a scenario");
        match run(&read, asic, options, &mut ()) {
            Err(Stop::Failed(failure)) => {
                assert_eq!(failure.expected, "pins b0 page 2 = 99", "\n{short}");
            }
            other => panic!("{other:?}\n{short}"),
        }
        for left_out in 0..read.steps.len() {
            let mut smaller = read.clone();
            smaller.steps.remove(left_out);
            let fails = match run(&smaller, asic, options, &mut ()) {
                Err(Stop::Failed(failure)) => failure.expected == "pins b0 page 2 = 99",
                _ => false,
            };
            assert!(!fails, "step {left_out} is too much in\n{short}");
        }
    }
}

#[test]
fn random_scenarios_fork_and_have_threads_and_accesses_that_are_compared() {
    for asic in ASICS {
        let all: String = (0..4).map(|seed| random(asic, 400, seed)).collect();
        let count = |words: &[&str]| {
            let has = |line: &&str| words.iter().all(|word| line.contains(word));
            all.lines().filter(has).count()
        };
        for (words, least) in [
            (&["fork c1 as k"] as &[_], 4),
            (&["read b", " of k", "expect pattern"], 4),
            (&["interleave seed "], 8),
            (&["access c1 m", " expect "], 8),
            (&["access c1 m", " writes mark "], 8),
            (&["read b", " or mark "], 8),
        ] {
            let found = count(words);
            assert!(found >= least, "{asic}: {found} of {words:?}");
        }
    }
}

/// How it fails, and a part of it that does so as well.
const SHRUNK: &[(&str, &str)] = &[
    // In a thread, of which the others, and all that is done before, are not needed.
    (
        "\
open c1
buffer c1 b 4 pages
map c1 b -> va
reclaim
interleave seed 2
thread 1
reclaim
write b pattern 1
end
thread 2 as t
dma read c1 va 8
for i in 0..3
dma read c1 va 2 pages
if i = 2
expect pins b 0
end
end
end
end
reclaim
",
        "\
open c1
buffer c1 b 4 pages
map c1 b -> va
expect pins b = 0
",
    ),
    // What no one thread does alone keeps two of them.
    (
        "\
open c1
buffer c1 b 1 pages
reclaim
interleave seed 2
thread 1
reclaim
repeat 50
write b byte 3
read b expect byte 3
end
end
thread 1
reclaim
end
thread 1
for i in 0..50
write b byte 4
end
reclaim
end
end
",
        "\
open c1
buffer c1 b 1 pages
interleave seed 2
  thread 1
    write b byte 3
    read b expect byte 3
  end
  thread 1
    write b byte 4
  end
end
",
    ),
];

#[test]
fn what_fails_in_a_block_becomes_short_too() {
    for (text, wanted) in SHRUNK {
        let script: Script = text.parse().expect("it is a scenario");
        let short = shrink(&script, AsicWord::Goya, Options::default());
        assert_eq!(short.to_string(), *wanted);
    }
}

#[test]
fn what_passes_is_not_shortened() {
    let script: Script = random(AsicWord::Goya, 60, 3)
        .parse()
        .expect("it is a scenario");
    assert_eq!(shrink(&script, AsicWord::Goya, Options::default()), script);
}

fn expr(kind: ExprKind) -> Expr {
    Expr {
        kind,
        span: Span::default(),
    }
}

fn any_expr() -> impl Strategy<Value = Expr> {
    let units = prop_oneof![
        Just(None),
        Just(Some(Unit::Kib)),
        Just(Some(Unit::Mib)),
        Just(Some(Unit::Gib)),
        Just(Some(Unit::Pages)),
    ];
    let number = (any::<u64>(), any::<bool>(), units)
        .prop_map(|(value, hex, unit)| expr(ExprKind::Number { value, hex, unit }));
    let constants = [
        Constant::Page,
        Constant::Max,
        Constant::HostStart,
        Constant::DramPages,
    ];
    let constant = proptest::sample::select(constants.to_vec())
        .prop_map(|constant| expr(ExprKind::Constant(constant)));
    let operators = [
        Operator::Add,
        Operator::Subtract,
        Operator::Multiply,
        Operator::Divide,
        Operator::Remainder,
    ];
    prop_oneof![number, constant].prop_recursive(5, 32, 2, move |inner| {
        let operator = proptest::sample::select(operators.to_vec());
        let binary = (inner.clone(), operator, inner.clone()).prop_map(|(one, operator, other)| {
            expr(ExprKind::Binary(Box::new(one), operator, Box::new(other)))
        });
        let random = (inner.clone(), inner)
            .prop_map(|(low, high)| expr(ExprKind::Random(Box::new(low), Box::new(high))));
        prop_oneof![4 => binary, 1 => random]
    })
}

proptest! {
    /// Brackets stand where they are needed, so that the tree that is read is the one that was printed.
    #[test]
    fn every_computed_number_is_the_same_after_printing_and_reading_it_again(value in any_expr()) {
        let name = Name { text: "x".to_owned(), index: None, of: None, span: Span::default() };
        let step = Step::Let { name, value };
        let script = Script {
            steps: vec![Line { span: Span::default(), step }],
            ..Script::default()
        };
        let printed = script.to_string();
        prop_assert_eq!(&printed.parse::<Script>().expect("it reads"), &script, "{}", printed);
    }

    /// Whatever the text, reading it ends with a scenario or a place in it.
    #[test]
    fn no_text_is_too_strange_to_be_refused(text in "[ a-z0-9\\[\\]()\\->=.,+*#\n]{0,200}") {
        if let Err(invalid) = text.parse::<Script>() {
            let lines = text.lines().count().max(1) as u32;
            prop_assert!((1..=lines).contains(&invalid.span.line), "{invalid}");
            prop_assert!(!invalid.render("x.hl", &text).is_empty());
        }
    }
}
