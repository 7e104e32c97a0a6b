//! The port of a machine, as types, and what it does about locks and scrubs.

use core::cell::{Cell, RefCell};
use core::marker::PhantomData;

use hl_mem::dram::Scrub;
use hl_mem::events::{DeviceEvent, EventSlot};
use hl_mem::lock::{HeldLocks, LockRank};
use hl_mem::port::Port;
use hl_mem::timestamps::TimestampSlot;
use hl_mem::va::Node;
use mmu_core::{BusAddr, Run};

use super::model::{self, Model};
use crate::asic::{AccessError, DmaEngine, Endpoint};
use crate::port::{HarnessEngines, HarnessHost};

/// The lock of the harness: it sleeps, as a kernel's mutex does.
pub type Lock = parking_lot::RawMutex;

/// Faults that are kept for one user until he reads them.
pub const EVENTS: usize = 8;

/// The port of a machine, as types.
#[derive(Debug)]
pub struct HarnessPort<'m, A>(PhantomData<(&'m (), A)>);

impl<'m, A: Model> Port for HarnessPort<'m, A> {
    type Lock = Lock;
    type InterruptLock = Lock;
    type Host = HarnessHost;
    type Mmu = A::Mmu;
    type Tables = A::Memory<'m>;
    type DramMmu = A::DramMmu;
    type DramTables = A::DramMemory<'m>;
    type Engines = HarnessEngines;
    type Scrubber = DmaScrubber;
    type Nodes = Vec<Node>;
    type TimestampSlots = Vec<TimestampSlot>;
    type EventSlots = [EventSlot<DeviceEvent>; EVENTS];

    const MAX_ASID: Option<u16> = Some(model::ASIDS as u16);

    fn before_lock(rank: LockRank) {
        let due = STOP.with_borrow_mut(|stop| stop.take_if(|(ranks, _)| ranks.contains(&rank)));
        if let Some((_, stop)) = due {
            stop();
        }
        HELD.with(|held| {
            let mut locks = held.get();
            let order = locks.take(rank);
            held.set(locks);
            // A panic within a panic would hide the first one.
            if !std::thread::panicking() {
                order.expect("locks are taken in order");
            }
        });
    }

    fn after_lock(rank: LockRank) {
        HELD.with(|held| {
            let mut locks = held.get();
            locks.release(rank);
            held.set(locks);
        });
    }
}

/// Which locks, and what is done before the first of them is taken.
type Stop = (&'static [LockRank], Box<dyn FnOnce()>);

thread_local! {
    /// The locks of `hl-mem` that this thread holds.
    static HELD: Cell<HeldLocks> = const { Cell::new(HeldLocks::NONE) };
    static STOP: RefCell<Option<Stop>> = const { RefCell::new(None) };
}

/// Has this thread do something, once, when it is about to take one of these locks: for a test that puts
/// threads in an order. Debug builds only, as locks are not told to the port otherwise.
pub fn before_next_lock(ranks: &'static [LockRank], stop: impl FnOnce() + 'static) {
    STOP.set(Some((ranks, Box::new(stop))));
}

/// Overwrites device memory by a DMA engine.
#[derive(Debug)]
pub struct DmaScrubber {
    pub(super) engine: DmaEngine,
    pub(super) dram: BusAddr,
}

impl Scrub for DmaScrubber {
    type Error = AccessError;

    fn scrub(&mut self, run: Run) -> Result<(), AccessError> {
        let offset = run.start().get() - self.dram.get();
        self.engine
            .fill(Endpoint::DeviceMemory(offset), 0, run.len())
    }

    fn fill(&mut self, run: Run, byte: u8) -> Result<(), AccessError> {
        let offset = run.start().get() - self.dram.get();
        self.engine
            .fill(Endpoint::DeviceMemory(offset), byte, run.len())
    }
}
