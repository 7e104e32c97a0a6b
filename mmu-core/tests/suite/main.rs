//! Tests of the crate through its public interface, each for every format it makes sense for.

mod allocation;
mod boundaries;
mod common;
mod corruption;
mod dump;
mod edges;
mod over_a_bus;
mod properties;
mod protect;
mod scenarios;
mod split;
mod visit;
mod work;
