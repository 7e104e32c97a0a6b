//! Gaudi (facts 2.3).

use mmu_core::format::V1;
use mmu_core::{BusAddr, Run};

use super::{Asic, Dram, GIB, KIB, LargeHost, MIB, Profile, VaRange, bus, check, device, timeouts};

/// Gaudi: one MMU for host memory; device memory is used by its physical addresses.
#[derive(Clone, Copy, Debug)]
pub struct Gaudi;

impl Gaudi {
    /// Device memory that the hardware uses while it invalidates.
    pub const CACHE_MANAGEMENT: Run = bus(0x1BF0_0000, MIB);
}

impl Asic for Gaudi {
    type HostFormat = V1;
    /// Not used: device memory is not mapped.
    type DramFormat = V1;

    const PROFILE: Profile = Profile {
        name: "Gaudi",
        // Facts 1.2.
        max_asid: 2,
        // The habanalabs driver writes the end as the last byte, takes it for the byte after and
        // so loses the last page (facts GAUDI-1). This is the byte after.
        host: VaRange {
            range: device(0x1_0000_0000_0000, 0x2_7FC0_0000_0000),
            page_bytes: 4 * KIB,
            large_bytes: 2 * MIB,
            fixed: &[],
            reserved: &[],
        },
        // Facts VA-1.
        large_host: LargeHost::Shared,
        privileged: None,
        dram: Dram {
            memory: bus(0, 32 * GIB),
            user_start: BusAddr::new(0x2000_0000),
            // Facts 2.3, 5.1: that of the range for device memory, which is not used in practice
            // and is left out here.
            page_bytes: 2 * MIB,
            mapped_at: None,
            default_page: None,
        },
        // Facts 1.3.
        one_table: true,
        device_tables: bus(0x1000_0000, 191 * MIB),
        host_table_bytes: None,
        host_offset: 0x80_0000_0000,
        dma_bits: 48,
        // Facts 9. Nothing is waited for before enabling; there the others' value stands.
        timeouts: timeouts(2_000, 2_000, 2_000),
        emulation_timeouts: timeouts(200_000, 200_000, 200_000),
    };
}

const _: () = assert!(
    check::is_sound(&Gaudi::PROFILE),
    "Gaudi's numbers do not fit together"
);
