//! What every tree must satisfy, checked from scratch.

use super::*;

/// Checks order, heights, balance and sums; returns the slots in order.
pub(in crate::va) fn tree<O: Order>(nodes: &[Node], root: Slot) -> Vec<Slot> {
    fn visit<O: Order>(nodes: &[Node], at: Slot, out: &mut Vec<Slot>) -> Subtree {
        if at == Slot::NONE {
            return Subtree::default();
        }
        let node = &nodes[at.index()];
        let [low, high] = *O::children(node);
        let low = visit::<O>(nodes, low, out);
        out.push(at);
        let high = visit::<O>(nodes, high, out);
        assert!(
            low.height.abs_diff(high.height) <= 1,
            "out of balance at {at:?}"
        );
        for (side, subtree) in [(Side::Low, low), (Side::High, high)] {
            assert_eq!(O::subtree(node, side), subtree);
        }
        Subtree {
            height: 1 + low.height.max(high.height),
            room: O::room(node).max(low.room).max(high.room),
        }
    }
    let mut out = Vec::new();
    visit::<O>(nodes, root, &mut out);
    assert!(out.is_sorted_by(|a, b| O::key(&nodes[a.index()]) < O::key(&nodes[b.index()])));
    out
}
