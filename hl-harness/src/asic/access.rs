//! Accesses of the device: initiators, their modes, and the way from an address to bytes.

use core::fmt;
use std::sync::PoisonError;

use mmu_core::{BusAddr, DeviceAddr};

use super::dma::Endpoint;
use super::fault::{AccessError, AccessKind, FaultReason, InitiatorId, Stopped};
use super::format::{SCRAMBLED_END, SCRAMBLED_START};
use super::mmu::Mmu;
use super::walker::Translated;
use super::{Asic, AsicKind, Target, registers};
use crate::log::Event;

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

#[derive(Clone, Copy, Debug)]
pub(crate) struct Initiator {
    pub(crate) name: &'static str,
    pub(crate) mode: InitiatorMode,
    pub(crate) hmmu: u8,
    /// It does nothing until it is given a mode, or the device is reset.
    pub(crate) halted: bool,
}

impl Asic {
    /// Adds an initiator; on Gaudi2 its device-memory accesses go through the first enabled HMMU.
    #[must_use]
    pub fn add_initiator(&self, name: &'static str, mode: InitiatorMode) -> InitiatorId {
        self.add_initiator_at(name, mode, self.first_hmmu())
    }

    /// The first HMMU that was not fused off.
    pub(crate) fn first_hmmu(&self) -> u8 {
        self.config.hmmu_enabled.trailing_zeros().min(15) as u8
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
        initiators.push(Initiator {
            name,
            mode,
            hmmu,
            halted: false,
        });
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
        let initiator = &mut initiators[initiator.0 as usize];
        initiator.mode = mode;
        initiator.halted = false;
    }

    /// Halts the initiators that work for a user, each until it is given a mode, and waits until their
    /// accesses have arrived.
    pub fn halt_user(&self, asid: u16) {
        {
            let mut initiators = self
                .initiators
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            let users = initiators.iter_mut();
            users
                .filter(|initiator| initiator.mode == InitiatorMode::User(asid))
                .for_each(|initiator| initiator.halted = true);
        }
        for mmu in &self.mmus {
            mmu.wait_for_accesses();
        }
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
        let life = self.life();
        if !self.lives(life) {
            return Err(stop(Stopped::Lost));
        }
        if !address.is_multiple_of(4) {
            let reason = FaultReason::Misaligned;
            return Err(stop(
                self.refuse_initiator(initiator, address, access, reason),
            ));
        }
        self.with_target(life, initiator, address, access, &mut 4, |_, target, _| {
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
        let life = self.life();
        let mut done = 0;
        while done < len {
            let mut count = (len - done).min(4096);
            let at = DeviceAddr::new(address.get().wrapping_add(done));
            self.with_target(
                life,
                initiator,
                at,
                access,
                &mut count,
                |_, target, count| move_bytes(target, done as usize, count),
            )
            .map_err(|stopped| AccessError {
                bytes_done: done,
                stopped,
            })?;
            done += count;
        }
        Ok(())
    }

    /// Translates one address and uses the place it leads to, holding off invalidations meanwhile.
    /// `count` is cut down to what lies contiguously there. `life` is the one in which the access, or the
    /// DMA that it is part of, began.
    pub(crate) fn with_target(
        &self,
        life: u64,
        initiator: InitiatorId,
        address: DeviceAddr,
        access: AccessKind,
        count: &mut u64,
        use_target: impl FnOnce(&Self, Target, usize) -> Result<(), BusAddr>,
    ) -> Result<(), Stopped> {
        let mmu = self.mmu_for(address, self.initiator(initiator).hmmu);
        let _translating = mmu.begin_access();
        // Only now, so that whoever resets the device, halts the initiator or changes its mode can wait
        // for what it did before.
        if !self.lives(life) {
            return Err(Stopped::Lost);
        }
        let settings = self.initiator(initiator);
        if settings.halted {
            return Err(Stopped::Halted);
        }
        let asid = asid_of(settings.mode);
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

    /// Uses `count` bytes of device memory past the MMU.
    pub(crate) fn with_device_memory(
        &self,
        life: u64,
        initiator: InitiatorId,
        offset: u64,
        access: AccessKind,
        count: u64,
        use_target: impl FnOnce(&Self, Target, usize) -> Result<(), BusAddr>,
    ) -> Result<(), Stopped> {
        let physical = self.dram_base.wrapping_add(offset);
        let address = DeviceAddr::new(physical);
        let mmu = self.mmu_for(address, self.initiator(initiator).hmmu);
        // Past the MMU, but waited for like any other access.
        let _arriving = mmu.begin_access();
        if !self.lives(life) {
            return Err(Stopped::Lost);
        }
        let settings = self.initiator(initiator);
        if settings.halted {
            return Err(Stopped::Halted);
        }
        let asid = asid_of(settings.mode);
        let refuse = |reason| self.refuse(mmu, initiator, asid, address, access, reason);
        let direct = self.config.kind == AsicKind::Gaudi || settings.mode == InitiatorMode::Bypass;
        if !direct {
            return Err(refuse(FaultReason::DirectRefused));
        }
        let bus = BusAddr::new(physical);
        if !self.dram.holds(offset, count) {
            return Err(refuse(FaultReason::Decode { bus }));
        }
        use_target(self, Target::Dram(offset), count as usize)
            .map_err(|_| refuse(FaultReason::Decode { bus }))
    }

    /// Refuses an access with the address space and MMU the initiator has now.
    pub(crate) fn refuse_initiator(
        &self,
        initiator: InitiatorId,
        address: DeviceAddr,
        access: AccessKind,
        reason: FaultReason,
    ) -> Stopped {
        let settings = self.initiator(initiator);
        let mmu = self.mmu_for(address, settings.hmmu);
        let asid = asid_of(settings.mode);
        self.refuse(mmu, initiator, asid, address, access, reason)
    }

    /// The address that stands for one end of a DMA in a fault.
    pub(crate) fn sent_address(&self, end: Endpoint) -> DeviceAddr {
        match end {
            Endpoint::Virtual(address) => address,
            Endpoint::DeviceMemory(offset) => DeviceAddr::new(self.dram_base.wrapping_add(offset)),
        }
    }

    pub(crate) fn read_target(&self, target: Target, buffer: &mut [u8]) -> Result<(), BusAddr> {
        match target {
            Target::Dram(offset) => self.dram.read(offset, buffer),
            Target::Host(bus) => self.host.read(bus, buffer).map_err(|e| e.address)?,
        }
        self.counters.bytes_read.add(buffer.len() as u64);
        Ok(())
    }

    pub(crate) fn write_target(&self, target: Target, bytes: &[u8]) -> Result<(), BusAddr> {
        match target {
            Target::Dram(offset) => self.dram.write(offset, bytes),
            Target::Host(bus) => self.host.write(bus, bytes).map_err(|e| e.address)?,
        }
        self.counters.bytes_written.add(bytes.len() as u64);
        Ok(())
    }

    pub(crate) fn fill_target(&self, target: Target, byte: u8, len: usize) -> Result<(), BusAddr> {
        match target {
            Target::Dram(offset) => self.dram.fill(offset, byte, len as u64),
            Target::Host(bus) => {
                let bytes = vec![byte; len];
                self.host.write(bus, &bytes).map_err(|e| e.address)?;
            }
        }
        self.counters.bytes_written.add(len as u64);
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::asic::AsicConfig;
    use crate::host::{Host, HostConfig};
    use crate::log::EventLog;

    #[test]
    fn a_direct_access_to_device_memory_is_waited_for_as_any_other() {
        let log = EventLog::new();
        let host = Host::new(HostConfig::with_frames(16), log.clone()).unwrap();
        let asic = Asic::new(AsicConfig::new(AsicKind::Gaudi), host, log);
        let user = asic.add_initiator("user", InitiatorMode::User(1));
        let write = AccessKind::Write;
        let under_way = |asic: &Asic, _: Target, _: usize| {
            assert!(asic.mmus[0].is_accessed());
            Ok(())
        };
        asic.with_device_memory(asic.life(), user, 0x2000_0000, write, 8, under_way)
            .unwrap();
        assert!(!asic.mmus[0].is_accessed());
        asic.halt_user(1);
        let never = |_: &Asic, _: Target, _: usize| panic!("a halted engine accessed memory");
        let stopped = asic.with_device_memory(asic.life(), user, 0x2000_0000, write, 8, never);
        assert_eq!(stopped, Err(Stopped::Halted));
    }
}
