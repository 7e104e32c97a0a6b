//! How the device reaches host memory.

use core::fmt;

use mmu_core::BusAddr;

/// Host memory as the device sees it: by bus address, over PCIe.
///
/// The addresses are *host* bus addresses, what the operating system's DMA API hands out. Goya and
/// Gaudi put host memory at an offset inside their own address space (facts DM-2); the software ASIC
/// takes that offset off before it comes here, so an implementer never sees it.
///
/// Every method may be called from several threads at once. Bytes move without order among each
/// other; [`store_u32`](Self::store_u32) is a release (everything the same thread wrote before is
/// visible to whoever loads the value), [`load_u32`](Self::load_u32) and
/// [`load_words`](Self::load_words) are acquires.
///
/// # Errors
///
/// Every method fails with [`BusError`] when part of the range is not host memory (or misaligned,
/// for the numbers); nothing was transferred then.
pub trait HostBus: fmt::Debug + Send + Sync {
    /// Copies host memory into `buffer`.
    fn read(&self, address: BusAddr, buffer: &mut [u8]) -> Result<(), BusError>;

    /// Copies `bytes` into host memory.
    fn write(&self, address: BusAddr, bytes: &[u8]) -> Result<(), BusError>;

    /// Loads an aligned 32-bit number, acquiring.
    fn load_u32(&self, address: BusAddr) -> Result<u32, BusError>;

    /// Stores an aligned 32-bit number, releasing.
    fn store_u32(&self, address: BusAddr, value: u32) -> Result<(), BusError>;

    /// Loads aligned 64-bit words, each in one piece, acquiring: how table entries are fetched.
    fn load_words(&self, address: BusAddr, words: &mut [u64]) -> Result<(), BusError>;
}

/// Nothing answers at this bus address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BusError {
    /// The first address that did not answer.
    pub address: BusAddr,
}

impl fmt::Display for BusError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no host memory at bus address {}", self.address)
    }
}

impl core::error::Error for BusError {}
