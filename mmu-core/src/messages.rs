//! What errors say to people.

use std::fmt::Display;

use crate::{
    AddrRange, BusAddr, ConfirmError, DeviceAddr, DeviceLost, Hop, MapError, PoolError, QueryError,
    SplitError, UnmapError,
};

const AT: DeviceAddr = DeviceAddr::new(0x1234_5000);
const BUS: BusAddr = BusAddr::new(0x1234_5000);

/// The messages of one type, which are clauses that can stand after a colon, and differ.
fn distinct<T: Display>(values: impl IntoIterator<Item = T>) -> Vec<String> {
    let messages: Vec<_> = values.into_iter().map(|value| value.to_string()).collect();
    for (place, message) in messages.iter().enumerate() {
        assert!(message.len() > 2, "{place}: {message:?}");
        assert!(!message.ends_with(['.', ' ']), "{message:?}");
        assert_eq!(message, &message.to_lowercase());
        assert!(!messages[..place].contains(message), "{message:?} twice");
    }
    messages
}

/// Each message names the place that its error carries.
fn naming_the_place<T: Display>(values: impl IntoIterator<Item = T>) {
    for message in distinct(values) {
        assert!(message.contains("12345000"), "{message:?}");
    }
}

#[test]
fn what_keeps_a_mapping_from_being_made_or_removed_is_told_with_its_place() {
    naming_the_place([
        MapError::OutOfRange { at: AT },
        MapError::Misaligned { at: AT },
        MapError::MisalignedRun { bus: BUS },
        MapError::RunOutOfRange { bus: BUS },
        MapError::LengthMismatch { at: AT },
        MapError::AlreadyMapped { at: AT },
        MapError::InDefaultRange { at: AT },
        MapError::Corrupt { at: AT },
    ]);
    let messages = distinct([
        MapError::NoTableMemory { needed: 4711 },
        MapError::RunsChanged,
        MapError::NoLeafSize,
        MapError::NoDefaults,
        MapError::DeviceLost,
    ]);
    assert!(messages[0].contains("4711"));
    naming_the_place([
        UnmapError::OutOfRange { at: AT },
        UnmapError::Misaligned { at: AT },
        UnmapError::NotMapped { at: AT },
        UnmapError::WouldSplit { leaf: AT },
        UnmapError::Corrupt { at: AT },
    ]);
    naming_the_place([
        SplitError::OutOfRange { at: AT },
        SplitError::NotMapped { at: AT },
        SplitError::NoSmallerLeaf { leaf: AT },
        SplitError::InDefaultRange { leaf: AT },
        SplitError::Corrupt { at: AT },
    ]);
    distinct([SplitError::NoTableMemory, SplitError::DeviceLost]);
    naming_the_place([
        QueryError::OutOfRange { at: AT },
        QueryError::NotMapped { at: AT },
        QueryError::Corrupt { at: AT },
    ]);
}

#[test]
fn what_is_behind_an_unconfirmed_removal_is_told_with_it() {
    let messages = distinct([
        ConfirmError::Flush(DeviceLost),
        ConfirmError::Invalidate("the registers read ones"),
    ]);
    assert!(messages[0].ends_with(&DeviceLost.to_string()));
    assert!(messages[1].ends_with("the registers read ones"));
    let messages = distinct([PoolError::Region, PoolError::TooFewRecords { needed: 4711 }]);
    assert!(messages[1].contains("4711"));
}

#[test]
fn addresses_and_hops_are_written_as_people_compare_them() {
    let range = AddrRange::new(AT, 0x2000).unwrap();
    assert_eq!(range.to_string(), "[0x0000000012345000, +0x2000)");
    assert_eq!(Hop::new(3).unwrap().to_string(), "hop 3");
}
