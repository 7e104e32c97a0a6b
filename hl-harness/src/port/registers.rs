//! Registers of the software ASIC.

use core::time::Duration;
use std::sync::Arc;

use hl_mem::mmu::Registers;

use crate::asic::Asic;

/// Looks at a register from one turn of others to the next.
const TURN: u64 = 64;

/// The registers of one software ASIC.
///
/// What that does takes so many looks at its registers, and no time. So the deadlines of its driver are
/// looks, too, one for each microsecond: whether something comes too late does not depend on what else
/// the computer does.
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
    /// The looks that are left.
    type Deadline = u64;

    fn read(&self, offset: u32) -> u32 {
        self.0.read_register(offset)
    }

    fn write(&self, offset: u32, value: u32) {
        self.0.write_register(offset, value);
    }

    fn deadline(&self, timeout: Duration) -> u64 {
        u64::try_from(timeout.as_micros()).unwrap_or(u64::MAX)
    }

    fn pause(&self, looks: &mut u64) -> bool {
        if looks.is_multiple_of(TURN) {
            std::thread::yield_now();
        }
        match looks.checked_sub(1) {
            Some(left) => {
                *looks = left;
                true
            }
            None => false,
        }
    }
}
