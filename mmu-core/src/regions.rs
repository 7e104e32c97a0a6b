//! Table memory in several pieces.

use core::fmt;

use crate::addr::BusAddr;
use crate::format::{TABLE_BYTES, TABLE_ENTRIES};
use crate::memory::TableId;
use crate::pool::{Region, TableArena, TableWord, Word};

/// A [`TableArena`] of several pieces of contiguous memory.
///
/// The tables of the first region are numbered first, then those of the second, and so on. The
/// first region costs one comparison more than a [`Region`] alone and each further one another, so
/// the largest belongs first, and there should not be many. For pages that lie one by one, an arena
/// of one's own does better.
pub struct Regions<'a, const N: usize, W = Word> {
    regions: [Region<'a, W>; N],
}

impl<'a, const N: usize, W: TableWord> Regions<'a, N, W> {
    /// The tables of these regions. `None` where two share bus addresses, or all together are
    /// 2^32 - 1 tables or more.
    #[must_use]
    pub fn new(regions: [Region<'a, W>; N]) -> Option<Self> {
        let mut tables = 0_u32;
        for (number, region) in regions.iter().enumerate() {
            tables = tables.checked_add(region.capacity())?;
            let others = regions.iter().skip(number + 1);
            if others
                .into_iter()
                .any(|other| shares_addresses(region, other))
            {
                return None;
            }
        }
        (tables != TableId::NONE).then_some(Self { regions })
    }

    /// The region that a table is in, and its number there.
    #[inline(always)]
    fn find(&self, table: TableId) -> Option<(&Region<'a, W>, TableId)> {
        let mut number = table.number();
        for region in &self.regions {
            if number < region.capacity() {
                return Some((region, TableId::new(number)));
            }
            number -= region.capacity();
        }
        None
    }
}

/// Whether two regions have a bus address in common.
fn shares_addresses<W: TableWord>(one: &Region<'_, W>, other: &Region<'_, W>) -> bool {
    let first = |region: &Region<'_, W>| region.address(TableId::new(0)).get();
    let bytes = |region: &Region<'_, W>| u64::from(region.capacity()) * TABLE_BYTES;
    let starts_in = |one: &Region<'_, W>, other: &Region<'_, W>| {
        bytes(one) != 0 && first(one).wrapping_sub(first(other)) < bytes(other)
    };
    starts_in(one, other) || starts_in(other, one)
}

impl<const N: usize, W> fmt::Debug for Regions<'_, N, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Regions").field(&self.regions).finish()
    }
}

impl<const N: usize, W: TableWord> TableArena for Regions<'_, N, W> {
    type Word = W;

    #[inline(always)]
    fn capacity(&self) -> u32 {
        // `new` checked the sum.
        self.regions.iter().map(Region::capacity).sum()
    }

    #[inline(always)]
    fn words(&self, table: TableId) -> Option<&[W; TABLE_ENTRIES]> {
        let (region, table) = self.find(table)?;
        region.words(table)
    }

    #[inline(always)]
    fn address(&self, table: TableId) -> BusAddr {
        match self.find(table) {
            Some((region, table)) => region.address(table),
            None => BusAddr::new(0),
        }
    }

    #[inline(always)]
    fn locate(&self, address: BusAddr) -> Option<TableId> {
        let mut before = 0;
        for region in &self.regions {
            if let Some(table) = region.locate(address) {
                return Some(TableId::new(before + table.number()));
            }
            before += region.capacity();
        }
        None
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use core::sync::atomic::AtomicU64;

    type Tables = Vec<[AtomicU64; TABLE_ENTRIES]>;

    fn tables(count: usize) -> Tables {
        let zero = || core::array::from_fn(|_| AtomicU64::new(0));
        (0..count).map(|_| zero()).collect()
    }

    fn region(tables: &Tables, address: u64) -> Region<'_, AtomicU64> {
        Region::new(tables, BusAddr::new(address)).unwrap()
    }

    #[test]
    fn tables_are_numbered_densely_and_found_by_their_addresses_alone() {
        let (a, b, c) = (tables(3), tables(0), tables(2));
        let arena = Regions::new([
            region(&a, 0x9000),
            region(&b, 0x2000),
            region(&c, 0xFFFF_FFFF_FFFF_D000),
        ])
        .unwrap();
        assert_eq!(arena.capacity(), 5);
        let addresses = [
            0x9000,
            0xA000,
            0xB000,
            0xFFFF_FFFF_FFFF_D000,
            0xFFFF_FFFF_FFFF_E000,
        ];
        for (number, address) in addresses.into_iter().enumerate() {
            let table = TableId::new(number as u32);
            let address = BusAddr::new(address);
            assert_eq!(arena.address(table), address);
            assert_eq!(arena.locate(address), Some(table));
            let words = arena.words(table).unwrap();
            words[7].store(number as u64 + 1, core::sync::atomic::Ordering::Relaxed);
        }
        for stranger in [
            0,
            0x2000,
            0x8FFF,
            // Inside a table.
            0x9001,
            0xA008,
            0xB800,
            0xC000,
            0xFFFF_FFFF_FFFF_C000,
            0xFFFF_FFFF_FFFF_F000,
        ] {
            assert_eq!(arena.locate(BusAddr::new(stranger)), None, "{stranger:#x}");
            assert!(
                TableArena::find(&arena, BusAddr::new(stranger)).is_none(),
                "{stranger:#x}"
            );
        }
        assert!(arena.words(TableId::new(5)).is_none());
        // Each number reached a table of its own, in its own region.
        let stored = |tables: &Tables, table: usize| TableWord::load(&tables[table][7]);
        assert_eq!([stored(&a, 0), stored(&a, 1), stored(&a, 2)], [1, 2, 3]);
        assert_eq!([stored(&c, 0), stored(&c, 1)], [4, 5]);
    }

    #[test]
    fn regions_that_share_an_address_are_refused_and_neighbours_are_not() {
        let (a, b) = (tables(3), tables(2));
        for (one, other) in [(0x5000, 0x5000), (0x5000, 0x7000), (0x5000, 0x4000)] {
            assert!(Regions::new([region(&a, one), region(&b, other)]).is_none());
            assert!(Regions::new([region(&b, other), region(&a, one)]).is_none());
        }
        for other in [0x8000, 0x3000] {
            assert!(Regions::new([region(&a, 0x5000), region(&b, other)]).is_some());
        }
        // One without tables has no addresses to share.
        let none = tables(0);
        assert!(Regions::new([region(&a, 0x5000), region(&none, 0x6000)]).is_some());
        assert_eq!(Regions::<0, AtomicU64>::new([]).unwrap().capacity(), 0);
    }
}
