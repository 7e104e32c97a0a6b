//! Tests of the crate through its public interface, each for every format it makes sense for.
#![expect(
    clippy::duplicate_mod,
    reason = "the same tests run on several kinds of table memory"
)]

mod allocation;
mod answers;
mod beside_default;
mod boundaries;
mod bus;
mod common;
mod corruption;
mod default;
mod dump;
mod edges;
mod misaligned;
mod over_a_bus;
mod over_split_words;
mod properties;
mod protect;
mod regions;
mod scenarios;
mod split;
mod strangers;
mod uneven;
mod visit;
mod work;
