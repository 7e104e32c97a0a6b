//! One device: its address spaces, its blocks, and the order in which memory is given up.
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
//! In this order: a context's handles; the MMU; then either the privileged space with the blocks,
//! or the space of one context; the table pool. No lock is held while user memory is pinned, while
//! memory is allocated or freed, or while engines stop; only the MMU's is held while the device
//! invalidates.

mod blocks;
mod error;

pub(crate) use blocks::ViewBlockError;
pub use error::{BlockError, BringUpError, DramError, RetireError, Unconfirmed};

use core::fmt;

use lock_api::Mutex;
use mmu_core::{AddrRange, BusAddr, ConfirmError, DeviceAddr, PageTable, Run};

use crate::asid::{Asid, UserAsid};
use crate::block::{BlockId, BlockSlot, BlockUsage, Blocks};
use crate::dram::{AllocateError, Contiguity, DramPool, DramUsage, PackError, PackHandle, Sharing};
use crate::host::HostMemory;
use crate::mmu::MmuControl;
use crate::owner::Owner;
use crate::port::Port;
use crate::profile::{Asic, LargeHost};
use crate::space::{Addresses, Batch, Privileged, Space};
use crate::va::{LayoutError, VaAllocator};

/// The kernel pages of a port.
pub(crate) type KernelPages<P> = <<P as Port>::Host as HostMemory>::KernelPages;
/// An address space of kind `K`.
pub(crate) type SpaceOf<K, A, P> =
    Space<K, <A as Asic>::HostFormat, <P as Port>::Tables, <P as Port>::Nodes>;
/// The page table of an address space.
pub(crate) type TableOf<A, P> = PageTable<<A as Asic>::HostFormat, <P as Port>::Tables>;

/// The right to have memory mapped in the privileged address space.
///
/// There is one for each device, made with it. The driver keeps it; no request carries it, and
/// nothing that handles requests has it.
#[derive(Debug)]
pub struct Privilege(());

/// A place for the page table of one user's address space, while no context has it.
pub struct Seat<A: Asic, P: Port> {
    asid: Option<UserAsid>,
    table: Option<TableOf<A, P>>,
}

impl<A: Asic, P: Port> Seat<A, P> {
    /// A place without a page table.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            asid: None,
            table: None,
        }
    }

    /// The ASID and the root table of a seat that is free.
    fn root(&self) -> Option<(Asid, BusAddr)> {
        Some((self.asid?.into(), self.table.as_ref()?.root()))
    }
}

impl<A: Asic, P: Port> Default for Seat<A, P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<A: Asic, P: Port> fmt::Debug for Seat<A, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.table.is_some() {
            "free"
        } else {
            "taken"
        })
    }
}

/// All seats, and how often the device was reset.
struct Seats<'d, A: Asic, P: Port> {
    list: &'d mut [Seat<A, P>],
    resets: u32,
}

/// Which seat an address space came from, and when.
#[derive(Debug)]
pub(crate) struct SeatTicket {
    pub(crate) asid: UserAsid,
    resets: u32,
}

/// What keeps the addresses of one space apart: the nodes of its allocators.
#[derive(Debug)]
pub struct SpaceNodes<P: Port> {
    /// For the range of pages.
    pub small: P::Nodes,
    /// For the range of large leaves; unused where the ASIC has no separate one.
    pub large: P::Nodes,
}

/// What a device is made of.
pub struct DeviceParts<'d, A: Asic, P: Port> {
    /// Pages of host memory.
    pub host: P::Host,
    /// The engines that write into blocks.
    pub engines: P::Engines,
    /// Where the page tables live.
    pub tables: P::Tables,
    /// Nodes for the addresses of the privileged space.
    pub privileged: SpaceNodes<P>,
    /// As many blocks as there may be at a time.
    pub blocks: &'d mut [BlockSlot<KernelPages<P>>],
    /// One place for each user that there may be at a time, who get the ASIDs from 1 on. The C
    /// driver has one (facts 1.2); the hardware's ASIDs have 10 bits.
    pub seats: &'d mut [Seat<A, P>],
    /// The device's own memory.
    pub dram: DramPool<'d>,
    /// Overwrites the device's own memory before another owner gets it.
    pub scrubber: P::Scrubber,
}

impl<A: Asic, P: Port> fmt::Debug for DeviceParts<'_, A, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "DeviceParts({} blocks, {} seats)",
            self.blocks.len(),
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
    /// Blocks and views.
    pub blocks: BlockUsage,
    /// The device's own memory.
    pub dram: DramUsage,
    /// Address spaces of users that no context has.
    pub free_asids: u32,
}

/// The privileged address space and what is mapped there.
pub(crate) struct PrivilegedSpace<'d, A: Asic, P: Port> {
    space: SpaceOf<Privileged, A, P>,
    blocks: Blocks<'d, KernelPages<P>>,
}

/// Anything with an address space of kind `K` in it.
pub(crate) trait HasSpace<K, A: Asic, P: Port> {
    fn space(&mut self) -> &mut SpaceOf<K, A, P>;
}

impl<A: Asic, P: Port> HasSpace<Privileged, A, P> for PrivilegedSpace<'_, A, P> {
    fn space(&mut self) -> &mut SpaceOf<Privileged, A, P> {
        &mut self.space
    }
}

/// One device and its memory.
pub struct Device<'d, A: Asic, P: Port> {
    pub(crate) host: P::Host,
    engines: P::Engines,
    pub(crate) mmu: Mutex<P::Lock, P::Mmu>,
    privileged: Mutex<P::Lock, PrivilegedSpace<'d, A, P>>,
    seats: Mutex<P::Lock, Seats<'d, A, P>>,
    dram: Mutex<P::Lock, DramPool<'d>>,
    scrubber: Mutex<P::Lock, P::Scrubber>,
    /// Files opened so far, which tells the handles of one from those of another.
    pub(crate) opened: Mutex<P::Lock, u32>,
    /// The table that ASIDs without an address space are given.
    parking: Mutex<P::Lock, TableOf<A, P>>,
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
    /// address space use.
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
    ) -> Result<(Self, Privilege), BringUpError> {
        let root = || PageTable::new(parts.tables)?.ok_or(BringUpError::NoTableMemory);
        let table: TableOf<A, P> = root()?;
        let privileged_root = table.root();
        let addresses = new_addresses::<A, P>(parts.privileged).map_err(BringUpError::Addresses)?;
        let space = Space::new(table, addresses);
        let asids = (1..=u16::MAX).map_while(UserAsid::new);
        for (seat, asid) in parts.seats.iter_mut().zip(asids) {
            *seat = Seat {
                asid: Some(asid),
                table: Some(root()?),
            };
        }
        let parking: TableOf<A, P> = root()?;
        let mut mmu = mmu(parking.root());
        mmu.enable().map_err(BringUpError::Mmu)?;
        let roots = parts.seats.iter().filter_map(Seat::root);
        for (asid, root) in core::iter::once((Asid::PRIVILEGED, privileged_root)).chain(roots) {
            if let Err(error) = mmu.set_root(asid, root) {
                // The first error is the one that counts.
                let _ = mmu.disable();
                return Err(BringUpError::Mmu(error));
            }
        }
        let device = Self {
            host: parts.host,
            engines: parts.engines,
            mmu: Mutex::new(mmu),
            privileged: Mutex::new(PrivilegedSpace {
                space,
                blocks: Blocks::new(parts.blocks),
            }),
            seats: Mutex::new(Seats {
                list: parts.seats,
                resets: 0,
            }),
            dram: Mutex::new(parts.dram),
            scrubber: Mutex::new(parts.scrubber),
            opened: Mutex::new(0),
            parking: Mutex::new(parking),
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

    /// Gives `look` the MMU's driver, for reading faults.
    pub fn with_mmu<T>(&self, look: impl FnOnce(&mut P::Mmu) -> T) -> T {
        look(&mut self.mmu.lock())
    }

    /// What is in use.
    pub fn usage(&self) -> DeviceUsage {
        let free_asids = self
            .seats
            .lock()
            .list
            .iter()
            .filter(|seat| seat.table.is_some())
            .count() as u32;
        let dram = self.dram.lock().usage();
        let privileged = self.privileged.lock();
        DeviceUsage {
            dram,
            privileged_bytes: privileged.space.used(),
            privileged_extents: privileged.space.free_extents().count() as u32,
            blocks: privileged.blocks.usage(),
            free_asids,
        }
    }

    /// Gives `look` the page table of the privileged address space, for inspection.
    pub fn with_privileged_table<T>(
        &self,
        _privilege: &Privilege,
        look: impl FnOnce(&TableOf<A, P>) -> T,
    ) -> T {
        look(self.privileged.lock().space.table())
    }

    /// Brings the MMU back after a reset of the device, which may have wiped its memory: writes the
    /// root tables anew, enables the MMU, and confirms that nothing of before is cached.
    ///
    /// Until then every operation that needs the device fails, and what it would have released
    /// stays in quarantine. Afterwards nothing is mapped: the addresses of contexts and blocks that
    /// outlived the reset lead nowhere. Close the contexts, destroy the blocks, and open new ones.
    ///
    /// # Errors
    ///
    /// [`BringUpError::DeviceLost`], [`BringUpError::Mmu`]. Try again after another reset.
    pub fn recover(&self) -> Result<(), BringUpError> {
        let mut mmu = self.mmu.lock();
        let mut privileged = self.privileged.lock();
        privileged.space.wipe();
        let root = privileged.space.table().root();
        drop(privileged);
        let wiped = {
            let mut parking = self.parking.lock();
            let _ = mmu.disable();
            // Nothing was ever mapped there: what the wiping removed is empty.
            parking.wipe()
        };
        let mut seats = self.seats.lock();
        seats.resets = seats.resets.wrapping_add(1);
        for table in seats.list.iter_mut().filter_map(|seat| seat.table.as_mut()) {
            drop(table.wipe());
        }
        // One flush for everything written above: the MMU must not find what was there before.
        self.parking.lock().flush()?;
        mmu.enable().map_err(BringUpError::Mmu)?;
        wiped.confirm(&mut *mmu).map_err(|(_, error)| match error {
            ConfirmError::Flush(lost) => lost.into(),
            ConfirmError::Invalidate(error) => BringUpError::Mmu(error),
        })?;
        let roots = seats.list.iter().filter_map(Seat::root);
        for (asid, root) in core::iter::once((Asid::PRIVILEGED, root)).chain(roots) {
            mmu.set_root(asid, root).map_err(BringUpError::Mmu)?;
        }
        mmu.invalidate_all().map_err(BringUpError::Mmu)
    }

    /// Where the device finds a block, for programming its engines; `None` where it does not any
    /// more.
    pub fn block_range(
        &self,
        _privilege: &Privilege,
        block: BlockId,
    ) -> Option<AddrRange<DeviceAddr>> {
        self.privileged.lock().blocks.range(block)
    }

    /// The first run of a piece of device memory of `owner`, for programming engines that use it by
    /// its physical addresses. A contiguous piece has no other run.
    ///
    /// It keeps nothing alive: stop the engines before the piece is freed.
    ///
    /// # Errors
    ///
    /// Those of [`DramPool::hold`]: `owner` has no such piece.
    pub fn dram_run(
        &self,
        _privilege: &Privilege,
        owner: Owner,
        handle: PackHandle,
    ) -> Result<Run, PackError> {
        let mut dram = self.dram.lock();
        let hold = dram.hold(handle, owner)?;
        let run = dram.runs(&hold).and_then(|mut runs| runs.next());
        let released = dram.release(hold);
        debug_assert!(released.is_ok(), "the hold is of this pool");
        run.ok_or(PackError::Unknown)
    }

    /// Takes the address space of a user that has none; `None` when all are taken.
    pub(crate) fn take_seat(&self) -> Option<(SeatTicket, TableOf<A, P>)> {
        let mut seats = self.seats.lock();
        let resets = seats.resets;
        seats.list.iter_mut().find_map(|seat| {
            let asid = seat.asid?;
            Some((SeatTicket { asid, resets }, seat.table.take()?))
        })
    }

    /// Gives an address space back, in which nothing is mapped and of which nothing is cached.
    pub(crate) fn give_seat(&self, ticket: SeatTicket, mut table: TableOf<A, P>) {
        let mut mmu = self.mmu.lock();
        let mut seats = self.seats.lock();
        if seats.resets != ticket.resets {
            // A reset wiped the root table and made the MMU forget it. Where this fails the device
            // is lost again, and recovering from that does the same for all free seats.
            let rewritten = table.wipe().confirm(&mut *mmu);
            if rewritten.is_ok() {
                let _ = mmu.set_root(ticket.asid.into(), table.root());
            }
        }
        if let Some(seat) = seats
            .list
            .iter_mut()
            .find(|seat| seat.asid == Some(ticket.asid))
        {
            seat.table = Some(table);
        }
    }

    /// Sees to it that a batch of removals is confirmed, together with all others of its space
    /// that wait.
    pub(crate) fn settle<K, S: HasSpace<K, A, P>>(
        &self,
        space: &Mutex<P::Lock, S>,
        batch: Batch,
    ) -> Result<(), Unconfirmed> {
        let mut mmu = self.mmu.lock();
        let (removed, taken) = {
            let mut space = space.lock();
            if space.space().is_confirmed(batch) {
                return Ok(());
            }
            space.space().take_pending()
        };
        let outcome = match removed {
            Some(removed) => removed.confirm(&mut *mmu),
            None => Ok(()),
        };
        space.lock().space().end_confirmation(taken, outcome)
    }

    /// Allocates device memory, having pages scrubbed that another owner used before.
    pub(crate) fn allocate_dram(
        &self,
        owner: Owner,
        bytes: u64,
        contiguity: Contiguity,
        sharing: Sharing,
    ) -> Result<PackHandle, DramError> {
        loop {
            let allocated = self.dram.lock().allocate(owner, bytes, contiguity, sharing);
            let first = match allocated {
                Ok(handle) => return Ok(handle),
                Err(AllocateError::Unscrubbed { first }) => first,
                Err(error) => return Err(DramError::Allocate(error)),
            };
            // Another thread may have taken the pages meanwhile; then there is nothing to scrub.
            let Some(dirty) = self.dram.lock().take_dirty(first) else {
                continue;
            };
            let scrubbed = dirty.scrub(&mut *self.scrubber.lock());
            let mut dram = self.dram.lock();
            let returned = match scrubbed {
                Ok(clean) => dram.return_scrubbed(clean).map_err(drop),
                Err(failed) => {
                    // The pages came from this pool, which therefore takes them back.
                    let _ = dram.return_dirty(failed.dirty);
                    return Err(DramError::Scrub);
                }
            };
            debug_assert!(returned.is_ok(), "the pages came from this pool");
        }
    }

    /// Frees device memory of `owner`.
    pub(crate) fn free_dram(&self, owner: Owner, handle: PackHandle) -> Result<(), PackError> {
        self.dram.lock().free(handle, owner)
    }

    /// Frees all device memory of `owner`. Returns how many pieces there were.
    pub(crate) fn release_dram(&self, owner: Owner) -> u32 {
        let released = self.dram.lock().release_owner(owner);
        released.freed + released.orphaned
    }
}

/// The addresses of a space, none of them in use.
pub(crate) fn new_addresses<A: Asic, P: Port>(
    nodes: SpaceNodes<P>,
) -> Result<Addresses<P::Nodes>, LayoutError> {
    let profile = A::PROFILE;
    let small = VaAllocator::new(nodes.small, &profile.host.layout())?;
    let large = match &profile.large_host {
        LargeHost::Own(range) => Some(VaAllocator::new(nodes.large, &range.layout())?),
        LargeHost::Shared => None,
    };
    Ok(Addresses {
        small,
        large,
        large_leaf: profile.large_host_range().large_bytes,
    })
}
