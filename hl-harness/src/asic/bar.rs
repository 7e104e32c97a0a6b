//! Device DRAM from the host's side: the BAR, and a way in for tests.

use core::fmt;

use mmu_core::BusAddr;

use super::{Asic, Completion, Operation};
use crate::log::Event;

/// An access through the BAR that does not fit in the window or in DRAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutsideBar {
    /// The offset in the window.
    pub offset: u64,
}

impl fmt::Display for OutsideBar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "offset {:#x} is outside the bar window or misaligned",
            self.offset
        )
    }
}

impl core::error::Error for OutsideBar {}

impl Asic {
    /// Bytes of the BAR window.
    #[must_use]
    pub fn bar_size(&self) -> u64 {
        self.bar.size()
    }

    /// The physical address of device DRAM behind the window's first byte.
    #[must_use]
    pub fn bar_base(&self) -> BusAddr {
        BusAddr::new(self.dram_base + self.bar.base())
    }

    /// Moves the window so that `address`, a physical address of device DRAM, lies in it; the window
    /// itself starts at a multiple of its size (counted from the start of DRAM). Returns where.
    ///
    /// # Errors
    ///
    /// [`OutsideBar`] where `address` is not device DRAM; the window stays.
    pub fn bar_move(&self, address: BusAddr) -> Result<BusAddr, OutsideBar> {
        let offset = address.get().wrapping_sub(self.dram_base);
        if !self.dram.holds(offset, 1) {
            return Err(OutsideBar { offset });
        }
        if !self.is_lost() {
            self.bar.set_base(offset & !(self.bar.size() - 1));
        }
        Ok(self.bar_base())
    }

    /// Writes one word through the BAR. See [`bar_write_words`](Self::bar_write_words).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn bar_write_u64(&self, offset: u64, value: u64) -> Result<(), OutsideBar> {
        self.bar_write_words(offset, &[value])
    }

    /// Writes words through the BAR from byte `offset` of the window on, a multiple of eight. The writes
    /// are posted: no engine and no walk sees them until [`bar_read`](Self::bar_read) (of anything)
    /// has returned. They vanish while the device is lost.
    ///
    /// # Errors
    ///
    /// [`OutsideBar`] for a misaligned offset or a range that leaves the window or DRAM; nothing is
    /// written.
    pub fn bar_write_words(&self, offset: u64, values: &[u64]) -> Result<(), OutsideBar> {
        let len = 8 * values.len() as u64;
        let target = self.bar.target(offset, len, &self.dram);
        let target = target.filter(|target| target % 8 == 0);
        let target = target.ok_or(OutsideBar { offset })?;
        if !self.is_there() {
            return Ok(());
        }
        self.counters.posted_writes.add(values.len() as u64);
        self.bar.post(target, values, &self.dram);
        Ok(())
    }

    /// Reads bytes through the BAR; every write posted before has arrived when it returns. All ones
    /// while the device is lost, and where [`Operation::BarRead`] is made to fail.
    ///
    /// # Errors
    ///
    /// [`OutsideBar`] for a range that leaves the window or DRAM; nothing is flushed.
    pub fn bar_read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), OutsideBar> {
        let len = buffer.len() as u64;
        let target = self.bar.target(offset, len, &self.dram);
        let target = target.ok_or(OutsideBar { offset })?;
        let answered =
            self.is_there() && self.completion_of(Operation::BarRead) != Completion::Never;
        if !answered {
            buffer.fill(0xFF);
            return Ok(());
        }
        let posted = self.bar.drain(&self.dram);
        self.log.record(Event::Flush { posted });
        self.dram.read(target, buffer);
        Ok(())
    }

    /// Reads one word through the BAR. See [`bar_read`](Self::bar_read).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn bar_read_u64(&self, offset: u64) -> Result<u64, OutsideBar> {
        let mut bytes = [0; 8];
        self.bar_read(offset, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Reads device DRAM as it is now, by physical address, without flushing or counting; `false`
    /// where the range is not device DRAM.
    #[must_use]
    pub fn peek(&self, address: BusAddr, buffer: &mut [u8]) -> bool {
        let offset = address.get().wrapping_sub(self.dram_base);
        let inside = self.dram.holds(offset, buffer.len() as u64);
        if inside {
            self.dram.read(offset, buffer);
        }
        inside
    }

    /// Writes device DRAM at once, by physical address: what firmware left there, or a test's damage.
    /// `false` where the range is not device DRAM.
    #[must_use]
    pub fn poke(&self, address: BusAddr, bytes: &[u8]) -> bool {
        let offset = address.get().wrapping_sub(self.dram_base);
        let inside = self.dram.holds(offset, bytes.len() as u64);
        if inside {
            self.dram.write(offset, bytes);
        }
        inside
    }
}
