//! The memory interface that user space sees: bytes in, bytes or an errno out.
//!
//! The structures are byte-compatible with those of the habanalabs driver (facts 6.1), so that a
//! port's ioctl is: copy in, [`dispatch`] or [`dispatch_command_buffer`], copy out; and its mmap is
//! [`Context::mmap`] with the offset as the handle. This is the edge where numbers become types:
//! nothing but the parser here makes a [`UserRange`](crate::host::UserRange), and it makes nothing but that of an address
//! in a request. [The chapter](crate::guide::uapi) has an example.
//!
//! # Where this differs from the C driver
//!
//! | request | C driver | here | because |
//! |---|---|---|---|
//! | unknown flag bits | ignored (facts IO-3) | `EINVAL` | a bit that is ignored can never mean anything later (HZ-42) |
//! | flags that mean nothing for the operation | ignored | `EINVAL` | the same |
//! | fields that the operation does not have | ignored | `EINVAL`, unless they are zero; the context's number is ignored (facts IO-5) | the same; the driver's own users fill in the number |
//! | FREE of another's memory | succeeds (facts F-1) | `EPERM`, as MAP of it | it would be taken from under its owner (HZ-30) |
//! | FREE with upper handle bits set | ignored (facts 6.3) | `EINVAL` | it names nothing (HZ-10) |
//! | FREE, UNMAP and DESTROY while the device is lost | `EBUSY` (facts IO-4, CB-1) | done, as far as the device need not say anything; otherwise quarantine and `EIO` | who gives back need not wait to be rid of it |
//! | anything but those, in a file that was opened before a reset, or whose closing failed | as in any other: the driver looks at the device only (facts IO-4) | `ENODEV` | its address space leads nowhere any more; `EBUSY` would have it wait for ever |
//! | MAP, while nobody has [noted](crate::Device::note_lost) that the device does not answer | an answer that is no error (HZ-43) | `EIO`, or `EBUSY` where table memory did not answer | nothing is pretended |
//! | open while every address space has its user | `EBUSY` with one, `ENOMEM` where no ASID is left (facts 10.2) | `EBUSY` | it is one and the same reason, and no memory is short |
//! | ALLOC beyond the handle table | `EFAULT` (facts 6.2) | `ENOMEM` | no address of the process is bad |
//! | ALLOC of memory that is being scrubbed for another | no scrub (facts DRAM-3); `ENOMEM` for too few pages | `EBUSY` | there is room when that has ended |
//! | EXPORT through [`dispatch`], which has no [`Exporter`] | always there | `EOPNOTSUPP` | the port has no such files |
//! | command buffer of 0 bytes | raised to a page (facts CB-1) | `EINVAL` | nobody wants nothing, and ALLOC of it is refused as well |
//! | command buffer, on a port without coherent memory; timestamps, on one that cannot write them | always there | `EOPNOTSUPP` | another try finds none either |
//! | command buffer that is not made for any other reason | `ENOMEM` (facts CB-1) | what the reason becomes elsewhere: `ETIMEDOUT` for an invalidation, say | `ENOMEM` has a process wait for memory that is not short |
//! | DESTROY of a command buffer whose invalidation fails | succeeds, and its memory is freed (facts CB-5) | the error, and quarantine | the device may still read it (HZ-07) |
//! | MAP beyond the locked-memory limit | no limit (facts MH-9) | `ENOMEM`, as `mlock` | pinned memory is nobody else's (HZ-41) |
//! | MAP with FORCE_HINT of memory that does not begin on a page boundary | `EINVAL` (facts MH-2) | its first page is at the hint, and the answer is as far into it | it means something, and nothing is in the way |
//! | MAP at a hint in the range for pages of large memory, or the other way round | refused (facts PK-2, MH-1) | honoured; among the pages, with small leaves | what the hint is in depends on how the pages happen to lie, which no process knows |
//! | MAP of large memory where the range for it is full | `ENOMEM` | it goes among the pages | there is room |
//! | MAP at a hint, up to the end of what is free | refused (facts AL-6) | honoured | the driver's bounds are off by one (HZ-11) |
//! | UNMAP whose invalidation fails | `ETIMEDOUT`, and memory is released all the same (facts UN-3) | the same error, and quarantine | the device may still use it (HZ-07) |
//! | ALLOC where the ASIC does not map device memory (Gaudi) | handle 0, and nothing is allocated (facts 6.2) | memory and a handle, as elsewhere | two users would use the same memory |
//! | EXPORT of it there | any of it, by its address (facts EX-2) | `EINVAL` | nobody owns memory by its address |
//! | TS_ALLOC of 0 timestamps | `ENOMEM` (facts TS-1) | `EINVAL`, as for too many | no memory is short, and the same request never succeeds |
//! | mmap of timestamps for writing | possible | they are shown read-only | the driver alone writes them |
//! | command buffer with MAP on Goya and Gaudi | `EINVAL` (facts CB-3) | it is mapped | their MMUs can, and nobody relies on a refusal |
//! | handle of the wrong kind, or with other bits set | accepted (facts MM-4, MM-5) | `EINVAL` | it names nothing (HZ-17) |

mod command_buffer;
mod errno;
mod layout;
mod memory;
#[cfg(test)]
mod tests;

pub use crate::errno::Errno;
pub use command_buffer::{
    CommandBufferInput, CommandBufferOutput, FLAG_DEVICE_ADDRESS, FLAG_MAP, OP_CREATE, OP_DESTROY,
    OP_INFO, dispatch_command_buffer,
};
pub use memory::{
    EXPORT_CLOSE_ON_EXEC, EXPORT_READ_WRITE, FLAG_CONTIGUOUS, FLAG_FORCE_HINT, FLAG_PREFETCH,
    FLAG_SHARED, FLAG_USERPTR, MemoryInput, MemoryOutput, OP_ALLOC, OP_EXPORT, OP_FREE, OP_MAP,
    OP_MAP_BLOCK, OP_TS_ALLOC, OP_UNMAP, Request,
};

use core::fmt;

use crate::context::{Context, DramExport};
use crate::dram::{Contiguity, PackHandle, Sharing};
use crate::host::{DeviceAccess, HostMemory};
use crate::port::Port;
use crate::profile::Asic;

/// Makes a file of an export: in a kernel, a `dma-buf` and a descriptor for it. Called with no lock held.
pub trait Exporter {
    /// Makes a file that owns `export` and a descriptor for it, with the flags
    /// [`EXPORT_CLOSE_ON_EXEC`] and [`EXPORT_READ_WRITE`]. When the file goes,
    /// [`Context::end_export`] takes the export back.
    ///
    /// # Errors
    ///
    /// Hands the export back with what the process is told.
    fn export(&mut self, export: DramExport, flags: u32) -> Result<i32, ExportRefused>;
}

/// Why there is no file of an export, which goes back to its context.
#[derive(Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[must_use = "the memory stays exported until the export is ended"]
pub struct ExportRefused {
    /// The export.
    pub export: DramExport,
    /// What the process is told.
    pub errno: Errno,
}

impl fmt::Display for ExportRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no file of the {}: {}", self.export, self.errno)
    }
}

impl core::error::Error for ExportRefused {}

/// No exports: the request is refused with `EOPNOTSUPP`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoExports;

impl Exporter for NoExports {
    fn export(&mut self, export: DramExport, _flags: u32) -> Result<i32, ExportRefused> {
        Err(ExportRefused {
            export,
            errno: Errno::EOPNOTSUPP,
        })
    }
}

/// Carries out a memory request of the process that has `context` open. Exports are refused.
///
/// # Errors
///
/// `EINVAL` for bytes that are no [`MemoryInput`], whatever the device does; those of [`Request::parse`],
/// unless the device is of no use to this file, which is then the answer; and what the operation's own
/// error becomes: see the `From` implementations of [`Errno`].
pub fn dispatch<A: Asic, P: Port>(
    context: &Context<'_, '_, A, P>,
    bytes: &[u8],
) -> Result<MemoryOutput, Errno> {
    dispatch_with(context, bytes, &mut NoExports)
}

/// Carries out a memory request as [`dispatch`] does, with `exporter` to make files of exports.
///
/// # Errors
///
/// Those of [`dispatch`], and the exporter's.
pub fn dispatch_with<A: Asic, P: Port>(
    context: &Context<'_, '_, A, P>,
    bytes: &[u8],
    exporter: &mut impl Exporter,
) -> Result<MemoryOutput, Errno> {
    carry_out(context, bytes, exporter)
}

/// [`dispatch_with`], whose code is the same for every exporter.
fn carry_out<A: Asic, P: Port>(
    context: &Context<'_, '_, A, P>,
    bytes: &[u8],
    exporter: &mut dyn Exporter,
) -> Result<MemoryOutput, Errno> {
    let input = MemoryInput::from_bytes(bytes).ok_or(Errno::EINVAL)?;
    let request = Request::parse(&input, P::Host::PAGE_BYTES);
    let value = match request.map_err(|_| malformed(context))? {
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
        Request::MapBlock { address } => {
            let (handle, bytes) = context.register_block(address)?;
            // Registers are a part of a bar of less than 4 GiB.
            let size = u32::try_from(bytes).unwrap_or(u32::MAX);
            return Ok(MemoryOutput::block(handle.get(), size));
        }
        Request::Export {
            at,
            bytes,
            offset,
            flags,
        } => {
            let export = context.export_dram(at, bytes, offset)?;
            return match exporter.export(export, flags) {
                Ok(descriptor) => Ok(MemoryOutput::descriptor(descriptor)),
                Err(ExportRefused { export, errno }) => {
                    // It is this context's own, which takes it back.
                    let _ = context.end_export(export);
                    Err(errno)
                }
            };
        }
        Request::CreateTimestamps { count } => context.create_timestamps(count.into())?.get(),
    };
    Ok(MemoryOutput::new(value))
}

/// What a request is told that cannot be understood: as any other first, that the device is of no use
/// (facts IO-4, CB-1). A request that is understood is told so by its operation.
#[cold]
fn malformed<A: Asic, P: Port>(context: &Context<'_, '_, A, P>) -> Errno {
    match context.usable() {
        Ok(()) => Errno::EINVAL,
        Err(unusable) => unusable.into(),
    }
}
