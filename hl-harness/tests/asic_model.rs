//! The software ASIC against page tables written by hand, byte by byte: nothing of `mmu-core` is used
//! except its address types, so that what the device does is known before it judges anybody.

#[path = "asic_model/dma.rs"]
mod dma;
#[path = "asic_model/engines.rs"]
mod engines;
#[path = "asic_model/invalidation.rs"]
mod invalidation;
#[path = "asic_model/registers.rs"]
mod registers;
#[path = "asic_model/rig.rs"]
mod rig;
#[path = "asic_model/walks.rs"]
mod walks;
