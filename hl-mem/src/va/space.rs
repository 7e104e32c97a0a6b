//! The free space of one region: which extents there are, which one a request gets, and how they
//! split and merge.

use core::num::NonZeroU64;

use mmu_core::{AddrRange, DeviceAddr};

use super::Placement;
use super::error::{AllocateError, LayoutError};
use super::layout::{Grid, VaLayout};
use super::tree::{self, ByAddress, BySize, Extent, Node, Path, Slot, Vacant};

/// The zone of all that lies outside the reserved windows, which are numbered from one.
const ORDINARY: u32 = 0;

/// How many extents are looked at for an alignment that the layout did not name, where none is
/// sure to have room.
const LOOKS: u32 = 16;

/// The state of an allocator apart from its nodes, which are handed to every call.
///
/// Each free extent has one node in the tree by address. Extents of the ordinary zone are in the
/// tree by size as well; those of reserved windows are not, so that no search for space finds them.
/// No two extents of one zone touch.
///
/// A piece is an extent of the region with nothing allocated. With *b* blocks in it there are at
/// most *b* + 1 extents. Admitting a block only while pieces + blocks is below the number of nodes
/// therefore leaves a node for every extent that later calls can make.
#[derive(Debug)]
pub(super) struct Space {
    grid: Grid,
    by_address: Slot,
    by_size: Slot,
    vacant: Vacant,
    extents: u32,
    pieces: u32,
    blocks: u32,
    /// Pages that are free while nothing is allocated.
    whole_pages: u64,
    free_pages: u64,
}

/// A place inside a free extent.
#[derive(Clone, Copy)]
struct Place {
    slot: Slot,
    extent: Extent,
    first: u64,
}

impl Space {
    pub(super) fn new(nodes: &mut [Node], layout: &VaLayout<'_>) -> Result<Self, LayoutError> {
        let grid = Grid::new(layout)?;
        let mut space = Self {
            grid,
            by_address: Slot::NONE,
            by_size: Slot::NONE,
            vacant: Vacant::ALL,
            extents: 0,
            pieces: 0,
            blocks: 0,
            whole_pages: 0,
            free_pages: 0,
        };
        space.add(
            nodes,
            Extent {
                first: 0,
                pages: grid.pages,
                zone: ORDINARY,
            },
        )?;
        for &window in layout.fixed {
            space.cut_window(nodes, window)?;
        }
        for (&window, zone) in layout.reserved.iter().zip(1..) {
            let (first, pages) = space.cut_window(nodes, window)?;
            space.add(nodes, Extent { first, pages, zone })?;
        }
        space.pieces = space.extents;
        space.whole_pages = space.free_pages;
        Ok(space)
    }

    fn add(&mut self, nodes: &mut [Node], extent: Extent) -> Result<(), LayoutError> {
        let slot = self.vacant.take(nodes).ok_or(LayoutError::NoNodes)?;
        self.link(nodes, slot, extent);
        self.free_pages = self.free_pages.saturating_add(extent.pages);
        Ok(())
    }

    /// Takes the pages of `window` out of the ordinary zone.
    fn cut_window(
        &mut self,
        nodes: &mut [Node],
        window: AddrRange<DeviceAddr>,
    ) -> Result<(u64, u64), LayoutError> {
        let (first, pages) = self.grid.window(window)?;
        let overlap = |page| LayoutError::WindowsOverlap {
            at: self.grid.address(page),
        };
        let mut way = Path::new();
        let place = self.find(nodes, first, pages, &mut way).map_err(overlap)?;
        if place.extent.zone != ORDINARY {
            return Err(overlap(first));
        }
        self.cut(nodes, place, pages, &mut way)
            .ok_or(LayoutError::NoNodes)?;
        Ok((first, pages))
    }

    pub(super) fn allocate(
        &mut self,
        nodes: &mut [Node],
        bytes: u64,
        placement: Placement,
    ) -> Result<(AddrRange<DeviceAddr>, u32), AllocateError> {
        let pages = self
            .grid
            .pages_for(bytes)
            .ok_or(AllocateError::ZeroLength)?;
        let mut way = Path::new();
        let place = match placement {
            Placement::Exact(at) => self.exact(nodes, at, pages, &mut way)?,
            Placement::Anywhere { align } => {
                let align = self.grid.alignment(align)?;
                self.best(nodes, pages, align, &mut way)?
            }
            Placement::Hint { at, align } => {
                let align = self.grid.alignment(align)?;
                match self.exact(nodes, at, pages, &mut way) {
                    Ok(place) if self.grid.is_aligned(place.first, align) => place,
                    _ => self.best(nodes, pages, align, &mut way)?,
                }
            }
        };
        if self.blocks >= self.capacity(nodes) {
            return Err(AllocateError::NoNodes);
        }
        self.cut(nodes, place, pages, &mut way)
            .ok_or(AllocateError::NoNodes)?;
        self.blocks = self.blocks.saturating_add(1);
        Ok((self.grid.range(place.first, pages), place.extent.zone))
    }

    /// Whether `range` could be taken back; if not, nothing has changed.
    pub(super) fn free(
        &mut self,
        nodes: &mut [Node],
        range: AddrRange<DeviceAddr>,
        zone: u32,
    ) -> bool {
        let pages = self.grid.pages_of(range);
        let Ok(first) = self.grid.page_at(range.start(), pages) else {
            return false;
        };
        let block = Extent { first, pages, zone };
        let mut way = Path::new();
        let next_to = tree::search::<ByAddress>(nodes, self.by_address, first, &mut way);
        let before = tree::extent(nodes, next_to.below);
        let after = tree::extent(nodes, next_to.above);
        // A block of this allocator is none of what is free, and no longer than what is used. One
        // of another allocator with the same identity may be; see there.
        if before.is_some_and(|before| before.end() > first)
            || after.is_some_and(|after| after.first < block.end())
            || self.whole_pages.saturating_sub(self.free_pages) < pages
        {
            return false;
        }
        let before = before.filter(|before| before.zone == zone && before.end() == first);
        let after = after.filter(|after| after.zone == zone && after.first == block.end());
        let low = before.map_or(block, |before| join(before, block));
        let merged = after.map_or(low, |after| join(low, after));
        let stays = match (before, after) {
            (None, None) => {
                let Some(slot) = self.vacant.take(nodes) else {
                    return false;
                };
                self.link_at(nodes, slot, block, &mut way);
                None
            }
            (None, Some(after)) => Some((next_to.above, after)),
            (Some(before), after) => {
                if let Some(after) = after {
                    self.find_by_size(nodes, next_to.above, after, &mut way);
                    self.unlink(nodes, next_to.above, after, &mut way);
                }
                Some((next_to.below, before))
            }
        };
        if let Some((slot, extent)) = stays {
            self.find_by_size(nodes, slot, extent, &mut way);
            self.resize(nodes, slot, extent, merged, &mut way);
        }
        self.blocks = self.blocks.saturating_sub(1);
        self.free_pages = self.free_pages.saturating_add(pages);
        true
    }

    /// The place at address `at`, if all of `pages` from there are free and of one zone.
    fn exact(
        &self,
        nodes: &[Node],
        at: DeviceAddr,
        pages: u64,
        way: &mut Path,
    ) -> Result<Place, AllocateError> {
        let first = self.grid.page_at(at, pages)?;
        self.find(nodes, first, pages, way)
            .map_err(|page| AllocateError::HintTaken {
                at: self.grid.address(page),
            })
    }

    /// The place at page `first`, or the first page that is in the way.
    fn find(&self, nodes: &[Node], first: u64, pages: u64, way: &mut Path) -> Result<Place, u64> {
        let slot = tree::at_or_below::<ByAddress>(nodes, self.by_address, first);
        let extent = tree::extent(nodes, slot).ok_or(first)?;
        let left = extent.end().saturating_sub(first);
        if left == 0 {
            Err(first)
        } else if left < pages {
            Err(extent.end())
        } else {
            self.find_by_size(nodes, slot, extent, way);
            Ok(Place {
                slot,
                extent,
                first,
            })
        }
    }

    /// The best fit of the ordinary zone.
    fn best(
        &self,
        nodes: &[Node],
        pages: u64,
        align: NonZeroU64,
        way: &mut Path,
    ) -> Result<Place, AllocateError> {
        let root = self.by_size;
        let slot = if align == NonZeroU64::MIN {
            tree::at_or_above::<BySize>(nodes, root, BySize::at(pages, 0), way)
        } else if align == self.grid.large {
            tree::first_with_room(nodes, root, pages, way)
        } else if let Some(sure) = pages.checked_add(align.get() - 1)
            && let slot = tree::at_or_above::<BySize>(nodes, root, BySize::at(sure, 0), way)
            && slot != Slot::NONE
        {
            slot
        } else {
            return self.scan(nodes, pages, align, way);
        };
        self.fit(nodes, slot, pages, align)
            .ok_or(AllocateError::NoSpace)
    }

    /// Looks at the shortest extents of the ordinary zone that are not shorter than `pages`.
    fn scan(
        &self,
        nodes: &[Node],
        pages: u64,
        align: NonZeroU64,
        way: &mut Path,
    ) -> Result<Place, AllocateError> {
        let mut key = BySize::at(pages, 0);
        for _ in 0..LOOKS {
            let slot = tree::at_or_above::<BySize>(nodes, self.by_size, key, way);
            let extent = tree::extent(nodes, slot).ok_or(AllocateError::NoSpace)?;
            if let Some(place) = self.fit(nodes, slot, pages, align) {
                return Ok(place);
            }
            key = BySize::at(extent.pages, extent.first.saturating_add(1));
        }
        Err(AllocateError::NoSpace)
    }

    /// The lowest aligned place in the extent at `slot`.
    fn fit(&self, nodes: &[Node], slot: Slot, pages: u64, align: NonZeroU64) -> Option<Place> {
        let extent = tree::extent(nodes, slot)?;
        let first = self.grid.align_up(extent.first, align)?;
        (extent.end().checked_sub(first)? >= pages).then_some(Place {
            slot,
            extent,
            first,
        })
    }

    /// Takes `pages` out of the extent of `place`, where they fit; `way` leads to it in the tree by
    /// size. `None`, with nothing changed, where that leaves two extents and there is no node for the
    /// second.
    fn cut(&mut self, nodes: &mut [Node], place: Place, pages: u64, way: &mut Path) -> Option<()> {
        let Place {
            slot,
            extent,
            first,
        } = place;
        let end = first.saturating_add(pages);
        let front = Extent {
            pages: first.saturating_sub(extent.first),
            ..extent
        };
        let tail = Extent {
            first: end,
            pages: extent.end().saturating_sub(end),
            ..extent
        };
        match (front.pages, tail.pages) {
            (0, 0) => self.unlink(nodes, slot, extent, way),
            (0, _) => self.resize(nodes, slot, extent, tail, way),
            (_, 0) => self.resize(nodes, slot, extent, front, way),
            (_, _) => {
                let second = self.vacant.take(nodes)?;
                self.resize(nodes, slot, extent, front, way);
                self.link(nodes, second, tail);
            }
        }
        self.free_pages = self.free_pages.saturating_sub(pages);
        Some(())
    }

    /// Makes the node at `slot`, which is in no tree, a free extent.
    fn link(&mut self, nodes: &mut [Node], slot: Slot, extent: Extent) {
        let mut way = Path::new();
        tree::search::<ByAddress>(nodes, self.by_address, extent.first, &mut way);
        self.link_at(nodes, slot, extent, &mut way);
    }

    /// The same where `way` leads to the place of the extent in the tree by address.
    fn link_at(&mut self, nodes: &mut [Node], slot: Slot, extent: Extent, way: &mut Path) {
        self.set(nodes, slot, extent);
        self.by_address = tree::insert_at::<ByAddress>(nodes, way, slot);
        if extent.zone == ORDINARY {
            self.by_size = tree::insert::<BySize>(nodes, self.by_size, slot);
        }
        self.extents = self.extents.saturating_add(1);
    }

    /// Finds the way to the free extent at `slot` in the tree by size, if it is in that.
    fn find_by_size(&self, nodes: &[Node], slot: Slot, extent: Extent, way: &mut Path) {
        if extent.zone == ORDINARY {
            tree::find::<BySize>(nodes, self.by_size, slot, way);
        }
    }

    /// Takes the free extent at `slot` out; its node is vacant then. `way` leads to it in the tree by
    /// size.
    fn unlink(&mut self, nodes: &mut [Node], slot: Slot, extent: Extent, way: &mut Path) {
        if extent.zone == ORDINARY {
            self.by_size = tree::remove_at::<BySize>(nodes, way, slot);
        }
        self.by_address = tree::remove::<ByAddress>(nodes, self.by_address, slot);
        self.vacant.put(nodes, slot);
        self.extents = self.extents.saturating_sub(1);
    }

    /// Gives the free extent at `slot` other ends. None of its neighbours comes to lie on its other
    /// side, so its place in the tree by address stays. `way` leads to it in the tree by size.
    fn resize(&mut self, nodes: &mut [Node], slot: Slot, from: Extent, to: Extent, way: &mut Path) {
        if from.zone == ORDINARY {
            self.by_size = tree::remove_at::<BySize>(nodes, way, slot);
        }
        self.set(nodes, slot, to);
        if from.zone == ORDINARY {
            self.by_size = tree::insert::<BySize>(nodes, self.by_size, slot);
        }
    }

    fn set(&self, nodes: &mut [Node], slot: Slot, extent: Extent) {
        let room = self.grid.room(extent.first, extent.pages);
        tree::set_extent(nodes, slot, extent, room);
    }

    pub(super) fn grid(&self) -> &Grid {
        &self.grid
    }

    pub(super) fn extents(&self) -> u32 {
        self.extents
    }

    pub(super) fn outstanding(&self) -> u32 {
        self.blocks
    }

    pub(super) fn capacity(&self, nodes: &[Node]) -> u32 {
        u32::try_from(nodes.len())
            .unwrap_or(u32::MAX)
            .saturating_sub(self.pieces)
    }

    pub(super) fn used(&self) -> u64 {
        self.grid
            .bytes(self.whole_pages.saturating_sub(self.free_pages))
    }

    pub(super) fn free_bytes(&self) -> u64 {
        self.grid.bytes(self.free_pages)
    }

    pub(super) fn largest(&self, nodes: &[Node]) -> u64 {
        let last = tree::at_or_below::<BySize>(nodes, self.by_size, u128::MAX);
        self.grid
            .bytes(tree::extent(nodes, last).map_or(0, |extent| extent.pages))
    }

    /// The lowest free extent that does not start below page `first`.
    pub(super) fn extent_from(&self, nodes: &[Node], first: u64) -> Option<Extent> {
        let next_to = tree::search::<ByAddress>(nodes, self.by_address, first, &mut Path::new());
        tree::extent(nodes, next_to.above)
    }

    /// Checks every promise of the types here and in [`tree`]; returns the number of extents.
    #[cfg(test)]
    pub(super) fn audit(&self, nodes: &[Node]) -> u32 {
        let all = tree::audit::tree::<ByAddress>(nodes, self.by_address);
        let mut ordinary: Vec<_> = all
            .iter()
            .filter_map(|&slot| tree::extent(nodes, slot))
            .collect();
        assert_eq!(ordinary.len(), self.extents as usize);
        assert!(self.extents <= self.pieces + self.blocks);
        assert_eq!(
            ordinary.iter().map(|extent| extent.pages).sum::<u64>(),
            self.free_pages
        );
        for pair in ordinary.windows(2) {
            assert!(pair[0].end() <= pair[1].first, "{pair:?} overlap");
            let touch = pair[0].end() == pair[1].first;
            assert!(!touch || pair[0].zone != pair[1].zone, "{pair:?} unmerged");
        }
        ordinary.retain(|extent| extent.zone == ORDINARY);
        ordinary.sort_by_key(|extent| (extent.pages, extent.first));
        let by_size: Vec<_> = tree::audit::tree::<BySize>(nodes, self.by_size)
            .iter()
            .filter_map(|&slot| tree::extent(nodes, slot))
            .collect();
        assert_eq!(by_size, ordinary);
        self.extents
    }
}

/// The extent of `low` and of `high`, which starts where `low` ends.
fn join(low: Extent, high: Extent) -> Extent {
    Extent {
        pages: low.pages.saturating_add(high.pages),
        ..low
    }
}
