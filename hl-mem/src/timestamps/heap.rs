//! The order in which what waits for one counter is reached.
//!
//! Leftist heaps, one for each counter, over nodes that all counters of a buffer share. From no node
//! is it further to the end along right children than along left ones, so the way along right
//! children has at most log2(*n* + 1) nodes. Joining two heaps goes along these ways only, and all
//! else is joining: insertion, and removal of any node, in O(log *n*) in the worst case.

/// Ends a way through the nodes.
pub(super) const NONE: u32 = u32::MAX;

/// The place of a node among those of its counter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Links {
    /// What is reached earlier: the target, then the order of registration.
    pub(super) key: (u64, u64),
    pub(super) left: u32,
    pub(super) right: u32,
    pub(super) parent: u32,
    /// The number of nodes on the way along right children, this one included.
    pub(super) distance: u8,
}

impl Links {
    /// A heap of one node.
    pub(super) const fn single(key: (u64, u64)) -> Self {
        Self {
            key,
            left: NONE,
            right: NONE,
            parent: NONE,
            distance: 1,
        }
    }
}

/// Storage with the links of heaps in it.
pub(super) trait Nodes {
    fn links(&self, node: u32) -> Option<&Links>;
    fn links_mut(&mut self, node: u32) -> Option<&mut Links>;
}

fn distance(nodes: &(impl Nodes + ?Sized), node: u32) -> u8 {
    nodes.links(node).map_or(0, |links| links.distance)
}

fn set_parent(nodes: &mut (impl Nodes + ?Sized), node: u32, parent: u32) {
    if let Some(links) = nodes.links_mut(node) {
        links.parent = parent;
    }
}

/// Restores the order of the children of a node and its distance; returns whether the distance
/// changed.
fn settle(nodes: &mut (impl Nodes + ?Sized), node: u32) -> bool {
    let Some(&Links { left, right, .. }) = nodes.links(node) else {
        return false;
    };
    let (near, far) = (distance(nodes, right), distance(nodes, left));
    let Some(links) = nodes.links_mut(node) else {
        return false;
    };
    if far < near {
        (links.left, links.right) = (right, left);
    }
    let before = links.distance;
    // At most 32, for 2^32 nodes.
    links.distance = near.min(far) + 1;
    links.distance != before
}

/// Makes one heap of two, and returns its root, which has no parent.
pub(super) fn join(nodes: &mut (impl Nodes + ?Sized), one: u32, other: u32) -> u32 {
    let (mut ahead, mut behind) = (one, other);
    let (mut root, mut last) = (NONE, NONE);
    loop {
        let key = |node| nodes.links(node).map(|links: &Links| links.key);
        let (first, second) = (key(ahead), key(behind));
        match (first, second) {
            (Some(first), Some(second)) if second < first => {
                (ahead, behind) = (behind, ahead);
            }
            (None, _) => (ahead, behind) = (behind, NONE),
            _ => {}
        }
        // `ahead` goes below `last`, on the right; with nothing left behind, with all that is
        // below it.
        set_parent(nodes, ahead, last);
        match nodes.links_mut(last) {
            Some(links) => links.right = ahead,
            None => root = ahead,
        }
        if nodes.links(behind).is_none() {
            break;
        }
        last = ahead;
        ahead = nodes.links(ahead).map_or(NONE, |links| links.right);
    }
    // Only nodes on the way down have other children than before.
    while let Some(parent) = nodes.links(last).map(|links| links.parent) {
        settle(nodes, last);
        last = parent;
    }
    root
}

/// Takes a node out of the heap with this root, and returns the root of what is left.
pub(super) fn remove(nodes: &mut (impl Nodes + ?Sized), root: u32, node: u32) -> u32 {
    let Some(&Links {
        left,
        right,
        parent,
        ..
    }) = nodes.links(node)
    else {
        return root;
    };
    set_parent(nodes, left, NONE);
    set_parent(nodes, right, NONE);
    let below = join(nodes, left, right);
    set_parent(nodes, below, parent);
    let Some(links) = nodes.links_mut(parent) else {
        return below;
    };
    if links.left == node {
        links.left = below;
    } else {
        links.right = below;
    }
    // Each step up but the last changes a distance, and distances are at most log2(n + 1).
    let mut at = parent;
    while settle(nodes, at) {
        at = nodes.links(at).map_or(NONE, |links| links.parent);
    }
    root
}
