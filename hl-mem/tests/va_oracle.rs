//! The allocator against a plain model: one entry per page, every question answered by looking at
//! all of them. The model predicts the exact answer to every call, refusals included.

use hl_mem::va::{AllocateError, Node, Placement, VaAllocator, VaBlock, VaLayout};
use mmu_core::{AddrRange, DeviceAddr};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};

/// Few enough for some runs to be short of nodes.
const NODES: usize = 14;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Page {
    Free,
    Used,
    Fixed,
}

/// The region as pages; 128-bit addresses, so that nothing can wrap.
#[derive(Clone, Debug)]
struct Model {
    start: u128,
    page: u128,
    large: u128,
    /// The window each page is in, zero outside reserved windows.
    zones: Vec<usize>,
    pages: Vec<Page>,
    pieces: usize,
    live: usize,
}

impl Model {
    fn address(&self, index: usize) -> u128 {
        self.start + self.page * index as u128
    }

    fn is_aligned(&self, address: u128, align: u128) -> bool {
        let origin = if self.page.is_power_of_two() {
            0
        } else {
            self.start
        };
        (address - origin).is_multiple_of(align)
    }

    /// Free extents as (first page, number of pages, zone).
    fn extents(&self) -> Vec<(usize, usize, usize)> {
        let mut extents: Vec<(usize, usize, usize)> = Vec::new();
        for (index, (&page, &zone)) in self.pages.iter().zip(&self.zones).enumerate() {
            if page != Page::Free {
                continue;
            }
            match extents.last_mut() {
                Some((first, pages, last)) if *first + *pages == index && *last == zone => {
                    *pages += 1;
                }
                _ => extents.push((index, 1, zone)),
            }
        }
        extents
    }

    fn best(&self, pages: u128, align: u64) -> Result<usize, AllocateError> {
        let bytes = u128::from(align);
        if bytes == 0 || !(bytes.is_multiple_of(self.page) || self.page.is_multiple_of(bytes)) {
            return Err(AllocateError::Alignment { align });
        }
        let bytes = bytes.max(self.page);
        let named = bytes == self.page || bytes == self.large;
        let sure = pages + bytes / self.page - 1;
        let mut extents = self.extents();
        extents.retain(|&(_, len, zone)| zone == 0 && len as u128 >= pages);
        extents.sort_by_key(|&(first, len, _)| (len, first));
        if !named && !extents.iter().any(|&(_, len, _)| len as u128 >= sure) {
            // So many are looked at where none is sure to have room.
            extents.truncate(16);
        }
        extents
            .into_iter()
            .filter_map(|(first, len, _)| {
                let end = first + len;
                let place = (first..end).find(|&at| self.is_aligned(self.address(at), bytes))?;
                ((end - place) as u128 >= pages).then_some((first, len, place))
            })
            // An unnamed alignment takes the shortest that is sure to have room, if there is one.
            .min_by_key(|&(first, len, _)| (!named && (len as u128) < sure, len, first))
            .map(|(_, _, place)| place)
            .ok_or(AllocateError::NoSpace)
    }

    fn exact(&self, at: DeviceAddr, pages: u128) -> Result<usize, AllocateError> {
        let address = u128::from(at.get());
        let outside = AllocateError::OutsideRegion { at };
        if address < self.start || address >= self.address(self.pages.len()) {
            return Err(outside);
        }
        if !(address - self.start).is_multiple_of(self.page) {
            return Err(AllocateError::Unaligned { at });
        }
        let first = ((address - self.start) / self.page) as usize;
        if first as u128 + pages > self.pages.len() as u128 {
            return Err(outside);
        }
        let in_the_way = (first..first + pages as usize)
            .find(|&page| self.pages[page] != Page::Free || self.zones[page] != self.zones[first]);
        match in_the_way {
            Some(page) => Err(AllocateError::HintTaken {
                at: DeviceAddr::new(self.address(page) as u64),
            }),
            None => Ok(first),
        }
    }

    /// The first page and the number of pages that the call must yield.
    fn allocate(
        &mut self,
        bytes: u64,
        placement: Placement,
    ) -> Result<(usize, usize), AllocateError> {
        if bytes == 0 {
            return Err(AllocateError::ZeroLength);
        }
        let pages = u128::from(bytes).div_ceil(self.page);
        let first = match placement {
            Placement::Exact(at) => self.exact(at, pages)?,
            Placement::Anywhere { align } => self.best(pages, align)?,
            Placement::Hint { at, align } => {
                let fallback = self.best(pages, align);
                if let Err(error @ AllocateError::Alignment { .. }) = fallback {
                    return Err(error);
                }
                let align = u128::from(align).max(self.page);
                match self.exact(at, pages) {
                    Ok(first) if self.is_aligned(self.address(first), align) => first,
                    _ => fallback?,
                }
            }
        };
        if self.live + self.pieces >= NODES {
            return Err(AllocateError::NoNodes);
        }
        let pages = pages as usize;
        self.pages[first..first + pages].fill(Page::Used);
        self.live += 1;
        Ok((first, pages))
    }

    fn count(&self, kind: Page) -> u64 {
        self.pages.iter().filter(|&&page| page == kind).count() as u64
    }
}

#[derive(Clone, Debug)]
enum Operation {
    /// Lengths and addresses in pages and bytes relative to what the region turns out to be.
    Allocate {
        pages: u64,
        short_by: u64,
        place: Place,
        align: Align,
    },
    Free(prop::sample::Index),
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Anywhere,
    Hint { page: i64, offset: u64 },
    Exact { page: i64, offset: u64 },
}

#[derive(Clone, Copy, Debug)]
enum Align {
    Pages(u64),
    Large,
    Bytes(u64),
}

#[derive(Clone, Debug)]
struct Case {
    page: u64,
    pages: usize,
    large: u64,
    /// Where the region lies: pages above address zero, or below the top.
    above_zero: bool,
    distance: u64,
    /// First page, number of pages, whether reserved.
    windows: Vec<(usize, usize, bool)>,
    operations: Vec<Operation>,
}

fn operation() -> impl Strategy<Value = Operation> {
    let address = || (-2..100_i64, prop_oneof![9 => Just(0), 1 => 1..5000_u64]);
    let place = prop_oneof![
        4 => Just(Place::Anywhere),
        2 => address().prop_map(|(page, offset)| Place::Hint { page, offset }),
        2 => address().prop_map(|(page, offset)| Place::Exact { page, offset }),
    ];
    let align = prop_oneof![
        6 => Just(Align::Pages(1)),
        3 => Just(Align::Large),
        3 => (1..20_u64).prop_map(Align::Pages),
        1 => prop_oneof![Just(0), Just(1), Just(u64::MAX), 1..10_000_u64].prop_map(Align::Bytes),
    ];
    let pages = prop_oneof![8 => 1..9_u64, 2 => 9..40_u64, 1 => Just(0), 1 => Just(u64::MAX)];
    let short_by = prop_oneof![Just(0), 0..4096_u64];
    prop_oneof![
        3 => (pages, short_by, place, align).prop_map(|(pages, short_by, place, align)| {
            Operation::Allocate { pages, short_by, place, align }
        }),
        2 => any::<prop::sample::Index>().prop_map(Operation::Free),
    ]
}

fn case() -> impl Strategy<Value = Case> {
    let page = prop_oneof![
        Just(1),
        Just(4 << 10),
        Just(3 << 12),
        Just(768 << 20),
        Just(1 << 55)
    ];
    (
        page,
        1..96_usize,
        1..9_u64,
        any::<bool>(),
        0..40_u64,
        prop::collection::vec((0..96_usize, 1..12_usize, any::<bool>()), 0..4),
        prop::collection::vec(operation(), 1..80),
    )
        .prop_map(
            |(page, pages, large, above_zero, distance, windows, operations)| Case {
                page,
                pages,
                large,
                above_zero,
                distance,
                windows,
                operations,
            },
        )
}

fn check(case: Case) -> Result<(), TestCaseError> {
    let page = case.page;
    let len = page * case.pages as u64;
    let distance = page * case.distance;
    let start = if case.above_zero {
        // A page that is no power of two need not divide the start.
        distance + u64::from(!page.is_power_of_two()) * 4096
    } else {
        // The first address of the last `len + distance` bytes of the space.
        (u64::MAX - distance - len) + 1
    };
    let mut model = Model {
        start: start.into(),
        page: page.into(),
        large: u128::from(page) * u128::from(case.large),
        zones: vec![0; case.pages],
        pages: vec![Page::Free; case.pages],
        pieces: 0,
        live: 0,
    };
    let (mut fixed, mut reserved) = (Vec::new(), Vec::new());
    for &(first, len, is_reserved) in &case.windows {
        let end = (first + len).min(case.pages);
        let is_plain = |at| model.zones[at] == 0 && model.pages[at] == Page::Free;
        if first >= end || !(first..end).all(is_plain) {
            continue;
        }
        let at = DeviceAddr::new(model.address(first) as u64);
        let window = AddrRange::new(at, page * (end - first) as u64).unwrap();
        if is_reserved {
            reserved.push(window);
            model.zones[first..end].fill(reserved.len());
        } else {
            fixed.push(window);
            model.pages[first..end].fill(Page::Fixed);
        }
    }
    model.pieces = model.extents().len();
    let whole = model.pages.clone();
    let region = AddrRange::new(DeviceAddr::new(start), len).unwrap();
    let layout = VaLayout::new(region, page)
        .large_page(page * case.large)
        .fixed(&fixed)
        .reserved(&reserved);
    let mut va = VaAllocator::new([Node::EMPTY; NODES], &layout).unwrap();
    prop_assert_eq!(va.capacity() as usize, NODES - model.pieces);

    let compare = |va: &VaAllocator<_>, model: &Model| -> Result<(), TestCaseError> {
        let extents = model.extents();
        let listed: Vec<_> = va.free_extents().collect();
        let expected: Vec<_> = extents
            .iter()
            .map(|&(first, pages, _)| {
                let start = DeviceAddr::new(model.address(first) as u64);
                AddrRange::new(start, page * pages as u64).unwrap()
            })
            .collect();
        prop_assert_eq!(listed, expected);
        let ordinary = extents.iter().filter(|&&(_, _, zone)| zone == 0);
        let largest = ordinary.map(|&(_, pages, _)| pages).max().unwrap_or(0);
        prop_assert_eq!(va.largest(), page * largest as u64);
        prop_assert_eq!(va.used(), page * model.count(Page::Used));
        prop_assert_eq!(va.free_bytes(), page * model.count(Page::Free));
        prop_assert_eq!(va.outstanding() as usize, model.live);
        prop_assert_eq!(va.is_whole(), model.live == 0);
        Ok(())
    };
    compare(&va, &model)?;
    let mut live: Vec<(VaBlock, usize, usize)> = Vec::new();
    for operation in case.operations {
        match operation {
            Operation::Allocate {
                pages,
                short_by,
                place,
                align,
            } => {
                let bytes = pages.saturating_mul(page);
                let bytes = bytes.saturating_sub(short_by % page.min(4096));
                let address = |index: i64, offset: u64| {
                    let skip = (index.unsigned_abs() % (case.pages as u64 + 3)) * page;
                    let at = match index < 0 {
                        true => start.wrapping_sub(skip),
                        false => start.wrapping_add(skip),
                    };
                    DeviceAddr::new(at.wrapping_add(offset))
                };
                let align = match align {
                    Align::Pages(pages) => pages.saturating_mul(page),
                    Align::Large => page * case.large,
                    Align::Bytes(bytes) => bytes,
                };
                let placement = match place {
                    Place::Anywhere => Placement::Anywhere { align },
                    Place::Hint { page, offset } => Placement::Hint {
                        at: address(page, offset),
                        align,
                    },
                    Place::Exact { page, offset } => Placement::Exact(address(page, offset)),
                };
                let expected = model.allocate(bytes, placement);
                match (va.allocate(bytes, placement), expected) {
                    (Ok(block), Ok((first, pages))) => {
                        let at = u128::from(block.range().start().get());
                        prop_assert_eq!(at, model.address(first));
                        prop_assert_eq!(block.range().len(), page * pages as u64);
                        live.push((block, first, pages));
                    }
                    (got, expected) => {
                        prop_assert_eq!(got.map(|block| block.range()).err(), expected.err());
                    }
                }
            }
            Operation::Free(index) if !live.is_empty() => {
                let (block, first, pages) = live.swap_remove(index.index(live.len()));
                prop_assert!(va.free(block).is_ok());
                model.pages[first..first + pages].fill(Page::Free);
                model.live -= 1;
            }
            Operation::Free(_) => {}
        }
        compare(&va, &model)?;
    }
    for (block, first, pages) in live {
        prop_assert!(va.free(block).is_ok());
        model.pages[first..first + pages].fill(Page::Free);
        model.live -= 1;
        compare(&va, &model)?;
    }
    prop_assert_eq!(model.pages, whole);
    prop_assert!(va.is_whole());
    Ok(())
}

proptest! {
    #![proptest_config(Config {
        cases: 512,
        rng_seed: RngSeed::Fixed(0x5641),
        failure_persistence: None,
        ..Config::default()
    })]

    #[test]
    fn every_call_gives_exactly_what_a_model_of_single_pages_gives(case in case()) {
        check(case)?;
    }
}
