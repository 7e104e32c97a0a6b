//! The ordered event log: what the device, the host and the driver did, in one sequence.
//!
//! Memory bugs of this family are bugs of *order*: an entry cleared after the invalidation, a page
//! unpinned before it, a table freed while a line of it is still cached. So every party writes typed
//! events into one shared log, each with a sequence number, and a test asserts on the order. Printed
//! one per line they are what `--trace` shows.
//!
//! Events are always *counted* ([`EventLog::count`]), one relaxed addition each. They are *kept* only
//! while recording is on; otherwise no lock is taken. What happens to the pools of page tables is looked
//! for while recording only ([`EventLog::watching`]).
//!
//! ```
//! use hl_harness::log::{Event, EventKind, EventLog};
//! let log = EventLog::recording();
//! let mark = log.mark();
//! log.record(Event::Flush { posted: 3 });
//! assert_eq!(log.count(EventKind::Flush), 1);
//! assert_eq!(log.since(mark)[0].to_string(), "     0  flush            3 posted writes");
//! ```

mod pools;

pub use pools::TablePools;

use core::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use mmu_core::{BusAddr, DeviceAddr};
use serde::{Deserialize, Serialize};

use crate::asic::{AccessKind, FaultReason, InitiatorId, InvalidationScope, MmuInstance};
use crate::host::{Frame, FrameOwner};

/// Where a page table lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TableMemory {
    /// In the device's DRAM; entries are stored through the BAR.
    Device,
    /// In host memory; entries are stored by the CPU.
    Host,
}

impl fmt::Display for TableMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Device => "device",
            Self::Host => "host",
        })
    }
}

/// Declares the events once: the enum, its field-less twin for counting, the word that starts a
/// printed line and the rest of the line.
macro_rules! events {
    ($( $(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty),* } $word:literal $format:literal; )*) => {
        /// Something that happened. Addresses are of the space their type names; lengths are bytes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Event {
            $( $(#[$doc])* $name { $($(#[$field_doc])* $field: $type),* }, )*
        }

        /// What kind of event it is: the key of [`EventLog::count`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum EventKind {
            $( $(#[$doc])* $name, )*
        }

        impl EventKind {
            /// Every kind, in declaration order.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];
        }

        impl Event {
            /// The kind of this event.
            #[must_use]
            pub fn kind(&self) -> EventKind {
                match self { $( Self::$name { .. } => EventKind::$name, )* }
            }
        }

        impl fmt::Display for EventKind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(match self { $( Self::$name => $word, )* })
            }
        }

        impl fmt::Display for Event {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:<16} ", self.kind())?;
                match self { $( Self::$name { $($field),* } => write!(f, $format), )* }
            }
        }
    };
}

events! {
    /// A known device register was written.
    RegisterWrite { /** Configuration-space offset. */ offset: u32, /** The value. */ value: u32 }
        "register" "{offset:#09x} = {value:#010x}";
    /// A register the model does not know was written; the write had no effect.
    RegisterUnknown { /** Configuration-space offset. */ offset: u32, /** The value. */ value: u32 }
        "unknown register" "{offset:#09x} = {value:#010x}";
    /// The driver broke a register protocol in a way the hardware would not report.
    ProtocolViolation { /** The MMU concerned. */ mmu: MmuInstance, /** What was wrong. */ what: &'static str }
        "violation" "{mmu}: {what}";
    /// The root (hop 0) table of an ASID was latched.
    RootSet { /** The MMU. */ mmu: MmuInstance, /** The address space. */ asid: u16, /** Table address. */ root: BusAddr }
        "root" "{mmu} asid {asid} -> {root}";
    /// A page-table entry was stored (through the BAR, or reported by the host-table port).
    EntryStore { /** Where the table lies. */ memory: TableMemory, /** Address of the entry. */ address: BusAddr, /** The entry. */ entry: u64 }
        "entry" "{memory} {address} = {entry:#018x}";
    /// Posted BAR writes became visible to the device.
    Flush { /** How many 64-bit writes were waiting. */ posted: u64 }
        "flush" "{posted} posted writes";
    /// An invalidation was started.
    InvalidateBegin { /** The MMU. */ mmu: MmuInstance, /** What it covers. */ scope: InvalidationScope }
        "invalidate" "{mmu} {scope}";
    /// An invalidation took effect; its status register now says so.
    InvalidateEnd { /** The MMU. */ mmu: MmuInstance, /** What it covered. */ scope: InvalidationScope, /** Cached items dropped. */ dropped: u64 }
        "invalidated" "{mmu} {scope}, {dropped} dropped";
    /// An invalidation got stuck (by injection): its status register will never say done.
    InvalidateStuck { /** The MMU. */ mmu: MmuInstance, /** What it should have covered. */ scope: InvalidationScope }
        "stuck" "{mmu} {scope}";
    /// The driver took page tables from their pool.
    TableAllocate { /** Where they lie. */ memory: TableMemory, /** How many. */ tables: u32, /** How many are taken now. */ used: u32 }
        "table allocate" "{tables} in {memory} memory, {used} taken now";
    /// The driver gave page tables back to their pool: they may be reused from here on.
    TableFree { /** Where they lie. */ memory: TableMemory, /** How many. */ tables: u32, /** How many are still taken. */ used: u32 }
        "table free" "{tables} in {memory} memory, {used} still taken";
    /// The driver reports a mapping complete.
    Map { /** The address space. */ asid: u16, /** Start. */ address: DeviceAddr, /** Bytes. */ len: u64 }
        "map" "asid {asid} {address} +{len:#x}";
    /// The driver keeps what a mapping held, because its invalidation was not confirmed.
    Quarantine { /** The address space. */ asid: u16, /** Start. */ address: DeviceAddr, /** Bytes. */ len: u64 }
        "quarantine" "asid {asid} {address} +{len:#x}";
    /// The driver releases what a mapping held.
    Release { /** The address space. */ asid: u16, /** Start. */ address: DeviceAddr, /** Bytes. */ len: u64 }
        "release" "asid {asid} {address} +{len:#x}";
    /// A host page was pinned.
    Pin { /** The page. */ frame: Frame, /** Pins on it afterwards. */ pins: u32 }
        "pin" "{frame}, {pins} pins";
    /// A pin was taken off a host page.
    Unpin { /** The page. */ frame: Frame, /** Pins left. */ pins: u32, /** Whether it was marked dirty. */ dirty: bool }
        "unpin" "{frame}, {pins} pins left, dirty {dirty}";
    /// A host page was allocated.
    PageAllocate { /** The page. */ frame: Frame, /** For whom. */ owner: FrameOwner }
        "page allocate" "{frame} for {owner}";
    /// A host page was freed and poisoned.
    PageFree { /** The page. */ frame: Frame, /** Who had it. */ owner: FrameOwner }
        "page free" "{frame} of {owner}";
    /// Reclaim moved an unpinned user page elsewhere.
    PageMove { /** From here, now free. */ from: Frame, /** To here. */ to: Frame }
        "page move" "{from} -> {to}";
    /// The device touched a host page nobody owns, or a reclaimable one nobody pinned.
    StrayAccess { /** The page. */ frame: Frame, /** Read or write. */ access: AccessKind, /** Who owned it then. */ owner: FrameOwner }
        "stray access" "{access} of {frame}, owner {owner}";
    /// A free page no longer held its poison when it was handed out: somebody wrote to it.
    PoisonDamaged { /** The page. */ frame: Frame }
        "poison damaged" "{frame}";
    /// An initiator's address was translated.
    DmaTranslate { /** Who. */ initiator: InitiatorId, /** The address space. */ asid: u16, /** From. */ address: DeviceAddr, /** To. */ bus: BusAddr, /** Read or write. */ access: AccessKind }
        "translate" "{initiator} asid {asid} {address} -> {bus} {access}";
    /// A DMA ended well.
    DmaComplete { /** Who. */ initiator: InitiatorId, /** How much. */ bytes: u64 }
        "dma complete" "{initiator} {bytes:#x} bytes";
    /// An access was refused.
    Fault { /** Where. */ mmu: MmuInstance, /** The address space. */ asid: u16, /** The address. */ address: DeviceAddr, /** Read or write. */ access: AccessKind, /** Why. */ reason: FaultReason }
        "fault" "{mmu} asid {asid} {address} {access}: {reason}";
    /// The device fell off the bus.
    DeviceLost {} "lost" "reads return all ones, writes vanish";
    /// The device was reset.
    DeviceReset {} "reset" "registers at power-on state";
    /// A remark of the program that runs the scenario.
    Note { /** The remark. */ text: &'static str } "note" "{text}";
}

/// An event with its place in the sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Position in the log; the first is 0, there are no gaps.
    pub sequence: u64,
    /// What happened.
    pub event: Event,
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>6}  {}", self.sequence, self.event)
    }
}

/// A shared log. Clones are handles to the same log.
#[derive(Clone, Debug)]
pub struct EventLog {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    recording: AtomicBool,
    /// One bit for each kind that is counted and never kept.
    ignored: AtomicU64,
    counts: Vec<AtomicU64>,
    /// The first register protocol that was broken, recording or not.
    violation: OnceLock<Event>,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// Sequence number of the first kept event; what came before was cleared.
    first: u64,
    events: Vec<Event>,
    watched: Vec<pools::Watched>,
    last_key: u64,
}

impl Default for EventLog {
    fn default() -> Self {
        Self::new()
    }
}

impl EventLog {
    /// A log that counts and keeps nothing.
    #[must_use]
    pub fn new() -> Self {
        Self {
            shared: Arc::new(Shared {
                recording: AtomicBool::new(false),
                ignored: AtomicU64::new(0),
                counts: EventKind::ALL.iter().map(|_| AtomicU64::new(0)).collect(),
                violation: OnceLock::new(),
                kept: Mutex::default(),
            }),
        }
    }

    /// A log that counts and keeps every event.
    #[must_use]
    pub fn recording() -> Self {
        let log = Self::new();
        log.set_recording(true);
        log
    }

    /// Starts or stops keeping events; what was kept stays.
    pub fn set_recording(&self, on: bool) {
        let mut kept = self.up_to_date();
        // What changed while nothing was kept is not told as if it happened now.
        for watched in &mut kept.watched {
            watched.changes().for_each(drop);
        }
        self.shared.recording.store(on, Ordering::Relaxed);
    }

    /// Keeps no events of `kind` from now on, recording or not; they are still counted.
    pub fn ignore(&self, kind: EventKind) {
        const { assert!(EventKind::ALL.len() <= 64, "one bit for each kind") };
        self.shared
            .ignored
            .fetch_or(1 << kind as u32, Ordering::Relaxed);
    }

    /// Counts `event` and, while recording and unless its kind is ignored, keeps it.
    pub fn record(&self, event: Event) {
        self.count_one(event.kind());
        if let Event::ProtocolViolation { .. } = event {
            // Whoever was first stays.
            self.shared.violation.get_or_init(|| event);
        }
        if self.keeps(event.kind()) {
            self.up_to_date().events.push(event);
        }
    }

    fn count_one(&self, kind: EventKind) {
        self.shared.counts[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    fn keeps(&self, kind: EventKind) -> bool {
        self.shared.recording.load(Ordering::Relaxed)
            && self.shared.ignored.load(Ordering::Relaxed) >> kind as u32 & 1 == 0
    }

    /// How many events of `kind` happened, recorded or not.
    #[must_use]
    pub fn count(&self, kind: EventKind) -> u64 {
        self.shared.counts[kind as usize].load(Ordering::Relaxed)
    }

    /// The first register protocol that was broken, whether events are kept or not: it is a mistake of
    /// the driver, to be found without a second run.
    #[must_use]
    pub fn first_violation(&self) -> Option<Event> {
        self.shared.violation.get().copied()
    }

    /// The sequence number the next kept event will have.
    #[must_use]
    pub fn mark(&self) -> u64 {
        let kept = self.up_to_date();
        kept.first + kept.events.len() as u64
    }

    /// The kept events from sequence number `mark` on.
    #[must_use]
    pub fn since(&self, mark: u64) -> Vec<Record> {
        let kept = self.up_to_date();
        let records = (kept.first..).zip(&kept.events);
        records
            .skip_while(|(sequence, _)| *sequence < mark)
            .map(|(sequence, event)| Record {
                sequence,
                event: *event,
            })
            .collect()
    }

    /// All kept events.
    #[must_use]
    pub fn records(&self) -> Vec<Record> {
        self.since(0)
    }

    /// The first kept event at or after `mark` for which `wanted` holds.
    #[must_use]
    pub fn find(&self, mark: u64, wanted: impl Fn(&Event) -> bool) -> Option<Record> {
        self.since(mark).into_iter().find(|r| wanted(&r.event))
    }

    /// Forgets the kept events; sequence numbers go on, counts stay.
    pub fn clear(&self) {
        let mut kept = self.up_to_date();
        kept.first += kept.events.len() as u64;
        kept.events = Vec::new();
    }

    /// What is kept, with what has happened to the pools of page tables so far.
    fn up_to_date(&self) -> std::sync::MutexGuard<'_, Kept> {
        let kept = self.shared.kept.lock();
        let mut kept = kept.unwrap_or_else(PoisonError::into_inner);
        let Kept {
            events, watched, ..
        } = &mut *kept;
        if self.shared.recording.load(Ordering::Relaxed) {
            for event in watched.iter_mut().flat_map(pools::Watched::changes) {
                self.count_one(event.kind());
                if self.keeps(event.kind()) {
                    events.push(event);
                }
            }
        }
        kept
    }
}
