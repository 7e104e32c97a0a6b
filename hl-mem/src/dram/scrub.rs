//! From dirty memory to clean memory, step by step, each a type.

use core::fmt;

use mmu_core::Run;

use crate::identity::Identity;

/// Overwrites device memory.
///
/// # For implementers
///
/// `scrub` returns `Ok` only when nothing of the former content of `run` can be read any more, by
/// any engine of the device or over the bus, and no write to it is still on its way. It may take
/// its time: no lock of a pool is held meanwhile, and by a [`Device`](crate::Device) only that of the
/// scrubber.
pub trait Scrub {
    /// Why memory could not be scrubbed.
    type Error;

    /// Overwrites all of `run` and waits until that is certain.
    ///
    /// # Errors
    ///
    /// Whatever keeps the implementation from being certain. The content may be anything then.
    fn scrub(&mut self, run: Run) -> Result<(), Self::Error>;

    /// Fills all of `run` with a byte and waits until that is certain: what stray accesses read
    /// (see [`DefaultPage`](crate::profile::DefaultPage)). The byte is of no meaning but to people
    /// who look for such accesses; an implementation that has no fill overwrites as ever.
    ///
    /// # Errors
    ///
    /// As with [`scrub`](Self::scrub).
    fn fill(&mut self, run: Run, byte: u8) -> Result<(), Self::Error> {
        let _ = byte;
        self.scrub(run)
    }
}

/// Overwrites nothing, and says so: for a port whose users get no device memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct NoScrub;

impl Scrub for NoScrub {
    type Error = NotScrubbed;

    fn scrub(&mut self, _run: Run) -> Result<(), NotScrubbed> {
        Err(NotScrubbed)
    }
}

/// [`NoScrub`] was asked to overwrite memory. It did not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct NotScrubbed;

impl fmt::Display for NotScrubbed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nothing here overwrites device memory")
    }
}

impl core::error::Error for NotScrubbed {}

/// Free pages with somebody's content, taken out of their pool to be scrubbed.
///
/// One that is dropped keeps its pages out of the pool, as [`DramUsage::scrubbing`] shows.
///
/// [`DramUsage::scrubbing`]: super::DramUsage::scrubbing
#[derive(PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[must_use = "the pages are lost to the pool until they are returned to it"]
pub struct DirtyRun {
    pub(super) first: u32,
    pub(super) pages: u32,
    pub(super) run: Run,
    pub(super) pool: Identity,
    /// How often the pool's memory had lost its content.
    pub(super) losses: u32,
}

impl DirtyRun {
    /// The addresses of the pages.
    #[must_use]
    pub const fn run(&self) -> Run {
        self.run
    }

    /// Scrubs the pages. This is the only way to a [`ScrubbedRun`].
    ///
    /// # Errors
    ///
    /// [`ScrubFailed`], with the pages inside, as dirty as before: try again, or return them with
    /// [`DramPool::return_dirty`](super::DramPool::return_dirty).
    pub fn scrub<S: Scrub>(self, port: &mut S) -> Result<ScrubbedRun, ScrubFailed<S::Error>> {
        match port.scrub(self.run) {
            Ok(()) => Ok(ScrubbedRun(self)),
            Err(error) => Err(ScrubFailed { error, dirty: self }),
        }
    }
}

/// Pages that have been scrubbed and are still to be returned to their pool.
#[derive(PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[must_use = "the pages are lost to the pool until they are returned to it"]
pub struct ScrubbedRun(pub(super) DirtyRun);

impl ScrubbedRun {
    /// The addresses of the pages.
    #[must_use]
    pub const fn run(&self) -> Run {
        self.0.run
    }
}

/// Memory could not be scrubbed.
#[derive(PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[must_use = "the pages are lost to the pool until they are returned to it"]
pub struct ScrubFailed<E> {
    /// What the port said.
    pub error: E,
    /// The pages, still dirty.
    pub dirty: DirtyRun,
}

impl<E: fmt::Display> fmt::Display for ScrubFailed<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} could not be scrubbed: {}",
            self.dirty.run, self.error
        )
    }
}

impl<E: fmt::Debug + fmt::Display> core::error::Error for ScrubFailed<E> {}
