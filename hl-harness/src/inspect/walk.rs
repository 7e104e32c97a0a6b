//! One device address, hop by hop.

use core::cell::RefCell;
use core::fmt;

use mmu_core::{BusAddr, DeviceAddr};

use super::hex::Bytes;
use super::state::{MappingState, MmuState, State};
use super::tables::{Tables, memory_of};
use crate::asic::format::{ADDRESS, LAST, PRESENT, SCRAMBLED_START};
use crate::asic::mmu::Control;
use crate::asic::walker::{finish, walk};
use crate::asic::{AsicKind, FaultReason, FormatKind, HopStep, MmuInstance, Target, target};

/// The walk of one device address through the tables of a [`State`], made by the software ASIC's own
/// walker. Caches are left out: it shows what a device would find that has cached nothing.
///
/// Its `Display` is what `hl-harness walk` prints.
#[derive(Clone, Debug)]
pub struct Walk {
    /// The device.
    pub asic: AsicKind,
    /// The address space.
    pub asid: u16,
    /// The address, as an initiator sends it.
    pub address: DeviceAddr,
    /// The MMU that translates it.
    pub mmu: MmuInstance,
    /// The address whose bits index the tables: a scrambled one on an HMMU.
    pub walked: DeviceAddr,
    /// The root table that was latched for the address space.
    pub root: Option<BusAddr>,
    /// The hops taken.
    pub hops: Vec<HopReport>,
    /// The bus address, or the fault that an access would raise.
    pub outcome: Result<BusAddr, FaultReason>,
    /// The leaf that the walk ended at: its bytes, and how many from the address on are contiguous.
    pub leaf: Option<(u64, u64)>,
    format: FormatKind,
    bypass: bool,
    place: Option<String>,
    scrambling: Option<String>,
    default_byte: Option<u8>,
    belief: Belief,
}

/// One hop of a walk.
#[derive(Clone, Debug)]
pub struct HopReport {
    /// Where the hop is and what it read.
    pub step: HopStep,
    /// The bits of the walked address that are the index: the highest and the lowest.
    pub bits: (u32, u32),
    /// The entry, field by field; empty where it could not be read.
    pub fields: Vec<Field>,
}

/// One field of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// The highest and the lowest bit.
    pub bits: (u32, u32),
    /// Its name in the format.
    pub name: &'static str,
    /// Its value: for the address not shifted, otherwise the bits as a number.
    pub value: u64,
    /// What the value means here.
    pub meaning: String,
}

/// What the driver believes of the address.
#[derive(Clone, Debug)]
enum Belief {
    /// The address space is nobody's, as far as the state says.
    NoSpace,
    NotMapped,
    /// It has this mapping, whose memory is there for the address.
    Mapped(Box<MappingState>, Option<BusAddr>),
}

impl State {
    /// Walks a device address in an address space. On Gaudi2, device memory is walked by HMMU
    /// `hmmu`, or by the first there is; `None` where the device has no such MMU.
    #[must_use]
    pub fn walk(&self, asid: u16, address: DeviceAddr, hmmu: Option<u8>) -> Option<Walk> {
        let mmu = self.mmu_for(address, hmmu)?;
        let tables = Tables::of(self);
        let format = mmu.format.format();
        let walked = tables.walked(mmu, address);
        let control = Control {
            enabled: mmu.enabled,
            bypass: mmu.bypass,
            root: mmu.root(asid).map(BusAddr::get),
            format,
            hops: mmu.hops,
        };
        let steps = RefCell::new(Vec::new());
        let fetch = |hop, address| tables.line(mmu.instance, hop, address);
        let found = walk(control, walked, fetch, |step| steps.borrow_mut().push(step));
        let translated =
            found.map(|leaf| finish(mmu.instance, tables.scrambling(), format, leaf, walked));
        let leaf = found.ok().zip(translated.ok()).map(|(leaf, translated)| {
            let leaf = tables.leaf(mmu.instance, format, leaf.hop, walked, leaf.base);
            (leaf.bus.len, translated.contiguous)
        });
        let dram = (self.asic.dram.start.get(), self.asic.dram.len);
        let reached = |bus| target(self.asic.kind, dram, bus, 1);
        let outcome = match translated.map(|translated| translated.physical) {
            _ if mmu.bypass => Ok(address.get()),
            _ if !mmu.enabled => Err(FaultReason::Disabled),
            outcome => outcome,
        };
        let outcome = outcome.and_then(|bus| match reached(bus) {
            Some(_) => Ok(BusAddr::new(bus)),
            None => Err(FaultReason::Decode {
                bus: BusAddr::new(bus),
            }),
        });
        let place = outcome.ok().and_then(|bus| reached(bus.get()));
        let default = self.asic.default_page.filter(|default| {
            let inside = |bus| default.memory.offset(bus).is_some();
            !mmu.bypass && outcome.is_ok_and(inside)
        });
        let hops = steps.into_inner().into_iter();
        Some(Walk {
            asic: self.asic.kind,
            asid,
            address,
            mmu: mmu.instance,
            walked: DeviceAddr::new(walked),
            root: mmu.root(asid),
            hops: hops.map(|step| hop_report(&tables, mmu, step)).collect(),
            outcome,
            leaf,
            format: mmu.format,
            bypass: mmu.bypass,
            place: place.map(|place| self.place(place)),
            scrambling: scrambling(mmu, address, walked, self.asic.hbm_stacks.count() << 23),
            default_byte: default.map(|default| default.byte),
            belief: match self.space(asid) {
                None => Belief::NoSpace,
                Some(space) => match space.mapping_at(address) {
                    None => Belief::NotMapped,
                    Some(mapping) => {
                        let offset = mapping.extent.offset(address).unwrap_or(0);
                        Belief::Mapped(Box::new(mapping.clone()), mapping.owned_at(offset))
                    }
                },
            },
        })
    }

    fn place(&self, place: Target) -> String {
        match place {
            Target::Dram(offset) => format!("device memory, {offset:#x} bytes into it"),
            Target::Host(bus) => match self.host.frame(bus.get()) {
                Some(frame) => {
                    let byte = bus.get() % self.host.page_bytes.max(1);
                    format!("host memory at bus address {bus}, frame {frame:#x} byte {byte:#x}")
                }
                None => format!("host memory at bus address {bus}, which has no page frame"),
            },
        }
    }
}

fn scrambling(mmu: &MmuState, address: DeviceAddr, walked: u64, chunk: u64) -> Option<String> {
    if !matches!(mmu.instance, MmuInstance::Hmmu(_)) {
        return None;
    }
    let low = address.get().checked_sub(SCRAMBLED_START)?;
    let (number, within) = (low / chunk, low % chunk);
    Some(format!(
        "chunk {number} of {} goes to slot {} of 64 MiB, byte {within:#x} of both; \
         {:#018x} is walked",
        Bytes(chunk),
        walked.checked_sub(SCRAMBLED_START)? >> 26,
        walked
    ))
}

fn hop_report(tables: &Tables<'_>, mmu: &MmuState, step: HopStep) -> HopReport {
    let format = mmu.format.format();
    let hop = usize::from(step.hop);
    let deepest = hop + 1 == format.hops.len();
    let ends = mmu.hops.is_some_and(|(_, last)| step.hop >= last);
    let (mask, span, leaf) = match format.hops.get(hop) {
        Some(here) => (here.mask, here.span(), here.leaf),
        None => (0, 1, false),
    };
    let bits = (mask.max(1).ilog2(), mask.max(1).trailing_zeros());
    let Some(entry) = step.entry else {
        return HopReport {
            step,
            bits,
            fields: Vec::new(),
        };
    };
    let present = entry & PRESENT != 0;
    let last = entry & LAST != 0;
    let address = entry & ADDRESS;
    let other = entry & !(PRESENT | LAST | ADDRESS);
    let field = |high, low, name, value, meaning: String| Field {
        bits: (high, low),
        name,
        value,
        meaning,
    };
    let last_meaning = match (present, last, leaf, deepest) {
        (false, ..) => "means nothing: the entry is absent".to_owned(),
        (_, true, true, _) => format!("leaf: maps {}", leaf_bytes(tables, mmu, span)),
        (_, true, false, _) => "leaf, at a hop that has none: malformed".to_owned(),
        (_, false, _, true) => "no leaf, at the deepest hop: malformed".to_owned(),
        (_, false, ..) if ends => "no leaf, and the walk is set to end here: malformed".to_owned(),
        (_, false, ..) => format!("no leaf: leads to a table of hop {}", step.hop + 1),
    };
    let address_meaning = match (present, last) {
        (false, _) => "means nothing: the entry is absent".to_owned(),
        (true, false) => format!(
            "the table of hop {} in {} memory",
            step.hop + 1,
            memory(mmu)
        ),
        (true, true) if address & (span - 1) != 0 => {
            format!("not a multiple of {}: malformed", Bytes(span))
        }
        (true, true) => match mmu.instance {
            MmuInstance::Hmmu(_) => format!(
                "scrambled; {:#018x} for initiators",
                tables.scrambling().descramble(address)
            ),
            MmuInstance::Single | MmuInstance::Pmmu => "where the leaf's first byte is".to_owned(),
        },
    };
    let mut fields = vec![
        field(
            0,
            0,
            "present",
            u64::from(present),
            if present {
                "the entry counts"
            } else {
                "nothing here"
            }
            .to_owned(),
        ),
        field(11, 11, "last", u64::from(last), last_meaning),
        field(63, 12, "address", address, address_meaning),
    ];
    if other != 0 {
        let meaning = "must be zero: malformed where the entry is present".to_owned();
        fields.push(field(10, 1, "reserved", other >> 1, meaning));
    }
    HopReport { step, bits, fields }
}

fn leaf_bytes(tables: &Tables<'_>, mmu: &MmuState, span: u64) -> String {
    match mmu.instance {
        MmuInstance::Hmmu(_) => format!(
            "{} of device memory, {} of scrambled addresses",
            Bytes(tables.scrambling().raw_bytes(span)),
            Bytes(span)
        ),
        MmuInstance::Single | MmuInstance::Pmmu => Bytes(span).to_string(),
    }
}

fn memory(mmu: &MmuState) -> crate::log::TableMemory {
    memory_of(mmu.instance)
}

/// What a fault means, for a reader who has not read the model.
fn explained(reason: FaultReason) -> String {
    match reason {
        FaultReason::NotPresent { hop } => {
            format!("the entry at hop {hop} has bit 0 clear, so nothing is mapped here")
        }
        FaultReason::NoRoot => {
            "the MMU was never given a root table for this address space".to_owned()
        }
        FaultReason::Disabled => {
            "the MMU is not enabled; the tables are shown as they would be walked".to_owned()
        }
        FaultReason::Malformed { hop, .. } => {
            format!("the entry at hop {hop} breaks the format; see its fields above")
        }
        FaultReason::TableFetch { hop, address } => {
            format!("the entry at hop {hop} would be at {address}, where the MMU can read no table")
        }
        FaultReason::Decode { bus } => format!(
            "the translation succeeds, and {bus} is neither device memory nor reachable host memory"
        ),
        FaultReason::DirectRefused | FaultReason::Misaligned => reason.to_string(),
    }
}

impl fmt::Display for HopReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let step = &self.step;
        let (high, low) = self.bits;
        writeln!(
            f,
            "hop {}   bits {high}:{low} of the walked address = {:#x}",
            step.hop, step.index
        )?;
        writeln!(f, "        table  {}", step.table)?;
        write!(f, "        entry  {} = ", step.entry_address)?;
        match step.entry {
            None => writeln!(f, "unreadable")?,
            Some(entry) => writeln!(f, "{entry:#018x}")?,
        }
        for field in &self.fields {
            let (high, low) = field.bits;
            let bits = if high == low {
                format!("bit {low}")
            } else {
                format!("bits {high}:{low}")
            };
            let value = if field.name == "address" {
                format!("{:#018x}", field.value)
            } else {
                format!("{:#x}", field.value)
            };
            let (name, meaning) = (field.name, &field.meaning);
            writeln!(f, "          {bits:<11} {name:<9} {value:<18}  {meaning}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Walk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}, asid {}, device address {}",
            self.asic, self.asid, self.address
        )?;
        let format = self.format.format();
        writeln!(
            f,
            "mmu     {}, format {}: {} hops{}",
            self.mmu,
            self.format,
            format.hops.len(),
            if self.bypass { ", bypassed" } else { "" }
        )?;
        if let Some(scrambling) = &self.scrambling {
            writeln!(f, "walked  {scrambling}")?;
        } else if self.walked.get() != self.address.get() {
            writeln!(f, "walked  {}: the bits above are ignored", self.walked)?;
        }
        match self.root {
            Some(root) => writeln!(f, "root    {root} in {} memory", memory_of(self.mmu))?,
            None => writeln!(f, "root    none was latched for asid {}", self.asid)?,
        }
        for hop in &self.hops {
            write!(f, "{hop}")?;
        }
        match self.outcome {
            Ok(bus) => {
                writeln!(f, "result  {bus}")?;
                if let Some(place) = &self.place {
                    writeln!(f, "        {place}")?;
                }
                if self.bypass {
                    writeln!(f, "        not translated: the MMU is bypassed")?;
                } else if let Some((leaf, contiguous)) = self.leaf {
                    let (leaf, contiguous) = (Bytes(leaf), Bytes(contiguous));
                    writeln!(
                        f,
                        "        leaf of {leaf}; {contiguous} from here on are contiguous"
                    )?;
                }
                if let Some(byte) = self.default_byte {
                    writeln!(
                        f,
                        "        the default page of this ASIC: nothing is mapped here, reads find \
                         {byte:#04x} everywhere"
                    )?;
                }
            }
            Err(reason) => {
                writeln!(f, "FAULT   {reason}")?;
                writeln!(f, "        {}", explained(reason))?;
            }
        }
        self.belief(f)
    }
}

impl Walk {
    /// Whether the walk ends where the driver believes it to end; `None` where the state does not
    /// say what the driver believes.
    #[must_use]
    pub fn agrees(&self) -> Option<bool> {
        match &self.belief {
            Belief::NoSpace => None,
            Belief::NotMapped => Some(self.outcome.is_err() || self.default_byte.is_some()),
            Belief::Mapped(mapping, _) if mapping.is_gone() => {
                Some(self.outcome.is_err() || self.default_byte.is_some())
            }
            Belief::Mapped(_, owned) => Some(self.outcome.ok() == *owned),
        }
    }

    fn belief(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let agrees = self.agrees() == Some(true);
        match &self.belief {
            Belief::NoSpace => writeln!(f, "driver  nobody has asid {}", self.asid),
            Belief::NotMapped if agrees => writeln!(f, "driver  has no mapping here: they agree"),
            Belief::NotMapped => {
                writeln!(f, "DRIVER  HAS NO MAPPING HERE, and the tables have one")
            }
            Belief::Mapped(mapping, owned) => {
                let MappingState {
                    extent, backing, ..
                } = mapping.as_ref();
                let (start, len) = (extent.start, Bytes(extent.len));
                let what = format_args!("{backing} at {start}, {len}");
                if mapping.lost && agrees {
                    return writeln!(f, "driver  lost {what} in a reset; kept until unmapped");
                }
                match (mapping.is_gone(), agrees, owned) {
                    (true, true, _) => writeln!(
                        f,
                        "driver  unmapped {what}; kept until an invalidation is confirmed"
                    ),
                    (true, false, _) => writeln!(f, "DRIVER  UNMAPPED {what}, and it is there"),
                    (false, true, _) => writeln!(f, "driver  has {what}: they agree"),
                    (false, false, Some(owned)) => {
                        writeln!(
                            f,
                            "DRIVER  HAS {what}, WHICH OWNS {owned} HERE: they differ"
                        )
                    }
                    (false, false, None) => {
                        writeln!(
                            f,
                            "DRIVER  HAS {what}, which owns nothing here: they differ"
                        )
                    }
                }
            }
        }
    }
}
