//! `page_table_multiarch`.

use memory_addr::{PhysAddr, VirtAddr};
use page_table_multiarch::x86_64::X64PageTable;
use page_table_multiarch::{MappingFlags, PageSize, PagingHandler};

use mmu_core::BusAddr;

use crate::arena::{Content, FRAMES};
use crate::subject::{Call, Subject, Table};

/// Frames from the arena.
pub(crate) struct Handler;

impl PagingHandler for Handler {
    #[inline]
    fn alloc_frames(num: usize, _align: usize) -> Option<PhysAddr> {
        assert_eq!(num, 1, "tables are one frame each");
        FRAMES.take().map(PhysAddr::from)
    }

    #[inline]
    fn dealloc_frames(paddr: PhysAddr, _num: usize) {
        FRAMES.give(paddr.as_usize());
    }

    #[inline]
    fn phys_to_virt(paddr: PhysAddr) -> VirtAddr {
        VirtAddr::from(FRAMES.at(paddr.as_usize()).addr())
    }
}

/// `page_table_multiarch` with its x86-64 format.
pub(crate) struct Multiarch;

pub(crate) struct MultiarchTable(X64PageTable<Handler>);

fn flags() -> MappingFlags {
    MappingFlags::READ | MappingFlags::WRITE
}

const fn size<const LARGE: bool>() -> PageSize {
    if LARGE {
        PageSize::Size2M
    } else {
        PageSize::Size4K
    }
}

impl Subject for Multiarch {
    const NAME: &'static str = "page_table_multiarch";

    fn note(call: Call) -> &'static str {
        match call {
            Call::MapRun | Call::MapList => "not all or nothing",
            Call::UnmapPage | Call::UnmapRun => "keeps the tables",
            Call::MapPage | Call::Query => "",
        }
    }

    type Table<'a> = MultiarchTable;

    fn with_table<T>(_content: Content, work: impl FnOnce(MultiarchTable) -> T) -> T {
        let table = X64PageTable::try_new().expect("the arena is empty");
        work(MultiarchTable(table))
    }
}

impl Table for MultiarchTable {
    #[inline(always)]
    fn map_one<const LARGE: bool>(&mut self, device: u64, bus: u64) {
        self.0
            .cursor()
            .map(
                VirtAddr::from(device as usize),
                PhysAddr::from(bus as usize),
                size::<LARGE>(),
                flags(),
            )
            .expect("the request is sound");
    }

    #[inline(always)]
    fn map_run<const LARGE: bool>(&mut self, device: u64, bus: u64, len: u64) {
        let bus_of = |at: VirtAddr| PhysAddr::from(at.as_usize() - device as usize + bus as usize);
        self.0
            .cursor()
            .map_region(
                VirtAddr::from(device as usize),
                bus_of,
                len as usize,
                flags(),
                LARGE,
            )
            .expect("the request is sound");
    }

    #[inline(always)]
    fn map_list(&mut self, device: u64, pages: &[BusAddr]) {
        let bus_of = |at: VirtAddr| {
            PhysAddr::from(pages[(at.as_usize() - device as usize) >> 12].get() as usize)
        };
        self.0
            .cursor()
            .map_region(
                VirtAddr::from(device as usize),
                bus_of,
                pages.len() << 12,
                flags(),
                false,
            )
            .expect("the request is sound");
    }

    #[inline(always)]
    fn unmap_one<const LARGE: bool>(&mut self, device: u64) {
        self.0
            .cursor()
            .unmap(VirtAddr::from(device as usize))
            .expect("it is mapped");
    }

    #[inline(always)]
    fn unmap_run<const LARGE: bool>(&mut self, device: u64, len: u64) {
        self.0
            .cursor()
            .unmap_region(VirtAddr::from(device as usize), len as usize)
            .expect("it is mapped");
    }

    #[inline(always)]
    fn query(&self, device: u64) -> Option<u64> {
        let found = self.0.query(VirtAddr::from(device as usize));
        found.ok().map(|(bus, _, _)| bus.as_usize() as u64)
    }

    fn tables(&self) -> u32 {
        FRAMES.used()
    }

    fn close(self) {}
}
