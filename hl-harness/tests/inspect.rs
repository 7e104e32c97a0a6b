//! Inspection: what the commands show is what the machine has.

#[path = "inspect/history.rs"]
mod history;
