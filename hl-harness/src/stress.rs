//! Long random work compared with an independent model, and what such comparisons need.

mod snapshot;

pub use snapshot::{Snapshot, TableBytes, scrubber, tables_of};
