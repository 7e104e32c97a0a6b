//! One MMU: its caches, and its units at the work that [`Registers`] ask for.
//!
//! Three locks, always taken in this order and never held across a wait for another:
//!
//! * `accesses`: held for reading by every access from its translation to its last byte, for writing by
//!   an invalidation at the moment it takes effect. So when the status register says done, no access
//!   translated through the dropped items is still moving data. (A DMA begun with
//!   [`DmaEngine::begin`](super::DmaEngine::begin) is the deliberate exception.)
//! * `caches` and `registers`: held for a look-up, a fill or one register access.

mod register_file;

pub(crate) use register_file::Unit;

use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use mmu_core::{BusAddr, DeviceAddr};

use register_file::{Job, Registers, Request, Task};

use super::cache::{Caches, LeafKey};
use super::config::{AsicConfig, RangeEnd};
use super::fault::{FaultReason, MmuInstance};
use super::format::{self, Format};
use super::inject::Completion;
use super::registers::Register;
use super::scope::InvalidationScope;
use crate::log::{Event, EventLog};

/// What the walker needs to know, read in one go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Control {
    pub(crate) enabled: bool,
    pub(crate) bypass: bool,
    pub(crate) root: Option<u64>,
    pub(crate) format: &'static Format,
    /// The first and the last hop, where software has chosen them; all of the format's elsewhere.
    pub(crate) hops: Option<(u8, u8)>,
}

/// What an MMU is programmed with, for looking at it.
#[derive(Clone, Debug)]
pub(crate) struct Programmed {
    pub(crate) instance: MmuInstance,
    pub(crate) enabled: bool,
    pub(crate) bypass: bool,
    pub(crate) format: &'static Format,
    /// As in [`Control`].
    pub(crate) hops: Option<(u8, u8)>,
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

    /// Whether an access is under way.
    #[cfg(test)]
    pub(crate) fn is_accessed(&self) -> bool {
        self.accesses.try_write().is_err()
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
            enabled: registers.is_enabled(),
            bypass: registers.is_bypassed(),
            root: registers.roots.get(&asid).copied(),
            hops: registers.hops(self.instance),
            format: match self.instance {
                MmuInstance::Single => &format::V1,
                MmuInstance::Hmmu(_) => &format::HMMU,
                MmuInstance::Pmmu if registers.has_eight_bit_hops() => &format::PMMU_64K,
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
            hops,
            root: _,
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
            hops,
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
        self.registers().shown(register, unit)
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
            registers.note_lines_done();
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
        self.registers().capture(reason, walked, self.instance);
    }
}
