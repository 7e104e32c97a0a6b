//! The handle scenarios that the test suites of this field's peers check, as far as they are the
//! handle table's, through the public interface alone.

use std::cell::Cell;
use std::rc::Rc;

use hl_mem::handle::{HandleError, HandleKind, HandleSlot, HandleTable, RawHandle};
use spin::Mutex;

const KINDS: [HandleKind; 4] = [
    HandleKind::CommandBuffer,
    HandleKind::RegisterBlock,
    HandleKind::Block,
    HandleKind::TimestampPool,
];

type Table<T> = HandleTable<T, Vec<HandleSlot<T>>>;

fn table<T>(capacity: usize, salt: u32) -> Table<T> {
    let slots = std::iter::repeat_with(HandleSlot::new).take(capacity);
    HandleTable::new(slots.collect(), salt)
}

fn add<T>(table: &mut Table<T>, kind: HandleKind, object: T) -> RawHandle {
    let reservation = table.reserve(kind).unwrap();
    table.publish(reservation, object).unwrap()
}

/// Counts the objects that are alive.
struct Counted(Rc<Cell<i32>>);

impl Counted {
    fn new(alive: &Rc<Cell<i32>>) -> Self {
        alive.set(alive.get() + 1);
        Self(Rc::clone(alive))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// H-02, as far as it is the table's: the views of an object are its own.
#[test]
fn an_object_is_destroyed_once_however_often_it_is_asked_for() {
    let alive = Rc::new(Cell::new(0));
    let mut table = table(4, 9);
    let handle = add(&mut table, HandleKind::Block, Rc::new(Counted::new(&alive)));
    // A view keeps the object alive; its handle ends all the same.
    let view = Rc::clone(table.get(handle, HandleKind::Block).unwrap());
    drop(table.remove(handle, HandleKind::Block));
    assert_eq!(alive.get(), 1);
    for _ in 0..2 {
        let again = table.remove(handle, HandleKind::Block);
        assert!(matches!(again, Err(HandleError::Stale)));
    }
    drop(view);
    assert_eq!(alive.get(), 0);
}

/// H-02: close with objects left over.
#[test]
fn a_close_gives_out_what_is_left_and_each_object_once() {
    let alive = Rc::new(Cell::new(0));
    let mut table = table(8, 9);
    let handles: Vec<_> = (0..6)
        .map(|n| add(&mut table, KINDS[n % 4], Counted::new(&alive)))
        .collect();
    table.remove(handles[2], KINDS[2]).unwrap();
    let listed: Vec<_> = table.iter().map(|(handle, _)| handle).collect();

    // A close that stops half way loses nothing.
    let (first, object) = table.drain().next().unwrap();
    drop(object);
    assert_eq!((first, table.live(), alive.get()), (listed[0], 4, 4));

    let rest: Vec<_> = table.drain().map(|(handle, _)| handle).collect();
    assert_eq!(rest, listed[1..]);
    assert_eq!((table.live(), alive.get()), (0, 0));
    for (n, &handle) in handles.iter().enumerate() {
        let found = table.get(handle, KINDS[n % 4]).map(|_| ());
        assert_eq!(found, Err(HandleError::Stale));
    }
}

/// H-03, as far as it is the table's: the offset of an mmap.
#[test]
fn an_offset_beside_that_of_an_object_names_nothing() {
    let mut table = table(4, 1);
    let handle = add(&mut table, HandleKind::Block, 7);
    let beside = |bytes: u64| RawHandle::new(handle.get().wrapping_add(bytes));
    for (offset, error) in [
        (1, HandleError::Malformed),
        (4095, HandleError::Malformed),
        (4096, HandleError::Unknown),
        (4 * 4096, HandleError::Unknown),
        (4096u64.wrapping_neg(), HandleError::Unknown),
        (1 << 59, HandleError::Malformed),
    ] {
        let found = table.get(beside(offset), HandleKind::Block);
        assert_eq!(found, Err(error), "{offset:#x}");
    }
    let zero = table.get(RawHandle::new(0), HandleKind::Block);
    assert_eq!(zero, Err(HandleError::Malformed));
    assert_eq!(table.get(handle, HandleKind::Block), Ok(&7));
}

/// H-06: between the steps of making an object someone tries every handle there could be. Each step
/// is atomic under the caller's lock, so that these are all the interleavings there are.
#[test]
fn nobody_finds_an_object_that_is_still_being_made() {
    const CAPACITY: u64 = 4;
    let probe = |table: &Table<u32>| -> Vec<u32> {
        let mut found = Vec::new();
        for kind in KINDS {
            for code in 0..32u64 {
                for slot in 0..CAPACITY {
                    for generation in 0..16u64 {
                        let number = code << 59 | generation << 28 | slot << 12;
                        found.extend(table.get(RawHandle::new(number), kind).ok());
                    }
                }
            }
        }
        found
    };
    // Salt 0 makes generations start with 0, so that the few tried above are the ones in use.
    let mut table = table(CAPACITY as usize, 0);
    add(&mut table, HandleKind::Block, 1);
    let reservation = table.reserve(HandleKind::Block).unwrap();
    assert_eq!(probe(&table), [1], "while the object is being made");
    table.cancel(reservation).unwrap();
    assert_eq!(probe(&table), [1], "when making it has failed");
    let reservation = table.reserve(HandleKind::Block).unwrap();
    assert_eq!(probe(&table), [1]);
    table.publish(reservation, 2).unwrap();
    assert_eq!(probe(&table), [1, 2]);
}

#[test]
fn a_handle_of_another_kind_is_told_from_one_that_names_nothing() {
    let mut table = table(4, 1);
    let handle = add(&mut table, HandleKind::TimestampPool, 7);
    for kind in KINDS {
        let expected = if kind == HandleKind::TimestampPool {
            Ok(&7)
        } else {
            Err(HandleError::WrongKind {
                found: HandleKind::TimestampPool,
            })
        };
        assert_eq!(table.get(handle, kind), expected);
    }
    // The same slot and generation under another kind is a handle that never was.
    let relabelled = RawHandle::new(handle.get() ^ (0x10 << 59) ^ (0x2 << 59));
    let found = table.remove(relabelled, HandleKind::CommandBuffer);
    assert_eq!(found, Err(HandleError::Unknown));
    assert_eq!(table.live(), 1);
}

#[test]
fn the_handles_of_one_file_name_nothing_in_the_next() {
    let (mut here, mut there) = (table(16, 41), table(16, 42));
    for n in 0..16 {
        let handle = add(&mut here, HandleKind::Block, n);
        add(&mut there, HandleKind::Block, n);
        let found = there.get(handle, HandleKind::Block);
        assert!(matches!(found, Err(HandleError::Unknown)), "{found:?}");
    }
}

#[test]
fn a_change_through_a_handle_is_seen_through_it() {
    let mut table = table(2, 1);
    let handle = add(&mut table, HandleKind::Block, 7);
    *table.get_mut(handle, HandleKind::Block).unwrap() = 8;
    assert_eq!(table.get(handle, HandleKind::Block), Ok(&8));
}

#[test]
fn a_table_can_live_in_a_static_behind_a_mutex() {
    static FILE: Mutex<Option<HandleTable<u32, [HandleSlot<u32>; 4]>>> = Mutex::new(None);
    let slots = [const { HandleSlot::new() }; 4];
    *FILE.lock() = Some(HandleTable::new(slots, 1));
    let handle = {
        let mut guard = FILE.lock();
        let table = guard.as_mut().unwrap();
        let reservation = table.reserve(HandleKind::Block).unwrap();
        table.publish(reservation, 3).unwrap()
    };
    let guard = FILE.lock();
    let found = guard.as_ref().unwrap().get(handle, HandleKind::Block);
    assert_eq!(found, Ok(&3));
}

#[test]
fn no_place_of_a_new_table_is_retired() {
    let table = HandleTable::<(), _>::new([const { HandleSlot::new() }; 3], 0);
    assert_eq!((table.retired(), table.live(), table.reserved()), (0, 0, 0));
    assert_eq!(table.capacity(), 3);
}
