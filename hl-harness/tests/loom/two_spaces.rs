//! Two address spaces and one pool of tables.

use mmu_core::{AddrRange, DeviceAddr, MapError, MapOptions};

use crate::rig::device::Faulted;
use crate::rig::hold::Hold;
use crate::rig::lock::UnorderedLock;
use crate::rig::pages::Owner;
use crate::rig::port::HostTables;
use crate::rig::{ModelTables, Pool, RigOf, Size, TableIn, Weak};
use crate::{expect_failure, explore};

const PAGE: u64 = 4096;
const AT: DeviceAddr = DeviceAddr::new(0x1_0000_0000_0000);

const MIXED: &str = "the spaces are mixed up";

/// Maps a page, accesses it, and unmaps it, all in a space of one's own. Returns whether there were
/// tables for it.
fn round<M: ModelTables>(rig: &RigOf<M>, table: &mut TableIn<M>, asid: u16) -> bool {
    let owner = Owner::from(asid);
    let page = rig.pages.allocate(owner).unwrap();
    let mapped = table.map(AT, page.run(), &MapOptions::default());
    match mapped {
        Ok(()) => {}
        Err(MapError::NoTableMemory { .. }) => {
            rig.pages.free(page);
            return false;
        }
        Err(error) => panic!("{MIXED}: {error}"),
    }
    assert_eq!(rig.hardware.access(asid, AT), Ok(owner), "{MIXED}");
    let removed = table.unmap(AddrRange::new(AT, PAGE).unwrap());
    let removed = removed.unwrap_or_else(|error| panic!("{MIXED}: {error}"));
    removed.confirm(&mut rig.mmu()).unwrap();
    rig.pages.free(page);
    assert_eq!(rig.hardware.access(asid, AT), Err(Faulted), "{MIXED}");
    true
}

/// Two threads, each with a space of its own, take tables from one pool and give them back, twice.
/// There are tables for `paths` mappings at a time.
pub(crate) fn two_threads<M: ModelTables>(paths: usize, weak: Option<Weak>) {
    let size = Size {
        tables: 2 + 4 * paths,
        watched: &[0, 1],
        pages: 2,
        probed: true,
    };
    Hold::run(move |hold| {
        let rig: RigOf<M> = RigOf::new(hold, size, weak);
        let [mut one, mut other] = [rig.table(1), rig.table(2)];
        let before = rig.pool.usage();
        hold.spawn(move || {
            let done = round(&rig, &mut one, 1);
            assert!(done || paths < 2, "{MIXED}");
        });
        for _ in 0..2 {
            let done = round(&rig, &mut other, 2);
            assert!(done || paths < 2, "{MIXED}");
        }
        hold.join();
        assert_eq!(rig.pool.usage(), before, "{MIXED}");
    });
}

/// Proves that two spaces that are changed at the same time, each without the other's lock, share
/// nothing but the pool: no table is in both, and all of them come back.
#[test]
fn two_spaces_share_tables_one_after_the_other_only() {
    explore(
        "two spaces take tables from one pool and return them: none is in both, none is lost",
        || two_threads::<HostTables>(2, None),
    );
}

/// Proves that where there are tables for one of them a map is refused as a whole or made as a
/// whole.
#[test]
fn two_spaces_and_tables_for_one() {
    explore(
        "the same with tables for one of them: a map takes all that it needs or none",
        || two_threads::<HostTables>(1, None),
    );
}

/// The links of the free list, and which tables are zeroed, are as old as the lock lets them be.
#[test]
fn a_lock_of_the_pool_that_orders_nothing_is_found() {
    expect_failure(
        "the lock of the pool excludes, and orders nothing",
        MIXED,
        || two_threads::<&'static Pool<UnorderedLock>>(1, None),
    );
}

/// A table that goes from one space to the other is still the old space's to the device.
#[test]
fn an_invalidation_that_forgets_nothing_is_found() {
    expect_failure(
        "an invalidation reports success and keeps translations",
        "an access went to a free page",
        || two_threads::<HostTables>(2, Some(Weak::ForgetsNothing)),
    );
}
