//! Gaudi2: the PMMU that translates accesses to host memory (facts 2.4) and the HMMU that
//! translates accesses to device DRAM (facts 2.5, 2.6).

use super::entry::hl_entries;
use super::{Format, HopGeometry};
use crate::addr::{AddrRange, BusAddr, DeviceAddr, Run};

/// The format of the Gaudi2 PMMU beside a host with 4 KiB pages: six hops over all 64 address
/// bits, 4 KiB leaves at hop 5, 2 MiB leaves at hop 4.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Gaudi2Pmmu;

impl Format for Gaudi2Pmmu {
    const NAME: &'static str = "Gaudi2 PMMU";
    const HOPS: &'static [HopGeometry] = &[
        HopGeometry::tables(57, 7),
        HopGeometry::tables(48, 9),
        HopGeometry::tables(39, 9),
        HopGeometry::tables(30, 9),
        HopGeometry::leaves(21, 9),
        HopGeometry::leaves(12, 9),
    ];
    const LAST_WALK_ADDRESS: u64 = u64::MAX;
    const BITS_IN_PLACE: u64 = u64::MAX;
    hl_entries!();
}

/// The format of the Gaudi2 PMMU beside a host with 64 KiB pages: 64 KiB leaves at hop 5, 16 MiB
/// leaves at hop 4; each hop uses the first 256 entries of its tables.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Gaudi2Pmmu64K;

impl Format for Gaudi2Pmmu64K {
    const NAME: &'static str = "Gaudi2 PMMU (64 KiB pages)";
    const HOPS: &'static [HopGeometry] = &[
        HopGeometry::tables(56, 8),
        HopGeometry::tables(48, 8),
        HopGeometry::tables(40, 8),
        HopGeometry::tables(32, 8),
        HopGeometry::leaves(24, 8),
        HopGeometry::leaves(16, 8),
    ];
    const LAST_WALK_ADDRESS: u64 = u64::MAX;
    const BITS_IN_PLACE: u64 = u64::MAX;
    hl_entries!();
}

/// The format of the Gaudi2 HMMUs with `STACKS` functional HBM stacks (6, or 5 with one faulty).
///
/// A leaf at hop 3 spans 1 GiB of walk addresses, which is one DRAM page of `STACKS` * 128 MiB
/// (facts SC-4). Only addresses of device DRAM can be mapped, and only DRAM can be mapped to.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Gaudi2Hmmu<const STACKS: u64>;

/// The interval that the hardware scrambles (facts SC-2).
const DRAM_BASE: u64 = 0x1001_0000_0000_0000;
const DRAM_LAST: u64 = 0x1001_FFFF_FFFF_FFFF;
/// The part of an address that scrambling transforms (facts SC-3).
const LOW_48_BITS: u64 = (1 << 48) - 1;
/// Each chunk of raw addresses occupies one slot of this many bytes (facts SC-4).
const SLOT_SHIFT: u32 = 26;

impl<const STACKS: u64> Gaudi2Hmmu<STACKS> {
    /// Bytes of raw addresses in one slot of scrambled addresses (facts SC-3).
    const CHUNK: u64 = {
        assert!(
            STACKS == 5 || STACKS == 6,
            "Gaudi2 runs with five or six HBM stacks"
        );
        STACKS << 23
    };

    /// Bytes in a DRAM page: what one leaf maps.
    pub const PAGE_BYTES: u64 = 16 * Self::CHUNK;

    /// What the hardware makes of a device-DRAM address before it walks or stores it; `None` for
    /// an address outside, and for one so high that the result folds back onto lower addresses
    /// (facts SC-6).
    #[must_use]
    #[inline(always)]
    pub const fn scramble(address: u64) -> Option<u64> {
        if address < DRAM_BASE || address > DRAM_LAST - 7 {
            return None;
        }
        let low = address & LOW_48_BITS;
        let scrambled = ((low / Self::CHUNK) << SLOT_SHIFT) | (low % Self::CHUNK);
        if scrambled > LOW_48_BITS {
            None
        } else {
            Some(DRAM_BASE | scrambled)
        }
    }

    /// The address whose scrambled form is given; `None` where no address has it: outside of
    /// device DRAM, or in the unused tail of a slot (facts SC-7).
    #[must_use]
    #[inline(always)]
    pub const fn descramble(address: u64) -> Option<u64> {
        if address < DRAM_BASE || address > DRAM_LAST {
            return None;
        }
        let low = address & LOW_48_BITS;
        let within = low & ((1 << SLOT_SHIFT) - 1);
        if within >= Self::CHUNK {
            return None;
        }
        Some(DRAM_BASE | ((low >> SLOT_SHIFT) * Self::CHUNK + within))
    }

    /// The scrambled start and length of a range, which are multiples of 1 GiB exactly when the
    /// range is whole DRAM pages.
    #[inline(always)]
    fn scramble_range(start: u64, len: u64) -> Option<(u64, u64)> {
        let first = Self::scramble(start)?;
        if !len.is_multiple_of(Self::PAGE_BYTES) {
            // No address has the last scrambled address of a page, so this length, where it is
            // added to the start of one, ends at none.
            let last = Self::scramble(start.checked_add(len - 1)?)?;
            return Some((first, last - first + 1));
        }
        let len = (len / Self::PAGE_BYTES).checked_mul(1 << 30)?;
        (first.checked_add(len - 1)? <= DRAM_LAST).then_some((first, len))
    }

    /// [`descramble`](Self::descramble) for addresses this crate made itself, where a slot's
    /// unused tail stands for the end of its chunk.
    #[inline(always)]
    const fn descramble_made(address: u64) -> u64 {
        match Self::descramble(address) {
            Some(address) => address,
            None => address,
        }
    }
}

impl<const STACKS: u64> Format for Gaudi2Hmmu<STACKS> {
    const NAME: &'static str = "Gaudi2 HMMU";
    const HOPS: &'static [HopGeometry] = &[
        HopGeometry::tables(57, 7),
        HopGeometry::tables(48, 9),
        HopGeometry::tables(39, 9),
        HopGeometry::leaves(30, 9),
    ];
    const LAST_WALK_ADDRESS: u64 = DRAM_LAST;
    hl_entries!();

    #[inline(always)]
    fn walk_address(address: DeviceAddr) -> Option<u64> {
        Self::scramble(address.get())
    }

    #[inline(always)]
    fn device_address(walk_address: u64) -> DeviceAddr {
        DeviceAddr::new(Self::descramble_made(walk_address))
    }

    #[inline(always)]
    fn walk_range(range: AddrRange<DeviceAddr>) -> Option<(u64, u64)> {
        Self::scramble_range(range.start().get(), range.len())
    }

    fn walk_hull(range: AddrRange<DeviceAddr>) -> Option<(u64, u64)> {
        let last = range.last().get();
        if last < DRAM_BASE {
            return None;
        }
        let first = Self::scramble(range.start().get().max(DRAM_BASE))?;
        // All up to the next address: behind the last of a chunk comes the unused tail of its slot.
        // What is behind the last of all folds back.
        let next = last.checked_add(1).and_then(Self::scramble);
        Some((first, next.map_or(DRAM_LAST, |next| next - 1)))
    }

    #[inline(always)]
    fn device_len(len: u64) -> u64 {
        (len >> 30) * Self::PAGE_BYTES
    }

    #[inline(always)]
    fn entry_address(bus: BusAddr) -> Option<u64> {
        Self::scramble(bus.get())
    }

    #[inline(always)]
    fn entry_run(run: Run) -> Option<(u64, u64)> {
        Self::scramble_range(run.start().get(), run.len())
    }

    #[inline(always)]
    fn bus_address(address: u64) -> BusAddr {
        BusAddr::new(Self::descramble_made(address))
    }
}
