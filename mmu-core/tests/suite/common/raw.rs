//! A reader of table words that shares nothing with the code under test: it knows the formats from
//! [`Shape`], follows the bits as the hardware does, and checks invariants I1 to I3 (facts 14) on
//! the way.

use std::collections::BTreeSet;

use mmu_core::{PageTable, TableMemory};

use super::shape::{Entries, Shape};
use super::{ARENA, ENTRIES, Words};

/// Leaves of one size and with equal attributes that continue each other on both sides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stretch {
    pub(crate) at: u64,
    pub(crate) len: u64,
    pub(crate) bus: u64,
    pub(crate) leaf_bytes: u64,
    pub(crate) bits: u8,
}

impl Stretch {
    /// Joins stretches that continue each other.
    pub(crate) fn push(list: &mut Vec<Self>, next: Self) {
        match list.last_mut() {
            Some(last)
                if last.at.wrapping_add(last.len) == next.at
                    && last.at != next.at
                    && last.bus.wrapping_add(last.len) == next.bus
                    && last.leaf_bytes == next.leaf_bytes
                    && last.bits == next.bits =>
            {
                last.len += next.len;
            }
            _ => list.push(next),
        }
    }
}

/// What the words of a page table say.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Contents {
    pub(crate) stretches: Vec<Stretch>,
    pub(crate) leaves: u64,
    /// The tables reached, root included.
    pub(crate) tables: BTreeSet<u32>,
}

/// Reads a page table from its words and checks that the pool has no other table in use, but for
/// `quarantined` ones.
pub(crate) fn read<F: Shape, M: TableMemory>(
    pool: &impl Words,
    table: &PageTable<F, M>,
    quarantined: u32,
) -> Contents {
    let mut contents = Contents::default();
    read_table::<F>(pool, table.root().get(), 0, 0, &mut contents);
    assert_eq!(
        contents.tables.len() as u32 + quarantined,
        pool.pool_usage().used(),
        "tables reached and tables in use"
    );
    contents
}

fn read_table<F: Shape>(
    pool: &impl Words,
    address: u64,
    hop: usize,
    walk: u64,
    contents: &mut Contents,
) {
    // I2: the target of each table entry belongs to the arena and is reached once.
    assert_eq!(address % 4096, 0, "table address {address:#x}");
    let number = u32::try_from((address - ARENA) / 4096).unwrap();
    assert!(number < pool.pool_usage().capacity, "table {address:#x}");
    assert!(contents.tables.insert(number), "table {number} twice");
    let (shift, bits) = F::INDEX[hop];
    let deepest = hop + 1 == F::INDEX.len();
    let mut used = 0;
    for index in 0..ENTRIES {
        let entry = pool.word(number, index);
        if entry == 0 {
            continue;
        }
        used += 1;
        // What the hardware cannot index is zero.
        assert!(index < 1 << bits, "hop {hop} entry {index} is out of reach");
        assert_eq!(entry & 1, 1, "hop {hop} entry {index}: {entry:#x}");
        let walk = walk + ((index as u64) << shift);
        let (is_leaf, address, rights) = match F::ENTRIES {
            Entries::Habanalabs => {
                assert_eq!(entry & 0x7FE, 0, "I3: unknown bits in {entry:#x}");
                (entry & 0x800 != 0, entry & !0xFFF, 0)
            }
            Entries::X86 => {
                let unknown = 0x7FF0_0000_0000_0F78;
                assert_eq!(entry & unknown, 0, "I3: unknown bits in {entry:#x}");
                assert!(!deepest || entry & 0x80 == 0, "bit 7 in {entry:#x}");
                let rights = (entry >> 1 & 3) as u8 | ((entry >> 63) as u8) << 2;
                let is_leaf = deepest || entry & 0x80 != 0;
                assert!(is_leaf || rights == 3, "a table allows all: {entry:#x}");
                (is_leaf, entry & 0x000F_FFFF_FFFF_F000, rights)
            }
        };
        if !is_leaf {
            assert!(!deepest, "I3: a table below the deepest hop");
            read_table::<F>(pool, address, hop + 1, walk, contents);
            continue;
        }
        let size = F::SIZES.iter().find(|size| usize::from(size.hop) == hop);
        let size = size.unwrap_or_else(|| panic!("I3: a leaf at hop {hop}"));
        assert_eq!(address & ((1 << shift) - 1), 0, "I3: {entry:#x}");
        contents.leaves += 1;
        let (at, bus) = match F::STACKS {
            Some(stacks) => (unscramble(walk, stacks), unscramble(address, stacks)),
            None => (sign_extended::<F>(walk), address),
        };
        let leaf = Stretch {
            at,
            bus,
            len: size.bytes,
            leaf_bytes: size.bytes,
            bits: rights,
        };
        Stretch::push(&mut contents.stretches, leaf);
    }
    // I1.
    assert_eq!(pool.live_of(number), used, "I1: hop {hop}");
    assert!(hop == 0 || used > 0, "I1: an empty table at hop {hop}");
}

/// Facts SC-3, for addresses that are whole chunks.
fn unscramble(address: u64, stacks: u64) -> u64 {
    let low = address & 0xFFFF_FFFF_FFFF;
    assert_eq!(low % (64 << 20), 0, "{address:#x}");
    (address - low) | (low / (64 << 20) * stacks * (8 << 20))
}

fn sign_extended<F: Shape>(walk: u64) -> u64 {
    let (shift, bits) = F::INDEX[0];
    let top = shift + bits;
    if F::ENTRIES == Entries::X86 && walk >> (top - 1) == 1 {
        walk | u64::MAX << top
    } else {
        walk
    }
}
