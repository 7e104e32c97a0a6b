//! The port: what `hl-mem` asks of a firmware, and nothing else.

mod host;
mod parts;
mod storage;

pub use host::{BlockPages, PageList, StaticHost, USER_BASE, ViewMemory};
pub use parts::{EngineControl, FirmwarePort, NoDram, Tables};
pub use storage::{
    Chip, FileStorage, FirmwareContext, FirmwareDevice, FirmwareView, MAPPINGS, Machine, bring_up,
};
