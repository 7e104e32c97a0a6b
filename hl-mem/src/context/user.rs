//! A user's own memory, and what all mappings of a context have in common: how they come to be,
//! and the order in which they go.

use mmu_core::DeviceAddr;

use crate::budget::Charge;
use crate::device::{
    DramMmu, HostMmu, MapBufferError, MapWindowError, Seen, Unconfirmed, settle, tells_unusable,
};
use crate::host::{DeviceAccess, HostError, HostMemory, UserRange};
use crate::lock::Locked;
use crate::mmu::{MmuControl, MmuError};
use crate::port::Port;
use crate::profile::Asic;
use crate::registry::Place;
use crate::space::{
    Batch, Confirmed, Detached, Left, Mapped, NotEstablished, SpaceError, SpaceFailure, User,
    Wanted, establish, tells_establish,
};

use super::{
    Backing, Context, MapDramError, MapUserError, Stage, UnmapUserError, UserMapping, UserMemory,
};

/// Why a mapping of whatever memory did not come to be. Each error of a request has these as its own.
pub(super) enum MappingError {
    TooManyMappings,
    Lost,
    Reset,
    Closing,
    Space(SpaceError),
    Mmu(MmuError),
}

tells_unusable!(MappingError);
tells_establish!(MappingError);

macro_rules! as_its_own {
    ($($error:ident),*) => {
        $(
            impl From<MappingError> for $error {
                fn from(error: MappingError) -> Self {
                    match error {
                        MappingError::TooManyMappings => Self::TooManyMappings,
                        MappingError::Lost => Self::Lost,
                        MappingError::Reset => Self::Reset,
                        MappingError::Closing => Self::Closing,
                        MappingError::Space(error) => Self::Space(error),
                        MappingError::Mmu(error) => Self::Mmu(error),
                    }
                }
            }
        )*
    };
}
as_its_own!(MapUserError, MapDramError, MapBufferError, MapWindowError);

impl<A: Asic, P: Port> Context<'_, '_, A, P> {
    /// Pins the user's memory and maps it into the user's address space. Returns the device
    /// address of its first byte, which is what [`unmap`](Self::unmap) takes.
    ///
    /// # Errors
    ///
    /// Each part that can refuse has its variant of [`MapUserError`].
    pub fn map(
        &self,
        range: UserRange,
        access: DeviceAccess,
        wanted: Wanted,
    ) -> Result<DeviceAddr, MapUserError> {
        let page_bytes = P::Host::PAGE_BYTES;
        let offset = range.offset_in_page(page_bytes);
        // Parsing the range made sure that its last page ends within 2^64.
        let pages = range
            .pages(page_bytes)
            .ok_or(MapUserError::Host(HostError::NoMemory))?;
        let place = self.hold_place()?;
        // More pages than a number of this processor can count are more than any limit.
        let count = usize::try_from(pages.count()).unwrap_or(usize::MAX);
        let charge = match self.budget.charge(count) {
            Ok(charge) => charge,
            Err(error) => {
                self.give_back(place);
                return Err(MapUserError::Budget(error));
            }
        };
        let pinned = match self.device.host.pin(&self.process, pages, access) {
            Ok(pinned) => pinned,
            Err(error) => {
                self.refund(charge);
                self.give_back(place);
                return Err(MapUserError::Host(error));
            }
        };
        let asked = pages.range().len();
        let mapped = {
            let runs = self.device.host.pinned_runs(&pinned);
            let space = &mut self.space.lock().space;
            space.map(&self.removals.host, asked, runs, &A::PROFILE, wanted)
        };
        // Where the list is refused, this tells why, while the pages are still there to be asked.
        let got = match &mapped {
            Err(failure) if failure.error == SpaceError::Runs => {
                let runs = self.device.host.pinned_runs(&pinned);
                runs.fold(0_u64, |got, run| got.saturating_add(run.len()))
            }
            _ => asked,
        };
        let memory = UserMemory {
            pinned,
            charge,
            access,
        };
        let established = self.establish(place, mapped, Backing::User(memory));
        if got != asked {
            return Err(MapUserError::Pinned { asked, got });
        }
        let (place, mapped) = established?;
        // The offset stays within the mapping's first page.
        let start = mapped.range().start();
        let at = start.checked_add(offset).unwrap_or(start);
        self.name(place, at, mapped);
        Ok(at)
    }

    /// Takes a place for a mapping, where there is one left, the device is there, and the address space is
    /// still the one that it uses.
    pub(super) fn hold_place(&self) -> Result<Place, MappingError> {
        self.usable()?;
        let held = self.space.lock().mappings.hold();
        held.ok_or(MappingError::TooManyMappings)
    }

    /// Gives back the place of a mapping that did not come to be.
    pub(super) fn give_back(&self, place: Place) {
        self.space.lock().mappings.give_back(place);
    }

    /// Makes a mapping known by the address that its user is told.
    pub(super) fn name(&self, place: Place, at: DeviceAddr, mapped: Mapped<User, Backing<P>>) {
        let mapping = UserMapping(Stage::Live(mapped));
        self.space.lock().mappings.fill(place, at, mapping);
    }

    /// Makes a mapping of the entries that were written, which the memory behind it then belongs to,
    /// once the MMU has taken note of them. Where anything failed, everything is undone: the memory is
    /// given up, unless the device may have seen entries and does not confirm that it forgot them.
    pub(super) fn establish(
        &self,
        place: Place,
        written: Result<Mapped<User, ()>, SpaceFailure<User>>,
        backing: Backing<P>,
    ) -> Result<(Place, Mapped<User, Backing<P>>), MappingError> {
        let dram_mmu = match &backing {
            Backing::Dram { .. } => self.device.dram_mmu(),
            _ => None,
        };
        let announce = || match dram_mmu {
            Some(dram_mmu) => dram_mmu.lock().driver.announce(),
            None => self.device.mmu.lock().driver.announce(),
        };
        let unmap = |mapped| self.space.lock().unmap(&self.removals, mapped);
        let NotEstablished { error, left } = match establish(written, backing, announce, unmap) {
            Ok(mapped) => return Ok((place, mapped)),
            Err(not) => not,
        };
        match left {
            Left::Unseen(backing) => {
                self.give_back(place);
                self.give_up_unused(backing);
            }
            Left::Detached(detached) => {
                // The mapping's own error is the one that counts.
                let _ = self.finish_unmap(place, detached);
            }
        }
        Err(error.into())
    }

    /// Unmaps what [`map`](Self::map) or [`map_dram`](Self::map_dram) returned `at` for, and gives up
    /// what was behind it. What the driver mapped has no address here, whatever it is.
    ///
    /// # Errors
    ///
    /// * [`UnmapUserError::NotMapped`] when no mapping of this user has that address;
    /// * [`UnmapUserError::Exported`] while a peer uses the device memory through this mapping;
    /// * [`UnmapUserError::Unconfirmed`] when the device does not confirm the removal: addresses
    ///   and pages are in quarantine until [`settle_quarantine`](Self::settle_quarantine) or
    ///   closing succeeds.
    pub fn unmap(&self, at: DeviceAddr) -> Result<(), UnmapUserError> {
        let (place, detached) = {
            let mut space = self.space.lock();
            let not_mapped = UnmapUserError::NotMapped { at };
            match space.mappings.get_mut(at).map(|mapping| &mapping.0) {
                None => return Err(not_mapped),
                Some(Stage::Live(mapped)) if is_exported(mapped.backing()) => {
                    return Err(UnmapUserError::Exported { at });
                }
                Some(_) => {}
            }
            let (place, mapping) = space.mappings.take(at).ok_or(not_mapped)?;
            match mapping.0 {
                Stage::Live(mapped) => (place, space.unmap(&self.removals, mapped)),
                // Only live mappings are found by their address.
                Stage::Quarantined(detached) => (place, detached),
            }
        };
        self.finish_unmap(place, detached)
            .map_err(UnmapUserError::Unconfirmed)
    }

    /// Tries again to confirm what is in quarantine, and gives up whatever that frees.
    ///
    /// # Errors
    ///
    /// [`Unconfirmed`]: it stays where it is.
    pub fn settle_quarantine(&self) -> Result<(), Unconfirmed> {
        let count = self.space.lock().mappings.parked();
        for _ in 0..count {
            if let Some((place, detached)) = self.take_quarantined() {
                self.finish_unmap(place, detached)?;
            }
        }
        Ok(())
    }

    /// Takes out what has been in quarantine for longest.
    fn take_quarantined(&self) -> Option<(Place, Detached<User, Backing<P>>)> {
        let mut space = self.space.lock();
        match space.mappings.take_parked()? {
            (place, UserMapping(Stage::Quarantined(detached))) => Some((place, detached)),
            // Only removed mappings are parked.
            (place, mapping) => {
                space.mappings.park(place, mapping);
                None
            }
        }
    }

    /// Everything after the removal: invalidation, then addresses, then what was behind them.
    pub(super) fn finish_unmap(
        &self,
        place: Place,
        detached: Detached<User, Backing<P>>,
    ) -> Result<(), Unconfirmed> {
        let batch = detached.batch();
        let settled = match (detached.backing(), self.device.dram_mmu()) {
            (Backing::Dram { .. }, Some(dram_mmu)) => self.settle_dram(dram_mmu, batch),
            _ => self.settle_host(batch),
        };
        if let Some(waiting) = self.end_unmap(place, detached, settled.ok()) {
            // Whatever was not confirmed when it was removed is now, in most cases.
            self.give_up_confirmed(waiting);
        }
        settled.map(drop)
    }

    /// Gives up what was behind a mapping, where it is confirmed that the mapping is gone, and tells how many
    /// others are in quarantine; keeps it there otherwise.
    fn end_unmap(
        &self,
        place: Place,
        detached: Detached<User, Backing<P>>,
        confirmed: Option<Confirmed>,
    ) -> Option<u32> {
        let mut space = self.space.lock();
        match detached.proven(confirmed) {
            Ok(proven) => {
                let backing = space.release(proven);
                space.mappings.give_back(place);
                let waiting = space.mappings.parked();
                drop(space);
                self.give_up(backing);
                Some(waiting)
            }
            Err(detached) => {
                let mapping = UserMapping(Stage::Quarantined(detached));
                space.mappings.park(place, mapping);
                None
            }
        }
    }

    /// Gives up those of the first `count` mappings in quarantine whose removal is confirmed by now.
    fn give_up_confirmed(&self, count: u32) {
        for _ in 0..count {
            let Some((place, detached)) = self.take_quarantined() else {
                return;
            };
            let confirmed = match (detached.backing(), self.device.dram_mmu()) {
                (Backing::Dram { .. }, Some(_)) => self.removals.dram.lock().confirmed(),
                _ => self.removals.host.lock().confirmed(),
            };
            let _ = self.end_unmap(place, detached, Some(confirmed));
        }
    }

    /// Sees to it that everything that was removed is confirmed: what no mapping is behind, too.
    pub(super) fn settle_rest(&self) -> Result<(), Unconfirmed> {
        let waiting = self.removals.host.lock().waiting();
        if let Some(batch) = waiting {
            let _ = self.settle_host(batch)?;
        }
        let waiting = self.removals.dram.lock().waiting();
        match (waiting, self.device.dram_mmu()) {
            (Some(batch), Some(dram_mmu)) => self.settle_dram(dram_mmu, batch).map(drop),
            _ => Ok(()),
        }
    }

    /// Sees to it that a batch of removals of device memory is confirmed, where that has tables of
    /// its own.
    fn settle_dram(
        &self,
        mmu: &Locked<P, DramMmu<A, P>>,
        batch: Batch,
    ) -> Result<Confirmed, Unconfirmed> {
        loop {
            {
                let DramMmu { driver, forgot, .. } = &mut *mmu.lock();
                let seen = self.seen(driver, *forgot);
                if let Some(settled) = settle(seen, &self.removals.dram, batch) {
                    return settled;
                }
            }
            self.forget();
        }
    }

    /// Sees to it that a batch of removals of host memory is confirmed.
    fn settle_host(&self, batch: Batch) -> Result<Confirmed, Unconfirmed> {
        loop {
            {
                let HostMmu { driver, forgot, .. } = &mut *self.device.mmu.lock();
                let seen = self.seen(driver, *forgot);
                if let Some(settled) = settle(seen, &self.removals.host, batch) {
                    return settled;
                }
            }
            self.forget();
        }
    }

    /// What an MMU, whose lock is held, has of this user's tables.
    ///
    /// As long as the lock is held, the MMU is not brought back after a reset. So where no reset is
    /// known of, one that is counted meanwhile finds the tables that are released here, and knows
    /// nothing of them for certain; where one is known of, the space has to forget before anything is
    /// released, since what was removed may not be what the device's memory has.
    fn seen<'m, U>(&self, driver: &'m mut U, forgot: u32) -> Seen<'m, U> {
        Seen {
            driver,
            resets: self.device.resets(),
            // Later, that is; the numbers go round.
            forgotten: forgot.wrapping_sub(self.seat.resets).cast_signed() > 0,
        }
    }

    /// Empties the tables after a reset. No lock of an MMU is held: whoever has the space locked may
    /// be at work for long, and has nobody else wait.
    fn forget(&self) {
        let mut space = self.space.lock();
        // Read before the tables are written: of a reset that comes now, they do not know.
        let resets = self.device.resets();
        space.forget(&self.removals, resets);
    }

    /// Gives up memory that the device never had access to, and so has not made dirty.
    fn give_up_unused(&self, backing: Backing<P>) {
        self.give_up(match backing {
            Backing::User(memory) => Backing::User(UserMemory {
                access: DeviceAccess::Read,
                ..memory
            }),
            backing => backing,
        });
    }

    /// Gives up memory that the device cannot reach.
    fn give_up(&self, backing: Backing<P>) {
        match backing {
            Backing::User(memory) => {
                self.device.host.unpin(memory.pinned, memory.access);
                self.refund(memory.charge);
            }
            Backing::Dram { hold, .. } => self.device.release_dram_hold(hold),
            Backing::Buffer(hold) => self.device.release_buffer_hold(hold),
            Backing::Window(_) => {}
        }
    }

    fn refund(&self, charge: Charge) {
        if let Err(foreign) = self.budget.refund(charge) {
            // A context charges one budget only. Were it otherwise, the charge would stay where it
            // was made, which the counters show.
            let _ = foreign;
        }
    }
}

/// Whether a peer uses memory through its mapping.
fn is_exported<P: Port>(backing: &Backing<P>) -> bool {
    matches!(backing, Backing::Dram { exports, .. } if *exports != 0)
}
