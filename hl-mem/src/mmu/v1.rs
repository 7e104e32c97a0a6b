//! What the MMUs of Goya and Gaudi share.

use mmu_core::{AddrRange, BusAddr, DeviceAddr};

use super::registers::read;
use super::roots::root_halves;
use super::{Fault, FaultKind, MmuError, Registers};

/// Bits of a table's address that the root registers take (facts PT-6).
const ADDRESS_BITS: u32 = 50;

/// In a capture register: an address was captured (facts 9.1).
const CAPTURED: u32 = 1 << 18;
/// In a capture register: bits 49:32 of the address.
const CAPTURED_49_32: u32 = CAPTURED - 1;

/// A pair of registers that captures the address of a stopped access.
#[derive(Clone, Copy, Debug)]
pub(super) struct Capture {
    pub(super) kind: FaultKind,
    /// The capture register; the one after it has address bits 31:0.
    pub(super) register: u32,
}

/// The values of the two root registers.
pub(super) fn halves(root: BusAddr) -> Result<(u32, u32), MmuError> {
    root_halves(root, ADDRESS_BITS)
}

/// Takes the first fault that one of `captures` holds, from a number on.
pub(super) fn next_fault<R: Registers>(
    registers: &R,
    captures: &[Capture],
    from: &mut u32,
) -> Result<Option<Fault>, MmuError> {
    while let Some(capture) = captures.get(*from as usize) {
        *from += 1;
        let high = read(registers, capture.register)?;
        if high & CAPTURED == 0 {
            continue;
        }
        // All ones are a possible value of this one.
        let low = registers.read(capture.register + 4);
        registers.write(capture.register, 0);
        let address = u64::from(high & CAPTURED_49_32) << 32 | u64::from(low);
        return Ok(Some(Fault {
            kind: capture.kind,
            at: AddrRange::new(DeviceAddr::new(address), 1),
            instance: 0,
        }));
    }
    Ok(None)
}
