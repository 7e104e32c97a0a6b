//! Seats: the address spaces of users, while they have one and while nobody has them.

use core::fmt;

use mmu_core::{BusAddr, Format, PageTable, TableMemory};

use crate::asid::{Asid, UserAsid};
use crate::events::{DeviceEvent, EventQueue, EventSlot};
use crate::mmu::MmuControl;
use crate::port::Port;
use crate::profile::Asic;
use crate::sync::Ordering;

use super::{Device, DramTableOf, TableOf};

/// A place for the page table of one user's address space, while no context has it.
pub struct Seat<A: Asic, P: Port> {
    pub(super) asid: Option<UserAsid>,
    pub(super) tables: Option<Tables<A, P>>,
    /// What the user who has the seat is told.
    pub(super) events: Option<SeatEvents>,
    /// The MMUs have not taken over the roots since a reset. Nobody gets the seat before they have.
    pub(super) rootless: bool,
}

/// Events that are kept for one user (see [`Context::next_event`](crate::Context::next_event)).
pub const EVENTS: usize = 8;

pub(super) type SeatEvents = EventQueue<DeviceEvent, [EventSlot<DeviceEvent>; EVENTS]>;

/// The page tables of one ASID.
pub(crate) struct Tables<A: Asic, P: Port> {
    pub(crate) host: TableOf<A, P>,
    /// Where device memory has tables of its own.
    pub(crate) dram: Option<DramTableOf<A, P>>,
}

impl<A: Asic, P: Port> Seat<A, P> {
    /// A place without a page table.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            asid: None,
            tables: None,
            events: None,
            rootless: false,
        }
    }

    /// The ASID and the root table of a seat that is free.
    pub(super) fn root(&self) -> Option<(Asid, BusAddr)> {
        Some((self.asid?.into(), self.tables.as_ref()?.host.root()))
    }

    /// The same of the tables for device memory.
    pub(super) fn dram_root(&self) -> Option<(Asid, BusAddr)> {
        Some((
            self.asid?.into(),
            self.tables.as_ref()?.dram.as_ref()?.root(),
        ))
    }
}

impl<A: Asic, P: Port> Default for Seat<A, P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<A: Asic, P: Port> fmt::Debug for Seat<A, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.tables.is_some() {
            "free"
        } else {
            "taken"
        })
    }
}

/// All seats, and how often they were taken.
pub(super) struct Seats<'d, A: Asic, P: Port> {
    pub(super) list: &'d mut [Seat<A, P>],
    /// Tells the handles of one context from those of another.
    pub(super) taken: u32,
}

/// Which seat an address space came from, and when.
#[derive(Debug)]
pub(crate) struct SeatTicket {
    pub(crate) asid: UserAsid,
    /// The number of the context among all that had a seat.
    pub(crate) number: u32,
    resets: u32,
}

impl SeatTicket {
    /// How often the device had been reset when the seat was taken.
    pub(crate) fn resets(&self) -> u32 {
        self.resets
    }
}

impl<A: Asic, P: Port> Device<'_, A, P> {
    /// How often the device was brought back after a reset.
    pub(crate) fn resets(&self) -> u32 {
        // Exact for whoever holds the lock of the MMU of host memory.
        self.resets.load(Ordering::Relaxed)
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
        let mut seats = self.seats.lock();
        let Seats { list, taken } = &mut *seats;
        list.iter_mut().find_map(|seat| {
            let asid = seat.asid?;
            if seat.rootless {
                let tables = seat.tables.as_mut()?;
                seat.rootless = !self.give_roots(&mut mmu.driver, asid.into(), tables);
            }
            if seat.rootless {
                return None;
            }
            let tables = seat.tables.take()?;
            seat.events = Some(EventQueue::new([EventSlot::new(); EVENTS]));
            *taken = taken.wrapping_add(1);
            let ticket = SeatTicket {
                asid,
                number: *taken,
                resets: self.resets(),
            };
            Some((ticket, tables))
        })
    }

    /// Gives an address space back, in which nothing is mapped and of which nothing is cached.
    pub(crate) fn give_seat(&self, ticket: SeatTicket, mut tables: Tables<A, P>) {
        let asid = ticket.asid.into();
        let mut mmu = self.mmu.lock();
        let mut seats = self.seats.lock();
        // A reset wiped the root tables and made the MMUs forget them.
        let rootless =
            self.was_reset_since(&ticket) && !self.give_roots(&mut mmu.driver, asid, &mut tables);
        let mut list = seats.list.iter_mut();
        if let Some(seat) = list.find(|seat| seat.asid == Some(ticket.asid)) {
            seat.tables = Some(tables);
            seat.rootless = rootless;
            seat.events = None;
        }
    }

    /// Writes the roots of an address space anew and gives them to its ASID once more. Returns whether
    /// the MMUs have taken them over; the space is of no use before.
    fn give_roots(&self, mmu: &mut P::Mmu, asid: Asid, tables: &mut Tables<A, P>) -> bool {
        let host = give_root(mmu, asid, &mut tables.host);
        let dram = match (&self.dram_mmu, &mut tables.dram) {
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
    // Nothing was mapped there: nothing is lost with a removal that is not confirmed.
    table.wipe().confirm(mmu).is_ok() && mmu.set_root(asid, table.root()).is_ok()
}
