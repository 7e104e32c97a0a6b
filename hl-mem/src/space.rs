//! One address space of the device: a page table, and who has which of its addresses.
//!
//! There are two kinds, told apart by type: the privileged one (ASID 0), which no request of a
//! user can name, and the users'. A mapping belongs to its kind, so that a privileged one cannot
//! be handed to a user's unmap (hazard HZ-16).

mod establish;
mod map;
mod removals;

pub(crate) use establish::{EstablishError, Left, NotEstablished, establish, tells_establish};
pub use map::Wanted;
pub(crate) use removals::{Batch, Begun, Confirmed, Pending, Removals};

use core::fmt;
use core::marker::PhantomData;

use mmu_core::format::NoAttributes;
use mmu_core::{AddrRange, DeviceAddr, Format, MapError, PageTable, Removed, TableMemory};

use crate::profile::DefaultPage;
use crate::va::{AllocateError, Node, VaAllocator, VaBlock};

/// The privileged address space, ASID 0.
#[derive(Debug)]
pub(crate) enum Privileged {}

/// The address space of a user.
#[derive(Debug)]
pub(crate) enum User {}

/// Device addresses of an address space of kind `K`, and which part of them is mapped.
struct Extent<K> {
    /// What an allocator handed out; `None` in a window, whose addresses none hands out.
    block: Option<VaBlock>,
    range: AddrRange<DeviceAddr>,
    zone: Zone,
    kind: PhantomData<K>,
}

/// Which addresses of a space a mapping is given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Zone {
    /// Those for pages of the host.
    Small,
    /// Those for large leaves, where they are apart; otherwise those for pages.
    Large,
    /// Those for device memory, where the same table maps it; otherwise all that there are.
    Dram,
}

/// A mapping in an address space of kind `K`, with the memory `B` behind it: the pins or pages
/// belong to the mapping and cannot be had back while the device may reach them.
#[must_use = "the addresses stay mapped until the space unmaps them"]
pub(crate) struct Mapped<K, B> {
    extent: Extent<K>,
    backing: B,
}

impl<K> Mapped<K, ()> {
    /// Gives the memory behind the mapping to the mapping.
    pub(crate) fn owning<B>(self, backing: B) -> Mapped<K, B> {
        Mapped {
            extent: self.extent,
            backing,
        }
    }
}

impl<K, B> Mapped<K, B> {
    /// The addresses that are mapped: whole pages.
    pub(crate) fn range(&self) -> AddrRange<DeviceAddr> {
        self.extent.range
    }

    pub(crate) fn backing(&self) -> &B {
        &self.backing
    }

    pub(crate) fn backing_mut(&mut self) -> &mut B {
        &mut self.backing
    }
}

/// What was a mapping, until an invalidation proves that the device does not reach it any more.
#[must_use = "addresses and memory stay in quarantine until an invalidation is confirmed"]
pub(crate) struct Detached<K, B> {
    extent: Extent<K>,
    backing: B,
    batch: Batch,
}

impl<K> Detached<K, ()> {
    /// Gives the memory that was behind the mapping to it.
    pub(crate) fn owning<B>(self, backing: B) -> Detached<K, B> {
        Detached {
            extent: self.extent,
            backing,
            batch: self.batch,
        }
    }
}

impl<K, B> Detached<K, B> {
    /// The removals that this is one of.
    pub(crate) fn batch(&self) -> Batch {
        self.batch
    }

    /// The addresses that were mapped: whole pages.
    pub(crate) fn range(&self) -> AddrRange<DeviceAddr> {
        self.extent.range
    }

    pub(crate) fn backing(&self) -> &B {
        &self.backing
    }

    /// What was confirmed to be removed, which can be given up.
    ///
    /// # Errors
    ///
    /// Hands it back where there is no proof, or where that is of earlier removals.
    pub(crate) fn proven(self, confirmed: Option<Confirmed>) -> Result<Proven<K, B>, Self> {
        match confirmed {
            Some(confirmed) if confirmed.covers(self.batch) => Ok(Proven {
                extent: self.extent,
                backing: self.backing,
            }),
            _ => Err(self),
        }
    }
}

/// What was a mapping, and what the device is proved not to reach any more.
#[must_use = "addresses and memory stay out of use until the space releases them"]
pub(crate) struct Proven<K, B> {
    extent: Extent<K>,
    backing: B,
}

impl<K, B> Proven<K, B> {
    pub(crate) fn backing(&self) -> &B {
        &self.backing
    }
}

/// Why something could not be mapped into a space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum SpaceError {
    /// No device addresses for it.
    Addresses(AllocateError),
    /// The host named other pages than it was asked for, or some that the device does not reach.
    Runs,
    /// The page tables could not take it.
    Tables(MapError),
}

impl fmt::Display for SpaceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Runs => {
                f.write_str("the host named other pages than asked for, or some out of reach")
            }
            Self::Addresses(error) => write!(f, "no device addresses: {error}"),
            Self::Tables(error) => write!(f, "no mapping: {error}"),
        }
    }
}

impl core::error::Error for SpaceError {}

/// A failed mapping, with what must be invalidated where the device may have seen a part of it.
pub(crate) struct SpaceFailure<K> {
    pub(crate) error: SpaceError,
    pub(crate) detached: Option<Detached<K, ()>>,
}

impl<K> From<SpaceError> for SpaceFailure<K> {
    fn from(error: SpaceError) -> Self {
        Self {
            error,
            detached: None,
        }
    }
}

/// Who has which addresses of a space.
pub(crate) struct Addresses<N> {
    pub(crate) small: VaAllocator<N>,
    /// The range of mappings with large leaves, where the ASIC has a separate one.
    pub(crate) large: Option<VaAllocator<N>>,
    /// The range of device memory, where the table of host memory maps it as well.
    pub(crate) dram: Option<VaAllocator<N>>,
    /// Bytes in a large leaf; zero where leaves of one size are all there is.
    pub(crate) large_leaf: u64,
}

impl<N: AsRef<[Node]> + AsMut<[Node]>> Addresses<N> {
    fn of(&mut self, zone: Zone) -> &mut VaAllocator<N> {
        let apart = match zone {
            Zone::Small => None,
            Zone::Large => self.large.as_mut(),
            Zone::Dram => self.dram.as_mut(),
        };
        apart.unwrap_or(&mut self.small)
    }

    /// The zone that an address wanted for a mapping belongs to, where otherwise `zone` would be it.
    fn zone_at(&self, at: DeviceAddr, zone: Zone) -> Zone {
        match &self.large {
            Some(large) if zone != Zone::Dram => {
                if large.region().contains(at) {
                    Zone::Large
                } else {
                    Zone::Small
                }
            }
            _ => zone,
        }
    }

    fn all(&self) -> impl Iterator<Item = &VaAllocator<N>> {
        let all = [Some(&self.small), self.large.as_ref(), self.dram.as_ref()];
        all.into_iter().flatten()
    }
}

/// One address space. What is removed from it waits in its [`Removals`], which are elsewhere, under a
/// lock of their own; they are always those of this space.
pub(crate) struct Space<K, F: Format, M: TableMemory, N> {
    table: PageTable<F, M>,
    addresses: Addresses<N>,
    kind: PhantomData<K>,
}

impl<K, F, M, N> Space<K, F, M, N>
where
    F: Format<Attributes = NoAttributes>,
    M: TableMemory,
    N: AsRef<[Node]> + AsMut<[Node]>,
{
    pub(crate) fn new(table: PageTable<F, M>, addresses: Addresses<N>) -> Self {
        Self {
            table,
            addresses,
            kind: PhantomData,
        }
    }

    /// Takes a mapping out of the page table.
    pub(crate) fn unmap<B>(
        &mut self,
        removals: &impl Pending<M>,
        mapped: Mapped<K, B>,
    ) -> Detached<K, B> {
        // What this space mapped is mapped as a whole, so that the exact form and the sweeping one
        // do the same; the sweeping one has no way to fail.
        let removed = self.table.sweep(mapped.extent.range);
        // After the work: whoever confirms waits for whoever is in there.
        let batch = removals.pend(removed);
        Detached {
            extent: mapped.extent,
            backing: mapped.backing,
            batch,
        }
    }

    /// Maps a page by default wherever nothing else is mapped (see
    /// [`DefaultPage`]).
    pub(crate) fn set_default(&mut self, default: &DefaultPage) -> Result<(), MapError> {
        let hop = default.hop::<F>().ok_or(MapError::NoLeafSize)?;
        let start = default.page.start();
        M::try_set_default(&mut self.table, default.range, hop, start, NoAttributes)
    }

    /// Removes what is mapped by default, as one more removal.
    pub(crate) fn remove_default(&mut self, removals: &impl Pending<M>) {
        if let Some(removed) = M::try_remove_default(&mut self.table) {
            removals.pend(removed);
        }
    }

    /// Unmaps everything and writes the root table anew, after a reset of the device. What was
    /// mapped is still to be unmapped, which then only frees its addresses.
    ///
    /// `resets` is how often the device had been reset before this was called.
    pub(crate) fn wipe(&mut self, removals: &impl Pending<M>, resets: u32) {
        let removed: Removed<M> = self.table.wipe();
        removals.renewed(removed, resets);
    }

    /// Frees the addresses of what was a mapping and gives back the memory behind it.
    pub(crate) fn release<B>(&mut self, proven: Proven<K, B>) -> B {
        self.free(proven.extent);
        proven.backing
    }

    fn free(&mut self, extent: Extent<K>) {
        let Some(block) = extent.block else {
            return;
        };
        if let Err(foreign) = self.addresses.of(extent.zone).free(block) {
            // The extent's type says that it is of this kind of space. Were it of another one all
            // the same, its addresses would stay out of use, which the counters show.
            drop(foreign);
        }
    }

    pub(crate) fn table(&self) -> &PageTable<F, M> {
        &self.table
    }

    /// Bytes of device addresses in use.
    pub(crate) fn used(&self) -> u64 {
        let mut used = 0;
        for range in self.addresses.all() {
            used += range.used();
        }
        used
    }

    /// How many pieces the free device addresses are in.
    pub(crate) fn extents(&self) -> u32 {
        let mut extents = 0;
        for range in self.addresses.all() {
            extents += range.extents();
        }
        extents
    }

    /// The pieces of free device addresses, range by range.
    pub(crate) fn free_extents(&self) -> impl Iterator<Item = AddrRange<DeviceAddr>> + '_ {
        self.addresses.all().flat_map(VaAllocator::free_extents)
    }

    /// Whether nothing is mapped and every address is free.
    pub(crate) fn is_idle(&self) -> bool {
        self.table.is_empty() && self.addresses.all().all(VaAllocator::is_whole)
    }

    /// The page table, and the addresses.
    pub(crate) fn into_parts(self) -> (PageTable<F, M>, Addresses<N>) {
        (self.table, self.addresses)
    }

    /// The page table, for the next user of it.
    pub(crate) fn into_table(self) -> PageTable<F, M> {
        self.table
    }
}

#[cfg(test)]
mod tests;
