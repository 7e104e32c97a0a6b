//! Patterns: bytes that tell where they belong.

use core::fmt;

use mmu_core::DeviceAddr;

use super::words::Reason;
use crate::asic::RandomAccessor;

/// Bytes, with their numbers computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bytes {
    /// Those of pattern `number`, from byte `from` of it on.
    Pattern { number: u64, from: u64 },
    /// One byte, again and again.
    Byte(u8),
    /// One number, again and again.
    Word(u64),
    /// What a [`RandomAccessor`] with this mark writes, from a device address on.
    Mark { mark: u8, from: u64 },
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
            Self::Mark { mark, from } => {
                for (place, at) in buffer.iter_mut().zip(0..) {
                    let address = from.wrapping_add(offset).wrapping_add(at);
                    *place = RandomAccessor::byte_at(DeviceAddr::new(address), mark);
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

    fn at(self, offset: u64) -> u8 {
        let mut byte = [0];
        self.fill(offset, &mut byte);
        let [byte] = byte;
        byte
    }
}

/// Bytes that are to be found, each as in one of these; anything where there are none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted(pub(crate) Vec<Bytes>);

/// A byte that is another one than is wanted, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    /// Which one would have been right.
    pub(crate) wanted: String,
    /// What it is.
    pub(crate) found: String,
}

impl Wanted {
    /// Whether anything may be found.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first byte of `found`, which begins at `offset`, that is none of those that it may be.
    pub(crate) fn difference(&self, offset: u64, found: &[u8]) -> Option<Difference> {
        let mut wrong = vec![!self.is_empty(); found.len()];
        let mut wanted = vec![0; found.len()];
        for bytes in &self.0 {
            bytes.fill(offset, &mut wanted);
            for ((wrong, wanted), found) in wrong.iter_mut().zip(&wanted).zip(found) {
                *wrong &= wanted != found;
            }
        }
        let mut places = (offset..).zip(found).zip(wrong);
        let ((at, found), _) = places.find(|(_, wrong)| *wrong)?;
        let wanted: Vec<String> = self
            .0
            .iter()
            .map(|bytes| format!("{bytes}: {:#04x}", bytes.at(at)))
            .collect();
        Some(Difference {
            wanted: format!("{} at byte {at:#x}", wanted.join(" or ")),
            found: format!("{found:#04x} at byte {at:#x}"),
        })
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pattern { number, from: 0 } => write!(f, "pattern {number}"),
            Self::Pattern { number, from } => write!(f, "pattern {number} from {from:#x}"),
            Self::Byte(byte) => write!(f, "byte {byte:#04x}"),
            Self::Word(word) => write!(f, "word {word:#x}"),
            Self::Mark { mark, from } => write!(f, "mark {mark} from {from:#x}"),
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
        let wanted = Wanted(vec![pattern]);
        assert_eq!(wanted.difference(100, &found), None);
        let right = found[13];
        found[13] ^= 1;
        let difference = wanted.difference(100, &found).expect("a byte is wrong");
        let says = |byte: u8| format!("{byte:#04x} at byte 0x71");
        assert_eq!(difference.wanted, format!("pattern 1: {}", says(right)));
        assert_eq!(difference.found, says(right ^ 1));
    }

    #[test]
    fn each_byte_may_be_as_in_another_one_of_several() {
        let wanted = Wanted(vec![Bytes::Byte(1), Bytes::Byte(2)]);
        assert_eq!(wanted.difference(0, &[1, 2, 2, 1]), None);
        let difference = wanted.difference(8, &[2, 1, 0]).expect("a byte is wrong");
        let right = "byte 0x01: 0x01 or byte 0x02: 0x02 at byte 0xa";
        assert_eq!(difference.wanted, right);
        assert_eq!(Wanted::default().difference(0, &[7]), None, "anything goes");
    }

    #[test]
    fn a_mark_has_the_bytes_of_the_addresses_that_it_is_written_to() {
        let mut bytes = [0; 8];
        let (mark, from) = (0x40, 0x1_0000);
        Bytes::Mark { mark, from }.fill(0x23, &mut bytes);
        for (byte, address) in bytes.into_iter().zip(0x1_0023..) {
            let written = RandomAccessor::byte_at(DeviceAddr::new(address), 0x40);
            assert_eq!(byte, written, "{address:#x}");
        }
    }
}
