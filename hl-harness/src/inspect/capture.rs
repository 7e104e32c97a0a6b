//! Making a [`State`] of a machine.

use std::collections::{BTreeMap, BTreeSet};

use hl_mem::inspect::{Backing as Behind, Part, Stage};
use hl_mem::profile::{LargeHost, Profile, VaRange};
use mmu_core::{AddrRange, BusAddr, DeviceAddr, Run};

use super::events::Record;
use super::state::{
    AsicState, Backing, BusExtent, DefaultPage, Extent, HostState, MappingState, MmuState,
    RangeState, Root, SpaceState, State, TableState, VERSION, Word,
};
use super::tables::memory_of;
use crate::asic::Asic;
use crate::asic::walker::{Decoded, decode};
use crate::host::{FRAME_SIZE, Frame};
use crate::machine::{Machine, MachineContext, Model};

impl From<AddrRange<DeviceAddr>> for Extent {
    fn from(range: AddrRange<DeviceAddr>) -> Self {
        Self {
            start: range.start(),
            len: range.len(),
        }
    }
}

impl From<Run> for BusExtent {
    fn from(run: Run) -> Self {
        Self {
            start: run.start(),
            len: run.len(),
        }
    }
}

impl State {
    /// Looks at a machine, at its privileged address space and at those of `contexts`, and changes
    /// nothing.
    ///
    /// The parts are looked at one after the other: for a picture of one moment, let nobody else
    /// work meanwhile. Tables are read by address, as the device reads them, from the roots that
    /// its MMUs have latched.
    #[must_use]
    pub fn capture<'s, 'm, A: Model>(
        title: &str,
        machine: &Machine<'s, 'm, A>,
        contexts: &[&MachineContext<'_, 's, 'm, A>],
    ) -> Self {
        let asic = &*machine.asic;
        let mmus: Vec<MmuState> = asic
            .programmed()
            .into_iter()
            .map(|mmu| MmuState {
                instance: mmu.instance,
                enabled: mmu.enabled,
                bypass: mmu.bypass,
                format: mmu.format.kind,
                hops: mmu.hops,
                roots: mmu
                    .roots
                    .into_iter()
                    .map(|(asid, table)| Root {
                        asid,
                        table: BusAddr::new(table),
                    })
                    .collect(),
            })
            .collect();
        let profile = A::PROFILE;
        let mut privileged = SpaceParts::default();
        let look = &mut |part: Part<'_>| privileged.take(part);
        machine
            .device
            .inspect(&machine.privilege, look)
            .expect("the privilege is this device's");
        let mut spaces = vec![privileged.space(&profile, 0, "the driver".to_owned())];
        for context in contexts {
            let mut parts = SpaceParts::default();
            context.inspect(&mut |part| parts.take(part));
            let asid = context.asid().get();
            spaces.push(parts.space(&profile, asid, format!("user of asid {asid}")));
        }
        spaces.sort_by_key(|space| space.asid);
        Self {
            version: VERSION,
            title: title.to_owned(),
            asic: AsicState {
                kind: asic.config().kind,
                hbm_stacks: asic.config().hbm_stacks,
                dram: BusExtent {
                    start: asic.dram_base(),
                    len: asic.dram_size(),
                },
                host_offset: asic.host_offset(),
                default_page: profile.dram.default_page.map(|default| DefaultPage {
                    memory: default.page.into(),
                    byte: default.fill,
                }),
            },
            host: HostState {
                bus: machine.host.bus_address(Frame(0)),
                page_bytes: FRAME_SIZE as u64,
            },
            tables: read_tables(asic, &mmus),
            mmus,
            spaces,
            events: Record::all(&machine.log.records()),
        }
    }
}

/// The parts of an address space, as they come.
#[derive(Default)]
struct SpaceParts {
    free: Vec<Extent>,
    mappings: Vec<MappingState>,
}

impl SpaceParts {
    fn take(&mut self, part: Part<'_>) {
        match part {
            Part::Free(range) => self.free.push(range.into()),
            Part::Mapping {
                range,
                backing,
                stage,
                runs,
            } => self.mappings.push(MappingState {
                extent: range.into(),
                backing: match backing {
                    Behind::Pinned => Backing::UserPages,
                    Behind::Block => Backing::Block,
                    Behind::Buffer => Backing::Buffer,
                    Behind::DeviceMemory => Backing::DeviceMemory,
                    Behind::Window => Backing::Window,
                    _ => Backing::Other,
                },
                quarantined: stage == Stage::Quarantined,
                lost: stage == Stage::Lost,
                owns: runs.map(BusExtent::from).collect(),
            }),
            _ => {}
        }
    }

    fn space(mut self, profile: &Profile, asid: u16, owner: String) -> SpaceState {
        self.free.sort_by_key(|extent| extent.start);
        self.mappings.sort_by_key(|mapping| mapping.extent.start);
        let mut ranges = vec![("host memory", profile.host)];
        if let LargeHost::Own(range) = profile.large_host {
            ranges.push(("host memory, large leaves", range));
        }
        // The driver's engines use device memory by its own addresses.
        if let Some(range) = profile.dram.mapped_at.filter(|_| asid != 0) {
            ranges.push(("device memory", range));
        }
        ranges.sort_by_key(|(_, range)| range.range.start());
        let range = |(name, range): (&str, VaRange)| {
            let extent = Extent::from(range.range);
            let inside = |free: &&Extent| free.overlaps(&extent);
            RangeState {
                name: name.to_owned(),
                extent,
                page_bytes: range.page_bytes,
                fixed: range.fixed.iter().map(|&fixed| fixed.into()).collect(),
                reserved: range.reserved.iter().map(|&window| window.into()).collect(),
                free: self.free.iter().filter(inside).copied().collect(),
            }
        };
        SpaceState {
            asid,
            owner,
            ranges: ranges.into_iter().map(range).collect(),
            mappings: self.mappings,
        }
    }
}

/// Reads every table that a root leads to.
fn read_tables(asic: &Asic, mmus: &[MmuState]) -> Vec<TableState> {
    let mut found = BTreeMap::new();
    // A table that is linked at several hops, or to itself, is read once for each hop.
    let mut seen = BTreeSet::new();
    for mmu in mmus {
        for root in &mmu.roots {
            read_table(asic, mmu, 0, root.table.get(), &mut seen, &mut found);
        }
    }
    let table = |((memory, address), entries)| TableState {
        memory,
        address: BusAddr::new(address),
        entries,
    };
    found.into_iter().map(table).collect()
}

type Found = BTreeMap<(crate::log::TableMemory, u64), BTreeMap<u16, Word>>;

fn read_table(
    asic: &Asic,
    mmu: &MmuState,
    hop: u8,
    address: u64,
    seen: &mut BTreeSet<(crate::log::TableMemory, u64, u8)>,
    found: &mut Found,
) {
    let memory = memory_of(mmu.instance);
    if !seen.insert((memory, address, hop)) {
        return;
    }
    let format = mmu.format.format();
    let Some(here) = format.hops.get(usize::from(hop)) else {
        return;
    };
    let count = here.entries();
    for line in 0..count.div_ceil(8) {
        let Ok(words) = asic.fetch(mmu.instance, hop, address.wrapping_add(64 * line)) else {
            // The table is not there, which is what its absence from the state says.
            return;
        };
        let entries = found.entry((memory, address)).or_default();
        let used = (8 * line..count).zip(words).filter(|(_, word)| *word != 0);
        entries.extend(used.clone().map(|(index, word)| (index as u16, Word(word))));
        for (_, word) in used {
            if let Ok(Decoded::Table(next)) = decode(format, hop, word) {
                read_table(asic, mmu, hop + 1, next, seen, found);
            }
        }
    }
}
