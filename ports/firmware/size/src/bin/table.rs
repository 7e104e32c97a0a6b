//! Map, unmap and query of one format, and what they need: how much code that is.

#![no_std]
#![no_main]

use core::hint::black_box;

use hl_firmware_size::{any, used};
use mmu_core::format::Gaudi2Pmmu;
use mmu_core::{
    AddrRange, BusAddr, DeviceAddr, MapOptions, PageTable, Region, Run, SplitWord, TablePool,
};
use spin::mutex::SpinMutex;

type Table<'a> = PageTable<Gaudi2Pmmu, &'a TablePool<'a, Region<'a, SplitWord>, SpinMutex<()>>>;

#[inline(never)]
fn map(table: &mut Table<'_>) {
    if let Some(run) = Run::new(BusAddr::new(any()), any()) {
        used(table.map(DeviceAddr::new(any()), run, &MapOptions::default()));
    }
}

#[inline(never)]
fn unmap(table: &mut Table<'_>) {
    if let Some(range) = AddrRange::new(DeviceAddr::new(any()), any()) {
        used(table.unmap(range));
    }
}

#[inline(never)]
fn query(table: &Table<'_>) {
    used(table.query(DeviceAddr::new(any())));
}

/// The entry, which has the linker keep the three.
#[unsafe(no_mangle)]
extern "C" fn _start() {
    let table = core::ptr::without_provenance_mut::<Table<'_>>(any() as usize);
    // SAFETY: the image is never run; for the compiler a page table is there.
    let table = black_box(unsafe { &mut *table });
    map(table);
    unmap(table);
    query(table);
}
