//! The memory interface that user space sees: bytes in, bytes or an errno out.
//!
//! The structures are byte-compatible with those of the habanalabs driver (facts 6.1), so that a
//! port's ioctl is: copy in, [`dispatch`], copy out. This is the edge where numbers become types:
//! nothing but the parser here makes a [`UserRange`], and it makes nothing but that of an address
//! in a request.
//!
//! # Where this differs from the C driver
//!
//! | request | C driver | here |
//! |---|---|---|
//! | unknown flag bits | ignored (facts IO-3) | `EINVAL` |
//! | flags that mean nothing for the operation | ignored | `EINVAL` |
//! | FREE of another's memory | succeeds (facts F-1) | `EPERM` |
//! | FREE with upper handle bits set | ignored (facts 6.3) | `EINVAL` |
//! | ALLOC beyond the handle table | `EFAULT` (facts 6.2) | `ENOMEM` |
//! | MAP beyond the locked-memory limit | no limit (facts MH-9) | `ENOMEM` |
//! | UNMAP whose invalidation fails | memory is released all the same (facts UN-3) | the error, and quarantine |
//!
//! Operations 4 to 6 (MAP_BLOCK, EXPORT_DMABUF_FD, TS_ALLOC) are refused with `EOPNOTSUPP`, and so is
//! MAP of device memory where the ASIC does not map it (Gaudi).

mod errno;
#[cfg(test)]
mod tests;

pub use errno::Errno;

use core::mem::{offset_of, size_of};

use mmu_core::DeviceAddr;
use static_assertions::const_assert_eq;

use crate::context::Context;
use crate::dram::{Contiguity, PackHandle, Sharing};
use crate::host::{DeviceAccess, HostMemory, UserRange};
use crate::port::Port;
use crate::profile::Asic;
use crate::space::Wanted;

/// Allocates device memory.
pub const OP_ALLOC: u32 = 0;
/// Frees device memory.
pub const OP_FREE: u32 = 1;
/// Maps memory into the user's address space.
pub const OP_MAP: u32 = 2;
/// Unmaps memory.
pub const OP_UNMAP: u32 = 3;
/// The last operation there is.
const OP_LAST: u32 = 6;

/// ALLOC: as one contiguous piece.
pub const FLAG_CONTIGUOUS: u32 = 0x1;
/// ALLOC: other contexts may map it.
pub const FLAG_SHARED: u32 = 0x2;
/// MAP: host memory of the process, not device memory.
pub const FLAG_USERPTR: u32 = 0x4;
/// MAP: at the hint or not at all.
pub const FLAG_FORCE_HINT: u32 = 0x8;

/// What user space passes in (facts IO-2). All fields are in the processor's byte order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(C)]
pub struct MemoryInput {
    /// What the operation is about: three numbers whose meaning it defines.
    pub arguments: [u64; 3],
    /// Which operation.
    pub op: u32,
    /// `FLAG_*` bits.
    pub flags: u32,
    /// Ignored, as the C driver does (facts IO-5).
    pub context_id: u32,
    /// For operations that are not offered here.
    pub element_count: u32,
}

const_assert_eq!(size_of::<MemoryInput>(), 40);
const_assert_eq!(offset_of!(MemoryInput, arguments), 0);
const_assert_eq!(offset_of!(MemoryInput, op), 24);
const_assert_eq!(offset_of!(MemoryInput, flags), 28);
const_assert_eq!(offset_of!(MemoryInput, context_id), 32);
const_assert_eq!(offset_of!(MemoryInput, element_count), 36);

impl MemoryInput {
    /// Bytes of the structure.
    pub const BYTES: usize = size_of::<Self>();

    /// The structure in these bytes; `None` where there are not exactly as many as it has.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::BYTES] = bytes.try_into().ok()?;
        let (wide, narrow) = bytes.split_at(offset_of!(Self, op));
        let mut wide = wide
            .as_chunks::<8>()
            .0
            .iter()
            .map(|chunk| u64::from_ne_bytes(*chunk));
        let mut narrow = narrow
            .as_chunks::<4>()
            .0
            .iter()
            .map(|chunk| u32::from_ne_bytes(*chunk));
        Some(Self {
            arguments: [wide.next()?, wide.next()?, wide.next()?],
            op: narrow.next()?,
            flags: narrow.next()?,
            context_id: narrow.next()?,
            element_count: narrow.next()?,
        })
    }

    /// The bytes of the structure.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let (wide, narrow) = bytes.split_at_mut(offset_of!(Self, op));
        for (chunk, argument) in wide.as_chunks_mut::<8>().0.iter_mut().zip(self.arguments) {
            *chunk = argument.to_ne_bytes();
        }
        let fields = [self.op, self.flags, self.context_id, self.element_count];
        for (chunk, field) in narrow.as_chunks_mut::<4>().0.iter_mut().zip(fields) {
            *chunk = field.to_ne_bytes();
        }
        bytes
    }
}

/// What user space gets back (facts IO-2): one number and eight bytes of zeros.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(C)]
pub struct MemoryOutput {
    /// A device address or a handle, or zero.
    pub value: u64,
    reserved: u64,
}

const_assert_eq!(size_of::<MemoryOutput>(), 16);

impl MemoryOutput {
    /// Bytes of the structure.
    pub const BYTES: usize = size_of::<Self>();

    const fn new(value: u64) -> Self {
        Self { value, reserved: 0 }
    }

    /// The bytes of the structure.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        if let Some(value) = bytes.first_chunk_mut::<8>() {
            *value = self.value.to_ne_bytes();
        }
        bytes
    }
}

/// A request that is understood. What it names may not exist.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Request {
    /// Allocate device memory.
    Allocate {
        /// How much.
        bytes: u64,
        /// As one piece.
        contiguous: bool,
        /// For other contexts to map.
        shared: bool,
    },
    /// Free device memory.
    Free {
        /// Its handle, as the user passed it.
        handle: u64,
    },
    /// Map memory of the process.
    MapUser {
        /// What the process named.
        range: UserRange,
        /// Where the process wants it.
        wanted: Wanted,
    },
    /// Map device memory.
    MapDram {
        /// Its handle, as the user passed it.
        handle: u64,
        /// Where the process wants it.
        wanted: Wanted,
    },
    /// Unmap what a MAP returned.
    Unmap {
        /// The address it returned.
        at: DeviceAddr,
    },
}

impl Request {
    /// Understands a request of a user whose pages have `page_bytes`.
    ///
    /// # Errors
    ///
    /// * [`Errno::EINVAL`] for an unknown operation, flags that the operation does not have, an
    ///   empty range, or one that wraps;
    /// * [`Errno::EOPNOTSUPP`] for an operation that is not offered.
    pub fn parse(input: &MemoryInput, page_bytes: u64) -> Result<Self, Errno> {
        let [first, second, third] = input.arguments;
        let flags = |allowed: u32| {
            if input.flags & !allowed == 0 {
                Ok(input.flags)
            } else {
                Err(Errno::EINVAL)
            }
        };
        let wanted = |hint, flags| match (hint, flags & FLAG_FORCE_HINT != 0) {
            (_, true) => Wanted::Exact(DeviceAddr::new(hint)),
            (0, false) => Wanted::Anywhere,
            (_, false) => Wanted::Hint(DeviceAddr::new(hint)),
        };
        match input.op {
            OP_ALLOC => {
                let flags = flags(FLAG_CONTIGUOUS | FLAG_SHARED)?;
                Ok(Self::Allocate {
                    bytes: first,
                    contiguous: flags & FLAG_CONTIGUOUS != 0,
                    shared: flags & FLAG_SHARED != 0,
                })
            }
            OP_FREE => flags(0).map(|_| Self::Free { handle: first }),
            OP_MAP => {
                let flags = flags(FLAG_USERPTR | FLAG_FORCE_HINT)?;
                if flags & FLAG_USERPTR == 0 {
                    let wanted = wanted(first, flags);
                    return Ok(Self::MapDram {
                        handle: second,
                        wanted,
                    });
                }
                let range = UserRange::parse(first, third, page_bytes).ok_or(Errno::EINVAL)?;
                let wanted = wanted(second, flags);
                Ok(Self::MapUser { range, wanted })
            }
            OP_UNMAP => flags(0).map(|_| Self::Unmap {
                at: DeviceAddr::new(first),
            }),
            op if op <= OP_LAST => Err(Errno::EOPNOTSUPP),
            _ => Err(Errno::EINVAL),
        }
    }
}

/// Carries out a request of the process that has `context` open.
///
/// # Errors
///
/// Those of [`Request::parse`], `EINVAL` for bytes that are no [`MemoryInput`], and what the
/// operation's own error becomes: see the `From` implementations.
pub fn dispatch<A: Asic, P: Port>(
    context: &Context<'_, '_, A, P>,
    bytes: &[u8],
) -> Result<MemoryOutput, Errno> {
    let input = MemoryInput::from_bytes(bytes).ok_or(Errno::EINVAL)?;
    let value = match Request::parse(&input, P::Host::PAGE_BYTES)? {
        Request::Allocate {
            bytes,
            contiguous,
            shared,
        } => {
            let contiguity = if contiguous {
                Contiguity::Contiguous
            } else {
                Contiguity::Scattered
            };
            let sharing = if shared {
                Sharing::Shared
            } else {
                Sharing::Private
            };
            context.allocate_dram(bytes, contiguity, sharing)?.get()
        }
        Request::Free { handle } => {
            context.free_dram(PackHandle::new(handle))?;
            0
        }
        Request::MapUser { range, wanted } => {
            context.map(range, DeviceAccess::ReadWrite, wanted)?.get()
        }
        Request::MapDram { handle, wanted } => {
            context.map_dram(PackHandle::new(handle), wanted)?.get()
        }
        Request::Unmap { at } => {
            context.unmap(at)?;
            0
        }
    };
    Ok(MemoryOutput::new(value))
}
