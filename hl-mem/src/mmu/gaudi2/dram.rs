//! The HMMUs of Gaudi2: accesses to device memory.

use mmu_core::format::Gaudi2Hmmu;
use mmu_core::{AddrRange, BusAddr, DeviceAddr};

use crate::asid::Asid;

use crate::mmu::driver::{Hardware, Mmu};
use crate::mmu::{Fault, FaultKind, MmuError, Registers, Timeouts};

use super::instance::{CAUSE_COUNT, Instance, ONLY_LARGE, Setup, hop_config};

const FIRST: u32 = 0x408_0000;
const BETWEEN_CORES: u32 = 0x20_0000;
const BETWEEN_HMMUS: u32 = 0x1_0000;
const HMMUS_OF_A_CORE: u32 = 4;
const INSTANCES: u8 = 16;

const SETUP: Setup = Setup {
    // Follows the hops of `mmu_core::format::Gaudi2Hmmu`: all leaves at hop 3.
    hops: hop_config(3, 3, 3, 3) | ONLY_LARGE,
    // Hop 4, which is never walked, has leaves of 64 MiB (facts HW-G2-4).
    page_sizes: (0xF << 4, 5 << 4),
    interrupts: (1 << 19) - 1,
};

/// A page fault captures bits 63:26 of the address (facts FR-2).
const CAPTURED_SHIFT: u32 = 26;

/// The HMMUs of Gaudi2, through which the device reaches its own memory, made of `STACKS` HBM
/// stacks. Their tables are in device memory, and the same for all.
pub type Gaudi2DramMmu<R, const STACKS: u64, const ASIDS: usize = 2> =
    Mmu<Gaudi2DramRegisters<R, STACKS>, ASIDS>;

/// The register protocol of [`Gaudi2DramMmu`].
#[derive(Debug)]
pub struct Gaudi2DramRegisters<R, const STACKS: u64> {
    pub(super) registers: R,
    timeouts: Timeouts,
    functional: u16,
}

impl<R: Registers, const STACKS: u64, const ASIDS: usize> Gaudi2DramMmu<R, STACKS, ASIDS> {
    /// A driver of the HMMUs behind `registers`, which it neither touches nor trusts before it is
    /// [enabled](crate::mmu::MmuControl::enable); `None` where there are none. Bit 4 * core + number of
    /// `functional` says whether an HMMU is there; those that are not are never accessed (facts
    /// HW-G2-5). `parking` is the [parking table](crate::mmu#parked-address-spaces), in device
    /// memory, by its physical address: table addresses are not scrambled (facts HW-G2-1).
    #[must_use]
    pub fn new(
        registers: R,
        timeouts: Timeouts,
        functional: u16,
        parking: BusAddr,
    ) -> Option<Self> {
        if functional == 0 {
            return None;
        }
        let hardware = Gaudi2DramRegisters {
            registers,
            timeouts,
            functional,
        };
        Some(Self::over(hardware, parking))
    }
}

impl<R: Registers, const STACKS: u64> Gaudi2DramRegisters<R, STACKS> {
    fn instances(&self) -> impl Iterator<Item = (u8, Instance)> + use<R, STACKS> {
        let functional = self.functional;
        (0..INSTANCES)
            .filter(move |&number| functional & 1 << number != 0)
            .map(|number| {
                let core = u32::from(number) / HMMUS_OF_A_CORE;
                let hmmu = u32::from(number) % HMMUS_OF_A_CORE;
                let offset = FIRST + core * BETWEEN_CORES + hmmu * BETWEEN_HMMUS;
                (number, Instance(offset))
            })
    }

    /// Does something with every instance, even after an error; the first one is what counts.
    fn each(&self, act: impl Fn(&R, Instance) -> Result<(), MmuError>) -> Result<(), MmuError> {
        let mut result = Ok(());
        for (_, instance) in self.instances() {
            result = result.and(act(&self.registers, instance));
        }
        result
    }
}

/// The device addresses of a fault that captured the scrambled address `captured`; `None` where no
/// device address scrambles to it.
fn faulting<const STACKS: u64>(kind: FaultKind, captured: u64) -> Option<AddrRange<DeviceAddr>> {
    let (first, len) = match kind {
        FaultKind::Page => {
            let first = captured >> CAPTURED_SHIFT << CAPTURED_SHIFT;
            (first, Gaudi2Hmmu::<STACKS>::PAGE_BYTES / 16)
        }
        _ => (captured, 1),
    };
    if first >> 48 == 0x1001 {
        // One slot of 64 MiB of scrambled addresses is one chunk of device addresses (facts SC-4).
        let first = Gaudi2Hmmu::<STACKS>::descramble(first)?;
        AddrRange::new(DeviceAddr::new(first), len)
    } else {
        // Only the addresses of device memory are scrambled (facts SC-2).
        let len = if len == 1 { 1 } else { 1 << CAPTURED_SHIFT };
        AddrRange::new(DeviceAddr::new(first), len)
    }
}

#[expect(unsafe_code, reason = "the safety of `Mmu` rests on it")]
// SAFETY: each step is written as facts 9.3 tell what the registers do, and what is reported as done
// was read from them.
unsafe impl<R: Registers, const STACKS: u64> Hardware for Gaudi2DramRegisters<R, STACKS> {
    type Format = Gaudi2Hmmu<STACKS>;

    fn check_root(&self, root: BusAddr) -> Result<(), MmuError> {
        Instance::check_root(root)
    }

    fn point(&mut self, asid: Asid, root: BusAddr) -> Result<(), MmuError> {
        self.each(|registers, hmmu| hmmu.point(registers, asid, root, self.timeouts))
    }

    fn prepare(&mut self) -> Result<(), MmuError> {
        self.each(|registers, hmmu| hmmu.prepare(registers, SETUP, self.timeouts))
    }

    fn switch(&mut self, on: bool) -> Result<(), MmuError> {
        self.each(|registers, hmmu| hmmu.switch(registers, on))
    }

    /// Starts all of them before it waits for the first.
    fn drop_all(&mut self) -> Result<(), MmuError> {
        for (_, hmmu) in self.instances() {
            hmmu.start_drop_all(&self.registers);
        }
        self.each(|registers, hmmu| hmmu.finish_drop_all(registers, self.timeouts))
    }

    /// The habanalabs driver never gets as far as a range here (facts INV-G2-5), so nothing is
    /// known of how the HMMUs would take one.
    fn drop_range(&mut self, _: Asid, _: AddrRange<DeviceAddr>) -> Result<(), MmuError> {
        self.drop_all()
    }

    fn announce(&mut self) -> Result<(), MmuError> {
        self.drop_all()
    }

    fn next_fault(&mut self, from: &mut u32) -> Result<Option<Fault>, MmuError> {
        // Causes of one instance after those of the one before.
        for ((number, hmmu), first) in self.instances().zip((0..).step_by(CAUSE_COUNT)) {
            let mut cause = from.saturating_sub(first);
            if cause >= CAUSE_COUNT as u32 {
                continue;
            }
            let found = hmmu.next_fault(&self.registers, &mut cause)?;
            if let Some((kind, address)) = found {
                *from = first + cause;
                return Ok(Some(Fault {
                    kind,
                    at: address.and_then(|captured| faulting::<STACKS>(kind, captured)),
                    instance: number,
                }));
            }
        }
        Ok(None)
    }
}
