//! Registers, engines, device memory, and all parts together as types.

use core::convert::Infallible;
use core::time::Duration;

use hl_mem::dram::Scrub;
use hl_mem::events::{DeviceEvent, EventSlot};
use hl_mem::mmu::{Gaudi2HostMmu, NoDramMmu, PollBudget, Registers};
use hl_mem::port::{Engines, Port, SpinLock};
use hl_mem::timestamps::TimestampSlot;
use hl_mem::va::Node;
use mmu_core::{AddrRange, DeviceAddr, Region, Run, SplitWord, TablePool};

use super::host::StaticHost;
use crate::device::{ENGINE, Pmmu};

/// How often a register is read before the device counts as hung. There is no clock.
const POLLS: u32 = 1000;

// SAFETY: the accesses are method calls on the one PMMU there is (1), (6), in their order, with
// everything stored before in the memory of the same processor (2). One driver is built over it
// (3), and it is the model of a Gaudi2's PMMU (4) that always answers (5).
unsafe impl Registers for Pmmu {
    type Deadline = PollBudget;

    fn read(&self, offset: u32) -> u32 {
        Pmmu::read(self, offset)
    }

    fn write(&self, offset: u32, value: u32) {
        Pmmu::write(self, offset, value);
    }

    fn deadline(&self, _timeout: Duration) -> PollBudget {
        PollBudget::new(POLLS)
    }

    fn pause(&self, deadline: &mut PollBudget) -> bool {
        core::hint::spin_loop();
        deadline.spend()
    }
}

/// Stops the engine by its flag.
#[derive(Clone, Copy, Debug)]
pub struct EngineControl;

// SAFETY:
// 1. the engine takes steps only while its flag says so, on the processor that runs this: while this
//    runs no step is under way, and none begins after it;
// 2. it has the privileged ASID, and nothing here has a user's.
unsafe impl Engines for EngineControl {
    type Error = Infallible;

    fn stop(&self, _block: AddrRange<DeviceAddr>) -> Result<(), Infallible> {
        ENGINE.stop();
        Ok(())
    }
}

/// Device memory that nobody reads or writes, because this machine has none.
#[derive(Clone, Copy, Debug)]
pub struct NoDram;

impl Scrub for NoDram {
    type Error = Infallible;

    fn scrub(&mut self, _run: Run) -> Result<(), Infallible> {
        Ok(())
    }
}

/// The tables of all address spaces.
pub type Tables = TablePool<'static, Region<'static, SplitWord>, SpinLock>;

/// The port, as types.
#[derive(Debug)]
pub struct FirmwarePort;

impl Port for FirmwarePort {
    type Lock = SpinLock;
    type InterruptLock = SpinLock;
    type Host = StaticHost;
    type Mmu = Gaudi2HostMmu<&'static Pmmu>;
    type Tables = &'static Tables;
    type DramMmu = NoDramMmu;
    type DramTables = Self::Tables;
    type Engines = EngineControl;
    type Scrubber = NoDram;
    type Nodes = [Node; 16];
    type TimestampSlots = [TimestampSlot; 0];
    type EventSlots = [EventSlot<DeviceEvent>; 8];
}
