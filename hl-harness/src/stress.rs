//! Long random work compared with an independent model, and what such comparisons need.
//!
//! * [`Operation`] and [`Step`]: what users do and what fails meanwhile, as numbers that mean something
//!   in whatever state they meet, so that a list of steps stays a list of steps when some are left out.
//! * [`Model`]: what the documentation says becomes of it, in flat maps and lists.
//! * [`run`](fn@run): both together, with every answer, every counter and every byte of data compared.
//! * [`Disagreement`]: where they part; [`shrink`](fn@shrink): the shortest list of steps that leads to
//!   the same one.
//! * [`as_scenario`] and [`reproducer`](fn@reproducer): a run and a disagreement as scenario files.
//! * [`Snapshot`]: everything comparable of a machine, for tests that fail one thing at a time.

mod command;
mod disagreement;
mod model;
mod operations;
mod reproducer;
mod run;
mod scribe;
mod shrink;
mod snapshot;

pub use command::{StressOptions, main};
pub use disagreement::Disagreement;
pub use model::{Memory, Model, PageName, Rules};
pub use operations::{Failure, Kind, Operation, Place, Step, steps};
pub use reproducer::reproducer;
pub use run::{Summary, USERS, run};
pub use scribe::as_scenario;
pub use shrink::shrink;
pub use snapshot::{Snapshot, TableBytes, tables_of};
