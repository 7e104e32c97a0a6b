//! How a mapping comes to be: what its runs allow, addresses for it, and entries, or nothing at all.

use core::marker::PhantomData;

use mmu_core::format::{LeafSizes, NoAttributes};
use mmu_core::{AddrRange, DeviceAddr, Format, MapError, MapOptions, PageTable, Run, TableMemory};

use crate::host::{DmaRun, all_seen_by_device};
use crate::profile::Profile;
use crate::va::{AllocateError, Node, Placement, VaAllocator, VaBlock};

use super::{Extent, Mapped, Pending, Space, SpaceError, SpaceFailure, Zone};

/// Where leaves larger than a page can go in a list of runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Shape {
    len: u64,
    /// Whether any large leaf fits.
    large: bool,
    /// How far into a large leaf's span the mapping must begin for the most of them to fit.
    phase: u64,
}

impl Shape {
    /// The shape of `len` bytes of pages, none of which has a large leaf.
    const fn of_pages(len: u64) -> Self {
        Self {
            len,
            large: false,
            phase: 0,
        }
    }

    /// The shape of a list of runs; `None` where it is empty or longer than 2^64 bytes. A
    /// `large_leaf` of zero bytes stands for none.
    #[inline(never)]
    fn of(runs: impl Iterator<Item = Run>, large_leaf: u64) -> Option<Self> {
        let mask = large_leaf.saturating_sub(1);
        let mut shape = Self::of_pages(0);
        let mut longest = 0;
        for run in runs {
            if large_leaf != 0 && run.len() >= large_leaf {
                let bus = run.start().get();
                let whole = run.len().saturating_sub(bus.wrapping_neg() & mask);
                if whole >= large_leaf && whole > longest {
                    longest = whole;
                    shape.large = true;
                    shape.phase = bus.wrapping_sub(shape.len) & mask;
                }
            }
            shape.len = shape.len.checked_add(run.len())?;
        }
        (shape.len != 0).then_some(shape)
    }
}

/// Where a mapping is to lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Wanted {
    /// Wherever the space likes.
    #[default]
    Anywhere,
    /// At this address, or else wherever the space likes.
    Hint(DeviceAddr),
    /// At this address or not at all.
    Exact(DeviceAddr),
}

/// Reserves addresses for a mapping that may lie anywhere. Returns with them how far into them it
/// begins.
fn reserve<N: AsRef<[Node]> + AsMut<[Node]>>(
    allocator: &mut VaAllocator<N>,
    shape: &Shape,
    large_leaf: u64,
) -> Result<(VaBlock, u64), AllocateError> {
    let bytes = shape
        .len
        .checked_add(shape.phase)
        .ok_or(AllocateError::NoSpace)?;
    let align = if shape.large { large_leaf } else { 1 };
    let block = allocator.allocate(bytes, Placement::Anywhere { align })?;
    Ok((block, shape.phase))
}

/// The part of reserved addresses that a mapping of `len` bytes has, which begins at `phase`.
fn extent<K>(block: VaBlock, phase: u64, len: u64, zone: Zone) -> Result<Extent<K>, SpaceError> {
    // The block was allocated with room for both, so neither cut can fail.
    let range = block
        .range()
        .skip(phase)
        .and_then(|rest| AddrRange::new(rest.start(), len));
    Ok(Extent {
        block: Some(block),
        range: range.ok_or(SpaceError::Addresses(AllocateError::NoSpace))?,
        zone,
        kind: PhantomData,
    })
}

/// Maps one run.
// Out of line: it is long in line, and the same for both kinds of spaces and all lists.
#[inline(never)]
fn map_run<F, M>(
    table: &mut PageTable<F, M>,
    at: DeviceAddr,
    run: Run,
    options: &MapOptions<NoAttributes>,
) -> Result<(), MapError>
where
    F: Format<Attributes = NoAttributes>,
    M: TableMemory,
{
    table.map(at, run, options)
}

impl<K, F, M, N> Space<K, F, M, N>
where
    F: Format<Attributes = NoAttributes>,
    M: TableMemory,
    N: AsRef<[Node]> + AsMut<[Node]>,
{
    /// Maps `runs` of host memory, `len` bytes in all, with the largest leaves that they allow. On
    /// failure everything is as before, except what the failure itself carries.
    pub(crate) fn map(
        &mut self,
        removals: &impl Pending<M>,
        len: u64,
        runs: impl Iterator<Item = DmaRun> + Clone,
        profile: &'static Profile,
        wanted: Wanted,
    ) -> Result<Mapped<K, ()>, SpaceFailure<K>> {
        let large_leaf = self.addresses.large_leaf;
        let runs = all_seen_by_device(runs, profile);
        let checked = |runs| Shape::of(runs, large_leaf).filter(|shape| shape.len == len);
        // As many runs as there are pages are these pages, or the table refuses them. With pages that
        // lie anywhere a pass over them takes as long as writing their entries.
        let pages = usize::try_from(len / profile.host.page_bytes);
        let are_pages = pages.is_ok_and(|pages| runs.size_hint() == (pages, Some(pages)));
        let shape = if are_pages {
            Some(Shape::of_pages(len))
        } else {
            checked(runs.clone())
        };
        let zone = match shape {
            Some(Shape { large: true, .. }) => Zone::Large,
            _ => Zone::Small,
        };
        let extent = self.reserve(shape, zone, wanted)?;
        let options = self.options(extent.zone);
        let mut ahead = runs.clone();
        let mapped = match (ahead.next(), ahead.next()) {
            // One run needs none of what a list does.
            (Some(run), None) if run.len() == extent.range.len() => {
                self.install_run(removals, extent, run, &options)
            }
            _ => self.install(removals, extent, runs.clone(), &options),
        };
        mapped.map_err(|failure| match failure.detached {
            None if are_pages && checked(runs).is_none() => SpaceError::Runs.into(),
            _ => failure,
        })
    }

    /// Maps `runs` of device memory, whole pages of it. Otherwise as [`map`](Self::map).
    pub(crate) fn map_dram(
        &mut self,
        removals: &impl Pending<M>,
        runs: impl Iterator<Item = Run> + Clone,
        wanted: Wanted,
    ) -> Result<Mapped<K, ()>, SpaceFailure<K>> {
        // A page of it is what a leaf maps, so that there is nothing to align beyond pages.
        let shape = Shape::of(runs.clone(), 0);
        let extent = self.reserve(shape, Zone::Dram, wanted)?;
        self.install(removals, extent, runs, &MapOptions::default())
    }

    /// Reserves addresses for runs of a shape: at the address that is wanted, or else, where it is not
    /// insisted on, in a zone. Whatever the runs are, this is the same code.
    ///
    /// Where the address that is wanted decides on the zone, it does so alone: whether a process gets
    /// the address it wants must not depend on which pages it happens to have. What could have large
    /// leaves and finds no place for them makes do with small ones.
    fn reserve(
        &mut self,
        shape: Option<Shape>,
        zone: Zone,
        wanted: Wanted,
    ) -> Result<Extent<K>, SpaceError> {
        let shape = shape.ok_or(SpaceError::Runs)?;
        let addresses = &mut self.addresses;
        if let Wanted::Hint(at) | Wanted::Exact(at) = wanted {
            let zone = addresses.zone_at(at, zone);
            match addresses.of(zone).allocate(shape.len, Placement::Exact(at)) {
                Err(error) if wanted == Wanted::Exact(at) => {
                    return Err(SpaceError::Addresses(error));
                }
                Err(_) => {}
                Ok(block) => return extent(block, 0, shape.len, zone),
            }
        }
        let large_leaf = addresses.large_leaf;
        let (block, phase, zone) = match reserve(addresses.of(zone), &shape, large_leaf) {
            Err(AllocateError::NoSpace | AllocateError::NoNodes) if shape.large => {
                let of_pages = Shape {
                    large: false,
                    phase: 0,
                    ..shape
                };
                let reserved = reserve(&mut addresses.small, &of_pages, large_leaf);
                reserved.map(|(block, phase)| (block, phase, Zone::Small))
            }
            reserved => reserved.map(|(block, phase)| (block, phase, zone)),
        }
        .map_err(SpaceError::Addresses)?;
        extent(block, phase, shape.len, zone)
    }

    /// How to map in a zone: with no large leaves among those for pages, where the large ones have
    /// addresses of their own.
    fn options(&self, zone: Zone) -> MapOptions<NoAttributes> {
        let only_small = zone == Zone::Small && self.addresses.large.is_some();
        MapOptions {
            sizes: if only_small {
                LeafSizes::smallest::<F>()
            } else {
                LeafSizes::ALL
            },
            ..MapOptions::default()
        }
    }

    /// Maps a run at the addresses `range`, which are in a window. Otherwise as [`map`](Self::map).
    pub(crate) fn map_window(
        &mut self,
        removals: &impl Pending<M>,
        range: AddrRange<DeviceAddr>,
        run: Run,
    ) -> Result<Mapped<K, ()>, SpaceFailure<K>> {
        let extent = Extent {
            block: None,
            range,
            zone: Zone::Small,
            kind: PhantomData,
        };
        self.install_run(removals, extent, run, &MapOptions::default())
    }

    fn install_run(
        &mut self,
        removals: &impl Pending<M>,
        extent: Extent<K>,
        run: Run,
        options: &MapOptions<NoAttributes>,
    ) -> Result<Mapped<K, ()>, SpaceFailure<K>> {
        let outcome = map_run(&mut self.table, extent.range.start(), run, options);
        self.finish(removals, extent, outcome)
    }

    fn install(
        &mut self,
        removals: &impl Pending<M>,
        extent: Extent<K>,
        runs: impl Iterator<Item = Run> + Clone,
        options: &MapOptions<NoAttributes>,
    ) -> Result<Mapped<K, ()>, SpaceFailure<K>> {
        let outcome = self.table.map_list(extent.range, runs, options);
        self.finish(removals, extent, outcome)
    }

    /// What became of addresses that were to be mapped. Whatever the runs were, this is the same code.
    fn finish(
        &mut self,
        removals: &impl Pending<M>,
        extent: Extent<K>,
        outcome: Result<(), MapError>,
    ) -> Result<Mapped<K, ()>, SpaceFailure<K>> {
        let mapped = Mapped {
            extent,
            backing: (),
        };
        let Err(error) = outcome else {
            return Ok(mapped);
        };
        let detached = match error {
            // The device may have seen entries before they were taken back.
            MapError::RunsChanged | MapError::DeviceLost => Some(self.unmap(removals, mapped)),
            _ => {
                self.free(mapped.extent);
                None
            }
        };
        Err(SpaceFailure {
            error: SpaceError::Tables(error),
            detached,
        })
    }
}
