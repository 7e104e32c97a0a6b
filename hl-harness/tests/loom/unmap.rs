//! Unmapping, invalidating and releasing while the device accesses.

use mmu_core::{AddrRange, DeviceAddr, MapOptions};

use crate::rig::device::Faulted;
use crate::rig::hold::Hold;
use crate::rig::port::HostTables;
use crate::rig::{ModelTables, RigOf, Size, Weak};
use crate::{expect_failure, explore};

const PAGE: u64 = 4096;
const AT: DeviceAddr = DeviceAddr::new(0x1_0000_0000_0000);
/// In another table of the deepest hop, which is the one of [`AT`] once that is free.
const ELSEWHERE: DeviceAddr = DeviceAddr::new(0x1_0000_0020_0000);
/// Keeps the upper tables in use.
const BESIDE: DeviceAddr = DeviceAddr::new(0x1_0000_4000_0000);
const ASID: u16 = 1;
const OWNER: u32 = 7;
const NEXT_OWNER: u32 = 8;
const BESIDE_OWNER: u32 = 9;

const FREE_PAGE: &str = "an access went to a free page";
pub(crate) const ANOTHERS: &str = "an access went to another's page";

/// What the host does wrong, as against the device.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Right,
    /// The page goes before the invalidation is confirmed.
    PageFirst,
}

/// A page is unmapped, its removal confirmed and the page freed; then another owner gets the page
/// and the table. Meanwhile the device accesses the address of the first.
pub(crate) fn unmap_while_accessed_in<M: ModelTables>(order: Order, weak: Option<Weak>) {
    let size = Size {
        tables: 8,
        watched: &[0, 1],
        pages: 2,
        probed: true,
    };
    Hold::run(move |hold| {
        let rig: RigOf<M> = RigOf::new(hold, size, weak);
        let mut table = rig.table(ASID);
        let options = MapOptions::default();
        let beside = rig.pages.allocate(BESIDE_OWNER).unwrap();
        table.map(BESIDE, beside.run(), &options).unwrap();
        let before = rig.pool.usage();
        let page = rig.pages.allocate(OWNER).unwrap();
        table.map(AT, page.run(), &options).unwrap();
        rig.begin_posting(hold);
        hold.spawn(move || {
            let mut gone = false;
            // A bus is a thread more, and a model of three with two accesses too long.
            for _ in 0..if rig.pool.bridge().is_some() { 1 } else { 2 } {
                match rig.hardware.access(ASID, AT) {
                    Ok(owner) => {
                        assert_eq!(owner, OWNER, "{ANOTHERS}");
                        assert!(!gone, "what was unmapped is there again");
                    }
                    Err(Faulted) => gone = true,
                }
            }
        });
        let removed = table.unmap(AddrRange::new(AT, PAGE).unwrap()).unwrap();
        assert_eq!(removed.tables(), 2);
        let confirm = || removed.confirm(&mut rig.mmu()).unwrap();
        if order == Order::PageFirst {
            rig.pages.free(page);
            confirm();
        } else {
            confirm();
            rig.pages.free(page);
        }
        assert_eq!(rig.pool.usage(), before);
        let page = rig.pages.allocate(NEXT_OWNER).unwrap();
        table.map(ELSEWHERE, page.run(), &options).unwrap();
        assert_eq!(rig.hardware.access(ASID, AT), Err(Faulted), "{ANOTHERS}");
        assert_eq!(rig.hardware.access(ASID, ELSEWHERE), Ok(NEXT_OWNER));
        rig.end_posting();
    });
}

/// The same with tables in host memory.
fn unmap_while_accessed(order: Order, weak: Option<Weak>) {
    unmap_while_accessed_in::<HostTables>(order, weak);
}

/// Proves that a device that accesses an address all the time reaches its page or faults; once the
/// removal is confirmed it faults for good, and touches neither the page nor a table that is free or
/// another's by then.
#[test]
fn what_is_released_is_out_of_the_devices_reach() {
    explore(
        "no access or walk touches a page or table once its removal is confirmed",
        || unmap_while_accessed(Order::Right, None),
    );
}

#[test]
fn a_page_that_is_freed_before_the_invalidation_is_found() {
    expect_failure(
        "the page is freed before the removal is confirmed",
        FREE_PAGE,
        || unmap_while_accessed(Order::PageFirst, None),
    );
}

#[test]
fn an_invalidation_that_forgets_nothing_is_found() {
    expect_failure(
        "the invalidation reports success and keeps the translation",
        ANOTHERS,
        || unmap_while_accessed(Order::Right, Some(Weak::ForgetsNothing)),
    );
}

#[test]
fn an_invalidation_that_does_not_wait_for_accesses_under_way_is_found() {
    expect_failure(
        "the invalidation does not wait for accesses under way",
        crate::RACE,
        || unmap_while_accessed(Order::Right, Some(Weak::DoesNotWait)),
    );
}

/// The table of the old address is the one of another address by then.
#[test]
fn an_invalidation_that_keeps_pointers_to_tables_is_found() {
    expect_failure(
        "the invalidation keeps the pointer to an unlinked table",
        ANOTHERS,
        || unmap_while_accessed(Order::Right, Some(Weak::KeepsTables)),
    );
}
