//! Formats: what the entries of a page table look like, and which address bits index which hop.
//!
//! A format is a type that has constants and a few tiny functions, and no value of it is ever
//! needed. To add one, write one file beside this one with a type that
//! implements [`Format`]; everything else in the crate is generic over it. The functions get the
//! hop, because on several parts the meaning of an entry depends on it.
//!
//! # What a format has to keep
//!
//! * An entry of zero decodes to [`Entry::Empty`], at every hop: tables are emptied by zeros.
//! * [`decode`](Format::decode) undoes [`leaf_entry`](Format::leaf_entry) for every value of the
//!   attributes and [`table_entry`](Format::table_entry) for every address of a table. A value of the
//!   attributes that makes a leaf look like a table, or like nothing, must not exist.
//! * [`entry_address`](Format::entry_address) refuses the bus addresses that a leaf cannot hold, since
//!   nobody else knows which these are. Tables lie where an entry can point: that the embedder sees to
//!   where he places them.
//! * What makes an entry valid is in its lower half, which [`SplitWord`](crate::SplitWord) writes last.
//! * The deepest hop has leaves, and [`is_leaf`](Format::is_leaf) says the same as `decode`.
//!
//! [`check()`] tries a format for these rules: call it in a test of yours.
//!
//! # Walk addresses
//!
//! A table is always indexed by a *walk address*, in which every leaf is a power of two bytes.
//! For most formats that is the device address itself. Where the hardware transforms an address
//! before it walks (the DRAM scrambling of Gaudi2, the sign extension of x86-64), the format's
//! conversion functions do the same, and nothing else in the crate needs to know.

mod check;
mod entry;
mod gaudi2;
mod v1;
mod x86_64;

pub use check::{FormatFault, FormatRule, check};
pub use entry::{HlEntry, NoAttributes};
pub use gaudi2::{Gaudi2Hmmu, Gaudi2Pmmu, Gaudi2Pmmu64K};
pub use v1::V1;
pub use x86_64::{X86_64, X86Attributes, X86Entry};

use core::fmt;

use crate::addr::{AddrRange, BusAddr, DeviceAddr, Run};

/// Bytes in a table of every format known here: 512 entries of 8 bytes.
pub const TABLE_BYTES: u64 = 4096;

/// Entries that fit into a table, whether or not a hop indexes all of them.
pub const TABLE_ENTRIES: usize = 512;

/// The most hops any format has.
pub const MAX_HOPS: usize = 6;

/// A level of a page table; hop 0 is the root.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Hop(u8);

impl Hop {
    /// The hop with this number, 0 being the root; `None` beyond the deepest any format has.
    #[must_use]
    pub const fn new(number: u8) -> Option<Self> {
        if (number as usize) < MAX_HOPS {
            Some(Self(number))
        } else {
            None
        }
    }

    pub(crate) const fn from_index(index: usize) -> Self {
        // Callers pass indices into `Format::HOPS`, whose length the geometry check bounds.
        Self(index as u8)
    }

    /// The number of the hop.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }
}

impl fmt::Display for Hop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hop {}", self.0)
    }
}

/// Which walk-address bits index the tables of one hop, and whether its entries may be leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct HopGeometry {
    /// The lowest walk-address bit of the index; a leaf here spans `1 << shift` walk bytes.
    pub shift: u8,
    /// The number of index bits.
    pub index_bits: u8,
    /// Whether an entry of this hop may be a leaf.
    pub leaf: bool,
}

impl HopGeometry {
    /// A hop whose entries are tables only.
    #[must_use]
    pub const fn tables(shift: u8, index_bits: u8) -> Self {
        Self {
            shift,
            index_bits,
            leaf: false,
        }
    }

    /// A hop whose entries may be leaves.
    #[must_use]
    pub const fn leaves(shift: u8, index_bits: u8) -> Self {
        Self {
            shift,
            index_bits,
            leaf: true,
        }
    }

    /// Entries of a table of this hop that the hardware can index.
    #[must_use]
    pub const fn slots(self) -> usize {
        1 << self.index_bits
    }

    /// Walk bytes that one entry of this hop covers.
    #[must_use]
    pub const fn entry_span(self) -> u64 {
        1 << self.shift
    }

    /// The index of `walk_address` in a table of this hop.
    #[must_use]
    #[inline(always)]
    pub const fn index(self, walk_address: u64) -> usize {
        (walk_address >> self.shift) as usize & ((1 << self.index_bits) - 1)
    }

    /// The bits of a walk address below its index.
    #[must_use]
    #[inline(always)]
    pub const fn offset_mask(self) -> u64 {
        self.entry_span() - 1
    }

    /// The first walk address of the slot at `index`, in the table of which `walk_address` uses
    /// the slot at `at`, for `index >= at`.
    #[inline(always)]
    pub(crate) const fn slot_start(self, walk_address: u64, at: usize, index: usize) -> u64 {
        let start = walk_address & !self.offset_mask();
        start.wrapping_add(((index - at) as u64) << self.shift)
    }

    /// The bits of a walk address that are not the same for all that use one table of this hop.
    #[inline(always)]
    pub(crate) const fn table_mask(self) -> u64 {
        match 1_u64.checked_shl(self.shift as u32 + self.index_bits as u32) {
            Some(span) => span - 1,
            None => u64::MAX,
        }
    }

    /// What remains of a walk address when the bits that select an entry within this hop's table
    /// are dropped: equal for two addresses exactly when they use the same table.
    #[must_use]
    #[inline(always)]
    pub const fn prefix(self, walk_address: u64) -> u64 {
        // A root that is indexed by the topmost bits has no bits left above it.
        match walk_address.checked_shr(self.shift as u32 + self.index_bits as u32) {
            Some(prefix) => prefix,
            None => 0,
        }
    }
}

/// What one entry says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Entry<A> {
    /// Nothing: a walk ends here with a fault.
    Empty,
    /// The address of a table of the next hop.
    Table {
        /// As the entry holds it.
        address: u64,
    },
    /// A mapped page.
    Leaf {
        /// As the entry holds it; [`Format::bus_address`] undoes the format's transformation.
        address: u64,
        /// The rights and properties stored with it.
        attributes: A,
    },
}

/// The layout of one kind of page table. See the [module](self) for how to add one.
pub trait Format: Sized + 'static {
    /// What a leaf carries besides its address.
    type Attributes: Copy + PartialEq + fmt::Debug;

    /// The format's name, as people write it.
    const NAME: &'static str;

    /// The hops, root first. The index bits of adjacent hops adjoin.
    const HOPS: &'static [HopGeometry];

    /// The highest walk address.
    const LAST_WALK_ADDRESS: u64;

    /// The bits of a bus address that a leaf holds in their own place, where every address that has
    /// no others is held so and no other address can be held. Zero, the default, where that cannot
    /// be said. With it, lists of pages are checked and mapped without a look at each page.
    const BITS_IN_PLACE: u64 = 0;

    /// Whether the table entry for an address is the one for address 0, plus the address. `false`,
    /// the default, is right for all; with `true` a walk reads the address of a table off its entry
    /// without decoding it.
    const LINKS_IN_PLACE: bool = false;

    /// The bits that hardware sets in a table entry on its way through it.
    const WALK_MARKS: u64 = 0;

    /// An entry that points at the table at `address`, for a table of `hop`.
    fn table_entry(hop: Hop, address: u64) -> u64;

    /// An entry that maps the page at `address` (as the entry holds it), for a table of `hop`.
    ///
    /// Entries of consecutive pages with the same attributes are evenly spaced numbers, as they are
    /// wherever an entry holds its address in one piece: this makes the first two of the leaves that
    /// a run has in a table, and the others follow by adding the difference. Builds with debug
    /// assertions check the last of them.
    fn leaf_entry(hop: Hop, address: u64, attributes: Self::Attributes) -> u64;

    /// What an entry found in a table of `hop` says.
    fn decode(hop: Hop, entry: u64) -> Entry<Self::Attributes>;

    /// Whether an entry found in a table of `hop` is a leaf. The default asks
    /// [`decode`](Self::decode); a format says it directly where that costs less, since ranges
    /// are checked with this.
    #[inline(always)]
    fn is_leaf(hop: Hop, entry: u64) -> bool {
        matches!(Self::decode(hop, entry), Entry::Leaf { .. })
    }

    /// The walk address of a device address; `None` where the format cannot translate it.
    /// Strictly increasing where defined.
    #[inline(always)]
    fn walk_address(address: DeviceAddr) -> Option<u64> {
        (address.get() <= Self::LAST_WALK_ADDRESS).then_some(address.get())
    }

    /// What stands for the walk address of a device address that is not checked yet, for calls that
    /// mostly use the table of the call before and need no check then.
    ///
    /// Its prefix at one of the two deepest hops is that of the keys of all addresses that use the
    /// same table, and of no other, be it one that the format can translate or not. Below that, and
    /// for [`device_address`](Self::device_address), it is as good as the walk address. The default
    /// is the walk address itself.
    #[inline(always)]
    fn key(address: DeviceAddr) -> Option<u64> {
        Self::walk_address(address)
    }

    /// The [`key`](Self::key) of the device address that has this walk address.
    #[inline(always)]
    fn walk_key(walk_address: u64) -> u64 {
        walk_address
    }

    /// The device address of a walk address; the inverse of [`walk_address`](Self::walk_address).
    #[inline(always)]
    fn device_address(walk_address: u64) -> DeviceAddr {
        DeviceAddr::new(walk_address)
    }

    /// The first walk address and the length in walk bytes of a range of device addresses; `None`
    /// where the format cannot translate all of it as one piece.
    #[inline(always)]
    fn walk_range(range: AddrRange<DeviceAddr>) -> Option<(u64, u64)> {
        let first = Self::walk_address(range.start())?;
        let last = Self::walk_address(range.last())?;
        // A hole between the two (x86-64's non-canonical addresses) shows as a shorter distance.
        (last.wrapping_sub(first) == range.len() - 1).then_some((first, range.len()))
    }

    /// The first and the last walk address within a range of device addresses, which may reach
    /// beyond what the format can translate; `None` where there is none.
    ///
    /// Walk addresses behind the last that stand for no device address belong to it, so that a
    /// leaf lies within the two exactly when its device addresses lie within the range.
    #[inline(always)]
    fn walk_hull(range: AddrRange<DeviceAddr>) -> Option<(u64, u64)> {
        let last = range.last().get().min(Self::LAST_WALK_ADDRESS);
        (range.start().get() <= last).then_some((range.start().get(), last))
    }

    /// The length in device bytes of `len` walk bytes that begin at a leaf boundary.
    #[inline(always)]
    fn device_len(len: u64) -> u64 {
        len
    }

    /// What a leaf that maps `bus` holds as its address; `None` where it cannot hold it.
    #[inline(always)]
    fn entry_address(bus: BusAddr) -> Option<u64> {
        Some(bus.get())
    }

    /// The first entry address and the length in walk bytes of a run; `None` where leaves cannot
    /// hold all of it.
    #[inline(always)]
    fn entry_run(run: Run) -> Option<(u64, u64)> {
        let first = Self::entry_address(run.start())?;
        let last = Self::entry_address(run.last())?;
        (last.wrapping_sub(first) == run.len() - 1).then_some((first, run.len()))
    }

    /// The bus address that an entry's address, plus an offset inside its leaf, stands for; the
    /// inverse of [`entry_address`](Self::entry_address).
    #[inline(always)]
    fn bus_address(address: u64) -> BusAddr {
        BusAddr::new(address)
    }
}

/// A format whose leaves carry rights that can be changed while they are mapped. Formats whose
/// leaves carry none do not implement it, so there is no [`protect`] for them:
///
/// ```compile_fail,E0599
/// use mmu_core::format::{NoAttributes, V1};
/// use mmu_core::{AddrRange, DeviceAddr, PageTable, TableMemory};
///
/// fn refused<M: TableMemory>(table: &mut PageTable<V1, M>, range: AddrRange<DeviceAddr>) {
///     let _ = table.protect(range, NoAttributes);
/// }
/// ```
///
/// [`protect`]: crate::PageTable::protect
pub trait Permissions: Format {
    /// Whether a cached copy of a leaf with `old` may allow what `new` refuses, or does otherwise
    /// not give way to `new` by itself.
    fn shrinks(old: Self::Attributes, new: Self::Attributes) -> bool;
}

/// The number of the deepest hop of a format.
#[inline(always)]
pub(crate) const fn deepest<F: Format>() -> usize {
    F::HOPS.len() - 1
}

/// Elements of an array that has one for each hop: a power of two, so that the remainder of any
/// number is an index, which the compiler sees and checks nothing.
pub(crate) const PER_HOP: usize = MAX_HOPS.next_power_of_two();

/// An array with something for each hop.
// Not a type of its own: as the field of one, the array would be made in one place and then moved.
pub(crate) trait PerHop<T> {
    /// What there is for the hop with this number. There is something for every number, so that no
    /// caller has to say what else to do; only those of hops have a meaning.
    fn at(&self, hop: usize) -> T;

    /// What there is for the hop with this number, to be changed.
    fn at_mut(&mut self, hop: usize) -> &mut T;
}

impl<T: Copy> PerHop<T> for [T; PER_HOP] {
    #[inline(always)]
    fn at(&self, hop: usize) -> T {
        self[hop % PER_HOP]
    }

    #[inline(always)]
    fn at_mut(&mut self, hop: usize) -> &mut T {
        &mut self[hop % PER_HOP]
    }
}

/// The geometry of each hop of a format.
trait Geometries: Format {
    /// The hops that can have leaves, one bit for each.
    const LEAF_HOPS: u8 = {
        let mut hops = 0;
        let mut hop = 0;
        while hop < Self::HOPS.len() {
            if Self::HOPS[hop].leaf {
                hops |= 1 << hop;
            }
            hop += 1;
        }
        hops
    };

    const GEOMETRIES: &'static [HopGeometry; PER_HOP] = &{
        let mut all = [Self::HOPS[deepest::<Self>()]; PER_HOP];
        let mut hop = 0;
        while hop < Self::HOPS.len() {
            all[hop] = Self::HOPS[hop];
            hop += 1;
        }
        all
    };
}

impl<F: Format> Geometries for F {}

/// The hops of a format that can have leaves, one bit for each.
#[inline(always)]
const fn leaf_hops<F: Format>() -> u8 {
    F::LEAF_HOPS
}

/// The geometry of the hop with this number.
#[inline(always)]
pub(crate) const fn geometry_of<F: Format>(hop: usize) -> HopGeometry {
    F::GEOMETRIES[hop % PER_HOP]
}

/// Checks a format's constants at compile time; each table evaluates it once.
pub(crate) const fn geometry_is_sound<F: Format>() -> bool {
    hops_are_sound(F::HOPS, F::LAST_WALK_ADDRESS)
}

/// Whether hops fit together and index all walk addresses up to `last`.
const fn hops_are_sound(hops: &[HopGeometry], last: u64) -> bool {
    if hops.len() < 2 || hops.len() > MAX_HOPS || !hops[hops.len() - 1].leaf {
        return false;
    }
    let mut hop = 0;
    while hop < hops.len() {
        let here = hops[hop];
        if here.index_bits == 0 || here.slots() > TABLE_ENTRIES || here.shift < 12 {
            return false;
        }
        if hop + 1 < hops.len() && hops[hop + 1].shift + hops[hop + 1].index_bits != here.shift {
            return false;
        }
        hop += 1;
    }
    let top = hops[0].shift as u32 + hops[0].index_bits as u32;
    top <= 64 && (top == 64 || last < 1 << top)
}

/// Which leaf sizes a mapping may use, as a set of hops.
///
/// Hops whose entries cannot be leaves are ignored, so [`ALL`](Self::ALL) suits every format.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct LeafSizes(u8);

impl LeafSizes {
    /// Every size the format has.
    pub const ALL: Self = Self(u8::MAX);

    /// The size of leaves at one hop only.
    #[must_use]
    pub const fn at(hop: Hop) -> Self {
        Self(1 << hop.0)
    }

    /// The smallest size of a format only.
    #[must_use]
    pub const fn smallest<F: Format>() -> Self {
        Self(1 << deepest::<F>())
    }

    /// The sizes of both sets.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether leaves at `hop` belong to the set.
    #[must_use]
    pub const fn contains(self, hop: Hop) -> bool {
        self.0 & (1 << hop.0) != 0
    }

    /// Whether the set has leaves of a format at the hop with this index.
    #[inline(always)]
    pub(crate) const fn allows<F: Format>(self, hop: usize) -> bool {
        geometry_of::<F>(hop).leaf && self.0 & (1 << hop) != 0
    }

    /// The deepest hop of a format that the set allows.
    #[inline(always)]
    pub(crate) const fn deepest_allowed<F: Format>(self) -> Option<usize> {
        match (self.0 & leaf_hops::<F>()).checked_ilog2() {
            Some(hop) => Some(hop as usize),
            None => None,
        }
    }

    /// The hops of a format above `hop` that the set allows, the deepest first.
    #[inline(always)]
    pub(crate) fn allowed_above<F: Format>(self, hop: usize) -> impl Iterator<Item = usize> {
        let mut hops = self.0 & leaf_hops::<F>() & !(u8::MAX << hop);
        core::iter::from_fn(move || {
            let hop = hops.checked_ilog2()?;
            hops ^= 1 << hop;
            Some(hop as usize)
        })
    }
}

/// Bytes of device address space that a leaf at `hop` spans, or `None` where that hop has none.
#[must_use]
pub fn leaf_bytes<F: Format>(hop: Hop) -> Option<u64> {
    let geometry = F::HOPS.get(usize::from(hop.0))?;
    geometry.leaf.then(|| F::device_len(geometry.entry_span()))
}

#[cfg(test)]
mod scrambling;
#[cfg(test)]
mod soundness;
#[cfg(test)]
mod tests;
