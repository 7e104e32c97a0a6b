//! Everything comparable of a machine at one moment.

use core::fmt;
use std::collections::BTreeMap;

use hl_mem::budget::Budget;
use hl_mem::context::ContextUsage;
use mmu_core::{BusAddr, DeviceAddr};

use crate::asic::{Asic, AsicKind};
use crate::extents::Extents;
use crate::host::{BUS_BASE, FRAME_SIZE, Frame, Host};
use crate::machine::{Machine, MachineContext, MachineCounters, Model};

/// Entries of a table.
const ENTRIES: u64 = 512;
/// What an entry has in its lowest bits where it points to a table (facts 2.1).
const PRESENT: u64 = 1;
/// The bit that makes a leaf of a present entry (facts 2.1).
const LAST: u64 = 1 << 11;
/// The bits of the address in an entry (facts 2.1).
const ADDRESS: u64 = !0xFFF;

/// Any device address that an MMU for device memory translates, where there is one (facts SC-2).
const DEVICE_MEMORY: DeviceAddr = DeviceAddr::new(0x1001_0000_0000_0000);

/// The tables that an MMU finds from its roots, by their addresses: not what the driver has on
/// record of them, but what is in memory, as far as a device can see it.
pub type TableBytes = BTreeMap<BusAddr, Vec<u64>>;

/// Everything comparable of a machine at one moment: two that are equal are the same to every user
/// and to the device.
#[derive(Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Everything countable.
    pub counters: MachineCounters,
    /// What each of some contexts has in use.
    pub contexts: Vec<ContextUsage>,
    /// The device addresses of the privileged space.
    pub privileged: Extents,
    /// Those of each of some contexts.
    pub extents: Vec<Extents>,
    /// Pages charged to each of some budgets.
    pub charged: Vec<usize>,
    /// Pins of each page that has any.
    pub pins: BTreeMap<u32, u32>,
    /// Every table that an MMU finds, root tables included, with its entries.
    pub tables: TableBytes,
}

impl Snapshot {
    /// A machine, some of its contexts, and some budgets.
    #[must_use]
    pub fn of<A: Model>(
        machine: &Machine<'_, '_, A>,
        contexts: &[&MachineContext<'_, '_, '_, A>],
        budgets: &[&Budget],
    ) -> Self {
        Self {
            counters: machine.counters(),
            contexts: contexts.iter().map(|context| context.usage()).collect(),
            privileged: Extents::privileged(machine),
            extents: contexts
                .iter()
                .map(|context| Extents::of_context(context))
                .collect(),
            charged: budgets.iter().map(|budget| budget.charged()).collect(),
            pins: pins_of(&machine.host),
            tables: tables_of(&machine.asic, &machine.host),
        }
    }

    /// What differs from `before`, one line each; empty where nothing does.
    #[must_use]
    pub fn difference(&self, before: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        let pairs = before.counters.named().into_iter();
        for ((label, old), (_, new)) in pairs.zip(self.counters.named()) {
            if old != new {
                lines.push(format!("{label}: {old} -> {new}"));
            }
        }
        if self.counters != before.counters && lines.is_empty() {
            lines.push(format!("{:?} -> {:?}", before.counters, self.counters));
        }
        if self.contexts != before.contexts {
            lines.push(format!("{:?} -> {:?}", before.contexts, self.contexts));
        }
        let privileged = self.privileged.differences(&before.privileged);
        lines.extend(privileged.iter().map(|line| format!("privileged: {line}")));
        for (now, before) in self.extents.iter().zip(&before.extents) {
            lines.extend(now.differences(before));
        }
        if self.charged != before.charged {
            lines.push(format!(
                "charged: {:?} -> {:?}",
                before.charged, self.charged
            ));
        }
        if self.pins != before.pins {
            lines.push(format!(
                "pins by page: {:?} -> {:?}",
                before.pins, self.pins
            ));
        }
        for (address, entries) in &before.tables {
            match self.tables.get(address) {
                None => lines.push(format!("table {address} is not reached any more")),
                Some(now) => {
                    for (index, (old, new)) in entries.iter().zip(now).enumerate() {
                        if old != new {
                            lines.push(format!("{address}[{index:#x}]: {old:#x} -> {new:#x}"));
                        }
                    }
                }
            }
        }
        for address in self.tables.keys() {
            if !before.tables.contains_key(address) {
                lines.push(format!("table {address} is new"));
            }
        }
        lines
    }

    /// The same [without dirt](MachineCounters::without_dirt).
    #[must_use]
    pub fn without_dirt(mut self) -> Self {
        self.counters = self.counters.without_dirt();
        self
    }

    /// The same without the addresses in leaves: which pages the host happened to hand out.
    #[must_use]
    pub fn without_pages(mut self) -> Self {
        for entry in self.tables.values_mut().flatten() {
            if *entry & LAST != 0 {
                *entry &= !ADDRESS;
            }
        }
        self
    }

    /// Checks that nothing differs from `before`.
    ///
    /// # Panics
    ///
    /// Where something does, which it names.
    #[track_caller]
    pub fn assert_is(&self, before: &Self, when: impl fmt::Display) {
        let difference = self.difference(before);
        assert!(difference.is_empty(), "{when}:\n{}", difference.join("\n"));
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("counters", &self.counters)
            .field("contexts", &self.contexts)
            .field("privileged", &self.privileged)
            .field("extents", &self.extents)
            .field("charged", &self.charged)
            .field("pins", &self.pins)
            .field("tables", &self.tables.keys())
            .finish()
    }
}

/// The pins of each page that has any.
fn pins_of(host: &Host) -> BTreeMap<u32, u32> {
    let mut left = host.counters().pins;
    let mut pins = BTreeMap::new();
    for number in 0..u32::MAX {
        let at = BusAddr::new(BUS_BASE.get() + u64::from(number) * FRAME_SIZE as u64);
        if left == 0 || host.frame_at(at).is_none() {
            break;
        }
        let count = host.pins(Frame(number));
        if count != 0 {
            left = left.saturating_sub(count.into());
            pins.insert(number, count);
        }
    }
    pins
}

/// Every table that an MMU of the device finds from the root of any address space, with the entries
/// that are in memory now. Nothing is flushed for it: what the driver has written and not pushed
/// to the device is not there.
#[must_use]
pub fn tables_of(asic: &Asic, host: &Host) -> TableBytes {
    let mut tables = TableBytes::new();
    let instances = match asic.config().kind {
        AsicKind::Gaudi2 => {
            let hmmu = asic.config().hmmu_enabled.trailing_zeros().min(15) as u8;
            vec![(DeviceAddr::new(0), 0), (DEVICE_MEMORY, hmmu)]
        }
        AsicKind::Goya | AsicKind::Gaudi => vec![(DeviceAddr::new(0), 0)],
    };
    for (address, hmmu) in instances {
        let mmu = asic.mmu_for(address, hmmu);
        let in_host = asic.config().kind == AsicKind::Gaudi2 && address != DEVICE_MEMORY;
        let read = |table: BusAddr| -> Option<Vec<u64>> {
            if in_host {
                let words = (0..ENTRIES).map(|index| BusAddr::new(table.get() + 8 * index));
                return words.map(|word| host.load_u64(word).ok()).collect();
            }
            let mut bytes = vec![0; 8 * ENTRIES as usize];
            let words = |bytes: &[u8]| {
                let words = bytes.as_chunks::<8>().0.iter();
                words.map(|word| u64::from_le_bytes(*word)).collect()
            };
            asic.peek(table, &mut bytes).then(|| words(&bytes))
        };
        for asid in 0..=crate::asic::MAX_ASID {
            let control = mmu.control(asid);
            let Some(root) = control.root else {
                break;
            };
            let mut next = vec![(BusAddr::new(root), 1)];
            while let Some((table, hops)) = next.pop() {
                if tables.contains_key(&table) {
                    continue;
                }
                let entries = read(table).unwrap_or_default();
                if hops < control.format.hops.len() {
                    let pointers = entries
                        .iter()
                        .filter(|entry| **entry & (PRESENT | LAST) == PRESENT);
                    next.extend(pointers.map(|entry| (BusAddr::new(entry & ADDRESS), hops + 1)));
                }
                tables.insert(table, entries);
            }
        }
    }
    tables
}
