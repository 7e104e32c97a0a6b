//! Mapping while the device walks.

use loom::thread;
use mmu_core::{DeviceAddr, MapOptions};

use crate::rig::device::Faulted;
use crate::rig::hold::Hold;
use crate::rig::lock::ModelLock;
use crate::rig::{Rig, Size, Weak};
use crate::{expect_failure, explore};

/// The index of the root's second entry, and of the first of every other table.
const AT: DeviceAddr = DeviceAddr::new(0x1_0000_0000_0000);
const NEIGHBOUR: DeviceAddr = DeviceAddr::new(0x1_0000_0000_1000);
const ASID: u16 = 1;
const OWNER: u32 = 7;
const OTHER: u32 = 8;

/// A page is mapped while the device accesses it twice, in an empty page table or beside a page
/// whose tables it shares.
fn map_while_accessed(beside: bool, probed: bool, weak: Option<Weak>) {
    let size = Size {
        tables: 5,
        watched: &[0, 1],
        pages: 2,
        probed,
    };
    Hold::run(|hold| {
        let rig: Rig<ModelLock> = Rig::new(hold, size, weak);
        let mut table = rig.table(ASID);
        let options = MapOptions::default();
        if beside {
            let page = rig.pages.allocate(OTHER).unwrap();
            table.map(NEIGHBOUR, page.run(), &options).unwrap();
        }
        hold.spawn(move || {
            let mut found = false;
            for _ in 0..2 {
                match rig.hardware.access(ASID, AT) {
                    Ok(owner) => assert_eq!(owner, OWNER),
                    Err(Faulted) => assert!(!found, "what was mapped is gone"),
                }
                found = rig.hardware.access(ASID, AT).is_ok();
                thread::yield_now();
            }
        });
        let page = rig.pages.allocate(OWNER).unwrap();
        table.map(AT, page.run(), &options).unwrap();
        assert_eq!(rig.hardware.access(ASID, AT), Ok(OWNER));
    });
}

/// Proves that a device that walks while a page is mapped faults or reaches that page, whose zeros
/// it then sees, and nothing else; and that it reaches it once it was mapped.
#[test]
fn a_walk_finds_nothing_or_the_whole_path() {
    explore(
        "a walk during a map faults or reaches the page, zeroed; a walk after it reaches it",
        || map_while_accessed(false, true, None),
    );
}

/// Proves the same where one entry of a table that is in use already is all that is written.
#[test]
fn a_walk_finds_nothing_or_the_whole_path_in_a_table_in_use() {
    explore(
        "the same for one more leaf in a table that the device uses already",
        || map_while_accessed(true, true, None),
    );
}

/// Without the order between filling a table and linking it the device walks what was there before.
#[test]
fn a_table_that_is_linked_before_it_is_filled_is_found_by_value() {
    expect_failure(
        "tables are linked without a fence",
        "which nobody mapped",
        || map_while_accessed(false, false, Some(Weak::Unordered)),
    );
}

/// The same as a race: the walk of a table is not ordered after its zeroing.
#[test]
fn a_table_that_is_linked_before_it_is_filled_is_found_as_a_race() {
    expect_failure("tables are linked without a fence", crate::RACE, || {
        map_while_accessed(false, true, Some(Weak::Unordered))
    });
}

/// Where all tables are there already a leaf is written and nothing is ordered before it: that the
/// page's zeros come first is for the host to see to. Where it does not, the device may read what
/// the last owner left.
#[test]
fn a_leaf_that_is_written_before_its_page_is_zeroed_is_found_as_a_race() {
    expect_failure(
        "the host does not order the zeros of a page",
        crate::RACE,
        || map_while_accessed(true, true, Some(Weak::ZeroesLate)),
    );
}
