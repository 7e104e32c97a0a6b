//! The walk: from a device address to a place in memory, by reading table bytes.

use core::fmt;
use std::collections::BTreeMap;

use mmu_core::{BusAddr, DeviceAddr};

use super::cache::{LeafKey, Line};
use super::fault::{FaultReason, MmuInstance};
use super::format::{ADDRESS, Format, LAST, PRESENT, Scrambling};
use super::mmu::{Control, Mmu};
use super::{Asic, Target};

/// Bytes of a table.
const TABLE_BYTES: u64 = 4096;

/// One step of a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HopStep {
    /// The hop.
    pub hop: u8,
    /// The address of its table: device memory or host bus, as the MMU's tables lie.
    pub table: BusAddr,
    /// The index in the table.
    pub index: u16,
    /// The address of the entry: table + 8 x index.
    pub entry_address: BusAddr,
    /// The entry; `None` where it could not be read.
    pub entry: Option<u64>,
}

impl fmt::Display for HopStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "hop {} table {} index {:#05x} entry at {}: ",
            self.hop, self.table, self.index, self.entry_address
        )?;
        match self.entry {
            Some(entry) => write!(f, "{entry:#018x}"),
            None => f.write_str("unreadable"),
        }
    }
}

/// A whole walk, made without caches and without consequences.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The MMU that would translate.
    pub mmu: MmuInstance,
    /// The address whose bits index the tables: scrambled on an HMMU, else the address itself.
    pub walked: DeviceAddr,
    /// The hops taken, from 0 on.
    pub steps: Vec<HopStep>,
    /// The bus address the device would use (descrambled), or why it would fault.
    pub outcome: Result<BusAddr, FaultReason>,
    /// Bytes mapped by the leaf, in walked addresses; 0 without a leaf.
    pub leaf_size: u64,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} walks {}", self.mmu, self.walked)?;
        for step in &self.steps {
            writeln!(f, "  {step}")?;
        }
        match self.outcome {
            Ok(bus) => write!(f, "  -> {bus} ({:#x} byte leaf)", self.leaf_size),
            Err(reason) => write!(f, "  -> fault: {reason}"),
        }
    }
}

/// What an entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decoded {
    Table(u64),
    Leaf(u64),
}

/// Where a leaf was found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leaf {
    pub(crate) hop: u8,
    pub(crate) base: u64,
}

/// A finished translation: the physical address, and how many bytes from there on are contiguous.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Translated {
    pub(crate) physical: u64,
    pub(crate) contiguous: u64,
}

/// Reads an entry of a hop, as strictly as the model does everywhere.
pub(crate) fn decode(format: &Format, hop: u8, entry: u64) -> Result<Decoded, FaultReason> {
    if entry & PRESENT == 0 {
        return Err(FaultReason::NotPresent { hop });
    }
    let malformed = Err(FaultReason::Malformed { hop, entry });
    let address = entry & ADDRESS;
    if entry & !(ADDRESS | PRESENT | LAST) != 0 {
        return malformed;
    }
    let here = format.hops[usize::from(hop)];
    if entry & LAST != 0 {
        if !here.leaf || address & (here.span() - 1) != 0 {
            return malformed;
        }
        return Ok(Decoded::Leaf(address));
    }
    if usize::from(hop) + 1 == format.hops.len() {
        return malformed;
    }
    Ok(Decoded::Table(address))
}

/// Walks from the root. `fetch` yields the line at an address; `visit` sees every entry.
pub(crate) fn walk(
    control: Control,
    walked: u64,
    fetch: impl Fn(u8, u64) -> Result<Line, FaultReason>,
    mut visit: impl FnMut(HopStep),
) -> Result<Leaf, FaultReason> {
    let mut table = control.root.ok_or(FaultReason::NoRoot)?;
    let (first, last) = control.hops.unwrap_or((0, u8::MAX));
    for (hop, here) in (0_u8..).zip(control.format.hops).skip(first.into()) {
        let index = here.index(walked);
        let entry_address = table.wrapping_add(8 * index);
        let line = fetch(hop, entry_address & !63);
        let entry = line.map(|line| line[(entry_address >> 3 & 7) as usize]);
        visit(HopStep {
            hop,
            table: BusAddr::new(table),
            index: index as u16,
            entry_address: BusAddr::new(entry_address),
            entry: entry.ok(),
        });
        let entry = entry?;
        match decode(control.format, hop, entry)? {
            Decoded::Leaf(base) => return Ok(Leaf { hop, base }),
            Decoded::Table(_) if hop >= last => return Err(FaultReason::Malformed { hop, entry }),
            Decoded::Table(next) => table = next,
        }
    }
    // `decode` yields no table at the deepest hop, so that the walk was to begin below that.
    Err(FaultReason::NoRoot)
}

/// Where a leaf leads to for a walked address.
pub(crate) fn finish(
    mmu: MmuInstance,
    scrambling: Scrambling,
    format: &Format,
    leaf: Leaf,
    walked: u64,
) -> Translated {
    let span = format.hops[usize::from(leaf.hop)].span();
    let within = walked & (span - 1);
    let physical = leaf.base | within;
    match mmu {
        MmuInstance::Hmmu(_) => {
            let raw = scrambling.descramble(physical);
            // The chunk of the device address and that of the memory address coincide.
            Translated {
                physical: raw,
                contiguous: scrambling.rest_of_chunk(raw).min(span - within),
            }
        }
        MmuInstance::Single | MmuInstance::Pmmu => Translated {
            physical,
            contiguous: span - within,
        },
    }
}

impl Asic {
    /// The address an MMU walks for an address an initiator sends.
    pub(crate) fn walked(&self, mmu: &Mmu, address: DeviceAddr) -> u64 {
        match mmu.instance {
            MmuInstance::Hmmu(_) => self.scrambling.scramble(address.get()),
            MmuInstance::Single | MmuInstance::Pmmu => address.get(),
        }
    }

    /// Translates through caches and tables. The caller holds off invalidations.
    pub(crate) fn translate(
        &self,
        mmu: &Mmu,
        asid: u16,
        address: DeviceAddr,
    ) -> Result<Translated, FaultReason> {
        let control = mmu.control(asid);
        if control.bypass {
            return Ok(self.untranslated(address));
        }
        if !control.enabled {
            return Err(FaultReason::Disabled);
        }
        let walked = self.walked(mmu, address) & control.format.significant;
        let leaf = match self.cached_leaf(mmu, control.format, asid, walked) {
            Some(leaf) => {
                self.counters.leaf_hits.add(1);
                leaf
            }
            None => {
                let fetch = |hop, line| self.fetch_cached(mmu, hop, line);
                let leaf = walk(control, walked, fetch, |_| {})?;
                let page = walked >> control.format.hops[usize::from(leaf.hop)].shift;
                let hop = leaf.hop;
                let key = LeafKey { asid, hop, page };
                mmu.caches().leaves.insert(key, leaf.base);
                leaf
            }
        };
        self.counters.translations.add(1);
        Ok(self.finish(mmu, control.format, leaf, walked))
    }

    /// What a bypassed address stands for: itself, to the end of its 4 KiB page at least.
    pub(crate) fn untranslated(&self, address: DeviceAddr) -> Translated {
        Translated {
            physical: address.get(),
            contiguous: 0x1000 - address.get() % 0x1000,
        }
    }

    fn finish(&self, mmu: &Mmu, format: &Format, leaf: Leaf, walked: u64) -> Translated {
        finish(mmu.instance, self.scrambling, format, leaf, walked)
    }

    fn cached_leaf(&self, mmu: &Mmu, format: &Format, asid: u16, walked: u64) -> Option<Leaf> {
        let caches = mmu.caches();
        let deepest_first = (0..format.hops.len() as u8).rev();
        deepest_first
            .zip(format.hops.iter().rev())
            .find_map(|(hop, here)| {
                if !here.leaf {
                    return None;
                }
                let page = walked >> here.shift;
                let base = caches.leaves.get(LeafKey { asid, hop, page })?;
                Some(Leaf { hop, base })
            })
    }

    fn fetch_cached(&self, mmu: &Mmu, hop: u8, address: u64) -> Result<Line, FaultReason> {
        let key = address / 64;
        if let Some(line) = mmu.caches().lines.get(key) {
            self.counters.line_hits.add(1);
            return Ok(line);
        }
        let line = self.fetch(mmu.instance, hop, address)?;
        mmu.caches().lines.insert(key, line);
        Ok(line)
    }

    /// Reads a line of a table: host memory for the PMMU, device memory for the others. Table
    /// addresses are never scrambled (facts HW-G2-1).
    pub(crate) fn fetch(
        &self,
        mmu: MmuInstance,
        hop: u8,
        address: u64,
    ) -> Result<Line, FaultReason> {
        self.counters.table_fetches.add(1);
        let mut line = Line::default();
        let read = match (mmu, self.target(address, 64)) {
            (MmuInstance::Pmmu, Some(Target::Host(bus))) => {
                self.host.load_words(bus, &mut line).is_ok()
            }
            (MmuInstance::Single | MmuInstance::Hmmu(_), Some(Target::Dram(offset))) => {
                self.dram.load_words(offset, &mut line);
                true
            }
            _ => false,
        };
        let address = BusAddr::new(address);
        if read {
            Ok(line)
        } else {
            Err(FaultReason::TableFetch { hop, address })
        }
    }

    /// The words of every table that a walk in address space `asid` can reach, by the MMU and the
    /// address of the table, as memory is *now*. Of the HMMUs, those of the first enabled one.
    #[must_use]
    pub fn tables(&self, asid: u16) -> BTreeMap<(MmuInstance, BusAddr), Vec<u64>> {
        let like = |instance: MmuInstance| match instance {
            MmuInstance::Single | MmuInstance::Pmmu => true,
            MmuInstance::Hmmu(number) => number == self.first_hmmu(),
        };
        let mut tables = BTreeMap::new();
        for mmu in self.mmus.iter().filter(|mmu| like(mmu.instance)) {
            let control = mmu.control(asid);
            let mut left: Vec<(u8, u64)> = control.root.map(|root| (0, root)).into_iter().collect();
            while let Some((hop, table)) = left.pop() {
                let key = (mmu.instance, BusAddr::new(table));
                if tables.contains_key(&key) {
                    continue;
                }
                let lines = (0..TABLE_BYTES / 64).map(|line| table.wrapping_add(64 * line));
                let lines = lines.map(|line| self.fetch(mmu.instance, hop, line));
                let words: Vec<u64> = lines.map_while(Result::ok).flatten().collect();
                for word in &words {
                    if let Ok(Decoded::Table(next)) = decode(control.format, hop, *word) {
                        left.push((hop + 1, next));
                    }
                }
                tables.insert(key, words);
            }
        }
        tables
    }

    /// Shows the walk of `address` in address space `asid`, hop by hop, as memory is *now*: without
    /// caches, without faulting, whether or not the MMU is enabled. An HMMU's walk is that of the first
    /// enabled one.
    #[must_use]
    pub fn explain(&self, asid: u16, address: DeviceAddr) -> Explanation {
        let mmu = self.mmu_for(address, self.first_hmmu());
        let control = mmu.control(asid);
        let walked = self.walked(mmu, address) & control.format.significant;
        let mut steps = Vec::new();
        let fetch = |hop, line| self.fetch(mmu.instance, hop, line);
        let leaf = walk(control, walked, fetch, |step| steps.push(step));
        let span = |leaf: Leaf| control.format.hops[usize::from(leaf.hop)].span();
        Explanation {
            mmu: mmu.instance,
            walked: DeviceAddr::new(walked),
            steps,
            leaf_size: leaf.map_or(0, span),
            outcome: leaf
                .map(|leaf| BusAddr::new(self.finish(mmu, control.format, leaf, walked).physical)),
        }
    }
}
