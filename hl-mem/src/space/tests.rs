use mmu_core::format::{Gaudi2Pmmu, V1};
use mmu_core::{BusAddr, Region, ReuseOrder, TablePool, TableRecord, Translation, Word};

use super::*;
use crate::host::{DmaAddr, DmaRun};
use crate::port::SpinLock;
use crate::profile::{Asic, Gaudi2, Goya, LargeHost, VaRange};

/// No removal: nothing is unmapped here.
struct NoRemovals;

impl<M> Pending<M> for NoRemovals {
    fn pend(&self, _removed: Removed<M>) -> Batch {
        panic!("nothing is removed")
    }

    fn renewed(&self, _removed: Removed<M>, _resets: u32) {
        panic!("nothing is removed")
    }
}

/// Maps runs in a fresh space of Goya's with these addresses, and tells what came of it, with the first
/// leaf, and how many tables are in use.
fn map_in(
    host: &VaRange,
    len: u64,
    runs: &[(u64, u64)],
) -> (Result<Translation<NoAttributes>, SpaceError>, u32) {
    let words: Vec<[Word; 512]> = (0..16)
        .map(|_| core::array::from_fn(|_| Word::default()))
        .collect();
    let mut records: Vec<TableRecord> = (0..16).map(|_| TableRecord::new()).collect();
    let region = Region::new(&words, BusAddr::new(0x1000_0000)).unwrap();
    let pool: TablePool<'_, _, SpinLock> =
        TablePool::new(region, &mut records, ReuseOrder::LastReleased).unwrap();
    let table = PageTable::<V1, _>::new(&pool).unwrap().unwrap();
    let addresses = Addresses {
        small: VaAllocator::new(vec![Node::EMPTY; 16], &host.layout()).unwrap(),
        large: None,
        dram: None,
        large_leaf: host.large_bytes,
    };
    let mut space: Space<User, _, _, _> = Space::new(table, addresses);
    let runs = runs
        .iter()
        .map(|(start, len)| DmaRun::new(DmaAddr::new(*start), *len).unwrap());
    let mapped = space.map(&NoRemovals, len, runs, &Goya::PROFILE, Wanted::Anywhere);
    let outcome = match mapped {
        Ok(mapped) => {
            assert_eq!(mapped.range().len(), len);
            let first = space.table().query(mapped.range().start()).unwrap();
            // Facts DM-2: the device sees host memory at an offset.
            assert!(first.bus.get() >= Goya::PROFILE.host_offset);
            Ok(first)
        }
        Err(failure) => {
            assert!(failure.detached.is_none() && space.is_idle());
            Err(failure.error)
        }
    };
    (outcome, pool.usage().used())
}

/// The same with the addresses that Goya has.
fn map(len: u64, runs: &[(u64, u64)]) -> (Result<(), SpaceError>, u32) {
    let (outcome, tables) = map_in(&Goya::PROFILE.host, len, runs);
    (outcome.map(drop), tables)
}

#[test]
fn memory_that_the_device_does_not_reach_is_refused_wherever_it_is_in_the_list() {
    // Goya has 48 bits for it (facts 2.2).
    let last = (1 << 48) - 0x1000;
    assert_eq!(map(0x2000, &[(0x5000, 0x1000), (last, 0x1000)]).0, Ok(()));
    for far in [1 << 48, 1 << 63, u64::MAX - 0xFFF] {
        for list in [
            [(far, 0x1000), (0x5000, 0x1000)],
            [(0x5000, 0x1000), (far, 0x1000)],
        ] {
            assert_eq!(map(0x2000, &list), (Err(SpaceError::Runs), 1), "{far:#x}");
        }
    }
    let beyond = [(last, 0x2000)];
    assert_eq!(map(0x2000, &beyond), (Err(SpaceError::Runs), 1));
}

#[test]
fn a_list_that_is_longer_or_shorter_than_the_mapping_is_refused() {
    for list in [
        &[(0x5000, 0x1000)][..],
        &[(0x5000, 0x3000)],
        &[(0x5000, 0x1000), (0x8000, 0x1000), (0xA000, 0x1000)],
        &[],
    ] {
        assert_eq!(map(0x2000, list), (Err(SpaceError::Runs), 1), "{list:x?}");
    }
    // One run where there is one page.
    let longer = map(0x1000, &[(0x5000, 0x2000)]);
    assert_eq!(longer, (Err(SpaceError::Runs), 1));
}

#[test]
fn pages_that_there_are_no_tables_for_are_not_said_to_be_the_wrong_ones() {
    let pages: Vec<_> = (0..16 * 512).map(|page| (page * 0x2000, 0x1000)).collect();
    let (outcome, used) = map(16 * 512 * 0x1000, &pages);
    assert!(matches!(outcome, Err(SpaceError::Tables(_))), "{outcome:?}");
    assert_eq!(used, 1);
}

const PAGE: u64 = 4 << 10;
const LARGE: u64 = 2 << 20;

/// Runs that no large leaf fits in, and runs that are one, for the same three and a half of them.
fn lists() -> [Vec<DmaRun>; 2] {
    let run = |start, len| DmaRun::new(DmaAddr::new(start), len).unwrap();
    let pages = 7 * LARGE / 2 / PAGE;
    let scattered = (0..pages).map(|page| run(0x1_0000_0000 + 2 * page * PAGE, PAGE));
    [scattered.collect(), vec![run(0x2_0000_0000, 7 * LARGE / 2)]]
}

/// Calls `test` with a space of Gaudi2's, whose range for large leaves has `large_nodes` nodes.
fn on_gaudi2(
    large_nodes: usize,
    test: impl FnOnce(&mut dyn FnMut(&[DmaRun], Wanted) -> Result<(u64, Vec<u64>), SpaceError>),
) {
    let words: Vec<[Word; 512]> = (0..64)
        .map(|_| core::array::from_fn(|_| Word::default()))
        .collect();
    let mut records: Vec<TableRecord> = (0..64).map(|_| TableRecord::new()).collect();
    let region = Region::new(&words, BusAddr::new(0x1000_0000)).unwrap();
    let pool: TablePool<'_, _, SpinLock> =
        TablePool::new(region, &mut records, ReuseOrder::LastReleased).unwrap();
    let profile = &Gaudi2::<6>::PROFILE;
    let large = profile.large_host_range();
    let addresses = Addresses {
        small: VaAllocator::new(vec![Node::EMPTY; 16], &profile.host.layout()).unwrap(),
        large: Some(VaAllocator::new(vec![Node::EMPTY; large_nodes], &large.layout()).unwrap()),
        dram: None,
        large_leaf: LARGE,
    };
    let table = PageTable::<Gaudi2Pmmu, _>::new(&pool).unwrap().unwrap();
    let mut space: Space<User, _, _, _> = Space::new(table, addresses);
    test(&mut |runs, wanted| {
        let len = runs.iter().map(|run| run.len()).sum();
        let mapped = space.map(&NoRemovals, len, runs.iter().copied(), profile, wanted);
        let mapped = mapped.map_err(|failure| {
            assert!(failure.detached.is_none());
            failure.error
        })?;
        let range = mapped.range();
        assert_eq!(range.len(), len);
        let mut sizes = Vec::new();
        let mut at = range.start();
        while range.contains(at) {
            let leaf = space.table().query(at).unwrap();
            sizes.push(leaf.leaf.len());
            at = at.checked_add(leaf.leaf.len()).unwrap();
        }
        Ok((range.start().get(), sizes))
    });
}

#[test]
fn an_address_that_is_wanted_is_got_whichever_pages_there_are() {
    let profile = &Gaudi2::<6>::PROFILE;
    let LargeHost::Own(large) = profile.large_host else {
        panic!("Gaudi2 has a range for large leaves");
    };
    let spots = |range: &VaRange| {
        let window = range.reserved[0].start().get();
        [range.range.start().get() + (1 << 30), window]
    };
    for runs in lists() {
        for wanted in [Wanted::Exact as fn(_) -> _, Wanted::Hint] {
            on_gaudi2(16, |map| {
                for spot in spots(&profile.host) {
                    let (at, sizes) = map(&runs, wanted(DeviceAddr::new(spot))).unwrap();
                    assert_eq!(at, spot);
                    assert!(sizes.iter().all(|size| *size == PAGE), "in the small range");
                }
                for spot in spots(&large) {
                    let (at, _) = map(&runs, wanted(DeviceAddr::new(spot))).unwrap();
                    assert_eq!(at, spot);
                }
            });
        }
    }
}

#[test]
fn an_address_that_is_taken_is_refused_or_replaced_by_one_outside_of_the_windows() {
    let profile = &Gaudi2::<6>::PROFILE;
    let window = profile.host.reserved[0];
    for (runs, range) in lists()
        .iter()
        .zip([&profile.host, profile.large_host_range()])
    {
        on_gaudi2(16, |map| {
            let exact = Wanted::Exact(window.start());
            map(runs, exact).unwrap();
            let taken = AllocateError::HintTaken { at: window.start() };
            assert_eq!(map(runs, exact), Err(SpaceError::Addresses(taken)));
            let (at, _) = map(runs, Wanted::Hint(window.start())).unwrap();
            assert!(range.range.contains(DeviceAddr::new(at)));
            assert!(!range.reserved[0].contains(DeviceAddr::new(at)));
        });
    }
}

#[test]
fn large_leaves_without_addresses_of_their_own_make_do_with_small_ones() {
    let profile = &Gaudi2::<6>::PROFILE;
    let (small, large) = (profile.host.range, profile.large_host_range().range);
    let [_, runs] = lists();
    // Two pieces, and one node for a block.
    on_gaudi2(3, |map| {
        let (at, sizes) = map(&runs, Wanted::Anywhere).unwrap();
        assert!(large.contains(DeviceAddr::new(at)));
        assert_eq!(sizes[..3], [LARGE; 3]);
        for wanted in [Wanted::Anywhere, Wanted::Hint(large.start())] {
            let (at, sizes) = map(&runs, wanted).unwrap();
            assert!(small.contains(DeviceAddr::new(at)));
            assert!(sizes.iter().all(|size| *size == PAGE));
        }
        let exact = map(&runs, Wanted::Exact(large.start()));
        assert!(exact.is_err(), "an address that is insisted on");
    });
}

#[test]
fn where_all_leaves_have_one_range_large_ones_without_a_place_make_do_with_small_ones() {
    // Three mebibytes, of which the boundary of a large leaf leaves one on one side.
    let host = &Goya::PROFILE.host;
    let start = host.range.start().checked_add(PAGE).unwrap();
    let little = VaRange {
        range: AddrRange::new(start, 3 << 20).unwrap(),
        fixed: &[],
        reserved: &[],
        ..*host
    };
    let (first, _) = map_in(&little, LARGE, &[(0x2_0000_0000, LARGE)]);
    let leaf = first.unwrap().leaf;
    assert_eq!((leaf.start(), leaf.len()), (start, PAGE));
}

#[test]
fn memory_that_is_as_long_as_a_large_leaf_and_has_none_lies_among_the_small_ones() {
    let profile = &Gaudi2::<6>::PROFILE;
    let run = |start, len| DmaRun::new(DmaAddr::new(start), len).unwrap();
    // One page short of the first large leaf that begins in it.
    let short = run(0x2_0000_0000 + PAGE, 2 * LARGE - 2 * PAGE);
    for runs in [&[short][..], &[short, run(0x4_0000_0000, PAGE)]] {
        on_gaudi2(16, |map| {
            let (at, sizes) = map(runs, Wanted::Anywhere).unwrap();
            assert!(profile.host.range.contains(DeviceAddr::new(at)));
            assert!(sizes.iter().all(|size| *size == PAGE));
        });
    }
    // Where both are there, the longer one has the leaves, whichever comes first.
    let long = run(0x6_0000_0000 + 3 * PAGE, 4 * LARGE);
    for runs in [[short, long], [long, short]] {
        on_gaudi2(16, |map| {
            let (at, sizes) = map(&runs, Wanted::Anywhere).unwrap();
            let large = profile.large_host_range().range;
            assert!(large.contains(DeviceAddr::new(at)));
            assert_eq!(sizes.iter().filter(|size| **size == LARGE).count(), 3);
        });
    }
}

#[test]
fn large_leaves_that_make_do_with_small_ones_leave_no_hole_before_them() {
    let [_, runs] = lists();
    let run = |start, len| DmaRun::new(DmaAddr::new(start), len).unwrap();
    // Where its large leaves begin one page into it.
    let offset = [run(0x3_0000_0000 - PAGE, 7 * LARGE / 2)];
    on_gaudi2(3, |map| {
        map(&runs, Wanted::Anywhere).unwrap();
        let (before, _) = map(&[run(0x5000, PAGE)], Wanted::Anywhere).unwrap();
        let (at, _) = map(&offset, Wanted::Anywhere).unwrap();
        assert_eq!(at, before + PAGE);
    });
}
