//! What can be chosen about a software ASIC before it is built.

use core::fmt;

use serde::{Deserialize, Serialize};

/// The ASIC families modelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AsicKind {
    /// Goya: one MMU, five hops, tables in device DRAM.
    Goya,
    /// Gaudi: as Goya, but device DRAM is addressed directly.
    Gaudi,
    /// Gaudi2: a PMMU with six hops and tables in host memory, and 16 HMMUs with four hops,
    /// scrambled addresses and tables in device DRAM.
    Gaudi2,
}

impl fmt::Display for AsicKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Goya => "goya",
            Self::Gaudi => "gaudi",
            Self::Gaudi2 => "gaudi2",
        })
    }
}

/// How many HBM stacks of a Gaudi2 work. It decides the size of a DRAM page and the scrambling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HbmStacks {
    /// One is faulty: 80 GiB, pages of 640 MiB.
    Five,
    /// All: 96 GiB, pages of 768 MiB.
    Six,
}

impl HbmStacks {
    /// The number of stacks.
    #[must_use]
    pub const fn count(self) -> u64 {
        match self {
            Self::Five => 5,
            Self::Six => 6,
        }
    }
}

/// The size of a translation cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheSize {
    /// Nothing is ever cached: every access walks. For telling a cache bug from a table bug.
    None,
    /// So many sets of so many ways each; the oldest way of a set is replaced.
    SetAssociative {
        /// Number of sets.
        sets: usize,
        /// Ways per set.
        ways: usize,
    },
    /// Nothing is ever evicted: the strictest judge of missing invalidations.
    Infinite,
}

/// When a write through the DRAM BAR becomes visible to the device's own engines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PostedWrites {
    /// Only after a read through the BAR has come back: the least a driver may rely on.
    UntilFlush,
    /// At once.
    Immediate,
}

/// Whether the page named by Gaudi2's range end register is dropped too (facts UK-4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeEnd {
    /// It is: a range invalidation drops (start, end].
    Inclusive,
    /// It is not: (start, end). The stricter judge of a driver.
    Exclusive,
}

/// What device DRAM holds after power-on and, by choice, after a reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DramContent {
    /// Whatever was there before.
    Kept,
    /// Undefined: every word reads [`UNDEFINED_WORD`](crate::asic::UNDEFINED_WORD).
    Undefined,
}

/// Everything that can be chosen. [`AsicConfig::new`] gives the strict choice: nothing evicted,
/// writes posted until flushed, nothing invalidated that the silicon may leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AsicConfig {
    /// The family.
    pub kind: AsicKind,
    /// Working HBM stacks; Gaudi2 only.
    pub hbm_stacks: HbmStacks,
    /// Bytes of device DRAM on Goya, a power of two of at least 4 GiB. The others have a fixed size.
    pub goya_dram_size: u64,
    /// Bytes of the BAR window into device DRAM, a power of two of at least 4 KiB.
    pub bar_size: u64,
    /// When BAR writes become visible.
    pub posted_writes: PostedWrites,
    /// The cache of finished translations, per MMU.
    pub leaf_cache: CacheSize,
    /// The cache of 64-byte table lines, per MMU.
    pub line_cache: CacheSize,
    /// What the range end register means; Gaudi2 only.
    pub range_end: RangeEnd,
    /// Which HMMUs exist, one bit each; the others were fused off. Gaudi2 only.
    pub hmmu_enabled: u16,
}

impl AsicConfig {
    /// The strict choice for `kind`.
    #[must_use]
    pub fn new(kind: AsicKind) -> Self {
        Self {
            kind,
            hbm_stacks: HbmStacks::Six,
            goya_dram_size: 4 << 30,
            bar_size: 1 << 28,
            posted_writes: PostedWrites::UntilFlush,
            leaf_cache: CacheSize::Infinite,
            line_cache: CacheSize::Infinite,
            range_end: RangeEnd::Exclusive,
            hmmu_enabled: u16::MAX,
        }
    }

    /// The same with caches of a plausible finite size.
    #[must_use]
    pub fn with_finite_caches(self) -> Self {
        Self {
            leaf_cache: CacheSize::SetAssociative { sets: 64, ways: 8 },
            line_cache: CacheSize::SetAssociative { sets: 64, ways: 4 },
            ..self
        }
    }
}
