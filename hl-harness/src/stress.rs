//! Long random work compared with an independent model, and what such comparisons need.

mod reset;
mod snapshot;

pub use reset::{reset, scrubber};
pub use snapshot::{Snapshot, TableBytes, tables_of};
