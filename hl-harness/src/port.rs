//! The first port: what `hl-mem` asks of an operating system and a device, answered by the host
//! model and the software ASIC.
//!
//! A port of one's own begins by reading this folder: each file is one trait.

mod engines;
mod host;
mod interrupts;
mod registers;
mod tables;

pub use engines::{EngineStuck, HarnessEngines, Running};
pub use host::{BlockMapping, HarnessHost, KernelWords, PinnedFrames};
pub use interrupts::counter_interrupt;
pub use registers::AsicRegisters;
pub use tables::{DramTables, HostWord, HostWords};
