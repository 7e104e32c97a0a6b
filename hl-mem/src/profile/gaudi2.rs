//! Gaudi2 (facts 2.4, 2.5).

use mmu_core::format::{Gaudi2Hmmu, Gaudi2Pmmu};
use mmu_core::{AddrRange, BusAddr, DeviceAddr};

use super::{Asic, Dram, GIB, KIB, LargeHost, MIB, Profile, VaRange, bus, check, device, timeouts};

/// Gaudi2 with `STACKS` functional HBM stacks: 6, or 5 with one faulty. It has one MMU for host
/// memory, with tables in host memory, and several for device memory, with tables there.
#[derive(Clone, Copy, Debug)]
pub struct Gaudi2<const STACKS: u64>;

/// Facts 2.5 (dram_base).
const DRAM_BASE: u64 = 0x1001_0000_0000_0000;
/// A leaf at hop 3 of the HMMUs spans that much of the scrambled addresses (facts 2.5).
const LEAF: u64 = GIB;

/// Facts VA-4: the virtual doorbell of MSI-X, which the driver maps.
const DOORBELL: AddrRange<DeviceAddr> = device(0xFFF0_77FF_FFFF_0000, 0xFFF0_7800_0000_0000);
/// Facts VA-4: for the ARC processors.
const ARC: AddrRange<DeviceAddr> = device(0xFFF0_7800_0000_0000, 0xFFF0_8000_0000_0000);
/// Facts VA-4.
const LARGE_HINTS: AddrRange<DeviceAddr> = device(0xFFF0_F800_0000_0000, 0xFFF1_0000_0000_0000);

impl<const STACKS: u64> Gaudi2<STACKS> {
    /// Facts 2.5 (dram_page_size).
    const PAGE: u64 = Gaudi2Hmmu::<STACKS>::PAGE_BYTES;
    /// Facts 2.5 (dram_size).
    const DRAM_BYTES: u64 = STACKS * 16 * GIB;

    /// Facts 2.5 (dmmu.start).
    const START: u64 = DRAM_BASE + Self::PAGE * Self::DRAM_BYTES.div_ceil(Self::PAGE);

    /// The first address whose scrambled form folds back onto lower ones, where the range ends.
    /// The habanalabs driver goes on for 32 or 48 pages that cannot work (facts SC-6).
    const END: u64 = DRAM_BASE + Self::PAGE * ((1 << 48) / LEAF);

    /// Facts VA-4, rounded outwards to whole pages from the start of the range, since it was laid
    /// out without regard to them.
    const HINTS: AddrRange<DeviceAddr> = {
        let before = (0x1001_5000_0000_0000 - Self::START) / Self::PAGE;
        let through = (0x1001_7000_0000_0000_u64 - Self::START).div_ceil(Self::PAGE);
        device(
            Self::START + before * Self::PAGE,
            Self::START + through * Self::PAGE,
        )
    };
    const RESERVED: &'static [AddrRange<DeviceAddr>] = &[Self::HINTS];

    const SOUND: () = assert!(
        check::is_sound(&Self::NUMBERS),
        "Gaudi2's numbers do not fit together"
    );

    const NUMBERS: Profile = Profile {
        name: "Gaudi2",
        // Facts 1.2.
        max_asid: 2,
        // Facts 2.4.
        host: VaRange {
            range: device(0xFFF0_0000_0000_0000, 0xFFF0_8000_0000_0000),
            page_bytes: 4 * KIB,
            large_bytes: 4 * KIB,
            fixed: &[DOORBELL],
            reserved: &[ARC],
        },
        large_host: LargeHost::Own(VaRange {
            range: device(0xFFF0_8000_0000_0000, 0xFFF1_0000_0000_0000),
            page_bytes: 2 * MIB,
            large_bytes: 2 * MIB,
            fixed: &[],
            reserved: &[LARGE_HINTS],
        }),
        privileged: None,
        dram: Dram {
            memory: bus(DRAM_BASE, Self::DRAM_BYTES),
            // Facts 2.5 (user DRAM base).
            user_start: BusAddr::new(DRAM_BASE + Self::PAGE),
            page_bytes: Self::PAGE,
            mapped_at: Some(VaRange {
                range: device(Self::START, Self::END),
                page_bytes: Self::PAGE,
                large_bytes: Self::PAGE,
                fixed: &[],
                reserved: Self::RESERVED,
            }),
            default_page: None,
        },
        // Facts 1.3.
        one_table: false,
        // Facts 2.5 (mmu_pgt_addr, HMMU table region).
        device_tables: bus(DRAM_BASE + Self::PAGE - 4 * MIB, MIB),
        // Facts 2.4 (hop pool).
        host_table_bytes: Some(256 * MIB),
        // Facts 2.4.
        host_offset: 0,
        dma_bits: 64,
        // Facts 9.
        timeouts: timeouts(2_000, 20_000, 20_000),
        emulation_timeouts: timeouts(400_000, 400_000, 400_000),
    };
}

impl<const STACKS: u64> Asic for Gaudi2<STACKS> {
    type HostFormat = Gaudi2Pmmu;
    type DramFormat = Gaudi2Hmmu<STACKS>;

    const PROFILE: Profile = {
        let () = Self::SOUND;
        Self::NUMBERS
    };
}

const _: (Profile, Profile) = (Gaudi2::<5>::PROFILE, Gaudi2::<6>::PROFILE);
