use mmu_core::format::V1;
use mmu_core::{BusAddr, Region, ReuseOrder, TablePool, TableRecord, Word};

use super::*;
use crate::host::DmaAddr;
use crate::port::SpinLock;
use crate::profile::{Asic, Goya};

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

/// Maps runs in a fresh space of Goya's, and tells what came of it and how many tables are in use.
fn map(len: u64, runs: &[(u64, u64)]) -> (Result<(), SpaceError>, u32) {
    let words: Vec<[Word; 512]> = (0..16)
        .map(|_| core::array::from_fn(|_| Word::default()))
        .collect();
    let mut records: Vec<TableRecord> = (0..16).map(|_| TableRecord::new()).collect();
    let region = Region::new(&words, BusAddr::new(0x1000_0000)).unwrap();
    let pool: TablePool<'_, _, SpinLock> =
        TablePool::new(region, &mut records, ReuseOrder::LastReleased).unwrap();
    let table = PageTable::<V1, _>::new(&pool).unwrap().unwrap();
    let nodes = vec![Node::EMPTY; 16];
    let addresses = Addresses {
        small: VaAllocator::new(nodes, &Goya::PROFILE.host.layout()).unwrap(),
        large: None,
        dram: None,
        large_leaf: Goya::PROFILE.host.large_bytes,
    };
    let mut space: Space<User, _, _, _> = Space::new(table, addresses);
    let runs = runs
        .iter()
        .map(|(start, len)| DmaRun::new(DmaAddr::new(*start), *len).unwrap());
    let mapped = space.map(&NoRemovals, len, runs, &Goya::PROFILE, Wanted::Anywhere);
    let outcome = match mapped {
        Ok(mapped) => {
            let first = space.table().query(mapped.range().start()).unwrap();
            // Facts DM-2: the device sees host memory at an offset.
            assert!(first.bus.get() >= Goya::PROFILE.host_offset);
            Ok(())
        }
        Err(failure) => {
            assert!(failure.detached.is_none() && space.is_idle());
            Err(failure.error)
        }
    };
    (outcome, pool.usage().used())
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
}
