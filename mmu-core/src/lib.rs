//! Page tables for accelerators.
#![cfg_attr(not(test), no_std)]
#![deny(unsafe_code)]

pub mod addr;
mod sync;

pub use addr::{AddrRange, Address, BusAddr, DeviceAddr, Run};
