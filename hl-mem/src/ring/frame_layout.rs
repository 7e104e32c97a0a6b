//! What lies where in a block whose ring holds frames.

use super::memory::{BlockRead, BlockWrite};
use super::{BlockLayout, HeaderError, LayoutError};

/// Tells a ring of frames from one of records of a fixed size.
const MAGIC: [u8; 4] = *b"HLRF";
/// Bytes per unit of the indices.
pub(super) const UNIT: u32 = 8;

/// Describes a block whose ring holds frames: records of any length, each behind a prefix that tells
/// the length.
///
/// Pages, indices, requests and counts lie where they do in a [`BlockLayout`], and the header has the
/// same fields. Only the magic differs, `HLRF`, so that neither kind of end takes one kind of ring
/// for the other. The indices and the capacity count *units* of 8 bytes.
///
/// A frame starts at a unit and is made of:
///
/// | bytes | content                                         |
/// |-------|-------------------------------------------------|
/// | 0..4  | length of the record in bytes, little-endian    |
/// | 4..8  | the same with all bits inverted                 |
/// | 8..   | the record, and zeros up to the end of the unit |
///
/// A frame that reaches the end of the data goes on at its start. Nothing is skipped there, so a
/// record can be as long as the ring less one unit, wherever the indices are; that a record lies in
/// two pieces costs nothing, as each end copies anyway. A prefix is never in two pieces.
///
/// The inverted length tells the start of a frame from the middle of one: an end that lost its place
/// finds an error there, and not, all but certainly, the bytes of some record taken for a length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct FrameLayout(BlockLayout);

impl FrameLayout {
    /// Lays out a ring of `capacity` units of 8 bytes in pages of `page_size` bytes.
    ///
    /// # Errors
    ///
    /// * [`LayoutError::PageSize`]: not a power of two, or less than 4096.
    /// * [`LayoutError::Capacity`]: not a power of two, or more than 2^31.
    /// * [`LayoutError::BlockTooLong`]: the block's length would be 2^64 bytes or more.
    pub const fn new(page_size: u64, capacity: u32) -> Result<Self, LayoutError> {
        match BlockLayout::new(page_size, UNIT, capacity) {
            Ok(block) => Ok(Self(block)),
            Err(error) => Err(error),
        }
    }

    /// Lays out the largest ring of frames in a block of `block_len` bytes.
    ///
    /// # Errors
    ///
    /// As for [`BlockLayout::fitting`].
    pub const fn fitting(page_size: u64, block_len: u64) -> Result<Self, LayoutError> {
        match BlockLayout::fitting(page_size, UNIT, block_len) {
            Ok(block) => Ok(Self(block)),
            Err(error) => Err(error),
        }
    }

    /// Where everything lies, with a unit in the place of a record.
    #[must_use]
    pub const fn block(self) -> BlockLayout {
        self.0
    }

    /// The longest record that fits, in bytes.
    #[must_use]
    pub const fn max_record_len(self) -> u32 {
        // At most (2^31 - 1) * 8.
        let len = (self.0.capacity() - 1) as u64 * UNIT as u64;
        if len > u32::MAX as u64 {
            u32::MAX
        } else {
            len as u32
        }
    }

    /// How many units the frame of a record of `len` bytes takes, its prefix included.
    #[must_use]
    pub const fn frame_units(len: u32) -> u32 {
        1 + len.div_ceil(UNIT)
    }

    /// Writes the header and sets both indices to `first_index`, which empties the ring; see
    /// [`BlockLayout::initialize`].
    ///
    /// # Errors
    ///
    /// The memory's own. The block is then not usable.
    pub fn initialize<M: BlockWrite>(
        self,
        memory: &mut M,
        first_index: u32,
    ) -> Result<(), M::Error> {
        self.0.initialize_as(MAGIC, memory, first_index)
    }

    /// Reads the layout of a block of `block_len` bytes, as mapped by the caller, from its header;
    /// see [`BlockLayout::read_header`].
    ///
    /// # Errors
    ///
    /// As for [`BlockLayout::read_header`]; [`HeaderError::Magic`] for a ring of records of a fixed
    /// size, [`HeaderError::Layout`] for units of another size.
    pub fn read_header<M: BlockRead>(
        memory: &mut M,
        page_size: u64,
        block_len: u64,
    ) -> Result<Self, HeaderError<M::Error>> {
        let block = BlockLayout::read_header_as(MAGIC, memory, page_size, block_len)?;
        if block.record_size() == UNIT {
            Ok(Self(block))
        } else {
            Err(HeaderError::Layout(LayoutError::RecordSize {
                record_size: block.record_size(),
            }))
        }
    }

    /// Where the byte `at`, counted from the start of the unit `index`, lies in the block.
    pub(super) fn locate(self, index: u32, at: u64) -> u64 {
        // Both are less than 2^35: the data is at most that long, and so is a frame.
        let len = self.0.data_len();
        let from_data = self.0.record_offset(index) - self.0.data_offset() + at;
        self.0.data_offset() + (from_data & (len - 1))
    }
}

/// The prefix of a frame with a record of `len` bytes.
pub(super) fn prefix(len: u32) -> [[u8; 4]; 2] {
    [len.to_le_bytes(), (!len).to_le_bytes()]
}

/// The length that a prefix tells; `None` where it is no prefix.
pub(super) fn prefix_len(prefix: [[u8; 4]; 2]) -> Option<u32> {
    let [len, inverted] = prefix.map(u32::from_le_bytes);
    (inverted == !len).then_some(len)
}
