//! One device: its address spaces, its buffers, and the order in which memory is given up.
//!
//! # Order of giving up memory
//!
//! Whatever the device could reach is given up in one order only: the producer stops and drains,
//! entries are cleared, the clearing is flushed, the invalidation is confirmed; then device
//! addresses, pins and pages go, in that order (facts 11.14). The types enforce it: pages and pins
//! belong to their mapping, a removed mapping gives them back only when its batch is confirmed,
//! and only the MMU's own answer confirms one.
//!
//! # Locks
//!
//! In the order of [`LockRank`], the pools of tables last. No lock is held while user memory is
//! pinned, while memory is allocated or freed, or while engines stop; only an MMU's is held while the
//! device invalidates what was unmapped, and only the scrubber's while it scrubs. While MMUs restart
//! after a reset, and when a seat then gets its root again, that of the seats is held as well.
//!
//! # Chapters
//!
//! [Blocks](crate::guide::blocks), [views](crate::guide::views), [reset and
//! recovery](crate::guide::recovery), [locks](crate::guide::locks); and for those who bring a device up,
//! [porting](crate::guide::porting).

mod buffers;
mod dram;
mod error;
mod events;
mod inspect;
mod views;
mod windows;

pub use error::{
    BringUpError, BufferError, DramError, MapBufferError, MapWindowError, RetireError, Unconfirmed,
};
pub use views::BufferView;
pub(crate) use views::ViewBufferError;
pub(crate) use windows::part_of;
pub use windows::{PrivilegedWindow, WindowMapping, WindowMemory};

use core::fmt;

use mmu_core::format::NoAttributes;
use mmu_core::{AddrRange, BusAddr, DeviceAddr, Format, PageTable, Run, TableMemory};

use crate::asid::{Asid, UserAsid};
use crate::buffer::{BufferId, BufferSlot, BufferUsage, Buffers, ViewPolicy};
use crate::dram::{DramPool, DramUsage};
use crate::events::{DeviceEvent, EventQueue, EventSlot};
use crate::host::HostMemory;
use crate::lock::{LockRank, Locked};
use crate::mmu::MmuControl;
use crate::port::Port;
use crate::profile::{Asic, LargeHost};
use crate::space::{Addresses, Batch, Privileged, Space};
use crate::va::{LayoutError, Node, VaAllocator};

/// The kernel pages of a port.
pub(crate) type KernelPages<P> = <<P as Port>::Host as HostMemory>::KernelPages;
/// An address space of kind `K`.
pub(crate) type SpaceOf<K, A, P> =
    Space<K, <A as Asic>::HostFormat, <P as Port>::Tables, <P as Port>::Nodes>;
/// The page table of an address space.
pub(crate) type TableOf<A, P> = PageTable<<A as Asic>::HostFormat, <P as Port>::Tables>;
/// The part of an address space in which device memory is mapped, where that has tables of its own.
pub(crate) type DramSpaceOf<K, A, P> =
    Space<K, <A as Asic>::DramFormat, <P as Port>::DramTables, <P as Port>::Nodes>;
/// The page table of that part.
pub(crate) type DramTableOf<A, P> = PageTable<<A as Asic>::DramFormat, <P as Port>::DramTables>;

/// The right to have memory mapped in the privileged address space.
///
/// There is one for each device, made with it. The driver keeps it; no request carries it, and
/// nothing that handles requests has it. It is not compared with a device: a driver of several keeps
/// each with its own.
#[derive(Debug)]
pub struct Privilege(());

/// A place for the page table of one user's address space, while no context has it.
pub struct Seat<A: Asic, P: Port> {
    asid: Option<UserAsid>,
    tables: Option<Tables<A, P>>,
    /// What the user who has the seat is told.
    events: Option<SeatEvents>,
}

/// Events that are kept for one user (see [`Context::next_event`](crate::Context::next_event)).
pub const EVENTS: usize = 8;

type SeatEvents = EventQueue<DeviceEvent, [EventSlot<DeviceEvent>; EVENTS]>;

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
        }
    }

    /// The ASID and the root table of a seat that is free.
    fn root(&self) -> Option<(Asid, BusAddr)> {
        Some((self.asid?.into(), self.tables.as_ref()?.host.root()))
    }

    /// The same of the tables for device memory.
    fn dram_root(&self) -> Option<(Asid, BusAddr)> {
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

/// All seats, how often they were taken, and how often the device was reset.
struct Seats<'d, A: Asic, P: Port> {
    list: &'d mut [Seat<A, P>],
    /// Tells the handles of one context from those of another.
    taken: u32,
    resets: u32,
}

/// Which seat an address space came from, and when.
#[derive(Debug)]
pub(crate) struct SeatTicket {
    pub(crate) asid: UserAsid,
    /// The number of the context among all that had a seat.
    pub(crate) number: u32,
    resets: u32,
}

/// What keeps the addresses of one space apart: the nodes of its allocators.
#[derive(Debug)]
pub struct SpaceNodes<P: Port> {
    /// For the range of pages.
    pub small: P::Nodes,
    /// For the range of large leaves; unused where the ASIC has no separate one.
    pub large: P::Nodes,
    /// For the range of device memory; unused in the privileged space, and where device memory is
    /// not mapped.
    pub dram: P::Nodes,
}

/// Registers of the device that users may map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct RegisterBlock {
    /// What user space names them by: their address as the device has it.
    pub address: u64,
    /// Where the host finds them, in whole pages.
    pub registers: Run,
}

/// What a device is made of.
pub struct DeviceParts<'d, A: Asic, P: Port> {
    /// Pages of host memory.
    pub host: P::Host,
    /// The engines that write into buffers.
    pub engines: P::Engines,
    /// Where the page tables live.
    pub tables: P::Tables,
    /// Where those for device memory live, if they are apart from the others (see
    /// [`Profile::one_table`](crate::profile::Profile)).
    pub dram_tables: Option<P::DramTables>,
    /// Nodes for the addresses of the privileged space.
    pub privileged: SpaceNodes<P>,
    /// As many kernel buffers as there may be at a time.
    pub buffers: &'d mut [BufferSlot<KernelPages<P>>],
    /// How many views of a kernel buffer there may be at a time.
    pub views: ViewPolicy,
    /// One place for each user that there may be at a time, who get the ASIDs from 1 on. The C
    /// driver has one (facts 1.2); the hardware's ASIDs have 10 bits.
    pub seats: &'d mut [Seat<A, P>],
    /// Registers that users may have mapped, each whole (facts MB-1); Gaudi2 has some.
    pub register_blocks: &'d [RegisterBlock],
    /// The device's own memory.
    pub dram: DramPool<'d>,
    /// The part of it that other devices on the host's bus reach, by its physical addresses; `None`
    /// where there is no such window. How large it is depends on the board.
    pub peer_window: Option<Run>,
    /// Overwrites the device's own memory before another owner gets it.
    pub scrubber: P::Scrubber,
}

impl<A: Asic, P: Port> fmt::Debug for DeviceParts<'_, A, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "DeviceParts({} buffers, {} seats)",
            self.buffers.len(),
            self.seats.len()
        )
    }
}

/// What a device has in use, to be compared before and after.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct DeviceUsage {
    /// Bytes of device addresses of the privileged space in use.
    pub privileged_bytes: u64,
    /// Pieces that the privileged space's free addresses are in.
    pub privileged_extents: u32,
    /// Kernel buffers and their views.
    pub buffers: BufferUsage,
    /// Views of registers.
    pub register_views: u32,
    /// The device's own memory.
    pub dram: DramUsage,
    /// Address spaces of users that no context has.
    pub free_asids: u32,
}

/// What users see of the driver and of the device.
pub(crate) struct Shown<'d, P: Port> {
    pub(crate) buffers: Buffers<'d, KernelPages<P>>,
    register_views: u32,
    /// A bit for each [`PrivilegedWindow`] in which something is mapped.
    windows: u8,
}

/// The MMU that translates accesses to host memory.
pub(crate) struct HostMmu<A: Asic, P: Port> {
    pub(crate) driver: P::Mmu,
    /// The table that ASIDs without an address space are given.
    parking: TableOf<A, P>,
}

/// The MMU that translates accesses to device memory, where that is another one.
pub(crate) struct DramMmu<A: Asic, P: Port> {
    pub(crate) driver: P::DramMmu,
    parking: DramTableOf<A, P>,
    /// Nothing is ever mapped there: the driver's engines use device memory by its own addresses.
    privileged: DramTableOf<A, P>,
}

/// One device and its memory.
pub struct Device<'d, A: Asic, P: Port> {
    pub(crate) host: P::Host,
    engines: P::Engines,
    pub(crate) mmu: Locked<P, HostMmu<A, P>>,
    pub(crate) dram_mmu: Option<Locked<P, DramMmu<A, P>>>,
    pub(crate) shown: Locked<P, Shown<'d, P>>,
    privileged: Locked<P, SpaceOf<Privileged, A, P>>,
    seats: Locked<P, Seats<'d, A, P>>,
    pub(crate) register_blocks: &'d [RegisterBlock],
    pub(crate) peer_window: Option<Run>,
    pub(crate) dram: Locked<P, DramPool<'d>>,
    scrubber: Locked<P, P::Scrubber>,
}

impl<A: Asic, P: Port> fmt::Debug for Device<'_, A, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device")
            .field("usage", &self.usage())
            .finish_non_exhaustive()
    }
}

impl<'d, A: Asic, P: Port> Device<'d, A, P> {
    /// Brings a device's memory up: a root table for each ASID, and the MMU enabled as the last
    /// step. `mmu` makes the MMU's driver, given the address of the table that ASIDs without an
    /// address space use; `dram_mmu` that of the MMU for device memory, and is called only where
    /// that has tables of its own.
    ///
    /// The tables of the roots are the first that are taken from the pool, that of ASID 0 first
    /// (facts HOP0-1).
    ///
    /// # Errors
    ///
    /// One for each part that can refuse; see [`BringUpError`]. The root tables taken by then are
    /// lost to the pool, since it is not known what the device makes of them.
    pub fn new(
        parts: DeviceParts<'d, A, P>,
        mmu: impl FnOnce(BusAddr) -> P::Mmu,
        dram_mmu: impl FnOnce(BusAddr) -> P::DramMmu,
    ) -> Result<(Self, Privilege), BringUpError> {
        let table: TableOf<A, P> = new_table(parts.tables)?;
        let privileged_root = (Asid::PRIVILEGED, table.root());
        let addresses = new_addresses::<A, P>(parts.privileged, Table::Privileged);
        let (addresses, _) = addresses.map_err(BringUpError::Addresses)?;
        let space = Space::new(table, addresses);
        let dram_table = match parts.dram_tables {
            Some(tables) => Some(new_table(tables)?),
            None => None,
        };
        let asids = (1..=u16::MAX).map_while(UserAsid::new);
        for (seat, asid) in parts.seats.iter_mut().zip(asids) {
            let host = new_table(parts.tables)?;
            let dram = match parts.dram_tables {
                Some(tables) => Some(new_table(tables)?),
                None => None,
            };
            let (asid, tables) = (Some(asid), Some(Tables { host, dram }));
            *seat = Seat {
                asid,
                tables,
                events: None,
            };
        }
        let parking: TableOf<A, P> = new_table(parts.tables)?;
        let mut mmu = mmu(parking.root());
        let roots = parts.seats.iter().filter_map(Seat::root);
        start(&mut mmu, core::iter::once(privileged_root).chain(roots))?;
        let dram_mmu = match (parts.dram_tables, dram_table) {
            (Some(tables), Some(privileged)) => {
                let parking = new_table(tables)?;
                let mut driver = dram_mmu(parking.root());
                let roots = parts.seats.iter().filter_map(Seat::dram_root);
                let root = (Asid::PRIVILEGED, privileged.root());
                if let Err(error) = start(&mut driver, core::iter::once(root).chain(roots)) {
                    // The first error is the one that counts.
                    let _ = mmu.disable();
                    return Err(error);
                }
                let dram_mmu = DramMmu {
                    driver,
                    parking,
                    privileged,
                };
                Some(Locked::new(LockRank::DramMmu, dram_mmu))
            }
            _ => None,
        };
        let device = Self {
            host: parts.host,
            engines: parts.engines,
            mmu: Locked::new(
                LockRank::HostMmu,
                HostMmu {
                    driver: mmu,
                    parking,
                },
            ),
            dram_mmu,
            shown: Locked::new(
                LockRank::Buffers,
                Shown {
                    buffers: Buffers::new(parts.buffers, parts.views),
                    register_views: 0,
                    windows: 0,
                },
            ),
            privileged: Locked::new(LockRank::Space, space),
            seats: Locked::new(
                LockRank::Seats,
                Seats {
                    list: parts.seats,
                    taken: 0,
                    resets: 0,
                },
            ),
            register_blocks: parts.register_blocks,
            peer_window: parts.peer_window,
            dram: Locked::new(LockRank::Dram, parts.dram),
            scrubber: Locked::new(LockRank::Scrubber, parts.scrubber),
        };
        Ok((device, Privilege(())))
    }

    /// Pages of host memory, as the port has them.
    pub fn host(&self) -> &P::Host {
        &self.host
    }

    /// The engines, as the port has them.
    pub fn engines(&self) -> &P::Engines {
        &self.engines
    }

    /// Gives `look` the MMU's driver, with its lock held: for what has no call of its own here, such as
    /// disabling it when the device is given up.
    pub fn with_mmu<T>(&self, look: impl FnOnce(&mut P::Mmu) -> T) -> T {
        look(&mut self.mmu.lock().driver)
    }

    /// What is in use.
    pub fn usage(&self) -> DeviceUsage {
        let free_asids = self
            .seats
            .lock()
            .list
            .iter()
            .filter(|seat| seat.tables.is_some())
            .count() as u32;
        let dram = self.dram.lock().usage();
        let shown = self.shown.lock();
        let privileged = self.privileged.lock();
        DeviceUsage {
            dram,
            privileged_bytes: privileged.used(),
            privileged_extents: privileged.extents(),
            buffers: shown.buffers.usage(),
            register_views: shown.register_views,
            free_asids,
        }
    }

    /// Gives `look` the page table of the privileged address space, for inspection.
    pub fn with_privileged_table<T>(
        &self,
        _privilege: &Privilege,
        look: impl FnOnce(&TableOf<A, P>) -> T,
    ) -> T {
        look(self.privileged.lock().table())
    }

    /// Brings the MMU back after a reset of the device, which may have wiped its memory: writes the
    /// root tables anew, enables the MMU, and confirms that nothing of before is cached.
    ///
    /// Until then every operation that needs the device fails, and what it would have released
    /// stays in quarantine. Afterwards nothing is mapped: the addresses of contexts and buffers that
    /// outlived the reset lead nowhere. Close the contexts, destroy the buffers, and open new ones.
    ///
    /// # Errors
    ///
    /// [`BringUpError::DeviceLost`], [`BringUpError::Mmu`]. Try again after another reset.
    pub fn recover(&self) -> Result<(), BringUpError> {
        let mut mmu = self.mmu.lock();
        let HostMmu { driver, parking } = &mut *mmu;
        let root = {
            let mut privileged = self.privileged.lock();
            privileged.wipe();
            privileged.table().root()
        };
        let mut seats = self.seats.lock();
        seats.resets = seats.resets.wrapping_add(1);
        for tables in seats
            .list
            .iter_mut()
            .filter_map(|seat| seat.tables.as_mut())
        {
            // Nothing is mapped there: what is removed is empty.
            drop(tables.host.wipe());
            let _ = tables.dram.as_mut().map(PageTable::wipe);
        }
        let roots = seats.list.iter().filter_map(Seat::root);
        let roots = core::iter::once((Asid::PRIVILEGED, root)).chain(roots);
        restart(driver, parking, roots)?;
        if let Some(dram_mmu) = &self.dram_mmu {
            let mut dram_mmu = dram_mmu.lock();
            let DramMmu {
                driver,
                parking,
                privileged,
            } = &mut *dram_mmu;
            drop(privileged.wipe());
            let roots = seats.list.iter().filter_map(Seat::dram_root);
            let root = (Asid::PRIVILEGED, privileged.root());
            restart(driver, parking, core::iter::once(root).chain(roots))?;
        }
        seats.post(DeviceEvent::DeviceRecovered);
        Ok(())
    }

    /// Where the device finds a block, for programming its engines; `None` where it does not any
    /// more.
    pub fn block_range(
        &self,
        _privilege: &Privilege,
        block: BufferId,
    ) -> Option<AddrRange<DeviceAddr>> {
        self.shown.lock().buffers.range(block)
    }

    /// Takes the address space of a user that has none; `None` when all are taken.
    pub(crate) fn take_seat(&self) -> Option<(SeatTicket, Tables<A, P>)> {
        let mut seats = self.seats.lock();
        let Seats {
            list,
            taken,
            resets,
        } = &mut *seats;
        list.iter_mut().find_map(|seat| {
            let asid = seat.asid?;
            let tables = seat.tables.take()?;
            seat.events = Some(EventQueue::new([EventSlot::new(); EVENTS]));
            *taken = taken.wrapping_add(1);
            let ticket = SeatTicket {
                asid,
                number: *taken,
                resets: *resets,
            };
            Some((ticket, tables))
        })
    }

    /// Gives an address space back, in which nothing is mapped and of which nothing is cached.
    pub(crate) fn give_seat(&self, ticket: SeatTicket, mut tables: Tables<A, P>) {
        let asid = ticket.asid.into();
        let mut mmu = self.mmu.lock();
        let mut seats = self.seats.lock();
        if seats.resets != ticket.resets {
            // A reset wiped the root tables and made the MMUs forget them. Where this fails the
            // device is lost again, and recovering from that does the same for all free seats.
            give_root(&mut mmu.driver, asid, &mut tables.host);
            if let (Some(dram_mmu), Some(table)) = (&self.dram_mmu, &mut tables.dram) {
                give_root(&mut dram_mmu.lock().driver, asid, table);
            }
        }
        let mut list = seats.list.iter_mut();
        if let Some(seat) = list.find(|seat| seat.asid == Some(ticket.asid)) {
            seat.tables = Some(tables);
            seat.events = None;
        }
    }

    /// Sees to it that a batch of removals of the privileged space is confirmed.
    fn settle_privileged(&self, batch: Batch) -> Result<(), Unconfirmed> {
        self.settle(&self.privileged, |space| space, batch)
    }

    /// Sees to it that a batch of removals of host memory is confirmed, together with all others
    /// of its space that wait.
    pub(crate) fn settle<K, T>(
        &self,
        holder: &Locked<P, T>,
        space: impl Fn(&mut T) -> &mut SpaceOf<K, A, P>,
        batch: Batch,
    ) -> Result<(), Unconfirmed> {
        settle(
            &mut self.mmu.lock().driver,
            holder,
            |holder| Some(space(holder)),
            batch,
        )
    }
}

/// Which part of an address space addresses are for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Table {
    /// The privileged space.
    Privileged,
    /// A user's space.
    User,
}

/// Addresses, and apart from them those of device memory that has tables of its own.
type AddressesOf<P> = (
    Addresses<<P as Port>::Nodes>,
    Option<Addresses<<P as Port>::Nodes>>,
);

/// The addresses of a space, none of them in use; and apart from them those of device memory, where
/// that has tables of its own.
pub(crate) fn new_addresses<A: Asic, P: Port>(
    nodes: SpaceNodes<P>,
    table: Table,
) -> Result<AddressesOf<P>, LayoutError> {
    let profile = A::PROFILE;
    let small = VaAllocator::new(nodes.small, &profile.host.layout())?;
    let large = match &profile.large_host {
        LargeHost::Own(range) => Some(VaAllocator::new(nodes.large, &range.layout())?),
        LargeHost::Shared => None,
    };
    let dram = match &profile.dram.mapped_at {
        Some(range) if table == Table::User => Some(VaAllocator::new(nodes.dram, &range.layout())?),
        _ => None,
    };
    let (dram, apart) = if profile.one_table {
        (dram, None)
    } else {
        (None, dram)
    };
    let large_leaf = profile.large_host_range().large_bytes;
    let apart = apart.map(|small| Addresses {
        small,
        large: None,
        dram: None,
        large_leaf: 0,
    });
    Ok((
        Addresses {
            small,
            large,
            dram,
            large_leaf,
        },
        apart,
    ))
}

/// A new page table, whose root is the next table of a pool.
fn new_table<F: Format, M: TableMemory>(memory: M) -> Result<PageTable<F, M>, BringUpError> {
    PageTable::new(memory)?.ok_or(BringUpError::NoTableMemory)
}

/// Enables an MMU and gives each ASID its root; leaves the MMU disabled where that fails.
fn start<U: MmuControl>(
    mmu: &mut U,
    mut roots: impl Iterator<Item = (Asid, BusAddr)>,
) -> Result<(), BringUpError> {
    mmu.enable().map_err(BringUpError::Mmu)?;
    roots
        .try_for_each(|(asid, root)| mmu.set_root(asid, root))
        .map_err(|error| {
            // The first error is the one that counts.
            let _ = mmu.disable();
            BringUpError::Mmu(error)
        })
}

/// Brings an MMU back after a reset. The root tables are written anew already.
fn restart<F: Format, M: TableMemory, U: MmuControl>(
    mmu: &mut U,
    parking: &mut PageTable<F, M>,
    roots: impl Iterator<Item = (Asid, BusAddr)>,
) -> Result<(), BringUpError> {
    let _ = mmu.disable();
    // Nothing was ever mapped there: what is removed is empty.
    drop(parking.wipe());
    // One flush for all roots: the MMU must not find what was there before.
    parking.flush()?;
    start(mmu, roots)?;
    mmu.invalidate_all().map_err(BringUpError::Mmu)
}

/// Writes the root of an address space anew and gives it to its ASID once more.
fn give_root<F: Format, M: TableMemory, U: MmuControl>(
    mmu: &mut U,
    asid: Asid,
    table: &mut PageTable<F, M>,
) {
    // An error means that the device is lost again; see the caller.
    if table.wipe().confirm(mmu).is_ok() {
        let _ = mmu.set_root(asid, table.root());
    }
}

/// Sees to it that a batch of removals is confirmed by `mmu`, together with all others of its
/// space that wait. Nothing is to be done where the holder has no such space.
pub(crate) fn settle<P, T, K, F, M, N, U>(
    mmu: &mut U,
    holder: &Locked<P, T>,
    space: impl Fn(&mut T) -> Option<&mut Space<K, F, M, N>>,
    batch: Batch,
) -> Result<(), Unconfirmed>
where
    P: Port,
    F: Format<Attributes = NoAttributes>,
    M: TableMemory,
    N: AsRef<[Node]> + AsMut<[Node]>,
    U: MmuControl,
{
    let (removed, taken) = {
        let mut holder = holder.lock();
        match space(&mut holder) {
            Some(space) if !space.is_confirmed(batch) => space.take_pending(),
            _ => return Ok(()),
        }
    };
    let outcome = removed.map_or(Ok(()), |removed| removed.confirm(mmu));
    match space(&mut holder.lock()) {
        Some(space) => space.end_confirmation(taken, outcome),
        None => Ok(()),
    }
}
