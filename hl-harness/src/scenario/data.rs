//! Patterns: bytes that tell where they belong.

use super::words::Reason;

/// Bytes, with their numbers computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bytes {
    /// Those of pattern `number`, from byte `from` of it on.
    Pattern { number: u64, from: u64 },
    /// One byte, again and again.
    Byte(u8),
    /// One number, again and again.
    Word(u64),
}

impl Bytes {
    /// Writes the bytes from `offset` on into `buffer`.
    pub(crate) fn fill(self, offset: u64, buffer: &mut [u8]) {
        match self {
            Self::Byte(byte) => buffer.fill(byte),
            Self::Word(word) => {
                let bytes = word.to_le_bytes();
                for (place, at) in buffer.iter_mut().zip(offset..) {
                    *place = bytes[(at % 8) as usize];
                }
            }
            Self::Pattern { number, from } => {
                let mut at = from.wrapping_add(offset);
                let mut rest = buffer;
                while !rest.is_empty() {
                    let word = scatter(number ^ (at / 8).rotate_left(20)).to_le_bytes();
                    let within = (at % 8) as usize;
                    let count = rest.len().min(8 - within);
                    let (now, later) = rest.split_at_mut(count);
                    now.copy_from_slice(&word[within..within + count]);
                    at = at.wrapping_add(count as u64);
                    rest = later;
                }
            }
        }
    }

    /// The first byte of `found`, which begins at `offset`, that is another one: where it is, what
    /// it should be, and what it is.
    pub(crate) fn difference(self, offset: u64, found: &[u8]) -> Option<(u64, u8, u8)> {
        let mut wanted = vec![0; found.len()];
        self.fill(offset, &mut wanted);
        let pairs = (offset..).zip(wanted.iter().zip(found));
        let mut other = pairs.filter(|(_, (wanted, found))| wanted != found);
        other
            .next()
            .map(|(at, (wanted, found))| (at, *wanted, *found))
    }
}

impl core::fmt::Display for Bytes {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Pattern { number, from: 0 } => write!(f, "pattern {number}"),
            Self::Pattern { number, from } => write!(f, "pattern {number} from {from:#x}"),
            Self::Byte(byte) => write!(f, "byte {byte:#04x}"),
            Self::Word(word) => write!(f, "word {word:#x}"),
        }
    }
}

/// A number that looks like none of its neighbours: a step of splitmix64. This is no source of random
/// numbers but a function of a place, so that any part of a pattern is known without the rest.
const fn scatter(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

impl Reason {
    /// Why the device refused an access; `None` for reasons that scenarios have no word for.
    pub(crate) fn of_device(reason: crate::asic::FaultReason) -> Option<Self> {
        use crate::asic::FaultReason;
        Some(match reason {
            FaultReason::NotPresent { .. } => Self::NotPresent,
            FaultReason::NoRoot => Self::NoRoot,
            FaultReason::Disabled => Self::Disabled,
            FaultReason::Malformed { .. } => Self::Malformed,
            FaultReason::TableFetch { .. } => Self::TableFetch,
            FaultReason::Decode { .. } => Self::Decode,
            FaultReason::DirectRefused => Self::Refused,
            FaultReason::Misaligned => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_pattern_is_the_same_from_wherever_it_is_taken() {
        let mut whole = [0; 64];
        Bytes::Pattern { number: 7, from: 0 }.fill(0, &mut whole);
        for offset in 0..40 {
            let mut part = [0; 20];
            Bytes::Pattern { number: 7, from: 3 }.fill(offset, &mut part);
            let start = offset as usize + 3;
            assert_eq!(part, whole[start..start + 20], "from {start}");
        }
    }

    #[test]
    fn one_wrong_byte_is_found_and_named() {
        let pattern = Bytes::Pattern { number: 1, from: 0 };
        let mut found = [0; 32];
        pattern.fill(100, &mut found);
        assert_eq!(pattern.difference(100, &found), None);
        found[13] ^= 1;
        let (at, wanted, other) = pattern.difference(100, &found).expect("a byte is wrong");
        assert_eq!((at, wanted ^ 1), (113, other));
    }
}
