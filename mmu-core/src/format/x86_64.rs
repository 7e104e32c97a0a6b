//! x86-64: the format that a processor at hand and every page-table crate share, so that both can
//! check this one.

use bitfield_struct::bitfield;
use static_assertions::{assert_eq_size, const_assert_eq};

use super::{Entry, Format, Hop, HopGeometry, Permissions};
use crate::addr::{AddrRange, BusAddr, DeviceAddr};

/// A page-table entry of x86-64.
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct X86Entry {
    /// The entry is in use (bit 0).
    pub present: bool,
    /// Writes are allowed (bit 1).
    pub writable: bool,
    /// User-mode accesses are allowed (bit 2).
    pub user: bool,
    #[bits(2)]
    __: u8,
    /// The processor has walked through the entry (bit 5).
    pub accessed: bool,
    #[bits(1)]
    __: u8,
    /// The entry maps a page though a deeper hop exists (bit 7, "PS"). In the deepest hop the bit
    /// means something else and stays zero.
    pub large: bool,
    #[bits(4)]
    __: u8,
    /// Bits 51:12 of the address.
    #[bits(40)]
    pub frame: u64,
    #[bits(11)]
    __: u16,
    /// Instruction fetches are refused (bit 63).
    pub no_execute: bool,
}

// Constants, since the functions that set a bit are calls where nothing inlines them across crates,
// and a range is checked entry by entry.
impl X86Entry {
    /// The bits that hold the address.
    const ADDRESS: u64 = 0x000F_FFFF_FFFF_F000;
    const PRESENT: u64 = Self::new().with_present(true).into_bits();
    const WRITABLE: u64 = Self::new().with_writable(true).into_bits();
    const USER: u64 = Self::new().with_user(true).into_bits();
    const ACCESSED: u64 = Self::new().with_accessed(true).into_bits();
    const LARGE: u64 = Self::new().with_large(true).into_bits();
    const NO_EXECUTE: u64 = Self::new().with_no_execute(true).into_bits();
}

/// `bits` where they are `set`, and otherwise none.
#[inline(always)]
const fn bits_if(set: bool, bits: u64) -> u64 {
    if set { bits } else { 0 }
}

assert_eq_size!(X86Entry, u64);
const_assert_eq!(
    X86Entry::new().with_frame((1 << 40) - 1).into_bits(),
    X86Entry::ADDRESS
);
const_assert_eq!(X86Entry::ACCESSED, 0x20);
const_assert_eq!(X86Entry::LARGE, 0x80);
const_assert_eq!(X86Entry::new().with_frame(1).into_bits(), 0x1000);
const_assert_eq!(X86Entry::NO_EXECUTE, 1 << 63);

/// What an x86-64 leaf allows. The default is the least: read-only, supervisor, no execution.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct X86Attributes {
    /// Writes are allowed.
    pub writable: bool,
    /// User-mode accesses are allowed.
    pub user: bool,
    /// Instruction fetches are refused.
    pub no_execute: bool,
}

impl Default for X86Attributes {
    fn default() -> Self {
        Self {
            writable: false,
            user: false,
            no_execute: true,
        }
    }
}

/// The x86-64 format with `LEVELS` hops: 4 (48-bit addresses) or 5 (57-bit addresses).
///
/// Leaves of 4 KiB, 2 MiB and 1 GiB. Table entries allow everything; the leaf alone decides.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct X86_64<const LEVELS: usize>;

const FIVE_HOPS: &[HopGeometry] = &[
    HopGeometry::tables(48, 9),
    HopGeometry::tables(39, 9),
    HopGeometry::leaves(30, 9),
    HopGeometry::leaves(21, 9),
    HopGeometry::leaves(12, 9),
];

impl<const LEVELS: usize> X86_64<LEVELS> {
    #[inline(always)]
    fn is_above_deepest(hop: Hop) -> bool {
        usize::from(hop.number()) + 1 < LEVELS
    }
}

impl<const LEVELS: usize> Format for X86_64<LEVELS> {
    type Attributes = X86Attributes;
    const NAME: &'static str = "x86-64";
    const HOPS: &'static [HopGeometry] = {
        assert!(LEVELS == 4 || LEVELS == 5, "x86-64 has four or five hops");
        FIVE_HOPS.split_at(5 - LEVELS).1
    };
    const LAST_WALK_ADDRESS: u64 = (1 << (12 + 9 * LEVELS)) - 1;
    const BITS_IN_PLACE: u64 = (1 << 52) - 1;
    const LINKS_IN_PLACE: bool = true;
    const WALK_MARKS: u64 = X86Entry::ACCESSED;

    #[inline(always)]
    fn table_entry(_hop: Hop, address: u64) -> u64 {
        X86Entry::PRESENT | X86Entry::WRITABLE | X86Entry::USER | (address & X86Entry::ADDRESS)
    }

    #[inline(always)]
    fn leaf_entry(hop: Hop, address: u64, attributes: X86Attributes) -> u64 {
        // The address last: what goes before it is the same for all leaves of a run, so that a
        // loop over them computes it once.
        X86Entry::PRESENT
            | bits_if(attributes.writable, X86Entry::WRITABLE)
            | bits_if(attributes.user, X86Entry::USER)
            | bits_if(Self::is_above_deepest(hop), X86Entry::LARGE)
            | bits_if(attributes.no_execute, X86Entry::NO_EXECUTE)
            | (address & X86Entry::ADDRESS)
    }

    #[inline(always)]
    fn decode(hop: Hop, entry: u64) -> Entry<X86Attributes> {
        let entry = X86Entry::from_bits(entry);
        let address = entry.frame() << 12;
        if !entry.present() {
            Entry::Empty
        } else if !Self::is_above_deepest(hop) || entry.large() {
            Entry::Leaf {
                address,
                attributes: X86Attributes {
                    writable: entry.writable(),
                    user: entry.user(),
                    no_execute: entry.no_execute(),
                },
            }
        } else {
            Entry::Table { address }
        }
    }

    #[inline(always)]
    fn is_leaf(hop: Hop, entry: u64) -> bool {
        // One mask and no branch: the check of a range folds it over several entries.
        let leaf = X86Entry::PRESENT | bits_if(Self::is_above_deepest(hop), X86Entry::LARGE);
        entry & leaf == leaf
    }

    /// Strips the sign extension; a non-canonical address has no walk address.
    #[inline(always)]
    fn walk_address(address: DeviceAddr) -> Option<u64> {
        // Moved up by half of what there is, the two halves adjoin.
        let half = Self::LAST_WALK_ADDRESS.div_ceil(2);
        let is_canonical = address.get().wrapping_add(half) <= Self::LAST_WALK_ADDRESS;
        is_canonical.then_some(address.get() & Self::LAST_WALK_ADDRESS)
    }

    #[inline(always)]
    fn key(address: DeviceAddr) -> Option<u64> {
        Some(address.get())
    }

    /// With the sign extension, which tells a canonical address from others.
    #[inline(always)]
    fn walk_key(walk_address: u64) -> u64 {
        Self::device_address(walk_address).get()
    }

    #[inline(always)]
    fn device_address(walk_address: u64) -> DeviceAddr {
        let unused = (64 - 12 - 9 * LEVELS) as u32;
        DeviceAddr::new((((walk_address << unused) as i64) >> unused) as u64)
    }

    /// Clips the non-canonical addresses off both ends. A range that has canonical addresses on
    /// both sides of the hole covers one piece of walk addresses, since the hole is none.
    fn walk_hull(range: AddrRange<DeviceAddr>) -> Option<(u64, u64)> {
        let half = Self::LAST_WALK_ADDRESS.div_ceil(2);
        let upper = Self::device_address(half);
        let first = match Self::walk_address(range.start()) {
            Some(first) => first,
            None => Self::walk_address(upper)?,
        };
        let last = match Self::walk_address(range.last()) {
            Some(last) => last,
            None => half - 1,
        };
        (first <= last).then_some((first, last))
    }

    #[inline(always)]
    fn entry_address(bus: BusAddr) -> Option<u64> {
        (bus.get() >> 52 == 0).then_some(bus.get())
    }
}

impl<const LEVELS: usize> Permissions for X86_64<LEVELS> {
    /// A processor that is refused by what it has cached looks at the tables again, so added
    /// rights need no invalidation.
    fn shrinks(old: X86Attributes, new: X86Attributes) -> bool {
        (old.writable && !new.writable)
            || (old.user && !new.user)
            || (!old.no_execute && new.no_execute)
    }
}
