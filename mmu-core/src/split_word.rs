//! Entries for processors without 64-bit atomics.

use crate::pool::TableWord;
use crate::sync::{AtomicU32, Ordering, fence};

/// An entry for processors that cannot write 64 bits at once.
///
/// Every format has what makes an entry valid in its lower half. So an entry is made valid by
/// writing its upper half first, and invalid by writing its lower half first; replacing one valid
/// entry by another goes through an invalid one. A device that reads concurrently, 64 bits at once,
/// sees the old entry, none, or the new one, and never a mixture.
///
/// None, where one valid entry replaces another, is a fault where there should be none: on such a
/// processor, split a leaf or change its rights while the device does not use it.
#[derive(Debug, Default)]
#[repr(C, align(8))]
pub struct SplitWord {
    /// The lower half first.
    halves: [AtomicU32; 2],
}

impl SplitWord {
    /// An empty entry.
    #[must_use]
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self {
            halves: [const { AtomicU32::new(0) }; 2],
        }
    }

    /// What is written for an entry, in order: upper half or not, and the value.
    const fn steps(entry: u64) -> [(bool, u32); 3] {
        [
            (false, 0),
            (true, (entry >> 32) as u32),
            (false, entry as u32),
        ]
    }
}

impl TableWord for SplitWord {
    fn load(&self) -> u64 {
        let [low, high] = &self.halves;
        let half = |word: &AtomicU32| u64::from(u32::from_le(word.load(Ordering::Relaxed)));
        half(low) | half(high) << 32
    }

    fn store(&self, entry: u64) {
        let [low, high] = &self.halves;
        let put = |(is_upper, value): (bool, u32)| {
            let half = if is_upper { high } else { low };
            half.store(value.to_le(), Ordering::Relaxed);
        };
        let [invalid, upper, lower] = Self::steps(entry);
        put(invalid);
        fence(Ordering::Release);
        put(upper);
        fence(Ordering::Release);
        put(lower);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::format::{Entry, Format, Gaudi2Hmmu, Gaudi2Pmmu, Hop, V1, X86_64, X86Attributes};

    /// Every state that a reader of 64 bits can find while each entry replaces each other one.
    fn check<F: Format>(attributes: &[F::Attributes]) {
        for (hop, geometry) in F::HOPS.iter().enumerate() {
            let hop = Hop::from_index(hop);
            // Addresses that differ in either half, in both, and by carries between them.
            let addresses = [
                0,
                0x10_0040_0000_0000,
                0xFFFF_FFFF << geometry.shift.min(30),
            ];
            let mut entries = vec![0];
            for address in
                addresses.map(|address| address & F::LAST_WALK_ADDRESS & 0xF_FFFF_FFFF_F000)
            {
                entries.push(F::table_entry(hop, address));
                if geometry.leaf {
                    let leaf = address & !geometry.offset_mask();
                    let of = |&attributes| F::leaf_entry(hop, leaf, attributes);
                    entries.extend(attributes.iter().map(of));
                }
            }
            for &old in &entries {
                for &new in &entries {
                    let mut seen = old;
                    for (is_upper, value) in SplitWord::steps(new) {
                        let value = u64::from(value);
                        seen = if is_upper {
                            (seen & 0xFFFF_FFFF) | value << 32
                        } else {
                            (seen & !0xFFFF_FFFF) | value
                        };
                        let said = F::decode(hop, seen);
                        assert!(
                            said == Entry::Empty || seen == old || seen == new,
                            "{}, {hop}: {old:#x} to {new:#x} by way of {seen:#x}",
                            F::NAME
                        );
                    }
                    assert_eq!(seen, new);
                }
            }
        }
    }

    #[test]
    fn a_reader_finds_the_old_entry_none_or_the_new_one_in_every_format() {
        use crate::format::NoAttributes;
        check::<V1>(&[NoAttributes]);
        check::<Gaudi2Pmmu>(&[NoAttributes]);
        check::<Gaudi2Hmmu<6>>(&[NoAttributes]);
        let rights = |writable, no_execute| X86Attributes {
            writable,
            user: true,
            no_execute,
        };
        check::<X86_64<4>>(&[
            rights(false, false),
            rights(true, true),
            rights(false, true),
        ]);
    }

    #[test]
    fn a_stored_entry_is_read_back_whole() {
        let word = SplitWord::new();
        for entry in [u64::MAX, 1, 0x1234_5678_9ABC_D801, 0] {
            word.store(entry);
            assert_eq!(word.load(), entry);
        }
    }
}
