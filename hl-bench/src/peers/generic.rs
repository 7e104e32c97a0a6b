//! `page-table-generic`, with an entry like x86-64's, since it brings none.

use page_table_generic::{
    FrameAllocator, MapConfig, PageTable, PageTableEntry, PhysAddr, TableMeta, VirtAddr,
};

use mmu_core::BusAddr;

use crate::arena::{Content, FRAMES};
use crate::subject::{Call, Subject, Table, leaf};

/// Frames from the arena.
#[derive(Clone, Copy)]
pub(crate) struct Frames;

impl FrameAllocator for Frames {
    #[inline]
    fn alloc_frame(&self) -> Option<PhysAddr> {
        FRAMES.take().map(PhysAddr::from_usize)
    }

    #[inline]
    fn dealloc_frame(&self, frame: PhysAddr) {
        FRAMES.give(frame.as_usize());
    }

    #[inline]
    fn phys_to_virt(&self, paddr: PhysAddr) -> *mut u8 {
        FRAMES.at(paddr.as_usize())
    }
}

/// Present, writable, and "large" in bit 7.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub(crate) struct Entry(u64);

const PRESENT: u64 = 1;
const WRITABLE: u64 = 2;
const LARGE_LEAF: u64 = 1 << 7;
const ADDRESS: u64 = 0x000F_FFFF_FFFF_F000;

impl PageTableEntry for Entry {
    /// The bits of a leaf besides its address.
    type PteConfig = u64;

    #[inline]
    fn new_page(paddr: PhysAddr, config: u64, is_huge: bool) -> Self {
        let large = if is_huge { LARGE_LEAF } else { 0 };
        Self(paddr.as_usize() as u64 & ADDRESS | config | large)
    }

    #[inline]
    fn new_table(paddr: PhysAddr) -> Self {
        Self(paddr.as_usize() as u64 & ADDRESS | PRESENT | WRITABLE)
    }

    #[inline]
    fn paddr(&self, _is_dir: bool) -> PhysAddr {
        PhysAddr::from_usize((self.0 & ADDRESS) as usize)
    }

    #[inline]
    fn config(&self, _is_dir: bool) -> u64 {
        self.0 & (PRESENT | WRITABLE)
    }

    #[inline]
    fn present(&self) -> bool {
        self.0 & PRESENT != 0
    }

    #[inline]
    fn huge(&self, is_dir: bool) -> bool {
        is_dir && self.0 & LARGE_LEAF != 0
    }

    #[inline]
    fn unused(&self) -> bool {
        self.0 == 0
    }

    #[inline]
    fn clear(&mut self) {
        self.0 = 0;
    }
}

/// Four levels of nine bits.
#[derive(Clone, Copy)]
pub(crate) struct Meta;

impl TableMeta for Meta {
    type P = Entry;
    const PAGE_SIZE: usize = 4096;
    const LEVEL_BITS: &[usize] = &[9, 9, 9, 9];
    const MAX_BLOCK_LEVEL: usize = 3;

    #[inline]
    fn flush(_vaddr: Option<VirtAddr>) {}
}

/// The `page-table-generic` crate.
pub(crate) struct Generic;

pub(crate) struct GenericTable(PageTable<Meta, Frames>);

impl Subject for Generic {
    const NAME: &'static str = "page-table-generic";

    fn note(call: Call) -> &'static str {
        match call {
            Call::MapRun => "not all or nothing",
            Call::UnmapPage | Call::UnmapRun => "does not check that all is mapped",
            Call::MapPage | Call::MapList | Call::Query => "",
        }
    }

    type Table<'a> = GenericTable;

    fn with_table<T>(_content: Content, work: impl FnOnce(GenericTable) -> T) -> T {
        let table = PageTable::new(Frames);
        work(GenericTable(table.expect("the arena is empty")))
    }
}

impl Table for GenericTable {
    #[inline(always)]
    fn map_one<const LARGE: bool>(&mut self, device: u64, bus: u64) {
        self.0
            .map_page(
                VirtAddr::from_usize(device as usize),
                PhysAddr::from_usize(bus as usize),
                leaf::<LARGE>().bytes() as usize,
                PRESENT | WRITABLE,
            )
            .expect("the request is sound");
    }

    #[inline(always)]
    fn map_run<const LARGE: bool>(&mut self, device: u64, bus: u64, len: u64) {
        self.0
            .map(&MapConfig {
                vaddr: VirtAddr::from_usize(device as usize),
                paddr: PhysAddr::from_usize(bus as usize),
                size: len as usize,
                pte: PRESENT | WRITABLE,
                allow_huge: LARGE,
                flush: true,
            })
            .expect("the request is sound");
    }

    #[inline(always)]
    fn map_list(&mut self, device: u64, pages: &[BusAddr]) {
        let bus_of = |at: VirtAddr| {
            PhysAddr::from_usize(pages[(at.as_usize() - device as usize) >> 12].get() as usize)
        };
        self.0
            .map_region(
                VirtAddr::from_usize(device as usize),
                bus_of,
                pages.len() << 12,
                PRESENT | WRITABLE,
            )
            .expect("the request is sound");
    }

    #[inline(always)]
    fn unmap_one<const LARGE: bool>(&mut self, device: u64) {
        self.0
            .unmap_page(VirtAddr::from_usize(device as usize))
            .expect("it is mapped");
    }

    #[inline(always)]
    fn unmap_run<const LARGE: bool>(&mut self, device: u64, len: u64) {
        self.0
            .unmap(VirtAddr::from_usize(device as usize), len as usize)
            .expect("it is mapped");
    }

    #[inline(always)]
    fn query(&self, device: u64) -> Option<u64> {
        let found = self.0.query(VirtAddr::from_usize(device as usize));
        found.ok().map(|(bus, _, _)| bus.as_usize() as u64)
    }

    fn tables(&self) -> u32 {
        FRAMES.used()
    }

    fn close(self) {}
}
