//! The acceptance scenarios of the peers' test suites that need a whole machine, each test named after
//! its row, on each ASIC that it applies to, by the requests that a process makes.
//!
//! Where a row asks for more than a quick suite has time for, `HL_LONG_TESTS` in the environment
//! gives it that: minutes, with optimisation.

mod addresses;
mod dram;
mod endurance;
mod failures;
mod handles;
mod invalidation;
mod lengths;
mod pins;
mod rig;
mod ring;
mod threads;
