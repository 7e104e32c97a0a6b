//! Every operation with every failure that it can meet: first the first occasion fails, then the second
//! one, and so on until none is left. After each failure everything comparable is as it was before, or
//! in quarantine where the documentation says so and as it was once that is settled; and a retry does
//! what would have been done.

mod capacity;
mod creations;
mod occasions;
mod opening;
mod rig;
mod snapshots;
mod teardown;
mod windows;
