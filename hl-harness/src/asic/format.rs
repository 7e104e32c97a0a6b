//! The page-table formats as the hardware sees them: bytes, shifts and masks.
//!
//! This is the device's own description, written from the facts (sections 2.1 to 2.6) and sharing
//! nothing with `mmu-core`, so that a mistake in either shows as a disagreement.

use core::fmt;

use serde::{Deserialize, Serialize};

use super::config::HbmStacks;

/// Bit 0 of an entry: it means something.
pub(crate) const PRESENT: u64 = 1;
/// Bit 11 of an entry: it is a leaf.
pub(crate) const LAST: u64 = 1 << 11;
/// Bits 63:12 of an entry: the address.
pub(crate) const ADDRESS: u64 = !0xFFF;

/// One hop: which bits of the address index its table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hop {
    pub(crate) mask: u64,
    pub(crate) shift: u32,
    /// Whether a leaf may stand here.
    pub(crate) leaf: bool,
}

impl Hop {
    pub(crate) const fn index(self, address: u64) -> u64 {
        (address & self.mask) >> self.shift
    }

    /// Entries that its tables have.
    pub(crate) const fn entries(self) -> u64 {
        (self.mask >> self.shift) + 1
    }

    /// Bytes mapped by one entry.
    pub(crate) const fn span(self) -> u64 {
        1 << self.shift
    }
}

const fn hop(mask: u64, shift: u32, leaf: bool) -> Hop {
    Hop { mask, shift, leaf }
}

/// Which format page tables have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FormatKind {
    /// Of the single MMU of Goya and Gaudi: five hops, leaves of 2 MiB and 4 KiB.
    V1,
    /// Of Gaudi2's PMMU: six hops, leaves of 2 MiB and 4 KiB.
    Pmmu,
    /// Of Gaudi2's PMMU for hosts with pages of 64 KiB: six hops, leaves of 16 MiB and 64 KiB.
    Pmmu64K,
    /// Of Gaudi2's HMMUs: four hops over scrambled addresses, leaves of 1 GiB.
    Hmmu,
}

impl FormatKind {
    pub(crate) const fn format(self) -> &'static Format {
        match self {
            Self::V1 => &V1,
            Self::Pmmu => &PMMU,
            Self::Pmmu64K => &PMMU_64K,
            Self::Hmmu => &HMMU,
        }
    }
}

impl fmt::Display for FormatKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1 => "goya and gaudi",
            Self::Pmmu => "gaudi2 pmmu",
            Self::Pmmu64K => "gaudi2 pmmu, 8-bit hops",
            Self::Hmmu => "gaudi2 hmmu",
        })
    }
}

/// A whole walk, from hop 0 on.
#[derive(Debug)]
pub(crate) struct Format {
    pub(crate) kind: FormatKind,
    pub(crate) hops: &'static [Hop],
    /// The address bits that take part in the walk; the others are ignored.
    pub(crate) significant: u64,
}

/// Goya and Gaudi (facts 2.2).
pub(crate) static V1: Format = Format {
    kind: FormatKind::V1,
    hops: &[
        hop(0x3_0000_0000_0000, 48, false),
        hop(0x0_FF80_0000_0000, 39, false),
        hop(0x0_007F_C000_0000, 30, false),
        hop(0x0_0000_3FE0_0000, 21, true),
        hop(0x0_0000_001F_F000, 12, true),
    ],
    significant: 0x3_FFFF_FFFF_FFFF,
};

/// Gaudi2's PMMU with 4 KiB host pages (facts 2.4).
pub(crate) static PMMU: Format = Format {
    kind: FormatKind::Pmmu,
    hops: &[
        hop(0xFE00_0000_0000_0000, 57, false),
        hop(0x01FF_0000_0000_0000, 48, false),
        hop(0x0000_FF80_0000_0000, 39, false),
        hop(0x0000_007F_C000_0000, 30, false),
        hop(0x0000_0000_3FE0_0000, 21, true),
        hop(0x0000_0000_001F_F000, 12, true),
    ],
    significant: u64::MAX,
};

/// Gaudi2's PMMU in 8-bit-hop mode, for 64 KiB host pages (facts 2.4).
pub(crate) static PMMU_64K: Format = Format {
    kind: FormatKind::Pmmu64K,
    hops: &[
        hop(0xFF00_0000_0000_0000, 56, false),
        hop(0x00FF_0000_0000_0000, 48, false),
        hop(0x0000_FF00_0000_0000, 40, false),
        hop(0x0000_00FF_0000_0000, 32, false),
        hop(0x0000_0000_FF00_0000, 24, true),
        hop(0x0000_0000_00FF_0000, 16, true),
    ],
    significant: u64::MAX,
};

/// Gaudi2's HMMUs (facts 2.5). The address walked is the scrambled one.
pub(crate) static HMMU: Format = Format {
    kind: FormatKind::Hmmu,
    hops: &[
        hop(0xFE00_0000_0000_0000, 57, false),
        hop(0x01FF_0000_0000_0000, 48, false),
        hop(0x0000_FF80_0000_0000, 39, false),
        hop(0x0000_007F_C000_0000, 30, true),
    ],
    significant: u64::MAX,
};

/// Where the addresses that are scrambled begin and end (facts SC-2).
pub(crate) const SCRAMBLED_START: u64 = 0x1001_0000_0000_0000;
pub(crate) const SCRAMBLED_END: u64 = 0x1002_0000_0000_0000;

const LOW_48: u64 = (1 << 48) - 1;
const SLOT_SHIFT: u32 = 26;

/// Gaudi2's address scrambling (facts SC-3): each chunk of `chunk` bytes sits in a slot of 64 MiB.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scrambling {
    chunk: u64,
}

impl Scrambling {
    pub(crate) const fn new(stacks: HbmStacks) -> Self {
        Self {
            chunk: stacks.count() << 23,
        }
    }

    /// Whether `address` is in the domain: its eight bytes lie inside (facts SC-2).
    const fn applies(address: u64) -> bool {
        address >= SCRAMBLED_START && address <= SCRAMBLED_END - 8
    }

    pub(crate) const fn scramble(self, raw: u64) -> u64 {
        if !Self::applies(raw) {
            return raw;
        }
        let low = raw & LOW_48;
        // An OR, as the hardware does: the last pages of the range fold back (facts SC-6).
        (raw & !LOW_48) | ((low / self.chunk) << SLOT_SHIFT) | (low % self.chunk)
    }

    pub(crate) const fn descramble(self, scrambled: u64) -> u64 {
        if !Self::applies(scrambled) {
            return scrambled;
        }
        let low = scrambled & LOW_48;
        (scrambled & !LOW_48) + (low >> SLOT_SHIFT) * self.chunk + (low & ((1 << SLOT_SHIFT) - 1))
    }

    /// Device addresses that `bytes` of scrambled ones hold, both counted in whole slots.
    pub(crate) const fn raw_bytes(self, bytes: u64) -> u64 {
        (bytes >> SLOT_SHIFT) * self.chunk
    }

    /// Bytes from `raw` to the end of its chunk: what one translation covers contiguously.
    pub(crate) const fn rest_of_chunk(self, raw: u64) -> u64 {
        self.chunk - (raw & LOW_48) % self.chunk
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn indices(format: &Format, address: u64) -> Vec<u64> {
        format.hops.iter().map(|hop| hop.index(address)).collect()
    }

    #[test]
    fn indices_agree_with_the_vectors_of_the_facts() {
        assert_eq!(indices(&V1, 0x1000000000000), [1, 0, 0, 0, 0]);
        assert_eq!(
            indices(&V1, 0x3FF7FFFFFF000),
            [3, 0x1FE, 0x1FF, 0x1FF, 0x1FF]
        );
        assert_eq!(indices(&V1, 0x800000000)[..4], [0, 0, 0x20, 0]);
        assert_eq!(indices(&V1, 0x1FFFE00000)[..4], [0, 0, 0x7F, 0x1FF]);
        assert_eq!(indices(&V1, 0x8000000000), [0, 1, 0, 0, 0]);
        assert_eq!(indices(&V1, 0x27FC000000000)[..4], [2, 0xFF, 0x100, 0]);
        assert_eq!(indices(&V1, 0x123456789A000), [1, 0x46, 0x115, 0x13C, 0x9A]);
        let pmmu: [(u64, [u64; 6]); 5] = [
            (0xFFF0000000000000, [0x7F, 0x1F0, 0, 0, 0, 0]),
            (0xFFF07FFFFFFFF000, [0x7F, 0x1F0, 0xFF, 0x1FF, 0x1FF, 0x1FF]),
            (0xFFF0123456789000, [0x7F, 0x1F0, 0x24, 0xD1, 0xB3, 0x189]),
            (0xFFF0800000000000, [0x7F, 0x1F0, 0x100, 0, 0, 0]),
            (0xFFF077FFFFFF0000, [0x7F, 0x1F0, 0xEF, 0x1FF, 0x1FF, 0x1F0]),
        ];
        for (address, expected) in pmmu {
            assert_eq!(indices(&PMMU, address), expected, "{address:#x}");
        }
        assert_eq!(
            indices(&PMMU_64K, 0xFFF0123456780000),
            [0xFF, 0xF0, 0x12, 0x34, 0x56, 0x78]
        );
    }

    #[test]
    fn scrambling_agrees_with_the_vectors_of_the_facts() {
        let vectors = [
            (HbmStacks::Six, 0x1001001800000000, 0x1001002000000000),
            (HbmStacks::Six, 0x1001001830000000, 0x1001002040000000),
            (HbmStacks::Six, 0x10010077D0000000, 0x1001009FC0000000),
            (HbmStacks::Six, 0x1001007800000000, 0x100100A000000000),
            (HbmStacks::Six, 0x1001001812345678, 0x1001002018345678),
            (HbmStacks::Six, 0x1001000030000000, 0x1001000040000000),
            (HbmStacks::Six, 0x10010017D0000000, 0x1001001FC0000000),
            (HbmStacks::Six, 0x1001001802FFFFF8, 0x1001002002FFFFF8),
            (HbmStacks::Six, 0x100100182FFFFFF8, 0x100100203EFFFFF8),
            (HbmStacks::Five, 0x1001001400000000, 0x1001002000000000),
            (HbmStacks::Five, 0x1001001428000000, 0x1001002040000000),
            (HbmStacks::Five, 0x1001001412345678, 0x100100201CB45678),
            (HbmStacks::Five, 0x1001000028000000, 0x1001000040000000),
            (HbmStacks::Five, 0x10010013D8000000, 0x1001001FC0000000),
            (HbmStacks::Five, 0x10010014027FFFF8, 0x10010020027FFFF8),
            (HbmStacks::Five, 0x1001001427FFFFF8, 0x100100203E7FFFF8),
        ];
        for (stacks, raw, scrambled) in vectors {
            let scrambling = Scrambling::new(stacks);
            assert_eq!(scrambling.scramble(raw), scrambled, "{stacks:?} {raw:#x}");
            assert_eq!(scrambling.descramble(scrambled), raw, "{stacks:?} {raw:#x}");
        }
        // Outside the domain nothing changes, and the end of the range folds back (facts SC-6).
        let six = Scrambling::new(HbmStacks::Six);
        assert_eq!(six.scramble(0xFFF0000000000000), 0xFFF0000000000000);
        assert_eq!(six.scramble(0x1001FFFFFFFFFFF9), 0x1001FFFFFFFFFFF9);
        assert_eq!(six.scramble(0x1001C00000000000), 0x1001000000000000);
    }

    #[test]
    fn the_hmmu_indices_of_scrambled_pages_agree_with_the_facts() {
        let vectors = [
            (HbmStacks::Six, 0x1001001800000000, [8, 1, 0, 0x80]),
            (HbmStacks::Six, 0x1001001830000000, [8, 1, 0, 0x81]),
            (HbmStacks::Six, 0x10010077D0000000, [8, 1, 1, 0x7F]),
            (HbmStacks::Six, 0x1001007800000000, [8, 1, 1, 0x80]),
            (HbmStacks::Five, 0x1001001400000000, [8, 1, 0, 0x80]),
            (HbmStacks::Five, 0x1001001428000000, [8, 1, 0, 0x81]),
        ];
        for (stacks, raw, expected) in vectors {
            let walked = Scrambling::new(stacks).scramble(raw);
            assert_eq!(indices(&HMMU, walked), expected, "{stacks:?} {raw:#x}");
        }
    }
}
