//! Tests of what only the inside shows: the exact state after a refusal, and worn-out slots.

use super::*;

type Table = HandleTable<u32, Vec<HandleSlot<u32>>>;

/// Everything a table is made of.
#[derive(PartialEq, Debug)]
struct Snapshot {
    slots: Vec<HandleSlot<u32>>,
    numbers: [u32; 7],
}

impl Table {
    fn with(capacity: usize, salt: u32) -> Self {
        Self::new(vec![HandleSlot::new(); capacity], salt)
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            slots: self.slots.clone(),
            numbers: [
                self.capacity,
                self.live,
                self.reserved,
                self.retired,
                self.oldest,
                self.newest,
                self.first,
            ],
        }
    }

    fn add(&mut self, kind: HandleKind, object: u32) -> RawHandle {
        let reservation = self.reserve(kind).unwrap();
        self.publish(reservation, object).unwrap()
    }
}

#[test]
fn a_handle_has_its_kind_in_the_top_bits_and_its_slot_from_bit_12() {
    let mut table = Table::with(2, 0);
    // Salt 0 makes the first generation 0.
    assert_eq!(table.add(HandleKind::CommandBuffer, 0).get(), 1 << 60);
    let second = table.add(HandleKind::Block, 0);
    assert_eq!(second.get(), 1 << 62 | 1 << 12);
    table.remove(second, HandleKind::Block).unwrap();
    let third = table.add(HandleKind::TimestampPool, 0);
    assert_eq!(third.get(), 1 << 63 | 1 << 28 | 1 << 12);
    table.remove(third, HandleKind::TimestampPool).unwrap();
    let fourth = table.add(HandleKind::RegisterBlock, 0);
    assert_eq!(fourth.get(), 1 << 61 | 2 << 28 | 1 << 12);
}

#[test]
fn no_number_but_the_handle_itself_finds_the_object_and_none_changes_the_table() {
    let mut table = Table::with(3, 77);
    let gone = table.add(HandleKind::Block, 1);
    let handle = table.add(HandleKind::Block, 2);
    table.remove(gone, HandleKind::Block).unwrap();
    let before = table.snapshot();
    for bit in 0..64 {
        for second in 0..64 {
            let number = handle.get() ^ (1 << bit) ^ (1 << second);
            if number == handle.get() || number == gone.get() {
                continue;
            }
            for kind in [HandleKind::Block, HandleKind::CommandBuffer] {
                let forged = RawHandle::new(number);
                assert!(table.get(forged, kind).is_err(), "{forged}");
                assert!(table.get_mut(forged, kind).is_err(), "{forged}");
                assert!(table.remove(forged, kind).is_err(), "{forged}");
            }
        }
    }
    let stale = table.remove(gone, HandleKind::Block);
    assert_eq!(stale, Err(HandleError::Stale));
    assert_eq!(table.snapshot(), before);
    assert_eq!(table.get(handle, HandleKind::Block), Ok(&2));
}

#[test]
fn giving_up_a_reservation_leaves_no_trace_in_whatever_order() {
    let mut table = Table::with(4, 5);
    let object = table.add(HandleKind::Block, 1);
    table.remove(object, HandleKind::Block).unwrap();
    let before = table.snapshot();
    let first = table.reserve(HandleKind::Block).unwrap();
    let second = table.reserve(HandleKind::CommandBuffer).unwrap();
    table.cancel(first).unwrap();
    let third = table.reserve(HandleKind::TimestampPool).unwrap();
    table.cancel(third).unwrap();
    table.cancel(second).unwrap();
    assert_eq!(table.snapshot(), before);
}

#[test]
fn a_full_table_refuses_and_stays_as_it_is() {
    let mut table = Table::with(2, 5);
    table.add(HandleKind::Block, 1);
    let reservation = table.reserve(HandleKind::Block).unwrap();
    let before = table.snapshot();
    let full = TableFull { capacity: 2 };
    assert_eq!(table.reserve(HandleKind::Block), Err(full));
    assert_eq!(table.snapshot(), before);
    table.publish(reservation, 2).unwrap();
    assert_eq!(table.reserve(HandleKind::Block), Err(full));
    assert_eq!(
        Table::with(0, 5).reserve(HandleKind::Block),
        Err(TableFull { capacity: 0 })
    );
}

#[test]
fn a_reservation_of_another_table_is_handed_back_and_changes_neither() {
    let (mut here, mut there) = (Table::with(2, 1), Table::with(2, 1));
    // Even where the other one has a reservation of its own that it could be taken for.
    let own = there.reserve(HandleKind::Block).unwrap();
    let reservation = here.reserve(HandleKind::Block).unwrap();
    let before = (here.snapshot(), there.snapshot());
    let refused = there.publish(reservation, 9).unwrap_err();
    assert_eq!(refused.object, 9);
    let refused = there.cancel(refused.reservation).unwrap_err();
    assert_eq!((here.snapshot(), there.snapshot()), before);
    here.publish(refused.reservation, 9).unwrap();
    there.cancel(own).unwrap();
}

#[test]
fn a_slot_is_retired_when_it_has_had_every_generation() {
    let mut table = Table::with(2, 12345);
    let first = table.add(HandleKind::Block, 1);
    table.remove(first, HandleKind::Block).unwrap();
    // The slot is used again after the other one; wear both out but for one generation.
    table.slots[0].past = GENERATIONS - 1;
    let other = table.add(HandleKind::Block, 2);
    let last = table.add(HandleKind::Block, 3);
    assert_eq!(last.slot(), first.slot());
    assert_eq!(
        last.generation(),
        first.generation().wrapping_sub(1) % GENERATIONS,
        "the last generation is the one before the first, all the way round"
    );
    assert_eq!(table.remove(last, HandleKind::Block), Ok(3));
    assert_eq!((table.retired(), table.live()), (1, 1));
    // No handle of that slot is good any more, whatever its generation.
    for handle in [first, last] {
        let found = table.get(handle, HandleKind::Block);
        assert_eq!(found, Err(HandleError::Stale));
    }
    // The table goes on with one slot less.
    assert!(table.reserve(HandleKind::Block).is_err());
    table.remove(other, HandleKind::Block).unwrap();
    let reservation = table.reserve(HandleKind::Block).unwrap();
    assert!(table.reserve(HandleKind::Block).is_err());
    assert_eq!(
        table.publish(reservation, 4).map(RawHandle::slot),
        Ok(other.slot())
    );
}

#[test]
fn the_slot_that_is_vacant_for_longest_is_used_next() {
    let mut table = Table::with(3, 0);
    let handles: Vec<_> = (0..3).map(|n| table.add(HandleKind::Block, n)).collect();
    for at in [1, 2, 0] {
        table.remove(handles[at], HandleKind::Block).unwrap();
    }
    let slots: Vec<_> = (0..3)
        .map(|n| table.add(HandleKind::Block, n).slot())
        .collect();
    assert_eq!(slots, [1, 2, 0]);
}

#[test]
fn successive_salts_start_far_apart() {
    // Of a thousand files open at a time none shares a generation with another until a slot has
    // been used half a million times: the period is 2^31.
    let mut starts: Vec<_> = (0..1000).map(|salt| Table::with(1, salt).first).collect();
    starts.sort_unstable();
    let least = starts.windows(2).map(|pair| pair[1] - pair[0]).min();
    assert!(least > Some(500_000), "{least:?}");
}

#[test]
fn slots_beyond_the_number_that_handles_can_tell_apart_are_not_used() {
    let mut table = Table::with(70_000, 3);
    assert_eq!(table.capacity(), 65_536);
    let handles: Vec<_> = (0..65_536)
        .map(|n| table.add(HandleKind::Block, n))
        .collect();
    assert!(table.reserve(HandleKind::Block).is_err());
    for (n, &handle) in (0..).zip(&handles) {
        assert_eq!(table.get(handle, HandleKind::Block), Ok(&n));
    }
}
