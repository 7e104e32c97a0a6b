//! Goya (facts 2.2).

use mmu_core::format::V1;
use mmu_core::{BusAddr, Run};

use super::{
    Asic, DefaultPage, Dram, GIB, KIB, LargeHost, MIB, PrivilegedWindows, Profile, VaRange, bus,
    check, device, timeouts,
};

/// Goya: one MMU and one table for host and device memory.
#[derive(Clone, Copy, Debug)]
pub struct Goya;

impl Goya {
    /// Device memory that the hardware uses while it invalidates.
    pub const CACHE_MANAGEMENT: Run = bus(0x1FE0_0000, 0x1000);
}

impl Asic for Goya {
    type HostFormat = V1;
    type DramFormat = V1;

    const PROFILE: Profile = Profile {
        name: "Goya",
        // Facts 1.2.
        max_asid: 2,
        // Facts 2.2, 5.1.
        host: VaRange {
            range: device(0x1_0000_0000_0000, 0x3_FF80_0000_0000),
            page_bytes: 4 * KIB,
            large_bytes: 2 * MIB,
            fixed: &[],
            reserved: &[],
        },
        // Facts VA-1.
        large_host: LargeHost::Shared,
        privileged: Some(PrivilegedWindows {
            // Facts 2.2 (FW image), HW-GO-5.
            firmware: device(0, 256 * MIB),
            // Facts 2.2 (CPU-accessible memory): below every range.
            processor: device(0x80_0000_0000, 0x80_0000_0000 + 2 * MIB),
        }),
        dram: Dram {
            memory: bus(0, 4 * GIB),
            user_start: BusAddr::new(0x2000_0000),
            page_bytes: 2 * MIB,
            // Facts 2.2, 5.1.
            mapped_at: Some(VaRange {
                range: device(0x8_0000_0000, 0x20_0000_0000),
                page_bytes: 2 * MIB,
                large_bytes: 2 * MIB,
                fixed: &[],
                reserved: &[],
            }),
            // Facts 2.2, 3.4.
            default_page: Some(DefaultPage {
                range: device(0, 0x20_0000_0000),
                page: bus(0x1FC0_0000, 2 * MIB),
                fill: 0x99,
            }),
        },
        // Facts 1.3.
        one_table: true,
        // 252 MiB, though the habanalabs driver forgets to say so (facts GOYA-1).
        device_tables: bus(0x1000_0000, 252 * MIB),
        host_table_bytes: None,
        // Facts 2.2 (device view of host memory, DMA mask).
        host_offset: 0x80_0000_0000,
        dma_bits: 48,
        // Facts 9. Nothing is waited for before enabling; there the others' value stands.
        timeouts: timeouts(2_000, 2_000, 2_000),
        emulation_timeouts: timeouts(200_000, 200_000, 200_000),
    };
}

const _: () = assert!(
    check::is_sound(&Goya::PROFILE),
    "Goya's numbers do not fit together"
);
