//! Memory management of an accelerator driver.
#![cfg_attr(not(test), no_std)]
#![deny(unsafe_code)]

pub mod asid;
pub mod mmu;
pub mod profile;
