//! Places in a scenario file, and what is said about them.

use core::fmt;
use core::str::Utf8Error;

/// A place in a scenario file.
#[derive(Clone, Copy, Debug, Default)]
pub struct Span {
    /// The line, counted from 1.
    pub line: u32,
    /// The column in characters, counted from 1.
    pub column: u32,
    /// How many characters.
    pub len: u32,
}

/// Where something stands is no part of what it says: any two places are equal, so that steps
/// compare by their meaning.
impl PartialEq for Span {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Span {}

impl Span {
    /// From the start of this place to the end of another one in the same line.
    #[must_use]
    pub fn to(self, end: Self) -> Self {
        Self {
            len: (end.column + end.len).saturating_sub(self.column),
            ..self
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// A scenario file is not one: where, why, and what would have been right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// Where.
    pub span: Span,
    /// What is wrong.
    pub message: String,
    /// What might have been meant.
    pub help: Option<String>,
}

impl Invalid {
    /// Something is wrong here.
    pub(crate) fn new(span: Span, message: impl fmt::Display) -> Self {
        Self {
            span,
            message: message.to_string(),
            help: None,
        }
    }

    /// The bytes of a file are no text.
    pub(crate) fn no_text(bytes: &[u8], error: Utf8Error) -> Self {
        let (sound, rest) = bytes.split_at(error.valid_up_to());
        let sound = String::from_utf8_lossy(sound);
        let sound = without_mark(&sound);
        let line = sound.rsplit('\n').next().unwrap_or_default();
        let span = Span {
            line: sound.matches('\n').count() as u32 + 1,
            column: line.chars().count() as u32 + 1,
            len: 1,
        };
        let byte = rest.first().copied().unwrap_or_default();
        let message = format_args!("byte {byte:#04x} is no part of a text in UTF-8");
        Self::new(span, message).help("a scenario is a text in UTF-8")
    }

    /// The same with a hint.
    pub(crate) fn help(mut self, help: impl fmt::Display) -> Self {
        self.help = Some(help.to_string());
        self
    }

    /// The same with the nearest of some words as a hint, where one is near.
    pub(crate) fn suggest<'w>(self, found: &str, words: impl IntoIterator<Item = &'w str>) -> Self {
        match nearest(found, words) {
            Some(word) => self.help(format_args!("did you mean `{word}`?")),
            None => self,
        }
    }

    /// The message with its line and a caret, as compilers print it.
    #[must_use]
    pub fn render(&self, name: &str, source: &str) -> String {
        let mut text = format!("{name}:{}: {}\n", self.span, self.message);
        text += &excerpt(source, self.span, 0);
        if let Some(help) = &self.help {
            text += &format!("     = {help}\n");
        }
        text
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.span, self.message)?;
        self.help.iter().try_for_each(|help| write!(f, " ({help})"))
    }
}

impl core::error::Error for Invalid {}

/// A text without the byte order mark that editors put in front, which says nothing.
pub(crate) fn without_mark(source: &str) -> &str {
    source.strip_prefix('\u{feff}').unwrap_or(source)
}

/// The lines around a place, with a caret below it.
pub(crate) fn excerpt(source: &str, span: Span, before: u32) -> String {
    let first = span.line.saturating_sub(before).max(1);
    let mut text = String::new();
    for (number, line) in (1..).zip(without_mark(source).lines()) {
        if number >= first && number <= span.line {
            // One column for each character, so that the caret stands below its place.
            let line = line.trim_end().replace('\t', " ");
            text += &format!("{number:>4} | {line}\n");
        }
    }
    let indent = " ".repeat(span.column.saturating_sub(1) as usize);
    let carets = "^".repeat(span.len.max(1) as usize);
    text + &format!("     | {indent}{carets}\n")
}

/// The word that a misspelt one most likely stands for.
pub(crate) fn nearest<'w>(
    found: &str,
    words: impl IntoIterator<Item = &'w str>,
) -> Option<&'w str> {
    let scored = words
        .into_iter()
        .map(|word| (strsim::damerau_levenshtein(found, word), word));
    let (distance, word) = scored.min()?;
    (distance <= 1 + found.len() / 4).then_some(word)
}
