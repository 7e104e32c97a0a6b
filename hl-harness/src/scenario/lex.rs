//! Lines to words, numbers and signs.

use core::fmt;

use super::text::{Invalid, Span};

/// What a token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A word: letters, digits and `_`; `-` and `.` between letters belong to it.
    Word(String),
    /// A number, and whether it was written in hexadecimal digits.
    Number { value: u64, hex: bool },
    /// A sign.
    Sign(&'static str),
}

/// A token with its place.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) span: Span,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(word) => write!(f, "`{word}`"),
            Self::Number { value, hex: false } => write!(f, "`{value}`"),
            Self::Number { value, hex: true } => write!(f, "`{value:#x}`"),
            Self::Sign(sign) => write!(f, "`{sign}`"),
        }
    }
}

/// All signs, the longer ones first.
const SIGNS: &[&str] = &[
    "->", "..", "!=", "<=", ">=", "=", "<", ">", "+", "-", "*", "/", "%", "(", ")", "[", "]", ",",
];

/// The tokens of one line, up to its comment.
pub(crate) fn line(number: u32, text: &str) -> Result<Vec<Token>, Invalid> {
    let characters: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(&first) = characters.get(at) {
        let span = |len: usize| Span {
            line: number,
            column: at as u32 + 1,
            len: len as u32,
        };
        let rest = &characters[at..];
        if first == '#' {
            break;
        }
        if first.is_whitespace() {
            at += 1;
            continue;
        }
        let (kind, len) = if first.is_ascii_digit() {
            number_at(rest, span)?
        } else if first.is_ascii_alphabetic() || first == '_' {
            let len = word_len(rest);
            (Kind::Word(rest[..len].iter().collect()), len)
        } else {
            let sign = SIGNS
                .iter()
                .find(|sign| rest.iter().copied().take(sign.len()).eq(sign.chars()));
            let sign = sign.ok_or_else(|| {
                Invalid::new(span(1), format_args!("`{first}` means nothing here"))
            })?;
            (Kind::Sign(sign), sign.len())
        };
        tokens.push(Token {
            kind,
            span: span(len),
        });
        at += len;
    }
    Ok(tokens)
}

/// How long the word is that begins here.
fn word_len(rest: &[char]) -> usize {
    let mut len = 0;
    while let Some(&next) = rest.get(len) {
        let joins =
            matches!(next, '-' | '.') && rest.get(len + 1).is_some_and(char::is_ascii_alphabetic);
        if !(next.is_ascii_alphanumeric() || next == '_' || joins) {
            break;
        }
        len += 1;
    }
    len
}

/// The number that begins here, and how long it is.
fn number_at(rest: &[char], span: impl Fn(usize) -> Span) -> Result<(Kind, usize), Invalid> {
    let hex = rest.len() > 1 && rest[0] == '0' && matches!(rest[1], 'x' | 'X');
    let prefix = if hex { 2 } else { 0 };
    let radix = if hex { 16 } else { 10 };
    let digits: String = rest[prefix..]
        .iter()
        .take_while(|digit| digit.is_digit(radix) || **digit == '_')
        .collect();
    let len = prefix + digits.len();
    let value = u64::from_str_radix(&digits.replace('_', ""), radix);
    let message = "this is no number of at most 64 bits";
    let value = value.map_err(|_| Invalid::new(span(len), message))?;
    Ok((Kind::Number { value, hex }, len))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        let tokens = line(1, text).expect("the line is sound");
        tokens.iter().map(|token| token.kind.to_string()).collect()
    }

    #[test]
    fn a_dash_between_letters_joins_and_before_a_digit_subtracts() {
        assert_eq!(
            words("read-only va-1"),
            ["`read-only`", "`va`", "`-`", "`1`"]
        );
        assert_eq!(words("a - b->c"), ["`a`", "`-`", "`b`", "`->`", "`c`"]);
    }

    #[test]
    fn a_range_is_two_numbers_and_a_sign() {
        assert_eq!(words("0..8KiB # rest"), ["`0`", "`..`", "`8`", "`KiB`"]);
        assert_eq!(words("dram.page 0x1_F"), ["`dram.page`", "`0x1f`"]);
    }

    #[test]
    fn what_is_no_token_is_named_with_its_place() {
        let invalid = line(7, "map ? c1").expect_err("a question mark is no sign");
        assert_eq!(invalid.to_string(), "7:5: `?` means nothing here");
        let invalid = line(1, "x 99999999999999999999").expect_err("65 bits");
        assert_eq!((invalid.span.column, invalid.span.len), (3, 20));
    }
}
