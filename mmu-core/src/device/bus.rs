//! What an embedder implements to have tables behind a bus.

use crate::addr::BusAddr;
use crate::memory::DeviceLost;

/// The way to table memory behind a bus.
///
/// # For implementers
///
/// Addresses are those that entries hold: device-physical addresses of the device's own memory.
/// Writes may be posted, but arrive in the order of the calls and each entry whole.
pub trait TableBus {
    /// Writes `entries` to consecutive 8-byte words, beginning at `address`. No other call is made
    /// while this one runs, and an implementation that knows the device to be gone may return at
    /// once.
    fn write(&self, address: BusAddr, entries: impl Iterator<Item = u64>);

    /// Reads the entry at `address`. Never called while mapping or unmapping.
    fn read(&self, address: BusAddr) -> u64;

    /// Waits until everything written so far has arrived. Called once for each operation.
    ///
    /// # Errors
    ///
    /// [`DeviceLost`] when the device does not answer, so that nothing is known of the writes.
    fn flush(&self) -> Result<(), DeviceLost>;
}
