//! The tables, written out for people.

use core::fmt;

use super::PageTable;
use crate::addr::BusAddr;
use crate::format::{Entry, Format, Hop, geometry_of};
use crate::memory::{BACKED, Slot, TableMemory};

impl<F: Format, M: TableMemory> PageTable<F, M> {
    /// Writes the tables out for people to read: for each entry in use its hop, index, value and
    /// meaning, below the entry of the table that it is in. Leaves that continue each other share
    /// a line.
    ///
    /// The text is for reading only; its form may change.
    pub fn dump(&self) -> impl fmt::Display {
        Dump(self)
    }
}

struct Dump<'t, F, M: TableMemory>(&'t PageTable<F, M>);

/// Leaves of one table that continue each other.
#[derive(Clone, Copy)]
struct Leaves<A> {
    first_index: usize,
    count: usize,
    /// The first of them, as it is in the table.
    entry: u64,
    walk: u64,
    address: u64,
    attributes: A,
}

impl<F: Format, M: TableMemory> fmt::Display for Dump<'_, F, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let root = self.0.root;
        write!(f, "{}, root table at {}, ", F::NAME, self.0.root())?;
        self.usage(f, root, 0)?;
        self.table(f, root, 0, 0)
    }
}

impl<F: Format, M: TableMemory> Dump<'_, F, M> {
    fn usage(&self, f: &mut fmt::Formatter<'_>, table: M::Table, hop: usize) -> fmt::Result {
        let live = self.0.memory.live(table) & !BACKED;
        let slots = geometry_of::<F>(hop).slots();
        writeln!(f, "{live} of {slots} entries in use")
    }

    /// Writes the entries of the table of `hop` whose first slot is that of `walk`.
    fn table(
        &self,
        f: &mut fmt::Formatter<'_>,
        table: M::Table,
        hop: usize,
        walk: u64,
    ) -> fmt::Result {
        let memory = self.0.memory;
        let number = Hop::from_index(hop);
        let geometry = geometry_of::<F>(hop);
        let mut pending: Option<Leaves<F::Attributes>> = None;
        let mut defaults = 0;
        for index in 0..geometry.slots() {
            let slot = memory.slot::<F>(table, number, index);
            let walk = geometry.slot_start(walk, 0, index);
            if matches!(slot, Slot::Default) {
                defaults += 1;
                continue;
            }
            if matches!(slot, Slot::Leaf) {
                let leaf = self.leaf(table, hop, index, walk);
                match (&mut pending, leaf) {
                    (Some(leaves), Some(leaf)) if Self::continues(leaves, &leaf, hop) => {
                        leaves.count += 1;
                    }
                    _ => {
                        self.leaves(f, hop, pending)?;
                        pending = leaf;
                    }
                }
                continue;
            }
            self.leaves(f, hop, pending.take())?;
            let at = F::device_address(walk);
            match slot {
                Slot::Table(child) => {
                    line_start(f, hop, index, 1, memory.entry(table, index))?;
                    let address = BusAddr::new(memory.address(child));
                    write!(f, "{at}: table at {address}, ")?;
                    self.usage(f, child, hop + 1)?;
                    self.table(f, child, hop + 1, walk)?;
                }
                Slot::Foreign => {
                    line_start(f, hop, index, 1, memory.entry(table, index))?;
                    writeln!(f, "{at}: points out of the pool")?;
                }
                Slot::Empty | Slot::Default | Slot::Leaf => {}
            }
        }
        self.leaves(f, hop, pending)?;
        if defaults != 0 {
            writeln!(f, "{:1$}{defaults} default entries", "", 2 * hop)?;
        }
        Ok(())
    }

    fn leaf(
        &self,
        table: M::Table,
        hop: usize,
        index: usize,
        walk: u64,
    ) -> Option<Leaves<F::Attributes>> {
        let entry = self.0.memory.entry(table, index);
        match F::decode(Hop::from_index(hop), entry) {
            Entry::Leaf {
                address,
                attributes,
            } => Some(Leaves {
                first_index: index,
                count: 1,
                entry,
                walk,
                address,
                attributes,
            }),
            _ => None,
        }
    }

    fn continues(leaves: &Leaves<F::Attributes>, leaf: &Leaves<F::Attributes>, hop: usize) -> bool {
        let len = (leaves.count as u64) << geometry_of::<F>(hop).shift;
        leaves.first_index + leaves.count == leaf.first_index
            && leaves.address.wrapping_add(len) == leaf.address
            && leaves.attributes == leaf.attributes
    }

    fn leaves(
        &self,
        f: &mut fmt::Formatter<'_>,
        hop: usize,
        leaves: Option<Leaves<F::Attributes>>,
    ) -> fmt::Result {
        let Some(leaves) = leaves else {
            return Ok(());
        };
        let geometry = geometry_of::<F>(hop);
        line_start(f, hop, leaves.first_index, leaves.count, leaves.entry)?;
        let at = F::device_address(leaves.walk);
        let bus = F::bus_address(leaves.address & !geometry.offset_mask());
        let bytes = F::device_len(geometry.entry_span());
        write!(f, "{at}: {} x {bytes:#x} bytes to {bus}", leaves.count)?;
        if size_of::<F::Attributes>() != 0 {
            write!(f, ", {:?}", leaves.attributes)?;
        }
        writeln!(f)
    }
}

/// Writes what all lines begin with, set in by the hop.
fn line_start(
    f: &mut fmt::Formatter<'_>,
    hop: usize,
    index: usize,
    count: usize,
    entry: u64,
) -> fmt::Result {
    write!(f, "{:1$}", "", 2 * hop)?;
    if count == 1 {
        write!(f, "hop {hop} [{index:#05x}]")?;
    } else {
        write!(f, "hop {hop} [{index:#05x}..={:#05x}]", index + count - 1)?;
    }
    write!(f, " {entry:#018x} at ")
}
