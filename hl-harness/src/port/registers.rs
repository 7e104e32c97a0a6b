//! Registers of the software ASIC.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hl_mem::mmu::Registers;

use crate::asic::Asic;

/// The registers of one software ASIC.
#[derive(Clone, Debug)]
pub struct AsicRegisters(Arc<Asic>);

impl AsicRegisters {
    /// The registers of `asic`.
    #[must_use]
    pub fn new(asic: &Arc<Asic>) -> Self {
        Self(Arc::clone(asic))
    }

    /// The ASIC.
    #[must_use]
    pub fn asic(&self) -> &Asic {
        &self.0
    }
}

// SAFETY: each call is one access of the one device (1), in the order of the calls, and after the
// caller's stores because the model takes a lock for each (2). The machine builds one driver over
// them (3), of the ASIC's own kind (4). The model reads all ones when it is lost and keeps its
// registers' values otherwise (5).
unsafe impl Registers for AsicRegisters {
    type Deadline = Instant;

    fn read(&self, offset: u32) -> u32 {
        self.0.read_register(offset)
    }

    fn write(&self, offset: u32, value: u32) {
        self.0.write_register(offset, value);
    }

    fn deadline(&self, timeout: Duration) -> Instant {
        Instant::now() + timeout
    }

    fn pause(&self, deadline: &mut Instant) -> bool {
        std::thread::yield_now();
        Instant::now() < *deadline
    }
}
