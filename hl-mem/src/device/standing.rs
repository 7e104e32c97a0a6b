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

/// Where the number of losses begins, above one of the three.
const LOSSES: u32 = 2;

/// Whether a device works, and how often it did not. What the driver was told last, which need not be
/// how it is.
pub(super) struct Standing(AtomicU32);

/// A [`Standing`] at some time. Two are the same where nothing has happened between.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Moment(u32);

impl Moment {
    /// When a device came up.
    pub(super) const FIRST: Self = Self(WORKS);

    const fn state(self) -> u32 {
        self.0 & ((1 << LOSSES) - 1)
    }

    const fn works(self) -> bool {
        self.state() == WORKS
    }

    /// The same after one loss more.
    const fn after_a_loss(self, state: u32) -> Self {
        Self(((self.0 >> LOSSES).wrapping_add(1) << LOSSES) | state)
    }

    /// The same in another state.
    const fn with(self, state: u32) -> Self {
        Self((self.0 >> LOSSES << LOSSES) | state)
    }

    /// What somebody knows to whom nothing was said: that the device works.
    pub(super) const fn untold(self) -> Self {
        let works = self.with(WORKS);
        if self.works() {
            return works;
        }
        // So that the loss is news.
        Self(works.0.wrapping_sub(1 << LOSSES))
    }

    /// What is to be told to somebody who knows of `known`, in this order.
    pub(super) fn news(self, known: Self) -> impl Iterator<Item = DeviceEvent> {
        let lost = known.works() && self != known;
        let back = self.works() && (lost || !known.works());
        let lost = lost.then_some(DeviceEvent::DeviceLost);
        let back = back.then_some(DeviceEvent::DeviceRecovered);
        lost.into_iter().chain(back)
    }
}

impl Standing {
    /// That of a device that came up.
    pub(super) fn works() -> Self {
        Self(AtomicU32::new(Moment::FIRST.0))
    }

    /// The one now.
    pub(super) fn now(&self) -> Moment {
        // Whoever finds that it works finds what was done to bring it back.
        Moment(self.0.load(Ordering::Acquire))
    }

    /// Goes on to what `next` says of the one now. Fails with that, where it says nothing.
    fn change(&self, next: impl Fn(Moment) -> Option<Moment>) -> Result<Moment, Moment> {
        let mut now = self.now();
        loop {
            let next = next(now).ok_or(now)?;
            let (done, not) = (Ordering::AcqRel, Ordering::Acquire);
            match self.0.compare_exchange(now.0, next.0, done, not) {
                Ok(_) => return Ok(next),
                Err(other) => now = Moment(other),
            }
        }
    }

    /// Notes that the device is lost.
    fn lose(&self) {
        // One that is lost stays so.
        let _ = self.change(|now| (now.state() != LOST).then(|| now.after_a_loss(LOST)));
    }

    /// Notes that the device was reset and is being brought back, from the moment that it returns.
    fn begin(&self) -> Moment {
        let begun = self.change(|now| match now.state() {
            WORKS => Some(now.after_a_loss(COMES_BACK)),
            LOST => Some(now.with(COMES_BACK)),
            _ => None,
        });
        begun.unwrap_or_else(|under_way| under_way)
    }

    /// Goes on with a recovery that began at a moment, where another one that was under way may have
    /// ended. Returns the moment from which it goes on.
    pub(super) fn go_on(&self, begun: Moment) -> Moment {
        let again = self.change(|now| now.works().then(|| now.after_a_loss(COMES_BACK)));
        again.unwrap_or(begun)
    }

    /// Ends a recovery that goes on from a moment. Returns whether the device works now: it may have
    /// been lost since.
    pub(super) fn end(&self, from: Moment) -> bool {
        let works = self.change(|now| (now == from).then(|| now.with(WORKS)));
        works.is_ok()
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
        self.standing.lose();
        self.tell()
    }

    /// Whether the driver has [noted](Self::note_lost) that the device is lost, or is bringing it back, or
    /// failed to.
    pub fn is_lost(&self) -> bool {
        !self.standing.now().works()
    }

    /// Notes that the device was reset, which it was lost for, whether or not somebody said so. Returns
    /// the moment from which it is brought back.
    pub(super) fn note_reset(&self) -> Moment {
        let begun = self.standing.begin();
        self.tell();
        begun
    }

    /// Tells each user what he does not know. Whether one of them is to be woken.
    pub(super) fn tell(&self) -> bool {
        // Of how it is when the user is told, so that the last that he hears is true, whoever else
        // tells him at the same time.
        let told = self.seats.iter().filter(|seat| seat.tell(&self.standing));
        told.count() != 0
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

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_recovery_that_began_before_a_loss_does_not_end_it_though_another_one_has_begun() {
        let standing = Standing::works();
        standing.lose();
        let first = standing.begin();
        let first = standing.go_on(first);
        standing.lose();
        let second = standing.begin();
        assert!(!standing.end(first));
        let second = standing.go_on(second);
        assert!(standing.end(second));
        assert!(standing.now().works());
    }

    #[test]
    fn one_of_two_recoveries_that_ends_first_leaves_the_other_its_work() {
        let standing = Standing::works();
        let [first, second] = [standing.begin(), standing.begin()];
        assert!(standing.end(standing.go_on(first)));
        let second = standing.go_on(second);
        assert!(!standing.now().works(), "it was reset once more");
        assert!(standing.end(second));
    }

    #[test]
    fn whoever_is_told_at_any_moment_knows_how_it_is() {
        // Every order of eight steps, and a user who is told after any of them.
        let steps: [fn(&Standing); 4] = [
            |standing| standing.lose(),
            |standing| {
                standing.begin();
            },
            |standing| {
                let from = standing.go_on(standing.now());
                standing.end(from);
            },
            |_| {},
        ];
        for order in 0..1_u32 << 16 {
            let standing = Standing::works();
            let (mut knows, mut believed) = (standing.now(), true);
            let mut lost = 0;
            for place in 0..8 {
                let step = order >> (2 * place) & 3;
                let before = standing.now().works();
                steps[step as usize](&standing);
                lost += u32::from(before && !standing.now().works());
                if step < 3 && order & (1 << place) != 0 {
                    continue;
                }
                let now = standing.now();
                for event in now.news(knows) {
                    let works = event == DeviceEvent::DeviceRecovered;
                    assert_ne!(works, believed, "no news: {order:#x}");
                    believed = works;
                    lost = 0;
                }
                knows = now;
                assert_eq!(believed, now.works(), "{order:#x}");
                assert!(lost == 0 || !believed, "a loss untold: {order:#x}");
                lost = 0;
            }
        }
    }

    #[test]
    fn whoever_was_told_nothing_learns_of_a_loss_and_of_nothing_else() {
        let standing = Standing::works();
        let told = |now: Moment| now.news(now.untold()).collect::<Vec<_>>();
        for _ in 0..2 {
            assert_eq!(told(standing.now()), []);
            standing.lose();
            assert_eq!(told(standing.now()), [DeviceEvent::DeviceLost]);
            let from = standing.go_on(standing.begin());
            assert_eq!(told(standing.now()), [DeviceEvent::DeviceLost]);
            standing.end(from);
        }
    }
}
