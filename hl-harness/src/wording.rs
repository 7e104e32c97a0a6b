//! When two messages say the same of different numbers.

use std::collections::BTreeSet;

/// What a message says, whatever its numbers are: each of them is replaced by its place among the
/// numbers of the message, in ascending order. So "the driver has 7, the model 5" says the same as "the
/// driver has 1, the model 0", and "the driver has 0, the model 1" does not.
pub(crate) fn shape(message: &str) -> String {
    let numbers: BTreeSet<u128> = tokens(message).filter_map(number).collect();
    let place = |number| numbers.range(..number).count();
    let shaped = tokens(message).map(|token| match number(token) {
        Some(number) => format!("#{}", place(number)),
        None => token.to_owned(),
    });
    shaped.collect()
}

/// The words and what is between them.
fn tokens(message: &str) -> impl Iterator<Item = &str> {
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric();
    let together = move |a: &u8, b: &u8| is_word(a) && is_word(b);
    // Whatever is no word is copied byte by byte, and so stays what it is.
    let mut rest = message;
    std::iter::from_fn(move || {
        let bytes = rest.as_bytes();
        let first = bytes.chunk_by(together).next()?.len();
        let end = (first..=rest.len()).find(|&end| rest.is_char_boundary(end))?;
        let (token, after) = rest.split_at(end);
        rest = after;
        Some(token)
    })
}

fn number(token: &str) -> Option<u128> {
    match token.strip_prefix("0x") {
        Some(hex) => u128::from_str_radix(hex, 16).ok(),
        None => token.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_same_where_they_compare_in_the_same_way() {
        let seven = shape("buffers: the driver has 7, the model 5");
        assert_eq!(seven, shape("buffers: the driver has 1, the model 0"));
        assert_ne!(seven, shape("buffers: the driver has 5, the model 7"));
        assert_ne!(seven, shape("buffers: the driver has 5, the model 5"));
        assert_ne!(seven, shape("views: the driver has 7, the model 5"));
    }

    #[test]
    fn numbers_may_be_of_any_base_and_next_to_anything() {
        assert_eq!(shape("[0x1F]: 30 -> 0xa, é"), "[#2]: #1 -> #0, é");
        assert_eq!(shape("x1 0xg -0"), "x1 0xg -#0");
    }
}
