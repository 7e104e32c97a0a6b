//! Kernel buffers: memory of the driver that users know by handles.
//!
//! | buffer | written by | mapped for the device |
//! |---|---|---|
//! | block | an engine, and its user's index | in the privileged address space; on request in the user's |
//! | command buffer | its user | on request in the user's address space |
//! | timestamps | the driver | not |
//!
//! All of them are registered here, and what is mapped in the privileged space is registered nowhere
//! else, so that no request of a user can name it (facts section 11, step 10). The pages of a buffer go
//! when no handle names it, no view shows it, nothing holds it and the privileged space does not map
//! it. Chapters: [blocks](crate::guide::blocks), [command buffers](crate::guide::command_buffers),
//! [timestamps](crate::guide::timestamps), [views](crate::guide::views).

mod removal;
mod uses;

use core::fmt;

use mmu_core::{AddrRange, DeviceAddr};

use crate::identity::Identity;
use crate::inspect::Stage;
use crate::space::{Detached, Mapped, Privileged};

/// Names a kernel buffer of one device within the driver. Users have a handle instead.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct BufferId {
    slot: u32,
    generation: u32,
    device: Identity,
}

impl BufferId {
    /// Whether it is the name of what a slot of a device has now.
    fn names(self, generation: u32, device: Identity) -> bool {
        self.generation == generation && self.device == device
    }
}

/// A place for one kernel buffer. The embedder provides as many as there may be at a time.
pub struct BufferSlot<H> {
    generation: u32,
    state: State<H>,
}

/// `H` are the pages of a buffer.
enum State<H> {
    Vacant,
    /// Being made: nobody has its name yet.
    Held,
    Used(Buffer<H>),
}

struct Buffer<H> {
    bytes: u64,
    name: Name,
    views: u32,
    /// Mappings of it outside of the privileged space, and whatever else writes it.
    holds: u32,
    /// How often the device had been reset when it was mapped in the privileged space.
    resets: u32,
    memory: Memory<H>,
}

/// Who a buffer is there for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Name {
    /// A handle of a file names it.
    Handle,
    /// The driver made it for itself.
    Driver,
    /// Nobody: it goes as soon as it can.
    Nobody,
}

/// The pages of a buffer, in the hands of whoever the device's access to them depends on.
enum Memory<H> {
    Mapped(Mapped<Privileged, H>),
    /// The mapping could not be made as a whole, or is removed, and the device may still use it.
    Detached(Detached<Privileged, H>),
    /// The device cannot reach the pages.
    Unmapped(H),
    /// In the hands of an operation. Where that only goes through the pages, the device finds them all
    /// the while.
    Away(Option<AddrRange<DeviceAddr>>),
}

impl<H> Memory<H> {
    fn pages(&self) -> Option<&H> {
        match self {
            Self::Mapped(mapped) => Some(mapped.backing()),
            Self::Detached(detached) => Some(detached.backing()),
            Self::Unmapped(pages) => Some(pages),
            Self::Away(_) => None,
        }
    }
}

impl<H> BufferSlot<H> {
    /// A place without a buffer.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            generation: 0,
            state: State::Vacant,
        }
    }
}

impl<H> Default for BufferSlot<H> {
    fn default() -> Self {
        Self::new()
    }
}

impl<H> fmt::Debug for BufferSlot<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.state {
            State::Vacant => f.write_str("vacant"),
            State::Held => f.write_str("held"),
            State::Used(buffer) => write!(f, "{:#x} bytes, {} views", buffer.bytes, buffer.views),
        }
    }
}

/// A slot for a buffer that is being made.
#[derive(Debug)]
#[must_use = "the slot stays taken until it is filled or given back"]
pub(crate) struct NewBuffer(BufferId);

impl NewBuffer {
    pub(crate) fn id(&self) -> BufferId {
        self.0
    }
}

/// The pages of a buffer while somebody goes through them without the lock.
///
/// Ends with [`Buffers::take_back`]. Until then nobody else finds them: only for a buffer that nobody
/// else looks at meanwhile.
#[must_use = "nobody finds the pages until they are taken back"]
pub(crate) struct Lent<H> {
    id: BufferId,
    memory: Memory<H>,
}

impl<H> Lent<H> {
    pub(crate) fn pages(&self) -> Option<&H> {
        self.memory.pages()
    }
}

/// A use of a buffer's pages that keeps them from being given up, by a mapping in a user's address
/// space or by a writer.
///
/// Ends with [`Buffers::release_hold`]. One that is dropped keeps the pages for ever, which the
/// counters show.
#[derive(Debug)]
#[must_use = "the pages stay until the hold is released"]
pub(crate) struct BufferHold(BufferId);

/// How many kernel buffers there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct BufferUsage {
    /// Buffers that exist, whether or not a handle names them.
    pub buffers: u32,
    /// Of these, blocks whose privileged mapping is removed but not proved gone.
    pub quarantined: u32,
    /// Views of them.
    pub views: u32,
    /// Mappings of them in address spaces of users, and other holds.
    pub holds: u32,
    /// Places held for buffers that are being made.
    pub held: u32,
}

/// Why there is no view.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ViewRefusal {
    /// The buffer is gone.
    Gone,
    /// The length is not exactly the buffer's.
    Length { bytes: u64 },
    /// The buffer has a view already, and is to have one only.
    Viewed,
}

/// How many views a buffer may have at a time.
///
/// Copies of a view, which the system makes when a process forks or unmaps the middle of it, are
/// counted either way (see [`Device::copy_view`](crate::Device::copy_view)); a port that does not
/// want any prevents them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum ViewPolicy {
    /// One: a second `mmap` of the same handle is refused, as the C driver does (facts MP-3).
    #[default]
    Single,
    /// Any number.
    Counted,
}

/// All kernel buffers of a device.
pub(crate) struct Buffers<'d, H> {
    slots: &'d mut [BufferSlot<H>],
    views: ViewPolicy,
    device: Identity,
}

impl<'d, H> Buffers<'d, H> {
    /// No buffers; slots beyond 2^32 are not used.
    pub(crate) fn new(slots: &'d mut [BufferSlot<H>], views: ViewPolicy, device: Identity) -> Self {
        Self {
            slots,
            views,
            device,
        }
    }

    /// The slots.
    pub(crate) fn into_slots(self) -> &'d mut [BufferSlot<H>] {
        self.slots
    }

    /// Takes a slot for a new buffer; `None` when there is none left.
    pub(crate) fn hold(&mut self) -> Option<NewBuffer> {
        let (number, slot) = (0u32..)
            .zip(self.slots.iter_mut())
            .find(|(_, slot)| matches!(slot.state, State::Vacant))?;
        slot.state = State::Held;
        Some(NewBuffer(BufferId {
            slot: number,
            generation: slot.generation,
            device: self.device,
        }))
    }

    /// Gives back the slot of a buffer that did not come to be.
    pub(crate) fn give_back(&mut self, new: NewBuffer) {
        self.vacate(new.0);
    }

    /// Registers a block, which was mapped in the privileged space when the device had been reset so
    /// many times.
    pub(crate) fn register_mapped(
        &mut self,
        new: &NewBuffer,
        name: Name,
        bytes: u64,
        resets: u32,
        mapped: Mapped<Privileged, H>,
    ) {
        self.use_slot(new, name, bytes, resets, Memory::Mapped(mapped));
    }

    /// Registers a buffer that is not mapped there and that a handle names.
    pub(crate) fn register(&mut self, new: &NewBuffer, bytes: u64, pages: H) {
        self.use_slot(new, Name::Handle, bytes, 0, Memory::Unmapped(pages));
    }

    /// Keeps the pages of a block that did not come to be, until the device is known not to use
    /// them.
    pub(crate) fn quarantine(&mut self, new: NewBuffer, detached: Detached<Privileged, H>) {
        self.use_slot(&new, Name::Nobody, 0, 0, Memory::Detached(detached));
    }

    fn use_slot(
        &mut self,
        new: &NewBuffer,
        name: Name,
        bytes: u64,
        resets: u32,
        memory: Memory<H>,
    ) {
        if let Some(slot) = self.slots.get_mut(new.0.slot as usize) {
            slot.state = State::Used(Buffer {
                bytes,
                name,
                views: 0,
                holds: 0,
                resets,
                memory,
            });
        }
    }

    // Not inlined: every call on a buffer begins with this.
    #[inline(never)]
    fn buffer(&mut self, id: BufferId) -> Option<&mut Buffer<H>> {
        let device = self.device;
        let slot = self.slots.get_mut(id.slot as usize)?;
        match &mut slot.state {
            State::Used(buffer) if id.names(slot.generation, device) => Some(buffer),
            _ => None,
        }
    }

    /// Where a device that was reset so many times finds a block; `None` where it does not any more.
    pub(crate) fn live_range(
        &mut self,
        id: BufferId,
        resets: u32,
    ) -> Option<AddrRange<DeviceAddr>> {
        let mapped_since = self.buffer(id)?.resets;
        self.range(id).filter(|_| mapped_since == resets)
    }

    /// The device addresses of a block, whether or not a reset undid the mapping; `None` once it is
    /// removed.
    pub(crate) fn range(&mut self, id: BufferId) -> Option<AddrRange<DeviceAddr>> {
        match &self.buffer(id)?.memory {
            Memory::Mapped(mapped) => Some(mapped.range()),
            Memory::Away(range) => *range,
            _ => None,
        }
    }

    /// The blocks that have a place in the privileged space of a device that was reset so many times:
    /// where, and their pages.
    pub(crate) fn mapped(
        &self,
        resets: u32,
    ) -> impl Iterator<Item = (AddrRange<DeviceAddr>, Stage, &H)> + '_ {
        self.slots.iter().filter_map(move |slot| match &slot.state {
            State::Used(buffer) => match &buffer.memory {
                Memory::Mapped(mapped) => {
                    let stage = if buffer.resets == resets {
                        Stage::Live
                    } else {
                        Stage::Lost
                    };
                    Some((mapped.range(), stage, mapped.backing()))
                }
                Memory::Detached(gone) => Some((gone.range(), Stage::Quarantined, gone.backing())),
                Memory::Unmapped(_) | Memory::Away(_) => None,
            },
            State::Vacant | State::Held => None,
        })
    }

    /// Notes that nobody names the buffer any more.
    pub(crate) fn unname(&mut self, id: BufferId) {
        if let Some(buffer) = self.buffer(id) {
            buffer.name = Name::Nobody;
        }
    }

    /// Notes that a block which the driver made for itself is there for nobody any more. Whether it was.
    pub(crate) fn disown(&mut self, id: BufferId) -> bool {
        self.buffer(id).is_some_and(|buffer| {
            let own = buffer.name == Name::Driver;
            if own {
                buffer.name = Name::Nobody;
            }
            own
        })
    }

    /// The pages of a block that the driver made for itself; `None` where there is no such block.
    pub(crate) fn drivers_own(&mut self, id: BufferId) -> Option<&H> {
        let buffer = self.buffer(id)?;
        buffer
            .memory
            .pages()
            .filter(|_| buffer.name == Name::Driver)
    }

    /// Takes the pages of a buffer that nobody uses any more, and ends the buffer.
    pub(crate) fn take_unused(&mut self, id: BufferId) -> Option<H> {
        let buffer = self.buffer(id)?;
        if buffer.name != Name::Nobody
            || buffer.views != 0
            || buffer.holds != 0
            || !matches!(buffer.memory, Memory::Unmapped(_))
        {
            return None;
        }
        let memory = core::mem::replace(&mut buffer.memory, Memory::Away(None));
        self.vacate(id);
        match memory {
            Memory::Unmapped(pages) => Some(pages),
            _ => None,
        }
    }

    /// Makes a slot vacant under a new generation, so that old names of it do not match.
    fn vacate(&mut self, id: BufferId) {
        if let Some(slot) = self.slots.get_mut(id.slot as usize) {
            slot.generation = slot.generation.wrapping_add(1);
            slot.state = State::Vacant;
        }
    }

    pub(crate) fn usage(&self) -> BufferUsage {
        let mut usage = BufferUsage::default();
        for slot in self.slots.iter() {
            match &slot.state {
                State::Vacant => {}
                State::Held => usage.held += 1,
                State::Used(buffer) => {
                    usage.buffers += 1;
                    usage.views += buffer.views;
                    usage.holds += buffer.holds;
                    usage.quarantined += u32::from(matches!(buffer.memory, Memory::Detached(_)));
                }
            }
        }
        usage
    }
}
