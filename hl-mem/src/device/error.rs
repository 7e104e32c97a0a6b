//! What can go wrong with a device, one variant for each decision a caller can take.

use core::fmt;

use mmu_core::{ConfirmError, DeviceAddr, DeviceLost};

use crate::dram::AllocateError;
use crate::handle::HandleError;
use crate::host::HostError;
use crate::mmu::MmuError;
use crate::space::{SpaceError, tells_establish};
use crate::va::LayoutError;

use super::{ForeignPrivilege, tells_unusable};

/// Why a device does not come up. The MMU is left disabled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum BringUpError {
    /// The pool has too few tables for the roots.
    NoTableMemory,
    /// There are more seats than the device may have users. Nothing was touched.
    TooManySeats {
        /// How many there may be.
        users: u16,
    },
    /// The device does not answer.
    DeviceLost,
    /// The nodes do not suffice for the address ranges.
    Addresses(LayoutError),
    /// The MMU refuses.
    Mmu(MmuError),
    /// The page for stray accesses could not be filled.
    DefaultPage,
}

impl fmt::Display for BringUpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTableMemory => f.write_str("the pool has too few tables for the roots"),
            Self::TooManySeats { users } => {
                write!(
                    f,
                    "there are more seats than users, of whom there may be {users}"
                )
            }
            Self::DeviceLost => f.write_str("the device does not answer"),
            Self::Addresses(error) => write!(f, "no allocator of device addresses: {error}"),
            Self::Mmu(error) => write!(f, "the MMU does not start: {error}"),
            Self::DefaultPage => f.write_str("the page for stray accesses could not be filled"),
        }
    }
}

impl core::error::Error for BringUpError {}

impl From<DeviceLost> for BringUpError {
    fn from(_: DeviceLost) -> Self {
        Self::DeviceLost
    }
}

/// Why a removal is not confirmed: what was removed stays in quarantine.
pub type Unconfirmed = ConfirmError<MmuError>;

/// Why there is no new kernel buffer. Nothing has changed, except where the device may have seen a
/// part of its mapping and does not confirm that it is gone: then its memory is in quarantine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum BufferError {
    /// The privilege is that of another device.
    ForeignPrivilege,
    /// The driver has [noted](crate::Device::note_lost) that the device is lost. Nothing has changed.
    Lost,
    /// The device was reset since the file was opened, which is of no use any more.
    Reset,
    /// The file is being [closed](crate::Context::close), which failed so far.
    Closing,
    /// The size is zero or too large.
    Size,
    /// There are as many buffers as there may be.
    TooManyBuffers,
    /// The file has as many handles as it may have.
    TooManyHandles,
    /// There is no storage for so many timestamps.
    TooManyTimestamps,
    /// The ASIC or the port has no such buffers.
    Unsupported,
    /// The host has not enough memory.
    Host(HostError),
    /// The buffer could not be mapped.
    Map(MapBufferError),
}

impl fmt::Display for BufferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ForeignPrivilege => ForeignPrivilege.fmt(f),
            Self::Lost => f.write_str("the device is lost"),
            Self::Reset => f.write_str("the device was reset since the file was opened"),
            Self::Closing => f.write_str("the file is being closed"),
            Self::Size => f.write_str("no buffer of that kind has that size"),
            Self::TooManyBuffers => f.write_str("there are as many buffers as there may be"),
            Self::TooManyHandles => f.write_str("the file has as many handles as it may have"),
            Self::TooManyTimestamps => f.write_str("there is no storage for so many timestamps"),
            Self::Unsupported => f.write_str("there are no buffers of that kind here"),
            Self::Host(error) => write!(f, "no memory for the buffer: {error}"),
            Self::Map(error) => write!(f, "no mapping of the buffer: {error}"),
        }
    }
}

impl core::error::Error for BufferError {}

/// Why a kernel buffer is not mapped. Nothing has changed, except as with [`BufferError`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum MapBufferError {
    /// The privilege is that of another device.
    ForeignPrivilege,
    /// The handle does not name a buffer of that kind of this file.
    Handle(HandleError),
    /// The buffer is mapped there already.
    Mapped {
        /// Where.
        at: DeviceAddr,
    },
    /// There are as many mappings as there may be.
    TooManyMappings,
    /// The driver has [noted](crate::Device::note_lost) that the device is lost. Nothing has changed.
    Lost,
    /// The device was reset since the file was opened: its address space leads nowhere any more.
    Reset,
    /// The file is being [closed](crate::Context::close), which failed so far.
    Closing,
    /// The pages could not be mapped.
    Space(SpaceError),
    /// The MMU did not take note of the mapping.
    Mmu(MmuError),
}

impl fmt::Display for MapBufferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ForeignPrivilege => ForeignPrivilege.fmt(f),
            Self::Handle(error) => write!(f, "{error}"),
            Self::Mapped { at } => write!(f, "the buffer is mapped at {at}"),
            Self::TooManyMappings => f.write_str("there are as many mappings as there may be"),
            Self::Lost => f.write_str("the device is lost"),
            Self::Reset => f.write_str("the device was reset since the file was opened"),
            Self::Closing => f.write_str("the file is being closed"),
            Self::Space(error) => write!(f, "{error}"),
            Self::Mmu(error) => write!(f, "the MMU did not take note of it: {error}"),
        }
    }
}

impl core::error::Error for MapBufferError {}

/// Why memory is not mapped in a window. Nothing has changed, except as with [`BufferError`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum MapWindowError {
    /// The privilege is that of another device.
    ForeignPrivilege,
    /// The ASIC has no such window.
    NoWindow,
    /// The memory is larger than the window, or the device does not reach it.
    Memory,
    /// Something is mapped in the window already.
    Occupied,
    /// There are as many mappings as there may be.
    TooManyMappings,
    /// The driver has [noted](crate::Device::note_lost) that the device is lost. Nothing has changed.
    Lost,
    /// The device was reset since the file was opened: its address space leads nowhere any more.
    Reset,
    /// The file is being [closed](crate::Context::close), which failed so far.
    Closing,
    /// The memory could not be mapped.
    Space(SpaceError),
    /// The MMU did not take note of the mapping.
    Mmu(MmuError),
}

impl fmt::Display for MapWindowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ForeignPrivilege => ForeignPrivilege.fmt(f),
            Self::NoWindow => f.write_str("the ASIC has no such window"),
            Self::Memory => {
                f.write_str("the memory does not fit in the window, or is out of reach")
            }
            Self::Occupied => f.write_str("something is mapped in the window already"),
            Self::TooManyMappings => f.write_str("there are as many mappings as there may be"),
            Self::Lost => f.write_str("the device is lost"),
            Self::Reset => f.write_str("the device was reset since the file was opened"),
            Self::Closing => f.write_str("the file is being closed"),
            Self::Space(error) => write!(f, "{error}"),
            Self::Mmu(error) => write!(f, "the MMU did not take note of it: {error}"),
        }
    }
}

impl core::error::Error for MapWindowError {}

/// Why there is no device memory. Nothing has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum DramError {
    /// The driver has [noted](crate::Device::note_lost) that the device is lost. Nothing has changed.
    Lost,
    /// The device was reset since the file was opened, which is of no use any more.
    Reset,
    /// The file is being [closed](crate::Context::close), which failed so far.
    Closing,
    /// The pool refuses.
    Allocate(AllocateError),
    /// Pages that another owner used could not be scrubbed.
    Scrub,
}

impl fmt::Display for DramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost => f.write_str("the device is lost"),
            Self::Reset => f.write_str("the device was reset since the file was opened"),
            Self::Closing => f.write_str("the file is being closed"),
            Self::Allocate(error) => write!(f, "{error}"),
            Self::Scrub => f.write_str("device memory could not be scrubbed"),
        }
    }
}

impl core::error::Error for DramError {}

tells_unusable!(BufferError, MapBufferError, MapWindowError, DramError);
tells_establish!(MapBufferError, MapWindowError);

/// Why a block that is given up, or a file that is closed, is still there. It stays in quarantine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum RetireError<E> {
    /// The engines could not be stopped; the block, or what the user has, stays mapped.
    Engines(E),
    /// The removal is not confirmed.
    Unconfirmed(Unconfirmed),
}

impl<E: fmt::Display> fmt::Display for RetireError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Engines(error) => write!(f, "the engines do not stop: {error}"),
            Self::Unconfirmed(error) => write!(f, "{error}"),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> core::error::Error for RetireError<E> {}
