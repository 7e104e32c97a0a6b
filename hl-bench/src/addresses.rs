//! The allocator of device addresses beside others.
//!
//! All keep as many blocks as the row says, of one to 16 pages and every eighth of 2 MiB, in a region
//! of which they fill a quarter, with holes all over. A step frees a random block and allocates
//! another; every twentieth asks for a random address and, where that is taken, for any.
//!
//! * a plain sorted list of free extents, searched from end to end for the best fit, as the C driver
//!   does it (facts AL-5);
//! * `vm-allocator`, which the virtual machine monitors of the rust-vmm project place devices with:
//!   of the registry's allocators of address ranges the one that is nearest to the same work: 64-bit
//!   ranges, any alignment, merging. It takes the first fit, not the best. It gets no hints: asked for
//!   an exact address inside of a block that is in use, version 0.1.4 hands it out once more;
//! * `offset-allocator`, two levels of bins of sizes, constant time for each call: what the work
//!   costs without hints, alignment and best fit, none of which it has.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use hl_mem::va::{Node, Placement, VaAllocator, VaBlock, VaLayout};
use mmu_core::{AddrRange, DeviceAddr};
use vm_allocator::{AddressAllocator, AllocPolicy, RangeInclusive};

use crate::record::{best, median};

const PAGE: u64 = 4096;
/// Where the region of ours begins: zero is a usual one to the others.
const BASE: u64 = 1 << 48;
const COUNTS: [usize; 5] = [100, 1000, 8192, 100_000, 1_000_000];
/// Pages of the largest blocks.
const LARGE: u64 = 512;
/// Pages of the region for each block.
const ROOM: u64 = 4 * 72;
/// How long one measurement may take before it ends early.
const PATIENCE: Duration = Duration::from_millis(60);

/// One step: a block is replaced by another.
#[derive(Clone, Copy, Debug)]
struct Step {
    slot: usize,
    pages: u64,
    /// The first page asked for.
    hint: Option<u64>,
}

/// The work of a row, the same for everybody.
struct Inputs {
    /// Pages of each block that is allocated at first, twice as many as stay.
    fill: Vec<u64>,
    /// Of these, the ones that are freed again before anything is measured.
    holes: Vec<usize>,
    steps: Vec<Step>,
    region: u64,
}

impl Inputs {
    fn new(count: usize, steps: usize) -> Self {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut random = |below: u64| {
            // xorshift64
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 16) % below
        };
        let pages = |random: &mut dyn FnMut(u64) -> u64| {
            if random(8) == 0 {
                LARGE
            } else {
                1 + random(16)
            }
        };
        let region = count as u64 * ROOM;
        let fill = (0..2 * count).map(|_| pages(&mut random)).collect();
        let mut slots: Vec<usize> = (0..2 * count).collect();
        for chosen in 0..count {
            let other = chosen + random((2 * count - chosen) as u64) as usize;
            slots.swap(chosen, other);
        }
        let live = slots.split_off(count);
        let mut holes = slots;
        holes.sort_unstable();
        let steps = (0..steps).map(|_| Step {
            slot: live[random(count as u64) as usize],
            pages: pages(&mut random),
            hint: (random(20) == 0).then(|| random(region - LARGE)),
        });
        let steps = steps.collect();
        Self {
            fill,
            holes,
            steps,
            region,
        }
    }
}

/// An allocator of ranges of pages, which remembers what is in each slot.
trait Subject {
    /// Allocates at the hint, if that is vacant, or anywhere.
    fn allocate(&mut self, slot: usize, pages: u64, hint: Option<u64>);
    fn free(&mut self, slot: usize);
    /// First page and number of pages of the block in a slot.
    fn block(&self, slot: usize) -> Option<(u64, u64)>;

    /// Allocates the next block of the fill, all of which lie side by side.
    fn fill(&mut self, slot: usize, pages: u64) {
        self.allocate(slot, pages, None);
    }
}

struct Ours {
    allocator: VaAllocator<Vec<Node>>,
    blocks: Vec<Option<VaBlock>>,
}

impl Ours {
    fn new(slots: usize, region: u64) -> Self {
        let region = AddrRange::new(DeviceAddr::new(BASE), region * PAGE).expect("a region");
        let layout = VaLayout::new(region, PAGE).large_page(LARGE * PAGE);
        let nodes = vec![Node::EMPTY; slots + 1];
        Self {
            allocator: VaAllocator::new(nodes, &layout).expect("there are nodes"),
            blocks: (0..slots).map(|_| None).collect(),
        }
    }
}

impl Subject for Ours {
    fn allocate(&mut self, slot: usize, pages: u64, hint: Option<u64>) {
        let placement = match hint {
            Some(page) => Placement::Hint {
                at: DeviceAddr::new(BASE + page * PAGE),
                align: PAGE,
            },
            None => Placement::Anywhere { align: PAGE },
        };
        let block = self.allocator.allocate(pages * PAGE, placement);
        self.blocks[slot] = Some(block.expect("there is room"));
    }

    fn free(&mut self, slot: usize) {
        let block = self.blocks[slot].take().expect("the slot has a block");
        self.allocator
            .free(block)
            .expect("the block is of this allocator");
    }

    fn block(&self, slot: usize) -> Option<(u64, u64)> {
        let range = self.blocks[slot].as_ref()?.range();
        Some(((range.start().get() - BASE) / PAGE, range.len() / PAGE))
    }
}

struct SortedList {
    /// First page and length of each free extent, in order.
    free: Vec<(u64, u64)>,
    blocks: Vec<Option<(u64, u64)>>,
}

impl SortedList {
    fn new(slots: usize, region: u64) -> Self {
        Self {
            free: vec![(0, region)],
            blocks: vec![None; slots],
        }
    }

    /// Takes pages out of a free extent.
    fn take(&mut self, at: usize, start: u64, pages: u64) {
        let (first, len) = self.free[at];
        let before = start - first;
        let after = len - before - pages;
        match (before, after) {
            (0, 0) => {
                self.free.remove(at);
            }
            (0, _) => self.free[at] = (start + pages, after),
            (_, 0) => self.free[at] = (first, before),
            _ => {
                self.free[at] = (first, before);
                self.free.insert(at + 1, (start + pages, after));
            }
        }
    }
}

impl Subject for SortedList {
    fn allocate(&mut self, slot: usize, pages: u64, hint: Option<u64>) {
        let hinted = hint.and_then(|page| {
            let at = self
                .free
                .partition_point(|&(first, _)| first <= page)
                .checked_sub(1)?;
            let (first, len) = self.free[at];
            (page + pages <= first + len).then_some((at, page))
        });
        let (at, start) = hinted.unwrap_or_else(|| {
            let fits = self
                .free
                .iter()
                .enumerate()
                .filter(|(_, extent)| extent.1 >= pages);
            let (at, extent) = fits
                .min_by_key(|(_, extent)| extent.1)
                .expect("there is room");
            (at, extent.0)
        });
        self.take(at, start, pages);
        self.blocks[slot] = Some((start, pages));
    }

    fn free(&mut self, slot: usize) {
        let (start, pages) = self.blocks[slot].take().expect("the slot has a block");
        let at = self.free.partition_point(|&(first, _)| first < start);
        let joins_next = self
            .free
            .get(at)
            .is_some_and(|next| next.0 == start + pages);
        let joins_previous = at > 0 && self.free[at - 1].0 + self.free[at - 1].1 == start;
        match (joins_previous, joins_next) {
            (true, true) => {
                self.free[at - 1].1 += pages + self.free[at].1;
                self.free.remove(at);
            }
            (true, false) => self.free[at - 1].1 += pages,
            (false, true) => self.free[at] = (start, pages + self.free[at].1),
            (false, false) => self.free.insert(at, (start, pages)),
        }
    }

    fn block(&self, slot: usize) -> Option<(u64, u64)> {
        self.blocks[slot]
    }
}

struct VmAllocator {
    allocator: AddressAllocator,
    blocks: Vec<Option<RangeInclusive>>,
    /// Where the fill goes on: the first fit would pass by all of it each time.
    filled: u64,
}

impl VmAllocator {
    fn new(slots: usize, region: u64) -> Self {
        Self {
            allocator: AddressAllocator::new(BASE, region * PAGE).expect("a region"),
            blocks: vec![None; slots],
            filled: 0,
        }
    }

    fn allocate_as(&mut self, slot: usize, pages: u64, policy: AllocPolicy) {
        let block = self.allocator.allocate(pages * PAGE, PAGE, policy);
        self.blocks[slot] = Some(block.expect("there is room"));
    }
}

impl Subject for VmAllocator {
    fn allocate(&mut self, slot: usize, pages: u64, _hint: Option<u64>) {
        self.allocate_as(slot, pages, AllocPolicy::FirstMatch);
    }

    fn free(&mut self, slot: usize) {
        let block = self.blocks[slot].take().expect("the slot has a block");
        self.allocator
            .free(&block)
            .expect("the block is of this allocator");
    }

    fn block(&self, slot: usize) -> Option<(u64, u64)> {
        let block = self.blocks[slot].as_ref()?;
        Some(((block.start() - BASE) / PAGE, block.len() / PAGE))
    }

    fn fill(&mut self, slot: usize, pages: u64) {
        let at = BASE + self.filled * PAGE;
        self.allocate_as(slot, pages, AllocPolicy::ExactMatch(at));
        self.filled += pages;
    }
}

struct OffsetAllocator {
    allocator: offset_allocator::Allocator,
    blocks: Vec<Option<(offset_allocator::Allocation, u32)>>,
}

impl OffsetAllocator {
    fn new(slots: usize, region: u64) -> Self {
        let pages = u32::try_from(region).expect("regions are that small");
        Self {
            allocator: offset_allocator::Allocator::with_max_allocs(pages, 2 * slots as u32 + 16),
            blocks: (0..slots).map(|_| None).collect(),
        }
    }
}

impl Subject for OffsetAllocator {
    fn allocate(&mut self, slot: usize, pages: u64, _hint: Option<u64>) {
        let block = self
            .allocator
            .allocate(pages as u32)
            .expect("there is room");
        self.blocks[slot] = Some((block, pages as u32));
    }

    fn free(&mut self, slot: usize) {
        let (block, _) = self.blocks[slot].take().expect("the slot has a block");
        self.allocator.free(block);
    }

    fn block(&self, slot: usize) -> Option<(u64, u64)> {
        let (block, pages) = self.blocks[slot].as_ref()?;
        Some((u64::from(block.offset), u64::from(*pages)))
    }
}

fn prepare(subject: &mut dyn Subject, inputs: &Inputs) {
    for (slot, &pages) in inputs.fill.iter().enumerate() {
        subject.fill(slot, pages);
    }
    for &slot in &inputs.holes {
        subject.free(slot);
    }
}

/// Nanoseconds for a step.
fn measure_once<S: Subject>(subject: &mut S, inputs: &Inputs) -> f64 {
    const LOOK: usize = 50;
    let start = Instant::now();
    let mut done = 0;
    for steps in inputs.steps.chunks(LOOK) {
        for step in steps {
            subject.free(step.slot);
            subject.allocate(step.slot, step.pages, step.hint);
        }
        done += steps.len();
        if start.elapsed() > PATIENCE {
            break;
        }
    }
    start.elapsed().as_nanos() as f64 / done as f64
}

/// Checks that no two blocks overlap and that none is outside.
fn check(subject: &dyn Subject, inputs: &Inputs) {
    let mut blocks: Vec<_> = (0..inputs.fill.len())
        .filter_map(|slot| subject.block(slot))
        .collect();
    assert_eq!(blocks.len(), inputs.fill.len() - inputs.holes.len());
    blocks.sort_unstable();
    let mut end = 0;
    for (start, pages) in blocks {
        assert!(start >= end, "two blocks overlap");
        end = start + pages;
    }
    assert!(end <= inputs.region, "a block is outside of the region");
}

/// One subject in one row.
#[derive(Clone, Debug)]
struct Samples {
    count: usize,
    subject: &'static str,
    note: &'static str,
    ns: Vec<f64>,
}

impl Samples {
    fn title(&self) -> String {
        format!("replace one of {} blocks of addresses", self.count)
    }
}

/// What was measured of the allocators.
#[derive(Debug)]
pub(crate) struct Report(Vec<Samples>);

/// Measures all allocators in `rounds` rounds, after one that is not counted; each round continues
/// with what the one before left.
pub(crate) fn measure(rounds: usize, steps: usize) -> Report {
    const SUBJECTS: [(&str, &str); 4] = [
        ("hl-mem device addresses", ""),
        ("sorted list, best fit", ""),
        ("vm-allocator", "first fit, no hints"),
        ("offset-allocator", "no hints, no alignment, 32 bits"),
    ];
    let mut samples = Vec::new();
    for count in COUNTS {
        let inputs = Inputs::new(count, steps);
        let slots = inputs.fill.len();
        let mut ours = Ours::new(slots, inputs.region);
        let mut list = SortedList::new(slots, inputs.region);
        let mut vm = VmAllocator::new(slots, inputs.region);
        let mut bins = OffsetAllocator::new(slots, inputs.region);
        let all: [&mut dyn Subject; 4] = [&mut ours, &mut list, &mut vm, &mut bins];
        for subject in all {
            prepare(subject, &inputs);
        }
        let mut ns = [const { Vec::new() }; 4];
        for round in 0..=rounds {
            let measured = [
                measure_once(&mut ours, &inputs),
                measure_once(&mut list, &inputs),
                measure_once(&mut vm, &inputs),
                measure_once(&mut bins, &inputs),
            ];
            let all: [&dyn Subject; 4] = [&ours, &list, &vm, &bins];
            for subject in all {
                check(subject, &inputs);
            }
            if round > 0 {
                for (all, one) in ns.iter_mut().zip(measured) {
                    all.push(one);
                }
            }
        }
        for ((subject, note), ns) in SUBJECTS.into_iter().zip(ns) {
            samples.push(Samples {
                count,
                subject,
                note,
                ns,
            });
        }
    }
    Report(samples)
}

impl Report {
    /// The table for people.
    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        let mut count = 0;
        for one in &self.0 {
            if one.count != count {
                count = one.count;
                let _ = writeln!(text, "\n{:<55} best ns  median ns", one.title());
            }
            let line = format!(
                "  {:<52} {:>8.1} {:>10.1}  {}",
                one.subject,
                best(&one.ns),
                median(&one.ns),
                one.note
            );
            let _ = writeln!(text, "{}", line.trim_end());
        }
        text
    }

    /// The JSON objects for programs, one for each row and implementation.
    pub(crate) fn json_objects(&self) -> Vec<String> {
        let objects = self.0.iter().map(|one| {
            // No name and no note has a character that JSON would escape.
            format!(
                "{{\"row\": \"v.replace-{}\", \"title\": \"{}\", \"implementation\": \"{}\", \"best_ns\": {:.4}, \
                 \"median_ns\": {:.4}, \"note\": \"{}\"}}",
                one.count,
                one.title(),
                one.subject,
                best(&one.ns),
                median(&one.ns),
                one.note
            )
        });
        objects.collect()
    }
}
