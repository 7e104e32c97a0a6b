//! Addresses that never mix, and the one half-open range type.
//!
//! An address is a number *in one address space*. Each space has its own type, none converts into
//! another or from a bare integer by accident, and arithmetic is checked. This module has the two
//! spaces a page table joins: what goes in ([`DeviceAddr`]) and what comes out ([`BusAddr`]).
//! Crates above define further ones with [`define_address!`](crate::define_address).

use core::fmt;

/// A number in one address space.
///
/// Implemented by [`define_address!`](crate::define_address). There is deliberately no constructor
/// here: generic code can move within a space but cannot enter one.
pub trait Address: Copy + Ord + fmt::Debug + fmt::Display {
    /// The address as a bare number.
    fn get(self) -> u64;

    /// This address plus `bytes`, or `None` where that is 2^64 or more.
    fn checked_add(self, bytes: u64) -> Option<Self>;
}

/// Defines an address type: `repr(transparent)`, ordered, hexadecimal in `Debug`, `Display` and
/// `defmt`, with a named constructor of the given visibility and no conversion from integers.
///
/// ```
/// mmu_core::define_address! {
///     /// An address of the example's own space.
///     pub struct ExampleAddr(pub new);
/// }
/// assert_eq!(format!("{}", ExampleAddr::new(0x1000)), "0x0000000000001000");
/// assert_eq!(ExampleAddr::new(u64::MAX).checked_add(1), None);
/// ```
#[macro_export]
macro_rules! define_address {
    ($(#[$doc:meta])* $vis:vis struct $name:ident($new_vis:vis new);) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(transparent)]
        $vis struct $name(u64);

        impl $name {
            /// The address with this number.
            #[must_use]
            $new_vis const fn new(address: u64) -> Self {
                Self(address)
            }

            /// The address as a bare number.
            #[must_use]
            pub const fn get(self) -> u64 {
                self.0
            }

            /// This address plus `bytes`, or `None` where that is 2^64 or more.
            #[must_use]
            pub const fn checked_add(self, bytes: u64) -> Option<Self> {
                match self.0.checked_add(bytes) {
                    Some(sum) => Some(Self(sum)),
                    None => None,
                }
            }

            /// How many bytes this address lies above `base`, or `None` where it lies below.
            #[must_use]
            pub const fn offset_from(self, base: Self) -> Option<u64> {
                self.0.checked_sub(base.0)
            }

            /// Whether the address is a multiple of `bytes`. Nothing is a multiple of zero.
            #[must_use]
            pub const fn is_multiple_of(self, bytes: u64) -> bool {
                bytes != 0 && self.0 % bytes == 0
            }
        }

        impl $crate::addr::Address for $name {
            fn get(self) -> u64 {
                self.0
            }
            fn checked_add(self, bytes: u64) -> Option<Self> {
                Self::checked_add(self, bytes)
            }
        }

        impl ::core::fmt::Display for $name {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                ::core::write!(f, "{:#018x}", self.0)
            }
        }

        impl ::core::fmt::Debug for $name {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                ::core::write!(f, "{}({:#x})", ::core::stringify!($name), self.0)
            }
        }

        #[cfg(feature = "defmt")]
        impl defmt::Format for $name {
            fn format(&self, f: defmt::Formatter<'_>) {
                defmt::write!(f, "{=u64:#x}", self.0);
            }
        }
    };
}

define_address! {
    /// A device virtual address: what an engine of the device puts on the bus before translation.
    pub struct DeviceAddr(pub new);
}

define_address! {
    /// What a translation yields: the address the device's bus sees after its MMU. For host memory
    /// that is a DMA address, for device memory a device-physical one.
    pub struct BusAddr(pub new);
}

/// A non-empty half-open range `[start, start + len)` of one address space.
///
/// It may end exactly at the top of the space, where the exclusive end would be 2^64; therefore it
/// is kept as a start and a length, and both [`last`](Self::last) and [`end`](Self::end) exist.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct AddrRange<A> {
    start: A,
    len: u64,
}

impl<A: Address> AddrRange<A> {
    /// The range of `len` bytes from `start`; `None` for zero bytes or where the last byte would
    /// lie beyond 2^64 - 1.
    #[must_use]
    pub fn new(start: A, len: u64) -> Option<Self> {
        start.checked_add(len.checked_sub(1)?)?;
        Some(Self { start, len })
    }

    /// The first address.
    #[must_use]
    pub const fn start(self) -> A {
        self.start
    }

    /// The number of bytes, never zero.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a range is never empty")]
    pub const fn len(self) -> u64 {
        self.len
    }

    /// The last address inside the range.
    #[must_use]
    pub fn last(self) -> A {
        // `new` checked the sum; staying at the start is the total function's way out.
        self.start.checked_add(self.len - 1).unwrap_or(self.start)
    }

    /// The first address after the range; `None` where the range ends at the top of the space.
    #[must_use]
    pub fn end(self) -> Option<A> {
        self.start.checked_add(self.len)
    }

    /// Whether `address` lies inside.
    #[must_use]
    pub fn contains(self, address: A) -> bool {
        self.start <= address && address <= self.last()
    }

    /// Whether all of `other` lies inside.
    #[must_use]
    pub fn contains_range(self, other: Self) -> bool {
        self.start <= other.start && other.last() <= self.last()
    }

    /// Whether the two share at least one address.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        self.start <= other.last() && other.start <= self.last()
    }

    /// The smallest range that contains both; `None` only where that is the whole 2^64 bytes.
    #[must_use]
    pub fn hull(self, other: Self) -> Option<Self> {
        let start = self.start.min(other.start);
        let last = self.last().max(other.last());
        Self::new(start, (last.get() - start.get()).checked_add(1)?)
    }

    /// The addresses that both contain; `None` where there are none.
    #[must_use]
    pub fn intersection(self, other: Self) -> Option<Self> {
        let start = self.start.max(other.start);
        let last = self.last().min(other.last());
        Self::new(start, last.get().checked_sub(start.get())?.checked_add(1)?)
    }

    /// The part of this range that starts `bytes` after its start; `None` where nothing is left.
    #[must_use]
    pub fn skip(self, bytes: u64) -> Option<Self> {
        Self::new(self.start.checked_add(bytes)?, self.len.checked_sub(bytes)?)
    }
}

impl<A: fmt::Display + Address> fmt::Display for AddrRange<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, +{:#x})", self.start, self.len)
    }
}

impl<A: fmt::Debug> fmt::Debug for AddrRange<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{:?}, +{:#x})", self.start, self.len)
    }
}

#[cfg(feature = "defmt")]
impl<A: defmt::Format> defmt::Format for AddrRange<A> {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "[{}, +{=u64:#x})", self.start, self.len);
    }
}

/// [`AddrRange::new`] for the tables of numbers that are worked out at compile time, where no
/// trait method can be called.
macro_rules! const_range {
    ($address:ty, $name:ident) => {
        impl AddrRange<$address> {
            /// [`new`](Self::new) in a constant: the range of `len` bytes from `start`; `None` for
            /// zero bytes or where the last byte would lie beyond 2^64 - 1.
            #[must_use]
            pub const fn $name(start: $address, len: u64) -> Option<Self> {
                match len.checked_sub(1) {
                    Some(last) if start.checked_add(last).is_some() => Some(Self { start, len }),
                    _ => None,
                }
            }
        }
    };
}
const_range!(DeviceAddr, const_device);
const_range!(BusAddr, const_bus);

/// A contiguous stretch of bus addresses.
pub type Run = AddrRange<BusAddr>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_may_end_at_the_top_of_the_space_but_not_beyond() {
        let top = DeviceAddr::new(u64::MAX - 0xFFF);
        let range = AddrRange::new(top, 0x1000).unwrap();
        assert_eq!(range.last(), DeviceAddr::new(u64::MAX));
        assert_eq!(range.end(), None);
        assert!(range.contains(DeviceAddr::new(u64::MAX)));
        assert_eq!(AddrRange::new(top, 0x1001), None);
        assert_eq!(AddrRange::new(top, 0), None);
    }

    #[test]
    fn a_constant_range_obeys_the_same_limits() {
        const TOP: DeviceAddr = DeviceAddr::new(u64::MAX - 0xFFF);
        const LAST_PAGE: Option<AddrRange<DeviceAddr>> = AddrRange::const_device(TOP, 0x1000);
        assert_eq!(LAST_PAGE, AddrRange::new(TOP, 0x1000));
        assert_eq!(AddrRange::const_device(TOP, 0x1001), None);
        assert_eq!(AddrRange::const_bus(BusAddr::new(0), 0), None);
        assert!(AddrRange::const_bus(BusAddr::new(0), u64::MAX).is_some());
    }

    #[test]
    fn neighbours_do_not_overlap_and_their_hull_covers_both() {
        let low = AddrRange::new(DeviceAddr::new(0x1000), 0x1000).unwrap();
        let high = AddrRange::new(DeviceAddr::new(0x2000), 0x1000).unwrap();
        assert!(!low.overlaps(high));
        assert!(!low.contains_range(high));
        let hull = low.hull(high).unwrap();
        assert_eq!(
            (hull.start(), hull.len()),
            (DeviceAddr::new(0x1000), 0x2000)
        );
        assert!(hull.contains_range(low) && hull.contains_range(high));
    }

    #[test]
    fn a_range_contains_its_first_and_its_last_address_and_nothing_beside_them() {
        let range = AddrRange::new(DeviceAddr::new(0x1000), 0x1000).unwrap();
        for (address, inside) in [
            (0, false),
            (0xFFF, false),
            (0x1000, true),
            (0x1FFF, true),
            (0x2000, false),
            (u64::MAX, false),
        ] {
            assert_eq!(range.contains(DeviceAddr::new(address)), inside);
        }
    }

    #[test]
    fn ranges_overlap_that_share_one_address() {
        let range = |start, len| AddrRange::new(DeviceAddr::new(start), len).unwrap();
        let middle = range(0x1000, 0x1000);
        for (other, shares) in [
            (range(0, 0x1000), false),
            (range(0, 0x1001), true),
            (range(0x1800, 1), true),
            (range(0, 0x4000), true),
            (range(0x1FFF, 0x1000), true),
            (range(0x2000, 0x1000), false),
        ] {
            assert_eq!(middle.overlaps(other), shares, "{other}");
            assert_eq!(other.overlaps(middle), shares, "{other}");
        }
    }

    #[test]
    fn the_hull_of_the_whole_space_is_not_a_range() {
        let first = AddrRange::new(DeviceAddr::new(0), 1).unwrap();
        let last = AddrRange::new(DeviceAddr::new(u64::MAX), 1).unwrap();
        assert_eq!(first.hull(last), None);
    }

    #[test]
    fn the_intersection_is_what_both_contain_up_to_the_top_of_the_space() {
        let low = AddrRange::new(DeviceAddr::new(0x1000), 0x2000).unwrap();
        let high = AddrRange::new(DeviceAddr::new(0x2000), u64::MAX - 0x1FFF).unwrap();
        let both = low.intersection(high).unwrap();
        assert_eq!((both.start(), both.len()), (high.start(), 0x1000));
        assert_eq!(high.intersection(low), Some(both));
        assert_eq!(high.intersection(high), Some(high));
        let neighbour = AddrRange::new(DeviceAddr::new(0), 0x1000).unwrap();
        assert_eq!(low.intersection(neighbour), None);
    }

    #[test]
    fn skipping_the_whole_length_leaves_nothing() {
        let range = AddrRange::new(BusAddr::new(0x1000), 0x1000).unwrap();
        assert_eq!(range.skip(0x1000), None);
        assert_eq!(range.skip(0xFFF).map(AddrRange::len), Some(1));
    }
}
