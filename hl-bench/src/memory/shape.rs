//! What is measured: sizes and orders, and the steps that they consist of.

use super::port::{PAGE, Pages};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
pub(super) const GIB: u64 = 1 << 30;

/// Bytes in a large leaf of every ASIC.
pub(super) const LARGE: u64 = 2 * MIB;
/// The first address that a process has mapped.
const FIRST: u64 = 1 << 36;

/// One step of a shape, on one of its pieces of memory.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Map(u32),
    Unmap(u32),
}

/// In which order pieces are mapped and unmapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Order {
    /// All are mapped, then all unmapped.
    Sequential,
    /// Half of them, chosen at random, are mapped before; then as many steps as there are pieces,
    /// each by the toss of a coin the mapping of a random unmapped piece or the unmapping of a mapped
    /// one.
    Random,
}

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    pub(super) bytes: u64,
    pub(super) pieces: u32,
    pub(super) pages: Pages,
    pub(super) order: Order,
    pub(super) threads: usize,
}

/// A part of a shape that has numbers of its own.
pub(super) struct Section {
    pub(super) name: &'static str,
    pub(super) steps: Vec<Step>,
}

impl Shape {
    pub(super) const fn new(
        id: &'static str,
        title: &'static str,
        bytes: u64,
        pieces: u32,
    ) -> Self {
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

    pub(super) const fn pages(self, pages: Pages) -> Self {
        Self { pages, ..self }
    }

    pub(super) const fn random(self) -> Self {
        let order = Order::Random;
        Self { order, ..self }
    }

    pub(super) const fn threads(self, threads: usize) -> Self {
        Self { threads, ..self }
    }

    /// The most nanoseconds that the library may take for itself: a microsecond and two for a page.
    pub(super) const fn limit(self) -> f64 {
        1000.0 + 2.0 * (self.bytes / PAGE) as f64
    }

    /// Whether its pieces are mapped by large leaves.
    pub(super) fn is_large(self) -> bool {
        self.pages == Pages::Run && self.bytes >= LARGE
    }

    pub(super) fn address(self, piece: u32) -> u64 {
        FIRST + u64::from(piece) * self.bytes
    }

    /// The steps that nobody times, before the sections, and the sections.
    pub(super) fn sections(self) -> (Vec<Step>, Vec<Section>) {
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

/// The shapes: sizes, and those of hl-thunk.
pub(super) fn shapes() -> Vec<Shape> {
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
