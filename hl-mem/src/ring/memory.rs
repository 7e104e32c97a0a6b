//! How an end of the ring reaches the block.

/// Reaches the indices of a block, from one side of it.
///
/// An implementation is one side's way to the block: a mapped slice, a device that translates each
/// access, a model. Offsets count in bytes from the start of the block and are multiples of 4.
///
/// # Contract
///
/// The ring is correct over any implementation that keeps these promises. An implementation that
/// breaks one loses or tears records, but cannot make the ring access anything it was not told to.
///
/// 1. *Single access.* An index is loaded or stored by exactly one naturally aligned 32-bit access,
///    little-endian in memory. It never tears and the compiler neither repeats nor drops it.
/// 2. *`load_index` acquires.* No [`read`](BlockRead::read) or [`write`](BlockWrite::write) made
///    through this value after the load takes effect before it, and a read sees everything the peer
///    wrote before it stored the index loaded. Without this the consumer reads a slot that is not
///    filled yet, or the producer fills a slot that is not read yet.
/// 3. *`store_index` releases.* Every `read` **and** `write` made through this value before the
///    store is complete, and the writes are visible to the peer, before the new index is. Without
///    it for writes, the peer sees an index whose records are not there; without it for reads, the
///    peer refills a slot while its old record is still being copied.
/// 4. *An error means that nothing happened:* a failed store has not reached memory and never will.
///    The ring goes on from its previous index.
///
/// For memory that only CPUs touch, `Acquire` and `Release` of a 32-bit atomic are points 2 and 3.
/// Where a device takes part, the implementation provides the equivalent: on a CPU, the platform's
/// device-memory barriers, and on a non-coherent platform cache maintenance of the data after the
/// load and before the store; on the device, whatever keeps its index write behind its record
/// writes (posted PCI Express writes keep their order unless they are marked as relaxed) and its
/// record writes behind the completion of its index read.
pub trait BlockIndices {
    /// Says why an access failed, for example a translation fault of the device.
    type Error;

    /// Loads the index at `offset`, with acquire ordering.
    ///
    /// # Errors
    ///
    /// The implementation's own, where the index cannot be reached.
    fn load_index(&mut self, offset: u64) -> Result<u32, Self::Error>;

    /// Stores `index` at `offset`, with release ordering.
    ///
    /// # Errors
    ///
    /// The implementation's own, where the index cannot be reached; nothing is stored then.
    fn store_index(&mut self, offset: u64, index: u32) -> Result<(), Self::Error>;
}

/// Reads data of a block: what a consumer needs beyond the indices.
///
/// A read-only mapping can implement it. The peer may write at the same time, so an implementation
/// uses accesses that are allowed to race (atomic, volatile or outside the language), never a plain
/// copy of shared memory.
pub trait BlockRead: BlockIndices {
    /// Copies the bytes from `offset` on into `bytes`; both `offset` and the length are multiples
    /// of 8.
    ///
    /// No order among the bytes is required, and a concurrent writer may show in part.
    ///
    /// # Errors
    ///
    /// The implementation's own, where a byte cannot be reached; `bytes` may have changed.
    fn read(&mut self, offset: u64, bytes: &mut [u8]) -> Result<(), Self::Error>;
}

/// Writes data of a block: what a producer needs beyond the indices.
///
/// The peer may read at the same time; see [`BlockRead`] for what that asks of an implementation.
pub trait BlockWrite: BlockIndices {
    /// Copies `bytes` to `offset` and on; both `offset` and the length are multiples of 8.
    ///
    /// No order among the bytes is required.
    ///
    /// # Errors
    ///
    /// The implementation's own, where a byte cannot be reached. Others may have been written: the
    /// ring writes only to slots that the peer does not read, and writes all of a slot again before
    /// it publishes it.
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Self::Error>;
}

/// Orders a store before a load, which release and acquire do not: what an end needs to sleep, or to
/// know whether its peer does.
///
/// Polling ends do without it.
pub trait BlockFence: BlockIndices {
    /// Makes every earlier access through this value take effect, in the eyes of the peer, before
    /// any later one does; of two ends that both store, call this and load what the other stored,
    /// at least one sees the other's store.
    ///
    /// For memory that only CPUs touch that is a sequentially consistent fence. A device behind
    /// posted writes reads something back.
    ///
    /// # Errors
    ///
    /// The implementation's own, where the order cannot be had.
    fn fence(&mut self) -> Result<(), Self::Error>;
}
