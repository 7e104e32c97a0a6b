//! Allocates ranges of device virtual addresses out of one region.
//!
//! A [`VaLayout`] says what the region is; a [`VaAllocator`] hands out parts of it as [`VaBlock`]s
//! and takes them back. It allocates no memory itself: it keeps each free extent in one [`Node`] of
//! a storage that the embedder provides, an array inside the allocator or a slice anywhere.
//!
//! ```
//! use hl_mem::va::{Node, Placement, VaAllocator, VaLayout};
//! use mmu_core::{AddrRange, DeviceAddr};
//!
//! let region = AddrRange::new(DeviceAddr::new(0x1000_0000_0000), 1 << 40).unwrap();
//! let doorbell = AddrRange::new(DeviceAddr::new(0x1000_0000_0000), 0x1_0000).unwrap();
//! let fixed = [doorbell];
//! let layout = VaLayout::new(region, 4 << 10)
//!     .large_page(2 << 20)
//!     .fixed(&fixed);
//!
//! // Room for 63 blocks at a time: one node each, and one for the extent that is free at first.
//! let mut va = VaAllocator::new([Node::EMPTY; 64], &layout)?;
//!
//! // 5000 bytes take two pages. The block knows, so that freeing it cannot get it wrong.
//! let small = va.allocate(5000, Placement::Anywhere { align: 4 << 10 })?;
//! assert_eq!(small.range().start(), DeviceAddr::new(0x1000_0001_0000));
//! assert_eq!(small.range().len(), 0x2000);
//!
//! // A hint is honoured if it can be, an exact address or nothing.
//! let at = DeviceAddr::new(0x1000_4000_0000);
//! let large = va.allocate(2 << 20, Placement::Hint { at, align: 2 << 20 })?;
//! assert_eq!(large.range().start(), at);
//! assert!(va.allocate(4 << 10, Placement::Exact(at)).is_err());
//!
//! va.free(small)?;
//! va.free(large)?;
//! assert!(va.is_whole());
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```
//!
//! # In a static, behind a mutex
//!
//! The storage is a type parameter, so an allocator is a value like any other. With an array it
//! carries its nodes along; for large numbers of them hand in a slice and spare the stack the move.
//!
//! ```
//! use hl_mem::va::{Node, VaAllocator};
//! use spin::Mutex;
//!
//! static HOST: Mutex<Option<VaAllocator<[Node; 64]>>> = Mutex::new(None);
//! static DRAM: Mutex<Option<VaAllocator<&'static mut [Node]>>> = Mutex::new(None);
//! # let _ = (HOST.lock(), DRAM.lock());
//! ```
//!
//! # Which extent is taken
//!
//! Best fit: of the free extents with room for the request the shortest, of equally short ones the
//! lowest, and in it the lowest aligned address. The habanalabs driver fits best as well (facts
//! AL-5), but compares what is left of an extent behind the aligned address. Comparing whole
//! extents keeps long ones from being cut because their first large-page boundary happens to come
//! late; for page alignment the two are the same.
//!
//! # Work
//!
//! With *n* free extents, and *depth* standing for 1.44 log2(*n* + 2), the bound on the height of a
//! tree:
//!
//! | call | bound |
//! |---|---|
//! | [`free`](VaAllocator::free), an exact address | O(depth) |
//! | page alignment, [large-page alignment](VaLayout::large_page) | O(depth) |
//! | other alignment, some extent of size + alignment − page is free | O(depth) |
//! | other alignment, none is | O(depth) for each extent not shorter than the request |
//!
//! Hence only an alignment that the layout did not name can take longer, and only in a region
//! without an extent that is sure to hold the request. Then every extent that might is looked at,
//! because the alternative is to report no space where there is some. In the third row the choice
//! is the shortest extent that is *sure* to have room. An embedder that must rule out the last row
//! asks for no other alignments.
//!
//! # Nodes
//!
//! The windows of the layout cut the region into pieces. A storage of *n* nodes serves up to
//! *n* − pieces blocks at a time ([`capacity`](VaAllocator::capacity)): a block, while it is out,
//! keeps one node back, which its return may need. So a block that was handed out can always be
//! returned, and how many fit does not depend on where they lie.
//!
//! # A block that is lost
//!
//! A [`VaBlock`] can be neither copied nor made up, so an address range has one owner, and whoever
//! owns it decides when it is free again: for a mapping, when the invalidation has been confirmed
//! and not earlier. It has no reference to its allocator and dropping it does not return it; that
//! would need the allocator's lock at an unforeseeable place. Its addresses stay in use instead,
//! where [`used`](VaAllocator::used) and [`outstanding`](VaAllocator::outstanding) show them, and
//! [`is_whole`](VaAllocator::is_whole) and [`retire`](VaAllocator::retire) tell at the end.

mod error;
mod layout;
mod space;
mod tree;

#[cfg(test)]
mod tests;

use core::fmt;
use core::iter::FusedIterator;

use mmu_core::{AddrRange, DeviceAddr};

pub use error::{AllocateError, ForeignBlock, LayoutError};
pub use layout::VaLayout;
pub use tree::Node;

use crate::identity::Identity;
use space::Space;

/// Where an allocation is to lie.
///
/// Alignments are in bytes and either divide the page, which demands nothing more than a page
/// boundary, or are multiples of it. They count from address zero, or from the start of the region
/// where the page size is not a power of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Placement {
    /// Anywhere outside the reserved windows.
    Anywhere {
        /// What the start must be a multiple of.
        align: u64,
    },
    /// At `at` if it has the alignment and all of the range is free, if need be in a reserved
    /// window; otherwise as [`Anywhere`](Self::Anywhere), that is, never in a reserved window.
    Hint {
        /// The preferred start.
        at: DeviceAddr,
        /// What the start must be a multiple of, here or elsewhere.
        align: u64,
    },
    /// At this address, which must be on a page boundary, or not at all. May lie in a reserved
    /// window.
    Exact(DeviceAddr),
}

/// A range of device virtual addresses that has one owner, until it is given back with
/// [`VaAllocator::free`].
///
/// Dropping it does not give it back; see [the module](self#a-block-that-is-lost). Giving it back
/// twice does not compile:
///
/// ```compile_fail,E0382
/// # use hl_mem::va::{Node, VaAllocator, VaBlock};
/// fn twice(va: &mut VaAllocator<&mut [Node]>, block: VaBlock) {
///     let _ = va.free(block);
///     let _ = va.free(block);
/// }
/// ```
#[derive(Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[must_use = "the addresses stay in use until the block is given back to its allocator"]
pub struct VaBlock {
    range: AddrRange<DeviceAddr>,
    zone: u32,
    owner: Identity,
}

impl VaBlock {
    /// The addresses: whole pages, of which the last may be used in part.
    #[must_use]
    pub fn range(&self) -> AddrRange<DeviceAddr> {
        self.range
    }
}

/// Allocates ranges of device virtual addresses out of one region.
///
/// See [the module](self) for an example, the choice of extents, the work per call and the number
/// of nodes. `S` holds the nodes: `[Node; N]`, `&mut [Node]`, or anything else that always gives
/// the same slice.
pub struct VaAllocator<S> {
    storage: S,
    space: Space,
    identity: Identity,
}

impl<S: AsRef<[Node]> + AsMut<[Node]>> VaAllocator<S> {
    /// Makes an allocator of which the whole region is free, less the fixed windows.
    ///
    /// One node for each fixed window, two for each reserved one, and one more are always enough
    /// to start with. Nodes beyond 2^32 − 1 are not used. The work is O(log *w*) for each of *w*
    /// windows, whatever the size of the storage.
    ///
    /// # Errors
    ///
    /// * [`LayoutError::ZeroPage`]: the page size is zero.
    /// * [`LayoutError::RegionBelowOnePage`]: the region is smaller than one page.
    /// * [`LayoutError::UnalignedRegion`]: it is not made of whole pages.
    /// * [`LayoutError::LargePage`]: the large page is not a multiple of the page.
    /// * [`LayoutError::WindowOutsideRegion`], [`LayoutError::UnalignedWindow`]: a window is not
    ///   inside the region, or not made of its pages.
    /// * [`LayoutError::WindowsOverlap`]: two windows, of either kind, share an address.
    /// * [`LayoutError::NoNodes`]: the storage is too small for the pieces of the region.
    pub fn new(mut storage: S, layout: &VaLayout<'_>) -> Result<Self, LayoutError> {
        let space = Space::new(storage.as_mut(), layout)?;
        Ok(Self {
            storage,
            space,
            identity: Identity::new(),
        })
    }

    /// Takes `bytes` out of the free space, rounded up to whole pages.
    ///
    /// # Errors
    ///
    /// Nothing has changed then.
    ///
    /// * [`AllocateError::ZeroLength`]: `bytes` is zero.
    /// * [`AllocateError::Alignment`]: the alignment neither divides the page nor is a multiple.
    /// * [`AllocateError::Unaligned`]: the exact address is not on a page boundary.
    /// * [`AllocateError::OutsideRegion`]: not all of the range at the exact address is inside the
    ///   region.
    /// * [`AllocateError::HintTaken`]: not all of the range at the exact address is free, or it
    ///   lies in and out of a reserved window.
    /// * [`AllocateError::NoSpace`]: there is no place for the range outside the reserved windows.
    /// * [`AllocateError::NoNodes`]: [`capacity`](Self::capacity) blocks are out already.
    pub fn allocate(&mut self, bytes: u64, placement: Placement) -> Result<VaBlock, AllocateError> {
        let (range, zone) = self
            .space
            .allocate(self.storage.as_mut(), bytes, placement)?;
        Ok(VaBlock {
            range,
            zone,
            owner: self.identity,
        })
    }

    /// Takes `block` back. Its addresses are free at once and may be handed out by the next call:
    /// whatever was mapped there must be unmapped and its invalidation confirmed.
    ///
    /// # Errors
    ///
    /// [`ForeignBlock`], with the block inside, if it comes from another allocator.
    pub fn free(&mut self, block: VaBlock) -> Result<(), ForeignBlock> {
        let nodes = self.storage.as_mut();
        if block.owner == self.identity && self.space.free(nodes, block.range, block.zone) {
            Ok(())
        } else {
            Err(ForeignBlock(block))
        }
    }

    /// The region, windows included.
    #[must_use]
    pub fn region(&self) -> AddrRange<DeviceAddr> {
        self.space.grid().region()
    }

    /// The bytes that blocks hold.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.space.used()
    }

    /// The bytes that are free, those in reserved windows included.
    #[must_use]
    pub fn free_bytes(&self) -> u64 {
        self.space.free_bytes()
    }

    /// The most bytes that [`Placement::Anywhere`] can get at page alignment; zero where nothing is
    /// free outside the reserved windows.
    #[must_use]
    pub fn largest(&self) -> u64 {
        self.space.largest(self.storage.as_ref())
    }

    /// The number of blocks that are out.
    #[must_use]
    pub fn outstanding(&self) -> u32 {
        self.space.outstanding()
    }

    /// The number of blocks that can be out at a time.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        self.space.capacity(self.storage.as_ref())
    }

    /// Whether everything is back: the free space is the region less the fixed windows.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.space.used() == 0
    }

    /// The number of [free extents](Self::free_extents), in constant time.
    #[must_use]
    pub fn extents(&self) -> u32 {
        self.space.extents()
    }

    /// The free extents by address, each as long as it can be. Extents of different windows are
    /// listed apart even where they touch, since no block can lie in both.
    ///
    /// Going through all *n* is O(*n* log *n*) and needs no memory.
    #[must_use]
    pub fn free_extents(&self) -> FreeExtents<'_> {
        FreeExtents {
            nodes: self.storage.as_ref(),
            space: &self.space,
            next: Some(0),
        }
    }

    /// The storage, whatever is out.
    pub(crate) fn into_storage(self) -> S {
        self.storage
    }

    /// Ends the allocator and gives the storage back, if everything is [whole](Self::is_whole).
    ///
    /// # Errors
    ///
    /// The allocator itself, unchanged, where blocks are out: returned late or lost.
    pub fn retire(self) -> Result<S, Self> {
        if self.is_whole() {
            Ok(self.storage)
        } else {
            Err(self)
        }
    }
}

impl<S> fmt::Debug for VaAllocator<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VaAllocator")
            .field("region", &self.space.grid().region())
            .field("used", &self.space.used())
            .field("free_bytes", &self.space.free_bytes())
            .field("outstanding", &self.space.outstanding())
            .finish_non_exhaustive()
    }
}

#[cfg(feature = "defmt")]
impl<S> defmt::Format for VaAllocator<S> {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(
            f,
            "VaAllocator {{ region: {}, used: {=u64:#x}, free_bytes: {=u64:#x}, outstanding: {=u32} }}",
            self.space.grid().region(),
            self.space.used(),
            self.space.free_bytes(),
            self.space.outstanding(),
        );
    }
}

/// The free extents of a [`VaAllocator`], by address.
#[derive(Clone)]
pub struct FreeExtents<'a> {
    nodes: &'a [Node],
    space: &'a Space,
    /// The lowest page not looked at yet; `None` at the end.
    next: Option<u64>,
}

impl Iterator for FreeExtents<'_> {
    type Item = AddrRange<DeviceAddr>;

    fn next(&mut self) -> Option<Self::Item> {
        let extent = self.space.extent_from(self.nodes, self.next?);
        self.next = extent.map(tree::Extent::end);
        extent.map(|extent| self.space.grid().range(extent.first, extent.pages))
    }
}

impl FusedIterator for FreeExtents<'_> {}

impl fmt::Debug for FreeExtents<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for FreeExtents<'_> {
    fn format(&self, f: defmt::Formatter<'_>) {
        for extent in self.clone() {
            defmt::write!(f, "{} ", extent);
        }
    }
}
