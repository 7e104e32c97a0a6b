//! The bus in front of tables in device memory.
//!
//! What is written is posted: it arrives some time later. Calls arrive one after the other; the
//! entries of one call in any order, so that a walk may find any part of them. A flush waits for all
//! of it.

use std::collections::VecDeque;

use loom::sync::atomic::{AtomicBool, Ordering, fence};
use loom::sync::{Condvar, Mutex};
use mmu_core::{BusAddr, DeviceLost, TableBus};

use super::Weak;
use super::hold::Hold;
use super::tables::{Arriving, Tables};

/// Whatever is between the host and the device's memory.
#[derive(Debug)]
pub(crate) struct Bridge {
    tables: &'static Tables,
    /// The device does not answer: writes go nowhere.
    lost: AtomicBool,
    posted: Mutex<Posted>,
    changed: Condvar,
    weak: Option<Weak>,
}

#[derive(Debug, Default)]
struct Posted {
    /// What is on its way, by call; `None` while writes arrive at once.
    calls: Option<VecDeque<Arriving>>,
    /// The first of them is arriving.
    arriving: bool,
}

impl Posted {
    fn is_empty(&self) -> bool {
        !self.arriving && self.calls.as_ref().is_none_or(VecDeque::is_empty)
    }
}

impl Bridge {
    pub(super) fn new(tables: &'static Tables, weak: Option<Weak>) -> Self {
        Self {
            tables,
            lost: AtomicBool::new(false),
            posted: Mutex::default(),
            changed: Condvar::new(),
            weak,
        }
    }

    pub(super) fn set_lost(&self, lost: bool) {
        self.lost.store(lost, Ordering::Release);
    }

    /// Starts a thread by which everything written from here on arrives.
    pub(super) fn begin_posting(&'static self, hold: &Hold) {
        self.posted.lock().expect("no thread panicked").calls = Some(VecDeque::new());
        hold.spawn(|| {
            while let Some(call) = self.next() {
                self.arrive(&call);
                let mut posted = self.posted.lock().expect("no thread panicked");
                posted.arriving = false;
                drop(posted);
                self.changed.notify_all();
            }
        });
    }

    /// The next call to arrive; `None` when there will be no more.
    fn next(&self) -> Option<Arriving> {
        let mut posted = self.posted.lock().expect("no thread panicked");
        loop {
            if let Some(call) = posted.calls.as_mut()?.pop_front() {
                posted.arriving = true;
                return Some(call);
            }
            posted = self.changed.wait(posted).expect("no thread panicked");
        }
    }

    /// Waits until everything has arrived, and ends the thread.
    pub(super) fn end_posting(&self) {
        self.wait();
        self.posted.lock().expect("no thread panicked").calls = None;
        self.changed.notify_all();
    }

    fn wait(&self) {
        let mut posted = self.posted.lock().expect("no thread panicked");
        while !posted.is_empty() {
            posted = self.changed.wait(posted).expect("no thread panicked");
        }
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
        if self.lost.load(Ordering::Acquire) {
            return;
        }
        call.fills = call.entries.len() > 2 && call.entries.iter().all(|&(_, entry)| entry == 0);
        let mut posted = self.posted.lock().expect("no thread panicked");
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
                drop(posted);
                self.changed.notify_all();
            }
            None => {
                drop(posted);
                self.arrive(&call);
            }
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
        if self.0.lost.load(Ordering::Acquire) {
            return Err(DeviceLost);
        }
        if self.0.weak != Some(Weak::FlushesEarly) {
            self.0.wait();
        }
        Ok(())
    }
}
