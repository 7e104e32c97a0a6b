//! What came of a step, and whether it is what was expected.

use core::fmt;

use hl_mem::context::LeftBehind;
use hl_mem::uapi::Errno;

use super::super::words::{Access, LeftWord, Reason};
use crate::asic::{AccessError, AccessKind, Fault, Stopped};

/// A refused access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) access: Access,
    /// In which address space, where it was the device's.
    pub(crate) asid: Option<u16>,
    pub(crate) at: u64,
    /// In which piece, where it was a copy of several.
    pub(crate) piece: Option<u64>,
    pub(crate) reason: Option<Reason>,
    /// Bytes moved before, where that is known.
    pub(crate) after: Option<u64>,
}

impl Refused {
    pub(crate) fn by_device(fault: Fault, after: Option<u64>) -> Self {
        Self {
            access: match fault.access {
                AccessKind::Read => Access::Read,
                AccessKind::Write => Access::Write,
            },
            asid: Some(fault.asid),
            at: fault.address.get(),
            piece: None,
            reason: Reason::of_device(fault.reason),
            after,
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "faults {}", self.access)?;
        self.asid
            .iter()
            .try_for_each(|asid| write!(f, " asid {asid}"))?;
        write!(f, " at {:#x}", self.at)?;
        self.piece
            .iter()
            .try_for_each(|piece| write!(f, " in piece {piece}"))?;
        self.reason
            .iter()
            .try_for_each(|reason| write!(f, " because {reason}"))?;
        self.after
            .iter()
            .try_for_each(|after| write!(f, " after {after:#x} bytes"))
    }
}

/// What came of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It was done.
    Done,
    /// It was done, and gave this number.
    Value(u64),
    /// It was refused.
    Errno(Errno),
    /// An access was refused.
    Refused(Refused),
    /// The device was not there.
    Lost,
    /// A file was closed.
    Closed(LeftBehind),
}

impl Answer {
    /// An answer to a request.
    pub(crate) fn of_request<T, E: Into<Errno>>(
        result: Result<T, E>,
        value: impl FnOnce(T) -> u64,
    ) -> Self {
        match result {
            Ok(done) => Self::Value(value(done)),
            Err(error) => Self::Errno(error.into()),
        }
    }

    /// An answer of the device, that had moved `before` bytes when this access began.
    pub(crate) fn of_access(result: Result<(), AccessError>, before: u64) -> Self {
        match result {
            Ok(()) => Self::Done,
            Err(AccessError {
                bytes_done,
                stopped,
            }) => match stopped {
                Stopped::Fault(fault) => {
                    Self::Refused(Refused::by_device(fault, Some(before + bytes_done)))
                }
                // What else stops an access is that nobody makes it any more.
                _ => Self::Lost,
            },
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("ok"),
            Self::Value(value) => write!(f, "{value:#x}"),
            Self::Errno(errno) => write!(f, "fails {errno}"),
            Self::Refused(refused) => refused.fmt(f),
            Self::Lost => f.write_str("lost"),
            Self::Closed(left) => write!(
                f,
                "left mappings {} handles {} dram {} buffers {}",
                left.mappings, left.handles, left.dram, left.quarantined_buffers
            ),
        }
    }
}

/// How much of one kind a closed file left behind.
pub(crate) fn left(left: &LeftBehind, what: LeftWord) -> u64 {
    u64::from(match what {
        LeftWord::Mappings => left.mappings,
        LeftWord::Handles => left.handles,
        LeftWord::Dram => left.dram,
        LeftWord::Buffers => left.quarantined_buffers,
    })
}
