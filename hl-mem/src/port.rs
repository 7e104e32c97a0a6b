//! What a port implements, in one place.
//!
//! [Porting](crate::guide::porting) says in which order, and of each method when it is called, under which
//! lock, and what a failure means; it ends with the smallest port in full.

use lock_api::RawMutex;
use mmu_core::{AddrRange, DeviceAddr, TableMemory};

use crate::asid::{InitiatorMode, UserAsid};
use crate::dram::Scrub;
use crate::events::{DeviceEvent, EventSlot};
use crate::host::HostMemory;
use crate::lock::LockRank;
use crate::mmu::MmuControl;
use crate::timestamps::TimestampSlot;
use crate::va::Node;

/// The engines of a device: where production into blocks is stopped, and where those that work for
/// users get and lose their address spaces.
///
/// # Safety
///
/// 1. [`stop`](Self::stop) returns `Ok` only when no engine works on those addresses any more and no
///    access to them by an engine is on its way;
/// 2. [`halt`](Self::halt) returns `Ok` only when no initiator accesses anything under that ASID any
///    more, no such access is on its way, and none is made until [`assign`](Self::assign) names the
///    ASID again. Doing nothing, as it does by default, is right only where no initiator ever has the
///    ASID of a user.
///
/// Pages are handed to others on the strength of the first, and the ASID on that of the second.
#[expect(
    unsafe_code,
    reason = "a wrong implementation lets the device write into freed memory"
)]
pub unsafe trait Engines {
    /// Why the engines could not be stopped.
    type Error;

    /// Stops whatever works on `block`, device addresses of the privileged address space, and
    /// waits until its accesses have arrived. Called with no lock held, by several threads at a time, and
    /// again for a block for which it failed.
    ///
    /// # Errors
    ///
    /// Whatever keeps the implementation from being certain. The block then stays mapped.
    fn stop(&self, block: AddrRange<DeviceAddr>) -> Result<(), Self::Error>;

    /// Has the initiators that users program make their accesses in an address space, and not past the
    /// MMU (facts AS-2). Called with no lock held when a file is opened, with
    /// [`InitiatorMode::User`]. Initiators of the driver are its own business (facts AS-3).
    ///
    /// # Errors
    ///
    /// Whatever keeps the implementation from it. No initiator then works under that ASID, and the file
    /// is not opened.
    fn assign(&self, mode: InitiatorMode) -> Result<(), Self::Error> {
        let _ = mode;
        Ok(())
    }

    /// Halts whatever works under the ASID of a user, and waits until its accesses have arrived. Called
    /// with no lock held as the first step of closing a file, and again where closing failed.
    ///
    /// # Errors
    ///
    /// Whatever keeps the implementation from being certain. The file then stays open.
    fn halt(&self, asid: UserAsid) -> Result<(), Self::Error> {
        let _ = asid;
        Ok(())
    }
}

/// The lock to take where there is nothing better: it spins.
///
/// In a kernel, wrap a sleeping mutex as [`RawMutex`] instead, and for
/// [`InterruptLock`](Port::InterruptLock) a spin lock that keeps interrupts off.
pub type SpinLock = spin::mutex::SpinMutex<()>;

/// The parts that an embedder supplies, as types.
pub trait Port {
    /// The lock of everything that no interrupt handler takes: [`SpinLock`] in firmware, one that
    /// sleeps in a kernel, loom's in a model. It is held while the device invalidates.
    type Lock: RawMutex;
    /// The lock of what interrupt handlers take in [`Device::post`](crate::Device::post) and
    /// [`Context::counter_reached`](crate::Context::counter_reached): in a kernel, a spin lock that keeps
    /// interrupts off; a critical section in firmware; where neither is called in an interrupt,
    /// [`Lock`](Self::Lock) once more. It is held for a bounded number of steps, and no other lock is
    /// taken meanwhile.
    ///
    /// [`RawMutex`] has no room for a state of interrupts to restore: keep it in the lock, where only
    /// its holder reads and writes it.
    type InterruptLock: RawMutex;
    /// Pages of host memory.
    type Host: HostMemory;
    /// The MMU that translates accesses to host memory. [Bring-up](crate::Device::new) asks that it
    /// [walks](crate::mmu::Walks) the tables of the ASIC.
    type Mmu: MmuControl;
    /// Where its tables live: a reference to a pool of `mmu-core`.
    type Tables: TableMemory;
    /// The MMU that translates accesses to device memory, where that is another one (Gaudi2) and users
    /// map device memory; elsewhere [`NoDramMmu`](crate::mmu::NoDramMmu).
    type DramMmu: MmuControl;
    /// Where that one's tables live; elsewhere [`Tables`](Self::Tables) once more.
    type DramTables: TableMemory;
    /// The engines that write into blocks.
    type Engines: Engines;
    /// Overwrites device memory before another owner gets it.
    type Scrubber: Scrub;
    /// The nodes of an allocator of device addresses, such as `&'static mut [Node]`.
    type Nodes: AsRef<[Node]> + AsMut<[Node]>;
    /// What the driver knows of the timestamps of a pool, such as `&'static mut [TimestampSlot]`.
    type TimestampSlots: AsRef<[TimestampSlot]> + AsMut<[TimestampSlot]>;
    /// Room for the faults that one user has not read yet, such as `[EventSlot<DeviceEvent>; 64]`. More
    /// of them are lost, and counted; what becomes of the device is told without room.
    type EventSlots: AsRef<[EventSlot<DeviceEvent>]> + AsMut<[EventSlot<DeviceEvent>]>;

    /// Address spaces, the privileged one included, where other than the
    /// [profile](crate::profile::Profile::max_asid) says: for machines that are to have more users at a
    /// time than today's parts.
    const MAX_ASID: Option<u16> = None;

    /// Called in debug builds before the current thread takes a lock. A port that knows its threads
    /// has [`HeldLocks`](crate::lock::HeldLocks) check the order here.
    fn before_lock(rank: LockRank) {
        let _ = rank;
    }

    /// Called in debug builds when the current thread is about to give up a lock.
    fn after_lock(rank: LockRank) {
        let _ = rank;
    }
}
