//! Numbers as people read them: addresses in hexadecimal, also in a saved state.

use core::fmt;
use std::borrow::Cow;

use mmu_core::{BusAddr, DeviceAddr};
use serde::{Deserialize, Deserializer, Serializer, de};

/// A number that is written in hexadecimal.
pub(crate) trait Hexadecimal: Copy {
    fn number(self) -> u64;
    fn of(number: u64) -> Self;
}

impl Hexadecimal for u64 {
    fn number(self) -> u64 {
        self
    }
    fn of(number: u64) -> Self {
        number
    }
}

impl Hexadecimal for DeviceAddr {
    fn number(self) -> u64 {
        self.get()
    }
    fn of(number: u64) -> Self {
        Self::new(number)
    }
}

impl Hexadecimal for BusAddr {
    fn number(self) -> u64 {
        self.get()
    }
    fn of(number: u64) -> Self {
        Self::new(number)
    }
}

/// Reads what a person types for an address: hexadecimal after `0x`, otherwise decimal; underscores
/// are ignored.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let digits: String = text.chars().filter(|c| *c != '_').collect();
    let parsed = match digits.strip_prefix("0x").or(digits.strip_prefix("0X")) {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => digits.parse(),
    };
    parsed.map_err(|error| format!("`{text}` is no address: {error}"))
}

pub(crate) fn serialize<T: Hexadecimal, S: Serializer>(
    value: &T,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{:#x}", value.number()))
}

pub(crate) fn deserialize<'de, T: Hexadecimal, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    let text = Cow::<'de, str>::deserialize(deserializer)?;
    parse(&text).map(T::of).map_err(de::Error::custom)
}

/// A number of bytes in the largest unit that makes it whole, or in a unit with one decimal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bytes(pub(crate) u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        let whole = (self.0.trailing_zeros() / 10).min(6);
        let magnitude = self.0.max(1).ilog2() / 10;
        let text = if self.0 == 0 {
            "0 B".to_owned()
        } else if magnitude <= whole || self.0 >> (10 * whole) < 10_000 {
            format!(
                "{} {}",
                grouped(self.0 >> (10 * whole)),
                UNITS[whole as usize]
            )
        } else {
            let value = self.0 as f64 / (1_u64 << (10 * magnitude)) as f64;
            format!("{value:.1} {}", UNITS[magnitude as usize])
        };
        f.pad(&text)
    }
}

/// A number with its digits in groups of three.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// A number of things: `1 table`, `2 tables`.
pub(crate) fn count(number: u64, thing: &str) -> String {
    let plural = match (number, thing.strip_suffix('y')) {
        (1, _) => return format!("1 {thing}"),
        (_, Some(stem)) => format!("{stem}ies"),
        (_, None) if thing.ends_with("ss") || thing.ends_with("sh") => format!("{thing}es"),
        (_, None) => match thing.strip_suffix("leaf") {
            Some(before) => format!("{before}leaves"),
            None => format!("{thing}s"),
        },
    };
    format!("{} {plural}", grouped(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_told_in_the_unit_that_fits() {
        for (bytes, text) in [
            (0, "0 B"),
            (100, "100 B"),
            (4096, "4 KiB"),
            (12 << 20, "12 MiB"),
            // Whole numbers while they are short, otherwise one decimal.
            (1032 * 4096, "4 128 KiB"),
            ((12 << 20) + 4096, "12.0 MiB"),
            (10 << 20 | 512 << 10, "10.5 MiB"),
            (1 << 63, "8 EiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
    }

    #[test]
    fn things_are_counted_in_english() {
        for (number, thing, text) in [
            (1, "leaf", "1 leaf"),
            (2, "wrong leaf", "2 wrong leaves"),
            (0, "entry", "0 entries"),
            (12_345, "table", "12 345 tables"),
            (3, "flush", "3 flushes"),
            (2, "access", "2 accesses"),
        ] {
            assert_eq!(count(number, thing), text);
        }
    }

    #[test]
    fn addresses_are_read_as_people_type_them() {
        assert_eq!(parse("0xFFF0_0000_0000_1000"), Ok(0xFFF0_0000_0000_1000));
        assert_eq!(parse("4096"), Ok(4096));
        for text in ["", "0x", "0x1_0000_0000_0000_0000", "twelve", "-1"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
