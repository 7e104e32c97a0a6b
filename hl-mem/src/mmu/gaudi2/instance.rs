//! What a PMMU and an HMMU have in common: the same two register blocks at different places.

use mmu_core::BusAddr;

use crate::asid::Asid;

use crate::mmu::registers::{modify, poll, read};
use crate::mmu::roots::root_halves;
use crate::mmu::{FaultKind, MmuError, Registers, Timeouts};

/// Bits of a table's address that the root registers take (facts PT-6).
const ADDRESS_BITS: u32 = 64;

/// The block of translation caches begins this far after that of the MMU.
const CACHE_BLOCK: u32 = 0x1000;
const BUSY: u32 = CACHE_BLOCK;
const ASID: u32 = CACHE_BLOCK + 0x04;
const ROOT_43_12: u32 = CACHE_BLOCK + 0x08;
const ROOT_63_44: u32 = CACHE_BLOCK + 0x0C;
const HOP_CONFIG: u32 = CACHE_BLOCK + 0x24;
const INVALIDATE_ALL: u32 = CACHE_BLOCK + 0x34;
const CACHE_INIT: u32 = CACHE_BLOCK + 0x4C;

const ENABLE: u32 = 0x0C;
const INTERRUPT_MASK: u32 = 0x2C;
const CAUSE: u32 = 0x30;
const PAGE_ERROR_63_32: u32 = 0x34;
const ACCESS_ERROR_63_32: u32 = 0x3C;
const ERROR_VALID: u32 = 0x44;
const INTERRUPT_CLEAR: u32 = 0x48;
const BYPASS: u32 = 0x6C;
const PAGE_SIZES: u32 = 0x70;

/// In `BUSY`: take over the root; reads one until that is done.
const TAKE_OVER: u32 = 1 << 31;
/// In `INVALIDATE_ALL`: do it; reads one until it is done.
const START: u32 = 1;
/// The bits of `CAUSE` that exist (facts FR-1).
pub(super) const CAUSE_COUNT: usize = 19;
const CAUSES: u32 = (1 << CAUSE_COUNT) - 1;

/// What differs between the kinds of instances.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setup {
    /// The value of the fields in [`HOP_FIELDS`] of the hop configuration.
    pub(super) hops: u32,
    /// Fields of the page-size register, as a mask and their value.
    pub(super) page_sizes: (u32, u32),
    /// The causes that raise an interrupt.
    pub(super) interrupts: u32,
}

/// The fields of the hop configuration up to only-large; the one above is left alone.
const HOP_FIELDS: u32 = (1 << 21) - 1;

/// The hop configuration with its fields in place (facts 9.3).
pub(super) const fn hop_config(small: u32, large: u32, last: u32, follower: u32) -> u32 {
    // The first hop, in the lowest field, is hop 0.
    small << 4 | large << 8 | last << 12 | follower << 16
}

/// The field of the hop configuration that says that all leaves are large ones.
pub(super) const ONLY_LARGE: u32 = 1 << 20;

/// One MMU, by the offset of its first block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Instance(pub(super) u32);

impl Instance {
    pub(super) fn check_root(root: BusAddr) -> Result<(), MmuError> {
        root_halves(root, ADDRESS_BITS).map(drop)
    }

    /// The sequence of facts HW-G2-1.
    pub(super) fn point<R: Registers>(
        self,
        registers: &R,
        asid: Asid,
        root: BusAddr,
        timeouts: Timeouts,
    ) -> Result<(), MmuError> {
        let (low, high) = root_halves(root, ADDRESS_BITS)?;
        registers.write(self.0 + ASID, u32::from(asid));
        registers.write(self.0 + ROOT_43_12, low);
        registers.write(self.0 + ROOT_63_44, high);
        registers.write(self.0 + BUSY, TAKE_OVER);
        poll(registers, self.0 + BUSY, TAKE_OVER, 0, timeouts.root)
    }

    /// What facts HW-G2-2 to HW-G2-4 do before the roots and before enabling. Unlike there, a
    /// time-out is an error.
    pub(super) fn prepare<R: Registers>(
        self,
        registers: &R,
        setup: Setup,
        timeouts: Timeouts,
    ) -> Result<(), MmuError> {
        let (mask, sizes) = setup.page_sizes;
        if mask != 0 {
            modify(registers, self.0 + PAGE_SIZES, mask, sizes)?;
        }
        modify(registers, self.0 + HOP_CONFIG, HOP_FIELDS, setup.hops)?;
        registers.write(self.0 + INTERRUPT_MASK, setup.interrupts);
        self.start_drop_all(registers);
        let init = timeouts.init;
        poll(registers, self.0 + CACHE_INIT, u32::MAX, 0, init)?;
        poll(registers, self.0 + INVALIDATE_ALL, START, 0, init)?;
        registers.write(self.0 + BYPASS, 0);
        Ok(())
    }

    pub(super) fn switch<R: Registers>(self, registers: &R, on: bool) -> Result<(), MmuError> {
        registers.write(self.0 + ENABLE, u32::from(on));
        if read(registers, self.0 + ENABLE)? & 1 != u32::from(on) {
            return Err(MmuError::Stuck);
        }
        Ok(())
    }

    pub(super) fn start_drop_all<R: Registers>(self, registers: &R) {
        registers.write(self.0 + INVALIDATE_ALL, START);
    }

    pub(super) fn finish_drop_all<R: Registers>(
        self,
        registers: &R,
        timeouts: Timeouts,
    ) -> Result<(), MmuError> {
        let timeout = timeouts.invalidation;
        poll(registers, self.0 + INVALIDATE_ALL, START, 0, timeout)
    }

    /// Takes the fault with the lowest cause bit, and the address that was captured with it.
    pub(super) fn next_fault<R: Registers>(
        self,
        registers: &R,
        from: &mut u32,
    ) -> Result<Option<(FaultKind, Option<u64>)>, MmuError> {
        let passed = u32::MAX.checked_shl(*from).unwrap_or(0);
        let pending = read(registers, self.0 + CAUSE)? & CAUSES & passed;
        if pending == 0 {
            return Ok(None);
        }
        let cause = pending.trailing_zeros();
        *from = cause + 1;
        let (kind, address) = match cause {
            0 => (
                FaultKind::Page,
                self.take_capture(registers, 1, PAGE_ERROR_63_32)?,
            ),
            1 => (
                FaultKind::Access,
                self.take_capture(registers, 2, ACCESS_ERROR_63_32)?,
            ),
            // The lowest of 19 bits fits.
            _ => (FaultKind::Other { cause: cause as u8 }, None),
        };
        // Others may have come since; only this one has been dealt with.
        modify(registers, self.0 + CAUSE, 1 << cause, 0)?;
        if let Some(bit) = interrupt_bit(cause) {
            registers.write(self.0 + INTERRUPT_CLEAR, 1 << bit);
        }
        Ok(Some((kind, address)))
    }

    /// The address in a pair of capture registers, if `valid` says that there is one; the other
    /// pair stays valid (facts HZ-35).
    fn take_capture<R: Registers>(
        self,
        registers: &R,
        valid: u32,
        high: u32,
    ) -> Result<Option<u64>, MmuError> {
        if read(registers, self.0 + ERROR_VALID)? & valid == 0 {
            return Ok(None);
        }
        // All ones are a possible value of both.
        let address = u64::from(registers.read(self.0 + high)) << 32
            | u64::from(registers.read(self.0 + high + 4));
        modify(registers, self.0 + ERROR_VALID, valid, 0)?;
        Ok(Some(address))
    }
}

/// The bit that clears the interrupt of a cause (facts FR-1).
const fn interrupt_bit(cause: u32) -> Option<u32> {
    match cause {
        0 | 1 => Some(1),
        4..=7 => None,
        16 | 17 => Some(cause),
        _ => Some(2),
    }
}
