//! Memory management of an accelerator driver.
#![cfg_attr(not(test), no_std)]
#![deny(unsafe_code)]

pub mod ring;
mod sync;
pub mod va;
pub mod budget;
pub mod dram;
pub mod handle;

mod identity;
mod owner;
mod sync;

pub use owner::Owner;
