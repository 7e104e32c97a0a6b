//! The one entry for every check of this workspace.
fn main() {}
