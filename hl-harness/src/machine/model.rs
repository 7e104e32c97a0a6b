//! What each ASIC brings to a machine: the drivers of its MMUs, and tables in memory of its kind.

use std::sync::Arc;

use hl_mem::mmu::{Gaudi2DramMmu, Gaudi2HostMmu, GaudiMmu, GoyaMmu, Walks};
use hl_mem::profile::{Asic, Gaudi, Gaudi2, Goya};
use mmu_core::format::TABLE_BYTES;
use mmu_core::{
    BusAddr, ChildMap, DeviceTablePool, DeviceTableRecord, Region, ReuseOrder, TablePool,
    TableRecord,
};

use super::Lock;
use crate::asic::{self, AsicKind, HbmStacks};
use crate::host::Host;
use crate::log::{TableMemory, TablePools};
use crate::port::{AsicRegisters, DramTables, HostWord, HostWords};

/// The ASIDs that the machine's MMUs are driven with, the privileged one included.
pub(super) const ASIDS: usize = 8;

/// A pool of tables in device memory.
pub type DevicePool<'m> = DeviceTablePool<'m, DramTables, Lock>;
/// A pool of tables in host memory.
pub type HostPool<'m> = TablePool<'m, Region<'m, HostWord<'m>>, Lock>;

impl TablePools for DevicePool<'_> {
    fn used(&self, memory: TableMemory) -> u32 {
        match memory {
            TableMemory::Device => self.usage().used(),
            TableMemory::Host => 0,
        }
    }
}

/// Tables for host memory in memory of the host, and those for device memory.
struct Both<'p, 'm> {
    host: &'p HostPool<'m>,
    device: &'p dyn TablePools,
}

impl TablePools for Both<'_, '_> {
    fn used(&self, memory: TableMemory) -> u32 {
        match memory {
            TableMemory::Device => self.device.used(memory),
            TableMemory::Host => self.host.usage().used(),
        }
    }
}

/// An ASIC that there is a software model of.
pub trait Model: Asic + Sized {
    /// The model.
    const KIND: AsicKind;
    /// Its working HBM stacks; of no meaning where the ASIC has none.
    const STACKS: HbmStacks = HbmStacks::Six;
    /// The driver of the MMU that translates accesses to host memory.
    type Mmu: Walks<Self::HostFormat> + Send;
    /// The reference by which page tables share the pool of that MMU's tables.
    type Memory<'m>: mmu_core::TableMemory + Send + Sync;
    /// The driver of the MMU that translates accesses to device memory.
    type DramMmu: Walks<Self::DramFormat> + Send;
    /// The reference to the pool of that MMU's tables.
    type DramMemory<'m>: mmu_core::TableMemory + Send + Sync;

    /// Makes the MMU's driver.
    fn mmu(registers: AsicRegisters, parking: BusAddr) -> Self::Mmu;

    /// Makes the driver of the MMU for device memory.
    fn dram_mmu(registers: AsicRegisters, parking: BusAddr) -> Self::DramMmu;

    /// Builds a pool of `tables` tables, and another for device memory where that has its own, and
    /// calls `run` with them.
    fn with_tables<R>(
        asic: &Arc<asic::Asic>,
        host: &Arc<Host>,
        tables: u32,
        run: impl for<'m> FnOnce(
            &'m dyn TablePools,
            Self::Memory<'m>,
            Option<Self::DramMemory<'m>>,
        ) -> R,
    ) -> R;
}

/// Calls `run` with a pool in device memory, at the ASIC's own address (facts 2.2, 2.3).
fn with_device_tables<A: Asic, R>(
    asic: &Arc<asic::Asic>,
    tables: u32,
    run: impl for<'m> FnOnce(&'m dyn TablePools, &'m DevicePool<'m>) -> R,
) -> R {
    let address = A::PROFILE.device_tables.start();
    let bus = DramTables::new(asic, address).expect("the ASIC has its table memory");
    let mut records: Vec<_> = (0..tables).map(|_| DeviceTableRecord::new()).collect();
    // Enough that the tables, and not the maps of their children, are what runs out.
    let mut maps: Vec<_> = (0..tables).map(|_| ChildMap::new()).collect();
    let order = ReuseOrder::LastReleased;
    let pool = DeviceTablePool::new(bus, address, &mut records, &mut maps, order)
        .expect("the table memory is aligned");
    run(&pool, &pool)
}

macro_rules! v1_model {
    ($asic:ident, $mmu:ident) => {
        impl Model for $asic {
            const KIND: AsicKind = AsicKind::$asic;
            type Mmu = $mmu<AsicRegisters, ASIDS>;
            type Memory<'m> = &'m DevicePool<'m>;
            type DramMmu = Self::Mmu;
            type DramMemory<'m> = &'m DevicePool<'m>;

            fn mmu(registers: AsicRegisters, parking: BusAddr) -> Self::Mmu {
                $mmu::new(registers, Self::PROFILE.timeouts, parking)
            }

            fn dram_mmu(registers: AsicRegisters, parking: BusAddr) -> Self::DramMmu {
                Self::mmu(registers, parking)
            }

            fn with_tables<R>(
                asic: &Arc<asic::Asic>,
                _host: &Arc<Host>,
                tables: u32,
                run: impl for<'m> FnOnce(
                    &'m dyn TablePools,
                    &'m DevicePool<'m>,
                    Option<&'m DevicePool<'m>>,
                ) -> R,
            ) -> R {
                with_device_tables::<Self, R>(asic, tables, |tables, pool| run(tables, pool, None))
            }
        }
    };
}
v1_model!(Goya, GoyaMmu);
v1_model!(Gaudi, GaudiMmu);

impl<const STACKS: u64> Model for Gaudi2<STACKS> {
    const KIND: AsicKind = AsicKind::Gaudi2;
    const STACKS: HbmStacks = if STACKS == 5 {
        HbmStacks::Five
    } else {
        HbmStacks::Six
    };
    type Mmu = Gaudi2HostMmu<AsicRegisters, ASIDS>;
    type Memory<'m> = &'m HostPool<'m>;
    type DramMmu = Gaudi2DramMmu<AsicRegisters, STACKS, ASIDS>;
    type DramMemory<'m> = &'m DevicePool<'m>;

    fn mmu(registers: AsicRegisters, parking: BusAddr) -> Self::Mmu {
        Gaudi2HostMmu::new(registers, Self::PROFILE.timeouts, parking)
    }

    fn dram_mmu(registers: AsicRegisters, parking: BusAddr) -> Self::DramMmu {
        let functional = registers.asic().config().hmmu_enabled;
        Gaudi2DramMmu::new(registers, Self::PROFILE.timeouts, functional, parking)
            .expect("the ASIC has an MMU for device memory")
    }

    fn with_tables<R>(
        asic: &Arc<asic::Asic>,
        host: &Arc<Host>,
        tables: u32,
        run: impl for<'m> FnOnce(&'m dyn TablePools, &'m HostPool<'m>, Option<&'m DevicePool<'m>>) -> R,
    ) -> R {
        let memory = HostWords::new(host, tables as usize).expect("the host has room for tables");
        let words = memory.words();
        let mut records: Vec<_> = (0..tables).map(|_| TableRecord::new()).collect();
        let region = Region::new(&words, memory.address()).expect("frames are aligned");
        let pool = TablePool::new(region, &mut records, ReuseOrder::LastReleased)
            .expect("there is a record for each table");
        // All that the ASIC has for tables of device memory (facts 2.5).
        let device_tables = Self::PROFILE.device_tables.len() / TABLE_BYTES;
        with_device_tables::<Self, R>(asic, device_tables as u32, |device_tables, device_pool| {
            let both = Both {
                host: &pool,
                device: device_tables,
            };
            run(&both, &pool, Some(device_pool))
        })
    }
}
