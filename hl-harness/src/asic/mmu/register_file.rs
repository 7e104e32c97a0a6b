//! The registers of one MMU: what reading them shows, what writing them asks for, and what a fault
//! leaves in them.

use std::collections::BTreeMap;

use mmu_core::DeviceAddr;

use super::super::config::RangeEnd;
use super::super::fault::{FaultReason, MmuInstance};
use super::super::inject::Completion;
use super::super::registers::Register;
use super::super::scope::InvalidationScope;

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
    pub(super) fn shown_by(register: Register) -> Option<Self> {
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
pub(super) struct Job {
    pub(super) task: Task,
    pub(super) completion: Completion,
}

/// The work of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    Drop(InvalidationScope),
    Latch { asid: u16, root: u64 },
}

/// What a register write asks for, to be carried out once the registers are unlocked.
#[derive(Clone, Copy, Debug)]
pub(super) enum Request {
    Nothing,
    Violation(&'static str),
    Start(Unit, Task),
}

/// What the registers of an MMU hold.
#[derive(Debug, Default)]
pub(super) struct Registers {
    /// What was last written, for the registers that simply keep it.
    plain: BTreeMap<Register, u32>,
    pub(super) roots: BTreeMap<u16, u64>,
    pub(super) jobs: BTreeMap<Unit, Job>,
    /// Gaudi: the producer index last taken, the one written and not yet taken.
    consumer: u32,
    producer: Option<u32>,
    armed: bool,
    /// Causes whose interrupt was raised and not cleared.
    pub(super) interrupts: u32,
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

    pub(super) fn is_enabled(&self) -> bool {
        self.flag(Register::Enable, 1)
    }

    pub(super) fn is_bypassed(&self) -> bool {
        self.flag(Register::Bypass, 1)
    }

    pub(super) fn has_eight_bit_hops(&self) -> bool {
        self.flag(Register::MultiPageSize, EIGHT_BIT_HOPS)
    }

    /// The first and the last hop of a walk, once software has said so.
    pub(super) fn hops(&self, instance: MmuInstance) -> Option<(u8, u8)> {
        let last = match instance {
            MmuInstance::Single => 8,
            MmuInstance::Pmmu | MmuInstance::Hmmu(_) => 12,
        };
        let config = *self.plain.get(&Register::HopConfig)?;
        Some(((config & 7) as u8, (config >> last & 7) as u8))
    }

    /// Shows that the line caches are empty, until software clears it.
    pub(super) fn note_lines_done(&mut self) {
        let status = self.get(Register::MemoryCacheStatus);
        self.set(Register::MemoryCacheStatus, status | 1);
    }

    /// What a read of a register yields, which shows whether `unit` works.
    pub(super) fn shown(&self, register: Register, unit: Option<Unit>) -> u32 {
        let working = unit.is_some_and(|unit| self.jobs.contains_key(&unit));
        match register {
            Register::InvalidateAll | Register::MemoryCacheInvalidate => u32::from(working),
            // The state stays where the protocol left it until the work is done.
            Register::InvalidateState if self.armed => self.get(register),
            Register::InvalidateState => u32::from(working) * 2,
            Register::MemoryCacheStatus => self.get(register) & 1 | u32::from(!working) << 1,
            Register::RangeInvalidate => self.get(register) & !1 | u32::from(working),
            Register::Busy | Register::AsidBusy => {
                self.get(register) & !GO | u32::from(working) << 31
            }
            Register::SramInit | Register::InterruptClear => 0,
            _ => self.get(register),
        }
    }

    /// Latches a fault in the cause and capture registers. `walked` is the address as the walk used
    /// it: on an HMMU the scrambled one (facts FR-2).
    pub(super) fn capture(
        &mut self,
        reason: FaultReason,
        walked: DeviceAddr,
        instance: MmuInstance,
    ) {
        let cause = match reason {
            FaultReason::NotPresent { .. } | FaultReason::NoRoot | FaultReason::Disabled => {
                CAUSE_PAGE
            }
            FaultReason::TableFetch { .. } => CAUSE_SLAVE,
            FaultReason::Decode { .. } => CAUSE_DECODE,
            _ => CAUSE_ACCESS,
        };
        let causes = self.get(Register::Cause) | cause;
        self.set(Register::Cause, causes);
        self.interrupts |= cause & self.get(Register::CauseMask);
        self.capture_address(cause, walked.get(), instance);
    }

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
    pub(super) fn take(&mut self, register: Register, value: u32, range_end: RangeEnd) -> Request {
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
