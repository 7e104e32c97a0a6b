//! The entry that Goya, Gaudi and Gaudi2 share (facts PT-1 to PT-4).

use bitfield_struct::bitfield;
use static_assertions::{assert_eq_size, const_assert_eq};

use super::Entry;

/// A page-table entry of the habanalabs family.
///
/// Bits that are not named here are written as zero.
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct HlEntry {
    /// The entry is in use (bit 0).
    pub present: bool,
    #[bits(10)]
    __: u16,
    /// The entry maps a page (bit 11); set on every leaf, also in the deepest hop (facts PT-2).
    pub last: bool,
    /// Bits 63:12 of the address.
    #[bits(52)]
    pub frame: u64,
}

assert_eq_size!(HlEntry, u64);
const_assert_eq!(HlEntry::table(0x1000).into_bits(), 0x1001);
const_assert_eq!(HlEntry::leaf(0x1FC0_0000).into_bits(), 0x1FC0_0801);
const_assert_eq!(HlEntry::new().into_bits(), 0);
const_assert_eq!(HlEntry::table(u64::MAX).frame(), (1 << 52) - 1);

// Constants, since the functions that set a bit are calls where nothing inlines them across crates,
// and every table that is linked and every leaf is made here.
impl HlEntry {
    /// The bits that hold the address.
    const ADDRESS: u64 = !0xFFF;
    const PRESENT: u64 = Self::new().with_present(true).into_bits();
    const LAST: u64 = Self::new().with_last(true).into_bits();

    /// An entry that points at the table at `address`, whose low 12 bits are dropped.
    #[must_use]
    #[inline(always)]
    pub const fn table(address: u64) -> Self {
        Self::from_bits(Self::PRESENT | (address & Self::ADDRESS))
    }

    /// An entry that maps the page at `address`, whose low 12 bits are dropped.
    #[must_use]
    #[inline(always)]
    pub const fn leaf(address: u64) -> Self {
        Self::from_bits(Self::PRESENT | Self::LAST | (address & Self::ADDRESS))
    }

    /// The address the entry holds.
    #[must_use]
    #[inline(always)]
    pub const fn address(self) -> u64 {
        self.into_bits() & Self::ADDRESS
    }

    /// What the entry says at any hop: the family's encoding does not depend on it.
    #[inline(always)]
    pub(super) const fn decoded(self) -> Entry<NoAttributes> {
        if !self.present() {
            Entry::Empty
        } else if self.last() {
            Entry::Leaf {
                address: self.address(),
                attributes: NoAttributes,
            }
        } else {
            Entry::Table {
                address: self.address(),
            }
        }
    }
}

/// The attributes of formats whose leaves carry none: the habanalabs family has neither
/// permissions nor cache control in its tables (facts PT-4).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct NoAttributes;

/// Implements the entry functions of [`Format`](super::Format) for the family.
macro_rules! hl_entries {
    () => {
        type Attributes = $crate::format::NoAttributes;
        const LINKS_IN_PLACE: bool = true;

        #[inline(always)]
        fn table_entry(_hop: $crate::format::Hop, address: u64) -> u64 {
            $crate::format::HlEntry::table(address).into_bits()
        }

        #[inline(always)]
        fn leaf_entry(
            _hop: $crate::format::Hop,
            address: u64,
            _attributes: $crate::format::NoAttributes,
        ) -> u64 {
            $crate::format::HlEntry::leaf(address).into_bits()
        }

        #[inline(always)]
        fn decode(
            _hop: $crate::format::Hop,
            entry: u64,
        ) -> $crate::format::Entry<$crate::format::NoAttributes> {
            $crate::format::HlEntry::from_bits(entry).decoded()
        }
    };
}
pub(super) use hl_entries;
