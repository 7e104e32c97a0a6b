//! Goya (v1_0) and Gaudi (v1_1): five hops over 50 address bits (facts 2.2, 2.3).

use super::entry::hl_entries;
use super::{Format, HopGeometry};
use crate::addr::DeviceAddr;

/// The format of Goya and Gaudi: 4 KiB leaves at hop 4, 2 MiB leaves at hop 3.
///
/// The hardware ignores address bits 63:50; here an address that has any of them set is refused,
/// since it would alias another.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct V1;

impl Format for V1 {
    const NAME: &'static str = "habanalabs v1";
    const HOPS: &'static [HopGeometry] = &[
        HopGeometry::tables(48, 2),
        HopGeometry::tables(39, 9),
        HopGeometry::tables(30, 9),
        HopGeometry::leaves(21, 9),
        HopGeometry::leaves(12, 9),
    ];
    const LAST_WALK_ADDRESS: u64 = (1 << 50) - 1;
    const BITS_IN_PLACE: u64 = u64::MAX;
    hl_entries!();

    #[inline(always)]
    fn key(address: DeviceAddr) -> Option<u64> {
        Some(address.get())
    }
}
