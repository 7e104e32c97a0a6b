//! Balanced search trees whose nodes lie in a slice that the embedder provides.
//!
//! Every free extent is one [`Node`], linked into up to two AVL trees at once: one by address and
//! one by size. AVL, because its height is at most 1.44 log2(n + 2): the path of a descent fits
//! a small fixed array, so nothing here recurses and no node needs a link to its parent.
//!
//! Nothing here can panic. A link that leads nowhere reads as an empty node, which makes a missing
//! child and the root of an empty tree ordinary cases.

mod node;

pub use node::Node;
pub(super) use node::{ByAddress, BySize, Extent, Order, Side, Slot};

use node::Subtree;

/// An AVL tree of height 46 has at least 4 807 526 975 nodes, more than a [`Slot`] can name.
const MAX_HEIGHT: usize = 45;

/// The way down from a root: the nodes passed and the side each was left on. Good until the tree
/// changes.
///
/// Which side it is nobody can foretell, the processor included. So a way is gone by looking a child
/// up by its side, and not by a branch, which it would guess wrong on every other node.
pub(super) type Path = heapless::Vec<(Slot, Side), MAX_HEIGHT>;

fn node(nodes: &[Node], slot: Slot) -> &Node {
    const NOTHING: &Node = &Node::EMPTY;
    nodes.get(slot.index()).unwrap_or(NOTHING)
}

fn child<O: Order>(nodes: &[Node], slot: Slot, side: Side) -> Slot {
    O::children(node(nodes, slot))[side as usize]
}

/// What the tree with `top` at its top is, for the node above it.
fn whole<O: Order>(nodes: &[Node], top: Slot) -> Subtree {
    let Some(node) = nodes.get(top.index()) else {
        return Subtree::default();
    };
    let [low, high] = [Side::Low, Side::High].map(|side| O::subtree(node, side));
    Subtree::above::<O>(node, low, high)
}

/// Hangs a tree below the node at `slot`.
fn hang<O: Order>(nodes: &mut [Node], slot: Slot, side: Side, child: Slot, subtree: Subtree) {
    if let Some(node) = nodes.get_mut(slot.index()) {
        O::children_mut(node)[side as usize] = child;
        O::set_subtree(node, side, subtree);
    }
}

/// Turns the tree at `top` so that its child on `side` becomes the new top, which is returned.
fn rotate<O: Order>(nodes: &mut [Node], top: Slot, side: Side) -> Slot {
    let rising = child::<O>(nodes, top, side);
    let crossing = child::<O>(nodes, rising, side.other());
    let subtree = O::subtree(node(nodes, rising), side.other());
    hang::<O>(nodes, top, side, crossing, subtree);
    let subtree = whole::<O>(nodes, top);
    hang::<O>(nodes, rising, side.other(), top, subtree);
    rising
}

/// Restores the balance at `top`, whose subtree on the side `heavy` is two higher than the other; both
/// are balanced. Returns the new top.
fn balance<O: Order>(nodes: &mut [Node], top: Slot, heavy: Side) -> Slot {
    let below = child::<O>(nodes, top, heavy);
    let [outer, inner] = [heavy, heavy.other()].map(|side| O::subtree(node(nodes, below), side));
    if inner.height > outer.height {
        let inner = rotate::<O>(nodes, below, heavy.other());
        let subtree = whole::<O>(nodes, inner);
        hang::<O>(nodes, top, heavy, inner, subtree);
    }
    rotate::<O>(nodes, top, heavy)
}

/// Hangs `tree` below the last node of `path` and goes up, balancing. Returns the root.
fn climb<O: Order>(nodes: &mut [Node], path: &mut Path, tree: Slot) -> Slot {
    let mut tree = tree;
    // What is known of the tree goes up with it, and is not read again where it was just written.
    let mut subtree = whole::<O>(nodes, tree);
    while let Some((parent, side)) = path.pop() {
        #[cfg(test)]
        steps::count();
        let Some(node) = nodes.get_mut(parent.index()) else {
            break;
        };
        O::children_mut(node)[side as usize] = tree;
        if O::subtree(node, side) == subtree {
            // Neither this node nor any above can tell the difference.
            return path.first().map_or(parent, |&(root, _)| root);
        }
        O::set_subtree(node, side, subtree);
        let other = O::subtree(node, side.other());
        tree = parent;
        if subtree.height > other.height.saturating_add(1) {
            tree = balance::<O>(nodes, parent, side);
            subtree = whole::<O>(nodes, tree);
        } else if other.height > subtree.height.saturating_add(1) {
            tree = balance::<O>(nodes, parent, side.other());
            subtree = whole::<O>(nodes, tree);
        } else {
            subtree = Subtree::above::<O>(node, subtree, other);
        }
    }
    tree
}

/// What is next to a key in an order.
pub(super) struct Neighbours {
    /// The last node whose key is below.
    pub(super) below: Slot,
    /// The first node whose key is not below.
    pub(super) above: Slot,
    /// The nodes on the way to that one.
    depth_above: usize,
}

/// Looks for `key`. `path` becomes the way to where a node with that key would be added.
pub(super) fn search<O: Order>(
    nodes: &[Node],
    root: Slot,
    key: O::Key,
    path: &mut Path,
) -> Neighbours {
    path.clear();
    // The last node that was left on either side, and how many came before it.
    let mut left = [(Slot::NONE, 0); 2];
    let mut at = root;
    while let Some(here) = nodes.get(at.index()) {
        #[cfg(test)]
        steps::count();
        let side = Side::of(key > O::key(here));
        left[side as usize] = (at, path.len());
        // The height of the tree is the length of the longest path: there is always a place.
        if path.push((at, side)).is_err() {
            break;
        }
        at = O::children(here)[side as usize];
    }
    let [(above, depth_above), (below, _)] = left;
    Neighbours {
        below,
        above,
        depth_above,
    }
}

/// Looks for the node at `slot`. `path` becomes the way to it. Returns whether it is there.
pub(super) fn find<O: Order>(nodes: &[Node], root: Slot, slot: Slot, path: &mut Path) -> bool {
    path.clear();
    let key = O::key(node(nodes, slot));
    let mut at = root;
    while at != slot {
        #[cfg(test)]
        steps::count();
        let Some(here) = nodes.get(at.index()) else {
            return false;
        };
        let side = Side::of(key > O::key(here));
        if path.push((at, side)).is_err() {
            return false;
        }
        at = O::children(here)[side as usize];
    }
    slot != Slot::NONE
}

/// Adds the node at `slot`, whose key is in no other node. Returns the new root.
pub(super) fn insert<O: Order>(nodes: &mut [Node], root: Slot, slot: Slot) -> Slot {
    let mut path = Path::new();
    let key = O::key(node(nodes, slot));
    search::<O>(nodes, root, key, &mut path);
    insert_at::<O>(nodes, &mut path, slot)
}

/// Adds the node at `slot` where a [`search`] for its key ended. Returns the new root.
pub(super) fn insert_at<O: Order>(nodes: &mut [Node], path: &mut Path, slot: Slot) -> Slot {
    for side in [Side::Low, Side::High] {
        hang::<O>(nodes, slot, side, Slot::NONE, Subtree::default());
    }
    climb::<O>(nodes, path, slot)
}

/// Takes out the node at `slot`, whose key has not changed since it was added. Returns the new
/// root.
pub(super) fn remove<O: Order>(nodes: &mut [Node], root: Slot, slot: Slot) -> Slot {
    let mut path = Path::new();
    if !find::<O>(nodes, root, slot, &mut path) {
        return root;
    }
    remove_at::<O>(nodes, &mut path, slot)
}

/// Takes out the node at `slot`, to which `path` is the way. Returns the new root.
pub(super) fn remove_at<O: Order>(nodes: &mut [Node], path: &mut Path, slot: Slot) -> Slot {
    let low = child::<O>(nodes, slot, Side::Low);
    let high = child::<O>(nodes, slot, Side::High);
    if high == Slot::NONE {
        return climb::<O>(nodes, path, low);
    }
    if low == Slot::NONE {
        return climb::<O>(nodes, path, high);
    }
    // The next node in order takes the place of the one that goes, with all that is below it, and is
    // then missing from its own.
    let above = path.len();
    if path.push((slot, Side::High)).is_err() {
        return Slot::NONE;
    }
    let successor = lowest::<O>(nodes, path, high);
    let rest = child::<O>(nodes, successor, Side::High);
    for (side, child) in [(Side::Low, low), (Side::High, high)] {
        let subtree = O::subtree(node(nodes, slot), side);
        hang::<O>(nodes, successor, side, child, subtree);
    }
    if let Some((place, _)) = path.get_mut(above) {
        *place = successor;
    }
    if let Some(&(parent, side)) = above.checked_sub(1).and_then(|above| path.get(above))
        && let Some(parent) = nodes.get_mut(parent.index())
    {
        O::children_mut(parent)[side as usize] = successor;
    }
    climb::<O>(nodes, path, rest)
}

/// The lowest node of the subtree at `top`; `path` is extended by the nodes above it.
fn lowest<O: Order>(nodes: &[Node], path: &mut Path, top: Slot) -> Slot {
    let mut at = top;
    loop {
        #[cfg(test)]
        steps::count();
        let low = child::<O>(nodes, at, Side::Low);
        if low == Slot::NONE || path.push((at, Side::Low)).is_err() {
            return at;
        }
        at = low;
    }
}

/// The last node of the order whose key is not above `key`.
pub(super) fn at_or_below<O: Order>(nodes: &[Node], root: Slot, key: O::Key) -> Slot {
    let mut best = Slot::NONE;
    let mut at = root;
    while let Some(here) = nodes.get(at.index()) {
        #[cfg(test)]
        steps::count();
        let side = Side::of(O::key(here) <= key);
        if side == Side::High {
            best = at;
        }
        at = O::children(here)[side as usize];
    }
    best
}

/// The first node of the order whose key is not below `key`. `path` becomes the way to it.
pub(super) fn at_or_above<O: Order>(
    nodes: &[Node],
    root: Slot,
    key: O::Key,
    path: &mut Path,
) -> Slot {
    let found = search::<O>(nodes, root, key, path);
    path.truncate(found.depth_above);
    found.above
}

/// The first node by size with room for `pages` behind a large-page boundary, `pages` not zero. `path`
/// becomes the way to it.
pub(super) fn first_with_room(nodes: &[Node], root: Slot, pages: u64, path: &mut Path) -> Slot {
    path.clear();
    let mut at = root;
    while let Some(here) = nodes.get(at.index()) {
        #[cfg(test)]
        steps::count();
        // One way down is enough: wherever room is promised below, there is a node that has it.
        let [low, high] = here.rooms;
        let side = if low >= pages {
            Side::Low
        } else if here.room >= pages {
            return at;
        } else if high >= pages {
            Side::High
        } else {
            break;
        };
        if path.push((at, side)).is_err() {
            break;
        }
        at = here.by_size[side as usize];
    }
    Slot::NONE
}

/// The extent of the node at `slot`; `None` where there is no node.
pub(super) fn extent(nodes: &[Node], slot: Slot) -> Option<Extent> {
    nodes.get(slot.index()).map(|node| Extent {
        first: node.first,
        pages: node.pages,
        zone: node.zone,
    })
}

/// Gives the node at `slot` another extent. Its links stay: in every tree it is in, the new extent
/// must come at the same place of the order.
pub(super) fn set_extent(nodes: &mut [Node], slot: Slot, extent: Extent, room: u64) {
    if let Some(node) = nodes.get_mut(slot.index()) {
        node.first = extent.first;
        node.pages = extent.pages;
        node.zone = extent.zone;
        node.room = room;
    }
}

/// The nodes of a storage that hold no extent.
///
/// Those that were never used are only counted, so that starting to use a storage does not touch
/// all of it. The others form a list through their links.
#[derive(Debug)]
pub(super) struct Vacant {
    list: Slot,
    untouched: u32,
}

impl Vacant {
    /// All of a storage.
    pub(super) const ALL: Self = Self {
        list: Slot::NONE,
        untouched: 0,
    };

    /// Takes a node out; `None` where all hold extents.
    pub(super) fn take(&mut self, nodes: &mut [Node]) -> Option<Slot> {
        if let Some(node) = nodes.get(self.list.index()) {
            let slot = self.list;
            [self.list, _] = node.by_address;
            return Some(slot);
        }
        let slot = Slot::at(self.untouched)?;
        nodes.get(slot.index())?;
        self.untouched = self.untouched.saturating_add(1);
        Some(slot)
    }

    /// Puts back a node that is in no tree.
    pub(super) fn put(&mut self, nodes: &mut [Node], slot: Slot) {
        if let Some(node) = nodes.get_mut(slot.index()) {
            node.by_address = [self.list, Slot::NONE];
            self.list = slot;
        }
    }
}

/// Counts the nodes that searches, insertions and removals visit, so that tests can assert work
/// where asserting time would be fragile.
#[cfg(test)]
pub(super) mod steps {
    use core::cell::Cell;

    std::thread_local! {
        static STEPS: Cell<u64> = const { Cell::new(0) };
    }

    pub(in crate::va) fn count() {
        STEPS.set(STEPS.get() + 1);
    }

    /// The number since the last call on this thread.
    pub(in crate::va) fn take() -> u64 {
        STEPS.replace(0)
    }
}

#[cfg(test)]
pub(super) mod audit;
