//! Blocks that the driver makes for itself, and that no file has.

use core::fmt;

use crate::buffer::{BufferId, Name};
use crate::context::MAX_BLOCK_BYTES;
use crate::port::{Engines, Port};
use crate::profile::Asic;

use super::buffers::whole_pages;
use super::{BufferError, Device, ForeignPrivilege, KernelPages, Privilege, RetireError};

/// Which pages a block is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum BlockPages {
    /// Any, wherever they lie: [`HostMemory::allocate`](crate::host::HostMemory::allocate).
    #[default]
    Scattered,
    /// One run of coherent memory: [`HostMemory::allocate_contiguous`](crate::host::HostMemory::allocate_contiguous).
    Contiguous,
}

/// Why a block of the driver's own is not there, or does not go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum OwnBlockError<E> {
    /// The privilege is that of another device. Nothing was done.
    ForeignPrivilege,
    /// It is no block of the driver's own, or was given up before. Nothing was done.
    Unknown,
    /// It is given up, and in quarantine until [`Device::settle_quarantine`] succeeds.
    Retire(RetireError<E>),
}

impl<E> From<ForeignPrivilege> for OwnBlockError<E> {
    fn from(_: ForeignPrivilege) -> Self {
        Self::ForeignPrivilege
    }
}

impl<E: fmt::Display> fmt::Display for OwnBlockError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ForeignPrivilege => ForeignPrivilege.fmt(f),
            Self::Unknown => f.write_str("the driver has no such block of its own"),
            Self::Retire(error) => write!(f, "{error}"),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> core::error::Error for OwnBlockError<E> {}

impl<A: Asic, P: Port> Device<'_, A, P> {
    /// Allocates a zeroed block of `bytes`, rounded up to whole pages, and maps it in the privileged
    /// address space, for the driver itself: a queue of the device's own processor, say (facts KM-4). No
    /// handle names it, and no file takes it along.
    ///
    /// [`block_range`](Self::block_range) tells where the device finds it. A reset undoes the mapping:
    /// destroy it then, and make another after [`recover`](Self::recover).
    ///
    /// # Errors
    ///
    /// Each part that can refuse has its variant of [`BufferError`].
    pub fn create_block(
        &self,
        privilege: &Privilege,
        bytes: u64,
        pages: BlockPages,
    ) -> Result<BufferId, BufferError> {
        self.check(privilege)?;
        self.usable()?;
        let bytes = whole_pages::<P>(bytes, MAX_BLOCK_BYTES)?;
        self.allocate_block(Name::Driver, bytes, pages)
    }

    /// Gives `look` the pages of a block that [`create_block`](Self::create_block) made, with the lock of
    /// all kernel buffers held: to find out where the processor has them.
    ///
    /// # Errors
    ///
    /// * [`OwnBlockError::ForeignPrivilege`];
    /// * [`OwnBlockError::Unknown`] when it is no block of the driver's own.
    pub fn with_block<T>(
        &self,
        privilege: &Privilege,
        block: BufferId,
        look: impl FnOnce(&KernelPages<P>) -> T,
    ) -> Result<T, OwnBlockError<<P::Engines as Engines>::Error>> {
        self.check(privilege)?;
        let buffers = &mut self.shown.lock().buffers;
        let pages = buffers.drivers_own(block).ok_or(OwnBlockError::Unknown)?;
        Ok(look(pages))
    }

    /// Gives up a block that [`create_block`](Self::create_block) made: the device's access goes after its
    /// producer has stopped, and then the memory.
    ///
    /// # Errors
    ///
    /// * [`OwnBlockError::ForeignPrivilege`];
    /// * [`OwnBlockError::Unknown`] when it is no block of the driver's own;
    /// * [`OwnBlockError::Retire`] when the producer does not stop or the removal is not confirmed.
    pub fn destroy_block(
        &self,
        privilege: &Privilege,
        block: BufferId,
    ) -> Result<(), OwnBlockError<<P::Engines as Engines>::Error>> {
        self.check(privilege)?;
        if !self.shown.lock().buffers.disown(block) {
            return Err(OwnBlockError::Unknown);
        }
        self.retire_block(block).map_err(OwnBlockError::Retire)
    }
}
