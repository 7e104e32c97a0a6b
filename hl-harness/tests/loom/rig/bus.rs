//! The bus in front of tables in device memory.
//!
//! What is written is posted: it arrives some time later. Calls arrive one after the other; the
//! entries of one call in any order, so that a walk may find any part of them. A flush waits for all
//! of it.

use std::collections::VecDeque;

use loom::sync::atomic::{Ordering, fence};
use loom::sync::{Condvar, Mutex, MutexGuard};
use mmu_core::{BusAddr, DeviceLost, TableBus};

use super::Weak;
use super::hold::Hold;
use super::tables::{Arriving, Tables};

/// Whatever is between the host and the device's memory.
#[derive(Debug)]
pub(crate) struct Bridge {
    tables: &'static Tables,
    posted: Mutex<Posted>,
    /// There is something on its way, or nothing any more.
    changed: Condvar,
    weak: Option<Weak>,
}

#[derive(Debug, Default)]
struct Posted {
    /// What is on its way, by call; `None` while writes arrive at once.
    calls: Option<VecDeque<Arriving>>,
    /// The device does not answer: writes go nowhere.
    lost: bool,
}

impl Bridge {
    pub(super) fn new(tables: &'static Tables, weak: Option<Weak>) -> Self {
        Self {
            tables,
            posted: Mutex::default(),
            changed: Condvar::new(),
            weak,
        }
    }

    pub(super) fn set_lost(&self, lost: bool) {
        self.posted().lost = lost;
    }

    /// Starts a thread by which everything written from here on arrives.
    pub(super) fn begin_posting(&'static self, hold: &Hold) {
        self.posted().calls = Some(VecDeque::new());
        hold.spawn(|| {
            let mut posted = self.posted();
            while let Some(calls) = &mut posted.calls {
                let Some(call) = calls.pop_front() else {
                    posted = self.changed.wait(posted).expect("no thread panicked");
                    continue;
                };
                // Walks need no lock: they may read between any two of its entries.
                self.arrive(&call);
                if calls.is_empty() {
                    self.changed.notify_all();
                }
                drop(posted);
                posted = self.posted();
            }
        });
    }

    /// Waits until everything has arrived, and ends the thread.
    pub(super) fn end_posting(&self) {
        self.arrived().calls = None;
        self.changed.notify_all();
    }

    fn posted(&self) -> MutexGuard<'_, Posted> {
        self.posted.lock().expect("no thread panicked")
    }

    /// Waits until everything has arrived.
    fn arrived(&self) -> MutexGuard<'_, Posted> {
        let mut posted = self.posted();
        while posted.calls.as_ref().is_some_and(|calls| !calls.is_empty()) {
            posted = self.changed.wait(posted).expect("no thread panicked");
        }
        posted
    }

    fn arrive(&self, call: &Arriving) {
        if self.weak != Some(Weak::Unordered) {
            fence(Ordering::Release);
        }
        self.tables.arrive(call);
    }

    fn write(&self, address: BusAddr, entries: impl Iterator<Item = u64>) {
        let (table, first) = self.tables.place(address);
        let mut call = Arriving {
            table,
            entries: entries
                .enumerate()
                .map(|(n, entry)| (first + n, entry))
                .collect(),
            fills: false,
        };
        call.fills = call.entries.len() > 2 && call.entries.iter().all(|&(_, entry)| entry == 0);
        let mut posted = self.posted();
        if posted.lost {
            return;
        }
        match &mut posted.calls {
            // What no walk reads is of no matter, and each call a step for loom.
            Some(_)
                if !call
                    .entries
                    .iter()
                    .any(|&(index, _)| self.tables.is_watched(index)) =>
            {
                self.tables.arrive(&Arriving {
                    fills: false,
                    ..call
                });
            }
            Some(calls) => {
                calls.push_back(call);
                if calls.len() == 1 {
                    self.changed.notify_all();
                }
            }
            None => self.arrive(&call),
        }
    }
}

/// The same as the pool of tables has it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bus(pub(super) &'static Bridge);

impl TableBus for Bus {
    fn write(&self, address: BusAddr, entries: impl Iterator<Item = u64>) {
        self.0.write(address, entries);
    }

    fn read(&self, address: BusAddr) -> u64 {
        panic!("an operation read {address} over the bus");
    }

    fn flush(&self) -> Result<(), DeviceLost> {
        let waits = self.0.weak != Some(Weak::FlushesEarly);
        let posted = if waits {
            self.0.arrived()
        } else {
            self.0.posted()
        };
        if posted.lost && self.0.weak != Some(Weak::BelievesTheDead) {
            return Err(DeviceLost);
        }
        Ok(())
    }
}
