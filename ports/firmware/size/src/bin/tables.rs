//! `mmu-core`: every function of a page table, for every format, over both kinds of memory.

#![no_std]
#![no_main]

use core::hint::black_box;

use hl_firmware_size::{any, opaque, slice, used};
use mmu_core::format::{Gaudi2Hmmu, Gaudi2Pmmu, Gaudi2Pmmu64K, Hop, V1, X86_64, leaf_bytes};
use mmu_core::{
    AddrRange, BusAddr, ChildMap, DefaultTables, DeviceAddr, DeviceLost, DeviceTablePool,
    DeviceTableRecord, Format, Invalidate, LeafSizes, MapOptions, PageTable, Permissions, Region,
    Removed, ReuseOrder, Run, SplitWord, Stale, TableBus, TableMemory, TablePool, TableRecord,
};
use spin::mutex::SpinMutex;

struct Bus;

impl TableBus for Bus {
    fn write(&self, address: BusAddr, entries: impl Iterator<Item = u64>) {
        used(address);
        entries.for_each(used);
    }

    fn read(&self, address: BusAddr) -> u64 {
        used(address);
        any()
    }

    fn flush(&self) -> Result<(), DeviceLost> {
        if any() == 0 { Err(DeviceLost) } else { Ok(()) }
    }
}

struct Mmu;

// SAFETY: the image is never run.
unsafe impl Invalidate for Mmu {
    type Error = ();

    fn invalidate(&mut self, stale: &Stale) -> Result<(), ()> {
        used(stale.root);
        if any() == 0 { Err(()) } else { Ok(()) }
    }
}

fn range() -> Option<AddrRange<DeviceAddr>> {
    AddrRange::new(DeviceAddr::new(any()), any())
}

fn run() -> Option<Run> {
    Run::new(BusAddr::new(any()), any())
}

fn confirm<M: TableMemory>(mut removed: Removed<M>, other: Removed<M>) {
    used(removed.stale().extent);
    used(removed.tables());
    if let Err(other) = removed.absorb(other) {
        used(other);
    }
    match removed.confirm(&mut Mmu) {
        Ok(()) => {}
        Err(refused) => used(refused.into_parts()),
    }
}

fn every_call<F: Format<Attributes: Default>, M: TableMemory + 'static>(memory: M) -> Option<()> {
    if let Ok(Some(table)) = PageTable::<F, M>::new(memory) {
        used(table);
    }
    let table = opaque::<PageTable<F, M>>();
    let hop = Hop::new(any() as u8)?;
    used((
        table.root(),
        table.flush(),
        table.is_empty(),
        leaf_bytes::<F>(hop),
    ));
    let options = MapOptions {
        sizes: LeafSizes::at(hop).or(LeafSizes::smallest::<F>()),
        attributes: F::Attributes::default(),
    };
    used(table.map(DeviceAddr::new(any()), run()?, &options));
    let runs = (0..any()).map_while(|_| run());
    used(table.map_list(range()?, runs, &options));
    used(table.map_pages(range()?, slice::<BusAddr>(), &options));
    used(table.default_range());
    used(table.query(DeviceAddr::new(any())));
    for mapped in table.runs(range()?) {
        used(mapped);
    }
    if let (Ok(a), Ok(b)) = (table.unmap(range()?), table.split(DeviceAddr::new(any()))) {
        confirm(a, b);
    }
    confirm(table.sweep(range()?), table.sweep_all());
    confirm(table.wipe(), table.wipe());
    // SAFETY: the image is never run.
    used(unsafe { core::ptr::read(table) }.close());
    Some(())
}

fn defaults<F: Format<Attributes: Default>, M: DefaultTables + 'static>() -> Option<()> {
    let table = opaque::<PageTable<F, M>>();
    let (hop, page) = (Hop::new(any() as u8)?, BusAddr::new(any()));
    used(table.set_default(range()?, hop, page, F::Attributes::default()));
    used(table.remove_default());
    Some(())
}

fn protect<F: Permissions<Attributes: Default>, M: TableMemory + 'static>() -> Option<()> {
    let table = opaque::<PageTable<F, M>>();
    used(table.protect(range()?, F::Attributes::default()));
    Some(())
}

fn every_format<M: TableMemory + 'static>(memory: M) {
    used(every_call::<V1, M>(memory));
    used(every_call::<Gaudi2Pmmu, M>(memory));
    used(every_call::<Gaudi2Pmmu64K, M>(memory));
    used(every_call::<Gaudi2Hmmu<6>, M>(memory));
    used(every_call::<Gaudi2Hmmu<5>, M>(memory));
    used(every_call::<X86_64<4>, M>(memory));
    used(every_call::<X86_64<5>, M>(memory));
    used(protect::<X86_64<4>, M>());
}

fn addresses() -> Option<()> {
    let (a, b) = (black_box(range()?), black_box(range()?));
    used((
        a.start(),
        a.len(),
        a.last(),
        a.end(),
        a.contains(b.start()),
        a.contains_range(b),
    ));
    used((a.overlaps(b), a.hull(b), a.intersection(b), a.skip(any())));
    let at = a.start();
    used((
        at.checked_add(any()),
        at.offset_from(b.start()),
        at.is_multiple_of(any()),
    ));
    Some(())
}

/// Calls everything.
#[unsafe(no_mangle)]
extern "C" fn _start() {
    used(addresses());
    if let Some(region) = Region::<SplitWord>::new(slice(), BusAddr::new(any())) {
        let records = slice::<TableRecord>();
        let pool = TablePool::<_, SpinMutex<()>>::new(region, records, ReuseOrder::FirstReleased);
        used(pool);
    }
    let pool = opaque::<TablePool<'static, Region<'static, SplitWord>, SpinMutex<()>>>();
    used((pool.usage().used(), pool.arena()));
    every_format(&*pool);
    let (records, maps) = (slice::<DeviceTableRecord>(), slice::<ChildMap>());
    let at = BusAddr::new(any());
    let order = ReuseOrder::LastReleased;
    used(DeviceTablePool::<_, SpinMutex<()>>::new(
        Bus, at, records, maps, order,
    ));
    used((
        DeviceTableRecord::new(),
        ChildMap::new(),
        TableRecord::new(),
    ));
    let pool = opaque::<DeviceTablePool<'static, Bus, SpinMutex<()>>>();
    used((pool.usage(), pool.map_usage(), pool.bus()));
    used(defaults::<V1, &DeviceTablePool<'static, Bus, SpinMutex<()>>>());
    every_format(&*pool);
}
