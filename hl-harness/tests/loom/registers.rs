//! The real drivers of the MMUs, against units that work by themselves.
//!
//! What a driver may believe is the end of the request that it made after the entries were cleared.
//! The end of an earlier one, which it gave up waiting for, looks the same.

use hl_mem::asid::Asid;
use hl_mem::mmu::{Gaudi2DramMmu, Gaudi2HostMmu, GaudiMmu, GoyaMmu, MmuControl};
use mmu_core::{AddrRange, BusAddr, DeviceAddr, MapOptions};

use crate::rig::device::Faulted;
use crate::rig::hold::Hold;
use crate::rig::lock::ModelLock;
use crate::rig::registers::{Flaw, Layout, RegisterFile, TIMEOUTS};
use crate::rig::{Rig, Size};
use crate::{expect_failure, expect_failure_in_large, explore, explore_large};

const PAGE: u64 = 4096;
const ASID: u16 = 1;
const PLACES: [DeviceAddr; 2] = [
    DeviceAddr::new(0x1_0000_0000_0000),
    DeviceAddr::new(0x1_0000_0000_1000),
];
/// In another table of the deepest hop, which is the one of [`PLACES`] once that is free.
const ELSEWHERE: DeviceAddr = DeviceAddr::new(0x1_0000_0020_0000);
/// Keeps the upper tables in use.
const BESIDE: DeviceAddr = DeviceAddr::new(0x1_0000_4000_0000);
const OWNER: u32 = 7;
const NEXT_OWNER: u32 = 8;

const ANOTHERS: &str = "an access went to another's page";

pub(crate) type File = &'static RegisterFile;

pub(crate) fn goya(file: File) -> GoyaMmu<File> {
    GoyaMmu::new(file, TIMEOUTS, BusAddr::new(0))
}

pub(crate) fn gaudi(file: File) -> GaudiMmu<File> {
    GaudiMmu::new(file, TIMEOUTS, BusAddr::new(0))
}

pub(crate) fn gaudi2(file: File) -> Gaudi2HostMmu<File> {
    Gaudi2HostMmu::new(file, TIMEOUTS, BusAddr::new(0))
}

/// The first two of the MMUs for device memory. The tables here have another format than theirs, of
/// which the protocol knows nothing.
pub(crate) fn gaudi2_group(file: File) -> Gaudi2DramMmu<File, 6> {
    Gaudi2DramMmu::new(file, TIMEOUTS, 0b11, BusAddr::new(0)).expect("there are two of them")
}

/// How the first removal goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum First {
    /// Nobody tries to have it confirmed.
    Waits,
    /// So many tries of a driver that does not wait.
    Tried(usize),
    /// It is confirmed by a driver that waits.
    Confirmed,
}

/// A page is unmapped. Then the device accesses another page, which is unmapped, too, and both
/// removals are confirmed by a driver that waits. Somebody else gets the pages and their table.
fn unmap_twice<U: MmuControl + 'static>(
    layout: Layout,
    driver: fn(File) -> U,
    first_goes: First,
    flaw: Option<Flaw>,
) {
    let size = Size {
        tables: 8,
        watched: &[0, 1],
        pages: 3,
        probed: true,
    };
    Hold::run(move |hold| {
        let rig: Rig<ModelLock> = Rig::new(hold, size, None);
        let file = RegisterFile::new(hold, rig.hardware, layout, flaw);
        let mut mmu = driver(file);
        mmu.enable().unwrap();
        let mut table = rig.table(ASID);
        mmu.set_root(Asid::new(ASID).unwrap(), table.root())
            .unwrap();
        let pages = PLACES.map(|at| {
            let page = rig.pages.allocate(OWNER).unwrap();
            let options = MapOptions::default();
            table.map(at, page.run(), &options).unwrap();
            page
        });
        let beside = rig.pages.allocate(OWNER).unwrap();
        let options = MapOptions::default();
        table.map(BESIDE, beside.run(), &options).unwrap();
        file.begin_work(hold);
        let [first, second] = PLACES.map(|at| AddrRange::new(at, PAGE).unwrap());
        let mut waiting = Some(table.unmap(first).unwrap());
        let tries = match first_goes {
            First::Waits => 0,
            First::Tried(tries) => tries,
            First::Confirmed => {
                file.be_patient();
                1
            }
        };
        for _ in 0..tries {
            if let Some(removed) = waiting.take() {
                let refused = removed.confirm(&mut mmu).err();
                waiting = refused.map(|refused| refused.into_removed());
            }
        }
        for mmu in file.mmus() {
            assert_eq!(mmu.access(ASID, PLACES[1]), Ok(OWNER));
        }
        let mut removed = table.unmap(second).unwrap();
        if let Some(first) = waiting {
            removed.absorb(first).unwrap();
        }
        file.be_patient();
        removed.confirm(&mut mmu).unwrap();
        for page in pages {
            rig.pages.free(page);
        }
        let page = rig.pages.allocate(NEXT_OWNER).unwrap();
        table.map(ELSEWHERE, page.run(), &options).unwrap();
        for mmu in file.mmus() {
            for at in PLACES {
                assert_eq!(mmu.access(ASID, at), Err(Faulted), "{ANOTHERS}");
            }
        }
        file.end_work();
    });
}

/// Proves that what a driver confirms is forgotten, though an earlier request came to its end late.
#[test]
fn goya_does_not_take_the_end_of_an_earlier_request() {
    explore(
        "Goya: an invalidation after one that timed out is not confirmed by the end of that one",
        || unmap_twice(Layout::Goya, goya, First::Tried(1), None),
    );
}

/// Proves the same after two requests that timed out.
#[test]
fn goya_does_not_take_the_end_of_an_earlier_request_out_of_two() {
    explore("the same after two that timed out", || {
        unmap_twice(Layout::Goya, goya, First::Tried(2), None);
    });
}

#[test]
fn gaudi_does_not_take_the_end_of_an_earlier_request() {
    explore("Gaudi: the same, with requests by producer index", || {
        unmap_twice(Layout::Gaudi, gaudi, First::Tried(1), None)
    });
}

#[test]
fn gaudi_does_not_take_the_end_of_an_earlier_request_out_of_two() {
    explore("the same after two that timed out", || {
        unmap_twice(Layout::Gaudi, gaudi, First::Tried(2), None);
    });
}

#[test]
fn gaudi2_does_not_take_the_end_of_an_earlier_request() {
    explore(
        "Gaudi2: the same, with two units for a range and one for everything",
        || unmap_twice(Layout::Gaudi2, gaudi2, First::Tried(1), None),
    );
}

/// Proves the same for two ranges one after the other, the status of the first of which is there when
/// the second begins.
#[test]
fn gaudi2_invalidates_one_range_after_the_other() {
    explore("the same for two ranges one after the other", || {
        unmap_twice(Layout::Gaudi2, gaudi2, First::Confirmed, None);
    });
}

/// Proves the same where the units of a range come to their ends in the other order.
#[test]
fn gaudi2_waits_for_both_units_of_a_range_in_the_other_order() {
    explore("the same where the range is the first to end", || {
        unmap_twice(Layout::Gaudi2RangeFirst, gaudi2, First::Waits, None);
    });
}

/// Proves that a range is forgotten, and pointers to tables with it, when the driver says so.
#[test]
fn gaudi2_waits_for_both_units_of_a_range() {
    explore(
        "Gaudi2: an invalidation of a range is confirmed when both its units have ended",
        || unmap_twice(Layout::Gaudi2, gaudi2, First::Waits, None),
    );
}

/// Proves that what is removed is forgotten by every MMU of a group when the driver says so.
#[test]
fn gaudi2_waits_for_every_mmu_of_a_group() {
    explore_large(
        "Gaudi2's MMUs of device memory: an invalidation is confirmed when each of them has ended",
        || unmap_twice(Layout::Gaudi2Group, gaudi2_group, First::Waits, None),
    );
}

/// Proves the same after one that timed out, in any of them.
#[test]
fn a_group_does_not_take_the_end_of_an_earlier_request() {
    explore_large("the same after one that timed out", || {
        unmap_twice(Layout::Gaudi2Group, gaudi2_group, First::Tried(1), None);
    });
}

const EARLIER: &str = "the end of the first request is believed that may be an earlier one's";

#[test]
fn a_driver_of_goya_that_asks_once_is_found() {
    expect_failure(EARLIER, ANOTHERS, || {
        unmap_twice(Layout::Goya, goya, First::Tried(1), Some(Flaw::Believed(1)));
    });
}

#[test]
fn a_driver_of_gaudi_that_asks_once_is_found() {
    expect_failure(EARLIER, ANOTHERS, || {
        unmap_twice(
            Layout::Gaudi,
            gaudi,
            First::Tried(1),
            Some(Flaw::Believed(1)),
        );
    });
}

#[test]
fn a_status_that_is_not_cleared_is_found() {
    expect_failure(
        "the status of the last invalidation is taken for that of the next",
        ANOTHERS,
        || {
            unmap_twice(
                Layout::Gaudi2RangeFirst,
                gaudi2,
                First::Confirmed,
                Some(Flaw::StatusStays),
            )
        },
    );
}

#[test]
fn a_range_that_is_not_waited_for_is_found() {
    expect_failure(
        "the end of the pointers to tables is taken for that of the range",
        ANOTHERS,
        || {
            unmap_twice(
                Layout::Gaudi2,
                gaudi2,
                First::Waits,
                Some(Flaw::RangeUnwatched),
            )
        },
    );
}

#[test]
fn an_mmu_of_a_group_that_is_not_waited_for_is_found() {
    expect_failure_in_large(
        "the driver waits for all MMUs of a group but one",
        ANOTHERS,
        || {
            let flaw = Some(Flaw::LastUnwatched);
            unmap_twice(Layout::Gaudi2Group, gaudi2_group, First::Waits, flaw);
        },
    );
}

#[test]
fn a_driver_of_a_group_that_asks_once_is_found() {
    expect_failure(EARLIER, ANOTHERS, || {
        // The first request to each of them.
        let flaw = Some(Flaw::Believed(2));
        unmap_twice(Layout::Gaudi2Group, gaudi2_group, First::Tried(1), flaw);
    });
}
