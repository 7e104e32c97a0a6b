//! What a node of the trees holds, and the two orders that it is in.

/// One element of the storage of a [`VaAllocator`](crate::va::VaAllocator).
///
/// Opaque: it exists so that an embedder can lay out storage, for instance as a `[Node; 64]`.
/// [`EMPTY`](Self::EMPTY) is all zeroes, so a static array of it takes no room in an image. What a
/// node held before it was handed over does not matter.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Node {
    /// First page of the extent, counted from the start of the region.
    pub(super) first: u64,
    /// Number of pages.
    pub(super) pages: u64,
    /// How many of the pages are left from the first large-page boundary on.
    pub(super) room: u64,
    /// The greatest `room` in the subtrees by size below this node.
    pub(super) rooms: [u64; 2],
    pub(super) by_address: [Slot; 2],
    pub(super) by_size: [Slot; 2],
    heights_by_address: [u8; 2],
    heights_by_size: [u8; 2],
    /// Which part of the region the extent is in.
    pub(super) zone: u32,
}

impl Node {
    /// A node that belongs to no allocator yet.
    pub const EMPTY: Self = Self {
        first: 0,
        pages: 0,
        room: 0,
        rooms: [0; 2],
        by_address: [Slot::NONE; 2],
        by_size: [Slot::NONE; 2],
        heights_by_address: [0; 2],
        heights_by_size: [0; 2],
        zone: 0,
    };
}

impl Default for Node {
    fn default() -> Self {
        Self::EMPTY
    }
}

/// What a node says of its extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::va) struct Extent {
    pub(in crate::va) first: u64,
    pub(in crate::va) pages: u64,
    pub(in crate::va) zone: u32,
}

impl Extent {
    /// The first page after the extent. Exact: an extent ends within its region, whose number of
    /// pages is a `u64`.
    pub(in crate::va) fn end(self) -> u64 {
        self.first.saturating_add(self.pages)
    }
}

/// Names a node by its place in the storage, counted from one; zero is no node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub(in crate::va) struct Slot(u32);

impl Slot {
    pub(in crate::va) const NONE: Self = Self(0);

    /// The slot of the node at `index`; `None` beyond what a slot can name.
    pub(in crate::va) fn at(index: u32) -> Option<Self> {
        index.checked_add(1).map(Self)
    }

    pub(super) fn index(self) -> usize {
        // No slice of nodes has as many elements as what zero wraps to: slot 0 finds nothing.
        (self.0 as usize).wrapping_sub(1)
    }
}

/// Which of its two trees a node is looked at in, and the order of that tree.
///
/// What a node has of its subtrees is in arrays by [`Side`]. Their heights and rooms are with it and
/// not with its children, so that going up a tree does not look at what is beside the way.
pub(in crate::va) trait Order {
    /// A number, so that one is compared with another without a branch.
    type Key: Copy + Ord;

    /// No two nodes of one tree have equal keys.
    fn key(node: &Node) -> Self::Key;
    fn children(node: &Node) -> &[Slot; 2];
    fn children_mut(node: &mut Node) -> &mut [Slot; 2];
    fn subtree(node: &Node, side: Side) -> Subtree;
    fn set_subtree(node: &mut Node, side: Side, subtree: Subtree);
    /// The room that the node itself adds to that of its subtrees.
    fn room(node: &Node) -> u64;
}

/// What the top of a tree remembers of a subtree.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(in crate::va) struct Subtree {
    pub(super) height: u8,
    /// The greatest [`Node::room`] in it; zero in the tree by address, which nobody asks for room.
    pub(super) room: u64,
}

impl Subtree {
    /// The tree with `node` at its top, above these two.
    pub(super) fn above<O: Order>(node: &Node, one: Self, other: Self) -> Self {
        Self {
            height: one.height.max(other.height).saturating_add(1),
            room: O::room(node).max(one.room).max(other.room),
        }
    }
}

/// By first page.
pub(in crate::va) struct ByAddress;

impl Order for ByAddress {
    type Key = u64;

    fn key(node: &Node) -> u64 {
        node.first
    }
    fn children(node: &Node) -> &[Slot; 2] {
        &node.by_address
    }
    fn children_mut(node: &mut Node) -> &mut [Slot; 2] {
        &mut node.by_address
    }
    fn subtree(node: &Node, side: Side) -> Subtree {
        Subtree {
            height: node.heights_by_address[side as usize],
            room: 0,
        }
    }
    fn set_subtree(node: &mut Node, side: Side, subtree: Subtree) {
        node.heights_by_address[side as usize] = subtree.height;
    }
    fn room(_node: &Node) -> u64 {
        0
    }
}

/// Shortest first, and of the equally long the lowest first.
pub(in crate::va) struct BySize;

impl BySize {
    /// The key of an extent of so many pages from `first` on.
    pub(in crate::va) fn at(pages: u64, first: u64) -> u128 {
        u128::from(pages) << 64 | u128::from(first)
    }
}

impl Order for BySize {
    type Key = u128;

    fn key(node: &Node) -> u128 {
        Self::at(node.pages, node.first)
    }
    fn children(node: &Node) -> &[Slot; 2] {
        &node.by_size
    }
    fn children_mut(node: &mut Node) -> &mut [Slot; 2] {
        &mut node.by_size
    }
    fn subtree(node: &Node, side: Side) -> Subtree {
        Subtree {
            height: node.heights_by_size[side as usize],
            room: node.rooms[side as usize],
        }
    }
    fn set_subtree(node: &mut Node, side: Side, subtree: Subtree) {
        node.heights_by_size[side as usize] = subtree.height;
        node.rooms[side as usize] = subtree.room;
    }
    fn room(node: &Node) -> u64 {
        node.room
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::va) enum Side {
    Low,
    High,
}

impl Side {
    pub(super) fn other(self) -> Self {
        match self {
            Self::Low => Self::High,
            Self::High => Self::Low,
        }
    }

    /// The side of a node on which a key is that is above the node's or not.
    pub(super) fn of(above: bool) -> Self {
        if above { Self::High } else { Self::Low }
    }
}
