//! An ASID gets another root while walks from the former one are under way: the real drivers of the
//! MMUs, against units that take over a root when they come to it.
//!
//! The MMU finds what it remembers by the ASID. So what it found below the former root is served
//! under the next one, until an invalidation of it has ended.

use hl_mem::asid::Asid;
use hl_mem::mmu::MmuControl;
use mmu_core::{DeviceAddr, MapOptions};

use crate::registers::{File, gaudi, gaudi2, goya};
use crate::rig::device::Faulted;
use crate::rig::hold::Hold;
use crate::rig::lock::ModelLock;
use crate::rig::pages::{OwnedPage, Owner};
use crate::rig::registers::{Flaw, Layout, RegisterFile};
use crate::rig::{Rig, Size, Table};
use crate::{expect_failure_in_large, explore_large};

const ASID: u16 = 1;
const AT: DeviceAddr = DeviceAddr::new(0x1_0000_0000_0000);
const OWNER: Owner = 7;
const NEXT_OWNER: Owner = 8;

const ANOTHERS: &str = "an access went to another's page";

/// How the next page table comes to the ASID.
#[derive(Clone, Copy, PartialEq, Eq)]
enum TakeOver {
    /// The ASID is parked, the former table is taken apart, and the next one gets its memory.
    Parked,
    /// The same, after a first try to park that nobody waited for.
    ParkedAtSecondTry,
    /// The next table takes the place of the former one, which is taken apart then.
    Direct,
}

/// A page table with a page of its owner at [`AT`], which no ASID has.
fn space(rig: &Rig<ModelLock>, owner: Owner) -> (Table<ModelLock>, OwnedPage) {
    let mut table = rig.spare_table();
    let page = rig.pages.allocate(owner).unwrap();
    table.map(AT, page.run(), &MapOptions::default()).unwrap();
    (table, page)
}

/// An ASID goes from one page table to the next, and the former's page to somebody else, while the
/// device accesses an address that both map.
fn take_over<U: MmuControl + 'static>(
    layout: Layout,
    driver: fn(File) -> U,
    way: TakeOver,
    flaw: Option<Flaw>,
) {
    let size = Size {
        // Taken apart before the next one is made, or not.
        tables: if way == TakeOver::Direct { 10 } else { 5 },
        watched: &[0, 1],
        pages: 2,
        probed: true,
    };
    Hold::run(move |hold| {
        let rig: Rig<ModelLock> = Rig::new(hold, size, None);
        let file = RegisterFile::new(hold, rig.hardware, layout, flaw);
        let asid = Asid::new(ASID).unwrap();
        let mut mmu = driver(file);
        mmu.enable().unwrap();
        let (former, page) = space(&rig, OWNER);
        mmu.set_root(asid, former.root()).unwrap();
        file.begin_work(hold);
        let last = file.mmus().next_back().unwrap();
        hold.spawn(move || {
            let mut seen = OWNER;
            for _ in 0..2 {
                if let Ok(owner) = last.access(ASID, AT) {
                    assert!(owner >= seen, "{ANOTHERS}");
                    seen = owner;
                }
            }
        });
        if way == TakeOver::ParkedAtSecondTry {
            let _ = mmu.park(asid);
        }
        file.be_patient();
        let next = if way == TakeOver::Direct {
            let (next, _) = space(&rig, NEXT_OWNER);
            mmu.set_root(asid, next.root()).unwrap();
            Some(next)
        } else {
            mmu.park(asid).unwrap();
            None
        };
        former.close().confirm(&mut mmu).unwrap();
        rig.pages.free(page);
        if next.is_none() {
            for mmu in file.mmus() {
                assert_eq!(mmu.access(ASID, AT), Err(Faulted), "{ANOTHERS}");
            }
            let (next, _) = space(&rig, NEXT_OWNER);
            mmu.set_root(asid, next.root()).unwrap();
        }
        for mmu in file.mmus() {
            assert_eq!(mmu.access(ASID, AT), Ok(NEXT_OWNER), "{ANOTHERS}");
        }
        file.end_work();
    });
}

#[test]
fn goya_hands_an_asid_on() {
    explore_large(
        "Goya: an ASID is parked and handed on under walks: none begins at a root given up",
        || take_over(Layout::Goya, goya, TakeOver::Parked, None),
    );
}

#[test]
fn gaudi_hands_an_asid_on() {
    explore_large("Gaudi: the same", || {
        take_over(Layout::Gaudi, gaudi, TakeOver::Parked, None);
    });
}

#[test]
fn gaudi2_hands_an_asid_on() {
    explore_large("Gaudi2: the same", || {
        take_over(Layout::Gaudi2, gaudi2, TakeOver::Parked, None);
    });
}

#[test]
fn gaudi2_hands_an_asid_on_at_the_second_try() {
    explore_large("the same after a try to park that timed out", || {
        take_over(Layout::Gaudi2, gaudi2, TakeOver::ParkedAtSecondTry, None);
    });
}

#[test]
fn gaudi2_replaces_a_root() {
    explore_large(
        "Gaudi2: the next root comes straight after the former, which is then taken apart",
        || take_over(Layout::Gaudi2, gaudi2, TakeOver::Direct, None),
    );
}

#[test]
fn a_root_that_is_not_waited_for_is_found_when_an_asid_is_parked() {
    expect_failure_in_large(
        "the driver does not wait until the parking table was taken over",
        ANOTHERS,
        || {
            let flaw = Some(Flaw::RootUnwatched);
            take_over(Layout::Gaudi2, gaudi2, TakeOver::Parked, flaw);
        },
    );
}

#[test]
fn a_root_that_is_not_waited_for_is_found_when_it_is_replaced() {
    expect_failure_in_large(
        "the driver does not wait until the next root was taken over",
        ANOTHERS,
        || {
            let flaw = Some(Flaw::RootUnwatched);
            take_over(Layout::Gaudi2, gaudi2, TakeOver::Direct, flaw);
        },
    );
}

#[test]
fn a_root_that_is_believed_at_the_end_of_an_earlier_try_is_found() {
    expect_failure_in_large(
        "the end of the first try to park is taken for that of the second",
        ANOTHERS,
        || {
            let flaw = Some(Flaw::Believed(1));
            take_over(Layout::Gaudi2, gaudi2, TakeOver::ParkedAtSecondTry, flaw);
        },
    );
}
