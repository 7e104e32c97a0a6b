//! The records that travel through the ring.

use core::fmt;

/// Bytes of a record.
pub const RECORD_BYTES: usize = 1024;
/// Bytes in front of its payload.
const HEADER_BYTES: usize = 16;
/// The most payload that a record carries.
pub const PAYLOAD_BYTES: usize = RECORD_BYTES - HEADER_BYTES;

const KIND_DATA: u32 = 1;
const KIND_END: u32 = 2;

/// A record as its consumer found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record<'b> {
    /// Some bytes of the input.
    Data(&'b [u8]),
    /// The input has ended.
    End,
}

/// What is wrong with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BadRecord {
    /// It is not the one that comes next: one was lost, repeated or overwritten.
    Sequence {
        /// The number that comes next.
        expected: u64,
        /// The number found.
        found: u64,
    },
    /// It says that its payload is longer than a record.
    Length {
        /// Its number.
        sequence: u64,
        /// The length it gives.
        found: u32,
    },
    /// Its kind is unknown.
    Kind {
        /// Its number.
        sequence: u64,
        /// The kind it gives.
        found: u32,
    },
}

impl fmt::Display for BadRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sequence { expected, found } => {
                write!(f, "record {found} came where {expected} was due")
            }
            Self::Length { sequence, found } => {
                write!(f, "record {sequence} says it has {found} bytes")
            }
            Self::Kind { sequence, found } => {
                write!(f, "record {sequence} is of unknown kind {found}")
            }
        }
    }
}

impl core::error::Error for BadRecord {}

/// Writes a record with number `sequence`: number, length of the payload, kind, payload.
///
/// # Panics
///
/// On a payload longer than [`PAYLOAD_BYTES`].
pub fn encode(record: &mut [u8; RECORD_BYTES], sequence: u64, content: Record<'_>) {
    let (kind, payload): (u32, &[u8]) = match content {
        Record::Data(payload) => (KIND_DATA, payload),
        Record::End => (KIND_END, &[]),
    };
    record[..8].copy_from_slice(&sequence.to_le_bytes());
    record[8..12].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    record[12..HEADER_BYTES].copy_from_slice(&kind.to_le_bytes());
    record[HEADER_BYTES..][..payload.len()].copy_from_slice(payload);
}

/// Reads the record that is to have number `expected`.
///
/// # Errors
///
/// [`BadRecord`]: the bytes come from shared memory and may be anything.
pub fn decode(record: &[u8; RECORD_BYTES], expected: u64) -> Result<Record<'_>, BadRecord> {
    let (header, payload) = record.split_at(HEADER_BYTES);
    let number = |at: usize| {
        let bytes: [u8; 4] = core::array::from_fn(|byte| header[at + byte]);
        u32::from_le_bytes(bytes)
    };
    let sequence = u64::from(number(4)) << 32 | u64::from(number(0));
    let (length, kind) = (number(8), number(12));
    if sequence != expected {
        return Err(BadRecord::Sequence {
            expected,
            found: sequence,
        });
    }
    match kind {
        KIND_DATA => payload
            .get(..length as usize)
            .map(Record::Data)
            .ok_or(BadRecord::Length {
                sequence,
                found: length,
            }),
        KIND_END => Ok(Record::End),
        found => Err(BadRecord::Kind { sequence, found }),
    }
}
