//! The MMU of Gaudi (facts 9.2).

use mmu_core::format::V1;
use mmu_core::{AddrRange, BusAddr, DeviceAddr};

use crate::asid::Asid;
use crate::profile::Gaudi;

use super::driver::{Hardware, Mmu};
use super::registers::{poll, read};
use super::roots::low_and_high;
use super::v1::{self, Capture};
use super::{Fault, FaultKind, MmuError, Registers, Timeouts};

const BUSY: u32 = 0xC1_2000;
const ASID: u32 = 0xC1_2004;
const ROOT_43_12: u32 = 0xC1_2008;
const ROOT_49_44: u32 = 0xC1_200C;
const PRODUCER_INDEX: u32 = 0xC1_2010;
const INVALIDATION_BASE_39_8: u32 = 0xC1_2014;
const INVALIDATION_BASE_49_40: u32 = 0xC1_2018;
const HOP_CONFIG: u32 = 0xC1_2024;
const INVALIDATION_STATE: u32 = 0xC1_203C;
const INVALIDATION_SET: u32 = 0xC1_2048;
const MEMORY_CACHE_INVALIDATION: u32 = 0xC1_2050;
const ENABLE: u32 = 0xC1_100C;
const INTERRUPT_MASK: u32 = 0xC1_102C;
const CAPTURES: [Capture; 2] = [
    Capture {
        kind: FaultKind::Page,
        register: 0xC1_1034,
    },
    Capture {
        kind: FaultKind::Access,
        register: 0xC1_103C,
    },
];

/// In `BUSY`: take over the root; reads one until that is done.
const TAKE_OVER: u32 = 1 << 31;
/// What `INTERRUPT_MASK` and `HOP_CONFIG` are set to (facts HW-GA-2).
const INTERRUPTS: u32 = 0xF;
const HOPS: u32 = 0x3_0440;
/// The first producer index after a reset (facts HW-GA-3).
const FIRST_INDEX: u8 = 1;

/// The MMU of Gaudi. Its tables are in device memory.
pub type GaudiMmu<R, const ASIDS: usize = 2> = Mmu<GaudiRegisters<R>, ASIDS>;

/// The register protocol of [`GaudiMmu`].
#[derive(Debug)]
pub struct GaudiRegisters<R> {
    registers: R,
    timeouts: Timeouts,
    /// The number of the next invalidation, modulo 256.
    next_index: u8,
}

impl<R: Registers, const ASIDS: usize> GaudiMmu<R, ASIDS> {
    /// A driver of the MMU behind `registers`, which it neither touches nor trusts before it is
    /// [enabled](super::MmuControl::enable). `parking` is the [parking table](super#parked-address-spaces).
    #[must_use]
    pub const fn new(registers: R, timeouts: Timeouts, parking: BusAddr) -> Self {
        let hardware = GaudiRegisters {
            registers,
            timeouts,
            next_index: FIRST_INDEX,
        };
        Self::over(hardware, parking)
    }
}

#[expect(unsafe_code, reason = "the safety of `Mmu` rests on it")]
// SAFETY: each step is written as facts 9.2 tell what the registers do, and what is reported as done
// was read from them.
unsafe impl<R: Registers> Hardware for GaudiRegisters<R> {
    type Format = V1;

    fn check_root(&self, root: BusAddr) -> Result<(), MmuError> {
        v1::halves(root).map(drop)
    }

    fn point(&mut self, asid: Asid, root: BusAddr) -> Result<(), MmuError> {
        let (low, high) = v1::halves(root)?;
        self.registers.write(ASID, u32::from(asid));
        self.registers.write(ROOT_43_12, low);
        self.registers.write(ROOT_49_44, high);
        self.registers.write(BUSY, TAKE_OVER);
        poll(&self.registers, BUSY, TAKE_OVER, 0, self.timeouts.root)
    }

    /// All that the habanalabs driver writes around enabling (facts HW-GA-2), but before it.
    fn prepare(&mut self) -> Result<(), MmuError> {
        let (low, high) = low_and_high(Gaudi::CACHE_MANAGEMENT.start().get(), 8);
        self.registers.write(INVALIDATION_BASE_39_8, low);
        self.registers.write(INVALIDATION_BASE_49_40, high);
        self.registers.write(MEMORY_CACHE_INVALIDATION, 1);
        self.registers.write(INTERRUPT_MASK, INTERRUPTS);
        self.registers.write(HOP_CONFIG, HOPS);
        self.next_index = FIRST_INDEX;
        Ok(())
    }

    fn switch(&mut self, on: bool) -> Result<(), MmuError> {
        self.registers.write(ENABLE, u32::from(on));
        if read(&self.registers, ENABLE)? & 1 != u32::from(on) {
            return Err(MmuError::Stuck);
        }
        Ok(())
    }

    /// The sequence of facts HW-GA-3; `INVALIDATION_SET` is cleared after a failure as well.
    fn drop_all(&mut self) -> Result<(), MmuError> {
        self.registers.write(INVALIDATION_STATE, 3);
        self.registers
            .write(PRODUCER_INDEX, u32::from(self.next_index));
        self.next_index = self.next_index.wrapping_add(1);
        self.registers.write(INVALIDATION_STATE, 2);
        let timeout = self.timeouts.invalidation;
        let result = poll(&self.registers, INVALIDATION_STATE, u32::MAX, 0, timeout);
        self.registers.write(INVALIDATION_SET, 0);
        result
    }

    /// Gaudi has no invalidation of a part (facts HW-GA-3).
    fn drop_range(&mut self, _: Asid, _: AddrRange<DeviceAddr>) -> Result<(), MmuError> {
        self.drop_all()
    }

    /// The habanalabs driver invalidates everything on Gaudi when it maps as well (facts HW-GA-3).
    fn announce(&mut self) -> Result<(), MmuError> {
        self.drop_all()
    }

    fn next_fault(&mut self, from: &mut u32) -> Result<Option<Fault>, MmuError> {
        v1::next_fault(&self.registers, &CAPTURES, from)
    }
}
