//! Mapping and unmapping neighbours in one table.

use hl_mem::mmu::MmuControl;
use lock_api::{Mutex, RawMutex};
use mmu_core::{AddrRange, DeviceAddr, MapOptions, QueryError};

use crate::rig::device::Faulted;
use crate::rig::hold::Hold;
use crate::rig::lock::{ModelLock, UnorderedLock};
use crate::rig::pages::Owner;
use crate::rig::{Rig, Size, Table, Weak};
use crate::{expect_failure, explore};

const PAGE: u64 = 4096;
const ASID: u16 = 1;
/// Two leaves of one table, and whose pages they map.
const PLACES: [(DeviceAddr, Owner); 2] = [
    (DeviceAddr::new(0x1_0000_0000_0000), 7),
    (DeviceAddr::new(0x1_0000_0000_1000), 8),
];

/// An address space that threads share.
struct Shared<L: RawMutex + 'static> {
    rig: Rig<L>,
    table: Mutex<L, Table<L>>,
}

impl<L: RawMutex> Shared<L> {
    fn map(&self, at: DeviceAddr, page: mmu_core::Run) {
        let mapped = self.table.lock().map(at, page, &MapOptions::default());
        mapped.unwrap_or_else(|error| panic!("{LOST}: {error}"));
        self.rig.mmu().announce().unwrap();
    }

    fn unmap(&self, range: AddrRange<DeviceAddr>) {
        let removed = self.table.lock().unmap(range);
        let removed = removed.unwrap_or_else(|error| panic!("{LOST}: {error}"));
        removed.confirm(&mut self.rig.mmu()).unwrap();
    }

    /// Maps a page, accesses it, and unmaps it.
    fn round(&self, (at, owner): (DeviceAddr, Owner)) {
        let page = self.rig.pages.allocate(owner).unwrap();
        self.map(at, page.run());
        assert_eq!(self.rig.hardware.access(ASID, at), Ok(owner), "{LOST}");
        self.unmap(AddrRange::new(at, PAGE).unwrap());
        self.rig.pages.free(page);
        assert_eq!(self.rig.hardware.access(ASID, at), Err(Faulted));
    }
}

const LOST: &str = "a neighbour's change was lost";

const SIZE: Size = Size {
    tables: 9,
    watched: &[0, 1],
    pages: 2,
    probed: true,
};

fn shared<L: RawMutex>(hold: &Hold, weak: Option<Weak>) -> &'static Shared<L> {
    let rig: Rig<L> = Rig::new(hold, SIZE, weak);
    let table = Mutex::new(rig.table(ASID));
    // Loom's part of the lock is made by the first use of it, which is to be before the threads'.
    drop(table.lock());
    hold.keep(Shared { rig, table })
}

/// Two threads map, access and unmap one of two neighbours each.
fn two_rounds<L: RawMutex + 'static>(weak: Option<Weak>) {
    Hold::run(move |hold| {
        let shared = shared::<L>(hold, weak);
        let before = shared.rig.pool.usage();
        hold.spawn(|| shared.round(PLACES[0]));
        shared.round(PLACES[1]);
        hold.join();
        assert_eq!(shared.rig.pool.usage(), before, "{LOST}");
        assert!(shared.table.lock().is_empty(), "{LOST}");
        assert_eq!(shared.rig.pages.free_count(), 2);
    });
}

/// Proves, for two threads that each map, access and unmap a leaf of one table, under the lock of
/// their address space: neither disturbs the other's leaf, the table is unlinked with the last of
/// them and not before, and in the end every table is back.
#[test]
fn neighbours_do_not_disturb_each_other() {
    explore(
        "two threads map, access and unmap neighbours: each finds its own, and no table is lost",
        || two_rounds::<ModelLock>(None),
    );
}

/// A table that one thread has unlinked stays in the MMU's cache until the removal is confirmed.
/// Meanwhile the other maps a leaf into a new table in its place, which the MMU does not find
/// before it is told.
#[test]
fn a_mapping_that_is_not_announced_is_found() {
    expect_failure(
        "a mapping is not announced while a removal beside it waits for its invalidation",
        LOST,
        || two_rounds::<ModelLock>(Some(Weak::AnnouncesNothing)),
    );
}

/// The counts of used slots and the entries themselves are as old as the lock lets them be.
#[test]
fn a_lock_that_orders_nothing_is_found() {
    expect_failure(
        "the lock of the address space excludes, and orders nothing",
        crate::RACE,
        || two_rounds::<UnorderedLock>(None),
    );
}

/// One thread maps and accesses a leaf while another removes all of its table, having looked
/// whether it is in use; planted: the lock is given up between the look and the removal.
fn remove_what_is_not_in_use(at_once: bool) {
    Hold::run(move |hold| {
        let shared = shared::<ModelLock>(hold, None);
        let [(own, owner), (neighbour, neighbours)] = PLACES;
        let page = shared.rig.pages.allocate(owner).unwrap();
        shared.map(own, page.run());
        let other = shared.rig.pages.allocate(neighbours).unwrap();
        hold.spawn(move || {
            shared.map(neighbour, other.run());
            let found = shared.rig.hardware.access(ASID, neighbour);
            assert_eq!(found, Ok(neighbours), "{LOST}");
        });
        let all = AddrRange::new(own, 2 * PAGE).unwrap();
        let unused = |table: &Table<ModelLock>| {
            matches!(table.query(neighbour), Err(QueryError::NotMapped { .. }))
        };
        let removed = if at_once {
            let mut table = shared.table.lock();
            unused(&table).then(|| table.sweep(all))
        } else {
            let unused = unused(&shared.table.lock());
            unused.then(|| shared.table.lock().sweep(all))
        };
        if let Some(removed) = removed {
            removed.confirm(&mut shared.rig.mmu()).unwrap();
        }
    });
}

/// Proves that a look and a removal under one lock are one step for a neighbour that is being mapped.
#[test]
fn a_neighbour_that_is_being_mapped_is_not_removed() {
    explore(
        "a sweep after a look under the same lock removes no neighbour that is being mapped",
        || remove_what_is_not_in_use(true),
    );
}

#[test]
fn a_lock_that_is_given_up_between_look_and_removal_is_found() {
    expect_failure(
        "the lock is given up between the look and the removal",
        LOST,
        || remove_what_is_not_in_use(false),
    );
}
