//! Whether a device is there: what the driver noted, and what follows for those who use it.

use crate::events::DeviceEvent;
use crate::port::Port;
use crate::profile::Asic;
use crate::sync::{AtomicU32, Ordering};

use super::Device;
use super::seats::SeatTicket;

/// The device works.
const WORKS: u32 = 0;
/// It was reset, and is being brought back.
const COMES_BACK: u32 = 1;
/// It is lost. No recovery that is under way ends that.
const LOST: u32 = 2;

/// Whether a device works. What the driver was told last, which need not be how it is.
pub(super) struct Standing(AtomicU32);

impl Standing {
    /// That of a device that came up.
    pub(super) fn works() -> Self {
        Self(AtomicU32::new(WORKS))
    }

    fn is(&self, standing: u32) -> bool {
        // Whoever finds that it works finds what was done to bring it back.
        self.0.load(Ordering::Acquire) == standing
    }

    /// Notes that the device is lost. Returns whether it worked until now.
    fn lose(&self) -> bool {
        self.0.swap(LOST, Ordering::AcqRel) == WORKS
    }

    /// Notes that the device was reset and is being brought back. Returns whether it worked until now.
    fn begin(&self) -> bool {
        self.0.swap(COMES_BACK, Ordering::AcqRel) == WORKS
    }

    fn change(&self, from: u32, to: u32) -> bool {
        let changed = self
            .0
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire);
        changed.is_ok()
    }

    /// Goes on with a recovery where another one that was under way may have ended.
    pub(super) fn go_on(&self) {
        self.change(WORKS, COMES_BACK);
    }

    /// Ends a recovery. Returns whether the device works now: it may be lost again.
    pub(super) fn end(&self) -> bool {
        self.change(COMES_BACK, WORKS)
    }
}

/// Why a device is of no use to somebody. Each error of a request has these as its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unusable {
    /// It is lost, until it is brought back.
    Lost,
    /// It was reset since the file was opened.
    Reset,
    /// The file is being closed, which failed so far.
    Closing,
}

/// Gives each of these errors the variants of [`Unusable`] as its own.
macro_rules! tells_unusable {
    ($($error:ty),*) => {
        $(
            impl From<crate::device::Unusable> for $error {
                fn from(unusable: crate::device::Unusable) -> Self {
                    match unusable {
                        crate::device::Unusable::Lost => Self::Lost,
                        crate::device::Unusable::Reset => Self::Reset,
                        crate::device::Unusable::Closing => Self::Closing,
                    }
                }
            }
        )*
    };
}
pub(crate) use tells_unusable;

impl<A: Asic, P: Port> Device<'_, A, P> {
    /// Notes that the device is lost: that it does not answer, or that it is about to be reset. From now
    /// on until [`recover`](Self::recover) succeeds, whatever needs the device or hands out memory of it
    /// is refused with an error of its own, before anything is changed, and so is opening a file. What
    /// gives back goes on working, as far as it can without the device: unmapping, freeing, destroying,
    /// closing, ending views and exports. Calls that are under way end as they may.
    ///
    /// Users are told ([`DeviceEvent::DeviceLost`]), once for each time that it is lost. Returns whether
    /// one of them had read everything before, so that readers that sleep have to be woken.
    ///
    /// A device that is lost while it is brought back stays lost: that [`recover`](Self::recover) fails.
    ///
    /// May be called in an interrupt, as [`post`](Self::post).
    pub fn note_lost(&self) -> bool {
        self.standing.lose() && self.post(DeviceEvent::DeviceLost)
    }

    /// Whether the driver has [noted](Self::note_lost) that the device is lost, or is bringing it back, or
    /// failed to.
    pub fn is_lost(&self) -> bool {
        !self.standing.is(WORKS)
    }

    /// Notes that the device was reset, which it was lost for, whether or not somebody said so.
    pub(super) fn note_reset(&self) {
        if self.standing.begin() {
            // Who waits to be woken is when it is back.
            let _ = self.post(DeviceEvent::DeviceLost);
        }
    }

    /// Refuses what needs the device while it is lost.
    pub(crate) fn usable(&self) -> Result<(), Unusable> {
        if self.is_lost() {
            return Err(Unusable::Lost);
        }
        Ok(())
    }

    /// The same for a file, which is of no use any more after a reset: what it has leads nowhere.
    pub(crate) fn usable_by(&self, ticket: &SeatTicket) -> Result<(), Unusable> {
        if self.was_reset_since(ticket) {
            return Err(Unusable::Reset);
        }
        self.usable()
    }
}
