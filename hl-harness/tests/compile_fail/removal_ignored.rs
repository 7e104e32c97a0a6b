//! What was removed cannot be forgotten silently.
#![deny(unused_must_use)]
use mmu_core::{AddrRange, DeviceAddr, Format, PageTable, TableMemory};

fn sweep<F: Format, M: TableMemory>(table: &mut PageTable<F, M>, range: AddrRange<DeviceAddr>) {
    table.sweep(range);
}

fn main() {}
