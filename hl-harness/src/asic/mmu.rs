//! One MMU: its registers and what writing them does.
//!
//! Three locks, always taken in this order and never held across a wait for another:
//!
//! * `accesses`: held for reading by every access from its translation to its last byte, for writing by
//!   an invalidation at the moment it takes effect. So when the status register says done, no access
//!   translated through the dropped items is still moving data. (A DMA begun with
//!   [`DmaEngine::begin`](super::DmaEngine::begin) is the deliberate exception.)
//! * `caches` and `registers`: held for a look-up, a fill or one register access.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use mmu_core::{BusAddr, DeviceAddr};

use super::cache::{Caches, LeafKey};
use super::config::{AsicConfig, RangeEnd};
use super::fault::{FaultReason, MmuInstance};
use super::format::{self, Format};
use super::inject::Completion;
use super::registers::Register;
use super::scope::InvalidationScope;
use crate::log::{Event, EventLog};

const GO: u32 = 1 << 31;
const ASID_MASK: u32 = 0x3FF;
const EIGHT_BIT_HOPS: u32 = 1 << 20;
const V1_CAPTURED: u32 = 1 << 18;

/// Causes a fault can set (facts FR-1).
const CAUSE_PAGE: u32 = 1;
const CAUSE_ACCESS: u32 = 1 << 1;
const CAUSE_SLAVE: u32 = 1 << 16;
const CAUSE_DECODE: u32 = 1 << 17;

/// The units of an MMU that work on their own after a register write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Unit {
    /// Full invalidation: `InvalidateAll`, or Gaudi's producer-index protocol.
    Full,
    /// Line cache invalidation.
    Lines,
    /// Range invalidation.
    Range,
    /// Latching of a root.
    Root,
}

impl Unit {
    /// The unit whose state a register shows.
    fn shown_by(register: Register) -> Option<Self> {
        match register {
            Register::InvalidateAll | Register::InvalidateState => Some(Self::Full),
            Register::MemoryCacheStatus | Register::MemoryCacheInvalidate => Some(Self::Lines),
            Register::RangeInvalidate => Some(Self::Range),
            Register::Busy | Register::AsidBusy => Some(Self::Root),
            _ => None,
        }
    }
}

/// What a unit is doing.
#[derive(Clone, Copy, Debug)]
struct Job {
    task: Task,
    completion: Completion,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    Drop(InvalidationScope),
    Latch { asid: u16, root: u64 },
}

/// What a register write asks for, to be carried out once the registers are unlocked.
#[derive(Clone, Copy, Debug)]
enum Request {
    Nothing,
    Violation(&'static str),
    Start(Unit, Task),
}

#[derive(Debug, Default)]
pub(crate) struct Registers {
    /// What was last written, for the registers that simply keep it.
    plain: BTreeMap<Register, u32>,
    roots: BTreeMap<u16, u64>,
    jobs: BTreeMap<Unit, Job>,
    /// Gaudi: the producer index last taken, the one written and not yet taken.
    consumer: u32,
    producer: Option<u32>,
    armed: bool,
    /// Causes whose interrupt was raised and not cleared.
    interrupts: u32,
}

impl Registers {
    fn get(&self, register: Register) -> u32 {
        self.plain.get(&register).copied().unwrap_or(0)
    }

    fn set(&mut self, register: Register, value: u32) {
        self.plain.insert(register, value);
    }

    fn flag(&self, register: Register, bits: u32) -> bool {
        self.get(register) & bits != 0
    }

    fn page_number(&self, low: Register, high: Register) -> u64 {
        u64::from(self.get(high)) << 32 | u64::from(self.get(low))
    }
}

/// What the walker needs to know, read in one go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Control {
    pub(crate) enabled: bool,
    pub(crate) bypass: bool,
    pub(crate) root: Option<u64>,
    pub(crate) format: &'static Format,
}

/// What an MMU is programmed with, for looking at it.
#[derive(Clone, Debug)]
pub(crate) struct Programmed {
    pub(crate) instance: MmuInstance,
    pub(crate) enabled: bool,
    pub(crate) bypass: bool,
    pub(crate) format: &'static Format,
    /// The root table of each ASID that has one.
    pub(crate) roots: Vec<(u16, u64)>,
}

#[derive(Debug)]
pub(crate) struct Mmu {
    pub(crate) instance: MmuInstance,
    range_end: RangeEnd,
    accesses: RwLock<()>,
    caches: Mutex<Caches>,
    registers: Mutex<Registers>,
}

impl Mmu {
    pub(crate) fn new(instance: MmuInstance, config: &AsicConfig) -> Self {
        Self {
            instance,
            range_end: config.range_end,
            accesses: RwLock::new(()),
            caches: Mutex::new(Caches::new(config.leaf_cache, config.line_cache)),
            registers: Mutex::default(),
        }
    }

    /// Holds back invalidations until dropped.
    pub(crate) fn begin_access(&self) -> RwLockReadGuard<'_, ()> {
        self.accesses.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the accesses that are under way have arrived.
    pub(crate) fn wait_for_accesses(&self) {
        drop(
            self.accesses
                .write()
                .unwrap_or_else(PoisonError::into_inner),
        );
    }

    pub(crate) fn caches(&self) -> MutexGuard<'_, Caches> {
        self.caches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn registers(&self) -> MutexGuard<'_, Registers> {
        self.registers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn control(&self, asid: u16) -> Control {
        let registers = self.registers();
        Control {
            enabled: registers.flag(Register::Enable, 1),
            bypass: registers.flag(Register::Bypass, 1),
            root: registers.roots.get(&asid).copied(),
            format: match self.instance {
                MmuInstance::Single => &format::V1,
                MmuInstance::Hmmu(_) => &format::HMMU,
                MmuInstance::Pmmu if registers.flag(Register::MultiPageSize, EIGHT_BIT_HOPS) => {
                    &format::PMMU_64K
                }
                MmuInstance::Pmmu => &format::PMMU,
            },
        }
    }

    pub(crate) fn programmed(&self) -> Programmed {
        // The format is the MMU's, whatever the ASID.
        let Control {
            enabled,
            bypass,
            format,
            ..
        } = self.control(0);
        let roots = self
            .registers()
            .roots
            .iter()
            .map(|(asid, root)| (*asid, *root))
            .collect();
        Programmed {
            instance: self.instance,
            enabled,
            bypass,
            format,
            roots,
        }
    }

    /// Registers and caches as after power-on.
    pub(crate) fn power_on(&self, config: &AsicConfig) {
        let _no_access = self
            .accesses
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *self.caches() = Caches::new(config.leaf_cache, config.line_cache);
        *self.registers() = Registers::default();
    }

    /// Whether an unmasked cause is waiting for its interrupt to be cleared.
    pub(crate) fn interrupts(&self) -> u32 {
        self.registers().interrupts
    }

    pub(crate) fn read(&self, register: Register, log: &EventLog) -> u32 {
        let unit = Unit::shown_by(register);
        if let Some(unit) = unit {
            self.poll(unit, log);
        }
        let registers = self.registers();
        let working = unit.is_some_and(|unit| registers.jobs.contains_key(&unit));
        match register {
            Register::InvalidateAll | Register::MemoryCacheInvalidate => u32::from(working),
            // The state stays where the protocol left it until the work is done.
            Register::InvalidateState if registers.armed => registers.get(register),
            Register::InvalidateState => u32::from(working) * 2,
            Register::MemoryCacheStatus => registers.get(register) & 1 | u32::from(!working) << 1,
            Register::RangeInvalidate => registers.get(register) & !1 | u32::from(working),
            Register::Busy | Register::AsidBusy => {
                registers.get(register) & !GO | u32::from(working) << 31
            }
            Register::SramInit | Register::InterruptClear => 0,
            _ => registers.get(register),
        }
    }

    /// Carries out a register write. `completion` is asked once for each unit that starts.
    pub(crate) fn write(
        &self,
        register: Register,
        value: u32,
        completion: impl FnOnce(Unit) -> Completion,
        log: &EventLog,
    ) {
        let request = self.registers().take(register, value, self.range_end);
        let (unit, task) = match request {
            Request::Nothing => return,
            Request::Violation(what) => {
                log.record(Event::ProtocolViolation {
                    mmu: self.instance,
                    what,
                });
                return;
            }
            Request::Start(unit, task) => (unit, task),
        };
        let completion = completion(unit);
        if let Task::Drop(scope) = task {
            let mmu = self.instance;
            log.record(Event::InvalidateBegin { mmu, scope });
            if completion == Completion::Never {
                log.record(Event::InvalidateStuck { mmu, scope });
            }
        }
        // A new start replaces a job that got stuck: that is how a driver retries.
        self.registers().jobs.insert(unit, Job { task, completion });
        if completion == Completion::AtOnce {
            self.carry_out(unit, task, log);
        }
    }

    /// Whether a look at `register` will find a late job still undone.
    pub(crate) fn is_late(&self, register: Register) -> bool {
        let registers = self.registers();
        let job = Unit::shown_by(register).and_then(|unit| registers.jobs.get(&unit));
        job.is_some_and(|job| matches!(job.completion, Completion::AfterReads(1..)))
    }

    /// One look at a unit's status, which is what makes a late job progress.
    fn poll(&self, unit: Unit, log: &EventLog) {
        let due = {
            let mut registers = self.registers();
            let Some(job) = registers.jobs.get_mut(&unit) else {
                return;
            };
            match &mut job.completion {
                Completion::AfterReads(0) => job.task,
                Completion::AfterReads(left) => {
                    *left -= 1;
                    return;
                }
                // At once: another thread is carrying it out at this moment.
                Completion::AtOnce | Completion::Never => return,
            }
        };
        self.carry_out(unit, due, log);
    }

    fn carry_out(&self, unit: Unit, task: Task, log: &EventLog) {
        let mmu = self.instance;
        match task {
            Task::Latch { asid, root } => {
                self.registers().roots.insert(asid, root);
                let root = BusAddr::new(root);
                log.record(Event::RootSet { mmu, asid, root });
            }
            Task::Drop(scope) => {
                let _no_access = self
                    .accesses
                    .write()
                    .unwrap_or_else(PoisonError::into_inner);
                let dropped = self.drop_cached(scope);
                log.record(Event::InvalidateEnd {
                    mmu,
                    scope,
                    dropped,
                });
            }
        }
        let mut registers = self.registers();
        if registers
            .jobs
            .get(&unit)
            .is_some_and(|job| job.task == task)
        {
            registers.jobs.remove(&unit);
        }
        if unit == Unit::Lines {
            let status = registers.get(Register::MemoryCacheStatus);
            registers.set(Register::MemoryCacheStatus, status | 1);
        }
    }

    fn drop_cached(&self, scope: InvalidationScope) -> u64 {
        let hops = self.control(0).format.hops;
        let mut caches = self.caches();
        match scope {
            InvalidationScope::All => {
                caches.leaves.retain(|_| false) + caches.lines.retain(|_| false)
            }
            InvalidationScope::Lines => caches.lines.retain(|_| false),
            InvalidationScope::Leaves {
                asid,
                first_page,
                last_page,
            } => caches.leaves.retain(|key: &LeafKey| {
                let shift = hops[usize::from(key.hop)].shift - 12;
                let first = key.page << shift;
                let last = first + ((1 << shift) - 1);
                let hit = first <= last_page && first_page <= last && first_page <= last_page;
                !(hit && asid.is_none_or(|asid| asid == key.asid))
            }),
        }
    }

    /// Latches a fault in the cause and capture registers. `walked` is the address as the walk used
    /// it: on an HMMU the scrambled one (facts FR-2).
    pub(crate) fn capture(&self, reason: FaultReason, walked: DeviceAddr) {
        let cause = match reason {
            FaultReason::NotPresent { .. } | FaultReason::NoRoot | FaultReason::Disabled => {
                CAUSE_PAGE
            }
            FaultReason::TableFetch { .. } => CAUSE_SLAVE,
            FaultReason::Decode { .. } => CAUSE_DECODE,
            _ => CAUSE_ACCESS,
        };
        let mut registers = self.registers();
        let causes = registers.get(Register::Cause) | cause;
        registers.set(Register::Cause, causes);
        registers.interrupts |= cause & registers.get(Register::CauseMask);
        registers.capture_address(cause, walked.get(), self.instance);
    }
}

impl Registers {
    /// Keeps the first address of each class until software has cleared it.
    fn capture_address(&mut self, cause: u32, address: u64, instance: MmuInstance) {
        let page = match cause {
            CAUSE_PAGE => true,
            CAUSE_ACCESS => false,
            _ => return,
        };
        let low = address as u32;
        let high = (address >> 32) as u32;
        if instance == MmuInstance::Single {
            let (capture, capture_address) = if page {
                (Register::PageCapture, Register::PageCaptureAddress)
            } else {
                (Register::AccessCapture, Register::AccessCaptureAddress)
            };
            if !self.flag(capture, V1_CAPTURED) {
                self.set(capture, V1_CAPTURED | high & (V1_CAPTURED - 1));
                self.set(capture_address, low);
            }
            return;
        }
        let (valid, high_register, low_register) = if page {
            (1, Register::PageErrorHigh, Register::PageErrorLow)
        } else {
            (2, Register::AccessErrorHigh, Register::AccessErrorLow)
        };
        if !self.flag(Register::ErrorValid, valid) {
            let valid = self.get(Register::ErrorValid) | valid;
            self.set(Register::ErrorValid, valid);
            self.set(high_register, high);
            self.set(low_register, low);
        }
    }

    /// Takes a register write and says what it asks for.
    fn take(&mut self, register: Register, value: u32, range_end: RangeEnd) -> Request {
        let drop_scope = |unit, scope| Request::Start(unit, Task::Drop(scope));
        match register {
            Register::AsidBusy | Register::Busy => {
                self.set(register, value);
                if value & GO == 0 {
                    return Request::Nothing;
                }
                let asid = if register == Register::AsidBusy {
                    value
                } else {
                    self.get(Register::Asid)
                };
                let root = u64::from(self.get(Register::RootLow)) << 12
                    | u64::from(self.get(Register::RootHigh)) << 44;
                let asid = (asid & ASID_MASK) as u16;
                Request::Start(Unit::Root, Task::Latch { asid, root })
            }
            // Only bit 0 counts: Gaudi2's driver writes other bits along (facts INV-G2-5).
            Register::InvalidateAll if value & 1 == 1 => {
                drop_scope(Unit::Full, InvalidationScope::All)
            }
            Register::MemoryCacheInvalidate if value & 1 == 1 => {
                drop_scope(Unit::Lines, InvalidationScope::Lines)
            }
            Register::InvalidateAll | Register::MemoryCacheInvalidate => Request::Nothing,
            Register::RangeInvalidate => {
                self.set(register, value);
                if value & 1 == 0 {
                    return Request::Nothing;
                }
                drop_scope(Unit::Range, self.range(value, range_end))
            }
            Register::InvalidateState | Register::InvalidateProducer | Register::InvalidateSet => {
                self.take_producer_protocol(register, value)
            }
            Register::InterruptClear => {
                // Bits 16 and 17 clear their own cause, bit 1 both page classes, bit 2 the rest.
                let mut cleared = value & (CAUSE_SLAVE | CAUSE_DECODE);
                if value & 1 << 1 != 0 {
                    cleared |= CAUSE_PAGE | CAUSE_ACCESS;
                }
                if value & 1 << 2 != 0 {
                    cleared |= !(CAUSE_PAGE | CAUSE_ACCESS | CAUSE_SLAVE | CAUSE_DECODE);
                }
                self.interrupts &= !cleared;
                Request::Nothing
            }
            // The first MMU has no register that clears an interrupt: it is over when the capture that
            // raised it is cleared.
            Register::PageCapture | Register::AccessCapture => {
                self.set(register, value);
                if value & V1_CAPTURED == 0 {
                    self.interrupts &= match register {
                        Register::PageCapture => !CAUSE_PAGE,
                        _ => !CAUSE_ACCESS,
                    };
                }
                Request::Nothing
            }
            _ => {
                self.set(register, value);
                Request::Nothing
            }
        }
    }

    fn range(&self, control: u32, range_end: RangeEnd) -> InvalidationScope {
        let start = self.page_number(Register::RangeStartLow, Register::RangeStartHigh);
        let end = self.page_number(Register::RangeEndLow, Register::RangeEndHigh);
        InvalidationScope::Leaves {
            asid: (control & 2 != 0).then_some((control >> 2 & ASID_MASK) as u16),
            first_page: start.saturating_add(1),
            last_page: match range_end {
                RangeEnd::Inclusive => end,
                RangeEnd::Exclusive => end.saturating_sub(1),
            },
        }
    }

    /// Gaudi (facts HW-GA-3): state 3, producer index, state 2, poll 0, set 0.
    fn take_producer_protocol(&mut self, register: Register, value: u32) -> Request {
        match (register, value) {
            (Register::InvalidateState, 3) => {
                self.set(register, 3);
                self.armed = true;
                self.producer = None;
                Request::Nothing
            }
            (Register::InvalidateState, 2) if self.armed => {
                self.armed = false;
                match self.producer.take() {
                    None => Request::Violation("invalidation started without a producer index"),
                    // The hardware sees no new work and does none.
                    Some(index) if index == self.consumer => {
                        Request::Violation("producer index did not move; nothing is invalidated")
                    }
                    Some(index) => {
                        self.consumer = index;
                        Request::Start(Unit::Full, Task::Drop(InvalidationScope::All))
                    }
                }
            }
            (Register::InvalidateState, 2) => {
                Request::Violation("invalidation started without arming it first")
            }
            (Register::InvalidateProducer, index) if self.armed => {
                self.producer = Some(index & 0xFF);
                Request::Nothing
            }
            (Register::InvalidateProducer, _) => {
                Request::Violation("producer index written without arming first")
            }
            _ => {
                self.set(register, value);
                Request::Nothing
            }
        }
    }
}
