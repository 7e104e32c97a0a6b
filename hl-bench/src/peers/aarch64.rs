//! `aarch64-paging`, never active.

use core::ptr::NonNull;

use aarch64_paging::Mapping;
use aarch64_paging::descriptor::{El1Attributes, PhysicalAddress};
use aarch64_paging::paging::{Constraints, El1And0, MemoryRegion, PageTable, Translation, VaRange};

use crate::arena::{Content, FRAMES};
use crate::subject::{Call, Subject, Table};

/// Frames from the arena.
pub(crate) struct Frames;

impl Translation<El1Attributes> for Frames {
    #[inline]
    fn allocate_table(&mut self) -> (NonNull<PageTable<El1Attributes>>, PhysicalAddress) {
        let bus = FRAMES.take_zeroed().expect("the arena is large enough");
        let bus = PhysicalAddress(bus);
        (self.physical_to_virtual(bus), bus)
    }

    #[inline]
    unsafe fn deallocate_table(&mut self, page_table: NonNull<PageTable<El1Attributes>>) {
        FRAMES.give(page_table.addr().get().wrapping_sub(FRAMES.offset()));
    }

    #[inline]
    fn physical_to_virtual(&self, pa: PhysicalAddress) -> NonNull<PageTable<El1Attributes>> {
        NonNull::new(FRAMES.at(pa.0).cast()).expect("the arena does not lie at zero")
    }
}

/// The `aarch64-paging` crate.
pub(crate) struct Aarch64;

pub(crate) struct Aarch64Table(Mapping<Frames, El1And0>);

impl Subject for Aarch64 {
    const NAME: &'static str = "aarch64-paging";

    fn note(call: Call) -> &'static str {
        match call {
            Call::MapPage | Call::MapRun => "overwrites what is mapped",
            Call::MapList => "no such call: one call per page; overwrites what is mapped",
            Call::UnmapPage => "does not check that it is mapped; keeps the tables",
            Call::UnmapRun => "does not check that it is mapped; keeps tables not covered whole",
            Call::Query => "a visitor; there is no query call",
        }
    }

    type Table<'a> = Aarch64Table;

    fn with_table<T>(_content: Content, work: impl FnOnce(Aarch64Table) -> T) -> T {
        let table = Mapping::with_asid_and_va_range(Frames, 1, 0, El1And0, VaRange::Lower);
        work(Aarch64Table(table))
    }
}

impl Aarch64Table {
    #[inline(always)]
    fn set<const LARGE: bool>(&mut self, device: u64, bus: u64, len: u64, flags: El1Attributes) {
        let region = MemoryRegion::new(device as usize, (device + len) as usize);
        let constraints = if LARGE {
            Constraints::NO_CONTIGUOUS_HINT
        } else {
            Constraints::NO_CONTIGUOUS_HINT | Constraints::NO_BLOCK_MAPPINGS
        };
        self.0
            .map_range(&region, PhysicalAddress(bus as usize), flags, constraints)
            .expect("the request is sound");
    }
}

impl Table for Aarch64Table {
    #[inline(always)]
    fn map_one<const LARGE: bool>(&mut self, device: u64, bus: u64) {
        let len = crate::subject::leaf::<LARGE>().bytes();
        self.map_run::<LARGE>(device, bus, len);
    }

    #[inline(always)]
    fn map_run<const LARGE: bool>(&mut self, device: u64, bus: u64, len: u64) {
        let flags = El1Attributes::VALID
            | El1Attributes::ACCESSED
            | El1Attributes::NON_GLOBAL
            | El1Attributes::ATTRIBUTE_INDEX_1;
        self.set::<LARGE>(device, bus, len, flags);
    }

    #[inline(always)]
    fn unmap_one<const LARGE: bool>(&mut self, device: u64) {
        self.unmap_run::<LARGE>(device, crate::subject::leaf::<LARGE>().bytes());
    }

    #[inline(always)]
    fn unmap_run<const LARGE: bool>(&mut self, device: u64, len: u64) {
        // Large leaves may be used to unmap even where small ones are mapped: that is how a table
        // goes as a whole.
        self.set::<true>(device, 0, len, El1Attributes::empty());
    }

    #[inline(always)]
    fn query(&self, device: u64) -> Option<u64> {
        let page = device & !0xFFF;
        let region = MemoryRegion::new(page as usize, (page + 0x1000) as usize);
        let mut found = None;
        self.0
            .walk_range(&region, &mut |_, descriptor, level| {
                if descriptor.is_valid() {
                    let mask = (1_u64 << (39 - 9 * level)) - 1;
                    let start = descriptor.output_address().0 as u64;
                    found = Some((start & !mask) | (device & mask));
                }
                Ok(())
            })
            .expect("the address is in range");
        found
    }

    fn tables(&self) -> u32 {
        FRAMES.used()
    }

    fn close(self) {}
}
