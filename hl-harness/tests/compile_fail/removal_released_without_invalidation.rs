//! The tables in a removal come out only through a confirmed invalidation, and once.
use mmu_core::{Invalidate, Removed, TableMemory};

fn release<M: TableMemory>(memory: M, removed: Removed<M>) {
    memory.release(removed.tables);
}

fn twice<M: TableMemory, I: Invalidate>(removed: Removed<M>, mmu: &mut I) {
    let _ = removed.confirm(mmu);
    let _ = removed.confirm(mmu);
}

fn main() {}
