//! Access to a device's registers, and waiting for one to change.

use core::time::Duration;

use super::MmuError;

/// What a read yields when nobody answers it: a device that fell off its bus, or a bridge that
/// lost its link, makes every bit one.
const NOBODY: u32 = u32::MAX;

/// Reads and writes the configuration registers of one device. A port implements it.
///
/// Offsets count bytes from the start of the configuration space and are multiples of four; all
/// registers are 32 bits wide (facts 9).
///
/// # Time
///
/// The drivers wait for hardware, but have no clock and do not sleep. Before they poll they ask
/// for a [`deadline`](Self::deadline), and between two reads they [`pause`](Self::pause), which
/// also says whether there is time left. With a clock the deadline is a point in time and a pause
/// sleeps for up to a millisecond or spins; without one, [`PollBudget`] counts the polls.
///
/// # Locks
///
/// A device's driver is called with the lock of its MMU held, and others that map or unmap wait for it;
/// see [porting](crate::guide::porting#registers).
///
/// # Safety
///
/// The MMU drivers conclude from registers that a device can no longer reach memory.
///
/// 1. `read` and `write` access the register at that offset of one and the same device, each call
///    exactly once, 32 bits wide, in the byte order of the device;
/// 2. the device sees the accesses in the order of the calls, and sees a write only after all that
///    the calling thread, or whoever it synchronised with, stored to memory before;
/// 3. while an MMU driver exists over them, nobody else writes the registers that it owns;
/// 4. the device is of the kind that the driver is named after;
/// 5. `read` yields all ones, or never returns, where the device does not answer. It never
///    makes up another value.
#[expect(
    unsafe_code,
    reason = "a wrong implementation makes drivers see invalidations that never happened"
)]
pub unsafe trait Registers {
    /// When waiting ends: a point in time, or a number of polls.
    type Deadline;

    /// The value of a register.
    fn read(&self, offset: u32) -> u32;

    /// Gives a register a value.
    fn write(&self, offset: u32, value: u32);

    /// The end of a wait that begins now.
    fn deadline(&self, timeout: Duration) -> Self::Deadline;

    /// Lets some time pass, at most a millisecond, and says whether there is any left. Once the
    /// deadline has come it must answer `false`, or a device that hangs takes its driver along.
    fn pause(&self, deadline: &mut Self::Deadline) -> bool;
}

#[expect(
    unsafe_code,
    reason = "forwards to an implementation of the same contract"
)]
// SAFETY: each call is passed on, so that the clauses hold because they hold for `R`; for clause 3
// this means that two drivers over copies of the reference must own different registers, which is
// what that clause says.
unsafe impl<R: Registers + ?Sized> Registers for &R {
    type Deadline = R::Deadline;

    fn read(&self, offset: u32) -> u32 {
        R::read(self, offset)
    }
    fn write(&self, offset: u32, value: u32) {
        R::write(self, offset, value);
    }
    fn deadline(&self, timeout: Duration) -> Self::Deadline {
        R::deadline(self, timeout)
    }
    fn pause(&self, deadline: &mut Self::Deadline) -> bool {
        R::pause(self, deadline)
    }
}

/// A deadline for ports without a clock: a number of pauses.
///
/// ```
/// use hl_mem::mmu::PollBudget;
///
/// let mut budget = PollBudget::new(2);
/// assert!(budget.spend());
/// assert!(budget.spend());
/// assert!(!budget.spend());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct PollBudget(u32);

impl PollBudget {
    /// A deadline that lets this many pauses pass.
    #[must_use]
    pub const fn new(pauses: u32) -> Self {
        Self(pauses)
    }

    /// Takes one pause off the budget; `false` where none was left.
    pub fn spend(&mut self) -> bool {
        match self.0.checked_sub(1) {
            Some(left) => {
                self.0 = left;
                true
            }
            None => false,
        }
    }
}

/// Reads a register that is never all ones on a device that answers.
pub(super) fn read<R: Registers>(registers: &R, register: u32) -> Result<u32, MmuError> {
    match registers.read(register) {
        NOBODY => Err(MmuError::DeviceLost),
        value => Ok(value),
    }
}

/// Replaces the bits of `mask` in a register by those of `value`.
pub(super) fn modify<R: Registers>(
    registers: &R,
    register: u32,
    mask: u32,
    value: u32,
) -> Result<(), MmuError> {
    let rest = read(registers, register)? & !mask;
    registers.write(register, rest | (value & mask));
    Ok(())
}

/// Waits until the bits of `mask` in a register are `wanted`. They are looked at once more after
/// the deadline, since a pause may well have taken longer than the time that was left.
pub(super) fn poll<R: Registers>(
    registers: &R,
    register: u32,
    mask: u32,
    wanted: u32,
    timeout: Duration,
) -> Result<(), MmuError> {
    let mut deadline = registers.deadline(timeout);
    let mut time_left = true;
    loop {
        if read(registers, register)? & mask == wanted {
            return Ok(());
        }
        if !time_left {
            return Err(MmuError::TimedOut { register });
        }
        time_left = registers.pause(&mut deadline);
    }
}
