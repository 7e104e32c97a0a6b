//! What it costs to map and to unmap host memory, by phases.
//!
//! Whole requests, as a port's ioctl passes them on, go to a device over a port that does next to
//! nothing (see `port`). Four measurements make a row:
//!
//! * the whole, with no clock inside;
//! * pinning and the MMU's driver, by clocks in the port, less what the clocks themselves take;
//! * device addresses: the same sequence of blocks from an allocator of its own;
//! * tables: the same runs, which tell how many they are, in a page table of its own, at addresses
//!   as close together.
//!
//! The two last are measured beside the whole and not inside it, where nobody can put a clock: what
//! is left of the whole, without all others, is the rest (parsing, budget, registry, locks) and the
//! error of all of them. The library's own share is the whole without pinning and the MMU.

mod phases;
mod port;

use std::fmt::Write as _;
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use hl_mem::budget::Budget;
use hl_mem::buffer::ViewPolicy;
use hl_mem::context::{MappingSlot, TimestampStorage};
use hl_mem::device::{Seat, SpaceNodes};
use hl_mem::dram::{DramContent, DramPool, DramRegion, PackRecord, PageRecord};
use hl_mem::handle::HandleSlot;
use hl_mem::profile::{Gaudi, Gaudi2, Goya, VaRange};
use hl_mem::uapi::{self, FLAG_USERPTR, MemoryInput, OP_MAP, OP_UNMAP};
use hl_mem::va::{Node, Placement, VaAllocator, VaBlock};
use hl_mem::{Context, ContextStorage, Device, DeviceParts};
use mmu_core::{AddrRange, BusAddr, DeviceAddr, MapOptions, PageTable, Run};

use crate::allocations;
use crate::record::{best, median};
use phases::Phase;
use port::{BenchPort, Measured, NoEngines, NoMmu, NoScrubber, Numbers, PAGE, Pages, timed_driver};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Bytes in a large leaf of every ASIC.
const LARGE: u64 = 2 * MIB;
/// The first address that a process has mapped.
const FIRST: u64 = 1 << 36;
/// Mappings that any shape has at a time, and some.
const MAPPINGS: usize = 8192 + 8;

/// One step of a shape, on one of its pieces of memory.
#[derive(Clone, Copy, Debug)]
enum Step {
    Map(u32),
    Unmap(u32),
}

/// In which order pieces are mapped and unmapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Order {
    /// All are mapped, then all unmapped.
    Sequential,
    /// Half of them, chosen at random, are mapped before; then as many steps as there are pieces,
    /// each by the toss of a coin the mapping of a random unmapped piece or the unmapping of a mapped
    /// one.
    Random,
}

/// What is measured.
#[derive(Clone, Copy, Debug)]
struct Shape {
    id: &'static str,
    title: &'static str,
    bytes: u64,
    pieces: u32,
    pages: Pages,
    order: Order,
    threads: usize,
}

/// A part of a shape that has numbers of its own.
struct Section {
    name: &'static str,
    steps: Vec<Step>,
}

impl Shape {
    const fn new(id: &'static str, title: &'static str, bytes: u64, pieces: u32) -> Self {
        Self {
            id,
            title,
            bytes,
            pieces,
            pages: Pages::Run,
            order: Order::Sequential,
            threads: 1,
        }
    }

    const fn pages(self, pages: Pages) -> Self {
        Self { pages, ..self }
    }

    const fn random(self) -> Self {
        let order = Order::Random;
        Self { order, ..self }
    }

    const fn threads(self, threads: usize) -> Self {
        Self { threads, ..self }
    }

    /// The most nanoseconds that the library may take for itself: a microsecond and two for a page.
    const fn limit(self) -> f64 {
        1000.0 + 2.0 * (self.bytes / PAGE) as f64
    }

    /// Whether its pieces are mapped by large leaves.
    fn is_large(self) -> bool {
        self.pages == Pages::Run && self.bytes >= LARGE
    }

    fn address(self, piece: u32) -> u64 {
        FIRST + u64::from(piece) * self.bytes
    }

    /// The steps that nobody times, before the sections, and the sections.
    fn sections(self) -> (Vec<Step>, Vec<Section>) {
        let all = 0..self.pieces;
        if self.order == Order::Sequential {
            let maps = all.clone().map(Step::Map).collect();
            let unmaps = all.map(Step::Unmap).collect();
            let sections = vec![
                Section {
                    name: "map",
                    steps: maps,
                },
                Section {
                    name: "unmap",
                    steps: unmaps,
                },
            ];
            return (Vec::new(), sections);
        }
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut random = |below: usize| {
            // xorshift64
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            ((state >> 32) as usize * below) >> 32
        };
        let mut out: Vec<u32> = all.collect();
        let mut inside = Vec::new();
        let mut before = Vec::new();
        for _ in 0..self.pieces / 2 {
            let piece = out.swap_remove(random(out.len()));
            inside.push(piece);
            before.push(Step::Map(piece));
        }
        let mut steps = Vec::new();
        for _ in 0..self.pieces {
            let map = inside.is_empty() || (!out.is_empty() && random(2) == 0);
            let (from, to) = if map {
                (&mut out, &mut inside)
            } else {
                (&mut inside, &mut out)
            };
            let piece = from.swap_remove(random(from.len()));
            to.push(piece);
            steps.push(if map {
                Step::Map(piece)
            } else {
                Step::Unmap(piece)
            });
        }
        (before, vec![Section { name: "mix", steps }])
    }
}

/// What somebody does with the pieces of a shape.
trait Worker {
    fn map(&mut self, piece: u32);
    fn unmap(&mut self, piece: u32);
    /// Unmaps a piece if it is mapped.
    fn clean(&mut self, piece: u32);

    fn run(&mut self, steps: &[Step]) {
        for step in steps {
            match *step {
                Step::Map(piece) => self.map(piece),
                Step::Unmap(piece) => self.unmap(piece),
            }
        }
    }
}

/// Whole requests.
struct Requests<'w, 'c, 'd, 'm, A: Measured> {
    context: &'w Context<'c, 'd, A, BenchPort<'m, A>>,
    maps: Vec<[u8; MemoryInput::BYTES]>,
    mapped_at: Vec<u64>,
}

impl<'w, 'c, 'd, 'm, A: Measured> Requests<'w, 'c, 'd, 'm, A> {
    fn new(context: &'w Context<'c, 'd, A, BenchPort<'m, A>>, shape: Shape) -> Self {
        let map = |piece| {
            let input = MemoryInput {
                arguments: [shape.address(piece), 0, shape.bytes],
                op: OP_MAP,
                flags: FLAG_USERPTR,
                ..MemoryInput::default()
            };
            input.to_bytes()
        };
        Self {
            context,
            maps: (0..shape.pieces).map(map).collect(),
            mapped_at: vec![0; shape.pieces as usize],
        }
    }
}

impl<A: Measured> Worker for Requests<'_, '_, '_, '_, A> {
    fn map(&mut self, piece: u32) {
        let reply = uapi::dispatch(self.context, &self.maps[piece as usize]);
        self.mapped_at[piece as usize] = reply.expect("there is room for all pieces").value;
    }

    fn unmap(&mut self, piece: u32) {
        let input = MemoryInput {
            arguments: [core::mem::take(&mut self.mapped_at[piece as usize]), 0, 0],
            op: OP_UNMAP,
            ..MemoryInput::default()
        };
        uapi::dispatch(self.context, &input.to_bytes()).expect("the piece is mapped");
    }

    fn clean(&mut self, piece: u32) {
        if self.mapped_at[piece as usize] != 0 {
            self.unmap(piece);
        }
    }
}

/// Device addresses alone.
struct AddressesAlone {
    allocator: VaAllocator<Vec<Node>>,
    blocks: Vec<Option<VaBlock>>,
    bytes: u64,
    align: u64,
}

impl AddressesAlone {
    fn new<A: Measured>(shape: Shape) -> Self {
        let range = host_range::<A>(shape);
        let allocator = VaAllocator::new(vec![Node::EMPTY; MAPPINGS + 16], &range.layout());
        Self {
            allocator: allocator.expect("there are nodes"),
            blocks: (0..shape.pieces).map(|_| None).collect(),
            bytes: shape.bytes,
            align: if shape.is_large() { LARGE } else { 1 },
        }
    }
}

impl Worker for AddressesAlone {
    fn map(&mut self, piece: u32) {
        let placement = Placement::Anywhere { align: self.align };
        let block = self.allocator.allocate(self.bytes, placement);
        self.blocks[piece as usize] = Some(block.expect("there is room"));
    }

    fn unmap(&mut self, piece: u32) {
        let block = self.blocks[piece as usize].take();
        let freed = self.allocator.free(block.expect("the piece has addresses"));
        freed.expect("the block is of this allocator");
    }

    fn clean(&mut self, piece: u32) {
        if self.blocks[piece as usize].is_some() {
            self.unmap(piece);
        }
    }
}

/// Page tables alone.
struct TablesAlone<'m, A: Measured> {
    table: PageTable<A::HostFormat, A::Memory<'m>>,
    mapped: Vec<bool>,
    shape: Shape,
    start: DeviceAddr,
}

impl<'m, A: Measured> TablesAlone<'m, A> {
    fn new(tables: A::Memory<'m>, shape: Shape) -> Self {
        let table = PageTable::new(tables).expect("the memory answers");
        Self {
            table: table.expect("there is a table"),
            mapped: vec![false; shape.pieces as usize],
            shape,
            start: host_range::<A>(shape).range.start(),
        }
    }

    fn range(&self, piece: u32) -> AddrRange<DeviceAddr> {
        // Beyond what the driver itself has mapped at the start of the range.
        let offset = GIB + u64::from(piece) * self.shape.bytes;
        let start = self.start.checked_add(offset);
        let range = start.and_then(|start| AddrRange::new(start, self.shape.bytes));
        range.expect("the range is long enough")
    }
}

impl<A: Measured> Worker for TablesAlone<'_, A> {
    fn map(&mut self, piece: u32) {
        let pinned = port::pinned(
            self.shape.pages,
            self.shape.address(piece),
            self.shape.bytes,
        );
        let runs = pinned
            .map(|run| Run::new(BusAddr::new(run.start().get()), run.len()).expect("within 2^64"));
        let mapped = self
            .table
            .map_list(self.range(piece), runs, &MapOptions::default());
        mapped.expect("there are tables for all");
        self.mapped[piece as usize] = true;
    }

    fn unmap(&mut self, piece: u32) {
        let removed = self.table.sweep(self.range(piece));
        assert!(removed.confirm(&mut NoMmu).is_ok(), "nothing refuses");
        self.mapped[piece as usize] = false;
    }

    fn clean(&mut self, piece: u32) {
        if self.mapped[piece as usize] {
            self.unmap(piece);
        }
    }
}

fn host_range<A: Measured>(shape: Shape) -> VaRange {
    if shape.is_large() {
        *A::PROFILE.large_host_range()
    } else {
        A::PROFILE.host
    }
}

/// What a section took in one round, in nanoseconds for each step.
#[derive(Clone, Copy, Default, Debug)]
struct Cost {
    whole: f64,
    pin: f64,
    mmu: f64,
    allocations: u64,
}

/// Does the work of a shape once and returns the cost of each section.
fn costs(worker: &mut impl Worker, shape: Shape, clock_ns: f64, ready: &Barrier) -> Vec<Cost> {
    let (before, sections) = shape.sections();
    worker.run(&before);
    phases::take(Phase::Pin, 0.0);
    phases::take(Phase::Mmu, 0.0);
    let mut costs = Vec::with_capacity(sections.len());
    for section in &sections {
        let steps = section.steps.len() as f64;
        ready.wait();
        let allocated = allocations::count();
        let start = Instant::now();
        worker.run(&section.steps);
        let whole = start.elapsed().as_nanos() as f64;
        costs.push(Cost {
            whole: whole / steps,
            pin: phases::take(Phase::Pin, clock_ns) / steps,
            mmu: phases::take(Phase::Mmu, clock_ns) / steps,
            allocations: allocations::count() - allocated,
        });
    }
    for piece in 0..shape.pieces {
        worker.clean(piece);
    }
    costs
}

/// All samples of one section of one shape on one ASIC.
#[derive(Clone, Debug)]
struct Samples {
    asic: &'static str,
    shape: Shape,
    section: &'static str,
    whole: Vec<f64>,
    pin: Vec<f64>,
    mmu: Vec<f64>,
    addresses: Vec<f64>,
    tables: Vec<f64>,
    allocations: u64,
}

impl Samples {
    fn new(asic: &'static str, shape: Shape, section: &'static str) -> Self {
        Self {
            asic,
            shape,
            section,
            whole: Vec::new(),
            pin: Vec::new(),
            mmu: Vec::new(),
            addresses: Vec::new(),
            tables: Vec::new(),
            allocations: 0,
        }
    }

    /// The library's own share: the best whole, less the best of what is not its own.
    fn own(&self) -> f64 {
        best(&self.whole) - best(&self.pin) - best(&self.mmu)
    }

    fn rest(&self) -> f64 {
        self.own() - best(&self.addresses) - best(&self.tables)
    }

    fn implementation(&self) -> String {
        match self.shape.threads {
            1 => self.asic.to_owned(),
            threads => format!("{}, {threads} threads", self.asic),
        }
    }
}

/// The shapes: sizes, and those of hl-thunk.
fn shapes() -> Vec<Shape> {
    let sizes = [
        Shape::new("m.4k", "4 KiB", 4 * KIB, 1024),
        Shape::new("m.64k", "64 KiB", 64 * KIB, 1024),
        Shape::new("m.1m", "1 MiB", MIB, 256),
        Shape::new("m.2m", "2 MiB", 2 * MIB, 256),
        Shape::new("m.1g", "1 GiB", GIB, 1),
    ];
    let scattered = [
        Shape::new("m.4k-scattered", "4 KiB", 4 * KIB, 1024),
        Shape::new("m.64k-scattered", "64 KiB", 64 * KIB, 1024),
        Shape::new("m.1m-scattered", "1 MiB", MIB, 256),
        Shape::new("m.2m-scattered", "2 MiB", 2 * MIB, 256),
        Shape::new("m.1g-scattered", "1 GiB", GIB, 1),
    ];
    let mut shapes = Vec::new();
    for threads in [1, 2] {
        shapes.extend(sizes.map(|shape| shape.threads(threads)));
        shapes.extend(scattered.map(|shape| shape.pages(Pages::Scattered).threads(threads)));
    }
    let shifted = Pages::ShiftedRun;
    shapes.extend([
        Shape::new(
            "m.2mx4096-small",
            "4096 x 2 MiB in small leaves",
            2 * MIB,
            4096,
        )
        .pages(shifted),
        Shape::new("m.8g", "8 GiB in large leaves", 8 * GIB, 1),
        Shape::new("m.8g-scattered", "8 GiB in small leaves", 8 * GIB, 1).pages(Pages::Scattered),
        Shape::new("m.2mx8192", "8192 x 2 MiB in large leaves", 2 * MIB, 8192),
        Shape::new(
            "m.2mx8192-random",
            "8192 x 2 MiB in large leaves, random",
            2 * MIB,
            8192,
        )
        .random(),
        Shape::new(
            "m.2mx8192-small",
            "8192 x 2 MiB in small leaves",
            2 * MIB,
            8192,
        )
        .pages(shifted),
        Shape::new(
            "m.2mx8192-small-random",
            "8192 x 2 MiB in small leaves, random",
            2 * MIB,
            8192,
        )
        .pages(shifted)
        .random(),
    ]);
    shapes
}

/// Measures one ASIC.
fn measure_asic<A: Measured>(shapes: &[Shape], rounds: usize) -> Vec<Samples>
where
    for<'m> BenchPort<'m, A>: Sync,
{
    let clock_ns = phases::clock_cost();
    A::with_tables(|tables| {
        let nodes = |count| SpaceNodes {
            small: vec![Node::EMPTY; count],
            large: vec![Node::EMPTY; count],
            dram: vec![Node::EMPTY; count],
        };
        let dram = A::PROFILE.dram;
        let region = DramRegion::new(dram.user_start, dram.page_bytes, 1).expect("a page");
        let (mut dram_pages, mut packs) = ([PageRecord::EMPTY], [PackRecord::EMPTY]);
        let dram = DramPool::new(region, &mut dram_pages, &mut packs, DramContent::Scrubbed);
        let mut seats: [Seat<A, BenchPort<'_, A>>; 2] = [Seat::new(), Seat::new()];
        let parts = DeviceParts {
            host: Numbers,
            engines: NoEngines,
            tables,
            dram_tables: None,
            privileged: nodes(16),
            buffers: &mut [],
            views: ViewPolicy::Single,
            register_blocks: &[],
            peer_window: None,
            default_mapping: false,
            seats: &mut seats,
            dram: dram.expect("there is a record"),
            scrubber: NoScrubber,
        };
        let (device, _privilege) =
            Device::<A, BenchPort<'_, A>>::new(parts, timed_driver::<A>, timed_driver::<A>)
                .expect("the device comes up");
        let budget = Budget::unlimited();
        let measure = |shape: &Shape| {
            let shape = *shape;
            let ready = Barrier::new(shape.threads);
            let in_thread = || {
                let mut mappings: Vec<MappingSlot<BenchPort<'_, A>>> =
                    (0..MAPPINGS).map(|_| MappingSlot::new()).collect();
                let mut handles: [HandleSlot<_>; 1] = [HandleSlot::new()];
                let storage = ContextStorage {
                    nodes: nodes(MAPPINGS + 16),
                    mappings: &mut mappings,
                    handles: &mut handles,
                    timestamps: TimestampStorage::none(),
                };
                let context = device
                    .open(shape.pages, &budget, storage)
                    .expect("there is a seat for each thread");
                let mut requests = Requests::new(&context, shape);
                let mut whole = Vec::new();
                let mut timed = Vec::new();
                for round in 0..=rounds {
                    for (clocks, all) in [(false, &mut whole), (true, &mut timed)] {
                        ready.wait();
                        phases::set_timed(clocks);
                        let costs = costs(&mut requests, shape, clock_ns, &ready);
                        if round > 0 {
                            all.push(costs);
                        }
                        ready.wait();
                        phases::set_timed(false);
                    }
                }
                let left = context.close().map_err(|(_, error)| error);
                assert_eq!(left.expect("the device confirms").mappings, 0);
                (whole, timed)
            };
            let results: Vec<_> = thread::scope(|scope| {
                let threads: Vec<_> = (0..shape.threads).map(|_| scope.spawn(in_thread)).collect();
                let joined = threads.into_iter().map(|thread| thread.join());
                joined
                    .map(|result| result.expect("no thread panics"))
                    .collect()
            });
            let alone = Barrier::new(1);
            let mut addresses = AddressesAlone::new::<A>(shape);
            let mut table = TablesAlone::<A>::new(tables, shape);
            let sections = shape.sections().1;
            let mut samples: Vec<_> = sections
                .iter()
                .map(|section| Samples::new(A::NAME, shape, section.name))
                .collect();
            for round in 0..=rounds {
                let addresses = costs(&mut addresses, shape, clock_ns, &alone);
                let tables = costs(&mut table, shape, clock_ns, &alone);
                if round > 0 {
                    for (number, samples) in samples.iter_mut().enumerate() {
                        samples.addresses.push(addresses[number].whole);
                        samples.tables.push(tables[number].whole);
                    }
                }
            }
            let closed = table.table.close();
            assert!(closed.confirm(&mut NoMmu).is_ok(), "nothing refuses");
            for (number, samples) in samples.iter_mut().enumerate() {
                let every = |pick: fn(&Cost) -> f64, timed: bool| -> Vec<f64> {
                    let rounds = results.iter().flat_map(
                        |(whole, clocked)| {
                            if timed { clocked } else { whole }
                        },
                    );
                    rounds.map(|costs| pick(&costs[number])).collect()
                };
                samples.whole = every(|cost| cost.whole, false);
                samples.pin = every(|cost| cost.pin, true);
                samples.mmu = every(|cost| cost.mmu, true);
                let all = results.iter().flat_map(|(whole, _)| whole);
                samples.allocations = all.map(|costs| costs[number].allocations).sum();
            }
            samples
        };
        shapes.iter().flat_map(measure).collect()
    })
}

/// What was measured.
#[derive(Debug)]
pub(crate) struct Report(Vec<Samples>);

/// Measures all ASICs in `rounds` rounds, after one that is not counted.
pub(crate) fn measure(rounds: usize) -> Report {
    let shapes = shapes();
    let mut all = measure_asic::<Gaudi2<6>>(&shapes, rounds);
    all.extend(measure_asic::<Goya>(&shapes, rounds));
    all.extend(measure_asic::<Gaudi>(&shapes, rounds));
    Report(all)
}

impl Report {
    /// The samples of one row: all ASICs and numbers of threads.
    fn rows(&self) -> Vec<Vec<&Samples>> {
        let mut rows: Vec<Vec<&Samples>> = Vec::new();
        for one in &self.0 {
            let same = |row: &&mut Vec<&Samples>| {
                row.first().is_some_and(|first| {
                    first.shape.id == one.shape.id && first.section == one.section
                })
            };
            match rows.iter_mut().find(same) {
                Some(row) => row.push(one),
                None => rows.push(vec![one]),
            }
        }
        rows
    }

    /// What a step of a shape costs on an ASIC, over all sections.
    fn step_cost(&self, asic: &str, id: &str) -> f64 {
        let sections = self
            .0
            .iter()
            .filter(|one| one.asic == asic && one.shape.id == id);
        let costs: Vec<f64> = sections.map(|one| best(&one.whole)).collect();
        costs.iter().sum::<f64>() / costs.len() as f64
    }

    /// How many times as long a step of a random mix takes as one in sequence, by ASIC and leaf.
    fn random_ratios(&self) -> Vec<(String, f64)> {
        let mut ratios = Vec::new();
        for asic in ["Gaudi2", "Goya", "Gaudi"] {
            for (leaves, id) in [("large", "m.2mx8192"), ("small", "m.2mx8192-small")] {
                let random = self.step_cost(asic, &format!("{id}-random"));
                let name = format!("{asic}, {leaves} leaves");
                ratios.push((name, random / self.step_cost(asic, id)));
            }
        }
        ratios
    }

    /// The table for people.
    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        for row in self.rows() {
            let Some(first) = row.first() else { continue };
            let Shape { title, pages, .. } = first.shape;
            let pages = match pages {
                Pages::Run => "one run",
                Pages::ShiftedRun => "one run off by a page",
                Pages::Scattered => "scattered pages",
            };
            let title = format!("{} {title}, {pages}", first.section);
            let _ = writeln!(
                text,
                "\n{title:<55} best ns  median ns       pin addresses    tables       MMU      rest       own   allowed"
            );
            for one in row {
                let own = one.own();
                let verdict = if own <= one.shape.limit() {
                    ""
                } else {
                    "  too long"
                };
                let allocations = match one.allocations {
                    0 => String::new(),
                    count => format!("  {count} allocations"),
                };
                let _ = writeln!(
                    text,
                    "  {:<52} {:>8.1} {:>10.1} {:>9.1} {:>9.1} {:>9.1} {:>9.1} {:>9.1} {:>9.1} {:>9.0}{verdict}{allocations}",
                    one.implementation(),
                    best(&one.whole),
                    median(&one.whole),
                    best(&one.pin),
                    best(&one.addresses),
                    best(&one.tables),
                    best(&one.mmu),
                    one.rest(),
                    own,
                    one.shape.limit(),
                );
            }
        }
        let _ = writeln!(
            text,
            "\n{:<55} x sequential (allowed: 2)",
            "a random mix of 8192 x 2 MiB"
        );
        for (name, ratio) in self.random_ratios() {
            let _ = writeln!(text, "  {name:<52} {ratio:>12.2}");
        }
        let unmaps = self.0.iter().filter(|one| one.section != "map");
        let allocations: u64 = unmaps.map(|one| one.allocations).sum();
        let _ = writeln!(text, "\nallocations in all rows that unmap: {allocations}");
        text
    }

    /// The JSON objects for programs, one for each row and implementation.
    pub(crate) fn json_objects(&self) -> Vec<String> {
        let objects = self.0.iter().map(|one| {
            // No name has a character that JSON would escape.
            format!(
                "{{\"row\": \"{}.{}\", \"implementation\": \"{}\", \"best_ns\": {:.4}, \
                 \"median_ns\": {:.4}, \"pin_ns\": {:.4}, \"addresses_ns\": {:.4}, \
                 \"tables_ns\": {:.4}, \"mmu_ns\": {:.4}, \"own_ns\": {:.4}, \
                 \"allowed_ns\": {:.4}, \"allocations\": {}, \"note\": \"\"}}",
                one.shape.id,
                one.section,
                one.implementation(),
                best(&one.whole),
                median(&one.whole),
                best(&one.pin),
                best(&one.addresses),
                best(&one.tables),
                best(&one.mmu),
                one.own(),
                one.shape.limit(),
                one.allocations,
            )
        });
        objects.collect()
    }
}
