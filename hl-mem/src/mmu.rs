//! The MMUs of the three ASICs: their registers, and one interface over them.
//!
//! | driver | MMU | invalidation (facts 9.1 to 9.3) |
//! |---|---|---|
//! | [`GoyaMmu`] | the one of Goya | everything |
//! | [`GaudiMmu`] | the one of Gaudi | everything, by producer index |
//! | [`Gaudi2HostMmu`] | the PMMU of Gaudi2: accesses to host memory | a range of one ASID, or everything |
//! | [`Gaudi2DramMmu`] | the HMMUs of Gaudi2: accesses to device memory | everything |
//!
//! Core code is generic over [`MmuControl`]. A port implements [`Registers`] and hands
//! [`Device::new`](crate::Device::new) a driver over them; [the chapter](crate::guide::mmu) drives one by
//! hand. Without a device around it, the driver is built and [enabled](MmuControl::enable) once the
//! parking table is zeroed:
//!
//! ```no_run
//! use core::ptr::NonNull;
//! use core::time::Duration;
//! use hl_mem::asid::Asid;
//! use hl_mem::mmu::{GoyaMmu, MmuControl, MmuError, PollBudget, Registers};
//! use hl_mem::profile::{Asic, Goya};
//! use mmu_core::BusAddr;
//!
//! /// The configuration space of the only device, on a board without a clock.
//! struct Window(NonNull<u32>);
//!
//! // SAFETY: the window is the device's alone, mapped uncached for as long as the firmware runs;
//! // volatile accesses to such memory happen once each and in order, after stores before them;
//! // the bus answers reads of a dead device with all ones; two windows are the same where they
//! // begin at the same address.
//! unsafe impl Registers for Window {
//!     type Deadline = PollBudget;
//!
//!     fn read(&self, offset: u32) -> u32 {
//!         // SAFETY: drivers ask only for registers, all of which the window has.
//!         unsafe { self.0.byte_add(offset as usize).read_volatile() }
//!     }
//!     fn write(&self, offset: u32, value: u32) {
//!         // SAFETY: as for `read`.
//!         unsafe { self.0.byte_add(offset as usize).write_volatile(value) }
//!     }
//!     fn deadline(&self, timeout: Duration) -> PollBudget {
//!         // A read takes a microsecond at least, so this many of them take long enough.
//!         PollBudget::new(u32::try_from(timeout.as_micros()).unwrap_or(u32::MAX))
//!     }
//!     fn pause(&self, deadline: &mut PollBudget) -> bool {
//!         core::hint::spin_loop();
//!         deadline.spend()
//!     }
//! }
//!
//! fn start(window: Window, parking: BusAddr, root: BusAddr) -> Result<GoyaMmu<Window>, MmuError> {
//!     let mut mmu = GoyaMmu::new(window, Goya::PROFILE.timeouts, parking);
//!     mmu.enable()?;
//!     mmu.set_root(Asid::PRIVILEGED, root)?;
//!     Ok(mmu)
//! }
//! ```
//!
//! # The life of an address space
//!
//! 1. [`set_root`](MmuControl::set_root) with the root of its page table.
//! 2. After mapping, [`announce`](MmuControl::announce).
//! 3. After unmapping, `removed.confirm(&mut mmu)`.
//! 4. [`park`](MmuControl::park), *then* close the page table and confirm what that removes. In the
//!    other order the root would return to its pool while the MMU still starts walks there.
//!
//! # Parked address spaces
//!
//! The hardware looks up the root of any ASID that an initiator carries, whether or not an address
//! space of that number exists. Therefore each driver is built with a *parking table*: a table
//! whose entries are all zero and stay so, which belongs to nobody else. Enabling makes it the root
//! of every ASID; [`set_root`](MmuControl::set_root) replaces it when an address space is opened,
//! and [`park`](MmuControl::park) brings it back before the space's own root is given up. Walks of
//! a parked ASID end with a fault, never in memory that is somebody else's by now.
//!
//! # Certainty
//!
//! Success means that the hardware said so; there is no request that is skipped because it seems
//! not to be needed (facts HZ-33). After a time-out the engine may still be at work on the request
//! that timed out, and its end must not be taken for that of the next request, which was made
//! later and for other addresses. So the next invalidation after a time-out is made twice, and the
//! second one counts.
//!
//! # Where this differs from the C driver
//!
//! | step | C driver | here |
//! |---|---|---|
//! | range invalidation of Gaudi2's PMMU | cache of table memory and range under way together, then both are waited for (facts INV-G2-4) | the cache of table memory is empty before the range is begun: an access in between would walk entries that were cleared, and leave a translation behind which outlives both |
//! | range that begins at page 0 or ends at the last | everything, or bounds that wrap (facts INV-G2-4) | everything |
//! | range of the HMMUs | everything, by a control word whose low bit happens to be right (facts INV-G2-5) | everything |
//! | after mapping, on Gaudi2's HMMUs | nothing (facts INV-G2-5) | everything |
//! | after mapping, on Goya | nothing (facts HW-GO-4) | everything |
//! | invalidation while the MMU is not set up, or a reset is near | success (facts HW-GO-4, HW-GA-3, INV-G2-1) | an error |
//! | time-out while Gaudi2's MMUs are set up | they are enabled all the same (facts HW-G2-2) | they stay disabled |
//!
//! All other invalidations are one request for both caches of an MMU, and those of the HMMUs concern
//! caches that have nothing in common: nothing there has to come before anything else.
//!
//! What no driver can check is the hardware's promise that an invalidation which it reports as
//! done has also waited for accesses that were translated before. The peers rely on it: they give
//! pages back at that point.

mod driver;
mod error;
mod fault;
mod gaudi;
mod gaudi2;
mod goya;
mod none;
mod registers;
mod roots;
#[cfg(test)]
mod tests;
mod v1;

pub use driver::{Hardware, Mmu};
pub use error::MmuError;
pub use fault::{Fault, FaultKind};
pub use gaudi::{GaudiMmu, GaudiRegisters};
pub use gaudi2::{
    Gaudi2DramMmu, Gaudi2DramRegisters, Gaudi2HostMmu, Gaudi2HostMmu64K, Gaudi2HostRegisters,
    PmmuFormat,
};
pub use goya::{GoyaMmu, GoyaRegisters};
pub use none::NoDramMmu;
pub use registers::{PollBudget, Registers};

use core::time::Duration;

use mmu_core::{BusAddr, Format, Invalidate};

use crate::asid::Asid;

/// How long the hardware may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Timeouts {
    /// For taking over a root table.
    pub root: Duration,
    /// For an invalidation.
    pub invalidation: Duration,
    /// For getting ready to be enabled.
    pub init: Duration,
}

/// That an MMU walks tables of a format, which is asked for when a
/// [device comes up](crate::Device::new): tables of one format under an MMU of another lead the device
/// to whatever memory the bits happen to name.
///
/// ```compile_fail,E0277
/// # mod port { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/guide/smallest_port.rs")); }
/// # use port::*;
/// use hl_mem::profile::Gaudi2;
/// use hl_mem::{Device, DeviceParts};
///
/// // The port has the MMU of Goya, whose tables have other hops.
/// fn refused(parts: DeviceParts<'static, Gaudi2<6>, SmallestPort>) {
///     let _ = Device::new(parts, |_| unreachable!());
/// }
/// ```
///
/// # Safety
///
/// Tables of the format are what the MMU walks, once it is [enabled](MmuControl::enable). A type that
/// passes calls on to another one walks what that one walks.
#[expect(
    unsafe_code,
    reason = "a wrong implementation has the device use memory of others"
)]
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not walk tables of the format `{F}`",
    label = "this MMU is not the one of this ASIC",
    note = "`Port::Mmu` has to walk `Asic::HostFormat`, and `Port::DramMmu`, unless it is `NoDramMmu`, `Asic::DramFormat`"
)]
pub unsafe trait Walks<F: Format>: MmuControl {}

/// One MMU, or a group of like ones, seen by the code that manages address spaces.
///
/// Invalidation is [`Invalidate`], so that a removal is confirmed with
/// `removed.confirm(&mut mmu)`. There is no ASID in that call to get wrong: the removal names the
/// root table it was made under, and the driver knows which ASID it gave that root to. Where it
/// does not know exactly one, it invalidates everything.
///
/// # Safety
///
/// On top of the contract of [`Invalidate`]:
///
/// 1. after `enable` has returned `Ok`, no translation made before is in any cache, and walks of
///    every ASID start at the parking table until `set_root` gives it another root;
/// 2. after `enable` has returned `Err`, the MMU is disabled, unless the device does not answer;
/// 3. after `set_root` or `park` has returned `Ok`, no walk of that ASID that begins later starts
///    at the root it had before;
/// 4. `invalidate_all` returns `Ok` only when `invalidate` may for whatever was removed before;
/// 5. after `disable` has returned `Ok`, no table is read and nothing is translated until `enable`;
/// 6. `EXISTS` is `false` only where the type has no value.
#[expect(
    unsafe_code,
    reason = "a wrong implementation hands memory in use by the device to others"
)]
pub unsafe trait MmuControl: Invalidate<Error = MmuError> {
    /// Whether there is a value of the type: `false` for [`NoDramMmu`] alone, so that a port without an
    /// MMU for device memory has none of the code for one.
    const EXISTS: bool = true;

    /// Sets the MMU up and, as the last step, enables it. Every ASID is parked. Also brings it back
    /// after a reset.
    ///
    /// # Errors
    ///
    /// * [`MmuError::UnusableRoot`] when the parking table cannot be where it is said to be;
    /// * [`MmuError::TimedOut`], [`MmuError::DeviceLost`], [`MmuError::Stuck`] from the hardware.
    ///
    /// The MMU is then left disabled.
    fn enable(&mut self) -> Result<(), MmuError>;

    /// Disables the MMU. Accesses are no longer translated, which means that they reach any bus
    /// address: halt all initiators first.
    ///
    /// # Errors
    ///
    /// [`MmuError::Stuck`] or [`MmuError::DeviceLost`] when it cannot be seen to be disabled. The
    /// driver counts it as disabled in any case.
    fn disable(&mut self) -> Result<(), MmuError>;

    /// Makes `root` the root table of an address space. Where it replaces another one than the
    /// parking table, translations of that one stay cached until they are invalidated.
    ///
    /// # Errors
    ///
    /// * [`MmuError::Disabled`] before the MMU is enabled, since enabling parks every ASID;
    /// * [`MmuError::AsidOutOfRange`], [`MmuError::UnusableRoot`] when it cannot be;
    /// * [`MmuError::TimedOut`], [`MmuError::DeviceLost`] from the hardware. Then either root may
    ///   be in effect, and neither table may be given up.
    fn set_root(&mut self, asid: Asid, root: BusAddr) -> Result<(), MmuError>;

    /// Makes the parking table the root of an address space, as a step before its own is given up.
    ///
    /// # Errors
    ///
    /// As [`set_root`](Self::set_root).
    fn park(&mut self, asid: Asid) -> Result<(), MmuError>;

    /// Makes sure that translations which were added are found, by dropping what the caches of the
    /// upper hops may remember as absent (facts MH-4, UK-2), or as leading to a table that a removal
    /// has unlinked and that is not confirmed yet. Call it after mapping and flushing. Nothing but the
    /// success of the device's accesses depends on it.
    ///
    /// # Errors
    ///
    /// [`MmuError::Disabled`], [`MmuError::TimedOut`], [`MmuError::DeviceLost`]: the device may
    /// fault on addresses that were added.
    fn announce(&mut self) -> Result<(), MmuError>;

    /// Makes the MMU forget every translation of every address space, and waits until that is
    /// certain.
    ///
    /// # Errors
    ///
    /// [`MmuError::Disabled`], [`MmuError::TimedOut`], [`MmuError::DeviceLost`]: nothing is
    /// certain.
    fn invalidate_all(&mut self) -> Result<(), MmuError>;

    /// Takes one captured fault, of a place for captures that comes at `from` or after it, and sets `from`
    /// to what comes after that. So whoever begins with zero and goes on until it yields `None` has
    /// looked at each place once, however fast a device that goes on fills them again. Clears exactly
    /// what it reports and nothing else (facts HZ-35).
    ///
    /// # Errors
    ///
    /// [`MmuError::DeviceLost`], instead of the endless faults that a dead device seems to have.
    fn next_fault(&mut self, from: &mut u32) -> Result<Option<Fault>, MmuError>;

    /// Takes any one captured fault.
    ///
    /// # Errors
    ///
    /// As [`next_fault`](Self::next_fault).
    fn take_fault(&mut self) -> Result<Option<Fault>, MmuError> {
        self.next_fault(&mut 0)
    }
}
