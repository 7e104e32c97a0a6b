//! Which register lies at which configuration-space offset (facts 9.1 to 9.3).
//!
//! Each ASIC is a table from offset to [`Register`]; what a register *does* is in `mmu`.

use super::config::AsicKind;

/// A register by meaning. One MMU has at most one of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Register {
    /// Bits 43:12 of the root address to latch.
    RootLow,
    /// The bits above.
    RootHigh,
    /// The ASID to latch it for (Gaudi, Gaudi2).
    Asid,
    /// Bit 31 starts the latching (Gaudi, Gaudi2).
    Busy,
    /// Bit 31 starts the latching for the ASID in the low bits (Goya).
    AsidBusy,
    /// Bit 0: translate.
    Enable,
    /// Bit 0: pass everything untranslated.
    Bypass,
    /// Bit 0 starts a full invalidation and reads 0 when it is done (Goya, Gaudi2).
    InvalidateAll,
    /// State of the producer-index protocol (Gaudi).
    InvalidateState,
    /// Producer index of that protocol.
    InvalidateProducer,
    /// Closes that protocol.
    InvalidateSet,
    /// Bit 0 empties the line cache.
    MemoryCacheInvalidate,
    /// Bit 0: that is done, cleared by software; bit 1: idle (Gaudi2).
    MemoryCacheStatus,
    /// Starts a range invalidation; bit 0 clears when it is done (Gaudi2).
    RangeInvalidate,
    /// Bits 43:12 of the exclusive start.
    RangeStartLow,
    /// The bits above.
    RangeStartHigh,
    /// Bits 43:12 of the end.
    RangeEndLow,
    /// The bits above.
    RangeEndHigh,
    /// Bit 18: captured; bits 17:0: address bits 49:32 (Goya, Gaudi).
    PageCapture,
    /// Address bits 31:0.
    PageCaptureAddress,
    /// As [`PageCapture`](Self::PageCapture), for access errors.
    AccessCapture,
    /// Address bits 31:0.
    AccessCaptureAddress,
    /// Captured address of a page error, high and low half (Gaudi2).
    PageErrorHigh,
    PageErrorLow,
    /// Captured address of an access error, high and low half (Gaudi2).
    AccessErrorHigh,
    AccessErrorLow,
    /// Bit 0: the page capture is valid; bit 1: the access capture is (Gaudi2).
    ErrorValid,
    /// Which causes interrupt.
    CauseMask,
    /// The causes seen.
    Cause,
    /// Clears interrupts (Gaudi2).
    InterruptClear,
    /// Page size codes; bit 20: 8-bit-hop mode (Gaudi2).
    MultiPageSize,
    /// Bits 2:0: the hop a walk begins at; bits 10:8 (Goya, Gaudi) or 14:12 (Gaudi2): the hop it ends
    /// at. The other fields have no effect in this model (facts UK-3).
    HopConfig,
    /// Reads 0: the cache memory is initialised.
    SramInit,
    /// Keeps what is written, without effect in this model (facts UK-3).
    Plain(u32),
}

use Register as R;

const GOYA: &[(u32, Register)] = &[
    (0x490000, R::AsidBusy),
    (0x490004, R::RootLow),
    (0x490008, R::RootHigh),
    (0x490010, R::Plain(0x490010)),
    (0x490014, R::Plain(0x490014)),
    (0x490018, R::Plain(0x490018)),
    (0x49001C, R::Plain(0x49001C)),
    (0x490024, R::HopConfig),
    (0x490034, R::InvalidateAll),
    (0x49003C, R::Plain(0x49003C)),
    (0x490040, R::Plain(0x490040)),
    (0x490048, R::Plain(0x490048)),
    (0x49004C, R::SramInit),
    (0x48000C, R::Enable),
    (0x480020, R::Plain(0x480020)),
    (0x48002C, R::CauseMask),
    (0x480030, R::Cause),
    (0x480034, R::PageCapture),
    (0x480038, R::PageCaptureAddress),
    (0x48003C, R::AccessCapture),
    (0x480040, R::AccessCaptureAddress),
];

const GAUDI: &[(u32, Register)] = &[
    (0xC12000, R::Busy),
    (0xC12004, R::Asid),
    (0xC12008, R::RootLow),
    (0xC1200C, R::RootHigh),
    (0xC12010, R::InvalidateProducer),
    (0xC12014, R::Plain(0xC12014)),
    (0xC12018, R::Plain(0xC12018)),
    (0xC12024, R::HopConfig),
    (0xC1203C, R::InvalidateState),
    (0xC12048, R::InvalidateSet),
    (0xC12050, R::MemoryCacheInvalidate),
    (0xC1100C, R::Enable),
    (0xC1102C, R::CauseMask),
    (0xC11034, R::PageCapture),
    (0xC11038, R::PageCaptureAddress),
    (0xC1103C, R::AccessCapture),
    (0xC11040, R::AccessCaptureAddress),
    (0xC1106C, R::Bypass),
];

/// Offsets within a Gaudi2 MMU; its STLB block follows 0x1000 behind its MMU block.
const GAUDI2: &[(u32, Register)] = &[
    (0x000C, R::Enable),
    (0x002C, R::CauseMask),
    (0x0030, R::Cause),
    (0x0034, R::PageErrorHigh),
    (0x0038, R::PageErrorLow),
    (0x003C, R::AccessErrorHigh),
    (0x0040, R::AccessErrorLow),
    (0x0044, R::ErrorValid),
    (0x0048, R::InterruptClear),
    (0x006C, R::Bypass),
    (0x0070, R::MultiPageSize),
    (0x1000, R::Busy),
    (0x1004, R::Asid),
    (0x1008, R::RootLow),
    (0x100C, R::RootHigh),
    (0x1024, R::HopConfig),
    (0x1028, R::Plain(0x1028)),
    (0x1034, R::InvalidateAll),
    (0x104C, R::SramInit),
    (0x1050, R::MemoryCacheInvalidate),
    (0x1054, R::MemoryCacheStatus),
    (0x108C, R::RangeInvalidate),
    (0x1090, R::RangeStartLow),
    (0x1094, R::RangeStartHigh),
    (0x1098, R::RangeEndLow),
    (0x109C, R::RangeEndHigh),
];

const PMMU_BASE: u32 = 0x4D0_0000;
const HMMU_BASE: u32 = 0x408_0000;
const DCORE_STRIDE: u32 = 0x20_0000;
const HMMU_STRIDE: u32 = 0x1_0000;
const BLOCK: u32 = 0x2000;

/// HMMUs of a Gaudi2.
pub(crate) const HMMUS: usize = 16;

/// The MMU (by position in the ASIC's list: 0 is the single one or the PMMU, 1 to 16 the HMMUs) and
/// the register at an offset.
pub(crate) fn decode(kind: AsicKind, offset: u32) -> Option<(usize, Register)> {
    let find = |table: &[(u32, Register)], offset: u32| {
        let entry = table.iter().find(|(at, _)| *at == offset)?;
        Some(entry.1)
    };
    match kind {
        AsicKind::Goya => Some((0, find(GOYA, offset)?)),
        AsicKind::Gaudi => Some((0, find(GAUDI, offset)?)),
        AsicKind::Gaudi2 => {
            let pmmu = offset.wrapping_sub(PMMU_BASE);
            if pmmu < BLOCK {
                return Some((0, find(GAUDI2, pmmu)?));
            }
            let hmmus = offset.checked_sub(HMMU_BASE)?;
            let (dcore, rest) = (hmmus / DCORE_STRIDE, hmmus % DCORE_STRIDE);
            let (index, within) = (rest / HMMU_STRIDE, rest % HMMU_STRIDE);
            if dcore > 3 || index > 3 || within >= BLOCK {
                return None;
            }
            let position = 1 + dcore * 4 + index;
            Some((position as usize, find(GAUDI2, within)?))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hmmu_answers_at_its_own_place() {
        let last = HMMU_BASE + 3 * DCORE_STRIDE + 3 * HMMU_STRIDE + 0x1034;
        assert_eq!(last, 0x46B_1034);
        assert_eq!(decode(AsicKind::Gaudi2, last), Some((16, R::InvalidateAll)));
        assert_eq!(decode(AsicKind::Gaudi2, 0x408_000C), Some((1, R::Enable)));
        assert_eq!(
            decode(AsicKind::Gaudi2, 0x4D0_108C),
            Some((0, R::RangeInvalidate))
        );
        assert_eq!(decode(AsicKind::Gaudi2, last + HMMU_STRIDE), None);
        assert_eq!(decode(AsicKind::Goya, 0x4D0_108C), None);
    }

    #[test]
    fn no_table_names_an_offset_or_a_register_twice() {
        for table in [GOYA, GAUDI, GAUDI2] {
            let mut offsets: Vec<_> = table.iter().map(|(offset, _)| offset).collect();
            let mut registers: Vec<_> = table.iter().map(|(_, register)| register).collect();
            offsets.sort();
            offsets.dedup();
            registers.sort();
            registers.dedup();
            assert_eq!((offsets.len(), registers.len()), (table.len(), table.len()));
        }
    }
}
