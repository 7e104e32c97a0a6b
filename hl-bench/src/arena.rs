//! The one piece of memory that all contestants keep their tables in, its frame allocator, and
//! the floor: what it costs to store that many words there at all.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::{ptr, slice};

use mmu_core::BusAddr;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous};

/// Bytes in a table of every contestant.
const TABLE_BYTES: usize = 4096;

/// Tables in the arena: 16 MiB.
pub(crate) const TABLES: usize = 4096;

/// More tables than any row uses.
const DIRTY_TABLES: usize = 640;

/// Words in a table.
pub(crate) const WORDS: usize = 512;

/// The bus address of the first table: lower than any virtual one, since `x86_64` can only add
/// its offset. Contestants get the offset from memory, as a kernel does.
const BUS_BASE: usize = 0x10_0000;

const HUGE_PAGE: usize = 2 << 20;

/// So many words of zero, all of them touched and for as long as the program runs, on huge pages where
/// the system has any: a kernel's view of memory is on such pages.
pub(crate) fn huge_words(count: usize) -> Result<&'static [AtomicU64], rustix::io::Errno> {
    let len = count * size_of::<AtomicU64>();
    // SAFETY: no address is asked for, so no existing mapping can be replaced.
    let mapped = unsafe {
        mmap_anonymous(
            ptr::null_mut(),
            len + HUGE_PAGE,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE,
        )?
    };
    let base = mapped.addr().next_multiple_of(HUGE_PAGE);
    let start = mapped.map_addr(|_| base);
    // SAFETY: `start..start + len` lies in the mapping, which is a page larger than `len`.
    // Whether the advice is taken changes times, not results, so a refusal is of no interest.
    let _ = unsafe { madvise(start, len, Advice::LinuxHugepage) };
    // SAFETY: `start` is aligned, and `count` words from there on lie in the mapping, which is never
    // unmapped, holds zeros, which are words, and is used by nobody else.
    let words = unsafe { slice::from_raw_parts(start.cast::<AtomicU64>(), count) };
    for word in words {
        word.store(0, Ordering::Relaxed);
    }
    Ok(words)
}

/// What is in the arena before a part of a round.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Content {
    /// What is no valid entry of any format, so that a table which is neither zeroed nor filled
    /// shows.
    Dirty,
    /// Zeros, and everybody who can be told is told.
    Zero,
}

/// A bump allocator with a last-in-first-out free list, without a lock: one thread runs.
///
/// The atomics are a way to have a mutable static without a race that the compiler must fear;
/// relaxed loads and stores are plain moves.
pub(crate) struct Frames {
    /// What is added to a bus address to get a virtual one, modulo 2^64.
    offset: AtomicUsize,
    /// Whether frames that were never taken hold nothing but zeros.
    zeroed: AtomicBool,
    unused: AtomicU32,
    freed_count: AtomicUsize,
    freed: [AtomicU32; TABLES],
}

pub(crate) static FRAMES: Frames = Frames {
    offset: AtomicUsize::new(0),
    zeroed: AtomicBool::new(false),
    unused: AtomicU32::new(0),
    freed_count: AtomicUsize::new(0),
    freed: [const { AtomicU32::new(0) }; TABLES],
};

impl Frames {
    /// Maps the arena.
    pub(crate) fn set_up(&self) -> Result<(), rustix::io::Errno> {
        let words = huge_words(TABLES * WORDS)?;
        self.offset.store(
            words.as_ptr().expose_provenance().wrapping_sub(BUS_BASE),
            Ordering::Relaxed,
        );
        Ok(())
    }

    /// Takes a frame, of any content. Returns its bus address.
    #[inline]
    pub(crate) fn take(&self) -> Option<usize> {
        let freed = self.freed_count.load(Ordering::Relaxed);
        let frame = if let Some(last) = freed.checked_sub(1) {
            self.freed_count.store(last, Ordering::Relaxed);
            self.freed[last].load(Ordering::Relaxed)
        } else {
            let frame = self.unused.load(Ordering::Relaxed);
            if frame as usize == TABLES {
                return None;
            }
            self.unused.store(frame + 1, Ordering::Relaxed);
            frame
        };
        Some(BUS_BASE + frame as usize * TABLE_BYTES)
    }

    /// Takes a frame that holds zeros, for contestants that ask for that.
    #[inline]
    pub(crate) fn take_zeroed(&self) -> Option<usize> {
        let unused = self.unused.load(Ordering::Relaxed);
        let bus = self.take()?;
        let is_first_use = self.unused.load(Ordering::Relaxed) != unused;
        if !(is_first_use && self.is_zeroed()) {
            // SAFETY: the frame is one whole table of the arena, and was free until now.
            unsafe { zero(self.at(bus).cast(), WORDS) };
        }
        Some(bus)
    }

    /// Gives a frame back.
    #[inline]
    pub(crate) fn give(&self, bus: usize) {
        let freed = self.freed_count.load(Ordering::Relaxed);
        let frame = (bus - BUS_BASE) / TABLE_BYTES;
        self.freed[freed].store(frame as u32, Ordering::Relaxed);
        self.freed_count.store(freed + 1, Ordering::Relaxed);
    }

    /// The frames in use.
    pub(crate) fn used(&self) -> u32 {
        self.unused.load(Ordering::Relaxed) - self.freed_count.load(Ordering::Relaxed) as u32
    }

    /// Makes all frames unused again, and all that a row can have used what `content` says.
    ///
    /// # Panics
    ///
    /// When a frame is still in use.
    pub(crate) fn reset(&self, content: Content) {
        assert_eq!(self.used(), 0, "a table was not given back");
        self.unused.store(0, Ordering::Relaxed);
        self.freed_count.store(0, Ordering::Relaxed);
        let zeroed = content == Content::Zero;
        self.zeroed.store(zeroed, Ordering::Relaxed);
        self.fill(if zeroed { 0 } else { 0xA5A5_A5A5_A5A5_A5A5 });
    }

    /// Whether frames that were never taken are known to hold nothing but zeros.
    #[inline]
    pub(crate) fn is_zeroed(&self) -> bool {
        self.zeroed.load(Ordering::Relaxed)
    }

    /// Fills the first tables. This also leaves the caches in one state for everybody.
    fn fill(&self, word: u64) {
        for slot in self.words().iter().take(DIRTY_TABLES).flatten() {
            slot.store(word, Ordering::Relaxed);
        }
    }

    /// The virtual address of a bus address.
    #[inline(always)]
    pub(crate) fn at(&self, bus: usize) -> *mut u8 {
        ptr::with_exposed_provenance_mut(bus.wrapping_add(self.offset()))
    }

    #[inline(always)]
    pub(crate) fn offset(&self) -> usize {
        self.offset.load(Ordering::Relaxed)
    }

    /// The bus address of the first table.
    pub(crate) fn bus_base(&self) -> u64 {
        BUS_BASE as u64
    }

    /// All tables as words.
    pub(crate) fn words(&self) -> &'static [[AtomicU64; WORDS]] {
        let start = self.at(BUS_BASE).cast::<[AtomicU64; WORDS]>();
        // SAFETY: `set_up` mapped that many tables there, page-aligned, readable and writable,
        // and never unmaps them; any bytes are valid words. Others write to the same memory
        // through raw pointers, on this one thread and at other times, which words with interior
        // mutability permit.
        unsafe { std::slice::from_raw_parts(start, TABLES) }
    }
}

/// Fills words with zeros.
///
/// In two parts, since from 2 KiB on `memset` of glibc leaves the work to an instruction (`rep
/// stosb`) that takes a tenth longer for one page.
///
/// # Safety
///
/// Nobody else uses the `count` words from `start` on, which are valid for writes.
#[inline]
pub(crate) unsafe fn zero(start: *mut u64, count: usize) {
    let half = count / 2;
    // SAFETY: the first half of the caller's words.
    unsafe { ptr::write_bytes(start, 0, half) };
    // SAFETY: within the caller's words, or just behind them where there are none.
    let middle = unsafe { start.add(half) };
    // SAFETY: the rest of them.
    unsafe { ptr::write_bytes(middle, 0, count - half) };
}

/// The floor of every row that maps a run: a plain loop of volatile stores.
#[inline(never)]
pub(crate) fn store_words(count: u64) {
    let start = FRAMES.at(BUS_BASE).cast::<u64>();
    for index in 0..count {
        // SAFETY: callers ask for no more words than the arena has.
        let word = unsafe { start.add(index as usize) };
        // SAFETY: it lies in the arena, aligned; nobody else uses the arena now.
        unsafe { word.write_volatile((index << 12) | 0x63) };
    }
}

/// The floor of the rows that map a list: the same, with the entries' addresses from a list.
#[inline(never)]
pub(crate) fn store_list(pages: &[BusAddr]) {
    let start = FRAMES.at(BUS_BASE).cast::<u64>();
    for (index, page) in pages.iter().enumerate() {
        // SAFETY: callers have no more pages than the arena has words.
        let word = unsafe { start.add(index) };
        // SAFETY: it lies in the arena, aligned; nobody else uses the arena now.
        unsafe { word.write_volatile(page.get() | 0x63) };
    }
}
