//! The address spaces of users after a reset, where an MMU does not take over their roots.

use std::sync::atomic::{AtomicBool, Ordering};

use hl_mem::budget::Budget;
use hl_mem::context::OpenError;
use hl_mem::device::{BringUpError, Device};
use hl_mem::dram::DramContent;
use hl_mem::profile::Gaudi2;

use super::support::smallest_port::{NoEngines, PAGE_BYTES};
use super::support::{Manner, NoCache, TestPort, arena_tables, file_storage, parts};
use super::{Tables, map, two_mmus};

static BUDGET: Budget = Budget::unlimited();

/// A user has the one seat when the device comes back from a reset, and gives it back when an MMU is
/// lost again, one of the two that `mmus` makes.
fn nobody_gets_the_space_before_it_is_back(
    is_lost: &'static AtomicBool,
    mmus: impl FnOnce(NoCache, NoCache) -> (NoCache, NoCache),
) {
    let (host, dram) = mmus(NoCache::new(3), NoCache::lost_while(3, is_lost));
    let device = two_mmus(host, dram);
    let open = || device.open((), &BUDGET, file_storage());
    let context = open().unwrap();
    device.recover(DramContent::Scrubbed).unwrap();
    is_lost.store(true, Ordering::Relaxed);
    // Nothing is mapped there, so that nothing is to be confirmed.
    context.close().unwrap();
    for _ in 0..2 {
        assert_eq!(open().map(drop), Err(OpenError::NoAddressSpace));
        let usage = device.usage();
        assert_eq!((usage.free_asids, usage.lost_asids), (1, 0));
    }
    is_lost.store(false, Ordering::Relaxed);
    let context = open().unwrap();
    assert_eq!(device.usage().free_asids, 0);
    context.close().unwrap();
    // From now on it has its root, whether or not an MMU answers.
    is_lost.store(true, Ordering::Relaxed);
    open().unwrap().close().unwrap();
}

#[test]
fn nobody_gets_a_space_whose_root_the_mmu_of_host_memory_does_not_take() {
    static IS_LOST: AtomicBool = AtomicBool::new(false);
    nobody_gets_the_space_before_it_is_back(&IS_LOST, |one, lost| (lost, one));
}

#[test]
fn nobody_gets_a_space_whose_root_the_mmu_of_device_memory_does_not_take() {
    static IS_LOST: AtomicBool = AtomicBool::new(false);
    nobody_gets_the_space_before_it_is_back(&IS_LOST, |one, lost| (one, lost));
}

#[test]
fn a_space_whose_root_was_not_taken_is_there_again_after_a_recovery() {
    static IS_LOST: AtomicBool = AtomicBool::new(false);
    let device = two_mmus(NoCache::lost_while(3, &IS_LOST), NoCache::new(3));
    let open = || device.open((), &BUDGET, file_storage());
    let context = open().unwrap();
    device.recover(DramContent::Scrubbed).unwrap();
    IS_LOST.store(true, Ordering::Relaxed);
    context.close().unwrap();
    assert_eq!(open().map(drop), Err(OpenError::NoAddressSpace));
    IS_LOST.store(false, Ordering::Relaxed);
    device.recover(DramContent::Scrubbed).unwrap();
    // The recovery gave it its root, for which nobody has to ask again.
    IS_LOST.store(true, Ordering::Relaxed);
    open().unwrap().close().unwrap();
}

#[test]
fn a_file_stays_open_until_the_mmu_of_device_memory_is_back_as_well() {
    static IS_LOST: AtomicBool = AtomicBool::new(false);
    let device = two_mmus(NoCache::new(3), NoCache::lost_while(3, &IS_LOST));
    let context = device.open((), &BUDGET, file_storage()).unwrap();
    map(&context, PAGE_BYTES);
    IS_LOST.store(true, Ordering::Relaxed);
    device.recover(DramContent::Scrubbed).unwrap_err();
    let refused = context.close().unwrap_err();
    assert_eq!(device.usage().free_asids, 0);
    IS_LOST.store(false, Ordering::Relaxed);
    device.recover(DramContent::Scrubbed).unwrap();
    refused.into_context().close().unwrap();
    assert_eq!(device.usage().free_asids, 1);
}

#[test]
fn the_next_user_of_a_space_is_told_what_happens_to_him_and_not_what_happened_to_the_former() {
    let device = two_mmus(NoCache::new(3), NoCache::new(3));
    let open = || device.open((), &BUDGET, file_storage()).unwrap();
    let former = open();
    assert!(device.note_lost(), "he had read everything");
    device.recover(DramContent::Scrubbed).unwrap();
    assert!(former.next_event().is_some());
    former.close().unwrap();
    let next = open();
    assert_eq!(next.next_event(), None);
    assert!(device.note_lost());
    assert!(next.next_event().is_some());
    next.close().unwrap();
}

/// A port for a device with so many address spaces, the privileged one among them.
struct Spaces<const NUMBER: u16>;

impl<const NUMBER: u16> Manner for Spaces<NUMBER> {
    const MAX_ASID: Option<u16> = Some(NUMBER);
}

type WithSpaces<const NUMBER: u16> =
    TestPort<NoCache, Tables, NoEngines, Spaces<NUMBER>, NoCache, Tables>;

/// Acceptance A-01: all are opened, and one more; they are closed in another order, and opened again.
fn spaces_run_out_and_come_back<const NUMBER: u16>() {
    let users = usize::from(NUMBER) - 1;
    let bring_up = |seats| {
        let tables = || arena_tables(users + 8, |region| region);
        let parts = parts::<Gaudi2<6>, WithSpaces<NUMBER>>(tables(), NoEngines, seats);
        let mmu = |_parking| NoCache::new(NUMBER);
        Device::with_dram_mmu(parts, mmu, Some((tables(), mmu)))
    };
    let too_many = bring_up(users + 1).map(drop);
    let users_at_most = NUMBER - 1;
    assert_eq!(
        too_many,
        Err(BringUpError::TooManySeats {
            users: users_at_most
        })
    );
    let (device, _privilege) = bring_up(users).unwrap();
    let open = || device.open((), &BUDGET, file_storage());
    let before = device.usage();
    for _ in 0..3 {
        let mut files: Vec<_> = (0..users).map(|_| Some(open().unwrap())).collect();
        let mut asids: Vec<u16> = files
            .iter()
            .flatten()
            .map(|file| file.asid().get())
            .collect();
        asids.sort_unstable();
        assert!(asids.iter().copied().eq(1..NUMBER), "{asids:?}");
        let full = device.usage();
        assert_eq!(open().map(drop), Err(OpenError::NoAddressSpace));
        assert_eq!(device.usage(), full);
        for number in 0..users {
            // A step that has no factor in common with any of the numbers of users.
            let file = files[number * 101 % users].take();
            file.expect("each is closed once").close().unwrap();
        }
        assert_eq!(device.usage(), before);
    }
}

#[test]
fn address_spaces_of_users_run_out_and_come_back_however_many_there_are() {
    spaces_run_out_and_come_back::<2>();
    spaces_run_out_and_come_back::<4>();
    spaces_run_out_and_come_back::<256>();
}
