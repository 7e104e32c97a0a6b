//! An ASIC with as many users as there are numbers for their address spaces.

use std::collections::BTreeSet;

use hl_mem::budget::Budget;
use hl_mem::context::OpenError;
use hl_mem::device::{BringUpError, Device, Privilege};
use hl_mem::profile::{Asic, Gaudi2, Open, Profile};
use hl_mem::uapi::{Errno, FLAG_USERPTR, MemoryInput, OP_MAP, OP_UNMAP, dispatch};
use mmu_core::{Region, Word};

use super::support::smallest_port::{NoEngines, PAGE_BYTES, USER_BASE};
use super::support::{ArenaTables, Manner, NoCache, TestPort, arena_tables, file_storage, parts};

/// As many as ten bits name, without the privileged one (facts 1.2).
const USERS: usize = 1023;

/// A Gaudi2 whose firmware knew of `ASIDS` address spaces.
#[derive(Clone, Copy, Debug)]
struct Chip<const ASIDS: u16>;

impl<const ASIDS: u16> Asic for Chip<ASIDS> {
    type HostFormat = <Gaudi2<6> as Asic>::HostFormat;
    type DramFormat = <Gaudi2<6> as Asic>::DramFormat;

    const PROFILE: Profile = Profile {
        max_asid: ASIDS,
        ..Gaudi2::<6>::PROFILE
    };
}

/// Has as many users as the profile says.
#[derive(Debug)]
struct AsProfiled;

impl Manner for AsProfiled {
    const MAX_ASID: Option<u16> = None;
}

type ManyPort = TestPort<NoCache, ArenaTables<Region<'static, Word>>, NoEngines, AsProfiled>;

/// Brings a device up with so many seats.
fn bring_up<const ASIDS: u16>(
    seats: usize,
) -> Result<(Device<'static, Chip<ASIDS>, ManyPort>, Privilege), BringUpError> {
    // A root for each, and one walk for the few that map something.
    let tables = arena_tables(seats + 16, |region| region);
    Device::new(parts(tables, NoEngines, seats), |_parking| {
        NoCache::new(1024)
    })
}

#[test]
fn there_are_no_more_seats_than_the_profile_has_users() {
    let refused = |outcome: Result<_, _>| outcome.map(drop).unwrap_err();
    assert_eq!(Chip::<2>::PROFILE.open(), Open::Exclusive);
    assert!(bring_up::<2>(1).is_ok());
    let error = refused(bring_up::<2>(2).map(drop));
    assert_eq!(error, BringUpError::TooManySeats { users: 1 });
    assert_eq!(Chip::<4>::PROFILE.open(), Open::Shared { users: 3 });
    assert!(bring_up::<4>(3).is_ok());
    let error = refused(bring_up::<4>(4).map(drop));
    assert_eq!(error, BringUpError::TooManySeats { users: 3 });
    // A profile that promises more than there are numbers does not get them.
    let error = refused(bring_up::<2000>(USERS + 1).map(drop));
    assert_eq!(error, BringUpError::TooManySeats { users: 1023 });
}

#[test]
fn a_device_that_is_exclusive_is_busy_until_its_user_has_closed_it() {
    let (device, _privilege) = bring_up::<2>(1).unwrap();
    let budget = Budget::unlimited();
    for _ in 0..3 {
        let first = device.open((), &budget, file_storage()).unwrap();
        let second = device.open((), &budget, file_storage()).map(drop);
        assert_eq!(second, Err(OpenError::NoAddressSpace));
        // Facts 10.2.
        assert_eq!(Errno::from(OpenError::NoAddressSpace), Errno::EBUSY);
        first.close().unwrap();
    }
}

#[test]
fn every_one_of_1023_users_has_an_address_space_of_his_own() {
    let (device, _privilege) = bring_up::<1024>(USERS).unwrap();
    let budget = Budget::unlimited();
    let open = || device.open((), &budget, file_storage());
    let mut contexts: Vec<_> = (0..USERS).map(|_| open().unwrap()).collect();
    let asids: BTreeSet<_> = contexts
        .iter()
        .map(|context| context.asid().get())
        .collect();
    assert_eq!(asids, (1..=1023).collect());
    assert_eq!(open().map(drop), Err(OpenError::NoAddressSpace));
    // The first and the last one map the same address and do not meet.
    let map = MemoryInput {
        arguments: [USER_BASE, 0, PAGE_BYTES],
        op: OP_MAP,
        flags: FLAG_USERPTR,
        ..MemoryInput::default()
    };
    let ends = [0, USERS - 1];
    let at = ends.map(|user| dispatch(&contexts[user], &map.to_bytes()).unwrap().value);
    assert_eq!(at[0], at[1]);
    let unmap = MemoryInput {
        arguments: [at[0], 0, 0],
        op: OP_UNMAP,
        ..MemoryInput::default()
    };
    dispatch(&contexts[0], &unmap.to_bytes()).unwrap();
    let gone = dispatch(&contexts[0], &unmap.to_bytes());
    assert_eq!(gone.map(|reply| reply.value), Err(Errno::EINVAL));
    dispatch(&contexts[USERS - 1], &unmap.to_bytes()).unwrap();
    // Whoever leaves makes room for one.
    let left = contexts.swap_remove(511);
    let asid = left.asid();
    left.close().unwrap();
    let next = open().unwrap();
    assert_eq!(next.asid(), asid);
    assert_eq!(open().map(drop), Err(OpenError::NoAddressSpace));
    contexts.push(next);
    for context in contexts {
        context.close().unwrap();
    }
    assert_eq!(device.usage().free_asids, USERS as u32);
}
