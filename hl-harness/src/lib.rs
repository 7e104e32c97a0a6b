//! A software accelerator, a host model and the programs that prove `mmu-core` and `hl-mem` on them.
