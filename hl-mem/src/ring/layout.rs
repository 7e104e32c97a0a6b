//! What lies where in a block.

use core::fmt;
use core::num::{NonZeroU32, NonZeroU64};

use super::memory::{BlockRead, BlockWrite};

/// The first bytes of the producer page, which tell what kind of ring the block has.
const MAGIC: [u8; 4] = *b"HLRB";
/// Version of everything [`BlockLayout`] describes.
const VERSION: u32 = 1;
/// Magic, version, record size, capacity: four little-endian 32-bit words.
type Header = [[u8; 4]; 4];
/// The producer index's offset in its page: a line of its own on CPUs with 64- and 128-byte lines,
/// so that polling it is not disturbed by readers of the header.
const PRODUCER_INDEX: u64 = 128;
/// The offset of the consumer's wish to be woken in its page, on a line of its own: the producer reads
/// it after each push, and must not wait there for a line that the consumer keeps changing.
const CONSUMER_WAKE: u64 = 128;
/// The same of the producer, in the producer page.
const PRODUCER_WAKE: u64 = 256;
/// The offset of the count of dropped records in the producer page.
const DROPPED: u64 = 384;
/// A record starts at a multiple of this.
const RECORD_ALIGN: u32 = 8;
const MIN_PAGE_SIZE: u64 = 4096;
const MAX_CAPACITY: u32 = 1 << 31;

/// Describes where a block keeps its two indices, its header and its records.
///
/// All offsets and lengths are in bytes; offsets count from the start of the block.
///
/// | page    | content                                      | user process | device     |
/// |---------|----------------------------------------------|--------------|------------|
/// | 0       | consumer index (offset 0), consumer's wake request (128) | read, write | read |
/// | 1       | header, producer index (offset 128), producer's wake request (256), count of dropped records (384) | read | write |
/// | 2, 3, … | records, one after the other                 | read         | write      |
///
/// The rest of pages 0 and 1 is unused. A wake request is the last of the peer's indices at which
/// its writer need not be woken. Ends that poll leave the requests alone, and a producer that waits
/// leaves the count alone.
///
/// The page is the unit of protection, so its size is a parameter: with 64 KiB pages the consumer
/// page is 64 KiB. Records may straddle pages; the data pages are contiguous in every view.
///
/// The header is the magic `HLRB`, then the version (1), the record size and the capacity as 32-bit
/// words. It, the indices, the requests and the count are little-endian. Its only purpose is that a reader can find the
/// geometry ([`read_header`](Self::read_header)); neither end of a running ring looks at it.
///
/// # Invariants
///
/// The page size is a power of two of at least 4096; the record size a non-zero multiple of 8; the
/// capacity a power of two of at most 2^31; the block's length fits 64 bits. No arithmetic on a
/// layout can overflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct BlockLayout {
    page_size: u64,
    /// Not zero by type, so that dividing by it links no panic.
    record_size: NonZeroU32,
    capacity: u32,
}

impl BlockLayout {
    /// Lays out a ring of `capacity` records of `record_size` bytes each, in pages of `page_size`
    /// bytes.
    ///
    /// Records are multiples of 8 bytes, so that 64-bit fields in them are aligned on both sides.
    ///
    /// # Errors
    ///
    /// * [`LayoutError::PageSize`]: not a power of two, or less than 4096.
    /// * [`LayoutError::RecordSize`]: zero, or not a multiple of 8.
    /// * [`LayoutError::Capacity`]: not a power of two, or more than 2^31.
    /// * [`LayoutError::BlockTooLong`]: the block's length would be 2^64 bytes or more.
    pub const fn new(page_size: u64, record_size: u32, capacity: u32) -> Result<Self, LayoutError> {
        let record_size = match check_sizes(page_size, record_size) {
            Ok(record_size) => record_size,
            Err(error) => return Err(error),
        };
        if !capacity.is_power_of_two() || capacity > MAX_CAPACITY {
            return Err(LayoutError::Capacity { capacity });
        }
        let layout = Self {
            page_size,
            record_size,
            capacity,
        };
        // Everything else about a layout is smaller than its length.
        match layout.checked_block_len() {
            Some(_) => Ok(layout),
            None => Err(LayoutError::BlockTooLong),
        }
    }

    /// Lays out the largest ring of records of `record_size` bytes in a block of `block_len` bytes.
    ///
    /// The capacity is a power of two, so [`block_len`](Self::block_len) of the result can be less
    /// than what was given.
    ///
    /// # Errors
    ///
    /// * [`LayoutError::PageSize`], [`LayoutError::RecordSize`]: as for [`new`](Self::new).
    /// * [`LayoutError::PartialPage`]: `block_len` is not a multiple of the page size.
    /// * [`LayoutError::BlockTooShort`]: not even one record fits.
    pub const fn fitting(
        page_size: u64,
        record_size: u32,
        block_len: u64,
    ) -> Result<Self, LayoutError> {
        let size = match check_sizes(page_size, record_size) {
            Ok(size) => size.get() as u64,
            Err(error) => return Err(error),
        };
        if !block_len.is_multiple_of(page_size) {
            return Err(LayoutError::PartialPage { block_len });
        }
        // A multiple of the page size holds two pages exactly where half of it reaches one.
        let room = if block_len / 2 >= page_size {
            block_len - 2 * page_size
        } else {
            0
        };
        let records = match room.checked_div(size) {
            Some(records) => records.checked_ilog2(),
            None => None,
        };
        let Some(records) = records else {
            return Err(LayoutError::BlockTooShort { block_len });
        };
        let capacity = if records < MAX_CAPACITY.ilog2() {
            1 << records
        } else {
            MAX_CAPACITY
        };
        Self::new(page_size, record_size, capacity)
    }

    /// The page size in bytes.
    #[must_use]
    pub const fn page_size(self) -> u64 {
        self.page_size
    }

    /// The size of a record in bytes, a multiple of 8.
    #[must_use]
    pub const fn record_size(self) -> u32 {
        self.record_size.get()
    }

    /// How many records the ring holds, a power of two.
    #[must_use]
    pub const fn capacity(self) -> u32 {
        self.capacity
    }

    /// Where the consumer index lies: in the one page that the user process may write, page 0.
    #[must_use]
    pub const fn consumer_index_offset(self) -> u64 {
        0
    }

    /// Where the header lies. Everything from here to the block's end is read-only for the user
    /// process.
    #[must_use]
    pub const fn header_offset(self) -> u64 {
        self.page_size
    }

    /// Where the producer index lies.
    #[must_use]
    pub const fn producer_index_offset(self) -> u64 {
        self.page_size + PRODUCER_INDEX
    }

    /// Where the consumer's request to be woken lies, in page 0.
    #[must_use]
    pub const fn consumer_wake_offset(self) -> u64 {
        CONSUMER_WAKE
    }

    /// Where the producer's request to be woken lies.
    #[must_use]
    pub const fn producer_wake_offset(self) -> u64 {
        self.page_size + PRODUCER_WAKE
    }

    /// Where the count of dropped records lies.
    #[must_use]
    pub const fn dropped_offset(self) -> u64 {
        self.page_size + DROPPED
    }

    /// Where the data pages begin.
    #[must_use]
    pub const fn data_offset(self) -> u64 {
        2 * self.page_size
    }

    /// How many bytes all records take. The rest of the last data page is unused.
    #[must_use]
    pub const fn data_len(self) -> u64 {
        self.capacity as u64 * self.record_size() as u64
    }

    /// The length of the block in bytes, a multiple of the page size.
    #[must_use]
    pub const fn block_len(self) -> u64 {
        // The page size is a power of two, so this rounds up without a division.
        let within_page = self.page_size - 1;
        self.data_offset() + ((self.data_len() + within_page) & !within_page)
    }

    /// Where the record with this free-running index lies.
    #[must_use]
    pub const fn record_offset(self, index: u32) -> u64 {
        let slot = index & (self.capacity - 1);
        self.data_offset() + slot as u64 * self.record_size() as u64
    }

    /// Writes the header and sets both indices to `first_index`, which empties the ring. Nothing is
    /// dropped yet and nobody asks to be woken.
    ///
    /// This is for the owner of the block, before either side can reach it. `first_index` is
    /// normally 0; any other value works, and one just below 2^32 lets every run of a system pass
    /// the wrap within its first records.
    ///
    /// # Errors
    ///
    /// The memory's own. The block is then not usable.
    pub fn initialize<M: BlockWrite>(
        self,
        memory: &mut M,
        first_index: u32,
    ) -> Result<(), M::Error> {
        self.initialize_as(MAGIC, memory, first_index)
    }

    /// Initializes a ring of the kind that `magic` tells.
    pub(super) fn initialize_as<M: BlockWrite>(
        self,
        magic: [u8; 4],
        memory: &mut M,
        first_index: u32,
    ) -> Result<(), M::Error> {
        // A step too far back for either end to take it for one of its last.
        let nothing = first_index.wrapping_sub(self.capacity).wrapping_sub(1);
        memory.store_index(self.consumer_wake_offset(), nothing)?;
        memory.store_index(self.producer_wake_offset(), nothing)?;
        memory.store_index(self.dropped_offset(), 0)?;
        memory.store_index(self.consumer_index_offset(), first_index)?;
        memory.store_index(self.producer_index_offset(), first_index)?;
        let header: Header = [
            magic,
            VERSION.to_le_bytes(),
            self.record_size().to_le_bytes(),
            self.capacity.to_le_bytes(),
        ];
        memory.write(self.header_offset(), header.as_flattened())
    }

    /// Reads the layout of a block of `block_len` bytes, as mapped by the caller, from its header.
    ///
    /// The header is input like any other: it is copied once and checked against what the caller
    /// knows for itself, the page size and the length. The result is then the caller's own; later
    /// changes of the header have no effect.
    ///
    /// # Errors
    ///
    /// * [`HeaderError::Layout`]: the page size, record size or capacity is not usable.
    /// * [`HeaderError::Magic`]: not the header of a block with records of a fixed size.
    /// * [`HeaderError::Version`]: a block of another version.
    /// * [`HeaderError::Truncated`]: the ring it describes is longer than `block_len`.
    /// * [`HeaderError::Memory`]: the access failed.
    pub fn read_header<M: BlockRead>(
        memory: &mut M,
        page_size: u64,
        block_len: u64,
    ) -> Result<Self, HeaderError<M::Error>> {
        Self::read_header_as(MAGIC, memory, page_size, block_len)
    }

    /// Reads the layout of a ring of the kind that `expected` tells.
    pub(super) fn read_header_as<M: BlockRead>(
        expected: [u8; 4],
        memory: &mut M,
        page_size: u64,
        block_len: u64,
    ) -> Result<Self, HeaderError<M::Error>> {
        check_sizes(page_size, RECORD_ALIGN).map_err(HeaderError::Layout)?;
        if block_len / 2 < page_size {
            return Err(HeaderError::Truncated {
                needed: page_size.saturating_mul(2),
                block_len,
            });
        }
        let mut header: Header = [[0; 4]; 4];
        memory
            .read(page_size, header.as_flattened_mut())
            .map_err(HeaderError::Memory)?;
        let [magic, version, record_size, capacity] = header;
        if magic != expected {
            return Err(HeaderError::Magic { found: magic });
        }
        let version = u32::from_le_bytes(version);
        if version != VERSION {
            return Err(HeaderError::Version { found: version });
        }
        let record_size = u32::from_le_bytes(record_size);
        let capacity = u32::from_le_bytes(capacity);
        let layout = Self::new(page_size, record_size, capacity).map_err(HeaderError::Layout)?;
        let needed = layout.block_len();
        if needed > block_len {
            return Err(HeaderError::Truncated { needed, block_len });
        }
        Ok(layout)
    }

    /// The size of a record, as buffers have it.
    pub(super) const fn record_len(self) -> usize {
        self.record_size() as usize
    }

    /// How many records `len` bytes are, at most `u32::MAX`, which is more than any ring holds;
    /// `None` where the last would be incomplete.
    pub(super) fn whole_records(self, len: usize) -> Option<u32> {
        let len = len as u64;
        let size = NonZeroU64::from(self.record_size);
        let records = len / size;
        (records * size.get() == len).then(|| u32::try_from(records).unwrap_or(u32::MAX))
    }

    /// How many of `len` bytes from `offset` in the data on lie before the ring's end.
    pub(super) fn before_end(self, offset: u64, len: usize) -> usize {
        let room = (self.data_offset() + self.data_len()).saturating_sub(offset);
        usize::try_from(room).map_or(len, |room| room.min(len))
    }

    const fn checked_block_len(self) -> Option<u64> {
        // At most 2^31 * (2^32 - 8), which fits.
        let data_len = self.data_len();
        match (
            self.page_size.checked_mul(2),
            data_len.checked_next_multiple_of(self.page_size),
        ) {
            (Some(header_pages), Some(data_pages)) => header_pages.checked_add(data_pages),
            _ => None,
        }
    }
}

/// Checks both sizes and returns that of a record.
const fn check_sizes(page_size: u64, record_size: u32) -> Result<NonZeroU32, LayoutError> {
    if !page_size.is_power_of_two() || page_size < MIN_PAGE_SIZE {
        return Err(LayoutError::PageSize { page_size });
    }
    match NonZeroU32::new(record_size) {
        Some(size) if record_size.is_multiple_of(RECORD_ALIGN) => Ok(size),
        _ => Err(LayoutError::RecordSize { record_size }),
    }
}

/// Says why there is no such layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum LayoutError {
    /// The page size is not a power of two, or less than 4096.
    PageSize {
        /// The page size in bytes.
        page_size: u64,
    },
    /// The record size is zero or not a multiple of 8.
    RecordSize {
        /// The record size in bytes.
        record_size: u32,
    },
    /// The capacity is not a power of two, or more than 2^31.
    Capacity {
        /// The capacity in records.
        capacity: u32,
    },
    /// The block's length would be 2^64 bytes or more.
    BlockTooLong,
    /// The block's length is not a multiple of the page size.
    PartialPage {
        /// The block's length in bytes.
        block_len: u64,
    },
    /// The block has no room for one record behind its two first pages.
    BlockTooShort {
        /// The block's length in bytes.
        block_len: u64,
    },
}

impl fmt::Display for LayoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PageSize { page_size } => {
                write!(f, "page size {page_size} is not a power of two >= 4096")
            }
            Self::RecordSize { record_size } => {
                write!(
                    f,
                    "record size {record_size} is not a non-zero multiple of 8"
                )
            }
            Self::Capacity { capacity } => {
                write!(f, "capacity {capacity} is not a power of two <= 2^31")
            }
            Self::BlockTooLong => write!(f, "block would be 2^64 bytes or longer"),
            Self::PartialPage { block_len } => {
                write!(f, "block of {block_len} bytes is not whole pages")
            }
            Self::BlockTooShort { block_len } => {
                write!(f, "block of {block_len} bytes has no room for a record")
            }
        }
    }
}

impl core::error::Error for LayoutError {}

/// Says why a block's header was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum HeaderError<E> {
    /// The bytes are not the header of a block with this kind of ring.
    Magic {
        /// The first four bytes found.
        found: [u8; 4],
    },
    /// The block has a version that this code does not know.
    Version {
        /// The version found.
        found: u32,
    },
    /// The page size given, or the record size or capacity found, is not usable.
    Layout(LayoutError),
    /// The ring does not fit into the block as it is mapped.
    Truncated {
        /// How many bytes the ring needs.
        needed: u64,
        /// How many bytes are mapped.
        block_len: u64,
    },
    /// The header could not be read.
    Memory(E),
}

impl<E: fmt::Display> fmt::Display for HeaderError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Magic { found } => write!(f, "no header of such a block: magic is {found:02x?}"),
            Self::Version { found } => write!(f, "block version {found} is not known"),
            Self::Layout(error) => write!(f, "block header: {error}"),
            Self::Truncated { needed, block_len } => {
                write!(
                    f,
                    "ring of {needed} bytes in a block of {block_len} mapped bytes"
                )
            }
            Self::Memory(error) => write!(f, "block header unreadable: {error}"),
        }
    }
}

impl<E: core::error::Error + 'static> core::error::Error for HeaderError<E> {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Layout(error) => Some(error),
            Self::Memory(error) => Some(error),
            Self::Magic { .. } | Self::Version { .. } | Self::Truncated { .. } => None,
        }
    }
}
