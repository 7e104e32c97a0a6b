//! Reclaim that happens by itself, while everything else goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use super::Host;

/// A thread that moves every page it may, again and again, until it is dropped or
/// [stopped](Self::stop): the memory pressure that no driver controls.
///
/// Where the moment has to follow from a seed, let [`Host::reclaim`] be a step of a worker of a
/// [`Schedule`](crate::schedule::Schedule) instead.
#[derive(Debug)]
pub struct Reclaimer {
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<usize>>,
}

impl Host {
    /// Starts a [`Reclaimer`] of this host's pages.
    #[must_use]
    pub fn start_reclaimer(self: &Arc<Self>) -> Reclaimer {
        let end = Arc::new(AtomicBool::new(false));
        let (host, told) = (Arc::clone(self), Arc::clone(&end));
        let work = move || {
            let mut moved = 0;
            // Once at least, however soon it is told to end.
            loop {
                moved += host.reclaim();
                if told.load(Ordering::Relaxed) {
                    return moved;
                }
                thread::yield_now();
            }
        };
        Reclaimer {
            end,
            thread: Some(thread::spawn(work)),
        }
    }
}

impl Reclaimer {
    /// Ends it. Returns how many pages it moved.
    #[must_use]
    pub fn stop(mut self) -> usize {
        self.end()
    }

    fn end(&mut self) -> usize {
        self.end.store(true, Ordering::Relaxed);
        let joined = self.thread.take().map(JoinHandle::join);
        // A panic there has said what is wrong; what counts here is that it is over.
        joined.and_then(Result::ok).unwrap_or(0)
    }
}

impl Drop for Reclaimer {
    fn drop(&mut self) {
        self.end();
    }
}
