//! Operations from random bytes against the oracle of the tests, on one format and one kind of
//! table memory per input.
#![no_main]

#[expect(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "shared with the tests, of which each uses a part"
)]
#[path = "../../tests/suite/common/mod.rs"]
mod common;

use common::operations::{Bus, Lengths, Operation, drive, drive_on_device};
use libfuzzer_sys::fuzz_target;
use mmu_core::format::{Gaudi2Hmmu, Gaudi2Pmmu, Gaudi2Pmmu64K, V1, X86_64};

/// Takes numbers off the front of the input, and zeros behind its end.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn below(&mut self, bound: u8) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        first % bound
    }

    fn lengths(&mut self) -> Lengths {
        [4, 4, 3].map(|bound| u64::from(self.below(bound)))
    }

    fn bus(&mut self) -> Bus {
        Bus {
            at: u64::from(self.below(8)),
            out_of_step: [[0, 0, 0], [1, 0, 0], [0, 1, 0]][usize::from(self.below(3))],
        }
    }

    fn sizes(&mut self) -> u8 {
        [0b111, 0b001, 0b011, 0b101][usize::from(self.below(4))]
    }

    fn operation(&mut self) -> Option<Operation> {
        if self.0.is_empty() {
            return None;
        }
        Some(match self.below(7) {
            0 => Operation::Map {
                at: self.lengths(),
                len: self.lengths(),
                bus: self.bus(),
                sizes: self.sizes(),
                bits: self.below(8),
            },
            1 => Operation::MapList {
                at: self.lengths(),
                sizes: self.sizes(),
                bits: self.below(8),
                runs: (0..=self.below(5))
                    .map(|_| (self.lengths(), self.bus()))
                    .collect(),
            },
            2 => Operation::Unmap(self.lengths(), self.lengths()),
            3 => Operation::UnmapPiece(u64::from(self.below(255))),
            4 => Operation::Sweep(self.lengths(), self.lengths()),
            5 => Operation::Split(self.lengths()),
            _ => Operation::Query(self.lengths()),
        })
    }
}

fuzz_target!(|input: &[u8]| {
    let mut bytes = Bytes(input);
    let format = bytes.below(10);
    // No more than the memory of the tests has tables for.
    let operations: Vec<Operation> = std::iter::from_fn(|| bytes.operation()).take(48).collect();
    match format {
        0 => drive::<V1>(&operations),
        1 => drive::<Gaudi2Pmmu>(&operations),
        2 => drive::<Gaudi2Pmmu64K>(&operations),
        3 => drive::<Gaudi2Hmmu<6>>(&operations),
        4 => drive::<Gaudi2Hmmu<5>>(&operations),
        5 => drive::<X86_64<4>>(&operations),
        6 => drive::<X86_64<5>>(&operations),
        7 => drive_on_device::<V1>(&operations),
        8 => drive_on_device::<Gaudi2Hmmu<6>>(&operations),
        _ => drive_on_device::<X86_64<4>>(&operations),
    }
});
