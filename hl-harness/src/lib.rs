//! A software accelerator, a host model and the programs that prove `mmu-core` and `hl-mem` on them.

pub mod asic;
pub mod block_access;
pub mod demo;
pub mod extents;
pub mod host;
pub mod inspect;
pub mod log;
pub mod machine;
pub mod port;
pub mod scenario;
pub mod schedule;
pub mod stress;
mod wording;
mod words;

/// The example of the README, compiled and run as a test.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
#[derive(Debug)]
pub struct Readme;
