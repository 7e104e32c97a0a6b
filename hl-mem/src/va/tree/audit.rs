//! What every tree must satisfy, checked from scratch.

use super::*;

/// Checks order, heights, balance and sums; returns the slots in order.
pub(in crate::va) fn tree<O: Order>(nodes: &[Node], root: Slot) -> Vec<Slot> {
    fn visit<O: Order>(nodes: &[Node], at: Slot, out: &mut Vec<Slot>) -> (u8, u64) {
        if at == Slot::NONE {
            return (0, 0);
        }
        let node = &nodes[at.index()];
        let [low, high] = O::links(node).children;
        let low = visit::<O>(nodes, low, out);
        out.push(at);
        let high = visit::<O>(nodes, high, out);
        assert!(low.0.abs_diff(high.0) <= 1, "out of balance at {at:?}");
        assert_eq!(O::links(node).height, 1 + low.0.max(high.0));
        let room = node.room.max(low.1).max(high.1);
        if O::SUMS_ROOM {
            assert_eq!(node.greatest_room, room);
        }
        (O::links(node).height, room)
    }
    let mut out = Vec::new();
    visit::<O>(nodes, root, &mut out);
    assert!(out.is_sorted_by(|a, b| O::key(&nodes[a.index()]) < O::key(&nodes[b.index()])));
    out
}
