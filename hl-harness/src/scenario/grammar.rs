//! The grammar in the documentation, read back: it is that of the parser, word for word, and whatever is
//! shipped follows from it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::lex::{self, Kind, Token};
use super::manual::MANUAL;
use super::random::random;
use super::words::{AsicWord, ERRNOS};

/// Where the parser knows words from.
const SOURCES: [&str; 7] = [
    include_str!("parse/mod.rs"),
    include_str!("parse/cursor.rs"),
    include_str!("parse/device.rs"),
    include_str!("parse/expect.rs"),
    include_str!("parse/parts.rs"),
    include_str!("parse/steps.rs"),
    include_str!("words.rs"),
];

/// What stands behind a `=`.
#[derive(Clone, Debug)]
enum Rule {
    /// In quotes.
    Written(String),
    Named(String),
    All(Vec<Rule>),
    OneOf(Vec<Rule>),
    Optional(Box<Rule>),
    Repeated(Box<Rule>),
}

/// Each rule by its name.
type Grammar = BTreeMap<String, Rule>;

/// The text of the documentation.
fn text() -> String {
    let source = include_str!("mod.rs");
    let (_, behind) = source.split_once("//! # Grammar").expect("it has one");
    let (_, begun) = behind.split_once("```text\n").expect("it begins");
    let (text, _) = begun.split_once("//! ```").expect("it ends");
    let lines = text.lines().map(|line| {
        let line = line.trim_start_matches("//!");
        line.split(" -- ").next().unwrap_or_default()
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Quoted words, names and signs.
fn symbols(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let len = match first {
            '"' => rest[1..].find('"').expect("quotes end") + 2,
            '(' | ')' | '|' | '?' | '*' | '+' | '=' => 1,
            _ => {
                let ends = |next: char| next.is_whitespace() || "()|?*+=".contains(next);
                rest.find(ends).unwrap_or(rest.len())
            }
        };
        found.push(rest[..len].to_owned());
        rest = rest[len..].trim_start();
    }
    found
}

fn grammar() -> Grammar {
    let text = text();
    let symbols = symbols(&text);
    let starts: Vec<usize> = (1..symbols.len())
        .filter(|at| symbols[*at] == "=")
        .collect();
    let ends = starts.iter().skip(1).map(|next| next - 1);
    let ends = ends.chain([symbols.len()]);
    let mut rules = Grammar::new();
    for (start, end) in starts.iter().zip(ends) {
        let name = &symbols[start - 1];
        let behind = &symbols[start + 1..end];
        let capital = |name: &str| name.chars().all(|letter| letter.is_ascii_uppercase());
        let rule = if capital(name) {
            let words = behind.iter().map(|word| word.trim_matches('"').to_owned());
            Rule::OneOf(words.map(Rule::Written).collect())
        } else {
            let mut rest = behind.iter().map(String::as_str).peekable();
            let rule = one_of(&mut rest);
            assert_eq!(rest.next(), None, "{name} goes on");
            rule
        };
        let before = rules.insert(name.clone(), rule);
        assert!(before.is_none(), "{name} is there twice");
    }
    rules
}

type Symbols<'s, I> = std::iter::Peekable<I>;

fn one_of<'s>(rest: &mut Symbols<'s, impl Iterator<Item = &'s str>>) -> Rule {
    let mut choices = vec![all(rest)];
    while rest.next_if_eq(&"|").is_some() {
        choices.push(all(rest));
    }
    match choices.len() {
        1 => choices.remove(0),
        _ => Rule::OneOf(choices),
    }
}

fn all<'s>(rest: &mut Symbols<'s, impl Iterator<Item = &'s str>>) -> Rule {
    let mut parts = Vec::new();
    while let Some(symbol) = rest.next_if(|next| !["|", ")"].contains(next)) {
        let part = match symbol {
            "(" => {
                let inside = one_of(rest);
                assert_eq!(rest.next(), Some(")"), "brackets end");
                inside
            }
            _ => match symbol.strip_prefix('"') {
                Some(word) => Rule::Written(word.trim_end_matches('"').to_owned()),
                None => Rule::Named(symbol.to_owned()),
            },
        };
        parts.push(if rest.next_if_eq(&"?").is_some() {
            Rule::Optional(Box::new(part))
        } else if rest.next_if_eq(&"*").is_some() {
            Rule::Repeated(Box::new(part))
        } else if rest.next_if_eq(&"+").is_some() {
            Rule::All(vec![part.clone(), Rule::Repeated(Box::new(part))])
        } else {
            part
        });
    }
    Rule::All(parts)
}

impl Rule {
    /// Each part of it, however deep.
    fn each(&self, visit: &mut impl FnMut(&Self)) {
        visit(self);
        match self {
            Self::Written(_) | Self::Named(_) => {}
            Self::All(parts) | Self::OneOf(parts) => {
                parts.iter().for_each(|part| part.each(visit));
            }
            Self::Optional(part) | Self::Repeated(part) => part.each(visit),
        }
    }

    /// What is written in it, and which other rules it names.
    fn words(&self) -> (BTreeSet<String>, BTreeSet<String>) {
        let (mut written, mut named) = (BTreeSet::new(), BTreeSet::new());
        self.each(&mut |part| match part {
            Self::Written(word) => drop(written.insert(word.clone())),
            Self::Named(name) => drop(named.insert(name.clone())),
            _ => {}
        });
        (written, named)
    }

    /// What is written in it and in the rules that it names, but for the steps of a block.
    fn words_below(&self, grammar: &Grammar, seen: &mut BTreeSet<String>) -> BTreeSet<String> {
        let (mut written, named) = self.words();
        for name in named {
            if name != "line" && seen.insert(name.clone()) {
                let below = grammar
                    .get(&name)
                    .map(|rule| rule.words_below(grammar, seen));
                written.extend(below.unwrap_or_default());
            }
        }
        written
    }

    /// Where some of the text may end that begins at `start`.
    fn ends(&self, grammar: &Grammar, text: &[Token], start: usize) -> BTreeSet<usize> {
        let one = |holds: bool| BTreeSet::from_iter(holds.then_some(start + 1));
        let kind = text.get(start).map(|token| &token.kind);
        match self {
            Self::Written(written) => one(match kind {
                Some(Kind::Word(word)) => word == written,
                Some(Kind::Sign(sign)) => sign == written,
                _ => false,
            }),
            Self::Named(name) => match (grammar.get(name), name.as_str(), kind) {
                (Some(rule), _, _) => rule.ends(grammar, text, start),
                (None, "number", kind) => one(matches!(kind, Some(Kind::Number { .. }))),
                (None, "word" | "EVENT" | "COUNTER", kind) => {
                    one(matches!(kind, Some(Kind::Word(_))))
                }
                (None, "ERRNO", Some(Kind::Word(word))) => one(ERRNOS.contains(&word.as_str())),
                (None, "ERRNO", _) => BTreeSet::new(),
                (None, name, _) => panic!("there is no {name}"),
            },
            Self::All(parts) => parts.iter().fold(BTreeSet::from([start]), |starts, part| {
                let ends = starts.into_iter();
                ends.flat_map(|start| part.ends(grammar, text, start))
                    .collect()
            }),
            Self::OneOf(parts) => {
                let parts = parts.iter();
                parts
                    .flat_map(|part| part.ends(grammar, text, start))
                    .collect()
            }
            Self::Optional(part) => {
                let mut ends = part.ends(grammar, text, start);
                ends.insert(start);
                ends
            }
            Self::Repeated(part) => {
                let mut ends = BTreeSet::from([start]);
                let mut new = vec![start];
                while let Some(start) = new.pop() {
                    let next = part.ends(grammar, text, start).into_iter();
                    new.extend(next.filter(|end| ends.insert(*end)));
                }
                ends
            }
        }
    }
}

/// The literals in a source that are one word of the language, or a sign.
fn literals(source: &str) -> BTreeSet<String> {
    let lines = source.lines().map(|line| match line.split_once("//") {
        Some((code, _)) => code,
        None => line,
    });
    let code: String = lines.map(|line| format!("{line}\n")).collect();
    // There is no quote within a literal here, so that every other piece is one.
    let literals = code.split('"').skip(1).step_by(2);
    let words = literals.filter(|literal| {
        let letters = |next: char| next.is_ascii_alphanumeric() || "-.".contains(next);
        let word = literal.starts_with(char::is_alphabetic) && literal.chars().all(letters);
        word && !ERRNOS.contains(literal)
    });
    words.map(str::to_owned).collect()
}

/// Every word that is written in the grammar.
fn written(grammar: &Grammar) -> BTreeSet<String> {
    grammar.values().flat_map(|rule| rule.words().0).collect()
}

/// The ways in which a line begins, each with its first word.
fn alternatives(grammar: &Grammar) -> Vec<(String, Rule)> {
    let mut found = Vec::new();
    for name in ["asics", "machine", "block", "step"] {
        let choices = match &grammar[name] {
            Rule::OneOf(choices) => choices.clone(),
            one => vec![one.clone()],
        };
        for rule in choices {
            match &rule {
                Rule::All(parts) => match parts.first() {
                    Some(Rule::Written(word)) => found.push((word.clone(), rule.clone())),
                    other => panic!("{name} begins with {other:?}"),
                },
                other => panic!("{name} is {other:?}"),
            }
        }
    }
    found
}

#[test]
fn every_word_that_the_parser_knows_is_in_the_grammar() {
    let grammar = written(&grammar());
    let known = SOURCES.into_iter().flat_map(literals);
    // The README has the kinds of events, which the parser takes from the log.
    let events = ["clear", "table-allocate", "table-free"];
    let known: BTreeSet<String> = known
        .filter(|word| !events.contains(&word.as_str()))
        .collect();
    assert!(known.len() > 150, "{known:?}");
    let missing: Vec<_> = known.difference(&grammar).collect();
    assert_eq!(missing, Vec::<&String>::new());
}

#[test]
fn every_word_of_the_grammar_is_known_to_the_parser() {
    let known: BTreeSet<String> = SOURCES.into_iter().flat_map(literals).collect();
    let words = written(&grammar()).into_iter();
    let words = words.filter(|word| word.starts_with(char::is_alphabetic));
    let unknown: Vec<_> = words.filter(|word| !known.contains(word)).collect();
    assert_eq!(unknown, Vec::<String>::new());
}

#[test]
fn the_grammar_and_the_manual_have_the_same_steps_of_the_same_words() {
    let grammar = grammar();
    let alternatives = alternatives(&grammar);
    let steps: Vec<_> = alternatives.iter().map(|(word, _)| word.as_str()).collect();
    let sorted: BTreeSet<&str> = steps.iter().copied().collect();
    assert_eq!(sorted.len(), steps.len(), "a step is there twice");
    assert_eq!(sorted, MANUAL.iter().map(|step| step.word).collect());
    let is_word = |word: &&str| {
        let letters = |next: char| next.is_ascii_lowercase() || next == '-';
        word.starts_with(|first: char| first.is_ascii_lowercase()) && word.chars().all(letters)
    };
    for (word, rule) in alternatives {
        let page = MANUAL
            .iter()
            .find(|step| step.word == word)
            .expect("it has");
        let separates = |next: char| !(next.is_ascii_alphanumeric() || "-.".contains(next));
        let told: BTreeSet<&str> = page.syntax.split(separates).filter(is_word).collect();
        let below = rule.words_below(&grammar, &mut BTreeSet::new());
        let missing: Vec<_> = told.iter().filter(|word| !below.contains(**word)).collect();
        assert!(
            missing.is_empty(),
            "the grammar of `{word}` has no {missing:?}"
        );
        let (own, _) = rule.words();
        let own = own.iter().map(String::as_str).filter(is_word);
        // That a block has an end is said of each once.
        let untold: Vec<_> = own.filter(|word| !told.contains(word)).collect();
        assert!(
            untold.is_empty(),
            "the manual of `{word}` has no {untold:?}"
        );
    }
}

/// Where the grammar leaves off, in a text that the parser reads; `None` where it reads all of it.
fn left_at(grammar: &Grammar, source: &str) -> Option<u32> {
    source.parse::<super::Script>().expect("it is a scenario");
    let lines = (1..).zip(source.lines());
    let lines = lines.flat_map(|(number, line)| lex::line(number, line).expect("it has tokens"));
    let tokens: Vec<Token> = lines.collect();
    let ends = grammar["script"].ends(grammar, &tokens, 0);
    let last = ends.last().copied().unwrap_or_default();
    tokens.get(last).map(|token| token.span.line)
}

#[test]
fn every_scenario_follows_from_the_grammar() {
    let grammar = grammar();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("the folder is there") {
            let path = entry.expect("it can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "hl") {
                let source = fs::read_to_string(&path).expect("the file can be read");
                assert_eq!(left_at(&grammar, &source), None, "{}", path.display());
                files += 1;
            }
        }
    }
    assert!(files > 50, "{files} files");
    for seed in 0..4 {
        let source = random(AsicWord::Gaudi2, 200, seed);
        assert_eq!(left_at(&grammar, &source), None, "{source}");
    }
    // What the grammar does not have, it does not accept.
    let mut without = grammar;
    without.remove("TOLD");
    without.insert("TOLD".to_owned(), Rule::Written("missed".to_owned()));
    let source = "open c1\nreclaim\nexpect event c1 nothing\n";
    assert_eq!(left_at(&without, source), Some(3));
}
