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

mod bus;
mod cache;
mod config;
mod counters;
mod dma;
mod dram;
mod fault;
mod format;
mod inject;
mod mmu;
mod registers;
mod walker;

use core::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use mmu_core::{BusAddr, DeviceAddr};

pub use bus::{BusError, HostBus};
pub use config::{AsicConfig, AsicKind, CacheSize, DramContent, HbmStacks, PostedWrites, RangeEnd};
pub use counters::AsicCounters;
pub use dma::{DmaEngine, Endpoint, TranslatedTransfer};
pub use dram::UNDEFINED_WORD;
pub use fault::{AccessError, AccessKind, Fault, FaultReason, InitiatorId, MmuInstance, Stopped};
pub use inject::{Completion, Operation};
pub use mmu::InvalidationScope;
pub use walker::{Explanation, HopStep};

use crate::log::{Event, EventLog};
use counters::Counters;
use dram::{Bar, Dram};
use format::{SCRAMBLED_END, SCRAMBLED_START, Scrambling};
use inject::Plan;
use mmu::{Mmu, Unit};
use walker::Translated;

/// Where host memory begins for Goya and Gaudi (facts DM-2), and how much of it they reach.
const V1_HOST_OFFSET: u64 = 0x80_0000_0000;
const V1_HOST_WINDOW: u64 = 0x1_0000_0000_0000;

/// The largest ASID the hardware's ten-bit fields hold.
pub const MAX_ASID: u16 = 0x3FF;

/// Whose address space an initiator's accesses are made in (facts AS-4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitiatorMode {
    /// Translated in the address space of this user ASID, 1 to [`MAX_ASID`].
    User(u16),
    /// Translated in the privileged address space, ASID 0.
    Privileged,
    /// Not translated: addresses are physical.
    Bypass,
}

impl fmt::Display for InitiatorMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(asid) => write!(f, "user asid {asid}"),
            Self::Privileged => f.write_str("privileged"),
            Self::Bypass => f.write_str("bypass"),
        }
    }
}

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

/// A place behind the MMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Byte offset into device DRAM.
    Dram(u64),
    /// Host memory.
    Host(BusAddr),
}

#[derive(Clone, Copy, Debug)]
struct Initiator {
    name: &'static str,
    mode: InitiatorMode,
    hmmu: u8,
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
    faults: Mutex<Vec<Fault>>,
    first_fault: Mutex<Option<Fault>>,
    counters: Counters,
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

    /// Where a physical address leads, if all `len` bytes are there. The one decoder.
    pub(crate) fn target(&self, physical: u64, len: u64) -> Option<Target> {
        if let Some(offset) = physical.checked_sub(self.dram_base)
            && self.dram.holds(offset, len)
        {
            return Some(Target::Dram(offset));
        }
        match self.config.kind {
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

    // --- registers ---

    /// Reads a configuration-space register. All ones while the device is lost.
    #[must_use]
    pub fn read_register(&self, offset: u32) -> u32 {
        if self.is_lost() {
            return u32::MAX;
        }
        match self.decode_register(offset) {
            Some((mmu, register)) => mmu.read(register, &self.log),
            None => {
                self.counters.unknown_reads.add(1);
                0
            }
        }
    }

    /// Writes a configuration-space register. Vanishes while the device is lost.
    pub fn write_register(&self, offset: u32, value: u32) {
        if self.is_lost() {
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
            self.plan
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .next(operation)
        };
        mmu.write(register, value, completion, &self.log);
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

    // --- initiators ---

    /// Adds an initiator; on Gaudi2 its device-memory accesses go through the first enabled HMMU.
    #[must_use]
    pub fn add_initiator(&self, name: &'static str, mode: InitiatorMode) -> InitiatorId {
        let first = self.config.hmmu_enabled.trailing_zeros().min(15) as u8;
        self.add_initiator_at(name, mode, first)
    }

    /// Adds an initiator whose device-memory accesses go through HMMU `hmmu`.
    ///
    /// # Panics
    ///
    /// On a `hmmu` above 15, or a user mode that names ASID 0 or one above [`MAX_ASID`].
    #[must_use]
    pub fn add_initiator_at(
        &self,
        name: &'static str,
        mode: InitiatorMode,
        hmmu: u8,
    ) -> InitiatorId {
        assert!(usize::from(hmmu) < registers::HMMUS, "no HMMU {hmmu}");
        check_mode(mode);
        let mut initiators = self
            .initiators
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        initiators.push(Initiator { name, mode, hmmu });
        InitiatorId(initiators.len() as u32 - 1)
    }

    /// Sets whose address space an initiator uses from its next access on: what a driver does through
    /// the engine's property registers (facts AS-1, whose offsets are not modelled). Vanishes while the
    /// device is lost.
    ///
    /// # Panics
    ///
    /// On a user mode that names ASID 0 or one above [`MAX_ASID`], or an initiator of another device.
    pub fn set_initiator_mode(&self, initiator: InitiatorId, mode: InitiatorMode) {
        check_mode(mode);
        if self.is_lost() {
            return;
        }
        let mut initiators = self
            .initiators
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        initiators[initiator.0 as usize].mode = mode;
    }

    /// The mode of an initiator.
    ///
    /// # Panics
    ///
    /// On an initiator of another device.
    #[must_use]
    pub fn initiator_mode(&self, initiator: InitiatorId) -> InitiatorMode {
        self.initiator(initiator).mode
    }

    /// The name of an initiator.
    ///
    /// # Panics
    ///
    /// On an initiator of another device.
    #[must_use]
    pub fn initiator_name(&self, initiator: InitiatorId) -> &'static str {
        self.initiator(initiator).name
    }

    fn initiator(&self, initiator: InitiatorId) -> Initiator {
        self.initiators
            .read()
            .unwrap_or_else(PoisonError::into_inner)[initiator.0 as usize]
    }

    // --- accesses of the device ---

    /// An initiator reads memory at a device address, across pages if need be.
    ///
    /// # Errors
    ///
    /// The first fault, or the loss of the device, with the bytes read before.
    pub fn read(
        &self,
        initiator: InitiatorId,
        address: DeviceAddr,
        buffer: &mut [u8],
    ) -> Result<(), AccessError> {
        let len = buffer.len() as u64;
        self.each_piece(
            initiator,
            address,
            AccessKind::Read,
            len,
            |target, at, count| self.read_target(target, &mut buffer[at..at + count]),
        )
    }

    /// An initiator writes memory at a device address, across pages if need be.
    ///
    /// # Errors
    ///
    /// The first fault, or the loss of the device, with the bytes written before.
    pub fn write(
        &self,
        initiator: InitiatorId,
        address: DeviceAddr,
        bytes: &[u8],
    ) -> Result<(), AccessError> {
        let len = bytes.len() as u64;
        self.each_piece(
            initiator,
            address,
            AccessKind::Write,
            len,
            |target, at, count| self.write_target(target, &bytes[at..at + count]),
        )
    }

    /// An initiator loads an aligned 32-bit number, acquiring: bytes it reads afterwards are at least
    /// as new.
    ///
    /// # Errors
    ///
    /// The fault, or the loss of the device.
    pub fn load_u32(
        &self,
        initiator: InitiatorId,
        address: DeviceAddr,
    ) -> Result<u32, AccessError> {
        let mut value = 0;
        self.atomic(initiator, address, AccessKind::Read, |target| {
            value = match target {
                Target::Dram(offset) => self.dram.load_u32(offset),
                Target::Host(bus) => self.host.load_u32(bus).map_err(|e| e.address)?,
            };
            Ok(())
        })?;
        Ok(value)
    }

    /// An initiator stores an aligned 32-bit number, releasing: whoever loads it sees everything this
    /// thread wrote before.
    ///
    /// # Errors
    ///
    /// The fault, or the loss of the device.
    pub fn store_u32(
        &self,
        initiator: InitiatorId,
        address: DeviceAddr,
        value: u32,
    ) -> Result<(), AccessError> {
        self.atomic(
            initiator,
            address,
            AccessKind::Write,
            |target| match target {
                Target::Dram(offset) => {
                    self.dram.store_u32(offset, value);
                    Ok(())
                }
                Target::Host(bus) => self.host.store_u32(bus, value).map_err(|e| e.address),
            },
        )
    }

    fn atomic(
        &self,
        initiator: InitiatorId,
        address: DeviceAddr,
        access: AccessKind,
        use_target: impl FnOnce(Target) -> Result<(), BusAddr>,
    ) -> Result<(), AccessError> {
        let stop = |stopped| AccessError {
            bytes_done: 0,
            stopped,
        };
        let settings = self.initiator(initiator);
        if !address.is_multiple_of(4) {
            let mmu = self.mmu_for(address, settings.hmmu);
            let asid = asid_of(settings.mode);
            let reason = FaultReason::Misaligned;
            return Err(stop(
                self.refuse(mmu, initiator, asid, address, access, reason),
            ));
        }
        self.with_target(initiator, address, access, &mut 4, |_, target, _| {
            use_target(target)
        })
        .map_err(stop)
    }

    fn each_piece(
        &self,
        initiator: InitiatorId,
        address: DeviceAddr,
        access: AccessKind,
        len: u64,
        mut move_bytes: impl FnMut(Target, usize, usize) -> Result<(), BusAddr>,
    ) -> Result<(), AccessError> {
        let mut done = 0;
        while done < len {
            let mut count = (len - done).min(4096);
            let at = DeviceAddr::new(address.get().wrapping_add(done));
            self.with_target(initiator, at, access, &mut count, |_, target, count| {
                move_bytes(target, done as usize, count)
            })
            .map_err(|stopped| AccessError {
                bytes_done: done,
                stopped,
            })?;
            done += count;
        }
        Ok(())
    }

    /// Translates one address and uses the place it leads to, holding off invalidations meanwhile.
    /// `count` is cut down to what lies contiguously there.
    pub(crate) fn with_target(
        &self,
        initiator: InitiatorId,
        address: DeviceAddr,
        access: AccessKind,
        count: &mut u64,
        use_target: impl FnOnce(&Self, Target, usize) -> Result<(), BusAddr>,
    ) -> Result<(), Stopped> {
        if self.is_lost() {
            return Err(Stopped::Lost);
        }
        let settings = self.initiator(initiator);
        let asid = asid_of(settings.mode);
        let mmu = self.mmu_for(address, settings.hmmu);
        let _translating = mmu.begin_access();
        let refuse = |reason| self.refuse(mmu, initiator, asid, address, access, reason);
        let Translated {
            physical,
            contiguous,
        } = match settings.mode {
            InitiatorMode::Bypass => self.untranslated(address),
            InitiatorMode::User(_) | InitiatorMode::Privileged => {
                self.translate(mmu, asid, address).map_err(refuse)?
            }
        };
        *count = (*count).min(contiguous);
        let bus = BusAddr::new(physical);
        let target = self
            .target(physical, *count)
            .ok_or_else(|| refuse(FaultReason::Decode { bus }))?;
        if settings.mode != InitiatorMode::Bypass {
            self.log.record(Event::DmaTranslate {
                initiator,
                asid,
                address,
                bus,
                access,
            });
        }
        use_target(self, target, *count as usize).map_err(|_| refuse(FaultReason::Decode { bus }))
    }

    /// Uses device memory past the MMU.
    pub(crate) fn with_device_memory(
        &self,
        initiator: InitiatorId,
        offset: u64,
        access: AccessKind,
        count: &mut u64,
        use_target: impl FnOnce(&Self, Target, usize) -> Result<(), BusAddr>,
    ) -> Result<(), Stopped> {
        if self.is_lost() {
            return Err(Stopped::Lost);
        }
        let settings = self.initiator(initiator);
        let asid = asid_of(settings.mode);
        let physical = self.dram_base.wrapping_add(offset);
        let address = DeviceAddr::new(physical);
        let mmu = self.mmu_for(address, settings.hmmu);
        let refuse = |reason| self.refuse(mmu, initiator, asid, address, access, reason);
        let direct = self.config.kind == AsicKind::Gaudi || settings.mode == InitiatorMode::Bypass;
        if !direct {
            return Err(refuse(FaultReason::DirectRefused));
        }
        *count = (*count).min(4096 - offset % 4096);
        let bus = BusAddr::new(physical);
        if !self.dram.holds(offset, *count) {
            return Err(refuse(FaultReason::Decode { bus }));
        }
        use_target(self, Target::Dram(offset), *count as usize)
            .map_err(|_| refuse(FaultReason::Decode { bus }))
    }

    pub(crate) fn read_target(&self, target: Target, buffer: &mut [u8]) -> Result<(), BusAddr> {
        self.counters.bytes_read.add(buffer.len() as u64);
        match target {
            Target::Dram(offset) => {
                self.dram.read(offset, buffer);
                Ok(())
            }
            Target::Host(bus) => self.host.read(bus, buffer).map_err(|e| e.address),
        }
    }

    pub(crate) fn write_target(&self, target: Target, bytes: &[u8]) -> Result<(), BusAddr> {
        self.counters.bytes_written.add(bytes.len() as u64);
        match target {
            Target::Dram(offset) => {
                self.dram.write(offset, bytes);
                Ok(())
            }
            Target::Host(bus) => self.host.write(bus, bytes).map_err(|e| e.address),
        }
    }

    /// The MMU that sees an address.
    pub(crate) fn mmu_for(&self, address: DeviceAddr, hmmu: u8) -> &Mmu {
        let device_memory = (SCRAMBLED_START..SCRAMBLED_END).contains(&address.get());
        if self.config.kind == AsicKind::Gaudi2 && device_memory {
            &self.mmus[1 + usize::from(hmmu)]
        } else {
            &self.mmus[0]
        }
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

    // --- the BAR ---

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
        if self.is_lost() {
            return Ok(());
        }
        self.counters.posted_writes.add(values.len() as u64);
        self.bar.post(target, values, &self.dram);
        Ok(())
    }

    /// Reads bytes through the BAR; every write posted before has arrived when it returns. All ones
    /// while the device is lost.
    ///
    /// # Errors
    ///
    /// [`OutsideBar`] for a range that leaves the window or DRAM; nothing is flushed.
    pub fn bar_read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), OutsideBar> {
        let len = buffer.len() as u64;
        let target = self.bar.target(offset, len, &self.dram);
        let target = target.ok_or(OutsideBar { offset })?;
        if self.is_lost() {
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

    // --- from outside the model ---

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

    /// Lets the `nth` next `operation` (1: the very next one), and the `times - 1` after it, end as
    /// `completion` says.
    pub fn inject(&self, operation: Operation, nth: u64, times: u64, completion: Completion) {
        self.plan
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .add(operation, nth, times, completion);
    }

    /// Takes back all misbehaviour that has not happened yet.
    pub fn clear_injections(&self) {
        self.plan
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    /// The device falls off the bus: registers and BAR read all ones, writes vanish (posted ones too),
    /// its engines stop.
    pub fn lose(&self) {
        self.lost.store(true, Ordering::Release);
        self.bar.lose();
        self.log.record(Event::DeviceLost {});
    }

    /// Whether it is off the bus.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    /// Hard reset: back on the bus, registers and caches as after power-on, stuck operations gone,
    /// every initiator with zeroed property registers (ASID 0, translated; with the MMU disabled that
    /// faults), first-fault latch open. DRAM as `content` says. Injections stay.
    pub fn reset(&self, content: DramContent) {
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

/// The ASID an access of this mode carries.
fn asid_of(mode: InitiatorMode) -> u16 {
    match mode {
        InitiatorMode::User(asid) => asid,
        InitiatorMode::Privileged | InitiatorMode::Bypass => 0,
    }
}

fn check_mode(mode: InitiatorMode) {
    if let InitiatorMode::User(asid) = mode {
        assert!((1..=MAX_ASID).contains(&asid), "no user has asid {asid}");
    }
}
