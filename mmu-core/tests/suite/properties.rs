//! Random sequences of every operation against the oracle, with the invariants checked after each
//! step.

use mmu_core::{MapOptions, PageTable, SplitError};
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::common::model::{Model, leaf_sizes};
use crate::common::shape::Shape;
use crate::common::{Memory, agree, confirm, device, for_every_format, range, run};

for_every_format!(every_sequence_of_operations_agrees_with_the_oracle);

/// A number of leaves of each size, smallest first.
type Lengths = [u64; 3];

#[derive(Clone, Debug)]
struct Bus {
    /// In units of the largest leaf.
    at: u64,
    /// How far it is out of step with the device address.
    out_of_step: Lengths,
}

#[derive(Clone, Debug)]
enum Operation {
    Map {
        at: Lengths,
        len: Lengths,
        bus: Bus,
        sizes: u8,
        bits: u8,
    },
    MapList {
        at: Lengths,
        runs: Vec<(Lengths, Bus)>,
        sizes: u8,
        bits: u8,
    },
    Unmap(Lengths, Lengths),
    UnmapPiece(u64),
    Sweep(Lengths, Lengths),
    Split(Lengths),
    Query(Lengths),
}

fn lengths() -> impl Strategy<Value = Lengths> {
    let largest = prop_oneof![3 => Just(0), 1 => 0..3_u64];
    (0..4_u64, 0..4_u64, largest).prop_map(|(small, large, largest)| [small, large, largest])
}

fn bus() -> impl Strategy<Value = Bus> {
    let out_of_step = prop_oneof![
        4 => Just([0, 0, 0]),
        1 => Just([1, 0, 0]),
        1 => Just([0, 1, 0]),
    ];
    (0..8_u64, out_of_step).prop_map(|(at, out_of_step)| Bus { at, out_of_step })
}

fn operation() -> impl Strategy<Value = Operation> {
    let sizes =
        || prop_oneof![4 => Just(0b111_u8), 1 => Just(0b001), 1 => Just(0b011), 1 => Just(0b101)];
    let bits = || 0..8_u8;
    prop_oneof![
        6 => (lengths(), lengths(), bus(), sizes(), bits()).prop_map(
            |(at, len, bus, sizes, bits)| Operation::Map { at, len, bus, sizes, bits }
        ),
        3 => (lengths(), vec((lengths(), bus()), 1..6), sizes(), bits()).prop_map(
            |(at, runs, sizes, bits)| Operation::MapList { at, runs, sizes, bits }
        ),
        3 => (lengths(), lengths()).prop_map(|(at, len)| Operation::Unmap(at, len)),
        4 => any::<u64>().prop_map(Operation::UnmapPiece),
        1 => (lengths(), lengths()).prop_map(|(at, len)| Operation::Sweep(at, len)),
        4 => lengths().prop_map(Operation::Split),
        2 => lengths().prop_map(Operation::Query),
    ]
}

/// So many leaves of each size in bytes; sizes that the format does not have count as the largest
/// that it has.
fn bytes<F: Shape>(lengths: Lengths) -> u64 {
    let sizes = lengths.iter().enumerate();
    sizes
        .map(|(n, count)| count * F::SIZES[n.min(F::SIZES.len() - 1)].bytes)
        .sum()
}

fn largest<F: Shape>() -> u64 {
    F::SIZES.last().unwrap().bytes
}

/// Two of the largest leaves before the edge.
fn address<F: Shape>(at: Lengths) -> u64 {
    F::EDGE - 2 * largest::<F>() + bytes::<F>(at)
}

fn bus_address<F: Shape>(bus: &Bus, at: u64) -> u64 {
    F::BUS
        + bus.at * largest::<F>()
        + (at - F::ORIGIN) % largest::<F>()
        + bytes::<F>(bus.out_of_step)
}

/// The length of a request, never nothing, and not a great many small leaves.
fn length<F: Shape>(len: Lengths, bus: &Bus, sizes: u8) -> u64 {
    let len = bytes::<F>(len).max(F::small());
    let small_only = F::SIZES.len() > 1 && (bus.out_of_step[0] != 0 || sizes & 0b010 == 0);
    if small_only {
        (len % (3 * F::large())).max(F::small())
    } else {
        len
    }
}

fn drive<F: Shape>(operations: &[Operation]) {
    let mut memory = Memory::new(600);
    let pool = memory.pool();
    let mut table = PageTable::<F, _>::new(&pool).unwrap().unwrap();
    let mut model = Model::<F>::new();
    let window = (F::EDGE - 2 * largest::<F>(), 80 * largest::<F>());
    for operation in operations {
        match operation {
            Operation::Map {
                at,
                len,
                bus,
                sizes,
                bits,
            } => {
                let at = address::<F>(*at);
                let len = length::<F>(*len, bus, *sizes);
                let bus = bus_address::<F>(bus, at);
                let options = MapOptions {
                    sizes: leaf_sizes::<F>(*sizes),
                    attributes: F::attributes(*bits),
                };
                let bits = F::bits(options.attributes);
                let result = table.map(device(at), run(bus, len), &options);
                assert_eq!(result, model.map(at, &[(bus, len)], *sizes, bits));
            }
            Operation::MapList {
                at,
                runs,
                sizes,
                bits,
            } => {
                let at = address::<F>(*at);
                let mut next = at;
                let mut list = Vec::new();
                for (len, bus) in runs {
                    let len = length::<F>(*len, bus, *sizes);
                    list.push((bus_address::<F>(bus, next), len));
                    next += len;
                }
                let options = MapOptions {
                    sizes: leaf_sizes::<F>(*sizes),
                    attributes: F::attributes(*bits),
                };
                let bits = F::bits(options.attributes);
                let runs = list.iter().map(|&(bus, len)| run(bus, len));
                let result = table.map_list(range(at, next - at), runs, &options);
                assert_eq!(result, model.map(at, &list, *sizes, bits));
            }
            Operation::Unmap(at, len) => {
                let (at, len) = (address::<F>(*at), bytes::<F>(*len).max(F::small()));
                let result = table.unmap(range(at, len)).map(|removed| {
                    confirm(removed);
                });
                assert_eq!(result, model.unmap(at, len));
            }
            Operation::UnmapPiece(n) => {
                let Some((at, len)) = model.nth_piece(*n) else {
                    continue;
                };
                confirm(table.unmap(range(at, len)).unwrap());
                model.unmap(at, len).unwrap();
            }
            Operation::Sweep(at, len) => {
                let (at, len) = (address::<F>(*at), bytes::<F>(*len).max(F::small()));
                confirm(table.sweep(range(at, len)));
                model.sweep(at, len);
            }
            Operation::Split(at) => {
                let at = address::<F>(*at);
                match (table.split(device(at)), model.split(at)) {
                    (Ok(removed), Ok(true)) => {
                        confirm(removed);
                    }
                    (Err(SplitError::NoSmallerLeaf { .. }), Ok(false))
                    | (Err(SplitError::NotMapped { .. }), Err(_)) => {}
                    (split, expected) => panic!("{split:?}, expected {expected:?}"),
                }
            }
            Operation::Query(at) => {
                let at = address::<F>(*at) + 5;
                let found = table.query(device(at));
                let told = found.map(|found| (found.bus.get(), found.leaf));
                let expected = model.query(at);
                let expected = expected.map(|hit| (hit.bus, range(hit.leaf, hit.leaf_bytes)));
                assert_eq!(told, expected);
            }
        }
        agree(&pool, &table, &model, window);
    }
    confirm(table.close());
    assert_eq!(pool.usage().used(), 0);
}

fn every_sequence_of_operations_agrees_with_the_oracle<F: Shape>() {
    let config = Config {
        cases: 48,
        failure_persistence: None,
        ..Config::default()
    };
    // The same sequences in every run; the fuzz target looks for others.
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let sequences = vec(operation(), 1..32);
    let result = runner.run(&sequences, |operations| {
        drive::<F>(&operations);
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
}
