//! How a file ends.

use core::fmt;

use crate::device::{RetireError, Tables};
use crate::port::{Engines, Port};
use crate::profile::Asic;
use crate::space::Space;

use super::{
    Backing, Context, ContextSpace, EngineError, LeftBehind, Named, Object, Stage, UserMapping,
};

/// A file that is not closed, and why. It has the context, to which its address space and whatever is
/// in quarantine still belong: take it out, keep it, and close it again when the device was reset.
///
/// ```
/// # mod port { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/guide/smallest_port.rs")); }
/// # use port::*;
/// # use hl_mem::dram::DramContent;
/// # use hl_mem::uapi::{FLAG_USERPTR, MemoryInput, OP_MAP, dispatch};
/// # let machine = Machine::new()?;
/// # let context = machine.open()?;
/// # let arguments = [USER_BASE, 0, PAGE_BYTES];
/// # let map = MemoryInput { arguments, op: OP_MAP, flags: FLAG_USERPTR, ..MemoryInput::default() };
/// # dispatch(&context, &map.to_bytes())?;
/// # machine.registers.lose();
/// let unclosed = match context.close() {
///     Ok(_left_behind) => None,
///     Err(refused) => {
///         eprintln!("{refused}");
///         Some(refused.into_context())
///     }
/// };
/// # machine.registers.reset();
/// machine.device.recover(DramContent::Unknown)?;
/// unclosed.ok_or("a device that is lost confirms nothing")?.close().expect("it is back");
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[must_use = "the context is in here, and keeps what it has for ever if it is dropped"]
pub struct CloseError<'c, 'd, A: Asic, P: Port> {
    context: Context<'c, 'd, A, P>,
    reason: RetireError<EngineError<P>>,
}

impl<'c, 'd, A: Asic, P: Port> CloseError<'c, 'd, A, P> {
    /// Why the file is not closed.
    pub fn reason(&self) -> &RetireError<EngineError<P>> {
        &self.reason
    }

    /// The context, to be closed again. It makes nothing new any more: what is asked of it is refused as
    /// `Closing`.
    pub fn into_context(self) -> Context<'c, 'd, A, P> {
        self.context
    }
}

impl<A: Asic, P: Port> fmt::Debug for CloseError<'_, '_, A, P>
where
    EngineError<P>: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CloseError")
            .field("context", &self.context)
            .field("reason", &self.reason)
            .finish()
    }
}

impl<A: Asic, P: Port> fmt::Display for CloseError<'_, '_, A, P>
where
    EngineError<P>: fmt::Display,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the file stays open: {}", self.reason)
    }
}

impl<A: Asic, P: Port> core::error::Error for CloseError<'_, '_, A, P> where
    EngineError<P>: fmt::Debug + fmt::Display
{
}

#[cfg(feature = "defmt")]
impl<A: Asic, P: Port> defmt::Format for CloseError<'_, '_, A, P>
where
    EngineError<P>: defmt::Format,
{
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "the file stays open: {}", self.reason);
    }
}

impl<'c, 'd, A: Asic, P: Port> Context<'c, 'd, A, P> {
    /// Closes the file, whatever the user left behind: the engines that work for him are halted,
    /// producers stop, all entries are cleared, and one
    /// invalidation for the blocks, one for the user's host memory and, where that has an MMU of its
    /// own, one for his device memory are confirmed; addresses, pins and pages go when theirs is, and
    /// not before. Needs no memory. Reports what was left behind.
    ///
    /// # Errors
    ///
    /// [`CloseError`] has the context
    ///
    /// * when the user's engines are not [halted](crate::port::Engines::halt): nothing was done, and his
    ///   address space, which they may be using, is nobody else's;
    /// * when the device does not confirm that it has forgotten the user's mappings. Everything that
    ///   concerns them is in quarantine, the address space included.
    ///
    /// Try again when the device has been reset.
    #[expect(
        clippy::result_large_err,
        reason = "the context itself is what the error hands back"
    )]
    pub fn close(mut self) -> Result<LeftBehind, CloseError<'c, 'd, A, P>> {
        self.closing = true;
        if let Err(error) = self.device.engines.halt(self.seat.asid) {
            return Err(CloseError {
                context: self,
                reason: RetireError::Engines(error),
            });
        }
        self.give_up_objects();
        let space = self.space.get_mut();
        let mut from = 0;
        while let Some((place, mapping)) = space.mappings.take_next(&mut from) {
            let parked = match mapping.0 {
                Stage::Live(mapped) => {
                    let of_user =
                        matches!(mapped.backing(), Backing::User(_) | Backing::Dram { .. });
                    self.left.mappings += u32::from(of_user);
                    Stage::Quarantined(space.unmap(&self.removals, mapped))
                }
                quarantined @ Stage::Quarantined(_) => quarantined,
            };
            space.mappings.park(place, UserMapping(parked));
        }
        if self.device.default_page().is_some() {
            space.space.remove_default(&self.removals.host);
        }
        if let Err(reason) = self.settle_quarantine() {
            return Err(CloseError {
                context: self,
                reason: RetireError::Unconfirmed(reason),
            });
        }
        // What belongs to no mapping; where there was one, it has taken this along.
        if let Err(reason) = self.settle_rest() {
            return Err(CloseError {
                context: self,
                reason: RetireError::Unconfirmed(reason),
            });
        }
        self.left.dram += self.device.release_dram(self.owner);
        // Only now, so that a file that stayed open had them until then.
        self.left.handles = self.handles.get_mut().drain().count() as u32;
        let Self {
            device,
            seat,
            space,
            mut left,
            ..
        } = self;
        let ContextSpace { space, dram, .. } = space.into_inner();
        if space.is_idle() && dram.as_ref().is_none_or(Space::is_idle) {
            let host = space.into_table();
            let dram = dram.map(Space::into_table);
            device.give_seat(seat, Tables { host, dram });
        } else {
            device.lose_seat(&seat);
            left.address_spaces = 1;
        }
        Ok(left)
    }

    /// Gives up what handles name: of blocks, what the device has of them, by one invalidation. A block
    /// that the device may still have stays with the device, and is counted.
    fn give_up_objects(&mut self) {
        let device = self.device;
        let timestamps = self.timestamps.get_mut();
        let handles = self.handles.get_mut();
        for (_, Object(named)) in handles.iter() {
            match named {
                // A producer that does not stop leaves its block mapped, which is counted below.
                Named::Block(block) => {
                    let _ = device.detach_block(block.id);
                }
                // What maps it goes with the mappings.
                Named::CommandBuffer(buffer) => device.unname_buffer(buffer.id),
                Named::Timestamps(place) => {
                    if let Some(buffer) = timestamps.end_name(*place) {
                        device.unname_buffer(buffer);
                    }
                }
                Named::Registers(_) => {}
            }
        }
        while let Some(ended) = timestamps.end_any() {
            ended.give_up(device);
        }
        let (mut quarantined, mut confirms) = (0, true);
        for (_, Object(named)) in handles.iter() {
            if let Named::Block(block) = named {
                // The first one takes all others along. Where it fails, they would as well.
                if confirms {
                    confirms = device.confirm_block(block.id).is_ok();
                } else {
                    device.release_buffer(block.id);
                }
                quarantined += u32::from(device.keeps_block(block.id));
            }
        }
        self.left.quarantined_buffers = quarantined;
    }
}
