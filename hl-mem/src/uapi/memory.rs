//! The memory ioctl, as bytes and as a request that is understood.

use core::mem::{offset_of, size_of};

use mmu_core::DeviceAddr;

use crate::host::UserRange;
use crate::space::Wanted;

use super::Errno;
use super::layout::assert_layout;

/// Allocates device memory.
pub const OP_ALLOC: u32 = 0;
/// Frees device memory.
pub const OP_FREE: u32 = 1;
/// Maps memory into the user's address space.
pub const OP_MAP: u32 = 2;
/// Unmaps memory.
pub const OP_UNMAP: u32 = 3;
/// Gives a handle for registers.
pub const OP_MAP_BLOCK: u32 = 4;
/// Exports device memory to a peer.
pub const OP_EXPORT: u32 = 5;
/// Makes a pool of timestamps.
pub const OP_TS_ALLOC: u32 = 6;

/// ALLOC: as one contiguous piece.
pub const FLAG_CONTIGUOUS: u32 = 0x1;
/// ALLOC: other contexts may map it.
pub const FLAG_SHARED: u32 = 0x2;
/// MAP: host memory of the process, not device memory.
pub const FLAG_USERPTR: u32 = 0x4;
/// MAP: at the hint or not at all.
pub const FLAG_FORCE_HINT: u32 = 0x8;
/// MAP: an advice to translate ahead, which no ASIC here takes.
pub const FLAG_PREFETCH: u32 = 0x40;

/// EXPORT, whose flags are those of the file: it is closed on exec (`O_CLOEXEC` of Linux on the
/// architectures that have the generic numbers).
pub const EXPORT_CLOSE_ON_EXEC: u32 = 0o2_000_000;
/// EXPORT: the file can be mapped for writing (`O_RDWR`).
pub const EXPORT_READ_WRITE: u32 = 0o2;

/// What user space passes in (facts IO-2). All fields are in the processor's byte order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(C)]
pub struct MemoryInput {
    /// What the operation is about: three numbers whose meaning it defines. Those that it has no
    /// meaning for are zero.
    pub arguments: [u64; 3],
    /// Which operation.
    pub op: u32,
    /// `FLAG_*` bits.
    pub flags: u32,
    /// Ignored, as the C driver does (facts IO-5).
    pub context_id: u32,
    /// How many timestamps; zero for all operations but TS_ALLOC.
    pub element_count: u32,
}

assert_layout!(MemoryInput of 40 bytes {
    arguments: 24 at 0,
    op: 4 at 24,
    flags: 4 at 28,
    context_id: 4 at 32,
    element_count: 4 at 36,
});

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

/// What user space gets back (facts IO-2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(C)]
pub struct MemoryOutput {
    /// A device address or a handle, or zero. A file descriptor is in the first four bytes.
    pub value: u64,
    /// Bytes of registers that a handle is for; zero otherwise.
    pub block_size: u32,
    reserved: u32,
}

assert_layout!(MemoryOutput of 16 bytes {
    value: 8 at 0,
    block_size: 4 at 8,
    reserved: 4 at 12,
});

impl MemoryOutput {
    /// Bytes of the structure.
    pub const BYTES: usize = size_of::<Self>();

    pub(super) const fn new(value: u64) -> Self {
        Self::block(value, 0)
    }

    pub(super) const fn block(value: u64, block_size: u32) -> Self {
        Self {
            value,
            block_size,
            reserved: 0,
        }
    }

    pub(super) const fn descriptor(descriptor: i32) -> Self {
        let [a, b, c, d] = descriptor.to_ne_bytes();
        Self::new(u64::from_ne_bytes([a, b, c, d, 0, 0, 0, 0]))
    }

    /// The bytes of the structure.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let (value, size) = bytes.split_at_mut(offset_of!(Self, block_size));
        if let Some(value) = value.first_chunk_mut() {
            *value = self.value.to_ne_bytes();
        }
        if let Some(size) = size.first_chunk_mut() {
            *size = self.block_size.to_ne_bytes();
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
    /// Give a handle for registers.
    MapBlock {
        /// Their address, as the user passed it.
        address: u64,
    },
    /// Export device memory to a peer.
    Export {
        /// The address that a MAP of it returned.
        at: DeviceAddr,
        /// How much.
        bytes: u64,
        /// How far into the mapping the part begins, in bytes.
        offset: u64,
        /// `EXPORT_*` bits.
        flags: u32,
    },
    /// Make a pool of timestamps.
    CreateTimestamps {
        /// How many.
        count: u32,
    },
}

impl Request {
    /// Understands a request of a user whose pages have `page_bytes`.
    ///
    /// # Errors
    ///
    /// [`Errno::EINVAL`] for an unknown operation, flags that the operation does not have, fields that
    /// it does not have and that are not zero, an empty range, or one that wraps.
    ///
    /// The fields that it has are those of facts IO-2. Among them is the page size of ALLOC, which
    /// means nothing on any ASIC here (facts 6.2), so that it may be anything.
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
        // Everything that the operation has no use for.
        let without = |unused: &[u64]| {
            if unused.iter().all(|field| *field == 0) {
                Ok(())
            } else {
                Err(Errno::EINVAL)
            }
        };
        let count = u64::from(input.element_count);
        match input.op {
            OP_ALLOC => {
                without(&[third, count])?;
                let flags = flags(FLAG_CONTIGUOUS | FLAG_SHARED)?;
                Ok(Self::Allocate {
                    bytes: first,
                    contiguous: flags & FLAG_CONTIGUOUS != 0,
                    shared: flags & FLAG_SHARED != 0,
                })
            }
            OP_FREE => {
                without(&[second, third, count])?;
                flags(0).map(|_| Self::Free { handle: first })
            }
            OP_MAP => {
                let flags = flags(FLAG_USERPTR | FLAG_FORCE_HINT | FLAG_PREFETCH)?;
                without(&[count])?;
                if flags & FLAG_USERPTR == 0 {
                    without(&[third])?;
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
            OP_UNMAP => {
                without(&[second, third, count])?;
                flags(0).map(|_| Self::Unmap {
                    at: DeviceAddr::new(first),
                })
            }
            OP_MAP_BLOCK => {
                without(&[second, third, count])?;
                flags(0).map(|_| Self::MapBlock { address: first })
            }
            OP_EXPORT => {
                without(&[count])?;
                Ok(Self::Export {
                    at: DeviceAddr::new(first),
                    bytes: second,
                    offset: third,
                    flags: flags(EXPORT_CLOSE_ON_EXEC | EXPORT_READ_WRITE)?,
                })
            }
            OP_TS_ALLOC => {
                without(&[first, second, third])?;
                flags(0).map(|_| Self::CreateTimestamps {
                    count: input.element_count,
                })
            }
            _ => Err(Errno::EINVAL),
        }
    }
}
