//! RISC-V Sv39, its lower half, as a format: all that it takes to add one.

use mmu_core::format::{Entry, HopGeometry};
use mmu_core::{Format, Hop};

/// The format.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sv39;

/// What may be done with a page: bits 1 to 3 of a leaf, none of which a table has.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Rights(u64);

impl Rights {
    pub(crate) const READ: Self = Self(0b001);
    pub(crate) const READ_WRITE: Self = Self(0b011);
    pub(crate) const ALL: Self = Self(0b111);
}

const VALID: u64 = 1 << 0;
/// Set from the start, since a processor may trap instead of setting them.
const ACCESSED_AND_DIRTY: u64 = 0b11 << 6;

impl Format for Sv39 {
    type Attributes = Rights;

    const NAME: &'static str = "RISC-V Sv39";
    const HOPS: &'static [HopGeometry] = &[
        HopGeometry::leaves(30, 9),
        HopGeometry::leaves(21, 9),
        HopGeometry::leaves(12, 9),
    ];
    const LAST_WALK_ADDRESS: u64 = (1 << 38) - 1;

    fn table_entry(_hop: Hop, address: u64) -> u64 {
        address >> 12 << 10 | VALID
    }

    fn leaf_entry(_hop: Hop, address: u64, rights: Rights) -> u64 {
        address >> 12 << 10 | ACCESSED_AND_DIRTY | rights.0 << 1 | VALID
    }

    fn decode(_hop: Hop, entry: u64) -> Entry<Rights> {
        let address = entry << 10 >> 20 << 12;
        match (entry & VALID, entry >> 1 & 0b111) {
            (0, _) => Entry::Empty,
            (_, 0) => Entry::Table { address },
            (_, rights) => Entry::Leaf {
                address,
                attributes: Rights(rights),
            },
        }
    }
}
