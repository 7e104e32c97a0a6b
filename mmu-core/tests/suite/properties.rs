//! Random sequences of every operation against the oracle, with the invariants checked after each
//! step.

use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::common::for_every_format;
use super::common::operations::{Bus, Lengths, Operation, drive};
use super::common::shape::Shape;

for_every_format!(every_sequence_of_operations_agrees_with_the_oracle);

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
