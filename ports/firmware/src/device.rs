//! The hardware that this machine does not have: the PMMU of a Gaudi2, and an engine behind it.
//!
//! Written from the description of the hardware, with nothing of `mmu-core` or `hl-mem` but the
//! address types and the ring, so that each checks the other.

mod engine;
mod pmmu;

pub use engine::{DeviceBlock, Engine};
#[cfg(feature = "planted-fault")]
pub use pmmu::damage;
pub use pmmu::{Pmmu, PmmuCounters, TranslationFault};

/// The one PMMU.
pub static PMMU: Pmmu = Pmmu::new();
/// The one engine.
pub static ENGINE: Engine = Engine::new();
