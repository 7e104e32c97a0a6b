//! The tests of mapping and unmapping, once more on words that are written in halves.

/// What the tests share, with other words.
pub(crate) mod common {
    pub(crate) use crate::common::*;

    pub(crate) type Memory = crate::common::WordMemory<mmu_core::SplitWord>;
    pub(crate) type Pool<'a> = crate::common::Pool<'a, mmu_core::SplitWord>;
    pub(crate) type Table<'p, 'a, F> = crate::common::Table<'p, 'a, F, mmu_core::SplitWord>;

    macro_rules! for_every_format {
        ($($test:ident),+ $(,)?) => {
            $(
                mod $test {
                    crate::common::for_formats!($test:
                        goya_and_gaudi: mmu_core::format::V1,
                    );
                }
            )+
        };
    }
    pub(crate) use for_every_format;
    pub(crate) use for_every_format as for_every_format_with_large_leaves;
}

#[path = "allocation.rs"]
mod allocation;
#[path = "edges.rs"]
mod edges;
#[path = "scenarios.rs"]
mod scenarios;
#[path = "split.rs"]
mod split;
