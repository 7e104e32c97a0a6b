//! The engine that writes records into a block, and how it reaches memory: through the PMMU.

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use hl_mem::ring::{BlockIndices, BlockRead, BlockWrite};
use mmu_core::DeviceAddr;

use super::{PMMU, TranslationFault};
use crate::memory;

/// The engine: it works in steps, and looks at a flag before each.
#[derive(Debug)]
pub struct Engine {
    stopped: AtomicBool,
}

impl Engine {
    pub(super) const fn new() -> Self {
        Self {
            stopped: AtomicBool::new(true),
        }
    }

    /// Lets the engine work.
    pub fn start(&self) {
        self.stopped.store(false, Ordering::Release);
    }

    /// Has the engine take no further step.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
    }

    /// Whether the engine may take a step.
    pub fn is_running(&self) -> bool {
        !self.stopped.load(Ordering::Acquire)
    }
}

/// A block as the engine reaches it: each access is translated.
#[derive(Clone, Copy, Debug)]
pub struct DeviceBlock {
    asid: u32,
    start: DeviceAddr,
}

impl DeviceBlock {
    /// The block at `start`, in an address space.
    pub const fn new(asid: u32, start: DeviceAddr) -> Self {
        Self { asid, start }
    }

    fn word(self, offset: u64) -> Result<&'static AtomicU32, TranslationFault> {
        let at = self.start.get().wrapping_add(offset);
        let bus = PMMU.translate(self.asid, at)?;
        memory::word(bus).ok_or(TranslationFault {
            at: DeviceAddr::new(at),
        })
    }
}

impl BlockIndices for DeviceBlock {
    type Error = TranslationFault;

    fn load_index(&mut self, offset: u64) -> Result<u32, TranslationFault> {
        Ok(u32::from_le(self.word(offset)?.load(Ordering::Acquire)))
    }

    fn store_index(&mut self, offset: u64, index: u32) -> Result<(), TranslationFault> {
        self.word(offset)?.store(index.to_le(), Ordering::Release);
        Ok(())
    }
}

impl BlockRead for DeviceBlock {
    fn read(&mut self, offset: u64, bytes: &mut [u8]) -> Result<(), TranslationFault> {
        for (chunk, at) in bytes
            .as_chunks_mut()
            .0
            .iter_mut()
            .zip((offset..).step_by(4))
        {
            *chunk = self.word(at)?.load(Ordering::Relaxed).to_ne_bytes();
        }
        Ok(())
    }
}

impl BlockWrite for DeviceBlock {
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), TranslationFault> {
        for (chunk, at) in bytes.as_chunks().0.iter().zip((offset..).step_by(4)) {
            self.word(at)?
                .store(u32::from_ne_bytes(*chunk), Ordering::Relaxed);
        }
        Ok(())
    }
}
