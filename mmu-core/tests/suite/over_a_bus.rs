//! The tests that do not look into the pool, once more over tables behind a bus.

/// What the tests share, with another pool.
pub(crate) mod common {
    pub(crate) use crate::common::device::{Memory, Pool, Table};
    pub(crate) use crate::common::*;

    // The formats of device-resident tables, tables of 256 slots, and three sizes of leaves.
    macro_rules! for_every_format {
        ($($test:ident),+ $(,)?) => {
            $(
                mod $test {
                    crate::common::for_formats!($test:
                        goya_and_gaudi: mmu_core::format::V1,
                        gaudi2_pmmu_64k: mmu_core::format::Gaudi2Pmmu64K,
                        gaudi2_hmmu_of_six_stacks: mmu_core::format::Gaudi2Hmmu<6>,
                        x86_64_of_four_levels: mmu_core::format::X86_64<4>,
                    );
                }
            )+
        };
    }
    pub(crate) use for_every_format;

    macro_rules! for_every_format_with_large_leaves {
        ($($test:ident),+ $(,)?) => {
            $(
                mod $test {
                    crate::common::for_formats!($test:
                        goya_and_gaudi: mmu_core::format::V1,
                        gaudi2_pmmu_64k: mmu_core::format::Gaudi2Pmmu64K,
                        x86_64_of_four_levels: mmu_core::format::X86_64<4>,
                    );
                }
            )+
        };
    }
    pub(crate) use for_every_format_with_large_leaves;

    pub(crate) mod operations {
        pub(crate) use crate::common::operations::{
            Bus, Lengths, Operation, drive_on_device as drive,
        };
    }
}

#[path = "allocation.rs"]
mod allocation;
#[path = "boundaries.rs"]
mod boundaries;
#[path = "dump.rs"]
mod dump;
#[path = "edges.rs"]
mod edges;
#[path = "properties.rs"]
mod properties;
#[path = "protect.rs"]
mod protect;
#[path = "scenarios.rs"]
mod scenarios;
#[path = "split.rs"]
mod split;
#[path = "visit.rs"]
mod visit;
