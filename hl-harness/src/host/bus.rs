//! Host memory as a device sees it, and the judgement of what it touches.

use std::sync::atomic::Ordering;

use mmu_core::BusAddr;

use super::{BUS_BASE, FRAME_SIZE, FREE, Frame, Host, UNMAPPED, UNPINNED};
use crate::asic::{AccessKind, BusError, HostBus};
use crate::log::Event;
use crate::words::WORD;

impl Host {
    /// The byte offset of `len` bytes at a bus address.
    pub(crate) fn offset(
        &self,
        address: BusAddr,
        len: usize,
        align: u64,
    ) -> Result<usize, BusError> {
        let fail = BusError { address };
        let offset = address.offset_from(BUS_BASE).ok_or(fail)? as usize;
        let end = offset.checked_add(len).ok_or(fail)?;
        let size = self.device_access.len() * FRAME_SIZE;
        if end > size || !address.is_multiple_of(align) {
            return Err(fail);
        }
        Ok(offset)
    }

    /// Checks a device's access and judges the pages it touches.
    fn device_offset(
        &self,
        address: BusAddr,
        len: usize,
        align: u64,
        access: AccessKind,
    ) -> Result<usize, BusError> {
        let offset = self.offset(address, len, align)?;
        for number in offset / FRAME_SIZE..(offset + len).div_ceil(FRAME_SIZE) {
            let counter = match self.device_access[number].load(Ordering::Acquire) {
                FREE => &self.statistics.free_accesses,
                UNPINNED => &self.statistics.unpinned_accesses,
                UNMAPPED => &self.statistics.unmapped_accesses,
                _ => continue,
            };
            counter.fetch_add(1, Ordering::Relaxed);
            let frame = Frame(number as u32);
            self.log.record(Event::StrayAccess {
                frame,
                access,
                owner: self.owner(frame),
            });
        }
        Ok(offset)
    }
}

impl HostBus for Host {
    fn read(&self, address: BusAddr, buffer: &mut [u8]) -> Result<(), BusError> {
        let offset = self.device_offset(address, buffer.len(), 1, AccessKind::Read)?;
        self.memory.read(offset, buffer);
        Ok(())
    }

    fn write(&self, address: BusAddr, bytes: &[u8]) -> Result<(), BusError> {
        let offset = self.device_offset(address, bytes.len(), 1, AccessKind::Write)?;
        self.memory.write(offset, bytes);
        Ok(())
    }

    fn load_u32(&self, address: BusAddr) -> Result<u32, BusError> {
        let offset = self.device_offset(address, 4, 4, AccessKind::Read)?;
        Ok(self.memory.load_u32(offset))
    }

    fn store_u32(&self, address: BusAddr, value: u32) -> Result<(), BusError> {
        let offset = self.device_offset(address, 4, 4, AccessKind::Write)?;
        self.memory.store_u32(offset, value);
        Ok(())
    }

    fn load_words(&self, address: BusAddr, out: &mut [u64]) -> Result<(), BusError> {
        let bytes = out.len() * WORD;
        let offset = self.device_offset(address, bytes, 8, AccessKind::Read)?;
        for (word, at) in out.iter_mut().zip((offset..).step_by(WORD)) {
            *word = self.memory.load_u64(at);
        }
        Ok(())
    }
}
