//! What the log sees of the page tables' pools.
//!
//! A pool is the driver's own business: taking a table and giving one back is a change of a list, which
//! no port is called for. But how many tables are taken can be asked at any time, and is asked with
//! every other event. So a change is reported in its place between the events before and after, as one
//! event for what changed in the meantime, and without the addresses of the tables.

use core::fmt;
use std::mem;

use super::{Event, EventLog, TableMemory};

/// The pools of a machine's page tables.
///
/// They are asked while the log is locked: answering must not record anything.
pub trait TablePools: Sync {
    /// How many tables of this memory are not free.
    fn used(&self, memory: TableMemory) -> u32;
}

const MEMORIES: [TableMemory; 2] = [TableMemory::Device, TableMemory::Host];

/// Pools, and what they said last.
pub(super) struct Watched {
    /// Which of those that are watched at a time.
    key: u64,
    pools: &'static dyn TablePools,
    used: [u32; 2],
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Watched({:?})", self.used)
    }
}

impl Watched {
    /// What has changed since the last time.
    pub(super) fn changes(&mut self) -> impl Iterator<Item = Event> {
        let now = MEMORIES.map(|memory| self.pools.used(memory));
        let before = mem::replace(&mut self.used, now);
        (0..MEMORIES.len()).filter_map(move |index| {
            let memory = MEMORIES[index];
            let (before, used) = (before[index], now[index]);
            match used.checked_sub(before) {
                Some(0) => None,
                Some(tables) => Some(Event::TableAllocate {
                    memory,
                    tables,
                    used,
                }),
                None => Some(Event::TableFree {
                    memory,
                    tables: before - used,
                    used,
                }),
            }
        })
    }
}

/// Ends the watching, however the work ends.
struct Unwatch<'l> {
    log: &'l EventLog,
    key: u64,
}

impl Drop for Unwatch<'_> {
    fn drop(&mut self) {
        let mut kept = self.log.up_to_date();
        kept.watched.retain(|watched| watched.key != self.key);
    }
}

impl EventLog {
    /// Reports what is taken from `pools` and given back to them while `run` goes on, as long as events
    /// are kept.
    pub fn watching<R>(&self, pools: &dyn TablePools, run: impl FnOnce() -> R) -> R {
        // SAFETY: only the lifetime changes. The reference goes into the log's list of what is watched
        // and nowhere else, and is used under the lock of that; `Unwatch` takes it out, under the same
        // lock and by a key that no other has, before this function returns or unwinds, which is
        // before the borrow ends. Nothing copies it: `Watched` is private to the log and not `Clone`.
        let pools = unsafe { mem::transmute::<&dyn TablePools, &'static dyn TablePools>(pools) };
        let key = {
            let mut kept = self.up_to_date();
            kept.last_key += 1;
            let key = kept.last_key;
            kept.watched.push(Watched {
                key,
                pools,
                used: MEMORIES.map(|memory| pools.used(memory)),
            });
            key
        };
        let _unwatch = Unwatch { log: self, key };
        run()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::log::EventKind;

    #[derive(Default)]
    struct Taken(AtomicU32);

    impl TablePools for Taken {
        fn used(&self, memory: TableMemory) -> u32 {
            match memory {
                TableMemory::Device => self.0.load(Ordering::Relaxed),
                TableMemory::Host => 0,
            }
        }
    }

    fn told(log: &EventLog) -> Vec<String> {
        let records = log.records();
        records
            .iter()
            .map(|record| record.event.to_string())
            .collect()
    }

    #[test]
    fn a_change_stands_between_the_events_before_and_after_it() {
        let (log, pools) = (EventLog::recording(), Taken::default());
        log.watching(&pools, || {
            log.record(Event::Flush { posted: 1 });
            pools.0.store(5, Ordering::Relaxed);
            log.record(Event::Flush { posted: 2 });
            pools.0.store(3, Ordering::Relaxed);
        });
        let expected = [
            "flush            1 posted writes",
            "table allocate   5 in device memory, 5 taken now",
            "flush            2 posted writes",
            "table free       2 in device memory, 3 still taken",
        ];
        assert_eq!(told(&log), expected);
        assert_eq!(log.count(EventKind::TableFree), 1);
    }

    #[test]
    fn what_changed_before_recording_began_is_not_told_later() {
        let (log, pools) = (EventLog::new(), Taken::default());
        log.watching(&pools, || {
            pools.0.store(5, Ordering::Relaxed);
            log.set_recording(true);
            assert_eq!(log.mark(), 0);
            pools.0.store(6, Ordering::Relaxed);
            assert_eq!(log.mark(), 1);
        });
    }

    #[test]
    fn pools_are_not_asked_any_more_when_the_work_has_ended_or_panicked() {
        let log = EventLog::recording();
        let pools = Taken::default();
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            log.watching(&pools, || std::panic::resume_unwind(Box::new("over")));
        }));
        assert!(panicked.is_err());
        log.watching(&pools, || ());
        pools.0.store(5, Ordering::Relaxed);
        assert_eq!(told(&log), [""; 0]);
    }
}
