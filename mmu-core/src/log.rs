//! `defmt::Format` for the types whose fields are not for everyone: what there is of each to say in
//! a line. Everything else derives it.

use defmt::{Format, Formatter, write};
use lock_api::RawMutex;

use crate::device::{DeviceTable, DeviceTablePool};
use crate::memory::{TableId, TableMemory};
use crate::pool::{PoolTable, Region, TableArena, TablePool, TableWord};
use crate::regions::Regions;
use crate::table::PageTable;

impl<F: crate::Format, M: TableMemory> Format for PageTable<F, M> {
    fn format(&self, f: Formatter<'_>) {
        let is_empty = self.is_empty();
        write!(
            f,
            "{=str}, root {}, empty: {=bool}",
            F::NAME,
            self.root(),
            is_empty
        );
    }
}

impl<W> Format for PoolTable<'_, W> {
    fn format(&self, f: Formatter<'_>) {
        write!(f, "table {=u32}", self.number().number());
    }
}

impl Format for DeviceTable<'_> {
    fn format(&self, f: Formatter<'_>) {
        write!(f, "table {=u32}", self.number().number());
    }
}

impl<A: TableArena, R: RawMutex> Format for TablePool<'_, A, R> {
    fn format(&self, f: Formatter<'_>) {
        write!(f, "table pool, {}", self.usage());
    }
}

impl<B, R: RawMutex> Format for DeviceTablePool<'_, B, R> {
    fn format(&self, f: Formatter<'_>) {
        let (tables, maps) = (self.usage(), self.map_usage());
        write!(
            f,
            "device table pool, tables {}, child maps {}",
            tables, maps
        );
    }
}

impl<W: TableWord> Format for Region<'_, W> {
    fn format(&self, f: Formatter<'_>) {
        let address = self.address(TableId::new(0));
        write!(f, "{=u32} tables at {}", self.capacity(), address);
    }
}

impl<const N: usize, W: TableWord> Format for Regions<'_, N, W> {
    fn format(&self, f: Formatter<'_>) {
        write!(f, "{=u32} tables in {=usize} regions", self.capacity(), N);
    }
}
