//! Blocks: memory of the driver that the device writes and a user reads.
//!
//! A block is allocated by the driver, mapped into the privileged address space, and known to its
//! user only by a handle. What is mapped there is registered here and nowhere else, so that no
//! request of a user can name it (facts section 11, step 10).

use core::fmt;

use mmu_core::{AddrRange, DeviceAddr};

use crate::inspect::Stage;
use crate::space::{Batch, Detached, Mapped, Privileged};

/// Names a block within the driver. Users have a handle instead.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct BlockId {
    slot: u32,
    generation: u32,
}

/// A place for one block. The embedder provides as many as there may be blocks at a time.
pub struct BlockSlot<H> {
    generation: u32,
    state: State<H>,
}

/// `H` are the pages of a block.
enum State<H> {
    Vacant,
    /// Being made: nobody has its name yet.
    Held,
    Used(Block<H>),
}

struct Block<H> {
    bytes: u64,
    /// A handle names it. Once none does, it goes as soon as it can.
    named: bool,
    views: u32,
    memory: Memory<H>,
}

/// The pages of a block, in the hands of whoever the device's access to them depends on.
enum Memory<H> {
    Mapped(Mapped<Privileged, H>),
    /// The mapping could not be made as a whole, or is removed, and the device may still use it.
    Detached(Detached<Privileged, H>),
    /// The device cannot reach the pages.
    Unmapped(H),
    /// In the hands of the operation that is changing it.
    Changing,
}

impl<H> BlockSlot<H> {
    /// A place without a block.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            generation: 0,
            state: State::Vacant,
        }
    }
}

impl<H> Default for BlockSlot<H> {
    fn default() -> Self {
        Self::new()
    }
}

impl<H> fmt::Debug for BlockSlot<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.state {
            State::Vacant => f.write_str("vacant"),
            State::Held => f.write_str("held"),
            State::Used(block) => write!(f, "{:#x} bytes, {} views", block.bytes, block.views),
        }
    }
}

/// A slot for a block that is being made.
#[derive(Debug)]
#[must_use = "the slot stays taken until it is filled or given back"]
pub(crate) struct NewBlock(BlockId);

impl NewBlock {
    pub(crate) fn id(&self) -> BlockId {
        self.0
    }
}

/// How many blocks there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct BlockUsage {
    /// Blocks that exist, whether or not a handle names them.
    pub blocks: u32,
    /// Of these, blocks whose device mapping is removed but not proved gone.
    pub quarantined: u32,
    /// Views of blocks.
    pub views: u32,
}

/// Why there is no view.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ViewRefusal {
    /// The block is gone.
    Gone,
    /// The length is not exactly the block's.
    Length { bytes: u64 },
    /// The block has a view already.
    Viewed,
}

/// All blocks of a device.
pub(crate) struct Blocks<'d, H> {
    slots: &'d mut [BlockSlot<H>],
}

impl<'d, H> Blocks<'d, H> {
    /// No blocks; slots beyond 2^32 are not used.
    pub(crate) fn new(slots: &'d mut [BlockSlot<H>]) -> Self {
        Self { slots }
    }

    /// Takes a slot for a new block; `None` when there is none left.
    pub(crate) fn hold(&mut self) -> Option<NewBlock> {
        let (number, slot) = (0u32..)
            .zip(self.slots.iter_mut())
            .find(|(_, slot)| matches!(slot.state, State::Vacant))?;
        slot.state = State::Held;
        Some(NewBlock(BlockId {
            slot: number,
            generation: slot.generation,
        }))
    }

    /// Gives back the slot of a block that did not come to be.
    pub(crate) fn give_back(&mut self, new: NewBlock) {
        self.vacate(new.0);
    }

    /// Registers a mapped block that a handle names.
    pub(crate) fn register(&mut self, new: &NewBlock, bytes: u64, mapped: Mapped<Privileged, H>) {
        self.use_slot(new, bytes, true, Memory::Mapped(mapped));
    }

    /// Keeps the pages of a block that did not come to be, until the device is known not to use
    /// them.
    pub(crate) fn quarantine(&mut self, new: NewBlock, detached: Detached<Privileged, H>) {
        self.use_slot(&new, 0, false, Memory::Detached(detached));
    }

    fn use_slot(&mut self, new: &NewBlock, bytes: u64, named: bool, memory: Memory<H>) {
        if let Some(slot) = self.slots.get_mut(new.0.slot as usize) {
            slot.state = State::Used(Block {
                bytes,
                named,
                views: 0,
                memory,
            });
        }
    }

    fn block(&mut self, id: BlockId) -> Option<&mut Block<H>> {
        let slot = self.slots.get_mut(id.slot as usize)?;
        match &mut slot.state {
            State::Used(block) if slot.generation == id.generation => Some(block),
            _ => None,
        }
    }

    /// Where the device finds a block; `None` where it does not any more.
    pub(crate) fn range(&mut self, id: BlockId) -> Option<AddrRange<DeviceAddr>> {
        match &self.block(id)?.memory {
            Memory::Mapped(mapped) => Some(mapped.range()),
            _ => None,
        }
    }

    /// The blocks that the device finds, or might still find, and where.
    pub(crate) fn mapped(&self) -> impl Iterator<Item = (AddrRange<DeviceAddr>, Stage, &H)> + '_ {
        self.slots.iter().filter_map(|slot| match &slot.state {
            State::Used(block) => match &block.memory {
                Memory::Mapped(mapped) => Some((mapped.range(), Stage::Live, mapped.backing())),
                Memory::Detached(gone) => Some((gone.range(), Stage::Quarantined, gone.backing())),
                Memory::Unmapped(_) | Memory::Changing => None,
            },
            State::Vacant | State::Held => None,
        })
    }

    /// Notes that no handle names the block any more.
    pub(crate) fn unname(&mut self, id: BlockId) {
        if let Some(block) = self.block(id) {
            block.named = false;
        }
    }

    /// Takes the mapping of a block out, to undo it; `None` where the block is not mapped.
    pub(crate) fn take_mapped(&mut self, id: BlockId) -> Option<Mapped<Privileged, H>> {
        let memory = &mut self.block(id)?.memory;
        match core::mem::replace(memory, Memory::Changing) {
            Memory::Mapped(mapped) => Some(mapped),
            other => {
                *memory = other;
                None
            }
        }
    }

    /// Keeps what was a mapping of the block.
    pub(crate) fn put_detached(&mut self, id: BlockId, detached: Detached<Privileged, H>) {
        if let Some(block) = self.block(id) {
            block.memory = Memory::Detached(detached);
        }
    }

    /// Takes what was a mapping of the block out; `None` where there is none.
    pub(crate) fn take_detached(&mut self, id: BlockId) -> Option<Detached<Privileged, H>> {
        let memory = &mut self.block(id)?.memory;
        match core::mem::replace(memory, Memory::Changing) {
            Memory::Detached(detached) => Some(detached),
            other => {
                *memory = other;
                None
            }
        }
    }

    /// Puts back the pages of a block that the device cannot reach any more.
    pub(crate) fn put_unmapped(&mut self, id: BlockId, pages: H) {
        if let Some(block) = self.block(id) {
            block.memory = Memory::Unmapped(pages);
        }
    }

    /// Takes the pages of a block that nobody uses any more, and ends the block.
    pub(crate) fn take_unused(&mut self, id: BlockId) -> Option<H> {
        let block = self.block(id)?;
        if block.named || block.views != 0 || !matches!(block.memory, Memory::Unmapped(_)) {
            return None;
        }
        let memory = core::mem::replace(&mut block.memory, Memory::Changing);
        self.vacate(id);
        match memory {
            Memory::Unmapped(pages) => Some(pages),
            _ => None,
        }
    }

    /// Makes a slot vacant under a new generation, so that old names of it do not match.
    fn vacate(&mut self, id: BlockId) {
        if let Some(slot) = self.slots.get_mut(id.slot as usize) {
            slot.generation = slot.generation.wrapping_add(1);
            slot.state = State::Vacant;
        }
    }

    /// The pages to show a user, once it is checked that he may see them. The view is counted by
    /// [`count_view`](Self::count_view) when it exists.
    pub(crate) fn viewable(&mut self, id: BlockId, len: u64) -> Result<&H, ViewRefusal> {
        let block = self.block(id).ok_or(ViewRefusal::Gone)?;
        if len != block.bytes {
            return Err(ViewRefusal::Length { bytes: block.bytes });
        }
        if block.views != 0 {
            return Err(ViewRefusal::Viewed);
        }
        match &block.memory {
            Memory::Mapped(mapped) => Ok(mapped.backing()),
            Memory::Detached(detached) => Ok(detached.backing()),
            Memory::Unmapped(pages) => Ok(pages),
            Memory::Changing => Err(ViewRefusal::Gone),
        }
    }

    /// Counts a view that now exists.
    pub(crate) fn count_view(&mut self, id: BlockId) {
        if let Some(block) = self.block(id) {
            block.views = block.views.saturating_add(1);
        }
    }

    /// Uncounts a view that is gone.
    pub(crate) fn uncount_view(&mut self, id: BlockId) {
        if let Some(block) = self.block(id) {
            block.views = block.views.saturating_sub(1);
        }
    }

    /// A block, at slot `from` or after it, that no handle names and that is mapped all the same:
    /// its producer did not stop.
    pub(crate) fn next_unnamed_mapped(&self, from: &mut usize) -> Option<BlockId> {
        while let Some(slot) = self.slots.get(*from) {
            let id = BlockId {
                slot: *from as u32,
                generation: slot.generation,
            };
            *from += 1;
            if let State::Used(Block {
                memory: Memory::Mapped(_),
                named: false,
                ..
            }) = &slot.state
            {
                return Some(id);
            }
        }
        None
    }

    /// A block whose removal is not confirmed, at slot `from` or after it, with its batch.
    pub(crate) fn next_quarantined(&self, from: &mut usize) -> Option<(BlockId, Batch)> {
        while let Some(slot) = self.slots.get(*from) {
            let id = BlockId {
                slot: *from as u32,
                generation: slot.generation,
            };
            *from += 1;
            if let State::Used(Block {
                memory: Memory::Detached(detached),
                ..
            }) = &slot.state
            {
                return Some((id, detached.batch()));
            }
        }
        None
    }

    pub(crate) fn usage(&self) -> BlockUsage {
        let mut usage = BlockUsage::default();
        for slot in self.slots.iter() {
            if let State::Used(block) = &slot.state {
                usage.blocks += 1;
                usage.views += block.views;
                usage.quarantined += u32::from(matches!(block.memory, Memory::Detached(_)));
            }
        }
        usage
    }
}
