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

fn hulls<const STACKS: u64>() {
    let (base, last) = (0x1001_0000_0000_0000, 0x1001_FFFF_FFFF_FFFF);
    let (chunk, slot) = (STACKS << 23, 1 << 26);
    // Facts SC-6.
    let fold = base + (chunk << 22);
    let hull = |start, len| {
        Gaudi2Hmmu::<STACKS>::walk_hull(AddrRange::new(DeviceAddr::new(start), len).unwrap())
    };
    assert_eq!(hull(0, u64::MAX), Some((base, last)));
    assert_eq!(hull(0, base), None);
    assert_eq!(hull(0, base + 1), Some((base, base)));
    assert_eq!(hull(base, chunk - 1), Some((base, base + chunk - 2)));
    // The unused tail of a slot belongs to the last address of the chunk.
    assert_eq!(hull(base, chunk), Some((base, base + slot - 1)));
    assert_eq!(hull(base, chunk + 1), Some((base, base + slot)));
    assert_eq!(hull(fold - 1, 1), Some((last - slot + chunk, last)));
    assert_eq!(hull(fold - 2, 1).map(|(first, end)| end - first), Some(0));
    assert_eq!(hull(fold, u64::MAX - fold), None);
}

#[test]
fn a_range_reaches_from_its_first_scrambled_address_to_before_that_behind_it() {
    hulls::<5>();
    hulls::<6>();
}
