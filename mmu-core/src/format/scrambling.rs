//! The limits of what Gaudi2 scrambles (facts SC-2 to SC-7).

use super::*;

fn limits<const STACKS: u64>() {
    type Hmmu<const STACKS: u64> = Gaudi2Hmmu<STACKS>;
    let (first, last) = (0x1001_0000_0000_0000, 0x1001_FFFF_FFFF_FFFF);
    let chunk = STACKS << 23;
    assert_eq!(Hmmu::<STACKS>::scramble(first), Some(first));
    assert_eq!(Hmmu::<STACKS>::scramble(first - 1), None);
    assert_eq!(Hmmu::<STACKS>::scramble(last + 1), None);
    assert_eq!(Hmmu::<STACKS>::descramble(first), Some(first));
    // What is outside is none, though the low bits would be that of a chunk.
    for outside in [0, first - (1 << 48), last + 1, last + 1 + (1 << 26)] {
        assert_eq!(Hmmu::<STACKS>::descramble(outside), None, "{outside:#x}");
    }
    // The slot after the first, the end of its chunk and the beginning of its tail.
    let slot = first + (1 << 26);
    assert_eq!(Hmmu::<STACKS>::descramble(slot), Some(first + chunk));
    assert_eq!(
        Hmmu::<STACKS>::descramble(slot + chunk - 1),
        Some(first + 2 * chunk - 1)
    );
    assert_eq!(Hmmu::<STACKS>::descramble(slot + chunk), None);
}

#[test]
fn only_addresses_of_device_memory_are_scrambled_or_come_from_scrambling() {
    limits::<5>();
    limits::<6>();
}
