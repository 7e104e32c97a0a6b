//! The device-address scenarios that the test suites of this field's peers check, and the hazards
//! of the habanalabs driver's allocator, through the public interface alone.

use hl_mem::va::{AllocateError, LayoutError, Node, Placement, VaAllocator, VaBlock, VaLayout};
use mmu_core::{AddrRange, DeviceAddr};

const PAGE: u64 = 4 << 10;
const LARGE: u64 = 2 << 20;
/// Device memory page of a Gaudi2 with six and with five functional memory stacks.
const DRAM_PAGE_6: u64 = 768 << 20;
const DRAM_PAGE_5: u64 = 640 << 20;

type Va = VaAllocator<[Node; 128]>;

fn at(address: u64) -> DeviceAddr {
    DeviceAddr::new(address)
}

fn range(start: u64, len: u64) -> AddrRange<DeviceAddr> {
    AddrRange::new(at(start), len).unwrap()
}

/// From the first to the last byte, as address plans are written.
fn span(first: u64, last: u64) -> AddrRange<DeviceAddr> {
    range(first, last - first + 1)
}

fn anywhere(align: u64) -> Placement {
    Placement::Anywhere { align }
}

fn hint(address: u64, align: u64) -> Placement {
    Placement::Hint {
        at: at(address),
        align,
    }
}

fn exact(address: u64) -> Placement {
    Placement::Exact(at(address))
}

fn allocator(layout: &VaLayout<'_>) -> Va {
    VaAllocator::new([Node::EMPTY; 128], layout).unwrap()
}

fn extents<S: AsRef<[Node]> + AsMut<[Node]>>(va: &VaAllocator<S>) -> Vec<AddrRange<DeviceAddr>> {
    va.free_extents().collect()
}

/// The region of each memory kind and ASIC (facts VA-3 and section 2.5), its page, its reserved
/// window (facts VA-4).
fn regions() -> Vec<(AddrRange<DeviceAddr>, u64, Option<AddrRange<DeviceAddr>>)> {
    let dram6 = span(0x1001_0018_0000_0000, 0x1001_C005_FFFF_FFFF);
    let dram5 = span(0x1001_0014_0000_0000, 0x1001_A007_7FFF_FFFF);
    let dram_window = span(0x1001_5000_0000_0000, 0x1001_6FFF_FFFF_FFFF);
    vec![
        (span(0x1_0000_0000_0000, 0x3_FF7F_FFFF_FFFF), PAGE, None),
        (span(0x8_0000_0000, 0x1F_FFFF_FFFF), LARGE, None),
        (span(0x1_0000_0000_0000, 0x2_7FBF_FFFF_EFFF), PAGE, None),
        (
            span(0xFFF0_0000_0000_0000, 0xFFF0_7FFF_FFFF_FFFF),
            PAGE,
            Some(span(0xFFF0_77FF_FFFF_0000, 0xFFF0_7FFF_FFFF_FFFF)),
        ),
        (
            span(0xFFF0_8000_0000_0000, 0xFFF0_FFFF_FFFF_FFFF),
            LARGE,
            Some(span(0xFFF0_F800_0000_0000, 0xFFF0_FFFF_FFFF_FFFF)),
        ),
        (
            dram6,
            DRAM_PAGE_6,
            VaLayout::new(dram6, DRAM_PAGE_6).whole_pages(dram_window),
        ),
        (
            dram5,
            DRAM_PAGE_5,
            VaLayout::new(dram5, DRAM_PAGE_5).whole_pages(dram_window),
        ),
    ]
}

#[test]
fn v01_every_length_gets_whole_pages_that_no_other_block_shares() {
    let region = range(0x1_0000_0000_0000, 64 << 30);
    let layout = VaLayout::new(region, PAGE).large_page(LARGE);
    let mut va = VaAllocator::new(vec![Node::EMPTY; 9000], &layout).unwrap();
    let mut blocks = Vec::new();
    for bytes in (1..=8191).chain((1..=10).map(|pages| pages * PAGE)) {
        // Every 16th as for a host buffer on a large-page boundary.
        let align = if bytes % 16 == 0 { LARGE } else { PAGE };
        let block = va.allocate(bytes, anywhere(align)).unwrap();
        assert!(block.range().start().is_multiple_of(align));
        assert_eq!(block.range().len(), bytes.div_ceil(PAGE) * PAGE);
        blocks.push(block);
    }
    let mut taken: Vec<_> = blocks.iter().map(VaBlock::range).collect();
    taken.sort_by_key(|range| range.start());
    for pair in taken.windows(2) {
        assert!(!pair[0].overlaps(pair[1]), "{pair:?}");
    }
    for block in blocks {
        va.free(block).unwrap();
    }
    assert_eq!(extents(&va), [region]);
}

#[test]
fn v02_a_full_range_refuses_and_merges_again_in_every_order_of_freeing() {
    let region = range(0x10_0000, 64 * PAGE);
    let orders = [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ];
    for lengths in [&[1_u64][..], &[3, 1, 2, 5, 1, 4]] {
        for order in orders {
            let mut va = allocator(&VaLayout::new(region, PAGE));
            let mut blocks = Vec::new();
            let mut left = 64;
            while left > 0 {
                let pages = lengths[blocks.len() % lengths.len()].min(left);
                left -= pages;
                blocks.push(Some(va.allocate(pages * PAGE, anywhere(PAGE)).unwrap()));
            }
            assert_eq!(extents(&va), []);
            assert_eq!((va.free_bytes(), va.largest()), (0, 0));
            let full = va.allocate(1, anywhere(PAGE)).unwrap_err();
            assert_eq!(full, AllocateError::NoSpace);

            let middle = blocks.len() / 2;
            let three = blocks[middle].as_ref().unwrap().range();
            let three = (middle + 1..middle + 3).fold(three, |hull, index| {
                hull.hull(blocks[index].as_ref().unwrap().range()).unwrap()
            });
            for index in order {
                va.free(blocks[middle + index].take().unwrap()).unwrap();
            }
            assert_eq!(extents(&va), [three]);
            for block in blocks.into_iter().flatten() {
                va.free(block).unwrap();
            }
            assert_eq!(extents(&va), [region]);
            assert!(va.is_whole());
        }
    }
}

#[test]
fn v03_hints_are_honoured_where_free_and_aligned_and_fall_back_where_not() {
    for (region, page, reserved) in regions() {
        let windows: Vec<_> = reserved.into_iter().collect();
        let mut va = allocator(&VaLayout::new(region, page).reserved(&windows));
        let start = region.start().get();
        let wanted = start + 5 * page;

        let first = va.allocate(page, hint(wanted, page)).unwrap();
        assert_eq!(first.range(), range(wanted, page));
        let unaligned = va
            .allocate(page, hint(wanted + 2 * page - 1, page))
            .unwrap();
        let occupied = va.allocate(page, hint(wanted, page)).unwrap();
        let outside = va.allocate(page, hint(start - page, page)).unwrap();
        let beyond = region.last().get() + 1;
        let above = va.allocate(page, hint(beyond, page)).unwrap();
        for block in [&unaligned, &occupied, &outside, &above] {
            let got = block.range();
            assert!(region.contains_range(got) && got.len() == page);
            assert!(
                got.start()
                    .offset_from(region.start())
                    .unwrap()
                    .is_multiple_of(page)
            );
            assert!(!got.overlaps(first.range()));
            assert!(windows.iter().all(|window| !window.overlaps(got)));
        }

        let before = extents(&va);
        let taken = AllocateError::HintTaken { at: at(wanted) };
        let misaligned = wanted + page - 1;
        for (address, error) in [
            (wanted, taken),
            (misaligned, AllocateError::Unaligned { at: at(misaligned) }),
            (beyond, AllocateError::OutsideRegion { at: at(beyond) }),
            (0, AllocateError::OutsideRegion { at: at(0) }),
        ] {
            assert_eq!(va.allocate(page, exact(address)).unwrap_err(), error);
            assert_eq!(extents(&va), before);
        }
        for block in [first, unaligned, occupied, outside, above] {
            va.free(block).unwrap();
        }
        assert!(va.is_whole());
    }
}

#[test]
fn a_hint_that_lacks_the_alignment_asked_for_falls_back_to_an_aligned_address() {
    let mut va = allocator(&VaLayout::new(range(0, 16 * LARGE), PAGE).large_page(LARGE));
    let block = va.allocate(PAGE, hint(3 * LARGE + PAGE, LARGE)).unwrap();
    assert_eq!(block.range().start(), at(0));
    let block = va.allocate(PAGE, hint(3 * LARGE, LARGE)).unwrap();
    assert_eq!(block.range().start(), at(3 * LARGE));
}

#[test]
fn v06_a_request_near_the_top_of_the_space_neither_wraps_nor_panics() {
    // The scenario counts bytes: 6 + 0xFFFFFFFFFFFF8001 leaves 0x7FF8 bytes at the top.
    let region = range(0, u64::MAX);
    let mut va = allocator(&VaLayout::new(region, 1));
    let block = va.allocate(0xFFFF_FFFF_FFFF_8001, exact(6)).unwrap();
    let full = va.allocate(0x5000, anywhere(0x8000)).unwrap_err();
    assert_eq!(full, AllocateError::NoSpace);
    assert_eq!(
        va.allocate(0, exact(0)).unwrap_err(),
        AllocateError::ZeroLength
    );
    for (address, len, way) in [
        (0, 7, 6),
        (5, 2, 6),
        (6, 1, 6),
        (1000, u64::MAX - 1000, 1000),
    ] {
        let error = va.allocate(len, exact(address)).unwrap_err();
        assert_eq!(error, AllocateError::HintTaken { at: at(way) });
    }
    let wraps = va.allocate(u64::MAX, exact(1)).unwrap_err();
    assert_eq!(wraps, AllocateError::OutsideRegion { at: at(1) });
    for align in [1, 3, 0x8000, 1 << 63, u64::MAX] {
        let error = va.allocate(u64::MAX, anywhere(align)).unwrap_err();
        assert_eq!(error, AllocateError::NoSpace);
        va.allocate(u64::MAX, hint(u64::MAX, align)).unwrap_err();
    }
    va.free(block).unwrap();
    let whole = va.allocate(u64::MAX, hint(0, u64::MAX)).unwrap();
    assert_eq!(whole.range(), region);
    va.free(whole).unwrap();
    assert!(va.is_whole());
}

#[test]
fn the_last_block_of_every_region_can_be_taken_by_hint_and_given_back() {
    let top = range(u64::MAX - 64 * PAGE + 1, 64 * PAGE);
    for (region, page, _) in regions().into_iter().chain([(top, PAGE, None)]) {
        let mut va = allocator(&VaLayout::new(region, page));
        let last = region.last().get() - page + 1;
        for placement in [exact(last), hint(last, page)] {
            let block = va.allocate(page, placement).unwrap();
            assert_eq!(block.range().start(), at(last));
            assert_eq!(block.range().last(), region.last());
            assert_eq!(
                extents(&va),
                [range(region.start().get(), region.len() - page)]
            );
            va.free(block).unwrap();
            assert_eq!(extents(&va), [region]);
        }
        let all = va
            .allocate(region.len(), exact(region.start().get()))
            .unwrap();
        assert_eq!(all.range(), region);
        let over = va.allocate(page + 1, exact(last)).unwrap_err();
        assert_eq!(over, AllocateError::OutsideRegion { at: at(last) });
        va.free(all).unwrap();
        assert!(va.is_whole());
    }
}

#[test]
fn a_reserved_window_is_used_only_by_an_address_inside_it() {
    for (region, page, window) in regions() {
        let Some(window) = window else { continue };
        let windows = [window];
        let mut va = allocator(&VaLayout::new(region, page).reserved(&windows));
        let inside = window.start().get();
        let held = va.allocate(page, hint(inside, page)).unwrap();
        assert_eq!(held.range().start(), window.start());
        // All that lies outside is taken; from here on only the window is free.
        let mut rest = Vec::new();
        while va.largest() > 0 {
            rest.push(va.allocate(va.largest(), anywhere(page)).unwrap());
        }
        assert_eq!(va.free_bytes(), window.len() - page);
        // An unsatisfiable hint, even one that is inside the window, must not fall into it.
        for placement in [
            anywhere(page),
            hint(inside, page),
            hint(inside + page + 1, page),
            hint(region.start().get(), page),
            hint(0, page),
        ] {
            let error = va.allocate(page, placement).unwrap_err();
            assert_eq!(error, AllocateError::NoSpace, "{placement:?}");
        }
        // Nor does an exact address outside reach into it, even where both sides are free.
        for block in rest {
            va.free(block).unwrap();
        }
        let across = va.allocate(2 * page, exact(inside - page)).unwrap_err();
        assert_eq!(across, AllocateError::HintTaken { at: window.start() });
        va.free(held).unwrap();
        assert!(va.is_whole());
        assert!(extents(&va).contains(&window));
    }
}

#[test]
fn reserved_windows_that_adjoin_stay_apart() {
    // Gaudi2 reserves a doorbell page run and, right behind it, a window for its processors.
    let region = span(0xFFF0_0000_0000_0000, 0xFFF0_7FFF_FFFF_FFFF);
    let windows = [
        span(0xFFF0_77FF_FFFF_0000, 0xFFF0_77FF_FFFF_FFFF),
        span(0xFFF0_7800_0000_0000, 0xFFF0_7FFF_FFFF_FFFF),
    ];
    let mut va = allocator(&VaLayout::new(region, PAGE).reserved(&windows));
    let whole = extents(&va);
    assert_eq!(whole[1..], windows);
    let across = va
        .allocate(2 * PAGE, exact(0xFFF0_77FF_FFFF_F000))
        .unwrap_err();
    let edge = windows[1].start();
    assert_eq!(across, AllocateError::HintTaken { at: edge });
    let doorbell = va.allocate(0x1_0000, exact(0xFFF0_77FF_FFFF_0000)).unwrap();
    let processors = va.allocate(PAGE, exact(0xFFF0_7800_0000_0000)).unwrap();
    va.free(processors).unwrap();
    va.free(doorbell).unwrap();
    assert_eq!(extents(&va), whole);
}

#[test]
fn fixed_windows_are_never_handed_out_and_count_as_neither_used_nor_free() {
    let region = range(0, 16 * PAGE);
    let fixed = [
        range(0, PAGE),
        range(4 * PAGE, 2 * PAGE),
        range(15 * PAGE, PAGE),
    ];
    let mut va = allocator(&VaLayout::new(region, PAGE).fixed(&fixed));
    assert!(va.is_whole());
    assert_eq!((va.used(), va.free_bytes()), (0, 12 * PAGE));
    let whole = [range(PAGE, 3 * PAGE), range(6 * PAGE, 9 * PAGE)];
    assert_eq!(extents(&va), whole);
    for window in fixed {
        let start = window.start();
        let error = va.allocate(PAGE, Placement::Exact(start)).unwrap_err();
        assert_eq!(error, AllocateError::HintTaken { at: start });
        let elsewhere = va.allocate(PAGE, hint(start.get(), PAGE)).unwrap();
        assert!(!elsewhere.range().overlaps(window));
        va.free(elsewhere).unwrap();
    }
    let long = va.allocate(10 * PAGE, anywhere(PAGE)).unwrap_err();
    assert_eq!(long, AllocateError::NoSpace);
    assert_eq!(extents(&va), whole);
}

#[test]
fn pages_that_are_no_power_of_two_count_from_the_start_of_the_region() {
    for (region, page, _) in regions().into_iter().skip(5) {
        let mut va = allocator(&VaLayout::new(region, page).large_page(4 * page));
        let start = region.start().get();
        let one = va.allocate(page - 1, anywhere(1)).unwrap();
        assert_eq!(one.range(), range(start, page));
        // Aligned to the declared and to another multiple of the page.
        let four = va.allocate(page, anywhere(4 * page)).unwrap();
        assert_eq!(four.range(), range(start + 4 * page, page));
        let three = va.allocate(5 * page, anywhere(3 * page)).unwrap();
        assert_eq!(three.range(), range(start + 6 * page, 5 * page));
        let power = va.allocate(page, anywhere(1 << 30)).unwrap_err();
        assert_eq!(power, AllocateError::Alignment { align: 1 << 30 });
        for block in [four, one, three] {
            va.free(block).unwrap();
        }
        assert_eq!(extents(&va), [region]);
    }
}

#[test]
fn a_window_in_bytes_is_rounded_out_to_whole_pages_of_the_region() {
    let (region, page, window) = regions()[5];
    let window = window.unwrap();
    let named = span(0x1001_5000_0000_0000, 0x1001_6FFF_FFFF_FFFF);
    assert!(window.contains_range(named) && window.len() < named.len() + 2 * page);
    let layout = VaLayout::new(region, page);
    assert_eq!(layout.whole_pages(window), Some(window));
    assert_eq!(layout.whole_pages(range(0, 1)), None);
    let narrow = [named];
    let error = VaAllocator::new([Node::EMPTY; 4], &layout.reserved(&narrow)).unwrap_err();
    assert_eq!(error, LayoutError::UnalignedWindow { at: named.start() });
}

#[test]
fn sizes_of_4_gib_and_beyond_2_63_are_sizes_like_any_other() {
    let region = range(0, u64::MAX - PAGE + 1);
    let reserved = [range(1 << 40, 4 << 30)];
    let mut va = allocator(&VaLayout::new(region, PAGE).reserved(&reserved));
    for bytes in [
        4 << 30,
        (4 << 30) + PAGE,
        1 << 45,
        1 << 63,
        (1 << 63) + (1 << 62),
    ] {
        let block = va.allocate(bytes, anywhere(PAGE)).unwrap();
        assert_eq!(block.range().len(), bytes);
        assert!(!block.range().overlaps(reserved[0]));
        assert_eq!(va.used(), bytes);
        va.free(block).unwrap();
    }
    // A reservation of exactly 2^32 bytes is not one of zero.
    let across = va.allocate(4 << 30, exact((1 << 40) - PAGE)).unwrap_err();
    assert_eq!(across, AllocateError::HintTaken { at: at(1 << 40) });
    let inside = va.allocate(4 << 30, exact(1 << 40)).unwrap();
    assert_eq!(inside.range(), reserved[0]);
    va.free(inside).unwrap();
    assert!(va.is_whole());
}

#[test]
fn the_shortest_extent_with_room_is_taken_and_the_lowest_of_those() {
    // Free: 4 pages at 0, 2 pages at 5, 2 pages at 8, the rest from 11.
    let mut va = allocator(&VaLayout::new(range(0, 64 * PAGE), PAGE).large_page(4 * PAGE));
    for page in [4, 7, 10] {
        // Lost on purpose: what matters is that the page stays in use.
        drop(va.allocate(PAGE, exact(page * PAGE)).unwrap());
    }
    let mut start = |pages, align| {
        let block = va.allocate(pages * PAGE, anywhere(align * PAGE)).unwrap();
        let page = block.range().start().get() / PAGE;
        va.free(block).unwrap();
        page
    };
    assert_eq!(
        [start(1, 1), start(2, 1), start(3, 1), start(5, 1)],
        [5, 5, 0, 11]
    );
    // At large-page alignment page 8 has the shorter extent, page 0 the next.
    assert_eq!([start(2, 4), start(3, 4), start(5, 4)], [8, 0, 12]);
}

#[test]
fn a_block_of_another_allocator_is_refused_and_handed_back() {
    let layout = VaLayout::new(range(0, 16 * PAGE), PAGE);
    let (mut one, mut two) = (allocator(&layout), allocator(&layout));
    let block = one.allocate(PAGE, anywhere(PAGE)).unwrap();
    let same = two.allocate(PAGE, anywhere(PAGE)).unwrap();
    assert_eq!(block.range(), same.range());
    let refused = two.free(block).unwrap_err();
    assert!(refused.to_string().contains(&same.range().to_string()));
    let block = refused.into_block();
    assert_eq!(two.used(), PAGE);
    one.free(block).unwrap();
    two.free(same).unwrap();
    assert!(one.is_whole() && two.is_whole());
}

#[test]
fn a_lost_block_shows_in_every_count_and_keeps_its_allocator_from_retiring() {
    let layout = VaLayout::new(range(0, 16 * PAGE), PAGE);
    let mut nodes = vec![Node::EMPTY; 4];
    let mut va = VaAllocator::new(&mut nodes[..], &layout).unwrap();
    let kept = va.allocate(3 * PAGE, anywhere(PAGE)).unwrap();
    drop(va.allocate(2 * PAGE, anywhere(PAGE)).unwrap());
    va.free(kept).unwrap();
    assert_eq!((va.used(), va.outstanding()), (2 * PAGE, 1));
    assert_eq!(va.free_bytes(), 14 * PAGE);
    assert!(!va.is_whole());
    assert!(va.retire().is_err());
    // The storage serves the next allocator, whatever is left in it.
    let mut va = VaAllocator::new(&mut nodes[..], &layout).unwrap();
    let block = va.allocate(PAGE, exact(4 * PAGE)).unwrap();
    va.free(block).unwrap();
    assert_eq!(va.retire().unwrap().len(), 4);
}

#[test]
fn layouts_that_make_no_sense_are_refused() {
    let region = range(0x1_0000, 16 * PAGE);
    let start = region.start().get();
    let sound = VaLayout::new(region, PAGE);
    let refuse = |layout: &VaLayout<'_>| VaAllocator::new([Node::EMPTY; 8], layout).unwrap_err();
    let unaligned = |at_| LayoutError::UnalignedRegion { at: at(at_) };
    assert_eq!(refuse(&VaLayout::new(region, 0)), LayoutError::ZeroPage);
    assert_eq!(
        refuse(&VaLayout::new(region, 1 << 40)),
        LayoutError::RegionBelowOnePage
    );
    let low = VaLayout::new(range(start + 8, 16 * PAGE), PAGE);
    assert_eq!(refuse(&low), unaligned(start + 8));
    let long = VaLayout::new(range(start, 16 * PAGE + 8), PAGE);
    assert_eq!(refuse(&long), unaligned(start));
    for bytes in [0, PAGE / 2, PAGE + 1] {
        assert_eq!(
            refuse(&sound.large_page(bytes)),
            LayoutError::LargePage { bytes }
        );
    }
    let window = |offset: u64, len| range(start + offset, len);
    let below = range(start - PAGE, 2 * PAGE);
    for (windows, error) in [
        (
            [below, window(0, PAGE)],
            LayoutError::WindowOutsideRegion { at: below.start() },
        ),
        (
            [window(0, PAGE), window(15 * PAGE, 2 * PAGE)],
            LayoutError::WindowOutsideRegion {
                at: at(start + 15 * PAGE),
            },
        ),
        (
            [window(0, PAGE), window(PAGE + 8, PAGE)],
            LayoutError::UnalignedWindow {
                at: at(start + PAGE + 8),
            },
        ),
        (
            [window(0, PAGE), window(PAGE, PAGE + 8)],
            LayoutError::UnalignedWindow {
                at: at(start + PAGE),
            },
        ),
        (
            [window(0, 2 * PAGE), window(PAGE, PAGE)],
            LayoutError::WindowsOverlap {
                at: at(start + PAGE),
            },
        ),
        (
            [window(2 * PAGE, PAGE), window(PAGE, 4 * PAGE)],
            LayoutError::WindowsOverlap {
                at: at(start + 2 * PAGE),
            },
        ),
    ] {
        let (one, two) = ([windows[0]], [windows[1]]);
        assert_eq!(refuse(&sound.fixed(&windows)), error);
        assert_eq!(refuse(&sound.reserved(&windows)), error);
        if !matches!(error, LayoutError::WindowOutsideRegion { at } if at == below.start()) {
            assert_eq!(refuse(&sound.fixed(&one).reserved(&two)), error);
        }
    }
    // Three pieces need three nodes; the whole region as a fixed window needs none to be kept.
    let middle = [window(4 * PAGE, PAGE)];
    let layout = sound.reserved(&middle);
    let small = VaAllocator::new([Node::EMPTY; 2], &layout).unwrap_err();
    assert_eq!(small, LayoutError::NoNodes);
    let mut full = VaAllocator::new([Node::EMPTY; 3], &layout).unwrap();
    assert_eq!(full.capacity(), 0);
    let none = full.allocate(PAGE, anywhere(PAGE)).unwrap_err();
    assert_eq!(none, AllocateError::NoNodes);
    let all = [region];
    let mut nothing = VaAllocator::new([Node::EMPTY; 1], &sound.fixed(&all)).unwrap();
    let none = nothing.allocate(PAGE, anywhere(PAGE)).unwrap_err();
    assert_eq!(none, AllocateError::NoSpace);
    assert!(nothing.is_whole());
}
