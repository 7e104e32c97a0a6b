//! Kernel buffers of a context, by handle: blocks, command buffers, and what is shown of them.

use mmu_core::DeviceAddr;

use crate::buffer::{BufferHold, BufferId, Name, ViewRefusal};
use crate::device::{
    BlockPages, BufferError, BufferView, MapBufferError, Privilege, ViewBufferError, whole_pages,
};
use crate::handle::{HandleError, HandleKind, RawHandle};
use crate::host::{HostMemory, ViewRights};
use crate::port::Port;
use crate::profile::Asic;
use crate::registry::{Kept, Place};
use crate::space::{Mapped, SpaceFailure, User, Wanted};

use super::{
    Backing, Context, DestroyError, EngineError, Named, Object, RegisterBlockError, Stage,
    UserMapping, ViewError,
};

/// The most bytes a block may have: what a device of this family addresses by 32-bit offsets in
/// its rings. The host's memory is the nearer limit.
pub const MAX_BLOCK_BYTES: u64 = 1 << 32;

/// The most bytes a command buffer of a user may have (facts CB-1).
pub const MAX_COMMAND_BUFFER_BYTES: u64 = (2 << 20) - 32;

/// Entries that map a buffer, and the hold that keeps its pages.
type Written = (Result<Mapped<User, ()>, SpaceFailure<User>>, BufferHold);

/// A buffer of the driver's that a handle names.
#[derive(Debug)]
pub(super) struct KernelBuffer {
    pub(super) id: BufferId,
    bytes: u64,
    /// Where the driver mapped it in the user's address space.
    mapped: Option<(Kept, DeviceAddr)>,
}

/// What a user may know of a command buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct CommandBufferInfo {
    /// Its length in bytes, whole pages.
    pub bytes: u64,
    /// Where the user's engines find it, if it is mapped for them, the device is not lost, and was not
    /// reset since the file was opened.
    pub mapped_at: Option<DeviceAddr>,
    /// Views of it, and mappings.
    pub uses: u32,
}

impl<A: Asic, P: Port> Context<'_, '_, A, P> {
    /// Has the driver allocate a zeroed block of `bytes`, rounded up to whole pages, map it in the
    /// privileged address space, and give this file a handle for it.
    ///
    /// # Errors
    ///
    /// Each part that can refuse has its variant of [`BufferError`].
    pub fn create_block(
        &self,
        privilege: &Privilege,
        bytes: u64,
    ) -> Result<(RawHandle, BufferId), BufferError> {
        self.device.check(privilege)?;
        self.usable()?;
        let bytes = whole_pages::<P>(bytes, MAX_BLOCK_BYTES)?;
        let make = || {
            let pages = BlockPages::Scattered;
            let id = self.device.allocate_block(Name::Handle, bytes, pages)?;
            Ok((id, id))
        };
        self.publish(HandleKind::Block, make, |id| {
            Named::Block(KernelBuffer {
                id,
                bytes,
                mapped: None,
            })
        })
    }

    /// Makes an object and only then the handle that names it. `make` tells what is named and what
    /// the caller is to have.
    pub(super) fn publish<T, U>(
        &self,
        kind: HandleKind,
        make: impl FnOnce() -> Result<(T, U), BufferError>,
        named: impl FnOnce(T) -> Named,
    ) -> Result<(RawHandle, U), BufferError> {
        let reservation = self
            .handles
            .lock()
            .reserve(kind)
            .map_err(|_| BufferError::TooManyHandles)?;
        match make() {
            Ok((object, told)) => {
                let mut handles = self.handles.lock();
                match handles.publish(reservation, Object(named(object))) {
                    Ok(handle) => Ok((handle, told)),
                    // A reservation of the file's own table is never refused.
                    Err(_) => Err(BufferError::TooManyHandles),
                }
            }
            Err(error) => {
                // Neither is giving it back.
                let _ = self.handles.lock().cancel(reservation);
                Err(error)
            }
        }
    }

    /// Maps a block of this file into the user's address space as well, on the driver's behalf: the
    /// user's unmap does not find it. It goes with the block, or when the file is closed.
    ///
    /// # Errors
    ///
    /// Each part that can refuse has its variant of [`MapBufferError`].
    pub fn map_block(
        &self,
        privilege: &Privilege,
        handle: RawHandle,
        wanted: Wanted,
    ) -> Result<DeviceAddr, MapBufferError> {
        self.device.check(privilege)?;
        let not_mapped = |block: &mut KernelBuffer| match block.mapped {
            Some((_, at)) => Err(MapBufferError::Mapped { at }),
            None => Ok(()),
        };
        // What is wrong with the handle is told whether or not there is room for a mapping.
        self.with_block(handle, not_mapped)?;
        let place = self.hold_place()?;
        // Locked while the pages are gone through, so that nobody destroys, shows or maps the block
        // meanwhile. Others of the same file wait for that long, and nobody else does.
        let written = self.with_block(handle, |block| {
            not_mapped(block)?;
            self.write_buffer(block.id, block.bytes, wanted)
        });
        let (kept, at) = self.keep_buffer(place, written)?;
        // Nothing was locked meanwhile: the block may be destroyed, or mapped by another thread.
        let mut kept = Some(kept);
        let noted = self.with_block(handle, |block| {
            not_mapped(block)?;
            block.mapped = kept.take().map(|kept| (kept, at));
            Ok(at)
        });
        if let Some(kept) = kept {
            // The error that the caller gets came first.
            let _ = self.unmap_buffer(kept);
        }
        noted
    }

    /// Gives `look` the block that a handle names.
    fn with_block<T>(
        &self,
        handle: RawHandle,
        look: impl FnOnce(&mut KernelBuffer) -> Result<T, MapBufferError>,
    ) -> Result<T, MapBufferError> {
        let mut handles = self.handles.lock();
        match handles.get_mut(handle, HandleKind::Block) {
            Ok(Object(Named::Block(block))) => look(block),
            Ok(_) => Err(MapBufferError::Handle(HandleError::Unknown)),
            Err(error) => Err(MapBufferError::Handle(error)),
        }
    }

    /// Maps a buffer that no handle names yet into the user's address space, where only the driver
    /// unmaps it.
    fn map_buffer(
        &self,
        id: BufferId,
        bytes: u64,
        wanted: Wanted,
    ) -> Result<(Kept, DeviceAddr), MapBufferError> {
        let place = self.hold_place()?;
        let written = self.write_buffer(id, bytes, wanted);
        self.keep_buffer(place, written)
    }

    /// Writes the entries that map a buffer. Nobody else may look for its pages meanwhile (see
    /// `Device::with_pages`).
    fn write_buffer(
        &self,
        id: BufferId,
        bytes: u64,
        wanted: Wanted,
    ) -> Result<Written, MapBufferError> {
        let gone = MapBufferError::Handle(HandleError::Stale);
        let hold = self.device.hold_buffer(id).ok_or(gone)?;
        let host = self.device.host();
        let mapped = self.device.with_pages(id, |pages| {
            let runs = host.kernel_runs(pages);
            let space = &mut self.space.lock().space;
            space.map(&self.removals.host, bytes, runs, &A::PROFILE, wanted)
        });
        match mapped {
            Some(mapped) => Ok((mapped, hold)),
            // What is held is not gone.
            None => {
                self.device.release_buffer_hold(hold);
                Err(gone)
            }
        }
    }

    /// The second half of mapping a buffer: makes the entries a mapping that nobody finds.
    fn keep_buffer(
        &self,
        place: Place,
        written: Result<Written, MapBufferError>,
    ) -> Result<(Kept, DeviceAddr), MapBufferError> {
        let (mapped, hold) = match written {
            Ok(written) => written,
            Err(error) => {
                self.give_back(place);
                return Err(error);
            }
        };
        let (place, mapped) = self.establish(place, mapped, Backing::Buffer(hold))?;
        let at = mapped.range().start();
        let mapping = UserMapping(Stage::Live(mapped));
        Ok((self.space.lock().mappings.keep(place, mapping), at))
    }

    /// Unmaps what [`map_buffer`](Self::map_buffer) mapped. Where the removal is not confirmed, the
    /// mapping and its hold on the buffer stay in the context's quarantine.
    fn unmap_buffer(&self, kept: Kept) -> Result<(), crate::device::Unconfirmed> {
        let taken = {
            let space = &mut *self.space.lock();
            let taken = space.mappings.take_kept(kept);
            taken.map(|(place, mapping)| match mapping.0 {
                Stage::Live(mapped) => (place, space.unmap(&self.removals, mapped)),
                Stage::Quarantined(detached) => (place, detached),
            })
        };
        taken.map_or(Ok(()), |(place, detached)| {
            self.finish_unmap(place, detached)
        })
    }

    /// Has the driver allocate a zeroed command buffer of `bytes`, rounded up to whole pages, of
    /// coherent memory, and give this file a handle for it. With `mapped` it is mapped into the user's
    /// address space as well, where the user's engines fetch from it; the user's unmap does not find
    /// it there.
    ///
    /// # Errors
    ///
    /// * [`BufferError::Lost`], [`BufferError::Reset`] when the device is of no use to this file;
    /// * [`BufferError::Size`] for zero bytes or more than [`MAX_COMMAND_BUFFER_BYTES`];
    /// * each other part that can refuse has its variant.
    pub fn create_command_buffer(
        &self,
        bytes: u64,
        mapped: bool,
    ) -> Result<RawHandle, BufferError> {
        self.usable()?;
        let bytes = whole_pages::<P>(bytes, MAX_COMMAND_BUFFER_BYTES)?;
        let make = || {
            let allocate = |host: &P::Host, pages| host.allocate_contiguous(pages);
            let id = self.device.allocate_buffer(bytes, allocate)?;
            let mapped = match mapped {
                false => None,
                true => match self.map_buffer(id, bytes, Wanted::Anywhere) {
                    Ok(mapped) => Some(mapped),
                    Err(error) => {
                        self.device.unname_buffer(id);
                        return Err(BufferError::Map(error));
                    }
                },
            };
            Ok((KernelBuffer { id, bytes, mapped }, ()))
        };
        self.publish(HandleKind::CommandBuffer, make, Named::CommandBuffer)
            .map(|(handle, ())| handle)
    }

    /// Tells about a command buffer.
    ///
    /// # Errors
    ///
    /// [`HandleError`] when the handle does not name a command buffer of this file.
    pub fn command_buffer(&self, handle: RawHandle) -> Result<CommandBufferInfo, HandleError> {
        let handles = self.handles.lock();
        match handles.get(handle, HandleKind::CommandBuffer)? {
            Object(Named::CommandBuffer(buffer)) => {
                let usable = self.usable().is_ok();
                let mapped = buffer.mapped.as_ref().filter(|_| usable);
                Ok(CommandBufferInfo {
                    bytes: buffer.bytes,
                    mapped_at: mapped.map(|(_, at)| *at),
                    uses: self.device.buffer_uses(buffer.id),
                })
            }
            _ => Err(HandleError::Unknown),
        }
    }

    /// Destroys a command buffer: the handle goes at once, the user's engines' access when they have
    /// forgotten it, and the memory when no view is left.
    ///
    /// # Errors
    ///
    /// * [`DestroyError::Handle`] when the handle does not name a command buffer of this file;
    /// * [`DestroyError::Unconfirmed`] when its removal is not confirmed: mapping and memory are in
    ///   quarantine until [`settle_quarantine`](Self::settle_quarantine) or closing succeeds.
    pub fn destroy_command_buffer(
        &self,
        handle: RawHandle,
    ) -> Result<(), DestroyError<EngineError<P>>> {
        let removed = self
            .handles
            .lock()
            .remove(handle, HandleKind::CommandBuffer);
        let Object(Named::CommandBuffer(buffer)) = removed.map_err(DestroyError::Handle)? else {
            return Err(DestroyError::Handle(HandleError::Unknown));
        };
        let unmapped = match buffer.mapped {
            Some((kept, _)) => self.unmap_buffer(kept),
            None => Ok(()),
        };
        self.device.unname_buffer(buffer.id);
        unmapped.map_err(DestroyError::Unconfirmed)
    }

    /// Destroys a block: the handle goes at once, the device's access after its producer has
    /// stopped, and the memory when no view is left.
    ///
    /// # Errors
    ///
    /// * [`DestroyError::Handle`] when the handle does not name a block of this file;
    /// * [`DestroyError::Retire`] when the producer does not stop or the removal is not confirmed:
    ///   the block is in quarantine until
    ///   [`Device::settle_quarantine`](crate::Device::settle_quarantine) succeeds;
    /// * [`DestroyError::Unconfirmed`] when that is so of its mapping in the user's address space:
    ///   until [`settle_quarantine`](Self::settle_quarantine) succeeds.
    pub fn destroy_block(&self, handle: RawHandle) -> Result<(), DestroyError<EngineError<P>>> {
        let removed = self.handles.lock().remove(handle, HandleKind::Block);
        let Object(Named::Block(block)) = removed.map_err(DestroyError::Handle)? else {
            return Err(DestroyError::Handle(HandleError::Unknown));
        };
        let retired = self.device.retire_block(block.id);
        let unmapped = match block.mapped {
            Some((kept, _)) => self.unmap_buffer(kept),
            None => Ok(()),
        };
        retired.map_err(DestroyError::Retire)?;
        unmapped.map_err(DestroyError::Unconfirmed)
    }

    /// Gives this file a handle for registers of the device that users may map, and tells their
    /// length in bytes. Asking again gives the same handle.
    ///
    /// # Errors
    ///
    /// * [`RegisterBlockError::Lost`], [`RegisterBlockError::Reset`] when the device is of no use to this
    ///   file;
    /// * [`RegisterBlockError::NoBlocks`] when the device has none for users;
    /// * [`RegisterBlockError::Unknown`] when no such registers are at `address`;
    /// * [`RegisterBlockError::TooManyHandles`].
    pub fn register_block(&self, address: u64) -> Result<(RawHandle, u64), RegisterBlockError> {
        self.usable()?;
        let blocks = self.device.options.register_blocks;
        if blocks.is_empty() {
            return Err(RegisterBlockError::NoBlocks);
        }
        let (block, number) = blocks
            .iter()
            .zip(0..)
            .find(|(block, _)| block.address == address)
            .ok_or(RegisterBlockError::Unknown)?;
        let bytes = block.registers.len();
        let mut handles = self.handles.lock();
        let known = handles
            .iter()
            .find(|(_, Object(named))| matches!(named, Named::Registers(known) if *known == number))
            .map(|(handle, _)| handle);
        if let Some(handle) = known {
            return Ok((handle, bytes));
        }
        let reservation = handles
            .reserve(HandleKind::RegisterBlock)
            .map_err(|_| RegisterBlockError::TooManyHandles)?;
        handles
            .publish(reservation, Object(Named::Registers(number)))
            .map(|handle| (handle, bytes))
            .map_err(|_| RegisterBlockError::TooManyHandles)
    }

    /// Shows what a handle names to the process, all of it: a block, with the page of the consumer's
    /// index to write and all others to read; a command buffer to read and write; timestamps to
    /// read; registers.
    ///
    /// # Errors
    ///
    /// * [`ViewError::Lost`], [`ViewError::Reset`] when the device is of no use to this file: what is shown
    ///   already stays so (facts MP-1);
    /// * [`ViewError::Handle`] when the handle names nothing of this file;
    /// * [`ViewError::Length`] when `len` is not exactly its length;
    /// * [`ViewError::Viewed`] when it is shown already, and the port wants one view only;
    /// * [`ViewError::Host`] when the host refuses.
    pub fn mmap(&self, handle: RawHandle, len: u64) -> Result<BufferView<P>, ViewError> {
        self.usable()?;
        let kind = handle.kind().map_err(ViewError::Handle)?;
        let handles = self.handles.lock();
        let Object(named) = handles.get(handle, kind).map_err(ViewError::Handle)?;
        let (buffer, rights) = match named {
            Named::Block(block) => (block.id, ViewRights { writable_pages: 1 }),
            Named::CommandBuffer(buffer) => (buffer.id, ViewRights::WRITABLE),
            Named::Timestamps(place) => {
                let buffer = self.timestamps.lock().buffer(*place);
                let gone = ViewError::Handle(HandleError::Stale);
                (buffer.ok_or(gone)?, ViewRights::READ_ONLY)
            }
            Named::Registers(number) => {
                let gone = ViewError::Handle(HandleError::Unknown);
                let block = self
                    .device
                    .options
                    .register_blocks
                    .get(*number)
                    .ok_or(gone)?;
                let expected = block.registers.len();
                if len != expected {
                    return Err(ViewError::Length { expected });
                }
                let view = self.device.view_registers(&self.process, block);
                return view.map_err(ViewError::Host);
            }
        };
        let view = self.device.view_buffer(&self.process, buffer, len, rights);
        view.map_err(|error| match error {
            // The handles' lock was held since the handle was looked up, so the buffer is there.
            ViewBufferError::Refused(ViewRefusal::Gone) => ViewError::Handle(HandleError::Stale),
            ViewBufferError::Refused(ViewRefusal::Length { bytes }) => {
                ViewError::Length { expected: bytes }
            }
            ViewBufferError::Refused(ViewRefusal::Viewed) => ViewError::Viewed,
            ViewBufferError::Host(error) => ViewError::Host(error),
        })
    }
}
