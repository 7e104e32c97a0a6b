//! What the demonstration prints.

use core::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};

/// How wide the labels of fields are.
const LABEL: usize = 21;

/// Where the demonstration prints to.
///
/// A reader that went away is no reason to stop: the checks go on and the exit status tells.
pub struct Report {
    out: Mutex<Box<dyn Write + Send>>,
    /// Steps, fields and tables are printed.
    talks: bool,
    /// Headings stand out.
    styled: bool,
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Report")
            .field("talks", &self.talks)
            .field("styled", &self.styled)
            .finish_non_exhaustive()
    }
}

impl Report {
    /// A report to standard output; of nothing but the verdict where it is `quiet`.
    #[must_use]
    pub fn to_stdout(quiet: bool) -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            styled: io::stdout().is_terminal() && !plain,
            ..Self::new(Box::new(io::stdout()), quiet)
        }
    }

    /// A report to anything, without style.
    #[must_use]
    pub fn new(out: Box<dyn Write + Send>, quiet: bool) -> Self {
        Self {
            out: Mutex::new(out),
            talks: !quiet,
            styled: false,
        }
    }

    /// Whether more than the verdict is printed.
    #[must_use]
    pub fn talks(&self) -> bool {
        self.talks
    }

    /// The heading of a step.
    pub fn step(&self, number: u32, title: &str) {
        if self.styled {
            self.print(format_args!("\n\x1b[1m{number}. {title}\x1b[0m"));
        } else {
            self.print(format_args!("\n{number}. {title}"));
        }
    }

    /// The heading of a part of a step.
    pub fn part(&self, title: impl fmt::Display) {
        self.print(format_args!("   {title}"));
    }

    /// A labelled value.
    pub fn field(&self, label: &str, value: impl fmt::Display) {
        self.print(format_args!("   {label:<LABEL$} {value}"));
    }

    /// Text of one line or several.
    pub fn text(&self, text: impl fmt::Display) {
        for line in text.to_string().lines() {
            self.print(format_args!("     {line}"));
        }
    }

    /// Rows whose columns line up; columns of numbers to the right.
    pub fn table<const COLUMNS: usize>(&self, rows: &[[String; COLUMNS]]) {
        let number = |text: &str| {
            text.bytes()
                .all(|byte| byte.is_ascii_digit() || byte == b',')
        };
        let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
        let widths: [usize; COLUMNS] = core::array::from_fn(width);
        // A heading goes where the numbers below it are.
        let last = rows.last();
        let numeric: [bool; COLUMNS] =
            core::array::from_fn(|column| last.is_some_and(|row| number(&row[column])));
        for row in rows {
            let mut line = String::new();
            for ((cell, width), numeric) in row.iter().zip(widths).zip(numeric) {
                let cell = if numeric {
                    format!("{cell:>width$}  ")
                } else {
                    format!("{cell:<width$}  ")
                };
                line.push_str(&cell);
            }
            self.print(format_args!("     {}", line.trim_end()));
        }
    }

    /// The one line that is always printed.
    pub fn verdict(&self, verdict: impl fmt::Display) {
        if self.talks {
            self.print(format_args!(""));
        }
        self.write(format_args!("{verdict}\n"));
    }

    fn print(&self, line: fmt::Arguments<'_>) {
        if self.talks {
            self.write(format_args!("{line}\n"));
        }
    }

    fn write(&self, text: fmt::Arguments<'_>) {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        // See the type's documentation.
        let _ = out.write_fmt(text).and_then(|()| out.flush());
    }
}

/// A number with its thousands set apart.
#[must_use]
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number and a noun, in the plural where it needs it.
#[must_use]
pub(super) fn count(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", grouped(number))
}

/// Bytes in a unit that reads well.
#[must_use]
pub(super) fn bytes(bytes: u64) -> String {
    const KIB: u64 = 1 << 10;
    const MIB: u64 = 1 << 20;
    match bytes {
        ..KIB => count(bytes, "byte"),
        KIB..MIB => fraction(bytes, KIB, "KiB"),
        _ => fraction(bytes, MIB, "MiB"),
    }
}

fn fraction(bytes: u64, unit: u64, name: &str) -> String {
    if bytes.is_multiple_of(unit) {
        format!("{} {name}", grouped(bytes / unit))
    } else {
        format!("{:.1} {name}", bytes as f64 / unit as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        let texts = [0, 999, 1000, 1_234_567].map(grouped);
        assert_eq!(texts, ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn sizes_are_in_units_that_read_well() {
        let texts = [1, 1023, 1024, 1536, 4 << 20, 3 << 19].map(bytes);
        let expected = [
            "1 byte",
            "1,023 bytes",
            "1 KiB",
            "1.5 KiB",
            "4 MiB",
            "1.5 MiB",
        ];
        assert_eq!(texts, expected);
    }
}
