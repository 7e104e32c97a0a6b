//! The PMMU of Gaudi2: accesses to host memory.

use core::marker::PhantomData;

use mmu_core::format::{Gaudi2Pmmu, Gaudi2Pmmu64K};
use mmu_core::{AddrRange, BusAddr, DeviceAddr, Format};

use crate::asid::Asid;

use crate::mmu::driver::{Hardware, Mmu};
use crate::mmu::registers::{poll, read};
use crate::mmu::roots::low_and_high;
use crate::mmu::{Fault, MmuError, Registers, Timeouts};

use super::instance::{Instance, Setup, hop_config};

const PMMU: Instance = Instance(0x4D0_0000);
const LOOKUP_MASK_63_32: u32 = 0x4D0_1028;
const MEMORY_CACHE_INVALIDATION: u32 = 0x4D0_1050;
const MEMORY_CACHE_STATUS: u32 = 0x4D0_1054;
const RANGE_INVALIDATION: u32 = 0x4D0_108C;
const RANGE_START: [u32; 2] = [0x4D0_1090, 0x4D0_1094];
const RANGE_END: [u32; 2] = [0x4D0_1098, 0x4D0_109C];

/// In `MEMORY_CACHE_STATUS`: it is done. Software clears it.
const DONE: u32 = 1 << 0;
/// In `MEMORY_CACHE_STATUS`: nothing is under way.
const IDLE: u32 = 1 << 1;
/// In `RANGE_INVALIDATION`: do it; reads one until it is done.
const RANGE_ENABLE: u32 = 1 << 0;
/// In `RANGE_INVALIDATION`: only for the ASID in bits 11:2.
const RANGE_MATCH_ASID: u32 = 1 << 1;
const RANGE_ASID_SHIFT: u32 = 2;
/// The bits of a page's number that a pair of range registers takes: its address has 64.
const PAGE_NUMBER_BITS: u32 = 52;
const PAGE_SHIFT: u32 = 12;

/// The causes that the PMMU reports: all but the full burst FIFO (facts HW-G2-3).
const INTERRUPTS: u32 = (1 << 18) - 1;
/// Follows the hops of `mmu_core::format::Gaudi2Pmmu`: small leaves at hop 5, large at hop 4.
const HOPS: u32 = hop_config(5, 4, 5, 5);

/// A format of the tables that the PMMU walks: how it is set up for them.
pub trait PmmuFormat: Format + Sealed {
    /// The fields of the page-size register that hop 5 (3:0), hop 4 (7:4) and hops of 8 index bits
    /// (20) have, as a mask and their value (facts HW-G2-3).
    #[doc(hidden)]
    const SIZES: (u32, u32);
}

mod sealed {
    /// Keeps what the PMMU can be set up for to what is known of it.
    pub trait Sealed {}
}
use sealed::Sealed;

impl Sealed for Gaudi2Pmmu {}
impl Sealed for Gaudi2Pmmu64K {}

impl PmmuFormat for Gaudi2Pmmu {
    const SIZES: (u32, u32) = (0, 0);
}

impl PmmuFormat for Gaudi2Pmmu64K {
    const SIZES: (u32, u32) = (1 << 20 | 0xFF, 1 << 20 | 3 << 4 | 4);
}

/// The PMMU of Gaudi2, through which the device reaches host memory. Its tables are in host memory.
pub type Gaudi2HostMmu<R, const ASIDS: usize = 2> = Mmu<Gaudi2HostRegisters<R>, ASIDS>;

/// The PMMU beside a host with pages of 64 KiB. No run of it by anyone is known (facts UK-7).
pub type Gaudi2HostMmu64K<R, const ASIDS: usize = 2> =
    Mmu<Gaudi2HostRegisters<R, Gaudi2Pmmu64K>, ASIDS>;

/// The register protocol of [`Gaudi2HostMmu`].
#[derive(Debug)]
pub struct Gaudi2HostRegisters<R, F = Gaudi2Pmmu> {
    pub(super) registers: R,
    timeouts: Timeouts,
    /// A partial invalidation failed, and has not been seen to end.
    pending: bool,
    format: PhantomData<F>,
}

impl<R: Registers, F: PmmuFormat, const ASIDS: usize> Mmu<Gaudi2HostRegisters<R, F>, ASIDS> {
    /// A driver of the PMMU behind `registers`, which it neither touches nor trusts before it is
    /// [enabled](crate::mmu::MmuControl::enable). `parking` is the
    /// [parking table](crate::mmu#parked-address-spaces), in host memory.
    #[must_use]
    pub const fn new(registers: R, timeouts: Timeouts, parking: BusAddr) -> Self {
        let hardware = Gaudi2HostRegisters {
            registers,
            timeouts,
            pending: false,
            format: PhantomData,
        };
        Self::over(hardware, parking)
    }
}

impl<R: Registers, F> Gaudi2HostRegisters<R, F> {
    /// Whether no earlier partial invalidation can be taken for one that begins now.
    fn parts_are_idle(&mut self) -> Result<bool, MmuError> {
        if self.pending {
            let range = read(&self.registers, RANGE_INVALIDATION)?;
            let cache = read(&self.registers, MEMORY_CACHE_STATUS)?;
            self.pending = range & RANGE_ENABLE != 0 || cache & IDLE == 0;
        }
        Ok(!self.pending)
    }

    /// Empties the cache of table memory, from which walks read entries, and waits for the end.
    fn empty_memory_cache(&mut self) -> Result<(), MmuError> {
        self.pending = true;
        // What the one before left behind must not pass for the end of this one.
        self.registers.write(MEMORY_CACHE_STATUS, 0);
        self.registers.write(MEMORY_CACHE_INVALIDATION, 1);
        let timeout = self.timeouts.invalidation;
        poll(&self.registers, MEMORY_CACHE_STATUS, DONE, DONE, timeout)?;
        self.registers.write(MEMORY_CACHE_STATUS, 0);
        Ok(())
    }

    fn write_pair(&self, registers: [u32; 2], page: u64) {
        let (low, high) = low_and_high(page, 0);
        self.registers.write(registers[0], low);
        self.registers.write(registers[1], high);
    }
}

/// The numbers of the pages before and after a range; `None` where one of them does not exist.
///
/// The hardware excludes the start (facts INV-G2-4). Whether it includes the end is not known
/// (facts UK-4), and with the page after the range as the end it need not be.
fn bounds(range: AddrRange<DeviceAddr>) -> Option<(u64, u64)> {
    let before = (range.start().get() >> PAGE_SHIFT).checked_sub(1)?;
    let after = (range.last().get() >> PAGE_SHIFT).checked_add(1)?;
    (after >> PAGE_NUMBER_BITS == 0).then_some((before, after))
}

#[expect(unsafe_code, reason = "the safety of `Mmu` rests on it")]
// SAFETY: each step is written as facts 9.3 tell what the registers do, and what is reported as done
// was read from them.
unsafe impl<R: Registers, F: PmmuFormat> Hardware for Gaudi2HostRegisters<R, F> {
    type Format = F;

    fn check_root(&self, root: BusAddr) -> Result<(), MmuError> {
        Instance::check_root(root)
    }

    fn point(&mut self, asid: Asid, root: BusAddr) -> Result<(), MmuError> {
        PMMU.point(&self.registers, asid, root, self.timeouts)
    }

    fn prepare(&mut self) -> Result<(), MmuError> {
        let setup = Setup {
            hops: HOPS,
            page_sizes: F::SIZES,
            interrupts: INTERRUPTS,
        };
        self.registers.write(LOOKUP_MASK_63_32, 0);
        PMMU.prepare(&self.registers, setup, self.timeouts)
    }

    fn switch(&mut self, on: bool) -> Result<(), MmuError> {
        PMMU.switch(&self.registers, on)
    }

    fn drop_all(&mut self) -> Result<(), MmuError> {
        PMMU.start_drop_all(&self.registers);
        PMMU.finish_drop_all(&self.registers, self.timeouts)
    }

    /// The steps of facts INV-G2-4, always with the lower caches: leaving them out
    /// ("skip low") would be right only where nothing was mapped before.
    ///
    /// Unlike there, one after the other. With both under way, the range may be dropped while
    /// entries that were cleared are still in the cache of table memory: an access that misses then
    /// walks them, and the translation that it leaves behind outlives both.
    fn drop_range(&mut self, asid: Asid, range: AddrRange<DeviceAddr>) -> Result<(), MmuError> {
        let Some((before, after)) = bounds(range) else {
            return self.drop_all();
        };
        if !self.parts_are_idle()? {
            return self.drop_all();
        }
        self.write_pair(RANGE_START, before);
        self.write_pair(RANGE_END, after);
        self.empty_memory_cache()?;
        self.registers.write(
            RANGE_INVALIDATION,
            RANGE_ENABLE | RANGE_MATCH_ASID | u32::from(asid) << RANGE_ASID_SHIFT,
        );
        let timeout = self.timeouts.invalidation;
        poll(
            &self.registers,
            RANGE_INVALIDATION,
            RANGE_ENABLE,
            0,
            timeout,
        )?;
        self.pending = false;
        Ok(())
    }

    /// Only the cache of upper hops remembers what is absent (facts MH-4).
    fn announce(&mut self) -> Result<(), MmuError> {
        if !self.parts_are_idle()? {
            return self.drop_all();
        }
        self.empty_memory_cache()?;
        self.pending = false;
        Ok(())
    }

    fn next_fault(&mut self, from: &mut u32) -> Result<Option<Fault>, MmuError> {
        let Some((kind, address)) = PMMU.next_fault(&self.registers, from)? else {
            return Ok(None);
        };
        Ok(Some(Fault {
            kind,
            at: address.and_then(|address| AddrRange::new(DeviceAddr::new(address), 1)),
            instance: 0,
        }))
    }
}
