//! The handle table against a plain model that remembers every handle ever given out. The model
//! predicts the exact answer to every call, refusals included.

use std::collections::{BTreeMap, BTreeSet};

use hl_mem::handle::{HandleError, HandleKind, HandleSlot, HandleTable, RawHandle, Reservation};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, RngSeed};

const CAPACITY: usize = 5;

#[derive(Clone, Debug)]
enum Call {
    Reserve(HandleKind),
    Publish(Index),
    Cancel(Index),
    /// Uses a handle given out earlier, some of its bits changed.
    Get(Index, u64, HandleKind),
    Remove(Index, u64, HandleKind),
    Drain(usize),
}

#[derive(Default)]
struct Model {
    /// Handle and object of what is live.
    live: BTreeMap<u64, u32>,
    /// Slot and generation of everything that ever was, and the handles in order.
    issued: BTreeSet<u64>,
    handles: Vec<u64>,
}

impl Model {
    /// Slot and generation.
    fn place(number: u64) -> u64 {
        number & 0x07FF_FFFF_FFFF_F000
    }

    fn find(&self, number: u64, kind: HandleKind) -> Result<u32, HandleError> {
        let found = match number >> 59 {
            0b00010 => HandleKind::CommandBuffer,
            0b00100 => HandleKind::RegisterBlock,
            0b01000 => HandleKind::Block,
            0b10000 => HandleKind::TimestampPool,
            _ => return Err(HandleError::Malformed),
        };
        if !number.is_multiple_of(4096) {
            return Err(HandleError::Malformed);
        }
        if found != kind {
            return Err(HandleError::WrongKind { found });
        }
        if let Some(&object) = self.live.get(&number) {
            return Ok(object);
        }
        let place = Self::place(number);
        let is_live = self.live.keys().any(|&live| Self::place(live) == place);
        if self.issued.contains(&place) && !is_live {
            Err(HandleError::Stale)
        } else {
            Err(HandleError::Unknown)
        }
    }
}

fn kind() -> impl Strategy<Value = HandleKind> {
    prop_oneof![
        Just(HandleKind::CommandBuffer),
        Just(HandleKind::RegisterBlock),
        Just(HandleKind::Block),
        Just(HandleKind::TimestampPool),
    ]
}

/// Nothing, a bit, or a small difference in slot or generation.
fn change() -> impl Strategy<Value = u64> {
    prop_oneof![
        6 => Just(0),
        2 => (0..64u32).prop_map(|bit| 1 << bit),
        1 => (0..8u64).prop_map(|slot| slot << 12),
        1 => (0..8u64).prop_map(|generation| generation << 28),
        1 => any::<u64>(),
    ]
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![
        4 => kind().prop_map(Call::Reserve),
        4 => any::<Index>().prop_map(Call::Publish),
        1 => any::<Index>().prop_map(Call::Cancel),
        3 => (any::<Index>(), change(), kind()).prop_map(|(at, bits, kind)| Call::Get(at, bits, kind)),
        6 => (any::<Index>(), change(), kind()).prop_map(|(at, bits, kind)| Call::Remove(at, bits, kind)),
        1 => (0..4usize).prop_map(Call::Drain),
    ]
}

/// A handle from the past with some bits changed, or just the bits while there is none.
fn pick(model: &Model, at: &Index, bits: u64) -> u64 {
    match model.handles.len() {
        0 => bits,
        len => model.handles[at.index(len)] ^ bits,
    }
}

fn check(salt: u32, calls: Vec<Call>) -> Result<(), TestCaseError> {
    let slots = [const { HandleSlot::new() }; CAPACITY];
    let mut table = HandleTable::new(slots, salt);
    let mut model = Model::default();
    let mut reservations: Vec<(HandleKind, Reservation)> = Vec::new();
    for (object, call) in (0..).zip(calls) {
        match call {
            Call::Reserve(kind) => {
                let full = model.live.len() + reservations.len() == CAPACITY;
                let reservation = table.reserve(kind);
                prop_assert_eq!(reservation.is_err(), full);
                reservations.extend(reservation.ok().map(|reservation| (kind, reservation)));
            }
            Call::Publish(at) if !reservations.is_empty() => {
                let at = at.index(reservations.len());
                let (kind, reservation) = reservations.swap_remove(at);
                let handle = table.publish(reservation, object).unwrap();
                prop_assert_eq!(handle.kind(), Ok(kind));
                prop_assert!(
                    model.issued.insert(Model::place(handle.get())),
                    "given out twice: {}",
                    handle
                );
                model.handles.push(handle.get());
                model.live.insert(handle.get(), object);
            }
            Call::Cancel(at) if !reservations.is_empty() => {
                let at = at.index(reservations.len());
                table.cancel(reservations.swap_remove(at).1).unwrap();
            }
            Call::Publish(_) | Call::Cancel(_) => {}
            Call::Get(at, bits, kind) => {
                let number = pick(&model, &at, bits);
                let expected = model.find(number, kind);
                let handle = RawHandle::new(number);
                prop_assert_eq!(table.get(handle, kind).copied(), expected);
                prop_assert_eq!(table.get_mut(handle, kind).copied(), expected);
            }
            Call::Remove(at, bits, kind) => {
                let number = pick(&model, &at, bits);
                // Mostly the kind that the number has, so that objects do go.
                let kind = RawHandle::new(number).kind().unwrap_or(kind);
                let expected = model.find(number, kind);
                prop_assert_eq!(table.remove(RawHandle::new(number), kind), expected);
                if expected.is_ok() {
                    model.live.remove(&number);
                }
            }
            Call::Drain(count) => {
                for (handle, object) in table.drain().take(count) {
                    prop_assert_eq!(model.live.remove(&handle.get()), Some(object));
                }
            }
        }
        prop_assert_eq!(table.live() as usize, model.live.len());
        prop_assert_eq!(table.reserved() as usize, reservations.len());
        let listed: BTreeMap<_, _> = table.iter().map(|(h, &object)| (h.get(), object)).collect();
        prop_assert_eq!(&listed, &model.live);
    }
    Ok(())
}

proptest! {
    #![proptest_config(Config {
        cases: 200,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(0x6861_6e64),
        ..Config::default()
    })]

    #[test]
    fn the_table_answers_as_one_that_remembers_every_handle(
        salt in any::<u32>(),
        calls in prop::collection::vec(call(), 1..120),
    ) {
        check(salt, calls)?;
    }
}
