//! The formats as the tests see them, written down anew from the facts rather than taken from the
//! code under test.

use mmu_core::Format;
use mmu_core::format::{Gaudi2Hmmu, Gaudi2Pmmu, Gaudi2Pmmu64K, V1, X86_64, X86Attributes};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// A size of leaves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) hop: u8,
    pub(crate) bytes: u64,
}

const fn size(hop: u8, bytes: u64) -> Size {
    Size { hop, bytes }
}

/// How entries look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Entries {
    /// Bit 0 present, bit 11 leaf (facts 2.1).
    Habanalabs,
    /// Bit 0 present, bit 7 leaf above the deepest hop, bits 1, 2 and 63 rights.
    X86,
}

/// A format in numbers of its own.
pub(crate) trait Shape: Format<Attributes: Default> {
    /// Shift and index bits of each hop, root first.
    const INDEX: &'static [(u32, u32)];
    const ENTRIES: Entries;
    /// Leaf sizes, smallest first.
    const SIZES: &'static [Size];
    /// Functional HBM stacks, where addresses are scrambled (facts 2.6).
    const STACKS: Option<u64> = None;
    /// Alignment counts from here.
    const ORIGIN: u64 = 0;
    /// The start of a range where at least a thousand of the largest leaves fit.
    const BASE: u64;
    /// Bus addresses for it: as much aligned as the base.
    const BUS: u64;
    /// The first and the last page of each address range that the ASICs have (facts 5.1), with
    /// the page's bytes.
    const PAGES: &'static [(u64, u64)];
    /// Where several hops change their table at once, near the base.
    const EDGE: u64;
    /// Tables that the sparse test fills with one page each: 64 GiB of them, or of device memory as
    /// many as there is room for.
    const SPARSE: u64 = 32_768;
    /// Whether the long scenarios go all the way in a quick run as well.
    const ALWAYS_LONG: bool = false;
    /// Smallest leaves in the window of random tests.
    const WINDOW: u64 = 1 << 18;

    fn attributes(_bits: u8) -> Self::Attributes {
        Self::Attributes::default()
    }

    /// The inverse of [`attributes`](Self::attributes).
    fn bits(_attributes: Self::Attributes) -> u8 {
        0
    }

    /// Bytes of the smallest leaf.
    fn small() -> u64 {
        Self::SIZES[0].bytes
    }

    /// Bytes of the next larger leaf, where there is one.
    fn large() -> u64 {
        Self::SIZES[1].bytes
    }

    /// Bytes of the largest leaf.
    fn largest() -> u64 {
        Self::SIZES[Self::SIZES.len() - 1].bytes
    }

    /// Smallest leaves in a table.
    fn slots() -> u64 {
        1 << Self::INDEX[Self::INDEX.len() - 1].1
    }

    fn is_aligned(address: u64, bytes: u64) -> bool {
        (address - Self::ORIGIN).is_multiple_of(bytes)
    }
}

/// How often a scenario repeats what is the same for all formats: `all` in a long run
/// (`HL_LONG_TESTS` is set) and for one format always, and otherwise `part`.
pub(crate) fn repetitions<F: Shape>(all: u64, part: u64) -> u64 {
    if F::ALWAYS_LONG || std::env::var_os("HL_LONG_TESTS").is_some() {
        all
    } else {
        all.min(part)
    }
}

impl Shape for V1 {
    const INDEX: &'static [(u32, u32)] = &[(48, 2), (39, 9), (30, 9), (21, 9), (12, 9)];
    const ENTRIES: Entries = Entries::Habanalabs;
    const SIZES: &'static [Size] = &[size(4, 4 * KIB), size(3, 2 * MIB)];
    const BASE: u64 = 0x1_0000_0000_0000;
    const EDGE: u64 = 0x1_0080_0000_0000;
    const ALWAYS_LONG: bool = true;
    const BUS: u64 = 0x8_4000_0000;
    const PAGES: &'static [(u64, u64)] = &[
        (0x1_0000_0000_0000, 4 * KIB),
        (0x3_FF7F_FFFF_F000, 4 * KIB),
        (0x2_7FBF_FFFF_E000, 4 * KIB),
        (0x1_0000_0000_0000, 2 * MIB),
        (0x3_FF7F_FFE0_0000, 2 * MIB),
        (0x8_0000_0000, 2 * MIB),
        (0x1F_FFE0_0000, 2 * MIB),
        (0x2_7FC0_0000_0000, 2 * MIB),
        (0x80_0000_0000, 2 * MIB),
    ];
}

impl Shape for Gaudi2Pmmu {
    const INDEX: &'static [(u32, u32)] = &[(57, 7), (48, 9), (39, 9), (30, 9), (21, 9), (12, 9)];
    const ENTRIES: Entries = Entries::Habanalabs;
    const SIZES: &'static [Size] = &[size(5, 4 * KIB), size(4, 2 * MIB)];
    const BASE: u64 = 0xFFF0_0000_0000_0000;
    const EDGE: u64 = 0xFFF0_0080_0000_0000;
    const BUS: u64 = 0x8_4000_0000;
    const PAGES: &'static [(u64, u64)] = &[
        (0xFFF0_0000_0000_0000, 4 * KIB),
        (0xFFF0_7FFF_FFFF_F000, 4 * KIB),
        (0xFFF0_77FF_FFFF_0000, 4 * KIB),
        (0xFFF0_8000_0000_0000, 2 * MIB),
        (0xFFF0_FFFF_FFE0_0000, 2 * MIB),
        (0xFFFF_FFFF_FFFF_F000, 4 * KIB),
        (0xFFFF_FFFF_FFE0_0000, 2 * MIB),
        (0, 4 * KIB),
    ];
}

impl Shape for Gaudi2Pmmu64K {
    const INDEX: &'static [(u32, u32)] = &[(56, 8), (48, 8), (40, 8), (32, 8), (24, 8), (16, 8)];
    const ENTRIES: Entries = Entries::Habanalabs;
    const SIZES: &'static [Size] = &[size(5, 64 * KIB), size(4, 16 * MIB)];
    const BASE: u64 = 0xFFF0_0000_0000_0000;
    const SPARSE: u64 = 4096;
    const EDGE: u64 = 0xFFF0_0100_0000_0000;
    const BUS: u64 = 0x9_0000_0000;
    const PAGES: &'static [(u64, u64)] = &[
        (0xFFF0_0000_0000_0000, 64 * KIB),
        (0xFFF0_7FFF_FFFF_0000, 64 * KIB),
        (0xFFF0_8000_0000_0000, 16 * MIB),
        (0xFFF0_FFFF_FF00_0000, 16 * MIB),
        (0xFFFF_FFFF_FFFF_0000, 64 * KIB),
        (0xFFFF_FFFF_FF00_0000, 16 * MIB),
        (0, 64 * KIB),
    ];
}

const DRAM: u64 = 0x1001_0000_0000_0000;
const HMMU_INDEX: &[(u32, u32)] = &[(57, 7), (48, 9), (39, 9), (30, 9)];

impl Shape for Gaudi2Hmmu<6> {
    const INDEX: &'static [(u32, u32)] = HMMU_INDEX;
    const ENTRIES: Entries = Entries::Habanalabs;
    const SIZES: &'static [Size] = &[size(3, 768 * MIB)];
    const STACKS: Option<u64> = Some(6);
    const ORIGIN: u64 = DRAM;
    const BASE: u64 = 0x1001_0018_0000_0000;
    // VA page 0 has index 0x80 (facts 2.8), so page 384 begins the next table.
    const EDGE: u64 = Self::BASE + 384 * 768 * MIB;
    const SPARSE: u64 = 500;
    const BUS: u64 = 0x1001_0000_3000_0000;
    // The last page is the last before the fold (facts SC-6).
    const PAGES: &'static [(u64, u64)] = &[
        (0x1001_0018_0000_0000, 768 * MIB),
        (0x1001_0077_D000_0000, 768 * MIB),
        (0x1001_BFFF_D000_0000, 768 * MIB),
    ];
    const WINDOW: u64 = 512;
}

impl Shape for Gaudi2Hmmu<5> {
    const INDEX: &'static [(u32, u32)] = HMMU_INDEX;
    const ENTRIES: Entries = Entries::Habanalabs;
    const SIZES: &'static [Size] = &[size(3, 640 * MIB)];
    const STACKS: Option<u64> = Some(5);
    const ORIGIN: u64 = DRAM;
    const BASE: u64 = 0x1001_0014_0000_0000;
    const EDGE: u64 = Self::BASE + 384 * 640 * MIB;
    const SPARSE: u64 = 500;
    const BUS: u64 = 0x1001_0000_2800_0000;
    const PAGES: &'static [(u64, u64)] = &[
        (0x1001_0014_0000_0000, 640 * MIB),
        (0x1001_0063_D800_0000, 640 * MIB),
        (0x1001_9FFF_D800_0000, 640 * MIB),
    ];
    const WINDOW: u64 = 512;
}

macro_rules! x86_64 {
    ($levels:literal, $index:expr, $base:expr, $edge:expr, $pages:expr) => {
        impl Shape for X86_64<$levels> {
            const INDEX: &'static [(u32, u32)] = $index;
            const ENTRIES: Entries = Entries::X86;
            const SIZES: &'static [Size] = &[
                size($levels - 1, 4 * KIB),
                size($levels - 2, 2 * MIB),
                size($levels - 3, GIB),
            ];
            const BASE: u64 = $base;
            const EDGE: u64 = $edge;
            const BUS: u64 = 0x8_4000_0000;
            const PAGES: &'static [(u64, u64)] = $pages;

            fn attributes(bits: u8) -> X86Attributes {
                X86Attributes {
                    writable: bits & 1 != 0,
                    user: bits & 2 != 0,
                    no_execute: bits & 4 != 0,
                }
            }

            fn bits(attributes: X86Attributes) -> u8 {
                u8::from(attributes.writable)
                    | u8::from(attributes.user) << 1
                    | u8::from(attributes.no_execute) << 2
            }
        }
    };
}

x86_64!(
    4,
    &[(39, 9), (30, 9), (21, 9), (12, 9)],
    0x40_0000_0000,
    0x80_0000_0000,
    &[
        (0, 4 * KIB),
        (0x7FFF_FFFF_F000, 4 * KIB),
        (0xFFFF_8000_0000_0000, 4 * KIB),
        (0xFFFF_FFFF_FFFF_F000, 4 * KIB),
        (0xFFFF_FFFF_C000_0000, GIB),
        (0x7FFF_C000_0000, GIB),
    ]
);
x86_64!(
    5,
    &[(48, 9), (39, 9), (30, 9), (21, 9), (12, 9)],
    0xFFFF_0000_0000_0000,
    0xFFFF_0080_0000_0000,
    &[
        (0, 4 * KIB),
        (0xFF_FFFF_FFFF_F000, 4 * KIB),
        (0xFF00_0000_0000_0000, 4 * KIB),
        (0xFFFF_FFFF_FFFF_F000, 4 * KIB),
        (0xFFFF_FFFF_C000_0000, GIB),
        (0xFF_FFFF_C000_0000, GIB),
    ]
);
