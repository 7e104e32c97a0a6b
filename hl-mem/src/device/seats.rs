//! Seats: the address spaces of users, while they have one and while nobody has them.

use core::fmt;

use mmu_core::{BusAddr, Format, Invalidate, PageTable, TableMemory};

use crate::asid::{Asid, UserAsid};
use crate::events::{DeviceEvent, DeviceEvents, EventSlot};
use crate::lock::{InterruptLocked, LockRank, Locked};
use crate::mmu::MmuControl;
use crate::owner::Owner;
use crate::port::Port;
use crate::profile::Asic;

use super::standing::{Moment, Standing};
use super::{Device, DramTableOf, HostMmu, TableOf};

/// A place for the page table of one user's address space, while no context has it, and for what the
/// user is told while one has.
pub struct Seat<A: Asic, P: Port> {
    /// Set when the device comes up.
    asid: Option<UserAsid>,
    /// The root table of its address space, and the one for device memory: known here, so that nobody
    /// asks the tables with the lock held.
    roots: (Option<BusAddr>, Option<BusAddr>),
    state: InterruptLocked<P, State<A, P>>,
}

/// What changes of a seat. Whoever takes tables out or puts them back holds the lock of the MMU of host
/// memory, too: they are written and given to MMUs outside, where it takes the time that it takes.
struct State<A: Asic, P: Port> {
    /// Who the context is that has the seat.
    user: Option<Owner>,
    tables: Option<Tables<A, P>>,
    /// What the user who has the seat is told, or the room for it.
    events: Events<P::EventSlots>,
    /// Since when he knows how the device is.
    knows: Moment,
    /// The MMUs have not taken over the roots since a reset. Nobody gets the seat before they have.
    rootless: bool,
    /// Nobody gets the seat any more.
    lost: bool,
}

impl<A: Asic, P: Port> State<A, P> {
    /// Tells the user, if there is one, what is news to him. Whether he is to be woken.
    fn tell(&mut self, now: Moment) -> bool {
        let known = core::mem::replace(&mut self.knows, now);
        let Some(events) = self.events.told() else {
            return false;
        };
        let waking = now.news(known).filter(|event| events.post(*event).wake);
        waking.count() != 0
    }
}

/// What the user who has a seat is told.
#[expect(
    clippy::large_enum_variant,
    reason = "the larger one is what a seat that is in use has"
)]
enum Events<S> {
    /// Nobody has the seat: room for them.
    Room(S),
    /// Of the user who has it.
    Told(DeviceEvents<S>),
    /// On the way from one to the other.
    Between,
}

impl<S: AsRef<[EventSlot<DeviceEvent>]> + AsMut<[EventSlot<DeviceEvent>]>> Events<S> {
    /// Begins without any, for another user.
    fn begin(&mut self) {
        self.end();
        if let Self::Room(slots) = core::mem::replace(self, Self::Between) {
            *self = Self::Told(DeviceEvents::new(slots));
        }
    }

    /// Forgets them.
    fn end(&mut self) {
        *self = match core::mem::replace(self, Self::Between) {
            Self::Told(events) => Self::Room(events.into_slots()),
            room => room,
        };
    }

    fn told(&mut self) -> Option<&mut DeviceEvents<S>> {
        match self {
            Self::Told(events) => Some(events),
            _ => None,
        }
    }
}

/// The page tables of one ASID.
pub(crate) struct Tables<A: Asic, P: Port> {
    pub(crate) host: TableOf<A, P>,
    /// Where device memory has tables of its own.
    pub(crate) dram: Option<DramTableOf<A, P>>,
}

impl<A: Asic, P: Port> Seat<A, P> {
    /// A place without a page table, with room for the events of whoever gets it.
    #[must_use]
    pub const fn new(events: P::EventSlots) -> Self {
        let state = State {
            user: None,
            tables: None,
            events: Events::Room(events),
            knows: Moment::FIRST,
            rootless: false,
            lost: false,
        };
        Self {
            asid: None,
            roots: (None, None),
            state: Locked::new(LockRank::Seat, state),
        }
    }

    /// Gives a new place the tables of an ASID, which nobody has.
    pub(super) fn begin(&mut self, asid: UserAsid, tables: Tables<A, P>) {
        let _ = self.end();
        self.asid = Some(asid);
        self.roots = (
            Some(tables.host.root()),
            tables.dram.as_ref().map(PageTable::root),
        );
        self.state.get_mut().tables = Some(tables);
    }

    /// The ASID and the root table of a seat that is free.
    pub(super) fn root(&self) -> Option<(Asid, BusAddr)> {
        self.is_free().then_some(())?;
        Some((self.asid?.into(), self.roots.0?))
    }

    /// The same of the tables for device memory.
    pub(super) fn dram_root(&self) -> Option<(Asid, BusAddr)> {
        self.is_free().then_some(())?;
        Some((self.asid?.into(), self.roots.1?))
    }

    /// Whether no context has the seat.
    pub(super) fn is_free(&self) -> bool {
        self.state.lock().tables.is_some()
    }

    /// Whether nobody gets the seat any more.
    pub(super) fn is_lost(&self) -> bool {
        self.state.lock().lost
    }

    /// Whether a context has the seat.
    pub(super) fn is_taken(&self) -> bool {
        self.asid.is_some() && !self.is_free()
    }

    /// Takes the tables out for good; the seat is as a new one.
    pub(super) fn end(&mut self) -> Option<Tables<A, P>> {
        self.asid = None;
        self.roots = (None, None);
        let state = self.state.get_mut();
        state.user = None;
        state.events.end();
        state.rootless = false;
        state.lost = false;
        state.tables.take()
    }

    /// Empties the tables of a seat that is free, after a reset of the device.
    pub(super) fn wipe(&self) {
        self.with_free_tables(|tables| {
            // Nothing is mapped there; but somebody may have failed to map something.
            wipe(&mut tables.host);
            if let Some(dram) = &mut tables.dram {
                wipe(dram);
            }
        });
    }

    /// Notes that the MMUs have taken over all roots, having forgotten what they had before; `forgot`
    /// confirms it. Of the seats that are taken, it is decided when they come back.
    pub(super) fn note_rooted(&self, forgot: &mut impl Invalidate) {
        self.state.lock().rootless = false;
        self.with_free_tables(|tables| {
            // What the device's memory does not take any more waits for the next time.
            let _ = confirm_rest(&mut tables.host, forgot);
            if let Some(dram) = &mut tables.dram {
                let _ = confirm_rest(dram, forgot);
            }
        });
    }

    /// Works on the tables of a seat that is free, without its lock.
    fn with_free_tables(&self, work: impl FnOnce(&mut Tables<A, P>)) {
        let taken = self.state.lock().tables.take();
        if let Some(mut tables) = taken {
            work(&mut tables);
            self.state.lock().tables = Some(tables);
        }
    }

    /// Tells the user, if there is one. Whether he is to be woken.
    pub(super) fn post(&self, event: DeviceEvent) -> bool {
        let mut state = self.state.lock();
        let events = state.events.told();
        events.is_some_and(|events| events.post(event).wake)
    }

    /// Tells the user, if there is one, what he does not know of how the device is now. Whether he is to
    /// be woken.
    pub(super) fn tell(&self, standing: &Standing) -> bool {
        let mut state = self.state.lock();
        state.tell(standing.now())
    }

    /// Takes the tables out for a user.
    fn take(&self) -> Option<(Tables<A, P>, bool)> {
        let mut state = self.state.lock();
        Some((state.tables.take()?, state.rootless))
    }

    /// Puts the tables back, which no context has.
    fn put(&self, tables: Tables<A, P>, rootless: bool) {
        let mut state = self.state.lock();
        state.user = None;
        state.tables = Some(tables);
        state.rootless = rootless;
        state.events.end();
    }
}

impl<A: Asic, P: Port> fmt::Debug for Seat<A, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_free() { "free" } else { "taken" })
    }
}

/// Which seat an address space came from, and when.
#[derive(Debug)]
pub(crate) struct SeatTicket {
    pub(crate) asid: UserAsid,
    /// The number of the context among all that had a seat.
    pub(crate) number: u32,
    /// How often the device had been reset.
    pub(crate) resets: u32,
}

impl SeatTicket {
    /// Who the context is to the device's memory.
    pub(crate) fn owner(&self) -> Owner {
        Owner::new(self.number)
    }
}

impl<A: Asic, P: Port> Device<'_, A, P> {
    /// Whether a context is open.
    pub(crate) fn is_open(&self, owner: Owner) -> bool {
        let mut seats = self.seats.iter();
        seats.any(|seat| seat.state.lock().user == Some(owner))
    }

    /// Whether the device was brought back after a reset since a seat was taken, which the seat's
    /// address space has not outlived.
    pub(crate) fn was_reset_since(&self, ticket: &SeatTicket) -> bool {
        // Whoever comes at the same time as the reset may be told either.
        self.resets() != ticket.resets
    }

    /// Takes the address space of a user that has none; `None` when all are taken, or when the MMUs do
    /// not take over the root of the only ones left.
    pub(crate) fn take_seat(&self) -> Option<(SeatTicket, Tables<A, P>)> {
        let mut mmu = self.mmu.lock();
        let HostMmu { driver, opened, .. } = &mut *mmu;
        self.seats.iter().find_map(|seat| {
            let asid = seat.asid?;
            let (mut tables, rootless) = seat.take()?;
            if rootless && !self.give_roots(driver, asid.into(), &mut tables) {
                seat.put(tables, true);
                return None;
            }
            *opened = opened.wrapping_add(1);
            let ticket = SeatTicket {
                asid,
                number: *opened,
                resets: self.resets(),
            };
            let mut state = seat.state.lock();
            state.user = Some(ticket.owner());
            state.rootless = false;
            state.events.begin();
            let now = self.standing.now();
            state.knows = now.untold();
            // He may have come when the device was lost already; he has not slept yet.
            state.tell(now);
            Some((ticket, tables))
        })
    }

    /// Gives an address space back, in which nothing is mapped and of which nothing is cached.
    pub(crate) fn give_seat(&self, ticket: SeatTicket, mut tables: Tables<A, P>) {
        let asid = ticket.asid.into();
        let mut mmu = self.mmu.lock();
        // A reset wiped the root tables and made the MMUs forget them. Where something that failed was
        // undone, they may know of its tables, which the next user may need.
        let begin_anew = self.was_reset_since(&ticket) || tables.host.has_unconfirmed();
        let rootless = begin_anew && !self.give_roots(&mut mmu.driver, asid, &mut tables);
        if let Some(seat) = self.seat(&ticket) {
            seat.put(tables, rootless);
        }
    }

    /// Notes that an address space does not come back.
    pub(crate) fn lose_seat(&self, ticket: &SeatTicket) {
        if let Some(seat) = self.seat(ticket) {
            let mut state = seat.state.lock();
            state.lost = true;
            state.user = None;
            state.events.end();
        }
    }

    fn seat(&self, ticket: &SeatTicket) -> Option<&Seat<A, P>> {
        let mut seats = self.seats.iter();
        seats.find(|seat| seat.asid == Some(ticket.asid))
    }

    /// Gives `look` the events of the user that has a seat.
    pub(super) fn with_events<T>(
        &self,
        ticket: &SeatTicket,
        look: impl FnOnce(&mut DeviceEvents<P::EventSlots>) -> T,
    ) -> Option<T> {
        let mut state = self.seat(ticket)?.state.lock();
        Some(look(state.events.told()?))
    }

    /// Writes the roots of an address space anew and gives them to its ASID once more. Returns whether
    /// the MMUs have taken them over; the space is of no use before.
    fn give_roots(&self, mmu: &mut P::Mmu, asid: Asid, tables: &mut Tables<A, P>) -> bool {
        let host = give_root(mmu, asid, &mut tables.host);
        let dram = match (self.dram_mmu(), &mut tables.dram) {
            (Some(dram_mmu), Some(table)) => give_root(&mut dram_mmu.lock().driver, asid, table),
            _ => true,
        };
        host && dram
    }
}

/// Writes the root of an address space anew and gives it to its ASID once more.
fn give_root<F: Format, M: TableMemory, U: MmuControl>(
    mmu: &mut U,
    asid: Asid,
    table: &mut PageTable<F, M>,
) -> bool {
    wipe(table);
    confirm_rest(table, mmu) && mmu.set_root(asid, table.root()).is_ok()
}

/// Writes the root of a table anew, which keeps what is removed until somebody has it confirmed.
fn wipe<F: Format, M: TableMemory>(table: &mut PageTable<F, M>) {
    let removed = table.wipe();
    // It comes from this table.
    let _ = table.absorb(removed);
}

/// Has what a table keeps confirmed. Returns whether it keeps nothing any more.
fn confirm_rest<F: Format, M: TableMemory>(
    table: &mut PageTable<F, M>,
    mmu: &mut impl Invalidate,
) -> bool {
    if !table.has_unconfirmed() {
        return true;
    }
    let Err(refused) = table.sweep_all().confirm(mmu) else {
        return true;
    };
    // It comes from this table.
    let _ = table.absorb(refused.into_removed());
    false
}
