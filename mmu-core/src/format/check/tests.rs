//! Each format of this crate keeps the rules, and a format that breaks one of them is told which.

use super::*;
use crate::addr::DeviceAddr;
use crate::format::{
    Gaudi2Hmmu, Gaudi2Pmmu, Gaudi2Pmmu64K, HopGeometry, NoAttributes, V1, X86_64, X86Attributes,
};

#[test]
fn the_formats_of_this_crate_keep_the_rules() {
    let none = &[NoAttributes];
    assert_eq!(check::<V1>(none), Ok(()));
    assert_eq!(check::<Gaudi2Pmmu>(none), Ok(()));
    assert_eq!(check::<Gaudi2Pmmu64K>(none), Ok(()));
    assert_eq!(check::<Gaudi2Hmmu<5>>(none), Ok(()));
    assert_eq!(check::<Gaudi2Hmmu<6>>(none), Ok(()));
    let rights: Vec<_> = (0..8)
        .map(|bits| X86Attributes {
            writable: bits & 1 != 0,
            user: bits & 2 != 0,
            no_execute: bits & 4 != 0,
        })
        .collect();
    assert_eq!(check::<X86_64<4>>(&rights), Ok(()));
    assert_eq!(check::<X86_64<5>>(&rights), Ok(()));
}

const VALID: u64 = 1 << 0;
const LEAF: u64 = 1 << 1;
const MARK: u64 = 1 << 5;
const ADDRESS: u64 = 0xF_FFFF_F000;

/// A format of three hops with four bits of attributes, and one mistake.
struct Wrong<const MISTAKE: u8>;

/// [`Wrong`]'s mistakes.
mod mistake {
    pub(super) const NONE: u8 = 0;
    pub(super) const ZERO_IS_A_TABLE: u8 = 1;
    pub(super) const ATTRIBUTES_REACH_THE_ADDRESS: u8 = 2;
    pub(super) const A_BIT_OF_THE_ADDRESS_IS_LOST: u8 = 3;
    pub(super) const LEAVES_OF_THE_MIDDLE_ARE_TABLES: u8 = 4;
    pub(super) const TABLES_ARE_LEAVES: u8 = 5;
    pub(super) const IS_LEAF_FORGETS_THE_LAST_HOP: u8 = 6;
    pub(super) const VALID_IS_ABOVE: u8 = 7;
    pub(super) const MORE_BITS_ARE_IN_PLACE: u8 = 8;
    pub(super) const LINKS_ARE_SHIFTED: u8 = 9;
    pub(super) const A_MARK_MAKES_A_LEAF: u8 = 10;
    pub(super) const WALKS_LEAD_ELSEWHERE: u8 = 11;
    pub(super) const KEYS_ARE_OTHERS: u8 = 12;
    pub(super) const LEAVES_ARE_SCATTERED: u8 = 13;
}
use mistake::*;

impl<const MISTAKE: u8> Format for Wrong<MISTAKE> {
    type Attributes = u64;

    const NAME: &'static str = "with a mistake";
    const HOPS: &'static [HopGeometry] = &[
        HopGeometry::tables(30, 9),
        HopGeometry::leaves(21, 9),
        HopGeometry::leaves(12, 9),
    ];
    const LAST_WALK_ADDRESS: u64 = (1 << 39) - 1;
    const BITS_IN_PLACE: u64 = match MISTAKE {
        MORE_BITS_ARE_IN_PLACE => ADDRESS & !(1 << 20),
        LEAVES_ARE_SCATTERED | A_BIT_OF_THE_ADDRESS_IS_LOST => 0,
        _ => ADDRESS,
    };
    const LINKS_IN_PLACE: bool = true;
    const WALK_MARKS: u64 = MARK;

    fn table_entry(_hop: Hop, address: u64) -> u64 {
        match MISTAKE {
            LINKS_ARE_SHIFTED => address << 1 | VALID,
            VALID_IS_ABOVE => address | VALID << 40,
            _ => address | VALID,
        }
    }

    fn leaf_entry(_hop: Hop, address: u64, attributes: u64) -> u64 {
        let entry = address | attributes << 6 | LEAF | VALID;
        match MISTAKE {
            ATTRIBUTES_REACH_THE_ADDRESS => entry | (attributes & 8) << 9,
            A_BIT_OF_THE_ADDRESS_IS_LOST => entry & !(1 << 35),
            // Undone by `decode`, and no distance between neighbours is that of the next.
            LEAVES_ARE_SCATTERED => entry ^ (address >> 1 & address & (1 << 22)),
            _ => entry,
        }
    }

    fn decode(hop: Hop, entry: u64) -> Entry<u64> {
        let valid = match MISTAKE {
            ZERO_IS_A_TABLE => true,
            VALID_IS_ABOVE => entry & (VALID | VALID << 40) != 0,
            _ => entry & VALID != 0,
        };
        let leaf = entry & LEAF != 0
            && !(MISTAKE == LEAVES_OF_THE_MIDDLE_ARE_TABLES && hop.number() == 1)
            || MISTAKE == TABLES_ARE_LEAVES
            || MISTAKE == A_MARK_MAKES_A_LEAF && entry & MARK != 0;
        let address = match MISTAKE {
            LINKS_ARE_SHIFTED if !leaf => entry >> 1 & ADDRESS,
            LEAVES_ARE_SCATTERED => {
                let address = entry & ADDRESS;
                address ^ (address >> 1 & address & (1 << 22))
            }
            _ => entry & ADDRESS,
        };
        match (valid, leaf) {
            (false, _) => Entry::Empty,
            (true, true) => Entry::Leaf {
                address,
                attributes: entry >> 6 & 0xF,
            },
            (true, false) => Entry::Table { address },
        }
    }

    fn is_leaf(hop: Hop, entry: u64) -> bool {
        let forgets = MISTAKE == IS_LEAF_FORGETS_THE_LAST_HOP && hop.number() == 2;
        !forgets && matches!(Self::decode(hop, entry), Entry::Leaf { .. })
    }

    fn device_address(walk_address: u64) -> DeviceAddr {
        match MISTAKE {
            WALKS_LEAD_ELSEWHERE => DeviceAddr::new(walk_address & !(1 << 33)),
            _ => DeviceAddr::new(walk_address),
        }
    }

    fn walk_key(walk_address: u64) -> u64 {
        match MISTAKE {
            KEYS_ARE_OTHERS => walk_address ^ 1 << 30,
            _ => walk_address,
        }
    }

    fn entry_address(bus: BusAddr) -> Option<u64> {
        (bus.get() <= ADDRESS | 0xFFF).then_some(bus.get())
    }
}

fn broken<const MISTAKE: u8>() -> Result<(), FormatRule> {
    check::<Wrong<MISTAKE>>(&[0, 8, 15]).map_err(|fault| fault.rule)
}

#[test]
fn a_format_that_breaks_a_rule_is_told_which() {
    use FormatRule::*;
    assert_eq!(broken::<NONE>(), Ok(()));
    assert_eq!(broken::<ZERO_IS_A_TABLE>(), Err(Zero));
    assert_eq!(broken::<ATTRIBUTES_REACH_THE_ADDRESS>(), Err(Leaf));
    assert_eq!(broken::<A_BIT_OF_THE_ADDRESS_IS_LOST>(), Err(Leaf));
    assert_eq!(broken::<LEAVES_OF_THE_MIDDLE_ARE_TABLES>(), Err(Leaf));
    assert_eq!(broken::<TABLES_ARE_LEAVES>(), Err(Table));
    assert_eq!(broken::<IS_LEAF_FORGETS_THE_LAST_HOP>(), Err(IsLeaf));
    assert_eq!(broken::<VALID_IS_ABOVE>(), Err(LowerHalf));
    assert_eq!(broken::<MORE_BITS_ARE_IN_PLACE>(), Err(BitsInPlace));
    assert_eq!(broken::<LINKS_ARE_SHIFTED>(), Err(LinksInPlace));
    assert_eq!(broken::<A_MARK_MAKES_A_LEAF>(), Err(WalkMarks));
    assert_eq!(broken::<WALKS_LEAD_ELSEWHERE>(), Err(WalkAddress));
    assert_eq!(broken::<KEYS_ARE_OTHERS>(), Err(WalkAddress));
    assert_eq!(broken::<LEAVES_ARE_SCATTERED>(), Err(Spacing));
}

#[test]
fn a_fault_says_where_it_shows() {
    let fault = check::<Wrong<LEAVES_OF_THE_MIDDLE_ARE_TABLES>>(&[0]).unwrap_err();
    assert_eq!((fault.hop.number(), fault.address), (1, 1 << 21));
    assert_eq!(
        fault.to_string(),
        "a leaf is decoded as something else: hop 1, address 0x200000"
    );
}
