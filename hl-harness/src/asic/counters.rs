//! What the device did, in numbers.

use core::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::log::{EventKind, EventLog};

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) translations: Counter,
    pub(crate) leaf_hits: Counter,
    pub(crate) line_hits: Counter,
    pub(crate) table_fetches: Counter,
    pub(crate) faults: Counter,
    pub(crate) unknown_reads: Counter,
    pub(crate) posted_writes: Counter,
    pub(crate) bytes_read: Counter,
    pub(crate) bytes_written: Counter,
}

impl Counters {
    pub(crate) fn snapshot(&self, log: &EventLog) -> AsicCounters {
        AsicCounters {
            translations: self.translations.get(),
            leaf_hits: self.leaf_hits.get(),
            line_hits: self.line_hits.get(),
            table_fetches: self.table_fetches.get(),
            faults: self.faults.get(),
            bytes_read: self.bytes_read.get(),
            bytes_written: self.bytes_written.get(),
            posted_writes: self.posted_writes.get(),
            flushes: log.count(EventKind::Flush),
            invalidations: log.count(EventKind::InvalidateBegin),
            invalidations_done: log.count(EventKind::InvalidateEnd),
            unknown_reads: self.unknown_reads.get(),
            unknown_writes: log.count(EventKind::RegisterUnknown),
            protocol_violations: log.count(EventKind::ProtocolViolation),
        }
    }
}

/// What a device did since it was built. The fields only grow; those taken from the event log cover
/// every device that shares the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AsicCounters {
    /// Addresses translated, cached or walked.
    pub translations: u64,
    /// Of these, answered by the leaf cache.
    pub leaf_hits: u64,
    /// Table lines answered by the line cache.
    pub line_hits: u64,
    /// Table lines read from memory.
    pub table_fetches: u64,
    /// Accesses refused.
    pub faults: u64,
    /// Bytes read by initiators.
    pub bytes_read: u64,
    /// Bytes written by initiators.
    pub bytes_written: u64,
    /// 64-bit words written through the BAR.
    pub posted_writes: u64,
    /// Reads through the BAR.
    pub flushes: u64,
    /// Invalidations started, counted per unit.
    pub invalidations: u64,
    /// Invalidations that took effect.
    pub invalidations_done: u64,
    /// Reads of registers the model does not know.
    pub unknown_reads: u64,
    /// Writes to registers the model does not know.
    pub unknown_writes: u64,
    /// Register protocols broken by the driver.
    pub protocol_violations: u64,
}

impl fmt::Display for AsicCounters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} translations ({} from the leaf cache), {} table lines ({} fetched), {} faults, \
             {} bytes read, {} written, {} invalidations ({} done), {} posted writes, {} flushes",
            self.translations,
            self.leaf_hits,
            self.line_hits + self.table_fetches,
            self.table_fetches,
            self.faults,
            self.bytes_read,
            self.bytes_written,
            self.invalidations,
            self.invalidations_done,
            self.posted_writes,
            self.flushes
        )
    }
}
