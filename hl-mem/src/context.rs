//! One open file of a device: its address space, its pinned memory, its handles.

mod error;
mod inspect;

pub use error::{DestroyError, MapDramError, MapUserError, OpenError, UnmapUserError, ViewError};

use core::fmt;

use lock_api::Mutex;
use mmu_core::DeviceAddr;

use crate::asid::UserAsid;
use crate::block::{BlockId, ViewRefusal};
use crate::budget::{Budget, Charge};
use crate::device::{
    BlockError, Device, DramError, DramSpaceOf, Privilege, SeatTicket, SpaceNodes, SpaceOf, Table,
    TableOf, Tables, Unconfirmed, ViewBlockError, new_addresses, settle,
};
use crate::dram::{Contiguity, DramHold, PackError, PackHandle, Sharing};
use crate::handle::{HandleError, HandleKind, HandleSlot, HandleTable, RawHandle};
use crate::host::{DeviceAccess, HostError, HostMemory, UserRange, ViewRights, seen_by_device};
use crate::mmu::MmuControl;
use crate::owner::Owner;
use crate::port::{Engines, Port};
use crate::profile::Asic;
use crate::registry::{Place, Registry, Slot};
use crate::space::{Detached, Mapped, Space, User, Wanted};

/// The process of a port.
type Process<P> = <<P as Port>::Host as HostMemory>::Process;
/// Why a port's engines do not stop.
type EngineError<P> = <<P as Port>::Engines as Engines>::Error;

/// The most bytes a block may have: what a device of this family addresses by 32-bit offsets in
/// its rings. The host's memory is the nearer limit.
pub const MAX_BLOCK_BYTES: u64 = 1 << 32;

/// Pinned pages and what they were charged.
struct UserMemory<P: Port> {
    pinned: <P::Host as HostMemory>::PinnedPages,
    charge: Charge,
    access: DeviceAccess,
}

/// A mapping that a user asked for. Opaque: it is named only where its storage is.
pub struct UserMapping<P: Port>(Stage<P>);

enum Stage<P: Port> {
    Live(Live<P>),
    /// Removed, and not proved to be gone from the device.
    Quarantined(Gone<P>),
}

/// A mapping, by the kind of memory behind it.
enum Live<P: Port> {
    User(Mapped<User, UserMemory<P>>),
    Dram(Mapped<User, DramHold>),
}

/// What was a mapping, by the kind of memory behind it.
enum Gone<P: Port> {
    User(Detached<User, UserMemory<P>>),
    Dram(Detached<User, DramHold>),
}

impl<P: Port> fmt::Debug for UserMapping<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Stage::Live(Live::User(mapped)) => write!(f, "{}", mapped.range()),
            Stage::Live(Live::Dram(mapped)) => write!(f, "{}", mapped.range()),
            Stage::Quarantined(_) => f.write_str("quarantined"),
        }
    }
}

/// A place for one mapping of a context.
pub type MappingSlot<P> = Slot<UserMapping<P>>;

/// What a handle names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Object {
    /// A block in the privileged address space.
    Block(BlockId),
}

/// The storage of one context.
pub struct ContextStorage<'d, P: Port> {
    /// Nodes for the device addresses of the user.
    pub nodes: SpaceNodes<P>,
    /// As many mappings as there may be at a time.
    pub mappings: &'d mut [MappingSlot<P>],
    /// As many handles as there may be at a time.
    pub handles: &'d mut [HandleSlot<Object>],
}

impl<P: Port> fmt::Debug for ContextStorage<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContextStorage({} mappings, ", self.mappings.len())?;
        write!(f, "{} handles)", self.handles.len())
    }
}

/// A block as a user sees it: the port's view, and which block it is of.
///
/// The port keeps it with the user's mapping and hands it to
/// [`Device::end_view`](crate::Device::end_view) when that is gone.
#[must_use = "the block stays alive until the view is ended"]
pub struct BlockView<P: Port> {
    pub(crate) block: BlockId,
    pub(crate) view: <P::Host as HostMemory>::View,
}

impl<P: Port> BlockView<P> {
    /// The port's view.
    pub fn view(&self) -> &<P::Host as HostMemory>::View {
        &self.view
    }
}

impl<P: Port> fmt::Debug for BlockView<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlockView({:?})", self.block)
    }
}

/// What a user left behind when his file was closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct LeftBehind {
    /// Mappings that were not unmapped.
    pub mappings: u32,
    /// Handles that were not destroyed.
    pub handles: u32,
    /// Pieces of device memory that were not freed.
    pub dram: u32,
    /// Blocks that could not be given up and stay with the device in quarantine.
    pub quarantined_blocks: u32,
}

/// What a context has in use, to be compared before and after.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct ContextUsage {
    /// Mappings, live or in quarantine.
    pub mappings: u32,
    /// Of these, mappings whose removal is not confirmed.
    pub quarantined: u32,
    /// Bytes of device addresses in use.
    pub bytes: u64,
    /// Pieces that the free device addresses are in.
    pub extents: u32,
    /// Handles.
    pub handles: u32,
}

/// The address space of a context, and what is mapped there.
pub(crate) struct ContextSpace<'d, A: Asic, P: Port> {
    space: SpaceOf<User, A, P>,
    /// Where device memory is mapped, if that has tables of its own.
    dram: Option<DramSpaceOf<User, A, P>>,
    mappings: Registry<'d, UserMapping<P>>,
}

impl<A: Asic, P: Port> ContextSpace<'_, A, P> {
    fn unmap(&mut self, live: Live<P>) -> Gone<P> {
        match live {
            Live::User(mapped) => Gone::User(self.space.unmap(mapped)),
            Live::Dram(mapped) => Gone::Dram(match &mut self.dram {
                Some(dram) => dram.unmap(mapped),
                None => self.space.unmap(mapped),
            }),
        }
    }

    /// Frees the addresses of device memory that was mapped, and gives back the hold on it.
    fn release_dram(
        &mut self,
        detached: Detached<User, DramHold>,
    ) -> Result<DramHold, Detached<User, DramHold>> {
        match &mut self.dram {
            Some(dram) => dram.release(detached),
            None => self.space.release(detached),
        }
    }
}

/// One open file of a device.
///
/// Its methods may be called from several threads of the process at a time. One that is dropped
/// instead of [closed](Self::close) keeps its address space, its pins and its blocks for ever.
#[must_use = "a context gives back what it has only when it is closed"]
pub struct Context<'c, 'd, A: Asic, P: Port> {
    device: &'c Device<'d, A, P>,
    seat: SeatTicket,
    owner: Owner,
    process: Process<P>,
    budget: &'c Budget,
    space: Mutex<P::Lock, ContextSpace<'c, A, P>>,
    handles: Mutex<P::Lock, HandleTable<Object, &'c mut [HandleSlot<Object>]>>,
    left: LeftBehind,
}

impl<A: Asic, P: Port> fmt::Debug for Context<'_, '_, A, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("asid", &self.seat.asid)
            .finish_non_exhaustive()
    }
}

impl<'d, A: Asic, P: Port> Device<'d, A, P> {
    /// Opens a file: gives a process an address space of its own.
    ///
    /// What the process pins is charged to `budget`, which contexts of one owner share.
    ///
    /// # Errors
    ///
    /// * [`OpenError::NoAddressSpace`] when every ASID is taken;
    /// * [`OpenError::Storage`] when the nodes do not suffice for the ranges of the ASIC.
    pub fn open<'c>(
        &'c self,
        process: Process<P>,
        budget: &'c Budget,
        storage: ContextStorage<'c, P>,
    ) -> Result<Context<'c, 'd, A, P>, OpenError> {
        let (addresses, dram_addresses) =
            new_addresses::<A, P>(storage.nodes, Table::User).map_err(OpenError::Storage)?;
        let (seat, tables) = self.take_seat().ok_or(OpenError::NoAddressSpace)?;
        let salt = {
            let mut opened = self.opened.lock();
            *opened = opened.wrapping_add(1);
            *opened
        };
        let dram = tables.dram.zip(dram_addresses);
        let space = ContextSpace {
            space: Space::new(tables.host, addresses),
            dram: dram.map(|(table, addresses)| Space::new(table, addresses)),
            mappings: Registry::new(storage.mappings),
        };
        Ok(Context {
            device: self,
            seat,
            owner: Owner::new(salt),
            process,
            budget,
            space: Mutex::new(space),
            handles: Mutex::new(HandleTable::new(storage.handles, salt)),
            left: LeftBehind::default(),
        })
    }

    /// Ends a user's view of a block, and the block with it where that was the last use of it.
    pub fn end_view(&self, view: BlockView<P>) {
        self.remove_view(view.block, view.view);
    }
}

impl<'c, 'd, A: Asic, P: Port> Context<'c, 'd, A, P> {
    /// The user's address space, for the engines that work for him.
    pub fn asid(&self) -> UserAsid {
        self.seat.asid
    }

    /// Who the context is to the device's memory.
    pub fn owner(&self) -> Owner {
        self.owner
    }

    /// The device.
    pub fn device(&self) -> &'c Device<'d, A, P> {
        self.device
    }

    /// What is in use.
    pub fn usage(&self) -> ContextUsage {
        let handles = self.handles.lock().live();
        let space = self.space.lock();
        ContextUsage {
            mappings: space.mappings.taken(),
            quarantined: space.mappings.parked(),
            bytes: space.space.used() + space.dram.as_ref().map_or(0, Space::used),
            extents: (space.space.free_extents().count()
                + space.dram.iter().flat_map(Space::free_extents).count())
                as u32,
            handles,
        }
    }

    /// Gives `look` the page table of the user, for inspection.
    pub fn with_table<T>(&self, look: impl FnOnce(&TableOf<A, P>) -> T) -> T {
        look(self.space.lock().space.table())
    }

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
        let place = self
            .space
            .lock()
            .mappings
            .hold()
            .ok_or(MapUserError::TooManyMappings)?;
        // More pages than a number of this processor can count are more than any limit.
        let count = usize::try_from(pages.count()).unwrap_or(usize::MAX);
        let charge = match self.budget.charge(count) {
            Ok(charge) => charge,
            Err(error) => {
                self.space.lock().mappings.give_back(place);
                return Err(MapUserError::Budget(error));
            }
        };
        let pinned = match self.device.host.pin(&self.process, pages, access) {
            Ok(pinned) => pinned,
            Err(error) => {
                self.refund(charge);
                self.space.lock().mappings.give_back(place);
                return Err(MapUserError::Host(error));
            }
        };
        let mapped = {
            let runs = self.device.host.pinned_runs(&pinned);
            let runs = runs.map_while(|run| seen_by_device(run, &A::PROFILE));
            self.space
                .lock()
                .space
                .map(pages.range().len(), runs, wanted)
        };
        let memory = UserMemory {
            pinned,
            charge,
            access,
        };
        let mapped = match mapped {
            Ok(mapped) => mapped.owning(memory),
            Err(failure) => {
                match failure.detached {
                    None => {
                        self.space.lock().mappings.give_back(place);
                        // The device never had access, so it has made nothing dirty.
                        self.give_up(UserMemory {
                            access: DeviceAccess::Read,
                            ..memory
                        });
                    }
                    Some(detached) => {
                        // The mapping's own error is the one that counts.
                        let _ = self.finish_unmap(place, Gone::User(detached.owning(memory)));
                    }
                }
                return Err(MapUserError::Space(failure.error));
            }
        };
        let announced = self.device.mmu.lock().announce();
        if let Err(error) = announced {
            let detached = self.space.lock().space.unmap(mapped);
            let _ = self.finish_unmap(place, Gone::User(detached));
            return Err(MapUserError::Mmu(error));
        }
        // The offset stays within the mapping's first page.
        let start = mapped.range().start();
        let at = start.checked_add(offset).unwrap_or(start);
        self.space
            .lock()
            .mappings
            .fill(place, at, UserMapping(Stage::Live(Live::User(mapped))));
        Ok(at)
    }

    /// Maps device memory into the user's address space. Returns its device address, which is what
    /// [`unmap`](Self::unmap) takes. The memory stays until then, whoever frees it.
    ///
    /// # Errors
    ///
    /// Each part that can refuse has its variant of [`MapDramError`].
    pub fn map_dram(&self, handle: PackHandle, wanted: Wanted) -> Result<DeviceAddr, MapDramError> {
        let has_tables = A::PROFILE.one_table || self.device.dram_mmu.is_some();
        if A::PROFILE.dram.mapped_at.is_none() || !has_tables {
            return Err(MapDramError::Unsupported);
        }
        let held = self.space.lock().mappings.hold();
        let place = held.ok_or(MapDramError::TooManyMappings)?;
        let hold = match self.device.dram.lock().hold(handle, self.owner) {
            Ok(hold) => hold,
            Err(error) => {
                self.space.lock().mappings.give_back(place);
                return Err(MapDramError::Pack(error));
            }
        };
        let mapped = {
            let dram = self.device.dram.lock();
            let mut space = self.space.lock();
            let ContextSpace {
                space, dram: apart, ..
            } = &mut *space;
            // A hold of this pool always has runs; none are refused as such.
            let runs = dram.runs(&hold).into_iter().flatten();
            match apart {
                Some(apart) => apart.map_dram(runs, wanted),
                None => space.map_dram(runs, wanted),
            }
        };
        let mapped = match mapped {
            Ok(mapped) => mapped.owning(hold),
            Err(failure) => {
                match failure.detached {
                    None => {
                        self.space.lock().mappings.give_back(place);
                        self.release_hold(hold);
                    }
                    Some(detached) => {
                        // The mapping's own error is the one that counts.
                        let _ = self.finish_unmap(place, Gone::Dram(detached.owning(hold)));
                    }
                }
                return Err(MapDramError::Space(failure.error));
            }
        };
        let announced = match &self.device.dram_mmu {
            Some(dram_mmu) => dram_mmu.lock().driver.announce(),
            None => self.device.mmu.lock().announce(),
        };
        if let Err(error) = announced {
            let gone = self.space.lock().unmap(Live::Dram(mapped));
            let _ = self.finish_unmap(place, gone);
            return Err(MapDramError::Mmu(error));
        }
        let at = mapped.range().start();
        let mapping = UserMapping(Stage::Live(Live::Dram(mapped)));
        self.space.lock().mappings.fill(place, at, mapping);
        Ok(at)
    }

    fn release_hold(&self, hold: DramHold) {
        if let Err(foreign) = self.device.dram.lock().release(hold) {
            // A device has one pool. Were it otherwise, the memory would stay allocated, which the
            // counters show.
            let _ = foreign;
        }
    }

    /// Unmaps what [`map`](Self::map) returned `at` for, and unpins it.
    ///
    /// # Errors
    ///
    /// * [`UnmapUserError::NotMapped`] when no mapping of this user has that address;
    /// * [`UnmapUserError::Unconfirmed`] when the device does not confirm the removal: addresses
    ///   and pages are in quarantine until [`settle_quarantine`](Self::settle_quarantine) or
    ///   closing succeeds.
    pub fn unmap(&self, at: DeviceAddr) -> Result<(), UnmapUserError> {
        let (place, gone) = {
            let mut space = self.space.lock();
            let not_mapped = UnmapUserError::NotMapped { at };
            let (place, mapping) = space.mappings.take(at).ok_or(not_mapped)?;
            match mapping.0 {
                Stage::Live(live) => (place, space.unmap(live)),
                // Only live mappings are found by their address.
                Stage::Quarantined(gone) => (place, gone),
            }
        };
        self.finish_unmap(place, gone)
            .map_err(UnmapUserError::Unconfirmed)
    }

    /// Tries again to confirm what is in quarantine, and gives up whatever that frees.
    ///
    /// # Errors
    ///
    /// [`Unconfirmed`]: it stays where it is.
    pub fn settle_quarantine(&self) -> Result<(), Unconfirmed> {
        let mut from = 0;
        loop {
            let next = self.space.lock().mappings.take_next_parked(&mut from);
            match next {
                None => return Ok(()),
                Some((place, UserMapping(Stage::Quarantined(gone)))) => {
                    self.finish_unmap(place, gone)?;
                }
                // Only removed mappings are parked.
                Some((place, mapping)) => self.space.lock().mappings.park(place, mapping),
            }
        }
    }

    /// Everything after the removal: invalidation, then addresses, then what was behind them.
    fn finish_unmap(&self, place: Place, gone: Gone<P>) -> Result<(), Unconfirmed> {
        let settled = match (&gone, &self.device.dram_mmu) {
            (Gone::Dram(detached), Some(dram_mmu)) => {
                let driver = &mut dram_mmu.lock().driver;
                settle(
                    driver,
                    &self.space,
                    |space| space.dram.as_mut(),
                    detached.batch(),
                )
            }
            (Gone::Dram(detached), None) => {
                self.device
                    .settle(&self.space, |space| &mut space.space, detached.batch())
            }
            (Gone::User(detached), _) => {
                self.device
                    .settle(&self.space, |space| &mut space.space, detached.batch())
            }
        };
        let mut space = self.space.lock();
        let kept = match gone {
            Gone::User(detached) => match space.space.release(detached) {
                Ok(memory) => {
                    space.mappings.give_back(place);
                    drop(space);
                    self.give_up(memory);
                    return settled;
                }
                Err(detached) => Gone::User(detached),
            },
            Gone::Dram(detached) => match space.release_dram(detached) {
                Ok(hold) => {
                    space.mappings.give_back(place);
                    drop(space);
                    self.release_hold(hold);
                    return settled;
                }
                Err(detached) => Gone::Dram(detached),
            },
        };
        space
            .mappings
            .park(place, UserMapping(Stage::Quarantined(kept)));
        settled
    }

    /// Unpins memory that the device cannot reach.
    fn give_up(&self, memory: UserMemory<P>) {
        self.device.host.unpin(memory.pinned, memory.access);
        self.refund(memory.charge);
    }

    fn refund(&self, charge: Charge) {
        if let Err(foreign) = self.budget.refund(charge) {
            // A context charges one budget only. Were it otherwise, the charge would stay where it
            // was made, which the counters show.
            let _ = foreign;
        }
    }

    /// Has the driver allocate a zeroed block of `bytes`, rounded up to whole pages, map it in the
    /// privileged address space, and give this file a handle for it.
    ///
    /// # Errors
    ///
    /// Each part that can refuse has its variant of [`BlockError`].
    pub fn create_block(
        &self,
        _privilege: &Privilege,
        bytes: u64,
    ) -> Result<(RawHandle, BlockId), BlockError> {
        if bytes == 0 || bytes > MAX_BLOCK_BYTES {
            return Err(BlockError::Size);
        }
        let bytes = bytes
            .checked_next_multiple_of(P::Host::PAGE_BYTES)
            .ok_or(BlockError::Size)?;
        let reservation = self
            .handles
            .lock()
            .reserve(HandleKind::Block)
            .map_err(|_| BlockError::TooManyHandles)?;
        match self.device.allocate_block(bytes) {
            // Only now, when the block is complete, does the handle name anything.
            Ok(block) => match self
                .handles
                .lock()
                .publish(reservation, Object::Block(block))
            {
                Ok(handle) => Ok((handle, block)),
                // A reservation of the file's own table is never refused.
                Err(_) => Err(BlockError::TooManyHandles),
            },
            Err(error) => {
                // Neither is giving it back.
                let _ = self.handles.lock().cancel(reservation);
                Err(error)
            }
        }
    }

    /// Shows a block to the process: the page of the consumer's index to write, all others to
    /// read.
    ///
    /// # Errors
    ///
    /// * [`ViewError::Handle`] when the handle does not name a block of this file;
    /// * [`ViewError::Length`] when `len` is not exactly the block's length;
    /// * [`ViewError::Viewed`] when the block is shown already;
    /// * [`ViewError::Host`] when the host refuses.
    pub fn mmap(&self, handle: RawHandle, len: u64) -> Result<BlockView<P>, ViewError> {
        let handles = self.handles.lock();
        let Object::Block(block) = *handles
            .get(handle, HandleKind::Block)
            .map_err(ViewError::Handle)?;
        let rights = ViewRights { writable_pages: 1 };
        let view = self.device.view_block(&self.process, block, len, rights);
        view.map(|view| BlockView { block, view })
            .map_err(|error| match error {
                // The handles' lock was held since the handle was looked up, so the block is there.
                ViewBlockError::Refused(ViewRefusal::Gone) => ViewError::Handle(HandleError::Stale),
                ViewBlockError::Refused(ViewRefusal::Length { bytes }) => {
                    ViewError::Length { expected: bytes }
                }
                ViewBlockError::Refused(ViewRefusal::Viewed) => ViewError::Viewed,
                ViewBlockError::Host(error) => ViewError::Host(error),
            })
    }

    /// Destroys a block: the handle goes at once, the device's access after its producer has
    /// stopped, and the memory when no view is left.
    ///
    /// # Errors
    ///
    /// * [`DestroyError::Handle`] when the handle does not name a block of this file;
    /// * [`DestroyError::Retire`] when the producer does not stop or the removal is not confirmed:
    ///   the block is in quarantine until
    ///   [`Device::settle_quarantine`](crate::Device::settle_quarantine) succeeds.
    pub fn destroy_block(&self, handle: RawHandle) -> Result<(), DestroyError<EngineError<P>>> {
        let Object::Block(block) = self
            .handles
            .lock()
            .remove(handle, HandleKind::Block)
            .map_err(DestroyError::Handle)?;
        self.device
            .retire_block(block)
            .map_err(DestroyError::Retire)
    }

    /// Allocates device memory for this context, rounded up to whole pages.
    ///
    /// # Errors
    ///
    /// * [`DramError::Allocate`] when the pool has not as much, or none in one piece;
    /// * [`DramError::Scrub`] when pages that another owner used could not be scrubbed.
    pub fn allocate_dram(
        &self,
        bytes: u64,
        contiguity: Contiguity,
        sharing: Sharing,
    ) -> Result<PackHandle, DramError> {
        self.device
            .allocate_dram(self.owner, bytes, contiguity, sharing)
    }

    /// Frees device memory of this context.
    ///
    /// # Errors
    ///
    /// Those of [`DramPool::free`](crate::dram::DramPool::free), among them
    /// [`PackError::NotOwner`] for memory of another context.
    pub fn free_dram(&self, handle: PackHandle) -> Result<(), PackError> {
        self.device.free_dram(self.owner, handle)
    }

    /// Closes the file, whatever the user left behind: producers stop, all entries are cleared, one
    /// invalidation for the blocks and one for the user's mappings are confirmed, and only then
    /// addresses, pins and pages go. Needs no memory. Reports what was left behind.
    ///
    /// # Errors
    ///
    /// Hands the context back when the device does not confirm that it has forgotten the user's
    /// mappings. Everything that concerns them is in quarantine, the address space included; try
    /// again when the device has been reset.
    #[expect(
        clippy::result_large_err,
        reason = "the context itself is what the error hands back"
    )]
    pub fn close(mut self) -> Result<LeftBehind, (Self, Unconfirmed)> {
        let mut left = self.left;
        for (_, Object::Block(block)) in self.handles.get_mut().drain() {
            left.handles += 1;
            // A producer that does not stop leaves its block mapped, with the device.
            if self.device.detach_block(block).is_err() {
                left.quarantined_blocks += 1;
            }
        }
        if self.device.settle_quarantine().is_err() {
            left.quarantined_blocks = self.device.usage().blocks.quarantined;
        }
        let space = self.space.get_mut();
        let mut from = 0;
        while let Some((place, mapping)) = space.mappings.take_next(&mut from) {
            let parked = match mapping.0 {
                Stage::Live(live) => {
                    left.mappings += 1;
                    Stage::Quarantined(space.unmap(live))
                }
                quarantined @ Stage::Quarantined(_) => quarantined,
            };
            space.mappings.park(place, UserMapping(parked));
        }
        self.left = left;
        if let Err(error) = self.settle_quarantine() {
            return Err((self, error));
        }
        self.left.dram += self.device.release_dram(self.owner);
        let Self {
            device,
            seat,
            space,
            left,
            ..
        } = self;
        let ContextSpace { space, dram, .. } = space.into_inner();
        if space.is_idle() && dram.as_ref().is_none_or(Space::is_idle) {
            let host = space.into_table();
            let dram = dram.map(Space::into_table);
            device.give_seat(seat, Tables { host, dram });
        }
        Ok(left)
    }
}
