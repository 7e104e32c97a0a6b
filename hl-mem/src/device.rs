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

use core::fmt;

use lock_api::Mutex;
use mmu_core::{AddrRange, BusAddr, ConfirmError, DeviceAddr, DeviceLost, PageTable, Run};

use crate::asid::{Asid, UserAsid};
use crate::block::{BlockId, BlockSlot, BlockUsage, Blocks, NewBlock, ViewRefusal};
use crate::dram::{AllocateError, Contiguity, DramPool, DramUsage, PackError, PackHandle, Sharing};
use crate::host::{HostError, HostMemory, ViewRights, seen_by_device};
use crate::mmu::{MmuControl, MmuError};
use crate::owner::Owner;
use crate::port::{Engines, Port};
use crate::profile::{Asic, LargeHost};
use crate::space::{Addresses, Batch, Detached, Privileged, Space, SpaceError, Wanted};
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
pub struct Seat<A: Asic, P: Port>(Option<(UserAsid, TableOf<A, P>)>);

impl<A: Asic, P: Port> Seat<A, P> {
    /// A place without a page table.
    #[must_use]
    pub const fn new() -> Self {
        Self(None)
    }
}

impl<A: Asic, P: Port> Default for Seat<A, P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<A: Asic, P: Port> fmt::Debug for Seat<A, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "free" } else { "taken" })
    }
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

/// Why a device does not come up. The MMU is left disabled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum BringUpError {
    /// The pool has too few tables for the roots.
    NoTableMemory,
    /// The device does not answer.
    DeviceLost,
    /// The nodes do not suffice for the address ranges.
    Addresses(LayoutError),
    /// The MMU refuses.
    Mmu(MmuError),
}

impl fmt::Display for BringUpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTableMemory => f.write_str("the pool has too few tables for the roots"),
            Self::DeviceLost => f.write_str("the device does not answer"),
            Self::Addresses(error) => write!(f, "no allocator of device addresses: {error}"),
            Self::Mmu(error) => write!(f, "the MMU does not start: {error}"),
        }
    }
}

impl core::error::Error for BringUpError {}

impl From<DeviceLost> for BringUpError {
    fn from(_: DeviceLost) -> Self {
        Self::DeviceLost
    }
}

/// Why a removal is not confirmed: what was removed stays in quarantine.
pub type Unconfirmed = ConfirmError<MmuError>;

/// Why there is no new block. Nothing has changed, except where the device may have seen a part of
/// the mapping and does not confirm that it is gone: then its memory is in quarantine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum BlockError {
    /// The size is zero or too large.
    Size,
    /// There are as many blocks as there may be.
    TooManyBlocks,
    /// The file has as many handles as it may have.
    TooManyHandles,
    /// The host has not enough memory.
    Host(HostError),
    /// The block could not be mapped.
    Space(SpaceError),
    /// The MMU did not take note of the mapping.
    Mmu(MmuError),
}

impl fmt::Display for BlockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Size => f.write_str("no block has that size"),
            Self::TooManyBlocks => f.write_str("there are as many blocks as there may be"),
            Self::TooManyHandles => f.write_str("the file has as many handles as it may have"),
            Self::Host(error) => write!(f, "no memory for the block: {error}"),
            Self::Space(error) => write!(f, "no mapping of the block: {error}"),
            Self::Mmu(error) => write!(f, "the MMU did not take note of the block: {error}"),
        }
    }
}

impl core::error::Error for BlockError {}

/// Why there is no device memory. Nothing has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum DramError {
    /// The pool refuses.
    Allocate(AllocateError),
    /// Pages that another owner used could not be scrubbed.
    Scrub,
}

impl fmt::Display for DramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allocate(error) => write!(f, "{error}"),
            Self::Scrub => f.write_str("device memory could not be scrubbed"),
        }
    }
}

impl core::error::Error for DramError {}

/// Why a block that is given up is still there. It stays in quarantine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum RetireError<E> {
    /// The engines could not be stopped; the block stays mapped.
    Engines(E),
    /// The removal is not confirmed.
    Unconfirmed(Unconfirmed),
}

impl<E: fmt::Display> fmt::Display for RetireError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Engines(error) => write!(f, "the engines do not stop: {error}"),
            Self::Unconfirmed(error) => write!(f, "{error}"),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> core::error::Error for RetireError<E> {}

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
    seats: Mutex<P::Lock, &'d mut [Seat<A, P>]>,
    dram: Mutex<P::Lock, DramPool<'d>>,
    scrubber: Mutex<P::Lock, P::Scrubber>,
    /// Files opened so far, which tells the handles of one from those of another.
    pub(crate) opened: Mutex<P::Lock, u32>,
    /// The table that ASIDs without an address space are given. Nobody uses it; the lock is what
    /// lets the device be shared.
    _parking: Mutex<P::Lock, TableOf<A, P>>,
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
    /// One for each part that can refuse; see [`BringUpError`].
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
            seat.0 = Some((asid, root()?));
        }
        let parking: TableOf<A, P> = root()?;
        let mut mmu = mmu(parking.root());
        mmu.enable().map_err(BringUpError::Mmu)?;
        let roots = parts.seats.iter().filter_map(|seat| seat.0.as_ref());
        let roots = roots.map(|(asid, table)| (Asid::from(*asid), table.root()));
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
            seats: Mutex::new(parts.seats),
            dram: Mutex::new(parts.dram),
            scrubber: Mutex::new(parts.scrubber),
            opened: Mutex::new(0),
            _parking: Mutex::new(parking),
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
            .iter()
            .filter(|seat| seat.0.is_some())
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
    pub(crate) fn take_seat(&self) -> Option<(UserAsid, TableOf<A, P>)> {
        self.seats.lock().iter_mut().find_map(|seat| seat.0.take())
    }

    /// Gives an address space back, in which nothing is mapped and of which nothing is cached.
    pub(crate) fn give_seat(&self, asid: UserAsid, table: TableOf<A, P>) {
        if let Some(seat) = self.seats.lock().iter_mut().find(|seat| seat.0.is_none()) {
            seat.0 = Some((asid, table));
        }
    }

    /// Allocates, zeroes and maps a block of `bytes`, whole pages, in the privileged space.
    pub(crate) fn allocate_block(&self, bytes: u64) -> Result<BlockId, BlockError> {
        let pages = bytes / P::Host::PAGE_BYTES;
        let new = self
            .privileged
            .lock()
            .blocks
            .hold()
            .ok_or(BlockError::TooManyBlocks)?;
        let memory = match self.host.allocate(pages) {
            Ok(memory) => memory,
            Err(error) => {
                self.privileged.lock().blocks.give_back(new);
                return Err(BlockError::Host(error));
            }
        };
        let mapped = {
            let runs = self.host.kernel_runs(&memory);
            let runs = runs.map_while(|run| seen_by_device(run, &A::PROFILE));
            self.privileged
                .lock()
                .space
                .map(bytes, runs, Wanted::Anywhere)
        };
        let mapped = match mapped {
            Ok(mapped) => mapped.owning(memory),
            Err(failure) => {
                match failure.detached {
                    None => self.abandon(new, memory),
                    Some(detached) => self.abandon_detached(new, detached.owning(memory)),
                }
                return Err(BlockError::Space(failure.error));
            }
        };
        let announced = self.mmu.lock().announce();
        if let Err(error) = announced {
            let detached = self.privileged.lock().space.unmap(mapped);
            self.abandon_detached(new, detached);
            return Err(BlockError::Mmu(error));
        }
        let id = new.id();
        self.privileged.lock().blocks.register(&new, bytes, mapped);
        Ok(id)
    }

    /// Gives back the memory of a block that did not come to be, and that the device never saw.
    fn abandon(&self, new: NewBlock, memory: KernelPages<P>) {
        self.privileged.lock().blocks.give_back(new);
        self.host.free(memory);
    }

    /// Gives back the memory of a block that did not come to be, or keeps it where the device may
    /// still use it.
    fn abandon_detached(&self, new: NewBlock, detached: Detached<Privileged, KernelPages<P>>) {
        // The caller reports the error that came first; one here only means quarantine.
        let _ = self.settle(&self.privileged, detached.batch());
        let mut privileged = self.privileged.lock();
        match privileged.space.release(detached) {
            Ok(memory) => {
                privileged.blocks.give_back(new);
                drop(privileged);
                self.host.free(memory);
            }
            Err(detached) => privileged.blocks.quarantine(new, detached),
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

    /// Notes that no handle names a block any more, stops its producer and removes its mapping.
    /// The memory goes when the removal is confirmed and no view is left.
    pub(crate) fn retire_block(
        &self,
        id: BlockId,
    ) -> Result<(), RetireError<<P::Engines as Engines>::Error>> {
        let Some(batch) = self.detach_block(id).map_err(RetireError::Engines)? else {
            return Ok(());
        };
        let settled = self.settle(&self.privileged, batch);
        self.release_block(id);
        settled.map_err(RetireError::Unconfirmed)
    }

    /// The first half of [`retire_block`](Self::retire_block): everything before the invalidation.
    pub(crate) fn detach_block(
        &self,
        id: BlockId,
    ) -> Result<Option<Batch>, <P::Engines as Engines>::Error> {
        let range = {
            let mut privileged = self.privileged.lock();
            privileged.blocks.unname(id);
            privileged.blocks.range(id)
        };
        if let Some(range) = range {
            self.engines.stop(range)?;
        }
        let mut privileged = self.privileged.lock();
        let PrivilegedSpace { space, blocks } = &mut *privileged;
        Ok(blocks.take_mapped(id).map(|mapped| {
            let detached = space.unmap(mapped);
            let batch = detached.batch();
            blocks.put_detached(id, detached);
            batch
        }))
    }

    /// The second half of [`retire_block`](Self::retire_block): everything after the invalidation.
    /// Does nothing as long as that is not confirmed.
    pub(crate) fn release_block(&self, id: BlockId) {
        let unused = {
            let mut privileged = self.privileged.lock();
            let PrivilegedSpace { space, blocks } = &mut *privileged;
            if let Some(detached) = blocks.take_detached(id) {
                match space.release(detached) {
                    Ok(memory) => blocks.put_unmapped(id, memory),
                    Err(detached) => blocks.put_detached(id, detached),
                }
            }
            blocks.take_unused(id)
        };
        if let Some(memory) = unused {
            self.host.free(memory);
        }
    }

    /// Tries again to give up the blocks in quarantine: to stop their producers, and to confirm
    /// their removal by one invalidation.
    ///
    /// # Errors
    ///
    /// The first [`RetireError`]; what it concerns stays where it is.
    pub fn settle_quarantine(&self) -> Result<(), RetireError<<P::Engines as Engines>::Error>> {
        let mut outcome = Ok(());
        let mut from = 0;
        while let Some(id) = self.next_block(&mut from, Blocks::next_unnamed_mapped) {
            if let Err(error) = self.detach_block(id) {
                outcome = outcome.and(Err(RetireError::Engines(error)));
            }
        }
        let mut from = 0;
        while let Some((id, batch)) = self.next_block(&mut from, Blocks::next_quarantined) {
            // The first one takes all others along; for those nothing is left to be done here.
            let settled = self
                .settle(&self.privileged, batch)
                .map_err(RetireError::Unconfirmed);
            self.release_block(id);
            outcome = outcome.and(settled);
            if outcome.is_err() {
                break;
            }
        }
        outcome
    }

    fn next_block<T>(
        &self,
        from: &mut usize,
        next: impl Fn(&Blocks<'d, KernelPages<P>>, &mut usize) -> Option<T>,
    ) -> Option<T> {
        next(&self.privileged.lock().blocks, from)
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

    /// Shows a block of exactly `len` bytes to a process.
    pub(crate) fn view_block(
        &self,
        process: &<P::Host as HostMemory>::Process,
        id: BlockId,
        len: u64,
        rights: ViewRights,
    ) -> Result<<P::Host as HostMemory>::View, ViewBlockError> {
        let mut privileged = self.privileged.lock();
        let memory = privileged
            .blocks
            .viewable(id, len)
            .map_err(ViewBlockError::Refused)?;
        let view = self
            .host
            .view(process, memory, rights)
            .map_err(ViewBlockError::Host)?;
        privileged.blocks.count_view(id);
        Ok(view)
    }

    /// Ends a view, and the block with it where that was the last use of it.
    pub(crate) fn remove_view(&self, id: BlockId, view: <P::Host as HostMemory>::View) {
        let mut privileged = self.privileged.lock();
        self.host.remove_view(view);
        privileged.blocks.uncount_view(id);
        drop(privileged);
        self.release_block(id);
    }
}

/// Why a block is not shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ViewBlockError {
    Refused(ViewRefusal),
    Host(HostError),
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
