//! Engines that write into blocks, each a thread, and how they are stopped.

use core::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hl_mem::UserAsid;
use hl_mem::port::Engines;
use mmu_core::{AddrRange, DeviceAddr};

use crate::asic::Asic;

/// How long an engine may take to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// An engine did not stop in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineStuck;

impl fmt::Display for EngineStuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the engine is still running")
    }
}

impl core::error::Error for EngineStuck {}

#[derive(Debug)]
struct Engine {
    block: AddrRange<DeviceAddr>,
    stop: Arc<AtomicBool>,
    number: u64,
}

#[derive(Debug, Default)]
struct Register {
    running: Vec<Engine>,
    started: u64,
    /// Blocks whose engines do not stop, and users whose engines do not halt.
    stuck: Vec<AddrRange<DeviceAddr>>,
    unhalted: Vec<u16>,
    /// Calls of `stop`.
    stops: u64,
}

/// The engines that are running, and the initiators of a device that work for users.
#[derive(Clone, Debug)]
pub struct HarnessEngines {
    shared: Arc<(Mutex<Register>, Condvar)>,
    asic: Arc<Asic>,
}

/// One running engine. Dropping it says that the engine has stopped and none of its accesses is
/// under way any more; each access of the model ends before it returns.
#[derive(Debug)]
#[must_use = "an engine counts as running for as long as this lives"]
pub struct Running {
    engines: HarnessEngines,
    stop: Arc<AtomicBool>,
    number: u64,
}

impl HarnessEngines {
    /// No engines yet; users' initiators are those of `asic`.
    #[must_use]
    pub fn new(asic: &Arc<Asic>) -> Self {
        Self {
            shared: Arc::default(),
            asic: Arc::clone(asic),
        }
    }

    /// Has `stop` fail at once for what overlaps `block`, until [`release`](Self::release).
    pub fn stick(&self, block: AddrRange<DeviceAddr>) {
        self.register().stuck.push(block);
    }

    /// Has `halt` fail for a user, until [`release`](Self::release).
    pub fn stick_user(&self, asid: u16) {
        self.register().unhalted.push(asid);
    }

    /// Has everything stop again.
    pub fn release(&self) {
        let mut register = self.register();
        register.stuck.clear();
        register.unhalted.clear();
    }

    /// How often `stop` was called.
    #[must_use]
    pub fn stops(&self) -> u64 {
        self.register().stops
    }

    /// Notes that an engine now works on `block`.
    pub fn start(&self, block: AddrRange<DeviceAddr>) -> Running {
        let stop = Arc::new(AtomicBool::new(false));
        let mut register = self.register();
        register.started += 1;
        let number = register.started;
        register.running.push(Engine {
            block,
            stop: Arc::clone(&stop),
            number,
        });
        Running {
            engines: self.clone(),
            stop,
            number,
        }
    }

    /// How many engines work on `block`.
    #[must_use]
    pub fn running(&self, block: AddrRange<DeviceAddr>) -> usize {
        let register = self.register();
        let running = register.running.iter();
        running
            .filter(|engine| engine.block.overlaps(block))
            .count()
    }

    fn register(&self) -> std::sync::MutexGuard<'_, Register> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running {
    /// Whether the engine is asked to stop.
    #[must_use]
    pub fn must_stop(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let number = self.number;
        self.engines
            .register()
            .running
            .retain(|engine| engine.number != number);
        self.engines.shared.1.notify_all();
    }
}

// SAFETY:
// 1. an engine is in the register from before its first access until after its last one, and `stop`
//    returns `Ok` only when none is there that works on the block;
// 2. `halt` returns `Ok` when every initiator with the ASID is halted and its accesses have arrived;
//    whoever gives one the ASID again works for the next user of it.
unsafe impl Engines for HarnessEngines {
    type Error = EngineStuck;

    fn stop(&self, block: AddrRange<DeviceAddr>) -> Result<(), EngineStuck> {
        let deadline = Instant::now() + STOP_TIMEOUT;
        let mut register = self.register();
        register.stops += 1;
        if register.stuck.iter().any(|stuck| stuck.overlaps(block)) {
            return Err(EngineStuck);
        }
        loop {
            let mut left = false;
            for engine in register
                .running
                .iter()
                .filter(|engine| engine.block.overlaps(block))
            {
                engine.stop.store(true, Ordering::Release);
                left = true;
            }
            if !left {
                return Ok(());
            }
            let wait = deadline
                .checked_duration_since(Instant::now())
                .ok_or(EngineStuck)?;
            register = self
                .shared
                .1
                .wait_timeout(register, wait)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    fn halt(&self, asid: UserAsid) -> Result<(), EngineStuck> {
        if self.register().unhalted.contains(&asid.get()) {
            return Err(EngineStuck);
        }
        self.asic.halt_user(asid.get());
        Ok(())
    }
}
