//! What a pool tells and is told about all of its memory.

/// What is in device memory when a pool takes it over.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum DramContent {
    /// Anything: every page is scrubbed before its first use.
    Unknown,
    /// Nobody's content: the device has just scrubbed all of it.
    Scrubbed,
}

/// How the pages of a pool are used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct DramUsage {
    /// Pages that are free for anybody.
    pub clean: u32,
    /// Pages that are free and must be scrubbed before another owner gets them.
    pub dirty: u32,
    /// Pages that are out to be scrubbed.
    pub scrubbing: u32,
    /// Pages that are in packs.
    pub allocated: u32,
    /// Packs, orphans included.
    pub packs: u32,
    /// Packs whose owner is gone and which their holds keep alive.
    pub orphans: u32,
}

/// What an owner has of a pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct OwnerUsage {
    /// The packs it owns.
    pub packs: u32,
    /// The pages of those.
    pub pages: u32,
    /// The bytes of those.
    pub bytes: u64,
}

/// What the end of an owner left.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct OwnerReleased {
    /// Packs that were freed.
    pub freed: u32,
    /// Packs that others hold, now orphans.
    pub orphaned: u32,
}
