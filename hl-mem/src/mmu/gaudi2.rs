//! The MMUs of Gaudi2 (facts 9.3): one for host memory, sixteen for device memory.

mod dram;
mod host;
mod instance;

pub use dram::{Gaudi2DramMmu, Gaudi2DramRegisters};
pub use host::{Gaudi2HostMmu, Gaudi2HostMmu64K, Gaudi2HostRegisters, PmmuFormat};
