//! The host's side of memory: its addresses, and what a port does for pages.
//!
//! User memory and kernel memory are different types here from end to end. A [`UserRange`] exists
//! only where a request of a user was parsed; kernel pages exist only where the driver allocated
//! them. Nothing converts one into the other, nothing takes either, and nothing looks at the value
//! of an address to find out what it is (hazard HZ-15). [Mapping](crate::guide::mapping) is the chapter with
//! an example.

use core::fmt;

use mmu_core::{AddrRange, BusAddr, Run};

use crate::errno::Errno;
use crate::profile::Profile;
use crate::timestamps::TimestampMemory;

mmu_core::define_address! {
    /// An address of a user process, as the process itself named it.
    ///
    /// Only the parser of a request makes one.
    pub struct UserAddr(pub(crate) new);
}

mmu_core::define_address! {
    /// What the host's bridge takes for a page of host memory: a DMA address.
    ///
    /// A device may see host memory at an offset; the ASIC's profile makes a bus address of it.
    pub struct DmaAddr(pub new);
}

/// A contiguous stretch of DMA addresses.
pub type DmaRun = AddrRange<DmaAddr>;

/// How a device sees host memory (facts DM-2): the numbers that every run needs, out of the profile
/// once.
#[derive(Clone, Copy)]
struct DeviceView {
    offset: u64,
    /// The address bits that no address within reach has.
    beyond: u64,
}

impl DeviceView {
    #[inline]
    fn of(profile: &Profile) -> Self {
        Self {
            offset: profile.host_offset,
            beyond: u64::MAX.checked_shl(profile.dma_bits).unwrap_or(0),
        }
    }

    #[inline]
    fn run(self, run: DmaRun) -> Option<Run> {
        // What is within reach at its last byte is so at its first. The sum is that of `last`, without
        // looking again whether there is one.
        let last = run.start().get().wrapping_add(run.len() - 1);
        if last & self.beyond != 0 {
            return None;
        }
        let start = run.start().get().wrapping_add(self.offset);
        Run::new(BusAddr::new(start), run.len())
    }
}

/// The run as the device's bus sees it; `None` where the device does not reach it.
pub(crate) fn seen_by_device(run: DmaRun, profile: &Profile) -> Option<Run> {
    DeviceView::of(profile).run(run)
}

/// Stands for a run that the device does not reach: no table takes it.
const BEYOND: Run = match Run::const_bus(BusAddr::new(1), 1) {
    Some(run) => run,
    None => panic!("a byte is a run"),
};

// A call that is hardly ever made: as a constant, it would be chosen or not for each page.
#[cold]
#[inline(never)]
fn beyond() -> Run {
    BEYOND
}

/// All of `runs` as the device's bus sees them, one for each: whoever maps them relies on their
/// number. For one that the device does not reach comes one that no table takes.
#[inline]
pub(crate) fn all_seen_by_device<I: Iterator<Item = DmaRun>>(
    runs: I,
    profile: &Profile,
) -> core::iter::Map<I, impl FnMut(DmaRun) -> Run + Clone> {
    let view = DeviceView::of(profile);
    runs.map(move |run| view.run(run).unwrap_or_else(beyond))
}

/// A range of a user process's memory, as the process itself named it. Not validated beyond being
/// a range: whether the process may use it is found out by pinning.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct UserRange(AddrRange<UserAddr>);

/// The whole pages that a [`UserRange`] touches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct UserPages {
    range: AddrRange<UserAddr>,
    page_bytes: u64,
}

impl UserRange {
    /// The range a request names; `None` for zero bytes, or where the end or its round-up to a
    /// page of `page_bytes` lies beyond 2^64 (facts PN-1).
    pub(crate) fn parse(address: u64, len: u64, page_bytes: u64) -> Option<Self> {
        let range = AddrRange::new(UserAddr::new(address), len)?;
        let last_page = range.last().get().checked_div(page_bytes)?;
        last_page.checked_add(1)?.checked_mul(page_bytes)?;
        Some(Self(range))
    }

    /// The addresses.
    #[must_use]
    pub fn range(self) -> AddrRange<UserAddr> {
        self.0
    }

    /// How far into its first page the range begins.
    #[must_use]
    pub(crate) fn offset_in_page(self, page_bytes: u64) -> u64 {
        self.0.start().get() % page_bytes
    }

    /// The whole pages that the range touches; `None` where they reach beyond 2^64.
    pub(crate) fn pages(self, page_bytes: u64) -> Option<UserPages> {
        let first = self.0.start().get() / page_bytes;
        let last = self.0.last().get() / page_bytes;
        let start = UserAddr::new(first * page_bytes);
        let len = (last - first).checked_add(1)?.checked_mul(page_bytes)?;
        Some(UserPages {
            range: AddrRange::new(start, len)?,
            page_bytes,
        })
    }
}

impl UserPages {
    /// The addresses: from the start of the first page to the end of the last.
    #[must_use]
    pub fn range(self) -> AddrRange<UserAddr> {
        self.range
    }

    /// The number of pages.
    #[must_use]
    pub fn count(self) -> u64 {
        self.range.len() / self.page_bytes
    }
}

/// What the device does with a page.
///
/// The host pins and marks pages by it, and no MMU enforces it: the entries of these ASICs have no bit
/// that forbids writing. So [`Read`](Self::Read) is a promise of the driver about engines that it programs
/// itself. What engines reach that a user programs is [`ReadWrite`](Self::ReadWrite), as is all that a
/// request maps ([`uapi`](crate::uapi); facts PN-4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum DeviceAccess {
    /// Reads it. Pages are pinned for reading and stay clean. A device that writes there all the same
    /// changes memory that may be others' as well: a file's, or what processes share since a fork.
    Read,
    /// Reads and writes it: its pages are marked dirty when they are released.
    ReadWrite,
}

/// Why the host did not do what it was asked. Nothing has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum HostError {
    /// There is not enough memory.
    NoMemory,
    /// The process may not use all of the range that way.
    Fault {
        /// The first address it may not use.
        at: UserAddr,
    },
    /// This port does not do that.
    Unsupported,
    /// The system's own reason, whatever it is: a signal, too many files. The process is told that very
    /// number (facts PN-4).
    Other(Errno),
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMemory => f.write_str("the host has not enough memory"),
            Self::Fault { at } => write!(f, "the process cannot use its memory at {at}"),
            Self::Unsupported => f.write_str("this port does not do that"),
            Self::Other(errno) => write!(f, "the host refuses: {errno}"),
        }
    }
}

impl core::error::Error for HostError {}

/// Which pages of a kernel allocation a user may write through a view; the others are read-only.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct ViewRights {
    /// So many pages from the first on are writable.
    pub writable_pages: u64,
}

impl ViewRights {
    /// Nothing may be written.
    pub(crate) const READ_ONLY: Self = Self { writable_pages: 0 };

    /// Everything may be written.
    pub(crate) const WRITABLE: Self = Self {
        writable_pages: u64::MAX,
    };
}

/// What a port does for pages of host memory.
///
/// Kernel pages, pinned pages and views are owned values: they are handed out by one call, kept by
/// this crate, and handed back to another exactly once. Dropping one instead would leak it, so
/// none of them should do anything when dropped.
///
/// # Safety
///
/// The device and user processes reach memory by what these calls return. An implementation
/// guarantees that
///
/// 1. kernel pages are whole pages, zeroed before anybody sees them, the device included: the zeros
///    are ordered before [`allocate`](Self::allocate) returns. They are used for nothing else until
///    [`free`](Self::free), and `kernel_runs` names exactly them, in order;
/// 2. pinned pages neither move nor are used for anything else from [`pin`](Self::pin) until
///    [`unpin`](Self::unpin), and `pinned_runs` names exactly them, in the order of the user's
///    addresses;
/// 3. both kinds of runs name the same pages each time they are asked for;
/// 4. a view shows exactly the kernel pages or registers it was made of, with no more than the
///    rights asked for, until [`remove_view`](Self::remove_view);
/// 5. pages from [`allocate_contiguous`](Self::allocate_contiguous) are one run;
/// 6. [`words`](Self::words) stores into the pages it was made of and nowhere else, and it is not
///    used after [`free`](Self::free).
///
/// # Locks
///
/// Calls may come from several threads at a time. `pin`, `unpin`, `allocate`, `allocate_contiguous`
/// and `free` are called with no lock held. With the lock of the device's kernel buffers held come
/// `words`, `remove_view`, `view` (with that of the file's handles as well), and `kernel_runs` of what is
/// mapped for a user; with that of the handles alone, `view_registers`. The runs are gone through with
/// the lock of an address space held. What `words` gives is used and dropped with the lock of the
/// context's timestamps held, or while nobody else has it.
/// [Porting](crate::guide::porting#hostmemory) has this by method, with what a failure means.
#[expect(
    unsafe_code,
    reason = "a wrong implementation hands out memory that is in use"
)]
pub unsafe trait HostMemory {
    /// Who owns user memory: in a kernel, a reference to the process's address space.
    type Process;
    /// Zeroed pages of the kernel, contiguous for the processor though not for a bus.
    type KernelPages;
    /// Pages of a process that stay where they are.
    type PinnedPages;
    /// Kernel pages or registers as a process sees them.
    type View;
    /// Kernel pages as the kernel itself writes them;
    /// [`NoTimestamps`](crate::timestamps::NoTimestamps) where it does not.
    type Words: TimestampMemory;

    /// Bytes in a page, a power of two.
    const PAGE_BYTES: u64;

    /// Allocates and zeroes `pages` pages for the kernel.
    ///
    /// # Errors
    ///
    /// [`HostError::NoMemory`], [`HostError::Other`].
    fn allocate(&self, pages: u64) -> Result<Self::KernelPages, HostError>;

    /// Allocates and zeroes `pages` pages for the kernel that lie next to each other on the bus:
    /// coherent memory.
    ///
    /// # Errors
    ///
    /// [`HostError::NoMemory`]; [`HostError::Unsupported`] where the port has no such memory.
    fn allocate_contiguous(&self, pages: u64) -> Result<Self::KernelPages, HostError> {
        let _ = pages;
        Err(HostError::Unsupported)
    }

    /// The kernel's own way to write its pages, which are kept until it is dropped; `None` where the
    /// port has none. Asked for once for each pool of timestamps, when its pages were allocated.
    fn words(&self, pages: &Self::KernelPages) -> Option<Self::Words> {
        let _ = pages;
        None
    }

    /// Takes kernel pages back. Nothing reaches them any more.
    fn free(&self, pages: Self::KernelPages);

    /// Where the device finds kernel pages. The runs are gone through several times, by clones.
    fn kernel_runs<'a>(
        &'a self,
        pages: &'a Self::KernelPages,
    ) -> impl Iterator<Item = DmaRun> + Clone + 'a;

    /// Pins pages of a process for the device: all of them, or none.
    ///
    /// How many it takes at a time is the port's affair. A kernel goes through the range in batches, as
    /// many pages as an array of them holds, lets others run between two and looks for a fatal signal
    /// there, and releases what it has by then where it gives up. No lock of this crate is held, so that
    /// a long pin delays nobody. A batch that comes back short is a failure of the whole: a part is
    /// never mapped. A port that hands out less or more than it was asked for all the same is found
    /// out by the length of [`pinned_runs`](Self::pinned_runs), and gets all of it back.
    ///
    /// # Errors
    ///
    /// Nothing stays pinned.
    ///
    /// * [`HostError::Fault`] where the process has no memory, or may not write what the device is
    ///   to write;
    /// * [`HostError::NoMemory`] when there is no memory to do it with, or fewer pages than asked
    ///   for could be pinned;
    /// * [`HostError::Other`] for any other reason of the system's, such as a signal.
    fn pin(
        &self,
        process: &Self::Process,
        pages: UserPages,
        access: DeviceAccess,
    ) -> Result<Self::PinnedPages, HostError>;

    /// Where the device finds pinned pages. The runs are gone through several times, by clones. Pages that
    /// lie anywhere are mapped faster where the iterator tells exactly how many runs there are
    /// ([`Iterator::size_hint`]).
    fn pinned_runs<'a>(
        &'a self,
        pages: &'a Self::PinnedPages,
    ) -> impl Iterator<Item = DmaRun> + Clone + 'a;

    /// Releases pinned pages, marking them dirty where the device had `access` to write them. Pages that
    /// the device never had access to come with [`DeviceAccess::Read`], whatever they were pinned for.
    fn unpin(&self, pages: Self::PinnedPages, access: DeviceAccess);

    /// Shows all of the kernel pages to a process.
    ///
    /// # Errors
    ///
    /// [`HostError::NoMemory`] when there is no memory or no address range for the view;
    /// [`HostError::Other`].
    fn view(
        &self,
        process: &Self::Process,
        pages: &Self::KernelPages,
        rights: ViewRights,
    ) -> Result<Self::View, HostError>;

    /// Shows registers of the device to a process, uncached.
    ///
    /// # Errors
    ///
    /// [`HostError::NoMemory`] as with [`view`](Self::view); [`HostError::Unsupported`] where the
    /// port does not show registers.
    fn view_registers(
        &self,
        process: &Self::Process,
        registers: Run,
    ) -> Result<Self::View, HostError> {
        let _ = (process, registers);
        Err(HostError::Unsupported)
    }

    /// Ends a view.
    fn remove_view(&self, view: Self::View);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_range_that_wraps_or_whose_last_page_wraps_is_none() {
        // Acceptance P-06.
        assert_eq!(UserRange::parse(0x1000, 0, 4096), None);
        assert_eq!(UserRange::parse(u64::MAX, 2, 4096), None);
        assert_eq!(UserRange::parse(0x1000, u64::MAX, 4096), None);
        assert_eq!(UserRange::parse(u64::MAX - 0xFFF, 0x1000, 4096), None);
        assert!(UserRange::parse(u64::MAX - 0x1FFF, 0x1000, 4096).is_some());
    }

    #[test]
    fn the_pages_of_a_range_include_both_partial_ones() {
        let range = UserRange::parse(0x1FFF, 2, 4096).unwrap();
        let pages = range.pages(4096).unwrap();
        assert_eq!((pages.range().start().get(), pages.count()), (0x1000, 2));
        assert_eq!(range.offset_in_page(4096), 0xFFF);
    }
}
