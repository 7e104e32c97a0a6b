//! One open file of a device: its address space, its pinned memory, its handles.
//!
//! Chapters: [contexts](crate::guide::contexts), [mapping](crate::guide::mapping),
//! [blocks](crate::guide::blocks), [device memory](crate::guide::device_memory),
//! [views](crate::guide::views), [command buffers](crate::guide::command_buffers),
//! [timestamps](crate::guide::timestamps), [teardown](crate::guide::teardown).

mod buffers;
mod close;
mod dram;
mod error;
mod events;
mod inspect;
mod timestamps;
mod user;
mod windows;

pub use buffers::{CommandBufferInfo, MAX_BLOCK_BYTES, MAX_COMMAND_BUFFER_BYTES};
pub use close::CloseError;
pub use dram::DramExport;
pub use error::{
    DestroyError, ExportDramError, MapDramError, MapUserError, OpenError, RegisterBlockError,
    RegisterTimestampError, UnmapUserError, ViewError,
};
pub use timestamps::{CounterReached, REACHED_AT_A_TIME, TimestampPlace, TimestampStorage};

use core::fmt;

use mmu_core::Run;

use crate::asid::{InitiatorMode, UserAsid};
use crate::budget::{Budget, Charge};
use crate::buffer::BufferHold;
use crate::device::{
    Device, DramSpaceOf, SeatTicket, SpaceNodes, SpaceOf, Table, TableOf, Tables, Unusable,
    new_addresses,
};
use crate::dram::DramHold;
use crate::handle::{HandleSlot, HandleTable};
use crate::host::{DeviceAccess, HostMemory};
use crate::lock::{InterruptLocked, LockRank, Locked};
use crate::mmu::MmuControl;
use crate::owner::Owner;
use crate::port::{Engines, Port};
use crate::profile::Asic;
use crate::registry::{Registry, Slot};
use crate::space::{Detached, Mapped, Proven, Removals, Space, User};

use buffers::KernelBuffer;
use timestamps::Timestamps;

/// The process of a port.
type Process<P> = <<P as Port>::Host as HostMemory>::Process;
/// Why a port's engines do not stop.
type EngineError<P> = <<P as Port>::Engines as Engines>::Error;

/// Pinned pages and what they were charged.
struct UserMemory<P: Port> {
    pinned: <P::Host as HostMemory>::PinnedPages,
    charge: Charge,
    access: DeviceAccess,
}

/// The memory behind a mapping in a user's space.
enum Backing<P: Port> {
    /// The user's own, pinned.
    User(UserMemory<P>),
    /// Device memory, and how often it is exported through this mapping.
    Dram { hold: DramHold, exports: u32 },
    /// A buffer of the driver's, which the driver mapped there.
    Buffer(BufferHold),
    /// What the driver mapped in a window, and keeps.
    Window(Run),
}

/// A mapping in a user's address space. Opaque: it is named only where its storage is.
pub struct UserMapping<P: Port>(Stage<P>);

enum Stage<P: Port> {
    Live(Mapped<User, Backing<P>>),
    /// Removed, and not proved to be gone from the device.
    Quarantined(Detached<User, Backing<P>>),
}

impl<P: Port> fmt::Debug for UserMapping<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Stage::Live(mapped) => write!(f, "{}", mapped.range()),
            Stage::Quarantined(_) => f.write_str("quarantined"),
        }
    }
}

/// A place for one mapping of a context.
pub type MappingSlot<P> = Slot<UserMapping<P>>;

/// What a handle names. Opaque: it is named only where its storage is.
#[derive(Debug)]
pub struct Object(Named);

#[derive(Debug)]
enum Named {
    /// A block in the privileged address space.
    Block(KernelBuffer),
    CommandBuffer(KernelBuffer),
    /// The number of its place.
    Timestamps(usize),
    /// The number among the device's.
    Registers(usize),
}

/// The storage of one context.
pub struct ContextStorage<'d, P: Port> {
    /// Nodes for the device addresses of the user.
    pub nodes: SpaceNodes<P>,
    /// As many mappings as there may be at a time.
    pub mappings: &'d mut [MappingSlot<P>],
    /// As many handles as there may be at a time.
    pub handles: &'d mut [HandleSlot<Object>],
    /// For timestamps, if there are to be any.
    pub timestamps: TimestampStorage<'d, P>,
}

impl<P: Port> fmt::Debug for ContextStorage<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContextStorage({} mappings, ", self.mappings.len())?;
        write!(f, "{} handles)", self.handles.len())
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
    /// Blocks of the file that could not be given up and stay with the device in quarantine.
    pub quarantined_buffers: u32,
    /// Address spaces that nobody gets any more, of which a file has one: its tables were not as this
    /// crate left them, which means that somebody else wrote there.
    pub address_spaces: u32,
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
    /// Timestamps that are registered and not reached.
    pub timestamps: u32,
}

/// The address space of a context, and what is mapped there.
pub(crate) struct ContextSpace<'d, A: Asic, P: Port> {
    space: SpaceOf<User, A, P>,
    /// Where device memory is mapped, if that has tables of its own.
    dram: Option<DramSpaceOf<User, A, P>>,
    mappings: Registry<'d, UserMapping<P>>,
}

/// What was removed from the address space of a context.
struct ContextRemovals<P: Port> {
    host: Locked<P, Removals<P::Tables>>,
    /// Of device memory, if that has tables of its own.
    dram: Locked<P, Removals<P::DramTables>>,
}

impl<P: Port> ContextRemovals<P> {
    const fn new(resets: u32) -> Self {
        Self {
            host: Locked::new(LockRank::Removals, Removals::new(resets)),
            dram: Locked::new(LockRank::Removals, Removals::new(resets)),
        }
    }
}

impl<A: Asic, P: Port> ContextSpace<'_, A, P> {
    /// Empties the tables after a reset, of which nobody knows what the device's memory has there:
    /// taken for empty ones, they would bring it along to their next users.
    fn forget(&mut self, removals: &ContextRemovals<P>, resets: u32) {
        // Both are written anew in one go, so that one of them tells of both.
        if removals.host.lock().is_stale(resets) {
            let apart = self.dram.as_mut().filter(|_| P::DramMmu::EXISTS);
            if let Some(dram) = apart {
                dram.wipe(&removals.dram, resets);
            }
            self.space.wipe(&removals.host, resets);
        }
    }

    fn unmap(
        &mut self,
        removals: &ContextRemovals<P>,
        mapped: Mapped<User, Backing<P>>,
    ) -> Detached<User, Backing<P>> {
        let apart = self.dram.as_mut().filter(|_| P::DramMmu::EXISTS);
        match (mapped.backing(), apart) {
            (Backing::Dram { .. }, Some(dram)) => dram.unmap(&removals.dram, mapped),
            _ => self.space.unmap(&removals.host, mapped),
        }
    }

    /// Frees the addresses of what was a mapping, and gives back what is behind it.
    fn release(&mut self, proven: Proven<User, Backing<P>>) -> Backing<P> {
        let apart = self.dram.as_mut().filter(|_| P::DramMmu::EXISTS);
        match (proven.backing(), apart) {
            (Backing::Dram { .. }, Some(dram)) => dram.release(proven),
            _ => self.space.release(proven),
        }
    }
}

/// One open file of a device.
///
/// Its methods may be called from several threads of the process at a time. One that is dropped
/// instead of [closed](Self::close) keeps its address space, its pins and its buffers for ever.
#[must_use = "a context gives back what it has only when it is closed"]
pub struct Context<'c, 'd, A: Asic, P: Port> {
    device: &'c Device<'d, A, P>,
    seat: SeatTicket,
    owner: Owner,
    process: Process<P>,
    budget: &'c Budget,
    space: Locked<P, ContextSpace<'c, A, P>>,
    removals: ContextRemovals<P>,
    handles: Locked<P, HandleTable<Object, &'c mut [HandleSlot<Object>]>>,
    timestamps: InterruptLocked<P, Timestamps<'c, P>>,
    left: LeftBehind,
    /// Closing it was tried.
    closing: bool,
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
    /// * [`OpenError::Lost`] while the device is [lost](Self::note_lost);
    /// * [`OpenError::NoAddressSpace`] when every ASID is taken;
    /// * [`OpenError::Storage`] when the nodes do not suffice for the ranges of the ASIC;
    /// * [`OpenError::DefaultPage`] when the tables do not suffice for the default page, or the device
    ///   does not answer;
    /// * [`OpenError::Engines`] when the port does not [assign](Engines::assign) the engines of users.
    pub fn open<'c>(
        &'c self,
        process: Process<P>,
        budget: &'c Budget,
        storage: ContextStorage<'c, P>,
    ) -> Result<Context<'c, 'd, A, P>, OpenError> {
        if self.is_lost() {
            return Err(OpenError::Lost);
        }
        let (addresses, dram_addresses) =
            new_addresses::<A, P>(storage.nodes, Table::User).map_err(OpenError::Storage)?;
        let (seat, tables) = self.take_seat().ok_or(OpenError::NoAddressSpace)?;
        let (salt, owner) = (seat.number, seat.owner());
        let dram = tables.dram.zip(dram_addresses);
        let mut space = ContextSpace {
            space: Space::new(tables.host, addresses),
            dram: dram.map(|(table, addresses)| Space::new(table, addresses)),
            mappings: Registry::new(storage.mappings),
        };
        // The seat comes back only when it is certain that no engine has its ASID.
        let give_back = |seat: SeatTicket, space: ContextSpace<'c, A, P>| {
            let ContextSpace { space, dram, .. } = space;
            let (host, dram) = (space.into_table(), dram.map(Space::into_table));
            self.give_seat(seat, Tables { host, dram });
        };
        if self.engines.assign(InitiatorMode::User(seat.asid)).is_err() {
            give_back(seat, space);
            return Err(OpenError::Engines);
        }
        // No invalidation: what the MMU may remember as absent only makes a stray access fault.
        let default_page = self.default_page();
        if let Some(Err(error)) = default_page.map(|page| space.space.set_default(page)) {
            match self.engines.halt(seat.asid) {
                Ok(()) => give_back(seat, space),
                Err(_) => self.lose_seat(&seat),
            }
            return Err(OpenError::DefaultPage(error));
        }
        let removals = ContextRemovals::new(seat.resets);
        Ok(Context {
            device: self,
            seat,
            owner,
            process,
            budget,
            space: Locked::new(LockRank::Space, space),
            removals,
            handles: Locked::new(LockRank::Handles, HandleTable::new(storage.handles, salt)),
            timestamps: Locked::new(LockRank::Timestamps, Timestamps::new(storage.timestamps)),
            left: LeftBehind::default(),
            closing: false,
        })
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

    /// Refuses what this file cannot have any more, or not now: the device is lost, or was reset.
    // Not inlined: every call that makes something begins with this.
    #[inline(never)]
    pub(crate) fn usable(&self) -> Result<(), Unusable> {
        if self.closing {
            return Err(Unusable::Closing);
        }
        self.device.usable_by(&self.seat)
    }

    /// What is in use.
    pub fn usage(&self) -> ContextUsage {
        let handles = self.handles.lock().live();
        let timestamps = self.timestamps.lock().pending();
        let space = self.space.lock();
        ContextUsage {
            mappings: space.mappings.taken(),
            quarantined: space.mappings.parked(),
            bytes: space.space.used() + space.dram.as_ref().map_or(0, Space::used),
            extents: space.space.extents() + space.dram.as_ref().map_or(0, Space::extents),
            handles,
            timestamps,
        }
    }

    /// Gives `look` the page table of the user, for inspection.
    pub fn with_table<T>(&self, look: impl FnOnce(&TableOf<A, P>) -> T) -> T {
        look(self.space.lock().space.table())
    }
}
