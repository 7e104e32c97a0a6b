//! What the ASICs are like, in numbers: address plans, device memory, time-outs.
//!
//! Each number has the id of its fact. Ranges are half-open, and checked at compile time: ranges
//! are whole pages, windows lie inside their range, nothing overlaps. Code that must work for every
//! ASIC is generic over [`Asic`], so that the numbers are constants where they are used.
//!
//! ```
//! use hl_mem::profile::{Asic, Gaudi, Gaudi2, Goya, LargeHost};
//!
//! /// Whether device memory is mapped by an MMU of its own.
//! fn has_two_mmus<A: Asic>() -> bool {
//!     A::PROFILE.dram.mapped_at.is_some() && !A::PROFILE.one_table
//! }
//! assert!(has_two_mmus::<Gaudi2<6>>());
//! assert!(!has_two_mmus::<Goya>() && !has_two_mmus::<Gaudi>());
//!
//! // Where large leaves of host memory go: apart on Gaudi2, aligned among the others on Goya.
//! assert!(matches!(Gaudi2::<6>::PROFILE.large_host, LargeHost::Own(_)));
//! assert_eq!(Goya::PROFILE.large_host_range(), &Goya::PROFILE.host);
//!
//! // What the device calls host memory, and what of it is beyond its reach.
//! let page = mmu_core::BusAddr::new(0x1000);
//! let seen = Goya::PROFILE.device_view(page).ok_or("out of reach")?;
//! assert_eq!(seen.get(), 0x80_0000_1000);
//! assert!(Goya::PROFILE.device_view(mmu_core::BusAddr::new(1 << 48)).is_none());
//! # Ok::<(), &str>(())
//! ```
//!
//! # Adding an ASIC
//!
//! One file here with a type that implements [`Asic`], checked when it is compiled, and a driver of its
//! MMU in [`mmu`](crate::mmu); a format in `mmu-core` where its tables are of a new kind.
//! ARCHITECTURE.md lists the places, those of the software ASIC too.

mod check;
mod gaudi;
mod gaudi2;
mod goya;

pub use gaudi::Gaudi;
pub use gaudi2::Gaudi2;
pub use goya::Goya;

use core::fmt;
use core::time::Duration;

use mmu_core::format::{Hop, HopGeometry, NoAttributes, TABLE_BYTES};
use mmu_core::{AddrRange, BusAddr, DeviceAddr, Format, Run};

use crate::asid::Asid;
use crate::mmu::Timeouts;
use crate::va::VaLayout;

/// An ASIC, as a type without values.
pub trait Asic: Copy + fmt::Debug + 'static {
    /// The format of the tables that map host memory, beside a host with 4 KiB pages.
    type HostFormat: Format<Attributes = NoAttributes>;

    /// The format of the tables that map device memory.
    type DramFormat: Format<Attributes = NoAttributes>;

    /// Its numbers.
    const PROFILE: Profile;
}

/// A range of device addresses that mappings of one kind are put into.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct VaRange {
    /// All its addresses.
    pub range: AddrRange<DeviceAddr>,
    /// Bytes in a page, which is what one leaf of the smallest size maps. Where that is no power
    /// of two, pages are counted from the start of the range.
    pub page_bytes: u64,
    /// Bytes in the largest leaf, to whose multiples large mappings are aligned; a multiple of
    /// the page.
    pub large_bytes: u64,
    /// Windows at which the driver itself maps something, never to be handed out.
    pub fixed: &'static [AddrRange<DeviceAddr>],
    /// Windows that are handed out for explicit hints only (facts VA-4), in whole pages.
    pub reserved: &'static [AddrRange<DeviceAddr>],
}

impl VaRange {
    /// The range as an allocator of addresses takes it.
    #[must_use]
    pub const fn layout(&self) -> VaLayout<'static> {
        VaLayout::new(self.range, self.page_bytes)
            .large_page(self.large_bytes)
            .fixed(self.fixed)
            .reserved(self.reserved)
    }
}

/// Where mappings of host memory by large leaves are put.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum LargeHost {
    /// Into the range of the small ones, which aligns them (facts VA-1).
    Shared,
    /// Into a range of their own.
    Own(VaRange),
}

/// The memory of the device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Dram {
    /// All of it, by physical address, in the size that silicon has unless its firmware says
    /// otherwise.
    pub memory: Run,
    /// The first address that users may have; what is below belongs to driver and firmware.
    pub user_start: BusAddr,
    /// Bytes in the pages that it is handed out in.
    pub page_bytes: u64,
    /// The device addresses it is mapped at, or `None` where initiators use it by its physical
    /// addresses.
    pub mapped_at: Option<VaRange>,
    /// What device addresses lead to where nothing else is mapped.
    pub default_page: Option<DefaultPage>,
}

/// A page that a range of device addresses leads to by default, so that a stray access does not fault
/// (facts DP-2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct DefaultPage {
    /// The device addresses.
    pub range: AddrRange<DeviceAddr>,
    /// The page, of the size of a leaf.
    pub page: Run,
    /// The byte that it is filled with.
    pub fill: u8,
}

impl DefaultPage {
    /// The hop of the leaves that lead to the page; `None` where the format has none of its size.
    #[must_use]
    pub fn hop<F: Format>(&self) -> Option<Hop> {
        let mut hops = F::HOPS.iter().zip(0..);
        let is_page = |hop: &HopGeometry| hop.leaf && self.page.len() == 1 << hop.shift;
        let (_, number) = hops.find(|(hop, _)| is_page(hop))?;
        Hop::new(number)
    }
}

impl Dram {
    /// What users may have.
    #[must_use]
    pub fn user_memory(&self) -> Option<Run> {
        self.memory
            .skip(self.user_start.offset_from(self.memory.start())?)
    }
}

/// A mapping that the driver makes in the privileged address space, outside of every range
/// (facts HW-GO-5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct PrivilegedWindows {
    /// The image of the firmware, at device addresses equal to its physical ones.
    pub firmware: AddrRange<DeviceAddr>,
    /// Host memory that the device's own processor uses.
    pub processor: AddrRange<DeviceAddr>,
}

/// The numbers of an ASIC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Profile {
    /// Its name, as people write it.
    pub name: &'static str,
    /// Address spaces, the privileged one included, and so the number of users that a device can have
    /// at a time (see [`open`](Self::open)). A port may have [others](crate::port::Port::MAX_ASID).
    pub max_asid: u16,
    /// Where host memory is mapped.
    pub host: VaRange,
    /// Where host memory is mapped by large leaves.
    pub large_host: LargeHost,
    /// The windows of the privileged address space, where it has any.
    pub privileged: Option<PrivilegedWindows>,
    /// The memory of the device.
    pub dram: Dram,
    /// Whether one table maps host memory and device memory (facts 1.3). Otherwise
    /// there is one table for each.
    pub one_table: bool,
    /// The part of device memory that has page tables, root tables first.
    pub device_tables: Run,
    /// Bytes of host memory to begin with for tables there; `None` where all tables are in device
    /// memory.
    pub host_table_bytes: Option<u64>,
    /// What is added to the bus address of host memory to get the address that the device uses for
    /// it, and that its leaves have.
    pub host_offset: u64,
    /// Bits of a bus address of host memory that the device can handle.
    pub dma_bits: u32,
    /// How long silicon may take.
    pub timeouts: Timeouts,
    /// How long the emulation platform may take.
    pub emulation_timeouts: Timeouts,
}

/// How many users may have a device open at a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Open {
    /// One, who has it to himself (facts 10.2): until he has closed it, others are refused.
    Exclusive,
    /// Any other number, each with an address space of his own.
    Shared {
        /// How many.
        users: u16,
    },
}

impl Open {
    /// With so many address spaces, the privileged one included. There are ten bits for an ASID
    /// (facts 1.2), whatever is said.
    #[must_use]
    pub const fn with(max_asid: u16) -> Self {
        let most = if max_asid < Asid::LIMIT {
            max_asid
        } else {
            Asid::LIMIT
        };
        match most.saturating_sub(1) {
            1 => Self::Exclusive,
            users => Self::Shared { users },
        }
    }

    /// How many users.
    #[must_use]
    pub const fn users(self) -> u16 {
        match self {
            Self::Exclusive => 1,
            Self::Shared { users } => users,
        }
    }
}

impl Profile {
    /// How many users there may be at a time: one for each address space but the privileged one
    /// (facts 1.2).
    #[must_use]
    pub const fn open(&self) -> Open {
        Open::with(self.max_asid)
    }

    /// The part of the device's table memory that has one root table for each address space (facts
    /// HOP0-1).
    #[must_use]
    pub const fn root_tables(&self) -> Option<Run> {
        let bytes = self.max_asid as u64 * TABLE_BYTES;
        if bytes > self.device_tables.len() {
            return None;
        }
        AddrRange::const_bus(self.device_tables.start(), bytes)
    }

    /// The range that large leaves of host memory are put into.
    #[must_use]
    pub const fn large_host_range(&self) -> &VaRange {
        match &self.large_host {
            LargeHost::Shared => &self.host,
            LargeHost::Own(range) => range,
        }
    }

    /// The address that the device uses for host memory at `bus`; `None` where it cannot reach
    /// that.
    #[must_use]
    pub const fn device_view(&self, bus: BusAddr) -> Option<BusAddr> {
        match bus.get().checked_shr(self.dma_bits) {
            Some(beyond) if beyond != 0 => None,
            _ => bus.checked_add(self.host_offset),
        }
    }
}

/// A range of numbers that a constant spells out.
const fn device(start: u64, end: u64) -> AddrRange<DeviceAddr> {
    match AddrRange::const_device(DeviceAddr::new(start), end - start) {
        Some(range) => range,
        None => panic!("the range is empty"),
    }
}

/// A run of numbers that a constant spells out.
const fn bus(start: u64, bytes: u64) -> Run {
    match AddrRange::const_bus(BusAddr::new(start), bytes) {
        Some(run) => run,
        None => panic!("the run is empty"),
    }
}

/// Time-outs, in microseconds (facts 9).
const fn timeouts(root: u64, invalidation: u64, init: u64) -> Timeouts {
    Timeouts {
        root: Duration::from_micros(root),
        invalidation: Duration::from_micros(invalidation),
        init: Duration::from_micros(init),
    }
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

#[cfg(test)]
mod tests;
