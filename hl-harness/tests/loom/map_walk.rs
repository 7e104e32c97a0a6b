//! Mapping while the device walks.

use mmu_core::{AddrRange, DeviceAddr, MapOptions, Run};

use crate::rig::device::Faulted;
use crate::rig::hold::Hold;
use crate::rig::lock::ModelLock;
use crate::rig::port::HostTables;
use crate::rig::{ModelTables, Rig, RigOf, Size, Weak};
use crate::{RACE, expect_failure, explore};

const AT: DeviceAddr = DeviceAddr::new(0x1_0000_0000_0000);
const PAGE: u64 = 4096;
const LARGE_PAGE: u64 = 2 << 20;
const ASID: u16 = 1;
const OWNER: u32 = 7;
const OTHER: u32 = 8;

/// What is mapped already, and so which tables are there.
#[derive(Clone, Copy)]
pub(crate) enum Before {
    Nothing,
    /// A page that shares all tables but the last.
    InNextTable,
    /// A page that shares all tables.
    InSameTable,
}

impl Before {
    fn place(self) -> Option<DeviceAddr> {
        match self {
            Self::Nothing => None,
            Self::InNextTable => AT.checked_add(LARGE_PAGE),
            Self::InSameTable => AT.checked_add(PAGE),
        }
    }
}

/// Which of the ways into a page table is taken.
#[derive(Clone, Copy)]
pub(crate) enum Way {
    Run,
    List,
    Pages,
}

fn size(probed: bool) -> Size {
    Size {
        tables: 6,
        watched: &[0, 1],
        pages: 2,
        probed,
    }
}

/// The device accesses the page at [`AT`] so many times, which once it is there has to stay.
fn access<M: ModelTables>(hold: &Hold, rig: RigOf<M>, times: usize) {
    hold.spawn(move || {
        let mut found = false;
        for _ in 0..times {
            match rig.hardware.access(ASID, AT) {
                Ok(owner) => {
                    assert_eq!(owner, OWNER);
                    found = true;
                }
                Err(Faulted) => assert!(!found, "what was mapped is gone"),
            }
        }
    });
}

/// A page is mapped while the device accesses it.
pub(crate) fn map_while_accessed_in<M: ModelTables>(
    before: Before,
    way: Way,
    probed: bool,
    weak: Option<Weak>,
) {
    Hold::run(move |hold| {
        let rig: RigOf<M> = RigOf::new(hold, size(probed), weak);
        let mut table = rig.table(ASID);
        let options = MapOptions::default();
        if let Some(place) = before.place() {
            let page = rig.pages.allocate(OTHER).unwrap();
            table.map(place, page.run(), &options).unwrap();
        }
        rig.begin_posting(hold);
        // A bus is a thread more, and a model of three with two accesses too long.
        access(hold, rig, if rig.pool.bridge().is_some() { 1 } else { 2 });
        let run = rig.pages.allocate(OWNER).unwrap().run();
        let range = AddrRange::new(AT, PAGE).unwrap();
        match way {
            Way::Run => table.map(AT, run, &options),
            Way::List => table.map_list(range, [run], &options),
            Way::Pages => table.map_pages(range, &[run.start()], &options),
        }
        .unwrap();
        assert_eq!(rig.hardware.access(ASID, AT), Ok(OWNER), "{NOT_FOUND}");
        rig.end_posting();
    });
}

pub(crate) const NOT_FOUND: &str = "the device does not find what is mapped";

/// The same with tables in host memory.
fn map_while_accessed(before: Before, way: Way, probed: bool, weak: Option<Weak>) {
    map_while_accessed_in::<HostTables>(before, way, probed, weak);
}

/// Proves that a device that walks while a page is mapped faults or reaches that page, whose zeros
/// it then sees, and nothing else; and that it reaches it once it was mapped.
#[test]
fn a_walk_finds_nothing_or_the_whole_path() {
    explore(
        "a walk during a map faults or reaches the page, zeroed; a walk after it reaches it",
        || map_while_accessed(Before::Nothing, Way::Run, true, None),
    );
}

/// Proves the same where the last table is the only one missing, for which there is a way of its own.
#[test]
fn a_walk_finds_nothing_or_the_whole_path_where_one_table_is_missing() {
    explore("the same where one table is missing", || {
        map_while_accessed(Before::InNextTable, Way::Run, true, None);
    });
}

/// Proves the same where one entry of a table that is in use already is all that is written.
#[test]
fn a_walk_finds_nothing_or_the_whole_path_in_a_table_in_use() {
    explore(
        "the same for one more leaf in a table that the device uses already",
        || map_while_accessed(Before::InSameTable, Way::Run, true, None),
    );
}

/// Proves the same for a list of runs.
#[test]
fn a_walk_finds_nothing_or_the_whole_path_of_a_list() {
    explore("the same for a list of runs", || {
        map_while_accessed(Before::Nothing, Way::List, true, None);
    });
}

/// Proves the same for a list of pages, which are mapped before they are all checked.
#[test]
fn a_walk_finds_nothing_or_the_whole_path_of_pages() {
    explore("the same for a list of pages", || {
        map_while_accessed(Before::Nothing, Way::Pages, true, None);
    });
}

const UNORDERED: Option<Weak> = Some(Weak::Unordered);
const NO_FENCE: &str = "tables are linked without a fence";
pub(crate) const NOBODY: &str = "which nobody mapped";

/// Without the order between filling a table and linking it the device walks what was there before.
#[test]
fn a_table_that_is_linked_before_it_is_filled_is_found_by_value() {
    expect_failure(NO_FENCE, NOBODY, || {
        map_while_accessed(Before::Nothing, Way::Run, false, UNORDERED);
    });
}

/// The same as a race: the walk of a table is not ordered after its zeroing.
#[test]
fn a_table_that_is_linked_before_it_is_filled_is_found_as_a_race() {
    expect_failure(NO_FENCE, RACE, || {
        map_while_accessed(Before::Nothing, Way::Run, true, UNORDERED);
    });
}

#[test]
fn one_table_that_is_linked_before_it_is_filled_is_found() {
    expect_failure(NO_FENCE, NOBODY, || {
        map_while_accessed(Before::InNextTable, Way::Run, false, UNORDERED);
    });
}

#[test]
fn a_table_of_a_list_that_is_linked_before_it_is_filled_is_found() {
    expect_failure(NO_FENCE, NOBODY, || {
        map_while_accessed(Before::Nothing, Way::List, false, UNORDERED);
    });
}

#[test]
fn a_table_of_pages_that_is_linked_before_it_is_filled_is_found() {
    expect_failure(NO_FENCE, NOBODY, || {
        map_while_accessed(Before::Nothing, Way::Pages, false, UNORDERED);
    });
}

/// Where all tables are there already a leaf is written and nothing is ordered before it: that the
/// page's zeros come first is for the host to see to. Where it does not, the device may read what
/// the last owner left.
#[test]
fn a_leaf_that_is_written_before_its_page_is_zeroed_is_found_as_a_race() {
    expect_failure("the host does not order the zeros of a page", RACE, || {
        let weak = Some(Weak::ZeroesLate);
        map_while_accessed(Before::InSameTable, Way::Run, true, weak);
    });
}

/// A large leaf is split while the device accesses a page of it.
fn split_while_accessed(weak: Option<Weak>) {
    Hold::run(move |hold| {
        let rig: Rig<ModelLock> = Rig::new(hold, size(false), weak);
        let mut table = rig.table(ASID);
        // The first of the pages that the leaf maps; nobody accesses the others.
        let page = rig.pages.allocate(OWNER).unwrap().run();
        let run = Run::new(page.start(), LARGE_PAGE).unwrap();
        table.map(AT, run, &MapOptions::default()).unwrap();
        hold.spawn(move || {
            for _ in 0..2 {
                assert_eq!(rig.hardware.access(ASID, AT), Ok(OWNER), "{LOST}");
            }
        });
        let removed = table.split(AT).unwrap();
        removed.confirm(&mut rig.mmu()).unwrap();
        assert_eq!(rig.hardware.access(ASID, AT), Ok(OWNER), "{LOST}");
    });
}

const LOST: &str = "a page of the split leaf is lost";

/// Proves that a device reaches every page of a large leaf while that is split into small ones.
#[test]
fn a_walk_finds_every_page_of_a_leaf_that_is_split() {
    explore(
        "a page of a large leaf is reached before, during and after the leaf is split",
        || split_while_accessed(None),
    );
}

#[test]
fn a_leaf_that_is_replaced_by_an_unfilled_table_is_found() {
    expect_failure("the new table is linked without a fence", NOBODY, || {
        split_while_accessed(UNORDERED);
    });
}
