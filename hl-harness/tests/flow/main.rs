//! The founding flow, step by step, on each ASIC: blocks, handles, views, user memory, teardown.

mod blocks;
mod command_buffers;
mod default_page;
mod dram;
mod endings;
mod events;
mod exports;
mod failures;
mod privilege;
mod registers;
mod rig;
mod spaces;
mod storage;
mod timestamps;
mod user;
mod views;
mod windows;
