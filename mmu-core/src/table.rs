//! One page table: mapping, unmapping and asking.

mod build;
mod default;
mod dump;
mod list;
mod map;
mod map_table;
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
use crate::format::{Entry, Format, Hop, TABLE_ENTRIES, deepest, geometry_is_sound, geometry_of};
use crate::memory::{Chain, DeviceLost, INSIDE, Slot, TableMemory};
use crate::removed::{Extent, Removed};

/// A page table of format `F` whose tables live in `M`, a reference to a pool.
///
/// Every change takes `&mut self`: put the page table behind the lock of its address space. Two
/// page tables over one pool need no common lock.
///
/// Dropping a page table leaks its tables, since a device may still walk them;
/// [`close`](Self::close) gives them back.
pub struct PageTable<F, M: TableMemory> {
    memory: M,
    root: M::Table,
    /// The table of the deepest hop that was used last: consecutive calls mostly stay within it.
    recent: Cell<Recent<M::Table>>,
    /// The table of the hop above that was used last, which covers 512 times as much.
    recent_parent: Cell<Recent<M::Table>>,
    /// Whether leaves were undone after the device could see them.
    has_undone: bool,
    /// Tables that were undone with them.
    undone: Chain,
    /// The default mapping.
    backing: Option<default::Backing>,
    /// No value of a format is kept, so whether one could be sent to a thread is of no matter.
    format: PhantomData<fn() -> F>,
}

/// A table that is known to be linked for all addresses whose keys ([`Format::key`]) have this
/// prefix.
///
/// Hardware has the same caches, for the same reason: without them a call for one page is mostly
/// a walk through the upper hops. They hold while the table stays linked; whatever unlinks tables
/// calls [`forget`](PageTable::forget).
#[derive(Clone, Copy)]
struct Recent<T> {
    prefix: u64,
    table: T,
}

impl<T: Copy> Recent<T> {
    /// The table of `hop` that the address with this key uses.
    #[inline(always)]
    fn of<F: Format>(hop: usize, key: u64, table: T) -> Self {
        let prefix = geometry_of::<F>(hop).prefix(key);
        Self { prefix, table }
    }

    /// The table, where it is that of `hop` which the address with this key uses.
    #[inline(always)]
    fn table_for<F: Format>(self, hop: usize, key: u64) -> Option<T> {
        (self.prefix == geometry_of::<F>(hop).prefix(key)).then_some(self.table)
    }

    /// No table: prefixes have fewer bits than this. The table is any.
    const fn none(table: T) -> Self {
        Self {
            prefix: u64::MAX,
            table,
        }
    }
}

/// Where a walk ends: the deepest table that exists and that all addresses of a range use.
struct Stop<T> {
    table: T,
    hop: usize,
    /// What the slot says that all of them use there: no table. `None` where they use several.
    slot: Option<Slot<T>>,
}

/// What is known of a table of the deepest hop.
enum Nearby<T> {
    /// It is this one.
    Table(T),
    /// There is none, and this table of the hop above has an empty slot for it.
    Room(T),
    /// There is none, and it takes more than that.
    Nothing,
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

/// What a slot holds, for the loops that ask for it once for each table: one function for them all.
#[inline(never)]
fn slot_at<F: Format, M: TableMemory>(
    memory: M,
    table: M::Table,
    hop: usize,
    index: usize,
) -> Slot<M::Table> {
    memory.slot::<F>(table, Hop::from_index(hop), index)
}

/// Points a slot at a table which, with all below it, is complete. Where the slot can be `seen`, a
/// device that walks meanwhile finds nothing or all of it.
#[inline(always)]
fn link<F: Format, M: TableMemory>(
    memory: M,
    (parent, hop, index): (M::Table, usize, usize),
    table: M::Table,
    seen: bool,
) {
    if seen {
        memory.publish();
    }
    let entry = F::table_entry(Hop::from_index(hop), memory.address(table));
    memory.write_table(parent, index, entry, table);
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
        let Some(root) = memory.take_one(true, INSIDE) else {
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
            recent: Cell::new(Recent::none(root)),
            recent_parent: Cell::new(Recent::none(root)),
            has_undone: false,
            undone: Chain::EMPTY,
            backing: None,
            format: PhantomData,
        }))
    }

    /// The bus address of the root, as it is programmed into the MMU.
    #[must_use]
    pub fn root(&self) -> BusAddr {
        BusAddr::new(self.memory.address(self.root))
    }

    /// Waits until everything written so far has arrived in table memory.
    ///
    /// # Errors
    ///
    /// [`DeviceLost`] when that cannot be known.
    pub fn flush(&self) -> Result<(), DeviceLost> {
        self.memory.flush()
    }

    /// Whether nothing is mapped, not even by default.
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
    // Inlined whole, so that a caller who wants the bus address alone pays for that alone.
    #[inline(always)]
    pub fn query(&self, address: DeviceAddr) -> Result<Translation<F::Attributes>, QueryError> {
        let key = F::key(address).ok_or(QueryError::OutOfRange { at: address })?;
        match self.known_table(key) {
            Some(table) => self.translation(table, deepest::<F>(), key, address),
            None => self.query_walk(address),
        }
    }

    /// A query that must walk further or that ends above the deepest hop.
    #[inline(never)]
    fn query_walk(&self, address: DeviceAddr) -> Result<Translation<F::Attributes>, QueryError> {
        let walk = F::walk_address(address).ok_or(QueryError::OutOfRange { at: address })?;
        let stop = self.walk(walk, walk);
        if let Some(Slot::Foreign) = stop.slot {
            return Err(QueryError::Corrupt { at: address });
        }
        self.translation(stop.table, stop.hop, walk, address)
    }

    /// The table of the deepest hop that the address with this key uses, where that or the one above
    /// was used last.
    ///
    /// A smaller [`deepest_table`](Self::deepest_table): where this one finds nothing, it does not
    /// say why, which costs the likely way a third of its instructions.
    #[inline(always)]
    fn known_table(&self, key: u64) -> Option<M::Table> {
        let hop = deepest::<F>();
        if let Some(table) = self.recent.get().table_for::<F>(hop, key) {
            return Some(table);
        }
        let parent = self.recent_parent.get().table_for::<F>(hop - 1, key)?;
        let index = geometry_of::<F>(hop - 1).index(key);
        let above = Hop::from_index(hop - 1);
        let table = self.memory.linked::<F>(parent, above, index)?;
        self.recent.set(Recent::of::<F>(hop, key, table));
        Some(table)
    }

    /// What the slot of `table` says that `walk` uses, the walk address of `address` or its key.
    #[inline(always)]
    fn translation(
        &self,
        table: M::Table,
        hop: usize,
        walk: u64,
        address: DeviceAddr,
    ) -> Result<Translation<F::Attributes>, QueryError> {
        let geometry = geometry_of::<F>(hop);
        let index = geometry.index(walk);
        // Where memory knows default leaves, it tells them from others without a look at the entry.
        if M::HAS_DEFAULTS
            && let Slot::Default = self.memory.slot::<F>(table, Hop::from_index(hop), index)
        {
            return Err(QueryError::NotMapped { at: address });
        }
        let entry = self.memory.entry(table, index);
        let Entry::Leaf {
            address: leaf,
            attributes,
        } = F::decode(Hop::from_index(hop), entry)
        else {
            return Err(QueryError::NotMapped { at: address });
        };
        let offset_mask = geometry.offset_mask();
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

    /// Whether there is a table of the deepest hop that `address` uses, which has this key, or room
    /// for one.
    #[inline(always)]
    fn deepest_table(&self, address: DeviceAddr, key: u64) -> Nearby<M::Table> {
        let hop = deepest::<F>();
        if let Some(table) = self.recent.get().table_for::<F>(hop, key) {
            return Nearby::Table(table);
        }
        let Some(parent) = self.parent_table(address, key) else {
            return Nearby::Nothing;
        };
        let index = geometry_of::<F>(hop - 1).index(key);
        match self
            .memory
            .slot::<F>(parent, Hop::from_index(hop - 1), index)
        {
            Slot::Table(table) => {
                self.recent.set(Recent::of::<F>(hop, key, table));
                Nearby::Table(table)
            }
            Slot::Empty => Nearby::Room(parent),
            Slot::Leaf | Slot::Default | Slot::Foreign => Nearby::Nothing,
        }
    }

    /// The table of the last hop but one that `address` uses, which has this key.
    #[inline(always)]
    fn parent_table(&self, address: DeviceAddr, key: u64) -> Option<M::Table> {
        let hop = deepest::<F>() - 1;
        let known = || self.recent_parent.get().table_for::<F>(hop, key);
        known().or_else(|| {
            self.remember(address)?;
            known()
        })
    }

    /// Walks as far as there are tables for `address`, to remember the last two; `None` where the
    /// format cannot translate it.
    #[inline(never)]
    fn remember(&self, address: DeviceAddr) -> Option<()> {
        let walk = F::walk_address(address)?;
        self.walk(walk, walk);
        Some(())
    }

    /// Walks to the deepest table that exists and that all addresses from `first` to `last` use,
    /// and remembers the last two on the way.
    #[inline(never)]
    fn walk(&self, first: u64, last: u64) -> Stop<M::Table> {
        let (mut table, mut hop) = self.nearest(first, last);
        loop {
            let geometry = geometry_of::<F>(hop);
            let index = geometry.index(first);
            let slot = (index == geometry.index(last))
                .then(|| slot_at::<F, M>(self.memory, table, hop, index));
            let Some(Slot::Table(child)) = slot else {
                return Stop { table, hop, slot };
            };
            table = child;
            hop += 1;
            let recent = Recent::of::<F>(hop, F::walk_key(first), table);
            if hop == deepest::<F>() {
                self.recent.set(recent);
            } else if hop + 1 == deepest::<F>() {
                self.recent_parent.set(recent);
            }
        }
    }

    /// The deepest table that is known, without a look at any, to be used by all walk addresses from
    /// `first` to `last`.
    #[inline(always)]
    fn nearest(&self, first: u64, last: u64) -> (M::Table, usize) {
        let hop = deepest::<F>();
        let known = |hop: usize, recent: &Cell<Recent<M::Table>>| {
            let shares = (first ^ last) & !geometry_of::<F>(hop).table_mask() == 0;
            let table = recent.get().table_for::<F>(hop, F::walk_key(first));
            table.filter(|_| shares)
        };
        if let Some(table) = known(hop, &self.recent) {
            (table, hop)
        } else if let Some(table) = known(hop - 1, &self.recent_parent) {
            (table, hop - 1)
        } else {
            (self.root, 0)
        }
    }

    /// Forgets which tables were used last, since some table is unlinked.
    fn forget(&self) {
        self.recent.set(Recent::none(self.root));
        self.recent_parent.set(Recent::none(self.root));
    }

    /// Takes the page table apart: everything it maps, by default or not, all its tables and the
    /// root.
    ///
    /// Needs no memory and cannot fail.
    pub fn close(mut self) -> Removed<M> {
        self.backing = None;
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
