//! The drivers against a register file that records every access.
//!
//! The offsets and values below are copied from the facts (section 9), not from the drivers.

mod faults;
mod sequences;
mod trouble;
mod whole;

use core::cell::{Cell, RefCell};
use core::time::Duration;
use std::collections::{HashMap, HashSet};
use std::vec::Vec;

use mmu_core::{AddrRange, BusAddr, DeviceAddr, Extent, Stale};

use super::{PollBudget, Registers, Timeouts};

/// One access; reads of one register in a row count as one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Access {
    Write(u32, u32),
    Read(u32),
}
use Access::{Read, Write};

/// How long each kind of wait is, so that a test can tell which one a driver used.
const TIMEOUTS: Timeouts = Timeouts {
    root: Duration::from_micros(2),
    invalidation: Duration::from_micros(4),
    init: Duration::from_micros(8),
};

/// What a register does when it is written: the register that changes, and to what.
type Reaction = fn(u32, u32) -> Option<(u32, u32)>;

struct Fake {
    reaction: Reaction,
    values: RefCell<HashMap<u32, u32>>,
    /// Registers that do not react.
    hung: RefCell<HashSet<u32>>,
    /// Reads that still yield what was written before the reaction shows.
    slow: Cell<u32>,
    late: RefCell<Vec<(u32, u32)>>,
    lost: Cell<bool>,
    log: RefCell<Vec<Access>>,
    pauses: Cell<u32>,
}

impl Fake {
    fn new(reaction: Reaction) -> Self {
        Self {
            reaction,
            values: RefCell::default(),
            hung: RefCell::default(),
            slow: Cell::new(0),
            late: RefCell::default(),
            lost: Cell::new(false),
            log: RefCell::default(),
            pauses: Cell::new(0),
        }
    }

    fn goya() -> Self {
        Self::new(|register, value| match register {
            0x49_0000 => Some((register, value & !(1 << 31))),
            0x49_0034 => Some((register, 0)),
            _ => None,
        })
    }

    fn gaudi() -> Self {
        Self::new(|register, value| match (register, value) {
            (0xC1_2000, _) => Some((register, 0)),
            (0xC1_203C, 2) => Some((register, 0)),
            _ => None,
        })
    }

    fn gaudi2() -> Self {
        Self::new(|register, value| match register {
            // The root and all-invalidation registers of all instances, by their low bits.
            _ if register & 0xFFFF == 0x1000 => Some((register, value & !(1 << 31))),
            _ if register & 0xFFFF == 0x1034 => Some((register, 0)),
            0x4D0_1050 => Some((0x4D0_1054, 0b11)),
            0x4D0_108C => Some((register, value & !1)),
            _ => None,
        })
    }

    fn set(&self, register: u32, value: u32) {
        self.values.borrow_mut().insert(register, value);
    }

    fn get(&self, register: u32) -> u32 {
        self.values.borrow().get(&register).copied().unwrap_or(0)
    }

    fn hang(&self, register: u32) {
        self.hung.borrow_mut().insert(register);
    }

    fn mend(&self) {
        self.hung.borrow_mut().clear();
    }

    /// The accesses since the last call, with repeated reads folded.
    fn take_log(&self) -> Vec<Access> {
        self.pauses.set(0);
        let mut log = core::mem::take(&mut *self.log.borrow_mut());
        log.dedup_by(|a, b| a == b && matches!(a, Read(_)));
        log
    }

    fn take_writes(&self) -> Vec<(u32, u32)> {
        let log = self.take_log().into_iter();
        log.filter_map(|access| match access {
            Write(register, value) => Some((register, value)),
            Read(_) => None,
        })
        .collect()
    }
}

#[expect(unsafe_code, reason = "a register file for tests")]
// SAFETY: no device and no memory is behind these registers, so nothing depends on what a driver
// concludes from them; clause 6 holds because the two are compared as objects.
unsafe impl Registers for Fake {
    type Deadline = PollBudget;

    fn read(&self, offset: u32) -> u32 {
        self.log.borrow_mut().push(Read(offset));
        if self.lost.get() {
            return u32::MAX;
        }
        let value = self.get(offset);
        if self.slow.get() > 0 {
            self.slow.set(self.slow.get() - 1);
        } else {
            for (register, value) in self.late.borrow_mut().drain(..) {
                self.set(register, value);
            }
            return self.get(offset);
        }
        value
    }

    fn write(&self, offset: u32, value: u32) {
        self.log.borrow_mut().push(Write(offset, value));
        if self.lost.get() {
            return;
        }
        self.set(offset, value);
        if !self.hung.borrow().contains(&offset) {
            self.late
                .borrow_mut()
                .extend((self.reaction)(offset, value));
        }
    }

    fn deadline(&self, timeout: Duration) -> PollBudget {
        PollBudget::new(timeout.as_micros() as u32)
    }

    fn pause(&self, deadline: &mut PollBudget) -> bool {
        self.pauses.set(self.pauses.get() + 1);
        deadline.spend()
    }
}

const PARKING: BusAddr = BusAddr::new(0x1000_0000);
const ROOT: BusAddr = BusAddr::new(0x1000_1000);

fn range(start: u64, len: u64) -> AddrRange<DeviceAddr> {
    AddrRange::new(DeviceAddr::new(start), len).unwrap()
}

fn stale(root: BusAddr, start: u64, len: u64) -> Stale {
    Stale {
        root,
        extent: Extent::Range(range(start, len)),
        tables: true,
    }
}
