//! Where page tables live: in device DRAM behind the BAR, or in coherent host memory.

use core::fmt;
use std::sync::Arc;

use mmu_core::{BusAddr, DeviceLost, TableBus, TableWord};

use crate::asic::{Asic, OutsideBar};
use crate::host::{FRAME_SIZE, Host, KernelBlock, OutOfFrames};
use crate::log::{Event, TableMemory};

/// Table memory of the device, written through the DRAM BAR.
#[derive(Debug)]
pub struct DramTables {
    asic: Arc<Asic>,
    window: BusAddr,
}

impl DramTables {
    /// Moves the BAR's window over the table memory at `address`.
    ///
    /// # Errors
    ///
    /// [`OutsideBar`] where that is not device DRAM.
    pub fn new(asic: &Arc<Asic>, address: BusAddr) -> Result<Self, OutsideBar> {
        let window = asic.bar_move(address)?;
        Ok(Self {
            asic: Arc::clone(asic),
            window,
        })
    }

    /// Where an address lies in the window, which is moved back where it is elsewhere: a reset of
    /// the device moves it.
    fn offset(&self, address: BusAddr) -> u64 {
        if self.asic.bar_base() != self.window {
            self.asic
                .bar_move(self.window)
                .expect("the window was here when the device came up");
        }
        // Addresses below the window become offsets that no window reaches.
        address.get().wrapping_sub(self.window.get())
    }
}

impl TableBus for DramTables {
    fn write(&self, address: BusAddr, entries: impl Iterator<Item = u64>) {
        let entries: Vec<u64> = entries.collect();
        let stores = (address.get()..).step_by(8).zip(&entries);
        for (address, &entry) in stores {
            let address = BusAddr::new(address);
            self.asic.log().record(Event::EntryStore {
                memory: TableMemory::Device,
                address,
                entry,
            });
        }
        self.asic
            .bar_write_words(self.offset(address), &entries)
            .expect("the window covers the table memory of the ASIC");
    }

    fn read(&self, address: BusAddr) -> u64 {
        self.asic
            .bar_read_u64(self.offset(address))
            .expect("the window covers the table memory of the ASIC")
    }

    fn flush(&self) -> Result<(), DeviceLost> {
        // Any read pushes the writes before it; all ones is what a dead device reads as, and is
        // no entry (facts DR-6, DR-11).
        match self.asic.bar_read_u64(self.offset(self.window)) {
            Ok(u64::MAX) => Err(DeviceLost),
            _ => Ok(()),
        }
    }
}

/// Coherent host memory for tables.
#[derive(Debug)]
pub struct HostWords {
    host: Arc<Host>,
    block: KernelBlock,
}

impl HostWords {
    /// Memory for `tables` tables, contiguous on the bus.
    ///
    /// # Errors
    ///
    /// [`OutOfFrames`] where the host has no such piece.
    pub fn new(host: &Arc<Host>, tables: usize) -> Result<Self, OutOfFrames> {
        let block = host.kernel_contiguous(tables, 1, "page tables")?;
        Ok(Self {
            host: Arc::clone(host),
            block,
        })
    }

    /// The bus address of the first table.
    #[must_use]
    pub fn address(&self) -> BusAddr {
        self.host.bus_address(self.block.frames()[0])
    }

    /// The entries of all tables.
    #[must_use]
    pub fn words(&self) -> Vec<[HostWord<'_>; FRAME_SIZE / 8]> {
        let table = |number: usize| {
            let start = self.address().get() + (number * FRAME_SIZE) as u64;
            core::array::from_fn(|index| HostWord {
                host: &self.host,
                address: BusAddr::new(start + 8 * index as u64),
            })
        };
        (0..self.block.frames().len()).map(table).collect()
    }
}

/// One entry in host memory. It writes by physical address, so that what it wrote is what the
/// device reads, and reports each store to the log.
pub struct HostWord<'h> {
    host: &'h Host,
    address: BusAddr,
}

impl fmt::Debug for HostWord<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostWord({})", self.address)
    }
}

impl TableWord for HostWord<'_> {
    fn load(&self) -> u64 {
        self.host
            .load_u64(self.address)
            .expect("table memory is host memory")
    }

    fn store(&self, entry: u64) {
        let address = self.address;
        self.host.log().record(Event::EntryStore {
            memory: TableMemory::Host,
            address,
            entry,
        });
        self.host
            .store_u64(address, entry)
            .expect("table memory is host memory");
    }
}
