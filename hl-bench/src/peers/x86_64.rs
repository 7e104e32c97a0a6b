//! `x86_64`, its `OffsetPageTable`.

use x86_64::structures::paging::mapper::CleanUp;
use x86_64::structures::paging::{
    FrameAllocator, FrameDeallocator, Mapper, OffsetPageTable, Page, PageTable, PageTableFlags,
    PhysFrame, Size2MiB, Size4KiB, Translate,
};
use x86_64::{PhysAddr, VirtAddr};

use crate::arena::{Content, FRAMES};
use crate::subject::{Call, Subject, Table};

/// Frames from the arena.
struct Frames;

// SAFETY: the arena hands out each frame once, until it is given back.
unsafe impl FrameAllocator<Size4KiB> for Frames {
    #[inline]
    fn allocate_frame(&mut self) -> Option<PhysFrame> {
        let bus = FRAMES.take()?;
        Some(PhysFrame::containing_address(PhysAddr::new(bus as u64)))
    }
}

impl FrameDeallocator<Size4KiB> for Frames {
    #[inline]
    unsafe fn deallocate_frame(&mut self, frame: PhysFrame) {
        FRAMES.give(frame.start_address().as_u64() as usize);
    }
}

/// The `x86_64` crate.
pub(crate) struct X86;

pub(crate) struct X86Table {
    table: OffsetPageTable<'static>,
    root: usize,
}

fn flags() -> PageTableFlags {
    PageTableFlags::PRESENT | PageTableFlags::WRITABLE
}

impl Subject for X86 {
    const NAME: &'static str = "x86_64";

    fn note(call: Call) -> &'static str {
        match call {
            Call::MapRun | Call::MapList => "no such call: one call per leaf",
            Call::UnmapRun => "no such call: one call per leaf; keeps the tables",
            Call::UnmapPage => "keeps the tables",
            Call::MapPage | Call::Query => "",
        }
    }

    type Table<'a> = X86Table;

    fn with_table<T>(_content: Content, work: impl FnOnce(X86Table) -> T) -> T {
        let root = FRAMES.take_zeroed().expect("the arena is empty");
        // SAFETY: the frame is zeroed, which is a valid empty table, aligned, lives for ever, and
        // belongs to this page table alone until `close` gives it back.
        let level_4 = unsafe { &mut *FRAMES.at(root).cast::<PageTable>() };
        let offset = VirtAddr::new(FRAMES.offset() as u64);
        // SAFETY: every frame the allocator hands out lies at its bus address plus the offset.
        let table = unsafe { OffsetPageTable::new(level_4, offset) };
        work(X86Table { table, root })
    }
}

impl Table for X86Table {
    #[inline(always)]
    fn map_one<const LARGE: bool>(&mut self, device: u64, bus: u64) {
        let (at, bus) = (VirtAddr::new(device), PhysAddr::new(bus));
        if LARGE {
            let page = Page::<Size2MiB>::containing_address(at);
            let frame = PhysFrame::containing_address(bus);
            // SAFETY: no processor uses the page table, so nothing can be aliased by it.
            let flush = unsafe { self.table.map_to(page, frame, flags(), &mut Frames) };
            flush.expect("the request is sound").ignore();
        } else {
            let page = Page::<Size4KiB>::containing_address(at);
            let frame = PhysFrame::containing_address(bus);
            // SAFETY: as above.
            let flush = unsafe { self.table.map_to(page, frame, flags(), &mut Frames) };
            flush.expect("the request is sound").ignore();
        }
    }

    #[inline(always)]
    fn unmap_one<const LARGE: bool>(&mut self, device: u64) {
        let at = VirtAddr::new(device);
        if LARGE {
            let page = Page::<Size2MiB>::containing_address(at);
            let (_, flush) = self.table.unmap(page).expect("it is mapped");
            flush.ignore();
        } else {
            let page = Page::<Size4KiB>::containing_address(at);
            let (_, flush) = self.table.unmap(page).expect("it is mapped");
            flush.ignore();
        }
    }

    #[inline(always)]
    fn query(&self, device: u64) -> Option<u64> {
        let bus = self.table.translate_addr(VirtAddr::new(device));
        bus.map(PhysAddr::as_u64)
    }

    fn tables(&self) -> u32 {
        FRAMES.used()
    }

    fn close(mut self) {
        // SAFETY: the tables are used by this page table only, once each, and come from `FRAMES`.
        unsafe { self.table.clean_up(&mut Frames) };
        FRAMES.give(self.root);
    }
}
