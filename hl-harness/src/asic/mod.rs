//! A software Goya, Gaudi or Gaudi2: registers, MMU walker with a real TLB, DMA engines, DRAM.
//!
//! # What it is for
//!
//! It judges a driver. It knows nothing of the driver's data structures: it is programmed through
//! registers at their real offsets, reads page-table *bytes* from device DRAM or host memory by
//! address, caches what it read, and forgets it only when an invalidation register says so. Whatever
//! a driver does in the wrong order shows as stale data, a fault or a write to freed memory.
//!
//! # Reproducing a bug
//!
//! ```
//! use std::sync::Arc;
//! use hl_harness::asic::{AccessKind, Asic, AsicConfig, AsicKind, FaultReason, InitiatorMode};
//! use hl_harness::host::{Host, HostConfig};
//! use hl_harness::log::EventLog;
//! use mmu_core::DeviceAddr;
//!
//! let log = EventLog::recording();
//! let host = Host::new(HostConfig::with_frames(1024), log.clone())?;
//! let asic = Asic::new(AsicConfig::new(AsicKind::Goya), host, log.clone());
//! asic.write_register(0x48000C, 1); // MMU_ENABLE
//! let engine = asic.add_initiator("dma", InitiatorMode::User(1));
//! let error = asic.read(engine, DeviceAddr::new(0x800000000), &mut [0; 8]).unwrap_err();
//! assert_eq!(error.fault().unwrap().reason, FaultReason::NoRoot);
//! for record in log.records() {
//!     println!("{record}");
//! }
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # What is where
//!
//! * Registers: [`Asic::read_register`], [`Asic::write_register`]; offsets as in the facts, section 9.
//!   An unknown offset reads 0; a write to it does nothing, is counted and logged.
//! * Device DRAM from the host: the BAR ([`Asic::bar_write_words`], [`Asic::bar_read`]). Writes are
//!   posted: the device sees them only once a read through the BAR has come back.
//! * Accesses of the device: [`Asic::read`] and friends for a single initiator, [`DmaEngine`] for copies.
//! * Looking inside without touching: [`Asic::explain`], [`Asic::peek`], [`Asic::counters`].
//! * Misbehaviour: [`Asic::inject`], [`Asic::lose`], [`Asic::reset`].
//!
//! # Addresses
//!
//! After translation an address lies in the device's own physical space:
//!
//! | ASIC | device DRAM | host memory |
//! |---|---|---|
//! | Goya, Gaudi | from 0 | from 0x80_0000_0000, host bus address added (facts DM-2) |
//! | Gaudi2 | from 0x1001_0000_0000_0000 | below 0x0100_0000_0000_0000 and from 0xFF00_0000_0000_0000, the host bus address itself |
//!
//! So on Goya and Gaudi the *driver* writes host bus address + 0x80_0000_0000 into its entries, and the
//! device takes it off on the way out, in [`Asic::new`]'s one decoder and nowhere else.
//! [`Asic::host_offset`] tells the number. On an HMMU, leaves hold scrambled addresses; table
//! addresses never are.
//!
//! # MMUs of a Gaudi2
//!
//! Each of the 17 has its own registers, roots and caches, so that one left out of an invalidation
//! shows. Which HMMU translates an access depends on the initiator (on silicon: where it sits);
//! [`Asic::add_initiator_at`] chooses. Addresses from 0x1001_0000_0000_0000 to 0x1001_FFFF_FFFF_FFFF
//! go to an HMMU, all others to the PMMU.
//!
//! # Threads
//!
//! Everything is `Sync`. An access holds off invalidations of its MMU from its translation to its last
//! byte of at most one page, so a confirmed invalidation means that nothing translated before is still
//! moving.

mod access;
mod accessor;
mod bar;
mod bus;
mod cache;
mod config;
mod counters;
mod dma;
mod dram;
mod fault;
pub(crate) mod format;
mod inject;
pub(crate) mod mmu;
mod registers;
mod scope;
pub(crate) mod walker;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use mmu_core::{BusAddr, DeviceAddr};

pub use access::{InitiatorMode, MAX_ASID};
pub use accessor::{RandomAccess, RandomAccessor, RefusedAccess};
pub use bar::OutsideBar;
pub use bus::{BusError, HostBus};
pub use config::{AsicConfig, AsicKind, CacheSize, DramContent, HbmStacks, PostedWrites, RangeEnd};
pub use counters::AsicCounters;
pub use dma::{Descriptor, DmaEngine, DmaSteps, Endpoint, TranslatedTransfer};
pub use dram::UNDEFINED_WORD;
pub use fault::{AccessError, AccessKind, Fault, FaultReason, InitiatorId, MmuInstance, Stopped};
pub use format::FormatKind;
pub use inject::{Completion, Meanwhile, Operation};
pub use scope::InvalidationScope;
pub use walker::{Explanation, HopStep};

use crate::log::{Event, EventLog};
use access::Initiator;
use counters::Counters;
use dram::{Bar, Dram};
use format::{SCRAMBLED_START, Scrambling};
use inject::Plan;
use mmu::{Mmu, Programmed, Unit};

/// Where host memory begins for Goya and Gaudi (facts DM-2), and how much of it they reach.
const V1_HOST_OFFSET: u64 = 0x80_0000_0000;
const V1_HOST_WINDOW: u64 = 0x1_0000_0000_0000;

/// A place behind the MMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Byte offset into device DRAM.
    Dram(u64),
    /// Host memory.
    Host(BusAddr),
}

/// A software ASIC. See the [module documentation](self).
#[derive(Debug)]
pub struct Asic {
    config: AsicConfig,
    host: Arc<dyn HostBus>,
    log: EventLog,
    dram: Dram,
    dram_base: u64,
    bar: Bar,
    scrambling: Scrambling,
    /// The single MMU; or the PMMU and then the HMMUs.
    mmus: Vec<Mmu>,
    initiators: RwLock<Vec<Initiator>>,
    plan: Mutex<Plan>,
    lost: AtomicBool,
    /// Resets so far: what was begun before the last one is over.
    life: AtomicU64,
    faults: Mutex<Vec<Fault>>,
    first_fault: Mutex<Option<Fault>>,
    counters: Counters,
}

/// Where a physical address leads, if all `len` bytes are there: the one decoder. `dram` is the
/// device's memory, by its first address and its size.
pub(crate) fn target(kind: AsicKind, dram: (u64, u64), physical: u64, len: u64) -> Option<Target> {
    if let Some(offset) = physical.checked_sub(dram.0)
        && offset.checked_add(len).is_some_and(|end| end <= dram.1)
    {
        return Some(Target::Dram(offset));
    }
    match kind {
        AsicKind::Goya | AsicKind::Gaudi => {
            let bus = physical.checked_sub(V1_HOST_OFFSET)?;
            let fits = bus.checked_add(len)? <= V1_HOST_WINDOW;
            fits.then_some(Target::Host(BusAddr::new(bus)))
        }
        AsicKind::Gaudi2 => {
            let host = !(0x0100_0000_0000_0000..0xFF00_0000_0000_0000).contains(&physical);
            host.then_some(Target::Host(BusAddr::new(physical)))
        }
    }
}

impl Asic {
    /// A device after power-on: MMUs disabled, caches empty, DRAM undefined.
    ///
    /// # Panics
    ///
    /// On a BAR that is not a power of two of at least 4 KiB, or a Goya DRAM size that is not one of
    /// at least 4 GiB: such hardware does not exist.
    #[must_use]
    pub fn new(config: AsicConfig, host: Arc<dyn HostBus>, log: EventLog) -> Arc<Self> {
        assert!(
            config.bar_size.is_power_of_two() && config.bar_size >= 4096,
            "no bar has {:#x} bytes",
            config.bar_size
        );
        let (dram_base, dram_size) = match config.kind {
            AsicKind::Goya => {
                let size = config.goya_dram_size;
                assert!(
                    size.is_power_of_two() && size >= 4 << 30,
                    "no Goya has {size:#x} bytes of DRAM"
                );
                (0, size)
            }
            AsicKind::Gaudi => (0, 32 << 30),
            AsicKind::Gaudi2 => (SCRAMBLED_START, config.hbm_stacks.count() * (16 << 30)),
        };
        let instances = match config.kind {
            AsicKind::Goya | AsicKind::Gaudi => vec![MmuInstance::Single],
            AsicKind::Gaudi2 => {
                let hmmus = (0..registers::HMMUS as u8).map(MmuInstance::Hmmu);
                core::iter::once(MmuInstance::Pmmu).chain(hmmus).collect()
            }
        };
        Arc::new(Self {
            mmus: instances
                .into_iter()
                .map(|instance| Mmu::new(instance, &config))
                .collect(),
            dram: Dram::new(dram_size),
            dram_base,
            bar: Bar::new(config.bar_size, config.posted_writes),
            scrambling: Scrambling::new(config.hbm_stacks),
            initiators: RwLock::default(),
            plan: Mutex::default(),
            lost: AtomicBool::new(false),
            life: AtomicU64::new(0),
            faults: Mutex::default(),
            first_fault: Mutex::default(),
            counters: Counters::default(),
            config,
            host,
            log,
        })
    }

    /// What it was built as.
    #[must_use]
    pub fn config(&self) -> &AsicConfig {
        &self.config
    }

    /// The log it writes to.
    #[must_use]
    pub fn log(&self) -> &EventLog {
        &self.log
    }

    /// What is added to a host bus address to make the address the device's entries hold: 0 on Gaudi2.
    #[must_use]
    pub fn host_offset(&self) -> u64 {
        match self.config.kind {
            AsicKind::Goya | AsicKind::Gaudi => V1_HOST_OFFSET,
            AsicKind::Gaudi2 => 0,
        }
    }

    /// The first address of device DRAM in the device's physical space.
    #[must_use]
    pub fn dram_base(&self) -> BusAddr {
        BusAddr::new(self.dram_base)
    }

    /// Bytes of device DRAM.
    #[must_use]
    pub fn dram_size(&self) -> u64 {
        self.dram.size()
    }

    /// Where a physical address leads, if all `len` bytes are there.
    pub(crate) fn target(&self, physical: u64, len: u64) -> Option<Target> {
        let dram = (self.dram_base, self.dram.size());
        target(self.config.kind, dram, physical, len)
    }

    // --- registers ---

    /// Reads a configuration-space register. All ones while the device is lost.
    #[must_use]
    pub fn read_register(&self, offset: u32) -> u32 {
        if !self.is_there() {
            return u32::MAX;
        }
        match self.decode_register(offset) {
            Some((mmu, register)) => {
                if mmu.is_late(register)
                    && let Some(act) = self.plan().meanwhile()
                {
                    act(self);
                }
                mmu.read(register, &self.log)
            }
            None => {
                self.counters.unknown_reads.add(1);
                0
            }
        }
    }

    /// Writes a configuration-space register. Vanishes while the device is lost.
    pub fn write_register(&self, offset: u32, value: u32) {
        if !self.is_there() {
            return;
        }
        let Some((mmu, register)) = self.decode_register(offset) else {
            self.log.record(Event::RegisterUnknown { offset, value });
            return;
        };
        self.log.record(Event::RegisterWrite { offset, value });
        let completion = |unit| {
            let operation = match unit {
                Unit::Root => Operation::RootLatch,
                Unit::Full | Unit::Lines | Unit::Range => Operation::Invalidation,
            };
            self.completion_of(operation)
        };
        mmu.write(register, value, completion, &self.log);
    }

    /// Whether the device is there for an access of the host, which may be the occasion for it to go.
    fn is_there(&self) -> bool {
        if !self.is_lost() && self.completion_of(Operation::HostAccess) == Completion::Never {
            self.lose();
        }
        !self.is_lost()
    }

    /// How an operation that starts now is to end.
    pub(crate) fn completion_of(&self, operation: Operation) -> Completion {
        self.plan().next(operation)
    }

    /// The interrupt causes of an MMU that were raised and not cleared (facts FR-1); 0 where the
    /// device has no such MMU.
    #[must_use]
    pub fn interrupts(&self, mmu: MmuInstance) -> u32 {
        let found = self.mmus.iter().find(|m| m.instance == mmu);
        found.map_or(0, Mmu::interrupts)
    }

    /// Translations and table lines held in the caches of an MMU, in this order.
    #[must_use]
    pub fn cached(&self, mmu: MmuInstance) -> (usize, usize) {
        let found = self.mmus.iter().find(|m| m.instance == mmu);
        found.map_or((0, 0), |mmu| {
            let caches = mmu.caches();
            (caches.leaves.len(), caches.lines.len())
        })
    }

    /// The MMUs that are not fused off, with all roots that were latched.
    pub(crate) fn programmed(&self) -> Vec<Programmed> {
        let exists = |mmu: &&Mmu| match mmu.instance {
            MmuInstance::Hmmu(number) => self.config.hmmu_enabled >> number & 1 == 1,
            MmuInstance::Single | MmuInstance::Pmmu => true,
        };
        self.mmus
            .iter()
            .filter(exists)
            .map(Mmu::programmed)
            .collect()
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn decode_register(&self, offset: u32) -> Option<(&Mmu, registers::Register)> {
        let (position, register) = registers::decode(self.config.kind, offset)?;
        let mmu = &self.mmus[position];
        if let MmuInstance::Hmmu(number) = mmu.instance
            && self.config.hmmu_enabled >> number & 1 == 0
        {
            return None;
        }
        Some((mmu, register))
    }

    // --- faults ---

    /// Records a refused access everywhere it is recorded.
    pub(crate) fn refuse(
        &self,
        mmu: &Mmu,
        initiator: InitiatorId,
        asid: u16,
        address: DeviceAddr,
        access: AccessKind,
        reason: FaultReason,
    ) -> Stopped {
        let fault = Fault {
            mmu: mmu.instance,
            initiator,
            asid,
            address,
            access,
            reason,
        };
        mmu.capture(reason, DeviceAddr::new(self.walked(mmu, address)));
        self.log.record(Event::Fault {
            mmu: fault.mmu,
            asid,
            address,
            access,
            reason,
        });
        self.faults
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(fault);
        self.first_fault
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(fault);
        self.counters.faults.add(1);
        Stopped::Fault(fault)
    }

    /// Takes the faults since the last call, oldest first.
    #[must_use]
    pub fn take_faults(&self) -> Vec<Fault> {
        core::mem::take(&mut *self.faults.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The first fault since power-on, reset or the last [`clear_first_fault`](Self::clear_first_fault)
    /// (facts FR-5).
    #[must_use]
    pub fn first_fault(&self) -> Option<Fault> {
        *self
            .first_fault
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens the first-fault latch again.
    pub fn clear_first_fault(&self) {
        *self
            .first_fault
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = None;
    }

    // --- from outside the model ---

    /// Lets the `nth` next `operation` (1: the very next one), and the `times - 1` after it, end as
    /// `completion` says.
    pub fn inject(&self, operation: Operation, nth: u64, times: u64, completion: Completion) {
        self.plan().add(operation, nth, times, completion);
    }

    /// Lets something go on in the device while an operation is late ([`Completion::AfterReads`]): `act`
    /// is called at each look at a status register that will not find the operation done, by whoever
    /// looks. It may access memory as the device does, but no registers.
    pub fn meanwhile(&self, act: Meanwhile) {
        self.plan().set_meanwhile(act);
    }

    /// Takes back all misbehaviour that has not happened yet, and what goes on meanwhile.
    pub fn clear_injections(&self) {
        self.plan().clear();
    }

    /// The device falls off the bus: registers and BAR read all ones, writes vanish, its
    /// engines stop. What was posted and not flushed never arrives.
    pub fn lose(&self) {
        self.lost.store(true, Ordering::Release);
        self.log.record(Event::DeviceLost {});
    }

    /// Which of the device's lives this is, for something that begins now.
    pub(crate) fn life(&self) -> u64 {
        self.life.load(Ordering::Acquire)
    }

    /// Whether something that began in `life` goes on.
    pub(crate) fn lives(&self, life: u64) -> bool {
        !self.is_lost() && self.life() == life
    }

    /// Whether it is off the bus.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    /// Hard reset: back on the bus, registers and caches as after power-on, stuck operations gone,
    /// every initiator with zeroed property registers (ASID 0, translated; with the MMU disabled that
    /// faults), first-fault latch open. DRAM as `content` says. Injections stay. When it returns, every
    /// access and DMA that had begun is over: whatever of it was still to come stops as if lost.
    pub fn reset(&self, content: DramContent) {
        // First, so that whoever holds an MMU's accesses from now on knows it.
        self.life.fetch_add(1, Ordering::AcqRel);
        self.bar.power_on();
        for mmu in &self.mmus {
            mmu.power_on(&self.config);
        }
        if content == DramContent::Undefined {
            self.dram.forget();
        }
        {
            let mut initiators = self
                .initiators
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            for initiator in &mut *initiators {
                initiator.mode = InitiatorMode::Privileged;
                initiator.halted = false;
            }
        }
        self.clear_first_fault();
        self.lost.store(false, Ordering::Release);
        self.log.record(Event::DeviceReset {});
    }

    /// What it did so far.
    #[must_use]
    pub fn counters(&self) -> AsicCounters {
        self.counters.snapshot(&self.log)
    }
}
