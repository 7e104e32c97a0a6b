//! `hl-mem` on bare metal: no operating system, no allocator, all storage static.
//!
//! [`port`] is what a firmware engineer writes; [`device`] stands in for the hardware he has, and is
//! no part of a port. [`flow`] uses both: it runs the founding flow, the refusals and the
//! exhaustion of table memory, and logs each step.

#![no_std]

pub mod device;
pub mod flow;
pub mod memory;
pub mod port;
