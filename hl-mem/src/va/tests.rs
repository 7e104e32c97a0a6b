//! Tests of what only the inside shows: the balance of the trees, the work done, the exact state
//! after a refusal.

use std::collections::BTreeMap;

use super::tree::steps;
use super::*;

const PAGE: u64 = 4 << 10;
const LARGE: u64 = 2 << 20;

fn range(start: u64, len: u64) -> AddrRange<DeviceAddr> {
    AddrRange::new(DeviceAddr::new(start), len).unwrap()
}

fn anywhere(align: u64) -> Placement {
    Placement::Anywhere { align }
}

fn exact(at: u64) -> Placement {
    Placement::Exact(DeviceAddr::new(at))
}

/// SplitMix64: enough for choosing operations, the same on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }
}

impl<S: AsRef<[Node]> + AsMut<[Node]>> VaAllocator<S> {
    fn audit(&self) -> u32 {
        let extents = self.space.audit(self.storage.as_ref());
        assert_eq!(
            (self.extents(), self.free_extents().count()),
            (extents, extents as usize)
        );
        extents
    }

    /// All there is to the allocator, unused nodes included.
    fn state(&self) -> String {
        format!("{:?} {:?}", self.space, self.storage.as_ref())
    }
}

/// The bound on the height of an AVL tree of `nodes` nodes, rounded up.
fn depth(nodes: u32) -> u64 {
    (1.4405 * f64::from(nodes + 2).log2()).ceil() as u64
}

#[test]
fn v07_random_allocations_and_frees_keep_every_count_and_never_overlap() {
    const OPERATIONS: u64 = if cfg!(debug_assertions) {
        100_000
    } else {
        1_000_000
    };
    let region = range(0x1_0000_0000_0000, 8192 * LARGE);
    let layout = VaLayout::new(region, PAGE).large_page(LARGE);
    let mut va = VaAllocator::new(vec![Node::EMPTY; 8193], &layout).unwrap();
    let mut live: Vec<VaBlock> = Vec::new();
    let mut owned: BTreeMap<DeviceAddr, DeviceAddr> = BTreeMap::new();
    let mut held = 0;
    let mut random = Random(7);
    let mut hinted = 0;
    for operation in 0..OPERATIONS {
        if live.is_empty() || random.below(2) == 0 {
            // Mostly large blocks as in the scenario; some odd lengths so that extents fragment.
            let bytes = match random.below(4) {
                0 => 1 + random.below(3 * LARGE),
                _ => LARGE,
            };
            let hint = random.below(20) == 0;
            let at = region.start().get() + random.below(8192) * LARGE;
            let placement = match hint {
                true => Placement::Hint {
                    at: DeviceAddr::new(at),
                    align: LARGE,
                },
                false => anywhere(LARGE),
            };
            if let Ok(block) = va.allocate(bytes, placement) {
                let got = block.range();
                assert!(region.contains_range(got));
                assert!(got.start().is_multiple_of(LARGE) && got.len() >= bytes);
                let below = owned.range(..=got.last()).next_back();
                assert!(below.is_none_or(|(_, &last)| last < got.start()), "overlap");
                owned.insert(got.start(), got.last());
                hinted += u64::from(hint && got.start().get() == at);
                held += got.len();
                live.push(block);
            } else {
                assert!(va.largest() < bytes + LARGE);
            }
        } else {
            let block = live.swap_remove(random.below(live.len() as u64) as usize);
            owned.remove(&block.range().start());
            held -= block.range().len();
            va.free(block).unwrap();
        }
        assert_eq!(va.used(), held);
        assert_eq!(va.used() + va.free_bytes(), region.len());
        assert_eq!(va.outstanding() as usize, live.len());
        if operation % 4096 == 0 {
            let extents = va.audit();
            assert!(extents as usize + live.len() <= 2 * live.len() + 1);
        }
    }
    assert!(hinted > OPERATIONS / 100, "only {hinted} hints honoured");
    for block in live {
        va.free(block).unwrap();
    }
    va.audit();
    assert!(va.is_whole());
    assert_eq!(va.free_extents().collect::<Vec<_>>(), [region]);
}

#[test]
fn trees_stay_balanced_in_the_orders_that_degrade_plain_trees() {
    const BLOCKS: u64 = 512;
    let ascending: Vec<u64> = (0..BLOCKS).step_by(2).collect();
    let descending = ascending.iter().rev().copied().collect();
    let inward = (0..BLOCKS / 4)
        .flat_map(|i| [2 * i, BLOCKS - 2 - 2 * i])
        .collect();
    for order in [ascending, descending, inward] {
        let layout = VaLayout::new(range(0, BLOCKS * PAGE), PAGE);
        let mut va = VaAllocator::new(vec![Node::EMPTY; 600], &layout).unwrap();
        let mut blocks: Vec<_> = (0..BLOCKS)
            .map(|_| Some(va.allocate(PAGE, anywhere(PAGE)).unwrap()))
            .collect();
        for &index in &order {
            va.free(blocks[index as usize].take().unwrap()).unwrap();
            va.audit();
        }
        assert_eq!(va.audit(), 256);
        for &index in &order {
            let block = va.allocate(PAGE, exact(index * PAGE)).unwrap();
            blocks[index as usize] = Some(block);
            va.audit();
        }
        for block in blocks.into_iter().flatten() {
            va.free(block).unwrap();
            va.audit();
        }
        assert!(va.is_whole());
    }
}

/// Pages of the long extent.
const TAIL: u64 = 1 << 20;

/// An allocator with `extents` extents of three pages, each with room for one large page of two,
/// between blocks of one page, and one long extent at the end.
fn fragmented(extents: u64) -> (VaAllocator<Vec<Node>>, Vec<VaBlock>) {
    let layout = VaLayout::new(range(0, (4 * extents + TAIL) * PAGE), PAGE).large_page(2 * PAGE);
    let mut va = VaAllocator::new(vec![Node::EMPTY; 2 * extents as usize + 8], &layout).unwrap();
    let blocks = (0..extents)
        .map(|index| va.allocate(PAGE, exact((4 * index + 3) * PAGE)).unwrap())
        .collect();
    (va, blocks)
}

#[test]
fn work_per_call_is_bounded_by_the_height_of_the_trees() {
    for extents in [16_u64, 1000, 30_000] {
        let (mut va, mut live) = fragmented(extents);
        // Taking searches once and changes three trees at most (the size order twice, the address
        // order once). Giving back searches twice and changes four. A change goes down and up.
        let bound = 10 * (depth(va.storage.len() as u32) + 1);
        let mut random = Random(1);
        let mut worst = 0;
        for call in 0..4000 {
            let at = DeviceAddr::new(random.below(4 * extents) * PAGE);
            let align = 2 * PAGE;
            let placement = match call % 5 {
                0 => anywhere(PAGE),
                1 => anywhere(2 * PAGE),
                2 => Placement::Exact(at),
                3 => Placement::Hint { at, align },
                // Not named in the layout, but the long extent is sure to have room.
                _ => anywhere(8 * PAGE),
            };
            steps::take();
            let taken = va.allocate(PAGE * (1 + random.below(2)), placement);
            worst = worst.max(steps::take());
            let Ok(taken) = taken else { continue };
            live.push(taken);
            let block = live.swap_remove(random.below(live.len() as u64) as usize);
            steps::take();
            va.free(block).unwrap();
            worst = worst.max(steps::take());
        }
        assert!(worst <= bound, "{worst} steps, not {bound}, at {extents}");
        assert!(va.audit() > extents as u32 / 4, "the extents are gone");
        // What makes the bound worth something.
        assert!(extents < 30_000 || 100 * bound < extents);
    }
}

#[test]
fn an_unnamed_alignment_takes_no_more_steps_where_no_extent_is_sure_to_have_room() {
    for extents in [1000, 8000] {
        let (mut va, mut blocks) = fragmented(extents);
        // The long extent goes, so that no extent is sure to have room at this alignment.
        let long = exact(4 * extents * PAGE);
        blocks.push(va.allocate(TAIL * PAGE, long).unwrap());
        // Of the multiples of 32 pages, one of the first and the last one are usable for two pages.
        let last = (extents - 1) / 8 * 8;
        for index in (0..last).step_by(8).filter(|&index| index != 8) {
            let at = (4 * index + 1) * PAGE;
            blocks.push(va.allocate(PAGE, exact(at)).unwrap());
        }
        let bound = |extents| 16 * (depth(extents) + 1) + 13 * depth(extents);
        steps::take();
        let found = va.allocate(2 * PAGE, anywhere(32 * PAGE)).unwrap();
        assert!(steps::take() <= bound(va.audit()));
        assert_eq!(found.range().start(), DeviceAddr::new(8 * 4 * PAGE));
        // The other one is too far away.
        let before = va.state();
        steps::take();
        let none = va.allocate(2 * PAGE, anywhere(32 * PAGE));
        assert!(steps::take() <= bound(va.audit()));
        assert_eq!(none.unwrap_err(), AllocateError::NoSpace);
        assert_eq!(va.state(), before);
        let place = exact(last * 4 * PAGE);
        blocks.push(va.allocate(2 * PAGE, place).unwrap());
    }
}

#[test]
fn refusals_leave_every_bit_of_the_allocator_as_it_was() {
    let reserved = [range(0x8000, 0x4000)];
    let fixed = [range(0x4000, 0x1000)];
    let layout = VaLayout::new(range(0, 0x1_0000), PAGE)
        .fixed(&fixed)
        .reserved(&reserved);
    let mut va = VaAllocator::new([Node::EMPTY; 7], &layout).unwrap();
    assert_eq!(va.capacity(), 3);
    let mut other = VaAllocator::new([Node::EMPTY; 8], &layout).unwrap();
    let first = va.allocate(PAGE, exact(0x1000)).unwrap();
    let second = va.allocate(PAGE, exact(0x9000)).unwrap();
    let at = |address| DeviceAddr::new(address);
    let refused = [
        (0, exact(0x2000), AllocateError::ZeroLength),
        (1, anywhere(0), AllocateError::Alignment { align: 0 }),
        (
            1,
            anywhere(0x1800),
            AllocateError::Alignment { align: 0x1800 },
        ),
        (
            1,
            exact(0x2800),
            AllocateError::Unaligned { at: at(0x2800) },
        ),
        (
            1,
            exact(0x1_0000),
            AllocateError::OutsideRegion { at: at(0x1_0000) },
        ),
        (
            0x1001,
            exact(0xF000),
            AllocateError::OutsideRegion { at: at(0xF000) },
        ),
        (
            u64::MAX,
            exact(0xF000),
            AllocateError::OutsideRegion { at: at(0xF000) },
        ),
        (
            1,
            exact(0x1000),
            AllocateError::HintTaken { at: at(0x1000) },
        ),
        (
            0x3000,
            exact(0x2000),
            AllocateError::HintTaken { at: at(0x4000) },
        ),
        (
            0x4000,
            exact(0x6000),
            AllocateError::HintTaken { at: at(0x8000) },
        ),
        (
            0x4000,
            exact(0xA000),
            AllocateError::HintTaken { at: at(0xC000) },
        ),
        (0x4001, anywhere(1), AllocateError::NoSpace),
        (u64::MAX, anywhere(1 << 63), AllocateError::NoSpace),
    ];
    let before = va.state();
    for (bytes, placement, error) in refused {
        assert_eq!(va.allocate(bytes, placement).unwrap_err(), error);
        assert_eq!(va.state(), before, "{error}");
    }
    let foreign = other.allocate(PAGE, exact(0x1000)).unwrap();
    let foreign = va.free(foreign).unwrap_err().into_block();
    assert_eq!(va.state(), before);
    other.free(foreign).unwrap();

    let third = va.allocate(PAGE, exact(0x6000)).unwrap();
    let before = va.state();
    for placement in [anywhere(PAGE), exact(0x2000), exact(0xE000), exact(0xA000)] {
        let error = va.allocate(PAGE, placement).unwrap_err();
        assert_eq!(error, AllocateError::NoNodes);
        assert_eq!(va.state(), before);
    }
    // At the limit every order of returning finds the nodes it needs.
    for block in [second, third, first] {
        va.free(block).unwrap();
        va.audit();
    }
    assert!(va.is_whole());
}

#[test]
fn a_block_that_passes_for_another_allocators_is_refused_where_its_range_is_free() {
    let fixed = [range(0xC000, 0x2000)];
    let layout = VaLayout::new(range(0, 0x1_0000), PAGE).fixed(&fixed);
    let mut va = VaAllocator::new([Node::EMPTY; 8], &layout).unwrap();
    let block = va.allocate(0x4000, exact(0x4000)).unwrap();
    // What 2^32 further allocators do on a machine of 32 bits.
    let identity = va.identity;
    let forged = |start, len| VaBlock {
        range: range(start, len),
        zone: 0,
        owner: identity,
    };
    let before = va.state();
    for (start, len) in [
        (0x2000, 0x1000),
        (0x3000, 0x2000),
        (0x7000, 0x2000),
        (0x0000, 0x1_0000),
        (0x1_0000, 0x1000),
    ] {
        assert!(va.free(forged(start, len)).is_err(), "{start:#x}");
        assert_eq!(va.state(), before);
    }
    va.free(block).unwrap();
    assert!(va.free(forged(0x4000, 0x1000)).is_err());
    assert!(va.free(forged(0xC000, 0x1000)).is_err());
    assert!(va.is_whole());
}
