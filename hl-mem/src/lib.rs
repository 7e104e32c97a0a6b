//! Memory management of an accelerator driver.
#![cfg_attr(not(test), no_std)]
#![deny(unsafe_code)]

pub mod ring;
mod sync;
pub mod va;
