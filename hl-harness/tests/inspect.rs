//! Inspection: what the commands show is what the machine has.

#[path = "inspect/command.rs"]
mod command;
#[path = "inspect/dump.rs"]
mod dump;
#[path = "inspect/history.rs"]
mod history;
#[path = "inspect/pictures.rs"]
mod pictures;
#[path = "inspect/rig.rs"]
mod rig;
#[path = "inspect/state.rs"]
mod state;
#[path = "inspect/walk.rs"]
mod walk;
