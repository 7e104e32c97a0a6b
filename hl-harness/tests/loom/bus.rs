//! Tables in device memory, behind a bus that posts what is written.
//!
//! The models of host memory once more, over the real [`DeviceTablePool`](mmu_core::DeviceTablePool),
//! with one thread more: by it everything written arrives, call after call and the entries of one
//! call in no order, at any time up to the end of the flush that waits for it.

use crate::map_walk::{Before, NOBODY, NOT_FOUND, Way, map_while_accessed_in};
use crate::rig::BusPool;
use crate::rig::Weak;
use crate::rig::lock::UnorderedLock;
use crate::rig::port::BusTables;
use crate::two_spaces::two_threads;
use crate::unmap::{ANOTHERS, Order, unmap_while_accessed_in};
use crate::{expect_failure_in_large, explore_large};

fn map(before: Before, way: Way, weak: Option<Weak>) {
    map_while_accessed_in::<BusTables>(before, way, false, weak);
}

/// Proves that a device that walks while a path is filled, linked and flushed over the bus finds
/// nothing or the page, whatever part of it has arrived; and the page from when the map returned.
#[test]
fn a_walk_finds_nothing_or_the_whole_path() {
    explore_large(
        "a walk finds nothing or the page, whatever has arrived of a map; after its flush the page",
        || map(Before::Nothing, Way::Run, None),
    );
}

/// Proves the same where the last table is the only one missing.
#[test]
fn a_walk_finds_nothing_or_the_whole_path_where_one_table_is_missing() {
    explore_large("the same where one table is missing", || {
        map(Before::InNextTable, Way::Run, None);
    });
}

/// Proves the same for one more leaf in a table that the device uses already.
#[test]
fn a_walk_finds_nothing_or_the_whole_path_in_a_table_in_use() {
    explore_large(
        "the same for one more leaf in a table that the device uses already",
        || map(Before::InSameTable, Way::Run, None),
    );
}

/// Proves the same for a list of pages.
#[test]
fn a_walk_finds_nothing_or_the_whole_path_of_pages() {
    explore_large("the same for a list of pages", || {
        map(Before::Nothing, Way::Pages, None);
    });
}

const UNORDERED: &str = "writes of different calls arrive in any order";

#[test]
fn a_bus_that_orders_nothing_is_found_when_a_path_is_mapped() {
    expect_failure_in_large(UNORDERED, NOBODY, || {
        map(Before::Nothing, Way::Run, Some(Weak::Unordered));
    });
}

#[test]
fn a_bus_that_orders_nothing_is_found_when_one_table_is_missing() {
    expect_failure_in_large(UNORDERED, NOBODY, || {
        map(Before::InNextTable, Way::Run, Some(Weak::Unordered));
    });
}

#[test]
fn a_flush_that_does_not_wait_is_found_when_a_page_is_mapped() {
    expect_failure_in_large(
        "a map returns while its writes are on their way",
        NOT_FOUND,
        || map(Before::InSameTable, Way::Run, Some(Weak::FlushesEarly)),
    );
}

/// Proves that no access or walk touches a page or a table once its removal is confirmed: the zeros
/// have arrived before the device is told to forget.
#[test]
fn what_is_released_is_out_of_the_devices_reach() {
    explore_large(
        "no access or walk touches a page or table once its removal is flushed and confirmed",
        || unmap_while_accessed_in::<BusTables>(Order::Right, None),
    );
}

#[test]
fn a_flush_that_does_not_wait_is_found_when_a_page_is_unmapped() {
    expect_failure_in_large(
        "the device forgets while the zeros are on their way, and walks the old entries again",
        ANOTHERS,
        || unmap_while_accessed_in::<BusTables>(Order::Right, Some(Weak::FlushesEarly)),
    );
}

/// Proves that two spaces that are changed at the same time share nothing but the pool, which has
/// the records of what is in the tables, too.
#[test]
fn two_spaces_share_tables_one_after_the_other_only() {
    explore_large(
        "two spaces take tables and records from one pool and return them: none is in both",
        || two_threads::<BusTables>(1, None),
    );
}

#[test]
fn a_lock_of_the_pool_that_orders_nothing_is_found() {
    expect_failure_in_large(
        "the lock of the pool excludes, and orders nothing",
        "which nobody mapped",
        || two_threads::<&'static BusPool<UnorderedLock>>(1, None),
    );
}
