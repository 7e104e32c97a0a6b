//! The check that every index of the peer passes before it is used.

use core::fmt;

/// Reports an index of the peer that an honest peer cannot have written.
///
/// Indices wrap at 2^32, so `latest` can be the smaller number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct PeerIndex {
    /// The index read from the block.
    pub found: u32,
    /// The last value seen before: an index never goes back.
    pub earliest: u32,
    /// The furthest the peer could have come: a consumer no further than what was produced, a
    /// producer no further than the ring's capacity ahead.
    pub latest: u32,
}

impl PeerIndex {
    /// Accepts `found` where it lies between `earliest` and `latest`, in the order of wrapping
    /// indices.
    pub(super) const fn check(found: u32, earliest: u32, latest: u32) -> Result<u32, Self> {
        if found.wrapping_sub(earliest) <= latest.wrapping_sub(earliest) {
            Ok(found)
        } else {
            Err(Self {
                found,
                earliest,
                latest,
            })
        }
    }
}

impl fmt::Display for PeerIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "index {:#x} of the peer is outside {:#x}..={:#x}",
            self.found, self.earliest, self.latest
        )
    }
}

impl core::error::Error for PeerIndex {}
