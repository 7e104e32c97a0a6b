//! Reading the page tables of a [`State`] by address, with the device's own description of them.

use std::collections::HashMap;

use mmu_core::{BusAddr, DeviceAddr};

use super::state::{BusExtent, Extent, MmuState, State, TableState};
use crate::asic::format::{Format, SCRAMBLED_END, SCRAMBLED_START, Scrambling};
use crate::asic::walker::{Decoded, decode};
use crate::asic::{AsicKind, FaultReason, MmuInstance};
use crate::log::TableMemory;

/// Which memory the tables of an MMU lie in.
pub(crate) const fn memory_of(instance: MmuInstance) -> TableMemory {
    match instance {
        MmuInstance::Pmmu => TableMemory::Host,
        MmuInstance::Single | MmuInstance::Hmmu(_) => TableMemory::Device,
    }
}

/// The tables of a state, found by address.
#[derive(Debug)]
pub(crate) struct Tables<'s> {
    by_address: HashMap<(TableMemory, u64), &'s TableState>,
    scrambling: Scrambling,
}

/// What an entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    Table(BusAddr),
    Leaf(BusAddr),
    /// It is present and breaks the format.
    Malformed,
}

/// An entry that is present, with its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) index: u16,
    pub(crate) raw: u64,
    pub(crate) entry: Entry,
    /// The first walked address that uses it.
    pub(crate) walked: u64,
}

/// A leaf, with what it maps to where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leaf {
    pub(crate) hop: u8,
    pub(crate) device: Extent,
    /// As initiators use it: not scrambled.
    pub(crate) bus: BusExtent,
}

impl<'s> Tables<'s> {
    pub(crate) fn of(state: &'s State) -> Self {
        let place = |table: &'s TableState| ((table.memory, table.address.get()), table);
        Self {
            by_address: state.tables.iter().map(place).collect(),
            scrambling: Scrambling::new(state.asic.hbm_stacks),
        }
    }

    pub(crate) fn scrambling(&self) -> Scrambling {
        self.scrambling
    }

    /// The line of eight entries at an address, as a walk fetches it.
    pub(crate) fn line(
        &self,
        mmu: MmuInstance,
        hop: u8,
        address: u64,
    ) -> Result<[u64; 8], FaultReason> {
        // The address part of an entry is one of pages, and so is that of a root register.
        let table = self.table(mmu, address & !0xFFF);
        let table = table.ok_or(FaultReason::TableFetch {
            hop,
            address: BusAddr::new(address),
        })?;
        let first = (address & 0xFC0) >> 3;
        let word = |at: u64| table.entries.get(&((first + at) as u16));
        Ok(core::array::from_fn(|at| {
            word(at as u64).map_or(0, |word| word.0)
        }))
    }

    fn table(&self, mmu: MmuInstance, address: u64) -> Option<&'s TableState> {
        self.by_address.get(&(memory_of(mmu), address)).copied()
    }

    /// The entries of a table that are present; `None` where the table could not be read. `walked`
    /// is the first address that uses the table.
    pub(crate) fn slots(
        &self,
        mmu: &MmuState,
        hop: u8,
        table: BusAddr,
        walked: u64,
    ) -> Option<Vec<Slot>> {
        let format = mmu.format.format();
        let here = format.hops.get(usize::from(hop))?;
        let table = self.table(mmu.instance, table.get())?;
        let slot = |(&index, word): (&u16, &super::state::Word)| {
            if u64::from(index) >= here.entries() {
                return None;
            }
            let entry = match decode(format, hop, word.0) {
                Err(FaultReason::NotPresent { .. }) => return None,
                Err(_) => Entry::Malformed,
                Ok(Decoded::Table(next)) => Entry::Table(BusAddr::new(next)),
                Ok(Decoded::Leaf(base)) => Entry::Leaf(BusAddr::new(base)),
            };
            Some(Slot {
                index,
                raw: word.0,
                entry,
                walked: walked | u64::from(index) << here.shift,
            })
        };
        Some(table.entries.iter().filter_map(slot).collect())
    }

    /// The device address that an MMU walks `walked` for.
    pub(crate) fn device_address(&self, mmu: MmuInstance, walked: u64) -> DeviceAddr {
        DeviceAddr::new(match mmu {
            MmuInstance::Hmmu(_) => self.scrambling.descramble(walked),
            MmuInstance::Single | MmuInstance::Pmmu => walked,
        })
    }

    /// The address that an MMU walks for a device address.
    pub(crate) fn walked(&self, mmu: &MmuState, address: DeviceAddr) -> u64 {
        let walked = match mmu.instance {
            MmuInstance::Hmmu(_) => self.scrambling.scramble(address.get()),
            MmuInstance::Single | MmuInstance::Pmmu => address.get(),
        };
        walked & mmu.format.format().significant
    }

    /// What a leaf maps, in the addresses that initiators use.
    pub(crate) fn leaf(
        &self,
        mmu: MmuInstance,
        format: &Format,
        hop: u8,
        walked: u64,
        base: u64,
    ) -> Leaf {
        let span = format
            .hops
            .get(usize::from(hop))
            .map_or(0, |hop| hop.span());
        let (base, len) = match mmu {
            MmuInstance::Hmmu(_) => (
                self.scrambling.descramble(base),
                self.scrambling.raw_bytes(span),
            ),
            MmuInstance::Single | MmuInstance::Pmmu => (base, span),
        };
        Leaf {
            hop,
            device: Extent {
                start: self.device_address(mmu, walked),
                len,
            },
            bus: BusExtent {
                start: BusAddr::new(base),
                len,
            },
        }
    }
}

impl State {
    /// The MMU that translates a device address; on Gaudi2 HMMU `hmmu` for device memory, or the
    /// first there is. `None` where the device has no such MMU.
    pub(crate) fn mmu_for(&self, address: DeviceAddr, hmmu: Option<u8>) -> Option<&MmuState> {
        let device_memory = (SCRAMBLED_START..SCRAMBLED_END).contains(&address.get());
        let apart = self.asic.kind == AsicKind::Gaudi2 && device_memory;
        self.mmus.iter().find(|mmu| match mmu.instance {
            MmuInstance::Single | MmuInstance::Pmmu => !apart,
            MmuInstance::Hmmu(number) => apart && hmmu.is_none_or(|wanted| wanted == number),
        })
    }

    /// The MMUs whose tables are worth showing apart: all but the HMMUs that have the same roots as
    /// the first of them.
    pub(crate) fn distinct_mmus(&self) -> Vec<&MmuState> {
        let is_hmmu = |mmu: &MmuState| matches!(mmu.instance, MmuInstance::Hmmu(_));
        let first = self.mmus.iter().find(|mmu| is_hmmu(mmu));
        let distinct = |mmu: &&MmuState| match first {
            Some(first) if is_hmmu(mmu) => {
                mmu.instance == first.instance || mmu.roots != first.roots
            }
            _ => true,
        };
        self.mmus.iter().filter(distinct).collect()
    }
}
