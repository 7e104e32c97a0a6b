//! Bringing a device up, and bringing it back after a reset.

use mmu_core::{BusAddr, Format, PageTable, TableMemory};

use crate::asid::{Asid, UserAsid};
use crate::buffer::Buffers;
use crate::dram::{DramContent, Scrub};
use crate::host::HostMemory;
use crate::identity::Identity;
use crate::lock::{LockRank, Locked};
use crate::mmu::{MmuControl, NoDramMmu, Walks};
use crate::port::Port;
use crate::profile::{Asic, DefaultPage, LargeHost, Open};
use crate::space::{Addresses, Removals, Space};
use crate::sync::{AtomicU32, Ordering};
use crate::va::{LayoutError, VaAllocator};

use super::{
    BringUpError, Device, DeviceParts, DramMmu, HostMmu, Privilege, PrivilegedSpace, Seat, Seen,
    Shown, SpaceNodes, Standing, TableOf, Tables, settle,
};

impl<'d, A: Asic, P: Port<DramMmu = NoDramMmu>> Device<'d, A, P> {
    /// Brings a device's memory up: a root table for each ASID, and the MMU enabled as the last
    /// step. `mmu` makes the MMU's driver, given the address of the table that ASIDs without an
    /// address space use.
    ///
    /// # Errors
    ///
    /// As [`with_dram_mmu`](Self::with_dram_mmu).
    pub fn new(
        parts: DeviceParts<'d, A, P>,
        mmu: impl FnOnce(BusAddr) -> P::Mmu,
    ) -> Result<(Self, Privilege), BringUpError>
    where
        P::Mmu: Walks<A::HostFormat>,
    {
        Self::with_dram_mmu(parts, mmu, None::<(_, fn(_) -> _)>)
    }
}

impl<'d, A: Asic, P: Port> Device<'d, A, P> {
    /// Brings a device's memory up as [`new`](Self::new) does, with an MMU and page tables for device
    /// memory, where that has its own (see [`Profile::one_table`](crate::profile::Profile)): where the
    /// tables live, and what makes the MMU's driver. Without them users map none of it.
    ///
    /// The tables of the roots are the first that are taken from the pool, that of ASID 0 first
    /// (facts HOP0-1).
    ///
    /// # Errors
    ///
    /// One for each part that can refuse; see [`BringUpError`]. The root tables taken by then are
    /// lost to the pool, since it is not known what the device makes of them.
    pub fn with_dram_mmu(
        mut parts: DeviceParts<'d, A, P>,
        mmu: impl FnOnce(BusAddr) -> P::Mmu,
        dram_mmu: Option<(P::DramTables, impl FnOnce(BusAddr) -> P::DramMmu)>,
    ) -> Result<(Self, Privilege), BringUpError>
    where
        P::Mmu: Walks<A::HostFormat>,
        P::DramMmu: Walks<A::DramFormat>,
    {
        const {
            let page = P::Host::PAGE_BYTES;
            assert!(
                page.is_power_of_two(),
                "a page of the host is a power of two"
            );
            assert!(
                page.is_multiple_of(A::PROFILE.host.page_bytes),
                "a page of the host is made of pages of the device"
            );
        }
        let users = Open::with(P::MAX_ASID.unwrap_or(A::PROFILE.max_asid)).users();
        if parts.seats.len() > usize::from(users) {
            return Err(BringUpError::TooManySeats { users });
        }
        if let (Some(default), true) =
            (&A::PROFILE.dram.default_page, parts.options.default_mapping)
        {
            fill(&mut parts.scrubber, default)?;
        }
        let table: TableOf<A, P> = new_table(parts.tables)?;
        let privileged_root = (Asid::PRIVILEGED, table.root());
        let addresses = new_addresses::<A, P>(parts.privileged, Table::Privileged);
        let (addresses, _) = addresses.map_err(BringUpError::Addresses)?;
        let space = Space::new(table, addresses);
        let dram_tables = dram_mmu.as_ref().map(|(tables, _)| *tables);
        let dram_table = dram_tables.map(new_table).transpose()?;
        let asids = (1..=u16::MAX).map_while(UserAsid::new);
        for (seat, asid) in parts.seats.iter_mut().zip(asids) {
            let host = new_table(parts.tables)?;
            let dram = dram_tables.map(new_table).transpose()?;
            seat.begin(asid, Tables { host, dram });
        }
        let parking: TableOf<A, P> = new_table(parts.tables)?;
        let mut mmu = mmu(parking.root());
        let roots = parts.seats.iter().filter_map(Seat::root);
        start(&mut mmu, core::iter::once(privileged_root).chain(roots))?;
        let dram_mmu = match (dram_mmu, dram_table) {
            (Some((tables, make)), Some(privileged)) => {
                let parking = new_table(tables)?;
                let mut driver = make(parking.root());
                let roots = parts.seats.iter().filter_map(Seat::dram_root);
                let root = (Asid::PRIVILEGED, privileged.root());
                if let Err(error) = start(&mut driver, core::iter::once(root).chain(roots)) {
                    // The first error is the one that counts.
                    let _ = mmu.disable();
                    return Err(error);
                }
                let dram_mmu = DramMmu {
                    driver,
                    parking,
                    forgot: 0,
                    privileged,
                };
                Some(Locked::new(LockRank::DramMmu, dram_mmu))
            }
            _ => None,
        };
        let identity = Identity::new();
        let device = Self {
            identity,
            host: parts.host,
            engines: parts.engines,
            mmu: Locked::new(
                LockRank::HostMmu,
                HostMmu {
                    driver: mmu,
                    parking,
                    opened: 0,
                    forgot: 0,
                },
            ),
            dram_mmu,
            shown: Locked::new(
                LockRank::Buffers,
                Shown {
                    buffers: Buffers::new(parts.buffers, parts.options.views, identity),
                    register_views: 0,
                },
            ),
            privileged: Locked::new(
                LockRank::Space,
                PrivilegedSpace {
                    space,
                    windows: [None, None],
                },
            ),
            removals: Locked::new(LockRank::Removals, Removals::new(0)),
            seats: parts.seats,
            options: parts.options,
            dram: Locked::new(LockRank::Dram, parts.dram),
            scrubber: Locked::new(LockRank::Scrubber, parts.scrubber),
            standing: Standing::works(),
            resets: AtomicU32::new(0),
        };
        Ok((device, Self::privilege(identity)))
    }

    /// Brings the MMU back after a reset of the device, which may have wiped its memory: writes the
    /// root tables anew, enables the MMU, and confirms that nothing of before is cached. `content` is what
    /// the reset left in the device's memory:
    ///
    /// * [`DramContent::Unknown`]: every free page is scrubbed before its next use, and packs of before are
    ///   of no use to anybody ([`PackError::Lost`](crate::dram::PackError::Lost)) but to be freed;
    /// * [`DramContent::Scrubbed`]: nothing of anybody's that was not there before. Pages that were clean
    ///   are so still: the reset kept the memory, or overwrote all of it. Others are scrubbed even so,
    ///   since a peer on the bus may have written to them after it.
    ///
    /// From [`note_lost`](Self::note_lost) until this succeeds every operation that needs the device fails,
    /// and what it would have released stays in quarantine; without that call, from the beginning of this
    /// one. Afterwards nothing is mapped: the addresses of contexts and buffers that outlived the reset
    /// lead nowhere, and what such a context is asked for is refused for ever. Close the contexts, destroy
    /// the buffers, and open new ones. Users are told: wake readers that sleep afterwards, whether or not
    /// this succeeds.
    ///
    /// # Errors
    ///
    /// The device stays lost; try again after another reset.
    ///
    /// * [`BringUpError::DeviceLost`], also where that was [noted](Self::note_lost) meanwhile;
    /// * [`BringUpError::Mmu`];
    /// * [`BringUpError::DefaultPage`].
    pub fn recover(&self, content: DramContent) -> Result<(), BringUpError> {
        let begun = self.note_reset();
        if content == DramContent::Unknown {
            self.dram.lock().lose_content();
        }
        if let Some(default) = self.default_page() {
            fill(&mut *self.scrubber.lock(), default)?;
        }
        // In this order: a block that is being mapped keeps nobody from the MMU.
        let mut privileged = self.privileged.lock();
        let mut mmu = self.mmu.lock();
        let HostMmu {
            driver,
            parking,
            forgot,
            ..
        } = &mut *mmu;
        let from = self.standing.go_on(begun);
        // Known before the first table is wiped, to whoever takes the MMU's lock after this.
        let resets = self.resets().wrapping_add(1);
        self.resets.store(resets, Ordering::Relaxed);
        privileged.space.wipe(&self.removals, resets);
        let root = privileged.space.table().root();
        self.seats.iter().for_each(Seat::wipe);
        let roots = self.seats.iter().filter_map(Seat::root);
        let roots = core::iter::once((Asid::PRIVILEGED, root)).chain(roots);
        restart(driver, parking, roots)?;
        *forgot = resets;
        if let Some(dram_mmu) = self.dram_mmu() {
            let mut dram_mmu = dram_mmu.lock();
            let DramMmu {
                driver,
                parking,
                forgot,
                privileged,
            } = &mut *dram_mmu;
            drop(privileged.wipe());
            let roots = self.seats.iter().filter_map(Seat::dram_root);
            let root = (Asid::PRIVILEGED, privileged.root());
            restart(driver, parking, core::iter::once(root).chain(roots))?;
            *forgot = resets;
        }
        let mut forgotten = Seen {
            driver: &mut *driver,
            resets,
            forgotten: true,
        };
        for seat in &*self.seats {
            seat.note_rooted(&mut forgotten);
        }
        let works = self.standing.end(from);
        self.tell();
        if !works {
            return Err(BringUpError::DeviceLost);
        }
        // The lock of the space was held since it was wiped: what waits was removed before that, and
        // the MMU has said that it has forgotten it.
        let waiting = self.removals.lock().waiting();
        if let Some(batch) = waiting {
            // Where the device is gone again, it stays in quarantine until the next time.
            let _ = settle(forgotten, &self.removals, batch);
        }
        drop(mmu);
        drop(privileged);
        self.release_quarantined();
        Ok(())
    }
}

/// Which part of an address space addresses are for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Table {
    /// The privileged space.
    Privileged,
    /// A user's space.
    User,
}

/// Addresses, and apart from them those of device memory that has tables of its own.
type AddressesOf<P> = (
    Addresses<<P as Port>::Nodes>,
    Option<Addresses<<P as Port>::Nodes>>,
);

/// The addresses of a space, none of them in use; and apart from them those of device memory, where
/// that has tables of its own.
pub(crate) fn new_addresses<A: Asic, P: Port>(
    nodes: SpaceNodes<P>,
    table: Table,
) -> Result<AddressesOf<P>, LayoutError> {
    let profile = A::PROFILE;
    let small = VaAllocator::new(nodes.small, &profile.host.layout())?;
    let large = match &profile.large_host {
        LargeHost::Own(range) => Some(VaAllocator::new(nodes.large, &range.layout())?),
        LargeHost::Shared => None,
    };
    let dram = match &profile.dram.mapped_at {
        Some(range) if table == Table::User => Some(VaAllocator::new(nodes.dram, &range.layout())?),
        _ => None,
    };
    let (dram, apart) = if profile.one_table {
        (dram, None)
    } else {
        (None, dram)
    };
    let large_leaf = profile.large_host_range().large_bytes;
    let apart = apart.map(|small| Addresses {
        small,
        large: None,
        dram: None,
        large_leaf: 0,
    });
    Ok((
        Addresses {
            small,
            large,
            dram,
            large_leaf,
        },
        apart,
    ))
}

/// Fills the page for stray accesses.
fn fill<S: Scrub>(scrubber: &mut S, default: &DefaultPage) -> Result<(), BringUpError> {
    let filled = scrubber.fill(default.page, default.fill);
    filled.map_err(|_| BringUpError::DefaultPage)
}

/// A new page table, whose root is the next table of a pool.
fn new_table<F: Format, M: TableMemory>(memory: M) -> Result<PageTable<F, M>, BringUpError> {
    PageTable::new(memory)?.ok_or(BringUpError::NoTableMemory)
}

/// Enables an MMU and gives each ASID its root; leaves the MMU disabled where that fails.
fn start<U: MmuControl>(
    mmu: &mut U,
    mut roots: impl Iterator<Item = (Asid, BusAddr)>,
) -> Result<(), BringUpError> {
    mmu.enable().map_err(BringUpError::Mmu)?;
    roots
        .try_for_each(|(asid, root)| mmu.set_root(asid, root))
        .map_err(|error| {
            // The first error is the one that counts.
            let _ = mmu.disable();
            BringUpError::Mmu(error)
        })
}

/// Brings an MMU back after a reset. The root tables are written anew already.
fn restart<F: Format, M: TableMemory, U: MmuControl>(
    mmu: &mut U,
    parking: &mut PageTable<F, M>,
    roots: impl Iterator<Item = (Asid, BusAddr)>,
) -> Result<(), BringUpError> {
    let _ = mmu.disable();
    // Nothing was ever mapped there: what is removed is empty.
    drop(parking.wipe());
    // One flush for all roots: the MMU must not find what was there before.
    parking.flush()?;
    start(mmu, roots)?;
    mmu.invalidate_all().map_err(BringUpError::Mmu)
}
