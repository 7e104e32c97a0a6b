//! The founding flow, step by step, on each ASIC: blocks, handles, views, user memory, teardown.

mod blocks;
mod default_page;
mod dram;
mod endings;
mod failures;
mod kinds;
mod privilege;
mod rig;
mod spaces;
mod user;
mod windows;
