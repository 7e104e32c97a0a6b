//! The MMU of Goya (facts 9.1).

use mmu_core::format::V1;
use mmu_core::{AddrRange, BusAddr, DeviceAddr};

use crate::asid::Asid;
use crate::profile::Goya;

use super::driver::{Hardware, Mmu};
use super::registers::{modify, poll, read};
use super::roots::low_and_high;
use super::v1::{self, Capture};
use super::{Fault, FaultKind, MmuError, Registers, Timeouts};

const ASID_BUSY: u32 = 0x49_0000;
const ROOT_43_12: u32 = 0x49_0004;
const ROOT_49_44: u32 = 0x49_0008;
const INVALIDATION_BASE_39_8: u32 = 0x49_0014;
const INVALIDATION_BASE_49_40: u32 = 0x49_0018;
const FEATURE_ENABLE: u32 = 0x49_001C;
const INVALIDATE_ALL: u32 = 0x49_0034;
const ENABLE: u32 = 0x48_000C;
const INTERRUPT_MASK: u32 = 0x48_002C;
const CAPTURES: [Capture; 2] = [
    Capture {
        kind: FaultKind::Page,
        register: 0x48_0034,
    },
    Capture {
        kind: FaultKind::Access,
        register: 0x48_003C,
    },
];

/// In `ASID_BUSY`: take over the root; reads one until that is done.
const BUSY: u32 = 1 << 31;
/// In `FEATURE_ENABLE`: the follower, which has a performance bug (facts HW-GO-2).
const FOLLOWER: u32 = 1 << 6;
/// What `INTERRUPT_MASK` is set to (facts HW-GO-2).
const INTERRUPTS: u32 = 0xF;

/// The MMU of Goya.
///
/// Its tables are in device memory. Only the parking table must be in order when it is enabled:
/// unlike in the habanalabs driver, every ASID is parked until it gets a root, so that it does not
/// matter what the rest of table memory contains by then (facts HW-GO-3).
pub type GoyaMmu<R, const ASIDS: usize = 2> = Mmu<GoyaRegisters<R>, ASIDS>;

/// The register protocol of [`GoyaMmu`].
#[derive(Debug)]
pub struct GoyaRegisters<R> {
    registers: R,
    timeouts: Timeouts,
}

impl<R: Registers, const ASIDS: usize> GoyaMmu<R, ASIDS> {
    /// A driver of the MMU behind `registers`, which it neither touches nor trusts before it is
    /// [enabled](super::MmuControl::enable). `parking` is the [parking table](super#parked-address-spaces).
    #[must_use]
    pub const fn new(registers: R, timeouts: Timeouts, parking: BusAddr) -> Self {
        let hardware = GoyaRegisters {
            registers,
            timeouts,
        };
        Self::over(hardware, parking)
    }
}

#[expect(unsafe_code, reason = "the safety of `Mmu` rests on it")]
// SAFETY: each step is written as facts 9.1 tell what the registers do, and what is reported as done
// was read from them.
unsafe impl<R: Registers> Hardware for GoyaRegisters<R> {
    type Format = V1;

    fn check_root(&self, root: BusAddr) -> Result<(), MmuError> {
        v1::halves(root).map(drop)
    }

    fn point(&mut self, asid: Asid, root: BusAddr) -> Result<(), MmuError> {
        let (low, high) = v1::halves(root)?;
        self.registers.write(ROOT_43_12, low);
        self.registers.write(ROOT_49_44, high);
        self.registers.write(ASID_BUSY, BUSY | u32::from(asid));
        poll(&self.registers, ASID_BUSY, BUSY, 0, self.timeouts.root)
    }

    fn prepare(&mut self) -> Result<(), MmuError> {
        let (low, high) = low_and_high(Goya::CACHE_MANAGEMENT.start().get(), 8);
        self.registers.write(INVALIDATION_BASE_39_8, low);
        self.registers.write(INVALIDATION_BASE_49_40, high);
        modify(&self.registers, FEATURE_ENABLE, FOLLOWER, 0)?;
        self.registers.write(INTERRUPT_MASK, INTERRUPTS);
        Ok(())
    }

    fn switch(&mut self, on: bool) -> Result<(), MmuError> {
        self.registers.write(ENABLE, u32::from(on));
        if read(&self.registers, ENABLE)? & 1 != u32::from(on) {
            return Err(MmuError::Stuck);
        }
        Ok(())
    }

    fn drop_all(&mut self) -> Result<(), MmuError> {
        self.registers.write(INVALIDATE_ALL, 1);
        let timeout = self.timeouts.invalidation;
        poll(&self.registers, INVALIDATE_ALL, u32::MAX, 0, timeout)
    }

    /// Goya has no invalidation of a part (facts HW-GO-4).
    fn drop_range(&mut self, _: Asid, _: AddrRange<DeviceAddr>) -> Result<(), MmuError> {
        self.drop_all()
    }

    /// The habanalabs driver does nothing here (facts HW-GO-4). Whether Goya's caches remember what
    /// is absent is not known (facts UK-2); if they do, an access to what was just mapped beside
    /// it faults. The one invalidation that Goya has settles it either way.
    fn announce(&mut self) -> Result<(), MmuError> {
        self.drop_all()
    }

    fn next_fault(&mut self, from: &mut u32) -> Result<Option<Fault>, MmuError> {
        v1::next_fault(&self.registers, &CAPTURES, from)
    }
}
