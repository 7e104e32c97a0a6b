//! What a run was about.

use core::fmt;

/// What was done while driver and model agreed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Summary {
    /// Steps carried out.
    pub steps: u64,
    /// Requests that were granted.
    pub done: u64,
    /// Requests that were refused.
    pub refused: u64,
    /// Of these, by a failure that was injected.
    pub failures: u64,
    /// Words of data compared.
    pub compared: u64,
    /// Accesses that faulted, as they should.
    pub faults: u64,
    /// Events that users read.
    pub told: u64,
    /// Files closed.
    pub files: u64,
    /// Deaths of the device.
    pub deaths: u64,
}

impl Summary {
    /// Adds another.
    pub fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        self.done += other.done;
        self.refused += other.refused;
        self.failures += other.failures;
        self.compared += other.compared;
        self.faults += other.faults;
        self.told += other.told;
        self.files += other.files;
        self.deaths += other.deaths;
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} steps: {} requests granted, {} refused ({} by injected failures), {} words compared, \
             {} faults, {} events, {} files, {} deaths of the device",
            self.steps,
            self.done,
            self.refused,
            self.failures,
            self.compared,
            self.faults,
            self.told,
            self.files,
            self.deaths
        )
    }
}
