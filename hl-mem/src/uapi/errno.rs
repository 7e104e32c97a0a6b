//! What user space is told: which error becomes which number.

use crate::context::{
    DestroyError, ExportDramError, MapDramError, MapUserError, OpenError, RegisterBlockError,
    UnmapUserError, ViewError,
};
use crate::device::{BufferError, DramError, MapBufferError, RetireError, Unconfirmed, Unusable};
use crate::dram::{AllocateError as DramAllocateError, PackError};
use crate::errno::Errno;
use crate::handle::HandleError;
use crate::host::HostError;
use crate::mmu::MmuError;
use crate::space::SpaceError;
use crate::va::AllocateError;

impl From<HostError> for Errno {
    fn from(error: HostError) -> Self {
        match error {
            HostError::NoMemory => Self::ENOMEM,
            HostError::Fault { .. } => Self::EFAULT,
            HostError::Unsupported => Self::EOPNOTSUPP,
            // Facts PN-4, EX-3: the system's own reason.
            HostError::Other(errno) => errno,
        }
    }
}

impl From<Unusable> for Errno {
    fn from(unusable: Unusable) -> Self {
        match unusable {
            // As the habanalabs driver answers (facts IO-4, CB-1).
            Unusable::Lost => Self::EBUSY,
            // Waiting does not help: the file is that of a device which is gone (facts MP-1), or of nobody.
            Unusable::Reset | Unusable::Closing => Self::ENODEV,
        }
    }
}

impl From<MmuError> for Errno {
    fn from(error: MmuError) -> Self {
        match error {
            // As the habanalabs driver answers (facts 6.4, 6.6, 9).
            MmuError::TimedOut { .. } => Self::ETIMEDOUT,
            _ => Self::EIO,
        }
    }
}

impl From<Unconfirmed> for Errno {
    fn from(error: Unconfirmed) -> Self {
        match error {
            Unconfirmed::Invalidate(error) => error.into(),
            Unconfirmed::Flush(_) => Self::EIO,
        }
    }
}

impl From<SpaceError> for Errno {
    fn from(error: SpaceError) -> Self {
        match error {
            SpaceError::Addresses(AllocateError::ZeroLength) => Self::EINVAL,
            SpaceError::Addresses(_) => Self::ENOMEM,
            SpaceError::Tables(mmu_core::MapError::NoTableMemory { .. }) => Self::ENOMEM,
            SpaceError::Tables(mmu_core::MapError::AlreadyMapped { .. }) => Self::EINVAL,
            SpaceError::Tables(mmu_core::MapError::DeviceLost) => Self::EBUSY,
            SpaceError::Tables(_) | SpaceError::Runs => Self::EFAULT,
        }
    }
}

impl From<MapUserError> for Errno {
    fn from(error: MapUserError) -> Self {
        match error {
            MapUserError::TooManyMappings | MapUserError::Budget(_) => Self::ENOMEM,
            MapUserError::Host(error) => error.into(),
            // Facts PN-4.
            MapUserError::Pinned { asked, got } if got < asked => Self::ENOMEM,
            MapUserError::Pinned { .. } => Self::EFAULT,
            MapUserError::Space(error) => error.into(),
            MapUserError::Mmu(error) => error.into(),
            MapUserError::Lost => Unusable::Lost.into(),
            MapUserError::Reset => Unusable::Reset.into(),
            MapUserError::Closing => Unusable::Closing.into(),
        }
    }
}

impl From<DramError> for Errno {
    fn from(error: DramError) -> Self {
        match error {
            DramError::Lost => Unusable::Lost.into(),
            DramError::Reset => Unusable::Reset.into(),
            DramError::Closing => Unusable::Closing.into(),
            DramError::Allocate(DramAllocateError::ZeroLength | DramAllocateError::TooLarge) => {
                Self::EINVAL
            }
            DramError::Allocate(DramAllocateError::ScrubUnderWay) => Self::EBUSY,
            DramError::Allocate(_) => Self::ENOMEM,
            DramError::Scrub => Self::EIO,
        }
    }
}

impl From<PackError> for Errno {
    fn from(error: PackError) -> Self {
        match error {
            PackError::NotOwner => Self::EPERM,
            PackError::Lost => Self::ENODEV,
            _ => Self::EINVAL,
        }
    }
}

impl From<MapDramError> for Errno {
    fn from(error: MapDramError) -> Self {
        match error {
            // Facts 6.4, 6.2: no handle names memory that can be mapped there.
            MapDramError::Unsupported => Self::EINVAL,
            MapDramError::TooManyMappings => Self::ENOMEM,
            MapDramError::Pack(error) => error.into(),
            MapDramError::Space(error) => error.into(),
            MapDramError::Mmu(error) => error.into(),
            MapDramError::Lost => Unusable::Lost.into(),
            MapDramError::Reset => Unusable::Reset.into(),
            MapDramError::Closing => Unusable::Closing.into(),
        }
    }
}

impl From<UnmapUserError> for Errno {
    fn from(error: UnmapUserError) -> Self {
        match error {
            // Facts 6.6.
            UnmapUserError::NotMapped { .. } | UnmapUserError::Exported { .. } => Self::EINVAL,
            UnmapUserError::Unconfirmed(error) => error.into(),
        }
    }
}

impl From<OpenError> for Errno {
    fn from(error: OpenError) -> Self {
        match error {
            // Facts 10.2.
            OpenError::Lost => Self::EAGAIN,
            OpenError::NoAddressSpace => Self::EBUSY,
            OpenError::Storage(_) => Self::ENOMEM,
            OpenError::DefaultPage(error) => SpaceError::Tables(error).into(),
            OpenError::Engines => Self::EIO,
        }
    }
}

impl From<BufferError> for Errno {
    fn from(error: BufferError) -> Self {
        match error {
            BufferError::ForeignPrivilege => Self::EPERM,
            BufferError::Lost => Unusable::Lost.into(),
            BufferError::Reset => Unusable::Reset.into(),
            BufferError::Closing => Unusable::Closing.into(),
            BufferError::Size => Self::EINVAL,
            BufferError::TooManyBuffers
            | BufferError::TooManyHandles
            | BufferError::TooManyTimestamps => Self::ENOMEM,
            BufferError::Unsupported => Self::EOPNOTSUPP,
            BufferError::Host(error) => error.into(),
            BufferError::Map(error) => error.into(),
        }
    }
}

impl From<MapBufferError> for Errno {
    fn from(error: MapBufferError) -> Self {
        match error {
            MapBufferError::ForeignPrivilege => Self::EPERM,
            MapBufferError::Handle(_) | MapBufferError::Mapped { .. } => Self::EINVAL,
            MapBufferError::TooManyMappings => Self::ENOMEM,
            MapBufferError::Space(error) => error.into(),
            MapBufferError::Mmu(error) => error.into(),
            MapBufferError::Lost => Unusable::Lost.into(),
            MapBufferError::Reset => Unusable::Reset.into(),
            MapBufferError::Closing => Unusable::Closing.into(),
        }
    }
}

impl From<HandleError> for Errno {
    fn from(_: HandleError) -> Self {
        // As the habanalabs driver answers (facts MP-2, MM-9).
        Self::EINVAL
    }
}

impl From<RegisterBlockError> for Errno {
    fn from(error: RegisterBlockError) -> Self {
        match error {
            RegisterBlockError::Lost => Unusable::Lost.into(),
            RegisterBlockError::Reset => Unusable::Reset.into(),
            RegisterBlockError::Closing => Unusable::Closing.into(),
            // Facts MB-1.
            RegisterBlockError::NoBlocks => Self::EPERM,
            RegisterBlockError::Unknown => Self::EINVAL,
            RegisterBlockError::TooManyHandles => Self::ENOMEM,
        }
    }
}

impl From<ExportDramError> for Errno {
    fn from(error: ExportDramError) -> Self {
        match error {
            ExportDramError::Lost => Unusable::Lost.into(),
            ExportDramError::Reset => Unusable::Reset.into(),
            ExportDramError::Closing => Unusable::Closing.into(),
            // Facts EX-1.
            ExportDramError::NotMapped { .. }
            | ExportDramError::Range(_)
            | ExportDramError::OutOfReach => Self::EINVAL,
            ExportDramError::TooMany => Self::ENOMEM,
        }
    }
}

impl From<ViewError> for Errno {
    fn from(error: ViewError) -> Self {
        match error {
            // As the habanalabs driver answers (facts MP-1, MP-2).
            ViewError::Lost | ViewError::Reset | ViewError::Closing => Self::ENODEV,
            ViewError::Handle(_) | ViewError::Length { .. } | ViewError::Viewed => Self::EINVAL,
            ViewError::Host(error) => error.into(),
        }
    }
}

impl<E> From<DestroyError<E>> for Errno {
    fn from(error: DestroyError<E>) -> Self {
        match error {
            DestroyError::Handle(_) => Self::EINVAL,
            DestroyError::Retire(error) => error.into(),
            DestroyError::Unconfirmed(error) => error.into(),
        }
    }
}

impl<E> From<RetireError<E>> for Errno {
    fn from(error: RetireError<E>) -> Self {
        match error {
            RetireError::Engines(_) => Self::EIO,
            RetireError::Unconfirmed(error) => error.into(),
        }
    }
}
