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
//! In the order of [`LockRank`](crate::lock::LockRank), the pools of tables last. No lock is held while user memory is
//! pinned, while memory is allocated or freed, or while engines stop; only an MMU's is held while the
//! device invalidates what was unmapped and while it starts again, and only the scrubber's while it
//! scrubs. The locks that interrupt handlers take come after all others, for a few steps each.
//!
//! # Chapters
//!
//! [Blocks](crate::guide::blocks), [views](crate::guide::views), [reset and
//! recovery](crate::guide::recovery), [locks](crate::guide::locks); and for those who bring a device up,
//! [porting](crate::guide::porting).

mod bring_up;
mod buffers;
mod dram;
mod error;
mod events;
mod inspect;
mod own_blocks;
mod privilege;
mod seats;
mod settle;
mod shut_down;
mod standing;
mod views;
mod windows;

pub(crate) use bring_up::{Table, new_addresses};
pub(crate) use buffers::whole_pages;
pub use error::{
    BringUpError, BufferError, DramError, MapBufferError, MapWindowError, RetireError, Unconfirmed,
};
pub use events::FaultsReported;
pub use own_blocks::{BlockPages, OwnBlockError};
pub use privilege::{BlockRangeError, DramRunError, ForeignPrivilege, Privilege, UnmapWindowError};
pub use seats::Seat;
pub(crate) use seats::{SeatTicket, Tables};
pub(crate) use settle::{Seen, settle};
pub use shut_down::{ShutDown, ShutDownError, StillUsed};
use standing::Standing;
pub(crate) use standing::{Unusable, tells_unusable};
pub(crate) use views::ViewBufferError;
pub use views::{BufferView, ForeignView};
use windows::Windows;
pub(crate) use windows::part_of;
pub use windows::{PrivilegedWindow, WindowMemory};

use core::fmt;

use mmu_core::{PageTable, Run};

use crate::buffer::{BufferSlot, BufferUsage, Buffers, ViewPolicy};
use crate::dram::{DramPool, DramUsage};
use crate::host::HostMemory;
use crate::identity::Identity;
use crate::lock::Locked;
use crate::mmu::MmuControl;
use crate::port::Port;
use crate::profile::{Asic, DefaultPage};
use crate::space::{Privileged, Removals, Space};
use crate::sync::AtomicU32;

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

impl<P: Port> SpaceNodes<P> {
    /// The nodes that `make` makes, for each of the three ranges.
    pub fn each(mut make: impl FnMut() -> P::Nodes) -> Self {
        Self {
            small: make(),
            large: make(),
            dram: make(),
        }
    }
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

/// What a device is made of: parts that every port supplies, and the choices that it makes.
pub struct DeviceParts<'d, A: Asic, P: Port> {
    /// Pages of host memory.
    pub host: P::Host,
    /// The engines that write into buffers.
    pub engines: P::Engines,
    /// Where the page tables live.
    pub tables: P::Tables,
    /// Nodes for the addresses of the privileged space.
    pub privileged: SpaceNodes<P>,
    /// As many kernel buffers as there may be at a time.
    pub buffers: &'d mut [BufferSlot<KernelPages<P>>],
    /// One place for each user that there may be at a time, who get the ASIDs from 1 on. The C
    /// driver has one (facts 1.2); the hardware's ASIDs have 10 bits.
    pub seats: &'d mut [Seat<A, P>],
    /// The device's own memory; [`DramPool::none`] where users get none of it.
    pub dram: DramPool<'d>,
    /// Overwrites the device's own memory before another owner gets it; [`NoScrub`](crate::dram::NoScrub)
    /// where there is nobody to get it.
    pub scrubber: P::Scrubber,
    /// What a port may choose otherwise.
    pub options: DeviceOptions<'d>,
}

/// What a port may choose otherwise than by default: each default is the least that users get.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct DeviceOptions<'d> {
    /// How many views of a kernel buffer there may be at a time. One by default.
    pub views: ViewPolicy,
    /// Registers that users may have mapped, each whole (facts MB-1). None by default; Gaudi2 has some.
    pub register_blocks: &'d [RegisterBlock],
    /// The part of the device's memory that other devices on the host's bus reach, by its physical
    /// addresses. How large it is depends on the board. `None` by default: nothing is exported.
    pub peer_window: Option<Run>,
    /// Whether each context gets the ASIC's [default page](crate::profile::DefaultPage), as the C driver
    /// has it on Goya: 130 tables and 65 666 stores for each file that is opened (facts DP-3, DP-5).
    /// `false` by default: stray accesses fault. Of no effect on the other ASICs.
    pub default_mapping: bool,
}

impl<A: Asic, P: Port> fmt::Debug for DeviceParts<'_, A, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (buffers, seats) = (self.buffers.len(), self.seats.len());
        write!(f, "DeviceParts({buffers} buffers, {seats} seats)")
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
    /// Address spaces that nobody gets any more (see
    /// [`LeftBehind::address_spaces`](crate::context::LeftBehind::address_spaces)).
    pub lost_asids: u32,
}

/// What users see of the driver and of the device.
pub(crate) struct Shown<'d, P: Port> {
    pub(crate) buffers: Buffers<'d, KernelPages<P>>,
    register_views: u32,
}

/// The MMU that translates accesses to host memory.
pub(crate) struct HostMmu<A: Asic, P: Port> {
    pub(crate) driver: P::Mmu,
    /// The table that ASIDs without an address space are given.
    parking: TableOf<A, P>,
    /// How many contexts there were: tells the handles of one from those of another.
    opened: u32,
    /// How often the device had been reset when the MMU last was brought back and had forgotten
    /// everything.
    pub(crate) forgot: u32,
}

/// The MMU that translates accesses to device memory, where that is another one.
pub(crate) struct DramMmu<A: Asic, P: Port> {
    pub(crate) driver: P::DramMmu,
    parking: DramTableOf<A, P>,
    /// As that of [`HostMmu`].
    pub(crate) forgot: u32,
    /// Nothing is ever mapped there: the driver's engines use device memory by its own addresses.
    privileged: DramTableOf<A, P>,
}

/// The privileged address space, and what is in its fixed windows.
struct PrivilegedSpace<A: Asic, P: Port> {
    space: SpaceOf<Privileged, A, P>,
    windows: Windows,
}

/// One device and its memory.
pub struct Device<'d, A: Asic, P: Port> {
    /// Its [`Privilege`] has it, too, and whatever else only this device takes back.
    pub(crate) identity: Identity,
    pub(crate) host: P::Host,
    pub(crate) engines: P::Engines,
    pub(crate) mmu: Locked<P, HostMmu<A, P>>,
    pub(crate) dram_mmu: Option<Locked<P, DramMmu<A, P>>>,
    pub(crate) shown: Locked<P, Shown<'d, P>>,
    privileged: Locked<P, PrivilegedSpace<A, P>>,
    /// What was removed from the privileged space.
    removals: Locked<P, Removals<P::Tables>>,
    seats: &'d mut [Seat<A, P>],
    pub(crate) options: DeviceOptions<'d>,
    pub(crate) dram: Locked<P, DramPool<'d>>,
    scrubber: Locked<P, P::Scrubber>,
    standing: Standing,
    /// How often the device was reset; changes with the locks of the privileged space and of the MMU
    /// of host memory held, before either MMU is brought back.
    resets: AtomicU32,
}

impl<A: Asic, P: Port> fmt::Debug for Device<'_, A, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device")
            .field("usage", &self.usage())
            .finish_non_exhaustive()
    }
}

impl<'d, A: Asic, P: Port> Device<'d, A, P> {
    /// Pages of host memory, as the port has them.
    pub fn host(&self) -> &P::Host {
        &self.host
    }

    /// The engines, as the port has them.
    pub fn engines(&self) -> &P::Engines {
        &self.engines
    }

    /// Gives `look` the MMU's driver, with its lock held: for what has no call of its own here.
    pub fn with_mmu<T>(&self, look: impl FnOnce(&mut P::Mmu) -> T) -> T {
        look(&mut self.mmu.lock().driver)
    }

    /// What is in use.
    pub fn usage(&self) -> DeviceUsage {
        let free_asids = self.seats.iter().filter(|seat| seat.is_free()).count() as u32;
        let lost_asids = self.seats.iter().filter(|seat| seat.is_lost()).count() as u32;
        let dram = self.dram.lock().usage();
        let (privileged_bytes, privileged_extents) = {
            let space = &self.privileged.lock().space;
            (space.used(), space.extents())
        };
        let shown = self.shown.lock();
        DeviceUsage {
            dram,
            privileged_bytes,
            privileged_extents,
            buffers: shown.buffers.usage(),
            register_views: shown.register_views,
            free_asids,
            lost_asids,
        }
    }

    /// The MMU for device memory, if there is one.
    pub(crate) fn dram_mmu(&self) -> Option<&Locked<P, DramMmu<A, P>>> {
        self.dram_mmu.as_ref().filter(|_| P::DramMmu::EXISTS)
    }

    /// The page that contexts get by default, if they get one.
    pub(crate) fn default_page(&self) -> Option<&'static DefaultPage> {
        let default_page = &A::PROFILE.dram.default_page;
        default_page
            .as_ref()
            .filter(|_| self.options.default_mapping)
    }
}
