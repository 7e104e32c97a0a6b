//! The registers of an MMU or of a group of like ones, and the units behind them, on a thread of
//! their own for each MMU.
//!
//! A unit takes a request some time after it was written, reads what belongs to it one register after
//! the other, does it, and shows its end some time later. Requests that are written meanwhile wait,
//! and each has an end of its own, which looks like that of any other: the worst that the protocols
//! allow.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use hl_mem::mmu::{PollBudget, Registers, Timeouts};
use loom::sync::{Condvar, Mutex, MutexGuard};
use loom::thread;

use super::device::Hardware;
use super::hold::Hold;

/// The drivers ask for it; the models count polls.
pub(crate) const TIMEOUTS: Timeouts = Timeouts {
    root: Duration::ZERO,
    invalidation: Duration::ZERO,
    init: Duration::ZERO,
};

/// What works by itself once a register is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    /// Drops everything.
    All,
    /// Drops pointers to tables.
    Tables,
    /// Drops the pages of a range.
    Range,
    /// Takes over a root.
    Root,
}

/// Which registers there are (facts 9.1 to 9.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    Goya,
    Gaudi,
    Gaudi2,
    /// The same, with one unit ahead of the other.
    Gaudi2RangeFirst,
    /// Two of Gaudi2's MMUs for device memory, each with units and caches of its own.
    Gaudi2Group,
}

/// The step that a test takes away from a driver or a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// So many requests reach the units; of later ones the driver believes that they are done.
    Believed(u32),
    /// The status of the last partial invalidation is still there when the next one begins.
    StatusStays,
    /// The driver does not wait for the end of the range.
    RangeUnwatched,
    /// The driver does not wait until a root was taken over.
    RootUnwatched,
    /// The driver waits for all MMUs of a group but the last to drop everything.
    LastUnwatched,
}

const GO: u32 = 1 << 31;
const GAUDI2_TABLES_STATUS: u32 = 0x4D0_1054;
const GAUDI2_RANGE: u32 = 0x4D0_108C;
const GAUDI2_RANGE_START: u32 = 0x4D0_1090;
const GAUDI2_RANGE_END: u32 = 0x4D0_1098;
/// The first MMU of a group, and how far the next one is.
const GROUP: u32 = 0x408_0000;
const BETWEEN: u32 = 0x1_0000;

impl Layout {
    /// Which of the units that have something to do is the first.
    fn order(self) -> [Unit; 4] {
        match self {
            Self::Gaudi2RangeFirst => [Unit::Range, Unit::Tables, Unit::All, Unit::Root],
            _ => [Unit::Tables, Unit::Range, Unit::All, Unit::Root],
        }
    }

    fn is_gaudi2(self) -> bool {
        matches!(self, Self::Gaudi2 | Self::Gaudi2RangeFirst)
    }

    /// How many MMUs there are.
    fn mmus(self) -> usize {
        if self == Self::Gaudi2Group { 2 } else { 1 }
    }

    /// Which MMU has a register, and what the first one has in its place.
    fn locate(self, register: u32) -> (usize, u32) {
        if self != Self::Gaudi2Group {
            return (0, register);
        }
        let offset = register - GROUP;
        ((offset / BETWEEN) as usize, GROUP + offset % BETWEEN)
    }

    /// Which unit a write is a request to.
    fn request(self, register: u32, value: u32) -> Option<Unit> {
        let gaudi2 = self.is_gaudi2();
        match (self, register) {
            (Self::Goya, 0x49_0034) => (value & 1 != 0).then_some(Unit::All),
            (Self::Gaudi, 0xC1_203C) => (value == 2).then_some(Unit::All),
            (_, 0x4D0_1034) if gaudi2 => (value & 1 != 0).then_some(Unit::All),
            (_, 0x4D0_1050) if gaudi2 => Some(Unit::Tables),
            (_, GAUDI2_RANGE) if gaudi2 => (value & 1 != 0).then_some(Unit::Range),
            (Self::Gaudi2Group, 0x408_1034) => (value & 1 != 0).then_some(Unit::All),
            (_, register) if register == self.end(Unit::Root).0 => {
                (value & GO != 0).then_some(Unit::Root)
            }
            _ => None,
        }
    }

    /// Where a unit shows that it has come to an end: a register, the bits that change, and to what.
    fn end(self, unit: Unit) -> (u32, u32, u32) {
        match (self, unit) {
            (Self::Goya, Unit::Root) => (0x49_0000, GO, 0),
            (Self::Gaudi, Unit::Root) => (0xC1_2000, GO, 0),
            (Self::Gaudi2Group, Unit::Root) => (0x408_1000, GO, 0),
            (Self::Gaudi2Group, _) => (0x408_1034, 1, 0),
            (Self::Goya, _) => (0x49_0034, u32::MAX, 0),
            (Self::Gaudi, _) => (0xC1_203C, u32::MAX, 0),
            (_, Unit::Root) => (0x4D0_1000, GO, 0),
            (_, Unit::All) => (0x4D0_1034, 1, 0),
            (_, Unit::Tables) => (GAUDI2_TABLES_STATUS, 3, 3),
            (_, Unit::Range) => (GAUDI2_RANGE, 1, 0),
        }
    }

    /// The registers of the ASID, and of bits 43:12 and the higher ones of its root.
    fn root_registers(self) -> [u32; 3] {
        match self {
            Self::Goya => [0x49_0000, 0x49_0004, 0x49_0008],
            Self::Gaudi => [0xC1_2004, 0xC1_2008, 0xC1_200C],
            Self::Gaudi2Group => [0x408_1004, 0x408_1008, 0x408_100C],
            _ => [0x4D0_1004, 0x4D0_1008, 0x4D0_100C],
        }
    }
}

#[derive(Debug, Default)]
struct File {
    values: BTreeMap<u32, u32>,
    /// Requests that no unit has taken yet.
    waiting: Vec<Unit>,
    /// The units are threads, as long as there is something to do.
    at_work: bool,
}

impl File {
    fn change(&mut self, (register, mask, value): (u32, u32, u32)) {
        let register = self.values.entry(register).or_default();
        *register = *register & !mask | value & mask;
    }
}

/// The registers of one MMU, and its units.
#[derive(Debug)]
struct Bank {
    hardware: &'static Hardware,
    layout: Layout,
    file: Mutex<File>,
    /// There is something to do, or nothing any more.
    changed: Condvar,
}

/// The registers of an MMU, or of a group of them.
#[derive(Debug)]
pub(crate) struct RegisterFile {
    layout: Layout,
    flaw: Option<Flaw>,
    banks: Vec<Bank>,
    /// The driver alone uses these.
    patient: AtomicBool,
    requests: AtomicU32,
}

impl RegisterFile {
    /// The registers of `hardware`, and, where the layout is of a group, of others like it, which
    /// have the same tables and remember for themselves.
    pub(crate) fn new(
        hold: &Hold,
        hardware: &'static Hardware,
        layout: Layout,
        flaw: Option<Flaw>,
    ) -> &'static Self {
        let bank = |number| Bank {
            hardware: match number {
                0 => hardware,
                _ => hold.keep(hardware.another()),
            },
            layout,
            file: Mutex::default(),
            changed: Condvar::new(),
        };
        hold.keep(Self {
            layout,
            flaw,
            banks: (0..layout.mmus()).map(bank).collect(),
            patient: AtomicBool::new(false),
            requests: AtomicU32::new(0),
        })
    }

    /// Every MMU behind the registers.
    pub(crate) fn mmus(&self) -> impl DoubleEndedIterator<Item = &'static Hardware> {
        self.banks.iter().map(|bank| bank.hardware)
    }

    /// From here on the units work by themselves; until now each did at once what it was asked to.
    pub(crate) fn begin_work(&'static self, hold: &Hold) {
        self.requests.store(0, Relaxed);
        for bank in &self.banks {
            bank.file().at_work = true;
            hold.spawn(|| bank.work());
        }
    }

    /// Ends the units.
    pub(crate) fn end_work(&self) {
        for bank in &self.banks {
            bank.file().at_work = false;
            bank.changed.notify_all();
        }
    }

    /// From here on the driver waits as long as it takes, and the flaw counts its requests.
    pub(crate) fn be_patient(&self) {
        self.patient.store(true, Relaxed);
        self.requests.store(0, Relaxed);
    }
}

impl Bank {
    fn file(&self) -> MutexGuard<'_, File> {
        self.file.lock().expect("no thread panicked")
    }

    fn value(&self, register: u32) -> u32 {
        self.file().values.get(&register).copied().unwrap_or(0)
    }

    fn work(&self) {
        let mut file = self.file();
        while file.at_work {
            let next = self.layout.order().into_iter().find_map(|unit| {
                let place = file.waiting.iter().position(|&asked| asked == unit)?;
                Some(file.waiting.remove(place))
            });
            let Some(unit) = next else {
                file = self.changed.wait(file).expect("no thread panicked");
                continue;
            };
            drop(file);
            self.carry_out(unit);
            file = self.file();
            file.change(self.layout.end(unit));
            drop(file);
            // The end is seen before or after the next one begins.
            file = self.file();
        }
    }

    fn carry_out(&self, unit: Unit) {
        match unit {
            Unit::All => self.hardware.forget_all(),
            Unit::Tables => self.hardware.forget_tables(),
            Unit::Range => {
                let page = |pair| {
                    let low = u64::from(self.value(pair));
                    u64::from(self.value(pair + 4)) << 32 | low
                };
                // Neither bound belongs to it: what is not known of them is at its worst.
                let (before, after) = (page(GAUDI2_RANGE_START), page(GAUDI2_RANGE_END));
                let asid = self.value(GAUDI2_RANGE) >> 2 & 0x3FF;
                self.hardware.forget_between(asid as u16, before, after);
            }
            Unit::Root => {
                let [asid, low, high] = self.layout.root_registers().map(|at| self.value(at));
                let root = u64::from(high) << 44 | u64::from(low) << 12;
                self.hardware
                    .set_root((asid & 0x3FF) as u16, mmu_core::BusAddr::new(root));
            }
        }
    }
}

// SAFETY: one register file is one device's, of the kind that the model names; each access is one
// step under its lock, whose holder synchronises with the next. It never fails to answer.
unsafe impl Registers for RegisterFile {
    /// `None` is as long as it takes.
    type Deadline = Option<PollBudget>;

    fn read(&self, register: u32) -> u32 {
        let (number, register) = self.layout.locate(register);
        let is_last = number + 1 == self.banks.len();
        let unwatched = match self.flaw {
            Some(Flaw::RangeUnwatched) => Some(Unit::Range),
            Some(Flaw::RootUnwatched) if is_last => Some(Unit::Root),
            Some(Flaw::LastUnwatched) if is_last => Some(Unit::All),
            _ => None,
        };
        match unwatched.map(|unit| self.layout.end(unit)) {
            Some((watched, _, ended)) if register == watched => ended,
            _ => self.banks[number].value(register),
        }
    }

    fn write(&self, register: u32, value: u32) {
        let (bank, register) = self.layout.locate(register);
        let bank = &self.banks[bank];
        let stays = register == GAUDI2_TABLES_STATUS && self.flaw == Some(Flaw::StatusStays);
        let request = self.layout.request(register, value);
        let mut file = bank.file();
        if !stays {
            file.change((register, u32::MAX, value));
        }
        let Some(unit) = request else {
            return;
        };
        let number = self.requests.fetch_add(1, Relaxed);
        match self.flaw {
            Some(Flaw::Believed(count)) if self.patient.load(Relaxed) && number >= count => {
                file.change(self.layout.end(unit));
            }
            _ if file.at_work => {
                file.waiting.push(unit);
                drop(file);
                bank.changed.notify_all();
            }
            _ => {
                drop(file);
                bank.carry_out(unit);
                bank.file().change(self.layout.end(unit));
            }
        }
    }

    fn deadline(&self, _timeout: Duration) -> Option<PollBudget> {
        (!self.patient.load(Relaxed)).then(|| PollBudget::new(0))
    }

    fn pause(&self, deadline: &mut Option<PollBudget>) -> bool {
        match deadline {
            Some(budget) => budget.spend(),
            None => {
                thread::yield_now();
                true
            }
        }
    }
}
