//! The tests that do not look into the pool, once more over tables behind a bus.

/// What the tests share, with another pool.
pub(crate) mod common {
    pub(crate) use crate::common::device::{Memory, Pool, Table};
    pub(crate) use crate::common::*;

    pub(crate) mod operations {
        pub(crate) use crate::common::operations::{
            Bus, Lengths, Operation, drive_on_device as drive,
        };
    }
}

#[path = "allocation.rs"]
mod allocation;
#[path = "boundaries.rs"]
mod boundaries;
#[path = "dump.rs"]
mod dump;
#[path = "edges.rs"]
mod edges;
#[path = "properties.rs"]
mod properties;
#[path = "protect.rs"]
mod protect;
#[path = "scenarios.rs"]
mod scenarios;
#[path = "split.rs"]
mod split;
#[path = "visit.rs"]
mod visit;
