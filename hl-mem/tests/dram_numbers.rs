//! What the pool of device memory says about packs and about owners.

use hl_mem::Owner;
use hl_mem::dram::{
    Contiguity, DramContent, DramPool, DramRegion, PackRecord, PageRecord, Sharing,
};
use mmu_core::BusAddr;

const PAGE: u64 = 0x10_0000;

#[test]
fn an_owner_has_as_many_packs_and_pages_as_were_allocated_for_him() {
    let mut pages = [PageRecord::EMPTY; 16];
    let mut packs = [PackRecord::EMPTY; 4];
    let region = DramRegion::new(BusAddr::new(0), PAGE, 16).unwrap();
    let mut pool = DramPool::new(region, &mut pages, &mut packs, DramContent::Scrubbed).unwrap();
    let (alice, bob) = (Owner::new(1), Owner::new(2));
    for (owner, pages) in [(alice, 2), (bob, 3), (alice, 5)] {
        pool.allocate(owner, pages * PAGE, Contiguity::Scattered, Sharing::Private)
            .unwrap();
    }
    let of = |owner| {
        let usage = pool.usage_of(owner);
        (usage.packs, usage.pages, usage.bytes)
    };
    assert_eq!(of(alice), (2, 7, 7 * PAGE));
    assert_eq!(of(bob), (1, 3, 3 * PAGE));
    assert_eq!(of(Owner::new(3)), (0, 0, 0));
}

#[test]
fn runs_tell_how_many_bytes_are_still_to_come() {
    let mut pages = [PageRecord::EMPTY; 8];
    let mut packs = [PackRecord::EMPTY; 8];
    let region = DramRegion::new(BusAddr::new(0), PAGE, 8).unwrap();
    let mut pool = DramPool::new(region, &mut pages, &mut packs, DramContent::Scrubbed).unwrap();
    let owner = Owner::new(1);
    let mut allocate = |pages| {
        pool.allocate(owner, pages * PAGE, Contiguity::Scattered, Sharing::Private)
            .unwrap()
    };
    let [_, hole, _, rest] = [1, 1, 1, 5].map(&mut allocate);
    pool.free(hole, owner).unwrap();
    pool.free(rest, owner).unwrap();
    let pack = pool
        .allocate(owner, 3 * PAGE, Contiguity::Scattered, Sharing::Private)
        .unwrap();
    let hold = pool.hold(pack, owner).unwrap();
    let mut runs = pool.runs(&hold).unwrap();
    let mut left = Vec::new();
    loop {
        left.push(runs.bytes());
        if runs.next().is_none() {
            break;
        }
    }
    assert_eq!(left, [3 * PAGE, 2 * PAGE, 0]);
    pool.release(hold).unwrap();
}
