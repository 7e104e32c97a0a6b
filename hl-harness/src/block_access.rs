//! A block as each side of it reaches it: the device by device address, the process by its mapping.
//!
//! The driver has no side of its own. It writes a new block's header through the device, in the
//! privileged address space, before the block is shown to anybody: the first proof that the mapping
//! works.

use std::sync::Arc;

use hl_mem::ring::{BlockIndices, BlockRead, BlockWrite};
use mmu_core::DeviceAddr;

use crate::asic::{AccessError, Asic, InitiatorId};
use crate::host::{View, ViewError};

/// A block as an initiator of the device reaches it. Each access goes through the walker, and what
/// the walker refuses is the error; that an offset lies in the block is for it to judge too.
#[derive(Clone, Debug)]
pub struct DeviceBlock {
    asic: Arc<Asic>,
    initiator: InitiatorId,
    start: DeviceAddr,
}

impl DeviceBlock {
    /// The block at device address `start`, as `initiator` reaches it in its present mode.
    #[must_use]
    pub fn new(asic: &Arc<Asic>, initiator: InitiatorId, start: DeviceAddr) -> Self {
        Self {
            asic: Arc::clone(asic),
            initiator,
            start,
        }
    }

    fn at(&self, offset: u64) -> DeviceAddr {
        DeviceAddr::new(self.start.get().wrapping_add(offset))
    }
}

impl BlockIndices for DeviceBlock {
    type Error = AccessError;

    fn load_index(&mut self, offset: u64) -> Result<u32, AccessError> {
        self.asic.load_u32(self.initiator, self.at(offset))
    }

    fn store_index(&mut self, offset: u64, index: u32) -> Result<(), AccessError> {
        self.asic.store_u32(self.initiator, self.at(offset), index)
    }
}

impl BlockRead for DeviceBlock {
    fn read(&mut self, offset: u64, bytes: &mut [u8]) -> Result<(), AccessError> {
        self.asic.read(self.initiator, self.at(offset), bytes)
    }
}

impl BlockWrite for DeviceBlock {
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), AccessError> {
        self.asic.write(self.initiator, self.at(offset), bytes)
    }
}

/// A block as a process has it mapped. It can be a consumer's end and no producer's: a process may
/// write nothing but the page of its index.
#[derive(Clone, Copy, Debug)]
pub struct MappedBlock<'v>(&'v View);

impl<'v> MappedBlock<'v> {
    /// The block behind `view`.
    #[must_use]
    pub fn new(view: &'v View) -> Self {
        Self(view)
    }
}

/// An offset as the view takes it; one beyond its numbers is beyond its end.
fn within(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

impl BlockIndices for MappedBlock<'_> {
    type Error = ViewError;

    fn load_index(&mut self, offset: u64) -> Result<u32, ViewError> {
        self.0.load_u32(within(offset))
    }

    fn store_index(&mut self, offset: u64, index: u32) -> Result<(), ViewError> {
        self.0.store_u32(within(offset), index)
    }
}

impl BlockRead for MappedBlock<'_> {
    fn read(&mut self, offset: u64, bytes: &mut [u8]) -> Result<(), ViewError> {
        self.0.read(within(offset), bytes)
    }
}
