//! One page table: mapping, unmapping and asking.

mod build;
mod dump;
mod map;
mod protect;
mod split;
mod unmap;
mod visit;

pub use map::MapOptions;
pub use visit::{MappedRun, Runs};

use core::cell::Cell;
use core::fmt;
use core::marker::PhantomData;

use crate::addr::{AddrRange, BusAddr, DeviceAddr};
use crate::error::QueryError;
use crate::format::{Entry, Format, Hop, TABLE_ENTRIES, deepest, geometry_is_sound};
use crate::memory::{Chain, DeviceLost, Slot, TableDemand, TableId, TableMemory};
use crate::removed::{Extent, Removed};

/// A page table of format `F` whose tables live in `M`, a reference to a pool.
///
/// Every change takes `&mut self`: put the page table behind the lock of its address space. Two
/// page tables over one pool need no common lock.
///
/// Dropping a page table leaks its tables, since a device may still walk them;
/// [`close`](Self::close) gives them back.
pub struct PageTable<F, M> {
    memory: M,
    root: TableId,
    /// The table most recently used for a leaf: consecutive calls mostly stay within one.
    recent: Cell<Recent>,
    /// Whether leaves were undone after the device could see them.
    has_undone: bool,
    /// Tables that were undone with them.
    undone: Chain,
    format: PhantomData<F>,
}

/// A table that is known to be linked for all walk addresses with this prefix at this hop.
#[derive(Clone, Copy)]
struct Recent {
    prefix: u64,
    hop: usize,
    table: TableId,
}

impl Recent {
    /// No table: there is no such hop.
    const NONE: Self = Self {
        prefix: 0,
        hop: usize::MAX,
        table: TableId::new(TableId::NONE),
    };
}

/// Where an address leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Translation<A> {
    /// The bus address of exactly the address that was asked for.
    pub bus: BusAddr,
    /// The addresses that the leaf maps.
    pub leaf: AddrRange<DeviceAddr>,
    /// The hop that the leaf is in.
    pub hop: Hop,
    /// The rights and properties stored with the leaf.
    pub attributes: A,
}

impl<F: Format, M: TableMemory> PageTable<F, M> {
    const GEOMETRY_IS_SOUND: () = assert!(
        geometry_is_sound::<F>(),
        "the hops of the format do not fit together"
    );

    /// An empty page table, with a root taken from `memory`; `None` when that has none left.
    ///
    /// # Errors
    ///
    /// [`DeviceLost`] when the root's entries cannot be seen to arrive. The root is then lost to
    /// the pool.
    pub fn new(memory: M) -> Result<Option<Self>, DeviceLost> {
        let () = Self::GEOMETRY_IS_SOUND;
        let Some(mut reserved) = memory.reserve(TableDemand {
            interior: 1,
            deepest: 0,
        }) else {
            return Ok(None);
        };
        let Some(root) = memory.take(&mut reserved, true) else {
            return Ok(None);
        };
        if !memory.is_zeroed(root) {
            memory.zero(root, 0, TABLE_ENTRIES);
        }
        memory.set_live(root, 0);
        memory.flush()?;
        Ok(Some(Self {
            memory,
            root,
            recent: Cell::new(Recent::NONE),
            has_undone: false,
            undone: Chain::EMPTY,
            format: PhantomData,
        }))
    }

    /// The bus address of the root, as it is programmed into the MMU.
    #[must_use]
    pub fn root(&self) -> BusAddr {
        BusAddr::new(self.memory.address(self.root))
    }

    /// Whether nothing is mapped.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.memory.live(self.root) == 0
    }

    /// Where `address` leads.
    ///
    /// # Errors
    ///
    /// * [`QueryError::OutOfRange`] when the format cannot translate it;
    /// * [`QueryError::NotMapped`] when nothing is mapped there;
    /// * [`QueryError::Corrupt`] when an entry points out of the pool.
    #[inline]
    pub fn query(&self, address: DeviceAddr) -> Result<Translation<F::Attributes>, QueryError> {
        let walk = F::walk_address(address).ok_or(QueryError::OutOfRange { at: address })?;
        let (hop, table) = self.leaf_table(walk, address)?;
        let geometry = F::HOPS[hop];
        let index = geometry.index(walk);
        let entry = self.memory.entry(table, index);
        match F::decode(Hop::from_index(hop), entry) {
            Entry::Leaf {
                address: leaf,
                attributes,
            } => {
                let offset_mask = geometry.entry_span() - 1;
                let start = F::device_address(walk & !offset_mask);
                Ok(Translation {
                    bus: F::bus_address((leaf & !offset_mask) | (walk & offset_mask)),
                    // A leaf never crosses the end of the address space.
                    leaf: AddrRange::new(start, F::device_len(geometry.entry_span()))
                        .ok_or(QueryError::OutOfRange { at: address })?,
                    hop: Hop::from_index(hop),
                    attributes,
                })
            }
            _ => Err(QueryError::NotMapped { at: address }),
        }
    }

    /// The hop and the table of the slot in which the walk of `walk` ends with a leaf or nothing.
    #[inline(always)]
    fn leaf_table(&self, walk: u64, address: DeviceAddr) -> Result<(usize, TableId), QueryError> {
        let recent = self.recent.get();
        if recent.hop == deepest::<F>() && F::HOPS[deepest::<F>()].prefix(walk) == recent.prefix {
            return Ok((recent.hop, recent.table));
        }
        let mut table = self.root;
        let mut hop = 0;
        while hop < deepest::<F>() {
            let index = F::HOPS[hop].index(walk);
            match self.memory.slot::<F>(table, Hop::from_index(hop), index) {
                Slot::Table(child) => table = child,
                Slot::Leaf => return Ok((hop, table)),
                Slot::Empty => return Err(QueryError::NotMapped { at: address }),
                Slot::Foreign => return Err(QueryError::Corrupt { at: address }),
            }
            hop += 1;
        }
        self.recent.set(Recent {
            prefix: F::HOPS[hop].prefix(walk),
            hop,
            table,
        });
        Ok((hop, table))
    }

    /// Takes the page table apart: everything it maps, all its tables and the root.
    ///
    /// Needs no memory and cannot fail.
    pub fn close(mut self) -> Removed<M> {
        let mut removed = self.sweep_all();
        let mut tables = Chain::EMPTY;
        self.memory.append(&mut tables, self.root, true);
        let root = Removed::new(self.memory, self.root(), Extent::Everything, tables);
        // Both are of this page table, so the join cannot be refused.
        let _ = removed.absorb(root);
        removed
    }
}

impl<F: Format, M: TableMemory> fmt::Debug for PageTable<F, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PageTable<{}>(root at {}, ", F::NAME, self.root())?;
        write!(f, "{} root entries live)", self.memory.live(self.root))
    }
}
