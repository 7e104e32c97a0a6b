//! Who does it: whole requests, and each phase that nobody can put a clock into, by itself.

use hl_mem::Context;
use hl_mem::profile::VaRange;
use hl_mem::uapi::{self, FLAG_USERPTR, MemoryInput, OP_MAP, OP_UNMAP};
use hl_mem::va::{Node, Placement, VaAllocator, VaBlock};
use mmu_core::{AddrRange, BusAddr, DeviceAddr, MapOptions, PageTable, Run};

use super::MAPPINGS;
use super::port::{self, BenchPort, Measured, NoMmu};
use super::shape::{GIB, LARGE, Shape, Step};

/// What somebody does with the pieces of a shape.
pub(super) trait Worker {
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
pub(super) struct Requests<'w, 'c, 'd, 'm, A: Measured> {
    context: &'w Context<'c, 'd, A, BenchPort<'m, A>>,
    shape: Shape,
    mapped_at: Vec<u64>,
}

impl<'w, 'c, 'd, 'm, A: Measured> Requests<'w, 'c, 'd, 'm, A> {
    pub(super) fn new(context: &'w Context<'c, 'd, A, BenchPort<'m, A>>, shape: Shape) -> Self {
        Self {
            context,
            shape,
            mapped_at: vec![0; shape.pieces as usize],
        }
    }
}

impl<A: Measured> Worker for Requests<'_, '_, '_, '_, A> {
    fn map(&mut self, piece: u32) {
        let input = MemoryInput {
            arguments: [self.shape.address(piece), 0, self.shape.bytes],
            op: OP_MAP,
            flags: FLAG_USERPTR,
            ..MemoryInput::default()
        };
        let reply = uapi::dispatch(self.context, &input.to_bytes());
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
pub(super) struct AddressesAlone {
    allocator: VaAllocator<Vec<Node>>,
    blocks: Vec<Option<VaBlock>>,
    bytes: u64,
    align: u64,
}

impl AddressesAlone {
    pub(super) fn new<A: Measured>(shape: Shape) -> Self {
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
pub(super) struct TablesAlone<'m, A: Measured> {
    table: PageTable<A::HostFormat, A::Memory<'m>>,
    mapped: Vec<bool>,
    shape: Shape,
    start: DeviceAddr,
}

impl<'m, A: Measured> TablesAlone<'m, A> {
    pub(super) fn new(tables: A::Memory<'m>, shape: Shape) -> Self {
        let table = PageTable::new(tables).expect("the memory answers");
        Self {
            table: table.expect("there is a table"),
            mapped: vec![false; shape.pieces as usize],
            shape,
            start: host_range::<A>(shape).range.start(),
        }
    }

    /// Gives all tables back.
    pub(super) fn close(self) {
        let closed = self.table.close();
        assert!(closed.confirm(&mut NoMmu).is_ok(), "nothing refuses");
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
        let (range, options) = (self.range(piece), MapOptions::default());
        let mut ahead = runs.clone();
        // As an address space does it.
        let mapped = match (ahead.next(), ahead.next()) {
            (Some(run), None) => self.table.map(range.start(), run, &options),
            _ => self.table.map_list(range, runs, &options),
        };
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
