//! The memory of this machine: page tables, pages of the kernel, pages of the user, all static.
//!
//! A bus address is the address that the processor uses: there is no I/O MMU between them.

use core::sync::atomic::AtomicU32;

use mmu_core::{BusAddr, SplitWord};

/// Bytes in a page, and in a table.
pub const PAGE_BYTES: usize = 4096;
/// 32-bit words in a page.
pub const PAGE_WORDS: usize = PAGE_BYTES / 4;
/// Tables of the whole device.
pub const TABLES: usize = 22;
/// Pages of the kernel.
pub const KERNEL_PAGES: usize = 12;
/// Pages of the user.
pub const USER_PAGES: usize = 6;

/// Entries of all tables.
#[derive(Debug)]
#[repr(C, align(4096))]
pub struct Tables([[SplitWord; 512]; TABLES]);

/// Pages that processor and device both write, word by word.
#[derive(Debug)]
#[repr(C, align(4096))]
pub struct Pages<const COUNT: usize>([[AtomicU32; PAGE_WORDS]; COUNT]);

/// The page tables.
pub static TABLE_MEMORY: Tables = Tables([const { [const { SplitWord::new() }; 512] }; TABLES]);
/// What kernel pages are allocated from.
pub static KERNEL_MEMORY: Pages<KERNEL_PAGES> = Pages::new();
/// What the user has, at addresses of his own.
pub static USER_MEMORY: Pages<USER_PAGES> = Pages::new();

impl Tables {
    /// The tables, as `mmu-core` writes them.
    pub fn tables(&self) -> &[[SplitWord; 512]] {
        &self.0
    }

    /// Where the device finds them.
    pub fn address(&self) -> BusAddr {
        BusAddr::new(self.0.as_ptr().addr() as u64)
    }

    /// The tables, as the device reads them: bytes, by no code of `mmu-core`.
    pub fn words(&self) -> &[AtomicU32] {
        let words = self.0.as_flattened();
        // SAFETY: the pointer comes from a reference to `words`, which stays borrowed. A `SplitWord`
        // is `repr(C)` with two `AtomicU32` and nothing else, so that there are twice as many,
        // without gaps, aligned, initialised, and shared as atomics in either view.
        unsafe { core::slice::from_raw_parts(words.as_ptr().cast::<AtomicU32>(), words.len() * 2) }
    }
}

impl<const COUNT: usize> Pages<COUNT> {
    const fn new() -> Self {
        Self([const { [const { AtomicU32::new(0) }; PAGE_WORDS] }; COUNT])
    }

    /// The words of a page.
    pub fn page(&self, number: usize) -> Option<&[AtomicU32; PAGE_WORDS]> {
        self.0.get(number)
    }

    /// Where the device finds a page.
    pub fn address(&self, number: usize) -> BusAddr {
        BusAddr::new((self.0.as_ptr().addr() + number * PAGE_BYTES) as u64)
    }
}

/// The word at a bus address, as the device reaches it; `None` where there is no memory.
pub fn word(at: u64) -> Option<&'static AtomicU32> {
    let pieces = [
        TABLE_MEMORY.words(),
        KERNEL_MEMORY.0.as_flattened(),
        USER_MEMORY.0.as_flattened(),
    ];
    pieces.into_iter().find_map(|words| {
        let offset = at.checked_sub(words.as_ptr().addr() as u64)?;
        words.get(usize::try_from(offset / 4).ok()?)
    })
}
